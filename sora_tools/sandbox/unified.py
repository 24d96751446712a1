"""The relays' format `POST /v1/video/create` and `GET /v1/video/query?id=`: reading a create, writing bodies.

A task's state is told twice: at the top, and in `detail`, where the web backend's own task is embedded while it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import backend, forms
from .manners import Manners
from .messages import Answer, Call, json_answer, task_not_exist
from .orders import (
    FRAMES_PER_SECOND,
    MAX_FRAMES,
    SORA_2_SIZES,
    Order,
    OrderError,
    choice,
    json_object,
    number,
    opening,
    shown,
    spelled,
    text,
    texts,
)
from .tasks import View

CREATE, QUERY = "/v1/video/create", "/v1/video/query"
MODEL = "sora-2"
SECONDS = 10
LARGE = 704 * 704
"""Pixels from which a video of another format is called large."""
RATIOS = {"9:16": "portrait", "16:9": "landscape", "1:1": "square"}
EMBEDDED_STATUS = {"running": "processing"}


def read_order(call: Call, _manners: Manners) -> Order:
    """Check a create's body and return what it asks for.

    Raises:
        OrderError: With the first field that breaks a rule.
    """
    fields = forms.numbered(json_object(call.body), "duration")
    seconds = number(fields, "duration", 1, MAX_FRAMES / FRAMES_PER_SECOND, required=False) or SECONDS
    width, height = _size(fields)
    images = texts(fields, "images")
    return Order(
        prompt=text(fields, "prompt"),
        width=width,
        height=height,
        n_frames=round(seconds * FRAMES_PER_SECOND),
        model=text(fields, "model", required=False) or MODEL,
        inpaint_items=tuple({"type": "image", "url": image} for image in images),
        placed=opening("images", images),
    )


def refused(refusal: OrderError) -> Answer:
    """The answer to a create that breaks a rule."""
    return refusal.relay_answer()


def created(view: View, manners: Manners) -> Answer:
    """The answer to an accepted create."""
    return json_answer(200, _top(view, manners, "pending"))


def looked(view: View, manners: Manners) -> Answer:
    """The answer to a query."""
    if view.status == "succeeded":
        return json_answer(200, _completed(view, manners))
    if view.ended:
        body = _pending(view, manners)
        return json_answer(200, failed(body, view.failure or ""))
    return json_answer(200, _pending(view, manners))


def unknown_task() -> Answer:
    """The answer about a task nobody knows."""
    return task_not_exist()


def failed(body: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """A task's body as it would be had the task failed."""
    detail = {**body.get("detail", {}), "status": "failed"}
    if info := detail.get("pending_info"):
        detail["pending_info"] = {**info, "status": "failed", "progress_pct": None, "failure_reason": reason}
    return {**body, "status": "failed", "video_url": None, "error": reason, "detail": detail}


def _size(fields: Mapping[str, Any]) -> tuple[int, int]:
    given = {"size": "small", "orientation": "portrait"} | {name: v for name, v in fields.items() if v is not None}
    size = choice(given, "size", ("small", "large"))
    orientation = choice(given, "orientation", ("portrait", "landscape"))
    if ratio := text(fields, "aspect_ratio", required=False):
        if ratio not in RATIOS:
            raise OrderError(
                "aspect_ratio",
                f"Invalid value for 'aspect_ratio': {shown(ratio)}. Supported values are: {', '.join(RATIOS)}.",
            )
        orientation = RATIOS[ratio]
    return SORA_2_SIZES[size, orientation]


def _top(view: View, manners: Manners, status: str) -> dict[str, Any]:
    return {
        "id": spelled(view.task_id, view.order.model or MODEL, prefixed=manners.prefixed_ids),
        "status": status,
        "enhanced_prompt": view.order.prompt,
        "status_update_time": int(1000 * view.now),
    }


def _pending(view: View, manners: Manners) -> dict[str, Any]:
    embedded = backend.task_body(view, manners)
    embedded["status"] = EMBEDDED_STATUS.get(view.status, view.status)
    return {
        **_top(view, manners, "pending" if view.status in {"queued", "preprocessing", "running"} else view.status),
        "video_url": None,
        "detail": {"id": view.task_id, "status": "pending", "input": _input(view), "pending_info": embedded},
    }


def _completed(view: View, manners: Manners) -> dict[str, Any]:
    video = view.videos[0] if view.videos else None
    url, thumbnail_url = (video.url, video.thumbnail_url) if video else (None, None)
    return {
        **_top(view, manners, "completed"),
        "width": view.order.width,
        "height": view.order.height,
        "video_url": url,
        "thumbnail_url": thumbnail_url,
        "detail": {
            "id": view.task_id,
            "status": "completed",
            "url": url,
            "gif_url": None,
            "thumbnail_url": thumbnail_url,
            "input": _input(view),
            "draft_info": {
                "id": view.task.generation_ids[0],
                "kind": "sora_content_violation" if view.rejected else "sora_draft",
                "reason_str": view.failure,
                "task_id": view.task_id,
                "url": url,
                "downloadable_url": url,
                "encodings": {"source": {"path": url}},
            },
        },
    }


def _input(view: View) -> dict[str, Any]:
    """The create's own fields, or what they would have been for a task of another format."""
    order = view.order
    return {
        "size": "large" if order.width * order.height >= LARGE else "small",
        "model": order.model or MODEL,
        "images": [item["url"] for item in order.inpaint_items if item.get("url")],
        "prompt": order.prompt,
        "orientation": "landscape" if order.width > order.height else "portrait",
    }
