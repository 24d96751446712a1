"""Short lives: ``test_kill.py`` runs this file as a process that lives for it, and forks a child for every life.

A life is one action of a client. It is told on stdout boundary by boundary, where a boundary is the moment before a
wish is granted, or the moment after that in which the conversation has not heard of it yet; and it may have to end, by
SIGKILL, at the n-th of them. The process that forks has imported everything and has no thread, client or file open.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import httpcore._async.http11
import httpcore._sync.http11

import sora_tools.flow.look
import sora_tools.flow.reconcile
import sora_tools.ledger.sqlite
from sora_tools import AsyncSora, Retry, Sora, SoraError
from sora_tools.client.transport import trust
from sora_tools.flow import Do, Send, Tell, Wish

KEY = "the-callers-key"
API_KEY = "sk-test-0123456789"
VIDEO = {"prompt": "fly man", "width": 64, "height": 36, "n_frames": 3}
CHUNK = 1024


class Life:
    """Tells every boundary, and ends at the one that is to be the last."""

    def __init__(self, tell: Callable[[Any], Any], last: int | None) -> None:
        self.tell, self.last, self._numbers = tell, last, itertools.count(1)

    @contextmanager
    def around(self, wish: Wish) -> Iterator[None]:
        self._pass(f"before {named(wish)}")
        try:
            yield
        finally:
            self._pass(f"after {named(wish)}")

    def _pass(self, boundary: str) -> None:
        number = next(self._numbers)
        self.tell([boundary, time.monotonic()])
        if number == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def named(wish: Wish) -> str:
    match wish:
        case Send(call):
            return f"Send {call.route}"
        case Do(work):
            return f"Do {work.__qualname__.removeprefix('_SQL')}"
        case Tell(event):
            return f"Tell {type(event).__name__}"
    return type(wish).__name__


class MortalSora(Sora):
    life: Life

    def _grant(self, wish: Any, *how: Any) -> Any:
        with self.life.around(wish):
            return super()._grant(wish, *how)


class MortalAsyncSora(AsyncSora):
    life: Life

    async def _grant(self, wish: Any, *how: Any) -> Any:
        with self.life.around(wish):
            return await super()._grant(wish, *how)


def acted(sora: Any, action: str, folder: str | None, fields: dict[str, Any]) -> Any:
    """What the client answers; to be awaited where the client is an asynchronous one."""
    match action:
        case "generate":
            return sora.generate({**VIDEO, **fields}, key=KEY, directory=folder)
        case "resend":
            return sora.create({**VIDEO, **fields}, key=KEY, resend=True)
        case "resume":
            return sora.resume(KEY, directory=folder, timeout=10)
    raise ValueError(action)


async def acted_later(sora: Any, *what: Any) -> Any:
    async with sora:
        return await acted(sora, *what)


def live(order: dict[str, Any], tell: Callable[[Any], Any]) -> None:
    settings = {
        "base_url": order["base_url"],
        "api_key": API_KEY,
        "ledger": order["ledger"],
        "headers": {"x-pid": str(os.getpid())},
        "retry": Retry(attempts=2, budget=5.0, first=0.0),
    }
    what = (order["action"], order["folder"], order["fields"])
    life = Life(tell, order["last"])
    try:
        if order["colour"] == "async":
            later = MortalAsyncSora(**settings)
            later.life = life
            task = asyncio.run(acted_later(later, *what))
        else:
            with MortalSora(**settings) as sora:
                sora.life = life
                task = acted(sora, *what)
        tell({"task_id": task.task_id})
    except SoraError as error:
        tell({"error": error.code, "charged": error.charged, "said": error.describe()})


def child(order: dict[str, Any], told: int) -> NoReturn:
    try:
        live(order, lambda something: os.write(told, json.dumps(something).encode() + b"\n"))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Live as often as stdin orders: a line of JSON in, and one out that tells the life and how it ended."""
    sora_tools.flow.reconcile.PAUSES = (0.01, 0.02, 0.05)
    sora_tools.flow.look.SHORTEST = 0.05
    sora_tools.flow.look.UNVOUCHED = 0.0
    httpcore._sync.http11.HTTP11Connection.READ_NUM_BYTES = CHUNK
    httpcore._async.http11.AsyncHTTP11Connection.READ_NUM_BYTES = CHUNK
    trust()
    for line in sys.stdin:
        told_by, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            child(json.loads(line), told)
        os.close(told)
        with os.fdopen(told_by) as lines:
            story = [json.loads(said) for said in lines]
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(json.dumps({"story": story, "ended": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
