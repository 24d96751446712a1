"""OpenAI's format under `/v1/videos`, as relays and inference engines speak it: reading a create, writing videos.

Pure functions over plain values. The engines' own fields (`num_frames`, `fps`, `width`, `height`, `seed`,
`negative_prompt`) are understood beside OpenAI's, and every length and size is made unless `videos_sizes="openai"`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import forms
from .manners import Manners
from .messages import Answer, Call, error, json_answer
from .orders import (
    FRAMES_PER_SECOND,
    MAX_FRAMES,
    Order,
    OrderError,
    Source,
    number,
    opening,
    sides,
    spelled,
    text,
    whole,
)
from .tasks import Task, View

PATH = "/v1/videos"
MODEL = "sora-2"
SIZE, SECONDS = "720x1280", 4
OPENAI_SIZES = ("720x1280", "1280x720", "1024x1792", "1792x1024", "1920x1080", "1080x1920")
OPENAI_SECONDS = (4, 8, 12, 16, 20)
VARIANTS = {"video": "mp4", "thumbnail": "png", "spritesheet": "jpg"}
"""What can be had of a video, and the kind of file it is."""
MAX_PAGE = 100
STATUS = {
    "queued": "queued",
    "preprocessing": "in_progress",
    "running": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
RELAY_STATUS = {
    "queued": "QUEUED",
    "preprocessing": "IN_PROGRESS",
    "running": "IN_PROGRESS",
    "succeeded": "SUCCESS",
    "failed": "FAILURE",
    "cancelled": "FAILURE",
}
MESSAGES = {
    "input_moderation": "The prompt was rejected by moderation.",
    "output_moderation": "The video was rejected by moderation.",
    "cancelled": "The generation was cancelled.",
}
POLLS = 12
"""How often a client is told to look while a video is made."""


# ---------------------------------------------------------------- reading requests


def read_order(call: Call, manners: Manners) -> Order:
    """Check a create's body, JSON or a form, and return what it asks for.

    Raises:
        OrderError: With the first field that breaks a rule.
    """
    is_form = forms.is_form(call)
    if manners.videos_takes == "json" and is_form:
        raise OrderError("body", "invalid character '-' in numeric literal", "invalid_json")
    if manners.videos_takes == "multipart" and not is_form:
        raise OrderError("body", "request Content-Type isn't multipart/form-data", "invalid_multipart_form")
    fields = forms.numbered(forms.fields(call), "seconds", "num_frames", "fps", "width", "height", "seed")
    prompt = text(fields, "prompt")
    text(fields, "negative_prompt", required=False)
    width, height = _size(fields, manners)
    reference = _reference(fields)
    seed = whole(fields, "seed", 0, 2**31 - 1, otherwise=0) if fields.get("seed") is not None else None
    return Order(
        prompt=prompt,
        width=width,
        height=height,
        n_frames=_n_frames(fields, manners),
        model=text(fields, "model", required=False) or MODEL,
        seed=seed,
        placed=opening("input_reference", [reference] if reference else []),
    )


def remix(order: Order, original: Task) -> Order:
    """What a remix asks for: a video like the original, made over it, with a prompt of its own."""
    return replace(
        original.order,
        prompt=order.prompt,
        operation="remix",
        actions=(),
        inpaint_items=(),
        sdedit=None,
        seed=None,
        remixed_from=original.task_id,
        base=Source(where="video_id", generation_id=original.generation_ids[0]),
        blended=(),
        placed=order.placed,
    )


def read_page(call: Call) -> tuple[str | None, int, bool]:
    """What a list asks for: the id it goes on after, how many, and whether the oldest come first.

    Raises:
        OrderError: For a limit or an order that is none.
    """
    limit, order = call.query.get("limit") or "20", call.query.get("order") or "desc"
    if not re.fullmatch("[0-9]{1,3}", limit) or int(limit) > MAX_PAGE:
        raise OrderError("limit", f"Invalid value for 'limit': expected 0 to {MAX_PAGE}, got {limit[:40]!r}.")
    if order not in {"asc", "desc"}:
        raise OrderError("order", f"Invalid value for 'order': {order[:40]!r}. Supported values are: asc, desc.")
    return call.query.get("after"), int(limit), order == "asc"


def _size(fields: Mapping[str, Any], manners: Manners) -> tuple[int, int]:
    width, height = sides(fields, SIZE)
    if manners.videos_sizes == "openai" and f"{width}x{height}" not in OPENAI_SIZES:
        message = f"Invalid value: '{width}x{height}'. Supported values are: {', '.join(OPENAI_SIZES)}."
        raise OrderError("size", message)
    return width, height


def _n_frames(fields: Mapping[str, Any], manners: Manners) -> int:
    """Frames at 30 a second: those asked for, or as many as last as long where another rate is named."""
    longest = MAX_FRAMES / FRAMES_PER_SECOND
    seconds = number(fields, "seconds", 1 / FRAMES_PER_SECOND, longest, required=False) or SECONDS
    fps = number(fields, "fps", 1, 120, required=False) or FRAMES_PER_SECOND
    if fields.get("num_frames") is not None:
        seconds = whole(fields, "num_frames", 1, MAX_FRAMES) / fps
    if manners.videos_sizes == "openai" and seconds not in OPENAI_SECONDS:
        allowed = ", ".join(f"'{length}'" for length in OPENAI_SECONDS)
        raise OrderError("seconds", f"Invalid value: '{seconds:g}'. Supported values are: {allowed}.")
    return min(max(round(seconds * FRAMES_PER_SECOND), 1), MAX_FRAMES)


def _reference(fields: Mapping[str, Any]) -> str | bytes | None:
    """The picture that a video opens with: a file's bytes, or a URL."""
    reference = fields.get("input_reference")
    if reference is None:
        return None
    if isinstance(reference, forms.File):
        return reference.data
    if isinstance(reference, str):
        raise OrderError(
            "input_reference",
            "Invalid type for 'input_reference': expected a file, but got a string instead.",
            "invalid_type",
        )
    if not isinstance(reference, Mapping) or not isinstance(reference.get("image_url"), str):
        raise OrderError("input_reference", "Invalid value for 'input_reference': expected a file or an image_url.")
    return str(reference["image_url"])


