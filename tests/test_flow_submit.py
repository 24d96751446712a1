"""Creates by hand: every row of the table of what is sent again, as wishes and answers, without a network."""

from __future__ import annotations

from typing import Any

import pytest
from by_hand import Play, reply
from conftest import Clock

from sora_tools import (
    AuthenticationError,
    BusyError,
    EndpointUnavailableError,
    InvalidRequestError,
    LostReplyError,
    NotSentError,
    QuotaError,
    SoraError,
    SubmissionUnknownError,
    VideoRequest,
)
from sora_tools.events import NotRecorded, Retrying, Submitted
from sora_tools.flow import Do, Finish, Gateway, Send, create, requested
from sora_tools.ledger import Claim, State
from sora_tools.ledger.sqlite import MemoryLedger
from sora_tools.prices import Price

TASK = "task_01jy8k72axednrjcnvmkwpqp11"


@pytest.fixture
def request_() -> VideoRequest:
    return VideoRequest(prompt="fly man")


def test_an_accepted_create_is_in_the_ledger_and_told(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    play = Play(clock, [reply(200, {"id": TASK, "priority": None})])
    task = play.run(create(gateway, request_, "my-key", thread="chat-1"))
    assert task.task_id == TASK
    assert play.posts == 1
    row = gateway.ledger.find("my-key")
    assert row is not None
    assert (row.state, row.task_id, row.thread) == ("accepted", TASK, "chat-1")
    assert play.events == [Submitted("my-key", task, reused=False)]


def test_the_intent_is_written_before_the_request_leaves(gateway: Gateway, request_: VideoRequest) -> None:
    attempt = create(gateway, request_, "k")
    inner = next(attempt)
    assert isinstance(inner, Finish)
    begin = next(inner.flow)
    assert isinstance(begin, Do)
    verdict = begin.work(*begin.arguments)
    row = gateway.ledger.find("k")
    assert row is not None
    assert row.state == "intended"
    assert isinstance(inner.flow.send(verdict), Send)
    inner.flow.close()
    attempt.close()


def test_the_same_key_again_costs_no_request(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    play = Play(clock, [reply(200, {"id": TASK})])
    first = play.run(create(gateway, request_, "k"))
    second = play.run(create(gateway, request_, "k"))
    assert second.task_id == first.task_id
    assert play.posts == 1
    assert play.events[-1].reused


def test_the_operators_model_fills_a_request_without_one(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    gateway.settings = type(gateway.settings)(gateway.settings.base_url, gateway.settings.api_key, model="wan-2")
    play = Play(clock, [reply(200, {"id": TASK})])
    play.run(create(gateway, request_, "k"))
    row = gateway.ledger.find("k")
    assert row is not None
    assert row.body["model"] == "wan-2"


NEVER_AGAIN = [
    (400, {"error": {"message": "bad", "code": "invalid_request"}}, InvalidRequestError),
    (400, {"error": {"message": "violates our content policy", "code": "moderation_blocked"}}, InvalidRequestError),
    (401, {"error": {"message": "无效的令牌", "type": "new_api_error"}}, AuthenticationError),
    (402, "", QuotaError),
    (403, {"error": {"message": "用户额度不足", "code": "insufficient_user_quota"}}, QuotaError),
    (403, "", AuthenticationError),
    (409, "", InvalidRequestError),
    (413, "", InvalidRequestError),
    (415, "", InvalidRequestError),
    (418, "", InvalidRequestError),
    (422, {"detail": "prompt too long"}, InvalidRequestError),
    (429, {"error": {"message": "exceeded your current quota", "code": "insufficient_quota"}}, QuotaError),
]


@pytest.mark.parametrize(("status", "body", "kind"), NEVER_AGAIN)
def test_a_refusal_is_sent_once_and_charged_no(
    gateway: Gateway, clock: Clock, request_: VideoRequest, status: int, body: Any, kind: type[SoraError]
) -> None:
    play = Play(clock, [reply(status, body)])
    with pytest.raises(kind) as caught:
        play.run(create(gateway, request_, "k"))
    assert play.posts == 1
    assert caught.value.charged == "no"
    assert not caught.value.retryable
    assert caught.value.key == "k"
    row = gateway.ledger.find("k")
    assert row is not None
    assert row.state == "refused"


AGAIN = [
    (NotSentError("refused"), NotSentError),
    (reply(429, ""), BusyError),
    (reply(429, {"error": {"code": "too_many_concurrent_tasks", "message": "3 in progress"}}), BusyError),
    (reply(503, "", retry_after="1"), BusyError),
    (reply(503, {"error": {"code": "heavy_load"}}), BusyError),
    (reply(500, {"error": {"code": "overloaded"}}), BusyError),
    (reply(503, {"error": {"code": "queue_full"}}), BusyError),
    (reply(404, {"error": {"message": "Invalid URL (POST /sora/backend/video_gen)"}}), EndpointUnavailableError),
    (reply(405, ""), EndpointUnavailableError),
    (reply(501, {"error": {"code": "api_not_implemented"}}), EndpointUnavailableError),
    (reply(301, "", location="https://elsewhere.test/"), EndpointUnavailableError),
    (reply(503, {"error": {"code": "model_not_found"}}), EndpointUnavailableError),
    (reply(503, {"error": {"message": "当前分组 X 下对于模型 Y 无可用渠道"}}), EndpointUnavailableError),
    (reply(500, {"msg": "This interface is temporarily paused"}), EndpointUnavailableError),
]


@pytest.mark.parametrize(("answer", "kind"), AGAIN, ids=repr)
def test_what_was_surely_not_accepted_is_sent_again(
    gateway: Gateway, clock: Clock, request_: VideoRequest, answer: Any, kind: type[SoraError]
) -> None:
    play = Play(clock, [answer, answer, reply(200, {"id": TASK})])
    assert play.run(create(gateway, request_, "k")).task_id == TASK
    assert play.posts == 3
    assert [type(event) for event in play.events] == [Retrying, Retrying, Submitted]

    gateway = Gateway(gateway.settings, gateway.dialect, type(gateway.ledger)(clock), clock=clock, now=clock)
    play = Play(clock, [answer])
    with pytest.raises(kind) as caught:
        play.run(create(gateway, request_, "k"))
    assert play.posts == 4
    assert caught.value.charged == "no"
    row = gateway.ledger.find("k")
    assert row is not None
    assert row.state == "refused"


LOST = [
    LostReplyError("reset"),
    reply(200, ""),
    reply(200, "{}"),
    reply(200, {"priority": 1}),
    reply(200, '{"id": "task_01'),
    reply(200, {"code": "weird", "message": "?"}),
    reply(408, ""),
    reply(500, ""),
    reply(502, "<html>bad gateway</html>"),
    reply(503, ""),
    reply(504, ""),
    reply(520, ""),
    reply(524, ""),
    reply(599, ""),
    reply(403, "<title>Just a moment...</title>", cf_mitigated="challenge"),
    reply(500, {"error": {"message": "could not animate 'coming soon: temporarily paused'"}}),
]


@pytest.mark.parametrize("answer", LOST, ids=repr)
def test_an_unknown_fate_is_never_sent_again(
    gateway: Gateway, clock: Clock, request_: VideoRequest, answer: Any
) -> None:
    play = Play(clock, [answer])
    for _ in range(3):
        with pytest.raises(SubmissionUnknownError) as caught:
            play.run(create(gateway, request_, "k"))
        assert caught.value.charged == "unknown"
        assert not caught.value.retryable
        assert caught.value.key == "k"
    assert play.posts == 1
    row = gateway.ledger.find("k")
    assert row is not None
    assert row.state == "unsure"


def test_an_early_request_is_sent_once_more(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    play = Play(clock, [reply(425, "")])
    with pytest.raises(BusyError):
        play.run(create(gateway, request_))
    assert play.posts == 2


def test_x_should_retry_false_always_wins(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    play = Play(clock, [reply(429, "", x_should_retry="false")])
    with pytest.raises(BusyError) as caught:
        play.run(create(gateway, request_))
    assert play.posts == 1
    assert not caught.value.retryable


def test_x_should_retry_true_never_repeats_an_unknown_fate(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    play = Play(clock, [reply(500, "", x_should_retry="true")])
    with pytest.raises(SubmissionUnknownError):
        play.run(create(gateway, request_))
    assert play.posts == 1


def test_retry_after_is_obeyed_where_it_fits(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    play = Play(clock, [reply(429, "", retry_after="7"), reply(200, {"id": TASK})])
    play.run(create(gateway, request_))
    assert play.naps == [7.0]


def test_retry_after_that_does_not_fit_fails_now_and_says_when(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    play = Play(clock, [reply(429, "", retry_after="90")])
    with pytest.raises(BusyError) as caught:
        play.run(create(gateway, request_))
    assert (play.posts, play.naps, caught.value.retry_after) == (1, [], 90.0)


def test_naps_grow_and_stay_inside_the_budget(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    gateway.retry = type(gateway.retry)(attempts=50, budget=40.0)
    start = clock.seconds
    play = Play(clock, [reply(429, "")])
    with pytest.raises(BusyError):
        play.run(create(gateway, request_))
    assert play.naps[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert clock.seconds - start <= 40.0


# --- the cool-down ----------------------------------------------------------------------------------------------


def test_after_unavailable_the_next_create_is_answered_at_once(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    play = Play(clock, [reply(404, {"error": {"message": "Invalid URL (POST /x)"}})])
    with pytest.raises(EndpointUnavailableError):
        play.run(create(gateway, request_))
    posts, naps = play.posts, len(play.naps)
    with pytest.raises(EndpointUnavailableError) as caught:
        play.run(create(gateway, request_))
    assert (play.posts, len(play.naps)) == (posts, naps)
    assert caught.value.charged == "no"
    assert caught.value.retry_after is not None
    assert "does not serve this route" in str(caught.value)
    clock.seconds += 61
    with pytest.raises(EndpointUnavailableError):
        play.run(create(gateway, request_))
    assert play.posts > posts


def test_asking_during_a_cool_down_does_not_make_it_longer(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    play = Play(clock, [reply(405, "")] * 4 + [reply(200, {"id": TASK})])
    for _ in range(3):
        with pytest.raises(EndpointUnavailableError):
            play.run(create(gateway, request_))
        clock.seconds += 25
    assert play.posts == 4
    assert play.run(create(gateway, request_)).task_id == TASK


def test_a_cool_down_does_not_hide_what_the_ledger_knows(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    play = Play(clock, [reply(200, {"id": TASK}), reply(405, "")])
    play.run(create(gateway, request_, "k"))
    with pytest.raises(EndpointUnavailableError):
        play.run(create(gateway, request_, "other"))
    assert play.run(create(gateway, request_, "k")).task_id == TASK


# --- redirects --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_that_keeps_method_and_origin_is_followed(
    gateway: Gateway, clock: Clock, request_: VideoRequest, status: int
) -> None:
    play = Play(clock, [reply(status, "", location="/elsewhere"), reply(200, {"id": TASK})])
    assert play.run(create(gateway, request_)).task_id == TASK
    assert play.posts == 2


@pytest.mark.parametrize(
    ("status", "location"),
    [
        (301, "https://other.test/x"),
        (302, "https://other.test/x"),
        (307, "https://other.test/x"),
        (308, "http://gateway.test/x"),
        (307, ""),
    ],
)
def test_no_other_redirect_of_a_create_is_followed(
    gateway: Gateway, clock: Clock, request_: VideoRequest, status: int, location: str
) -> None:
    gateway.retry = type(gateway.retry)(attempts=1)
    play = Play(clock, [reply(status, "", location=location)])
    with pytest.raises(EndpointUnavailableError) as caught:
        play.run(create(gateway, request_))
    assert play.posts == 1
    assert caught.value.charged == "no"


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304])
def test_a_redirect_that_may_mean_done_leaves_the_fate_unknown(
    gateway: Gateway, clock: Clock, request_: VideoRequest, status: int
) -> None:
    play = Play(clock, [reply(status, "", location=f"/sora/backend/video_gen/{TASK}")])
    with pytest.raises(SubmissionUnknownError):
        play.run(create(gateway, request_))
    assert play.posts == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"error": {"code": "rate_limit_exceeded"}, "data": {"id": "task_9"}}),
        (200, {"success": False, "code": "heavy_load", "task": {"id": "task_9"}}),
        (200, {"error": "coming soon", "data": {"task_id": "task_9"}}),
        (429, {"id": "task_9", "status": "queued"}),
        (404, {"id": "task_9", "status": "queued"}),
        (503, {"data": {"task_id": "task_9"}, "error": {"code": "model_not_found"}}),
        (400, {"task_id": "task_9"}),
        (302, {"id": "task_9"}),
    ],
)
def test_a_refusal_that_names_a_task_is_not_believed(
    gateway: Gateway, clock: Clock, request_: VideoRequest, status: int, body: Any
) -> None:
    play = Play(clock, [reply(status, body, location="https://elsewhere.test/")], [reply(200, {"tasks": []})])
    with pytest.raises(SubmissionUnknownError) as caught:
        play.run(create(gateway, request_, "k"))
    assert (play.posts, caught.value.charged, caught.value.task_id) == (1, "unknown", "task_9")
    row = gateway.ledger.find("k")
    assert row is not None
    assert row.state == "unsure"


def test_a_redirect_in_circles_ends(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    gateway.retry = type(gateway.retry)(attempts=1)
    play = Play(clock, [reply(307, "", location="/x")])
    with pytest.raises(EndpointUnavailableError):
        play.run(create(gateway, request_))
    assert play.posts == 4


# --- a ledger that breaks ---------------------------------------------------------------------------------------


class Jammed(MemoryLedger):
    """Cannot write one state down."""

    def __init__(self, jam: State) -> None:
        super().__init__()
        self.jam = jam

    def settle(self, claim: Claim, state: State, task_id: str | None = None, price: Price | None = None) -> None:
        if state == self.jam:
            raise OSError("disk full")
        super().settle(claim, state, task_id, price)


def test_a_paid_task_is_handed_over_even_where_it_cannot_be_written_down(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    gateway.ledger = Jammed("accepted")
    play = Play(clock, [reply(200, {"id": TASK})])
    task = play.run(create(gateway, request_, "k"))
    unrecorded, submitted = play.events
    assert isinstance(unrecorded, NotRecorded)
    assert (unrecorded.key, unrecorded.task, str(unrecorded.error)) == ("k", task, "disk full")
    assert submitted == Submitted("k", task)
    with pytest.raises(SubmissionUnknownError):
        play.run(create(gateway, request_, "k"))
    assert play.posts == 1


def test_a_refusal_that_cannot_be_written_down_is_not_sent_again(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    gateway.ledger = Jammed("refused")
    play = Play(clock, [reply(429, "")])
    with pytest.raises(BusyError) as caught:
        play.run(create(gateway, request_, "k"))
    (unrecorded,) = play.events
    assert isinstance(unrecorded, NotRecorded)
    assert (play.posts, unrecorded.task, str(unrecorded.error), caught.value.charged) == (1, None, "disk full", "no")


# --- the rest ---------------------------------------------------------------------------------------------------


def test_a_key_the_gateway_quotes_is_masked(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    play = Play(clock, [reply(401, {"error": {"message": "invalid key sk-secret-key"}})])
    with pytest.raises(AuthenticationError) as caught:
        play.run(create(gateway, request_))
    assert "sk-secret-key" not in str(caught.value)
    assert "***" in str(caught.value)


def test_an_attempt_elsewhere_is_waited_for(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    play = Play(clock, [reply(200, {"id": TASK})])
    outer = create(gateway, request_, "k")
    finish = next(outer)
    assert isinstance(finish, Finish)
    begin = next(finish.flow)
    assert isinstance(begin, Do)
    finish.flow.send(begin.work(*begin.arguments))
    with pytest.raises(BusyError) as caught:
        play.run(create(gateway, request_, "k"))
    assert caught.value.charged == "unknown"
    assert play.posts == 0
    finish.flow.close()
    outer.close()
    with pytest.raises(SubmissionUnknownError):
        play.run(create(gateway, request_, "k"))


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256, "a\nb"])
def test_a_key_no_header_can_carry_is_refused(gateway: Gateway, clock: Clock, key: str) -> None:
    with pytest.raises(InvalidRequestError):
        Play(clock, []).run(create(gateway, VideoRequest(prompt="x"), key))


def test_requests_come_in_every_shape() -> None:
    request = VideoRequest(prompt="fly man", n_frames=30)
    assert requested("fly man", {"n_frames": 30}) == request
    assert requested({"prompt": "fly man"}, {"n_frames": 30}) == request
    assert requested(None, {"prompt": "fly man", "n_frames": 30}) == request
    assert requested(VideoRequest(prompt="fly man"), {"n_frames": 30}) == request
    with pytest.raises(InvalidRequestError, match="width: 0 was given"):
        requested("fly man", {"width": 0})
    with pytest.raises(InvalidRequestError, match="int was given"):
        requested(7, {})  # type: ignore[arg-type]  # what a chain may pass by mistake
