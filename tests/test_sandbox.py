"""The sandbox as a client sees it: plain httpx over a real socket, and the world alone under a clock of our own."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer

import av
import httpx
import pytest
from PIL import Image

from sora_tools.sandbox import Sandbox, World
from sora_tools.sandbox.faults import ENDINGS, FAULTS

PATH = "/sora/backend/video_gen"
KEY = {"Authorization": "Bearer anything"}
EXAMPLE = {
    "type": "video_gen",
    "prompt": "fly man",
    "n_variants": 1,
    "n_frames": 150,
    "height": 480,
    "width": 854,
    "style": "natural",
    "inpaint_items": [{"url": ""}],
    "operation": "simple_compose",
}
SMALL = {**EXAMPLE, "width": 64, "height": 48, "n_frames": 6}
STORYBOARD = {
    **SMALL,
    "operation": "storyboard",
    "n_frames": 60,
    "actions": [{"time": 0, "description": "a door"}, {"time": 1.5, "description": "it opens"}],
}
TASK_ID = re.compile(r"task_[0-7][0-9a-hjkmnp-tv-z]{25}")


class Clock:
    def __init__(self, now=1764000000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def world(clock):
    return World(clock=clock, by_id=True)


def create(world, **changes):
    body = json.dumps({**EXAMPLE, **changes}).encode()
    return world.receive("POST", PATH, headers=KEY, body=body)


def look(world, task_id):
    return world.receive("GET", f"{PATH}/{task_id}", headers=KEY).json()


def listed(world, **query):
    return world.receive("GET", PATH, headers=KEY, query=query).json()


@pytest.fixture(scope="module")
def shared():
    with Sandbox(render=False, world=World(by_id=True, duration=0)) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared):
    shared.world.reset()
    return shared


@pytest.fixture(scope="module")
def shared_http(shared):
    with httpx.Client(base_url=shared.base_url, headers=KEY, timeout=10) as client:
        yield client


@pytest.fixture
def http(sandbox, shared_http):
    return shared_http


@pytest.fixture(scope="module")
def web():
    """A client without a key, for what needs none."""
    with httpx.Client(timeout=10) as client:
        yield client


def start(http, **changes):
    return http.post(PATH, json={**SMALL, **changes}).json()["id"]


def video_url(http, **changes):
    return http.get(f"{PATH}/{start(http, **changes)}").json()["generations"][0]["url"]


# ---------------------------------------------------------------- create: what is accepted and what is refused


def test_the_page_s_example_is_accepted_and_costs_50_cents(world):
    answer = create(world)
    assert answer.status == 200
    assert answer.json() == {"id": world.tasks[0].task_id, "priority": 1, "rate_limit_and_credit_balance": None}
    assert (world.creates, world.charged) == (1, Decimal("0.50"))


def test_price_grows_with_seconds_variants_and_pixels(world):
    create(world, n_frames=300, n_variants=2, width=1708, height=960)
    assert world.charged == Decimal("8.00")


REFUSALS = {
    "type": ("type", "image_gen"),
    "type null": ("type", None),
    "prompt number": ("prompt", 7),
    "prompt blank": ("prompt", "  "),
    "prompt null": ("prompt", None),
    "n_variants zero": ("n_variants", 0),
    "n_variants text": ("n_variants", "1"),
    "n_variants too many": ("n_variants", 99),
    "n_frames zero": ("n_frames", 0),
    "n_frames fraction": ("n_frames", 1.5),
    "n_frames true": ("n_frames", True),
    "height zero": ("height", 0),
    "height nan": ("height", float("nan")),
    "width negative": ("width", -854),
    "width huge": ("width", 10**9),
    "width beyond floats": ("width", 10**400),
    "width infinite": ("width", float("inf")),
    "prompt half a surrogate": ("prompt", "a\ud800b"),
    "width list": ("width", [854]),
    "style": ("style", "anime"),
    "operation": ("operation", "recut"),
    "operation list": ("operation", ["remix"]),
    "model number": ("model", 3),
    "inpaint_items null": ("inpaint_items", None),
    "inpaint_items object": ("inpaint_items", {}),
    "actions text": ("actions", "walk"),
    "sdedit text": ("sdedit", "x"),
}


@pytest.mark.parametrize(("field", "value"), REFUSALS.values(), ids=REFUSALS)
def test_a_broken_field_is_refused_by_name(world, field, value):
    answer = create(world, **{field: value})
    error = answer.json()["error"]
    assert (answer.status, error["type"], error["param"]) == (400, "invalid_request_error", field)
    assert f"'{field}'" in error["message"]
    assert world.creates == 0


@pytest.mark.parametrize("field", EXAMPLE)
def test_every_key_of_the_example_is_required(world, field):
    body = json.dumps({key: value for key, value in EXAMPLE.items() if key != field}).encode()
    answer = world.receive("POST", PATH, headers=KEY, body=body)
    error = answer.json()["error"]
    assert (answer.status, error["param"], error["code"]) == (400, field, "missing_required_parameter")


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "video"}, "type"),
        ({"url": "ftp://x/y.png"}, "url"),
        ({"url": 1}, "url"),
        ({"frame_index": "0"}, "frame_index"),
        ({"frame_index": -1}, "frame_index"),
        ({"source_start_frame": "a"}, "source_start_frame"),
        ({"source_end_frame": -2}, "source_end_frame"),
        ({"preset_id": "p"}, "preset_id"),
        ({"generation_id": 5}, "generation_id"),
        ({"upload_media_id": []}, "upload_media_id"),
    ],
)
def test_a_broken_inpaint_item_is_refused_by_name(world, item, param):
    answer = create(world, inpaint_items=[{"url": ""}, item])
    assert (answer.status, answer.json()["error"]["param"]) == (400, f"inpaint_items[1].{param}")


@pytest.mark.parametrize(
    ("action", "param"),
    [
        ({"description": "x"}, "time"),
        ({"time": -1, "description": "x"}, "time"),
        ({"time": 2.01, "description": "x"}, "time"),
        ({"time": "1", "description": "x"}, "time"),
        ({"time": 1}, "description"),
        ({"time": 1, "description": ""}, "description"),
    ],
)
def test_a_broken_action_is_refused_by_name(world, action, param):
    answer = create(world, **{**STORYBOARD, "actions": [action]})
    assert (answer.status, answer.json()["error"]["param"]) == (400, f"actions[0].{param}")


@pytest.mark.parametrize(
    ("sdedit", "param"),
    [
        ({"source_generation_id": "gen_1"}, "sdedit.amount"),
        ({"amount": 0.5, "source_generation_id": "gen_1"}, "sdedit.amount"),
        ({"amount": 9, "source_generation_id": "gen_1"}, "sdedit.amount"),
        ({"amount": 4}, "sdedit.source_generation_id"),
        ({"amount": 4, "source_generation_id": "gen_1", "source_upload_media_id": 1}, "sdedit.source_upload_media_id"),
    ],
)
def test_a_broken_sdedit_is_refused_by_name(world, sdedit, param):
    answer = create(world, sdedit=sdedit)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("actions", [None, []])
def test_storyboard_needs_actions(world, actions):
    answer = create(world, **{**STORYBOARD, "actions": actions})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "actions")


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "turbo"},
        {"model": "wan-2.2"},
        {"model": None, "actions": None, "sdedit": None},
        {"width": 854.0},
        {"inpaint_items": []},
        {"inpaint_items": [{"type": "image", "frame_index": 0, "upload_media_id": "media_01", "preset_id": None}]},
        {"sdedit": {"amount": 1, "source_generation_id": "gen_1", "source_upload_media_id": None}},
        {"operation": "remix"},
        {"operation": "blend"},
        {"a_key_of_tomorrow": 1},
    ],
)
def test_what_the_page_allows_is_accepted(world, changes):
    assert create(world, **changes).status == 200
    assert world.creates == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b"[]", "invalid_type"),
        (b"[" * 100_000, "invalid_json"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(world, body, code):
    answer = world.receive("POST", PATH, headers=KEY, body=body)
    assert (answer.status, answer.json()["error"]["code"]) == (400, code)


def test_too_large_a_body_is_refused_without_reading_on(http, sandbox):
    answer = http.post(PATH, content=b" " * (33 << 20))
    assert (answer.status_code, answer.json()["code"]) == (413, "read_request_body_failed")
    assert sandbox.creates == 0


def test_ids_are_time_ordered_also_within_a_millisecond(world, clock):
    ids = []
    for step in (0, 0, 0.001, -5, 3600):
        clock.now += step
        ids += [create(world).json()["id"] for _ in range(3)]
    assert all(TASK_ID.fullmatch(task_id) for task_id in ids)
    assert ids == sorted(set(ids))
    value = 0
    for character in ids[0].removeprefix("task_"):
        value = value * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(character)
    assert value >> 80 == 1764000000_000
    assert (value >> 76 & 15, value >> 62 & 3) == (7, 2)


def test_more_ids_in_a_millisecond_than_its_counter_holds_still_grow(world):
    ids = [world._ids.new("gen") for _ in range(5000)]
    assert ids == sorted(set(ids))


def test_an_idempotency_key_is_honoured_only_where_the_gateway_says_so(clock):
    for idempotent, tasks in ((False, 2), (True, 1)):
        world = World(clock=clock, idempotent=idempotent)
        headers = {**KEY, "Idempotency-Key": "k-1"}
        ids = {
            world.receive("POST", PATH, headers=headers, body=json.dumps(EXAMPLE).encode()).json()["id"] for _ in "ab"
        }
        assert (len(ids), world.creates) == (tasks, tasks)


# ---------------------------------------------------------------- looking


def test_progress_is_a_function_of_age(world, clock):
    task_id = create(world).json()["id"]
    created, seen = clock.now, []
    for age in (0, 0.5, 1.0, 1.5, 3.75, 5.999, 6.0, 1.2):
        clock.now = created + age
        task = look(world, task_id)
        seen.append(
            (task["status"], task["progress_pct"], task["progress_pos_in_queue"], task["estimated_queue_wait_time"])
        )
    assert seen[:5] == [
        ("queued", None, 3, 1),
        ("queued", None, 2, 1),
        ("preprocessing", None, None, None),
        ("running", 0.0, None, None),
        ("running", 0.5, None, None),
    ]
    assert seen[5][0] == "running"
    assert 0.98 < seen[5][1] <= 0.99
    assert seen[6:] == [("succeeded", 1.0, None, None), ("preprocessing", None, None, None)]


def test_speed_divides_the_time(clock):
    world = World(clock=clock, by_id=True, speed=3)
    task_id = create(world).json()["id"]
    clock.now += 2
    assert look(world, task_id)["status"] == "succeeded"


def test_a_task_has_every_field_of_the_web_backend(world, clock):
    task_id = create(world, n_variants=2, model="turbo").json()["id"]
    queued = look(world, task_id)
    clock.now += 6
    task = look(world, task_id)
    assert set(queued) == set(task)
    assert len(task) == 32
    assert queued["generations"] == []
    assert (task["prompt"], task["model"], task["created_at"]) == ("fly man", "turbo_12", "2025-11-24T16:00:00.000000Z")
    assert task["moderation_result"]["task_id"] == task_id
    first, second = task["generations"]
    assert first["id"].startswith("gen_")
    assert first["id"] < second["id"]
    assert first["seed"] != second["seed"]
    assert first["url"] == first["encodings"]["source"]["path"] != second["url"]
    assert first["encodings"]["source"]["duration_secs"] == 5.0
    assert first["encodings"]["thumbnail"]["path"].startswith("http://sandbox.invalid/media/gen_")


def test_storyboard_reads_back_as_frames_without_a_prompt(world, clock):
    task_id = create(world, **STORYBOARD).json()["id"]
    task = look(world, task_id)
    assert (task["prompt"], task["actions"]) == (None, {"0": "a door", "45": "it opens"})
    as_sent = World(clock=clock, actions_shape="list", by_id=True)
    task = look(as_sent, create(as_sent, **STORYBOARD).json()["id"])
    assert task["actions"] == [{"time": 0.0, "description": "a door"}, {"time": 1.5, "description": "it opens"}]


def test_inpaint_items_read_back_in_the_long_form_and_empty_ones_not_at_all(world):
    task_id = create(world, inpaint_items=[{"url": ""}, {"url": "https://x/y.png", "frame_index": 3}]).json()["id"]
    (item,) = look(world, task_id)["inpaint_items"]
    assert item["upload_media_id"] == task_id.replace("task_", "media_")
    assert (item["type"], item["frame_index"], item["crop_bounds"]) == ("image", 3, None)


def test_the_list_is_newest_first_and_pages_backwards(world):
    ids = [create(world).json()["id"] for _ in range(5)]
    pages, before = [], ""
    while True:
        page = listed(world, limit="2", before=before)
        pages.append([task["id"] for task in page["task_responses"]])
        before = page["last_id"]
        if not page["has_more"]:
            break
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    assert listed(world, before=ids[0]) == {"task_responses": [], "last_id": None, "has_more": False}


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1.5", "²", "9" * 5000])
def test_a_bad_limit_is_refused(world, limit):
    answer = world.receive("GET", PATH, headers=KEY, query={"limit": limit})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "limit")


def test_lists_come_in_the_shapes_gateways_use(clock):
    tasks = World(clock=clock, list_key="tasks", last_id_null=True)
    task_id = create(tasks).json()["id"]
    assert listed(tasks)["tasks"][0]["id"] == task_id
    assert listed(tasks)["last_id"] is None
    wrapped = World(clock=clock, list_key="data")
    task_id = create(wrapped).json()["id"]
    assert listed(wrapped)["data"][0]["payload"]["id"] == task_id == listed(wrapped)["last_id"]


def test_an_unknown_task_is_a_400(world):
    assert look(world, "task_nope") == {"code": "task_not_exist", "message": "task_not_exist", "data": None}


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", f"{PATH}/task_1", 200, "text/html"),
        ("PUT", PATH, 200, "text/html"),
        ("POST", "/backend/video_gen", 200, "text/html"),
        ("GET", "/", 200, "text/html"),
        ("POST", "/v1/videos", 404, "application/json"),
    ],
)
def test_paths_it_does_not_serve_answer_as_one_api_does(clock, method, path, status, kind):
    answer = World(clock=clock).receive(method, path, headers=KEY)
    assert (answer.status, answer.headers["content-type"].split(";")[0]) == (status, kind)


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer ", "Basic abc", "anything"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_without_a_bearer_key_nothing_is_served(world, method, value):
    headers = {} if value is None else {"Authorization": value}
    answer = world.receive(method, PATH, headers=headers, body=json.dumps(EXAMPLE).encode())
    assert answer.status == 401
    assert answer.json()["error"]["message"] == "Missing bearer authentication in header"
    assert (world.creates, world.requests[0].authorized) == (0, False)


def test_only_the_given_keys_are_let_in(clock):
    world = World(clock=clock, keys=["right"])
    refused = world.receive("GET", PATH, headers={"authorization": "Bearer wrong"})
    assert (refused.status, refused.json()["error"]["type"]) == (401, "new_api_error")
    assert world.receive("GET", PATH, headers={"authorization": "bearer right"}).status == 200
    with pytest.raises(TypeError, match="collection"):
        World(keys="right")


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
        task_id = start(http)
        url = url or f"{PATH}/{task_id}"
    if route == "download":
        url = http.get(url).json()["generations"][0]["url"]
    sandbox.script(route, name, **OPTIONS.get(name, {}))

    def send(timeout=10):
        return http.post(url, json=SMALL, timeout=timeout) if route == "create" else http.get(url, timeout=timeout)

    cut_off = {**NOT_HTTP, "cut_stream": httpx.RemoteProtocolError, "lying_length": httpx.RemoteProtocolError}
    if name in cut_off:
        with pytest.raises(cut_off[name]):
            send(timeout=0.2 if name == "hang" else 10)
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
    clock.now += 6
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
    clock.now += 10_000
    again = look(world, task["id"])
    assert (again["status"], again["progress_pct"]) == ("running", task["progress_pct"])


def test_an_unknown_status_stands_where_running_would(world, clock):
    world.script("task", "unknown_status", status="polishing")
    task_id = create(world).json()["id"]
    clock.now += 3
    assert look(world, task_id)["status"] == "polishing"
    clock.now += 3
    assert look(world, task_id)["status"] == "succeeded"


def test_an_invisible_task_appears_later(world, clock):
    world.script("task", "invisible", seconds=4)
    task_id = create(world).json()["id"]
    clock.now += 3.9
    assert look(world, task_id)["code"] == "task_not_exist"
    assert listed(world)["task_responses"] == []
    assert world.task(task_id)["status"] == "running"
    clock.now += 0.2
    assert look(world, task_id)["id"] == listed(world)["last_id"] == task_id


def test_the_first_url_of_an_expired_one_is_stale_and_the_next_is_not(sandbox, http, web):
    sandbox.script("task", "expired_url")
    task_id = start(http)
    assert sandbox.task(task_id)["generations"]
    first, second = (http.get(f"{PATH}/{task_id}").json()["generations"][0]["url"] for _ in range(2))
    assert web.get(first).status_code == 403
    assert web.get(second).status_code == 200


# ---------------------------------------------------------------- media


def test_a_video_is_real_and_exactly_as_ordered(http, web):
    reply = web.get(video_url(http, width=96, height=54, n_frames=9))
    assert reply.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(reply.content)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        assert (stream.width, stream.height, stream.average_rate, frames) == (96, 54, 30, 9)


def test_variants_and_prompts_look_different_and_a_second_download_the_same(http, web):
    task = http.get(f"{PATH}/{start(http, n_variants=2)}").json()
    one, two = (web.get(generation["url"]).content for generation in task["generations"])
    other = web.get(video_url(http, prompt="a bowl of soup")).content
    assert len({one, two, other}) == 3
    assert web.get(task["generations"][0]["url"]).content == one


def test_a_thumbnail_is_a_png(http, web):
    task = http.get(f"{PATH}/{start(http)}").json()
    reply = web.get(task["generations"][0]["encodings"]["thumbnail"]["path"])
    assert reply.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(reply.content)) as picture:
        assert picture.width / picture.height == pytest.approx(64 / 48, rel=0.1)


def test_parts_of_a_video_can_be_asked_for(http, web):
    url = video_url(http)
    whole = web.get(url)
    head = web.head(url)
    size, tag = len(whole.content), whole.headers["etag"]
    assert (head.headers["content-length"], head.content) == (str(size), b"")
    part = web.get(url, headers={"Range": "bytes=100-199", "If-Range": tag})
    assert (part.status_code, part.headers["content-range"]) == (206, f"bytes 100-199/{size}")
    assert part.content == whole.content[100:200]
    assert web.get(url, headers={"Range": f"bytes={size - 5}-"}).content == whole.content[-5:]
    assert web.get(url, headers={"Range": f"bytes={size}-"}).status_code == 416
    changed = web.get(url, headers={"Range": "bytes=100-199", "If-Range": '"older"'})
    assert (changed.status_code, changed.content) == (200, whole.content)


def test_range_can_be_ignored_and_files_can_change_between_parts(sandbox, http, web):
    url = video_url(http)
    tag = web.get(url).headers["etag"]
    sandbox.script("download", "no_range")
    ignored = web.get(url, headers={"Range": "bytes=5-9"})
    assert (ignored.status_code, ignored.headers["accept-ranges"]) == (200, "none")
    sandbox.script("download", "changed", times=2)
    tags = {web.get(url, headers={"Range": "bytes=5-9"}).headers["etag"] for _ in range(2)} | {tag}
    assert len(tags) == 3


def test_broken_downloads_deliver_what_they_say(sandbox, http, web):
    url = video_url(http)
    size = len(web.get(url).content)
    for fault, promised, delivered in (
        ("cut_stream", size, size // 2),
        ("lying_length", size + 4096, size),
        ("truncated", size // 2, size // 2),
    ):
        sandbox.script("download", fault)
        got = 0
        with web.stream("GET", url) as reply:
            assert int(reply.headers["content-length"]) == promised
            try:
                for chunk in reply.iter_raw():
                    got += len(chunk)
            except httpx.RemoteProtocolError:
                assert fault != "truncated"
        assert got == delivered


def test_a_download_may_be_sent_to_another_host(sandbox, http, web):
    url = video_url(http)
    sandbox.script("download", "redirect_other_host", times=None)
    reply = web.get(url, follow_redirects=True)
    assert (reply.status_code, reply.url.host) == (200, "localhost")


def test_urls_run_out_cannot_be_forged_and_are_fresh_with_each_look(clock):
    world = World(clock=clock, by_id=True, url_lifetime=60)
    task_id = create(world).json()["id"]
    clock.now += 6

    def fetch(url):
        return world.receive("GET", url.path, query=dict(url.params))

    old = httpx.URL(look(world, task_id)["generations"][0]["url"])
    assert fetch(old).media == old.path.removeprefix("/media/")
    assert fetch(old.copy_set_param("se", "2999-01-01T00:00:00.000000Z")).status == 403
    assert fetch(old.copy_remove_param("sig")).status == 403
    clock.now += 61
    expired = fetch(old)
    assert (expired.status, expired.headers["content-type"]) == (403, "application/xml")
    assert b"Signature not valid in the specified time frame" in expired.body
    assert fetch(httpx.URL(look(world, task_id)["generations"][0]["url"])).status == 200


# ---------------------------------------------------------------- pictures


def png(colour="red"):
    data = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(data, "PNG")
    return data.getvalue()


def first_pixel(video):
    with av.open(io.BytesIO(video)) as container:
        return next(container.decode(video=0)).to_image().getpixel((2, 2))


def data_url(data):
    return "data:image/png;base64," + base64.b64encode(data).decode()


@pytest.fixture
def picture_host():
    class Host(BaseHTTPRequestHandler):
        def do_GET(self):
            status = {"/away": 302, "/gone": 404}.get(self.path, 200)
            self.send_response(status)
            self.send_header("Location", "http://example.com/x.png")
            self.end_headers()
            self.wfile.write(png() if self.path == "/red.png?v=1" else b"<html>")

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_inpaint_image_opens_the_video(http, picture_host, web):
    plain = first_pixel(web.get(video_url(http)).content)
    for url in (data_url(png()), f"{picture_host}/red.png?v=1"):
        red, green, blue = first_pixel(web.get(video_url(http, inpaint_items=[{"url": ""}, {"url": url}])).content)
        assert red > 150 > max(green, blue), url
        assert (red, green, blue) != plain


@pytest.mark.parametrize("path", ["/away", "/gone", "/page.html"])
def test_an_image_that_is_none_is_refused(sandbox, http, picture_host, path):
    reply = http.post(PATH, json={**SMALL, "inpaint_items": [{"url": picture_host + path}]})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "inpaint_items")
    assert sandbox.creates == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/cat.png",
        "http://example.com/cat.png",
        "http://169.254.169.254/latest",
        "http://127.0.0.1:1/cat.png",
        "data:image/png;base64,%%%",
        "data:image/png,raw",
        "data:image/png;base64,aGVsbG8=",
        "http://[::1/",
    ],
)
def test_images_from_elsewhere_are_refused(sandbox, http, url):
    reply = http.post(PATH, json={**SMALL, "inpaint_items": [{"url": url}]})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "inpaint_items")
    assert sandbox.creates == 0


# ---------------------------------------------------------------- the log and the control routes


def test_the_log_keeps_what_tests_read_and_never_the_key(sandbox, http):
    http.post(PATH, json=SMALL, headers={"Idempotency-Key": "k-1", "X-Secret": "anything"})
    http.get(PATH, params={"limit": 3})
    first, second = sandbox.requests
    assert (first.method, first.path, first.route, first.status, first.fault) == ("POST", PATH, "create", 200, None)
    assert (first.body, first.headers["idempotency-key"], first.authorized) == (SMALL, "k-1", True)
    assert first.task_id == sandbox.world.tasks[0].task_id
    assert (second.route, second.query, second.body, second.task_id) == ("list", {"limit": "3"}, None, None)
    assert first.at <= second.at
    assert "anything" not in repr(sandbox.requests)


def test_other_processes_script_read_and_reset_over_http(sandbox, http):
    script = {"route": "create", "fault": "busy", "times": 1, "options": {"retry_after": 3}}
    assert http.post("/_sandbox/script", json=script).json() == {
        "pending": [{"route": "create", "fault": "busy", "times": 1}]
    }
    assert http.post(PATH, json=SMALL).headers["retry-after"] == "3"
    task_id = start(http)
    state = http.get("/_sandbox/state").json()
    assert (state["accepted"], state["charged"], state["pending"]) == (1, str(sandbox.charged), [])
    assert [request["fault"] for request in state["requests"]] == ["busy", None]
    assert state["tasks"][0]["id"] == task_id
    assert state["tasks"][0]["generations"][0]["url"].startswith(sandbox.base_url)
    http.post("/_sandbox/reset")
    state = http.get("/_sandbox/state").json()
    assert (state["accepted"], state["charged"], state["requests"], state["tasks"]) == (0, "0", [], [])


@pytest.mark.parametrize(
    "body", ["{", "[]", "{}", '{"route":"create","fault":"no"}', '{"route":"create","fault":1,"x":2}']
)
def test_bad_control_requests_are_told_why(http, body):
    reply = http.post("/_sandbox/script", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]


def test_a_sandbox_knows_nothing_of_the_rest_of_the_package():
    code = "import sora_tools.sandbox, sys; print(*(m for m in sys.modules if m.startswith('sora_tools.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.split(".")[1] for name in loaded} == {"sandbox"}
    assert "sora_tools.sandbox.render" not in loaded


def test_a_task_can_be_read_beside_the_wire(sandbox, http):
    task_id = start(http)
    assert sandbox.task(task_id)["generations"][0]["url"].startswith(sandbox.base_url)
    with pytest.raises(KeyError):
        sandbox.task("task_nope")


# ---------------------------------------------------------------- starting and stopping


def test_it_stops_at_once_though_requests_hang():
    outcomes = []

    def wait(url):
        try:
            httpx.get(url + PATH, headers=KEY, timeout=20)
        except httpx.HTTPError as exc:
            outcomes.append(type(exc))

    with Sandbox(render=False) as sandbox:
        sandbox.script("list", "hang", times=None)
        threads = [threading.Thread(target=wait, args=(sandbox.base_url,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        while len(sandbox.requests) < 5:
            time.sleep(0.01)  # the requests have to be there before we stop
        begun = time.monotonic()
    assert time.monotonic() - begun < 1.5
    for thread in threads:
        thread.join()
    assert outcomes == [httpx.RemoteProtocolError] * 5


def test_it_stops_at_once_though_a_long_video_renders_and_its_folder_goes_with_it():
    with Sandbox() as sandbox, httpx.Client(base_url=sandbox.base_url, headers=KEY) as http:
        start(http, width=1920, height=1080, n_frames=1800)
        (running,) = [sandbox._running]
        begun = time.monotonic()
    assert time.monotonic() - begun < 2
    assert not running._studio._directory.exists()
    with pytest.raises(RuntimeError, match="not started"):
        _ = sandbox.base_url
    assert sandbox.creates == 1


def test_it_can_be_started_again_and_keeps_a_folder_it_was_given(tmp_path):
    sandbox = Sandbox(directory=tmp_path / "videos", render=False, world=World(duration=0))
    for round_ in (1, 2):
        with sandbox, httpx.Client(base_url=sandbox.base_url, headers=KEY) as http:
            start(http)
            tasks = http.get(PATH).json()["task_responses"]
            assert len(tasks) == round_
            assert httpx.get(tasks[-1]["generations"][0]["url"]).status_code == 200
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == 1


def test_only_this_machine_is_served_unless_told_otherwise():
    for host in ("0.0.0.0", "192.0.2.1", "example.com"):
        with pytest.raises(ValueError, match="allow_remote"):
            Sandbox(host=host)
    with Sandbox(host="0.0.0.0", allow_remote=True) as sandbox:
        assert sandbox.base_url.startswith("http://127.0.0.1:")
        assert httpx.get(sandbox.base_url).status_code == 200


def test_a_world_brings_its_own_settings():
    with pytest.raises(ValueError, match="World"):
        Sandbox(world=World(), speed=2)
    with pytest.raises(ValueError, match="speed"):
        World(speed=0)


def test_a_taken_port_is_an_error(sandbox):
    with pytest.raises(OSError, match="in use"):
        Sandbox(port=httpx.URL(sandbox.base_url).port).start()


def test_serve_runs_until_it_is_told_to_stop():
    code = "from sora_tools.sandbox import serve; serve(port=0, announce=lambda s: print(s.base_url, flush=True))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/_sandbox/state").json()["accepted"] == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0


# ---------------------------------------------------------------- under load


async def test_a_thousand_lists_at_once_are_all_answered(sandbox):
    host, port = sandbox.base_url.removeprefix("http://").split(":")
    request = f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer x\r\n\r\n".encode()
    connections = await asyncio.gather(*(asyncio.open_connection(host, port) for _ in range(1000)))
    for _ in range(2):  # the second time on connections that were left idle
        for _, writer in connections:
            writer.write(request)
        heads = await asyncio.gather(*(reader.readuntil(b'"has_more":false}') for reader, _ in connections))
        assert {head.split(b"\r\n")[0] for head in heads} == {b"HTTP/1.1 200 OK"}
    for _, writer in connections:
        writer.close()
        await writer.wait_closed()
    assert len(sandbox.requests) == 2000


def test_rendering_holds_the_task_and_nothing_else():
    with (
        Sandbox(world=World(duration=0, by_id=True)) as sandbox,
        httpx.Client(base_url=sandbox.base_url, headers=KEY) as http,
    ):
        task_id = start(http, width=854, height=480, n_frames=60)
        first = http.get(f"{PATH}/{task_id}").json()
        assert (first["status"], first["progress_pct"]) == ("running", 0.99)
        delays = []
        while True:
            begun = time.perf_counter()
            task = http.get(f"{PATH}/{task_id}").json()
            delays.append(time.perf_counter() - begun)
            if task["status"] != "running":
                break
            time.sleep(0.01)  # the render takes its own time, in another process
        assert task["status"] == "succeeded"
        video = httpx.get(task["generations"][0]["url"]).content
        assert task["generations"][0]["encodings"]["source"]["size"] == len(video)
        assert sorted(delays)[len(delays) // 2] < 0.1


def test_a_video_that_cannot_be_made_fails_its_task(caplog):
    with (
        Sandbox(world=World(duration=0, by_id=True)) as sandbox,
        httpx.Client(base_url=sandbox.base_url, headers=KEY) as http,
    ):
        broken = data_url(b"\x89PNG but not really")
        task_id = start(http, inpaint_items=[{"url": broken}])
        while (task := http.get(f"{PATH}/{task_id}").json())["status"] == "running":
            time.sleep(0.01)  # another process finds out
        assert (task["status"], task["failure_reason"], task["generations"]) == ("failed", "processing_error", [])
    assert "could not be rendered" in caplog.text


def test_it_stops_at_once_though_a_first_download_renders():
    outcomes = []
    with Sandbox(render=False, world=World(duration=0)) as sandbox:
        with httpx.Client(base_url=sandbox.base_url, headers=KEY) as http:
            task_id = start(http, width=1920, height=1080, n_frames=1800)
        url = sandbox.task(task_id)["generations"][0]["url"]
        thread = threading.Thread(target=lambda: outcomes.append(httpx.get(url, timeout=20).status_code))
        thread.start()
        while not any(request.route == "download" for request in sandbox.requests):
            time.sleep(0.01)  # the request has to be there before we stop
        begun = time.monotonic()
    assert time.monotonic() - begun < 2
    thread.join()
    assert outcomes == [500]


def test_a_studio_whose_worker_died_goes_on():
    with (
        Sandbox(world=World(duration=0, by_id=True)) as sandbox,
        httpx.Client(base_url=sandbox.base_url, headers=KEY) as http,
    ):

        def finished():
            task_id = start(http)
            while (task := http.get(f"{PATH}/{task_id}").json())["status"] == "running":
                time.sleep(0.01)  # another process renders
            return task["status"]

        assert finished() == "succeeded"
        for process in sandbox._running._studio._processes:
            process.kill()
            process.wait()
        assert finished() == "succeeded"
