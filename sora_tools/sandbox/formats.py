"""The formats by name, and what each one's module can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from . import backend, chat, generations, unified, videos
from .manners import Manners
from .messages import Answer, Call
from .orders import Order, OrderError
from .tasks import View


class Spoken(Protocol):
    """A format: what a create must say."""

    def read_order(self, call: Call, manners: Manners, /) -> Order: ...
    def refused(self, refusal: OrderError, /) -> Answer: ...


class Shown(Protocol):
    """A format that shows tasks one by one."""

    def created(self, view: View, manners: Manners, /) -> Answer: ...
    def looked(self, view: View, manners: Manners, /) -> Answer: ...
    def unknown_task(self) -> Answer: ...


class Listed(Protocol):
    """A format that has a list."""

    def read_page(self, call: Call, /) -> tuple[str | None, int, bool]: ...
    def listed(self, views: Sequence[View], manners: Manners, /, *, has_more: bool) -> Answer: ...


SPOKEN: Mapping[str, Spoken] = {
    "backend": backend,
    "videos": videos,
    "unified": unified,
    "generations": generations,
    "chat": chat,
}
SHOWN: Mapping[str, Shown] = {
    "backend": backend,
    "videos": videos,
    "unified": unified,
    "generations": generations,
}
LISTED: Mapping[str, Listed] = {"backend": backend, "videos": videos}
