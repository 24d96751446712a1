"""The relays' formats at the sandbox: `/v1/video/create`, `/v1/video/generations`, and one world behind all formats."""

from __future__ import annotations

import base64
import io
import json
from decimal import Decimal

import httpx
import pytest
import sandbox_desk
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sandbox_desk import KEY, PATH, create, start

from sora_tools.sandbox import World
from sora_tools.sandbox.faults import EVERY
from sora_tools.sandbox.manners import FORMATS

CREATE, QUERY = "/v1/video/create", "/v1/video/query"
GENERATIONS = "/v1/video/generations"
CHAT = "/v1/chat/completions"

world, served, sandbox = sandbox_desk.world, sandbox_desk.served, sandbox_desk.sandbox
http, web = sandbox_desk.http, sandbox_desk.web


def post(world, path, **fields):
    return world.receive("POST", path, headers=KEY, body=json.dumps(fields).encode())


def get(world, path, **query):
    return world.receive("GET", path, headers=KEY, query=query)


def data_url():
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, format="PNG")
    return picture.getvalue(), "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()


# ---------------------------------------------------------------- /v1/video/create and /v1/video/query


def test_unified_goes_from_pending_to_completed(world, clock):
    fields = {"model": "sora-2", "prompt": "fly man", "images": [], "orientation": "portrait", "size": "small"}
    answer = post(world, CREATE, **fields, duration=15, watermark=False, private=True)
    (task,) = world.tasks
    assert answer.json() == {
        "id": task.task_id,
        "status": "pending",
        "enhanced_prompt": "fly man",
        "status_update_time": int(clock.seconds * 1000),
    }
    assert (task.order.width, task.order.height, task.order.n_frames) == (352, 640, 450)
    clock.seconds += 3
    running = get(world, QUERY, id=task.task_id).json()
    detail = running["detail"]
    assert (running["status"], running["video_url"], detail["status"]) == ("pending", None, "pending")
    assert detail["input"] == {name: fields[name] for name in detail["input"]}
    embedded = detail["pending_info"]
    assert (embedded["id"], embedded["status"], embedded["n_frames"]) == (task.task_id, "processing", 450)
    assert 0 < embedded["progress_pct"] < 1
    clock.seconds += 3
    done = get(world, QUERY, task_id=task.task_id).json()
    assert (done["status"], done["width"], done["height"]) == ("completed", 352, 640)
    draft = done["detail"]["draft_info"]
    urls = {done["video_url"], done["detail"]["url"], draft["url"], draft["downloadable_url"]}
    assert len(urls) == 1
    url = httpx.URL(urls.pop())
    assert world.receive("GET", url.path, query=dict(url.params)).media == f"{task.generation_ids[0]}.mp4"


@pytest.mark.parametrize(
    ("fields", "size", "n_frames"),
    [
        ({}, (352, 640), 300),
        ({"orientation": "landscape"}, (640, 352), 300),
        ({"size": "large", "orientation": "landscape", "duration": 25}, (1280, 704), 750),
        ({"aspect_ratio": "16:9", "duration": "10"}, (640, 352), 300),
        ({"aspect_ratio": "9:16"}, (352, 640), 300),
        ({"size": None, "orientation": None, "duration": None, "images": None}, (352, 640), 300),
    ],
)
def test_unified_words_are_sizes_and_lengths(world, fields, size, n_frames):
    post(world, CREATE, prompt="x", **fields)
    order = world.tasks[0].order
    assert ((order.width, order.height), order.n_frames) == (size, n_frames)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"prompt": ""}, "invalid_request"),
        ({"size": "huge"}, "invalid_size"),
        ({"orientation": "up"}, "invalid_request"),
        ({"aspect_ratio": "3:1"}, "invalid_request"),
        ({"duration": 0}, "invalid_request"),
        ({"images": "x"}, "invalid_request"),
        ({"images": [1]}, "invalid_request"),
        ({"model": 1}, "missing_model"),
    ],
)
def test_unified_refuses_as_relays_do(world, fields, code):
    answer = post(world, CREATE, **{"prompt": "x", **fields})
    body = answer.json()
    assert (answer.status, body["code"], body["data"]) == (400, code, None)
    assert next(iter(fields)) in body["message"]
    assert world.creates == 0


