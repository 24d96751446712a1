"""What both tools are built from: a pair of clients, and a call written once for both of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal, Self, TypedDict

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, ToolException
from pydantic import ConfigDict, PrivateAttr, SecretStr, ValidationError

from ..client.async_sora import AsyncSora
from ..client.sora import Sora
from ..errors import ConfigurationError, SoraError
from ..events import Event
from ..flow import Flow
from ..ledger import Ledger
from ..retry import Retry
from ..wire import Dialect
from . import answers
from .answers import Answer, SoraToolError

LONGEST_CALL: Final = 45.0
"""Seconds one tool call spends at most: retries, waiting and downloads together."""

PATIENCE: Final = LONGEST_CALL - 1.0
"""Seconds its conversation may take, which leaves some for what surrounds it."""


class ClientSettings(TypedDict, total=False):
    """What a tool hands to its client; see :class:`~sora_tools.Sora`."""

    base_url: str | None
    api_key: str | SecretStr | None
    dialect: str | Dialect | None
    model: str | None
    timeout: float
    retry: Retry | None
    ledger: Ledger | str | None
    headers: Mapping[str, str] | None
    transport: Any


def clients(sora: Sora | None, async_sora: AsyncSora | None, settings: ClientSettings) -> tuple[Sora, AsyncSora]:
    """A client of each colour that share settings, ledger and cool-downs."""
    given = sora or async_sora
    if given is not None and settings:
        raise ConfigurationError(f"A client was given, and {', '.join(settings)} too.", hint="Give one or the other.")
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

    def _run(self, *given: Any, config: RunnableConfig, **arguments: Any) -> Answer:
        told: list[Event] = []
        with _raised_for_langchain():
            return self._sora.run(self._conversation(told, _thread(config), *given, **arguments), told.append)

    async def _arun(self, *given: Any, config: RunnableConfig, **arguments: Any) -> Answer:
        told: list[Event] = []
        with _raised_for_langchain():
            return await self._async_sora.run(
                self._conversation(told, _thread(config), *given, **arguments), told.append
            )

    @abstractmethod
    def _conversation(self, told: list[Event], thread: str | None, *given: Any, **arguments: Any) -> Flow[Answer]:
        """The whole call. ``told`` fills with the events that it tells."""

    @property
    def _secret(self) -> str:
        return self._sora.gateway.settings.secret


def _thread(config: RunnableConfig) -> str | None:
    """The conversation a call belongs to, as LangGraph names it."""
    configurable = (config or {}).get("configurable")
    thread = configurable.get("thread_id") if isinstance(configurable, Mapping) else None
    return None if thread is None else str(thread)
