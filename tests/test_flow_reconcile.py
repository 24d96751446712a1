"""Creates whose fate is unknown, by hand: what is looked for, how often, what is adopted, and what is sent again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import pytest
from by_hand import NOTHING, Play, html, reply
from conftest import Clock
from pydantic import SecretStr

from sora_tools import (
    BusyError,
    ConfigurationError,
    InvalidRequestError,
    LostReplyError,
    NotSentError,
    SoraError,
    SubmissionUnknownError,
    TaskNotFoundError,
    VideoRequest,
)
from sora_tools.events import NotRecorded, Submitted
from sora_tools.flow import Finish, Gateway, create, query, resume, wait
from sora_tools.flow.reconcile import PAUSES, RECONCILE
from sora_tools.ledger import Unsure
from sora_tools.ledger.sqlite import ForgetfulLedger, MemoryLedger

REAL_PAUSES = PAUSES
TASK = "task_01jy8k72axednrjcnvmkwpqp11"
REQUEST = VideoRequest(prompt="fly man")
STORY = [{"time": 0, "description": "flies"}, {"time": 2, "description": "lands"}]


def LOST() -> Any:  # noqa: N802  # a line of a script
    raise LostReplyError("reset")


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch, hasty: None) -> None:
    """The clock here jumps, so nothing needs to be hurried."""
    monkeypatch.setattr("sora_tools.flow.reconcile.PAUSES", REAL_PAUSES)


def shown(clock: Clock, *tasks: dict[str, Any], **headers: str) -> Any:
    """A list of tasks made ``age`` seconds ago, one of ours unless something is said otherwise."""
    usual = {"id": TASK, "status": "queued", "prompt": "fly man", "width": 854, "height": 480, "n_frames": 150}
    listed = []
    for given in tasks or ({},):
        made = datetime.fromtimestamp(clock.seconds - given.pop("age", 0), UTC).isoformat()
        listed.append({**usual, "created_at": made, **given})
    return reply(200, {"task_responses": listed, "has_more": False}, **headers)


def run(gateway: Gateway, play: Play, key: str = "k", request: VideoRequest = REQUEST, **how: Any) -> Any:
    return play.run(create(gateway, request, key, **how))


def state(gateway: Gateway, key: str = "k") -> Any:
    row = gateway.ledger.find(key)
    return row and (row.state, row.task_id)


# --- looking ----------------------------------------------------------------------------------------------------


def test_a_lost_create_is_looked_for_at_least_four_times_over_eight_seconds(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [LOST])
    start = clock.seconds
    with pytest.raises(SubmissionUnknownError, match="reset") as caught:
        run(gateway, play)
    assert play.sent == ["POST"] + ["GET"] * 4
    assert 8.0 <= clock.seconds - start <= RECONCILE
    assert (caught.value.charged, caught.value.key, state(gateway)) == ("unknown", "k", ("unsure", None))
    assert "by its key" in caught.value.hint


@pytest.mark.parametrize("before", range(4))
def test_a_task_that_shows_up_late_is_adopted(gateway: Gateway, clock: Clock, before: int) -> None:
    play = Play(clock, [LOST], [*[NOTHING] * before, lambda: shown(clock)])
    task = run(gateway, play)
    assert (task.task_id, play.posts, state(gateway)) == (TASK, 1, ("accepted", TASK))
    assert play.sent.count("GET") == before + 1
    assert play.events[-1] == Submitted("k", task, reused=False)


def test_a_task_that_shows_up_later_still_is_found_by_its_key(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [LOST])
    with pytest.raises(SubmissionUnknownError):
        run(gateway, play)
    clock.seconds += 60
    later = Play(clock, [], [shown(clock, {"age": 60})])
    assert later.run(query(gateway, "k")).task_id == TASK
    assert (later.posts, state(gateway)) == (0, ("accepted", TASK))


HOWS = {
    "query": query,
    "wait": lambda gateway, key: wait(gateway, key, 30.0),
    "resume": lambda gateway, key: resume(gateway, key, 30.0, None),
}


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
def test_a_key_that_is_not_found_says_so_and_sends_nothing(gateway: Gateway, clock: Clock, how: Any) -> None:
    with pytest.raises(SubmissionUnknownError):
        run(gateway, Play(clock, [LOST]))
    play = Play(clock, [])
    with pytest.raises(SubmissionUnknownError) as caught:
        play.run(how(gateway, "k"))
    assert (play.posts, caught.value.key, caught.value.charged) == (0, "k", "unknown")


def test_a_list_that_fails_for_now_is_asked_again(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [LOST], [reply(503, {"message": "temporarily suspended"})] * 4 + [lambda: shown(clock)])
    assert run(gateway, play).task_id == TASK


@pytest.mark.parametrize("answer", [reply(404, ""), html(), reply(501, "")], ids=["404", "page", "501"])
def test_a_gateway_without_a_list_leaves_the_fate_unknown_at_once(gateway: Gateway, clock: Clock, answer: Any) -> None:
    gateway.retry = type(gateway.retry)(attempts=1)
    start = clock.seconds
    play = Play(clock, [LOST], [answer])
    with pytest.raises(SubmissionUnknownError):
        run(gateway, play)
    assert (play.sent, clock.seconds - start) == (["POST", "GET"], 0)


def test_looking_ends_with_its_own_deadline(gateway: Gateway, clock: Clock) -> None:
    def slowly() -> Any:
        clock.seconds += 5
        return NOTHING

    start = clock.seconds
    play = Play(clock, [LOST], [slowly])
    with pytest.raises(SubmissionUnknownError):
        run(gateway, play)
    assert play.sent == ["POST"] + ["GET"] * 3
    assert clock.seconds - start <= RECONCILE + 5


def test_there_is_time_to_look_even_where_every_second_went_into_retries(gateway: Gateway, clock: Clock) -> None:
    answers = [reply(429, "", retry_after="9")] * 3 + [LOST]
    play = Play(clock, answers, [NOTHING, lambda: shown(clock)])
    assert run(gateway, play, patience=44.0).task_id == TASK


# --- what is adopted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "fly woman"},
        {"width": 1280},
        {"n_frames": 300},
        {"n_variants": 2},
        {"operation": "remix"},
        {"age": 121},
        {"age": -3700},
        {"prompt": None},
        {"created_at": None, "id": "task_of_no_known_time"},
    ],
    ids=str,
)
def test_what_need_not_be_ours_is_not_adopted(gateway: Gateway, clock: Clock, other: dict[str, Any]) -> None:
    play = Play(clock, [LOST], [shown(clock, dict(other))])
    with pytest.raises(SubmissionUnknownError):
        run(gateway, play)
    assert (play.posts, state(gateway)) == (1, ("unsure", None))


@pytest.mark.parametrize("created", [None, "0001-01-01T00:00:00Z"])
def test_the_time_in_an_id_stands_in_for_a_missing_date(gateway: Gateway, clock: Clock, created: Any) -> None:
    clock.seconds = 1_750_487_800.0  # when this TypeID was made, by its own account
    play = Play(clock, [LOST], [shown(clock, {"created_at": created})])
    assert run(gateway, play).task_id == TASK


def test_of_two_that_may_be_ours_the_nearest_in_time_is(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [LOST], [lambda: shown(clock, {"id": "task_far", "age": 90}, {"id": "task_near", "age": 1})])
    assert run(gateway, play).task_id == "task_near"


def test_twins_adopt_two_different_tasks(gateway: Gateway, clock: Clock) -> None:
    both = lambda: shown(clock, {"id": "task_a"}, {"id": "task_b"})  # noqa: E731  # the clock moves on
    found = {run(gateway, Play(clock, [LOST], [both]), key).task_id for key in ("first", "second")}
    assert found == {"task_a", "task_b"}
    with pytest.raises(SubmissionUnknownError):
        run(gateway, Play(clock, [LOST], [both]), "third")


def test_a_direct_answer_beats_an_adoption(gateway: Gateway, clock: Clock) -> None:
    """Two identical creates: the lost one takes the other's task before that one is answered."""

    def meanwhile() -> Any:
        run(gateway, Play(clock, [LOST], [lambda: shown(clock)]), "lost")
        return reply(200, {"id": TASK})

    assert run(gateway, Play(clock, [meanwhile]), "answered").task_id == TASK
    assert (state(gateway, "answered"), state(gateway, "lost")) == (("accepted", TASK), ("unsure", None))


