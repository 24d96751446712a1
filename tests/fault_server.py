"""A gateway that fails every create in one named way, and counts how many creates it was sent.

``python tests/fault_server.py 502`` serves one failure on loopback until Ctrl-C and then prints the count, so that any
SDK whose address can be set may be pointed at it. ``docs/faults.md`` says what was counted that way.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import unquote

from fault_formats import FORMATS
from raw_gateway import Connection, RawGateway

Act = Callable[["FaultServer", Connection], None]

ELSEWHERE: Final = "/moved-here"
TASK: Final = {"id": "task_01jzbwm3t0e8hs9b7rkf3m2q5x", "status": "queued", "created_at": 1_790_000_000.0}
_ECHOED: Final = rb'"(model|prompt|operation|width|height|n_frames|n_variants|size|seconds)": ?("[^"]*"|[0-9]+)'
BASE32: Final = "0123456789abcdefghjkmnpqrstvwxyz"


def silence(server: FaultServer, connection: Connection) -> None:
    server.stopped.wait(30)


def fin(server: FaultServer, connection: Connection) -> None:
    server.hang_up(connection)


def rst(server: FaultServer, connection: Connection) -> None:
    connection.reset()


def truncated(server: FaultServer, connection: Connection) -> None:
    kind, whole = server.format.created(TASK)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(whole)}\r\n\r\n"
    connection.raw.sendall(head.encode() + whole[:20])
    server.hang_up(connection)


def garbage(server: FaultServer, connection: Connection) -> None:
    connection.raw.sendall(b"220 mail.example ESMTP\r\n\r\n")
    server.hang_up(connection)


def says(status: int, body: Any = None, **headers: str) -> Act:
    """An answer; without a body of its own, an error in words that no gateway is known to use."""

    def act(server: FaultServer, connection: Connection) -> None:
        said = {"error": {"message": f"scripted failure {status}"}} if body is None else body
        if not server.halfway:
            connection.reply(said, status, **headers)
            return
        connection.reply(said, status, connection="close", **headers)
        server.hang_up(connection)

    return act


FAILURES: Final[dict[str, Act]] = {
    "read timeout": silence,
    "FIN": fin,
    "RST": rst,
    "200 + truncated body": truncated,
    "garbage status line": garbage,
    "400": says(400),
    "401": says(401),
    "403": says(403),
    "408": says(408),
    "409": says(409),
    "422": says(422),
    "425": says(425),
    "429": says(429),
    "429 Retry-After: 1": says(429, retry_after="1"),
    "429 Retry-After: 90": says(429, retry_after="90"),
    "429 Retry-After: 600": says(429, retry_after="600"),
    "429 insufficient_quota": says(429, {"error": {"message": "scripted failure 429", "code": "insufficient_quota"}}),
    "429 Retry-After: bad date": says(429, retry_after="Wed, 21 Oct 99999999 07:28:00 GMT"),
    "500": says(500),
    "500 x-should-retry: false": says(500, x_should_retry="false"),
    "501": says(501),
    "502": says(502),
    "503": says(503),
    "504": says(504),
    "524": says(524),
    "400 x-should-retry: true": says(400, x_should_retry="true"),
    "200 HTML": says(200, b"<!doctype html><title>Welcome</title>", content_type="text/html"),
    "200 empty": says(200, b""),
    "200 cut JSON": says(200, b'{"id": "task_01jzbwm', content_type="application/json"),
    "200 {error:...}": says(200, {"error": {"message": "scripted failure 200"}}),
    "307 redirect": says(307, b"", location=ELSEWHERE),
}


class FaultServer(RawGateway):
    """Fails every create as ``failure`` says, while ``failing``; lists the tasks it has accepted.

    Args:
        failure: A name of FAILURES.
        accepts: Whether a create that gets no good answer is accepted all the same.
        halfway: Whether to act as soon as half of a create's body has been read.
        on_create: Is called when a create that will fail has arrived, before anything is done about it.
        dialect: The format it speaks.
        port: Where to listen on loopback.
    """

    def __init__(
        self,
        failure: str,
        *,
        accepts: bool = False,
        halfway: bool = False,
        on_create: Callable[[], None] = lambda: None,
        dialect: str = "backend",
        port: int = 0,
    ) -> None:
        super().__init__(self._answer, port=port)
        self.act, self.format = FAILURES[failure], FORMATS[dialect]
        self.accepts, self.halfway, self.on_create = accepts, halfway, on_create
        self.failing = True
        self.reused = 0
        """Creates that came on a connection which had carried a request before."""
        self.tasks: list[dict[str, Any]] = []
        self._counting = threading.Lock()
        self._used: set[Connection] = set()

    def receive(self, connection: Connection, method: str, path: str, length: int) -> bytes:
        half = self.halfway and self._fails(method, path)
        return super().receive(connection, method, path, length // 2 if half else length)

    def _fails(self, method: str, path: str) -> bool:
        return method == "POST" and self.failing and path != ELSEWHERE

    def _answer(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        with self._counting:
            self.reused += method == "POST" and connection in self._used
            self._used.add(connection)
        if method != "POST":
            self._answer_look(connection, path)
        elif self._fails(method, path):
            self.on_create()
            if self.accepts:
                self._accept_create(body)
            self.act(self, connection)
        else:
            kind, content = self.format.created(self._accept_create(body))
            connection.reply(content, content_type=kind)

    def _answer_look(self, connection: Connection, path: str) -> None:
        """The task that a path or query names, or else the list."""
        named = next((task for task in self.tasks if unquote(path).endswith(task["id"])), None)
        if named is not None and self.format.looked is not None:
            connection.reply(self.format.looked(named))
        elif self.format.listed is not None:
            connection.reply(self.format.listed(self.tasks[::-1]))
        else:
            connection.reply({"error": {"message": f"Invalid URL (GET {path})"}}, 404)

    def _accept_create(self, body: bytes) -> dict[str, Any]:
        """Make a task that echoes as much of the request as was read."""
        named = re.findall(_ECHOED, body)
        echo = {name.decode(): json.loads(value) for name, value in named}
        now = time.time()
        task = {**echo, "id": self.format.prefix + task_id(now), "status": "queued", "created_at": now}
        with self._counting:
            self.tasks.append(task)
        return task

    def hang_up(self, connection: Connection) -> None:
        """Close, but read on first what is still on its way: a socket closed over unread bytes resets.

        That reset would take an answer with it that the other side has received and not yet read (RFC 9112 9.6).
        """
        with suppress(OSError, ValueError):
            connection.raw.shutdown(socket.SHUT_WR)
            connection.raw.settimeout(5)
            while connection.file.read1(65536):
                pass
        connection.close()


def task_id(now: float) -> str:
    """A TypeID of that moment: a UUIDv7, time first, in base 32."""
    number = int(now * 1000) << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return "task_" + "".join(BASE32[number >> 5 * place & 31] for place in reversed(range(26)))


def main() -> None:
    """Serve one failure until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Fail every create in one way, and count how many arrive.")
    parser.add_argument("failure", choices=FAILURES, metavar="FAILURE", help="; ".join(FAILURES))
    parser.add_argument("--port", type=int, default=8399, help="on loopback (default 8399; 0 takes a free one)")
    parser.add_argument("--format", choices=FORMATS, default="backend", help="how it answers (default backend)")
    parser.add_argument("--accepts", action="store_true", help="list a failed create as a task all the same")
    parser.add_argument("--halfway", action="store_true", help="fail when half of the body has been read")
    given = parser.parse_args()
    how = {"accepts": given.accepts, "halfway": given.halfway, "dialect": given.format}
    with FaultServer(given.failure, port=given.port, **how) as server:
        sys.stdout.write(f"{given.failure!r} for every POST below {server.base_url}; Ctrl-C ends and counts\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        sys.stdout.write(f"\n{server.posts} creates arrived\n")


if __name__ == "__main__":
    main()
