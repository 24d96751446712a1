"""The request log: what tests read of each request, and never its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import forms
from .messages import Answer, Call

LOGGED_HEADERS = ("accept", "content-type", "idempotency-key", "if-range", "range", "user-agent", "x-request-id")


@dataclass(frozen=True, kw_only=True)
class Received:
    """One line of the request log.

    `format` is empty for what belongs to no format: media URLs, model lists, paths that are not served. `status` is
    None where no HTTP reply was sent, `task_id` is a create's new task.
    """

    at: float
    method: str
    path: str
    query: Mapping[str, str]
    format: str
    route: str
    headers: Mapping[str, str]
    authorized: bool
    body: Any
    fault: str | None
    status: int | None
    task_id: str | None


def received(call: Call, route: str, answer: Answer, *, at: float, fault: str | None, task_id: str | None) -> Received:
    """The log's line about a request and its answer."""
    return Received(
        at=at,
        method=call.method,
        path=call.path,
        query=call.query,
        format=call.format,
        route=route,
        headers={name: call.headers[name] for name in LOGGED_HEADERS if name in call.headers},
        authorized=bearer(call) is not None,
        body=forms.readable(call),
        fault=fault,
        status=None if answer.manner in {"hang", "reset", "close", "garbage"} else answer.status,
        task_id=task_id,
    )


def bearer(call: Call) -> str | None:
    """The key a request carries, if any."""
    scheme, _, key = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    return key.strip() or None
