"""Which request is meant for whom: a table of methods and paths.

A method that a path has not counts as an unknown path, as in one-api: there is no 405.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from . import backend, chat, generations, signing, unified, videos
from .manners import Format
from .messages import Answer, Call, index_page, invalid_url

Route = Literal[
    "create", "list", "look", "delete", "download", "thumbnail", "completion", "models", "billing", "unknown"
]
NAME = "([^/]+)"
TABLE: tuple[tuple[str, str, Format | Literal[""], Route], ...] = (
    ("POST", backend.PATH, "backend", "create"),
    ("GET", backend.PATH, "backend", "list"),
    ("GET", f"{backend.PATH}/(.*)", "backend", "look"),
    ("POST", videos.PATH, "videos", "create"),
    ("POST", f"{videos.PATH}/{NAME}/remix", "videos", "create"),
    ("GET", videos.PATH, "videos", "list"),
    ("GET", f"{videos.PATH}/{NAME}", "videos", "look"),
    ("DELETE", f"{videos.PATH}/{NAME}", "videos", "delete"),
    ("GET", f"{videos.PATH}/{NAME}/content", "videos", "download"),
    ("POST", unified.CREATE, "unified", "create"),
    ("GET", unified.QUERY, "unified", "look"),
    ("POST", generations.PATH, "generations", "create"),
    ("GET", f"{generations.PATH}/{NAME}", "generations", "look"),
    ("POST", chat.PATH, "chat", "create"),
    ("GET", "/v1/models", "", "models"),
    ("GET", "/v1/dashboard/billing/(subscription|usage)", "", "billing"),
    ("GET|HEAD", rf"{signing.PATH}(.*\.mp4)", "", "download"),
    ("GET|HEAD", f"{signing.PATH}(.*)", "", "thumbnail"),
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a request goes: the format and route it belongs to, and the task or file it names."""

    format: Format | Literal[""] = ""
    route: Route = "unknown"
    name: str = ""


def place(call: Call) -> Place:
    """Where a request goes, whether or not this gateway serves it."""
    for methods, pattern, of_format, route in TABLE:
        if call.method in methods.split("|") and (match := re.fullmatch(pattern, call.path)):
            if path_names_it := match.groups():
                name = unquote(path_names_it[0])
            elif (of_format, route) == ("unified", "look"):
                name = call.query.get("id") or call.query.get("task_id") or ""
            else:
                name = ""
            asks_for_picture = (
                route == "download" and of_format and call.query.get("variant") in {"thumbnail", "spritesheet"}
            )
            return Place(format=of_format, route="thumbnail" if asks_for_picture else route, name=name)
    return Place()


def unknown_path(call: Call) -> Answer:
    """What one-api answers on a path it does not know: an error under /v1, /api and /assets, elsewhere its page."""
    if call.path.startswith(("/v1", "/api", "/assets")):
        return invalid_url(call)
    return index_page()
