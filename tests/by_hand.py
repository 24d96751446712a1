"""A third driver, beside Sora and AsyncSora: it grants wishes from a script, and a clock jumps instead of sleeping."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from conftest import Clock

from sora_tools.flow import ALONE, Do, Finish, Flow, Look, More, Open, Send, Sleep, Tell
from sora_tools.wire import Call, Reply

PAGE = "<!doctype html><title>panel</title>"


def reply(status: int = 200, body: Any = "", **headers: str) -> Reply:
    text = body if isinstance(body, str) else json.dumps(body)
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, text.encode())


def html() -> Reply:
    return reply(200, PAGE, content_type="text/html; charset=utf-8")


def box(kind: bytes, content: bytes) -> bytes:
    """What an MP4 is made of."""
    return (8 + len(content)).to_bytes(4) + kind + content


FILM = box(b"ftyp", b"isom\0\0\2\0isomiso2") + box(b"moov", bytes(range(60))) + box(b"mdat", bytes(range(100)))


def film(*chunks: Any, **headers: str) -> tuple[Reply, list[Any]]:
    """An answer to Open and the chunks that come after it; without chunks, a whole film."""
    return reply(200, "", content_type="video/mp4", **headers), list(chunks or (FILM,))


NOTHING = reply(200, {"task_responses": [], "has_more": False})


class Play:
    """Grants a flow's wishes: what it asks others for comes from a script, naps move the clock, the rest is done.

    The last line of a script stands for all further ones. A line may be an exception, to be raised, or a function,
    to be called when its turn comes.
    """

    def __init__(
        self,
        clock: Clock,
        posts: list[Any],
        lists: list[Any] | None = None,
        news: list[Any] | None = None,
        files: list[Any] | None = None,
    ) -> None:
        self.clock, self.answers = clock, {"POST": list(posts), "GET": list(lists or [NOTHING])}
        self.news, self.files = list(news or [ALONE]), list(files or [])
        self.chunks: list[Any] = []
        self.looks: list[float] = []
        self.calls: list[Call[Any]] = []
        self.opened: list[str] = []
        self.asked: list[dict[str, str]] = []
        self.patience: list[float] = []
        self.naps: list[float] = []
        self.events: list[Any] = []
        self.at_nap: Callable[[], Any] = lambda: None

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
                self.calls.append(call)
                return said(self.answers[call.method])
            case Open(url, patience, headers):
                self.opened.append(url)
                self.asked.append(dict(headers))
                self.patience.append(patience)
                answer = said(self.files)
                opened, self.chunks = answer if isinstance(answer, tuple) else (answer, [])
                self.chunks = [*self.chunks, b""]
                return opened
            case More(patience):
                self.patience.append(patience)
                return said(self.chunks)
            case Sleep(seconds):
                self.naps.append(seconds)
                self.clock.seconds += seconds
                self.at_nap()
            case Do(work, arguments):
                return work(*arguments)
            case Tell(event):
                self.events.append(event)
            case Finish(flow):
                return self.run(flow)
            case Look(_, pause):
                self.looks.append(self.clock.seconds + pause)
                self.clock.seconds += pause
                return said(self.news, thrown=False)
        return None

    @property
    def sent(self) -> list[str]:
        return [call.method for call in self.calls]

    @property
    def posts(self) -> int:
        return self.sent.count("POST")


def said(script: list[Any], *, thrown: bool = True) -> Any:
    """The next line of a script; its last line again and again."""
    line = script.pop(0) if len(script) > 1 else script[0]
    if thrown and isinstance(line, Exception):
        raise line
    return line() if callable(line) else line
