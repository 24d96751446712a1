"""Every submission, written down before it is sent.

A submission is ``intended`` before its request leaves, and ``accepted``, ``refused`` or ``unsure`` once the answer
is read. Rule: who sends holds the key's claim, and a row left ``intended`` with nobody holding the claim counts as
unsure, so a crash needs no tidying up. A task belongs to one submission at most.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from .errors import ConfigurationError

State = Literal["intended", "accepted", "refused", "unsure"]


@dataclass(frozen=True, slots=True)
class Submission:
    """One create as the ledger knows it.

    Args:
        key: The caller's name for it; the same key never pays twice.
        gateway: Origin of the gateway.
        dialect: Format it was sent in.
        body: The request body.
        thread: The conversation it belongs to, where there is one.
        state: What is known of its fate.
        task_id: The gateway's task, once accepted.
        intended_at: When it was first to be sent, in seconds since the epoch.
    """

    key: str
    gateway: str
    dialect: str
    body: Mapping[str, Any] = field(repr=False)
    thread: str | None = None
    state: State = "intended"
    task_id: str | None = None
    intended_at: float = 0.0


class Claim(AbstractContextManager["Claim"]):
    """The right to send one submission. Leaving it gives the right back."""

    def __init__(self, key: str, free: Callable[[str], None]) -> None:
        self.key = key
        self._free = free

    def __exit__(self, *_: object) -> None:
        self._free(self.key)


class New(NamedTuple):
    """Never sent, or refused: it may be sent now."""

    claim: Claim
    since: float


class Unsure(NamedTuple):
    """Sent ``since`` then with no known answer: it must be looked for, not sent."""

    claim: Claim
    since: float


class Accepted(NamedTuple):
    """The gateway has it as this task."""

    submission: Submission
    task_id: str


class Taken(NamedTuple):
    """The key belongs to another request, or to another gateway."""

    submission: Submission


class Elsewhere(NamedTuple):
    """A living attempt holds the claim: ask again shortly."""


Begun: TypeAlias = New | Unsure | Accepted | Taken | Elsewhere


class Ledger(Protocol):
    """What a client asks of its ledger. Every method is atomic and may be called from any thread."""

    def begin(self, submission: Submission) -> Begun:
        """Write the submission down as intended, or say what is known of its key already."""
        ...

    def settle(self, claim: Claim, state: State, task_id: str | None = None) -> None:
        """Write down what came of it."""
        ...

    def adopt(self, claim: Claim, task_ids: Sequence[str]) -> str | None:
        """Settle as accepted with the first of these tasks that no submission has yet; None when all are taken."""
        ...

    def find(self, key: str) -> Submission | None:
        """The submission with this key."""
        ...

    def of_task(self, gateway: str, task_id: str) -> Submission | None:
        """The submission that became this task."""
        ...

    def of_thread(self, thread: str | None, limit: int, before: str | None = None) -> list[Submission]:
        """A conversation's submissions, newest first, from the one after the key or task id ``before``.

        None is where submissions outside any conversation belong.
        """
        ...


class MemoryLedger:
    """A ledger that lives as long as the process."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: dict[str, Submission] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._claims: dict[str, Claim] = {}
        self._adopted: set[str] = set()

    def begin(self, submission: Submission) -> Begun:
        key = submission.key
        with self._lock:
            row = self._rows.get(key)
            if row is not None and row.state == "refused" and key not in self._claims:
                row = None
            if row is not None and (row.gateway, row.body) != (submission.gateway, submission.body):
                return Taken(row)
            if row is not None and row.task_id is not None:
                return Accepted(row, row.task_id)
            if key in self._claims:
                return Elsewhere()
            since = self._clock() if row is None else row.intended_at
            claim = self._claims[key] = Claim(key, self._release)
            self._rows[key] = replace(submission, state="intended", task_id=None, intended_at=since)
            return New(claim, since) if row is None else Unsure(claim, since)

    def settle(self, claim: Claim, state: State, task_id: str | None = None) -> None:
        with self._lock:
            self._settle(claim.key, state, task_id)

    def adopt(self, claim: Claim, task_ids: Sequence[str]) -> str | None:
        with self._lock:
            gateway = self._rows[claim.key].gateway
            task_id = next((task_id for task_id in task_ids if (gateway, task_id) not in self._keys), None)
            if task_id is not None:
                self._adopted.add(claim.key)
                self._settle(claim.key, "accepted", task_id)
            return task_id

    def find(self, key: str) -> Submission | None:
        with self._lock:
            return self._rows.get(key)

    def of_task(self, gateway: str, task_id: str) -> Submission | None:
        with self._lock:
            key = self._keys.get((gateway, task_id))
            return None if key is None else self._rows.get(key)

    def of_thread(self, thread: str | None, limit: int, before: str | None = None) -> list[Submission]:
        with self._lock:
            rows = [row for row in reversed(self._rows.values()) if row.thread == thread]
        start = (
            next((index + 1 for index, row in enumerate(rows) if before in (row.key, row.task_id)), 0) if before else 0
        )
        return rows[start : start + limit]

    def _settle(self, key: str, state: State, task_id: str | None) -> None:
        row = self._rows[key]
        if task_id is not None:
            holder = self._keys.get((row.gateway, task_id), key)
            if holder != key and holder in self._adopted:  # a direct answer beats an adoption
                self._rows[holder] = replace(self._rows[holder], state="unsure", task_id=None)
            self._keys[row.gateway, task_id] = key
        self._rows[key] = replace(row, state=state, task_id=task_id)

    def _release(self, key: str) -> None:
        with self._lock:
            self._claims.pop(key, None)


class ForgetfulLedger(MemoryLedger):
    """No ledger: remembers a submission only while it is being sent (``ledger="off"``)."""

    def _release(self, key: str) -> None:
        with self._lock:
            self._claims.pop(key, None)
            row = self._rows.pop(key, None)
            if row is not None and row.task_id is not None:
                self._keys.pop((row.gateway, row.task_id), None)


def ledger(given: Ledger | str | None = None) -> Ledger:
    """The ledger that ``ledger=`` or ``SORA_LEDGER`` asks for.

    Args:
        given: ``"memory"`` (the default), ``"off"``, or an object with the methods of :class:`Ledger`.

    Raises:
        ConfigurationError: Any other name.
    """
    wanted = os.environ.get("SORA_LEDGER", "memory") if given is None else given
    if not isinstance(wanted, str):
        return wanted
    if wanted == "memory":
        return MemoryLedger()
    if wanted == "off":
        return ForgetfulLedger()
    source = "SORA_LEDGER" if given is None else "ledger"
    raise ConfigurationError(f"{source}={wanted!r} was given; allowed are 'memory', 'off', or a ledger object.")
