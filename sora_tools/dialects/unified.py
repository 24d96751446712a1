"""The format that relays call unified: ``/v1/video/create`` and ``/v1/video/query?id=``.

Rule: it makes lengths of 10, 15 and 25 s in two sizes and two orientations. The shortest and smallest that hold what
was asked for are made, and `adjusted` says what that has changed. It has no list.

Source: the pages of yunwu, vectorengine and 22codex; small is about 720p and large is 1080p, as fast-token's page says.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from ..schemas import FRAMES_PER_SECOND, VideoRequest, VideoTask
from ..wire import Call, Dialect
from .asking import adjustment, least_of, model, named, prompt_and_images
from .relays import created, looked

_SECONDS: Final = (10, 15, 25)
_SIZES: Final = {720: "small", 1080: "large"}
"""Sizes by the shorter side of what they make, in pixels."""


class Unified(Dialect):
    """``/v1/video/create`` and ``/v1/video/query``: ``dialect="unified"``."""

    name = "unified"
    looks_by_id = True

    def create(self, request: VideoRequest, key: str) -> Call[VideoTask]:
        """The paid call; ``key`` travels as ``Idempotency-Key``, whether or not the gateway reads it.

        Raises:
            ConfigurationError: No model is set.
            InvalidRequestError: The format cannot say what was asked for.
        """
        prompt, images = prompt_and_images(request, self.name)
        body: dict[str, Any] = {
            "model": model(request, self.name),
            "prompt": prompt,
            "images": images,
            "orientation": "portrait" if request.height > request.width else "landscape",
            "size": _SIZES[_shorter_side(request)],
            "duration": least_of(_SECONDS, request.n_frames / FRAMES_PER_SECOND),
        }
        read = partial(created, self.name)
        headers = {"Idempotency-Key": key}
        return Call("create", "POST", "/v1/video/create", read, body={**body, **request.extra}, headers=headers)

    def look(self, task_id: str) -> Call[VideoTask]:
        """One task by its id, as the create returned it.

        Raises:
            InvalidRequestError: Nothing can have this id.
        """
        return Call("look", "GET", "/v1/video/query", partial(looked, self.name, task_id), query={"id": named(task_id)})

    def adjusted(self, request: VideoRequest) -> tuple[str, ...]:
        """What is made longer, shorter or in another size than was asked for."""
        made, told = self.made(request), []
        if made.n_frames != request.n_frames:
            seconds, asked = made.n_frames // FRAMES_PER_SECOND, request.n_frames / FRAMES_PER_SECOND
            told.append(adjustment("duration", f"{seconds} s", f"{round(asked, 2):g} s", "10, 15 and 25 s"))
        if (made.width, made.height) != (request.width, request.height):
            told.append(
                adjustment(
                    "size",
                    f"{_SIZES[_shorter_side(request)]}, about {made.width}x{made.height},",
                    f"{request.width}x{request.height}",
                    "small and large, portrait and landscape",
                )
            )
        return tuple(told)

    def made(self, request: VideoRequest) -> VideoRequest:
        """The request with the length and the size that hold it."""
        frames = least_of(_SECONDS, request.n_frames / FRAMES_PER_SECOND) * FRAMES_PER_SECOND
        side = _shorter_side(request)
        long_side = side * 16 // 9
        width, height = (side, long_side) if request.height > request.width else (long_side, side)
        length = {} if "duration" in request.extra else {"n_frames": frames}
        is_own = not {"size", "orientation"}.isdisjoint(request.extra)
        size = {} if is_own else {"width": width, "height": height}
        return request.model_copy(update={**length, **size})


def _shorter_side(request: VideoRequest) -> int:
    return least_of(tuple(_SIZES), min(request.width, request.height))
