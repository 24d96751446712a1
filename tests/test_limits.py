"""What an operator allows and what it may cost: nothing over it leaves, and nothing known is held back by it."""

from __future__ import annotations

import asyncio
import decimal
import json
import multiprocessing
import pickle
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from by_hand import Play, html, reply
from conftest import Clock
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from sora_tools import (
    AsyncSora,
    BusyError,
    ConfigurationError,
    EndpointUnavailableError,
    InvalidRequestError,
    LostReplyError,
    NotSentError,
    Price,
    Retry,
    Sora,
    SoraError,
    SoraToolError,
    SoraToolkit,
    SQLiteLedger,
    Submission,
    SubmissionUnknownError,
    VideoLimits,
    VideoRequest,
    WaitTimeoutError,
    is_retryable,
)
from sora_tools.dialects import dialect
from sora_tools.flow import Gateway, create
from sora_tools.ledger import New, Unsure, digest
from sora_tools.ledger.sqlite import MIGRATIONS, MemoryLedger
from sora_tools.limits import Spent
from sora_tools.prices import added, paid_for_again, priced
from sora_tools.sandbox import Sandbox

HALF = Price(Decimal("0.50"), "USD")
OK = reply(200, {"id": "task_1"})


def lost() -> Any:
    raise LostReplyError("read timeout")


def half(_: VideoRequest) -> Price:
    return HALF


def by_frame(request: VideoRequest) -> Price:
    return Price(Decimal("0.01") * request.n_frames * request.n_variants, "USD")


def daily(amount: Any) -> VideoLimits:
    return VideoLimits(max_spend_per_day=amount)


# --- the rules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("max_width", "max_frames", "max_variants") for value in (0, -1, 1.5, "9", True)),
        ("operations", ()),
        ("operations", "remix"),
        ("operations", ("upscale",)),
        *(
            ("max_spend_per_day", value)
            for value in (1.5, -1, "free", "NaN", "Infinity", Decimal("NaN"), True, None, "1e13", "1e-13")
            if value is not None
        ),
        ("max_spend_per_thread", (Decimal(1), "USD")),
    ],
)
def test_a_limit_that_cannot_be_held_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}="):
        VideoLimits(**{name: value})


def test_every_limit_that_is_broken_is_named_with_what_was_given_and_what_is_allowed() -> None:
    limits = VideoLimits(max_width=1280, max_height=720, max_frames=300, max_variants=1, operations=["simple_compose"])
    with pytest.raises(InvalidRequestError) as caught:
        limits.check(VideoRequest(prompt="x", width=1920, height=1080, n_frames=301, n_variants=2, operation="remix"))
    assert caught.value.message == (
        "The request is more than the operator allows: width: 1920 was given; at most 1280 is allowed; "
        "height: 1080 was given; at most 720 is allowed; n_frames: 301 was given; at most 300 is allowed (10 s); "
        "n_variants: 2 was given; at most 1 is allowed; "
        "operation: 'remix' was given; allowed: simple_compose."
    )
    assert (caught.value.charged, caught.value.retryable) == ("no", False)
    limits.check(VideoRequest(prompt="x", width=1280, height=720, n_frames=300))
    VideoLimits().check(VideoRequest(prompt="x", width=99999, height=99999, n_frames=9999, n_variants=100))


def raises(_: VideoRequest) -> Any:
    raise EndpointUnavailableError("no price list")


RUBBISH = {
    "raises": raises,
    "a bare Decimal": lambda _: Decimal("0.50"),
    "a pair": lambda _: (Decimal("0.50"), "USD"),
    "a float": lambda _: Price(0.5, "USD"),
    "an int": lambda _: Price(1, "USD"),
    "text": lambda _: Price("0.50", "USD"),
    "negative": lambda _: Price(Decimal("-0.01"), "USD"),
    "negative zero": lambda _: Price(Decimal("-0"), "USD"),
    "NaN": lambda _: Price(Decimal("NaN"), "USD"),
    "infinite": lambda _: Price(Decimal("Infinity"), "USD"),
    "of a vanishing negative": lambda _: Price(Decimal("-1e-13"), "USD"),
    "larger than can be added": lambda _: Price(Decimal("1e13"), "USD"),
    "no currency": lambda _: Price(Decimal(1), ""),
    "a currency of two lines": lambda _: Price(Decimal(1), "US\nD"),
    "no text for a currency": lambda _: Price(Decimal(1), None),
    "a list": lambda _: [Decimal(1), "USD"],
    "nothing": lambda _: None,
}


@pytest.mark.parametrize("price", RUBBISH.values(), ids=RUBBISH)
def test_a_price_that_cannot_be_known_lets_nothing_through(
    gateway: Gateway, clock: Clock, price: Callable[[VideoRequest], Any]
) -> None:
    """Neither with limits nor without, not even where the function raises what a gateway's absence would."""
    gateway.price = price
    for limits in (None, VideoLimits(max_width=4000), daily(5)):
        gateway.limits = limits
        play = Play(clock, [OK])
        with pytest.raises(ConfigurationError, match="price=") as caught:
            play.run(create(gateway, VideoRequest(prompt="x"), "k"))
        assert (play.sent, gateway.ledger.submissions(), caught.value.charged) == ([], [], "no")
        assert caught.value.hint.startswith("Nothing was sent now.")


