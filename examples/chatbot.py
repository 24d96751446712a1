"""A chat in the terminal that shows how far a video is while the agent waits for it. An empty line or Ctrl-C ends it.

Without settings it runs on the sandbox with a scripted model. Set SORA_BASE_URL and SORA_API_KEY for a gateway of
your own, and MODEL (for example "openai:gpt-5") for a model of your own.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import uuid4

from langchain.agents import create_agent
from langchain.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from sora_tools import SoraToolkit
from sora_tools.demo import chat_model, gateway

with suppress(EOFError, KeyboardInterrupt), gateway(), SoraToolkit(max_wait=40, download_dir="videos") as toolkit:
    agent: Any = create_agent(chat_model(), toolkit.get_tools(), checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": str(uuid4())}}  # one for each conversation
    while said := input("\nyou    "):
        question = {"messages": [HumanMessage(said)]}
        talks = False
        for mode, news in agent.stream(question, thread, stream_mode=["custom", "messages"]):
            if mode == "custom":  # what the tools tell of a video; see sora_tools.events.described
                print(f"\rvideo  {news['message'][:70]:<70}", end="", flush=True)
                talks = False
            elif isinstance(news[0], AIMessage) and news[0].text:
                print(news[0].text if talks else f"\nagent  {news[0].text}", end="", flush=True)
                talks = True
