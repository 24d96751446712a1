"""What goes wrong on request: faults on requests, seen over a real socket, and tasks that end without a video."""

from __future__ import annotations

import json
import time

import httpx
import pytest
import sandbox_desk
from sandbox_desk import EXAMPLE, KEY, PATH, SMALL, create, listed, look, start

from sora_tools.sandbox.faults import ENDINGS, FAULTS

TINY = {"width": 16, "height": 16, "n_frames": 1}

world, served, sandbox = sandbox_desk.world, sandbox_desk.served, sandbox_desk.sandbox
http, web = sandbox_desk.http, sandbox_desk.web


# ---------------------------------------------------------------- scripted faults on requests

NOT_HTTP = {
    "hang": httpx.ReadTimeout,
    "reset": httpx.ReadError,
    "close": httpx.RemoteProtocolError,
    "garbage": httpx.RemoteProtocolError,
    "cut_reply": httpx.RemoteProtocolError,
}
SEEN = {
    "slow": (200, '"id"'),
    "rate_limit": (429, "请求数限制"),
    "concurrency": (429, "too_many_concurrent_tasks"),
    "empty_429": (429, ""),
    "rate_limit_exhausted": (429, '"rate_limit_exhausted"'),
    "busy": (503, "busy"),
    "heavy_load": (503, "heavy_load"),
    "overloaded": (503, "负载已饱和"),
    "queue_full": (503, "queue_full"),
    "too_early": (425, "too_early"),
    "not_found": (404, "Invalid URL"),
    "method_not_allowed": (405, "405"),
    "not_implemented": (501, "api_not_implemented"),
    "redirect": (301, ""),
    "redirect_307": (307, ""),
    "redirect_308": (308, ""),
    "redirect_other_origin": (307, ""),
    "redirect_other_host": (302, ""),
    "no_channel": (503, "无可用渠道"),
    "paused": (500, "This interface is temporarily paused"),
    "html_200": (200, "<html>"),
    "empty_200": (200, ""),
    "empty_object": (200, "{}"),
    "cut_json": (200, "task_"),
    "no_id": (200, "priority"),
    "text_plain": (200, '"id"'),
    "error_200": (200, '"error"'),
    "error_500": (500, "do_request_failed"),
    "bad_gateway": (502, "502 Bad Gateway"),
    "unavailable": (503, ""),
    "gateway_timeout": (504, "504"),
    "request_timeout": (408, "timeout"),
    "cloudflare_5xx": (520, "520"),
    "cloudflare_challenge": (403, "_cf_chl_opt"),
    "unknown_envelope": (500, '"sn"'),
    "bad_request": (400, "invalid_request"),
    "unauthorized": (401, "无效的令牌"),
    "payment_required": (402, "insufficient_balance"),
    "forbidden": (403, '"msg"'),
    "quota": (403, "insufficient_user_quota"),
    "quota_429": (429, "insufficient_quota"),
    "conflict": (409, "conflict"),
    "too_large": (413, "read_request_body_failed"),
    "unsupported_media_type": (415, "error"),
    "unprocessable": (422, "detail"),
    "teapot": (418, "teapot"),
    "moderation": (400, "content_policy_violation"),
    "status": (500, ""),
    "task_not_exist": (400, "task_not_exist"),
    "not_found_task": (404, "Task not found"),
    "failed_task_as_http_error": (400, '"failed"'),
    "expired": (403, "AuthenticationFailed"),
    "gone": (410, ""),
    "truncated": (200, ""),
    "no_range": (200, ""),
    "changed": (200, ""),
}
STARTED_ALL_THE_SAME = set(NOT_HTTP) | {"slow", "empty_200", "empty_object", "cut_json", "no_id", "text_plain"}
OPTIONS = {"slow": {"seconds": 0.05}, "hang": {"seconds": 0.4}}


