"""Looks: what has become of a task. They cost nothing, so they are shared, repeated and bounded by deadlines.

Rules. "Not in the list" is not failure: a task just accepted may be invisible for a while. A wait ends within a
second of its deadline and hands back what it saw last. One list request answers for everybody who waits.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from copy import copy
from typing import Any, Final

from ..errors import (
    Charged,
    EndpointUnavailableError,
    InvalidRequestError,
    NotSentError,
    SoraError,
    TaskFailedError,
    TaskNotFoundError,
    UnreadableReplyError,
    WaitTimeoutError,
)
from ..events import NotRecorded, Retrying, Seen
from ..ledger import Submission
from ..schemas import TaskPage, VideoTask, shortened
from ..wire import typeid_time
from .exchange import Gateway, ask, exchange, persist
from .listen import heard, paid
from .reconcile import RECONCILE, reconcile
from .wishes import ALONE, NO_NEWS, Do, Flow, Look, Silence, Sleep, Tell

INVISIBLE: Final = 60.0
"""Seconds after its creation during which a task may be missing from the gateway's answers."""

UNVOUCHED: Final = 10.0
"""The same for an id that neither the ledger nor a time within it vouches for."""

LAST_LOOK: Final = 0.8
"""Seconds after the deadline that the last look may take."""

_PAGE: Final = 100
_MOST_PAGES: Final = 100
_SHARED_PAGES: Final = 5
_LONGEST_TIMEOUT: Final = 10_000_000

_TICK: Final = 0.05
"""Seconds a sweep naps at most, because a wait that joins may be due before all others."""

_GATHERING: Final = 0.25
"""Seconds from one round to the next at least: those who join in them are answered together."""

SHORTEST: Final = 1.0
"""Seconds between two looks of one wait at least, before jitter; half of it where the gateway asks for that."""

_LONGEST, _SHARE_OF_AGE = 15.0, 0.05


def query(gateway: Gateway, task_id: str, patience: float | None = None) -> Flow[VideoTask]:
    """Look a task up once, by its task id or its ledger key.

    Raises:
        TaskNotFoundError: The gateway shows no such task, and it is not one accepted a moment ago.
        SubmissionUnknownError: It is the key of a submission whose fate is unknown.
    """
    deadline = gateway.clock() + (gateway.patience if patience is None else patience)
    gateway, task_id, submission = yield from identify(gateway, task_id, deadline)
    vouched = _vouched(gateway, submission)
    try:
        task = yield from look(gateway, task_id, deadline)
    except TaskNotFoundError as error:
        error.about(charged=vouched)
        if error.charged == "no" or gateway.now() >= _visible(task_id, submission, 0.0):
            raise
        return _not_shown_yet(task_id, gateway)
    except SoraError as error:
        error.about(task_id=task_id, charged=vouched)
        raise
    yield Tell(Seen(task))
    if submission is not None:
        yield from note_end(gateway, task, submission)
    return task


def listed(
    gateway: Gateway, limit: int = 10, before: str | None = None, patience: float | None = None
) -> Flow[TaskPage]:
    """One page of the gateway's list, newest first.

    Args:
        gateway: Whom to ask.
        limit: Tasks on the page, 1 to 100.
        before: The task id after which the page begins; None for the newest.
        patience: Seconds it may take in all.

    Raises:
        InvalidRequestError: ``limit`` is out of bounds, or ``before`` cannot be an id.
        EndpointUnavailableError: The format, or the gateway, has no list.
    """
    if not 1 <= limit <= _PAGE:
        raise InvalidRequestError(f"limit: {limit!r} was given; 1 to {_PAGE} is allowed.")
    call = gateway.dialect.list(limit, None if before is None else checked_id(before))
    if call is None:
        raise EndpointUnavailableError(f"The {gateway.dialect.name} format has no list.", charged="no", retryable=False)
    return (yield from ask(gateway, call, gateway.clock() + (gateway.patience if patience is None else patience)))


