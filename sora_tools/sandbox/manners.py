"""How one gateway differs from the next in what it sends; `World` says what each setting means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Format = Literal["backend", "videos", "unified", "generations", "chat"]
FORMATS: tuple[Format, ...] = ("backend", "videos", "unified", "generations", "chat")
GenerationsAnswer = Literal["documented", "relay", "job"]
ChatAnswer = Literal["transcript", "reasoning", "output", "emoji", "link", "url", "json"]


@dataclass(frozen=True, kw_only=True)
class Manners:
    """The settings of a `World` that its bodies are written by."""

    list_key: Literal["task_responses", "tasks", "data"] = "task_responses"
    last_id_null: bool = False
    actions_shape: Literal["map", "list"] = "map"
    prefixed_ids: bool = False
    videos_takes: Literal["both", "json", "multipart"] = "both"
    videos_sizes: Literal["any", "openai"] = "any"
    generations_answer: GenerationsAnswer = "documented"
    url_in_fail_reason: bool = False
    chat_answer: ChatAnswer = "transcript"
    chat_failure: Literal["text", "error"] = "text"
    chat_whole: bool = False
