"""Download: from a finished task to files on this disk.

Rules. Bytes arrive under a name that ends in ``.part``; only a whole, checked and synced file gets its final name. What
passing trouble cut off is kept and continued, by this download or a later one, as long as the server's version of the
file is the same; what is wrong is not kept. File names come from ids, never from the gateway's text. The key goes to
the gateway's origin only. A dead address is renewed by one look, never by a new create.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from base64 import b64decode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final, NoReturn

from ..addresses import joined, origin
from ..errors import ConfigurationError, DownloadError, SoraError, WaitTimeoutError, masked
from ..events import Downloading, Saved
from ..parts import Part, is_whole_film, validator_of
from ..schemas import CARRIED, Generation, VideoTask
from ..wire import Reply, typeid_time
from .exchange import Gateway, persist, unquoted
from .look import note_end, query, successful
from .wishes import Do, Flow, More, Open, Tell

_MOST_REDIRECTS: Final = 5
_NEVER: Final = "Do not create it again."
_ELSEWHERE: Final = "Make room or choose another folder, then download again; do not create it again."
_CONTENT_RANGE: Final = r"bytes (?:(?P<first>[0-9]{1,18})-[0-9]{1,18}|\*)/(?P<total>[0-9]{1,18}|\*)"
_GONE: Final = (401, 403, 404, 410)
_LONGEST_NOTE: Final = 65_536


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
        WaitTimeoutError: It has not ended yet.
        DownloadError: A file could not be had whole.
    """
    if isinstance(task, str) or not task.ended:
        task = yield from query(gateway, task if isinstance(task, str) else task.task_id)
    gateway = gateway.speaking(task.dialect)
    successful(task)
    if task.status != "succeeded":
        raise WaitTimeoutError(
            f"The task is {task.status}, so there is nothing to save yet.",
            hint="Wait until it has succeeded.",
            task=task,
            task_id=task.task_id,
        )
    folder = Path(directory)
    try:
        yield Do(folder_made, (folder,))
    except ConfigurationError as error:
        raise DownloadError(error.message, hint=_ELSEWHERE, retryable=False, task_id=task.task_id) from error
    generations = []
    for index, generation in enumerate(task.generations):
        path = folder / f"{file_name(gateway.settings.origin, task, index)}.mp4"
        saved = generation.url is not None
        if saved and not (yield Do(is_whole_film, (path,))):
            yield from _save(gateway, task, index, path, math.inf if deadline is None else deadline)
        generations.append(generation.model_copy(update={"file": path if saved else None}))
    task = task.model_copy(update={"generations": tuple(generations)})
    yield from note_end(gateway, task)
    return task


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
        part = Part(path)
        try:
            yield from _stream(gateway, task.task_id, url, part, deadline)
        except DownloadError as error:
            error.hint = f"{error.hint or 'Download it again.'} {_NEVER}"
            error.about(task_id=task.task_id).without(gateway.settings.secret)
            raise
        except OSError as error:
            yield Do(part.discard)
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
                hint=f"Download it again. {_NEVER}",
                retryable=error.retryable,
                http_status=error.http_status,
                task_id=task.task_id,
            ) from error
        finally:
            part.close()  # without a Do: a generator that is being closed is granted nothing

    yield from persist(gateway, attempt, deadline)


def _stream(gateway: Gateway, task_id: str, url: str, part: Part, deadline: float) -> Flow[None]:
    if url.startswith(CARRIED):
        total: int | None = yield from _unpacked(gateway, url, part)
    else:
        total = yield from _fetched(gateway, task_id, url, part, deadline)
    yield from _check(gateway, part, total)
    yield Do(part.settle)
    yield Tell(Saved(task_id, part.path, part.size))


def _unpacked(gateway: Gateway, url: str, part: Part) -> Flow[int]:
    """Write down a video that came within the answer, and say how long it is."""
    try:
        film = b64decode(url.removeprefix(CARRIED), validate=True)
    except ValueError as error:
        raise DownloadError("The video in the gateway's answer cannot be decoded.", retryable=False) from error
    yield Do(part.begin, (None,))
    yield from _fits(gateway, part, len(film))
    yield Do(part.write, (film,))
    return len(film)