def wait(gateway: Gateway, task_id: str, timeout: float) -> Flow[VideoTask]:
    """Look at once and then again until the task has ended.

    Each look is due after 5 % of the wait's age (1 to 15 s, jittered), or when the gateway asks for it. What may
    pass, a lost answer or a busy gateway, is waited out under the deadline.

    Args:
        gateway: Whom to ask.
        task_id: A task id or ledger key.
        timeout: Seconds after which to give up, 0 or more.

    Returns:
        The task, ended in whatever way.

    Raises:
        WaitTimeoutError: It had not ended by then; carries the task as last seen.
        SubmissionUnknownError: It is the key of a submission whose fate is unknown.
        TaskNotFoundError: The gateway shows no such task, and it is not one accepted a moment ago.
        EndpointUnavailableError: The gateway serves neither list nor look.
        NotSentError: It was not reached once within the retry budget.
    """
    start = gateway.clock()
    deadline = start + checked_timeout(timeout)
    home = gateway
    gateway, task_id, submission = yield from identify(gateway, task_id, deadline + LAST_LOOK)
    visible = _visible(task_id, submission, gateway.now() + UNVOUCHED)
    vouched = _vouched(gateway, submission)
    last: VideoTask | None = None
    trouble: SoraError | None = None
    pause = 0.0
    while True:
        left = max(0.0, deadline - gateway.clock())
        news = yield from _news(gateway, home, task_id, min(pause, left), left + LAST_LOOK)
        if news is ALONE:
            try:
                news = yield from look(gateway, task_id, deadline + LAST_LOOK)
            except TaskNotFoundError as error:
                trouble = error.about(charged=vouched)
                if error.charged == "no" or gateway.now() >= visible:
                    raise
            except SoraError as error:
                trouble = error.about(task_id=task_id, charged=vouched)
                if not error.retryable or isinstance(error, EndpointUnavailableError):
                    raise
        if isinstance(news, SoraError):
            trouble = copy(news).about(task_id=task_id, charged=vouched)  # each wait raises one of its own
            yield Tell(Retrying(trouble, _pause(gateway, gateway.clock() - start, last)))
        if isinstance(news, VideoTask):
            last, trouble = news, None
            yield Tell(Seen(news))
            if news.ended:
                if submission is not None:
                    yield from note_end(gateway, news, submission)
                return news
        never_reached = last is None and isinstance(trouble, NotSentError)  # it is down, and not merely away
        if gateway.clock() >= (min(deadline, start + gateway.retry.budget) if never_reached else deadline):
            charged = yield from _charged(gateway, task_id, last, vouched)
            raise _timed_out(task_id, timeout, last, trouble, charged)
        pause = _pause(gateway, gateway.clock() - start, last)


def _news(
    gateway: Gateway, home: Gateway, task_id: str, pause: float, patience: float
) -> Flow[VideoTask | SoraError | Silence]:
    """What the shared looks say. They are made in the configured format; tasks of another are looked at alone."""
    if gateway is home:
        news: VideoTask | SoraError | Silence = yield Look(task_id, pause, patience)
        return news
    yield Sleep(pause)
    return ALONE


def _vouched(gateway: Gateway, submission: Submission | None) -> Charged | None:
    """What is known of a task's money whatever a look says. None where what is heard of the task tells that, too."""
    if gateway.dialect.tells_once:
        return None
    return "yes" if submission is not None else "unknown"


def _charged(gateway: Gateway, task_id: str, last: VideoTask | None, vouched: Charged | None) -> Flow[Charged]:
    """What is known of a task's money at the end of a wait: what a gateway has shown exists."""
    if vouched is None:
        return (yield from paid(gateway, task_id))
    return vouched if last is None else "yes"


