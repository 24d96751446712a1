"""What a flow tells its listeners.

Events are facts that have happened, as immutable values. A listener is any callable that takes one.

Rule: what travels further than a listener, to a model's user interface or over a wire, is `described`: plain JSON that
says what a person may see, and carries no address, no key of the gateway's and nothing of its raw answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

from .errors import SoraError
from .schemas import VideoTask


class Submitted(NamedTuple):
    """The gateway has a create; ``reused`` when an earlier one had been accepted: with this key, or the very same."""

    key: str
    task: VideoTask
    reused: bool = False


class Adjusted(NamedTuple):
    """The gateway's format cannot say all that was asked for; ``sentence`` tells what is made instead."""

    key: str
    sentence: str


class NotRecorded(NamedTuple):
    """The ledger could not write down what came of a submission. Where there is a ``task``: keep its id."""

    key: str
    task: VideoTask | None
    error: Exception


class Retrying(NamedTuple):
    """A call failed in a way that may pass and will be made again in ``seconds``."""

    error: SoraError
    seconds: float


class Seen(NamedTuple):
    """A look was answered: this is the task now."""

    task: VideoTask


class Downloading(NamedTuple):
    """So many bytes of a file have arrived; ``total`` is None where the server does not say."""

    task_id: str
    path: Path
    received: int
    total: int | None


class Saved(NamedTuple):
    """A file is whole, checked and under its final name."""

    task_id: str
    path: Path
    size: int


class GivenUp(NamedTuple):
    """A watch has nothing more to say of a task that it has not seen end; ``name`` is its id or key as it was given.

    ``error`` says why: it was not found, could not be looked at, or had not ended in time (WaitTimeoutError, which
    carries the task as last seen).
    """

    name: str
    error: SoraError


Event = Submitted | Adjusted | NotRecorded | Retrying | Seen | Downloading | Saved | GivenUp

EVENT_NAME: Final = "sora_video_event"
"""What a described event is called where it travels among others: as a custom event's name, and as its own ``type``."""

_MEGABYTE: Final = 1_000_000


def in_words(task: VideoTask) -> str:
    """A task's state in a few words: ``queued, 3 ahead``, ``running, 42%``."""
    if task.status == "queued" and task.queue_position:
        return f"queued, {task.queue_position} ahead"
    if task.status == "running" and task.progress is not None:
        return f"running, {task.progress:.0%}"
    return task.raw_status or task.status if task.status == "unknown" else task.status


def described(event: Event) -> dict[str, Any]:
    """An event as the plain JSON object that travels.

    Returns:
        ``type`` (always ``sora_video_event``), ``event``, ``task_id`` (None where it is not known) and ``message`` (one
        line for a person), and beside them for each kind of ``event``:

        ``submitted``: ``key, reused`` and the task's ``status, progress`` (0 to 1), ``queue_position, queue_wait``
            (seconds until it starts, as the gateway estimates); each of the last three may be None.
        ``seen``: The task's, likewise.
        ``adjusted``: ``key``.
        ``not_recorded``: ``key``.
        ``retrying``: ``seconds`` until the next try, and ``code``, the error's.
        ``downloading``: ``file`` (its name), ``received`` and ``total`` in bytes, ``progress`` (0 to 1); the last two
            are None where the server does not say.
        ``saved``: ``file`` and ``size`` in bytes.
        ``given_up``: ``code``, the error's.
    """
    match event:
        case Submitted(key, task, reused):
            message = "It had been accepted before." if reused else "The gateway has accepted it."
            return _told("submitted", task.task_id, message, key=key, reused=reused, **_state(task))
        case Seen(task):
            return _told("seen", task.task_id, in_words(task), **_state(task))
        case Adjusted(key, sentence):
            return _told("adjusted", None, sentence, key=key)
        case NotRecorded(key, noted, _):
            message = "The ledger could not write it down: keep its task id."
            return _told("not_recorded", noted.task_id if noted else None, message, key=key)
        case Retrying(error, seconds):
            when = f"in {seconds:.0f} s" if seconds >= 0.5 else "at once"
            message = f"Trying again {when}: {error.message}"
            return _told("retrying", error.task_id, message, seconds=round(seconds, 1), code=error.code)
        case Downloading(task_id, path, received, total):
            progress = received / total if total else None
            message = f"saving {path.name}" if progress is None else f"saving {path.name}, {progress:.0%}"
            size = {"received": received, "total": total, "progress": progress}
            return _told("downloading", task_id, message, file=path.name, **size)
        case Saved(task_id, path, size):
            return _told("saved", task_id, f"saved {path.name}", file=path.name, size=size)
        case GivenUp(name, error):
            return _told("given_up", error.task_id or name, error.message, code=error.code)


class News:
    """Tells what is new from what was told before: looks repeat themselves, and bytes come by the thousand.

    Of a task's looks those are new that change its status, its progress by a percent, or its place in the queue; of a
    download every percent, or every megabyte where nobody knows how many bytes there will be. All else is new.
    """

    def __init__(self) -> None:
        self._last: dict[str | Path, tuple[object, ...]] = {}

    def is_new(self, event: Event) -> bool:
        """Whether it has not been told; from now on it has."""
        of: str | Path
        now: tuple[object, ...]
        match event:
            case Seen(task):
                of, now = task.task_id, (task.status, _percent(task.progress), task.queue_position or None)
            case Downloading(_, path, received, total):
                of, now = path, (received * 100 // total if total else received // _MEGABYTE, total)
            case _:
                return True
        is_new = self._last.get(of) != now
        self._last[of] = now
        return is_new


def _told(event: str, task_id: str | None, message: str, **facts: Any) -> dict[str, Any]:
    return {"type": EVENT_NAME, "event": event, "task_id": task_id, "message": message, **facts}


def _state(task: VideoTask) -> dict[str, Any]:
    return {name: getattr(task, name) for name in ("status", "progress", "queue_position", "queue_wait")}


def _percent(progress: float | None) -> int | None:
    return None if progress is None else int(progress * 100)