@pytest.mark.parametrize(
    "actions",
    [STORY, STORY[::-1], {"0": "flies", "60": "lands"}, {"60": " LANDS ", "0": "flies"}],
    ids=["as sent", "turned round", "by frame", "normalised"],
)
def test_a_storyboard_is_found_whatever_shape_its_actions_have(gateway: Gateway, clock: Clock, actions: Any) -> None:
    request = VideoRequest(operation="storyboard", actions=STORY)
    play = Play(clock, [LOST], [lambda: shown(clock, {"prompt": None, "actions": actions, "operation": "storyboard"})])
    assert run(gateway, play, request=request).task_id == TASK


# --- clocks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [-7200, -300, 0, 300, 7200])
def test_the_window_goes_by_the_gateways_clock(gateway: Gateway, clock: Clock, ahead: int) -> None:
    def there(age: float) -> Any:
        return shown(clock, {"age": age - ahead}, date=formatdate(clock.seconds + ahead, usegmt=True))

    assert run(gateway, Play(clock, [LOST], [there(1)])).task_id == TASK
    with pytest.raises(SubmissionUnknownError):
        run(gateway, Play(clock, [LOST], [there(300)]), "another")


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Wed, 21 Oct 99999999 07:28:00 GMT", "Mon, 01 Jan 0001 00:00:00 GMT"]
)
def test_a_date_that_is_none_changes_nothing(gateway: Gateway, clock: Clock, date: str) -> None:
    assert run(gateway, Play(clock, [LOST], [lambda: shown(clock, date=date)])).task_id == TASK