def successful(task: VideoTask) -> VideoTask:
    """The task, if there is a video.

    Raises:
        TaskFailedError: It ended without one; carries the task and says why.
    """
    if task.status == "succeeded" or not task.ended:
        return task
    failure = task.failure
    why = f": {failure.message.rstrip('. ')}" if failure and failure.message else ""
    blocked = failure is not None and failure.kind.startswith("moderation")
    raise TaskFailedError(
        f"The task ended as {task.status} ({failure.kind if failure else 'unknown'}){why}.",
        hint="Word the prompt differently before creating it again." if blocked else "",
        task=task,
        task_id=task.task_id,
    )


def look(gateway: Gateway, task_id: str, deadline: float) -> Flow[VideoTask]:
    """One task, by whichever of the gateway's routes shows it.

    Raises:
        TaskNotFoundError: None of them does.
        EndpointUnavailableError: None of them is served.
    """
    if gateway.dialect.tells_once:
        return (yield from heard(gateway, task_id))
    ways = (_by_id, _in_list) if gateway.dialect.looks_by_id else (_in_list, _by_id)
    problem: SoraError | None = None
    for way in ways:
        try:
            task = yield from way(gateway, task_id, deadline)
        except TaskNotFoundError as error:
            problem = error
        except EndpointUnavailableError as error:
            problem = problem or error
        except InvalidRequestError:  # proxies have lists that want to be asked otherwise
            if problem is None:
                raise
        except UnreadableReplyError as error:
            if way is ways[0]:
                raise
            problem = problem if isinstance(problem, TaskNotFoundError) else error
        else:
            return task
    raise (problem or TaskNotFoundError("This format cannot look tasks up.")).about(task_id=task_id)


def _in_list(gateway: Gateway, task_id: str, deadline: float) -> Flow[VideoTask]:
    before = None
    for _ in range(_MOST_PAGES):
        call = gateway.dialect.list(_PAGE, before)
        if call is None:
            raise EndpointUnavailableError(f"The {gateway.dialect.name} format has no list.", charged="no")
        page = yield from ask(gateway, call, deadline)
        for task in page.tasks:
            if task.task_id == task_id:
                return task
        before = page.before
        if not page.whole:
            break
        if before is None:
            raise TaskNotFoundError(
                f"No task {task_id} is in the gateway's list.",
                hint="Check the task id; a task just created may take a minute to show.",
            )
    raise TaskNotFoundError(
        f"No task {task_id} is in what could be read of the gateway's list, which goes on.",
        hint="It may be further down: delete old tasks at the gateway, or look there.",
        retryable=True,
    )


def _by_id(gateway: Gateway, task_id: str, deadline: float) -> Flow[VideoTask]:
    call = gateway.dialect.look(task_id)
    if call is None:
        raise EndpointUnavailableError("The gateway has no route for a single task.", charged="no")
    if gateway.dialect.looks_by_id:
        return (yield from ask(gateway, call, deadline))

    def attempt() -> Flow[VideoTask]:
        try:
            return (yield from exchange(gateway, call, deadline))
        except EndpointUnavailableError as error:  # most gateways have no such route
            error.most_sends = 1
            raise

    gateway.cool_down.check("look")
    try:
        return (yield from persist(gateway, attempt, deadline))
    except EndpointUnavailableError as error:
        gateway.cool_down.begin("look", error)
        raise


def identify(gateway: Gateway, name: str, deadline: float) -> Flow[tuple[Gateway, str, Submission | None]]:
    """The task id that a task id or ledger key stands for, and its submission where the ledger knows it.

    With them comes the gateway, speaking the format that the submission was sent in.

    A key whose submission is unresolved is reconciled first.

    Raises:
        InvalidRequestError: It cannot be either.
        SubmissionUnknownError: It is the key of a submission that was sent, never answered, and not found.
    """
    if not name.isprintable():
        checked_id(name)
    try:
        known: Submission | None = yield Do(gateway.ledger.named, (gateway.settings.origin, name))
    except SoraError as error:
        raise error.about(charged="unknown") from error.__cause__
    if known is None:
        return gateway, checked_id(name), None
    if known.gateway != gateway.settings.origin:
        raise InvalidRequestError(f"key: {name!r} was given; it belongs to {known.gateway}.", key=name)
    if known.task_id is not None:
        return gateway.speaking(known.dialect), known.task_id, known
    if gateway.speaking(known.dialect).dialect.tells_once:
        return gateway.speaking(known.dialect), known.key, known
    task = yield from reconcile(gateway, name, min(deadline, gateway.clock() + RECONCILE))
    if task is None:
        known = (yield Do(gateway.ledger.find, (name,))) or known
        refused = known.state == "refused"
        said = "This submission was refused, so there is no task." if refused else "The ledger does not know its task."
        raise TaskNotFoundError(said, key=name, charged="no" if refused else "unknown")
    return gateway.speaking(known.dialect), task.task_id, known


