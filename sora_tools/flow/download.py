"""Download: from a finished task to files on this disk.

Rules. Bytes arrive under a name that ends in ``.part``; only a whole, checked and synced file gets its final name.
File names come from ids, never from the gateway's text. The key goes to the gateway's origin only. A dead address is
renewed by one look, never by a new create.
"""

from __future__ import annotations

import errno
import math
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Final

from ..errors import ConfigurationError, DownloadError, SoraError
from ..events import Downloading, Saved
from ..schemas import Generation, VideoTask
from ..wire import Reply, typeid_time
from .exchange import Gateway, joined, persist
from .look import query, successful
from .wishes import Do, Flow, More, Open, Tell

_MOST_REDIRECTS: Final = 5
_ELSEWHERE: Final = "Make room or choose another folder, then download again; do not create it again."
_GONE: Final = (401, 403, 404, 410)


def download(
    gateway: Gateway, task: VideoTask | str, directory: str | os.PathLike[str], deadline: float | None = None
) -> Flow[VideoTask]:
    """Save every video of a finished task.

    Args:
        gateway: Whom the task belongs to.
        task: The task, or its id or ledger key.
        directory: Folder to save to; made if missing.
        deadline: When on the gateway's clock to give up; None for as long as bytes arrive.

    Returns:
        The task, each generation with the ``file`` it was saved to.

    Raises:
        TaskFailedError: The task ended without a video.
        DownloadError: It has not ended yet, or a file could not be had whole.
    """
    if isinstance(task, str) or not task.ended:
        task = yield from query(gateway, task if isinstance(task, str) else task.task_id)
    successful(task)
    if task.status != "succeeded":
        raise DownloadError(
            f"The task is {task.status}, so there is nothing to save yet.",
            hint="Wait until it has succeeded.",
            task_id=task.task_id,
        )
    folder = Path(directory)
    try:
        yield Do(folder_made, (folder,))
    except ConfigurationError as error:
        raise DownloadError(error.message, hint=_ELSEWHERE, retryable=False, task_id=task.task_id) from error
    generations = []
    for index, generation in enumerate(task.generations):
        path = folder / f"{file_name(task, index)}.mp4"
        saved = generation.url is not None
        if saved and not (yield Do(_is_video, (path,))):
            yield from _save(gateway, task, index, path, math.inf if deadline is None else deadline)
        generations.append(generation.model_copy(update={"file": path if saved else None}))
    return task.model_copy(update={"generations": tuple(generations)})


def _save(gateway: Gateway, task: VideoTask, index: int, path: Path, deadline: float) -> Flow[None]:
    """Fetch one video; from a fresh address where its own has died."""
    generation = task.generations[index]
    try:
        yield from _fetch(gateway, task, generation, path, deadline)
    except DownloadError as error:
        if error.http_status not in _GONE:
            raise
        try:
            fresh = yield from query(gateway, task.task_id, min(gateway.patience, deadline - gateway.clock()))
        except SoraError as trouble:
            raise error from trouble
        renewed = _same_variant(generation, index, fresh)
        if renewed is None or renewed.url in (None, generation.url):
            raise
        yield from _fetch(gateway, task, renewed, path, deadline)


def _same_variant(generation: Generation, index: int, fresh: VideoTask) -> Generation | None:
    """The variant as a fresh look shows it: by its id, or by its place where it has none."""
    for place, candidate in enumerate(fresh.generations):
        if candidate.generation_id == generation.generation_id and (generation.generation_id or place == index):
            return candidate
    return None


def _fetch(gateway: Gateway, task: VideoTask, generation: Generation, path: Path, deadline: float) -> Flow[None]:
    url = generation.url or ""

    def attempt() -> Flow[None]:
        try:
            yield from _stream(gateway, task.task_id, url, path, deadline)
        except DownloadError as error:
            error.about(task_id=task.task_id)
            raise
        except OSError as error:
            raise DownloadError(
                f"{path} could not be written: {error.strerror or error}.",
                hint=_ELSEWHERE,
                retryable=False,
                task_id=task.task_id,
            ) from error
        except SoraError as error:
            error.without(gateway.settings.secret)
            raise DownloadError(
                f"The video did not arrive whole: {error.message}",
                hint="Download it again; do not create it again.",
                retryable=error.retryable,
                http_status=error.http_status,
                task_id=task.task_id,
            ) from error

    yield from persist(gateway, attempt, deadline)


