"""A task as relays report it: one object, bare or in an envelope, whichever of their routes was asked.

Rule: relays answer each other's formats on their own routes, so that every route is read for all of them: any name of
an id, of a status and of a video's address counts, wherever it stands. ``progress`` counts to a hundred and
``progress_pct`` to one; the name tells, never the value. ``succeeded`` is believed where there is an address.

Source: the documents of docs.newapi.pro, yunwu, vectorengine, comfly and Huawei MaaS for what comes back, and new-api's
``dto/task.go``, whose old builds put the address of a finished video in ``fail_reason``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, product
from typing import Any

from ..schemas import FRAMES_PER_SECOND, Failure, Generation, RequestEcho, TaskStatus, VideoTask
from ..wire import Reply, any_json, not_shown, opened, poll_after, typeid_time, unreadable, worded
from .reading import (
    RENDITIONS,
    addresses,
    carried,
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
    percent,
    renditions,
    seconds,
    status_of,
    text,
    usable,
    whole,
    withheld,
    within,
)

Json = Mapping[str, Any]


def created(dialect: str, reply: Reply) -> VideoTask:
    """The task that a create's answer names. It was accepted, whatever else the answer says or lacks."""
    found = list(_objects(opened(reply, "create")))
    places = sorted(product(("task_id", "id"), found), key=lambda place: not isinstance(place[1].get(place[0]), str))
    named = [name for field, raw in places for name in names(raw, field)]
    if not named:
        raise unreadable(reply, "create", "The gateway's answer to the create names no task")
    task_id = next((name for name in named if _bare(name).startswith("task")), named[0])
    task = _task(dialect, task_id, _fullest(found, task_id), reply)
    if task.raw_status is None or (task.failure is not None and task.failure.kind == "no_output"):
        # An id is all a create need answer with; a "success" beside it is the create's own.
        return task.model_copy(update={"status": "queued", "failure": None})
    return task


def looked(dialect: str, task_id: str, reply: Reply) -> VideoTask:
    """The task that was asked for by its id, as it is called there, with or without its model before a colon."""
    value = any_json(reply)
    found = [raw for raw in _objects(value) if any(_bare(name) == _bare(task_id) for name in _named(raw))]
    task = _task(dialect, task_id, _fullest(found, task_id), reply) if found else None
    if task is not None and status_of(task.raw_status) in ("failed", "cancelled"):
        return task  # some gateways send a task's own failure as an HTTP error
    opened(reply, "look", value)
    if task is not None:
        return task
    if "data" in members(value) and not members(value)["data"]:
        raise not_shown(reply, task_id)
    raise unreadable(reply, "look", f"The gateway's answer is not task {task_id}", task_id=task_id)


def _objects(value: Any) -> Iterator[Json]:
    """Every object that may be the task: a body, what it carries, and what it carries in a list."""
    return chain(carried(value), objects(members(value).get("data"))[:1])


def _named(raw: Json) -> tuple[str, ...]:
    return names(raw, "task_id") + names(raw, "id")


def _bare(name: str) -> str:
    """An id without the model that some relays write before it."""
    return name.rpartition(":")[2]


def _fullest(found: list[Json], task_id: str) -> Json:
    """Of several objects that name a task the one that says how it is."""
    about = [raw for raw in found if task_id in _named(raw)] or found
    return next((raw for raw in about if text(raw.get("status"))), about[0])


