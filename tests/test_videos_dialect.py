"""The videos dialect over what the servers of the format answer, each in its own way."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from sora_tools.dialects import dialect
from sora_tools.errors import InvalidRequestError, SoraError, TaskNotFoundError, UnreadableReplyError
from sora_tools.schemas import TaskPage, VideoRequest, VideoTask
from sora_tools.wire import Call, Reply, Upload

VIDEOS = dialect("videos")
ID = "video_68d7512d07848190b3e45da0ecbebcde"


def reply(body: Any, status: int = 200, **headers: str) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def call(**fields: Any) -> Call[VideoTask]:
    return VIDEOS.create(VideoRequest(**{"prompt": "fly man", **fields}), "key-1")


def created(body: Any, status: int = 200) -> VideoTask:
    return call().read(reply(body, status))


def looked(body: Any, status: int = 200, task_id: str = ID, **headers: str) -> VideoTask:
    look = VIDEOS.look(task_id)
    assert look is not None
    return look.read(reply(body, status, **headers))


def listed(body: Any, before: str | None = None) -> TaskPage:
    page = VIDEOS.list(2, before)
    assert page is not None
    return page.read(reply(body))


def job(**members: Any) -> dict[str, Any]:
    return {"id": ID, "object": "video", "status": "completed", "progress": 100, "created_at": 1_758_941_485, **members}


# --- sending -----------------------------------------------------------------------------------------------------


def test_lengths_and_sizes_are_sent_as_they_are_asked_for():
    body = call(width=832, height=480, n_frames=150, model="wan-2.2").body
    assert body == {"model": "wan-2.2", "prompt": "fly man", "seconds": "5", "size": "832x480"}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"width": 854, "height": 480, "n_frames": 150}, ("4", "1280x720")),
        ({"width": 480, "height": 854, "n_frames": 300}, ("8", "720x1280")),
        ({"width": 1920, "height": 1080, "n_frames": 900}, ("12", "1792x1024")),
        ({"width": 1792, "height": 1024, "n_frames": 240}, ("8", "1792x1024")),
        ({"width": 1000, "height": 1800, "n_frames": 1}, ("4", "1024x1792")),
    ],
)
def test_the_sora_models_get_the_nearest_of_what_they_have(asked: dict[str, int], sent: tuple[str, str]):
    body = call(model="sora-2-pro", **asked).body
    assert body is not None
    assert (body["seconds"], body["size"]) == sent


def test_what_is_made_other_than_asked_for_is_said():
    request = VideoRequest(prompt="fly man", width=1280, height=720, n_frames=240, model="sora-2")
    assert VIDEOS.adjusted(request) == ()
    assert VIDEOS.adjusted(request.model_copy(update={"n_frames": 3, "model": "wan"})) == (
        "n_frames: 1 s are made where 0.1 s were asked for.",
    )
    assert VIDEOS.adjusted(request.model_copy(update={"n_frames": 3, "extra": {"num_frames": 3, "fps": 30}})) == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"operation": "storyboard", "actions": [{"time": 0, "description": "x"}]},
        {"operation": "blend"},
        {"n_variants": 2},
        {"sdedit": {"amount": 1, "source_generation_id": "gen_1"}},
        {"inpaint_items": [{"url": "https://a.test/1.png"}, {"url": "https://a.test/2.png"}]},
        {"operation": "remix"},
        {"inpaint_items": [{"generation_id": "video_1"}]},
        {"inpaint_items": [{"url": "https://a.test/1.png", "frame_index": 30}]},
        {"operation": "remix", "n_variants": 2, "inpaint_items": [{"generation_id": "video_1"}]},
        {"operation": "remix", "inpaint_items": [{"url": "https://a.test/1.png"}]},
    ],
)
def test_what_the_format_cannot_say_is_refused_unsent(fields: dict[str, Any]):
    with pytest.raises(InvalidRequestError, match=f"^({'|'.join(fields)}|inpaint_items)") as caught:
        call(**fields)
    assert (caught.value.charged, "Nothing was sent" in caught.value.hint) == ("no", True)


def test_a_remix_goes_to_the_video_it_is_made_of():
    remix = call(operation="remix", inpaint_items=[{"generation_id": "sora-2:task_1"}])
    assert (remix.path, remix.body) == ("/v1/videos/sora-2%3Atask_1/remix", {"prompt": "fly man"})
    request = VideoRequest(prompt="x", operation="remix", inpaint_items=[{"generation_id": "video_1"}])
    assert "a remix has those of the video" in VIDEOS.adjusted(request)[0]
    assert VIDEOS.expected(request.body()) == {"prompt": "x"}


UNREAD = [
    reply("", 415),
    reply({"detail": [{"type": "missing", "loc": ["body", "prompt"], "msg": "Field required"}]}, 422),
    reply({"error": {"message": "Content-Type must be multipart/form-data"}}, 400),
    reply({"error": {"message": "Failed to send bytes: 'dict' object has no attribute 'read'"}}, 400),
]
READ = [
    reply(job()),
    reply({"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]}, 422),
    reply({"error": {"message": "prompt violates our policy"}}, 400),
    reply("", 500),
    reply({"detail": "multipart"}, 503),
    reply(job(status="failed", error={"message": "unsupported content type image/avif"}), 400),
    reply({"video_id": "video_1"}, 415),
]


@pytest.mark.parametrize("refusal", UNREAD)
def test_a_form_goes_to_a_server_that_cannot_read_json(refusal: Reply):
    url = "data:image/jpeg;base64,/9j/4A=="
    form = call(inpaint_items=[{"url": url}], extra={"seed": 7}).otherwise(refusal)
    assert form is not None
    assert (form.method, form.path, form.body, form.paid) == ("POST", "/v1/videos", None, True)
    assert form.headers == {"Idempotency-Key": "key-1"}
    assert form.form == {
        "prompt": "fly man",
        "seconds": "5",
        "size": "854x480",
        "seed": "7",
        "input_reference": Upload("reference.jpeg", b"\xff\xd8\xff\xe0", "image/jpeg"),
    }
    assert form.otherwise(refusal) is None, "there is no third encoding"


def test_an_image_elsewhere_is_named_in_a_form_too():
    form = call(inpaint_items=[{"url": "https://a.test/1.png"}]).otherwise(UNREAD[0])
    assert form is not None
    assert form.form is not None
    assert form.form["input_reference[image_url]"] == "https://a.test/1.png"


@pytest.mark.parametrize("answer", READ)
def test_nothing_goes_twice_after_any_other_answer(answer: Reply):
    assert call().otherwise(answer) is None


# --- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    ("body", "task_id"),
    [
        ({"id": ID, "status": "queued"}, ID),
        ({"id": ID}, ID),
        ({"task_id": "task_1", "status": "submitted"}, "task_1"),
        ({"id": "task_1", "task_id": "task_1", "status": "unknown"}, "task_1"),
        ({"id": "job-1", "polling_url": "https://a.test/api/v1/videos/job-1", "status": "pending"}, "job-1"),
        ({"data": {"id": ID, "status": "queued"}}, ID),
        ({"id": ID, "status": "failed", "error": {"code": "x", "message": "y"}}, ID),
    ],
)
def test_an_id_is_all_that_a_create_need_answer_with(body: Any, task_id: str, status: int):
    task = created(body, status)
    assert task.task_id == task_id
    assert task.status == ("failed" if body.get("status") == "failed" else task.status)
    assert not task.generations


@pytest.mark.parametrize("body", [{}, {"status": "queued"}, {"id": ""}, {"id": None}, [], "video_1", {"error": {}}])
def test_a_create_without_an_id_is_of_unknown_fate(body: Any):
    with pytest.raises(SoraError) as caught:
        created(body)
    assert caught.value.charged == "unknown"


WHERE = "https://cdn.test/1.mp4"


@pytest.mark.parametrize(
    "members",
    [
        {"url": WHERE},
        {"video_url": WHERE},
        {"metadata": {"url": WHERE}},
        {"outputs": {"video_url": WHERE}},
        {"urls": [WHERE]},
        {"unsigned_urls": [WHERE]},
        {"data": [{"url": WHERE}]},
        {"content": {"video_url": WHERE}},
    ],
)
def test_a_videos_address_is_found_wherever_it_is(members: dict[str, Any]):
    (generation,) = looked(job(**members)).generations
    assert (generation.url, generation.needs_key) == (WHERE, False)


@pytest.mark.parametrize("members", [{}, {"url": None}, {"url": "outputs/1.mp4"}, {"urls": [None]}, {"data": []}])
def test_without_one_the_video_is_at_the_content_route(members: dict[str, Any]):
    (generation,) = looked(job(size="1280x720", seconds="4", **members)).generations
    assert (generation.url, generation.needs_key) == (f"/v1/videos/{ID}/content", True)
    assert (generation.width, generation.height, generation.n_frames, generation.duration) == (1280, 720, 120, 4.0)


def test_an_id_with_a_colon_is_encoded_in_its_paths():
    look = VIDEOS.look("sora-2:task_1")
    assert look is not None
    assert look.path == "/v1/videos/sora-2%3Atask_1"
    (generation,) = looked(job(id="sora-2:task_1"), task_id="sora-2:task_1").generations
    assert generation.url == "/v1/videos/sora-2%3Atask_1/content"


def test_a_job_is_the_one_that_was_asked_for_whatever_a_proxy_calls_it():
    packed = b64encode(b"litellm:custom_llm_provider:openai;model_id:sora-2;video_id:inner;deployment_id:16c0").decode()
    for wrapped in (f"video_{packed}", f"video_{packed.rstrip('=')}"):
        assert looked(job(id="inner"), task_id=wrapped).task_id == wrapped
        with pytest.raises(UnreadableReplyError):
            looked({"id": "inner"}, task_id=wrapped)
    for other in ("another", "video_bm90IG9uZQ==", "video_!"):
        with pytest.raises(UnreadableReplyError):
            looked(job(id="inner"), task_id=other)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("queued", "queued"),
        ("SUBMITTED", "queued"),
        ("not_start", "queued"),
        ("in_progress", "running"),
        ("generating", "running"),
        ("completed", "succeeded"),
        ("success", "succeeded"),
        ("failure", "failed"),
        ("expired", "failed"),
        ("deleted", "cancelled"),
        ("cancelled", "cancelled"),
        ("postprocessing", "unknown"),
    ],
)
def test_every_word_for_a_status_is_understood(word: str, status: str):
    task = looked(job(status=word, progress=40))
    assert (task.status, task.raw_status, task.progress) == (status, word, 0.4)


@pytest.mark.parametrize(
    ("error", "kind", "message", "code"),
    [
        ({"code": "moderation_blocked", "message": "Blocked."}, "moderation_input", "Blocked.", "moderation_blocked"),
        ({"message": "CUDA out of memory"}, "unknown", "CUDA out of memory", None),
        ("upstream server error", "upstream", "upstream server error", None),
        ({"detail": "timed out"}, "timeout", "timed out", None),
        (None, "unknown", "The gateway gave no reason.", None),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 500, 503])
def test_a_failure_is_read_in_every_form_and_under_every_status(
    error: Any, kind: str, message: str, code: str | None, status: int
):
    task = looked(job(status="failed", error=error), status)
    assert task.failure is not None
    assert (task.status, task.failure.kind, task.failure.message, task.failure.code) == ("failed", kind, message, code)


@pytest.mark.parametrize("created_at", [1_758_941_485, 1_758_941_485_000, "2025-09-27T02:51:25Z"])
def test_a_time_is_read_in_seconds_milliseconds_and_words(created_at: Any):
    assert looked(job(created_at=created_at)).created_at == datetime(2025, 9, 27, 2, 51, 25, tzinfo=UTC)


def test_nothing_but_id_and_status_need_be_there():
    task = looked({"id": ID, "status": "in_progress"})
    assert (task.progress, task.created_at, task.request) == (None, None, None)


def test_a_refusal_that_names_its_task_is_of_unknown_fate():
    busy = {"error": {"code": "server_busy", "message": "later"}}
    for named in ({"video_id": "v1"}, {"output": {"task_id": "task_1"}}, {"detail": {"id": "task_1"}}):
        for status in (200, 503):
            with pytest.raises(SoraError) as caught:
                call().read(reply({**named, **busy}, status))
            assert caught.value.charged == "unknown"


def test_a_task_nobody_knows_is_not_found():
    for status, body in ((404, {"detail": "Video not found"}), (400, {"code": "task_not_exist", "message": "x"})):
        with pytest.raises(TaskNotFoundError):
            looked(body, status)


def test_a_list_goes_on_after_its_last_id():
    first = listed({"object": "list", "data": [job(), job(id="video_2")], "has_more": True, "last_id": "video_2"})
    assert ([task.task_id for task in first.tasks], first.before) == ([ID, "video_2"], "video_2")
    page = VIDEOS.list(2, first.before)
    assert page is not None
    assert page.query == {"limit": 2, "after": "video_2", "order": "desc"}
    assert listed({"data": [job()], "has_more": False}).before is None
    assert listed({"data": None}).tasks == ()
    assert listed([job()], before=ID).before is None, "a page that does not move is the last one"


def test_a_list_that_a_proxy_has_of_one_provider_says_how_to_ask_for_it():
    said = "litellm.BadRequestError: LLM Provider NOT provided. Pass in the LLM provider you are trying to call."
    page = VIDEOS.list(2, None)
    assert page is not None
    for message, hint in ((said, "custom-llm-provider"), ("no such order", "Change the request")):
        with pytest.raises(InvalidRequestError) as caught:
            page.read(reply({"error": {"message": message, "type": "invalid_request_error", "code": "400"}}, 400))
        assert hint in caught.value.hint


def test_the_echo_is_what_a_lost_create_is_known_by():
    request = VideoRequest(prompt="fly man", width=854, height=480, n_frames=150, model="sora-2")
    echo = looked(job(prompt="fly man", size="1280x720", seconds="4")).request
    assert echo is not None
    expected = VIDEOS.expected(request.body())
    assert expected == {"prompt": "fly man", "width": 1280, "height": 720, "n_frames": 120}
    assert {name: getattr(echo, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({"url": WHERE}, 200, WHERE),
        ({"data": {"url": WHERE}}, 200, WHERE),
        ({"detail": f"Video has been uploaded. Please use the cloud URL: {WHERE}."}, 400, WHERE),
        ({"detail": "Generation is still in-progress"}, 404, None),
        ([], 200, None),
        (b"<html>", 200, None),
    ],
)
def test_a_content_route_may_say_where_the_video_is(body: Any, status: int, where: str | None):
    assert VIDEOS.located(reply(body, status)) == where


def test_a_deletion_is_answered_in_two_ways():
    delete = VIDEOS.delete(ID)
    assert delete is not None
    for answer in ({"id": ID, "deleted": True, "object": "video.deleted"}, job(status="deleted"), b""):
        delete.read(reply(answer))
    with pytest.raises(SoraError):
        delete.read(reply({"id": ID, "deleted": False}))
