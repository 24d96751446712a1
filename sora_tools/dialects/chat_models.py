"""Model names that say how large and how long a video is to be: the chat format has no other place for it.

Rule: no model, or ``sora``, is the family of 2024, ``sora-16:9-480p-5s``. The name of a later family (``FAMILIES``) is
completed in that family's manner. Any other name says what it says, and is sent as it is. The nearest length and size
a family has are chosen, of two equally near ones the smaller, and whatever differs from the request is said.

Source: model lists and changelogs of gateways, December 2024 and from October 2025 on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import ceil, log
from typing import Final

from ..schemas import FRAMES_PER_SECOND, VideoRequest

FAMILIES: Final[Mapping[str, str]] = {
    "sora_video2": "sora_video2-{turned}{hd}-{seconds}s",
    "sora_video2-pro": "sora_video2-{turned}{hd}-{seconds}s-pro",
    "sora2": "sora2-{turned}-{seconds}s",
    "sora2pro": "sora2pro{hd}-{turned}-{seconds}s",
    "sora-2-chat": "sora-2{hd}-{seconds}s-chat",
}
"""The later families by the name an operator gives, and how each name of a family is spelt."""

_FIRST: Final = "sora"
_LATER: Final = tuple(spelling.partition("{")[0] for spelling in FAMILIES.values())
_RATIOS: Final = {"1:1": 1.0, "16:9": 16 / 9, "9:16": 9 / 16}
_LINES: Final = (480, 720, 1080)
_SECONDS: Final = (5, 10, 15, 20)
_LATER_SECONDS: Final = (10, 15, 25)
_PLAIN: Final = (720, 1280)
_HD: Final = (1024, 1792)
_ROUNDED: Final = 0.01
"""How far a ratio of whole pixels may be from its name: 854x480 is 16:9."""


def named(request: VideoRequest) -> tuple[str, tuple[str, ...]]:
    """The model name to send for a request, and a sentence for each thing it says otherwise than the request."""
    model = (request.model or "").strip() or _FIRST
    if model == _FIRST:
        return _first(request)
    if (spelling := FAMILIES.get(model)) is not None:
        return _later(request, spelling)
    unsaid = [name for name in ("width", "height", "n_frames") if name in request.model_fields_set]
    if not unsaid:
        return model, ()
    return model, (f"{', '.join(unsaid)} not sent: the name {model} decides the size and the length.",)


def read(name: str, *, is_tall: bool) -> dict[str, int]:
    """What a model name says of ``n_frames``, ``width`` and ``height``; what it does not say is left out.

    Args:
        name: As it is sent.
        is_tall: Whether a portrait was asked for, where the name leaves that to the gateway.
    """
    told: dict[str, int] = {}
    if (length := re.search(r"-(\d{1,3})s(?=-|$)", name)) is not None:
        told["n_frames"] = int(length[1]) * FRAMES_PER_SECOND
    if (shape := re.search(r"-(1:1|16:9|9:16)-(\d{3,4})p(?=-|$)", name)) is not None:
        ratio, lines = _RATIOS[shape[1]], int(shape[2])
        told["width"], told["height"] = _even(lines * max(ratio, 1)), _even(lines * max(1 / ratio, 1))
    elif name.startswith(_LATER) and length is not None:
        sides = _HD if "-hd" in name else _PLAIN
        is_tall = "portrait" in name or (is_tall and "landscape" not in name)
        told["width"], told["height"] = sides if is_tall else sides[::-1]
    return told


def _even(length: float) -> int:
    """A side of whole pixels, as encoders take them: of 480 lines in 16:9, 854."""
    return 2 * ceil(length / 2 - _ROUNDED)


def _first(request: VideoRequest) -> tuple[str, tuple[str, ...]]:
    shape, lines = request.width / request.height, min(request.width, request.height)
    ratio = min(_RATIOS, key=lambda name: abs(log(shape / _RATIOS[name])))
    chosen = _nearest(_LINES, lines)
    seconds, changes = _length(request, _SECONDS)
    name = f"sora-{ratio}-{chosen}p-{seconds}s"
    if lines != chosen or abs(shape / _RATIOS[ratio] - 1) > _ROUNDED:
        changes = (f"The size {request.width}x{request.height} became {ratio} at {chosen}p.", *changes)
    return name, changes


def _later(request: VideoRequest, spelling: str) -> tuple[str, tuple[str, ...]]:
    turned = "landscape" if request.width >= request.height else "portrait"
    sides = tuple(sorted((request.width, request.height)))
    large = "{hd}" in spelling and _nearest((_PLAIN[0], _HD[0]), sides[0]) == _HD[0]
    seconds, changes = _length(request, _LATER_SECONDS)
    told = [turned] if "{turned}" in spelling else []
    told += ["hd"] if large else []
    if sides != (_HD if large else _PLAIN) or "{turned}" not in spelling:
        became = f"became {' '.join(told)}" if told else "was left to the gateway"
        changes = (f"The size {request.width}x{request.height} {became}.", *changes)
    return spelling.format(turned=turned, hd="-hd" if large else "", seconds=seconds), changes


def _length(request: VideoRequest, allowed: Iterable[int]) -> tuple[int, tuple[str, ...]]:
    asked = request.n_frames / FRAMES_PER_SECOND
    chosen = _nearest(allowed, asked)
    return chosen, () if asked == chosen else (f"The length {asked:g} s became {chosen} s.",)


def _nearest(allowed: Iterable[int], asked: float) -> int:
    """The nearest allowed number; allowed ones are given in ascending order."""
    return min(allowed, key=lambda number: abs(number - asked))
