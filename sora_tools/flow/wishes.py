"""What a flow may wish for.

Law: a conversation is written once, as a generator that does no I/O. It yields wishes; a driver grants each one and
sends back what came of it, or throws what went wrong into the generator. Nothing else passes between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from ..events import Event
from ..wire import Call

T = TypeVar("T")


class Send(NamedTuple):
    """Send a call. Granted with its Reply, whatever the status, within so many seconds."""

    call: Call[Any]
    patience: float


class Open(NamedTuple):
    """Begin a download. Granted with a Reply without body; the body comes with each More."""

    url: str
    patience: float
    headers: Mapping[str, str] = {}


class More(NamedTuple):
    """The next bytes of what was opened last, or b"" at its end, within so many seconds."""

    patience: float


class Stream(NamedTuple):
    """Send a call whose answer may stream. Granted with a Reply, without body where it is an event stream.

    The events come with each Said. After so many seconds of ``silence``, without a byte, it counts as broken off.
    """

    call: Call[Any]
    patience: float
    silence: float


class Said(NamedTuple):
    """The data of the next event of what streams, or None at its end, within so many seconds."""

    patience: float


class Aside(NamedTuple):
    """Carry a paid flow on beside this one, for as long as it takes.

    Granted with what it is Ready with, or None if that takes more than so many seconds; what it raises before that is
    thrown.
    """

    flow: Flow[Any]
    patience: float


class Ready(NamedTuple):
    """Tell whoever has set this flow going aside what it has come to. Only the first time counts."""

    value: Any


class Sleep(NamedTuple):
    """Let so many seconds pass."""

    seconds: float


class Do(NamedTuple):
    """Work on this machine that may block: the ledger, files. Granted with what it returns."""

    work: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


class Tell(NamedTuple):
    """Let whoever listens know."""

    event: Event


class Look(NamedTuple):
    """News of a task, due in ``pause`` seconds, shared with everybody who waits.

    Granted with the VideoTask, with the SoraError of a trouble that may pass, with ``NO_NEWS`` (nothing within
    ``patience`` seconds), or with ``ALONE`` (the list cannot answer this: look for yourself).
    """

    task_id: str
    pause: float
    patience: float


class Finish(NamedTuple):
    """Carry a paid flow to its end even if whoever asked has gone; begin it within so many seconds."""

    flow: Flow[Any]
    patience: float


class Silence:
    """What a Look is granted with when there is no task to show."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


NO_NEWS: Final = Silence("NO_NEWS")
ALONE: Final = Silence("ALONE")

Wish: TypeAlias = Send | Open | More | Stream | Said | Aside | Ready | Sleep | Do | Tell | Look | Finish
Flow: TypeAlias = Generator[Wish, Any, T]
