"""The sandbox as something that listens: in a thread for programs and tests, in the foreground for the command line."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import uvicorn

from .app import Connection, application
from .log import Received
from .pictures import is_loopback
from .studio import Studio
from .tasks import Generation, Task
from .world import World

logger = logging.getLogger(__name__)

BACKLOG = 4096
STOP_SECONDS = 5.0


class Sandbox:
    """A Sora-format gateway on this machine, serving from `start` to `stop`, or as a context manager.

    Args:
        host: Where to listen: a loopback address, unless `allow_remote` is set. The sandbox has no secrets, but it
            renders for anyone who asks.
        port: 0 takes a free one.
        keys: The bearer keys that are let in; None lets in any that is not empty.
        speed: How many times faster than 6 seconds a task is done.
        render: Whether videos are made as soon as a create is accepted, a task succeeding no sooner than its video is
            there. Otherwise each is made when it is first downloaded, and tasks keep to their time alone.
        directory: Where videos lie; a temporary folder, removed by `stop`, unless given.
        world: A world of your own, with settings this class has no argument for; it brings its own `keys` and `speed`.
        allow_remote: Lets `host` be an address other machines reach.

    Raises:
        ValueError: For a host that is not loopback, a port or speed that is none, or settings given beside a world
            that has its own.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keys: Collection[str] | None = None,
        speed: float = 1.0,
        render: bool = True,
        directory: Path | None = None,
        world: World | None = None,
        allow_remote: bool = False,
    ) -> None:
        if not allow_remote and not is_loopback(host):
            raise ValueError(f"host={host!r} is no loopback address; allow_remote=True lets others be used")
        if port not in range(65536):
            raise ValueError(f"port={port!r} was given; it is a whole number from 0 to 65535")
        if world is not None and (keys is not None or speed != 1.0):
            raise ValueError("keys and speed belong to the world: give them to World(...)")
        self.world = world or World(keys=keys, speed=speed)
        self._address = (host, port)
        self._render = render
        self._directory = directory
        self._running: _Running | None = None

    @property
    def base_url(self) -> str:
        """Where the gateway is, `http://127.0.0.1:PORT`.

        Raises:
            RuntimeError: When it is not started.
        """
        if self._running is None:
            raise RuntimeError("the sandbox is not started; use it as a context manager or call start()")
        host, port = self._running.socket_name
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound to
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> Self:
        """Listen; when this returns, requests are answered.

        Raises:
            OSError: When the address is taken.
        """
        if self._running is None:
            self._running = _Running(self.world, self._address, self._directory, render=self._render)
        return self

    def stop(self) -> None:
        """Stop listening, let go of requests that hang and remove the temporary folder. Memory stays readable."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def creates(self) -> int:
        """How many creates were accepted."""
        return self.world.creates

    @property
    def charged(self) -> Decimal:
        """What the accepted creates would have cost."""
        return self.world.charged

    @property
    def requests(self) -> tuple[Received, ...]:
        """Every request so far, oldest first; the control routes are not counted."""
        return self.world.requests

    def script(self, route: str, fault: str, times: int | None = 1, **options: Any) -> None:
        """Let the next requests of a route go wrong; see `World.script`."""
        self.world.script(route, fault, times, **options)

    def clear(self) -> None:
        """Drop all scripts."""
        self.world.clear()

    def task(self, task_id: str) -> dict[str, Any]:
        """The task as a look would show it now; `KeyError` when no such task was accepted."""
        return self.world.task(task_id, self.base_url)


class _Running:
    """One time from start to stop: socket, thread, studio and folder, which begin and end together."""

    def __init__(self, world: World, address: tuple[str, int], directory: Path | None, *, render: bool) -> None:
        self._socket = _listen(address)
        self.socket_name: tuple[str, int] = self._socket.getsockname()[:2]
        self._temporary = None if directory else tempfile.TemporaryDirectory(prefix="sora-sandbox-")
        folder = directory or Path(self._temporary.name if self._temporary else "")
        folder.mkdir(parents=True, exist_ok=True)
        self._studio = Studio(folder)
        self._world = world
        self._stopping = False
        if render:
            world.on_accept = self._film
        app, self._gateway = application(world, self._studio)
        self._server = _Server(
            uvicorn.Config(
                app,
                http=Connection,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",  # that it came and went is no news to whoever embeds it
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
            ),
            self._gateway.stopping,
        )
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="sora-sandbox", daemon=True
        )
        self._thread.start()
        self._server.up.wait()

    def stop(self) -> None:
        self._stopping = True
        self._world.on_accept = None
        self._server.stop()
        self._studio.close()
        self._thread.join(STOP_SECONDS)
        if self._temporary:
            self._temporary.cleanup()

    def _film(self, task: Task) -> None:
        for variant, generation_id in enumerate(task.generation_ids):
            self._world.rendering(generation_id)
            self._studio.make(Generation(task, variant)).add_done_callback(partial(self._filmed, generation_id))

    def _filmed(self, generation_id: str, video: Future[Path]) -> None:
        if self._stopping:
            self._world.rendered(generation_id, None)
        elif error := video.exception():
            logger.error("%s", error)
            self._world.spoilt(generation_id)
        else:
            self._world.rendered(generation_id, video.result().stat().st_size)


class _Server(uvicorn.Server):
    """uvicorn that says when it is up and stops when it is told, not at its next look at the clock."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self.up = threading.Event()
        self._stopping = stopping
        self._loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            await super().startup(sockets)
        finally:
            self.up.set()

    async def main_loop(self) -> None:
        while not self._stopping.is_set():
            await self.on_tick(0)  # renews the Date header
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)


def _listen(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off only where it is: without, a reply takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def serve(
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    announce: Callable[[Sandbox], None] = lambda _sandbox: None,
    **settings: Any,
) -> None:
    """Run a sandbox until Ctrl-C or SIGTERM; for the main thread, which is where signals arrive.

    Args:
        host: Where to listen.
        port: 0 takes a free one.
        announce: Called once it answers; prints the address, say.
        settings: As for `Sandbox`.
    """
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Sandbox(host=host, port=port, **settings) as sandbox:
            announce(sandbox)
            while not stop.wait(0.5):  # a wait without an end hides signals on Windows
                pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
