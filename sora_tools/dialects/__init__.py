"""The formats gateways speak. Each is pure functions; which one a gateway speaks is a setting."""

from __future__ import annotations

from typing import Final

from ..errors import ConfigurationError
from ..wire import Dialect
from .backend import Backend
from .chat import Chat
from .generations import Generations
from .unified import Unified
from .videos import Videos

DIALECTS: Final[dict[str, Dialect]] = {
    known.name: known for known in (Backend(), Videos(), Unified(), Generations(), Chat())
}
"""By name, in the order in which ``dialect="auto"`` prefers them."""


def dialect(name: str | Dialect) -> Dialect:
    """The dialect of that name; a dialect of the caller's own is handed back as it is.

    Raises:
        ConfigurationError: No dialect has this name; the message lists those there are.
    """
    if not isinstance(name, str):
        return name
    if (found := DIALECTS.get(name.strip().lower())) is None:
        known = ", ".join(sorted([*DIALECTS, "auto"]))
        raise ConfigurationError(f"dialect={name!r} was given; it must be one of: {known}.")
    return found
