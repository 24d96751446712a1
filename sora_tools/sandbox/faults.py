"""Everything the sandbox can be told to do wrong, as data: one table of faults on requests, one of task endings.

A fault on a request says two things: what the client sees, and whether a create it befalls was accepted all the same
(`accepts`; a script's own `accept` option overrides it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .messages import (
    Answer,
    Call,
    body_too_large,
    error,
    index_page,
    invalid_url,
    json_answer,
    relay_error,
    storage_error,
    task_not_exist,
)
from .spoiling import (
    Options,
    Spoil,
    anything,
    changed,
    cloudflare,
    content_json,
    content_not_ready,
    content_redirect,
    cut_json,
    cut_reply,
    deleted_video,
    exhausted,
    failed_task,
    hang,
    no_channel,
    no_id,
    no_range,
    page,
    redirect,
    retry_later,
    says,
    slow,
    stream_cut,
    stream_error,
    text_plain,
    travels,
)

CALLS = frozenset({"create", "list", "look"})
READS = frozenset({"list", "look"})
DOWNLOAD = frozenset({"download"})

CHALLENGE_PAGE = (
    "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Enable JavaScript and cookies to continue"
    "<script>window._cf_chl_opt={cType:'managed'}</script></body></html>"
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to answer wrongly: how, on which routes, whether a create counts, and its options with their defaults.

    What befalls every call befalls deletes and model lists too.
    """

    spoil: Spoil
    routes: frozenset[str] = CALLS | DOWNLOAD
    accepts: bool = False
    options: Options = field(default_factory=dict)

    def befalls(self, route: str) -> bool:
        """Whether requests of a route can be given it."""
        return route in self.routes or (route in {"delete", "models"} and self.routes >= CALLS)


def spoil(name: str, answer: Answer, options: Options, call: Call) -> Answer:
    """What the client gets instead of `answer`."""
    spoiled = EVERY[name].spoil(answer, options, call)
    return replace(spoiled, headers={**spoiled.headers, **_lower(options.get("headers"))})


def _lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): str(value) for name, value in (headers or {}).items()}


