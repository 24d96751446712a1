"""Looks and waits by hand: when each is due, what passes, what ends them, and what they hand back."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from by_hand import Play, html, reply
from conftest import Clock

from sora_tools import (
    AuthenticationError,
    EndpointUnavailableError,
    InvalidRequestError,
    LostReplyError,
    Retry,
    SubmissionUnknownError,
    TaskFailedError,
    TaskNotFoundError,
    UnreadableReplyError,
    VideoRequest,
    VideoTask,
    WaitTimeoutError,
)
from sora_tools.dialects import dialect
from sora_tools.events import Retrying, Seen
from sora_tools.flow import (
    ALONE,
    NO_NEWS,
    Gateway,
    Send,
    create,
    listed,
    query,
    successful,
    wait,
)

TASK = "task_01jy8k72axednrjcnvmkwpqp11"


def task(status: str = "running", **fields: Any) -> VideoTask:
    return VideoTask(task_id=TASK, status=status, **fields)


def page(*ids: str, has_more: bool = False, **fields: Any) -> Any:
    tasks = [{"id": task_id, "status": "running", **fields} for task_id in ids]
    return reply(200, {"task_responses": tasks, "last_id": None, "has_more": has_more})


# --- one look ---------------------------------------------------------------------------------------------------


def test_a_task_is_found_in_the_list(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], [page("task_a", TASK, progress_pct=0.5)])
    found = play.run(query(gateway, TASK))
    assert (found.task_id, found.status, found.progress) == (TASK, "running", 0.5)
    assert len(play.sent) == 1


def test_a_task_is_found_on_a_later_page(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], [page("task_a", has_more=True), page("task_b", has_more=True), page(TASK)])
    assert play.run(query(gateway, TASK)).task_id == TASK
    assert len(play.sent) == 3


def test_a_task_is_found_far_down_the_list(gateway: Gateway, clock: Clock) -> None:
    pages = [page(f"task_{n}", has_more=True) for n in range(60)]
    play = Play(clock, [], [*pages, page(TASK, has_more=True)])
    assert play.run(query(gateway, TASK)).task_id == TASK
    assert [call.query["before"] for call in play.calls] == [None, *(f"task_{n}" for n in range(60))]


def test_a_task_further_down_than_was_read_may_be_there_all_the_same(gateway: Gateway, clock: Clock) -> None:
    pages = [page(f"task_{n}", has_more=True) for n in range(100)]
    play = Play(clock, [], [*pages, html()])
    with pytest.raises(TaskNotFoundError, match="which goes on") as caught:
        play.run(query(gateway, TASK))
    assert (caught.value.retryable, len(play.calls)) == (True, 101)


def test_a_list_that_pays_no_heed_to_before_is_not_taken_for_the_whole(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], [page("task_a", has_more=True), page("task_a", has_more=True), html()])
    with pytest.raises(TaskNotFoundError, match="which goes on"):
        play.run(query(gateway, TASK))


def test_a_route_by_id_that_answers_with_a_list_has_not_found_it(gateway: Gateway, clock: Clock) -> None:
    with pytest.raises(TaskNotFoundError):
        Play(clock, [], [page("task_a")]).run(query(gateway, TASK))


def test_looks_are_repeated_within_the_budget_and_not_within_their_patience(gateway: Gateway, clock: Clock) -> None:
    gateway.retry = Retry(attempts=50, budget=10.0)
    start = clock.seconds
    with pytest.raises(LostReplyError):
        Play(clock, [], [reply(500, "")]).run(query(gateway, TASK, patience=600.0))
    assert clock.seconds - start <= 10.0


def test_a_task_missing_from_the_list_is_asked_for_by_id(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], [page("task_a"), reply(200, {"id": TASK, "status": "queued"})])
    assert play.run(query(gateway, TASK)).status == "queued"


def test_a_list_that_refuses_to_be_asked_hides_no_answer_about_the_task(gateway: Gateway, clock: Clock) -> None:
    gateway.dialect = dialect("videos")
    refusal = reply(400, {"error": {"message": "Provider not provided"}})
    with pytest.raises(TaskNotFoundError, match="Video not found"):
        Play(clock, [], [reply(404, {"detail": "Video not found"}), refusal]).run(query(gateway, TASK))
    with pytest.raises(InvalidRequestError, match="not provided"):
        Play(clock, [], [refusal]).run(query(gateway, TASK))


def test_a_gateway_without_a_route_by_id_is_asked_for_it_once_a_minute(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], [page("task_a"), html(), page("task_a")])
    for _ in range(2):
        with pytest.raises(TaskNotFoundError):
            play.run(query(gateway, TASK))
    assert len(play.sent) == 3
    clock.seconds += 61
    play.answers["GET"] = [page("task_a"), reply(200, {"id": TASK, "status": "queued"})]
    assert play.run(query(gateway, TASK)).status == "queued"


def test_when_neither_route_is_served_the_endpoint_is_unavailable(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], [html()])
    with pytest.raises(EndpointUnavailableError):
        play.run(query(gateway, TASK))
    assert len(play.sent) == 4 + 1
    sent = len(play.sent)
    with pytest.raises(EndpointUnavailableError):
        play.run(query(gateway, TASK))
    assert len(play.sent) == sent, "the cool-down answers at once"


def test_a_cool_down_of_creates_leaves_looks_alone(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [reply(405, "")], [page(TASK)])
    with pytest.raises(EndpointUnavailableError):
        play.run(create(gateway, VideoRequest(prompt="x")))
    assert play.run(query(gateway, TASK)).task_id == TASK


@pytest.mark.parametrize(
    "passing",
    [LostReplyError("reset"), reply(500, ""), reply(502, "x"), reply(429, ""), reply(200, ""), reply(200, "{")],
    ids=repr,
)
def test_what_may_pass_is_asked_again(gateway: Gateway, clock: Clock, passing: Any) -> None:
    play = Play(clock, [], [passing, passing, page(TASK)])
    assert play.run(query(gateway, TASK)).task_id == TASK


def test_an_unreadable_look_names_the_task(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], [reply(200, "")])
    with pytest.raises(UnreadableReplyError) as caught:
        play.run(query(gateway, TASK))
    assert caught.value.task_id == TASK
    assert len(play.sent) == 4


def test_a_refused_key_is_not_asked_with_again(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], [reply(401, "")])
    with pytest.raises(AuthenticationError):
        play.run(query(gateway, TASK))
    assert len(play.sent) == 1


def test_a_task_accepted_a_moment_ago_may_be_invisible(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [reply(200, {"id": "task_new"})], [page(), html(), page()])
    play.run(create(gateway, VideoRequest(prompt="x"), "k"))
    assert play.run(query(gateway, "task_new")).status == "queued"
    clock.seconds += 61
    with pytest.raises(TaskNotFoundError):
        play.run(query(gateway, "task_new"))


def test_a_ledger_key_stands_for_its_task(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [reply(200, {"id": TASK})], [page(TASK)])
    play.run(create(gateway, VideoRequest(prompt="x"), "my-key"))
    assert play.run(query(gateway, "my-key")).task_id == TASK


def test_the_key_of_an_unknown_fate_says_so(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [reply(500, "")])
    with pytest.raises(SubmissionUnknownError):
        play.run(create(gateway, VideoRequest(prompt="x"), "my-key"))
    with pytest.raises(SubmissionUnknownError) as caught:
        play.run(query(gateway, "my-key"))
    assert caught.value.charged == "unknown"


@pytest.mark.parametrize("given", ["", "../x", "a/b", "a%2e", ".", "..", "x" * 10_000, "a b", "任务", "a\n"])
def test_check_11_an_id_that_could_leave_its_path_is_refused_unsent(gateway: Gateway, clock: Clock, given: str) -> None:
    play = Play(clock, [], [page()])
    with pytest.raises(InvalidRequestError, match="task_id"):
        play.run(query(gateway, given))
    assert play.sent == []


@pytest.mark.parametrize("odd", ["任务 1", "a/b", "task?x=1&y", "%2e", "id with spaces"])
def test_an_odd_id_that_the_gateway_gave_can_be_asked_for(gateway: Gateway, clock: Clock, odd: str) -> None:
    Play(clock, [reply(200, {"id": odd})]).run(create(gateway, VideoRequest(prompt="x"), "k"))
    for name in (odd, "k"):
        play = Play(clock, [], [page("task_a"), reply(200, {"id": odd, "status": "running"})])
        assert play.run(query(gateway, name)).task_id == odd
        path = play.calls[1].path
        assert path.isascii()
        assert path.count("/") == len(path.split("/video_gen/")[0].split("/")) + 1
        assert not {"?", "&", " "} & set(path)


def test_a_list_asks_for_what_was_asked(gateway: Gateway, clock: Clock) -> None:
    flow = listed(gateway, 7, "task_x")
    wish = next(flow)
    assert isinstance(wish, Send)
    assert wish.call.query == {"limit": 7, "before": "task_x"}
    flow.close()
    for limit in (0, 101):
        with pytest.raises(InvalidRequestError, match="limit"):
            Play(clock, []).run(listed(gateway, limit))


# --- waiting ----------------------------------------------------------------------------------------------------


def test_check_10_a_wait_looks_at_once_and_then_as_it_ages(gateway: Gateway, clock: Clock) -> None:
    start = clock.seconds
    play = Play(clock, [], news=[task()])
    with pytest.raises(WaitTimeoutError):
        play.run(wait(gateway, TASK, 600.0))
    due = [at - start for at in play.looks]
    gaps = [later - earlier for earlier, later in itertools.pairwise(due)]
    assert due[0] == 0
    assert gaps[0] == pytest.approx(1.1)
    assert max(gaps) <= 15 * 1.1 + 0.01
    for age, gap in zip(due[:-1], gaps[:-1], strict=False):
        assert gap == pytest.approx(min(15.0, max(1.0, age * 0.05)) * 1.1)


def test_the_last_look_is_at_the_deadline_and_the_error_carries_the_task(gateway: Gateway, clock: Clock) -> None:
    start = clock.seconds
    play = Play(clock, [], news=[task(progress=0.4)])
    with pytest.raises(WaitTimeoutError) as caught:
        play.run(wait(gateway, TASK, 10.0))
    assert play.looks[-1] - start == pytest.approx(10.0)
    assert caught.value.task == task(progress=0.4)
    assert caught.value.task_id == TASK
    assert caught.value.charged == "yes"
    assert "40% done" in str(caught.value)


def test_a_wait_of_no_seconds_looks_once(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], news=[task()])
    with pytest.raises(WaitTimeoutError):
        play.run(wait(gateway, TASK, 0.0))
    assert len(play.looks) == 1


def test_a_wait_of_no_seconds_for_a_key_looks_for_it(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [reply(500, "")], [page()], news=[task()])
    with pytest.raises(SubmissionUnknownError):
        play.run(create(gateway, VideoRequest(prompt="fly man"), "k"))
    lists = play.sent.count("GET")
    with pytest.raises(SubmissionUnknownError):
        play.run(wait(gateway, "k", 0.0))
    assert play.sent.count("GET") > lists


def test_check_10_each_hint_of_the_gateway_holds_for_one_look(gateway: Gateway, clock: Clock) -> None:
    start = clock.seconds
    news = [task(poll_after=5.0), task(poll_after=2.0), task(), task("succeeded")]
    play = Play(clock, [], news=news)
    assert play.run(wait(gateway, TASK, 600.0)).status == "succeeded"
    assert [round(at - start, 2) for at in play.looks] == [0, 5, 7, 8.1]


def test_every_answered_look_is_told(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], news=[task("queued"), NO_NEWS, task("running"), task("succeeded")])
    play.run(wait(gateway, TASK, 600.0))
    assert [event.task.status for event in play.events if isinstance(event, Seen)] == ["queued", "running", "succeeded"]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_task_that_fails_ends_the_wait(gateway: Gateway, clock: Clock, status: str) -> None:
    failure = {"kind": "moderation_output", "message": "blocked"}
    ended = Play(clock, [], news=[task(), task(status, failure=failure)]).run(wait(gateway, TASK, 600.0))
    with pytest.raises(TaskFailedError, match="blocked") as caught:
        successful(ended)
    assert (caught.value.charged, caught.value.task, caught.value.retryable) == ("yes", ended, False)


def test_an_unknown_status_is_waited_out(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], news=[task("unknown", raw_status="pondering"), task("succeeded")])
    assert play.run(wait(gateway, TASK, 600.0)).status == "succeeded"


def test_trouble_is_waited_out_under_the_deadline(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], [reply(500, "")] * 9 + [page(TASK)], news=[ALONE, ALONE, ALONE, task("succeeded")])
    assert play.run(wait(gateway, TASK, 600.0)).status == "succeeded"


def test_trouble_to_the_end_is_the_error(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], [reply(500, "")])
    with pytest.raises(LostReplyError) as caught:
        play.run(wait(gateway, TASK, 30.0))
    assert caught.value.task_id == TASK


def test_trouble_after_news_is_a_timeout_with_the_news(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], [reply(500, "")], news=[task(progress=0.2), ALONE])
    with pytest.raises(WaitTimeoutError) as caught:
        play.run(wait(gateway, TASK, 30.0))
    assert caught.value.task.progress == 0.2


def test_a_task_not_yet_shown_is_waited_for(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], [page(), html(), page(), page(TASK)], news=[ALONE, ALONE, ALONE, task("succeeded")])
    assert play.run(wait(gateway, "task_fresh", 600.0)).status == "succeeded"


def test_a_task_never_shown_is_not_found_after_the_grace(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [reply(200, {"id": "task_fresh"})], [page(), html(), page()])
    play.run(create(gateway, VideoRequest(prompt="x")))
    for task_id, grace in (("task_fresh", 60), ("task_of_nobody", 10)):
        start = clock.seconds
        with pytest.raises(TaskNotFoundError):
            play.run(wait(gateway, task_id, 600.0))
        assert grace <= clock.seconds - start <= grace + 5


def test_an_old_id_that_is_not_shown_is_not_found_at_once(gateway: Gateway, clock: Clock) -> None:
    clock.seconds = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
    start = clock.seconds
    play = Play(clock, [], [page(), html()])
    with pytest.raises(TaskNotFoundError):
        play.run(wait(gateway, TASK, 600.0))
    assert clock.seconds == start


def test_chance_spreads_the_looks_of_many_waits(gateway: Gateway, clock: Clock) -> None:
    gateway.jitter = lambda: 0.0
    play = Play(clock, [], news=[task(), task("succeeded")])
    play.run(wait(gateway, TASK, 600.0))
    assert play.looks[1] - play.looks[0] == pytest.approx(0.9)


def test_a_gateway_cannot_make_us_look_without_a_pause(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], news=[task(poll_after=0.0), task(poll_after=0.0), task("succeeded")])
    play.run(wait(gateway, TASK, 600.0))
    assert [at - play.looks[0] for at in play.looks] == pytest.approx([0.0, 0.5, 1.0])


def test_a_wait_does_not_wait_for_a_refused_key(gateway: Gateway, clock: Clock) -> None:
    with pytest.raises(AuthenticationError):
        Play(clock, [], [reply(401, "")]).run(wait(gateway, TASK, 600.0))


def test_a_wait_does_not_wait_for_a_route_that_is_not_served(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], [html()])
    with pytest.raises(EndpointUnavailableError) as caught:
        play.run(wait(gateway, TASK, 600.0))
    assert (caught.value.task_id, len(play.looks)) == (TASK, 1)


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), "60", None, -1, -0.001, 10_000_001])
def test_a_wait_without_an_end_or_a_length_is_refused(gateway: Gateway, clock: Clock, timeout: Any) -> None:
    play = Play(clock, [], news=[task("succeeded")])
    with pytest.raises(InvalidRequestError, match="timeout: "):
        play.run(wait(gateway, TASK, timeout))
    assert play.looks == []


@pytest.mark.parametrize(("vouched", "charged"), [(True, "yes"), (False, "unknown")])
@pytest.mark.parametrize("news", [NO_NEWS, LostReplyError("reset"), ALONE], ids=repr)
def test_only_the_ledger_vouches_for_a_task_that_no_look_has_shown(
    gateway: Gateway, clock: Clock, news: Any, vouched: bool, charged: str
) -> None:
    play = Play(clock, [reply(200, {"id": TASK})], [reply(500, "")], news=[news])
    if vouched:
        play.run(create(gateway, VideoRequest(prompt="x"), "k"))
    with pytest.raises(WaitTimeoutError if news is NO_NEWS else LostReplyError) as caught:
        play.run(wait(gateway, TASK, 10.0))
    assert (caught.value.charged, caught.value.task_id) == (charged, TASK)


def test_trouble_of_a_shared_look_is_told_and_ends_up_in_the_timeout(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], news=[task(progress=0.2), LostReplyError("the cable was cut.")])
    with pytest.raises(WaitTimeoutError, match="Later looks failed: the cable was cut") as caught:
        play.run(wait(gateway, TASK, 2.0))
    assert caught.value.task == task(progress=0.2)
    retrying = [event for event in play.events if isinstance(event, Retrying)]
    assert [type(event.error) for event in retrying] == [LostReplyError] * 2
    assert retrying[0].seconds == pytest.approx(play.looks[2] - play.looks[1], abs=0.2)


def test_news_after_trouble_make_it_forgotten(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [], news=[LostReplyError("reset"), task()])
    with pytest.raises(WaitTimeoutError) as caught:
        play.run(wait(gateway, TASK, 10.0))
    assert "reset" not in str(caught.value)


def test_trouble_shared_by_two_waits_names_each_ones_task(gateway: Gateway, clock: Clock) -> None:
    shared = LostReplyError("reset")
    for task_id in ("task_a", "task_b"):
        with pytest.raises(LostReplyError) as caught:
            Play(clock, [], news=[shared]).run(wait(gateway, task_id, 0.0))
        assert caught.value.task_id == task_id
