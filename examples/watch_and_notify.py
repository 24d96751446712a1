"""A chat back end that says when the video is ready: the user's turn is over by then, and a notice opens another.

Without settings it runs on the sandbox with a scripted model. Set SORA_BASE_URL and SORA_API_KEY for a gateway of
your own, and MODEL (for example "openai:gpt-5") for a model of your own.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from uuid import uuid4

import langchain_core.messages
from langchain.agents import create_agent
from langchain.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from sora_tools import SoraToolkit
from sora_tools.demo import chat_model, gateway
from sora_tools.events import GivenUp, Seen, described

INSTRUCTIONS = "Start the video, then end your turn: you are told when it has ended. Only then look at it."
mark: Any = getattr(langchain_core.messages, "add_notification_metadata", lambda message, **_: message)  # since 1.7.2
THREAD: Any = {"configurable": {"thread_id": str(uuid4())}}


def scripted(messages: list[Any]) -> Any:
    """The scripted model keeps to the instructions."""
    last = messages[-1]
    if last.name == "create_video":
        return "It is rendering. I will tell you when it is ready."
    if last.text.startswith("News of "):
        looked = {"task_id": last.text.split()[2].removesuffix(":")}
        return AIMessage("", tool_calls=[{"name": "query_video", "args": looked, "id": "call_2"}])
    return None  # what it says by default


async def turn(agent: Any, message: HumanMessage) -> list[str]:
    """Post a message into the thread, let the agent answer, and give the tasks that its tools named."""
    said = (await agent.ainvoke({"messages": [message]}, THREAD))["messages"]
    print(f"posted   {message.text}\nagent    {said[-1].text}")
    return [answer.artifact["task"]["task_id"] for answer in said if getattr(answer, "artifact", None)]


async def main(prompt: str) -> None:
    """The user's turn, and one for each video that has ended since."""
    with gateway():
        async with SoraToolkit(download_dir="videos") as toolkit:
            settings: Any = {"system_prompt": INSTRUCTIONS, "checkpointer": InMemorySaver()}
            bot = create_agent(chat_model(scripted), toolkit.get_tools(), **settings)
            started = await turn(bot, HumanMessage(prompt))
            async for event in toolkit.async_sora.watch(started):
                told = described(event)
                print(f"video    {told['message']}")
                if isinstance(event, GivenUp) or (isinstance(event, Seen) and event.task.ended):
                    await turn(bot, mark(HumanMessage(f"News of {told['task_id']}: {told['message']}"), source="sora"))


asyncio.run(main(" ".join(sys.argv[1:]) or "A paper boat sails down a rainy street at night"))
