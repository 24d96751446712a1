"""One call and its answer: redirects, retries, and the cool-down after a route was not served.

Rule: a redirect is followed only where it cannot change what is sent or who receives it: on the gateway's own
origin, and a POST only by 307 and 308 (RFC 9110 15.4).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar, cast

from ..addresses import joined, origin
from ..config import Settings
from ..dialects import dialect as named_dialect
from ..errors import (
    ConfigurationError,
    EndpointUnavailableError,
    LostReplyError,
    NotSentError,
    SoraError,
    UnreadableReplyError,
    masked,
)
from ..events import Retrying
from ..ledger import Ledger
from ..limits import VideoLimits
from ..prices import PriceOf
from ..retry import Retry
from ..schemas import CARRIED, Failure, Generation, TaskPage, VideoTask
from ..wire import Call, Dialect, Reply, Route, dated
from .wishes import Flow, Send, Sleep, Tell, Wish

T = TypeVar("T")

GRACE: Final = 5.0
"""Seconds beyond the retry budget within which the last send is answered or given up."""

PASSING: Final = (429, 500, 503)
"""Statuses with which a route that exists may be called unavailable for now: paused, or without a channel."""

_MOST_REDIRECTS: Final = 3


class CoolDown:
    """Which routes were not served a moment ago, so that an agent's loop costs the gateway and itself nothing.

    Threads share it without a lock: a dictionary's own steps are whole, and a fork finds no lock held.
    """

    def __init__(self, clock: Callable[[], float], seconds: float = 60.0) -> None:
        self._clock, self._seconds = clock, seconds
        self._until: dict[Route, tuple[float, EndpointUnavailableError]] = {}

    def begin(self, route: Route, error: EndpointUnavailableError) -> None:
        """Answer for this route from now on."""
        self._until[route] = (self._clock() + self._seconds, error)

    def check(self, route: Route) -> None:
        """Raise what the route answered, while that is fresh."""
        until, error = self._until.get(route, (0.0, None))
        left = until - self._clock()
        if error is not None and left > 0:
            raise EndpointUnavailableError(
                f"Not sent, because a moment ago: {error.message}",
                hint=error.hint,
                retry_after=round(left, 1),
                most_sends=1,
                http_status=error.http_status,
                request_id=error.request_id,
            )


@dataclass(slots=True)
class Gateway:
    """A gateway as flows speak to it. Sync and async clients of one toolkit share it.

    Attributes:
        auto: Whether its format is found out at the first conversation.
        undecided: Whether that is still to be done.
        fallback: The formats in which a create is tried next where this one is not served.
        honoured: Whether it is known to honour the key that every create carries as ``Idempotency-Key``.
        limits: What the operator allows a create to be, and to cost.
        price: What a request costs.
        clock_skew: Seconds that its clock is ahead of ours, as the ``Date`` of its last answer told.
    """

    settings: Settings
    dialect: Dialect
    ledger: Ledger
    retry: Retry = field(default_factory=Retry)
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random
    cool_down: CoolDown = field(init=False)
    honoured: bool = False
    auto: bool = False
    fallback: tuple[Dialect, ...] = ()
    limits: VideoLimits | None = None
    price: PriceOf | None = None
    clock_skew: float = 0.0
    undecided: bool = field(init=False)
    _in_formats: dict[str, Gateway] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cool_down = CoolDown(self.clock)
        self.undecided = self.auto

    @property
    def configured(self) -> str:
        """What its format is called where it was set: keys are made of that, so that finding out changes none."""
        return "auto" if self.auto else self.dialect.name

    def decide(self, name: str) -> None:
        """Speak the format of that name from now on: it was found out."""
        self.dialect, self.undecided = self.speaking(name).dialect, False

    def speaking(self, name: str) -> Gateway:
        """The same gateway in the format of that name; as it is where nobody here knows the name."""
        if name == self.dialect.name:
            return self
        if name not in self._in_formats:
            try:
                other = next((known for known in self.fallback if known.name == name), None) or named_dialect(name)
            except ConfigurationError:
                return self
            return self._in_formats.setdefault(name, replace(self, dialect=other))
        return self._in_formats[name]

    @property
    def patience(self) -> float:
        """Seconds a create or a look takes at most."""
        return self.retry.budget + GRACE


def exchange(gateway: Gateway, call: Call[T], deadline: float) -> Flow[T]:
    """Send one call once and read its answer."""

    def sent(call: Call[T]) -> Send:
        patience = min(gateway.settings.timeout, deadline - gateway.clock())
        if patience <= 0:
            raise NotSentError("There was no time left to send the request.", hint="Ask again.")
        return Send(call, patience)

    try:
        call, reply = yield from answered(gateway, call, sent)
        return resolved(gateway, call.read(reply))
    except SoraError as error:
        error.without(gateway.settings.secret)
        if not call.paid and isinstance(error, LostReplyError | UnreadableReplyError):
            error.charged = "no"
        raise


def answered(gateway: Gateway, call: Call[T], sent: Callable[[Call[T]], Wish]) -> Flow[tuple[Call[T], Reply]]:
    """The answer to one call, and the call that was answered: redirects and refused encodings lead to others.

    Raises:
        LostReplyError: A create was redirected in a way that may mean that it was accepted.
        EndpointUnavailableError: The gateway redirects in circles.
    """
    for _ in range(_MOST_REDIRECTS + 1):
        reply = unquoted(gateway, (yield sent(call)))
        if (date := dated(reply.headers)) is not None:
            gateway.clock_skew = date.timestamp() - gateway.now()
        onward = _onward(gateway, call, reply)
        if onward is None and call.paid and _leads_home(gateway, call, reply):
            raise LostReplyError(
                f"The gateway redirected the create within itself (HTTP {reply.status}), as after taking it",
                http_status=reply.status,
                request_id=reply.request_id,
            )
        if onward is None and (onward := call.otherwise(reply)) is None:
            return call, reply
        call = onward
    raise EndpointUnavailableError("The gateway redirects in circles", charged="no", most_sends=1)


def persist(gateway: Gateway, attempt: Callable[[], Flow[T]], deadline: float, *, paid: bool = False) -> Flow[T]:
    """Make an attempt, and make it again as the retry policy allows."""
    naps: list[float] = []
    last: SoraError | None = None
    turns = gateway.retry.turns(
        naps.append,
        paid=paid,
        deadline=min(deadline, gateway.clock() + gateway.retry.budget),
        clock=gateway.clock,
        jitter=gateway.jitter,
    )
    for turn in turns:
        while naps and last is not None:
            seconds = naps.pop()
            yield Tell(Retrying(last, seconds))
            yield Sleep(seconds)
        with turn:
            try:
                return (yield from attempt())
            except SoraError as error:
                last = error
                raise
    raise AssertionError("unreachable")


def ask(gateway: Gateway, call: Call[T], deadline: float) -> Flow[T]:
    """Send a call that costs nothing, with retries, minding its route's cool-down."""
    gateway.cool_down.check(call.route)
    try:
        return (yield from persist(gateway, lambda: exchange(gateway, call, deadline), deadline))
    except EndpointUnavailableError as error:
        gateway.cool_down.begin(call.route, error)
        raise


