"""Three shots, each opening on the last frame of the one before, joined into one film.

Without settings it runs on the sandbox with a scripted model. Set SORA_BASE_URL and SORA_API_KEY for a gateway of
your own, and MODEL (for example "openai:gpt-5") for a model of your own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from sora_tools import Sora
from sora_tools.demo import chat_model, gateway
from sora_tools.media import concatenate, data_url, frame

story = " ".join(sys.argv[1:]) or "A paper boat's journey to the sea"


class Shots(BaseModel):
    """Three shots that follow on from each other without a cut."""

    prompts: list[str] = Field(description="For each shot: what happens in it, and how the camera moves.")


scripted = Shots(
    prompts=[
        "A paper boat drifts along a gutter, the camera beside it",
        "The boat is carried into a river, the camera rises",
        "The river opens into the sea, the boat grows small",
    ]
)
write: Any = chat_model(scripted).with_structured_output(Shots)

clips: list[Path] = []
with gateway(), Sora() as sora:
    for prompt in write.invoke(story).prompts[:3]:  # each one is paid for
        opening = [{"url": data_url(frame(clips[-1], -1))}] if clips else []
        task = sora.generate(prompt, inpaint_items=opening, width=480, height=270, n_frames=60, directory="videos")
        clips += [generation.file for generation in task.generations if generation.file]
        print(f"shot     {prompt}: {clips[-1]}")
print(f"film     {concatenate(clips, 'film.mp4')}")
