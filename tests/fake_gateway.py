"""A gateway behind a mock transport, for tests of what LangChain makes of an answer."""

from __future__ import annotations

import json
from typing import Any

import httpx
from langchain_core.tools import BaseTool

from sora_tools import Retry

KEY = "sk-secret-key"
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(100)
VIDEO = "https://videos.test/a.mp4"
PROMPT = {"prompt": "fly man"}


class FakeGateway:
    """Answers each route from a script whose last line is repeated; a line is a response, or an error to raise."""

    def __init__(self, *posts: Any, tasks: list[dict[str, Any]] | None = None, video: Any = None) -> None:
        self.posts = list(posts) or [accepted()]
        self.tasks = tasks or []
        self.video = video or httpx.Response(200, content=MP4)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.host == "videos.test":
            return answered(self.video)
        if request.method == "POST":
            return answered(self.posts.pop(0) if len(self.posts) > 1 else self.posts[0])
        if request.url.path == "/sora/backend/video_gen":
            page = {"task_responses": self.tasks, "has_more": False}
            return httpx.Response(200, content=json.dumps(page), headers={"content-type": "application/json"})
        return httpx.Response(404, json={"error": {"message": "Invalid URL", "type": "invalid_request_error"}})

    @property
    def sent(self) -> list[bytes]:
        """The bodies of all creates, in order."""
        return [request.content for request in self.requests if request.method == "POST"]

    def settings(self, **more: Any) -> dict[str, Any]:
        return {
            "base_url": "https://gateway.test",
            "api_key": KEY,
            "transport": httpx.MockTransport(self),
            "retry": Retry(attempts=3, first=0),
            **more,
        }


def answered(line: Any) -> httpx.Response:
    if isinstance(line, BaseException):
        raise line
    if isinstance(line, httpx.Response):
        return httpx.Response(line.status_code, headers=line.headers, content=line.content)
    return httpx.Response(200, json=line)


def accepted(task_id: str = "task_1") -> dict[str, Any]:
    return {"id": task_id, "status": "queued", "progress_pct": 0}


def task(status: str = "succeeded", task_id: str = "task_1", **more: Any) -> dict[str, Any]:
    generations = [{"id": "gen_1", "url": VIDEO, "width": 854, "height": 480, "n_frames": 150}]
    made = {"generations": generations} if status == "succeeded" else {}
    return {"id": task_id, "status": status, "progress_pct": 0.4, "prompt": "fly man", **made, **more}


def call(tool: BaseTool | str, **arguments: Any) -> dict[str, Any]:
    name = tool if isinstance(tool, str) else tool.name
    return {"name": name, "args": arguments, "id": "call_1", "type": "tool_call"}
