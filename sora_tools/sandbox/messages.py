"""What goes in and comes out: a call as the gateway got it, an answer and how it travels, the common wordings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

INDEX_PAGE = b'<!doctype html><html><head><title>One API</title></head><body><div id="root"></div></body></html>'
Manner = Literal["whole", "hang", "reset", "close", "garbage", "cut", "overlong", "short"]
"""How an answer travels: `whole`; `hang` (nothing comes), `reset` (TCP RST), `close` (FIN), `garbage` (not HTTP);
`cut` (half the promised bytes, then FIN), `overlong` (all bytes, but more were promised), `short` (a tidy half)."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request as the gateway got it; header names are lower-case. `format` is the one it belongs to, if any."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    format: str = ""

    @property
    def origin(self) -> str:
        """The scheme and host the client used to get here."""
        return f"http://{self.headers.get('host', 'sandbox.invalid')}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the gateway sends back, when and in what manner.

    The body is `body`, or the file that `media` names (`media_url` is where it can be had without a key), or `stream`:
    pieces to send as they come, and between them the seconds to wait before it is asked for more.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    media: str | None = None
    media_url: str | None = None
    stream: Iterator[bytes | float] | None = None
    manner: Manner = "whole"
    after: float | None = 0.0
    """Seconds before anything is sent; None is for ever."""

    def json(self) -> Any:
        """The body as parsed JSON."""
        return json.loads(self.body)


def json_answer(status: int, body: object, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer that carries `body` as JSON; half a surrogate pair, which UTF-8 cannot say, is escaped."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Answer(
        status=status,
        headers={"content-type": "application/json; charset=utf-8", **(headers or {})},
        body=text.encode(errors="backslashreplace"),
    )


def error(
    status: int, message: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> Answer:
    """An error in the envelope that OpenAI, the web backend and the relays share."""
    return json_answer(status, {"error": {"message": message, "type": kind, "param": param, "code": code}})


def relay_error(status: int, code: str, message: str) -> Answer:
    """An error in the envelope that relays use for tasks."""
    return json_answer(status, {"code": code, "message": message, "data": None})


def body_too_large() -> Answer:
    """The refusal of a body beyond what the gateway reads."""
    return relay_error(413, "read_request_body_failed", "request body too large")


def task_not_exist() -> Answer:
    """The answer to a look at a task nobody knows, a 400 and not a 404."""
    return relay_error(400, "task_not_exist", "task_not_exist")


def invalid_url(call: Call) -> Answer:
    """The refusal of a path under /v1, /api or /assets that is not served."""
    return error(404, f"Invalid URL ({call.method} {call.path})", param="", code="")


def index_page() -> Answer:
    """The dashboard that one-api serves on every path it does not know outside /v1, /api and /assets."""
    headers = {"content-type": "text/html; charset=utf-8", "cache-control": "no-cache"}
    return Answer(headers=headers, body=INDEX_PAGE)


def storage_error(detail: str) -> Answer:
    """A refused signature, in the words of the blob storage that holds the videos."""
    xml = (
        '<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthenticationFailed</Code><Message>Server failed to '
        "authenticate the request. Make sure the value of Authorization header is formed correctly including the "
        f"signature.</Message><AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail></Error>"
    )
    headers = {"content-type": "application/xml", "x-ms-error-code": "AuthenticationFailed"}
    return Answer(status=403, headers=headers, body=xml.encode())
