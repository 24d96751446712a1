"""Downloads over real sockets: cut, continued, contended for, killed, led astray; and what stands in the folder."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from by_hand import box
from raw_gateway import Connection, RawGateway

from sora_tools import AsyncSora, DownloadError, Retry, Sora, VideoTask
from sora_tools.addresses import origin
from sora_tools.events import Downloading
from sora_tools.flow import download
from sora_tools.flow.download import file_name
from sora_tools.sandbox import Sandbox

KEY = "sk-test-0123456789"
QUICK = Retry(attempts=4, budget=40.0, first=0.0, longest=0.0)
FILM = box(b"ftyp", b"isom\0\0\2\0isomiso2") + box(b"moov", bytes(500)) + box(b"mdat", os.urandom(300_000))
OTHER = box(b"ftyp", b"isom\0\0\2\0isomiso2") + box(b"moov", bytes(500)) + box(b"mdat", os.urandom(200_000))
NAME = "task_1-gen_1.mp4"

Fetch = Callable[..., Path]


@pytest.fixture(params=["sync", "async"])
def fetch(request: pytest.FixtureRequest) -> Fetch:
    """Download one video with a new client of either colour: ``fetch(gateway, address, folder, **settings)``."""

    def sync(gateway: Any, url: str, folder: Path, *, on_event: Any = None, **settings: Any) -> Path:
        with Sora(**client(gateway, settings)) as sora:
            return sora.download(task(gateway, url), folder, on_event=on_event)[0]

    def later(gateway: Any, url: str, folder: Path, *, on_event: Any = None, **settings: Any) -> Path:
        async def main() -> Path:
            async with AsyncSora(**client(gateway, settings)) as sora:
                return (await sora.download(task(gateway, url), folder, on_event=on_event))[0]

        return asyncio.run(main())

    return sync if request.param == "sync" else later


def client(gateway: Any, settings: dict[str, Any]) -> dict[str, Any]:
    base_url = gateway if isinstance(gateway, str) else gateway.base_url
    return {"base_url": base_url, "api_key": KEY, "retry": QUICK, "ledger": "memory", "timeout": 5.0, **settings}


def task(gateway: Any, url: str, generation_id: str = "gen_1") -> VideoTask:
    whole = url if "://" in url else gateway.base_url + url
    made = [{"generation_id": generation_id, "url": whole}]
    return VideoTask(task_id="task_1", status="succeeded", generations=made)


def names(folder: Path) -> list[str]:
    """What is there, the fingerprints left out: they hang on the gateway's port."""
    return sorted(unmarked(path.name) for path in folder.iterdir())


def unmarked(name: str) -> str:
    return re.sub(r"-[0-9a-f]{8}(?=\.mp4)", "", name)


