"""Serving over stdio and streamable HTTP, until asked to end.

Rule: a server that ends takes no more calls, but waits for the creates under way, has them written down, and answers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from ..addresses import loopback
from ..errors import ConfigurationError
from ..tools import SoraToolkit
from ..tools.shared import LONGEST_CALL
from .calls import server

_LAST_WORDS: Final = int(LONGEST_CALL)
"""Seconds that a server over HTTP that ends leaves open connections for the answers under way: a client without one
would ask again."""

_ON_ITS_WAY: Final = 0.5
"""Seconds after which an answer that is ready has gone out at stdout. The SDK does not tell when."""


def serve_stdio(toolkit: SoraToolkit, *, thread: str = "mcp") -> None:
    """Serve the client at the other end of stdin and stdout until it leaves, or SIGINT or SIGTERM.

    Creates under way are then waited for and written down; a second signal ends the process without that. For the main
    thread, which is where signals arrive.

    Args:
        toolkit: The tools; closed at the end.
        thread: The client's conversation.

    Raises:
        ConfigurationError: ``thread`` is no name.
    """
    asyncio.run(_stdio(toolkit, server(toolkit, thread=thread)))


def serve_http(
    toolkit: SoraToolkit,
    host: str = "127.0.0.1",
    port: int = 8766,
    *,
    allowed_hosts: Sequence[str] = (),
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
        allowed_hosts: By which other machines name this one. The Host and Origin of a request must be one of them or a
            loopback one, or web pages could reach the server through their readers' browsers.
        thread: The conversation that all callers are in.
        lists: Whether all of them are shown what any of them has created.
        announce: Called with the server's address.

    Raises:
        ConfigurationError: ``host`` is not a loopback address and there are no ``allowed_hosts``, it cannot listen
            there, or ``thread`` is no name.
    """
    if not (loopback(host) or allowed_hosts):
        raise ConfigurationError(
            f"{host} is not a loopback address such as 127.0.0.1.",
            hint="Name the hosts by which other machines may reach it (--allow-host), and see who else can: "
            "whoever reaches it spends your money.",
        )
    known = ["127.0.0.1", "localhost", "[::1]", *allowed_hosts]
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
            await asyncio.sleep(_ON_ITS_WAY)
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
