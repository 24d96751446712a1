"""What a model is told: one line of JSON, and beside it the whole task as an artifact for programs.

Rule: nothing here carries bytes, the key, or the gateway's own object, and every answer says what to do next. No
answer about a create whose fate is unknown invites another one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from langchain_core.exceptions import ModelError
from langchain_core.tools import ToolException

from ..errors import ConfigurationError, InvalidRequestError, SoraError, is_retryable, masked
from ..events import Event, described
from ..flow import successful
from ..ledger import Submission
from ..schemas import TaskPage, VideoRequest, VideoTask, broken_rules, shortened

Json = dict[str, Any]
Answer = tuple[str, Json]

_LOOK_AGAIN: Final = 20.0
_LISTED_PROMPT: Final = 80

_STARTED: Final = (
    "Tell the user that it is rendering. Get it later with query_video and this task_id; "
    "do not call create_video again for this request."
)
_REUSED: Final = (
    "Nothing new was started and nothing more was charged: this request had been sent before, and this is its task. "
    "Look at it with query_video. For another video of it, change the prompt or ask for more n_variants."
)
_UNKNOWN: Final = (
    "It may be paid for already: do not call create_video for it. Call query_video with this key in place of task_id, "
    "now or in a minute: it looks for the task."
)
_SET_UP: Final = "Tell the user that this is set up wrongly, with the message. Call no tool for it until it is mended."
_RENDERING: Final = (
    "Look again with query_video in about {:.0f} s, or when the user asks. It is being made: do not create it again."
)
_READY: Final = "The video is finished: give the user its address or file."
_PRIVATE: Final = "The video is finished. Its address is not public: the operator has to fetch it."
_UNSAVED: Final = (
    "The video is finished and paid for; only saving it failed. Do not create it again: "
    "query_video with this task_id saves it later."
)
_ENDED: Final = "Do not create it again unchanged. Tell the user why it ended; every create is paid for."
_LISTED: Final = "Look one up with query_video and its task_id, or its key where it has no task_id."
_UNSURE: Final = (
    " Whether the gateway has those that are unsure or intended is not known: do not create them again, query them by "
    "their keys."
)
_NONE: Final = "There are no tasks to list here."


class SoraToolError(ToolException, ModelError, RuntimeError):
    """A tool call that ended in one of our errors.

    The retry layers above a tool understand it: ``ToolRetryMiddleware`` asks ``is_retryable``, and LangGraph's
    default ``RetryPolicy`` leaves every ``RuntimeError`` alone. So none of them repeats a create by itself.

    Args:
        error: What went wrong, with all it knows.
    """

    def __init__(self, error: SoraError) -> None:
        super().__init__(str(error))
        self.error = error
        self.is_retryable = is_retryable(error)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.error,)


def of_error(error: ToolException) -> str:
    """What a model is told of a failed call (``handle_tool_error``)."""
    if not isinstance(error, SoraToolError):
        raise error
    told = error.error
    after = {"next": _UNKNOWN} if told.charged == "unknown" and told.key else {}
    if isinstance(told, ConfigurationError):  # no other call can do better
        after = {"next": _SET_UP}
    return line({"error": told.describe(), **after})


def of_broken_rules(error: Any) -> str:
    """What a model is told of arguments that break a rule (``handle_validation_error``)."""
    refused = InvalidRequestError(
        f"The arguments break a rule: {'; '.join(broken_rules(error))}.",
        hint="Nothing was started and nothing was charged. Change what is named here and call again.",
    )
    return line({"error": refused.describe()})


def of_created(
    task: VideoTask, request: VideoRequest, key: str | None, secret: str, *, reused: bool, adjusted: Iterable[str] = ()
) -> Answer:
    """A create that was accepted, now or by an earlier call; ``adjusted``: what is made other than asked for."""
    hints = {"hints": hints} if (hints := [*adjusted, *_hints(request)]) else {}
    reuse = {"reused": True} if reused else {}
    told = _cleaned(task, secret)
    content = _seen(task, told, _REUSED if reused else _STARTED, **reuse, **hints)
    return line(_clean(content, secret)), _artifact(told, key, reused=reused)


def of_looked(task: VideoTask, secret: str, unsaved: SoraError | None) -> Answer:
    """A look that was answered; ``unsaved``: why its finished video could not be saved."""
    told = _cleaned(task, secret)
    soon = _RENDERING.format(max(1.0, task.poll_after or _LOOK_AGAIN))
    content = _seen(task, told, soon)
    if unsaved is not None:
        content.update(error=unsaved.describe(), next=_UNSAVED)
    return line(_clean(content, secret)), _artifact(told)


def of_submissions(rows: list[Submission], limit: int, secret: str) -> Answer:
    """A conversation's submissions, as the ledger knows them."""
    before = (rows[-1].task_id or rows[-1].key) if len(rows) == limit else None
    return _list(map(_submission, rows), before, secret)


