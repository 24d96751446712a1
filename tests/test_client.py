"""Both drivers over real sockets: what they send, to whom, and how often."""

from __future__ import annotations

import asyncio
import gc
import inspect
import multiprocessing
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest
import trustme
from raw_gateway import Connection, RawGateway

from sora_tools import (
    AsyncSora,
    ConfigurationError,
    DownloadError,
    EndpointUnavailableError,
    LostReplyError,
    MemoryLedger,
    NotSentError,
    Retry,
    Sora,
    SoraError,
    SubmissionUnknownError,
    TaskFailedError,
    VideoTask,
    WaitTimeoutError,
)
from sora_tools.addresses import origin
from sora_tools.events import Downloading, Saved, Submitted
from sora_tools.flow.download import file_name
from sora_tools.sandbox import Sandbox

QUICK = Retry(attempts=4, budget=40.0, first=0.0, longest=0.0)
KEY = "sk-test-0123456789"
VIDEO = {"prompt": "fly man", "width": 64, "height": 36, "n_frames": 3}

Drive = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def drive(request: pytest.FixtureRequest) -> Drive:
    """Call one method of a client of either colour: ``drive(base_url, "create", ..., settings={...})``."""

    def sync(base_url: str, method: str, *arguments: Any, settings: dict[str, Any] | None = None, **named: Any) -> Any:
        with Sora(**{"base_url": base_url, "api_key": KEY, "retry": QUICK, **(settings or {})}) as sora:
            return getattr(sora, method)(*arguments, **named)

    def later(base_url: str, method: str, *arguments: Any, settings: dict[str, Any] | None = None, **named: Any) -> Any:
        async def main() -> Any:
            async with AsyncSora(**{"base_url": base_url, "api_key": KEY, "retry": QUICK, **(settings or {})}) as sora:
                return await getattr(sora, method)(*arguments, **named)

        return asyncio.run(main())

    return sync if request.param == "sync" else later


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    return sandbox


# --- one surface ------------------------------------------------------------------------------------------------


def test_both_clients_have_the_same_methods_with_the_same_signatures() -> None:
    names = {name for name in vars(Sora) if not name.startswith("_")}
    assert names | {"watch"} == {name for name in vars(AsyncSora) if not name.startswith("_")}
    assert names == {
        "create",
        "query",
        "wait",
        "list",
        "generate",
        "resume",
        "download",
        "delete",
        "probe",
        "run",
        "close",
    }
    for name in names:
        assert inspect.signature(getattr(Sora, name)) == inspect.signature(getattr(AsyncSora, name)), name
        assert inspect.iscoroutinefunction(getattr(AsyncSora, name))
    assert inspect.signature(Sora) == inspect.signature(AsyncSora)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="SORA_BASE_URL"):
        Sora(api_key="x")
    with pytest.raises(ConfigurationError, match="SORA_API_KEY"):
        Sora(base_url="https://gateway.test")
    with pytest.raises(ConfigurationError, match="backend"):
        Sora(base_url="https://gateway.test", api_key="x", dialect="klingon")
    with pytest.raises(ConfigurationError, match="memory"):
        Sora(base_url="https://gateway.test", api_key="x", ledger="postgresql://somewhere")
    with pytest.raises(ConfigurationError, match="'sent' or 'honoured'"):
        Sora(base_url="https://gateway.test", api_key="x", idempotency="yes")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BASE_URL": "https://g.test/v1/", "API_KEY": "k", "DIALECT": "backend", "MODEL": "wan"}.items():
        monkeypatch.setenv(f"SORA_{name}", value)
    settings = Sora().gateway.settings
    assert (settings.base_url, settings.api_key.get_secret_value(), settings.model) == ("https://g.test", "k", "wan")


@pytest.mark.parametrize("ending", ["", "/", "/sora", "/sora/", "/v1", "/v1/", "//"])
@pytest.mark.parametrize("prefix", ["", "/proxy/team-a"])
def test_every_spelling_of_an_address_gives_the_same_url(ending: str, prefix: str) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, json={"id": "task_1"})

    address = f"https://gateway.test{prefix}{ending}"
    with Sora(base_url=address, api_key=KEY, transport=httpx.MockTransport(answer)) as sora:
        sora.create("fly man")
        sora.gateway.ledger.find("x")
    assert seen == [f"https://gateway.test{prefix}/sora/backend/video_gen"]


@pytest.mark.parametrize(
    "address",
    [
        "gateway.test",
        "ftp://gateway.test",
        "http://",
        "https://user:pw@g.test",
        "https://g.test?x=1",
        "https://[x/",
        "https://g.test:99999",
        "https://g .test",
    ],
)
def test_an_address_that_cannot_work_is_refused_unsent(address: str) -> None:
    with pytest.raises(ConfigurationError):
        Sora(base_url=address, api_key=KEY)


