"""What a relay serves beside its formats: which models it has, and what a key has spent."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from .messages import Answer, json_answer

MODELS = (
    "sora-2",
    "sora-2-pro",
    "sora_video2",
    "sora_video2-landscape",
    "sora_video2-portrait-hd-15s",
    "sora-16:9-480p-5s",
    "sora-16:9-720p-5s",
    "sora-1:1-480p-5s",
    "sora-1:1-480p-10s",
    "turbo",
)


def models(names: Iterable[str]) -> Answer:
    """The list of models."""
    data = [{"id": name, "object": "model", "created": 1_759_708_800, "owned_by": "sandbox"} for name in names]
    return json_answer(200, {"object": "list", "data": data})


def subscription(credit: Decimal) -> Answer:
    """What the key may spend in all, in dollars."""
    limits = dict.fromkeys(("soft_limit_usd", "hard_limit_usd", "system_hard_limit_usd"), float(credit))
    return json_answer(200, {"object": "billing_subscription", "has_payment_method": True, **limits, "access_until": 0})


def usage(charged: Decimal) -> Answer:
    """What it has spent, in cents."""
    return json_answer(200, {"object": "list", "total_usage": float(charged * 100)})
