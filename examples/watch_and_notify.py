"""A chat back end that says when the video is ready: the user's turn is over by then, and a notice opens another.

Without settings it runs on the sandbox with a scripted model. Set SORA_BASE_URL and SORA_API_KEY for a gateway of
your own, and MODEL (for example "openai:gpt-5") for a model of your own.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import add_notification_metadata  # since langchain-core 1.7.2
from langgraph.checkpoint.memory import InMemorySaver

from sora_tools import Sandbox, SoraToolkit
from sora_tools.events import GivenUp, Seen, described

INSTRUCTIONS = "Start the video, then end your turn: you are told when it has ended. Only then look at it."
THREAD: Any = {"configurable": {"thread_id": "one conversation"}}
prompt = " ".join(sys.argv[1:]) or "A paper boat sails down a rainy street at night"


class ScriptedModel(GenericFakeChatModel):
    """No model at all."""

    def bind_tools(self, *_: Any, **__: Any) -> ScriptedModel:
        return self


def script(prompt: str, started: list[str]) -> Any:
    """What it says: ``started`` holds the task once there is one."""
    yield AIMessage("", tool_calls=[{"name": "create_video", "args": {"prompt": prompt}, "id": "call_1"}])
    yield AIMessage("It is rendering. I will tell you when it is ready.")
    yield AIMessage("", tool_calls=[{"name": "query_video", "args": {"task_id": started[0]}, "id": "call_2"}])
    yield AIMessage("Your video is ready.")


async def turn(agent: Any, message: HumanMessage) -> list[str]:
    """Post a message into the thread, let the agent answer, and give the tasks that its tools named."""
    message.pretty_print()
    tasks = []
    async for step in agent.astream({"messages": [message]}, THREAD, stream_mode="updates"):
        for said in (said for news in step.values() for said in news["messages"]):
            said.pretty_print()
            if isinstance(said, ToolMessage) and said.artifact:
                tasks.append(said.artifact["task"]["task_id"])
    return tasks


async def main() -> None:
    """The user's turn, and one for each video that has ended since."""
    started: list[str] = []
    model: Any = ScriptedModel(messages=script(prompt, started))
    if "MODEL" in os.environ:
        model = init_chat_model(os.environ["MODEL"])
    async with SoraToolkit(download_dir="videos") as toolkit:
        agent = create_agent(model, toolkit.get_tools(), system_prompt=INSTRUCTIONS, checkpointer=InMemorySaver())
        started += await turn(agent, HumanMessage(prompt))
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
    asyncio.run(main())
