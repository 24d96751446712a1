"""The format of new-api and its kin: ``/v1/video/generations`` and ``/v1/video/generations/{id}``.

Rule: one route, and as many kinds of answers as there are programs that serve it; `relays` reads them all, and those of
``/v2/videos/generations`` too. Size and length are sent as they were asked for: which ones there are is the model's
business, and the gateway's to say. It has no list.

Source: new-api's ``relay/common`` for what it reads of a create, docs.newapi.pro and others for the rest.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Final

from ..schemas import FRAMES_PER_SECOND, VideoRequest, VideoTask
from ..wire import Call, Dialect
from .asking import adjustment, model, prompt_and_images, segment
from .relays import created, looked

PATH: Final = "/v1/video/generations"


class Generations(Dialect):
    """``/v1/video/generations``: ``dialect="generations"``."""

    name = "generations"
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
            "size": f"{request.width}x{request.height}",
            "duration": _seconds(request),
            **_pictured(images),
        }
        read = partial(created, self.name)
        return Call("create", "POST", PATH, read, body={**body, **request.extra}, headers={"Idempotency-Key": key})

    def look(self, task_id: str) -> Call[VideoTask]:
        """One task by its id.

        Raises:
            InvalidRequestError: Nothing can have this id; in an address it would name another route.
        """
        return Call("look", "GET", f"{PATH}/{segment(task_id)}", partial(looked, self.name, task_id))

    def adjusted(self, request: VideoRequest) -> tuple[str, ...]:
        """What is made longer than was asked for: lengths are whole seconds."""
        seconds, asked = self.made(request).n_frames // FRAMES_PER_SECOND, request.n_frames / FRAMES_PER_SECOND
        if asked.is_integer() or "duration" in request.extra:
            return ()
        return (adjustment("duration", f"{seconds} s", f"{round(asked, 2):g} s", "whole seconds"),)

    def made(self, request: VideoRequest) -> VideoRequest:
        """The request with its length in whole seconds."""
        if "duration" in request.extra:
            return request
        return request.model_copy(update={"n_frames": _seconds(request) * FRAMES_PER_SECOND})


def _seconds(request: VideoRequest) -> int:
    return math.ceil(request.n_frames / FRAMES_PER_SECOND)


def _pictured(addresses: list[str]) -> dict[str, Any]:
    """Images under the names that gateways read.

    For a single one each has its own name and takes no notice of the others, and a video made without the image is paid
    for all the same. So it goes under all of them.
    """
    if len(addresses) != 1:
        return {"images": addresses} if addresses else {}
    return {"image": addresses[0], "image_url": addresses[0], "images": addresses}
