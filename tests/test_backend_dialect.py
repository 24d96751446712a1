"""The backend dialect over bodies the web backend and its relays really sent, and over everything they might.

Samples: bodies printed by clients of the web backend (``task_queued``,
``task_preprocessing``, the generation in ``task_storyboard``, ``pending_info``), and variations on them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from documented import EXAMPLE
from hypothesis import given, settings
from hypothesis import strategies as st

from sora_tools.dialects import dialect
from sora_tools.dialects.reading import (
    echoed_actions,
    expiry,
    failure_kind,
    moment,
    number,
    status_of,
    text,
    usable,
    whole,
)
from sora_tools.errors import (
    BusyError,
    ConfigurationError,
    EndpointUnavailableError,
    InvalidRequestError,
    LostReplyError,
    SoraError,
    TaskNotFoundError,
    UnreadableReplyError,
)
from sora_tools.schemas import TaskPage, VideoRequest, VideoTask
from sora_tools.wire import Reply

SAMPLES = Path(__file__).parent / "samples" / "backend"
QUEUED = "task_01k862djr2era887swgvhxxncn"
STORY = "task_01jy8k72axednrjcnvmkwpqp11"
BACKEND = dialect("backend")


def sample(name: str) -> dict[str, Any]:
    return json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))["body"]


def reply(body: Any, status: int = 200, **headers: str) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def created(body: Any, status: int = 200) -> VideoTask:
    return BACKEND.create(VideoRequest(prompt="fly man"), "key-1").read(reply(body, status))


def looked(body: Any, task_id: str = STORY, status: int = 200, **headers: str) -> VideoTask:
    call = BACKEND.look(task_id)
    assert call is not None
    return call.read(reply(body, status, **headers))


def listed(body: Any, *, limit: int = 2, before: str | None = None, status: int = 200, **headers: str) -> TaskPage:
    call = BACKEND.list(limit, before)
    assert call is not None
    return call.read(reply(body, status, **headers))


def task(**members: Any) -> VideoTask:
    """A finished task with some members of another kind."""
    return looked({**sample("task_storyboard"), **members})


# --- calls -------------------------------------------------------------------------------------------------------


def test_a_dialect_is_named_or_brought_along():
    assert dialect(" Backend ") is BACKEND
    assert dialect(BACKEND) is BACKEND
    with pytest.raises(ConfigurationError, match=r"dialect='web' was given; it must be one of: .*backend"):
        dialect("web")


def test_a_create_carries_the_documented_body_and_the_key():
    call = BACKEND.create(VideoRequest.model_validate(EXAMPLE), "key-1")
    assert (call.route, call.method, call.path, call.paid) == ("create", "POST", "/sora/backend/video_gen", True)
    assert call.body == EXAMPLE
    assert call.headers == {"Idempotency-Key": "key-1"}


def test_a_list_asks_for_a_page():
    call = BACKEND.list(20, STORY)
    assert call is not None
    assert (call.route, call.method, call.path, call.paid) == ("list", "GET", "/sora/backend/video_gen", False)
    assert call.query == {"limit": 20, "before": STORY}


@pytest.mark.parametrize(
    ("task_id", "path"),
    [
        (STORY, f"/sora/backend/video_gen/{STORY}"),
        ("a/../b?c#d", "/sora/backend/video_gen/a%2F..%2Fb%3Fc%23d"),
        ("任务", "/sora/backend/video_gen/%E4%BB%BB%E5%8A%A1"),
    ],
)
def test_an_id_stays_inside_its_path_segment(task_id, path):
    call = BACKEND.look(task_id)
    assert call is not None
    assert (call.route, call.method, call.path) == ("look", "GET", path)


@pytest.mark.parametrize("task_id", ["", " ", ".", ".."])
def test_an_id_that_would_name_another_route_is_refused(task_id):
    with pytest.raises(InvalidRequestError, match="was given; give the id that the create returned"):
        BACKEND.look(task_id)


# --- create ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        sample("create_reply"),
        {"task_id": QUEUED},
        {"data": {"id": QUEUED}},
        {"code": "success", "message": "", "data": {"id": 7, "task_id": QUEUED}},
        {"code": 0, "data": {"task_id": QUEUED}},
        {"id": None, "task_id": QUEUED, "status": "success"},
        {"success": True, "task": {"id": QUEUED, "status": "queued"}},
        {"id": QUEUED, "status": "succeeded", "generations": []},
        sample("task_queued"),
    ],
)
def test_a_create_is_read_wherever_the_id_is(body):
    task = created(body)
    assert (task.task_id, task.status, task.failure, task.dialect) == (QUEUED, "queued", None, "backend")
    assert task.created_at is not None
    assert task.created_at.date().isoformat() == "2025-10-22"


def test_a_create_may_answer_as_text_with_a_byte_order_mark():
    body = b"\xef\xbb\xbf" + json.dumps(sample("create_reply")).encode()
    call = BACKEND.create(VideoRequest(prompt="fly man"), "key-1")
    assert call.read(Reply(200, {"content-type": "text/plain"}, body)).task_id == QUEUED


def test_a_numbered_id_is_an_id():
    assert created({"id": 12345}).task_id == "12345"


def test_a_create_that_failed_at_once_is_a_failed_task():
    task = created({"id": QUEUED, "status": "failed", "failure_reason": "input_moderation"})
    assert task.status == "failed"
    assert task.failure is not None
    assert task.failure.kind == "moderation_input"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{}",
        b"[]",
        b"null",
        b'{"id": "task_01',
        b"OK",
        b'{"id": true}',
        b'{"id": " "}',
        b'{"id": NaN}',
        json.dumps({"task_responses": [sample("task_queued")]}).encode(),
    ],
)
def test_a_create_without_an_id_may_have_been_paid_for(body):
    with pytest.raises(UnreadableReplyError) as caught:
        created(body)
    assert caught.value.charged == "unknown"


def test_a_page_for_people_is_not_a_create():
    with pytest.raises(EndpointUnavailableError) as caught:
        created(b"<!doctype html><title>One API</title>")
    assert caught.value.charged == "unknown"


# --- look --------------------------------------------------------------------------------------------------------


def test_a_queued_task():
    task = looked(sample("task_queued"), QUEUED)
    assert task.status == "queued"
    assert task.title == "Image Generation"
    assert task.created_at == datetime(2025, 10, 22, 13, 41, 0, 335618, tzinfo=UTC)
    assert task.request is not None
    assert task.request.prompt == "<redacted>"
    assert (task.request.width, task.request.height, task.request.n_frames) == (480, 720, 1)
    assert (task.progress, task.queue_position, task.queue_wait, task.failure, task.generations) == (
        None,
        None,
        None,
        None,
        (),
    )
    assert task.raw == sample("task_queued")


def test_a_finished_storyboard():
    task = looked(sample("task_storyboard"))
    assert (task.status, task.progress, task.failure) == ("succeeded", 1.0, None)
    assert task.request is not None
    assert task.request.prompt is None
    action = task.request.actions[0]
    assert (action.description, action.frame_index, action.time) == ("<text>", 100, pytest.approx(100 / 30))
    (generation,) = task.generations
    assert generation.generation_id == "gen_01jy8k8garfvavgrj40d62pfna"
    assert generation.url == "https://videos.openai.com/vg-assets/..."
    assert (generation.width, generation.height, generation.n_frames, generation.duration) == (720, 1080, 150, 5.0)
    assert generation.encodings == {"source": "https://videos.openai.com/.../source.mp4"}
    assert generation.thumbnail_url is None


def test_a_running_task():
    task = looked({"detail": 1, "task": sample("pending_info")}, "task_01k6redacted")
    assert (task.status, task.raw_status, task.progress) == ("running", "processing", 0.9302178175176704)


def test_a_preprocessing_task_is_queued():
    assert looked(sample("task_preprocessing"), QUEUED).status == "queued"


def test_a_task_of_nulls_keeps_its_id_and_the_time_in_it():
    task = looked(sample("task_nulls"))
    assert (task.task_id, task.status, task.raw_status, task.request) == (STORY, "unknown", None, None)
    assert task.created_at == datetime(2025, 6, 21, 6, 36, 3, 293000, tzinfo=UTC)
    assert not task.ended


def test_renditions_stand_in_for_a_missing_address():
    (generation,) = looked(sample("task_encodings_only")).generations
    assert generation.url is not None
    assert generation.url.startswith("https://videos.openai.com/vg-assets/source.mp4?")
    assert generation.expires_at == datetime(2025, 10, 12, tzinfo=UTC)
    assert (generation.width, generation.height, generation.duration) == (720, 1080, 5.0)
    assert generation.thumbnail_url == "https://videos.openai.com/vg-assets/thumb.webp"
    assert set(generation.encodings) == {"source_wm", "thumbnail"}, "an inner path is not an address"


@pytest.mark.parametrize("best", ["source", "source_wm", "md", "ld"])
def test_the_best_rendition_wins(best):
    names = ["source", "source_wm", "md", "ld"]
    encodings = {name: {"path": f"https://cdn.example/{name}.mp4"} for name in reversed(names[names.index(best) :])}
    (generation,) = task(generations=[{"id": "gen_1", "encodings": encodings}]).generations
    assert generation.url == f"https://cdn.example/{best}.mp4"


def test_a_path_at_the_gateway_is_kept_for_the_flow_to_resolve():
    (generation,) = task(generations=[{"id": "gen_1", "url": "/media/x.mp4"}]).generations
    assert generation.url == "/media/x.mp4"


@pytest.mark.parametrize(
    "body",
    [
        {"data": sample("task_storyboard")},
        {"code": "success", "message": "", "data": sample("task_storyboard")},
        {"task": sample("task_storyboard")},
        {"payload": sample("task_storyboard")},
        sample("list_page"),
        [sample("task_storyboard")],
    ],
)
def test_a_task_is_found_in_an_envelope(body):
    assert looked(body).status == "succeeded"


@pytest.mark.parametrize("body", [sample("task_queued"), {}, [], None, {"code": "success", "data": None}, {"id": 7}])
def test_another_task_is_not_an_answer(body):
    with pytest.raises(UnreadableReplyError) as caught:
        looked(body)
    assert (caught.value.task_id, caught.value.charged, caught.value.retryable) == (STORY, "no", True)


def test_an_unknown_task_is_not_found():
    with pytest.raises(TaskNotFoundError):
        looked({"code": "task_not_exist", "message": "task_not_exist", "data": None}, status=400)
    with pytest.raises(TaskNotFoundError):
        looked({"error": {"message": "Not found"}}, status=404)


@pytest.mark.parametrize("status", [200, 400, 422, 500])
def test_a_failed_task_sent_as_an_error_is_a_failed_task(status):
    body = {"id": STORY, "status": "failed", "error": {"message": "GPU lost", "code": "internal_error"}}
    task = looked(body, status=status)
    assert task.failure is not None
    assert (task.failure.message, task.failure.code, task.failure.kind) == ("GPU lost", "internal_error", "upstream")


def test_so_is_a_cancelled_one():
    assert looked({"id": STORY, "status": "canceled"}, status=410).status == "cancelled"


def test_a_live_task_beside_an_error_is_an_error():
    with pytest.raises(LostReplyError):
        looked(sample("task_queued"), QUEUED, status=502)


def test_the_gateway_says_when_to_look_again():
    assert looked(sample("task_storyboard"), openai_poll_after_ms="2500").poll_after == 2.5
    assert [task.poll_after for task in listed(sample("list_page"), retry_after="7").tasks] == [7.0, 7.0]


# --- status and failure ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("queued preprocessing pending submitted NOT_START SUBMITTED created NotStarted preparing starting", "queued"),
        ("running processing IN_PROGRESS in-progress generating", "running"),
        ("succeeded success Completed complete finished", "succeeded"),
        ("failed failure fail error FAILURE expired timeout", "failed"),
        ("cancelled canceled deleted", "cancelled"),
        ("unknown rejected 成功 ok", "unknown"),
    ],
)
def test_check_10_every_status_word_is_read(words, status):
    for word in words.split():
        assert status_of(f" {word} ") == status, word


def test_an_unknown_word_is_kept_and_is_no_end():
    found = task(status="Rendering")
    assert (found.status, found.raw_status, found.ended) == ("unknown", "Rendering", False)


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"generations": []}, "no_output"),
        ({"generations": None}, "no_output"),
        ({"generations": [{"id": "gen_1", "url": "ftp://cdn.example/x.mp4"}]}, "no_output"),
        ({"generations": [], "num_unsafe_generations": 1}, "moderation_output"),
        ({"generations": [], "moderation_result": {"is_output_rejection": True}}, "moderation_output"),
        ({"generations": [], "moderation_result": {"type": "terminal"}}, "moderation_output"),
        ({"generations": [], "moderation_result": {"type": " Passed "}}, "no_output"),
    ],
)
def test_succeeded_without_a_video_is_failed(members, kind):
    found = task(**members)
    assert found.failure is not None
    assert (found.status, found.raw_status, found.failure.kind, found.generations) == ("failed", "succeeded", kind, ())


def test_a_video_beside_a_withheld_one_is_a_success():
    assert task(num_unsafe_generations=1).status == "succeeded"


def test_a_withheld_video():
    failure = looked(sample("task_withheld")).failure
    assert failure is not None
    assert (failure.kind, failure.message) == (
        "moderation_output",
        "The gateway's moderation withheld the finished video.",
    )


def test_a_failed_task_has_no_generations_but_keeps_them_in_raw():
    found = looked(sample("task_failed_with_generations"))
    assert found.failure is not None
    assert (found.status, found.failure.kind, found.failure.message) == (
        "failed",
        "moderation_output",
        "output_moderation",
    )
    assert found.generations == ()
    assert found.raw["generations"]
    assert found.created_at == datetime.fromtimestamp(1750487763, UTC)


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"failure_reason": "input_moderation"}, "moderation_input"),
        ({"failure_reason": "Content policy violation"}, "moderation_input"),
        ({"failure_reason": None, "moderation_result": {"type": "failed"}}, "moderation_input"),
        ({"failure_reason": "guardrail", "num_unsafe_generations": 2}, "moderation_output"),
        ({"failure_reason": "output_moderation"}, "moderation_output"),
        ({"failure_reason": "timed out"}, "timeout"),
        ({"failure_reason": "processing_error"}, "upstream"),
        ({"failure_reason": "other"}, "unknown"),
        ({"failure_reason": None}, "unknown"),
        ({"failure_reason": {"odd": 1}, "error": "heavy_load"}, "upstream"),
    ],
)
def test_why_a_task_failed(members, kind):
    failure = task(status="failed", **members).failure
    assert failure is not None
    assert failure.kind == kind
    assert failure.message


def test_a_cancelled_task_says_so():
    failure = task(status="canceled").failure
    assert failure is not None
    assert (failure.kind, failure.message) == ("cancelled", "The task was cancelled.")


def test_a_long_reason_is_cut():
    failure = task(status="failed", failure_reason="x" * 10_000).failure
    assert failure is not None
    assert len(failure.message) == 500


# --- list --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        sample("list_page"),
        {"tasks": sample("list_page")["task_responses"], "has_more": True},
        {"data": sample("list_page")["task_responses"]},
        {"code": 0, "msg": "", "data": sample("list_page")},
        sample("notifications"),
        sample("list_page")["task_responses"],
    ],
)
def test_a_list_is_read_under_every_name(body):
    assert [task.task_id for task in listed(body).tasks] == [QUEUED, STORY]


def test_what_is_no_task_is_skipped():
    odd = [None, 3, "task", [], {}, {"id": None}, {"id": {}}, {"payload": {}}]
    page = listed({"task_responses": [*odd, sample("task_queued")], "has_more": False})
    assert [task.task_id for task in page.tasks] == [QUEUED]


def test_one_broken_title_does_not_lose_the_page():
    body = json.dumps({"task_responses": [{"id": QUEUED, "title": "half \ud83d", "\ud83d": 1}]}).encode()
    (task,) = listed(body).tasks
    assert task.title == "half ?"


@pytest.mark.parametrize(
    ("paging", "before"),
    [
        ({"has_more": True, "last_id": "task_last"}, "task_last"),
        ({"has_more": True, "last_id": None}, STORY),
        ({"has_more": True}, STORY),
        ({"has_more": False, "last_id": "task_last"}, None),
        ({"last_id": "task_last"}, "task_last"),
        ({"has_more": None}, STORY),
        ({"has_more": True, "last_id": "task_asked"}, None),
    ],
)
def test_the_next_page(paging, before):
    body = {"task_responses": [sample("task_queued"), sample("task_storyboard")], **paging}
    assert listed(body, limit=2, before="task_asked").before == before


def test_a_short_page_may_be_capped_and_only_an_empty_one_is_the_last():
    tasks = sample("list_page")["task_responses"]
    assert listed(tasks, limit=3).before == tasks[-1]["id"]
    assert listed({"task_responses": tasks, "has_more": False}, limit=3).before is None


@pytest.mark.parametrize(
    "body", [[], {"task_responses": [], "has_more": True, "last_id": "task_x"}, {"code": "success", "data": None}]
)
def test_an_empty_page_is_the_last(body):
    assert listed(body) == TaskPage()


@pytest.mark.parametrize("body", [{}, None, "task", {"task_responses": "none"}, {"data": {}}, {"id": STORY}, b""])
def test_what_is_no_list_is_unreadable(body):
    with pytest.raises(UnreadableReplyError):
        listed(body)


def test_a_list_that_is_refused():
    with pytest.raises(BusyError):
        listed({"code": 0, "msg": "slow down", "sn": "1"}, status=429)


# --- single members ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "progress"),
    [(0, 0.0), (0.5, 0.5), (1, 1.0), (30, 1.0), (-0.1, None), (True, None), ("30%", None), (10**400, None), ([], None)],
)
def test_progress_is_a_share_and_never_guessed(given, progress):
    assert task(progress_pct=given).progress == progress


def test_the_queue():
    found = task(progress_pos_in_queue=3, estimated_queue_wait_time=12.5, queue_status_message="soon")
    assert (found.queue_position, found.queue_wait, found.queue_message) == (3, 12.5, "soon")


@pytest.mark.parametrize(
    ("given", "iso"),
    [
        ("2025-10-22T13:41:00.335618Z", "2025-10-22T13:41:00.335618+00:00"),
        ("2025-10-22T15:41:00+02:00", "2025-10-22T13:41:00+00:00"),
        ("2025-10-22T13:41:00", "2025-10-22T13:41:00+00:00"),
        (1761140460, "2025-10-22T13:41:00+00:00"),
        (1761140460000, "2025-10-22T13:41:00+00:00"),
        (1761140460.5, "2025-10-22T13:41:00.500000+00:00"),
    ],
)
def test_moments(given, iso):
    found = moment(given)
    assert found is not None
    assert found.isoformat() == iso
    assert task(created_at=given).created_at == found


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "soon",
        0,
        -1,
        True,
        10**18,
        10**400,
        float("inf"),
        float("nan"),
        [],
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "1750487763",
    ],
)
def test_what_is_no_moment(given):
    assert moment(given) is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([{"time": 1.5, "description": "a"}], [("a", 1.5, None)]),
        ([{"time": "x", "description": "a"}, {"description": " "}, 3, {"time": 1}], [("a", None, None)]),
        ({"76": "b", "16": "a"}, [("a", 16 / 30, 16), ("b", 76 / 30, 76)]),
        ({"x": "a", "-1": "b", "²": "c", "1": None, "1.5": "d"}, []),
        ('{"30": "a"}', [("a", 1.0, 30)]),
        ('[{"time": 2, "description": "a"}]', [("a", 2.0, None)]),
        ("walks", []),
        ('{"30": "\\ud83d"}', [("?", 1.0, 30)]),
        ("[" * 100_000, []),
        (None, []),
        (7, []),
    ],
)
def test_actions(given, told):
    assert [(action.description, action.time, action.frame_index) for action in echoed_actions(given)] == told


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example/x.mp4",
        "HTTPS://cdn.example/x",
        "http://127.0.0.1:8000/x",
        "http://localhost/x",
        "http://[::1]:9/x",
        "http://cdn.example/x",
        "/media/x.mp4",
        " https://cdn.example/x ",
    ],
)
def test_usable_addresses(url):
    assert usable(url) == url.strip()


@pytest.mark.parametrize(
    "url",
    [
        None,
        3,
        "",
        "x.mp4",
        "//cdn.example/x",
        "ftp://a/b",
        "https://",
        "https://[::1",
        "https://a:b/",
        "https://a:0/",
        "javascript:alert(1)",
        "https://a/ b",
        "https://a\\b",
        "https://a/\x00",
        "data:video/mp4;base64,AA",
        "file:///etc/passwd",
    ],
)
def test_unusable_addresses(url):
    assert usable(url) is None


@pytest.mark.parametrize(
    ("query", "iso"),
    [
        ("?se=2025-10-12T00%3A00%3A00Z&sig=x", "2025-10-12T00:00:00+00:00"),
        ("?Expires=1761140460&Signature=x", "2025-10-22T13:41:00+00:00"),
        ("?X-Amz-Date=20251022T134100Z&X-Amz-Expires=3600", "2025-10-22T14:41:00+00:00"),
    ],
)
def test_signed_addresses_say_when_they_end(query, iso):
    found = expiry(f"https://cdn.example/x.mp4{query}")
    assert found is not None
    assert found.isoformat() == iso


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "?se=x",
        "?Expires=soon",
        "?Expires=",
        "?X-Amz-Date=20251022T134100Z",
        "?X-Amz-Expires=5",
        "?%FF=%FF",
        "?X-Amz-Date=20251022T134100Z&X-Amz-Expires=999999999999",
    ],
)
def test_other_addresses_do_not(query):
    assert expiry(f"https://cdn.example/x.mp4{query}") is None


@pytest.mark.parametrize("value", [True, "3", None, [], {}, float("nan"), float("inf"), -1, 10**400])
def test_what_is_no_number(value):
    assert number(value) is None
    assert whole(value) is None


def test_numbers_and_texts():
    assert (whole(150.0), whole(150.5), whole(0, 1)) == (150, None, None)
    assert (text(" a "), text(" "), text(3)) == (" a ", None, None)
    assert failure_kind("") == "unknown"


# --- anything at all ---------------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY_TEXT
    | st.sampled_from([10**400, -1, "succeeded", "failed", STORY, "https://cdn.example/x.mp4", "/x.mp4", 1750487763])
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3), max_leaves=8
)


def either(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return usual | JSON


STATUS = st.sampled_from(["queued", "running", "succeeded", "failed", "cancelled", " Completed ", "odd"])
ADDRESS = either(st.sampled_from(["https://cdn.example/x.mp4?se=2025-10-12", "http://localhost/x", "/x", "//x", "x"]))
ENCODING = either(
    st.fixed_dictionaries({}, optional={"path": ADDRESS, "url": ADDRESS, "width": JSON, "duration_secs": JSON})
)
ENCODINGS = either(st.dictionaries(st.sampled_from(["source", "md", "ld", "thumbnail", "x"]), ENCODING, max_size=3))
GENERATION = either(
    st.fixed_dictionaries(
        {}, optional={"id": JSON, "url": ADDRESS, "encodings": ENCODINGS, "width": JSON, "n_frames": JSON}
    )
)
MODERATION = either(st.fixed_dictionaries({}, optional={"type": JSON, "is_output_rejection": JSON, "code": JSON}))
ACTIONS = either(st.dictionaries(st.integers(-5, 500).map(str), JSON, max_size=3) | JSON.map(json.dumps))
OTHERS = (
    "progress_pct progress_pos_in_queue estimated_queue_wait_time queue_status_message created_at title prompt "
    "operation model width height n_frames n_variants num_unsafe_generations failure_reason error code success"
)
TASK = st.fixed_dictionaries(
    {},
    optional={
        "id": either(st.just(STORY)),
        "status": either(STATUS),
        "generations": either(st.lists(GENERATION, max_size=3)),
        "moderation_result": MODERATION,
        "actions": ACTIONS,
        **dict.fromkeys(OTHERS.split(), JSON),
    },
)
ENVELOPE = st.sampled_from(
    [
        lambda task: task,
        lambda task: {"data": task},
        lambda task: {"task_responses": [task, 3], "has_more": None},
        lambda task: {"data": [{"payload": task}], "last_id": task},
        lambda task: {"tasks": task},
        lambda task: [task, [task]],
    ]
)


def hold(task: VideoTask) -> None:
    """What every task promises, however it was worded."""
    assert task.task_id.strip()
    addresses = [generation.url for generation in task.generations if generation.url is not None]
    assert all(usable(url) == url for url in addresses)
    assert task.status != "succeeded" or addresses
    assert (task.failure is not None) == (task.status in ("failed", "cancelled"))
    assert task.failure is None or (task.failure.message and task.generations == ())
    assert task.progress is None or 0 <= task.progress <= 1
    assert task.queue_position is None or task.queue_position >= 0
    assert task.created_at is None or task.created_at.utcoffset() is not None
    assert VideoTask.model_validate_json(task.model_dump_json(exclude={"raw"})) == task.model_copy(update={"raw": {}})
    json.dumps(task.raw, ensure_ascii=False).encode()


@settings(max_examples=300, deadline=None)
@given(
    body=st.tuples(ENVELOPE, TASK | JSON).map(lambda pair: pair[0](pair[1])), status=st.sampled_from([200, 400, 503])
)
def test_no_answer_breaks_the_reader(body, status):
    for read in (created, looked, listed):
        try:
            found = read(body, status=status)
        except SoraError:
            continue
        for task in found.tasks if isinstance(found, TaskPage) else [found]:
            hold(task)


@settings(max_examples=300, deadline=None)
@given(members=TASK)
def test_every_member_may_be_anything(members):
    members.pop("error", None)
    members.pop("success", None)
    hold(looked({**members, "id": STORY}))


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=64), status=st.integers(200, 599))
def test_no_bytes_break_the_reader(body, status):
    for read in (created, looked, listed):
        with pytest.raises(SoraError):
            read(body, status=status)


def test_a_task_named_like_one_is_taken_before_a_relays_name_for_the_request():
    assert created({"id": "20261125-req-8871", "task_id": "task_77"}).task_id == "task_77"
    assert created({"id": "video_1", "task_id": "9"}).task_id == "video_1"


def test_a_list_says_whether_the_gateway_may_have_more():
    two = [{"id": "task_2"}, {"id": "task_1"}]
    assert listed({"task_responses": two, "has_more": False}).whole
    assert listed({"task_responses": two[:1]}, before="task_2").whole
    again = listed({"task_responses": two}, before="task_1")
    assert (again.before, again.whole) == (None, False), "the same page again, as long as was asked for"
    assert listed({"task_responses": two}, limit=100, before="task_1").whole, "shorter than was asked for"
    assert not listed({"task_responses": two, "has_more": True}, limit=100, before="task_1").whole
