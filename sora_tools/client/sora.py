"""The driver for programs without an event loop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as futures_wait
from contextlib import ExitStack, closing, contextmanager
from contextvars import copy_context
from typing import Any, Self, TypeVar

import httpx

from .. import flow as flows
from ..addresses import origin
from ..errors import LostReplyError, NotSentError
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
from .shared import AnyRequest, Client, Files, Listener, Run, files, overheard
from .transport import (
    FRESH,
    IN_FLIGHT,
    LONGEST_STREAM,
    REUSED,
    Left,
    crowded,
    decoded,
    event_source,
    events,
    gone,
    grow,
    is_event_stream,
    left_until,
    manners,
    received,
    reply,
    translated,
)

T = TypeVar("T")


class Sora(Client):
    """A client for programs without an event loop. Safe for threads and forks; close it, or use it in ``with``.

    Interrupt a caller at any time: a create that has not left is not sent, and one that has is carried to its end and
    written down while the process lives; ``close()`` waits for it. In the chat format it waits for the video, for
    minutes: its answer tells of it once, and to nobody else.
    """

    def create(
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
        """Start one paid job and return as soon as the gateway has it. Never sends it twice, unless told to.

        Takes ``retry.budget`` and 5 seconds at most for its sends (45 s), and 15 s more where it must be looked for.

        Args:
            request: A VideoRequest, a mapping of its fields, or a prompt.
            key: Your name for this submission, 1 to 255 visible ASCII characters: the same key gives the same task,
                without a request.
            thread: Your name for the conversation it belongs to, if any.
            repeat: What to do where this thread has asked for the very same before, under another key, and that has
                not ended or its fate is unknown: ``"reuse"`` that task, or make a ``"new"`` one.
            resend: Send again what was sent with this key and never answered. It may be paid twice.
            on_event: Is told of every nap before a further try, and of the acceptance. What it raises is logged,
                to ``sora_tools``, and changes nothing.
            **fields: Fields of VideoRequest, on top of ``request``.

        Returns:
            The task, usually queued; as last known where it was accepted before (``unknown`` until it is looked at).

        Raises:
            SubmissionUnknownError: It was sent and its fate is unknown. It must not be created again.
            InvalidRequestError: The request breaks a rule, here or at the gateway.
            SoraError: Anything else; ``charged`` says what is known of the money.
        """
        return self.run(self._create(request, fields, key, thread=thread, repeat=repeat, resend=resend), on_event)

    def query(self, task_id: str) -> VideoTask:
        """Look a task up once, by its task id or its key.

        Raises:
            TaskNotFoundError: The gateway shows no such task.
            SubmissionUnknownError: It is the key of a create that was sent, never answered, and not found.
            SoraError: The look was not answered.
        """
        return self.run(flows.query(self.gateway, task_id))

    def list(self, limit: int = 10, before: str | None = None) -> TaskPage:
        """One page of the gateway's tasks, newest first.

        Args:
            limit: Tasks on the page, 1 to 100.
            before: ``before`` of the page that came before this one.

        Returns:
            The page; its ``before`` asks for the next one.

        Raises:
            InvalidRequestError: ``limit`` is out of bounds, or ``before`` cannot be an id.
            EndpointUnavailableError: The format, or the gateway, has no list.
        """
        return self.run(flows.listed(self.gateway, limit, before))

    def wait(self, task_id: str, *, timeout: float = 600.0, on_event: Listener | None = None) -> VideoTask:
        """Look at a task until it has succeeded.

        Args:
            task_id: A task id or key.
            timeout: Seconds after which to give up, 0 to 10,000,000.
            on_event: Is told of every look that was answered.

        Raises:
            TaskFailedError: It ended without a video.
            WaitTimeoutError: It is still rendering; carries the task as last seen.
            TaskNotFoundError: The gateway shows no such task, and it is not one accepted a moment ago.
            SubmissionUnknownError: It is the key of a create that was sent, never answered, and not found.
        """
        return flows.successful(self.run(flows.wait(self.gateway, task_id, timeout), on_event))

    def generate(
        self,
        request: AnyRequest | None = None,
        *,
        key: str | None = None,
        thread: str | None = None,
        repeat: flows.Repeat = "reuse",
        resend: bool = False,
        timeout: float = 600.0,
        directory: str | os.PathLike[str] | None = None,
        on_event: Listener | None = None,
        **fields: Any,
    ) -> VideoTask:
        """Create, wait until it has succeeded, and download where a directory is given.

        Args:
            request: As for ``create``, and so are ``key``, ``thread``, ``repeat``, ``resend`` and the fields.
            key: Your name for this submission.
            thread: Your name for the conversation it belongs to, if any.
            repeat: What to do where this thread has asked for the very same before.
            resend: Send again what was sent with this key and never answered. It may be paid twice.
            timeout: Seconds to wait until it has ended, 0 to 10,000,000.
            directory: Folder to save to, made if missing; None downloads nothing.
            on_event: Is told of the acceptance, of every look that was answered, and how many bytes have arrived.
            **fields: Fields of VideoRequest, on top of ``request``.

        Returns:
            The finished task; its generations carry ``file`` where they were downloaded.

        Raises:
            SoraError: As ``create``, ``wait`` and ``download``. After the create, what may be tried again is said to
                be ``retryable`` only with a ``key``; without one, ``resume`` its ``task_id``.
        """
        created = self._create(request, fields, key, thread=thread, repeat=repeat, resend=resend)
        flow = flows.generate(self.gateway, created, timeout, directory, is_named=key is not None)
        return self.run(flow, on_event)

    def resume(
        self,
        name: str,
        *,
        timeout: float = 600.0,
        directory: str | os.PathLike[str] | None = None,
        on_event: Listener | None = None,
    ) -> VideoTask:
        """Take a submission on from wherever it stands: reconcile, wait, download. It never creates anything.

        Args:
            name: A key or task id.
            timeout: Seconds to wait until it has ended, 0 to 10,000,000; a download takes what it takes.
            directory: Folder to save to; None downloads nothing.
            on_event: Is told of every look that was answered, and how many bytes have arrived.

        Returns:
            The finished task; its generations carry ``file`` where they were downloaded.

        Raises:
            SubmissionUnknownError: It was sent, never answered, and not found.
            SoraError: As ``wait`` and ``download``.
        """
        return self.run(flows.resume(self.gateway, name, timeout, directory), on_event)

    def download(
        self, task: VideoTask | str, directory: str | os.PathLike[str], *, on_event: Listener | None = None
    ) -> Files:
        """Save every video of a finished task. What an earlier call did not get to the end of is continued.

        Args:
            task: The task, its id or its key.
            directory: Folder to save to; made if missing. File names come from ids.
            on_event: Is told how many bytes have arrived, and of a look, where the task has to be looked up.

        Returns:
            The files' paths, one for each generation that has an address.

        Raises:
            DownloadError: It did not arrive whole. Nothing half-written stands under a final name.
            WaitTimeoutError: It has not ended yet.
            TaskFailedError: It ended without a video.
            SoraError: As ``query``, where the task has to be looked up.
        """
        return files(self.run(flows.download(self.gateway, task, directory), on_event))

    def probe(self) -> flows.GatewayProbe:
        """Find out which formats the gateway serves, and what it tells of the account, with free requests alone.

        Returns:
            A state for each format, the models, what is left to spend, and advice; see :class:`GatewayProbe`.
        """
        return self._run(flows.probe(self.gateway), Run(self._connections()))

    def delete(self, task_id: str) -> None:
        """Delete a task and its videos at the gateway. Whether a job that still runs is stopped is up to the gateway.

        Args:
            task_id: A task id or key.

        Raises:
            EndpointUnavailableError: The format, or the gateway, has no such route.
            TaskNotFoundError: The gateway knows no such task.
        """
        self.run(flows.delete(self.gateway, task_id))

    def run(self, flow: Flow[T], on_event: Listener | None = None) -> T:
        """Carry out a conversation to its end, on this thread."""
        return self._run(flows.decided(self.gateway, flow), Run(self._connections(), on_event))

    def close(self) -> None:
        """Wait for creates under way, then let go of the connections. A second time does nothing."""
        self._closed = True
        connections = self._laid.pop(os.getpid(), None)
        if connections is not None:
            connections.close(self.gateway.patience)
        self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, gateway: Gateway, transport: Any) -> None:
        super()._begin(gateway, transport)
        self._laid: dict[int, Connections] = {}

    def _connections(self) -> Connections:
        """This process's connections: a forked child lays its own. No lock: one held in a fork would stay held."""
        here = self._laid.get(os.getpid())
        here = here or self._laid.setdefault(os.getpid(), Connections(self.gateway, self._transport))
        self._check_open()
        return here

    def _run(self, flow: Flow[T], run: Run[Connections]) -> T:
        step: Callable[[Any], Wish] = flow.send
        value: Any = None
        with ExitStack() as streams, closing(flow):
            while True:
                try:
                    wish = step(value)
                except StopIteration as end:
                    result: T = end.value
                    return result
                try:
                    step, value = flow.send, self._grant(wish, run, streams)
                except Exception as error:  # noqa: BLE001  # whatever went wrong is the flow's to judge
                    step, value = flow.throw, error

    def _grant(self, wish: Wish, run: Run[Connections], streams: ExitStack) -> Any:
        connections = run.connections
        match wish:
            case Send(call) if call.paid:  # its place is held by the Finish around it
                if run.unwanted:
                    raise gone()
                return self._send(connections.creates, wish)
            case Send(call, patience):
                deadline, http = time.monotonic() + patience, connections.creates if call.fresh else connections.looks
                with place(connections.look_gate, patience):
                    return self._send(http, wish._replace(patience=left_until(deadline, time.monotonic)))
            case Sleep(seconds):
                time.sleep(seconds)
            case Do(work, arguments):
                return work(*arguments)
            case Tell(event):
                with overheard(lambda: not run.apart):
                    run.tell(event)
            case Finish(flow, patience):
                return self._finish(connections, flow, patience, run.on_event)
            case Look():
                return self._look(connections, wish)
            case Open():
                return self._open(wish, run, streams)
            case Stream() | Said() | Aside() | Ready():
                return self._grant_aside(wish, run, streams)
            case More(patience):
                with translated(Left(started=True)):
                    return _bounded(lambda: next(run.chunks, b""), patience)
        return None

    def _send(self, http: httpx.Client, send: Send) -> Reply:
        left, most = Left(self.gateway.settings.origin), self.gateway.settings.largest_reply

        def work() -> Reply:
            request = http.build_request(**self._message(send, left.note))
            with closing(http.send(request, stream=True)) as response:
                body, whole = bytearray(), response.is_stream_consumed
                for chunk in received(response):
                    left.check_wanted()
                    grow(body, chunk, most)
            return reply(response, decoded(bytes(body), response, most, whole=whole))

        with translated(left):
            return _bounded(work, send.patience)

    def _finish(self, connections: Connections, flow: Flow[T], patience: float, on_event: Listener | None) -> T:
        if not connections.create_gate.acquire(timeout=max(0.0, patience)):
            raise crowded()
        run, answer = Run(connections, on_event, apart=True), Future[T]()
        answer.add_done_callback(lambda _: connections.create_gate.release())
        try:
            return _apart(lambda: self._run(flow, run), "sora-create", answer).result()
        except BaseException:  # Ctrl-C, while it is carried to its end
            run.unwanted = not answer.done()
            raise

    def _look(self, connections: Connections, wish: Look) -> Any:
        news, leads = connections.board.ask(wish.task_id, wish.pause)
        try:
            if leads:
                sweep = flows.sweep(self.gateway, connections.board)
                if (begun := _apart(lambda: self._run(sweep, Run(connections)), "sora-looks", Future())).done():
                    begun.result()
            told, _ = futures_wait([news], wish.patience)  # result() would take a caller's own TimeoutError for its
            return news.result() if told else NO_NEWS
        except NotSentError:
            connections.board.give_up()  # or everybody would wait for a sweep that never began
            raise
        finally:
            connections.board.forget(wish.task_id, news)

    def _grant_aside(self, wish: Stream | Said | Aside | Ready, run: Run[Connections], streams: ExitStack) -> Any:
        match wish:
            case Stream():
                return self._stream(wish, run, streams)
            case Said(patience):
                try:
                    with translated(Left(started=True)):
                        said = _bounded(lambda: next(run.said, None), patience)
                except NotSentError as error:  # no thread to read it with: the create left long ago
                    raise LostReplyError(error.message) from error
                return None if said is None else said.data
            case Aside(flow, patience):
                if run.unwanted:
                    raise gone()
                return self._aside(run.connections, flow, patience, run.on_event)
            case Ready(value):
                run.ready(value)
        return None

    def _stream(self, wish: Stream, run: Run[Connections], streams: ExitStack) -> Reply:
        event_source()
        left, http, most = (
            Left(self.gateway.settings.origin),
            run.connections.creates,
            self.gateway.settings.largest_reply,
        )

        def work() -> tuple[httpx.Response, bytes]:
            response = http.send(http.build_request(**self._listening(wish, left.note)), stream=True)
            body, whole = bytearray(), response.is_stream_consumed
            for chunk in () if is_event_stream(response) else received(response):
                left.check_wanted()
                grow(body, chunk, most)
            if left.given_up:
                response.close()
            if is_event_stream(response):
                return response, b""
            return response, decoded(bytes(body), response, most, whole=whole)

        with translated(left):
            response, body = _bounded(work, wish.patience)
        streams.callback(response.close)
        if is_event_stream(response):
            run.said = events(response, most).iter_sse()
        return reply(response, body)

    def _aside(self, connections: Connections, flow: Flow[T], patience: float, on_event: Listener | None) -> T | None:
        told, ended = Future[T](), Future[T]()

        def tell(value: T) -> None:
            if not told.done():
                told.set_result(value)

        def carry() -> T:
            try:
                value = self._run(flow, Run(connections, on_event, apart=True, ready=tell))
            except BaseException as error:
                if not told.done():
                    told.set_exception(error)
                raise
            tell(value)
            return value

        connections.streams.add(ended)
        ended.add_done_callback(connections.streams.discard)
        _apart(carry, "sora-stream", ended, daemon=False)
        done, _ = futures_wait([told, ended], patience, return_when=FIRST_COMPLETED)
        return (told if told.done() else ended).result() if done else None

    def _open(self, wish: Open, run: Run[Connections], streams: ExitStack) -> Reply:
        streams.close()  # one download at a time
        left, http = Left(origin(wish.url)), run.connections.creates

        def work() -> httpx.Response:
            request = http.build_request("GET", wish.url, **self._fetching(wish, left.note))
            left.guarded = self._guarded(request.url)
            response = http.send(request, stream=True)
            if left.given_up:
                response.close()
            return response

        with translated(left):
            response = _bounded(work, wish.patience)
        streams.callback(response.close)
        run.chunks = received(response)
        return reply(response, b"")


