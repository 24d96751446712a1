"""OpenAI's format at the sandbox: `/v1/videos` over a real socket, with JSON and with forms."""

from __future__ import annotations

import base64
import io

import av
import pytest
import sandbox_desk
from PIL import Image
from sandbox_desk import KEY, PATH, SMALL, create, start

from sora_tools.sandbox import World

VIDEOS = "/v1/videos"
TINY = {"prompt": "fly man", "size": "64x48", "num_frames": 6}

world, served, sandbox = sandbox_desk.world, sandbox_desk.served, sandbox_desk.sandbox
http, web = sandbox_desk.http, sandbox_desk.web


def form(fields, **files):
    """The same fields as a multipart form."""
    return {"files": {**{name: (None, str(value)) for name, value in fields.items()}, **files}}


def made(http, **changes):
    return http.post(VIDEOS, json={**TINY, **changes}).json()["id"]


def asked(world, method, path, body=b"", **query):
    return world.receive(method, path, headers=KEY, query=query, body=body)


def png(colour):
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(picture, format="PNG")
    return picture.getvalue()


# ---------------------------------------------------------------- create


def test_a_create_is_one_charged_task_and_its_answer_a_queued_video(sandbox, http):
    video = http.post(VIDEOS, json={"prompt": "fly man", "seconds": "8", "size": "1280x720"}).json()
    (task,) = sandbox.world.tasks
    assert video == {
        "id": task.task_id,
        "object": "video",
        "model": "sora-2",
        "status": "queued",
        "progress": 0,
        "created_at": int(task.created_at),
        "completed_at": None,
        "expires_at": None,
        "prompt": "fly man",
        "seconds": "8",
        "size": "1280x720",
        "remixed_from_video_id": None,
        "error": None,
    }
    assert (task.order.n_frames, task.order.width, task.order.height) == (240, 1280, 720)
    assert sandbox.charged == task.charge > 0
    logged = sandbox.requests[-1]
    assert (logged.format, logged.route, logged.task_id) == ("videos", "create", task.task_id)


@pytest.mark.parametrize(
    ("fields", "seconds", "size", "n_frames"),
    [
        ({}, "4", "720x1280", 120),
        ({"seconds": 12}, "12", "720x1280", 360),
        ({"seconds": "4", "width": 832, "height": 480}, "4", "832x480", 120),
        ({"num_frames": 81, "fps": 27}, "3", "720x1280", 90),
        ({"num_frames": 60, "seed": 7, "negative_prompt": "fog"}, "2", "720x1280", 60),
    ],
)
@pytest.mark.parametrize("kind", ["json", "form"])
def test_json_and_forms_ask_for_the_same(sandbox, http, kind, fields, seconds, size, n_frames):
    fields = {"prompt": "fly man", **fields}
    video = http.post(VIDEOS, **({"json": fields} if kind == "json" else form(fields))).json()
    assert (video["seconds"], video["size"]) == (seconds, size)
    assert sandbox.world.tasks[0].order.n_frames == n_frames
    logged = sandbox.requests[-1].body
    assert {name: str(value) for name, value in logged.items()} == {name: str(value) for name, value in fields.items()}


def test_a_seed_is_the_video_s(sandbox, http):
    task_id = made(http, seed=7)
    assert http.get(f"{PATH}/{task_id}").json()["generations"][0]["seed"] == 7


