"""A chat model writes the shots of a storyboard as structured output, and one request makes one video of them.

Without settings it runs on the sandbox with a scripted model. Set SORA_BASE_URL and SORA_API_KEY for a gateway of
your own, and MODEL (for example "openai:gpt-5") for a model of your own.
"""

from __future__ import annotations

import sys
from itertools import accumulate
from typing import Any

from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel, Field

from sora_tools import Sora, SoraError, VideoLimits, VideoRequest
from sora_tools.demo import chat_model, gateway

idea = " ".join(sys.argv[1:]) or "A paper boat's journey, in three shots"


class Shot(BaseModel):
    """One shot of a storyboard."""

    seconds: int = Field(description="How long it lasts, 1 to 4.")
    description: str = Field(description="What is seen, and how the camera moves.")


class Storyboard(BaseModel):
    """The shots of one short video, in order: three at most."""

    shots: list[Shot]


def request(board: Storyboard) -> VideoRequest:
    """One create for the whole board. A shot begins when those before it have ended."""
    *starts, end = accumulate((shot.seconds for shot in board.shots), initial=0)
    actions = [
        {"time": start, "description": shot.description} for start, shot in zip(starts, board.shots, strict=True)
    ]
    return VideoRequest.model_validate({"operation": "storyboard", "n_frames": 30 * end, "actions": actions})


scripted = Storyboard(
    shots=[
        Shot(seconds=1, description="A child sets a paper boat on a gutter's stream"),
        Shot(seconds=2, description="The boat races past shop windows, seen from the water"),
        Shot(seconds=2, description="It reaches the sea and grows small, seen from above"),
    ]
)
write: Any = chat_model(scripted).with_structured_output(Storyboard)

with gateway(), Sora(limits=VideoLimits(max_frames=360)) as sora:  # the model decides the length: not beyond this
    try:
        task = (write | request | RunnableLambda(sora.generate).bind(directory="videos")).invoke(idea)
    except SoraError as error:
        sys.exit(f"no video  {error}")
    for action in task.request.actions if task.request else ():
        print(f"  {action.description}")
    print(task.generations[0].file)
