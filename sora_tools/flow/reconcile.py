"""Reconcile: what has become of a create whose fate is unknown. It is looked for, never sent.

Rules. A task is adopted only where it must be ours: its text is the same, nothing that the gateway echoes contradicts,
it was made inside the window that opens with the first send, and no other submission has it. What merely may be ours
is not adopted, and forbids sending again. Finding nothing proves nothing where the list may not show all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Any, Final, NamedTuple

from ..errors import (
    BusyError,
    ConfigurationError,
    EndpointUnavailableError,
    LostReplyError,
    SoraError,
    SubmissionUnknownError,
)
from ..events import NotRecorded
from ..ledger import Accepted, Claim, Elsewhere, Submission, Unsure
from ..prices import Price
from ..schemas import EchoedAction, RequestEcho, TaskPage, VideoTask
from .exchange import PASSING, Gateway, exchange, persist
from .wishes import Do, Flow, Sleep, Tell

CLOCK_SKEW: Final = 120.0
"""Seconds before the first send from which on a task may still be ours: gateways' clocks differ."""

UNSET_CLOCK: Final = 86_400.0
"""The same where the money hangs on its absence: dates without a zone, and clocks that nobody has set."""

RECONCILE: Final = 15.0
"""Seconds that looking for a submission takes at most."""

ASK_AGAIN: Final = 0.1
"""Seconds until another attempt's claim is asked for again."""

PAUSES: Final = (1.0, 2.0, 5.0)
"""Seconds before each further look: four looks over eight seconds, because tasks show up late."""

_LATEST: Final = 3600.0
"""Seconds after the last send up to which a task may be ours; one made later is somebody else's."""

_RECENT: Final = 100
_MOST_PAGES: Final = 100


class Search(NamedTuple):
    """What looking for a submission has shown.

    Attributes:
        task: The task, now the submission's in the ledger.
        served: Whether the gateway has a list at all, as far as its format has one.
        doubt: Why it may be there all the same, where it was not found.
    """

    task: VideoTask | None
    served: bool
    doubt: SoraError | None


def reconcile(
    gateway: Gateway, key: str, deadline: float, reason: SoraError | None = None, *, paged: bool = False
) -> Flow[VideoTask | None]:
    """Find out what has become of a submission.

    Args:
        gateway: Whom it was sent to.
        key: The submission's.
        deadline: When on the gateway's clock to give up.
        reason: Why its fate is unknown, where this call knows.
        paged: Whether all that its sends were answered with is web pages: where the gateway has no list either, no
            API is there, and nothing was accepted.

    Returns:
        Its task; None where the ledger knows that there is none.

    Raises:
        SubmissionUnknownError: It was not found.
        BusyError: A living attempt with this key went on all the time.
    """
    while True:
        match (yield Do(gateway.ledger.resume, (key,))):
            case Accepted(submission, task_id):
                return remembered(submission, task_id)
            case Unsure(claim, submission):
                with claim:
                    if submission.account != gateway.settings.account:
                        raise SubmissionUnknownError(
                            "This create was sent with another API key, and another account's list does not show it.",
                            hint=f"Do not create it again. Query it by its key, {key}, with the API key it went with.",
                            key=key,
                        )
                    margin = UNSET_CLOCK if paged else CLOCK_SKEW
                    found = yield from search(gateway, claim, submission, deadline, margin=margin)
                    if found.task is not None:
                        return found.task
                    if paged and not found.served:
                        yield from noted(gateway, claim, "refused")
                        return None
                    yield from noted(gateway, claim, "unsure")
                    raise unknown(reason or found.doubt, key)
            case Elsewhere():
                if gateway.clock() > deadline:
                    raise under_way(key)
                yield Sleep(ASK_AGAIN)
            case None:
                return None
            case other:
                raise ConfigurationError(f"The ledger answered {other!r} to resume().")


