"""The chat format: ``POST /v1/chat/completions``, answered by a text in which a video's address stands.

Rule: one paid call is the whole conversation. There is no list and no look: what becomes of the task is said in the
answer, which streams for minutes, and nowhere else. What the format cannot carry is refused before it is sent.

Source: gateways' pages for their chat models, and the programs behind them.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Final

from ..errors import InvalidRequestError
from ..schemas import InpaintItem, VideoRequest, VideoTask
from ..wire import Call, Dialect, Reply, any_json, opened
from .chat_models import named, read
from .chat_reader import ChatReader

PATH: Final = "/v1/chat/completions"
_OURS: Final = ("messages", "stream")
_ELSEWHERE: Final = "Leave it out, or use another dialect."


class Chat(Dialect):
    """The chat format: ``dialect="chat"``."""

    name = "chat"
    looks_by_id = False
    tells_once = True

    def create(self, request: VideoRequest, key: str) -> Call[VideoTask]:
        """The paid call. ``key`` travels as ``Idempotency-Key``, and stands in for the id of a task that has none.

        Its ``read`` is for an answer that is there as a whole, streamed or not; one that is still coming is read by
        :class:`~sora_tools.dialects.chat_reader.ChatReader`.

        Raises:
            InvalidRequestError: The format cannot carry the request. Nothing was sent.
        """
        _refuse_what_is_not_carried(request)
        body = {**request.extra, "model": named(request)[0], "messages": [_message(request)], "stream": True}
        headers = {"Idempotency-Key": key}
        return Call("create", "POST", PATH, partial(_answered, key), body=body, headers=headers, streamed=True)

    def listener(self, key: str, reply: Reply) -> ChatReader | None:
        """What reads an answer that streams; None where it is there as a whole."""
        kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        return ChatReader(key, reply.headers) if reply.status == 200 and kind == "text/event-stream" else None

    def adjusted(self, request: VideoRequest) -> tuple[str, ...]:
        """What the model name says otherwise than the request, a sentence each; empty where it says the same."""
        return named(request)[1]

    def made(self, request: VideoRequest) -> VideoRequest:
        """The request with the length and the size that the model name says, where it says them."""
        return request.model_copy(update=read(named(request)[0], is_tall=request.height > request.width))


def _message(request: VideoRequest) -> dict[str, Any]:
    """The user's message: the prompt, and the images beside it as content parts."""
    images = [{"type": "image_url", "image_url": {"url": item.url}} for item in request.inpaint_items if item.url]
    parts = [{"type": "text", "text": request.prompt}, *images]
    return {"role": "user", "content": parts if images else request.prompt}


def _refuse_what_is_not_carried(request: VideoRequest) -> None:
    if request.operation in ("storyboard", "blend"):
        raise _not_carried(f'operation: "{request.operation}" was given; simple_compose and remix are carried')
    if request.actions:
        raise _not_carried("actions: some were given; only a prompt is carried")
    if request.sdedit is not None:
        raise _not_carried("sdedit: one was given; only a prompt and images are carried")
    if request.n_variants > 1:
        raise _not_carried(f"n_variants: {request.n_variants} was given; an answer carries 1")
    for index, item in enumerate(request.inpaint_items):
        if item.model_copy(update={"url": ""}) != InpaintItem():
            raise _not_carried(f"inpaint_items.{index}: more than an address was given; images go by url alone")
    if taken := [name for name in _OURS if name in request.extra]:
        raise _not_carried(f"extra: {', '.join(taken)} was given; the chat format fills that itself")


def _not_carried(what: str) -> InvalidRequestError:
    return InvalidRequestError(f"The chat format cannot carry this request: {what}.", hint=_ELSEWHERE)


def _answered(key: str, reply: Reply) -> VideoTask:
    """The task in an answer that is there as a whole, which is an end of its own where it is no stream."""
    reader = ChatReader(key, reply.headers)
    data = _events(reply.body)
    if not 200 <= reply.status < 300 or (not data and any_json(reply) is None):
        opened(reply, "create")
    for each in data or (reply.body.decode("utf-8-sig", "replace"), "[DONE]"):
        reader.feed(each)
    return reader.finish()


def _events(body: bytes) -> tuple[str, ...]:
    """The data of each event of a stream that was read whole; nothing where it is no stream."""
    told = body.decode("utf-8-sig", "replace").lstrip()
    if not told.startswith(("data:", "event:", "id:", "retry:", ":")):
        return ()
    events = (re.findall(r"^data: ?(.*)$", event, re.MULTILINE) for event in re.split(r"\n{2,}", _lines(told)))
    return tuple("\n".join(lines) for lines in events if lines)


def _lines(told: str) -> str:
    return told.replace("\r\n", "\n").replace("\r", "\n")
