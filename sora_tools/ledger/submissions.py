"""What a ledger holds and what it answers: values, and the methods that any ledger has."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from ..errors import masked
from ..limits import Check
from ..prices import Price

State = Literal["intended", "accepted", "refused", "unsure"]
Outcome = Literal["succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Submission:
    """One create as the ledger knows it.

    Args:
        key: The caller's name for it; the same key never pays twice.
        gateway: Origin of the gateway.
        dialect: Format it was sent in.
        body: The request body, as :func:`recorded` keeps it.
        digest: Fingerprint of the whole body, see :func:`digest`.
        account: Fingerprint of the API key it was sent with.
        thread: The conversation it belongs to, where there is one.
        state: What is known of its fate.
        task_id: The gateway's task, once accepted.
        intended_at: When it was first to be sent, in seconds since the epoch.
        sent_at: When it was last to be sent.
        outcome: How the task ended, once that was seen.
        files: Where its videos were saved, once all of them were.
        reuses: The key of the earlier submission whose task this one was given, where it was.
        adopted: Whether its task was found in the gateway's list, so that another one's answer may still claim it.
        seen: Its task as it was last told of, where the format tells of it once and cannot be asked.
        price: What it costs, where that was known when it was sent; twice that where it may be paid for twice.
    """

    key: str
    gateway: str
    dialect: str
    body: Mapping[str, Any] = field(repr=False)
    digest: str = ""
    account: str = ""
    thread: str | None = None
    state: State = "intended"
    task_id: str | None = None
    intended_at: float = 0.0
    sent_at: float = 0.0
    outcome: Outcome | None = None
    files: tuple[str, ...] = ()
    reuses: str | None = None
    adopted: bool = False
    seen: Mapping[str, Any] | None = field(default=None, repr=False)
    price: Price | None = None

    @property
    def unresolved(self) -> bool:
        """Whether it is not known if the gateway has it."""
        return self.state in ("intended", "unsure")

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: refused, ended without a video, or saved to files."""
        return self.state == "refused" or self.outcome in ("failed", "cancelled") or bool(self.files)