BROKEN = {
    "prompt": {"prompt": None},
    "prompt blank": {"prompt": " "},
    "seconds": {"seconds": "soon"},
    "seconds too many": {"seconds": "61"},
    "seconds none": {"seconds": "0"},
    "size": {"size": "large"},
    "size huge": {"size": "99999x1"},
    "width": {"width": 0},
    "num_frames": {"num_frames": 1.5},
    "fps": {"fps": 0},
    "seed": {"seed": -1},
    "input_reference": {"input_reference": "https://images.example/man.png"},
    "input_reference empty": {"input_reference": {}},
    "model": {"model": 3},
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_field_is_refused_by_name_in_openai_s_envelope(sandbox, http, case):
    reply = http.post(VIDEOS, json={**TINY, **BROKEN[case]})
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"] == case.split()[0]
    assert sandbox.creates == 0


def test_a_string_for_a_picture_is_refused_in_openai_s_words(http):
    error = http.post(VIDEOS, json={**TINY, "input_reference": "x"}).json()["error"]
    assert error["message"] == "Invalid type for 'input_reference': expected a file, but got a string instead."
    assert error["code"] == "invalid_type"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"prompt=x", "multipart/form-data"),
        (b"prompt=x", "multipart/form-data; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n', "multipart/form-data; boundary=b"),
    ],
)
def test_a_body_that_is_neither_json_nor_a_whole_form_is_refused(sandbox, http, content, kind):
    reply = http.post(VIDEOS, content=content, headers={"Content-Type": kind})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "body")
    assert sandbox.creates == 0


@pytest.mark.parametrize("way", ["file", "object", "member"])
def test_a_picture_opens_the_video_however_it_comes(sandbox, http, way):
    red = png("red")
    data_url = "data:image/png;base64," + base64.b64encode(red).decode()
    reply = {
        "file": lambda: http.post(VIDEOS, **form(TINY, input_reference=("man.png", red, "image/png"))),
        "object": lambda: http.post(VIDEOS, json={**TINY, "input_reference": {"image_url": data_url}}),
        "member": lambda: http.post(VIDEOS, **form({**TINY, "input_reference[image_url]": data_url})),
    }[way]()
    assert sandbox.world.tasks[0].opening == red
    video = http.get(f"{VIDEOS}/{reply.json()['id']}/content").content
    with av.open(io.BytesIO(video)) as container:
        first = next(container.decode(video=0)).to_image().getpixel((32, 24))
    assert (first[0] > 200, max(first[1:]) < 60) == (True, True)


def test_a_file_that_is_no_picture_is_refused(sandbox, http):
    reply = http.post(VIDEOS, **form(TINY, input_reference=("man.png", b"hello", "image/png")))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "input_reference")
    assert sandbox.creates == 0
    assert sandbox.requests[-1].body["input_reference"] == {"filename": "man.png", "bytes": 5}


def test_servers_that_take_one_kind_of_body_refuse_the_other(clock):
    body = b'{"prompt": "x"}'
    forms = World(clock=clock, videos_takes="multipart")
    assert asked(forms, "POST", VIDEOS, body).json()["error"]["code"] == "invalid_multipart_form"
    texts = World(clock=clock, videos_takes="json")
    assert asked(texts, "POST", VIDEOS, body).status == 200
    headers = {**KEY, "Content-Type": "multipart/form-data; boundary=b"}
    assert texts.receive("POST", VIDEOS, headers=headers, body=b"--b--").json()["error"]["code"] == "invalid_json"
    assert (forms.creates, texts.creates) == (0, 1)


def test_a_server_may_make_openai_s_sizes_and_lengths_alone(clock):
    world = World(clock=clock, videos_sizes="openai")
    for body, param in (
        (b'{"prompt": "x", "size": "854x480"}', "size"),
        (b'{"prompt": "x", "seconds": "5"}', "seconds"),
        (b'{"prompt": "x", "num_frames": 150}', "seconds"),
    ):
        answer = asked(world, "POST", VIDEOS, body)
        assert (answer.status, answer.json()["error"]["param"]) == (400, param)
    assert asked(world, "POST", VIDEOS, b'{"prompt": "x", "size": "1792x1024", "seconds": "12"}').status == 200


# ---------------------------------------------------------------- look


def test_a_video_goes_from_queued_to_completed(world, clock):
    task_id = create(world).json()["id"]
    seen = []
    for _ in range(8):
        answer = asked(world, "GET", f"{VIDEOS}/{task_id}")
        video = answer.json()
        seen.append((video["status"], video["progress"]))
        assert ("openai-poll-after-ms" in answer.headers) == (video["status"] != "completed")
        clock.seconds += 1
    assert [status for status, _ in seen] == ["queued", *["in_progress"] * 5, "completed", "completed"]
    progress = [progress for _, progress in seen]
    assert progress == sorted(progress)
    assert (progress[0], progress[-1]) == (0, 100)
    assert 0 < progress[4] < 100
    assert video["completed_at"] == video["created_at"] + 6


