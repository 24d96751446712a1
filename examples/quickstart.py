"""An agent creates a video and fetches it.

Without settings it runs on the sandbox with a scripted model. Set SORA_BASE_URL and SORA_API_KEY for a gateway of
your own, and MODEL (for example "openai:gpt-5") for a model of your own.
"""

from __future__ import annotations

import sys

from langchain.agents import create_agent
from langchain.messages import HumanMessage

from sora_tools import SoraToolkit
from sora_tools.demo import chat_model, gateway

prompt = " ".join(sys.argv[1:]) or "A paper boat sails down a rainy street at night"

with gateway(), SoraToolkit(download_dir="videos") as toolkit:
    agent = create_agent(chat_model(), toolkit.get_tools())
    for message in agent.invoke({"messages": [HumanMessage(prompt)]})["messages"]:
        message.pretty_print()
