"""What the drivers put on the wire and take from it: queries, cookies, codings, names, and what is given up."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from raw_gateway import Connection, RawGateway

from sora_tools import AsyncSora, LostReplyError, NotSentError, Retry, Sora, SubmissionUnknownError
from sora_tools.client.transport import Left
from sora_tools.flow import Flow, More, Open

QUICK = Retry(attempts=4, budget=40.0, first=0.0, longest=0.0)
ONCE = Retry(attempts=1)
KEY = "sk-test-0123456789"
VIDEO = {"prompt": "fly man", "width": 64, "height": 36, "n_frames": 3}

Use = Callable[..., list[Any]]


@pytest.fixture(params=["sync", "async"])
def use(request: pytest.FixtureRequest) -> Use:
    """Make calls with one client of either colour: ``use(base_url, ("list", 7), ("query", "task_1"), timeout=1)``."""

    def sync(base_url: str, *calls: tuple[Any, ...], **settings: Any) -> list[Any]:
        with Sora(**{"base_url": base_url, "api_key": KEY, "retry": QUICK, **settings}) as sora:
            return [getattr(sora, method)(*arguments) for method, *arguments in calls]

    def later(base_url: str, *calls: tuple[Any, ...], **settings: Any) -> list[Any]:
        async def main() -> list[Any]:
            async with AsyncSora(**{"base_url": base_url, "api_key": KEY, "retry": QUICK, **settings}) as sora:
                return [await getattr(sora, method)(*arguments) for method, *arguments in calls]

        return asyncio.run(main())

    return sync if request.param == "sync" else later


# --- what is sent -----------------------------------------------------------------------------------------------


def test_a_list_is_asked_for_with_its_query(use: Use) -> None:
    with RawGateway(lambda connection, *_: connection.reply({"task_responses": []})) as gateway:
        use(gateway.base_url, ("list", 7), ("list", 3, "task_1"))
        paths = [path.partition("?")[2] for _, path, _ in gateway.requests]
    assert paths == ["limit=7", "limit=3&before=task_1"]


def test_a_cookie_is_never_sent_back(use: Use, tmp_path: Any) -> None:
    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        task = {"id": "task_1", "status": "succeeded", "generations": [{"url": "/1.mp4"}]}
        film = b"\0\0\0\x08ftyp"
        connection.reply(film if ".mp4" in path else task if method == "POST" else {"tasks": [task]}, set_cookie="a=b")

    with RawGateway(answer) as gateway:
        use(gateway.base_url, ("create", VIDEO), ("list",), ("create", VIDEO), ("download", "task_1", tmp_path))
        assert len(gateway.requests) == 5
        assert not any("cookie" in headers for _, _, headers in gateway.requests)


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errno", "times"),
    [(socket.EAI_AGAIN, 4), (socket.EAI_FAIL, 4), (socket.EAI_NONAME, 1)],
    ids=["again", "fail", "no name"],
)
def test_only_a_name_that_nobody_has_is_given_up_at_once(
    use: Use, monkeypatch: pytest.MonkeyPatch, errno: int, times: int
) -> None:
    asked: list[Any] = []

    def resolve(*arguments: Any, **_: Any) -> Any:
        asked.append(arguments)
        raise socket.gaierror(errno, "the resolver said so")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(NotSentError) as caught:
        use("http://gateway.test", ("create", VIDEO))
    assert (caught.value.charged, caught.value.retryable, len(asked)) == ("no", times > 1, times)


# --- codings ----------------------------------------------------------------------------------------------------

TASKS = b'{"task_responses": [{"id": "task_1", "status": "running"}]}'


def coded(body: bytes, coding: str) -> RawGateway:
    return RawGateway(lambda connection, *_: connection.reply(body, content_encoding=coding))


@pytest.mark.parametrize(
    ("body", "coding"),
    [(gzip.compress(TASKS), "gzip"), (gzip.compress(TASKS), " GZip "), (zlib.compress(TASKS), "deflate")],
    ids=["gzip", "spelt oddly", "deflate"],
)
def test_one_coding_is_taken_off(use: Use, body: bytes, coding: str) -> None:
    with coded(body, coding) as gateway:
        assert use(gateway.base_url, ("list",))[0].tasks[0].task_id == "task_1"


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (gzip.compress(gzip.compress(TASKS)), "gzip, gzip"),
        (TASKS, "br"),
        (TASKS, "gzip"),
        (b"", "x" * 1000),
    ],
    ids=["twice", "brotli", "not gzip", "unheard of"],
)
def test_any_other_coding_leaves_a_create_unknown(use: Use, body: bytes, coding: str) -> None:
    with coded(body, coding) as gateway:
        with pytest.raises(SubmissionUnknownError) as caught:
            use(gateway.base_url, ("create", VIDEO))
        assert gateway.posts == 1
        assert len(str(caught.value)) < 400


def test_a_bomb_is_not_unpacked(use: Use) -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    with coded(bomb, "gzip") as gateway:
        tracemalloc.start()
        try:
            with pytest.raises(SubmissionUnknownError, match="larger than 1048576 bytes"):
                use(gateway.base_url, ("create", VIDEO), largest_reply=2**20)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 12 * 2**20


# --- what is given up -------------------------------------------------------------------------------------------


def begins(method: bytes) -> tuple[str, dict[str, Any]]:
    return "http11.send_request_headers.started", {"request": SimpleNamespace(method=method)}


def test_a_tunnel_through_a_proxy_is_not_the_request() -> None:
    left = Left()
    left.note(*begins(b"CONNECT"))
    assert left.never(httpx.ReadError("the proxy went"))
    left = Left()
    left.note(*begins(b"CONNECT"))
    left.note(*begins(b"POST"))
    assert not left.never(httpx.ConnectError("after all"))


def test_a_request_that_was_given_up_is_stopped_at_its_first_byte() -> None:
    left = Left()
    left.note("connection.connect_tcp.started", {})
    assert left.never(TimeoutError())
    with pytest.raises(httpx.WriteTimeout):
        left.note(*begins(b"POST"))
    assert left.never(TimeoutError()), "what was said of it stays true"


@pytest.mark.parametrize(
    ("error", "never"),
    [(httpx.ConnectError("x"), True), (httpx.PoolTimeout("x"), True), (httpx.ReadError("x"), False)],
    ids=repr,
)
def test_where_no_trace_tells_only_the_error_can(error: Exception, never: bool) -> None:
    assert Left().never(error) is never


class Dripping:
    """A gateway whose header or body never ends, and that notices when the other side hangs up."""

    def __init__(self, beginning: bytes, end: bytes = b"") -> None:
        self.beginning, self.end = beginning, end
        self.go, self.hung_up = threading.Event(), threading.Event()

    def __call__(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        connection.raw.sendall(self.beginning)
        try:
            while not self.go.wait(0.02):
                connection.raw.sendall(b"a")
            connection.raw.sendall(self.end)
            connection.raw.settimeout(5)
            if connection.raw.recv(1):
                return
        except ConnectionError:
            pass
        self.hung_up.set()


def test_a_create_whose_answer_drips_is_hung_up_on() -> None:
    dripping = Dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    with RawGateway(dripping) as gateway, Sora(base_url=gateway.base_url, api_key=KEY, timeout=0.2) as sora:
        with pytest.raises(SubmissionUnknownError):
            sora.create(VIDEO)
        assert dripping.hung_up.wait(2), "before the client is closed"


def test_a_download_that_begins_after_it_was_given_up_is_hung_up_on() -> None:
    dripping = Dripping(b"HTTP/1.1 200 OK\r\nx-slow: ", b"\r\ncontent-length: 1000000\r\n\r\nfilm")

    def fetching(url: str) -> Flow[None]:
        yield Open(url, 0.2)

    with RawGateway(dripping) as gateway, Sora(base_url=gateway.base_url, api_key=KEY) as sora:
        with pytest.raises(LostReplyError):
            sora.run(fetching(f"{gateway.base_url}/1.mp4"))
        dripping.go.set()
        assert dripping.hung_up.wait(2), "before the client is closed"


def test_the_next_bytes_of_a_download_may_take_no_longer_than_said(use: Use) -> None:
    def fetching(url: str) -> Flow[None]:
        yield Open(url, 10.0)
        yield More(10.0)
        yield More(0.2)

    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        connection.raw.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nfilm")
        gateway.stopped.wait(3)

    with RawGateway(answer) as gateway:
        start = time.monotonic()  # patience is about real seconds
        with pytest.raises(LostReplyError):
            use(gateway.base_url, ("run", fetching(f"{gateway.base_url}/1.mp4")))
        assert 0.2 <= time.monotonic() - start < 1.5
