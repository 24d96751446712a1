"""The web backend's format as a gateway speaks it: what a create must say, and how tasks are worded.

Pure functions over plain values: no clock, no memory, no socket. Nothing here knows how a client reads these bodies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .manners import Manners
from .messages import Answer, Call, json_answer, task_not_exist
from .orders import (
    FRAMES_PER_SECOND,
    MAX_FRAMES,
    MAX_SIDE,
    MAX_SOURCES,
    MAX_VARIANTS,
    Order,
    OrderError,
    Source,
    choice,
    json_object,
    member,
    number,
    shown,
    text,
    whole,
)
from .tasks import Video, View, iso

PATH = "/sora/backend/video_gen"
MAX_PAGE = 100
NAMES_OF_MEDIA = ("url", "generation_id", "upload_media_id")


# ---------------------------------------------------------------- reading a create


def read_order(call: Call, _manners: Manners) -> Order:
    """Check a create's body and return what it asks for.

    Required is what the page calls required and its own example has: the nine keys of the example (storyboard may leave
    the prompt out). `null` counts as absent, unknown keys are ignored.

    Raises:
        OrderError: With the first field that breaks a rule.
    """
    fields = json_object(call.body)
    choice(fields, "type", ("video_gen",))
    operation = choice(fields, "operation", ("simple_compose", "storyboard", "remix", "blend"))
    choice(fields, "style", ("natural",))
    n_frames = whole(fields, "n_frames", 1, MAX_FRAMES)
    items = _inpaint_items(fields, n_frames)
    sdedit = _sdedit(fields)
    return Order(
        prompt=_prompt(fields, operation),
        width=whole(fields, "width", 1, MAX_SIDE),
        height=whole(fields, "height", 1, MAX_SIDE),
        n_frames=n_frames,
        n_variants=whole(fields, "n_variants", 1, MAX_VARIANTS),
        operation=operation,
        model=text(fields, "model", required=False),
        inpaint_items=tuple(item for item in items if any(item.get(name) for name in NAMES_OF_MEDIA)),
        actions=_actions(fields, operation, n_frames / FRAMES_PER_SECOND),
        sdedit=sdedit,
        **_sources(operation, items, sdedit),
    )


def _prompt(fields: Mapping[str, Any], operation: str) -> str | None:
    storyboard = operation == "storyboard"
    prompt = text(fields, "prompt", required=not storyboard)
    return None if storyboard else prompt


def _objects(fields: Mapping[str, Any], name: str, *, required: bool) -> Sequence[Mapping[str, Any]]:
    value = member(fields, name, name, required=required)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise OrderError(name, f"Invalid type for '{name}': expected an array, got {shown(value)}.", "invalid_type")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise OrderError(
                f"{name}[{index}]", f"Invalid type for '{name}[{index}]': expected an object.", "invalid_type"
            )
    return value


def _inpaint_items(fields: Mapping[str, Any], n_frames: int) -> Sequence[Mapping[str, Any]]:
    items = _objects(fields, "inpaint_items", required=True)
    for index, item in enumerate(items):
        where = f"inpaint_items[{index}]."
        if item.get("type") is not None:
            choice(item, "type", ("image",), where=f"{where}type")
        url = text(item, "url", where=f"{where}url", required=False)
        if url and not url.startswith(("http://", "https://", "data:image/")):
            raise OrderError(
                f"{where}url", f"Invalid value for '{where}url': expected an http, https or data:image URL."
            )
        number(item, "frame_index", 0, n_frames - 1, where=f"{where}frame_index", required=False)
        start = number(item, "source_start_frame", 0, MAX_FRAMES, where=f"{where}source_start_frame", required=False)
        end = number(item, "source_end_frame", 0, MAX_FRAMES, where=f"{where}source_end_frame", required=False)
        if end and end < (start or 0):
            raise OrderError(
                f"{where}source_end_frame",
                f"Invalid value for '{where}source_end_frame': {end:g} is before source_start_frame, {start:g}.",
                "out_of_range",
            )
        if item.get("preset_id") is not None:
            raise OrderError(
                f"{where}preset_id", f"Invalid type for '{where}preset_id': expected null.", "invalid_type"
            )
        for name in ("generation_id", "upload_media_id"):
            text(item, name, where=where + name, required=False)
    return items


def _sources(operation: str, items: Sequence[Mapping[str, Any]], sdedit: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a create is made of, sorted by how: `base`, `blended` and `placed` of an order.

    `source_end_frame` is 0 where there is no end: under a video and in a blend that is the source's own, while what is
    placed at a frame is then one picture.
    """
    sources = [source for index, item in enumerate(items) if (source := _source(item, f"inpaint_items[{index}]"))]
    edited = sdedit["source_generation_id"] if sdedit else None
    if edited and all(source.generation_id != edited for source in sources):
        sources.insert(0, Source(where="sdedit.source_generation_id", generation_id=edited))
    if len(sources) > MAX_SOURCES:
        raise OrderError(
            "inpaint_items",
            f"Invalid value for 'inpaint_items': {len(sources)} sources are more than {MAX_SOURCES}.",
            "out_of_range",
        )
    if operation == "blend":
        return {"blended": tuple(sources)}
    made = [source for source in sources if source.generation_id]
    if edited or operation != "remix":
        made = [source for source in made if source.generation_id == edited]
    base = made[0] if made else None
    placed = [source for source in sources if source is not base]
    return {
        "base": base,
        "placed": tuple(replace(source, last=source.last or source.first) for source in placed),
    }


