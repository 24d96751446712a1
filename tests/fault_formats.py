"""What a gateway of each format answers to a create that it takes, to a look and to a list, for the fault server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

Task = Mapping[str, Any]
JSON: Final = "application/json"
STREAM: Final = "text/event-stream"


class Format(NamedTuple):
    """One format, as far as creates that fail touch it.

    Args:
        path: Where creates go.
        created: The body with which a create is accepted, and its media type.
        looked: The body that shows one task; None where no route does.
        listed: The body that shows all of them, newest first; None where no route does.
        model: The model that a create names; None where it need not name any.
        prefix: What stands before a task's id.
    """

    path: str
    created: Callable[[Task], tuple[str, bytes]]
    looked: Callable[[Task], Any] | None = None
    listed: Callable[[Sequence[Task]], Any] | None = None
    model: str | None = None
    prefix: str = ""


def _plain(body: Callable[[Task], Any]) -> Callable[[Task], tuple[str, bytes]]:
    return lambda task: (JSON, json.dumps(body(task)).encode())


def _video(task: Task) -> Any:
    """OpenAI's video object."""
    return {**task, "object": "video", "progress": 0, "created_at": int(task["created_at"])}


def _relayed(task: Task) -> Any:
    moment = int(1000 * task["created_at"])
    return {"id": task["id"], "status": "pending", "status_update_time": moment, "enhanced_prompt": ""}


def _enveloped(task: Task) -> Any:
    """new-api's task, in its envelope."""
    inner = {"task_id": task["id"], "status": "NOT_START", "progress": "0%", "submit_time": int(task["created_at"])}
    return {"code": "success", "message": "", "data": inner}


def _transcript(task: Task) -> Iterator[str]:
    """A chat's answer, an event each: the task's name, its place, its progress, a preview, and the video."""
    name = task["id"]
    told = (
        f"> ID: `{name}`\n",
        f">[preview](https://asyncdata.net/web/{name}) | [source](https://asyncdata.net/source/{name})\n",
        "> 排队中......\n",
        ">🏃 进度 76..\n",
        "> 生成完成 ✅\n[在线播放▶️](https://filesystem.site/cdn/20251013/made.mp4)\n",
    )
    for content in told:
        yield chunk({"content": content})
    yield chunk({}, "stop")
    yield "[DONE]"


def chunk(delta: Mapping[str, Any], reason: str | None = None) -> str:
    """One chunk of a chat's answer."""
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return json.dumps({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]})


def streamed(*said: str) -> bytes:
    """Events with this data."""
    return "".join(f"data: {each}\n\n" for each in said).encode()


FORMATS: Final[Mapping[str, Format]] = {
    "backend": Format(
        "/sora/backend/video_gen",
        _plain(lambda task: {"id": task["id"], "status": task["status"]}),
        listed=lambda tasks: {"task_responses": list(tasks)},
    ),
    "videos": Format(
        "/v1/videos",
        _plain(_video),
        _video,
        lambda tasks: {"object": "list", "data": list(map(_video, tasks)), "has_more": False},
    ),
    "unified": Format("/v1/video/create", _plain(_relayed), _relayed, model="sora-2", prefix="sora-2:"),
    "generations": Format(
        "/v1/video/generations",
        _plain(lambda task: {"task_id": task["id"], "status": "queued"}),
        _enveloped,
        model="sora-2",
    ),
    "chat": Format("/v1/chat/completions", lambda task: (STREAM, streamed(*_transcript(task)))),
}
