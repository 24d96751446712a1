"""The web backend's format as a gateway speaks it: what a create must say, and how tasks are worded.

Pure functions over plain values: no clock, no memory, no socket. Nothing here knows how a client reads these bodies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .messages import Answer, error

PATH = "/sora/backend/video_gen"
FRAMES_PER_SECOND = 30
MAX_BODY = 32 * 1024 * 1024
"""Bytes of a request body; the picture of a data URL travels in it."""
MAX_SIDE = 4096
MAX_FRAMES = 1800
MAX_VARIANTS = 8
"""The page names no upper bounds; these keep one request from filling a disk."""


class OrderError(Exception):
    """The create breaks a rule; `param` names the field, `code` the rule."""

    def __init__(self, param: str, message: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param, self.message, self.code = param, message, code

    def answer(self) -> Answer:
        """The refusal as it goes over the wire."""
        return error(400, self.message, param=self.param, code=self.code)


@dataclass(frozen=True, kw_only=True)
class Order:
    """A create that has passed every check."""

    prompt: str | None
    width: int
    height: int
    n_frames: int
    n_variants: int
    operation: str
    model: str | None
    inpaint_items: Sequence[Mapping[str, Any]]
    actions: Sequence[tuple[float, str]]
    sdedit: Mapping[str, Any] | None

    @property
    def seconds(self) -> float:
        """Length of one video."""
        return self.n_frames / FRAMES_PER_SECOND


# ---------------------------------------------------------------- reading a create


def read_order(body: bytes) -> Order:
    """Check a create's body and return what it asks for.

    Required is what the page calls required and its own example has: the nine keys of the example (storyboard may leave
    the prompt out). `null` counts as absent, unknown keys are ignored.

    Raises:
        OrderError: With the first field that breaks a rule.
    """
    fields = _json_object(body)
    _choice(fields, "type", ("video_gen",))
    operation = _choice(fields, "operation", ("simple_compose", "storyboard", "remix", "blend"))
    _choice(fields, "style", ("natural",))
    n_frames = _whole(fields, "n_frames", 1, MAX_FRAMES)
    return Order(
        prompt=_prompt(fields, operation),
        width=_whole(fields, "width", 1, MAX_SIDE),
        height=_whole(fields, "height", 1, MAX_SIDE),
        n_frames=n_frames,
        n_variants=_whole(fields, "n_variants", 1, MAX_VARIANTS),
        operation=operation,
        model=_text(fields, "model", required=False),
        inpaint_items=_inpaint_items(fields),
        actions=_actions(fields, operation, n_frames / FRAMES_PER_SECOND),
        sdedit=_sdedit(fields),
    )


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise OrderError("body", "the body is not JSON", "invalid_json") from None
    if not isinstance(value, dict):
        raise OrderError("body", "the body must be a JSON object", "invalid_type")
    return value


def _member(fields: Mapping[str, Any], name: str, where: str, *, required: bool) -> Any:
    value = fields.get(name)
    if value is None and required:
        raise OrderError(where, f"Missing required parameter: '{where}'.", "missing_required_parameter")
    return value


def _choice(fields: Mapping[str, Any], name: str, allowed: Sequence[str], *, where: str = "") -> str:
    where = where or name
    value = _member(fields, name, where, required=True)
    if value not in allowed:
        raise OrderError(
            where, f"Invalid value for '{where}': {_shown(value)}. Supported values are: {', '.join(allowed)}."
        )
    return str(value)


def _text(fields: Mapping[str, Any], name: str, *, where: str = "", required: bool = True) -> str | None:
    where = where or name
    value = _member(fields, name, where, required=required)
    if value is None:
        return None
    if not isinstance(value, str):
        raise OrderError(where, f"Invalid type for '{where}': expected a string, got {_shown(value)}.", "invalid_type")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise OrderError(where, f"Invalid value for '{where}': half a surrogate pair is no character.")
    if required and not value.strip():
        raise OrderError(where, f"Invalid value for '{where}': it must not be empty.")
    return value


def _number(
    fields: Mapping[str, Any], name: str, low: float, high: float, *, where: str = "", required: bool = True
) -> float | None:
    where = where or name
    value = _member(fields, name, where, required=required)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN
        raise OrderError(where, f"Invalid type for '{where}': expected a number, got {_shown(value)}.", "invalid_type")
    if not low <= value <= high:
        raise OrderError(
            where, f"Invalid value for '{where}': {_shown(value)} is not within {low:g} to {high:g}.", "out_of_range"
        )
    return value


def _whole(fields: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = _number(fields, name, low, high)
    assert value is not None
    if value != int(value):
        raise OrderError(
            name, f"Invalid type for '{name}': expected a whole number, got {_shown(value)}.", "invalid_type"
        )
    return int(value)


def _prompt(fields: Mapping[str, Any], operation: str) -> str | None:
    storyboard = operation == "storyboard"
    prompt = _text(fields, "prompt", required=not storyboard)
    return None if storyboard else prompt


def _objects(fields: Mapping[str, Any], name: str, *, required: bool) -> Sequence[Mapping[str, Any]]:
    value = _member(fields, name, name, required=required)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise OrderError(name, f"Invalid type for '{name}': expected an array, got {_shown(value)}.", "invalid_type")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise OrderError(
                f"{name}[{index}]", f"Invalid type for '{name}[{index}]': expected an object.", "invalid_type"
            )
    return value


def _inpaint_items(fields: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    items = _objects(fields, "inpaint_items", required=True)
    for index, item in enumerate(items):
        where = f"inpaint_items[{index}]."
        if item.get("type") is not None:
            _choice(item, "type", ("image",), where=f"{where}type")
        url = _text(item, "url", where=f"{where}url", required=False)
        if url and not url.startswith(("http://", "https://", "data:image/")):
            raise OrderError(
                f"{where}url", f"Invalid value for '{where}url': expected an http, https or data:image URL."
            )
        for name in ("frame_index", "source_start_frame", "source_end_frame"):
            _number(item, name, 0, MAX_FRAMES, where=where + name, required=False)
        if item.get("preset_id") is not None:
            raise OrderError(
                f"{where}preset_id", f"Invalid type for '{where}preset_id': expected null.", "invalid_type"
            )
        for name in ("generation_id", "upload_media_id"):
            _text(item, name, where=where + name, required=False)
    return tuple(item for item in items if any(item.get(name) for name in ("url", "generation_id", "upload_media_id")))


def _actions(fields: Mapping[str, Any], operation: str, seconds: float) -> Sequence[tuple[float, str]]:
    actions = []
    for index, action in enumerate(_objects(fields, "actions", required=operation == "storyboard")):
        where = f"actions[{index}]."
        time = _number(action, "time", 0, seconds, where=f"{where}time")
        description = _text(action, "description", where=f"{where}description")
        assert time is not None
        assert description is not None
        actions.append((float(time), description))
    if operation == "storyboard" and not actions:
        raise OrderError("actions", "Invalid value for 'actions': storyboard needs at least one action.")
    return tuple(actions)


def _sdedit(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    sdedit = _member(fields, "sdedit", "sdedit", required=False)
    if sdedit is None:
        return None
    if not isinstance(sdedit, dict):
        raise OrderError("sdedit", "Invalid type for 'sdedit': expected an object.", "invalid_type")
    _number(sdedit, "amount", 1, 8, where="sdedit.amount")
    _text(sdedit, "source_generation_id", where="sdedit.source_generation_id")
    _text(sdedit, "source_upload_media_id", where="sdedit.source_upload_media_id", required=False)
    return sdedit


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)[:80]


# ---------------------------------------------------------------- writing tasks


def task_body(
    order: Order,
    *,
    task_id: str,
    created_at: float,
    progress: Mapping[str, Any],
    generations: Sequence[Mapping[str, Any]],
    moderation: Mapping[str, Any],
    actions_as_map: bool,
) -> dict[str, Any]:
    """A task object with every field the web backend was seen to send; `progress` overrides what it names."""
    return {
        "id": task_id,
        "user": "user-sandbox",
        "created_at": iso(created_at),
        "status": "queued",
        "progress_pct": None,
        "progress_pos_in_queue": None,
        "estimated_queue_wait_time": None,
        "queue_status_message": None,
        "priority": 1,
        "type": "video_gen",
        **_echo(order, task_id, actions_as_map=actions_as_map),
        "n_variants": order.n_variants,
        "caption": None,
        "size": None,
        "generations": generations,
        "num_unsafe_generations": 0,
        "title": "New Video",
        "moderation_result": moderation,
        "failure_reason": None,
        "needs_user_review": False,
        **progress,
    }


def generation_body(
    order: Order,
    *,
    task_id: str,
    generation_id: str,
    created_at: float,
    seed: int,
    url: str,
    thumbnail_url: str,
    size: int | None,
    moderation: Mapping[str, Any],
    actions_as_map: bool,
) -> dict[str, Any]:
    """A finished generation; `url` is the video, `size` its bytes where known."""
    source = {
        "path": url,
        "size": size,
        "width": order.width,
        "height": order.height,
        "duration_secs": round(order.seconds, 3),
        "ssim": 0.99,
    }
    flags = ("is_favorite", "is_liked", "is_public", "is_archived", "is_featured", "has_feedback")
    return {
        "id": generation_id,
        "task_id": task_id,
        "created_at": iso(created_at),
        "deleted_at": None,
        "url": url,
        "seed": seed,
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
            "thumbnail": {"path": thumbnail_url, "size": None},
            "spritesheet": None,
        },
        **_echo(order, task_id, actions_as_map=actions_as_map),
        "title": "New Video",
        "task_type": "video_gen",
        "user": {"id": "user-sandbox", "username": "sandbox"},
        "moderation_result": moderation,
    }


def moderation_result(task_id: str, kind: str = "passed", *, output_rejected: bool = False) -> dict[str, Any]:
    """The verdict object that tasks and generations carry."""
    return {
        "type": kind,
        "results_by_frame_index": {},
        "code": None,
        "is_output_rejection": output_rejected,
        "task_id": task_id,
    }


def _echo(order: Order, task_id: str, *, actions_as_map: bool) -> dict[str, Any]:
    """What tasks and generations repeat of the create, the way the backend reads it back."""
    return {
        "prompt": order.prompt,
        "actions": _actions_read_back(order.actions, as_map=actions_as_map),
        "width": order.width,
        "height": order.height,
        "n_frames": order.n_frames,
        "model": "turbo_12" if order.model in {None, "turbo"} else order.model,
        "operation": order.operation,
        "inpaint_items": [_item_read_back(item, task_id) for item in order.inpaint_items],
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


def iso(seconds: float) -> str:
    """UTC with microseconds and a Z, as the backend writes times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