FAULTS: Mapping[str, Fault] = {
    # The connection: what was sent is done, what comes back is not readable.
    "hang": Fault(spoil=hang, accepts=True, options={"seconds": None}),
    "slow": Fault(spoil=slow, accepts=True, options={"seconds": 1.0}),
    "reset": Fault(spoil=travels("reset"), accepts=True),
    "close": Fault(spoil=travels("close"), accepts=True),
    "garbage": Fault(spoil=travels("garbage"), accepts=True),
    "cut_reply": Fault(spoil=cut_reply, accepts=True),
    # Come back later.
    "rate_limit": Fault(
        spoil=retry_later(429, "您已达到请求数限制：1分钟内最多请求10次", "new_api_error", "rate_limit_exceeded"),
        options={"retry_after": None},
    ),
    "concurrency": Fault(
        spoil=retry_later(
            429, "You already have 3 generations in progress.", "invalid_request_error", "too_many_concurrent_tasks"
        ),
        options={"retry_after": None},
    ),
    "empty_429": Fault(spoil=says(Answer(status=429))),
    "rate_limit_exhausted": Fault(spoil=exhausted, options={"access_resets_in_seconds": 3600}),
    "busy": Fault(
        spoil=retry_later(503, "The server is busy, please try again later.", "server_error", None),
        options={"retry_after": 1},
    ),
    "heavy_load": Fault(
        spoil=retry_later(503, "We are under heavy load, please try again later.", "server_error", "heavy_load"),
        options={"retry_after": None},
    ),
    "overloaded": Fault(
        spoil=retry_later(503, "当前分组上游负载已饱和，请稍后再试", "upstream_error", "overloaded"),
        options={"retry_after": None},
    ),
    "queue_full": Fault(
        spoil=retry_later(503, "The queue is full.", "server_error", "queue_full"), options={"retry_after": None}
    ),
    "too_early": Fault(spoil=says(error(425, "Too early", code="too_early"))),
    # The endpoint is not there.
    "not_found": Fault(spoil=lambda _answer, _options, call: invalid_url(call)),
    "method_not_allowed": Fault(spoil=says(page(405, "405 Not Allowed"))),
    "not_implemented": Fault(
        spoil=says(error(501, "API not implemented", kind="new_api_error", param="", code="api_not_implemented")),
    ),
    "redirect": Fault(
        spoil=redirect(301, elsewhere=True), options={"to": "https://frontend.invalid/sora/backend/video_gen"}
    ),
    "redirect_307": Fault(spoil=redirect(307)),
    "redirect_308": Fault(spoil=redirect(308)),
    "redirect_other_origin": Fault(spoil=redirect(307, elsewhere=True), options={"to": None}),
    "no_channel": Fault(spoil=no_channel, options={"model": "sora"}),
    "paused": Fault(spoil=says(json_answer(500, {"code": 500, "msg": "This interface is temporarily paused"}))),
    "html_200": Fault(spoil=says(index_page())),
    # 200 that says nothing.
    "empty_200": Fault(spoil=says(Answer()), accepts=True),
    "empty_object": Fault(spoil=says(json_answer(200, {})), routes=CALLS, accepts=True),
    "cut_json": Fault(spoil=cut_json, routes=CALLS, accepts=True),
    "no_id": Fault(spoil=no_id, routes=CALLS, accepts=True),
    "text_plain": Fault(spoil=text_plain, routes=CALLS, accepts=True),
    "error_200": Fault(
        spoil=says(
            json_answer(200, {"error": {"message": "upstream error", "type": "server_error", "code": "upstream"}})
        )
    ),
    # Something broke; who knows how far it came.
    "error_500": Fault(spoil=says(relay_error(500, "do_request_failed", "请求上游地址失败"))),
    "bad_gateway": Fault(spoil=says(page(502, "502 Bad Gateway"))),
    "unavailable": Fault(spoil=says(Answer(status=503))),
    "gateway_timeout": Fault(spoil=says(page(504, "504 Gateway Time-out"))),
    "request_timeout": Fault(spoil=says(error(408, "Request timed out", code="timeout"))),
    "cloudflare_5xx": Fault(spoil=cloudflare, options={"status": 520}),
    "cloudflare_challenge": Fault(
        spoil=says(
            Answer(
                status=403,
                headers={"content-type": "text/html", "server": "cloudflare", "cf-mitigated": "challenge"},
                body=CHALLENGE_PAGE.encode(),
            )
        )
    ),
    "unknown_envelope": Fault(spoil=says(json_answer(500, {"code": 77, "msg": "系统开小差了", "sn": "sbx-1"}))),
    # No, and asking again will not help.
    "bad_request": Fault(spoil=says(error(400, "Bad request", code="invalid_request"))),
    "unauthorized": Fault(spoil=says(error(401, "无效的令牌", kind="new_api_error", code=""))),
    "payment_required": Fault(spoil=says(error(402, "Insufficient balance", code="insufficient_balance"))),
    "forbidden": Fault(spoil=says(json_answer(403, {"code": 0, "msg": "forbidden", "sn": "sbx-1"}))),
    "quota": Fault(
        spoil=says(
            error(403, "用户额度不足, 剩余额度: ＄0.00", kind="new_api_error", code="insufficient_user_quota"),
        )
    ),
    "quota_429": Fault(
        spoil=says(error(429, "You exceeded your current quota.", kind="insufficient_quota", code="insufficient_quota"))
    ),
    "conflict": Fault(spoil=says(error(409, "Conflict", code="conflict"))),
    "too_large": Fault(spoil=says(body_too_large())),
    "unsupported_media_type": Fault(spoil=says(error(415, "Unsupported media type"))),
    "unprocessable": Fault(spoil=says(json_answer(422, {"detail": "Invalid model: sora"}))),
    "teapot": Fault(spoil=says(error(418, "I'm a teapot"))),
    "moderation": Fault(
        spoil=says(error(400, "This prompt may violate our content policy.", code="content_policy_violation")),
    ),
    "status": Fault(spoil=anything, options={"status": 500, "body": "", "content_type": None}),
    # Only when reading.
    "task_not_exist": Fault(spoil=says(task_not_exist()), routes=READS),
    "not_found_task": Fault(spoil=says(error(404, "Task not found")), routes=READS),
    "failed_task_as_http_error": Fault(
        spoil=failed_task, routes=READS, options={"status": 400, "reason": "processing_error"}
    ),
    # Only on a video's URL.
    "expired": Fault(spoil=says(storage_error("Signature not valid in the specified time frame")), routes=DOWNLOAD),
    "gone": Fault(spoil=says(Answer(status=410)), routes=DOWNLOAD),
    "cut_stream": Fault(spoil=travels("cut"), routes=DOWNLOAD),
    "lying_length": Fault(spoil=travels("overlong"), routes=DOWNLOAD),
    "truncated": Fault(spoil=travels("short"), routes=DOWNLOAD),
    "redirect_other_host": Fault(spoil=redirect(302, elsewhere=True), routes=DOWNLOAD, options={"to": None}),
    "no_range": Fault(spoil=no_range, routes=DOWNLOAD),
    "changed": Fault(spoil=changed, routes=DOWNLOAD),
}

FORMAT_FAULTS: Mapping[str, Fault] = {
    # The content of a video under /v1/videos.
    "content_not_ready": Fault(spoil=content_not_ready, routes=DOWNLOAD, options={"status": 404}),
    "content_json": Fault(spoil=content_json, routes=DOWNLOAD, options={"status": 200, "key": "url"}),
    "content_redirect": Fault(spoil=content_redirect, routes=DOWNLOAD, options={"elsewhere": True}),
    "deleted_video": Fault(spoil=deleted_video, routes=frozenset({"delete"}), accepts=True),
    # A chat's stream.
    "stream_cut": Fault(
        spoil=stream_cut, routes=frozenset({"create"}), accepts=True, options={"pieces": None, "tidy": False}
    ),
    "stream_error": Fault(
        spoil=stream_error,
        routes=frozenset({"create"}),
        accepts=True,
        options={"pieces": 2, "message": "Generation failed: upstream error"},
    ),
}
"""Faults that are those of one format; on a request of another they do what comes closest.

`content_json` with `status=400, key="detail"` is what SGLang answers when videos lie in cloud storage. `stream_cut`
sends so many `pieces`, None for everything but `[DONE]`, and then ends the answer where it is `tidy`, the connection
where it is not; `stream_error` sends `pieces`, then an error object and `[DONE]`.
"""

EVERY: Mapping[str, Fault] = {**FAULTS, **FORMAT_FAULTS}

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
