"""Callers who go: whenever they do, no create is lost, none is sent twice, and the client goes on working."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from raw_gateway import Connection, RawGateway

from sora_tools import AsyncSora, Retry, Sora, SubmissionUnknownError
from sora_tools.client.transport import IN_FLIGHT
from sora_tools.flow import Do, Flow
from sora_tools.ledger import Begun, Submission
from sora_tools.ledger.sqlite import MemoryLedger
from sora_tools.limits import Check
from sora_tools.sandbox import Sandbox

QUICK = Retry(attempts=4, budget=40.0, first=0.0, longest=0.0)
KEY = "sk-test-0123456789"
VIDEO = {"prompt": "fly man", "width": 64, "height": 36, "n_frames": 3}


class Slow:
    """A gateway that answers creates when told to, and lists at once."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        if method == "POST":
            self.go.wait(10)
            connection.reply({"id": "task_slow"})
        else:
            connection.reply({"task_responses": []})


async def until(condition: Callable[[], bool]) -> None:
    """Real time passes here: another thread is at work."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in threads
            await asyncio.sleep(0.005)


def soon(condition: Callable[[], bool]) -> None:
    """The same for programs without a loop."""
    patience = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < patience
        time.sleep(0.005)


async def test_a_create_that_has_left_is_finished_and_written_down() -> None:
    slow = Slow()
    with RawGateway(slow) as gateway:
        async with AsyncSora(base_url=gateway.base_url, api_key=KEY) as sora:
            create = asyncio.create_task(sora.create(VIDEO, key="k"))
            await until(lambda: gateway.posts == 1)
            create.cancel()
            with pytest.raises(asyncio.CancelledError):
                await create
            slow.go.set()
            ledger = sora.gateway.ledger
            await until(lambda: getattr(ledger.find("k"), "state", None) == "accepted")
            assert (await sora.create(VIDEO, key="k")).task_id == "task_slow"
            assert gateway.posts == 1


async def test_closing_waits_for_a_create_whose_caller_has_gone() -> None:
    slow = Slow()
    with RawGateway(slow) as gateway:
        sora = AsyncSora(base_url=gateway.base_url, api_key=KEY)
        create = asyncio.create_task(sora.create(VIDEO, key="k"))
        await until(lambda: gateway.posts == 1)
        create.cancel()
        threading.Timer(0.1, slow.go.set).start()
        await sora.close()
        row = sora.gateway.ledger.find("k")
        assert row is not None
        assert row.state == "accepted"


class Hesitant(MemoryLedger):
    """Writes the intent down, and says so only when told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.intended, self.go = threading.Event(), threading.Event()

    def begin(self, submission: Submission, repeat: bool = True, check: Check | None = None) -> Begun:
        begun = super().begin(submission, repeat, check)
        self.intended.set()
        self.go.wait(10)
        return begun


async def test_a_create_whose_caller_goes_before_it_leaves_is_refused_unsent() -> None:
    ledger = Hesitant()
    with RawGateway(Slow()) as gateway:
        async with AsyncSora(base_url=gateway.base_url, api_key=KEY, ledger=ledger) as sora:
            create = asyncio.create_task(sora.create(VIDEO, key="k"))
            await until(ledger.intended.is_set)
            create.cancel()
            with pytest.raises(asyncio.CancelledError):
                await create
            ledger.go.set()
            await until(lambda: getattr(ledger.find("k"), "state", None) == "refused")
        assert gateway.posts == 0


async def test_work_on_this_machine_is_done_even_where_its_caller_goes_before_it_begins() -> None:
    go, done = threading.Event(), threading.Event()
    busy = ThreadPoolExecutor(1)
    busy.submit(go.wait, 10)

    def writing() -> Flow[None]:
        yield Do(done.set)

    async with AsyncSora(base_url="https://gateway.test", api_key=KEY) as sora:
        (await sora._loop_connections())._workers = busy
        caller = asyncio.create_task(sora.run(writing()))
        await until(lambda: busy._work_queue.qsize() == 1)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        go.set()
        await until(done.is_set)


