"""Chats that are about no video: a relay serves chat models at the address where it makes videos.

Rule: the sandbox has no words of its own. Whoever starts it gives a function that says them; here is only the envelope,
as OpenAI documents `/v1/chat/completions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import chat
from .messages import Answer, Call, json_answer
from .orders import OrderError, json_object
from .streams import DONE, Steps, event

ChatModel = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""From a completion's body to the assistant's message, both as OpenAI documents them. It answers at once."""


def asked(call: Call) -> bool:
    """Whether a completion asks a model that makes no videos."""
    if (call.method, call.path) != ("POST", chat.PATH):
        return False
    try:
        model = json_object(call.body).get("model")
    except OrderError:
        return False
    return isinstance(model, str) and not chat.VIDEO_NAME.match(model)


def answered(call: Call, chat_model: ChatModel) -> Answer:
    """The model's message: whole, or as a stream of one piece."""
    body = json_object(call.body)
    message = {"role": "assistant", "content": None, **chat_model(body)}
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    about = {"id": "chatcmpl-0", "created": 0, "model": body["model"]}
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    if body.get("stream") is True:
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        return Answer(headers=headers, stream=_streamed(about, message, reason))
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return json_answer(200, {**about, "object": "chat.completion", "choices": [choice], "usage": usage})


def _streamed(about: Mapping[str, Any], message: Mapping[str, Any], reason: str) -> Steps:
    calls = [{"index": index, **asked_for} for index, asked_for in enumerate(message.get("tool_calls") or ())]
    for delta, end in (({**message, **({"tool_calls": calls} if calls else {})}, None), ({}, reason)):
        choice = {"index": 0, "delta": delta, "finish_reason": end}
        yield event({**about, "object": "chat.completion.chunk", "choices": [choice]})
    yield DONE