def of_page(page: TaskPage, secret: str) -> Answer:
    """A page of the gateway's own list."""
    return _list(map(_summary, page.tasks), page.before, secret)


def of_event(event: Event, secret: str) -> Json:
    """What those who watch a call are told of an event."""
    told: Json = _clean(described(event), secret)
    return told


def line(content: Mapping[str, Any]) -> str:
    """One line of JSON that every encoder can write: no lone surrogates, no line breaks but JSON's own."""
    text = json.dumps(content, ensure_ascii=False).encode(errors="replace").decode()
    return text.translate({0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"})


def _seen(task: VideoTask, told: Json, meanwhile: str, **more: Any) -> Json:
    """A task as a model needs it. ``meanwhile``: what to do as long as it has not ended."""
    queue = {name: told[name] for name in ("queue_position", "queue_wait") if told[name] is not None}
    content = {"task_id": told["task_id"], "status": told["status"], "progress": told["progress"], **queue, **more}
    if task.status == "succeeded":
        videos = [_video(generation) for generation in told["generations"]]
        public = any("url" in video or "file" in video for video in videos)
        return {**content, "videos": videos, "next": _READY if public else _PRIVATE}
    if task.ended:
        return {**content, "error": _ending(task, told), "next": _ENDED}
    return {**content, "next": meanwhile}


def _video(generation: Json) -> Json:
    known = {name: value for name, value in generation.items() if value is not None}
    addresses = {
        name: known[name]
        for name in ("url", "thumbnail_url")
        if str(known.get(name)).startswith(("https://", "http://")) and not (name == "url" and known["needs_key"])
    }
    return {**addresses, **{name: known[name] for name in ("width", "height", "duration", "file") if name in known}}


def _ending(task: VideoTask, told: Json) -> Json:
    """Why a task ended without a video: the error that a program would get."""
    try:
        successful(task)
    except SoraError as error:
        return {**error.describe(), "message": error.message, "kind": (told["failure"] or {}).get("kind", "unknown")}
    raise AssertionError("unreachable")


def _hints(request: VideoRequest) -> list[str]:
    """What the page does not state and gateways are known to do."""
    hints = []
    if request.actions and request.operation != "storyboard":
        hints.append("actions are known to be read for operation storyboard only.")
    sources = [item for item in request.inpaint_items if item.model_dump(exclude_defaults=True)]
    if request.operation in ("remix", "blend") and not sources and request.sdedit is None:
        hints.append(f"{request.operation} usually starts from a source in inpaint_items or sdedit.")
    return hints


def _submission(row: Submission) -> Json:
    created = datetime.fromtimestamp(row.intended_at, UTC).isoformat(timespec="seconds")
    name = {"key": row.key} if row.task_id is None else {"task_id": row.task_id}
    ended = {"status": row.outcome} if row.outcome else {}
    saved = {"files": list(row.files)} if row.files else {}
    return {**name, "state": row.state, **ended, "prompt": _cut(row.body.get("prompt")), "created_at": created, **saved}


def _summary(task: VideoTask) -> Json:
    prompt = task.request.prompt if task.request else None
    created = task.created_at and task.created_at.isoformat(timespec="seconds")
    known = {"task_id": task.task_id, "status": task.status, "progress": task.progress}
    return {**known, "prompt": _cut(prompt or task.title), "created_at": created}


def _cut(prompt: object) -> str:
    return shortened(str(prompt or ""), _LISTED_PROMPT)


def _list(listed: Iterable[Json], before: str | None, secret: str) -> Answer:
    tasks = _clean(list(listed), secret)
    unsure = any(task.get("state") in ("unsure", "intended") for task in tasks)
    told = {"tasks": tasks, "before": before}
    content = {**told, "next": _LISTED + (_UNSURE if unsure else "") if tasks else _NONE}
    return line(content), {"type": "sora_video_list", "version": 1, **told}


def _artifact(task: Json, key: str | None = None, *, reused: bool = False) -> Json:
    return {"type": "sora_video", "version": 1, "task": task, "key": key, "reused": reused}


def _cleaned(task: VideoTask, secret: str) -> Json:
    """The task as plain JSON."""
    cleaned: Json = _clean(task.model_dump(mode="json", exclude={"raw"}), secret)
    return cleaned


def _clean(value: Any, secret: str) -> Any:
    """Without the key, should the gateway have quoted it, and without bytes: addresses that are data are cut."""
    match value:
        case str():
            cut = value.partition(",")[0] + ",…" if value[:5].lower() == "data:" else value
            return masked(cut, secret).encode(errors="replace").decode()
        case dict():
            return {_clean(name, secret): _clean(member, secret) for name, member in value.items()}
        case list():
            return [_clean(member, secret) for member in value]
    return value