def search(
    gateway: Gateway, claim: Claim, submission: Submission, deadline: float, *, margin: float = CLOCK_SKEW
) -> Flow[Search]:
    """Look at the list for a task that must be ours, again and again, and adopt it.

    What a cool-down remembers is not asked: these looks decide over money.

    Args:
        gateway: Whom it was sent to.
        claim: The right to find out about it.
        submission: The submission.
        deadline: When on the gateway's clock to give up; 15 s from now at the latest.
        margin: Seconds before the first send from which on a task may be ours by a clock that nobody has set.
    """
    gateway = gateway.speaking(submission.dialect)
    if gateway.dialect.list(_RECENT, None) is None:  # which tells nothing of what the gateway took
        return Search(None, served=True, doubt=LostReplyError("This format has no list to look for it in"))
    deadline = min(deadline, gateway.clock() + RECONCILE)
    window = Window.of(submission, gateway)
    doubt: SoraError | None = None
    served = False
    for pause in (0.0, *PAUSES):
        if pause and gateway.clock() + pause > deadline:
            break
        if pause:
            yield Sleep(pause)
        try:
            tasks, doubt = yield from _recent(gateway, window, deadline, margin)
        except EndpointUnavailableError as error:
            if error.http_status not in PASSING and not served:
                return Search(None, served=False, doubt=None)
            doubt = error
            continue
        except SoraError as error:
            doubt = error
            continue
        served = True
        window = Window.of(submission, gateway)
        body = gateway.dialect.expected(submission.body)
        ours = {task.task_id: task for task in tasks if matches(task, body, window)}
        nearest = sorted(ours, key=lambda task_id: window.distance(ours[task_id]))
        task_id = yield Do(gateway.ledger.adopt, (claim, nearest))
        if task_id is not None:
            return Search(ours.get(task_id) or remembered(submission, task_id), served=True, doubt=None)
        for task in tasks if doubt is None else ():
            if may_match(task, body, window, margin):
                known = yield Do(gateway.ledger.of_task, (submission.gateway, task.task_id))
                if known is None or (known.adopted and task.task_id in ours):  # a twin may have adopted what is ours
                    doubt = LostReplyError(f"Task {task.task_id} in the list may be this one")
    return Search(None, served=True, doubt=doubt)


def _recent(
    gateway: Gateway, window: Window, deadline: float, margin: float
) -> Flow[tuple[list[VideoTask], SoraError | None]]:
    """What the list shows of the time since the window opened, and why that may not be all of it.

    Raises:
        SoraError: Not even its first page was answered.
    """
    tasks: list[VideoTask] = []
    before: str | None = None
    for _ in range(_MOST_PAGES):
        call = gateway.dialect.list(_RECENT, before)
        if call is None:
            break
        attempt = partial(exchange, gateway, replace(call, fresh=True), deadline)
        try:
            page: TaskPage = yield from persist(gateway, attempt, deadline)
        except SoraError as error:
            if before is None:
                raise
            return tasks, error
        tasks += page.tasks
        before = page.before
        if not page.whole:
            break
        if before is None or (_is_newest_first(page) and window.is_before(page.tasks[-1], margin)):
            return tasks, None
    return tasks, LostReplyError("The list goes on further than was read")


def _is_newest_first(page: TaskPage) -> bool:
    """Whether what comes after this page is older than it."""
    times = [task.created_at for task in page.tasks if task.created_at is not None]
    return bool(times) and page.tasks[-1].created_at is not None and times == sorted(times, reverse=True)


def noted(
    gateway: Gateway, claim: Claim, state: str, task: VideoTask | None = None, price: Price | None = None
) -> Flow[bool]:
    """Write down what came of a submission, and tell where that fails: a broken ledger hides no answer.

    Left ``intended`` by that, with nobody holding the claim, it counts as unsure. Returns whether it was written.
    """
    try:
        yield Do(gateway.ledger.settle, (claim, state, task and task.task_id, price))
    except Exception as error:  # noqa: BLE001  # whatever broke the ledger, what the gateway said is not lost
        yield Tell(NotRecorded(claim.key, task, error))
        return False
    return True


def under_way(key: str) -> BusyError:
    """The error for a create that another attempt is carrying out all the time."""
    return BusyError(
        "Another attempt with this key is still under way.",
        hint=f"Do not create it again. Query it by its key, {key}, in a minute.",
        charged="unknown",
        most_sends=1,
        key=key,
    )


def unknown(reason: SoraError | None, key: str) -> SubmissionUnknownError:
    """The error for a create that was sent, and not found."""
    if isinstance(reason, SubmissionUnknownError):
        return reason
    hint = (
        f"Do not create it again. Query it by its key, {key}, later: that looks for it at the gateway. If it stays "
        "unknown, ask the gateway's operator, and then resend or forget it."
    )
    if reason is None:
        return SubmissionUnknownError(
            "A create with this key was sent before, and what came of it is not known.", hint=hint, key=key
        )
    error = SubmissionUnknownError(
        f"The create was sent and its fate is unknown: {reason.message}",
        hint=hint,
        http_status=reason.http_status,
        request_id=reason.request_id,
        task_id=reason.task_id,
        key=key,
    )
    error.__cause__ = reason
    return error


def remembered(submission: Submission, task_id: str) -> VideoTask:
    """A task the ledger knows and nobody has looked at again."""
    echo = RequestEcho(prompt=submission.body.get("prompt"), operation=submission.body.get("operation"))
    return VideoTask(task_id=task_id, status="unknown", request=echo, dialect=submission.dialect)


