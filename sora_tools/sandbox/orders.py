"""What a create asks for, whatever its format, and how the fields of a request are read.

Rule: a field that breaks a rule is refused by name, with the value shown; what the gateway does not know it ignores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .messages import Answer, error, relay_error

FRAMES_PER_SECOND = 30
MAX_BODY = 32 * 1024 * 1024
"""Bytes of a request body; the picture of a data URL travels in it."""
MAX_SIDE = 4096
MAX_FRAMES = 1800
MAX_VARIANTS = 8
MAX_SOURCES = 16
"""The page names no upper bounds; these keep one request from filling a disk."""
SORA_2_SIZES = {
    ("small", "portrait"): (352, 640),
    ("small", "landscape"): (640, 352),
    ("small", "square"): (480, 480),
    ("large", "portrait"): (704, 1280),
    ("large", "landscape"): (1280, 704),
    ("large", "square"): (960, 960),
}
"""What relays' words for a size come to."""
AMOUNT = 3.0
"""How far a remix goes that does not say: the original shows clearly."""
RELAY_CODES = {"model": "missing_model", "size": "invalid_size"}


class OrderError(Exception):
    """The create breaks a rule; `param` names the field, `code` the rule."""

    def __init__(self, param: str, message: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param, self.message, self.code = param, message, code

    def answer(self) -> Answer:
        """The refusal in the envelope of OpenAI and the web backend."""
        return error(400, self.message, param=self.param, code=self.code)

    def relay_answer(self) -> Answer:
        """The refusal in the envelope that relays use for tasks."""
        code = "invalid_json" if self.code == "invalid_json" else RELAY_CODES.get(self.param, "invalid_request")
        return relay_error(400, code, self.message)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a video is made of beside its prompt: a picture, or a stretch of a finished generation.

    Args:
        where: The field that names it, for a refusal.
        picture: Its URL or its bytes; None for a generation.
        generation_id: Whose frames it is; None for a picture.
        frame_index: The frame of the new video at which it is placed, where it is placed.
        first: The first frame of the generation to use, from 0.
        last: The last one; None for all that come.
    """

    where: str
    picture: str | bytes | None = None
    generation_id: str | None = None
    frame_index: int = 0
    first: int = 0
    last: int | None = None


@dataclass(frozen=True, kw_only=True)
class Order:
    """A create that has passed every check.

    What it is made of comes in three ways: `base` lies under the whole video, which is a remix of it; the video passes
    from one of `blended` into the next, or into its own scene where there is one alone; `placed` show at their frames.
    """

    prompt: str | None
    width: int
    height: int
    n_frames: int
    n_variants: int = 1
    operation: str = "simple_compose"
    model: str | None = None
    inpaint_items: Sequence[Mapping[str, Any]] = ()
    actions: Sequence[tuple[float, str]] = ()
    sdedit: Mapping[str, Any] | None = None
    seed: int | None = None
    remixed_from: str | None = None
    base: Source | None = None
    blended: Sequence[Source] = ()
    placed: Sequence[Source] = ()

    @property
    def sources(self) -> Sequence[Source]:
        """All that it is made of."""
        return (*([self.base] if self.base else []), *self.blended, *self.placed)

    @property
    def amount(self) -> float:
        """How far a remix goes from what it is made of, 1 to 8."""
        return float(self.sdedit["amount"]) if self.sdedit else AMOUNT

    @property
    def seconds(self) -> float:
        """Length of one video."""
        return self.n_frames / FRAMES_PER_SECOND


def opening(where: str, pictures: Sequence[str | bytes]) -> tuple[Source, ...]:
    """The first of the pictures, to open with; the formats that have several say nothing of where the others go."""
    return tuple(Source(where=where, picture=picture) for picture in pictures[:1] if picture)


def json_object(body: bytes) -> Mapping[str, Any]:
    """A body that is a JSON object."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise OrderError("body", "the body is not JSON", "invalid_json") from None
    if not isinstance(value, dict):
        raise OrderError("body", "the body must be a JSON object", "invalid_type")
    return value


def member(fields: Mapping[str, Any], name: str, where: str, *, required: bool) -> Any:
    """A field; `null` counts as absent. `where` is its full name, for the refusal."""
    value = fields.get(name)
    if value is None and required:
        raise OrderError(where, f"Missing required parameter: '{where}'.", "missing_required_parameter")
    return value


def choice(fields: Mapping[str, Any], name: str, allowed: Sequence[str], *, where: str = "") -> str:
    """A required field that is one of the allowed."""
    where = where or name
    value = member(fields, name, where, required=True)
    if value not in allowed:
        raise OrderError(
            where, f"Invalid value for '{where}': {shown(value)}. Supported values are: {', '.join(allowed)}."
        )
    return str(value)


def text(fields: Mapping[str, Any], name: str, *, where: str = "", required: bool = True) -> str | None:
    """A string; one that is required is not blank."""
    where = where or name
    value = member(fields, name, where, required=required)
    if value is None:
        return None
    if not isinstance(value, str):
        raise OrderError(where, f"Invalid type for '{where}': expected a string, got {shown(value)}.", "invalid_type")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise OrderError(where, f"Invalid value for '{where}': half a surrogate pair is no character.")
    if required and not value.strip():
        raise OrderError(where, f"Invalid value for '{where}': it must not be empty.")
    return value


def number(
    fields: Mapping[str, Any], name: str, low: float, high: float, *, where: str = "", required: bool = True
) -> float | None:
    """A number within bounds."""
    where = where or name
    value = member(fields, name, where, required=required)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN
        raise OrderError(where, f"Invalid type for '{where}': expected a number, got {shown(value)}.", "invalid_type")
    if not low <= value <= high:
        raise OrderError(
            where, f"Invalid value for '{where}': {shown(value)} is not within {low:g} to {high:g}.", "out_of_range"
        )
    return value


def whole(fields: Mapping[str, Any], name: str, low: int, high: int, *, otherwise: int | None = None) -> int:
    """A whole number within bounds; required unless there is a value otherwise."""
    value = number(fields, name, low, high, required=otherwise is None)
    if value is None:
        assert otherwise is not None
        return otherwise
    if value != int(value):
        raise OrderError(
            name, f"Invalid type for '{name}': expected a whole number, got {shown(value)}.", "invalid_type"
        )
    return int(value)


def texts(fields: Mapping[str, Any], name: str) -> list[str]:
    """A list of strings, empty where it is absent."""
    value = member(fields, name, name, required=False)
    if value is None:
        return []
    if not isinstance(value, list):
        raise OrderError(name, f"Invalid type for '{name}': expected an array, got {shown(value)}.", "invalid_type")
    return [str(text({"": item}, "", where=f"{name}[{index}]")) for index, item in enumerate(value)]


def sides(fields: Mapping[str, Any], otherwise: str) -> tuple[int, int]:
    """Width and height, from `size` as WIDTHxHEIGHT or from fields of their own, which win."""
    size = text(fields, "size", required=False) or otherwise
    match = re.fullmatch(r"(\d{1,5})[xX*](\d{1,5})", size, re.ASCII)
    width, height = (int(side) for side in match.groups()) if match else (0, 0)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise OrderError("size", f"Invalid value for 'size': {shown(size)} is no WIDTHxHEIGHT up to {MAX_SIDE}.")
    return whole(fields, "width", 1, MAX_SIDE, otherwise=width), whole(fields, "height", 1, MAX_SIDE, otherwise=height)


def spelled(task_id: str, model: str, *, prefixed: bool) -> str:
    """A task's id as a gateway spells it that may put the model in front."""
    return f"{model}:{task_id}" if prefixed else task_id


def shown(value: object) -> str:
    """A value as a refusal quotes it."""
    return json.dumps(value, ensure_ascii=False, default=str)[:80]