def _task(dialect: str, task_id: str, raw: Json, reply: Reply) -> VideoTask:
    word = first_text(raw.get("status"), within(raw, "detail", "status"))
    pending = members(within(raw, "detail", "pending_info"))  # the web backend's own task
    status, why = _outcome(raw, pending, status_of(word), word)
    share = number(pending.get("progress_pct"))
    progress = percent(raw.get("progress")) if share is None else min(share, 1.0)
    if status == "queued" and (share or status_of(text(pending.get("status"))) == "running"):
        status = "running"
    return VideoTask(
        task_id=task_id,
        status=status,
        raw_status=word,
        progress=progress,
        queue_position=whole(pending.get("progress_pos_in_queue")),
        queue_wait=number(pending.get("estimated_queue_wait_time")),
        queue_message=text(pending.get("queue_status_message")),
        title=first_text(raw.get("title"), pending.get("title")),
        generations=_generations(raw, pending) if status == "succeeded" else (),
        failure=why,
        request=_echo(raw, pending),
        created_at=next(filter(None, map(moment, (raw.get("created_at"), raw.get("submit_time")))), None)
        or typeid_time(task_id),
        poll_after=poll_after(reply.headers),
        dialect=dialect,
        raw=raw,
    )


def _outcome(raw: Json, pending: Json, status: TaskStatus, word: str | None) -> tuple[TaskStatus, Failure | None]:
    draft, error = members(within(raw, "detail", "draft_info")), raw.get("error")
    said = first_text(
        raw.get("fail_reason"),
        raw.get("failure_reason"),
        members(error).get("message"),
        members(error).get("detail"),
        error,
        pending.get("failure_reason"),
        draft.get("reason_str"),
        draft.get("error_message"),
        raw.get("message"),
    )
    code = members(error).get("code") or within(pending, "moderation_result", "code")
    refused = moderated(raw) or moderated(pending)
    kept = withheld(raw) or withheld(pending) or draft.get("kind") == "sora_content_violation"
    if status == "succeeded" and not _videos(raw):
        return "failed", failure("moderation_output" if kept or refused else "no_output", said, code)
    if status == "failed":
        words = " ".join(worded(each) for each in (said or "", code, word))
        return status, failure(failure_kind(words, refused=refused, output=kept), said, code)
    return status, failure("cancelled", said, code) if status == "cancelled" else None


def _videos(raw: Json) -> tuple[str, ...]:
    """The addresses of a finished task's videos; an old build's stands where its failure would."""
    encodings = renditions(within(raw, "detail", "draft_info", "encodings"))
    others = (*map(encodings.get, RENDITIONS), usable(raw.get("fail_reason")))
    return addresses(raw) or tuple(filter(None, others))[:1]


def _generations(raw: Json, pending: Json) -> tuple[Generation, ...]:
    draft, told = members(within(raw, "detail", "draft_info")), members(raw.get("metadata"))
    thumbnails = (raw.get("thumbnail_url"), within(raw, "detail", "thumbnail_url"))
    n_frames = whole(pending.get("n_frames"), 1)
    lengths = (told.get("duration"), raw.get("duration"), raw.get("seconds"))
    duration = next(filter(None, map(seconds, lengths)), None)
    return tuple(
        Generation(
            generation_id=text(draft.get("id")),
            url=url,
            thumbnail_url=next(filter(None, map(usable, thumbnails)), None),
            width=_size("width", raw, told, pending),
            height=_size("height", raw, told, pending),
            n_frames=n_frames,
            duration=duration or (n_frames / FRAMES_PER_SECOND if n_frames else None),
            encodings=renditions(draft.get("encodings")),
            expires_at=expiry(url),
        )
        for url in _videos(raw)
    )


def _size(name: str, *where: Json) -> int | None:
    return next((size for each in where if (size := whole(each.get(name), 1)) is not None), None)


def _echo(raw: Json, pending: Json) -> RequestEcho | None:
    asked = members(within(raw, "detail", "input"))
    echo = RequestEcho(
        prompt=first_text(raw.get("prompt"), asked.get("prompt"), pending.get("prompt")),
        operation=text(pending.get("operation")),
        model=first_text(raw.get("model"), asked.get("model")),
        width=_size("width", raw, pending),
        height=_size("height", raw, pending),
        n_frames=whole(pending.get("n_frames"), 1),
        n_variants=whole(pending.get("n_variants"), 1),
    )
    return echo if echo != RequestEcho() else None
