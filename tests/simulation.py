"""A fourth driver: many callers at once on one thread, one wish at a time, in whatever order the player chooses.

Each caller is an actor whose wish is pending until it is granted. A request is granted in two steps, leaving and
coming back, so that everything can happen in between. Time passes only where a wish is granted that waits for it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from conftest import Clock

from sora_tools import LostReplyError, NotSentError, SoraError
from sora_tools.client.transport import crowded
from sora_tools.config import settings
from sora_tools.events import Event
from sora_tools.flow import ALONE, Do, Finish, Flow, Look, Send, Sleep, Tell, Wish
from sora_tools.ledger.sqlite import SQLiteLedger
from sora_tools.sandbox.messages import Answer
from sora_tools.sandbox.world import World
from sora_tools.wire import Call, Reply

SETTINGS = settings("https://gateway.test", "sk-secret-key")
SHARED_MEMORY = Path("/dev/shm")

Way = Literal["whole", "unreachable", "untrusted", "swallowed", "lost", "late"]
"""How a request travels: `whole`; `unreachable` and `untrusted` (it cannot leave; for now, or ever); `swallowed` (it
leaves and never arrives); `lost` (it arrives, its answer does not); `late` (it arrives when its caller has gone)."""


def folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for a ledger that only has to outlive its processes."""
    return tempfile.TemporaryDirectory(dir=SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None)


class HastyLedger(SQLiteLedger):
    """The real ledger, which does not wait for the disk: here processes die, and machines do not."""

    def _open(self) -> sqlite3.Connection:
        db = super()._open()
        db.execute("pragma synchronous = off")
        return db


def answered(world: World, call: Call[Any]) -> Answer:
    """What the world says to a call, having remembered it."""
    address = urlsplit(SETTINGS.url(call.path))
    return world.receive(
        call.method,
        address.path,
        query={
            **dict(parse_qsl(address.query)),
            **{name: str(value) for name, value in call.query.items() if value is not None},
        },
        headers={**call.headers, "authorization": "Bearer sk-secret-key", "host": address.netloc},
        body=b"" if call.body is None else json.dumps(call.body).encode(),
    )


def carried(world: World, answer: Answer) -> Reply | None:
    """The answer as it comes back, or None where no whole answer does."""
    if answer.manner != "whole" or answer.after is None:
        return None
    return Reply(answer.status, {**answer.headers, "date": formatdate(world.clock(), usegmt=True)}, answer.body)


@dataclass
class Flight:
    """A request that has left: what will come back, when, and when its caller gives up."""

    reply: Reply | None
    ready: float
    given_up: float


@dataclass
class Actor:
    """One caller and where it stands.

    Attributes:
        unwanted: Whether whoever asked has gone, so that a create that has not left must not leave.
        sends: Is asked before a request leaves; a test's eyes, and its way to say how it travels.
        does: Is told of ledger work before and after.
    """

    flow: Flow[Any]
    clock: Clock
    world: World
    unwanted: bool = False
    sends: Callable[[Actor, Call[Any]], Way] = lambda _actor, _call: "whole"
    receives: Callable[[Actor, Call[Any], Way], Answer | None] | None = None
    does: Callable[[Actor, Do], Any] = lambda _actor, do: do.work(*do.arguments)
    facts: dict[str, Any] = field(default_factory=dict)

    frames: list[Flow[Any]] = field(init=False)
    wish: Wish | None = None
    flight: Flight | None = None
    due: float = 0.0
    events: list[Event] = field(default_factory=list)
    ended: bool = False
    result: Any = None
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.frames = [self.flow]
        self._step(self.flow.send, None)

    def grant(self) -> None:
        """Grant the one pending wish, or the first half of it where it is a request's."""
        match self.wish:
            case Send() if self.flight is None:
                self._leave(self.wish)
            case Send():
                self._come_back(self.flight)
            case Sleep():
                self.clock.seconds = max(self.clock.seconds, self.due)
                self._send(None)
            case Do():
                try:
                    done = self.does(self, self.wish)
                except SoraError as error:
                    self._throw(error)
                else:
                    self._send(done)
            case Tell(event):
                self.events.append(event)
                self._send(None)
            case Look(_, pause):
                self.clock.seconds += pause
                self._send(ALONE)
            case Finish(flow):
                self.frames.append(flow)
                self._send(None)
            case wish:
                raise AssertionError(f"{wish} is granted by nobody")

    def turn_away(self) -> None:
        """Find no place for what must be finished."""
        self._throw(crowded())

    def cancel(self) -> Actor | None:
        """The caller goes. What must be finished goes on without it, as an actor of its own."""
        outer, inner = self.frames[:1], self.frames[1:]
        if not inner and isinstance(self.wish, Do):  # a thread is not stopped: its work is done and nobody hears of it
            with suppress(SoraError):
                self.does(self, self.wish)
        for flow in outer:
            flow.close()
        self.ended = True
        if not inner:
            return None
        orphan = copy(self)
        orphan.frames, orphan.unwanted, orphan.ended = inner, True, False
        return orphan

    def die(self) -> None:
        """The process ends here and now: nothing more is written, and the kernel frees what was held."""
        for flow in reversed(self.frames):
            flow.close()
        self.ended = True

    def _leave(self, send: Send) -> None:
        now, call = self.clock.seconds, send.call
        if call.paid and self.unwanted:
            self._throw(NotSentError("The caller had gone before the create left.", retryable=False))
            return
        way = self.sends(self, call)
        if way in ("unreachable", "untrusted"):
            self._throw(NotSentError("It could not be reached.", retryable=way == "unreachable"))
            return
        answer = self.receives(self, call, way) if self.receives else answered(self.world, call)
        reply = carried(self.world, answer) if answer is not None and way == "whole" else None
        self.flight = Flight(reply, now + ((answer and answer.after) or 0.0), now + send.patience)
        self.due = self.flight.given_up if self._is_lost(self.flight) else self.flight.ready

    def _come_back(self, flight: Flight) -> None:
        self.clock.seconds = max(self.clock.seconds, self.due)
        self.flight = None
        if self._is_lost(flight):
            self._throw(LostReplyError("The request left, and no whole answer came back."))
        else:
            self._send(flight.reply)

    @staticmethod
    def _is_lost(flight: Flight) -> bool:
        return flight.reply is None or flight.ready > flight.given_up

    def _send(self, value: Any) -> None:
        self._step(self.frames[-1].send, value)

    def _throw(self, error: Exception) -> None:
        self._step(self.frames[-1].throw, error)

    def _step(self, step: Callable[[Any], Wish], value: Any) -> None:
        while True:
            try:
                self.wish = step(value)
            except StopIteration as end:
                value, failed = end.value, False
            except Exception as error:
                value, failed = error, True
            else:
                self.due = self.clock.seconds + (self.wish.seconds if isinstance(self.wish, Sleep) else 0.0)
                return
            self.frames.pop()
            if not self.frames:
                self.ended, self.wish = True, None
                self.result, self.error = (None, value) if failed else (value, None)
                return
            step = self.frames[-1].throw if failed else self.frames[-1].send