@pytest.mark.parametrize("spelling", ["{}", "sora-2:{}", "sora-2%3A{}"])
def test_an_id_is_understood_however_it_is_spelled(world, spelling):
    task_id = create(world).json()["id"]
    assert asked(world, "GET", f"{VIDEOS}/{spelling.format(task_id)}").json()["id"] == task_id


def test_ids_may_carry_their_model(clock):
    world = World(clock=clock, prefixed_ids=True, by_id=True)
    video_id = asked(world, "POST", VIDEOS, b'{"prompt": "x", "model": "wan-2"}').json()["id"]
    task_id = world.tasks[0].task_id
    assert video_id == f"wan-2:{task_id}"
    assert asked(world, "GET", f"{VIDEOS}/{video_id.replace(':', '%3A')}").json()["id"] == video_id
    assert asked(world, "GET", f"{PATH}/{task_id}").json()["id"] == task_id
    assert asked(world, "GET", VIDEOS, after=video_id).json()["data"] == []


@pytest.mark.parametrize(
    ("ending", "code", "status"),
    [
        ("failed", "processing_error", "failed"),
        ("moderation_input", "input_moderation", "failed"),
        ("moderation_output", "output_moderation", "failed"),
        ("cancelled", "cancelled", "cancelled"),
    ],
)
def test_a_video_that_failed_says_why(world, clock, ending, code, status):
    world.script("task", ending)
    task_id = create(world).json()["id"]
    clock.seconds += 6
    video = asked(world, "GET", f"{VIDEOS}/{task_id}").json()
    assert (video["status"], video["error"]["code"], video["completed_at"]) == (status, code, None)
    assert video["error"]["message"]
    answer = asked(world, "GET", f"{VIDEOS}/{task_id}/content")
    assert answer.json()["error"]["message"] in {
        "Task is not completed yet, current status: FAILURE",
        "Task is not completed yet, current status: SUCCESS",
    }


def test_unknown_words_and_invisible_tasks_are_the_same_in_every_format(world, clock):
    world.script("task", "unknown_status", status="polishing")
    task_id = create(world).json()["id"]
    clock.seconds += 3
    assert asked(world, "GET", f"{VIDEOS}/{task_id}").json()["status"] == "polishing"
    world.script("task", "invisible", seconds=4)
    hidden = create(world).json()["id"]
    assert asked(world, "GET", f"{VIDEOS}/{hidden}").status == 404
    assert [video["id"] for video in asked(world, "GET", VIDEOS).json()["data"]] == [task_id]


@pytest.mark.parametrize("path", ["task_nope", "task_nope/content", "task_nope/remix"])
def test_an_unknown_video_is_a_404(http, path):
    method = "POST" if path.endswith("remix") else "GET"
    reply = http.request(method, f"{VIDEOS}/{path}", json={"prompt": "x"} if method == "POST" else None)
    assert (reply.status_code, reply.json()["error"]["message"]) == (404, "Task not found")


def test_without_a_key_there_is_nothing_here(http, web, sandbox):
    task_id = made(http)
    for path in (VIDEOS, f"{VIDEOS}/{task_id}", f"{VIDEOS}/{task_id}/content"):
        assert web.get(f"{sandbox.base_url}{path}").status_code == 401


# ---------------------------------------------------------------- list


def test_pages_follow_each_other_in_both_orders(world, clock):
    ids = [create(world).json()["id"] for _ in range(5)]
    for order, expected in (("desc", ids[::-1]), ("asc", ids)):
        seen, after = [], {}
        while True:
            page = asked(world, "GET", VIDEOS, limit="2", order=order, **after).json()
            seen += [video["id"] for video in page["data"]]
            assert (page["object"], page["last_id"]) == ("list", seen[-1])
            if not page["has_more"]:
                break
            after = {"after": page["last_id"]}
        assert seen == expected


