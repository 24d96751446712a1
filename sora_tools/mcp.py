"""The same two tools for MCP clients, over stdio and streamable HTTP (extra ``mcp``).

Rule: the tools are LangChain's, called as an agent calls them, and this module only translates. So what a model may
say, what it is told, the 45 seconds of a call and what is the operator's are written once, in :mod:`sora_tools.tools`.

What a repeated call is. A client that gave up on a call makes it again, and nothing in the protocol says so: the
request has another id, the process or session may be another, and the newest protocol knows no sessions. So whoever
comes to a server is in one conversation, ``thread``, whose name outlives restarts. Asking for the very same gives the
first one's task as long as that is under way, unfinished, or of unknown fate; and the task of a create whose client
left before the answer goes to whoever asks for the very same next, however it has ended by then. Callers who are
several people share that and no more: a list is shown only where the operator says so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final
from uuid import uuid4

try:
    import uvicorn
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.mcpserver.tools import Tool
    from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
    from mcp.server.transport_security import TransportSecuritySettings
    from mcp_types import CallToolResult, TextContent, ToolAnnotations
except ImportError as error:
    raise ImportError("sora_tools.mcp needs version 2 of MCP's SDK: pip install 'sora-tools[mcp]'") from error

from pydantic import PrivateAttr

from . import __version__
from .addresses import loopback
from .errors import ConfigurationError, SoraError
from .ledger import digest
from .tools import CreateVideoTool, QueryVideoTool, SoraToolkit, answers
from .tools.progress import Listening
from .tools.shared import SoraTool

logger = logging.getLogger("sora_tools")

Thread = str | Callable[[Context[Any, Any]], str]

INSTRUCTIONS: Final = (
    "create_video starts a paid job and answers at once with a task_id; query_video, given that task_id, tells when "
    "the video is ready and where it is. Rendering takes minutes. Never create the same video again because it is slow."
)

_UNLISTED: Final = "mcp: what nobody created"
"""The conversation whose list is shown where none may be."""

_HEARING: Final = 1.0
"""Seconds that a client may take over one progress report; one that takes longer gets no more of them."""

_MOST_UNHEARD: Final = 1000
"""How many creates are remembered whose clients left before the answer."""

_LAST_WORDS: Final = 5
"""Seconds that a server that ends leaves open connections for the answers under way."""


def tools(toolkit: SoraToolkit, *, thread: Thread = "mcp", lists: bool = True) -> list[Tool]:
    """Both tools, for an ``MCPServer`` of your own: ``MCPServer(..., tools=tools(toolkit))``.

    Args:
        toolkit: The tools as LangChain has them, with their settings.
        thread: The conversation that callers are in: a name, or a function from a call's context to one, say the
            authenticated user's. It has to be the same when a client calls again.
        lists: Whether ``query_video`` without a ``task_id`` shows what the conversation has created. Say False where
            its callers are several people.

    Returns:
        ``create_video`` and ``query_video``. They serve asyncio; closing the toolkit is the caller's.
    """
    return [_VideoTool.of(tool, thread, lists=lists) for tool in toolkit.get_tools() if isinstance(tool, SoraTool)]


def server(toolkit: SoraToolkit, *, thread: Thread = "mcp", lists: bool = True, **settings: Any) -> MCPServer[Any]:
    """A server of both tools, to be run, mounted, or given to an in-process client.

    Args:
        toolkit: The tools as LangChain has them, with their settings. Closing it is the caller's.
        thread: As for :func:`tools`.
        lists: As for :func:`tools`.
        settings: As for ``MCPServer``: ``auth`` and ``token_verifier``, say.

    Returns:
        MCP's own server: ``run()``, ``run_stdio_async()`` and ``streamable_http_app()`` are its methods.
    """
    own = {
        "name": "sora-tools",
        "title": "Sora-format videos",
        "instructions": INSTRUCTIONS,
        "version": __version__,
        "log_level": "WARNING",
        "subscriptions": False,
    }
    return MCPServer(**{**own, **settings}, tools=tools(toolkit, thread=thread, lists=lists))


def serve_stdio(toolkit: SoraToolkit, *, thread: str = "mcp") -> None:
    """Serve the client at the other end of stdin and stdout until it leaves, or SIGINT or SIGTERM.

    Creates under way are then waited for and written down; a second signal ends the process without that. For the main
    thread, which is where signals arrive.

    Args:
        toolkit: The tools; closed at the end.
        thread: The client's conversation.
    """
    asyncio.run(_stdio(toolkit, server(toolkit, thread=thread)))


def serve_http(
    toolkit: SoraToolkit,
    host: str = "127.0.0.1",
    port: int = 8766,
    *,
    names: Sequence[str] = (),
    thread: str = "mcp",
    lists: bool = False,
    announce: Callable[[str], Any] = lambda _address: None,
) -> None:
    """Serve clients over streamable HTTP until SIGINT or SIGTERM; then as :func:`serve_stdio`.

    Whoever reaches it spends the operator's money: it has no authentication of its own. Clients of the older protocol
    get sessions, on which nothing of ours depends.

    Args:
        toolkit: The tools; closed at the end.
        host: Where to listen.
        port: 0 takes a free one.
        names: By which other machines name this one. The Host and Origin of a request must be one of them or a
            loopback one, or web pages could reach the server through their readers' browsers.
        thread: The conversation that all callers are in.
        lists: Whether all of them are shown what any of them has created.
        announce: Called with the server's address.

    Raises:
        ConfigurationError: ``host`` is not a loopback address and there are no ``names``, or it cannot listen there.
    """
    if not (loopback(host) or names):
        raise ConfigurationError(
            f"{host} is not a loopback address such as 127.0.0.1.",
            hint="Name the hosts by which other machines may reach it (--allow-host), and see who else can: "
            "whoever reaches it spends your money.",
        )
    known = ["127.0.0.1", "localhost", "[::1]", *names]
    security = TransportSecuritySettings(
        allowed_hosts=[spelt for name in known for spelt in (name, f"{name}:*")],
        allowed_origins=[
            f"{scheme}://{name}{end}" for name in known for scheme in ("http", "https") for end in ("", ":*")
        ],
    )
    app = server(toolkit, thread=thread, lists=lists).streamable_http_app(host=host, transport_security=security)
    here = _listening_at(host, port)
    shown = f"[{host}]" if ":" in host else host
    announce(f"http://{shown}:{here.getsockname()[1]}/mcp")
    config = uvicorn.Config(_answering(app), log_config=None, access_log=False, timeout_graceful_shutdown=_LAST_WORDS)
    asyncio.run(_http(toolkit, _Uvicorn(config), here))


class _VideoTool(Tool):
    """A LangChain tool as MCP shows and calls one."""

    _tool: SoraTool = PrivateAttr()
    _thread: Thread = PrivateAttr()
    _lists: bool = PrivateAttr()
    _unheard: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def of(cls, tool: SoraTool, thread: Thread, *, lists: bool) -> _VideoTool:
        # whatever becomes of an error in LangChain, it is an answer here
        handlers = {"handle_tool_error": answers.of_error, "handle_validation_error": answers.of_broken_rules}
        tool = tool.model_copy(update=handlers)
        schema = tool.get_input_jsonschema()
        saves = isinstance(tool, QueryVideoTool) and tool.download_dir is not None
        paid = isinstance(tool, CreateVideoTool)
        made = cls(
            fn=tool.ainvoke,
            name=tool.name,
            title="Create a video (paid)" if paid else "Look a video up",
            description=tool.description,
            parameters={name: schema[name] for name in ("type", "properties", "required") if name in schema},
            fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=CREATED if paid else LOOKED),
            is_async=True,
            annotations=ToolAnnotations(
                read_only_hint=not paid and not saves,
                destructive_hint=False,
                idempotent_hint=not paid,
                open_world_hint=True,
            ),
        )
        made._tool, made._thread, made._lists = tool, thread, lists
        return made

    async def run(
        self,
        arguments: dict[str, Any],
        context: Context[Any, Any],
        convert_result: bool = False,  # noqa: ARG002
    ) -> CallToolResult:
        """Answer a call. Whatever goes wrong is an answer; only a client that leaves gets none."""
        try:
            thread = self._thread if isinstance(self._thread, str) else self._thread(context)
            if isinstance(self._tool, CreateVideoTool):
                return await self._create(thread, arguments)
            told = Listening(_Progress(context).hear)
            return await self._call(thread if self._lists else _UNLISTED, uuid4().hex, arguments, [told])
        except Exception:
            logger.exception("%s failed", self.name)
            return _result(answers.line({"error": _BUG.describe()}), is_error=True)

    async def _create(self, thread: str, arguments: dict[str, Any]) -> CallToolResult:
        asked = digest({"thread": thread, "arguments": arguments})
        call_id = self._unheard.pop(asked, None) or uuid4().hex
        try:
            return await self._call(thread, call_id, arguments)
        except asyncio.CancelledError:
            self._unheard[asked] = call_id
            if len(self._unheard) > _MOST_UNHEARD:
                del self._unheard[next(iter(self._unheard))]
            raise

    async def _call(
        self, thread: str, call_id: str, arguments: dict[str, Any], callbacks: Sequence[Listening] = ()
    ) -> CallToolResult:
        """A call as a graph makes it: its ledger key comes of the conversation, the id and the request."""
        call = {"type": "tool_call", "name": self._tool.name, "id": call_id, "args": arguments}
        place = {"thread_id": thread, "checkpoint_ns": "mcp"}
        told = await self._tool.ainvoke(call, {"configurable": place, "callbacks": [*callbacks]})
        return _result(told.content, is_error=told.status == "error")


_BUG: Final = SoraError(
    "This server failed in a way that it should not.",
    hint="Do not call create_video again for this: it may be paid for. query_video without a task_id may list it.",
    charged="unknown",
)


def _result(line: str, *, is_error: bool) -> CallToolResult:
    text = TextContent(type="text", text=line)
    return CallToolResult(content=[text], structured_content=json.loads(line), is_error=is_error)


class _Progress:
    """Tells a client that asked for it how far its call has come, in words and in hundredths that only grow."""

    def __init__(self, context: Context[Any, Any]) -> None:
        self._context = context
        self._deaf = context.protocol_version is None  # called by no client
        self._reached, self._said = 0.0, ""

    async def hear(self, told: Mapping[str, Any]) -> None:
        """A listener to what the call tells."""
        done = told.get("progress") or 0.0
        match told["event"]:
            case "seen":
                share = 90.0 if told["status"] == "succeeded" else 90.0 * done
            case "downloading":
                share = 90.0 + 9.0 * done
            case "saved":
                share = 99.0
            case _:
                share = 0.0
        await self._tell(share, told["message"])

    async def _tell(self, share: float, words: str) -> None:
        if self._deaf or words == self._said:
            return
        self._said, self._reached = words, max(share, self._reached + (100.0 - self._reached) / 100)
        self._deaf = True
        async with asyncio.timeout(_HEARING):
            await self._context.report_progress(self._reached, 100.0, words)
        self._deaf = False


# --- what the answers look like -----------------------------------------------------------------------------------


def _object(**members: Any) -> dict[str, Any]:
    return {"type": "object", "properties": members}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _one_of(*words: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(words)}


_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer"}
_NUMBER: Final = {"type": "number"}
_FLAG: Final = {"type": "boolean"}
_STATUS: Final = _one_of("queued", "running", "succeeded", "failed", "cancelled", "unknown")
_SHARE: Final = {"type": ["number", "null"], "description": "From 0 to 1, where the gateway says."}
_NEXT: Final = {"type": "string", "description": "What to do now."}

_ERROR: Final = {
    **_object(
        code={"type": "string", "description": "The kind of error, the same for the same cause."},
        message=_TEXT,
        hint={"type": "string", "description": "What to do next."},
        retryable=_FLAG,
        charged={**_one_of("no", "unknown", "yes"), "description": "Whether a create is paid for."},
        retry_after=_NUMBER,
        http_status=_COUNT,
        request_id=_TEXT,
        task_id=_TEXT,
        key={"type": "string", "description": "Stands for the task_id where none is known."},
        kind={"type": "string", "description": "Why a task ended without a video."},
    ),
    "description": "The call failed, or its task has ended without a video, or could not be saved.",
}
_VIDEO: Final = _object(
    url=_TEXT,
    thumbnail_url=_TEXT,
    width=_COUNT,
    height=_COUNT,
    duration={"type": "number", "description": "Seconds."},
    file={"type": "string", "description": "Where it was saved, on the server's machine."},
)
_TASK: Final = {
    "task_id": _TEXT,
    "status": _STATUS,
    "progress": _SHARE,
    "queue_position": _COUNT,
    "queue_wait": {"type": "number", "description": "Seconds."},
    "videos": _list(_VIDEO),
    "error": _ERROR,
    "next": _NEXT,
}
_LISTED: Final = _object(
    task_id=_TEXT,
    key=_TEXT,
    state=_TEXT,
    status=_STATUS,
    progress=_SHARE,
    prompt=_TEXT,
    created_at={"type": ["string", "null"]},
)

CREATED: Final = _object(
    **_TASK,
    reused={"type": "boolean", "description": "It had been sent before: nothing was sent or charged now."},
    hints=_list(_TEXT),
)
"""JSON schema of what ``create_video`` answers. Which members are there depends on what there is to tell."""

LOOKED: Final = _object(
    **_TASK,
    tasks={**_list(_LISTED), "description": "The list, where no task_id was given."},
    before={"type": ["string", "null"], "description": "Gives the tasks that follow, where there are more."},
)
"""JSON schema of what ``query_video`` answers."""


# --- serving until asked to end -----------------------------------------------------------------------------------


@contextmanager
def _asked_to_end() -> Iterator[asyncio.Event]:
    asked, loop = asyncio.Event(), asyncio.get_running_loop()

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            os._exit(128 + number)
        loop.call_soon_threadsafe(asked.set)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _stdio(toolkit: SoraToolkit, mcp: MCPServer[Any]) -> None:
    with _asked_to_end() as asked:
        serving = asyncio.ensure_future(mcp.run_stdio_async())
        asking = asyncio.ensure_future(asked.wait())
        await asyncio.wait((serving, asking), return_when=asyncio.FIRST_COMPLETED)
        await toolkit.aclose()
        if not serving.done():
            os._exit(0)  # a thread of the SDK's waits for stdin, and would be waited for
        asking.cancel()
        try:
            await serving
        except* ConnectionError:  # the client is gone, and with it the other end of stdout
            pass


def _answering(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """The app without the streams of what nobody asked: nothing is told there, and the end would wait for them."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            await send({"type": "http.response.start", "status": 405, "headers": [(b"allow", b"POST, DELETE")]})
            await send({"type": "http.response.body"})
        else:
            await app(scope, receive, send)

    return answer


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not: it would raise them again at its end, before creates under way are waited for."""
        yield


async def _http(toolkit: SoraToolkit, web: uvicorn.Server, here: socket.socket) -> None:
    with _asked_to_end() as asked:
        serving = asyncio.ensure_future(web.serve(sockets=[here]))
        asking = asyncio.ensure_future(asked.wait())
        await asyncio.wait((serving, asking), return_when=asyncio.FIRST_COMPLETED)
        asking.cancel()
        web.should_exit = True
        logging.getLogger("uvicorn.error").disabled = True  # it calls what is cut short now an error
        await serving
        await toolkit.aclose()


def _listening_at(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigurationError(
            f"The server cannot listen at {host}:{port}: {error.strerror or error}.",
            hint="Give another port; 0 takes a free one.",
        ) from None
