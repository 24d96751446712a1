"""What people see while a video is made: on LangChain's ways, on LangGraph's, and on none of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langgraph.errors import GraphInterrupt
from scripted_model import scripted

from sora_tools import (
    AsyncSora,
    BusyError,
    Sora,
    SoraError,
    SoraToolkit,
    VideoTask,
    WaitTimeoutError,
)
from sora_tools.events import (
    EVENT_NAME,
    Adjusted,
    Downloading,
    GivenUp,
    News,
    NotRecorded,
    Retrying,
    Saved,
    Seen,
    Submitted,
    described,
)
from sora_tools.ledger.sqlite import SQLiteLedger
from sora_tools.media import probe
from sora_tools.sandbox import Sandbox, World

VIDEO = {"prompt": "fly man", "width": 64, "height": 36, "n_frames": 3}
ASKED = {"messages": [("user", "make it")]}
KEY = "sk-the-key-of-this-test"


@pytest.fixture(scope="module")
def stepping() -> Iterator[Sandbox]:
    """A gateway at which 0.9 of a video's 6 seconds pass with each request: one look in the queue, five of progress."""
    world, start = World(), time.time()
    world.clock = lambda: start + 0.9 * len(world.requests)
    with Sandbox(world=world) as running:
        yield running


@pytest.fixture
def box(stepping: Sandbox, brisk: None) -> Sandbox:
    stepping.world.reset()
    stepping.clear()
    return stepping


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def toolkit(box: Sandbox, folder: Path | None = None, **settings: Any) -> SoraToolkit:
    return SoraToolkit(base_url=box.base_url, api_key=KEY, download_dir=folder, **settings)


def creates(tools: list[Any]) -> Any:
    return tools[0]


def invoked(colour: str, make: Any, given: Any, kit: SoraToolkit, *handlers: Any) -> Any:
    """What a tool or an agent answers, in either colour; its toolkit is closed behind it."""
    config = {"callbacks": list(handlers)}

    async def main() -> Any:
        async with kit:
            return await make(kit.get_tools()).ainvoke(given, config)

    if colour == "async":
        return asyncio.run(main())
    with kit:
        return make(kit.get_tools()).invoke(given, config)


def agent(tools: list[Any]) -> Any:
    def named(message: Any) -> dict[str, Any]:
        return {"task_id": json.loads(message.text)["task_id"]}

    return create_agent(scripted([("create_video", VIDEO), ("query_video", named)]), tools)


class Handler(BaseCallbackHandler):
    """Keeps what it is told, then does as it was asked."""

    def __init__(self, then: BaseException | None = None) -> None:
        self.data: list[Any] = []
        self.runs: set[Any] = set()
        self.threads: set[int] = set()
        self.then = then
        self.raise_error = then is not None

    def on_custom_event(self, name: str, data: Any, *, run_id: Any, **_: Any) -> None:
        assert name == EVENT_NAME
        self.data.append(data)
        self.runs.add(run_id)
        self.threads.add(threading.get_ident())
        if self.then is not None:
            raise self.then


class LaterHandler(AsyncCallbackHandler):
    """The same for programs with an event loop."""

    def __init__(self, then: BaseException | None = None) -> None:
        self.kept = Handler(then)
        self.raise_error = then is not None

    async def on_custom_event(self, name: str, data: Any, *, run_id: Any, **_: Any) -> None:
        self.kept.on_custom_event(name, data, run_id=run_id)


def assert_whole_story(told: list[Any], folder: Path) -> None:
    """From the acceptance over the queue and the progress to the last byte; each once."""
    json.dumps(told, allow_nan=False)
    assert KEY not in repr(told)
    assert {data["type"] for data in told} == {EVENT_NAME}
    kinds = [data["event"] for data in told]
    assert (kinds[0], kinds[-1]) == ("submitted", "saved")
    seen = [data for data in told if data["event"] == "seen"]
    assert any(data["queue_position"] is not None for data in seen)
    progress = [data["progress"] for data in seen if data["status"] == "running"]
    assert len(progress) > 1
    assert progress == sorted(set(progress))
    assert seen[-1]["status"] == "succeeded"
    told_once = [(data["status"], data["progress"], data["queue_position"]) for data in seen]
    assert len(told_once) == len(set(told_once))
    (film,) = folder.iterdir()
    arrived = [data for data in told if data["event"] == "downloading"]
    assert arrived[-1]["received"] == arrived[-1]["total"] == film.stat().st_size == told[-1]["size"]
    assert {data["file"] for data in arrived} == {film.name}
    assert {data["task_id"] for data in told} == {told[0]["task_id"]}


