"""Generate: from a request to files, in one conversation."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import SoraError
from ..schemas import VideoRequest, VideoTask
from .download import download, folder_made
from .exchange import Gateway
from .look import checked_timeout, successful, wait
from .submit import create
from .wishes import Do, Flow


def generate(
    gateway: Gateway,
    request: VideoRequest,
    key: str | None,
    timeout: float,
    directory: str | os.PathLike[str] | None,
) -> Flow[VideoTask]:
    """Create, wait until the task has succeeded, and download where a directory is given.

    Raises:
        ConfigurationError: The directory cannot be written to: nothing was sent.
    """
    if directory is not None:
        yield Do(folder_made, (Path(directory),))
    checked_timeout(timeout)
    task = yield from create(gateway, request, key)
    try:
        task = successful((yield from wait(gateway, task.task_id, timeout)))
        return task if directory is None else (yield from download(gateway, task, directory))
    except SoraError as error:
        error.about(task_id=task.task_id, charged="yes")
        raise