def _source(item: Mapping[str, Any], where: str) -> Source | None:
    frame, first, last = (
        int(item.get(name) or 0) for name in ("frame_index", "source_start_frame", "source_end_frame")
    )
    if url := item.get("url"):
        return Source(where="inpaint_items", picture=url, frame_index=frame)
    if generation_id := item.get("generation_id"):
        return Source(
            where=f"{where}.generation_id",
            generation_id=generation_id,
            frame_index=frame,
            first=first,
            last=last or None,
        )
    return None


def _actions(fields: Mapping[str, Any], operation: str, seconds: float) -> Sequence[tuple[float, str]]:
    actions = []
    for index, action in enumerate(_objects(fields, "actions", required=operation == "storyboard")):
        where = f"actions[{index}]."
        time = number(action, "time", 0, seconds, where=f"{where}time")
        description = text(action, "description", where=f"{where}description")
        assert time is not None
        assert description is not None
        actions.append((float(time), description))
    if operation == "storyboard" and not actions:
        raise OrderError("actions", "Invalid value for 'actions': storyboard needs at least one action.")
    return tuple(actions)


def _sdedit(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    sdedit = member(fields, "sdedit", "sdedit", required=False)
    if sdedit is None:
        return None
    if not isinstance(sdedit, dict):
        raise OrderError("sdedit", "Invalid type for 'sdedit': expected an object.", "invalid_type")
    number(sdedit, "amount", 1, 8, where="sdedit.amount")
    text(sdedit, "source_generation_id", where="sdedit.source_generation_id")
    text(sdedit, "source_upload_media_id", where="sdedit.source_upload_media_id", required=False)
    return sdedit


def read_page(call: Call) -> tuple[str | None, int, bool]:
    """What a list asks for: the id it goes on before, how many, and that the newest come first.

    Raises:
        OrderError: For a limit that is none.
    """
    limit = call.query.get("limit") or "20"
    if not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= MAX_PAGE:
        message = f"Invalid value for 'limit': expected a whole number from 1 to {MAX_PAGE}, got {limit[:40]!r}."
        raise OrderError("limit", message)
    return call.query.get("before"), int(limit), False


# ---------------------------------------------------------------- writing answers


def created(view: View, _manners: Manners) -> Answer:
    """The answer to an accepted create."""
    return json_answer(200, {"id": view.task_id, "priority": 1, "rate_limit_and_credit_balance": None})


def looked(view: View, manners: Manners) -> Answer:
    """The answer to a look."""
    return json_answer(200, task_body(view, manners))


def listed(views: Sequence[View], manners: Manners, *, has_more: bool) -> Answer:
    """One page of a list, newest first."""
    page = [task_body(view, manners) for view in views]
    last_id = page[-1]["id"] if page and not manners.last_id_null else None
    entries = page
    if manners.list_key == "data":
        entries = [{"ordering_key": task["created_at"], "payload": task} for task in page]
    return json_answer(200, {manners.list_key: entries, "last_id": last_id, "has_more": has_more})


def unknown_task() -> Answer:
    """The answer about a task nobody knows."""
    return task_not_exist()


def refused(refusal: OrderError) -> Answer:
    """The answer to a create or a list that breaks a rule."""
    return refusal.answer()


def failed(body: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """A task's body as it would be had the task failed."""
    return {**body, "status": "failed", "progress_pct": None, "generations": [], "failure_reason": reason}


def task_body(view: View, manners: Manners) -> dict[str, Any]:
    """A task object with every field the web backend was seen to send; the task's state overrides what it names."""
    stopped = view.status == "failed" and view.task.ending == "moderation_input"
    moderation = _moderation(view, "terminal" if stopped or view.rejected else "passed")
    return {
        "id": view.task_id,
        "user": "user-sandbox",
        "created_at": iso(view.task.created_at),
        "status": "queued",
        "progress_pct": None,
        "progress_pos_in_queue": None,
        "estimated_queue_wait_time": None,
        "queue_status_message": None,
        "priority": 1,
        "type": "video_gen",
        **_echo(view, manners),
        "n_variants": view.order.n_variants,
        "caption": None,
        "size": None,
        "generations": [_generation_body(view, video, manners) for video in view.videos],
        "num_unsafe_generations": view.order.n_variants if view.rejected else 0,
        "title": "New Video",
        "moderation_result": moderation,
        "failure_reason": None,
        "needs_user_review": False,
        **view.state,
    }


def _generation_body(view: View, video: Video, manners: Manners) -> dict[str, Any]:
    source = {
        "path": video.url,
        "size": video.size,
        "width": view.order.width,
        "height": view.order.height,
        "duration_secs": round(view.order.seconds, 3),
        "ssim": 0.99,
    }
    flags = ("is_favorite", "is_liked", "is_public", "is_archived", "is_featured", "has_feedback")
    return {
        "id": video.generation_id,
        "task_id": view.task_id,
        "created_at": iso(view.ends_at),
        "deleted_at": None,
        "url": video.url,
        "seed": video.seed,
        "can_download": True,
        "download_status": "ready",
        **dict.fromkeys(flags, False),
        "like_count": 0,
        "num_direct_children": 0,
        "featured_countries": None,
        "cloudflare_metadata": None,
        "cf_thumbnail_url": None,
        "paragen_status": None,
        "encodings": {
            "source": source,
            "md": None,
            "ld": None,
            "thumbnail": {"path": video.thumbnail_url, "size": None},
            "spritesheet": {"path": video.spritesheet_url, "size": None},
        },
        **_echo(view, manners),
        "title": "New Video",
        "task_type": "video_gen",
        "user": {"id": "user-sandbox", "username": "sandbox"},
        "moderation_result": _moderation(view, "passed"),
    }


def _moderation(view: View, kind: str) -> dict[str, Any]:
    """The verdict object that tasks and generations carry."""
    return {
        "type": kind,
        "results_by_frame_index": {},
        "code": None,
        "is_output_rejection": view.rejected,
        "task_id": view.task_id,
    }


def _echo(view: View, manners: Manners) -> dict[str, Any]:
    """What tasks and generations repeat of the create, the way the backend reads it back."""
    order = view.order
    return {
        "prompt": order.prompt,
        "actions": _actions_read_back(order.actions, as_map=manners.actions_shape == "map"),
        "width": order.width,
        "height": order.height,
        "n_frames": order.n_frames,
        "model": "turbo_12" if order.model in {None, "turbo"} else order.model,
        "operation": order.operation,
        "inpaint_items": [_item_read_back(item, view.task_id) for item in order.inpaint_items],
        "preset_id": None,
        "interpolation": None,
        "sdedit": order.sdedit,
        "remix_config": None,
        "quality": None,
    }


def _actions_read_back(actions: Sequence[tuple[float, str]], *, as_map: bool) -> object:
    if not actions:
        return None
    if as_map:
        return {str(round(time * FRAMES_PER_SECOND)): description for time, description in actions}
    return [{"time": time, "description": description} for time, description in actions]


def _item_read_back(item: Mapping[str, Any], task_id: str) -> dict[str, Any]:
    return {
        "type": "image",
        "frame_index": item.get("frame_index") or 0,
        "preset_id": None,
        "generation_id": item.get("generation_id"),
        "upload_media_id": item.get("upload_media_id") or task_id.replace("task_", "media_"),
        "source_start_frame": item.get("source_start_frame") or 0,
        "source_end_frame": item.get("source_end_frame") or 0,
        "crop_bounds": None,
    }
