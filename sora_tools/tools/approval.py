"""What a person is asked before ``create_video`` spends money, for LangChain's ``HumanInTheLoopMiddleware``.

Rule: nobody is asked only where the price is known and low enough. Arguments that cannot be read have no price, so
they are asked about too. The answer depends on the call alone: the middleware asks again when a run resumes, and
where that came out differently, it would skip the decision.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from pydantic import ValidationError

from .. import flow as flows
from ..config import is_auto, own_dialect, own_model
from ..dialects import DIALECTS
from ..dialects import dialect as named_dialect
from ..errors import ConfigurationError, SoraError
from ..prices import Amount, Price, PriceOf, bounded_by, check_price_of, nothing_says_the_price, priced
from ..schemas import FRAMES_PER_SECOND, VideoRequest, broken_rules, shortened
from ..wire import Dialect
from .arguments import CreateVideoArgs

_DECISIONS: Final = ("approve", "edit", "reject", "respond")
_MOST_SOURCES: Final = 5


def video_approval(
    *,
    price: PriceOf | None = None,
    ask_above: Amount | None = None,
    model: str | None = None,
    dialect: str | Dialect | Sequence[str | Dialect] | None = None,
    allowed_decisions: Collection[str] = ("approve", "edit", "reject"),
) -> dict[str, Any]:
    """What ``HumanInTheLoopMiddleware(interrupt_on=...)`` takes, so that a person decides over dear videos.

    Works in both of its interrupt modes. List the middleware before any that retries tools.

    Args:
        price: What a request costs, the same function that the toolkit was given.
        ask_above: Creates that cost more wait for a decision, the others run at once. None asks about every one. A
            bare number is in whatever currency the price is.
        model: The gateway's model, as the toolkit was given it (else ``SORA_MODEL``).
        dialect: The gateway's format, as the toolkit was given it (else ``SORA_DIALECT``, else ``"backend"``), or
            several where there is a ``fallback``: what is priced is what a format makes of the request, and of several
            the dearest counts. ``"auto"`` is all of them.
        allowed_decisions: Some of ``"approve"``, ``"edit"``, ``"reject"`` and ``"respond"``.

    Returns:
        ``{"create_video": {"allowed_decisions": [...], "description": function, "when": function}}``, to which other
        tools may be added.

    Raises:
        ConfigurationError: ``ask_above`` without ``price``, or a value that cannot work.
    """
    check_price_of(price)
    decisions = [name for name in _DECISIONS if name in allowed_decisions]
    if isinstance(allowed_decisions, str) or len(decisions) != len(allowed_decisions) or not decisions:
        raise ConfigurationError(
            f"allowed_decisions={allowed_decisions!r} was given; it is some of {', '.join(_DECISIONS)}, as a tuple."
        )
    if ask_above is not None and price is None:
        raise nothing_says_the_price("ask_above was given")

    own, formats = own_model(model), _formats(dialect)

    def question(tool_call: Any, state: Any = None, runtime: Any = None) -> str:  # noqa: ARG001  # as it is called
        try:
            request = _request(tool_call, own)
        except ValidationError as error:
            broken = _quoted("; ".join(broken_rules(error)), 600)
            return f"This cannot run as it is: {broken}. Nothing would be made or charged."
        made = [each.made(request) for each in formats]
        return f"This creates {_words(request, made)}. {_cost(price, made)} {_told(request)}"

    asked: dict[str, Any] = {"allowed_decisions": decisions, "description": question}
    if ask_above is not None and price is not None:
        most, currency = bounded_by("ask_above", ask_above)

        def is_dear(call: Any) -> bool:
            try:
                request = _request(call.tool_call, own)
                costs = [_known(price, each.made(request)) for each in formats]
            except (ValidationError, SoraError):
                return True
            return any(cost.amount > most or currency not in (None, cost.currency) for cost in costs)

        asked["when"] = is_dear
    return {"create_video": asked}


def _formats(dialect: str | Dialect | Sequence[str | Dialect] | None) -> list[Dialect]:
    given = [dialect] if dialect is None or isinstance(dialect, str) or not isinstance(dialect, Sequence) else dialect
    chosen = [own_dialect(each) for each in given]
    return [*DIALECTS.values()] if any(map(is_auto, chosen)) else [named_dialect(each) for each in chosen]


def _request(tool_call: Any, model: str | None) -> VideoRequest:
    """The request that the tool makes of a call."""
    return flows.with_model(flows.requested(None, dict(CreateVideoArgs.model_validate(tool_call["args"]))), model)


def _known(price: PriceOf, made: VideoRequest | None) -> Price:
    """What it costs, or a ConfigurationError where that cannot be known."""
    if made is None:
        raise ConfigurationError("Its length and its size are its source's, and not known here.")
    return priced(price, made)


def _words(request: VideoRequest, made: Sequence[VideoRequest | None]) -> str:
    videos = f"{request.n_variants} video{'s' if request.n_variants > 1 else ''}"
    how = "" if request.operation == "simple_compose" else f" ({request.operation})"
    count = len(list(_sources(request)))
    sources = f" from {count} source{'s' if count > 1 else ''}" if count else ""
    measures = " or ".join(dict.fromkeys(map(_measures, made)))
    asked = "" if measures == _measures(request) else f" where {_measures(request)} was asked for"
    return f"{videos} of {measures}{asked}{how}{sources}"


def _measures(request: VideoRequest | None) -> str:
    if request is None:
        return "its source's size and length"
    return f"{request.width}x{request.height}, {request.n_frames / FRAMES_PER_SECOND:.3g} s"


def _cost(price: PriceOf | None, made: Sequence[VideoRequest | None]) -> str:
    if price is None:
        return "It is paid for; what it costs is not known here."
    try:
        costs = dict.fromkeys(_known(price, each) for each in made)
    except ConfigurationError as error:
        return f"What it costs is not known: {error.message}"
    return f"It costs {' or '.join(map(str, costs))}."


def _told(request: VideoRequest) -> str:
    """What the model wrote, on one line and in quotes, so that it cannot pass for what is said here."""
    sources = list(_sources(request))
    rest = [f"and {len(sources) - _MOST_SOURCES} more"] if len(sources) > _MOST_SOURCES else []
    moments = "; ".join(f"{action.time:g} s: {action.description}" for action in request.actions or ())
    told = {
        "Model": request.model and _quoted(request.model, 80),
        "Made from": ", ".join([*sources[:_MOST_SOURCES], *rest]),
        "Prompt": request.prompt and _quoted(request.prompt, 300),
        "Actions": moments and _quoted(moments, 300),
    }
    return " ".join(f"{name}: {text}" for name, text in told.items() if text)


def _sources(request: VideoRequest) -> Iterator[str]:
    """What the video is made from, a few words each."""
    for item in request.inpaint_items:
        named = {"generation": item.generation_id, "upload": item.upload_media_id}
        words = [*([_picture(item.url)] if item.url else []), *_named(named)]
        if words or item.model_dump(exclude_defaults=True):
            yield " of ".join(words) or "what the gateway finds by itself"
    if request.sdedit is not None:
        edit = request.sdedit
        named = {"generation": edit.source_generation_id, "upload": edit.source_upload_media_id}
        yield f"{' and '.join(_named(named))}, changed {edit.amount:g} of 8"


def _named(ids: dict[str, str | None]) -> list[str]:
    return [f"{kind} {_quoted(name, 80)}" for kind, name in ids.items() if name]


def _picture(url: str) -> str:
    head, _, data = url.partition(",")
    if head[:5].lower() == "data:":
        return f"a picture of {max(1, round(len(data) * 3 / 4000))} kB"
    return _quoted(url, 120)


def _quoted(text: str, length: int) -> str:
    """A text in quotes, with whatever would break the line, turn its direction or stay unseen written out."""
    line = json.dumps(shortened(text, length), ensure_ascii=False)
    seen = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
    return seen if len(text) <= length else f"{seen} ({length - 1} of {len(text)} characters)"
