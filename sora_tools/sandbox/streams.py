"""Server-sent events, and streams that go wrong: pieces of bytes, and between them seconds to wait."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

Steps = Iterator[bytes | float]
DONE = b"data: [DONE]\n\n"
WHOLE_PIECES = 2
"""How much of a stream goes well where a fault does not say it."""


def event(body: object) -> bytes:
    """One event that carries `body` as JSON."""
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def first_pieces(steps: Steps, count: int | None) -> Steps:
    """So many pieces; None for all but the `[DONE]`."""
    left = count
    for step in steps:
        if step == DONE or left == 0:
            return
        yield step
        if left is not None and isinstance(step, bytes):
            left -= 1
            if left == 0:
                return


def ends_in_a_piece(steps: Steps) -> Steps:
    """Some pieces and half of one, or half of the only one."""
    pieces = 0
    for step in steps:
        if isinstance(step, bytes):
            pieces += 1
            if pieces > WHOLE_PIECES or not step.startswith(b"data:"):
                yield step[: len(step) // 2]
                return
        yield step


def ends_in_error(steps: Steps, count: int, body: object) -> Steps:
    """So many pieces, then an error object in place of the rest."""
    yield from first_pieces(steps, count)
    yield event(body)
    yield DONE


def without_ids(steps: Steps) -> Steps:
    """The pieces without any id of a task."""
    for step in steps:
        yield re.sub(rb"task_[0-9a-z]{26}", b"", step) if isinstance(step, bytes) else step