def test_a_clock_that_may_be_wrong_does_not_make_a_task_too_old_to_forbid_sending(
    gateway: Gateway, clock: Clock
) -> None:
    """A proxy's ``Date`` is an hour ahead of the gateway that made the task."""
    seen = lambda: shown(clock, date=formatdate(clock.seconds + 3600, usegmt=True))  # noqa: E731  # the clock moves on
    play = Play(clock, [html(), reply(200, {"id": "task_second"})], [seen])
    with pytest.raises(SubmissionUnknownError):
        run(gateway, play)
    assert play.posts == 1


# --- the same key again -----------------------------------------------------------------------------------------


def crashed(gateway: Gateway, key: str = "k") -> None:
    """What a process leaves behind that died between the note and the answer."""
    flow = create(gateway, REQUEST, key)
    inner = next(flow).flow
    begin = next(inner)
    inner.send(begin.work(*begin.arguments))
    inner.close()
    flow.close()
    assert state(gateway, key) == ("intended", None)


def test_after_a_crash_the_next_call_looks_and_does_not_send(gateway: Gateway, clock: Clock) -> None:
    crashed(gateway)
    play = Play(clock, [], [NOTHING, lambda: shown(clock)])
    task = run(gateway, play)
    assert (task.task_id, play.sent) == (TASK, ["GET", "GET"])
    assert play.events[-1] == Submitted("k", task, reused=True)


def test_after_a_crash_that_left_nothing_the_next_call_says_unknown(gateway: Gateway, clock: Clock) -> None:
    crashed(gateway)
    for _ in range(3):
        play = Play(clock, [])
        with pytest.raises(SubmissionUnknownError, match="not known"):
            run(gateway, play)
        assert (play.posts, state(gateway)) == (0, ("unsure", None))


def test_the_caller_may_say_to_send_again_and_what_is_found_first_is_not_paid_for(
    gateway: Gateway, clock: Clock
) -> None:
    crashed(gateway)
    play = Play(clock, [reply(200, {"id": "task_new"})])
    assert run(gateway, play, resend=True).task_id == "task_new"
    assert play.sent == [*["GET"] * 4, "POST"]
    crashed(gateway, "other")
    play = Play(clock, [reply(200, {"id": "task_new"})], [lambda: shown(clock)])
    assert run(gateway, play, "other", resend=True).task_id == TASK
    assert play.posts == 0


