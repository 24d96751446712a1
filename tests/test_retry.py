"""What is sent again, how often and after how long: the policy alone, without a flow and without a clock that runs."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Clock

from sora_tools import (
    AuthenticationError,
    BusyError,
    ConfigurationError,
    EndpointUnavailableError,
    LostReplyError,
    NotSentError,
    Retry,
    SubmissionUnknownError,
)


class Calls:
    """A call that always fails in the same way, made as a policy says; its naps move a clock."""

    def __init__(self, clock: Clock, policy: Retry, error: Exception, *, paid: bool = False, **given: Any) -> None:
        self.made, self.naps = 0, list[float]()
        start = clock.seconds

        def nap(seconds: float) -> None:
            self.naps.append(seconds)
            clock.seconds += seconds

        def call() -> None:
            options = {"deadline": start + policy.budget, "jitter": lambda: 1.0, **given}
            for turn in policy.turns(nap, paid=paid, clock=clock, **options):
                with turn:
                    self.made += 1
                    raise error

        with pytest.raises(type(error)) as caught:
            call()
        assert caught.value is error, "what is raised in the end is what went wrong last"


PASSING = [BusyError("later"), NotSentError("no route to host"), EndpointUnavailableError("paused", charged="no")]


@pytest.mark.parametrize("paid", [True, False], ids=["create", "look"])
@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_was_surely_not_accepted_is_sent_again(clock: Clock, error: Exception, paid: bool) -> None:
    assert Calls(clock, Retry(), error, paid=paid).made == 4


@pytest.mark.parametrize("paid", [True, False], ids=["create", "look"])
@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("wrong key"),
        BusyError("x-should-retry: false", retryable=False),
        SubmissionUnknownError("lost"),
        KeyError("a bug of ours"),
        OSError("the disk"),
    ],
    ids=repr,
)
def test_what_cannot_pass_is_not_sent_again(clock: Clock, error: Exception, paid: bool) -> None:
    assert Calls(clock, Retry(), error, paid=paid).made == 1


def test_a_lost_look_is_repeated_and_a_lost_create_is_not(clock: Clock) -> None:
    assert Calls(clock, Retry(), LostReplyError("reset")).made == 4
    assert Calls(clock, Retry(), LostReplyError("reset"), paid=True).made == 1
    assert Calls(clock, Retry(), BusyError("maybe", charged="unknown"), paid=True).made == 1


def test_a_page_in_place_of_an_answer_is_the_flows_to_judge(clock: Clock) -> None:
    page = EndpointUnavailableError("a web page", charged="unknown")
    assert Calls(clock, Retry(), page, paid=True).made == 4


def test_each_nap_may_last_twice_as_long_up_to_the_longest(clock: Clock) -> None:
    calls = Calls(clock, Retry(attempts=6, first=1.0, longest=6.0), BusyError("later"))
    assert calls.naps == [1.0, 2.0, 4.0, 6.0, 6.0]


@pytest.mark.parametrize("drawn", [0.0, 0.25, 0.5])
def test_chance_shortens_every_nap_so_that_callers_do_not_return_as_one(clock: Clock, drawn: float) -> None:
    calls = Calls(clock, Retry(), BusyError("later"), jitter=lambda: drawn)
    assert calls.naps == [drawn * longest for longest in (0.5, 1.0, 2.0)]


def test_what_the_gateway_asks_for_is_left_as_it_is(clock: Clock) -> None:
    calls = Calls(clock, Retry(longest=8.0), BusyError("later", retry_after=9.0), jitter=lambda: 0.0)
    assert calls.naps == [9.0, 9.0, 9.0]


def test_no_nap_begins_that_would_end_after_the_deadline(clock: Clock) -> None:
    calls = Calls(clock, Retry(attempts=9), BusyError("later", retry_after=9.0), deadline=clock.seconds + 20)
    assert calls.naps == [9.0, 9.0]


@pytest.mark.parametrize(("most", "made"), [(1, 1), (2, 2), (9, 4), (None, 4)])
def test_an_error_may_allow_fewer_sends_and_never_more(clock: Clock, most: int | None, made: int) -> None:
    assert Calls(clock, Retry(), BusyError("early", most_sends=most)).made == made


@pytest.mark.parametrize(
    "given",
    [{"attempts": 0}, {"attempts": -1}, {"budget": -1.0}, {"first": float("nan")}, {"longest": float("inf")}],
    ids=repr,
)
def test_a_policy_that_cannot_work_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="attempts is 1 or more"):
        Retry(**given)
