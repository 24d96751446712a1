"""The chat dialect over transcripts in every form gateways answer in, cut and split wherever a stream may be.

Samples: the blockquote transcript, the progress in ``reasoning_content`` with its failures, the structured ``output``,
the bare address, the link and the JSON text are what gateways and the programs behind them send, with addresses and
prompts of nobody's; ``odd_chunks`` and ``top_level`` are variations on them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sora_tools.dialects import dialect
from sora_tools.dialects.chat import Chat
from sora_tools.dialects.chat_reader import ChatReader
from sora_tools.errors import (
    AuthenticationError,
    BusyError,
    EndpointUnavailableError,
    InvalidRequestError,
    LostReplyError,
    QuotaError,
    SoraError,
    UnreadableReplyError,
)
from sora_tools.schemas import VideoRequest, VideoTask
from sora_tools.wire import Reply

SAMPLES = Path(__file__).parent / "samples" / "chat"
TASK = "task_01k7dzptgwf2z87wj2c3t36qk0"
KEY = "key-1"
CHAT = dialect("chat")


@dataclass(frozen=True)
class Outcome:
    """What a transcript comes to when it is read to its end."""

    url: str | None = None
    task_id: str = KEY
    progress: float | None = None
    failure: str | None = None
    refusal: type[SoraError] | None = None


OUTCOMES = {
    "blockquote": Outcome("https://filesystem.site/cdn/20251013/a8Xq40%25.mp4", TASK, 0.76),
    "reasoning": Outcome("https://videos.example.net/az/files/00000000/raw?sv=2024&sig=REDACTED", progress=0.92),
    "reasoning_failed": Outcome(failure="moderation_input", progress=0.4),
    "reasoning_error": Outcome(failure="upstream", progress=0.4),
    "refused": Outcome(refusal=QuotaError),
    "output": Outcome("https://cdn.example.net/final/video?id=7", TASK, 0.5),
    "bare": Outcome("https://videos.example.net/v/out.mp4?sig=REDACTED", progress=0.95),
    "click_here": Outcome("https://cdn.example.net/xxxxxx.mp4"),
    "json_text": Outcome("https://cdn.example.net/j/1?part=ab", TASK),
    "one_address": Outcome("https://cdn.example.net/v/0001/content"),
    "odd_chunks": Outcome("https://cdn.example.net/v/odd.mp4?a=1&b=2", progress=0.05),
    "top_level": Outcome("https://cdn.example.net/v/top.mp4", TASK),
}
ENDING_IN_A_VIDEO = [name for name, outcome in OUTCOMES.items() if outcome.url]


def test_every_sample_has_an_outcome():
    assert sorted(path.stem for path in SAMPLES.glob("*.sse")) == sorted(OUTCOMES)


def sample(name: str) -> list[str]:
    """The data of each event."""
    told = (SAMPLES / f"{name}.sse").read_text(encoding="utf-8")
    return [event.removeprefix("data: ") for event in told.split("\n\n") if event]


def chunk(content: Any = None, finish: Any = None, **delta: Any) -> str:
    message = {**({} if content is None else {"content": content}), **delta}
    return json.dumps({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": message, "finish_reason": finish}]})


def finished(events: Iterable[str]) -> VideoTask:
    reader = ChatReader(KEY)
    for event in events:
        reader.feed(event)
    return reader.finish()


def said(*content: str, finish: str | None = "stop") -> VideoTask:
    """What an answer comes to that says these pieces of text and ends."""
    return finished([*(chunk(piece) for piece in content), *([chunk(finish=finish)] if finish else [])])


def address(task: VideoTask) -> str | None:
    return task.generations[0].url if task.generations else None


def tried(ask: Callable[..., VideoTask], *given: Any) -> VideoTask | SoraError:
    try:
        return ask(*given)
    except SoraError as error:
        return error


def outcome(events: Iterable[str]) -> Outcome:
    task = tried(finished, events)
    if isinstance(task, SoraError):
        return Outcome(refusal=type(task))
    assert task.ended
    kind = task.failure.kind if task.failure else None
    return Outcome(address(task), task.task_id, task.progress, kind)


def resplit(events: list[str], at: int, channel: str) -> list[str]:
    """The same events, with all text of one channel moved to where it begins or ends, cut in two."""
    parsed = [json.loads(event) if event.startswith("{") else event for event in events]
    holders = [index for index, event in enumerate(parsed) if isinstance(text_in(event, channel), str)]
    whole = "".join(parsed[index]["choices"][0]["delta"].pop(channel) for index in holders)
    parsed[holders[-1]]["choices"][0]["delta"][channel] = whole[at:]
    parsed.insert(holders[0], chunk(**{channel: whole[:at]}))
    return [event if isinstance(event, str) else json.dumps(event) for event in parsed]


def text_in(event: Any, channel: str) -> Any:
    """What an event of an ordinary form says in one channel."""
    try:
        return event["choices"][0]["delta"][channel]
    except (TypeError, KeyError, IndexError):
        return None


def text_of(name: str, channel: str) -> str:
    """Everything a sample says in one channel."""
    found = (re.findall(rf'"{channel}": ("(?:[^"\\]|\\.)*")', event) for event in sample(name))
    return "".join(json.loads(each) for event in found for each in event)


# --- the transcripts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_transcript_comes_to_its_outcome_event_by_event(name):
    assert outcome(sample(name)) == OUTCOMES[name]


@pytest.mark.parametrize("name", ENDING_IN_A_VIDEO)
def test_a_task_is_not_ended_before_its_answer_is(name):
    reader = ChatReader(KEY)
    assert all(not reader.feed(event).ended for event in sample(name))
    assert reader.over
    assert reader.finish() == reader.finish() == reader.task
    assert (reader.task.status, reader.task.dialect) == ("succeeded", "chat")


@pytest.mark.parametrize(
    ("name", "channel"),
    [(name, channel) for name in OUTCOMES for channel in ("content", "reasoning_content") if text_of(name, channel)],
)
def test_where_the_text_is_split_makes_no_difference(name, channel):
    events, whole = sample(name), text_of(name, channel)
    for at in range(len(whole) + 1):
        assert outcome(resplit(events, at, channel)) == OUTCOMES[name], whole[:at]


@pytest.mark.parametrize("name", [name for name in OUTCOMES if text_of(name, "content")])
def test_text_that_comes_letter_by_letter_is_read_the_same(name):
    events = [
        part
        for event in sample(name)
        for part in (
            [*map(chunk, json.loads(event)["choices"][0]["delta"]["content"]), chunk(finish="stop")]
            if re.search(r'"content": "', event)
            else [event]
        )
    ]
    if name != "output":  # its address stands beside the text, in the event that was taken apart
        assert outcome(events) == OUTCOMES[name]


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_answer_cut_after_any_event_is_no_success_without_the_video_and_never_free(name):
    events, expected = sample(name), OUTCOMES[name]
    for length in range(len(events)):
        reader = ChatReader(KEY)
        seen = [tried(reader.feed, event) for event in events[:length]]
        task = tried(reader.finish)
        if isinstance(task, LostReplyError):
            assert task.charged == ("yes" if reader.accepted else "unknown")
            assert task.task_id == (reader.task.task_id if reader.named else None)
            assert (task.key, task.retryable) == (KEY, False)
        elif isinstance(task, SoraError):
            assert task is seen[-1]
            assert (type(task), reader.accepted) == (expected.refusal, False)
        else:
            assert address(task) == expected.url
            assert (task.status == "succeeded") == (expected.url is not None)


@pytest.mark.parametrize("name", ENDING_IN_A_VIDEO)
def test_an_address_is_never_believed_in_part(name):
    whole = text_of(name, "content")
    for length in range(len(whole)):
        for events in ([chunk(whole[:length])], [chunk(whole[:length]), chunk("", finish=None)]):
            task = tried(finished, events)
            assert isinstance(task, LostReplyError) or address(task) == OUTCOMES[name].url


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_answer_read_whole_is_read_the_same(name):
    body = (SAMPLES / f"{name}.sse").read_bytes()
    read = CHAT.create(VideoRequest(prompt="fly man"), KEY).read
    for each in (body, body.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf: hello\n\n" + body, body.rstrip()):
        task = tried(read, Reply(200, {"content-type": "text/event-stream"}, each))
        if isinstance(task, SoraError):
            assert type(task) is OUTCOMES[name].refusal
        else:
            assert (address(task), task.task_id) == (OUTCOMES[name].url, OUTCOMES[name].task_id)


def test_what_is_known_grows_while_the_answer_comes():
    reader = ChatReader(KEY)
    seen = [reader.feed(event) for event in sample("blockquote")]
    states = [(task.task_id, task.status, task.progress) for task in seen]
    assert list(dict.fromkeys(states)) == [
        (KEY, "queued", None),
        (TASK, "queued", None),
        (TASK, "running", None),
        (TASK, "running", 0.36),
        (TASK, "running", 0.76),
    ]
    task = reader.finish()
    assert task.title == "Fast cat"
    assert task.request is not None
    assert (task.request.prompt or "").startswith("A cat at 90% speed")
    assert task.generations[0].thumbnail_url == "https://filesystem.site/cdn/20251013/a8Xq.webp"
    assert task.created_at == datetime.fromtimestamp(1760370000, UTC)
    assert "生成完成" in task.raw["content"]


def test_a_signed_address_says_when_it_ends():
    task = said("<video src='https://v.example/x.mp4?se=2026-12-01T00:00:00Z&sig=1'></video>")
    assert task.generations[0].expires_at == datetime(2026, 12, 1, tzinfo=UTC)


# --- which address is the video's --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "url"),
    [
        ("Done: https://v.example/a.mp4", "https://v.example/a.mp4"),
        ("完成 https://v.example/a.mp4。", "https://v.example/a.mp4"),
        ("完成 https://v.example/a.mp4请下载", "https://v.example/a.mp4"),
        ("(https://v.example/a.mp4)", "https://v.example/a.mp4"),
        ("**https://v.example/a.MP4?x=1**", "https://v.example/a.MP4?x=1"),
        ("https://v.example/a_(1).mp4", "https://v.example/a_(1).mp4"),
        ("[a](https://v.example/a_(1).mp4)", "https://v.example/a_(1).mp4"),
        ('[a](https://v.example/a.mp4 "the video")', "https://v.example/a.mp4"),
        ("[下载](https://v.example/get?id=1)", "https://v.example/get?id=1"),
        ("![video](https://v.example/a.mp4)", "https://v.example/a.mp4"),
        ("[a](https://v.example/a.mp4)[b](https://v.example/b.mp4)", "https://v.example/b.mp4"),
        ("[播放](https://v.example/a.mp4)\nsee https://v.example/b.mp4 ", "https://v.example/a.mp4"),
        ("[preview](https://v.example/a.mp4)\n[play](https://v.example/b.mp4)", "https://v.example/b.mp4"),
        ("<video>\n<source type='video/mp4'\n src='/media/a'>\n</video>", "/media/a"),
        ('"https://v.example/content"', "https://v.example/content"),
        ('```json\n{"video_url": "https://v.example/v"}\n```', "https://v.example/v"),
        ('{"data": [{"url": "https://v.example/v"}]}', "https://v.example/v"),
        ("attempt 1 failed, again\nhttps://v.example/a.mp4", "https://v.example/a.mp4"),
        ("{progress 40}\nhttps://v.example/a.mp4", "https://v.example/a.mp4"),
        ('<video src=\'https://v.example/a\'>\n{"url": "https://v.example/b"}', "https://v.example/b"),
        ('{"url": "https://v.example/b"}\n<video src=\'https://v.example/a\'>', "https://v.example/a"),
        ("[说明](https://v.example/docs)\n[在线播放](https://v.example/a.mp4)", "https://v.example/a.mp4"),
    ],
)
def test_the_video_is_found(content, url):
    assert address(said(content)) == url


@pytest.mark.parametrize(
    "content",
    [
        f"[下载原始数据](https://asyncdata.net/source/{TASK})",
        f"[点击 play](https://asyncdata.net/web/{TASK})",
        "![play](https://v.example/thumb)",
        "<video src='https://v.example/poster.webp'></video>",
        "[play](https://v.example/a.png?x=.mp4)",
        "[play](ftp://v.example/a.mp4)",
        "[play](//v.example/a.mp4)",
        "[play](https://[::1/a.mp4)",
        "see https://v.example/help for more",
        "see https://v.example/a.mp4.html for more",
        "❌ 生成失败: https://v.example/yours.mp4 cannot be read",
        "https://v.example/yours.mp4\n❌ 生成失败",
        "❌ failed, [click here](https://v.example/why)",
        '{"prompt": "see https://v.example/yours.mp4 ',
        '```json {"prompt": "<video src=\'https://v.example/yours.mp4\'>", "images": []}```\nSorry.',
        '{"status": "processing", "url": "https://v.example/soon"}',
        "All tokens available for video generation. Please enable streaming to use the generation feature.",
    ],
)
def test_what_is_not_the_video_is_not_taken_for_it(content):
    for pieces in ([content], list(content)):
        task = said(*pieces)
        assert (task.status, task.generations) == ("failed", ())


@pytest.mark.parametrize(
    ("content", "url"),
    [
        ("[在线播放▶️](https://v.example/a.mp4)", "https://v.example/a.mp4"),
        ("<video src='https://v.example/a'", "https://v.example/a"),
        ('{"url": "https://v.example/a"}', "https://v.example/a"),
        ("https://v.example/a.mp4 ", None),
        ("https://v.example/a", None),
        ("[click here](https://v.example/queue)", None),
        ("[preview](https://v.example/a.mp4)", None),
        ("[在线播放▶️](https://v.example/a.mp4", None),
        ('{"url": "https://v.example/a"', None),
        ("❌ 生成失败: no", None),
    ],
)
def test_of_a_text_that_broke_off_only_a_closed_address_of_the_video_counts(content, url):
    task = tried(lambda: said(content, finish=None))
    assert url is None if isinstance(task, LostReplyError) else address(task) == url


def test_the_address_may_stand_in_parts_in_a_whole_message_or_in_the_reasoning_where_nothing_else_is():
    whole = {"choices": [{"message": {"role": "assistant", "content": "[play](https://v.example/a.mp4)"}}]}
    parts = [{"type": "video_url", "video_url": {"url": "https://v.example/a.mp4"}}]
    for event in (
        json.dumps(whole),
        json.dumps(whole["choices"][0]),
        chunk(parts),
        chunk(reasoning_content="[play](https://v.example/a.mp4)"),
        json.dumps("[play](https://v.example/a.mp4)"),
    ):
        assert address(finished([event, "[DONE]"])) == "https://v.example/a.mp4"
    image = {"type": "image", "url": "https://v.example/first-frame"}
    assert finished([chunk("Sorry.", output=[image]), "[DONE]"]).status == "failed"
    with_content = chunk("Sorry.", reasoning_content="[play](https://v.example/a.mp4)")
    assert finished([with_content, "[DONE]"]).status == "failed"


# --- names and progress ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (chunk(f"任务 {TASK}\n"), TASK),
        (chunk("> ID: `video_1`\n"), "video_1"),
        (chunk("> sid: `s_68ec`\n"), None),
        (chunk(f"{TASK}"), None),
        (chunk(f"x{TASK} "), None),
        (chunk(f'{{"prompt": "{TASK} "}}'), None),
        (chunk(wm={"task_id": "w-1"}), "w-1"),
        (chunk(output=[{"task_id": "o-1"}]), "o-1"),
        (json.dumps({"task_id": "t-1"}), "t-1"),
        (json.dumps({"id": TASK}), TASK),
        (json.dumps({"task_id": "t\ud83d"}), "t?"),
        (json.dumps({"task_id": ["t"]}), None),
        (json.dumps({"task_id": "t" * 513}), None),
    ],
)
def test_a_task_is_named_where_the_answer_names_it(event, name):
    reader = ChatReader(KEY)
    assert (reader.feed(event).task_id, reader.named) == (name or KEY, name is not None)


def test_the_first_name_stays():
    reader = ChatReader(KEY)
    reader.feed(chunk(reasoning_content=f"{TASK}\n"))
    reader.feed(chunk("task_01k862djr2era887swgvhxxncn\n", wm={"task_id": "w-1"}))
    assert reader.task.task_id == TASK


def test_the_first_name_of_a_text_stays():
    assert ChatReader(KEY).feed(chunk(f"{TASK}\ntask_01k862djr2era887swgvhxxncn\n")).task_id == TASK


@pytest.mark.parametrize(
    ("content", "progress"),
    [
        ("进度 76..", 0.76),
        ("进度：7", None),
        ("进度: 7 ", 0.07),
        ("12.5%", 0.125),
        ("12 %, 13 %", 0.13),
        ("250%", None),
        ("https://v.example/a40%20b.mp4?c=40%25", None),
        ('{"prompt": "at 50% speed"}', None),
    ],
)
def test_progress_is_read_and_never_out_of_an_address_or_the_prompt(content, progress):
    assert ChatReader(KEY).feed(chunk(content)).progress == progress


# --- failures and refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "finish", "kind", "message"),
    [
        ("❌ 生成失败: 内容违规", "STOP", "moderation_input", "❌ 生成失败: 内容违规"),
        (f"> ID: `{TASK}`\n> 进度 5..\n❌ 生成失败: timed out", "stop", "timeout", "❌ 生成失败: timed out"),
        ("Sorry, I cannot make videos.", "stop", "no_output", "Sorry, I cannot make videos."),
        ("Sorry.", "content_filter", "moderation_input", "Sorry."),
        ('```json\n{"prompt": "police violating policy"}\n```\nNothing.', "stop", "no_output", "Nothing."),
    ],
)
def test_an_answer_without_a_video_is_a_failure_in_its_own_words(content, finish, kind, message):
    task = said(content, finish=finish)
    assert task.failure is not None
    assert (task.status, task.failure.kind, task.failure.message) == ("failed", kind, message)


def test_an_answer_without_a_word_is_lost_unless_the_task_had_shown_itself():
    for events in ([], ["[DONE]"], ["{}", "[DONE]"], [chunk("", finish="stop")]):
        with pytest.raises(LostReplyError) as caught:
            finished(events)
        assert (caught.value.charged, caught.value.task_id) == ("unknown", None)
    task = finished([chunk(finish="content_filter")])
    assert (task.status, task.failure and task.failure.kind) == ("failed", "moderation_input")
    task = finished([chunk(wm={"task_id": TASK}), "[DONE]"])
    assert (task.status, task.task_id, task.failure and task.failure.kind) == ("failed", TASK, "no_output")


BUSY = {"error": {"message": "busy", "type": "x", "code": "heavy_load"}}


@pytest.mark.parametrize(
    ("before", "error", "kind", "charged"),
    [
        ([], BUSY, BusyError, "no"),
        ([chunk(role="assistant", content="")], BUSY, BusyError, "no"),
        ([chunk("Starting.")], BUSY, BusyError, "unknown"),
        ([chunk(reasoning_content="Initializing.")], BUSY, BusyError, "unknown"),
        ([], {"id": "chatcmpl-1", **BUSY}, BusyError, "no"),
        ([], {"error": {"message": "x", "type": "server_error", "code": None}}, LostReplyError, "unknown"),
        ([], {"error": "x"}, LostReplyError, "unknown"),
        ([], {"success": False, "message": "无效的令牌", "code": "invalid_api_key"}, AuthenticationError, "no"),
        ([], {"code": "model_not_found", "message": "x"}, EndpointUnavailableError, "no"),
    ],
)
def test_an_error_before_the_task_has_shown_itself_is_a_refusal(before, error, kind, charged):
    reader = ChatReader(KEY, {"x-request-id": "r-1"})
    for event in before:
        reader.feed(event)
    for ask in (lambda: reader.feed(json.dumps(error)), reader.finish):
        with pytest.raises(SoraError) as caught:
            ask()
        refused = caught.value
        assert (type(refused), refused.charged, refused.key, refused.task_id) == (kind, charged, KEY, None)
        assert refused.request_id == "r-1"
    assert reader.over


@pytest.mark.parametrize("sign", [chunk("排队中"), chunk("40%"), chunk(f"{TASK} "), chunk(wm={"task_id": TASK})])
def test_an_error_after_the_task_has_shown_itself_is_the_tasks_failure(sign):
    reader = ChatReader(KEY)
    reader.feed(sign)
    task = reader.feed(json.dumps(BUSY))
    assert task == reader.feed(chunk("[play](https://v.example/a.mp4)", finish="stop")) == reader.finish()
    assert task.failure is not None
    assert (task.status, task.failure.kind, task.failure.message, task.failure.code) == (
        "failed",
        "upstream",
        "busy",
        "heavy_load",
    )


def test_an_error_that_names_the_task_is_its_failure():
    task = ChatReader(KEY).feed(json.dumps({"error": {"message": "x"}, "data": {"task_id": TASK}}))
    assert (task.status, task.task_id) == ("failed", TASK)


def test_an_error_after_the_video_counts_for_nothing():
    task = finished([chunk("[play](https://v.example/a.mp4)"), json.dumps(BUSY)])
    assert (task.status, address(task)) == ("succeeded", "https://v.example/a.mp4")


def test_text_after_a_finish_reason_means_that_it_was_none():
    with pytest.raises(LostReplyError):
        finished([chunk("进度 5..", finish="stop"), chunk("进度 9..")])


# --- an answer that is no stream ---------------------------------------------------------------------------------


def answered(body: Any, status: int = 200, **headers: str) -> VideoTask:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return CHAT.create(VideoRequest(prompt="fly man"), KEY).read(Reply(status, headers, content))


def test_a_whole_answer_is_its_own_end():
    message = {"role": "assistant", "content": "done https://v.example/a.mp4"}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"message": message}]}
    task = answered(body)
    assert (task.status, address(task), task.task_id) == ("succeeded", "https://v.example/a.mp4", KEY)


@pytest.mark.parametrize(
    ("body", "status", "kind", "charged"),
    [
        (BUSY, 200, BusyError, "no"),
        ({"id": "chatcmpl-1", **BUSY}, 200, BusyError, "no"),
        (BUSY, 503, BusyError, "no"),
        ({"error": {"message": "x"}}, 500, LostReplyError, "unknown"),
        ({"error": {"message": "Invalid URL (POST /v1/chat/completions)"}}, 404, EndpointUnavailableError, "no"),
        ({}, 200, LostReplyError, "unknown"),
        ([], 200, LostReplyError, "unknown"),
        (b"", 200, UnreadableReplyError, "unknown"),
        (b"null", 200, LostReplyError, "unknown"),
        (b"<html>", 200, EndpointUnavailableError, "unknown"),
        (b"data: x", 400, InvalidRequestError, "no"),
        (b"data: x\n\n", 200, LostReplyError, "unknown"),
        (b"sorry", 200, UnreadableReplyError, "unknown"),
    ],
)
def test_an_answer_that_is_no_answer_is_a_typed_error(body, status, kind, charged):
    with pytest.raises(SoraError) as caught:
        answered(body, status)
    assert (type(caught.value), caught.value.charged) == (kind, charged)


# --- anything at all ---------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        TASK,
        "进度 40..",
        "排队中",
        "❌ 失败",
        "[play](https://v.example/a.mp4)",
        "<video src='https://v.example/b'>",
        "https://v.example/c.mp4 ",
        "https://[::1",
        '{"url": "https://v.example/d"}',
        '{"url": ',
        "```json\n{",
        "](",
        "\n",
        "\\",
        "\ud83d",
    ]
)
MEMBERS = re.findall(
    r"\w+",
    "id task_id choices delta message content reasoning_content finish_reason output wm url video_url data error code "
    "status type text created success prompt title width",
)
TEXT = st.lists(WORDS | st.text(max_size=20), max_size=6).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
CHUNKS = st.builds(chunk, TEXT | JSON, JSON, output=JSON, wm=JSON, reasoning_content=TEXT | JSON)


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON.map(json.dumps) | CHUNKS | TEXT | st.just("[DONE]"), max_size=6))
def test_no_answer_raises_an_untyped_error_or_is_free_after_a_sign_of_the_task(events):
    reader = ChatReader(KEY)
    for event in events:
        task = tried(reader.feed, event)
        if isinstance(task, VideoTask):
            assert task.progress is None or 0 <= task.progress <= 1
            assert task.task_id.strip()
            assert reader.named or task.task_id == KEY
    ended = tried(reader.finish)
    if isinstance(ended, SoraError):
        assert ended.charged != "no" or not reader.accepted
        assert ended.task_id is None or ended.task_id == reader.task.task_id
    else:
        assert ended.ended
        assert (ended.status == "succeeded") == (address(ended) is not None)
        ended.model_dump_json()


@settings(max_examples=200, deadline=None)
@given(TEXT, st.data())
def test_no_text_depends_on_where_it_is_split(text, data):
    text = text.encode("utf-8", "replace").decode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    for ending in ([], ["[DONE]"]):
        assert outcome([*map(chunk, pieces), *ending]) == outcome([chunk(text), *ending])


def test_a_text_without_end_is_read_to_its_end_and_not_kept():
    reader = ChatReader(KEY)
    for _ in range(300):
        reader.feed(chunk("https://v.example/" + "a" * 10_000 + "<video](" * 100))
    reader.feed(chunk('\n{"prompt": "' + "data:" * 50_000 + '"}\n'))
    reader.feed(chunk("[play](https://v.example/a.mp4)"))
    assert len(reader.task.model_dump_json()) < 100_000
    assert len(reader._content._window) <= 8192
    assert address(reader.finish()) == "https://v.example/a.mp4"


# --- the call ----------------------------------------------------------------------------------------------------


def test_a_create_is_a_streamed_completion_with_the_key():
    call = CHAT.create(VideoRequest(prompt="fly man", extra={"watermark": False}), KEY)
    assert (call.route, call.method, call.path, call.paid) == ("create", "POST", "/v1/chat/completions", True)
    assert call.headers == {"Idempotency-Key": KEY}
    assert call.body == {
        "model": "sora-16:9-480p-5s",
        "messages": [{"role": "user", "content": "fly man"}],
        "stream": True,
        "watermark": False,
    }


def test_images_travel_as_parts_of_the_message():
    items = [{"url": "https://i.example/1.png"}, {"url": ""}, {"url": "data:image/png;base64,AA=="}]
    request = VideoRequest.model_validate({"prompt": "fly", "operation": "remix", "inpaint_items": items})
    assert (CHAT.create(request, KEY).body or {})["messages"][0]["content"] == [
        {"type": "text", "text": "fly"},
        {"type": "image_url", "image_url": {"url": "https://i.example/1.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]


def test_there_is_nothing_to_look_up_or_list():
    assert isinstance(CHAT, Chat)
    assert (CHAT.name, CHAT.looks_by_id) == ("chat", False)
    assert CHAT.look(TASK) is None
    assert CHAT.list(10, None) is None


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"operation": "storyboard", "actions": [{"time": 1, "description": "x"}]}, 'operation: "storyboard"'),
        ({"operation": "blend"}, 'operation: "blend"'),
        ({"actions": [{"time": 1, "description": "x"}]}, "actions: some"),
        ({"sdedit": {"amount": 1, "source_generation_id": "gen_1"}}, "sdedit: one"),
        ({"n_variants": 2}, "n_variants: 2"),
        ({"inpaint_items": [{"url": ""}, {"upload_media_id": "media_1"}]}, "inpaint_items.1: more than an address"),
        ({"inpaint_items": [{"url": "https://i.example/1.png", "frame_index": 3}]}, "inpaint_items.0: more than"),
        ({"extra": {"stream": False, "messages": []}}, "extra: messages, stream was given"),
    ],
)
def test_what_the_format_cannot_carry_is_refused_before_it_is_sent(given, what):
    with pytest.raises(InvalidRequestError) as caught:
        CHAT.create(VideoRequest.model_validate({"prompt": "fly", **given}), KEY)
    assert caught.value.charged == "no"
    assert what in caught.value.message


# --- model names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "width", "height", "seconds", "name", "changes"),
    [
        (None, 854, 480, 5, "sora-16:9-480p-5s", ()),
        (" ", 854, 480, 5, "sora-16:9-480p-5s", ()),
        ("sora", 1280, 720, 10, "sora-16:9-720p-10s", ()),
        ("sora", 1080, 1920, 20, "sora-9:16-1080p-20s", ()),
        ("sora", 480, 480, 15, "sora-1:1-480p-15s", ()),
        ("sora", 640, 360, 5, "sora-16:9-480p-5s", ("The size 640x360 became 16:9 at 480p.",)),
        ("sora", 720, 1080, 5, "sora-9:16-720p-5s", ("The size 720x1080 became 9:16 at 720p.",)),
        ("sora", 600, 600, 5, "sora-1:1-480p-5s", ("The size 600x600 became 1:1 at 480p.",)),
        ("sora", 854, 480, 7.5, "sora-16:9-480p-5s", ("The length 7.5 s became 5 s.",)),
        ("sora", 854, 480, 60, "sora-16:9-480p-20s", ("The length 60 s became 20 s.",)),
        ("sora_video2", 1280, 720, 10, "sora_video2-landscape-10s", ()),
        ("sora_video2", 720, 1280, 15, "sora_video2-portrait-15s", ()),
        ("sora_video2", 1792, 1024, 25, "sora_video2-landscape-hd-25s", ()),
        ("sora_video2-pro", 1024, 1792, 25, "sora_video2-portrait-hd-25s-pro", ()),
        (
            "sora_video2",
            854,
            480,
            5,
            "sora_video2-landscape-10s",
            ("The size 854x480 became landscape.", "The length 5 s became 10 s."),
        ),
        (
            "sora_video2",
            1080,
            1920,
            10,
            "sora_video2-portrait-hd-10s",
            ("The size 1080x1920 became portrait hd.",),
        ),
        ("sora2", 1280, 720, 10, "sora2-landscape-10s", ()),
        ("sora2", 1792, 1024, 10, "sora2-landscape-10s", ("The size 1792x1024 became landscape.",)),
        ("sora2pro", 1024, 1792, 15, "sora2pro-hd-portrait-15s", ()),
        ("sora-2-chat", 1792, 1024, 15, "sora-2-hd-15s-chat", ("The size 1792x1024 became hd.",)),
        ("sora-2-chat", 1280, 720, 15, "sora-2-15s-chat", ("The size 1280x720 was left to the gateway.",)),
        (
            "sora-2",
            1280,
            720,
            10,
            "sora-2",
            ("width, height, n_frames not sent: the name sora-2 decides the size and the length.",),
        ),
        (
            " sora2-hd-15s ",
            1280,
            720,
            10,
            "sora2-hd-15s",
            ("width, height, n_frames not sent: the name sora2-hd-15s decides the size and the length.",),
        ),
    ],
)
def test_the_model_name_says_size_and_length_and_what_it_says_otherwise_is_told(
    model, width, height, seconds, name, changes
):
    request = VideoRequest(prompt="fly", model=model, width=width, height=height, n_frames=int(seconds * 30))
    assert (CHAT.create(request, KEY).body or {})["model"] == name
    assert Chat().adjusted(request) == changes


def test_a_name_sent_as_it_is_leaves_nothing_unsaid_that_nobody_asked_for():
    assert Chat().adjusted(VideoRequest(prompt="fly", model="sora-2-hd-15s-chat")) == ()


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 10_000))
def test_every_size_and_length_has_a_name_of_the_first_family(width, height, n_frames):
    request = VideoRequest(prompt="fly", width=width, height=height, n_frames=n_frames)
    name = (CHAT.create(request, KEY).body or {})["model"]
    assert re.fullmatch(r"sora-(1:1|16:9|9:16)-(480|720|1080)p-(5|10|15|20)s", name)


LATER = {"code": "server_busy", "message": "later"}


@pytest.mark.parametrize(
    "earlier",
    [
        {"status": "processing", "progress": 30},
        {"choices": [{"delta": {"reasoning": "Task accepted, generating 30%"}}]},
        {"choices": [{"delta": {"status": "queued"}}]},
    ],
)
def test_a_refusal_after_any_sign_of_life_is_not_free(earlier: dict[str, Any]):
    reader = ChatReader("k")
    reader.feed(json.dumps({"id": "chatcmpl-1", "object": "chat.completion.chunk", **earlier}))
    with pytest.raises(SoraError) as caught:
        reader.feed(json.dumps({"error": LATER}))
    assert caught.value.charged == "unknown"


def test_a_refusal_after_nothing_but_the_form_is_free():
    reader = ChatReader("k")
    begun = {
        "id": "chatcmpl-1",
        "created": 1,
        "model": "sora",
        "choices": [{"index": 0, "delta": {"role": "assistant"}}],
    }
    reader.feed(json.dumps(begun))
    with pytest.raises(SoraError) as caught:
        reader.feed(json.dumps({"error": LATER}))
    assert caught.value.charged == "no"


def test_what_stands_beside_an_error_was_said():
    reader = ChatReader("k")
    said = "```html\n<video src='https://cdn.test/v.mp4'></video>\n```"
    reader.feed(json.dumps({"choices": [{"delta": {"content": said}, "finish_reason": "stop"}], "error": LATER}))
    assert reader.finish().generations[0].url == "https://cdn.test/v.mp4"


def test_a_model_or_a_word_in_the_prompt_is_no_tasks_name():
    reader = ChatReader("k")
    reader.feed(json.dumps({"choices": [{"delta": {"content": "模型 ID: `sora-2` and ID: `A17` "}}]}))
    assert not reader.named
