"""What each answer of a gateway means: which error, what is known of the money, and whether to try again.

Bodies are those of one-api and new-api gateways, of the Sora web backend, and of the proxies in front of them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sora_tools import errors
from sora_tools.errors import (
    AuthenticationError,
    BusyError,
    EndpointUnavailableError,
    InvalidRequestError,
    LostReplyError,
    QuotaError,
    SoraError,
    TaskNotFoundError,
    UnreadableReplyError,
)
from sora_tools.wire import QUOTED, Call, Reply, any_json, opened, poll_after, retry_after, typeid_time, unreadable

INDEX = b'<!doctype html><html><head><title>One API</title></head><body><div id="root"></div></body></html>'
CHALLENGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>_cf_chl_opt</body></html>"
BLOCKED = b"<html><head><title>Attention Required! | Cloudflare</title></head></html>"
NGINX = b"<html><head><title>502 Bad Gateway</title></head><body><center>nginx</center></body></html>"


def refusal(status: int, body: Any = b"", route: str = "create", **headers: str) -> SoraError:
    """The error an answer is read as."""
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    reply = Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)
    with pytest.raises(SoraError) as caught:
        opened(reply, route)  # type: ignore[arg-type]  # tables hold plain text
    return caught.value


def error(message: str = "", code: Any = None, kind: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


# --- what is sent again ------------------------------------------------------------------------------------------

REFUSALS = {
    # Nothing was done, and it may be later.
    "rate": (429, error("slow down"), BusyError, "no", True),
    "rate, empty": (429, b"", BusyError, "no", True),
    "rate, saturated": (429, error("当前分组上游负载已饱和，请稍后再试"), BusyError, "no", True),
    "rate, per user": (429, error("您已达到请求数限制：1分钟内最多请求3次"), BusyError, "no", True),
    "rate, page": (429, b"<html>slow down</html>", BusyError, "no", True),
    "rate, daily": (429, {"type": "rate_limit_exhausted"}, BusyError, "no", True),
    "rate, code on 400": (400, error("no", "rate_limit_exceeded"), BusyError, "no", True),
    "rate, code in 200": (200, error("no", "rate_limit_exceeded"), BusyError, "no", True),
    "concurrency": (429, error("You already have 3", "too_many_concurrent_tasks"), BusyError, "no", True),
    "concurrency, token": (503, error("", "token_concurrency_limit_reached"), BusyError, "no", True),
    "heavy load": (500, error("under heavy load", "heavy_load"), BusyError, "no", True),
    "overloaded": (529, error("", None, "overloaded_error"), BusyError, "no", True),
    "queue full": (503, {"code": "queue_full", "message": "full"}, BusyError, "no", True),
    "too early": (425, b"", BusyError, "no", True),
    # In development, in the gateway's own words.
    "route": (404, error("Invalid URL (POST /v1/x)", ""), EndpointUnavailableError, "no", True),
    "route, page": (404, INDEX, EndpointUnavailableError, "no", True),
    "method": (405, b"", EndpointUnavailableError, "no", True),
    "unimplemented": (501, error("API not implemented", "api_not_implemented"), EndpointUnavailableError, "no", True),
    "platform": (
        501,
        {"code": "not_implemented", "message": "not_implemented:54", "data": None},
        EndpointUnavailableError,
        "no",
        True,
    ),
    "redirect": (301, b"", EndpointUnavailableError, "no", True),
    "no channel": (
        503,
        error("分组 vip 下模型 sora 无可用渠道（distributor） (request id: 2026)", "model_not_found"),
        EndpointUnavailableError,
        "no",
        True,
    ),
    "no channel, older": (
        503,
        error("当前分组 vip 下对于模型 sora 无可用渠道", None, "one_api_error"),
        EndpointUnavailableError,
        "no",
        True,
    ),
    "no channel, English": (
        503,
        error("No available channel for model sora under group vip (distributor)"),
        EndpointUnavailableError,
        "no",
        True,
    ),
    "model gone": (
        400,
        error("The model `sora-2` does not exist or you do not have access to it."),
        EndpointUnavailableError,
        "no",
        True,
    ),
    "paused": (500, {"msg": "This interface is temporarily paused"}, EndpointUnavailableError, "no", True),
    "paused in 200": (
        200,
        {"code": 500, "msg": "This interface is temporarily paused"},
        EndpointUnavailableError,
        "no",
        True,
    ),
    "coming soon": (503, error("Coming soon."), EndpointUnavailableError, "no", True),
    "in development": (500, error("该接口正在开发中，敬请期待"), EndpointUnavailableError, "no", True),
    "not yet": (400, error("This endpoint is not yet implemented"), EndpointUnavailableError, "no", True),
    # Nothing was done, and never will be.
    "bad request": (400, error("width must be positive", "invalid_request"), InvalidRequestError, "no", False),
    "bad JSON": (400, {"code": "invalid_json", "message": "x", "data": None}, InvalidRequestError, "no", False),
    "detail": (400, {"detail": "Invalid model: x"}, InvalidRequestError, "no", False),
    "description": (400, {"description": "bad", "type": "upstream_error", "code": 4}, InvalidRequestError, "no", False),
    "upstream's own": (400, {"code": "fail_to_fetch_task", "message": "no"}, InvalidRequestError, "no", False),
    "moderation": (400, error("violates our content policy"), InvalidRequestError, "no", False),
    "conflict": (409, b"", InvalidRequestError, "no", False),
    "too large": (413, {"code": "read_request_body_failed"}, InvalidRequestError, "no", False),
    "media type": (415, b"", InvalidRequestError, "no", False),
    "unprocessable": (422, {"detail": [{"loc": ["width"]}]}, InvalidRequestError, "no", False),
    "teapot": (418, b"", InvalidRequestError, "no", False),
    "no key": (401, error("Missing bearer authentication in header"), AuthenticationError, "no", False),
    "bad key": (401, error("无效的令牌 (request id: 2026)", "", "new_api_error"), AuthenticationError, "no", False),
    "bad key, detail": (401, {"detail": "Invalid API key"}, AuthenticationError, "no", False),
    "expired": (401, error("expired", "token_expired"), AuthenticationError, "no", False),
    "expired in 200": (200, {"code": "invalid_api_key", "msg": "x"}, AuthenticationError, "no", False),
    "forbidden": (403, {"code": 0, "msg": "forbidden", "sn": "1"}, AuthenticationError, "no", False),
    "country": (400, error("", "unsupported_country_code"), AuthenticationError, "no", False),
    "payment": (402, b"", QuotaError, "no", False),
    "quota": (403, error("用户额度不足, 剩余额度: 0", "insufficient_user_quota"), QuotaError, "no", False),
    "quota, old": (403, {"code": "quota_not_enough", "message": "x", "data": None}, QuotaError, "no", False),
    "quota, pre-consumed": (403, error("", "pre_consume_token_quota_failed"), QuotaError, "no", False),
    "quota, token": (401, error("令牌 3（#7）额度已用尽"), QuotaError, "no", False),
    "quota as 429": (429, error("You exceeded your current quota", "insufficient_quota"), QuotaError, "no", False),
    "quota as 429, in words": (429, error("You exceeded your current quota, see billing"), QuotaError, "no", False),
    "quota in 200": (200, {"code": 40003, "msg": "余额不足"}, QuotaError, "no", False),
    # Who knows.
    "failed": (500, error("internal"), LostReplyError, "unknown", True),
    "panic": (500, error("Panic detected, error: nil", None, "new_api_panic"), LostReplyError, "unknown", True),
    "upstream unreachable": (500, {"code": "do_request_failed", "message": "x"}, LostReplyError, "unknown", True),
    "channel lookup": (500, {"code": "get_channel_failed", "message": "x"}, LostReplyError, "unknown", True),
    "bad gateway": (502, NGINX, LostReplyError, "unknown", True),
    "bare 503": (503, b"", LostReplyError, "unknown", True),
    "gateway timeout": (504, b"", LostReplyError, "unknown", True),
    "timeout": (408, b"", LostReplyError, "unknown", True),
    "unknown host": (520, b"", LostReplyError, "unknown", True),
    "host timeout": (524, b"", LostReplyError, "unknown", True),
    "odd": (599, b"", LostReplyError, "unknown", True),
    "challenge": (403, CHALLENGE, LostReplyError, "unknown", True),
    "challenge as 429": (429, CHALLENGE, LostReplyError, "unknown", True),
    "challenge as 200": (200, CHALLENGE, LostReplyError, "unknown", True),
    "block": (403, BLOCKED, LostReplyError, "unknown", True),
    "unknown code": (200, {"code": 5001, "msg": "?"}, LostReplyError, "unknown", True),
    "no success": (200, {"success": False, "message": "?"}, LostReplyError, "unknown", True),
    "error in 200": (200, {"error": "?"}, LostReplyError, "unknown", True),
    "page": (200, INDEX, EndpointUnavailableError, "unknown", True),
    "empty": (200, b"", UnreadableReplyError, "unknown", True),
    "cut": (200, b'{"id": "task_01', UnreadableReplyError, "unknown", True),
    "text": (200, b"OK", UnreadableReplyError, "unknown", True),
    "no content": (204, b"", UnreadableReplyError, "unknown", True),
}


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS)
def test_what_an_answer_to_a_create_means(answer):
    status, body, kind, charged, retryable = answer
    found = refusal(status, body)
    assert (type(found), found.charged, found.retryable) == (kind, charged, retryable)
    assert found.http_status == status


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS)
def test_reading_means_the_same_and_costs_nothing(answer):
    status, body, kind, _, retryable = answer
    for route in ("look", "list"):
        found = refusal(status, body, route)
        assert (type(found), found.charged, found.retryable) == (kind, "no", retryable)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"code": "task_not_exist", "message": "task_not_exist", "data": None}),
        (404, error("Task not found", None, "invalid_request_error")),
        (404, {"error": {"message": "Not found"}}),
        (404, b""),
    ],
)
def test_a_task_nobody_knows(status, body):
    assert type(refusal(status, body, "look")) is TaskNotFoundError
    assert type(refusal(status, body, "create")) in (InvalidRequestError, EndpointUnavailableError)


@pytest.mark.parametrize("headers", [{"retry_after": "5"}, {"retry_after": "0"}, {"retry_after_ms": "1500"}])
def test_a_503_that_says_when_is_busy(headers):
    found = refusal(503, **headers)
    assert (type(found), found.charged) == (BusyError, "no")
    assert found.retry_after == retry_after({name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("status", [500, 502, 504, 408])
def test_only_a_503_is_believed_for_saying_when(status):
    assert refusal(status, retry_after="5").charged == "unknown"


def test_an_early_request_is_sent_twice_at_most():
    found = refusal(425)
    assert isinstance(found, BusyError)
    assert found.most_sends == 2


def test_a_challenge_is_told_by_its_header():
    assert type(refusal(403, b"{}", cf_mitigated="challenge")) is LostReplyError


def test_a_redirect_names_where_to():
    assert "https://www.example/sora" in refusal(307, location="https://www.example/sora").message


# --- the last word on trying again -------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "body"), [(429, b""), (500, b""), (503, b""), (200, b""), (501, b"")])
def test_the_gateway_may_forbid_trying_again(status, body):
    assert refusal(status, body).retryable
    assert not refusal(status, body, x_should_retry="false").retryable


@pytest.mark.parametrize("status", [500, 502, 503])
def test_it_cannot_make_an_unknown_fate_known(status):
    assert refusal(status, x_should_retry="true").charged == "unknown"


def test_a_refusal_that_names_a_task_proves_nothing():
    found = refusal(200, {"id": "task_01", **error("You already have 3", "too_many_concurrent_tasks")})
    assert (type(found), found.charged, found.task_id) == (BusyError, "unknown", "task_01")
    assert refusal(200, {"id": "task_01", **error("x", "rate_limited")}, "look").charged == "no"


# --- a gateway that quotes the prompt ----------------------------------------------------------------------------

PROMPTS = [
    "coming soon",
    "Coming soon: a trailer",
    "the model is suspended over water",
    "insufficient credit",
    "额度不足",
    "即将上线",
    "the model does not exist",
    "no available channel for the boat, the ring is not found",
    "分组 无可用渠道",
    "heavy_load rate_limit_exceeded quota_not_enough model_not_found",
    "just a moment of peace",
    "you exceeded your current quota",
]
QUOTES = [
    'Failed to render "{}"',
    "Error while rendering {}",
    "render failed: {}",
    "The model failed for prompt '{}'",
    "model error: {} not found",
    "分组 default 下模型 sora 任务失败: {}",
    "{}: generation failed",
    "{} could not be rendered",
]


@pytest.mark.parametrize("quote", QUOTES)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_quoted_prompt_cannot_settle_the_fate_of_a_create(prompt, quote):
    said = quote.format(prompt)
    for status in (500, 502, 503, 504, 408):
        for body in (error(said), {"code": "do_request_failed", "message": said, "data": None}, {"detail": said}):
            found = refusal(status, body)
            assert (type(found), found.charged) == (LostReplyError, "unknown")


@pytest.mark.parametrize("quote", [quote for quote in QUOTES if not quote.startswith("{}")])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_nor_in_an_envelope(prompt, quote):
    assert refusal(200, {"success": False, "message": quote.format(prompt)}).charged == "unknown"


def test_nor_does_it_look_like_a_bot_check():
    found = refusal(400, error('"just a moment" is too short'))
    assert (type(found), found.charged) == (InvalidRequestError, "no")


# --- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (error("one"), "one"),
        ({"code": "x", "message": "two", "data": None}, "two"),
        ({"success": False, "message": "three"}, "three"),
        ({"code": 0, "msg": "four", "sn": "1"}, "four"),
        ({"detail": "five"}, "five"),
        ({"error": "six"}, "six"),
        ({"error": {"detail": "seven"}}, "seven"),
        ({"err": "eight"}, "eight"),
        ({"error_msg": "nine"}, "nine"),
        ({"description": "ten"}, "ten"),
        (b"eleven \n in\ttext", "eleven in text"),
        ({"error": {"message": None}, "message": "twelve"}, "twelve"),
        ({"message": "half \ud83d"}, "half ?"),
    ],
)
def test_every_envelope_is_quoted(body, said):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert refusal(500, body).message == f"The gateway failed (HTTP 500): {said}"


def test_a_page_is_not_quoted():
    assert refusal(502, NGINX).message == "The gateway failed (HTTP 502)"


def test_words_are_cut():
    said = refusal(500, error("x" * 10_000)).message.removeprefix("The gateway failed (HTTP 500): ")
    assert (len(said), said[-1]) == (QUOTED, "…")
    assert len(refusal(500, b"y" * 10_000).message) < 300
    assert len(refusal(200, b"z" * 10_000).message) < 300


def test_an_error_knows_the_request():
    assert refusal(500, x_oneapi_request_id="2026", cf_ray="ray").request_id == "2026"
    assert refusal(500).request_id is None


@pytest.mark.parametrize("body", [error("sora is off", "model_not_found"), error("No available channel")])
def test_a_missing_model_says_what_became_of_sora(body):
    assert "Name a model this gateway serves" in refusal(503, body).hint


def test_an_unreadable_answer():
    found = unreadable(Reply(200, {}, b'{"odd": 1}'), "create", "No task in it", task_id="task_01")
    assert (type(found), found.charged, found.task_id) == (UnreadableReplyError, "unknown", "task_01")
    assert found.message == 'No task in it (HTTP 200): {"odd": 1}'


# --- results -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {"id": "task_01", "priority": None},
        {"code": "success", "message": "", "data": {"task_id": "task_01"}},
        {"code": 0, "data": None},
        {"code": 200, "msg": "ok"},
        {"id": "task_01", "status": "failed", "error": {"message": "x"}},
        {"id": "task_01", "error": None},
        {"code": 7, "id": "task_01"},
        {"code": 7, "data": {"id": "task_01"}},
        {"success": True},
        {},
        [],
        None,
        "text",
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "text/html", ""])
def test_a_result_is_a_result_whatever_its_content_type(value, content_type):
    assert opened(Reply(200, {"content-type": content_type}, json.dumps(value).encode()), "create") == value


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"\xef\xbb\xbf{}", {}),
        (b'{"progress": NaN, "eta": -Infinity}', {"progress": None, "eta": None}),
        (b'"\\ud83d\\ude00 \\ud83d"', "😀 ?"),
        (b"<html>", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b"1" * 5000, None),
    ],
)
def test_json_of_any_reply(body, value):
    assert any_json(Reply(500, {}, body)) == value


@pytest.mark.parametrize("body", [b"<html>", b" \n<!DOCTYPE html>", b"\xef\xbb\xbf<head>", b"hello"])
def test_a_page_is_told_by_its_start_or_its_type(body):
    headers = {"content-type": "Text/HTML; charset=utf-8"} if body == b"hello" else {}
    with pytest.raises(EndpointUnavailableError):
        opened(Reply(200, headers, body), "create")


def test_only_a_create_is_paid():
    calls = [Call(route, "GET", "/", lambda _: None) for route in ("create", "look", "list", "download")]
    assert [call.paid for call in calls] == [True, False, False, False]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ENVELOPES = JSON | st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ["error", "code", "message", "msg", "detail", "success", "type", "data", "id", "status", "err"], JSON
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    status=st.integers(200, 599),
    body=ENVELOPES.map(json.dumps).map(str.encode) | st.binary(max_size=40),
    headers=st.dictionaries(st.sampled_from(["retry-after", "content-type", "x-should-retry"]), st.text(max_size=12)),
    route=st.sampled_from(["create", "look", "list", "download"]),
)
def test_no_answer_breaks_the_reader(status, body, headers, route):
    try:
        opened(Reply(status, headers, body), route)
    except SoraError as found:
        sent_again = found.retryable and found.charged == "no"
        plain = type(found) in (BusyError, EndpointUnavailableError)
        assert route != "create" or plain or not sent_again, "only a gateway's own words send a create again"


# --- when to come back -------------------------------------------------------------------------------------------

NOW = datetime(2026, 9, 29, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("0", 0.0),
        ("121", 121.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("999999999", 999999999.0),
        ("Tue, 29 Sep 2026 12:00:30 GMT", 30.0),
        ("Tuesday, 29-Sep-26 12:00:30 GMT", 30.0),
        ("Tue Sep 29 12:00:30 2026", 30.0),
        ("Tue, 29 Sep 2026 14:00:30 +0200", 30.0),
        ("Tue, 29 Sep 2026 11:00:00 GMT", 0.0),
        ("", None),
        ("-10", None),
        ("+5", None),
        ("inf", None),
        ("nan", None),
        ("1e3", None),
        ("²", None),
        ("٣", None),
        ("3, 5", None),
        ("soon", None),
        ("9" * 400, None),
        ("Tue", None),
        ("Tue, 29 Sep 99999999 12:00:30 GMT", None),
        ("Tue, 31 Feb 2026 12:00:30 GMT", None),
        ("Tue, 29 Sep 2026 25:61:00 GMT", None),
        ("Zun, 29 Sep 2026 12:00:30 GMT", None),
        ("2026-09-29T12:00:30Z", None),
    ],
)
def test_retry_after(given, seconds):
    assert retry_after({"retry-after": given}, NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "-1"}, None),
        ({"openai-poll-after-ms": "2500", "retry-after": "9"}, 2.5),
        ({"openai-poll-after-ms": "inf", "retry-after": "9"}, 9.0),
    ],
)
def test_check_10_poll_after(headers, seconds):
    assert poll_after(headers) == seconds


@given(st.text(max_size=40) | st.from_regex(r"(Mon|Sun), \d{1,9} (Jan|Feb) \d{1,9} [\d:]{0,9} [+-]?\w{0,5}"))
@settings(max_examples=300, deadline=None)
def test_no_header_breaks_the_parser(given_text):
    found = retry_after({"retry-after": given_text, "retry-after-ms": given_text})
    assert found is None or 0 <= found < float("inf")


# --- ids that tell the time --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_id", "iso"),
    [
        ("task_01k862djr2era887swgvhxxncn", "2025-10-22T13:41:00.290000+00:00"),
        ("task_01jeywrd39fesagkc5bcdm5ynd", "2024-12-13T02:14:56.873000+00:00"),
    ],
)
def test_a_typeid_tells_the_time(task_id, iso):
    found = typeid_time(task_id)
    assert found is not None
    assert found.isoformat() == iso


@pytest.mark.parametrize(
    "task_id",
    [
        "",
        "task_",
        "task_01",
        "task_" + "0" * 26,
        "task_7" + "z" * 25,
        "task_" + "u" * 26,
        "task_" + "a" * 32,
        "task_01k862djr2era887swgvhxxncn\n",
    ],
)
def test_other_ids_do_not(task_id):
    assert typeid_time(task_id) is None


# --- errors ------------------------------------------------------------------------------------------------------


def test_the_tree_at_the_top_of_errors_is_the_tree():
    kinds = {kind.__name__: kind for kind in SoraError.__subclasses__()}
    assert errors.__doc__ is not None
    lines = [line.split() for line in errors.__doc__.splitlines() if "──" in line]
    assert {words[1]: words[2] for words in lines} == {name: kind.code for name, kind in kinds.items()}