@pytest.mark.parametrize(
    ("route", "name"), [(route, name) for name, fault in FAULTS.items() for route in sorted(fault.routes)]
)
def test_a_fault_shows_what_it_says_and_then_is_over(sandbox, http, route, name):
    url = {"create": PATH, "list": PATH}.get(route)
    if route != "create":
        task_id = start(http, **TINY)
        url = url or f"{PATH}/{task_id}"
    if route == "download":
        url = http.get(url).json()["generations"][0]["url"]
    sandbox.script(route, name, **OPTIONS.get(name, {}))

    def send(timeout=10):
        return http.post(url, json=SMALL, timeout=timeout) if route == "create" else http.get(url, timeout=timeout)

    cut_off = {**NOT_HTTP, "cut_stream": httpx.RemoteProtocolError, "lying_length": httpx.RemoteProtocolError}
    if name in cut_off:
        with pytest.raises(cut_off[name]):
            send(httpx.Timeout(10, read=0.05) if name == "hang" else 10)
    else:
        reply = send()
        status, text = SEEN[name]
        assert reply.status_code == status
        assert route == "download" or (text in reply.text if text else reply.text == "" or name in {"no_id", "changed"})
    logged = sandbox.requests[-1]
    assert (logged.route, logged.fault) == (route, name)
    assert sandbox.creates == (1 if route != "create" else int(name in STARTED_ALL_THE_SAME))
    assert send().status_code == 200
    assert sandbox.requests[-1].fault is None


def test_every_fault_is_described_by_this_file():
    assert set(SEEN) | set(NOT_HTTP) | {"cut_stream", "lying_length"} == set(FAULTS)


@pytest.mark.parametrize("accept", [True, False])
@pytest.mark.parametrize("name", ["reset", "bad_gateway", "cut_json", "html_200"])
def test_accept_says_whether_the_task_was_started(world, name, accept):
    world.script("create", name, accept=accept)
    create(world)
    assert world.creates == int(accept)
    assert (world.requests[0].task_id is not None) == accept


def test_a_fault_accepts_no_create_that_the_gateway_would_refuse(world):
    world.script("create", "reset", times=2)
    create(world, width=0)
    world.receive("POST", PATH, body=json.dumps(EXAMPLE).encode())
    assert world.creates == 0


def test_scripts_are_used_up_in_order_and_cleared(world):
    world.script("create", "bad_gateway", times=2)
    world.script("create", "busy", times=None, retry_after=7, headers={"X-Should-Retry": "false"})
    assert world.pending == (("create", "bad_gateway", 2), ("create", "busy", None))
    answers = [create(world) for _ in range(4)]
    assert [answer.status for answer in answers] == [502, 502, 503, 503]
    assert (answers[3].headers["retry-after"], answers[3].headers["x-should-retry"]) == ("7", "false")
    assert listed(world)["task_responses"] == []
    world.clear()
    assert create(world).status == 200


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (("upload", "hang"), "create, list, look, download, task"),
        (("create", "explode"), "bad_gateway"),
        (("create", "task_not_exist"), "bad_gateway"),
        (("task", "hang"), "moderation_output"),
        (("list", "expired"), "html_200"),
    ],
)
def test_unknown_scripts_name_the_known(world, script, says):
    with pytest.raises(ValueError, match=says):
        world.script(*script)


def test_unknown_options_and_times_are_refused(world):
    with pytest.raises(ValueError, match="allowed are accept, headers, retry_after"):
        world.script("create", "busy", after=3)
    for times in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="times"):
            world.script("create", "busy", times=times)
    assert world.pending == ()


@pytest.mark.parametrize(
    ("body", "kind"),
    [({"a": 1}, "application/json"), ("<html>", "text/html"), ("hello", "text/plain"), (b"\x00", "text/plain")],
)
def test_status_sends_anything(world, body, kind):
    world.script("list", "status", status=299, body=body, headers={"X-A": "b"})
    answer = world.receive("GET", PATH, headers=KEY)
    assert (answer.status, answer.headers["x-a"]) == (299, "b")
    assert answer.headers["content-type"].startswith(kind)
    world.script("list", "status", body="{}", content_type="application/problem+json")
    assert world.receive("GET", PATH, headers=KEY).headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["redirect_307", "redirect_308"])
def test_a_followed_redirect_arrives(sandbox, http, name):
    sandbox.script("create", name, times=None)
    reply = http.post(PATH, json=SMALL, follow_redirects=True)
    assert (reply.status_code, sandbox.creates) == (200, 1)
    assert reply.url == f"{sandbox.base_url}{PATH}?redirected=1"