def _stream(gateway: Gateway, task_id: str, url: str, path: Path, deadline: float) -> Flow[None]:
    reply = yield from _opened(gateway, url, deadline)
    total, received = _length(reply), 0
    part = path.with_name(f"{path.name}.{os.urandom(4).hex()}.part")  # of this download alone: another may be under way
    try:
        while chunk := (yield More(_patience(gateway, deadline))):
            yield Do(_append, (part, chunk))
            received += len(chunk)
            yield Tell(Downloading(task_id, path, received, total))
        if total is not None and received != total:
            raise DownloadError(f"{received} of {total} bytes arrived.")
        if not (yield Do(_is_video, (part,))):
            raise DownloadError("What arrived is not an MP4.", hint="Look at its address.", retryable=False)
        yield Do(_settle, (part, path))
    except (SoraError, OSError):
        yield Do(_discard, (part,))
        raise
    yield Tell(Saved(task_id, path, received))


def _opened(gateway: Gateway, url: str, deadline: float) -> Flow[Reply]:
    """The reply that carries the file, redirects followed."""
    address: str | None = url
    for _ in range(_MOST_REDIRECTS + 1):
        if address is None or not gateway.settings.fetchable(address):
            raise DownloadError("The video's address is not https.", hint="Nothing was fetched.", retryable=False)
        reply: Reply = yield Open(address, _patience(gateway, deadline))
        location = reply.headers.get("location")
        if reply.status in (301, 302, 303, 307, 308) and location:
            address = joined(address, location)
            continue
        if reply.status != 200:
            passing = reply.status in (408, 425, 429) or reply.status >= 500
            raise DownloadError(
                f"The video's address answered HTTP {reply.status}.", retryable=passing, http_status=reply.status
            )
        if reply.headers.get("content-type", "").startswith("text/html"):
            raise DownloadError("The video's address answered with a web page.", retryable=False)
        return reply
    raise DownloadError("The video's address redirects in circles.", retryable=False)


def _patience(gateway: Gateway, deadline: float) -> float:
    """Seconds the next bytes may take."""
    left = deadline - gateway.clock()
    if left <= 0:
        raise DownloadError("There was no time left to download the video.", hint="Download it again.")
    return min(gateway.settings.timeout, left)


def file_name(task: VideoTask, index: int) -> str:
    """A file's name without its ending, made of ids. Two videos never share one."""
    given = task.generations[index].generation_id or str(index + 1)
    if typeid_time(given) is None:  # only a TypeID is the video's alone
        given = f"{task.task_id}-{given}"
    name = re.sub(r"[^A-Za-z0-9_-]", "_", given)[:100]
    return name if name == given else f"{name}-{sha256(given.encode()).hexdigest()[:8]}"


def _length(reply: Reply) -> int | None:
    given = reply.headers.get("content-length", "")
    return int(given) if re.fullmatch(r"[0-9]{1,18}", given) and "content-encoding" not in reply.headers else None


def folder_made(folder: Path) -> None:
    """Make a folder where there is none.

    Raises:
        ConfigurationError: It cannot be one, or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ConfigurationError(f"{folder} is not a folder that can be written to: {error.strerror}.") from error


def _append(path: Path, chunk: bytes) -> None:
    with path.open("ab") as file:
        file.write(chunk)


def _settle(part: Path, path: Path) -> None:
    """Give a whole file its final name, after its bytes are on the disk."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)


def _is_video(path: Path) -> bool:
    """Whether a file begins as an MP4 does (ISO/IEC 14496-12: a box named ftyp)."""
    try:
        with path.open("rb") as file:
            return file.read(12)[4:8] == b"ftyp"
    except OSError:
        return False