# --- LangChain's and LangGraph's ways ---------------------------------------------------------------------------


async def test_check_10_astream_events_shows_progress_and_place_in_the_queue(box: Sandbox, tmp_path: Path) -> None:
    async with toolkit(box, tmp_path) as kit:
        events = [event async for event in agent(kit.get_tools()).astream_events(ASKED, version="v2")]
    told = [event for event in events if event["event"] == "on_custom_event"]
    assert {event["name"] for event in told} == {EVENT_NAME}
    assert_whole_story([event["data"] for event in told], tmp_path)
    runs = {event["run_id"]: event["name"] for event in events if event["event"] == "on_tool_start"}
    assert [runs[event["run_id"]] for event in (told[0], told[-1])] == ["create_video", "query_video"]
    assert box.creates == 1


def test_check_10_stream_mode_custom_shows_the_same(box: Sandbox, tmp_path: Path, colour: str) -> None:
    async def main() -> list[Any]:
        async with toolkit(box, tmp_path) as kit:
            return [chunk async for chunk in agent(kit.get_tools()).astream(ASKED, stream_mode="custom")]

    if colour == "async":
        told = asyncio.run(main())
    else:
        with toolkit(box, tmp_path) as kit:
            told = list(agent(kit.get_tools()).stream(ASKED, stream_mode="custom"))
    assert_whole_story(told, tmp_path)
    assert box.creates == 1


@pytest.mark.parametrize("kind", [Handler, LaterHandler])
def test_check_10_callback_handlers_are_told(box: Sandbox, tmp_path: Path, colour: str, kind: Any) -> None:
    handler = kind()
    invoked(colour, agent, ASKED, toolkit(box, tmp_path), handler)
    kept = getattr(handler, "kept", handler)
    assert_whole_story(kept.data, tmp_path)
    assert len(kept.runs) == 2


def test_check_10_a_call_with_nothing_around_it_works(box: Sandbox, tmp_path: Path, colour: str) -> None:
    kept = {"ledger": str(tmp_path / "ledger.sqlite")}
    created = json.loads(invoked(colour, creates, VIDEO, toolkit(box, **kept)))
    asked = {"task_id": created["task_id"]}
    answer = json.loads(invoked(colour, lambda tools: tools[1], asked, toolkit(box, tmp_path / "videos", **kept)))
    film = probe(Path(answer["videos"][0]["file"]))
    assert (film.width, film.height, film.n_frames) == (64, 36, 3)


def test_check_10_a_body_called_without_a_run_works(box: Sandbox) -> None:
    with toolkit(box) as kit:
        create, _ = kit.get_tools()
        content, artifact = create._run(**VIDEO, config={})
    assert json.loads(content)["task_id"] == artifact["task"]["task_id"]