def test_the_log_shows_whether_a_redirect_carried_the_key_to_another_origin(sandbox, http):
    sandbox.script("list", "redirect_other_origin", times=None)
    reply = http.get(PATH, follow_redirects=True)
    assert [request.authorized for request in sandbox.requests] == [True, False]
    assert (reply.status_code, reply.url.host) == (401, "localhost")


def test_hang_lasts_as_long_as_it_says(sandbox, http):
    sandbox.script("list", "hang", seconds=0.1)
    begun = time.monotonic()
    with pytest.raises(httpx.RemoteProtocolError):
        http.get(PATH)
    assert 0.09 < time.monotonic() - begun < 2


def test_retry_after_is_sent_where_it_is_asked_for(world):
    world.script("create", "rate_limit", retry_after="Fri, 31 Dec 1999 23:59:59 GMT")
    assert create(world).headers["retry-after"] == "Fri, 31 Dec 1999 23:59:59 GMT"
    world.script("create", "rate_limit")
    assert "retry-after" not in create(world).headers


def test_a_failed_task_may_come_as_an_http_error(world, clock):
    task_id = create(world).json()["id"]
    world.script("look", "failed_task_as_http_error", status=500, reason="no luck")
    answer = world.receive("GET", f"{PATH}/{task_id}", headers=KEY)
    body = answer.json()
    assert (answer.status, body["id"], body["status"], body["failure_reason"]) == (500, task_id, "failed", "no luck")


# ---------------------------------------------------------------- scripted endings


def ended(world, clock, ending, **options):
    world.script("task", ending, **options)
    task_id = create(world).json()["id"]
    clock.seconds += 6
    return look(world, task_id)


def test_every_ending_is_described_by_this_file():
    assert set(ENDINGS) == {
        "cancelled", "expired_url", "failed", "invisible", "moderation_input", "moderation_output", "no_output",
        "stuck", "unknown_status",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ending", "status", "reason"),
    [
        ("moderation_input", "failed", "input_moderation"),
        ("failed", "failed", "processing_error"),
        ("cancelled", "cancelled", None),
        ("stuck", "running", None),
        ("moderation_output", "succeeded", None),
        ("no_output", "succeeded", None),
    ],
)
def test_tasks_that_end_without_a_video(world, clock, ending, status, reason):
    task = ended(world, clock, ending)
    assert (task["status"], task["failure_reason"], task["generations"]) == (status, reason, [])
    moderated = ending.startswith("moderation")
    assert task["moderation_result"]["type"] == ("terminal" if moderated else "passed")
    assert task["moderation_result"]["is_output_rejection"] == (ending == "moderation_output")
    assert task["num_unsafe_generations"] == int(ending == "moderation_output")
    assert look(world, create(world).json()["id"])["status"] == "queued"


def test_a_stuck_task_stays_stuck(world, clock):
    task = ended(world, clock, "stuck")
    clock.seconds += 10_000
    again = look(world, task["id"])
    assert (again["status"], again["progress_pct"]) == ("running", task["progress_pct"])


def test_an_unknown_status_stands_where_running_would(world, clock):
    world.script("task", "unknown_status", status="polishing")
    task_id = create(world).json()["id"]
    clock.seconds += 3
    assert look(world, task_id)["status"] == "polishing"
    clock.seconds += 3
    assert look(world, task_id)["status"] == "succeeded"


def test_an_invisible_task_appears_later(world, clock):
    world.script("task", "invisible", seconds=4)
    task_id = create(world).json()["id"]
    clock.seconds += 3.9
    assert look(world, task_id)["code"] == "task_not_exist"
    assert listed(world)["task_responses"] == []
    assert world.task(task_id)["status"] == "running"
    clock.seconds += 0.2
    assert look(world, task_id)["id"] == listed(world)["last_id"] == task_id


def test_the_first_url_of_an_expired_one_is_stale_and_the_next_is_not(sandbox, http, web):
    sandbox.script("task", "expired_url")
    task_id = start(http)
    assert sandbox.task(task_id)["generations"]
    first, second = (http.get(f"{PATH}/{task_id}").json()["generations"][0]["url"] for _ in range(2))
    assert web.get(first).status_code == 403
    assert web.get(second).status_code == 200
