"""A LangGraph workflow that survives its own end: kill it while the video is made, start it again, and pay once.

    python examples/workflow.py "A kite over the dunes" order-1

The checkpointer (`langgraph-checkpoint-sqlite`) remembers which nodes are done. Should the process die between a create
and the checkpoint after it, the create's key finds the task in the ledger. Without settings it runs on a sandbox that
dies with it: to see it come back, run `sora-tools sandbox` in another terminal and set the two lines that it prints.
Set SORA_BASE_URL and SORA_API_KEY for a gateway of your own, and MODEL ("openai:gpt-5") for a model of your own.
"""

from __future__ import annotations

import sys
from typing import TypedDict
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import StateGraph

from sora_tools import Sora
from sora_tools.demo import chat_model, gateway

idea = sys.argv[1] if len(sys.argv) > 1 else "A kite over the dunes"
order = sys.argv[2] if len(sys.argv) > 2 else f"order-{uuid4().hex[:8]}"
thread: RunnableConfig = {"configurable": {"thread_id": order}}
model = chat_model(lambda messages: f"{messages[-1].text}, filmed from a drone at sunrise")


class State(TypedDict, total=False):
    """What the nodes hand on and the checkpointer keeps: plain JSON."""

    idea: str
    prompt: str
    task_id: str
    file: str


def write(state: State) -> State:
    """Ask the model for a prompt."""
    return {"prompt": model.invoke(state["idea"]).text}


def create(state: State) -> State:
    """Start the paid job. Whoever comes with the same key gets the same task."""
    return {"task_id": sora.create(state["prompt"], width=480, height=270, n_frames=60, key=order).task_id}


def query(state: State) -> State:
    """Wait for it, and save it."""
    return {"file": str(sora.resume(state["task_id"], directory="videos").generations[0].file)}


with gateway(), Sora() as sora, SqliteSaver.from_conn_string("workflow.sqlite") as saver:
    graph = StateGraph(State).add_sequence([write, create, query]).set_entry_point("write").compile(saver)
    begun = graph.get_state(thread).values
    print(f"order    {order}{', taken up again' if begun else ''}", flush=True)
    for step in graph.stream(None if begun else {"idea": idea}, thread, durability="sync"):
        print(*(f"{name:8} {value}" for news in step.values() for name, value in news.items()), sep="\n", flush=True)
    print("done    ", graph.get_state(thread).values["file"])
