"""What a flow tells its listeners.

Events are facts that have happened, as immutable values. A listener is any callable that takes one.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

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


Event = Submitted | Adjusted | NotRecorded | Retrying | Seen | Downloading | Saved
