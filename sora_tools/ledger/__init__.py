"""Every submission, written down before it is sent.

A submission is ``intended`` before its request leaves, and ``accepted``, ``refused`` or ``unsure`` once the answer
is read. Rule: who sends holds the key's claim, and a row left ``intended`` with nobody holding the claim counts as
unsure, so a crash needs no tidying up. A task belongs to one submission at most. Only this package knows sqlite3.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..errors import ConfigurationError
from .submissions import (
    Accepted,
    Begun,
    Claim,
    Elsewhere,
    Ledger,
    New,
    Repeated,
    State,
    Submission,
    Taken,
    Unsure,
    digest,
    recorded,
)

__all__ = [
    "Accepted",
    "Begun",
    "Claim",
    "Elsewhere",
    "Ledger",
    "New",
    "Repeated",
    "State",
    "Submission",
    "Taken",
    "Unsure",
    "default_path",
    "digest",
    "ledger",
    "recorded",
    "remembers",
]


def ledger(given: Ledger | str | os.PathLike[str] | None = None) -> Ledger:
    """The ledger that ``ledger=`` or ``SORA_LEDGER`` asks for. Opens nothing yet.

    Args:
        given: A file's path, ``"memory"``, ``"off"``, or an object with the methods of :class:`Ledger`. By default a
            file in the user's state directory; see :func:`default_path`.

    Raises:
        ConfigurationError: The name is no path, or there is no state directory.
    """
    wanted = os.environ.get("SORA_LEDGER") or None if given is None else given
    if wanted is not None and not isinstance(wanted, str | os.PathLike):
        return wanted
    source = "SORA_LEDGER" if given is None else "ledger"
    name = None if wanted is None else os.fspath(wanted).strip()
    if name is not None and ("://" in name or not name):
        raise ConfigurationError(
            f"{source}={name!r} was given; allowed are a file's path, 'memory', 'off', or a ledger object."
        )
    from .sqlite import ForgetfulLedger, MemoryLedger, SQLiteLedger  # noqa: PLC0415  # loads SQLite, on first use

    word = (name or "").casefold()
    if word in ("memory", ":memory:"):
        return MemoryLedger()
    if word == "off":
        return ForgetfulLedger()
    return SQLiteLedger(default_path() if name is None else Path(name).expanduser())


def remembers(book: Ledger) -> bool:
    """Whether a ledger keeps what was settled: every one but ``"off"`` does."""
    from .sqlite import ForgetfulLedger  # noqa: PLC0415  # loads SQLite, on first use

    return not isinstance(book, ForgetfulLedger)


def default_path() -> Path:
    """The file in the user's state directory: ``sora-tools/ledger.sqlite`` below it.

    That directory is ``$XDG_STATE_HOME`` or ``~/.local/state`` (XDG Base Directory Specification), on macOS
    ``~/Library/Application Support``, on Windows ``%LOCALAPPDATA%``.

    Raises:
        ConfigurationError: The user has no home directory.
    """
    try:
        if sys.platform == "win32":
            root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            root = Path.home() / "Library" / "Application Support"
        else:
            given = Path(os.environ.get("XDG_STATE_HOME", ""))
            root = given if given.is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise ConfigurationError(
            "There is no home directory to keep the ledger in.",
            hint="Set SORA_LEDGER to a file's path, or to 'memory' to remember submissions in this process only.",
        ) from error
    return root / "sora-tools" / "ledger.sqlite"
