"""Create: the one call that costs money.

Rules. What is about to be sent is in the ledger first. What came of it is in the ledger before anyone hears of it.
Only what was provably not accepted is sent again. A create whose fate is unknown is looked for, never repeated.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pydantic import ValidationError

from ..errors import (
    BusyError,
    EndpointUnavailableError,
    InvalidRequestError,
    LostReplyError,
    NotSentError,
    SoraError,
    SubmissionUnknownError,
)
from ..events import NotRecorded, Submitted
from ..ledger import Accepted, Claim, Elsewhere, New, Submission, Taken, Unsure
from ..schemas import EchoedAction, RequestEcho, TaskPage, VideoRequest, VideoTask, broken_rules, shortened
from .exchange import PASSING, Gateway, exchange, persist
from .wishes import Do, Finish, Flow, Sleep, Tell

CLOCK_SKEW: Final = 120.0
"""Seconds before the first send from which on a task may still be ours: gateways' clocks differ."""

_RECENT: Final = 100
_MOST_PAGES: Final = 5
_ASK_AGAIN: Final = 0.1
_ASK_QUERY: Final = "Do not create it again; look at the gateway's task list for it."


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
                f"A {type(request).__name__} was given as the request.",
                hint="Nothing was sent. Give a VideoRequest, a mapping of its fields, or a prompt.",
            )
    try:
        return VideoRequest.model_validate(given)
    except ValidationError as error:
        rules = "; ".join(broken_rules(error))
        raise InvalidRequestError(f"The request breaks a rule: {rules}.", hint="Nothing was sent.") from None


def create(
    gateway: Gateway,
    request: VideoRequest,
    key: str | None = None,
    *,
    thread: str | None = None,
    patience: float | None = None,
) -> Flow[VideoTask]:
    """Start one paid job, once.

    Args:
        gateway: Whom to ask.
        request: What to make.
        key: The caller's name for this submission; the same key gives the same task without a request. Random when
            not given.
        thread: The conversation it belongs to.
        patience: Seconds it may take in all.

    Returns:
        The task, as the gateway first answered it.

    Raises:
        SoraError: Every one that says ``charged="no"`` means that nothing was accepted.
    """
    if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise InvalidRequestError(
            f"key: {shortened(repr(key), 80)} was given; 1 to 255 visible ASCII characters are allowed.",
            hint="Nothing was sent.",
        )
    if request.model is None and gateway.settings.model is not None:
        request = request.model_copy(update={"model": gateway.settings.model})
    deadline = gateway.clock() + (gateway.patience if patience is None else patience)
    submission = Submission(
        key=key or os.urandom(16).hex(),
        gateway=gateway.settings.origin,
        dialect=gateway.dialect.name,
        body=request.body(),
        thread=thread,
    )
    attempts = _Attempts(gateway, request, submission, deadline)
    try:
        task, reused = yield from persist(gateway, attempts.one_more, deadline, paid=True)
    except SoraError as error:
        found = yield from attempts.verdict(error.about(key=submission.key))
        task, reused = found, False
    yield Tell(Submitted(submission.key, task, reused))
    return task