def test_a_price_without_an_end_is_rounded_up() -> None:
    for amount, told in ((Decimal(1) / 3, "0.333333333334"), (Decimal("1e-999999"), "0.000000000001")):
        assert str(Price(amount, "USD")) == f"{told} USD"
    with decimal.localcontext(prec=2):
        assert str(Price(Decimal("123.45"), "USD")) == "123.45 USD"


@pytest.mark.parametrize(
    ("amount", "currency", "match"),
    [
        *((amount, "USD", "amount=") for amount in (0.5, 1, "0.50", True, None, Decimal(-1), Decimal("sNaN"))),
        *((Decimal(1), name, "currency=") for name in ("", " USD", "US\nD", "\u202eUSD", "x" * 17, None, 7)),
    ],
)
def test_an_amount_that_is_none_is_refused_where_it_is_made(amount: Any, currency: Any, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match) as caught:
        Price(amount, currency)
    assert 'Price(Decimal("0.50"), "USD")' in caught.value.hint


def test_amounts_of_money_are_not_numbers() -> None:
    """2 CNY are not more than 1 USD, and a pair times two is no sum."""
    dollar: Any = Price(Decimal(1), "USD")
    for wrong in (lambda: Price(Decimal(2), "CNY") > dollar, lambda: dollar * 2, lambda: dollar + dollar):
        with pytest.raises(TypeError):
            wrong()
    assert dollar == Price(Decimal("1.00"), "USD") != Price(Decimal(1), "CNY")
    assert pickle.loads(pickle.dumps(dollar)) == dollar


def test_a_price_that_is_wrong_is_told_by_its_type_alone(gateway: Gateway, clock: Clock) -> None:
    """A model reads it: what an operator's program says and where it lies is none of its business."""

    def broken(_: VideoRequest) -> Any:
        raise FileNotFoundError("/srv/internal/prices.json")

    for price, told in (
        (broken, "raised FileNotFoundError"),
        (lambda _: RuntimeError("/srv/internal"), "returned a RuntimeError"),
    ):
        with pytest.raises(ConfigurationError, match=told) as caught:
            priced(price, VideoRequest(prompt="x"))
        assert "/srv" not in str(caught.value.describe())
    with pytest.raises(ConfigurationError) as caught:
        priced(broken, VideoRequest(prompt="x"))
    assert "/srv/internal" in str(caught.value.__cause__), "the operator's traceback has it all"


def test_what_may_be_paid_for_twice_is_exact_and_in_one_currency() -> None:
    assert paid_for_again(HALF, Price(Decimal("0.1"), "USD")) == Price(Decimal("0.6"), "USD")
    assert [paid_for_again(None, HALF), paid_for_again(HALF, None), paid_for_again(None, None)] == [HALF, HALF, None]
    with pytest.raises(ConfigurationError, match="CNY"):
        paid_for_again(HALF, Price(Decimal(1), "CNY"))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"limits": {"max_width": 1280}}, "VideoLimits"),
        ({"price": "0.50"}, "price="),
        ({"limits": daily(1)}, "nothing says what a request costs"),
        ({"limits": daily(1), "price": half, "ledger": "off"}, "forgets"),
    ],
)
def test_what_cannot_be_held_together_is_refused_at_once(settings: dict[str, Any], match: str) -> None:
    for kind in (Sora, AsyncSora, SoraToolkit):
        with pytest.raises(ConfigurationError, match=match):
            kind(base_url="https://gateway.test", api_key="k" * 20, **settings)


def test_a_price_must_not_be_a_coroutine() -> None:
    async def price(_: VideoRequest) -> Price:
        return HALF

    with pytest.raises(ConfigurationError, match="coroutine"):
        Sora(base_url="https://gateway.test", api_key="k" * 20, price=price)


def test_a_gateway_without_a_price_sends_nothing_under_a_budget(gateway: Gateway, clock: Clock) -> None:
    """Whoever makes a client is told so at once; this is the second lock."""
    gateway.limits = daily(5)
    play = Play(clock, [OK])
    with pytest.raises(AssertionError, match="without a price"):
        play.run(create(gateway, VideoRequest(prompt="x")))
    assert play.sent == []


# --- before anything is sent --------------------------------------------------------------------------------------


def test_what_is_too_large_is_neither_sent_nor_written_down(gateway: Gateway, clock: Clock) -> None:
    gateway.limits = VideoLimits(max_width=640)
    play = Play(clock, [OK])
    with pytest.raises(InvalidRequestError) as caught:
        play.run(create(gateway, VideoRequest(prompt="x"), "k"))
    assert (play.sent, gateway.ledger.submissions()) == ([], [])
    assert (caught.value.charged, caught.value.key) == ("no", "k")
    assert caught.value.hint.startswith("Nothing was sent and nothing was charged")
    assert play.run(create(gateway, VideoRequest(prompt="x", width=640), "k")).task_id == "task_1"


