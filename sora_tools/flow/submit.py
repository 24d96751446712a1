"""Create: the one call that costs money.

Rules. What is about to be sent is in the ledger first. What came of it is in the ledger before anyone hears of it.
Only what was provably not accepted is sent again. A create whose fate is unknown is looked for, never repeated, unless
the gateway is known to honour the key that goes with it, or the caller says so; one that a web page answered is sent
again where the list, looked at first, shows no task that may have come of it. What the operator's limits refuse is
refused in the step that would have written it down; what sends nothing new is not held against them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from pydantic import ValidationError

from ..errors import (
    BusyError,
    ConfigurationError,
    EndpointUnavailableError,
    InvalidRequestError,
    SoraError,
    SubmissionUnknownError,
    TaskNotFoundError,
)
from ..events import Adjusted, NotRecorded, Retrying, Submitted
from ..ledger import Accepted, Claim, Elsewhere, New, Repeated, State, Submission, Taken, Unsure, digest, recorded
from ..limits import Check, price_and_check
from ..prices import Price, paid_for_again
from ..schemas import VideoRequest, VideoTask, broken_rules, shortened
from ..wire import Call
from .exchange import Gateway, exchange, persist
from .listen import FIRST_WORD, heard, listen
from .look import look, note_end
from .reconcile import ASK_AGAIN, RECONCILE, UNSET_CLOCK, noted, reconcile, remembered, search, under_way, unknown
from .wishes import Aside, Do, Finish, Flow, Sleep, Tell

Repeat = Literal["reuse", "new"]

_GLANCE: Final = 10.0
"""Seconds that a look at an earlier, identical submission takes at most."""

_OVER: Final = 3600.0
"""Seconds after which a task that the gateway does not show is over, and not merely late to show."""


def requested(request: VideoRequest | Mapping[str, Any] | str | None, fields: Mapping[str, Any]) -> VideoRequest:
    """A request from whatever the caller has: a VideoRequest, a mapping, a prompt, fields, or several of them.

    Raises:
        InvalidRequestError: A rule is broken; the message says which field, what was given and what is allowed.
    """
    match request:
        case VideoRequest() if not fields:
            return request
        case VideoRequest():
            given = {**request.model_dump(exclude_unset=True), **fields}
        case str():
            given = {"prompt": request, **fields}
        case None:
            given = dict(fields)
        case Mapping():
            given = {**request, **fields}
        case _:
            raise InvalidRequestError(
                f"request: {type(request).__name__} was given.",
                hint="Nothing was sent. Give a VideoRequest, a mapping of its fields, or a prompt.",
            )
    try:
        return VideoRequest.model_validate(given)
    except ValidationError as error:
        rules = "; ".join(broken_rules(error))
        raise InvalidRequestError(f"The request breaks a rule: {rules}.", hint="Nothing was sent.") from None


def with_model(request: VideoRequest, own: str | None) -> VideoRequest:
    """The request with the gateway's own model where it names none."""
    if request.model is not None or own is None:
        return request
    return request.model_copy(update={"model": own})


