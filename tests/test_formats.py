"""One path in every format: an agent, the tools, a client, a socket, the sandbox, an MP4 on disk, creates counted."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from raw_gateway import Connection, RawGateway
from scripted_model import scripted

from sora_tools import (
    AsyncSora,
    AuthenticationError,
    EndpointUnavailableError,
    NotSentError,
    Retry,
    Sora,
    SoraError,
    SoraToolkit,
    SubmissionUnknownError,
    TaskFailedError,
)
from sora_tools.dialects import DIALECTS
from sora_tools.events import Seen
from sora_tools.media import probe
from sora_tools.sandbox import Sandbox, World

KEY = "sk-test-0123456789"
QUICK = Retry(attempts=3, budget=20.0, first=0.0, longest=0.0)
MODELS = {"backend": None, "videos": "wan", "unified": "sora-2", "generations": "sora-2", "chat": "sora_video2"}
SIZES = {"backend": (64, 36), "videos": (64, 36), "generations": (64, 36)}
"""Where a format takes any size, the video has it; the others have sizes of their own."""

FORMATS = [*DIALECTS]
ask = {"prompt": "fly man", "width": 64, "height": 36, "n_frames": 30}


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(world=World(speed=20)) as sandbox:
        yield sandbox


def settings(box: Sandbox | RawGateway, dialect: str, folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "base_url": box.base_url,
        "api_key": KEY,
        "dialect": dialect,
        "model": MODELS.get(dialect),
        "ledger": folder / "ledger.sqlite",
        "retry": QUICK,
        **more,
    }


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("dialect", FORMATS)
def test_an_agent_makes_a_video_in_every_format(box: Sandbox, tmp_path: Path, dialect: str, colour: str) -> None:
    def task_id(last: Any) -> dict[str, Any]:
        return {"task_id": json.loads(last.content)["task_id"]}

    calls = [("create_video", ask), *[("query_video", task_id)] * 3]
    with SoraToolkit(**settings(box, dialect, tmp_path), download_dir=tmp_path / "films", max_wait=20) as toolkit:
        agent = create_agent(scripted(calls), toolkit.get_tools())
        asked = {"messages": [("user", "make it")]}
        config: Any = {"configurable": {"thread_id": "chat"}}
        state = agent.invoke(asked, config) if colour == "sync" else asyncio.run(agent.ainvoke(asked, config))
        told = json.loads(state["messages"][-2].content)
        assert told["status"] == "succeeded", told
    (film,) = (tmp_path / "films").iterdir()
    info = probe(film)
    assert (info.width, info.height) == SIZES.get(dialect, (info.width, info.height))
    assert film == Path(told["videos"][0]["file"])
    assert box.creates == 1
    assert {request.format for request in box.requests if request.route == "create"} == {dialect}


@pytest.mark.parametrize("dialect", FORMATS)
def test_the_same_key_again_is_the_same_task_in_every_format(box: Sandbox, tmp_path: Path, dialect: str) -> None:
    for _ in range(2):
        with Sora(**settings(box, dialect, tmp_path)) as sora:
            task = sora.generate(ask, key="k")
            assert task.status == "succeeded"
    assert box.creates == 1


@pytest.mark.parametrize("dialect", FORMATS)
def test_a_lost_create_is_sent_once_in_every_format(box: Sandbox, tmp_path: Path, dialect: str) -> None:
    box.script("create", "reset")
    with Sora(**settings(box, dialect, tmp_path)) as sora:
        if sora.gateway.dialect.list(1, None) is not None:
            assert sora.generate(ask, key="k").status == "succeeded"
        else:
            for _ in range(2):
                with pytest.raises(SubmissionUnknownError):
                    sora.create(ask, key="k")
    assert box.creates == 1
    assert sum(request.route == "create" for request in box.requests) == 1


@pytest.mark.parametrize("dialect", FORMATS)
@pytest.mark.parametrize("fault", ["rate_limit", "not_found"])
def test_what_was_not_accepted_is_sent_again_in_every_format(
    box: Sandbox, tmp_path: Path, dialect: str, fault: str
) -> None:
    box.script("create", fault, times=2)
    with Sora(**settings(box, dialect, tmp_path)) as sora:
        assert sora.generate(ask, key="k").status == "succeeded"
    assert (box.creates, sum(request.route == "create" for request in box.requests)) == (1, 3)


# --- what is told once --------------------------------------------------------------------------------------------


def test_a_chat_is_followed_while_others_ask_the_ledger(box: Sandbox, tmp_path: Path) -> None:
    heard: list[Any] = []
    with Sora(**settings(box, "chat", tmp_path)) as sora:
        task = sora.create(ask, key="k", on_event=heard.append)
        assert task.task_id.startswith("task_")
        with Sora(**settings(box, "chat", tmp_path)) as other:
            assert other.create(ask, key="k").task_id == task.task_id
            assert other.wait("k", timeout=30).status == "succeeded"
            assert other.query(task.task_id).status == "succeeded"
    progress = [event.task.progress for event in heard if isinstance(event, Seen) and event.task.progress]
    assert progress == sorted(progress)
    assert len(progress) > 1
    assert box.creates == 1


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_chat_that_names_no_task_goes_by_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: str
) -> None:
    monkeypatch.setattr("sora_tools.flow.submit.FIRST_WORD", 0.1)
    with Sandbox(world=World(speed=6, chat_answer="reasoning")) as box:
        given = settings(box, "chat", tmp_path)
        if colour == "sync":
            with Sora(**given) as sora:
                task = sora.create(ask, key="k")
                again = sora.create(ask, key="k")
                done = sora.wait("k", timeout=30)
        else:

            async def main() -> Any:
                async with AsyncSora(**given) as sora:
                    first, second = await sora.create(ask, key="k"), await sora.create(ask, key="k")
                    return first, second, await sora.wait("k", timeout=30)

            task, again, done = asyncio.run(main())
        assert (task.task_id, task.ended, again.task_id) == ("k", False, "k")
        assert (done.task_id, done.status, box.creates) == ("k", "succeeded", 1)


def test_closing_waits_for_the_video_that_a_chat_tells_of(box: Sandbox, tmp_path: Path) -> None:
    with Sora(**settings(box, "chat", tmp_path)) as sora:
        sora.create(ask, key="k")
    with Sora(**settings(box, "chat", tmp_path)) as sora:
        assert sora.query("k").status == "succeeded"


async def test_closing_waits_for_it_later_too(box: Sandbox, tmp_path: Path) -> None:
    async with AsyncSora(**settings(box, "chat", tmp_path)) as sora:
        await sora.create(ask, key="k")
    async with AsyncSora(**settings(box, "chat", tmp_path)) as sora:
        assert (await sora.query("k")).status == "succeeded"


@pytest.mark.parametrize("answer", ["transcript", "reasoning", "output", "emoji", "link", "url", "json"])
def test_every_manner_of_a_chat_ends_in_a_file(tmp_path: Path, answer: str) -> None:
    with Sandbox(world=World(speed=20, chat_answer=answer)) as box, Sora(**settings(box, "chat", tmp_path)) as sora:
        task = sora.generate(ask, key="k", directory=tmp_path / "films")
        assert task.generations[0].file is not None
        assert (probe(task.generations[0].file).codec, box.creates) == ("h264", 1)


@pytest.mark.parametrize("pieces", [1, 4, 30])
def test_a_key_that_a_chat_quotes_in_pieces_is_masked(tmp_path: Path, pieces: int) -> None:
    said = f"> ID: `task_01k7dzptgwf2z87wj2c3t36qk0`\n❌ 生成失败: {KEY} may not do this"
    step = -(-len(said) // pieces)

    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        chunks = [said[at : at + step] for at in range(0, len(said), step)]
        events = [{"choices": [{"delta": {"content": chunk}}]} for chunk in chunks]
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        stream = "".join([*lines, "data: [DONE]\n\n"]).encode()
        connection.reply(stream, content_type="text/event-stream")

    heard: list[Any] = []
    with RawGateway(answer) as gateway, Sora(**settings(gateway, "chat", tmp_path)) as sora:  # type: ignore[arg-type]
        with pytest.raises(TaskFailedError) as caught:
            sora.generate(ask, key="k", on_event=heard.append)
        row = sora.gateway.ledger.find("k")
    told = repr((caught.value, caught.value.task, caught.value.task.raw, row.seen, heard))
    assert KEY not in told
    assert "may not do this" in told
    assert KEY.encode() not in (tmp_path / "ledger.sqlite").read_bytes()


def test_a_chat_that_breaks_off_is_never_asked_for_again(box: Sandbox, tmp_path: Path) -> None:
    box.script("create", "stream_cut", pieces=3)
    with Sora(**settings(box, "chat", tmp_path)) as sora:
        with pytest.raises(SubmissionUnknownError, match="broke off") as caught:
            sora.generate(ask, key="k")
        assert caught.value.charged == "yes"
        with pytest.raises(SubmissionUnknownError, match="broke off"):
            sora.query("k")
        sora.create(ask, key="k")
    assert sum(request.route == "create" for request in box.requests) == 1


def test_a_chat_whose_reader_died_is_of_unknown_fate(box: Sandbox, tmp_path: Path) -> None:
    with Sora(**settings(box, "chat", tmp_path)) as sora:
        sora.create(ask, key="k")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:  # as a process leaves it that is killed while it listens
        seen = json.dumps({"task_id": "task_1", "status": "running", "dialect": "chat"})
        db.execute("update submission set seen = ?, outcome = null", (seen,))
    with Sora(**settings(box, "chat", tmp_path)) as sora, pytest.raises(SubmissionUnknownError, match="broke off"):
        sora.query("k")


def test_without_the_extra_nothing_is_sent(box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpx_sse", None)
    with Sora(**settings(box, "chat", tmp_path)) as sora, pytest.raises(Exception, match="sora-tools\\[chat\\]"):
        sora.create(ask, key="k")
    assert box.requests == ()


# --- which format -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", FORMATS)
def test_the_format_is_found_out_where_it_is_not_set(tmp_path: Path, dialect: str) -> None:
    with (
        Sandbox(world=World(speed=20, formats=(dialect,))) as box,
        Sora(**settings(box, "auto", tmp_path, model=MODELS[dialect])) as sora,
    ):
        assert sora.generate(ask, key="k").dialect == dialect
        assert sora.generate(ask, key="other").dialect == dialect
        looks = [request for request in box.requests if request.route in ("models", "account")]
        assert len([request for request in looks if request.path == "/v1/models"]) == 1, "it is found out once"
        assert box.creates == 2


def test_a_gateway_that_serves_nothing_is_told_apart_format_by_format(tmp_path: Path) -> None:
    with (
        Sandbox(world=World(formats=(), models=())) as box,
        Sora(**settings(box, "auto", tmp_path)) as sora,
        pytest.raises(EndpointUnavailableError, match=r"backend: in development .*web page") as caught,
    ):
        sora.create(ask)
    assert (caught.value.charged, box.creates) == ("unknown", 0), "of a key, an earlier call may have paid"


def test_another_format_is_tried_where_nothing_can_have_been_accepted(tmp_path: Path) -> None:
    world = World(speed=20, formats=("generations",))
    with Sandbox(world=world) as box:
        given = settings(box, "videos", tmp_path, model="sora-2", fallback=["unified", "generations"])
        with Sora(**given) as sora:
            task = sora.generate(ask, key="k")
            assert (task.dialect, task.status, box.creates) == ("generations", "succeeded", 1)
        with Sora(**given) as sora:
            assert sora.query("k").dialect == "generations", "it is looked up in the format it was created in"


def test_a_wait_looks_in_the_format_that_was_created_in(tmp_path: Path) -> None:
    with Sandbox(world=World(speed=20)) as box:
        box.script("create", "not_implemented", times=3)
        box.script("list", "error_500", times=50)
        given = settings(box, "backend", tmp_path, model="sora-2", fallback=["generations"])
        with Sora(**given) as sora:
            assert sora.generate(ask, key="k", timeout=20).dialect == "generations"
        assert box.creates == 1


def test_an_honoured_key_is_not_sent_in_another_format(box: Sandbox, tmp_path: Path) -> None:
    box.script("create", "reset")
    given = settings(box, "generations", tmp_path, retry=Retry(attempts=1), idempotency="honoured")
    with Sora(**given) as sora, pytest.raises(SoraError):
        sora.create(ask, key="k")
    with Sora(**{**given, "dialect": "unified"}) as sora, pytest.raises(SoraError) as caught:
        sora.create(ask, key="k")
    assert caught.value.charged == "unknown"
    assert {request.format for request in box.requests if request.route == "create"} == {"generations"}


SAID = json.dumps({"choices": [{"delta": {"content": "```html\n<video src='https://cdn.test/1.mp4'></video>\n```"}}]})


@pytest.mark.parametrize("charset", ["hex", "zlib", "utf-16", "undefined", "latin-1"])
def test_a_stream_is_utf_8_whatever_its_charset_says(tmp_path: Path, charset: str) -> None:
    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        stream = f"data: {SAID}\n\ndata: [DONE]\n\n".encode()
        connection.reply(stream, content_type=f"text/event-stream; charset={charset}")

    with RawGateway(answer) as gateway, Sora(**settings(gateway, "chat", tmp_path)) as sora:
        assert sora.generate(ask, key="k").status == "succeeded"
    assert gateway.posts == 1


def test_a_chat_that_no_thread_can_read_has_left_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = threading.Event()

    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        arrived.set()
        connection.reply(f"data: {SAID}\n\n".encode(), content_type="text/event-stream")

    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if arrived.is_set() and thread.name == "sora-request":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with RawGateway(answer) as gateway, Sora(**settings(gateway, "chat", tmp_path)) as sora:
        with pytest.raises(SubmissionUnknownError):
            sora.create(ask, key="k")
        assert gateway.posts == 1


def test_a_fallback_may_name_the_first_format_too(tmp_path: Path) -> None:
    with Sandbox(world=World(speed=20, formats=("generations",))) as box:
        given = settings(box, "unified", tmp_path, fallback=["generations", "unified"])
        with Sora(**given) as sora:
            assert sora.generate(ask, key="k").dialect == "generations"


def test_what_was_created_in_one_format_is_looked_up_in_it_after_another_was_found_out(tmp_path: Path) -> None:
    with Sandbox(world=World(speed=20)) as box:
        with Sora(**settings(box, "unified", tmp_path, model="sora-2")) as sora:
            sora.create(ask, key="k")
        box.world.formats = frozenset({"unified", "videos"})
        with Sora(**settings(box, "auto", tmp_path, model="sora-2")) as sora:
            assert sora.create(ask, key="other").dialect == "videos"
            assert sora.wait("k", timeout=30).dialect == "unified"
            assert sora.gateway.speaking("backend").dialect.name == "backend"


def test_a_format_is_not_guessed_while_others_are_unclear(box: Sandbox, tmp_path: Path) -> None:
    for route in ("list", "look"):
        box.script(route, "bad_gateway", times=20)
    with Sora(**settings(box, "auto", tmp_path)) as sora:
        with pytest.raises(NotSentError, match="could not be found out"):
            sora.create(ask)
        box.world.clear()
        assert sora.generate(ask).dialect == "backend"


def test_a_refused_key_is_that_where_the_format_is_to_be_found_out(tmp_path: Path) -> None:
    with (
        Sandbox(world=World(keys=["another"])) as box,
        Sora(**settings(box, "auto", tmp_path)) as sora,
        pytest.raises(AuthenticationError),
    ):
        sora.create(ask)


def test_without_a_ledger_a_chat_is_followed_all_the_same(box: Sandbox, tmp_path: Path) -> None:
    with Sora(**settings(box, "chat", tmp_path, ledger="off")) as sora:
        assert sora.generate(ask, directory=tmp_path / "films").generations[0].file is not None


def test_a_chat_cut_off_after_its_video_has_it(tmp_path: Path) -> None:
    said = "```html\n<video src='https://cdn.test/1.mp4' controls></video>\n```"

    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        event = f"data: {json.dumps({'choices': [{'delta': {'content': said}}]})}\n\n".encode()
        head = b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.raw.sendall(head + b"%x\r\n%s\r\n" % (len(event), event))
        connection.close()

    with RawGateway(answer) as gateway, Sora(**settings(gateway, "chat", tmp_path)) as sora:  # type: ignore[arg-type]
        task = sora.generate(ask, key="k")
    assert (task.status, task.generations[0].url) == ("succeeded", "https://cdn.test/1.mp4")


def test_a_deletion_whose_answer_was_lost_is_done(box: Sandbox, tmp_path: Path) -> None:
    with Sora(**settings(box, "videos", tmp_path)) as sora:
        task_id = sora.create(ask, key="k").task_id
        box.script("delete", "reset", accept=True)
        sora.delete(task_id)
        assert sora.gateway.ledger.find("k").outcome == "cancelled"


def test_a_lost_create_is_not_tried_in_another_format(box: Sandbox, tmp_path: Path) -> None:
    box.script("create", "bad_gateway", accept=True)
    given = settings(box, "unified", tmp_path, model="sora-2", fallback="generations")
    with Sora(**given) as sora, pytest.raises(SubmissionUnknownError):
        sora.create(ask, key="k")
    assert {request.format for request in box.requests if request.route == "create"} == {"unified"}


def test_a_probe_creates_nothing_and_says_what_it_saw(box: Sandbox, tmp_path: Path) -> None:
    with Sora(**settings(box, "backend", tmp_path)) as sora:
        found = sora.probe()
    assert {each.dialect: each.state for each in found.formats} == dict.fromkeys(FORMATS, "live")
    assert (found.left, box.creates) == (100.0, 0)
    assert found.models
    assert {request.method for request in box.requests} == {"GET"}


def test_a_probe_names_a_refused_key(tmp_path: Path) -> None:
    with Sandbox(world=World(keys=["another"])) as box, Sora(**settings(box, "backend", tmp_path)) as sora:
        found = sora.probe()
    assert {each.state for each in found.formats if each.dialect != "chat"} == {"refused"}
    assert found.advice == ("The key is refused: check SORA_API_KEY.",)


@pytest.mark.parametrize("body", [{"detail": "Not Found"}, b"404 page not found\n"])
def test_a_path_that_a_framework_does_not_know_is_no_task_that_is_not_there(tmp_path: Path, body: Any) -> None:
    def answer(connection: Connection, method: str, path: str, _: bytes) -> None:
        is_list = path.partition("?")[0] == "/v1/videos"
        connection.reply({"object": "list", "data": []} if is_list else body, 200 if is_list else 404)

    with RawGateway(answer) as gateway, Sora(**{**settings(gateway, "auto", tmp_path), "model": None}) as sora:
        states = {each.dialect: each.state for each in sora.probe().formats}
    assert states == {**dict.fromkeys(FORMATS, "not served"), "videos": "live"}