def test_a_key_that_is_known_is_answered_whatever_the_limits_are_now(gateway: Gateway, clock: Clock) -> None:
    """A graph that resumes after an operator has tightened the limits gets what it has paid for."""
    request = VideoRequest(prompt="fly man")
    play = Play(clock, [OK])
    play.run(create(gateway, request, "k"))
    gateway.limits, gateway.price = VideoLimits(max_width=1, max_spend_per_day=0), raises
    assert play.run(create(gateway, request, "k")).task_id == "task_1"
    assert play.posts == 1


def test_what_was_lost_is_looked_for_whatever_the_limits_are_now(gateway: Gateway, clock: Clock) -> None:
    request = VideoRequest(prompt="fly man")
    with pytest.raises(SubmissionUnknownError):
        Play(clock, [lost]).run(create(gateway, request, "k"))
    gateway.limits, gateway.price = VideoLimits(max_width=1, max_spend_per_day=0), raises
    play = Play(clock, [OK])
    with pytest.raises(SubmissionUnknownError) as caught:
        play.run(create(gateway, request, "k"))
    assert (set(play.sent), caught.value.charged) == ({"GET"}, "unknown")


def test_the_very_same_of_a_conversation_is_reused_without_a_budget(gateway: Gateway, clock: Clock) -> None:
    gateway.limits, gateway.price = daily("0.50"), half
    play = Play(clock, [OK], [reply(200, {"id": "task_1", "status": "running"})])
    request = VideoRequest(prompt="fly man")
    for key in ("a", "b"):
        assert play.run(create(gateway, request, key, thread="chat")).task_id == "task_1"
    with pytest.raises(InvalidRequestError, match=r"0\.50 is spent"):
        play.run(create(gateway, request, "c", thread="chat", repeat="new"))
    assert play.posts == 1
    assert {row.key: row.price for row in gateway.ledger.submissions()} == {"a": HALF, "b": None}


# --- budgets ------------------------------------------------------------------------------------------------------


class Shop:
    """A client by hand: it creates at a gateway that answers as it is told."""

    def __init__(self, gateway: Gateway, clock: Clock, **limits: Any) -> None:
        self.gateway, self.clock, self.number = gateway, clock, 0
        gateway.price, gateway.limits = half, VideoLimits(**limits)

    def buy(self, *answers: Any, key: str | None = None, request: VideoRequest | None = None, **how: Any) -> str:
        """Whether it was sent: "sent", or what came in the way."""
        self.number += 1
        play = Play(self.clock, list(answers) or [reply(200, {"id": f"task_{self.number}"})])
        try:
            play.run(create(self.gateway, request or VideoRequest(prompt="x"), key, **how))
        except SoraError as error:
            self.error = error
            return error.code if play.posts else f"unsent {error.code}"
        return "sent" if play.posts else "known"


REFUSED = "unsent invalid_request"


@pytest.fixture
def shop(gateway: Gateway, clock: Clock) -> Callable[..., Shop]:
    return lambda **limits: Shop(gateway, clock, **limits)


def test_a_budget_of_a_day_is_kept_to_the_cent_and_renews(shop: Callable[..., Shop], clock: Clock) -> None:
    till = shop(max_spend_per_day="1.50")
    assert [till.buy() for _ in range(4)] == ["sent", "sent", "sent", REFUSED]
    assert str(till.error) == (
        "This request costs 0.50 USD, which is more than is left: of the 1.50 USD for 24 hours, 1.50 is spent or under "
        "way. Nothing was sent and nothing was charged now. Tell the user that the budget is used up."
    )
    assert (till.error.charged, till.error.retryable) == ("no", False)
    clock.seconds += 86_399
    assert till.buy() == REFUSED
    clock.seconds += 1
    assert till.buy() == "sent"


def test_what_is_left_is_said(shop: Callable[..., Shop], gateway: Gateway) -> None:
    till = shop(max_spend_per_day=2, max_spend_per_thread=Price(Decimal("1.75"), "USD"))
    gateway.price = by_frame
    till.buy(request=VideoRequest(prompt="x", n_frames=150))
    assert till.buy(request=VideoRequest(prompt="x", n_frames=90)) == REFUSED
    assert str(till.error) == (
        "This request costs 0.90 USD, which is more than is left: of the 1.75 USD for this conversation, 1.50 is spent "
        "or under way; of the 2 USD for 24 hours, 1.50 is spent or under way. Nothing was sent and nothing was charged "
        "now. Ask for what costs at most 0.25 USD (fewer n_frames or n_variants, or a smaller size), or tell the user "
        "that the budget is used up."
    )
    assert till.buy(request=VideoRequest(prompt="x", n_frames=25)) == "sent"
    assert till.buy(request=VideoRequest(prompt="x", n_frames=1)) == REFUSED