@dataclass(slots=True)
class _Attempts:
    """The sends of one submission. ``suspect`` once an answer left it open whether the gateway has it."""

    gateway: Gateway
    request: VideoRequest
    submission: Submission
    deadline: float
    suspect: bool = False

    def one_more(self) -> Flow[tuple[VideoTask, bool]]:
        """Send it if that is safe. The task, and whether it had been accepted before."""
        while (outcome := (yield self._apart(self._attempt()))) is None:
            if self.gateway.clock() > self.deadline:
                raise BusyError("Another attempt with this key is still under way.", charged="unknown", most_sends=1)
            yield Sleep(_ASK_AGAIN)
        task, reused = outcome
        return task, reused

    def verdict(self, error: SoraError) -> Flow[VideoTask]:
        """After the last send: what is known of the money, where an answer had left it open."""
        if self.suspect and not isinstance(error, SubmissionUnknownError):
            try:
                found: VideoTask | None = yield self._apart(self._last_look(error))
            except NotSentError as crowded:
                raise _unknown(error) from crowded
            if found is not None:
                return found
        cooling = error.most_sends is not None  # what a cool-down answered must not renew it
        if isinstance(error, EndpointUnavailableError) and not cooling:
            self.gateway.cool_down.begin("create", error)
        if self.suspect and error.charged == "unknown" and not isinstance(error, SubmissionUnknownError):
            raise _unknown(error) from error
        raise error

    def _apart(self, flow: Flow[Any]) -> Finish:
        return Finish(flow, max(0.0, self.deadline - self.gateway.clock()))

    def _attempt(self) -> Flow[tuple[VideoTask, bool] | None]:
        """One try, from the note that it is meant to the note of what came of it. None: another one is under way."""
        match (yield Do(self.gateway.ledger.begin, (self.submission,))):
            case Elsewhere():
                return None
            case Accepted(submission, task_id):
                return _remembered(submission, task_id), True
            case Taken():
                raise InvalidRequestError(
                    f"key: {self.submission.key!r} was given; it belongs to another request.",
                    hint="Nothing was sent. Give each request a key of its own.",
                )
            case Unsure(claim) if not self.suspect:
                with claim:
                    yield self._note(claim, "unsure")
                    raise SubmissionUnknownError(
                        "An earlier create with this key was sent and never answered.",
                        hint=_ASK_QUERY,
                        key=self.submission.key,
                    )
            case New(claim, since) | Unsure(claim, since):
                with claim:
                    task, _ = (yield from self._look(claim, since)) if self.suspect else (None, False)
                    return (task or (yield from self._send(claim))), False
        raise AssertionError("unreachable")

    def _send(self, claim: Claim) -> Flow[VideoTask]:
        try:
            if not self.suspect:
                self.gateway.cool_down.check("create")
            call = self.gateway.dialect.create(self.request, self.submission.key)
            task = yield from exchange(self.gateway, call, self.deadline)
        except SoraError as error:
            error.about(key=self.submission.key)
            yield self._note(claim, "refused" if error.charged == "no" and not self.suspect else "unsure")
            if error.charged == "no":
                raise
            if isinstance(error, EndpointUnavailableError) and error.task_id is None:  # a web page
                self.suspect = True
                raise
            raise _unknown(error) from error
        try:
            yield self._note(claim, "accepted", task.task_id)
        except Exception as error:  # noqa: BLE001  # whatever broke the ledger, the task is paid for and not lost
            yield Tell(NotRecorded(self.submission.key, task, error))
        return task

    def _look(self, claim: Claim, since: float) -> Flow[tuple[VideoTask | None, bool]]:
        """Look for a task that may be ours. The task, now ours in the ledger; and whether the list is served.

        What a cool-down remembers is not asked: this look decides over money.
        """
        try:
            tasks, doubt = yield from self._recent(since)
        except EndpointUnavailableError as error:
            if error.http_status not in PASSING:
                return None, False
            tasks, doubt = [], error
        except SoraError as error:
            tasks, doubt = [], error
        ours = {task.task_id: task for task in tasks if matches(task, self.submission.body, since)}
        task_id = yield Do(self.gateway.ledger.adopt, (claim, tuple(ours)))
        if task_id is not None:
            return ours[task_id], True
        for task in tasks if doubt is None else ():
            if may_match(task, self.submission.body, since):
                known = yield Do(self.gateway.ledger.of_task, (self.submission.gateway, task.task_id))
                if known is None:
                    doubt = LostReplyError(f"Task {task.task_id} in the list may be this one")
        if doubt is not None:
            yield self._note(claim, "unsure")
            raise _unknown(doubt.about(key=self.submission.key)) from doubt
        return None, True

    def _recent(self, since: float) -> Flow[tuple[list[VideoTask], SoraError | None]]:
        """What the list shows of the time after ``since``, and why that may not be all of it.

        Raises:
            SoraError: Not even its first page was answered.
        """
        tasks: list[VideoTask] = []
        before: str | None = None
        for _ in range(_MOST_PAGES):
            call = self.gateway.dialect.list(_RECENT, before)
            if call is None:
                raise LostReplyError("This format has no list to look for it in.")
            attempt = partial(exchange, self.gateway, call, self.deadline)
            try:
                page: TaskPage = yield from persist(self.gateway, attempt, self.deadline)
            except SoraError as error:
                if before is None:
                    raise
                return tasks, error
            tasks += page.tasks
            before = page.before
            found = any(matches(task, self.submission.body, since) for task in page.tasks)
            if before is None or found or (page.tasks and _is_older(page.tasks[-1], since)):
                return tasks, None
        return tasks, LostReplyError("The list goes on further than was read")

    def _last_look(self, error: SoraError) -> Flow[VideoTask | None]:
        match (yield Do(self.gateway.ledger.begin, (self.submission,))):
            case Accepted(submission, task_id):
                return _remembered(submission, task_id)
            case New(claim, since) | Unsure(claim, since):
                with claim:
                    task, served = yield from self._look(claim, since)
                    if task is None:
                        error.about(charged="unknown" if served else "no")
                        yield self._note(claim, "unsure" if served else "refused")
                    return task
        error.about(charged="unknown")
        return None

    def _note(self, claim: Claim, state: str, task_id: str | None = None) -> Do:
        return Do(self.gateway.ledger.settle, (claim, state, task_id))


