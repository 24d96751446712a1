"""What is still to go wrong: the scripts given to a world, checked when they are given and used up in their order."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import faults

ROUTES = ("create", "list", "look", "download", "task", "delete", "models")
COMMON_OPTIONS = frozenset({"accept", "headers"})


@dataclass(kw_only=True)
class Script:
    """One fault, its options with the defaults filled in, and how many requests it still befalls."""

    fault: str
    options: Mapping[str, Any]
    left: float

    @property
    def accepts(self) -> bool:
        """Whether a create or a delete it befalls is done all the same."""
        return bool(self.options.get("accept", faults.EVERY[self.fault].accepts))


class Scripts:
    """The scripts of each route, in the order they were given."""

    def __init__(self) -> None:
        self._by_route: defaultdict[str, deque[Script]] = defaultdict(deque)

    def add(self, route: str, fault: str, times: int | None, options: Mapping[str, Any]) -> None:
        """Take a script; see `World.script`."""
        if times is not None and (type(times) is not int or times < 1):
            raise ValueError(f"times must be a whole number of at least 1, or None; got {times!r}")
        left = math.inf if times is None else times
        filled = _filled(route, fault, options)
        self._by_route[route].append(Script(fault=fault, options=filled, left=left))

    def take(self, route: str, *, redirected: bool = False) -> Script | None:
        """What befalls the next request of a route; one that follows a redirect is not redirected again."""
        scripts = self._by_route[route]
        if not scripts or (redirected and scripts[0].fault.startswith("redirect")):
            return None
        script = scripts[0]
        script.left -= 1
        if script.left <= 0:
            scripts.popleft()
        return script

    def pending(self) -> tuple[tuple[str, str, int | None], ...]:
        """What is still to come, as (route, fault, how often; None is for ever)."""
        return tuple(
            (route, script.fault, None if math.isinf(script.left) else int(script.left))
            for route, scripts in self._by_route.items()
            for script in scripts
        )


def _filled(route: str, name: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with the defaults filled in, once all is found to be known."""
    if route not in ROUTES:
        raise ValueError(f"unknown route {route!r}; allowed are {', '.join(ROUTES)}")
    table = faults.ENDINGS if route == "task" else {n: f.options for n, f in faults.EVERY.items() if f.befalls(route)}
    if name not in table:
        raise ValueError(f"unknown fault {name!r} for {route!r}; allowed are {', '.join(sorted(table))}")
    allowed = set(table[name]) | (COMMON_OPTIONS if route != "task" else set())
    if unknown := sorted(set(options) - allowed):
        raise ValueError(f"unknown options {unknown} for {name!r}; allowed are {', '.join(sorted(allowed)) or 'none'}")
    return {**table[name], **options}
