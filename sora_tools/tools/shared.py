"""What both tools are built from: a pair of clients, and a call written once for both of them."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple, Self, TypedDict

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, ToolException
from pydantic import ConfigDict, PrivateAttr, SecretStr, ValidationError

from ..client.async_sora import AsyncSora
from ..client.sora import Sora
from ..config import Settings
from ..errors import ConfigurationError, SoraError
from ..events import Event
from ..flow import Flow
from ..ledger import Ledger, digest
from ..limits import VideoLimits
from ..prices import PriceOf
from ..retry import Retry
from ..wire import Dialect
from . import answers
from .answers import Answer, SoraToolError
from .progress import Progress

LONGEST_CALL: Final = 45.0
"""Seconds one tool call spends at most: retries, waiting and downloads together."""

PATIENCE: Final = LONGEST_CALL - 1.0
"""Seconds its conversation may take, which leaves some for what surrounds it."""


class ClientSettings(TypedDict, total=False):
    """What a tool hands to its client; see :class:`~sora_tools.Sora`."""

    base_url: str | None
    api_key: str | SecretStr | None
    dialect: str | Dialect | None
    fallback: Sequence[str | Dialect]
    model: str | None
    timeout: float
    retry: Retry | None
    ledger: Ledger | str | os.PathLike[str] | None
    idempotency: Literal["sent", "honoured"]
    headers: Mapping[str, str] | None
    private_addresses: bool
    largest_reply: int
    largest_video: int
    limits: VideoLimits | None
    price: PriceOf | None
    transport: Any


def clients(sora: Sora | None, async_sora: AsyncSora | None, settings: ClientSettings) -> tuple[Sora, AsyncSora]:
    """A client of each colour that share settings, ledger and cool-downs."""
    given = sora or async_sora
    if given is not None and settings:
        raise ConfigurationError(f"A client was given, and {', '.join(settings)} too.", hint="Give one or the other.")
    if sora is not None and async_sora is not None and sora.gateway is not async_sora.gateway:
        raise ConfigurationError(
            "sora and async_sora do not share a gateway.", hint="Make one from the other: AsyncSora.sharing(sora)."
        )
    sora = sora or (Sora(**settings) if async_sora is None else Sora.sharing(async_sora))
    return sora, async_sora or AsyncSora.sharing(sora)


@contextmanager
def _raised_for_langchain() -> Iterator[None]:
    try:
        yield
    except SoraError as error:
        raise SoraToolError(error) from error
    except ValidationError as error:
        raise RuntimeError(f"This is a bug in sora_tools, not in the arguments: {error}") from error


class SoraTool(BaseTool):
    """What both tools are built from."""

    model_config = ConfigDict(extra="forbid")

    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: bool | str | Callable[[ToolException], Any] | None = answers.of_error
    handle_validation_error: bool | str | Callable[[Any], str] | None = answers.of_broken_rules

    _sora: Sora = PrivateAttr()
    _async_sora: AsyncSora = PrivateAttr()

    def __init__(self, *, sora: Sora | None = None, async_sora: AsyncSora | None = None, **given: Any) -> None:
        own = {name: given.pop(name) for name in ClientSettings.__annotations__ if name in given}
        pair = clients(sora, async_sora, ClientSettings(**own))  # type: ignore[typeddict-item]  # its own names
        super().__init__(**given)
        self._sora, self._async_sora = pair

    @property
    def sora(self) -> Sora:
        """The client behind ``invoke``. Close it when the tool is not needed any more."""
        return self._sora

    @property
    def async_sora(self) -> AsyncSora:
        """The client behind ``ainvoke``."""
        return self._async_sora

    @property
    def base_url(self) -> str:
        """The gateway's address."""
        return self._sora.gateway.settings.base_url

    @property
    def api_key(self) -> SecretStr:
        """The gateway's key."""
        return self._sora.gateway.settings.api_key

    def __deepcopy__(self, memo: object = None) -> Self:
        return self.model_copy()  # one ledger, or a copy would not know what the original has sent

    def run(self, *given: Any, tool_call_id: str | None = None, **settings: Any) -> Any:
        """As :class:`BaseTool` does, remembering which call of the model's it is."""
        with _called(tool_call_id):
            return super().run(*given, tool_call_id=tool_call_id, **settings)

    async def arun(self, *given: Any, tool_call_id: str | None = None, **settings: Any) -> Any:
        """As :class:`BaseTool` does, remembering which call of the model's it is."""
        with _called(tool_call_id):
            return await super().arun(*given, tool_call_id=tool_call_id, **settings)

    def _run(self, *given: Any, config: RunnableConfig, **arguments: Any) -> Answer:
        progress = Progress(threading.current_thread, self._secret)
        with _raised_for_langchain():
            return self._sora.run(
                self._conversation(progress.told, Place.of(config), *given, **arguments), progress.tell
            )

    async def _arun(self, *given: Any, config: RunnableConfig, **arguments: Any) -> Answer:
        progress = Progress(asyncio.current_task, self._secret)
        with _raised_for_langchain():
            return await self._async_sora.run(
                self._conversation(progress.told, Place.of(config), *given, **arguments), progress.atell
            )

    @abstractmethod
    def _conversation(self, told: list[Event], place: Place, *given: Any, **arguments: Any) -> Flow[Answer]:
        """The whole call. ``told`` fills with the events that it tells."""

    @property
    def _secret(self) -> str:
        return self._sora.gateway.settings.secret


_tool_call: ContextVar[str | None] = ContextVar("sora_tools_tool_call", default=None)
"""The id of the model's call that runs here. Arguments could carry it too, but then models would see it."""


@contextmanager
def _called(tool_call_id: str | None) -> Iterator[None]:
    token = _tool_call.set(tool_call_id)
    try:
        yield
    finally:
        _tool_call.reset(token)


class Place(NamedTuple):
    """Where a call comes from, in LangGraph's names.

    Attributes:
        thread: The conversation's id.
        node: The graph's own name for this run of a node (``checkpoint_ns``), the same when it is run again: by a retry
            policy, or after a crash from the same checkpoint. None outside graphs.
        tool_call: The id that the model, or its provider, gave to the call.
    """

    thread: str | None
    node: str | None
    tool_call: str | None

    @classmethod
    def of(cls, config: RunnableConfig) -> Place:
        """The place of the call that runs now with this config."""
        given = (config or {}).get("configurable")
        told = given if isinstance(given, Mapping) else {}
        thread, node = (None if told.get(name) is None else str(told[name]) for name in ("thread_id", "checkpoint_ns"))
        return cls(thread, node, _tool_call.get())

    def key(self, settings: Settings, dialect: str, body: Mapping[str, Any]) -> str | None:
        """The ledger key of a create called from here, the same whenever this very call is made again.

        Args:
            settings: The gateway's.
            dialect: The gateway's format.
            body: The request's.

        Returns:
            A sha256 of where, whose and what. None outside graphs: providers that number their calls from 0 would make
            two calls look like one.
        """
        if not self.node or self.tool_call is None:
            return None
        named = (settings.origin, dialect, settings.account, self.thread, self.node, self.tool_call, digest(body))
        return sha256(json.dumps(named).encode()).hexdigest()