def note_end(gateway: Gateway, task: VideoTask, submission: Submission | None = None) -> Flow[None]:
    """Have the ledger remember how a submission's task ended, and where its videos are; telling where it cannot.

    Args:
        gateway: Whose task it is.
        task: The task, its videos' files with it where they were saved.
        submission: The submission, where it is known: what it says already is not written again.
    """
    saved = [str(generation.file.absolute()) for generation in task.generations if generation.file is not None]
    due = [generation for generation in task.generations if generation.url is not None]
    files = saved if len(saved) == len(due) else []
    if not task.ended or (submission is not None and submission.outcome == task.status and not files):
        return
    try:
        yield Do(gateway.ledger.end, (gateway.settings.origin, task.task_id, task.status, files))
    except Exception as error:  # noqa: BLE001  # the task is known all the same; only a note of it is missing
        yield Tell(NotRecorded(submission.key if submission else task.task_id, task, error))


def checked_timeout(seconds: float) -> float:
    """A timeout that clocks and threads can carry.

    Raises:
        InvalidRequestError: It is not a number of seconds from 0 to 10,000,000.
    """
    given: object = seconds
    if isinstance(given, int | float) and 0 <= given <= _LONGEST_TIMEOUT:
        return given
    raise InvalidRequestError(f"timeout: {seconds!r} was given; 0 to {_LONGEST_TIMEOUT:,} seconds are allowed.")


def checked_id(given: str) -> str:
    """A task id or key that may go into a path.

    Raises:
        InvalidRequestError: It has characters no gateway uses, or would climb out of the path.
    """
    if not re.fullmatch(r"[A-Za-z0-9._:=@+-]{1,512}", given) or not given.strip("."):
        raise InvalidRequestError(
            f"task_id: {shortened(repr(given), 80)} was given; letters, digits and ._:=@+- are allowed.",
            hint="Use the task_id that create answered.",
        )
    return given


def _visible(task_id: str, submission: Submission | None, unvouched: float) -> float:
    """Until when, in seconds since the epoch, the task may be missing; ``unvouched`` where nothing tells its age."""
    created = typeid_time(task_id)
    if submission is not None:
        return submission.sent_at + INVISIBLE
    return unvouched if created is None else created.timestamp() + INVISIBLE


def _not_shown_yet(task_id: str, gateway: Gateway) -> VideoTask:
    return VideoTask(
        task_id=task_id,
        status="queued",
        queue_message="Accepted a moment ago; the gateway does not show it yet.",
        dialect=gateway.dialect.name,
    )


def _timed_out(
    task_id: str, timeout: float, last: VideoTask | None, trouble: SoraError | None, charged: Charged
) -> SoraError:
    if last is None and trouble is not None:
        return trouble
    if last is None:
        return WaitTimeoutError(
            f"No look at the task was answered in {timeout:g} s.",
            hint="Look again later with the same task id, and do not create it again.",
            charged=charged,
            task_id=task_id,
        )
    progress = "" if last.progress is None else f", {last.progress:.0%} done"
    since = "" if trouble is None else f" Later looks failed: {trouble.message}"
    return WaitTimeoutError(
        f"The task had not ended after {timeout:g} s ({last.status}{progress}).{since}",
        hint="It goes on at the gateway: look again later with the same task id, and do not create it again.",
        charged=charged,
        task=last,
        task_id=task_id,
    )