def _fetched(gateway: Gateway, task_id: str, url: str, part: Part, deadline: float) -> Flow[int | None]:
    """Write down what the address serves, and say how much was announced."""
    yield Do(part.resume)
    reply = yield from _opened(gateway, url, part, deadline)
    if part.size and not _continues(reply, part):
        yield Do(part.discard)
        reply = yield from _opened(gateway, url, part, deadline)
    if reply.status == 416:
        return part.size
    return (yield from _received(gateway, task_id, reply, part, deadline))


def _received(gateway: Gateway, task_id: str, reply: Reply, part: Part, deadline: float) -> Flow[int | None]:
    """Write down what comes, and say how much was announced."""
    if reply.status == 206 and not _continues(reply, part):
        raise DownloadError("The video's address answered with another part of it than was asked for.")
    if reply.status == 200 or not part.size:
        yield Do(part.begin, (validator_of(reply.headers) if _is_plain(reply) else None,))
    total = _total(reply, part.size)
    yield from _fits(gateway, part, total or 0)
    while chunk := (yield More(_patience(gateway, deadline))):
        yield from _fits(gateway, part, part.size + len(chunk))
        yield Do(part.write, (chunk,))
        yield Tell(Downloading(task_id, part.path, part.size, total))
    return total


def _check(gateway: Gateway, part: Part, total: int | None) -> Flow[None]:
    """Raise unless a whole film has come."""
    yield from _fits(gateway, part, part.size)
    if total is not None and part.size < total:
        raise DownloadError(f"{part.size} of {total} bytes arrived.")
    if total is not None and part.size > total:
        yield from _spoilt(part, f"{part.size} bytes arrived where {total} were announced.", retryable=True)
    film = yield Do(part.film)
    if film == "foreign":
        yield from _spoilt(part, "What arrived is not an MP4.", "Look at its address.")
    if film == "cut" and total is not None:  # so the announcement was false, and nothing tells what is missing
        yield from _spoilt(part, f"The MP4 that arrived is cut off, at {part.size} bytes.", retryable=True)
    if film == "cut" or (film in ("bare", "open") and total is None):
        raise DownloadError(f"The MP4 may be cut off: {part.size} bytes arrived, and nothing shows that they are all.")


def _fits(gateway: Gateway, part: Part, size: int) -> Flow[None]:
    """Raise for more bytes than a video may have."""
    most = gateway.settings.largest_video
    if size > most:
        yield from _spoilt(part, f"The video is larger than {most} bytes.", "If it may be, set largest_video higher.")


def _spoilt(part: Part, message: str, hint: str = "", *, retryable: bool = False) -> Flow[NoReturn]:
    """Raise, and keep nothing of what has come."""
    yield Do(part.discard)
    raise DownloadError(message, hint=hint, retryable=retryable)


def _opened(gateway: Gateway, url: str, part: Part, deadline: float) -> Flow[Reply]:
    """The reply that carries the file, or what is missing of it, redirects followed."""
    address = url
    wanted = {"range": f"bytes={part.size}-", "if-range": part.validator} if part.size and part.validator else {}
    for _ in range(_MOST_REDIRECTS + 1):
        if objection := gateway.settings.objection(address):
            opened = " If that machine may be asked, set private_addresses=True." if "private" in objection else ""
            raise DownloadError(
                f"The video's address {objection}.", hint=f"Nothing was fetched.{opened}", retryable=False
            )
        reply = unquoted(gateway, (yield Open(address, _patience(gateway, deadline), wanted)))
        location = reply.headers.get("location")
        if reply.status in (301, 302, 303, 307, 308) and location:
            address = masked(joined(address, location) or "", gateway.settings.secret)
            continue
        at_home = origin(address) == gateway.settings.origin
        if at_home and reply.headers.get("content-type", "").strip().lower().startswith("application/json"):
            if elsewhere := (yield from _located(gateway, reply, address, deadline)):
                address = elsewhere
                continue
            if reply.status == 200:
                yield from _spoilt(part, "The video's address answered with words instead of a video.", retryable=True)
        if reply.status not in (200, 206) and not (wanted and reply.status == 416):
            not_yet = at_home and reply.status in (404, 409)  # a task may have ended before its file is there
            passing = not_yet or reply.status in (408, 425, 429) or reply.status >= 500
            raise DownloadError(
                f"The video's address answered HTTP {reply.status}.", retryable=passing, http_status=reply.status
            )
        if reply.status != 416 and reply.headers.get("content-type", "").strip().lower().startswith("text/html"):
            yield from _spoilt(part, "The video's address answered with a web page.", "Look at its address.")
        return reply
    raise DownloadError("The video's address redirects in circles.", retryable=False)


