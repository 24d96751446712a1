"""An agent creates a video and fetches it.

Without settings it runs on the sandbox with a scripted model. Set SORA_BASE_URL and SORA_API_KEY for a gateway of
your own, and MODEL (for example "openai:gpt-5") for a model of your own.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain.messages import HumanMessage

from sora_tools import Sandbox, SoraToolkit
from sora_tools.demo import ScriptedModel

prompt = " ".join(sys.argv[1:]) or "A paper boat sails down a rainy street at night"
model: Any = init_chat_model(os.environ["MODEL"]) if "MODEL" in os.environ else ScriptedModel()

with Sandbox() as sandbox:
    if "SORA_BASE_URL" not in os.environ:
        os.environ |= {"SORA_BASE_URL": sandbox.base_url, "SORA_API_KEY": "any"}
    with SoraToolkit(download_dir="videos") as toolkit:
        agent = create_agent(model, toolkit.get_tools())
        for message in agent.invoke({"messages": [HumanMessage(prompt)]})["messages"]:
            message.pretty_print()
