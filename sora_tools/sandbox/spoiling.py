"""Ways to answer wrongly: an ordinary answer in, another answer out.

Pure. The faults that are about a body spoil it as its format words it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from . import backend, generations, streams, unified, videos
from .messages import Answer, Call, Manner, error, json_answer

Options = Mapping[str, Any]
Spoil = Callable[[Answer, Options, Call], Answer]

FAILED: Mapping[str, Callable[[Mapping[str, Any], str], dict[str, Any]]] = {
    "backend": backend.failed,
    "videos": videos.failed,
    "unified": unified.failed,
    "generations": generations.failed,
}
REDIRECTED = "redirected"
"""The query parameter that marks a followed redirect; a request that carries it is not redirected again."""


def travels(manner: Manner) -> Spoil:
    """The answer, travelling in another manner."""
    return lambda answer, _options, _call: replace(answer, manner=manner)


def hang(answer: Answer, options: Options, _call: Call) -> Answer:
    """Nothing for a while, then the end."""
    return replace(answer, manner="hang", after=options["seconds"])


def slow(answer: Answer, options: Options, _call: Call) -> Answer:
    """The answer, later."""
    return replace(answer, after=options["seconds"])


def says(answer: Answer) -> Spoil:
    """This, whatever the answer was."""
    return lambda _answer, _options, _call: answer


def page(status: int, title: str, server: str = "nginx") -> Answer:
    """A web server's own page."""
    body = f"<html><head><title>{title}</title></head><body><center><h1>{title}</h1></center>{server}</body></html>"
    return Answer(status=status, headers={"content-type": "text/html", "server": server}, body=body.encode())


def retry_later(status: int, message: str, kind: str, code: str | None) -> Spoil:
    """A refusal that may say when to come again."""

    def say(_answer: Answer, options: Options, _call: Call) -> Answer:
        after = options.get("retry_after")
        answer = error(status, message, kind=kind, code=code)
        return answer if after is None else replace(answer, headers={**answer.headers, "retry-after": str(after)})

    return say


def exhausted(_answer: Answer, options: Options, _call: Call) -> Answer:
    """The web backend's daily limit."""
    balance = {
        "rate_limit_reached": True,
        "credit_remaining": 0,
        "access_resets_in_seconds": options["access_resets_in_seconds"],
    }
    return json_answer(429, {"type": "rate_limit_exhausted", "rate_limit_and_credit_balance": balance})


def redirect(status: int, *, elsewhere: bool = False) -> Spoil:
    """The way elsewhere."""

    def send_on(_answer: Answer, options: Options, call: Call) -> Answer:
        query = urlencode({**call.query, REDIRECTED: "1"})
        origin = _other_origin(call.origin) if elsewhere else ""
        location = options.get("to") or f"{origin}{quote(call.path)}?{query}"
        return Answer(status=status, headers={"location": location, "content-type": "text/html"})

    return send_on


def _other_origin(origin: str) -> str:
    """The same sandbox under its other loopback name, which to a client is another origin."""
    parts = urlsplit(origin)
    host = "127.0.0.1" if parts.hostname == "localhost" else "localhost"
    return f"http://{host}:{parts.port}" if parts.port else f"http://{host}"


def no_channel(_answer: Answer, options: Options, _call: Call) -> Answer:
    """No upstream for this model."""
    message = f"分组 default 下模型 {options['model']} 无可用渠道（distributor）"
    return error(503, message, kind="new_api_error", param="", code="model_not_found")


def cut_json(answer: Answer, _options: Options, _call: Call) -> Answer:
    """Half the body, or a stream that ends in the middle of a piece."""
    if answer.stream is not None:
        return replace(answer, stream=streams.ends_in_a_piece(answer.stream))
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def cut_reply(answer: Answer, _options: Options, _call: Call) -> Answer:
    """The connection ends in the middle of the body."""
    if answer.stream is not None:
        return replace(answer, stream=streams.first_pieces(answer.stream, 2), manner="cut")
    return replace(answer, manner="cut")


def no_id(answer: Answer, _options: Options, _call: Call) -> Answer:
    """The answer without any id of a task."""
    if answer.stream is not None:
        return replace(answer, stream=streams.without_ids(answer.stream))
    return json_answer(answer.status, _without_ids(answer.json())) if _is_json(answer) else answer


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_ids(member) for name, member in value.items() if name not in {"id", "task_id"}}
    return [_without_ids(item) for item in value] if isinstance(value, list) else value