def _pause(gateway: Gateway, age: float, last: VideoTask | None) -> float:
    """Seconds until the next look is due."""
    if last is not None and last.poll_after is not None:
        return max(SHORTEST / 2, last.poll_after)
    return min(_LONGEST, max(SHORTEST, age * _SHARE_OF_AGE)) * (0.9 + 0.2 * gateway.jitter())


class Board:
    """Who waits for news of which task, and when the next look is due. Safe for threads; does no I/O."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: dict[str, list[tuple[float, Future[Any]]]] = {}
        self._swept = False

    def ask(self, task_id: str, pause: float) -> tuple[Future[Any], bool]:
        """A future for the news, and whether the caller has to set a sweep going."""
        mine: Future[Any] = Future()
        with self._lock:
            self._asked.setdefault(task_id, []).append((self._clock() + pause, mine))
            leads, self._swept = not self._swept, True
        return mine, leads

    def forget(self, task_id: str, mine: Future[Any]) -> None:
        """This one does not wait any more."""
        with self._lock:
            left = [ask for ask in self._asked.get(task_id, ()) if ask[1] is not mine]
            if left:
                self._asked[task_id] = left
            else:
                self._asked.pop(task_id, None)

    def due(self) -> float | None:
        """Seconds until someone is due. None, and the sweep is over, when nobody waits."""
        with self._lock:
            if not self._asked:
                self._swept = False
                return None
            return max(0.0, min(due for asks in self._asked.values() for due, _ in asks) - self._clock())

    def wanted(self) -> set[str]:
        """The tasks somebody waits for."""
        with self._lock:
            return set(self._asked)

    def overdue(self) -> set[str]:
        """The tasks somebody's look is due for."""
        with self._lock:
            now = self._clock()
            return {task_id for task_id, asks in self._asked.items() if any(due <= now for due, _ in asks)}

    def answer(self, task_id: str, news: VideoTask | SoraError | Silence) -> None:
        """Tell everybody who waits for this task."""
        with self._lock:
            asks = self._asked.pop(task_id, [])
        for _, future in asks:
            try:
                future.set_result(news)
            except InvalidStateError:  # that wait was cancelled
                continue

    def give_up(self) -> None:
        """The sweep died: nobody may be left waiting for it."""
        with self._lock:
            self._swept = False
        for task_id in self.wanted():
            self.answer(task_id, NO_NEWS)


def sweep(gateway: Gateway, board: Board) -> Flow[None]:
    """Answer everybody who waits, as long as anybody waits."""
    try:
        while (nap := board.due()) is not None:
            if nap > 0:
                yield Sleep(min(nap, _TICK))
            else:
                yield from _round(gateway, board)
                if board.wanted():
                    yield Sleep(_GATHERING)
    except BaseException:
        board.give_up()
        raise


def _round(gateway: Gateway, board: Board) -> Flow[None]:
    wanted = board.wanted()
    worth = 2 if gateway.dialect.looks_by_id else 1
    before = None
    for _ in range(_SHARED_PAGES if len(wanted) >= worth else 0):
        call = gateway.dialect.list(_PAGE, before)
        if call is None:
            break
        try:
            gateway.cool_down.check("list")
            page = yield from exchange(gateway, call, gateway.clock() + gateway.settings.timeout)
        except SoraError as error:
            if error.retryable and not isinstance(error, EndpointUnavailableError):
                for task_id in wanted:
                    board.answer(task_id, error)
                return
            if isinstance(error, EndpointUnavailableError) and error.most_sends is None:
                gateway.cool_down.begin("list", error)
            break
        for task in page.tasks:
            if task.task_id in wanted:
                wanted.discard(task.task_id)
                board.answer(task.task_id, task)
        before = page.before
        if before is None or not wanted:
            break
    for task_id in wanted & board.overdue():
        board.answer(task_id, ALONE)