def test_a_conversation_has_a_budget_of_its_own_for_as_long_as_it_lasts(
    shop: Callable[..., Shop], clock: Clock
) -> None:
    till = shop(max_spend_per_thread=1)
    bought = [till.buy(thread=thread, repeat="new") for thread in ("a", "b", "a", "a", None, None, None)]
    assert bought == ["sent", "sent", "sent", REFUSED, "sent", "sent", REFUSED]
    clock.seconds += 30 * 86_400
    assert [till.buy(thread=thread, repeat="new") for thread in ("a", "b", None)] == [REFUSED, "sent", REFUSED]


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        (reply(401, {"error": {"message": "bad key"}}), "sent"),
        (reply(400, {"error": {"message": "no"}}), "sent"),
        (NotSentError("refused"), "sent"),
        (lost, REFUSED),
        (reply(500, ""), REFUSED),
        (reply(200, ""), REFUSED),
    ],
    ids=["unauthorised", "refused", "never left", "lost", "500", "empty"],
)
def test_what_may_be_paid_for_counts_and_what_was_refused_does_not(
    shop: Callable[..., Shop], answer: Any, then: str
) -> None:
    till = shop(max_spend_per_day="0.50")
    till.buy(answer)
    assert till.buy() == then


def test_what_a_crash_left_counts(shop: Callable[..., Shop], gateway: Gateway) -> None:
    till = shop(max_spend_per_day="0.50")
    flow = create(gateway, VideoRequest(prompt="x"), "crashed")
    begin = next(next(flow).flow)
    assert isinstance(begin.work(*begin.arguments), New)
    flow.close()
    assert till.buy() == REFUSED