@pytest.mark.parametrize(
    ("ending", "status", "reason"),
    [
        ("failed", "failed", "processing_error"),
        ("moderation_input", "failed", "input_moderation"),
        ("cancelled", "failed", "cancelled"),
    ],
)
def test_unified_tells_a_failure_at_the_top_and_inside(world, clock, ending, status, reason):
    world.script("task", ending)
    task_id = create(world).json()["id"]
    clock.seconds += 6
    body = get(world, QUERY, id=task_id).json()
    info = body["detail"]["pending_info"]
    assert (body["status"], body["error"], info["status"], info["failure_reason"]) == (status, reason, "failed", reason)


@pytest.mark.parametrize(
    ("ending", "kind"), [("moderation_output", "sora_content_violation"), ("no_output", "sora_draft")]
)
def test_unified_may_complete_without_a_video(world, clock, ending, kind):
    world.script("task", ending)
    task_id = create(world).json()["id"]
    clock.seconds += 6
    body = get(world, QUERY, id=task_id).json()
    assert (body["status"], body["video_url"], body["detail"]["draft_info"]["kind"]) == ("completed", None, kind)


def test_unified_ids_may_carry_their_model(clock):
    world = World(clock=clock, prefixed_ids=True)
    body = post(world, CREATE, prompt="x").json()
    task_id = world.tasks[0].task_id
    assert body["id"] == f"sora-2:{task_id}"
    assert get(world, QUERY, id=body["id"]).json()["detail"]["id"] == task_id
    assert get(world, QUERY, id=task_id).json()["id"] == body["id"]


@pytest.mark.parametrize("query", [{}, {"id": ""}, {"id": "task_nope"}])
def test_unified_knows_no_task_of_another_name(world, query):
    answer = get(world, QUERY, **query)
    assert (answer.status, answer.json()["code"]) == (400, "task_not_exist")


# ---------------------------------------------------------------- /v1/video/generations

LOOKS = {
    "documented": [
        {"status": "queued"},
        {"status": "in_progress"},
        {"status": "completed", "format": "mp4"},
    ],
    "relay": [
        {"status": "QUEUED", "progress": "0%", "result_url": "", "fail_reason": ""},
        {"status": "IN_PROGRESS", "progress": "33%", "result_url": "", "finish_time": 0},
        {"status": "SUCCESS", "progress": "100%", "fail_reason": ""},
    ],
    "job": [
        {"object": "video.generation.job", "status": "queued", "progress": 0, "seconds": "5"},
        {"status": "in_progress", "progress": 33},
        {"status": "completed", "progress": 100},
    ],
}


def generated(clock, **settings):
    """A world of these settings, and how to create and look in it."""
    world = World(clock=clock, **settings)
    body = post(world, GENERATIONS, model="sora-2", prompt="fly man", size="640x360", duration=5).json()
    name = body.get("task_id") or body["id"]

    def look():
        body = get(world, f"{GENERATIONS}/{name}").json()
        return body.get("data", body)

    return world, body, look


@pytest.mark.parametrize("answer", LOOKS)
def test_generations_has_three_answers(clock, answer):
    world, body, look = generated(clock, generations_answer=answer)
    (task,) = world.tasks
    assert (task.order.width, task.order.height, task.order.n_frames) == (640, 360, 150)
    assert body["status"] == "queued"
    for expected in LOOKS[answer]:
        seen = look()
        assert {name: seen[name] for name in expected} == expected
        clock.seconds += 3
    url = httpx.URL(seen["result_url" if answer == "relay" else "url"])
    assert world.receive("GET", url.path, query=dict(url.params)).media == f"{task.generation_ids[0]}.mp4"


def test_generations_names_its_tasks_in_three_ways(clock):
    for answer, members in (("documented", {"task_id"}), ("relay", {"id", "task_id"}), ("job", {"id"})):
        world, body, _ = generated(clock, generations_answer=answer, by_id=True)
        assert {"id", "task_id"} & set(body) == members
        (task_id,) = {body[name] for name in members}
        assert task_id.startswith("gen_" if answer == "job" else "task_")
        assert get(world, f"{PATH}/{task_id}").json()["id"] == world.tasks[0].task_id


def test_the_documented_answer_describes_its_video(clock):
    world, _, look = generated(clock)
    clock.seconds += 6
    seed = world.tasks[0].seed
    assert look()["metadata"] == {"duration": 5.0, "fps": 30, "width": 640, "height": 360, "seed": seed}