class Shelf:
    """Serves a film to whoever asks, with ranges; what goes wrong comes from a script, a line for each request.

    ``cut``: only so many bytes, then the end. ``status``: an answer of this status. ``ranges=False``: all of it,
    whatever was asked. ``after``: called when all is sent. ``content``: sent in place of the film. The rest are
    headers to send in place of the true ones; None leaves one out.
    """

    def __init__(self, *script: dict[str, Any], film: bytes = FILM, etag: str | None = '"v1"') -> None:
        self.script, self.film, self.etag = list(script), film, etag

    def __call__(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        asked = self.gateway.requests[-1][2]
        line = dict(self.script.pop(0)) if self.script else {}
        cut, status, ranges = line.pop("cut", None), line.pop("status", None), line.pop("ranges", True)
        after = line.pop("after", lambda: None)
        first = (
            int(asked["range"][6:-1]) if "range" in asked and ranges and asked.get("if-range") == self.etag else None
        )
        content = self.film[first or 0 :]
        headers = {"content-length": str(len(content)), "etag": self.etag, "content-type": "video/mp4"}
        if first is not None:
            headers["content-range"] = f"bytes {first}-{len(self.film) - 1}/{len(self.film)}"
        if first is not None and first >= len(self.film):
            status, content = 416, b""
            headers.update({"content-range": f"bytes */{len(self.film)}", "content-length": "0"})
        content = line.pop("content", content)
        headers.update({name.replace("_", "-"): value for name, value in line.items()})
        lines = [f"HTTP/1.1 {status or (200 if first is None else 206)} X"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        connection.raw.sendall("\r\n".join([*lines, "", ""]).encode() + content[:cut])
        after()
        if cut is not None or headers["content-length"] is None:
            connection.close()

    def __enter__(self) -> RawGateway:
        self.gateway = RawGateway(self).__enter__()
        return self.gateway

    def __exit__(self, *_: object) -> None:
        self.gateway.__exit__()


def ranges(gateway: RawGateway) -> list[tuple[str | None, str | None]]:
    return [(headers.get("range"), headers.get("if-range")) for _, _, headers in gateway.requests]


# --- continued --------------------------------------------------------------------------------------------------


def test_what_is_cut_off_is_continued_byte_for_byte(fetch: Fetch, tmp_path: Path) -> None:
    shelf = Shelf({"cut": 100_000}, {"cut": 70_000}, {"cut": 1})
    with shelf as gateway:
        path = fetch(gateway, "/1.mp4", tmp_path)
        asked = ranges(gateway)
    assert path.read_bytes() == FILM
    assert names(tmp_path) == [NAME]
    assert asked == [(None, None), *[(f"bytes={at}-", '"v1"') for at in (100_000, 170_000, 170_001)]]


def test_a_later_client_continues_what_an_earlier_one_gave_up(fetch: Fetch, tmp_path: Path) -> None:
    with Shelf({"cut": 100_000}) as gateway:
        with pytest.raises(DownloadError, match="not create it again") as caught:
            fetch(gateway, "/1.mp4", tmp_path, retry=Retry(attempts=1))
        (part,) = tmp_path.iterdir()
        assert (caught.value.retryable, part.suffix, part.stat().st_size) == (True, ".part", 100_000)
        assert fetch(gateway, "/1.mp4", tmp_path).read_bytes() == FILM
        assert (ranges(gateway)[1:], names(tmp_path)) == ([("bytes=100000-", '"v1"')], [NAME])


def test_a_changed_film_is_fetched_anew_and_whole(fetch: Fetch, tmp_path: Path) -> None:
    shelf = Shelf({"cut": 100_000})
    with shelf as gateway:
        with pytest.raises(DownloadError):
            fetch(gateway, "/1.mp4", tmp_path, retry=Retry(attempts=1))
        shelf.film, shelf.etag = OTHER, '"v2"'
        assert fetch(gateway, "/1.mp4", tmp_path).read_bytes() == OTHER
        assert (ranges(gateway)[1:], names(tmp_path)) == ([("bytes=100000-", '"v1"')], [NAME])


@pytest.mark.parametrize("script", [{"ranges": False}, {"ranges": False, "etag": None}], ids=["tag", "no tag"])
def test_a_server_without_ranges_is_asked_once_more(fetch: Fetch, tmp_path: Path, script: dict[str, Any]) -> None:
    with Shelf({"cut": 100_000}, script) as gateway:
        assert fetch(gateway, "/1.mp4", tmp_path).read_bytes() == FILM
        assert (gateway.gets, names(tmp_path)) == (2, [NAME])


def test_a_server_that_names_no_version_is_asked_for_everything(fetch: Fetch, tmp_path: Path) -> None:
    with Shelf({"cut": 100_000}, {"cut": 200_000}, etag=None) as gateway:
        assert fetch(gateway, "/1.mp4", tmp_path).read_bytes() == FILM
        assert ranges(gateway) == [(None, None)] * 3


def test_a_date_will_do_where_there_is_no_tag(fetch: Fetch, tmp_path: Path) -> None:
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    shelf = Shelf({"cut": 100_000, "etag": None, "last_modified": date}, etag=date)
    with shelf as gateway:
        assert fetch(gateway, "/1.mp4", tmp_path).read_bytes() == FILM
        assert ranges(gateway) == [(None, None), ("bytes=100000-", date)]


@pytest.mark.parametrize(
    "line",
    [
        {"content_range": "bytes 99999-300000/300540"},
        {"content_range": None},
        {"status": 416},
        {"status": 416, "content_range": "bytes */7", "content": b"", "content_length": "0"},
        {"etag": '"v2"'},
    ],
    ids=["elsewhere", "nowhere", "416 of all", "416 of less", "other version"],
)
def test_an_answer_that_does_not_fit_is_not_glued_on(fetch: Fetch, tmp_path: Path, line: dict[str, Any]) -> None:
    with Shelf({"cut": 100_000}, line) as gateway:
        assert fetch(gateway, "/1.mp4", tmp_path).read_bytes() == FILM
        assert [asked for asked, _ in ranges(gateway)] == [None, "bytes=100000-", None]
        assert names(tmp_path) == [NAME]


def test_a_film_that_was_whole_but_for_its_name_gets_it_unsent(fetch: Fetch, tmp_path: Path) -> None:
    with Shelf({"content_length": str(len(FILM) + 9), "cut": len(FILM)}) as gateway:
        assert fetch(gateway, "/1.mp4", tmp_path).read_bytes() == FILM
        assert [asked for asked, _ in ranges(gateway)] == [None, f"bytes={len(FILM)}-"]


def test_a_sandbox_can_be_resumed(fetch: Fetch, sandbox: Sandbox, quick: dict[str, Any], tmp_path: Path) -> None:
    with Sora(**client(sandbox, {})) as sora:
        made = sora.generate(quick)
    sandbox.script("download", "cut_stream", times=1)
    path = fetch(sandbox, made.generations[0].url, tmp_path)
    whole = fetch(sandbox, made.generations[0].url, tmp_path / "whole")
    assert path.read_bytes() == whole.read_bytes()
    asked = [request.headers for request in sandbox.requests if request.route == "download"]
    assert ["range" in headers for headers in asked] == [False, True, False]
    assert asked[1]["if-range"].startswith('"')


def test_a_sandbox_whose_film_changes_is_asked_anew(
    fetch: Fetch, sandbox: Sandbox, quick: dict[str, Any], tmp_path: Path
) -> None:
    with Sora(**client(sandbox, {})) as sora:
        made = sora.generate(quick)
    for fault in ("cut_stream", "changed"):
        sandbox.script("download", fault, times=1)
    path = fetch(sandbox, made.generations[0].url, tmp_path)
    assert path.read_bytes()[4:8] == b"ftyp"
    assert len(names(tmp_path)) == 1


# --- given up in the middle -------------------------------------------------------------------------------------


def test_a_conversation_closed_in_mid_stream_leaves_a_part_to_continue(tmp_path: Path) -> None:
    stop = KeyboardInterrupt()

    def interrupted(event: Any) -> None:
        if isinstance(event, Downloading) and event.received >= 100_000:
            raise stop

    with Shelf({"cut": 150_000}) as gateway:
        with Sora(**client(gateway, {})) as sora, pytest.raises(KeyboardInterrupt):
            sora.download(task(gateway, "/1.mp4"), tmp_path, on_event=interrupted)
        (part,) = tmp_path.iterdir()
        there = part.stat().st_size
        with Sora(**client(gateway, {})) as sora:
            (path,) = sora.download(task(gateway, "/1.mp4"), tmp_path)
        assert (path.read_bytes(), names(tmp_path)) == (FILM, [NAME])
        assert ranges(gateway)[1] == (f"bytes={there}-", '"v1"')
        assert 100_000 <= there <= 150_000


async def test_a_cancelled_caller_leaves_a_part_to_continue(tmp_path: Path) -> None:
    arrived = asyncio.Event()

    def tell(event: Any) -> None:
        if isinstance(event, Downloading) and event.received >= 100_000:
            arrived.set()

    shelf = Shelf({"cut": 100_000, "after": lambda: gateway.stopped.wait(3)})
    with shelf as gateway:
        async with AsyncSora(**client(gateway, {})) as sora:
            work = asyncio.create_task(sora.download(task(gateway, "/1.mp4"), tmp_path, on_event=tell))
            await asyncio.wait_for(arrived.wait(), 5)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            (path,) = await sora.download(task(gateway, "/1.mp4"), tmp_path)
        assert (path.read_bytes(), names(tmp_path)) == (FILM, [NAME])
        assert ranges(gateway)[1] == ("bytes=100000-", '"v1"')


async def test_callers_cancelled_at_any_moment_do_no_harm(tmp_path: Path) -> None:
    with Shelf() as gateway:
        async with AsyncSora(**client(gateway, {})) as sora:
            for number in range(30):
                work = asyncio.create_task(sora.download(task(gateway, "/1.mp4"), tmp_path))
                await asyncio.sleep(number / 1000)
                work.cancel()
                await asyncio.wait([work])
            (path,) = await sora.download(task(gateway, "/1.mp4"), tmp_path)
    assert path.read_bytes() == FILM
    assert [name for name in names(tmp_path) if re.search(r"\.[0-9a-f]{8}\.part", name)] == []


SCRIPT = """
import resource, sys
from sora_tools import Retry, Sora, SoraError, VideoTask
base_url, folder, largest = sys.argv[1:]
if largest != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest), int(largest)))
made = [{"generation_id": "gen_1", "url": base_url + "/1.mp4"}]
task = VideoTask(task_id="task_1", status="succeeded", generations=made)
print("ready", flush=True)
sys.stdin.readline()
with Sora(base_url=base_url, api_key="sk-test", ledger="memory", retry=Retry(attempts=1)) as sora:
    try:
        print("saved", sora.download(task, folder)[0].name, flush=True)
    except SoraError as error:
        print(error.describe(), flush=True)
"""


def started(gateway: RawGateway, folder: Path, largest: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, gateway.base_url, str(folder), str(largest)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def told(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate("go\n", timeout=30)
    return out.strip()


def test_a_process_killed_in_mid_stream_leaves_a_part_to_continue(tmp_path: Path) -> None:
    with Shelf({"cut": 100_000, "after": lambda: gateway.stopped.wait(10)}) as gateway:
        process = started(gateway, tmp_path)
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        until = time.monotonic() + 20  # another process has a clock of its own
        while sum(path.stat().st_size for path in tmp_path.iterdir()) < 100_000 and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
        assert [name.endswith(".part") for name in names(tmp_path)] == [True]
        with Sora(**client(gateway, {})) as sora:
            (path,) = sora.download(task(gateway, "/1.mp4"), tmp_path)
        assert (path.read_bytes(), names(tmp_path)) == (FILM, [NAME])
        assert ranges(gateway)[1] == ("bytes=100000-", '"v1"')


def test_a_disk_that_takes_no_more_is_named_and_keeps_nothing(tmp_path: Path) -> None:
    with Shelf() as gateway:
        said = told(started(gateway, tmp_path, largest=100_000))
    assert "could not be written: File too large" in said
    assert "do not create it again" in said
    assert "'retryable': False" in said
    assert names(tmp_path) == []


# --- several at once --------------------------------------------------------------------------------------------


class Slow(Shelf):
    """Hands every film out in pieces, so that those who ask at once get it at once."""

    def __call__(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        head = f"HTTP/1.1 200 X\r\ncontent-length: {len(FILM)}\r\netag: {self.etag}\r\n\r\n"
        connection.raw.sendall(head.encode())
        for at in range(0, len(FILM), 30_000):
            connection.raw.sendall(FILM[at : at + 30_000])
            time.sleep(0.02)


def test_threads_that_want_one_film_at_once_all_get_it_whole(tmp_path: Path) -> None:
    with Slow() as gateway, ThreadPoolExecutor(6) as pool, Sora(**client(gateway, {})) as sora:
        saved = list(pool.map(lambda _: sora.download(task(gateway, "/1.mp4"), tmp_path)[0].read_bytes(), range(6)))
    assert (set(saved), names(tmp_path)) == ({FILM}, [NAME])


async def test_tasks_that_want_one_film_at_once_all_get_it_whole(tmp_path: Path) -> None:
    with Slow() as gateway:
        async with AsyncSora(**client(gateway, {})) as sora:
            saved = await asyncio.gather(*(sora.download(task(gateway, "/1.mp4"), tmp_path) for _ in range(6)))
    assert {paths[0].read_bytes() for paths in saved} == {FILM}
    assert names(tmp_path) == [NAME]


def test_processes_that_want_one_film_at_once_all_get_it_whole(tmp_path: Path) -> None:
    with Slow() as gateway:
        processes = [started(gateway, tmp_path) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            assert list(map(unmarked, pool.map(told, processes))) == [f"saved {NAME}"] * 2
        assert gateway.gets == 2
    assert ([path.read_bytes() for path in tmp_path.iterdir()], names(tmp_path)) == ([FILM], [NAME])


# --- what is not a film, and what lies about itself ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words", "times"),
    [
        ({"content_length": str(len(FILM) + 9)}, "left, and no whole answer", None),
        ({"content_length": str(len(FILM) - 9)}, "cut off", 4),
        ({"content_length": None, "cut": 200_000, "etag": None}, "cut off", 4),
        ({"content_type": "text/html; charset=utf-8"}, "web page", 1),
        ({"content": b"<html>" + FILM[6:]}, "not an MP4", 1),
        ({"content": b"", "content_length": "0"}, "cut off", 4),
    ],
    ids=["says more", "says less", "says nothing", "page", "hidden page", "empty"],
)
def test_what_is_no_whole_film_never_gets_the_name(
    fetch: Fetch, tmp_path: Path, line: dict[str, Any], words: str, times: int | None
) -> None:
    honest = {**line, "cut": line.get("cut", len(FILM))}
    with Shelf(*[{**honest, "ranges": False, "etag": None}] * 9) as gateway:
        with pytest.raises(DownloadError, match=words) as caught:
            fetch(gateway, "/1.mp4", tmp_path)
        assert gateway.gets == (times or 4)
    assert names(tmp_path) == []
    assert "not create it again" in str(caught.value)
    assert caught.value.charged == "yes"


@pytest.mark.parametrize("announced", [True, False])
def test_a_film_larger_than_allowed_is_not_read_to_its_end(fetch: Fetch, tmp_path: Path, announced: bool) -> None:
    seen: list[int] = []
    line = {} if announced else {"content_length": None}
    with Shelf(line) as gateway:
        with pytest.raises(DownloadError, match="larger than 100000 bytes") as caught:
            fetch(
                gateway, "/1.mp4", tmp_path, largest_video=100_000, on_event=lambda event: seen.append(event.received)
            )
        assert gateway.gets == 1
    assert (names(tmp_path), caught.value.retryable) == ([], False)
    assert max(seen, default=0) <= (0 if announced else 100_000)


# --- where a film may come from, and who sees the key -------------------------------------------------------------


def led(location: str) -> Callable[..., None]:
    return lambda connection, *_: connection.reply(b"", status=302, location=location)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["other port", "other host"])
def test_the_key_stays_with_the_gateways_own_origin(fetch: Fetch, tmp_path: Path, host: str) -> None:
    with Shelf({"cut": 100_000}) as elsewhere:
        address = f"{elsewhere.base_url.replace('127.0.0.1', host)}/1.mp4"
        with RawGateway(led(address)) as gateway:
            path = fetch(gateway, "/1.mp4", tmp_path, headers={"x-tenant": "mine"})
            assert [request[2]["authorization"] for request in gateway.requests] == [f"Bearer {KEY}"] * 2
            assert [request[2]["x-tenant"] for request in gateway.requests] == ["mine"] * 2
        assert path.read_bytes() == FILM
        assert len(elsewhere.requests) == 2
        for _, _, headers in elsewhere.requests:
            assert not {"authorization", "x-tenant", "cookie"} & headers.keys()
            assert KEY not in str(headers)


def test_a_key_that_the_gateway_puts_into_a_redirect_goes_nowhere(fetch: Fetch, tmp_path: Path) -> None:
    with Shelf() as elsewhere:
        address = f"{elsewhere.base_url}/1.mp4?key={KEY}&also=sk-%74est-0123456789"
        with RawGateway(led(address)) as gateway:
            assert fetch(gateway, "/1.mp4", tmp_path).read_bytes() == FILM
        assert [path for _, path, _ in elsewhere.requests] == ["/1.mp4?key=***&also=***"]


def test_a_redirect_back_home_brings_the_key_again(fetch: Fetch, tmp_path: Path) -> None:
    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        if path == "/1.mp4":
            connection.reply(b"", status=302, location=f"{elsewhere.base_url}/2.mp4")
        else:
            connection.reply(FILM)

    with RawGateway(answer) as gateway, RawGateway(led(f"{gateway.base_url}/3.mp4")) as elsewhere:
        assert fetch(gateway, "/1.mp4", tmp_path).read_bytes() == FILM
        assert ["authorization" in headers for _, _, headers in gateway.requests] == [True, True]
        assert "authorization" not in elsewhere.requests[0][2]


def test_a_dead_address_costs_one_look_and_no_create(fetch: Fetch, tmp_path: Path) -> None:
    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        if "video_gen" in path:
            made = [{"id": "gen_1", "url": "/fresh.mp4"}]
            connection.reply({"task_responses": [{"id": "task_1", "status": "succeeded", "generations": made}]})
        elif path == "/fresh.mp4":
            connection.reply(FILM, etag='"v1"')
        else:
            connection.reply(b"expired", status=403)

    with RawGateway(answer) as gateway:
        assert fetch(gateway, "/1.mp4", tmp_path).read_bytes() == FILM
        paths = [path for _, path, _ in gateway.requests]
        assert (gateway.posts, paths[0], paths[-1]) == (0, "/1.mp4", "/fresh.mp4")
        assert len(paths) == 3


class Listener:
    """A machine that should never hear a word: whoever connects is noted, and what they say."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.create_server((host, 0), family=family)
        self.port, self.heard, self.connections = self.socket.getsockname()[1], b"", 0
        self.came = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                connection.settimeout(1)
                with suppress(OSError):
                    self.heard += connection.recv(1000)
            self.came.set()

    def stop(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(6)


@pytest.fixture(params=["127.0.0.1", "127.0.0.2", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    listening = Listener(request.param)
    listening.host = request.param
    yield listening
    listening.stop()


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What names lead to; the rest as ever."""
    known: dict[str, str] = {}
    real = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return real(known.get(name, name), *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


@pytest.mark.parametrize("base_url", ["https://gateway.test", "http://127.0.0.1:9"])
def test_a_public_name_that_leads_home_is_not_asked(
    fetch: Fetch, tmp_path: Path, listener: Any, resolves: dict[str, str], base_url: str
) -> None:
    resolves["cdn.test"] = listener.host
    with pytest.raises(DownloadError, match=r"cdn\.test .*private_addresses=True") as caught:
        fetch(base_url, f"https://cdn.test:{listener.port}/1.mp4", tmp_path)
    assert listener.came.wait(5)
    listener.stop()
    assert (listener.heard, listener.connections) == (b"", 1), "asked once, and not a byte said, not even of TLS"
    assert (caught.value.retryable, caught.value.task_id, names(tmp_path)) == (False, "task_1", [])
    assert "Do not create it again" in caught.value.hint


def test_a_redirect_to_a_name_that_leads_home_is_not_followed(
    fetch: Fetch, tmp_path: Path, listener: Any, resolves: dict[str, str]
) -> None:
    resolves["cdn.test"] = listener.host
    location = f"https://cdn.test:{listener.port}/1.mp4"
    with RawGateway(led(location)) as gateway, pytest.raises(DownloadError, match=r"cdn\.test"):
        fetch(gateway, "/1.mp4", tmp_path)
    assert listener.came.wait(5)
    listener.stop()
    assert listener.heard == b""


def test_the_operator_may_let_a_name_lead_home(
    fetch: Fetch, tmp_path: Path, listener: Any, resolves: dict[str, str]
) -> None:
    resolves["cdn.test"] = listener.host
    with pytest.raises(DownloadError, match="did not arrive whole"):
        fetch(
            "https://gateway.test",
            f"https://cdn.test:{listener.port}/1.mp4",
            tmp_path,
            private_addresses=True,
            retry=Retry(attempts=1),
            timeout=0.5,
        )
    assert listener.came.wait(5)
    listener.stop()
    assert listener.heard[:1] == b"\x16", "a handshake began"


def test_a_name_that_leads_to_metadata_is_not_asked(
    tmp_path: Path, resolves: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listening, connect = Listener(), socket.socket.connect
    resolves["cdn.test"] = "169.254.169.254"

    class Pretending(socket.socket):
        def getpeername(self) -> Any:
            return ("169.254.169.254", listening.port)

    def diverted(own: socket.socket, address: Any) -> Any:
        return connect(own, ("127.0.0.1", listening.port) if address[0] == "169.254.169.254" else address)

    monkeypatch.setattr(Pretending, "connect", diverted)
    monkeypatch.setattr(socket, "socket", Pretending)
    try:
        with Sora(**client("https://gateway.test", {"timeout": 1.0})) as sora, pytest.raises(DownloadError) as caught:
            sora.download(task("", f"https://cdn.test:{listening.port}/1.mp4"), tmp_path)
        assert listening.came.wait(5)
    finally:
        listening.stop()
    assert "cdn.test leads to a private machine" in str(caught.value)
    assert listening.heard == b""


def test_a_proxy_looks_names_up_for_itself(
    fetch: Fetch, tmp_path: Path, resolves: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves["cdn.test"] = "127.0.0.1"
    with RawGateway(lambda connection, *_: connection.reply(b"", status=502)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.base_url)
        with pytest.raises(DownloadError):
            fetch("https://gateway.test", "https://cdn.test/1.mp4", tmp_path, retry=Retry(attempts=1))
        assert [(method, path) for method, path, _ in proxy.requests] == [("CONNECT", "cdn.test:443")]


PRIVATE = [
    *("127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"),
    *("0.0.0.0", "0", "localhost.", "LOCALHOST", "a.localhost", "x.local", "x.internal", "intranet", "10.0.0.1"),
    *("172.16.0.1", "192.168.0.1", "169.254.169.254", "2852039166", "[fe80::1]", "[fd00:ec2::254]", "100.64.0.1"),
    *("100.100.100.200", "168.63.129.16", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "224.0.0.1", "255.255.255.255"),
    *("[::]", "metadata.google.internal", "１２７。0.0.1"),
]


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("redirected", [False, True], ids=["given", "redirected"])
def test_a_private_host_is_not_even_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, redirected: bool
) -> None:
    asked: list[Any] = []
    real = socket.getaddrinfo

    def resolve(name: Any, *given: Any, **named: Any) -> Any:
        asked.append(name)
        return real("127.0.0.1", *given, **named)

    with RawGateway(led(f"https://{host}:9/1.mp4")) as gateway:
        own = gateway.base_url.replace("127.0.0.1", "gateway.test")
        given = f"{own}/1.mp4" if redirected else f"https://{host}:9/1.mp4"
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        # httpx reads a Location before we do, and calls an answer with a host that it cannot spell broken.
        words = "private_addresses=True|Invalid URL in location header" if redirected else "private_addresses=True"
        with Sora(**client(own, {})) as sora, pytest.raises(DownloadError, match=words):
            sora.download(task(gateway, given), tmp_path)
    assert set(asked) <= {"gateway.test", b"gateway.test"}
    assert names(tmp_path) == []


# --- names and folders --------------------------------------------------------------------------------------------

HOSTILE = [
    "../../evil",
    "/etc/passwd",
    "..",
    ".",
    "a\0b",
    "a\nb",
    "CON",
    "x" * 4000,
    "💾",
    "gen_1.mp4.part",
    "~",
    "-rf",
]


@pytest.mark.parametrize("generation_id", HOSTILE, ids=range(len(HOSTILE)))
def test_no_id_leads_out_of_the_folder(fetch: Fetch, tmp_path: Path, generation_id: str) -> None:
    folder = tmp_path / "a" / "folder"
    with Shelf({"cut": 100_000}) as gateway, Sora(**client(gateway, {})) as sora:
        (path,) = sora.download(task(gateway, "/1.mp4", generation_id), folder)
    assert (path.parent, path.read_bytes()) == (folder, FILM)
    assert sorted(found for found in tmp_path.rglob("*") if found.is_file()) == [path]


@pytest.mark.parametrize("which", ["final", "part"])
def test_a_planted_link_is_not_followed(fetch: Fetch, tmp_path: Path, which: str) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    folder.mkdir()
    outside.write_bytes(b"precious")
    with Shelf() as gateway:
        final = f"{file_name(origin(gateway.base_url), task(gateway, '/1.mp4'), 0)}.mp4"
        (folder / {"final": final, "part": f"{final}.InYxIg.part"}[which]).symlink_to(outside)
        path = fetch(gateway, "/1.mp4", folder)
    assert (outside.read_bytes(), path.read_bytes(), path.is_symlink()) == (b"precious", FILM, False)


def test_a_conversation_never_begun_leaves_nothing(tmp_path: Path) -> None:
    with Shelf() as gateway, Sora(**client(gateway, {})) as sora:
        download(sora.gateway, task(gateway, "/1.mp4"), tmp_path).close()
    assert names(tmp_path) == []