def test_another_key_or_gateway_has_a_budget_of_its_own(
    shop: Callable[..., Shop], gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    till = shop(max_spend_per_day="0.50")
    assert [till.buy(), till.buy()] == ["sent", REFUSED]
    from sora_tools.config import settings

    for address, key in (("https://gateway.test", "sk-another-key"), ("https://other.test", "sk-secret-key")):
        gateway.settings = settings(address, key)
        assert [till.buy(), till.buy()] == ["sent", REFUSED]


def test_currencies_are_counted_apart_and_never_compared(shop: Callable[..., Shop], gateway: Gateway) -> None:
    till = shop(max_spend_per_day="0.50")
    assert till.buy() == "sent"
    gateway.price = lambda _: Price(Decimal(3), "CNY")
    assert till.buy() == REFUSED, "3 is more than 0.50, whatever they are"
    gateway.price = lambda _: Price(Decimal("0.50"), "CNY")
    assert [till.buy(), till.buy()] == ["sent", REFUSED]
    gateway.limits = daily(Price(Decimal(9), "USD"))
    assert (till.buy(), "USD" in str(till.error)) == ("unsent configuration", True)


def test_a_budget_that_is_used_up_is_asked_anew_at_every_send(shop: Callable[..., Shop], gateway: Gateway) -> None:
    """A create that was turned away for now holds nothing, so that another may take its place."""
    till = shop(max_spend_per_day="0.50")
    busy = reply(429, {"error": {"message": "rate limit"}})

    def other() -> Any:
        gateway.ledger.begin(Submission("other", gateway.settings.origin, "backend", {}, price=HALF, account=account))
        return OK

    account = gateway.settings.account
    play = Play(till.clock, [busy, OK])
    play.at_nap = other
    with pytest.raises(InvalidRequestError, match=r"0\.50 is spent or under way") as caught:
        play.run(create(gateway, VideoRequest(prompt="x"), "k"))
    assert (play.posts, caught.value.charged) == (1, "no")
    row = gateway.ledger.find("k")
    assert row is not None
    assert row.state == "refused"


def test_an_amount_is_exact_whatever_the_callers_context(shop: Callable[..., Shop], gateway: Gateway) -> None:
    till = shop(max_spend_per_day="1000000000.02")
    with decimal.localcontext(prec=2, rounding=decimal.ROUND_DOWN):
        gateway.price = lambda _: Price(Decimal("1000000000.01"), "USD")
        assert till.buy() == "sent"
        gateway.price = lambda _: Price(Decimal("0.01"), "USD")
        assert [till.buy(), till.buy()] == ["sent", REFUSED]
    assert added([(Decimal("0.1"), 3)]) == Decimal("0.3")


def test_the_price_is_of_what_is_sent(gateway: Gateway, clock: Clock) -> None:
    from sora_tools.config import settings

    seen: list[VideoRequest] = []
    gateway.settings = settings("https://gateway.test", "sk-secret-key", "sora-2-pro")
    gateway.price = lambda request: seen.append(request) or HALF
    Play(clock, [OK]).run(create(gateway, VideoRequest(prompt="x")))
    assert [(request.model, request.n_frames) for request in seen] == [("sora-2-pro", 150)]
    (row,) = gateway.ledger.submissions()
    assert row.price == HALF


def by_area(request: VideoRequest) -> Price:
    return Price(Decimal(request.n_frames * request.width * request.height), "credits")


NEAREST = [
    ("videos", None, {"n_frames": 1}, (64, 36, 30)),
    ("videos", "sora-2-pro", {"n_frames": 1}, (1280, 720, 120)),
    ("videos", "sora-2-pro", {"n_frames": 900}, (1280, 720, 360)),
    ("videos", None, {"n_frames": 1, "extra": {"seconds": "1"}}, (64, 36, 1)),
    ("generations", "veo", {"n_frames": 31}, (64, 36, 60)),
    ("unified", "sora-2", {"n_frames": 1}, (1280, 720, 300)),
    ("unified", "sora-2", {"n_frames": 1, "height": 1080}, (720, 1280, 300)),
    ("chat", None, {"n_frames": 1}, (854, 480, 150)),
    ("chat", "sora2", {"n_frames": 1, "height": 65}, (720, 1280, 300)),
    ("chat", "sora_video2-landscape-hd-25s-pro", {}, (1792, 1024, 750)),
    ("chat", "sora-9:16-1080p-20s", {}, (1080, 1920, 600)),
    ("chat", "sora-1:1-720p-5s", {}, (720, 720, 150)),
    ("chat", "another-model", {"n_frames": 7}, (64, 36, 7)),
    ("backend", None, {"n_frames": 1}, (64, 36, 1)),
]


@pytest.mark.parametrize(("name", "model", "fields", "made"), NEAREST)
def test_what_would_be_made_is_priced_and_not_what_was_asked_for(
    gateway: Gateway, name: str, model: str | None, fields: dict[str, Any], made: tuple[int, int, int]
) -> None:
    """Or a model that asks for one frame would have four seconds for nothing."""
    asked = VideoRequest(prompt="x", model=model, **{"width": 64, "height": 36, **fields})
    seen = dialect(name).made(asked)
    assert (seen.width, seen.height, seen.n_frames) == made
    gateway.dialect, gateway.price = dialect(name), by_area
    begin = next(next(create(gateway, asked)).flow)
    (submission, *_) = begin.arguments
    assert submission.price == by_area(seen)


def test_what_would_be_made_is_held_against_the_limits(gateway: Gateway, clock: Clock) -> None:
    gateway.dialect, gateway.limits = dialect("videos"), VideoLimits(max_width=640, max_frames=60)
    request = VideoRequest(prompt="x", model="sora-2", width=64, height=36, n_frames=1)
    play = Play(clock, [OK])
    with pytest.raises(InvalidRequestError, match=r"width: 1280 would be made of the 64 given; at most 640") as caught:
        play.run(create(gateway, request))
    assert "n_frames: 120 would be made of the 1 given; at most 60 is allowed (2 s)" in caught.value.message
    assert play.sent == []


def test_a_remix_whose_size_nobody_knows_is_not_made_of_a_budget(gateway: Gateway, clock: Clock) -> None:
    source = {"operation": "remix", "inpaint_items": [{"generation_id": "video_1"}]}
    request = VideoRequest.model_validate({"prompt": "x", "width": 1, "height": 1, "n_frames": 1, **source})
    gateway.dialect, gateway.price, gateway.limits = dialect("videos"), by_frame, daily("100.00")
    play = Play(clock, [OK])
    with pytest.raises(InvalidRequestError, match="the length and the size of its source") as caught:
        play.run(create(gateway, request))
    assert (play.sent, caught.value.charged) == ([], "no")
    gateway.limits = None
    play.run(create(gateway, request, "k"))
    row = gateway.ledger.find("k")
    assert row is not None
    assert row.price is None, "not known, and not a guess"


def test_each_format_has_a_price_of_its_own(gateway: Gateway, clock: Clock) -> None:
    """What a create would cost in the format before says nothing of this one."""
    gateway.price, gateway.limits = by_frame, daily("1.50")
    gateway.fallback, gateway.retry = (dialect("videos"),), Retry(attempts=1)
    gone = reply(404, {"error": {"message": "no such route"}})
    play = Play(clock, [gone, OK])
    request = VideoRequest(prompt="x", n_frames=31)
    play.run(create(gateway, request, "k"))
    row = gateway.ledger.find("k")
    assert row is not None
    assert (row.dialect, row.price) == ("videos", Price(Decimal("0.30"), "USD"))


# --- sent a second time -------------------------------------------------------------------------------------------


def test_a_resend_is_held_against_the_budget_and_counted_beside_the_first(
    shop: Callable[..., Shop], gateway: Gateway
) -> None:
    till = shop(max_spend_per_day="0.99")
    assert till.buy(lost, key="k") == "submission_unknown"
    assert till.buy(key="k", resend=True) == REFUSED
    assert (till.error.charged, till.error.key) == ("unknown", "k"), "the first may be paid for all the same"
    assert "Query it by its key" in till.error.hint
    row = gateway.ledger.find("k")
    assert row is not None
    assert (row.state, row.price) == ("unsure", HALF)
    gateway.limits = daily("1.00")
    assert till.buy(key="k", resend=True) == "sent"
    row = gateway.ledger.find("k")
    assert row is not None
    assert (row.state, row.price) == ("accepted", Price(Decimal("1.00"), "USD"))
    assert till.buy() == REFUSED


def test_a_resend_counts_twice_without_limits_too(shop: Callable[..., Shop], gateway: Gateway) -> None:
    till = shop()
    gateway.limits = None
    till.buy(lost, key="k")
    assert till.buy(key="k", resend=True) == "sent"
    assert gateway.ledger.submissions()[0].price == Price(Decimal("1.00"), "USD")


def test_a_resend_that_was_turned_away_costs_nothing(shop: Callable[..., Shop], gateway: Gateway) -> None:
    till = shop(max_spend_per_day="1.00")
    till.buy(lost, key="k")
    busy = reply(429, {"error": {"message": "rate limit"}})
    for answers, came in (([busy], "submission_unknown"), ([busy, busy, OK], "sent")):
        assert till.buy(*answers, key="k", resend=True) == came
        (row,) = gateway.ledger.submissions()
        assert row.price == (HALF if came != "sent" else Price(Decimal("1.00"), "USD"))
        assert row.state == ("unsure" if came != "sent" else "accepted")


def test_a_resend_of_what_had_no_price_counts_what_is_known(shop: Callable[..., Shop], gateway: Gateway) -> None:
    till = shop(max_width=4000)
    gateway.price = None
    till.buy(lost, key="k")
    gateway.price = half
    assert till.buy(key="k", resend=True) == "sent"
    row = gateway.ledger.find("k")
    assert row is not None
    assert row.price == HALF


def test_a_resend_in_another_currency_is_not_sent(shop: Callable[..., Shop], gateway: Gateway) -> None:
    till = shop(max_spend_per_day=9)
    till.buy(lost, key="k")
    gateway.price = lambda _: Price(Decimal(3), "CNY")
    assert till.buy(key="k", resend=True) == "unsent configuration"
    assert "0.50 USD" in str(till.error)
    assert till.error.charged == "unknown"


def test_a_gateway_that_honours_the_key_is_not_counted_twice(shop: Callable[..., Shop], gateway: Gateway) -> None:
    till = shop(max_spend_per_day="0.50")
    gateway.honoured = True
    assert till.buy(lost, OK, key="k") == "sent"
    assert gateway.ledger.submissions()[0].price == HALF


def test_a_web_page_in_place_of_an_answer_is_not_counted_twice(shop: Callable[..., Shop], gateway: Gateway) -> None:
    till = shop(max_spend_per_day="0.50")
    assert till.buy(html(), html(), OK, key="k") == "sent"
    assert gateway.ledger.submissions()[0].price == HALF


# --- the ledger ---------------------------------------------------------------------------------------------------

GATEWAY = "https://g.test:443"


def submission(key: str, **fields: Any) -> Submission:
    return Submission(key, GATEWAY, "backend", {"prompt": key}, digest({"prompt": key}), price=HALF, **fields)


@pytest.fixture(params=["memory", "file"])
def book(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Any:
    return MemoryLedger(clock) if request.param == "memory" else SQLiteLedger(tmp_path / "l.sqlite", clock=clock)


def test_a_check_is_told_what_is_spent_and_its_no_leaves_no_trace(book: Any, tmp_path: Path) -> None:
    told: list[Spent] = []
    book.begin(submission("a", thread="chat"), False, told.append)
    book.begin(submission("b"), False, told.append)
    assert told == [Spent(Decimal("0.50"), Decimal("0.50")), Spent(Decimal("0.50"), Decimal("1.00"))]
    claims = sorted(tmp_path.glob("*.claim"))

    def no(spent: Spent) -> None:
        raise InvalidRequestError(f"{spent.day}")

    with pytest.raises(InvalidRequestError, match=r"1\.50"):
        book.begin(submission("c"), False, no)
    assert book.find("c") is None
    assert sorted(tmp_path.glob("*.claim")) == claims
    assert isinstance(book.begin(submission("c"), False, told.append), New)


def test_a_check_is_not_asked_of_what_is_known(book: Any) -> None:
    asked: list[Spent] = []
    for key, state, task_id in (("a", "accepted", "task_a"), ("b", "unsure", None)):
        book.settle(book.begin(submission(key)).claim, state, task_id)
        book.begin(submission(key), False, asked.append)
    assert asked == []


def test_a_price_survives_the_file_as_it_was_given(tmp_path: Path) -> None:
    price = Price(Decimal("0.100000000001"), "credits")
    SQLiteLedger(tmp_path / "l.sqlite").begin(Submission("k", GATEWAY, "backend", {}, price=price))
    row = SQLiteLedger(tmp_path / "l.sqlite").find("k")
    assert row is not None
    assert row.price == price
    with closing(sqlite3.connect(tmp_path / "l.sqlite")) as db:
        assert db.execute("select price, typeof(price), currency from submission").fetchall() == [
            ("0.100000000001", "text", "credits")
        ]


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_a_ledger_of_each_earlier_version_is_taken_along(tmp_path: Path, version: int) -> None:
    file = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(file)) as old:
        for statement in filter(str.strip, ";".join(MIGRATIONS[:version]).split(";")):
            old.execute(statement)
        old.execute("pragma application_id = 0x536F7261")
        old.execute(f"pragma user_version = {version}")
        old.execute(
            "insert into submission"
            " (key, gateway, account, dialect, body, digest, state, task_id, intended_at, sent_at)"
            " values ('k', ?, '', 'backend', '{}', '', 'accepted', 'task_1', 2e9, 2e9)",
            (GATEWAY,),
        )
        old.commit()
    book, told = SQLiteLedger(file), []
    row = book.find("k")
    assert row is not None
    assert (row.task_id, row.price) == ("task_1", None)
    book.begin(submission("new"), False, told.append)
    assert told == [Spent(Decimal("0.50"), Decimal("0.50"))]
    with book._turn(reading=True) as db:
        assert db.execute("pragma user_version").fetchone()[0] == len(MIGRATIONS) == 3


def test_pruning_leaves_what_the_last_day_cost(tmp_path: Path, clock: Clock) -> None:
    """Also of what was intended long ago, and sent again today."""
    file = tmp_path / "l.sqlite"
    book = SQLiteLedger(file, keep_days=0.01, clock=clock)
    book.settle(book.begin(submission("old")).claim, "unsure")
    clock.seconds += 86_400
    book.settle(book.begin(submission("new")).claim, "accepted", "task_new")
    again = book.begin(submission("old"))
    assert isinstance(again, Unsure)
    book.send_again(again.claim, "", "backend", Price(Decimal(1), "USD"))
    book.settle(again.claim, "accepted", "task_old")
    for task_id in ("task_old", "task_new"):
        book.end(GATEWAY, task_id, "succeeded")
    book.close()
    clock.seconds += 86_399
    told: list[Spent] = []
    SQLiteLedger(file, keep_days=0.01, clock=clock).begin(submission("next"), False, told.append)
    assert told == [Spent(Decimal("2.00"), Decimal("2.00"))]


class ProbeError(Exception):
    """Ends a question in a way that leaves no trace."""


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["accepted", "unsure", "refused", "intended", "resend", "reuse", "end", "wait"]),
        st.integers(0, 5),
        st.sampled_from([None, "a", "b"]),
        st.sampled_from([None, HALF, Price(Decimal("0.1"), "USD"), Price(Decimal(3), "CNY")]),
    ),
    max_size=25,
)