def test_a_relay_s_answer_carries_the_upstream_s(clock):
    world, _, look = generated(clock, generations_answer="relay")
    clock.seconds += 6
    task = look()
    assert task["submit_time"] + 6 == task["finish_time"]
    assert (task["data"]["id"], task["data"]["status"]) == (world.tasks[0].task_id, "completed")


def test_old_builds_put_the_url_where_the_failure_belongs(clock):
    world, _, look = generated(clock, generations_answer="relay", url_in_fail_reason=True)
    assert "result_url" not in look()
    assert look()["fail_reason"] == ""
    clock.seconds += 6
    assert look()["fail_reason"].startswith("http://sandbox.invalid/media/")
    world.script("task", "failed")
    task_id = create(world).json()["id"]
    clock.seconds += 6
    task = get(world, f"{GENERATIONS}/{task_id}").json()["data"]
    assert (task["status"], task["fail_reason"]) == ("FAILURE", "processing_error")


@pytest.mark.parametrize("ending", ["failed", "moderation_output", "cancelled"])
@pytest.mark.parametrize("answer", LOOKS)
def test_generations_says_why_it_failed(clock, answer, ending):
    world = World(clock=clock, generations_answer=answer)
    world.script("task", ending)
    task_id = create(world).json()["id"]
    clock.seconds += 6
    body = get(world, f"{GENERATIONS}/{task_id}").json()
    reason = {"failed": "processing_error", "moderation_output": "output_moderation"}.get(ending, ending)
    if answer == "relay":
        assert (body["data"]["status"], body["data"]["fail_reason"]) == ("FAILURE", reason)
        assert body["data"]["result_url"] == ""
    else:
        assert (body["status"], body["error"]["code"]) == ("cancelled" if ending == "cancelled" else "failed", reason)
        assert "url" not in body


@pytest.mark.parametrize("fields", [{"duration": 4}, {"seconds": "4"}, {"duration": None, "seconds": 4}])
def test_generations_takes_either_word_for_its_length(world, fields):
    post(world, GENERATIONS, model="m", prompt="x", width=320, height=240, **fields)
    order = world.tasks[0].order
    assert (order.n_frames, order.width, order.height) == (120, 320, 240)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": None}, "missing_model"),
        ({"size": "1x"}, "invalid_size"),
        ({"prompt": 3}, "invalid_request"),
        ({"duration": "x"}, "invalid_request"),
    ],
)
def test_generations_refuses_as_relays_do(world, fields, code):
    answer = post(world, GENERATIONS, **{"model": "m", "prompt": "x", **fields})
    assert (answer.status, answer.json()["code"]) == (400, code)
    not_json = world.receive("POST", GENERATIONS, headers=KEY, body=b"{")
    assert not_json.json()["code"] == "invalid_json"
    assert world.creates == 0


def test_generations_knows_no_task_of_another_name(world):
    answer = get(world, f"{GENERATIONS}/task_nope")
    assert (answer.status, answer.json()) == (
        400,
        {"code": "task_not_exist", "message": "task_not_exist", "data": None},
    )


@pytest.mark.parametrize("field", ["image", "image_url"])
def test_a_picture_opens_a_relay_s_video_too(sandbox, http, field):
    red, url = data_url()
    small = {"model": "m", "prompt": "x", "width": 64, "height": 48, "duration": 1}
    http.post(GENERATIONS, json={**small, field: url})
    http.post(GENERATIONS, json={**small, "images": [url]})
    http.post(CREATE, json={"prompt": "x", "duration": 1, "images": [url]})
    assert [task.opening for task in sandbox.world.tasks] == [red] * 3
    task_id = sandbox.world.tasks[2].task_id
    body = http.get(QUERY, params={"id": task_id}).json()
    assert body["detail"]["input"]["images"] == [url]


# ---------------------------------------------------------------- one world

LOOK = {
    "backend": PATH + "/{}",
    "videos": "/v1/videos/{}",
    "unified": QUERY + "?id={}",
    "generations": GENERATIONS + "/{}",
}
SMALL_CREATES = {
    "backend": (PATH, sandbox_desk.SMALL),
    "videos": ("/v1/videos", {"prompt": "fly man", "size": "64x48", "num_frames": 6}),
    "unified": (CREATE, {"prompt": "fly man", "duration": 1}),
    "generations": (GENERATIONS, {"model": "sora-2", "prompt": "fly man", "size": "64x48", "duration": 1}),
}