def test_check_10_the_package_loads_no_langgraph_to_find_a_writer(box: Sandbox) -> None:
    program = (
        "import sys, sora_tools\n"
        f"with sora_tools.SoraToolkit(base_url={box.base_url!r}, api_key='k', ledger='memory') as kit:\n"
        "    create, _ = kit.get_tools()\n"
        f"    assert 'task_id' in create.invoke({VIDEO!r})\n"
        "assert not {'langgraph', 'langchain'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent.parent, timeout=60)


def test_a_look_without_a_wait_tells_what_it_saw(box: Sandbox, colour: str) -> None:
    handler = Handler()
    with Sora(base_url=box.base_url, api_key=KEY) as sora:
        asked = {"task_id": sora.create(VIDEO).task_id}
    invoked(colour, lambda tools: tools[1], asked, toolkit(box, max_wait=0), handler)
    assert [data["event"] for data in handler.data] == ["seen"]


def test_retries_of_a_create_are_told_on_the_way(box: Sandbox, colour: str) -> None:
    handler = Handler()
    box.script("create", "rate_limit", times=1, retry_after=0)
    invoked(colour, creates, VIDEO, toolkit(box), handler)
    assert [data["event"] for data in handler.data] == ["retrying", "submitted"]
    assert handler.data[0]["code"] == "busy"


# --- listeners that fail ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", [ValueError("no"), RuntimeError("no"), GraphInterrupt()], ids=repr)
@pytest.mark.parametrize("kind", [Handler, LaterHandler])
def test_a_handler_that_raises_loses_nothing_and_pays_nothing_twice(
    box: Sandbox, tmp_path: Path, colour: str, then: Exception, kind: Any
) -> None:
    handler = kind(then)
    end = invoked(colour, agent, ASKED, toolkit(box, tmp_path), handler)
    assert_whole_story(getattr(handler, "kept", handler).data, tmp_path)
    assert [message.status for message in end["messages"] if message.type == "tool"] == ["success", "success"]
    assert box.creates == 1


def test_a_writer_that_raises_loses_nothing(
    box: Sandbox, colour: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written: list[Any] = []

    def write(data: Any) -> None:
        written.append(data)
        raise GraphInterrupt

    monkeypatch.setattr("langgraph.config.get_stream_writer", lambda: write)
    handler = Handler()
    answer = invoked(colour, creates, VIDEO, toolkit(box), handler)
    assert "task_id" in json.loads(answer)
    assert handler.data == written
    assert [data["event"] for data in written] == ["submitted"]
    assert "listener failed" in caplog.text
    assert box.creates == 1


def rows_of(kit: SoraToolkit) -> list[Any]:
    """What the ledger knows of the creates that belong to no thread."""
    with kit:
        own = kit.get_tools()[0].sora.gateway
        return list(own.ledger.of_thread(own.settings.origin, own.settings.account, None, 10, None))


@pytest.mark.parametrize("then", [KeyboardInterrupt, asyncio.CancelledError])
def test_a_handler_that_ends_the_call_forgets_no_create(tmp_path: Path, box: Sandbox, colour: str, then: Any) -> None:
    """The acceptance is in the ledger before it is told."""
    kept = {"ledger": str(tmp_path / "ledger.sqlite")}
    handler = (LaterHandler if colour == "async" else Handler)(then())
    with pytest.raises(then):
        invoked(colour, creates, VIDEO, toolkit(box, **kept), handler)
    (row,) = rows_of(toolkit(box, **kept))
    assert row.state == "accepted"
    answer = invoked(colour, lambda tools: tools[1], {"task_id": row.key}, toolkit(box, **kept))
    assert json.loads(answer)["status"] == "succeeded"
    assert box.creates == 1


@pytest.mark.parametrize(
    ("colour", "then"),
    [
        ("sync", KeyboardInterrupt),
        ("sync", ValueError),
        ("async", asyncio.CancelledError),
        ("async", ValueError),
    ],
)
def test_a_chat_is_read_to_its_end_whatever_its_handlers_do(
    tmp_path: Path, brisk: None, colour: str, then: Any
) -> None:
    """Its answer tells of the video once: nobody who is told of it may be able to break that off.

    But for a KeyboardInterrupt in an event loop, which ends the loop and all that runs on it.
    """
    kept = {"ledger": str(tmp_path / "ledger.sqlite"), "dialect": "chat"}
    handler = (LaterHandler if colour == "async" else Handler)(then())
    with Sandbox(speed=40, render=False) as box:
        with nullcontext() if then is ValueError else pytest.raises(then):
            invoked(colour, creates, VIDEO, toolkit(box, **kept), handler)
        (row,) = rows_of(toolkit(box, **kept))
        assert (row.state, row.outcome, box.creates) == ("accepted", "succeeded", 1)
    assert getattr(handler, "kept", handler).data


def test_handlers_run_where_the_tool_was_called(tmp_path: Path, brisk: None) -> None:
    """Not even what a chat's stream tells, on a thread of its own, reaches them anywhere else."""
    handler = Handler()
    with Sandbox(speed=40, render=False) as box:
        invoked("sync", creates, VIDEO, toolkit(box, ledger="memory", dialect="chat"), handler)
    assert handler.threads == {threading.get_ident()}
    assert [data["event"] for data in handler.data][-1] == "submitted"
    assert "seen" in {data["event"] for data in handler.data}


def test_a_handler_that_hangs_keeps_no_chat_from_being_read(tmp_path: Path, brisk: None) -> None:
    class Hanging(BaseCallbackHandler):
        def on_custom_event(self, *_: Any, **__: Any) -> None:
            hanging.set()
            assert done.wait(30)

    hanging, done = threading.Event(), threading.Event()
    with Sandbox(speed=40, render=False) as box, closing(SQLiteLedger(tmp_path / "ledger.sqlite")) as ledger:
        kit = toolkit(box, ledger=ledger, dialect="chat")
        caller = threading.Thread(target=invoked, args=("sync", creates, VIDEO, kit, Hanging()))
        caller.start()
        try:
            assert hanging.wait(30)
            own = kit.get_tools()[0].sora.gateway.settings
            until = time.monotonic() + 30
            while [row.outcome for row in ledger.of_thread(own.origin, own.account, None, 10, None)] != ["succeeded"]:
                assert time.monotonic() < until
                time.sleep(0.05)
            assert caller.is_alive()
        finally:
            done.set()
            caller.join(30)
    assert box.creates == 1


# --- plain callers ----------------------------------------------------------------------------------------------


def test_check_10_on_event_tells_plain_callers(box: Sandbox, tmp_path: Path, colour: str) -> None:
    told: list[Any] = []

    async def main() -> None:
        async with AsyncSora(base_url=box.base_url, api_key=KEY) as sora:
            await sora.generate(VIDEO, directory=tmp_path, on_event=told.append)

    if colour == "async":
        asyncio.run(main())
    else:
        with Sora(base_url=box.base_url, api_key=KEY) as sora:
            sora.generate(VIDEO, directory=tmp_path, on_event=told.append)
    news = News()
    assert_whole_story([described(event) for event in told if news.is_new(event)], tmp_path)


def test_check_10_a_wait_looks_at_once_and_stops_at_its_deadline(brisk: None, colour: str) -> None:
    looked: list[float] = []

    def listen(event: Any) -> None:
        if isinstance(event, Seen):
            looked.append(time.monotonic() - start)

    async def main() -> None:
        async with AsyncSora(base_url=slow.base_url, api_key=KEY) as sora:
            await sora.wait(task_id, timeout=0.5, on_event=listen)

    with Sandbox(speed=0.001) as slow, Sora(base_url=slow.base_url, api_key=KEY) as sora:
        task_id = sora.create(VIDEO).task_id
        start = time.monotonic()
        with pytest.raises(WaitTimeoutError) as caught:
            asyncio.run(main()) if colour == "async" else sora.wait(task_id, timeout=0.5, on_event=listen)
        assert 0.5 <= time.monotonic() - start < 1.5
    assert caught.value.task.task_id == task_id
    assert looked[0] < 0.4
    assert len(looked) > 1


@pytest.mark.parametrize("call", ["wait", "resume", "download"])
def test_check_10_every_call_that_looks_or_saves_tells_it(box: Sandbox, tmp_path: Path, colour: str, call: str) -> None:
    told: list[Any] = []
    arguments = {"wait": {}, "resume": {"directory": tmp_path}, "download": {"directory": tmp_path}}[call]

    async def main() -> None:
        async with AsyncSora(base_url=box.base_url, api_key=KEY) as sora:
            task = await sora.create(VIDEO)
            if call == "download":
                await sora.wait(task.task_id)
            await getattr(sora, call)(task.task_id, **arguments, on_event=told.append)

    if colour == "async":
        asyncio.run(main())
    else:
        with Sora(base_url=box.base_url, api_key=KEY) as sora:
            task = sora.create(VIDEO)
            if call == "download":
                sora.wait(task.task_id)
            getattr(sora, call)(task.task_id, **arguments, on_event=told.append)
    looks, saves = {Seen}, {Downloading, Saved}
    expected = {"wait": looks, "resume": looks | saves, "download": saves}
    assert {type(event) for event in told} == expected[call]


@pytest.mark.parametrize("then", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_listener_that_ends_programs_does_not_end_a_chat_that_is_paid_for(
    tmp_path: Path, brisk: None, colour: str, then: Any
) -> None:
    """It is told of the stream on the stream's own thread, where an exit would break off nothing but the stream."""
    told: list[Any] = []

    def listen(event: Any) -> None:
        told.append(event)
        if isinstance(event, Seen):
            raise then

    with Sandbox(speed=40, render=False) as box:
        given = {"base_url": box.base_url, "dialect": "chat", "ledger": str(tmp_path / "ledger.sqlite")}

        async def main() -> None:
            async with AsyncSora(api_key=KEY, **given) as sora:
                await sora.create(VIDEO, key="k", on_event=listen)

        if colour == "async":
            asyncio.run(main())
        else:
            with Sora(api_key=KEY, **given) as sora:
                sora.create(VIDEO, key="k", on_event=listen)
        with Sora(api_key=KEY, **given) as sora:
            assert sora.query("k").status == "succeeded"
        assert box.creates == 1
    assert {type(event) for event in told} >= {Seen, Submitted}


# --- what travels -----------------------------------------------------------------------------------------------

TASK = VideoTask(task_id="task_1", status="running", progress=0.42)
FILM = Path("/srv/someone/videos/task_1.mp4")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            Submitted("k", TASK.model_copy(update={"status": "queued", "progress": None}), reused=True),
            {
                "event": "submitted",
                "task_id": "task_1",
                "message": "It had been accepted before.",
                "key": "k",
                "reused": True,
                "status": "queued",
                "progress": None,
                "queue_position": None,
                "queue_wait": None,
            },
        ),
        (
            Seen(TASK),
            {
                "event": "seen",
                "task_id": "task_1",
                "message": "running, 42%",
                "status": "running",
                "progress": 0.42,
                "queue_position": None,
                "queue_wait": None,
            },
        ),
        (
            Adjusted("k", "Made at 720p."),
            {"event": "adjusted", "task_id": None, "message": "Made at 720p.", "key": "k"},
        ),
        (
            NotRecorded("k", TASK, OSError("disk full")),
            {
                "event": "not_recorded",
                "task_id": "task_1",
                "message": "The ledger could not write it down: keep its task id.",
                "key": "k",
            },
        ),
        (
            Retrying(BusyError("Too many at once."), 2.04),
            {
                "event": "retrying",
                "task_id": None,
                "message": "Trying again in 2 s: Too many at once.",
                "seconds": 2.0,
                "code": "busy",
            },
        ),
        (
            Downloading("task_1", FILM, 250, 1000),
            {
                "event": "downloading",
                "task_id": "task_1",
                "message": "saving task_1.mp4, 25%",
                "file": "task_1.mp4",
                "received": 250,
                "total": 1000,
                "progress": 0.25,
            },
        ),
        (
            Downloading("task_1", FILM, 250, None),
            {
                "event": "downloading",
                "task_id": "task_1",
                "message": "saving task_1.mp4",
                "file": "task_1.mp4",
                "received": 250,
                "total": None,
                "progress": None,
            },
        ),
        (
            Saved("task_1", FILM, 1000),
            {
                "event": "saved",
                "task_id": "task_1",
                "message": "saved task_1.mp4",
                "file": "task_1.mp4",
                "size": 1000,
            },
        ),
        (
            GivenUp("k", WaitTimeoutError("Not yet.", task_id="task_1")),
            {"event": "given_up", "task_id": "task_1", "message": "Not yet.", "code": "wait_timeout"},
        ),
        (
            GivenUp("k", SoraError("It could not be looked at.")),
            {"event": "given_up", "task_id": "k", "message": "It could not be looked at.", "code": SoraError.code},
        ),
    ],
    ids=map(str, range(10)),
)
def test_an_event_travels_as_plain_json(event: Any, expected: dict[str, Any]) -> None:
    assert described(event) == {"type": EVENT_NAME, **expected}
    assert json.loads(json.dumps(described(event))) == described(event)
    assert "/srv/someone" not in repr(described(event))