@given(STEPS)
@profile(deadline=None)  # machines are shared
def test_whatever_was_written_down_the_ledger_adds_it_up(steps: list[Any]) -> None:
    clock = Clock()
    book = MemoryLedger(clock)
    for number, (step, which, thread, price) in enumerate(steps):
        row = Submission(f"k{which}", GATEWAY, "backend", {"n": which}, str(which), "me", thread, price=price)
        match step:
            case "wait":
                clock.seconds += 30_000 * which
            case "end":
                book.end(GATEWAY, f"task_{number - which}", "failed")
            case "reuse":
                book.reuse(row, f"k{(which + 1) % 6}")
            case "resend":
                if isinstance(begun := book.begin(row, True), Unsure):
                    book.send_again(begun.claim, "me", "backend", price)
                    begun.claim.__exit__()
            case state:
                begun = book.begin(row, True)
                if isinstance(begun, New | Unsure) and state != "intended":
                    book.settle(begun.claim, state, f"task_{number}" if state == "accepted" else None)
                begun = None
        for currency in ("USD", "CNY"):
            counted = [
                known
                for known in book.submissions()
                if known.price and known.price.currency == currency and known.state != "refused" and not known.reuses
            ]
            told: list[Spent] = []

            def probe(spent: Spent, told: list[Spent] = told) -> None:
                told.append(spent)
                raise ProbeError

            free = Submission("probe", GATEWAY, "backend", {}, "", "me", thread, price=Price(Decimal(0), currency))
            with pytest.raises(ProbeError):
                book.begin(free, True, probe)
            assert told == [
                Spent(
                    sum((known.price.amount for known in counted if known.thread == thread), Decimal(0)),
                    sum((known.price.amount for known in counted if known.sent_at > clock() - 86_400), Decimal(0)),
                )
            ]


