"""The generations format: what it is asked, and how relays' answers are told apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sora_tools.dialects import dialect
from sora_tools.dialects.reading import addresses, carried, failure, names, percent, seconds, within
from sora_tools.errors import SoraError, TaskNotFoundError, UnreadableReplyError
from sora_tools.schemas import VideoRequest, VideoTask
from sora_tools.wire import Reply

GENERATIONS = dialect("generations")
ONE, TWO = "https://images.example/1.png", "https://images.example/2.png"
URL, OTHER = "https://cdn.example/x.mp4", "https://cdn.example/y.mp4"


def request(**members: Any) -> VideoRequest:
    return VideoRequest.model_validate({"prompt": "fly man", "model": "sora-2", **members})


def created(body: Any, status: int = 200) -> VideoTask:
    return GENERATIONS.create(request(), "key-1").read(Reply(status, {}, json.dumps(body).encode()))


def looked(body: Any, task_id: str = "task_1", status: int = 200, **headers: str) -> VideoTask:
    call = GENERATIONS.look(task_id)
    assert call is not None
    return call.read(Reply(status, headers, json.dumps(body).encode()))


def finished(**members: Any) -> VideoTask:
    return looked({"task_id": "task_1", "status": "completed", **members})


# --- asking ------------------------------------------------------------------------------------------------------


def test_a_create_says_size_and_length_as_they_were_asked_for():
    call = GENERATIONS.create(request(), "key-1")
    assert (call.method, call.path) == ("POST", "/v1/video/generations")
    assert call.body == {"model": "sora-2", "prompt": "fly man", "size": "854x480", "duration": 5}
    assert call.headers == {"Idempotency-Key": "key-1"}
    assert GENERATIONS.adjusted(request()) == ()
    assert GENERATIONS.list(10, None) is None


def test_one_image_goes_under_every_name_and_several_under_the_one_there_is():
    one = GENERATIONS.create(request(inpaint_items=[{"url": ONE}]), "key-1").body
    assert one is not None
    assert (one["image"], one["image_url"], one["images"]) == (ONE, ONE, [ONE])
    two = GENERATIONS.create(request(inpaint_items=[{"url": ONE}, {"url": TWO}]), "key-1").body
    assert two is not None
    assert two["images"] == [ONE, TWO]
    assert not {"image", "image_url"} & two.keys()


@pytest.mark.parametrize(
    ("n_frames", "duration", "told"), [(1, 1, "0.03"), (100, 4, "3.33"), (150, 5, None), (151, 6, "5.03")]
)
def test_lengths_are_whole_seconds_and_never_shorter(n_frames, duration, told):
    asked = request(n_frames=n_frames)
    body = GENERATIONS.create(asked, "key-1").body
    assert body is not None
    assert body["duration"] == duration
    sentence = f"duration: {duration} s is made where {told} s was asked for; this format has whole seconds."
    assert GENERATIONS.adjusted(asked) == ((sentence,) if told else ())


def test_the_operators_own_words_come_last():
    own = {"seconds": "12", "size": "1280x720", "metadata": {"seed": 7}}
    body = GENERATIONS.create(request(extra=own), "key-1").body
    assert body is not None
    assert {name: body[name] for name in own} == own
    assert GENERATIONS.adjusted(request(n_frames=151, extra={"duration": 5.03})) == ()


# --- which task --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "task_id"),
    [
        ({"task_id": "cgt-1", "id": "gen_1"}, "cgt-1"),
        ({"id": "task_1", "data": {"task_id": "cgt-upstream"}}, "task_1"),
        ({"id": "sora-2:task_1", "data": {"task_id": "cgt-upstream"}}, "sora-2:task_1"),
        ({"id": "request-1", "data": {"task_id": "cgt-1"}}, "cgt-1"),
        ({"id": 7, "task_id": "cgt-1"}, "cgt-1"),
        ({"id": 7}, "7"),
        ({"id": 7, "data": {"id": "cgt-1"}}, "cgt-1"),
        ({"task_id": "8412345", "id": "request-1"}, "8412345"),
        ({"code": 200, "data": [{"status": "submitted", "task_id": "task_1"}]}, "task_1"),
        ({"result": {"id": "task_1"}}, "task_1"),
    ],
)
def test_a_create_names_its_task_in_many_ways(body, task_id):
    assert created(body).task_id == task_id


def test_a_success_of_the_create_is_not_the_videos():
    task = created({"task_id": "task_1", "status": "success"})
    assert (task.status, task.failure, task.raw_status) == ("queued", None, "success")


def test_a_create_that_failed_at_once_is_a_failed_task():
    task = created({"task_id": "task_1", "status": "FAILURE", "fail_reason": "no GPU at the upstream"})
    assert task.failure is not None
    assert (task.status, task.failure.kind) == ("failed", "upstream")


def test_a_task_is_known_with_or_without_its_model():
    for asked, given in (("sora-2:task_1", "task_1"), ("task_1", "sora-2:task_1")):
        task = looked({"id": given, "status": "queued"}, asked)
        assert task.task_id == asked, "the caller's own name for it stays"


@pytest.mark.parametrize("body", [{"id": "task_2", "status": "completed"}, {"status": "completed", "url": URL}, {}, []])
def test_what_does_not_name_the_task_is_not_it(body):
    with pytest.raises(UnreadableReplyError) as caught:
        looked(body)
    assert (caught.value.task_id, caught.value.charged) == ("task_1", "no")


@pytest.mark.parametrize("data", [None, {}, []])
def test_an_empty_result_is_a_task_that_is_not_shown(data):
    with pytest.raises(TaskNotFoundError) as caught:
        looked({"code": "success", "message": "", "data": data})
    assert (caught.value.task_id, caught.value.http_status) == ("task_1", 200)


def test_a_live_task_beside_an_error_is_an_error():
    with pytest.raises(SoraError) as caught:
        looked({"id": "task_1", "status": "queued"}, status=502)
    assert caught.value.retryable


def test_the_object_that_says_how_it_is_counts():
    task = looked({"task_id": "task_1", "data": {"task_id": "task_1", "status": "IN_PROGRESS", "progress": "7%"}})
    assert (task.status, task.progress) == ("running", 0.07)


def test_the_gateway_says_when_to_look_again():
    assert looked({"id": "task_1", "status": "queued"}, **{"retry-after": "7"}).poll_after == 7.0


# --- where the video is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        {"video_url": URL, "url": OTHER},
        {"result_url": URL, "data": {"url": OTHER}},
        {"url": URL},
        {"url": "", "output": URL},
        {"output": {"video_url": URL}},
        {"outputs": [URL]},
        {"outputs": {"video_url": URL}},
        {"data": {"url": URL}},
        {"data": {"output": URL}},
        {"data": {"outputs": [{"url": URL}]}},
        {"data": {"content": {"video_url": URL}}},
        {"data": [{"url": URL}]},
        {"content": {"result_url": URL}},
        {"metadata": {"url": URL}},
        {"detail": {"url": URL}},
        {"detail": {"draft_info": {"url": OTHER, "downloadable_url": URL}}},
        {"fail_reason": URL},
        {"result_url": URL, "fail_reason": OTHER},
    ],
)
def test_a_video_is_found_wherever_it_is(members):
    task = finished(**members)
    assert [generation.url for generation in task.generations] == [URL]
    assert (task.status, task.failure) == ("succeeded", None)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"url": "x.mp4"},
        {"video_url": None, "thumbnail_url": URL},
        {"data": "done", "detail": "see /v1/video", "content": URL},
        {"outputs": [[[[[URL]]]]]},
        {"fail_reason": "none"},
    ],
)
def test_what_is_no_video_of_the_task_is_none(members):
    task = finished(**members)
    assert task.failure is not None
    assert (task.status, task.failure.kind, task.generations) == ("failed", "no_output", ())


def test_a_failure_with_an_address_is_a_failure():
    task = looked({"task_id": "task_1", "status": "FAILURE", "fail_reason": URL, "url": URL})
    assert task.failure is not None
    assert (task.status, task.failure.message, task.generations) == ("failed", URL, ())


def test_a_preview_of_a_running_task_is_no_video_yet():
    assert looked({"task_id": "task_1", "status": "running", "url": URL}).generations == ()


def test_facts_of_the_video():
    metadata = {"duration": 5, "width": 1280, "height": 720}
    (generation,) = finished(url=f"{URL}?Expires=1761140460", metadata=metadata, thumbnail_url="/t.webp").generations
    assert (generation.width, generation.height, generation.duration) == (1280, 720, 5.0)
    assert generation.thumbnail_url == "/t.webp"
    assert generation.expires_at is not None
    assert finished(url=URL, seconds="12").generations[0].duration == 12.0


# --- single members ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "share"),
    [
        (30, 0.3),
        (1, 0.01),
        (0, 0.0),
        (0.5, 0.005),
        (250, 1.0),
        ("30%", 0.3),
        (" 99.5 % ", 0.995),
        ("31", 0.31),
        ("100%", 1.0),
        ("", None),
        ("%", None),
        ("half", None),
        ("-3%", None),
        ("²%", None),
        ("9" * 400, None),
        (-1, None),
        (True, None),
        (None, None),
        ([30], None),
        (10**400, None),
    ],
)
def test_a_percentage_is_never_guessed(given, share):
    assert percent(given) == (None if share is None else pytest.approx(share))


@pytest.mark.parametrize(
    ("given", "length"),
    [("12", 12.0), (5.5, 5.5), (" 8.0 ", 8.0), ("soon", None), ("", None), (True, None)],
)
def test_a_length_may_be_a_text(given, length):
    assert seconds(given) == length


def test_names_of_a_task():
    assert names({"id": 7, "task_id": "task_1"}, "task_id", "id") == ("task_1",)
    assert names({"id": 7}, "task_id", "id") == ("7",)
    assert names({"id": True, "task_id": "\ufffd"}, "task_id", "id") == ()
    assert names({"id": "x" * 513}, "id") == ()


def test_reading_takes_anything():
    for value in (None, 3, "x", [], {}, [{}], {"data": 3}):
        assert [*carried(value)] in ([], [value])
        assert within(value, "a", "b") is None
        assert addresses(value) == ()


@pytest.mark.parametrize(
    ("code", "read"), [("E1", "E1"), (10042, "10042"), (0, None), ("", None), (None, None), ([1], None), (True, None)]
)
def test_a_code_may_be_a_number(code, read):
    assert failure("unknown", None, code).code == read