def _is_json(answer: Answer) -> bool:
    return answer.headers.get("content-type", "").startswith("application/json")


def text_plain(answer: Answer, _options: Options, _call: Call) -> Answer:
    """The answer under another content type."""
    return replace(answer, headers={**answer.headers, "content-type": "text/plain; charset=utf-8"})


def cloudflare(answer: Answer, options: Options, _call: Call) -> Answer:
    """The page of a proxy that could not reach the gateway."""
    answer = page(
        options["status"], f"sandbox.invalid | {options['status']}: Web server is returning an error", "cloudflare"
    )
    return replace(answer, headers={**answer.headers, "cf-ray": "8f0000000000-SBX"})


def anything(_answer: Answer, options: Options, _call: Call) -> Answer:
    """What the options say."""
    body = options["body"]
    if not isinstance(body, str | bytes):
        answer = json_answer(options["status"], body)
    else:
        data = body.encode() if isinstance(body, str) else body
        kind = "text/html" if data.lstrip().startswith(b"<") else "text/plain; charset=utf-8"
        answer = Answer(status=options["status"], headers={"content-type": kind}, body=data)
    if options["content_type"] is None:
        return answer
    return replace(answer, headers={**answer.headers, "content-type": options["content_type"]})


def failed_task(answer: Answer, options: Options, call: Call) -> Answer:
    """The task, or the first of a list, as a failed one and under an error's status."""
    if call.format not in FAILED or not _is_json(answer):
        return answer
    body = answer.json()
    entries = [body.get(key) for key in ("task_responses", "tasks", "data")]
    page: list[Any] = next((entry for entry in entries if isinstance(entry, list)), [body])
    task = page[0].get("payload", page[0]) if page else {}
    return json_answer(options["status"], FAILED[call.format](task, options["reason"]))


def no_range(answer: Answer, _options: Options, _call: Call) -> Answer:
    """A file that cannot be had in parts."""
    return replace(answer, headers={**answer.headers, "accept-ranges": "none"})


def changed(answer: Answer, _options: Options, _call: Call) -> Answer:
    """A file that is another one each time."""
    stamp = answer.headers["x-oneapi-request-id"]
    return replace(answer, headers={**answer.headers, "etag": f'"{stamp}"'})


# ---------------------------------------------------------------- of one format


def content_not_ready(_answer: Answer, options: Options, _call: Call) -> Answer:
    """No content yet, as inference engines say it."""
    return json_answer(options["status"], {"detail": "Generation is still in-progress"})


def content_json(answer: Answer, options: Options, _call: Call) -> Answer:
    """JSON with the video's URL in place of its bytes."""
    return json_answer(options["status"], {options["key"]: answer.media_url}) if answer.media_url else answer


def content_redirect(answer: Answer, options: Options, call: Call) -> Answer:
    """The way to a video's URL that needs no key in place of its bytes."""
    if answer.media_url is None or REDIRECTED in call.query:
        return answer
    origin = _other_origin(call.origin) if options["elsewhere"] else call.origin
    location = f"{origin}{answer.media_url.removeprefix(call.origin)}&{urlencode({REDIRECTED: '1'})}"
    return Answer(status=302, headers={"location": location, "content-type": "text/html"})


def deleted_video(answer: Answer, _options: Options, _call: Call) -> Answer:
    """The deleted video itself, as SGLang answers."""
    body = answer.json()
    return json_answer(answer.status, {"id": body.get("id"), "object": "video", "status": "deleted"})


def stream_cut(answer: Answer, options: Options, _call: Call) -> Answer:
    """A stream that ends before its time: after so many pieces, or with everything sent but the last line."""
    manner: Manner = "whole" if options["tidy"] else "cut"
    if answer.stream is None:
        return replace(answer, manner="cut")
    return replace(answer, stream=streams.first_pieces(answer.stream, options["pieces"]), manner=manner)


def stream_error(answer: Answer, options: Options, _call: Call) -> Answer:
    """An error object in place of the rest of a stream."""
    body = {"error": {"message": options["message"], "type": "server_error", "param": None, "code": None}}
    if answer.stream is None:
        return json_answer(200, body)
    return replace(answer, stream=streams.ends_in_error(answer.stream, options["pieces"], body))
