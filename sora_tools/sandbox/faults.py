"""Everything the sandbox can be told to do wrong, as data: one table of faults on requests, one of task endings.

A fault on a request says two things: what the client sees, and whether a create it befalls was accepted all the same
(`accepts`; a script's own `accept` option overrides it). Faults are pure: an ordinary answer in, another answer out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from .messages import (
    Answer,
    Call,
    Manner,
    body_too_large,
    error,
    index_page,
    invalid_url,
    json_answer,
    relay_error,
    storage_error,
    task_not_exist,
)

Options = Mapping[str, Any]
Spoil = Callable[[Answer, Options, Call], Answer]

CALLS = frozenset({"create", "list", "look"})
READS = frozenset({"list", "look"})
DOWNLOAD = frozenset({"download"})
REDIRECTED = "redirected"
"""The query parameter that marks a followed redirect; a request that carries it is not redirected again."""

CHALLENGE_PAGE = (
    "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Enable JavaScript and cookies to continue"
    "<script>window._cf_chl_opt={cType:'managed'}</script></body></html>"
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to answer wrongly: how, on which routes, whether a create counts, and its options with their defaults."""

    spoil: Spoil
    routes: frozenset[str] = CALLS | DOWNLOAD
    accepts: bool = False
    options: Options = field(default_factory=dict)


def spoil(name: str, answer: Answer, options: Options, call: Call) -> Answer:
    """What the client gets instead of `answer`."""
    spoiled = FAULTS[name].spoil(answer, options, call)
    return replace(spoiled, headers={**spoiled.headers, **_lower(options.get("headers"))})


def _lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): str(value) for name, value in (headers or {}).items()}


# ---------------------------------------------------------------- ways to spoil an answer


def _travels(manner: Manner) -> Spoil:
    return lambda answer, _options, _call: replace(answer, manner=manner)


def _hang(answer: Answer, options: Options, _call: Call) -> Answer:
    return replace(answer, manner="hang", after=options["seconds"])


def _slow(answer: Answer, options: Options, _call: Call) -> Answer:
    return replace(answer, after=options["seconds"])


def _says(answer: Answer) -> Spoil:
    return lambda _answer, _options, _call: answer


def _page(status: int, title: str, server: str = "nginx") -> Answer:
    body = f"<html><head><title>{title}</title></head><body><center><h1>{title}</h1></center>{server}</body></html>"
    return Answer(status=status, headers={"content-type": "text/html", "server": server}, body=body.encode())


def _retry_later(status: int, message: str, kind: str, code: str | None) -> Spoil:
    def say(_answer: Answer, options: Options, _call: Call) -> Answer:
        after = options.get("retry_after")
        answer = error(status, message, kind=kind, code=code)
        return answer if after is None else replace(answer, headers={**answer.headers, "retry-after": str(after)})

    return say


def _exhausted(_answer: Answer, options: Options, _call: Call) -> Answer:
    balance = {
        "rate_limit_reached": True,
        "credit_remaining": 0,
        "access_resets_in_seconds": options["access_resets_in_seconds"],
    }
    return json_answer(429, {"type": "rate_limit_exhausted", "rate_limit_and_credit_balance": balance})


def _redirect(status: int, *, elsewhere: bool = False) -> Spoil:
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


def _no_channel(_answer: Answer, options: Options, _call: Call) -> Answer:
    message = f"分组 default 下模型 {options['model']} 无可用渠道（distributor）"
    return error(503, message, kind="new_api_error", param="", code="model_not_found")


def _cut_json(answer: Answer, _options: Options, _call: Call) -> Answer:
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def _no_id(answer: Answer, _options: Options, _call: Call) -> Answer:
    body = answer.json()
    for key in ("task_responses", "tasks"):
        for task in body.get(key) or ():
            task.pop("id", None)
    for entry in body.get("data") or ():
        entry["payload"].pop("id", None)
    body.pop("id", None)
    return json_answer(answer.status, body)


def _text_plain(answer: Answer, _options: Options, _call: Call) -> Answer:
    return replace(answer, headers={**answer.headers, "content-type": "text/plain; charset=utf-8"})


def _cloudflare(_answer: Answer, options: Options, _call: Call) -> Answer:
    page = _page(
        options["status"], f"sandbox.invalid | {options['status']}: Web server is returning an error", "cloudflare"
    )
    return replace(page, headers={**page.headers, "cf-ray": "8f0000000000-SBX"})


def _anything(_answer: Answer, options: Options, _call: Call) -> Answer:
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