def test_a_second_send_that_is_refused_leaves_the_first_unknown(gateway: Gateway, clock: Clock) -> None:
    crashed(gateway)
    play = Play(clock, [reply(401, "")])
    with pytest.raises(SubmissionUnknownError):
        run(gateway, play, resend=True)
    assert (play.posts, state(gateway)) == (1, ("unsure", None))


def test_resending_what_was_never_sent_is_an_ordinary_create(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [LOST])
    with pytest.raises(SubmissionUnknownError):
        run(gateway, play, resend=True)
    assert play.posts == 1


def test_another_attempt_that_is_still_looking_is_waited_for(gateway: Gateway, clock: Clock) -> None:
    crashed(gateway)
    held = gateway.ledger.resume("k")
    assert isinstance(held, Unsure)
    play = Play(clock, [])
    with pytest.raises(BusyError) as caught:
        play.run(query(gateway, "k", 5.0))
    assert (caught.value.charged, caught.value.key) == ("unknown", "k")
    play.at_nap = lambda: gateway.ledger.adopt(held.claim, [TASK])
    play = Play(clock, [], [shown(clock)])
    play.at_nap = lambda: gateway.ledger.adopt(held.claim, [TASK])
    assert play.run(query(gateway, "k", 5.0)).task_id == TASK


@pytest.mark.parametrize(("accepted", "charged"), [(False, "unknown"), (True, None)])
def test_who_is_turned_away_at_the_gate_is_not_told_that_nothing_was_charged(
    gateway: Gateway, clock: Clock, accepted: bool, charged: str | None
) -> None:
    crashed(gateway)
    if accepted:
        gateway.ledger.settle(gateway.ledger.resume("k").claim, "accepted", TASK)

    class Crowded(Play):
        def grant(self, wish: Any) -> Any:
            if isinstance(wish, Finish):
                wish.flow.close()
                raise NotSentError("no place at the gate")
            return super().grant(wish)

    play = Crowded(clock, [])
    if charged is None:
        assert run(gateway, play).task_id == TASK
        return
    with pytest.raises(SoraError) as caught:
        run(gateway, play)
    assert (caught.value.charged, play.posts) == (charged, 0)


def test_the_key_of_a_refused_submission_has_no_task(gateway: Gateway, clock: Clock) -> None:
    with pytest.raises(InvalidRequestError):
        run(gateway, Play(clock, [reply(400, "")]))
    with pytest.raises(TaskNotFoundError) as caught:
        Play(clock, []).run(query(gateway, "k"))
    assert caught.value.charged == "no"


def test_a_key_of_another_gateway_is_not_asked_of_this_one(gateway: Gateway, clock: Clock) -> None:
    crashed(gateway)
    with gateway.ledger._turn() as db:
        db.execute("update submission set gateway = 'https://other.test:443'")
    play = Play(clock, [])
    with pytest.raises(InvalidRequestError, match=r"other\.test"):
        play.run(query(gateway, "k"))
    assert play.calls == []


# --- what the attackers found -----------------------------------------------------------------------------------


def test_a_create_that_is_sent_again_is_found_by_its_last_send(gateway: Gateway, clock: Clock) -> None:
    crashed(gateway)
    clock.seconds += 7200
    play = Play(clock, [LOST], [NOTHING] * 4 + [lambda: shown(clock)])
    assert run(gateway, play, resend=True).task_id == TASK
    assert play.posts == 1


def test_another_accounts_list_decides_nothing(gateway: Gateway, clock: Clock) -> None:
    crashed(gateway)
    other = replace(gateway, settings=replace(gateway.settings, api_key=SecretStr("sk-another-key")))
    for how in ({}, {"honoured": True}):
        play = Play(clock, [reply(200, {"id": "task_new"})], [shown(clock)])
        with pytest.raises(SubmissionUnknownError, match="another API key"):
            run(replace(other, **how), play)
        assert play.calls == []
    assert run(gateway, Play(clock, [], [shown(clock)])).task_id == TASK