CHAT_CREATE = {"model": "sora-2", "messages": [{"role": "user", "content": "fly man 64x48 1s"}], "stream": True}


@pytest.mark.parametrize("made", SMALL_CREATES)
def test_a_video_of_one_format_is_seen_through_all_others(sandbox, http, web, made):
    path, body = SMALL_CREATES[made]
    created = http.post(path, json=body).json()
    task_id = sandbox.world.tasks[0].task_id
    assert task_id in created.values()
    videos = set()
    for seen, url in LOOK.items():
        reply = http.get(url.format(task_id)).json()
        if seen == "videos":
            videos.add(http.get(f"/v1/videos/{task_id}/content").content)
            continue
        video_url = reply.get("video_url") or reply.get("url") or reply["generations"][0]["url"]
        videos.add(web.get(video_url).content)
    assert len(videos) == 1
    assert videos.pop()[4:8] == b"ftyp"
    assert sandbox.creates == 1
    assert [request.format for request in sandbox.requests if request.route in {"create", "look"}] == [made, *LOOK]


def test_charges_are_by_the_video_and_not_by_the_format(world):
    for path, fields in (
        (PATH, {**sandbox_desk.EXAMPLE}),
        ("/v1/videos", {"prompt": "x", "size": "854x480", "seconds": "5"}),
        (GENERATIONS, {"model": "m", "prompt": "x", "size": "854x480", "duration": 5}),
    ):
        before = world.charged
        post(world, path, **fields)
        assert world.charged - before == Decimal("0.50")


@pytest.mark.parametrize("made", SMALL_CREATES)
@pytest.mark.parametrize("fault", ["no_id", "cut_json", "reset", "error_500", "failed_task_as_http_error"])
def test_a_fault_befalls_whatever_format_comes_next(world, clock, made, fault):
    path, fields = SMALL_CREATES[made]
    post(world, path, **fields)
    task_id = world.tasks[0].task_id
    url = httpx.URL(LOOK[made].format(task_id))
    world.script("look", fault)
    answer = get(world, url.path, **dict(url.params))
    if fault == "no_id":
        assert task_id not in answer.body.decode()
    elif fault == "cut_json":
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            answer.json()
    elif fault == "reset":
        assert answer.manner == "reset"
    else:
        assert answer.status == (500 if fault == "error_500" else 400)
        assert fault == "error_500" or "failed" in answer.body.decode()
        assert fault == "error_500" or task_id in answer.body.decode()
    assert (world.requests[-1].format, world.requests[-1].fault) == (made, fault)
    if fault != "failed_task_as_http_error":
        world.script("create", fault)
        answer = post(world, path, **fields)
        assert world.creates == (1 if fault == "error_500" else 2)
        assert fault != "no_id" or world.tasks[-1].task_id not in answer.body.decode()


@pytest.mark.parametrize("missing", FORMATS)
def test_a_format_that_is_not_served_is_an_unknown_path(clock, missing):
    world = World(clock=clock, by_id=True, formats=[name for name in FORMATS if name != missing])
    chat = post(world, CHAT, model="sora-2", messages=[{"role": "user", "content": "x"}], stream=True)
    assert chat.status == (404 if missing == "chat" else 200)
    for name, (path, fields) in SMALL_CREATES.items():
        answer = post(world, path, **fields)
        look = httpx.URL(LOOK[name].format("task_nope"))
        looked = get(world, look.path, **dict(look.params))
        if name != missing:
            assert answer.status == 200
            assert "task_not_exist" in looked.body.decode() or "Task not found" in looked.body.decode()
        elif name == "backend":
            assert answer.headers["content-type"] == looked.headers["content-type"] == "text/html; charset=utf-8"
        else:
            assert (answer.status, looked.status) == (404, 404)
            assert answer.json()["error"]["message"] == f"Invalid URL (POST {path})"
    unserved = [request for request in world.requests if request.route == "unknown"]
    assert [(request.format, request.fault) for request in unserved] == [("", None)] * (1 if missing == "chat" else 2)


