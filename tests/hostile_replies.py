"""Replies that a gateway, a proxy before it, or somebody in between may send, and what is right to make of each.

A reply is one answer with what three conversations must make of it: a create, a look at task ``T``, and a list. By the
table in DESIGN.md: a create is the task, or a clear refusal (its error's code), or, by default, of unknown fate.
``PAGE`` is a web page on 200, after which the list is looked at before each further send. A look is the task or an
error's code, a list is the ids on the page; None stands for any error, and ``NOTHING`` for that or an empty page.

``WIRED`` are the replies that only exist on a socket: whole answers as bytes.
"""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

T = "task_01k862djr2era887swgvhxxncn"
OTHER = "task_01jy8k72axednrjcnvmkwpqp11"
UNKNOWN, PAGE, NOTHING = "unknown", "page", "nothing"
MIB = 2**20


class Seen(NamedTuple):
    """A task that is to come out of it."""

    task_id: str
    status: str


@dataclass(frozen=True)
class Hostile:
    """One reply. A large body is a function, so that only the test that needs it holds it."""

    family: str
    name: str
    body: bytes | Callable[[], bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    create: Seen | str = UNKNOWN
    look: Seen | str | None = None
    listed: tuple[str, ...] | str | None = None

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else self.body()

    @property
    def large(self) -> bool:
        return not isinstance(self.body, bytes)


Rows = Iterator[Hostile]

URL = "https://cdn.example/source.mp4"
TASK: dict[str, Any] = {
    "id": T,
    "user": "user-1",
    "created_at": "2025-10-22T13:41:00.335618Z",
    "status": "succeeded",
    "progress_pct": 1.0,
    "progress_pos_in_queue": 1,
    "estimated_queue_wait_time": 30,
    "queue_status_message": "soon",
    "priority": 1,
    "type": "video_gen",
    "prompt": "fly man",
    "n_variants": 1,
    "n_frames": 150,
    "height": 480,
    "width": 854,
    "model": "turbo",
    "operation": "simple_compose",
    "inpaint_items": [],
    "preset_id": None,
    "caption": None,
    "actions": {"16": "takes off"},
    "interpolation": None,
    "sdedit": None,
    "remix_config": None,
    "quality": None,
    "size": None,
    "seed": 7,
    "guidance": 1.5,
    "generations": [
        {
            "id": "gen_1",
            "task_id": T,
            "created_at": "2025-10-22T13:42:00Z",
            "url": "https://cdn.example/1.mp4",
            "seed": 479835457,
            "can_download": True,
            "width": 854,
            "height": 480,
            "n_frames": 150,
            "title": "New Video",
            "encodings": {
                "source": {"path": URL, "size": 4986776, "width": 854, "height": 480, "duration_secs": 5.0},
                "thumbnail": {"path": "https://cdn.example/1.webp", "size": None},
            },
        }
    ],
    "num_unsafe_generations": 0,
    "title": "New Video",
    "moderation_result": {
        "type": "passed",
        "results_by_frame_index": {},
        "code": None,
        "is_output_rejection": False,
        "task_id": T,
    },
    "failure_reason": None,
    "needs_user_review": False,
}
SUCCEEDED, QUEUED, STATUSLESS = Seen(T, "succeeded"), Seen(T, "queued"), Seen(T, "unknown")


def text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def raw(value: Any) -> bytes:
    return text(value).encode()


def task(**members: Any) -> dict[str, Any]:
    return {**deepcopy(TASK), **members}


def page(*tasks: Any, **members: Any) -> dict[str, Any]:
    return {"task_responses": list(tasks or [TASK]), "last_id": None, "has_more": False, **members}


def failure(message: str = "", code: Any = None, kind: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


# --- what gateways are known to say -----------------------------------------------------------------------------

INDEX = b'<!doctype html><html><head><title>One API</title></head><body><div id="root"></div></body></html>'
CHALLENGE = (
    b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body><script>window._cf_chl_opt={cvId:'3'};"
    b"</script><noscript>Enable JavaScript and cookies to continue</noscript></body></html>"
)
BLOCKED = b"<html><head><title>Attention Required! | Cloudflare</title></head><body>Sorry</body></html>"
NGINX = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><center>nginx</center></body>\r\n</html>"

_SAID: tuple[tuple[str, int, Any, str, str | None], ...] = (
    # the web backend, 2.5
    ("no bearer", 401, failure("Missing bearer authentication in header", None, "invalid_request_error"), "auth", None),
    ("token expired", 401, failure("Your authentication token has expired.", "token_expired"), "auth", None),
    ("token invalidated", 401, failure("", "token_invalidated"), "auth", None),
    ("invalid jwt", 400, failure("", "invalid_jwt"), "auth", None),
    ("sentinel", 400, failure("sentinel", "sentinel_block"), "invalid", None),
    ("username", 400, failure("", "username_required"), "invalid", None),
    ("onboarding", 400, failure("You must onboard before using this service", "onboarding_required"), "invalid", None),
    ("country", 400, failure("", "unsupported_country_code"), "auth", None),
    (
        "three in progress",
        429,
        {"error": {"code": "too_many_concurrent_tasks", "message": "You already have 3", "details": {"num_tasks": 3}}},
        "busy",
        None,
    ),
    (
        "daily limit",
        429,
        {"type": "rate_limit_exhausted", "rate_limit_and_credit_balance": {"credit_remaining": 0}},
        "busy",
        None,
    ),
    ("heavy load", 500, failure("We are under heavy load", "heavy_load"), "busy", None),
    ("heavy load in words", 500, failure("We're under heavy load, please try later."), UNKNOWN, "lost_reply"),
    ("challenge", 403, CHALLENGE, UNKNOWN, "lost_reply"),
    ("challenge as 429", 429, CHALLENGE, UNKNOWN, "lost_reply"),
    ("challenge as 200", 200, CHALLENGE, UNKNOWN, "lost_reply"),
    ("blocked", 403, BLOCKED, UNKNOWN, "lost_reply"),
    ("bad gateway", 502, NGINX, UNKNOWN, "lost_reply"),
    ("not found", 404, failure("Not found"), "endpoint", "task_not_found"),
    # one-api and new-api, 3.2
    (
        "invalid URL",
        404,
        failure("Invalid URL (POST /v1/x)", "", "invalid_request_error"),
        "endpoint",
        "endpoint_unavailable",
    ),
    ("dashboard", 200, INDEX, PAGE, "endpoint_unavailable"),
    ("dashboard as 404", 404, INDEX, "endpoint", "endpoint_unavailable"),
    (
        "not implemented",
        501,
        failure("API not implemented", "api_not_implemented", "new_api_error"),
        "endpoint",
        "endpoint_unavailable",
    ),
    (
        "platform",
        501,
        {"code": "not_implemented", "message": "not_implemented:54", "data": None},
        "endpoint",
        "endpoint_unavailable",
    ),
    (
        "no channel",
        503,
        failure("分组 vip 下模型 sora 无可用渠道（distributor） (request id: 2026)", "model_not_found"),
        "endpoint",
        "endpoint_unavailable",
    ),
    (
        "no channel, older",
        503,
        failure("当前分组 vip 下对于模型 sora 无可用渠道", None, "one_api_error"),
        "endpoint",
        "endpoint_unavailable",
    ),
    ("channel lookup", 500, {"code": "get_channel_failed", "message": "x", "data": None}, UNKNOWN, "lost_reply"),
    ("bad token", 401, failure("无效的令牌 (request id: 2026)", "", "new_api_error"), "auth", None),
    ("no token", 401, failure("未提供令牌", None, "one_api_error"), "auth", None),
    ("token expired, Chinese", 401, failure("该令牌已过期"), "auth", None),
    ("token used up", 401, failure("令牌 3（#7）额度已用尽"), "quota", None),
    ("token not usable", 401, failure("该令牌状态不可用"), "auth", None),
    ("address forbidden", 403, failure("", "access_denied"), "auth", None),
    ("no quota", 403, failure("用户额度不足, 剩余额度: 0", "insufficient_user_quota"), "quota", None),
    ("no quota to begin with", 403, failure("", "pre_consume_token_quota_failed"), "quota", None),
    ("no quota for tasks", 403, {"code": "quota_not_enough", "message": "user quota is not enough"}, "quota", None),
    ("no balance in 200", 200, {"code": 40003, "msg": "余额不足"}, "quota", None),
    ("saturated", 429, failure("当前分组上游负载已饱和，请稍后再试"), "busy", None),
    ("user's rate", 429, failure("您已达到请求数限制：1分钟内最多请求3次"), "busy", None),
    ("address's rate", 429, b"", "busy", None),
    ("token's tasks", 503, failure("", "token_concurrency_limit_reached"), "busy", None),
    ("upstream's words", 400, {"code": "fail_to_fetch_task", "message": "<upstream>", "data": None}, "invalid", None),
    ("upstream's words, masked", 500, {"code": "fail_to_fetch_task", "message": "请求上游地址失败"}, UNKNOWN, None),
    ("upstream unreachable", 500, {"code": "do_request_failed", "message": "x"}, UNKNOWN, "lost_reply"),
    ("upstream timeout", 504, failure("timeout"), UNKNOWN, "lost_reply"),
    ("upstream timeout, Cloudflare", 524, b"error code: 524", UNKNOWN, "lost_reply"),
    ("bad JSON", 400, {"code": "invalid_json", "message": "x", "data": None}, "invalid", None),
    ("no model", 400, {"code": "missing_model", "message": "x", "data": None}, "invalid", None),
    ("bad size", 400, {"code": "invalid_size", "message": "x", "data": None}, "invalid", None),
    ("body too large", 413, {"code": "read_request_body_failed", "message": "x"}, "invalid", None),
    ("no such task", 400, {"code": "task_not_exist", "message": "task_not_exist"}, "invalid", "task_not_found"),
    ("no content", 404, failure("Task not found", None, "invalid_request_error"), "endpoint", "task_not_found"),
    ("unfinished", 400, failure("Task is not completed yet, current status: IN_PROGRESS"), "invalid", None),
    ("panic", 500, failure("Panic detected, error: nil", None, "new_api_panic"), UNKNOWN, "lost_reply"),
    # the page itself, 开发中
    ("its own envelope", 403, {"code": 0, "msg": "forbidden", "sn": "1"}, "auth", None),
    ("its own envelope in 200", 200, {"code": 1, "msg": "error", "sn": "1"}, UNKNOWN, "lost_reply"),
    ("its documented success", 200, {}, UNKNOWN, "unreadable_reply"),
    ("paused", 200, {"code": 500, "msg": "This interface is temporarily paused"}, "endpoint", "endpoint_unavailable"),
    ("in development", 500, failure("该接口正在开发中，敬请期待"), "endpoint", "endpoint_unavailable"),
    # other formats, 5 and 6
    ("not a file", 400, failure("Invalid type for 'input_reference'", "invalid_type"), "invalid", None),
    ("sizes differ", 400, failure("Inpaint image must match the requested width and height"), "invalid", None),
    ("moderated", 400, failure("blocked by our moderation system", "moderation_blocked"), "invalid", None),
    ("plain error", 200, {"error": "quota service is down"}, UNKNOWN, "lost_reply"),
    ("no success", 200, {"success": False, "message": "？"}, UNKNOWN, "lost_reply"),
    ("error code of zero", 200, {"task_id": T, "status": "queued", "error": {"code": 0, "message": ""}}, T, T),
    ("model gone", 404, failure("The model `sora-2` does not exist"), "endpoint", "endpoint_unavailable"),
    ("deleted", 200, {"deleted": True, "object": "video.deleted"}, UNKNOWN, "unreadable_reply"),
    ("success with a string", 200, {"code": "success", "message": "", "data": T}, UNKNOWN, "unreadable_reply"),
    ("success with a list", 200, {"success": True, "data": [{"video_url": URL, "state": "succeeded"}]}, UNKNOWN, None),
)
_CODES = {
    "auth": "authentication",
    "invalid": "invalid_request",
    "endpoint": "endpoint_unavailable",
    T: QUEUED,
    "unknown": STATUSLESS,
}


def said() -> Rows:
    for name, status, body, create, look in _SAID:
        made: Any = create if create == UNKNOWN else _CODES.get(create, create)
        found: Any = _CODES.get(look or "", look)
        content = body if isinstance(body, bytes) else raw(body)
        listed = () if name == "success with a list" else None
        yield Hostile("said", name, content, status, create=made, look=found, listed=listed)
    relayed = {"id": f"sora-2:{T}", "status": "pending", "detail": {"id": T, "pending_info": TASK}}
    yield Hostile("said", "another format's task", raw(relayed), create=Seen(f"sora-2:{T}", "queued"))
    coded = {"code": "success", "message": "", "data": {"task_id": T, "status": "IN_PROGRESS", "progress": "30%"}}
    running = Seen(T, "running")
    yield Hostile("said", "new-api's task", raw(coded), create=running, look=running)
    failed = Seen(T, "failed")
    lost = task(status="failed", failure_reason="heavy_load", generations=[])
    yield Hostile("said", "a failed task as 400", raw(lost), 400, create=UNKNOWN, look=failed)
    yield Hostile("said", "a failed task as 500", raw(lost), 500, create=UNKNOWN, look=failed)
    yield Hostile("said", "a refusal with a task", raw({"id": T, **failure("no", "rate_limited")}), 429)
    yield Hostile(
        "said", "a refusal with a task in it", raw({**failure("", "quota_not_enough"), "data": {"id": T}}), 403
    )
    headers = {"location": "https://www.example/", "content-type": "text/html"}
    yield Hostile("said", "moved", b"<a>Moved</a>", 307, headers, "endpoint_unavailable", "endpoint_unavailable")
    yield Hostile("said", "in circles", b"", 307, {"location": "/sora/backend/video_gen"}, "endpoint_unavailable")
    yield Hostile("said", "busy until", b"", 503, {"retry-after": "2"}, "busy", "busy")
    yield Hostile("said", "busy for a year", b"", 503, {"retry-after": "31536000"}, "busy", "busy")
    yield Hostile("said", "busy, it mumbles", b"", 503, {"retry-after": "9" * 5000}, UNKNOWN, "lost_reply")
    yield Hostile("said", "never again", b"", 429, {"x-should-retry": "false"}, "busy", "busy")
    yield Hostile("said", "again at any cost", b"", 500, {"x-should-retry": "true", "retry-after": "0"})


# --- cut ---------------------------------------------------------------------------------------------------------

_SHORT = {"task_responses": [{"id": T, "progress_pct": 0.5, "title": "é\n", "actions": {"1": "a"}}], "has_more": True}


def cut() -> Rows:
    """A list cut after each of its tokens and within each kind of them, and a create's answer likewise."""
    whole = raw(_SHORT)
    ends = [place for place, byte in enumerate(whole) if byte in b'{}[]:,"' and place]
    within = [whole.index(part) + 1 for part in (b"0.5", b"true", "é".encode(), b"\\n", b"task_01")]
    for end in sorted({*ends, *within}):
        yield Hostile("cut", f"list at {end}", whole[:end])
    made = raw({"id": T, "priority": None})
    for end in (2, 5, 8, 20, len(made) - 6, len(made) - 5, len(made) - 1):
        yield Hostile("cut", f"create at {end}", made[:end])
    for start in (1, 9):
        yield Hostile("cut", f"list from {start}", whole[start:])
    yield Hostile("cut", "page", INDEX[:60], create=PAGE)
    yield Hostile("cut", "refusal", raw(failure("no", "quota_not_enough"))[:-1])
    yield Hostile(
        "cut", "refusal with a status", raw(failure("x", "quota_not_enough"))[:-1], 403, create="authentication"
    )
    yield Hostile("cut", "busy with a status", raw(failure("x", "heavy_load"))[:-1], 500)


# --- nested ------------------------------------------------------------------------------------------------------

_SHELLS = {"arrays": (b"[", b"]"), "objects": (b'{"data":', b"}"), "both": (b'[{"task":', b"}]")}


def nested(depth: int, shell: str) -> bytes:
    opening, closing = _SHELLS[shell]
    times = depth if shell != "both" else depth // 2
    return opening * times + b"1" + closing * times


def deep() -> Rows:
    """Nesting by itself, and where something reads, prints or keeps it. How deep is read depends on the Python."""
    failed = Seen(T, "failed")
    for shell in _SHELLS:
        for depth in (10, 99, 101, 500, 980, 1000, 10_000, 100_000):
            listed: tuple[str, ...] | str | None = None
            if shell != "objects":
                listed = () if depth < 900 else NOTHING
            yield Hostile("nested", f"{depth} {shell}", nested(depth, shell), listed=listed)
        for depth in (98, 200, 800):
            name, inner = f"{depth} {shell}", nested(depth, shell)
            beside = b'{"id":"%s","x":%s}' % (T.encode(), inner)
            yield Hostile("nested", f"{name} beside an id", beside, create=QUEUED, look=STATUSLESS)
            code = b'{"error":{"code":%s}}' % inner
            yield Hostile("nested", f"{name} as a code", code, 400, create="invalid_request")
            yield Hostile("nested", f"{name} as a message", b'{"message":%s}' % inner, 500)
            told = b'{"id":"%s","status":"failed","failure_reason":%s}' % (T.encode(), inner)
            yield Hostile("nested", f"{name} as a reason", told, create=failed, look=failed)
            tasks = b'{"tasks":[{"id":"%s","generations":%s}]}' % (T.encode(), inner)
            yield Hostile("nested", f"{name} as generations", tasks, look=STATUSLESS, listed=(T,))
    yield Hostile("nested", "a text of brackets", raw(task(title="[" * 100_000)), create=SUCCEEDED, look=SUCCEEDED)
    yield Hostile("nested", "actions in a text", raw(task(actions="[" * 100_000)), create=SUCCEEDED, look=SUCCEEDED)
    yield Hostile("nested", "never closed", b"[" * 1_000_000)
    yield Hostile("nested", "never opened", b"]" * 1_000_000)


# --- huge --------------------------------------------------------------------------------------------------------


def filled(start: str, filling: bytes, end: str, size: int = MIB) -> Callable[[], bytes]:
    """A body of about this size, most of it the same few bytes."""
    head, tail = start.encode(), end.encode()
    return lambda: head + filling * ((size - len(head) - len(tail)) // len(filling)) + tail


def huge() -> Rows:
    """Texts of megabytes, numbers of a million digits, lists and objects of a hundred thousand members and more."""
    task_of, refusals, others = _huge_tasks(), _huge_refusals(), _huge_others()
    for name, body, status in task_of:
        made = Seen(T, "queued" if status == "failed" and name == "address" else status)
        yield Hostile("huge", name, body, create=made, look=Seen(T, status))
    for name, body, status, create in refusals:
        yield Hostile("huge", name, body, status, create=create)
    for name, body, listed in others:
        yield Hostile("huge", name, body, listed=listed)
    yield Hostile("huge", "page", filled("<html>", b"_cf", ""), create=PAGE)


def _huge_tasks() -> Iterator[tuple[str, Callable[[], bytes], str]]:
    named = f'{{"id":"{T}",'
    running = f'{named}"status":"running",'
    failed = f'{named}"status":"failed",'
    succeeded = f'{named}"status":"succeeded",'
    video = f'{succeeded}"generations":[{{"url":"https://cdn.example/?'
    keys = ",".join(f'"{each}":"/x"' for each in range(100_000)).encode()  # 1.2 MiB
    yield "title of 32 MiB", filled(f'{running}"title":"', b"x", '"}', 32 * MIB), "running"
    yield "title with one emoji", filled(f'{running}"title":"😀', b"x", '"}'), "running"
    yield "title of escapes", filled(f'{running}"title":"\\ud83d', b"\\u0041", '"}'), "running"
    yield "status", filled(f'{named}"status":"', b"s", '"}'), "unknown"
    yield "address", filled(video, b"a=b&", '"}]}'), "failed"
    yield "reason", filled(f'{failed}"failure_reason":"', b"out of ", '"}'), "failed"
    yield "moment", filled(f'{running}"created_at":"', b"2025-", '"}'), "running"
    yield "spaces before", filled("", b" ", f'{running}"x":1}}'), "running"
    yield "generations", filled(f'{running}"generations":[', b'{"id":"g"},', "1]}"), "running"
    yield "actions", filled(f'{running}"actions":[', b'{"description":"a"},', "1]}"), "running"
    yield "keys", filled(running, keys, "}", 2 * MIB), "running"
    yield "encodings", filled(f'{running}"generations":[{{"encodings":{{', keys, "}}]}", 2 * MIB), "running"
    yield "actions by frame", filled(f'{running}"actions":{{', keys, "}}", 2 * MIB), "running"
    yield "one key, often", filled(running, b'"x":1,', '"x":1}'), "running"
    yield "fraction", filled(f'{running}"progress_pct":0.', b"9", "}"), "running"
    yield "exponent", filled(f'{running}"progress_pct":1e', b"9", "}"), "running"


def _huge_refusals() -> Iterator[tuple[str, Callable[[], bytes], int, str]]:
    yield "message of words", filled('{"message":"', b"no ", '"}', 4 * MIB), 500, UNKNOWN
    yield "message of dots", filled('{"message":"', b".", '"}'), 500, UNKNOWN
    yield "message of dots to 400", filled('{"message":"', b". ", 'x"}'), 400, "invalid_request"
    yield "message that is a list", filled('{"detail":[', b"1,", "1]}"), 422, "invalid_request"
    yield "code", filled('{"code":"', b"m", '"}'), 400, "invalid_request"


def _huge_others() -> Iterator[tuple[str, Callable[[], bytes], tuple[str, ...] | None]]:
    yield "id", filled('{"id":"', b"t", '"}'), None
    yield "text", filled("", b"no ", ""), None
    yield "spaces", filled("", b" ", ""), None
    yield "zeros", filled("", b"\0", ""), None
    yield "bytes that are no text", filled("", b"\xff", ""), None
    yield "number", filled(f'{{"id":"{T}","seed":', b"9", "}"), None
    yield "id in digits", filled('{"id":', b"9", "}"), None
    yield "list of a million numbers", filled("[", b"1,", "1]", 2_000_003), ()
    yield "list of fractions", filled("[", b"1.5,", "1]"), ()
    yield "list of nothing", filled("[", b"{},", "1]"), ()
    yield "list of lists", filled("[", b"[],", "1]"), ()
    variants = b'{"id":"gen_1"},' * 1000 + b"1"
    made = b",".join(b'{"id":"%d","generations":[%s]}' % (each, variants) for each in range(100))
    yield "list of tasks with a thousand variants", filled("[", made, "]", 2 * MIB), tuple(map(str, range(100)))
    tasks = b",".join(b'{"id":"%d"}' % each for each in range(100_000))
    yield "list of tasks", filled("[", tasks, "]", 2 * MIB), tuple(map(str, range(1000)))


# --- wrong types -------------------------------------------------------------------------------------------------

_INFINITE = "@1e400@"
WRONG: dict[str, Any] = {
    "null": None,
    "true": True,
    "0": 0,
    "-1": -1,
    "1e400": _INFINITE,
    "empty text": "",
    "list": [],
    "object": {},
    "nested": {"a": [{"a": [{"b": "x"}]}]},
}
_BESIDE_AN_ID = (
    *("priority", "rate_limit_and_credit_balance", "error"),  # documented
    *("code", "message", "msg", "success", "type", "detail", "task_id", "data"),  # of other envelopes
)
_IN_TASK = (
    *([name] for name in TASK if name != "generations"),
    ["generations"],
    ["generations", 0],
    *(["generations", 0, name] for name in TASK["generations"][0]),
    *(["generations", 0, "encodings", name] for name in ("source", "thumbnail")),
    *(["generations", 0, "encodings", "source", name] for name in ("path", "size", "width", "height", "duration_secs")),
    *(["moderation_result", name] for name in TASK["moderation_result"]),
)


def spelt(value: Any) -> bytes:
    return text(value).replace(f'"{_INFINITE}"', "1e400").encode()


def changed(value: Any, path: list[Any], by: Any) -> Any:
    whole = holder = deepcopy(value)
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = by
    return whole


def typed() -> Rows:
    for path in _IN_TASK:
        for kind, value in WRONG.items():
            body = spelt(changed(TASK, path, value))
            if body == raw(TASK):
                continue  # not wrong here
            made: Seen | str = SUCCEEDED
            found: Seen | None = SUCCEEDED
            if path == ["id"]:
                made, found = UNKNOWN, None
            elif path == ["status"]:
                made, found = QUEUED, STATUSLESS
            elif path in (["generations"], ["generations", 0]):
                made, found = QUEUED, Seen(T, "failed")
            name = f"{'.'.join(map(str, path))} is {kind}"
            yield Hostile("types", name, body, create=made, look=found)
    yield from _typed_lists()
    yield from _typed_creates()


def _typed_lists() -> Rows:
    for kind, value in WRONG.items():
        empty = kind in ("null", "list", "1e400")  # 1e400 is null
        body = spelt(page(task_responses=value))
        yield Hostile("types", f"task_responses is {kind}", body, listed=() if empty else None)
        yield Hostile("types", f"a task in the list is {kind}", spelt(page(value, TASK)), look=SUCCEEDED, listed=(T,))
        for name in ("last_id", "has_more"):
            if (body := spelt(page(**{name: value}))) == raw(page()):
                continue
            yield Hostile("types", f"{name} is {kind}", body, look=SUCCEEDED, listed=(T,))


def _typed_creates() -> Rows:
    for kind, value in WRONG.items():
        for name in _BESIDE_AN_ID:
            refusal = name == "error" and value and value is not _INFINITE
            create, look = (UNKNOWN, None) if refusal else (QUEUED, STATUSLESS)
            listed = () if name == "data" and kind in ("null", "1e400", "list") else None
            body = spelt({"id": T, name: value})
            yield Hostile("types", f"{name} beside an id is {kind}", body, create=create, look=look, listed=listed)
        yield Hostile("types", f"an error of {kind} in 200", spelt({"error": value}))
        yield Hostile("types", f"an error of {kind} in 400", spelt({"error": value}), 400, create="invalid_request")
        yield Hostile(
            "types", f"an error's message of {kind}", spelt({"error": {"message": value, "code": value}}), 500
        )
        if kind != "object":  # the page's documented success, which is above
            yield Hostile("types", f"a whole body of {kind}", spelt(value), listed=() if kind == "list" else None)
        yield Hostile("types", f"a whole refusal of {kind}", spelt(value), 422, create="invalid_request")


# --- encodings ---------------------------------------------------------------------------------------------------


def encoded() -> Rows:
    chinese = text(page(task(title="飞人", prompt="一个人飞过城市")))
    made = text({"id": T, "status": "queued", "title": "飞人"})
    yield Hostile("encodings", "list with a mark", chinese.encode("utf-8-sig"), look=SUCCEEDED, listed=(T,))
    yield Hostile("encodings", "create with a mark", made.encode("utf-8-sig"), create=QUEUED, look=QUEUED)
    for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
        yield Hostile("encodings", f"list in {name}", chinese.encode(name))
        yield Hostile("encodings", f"create in {name}", made.encode(name))
        yield Hostile("encodings", f"refusal in {name}", text(failure("no", "quota_not_enough")).encode(name), 500)
    half = text({"id": T, "status": "queued", "title": "飞"}).encode("utf-16")[:-1]
    yield Hostile("encodings", "half a unit of utf-16", half)
    loose = f'{{"id":"{T}","title":"\\ud83d"}}'
    yield Hostile("encodings", "half a character in utf-16", loose.encode("utf-16"))
    unpaired = f'{{"id":"{T}","title":"\ud83d"}}'.encode("utf-16-le", "surrogatepass")
    yield Hostile("encodings", "unpaired in utf-16", unpaired)
    yield Hostile("encodings", "a mark of utf-16 before utf-8", codecs.BOM_UTF16_LE + made.encode())
    yield Hostile("encodings", "two marks", codecs.BOM_UTF8 * 2 + made.encode())
    yield Hostile("encodings", "a mark alone", codecs.BOM_UTF8)
    yield Hostile(
        "encodings", "a mark in the middle", text({"id": T, "t": "\ufeff"}).encode(), create=QUEUED, look=STATUSLESS
    )
    for name in ("gbk", "big5", "shift_jis"):
        yield Hostile(
            "encodings", f"title in {name}", text({"id": T, "title": "中"}).encode(name), create=QUEUED, look=STATUSLESS
        )
    yield Hostile(
        "encodings",
        "title in latin-1",
        text({"id": T, "title": "Möwe"}).encode("latin-1"),
        create=QUEUED,
        look=STATUSLESS,
    )
    yield Hostile("encodings", "id in latin-1", text({"id": "task_ö"}).encode("latin-1"))
    yield Hostile("encodings", "refusal in gbk", text(failure("余额不足")).encode("gbk"), 403, create="authentication")
    yield Hostile("encodings", "EBCDIC", made.replace("飞人", "").encode("cp037"))
    yield Hostile("encodings", "utf-7", made.encode("utf-7"), create=QUEUED, look=QUEUED)
    texts = {
        "half escaped": b"\\ud83d",
        "halves the wrong way round": b"\\ude00\\ud83d",
        "a pair escaped": b"\\ud83d\\ude00",
        "half raw": b"\xed\xa0\xbd",
        "a pair raw": b"\xed\xa0\xbd\xed\xb8\x80",
        "overlong slash": b"\xc0\xaf",
        "overlong quote": b"\xc0\xa2",
        "overlong NUL": b"\xc0\x80",
        "five bytes": b"\xf8\x88\x80\x80\x80",
        "beyond Unicode": b"\xf4\x90\x80\x80",
        "a lone tail": b"\x80",
        "a lone head": b"\xe4\xb8",
        "NUL": b"\0",
        "NUL escaped": b"\\u0000",
        "line feed": b"\n",
        "escape sequences": b"\x1b[2J\x1b[31m",
        "tab": b"\t",
        "delete": b"\x7f",
        "override": "\u202e".encode(),
        "separators": "\u2028\u2029\x85".encode(),
        "private use": "\ue000\U0010fffe".encode(),
    }
    for name, written in texts.items():
        body = b'{"id":"%s","title":"a%sb"}' % (T.encode(), written)
        yield Hostile("encodings", f"{name} in a title", body, create=QUEUED, look=STATUSLESS)
        yield Hostile("encodings", f"{name} in a message", b'{"message":"a%sb"}' % written, 500)
        yield Hostile(
            "encodings", f"{name} in a code", b'{"error":{"code":"a%sb"}}' % written, 400, create="invalid_request"
        )
        failed = b'{"id":"%s","status":"failed","failure_reason":"a%sb"}' % (T.encode(), written)
        yield Hostile("encodings", f"{name} in a reason", failed, create=Seen(T, "failed"), look=Seen(T, "failed"))
    yield Hostile(
        "encodings",
        "a key that cannot be encoded",
        b'{"id":"%s","\\udfff":1}' % T.encode(),
        create=QUEUED,
        look=STATUSLESS,
    )
    yield Hostile("encodings", "NUL after", made.encode() + b"\0")
    yield Hostile("encodings", "NUL before", b"\0" + made.encode())
    yield Hostile("encodings", "NUL between", b'{"id":\0"%s"}' % T.encode())
    yield Hostile("encodings", "an escape that is none", b'{"id":"%s","t":"\\x41"}' % T.encode())
    yield Hostile("encodings", "an escape cut short", b'{"id":"%s","t":"\\u12"}' % T.encode())


# --- numbers and names that JSON leaves open ---------------------------------------------------------------------


def open_questions() -> Rows:
    numbers = {
        "NaN": None,
        "Infinity": None,
        "-Infinity": None,
        "-0": 0,
        "-0.0": 0,
        "1E400": None,
        "-1e400": None,
        "1e-400": 0,
        "5e-1": 0.5,
        "9007199254740993": 1,
        "1" + "0" * 400: None,
        "0." + "0" * 400 + "1": 0,
    }
    for number in numbers:
        body = f'{{"id":"{T}","status":"running","progress_pct":{number},"width":{number},"created_at":{number}}}'
        shown = number if len(number) < 20 else f"a number of {len(number)} characters"
        yield Hostile("numbers", shown, body.encode(), create=Seen(T, "running"), look=Seen(T, "running"))
    for number in ("nan", "+1", "01", "1.", ".5", "0x10", "1_000", "1e", "--1", "Infinity1", "१"):
        yield Hostile("numbers", f"{number}, which is none", f'{{"id":"{T}","width":{number}}}'.encode())
    for number, named in {"12345": "12345", "1e3": "1000", "7.0": "7"}.items():
        yield Hostile("numbers", f"an id of {number}", f'{{"id":{number}}}'.encode(), create=Seen(named, "queued"))
    for number in ("0", "-5", "1.5", "1e400", "NaN", "9007199254740994"):
        yield Hostile("numbers", f"an id of {number}", f'{{"id":{number}}}'.encode())
    # The last one counts, as in JavaScript, Go and Python: what the gateway's own programs make of it.
    twice = {
        "two ids": (f'{{"id":"{OTHER}","id":"{T}"}}', QUEUED, STATUSLESS),
        "two ids, the last one null": (f'{{"id":"{T}","id":null}}', UNKNOWN, None),
        "two ids, by two names": (f'{{"task_id":"{OTHER}","id":"{T}"}}', QUEUED, STATUSLESS),
        "two statuses": (
            f'{{"id":"{T}","status":"failed","status":"running"}}',
            Seen(T, "running"),
            Seen(T, "running"),
        ),
        "the same twice": (f'{{"id":"{T}","id":"{T}"}}', QUEUED, STATUSLESS),
        "an error, then none": (f'{{"id":"{T}","error":{{"code":"x"}},"error":null}}', QUEUED, STATUSLESS),
        "no error, then one": (f'{{"id":"{T}","error":null,"error":{{"code":"rate_limited"}}}}', UNKNOWN, None),
        "names in another case": (f'{{"ID":"{T}","Status":"running"}}', UNKNOWN, None),
        "an escaped name": (f'{{"\\u0069d":"{T}"}}', QUEUED, STATUSLESS),
        "an empty name": (f'{{"":1,"id":"{T}"}}', QUEUED, STATUSLESS),
        "names of Python's": (f'{{"__class__":"x","__proto__":{{"id":"x"}},"id":"{T}"}}', QUEUED, STATUSLESS),
    }
    for name, (body, create, look) in twice.items():
        yield Hostile("names", name, body.encode(), create=create, look=look)
    both = f'{{"task_responses":[],"task_responses":[{text(TASK)}],"has_more":false}}'
    yield Hostile("names", "two lists", both.encode(), look=SUCCEEDED, listed=(T,))
    same = page(task(status="running"), task())
    yield Hostile("names", "one task twice", raw(same), look=Seen(T, "running"), listed=(T, T))


# --- nearly JSON -------------------------------------------------------------------------------------------------


def nearly() -> Rows:
    made = text({"id": T, "status": "queued"})
    for name, body in {
        "comment before": f"// ok\n{made}",
        "comment within": made.replace(",", ", /* here */"),
        "comment after": f"{made} // ok",
        "comma after": made.replace("}", ",}"),
        "comma after an element": "[1,2,]",
        "single quotes": made.replace('"', "'"),
        "bare names": made.replace('"id"', "id"),
        "JSONP": f"callback({made});",
        "JSONP, guarded": f"/**/cb({made})",
        "a guard": f")]}}',\n{made}",
        "an endless loop": f"for(;;);{made}",
        "two documents": made + made,
        "two documents apart": f"{made} {made}",
        "lines of JSON": f"{made}\n{made}\n",
        "a sequence of JSON": f"\x1e{made}\n",
        "events": f"data: {made}\n\ndata: [DONE]\n\n",
        "events with names": f"event: task\nid: 1\ndata: {made}\n\n",
        "a heartbeat": ": ping\n\n",
        "a JSON text in a JSON text": text(made),
        "Python": f"{{'id': '{T}', 'status': None}}",
        "JavaScript": f'{{id: "{T}", status: undefined}}',
        "YAML": f"id: {T}\nstatus: queued\n",
        "TOML": f'id = "{T}"\n',
        "a form": f"id={T}&status=queued",
        "a trailing brace": f"{made}}}",
        "a missing colon": made.replace(":", "", 1),
        "a prompt of a shell": f"$ curl\n{made}",
        "a warning of PHP": f"<br />\n<b>Warning</b>: foo in <b>/x.php</b> on line <b>1</b><br />\n{made}",
        "a trace of Python": 'Traceback (most recent call last):\n  File "app.py", line 1, in <module>\nKeyError: "id"',
        "a word": "OK",
        "an id": T,
        "an id in quotes": text(T),
        "markdown": f"```json\n{made}\n```",
        "a hint of progress": "> ID: `task_01` 排队中...",
        "smart quotes": made.replace('"', "”"),
        "fullwidth": made.replace("{", "｛").replace("}", "｝"),
        "space that is none": "\u00a0" + made,
        "a form feed": "\f" + made,
    }.items():
        yield Hostile("nearly", name, body.encode())
    answers = {"message": f"{made}"}
    yield Hostile("nearly", "a task within a message", raw(answers))
    yield Hostile("nearly", "spaces around", f"\r\n\t {made} \r\n".encode(), create=QUEUED, look=QUEUED)


# --- something else ----------------------------------------------------------------------------------------------

_XML = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'
THINGS = {
    "XML": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>',
    "XML that grows": _XML,
    "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde",
    "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0" + bytes(range(256)),
    "GIF": b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\x01\0\0\0\0,",
    "WebP": b"RIFF\x1a\0\0\0WEBPVP8L\r\0\0\0/\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "MP4": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(range(256)) * 8,
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "ZIP": b"PK\x03\x04\x14\0\0\0\x08\0",
    "gzip": gzip.compress(raw(TASK), mtime=0),
    "zlib": zlib.compress(raw(TASK)),
    "pickle": b"\x80\x04\x95\x0f\0\0\0\0\0\0\0}\x94\x8c\x02id\x94K\x01s.",
    "protobuf": b"\x0a\x07task_01\x10\x01",
    "MessagePack": b"\x81\xa2id\xa7task_01",
    "CBOR": b"\xa1bid" + b"gtask_01",
    "ELF": b"\x7fELF\x02\x01\x01" + bytes(9),
    "HTTP in HTTP": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    "a TLS alert": b"\x15\x03\x01\0\x02\x02\x28",
    "a frame of HTTP/2": b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0d",
}
PAGES = {
    "doctype": b"<!DOCTYPE HTML><title>x</title>",
    "doctype after a mark": b"\xef\xbb\xbf\r\n<!doctype html>",
    "upper case": b"<HTML><BODY>x</BODY></HTML>",
    "head": b"<head><meta http-equiv=refresh content=0></head>",
    "a redirect in script": b"<html><script>location='/login'</script></html>",
    "the task in a page": b"<html><pre>" + raw({"id": T}) + b"</pre></html>",
}


def other_things() -> Rows:
    for name, body in THINGS.items():
        yield Hostile("things", name, body)
        yield Hostile("things", f"{name} as 500", body, 500, {"content-type": "application/json"})
        yield Hostile("things", f"{name} that calls itself a page", body, 200, {"content-type": "text/html"}, PAGE)
    for name, body in PAGES.items():
        yield Hostile("pages", name, body, create=PAGE, look="endpoint_unavailable")
        yield Hostile("pages", f"{name} that calls itself JSON", body, 200, {"content-type": "application/json"}, PAGE)
    refusals = {
        **dict.fromkeys((400, 409, 410, 413, 418, 451), "invalid_request"),
        **dict.fromkeys((302, 404, 405, 501), "endpoint_unavailable"),
        **dict.fromkeys((401, 403), "authentication"),
        **dict.fromkeys((425, 429), "busy"),
        402: "quota",
    }
    errors = (400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 418, 425, 429, 451, 500, 501, 502, 503, 504)
    for status in (201, 202, 206, 302, 303, *errors, 520, 521, 522, 523, 525, 526, 530):
        create = PAGE if status < 300 else refusals.get(status, UNKNOWN)
        yield Hostile("pages", f"as {status}", NGINX, status, {"content-type": "text/html; charset=gbk"}, create)


# --- content types that lie --------------------------------------------------------------------------------------


_READ_HEADERS = (
    *("x-request-id", "cf-ray", "cf-mitigated", "x-should-retry", "retry-after", "retry-after-ms", "date"),
    *("location", "openai-poll-after-ms", "content-length", "content-encoding"),
)


def mislabelled() -> Rows:
    body = raw(page())
    for label in (
        "text/html",
        "text/html; charset=utf-16",
        "text/plain",
        "text/event-stream",
        "video/mp4",
        "image/png",
        "application/octet-stream",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json; charset=no-such",
        "application/json; charset=" + "x" * 10_000,
        "application/problem+json",
        "json",
        "",
        ";;;=",
        "\x80\xff",
        "text/html, application/json",
    ):
        shown = label if len(label) < 60 and label.isascii() else f"{len(label)} characters"
        headers = {"content-type": label}
        yield Hostile("labels", f"list as {shown or 'nothing'}", body, 200, headers, UNKNOWN, SUCCEEDED, (T,))
        yield Hostile("labels", f"task as {shown or 'nothing'}", raw(TASK), 200, headers, SUCCEEDED, SUCCEEDED)
        yield Hostile("labels", f"empty as {shown or 'nothing'}", b"", 200, headers)
    for name in _READ_HEADERS:
        for kind, value in {
            "long": "9" * 60_000,
            "controls": "\x01\x1b[2J\x7f\x80",
            "empty": "",
            "words": "Mon, 99",
        }.items():
            headers = {name: value}
            yield Hostile("labels", f"{name} of {kind}", raw(TASK), 200, headers, SUCCEEDED, SUCCEEDED)
            yield Hostile("labels", f"{name} of {kind} with 500", b"", 500, headers)


# --- statuses ----------------------------------------------------------------------------------------------------


def statuses() -> Rows:
    refused = {
        **dict.fromkeys(range(400, 500), "invalid_request"),
        **dict.fromkeys((301, 302, 307, 308, 404, 405, 501), "endpoint_unavailable"),
        **dict.fromkeys((401, 403), "authentication"),
        **dict.fromkeys((425, 429), "busy"),
        402: "quota",
        **dict.fromkeys((408, 499), UNKNOWN),
    }
    every = (
        *(100, 101, 102, 103, 199),
        *(200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 250, 299),
        *(300, 301, 302, 303, 304, 305, 306, 307, 308, 310, 399),
        *(400, 406, 407, 408, 410, 411, 412, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 431, 444, 451),
        *(460, 499, 500, 503, 505, 506, 507, 508, 509, 510, 511, 521, 529, 561, 598, 599, 600, 700, 999),
    )
    for status in every:
        create = refused.get(status, UNKNOWN)
        yield Hostile("statuses", f"{status}, empty", b"", status, create=create)
        if 200 <= status < 300:
            yield Hostile("statuses", f"{status} with a task", raw(TASK), status, create=SUCCEEDED, look=SUCCEEDED)
            yield Hostile("statuses", f"{status} with half a task", raw(TASK)[:99], status)
            yield Hostile("statuses", f"{status} with a list", raw(page()), status, look=SUCCEEDED, listed=(T,))
        else:  # a refusal that names a task contradicts itself
            yield Hostile("statuses", f"{status} with a task", raw(TASK), status)


# --- ids ---------------------------------------------------------------------------------------------------------

IDS = {
    "a path": "../../admin/delete",
    "a path upwards": "..",
    "a root": "/etc/passwd",
    "a path of Windows": "C:\\Windows\\win.ini",
    "a URL": "https://evil.example/x?y=z#f",
    "a query": "task_1?limit=1&before=2",
    "a fragment": "task_1#x",
    "escapes of a path": "%2e%2e%2f",
    "a template": "{{7*7}}${jndi:ldap://x}",
    "a shell's": "$(reboot)`id`;rm -rf /",
    "SQL": "'; DROP TABLE submissions; --",
    "markup": "<script>alert(1)</script>",
    "Chinese": "任务一",
    "confusable": "tаsk_01k862djr2era887swgvhxxncn",
    "fullwidth": "ｔａｓｋ＿１",
    "composed otherwise": "task_e\u0301",
    "emoji": "🎬",
    "spaces within": "task 1",
    "512 characters": "t" * 512,
    "a number in a text": "12345",
    "null in a text": "null",
    "a generation's": "gen_01jy8k8garfvavgrj40d62pfna",
    "another format's": f"sora-2:{T}",
    "a format of Python's": "{0.__class__} %s %n",
}
NO_IDS = {
    "10 kB": "t" * 10_240,
    "513 characters": "t" * 513,
    "NUL": "task_\0",
    "line feed": "task_1\nSet-Cookie: a=b",
    "escape": "task_\x1b[2J",
    "delete": "task_\x7f",
    "override": "task_\u202e1",
    "zero width": "task_\u200b1",
    "tag characters": "task_\U000e0041",
    "no character": "task_\ufffd",
    "blank": " \t ",
    "spaces of Unicode": "\u3000\u2003",
    "line separator": "task_\u20281",
}


def ids() -> Rows:
    for name, given in IDS.items():
        yield Hostile("ids", name, raw({"id": given}), create=Seen(given, "queued"))
        yield Hostile("ids", f"{name}, in a list", raw(page(task(id=given))), listed=(given,))
    for name, given in NO_IDS.items():
        yield Hostile("ids", f"{name}, which is none", raw({"id": given}))
        yield Hostile(
            "ids", f"{name}, which is none, in a list", raw(page(task(id=given), TASK)), look=SUCCEEDED, listed=(T,)
        )
    yield Hostile("ids", "spaces around", raw({"id": f" {T}\n"}), create=QUEUED, look=STATUSLESS)
    yield Hostile("ids", "one that is none, and one", raw({"id": "\0", "task_id": T}), create=QUEUED, look=STATUSLESS)
    yield Hostile(
        "ids", "another task's", raw(task(id=OTHER)), create=Seen(OTHER, "succeeded"), look="unreadable_reply"
    )
    yield Hostile("ids", "another task's list", raw(page(task(id=OTHER))), look="unreadable_reply", listed=(OTHER,))
    yield Hostile("ids", "the echo of a request", raw({"request_id": "2026", "trace_id": T}))
    yield Hostile("ids", "in another envelope", raw({"response": {"id": T}}))
    yield Hostile("ids", "an id in the error", raw({"error": {"task_id": T, "code": "rate_limited"}}), 429)


# --- addresses of videos -----------------------------------------------------------------------------------------

NOWHERE = {
    "script": "javascript:alert(document.cookie)",
    "script, spelt oddly": "JaVaScRiPt://cdn.example/%0aalert(1)",
    "file": "file:///etc/passwd",
    "file of Windows": "\\\\server\\share\\x.mp4",
    "data": "data:video/mp4;base64,AAAA",
    "blob": "blob:https://cdn.example/1",
    "FTP": "ftp://cdn.example/1.mp4",
    "gopher": "gopher://cdn.example:6379/_FLUSHALL",
    "no scheme": "//evil.example/1.mp4",
    "no host": "https:///1.mp4",
    "no slashes": "https:evil.example/1.mp4",
    "user and password": "https://gateway.test:sk@evil.example/1.mp4",
    "user": "https://gateway.test@evil.example/1.mp4",
    "port 0": "https://cdn.example:0/1.mp4",
    "port 65536": "https://cdn.example:65536/1.mp4",
    "port -1": "https://cdn.example:-1/1.mp4",
    "port of words": "https://cdn.example:https/1.mp4",
    "zone": "https://[fe80::1%25eth0]/1.mp4",
    "brackets left open": "https://[::1/1.mp4",
    "brackets without an address": "https://[evil]/1.mp4",
    "space": "https://cdn.example/1 .mp4",
    "space in the host": "https://cdn .example/1.mp4",
    "line feed": "https://cdn.example/1.mp4\r\nX-Evil: 1",
    "tab": "ht\ttps://cdn.example/1.mp4",
    "NUL": "https://cdn.example/1.mp4\0.png",
    "backslash": "https://cdn.example\\@evil.example/1.mp4",
    "backslash for a slash": "/\\evil.example/1.mp4",
    "override": "https://cdn.example/\u202e4pm.1",
    "delete": "https://cdn.example/\x7f.mp4",
    "100 kB": "https://cdn.example/" + "a" * 100_000,
    "http elsewhere": "http://cdn.example/1.mp4",
    "an inner path": "vg-assets/1.mp4",
    "empty": "",
    "blank": " ",
    "words": "not ready yet",
    "a percent in the host": "https://cdn%2eexample/1.mp4",
    "a slash from NFKC": "https://gateway.test／.evil.example/1.mp4",
}
SOMEWHERE = {
    "port": "https://cdn.example:8443/1.mp4",
    "upper case": "HTTPS://CDN.EXAMPLE/1.mp4",
    "a path at the gateway": "/media/1.mp4",
    "a path that climbs": "/media/../../../etc/passwd",
    "10 kB": "https://cdn.example/?sig=" + "a" * 10_000,
    "a signature": "https://cdn.example/1.mp4?se=2025-10-12T00%3A00%3A00Z&sig=x",
    "a signature that lies": "https://cdn.example/1.mp4?se=yesterday&Expires=99999999999&X-Amz-Expires=-1",
    "a signature of the year 9999": "https://cdn.example/1.mp4?X-Amz-Date=20991231T235959Z&X-Amz-Expires=9999999999",
    "escapes that are none": "https://cdn.example/%zz%",
    "Chinese": "https://cdn.example/视频.mp4",
    "a fragment": "https://cdn.example/1.mp4#t=1",
    "the gateway over http": "http://gateway.test/1.mp4",
}


def addresses() -> Rows:
    failed = Seen(T, "failed")
    for name, url in NOWHERE.items():
        # whether a create that "succeeded" with such a video is queued or failed is of no account: its id is
        body = raw(page(task(generations=[{"id": "gen_1", "url": url, "encodings": {"source": {"path": url}}}])))
        yield Hostile("addresses", name, body, look=failed, listed=(T,))
    for name, url in SOMEWHERE.items():
        body = raw(page(task(generations=[{"id": "gen_1", "url": url}])))
        yield Hostile("addresses", f"{name}, which is one", body, look=SUCCEEDED, listed=(T,))
        only = raw(task(generations=[{"encodings": {"source": url}}]))
        yield Hostile("addresses", f"{name}, which is one, in a create", only, create=SUCCEEDED, look=SUCCEEDED)


_FAMILIES = (said, cut, deep, huge, typed, encoded, open_questions, nearly, other_things, mislabelled, statuses, ids)
REPLIES: tuple[Hostile, ...] = tuple(chain.from_iterable(family() for family in (*_FAMILIES, addresses)))


# --- what only a socket can say ----------------------------------------------------------------------------------

RUNNING = {"id": T, "status": "running"}
GOOD = raw({**RUNNING, "task_responses": [RUNNING], "has_more": False})
"""A create's answer, a task and a list in one."""


@dataclass(frozen=True)
class Wired:
    """A whole answer as bytes, after which the connection is closed. ``fine``: it is ``GOOD`` in disguise.

    ``refused`` is the code of a create's error where it is a clear refusal.
    """

    name: str
    sent: bytes | Callable[[], bytes]
    fine: bool = False
    refused: str | None = None

    @property
    def content(self) -> bytes:
        return self.sent if isinstance(self.sent, bytes) else self.sent()


def http(*lines: str, body: bytes = GOOD, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1") + body


def sized(*lines: str, body: bytes = GOOD, status: str = "HTTP/1.1 200 OK") -> bytes:
    return http(f"content-length: {len(body)}", *lines, body=body, status=status)


def chunks(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + end


def chunked(body: bytes, *lines: str) -> bytes:
    return http("transfer-encoding: chunked", *lines, body=body)


@cache
def bomb(wbits: int = 31, times: int = 128) -> bytes:
    """So many MiB of spaces."""
    packer = zlib.compressobj(wbits=wbits)
    return b"".join(packer.compress(b" " * MIB) for _ in range(times)) + packer.flush()


def _headers() -> Iterator[Wired]:
    n = len(GOOD)
    yield Wired("sized", sized(), fine=True)
    yield Wired("until it closes", http(), fine=True)
    yield Wired("HTTP/0.9 in version", sized(status="HTTP/0.9 200 OK"), fine=True)
    yield Wired("HTTP/9.9", sized(status="HTTP/9.9 200 OK"), fine=True)
    yield Wired("HTTP/1.0", http(status="HTTP/1.0 200 OK"), fine=True)
    yield Wired("no reason", sized(status="HTTP/1.1 200"), fine=True)
    yield Wired("no reason but a space", sized(status="HTTP/1.1 200 "), fine=True)
    yield Wired("a reason in latin-1", sized(status="HTTP/1.1 200 d\xe9j\xe0 vu"), fine=True)
    yield Wired("a reason of 10 kB", sized(status="HTTP/1.1 200 " + "x" * 10_000), fine=True)
    yield Wired("line feeds alone", sized().replace(b"\r\n", b"\n"), fine=True)
    yield Wired("carriage returns alone", sized().replace(b"\r\n", b"\r"))
    yield Wired("length twice, the same", sized(f"content-length: {n}"), fine=True)
    yield Wired("length twice in one", http(f"content-length: {n}, {n}"), fine=True)
    yield Wired("length twice, another", sized(f"content-length: {n - 1}"))
    yield Wired("length twice in one, another", http(f"content-length: {n}, {n + 1}"))
    yield Wired("length -1", http("content-length: -1"))
    yield Wired("length +1", http(f"content-length: +{n}"))
    yield Wired("length in words", http("content-length: many"))
    yield Wired("length in hexadecimal", http(f"content-length: {n:#x}"))
    yield Wired("length with a fraction", http(f"content-length: {n}.0"))
    yield Wired("length empty", http("content-length: "))
    yield Wired("length of 400 digits", http("content-length: " + "9" * 400))
    yield Wired("length too large", http(f"content-length: {n + 1}"))
    yield Wired("length too small", http(f"content-length: {n - 1}"))
    yield Wired("length 0", http("content-length: 0"))
    yield Wired("length of a terabyte", http("content-length: 1099511627776"))
    yield Wired("length and chunks", chunked(chunks(GOOD), f"content-length: {n}"), fine=True)
    yield Wired("length and chunks that lie", chunked(chunks(GOOD), "content-length: 5"), fine=True)
    yield Wired("length and no chunks", chunked(GOOD, f"content-length: {n}"))
    yield Wired("a value folded", sized("x-long: a\r\n b\r\n\tc"), fine=True)
    yield Wired("a first line folded", sized(status="HTTP/1.1 200 OK\r\n folded: x"))
    yield Wired("no colon", sized("nonsense"))
    yield Wired("a space before the colon", sized("x-a : b"))
    yield Wired("no name", sized(": b"))
    yield Wired("a name in latin-1", sized("x-\xe9: b"))
    yield Wired("a value in latin-1", sized("x-a: \xe9\xff"), fine=True)
    yield Wired("NUL in a name", sized("x-\0: b"))
    yield Wired("NUL in a value", sized("x-a: \0"))
    yield Wired("escape in a value", sized("x-request-id: \x1b[2J"), fine=True)
    yield Wired("escape in a refusal's value", sized("x-request-id: \x1b[2J", status="HTTP/1.1 500 X"))
    yield Wired("a value of 60 kB", sized("x-request-id: " + "r" * 60_000), fine=True)
    yield Wired("a bad line of 60 kB", sized("r" * 60_000))
    yield Wired("a value of 200 kB", sized("x-request-id: " + "r" * 200_000))
    yield Wired("a value of 8 MiB", lambda: sized("x-request-id: " + "r" * 8 * MIB))
    yield Wired("1,000 headers", sized(*(f"x-{each}: y" for each in range(1000))), fine=True)
    yield Wired("100,000 headers", lambda: sized(*(f"x-{each}: y" for each in range(100_000))))
    yield Wired("one header 1,000 times", sized(*["retry-after: 5"] * 1000), fine=True)
    yield Wired("cookies", sized(*(f"set-cookie: a{each}=b; domain=.example" for each in range(100))), fine=True)


def _versions() -> Iterator[Wired]:
    for name, sent in {
        "HTTP/0.9": GOOD,
        "HTTP/2 in version": sized(status="HTTP/2 200 OK"),
        "another protocol": sized(status="RTSP/1.0 200 OK"),
        "a radio": sized(status="ICY 200 OK"),
        "lower case": sized(status="http/1.1 200 ok"),
        "no version": sized(status="200 OK"),
        "no status": sized(status="HTTP/1.1"),
        "a status of words": sized(status="HTTP/1.1 abc OK"),
        "a status of two digits": sized(status="HTTP/1.1 20 OK"),
        "a status of four digits": sized(status="HTTP/1.1 2000 OK"),
        "a negative status": sized(status="HTTP/1.1 -200 OK"),
        "status 000": sized(status="HTTP/1.1 000 OK"),
        "two spaces": sized(status="HTTP/1.1  200 OK"),
        "tabs": sized(status="HTTP/1.1\t200\tOK"),
        "HTTP/2": b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0d\0\x04\0\x01\0\0\0\x05\0\0@\0",
        "HTTP/2's greeting": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "TLS": b"\x15\x03\x01\0\x02\x02\x28",
        "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
        "SMTP": b"220 mail.example ESMTP\r\n",
        "a request": b"POST / HTTP/1.1\r\nhost: x\r\n\r\n",
        "nothing": b"",
        "one byte": b"H",
        "an empty line": b"\r\n",
        "zeros": bytes(100_000),
        "half a first line": b"HTTP/1.1 20",
        "half a header": b"HTTP/1.1 200 OK\r\ncontent-le",
        "no body": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n",
        "a byte order mark": b"\xef\xbb\xbf" + sized(),
    }.items():
        yield Wired(name, sent)


def _statuses_wired() -> Iterator[Wired]:
    for status in (201, 202, 203, 205, 206, 207, 226, 299):
        yield Wired(f"{status}", sized(status=f"HTTP/1.1 {status} X"), fine=True)
    for status in (204, 304):
        yield Wired(f"{status} with a body", http(status=f"HTTP/1.1 {status} X"))
        yield Wired(
            f"{status} with a length", http(f"content-length: {len(GOOD)}", status=f"HTTP/1.1 {status} X", body=b"")
        )
    for status in (300, 303, 399, 408, 500, 502, 599, 600, 999):
        yield Wired(f"{status}, empty", sized(status=f"HTTP/1.1 {status} X", body=b""))
    yield Wired("301, empty", sized(status="HTTP/1.1 301 X", body=b""), refused="endpoint_unavailable")
    for status, code in {
        400: "invalid_request",
        401: "authentication",
        402: "quota",
        429: "busy",
        451: "invalid_request",
    }.items():
        yield Wired(f"{status}, empty", sized(status=f"HTTP/1.1 {status} X", body=b""), refused=code)
    for name, line in {"100": "100 Continue", "102": "102 Processing", "103": "103 Early Hints"}.items():
        yield Wired(f"{name} before", f"HTTP/1.1 {line}\r\n\r\n".encode() + sized(), fine=True)
    yield Wired("a thousand hints", b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n" * 1000 + sized(), fine=True)
    yield Wired("hints and no more", b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n" * 1000)
    yield Wired("100 with a body", http(status="HTTP/1.1 100 Continue") + sized())
    yield Wired("101", sized("upgrade: websocket", "connection: upgrade", status="HTTP/1.1 101 Switching Protocols"))
    yield Wired("199 and no more", sized(status="HTTP/1.1 199 X"))


def _chunked() -> Iterator[Wired]:
    one, two = GOOD[:20], GOOD[20:]
    yield Wired("chunks", chunked(chunks(one, two)), fine=True)
    yield Wired("chunks of one byte", chunked(chunks(*(GOOD[at : at + 1] for at in range(len(GOOD))))), fine=True)
    yield Wired(
        "chunks with trailers", chunked(chunks(GOOD, end=b"0\r\nx-sum: 1\r\ncontent-length: 5\r\n\r\n")), fine=True
    )
    yield Wired("chunks with extensions", chunked(b"%x;a=b\r\n%s\r\n0;c\r\n\r\n" % (len(GOOD), GOOD)), fine=True)
    yield Wired("chunks in capitals", chunked(b"%X\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)), fine=True)
    yield Wired("chunks without an end", chunked(chunks(GOOD, end=b"")))
    yield Wired("chunks without a last line", chunked(chunks(GOOD, end=b"0\r\n")))
    yield Wired("a chunk cut", chunked(b"%x\r\n%s" % (len(GOOD) + 5, GOOD)))
    yield Wired("a chunk longer than it says", chunked(b"5\r\n%s\r\n0\r\n\r\n" % GOOD))
    yield Wired("a chunk of -1", chunked(b"-1\r\n%s\r\n0\r\n\r\n" % GOOD))
    yield Wired("a chunk in words", chunked(b"many\r\n%s\r\n0\r\n\r\n" % GOOD))
    yield Wired("a chunk in 0x", chunked(b"%#x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)))
    yield Wired("a chunk of 30 digits", chunked(b"f" * 30 + b"\r\n" + GOOD))
    yield Wired("a chunk without a size", chunked(b"\r\n" + GOOD))
    yield Wired("an extension of 200 kB", chunked(b"5;" + b"x" * 200_000 + b"\r\n" + GOOD))
    yield Wired("only an end", chunked(b"0\r\n\r\n"))
    yield Wired("chunks that are none", chunked(GOOD))
    yield Wired("chunks twice", http("transfer-encoding: chunked, chunked", body=chunks(chunks(GOOD))))
    yield Wired("a coding before chunks", http("transfer-encoding: gzip, chunked", body=chunks(gzip.compress(GOOD))))
    yield Wired("an unheard-of transfer", http("transfer-encoding: cow"))


def _coded() -> Iterator[Wired]:
    def coded(body: bytes | Callable[[], bytes], coding: str) -> Callable[[], bytes]:
        return lambda: sized(f"content-encoding: {coding}", body=body if isinstance(body, bytes) else body())

    packed = gzip.compress(GOOD, mtime=0)
    yield Wired("gzip", coded(packed, "gzip"), fine=True)
    yield Wired("gzip in capitals", coded(packed, "GZIP"), fine=True)
    yield Wired("deflate", coded(zlib.compress(GOOD), "deflate"), fine=True)
    yield Wired("deflate, which is gzip", coded(packed, "deflate"), fine=True)
    yield Wired("deflate without a head", coded(zlib.compress(GOOD)[2:-4], "deflate"))
    yield Wired("identity", coded(GOOD, "identity"), fine=True)
    yield Wired("gzip that is plain", coded(GOOD, "gzip"))
    yield Wired("gzip of nothing", coded(gzip.compress(b""), "gzip"))
    yield Wired("nothing as gzip", coded(b"", "gzip"))
    yield Wired("gzip cut in its head", coded(packed[:5], "gzip"))
    yield Wired("gzip cut in its middle", coded(packed[: len(packed) // 2], "gzip"))
    yield Wired("gzip with a wrong sum", coded(packed[:-8] + b"\0\0\0\0" + packed[-4:], "gzip"))
    yield Wired("gzip of garbage", coded(packed[:10] + bytes(range(256)), "gzip"))
    yield Wired("gzip and more", coded(packed + b"more", "gzip"), fine=True)
    yield Wired("gzip twice, unsaid", coded(gzip.compress(packed), "gzip"))
    yield Wired("gzip twice", coded(gzip.compress(packed), "gzip, gzip"))
    yield Wired("gzip thirty times", coded(packed, ", ".join(["gzip"] * 30)))
    yield Wired("plain that is gzip", sized(body=packed))
    for coding in ("br", "zstd", "compress", "x-unheard-of", "gzip;q=1", "*", "utf-8", "aws-chunked", "\xff"):
        yield Wired(f"the coding {coding if coding.isascii() else 'of latin-1'}", coded(GOOD, coding))
    yield Wired("zstd in truth", coded(b"\x28\xb5\x2f\xfd\x04\0" + GOOD, "zstd"))
    yield Wired("a bomb of gzip", coded(bomb, "gzip"))
    yield Wired("a bomb of deflate", coded(lambda: bomb(15), "deflate"))
    yield Wired("a bomb in a bomb", coded(lambda: gzip.compress(bomb()), "gzip"))
    yield Wired("a bomb in a bomb, said", coded(lambda: gzip.compress(bomb()), "gzip, gzip"))
    yield Wired("a bomb in chunks", lambda: chunked(chunks(bomb()), "content-encoding: gzip"))
    yield Wired("a bomb until it closes", lambda: http("content-encoding: gzip", body=bomb()))
    yield Wired("a bomb that is plain", lambda: sized(body=b" " * 4 * MIB))
    yield Wired("a plain bomb in chunks", lambda: chunked(chunks(*[b" " * 65536] * 64)))
    yield Wired("one byte above the ceiling", lambda: sized(body=GOOD + b" " * (MIB + 1 - len(GOOD))))
    yield Wired("the ceiling itself", lambda: sized(body=GOOD + b" " * (MIB - len(GOOD))), fine=True)
    yield Wired(
        "the ceiling itself, packed", coded(lambda: gzip.compress(GOOD + b" " * (MIB - len(GOOD))), "gzip"), fine=True
    )


WIRED: tuple[Wired, ...] = tuple(chain(_headers(), _versions(), _statuses_wired(), _chunked(), _coded()))