# --- which task is ours ------------------------------------------------------------------------------------------


class Window(NamedTuple):
    """The time in which a submission's task was made.

    Attributes:
        since: When it was first to be sent, on this machine's clock, in seconds since the epoch.
        until: When it was last to be sent.
        skew: Seconds that the gateway's clock is ahead of ours, as its ``Date`` header tells.
    """

    since: float
    until: float
    skew: float = 0.0

    @classmethod
    def of(cls, submission: Submission, gateway: Gateway) -> Window:
        """A submission's window, by what is known of the gateway's clock now."""
        return cls(submission.intended_at, submission.sent_at, gateway.clock_skew)

    def holds(self, task: VideoTask) -> bool:
        """Whether it was made within, by the gateway's clock."""
        opens, closes = self.since + self.skew - CLOCK_SKEW, self.until + self.skew + _LATEST
        return task.created_at is not None and opens <= task.created_at.timestamp() <= closes

    def is_before(self, task: VideoTask, margin: float) -> bool:
        """Whether it was made so many seconds before, by whichever clock makes that harder to say."""
        opens = self.since + min(0.0, self.skew)
        return task.created_at is not None and task.created_at.timestamp() < opens - margin

    def distance(self, task: VideoTask) -> float:
        """Seconds between the last send and its making."""
        return abs(task.created_at.timestamp() - self.until - self.skew) if task.created_at else _LATEST


def matches(task: VideoTask, body: Mapping[str, Any], window: Window) -> bool:
    """Whether a listed task must be what this body made.

    The text must be the same; what the gateway echoes of the rest must not contradict; a missing echo of the text
    and a missing date never match.
    """
    echo = task.request
    if echo is None or not window.holds(task):
        return False
    for name in ("operation", "width", "height", "n_frames", "n_variants"):
        seen = getattr(echo, name)
        if seen is not None and seen != body.get(name, seen):
            return False
    if body.get("operation") == "storyboard":
        return bool(echo.actions) and list(_moments(body["actions"])) == list(_echoed(echo.actions))
    return echo.prompt is not None and _plain(echo.prompt) == _plain(str(body.get("prompt", "")))


def may_match(task: VideoTask, body: Mapping[str, Any], window: Window, margin: float = CLOCK_SKEW) -> bool:
    """Whether a listed task cannot be told from what this body made: only another text, or an earlier date, tells."""
    if window.is_before(task, margin):
        return False
    echo = task.request or RequestEcho()
    if echo.prompt is not None and not _alike(echo.prompt, str(body.get("prompt", ""))):
        return False
    mine, seen = list(_moments(body.get("actions", ()))), list(_echoed(echo.actions))
    return not seen or not mine or all(map(_alike, seen, mine))


def _alike(seen: str, mine: str) -> bool:
    """Whether a text that is seen may be mine: gateways cut, quote, escape and add, and lose what is beyond ASCII."""

    def letters(text: str) -> str:
        return "".join(filter(str.isalnum, re.sub(r"<[^<>]*>", "", _plain(text))))

    def ascii_letters(text: str) -> str:
        return "".join(character for character in letters(text) if character.isascii())

    if _may_be_cut(letters(seen), letters(mine)):
        return True
    is_mangled = not mine.isascii() and all(character < "\u0100" or character == "\ufffd" for character in seen)
    return is_mangled and _may_be_cut(ascii_letters(seen), ascii_letters(mine))


def _may_be_cut(one: str, other: str) -> bool:
    """Whether the shorter of two texts is what is left of the other one, cut at an end or in the middle, or thinned."""
    short, long = sorted((one, other), key=len)
    if short in long:
        return True
    ahead = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(short, long, strict=False)))
    if long.endswith(short[ahead:]):
        return True
    rest = iter(long)
    return 2 * len(short) >= len(long) and all(letter in rest for letter in short)


def _moments(actions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for action in sorted(actions, key=lambda action: float(action["time"])):
        yield _plain(str(action["description"]))


def _echoed(actions: Sequence[EchoedAction]) -> Iterator[str]:
    for action in sorted(actions, key=lambda action: action.time or (action.frame_index or 0)):
        yield _plain(action.description)


def _plain(text: str) -> str:
    """A text as all the ways in which gateways normalise it leave it: entities, compatibility forms, case, spaces."""
    from html import unescape  # noqa: PLC0415  # its table of entities is large, and this is rare

    return " ".join(unicodedata.normalize("NFKC", unescape(text)).casefold().split())