@pytest.mark.parametrize("path", [*(path for path, _ in SMALL_CREATES.values()), CHAT])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_json_object_is_refused(sandbox, http, path, content):
    assert http.post(path, content=content).status_code == 400
    assert (sandbox.creates, sandbox.requests[-1].route) == (0, "create")


@pytest.mark.parametrize("made", [*SMALL_CREATES, "chat"])
@pytest.mark.parametrize("fault", [name for name, fault in EVERY.items() if "create" in fault.routes])
def test_every_fault_of_a_create_befalls_every_format(clock, made, fault):
    world = World(clock=clock)
    world.script("create", fault)
    path, fields = SMALL_CREATES.get(made) or (CHAT, CHAT_CREATE)
    answer = post(world, path, **fields)
    for step in answer.stream or ():
        clock.seconds += step if isinstance(step, float) else 0
    assert world.creates == int(EVERY[fault].accepts)
    assert (world.requests[-1].format, world.requests[-1].fault) == (made, fault)
    assert world.pending == ()


@pytest.mark.parametrize("seen", LOOK)
@pytest.mark.parametrize("fault", [name for name, fault in EVERY.items() if "look" in fault.routes])
@pytest.mark.parametrize("known", [True, False])
def test_every_fault_of_a_look_befalls_every_format(world, seen, fault, known):
    task_id = create(world).json()["id"] if known else "task_nope"
    world.script("look", fault)
    url = httpx.URL(LOOK[seen].format(task_id))
    get(world, url.path, **dict(url.params))
    assert (world.requests[-1].format, world.requests[-1].fault) == (seen, fault)


SAYINGS = ({}, None, 3, [3], [{"type": "image_url"}], [{"type": "text"}], [{"type": "text", "text": "a\ud800b"}])
STRANGE = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1.5, 10**400, float("nan"), float("inf")),
        *("", " ", "x", "a\ud800b", "9" * 5000, "1e999", "16:9", "99999x99999", "sora-0:0-999p-0s"),
        *([], [None], [[]], [{}], {}, {"image_url": 3}, {"image_url": "ftp://x"}),
        *([{"role": "user", "content": content}] for content in SAYINGS),
    ]
)
FIELDS = st.sampled_from(
    [
        "actions",
        "aspect_ratio",
        "duration",
        "fps",
        "height",
        "image",
        "image_url",
        "images",
        "inpaint_items",
        "input_reference",
        "messages",
        "model",
        "n_frames",
        "negative_prompt",
        "num_frames",
        "orientation",
        "prompt",
        "sdedit",
        "seconds",
        "seed",
        "size",
        "stream",
        "type",
        "width",
    ]
)


@given(
    path=st.sampled_from([path for path, _ in SMALL_CREATES.values()] + [CHAT]),
    good=st.sampled_from([fields for _, fields in SMALL_CREATES.values()] + [CHAT_CREATE]),
    fields=st.dictionaries(FIELDS, STRANGE, max_size=4),
)
def test_no_body_is_too_strange_to_be_answered(path, good, fields):
    world = World(by_id=True)
    body = json.dumps({**good, **fields}).encode()
    world.pictures("POST", path, headers=KEY, body=body)
    answer = world.receive("POST", path, headers=KEY, body=body)
    assert answer.status in {200, 400, 404}
    for seen in LOOK.values() if world.tasks else ():
        url = httpx.URL(seen.format(world.tasks[0].task_id))
        assert get(world, url.path, **dict(url.params)).status == 200


@given(body=st.binary(max_size=80) | st.just(b"--b\r\n\r\nx\r\n--b--"), boundary=st.text(max_size=4))
def test_no_form_is_too_strange_to_be_answered(body, boundary):
    for kind in (f"multipart/form-data; boundary={boundary}", "multipart/form-data; boundary=b"):
        headers = {**KEY, "content-type": kind}
        world = World()
        world.pictures("POST", "/v1/videos", headers=headers, body=b"--b\r\n" + body)
        assert world.receive("POST", "/v1/videos", headers=headers, body=b"--b\r\n" + body).status == 400


def test_a_word_that_no_setting_knows_is_refused():
    for name in ("chat_answer", "chat_failure", "generations_answer", "videos_takes", "videos_sizes", "list_key"):
        with pytest.raises(ValueError, match=f"{name}='soap' was given; it is one of"):
            World(**{name: "soap"})


