"""A chat model that calls the tools it is told to, in order, and then says that it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult


class ScriptedModel(BaseChatModel):
    """``calls``: (tool, arguments) for each turn; arguments may be a function of the last tool message."""

    calls: list[Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> ScriptedModel:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        answers = [message for message in messages if isinstance(message, ToolMessage)]
        message = AIMessage("done")
        if len(answers) < len(self.calls):
            name, arguments = self.calls[len(answers)]
            arguments = arguments(answers[-1]) if callable(arguments) else arguments
            message = AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"call_{len(answers)}"}])
        return ChatResult(generations=[ChatGeneration(message=message)])
