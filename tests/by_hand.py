"""A third driver, beside Sora and AsyncSora: it grants wishes from a script, and a clock jumps instead of sleeping."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from conftest import Clock

from sora_tools.flow import ALONE, Do, Finish, Flow, Look, Send, Sleep, Tell
from sora_tools.wire import Reply

PAGE = "<!doctype html><title>panel</title>"


def reply(status: int = 200, body: Any = "", **headers: str) -> Reply:
    text = body if isinstance(body, str) else json.dumps(body)
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, text.encode())


def html() -> Reply:
    return reply(200, PAGE, content_type="text/html; charset=utf-8")


class Play:
    """Grants a flow's wishes: sends are answered from a script, naps move the clock, the rest is done at once."""

    def __init__(
        self, clock: Clock, posts: list[Any], lists: list[Any] | None = None, news: list[Any] | None = None
    ) -> None:
        self.clock, self.answers = clock, {"POST": posts, "GET": lists or []}
        self.news = news or [ALONE]
        self.looks: list[float] = []
        self.sent: list[str] = []
        self.naps: list[float] = []
        self.events: list[Any] = []

    def run(self, flow: Flow[Any]) -> Any:
        step: Callable[[Any], Any] = flow.send
        value: Any = None
        while True:
            try:
                wish = step(value)
            except StopIteration as end:
                return end.value
            try:
                step, value = flow.send, self.grant(wish)
            except Exception as error:
                step, value = flow.throw, error

    def grant(self, wish: Any) -> Any:
        match wish:
            case Send(call):
                self.sent.append(call.method)
                answers = self.answers[call.method]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if isinstance(answer, Exception):
                    raise answer
                return answer
            case Sleep(seconds):
                self.naps.append(seconds)
                self.clock.seconds += seconds
            case Do(work, arguments):
                return work(*arguments)
            case Tell(event):
                self.events.append(event)
            case Finish(flow):
                return self.run(flow)
            case Look(_, pause):
                self.looks.append(self.clock.seconds + pause)
                self.clock.seconds += pause
                return self.news.pop(0) if len(self.news) > 1 else self.news[0]
        return None

    @property
    def posts(self) -> int:
        return self.sent.count("POST")
