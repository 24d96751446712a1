"""Many ideas at once: a chat model makes a prompt of each, and two videos at a time are made of the prompts.

`RunnableLambda(sora.generate, afunc=...)` is a step like any other of a chain, synchronous and asynchronous. Without
settings it runs on the sandbox with a scripted model. Set SORA_BASE_URL and SORA_API_KEY for a gateway of your own,
and MODEL (for example "openai:gpt-5") for a model of your own.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from sora_tools import AsyncSora, Sora
from sora_tools.demo import chat_model, gateway

ideas = sys.argv[1:] or ["a paper boat in the rain", "a lighthouse in a storm", "a kite over the dunes"]

write = ChatPromptTemplate.from_messages(
    [
        ("system", "Turn the user's idea into a prompt for one short video: what is seen, and how the camera moves."),
        ("user", "{idea}"),
    ]
)
model = chat_model(lambda messages: f"A slow pan across {messages[-1].text}, at dusk")


async def main() -> None:
    """Make them, and print where they are."""
    with gateway(), Sora() as sora:
        generate = RunnableLambda(sora.generate, afunc=AsyncSora.sharing(sora).generate)
        small = generate.bind(width=480, height=270, n_frames=60, directory="videos")
        chain = write | model | StrOutputParser() | small
        wishes = [{"idea": idea} for idea in ideas]
        tasks: list[Any] = await chain.abatch(wishes, config={"max_concurrency": 2}, return_exceptions=True)
    for idea, task in zip(ideas, tasks, strict=True):  # one that fails costs the others nothing
        print(f"{idea}: {task if isinstance(task, Exception) else task.generations[0].file}")


asyncio.run(main())