def create(
    gateway: Gateway,
    request: VideoRequest,
    key: str | None = None,
    *,
    thread: str | None = None,
    repeat: Repeat = "reuse",
    resend: bool = False,
    patience: float | None = None,
) -> Flow[VideoTask]:
    """Start one paid job, once.

    Args:
        gateway: Whom to ask.
        request: What to make.
        key: The caller's name for this submission; the same key gives the same task without a request. Random when
            not given.
        thread: The conversation it belongs to.
        repeat: What to do where the conversation has submitted the very same before, under another key, and that is
            unresolved or has not ended: ``"reuse"`` its task, or send a ``"new"`` one.
        resend: Whether to send again what was sent with this key before and never answered. That may pay twice.
        patience: Seconds it may take in all.

    Returns:
        The task: as the gateway answered, or as last known where it was accepted before (``unknown`` until it is looked
        at).

    Raises:
        SubmissionUnknownError: It was sent, its fate is unknown, and it was not found.
        SoraError: Every one that says ``charged="no"`` means that nothing was accepted.
    """
    if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise InvalidRequestError(
            f"key: {shortened(repr(key), 80)} was given; 1 to 255 visible ASCII characters are allowed.",
            hint="Nothing was sent.",
        )
    if repeat not in ("reuse", "new"):
        raise InvalidRequestError(
            f"repeat: {repeat!r} was given; 'reuse' and 'new' are allowed.", hint="Nothing was sent."
        )
    if not str(thread).isprintable():
        raise InvalidRequestError(
            f"thread: {shortened(ascii(thread), 80)} was given; printable text is allowed.", hint="Nothing was sent."
        )
    request = with_model(request, gateway.settings.model)
    body = request.body()
    submission = Submission(
        key=key or os.urandom(16).hex(),
        gateway=gateway.settings.origin,
        dialect=gateway.dialect.name,
        body=recorded(body, gateway.settings.secret),
        digest=digest(body),
        account=gateway.settings.account,
        thread=thread,
    )
    names = dict.fromkeys((gateway.dialect.name, *(dialect.name for dialect in gateway.fallback)))
    formats = [gateway.speaking(name) for name in names]
    start = gateway.clock()
    for speaking in formats:
        price, check = price_and_check(gateway.limits, gateway.price, request, speaking.dialect.made(request))
        submission = replace(submission, dialect=speaking.dialect.name, price=price)
        deadline = gateway.clock() + gateway.patience + RECONCILE if patience is None else start + patience
        attempts = _Attempts(
            speaking,
            request,
            submission,
            deadline,
            check=check,
            is_named=key is not None,
            may_repeat=repeat == "new",
            resend=resend,
        )
        try:
            task, reused = yield from _submitted(attempts)
        except EndpointUnavailableError as error:
            if error.charged != "no" or speaking is formats[-1]:
                raise
            yield Tell(Retrying(error, 0.0))
            continue
        yield Tell(Submitted(submission.key, task, reused))
        return task
    raise AssertionError("unreachable")


def _submitted(attempts: _Attempts) -> Flow[tuple[VideoTask, bool]]:
    """The task in one format, and whether it had been accepted before."""
    gateway, key = attempts.gateway, attempts.submission.key
    try:
        task, reused = yield from persist(gateway, attempts.one_more, attempts.last_send, paid=not gateway.honoured)
    except SoraError as error:
        task = yield from attempts.verdict(error.about(key=key))
        reused = not attempts.sent
    for sentence in () if reused else gateway.dialect.adjusted(attempts.request):
        yield Tell(Adjusted(key, sentence))
    return task, reused


