"""The gateway without a socket: what a create must say, what looks and lists show, and who is let in."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
import sandbox_desk
from documented import FIELDS, OPEN_ENUMS, WRONG, documented_values, with_value
from sandbox_desk import EXAMPLE, KEY, PATH, SMALL, create, listed, look

from sora_tools.sandbox import World

STORYBOARD = {
    **SMALL,
    "operation": "storyboard",
    "n_frames": 60,
    "actions": [{"time": 0, "description": "a door"}, {"time": 1.5, "description": "it opens"}],
}
TASK_ID = re.compile(r"task_[0-7][0-9a-hjkmnp-tv-z]{25}")

world = sandbox_desk.world


# ---------------------------------------------------------------- create: what is accepted and what is refused


def test_the_page_s_example_is_accepted_and_costs_50_cents(world):
    answer = create(world)
    assert answer.status == 200
    assert answer.json() == {"id": world.tasks[0].task_id, "priority": 1, "rate_limit_and_credit_balance": None}
    assert (world.creates, world.charged) == (1, Decimal("0.50"))


def documented(world, path, value, source="gen_1"):
    """The answer to a request with every documented field, one of them with this value, made of this generation."""
    body = with_value(path, value)
    items = body["inpaint_items"]
    if isinstance(items, list) and items[0].get("url") == "https://images.example/man.png":
        items[0]["url"] = "data:image/png;base64,iVBORw0KGgo="  # the sandbox fetches nothing from elsewhere
    if isinstance(body["sdedit"], dict) and isinstance(body["sdedit"].get("source_generation_id"), str):
        body["sdedit"]["source_generation_id"] = source  # and it knows its own generations alone
    return world.receive("POST", PATH, headers=KEY, body=json.dumps(body).encode())


@pytest.mark.parametrize("path", FIELDS)
def test_each_documented_value_is_accepted(world, clock, path):
    create(world)
    clock.seconds += 6
    source = world.tasks[0].generation_ids[0]
    for value in documented_values(FIELDS[path]):
        if (path, value) == ("sdedit", None):
            continue
        answer = documented(world, path, value, source)
        assert answer.status == 200, answer.body


@pytest.mark.parametrize("path", FIELDS)
def test_what_is_not_documented_is_refused_by_name(world, path):
    field = FIELDS[path]
    wrong = [WRONG[field["type"].split(" | ")[0]]]
    wrong += [field["minimum"] - 1] if field["minimum"] is not None else []
    wrong += [field["maximum"] + 1] if field["maximum"] is not None else []
    wrong += ["other"] if field["enum"] and path not in OPEN_ENUMS else []
    for value in wrong:
        answer = documented(world, path, value)
        assert answer.status == 400, (value, answer.body)
        assert answer.json()["error"]["param"].startswith(path.partition("[")[0].partition(".")[0])
    assert world.creates == 0


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


def test_ids_are_time_ordered_also_within_a_millisecond(world, clock):
    ids = []
    for step in (0, 0, 0.001, -5, 3600):
        clock.seconds += step
        ids += [create(world).json()["id"] for _ in range(3)]
    assert all(TASK_ID.fullmatch(task_id) for task_id in ids)
    assert ids == sorted(set(ids))
    value = 0
    for character in ids[0].removeprefix("task_"):
        value = value * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(character)
    assert value >> 80 == 1_790_000_000_000
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
    created, seen = clock.seconds, []
    for age in (0, 0.5, 1.0, 1.5, 3.75, 5.999, 6.0, 1.2):
        clock.seconds = created + age
        task = look(world, task_id)
        seen.append(
            (task["status"], task["progress_pct"], task["progress_pos_in_queue"], task["estimated_queue_wait_time"])
        )
    assert seen[:5] == [
        ("queued", None, 0, 1),
        ("queued", None, 0, 1),
        ("preprocessing", None, None, None),
        ("running", 0.0, None, None),
        ("running", 0.5, None, None),
    ]
    assert seen[5][0] == "running"
    assert 0.98 < seen[5][1] <= 0.99
    assert seen[6:] == [("succeeded", 1.0, None, None), ("preprocessing", None, None, None)]


def test_a_queue_position_counts_the_tasks_really_ahead(world, clock):
    first, second = create(world).json()["id"], create(world).json()["id"]
    clock.seconds += 0.5
    third = create(world).json()["id"]
    assert [look(world, task)["progress_pos_in_queue"] for task in (first, second, third)] == [0, 1, 2]
    clock.seconds += 0.5
    assert [look(world, task)["progress_pos_in_queue"] for task in (first, second, third)] == [None, None, 0]


def test_speed_divides_the_time(clock):
    world = World(clock=clock, by_id=True, speed=3)
    task_id = create(world).json()["id"]
    clock.seconds += 2
    assert look(world, task_id)["status"] == "succeeded"


def test_a_task_has_every_field_of_the_web_backend(world, clock):
    task_id = create(world, n_variants=2, model="turbo").json()["id"]
    queued = look(world, task_id)
    clock.seconds += 6
    task = look(world, task_id)
    assert set(queued) == set(task)
    assert len(task) == 32
    assert queued["generations"] == []
    assert (task["prompt"], task["model"], task["created_at"]) == ("fly man", "turbo_12", "2026-09-21T14:13:20.000000Z")
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
    answer = World(clock=clock, formats=("backend",)).receive(method, path, headers=KEY)
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
