"""The driver for programs with an event loop."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, closing
from functools import partial
from typing import Any, Final, Self, TypeVar

import httpx

from .. import flow as flows
from ..addresses import origin
from ..errors import LostReplyError, NotSentError, SoraError
from ..events import Event, GivenUp, News
from ..flow import (
    NO_NEWS,
    Aside,
    Do,
    Finish,
    Flow,
    Gateway,
    Look,
    More,
    Open,
    Ready,
    Said,
    Send,
    Sleep,
    Stream,
    Tell,
    Wish,
)
from ..schemas import TaskPage, VideoTask
from ..wire import Reply
from .shared import AnyRequest, Client, Files, Listener, Run, files, logger, overheard
from .transport import (
    FRESH,
    IN_FLIGHT,
    LONGEST_STREAM,
    REUSED,
    Left,
    closed,
    crowded,
    decoded,
    event_source,
    events,
    gone,
    grow,
    is_event_stream,
    left_until,
    manners,
    received_later,
    reply,
    translated,
)

T = TypeVar("T")

ABANDONED: Final = 5.0
"""Seconds after which a look that nobody waits for any more is closed."""


class AsyncSora(Client):
    """A client for programs with an event loop, with Sora's methods as coroutines.

    One object serves any number of loops, each with connections of its own that go when the loop goes. Cancel a
    caller at any time: a create that has not left is not sent, and one that has is carried to its end and written
    down while the loop runs. A loop that ends cancels even that; ``close()`` waits for it.
    """

    async def create(
        self,
        request: AnyRequest | None = None,
        *,
        key: str | None = None,
        thread: str | None = None,
        repeat: flows.Repeat = "reuse",
        resend: bool = False,
        on_event: Listener | None = None,
        **fields: Any,
    ) -> VideoTask:
        """Start one paid job and return at once. See :meth:`Sora.create`."""
        return await self.run(self._create(request, fields, key, thread=thread, repeat=repeat, resend=resend), on_event)

    async def query(self, task_id: str) -> VideoTask:
        """Look a task up once, by its task id or its key. See :meth:`Sora.query`."""
        return await self.run(flows.query(self.gateway, task_id))

    async def list(self, limit: int = 10, before: str | None = None) -> TaskPage:
        """One page of the gateway's tasks, newest first. See :meth:`Sora.list`."""
        return await self.run(flows.listed(self.gateway, limit, before))

    async def wait(self, task_id: str, *, timeout: float = 600.0, on_event: Listener | None = None) -> VideoTask:  # noqa: ASYNC109  # the flow keeps it
        """Look at a task until it has succeeded. See :meth:`Sora.wait`."""
        return flows.successful(await self.run(flows.wait(self.gateway, task_id, timeout), on_event))

    async def watch(
        self,
        names: Iterable[str],
        *,
        timeout: float = 600.0,  # noqa: ASYNC109  # the flows keep it
    ) -> AsyncGenerator[Event]:
        """Tell what becomes of many tasks, until each of them has ended or been given up.

        Their looks are shared: one list request answers for up to a hundred of them. What repeats itself is not told
        again (see :class:`~sora_tools.events.News`), and who is slow to take the news finds the newest of each kind
        for each task. The last event of a task is never passed over. Leave the loop at any time: the waits end with it,
        at once in ``async with aclosing(sora.watch(...))``, and the tasks go on at the gateway.

        Args:
            names: Task ids or keys; one given twice is watched once.
            timeout: Seconds after which to give up, 0 to 10,000,000.

        Yields:
            ``Seen`` for news of a task, with an ended task as its last; ``Retrying`` and ``NotRecorded`` for trouble;
            or, as its last, ``GivenUp`` with the reason: it was not found, cannot be looked at, or had not ended by the
            deadline. That of one task does not disturb the others.

        Raises:
            ConfigurationError: The client has been closed.
            InvalidRequestError: ``timeout`` is out of bounds.
        """
        self._check_open()
        flows.checked_timeout(timeout)
        untold: dict[tuple[str, type[Event]], Event] = {}
        arrived = asyncio.Event()

        def tell(name: str, event: Event) -> None:
            untold.pop((name, type(event)), None)  # the newest is the last
            untold[name, type(event)] = event
            arrived.set()

        async def follow(name: str) -> None:
            try:
                await self.run(flows.wait(self.gateway, name, timeout), partial(tell, name))
            except SoraError as error:
                tell(name, GivenUp(name, error))
            except Exception as error:  # noqa: BLE001  # whatever went wrong with this one, the others are watched on
                logger.warning("Watching %s failed", name, exc_info=error)
                tell(name, GivenUp(name, SoraError("It could not be looked at.", task_id=name)))

        given = [names] if isinstance(names, str) else names
        waits = [asyncio.create_task(follow(name)) for name in dict.fromkeys(given)]
        for wait in waits:
            wait.add_done_callback(lambda _: arrived.set())
        news = News()
        try:
            while untold or not all(wait.done() for wait in waits):
                await arrived.wait()
                arrived.clear()
                while untold:
                    event = untold.pop(next(iter(untold)))
                    if news.is_new(event):
                        yield event
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def generate(
        self,
        request: AnyRequest | None = None,
        *,
        key: str | None = None,
        thread: str | None = None,
        repeat: flows.Repeat = "reuse",
        resend: bool = False,
        timeout: float = 600.0,  # noqa: ASYNC109  # the flow keeps it
        directory: str | os.PathLike[str] | None = None,
        on_event: Listener | None = None,
        **fields: Any,
    ) -> VideoTask:
        """Create, wait until it has succeeded, and download where a directory is given. See :meth:`Sora.generate`."""
        created = self._create(request, fields, key, thread=thread, repeat=repeat, resend=resend)
        flow = flows.generate(self.gateway, created, timeout, directory, is_named=key is not None)
        return await self.run(flow, on_event)

    async def resume(
        self,
        name: str,
        *,
        timeout: float = 600.0,  # noqa: ASYNC109  # the flow keeps it
        directory: str | os.PathLike[str] | None = None,
        on_event: Listener | None = None,
    ) -> VideoTask:
        """Take a submission on from wherever it stands. See :meth:`Sora.resume`."""
        return await self.run(flows.resume(self.gateway, name, timeout, directory), on_event)

    async def download(
        self, task: VideoTask | str, directory: str | os.PathLike[str], *, on_event: Listener | None = None
    ) -> Files:
        """Save every video of a finished task. See :meth:`Sora.download`."""
        return files(await self.run(flows.download(self.gateway, task, directory), on_event))

    async def probe(self) -> flows.GatewayProbe:
        """Find out which formats the gateway serves. See :meth:`Sora.probe`."""
        self._check_open()
        return await self._run(flows.probe(self.gateway), Run(await self._loop_connections()))

    async def delete(self, task_id: str) -> None:
        """Delete a task and its videos at the gateway. See :meth:`Sora.delete`."""
        await self.run(flows.delete(self.gateway, task_id))

    async def run(self, flow: Flow[T], on_event: Listener | None = None) -> T:
        """Carry out a conversation to its end, on the running loop."""
        self._check_open()
        return await self._run(flows.decided(self.gateway, flow), Run(await self._loop_connections(), on_event))

    async def close(self) -> None:
        """Wait for creates under way on this loop, then let go of its connections. A second time does nothing."""
        self._closed = True
        connections = self._connections.get(asyncio.get_running_loop())
        if connections is not None:
            await connections.keeper.aclose()
        await asyncio.to_thread(self._let_go)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _begin(self, gateway: Gateway, transport: Any) -> None:
        super()._begin(gateway, transport)
        self._connections: dict[asyncio.AbstractEventLoop, LoopConnections] = {}

    async def _loop_connections(self) -> LoopConnections:
        loop = asyncio.get_running_loop()
        if loop not in self._connections:
            for gone in [other for other in list(self._connections) if other.is_closed()]:
                self._connections.pop(gone, None)
            keeper = self._keep(loop)
            self._connections[loop] = connections = await anext(keeper)
            connections.keeper = keeper
        return self._connections[loop]

    async def _keep(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[LoopConnections]:
        """A loop closes its asynchronous generators before it ends, and with this one our connections."""
        connections = LoopConnections(self.gateway, self._transport)
        try:
            yield connections
        finally:
            self._connections.pop(loop, None)
            await connections.close(self.gateway.patience)

    async def _run(self, flow: Flow[T], run: Run[LoopConnections]) -> T:
        step: Callable[[Any], Wish] = flow.send
        value: Any = None
        async with AsyncExitStack() as streams:
            with closing(flow):
                while True:
                    try:
                        wish = step(value)
                    except StopIteration as end:
                        result: T = end.value
                        return result
                    try:
                        step, value = flow.send, await self._grant(wish, run, streams)
                    except Exception as error:  # noqa: BLE001  # whatever went wrong is the flow's to judge
                        step, value = flow.throw, error

    async def _grant(self, wish: Wish, run: Run[LoopConnections], streams: AsyncExitStack) -> Any:
        connections = run.connections
        match wish:
            case Send(call) if call.paid:  # shielded, and its place held, by the Finish around it
                if run.unwanted:
                    raise gone()
                return await self._send(connections.creates, wish)
            case Send(_, patience):
                return await self._send_look(connections, wish, patience)
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Do(work, arguments):
                return await asyncio.shield(connections.at_work(work, arguments))
            case Tell(event):
                with overheard(lambda: not run.apart or _is_cancelled()):
                    told = run.tell(event)
                    if inspect.isawaitable(told):
                        await told
            case Finish(flow, patience):
                return await self._finish(connections, flow, patience, run.on_event)
            case Look():
                return await self._look(connections, wish)
            case Open():
                return await self._open(wish, run, streams)
            case Stream() | Said() | Aside() | Ready():
                return await self._grant_aside(wish, run, streams)
            case More(patience):
                with translated(Left(started=True)):
                    async with asyncio.timeout(patience):
                        return await anext(run.later_chunks, b"")
        return None

    async def _send(self, http: httpx.AsyncClient, send: Send) -> Reply:
        left, most = Left(self.gateway.settings.origin), self.gateway.settings.largest_reply
        with translated(left):
            async with asyncio.timeout(send.patience):
                request = http.build_request(**self._message(send, left.note_later))
                async with aclosing(await http.send(request, stream=True)) as response:
                    body, whole = bytearray(), response.is_stream_consumed
                    async for chunk in received_later(response):
                        grow(body, chunk, most)
                    return reply(response, decoded(bytes(body), response, most, whole=whole))

    async def _send_look(self, connections: LoopConnections, send: Send, patience: float) -> Reply:
        clock = asyncio.get_running_loop().time
        deadline = clock() + patience
        await enter(connections.look_gate, patience)  # the caller queues, so one who goes sends nothing ...
        try:
            patience = left_until(deadline, clock)
        except NotSentError:
            connections.look_gate.release()
            raise
        http = connections.creates if send.call.fresh else connections.looks
        task = connections.apart(self._send(http, send._replace(patience=patience)))
        task.add_done_callback(lambda _: connections.look_gate.release())  # ... and the request holds the place
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and not _is_cancelled():
                raise closed() from None
            asyncio.get_running_loop().call_later(ABANDONED, task.cancel)
            raise

    async def _finish(
        self, connections: LoopConnections, flow: Flow[T], patience: float, on_event: Listener | None
    ) -> T:
        await enter(connections.create_gate, patience)
        run = Run(connections, on_event, apart=True)
        task = connections.apart(self._run(flow, run), connections.attempts)
        task.add_done_callback(lambda _: connections.create_gate.release())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and not _is_cancelled():
                raise LostReplyError("The client was closed before the create was answered.") from None
            run.unwanted = True
            raise

    async def _look(self, connections: LoopConnections, wish: Look) -> Any:
        news, leads = connections.board.ask(wish.task_id, wish.pause)
        if leads:
            connections.apart(self._run(flows.sweep(self.gateway, connections.board), Run(connections)))
        told = asyncio.wrap_future(news)
        try:  # wait_for would lose a cancellation that comes together with the answer, before Python 3.12
            await asyncio.wait([told], timeout=wish.patience)
            return told.result() if told.done() else NO_NEWS
        finally:
            told.cancel()
            connections.board.forget(wish.task_id, news)

    async def _grant_aside(
        self, wish: Stream | Said | Aside | Ready, run: Run[LoopConnections], streams: AsyncExitStack
    ) -> Any:
        match wish:
            case Stream():
                return await self._stream(wish, run, streams)
            case Said(patience):
                with translated(Left(started=True)):
                    async with asyncio.timeout(patience):
                        said = await anext(run.said, None)
                return None if said is None else said.data
            case Aside(flow, patience):
                if run.unwanted:
                    raise gone()
                return await self._aside(run.connections, flow, patience, run.on_event)
            case Ready(value):
                run.ready(value)
        return None

    async def _stream(self, wish: Stream, run: Run[LoopConnections], streams: AsyncExitStack) -> Reply:
        event_source()
        left, http, most = (
            Left(self.gateway.settings.origin),
            run.connections.creates,
            self.gateway.settings.largest_reply,
        )
        with translated(left):
            async with asyncio.timeout(wish.patience):
                request = http.build_request(**self._listening(wish, left.note_later))
                response = await http.send(request, stream=True)
                streams.push_async_callback(response.aclose)
                body, whole = bytearray(), response.is_stream_consumed
                if not is_event_stream(response):
                    async for chunk in received_later(response):
                        grow(body, chunk, most)
                    body = bytearray(decoded(bytes(body), response, most, whole=whole))
        if is_event_stream(response):
            run.said = events(response, most).aiter_sse()
        return reply(response, bytes(body))

    async def _aside(
        self, connections: LoopConnections, flow: Flow[T], patience: float, on_event: Listener | None
    ) -> T | None:
        told: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def tell(value: T) -> None:
            if not told.done():
                told.set_result(value)

        run = Run(connections, on_event, apart=True, ready=tell)
        ended = connections.apart(self._run(flow, run), connections.streams)
        await asyncio.wait([told, ended], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            return told.result()
        return ended.result() if ended.done() else None

    async def _open(self, wish: Open, run: Run[LoopConnections], streams: AsyncExitStack) -> Reply:
        await streams.aclose()  # one download at a time
        left, http = Left(origin(wish.url)), run.connections.creates
        with translated(left):
            async with asyncio.timeout(wish.patience):
                request = http.build_request("GET", wish.url, **self._fetching(wish, left.note_later))
                left.guarded = self._guarded(request.url)
                response = await http.send(request, stream=True)
        streams.push_async_callback(response.aclose)
        run.later_chunks = received_later(response)
        return reply(response, b"")


class LoopConnections:
    """One event loop's connections for an asynchronous client."""

    keeper: AsyncGenerator[LoopConnections]

    def __init__(self, gateway: Gateway, transport: httpx.AsyncBaseTransport | None) -> None:
        self.looks = httpx.AsyncClient(transport=transport, limits=REUSED, **manners(transport))
        self.creates = httpx.AsyncClient(transport=transport, limits=FRESH, **manners(transport))
        self.look_gate, self.create_gate = asyncio.Semaphore(IN_FLIGHT), asyncio.Semaphore(IN_FLIGHT)
        self.board = flows.Board(gateway.clock)
        self.attempts: set[asyncio.Task[Any]] = set()
        self.errands: set[asyncio.Task[Any]] = set()
        self.streams: set[asyncio.Task[Any]] = set()
        self._workers = ThreadPoolExecutor(IN_FLIGHT, "sora-work")

    def at_work(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Work for a thread of our own: the loop's may all be taken, by callers who wait for this."""
        try:
            done = asyncio.get_running_loop().run_in_executor(self._workers, partial(work, *arguments))
        except RuntimeError as error:  # its threads have been let go
            raise closed() from error
        done.add_done_callback(lambda done: done.cancelled() or done.exception())
        return done

    def apart(self, work: Coroutine[Any, Any, T], among: set[asyncio.Task[Any]] | None = None) -> asyncio.Task[T]:
        """A task that goes on whatever becomes of the caller."""
        tasks = self.errands if among is None else among
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def close(self, patience: float) -> None:
        if self.attempts:
            await asyncio.wait(self.attempts, timeout=patience)
        if self.streams:
            await asyncio.wait(self.streams, timeout=LONGEST_STREAM)
        tasks = (*self.attempts, *self.errands, *self.streams)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.looks.aclose()
        await self.creates.aclose()
        self._workers.shutdown(wait=False)


def _is_cancelled() -> bool:
    """Whether it is this task that is being cancelled, and not the one it waits for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def enter(gate: asyncio.Semaphore, patience: float) -> None:
    """Take a place at a gate; whoever takes it gives it back."""
    try:
        async with asyncio.timeout(max(0.0, patience)):
            await gate.acquire()
    except TimeoutError:
        raise crowded() from None