class Connections:
    """One process's connections for a synchronous client."""

    def __init__(self, gateway: Gateway, transport: httpx.BaseTransport | None) -> None:
        self.looks = httpx.Client(transport=transport, limits=REUSED, **manners(transport))
        self.creates = httpx.Client(transport=transport, limits=FRESH, **manners(transport))
        self.look_gate, self.create_gate = threading.Semaphore(IN_FLIGHT), threading.Semaphore(IN_FLIGHT)
        self.board = flows.Board(gateway.clock)
        self.streams: set[Future[Any]] = set()

    def close(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        for _ in range(IN_FLIGHT):
            self.create_gate.acquire(timeout=max(0.0, deadline - time.monotonic()))
        futures_wait(list(self.streams), LONGEST_STREAM)
        self.looks.close()
        self.creates.close()


def _bounded(work: Callable[[], T], patience: float) -> T:
    """On a thread of its own: httpx bounds each read, and only leaving bounds an answer that drips."""
    return _apart(work, "sora-request", Future[T]()).result(patience)


def _apart(work: Callable[[], T], name: str, answer: Future[T], *, daemon: bool = True) -> Future[T]:
    """On a thread of its own, which goes on whatever becomes of the caller. The same future, to be answered by it.

    That is a NotSentError where the system gives no further thread.
    """

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001  # handed over whole
            answer.set_exception(error)

    try:
        threading.Thread(target=copy_context().run, args=(run,), name=name, daemon=daemon).start()
    except RuntimeError as error:
        answer.set_exception(NotSentError(f"No thread could be started: {error}.", hint="Ask for less at once."))
    return answer


@contextmanager
def place(gate: threading.Semaphore, patience: float) -> Iterator[None]:
    """Hold a place at a gate."""
    if not gate.acquire(timeout=max(0.0, patience)):
        raise crowded()
    try:
        yield
    finally:
        gate.release()
