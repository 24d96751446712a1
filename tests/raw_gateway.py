"""A gateway made of sockets alone, for what no HTTP framework can be made to do. It counts what arrives."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

Answer = Callable[["Connection", str, str, bytes], None]


class Connection:
    """One accepted connection."""

    def __init__(self, raw: socket.socket) -> None:
        self.raw = raw
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = raw.makefile("rb")

    def reply(self, body: Any, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.raw.sendall("\r\n".join([*lines, "", ""]).encode() + content)

    def reset(self) -> None:
        """Close with RST. A shutdown before it would send FIN, and that is what the other side would see."""
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.file.close()
        self.raw.close()

    def close(self) -> None:
        with suppress(OSError):
            self.raw.shutdown(socket.SHUT_RDWR)
        self.file.close()
        self.raw.close()


class RawGateway:
    """Answers each request with ``answer(connection, method, path, body)``; more requests until it closes."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.tls = tls
        self.port = port
        self.answer = answer
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.connections = 0
        self.stopped = threading.Event()
        self._open: set[Connection] = set()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.base_url = f"http{'s' if self.tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            connection.close()
        for thread in self._threads:
            thread.join(5)

    @property
    def posts(self) -> int:
        return sum(method == "POST" for method, _, _ in self.requests)

    @property
    def gets(self) -> int:
        return sum(method == "GET" for method, _, _ in self.requests)

    def receive(self, connection: Connection, method: str, path: str, length: int) -> bytes:
        """As much of a request's body as this gateway cares to read."""
        return connection.file.read(length)

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(raw,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            connection = Connection(self.tls.wrap_socket(raw, server_side=True) if self.tls else raw)
        except OSError:
            raw.close()
            return
        self._open.add(connection)
        try:
            while line := connection.file.readline():
                method, path, _ = line.decode().split(" ", 2)
                headers: dict[str, str] = {}
                while (header := connection.file.readline().strip()) != b"":
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = self.receive(connection, method, path, int(headers.get("content-length", 0)))
                self.requests.append((method, path, headers))
                self.answer(connection, method, path, body)
        except (OSError, ValueError):
            pass
        finally:
            self._open.discard(connection)
            connection.close()
