"""A create answered with a web page: it is looked for, adopted where it shows, and sent again only where it cannot be.

A panel in front of a gateway answers HTML with status 200, whether or not the gateway behind it took the create.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from by_hand import Play, html, reply
from conftest import Clock

from sora_tools import (
    EndpointUnavailableError,
    NotSentError,
    SoraError,
    SubmissionUnknownError,
    VideoRequest,
    VideoTask,
)
from sora_tools.flow import Finish, Gateway, create
from sora_tools.flow.reconcile import Window, matches

TASK = "task_01jy8k72axednrjcnvmkwpqp11"
ACCEPTED = reply(200, {"id": TASK})
NOTHING = reply(200, {"task_responses": [], "has_more": False})


@pytest.fixture
def request_() -> VideoRequest:
    return VideoRequest(prompt="fly man")


def state(gateway: Gateway, key: str = "k") -> str | None:
    row = gateway.ledger.find(key)
    return row.state if row else None


def listed(clock: Clock, *, prompt: str | None = "fly man", task_id: str = TASK, **fields: Any) -> dict[str, Any]:
    created = datetime.fromtimestamp(clock.seconds, UTC).isoformat()
    task = {"id": task_id, "status": "queued", "prompt": prompt, "created_at": created, "width": 854, "height": 480}
    return {"task_responses": [{**task, **fields}], "last_id": None, "has_more": False}


def test_after_a_page_the_list_is_read_before_each_send(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    empty = reply(200, {"task_responses": [], "has_more": False})
    play = Play(clock, [html(), html(), reply(200, {"id": TASK})], [empty])
    assert play.run(create(gateway, request_, "k")).task_id == TASK
    assert play.sent == ["POST", *["GET"] * 4, "POST", *["GET"] * 4, "POST"]


def test_after_a_page_a_task_in_the_list_is_adopted(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    play = Play(clock, [html()], [reply(200, listed(clock))])
    assert play.run(create(gateway, request_, "k")).task_id == TASK
    assert play.posts == 1
    row = gateway.ledger.of_task(gateway.settings.origin, TASK)
    assert row is not None
    assert (row.key, row.state) == ("k", "accepted")


def test_a_task_behind_many_newer_ones_is_found_on_a_later_page(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    newer = [{**listed(clock, prompt="another", task_id=f"task_{n}"), "has_more": True} for n in range(2)]
    play = Play(clock, [html()], [*(reply(200, page) for page in newer), reply(200, listed(clock))])
    assert play.run(create(gateway, request_, "k")).task_id == TASK
    assert play.sent == ["POST", "GET", "GET", "GET"]


def test_reading_stops_at_the_first_task_from_before_the_create(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    older = {**listed(clock, task_id="task_older", created_at="2020-01-01T00:00:00Z"), "has_more": True}
    play = Play(clock, [html(), ACCEPTED], [reply(200, older)])
    play.run(create(gateway, request_, "k"))
    assert play.sent == ["POST", *["GET"] * 4, "POST"]


def test_a_last_look_that_finds_no_place_leaves_the_fate_unknown(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    class Crowded(Play):
        finishes = 0

        def grant(self, wish: Any) -> Any:
            if isinstance(wish, Finish):
                self.finishes += 1
                if self.finishes > 1:
                    wish.flow.close()
                    raise NotSentError("no place at the gate")
            return super().grant(wish)

    play = Crowded(clock, [html()])
    with pytest.raises(SubmissionUnknownError) as caught:
        play.run(create(gateway, request_, "k"))
    assert (play.posts, caught.value.charged, state(gateway)) == (1, "unknown", "unsure")


def more(page: dict[str, Any]) -> Any:
    return reply(200, {**page, "has_more": True})


@pytest.mark.parametrize("later", [reply(404, ""), reply(500, ""), html()], ids=["404", "500", "page"])
def test_a_later_page_that_fails_does_not_make_the_list_unserved(
    gateway: Gateway, clock: Clock, request_: VideoRequest, later: Any
) -> None:
    stranger = more(listed(clock, prompt="another", task_id="task_2"))
    play = Play(clock, [html()], [stranger, later])
    with pytest.raises(SubmissionUnknownError):
        play.run(create(gateway, request_, "k"))
    assert (play.posts, state(gateway)) == (1, "unsure")


def test_a_task_that_is_ours_is_adopted_though_the_list_goes_on_and_fails(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    play = Play(clock, [html()], [more(listed(clock)), reply(404, "")])
    assert play.run(create(gateway, request_, "k")).task_id == TASK
    assert play.posts == 1


def test_a_list_longer_than_is_read_proves_nothing(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    strangers = [more(listed(clock, prompt="another", task_id=f"task_{n}")) for n in range(900)]
    play = Play(clock, [html()], strangers)
    with pytest.raises(SubmissionUnknownError, match="further than was read"):
        play.run(create(gateway, request_, "k"))
    assert play.sent == ["POST"] + ["GET"] * 100 * 8, (
        "a hundred pages, four times before sending again and four times after"
    )


@pytest.mark.parametrize(
    "answer",
    [
        reply(503, {"message": "temporarily suspended"}),
        reply(500, {"msg": "暂停使用"}),
        reply(503, {"code": "model_not_found"}),
    ],
    ids=["suspended", "paused", "no channel"],
)
def test_a_list_that_is_refused_for_now_is_not_taken_for_unserved(
    gateway: Gateway, clock: Clock, request_: VideoRequest, answer: Any
) -> None:
    play = Play(clock, [html()], [answer])
    with pytest.raises(SubmissionUnknownError):
        play.run(create(gateway, request_, "k"))
    assert (play.posts, state(gateway)) == (1, "unsure")


def test_a_storyboard_whose_prompt_alone_is_shown_may_be_ours(gateway: Gateway, clock: Clock) -> None:
    actions = [{"time": 0, "description": "flies"}]
    request = VideoRequest(prompt="fly man", operation="storyboard", actions=actions)
    play = Play(clock, [html()], [reply(200, listed(clock))])
    with pytest.raises(SubmissionUnknownError):
        play.run(create(gateway, request, "k"))
    assert play.posts == 1


def test_two_identical_creates_never_adopt_one_task(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    play = Play(clock, [html()], [reply(200, listed(clock))])
    play.run(create(gateway, request_, "first"))
    with pytest.raises(SubmissionUnknownError):
        play.run(create(gateway, request_, "second"))


def test_pages_everywhere_mean_that_nothing_was_charged(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    play = Play(clock, [html()], [html()])
    with pytest.raises(EndpointUnavailableError) as caught:
        play.run(create(gateway, request_, "k"))
    assert play.posts == 4
    assert caught.value.charged == "no"
    row = gateway.ledger.find("k")
    assert row is not None
    assert row.state == "refused"


def test_pages_beside_a_served_list_leave_the_charge_unknown(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    play = Play(clock, [html()], [reply(200, {"task_responses": []})])
    with pytest.raises(SubmissionUnknownError, match="web page") as caught:
        play.run(create(gateway, request_, "k"))
    assert caught.value.charged == "unknown"
    with pytest.raises(SubmissionUnknownError):
        play.run(create(gateway, request_, "k"))
    assert play.posts == 4


def test_when_the_list_cannot_be_read_nothing_is_sent(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    play = Play(clock, [html()], [reply(500, "")])
    with pytest.raises(SubmissionUnknownError):
        play.run(create(gateway, request_, "k"))
    assert (play.posts, state(gateway)) == (1, "unsure")


def test_a_task_that_shows_up_after_the_last_page_is_adopted(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    empty = reply(200, {"task_responses": []})
    play = Play(clock, [html()], [empty, empty, empty, reply(200, listed(clock))])
    assert play.run(create(gateway, request_, "k")).task_id == TASK


def test_a_task_made_long_before_the_first_send_is_another_one(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    yesterday = reply(200, listed(Clock(clock.seconds - 2 * 86_400)))
    play = Play(clock, [html(), reply(200, {"id": "task_new"})], [yesterday])
    assert play.run(create(gateway, request_, "k")).task_id == "task_new"
    assert play.posts == 2


def test_a_task_of_another_submission_is_not_in_the_way(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [ACCEPTED, html(), reply(200, {"id": "task_new"})], [reply(200, listed(clock))])
    play.run(create(gateway, VideoRequest(prompt="fly man"), "first"))
    assert play.run(create(gateway, VideoRequest(prompt="fly man"), "second")).task_id == "task_new"


def test_the_list_is_read_as_far_as_it_goes(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    play = Play(clock, [html(), ACCEPTED], [NOTHING])
    play.run(create(gateway, request_, "k"))
    assert play.calls[1].query["limit"] == 100


def test_a_list_that_cools_down_is_read_all_the_same(gateway: Gateway, clock: Clock, request_: VideoRequest) -> None:
    gateway.cool_down.begin("list", EndpointUnavailableError("paused"))
    play = Play(clock, [html()], [reply(200, listed(clock))])
    assert play.run(create(gateway, request_, "k")).task_id == TASK
    assert play.sent == ["POST", "GET"]


def test_a_create_that_has_begun_does_not_mind_the_cool_down_of_another(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    def page() -> Any:
        gateway.cool_down.begin("create", EndpointUnavailableError("paused"))
        return html()

    play = Play(clock, [page, ACCEPTED], [NOTHING])
    assert play.run(create(gateway, request_, "k")).task_id == TASK
    assert play.sent == ["POST", *["GET"] * 4, "POST"]


def test_a_refusal_after_a_page_says_nothing_of_the_first_send(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    play = Play(clock, [html(), reply(401, "")], [NOTHING])
    with pytest.raises(SoraError) as caught:
        play.run(create(gateway, request_, "k"))
    assert (caught.value.charged, state(gateway)) == ("unknown", "unsure")


class Gone(BaseException):
    """The caller goes."""


def test_a_caller_who_goes_after_a_page_and_a_refusal_leaves_an_unsure_row(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    play = Play(clock, [html(), reply(429, "")], [NOTHING])

    def go() -> None:
        if play.posts == 2:
            raise Gone

    play.at_nap = go
    with pytest.raises(Gone):
        play.run(create(gateway, request_, "k"))
    assert state(gateway) == "unsure"
    later = Play(clock, [ACCEPTED], [NOTHING])
    with pytest.raises(SubmissionUnknownError):
        later.run(create(gateway, request_, "k"))
    assert later.posts == 0


def test_another_caller_with_the_key_of_a_suspect_create_sends_nothing(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    other = Play(clock, [ACCEPTED], [NOTHING])

    def meanwhile() -> None:
        if (play.posts, play.sent[-1]) == (2, "POST"):  # in the nap after the 429, when nobody holds the claim
            with pytest.raises(SubmissionUnknownError):
                other.run(create(gateway, request_, "k"))

    play = Play(clock, [html(), reply(429, ""), ACCEPTED], [NOTHING])
    play.at_nap = meanwhile
    assert play.run(create(gateway, request_, "k")).task_id == TASK
    assert play.sent == ["POST", *["GET"] * 4, "POST", *["GET"] * 4, "POST"]
    assert (other.posts, state(gateway)) == (0, "accepted")


def test_anothers_twin_on_the_first_page_does_not_hide_ours_on_the_second(
    gateway: Gateway, clock: Clock, request_: VideoRequest
) -> None:
    Play(clock, [reply(200, {"id": "task_twin"})]).run(create(gateway, request_, "twin"))
    pages = [more(listed(clock, task_id="task_twin")), reply(200, listed(clock))]
    play = Play(clock, [html(), ACCEPTED], pages)
    assert play.run(create(gateway, request_, "k")).task_id == TASK
    assert play.sent == ["POST", "GET", "GET"]


# --- what cannot be told from ours ------------------------------------------------------------------------------

CAFE = "café & fly man"
OURS: dict[str, dict[str, Any]] = {
    "the same": {"prompt": CAFE},
    "decomposed": {"prompt": unicodedata.normalize("NFD", CAFE)},
    "escaped": {"prompt": "café &amp; fly man"},
    "in capitals": {"prompt": "CAFÉ & Fly man"},
    "in full width": {"prompt": "café ＆ ｆｌｙ man"},
    "spaced": {"prompt": "  café &  fly\nman "},
    "by another clock": {"prompt": CAFE, "created_at": -100},
}
LOOKALIKES: dict[str, dict[str, Any]] = {
    "a storyboard": {"prompt": None, "actions": [{"time": 0, "description": "flies"}]},
    "no prompt": {"prompt": None},
    "cut": {"prompt": "café & fl…"},
    "cut with dots": {"prompt": "café & fl..."},
    "made longer": {"prompt": f"{CAFE}, cinematic"},
    "another word for the operation": {"prompt": CAFE, "operation": "video_gen"},
    "another size": {"prompt": CAFE, "width": 848, "height": 480},
    "no date": {"prompt": CAFE, "id": "task_x", "created_at": None},
}


def shown_as(clock: Clock, fields: dict[str, Any]) -> Any:
    """A list with one task in it; its date is given in seconds from now."""
    if fields.get("created_at"):
        fields = {**fields, "created_at": clock.seconds + fields["created_at"]}
    return reply(200, listed(clock, **fields))


@pytest.mark.parametrize("fields", OURS.values(), ids=OURS)
def test_what_must_be_ours_is_adopted(gateway: Gateway, clock: Clock, fields: dict[str, Any]) -> None:
    play = Play(clock, [html()], [shown_as(clock, fields)])
    assert play.run(create(gateway, VideoRequest(prompt=CAFE), "k")).task_id == TASK
    assert (play.posts, state(gateway)) == (1, "accepted")


@pytest.mark.parametrize("fields", LOOKALIKES.values(), ids=LOOKALIKES)
def test_what_may_be_ours_keeps_us_from_sending_again(gateway: Gateway, clock: Clock, fields: dict[str, Any]) -> None:
    play = Play(clock, [html()], [shown_as(clock, fields)])
    with pytest.raises(SubmissionUnknownError, match="may be this one") as caught:
        play.run(create(gateway, VideoRequest(prompt=CAFE), "k"))
    assert (play.posts, caught.value.charged, state(gateway)) == (1, "unknown", "unsure")


MANGLED = {
    "accents stripped": "Un cafe noir a Besancon, ou il pleut",
    "read as latin-1": "Un café noir à Besançon, où il pleut".encode().decode("latin-1"),
    "question marks": "Un caf? noir ? Besan?on, o? il pleut",
    "cut in the middle": "Un café noir...il pleut",
    "cut at its end": "Un café noir à Besan…",
    "thinned": "Un café noir à Besançon il pleut",
}


@pytest.mark.parametrize("prompt", MANGLED.values(), ids=MANGLED)
def test_a_mangled_echo_keeps_us_from_sending_again(gateway: Gateway, clock: Clock, prompt: str) -> None:
    play = Play(clock, [html()], [shown_as(clock, {"prompt": prompt})])
    with pytest.raises(SubmissionUnknownError, match="may be this one"):
        play.run(create(gateway, VideoRequest(prompt="Un café noir à Besançon, où il pleut"), "k"))
    assert play.posts == 1


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        ("fly man", "A man who flies over the sea at night, and many other things that have nothing to do with it"),
        ("Un café noir à Besançon", "Une maison rouge à Paris, où il neige depuis hier"),
        ("一个男人在海上飞行", "雨中的红色灯塔"),
    ],
)
def test_another_text_does_not(gateway: Gateway, clock: Clock, mine: str, other: str) -> None:
    play = Play(clock, [html(), reply(200, {"id": "task_new"})], [shown_as(clock, {"prompt": other})])
    assert play.run(create(gateway, VideoRequest(prompt=mine), "k")).task_id == "task_new"


@pytest.mark.parametrize("count", [100, 1200])
def test_a_list_that_may_have_been_cut_rules_nothing_out(gateway: Gateway, clock: Clock, count: int) -> None:
    """The gateway pays no heed to ``before``, and lists the oldest first: all of them, or as many as were asked for."""
    others = [listed(clock, prompt="another", task_id=f"task_{n}")["task_responses"][0] for n in range(count)]
    play = Play(clock, [html()], [reply(200, {"task_responses": others})])
    with pytest.raises(SubmissionUnknownError, match="goes on further"):
        play.run(create(gateway, VideoRequest(prompt="fly man"), "k"))
    assert play.posts == 1


STRANGERS: dict[str, dict[str, Any]] = {
    "another text": {"prompt": "a cat"},
    "an older one without a prompt": {"prompt": None, "created_at": -90_000},
}


@pytest.mark.parametrize("fields", STRANGERS.values(), ids=STRANGERS)
def test_what_cannot_be_ours_does_not(gateway: Gateway, clock: Clock, fields: dict[str, Any]) -> None:
    play = Play(clock, [html(), reply(200, {"id": "task_new"})], [shown_as(clock, fields)])
    assert play.run(create(gateway, VideoRequest(prompt=CAFE), "k")).task_id == "task_new"


ACTIONS = [{"time": 0, "description": "flies"}, {"time": 2, "description": "lands"}]


@pytest.mark.parametrize("actions", [ACTIONS, ACTIONS[::-1]], ids=["in order", "turned round"])
def test_a_storyboard_in_whatever_order_is_adopted(gateway: Gateway, clock: Clock, actions: Any) -> None:
    play = Play(clock, [html()], [shown_as(clock, {"prompt": None, "actions": actions})])
    request = VideoRequest(operation="storyboard", actions=ACTIONS)
    assert play.run(create(gateway, request, "k")).task_id == TASK


@pytest.mark.parametrize("fields", [{}, {"actions": ACTIONS[::-1], "width": 848}], ids=["no actions", "another size"])
def test_a_storyboard_that_may_be_ours_is_not_sent_again(gateway: Gateway, clock: Clock, fields: Any) -> None:
    play = Play(clock, [html()], [shown_as(clock, {"prompt": None, **fields})])
    with pytest.raises(SubmissionUnknownError, match="may be this one"):
        play.run(create(gateway, VideoRequest(operation="storyboard", actions=ACTIONS), "k"))
    assert (play.posts, state(gateway)) == (1, "unsure")


@pytest.mark.parametrize(
    ("echo", "same"),
    [
        ({"prompt": "fly man"}, True),
        ({"prompt": " fly \n man "}, True),
        ({"prompt": None}, False),
        ({"prompt": "fly woman"}, False),
        ({"prompt": "fly man", "width": 1280}, False),
        ({"prompt": "fly man", "width": None, "n_frames": 150}, True),
        ({"prompt": "fly man", "operation": "remix"}, False),
        ({"prompt": "fly man", "n_variants": 2}, False),
    ],
)
def test_what_may_be_ours(echo: dict[str, Any], same: bool) -> None:
    body = VideoRequest(prompt="fly man").body()
    task = VideoTask(task_id="t", status="queued", request=echo, created_at=datetime.fromtimestamp(1000, UTC))
    assert matches(task, body, Window(1000, 1000)) is same
    assert not matches(task, body, Window(1121, 1121)), "made before the first send"
    assert not matches(task.model_copy(update={"created_at": None}), body, Window(1000, 1000))


def test_a_storyboard_matches_by_its_actions() -> None:
    actions = [{"time": 2, "description": "lands"}, {"time": 0, "description": "flies"}]
    body = VideoRequest(operation="storyboard", actions=actions).body()
    created = datetime.fromtimestamp(1000, UTC)
    seen = [{"frame_index": 0, "description": "flies"}, {"frame_index": 60, "description": "lands"}]
    echo = {"operation": "storyboard", "actions": seen}
    assert matches(VideoTask(task_id="t", status="queued", request=echo, created_at=created), body, Window(1000, 1000))
    echo["actions"] = seen[::-1]
    assert matches(VideoTask(task_id="t", status="queued", request=echo, created_at=created), body, Window(1000, 1000))
    echo["actions"] = [{"time": 2, "description": "lands"}, {"time": 0, "description": "flies"}]
    assert matches(VideoTask(task_id="t", status="queued", request=echo, created_at=created), body, Window(1000, 1000))
    echo["actions"] = seen[:1]
    assert not matches(
        VideoTask(task_id="t", status="queued", request=echo, created_at=created), body, Window(1000, 1000)
    )
