"""The two tools as MCP shows and calls them.

What a repeated call is. A client that gave up on a call makes it again, and nothing in the protocol says so: the
request has another id, the process or session may be another, and the newest protocol knows no sessions. So whoever
comes to a server is in one conversation, ``thread``, whose name outlives restarts. Asking for the very same gives the
first one's task as long as that is under way, unfinished, or of unknown fate; and the task of a create whose client
left before the answer goes to whoever asks this process for the very same next, however it has ended by then. Callers
who are several people share that and no more: a list is shown only where the operator says so.

What is used of the SDK. ``MCPServer`` takes tools of a class of one's own, but calls that class internal. Ours has its
own schemas and its own ``run``, so that the SDK neither reads arguments by rules of its own nor words errors; the SDK's
low-level server would need no class, but then nobody could put the tools next to others in an ``MCPServer``. So the
versions that the extra allows are those that were tried.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import PrivateAttr

from .. import __version__
from ..errors import ConfigurationError, SoraError
from ..flow import Repeat
from ..ledger import digest
from ..schemas import shortened
from ..tools import CreateVideoTool, QueryVideoTool, SoraToolkit, answers
from ..tools.progress import Listening
from ..tools.shapes import CREATED, LOOKED
from ..tools.shared import SoraTool

logger = logging.getLogger("sora_tools")

Conversation = str | Callable[[Context[Any, Any]], str]
"""Which conversation callers are in: one for all of them, or one for each call."""

INSTRUCTIONS: Final = (
    "create_video starts a paid job and answers at once with a task_id; query_video, given that task_id, tells when "
    "the video is ready and where it is. Rendering takes minutes. Never create the same video again because it is slow."
)

_UNLISTED: Final = "mcp: what nobody created"
"""The conversation whose list is shown where none may be."""

_HEARING: Final = 1.0
"""Seconds that a client may take over one progress report; one that takes longer gets no more of them."""

_MOST_UNHEARD: Final = 1000
"""How many creates are remembered that no client has had the answer to."""


def tools(toolkit: SoraToolkit, *, thread: Conversation = "mcp", lists: bool = True) -> list[Tool]:
    """Both tools, for an ``MCPServer`` of your own: ``MCPServer(..., tools=tools(toolkit))``.

    Args:
        toolkit: The tools as LangChain has them, with their settings.
        thread: The conversation that callers are in: a printable name, or a function from a call's context to one,
            say the authenticated user's. It has to be the same when a client calls again. Where the function raises
            or gives something else, the call is refused and your log says why.
        lists: Whether ``query_video`` without a ``task_id`` shows what the conversation has created. Say False where
            its callers are several people; a toolkit with ``list_account=True`` shows the account's list all the same.

    Returns:
        ``create_video`` and ``query_video``. They serve asyncio; closing the toolkit is the caller's.

    Raises:
        ConfigurationError: ``thread`` is no name.
    """
    return [_VideoTool.of(tool, thread, lists=lists) for tool in toolkit.get_tools() if isinstance(tool, SoraTool)]


def server(
    toolkit: SoraToolkit, *, thread: Conversation = "mcp", lists: bool = True, **settings: Any
) -> MCPServer[Any]:
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


class _VideoTool(Tool):
    """A LangChain tool as MCP shows and calls one."""

    _tool: SoraTool = PrivateAttr()
    _thread: Conversation = PrivateAttr()
    _lists: bool = PrivateAttr()
    _unheard: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def of(cls, tool: SoraTool, thread: Conversation, *, lists: bool) -> _VideoTool:
        # whatever becomes of an error in LangChain, it is an answer here
        handlers = {"handle_tool_error": answers.of_error, "handle_validation_error": answers.of_broken_rules}
        tool = tool.model_copy(update=handlers)
        schema = tool.get_input_jsonschema()
        saves = isinstance(tool, QueryVideoTool) and tool.download_dir is not None
        paid = isinstance(tool, CreateVideoTool)
        shown = Tool.from_function(
            _read_by_the_sdk,
            name=tool.name,
            title="Create a video (paid)" if paid else "Look a video up",
            description=tool.description,
            annotations=ToolAnnotations(
                read_only_hint=not paid and not saves,
                destructive_hint=False,
                idempotent_hint=not paid,
                open_world_hint=True,
            ),
        )
        parameters = {name: schema[name] for name in ("type", "properties", "required") if name in schema}
        made = cls(**{**dict(shown), "parameters": parameters})
        made._tool, made._lists = tool, lists
        made._thread = thread if callable(thread) else _name(thread)
        return made

    @property
    def output_schema(self) -> dict[str, Any]:
        """What the answers look like."""
        return CREATED if isinstance(self._tool, CreateVideoTool) else LOOKED

    async def run(
        self,
        arguments: dict[str, Any],
        context: Context[Any, Any],
        convert_result: bool = False,  # noqa: ARG002
    ) -> CallToolResult:
        """Answer a call. Whatever goes wrong is an answer; only a client that leaves gets none."""
        try:
            thread = _name(self._thread(context)) if callable(self._thread) else self._thread
        except Exception:
            logger.exception("%s was refused: thread(context) did not name its conversation", self.name)
            return _refusal(_NAMELESS)
        try:
            if isinstance(self._tool, CreateVideoTool):
                return await self._create(thread, arguments, self._tool.repeat)
            told = Listening(_Progress(context).hear)
            return await self._call(thread if self._lists else _UNLISTED, uuid4().hex, arguments, [told])
        except Exception:
            logger.exception("%s failed", self.name)
            return _refusal(_BUG)

    async def _create(self, thread: str, arguments: dict[str, Any], repeat: Repeat) -> CallToolResult:
        asked = digest({"thread": thread, "arguments": arguments})
        # the very same twice at once is one call where tasks are reused: of two, only one would know the task
        remembered = self._unheard.setdefault if repeat == "reuse" else self._unheard.pop
        call_id = remembered(asked, uuid4().hex)
        try:
            answer = await self._call(thread, call_id, arguments)
        except BaseException:  # its client left, or a bug: nobody knows the task
            self._unheard.setdefault(asked, call_id)
            while len(self._unheard) > _MOST_UNHEARD:
                del self._unheard[next(iter(self._unheard))]
            raise
        if self._unheard.get(asked) == call_id:
            del self._unheard[asked]
        return answer

    async def _call(
        self, thread: str, call_id: str, arguments: dict[str, Any], callbacks: Sequence[Listening] = ()
    ) -> CallToolResult:
        """A call as a graph makes it: its ledger key comes of the conversation, the id and the request."""
        call = {"type": "tool_call", "name": self._tool.name, "id": call_id, "args": arguments}
        place = {"thread_id": thread, "checkpoint_ns": "mcp"}
        told = await self._tool.ainvoke(call, {"configurable": place, "callbacks": [*callbacks]})
        return _result(told.content, is_error=told.status == "error")


def _read_by_the_sdk() -> None:
    """The function that the SDK would call. It wants one, and ``run`` comes before it."""


def _name(thread: object) -> str:
    """The name of a conversation, if this is one: anything else would put callers into one that is not theirs."""
    if isinstance(thread, str) and thread.strip() and thread.isprintable():
        return thread
    raise ConfigurationError(
        f"thread names the conversation that callers of an MCP server are in; {shortened(repr(thread), 80)} was given.",
        hint="Give a printable name that is not empty, or a function (not an async one) from a call's context to one.",
    )


_NAMELESS: Final = ConfigurationError(
    "This server is set up wrongly: it cannot tell whose call this is.",
    hint="Nothing was sent and nothing was charged. Calling again does not help; its operator finds why in its log.",
)

_BUG: Final = SoraError(
    "This server failed in a way that it should not.",
    hint="Do not call create_video again for this: it may be paid for. query_video without a task_id may list it.",
    charged="unknown",
)


def _result(line: str, *, is_error: bool) -> CallToolResult:
    text = TextContent(type="text", text=line)
    return CallToolResult(content=[text], structured_content=json.loads(line), is_error=is_error)


def _refusal(error: SoraError) -> CallToolResult:
    return _result(answers.line({"error": error.describe()}), is_error=True)


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