def test_formats_are_a_collection_of_known_names():
    for wrong in ("videos", ["soap"]):
        with pytest.raises(ValueError, match="backend, videos, unified, generations, chat"):
            World(formats=wrong)


# ---------------------------------------------------------------- what a relay has beside its formats


def test_models_are_listed_to_whoever_has_a_key(http, web, sandbox):
    listing = http.get("/v1/models").json()
    assert listing["object"] == "list"
    assert {"sora-2", "sora_video2", "sora-16:9-480p-5s"} <= {model["id"] for model in listing["data"]}
    assert {model["object"] for model in listing["data"]} == {"model"}
    assert web.get(f"{sandbox.base_url}/v1/models").status_code == 401
    assert [(request.format, request.route) for request in sandbox.requests] == [("", "models")] * 2


def test_a_model_may_be_gone(clock):
    world = World(clock=clock, models=["wan-2"])
    assert [model["id"] for model in get(world, "/v1/models").json()["data"]] == ["wan-2"]


def test_model_lists_and_deletes_go_wrong_on_request_as_any_call_does(world):
    world.script("models", "rate_limit")
    assert get(world, "/v1/models").status == 429
    assert get(world, "/v1/models").status == 200
    task_id = create(world).json()["id"]
    world.script("delete", "conflict")
    assert world.receive("DELETE", f"/v1/videos/{task_id}", headers=KEY).status == 409
    assert get(world, f"/v1/videos/{task_id}").status == 200
    world.script("delete", "reset")
    world.receive("DELETE", f"/v1/videos/{task_id}", headers=KEY)
    assert get(world, f"/v1/videos/{task_id}").status == 404
    with pytest.raises(ValueError, match="unknown fault"):
        world.script("models", "task_not_exist")


def test_the_bill_is_what_the_world_has_charged(clock):
    world = World(clock=clock, credit=12.5)
    billing = "/v1/dashboard/billing"
    assert get(world, f"{billing}/usage").json() == {"object": "list", "total_usage": 0.0}
    create(world)
    assert get(world, f"{billing}/usage").json()["total_usage"] == 50.0
    subscription = get(world, f"{billing}/subscription").json()
    assert (subscription["object"], subscription["hard_limit_usd"]) == ("billing_subscription", 12.5)
    assert world.receive("GET", f"{billing}/usage").status == 401
    assert get(world, f"{billing}/other").status == 404


# ---------------------------------------------------------------- faults of one format


@pytest.mark.parametrize(
    ("fault", "options", "status", "body"),
    [
        ("content_not_ready", {}, 404, {"detail": "Generation is still in-progress"}),
        ("content_not_ready", {"status": 409}, 409, {"detail": "Generation is still in-progress"}),
        ("content_json", {}, 200, "url"),
        ("content_json", {"status": 400, "key": "detail"}, 400, "detail"),
    ],
)
def test_content_may_be_something_else(sandbox, http, web, fault, options, status, body):
    path = f"/v1/videos/{start(http)}/content"
    video = http.get(path).content
    sandbox.script("download", fault, **options)
    reply = http.get(path)
    assert reply.status_code == status
    if isinstance(body, str):
        assert web.get(reply.json()[body]).content == video
    else:
        assert reply.json() == body
    assert http.get(path).content == video


@pytest.mark.parametrize(("options", "host"), [({}, "localhost"), ({"elsewhere": False}, "127.0.0.1")])
def test_content_may_lie_behind_a_redirect_that_needs_no_key(sandbox, http, web, options, host):
    path = f"/v1/videos/{start(http)}/content"
    sandbox.script("download", "content_redirect", times=None, **options)
    reply = http.get(path)
    assert (reply.status_code, httpx.URL(reply.headers["location"]).host) == (302, host)
    assert web.get(reply.headers["location"]).content[4:8] == b"ftyp"


def test_a_delete_may_show_the_video_in_place_of_a_receipt(sandbox, http):
    task_id = start(http)
    sandbox.script("delete", "deleted_video")
    reply = http.delete(f"/v1/videos/{task_id}").json()
    assert reply == {"id": task_id, "object": "video", "status": "deleted"}
    assert http.get(f"/v1/videos/{task_id}").status_code == 404