# --- all at once --------------------------------------------------------------------------------------------------

SMALL = {"width": 64, "height": 36, "n_frames": 3}


@pytest.fixture
def desk(sandbox: Sandbox, tmp_path: Path) -> Iterator[dict[str, Any]]:
    sandbox.world.speed = 0.001
    yield {"base_url": sandbox.base_url, "api_key": "sk-test-0123456789", "ledger": str(tmp_path / "l.sqlite")}
    sandbox.world.speed = 40


def refused_or_sent(call: Callable[[], Any]) -> str:
    try:
        call()
    except InvalidRequestError as error:
        return "refused" if "more than is left" in error.message else str(error)
    return "sent"


@pytest.mark.parametrize("one_ledger", [True, False])
def test_twenty_threads_with_a_budget_for_three_send_three(
    sandbox: Sandbox, desk: dict[str, Any], one_ledger: bool
) -> None:
    count = 1 if one_ledger else 20
    clients = [Sora(**desk, limits=daily("1.50"), price=half) for _ in range(count)]
    start = threading.Barrier(20)

    def buy(number: int) -> str:
        start.wait()
        return refused_or_sent(lambda: clients[number % count].create(f"video {number}", **SMALL))

    with ThreadPoolExecutor(20) as pool:
        came = list(pool.map(buy, range(20)))
    for sora in clients:
        sora.close()
    assert (came.count("sent"), came.count("refused"), sandbox.creates) == (3, 17, 3)