class PressedError(Exception):
    """Raised in the main thread, as Ctrl-C raises KeyboardInterrupt, and caught with less danger."""


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Let a signal raise in the main thread while it waits."""

    def handler(*_: object) -> None:
        raise PressedError

    usual = signal.signal(signal.SIGUSR1, handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, usual)


def test_an_interrupted_create_that_has_left_is_finished_and_written_down(interrupt: Callable[[], None]) -> None:
    slow = Slow()

    def press() -> None:
        soon(lambda: gateway.posts == 1)
        interrupt()

    with RawGateway(slow) as gateway, Sora(base_url=gateway.base_url, api_key=KEY) as sora:
        threading.Thread(target=press).start()
        with pytest.raises(PressedError):
            sora.create(VIDEO, key="k")
        slow.go.set()
        sora.close()
        row = sora.gateway.ledger.find("k")
        assert row is not None
        assert (row.state, row.task_id, gateway.posts) == ("accepted", "task_slow", 1)


def test_an_interrupted_create_that_has_not_left_is_not_sent(interrupt: Callable[[], None]) -> None:
    ledger = Hesitant()

    def press() -> None:
        ledger.intended.wait(5)
        interrupt()

    with RawGateway(Slow()) as gateway, Sora(base_url=gateway.base_url, api_key=KEY, ledger=ledger) as sora:
        threading.Thread(target=press).start()
        with pytest.raises(PressedError):
            sora.create(VIDEO, key="k")
        ledger.go.set()
        soon(lambda: getattr(ledger.find("k"), "state", None) == "refused")
        assert gateway.posts == 0


def test_closing_waits_for_a_create_of_another_thread() -> None:
    slow = Slow()
    with RawGateway(slow) as gateway, ThreadPoolExecutor(1) as pool:
        sora = Sora(base_url=gateway.base_url, api_key=KEY)
        create = pool.submit(sora.create, VIDEO, key="k")
        soon(lambda: gateway.posts == 1)
        threading.Timer(0.1, slow.go.set).start()
        sora.close()
        row = sora.gateway.ledger.find("k")
        assert row is not None
        assert row.state == "accepted"
        assert create.result(5).task_id == "task_slow"


async def test_a_create_still_queueing_is_not_sent() -> None:
    slow = Slow()
    with RawGateway(slow) as gateway:
        async with AsyncSora(base_url=gateway.base_url, api_key=KEY) as sora:
            first = [asyncio.create_task(sora.create(VIDEO)) for _ in range(IN_FLIGHT)]
            await until(lambda: gateway.posts == IN_FLIGHT)
            queued = asyncio.create_task(sora.create(VIDEO, key="queued"))
            await asyncio.sleep(0)
            queued.cancel()
            with pytest.raises(asyncio.CancelledError):
                await queued
            slow.go.set()
            await asyncio.gather(*first)
            assert gateway.posts == IN_FLIGHT
            assert sora.gateway.ledger.find("queued") is None


async def test_a_create_in_backoff_is_not_sent() -> None:
    with RawGateway(lambda connection, *_: connection.reply({}, 429)) as gateway:
        async with AsyncSora(base_url=gateway.base_url, api_key=KEY, retry=Retry(first=30, longest=30)) as sora:
            create = asyncio.create_task(sora.create(VIDEO, key="k"))
            await until(lambda: gateway.posts == 1 and getattr(sora.gateway.ledger.find("k"), "state", "") == "refused")
            create.cancel()
            with pytest.raises(asyncio.CancelledError):
                await create
            assert gateway.posts == 1


async def test_a_create_cancelled_at_any_moment_is_refused_unsent_or_accepted_once() -> None:
    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        connection.reply({"id": f"task_{time.monotonic_ns()}"})

    with RawGateway(answer) as gateway:
        async with AsyncSora(base_url=gateway.base_url, api_key=KEY) as sora:
            for moment in range(40):
                key, before = f"k{moment}", gateway.posts
                create = asyncio.create_task(sora.create(VIDEO, key=key))
                for _ in range(moment):
                    await asyncio.sleep(0)
                create.cancel()
                await asyncio.gather(create, return_exceptions=True)
                connections = sora._connections.get(asyncio.get_running_loop())
                await until(lambda left=connections: left is None or not (left.attempts or left.errands))
                row = sora.gateway.ledger.find(key)
                state = row.state if row else "nothing"
                assert (state, gateway.posts - before) in {("nothing", 0), ("refused", 0), ("accepted", 1)}
                again = await sora.create(VIDEO, key=key)
                assert again.task_id
                assert gateway.posts - before == 1


async def test_a_thousand_cancelled_waits_at_a_hanging_gateway_leave_a_working_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sora_tools.client.async_sora.ABANDONED", 0.2)
    hanging = threading.Event()

    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        if not hanging.is_set():
            gateway.stopped.wait(30)
            return
        connection.reply({"task_responses": [{"id": f"task_{n}", "status": "running"} for n in range(20)]})

    with RawGateway(answer) as gateway:
        async with AsyncSora(base_url=gateway.base_url, api_key=KEY, timeout=1.0) as sora:

            async def one(number: int) -> None:
                call = sora.wait(f"task_{number % 20}") if number % 2 else sora.query(f"task_{number % 20}")
                async with asyncio.timeout(0.001 * (number % 100)):
                    await call

            outcomes = await asyncio.gather(*map(one, range(1000)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {TimeoutError}
            hanging.set()
            for _ in range(20):
                tasks = await asyncio.gather(*(sora.query(f"task_{n}") for n in range(10)))
                assert [task.status for task in tasks] == ["running"] * 10
            connections = sora._connections[asyncio.get_running_loop()]
            await until(lambda: not connections.errands)
            assert connections.look_gate._value == IN_FLIGHT
            assert not connections.board.wanted()
    assert len(asyncio.all_tasks()) == 1


class Counting:
    """A gateway that holds every look until told to go on, and knows how many there were at once."""

    def __init__(self) -> None:
        self.go, self.lock = threading.Event(), threading.Lock()
        self.held = self.most = 0

    def __call__(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        with self.lock:
            self.held += 1
            self.most = max(self.most, self.held)
        self.go.wait(10)
        with self.lock:
            self.held -= 1
        connection.reply({"task_responses": []})


def test_no_more_looks_of_many_threads_are_on_the_wire_than_the_gate_lets_through() -> None:
    counting, callers = Counting(), 2 * IN_FLIGHT
    with (
        RawGateway(counting) as gateway,
        Sora(base_url=gateway.base_url, api_key=KEY) as sora,
        ThreadPoolExecutor(callers) as pool,
    ):
        looks = [pool.submit(sora.list) for _ in range(callers)]
        soon(lambda: counting.held >= IN_FLIGHT)
        time.sleep(0.2)  # time for an eleventh to arrive, if it would
        counting.go.set()
        assert [look.result(5).tasks for look in looks] == [()] * callers
        assert counting.most == IN_FLIGHT


async def test_no_more_looks_of_one_loop_are_on_the_wire_than_the_gate_lets_through() -> None:
    counting, callers = Counting(), 2 * IN_FLIGHT
    with RawGateway(counting) as gateway:
        async with AsyncSora(base_url=gateway.base_url, api_key=KEY) as sora:
            looks = asyncio.gather(*(sora.list() for _ in range(callers)))
            await until(lambda: counting.held >= IN_FLIGHT)
            await asyncio.sleep(0.2)  # time for an eleventh to arrive, if it would
            counting.go.set()
            assert [page.tasks for page in await looks] == [()] * callers
        assert counting.most == IN_FLIGHT


# --- those who stay ---------------------------------------------------------------------------------------------


async def test_many_waits_share_list_requests() -> None:
    with Sandbox(speed=6, render=False) as box:
        async with AsyncSora(base_url=box.base_url, api_key=KEY) as sora:
            tasks = await asyncio.gather(*(sora.create(VIDEO, prompt=f"fly man {n}") for n in range(50)))
            before = len(box.requests)
            done = await asyncio.gather(*(sora.wait(task.task_id) for task in tasks))
            assert {task.status for task in done} == {"succeeded"}
            assert len(box.requests) - before <= 8


def test_waits_of_many_threads_share_list_requests(running_sandbox: Sandbox) -> None:
    box = running_sandbox
    with Sora(base_url=box.base_url, api_key=KEY) as sora, ThreadPoolExecutor(20) as pool:
        tasks = list(pool.map(lambda n: sora.create(VIDEO, prompt=f"fly {n}"), range(20)))
        before = len(box.requests)
        done = list(pool.map(lambda task: sora.wait(task.task_id), tasks))
        assert {task.status for task in done} == {"succeeded"}
        assert len(box.requests) - before <= 10


async def test_lost_replies_do_not_block_each_other() -> None:
    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        if method == "POST":
            connection.reply(b"<html>", content_type="text/html")
        else:
            connection.reply({"task_responses": []})

    with RawGateway(answer) as gateway:
        async with AsyncSora(base_url=gateway.base_url, api_key=KEY, retry=QUICK) as sora:
            async with asyncio.timeout(10):
                outcomes = await asyncio.gather(*(sora.create(VIDEO) for _ in range(24)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {SubmissionUnknownError}