def digest(body: Mapping[str, Any]) -> str:
    """A fingerprint of a request body: sha256 of its JSON with sorted members."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def recorded(body: Mapping[str, Any], secret: str = "") -> dict[str, Any]:
    """A request body as the ledger keeps it: data URLs as their sha256, the API key masked."""

    def kept(value: Any) -> Any:
        match value:
            case str():
                if found := re.match(r"(?i)data:[\w.+/-]*;base64,", value):
                    return f"{found[0]}sha256:{sha256(value.encode(errors='replace')).hexdigest()}"
                return masked(value, secret)
            case Mapping():
                return {kept(name): kept(member) for name, member in value.items()}
            case list() | tuple():
                return [kept(member) for member in value]
        return value

    return {name: kept(member) for name, member in body.items()}


class Claim(AbstractContextManager["Claim"]):
    """The right to send one submission, or to find out about it.

    Leaving it gives the right back, and so does losing it: a caller who was cancelled may never have come to hold it.

    Args:
        key: The submission's.
        free: Gives the right back; is called once, and waits for nothing but other steps of the ledger.
    """

    def __init__(self, key: str, free: Callable[[], None]) -> None:
        self.key = key
        self._free = free

    @property
    def held(self) -> bool:
        """Whether it has not been given back yet."""
        return self._free is not _nothing

    def handed_over(self) -> Claim:
        """The same right, for somebody else to give back; this one is as good as given back."""
        free, self._free = self._free, _nothing
        return Claim(self.key, free)

    def __exit__(self, *_: object) -> None:
        free, self._free = self._free, _nothing
        free()

    def __del__(self) -> None:
        self.__exit__()


def _nothing() -> None:
    """What giving a claim back a second time does."""


class New(NamedTuple):
    """Never sent, or refused: it may be sent now."""

    claim: Claim
    submission: Submission


class Unsure(NamedTuple):
    """Sent once with no known answer: it must be looked for, not sent."""

    claim: Claim
    submission: Submission


class Accepted(NamedTuple):
    """The gateway has it as this task."""

    submission: Submission
    task_id: str


class Repeated(NamedTuple):
    """Its conversation has submitted the very same before, and that one is unresolved or has not ended."""

    earlier: Submission


class Taken(NamedTuple):
    """The key belongs to another request, or to another gateway."""

    submission: Submission


class Elsewhere(NamedTuple):
    """A living attempt holds the claim: ask again shortly."""


Begun: TypeAlias = New | Unsure | Accepted | Repeated | Taken | Elsewhere


class Ledger(Protocol):
    """What a client asks of its ledger. Every method is atomic and durable, and may be called from any thread.

    A method that cannot do its work raises :class:`~sora_tools.ConfigurationError`.
    """

    def begin(self, submission: Submission, repeat: bool = False, check: Check | None = None) -> Begun:
        """Write the submission down as intended, or say what is known of its key already.

        Args:
            submission: What is about to be sent.
            repeat: Whether it may repeat what its conversation has submitted before.
            check: Is asked where it would be written down, and then only; what it raises goes to the caller, and
                nothing is written. It is told the ``Spent`` of the same account at the same gateway in the currency
                of ``submission.price``, that one included; zeros where it has none. What was refused costs nothing,
                nor does what was given another one's task. Two submissions at once must not be told the same: ask
                within the transaction that writes. Given where the client bounds what is spent, or must not send
                this at all.
        """
        ...

    def resume(self, key: str) -> Unsure | Accepted | Elsewhere | None:
        """The right to find out about an unresolved submission. None where there is none to find out about."""
        ...

    def send_again(
        self, claim: Claim, account: str, dialect: str, price: Price | None = None, check: Check | None = None
    ) -> None:
        """Write down that it is about to be sent once more, with which account's key, and in which format.

        Args:
            claim: The submission's.
            account: Fingerprint of the API key it is sent with now.
            dialect: Format it is sent in now.
            price: What it costs now that it may be paid for once more; None leaves that as it is.
            check: As for ``begin``, with this price counted.
        """
        ...

    def settle(self, claim: Claim, state: State, task_id: str | None = None, price: Price | None = None) -> None:
        """Write down what came of it, and give the claim back.

        Only an accepted task is written down under a claim that has been given back, and nothing erases one.

        Args:
            claim: The submission's.
            state: What is known of its fate.
            task_id: The gateway's task.
            price: What it costs now that its last send was not accepted; None leaves that as it is.
        """
        ...

    def follow(self, claim: Claim, task_id: str, seen: Mapping[str, Any]) -> None:
        """Write down as accepted, with its task as it is now told of, and keep the claim: more is to come."""
        ...

    def under_way(self, key: str) -> bool:
        """Whether a living attempt holds the claim on this key."""
        ...

    def adopt(self, claim: Claim, task_ids: Sequence[str]) -> str | None:
        """Settle as accepted with the first of these tasks that no other submission has; None when all are taken."""
        ...

    def reuse(self, submission: Submission, earlier: str) -> bool:
        """Write down that this submission was given the task of the one with the key ``earlier``.

        False where it has a fate of its own by now: its key was sent meanwhile.
        """
        ...

    def end(self, gateway: str, task_id: str, outcome: Outcome, files: Sequence[str] = ()) -> None:
        """Write down how a task ended and where its videos were saved, if it is a submission's."""
        ...

    def find(self, key: str) -> Submission | None:
        """The submission with this key."""
        ...

    def named(self, gateway: str, name: str) -> Submission | None:
        """The submission that became the task of this id at this gateway, or else the one with this key."""
        ...

    def of_task(self, gateway: str, task_id: str) -> Submission | None:
        """The submission that became this task."""
        ...

    def of_thread(
        self, gateway: str, account: str, thread: str | None, limit: int, before: str | None = None
    ) -> list[Submission]:
        """A conversation's submissions, newest first, from the one after the key or task id ``before``.

        None is where submissions outside any conversation belong. After one that is not the conversation's comes none.
        """
        ...

    def submissions(self) -> list[Submission]:
        """All of them, newest first."""
        ...

    def forget(self, key: str) -> bool:
        """Take a submission out, with those that were given its task.

        False where there is none, or where a living attempt holds its claim.
        """
        ...