async def test_twenty_tasks_of_a_loop_with_a_budget_for_three_send_three(
    sandbox: Sandbox, desk: dict[str, Any]
) -> None:
    async with AsyncSora(**desk, limits=daily("1.50"), price=half) as sora:
        came = await asyncio.gather(
            *(sora.create(f"video {number}", **SMALL) for number in range(20)), return_exceptions=True
        )
    assert sum(isinstance(each, InvalidRequestError) for each in came) == 17
    assert sandbox.creates == 3


def _buy(desk: dict[str, Any], start: Any, told: Any) -> None:
    with Sora(**desk, limits=daily("1.50"), price=half) as sora:
        start.wait()
        told.put([refused_or_sent(lambda n=n: sora.create(f"{start} {n}", **SMALL)) for n in range(5)])


def test_two_processes_with_a_budget_for_three_send_three(sandbox: Sandbox, desk: dict[str, Any]) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, told = spawn.Barrier(2), spawn.Queue()
    processes = [spawn.Process(target=_buy, args=(desk, start, told)) for _ in range(2)]
    for process in processes:
        process.start()
    came = [*told.get(timeout=40), *told.get(timeout=40)]
    for process in processes:
        process.join(20)
    assert (came.count("sent"), came.count("refused"), sandbox.creates) == (3, 7, 3)


# --- what a model reads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [False, True], ids=["invoke", "ainvoke"])
async def test_a_model_is_told_what_to_change(sandbox: Sandbox, desk: dict[str, Any], later: bool) -> None:
    limits = VideoLimits(max_frames=30, max_spend_per_thread="0.40")
    async with SoraToolkit(**desk, limits=limits, price=by_frame) as toolkit:
        create_video, _ = toolkit.get_tools()

        async def call(**fields: Any) -> dict[str, Any]:
            given = {"prompt": "fly man", **SMALL, **fields}
            return json.loads(await create_video.ainvoke(given) if later else create_video.invoke(given))

        refused = (await call(n_frames=60))["error"]
        assert (refused["code"], refused["charged"], refused["retryable"]) == ("invalid_request", "no", False)
        assert "n_frames: 60 was given; at most 30 is allowed (1 s)" in refused["message"]
        assert (await call(n_frames=30))["status"] == "queued"
        poor = (await call(n_frames=30))["error"]
        assert "costs 0.30 USD" in poor["message"]
        assert "at most 0.10 USD" in poor["hint"]
        assert (await call(n_frames=10))["status"] == "queued"
    assert sandbox.creates == 2


# --- what may be tried again --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "may"),
    [
        (BusyError("later"), True),
        (NotSentError("refused"), True),
        (EndpointUnavailableError("in development"), True),
        (BusyError("another attempt", charged="unknown", key="k"), False),
        (EndpointUnavailableError("a page", charged="unknown", key="k"), False),
        (LostReplyError("cut"), False),
        (LostReplyError("cut", charged="no"), True),
        (BusyError("of a look at another's task", charged="unknown", task_id="task_1"), True),
        (WaitTimeoutError("still rendering", task_id="task_1"), True),
        (SubmissionUnknownError("who knows", key="k"), False),
        (InvalidRequestError("no"), False),
        (ConfigurationError("no"), False),
        (ValueError("not ours"), False),
        (TimeoutError("not ours"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_what_is_safe_and_may_help_is_retryable(error: BaseException, may: bool) -> None:
    assert is_retryable(error) is may
    if isinstance(error, SoraError):
        assert is_retryable(SoraToolError(error)) is SoraToolError(error).is_retryable is may


def test_generate_says_that_it_may_be_repeated_only_under_a_key(sandbox: Sandbox, desk: dict[str, Any]) -> None:
    """A repeat without one would make, and pay for, another video."""
    with Sora(**desk, retry=Retry(attempts=1)) as sora:
        for key, may in ((None, False), ("mine", True)):
            with pytest.raises(WaitTimeoutError) as caught:
                sora.generate("fly man", **SMALL, key=key, timeout=0)
            assert (is_retryable(caught.value), "makes another one" in caught.value.hint) == (may, not may)
        with pytest.raises(WaitTimeoutError):
            sora.generate("fly man", **SMALL, key="mine", timeout=0)
    assert sandbox.creates == 2
