"""Probe: which formats a gateway serves, and what it tells of the account.

Rule: only requests that cost nothing and change nothing: lists, and looks at an id that no task can have. What a
format answers to these says whether it is there; nothing is ever created to find out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

from ..dialects import DIALECTS, account
from ..errors import (
    AuthenticationError,
    BusyError,
    EndpointUnavailableError,
    InvalidRequestError,
    NotSentError,
    QuotaError,
    SoraError,
    TaskNotFoundError,
)
from ..wire import Call, Dialect
from .exchange import Gateway, exchange
from .wishes import Flow

T = TypeVar("T")
State = Literal["live", "in development", "refused", "not served", "unclear"]

NOBODYS: Final = "task_00000000000000000000000000"
"""An id that no task can have: its time is 1970."""

_PATIENCE: Final = 10.0
"""Seconds one request of a probe takes at most."""

_NO_ROUTE: Final = r"(?i).*: (not found|404 page not found|404 not found)"
"""What frameworks say of a route that nobody wrote (Starlette, Go, nginx): of a task, programs say more."""


@dataclass(frozen=True, slots=True)
class FormatProbe:
    """What one format answered.

    Attributes:
        dialect: Its name.
        state: ``"live"``: it answers. ``"in development"``: the route is announced or paused, or a web page stands in
            its place. ``"refused"``: it is there, and does not accept the key. ``"not served"``: there is no such
            route. ``"unclear"``: the gateway failed, or was not reached.
        evidence: What was asked and answered, in a sentence.
        seconds: How long the answer took.
    """

    dialect: str
    state: State
    evidence: str
    seconds: float


@dataclass(frozen=True, slots=True)
class GatewayProbe:
    """What a gateway answered.

    Attributes:
        base_url: Its address.
        formats: The formats, in the order in which ``dialect="auto"`` prefers them.
        models: The models that its list names; None where it has no list.
        left: What the key may still spend, in the gateway's own unit; None where it does not tell.
        advice: What to do about it: a sentence for each trouble.
    """

    base_url: str
    formats: tuple[FormatProbe, ...]
    models: tuple[str, ...] | None
    left: float | None
    advice: tuple[str, ...]

    @property
    def live(self) -> tuple[str, ...]:
        """The names of the formats that answer."""
        return tuple(found.dialect for found in self.formats if found.state == "live")


def probe(gateway: Gateway) -> Flow[GatewayProbe]:
    """Find out which formats the gateway serves. Takes 10 s for each request at most, some ten in all.

    Raises:
        ConfigurationError: The gateway's address cannot be asked at all.
    """
    models = yield from _told(gateway, account.models())
    known = {dialect.name: dialect for dialect in (*DIALECTS.values(), gateway.dialect, *gateway.fallback)}
    formats: list[FormatProbe] = []
    for dialect in known.values():
        found = yield from _format(gateway.speaking(dialect.name), models)
        formats.append(found)
    limit = yield from _told(gateway, account.limit())
    spent = (yield from _told(gateway, account.spent())) if limit is not None else None
    left = None if limit is None or spent is None else limit - spent
    return GatewayProbe(
        gateway.settings.base_url, tuple(formats), models, left, tuple(_advice(gateway, formats, models, left))
    )


def decided(gateway: Gateway, flow: Flow[T]) -> Flow[T]:
    """A conversation in the format that the gateway serves, which is found out before the first one.

    Raises:
        EndpointUnavailableError: It serves none. Nothing was sent that costs anything.
        AuthenticationError: It does not accept the key.
        NotSentError: It was not reached, or failed, so that nothing is known.
    """
    if gateway.undecided:
        found = yield from probe(gateway)
        asked = {each.dialect: each.state for each in found.formats if each.dialect != "chat"}
        if not found.live or (found.live == ("chat",) and "unclear" in asked.values()):
            raise _nothing_served(found)
        gateway.decide(found.live[0])
    return (yield from flow)


def _nothing_served(found: GatewayProbe) -> SoraError:
    """Why no format can be chosen: the key, the way there, or that there is none.

    What a key or task that was asked about has cost, a probe does not know.
    """
    states = "; ".join(f"{each.dialect}: {each.state} ({each.evidence.rstrip('.')})" for each in found.formats)
    known = {each.state for each in found.formats}
    kind: type[SoraError] = EndpointUnavailableError
    what = "The gateway serves no format that is known here"
    if "refused" in known:
        kind, what = AuthenticationError, "The gateway does not accept the API key"
    elif "unclear" in known:
        kind, what = NotSentError, "Which format the gateway serves could not be found out"
    hint = " ".join(("Nothing was sent now.", *found.advice))
    return kind(f"{what}: {states}", hint=hint, charged="unknown")


def _told(gateway: Gateway, call: Call[T]) -> Flow[T | None]:
    """An answer, where there is one."""
    try:
        return (yield from exchange(gateway, replace(call, fresh=True), gateway.clock() + _PATIENCE))
    except SoraError:
        return None


def _format(gateway: Gateway, models: tuple[str, ...] | None) -> Flow[FormatProbe]:
    dialect, start = gateway.dialect, gateway.clock()
    state, evidence = _by_models(models)
    for call in _questions(dialect):
        path = f"{call.method} {call.path.replace(NOBODYS, '…')}"
        try:
            yield from exchange(gateway, replace(call, fresh=True), gateway.clock() + _PATIENCE)
            state, evidence = "live", f"{path} was answered."
        except SoraError as error:
            state, evidence = _meaning(error), f"{path}: {error.message}"
        if state != "not served":
            break
    return FormatProbe(dialect.name, state, evidence, round(gateway.clock() - start, 3))


def _questions(dialect: Dialect) -> list[Call[Any]]:
    """What costs nothing to ask in this format."""
    return [call for call in (dialect.list(1, None), dialect.look(NOBODYS)) if call is not None]


def _by_models(models: tuple[str, ...] | None) -> tuple[State, str]:
    """What the list of models says of a format in which nothing is free to ask."""
    if models is None:
        return "not served", "GET /v1/models is not served, and this format has nothing else that is free to ask."
    video = [name for name in models if "sora" in name.lower() or "video" in name.lower()]
    if not video:
        return "not served", f"None of the {len(models)} models of GET /v1/models is named like one for videos."
    return "live", f"GET /v1/models names {', '.join(video[:3])}."


def _meaning(error: SoraError) -> State:
    match error:
        case TaskNotFoundError() if re.fullmatch(_NO_ROUTE, error.message):
            return "not served"
        case TaskNotFoundError() | BusyError() | InvalidRequestError() | QuotaError():
            return "live"
        case AuthenticationError():
            return "refused"
        case EndpointUnavailableError():
            return "not served" if error.http_status in (301, 302, 307, 308, 404, 405) else "in development"
    return "unclear"


def _advice(
    gateway: Gateway, formats: list[FormatProbe], models: tuple[str, ...] | None, left: float | None
) -> list[str]:
    advice = []
    model, live = gateway.settings.model, [found.dialect for found in formats if found.state == "live"]
    state = next(found.state for found in formats if found.dialect == gateway.dialect.name)
    if not live and any(found.state == "refused" for found in formats):
        advice.append("The key is refused: check SORA_API_KEY.")
    elif state != "live" and live and not gateway.auto:
        advice.append(f"The {gateway.dialect.name} format is {state} here: set SORA_DIALECT={live[0]}.")
    elif not live:
        advice.append("No format of this package is served here: check SORA_BASE_URL.")
    if model is not None and models is not None and model not in models:
        advice.append(
            f"The model {model} is not in the gateway's list: set SORA_MODEL to one of {', '.join(models[:5])}."
        )
    if left is not None and left <= 0:
        advice.append("The key has nothing left to spend.")
    return advice
