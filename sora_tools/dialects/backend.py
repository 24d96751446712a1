"""The Sora web backend's format, as relays serve it under ``/sora/backend/video_gen``.

Rule: every member of an answer may be absent, null or of another type; none of that loses a task. Only an answer
without the task's id is unreadable. ``succeeded`` is believed where there is an address to fetch a video from;
addresses that are paths at the gateway count, and are the flow's to resolve and check.

Source: the gateway page 创建视频 for what is sent; bodies of the web backend, printed by its clients, for what comes
back. Looking by id is a route of the web backend that no relay documents, so the list is asked first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from ..schemas import (
    FRAMES_PER_SECOND,
    MOST_VARIANTS,
    Failure,
    FailureKind,
    Generation,
    RequestEcho,
    TaskPage,
    TaskStatus,
    VideoRequest,
    VideoTask,
)
from ..wire import Call, Dialect, Reply, any_json, opened, poll_after, typeid_time, unreadable, worded
from .asking import segment
from .reading import (
    MOST_LISTED,
    RENDITIONS,
    carried,
    echoed_actions,
    expiry,
    failure,
    failure_kind,
    first_text,
    members,
    moderated,
    moment,
    names,
    number,
    objects,
    page,
    renditions,
    status_of,
    text,
    usable,
    whole,
    withheld,
)

Json = Mapping[str, Any]

PATH: Final = "/sora/backend/video_gen"
_LISTS: Final = ("task_responses", "tasks", "data")


class Backend(Dialect):
    """The documented format: ``dialect="backend"``."""

    name = "backend"
    looks_by_id = False

    def create(self, request: VideoRequest, key: str) -> Call[VideoTask]:
        """The paid call; ``key`` travels as ``Idempotency-Key``, whether or not the gateway reads it."""
        return Call("create", "POST", PATH, _created, body=request.body(), headers={"Idempotency-Key": key})

    def look(self, task_id: str) -> Call[VideoTask]:
        """One task by its id.

        Raises:
            InvalidRequestError: Nothing can have this id; in an address it would name another route.
        """
        return Call("look", "GET", f"{PATH}/{segment(task_id)}", partial(_looked, task_id))

    def list(self, limit: int, before: str | None) -> Call[TaskPage]:
        """One page of tasks, newest first; ``before`` is the ``before`` of the page seen last."""
        query = {"limit": limit, "before": before}
        return Call("list", "GET", PATH, partial(_listed, limit, before), query=query)


def _created(reply: Reply) -> VideoTask:
    named = list(_named(opened(reply, "create")))
    found = next((raw for raw in named if str(_id(raw)).startswith("task")), next(iter(named), None))
    if found is None:
        raise unreadable(reply, "create", "The gateway's answer to the create names no task")
    task = _task(found, reply)
    if task.raw_status is None or (task.failure is not None and task.failure.kind == "no_output"):
        # An id is all a create need answer with; a "success" beside it is the create's own.
        return task.model_copy(update={"status": "queued", "failure": None})
    return task


def _looked(task_id: str, reply: Reply) -> VideoTask:
    value = any_json(reply)
    found = next((raw for raw in (*_named(value), *(_listed_in(value) or ())) if _id(raw) == task_id), None)
    if found is not None and status_of(text(found.get("status"))) in ("failed", "cancelled"):
        return _task(found, reply)  # some gateways send a task's own failure as an HTTP error
    opened(reply, "look", value)
    if found is None:
        raise unreadable(reply, "look", f"The gateway's answer is not task {task_id}", task_id=task_id)
    return _task(found, reply)


def _listed(limit: int, before: str | None, reply: Reply) -> TaskPage:
    value = opened(reply, "list")
    listed = _listed_in(value)
    if listed is None:
        raise unreadable(reply, "list", "The gateway's answer is not a list of tasks")
    tasks = tuple(_task(raw, reply) for raw in listed[:MOST_LISTED])
    return page(members(_inner(value)), tasks, limit, before, cut=len(listed) > MOST_LISTED)


def _named(value: Any) -> Iterator[Json]:
    """The objects with an id that a body is, or carries in an envelope."""
    yield from (raw for raw in carried(value) if _id(raw) is not None)


def _inner(value: Any) -> Any:
    """A list's body without the envelope around all of it."""
    return value["data"] if isinstance(members(value).get("data"), dict) else value


