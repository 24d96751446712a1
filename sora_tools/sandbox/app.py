"""Starlette over the world: reads a request, asks the world, and sends the answer in the manner it says.

`Connection` puts the transport of each connection where the app can reach it, because a reset, a reply that is not HTTP
or one cut in the middle cannot be said in ASGI.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from . import pictures
from .messages import Answer
from .orders import MAX_BODY
from .studio import Studio
from .tasks import Generation
from .world import World

MEDIA_TYPES = {"mp4": "video/mp4", "png": "image/png", "jpg": "image/jpeg"}
LINGER_NOT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""Socket option: on close drop what is unsent and send RST."""


class Connection(H11Protocol):
    """uvicorn's HTTP protocol, with the transport handed on in each request's state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself
        """Note the transport for the requests of this connection."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Gateway:
    """The ASGI application of everything but the control routes."""

    def __init__(self, world: World, studio: Studio) -> None:
        self._world, self._studio = world, studio
        self.stopping = asyncio.Event()
        """Set to let go of every connection that hangs."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path, headers, body = scope["path"], dict(request.headers), await _body(request)
        named = self._world.pictures(request.method, path, headers=headers, body=body)
        answer = self._world.receive(
            request.method,
            path,
            query=dict(request.query_params),
            headers=headers,
            body=body,
            pictures={source: await pictures.read(source) for source in named},
        )
        transport: asyncio.Transport = scope["state"]["transport"]
        gone = answer.after != 0.0 and not await self._pause(receive, answer.after)
        if not gone and answer.manner in {"whole", "cut", "overlong", "short"}:
            if answer.stream is not None:
                gone = not await self._stream(answer, answer.stream, receive, send)
            else:
                response = await self._response(answer, scope)
                await response(scope, receive, _spoiled(send, answer.manner))
            if answer.manner in {"whole", "short"} and not gone:
                return
        _break_off(transport, answer.manner)
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _pause(self, receive: Receive, seconds: float | None) -> bool:
        """Wait, and say whether there is still someone to answer."""
        waits = {asyncio.ensure_future(receive()), asyncio.ensure_future(self.stopping.wait())}
        done, rest = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in rest:
            wait.cancel()
        return not done

    async def _stream(self, answer: Answer, steps: Iterator[bytes | float], receive: Receive, send: Send) -> bool:
        """Send the pieces of a stream as they come; whether there was someone to send them to until they ended."""
        headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        for step in steps:
            if isinstance(step, bytes):
                await send({"type": "http.response.body", "body": step, "more_body": True})
            elif not await self._pause(receive, step):
                return False
        if answer.manner in {"whole", "short"}:
            await send({"type": "http.response.body", "body": b""})
        return True

    async def _response(self, answer: Answer, scope: Scope) -> Response:
        headers = dict(answer.headers)
        if answer.media is None:
            return Response(answer.body, answer.status, headers)
        generation_id, _, kind = answer.media.rpartition(".")
        task = next((task for task in self._world.tasks if generation_id in task.generation_ids), None)
        if task is None:
            return Response(status_code=404)
        made = Generation(task, task.generation_ids.index(generation_id))
        try:
            path = await asyncio.wrap_future(self._studio.make(made, kind))
        except Exception as exc:  # noqa: BLE001 - whatever rendering raised, the client is told
            return JSONResponse({"error": {"message": str(exc), "type": "server_error"}}, 500)
        if headers.get("accept-ranges") == "none":
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"range"]
        return FileResponse(path, headers=headers, media_type=MEDIA_TYPES[kind])


def application(world: World, studio: Studio) -> tuple[Starlette, Gateway]:
    """The sandbox as an ASGI application, and the gateway in it."""
    gateway = Gateway(world, studio)
    routes = [
        Route("/_sandbox/script", _control(world, _script), methods=["POST"]),
        Route("/_sandbox/state", _control(world, _state), methods=["GET"]),
        Route("/_sandbox/reset", _control(world, _reset), methods=["POST"]),
        Route("/{path:path}", gateway),
    ]
    return Starlette(routes=routes), gateway


# ---------------------------------------------------------------- sending


def _spoiled(send: Send, manner: str) -> Send:
    """A `send` that promises and delivers what the manner says: (promised, delivered) of the true length."""
    if manner == "whole":
        return send
    left = 0

    async def spoiled(message: Message) -> None:
        nonlocal left
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            length = int(headers[b"content-length"])
            promised, left = {
                "cut": (length, length // 2),
                "overlong": (length + 4096, length),
                "short": (length // 2, length // 2),
            }[manner]
            headers[b"content-length"] = str(promised).encode()
            await send({**message, "headers": list(headers.items())})
            return
        body = message.get("body", b"")[:left]
        left -= len(body)
        # The last chunk of a reply that is broken off is never told: uvicorn would find the count wrong.
        await send({**message, "body": body, "more_body": manner != "short" or message.get("more_body", False)})

    return spoiled


def _break_off(transport: asyncio.Transport, manner: str) -> None:
    if manner == "reset":
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        transport.abort()
        return
    if manner == "garbage":
        transport.write(b"\x00\x01 this is not HTTP \xff\xfe\r\n\r\n")
    transport.close()


# ---------------------------------------------------------------- reading


async def _body(request: Request) -> bytes:
    """The body, read one byte past what is allowed at most: the world sees then that it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            break
    return bytes(body[: MAX_BODY + 1])


# ---------------------------------------------------------------- control


def _control(world: World, act: Callable[[World, Any, str], Any]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        try:
            body = json.loads(await request.body() or b"{}")
            return _plain_response(act(world, body, str(request.base_url).rstrip("/")))
        except (ValueError, TypeError, LookupError, AttributeError) as exc:
            return JSONResponse({"error": {"message": str(exc), "type": "sandbox_error"}}, 400)

    return endpoint


def _plain_response(value: Any) -> Response:
    """A JSON response; money travels as text."""
    return Response(json.dumps(value, default=str), media_type="application/json")


def _script(world: World, body: Any, _origin: str) -> Any:
    unknown = set(body) - {"route", "fault", "times", "options"}
    if unknown or not {"route", "fault"} <= set(body):
        raise ValueError('expected {"route": ..., "fault": ..., "times": 1, "options": {}}')
    world.script(body["route"], body["fault"], body.get("times", 1), **(body.get("options") or {}))
    return _pending(world)


def _reset(world: World, _body: Any, _origin: str) -> Any:
    world.reset()
    return _pending(world)


def _pending(world: World) -> dict[str, Any]:
    return {"pending": [dict(zip(("route", "fault", "times"), script, strict=True)) for script in world.pending]}


def _state(world: World, _body: Any, origin: str) -> Any:
    return {
        "accepted": world.creates,
        "charged": world.charged,
        "requests": [dataclasses.asdict(request) for request in world.requests],
        "tasks": [world.task(task.task_id, origin) for task in world.tasks],
        **_pending(world),
    }
