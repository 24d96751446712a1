"""The demo's scripted chat model, told which tools to call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage

from sora_tools.demo import ScriptedModel


def scripted(calls: Sequence[Any]) -> ScriptedModel:
    """It makes these calls, one after the other, and then says that it is done.

    ``calls``: (tool, arguments) for each; arguments may be a function of the last tool message.
    """

    def answer(messages: list[Any]) -> AIMessage:
        answers = [message for message in messages if isinstance(message, ToolMessage)]
        if len(answers) == len(calls):
            return AIMessage("done")
        name, arguments = calls[len(answers)]
        arguments = arguments(answers[-1]) if callable(arguments) else arguments
        return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"call_{len(answers)}"}])

    return ScriptedModel(answer=answer)


def in_turns(turns: Sequence[Any]) -> ScriptedModel:
    """It says that it is done after the last turn, and in one without calls.

    ``turns``: a list of calls for each, or a function of the conversation so far that gives one.
    """

    def answer(messages: list[Any]) -> AIMessage:
        spoken = sum(isinstance(message, AIMessage) for message in messages)
        turn = turns[spoken] if spoken < len(turns) else []
        calls = turn(messages) if callable(turn) else turn
        return AIMessage("" if calls else "done", tool_calls=calls)

    return ScriptedModel(answer=answer)