def _listed_in(value: Any) -> tuple[Json, ...] | None:
    """The tasks of a list, bare or under one of its names; None where there is no list. A null is an empty one."""
    listed = _inner(value)
    if not isinstance(listed, list):
        name = next((name for name in _LISTS if name in members(listed)), None)
        listed = None if name is None else [] if listed[name] is None else listed[name]
    if not isinstance(listed, list):
        return None
    found = (members(each.get("payload")) or each for each in objects(listed)[: MOST_LISTED + 1])
    return tuple(raw for raw in found if _id(raw) is not None)


def _id(raw: Json) -> str | None:
    """A task's id: one named like a task before a relay's own name for the request."""
    given = names(raw, "id", "task_id")
    return next((name for name in given if name.startswith("task")), next(iter(given), None))


def _task(raw: Json, reply: Reply) -> VideoTask:
    task_id = _id(raw) or ""
    word = text(raw.get("status"))
    generations = tuple(
        made for each in objects(raw.get("generations"))[:MOST_VARIANTS] if (made := _generation(each)) is not None
    )
    status, failure = _outcome(raw, status_of(word), generations)
    progress = number(raw.get("progress_pct"))
    return VideoTask(
        task_id=task_id,
        status=status,
        raw_status=word,
        progress=progress if progress is None else min(progress, 1.0),
        queue_position=whole(raw.get("progress_pos_in_queue")),
        queue_wait=number(raw.get("estimated_queue_wait_time")),
        queue_message=text(raw.get("queue_status_message")),
        title=text(raw.get("title")),
        generations=() if failure is not None else generations,
        failure=failure,
        request=_echo(raw),
        created_at=moment(raw.get("created_at")) or typeid_time(task_id),
        poll_after=poll_after(reply.headers),
        dialect=Backend.name,
        raw=raw,
    )


def _outcome(raw: Json, status: TaskStatus, generations: tuple[Generation, ...]) -> tuple[TaskStatus, Failure | None]:
    if status == "succeeded" and not any(generation.url for generation in generations):
        kept = withheld(raw) or moderated(raw)
        return "failed", _failure(raw, "moderation_output" if kept else "no_output")
    if status == "failed":
        words = f"{worded(raw.get('failure_reason'))} {worded(raw.get('error'))}"
        return status, _failure(raw, failure_kind(words, refused=moderated(raw), output=withheld(raw)))
    return status, _failure(raw, "cancelled") if status == "cancelled" else None


def _failure(raw: Json, kind: FailureKind) -> Failure:
    error = members(raw.get("error"))
    said = first_text(raw.get("failure_reason"), error.get("message"), raw.get("error"))
    code = first_text(error.get("code"), members(raw.get("moderation_result")).get("code"))
    return failure(kind, said, code)


def _echo(raw: Json) -> RequestEcho | None:
    echo = RequestEcho(
        prompt=text(raw.get("prompt")),
        operation=text(raw.get("operation")),
        model=text(raw.get("model")),
        width=whole(raw.get("width"), 1),
        height=whole(raw.get("height"), 1),
        n_frames=whole(raw.get("n_frames"), 1),
        n_variants=whole(raw.get("n_variants"), 1),
        actions=echoed_actions(raw.get("actions")),
    )
    return echo if echo != RequestEcho() else None


def _generation(raw: Json) -> Generation | None:
    """One variant, or None where the object says neither which nor where."""
    addresses = renditions(raw.get("encodings"))
    rendition = next((name for name in RENDITIONS if name in addresses), "")
    best = members(members(raw.get("encodings")).get(rendition))
    url = usable(raw.get("url")) or addresses.get(rendition)
    generation_id = text(raw.get("id"))
    if url is None and generation_id is None:
        return None
    n_frames = whole(raw.get("n_frames"), 1)
    return Generation(
        generation_id=generation_id,
        url=url,
        thumbnail_url=addresses.get("thumbnail") or usable(raw.get("thumbnail_url")),
        width=whole(raw.get("width"), 1) or whole(best.get("width"), 1),
        height=whole(raw.get("height"), 1) or whole(best.get("height"), 1),
        n_frames=n_frames,
        duration=number(best.get("duration_secs")) or (n_frames / FRAMES_PER_SECOND if n_frames else None),
        encodings=addresses,
        expires_at=expiry(url),
    )
