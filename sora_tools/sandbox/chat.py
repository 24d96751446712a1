"""The chat format `POST /v1/chat/completions`: what a message asks for, and the answer that lasts as long as the video.

A model's name says size and length, in one of two families: `sora-16:9-480p-5s`, or `sora_video2-landscape-hd-15s` with
its flags in any order. A name of the second family that says neither leaves them to the prompt. What an answer
looks like is `transcripts`' business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from . import transcripts
from .manners import Manners
from .messages import Answer, Call, error, json_answer
from .orders import (
    FRAMES_PER_SECOND,
    MAX_FRAMES,
    MAX_SIDE,
    SORA_2_SIZES,
    Order,
    OrderError,
    json_object,
    member,
    opening,
    shown,
    text,
)
from .streams import Steps
from .tasks import View

PATH = "/v1/chat/completions"
SECONDS = 10
EXACT_NAME = re.compile(r"sora-(\d{1,2}):(\d{1,2})-(\d{3,4})p-(\d{1,2})s", re.ASCII)
VIDEO_NAME = re.compile(r"sora(?![-_]?image)", re.IGNORECASE)
LENGTH = re.compile(r"(?<!\w)(\d{1,2})\s?(?:s|sec|seconds|秒)(?![a-z0-9])", re.ASCII | re.IGNORECASE)
SIDES = re.compile(r"(?<!\d)(\d{2,4})x(\d{2,4})(?!\d)", re.ASCII)
LANDSCAPE, PORTRAIT = ("landscape", "16:9", "横屏"), ("portrait", "9:16", "竖屏")
UNAVAILABLE = "All tokens available for video generation. Please enable streaming to use the generation feature."


# ---------------------------------------------------------------- reading a message


def read_order(call: Call, _manners: Manners) -> Order:
    """Check a completion's body and return what its last user message asks for.

    Raises:
        OrderError: With the first field that breaks a rule.
    """
    fields = json_object(call.body)
    model = text(fields, "model")
    assert model is not None
    if not VIDEO_NAME.match(model):
        raise OrderError("model", f"The model '{model[:80]}' does not exist", "model_not_found")
    prompt, images = _message(fields)
    if not prompt.strip():
        raise OrderError("messages", "Invalid value for 'messages': the last user message says nothing.")
    width, height, seconds = _shape(model, prompt)
    return Order(
        prompt=prompt,
        width=width,
        height=height,
        n_frames=max(1, min(seconds * FRAMES_PER_SECOND, MAX_FRAMES)),
        model=model,
        inpaint_items=tuple({"type": "image", "url": image} for image in images),
        placed=opening("messages", images),
    )


def _message(fields: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The words and the pictures of the last user message."""
    messages = member(fields, "messages", "messages", required=True)
    if not isinstance(messages, list):
        raise OrderError("messages", "Invalid type for 'messages': expected an array.", "invalid_type")
    asked = [message for message in messages if isinstance(message, dict) and message.get("role") == "user"]
    if not asked:
        raise OrderError("messages", "Invalid value for 'messages': there is no user message.")
    content = asked[-1].get("content")
    if not isinstance(content, list):
        return text({"content": content}, "content", where="messages") or "", []
    parts = [part for part in content if isinstance(part, dict)]
    words = [text(part, "text", where="messages") or "" for part in parts if part.get("type") == "text"]
    images = [_image(part) for part in parts if part.get("type") == "image_url"]
    return "\n".join(words), images


def _image(part: Mapping[str, Any]) -> str:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str):
        raise OrderError("messages", f"Invalid value for 'messages': {shown(image)} is no image_url.", "invalid_type")
    return url


def _shape(model: str, prompt: str) -> tuple[int, int, int]:
    """Width, height and seconds, from the name and then from the prompt."""
    if exact := EXACT_NAME.fullmatch(model):
        across, down, short, seconds = (int(part) for part in exact.groups())
        return *_sides(across, down, short), seconds
    name = model.lower()
    length = LENGTH.search(name) or LENGTH.search(prompt)
    seconds = int(length[1]) if length else SECONDS
    says_how = any(word in name for word in (*LANDSCAPE, *PORTRAIT))
    if not says_how and (sides := SIDES.search(prompt)):
        return *(max(1, min(int(side), MAX_SIDE)) for side in sides.groups()), seconds  # type: ignore[return-value]
    lying = any(word in (name if says_how else prompt.lower()) for word in LANDSCAPE)
    large = re.search(r"[-_]hd(?![a-z0-9])", name) is not None
    width, height = SORA_2_SIZES["large" if large else "small", "landscape" if lying else "portrait"]
    return width, height, seconds


def _sides(across: int, down: int, short: int) -> tuple[int, int]:
    """The even sides of a ratio whose shorter side is given, as 16:9 at 480 is 854x480."""
    across, down = across or 1, down or 1
    scale = short / min(across, down)
    width, height = (min(2 * round(part * scale / 2), MAX_SIDE) for part in (across, down))
    return width, height


# ---------------------------------------------------------------- answering


def refused(refusal: OrderError) -> Answer:
    """The answer to a message that breaks a rule."""
    if refusal.code == "model_not_found":
        return error(404, refusal.message, param=refusal.param, code=refusal.code)
    return refusal.answer()


def unavailable(call: Call, manners: Manners) -> Answer | None:
    """What a relay says in place of making a video, where it makes them in streams alone."""
    if _streams(call) or manners.chat_whole:
        return None
    message = {"role": "assistant", "content": UNAVAILABLE}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json_answer(200, {"id": "chatcmpl-0", "object": "chat.completion", "model": "sora", "choices": [choice]})


def answered(call: Call, view: View, look: Callable[[], View], manners: Manners) -> Answer:
    """The answer that lasts until the video is there: a stream, or one that is sent when all is said.

    Args:
        call: Says which of the two.
        view: The task when it was accepted.
        look: The task as it is now.
        manners: Say what it looks like.
    """
    steps: Steps = transcripts.streamed(view, look, manners)
    if _streams(call):
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        return Answer(headers=headers, stream=steps)
    headers = {"content-type": "application/json; charset=utf-8"}
    return Answer(headers=headers, stream=transcripts.collected(steps))


def _streams(call: Call) -> bool:
    return json_object(call.body).get("stream") is True