@dataclass(slots=True)
class _Attempts:
    """The sends of one submission.

    Attributes:
        check: What the ledger asks before it writes down what may be paid for; None where there is nothing to ask.
        is_named: Whether the caller gave the key, so that an earlier call may have sent it.
        may_repeat: Whether it may be sent though its conversation has submitted the very same.
        sent: Whether this call has sent it.
        paged: Whether a send was answered with a web page, so that it is looked for before each further one.
        lost: Whether a send was answered in another way that leaves its fate unknown, now or before this call.
        clear: Whether the ledger, when last asked, knew of nothing sent with this key that may have been accepted.
        cooled: Whether a cool-down answered in the gateway's place.
        passed: The keys of identical submissions that were found to be over.
    """

    gateway: Gateway
    request: VideoRequest
    submission: Submission
    deadline: float
    check: Check | None
    is_named: bool
    may_repeat: bool
    resend: bool
    sent: bool = False
    paged: bool = False
    lost: bool = False
    clear: bool = False
    cooled: bool = False
    passed: set[str] = field(default_factory=set)

    @property
    def _sender(self) -> tuple[str, str]:
        """With which account's key, and in which format, it is sent."""
        return self.submission.account, self.submission.dialect

    @property
    def _turned_away(self) -> State:
        """What the submission is after a send that was provably not accepted."""
        return "unsure" if self.paged or self.lost else "refused"

    @property
    def last_send(self) -> float:
        """When on the clock the last send is answered or given up: what is left is for looking for it."""
        return self.deadline - RECONCILE

    def one_more(self) -> Flow[tuple[VideoTask, bool]]:
        """Send it if that is safe. The task, and whether it had been accepted before."""
        while True:
            match (yield Finish(self._attempt(), max(0.0, self.last_send - self.gateway.clock()))):
                case VideoTask() as task:
                    return task, not self.sent
                case Accepted(submission, task_id):
                    return remembered(submission, task_id), True
                case Repeated(earlier):
                    known = yield from self._earlier(earlier)
                    if known is not None:
                        if (yield from self._reuse(earlier)):
                            return known, True
                        continue
                    # an end that is named twice could not be written down; one refused is begun anew by its caller
                    self.may_repeat = earlier.task_id is not None and earlier.key in self.passed
                    self.passed.add(earlier.key)
                case Unsure():
                    self.lost = True
                    raise unknown(None, self.submission.key)
                case Elsewhere():
                    if self.gateway.dialect.tells_once and self.is_named:
                        return (yield from heard(self.gateway, self.submission.key)), True
                    if self.gateway.clock() > self.last_send:
                        raise under_way(self.submission.key)
                    yield Sleep(ASK_AGAIN)

    def verdict(self, error: SoraError) -> Flow[VideoTask]:
        """After the last send: the task where it can be found, and else what is known of the money."""
        is_ours = error.key == self.submission.key
        if is_ours and (self.lost or self.paged):
            try:
                found = yield from self._found(error)
            except (SubmissionUnknownError, BusyError):
                raise
            except Exception as trouble:  # a ledger that breaks now does not make it any less unknown
                raise unknown(error, self.submission.key) from trouble
            if found is not None:
                return found
        elif is_ours and not self.clear and error.charged == "no":
            known = yield from self._sent_before()
            if isinstance(known, VideoTask):
                return known
            if known:
                error.charged = "unknown"
                error.hint = f"{error.hint} {unknown(None, self.submission.key).hint}".strip()
        if isinstance(error, EndpointUnavailableError) and not self.cooled:  # or it would renew itself
            self.gateway.cool_down.begin("create", error)
        raise error

    def _sent_before(self) -> Flow[VideoTask | bool]:
        """What an earlier call with this key has come to: its task, or whether it may have been accepted."""
        try:
            earlier: Submission | None = yield Do(self.gateway.ledger.find, (self.submission.key,))
        except Exception:  # noqa: BLE001  # a ledger that cannot be read knows nothing of a key that was given
            return self.is_named
        if earlier is None or earlier.digest != self.submission.digest:
            return False
        return earlier.state != "refused" if earlier.task_id is None else remembered(earlier, earlier.task_id)

    def _found(self, error: SoraError) -> Flow[VideoTask | None]:
        """The task, looked for. None where the gateway has no list, and answered nothing but web pages."""
        reason = None if isinstance(error, SubmissionUnknownError) else error
        found = yield from reconcile(self.gateway, self.submission.key, self.deadline, reason, paged=not self.lost)
        if found is None and self.lost:
            raise unknown(error, self.submission.key)
        if found is None:
            error.charged = "no"
        return found

    def _attempt(self) -> Flow[VideoTask | Accepted | Repeated | Unsure | Elsewhere]:
        """One try, from the note that it is meant to the note of what came of it."""
        try:
            begun = yield Do(self.gateway.ledger.begin, (self.submission, self.may_repeat, self.check))
        except ConfigurationError as error:
            if not self.sent:
                error.hint = f"Nothing was sent now. {error.hint}"
            raise
        self.clear = isinstance(begun, New | Taken)
        match begun:
            case Taken(other):
                where = "" if other.gateway == self.submission.gateway else f" to {other.gateway}"
                what = f"task {other.task_id}" if other.task_id else f"{other.state}"
                raise InvalidRequestError(
                    f"key: {self.submission.key!r} was given; it belongs to another request{where} ({what}).",
                    hint="Nothing was sent. Give each request a key of its own.",
                )
            case New(claim, submission) | Unsure(claim, submission):
                with claim:
                    if isinstance(begun, New) and not self.paged:
                        return (yield from self._send(claim))
                    if self.gateway.honoured and (submission.account, submission.dialect) == self._sender:
                        self.lost = self.lost or not self.paged
                        yield Do(self.gateway.ledger.send_again, (claim, *self._sender, None, None))
                        return (yield from self._send(claim))
                    if self.paged or self.resend:
                        return (yield from self._search_and_send(claim, submission))
            case Accepted() | Repeated() | Elsewhere():
                pass
            case other:
                raise ConfigurationError(f"The ledger answered {other!r} to begin().")
        return begun  # type: ignore[no-any-return]  # what a wish is granted with is Any

    def _search_and_send(self, claim: Claim, submission: Submission) -> Flow[VideoTask]:
        """Send again what may have been accepted, unless the list shows it, or cannot rule it out."""
        result = yield from search(self.gateway, claim, submission, self.last_send, margin=UNSET_CLOCK)
        if result.task is not None:
            return result.task
        if result.doubt is not None and not self.resend:
            self.lost = True
            yield from noted(self.gateway, claim, "unsure")
            raise unknown(result.doubt, self.submission.key)
        lost = self.lost or not self.paged
        before = price = check = None
        if lost or result.doubt is not None:  # it may be paid for a second time
            before, check = submission.price, self.check
            price = paid_for_again(before, self.submission.price)
        yield Do(self.gateway.ledger.send_again, (claim, *self._sender, price, check))
        self.lost = lost
        return (yield from self._send(claim, before))

    def _send(self, claim: Claim, before: Price | None = None) -> Flow[VideoTask]:
        """One send. ``before``: what it cost without this one, where that was counted beside an earlier one."""
        try:
            if not (self.paged or self.lost):
                self._check_cool_down()
            call = self.gateway.dialect.create(self.request, self.submission.key)
            self.sent = True
            if call.streamed:
                claim = claim.handed_over()  # to the listener, or back to us where it never came to listen
                return (yield from self._listened(claim, call, before))
            task = yield from exchange(self.gateway, call, self.last_send)
        except SoraError as error:
            if self.gateway.honoured and error.http_status == 409:  # the first send with this key is still under way
                busy = BusyError(
                    error.message,
                    charged="unknown",
                    retry_after=error.retry_after,
                    http_status=409,
                    request_id=error.request_id,
                    key=self.submission.key,
                )
                yield from self._note_failure(claim, busy, before)
                raise busy from error
            yield from self._note_failure(claim, error.about(key=self.submission.key), before)
            raise
        yield from noted(self.gateway, claim, "accepted", task)
        return task

    def _listened(self, claim: Claim, call: Call[VideoTask], before: Price | None) -> Flow[VideoTask]:
        """The task as soon as its stream has named it. Until then its key stands for it."""
        listening = listen(self.gateway, claim, call, self._turned_away, before)
        task = yield Aside(listening, FIRST_WORD)
        return task or VideoTask(task_id=claim.key, status="queued", dialect=self.gateway.dialect.name)

    def _check_cool_down(self) -> None:
        try:
            self.gateway.cool_down.check("create")
        except EndpointUnavailableError:
            self.cooled = True
            raise

    def _note_failure(self, claim: Claim, error: SoraError, before: Price | None) -> Flow[None]:
        is_free = error.charged == "no"
        state = self._turned_away if is_free else "unsure"
        if not (yield from noted(self.gateway, claim, state, price=before if is_free else None)):
            error.most_sends = 1  # what cannot be written down is not sent again
        if isinstance(error, EndpointUnavailableError) and error.charged == "unknown" and error.task_id is None:
            self.paged = True
        elif error.charged != "no":
            self.lost = True
            if not self.gateway.honoured:
                error.most_sends = 1

    def _earlier(self, earlier: Submission) -> Flow[VideoTask | None]:
        """What became of an identical one. None where it has ended or was refused, so that a new one may be sent.

        Raises:
            SubmissionUnknownError: Nobody knows. Its key is the earlier one's.
        """
        if earlier.task_id is None:
            return (yield from reconcile(self.gateway, earlier.key, self.deadline))
        if earlier.outcome is not None:
            return None
        try:
            glance = min(self.last_send, self.gateway.clock() + _GLANCE)
            task = yield from look(self.gateway.speaking(earlier.dialect), earlier.task_id, glance)
        except TaskNotFoundError:
            is_late = self.gateway.now() - earlier.sent_at < _OVER
            return remembered(earlier, earlier.task_id) if is_late else None
        except SoraError:
            return remembered(earlier, earlier.task_id)
        yield from note_end(self.gateway, task, earlier)
        return None if task.ended else task

    def _reuse(self, earlier: Submission) -> Flow[bool]:
        """Whether its task is this key's too. Not so where another caller with this key has sent it meanwhile."""
        try:
            return bool((yield Do(self.gateway.ledger.reuse, (self.submission, earlier.key))))
        except Exception as error:  # noqa: BLE001  # the task is known and handed over; only a note of it is missing
            yield Tell(NotRecorded(self.submission.key, None, error))
            return True