def _failed_task(answer: Answer, options: Options, _call: Call) -> Answer:
    body = answer.json()
    entries = (
        body.get("task_responses") or body.get("tasks") or [e["payload"] for e in body.get("data") or ()] or [body]
    )
    task = {**entries[0], "status": "failed", "progress_pct": None, "generations": []}
    return json_answer(options["status"], {**task, "failure_reason": options["reason"]})


def _no_range(answer: Answer, _options: Options, _call: Call) -> Answer:
    return replace(answer, headers={**answer.headers, "accept-ranges": "none"})


def _changed(answer: Answer, _options: Options, _call: Call) -> Answer:
    stamp = answer.headers["x-oneapi-request-id"]
    return replace(answer, headers={**answer.headers, "etag": f'"{stamp}"'})


FAULTS: Mapping[str, Fault] = {
    # The connection: what was sent is done, what comes back is not readable.
    "hang": Fault(spoil=_hang, accepts=True, options={"seconds": None}),
    "slow": Fault(spoil=_slow, accepts=True, options={"seconds": 1.0}),
    "reset": Fault(spoil=_travels("reset"), accepts=True),
    "close": Fault(spoil=_travels("close"), accepts=True),
    "garbage": Fault(spoil=_travels("garbage"), accepts=True),
    "cut_reply": Fault(spoil=_travels("cut"), accepts=True),
    # Come back later.
    "rate_limit": Fault(
        spoil=_retry_later(429, "您已达到请求数限制：1分钟内最多请求10次", "new_api_error", "rate_limit_exceeded"),
        options={"retry_after": None},
    ),
    "concurrency": Fault(
        spoil=_retry_later(
            429, "You already have 3 generations in progress.", "invalid_request_error", "too_many_concurrent_tasks"
        ),
        options={"retry_after": None},
    ),
    "empty_429": Fault(spoil=_says(Answer(status=429))),
    "rate_limit_exhausted": Fault(spoil=_exhausted, options={"access_resets_in_seconds": 3600}),
    "busy": Fault(
        spoil=_retry_later(503, "The server is busy, please try again later.", "server_error", None),
        options={"retry_after": 1},
    ),
    "heavy_load": Fault(
        spoil=_retry_later(503, "We are under heavy load, please try again later.", "server_error", "heavy_load"),
        options={"retry_after": None},
    ),
    "overloaded": Fault(
        spoil=_retry_later(503, "当前分组上游负载已饱和，请稍后再试", "upstream_error", "overloaded"),
        options={"retry_after": None},
    ),
    "queue_full": Fault(
        spoil=_retry_later(503, "The queue is full.", "server_error", "queue_full"), options={"retry_after": None}
    ),
    "too_early": Fault(spoil=_says(error(425, "Too early", code="too_early"))),
    # The endpoint is not there.
    "not_found": Fault(spoil=lambda _answer, _options, call: invalid_url(call)),
    "method_not_allowed": Fault(spoil=_says(_page(405, "405 Not Allowed"))),
    "not_implemented": Fault(
        spoil=_says(error(501, "API not implemented", kind="new_api_error", param="", code="api_not_implemented")),
    ),
    "redirect": Fault(
        spoil=_redirect(301, elsewhere=True), options={"to": "https://frontend.invalid/sora/backend/video_gen"}
    ),
    "redirect_307": Fault(spoil=_redirect(307)),
    "redirect_308": Fault(spoil=_redirect(308)),
    "redirect_other_origin": Fault(spoil=_redirect(307, elsewhere=True), options={"to": None}),
    "no_channel": Fault(spoil=_no_channel, options={"model": "sora"}),
    "paused": Fault(spoil=_says(json_answer(500, {"code": 500, "msg": "This interface is temporarily paused"}))),
    "html_200": Fault(spoil=_says(index_page())),
    # 200 that says nothing.
    "empty_200": Fault(spoil=_says(Answer()), accepts=True),
    "empty_object": Fault(spoil=_says(json_answer(200, {})), routes=CALLS, accepts=True),
    "cut_json": Fault(spoil=_cut_json, routes=CALLS, accepts=True),
    "no_id": Fault(spoil=_no_id, routes=CALLS, accepts=True),
    "text_plain": Fault(spoil=_text_plain, routes=CALLS, accepts=True),
    "error_200": Fault(
        spoil=_says(
            json_answer(200, {"error": {"message": "upstream error", "type": "server_error", "code": "upstream"}})
        )
    ),
    # Something broke; who knows how far it came.
    "error_500": Fault(spoil=_says(relay_error(500, "do_request_failed", "请求上游地址失败"))),
    "bad_gateway": Fault(spoil=_says(_page(502, "502 Bad Gateway"))),
    "unavailable": Fault(spoil=_says(Answer(status=503))),
    "gateway_timeout": Fault(spoil=_says(_page(504, "504 Gateway Time-out"))),
    "request_timeout": Fault(spoil=_says(error(408, "Request timed out", code="timeout"))),
    "cloudflare_5xx": Fault(spoil=_cloudflare, options={"status": 520}),
    "cloudflare_challenge": Fault(
        spoil=_says(
            Answer(
                status=403,
                headers={"content-type": "text/html", "server": "cloudflare", "cf-mitigated": "challenge"},
                body=CHALLENGE_PAGE.encode(),
            )
        )
    ),
    "unknown_envelope": Fault(spoil=_says(json_answer(500, {"code": 77, "msg": "系统开小差了", "sn": "sbx-1"}))),
    # No, and asking again will not help.
    "bad_request": Fault(spoil=_says(error(400, "Bad request", code="invalid_request"))),
    "unauthorized": Fault(spoil=_says(error(401, "无效的令牌", kind="new_api_error", code=""))),
    "payment_required": Fault(spoil=_says(error(402, "Insufficient balance", code="insufficient_balance"))),
    "forbidden": Fault(spoil=_says(json_answer(403, {"code": 0, "msg": "forbidden", "sn": "sbx-1"}))),
    "quota": Fault(
        spoil=_says(
            error(403, "用户额度不足, 剩余额度: ＄0.00", kind="new_api_error", code="insufficient_user_quota"),
        )
    ),
    "quota_429": Fault(
        spoil=_says(
            error(429, "You exceeded your current quota.", kind="insufficient_quota", code="insufficient_quota")
        )
    ),
    "conflict": Fault(spoil=_says(error(409, "Conflict", code="conflict"))),
    "too_large": Fault(spoil=_says(body_too_large())),
    "unsupported_media_type": Fault(spoil=_says(error(415, "Unsupported media type"))),
    "unprocessable": Fault(spoil=_says(json_answer(422, {"detail": "Invalid model: sora"}))),
    "teapot": Fault(spoil=_says(error(418, "I'm a teapot"))),
    "moderation": Fault(
        spoil=_says(error(400, "This prompt may violate our content policy.", code="content_policy_violation")),
    ),
    "status": Fault(spoil=_anything, options={"status": 500, "body": "", "content_type": None}),
    # Only when reading.
    "task_not_exist": Fault(spoil=_says(task_not_exist()), routes=READS),
    "not_found_task": Fault(spoil=_says(error(404, "Task not found")), routes=READS),
    "failed_task_as_http_error": Fault(
        spoil=_failed_task, routes=READS, options={"status": 400, "reason": "processing_error"}
    ),
    # Only on a video's URL.
    "expired": Fault(spoil=_says(storage_error("Signature not valid in the specified time frame")), routes=DOWNLOAD),
    "gone": Fault(spoil=_says(Answer(status=410)), routes=DOWNLOAD),
    "cut_stream": Fault(spoil=_travels("cut"), routes=DOWNLOAD),
    "lying_length": Fault(spoil=_travels("overlong"), routes=DOWNLOAD),
    "truncated": Fault(spoil=_travels("short"), routes=DOWNLOAD),
    "redirect_other_host": Fault(spoil=_redirect(302, elsewhere=True), routes=DOWNLOAD, options={"to": None}),
    "no_range": Fault(spoil=_no_range, routes=DOWNLOAD),
    "changed": Fault(spoil=_changed, routes=DOWNLOAD),
}

ENDINGS: Mapping[str, Options] = {
    "moderation_input": {"reason": "input_moderation"},
    "moderation_output": {},
    "no_output": {},
    "failed": {"reason": "processing_error"},
    "cancelled": {},
    "stuck": {},
    "invisible": {"seconds": 3.0},
    "expired_url": {},
    "unknown_status": {"status": "postprocessing"},
}
"""How the next accepted tasks end, with the options of each and their defaults.

`moderation_input` and `cancelled` end early, `failed` when the video would be done; `moderation_output` and `no_output`
succeed without a video; `stuck` never ends; `invisible` is left out of list and by-id for so many seconds of the
world's clock; `expired_url` hands out one URL that has run out before good ones; `unknown_status` runs under a word
nobody knows, then succeeds.
"""
