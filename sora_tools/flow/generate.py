"""Generate: from a request to files, in one conversation."""

from __future__ import annotations

import os

from ..schemas import VideoRequest, VideoTask
from .download import download
from .exchange import Gateway
from .look import successful, wait
from .submit import create
from .wishes import Flow


def generate(
    gateway: Gateway,
    request: VideoRequest,
    key: str | None,
    timeout: float,
    directory: str | os.PathLike[str] | None,
) -> Flow[VideoTask]:
    """Create, wait until the task has succeeded, and download where a directory is given."""
    task = yield from create(gateway, request, key)
    task = successful((yield from wait(gateway, task.task_id, timeout)))
    return task if directory is None else (yield from download(gateway, task, directory))