@pytest.mark.parametrize(
    "seen",
    [
        {"age": 300},
        {"age": 8 * 3600},
        {"prompt": "Cinematic 4k shot of fly man, golden hour"},
        {"prompt": None, "age": 300},
    ],
    ids=str,
)
def test_after_a_page_what_nobody_can_rule_out_forbids_a_second_send(
    gateway: Gateway, clock: Clock, seen: dict[str, Any]
) -> None:
    play = Play(clock, [html(), reply(200, {"id": "task_second"})], [shown(clock, dict(seen))])
    with pytest.raises(SubmissionUnknownError):
        run(gateway, play)
    assert play.posts == 1


def test_after_a_page_a_task_that_shows_up_late_is_waited_for(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [html(), reply(200, {"id": "task_second"})], [NOTHING] * 3 + [lambda: shown(clock)])
    assert run(gateway, play).task_id == TASK
    assert play.posts == 1


def test_after_a_page_a_list_that_vanishes_in_mid_look_is_not_unserved(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [html(), reply(200, {"id": "task_second"})], [NOTHING, reply(404, "")])
    with pytest.raises(SubmissionUnknownError):
        run(gateway, play)
    assert play.posts == 1


def page(clock: Clock, *ids: str, age: float = 0, **envelope: Any) -> Any:
    made = datetime.fromtimestamp(clock.seconds - age, UTC).isoformat()
    prompts = {TASK: "fly man"}
    tasks = [{"id": name, "created_at": made, "prompt": prompts.get(name, "another")} for name in ids]
    return reply(200, {"task_responses": tasks, **envelope})


def test_a_list_that_caps_its_pages_and_says_nothing_of_more_is_read_on(gateway: Gateway, clock: Clock) -> None:
    pages = [page(clock, "task_1", "task_2"), page(clock, TASK)]
    assert run(gateway, Play(clock, [LOST], pages)).task_id == TASK


def test_a_list_that_is_oldest_first_is_read_to_its_end(gateway: Gateway, clock: Clock) -> None:
    old = [
        {"id": f"task_{n}", "prompt": "x", "created_at": datetime.fromtimestamp(clock.seconds - age, UTC).isoformat()}
        for n, age in enumerate([9e6, 8e6])
    ]
    pages = [reply(200, {"task_responses": old, "has_more": True}), page(clock, TASK, has_more=False)]
    assert run(gateway, Play(clock, [LOST], pages)).task_id == TASK


@pytest.mark.parametrize("status", [301, 302])
def test_a_redirect_within_the_gateway_may_mean_that_it_was_taken(gateway: Gateway, clock: Clock, status: int) -> None:
    play = Play(clock, [reply(status, "", location=f"/sora/backend/video_gen/{TASK}")], [lambda: shown(clock)])
    assert run(gateway, play).task_id == TASK
    assert play.posts == 1


@pytest.mark.parametrize("thread", ["\ud800", "a\0b", "a\nb"])
def test_a_thread_that_no_ledger_can_hold_is_refused(gateway: Gateway, clock: Clock, thread: str) -> None:
    with pytest.raises(InvalidRequestError, match="thread"):
        run(gateway, Play(clock, []), thread=thread)


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "x\n"])
def test_a_name_that_is_none_is_refused(gateway: Gateway, clock: Clock, name: str) -> None:
    with pytest.raises(InvalidRequestError):
        Play(clock, []).run(query(gateway, name))


class Speechless(MemoryLedger):
    def begin(self, *_: Any) -> Any:
        return None


def test_a_ledger_that_answers_nonsense_is_a_clear_error(gateway: Gateway, clock: Clock) -> None:
    gateway.ledger = Speechless(clock)
    with pytest.raises(ConfigurationError, match="None"):
        run(gateway, Play(clock, []))


# --- a gateway that honours the key -----------------------------------------------------------------------------


@pytest.fixture
def honouring(gateway: Gateway) -> Gateway:
    gateway.honoured = True
    return gateway


def test_where_the_key_is_honoured_the_same_is_sent_again(honouring: Gateway, clock: Clock) -> None:
    play = Play(clock, [LOST, reply(502, ""), reply(200, {"id": TASK})])
    assert run(honouring, play).task_id == TASK
    posts = [(call.body, call.headers) for call in play.calls]
    assert len(posts) == 3
    assert posts[0] == posts[1] == posts[2]


