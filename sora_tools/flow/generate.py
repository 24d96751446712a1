"""Generate and resume: from a request, or from what became of one, to files."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import SoraError
from ..schemas import VideoTask
from .download import download, folder_made
from .exchange import Gateway
from .look import checked_timeout, successful, wait
from .wishes import Do, Flow


def generate(
    gateway: Gateway,
    created: Flow[VideoTask],
    timeout: float,
    directory: str | os.PathLike[str] | None,
    *,
    is_named: bool = False,
) -> Flow[VideoTask]:
    """Create, wait until the task has succeeded, and download where a directory is given.

    Args:
        gateway: Whom to ask.
        created: The create, not begun yet.
        timeout: Seconds to wait until it has ended.
        directory: Folder to download to; None downloads nothing.
        is_named: Whether the caller gave the key, so that the same call again creates nothing.

    Raises:
        ConfigurationError: The directory cannot be written to: nothing was sent.
    """
    if directory is not None:
        yield Do(folder_made, (Path(directory),))
    checked_timeout(timeout)
    task = yield from created
    try:
        return (yield from resume(gateway, task.task_id, timeout, directory))
    except SoraError as error:
        is_accepted = not gateway.speaking(task.dialect).dialect.tells_once  # or else what was heard of it tells
        error.about(task_id=task.task_id, charged="yes" if is_accepted else None)
        if error.retryable and not is_named:  # the same call again would be another create
            error.retryable = False
            error.hint = f"{error.hint} Resume it by its task id: generate, called again, makes another one.".strip()
        raise


def resume(gateway: Gateway, name: str, timeout: float, directory: str | os.PathLike[str] | None) -> Flow[VideoTask]:
    """Take a submission on from wherever it stands: reconcile, wait until it has succeeded, download. Never creates.

    Args:
        gateway: Whom it was sent to.
        name: Its key or task id.
        timeout: Seconds to wait until it has ended.
        directory: Folder to download to; None downloads nothing.

    Raises:
        SubmissionUnknownError: It was sent, never answered, and not found.
        TaskFailedError: It ended without a video.
    """
    task = successful((yield from wait(gateway, name, timeout)))
    return task if directory is None else (yield from download(gateway, task, directory))