def test_an_empty_page_and_a_limit_of_0(world):
    empty = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert asked(world, "GET", VIDEOS).json() == empty
    create(world)
    assert asked(world, "GET", VIDEOS, limit="0").json() == {**empty, "has_more": True}


@pytest.mark.parametrize("query", [{"limit": "101"}, {"limit": "x"}, {"order": "up"}])
def test_a_bad_page_is_refused(world, query):
    answer = asked(world, "GET", VIDEOS, **query)
    assert (answer.status, answer.json()["error"]["param"]) == (400, next(iter(query)))


# ---------------------------------------------------------------- content, delete, remix


def test_content_is_the_video_whole_or_in_parts(http):
    url = f"{VIDEOS}/{made(http)}/content"
    whole = http.get(url)
    assert whole.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(whole.content)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 6
    part = http.get(url, headers={"Range": "bytes=100-199", "If-Range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, whole.content[100:200])


def test_the_thumbnail_is_content_too_and_other_variants_are_not(http):
    url = f"{VIDEOS}/{made(http)}/content"
    reply = http.get(url, params={"variant": "thumbnail"})
    assert (reply.headers["content-type"], reply.content[:4]) == ("image/png", b"\x89PNG")
    refused = http.get(url, params={"variant": "gif"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "variant")


def test_content_that_is_not_there_yet_or_never_was(world, clock):
    task_id = create(world).json()["id"]
    answer = asked(world, "GET", f"{VIDEOS}/{task_id}/content")
    assert (answer.status, answer.json()["error"]["message"]) == (
        400,
        "Task is not completed yet, current status: QUEUED",
    )
    world.script("task", "no_output")
    task_id = create(world).json()["id"]
    clock.seconds += 6
    assert asked(world, "GET", f"{VIDEOS}/{task_id}").json()["status"] == "completed"
    assert asked(world, "GET", f"{VIDEOS}/{task_id}/content").status == 404


def test_a_deleted_video_is_gone_from_every_format_and_stays_charged(sandbox, http):
    task_id, other = made(http), made(http)
    charged = sandbox.charged
    assert http.delete(f"{VIDEOS}/{task_id}").json() == {"id": task_id, "deleted": True, "object": "video.deleted"}
    assert sandbox.requests[-1].route == "delete"
    assert http.get(f"{VIDEOS}/{task_id}").status_code == http.delete(f"{VIDEOS}/{task_id}").status_code == 404
    assert http.get(f"{PATH}/{task_id}").json()["code"] == "task_not_exist"
    assert [task["id"] for task in http.get(PATH).json()["task_responses"]] == [other]
    assert (sandbox.creates, sandbox.charged) == (2, charged)


def test_a_remix_is_a_create_that_names_its_original(sandbox, http):
    original = start(http)
    video = http.post(f"{VIDEOS}/{original}/remix", json={"prompt": "fly woman"}).json()
    assert (video["remixed_from_video_id"], video["prompt"], video["size"]) == (original, "fly woman", "64x48")
    assert (sandbox.creates, sandbox.requests[-1].task_id) == (2, video["id"])
    assert http.post(f"{VIDEOS}/{original}/remix", json={}).json()["error"]["param"] == "prompt"


# ---------------------------------------------------------------- the same world


def test_a_video_is_the_same_task_through_either_format(sandbox, http, web):
    created = made(http)
    task = http.get(f"{PATH}/{created}").json()
    assert (task["id"], task["prompt"], task["n_frames"], task["width"]) == (created, "fly man", 6, 64)
    assert web.get(task["generations"][0]["url"]).content == http.get(f"{VIDEOS}/{created}/content").content
    other = start(http, **SMALL)
    assert http.get(f"{VIDEOS}/{other}").json()["size"] == "64x48"
    assert [video["id"] for video in http.get(VIDEOS).json()["data"]] == [other, created]


def test_an_idempotency_key_gives_the_first_video_again(clock):
    world = World(clock=clock, idempotent=True)
    headers = {**KEY, "Idempotency-Key": "k"}
    first, second = (world.receive("POST", VIDEOS, headers=headers, body=b'{"prompt": "x"}').json() for _ in range(2))
    assert first == second
    assert world.creates == 1