def test_an_event_carries_no_address_and_no_raw_answer() -> None:
    task = VideoTask(
        task_id="task_1",
        status="succeeded",
        generations=({"url": "https://videos.example/1.mp4?signature=abc"},),  # type: ignore[arg-type]
        raw={"secret": "thing"},
    )
    for event in (Seen(task), Submitted("k", task)):
        assert "example" not in repr(described(event))
        assert "thing" not in repr(described(event))


def test_a_place_in_the_queue_is_said_in_words() -> None:
    task = VideoTask(task_id="task_1", status="queued", queue_position=3)
    assert described(Seen(task))["message"] == "queued, 3 ahead"
    assert described(Seen(task.model_copy(update={"queue_position": None})))["message"] == "queued"


def test_news_are_changes_that_people_can_see() -> None:
    news = News()

    def seen(**changes: Any) -> bool:
        return news.is_new(Seen(TASK.model_copy(update=changes)))

    assert seen()
    assert not seen()
    assert not seen(queue_wait=3.0, progress=0.4201)
    assert seen(progress=0.43)
    assert seen(status="queued", queue_position=2)
    assert seen(status="queued", queue_position=1)
    assert seen(task_id="task_2")
    assert news.is_new(Retrying(BusyError("no"), 1.0))
    assert news.is_new(Retrying(BusyError("no"), 1.0))


@pytest.mark.parametrize(("total", "most"), [(10_000_000, 101), (None, 11)])
def test_of_a_download_every_percent_is_news(total: int | None, most: int) -> None:
    news = News()
    told = [
        received for received in range(0, 10_000_001, 1000) if news.is_new(Downloading("task_1", FILM, received, total))
    ]
    assert len(told) == most
    assert told[-1] == 10_000_000
