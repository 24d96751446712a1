"""Progress: what a call tells while it runs, as LangChain's custom events and to LangGraph's stream writer.

Rule: handlers and writers run on the thread, or in the task, that called the tool, and nowhere else. What is paid for
goes on beside that one and never waits for them: what it tells is held until the caller has news of its own, and there
LangChain finds the run that it belongs to. An exception of theirs is logged and changes nothing.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler, adispatch_custom_event, dispatch_custom_event

from ..events import EVENT_NAME, Event, News
from . import answers


class Progress:
    """The telling of one call: every event is kept in ``told``, and what is new is passed on, in order.

    Args:
        here: Names the thread or task that runs: ``threading.current_thread`` or ``asyncio.current_task``.
        secret: What no event may quote.
    """

    def __init__(self, here: Callable[[], object], secret: str) -> None:
        self.told: list[Event] = []
        self._here, self._caller = here, here()
        self._secret = secret
        self._news = News()
        self._held: deque[Event] = deque()
        self._write = _stream_writer()

    def tell(self, event: Event) -> None:
        """A listener for ``Sora``."""
        for data in self._due(event):
            with suppress(Exception):  # no run to tell it of, or a handler failed, which langchain_core has logged
                dispatch_custom_event(EVENT_NAME, data)
            self._write(data)

    async def atell(self, event: Event) -> None:
        """A listener for ``AsyncSora``."""
        for data in self._due(event):
            with suppress(Exception):  # as above
                await adispatch_custom_event(EVENT_NAME, data)
            self._write(data)

    def _due(self, event: Event) -> Iterator[dict[str, Any]]:
        """What is to be passed on now."""
        self.told.append(event)
        if self._news.is_new(event):
            self._held.append(event)
        while self._held and self._here() is self._caller:
            yield answers.of_event(self._held.popleft(), self._secret)


class Listening(AsyncCallbackHandler):
    """A callback handler for asynchronous calls that hands what they tell to a coroutine function.

    Args:
        hear: Is given each event as :func:`~sora_tools.events.described`.
    """

    def __init__(self, hear: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
        self._hear = hear

    async def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        """Part of LangChain's protocol."""
        if name == EVENT_NAME:
            await self._hear(data)


def _stream_writer() -> Callable[[Any], Any]:
    """The writer of the graph that runs here, if one does: then it has loaded LangGraph itself."""
    config: Any = sys.modules.get("langgraph.config")
    try:
        writer: Callable[[Any], Any] = config.get_stream_writer()
    except Exception:  # noqa: BLE001  # LangGraph is not there, or raises what it will outside a graph
        return lambda _: None
    return writer
