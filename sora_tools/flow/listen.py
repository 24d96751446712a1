"""Listen: a create whose answer streams for minutes, and is all that the gateway ever says of its task.

Rule: it goes on beside whoever asked, and holds the submission's claim as long as it lasts: a claim that nobody holds
means that nobody listens any more. What it hears is in the ledger before anyone is told. A stream that breaks off is
an unknown fate: it is never asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import Charged, LostReplyError, SoraError, SubmissionUnknownError, TaskNotFoundError, masked
from ..events import NotRecorded, Seen
from ..ledger import Claim, State, Submission
from ..prices import Price
from ..schemas import VideoTask
from ..wire import Call, Listener
from .exchange import Gateway, answered, resolved
from .reconcile import noted
from .wishes import Do, Flow, Ready, Said, Stream, Tell

FIRST_WORD: Final = 20.0
"""Seconds a create waits for the task's name, or for its end, before it answers with the ledger key in their place."""

_SILENCE: Final = 300.0
"""Seconds without a byte after which a stream counts as broken off: comments, too, show that somebody is there."""

_LONGEST: Final = 3600.0
"""Seconds without an event after which it does, whatever else comes."""


def listen(
    gateway: Gateway, claim: Claim, call: Call[VideoTask], turned_away: State, before: Price | None = None
) -> Flow[VideoTask]:
    """Send a create and follow its answer to the end.

    Args:
        gateway: Whom to ask.
        claim: The right to send it, which is this conversation's own now.
        call: The create.
        turned_away: What its submission is where this send is provably not accepted: an earlier one may have been.
        before: What it costs without this send, where that was counted beside an earlier one.

    Returns:
        The task, ended.

    Raises:
        SoraError: It was refused, or broke off before it had named its task.
    """
    with claim:
        listener: Listener | None = None
        try:
            call, reply = yield from answered(
                gateway, call, lambda call: Stream(call, gateway.settings.timeout, _SILENCE)
            )
            listener = gateway.dialect.listener(claim.key, reply)
            if listener is None:
                task = resolved(gateway, call.read(reply))
            else:
                task = yield from _followed(gateway, claim, listener)
        except SoraError as error:
            error.without(gateway.settings.secret)
            if listener is None or not listener.accepted:
                if error.charged == "no":
                    yield from noted(gateway, claim, turned_away, price=before)
                else:
                    yield from noted(gateway, claim, "unsure")
                raise
            task = _unquoted(gateway, listener.task).model_copy(
                update={"status": "unknown", "queue_message": error.message}
            )
        yield from _accepted(gateway, claim, task)
    yield Ready(task)
    return task


def _followed(gateway: Gateway, claim: Claim, listener: Listener) -> Flow[VideoTask]:
    last: VideoTask | None = None
    while not listener.over:
        try:
            data = yield Said(_LONGEST)
        except LostReplyError:  # cut off: what was said by then decides
            break
        if data is None:
            break
        task = _unquoted(gateway, listener.feed(masked(data, gateway.settings.secret)))
        if not listener.accepted or (last is not None and _same(task, last)):
            continue
        last = task
        yield from _kept(gateway, claim, task)
        yield Tell(Seen(task))
        if listener.named:
            yield Ready(task)
    return _unquoted(gateway, listener.finish())


def _unquoted(gateway: Gateway, task: VideoTask) -> VideoTask:
    """The task without the key, should the gateway have quoted it, in one piece or in several."""
    said = task.model_dump_json()
    clean = masked(said, gateway.settings.secret)
    return resolved(gateway, task if clean == said else VideoTask.model_validate_json(clean))


def _same(one: VideoTask, other: VideoTask) -> bool:
    """Whether nothing has changed that anybody waits for."""
    return (one.task_id, one.status, one.progress) == (other.task_id, other.status, other.progress)


def _kept(gateway: Gateway, claim: Claim, task: VideoTask) -> Flow[None]:
    try:
        yield Do(gateway.ledger.follow, (claim, task.task_id, _told(task)))
    except Exception as error:  # noqa: BLE001  # whatever broke the ledger, the answer is read on
        yield Tell(NotRecorded(claim.key, task, error))


def _accepted(gateway: Gateway, claim: Claim, task: VideoTask) -> Flow[None]:
    """Write down what came of it all, and give the claim back."""
    try:
        yield Do(gateway.ledger.follow, (claim, task.task_id, _told(task)))
        if task.ended:
            yield Do(gateway.ledger.end, (gateway.settings.origin, task.task_id, task.status))
        yield Do(gateway.ledger.settle, (claim, "accepted", task.task_id))
    except Exception as error:  # noqa: BLE001  # as above
        yield Tell(NotRecorded(claim.key, task, error))


def _told(task: VideoTask) -> Mapping[str, Any]:
    return task.model_dump(mode="json", exclude={"raw"})


def paid(gateway: Gateway, name: str) -> Flow[Charged]:
    """What has been heard of a task's money."""
    row: Submission | None = yield Do(gateway.ledger.named, (gateway.settings.origin, name))
    return "unknown" if row is None or row.task_id is None else "yes"


def heard(gateway: Gateway, name: str) -> Flow[VideoTask]:
    """A task as the ledger has heard of it.

    Raises:
        TaskNotFoundError: It has not; or, with charged="no", its create was refused.
        SubmissionUnknownError: The stream that told of it broke off, or the process that read it has gone.
    """
    row: Submission | None = yield Do(gateway.ledger.named, (gateway.settings.origin, name))
    if row is None:
        raise TaskNotFoundError(
            f"The {gateway.dialect.name} format tells of a task once, and this ledger has not heard of {name}.",
            hint="Ask where it was created.",
        )
    if row.state == "refused":
        raise TaskNotFoundError("This submission was refused, so there is no task.", key=row.key, charged="no")
    seen = VideoTask.model_validate(row.seen) if row.seen is not None else None
    if seen is not None and seen.ended:
        return seen
    if (yield Do(gateway.ledger.under_way, (row.key,))):
        return seen or VideoTask(task_id=row.task_id or row.key, status="queued", dialect=row.dialect)
    row = (yield Do(gateway.ledger.find, (row.key,))) or row  # it may have ended between the two questions
    if row.seen is not None and (seen := VideoTask.model_validate(row.seen)).ended:
        return seen
    raise SubmissionUnknownError(
        "The answer that told of this create broke off, and its format says nothing twice.",
        hint="Do not create it again. Look for the video at the gateway.",
        charged="yes" if row.task_id else "unknown",
        task_id=row.task_id,
        key=row.key,
    )
