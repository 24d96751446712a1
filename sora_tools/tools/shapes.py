"""What the answers look like, as JSON schemas for those who are told before they ask.

Rule: these are the shapes that ``answers`` makes. A member that is added there is added here.
"""

from __future__ import annotations

from typing import Any, Final, get_args

from ..errors import Charged
from ..schemas import TaskStatus


def _object(**members: Any) -> dict[str, Any]:
    return {"type": "object", "properties": members}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _one_of(*words: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(words)}


_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer"}
_NUMBER: Final = {"type": "number"}
_FLAG: Final = {"type": "boolean"}
_STATUS: Final = _one_of(*get_args(TaskStatus))
_SHARE: Final = {"type": ["number", "null"], "description": "From 0 to 1, where the gateway says."}
_NEXT: Final = {"type": "string", "description": "What to do now."}

_ERROR: Final = {
    **_object(
        code={"type": "string", "description": "The kind of error, the same for the same cause."},
        message=_TEXT,
        hint={"type": "string", "description": "What to do next."},
        retryable=_FLAG,
        charged={**_one_of(*get_args(Charged)), "description": "Whether a create is paid for."},
        retry_after=_NUMBER,
        http_status=_COUNT,
        request_id=_TEXT,
        task_id=_TEXT,
        key={"type": "string", "description": "Stands for the task_id where none is known."},
        kind={"type": "string", "description": "Why a task ended without a video."},
    ),
    "description": "The call failed, or its task has ended without a video, or could not be saved.",
}
_VIDEO: Final = _object(
    url=_TEXT,
    thumbnail_url=_TEXT,
    width=_COUNT,
    height=_COUNT,
    duration={"type": "number", "description": "Seconds."},
    file={"type": "string", "description": "Where it was saved, on the server's machine."},
)
_TASK: Final = {
    "task_id": _TEXT,
    "status": _STATUS,
    "progress": _SHARE,
    "queue_position": _COUNT,
    "queue_wait": {"type": "number", "description": "Seconds."},
    "videos": _list(_VIDEO),
    "error": _ERROR,
    "next": _NEXT,
}
_LISTED: Final = _object(
    task_id=_TEXT,
    key=_TEXT,
    state=_TEXT,
    status=_STATUS,
    progress=_SHARE,
    prompt=_TEXT,
    created_at={"type": ["string", "null"]},
    files=_list(_TEXT),
)

CREATED: Final = _object(
    **_TASK,
    reused={"type": "boolean", "description": "It had been sent before: nothing was sent or charged now."},
    hints=_list(_TEXT),
)
"""JSON schema of what ``create_video`` answers. Which members are there depends on what there is to tell."""

LOOKED: Final = _object(
    **_TASK,
    tasks={**_list(_LISTED), "description": "The list, where no task_id was given."},
    before={"type": ["string", "null"], "description": "Gives the tasks that follow, where there are more."},
)
"""JSON schema of what ``query_video`` answers."""
