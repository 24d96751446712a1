"""An agent that asks a person before it spends more than a set amount.

Without settings it runs on the sandbox with a scripted model. Set SORA_BASE_URL and SORA_API_KEY for a gateway of
your own, and MODEL (for example "openai:gpt-5") for a model of your own.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any
from uuid import uuid4

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from sora_tools import Price, SoraToolkit, VideoRequest, video_approval
from sora_tools.demo import chat_model, gateway

prompt = " ".join(sys.argv[1:]) or "A paper boat sails down a rainy street at night"


def price(request: VideoRequest) -> Price:
    """What a request costs: put your gateway's price list here."""
    return Price(Decimal("0.10") * request.n_variants * request.n_frames / 30, "USD")


with gateway(), SoraToolkit(price=price, download_dir="videos") as toolkit:
    ask_first = HumanInTheLoopMiddleware(interrupt_on=video_approval(price=price, ask_above=Decimal("0.20")))
    agent: Any = create_agent(chat_model(), toolkit.get_tools(), middleware=[ask_first], checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": str(uuid4())}}  # one for each conversation
    answer = agent.invoke({"messages": [HumanMessage(prompt)]}, thread)
    while interrupts := answer.get("__interrupt__"):
        decisions = []
        for asked in interrupts[0].value["action_requests"]:
            agreed = input(f"{asked['description']}\nMake it? [y/N] ").strip().lower() == "y"
            decisions.append({"type": "approve" if agreed else "reject"})
        answer = agent.invoke(Command(resume={"decisions": decisions}), thread)
    print(f"\n{answer['messages'][-1].text}")