# ---------------------------------------------------------------- writing answers


def created(view: View, manners: Manners) -> Answer:
    """The answer to an accepted create."""
    return _video_answer(view, manners)


def looked(view: View, manners: Manners) -> Answer:
    """The answer to a look."""
    return _video_answer(view, manners)


def listed(views: Sequence[View], manners: Manners, *, has_more: bool) -> Answer:
    """One page of a list."""
    page = [video_body(view, manners) for view in views]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    body = {"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": has_more}
    return json_answer(200, body)


def deleted(view: View, manners: Manners) -> Answer:
    """The answer to a delete."""
    return json_answer(200, {"id": _spelled(view.task_id, view, manners), "deleted": True, "object": "video.deleted"})


def content(view: View, call: Call) -> Answer:
    """The bytes of the video or of its pictures; before there are any, the refusal in new-api's words."""
    variant = call.query.get("variant") or "video"
    if variant not in VARIANTS:
        message = f"Invalid value: {variant[:40]!r}. Supported values are: {', '.join(VARIANTS)}."
        return error(400, message, param="variant", code="invalid_value")
    if not view.videos:
        return without_video(view)
    video = view.videos[0]
    urls = {"video": video.url, "thumbnail": video.thumbnail_url, "spritesheet": video.spritesheet_url}
    return Answer(media=f"{video.generation_id}.{VARIANTS[variant]}", media_url=urls[variant])


def without_video(view: View) -> Answer:
    """The refusal of what needs a video that is not there, in new-api's words."""
    if view.status == "succeeded" and view.failure is None:
        return error(404, "Video content not found")
    return error(400, f"Task is not completed yet, current status: {relay_status(view)}")


def unknown_task() -> Answer:
    """The answer about a task nobody knows."""
    return error(404, "Task not found")


def refused(refusal: OrderError) -> Answer:
    """The answer to a create that breaks a rule."""
    return refusal.answer()


def failed(body: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """A video as it would be had it failed."""
    return {**body, "status": "failed", "completed_at": None, "error": failure(reason)}


def failure(reason: str) -> dict[str, str]:
    """The error object of a video that failed."""
    return {"code": reason, "message": MESSAGES.get(reason, f"The video could not be made: {reason}.")}


def status(view: View) -> str:
    """A task's status in OpenAI's words."""
    if view.rejected:
        return "failed"
    return STATUS.get(view.status, view.status)


def relay_status(view: View) -> str:
    """A task's status in new-api's words."""
    if view.rejected:
        return "FAILURE"
    return RELAY_STATUS.get(view.status, view.status.upper())


def video_body(view: View, manners: Manners) -> dict[str, Any]:
    """A video object; it has no URL, its bytes are at `/content`."""
    order = view.order
    body = {
        "id": _spelled(view.task_id, view, manners),
        "object": "video",
        "model": order.model or MODEL,
        "status": status(view),
        "progress": view.percent,
        "created_at": int(view.task.created_at),
        "completed_at": int(view.ends_at) if view.status == "succeeded" else None,
        "expires_at": None,
        "prompt": order.prompt,
        "seconds": f"{round(order.seconds, 3):g}",
        "size": f"{order.width}x{order.height}",
        "remixed_from_video_id": order.remixed_from and _spelled(order.remixed_from, view, manners),
        "error": None,
    }
    if view.failure is None:
        return body
    return {**failed(body, view.failure), "status": status(view)}


def _video_answer(view: View, manners: Manners) -> Answer:
    pause = max(20, min(1000, round(1000 * view.seconds / POLLS)))
    headers = {} if view.ended else {"openai-poll-after-ms": str(pause)}
    return json_answer(200, video_body(view, manners), headers)


def _spelled(task_id: str, view: View, manners: Manners) -> str:
    return spelled(task_id, view.order.model or MODEL, prefixed=manners.prefixed_ids)
