"""One create that fails, carried out: clients whose naps are not slept, and callers who go while they wait."""

from __future__ import annotations

import asyncio
import base64
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from fault_server import FaultServer
from fault_table import Case, Outcome

from sora_tools import AsyncSora, Sora, SoraError, VideoTask
from sora_tools.flow import Sleep

KEY = "the-callers-key"
VIDEO = {"prompt": "fly man", "width": 640, "height": 360, "n_frames": 60}
PICTURE = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(750_000)).decode()
LARGE = {**VIDEO, "inpaint_items": [{"url": PICTURE}]}

# --- clients whose naps are not slept ---------------------------------------------------------------------------


@dataclass
class Skipping:
    """A clock that naps put forward."""

    skipped: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.skipped


def settled(sora: Any) -> None:
    sora.gateway = replace(sora.gateway, clock=Skipping())


class Hasty(Sora):
    def _grant(self, wish: Any, *rest: Any) -> Any:
        if isinstance(wish, Sleep):
            self.gateway.clock.skipped += wish.seconds
            return None
        return super()._grant(wish, *rest)


class AsyncHasty(AsyncSora):
    async def _grant(self, wish: Any, *rest: Any) -> Any:
        if isinstance(wish, Sleep):
            self.gateway.clock.skipped += wish.seconds
            return await asyncio.sleep(0)
        return await super()._grant(wish, *rest)


# --- one create -------------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """One failure in one situation, up to its outcome."""

    case: Case
    arrived: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    requests_before: int = 0
    tasks_before: int = 0

    def __post_init__(self) -> None:
        row, situation, _, accepts, dialect = self.case
        self.request = LARGE if situation == "mid_body" else VIDEO
        halfway = situation == "mid_body"
        self.server = FaultServer(row.failure, accepts=accepts, halfway=halfway, dialect=dialect)

    @property
    def settings(self) -> dict[str, Any]:
        patience = 0.4 if self.case.row.failure == "read timeout" else 5.0
        return {
            "base_url": self.server.base_url,
            "api_key": "sk-test-0123456789",
            "timeout": patience,
            "dialect": self.case.dialect,
            "model": self.server.format.model,
        }

    def hold(self) -> None:
        """Let creates arrive and wait: the caller goes meanwhile."""

        def held() -> None:
            self.arrived.set()
            self.go.wait(10)

        self.server.on_create = held

    def let_go(self) -> None:
        self.go.set()
        self.server.on_create = lambda: None

    def begin(self) -> None:
        """From here on creates fail and are counted."""
        self.server.failing = True
        self.requests_before = len(self.server.requests)
        self.tasks_before = len(self.server.tasks)

    def outcome(self, sora: Any, result: VideoTask | SoraError) -> Outcome:
        requests = self.server.requests[self.requests_before :]
        made = [task["id"] for task in self.server.tasks[self.tasks_before :]]
        row = sora.gateway.ledger.find(KEY)
        is_task = isinstance(result, VideoTask)
        trace = "".join("+" if method == "POST" else "." for method, _, _ in requests)
        return Outcome(
            posts=trace.count("+"),
            told="task" if is_task else result.code,
            charged="" if is_task else result.charged,
            state=row.state,
            accepted=len(made),
            is_the_task=([result.task_id] == [row.task_id] == made) if is_task else row.task_id is None,
            on_fresh_lines=self.server.reused == 0,
            trace=trace,
            napped=sora.gateway.clock.skipped,
        )


def measured(case: Case) -> Outcome:
    """Make the create, and count."""
    return played(Scene(case))


def played(scene: Scene) -> Outcome:
    with scene.server:
        return synchronous(scene) if scene.case.colour == "sync" else asyncio.run(asynchronous(scene))


def synchronous(scene: Scene) -> Outcome:
    with Hasty(**scene.settings, ledger="memory") as sora:
        settled(sora)
        if scene.case.situation == "reused":
            scene.server.failing = False
            sora.query(sora.create(VIDEO, key="another").task_id)
        scene.begin()
        if scene.case.situation == "cancelled":
            scene.hold()
            interrupted(lambda: sora.create(scene.request, key=KEY), scene.arrived, scene.let_go)
        try:
            result: Any = sora.create(scene.request, key=KEY)
        except SoraError as error:
            result = error
        return scene.outcome(sora, result)


def interrupted(create: Callable[[], Any], arrived: threading.Event, let_go: Callable[[], None]) -> None:
    """Make a create, press Ctrl-C when it has arrived, let it go on, and wait for what it leaves behind.

    The signal is real; its handler is ours meanwhile, and raises once at most, so that none can stray into pytest.
    """
    others = set(threading.enumerate())
    armed = True

    def handler(*_: Any) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    def press() -> None:
        if arrived.wait(10):
            time.sleep(0.01)  # by now the caller has begun to wait for the answer
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    usual = signal.signal(signal.SIGINT, handler)
    finger = threading.Thread(target=press)
    finger.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            create()
    finally:
        finger.join()
        armed = False
        signal.signal(signal.SIGINT, usual)
        let_go()
    for thread in set(threading.enumerate()) - others:
        if thread.name in ("sora-create", "sora-stream"):
            thread.join(10)


async def asynchronous(scene: Scene) -> Outcome:
    async with AsyncHasty(**scene.settings, ledger="memory") as sora:
        settled(sora)
        if scene.case.situation == "reused":
            scene.server.failing = False
            await sora.query((await sora.create(VIDEO, key="another")).task_id)
        scene.begin()
        if scene.case.situation == "cancelled":
            scene.hold()
            await cancelled(asyncio.create_task(sora.create(scene.request, key=KEY)), scene.arrived, scene.let_go)
            await left_behind(sora)
        try:
            result: Any = await sora.create(scene.request, key=KEY)
        except SoraError as error:
            result = error
        return scene.outcome(sora, result)


async def cancelled(create: asyncio.Task[Any], arrived: threading.Event, let_go: Callable[[], None]) -> None:
    """Cancel a create when it has arrived, and let it go on."""
    try:
        assert await asyncio.to_thread(arrived.wait, 10)
        create.cancel()
        with pytest.raises(asyncio.CancelledError):
            await create
    finally:
        let_go()


async def left_behind(sora: AsyncSora) -> None:
    """Wait for what callers who have gone have left to be carried to its end."""
    connections = sora._connections[asyncio.get_running_loop()]
    while tasks := connections.attempts | connections.streams:
        await asyncio.wait(tasks)
