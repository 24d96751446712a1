"""A chat back end that says when the video is ready: the user's turn is over by then, and a notice opens another.

Without settings it runs on the sandbox with a scripted model. Set SORA_BASE_URL and SORA_API_KEY for a gateway of
your own, and MODEL (for example "openai:gpt-5") for a model of your own.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from typing import Any

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import add_notification_metadata  # since langchain-core 1.7.2
from langgraph.checkpoint.memory import InMemorySaver

from sora_tools import Sandbox, SoraToolkit
from sora_tools.events import GivenUp, Seen, described

THREAD: Any = {"configurable": {"thread_id": "one conversation"}}
INSTRUCTIONS = "Start the video, then end your turn: you are told when it has ended. Only then look at it."
prompt = " ".join(sys.argv[1:]) or "A paper boat sails down a rainy street at night"
started: list[str] = []


class ScriptedModel(GenericFakeChatModel):
    """Says what stands in its script, and needs no tools for that."""

    def bind_tools(self, *_: Any, **__: Any) -> ScriptedModel:
        return self


def script() -> Iterator[AIMessage]:
    """A model that waits to be told."""
    yield AIMessage("", tool_calls=[{"name": "create_video", "args": {"prompt": prompt}, "id": "call_1"}])
    yield AIMessage("It is rendering. I will tell you when it is ready.")
    yield AIMessage("", tool_calls=[{"name": "query_video", "args": {"task_id": started[0]}, "id": "call_2"}])
    yield AIMessage("Your video is ready.")


async def turn(agent: Any, message: HumanMessage) -> None:
    """Post a message into the thread, and let the agent answer."""
    async for state in agent.astream({"messages": [message]}, THREAD, stream_mode="values"):
        last = state["messages"][-1]
        last.pretty_print()
        if isinstance(last, ToolMessage) and last.artifact:
            started.append(last.artifact["task"]["task_id"])


async def main(model: Any) -> None:
    """Let the user have their turn, and open another for each video that has ended since."""
    async with SoraToolkit(download_dir="videos") as toolkit:
        agent = create_agent(model, toolkit.get_tools(), system_prompt=INSTRUCTIONS, checkpointer=InMemorySaver())
        await turn(agent, HumanMessage(prompt))
        async for event in toolkit.async_sora.watch(started):
            told = described(event)
            print(f"... {told['task_id']} {told['message']}")
            if isinstance(event, GivenUp) or (isinstance(event, Seen) and event.task.ended):
                notice = HumanMessage(f"Video {told['task_id']}: {told['message']}")
                data = {"task_id": told["task_id"]}
                await turn(agent, add_notification_metadata(notice, source="sora_tools", data=data))


with Sandbox() as sandbox:
    if "SORA_BASE_URL" not in os.environ:
        os.environ |= {"SORA_BASE_URL": sandbox.base_url, "SORA_API_KEY": "any"}
    model = init_chat_model(os.environ["MODEL"]) if "MODEL" in os.environ else ScriptedModel(messages=script())
    asyncio.run(main(model))