def unquoted(gateway: Gateway, reply: Reply) -> Reply:
    """The reply without the key, where the gateway quotes it: before any words are cut or any address is followed."""
    secret = gateway.settings.secret
    headers = {masked(name, secret): masked(value, secret) for name, value in reply.headers.items()}
    return replace(reply, headers=headers, body=masked(reply.body, secret))


def resolved(gateway: Gateway, answer: T) -> T:
    """The same answer with whole addresses; one that may not be fetched counts as none."""
    whole: Any = answer
    if isinstance(answer, TaskPage):
        whole = answer.model_copy(update={"tasks": tuple(resolved(gateway, task) for task in answer.tasks)})
    elif isinstance(answer, VideoTask) and answer.generations:
        generations = tuple(_made_whole(gateway, generation) for generation in answer.generations)
        whole = answer.model_copy(update={"generations": generations})
        if answer.status == "succeeded" and not any(generation.url for generation in generations):
            failure = Failure(kind="no_output", message="The gateway gives no address that may be fetched.")
            whole = whole.model_copy(update={"status": "failed", "failure": failure})
    return cast(T, whole)


def _made_whole(gateway: Gateway, generation: Generation) -> Generation:
    def whole(url: str | None) -> str | None:
        if url is None or url.startswith(CARRIED):
            return url
        absolute = joined(f"{gateway.settings.base_url}/", url)
        return absolute if absolute and gateway.settings.fetchable(absolute) else None

    encodings = {name: address for name, url in generation.encodings.items() if (address := whole(url))}
    url = whole(generation.url) or encodings.get("source")
    addresses = {"url": url, "thumbnail_url": whole(generation.thumbnail_url), "encodings": encodings}
    return generation.model_copy(update=addresses)


def _leads_home(gateway: Gateway, call: Call[T], reply: Reply) -> bool:
    """Whether it is a redirect to look at what was made (Post/Redirect/Get), rather than to where the API is."""
    location = reply.headers.get("location", "")
    where = joined(gateway.settings.url(call.path), location) if location else None
    return reply.status in (301, 302) and where is not None and origin(where) == gateway.settings.origin


def _onward(gateway: Gateway, call: Call[T], reply: Reply) -> Call[T] | None:
    """The call that a redirect leads to, where following it is safe."""
    followed = (307, 308) if call.method == "POST" else (301, 302, 303, 307, 308)
    location = reply.headers.get("location")
    if reply.status not in followed or not location:
        return None
    # masked once more: joining drops tabs and dots, and can make of harmless pieces what must not be sent
    url = masked(joined(gateway.settings.url(call.path), location) or "", gateway.settings.secret)
    return replace(call, path=url, query={}) if url and origin(url) == gateway.settings.origin else None
