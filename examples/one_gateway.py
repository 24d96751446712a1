"""One address and one key for the chat model and for the videos, as relays serve them.

Without settings it runs on the sandbox, whose chat model is scripted. Set SORA_BASE_URL and SORA_API_KEY for a gateway
of your own, and MODEL for a chat model that it serves in OpenAI's format ("openai:gpt-5"). Needs `langchain-openai`.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain.messages import HumanMessage

from sora_tools import SoraToolkit
from sora_tools.demo import gateway

prompt = " ".join(sys.argv[1:]) or "A paper boat sails down a rainy street at night"
name = os.environ.get("MODEL", "openai:scripted")

with gateway(), SoraToolkit(download_dir="videos") as toolkit:
    tools: list[Any] = toolkit.get_tools()
    model = init_chat_model(name, base_url=f"{tools[0].base_url}/v1", api_key=tools[0].api_key)
    print(f"model    {name}, at the same address")
    agent = create_agent(model, tools)
    for message in agent.invoke({"messages": [HumanMessage(prompt)]})["messages"]:
        message.pretty_print()
