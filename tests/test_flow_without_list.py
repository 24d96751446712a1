"""Formats without a list: a task is looked up by its id alone, and a lost create has nowhere to be looked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from by_hand import Play, html, reply
from conftest import Clock

from sora_tools import (
    ConfigurationError,
    EndpointUnavailableError,
    InvalidRequestError,
    NotSentError,
    SubmissionUnknownError,
    TaskNotFoundError,
    VideoRequest,
)
from sora_tools.config import settings
from sora_tools.dialects import dialect
from sora_tools.flow import Gateway, create, listed, query, wait

TASK = "sora-2:task_lost"
REQUEST = VideoRequest(prompt="fly man")
NO_ROUTE = reply(404, {"error": {"message": "Invalid URL (POST /v1/video/create)", "type": "invalid_request_error"}})


@pytest.fixture(params=["unified", "generations"])
def relay(request: pytest.FixtureRequest, gateway: Gateway) -> Gateway:
    served = settings("https://gateway.test", "sk-secret-key", model="sora-2")
    return replace(gateway, dialect=dialect(request.param), settings=served)


def state(gateway: Gateway) -> str | None:
    row = gateway.ledger.find("k")
    return row.state if row else None


LOST = {"a web page": html(), "a crash": reply(500), "nothing in it": reply(200, {}), "nothing": reply(200)}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_a_create_of_unknown_fate_is_sent_once_and_unknown_at_once(relay: Gateway, clock: Clock, lost: Any) -> None:
    play = Play(clock, [lost], [reply(500)])
    with pytest.raises(SubmissionUnknownError) as caught:
        play.run(create(relay, REQUEST, "k"))
    assert (play.sent, caught.value.charged, caught.value.key) == (["POST"], "unknown", "k")
    assert state(relay) == "unsure"
    with pytest.raises(SubmissionUnknownError):
        play.run(create(relay, REQUEST, "k"))
    assert play.sent == ["POST"]


def test_a_route_that_is_not_there_is_tried_again_and_cost_nothing(relay: Gateway, clock: Clock) -> None:
    play = Play(clock, [NO_ROUTE])
    with pytest.raises(EndpointUnavailableError) as caught:
        play.run(create(relay, REQUEST, "k"))
    assert play.posts >= 3
    assert (caught.value.charged, state(relay)) == ("no", "refused")


def test_what_never_left_is_sent_again(relay: Gateway, clock: Clock) -> None:
    play = Play(clock, [NotSentError("down"), reply(200, {"id": TASK})])
    assert play.run(create(relay, REQUEST, "k")).task_id == TASK
    assert play.posts == 2


def test_what_the_format_cannot_say_is_not_sent(relay: Gateway, clock: Clock) -> None:
    play = Play(clock, [reply(200, {"id": TASK})])
    with pytest.raises(InvalidRequestError, match="n_variants: 2 was given"):
        play.run(create(relay, REQUEST.model_copy(update={"n_variants": 2}), "k"))
    assert (play.sent, state(relay)) == ([], "refused")


def test_without_a_model_nothing_is_sent(relay: Gateway, clock: Clock) -> None:
    play = Play(clock, [reply(200, {"id": TASK})])
    nameless = replace(relay, settings=replace(relay.settings, model=None))
    with pytest.raises(ConfigurationError, match="SORA_MODEL") as caught:
        play.run(create(nameless, REQUEST, "k"))
    assert (play.sent, caught.value.charged) == ([], "no")
    assert play.run(create(relay, REQUEST, "k")).task_id == TASK, "with one, the same key may be sent"


def test_a_task_is_looked_up_by_its_id_alone(relay: Gateway, clock: Clock) -> None:
    done = {"id": TASK, "status": "completed", "video_url": "/media/x.mp4"}
    play = Play(clock, [], [reply(200, {"id": TASK, "status": "pending"}), reply(200, done)])
    task = play.run(wait(relay, TASK, 60))
    assert (task.status, task.dialect) == ("succeeded", relay.dialect.name)
    assert task.generations[0].url == "https://gateway.test/media/x.mp4"
    assert play.sent == ["GET", "GET"]


def test_a_task_that_is_not_shown_is_not_found_in_the_gateways_words(relay: Gateway, clock: Clock) -> None:
    play = Play(clock, [reply(200, {"id": TASK})], [reply(200, {"code": "success", "message": "", "data": None})])
    play.run(create(relay, REQUEST, "k"))
    assert play.run(query(relay, TASK)).status == "queued", "it was accepted a moment ago"
    clock.seconds += 3600
    with pytest.raises(TaskNotFoundError, match="The gateway knows no such task") as caught:
        play.run(query(relay, TASK))
    assert (caught.value.task_id, caught.value.charged) == (TASK, "yes")


def test_there_is_no_list(relay: Gateway, clock: Clock) -> None:
    with pytest.raises(EndpointUnavailableError, match="format has no list"):
        Play(clock, []).run(listed(relay))