def _located(gateway: Gateway, reply: Reply, address: str, deadline: float) -> Flow[str | None]:
    """Where the video is, if the gateway answers with words that say so."""
    body = b""
    while len(body) < _LONGEST_NOTE and (chunk := (yield More(_patience(gateway, deadline)))):
        body += chunk
    url = gateway.dialect.located(unquoted(gateway, replace(reply, body=body)))
    return url and masked(joined(address, url) or "", gateway.settings.secret)


def _continues(reply: Reply, part: Part) -> bool:
    """Whether an answer fits what is there: the rest of it, all of it anew, or the word that nothing is missing."""
    given = re.fullmatch(_CONTENT_RANGE, reply.headers.get("content-range", "").strip())
    if reply.status == 200:
        return True
    if given is None or not _is_plain(reply):
        return False
    if reply.status == 416:
        return given["first"] is None and given["total"] == str(part.size)
    by_tag = part.validator is None or part.validator.startswith('"')
    same = reply.headers.get("etag" if by_tag else "last-modified", part.validator) == part.validator
    return given["first"] == str(part.size) and same


def _total(reply: Reply, there: int) -> int | None:
    """How many bytes the whole file has, as far as the answer says."""
    if not _is_plain(reply):
        return None
    if reply.status == 206:
        given = re.fullmatch(_CONTENT_RANGE, reply.headers["content-range"].strip())
        if given and given["total"] != "*":
            return int(given["total"])
    length = reply.headers.get("content-length", "")
    return there + int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None


def _is_plain(reply: Reply) -> bool:
    return reply.headers.get("content-encoding", "").strip().lower() in ("", "identity")


def _patience(gateway: Gateway, deadline: float) -> float:
    """Seconds the next bytes may take."""
    left = deadline - gateway.clock()
    if left <= 0:
        raise DownloadError("There was no time left to download the video.")
    return min(gateway.settings.timeout, left)


def file_name(where: str, task: VideoTask, index: int) -> str:
    """A file's name without its ending: an id to read, and a fingerprint of all that makes the video this one.

    Two videos never share a name: gateways count from one, give ids that differ in their case, and give one id twice.

    Args:
        where: Origin of the gateway.
        task: The task.
        index: Which of its generations.
    """
    ids = [generation.generation_id for generation in task.generations]
    own = ids[index] if ids.count(ids[index]) == 1 else None
    given = own or f"{ids[index] or ''}#{index + 1}"
    told = own if own and typeid_time(own) else f"{task.task_id}-{own or index + 1}"
    fingerprint = sha256(json.dumps([where, task.task_id, given]).encode()).hexdigest()[:8]
    return f"{re.sub('[^A-Za-z0-9_-]', '_', told)[:100]}-{fingerprint}"


def folder_made(folder: Path) -> None:
    """Make a folder where there is none.

    Raises:
        ConfigurationError: It cannot be one, or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:  # ValueError: no path has such characters
        said, shown = getattr(error, "strerror", None) or error, str(folder)
        shown = shown if shown.isprintable() else ascii(shown)
        raise ConfigurationError(f"{shown} is not a folder that can be written to: {said}.") from error
