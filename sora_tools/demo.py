"""An agent's turn to watch: a chat model, the real tools, a gateway, an MP4 and its contact sheet (extra `demo`).

Rule: nothing is paid by accident. The gateway is a sandbox on this machine with a ledger that is thrown away, unless
the caller says ``paid=True``; and the model is scripted, and called so, unless one is named.

The examples run by the same rule, on what the environment names: ``gateway`` and ``chat_model`` are what of them a
program of your own leaves out.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

if missing := [name for name in ("av", "langchain", "PIL", "starlette", "uvicorn") if find_spec(name) is None]:
    raise ImportError(f"sora_tools.demo needs {', '.join(missing)}: pip install 'sora-tools[demo]'")

from langchain.agents import create_agent
from langchain.chat_models import BaseChatModel, init_chat_model
from langchain.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.messages import convert_to_messages, convert_to_openai_messages
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import BaseModel

from .client.async_sora import AsyncSora
from .errors import ConfigurationError, SoraError, WaitTimeoutError
from .events import Event, Submitted
from .flow import Flow
from .flow.download import folder_made
from .media import contact_sheet
from .sandbox import Sandbox, World
from .schemas import shortened
from .tools import SoraToolkit

Say = Callable[[str, str], None]
Listener = Callable[[Event], None]

INSTRUCTIONS: Final = (
    "You make videos with your tools. Create the one video the user asks for, with the default size and length unless "
    "they say otherwise. Query it until it has ended, then tell the user in one sentence what came of it."
)

SCRIPTED: Final = "scripted: it plays a model's part without a key"
"""What is said of a model that is none."""

_SHOWN: Final = 50
"""Characters of an argument that are shown of a tool call."""

_SAID: Final = 200
"""Characters that are shown of what a provider says; it may list every other one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a turn came to.

    Attributes:
        files: Each video followed by its contact sheet.
        creates: Creates the gateway accepted, as the sandbox counts them.
        charged: What they would have cost, as the sandbox counts it; None at a gateway that is paid.
    """

    files: tuple[Path, ...]
    creates: int
    charged: Decimal | None


def run(
    prompt: str,
    directory: Path,
    *,
    model: str | None = None,
    paid: bool = False,
    say: Say,
    on_event: Listener,
) -> Outcome:
    """Let an agent make one video.

    Args:
        prompt: What the user says.
        directory: Folder for the MP4 and the PNG; made if missing.
        model: A chat model as LangChain's ``init_chat_model`` names them; None for the scripted one.
        paid: Whether to use the gateway of ``SORA_BASE_URL`` and ``SORA_API_KEY`` in place of the sandbox.
        say: Is told who says what: gateway, model, user, agent or tool.
        on_event: Is told what the tools' client does.

    Raises:
        SoraError: What kept the agent from a video.
    """
    submitted: list[Submitted] = []

    def note(event: Event) -> None:
        if isinstance(event, Submitted):
            submitted.append(event)
        on_event(event)

    folder_made(directory)
    chat = ScriptedModel() if model is None else _model(model)
    with _gateway(note, say, paid=paid) as (sora, sandbox):
        say("model", model or SCRIPTED)
        toolkit = SoraToolkit(async_sora=sora, download_dir=directory)
        videos = asyncio.run(_turn(chat, toolkit, prompt, say))
        files = [file for video in videos for file in (video, contact_sheet(video, video.with_suffix(".png")))]
        if sandbox is None:
            return Outcome(tuple(files), len(submitted), None)
        return Outcome(tuple(files), sandbox.creates, sandbox.charged)


@contextmanager
def gateway() -> Iterator[None]:
    """The gateway that ``SORA_BASE_URL`` and ``SORA_API_KEY`` name; without them a sandbox, while the block lasts.

    For the sandbox the environment names it, with a ledger in memory: yours keeps to what was paid for. It serves the
    scripted chat model too, by any name, at ``/v1/chat/completions``.
    """
    if address := os.environ.get("SORA_BASE_URL"):
        print(f"gateway  {address}: this may cost money")
        yield
        return
    with Sandbox(world=World(chat_model=_completed)) as sandbox:
        print(f"gateway  a sandbox on this machine, {sandbox.base_url}: nothing is paid")
        here = {"SORA_BASE_URL": sandbox.base_url, "SORA_API_KEY": "sandbox", "SORA_LEDGER": "memory"}
        before = {name: os.environ[name] for name in here if name in os.environ}
        os.environ.update(here)
        try:
            yield
        finally:
            for name in here:
                del os.environ[name]
            os.environ.update(before)


def chat_model(answer: Any = None) -> BaseChatModel:
    """The chat model that ``MODEL`` names as LangChain's ``init_chat_model`` does; without it a scripted one.

    Args:
        answer: What the scripted one says; see :class:`ScriptedModel`.

    Raises:
        ConfigurationError: There is no such model, or its package or its key is missing.
    """
    name = os.environ.get("MODEL")
    print(f"model    {name or SCRIPTED}")
    return _model(name) if name else ScriptedModel(answer=answer)


class ScriptedModel(BaseChatModel):
    """No model at all: it says what it was told to.

    Args:
        answer: What it says whenever it is asked: a text, a message (with tool calls, say), or an object of the class
            that ``with_structured_output`` was given; or a function from the messages so far to one of these. With
            None it creates the video that the user describes, queries until it has ended, and says what came of it.
    """

    answer: Any = None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, *_: Any, **__: Any) -> ScriptedModel:
        return self

    def _generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatResult:
        answer = self.answer(messages) if callable(self.answer) else self.answer
        message = _next(messages) if answer is None else _said(answer, len(messages))
        return ChatResult(generations=[ChatGeneration(message=message)])


def _said(answer: str | BaseModel, number: int) -> AIMessage:
    match answer:
        case AIMessage():
            return answer.model_copy()  # LangChain gives each its own id
        case BaseModel():  # structured output is a call of a tool with the class's name
            return _call(type(answer).__name__, answer.model_dump(mode="json"), number)
    return AIMessage(answer)


def _completed(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The scripted model as an OpenAI-compatible gateway serves it."""
    message: Mapping[str, Any] = convert_to_openai_messages([_next(convert_to_messages(body["messages"]))])[0]
    return message