def test_where_the_key_is_honoured_a_crash_is_answered_by_sending(honouring: Gateway, clock: Clock) -> None:
    crashed(honouring)
    play = Play(clock, [reply(200, {"id": TASK})])
    assert run(honouring, play).task_id == TASK
    assert play.sent == ["POST"]


def test_where_the_key_is_honoured_a_conflict_means_that_the_first_is_under_way(
    honouring: Gateway, clock: Clock
) -> None:
    play = Play(clock, [LOST, reply(409, "", retry_after="2"), reply(200, {"id": TASK})])
    assert run(honouring, play).task_id == TASK
    assert play.naps[-1] == 2.0


def test_a_conflict_at_once_is_not_taken_for_a_refusal(honouring: Gateway, clock: Clock) -> None:
    """Another machine sent it first: this ledger knows nothing of that."""
    with pytest.raises(SubmissionUnknownError):
        run(honouring, Play(clock, [reply(409, "")]))
    assert state(honouring) == ("unsure", None)


def test_a_conflict_elsewhere_is_a_refusal(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [reply(409, "")])
    with pytest.raises(InvalidRequestError):
        run(gateway, play)
    assert state(gateway) == ("refused", None)


def test_where_the_key_is_honoured_and_never_answered_it_is_looked_for_in_the_end(
    honouring: Gateway, clock: Clock
) -> None:
    play = Play(clock, [LOST], [lambda: shown(clock)])
    assert run(honouring, play).task_id == TASK
    assert play.sent == ["POST"] * 4 + ["GET"]


class Breaking(MemoryLedger):
    """Breaks once a create was lost."""

    def resume(self, key: str) -> Any:
        raise ConfigurationError("disk full")


@pytest.mark.parametrize("answer", [LOST, html()], ids=["lost", "page"])
def test_a_ledger_that_breaks_does_not_make_a_lost_create_uncharged(
    gateway: Gateway, clock: Clock, answer: Any
) -> None:
    gateway.ledger = Breaking(clock)
    with pytest.raises(SubmissionUnknownError) as caught:
        run(gateway, Play(clock, [answer]))
    assert (caught.value.charged, caught.value.key) == ("unknown", "k")


@pytest.mark.parametrize("answer", [LOST, html()], ids=["lost", "page"])
def test_without_a_ledger_it_is_looked_for_all_the_same(gateway: Gateway, clock: Clock, answer: Any) -> None:
    gateway.ledger = ForgetfulLedger(clock)
    play = Play(clock, [answer], [NOTHING, lambda: shown(clock)])
    assert run(gateway, play).task_id == TASK
    assert play.sent == ["POST", "GET", "GET"]


# --- the same again in one conversation -------------------------------------------------------------------------


def test_asking_again_after_an_unknown_fate_looks_for_the_first(gateway: Gateway, clock: Clock) -> None:
    with pytest.raises(SubmissionUnknownError):
        run(gateway, Play(clock, [LOST]), "first", thread="chat")
    play = Play(clock, [])
    with pytest.raises(SubmissionUnknownError) as caught:
        run(gateway, play, "second", thread="chat")
    assert (caught.value.key, play.posts, state(gateway, "second")) == ("first", 0, None)
    play = Play(clock, [], [lambda: shown(clock)])
    task = run(gateway, play, "third", thread="chat")
    assert (task.task_id, play.posts) == (TASK, 0)
    assert play.events[-1] == Submitted("third", task, reused=True)
    assert Play(clock, []).run(create(gateway, REQUEST, "third", thread="chat")).task_id == TASK


@pytest.mark.parametrize("status", ["queued", "running", "a word nobody knows"])
def test_asking_again_while_the_first_is_under_way_gives_its_task(gateway: Gateway, clock: Clock, status: str) -> None:
    run(gateway, Play(clock, [reply(200, {"id": TASK})]), "first", thread="chat")
    play = Play(clock, [], [shown(clock, {"status": status})])
    task = run(gateway, play, "second", thread="chat")
    assert (task.task_id, play.posts) == (TASK, 0)
    ended = Play(clock, [])
    assert run(gateway, ended, "second", thread="chat").task_id == TASK, "and stays with its key"
    assert ended.calls == []