@pytest.mark.parametrize("key", ["a\nb", "ключ", "a b"])
def test_a_key_no_header_can_carry_is_refused_unsent(key: str) -> None:
    with pytest.raises(ConfigurationError):
        Sora(base_url="https://gateway.test", api_key=key)


@pytest.mark.parametrize("headers", [{"a b": "c"}, {"a": "b\nc"}, {"Authorization": "x"}, {"host": "x"}])
def test_headers_that_cannot_work_are_refused_unsent(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        Sora(base_url="https://gateway.test", api_key=KEY, headers=headers)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_timeout_that_cannot_work_is_refused_unsent(timeout: float) -> None:
    with pytest.raises(ConfigurationError):
        Sora(base_url="https://gateway.test", api_key=KEY, timeout=timeout)


def test_the_key_shows_nowhere() -> None:
    sora = Sora(base_url="https://gateway.test", api_key=KEY)
    assert KEY not in repr(sora) + repr(sora.gateway) + repr(vars(sora)) + str(sora.gateway.settings)


# --- the main job -----------------------------------------------------------------------------------------------


def test_from_a_prompt_to_a_file(drive: Drive, box: Sandbox, tmp_path: Path) -> None:
    events: list[Any] = []
    task = drive(box.base_url, "generate", VIDEO, directory=tmp_path / "new", on_event=events.append, n_variants=2)
    assert task.status == "succeeded"
    files = [generation.file for generation in task.generations]
    assert len(files) == 2
    assert all(file.read_bytes()[4:8] == b"ftyp" for file in files)
    assert sorted((tmp_path / "new").iterdir()) == sorted(files)
    assert box.creates == 1
    assert {Submitted, Downloading, Saved} <= {type(event) for event in events}


def test_a_sweep_that_cannot_begin_leaves_nobody_waiting(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sora(base_url=box.base_url, api_key=KEY, ledger="memory") as sora:
        task_id = sora.create(VIDEO).task_id
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name == "sora-looks":
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(NotSentError, match="thread"):
            sora.wait(task_id)
        monkeypatch.undo()
        assert sora.wait(task_id, timeout=30).status == "succeeded"


def test_a_loop_whose_threads_all_wait_for_it_is_not_deadlocked(box: Sandbox) -> None:
    """Programs without an event loop call one from threads of its own pool."""

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(2))
        async with AsyncSora(base_url=box.base_url, api_key=KEY, ledger="memory") as sora:

            def bridge(number: int) -> str:
                made = sora.create(VIDEO, prompt=f"fly {number}")
                return asyncio.run_coroutine_threadsafe(made, loop).result(30).task_id

            return await asyncio.gather(*(asyncio.to_thread(bridge, number) for number in range(8)))

    assert len(set(asyncio.run(main()))) == box.creates == 8


def test_generate_asks_of_create_what_create_can_do(drive: Drive, box: Sandbox, tmp_path: Path) -> None:
    asked = {"thread": "t", "settings": {"ledger": tmp_path / "ledger.sqlite"}}
    tasks = [drive(box.base_url, "create", VIDEO, **asked)]
    tasks += [drive(box.base_url, "generate", VIDEO, repeat=repeat, **asked) for repeat in ("reuse", "new")]
    assert (len({task.task_id for task in tasks[:2]}), len({task.task_id for task in tasks}), box.creates) == (1, 2, 2)
    box.script("create", "bad_gateway", accept=False)
    with pytest.raises(SubmissionUnknownError):
        drive(box.base_url, "generate", VIDEO, key="lost", **asked)
    assert drive(box.base_url, "generate", VIDEO, key="lost", resend=True, **asked).status == "succeeded"


def test_a_listener_may_be_a_coroutine(box: Sandbox) -> None:
    async def main() -> list[Any]:
        seen: list[Any] = []

        async def listen(event: Any) -> None:
            await asyncio.sleep(0)
            seen.append(event)

        async with AsyncSora(base_url=box.base_url, api_key=KEY) as sora:
            await sora.generate(VIDEO, on_event=listen)
        return seen

    assert asyncio.run(main())


def test_check_15_both_clients_send_the_same_bytes(box: Sandbox) -> None:
    sent: list[tuple[Any, ...]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        headers = sorted((k, v) for k, v in request.headers.items() if k != "user-agent")
        sent.append((request.method, str(request.url), request.content, headers))
        return httpx.Response(200, json={"id": "task_1"})

    with Sora(base_url="https://g.test", api_key=KEY, transport=httpx.MockTransport(answer)) as sora:
        sora.create(VIDEO, key="k")

    async def main() -> None:
        async with AsyncSora(base_url="https://g.test", api_key=KEY, transport=httpx.MockTransport(answer)) as sora:
            await sora.create(VIDEO, key="k")

    asyncio.run(main())
    assert sent[0] == sent[1]
    assert ("idempotency-key", "k") in sent[0][3]


# --- every row of the table, over a real socket -----------------------------------------------------------------

ROWS: list[tuple[str, dict[str, Any], str, int, str]] = [
    # fault, options, error, requests that arrive, charged
    ("hang", {"accept": False}, "submission_unknown", 1, "unknown"),
    ("reset", {"accept": False}, "submission_unknown", 1, "unknown"),
    ("close", {"accept": False}, "submission_unknown", 1, "unknown"),
    ("garbage", {"accept": False}, "submission_unknown", 1, "unknown"),
    ("cut_reply", {"accept": False}, "submission_unknown", 1, "unknown"),
    ("empty_200", {"accept": False}, "submission_unknown", 1, "unknown"),
    ("empty_object", {"accept": False}, "submission_unknown", 1, "unknown"),
    ("cut_json", {"accept": False}, "submission_unknown", 1, "unknown"),
    ("no_id", {"accept": False}, "submission_unknown", 1, "unknown"),
    ("error_500", {}, "submission_unknown", 1, "unknown"),
    ("bad_gateway", {}, "submission_unknown", 1, "unknown"),
    ("gateway_timeout", {}, "submission_unknown", 1, "unknown"),
    ("cloudflare_5xx", {}, "submission_unknown", 1, "unknown"),
    ("request_timeout", {}, "submission_unknown", 1, "unknown"),
    ("unavailable", {}, "submission_unknown", 1, "unknown"),
    ("cloudflare_challenge", {}, "submission_unknown", 1, "unknown"),
    ("unknown_envelope", {}, "submission_unknown", 1, "unknown"),
    ("rate_limit", {}, "busy", 4, "no"),
    ("empty_429", {}, "busy", 4, "no"),
    ("rate_limit", {"retry_after": 90}, "busy", 1, "no"),
    ("rate_limit", {"headers": {"x-should-retry": "false"}}, "busy", 1, "no"),
    ("concurrency", {}, "busy", 4, "no"),
    ("rate_limit_exhausted", {}, "busy", 4, "no"),
    ("busy", {"retry_after": 0}, "busy", 4, "no"),
    ("heavy_load", {}, "busy", 4, "no"),
    ("overloaded", {}, "busy", 4, "no"),
    ("queue_full", {}, "busy", 4, "no"),
    ("too_early", {}, "busy", 2, "no"),
    ("not_found", {}, "endpoint_unavailable", 4, "no"),
    ("method_not_allowed", {}, "endpoint_unavailable", 4, "no"),
    ("not_implemented", {}, "endpoint_unavailable", 4, "no"),
    ("redirect", {}, "endpoint_unavailable", 4, "no"),
    ("redirect_other_origin", {}, "endpoint_unavailable", 4, "no"),
    ("no_channel", {}, "endpoint_unavailable", 4, "no"),
    ("paused", {}, "endpoint_unavailable", 4, "no"),
    ("quota", {}, "quota", 1, "no"),
    ("quota_429", {}, "quota", 1, "no"),
    ("payment_required", {}, "quota", 1, "no"),
    ("unauthorized", {}, "authentication", 1, "no"),
    ("forbidden", {}, "authentication", 1, "no"),
    ("bad_request", {}, "invalid_request", 1, "no"),
    ("moderation", {}, "invalid_request", 1, "no"),
    ("conflict", {}, "invalid_request", 1, "no"),
    ("too_large", {}, "invalid_request", 1, "no"),
    ("unsupported_media_type", {}, "invalid_request", 1, "no"),
    ("unprocessable", {}, "invalid_request", 1, "no"),
    ("teapot", {}, "invalid_request", 1, "no"),
]


@pytest.mark.parametrize(("fault", "options", "code", "arrived", "charged"), ROWS)
def test_a_create_meets_each_row_of_the_table(
    drive: Drive, box: Sandbox, fault: str, options: dict[str, Any], code: str, arrived: int, charged: str
) -> None:
    box.script("create", fault, times=None, **options)
    with pytest.raises(SoraError) as caught:
        drive(box.base_url, "create", VIDEO, settings={"timeout": 0.5 if fault == "hang" else 20.0})
    posts = [request for request in box.requests if request.method == "POST"]
    assert (caught.value.code, len(posts), caught.value.charged) == (code, arrived, charged)
    assert box.creates <= 1
    assert KEY not in repr(caught.value) + str(caught.value)


@pytest.mark.parametrize(("fault", "options"), [(row[0], {**row[1], "accept": True}) for row in ROWS if row[4] != "no"])
def test_a_create_that_was_accepted_is_found_and_not_sent_again(
    drive: Drive, box: Sandbox, fault: str, options: dict[str, Any]
) -> None:
    box.script("create", fault, **options)
    task = drive(box.base_url, "create", VIDEO, settings={"timeout": 0.5 if fault == "hang" else 20.0})
    assert [task.task_id] == [known.task_id for known in box.world.tasks]
    assert sum(request.method == "POST" for request in box.requests) == 1


@pytest.mark.parametrize(("fault", "options", "code", "arrived", "charged"), [row for row in ROWS if row[3] == 4])
def test_a_create_outlasts_what_passes(
    drive: Drive, box: Sandbox, fault: str, options: dict[str, Any], code: str, arrived: int, charged: str
) -> None:
    box.script("create", fault, times=2, **options)
    assert drive(box.base_url, "create", VIDEO).task_id.startswith("task_")
    assert box.creates == 1


@pytest.mark.parametrize("fault", ["redirect_307", "redirect_308"])
def test_a_create_follows_a_redirect_that_keeps_it_whole(drive: Drive, box: Sandbox, fault: str) -> None:
    box.script("create", fault)
    drive(box.base_url, "create", VIDEO)
    assert box.creates == 1


def test_a_create_is_read_from_text_plain(drive: Drive, box: Sandbox) -> None:
    box.script("create", "text_plain")
    assert drive(box.base_url, "create", VIDEO).task_id.startswith("task_")


def test_pages_on_both_routes_cost_nothing(drive: Drive, box: Sandbox) -> None:
    box.script("create", "html_200", times=None)
    box.script("list", "html_200", times=None)
    with pytest.raises(EndpointUnavailableError) as caught:
        drive(box.base_url, "create", VIDEO)
    assert (caught.value.charged, box.creates) == ("no", 0)


def test_a_page_over_an_accepted_create_is_adopted_and_not_repeated(drive: Drive, box: Sandbox) -> None:
    box.script("create", "html_200", accept=True)
    task = drive(box.base_url, "create", VIDEO)
    assert box.creates == 1
    assert box.task(task.task_id)["id"] == task.task_id


PASSING = [
    *("reset", "close", "garbage", "cut_reply", "empty_200", "cut_json", "error_500", "bad_gateway"),
    *("gateway_timeout", "cloudflare_5xx", "request_timeout", "unavailable", "cloudflare_challenge"),
    *("unknown_envelope", "rate_limit", "empty_429", "busy", "heavy_load", "overloaded", "queue_full", "not_found"),
    *("method_not_allowed", "not_implemented", "redirect", "no_channel", "paused", "html_200"),
]


@pytest.mark.parametrize("fault", PASSING)
def test_a_look_outlasts_what_passes(drive: Drive, box: Sandbox, fault: str) -> None:
    task = drive(box.base_url, "create", VIDEO)
    options = {"retry_after": 0} if fault == "busy" else {}
    box.script("list", fault, times=2, **options)
    assert drive(box.base_url, "query", task.task_id).task_id == task.task_id


@pytest.mark.parametrize("fault", ["unauthorized", "forbidden", "quota", "bad_request", "teapot"])
def test_a_look_that_is_refused_is_not_repeated(drive: Drive, box: Sandbox, fault: str) -> None:
    box.script("list", fault, times=None)
    with pytest.raises(SoraError) as caught:
        drive(box.base_url, "query", "task_01jy8k72axednrjcnvmkwpqp11")
    assert not caught.value.retryable
    assert len(box.requests) == 1


@pytest.mark.parametrize(
    ("ending", "status", "kind"),
    [
        ("moderation_input", "failed", "moderation_input"),
        ("moderation_output", "failed", "moderation_output"),
        ("no_output", "failed", "no_output"),
        ("failed", "failed", None),
        ("cancelled", "cancelled", "cancelled"),
    ],
)
def test_a_task_may_end_without_a_video(drive: Drive, box: Sandbox, ending: str, status: str, kind: str | None) -> None:
    box.script("task", ending)
    task = drive(box.base_url, "create", VIDEO)
    with pytest.raises(TaskFailedError) as caught:
        drive(box.base_url, "wait", task.task_id)
    assert caught.value.task.status == status
    assert kind is None or caught.value.task.failure.kind == kind
    assert caught.value.charged == "yes"


def test_a_task_may_be_invisible_for_a_while(drive: Drive, box: Sandbox) -> None:
    box.script("task", "invisible", seconds=2)
    assert drive(box.base_url, "generate", VIDEO).status == "succeeded"


@pytest.mark.parametrize("waiting", ["stuck", "hanging"])
def test_check_10_a_wait_ends_within_a_second_of_its_deadline(drive: Drive, box: Sandbox, waiting: str) -> None:
    box.script("task", "stuck")
    task = drive(box.base_url, "create", VIDEO)
    if waiting == "hanging":
        box.script("list", "hang", times=None)
    start = time.monotonic()  # a deadline is about real seconds
    with pytest.raises((WaitTimeoutError, LostReplyError, NotSentError)) as caught:
        drive(box.base_url, "wait", task.task_id, timeout=1.0)
    assert 1.0 <= time.monotonic() - start < 2.2
    assert caught.value.task_id == task.task_id


@pytest.mark.parametrize("fault", ["expired", "gone", "reset", "cut_stream", "lying_length", "bad_gateway"])
def test_a_download_outlasts_what_passes(drive: Drive, box: Sandbox, tmp_path: Path, fault: str) -> None:
    task = drive(box.base_url, "generate", VIDEO)
    box.script("download", fault, times=1)
    (file,) = drive(box.base_url, "download", task, tmp_path)
    assert file.read_bytes()[4:8] == b"ftyp"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert box.creates == 1


@pytest.mark.parametrize("fault", ["html_200", "cut_stream", "expired"])
def test_a_download_that_cannot_be_whole_leaves_nothing_under_its_name(
    drive: Drive, box: Sandbox, tmp_path: Path, fault: str
) -> None:
    task = drive(box.base_url, "generate", VIDEO)
    box.script("download", fault, times=None)
    with pytest.raises(DownloadError) as caught:
        drive(box.base_url, "download", task, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".part"]
    assert caught.value.charged == "yes"
    assert box.creates == 1


def test_an_expired_address_is_renewed_by_a_look(drive: Drive, box: Sandbox, tmp_path: Path) -> None:
    box.script("task", "expired_url")
    task = drive(box.base_url, "generate", VIDEO, directory=tmp_path)
    assert task.generations[0].file.exists()
    assert box.creates == 1


def test_a_finished_file_is_not_fetched_again(drive: Drive, box: Sandbox, tmp_path: Path) -> None:
    task = drive(box.base_url, "generate", VIDEO, directory=tmp_path)
    fetched = len(box.requests)
    drive(box.base_url, "download", task, tmp_path)
    assert len(box.requests) == fetched


def test_a_running_task_has_nothing_to_download(drive: Drive, box: Sandbox, tmp_path: Path) -> None:
    box.script("task", "stuck")
    task = drive(box.base_url, "create", VIDEO)
    with pytest.raises(WaitTimeoutError, match="nothing to save yet"):
        drive(box.base_url, "download", task.task_id, tmp_path)


# --- where videos may come from ---------------------------------------------------------------------------------


def serving(url: Any, **listed: Any) -> httpx.MockTransport:
    """A gateway in memory with one finished task, whose video is at this address."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/video_gen"):
            generation = {"id": "gen_1", "url": url, "encodings": {"thumbnail": {"path": "/t.webp"}}}
            task = {"id": "task_1", "status": "succeeded", "generations": [generation], **listed}
            return httpx.Response(200, json={"task_responses": [task]})
        return httpx.Response(200, content=b"\0\0\0\x18ftypmp42" + bytes(12))

    return httpx.MockTransport(answer)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("/media/1.mp4", "https://gateway.test/media/1.mp4"),
        ("https://cdn.test/1.mp4", "https://cdn.test/1.mp4"),
        ("http://gateway.test/1.mp4", "http://gateway.test/1.mp4"),
    ],
)
def test_addresses_are_made_whole(drive: Drive, tmp_path: Path, given: str, address: str) -> None:
    settings = {"transport": serving(given)}
    task = drive("https://gateway.test/proxy", "wait", "task_1", settings=settings)
    (generation,) = task.generations
    assert (generation.url, generation.thumbnail_url) == (address, "https://gateway.test/t.webp")
    (file,) = drive("https://gateway.test/proxy", "download", task, tmp_path, settings=settings)
    assert re.fullmatch(r"task_1-gen_1-[0-9a-f]{8}\.mp4", file.name)


@pytest.mark.parametrize(
    "given",
    ["http://cdn.test/1.mp4", "http://127.0.0.1/1.mp4", "file:///etc/passwd", "ftp://x/1.mp4", "http://[x/1.mp4", 7],
)
def test_a_video_behind_an_address_that_may_not_be_fetched_is_none(drive: Drive, given: Any) -> None:
    with pytest.raises(TaskFailedError) as caught:
        drive("https://gateway.test", "wait", "task_1", settings={"transport": serving(given)})
    assert caught.value.task.failure.kind == "no_output"


def test_a_listener_that_fails_changes_nothing(
    drive: Drive, box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def listen(event: Any) -> None:
        raise ValueError(type(event).__name__)

    task = drive(box.base_url, "generate", VIDEO, directory=tmp_path, on_event=listen)
    assert ([one.file.exists() for one in task.generations], box.creates) == ([True], 1)
    failed = [str(record.exc_info[1]) for record in caplog.records if record.name == "sora_tools"]
    assert {"Submitted", "Seen", "Downloading", "Saved"} <= set(failed)


def test_what_the_ledger_cannot_take_down_is_in_the_log(
    drive: Drive, box: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    class Jammed(MemoryLedger):
        def settle(self, *_: Any) -> None:
            raise OSError("disk full")

    task = drive(box.base_url, "create", VIDEO, key="k", settings={"ledger": Jammed()})
    assert [record.getMessage() for record in caplog.records if record.name == "sora_tools"] == [
        f"The ledger could not take down that k became {task.task_id}: disk full"
    ]


def test_a_folder_that_cannot_be_made_is_named(drive: Drive, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    transport = serving("/1.mp4")
    with pytest.raises(DownloadError, match="file") as caught:
        drive("https://g.test", "download", "task_1", tmp_path / "file", settings={"transport": transport})
    assert (caught.value.charged, caught.value.task_id) == ("yes", "task_1")


def test_a_folder_that_cannot_be_made_is_found_before_anything_is_paid(
    drive: Drive, box: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match="file"):
        drive(box.base_url, "generate", VIDEO, directory=tmp_path / "file")
    assert box.creates == 0


def test_a_file_that_cannot_be_written_is_named_and_not_created_again(drive: Drive, tmp_path: Path) -> None:
    named = VideoTask(task_id="task_1", status="succeeded", generations=[{"generation_id": "gen_1"}])
    (tmp_path / f"{file_name(origin('https://g.test'), named, 0)}.mp4").mkdir()
    with pytest.raises(DownloadError, match="could not be written") as caught:
        drive("https://g.test", "download", "task_1", tmp_path, settings={"transport": serving("/1.mp4")})
    assert (caught.value.retryable, caught.value.charged, caught.value.task_id) == (False, "yes", "task_1")


def test_downloads_of_one_task_at_once_are_all_whole(box: Sandbox, tmp_path: Path) -> None:
    with Sora(base_url=box.base_url, api_key=KEY) as sora, ThreadPoolExecutor(8) as pool:
        task = sora.generate(VIDEO, width=320, height=180, n_frames=30)
        for number in range(5):
            folder = tmp_path / str(number)
            saved = list(pool.map(lambda _, folder=folder: sora.download(task, folder)[0].read_bytes(), range(8)))
            assert len(set(saved)) == 1
            assert len(list(folder.iterdir())) == 1


def test_a_fresh_look_may_show_variants_in_another_order(drive: Drive, tmp_path: Path) -> None:
    looks: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/video_gen"):
            looks.append(1)
            order = ["a", "b"] if len(looks) == 1 else ["b", "a"]
            made = [{"id": f"gen_{name}", "url": f"/{name}{len(looks)}.mp4"} for name in order]
            task = {"id": "task_1", "status": "succeeded", "generations": made}
            return httpx.Response(200, json={"tasks": [task]})
        if "1.mp4" in request.url.path:
            return httpx.Response(403)
        return httpx.Response(200, content=b"\0\0\0\x0fftyp" + request.url.path.encode())

    transport = httpx.MockTransport(answer)
    for file in drive("https://g.test", "download", "task_1", tmp_path, settings={"transport": transport}):
        assert f"/{file.stem[len('task_1-gen_')]}".encode() in file.read_bytes()


@pytest.mark.parametrize("location", ["http://[oops", "https://h:99999/x", "http://cdn.test/x", "file:///etc/passwd"])
def test_a_download_is_not_led_astray(drive: Drive, tmp_path: Path, location: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/video_gen"):
            task = {"id": "t", "status": "succeeded", "generations": [{"url": "/1"}]}
            return httpx.Response(200, json={"tasks": [task]})
        return httpx.Response(302, headers={"location": location})

    with pytest.raises(DownloadError, match="not https"):
        drive("https://g.test", "download", "t", tmp_path, settings={"transport": httpx.MockTransport(answer)})
    assert list(tmp_path.iterdir()) == []


def test_a_file_name_cannot_leave_its_folder(drive: Drive, tmp_path: Path) -> None:
    transport = serving("/1.mp4", generations=[{"id": "../../evil/x", "url": "/1.mp4"}])
    (file,) = drive("https://g.test", "download", "task_1", tmp_path, settings={"transport": transport})
    assert file.parent == tmp_path


def test_a_download_that_redirects_in_circles_ends(drive: Drive, tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "video_gen" in request.url.path:
            return httpx.Response(
                200, json={"tasks": [{"id": "t", "status": "succeeded", "generations": [{"url": "/1"}]}]}
            )
        return httpx.Response(302, headers={"location": "/1"})

    with pytest.raises(DownloadError, match="circles"):
        drive("https://g.test", "download", "t", tmp_path, settings={"transport": httpx.MockTransport(answer)})


# --- the key and where it goes ----------------------------------------------------------------------------------


def test_the_key_never_follows_a_download_to_another_origin(drive: Drive, box: Sandbox, tmp_path: Path) -> None:
    task = drive(box.base_url, "generate", VIDEO)
    box.script("download", "redirect_other_host")
    drive(box.base_url, "download", task, tmp_path)
    first, second = [request for request in box.requests if request.route == "download"][-2:]
    assert first.authorized
    assert not second.authorized


# --- what never left, and never will -----------------------------------------------------------------------------


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_refused_connection_is_tried_again_and_charged_no(drive: Drive) -> None:
    with pytest.raises(NotSentError) as caught:
        drive(f"http://127.0.0.1:{unused_port()}", "create", VIDEO)
    assert (caught.value.charged, caught.value.retryable) == ("no", True)


def test_a_name_nobody_has_is_not_tried_again(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def resolve(*arguments: Any, **_: Any) -> Any:
        asked.append(arguments)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(NotSentError) as caught:
        drive("http://nosuch.invalid", "create", VIDEO)
    assert (caught.value.charged, caught.value.retryable, len(asked)) == ("no", False, 1)


def test_a_plain_port_behind_https_was_never_sent_to(drive: Drive) -> None:
    with RawGateway(lambda connection, *_: connection.close()) as gateway:
        with pytest.raises(NotSentError) as caught:
            drive(gateway.base_url.replace("http:", "https:"), "create", VIDEO, settings={"timeout": 2.0})
        assert caught.value.charged == "no"
        assert gateway.posts == 0


def test_a_create_given_up_while_connecting_is_not_sent_later(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve, found = socket.getaddrinfo, threading.Event()

    def slow(*arguments: Any, **named: Any) -> Any:
        found.wait(1)
        return resolve(*arguments, **named)

    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        connection.reply({"id": "task_late"})

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with RawGateway(answer) as gateway:
        here = gateway.base_url.replace("127.0.0.1", "localhost")
        with pytest.raises(NotSentError) as caught:
            drive(here, "create", VIDEO, settings={"timeout": 0.2, "retry": Retry(attempts=2, first=0)})
        found.set()
        time.sleep(0.5)  # time for a thread left behind to connect and send, if it would
        assert (caught.value.charged, gateway.posts) == ("no", 0)


def test_a_certificate_nobody_vouches_for_was_never_sent_to(drive: Drive) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with RawGateway(lambda *_: None, tls=context) as gateway:
        with pytest.raises(NotSentError, match="certificate") as caught:
            drive(gateway.base_url, "create", VIDEO)
        assert (caught.value.retryable, caught.value.charged, gateway.posts) == (False, "no", 0)


def test_an_answer_too_large_to_read_is_not_read(drive: Drive) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=b"x" * 1001))
    with pytest.raises(SubmissionUnknownError, match="larger than 1000 bytes"):
        drive("https://g.test", "create", VIDEO, settings={"transport": transport, "largest_reply": 1000})


def test_creates_travel_on_fresh_connections(drive: Drive) -> None:
    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        connection.reply({"id": f"task_{time.monotonic_ns()}"} if method == "POST" else {"task_responses": []})

    with RawGateway(answer) as gateway, Sora(base_url=gateway.base_url, api_key=KEY) as sora:
        for _ in range(3):
            sora.create(VIDEO)
        assert (gateway.posts, gateway.connections) == (3, 3)
        for _ in range(3):
            sora.list()
        assert gateway.connections == 4, "looks share one"


def drip(connection: Connection, method: str, path: str, body: bytes) -> None:
    """An answer whose header never ends, a byte at a time; the list has nothing to show."""
    if method == "GET":
        connection.reply({"task_responses": []})
        return
    connection.raw.sendall(b"HTTP/1.1 200 OK\r\nx-slow: ")
    while True:
        connection.raw.sendall(b"a")
        time.sleep(0.05)


def test_an_answer_that_drips_ends_with_the_request_timeout(drive: Drive) -> None:
    with RawGateway(drip) as gateway:
        start = time.monotonic()  # a timeout is about real seconds
        with pytest.raises(SubmissionUnknownError):
            drive(gateway.base_url, "create", VIDEO, settings={"timeout": 0.5})
        assert time.monotonic() - start < 1.5
        assert gateway.posts == 1


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(
    drive: Drive, box: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    drive(box.base_url, "generate", VIDEO, directory=tmp_path)
    with pytest.raises(NotSentError):
        drive("http://gateway.test", "create", VIDEO)


# --- loops, threads, forks, ends --------------------------------------------------------------------------------


def test_one_client_serves_one_loop_after_another(box: Sandbox) -> None:
    sora = AsyncSora(base_url=box.base_url, api_key=KEY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(3):
            asyncio.run(sora.create(VIDEO, key=f"k{number}"))
            assert sora._connections == {}
        gc.collect()
    assert box.creates == 3


def test_one_client_serves_loops_in_two_threads_at_once(box: Sandbox) -> None:
    sora = AsyncSora(base_url=box.base_url, api_key=KEY)

    def work(number: int) -> VideoTask:
        async def main() -> VideoTask:
            return await sora.generate(VIDEO, prompt=f"loop {number}")

        return asyncio.run(main())

    with ThreadPoolExecutor(2) as pool:
        assert {task.status for task in pool.map(work, range(4))} == {"succeeded"}
    assert box.creates == 4


def test_one_client_serves_many_threads(box: Sandbox) -> None:
    with Sora(base_url=box.base_url, api_key=KEY) as sora, ThreadPoolExecutor(16) as pool:
        tasks = list(pool.map(lambda n: sora.create(VIDEO, key=f"k{n % 20}"), range(40)))
    assert box.creates == 20
    assert len({task.task_id for task in tasks}) == 20


async def test_the_same_key_at_once_is_one_create(box: Sandbox) -> None:
    async with AsyncSora(base_url=box.base_url, api_key=KEY) as sora:
        tasks = await asyncio.gather(*(sora.create(VIDEO, key="one") for _ in range(20)))
    assert box.creates == 1
    assert len({task.task_id for task in tasks}) == 1


def test_a_closed_client_says_so_and_closes_again(drive: Drive, box: Sandbox) -> None:
    sora = Sora(base_url=box.base_url, api_key=KEY)
    sora.list()
    sora.close()
    sora.close()
    with pytest.raises(ConfigurationError, match="closed"):
        sora.list()

    async def main() -> None:
        later = AsyncSora(base_url=box.base_url, api_key=KEY)
        await later.list()
        await later.close()
        await later.close()
        with pytest.raises(ConfigurationError, match="closed"):
            await later.list()

    asyncio.run(main())


def test_a_client_sharing_another_shares_its_ledger_and_cool_downs(box: Sandbox) -> None:
    sora = Sora(base_url=box.base_url, api_key=KEY, retry=QUICK)
    task = sora.create(VIDEO, key="k")
    box.script("create", "not_implemented", times=None)
    with pytest.raises(EndpointUnavailableError):
        sora.create(VIDEO)
    posts = len(box.requests)

    async def main() -> None:
        async with AsyncSora.sharing(sora) as later:
            assert (await later.create(VIDEO, key="k")).task_id == task.task_id
            with pytest.raises(EndpointUnavailableError, match="moment ago"):
                await later.create(VIDEO)

    asyncio.run(main())
    sora.close()
    assert len(box.requests) == posts


def _in_a_fork(sora: Sora, answer: Any) -> None:
    answer.put(sora.list().tasks[0].task_id)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forking beside threads is what is tested
def test_a_forked_child_lays_its_own_wires(box: Sandbox) -> None:
    with Sora(base_url=box.base_url, api_key=KEY) as sora:
        task = sora.create(VIDEO)
        fork = multiprocessing.get_context("fork")
        answer = fork.SimpleQueue()
        child = fork.Process(target=_in_a_fork, args=(sora, answer))
        child.start()
        child.join(20)
        assert answer.get() == task.task_id
        assert sora.list().tasks[0].task_id == task.task_id
        answer.close()


# --- the cost of an import --------------------------------------------------------------------------------------


def measured(folder: Path, program: str) -> float:
    """What a program prints, as the median of five fresh interpreters, with modules compiled as in an install."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    program = f"from time import process_time as seconds\nstart = seconds()\n{program}"
    command = [sys.executable, "-c", program]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True, env=environment) for _ in range(6)]
    return median(float(run.stdout) for run in runs[1:])  # the first one compiles


def test_check_12_importing_the_package_opens_and_loads_nothing(tmp_path: Path) -> None:
    assert measured(tmp_path, "import sora_tools; print(seconds() - start)") < 0.015
    heavy = "{'langchain_core', 'httpx', 'pydantic', 'av', 'typer'}"
    program = f"import sora_tools, sys; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert shown.strip() == "[]"


def test_importing_the_client_costs_little_more_than_its_libraries(tmp_path: Path) -> None:
    # In one interpreter, which takes the machine's mood out of the ratio. pydantic loads itself on the first use of a
    # name, so the names that we use count as its import.
    program = """
import httpx
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from tenacity import Retrying
libraries = seconds() - start
from sora_tools import Sora
print((seconds() - start) / libraries)
"""
    assert measured(tmp_path, program) <= 1.25
