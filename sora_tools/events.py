"""What a flow tells its listeners.

Events are facts that have happened, as frozen values. A listener is any callable that takes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import SoraError
from .schemas import VideoTask


@dataclass(frozen=True, slots=True)
class Submitted:
    """The gateway accepted a create; ``reused`` when an earlier one with the same key had been accepted."""

    key: str
    task: VideoTask
    reused: bool = False


@dataclass(frozen=True, slots=True)
class Retrying:
    """A call failed in a way that may pass and will be made again in ``seconds``."""

    error: SoraError
    seconds: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A look was answered: this is the task now."""

    task: VideoTask


@dataclass(frozen=True, slots=True)
class Downloading:
    """So many bytes of a file have arrived; ``total`` is None where the server does not say."""

    task_id: str
    path: Path
    received: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Saved:
    """A file is whole, checked and under its final name."""

    task_id: str
    path: Path
    size: int


Event = Submitted | Retrying | Seen | Downloading | Saved