def _unknown(error: SoraError) -> SubmissionUnknownError:
    return SubmissionUnknownError(
        f"The create was sent and its fate is unknown: {error.message}",
        hint=_ASK_QUERY,
        http_status=error.http_status,
        request_id=error.request_id,
        task_id=error.task_id,
        key=error.key,
    )


def _remembered(submission: Submission, task_id: str) -> VideoTask:
    """A task the ledger knows and nobody has looked at again."""
    echo = RequestEcho(prompt=submission.body.get("prompt"), operation=submission.body.get("operation"))
    return VideoTask(task_id=task_id, status="unknown", request=echo, dialect=submission.dialect)


def matches(task: VideoTask, body: Mapping[str, Any], since: float) -> bool:
    """Whether a listed task may be what this body made after ``since`` (seconds since the epoch).

    The text must be the same; what the gateway echoes of the rest must not contradict; a missing echo of the text
    and a missing date never match.
    """
    echo = task.request
    if echo is None or task.created_at is None or _is_older(task, since):
        return False
    for name in ("operation", "width", "height", "n_frames", "n_variants"):
        seen = getattr(echo, name)
        if seen is not None and seen != body.get(name):
            return False
    if body.get("operation") == "storyboard":
        return bool(echo.actions) and list(_moments(body["actions"])) == list(_echoed(echo.actions))
    return echo.prompt is not None and _plain(echo.prompt) == _plain(str(body.get("prompt", "")))


def may_match(task: VideoTask, body: Mapping[str, Any], since: float) -> bool:
    """Whether a listed task cannot be told from what this body made: only another text, or an earlier date, tells."""
    if _is_older(task, since):
        return False
    echo = task.request or RequestEcho()
    if echo.prompt is not None and not _alike(echo.prompt, str(body.get("prompt", ""))):
        return False
    mine, seen = list(_moments(body.get("actions", ()))), list(_echoed(echo.actions))
    return not seen or not mine or all(map(_alike, seen, mine))


def _alike(one: str, other: str) -> bool:
    """Whether two texts may be one: gateways cut, quote, escape and normalise, but keep the letters in their order."""
    from html import unescape  # noqa: PLC0415  # its table of entities is large, and this is rare

    def letters(text: str) -> str:
        plain = unicodedata.normalize("NFKC", re.sub(r"<[^<>]*>", "", unescape(text))).casefold()
        return "".join(filter(str.isalnum, plain))

    first, second = letters(one), letters(other)
    return first.startswith(second) or second.startswith(first)


def _is_older(task: VideoTask, since: float) -> bool:
    return task.created_at is not None and task.created_at.timestamp() < since - CLOCK_SKEW


def _moments(actions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for action in sorted(actions, key=lambda action: float(action["time"])):
        yield _plain(str(action["description"]))


def _echoed(actions: Sequence[EchoedAction]) -> Iterator[str]:
    for action in sorted(actions, key=lambda action: action.time or (action.frame_index or 0)):
        yield _plain(action.description)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())