@pytest.mark.parametrize("status", ["failed", "cancelled", "succeeded"])
def test_asking_again_when_the_first_has_ended_makes_another(gateway: Gateway, clock: Clock, status: str) -> None:
    run(gateway, Play(clock, [reply(200, {"id": TASK})]), "first", thread="chat")
    done = {"status": status, "generations": [{"id": "gen_1", "url": "https://cdn.test/1.mp4"}]}
    play = Play(clock, [reply(200, {"id": "task_second"})], [shown(clock, done)])
    assert run(gateway, play, "second", thread="chat").task_id == "task_second"
    assert gateway.ledger.find("first").outcome == status


@pytest.mark.parametrize("answer", [reply(401, ""), reply(500, ""), html(), NotSentError("no network")], ids=repr)
def test_a_first_one_that_cannot_be_looked_at_counts_as_under_way(gateway: Gateway, clock: Clock, answer: Any) -> None:
    run(gateway, Play(clock, [reply(200, {"id": TASK})]), "first", thread="chat")
    play = Play(clock, [], [answer])
    assert run(gateway, play, "second", thread="chat").task_id == TASK
    assert play.posts == 0


def test_that_hour_begins_when_it_was_sent_last(gateway: Gateway, clock: Clock) -> None:
    with pytest.raises(SubmissionUnknownError):
        run(gateway, Play(clock, [reply(500, "")]), "first", thread="chat")
    clock.seconds += 7200
    assert run(gateway, Play(clock, [reply(200, {"id": TASK})]), "first", thread="chat", resend=True).task_id == TASK
    clock.seconds += 60
    assert run(gateway, Play(clock, [], [NOTHING, html()]), "second", thread="chat").task_id == TASK


def test_a_first_one_that_is_not_shown_counts_as_under_way_for_an_hour(gateway: Gateway, clock: Clock) -> None:
    run(gateway, Play(clock, [reply(200, {"id": TASK})]), "first", thread="chat")
    clock.seconds += 3000
    assert run(gateway, Play(clock, [], [NOTHING, html()]), "second", thread="chat").task_id == TASK
    clock.seconds += 1000
    play = Play(clock, [reply(200, {"id": "task_second"})])
    assert run(gateway, play, "third", thread="chat").task_id == "task_second"


def test_a_new_one_may_be_asked_for(gateway: Gateway, clock: Clock) -> None:
    run(gateway, Play(clock, [reply(200, {"id": TASK})]), "first", thread="chat")
    play = Play(clock, [reply(200, {"id": "task_second"})])
    assert run(gateway, play, "second", thread="chat", repeat="new").task_id == "task_second"
    assert play.sent == ["POST"]
    with pytest.raises(InvalidRequestError, match="'reuse' and 'new'"):
        run(gateway, play, "third", thread="chat", repeat="maybe")


def test_without_a_conversation_every_key_is_a_submission_of_its_own(gateway: Gateway, clock: Clock) -> None:
    for key in ("first", "second"):
        assert run(gateway, Play(clock, [reply(200, {"id": f"task_{key}"})]), key).task_id == f"task_{key}"


class Unreusable(MemoryLedger):
    """Cannot write down what is reused, or how a task ended."""

    def reuse(self, *_: Any) -> None:
        raise OSError("disk full")

    def end(self, *_: Any) -> None:
        raise OSError("disk full")


def test_a_ledger_that_breaks_meanwhile_hides_no_task(gateway: Gateway, clock: Clock) -> None:
    gateway.ledger = Unreusable(clock)
    run(gateway, Play(clock, [reply(200, {"id": TASK})]), "first", thread="chat")
    play = Play(clock, [], [shown(clock)])
    assert run(gateway, play, "second", thread="chat").task_id == TASK
    assert isinstance(play.events[0], NotRecorded)
    play = Play(clock, [reply(200, {"id": "task_third"})], [shown(clock, {"status": "failed"})])
    assert run(gateway, play, "third", thread="chat").task_id == "task_third", "and nobody goes round in circles"
