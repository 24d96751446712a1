"""Both tools over one pair of clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, Unpack

from langchain_core.tools import BaseTool, BaseToolkit, ToolException
from pydantic import PrivateAttr

from ..client.async_sora import AsyncSora
from ..client.sora import Sora
from ..flow import Repeat
from . import answers
from .create import CreateVideoTool
from .query import QueryVideoTool
from .shared import ClientSettings, clients


class SoraToolkit(BaseToolkit):
    """Both tools over one pair of clients: what one starts, the other knows.

    Setup:
        Install ``sora-tools`` and set the gateway's address and key.

        .. code-block:: bash

            pip install sora-tools
            export SORA_BASE_URL="https://gateway.example"
            export SORA_API_KEY="sk-..."

    Key init args:
        base_url: The gateway's address (else ``SORA_BASE_URL``).
        api_key: The gateway's key (else ``SORA_API_KEY``).
        max_wait: Seconds a query waits for the video at most, 0 to 45.
        download_dir: Folder that finished videos are saved to. None saves nothing.
        repeat: What ``create_video`` does with a call that asks for the very same as an earlier one of its
            conversation, which has not ended or whose fate is unknown: ``"reuse"`` its task, or make a ``"new"`` one.
        list_account: Whether listing shows the account's tasks as the gateway has them, other people's among them.
        handle_tool_error: What becomes of an error: an answer for the model, or with False a SoraToolError.
        dialect, model, timeout, retry, ledger, idempotency, headers: As in :class:`~sora_tools.Sora`.
        private_addresses, largest_reply, largest_video, limits, price: Likewise.
        sora, async_sora: Clients to use in place of these settings.

    Instantiation:
        .. code-block:: python

            from sora_tools import SoraToolkit

            toolkit = SoraToolkit(base_url="https://gateway.example", api_key="sk-...")

    Tools:
        .. code-block:: python

            toolkit.get_tools()

        .. code-block:: python

            [CreateVideoTool(...), QueryVideoTool(...)]

    Use within an agent:
        .. code-block:: python

            from langchain.agents import create_agent

            with SoraToolkit() as toolkit:
                agent = create_agent("openai:gpt-5", toolkit.get_tools())
                agent.invoke({"messages": [("user", "Make a video of a man who flies.")]})

    Raises:
        ConfigurationError: A setting is missing or cannot work.
    """

    _tools: tuple[CreateVideoTool, QueryVideoTool] = PrivateAttr()

    def __init__(
        self,
        *,
        max_wait: float = 20.0,
        download_dir: str | Path | None = None,
        list_account: bool = False,
        repeat: Repeat = "reuse",
        handle_tool_error: bool | str | Callable[[ToolException], Any] = answers.of_error,
        sora: Sora | None = None,
        async_sora: AsyncSora | None = None,
        **settings: Unpack[ClientSettings],
    ) -> None:
        sora, async_sora = clients(sora, async_sora, settings)
        super().__init__()
        self._tools = (
            CreateVideoTool(sora=sora, async_sora=async_sora, repeat=repeat, handle_tool_error=handle_tool_error),
            QueryVideoTool(
                sora=sora,
                async_sora=async_sora,
                max_wait=max_wait,
                download_dir=download_dir,
                list_account=list_account,
                handle_tool_error=handle_tool_error,
            ),
        )

    @property
    def sora(self) -> Sora:
        """The client behind ``invoke``."""
        return self._tools[0].sora

    @property
    def async_sora(self) -> AsyncSora:
        """The client behind ``ainvoke``."""
        return self._tools[0].async_sora

    def get_tools(self) -> list[BaseTool]:
        """``create_video`` and ``query_video``."""
        return list(self._tools)

    def close(self) -> None:
        """Wait for creates under way, then let go of the connections; those of an event loop go with their loop."""
        self.sora.close()

    async def aclose(self) -> None:
        """Wait for creates under way, on this loop and in threads, then let go of the connections."""
        await self.async_sora.close()
        await asyncio.to_thread(self.sora.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
