"""``sora-tools mcp`` as a process of its own: how it is started, and a client so plain that it hides nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "sora_tools", "mcp"]
KEY = "sk-mcp-0123456789abcdef"


def environment(base_url: str, ledger: Path) -> dict[str, str]:
    return {"SORA_BASE_URL": base_url, "SORA_API_KEY": KEY, "SORA_LEDGER": str(ledger), "PYTHONPATH": str(ROOT)}


class Process:
    """A server that is spoken to line by line. All that it wrote is kept, to be searched."""

    def __init__(self, env: dict[str, str], *options: str) -> None:
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen([*COMMAND, *options], env={**os.environ, **env}, encoding="utf-8", **pipes)
        self.lines: list[str] = []
        self.errors = ""
        client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "plain", "version": "0"}}
        self.send("initialize", 0, **client)
        self.answer(0)
        self.send("notifications/initialized")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.end()

    def send(self, method: str, number: int | None = None, **params: Any) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params, **({} if number is None else {"id": number})}
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def call(self, number: int, tool: str, **arguments: Any) -> None:
        self.send("tools/call", number, name=tool, arguments=arguments, _meta={"progressToken": number})

    def answer(self, number: int) -> dict[str, Any]:
        """The result of a request; what comes before it is kept and passed over."""
        for line in self.process.stdout:
            self.lines.append(line)
            message = json.loads(line)
            if message.get("id") == number:
                return message["result"]
        raise AssertionError(f"The server ended: {self.process.stderr.read()}")

    def end(self) -> int:
        """Close stdin, read the rest, and wait: the exit code."""
        if self.process.stdin and not self.process.stdin.closed:
            out, err = self.process.communicate(timeout=30)
            self.lines += out.splitlines(keepends=True)
            self.errors += err
        return self.process.wait()