def _next(messages: list[Any]) -> AIMessage:
    last = messages[-1]
    if isinstance(last, HumanMessage):
        return _call("create_video", {"prompt": last.text}, len(messages))
    answer = _answer(last)
    if "error" in answer:
        return AIMessage(f"There is no video: {answer['error']['message']}")
    if "videos" in answer:
        return AIMessage("Your video is ready.")
    return _call("query_video", {"task_id": answer["task_id"]}, len(messages))


def _call(tool: str, arguments: dict[str, Any], number: int) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": f"call_{number}", "type": "tool_call"}])


def _answer(message: ToolMessage) -> dict[str, Any]:
    """What a tool said; LangChain's own complaints, of a tool that does not exist say, are not JSON."""
    try:
        answer: dict[str, Any] = json.loads(message.text)
    except ValueError:
        return {"error": {"code": "error", "message": message.text}}
    return answer


def _model(name: str) -> BaseChatModel:
    try:
        chat: BaseChatModel = init_chat_model(name)
    except Exception as error:  # each provider has errors of its own
        raise ConfigurationError(
            f"The chat model {name!r} cannot be used: {shortened(str(error), _SAID)}",
            hint="Leave it out (unset MODEL) for the scripted one.",
        ) from error
    return chat


class _WatchedSora(AsyncSora):
    """A client that tells one more listener what it does."""

    def __init__(self, note: Listener, **settings: Any) -> None:
        super().__init__(**settings)
        self._note = note

    async def run(self, flow: Flow[Any], on_event: Callable[[Event], Any] | None = None) -> Any:
        def both(event: Event) -> Any:
            self._note(event)
            return None if on_event is None else on_event(event)

        return await super().run(flow, both)


@contextmanager
def _gateway(note: Listener, say: Say, *, paid: bool) -> Iterator[tuple[AsyncSora, Sandbox | None]]:
    if paid:
        sora = _WatchedSora(note)
        say("gateway", f"{sora.gateway.settings.base_url}: this costs money")
        yield sora, None
        return
    with Sandbox() as sandbox:
        say("gateway", f"a sandbox on this machine, {sandbox.base_url}: nothing is paid")
        here = {"base_url": sandbox.base_url, "api_key": "sandbox", "dialect": "backend", "ledger": "memory"}
        yield _WatchedSora(note, **here), sandbox


async def _turn(chat: BaseChatModel, toolkit: SoraToolkit, prompt: str, say: Say) -> list[Path]:
    """The agent's turn from the user's words to its own last ones, and the videos it saved."""
    say("user", prompt)
    answers: list[dict[str, Any]] = []
    async with toolkit:  # asynchronous, so that Ctrl-C ends a wait at once
        agent = create_agent(chat, toolkit.get_tools(), system_prompt=INSTRUCTIONS)
        async for step in agent.astream({"messages": [HumanMessage(prompt)]}, stream_mode="updates"):
            for message in (message for news in step.values() for message in news["messages"]):
                _tell(message, say)
                if isinstance(message, ToolMessage):
                    answers.append(_answer(message))
    videos = [Path(video["file"]) for answer in answers for video in answer.get("videos", ()) if "file" in video]
    if not videos:
        raise _why_not(answers)
    return list(dict.fromkeys(videos))


def _tell(message: AnyMessage, say: Say) -> None:
    if isinstance(message, ToolMessage):
        answer = _answer(message)
        say("tool", " ".join(_facts(answer)))
        return
    for call in message.tool_calls if isinstance(message, AIMessage) else ():
        given = ", ".join(f"{name}={shortened(repr(value), _SHOWN)}" for name, value in call["args"].items())
        say("agent", f"{call['name']}({given})")
    if message.text:
        say("agent", message.text)


def _facts(answer: dict[str, Any]) -> Iterator[str]:
    yield from (str(answer[name]) for name in ("status", "task_id") if name in answer)
    if "error" in answer:
        yield answer["error"]["message"]
    for video in answer.get("videos", ()):
        yield f"{video.get('width')}x{video.get('height')}, {video.get('duration')} s"


def _why_not(answers: list[dict[str, Any]]) -> SoraError:
    """The last tool's answer as the error it stands for."""
    answer = answers[-1] if answers else {}
    if "error" in answer:
        facts = dict(answer["error"])
        kinds = {kind.code: kind for kind in SoraError.__subclasses__()}
        known = {name: facts[name] for name in ("hint", "charged", "task_id", "key", "http_status") if name in facts}
        return kinds.get(facts["code"], SoraError)(facts["message"], **known)
    if "task_id" in answer:
        return WaitTimeoutError("The agent ended its turn before the video was finished.", task_id=answer["task_id"])
    return SoraError("The agent ended its turn without starting a video.")
