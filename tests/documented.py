"""The gateway page 创建视频 as data, for whoever is to be held against it: schema, tool arguments, sandbox.

``seed_fields.json`` has one object for each documented field: its path, its type (and the type as the page prints it),
whether the page calls it required, whether its example has it, bounds, enum, and the page's own description.
``seed_request.json`` is the page's example body.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE: list[dict[str, Any]] = json.loads((HERE / "seed_fields.json").read_text(encoding="utf-8"))
EXAMPLE: dict[str, Any] = json.loads((HERE / "seed_request.json").read_text(encoding="utf-8"))
FIELDS = {field["field"]: field for field in PAGE}
OPEN_ENUMS = {"model"}
"""Any gateway names its own models; the page's one is a value among others."""

WHOLE = {
    **EXAMPLE,
    "operation": "storyboard",
    "model": "turbo",
    "actions": [{"time": 0, "description": "takes off"}],
    "inpaint_items": [
        {
            "type": "image",
            "url": "https://images.example/man.png",
            "frame_index": 0,
            "preset_id": None,
            "generation_id": None,
            "upload_media_id": "media_1",
            "source_start_frame": 0,
            "source_end_frame": 0,
        }
    ],
    "sdedit": {"amount": 1, "source_generation_id": "gen_1", "source_upload_media_id": None},
}
"""A request with every documented field."""


def steps(path: str) -> list[Any]:
    """A path of the page as keys: ``actions[].time`` is ``["actions", 0, "time"]``."""
    return [0 if step == "[]" else step for step in path.replace("[]", ".[]").split(".")]


def values_at(path: str, value: Any = WHOLE) -> list[Any]:
    """What stands at a path of the page: one value, or none."""
    for step in steps(path):
        try:
            value = value[step]
        except LookupError:
            return []
    return [value]


def with_value(path: str, value: Any) -> dict[str, Any]:
    """The whole request with another value at a path of the page."""
    request = holder = deepcopy(WHOLE)
    *parents, last = steps(path)
    for step in parents:
        holder = holder[step]
    holder[last] = value
    return request


def documented_values(field: dict[str, Any]) -> Iterator[Any]:
    if field["enum"]:
        yield from field["enum"]
        return
    for kind in field["type"].split(" | "):
        match kind:
            case "number":
                low, high = field["minimum"] or 0, field["maximum"] or 5
                yield from (low, high, float(low))
            case "string":
                yield "https://images.example/man.png"
            case "null":
                yield None
            case "array" | "object":
                yield from values_at(field["field"])


WRONG = {"number": "many", "string": 3, "null": 3, "array": "text", "object": "text"}
"""A value of another type, by documented type."""
