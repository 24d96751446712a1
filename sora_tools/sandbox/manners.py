"""How one gateway differs from the next in what it sends; `World` says what each setting means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

Format = Literal["backend", "videos", "unified", "generations", "chat"]
FORMATS: tuple[Format, ...] = ("backend", "videos", "unified", "generations", "chat")
GenerationsAnswer = Literal["documented", "relay", "job"]
ChatAnswer = Literal["transcript", "reasoning", "output", "emoji", "link", "url", "json"]


@dataclass(frozen=True, kw_only=True)
class Manners:
    """The settings of a `World` that its bodies are written by.

    Raises:
        ValueError: For a word that none of them knows.
    """

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

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value, allowed = getattr(self, name), get_args(hint)
            if allowed and value not in allowed:
                raise ValueError(f"{name}={value!r} was given; it is one of {', '.join(allowed)}")
