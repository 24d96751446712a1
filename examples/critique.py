"""A multimodal model looks at frames of a video, and one remix is made where it is not content.

Without settings it runs on the sandbox with a scripted model, which looks at nothing and is never content. Set
SORA_BASE_URL and SORA_API_KEY for a gateway of your own, and MODEL (for example "openai:gpt-5") for a model that sees.
"""

from __future__ import annotations

import sys
from typing import Any

from langchain.messages import HumanMessage, SystemMessage
from pydantic import BaseModel, Field

from sora_tools import Sora, VideoTask, content_blocks
from sora_tools.demo import chat_model, gateway
from sora_tools.media import frames

prompt = " ".join(sys.argv[1:]) or "A lighthouse in a storm"


class Verdict(BaseModel):
    """What a critic says of a video."""

    accepted: bool = Field(description="Whether it shows what was asked for.")
    reason: str = Field(description="Why, in one sentence.")
    remix: str = Field(description="Where it is not accepted: a prompt for the video that would be. Else empty.")


scripted = Verdict(
    accepted=False, reason="scripted, nobody looked", remix=f"{prompt}, with higher waves and more spray"
)
judge: Any = chat_model(scripted).with_structured_output(Verdict)


def verdict_on(task: VideoTask) -> Verdict:
    """Show four frames of it to the model, and not the video itself: few models take one."""
    file = task.generations[0].file
    assert file is not None, "it was saved"
    shown = HumanMessage(content_blocks(task, frames(file, 4), videos=False))
    asked = f'Judge a video by four of its frames. It was made for: "{prompt}"'
    verdict: Verdict = judge.invoke([SystemMessage(asked), shown])
    return verdict


with gateway(), Sora() as sora:
    small: dict[str, Any] = {"width": 480, "height": 270, "n_frames": 60, "directory": "videos"}
    task = sora.generate(prompt, **small)
    verdict = verdict_on(task)
    print(f"verdict  {'accepted' if verdict.accepted else 'rejected'}: {verdict.reason}")
    if not verdict.accepted:
        source = {"generation_id": task.generations[0].generation_id}
        task = sora.generate(verdict.remix, operation="remix", inpaint_items=[source], **small)
    print(task.generations[0].file)
