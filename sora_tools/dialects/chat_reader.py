"""Reading a chat answer while it comes: one event's data at a time, and after each what is known of the task.

Rule: the video is there when the answer has ended, by ``[DONE]`` or a finish reason, and gives its address. An answer
that breaks off before that is an unknown fate, unless what was said had already shown the finished video: a video
element, a closed link to a video's file, a member that is for it. An error in the answer is a refusal while nothing
shows that the task was accepted, and the task's own failure afterwards; of an error and the finished video the first
decides. A refusal is free only where the gateway had said nothing at all before it.

The first name of the task that is read stays its name. The video is looked for in what is meant for the user
(``content``); ``reasoning_content`` tells of progress, and of the video where there is no content.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from ..errors import LostReplyError, SoraError
from ..schemas import Failure, Generation, TaskStatus, VideoTask
from ..wire import Reply, any_json, opened, typeid_time, worded
from .chat_text import FINAL, ChatText, address_in, is_a_video, name_in
from .reading import expiry, failure_kind, members, moment, objects, text, usable

_NAME: Final = "chat"
_OVER: Final = "[DONE]"
_FORM: Final = frozenset(("id", "object", "created", "model", "system_fingerprint", "service_tier", "role", "index"))
"""Members that every event of a chat has, whatever it says."""

_NEVER: Final = "Look for the video at the gateway, and do not create it again."


class ChatReader:
    """One answer of a chat gateway, read event by event.

    Args:
        key: The ledger key of the submission. It stands in for the task's id while the answer names none.
        headers: The answer's headers, names in lower case; errors name the request by them.
    """

    def __init__(self, key: str, headers: Mapping[str, str] | None = None) -> None:
        self._key = key
        self._reply = Reply(200, headers or {})
        self._content, self._thoughts = ChatText(), ChatText()
        self._task_id: str | None = None
        self._url: str | None = None
        self._created_at: datetime | None = None
        self._reason: str | None = None
        self._is_begun = False
        self._is_done = False
        self._refusal: SoraError | None = None
        self._failure: Failure | None = None
        self._video: str | None = None

    @property
    def named(self) -> bool:
        """Whether the answer has named the task. Until then ``task.task_id`` is the ledger key."""
        return self._task_id is not None

    @property
    def accepted(self) -> bool:
        """Whether the answer shows that the task exists: a name, a place in the queue, progress, a video."""
        return (
            self.named
            or self._url is not None
            or any(
                told.is_queued or told.is_running or told.progress is not None or told.video is not None
                for told in (self._content, self._thoughts)
            )
        )

    @property
    def over(self) -> bool:
        """Whether nothing more is to be read: ``finish`` may be called without waiting for the stream's end."""
        return self._is_done or self._refusal is not None or self._failure is not None or self._video is not None

    @property
    def task(self) -> VideoTask:
        """The task as known now. It has ended once ``finish`` was called, or after an error in the answer."""
        content, thoughts = self._content, self._thoughts
        progress = content.progress if content.progress is not None else thoughts.progress
        task_id = self._task_id or self._key
        url = self._video
        thumbnail = content.thumbnail_url
        return VideoTask(
            task_id=task_id,
            status=self._status(progress),
            raw_status=self._reason,
            progress=progress,
            title=content.title,
            generations=(Generation(url=url, thumbnail_url=thumbnail, expires_at=expiry(url)),) if url else (),
            failure=self._failure,
            request=content.request,
            created_at=self._created_at or typeid_time(task_id),
            dialect=_NAME,
            raw={"content": content.said, "reasoning_content": thoughts.said},
        )

    def feed(self, data: str) -> VideoTask:
        """Read the data of one server-sent event, and give the task as known then.

        Events that are no JSON, or say nothing that is known, change nothing. What follows ``[DONE]`` or an error is
        not read.

        Raises:
            SoraError: The answer holds an error, and nothing before it shows that the task was accepted.
        """
        if not self.over:
            if data.strip().upper() == _OVER:
                self._is_done = True
            else:
                self._read(any_json(Reply(200, body=data.encode("utf-8", "replace"))))
        return self.task

    def finish(self) -> VideoTask:
        """What became of the task, once the stream has ended in whatever way.

        Raises:
            LostReplyError: It broke off before the video was there, or ended without a word. ``charged`` is "yes"
                where the task had shown itself, else "unknown"; ``task_id`` is the gateway's where it gave one.
            SoraError: The refusal that ``feed`` has raised before.
        """
        if self._refusal is not None:
            raise self._refusal
        if self._failure is not None or self._video is not None:
            return self.task
        has_ended = self._is_done or self._reason is not None
        if has_ended:
            self._content.close()
            self._thoughts.close()
            self._learn_from_texts()
        self._video = self._found(only_final=not has_ended)
        if self._video is None:
            if not has_ended:
                raise self._lost("The answer broke off before the video was there")
            if not (self.accepted or self._has_spoken or self._is_withheld):
                raise self._lost("The answer ended without a word")
            self._failure = self._told_failure()
        return self.task

    # --- what is known -------------------------------------------------------------------------------------------

    @property
    def _has_spoken(self) -> bool:
        return bool(self._content.said.strip() or self._thoughts.said.strip())

    @property
    def _is_withheld(self) -> bool:
        """Whether the finish reason says that moderation stepped in."""
        return (self._reason or "").casefold() == "content_filter"

    def _status(self, progress: float | None) -> TaskStatus:
        if self._failure is not None:
            return "failed"
        if self._video is not None:
            return "succeeded"
        return "running" if progress or self._content.is_running or self._thoughts.is_running else "queued"

    def _found(self, *, only_final: bool) -> str | None:
        """The video's address; only one that was shown to be final, where the answer may have broken off."""
        if self._url is not None:
            return self._url
        told = self._content if self._content.said.strip() else self._thoughts
        if told.video is None or (only_final and told.video.evidence < FINAL):
            return None
        return told.video.url

    def _told_failure(self) -> Failure:
        said = self._content if self._content.said.strip() else self._thoughts
        kind = failure_kind(said.reason, refused=self._is_withheld)
        message = worded(said.reason) or "The gateway's answer ended without a video and without a reason."
        return Failure(kind="no_output" if kind == "unknown" and not said.is_failed else kind, message=message)

    def _lost(self, what: str) -> LostReplyError:
        words = worded(self._content.reason or self._thoughts.reason, 200)
        return LostReplyError(
            f"{what}{f': {words}' if words else ''}",
            hint=_NEVER,
            charged="yes" if self.accepted else "unknown",
            retryable=False,
            request_id=self._reply.request_id,
            task_id=self._task_id,
            key=self._key,
        )

    # --- one event -----------------------------------------------------------------------------------------------

    def _read(self, value: Any) -> None:
        if isinstance(value, str):
            self._hear({"content": value})
        chunk = members(value)
        if not chunk:
            return
        self._learn(chunk)
        error = self._error_in(chunk)
        if error is None or chunk.get("choices") or chunk.get("message"):  # what stands beside an error was said, too
            self._told_more(chunk)
        if error is not None:
            self._stop(error, chunk)
            return
        self._is_begun = self._is_begun or _says_more(chunk)

    def _told_more(self, chunk: Mapping[str, Any]) -> None:
        self._created_at = self._created_at or moment(chunk.get("created"))
        self._offer(address_in(chunk))
        choice = next(iter(objects(chunk.get("choices"))), {})
        said = members(choice.get("delta")) or members(choice.get("message")) or members(chunk.get("message"))
        spoken = self._hear(said)
        reason = text(choice.get("finish_reason"))
        if reason is not None and reason.strip().casefold() != "null":
            self._reason = worded(reason, 100)
        elif spoken:  # the end was none: more was said
            self._reason = None

    def _hear(self, said: Mapping[str, Any]) -> bool:
        """Read one message, or a piece of one, and say whether it had any text."""
        for given in objects(said.get("output")):
            self._learn(given)
            if str(given.get("type")).casefold() != "image":
                self._offer(address_in(given))
        self._learn(members(said.get("wm")))
        content = said.get("content")
        for part in objects(content):
            self._offer(usable(members(part.get("video_url")).get("url")))
        pieces = [content, *(part.get("text") for part in objects(content))]
        thoughts = said.get("reasoning_content")
        spoken = [(self._content, piece) for piece in pieces] + [(self._thoughts, thoughts)]
        texts = [(told, piece) for told, piece in spoken if isinstance(piece, str) and piece]
        for told, piece in texts:
            told.add(piece)
        self._learn_from_texts()
        return bool(texts)

    def _learn_from_texts(self) -> None:
        self._task_id = self._task_id or self._content.task_id or self._thoughts.task_id

    def _learn(self, value: Mapping[str, Any]) -> None:
        self._task_id = self._task_id or name_in(value) or name_in(members(value.get("data")))

    def _offer(self, url: str | None) -> None:
        if url is not None and is_a_video(url):
            self._url = url

    def _error_in(self, chunk: Mapping[str, Any]) -> SoraError | None:
        """The error a chunk holds. Its ``id`` is the chunk's own unless it is of a task's form."""
        about = {name: value for name, value in chunk.items() if name != "id" or name_in({"id": value}) is not None}
        try:
            opened(self._reply, "create", about)
        except SoraError as error:
            return error
        return None

    def _stop(self, error: SoraError, chunk: Mapping[str, Any]) -> None:
        """An error has come: it counts for nothing after the video, ends an accepted task, and else is a refusal."""
        if self._found(only_final=True) is not None:
            return
        self._task_id = self._task_id or error.task_id
        if not self.accepted:
            spoke = self._has_spoken or self._is_begun
            self._refusal = error.about(key=self._key, charged="unknown" if spoke else None)
            raise self._refusal
        inner = members(chunk.get("error"))
        code = text(inner.get("code")) or text(chunk.get("code"))
        said = text(inner.get("message")) or text(chunk.get("error")) or text(chunk.get("message")) or error.message
        kind = failure_kind(f"{code} {worded(inner.get('type'))} {worded(said)}")
        self._failure = Failure(kind=kind, message=worded(said), code=worded(code, 100) if code else None)


def _says_more(value: Any) -> bool:
    """Whether an event says anything beyond that an answer of this form begins."""
    if isinstance(value, dict):
        return any(_says_more(inner) for name, inner in value.items() if name not in _FORM)
    if isinstance(value, list):
        return any(map(_says_more, value))
    return value not in (None, "", False, 0)
