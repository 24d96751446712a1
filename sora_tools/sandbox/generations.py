"""The relays' format `POST /v1/video/generations` and `GET /v1/video/generations/{id}`: one request, three answers.

`documented` is what new-api's manual says, `relay` what its code sends: a task in an envelope, its states in capitals.
`job` is an OpenAI-like job whose id is its own, `gen_...`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import forms, videos
from .manners import Manners
from .messages import Answer, Call, json_answer, task_not_exist
from .orders import (
    FRAMES_PER_SECOND,
    MAX_FRAMES,
    Order,
    OrderError,
    json_object,
    number,
    opening,
    sides,
    text,
    texts,
    whole,
)
from .tasks import View

PATH = "/v1/video/generations"
MODEL = "sora-2"
SIZE, SECONDS = "1280x720", 5


def read_order(call: Call, _manners: Manners) -> Order:
    """Check a create's body and return what it asks for; the model is required, as relays choose by it.

    Raises:
        OrderError: With the first field that breaks a rule.
    """
    fields = forms.numbered(json_object(call.body), "duration", "seconds", "width", "height", "seed")
    longest = MAX_FRAMES / FRAMES_PER_SECOND
    lengths = [number(fields, name, 1, longest, required=False) for name in ("duration", "seconds")]
    width, height = sides(fields, SIZE)
    seed = whole(fields, "seed", 0, 2**31 - 1, otherwise=0) if fields.get("seed") is not None else None
    images = _images(fields)
    return Order(
        model=text(fields, "model"),
        prompt=text(fields, "prompt"),
        width=width,
        height=height,
        n_frames=round((lengths[0] or lengths[1] or SECONDS) * FRAMES_PER_SECOND),
        seed=seed,
        inpaint_items=tuple({"type": "image", "url": image} for image in images),
        placed=opening("image", images),
    )


def refused(refusal: OrderError) -> Answer:
    """The answer to a create that breaks a rule."""
    return refusal.relay_answer()


def created(view: View, manners: Manners) -> Answer:
    """The answer to an accepted create."""
    match manners.generations_answer:
        case "documented":
            return json_answer(200, {"task_id": view.task_id, "status": "queued"})
        case "relay":
            return json_answer(200, {**videos.video_body(view, manners), "id": view.task_id, "task_id": view.task_id})
        case "job":
            return json_answer(200, _job(view))


def looked(view: View, manners: Manners) -> Answer:
    """The answer to a look."""
    match manners.generations_answer:
        case "documented":
            return json_answer(200, _documented(view))
        case "relay":
            return json_answer(200, {"code": "success", "message": "", "data": _relayed(view, manners)})
        case "job":
            return json_answer(200, _job(view))


def unknown_task() -> Answer:
    """The answer about a task nobody knows."""
    return task_not_exist()


def failed(body: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """A task's body, in whichever of the three answers, as it would be had the task failed."""
    if isinstance(body.get("data"), Mapping):
        return {**body, "data": {**body["data"], "status": "FAILURE", "fail_reason": reason, "result_url": ""}}
    task = {name: value for name, value in body.items() if name != "url"}
    return {**task, "status": "failed", "error": videos.failure(reason)}


def _images(fields: Mapping[str, Any]) -> list[str]:
    single = [text(fields, name, required=False) for name in ("image", "image_url")]
    return [url for url in single if url] + texts(fields, "images")


def _documented(view: View) -> dict[str, Any]:
    order = view.order
    body: dict[str, Any] = {"task_id": view.task_id, "status": videos.status(view)}
    if view.failure is not None:
        return {**body, "error": videos.failure(view.failure)}
    if view.status != "succeeded":
        return body
    return {
        **body,
        "url": view.videos[0].url if view.videos else None,
        "format": "mp4",
        "metadata": {
            "duration": round(order.seconds, 3),
            "fps": FRAMES_PER_SECOND,
            "width": order.width,
            "height": order.height,
            "seed": view.task.seed,
        },
    }


def _relayed(view: View, manners: Manners) -> dict[str, Any]:
    url = view.videos[0].url if view.videos else ""
    status = videos.relay_status(view)
    started = view.status != "queued"
    task = {
        "id": view.task.seed,
        "task_id": view.task_id,
        "platform": "sora",
        "action": "generate",
        "status": status,
        "fail_reason": view.failure or "",
        "result_url": url,
        "submit_time": int(view.task.created_at),
        "start_time": int(view.task.created_at) if started else 0,
        "finish_time": int(view.ends_at) if view.ended else 0,
        "progress": f"{100 if view.ended else view.percent}%",
        "properties": {"input": view.order.prompt},
        "data": videos.video_body(view, manners),
    }
    if manners.url_in_fail_reason:
        del task["result_url"]
        task["fail_reason"] = url or task["fail_reason"]
    return task


def _job(view: View) -> dict[str, Any]:
    job = {
        "id": view.task_id.replace("task_", "gen_", 1),
        "object": "video.generation.job",
        "model": view.order.model or MODEL,
        "status": videos.status(view),
        "progress": view.percent,
        "created_at": int(view.task.created_at),
        "seconds": f"{round(view.order.seconds, 3):g}",
    }
    if view.failure is not None:
        return {**job, "error": videos.failure(view.failure)}
    if view.status == "succeeded":
        return {**job, "completed_at": int(view.ends_at), "url": view.videos[0].url if view.videos else None}
    return job
