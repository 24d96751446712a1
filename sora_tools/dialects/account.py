"""What relays tell of an account beside its videos: the models it may name, and what it may still spend.

Source: OpenAI's ``GET /v1/models``; the ``/v1/dashboard/billing`` routes of one-api and new-api, which answer with the
limit in the unit that the operator shows, and with the use in hundredths of it.
"""

from __future__ import annotations

from typing import Final

from ..wire import Call, Reply, opened, unreadable
from .reading import members, number, objects, text

_MOST_MODELS: Final = 2000


def models() -> Call[tuple[str, ...]]:
    """The names of the models that the key may use."""
    return Call("account", "GET", "/v1/models", _models)


def limit() -> Call[float]:
    """What the key may spend in all."""
    return Call("account", "GET", "/v1/dashboard/billing/subscription", _limit)


def spent() -> Call[float]:
    """What the key has spent."""
    return Call("account", "GET", "/v1/dashboard/billing/usage", _spent)


def _models(reply: Reply) -> tuple[str, ...]:
    listed = objects(members(opened(reply, "account")).get("data"))[:_MOST_MODELS]
    return tuple(name for each in listed if (name := text(each.get("id"))) is not None)


def _limit(reply: Reply) -> float:
    return _amount(reply, "hard_limit_usd")


def _spent(reply: Reply) -> float:
    return _amount(reply, "total_usage") / 100


def _amount(reply: Reply, name: str) -> float:
    amount = number(members(opened(reply, "account")).get(name))
    if amount is None:
        raise unreadable(reply, "account", f"The gateway's answer has no {name}")
    return amount
