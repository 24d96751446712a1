"""What a person is asked before ``create_video`` spends money, for LangChain's ``HumanInTheLoopMiddleware``.

Rule: nobody is asked only where the price is known and low enough. Arguments that cannot be read have no price, so
they are asked about too. The answer depends on the call alone: the middleware asks again when a run resumes, and
where that came out differently, it would skip the decision.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from typing import Any, Final

from pydantic import ValidationError

from ..errors import ConfigurationError, SoraError
from ..limits import Amount, Price, PriceOf, agreed, bound, priced
from ..schemas import FRAMES_PER_SECOND, VideoRequest, broken_rules, shortened
from .arguments import CreateVideoArgs

_DECISIONS: Final = ("approve", "edit", "reject", "respond")


def video_approval(
    *,
    price: PriceOf | None = None,
    ask_above: Amount | None = None,
    model: str | None = None,
    allowed_decisions: Collection[str] = ("approve", "edit", "reject"),
) -> dict[str, Any]:
    """What ``HumanInTheLoopMiddleware(interrupt_on=...)`` takes, so that a person decides over dear videos.

    Works in both of its interrupt modes. List the middleware before any that retries tools.

    Args:
        price: What a request costs, the same function that the toolkit was given.
        ask_above: Creates that cost more wait for a decision, the others run at once. None asks about every one. A
            bare number is in whatever currency the price is.
        model: The gateway's model, as the toolkit was given it (else ``SORA_MODEL``), should the price depend on it.
        allowed_decisions: Some of ``"approve"``, ``"edit"``, ``"reject"`` and ``"respond"``.

    Returns:
        ``{"create_video": {"allowed_decisions": [...], "description": function, "when": function}}``, to which other
        tools may be added.

    Raises:
        ConfigurationError: ``ask_above`` without ``price``, or a value that cannot work.
    """
    agreed(None, price, remembers=True)
    decisions = [name for name in _DECISIONS if name in allowed_decisions]
    if isinstance(allowed_decisions, str) or len(decisions) != len(allowed_decisions) or not decisions:
        raise ConfigurationError(
            f"allowed_decisions={allowed_decisions!r} was given; it is some of {', '.join(_DECISIONS)}, as a tuple."
        )
    if ask_above is not None and price is None:
        raise ConfigurationError(
            "ask_above was given, and nothing says what a request costs.",
            hint='Pass price=, a function from a VideoRequest to Price(Decimal("0.50"), "USD").',
        )

    own = model or os.environ.get("SORA_MODEL") or None

    def described(tool_call: Any, state: Any = None, runtime: Any = None) -> str:  # noqa: ARG001  # as it is called
        try:
            request = _request(tool_call, own)
        except ValidationError as error:
            return f"This cannot run as it is: {'; '.join(broken_rules(error))}. Nothing would be made or charged."
        return f"This creates {_words(request)}. {_cost(price, request)} {_told(request)}"

    asked: dict[str, Any] = {"allowed_decisions": decisions, "description": described}
    if ask_above is not None and price is not None:
        most, currency = bound("ask_above", ask_above)

        def is_dear(call: Any) -> bool:
            try:
                cost = priced(price, _request(call.tool_call, own))
            except (ValidationError, SoraError):
                return True
            return cost.amount > most or currency not in (None, cost.currency)

        asked["when"] = is_dear
    return {"create_video": asked}


def _request(tool_call: Any, model: str | None) -> VideoRequest:
    """The request as the tool would send it."""
    request = VideoRequest.model_validate(dict(CreateVideoArgs.model_validate(tool_call["args"])))
    return request.model_copy(update={"model": request.model or model})


def _words(request: VideoRequest) -> str:
    seconds = request.n_frames / FRAMES_PER_SECOND
    videos = f"{request.n_variants} video{'s' if request.n_variants > 1 else ''}"
    how = "" if request.operation == "simple_compose" else f" ({request.operation})"
    images = sum(bool(item.model_dump(exclude_defaults=True)) for item in request.inpaint_items)
    sources = f" from {images} source{'s' if images > 1 else ''}" if images else ""
    return f"{videos} of {request.width}x{request.height}, {seconds:.3g} s{how}{sources}"


def _cost(price: PriceOf | None, request: VideoRequest) -> str:
    if price is None:
        return "It is paid for; what it costs is not known here."
    try:
        cost: Price = priced(price, request)
    except ConfigurationError as error:
        return f"What it costs is not known: {error.message}"
    return f"It costs {cost}."


def _told(request: VideoRequest) -> str:
    """What the model wrote, on one line and in quotes, so that it cannot pass for what is said here."""
    moments = "; ".join(f"{action.time:g} s: {action.description}" for action in request.actions or ())
    texts = {"Prompt": request.prompt, "Actions": moments}
    quoted = {name: json.dumps(shortened(text, 300), ensure_ascii=False) for name, text in texts.items() if text}
    return " ".join(f"{name}: {text}" for name, text in quoted.items())
