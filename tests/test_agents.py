"""Everything above a tool runs it again. Each of LangGraph's ways to do so, over a real socket, and what it costs.

The measure is always how many creates the sandbox accepted. Every step opens the checkpoints anew and gets a toolkit
of its own, as a new process does; what they share is the ledger's file and the checkpoints' file.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from multiprocessing.connection import Connection
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, ToolRetryMiddleware
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, RetryPolicy, interrupt
from scripted_model import in_turns

from sora_tools import Retry, SoraToolError, SoraToolkit, SubmissionUnknownError
from sora_tools.flow import reconcile
from sora_tools.ledger.sqlite import SQLiteLedger
from sora_tools.sandbox import Sandbox

ASKED = {"messages": [("user", "make it")]}
RENDERING, DONE = 0.001, 1e9
"""Speeds of the sandbox: nothing ends during a test, and everything has ended."""

Build = Callable[[Any], Any]
"""A graph, given what saves its checkpoints."""

Run = Callable[..., Any]
Tools = Callable[..., list[BaseTool]]


# --- what the cases are made of ----------------------------------------------------------------------------------


def create(call_id: str = "call_0", prompt: str = "fly man", **fields: Any) -> dict[str, Any]:
    return {"name": "create_video", "args": {"prompt": prompt, **fields}, "id": call_id, "type": "tool_call"}


def query(name: str, call_id: str = "call_q") -> dict[str, Any]:
    return {"name": "query_video", "args": {"task_id": name}, "id": call_id, "type": "tool_call"}


def agent(tools: list[BaseTool], *turns: Any, **settings: Any) -> Build:
    return lambda saver: create_agent(in_turns(turns), tools, checkpointer=saver, **settings)


class State(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]
    answers: Annotated[list[Any], add]
    place: str


def graph(name: str, node: Any, **settings: Any) -> StateGraph[State]:
    made = StateGraph(State)
    made.add_node(name, node, **settings)
    made.add_edge(START, name)
    made.add_edge(name, END)
    return made


def compiled(made: StateGraph[State]) -> Build:
    return lambda saver: made.compile(checkpointer=saver)


def calling(create_video: BaseTool, then: Callable[[], Any] = lambda: None, **fields: Any) -> Runnable[Any, Any]:
    """A node that calls the tool and then does something else."""

    def sync(_: State) -> Any:
        answer = create_video.invoke(create(**fields))
        then()
        return {"answers": [answer]}

    async def later(_: State) -> Any:
        answer = await create_video.ainvoke(create(**fields))
        then()
        return {"answers": [answer]}

    return RunnableLambda(sync, later)


class Then(AgentMiddleware):
    """Does something else after a tool has returned, before its node has finished."""

    def __init__(self, then: Callable[[], Any]) -> None:
        super().__init__()
        self.then = then

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        answer = handler(request)
        self.then()
        return answer

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        answer = await handler(request)
        self.then()
        return answer


class CrashError(Exception):
    pass


class Crash:
    """Raises the first time, or the time that is given, and no other."""

    def __init__(self, error: Exception | None = None, at: int = 1) -> None:
        self.error, self.at, self.called = error or CrashError("the node's own"), at, 0

    def __call__(self) -> None:
        self.called += 1
        if self.called == self.at:
            raise self.error


def answers(state: Any) -> list[ToolMessage]:
    return state.get("answers") or [message for message in state["messages"] if isinstance(message, ToolMessage)]


def told(message: ToolMessage) -> dict[str, Any]:
    return json.loads(message.content)


def of(message: ToolMessage) -> tuple[str, bool]:
    """The task that a create answered, and whether it is an earlier one's."""
    assert message.status == "success", message.content
    assert message.artifact["task"]["task_id"] in message.content
    return message.artifact["task"]["task_id"], message.artifact["reused"]


def tasks(sandbox: Sandbox) -> list[str]:
    return [made.task_id for made in sandbox.world.tasks]


def posts(sandbox: Sandbox) -> int:
    return sum(request.route == "create" for request in sandbox.requests)


def lists(sandbox: Sandbox) -> int:
    return sum(request.route == "list" for request in sandbox.requests)


def end_all(sandbox: Sandbox, tools: list[BaseTool]) -> None:
    """Every task ends, and the ledger hears of it."""
    sandbox.world.speed = DONE
    for task_id in tasks(sandbox):
        assert told(tools[1].invoke(query(task_id)))["status"] == "succeeded"
    sandbox.world.speed = RENDERING


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(render=False, speed=RENDERING) as running:
        yield running


@pytest.fixture
def sandbox(running: Sandbox, brisk: None) -> Iterator[Sandbox]:
    running.world.reset()
    running.world.speed, running.world.clock = RENDERING, time.time
    yield running
    running.clear()


@pytest.fixture
def tools(sandbox: Sandbox, tmp_path: Path) -> Iterator[Tools]:
    """Both tools, with clients of their own each time, over one ledger file."""
    with ExitStack() as stack:

        def make(**settings: Any) -> list[BaseTool]:
            given = {"base_url": sandbox.base_url, "api_key": "sk-one", "max_wait": 0, "retry": Retry(first=0)}
            toolkit = SoraToolkit(ledger=tmp_path / "ledger.sqlite", **{**given, **settings})
            stack.callback(toolkit.sora.gateway.ledger.close)
            stack.enter_context(toolkit)
            return toolkit.get_tools()

        yield make


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Run a graph on this conversation's checkpoint file, in both colours."""
    return partial(run_sync if request.param == "sync" else run_async, tmp_path / "checkpoints.sqlite")


def conversation(name: str = "thread_1", **more: str) -> Any:
    return {"configurable": {"thread_id": name, **more}}


HERE = conversation()


def run_sync(path: Path, build: Build, given: Any, config: Any = HERE, **how: Any) -> Any:
    with SqliteSaver.from_conn_string(str(path)) as saver:
        return build(saver).invoke(given, config, **how)


def run_async(path: Path, build: Build, given: Any, config: Any = HERE, **how: Any) -> Any:
    async def main() -> Any:
        async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
            return await build(saver).ainvoke(given, config, **how)

    return asyncio.run(main())


# --- retry middleware --------------------------------------------------------------------------------------------

LOST = ["hang", "reset", "close", "garbage", "cut_reply", "empty_200", "error_500"]


@pytest.mark.parametrize("handled", [True, False], ids=["handled", "raised"])
@pytest.mark.parametrize("fault", [*LOST, "html_200"])
def test_check_04_an_accepted_create_whose_answer_is_lost_is_adopted(sandbox, tools, run, fault, handled):
    # Waits half a second for a gateway that hangs.
    sandbox.script("create", fault, accept=True)
    settings = {"timeout": 0.5} if fault == "hang" else {}
    own = tools(**settings, **({} if handled else {"handle_tool_error": False}))
    state = run(agent(own, [create()], middleware=[ToolRetryMiddleware()]), ASKED)
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert of(answers(state)[0]) == (tasks(sandbox)[0], False)
    assert state["messages"][-1].text == "done"


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_create_that_was_not_accepted_is_not_sent_again(sandbox, tools, run, fault):
    # Waits half a second for a gateway that hangs.
    sandbox.script("create", fault, accept=False)
    own = tools(**({"timeout": 0.5} if fault == "hang" else {}))
    state = run(agent(own, [create()], middleware=[ToolRetryMiddleware()]), ASKED)
    (message,) = answers(state)
    error = told(message)["error"]
    assert (sandbox.creates, posts(sandbox)) == (0, 1)
    assert (message.status, error["code"], error["charged"]) == ("error", "submission_unknown", "unknown")
    assert error["retryable"] is False
    assert error["key"]
    assert "query_video" in told(message)["next"]
    assert "key" in told(message)["next"]


@pytest.mark.parametrize("fault", ["hang", "reset", "empty_200", "error_500"])
def test_a_lost_create_that_raises_stops_the_agent_and_is_not_sent_when_it_goes_on(sandbox, tools, run, fault):
    # Waits half a second for a gateway that hangs.
    sandbox.script("create", fault, accept=False)
    settings = {"handle_tool_error": False, **({"timeout": 0.5} if fault == "hang" else {})}
    for given in (ASKED, None):
        build = agent(tools(**settings), [create()], middleware=[ToolRetryMiddleware()])
        with pytest.raises(SoraToolError) as caught:
            run(build, given)
        assert isinstance(caught.value.error, SubmissionUnknownError)
        assert caught.value.error.key
        assert "key" in str(caught.value)
    assert (sandbox.creates, posts(sandbox)) == (0, 1)
    assert lists(sandbox) >= 8


@pytest.mark.parametrize("accept", [True, False])
def test_a_retry_layer_that_repeats_everything_sends_once(sandbox, tools, run, accept):
    sandbox.script("task", "invisible", seconds=3600)
    sandbox.script("create", "reset", accept=accept)
    retrying = ToolRetryMiddleware(retry_on=(Exception,), initial_delay=0, jitter=False)
    build = agent(tools(handle_tool_error=False), [create()], [create("call_1")], middleware=[retrying])
    first, second = answers(run(build, ASKED))
    assert (sandbox.creates, posts(sandbox)) == (int(accept), 1)
    assert "3 attempts" in first.content
    assert "3 attempts" in second.content


@pytest.mark.parametrize("handled", [True, False], ids=["handled", "raised"])
def test_a_busy_gateway_is_asked_again(sandbox, tools, run, handled):
    sandbox.script("create", "rate_limit", times=2)
    own = tools(**({} if handled else {"handle_tool_error": False}))
    state = run(agent(own, [create()], middleware=[ToolRetryMiddleware()]), ASKED)
    assert (sandbox.creates, posts(sandbox)) == (1, 3)
    assert of(answers(state)[0]) == (tasks(sandbox)[0], False)


def test_what_the_tool_gives_up_the_retry_layer_sends_again(sandbox, tools, run):
    sandbox.script("create", "rate_limit", times=2)
    own = tools(handle_tool_error=False, retry=Retry(attempts=1))
    retrying = ToolRetryMiddleware(initial_delay=0, jitter=False)
    state = run(agent(own, [create()], middleware=[retrying]), ASKED)
    assert (sandbox.creates, posts(sandbox)) == (1, 3)
    assert of(answers(state)[0]) == (tasks(sandbox)[0], False)


def test_a_page_in_place_of_an_answer_is_looked_for_before_it_is_sent_again(sandbox, tools, run):
    sandbox.script("create", "html_200", accept=False)
    state = run(agent(tools(), [create()], middleware=[ToolRetryMiddleware()]), ASKED)
    assert (sandbox.creates, posts(sandbox), lists(sandbox)) == (1, 2, 4)
    assert of(answers(state)[0])[0] == tasks(sandbox)[0]


@pytest.mark.parametrize("handled", [True, False], ids=["handled", "raised"])
def test_check_04_a_retry_layer_around_a_tool_that_had_returned_pays_once(sandbox, tools, run, handled):
    crash = Crash()
    own = tools(repeat="new", **({} if handled else {"handle_tool_error": False}))
    middleware = [ToolRetryMiddleware(initial_delay=0), Then(crash)]
    state = run(agent(own, [create()], middleware=middleware), ASKED)
    assert crash.called == 2
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert of(answers(state)[0]) == (tasks(sandbox)[0], True)


# --- a node's retry policy ---------------------------------------------------------------------------------------

POLICIES = {
    "default": (RetryPolicy(initial_interval=0, jitter=False), ConnectionError("the node's own")),
    "everything": (RetryPolicy(initial_interval=0, jitter=False, retry_on=Exception), RuntimeError("the node's own")),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("shape", ["node", "ToolNode"])
def test_check_04_a_node_that_crashes_after_the_create_pays_once(sandbox, tools, run, shape, policy):
    again, error = POLICIES[policy]
    crash = Crash(error)
    own = tools(repeat="new")
    if shape == "node":
        node = calling(own[0], crash)
    else:
        then = Then(crash)
        node = ToolNode(own, wrap_tool_call=then.wrap_tool_call, awrap_tool_call=then.awrap_tool_call)
        node.handle_tool_errors = False
    state = run(
        compiled(graph("tools", node, retry_policy=again)), {"messages": [AIMessage("", tool_calls=[create()])]}
    )
    assert crash.called == 2
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert of(answers(state)[0]) == (tasks(sandbox)[0], True)


@pytest.mark.parametrize(("policy", "looks"), [("default", 4), ("everything", 12)])
def test_a_retry_policy_sends_nothing_again_whose_fate_is_unknown(sandbox, tools, run, policy, looks):
    sandbox.script("create", "reset", accept=False)
    again, _ = POLICIES[policy]
    node = calling(tools(handle_tool_error=False)[0])
    with pytest.raises(SoraToolError, match=r"fate is unknown|not known"):
        run(compiled(graph("tools", node, retry_policy=again)), {})
    assert (sandbox.creates, posts(sandbox), lists(sandbox)) == (0, 1, looks)


def test_a_retry_policy_finds_what_has_appeared_meanwhile(sandbox, tools, run):
    sandbox.script("create", "reset")
    sandbox.script("list", "bad_gateway", times=6)  # the first attempt's looks, each sent again once or more
    own = tools(handle_tool_error=False, retry=Retry(attempts=1))
    again, _ = POLICIES["everything"]
    state = run(compiled(graph("tools", calling(own[0]), retry_policy=again)), {})
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert of(answers(state)[0]) == (tasks(sandbox)[0], True)


# --- crash and resume --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["agent", "node", "subgraph"])
def test_check_04_a_crash_after_the_create_and_a_resume_pay_once(sandbox, tools, run, shape):
    crash = Crash()

    def build(own: list[BaseTool]) -> Build:
        if shape == "agent":
            return agent(own, [create()], middleware=[Then(crash)])
        inner = graph("inner", calling(own[0], crash))
        return compiled(inner if shape == "node" else graph("outer", inner.compile()))

    with pytest.raises(CrashError):
        run(build(tools(repeat="new")), ASKED)
    end_all(sandbox, tools())
    state = run(build(tools(repeat="new")), None)
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert of(answers(state)[0]) == (tasks(sandbox)[0], True)


@pytest.mark.parametrize("saved", [True, False])
def test_an_agent_begun_again_by_the_node_around_it_pays_once_while_it_renders(sandbox, tools, run, saved):
    # LangGraph gives the inner agent's nodes new names: the conversation and the body tell that it is the same.
    crash = Crash(ConnectionError("the node's own"))
    inner = agent(tools(), [create()])(None if saved else False)

    def sync(_: State) -> Any:
        state = inner.invoke(ASKED)
        crash()
        return {"answers": answers(state)}

    async def later(_: State) -> Any:
        state = await inner.ainvoke(ASKED)
        crash()
        return {"answers": answers(state)}

    again, _ = POLICIES["default"]
    state = run(compiled(graph("outer", RunnableLambda(sync, later), retry_policy=again)), {})
    assert crash.called == 2
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert of(answers(state)[0]) == (tasks(sandbox)[0], True)


def test_a_crash_after_a_lost_answer_and_a_resume_find_the_task(sandbox, tools, run):
    sandbox.script("create", "reset")
    sandbox.script("list", "bad_gateway", times=None)
    settings = {"handle_tool_error": False, "repeat": "new", "retry": Retry(attempts=1)}
    with pytest.raises(SoraToolError):
        run(agent(tools(**settings), [create()]), ASKED)
    sandbox.clear()
    state = run(agent(tools(**settings), [create()]), None)
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert of(answers(state)[0]) == (tasks(sandbox)[0], True)


killed = pytest.mark.skipif(sys.platform == "win32", reason="forks, and SIGKILL")
if sys.platform != "win32":
    # Forked from a process that has imported what takes long, and has no thread.
    processes = multiprocessing.get_context("forkserver")
    long = ["langchain.agents", "langgraph.checkpoint.sqlite.aio", "langgraph.func", "pytest"]
    processes.set_forkserver_preload([*long, "sora_tools.sandbox", "sora_tools.tools"])


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def live(folder: Path, address: str, colour: str, repeat: Any, line: Connection) -> None:
    """One process's life: the agent, begun or resumed, until it has answered or is killed at a moment."""
    reconcile.PAUSES = (0.01, 0.02, 0.05)
    begin, settle = SQLiteLedger.begin, SQLiteLedger.settle
    toolkit = SoraToolkit(base_url=address, api_key="sk-one", ledger=folder / "ledger.sqlite", repeat=repeat)
    line.send("alive")
    given, durability, moment = line.recv()
    match moment:
        case "written down":
            SQLiteLedger.begin = lambda *given: (begin(*given), die())  # type: ignore[method-assign,assignment]
        case "answered":
            SQLiteLedger.settle = die  # type: ignore[method-assign]
        case "settled":
            SQLiteLedger.settle = lambda *given: (settle(*given), die())  # type: ignore[method-assign,assignment]
    middleware = [Then(die)] if moment == "returned" else []
    run = run_sync if colour == "sync" else run_async
    build = agent(toolkit.get_tools(), [create()], middleware=middleware)
    (message,) = answers(run(folder / "checkpoints.sqlite", build, given, durability=durability))
    line.send((told(message), message.artifact))


class Life:
    """A process that runs the agent."""

    def __init__(self, sandbox: Sandbox, folder: Path, colour: str, repeat: str = "new") -> None:
        self._line, theirs = processes.Pipe()
        self.process = processes.Process(
            target=live, args=(folder, sandbox.base_url, colour, repeat, theirs), daemon=True
        )
        self.process.start()
        theirs.close()
        assert self._line.recv() == "alive"

    def go(self, given: Any = None, durability: str = "sync", moment: str = "") -> None:
        self._line.send((given, durability, moment))

    def answer(self) -> Any:
        answer = self._line.recv()
        self.process.join()
        return answer

    def is_killed(self) -> bool:
        self.process.join()
        return self.process.exitcode == -signal.SIGKILL


COLOURS = ["sync", "async"]


@killed
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("moment", ["answered", "settled", "returned"])
def test_a_process_killed_after_the_create_and_the_next_one_pay_once(sandbox, tools, tmp_path, moment, colour):
    first, second = (Life(sandbox, tmp_path, colour) for _ in range(2))
    first.go(ASKED, moment=moment)
    assert first.is_killed()
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    if moment != "answered":
        end_all(sandbox, tools())
    second.go()
    content, artifact = second.answer()
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert content["task_id"] == artifact["task"]["task_id"] == tasks(sandbox)[0]
    assert artifact["reused"] is content["reused"] is True


@killed
@pytest.mark.parametrize("colour", COLOURS)
def test_a_process_killed_between_the_request_and_its_answer_and_the_next_one_pay_once(sandbox, tmp_path, colour):
    sandbox.script("create", "slow", seconds=30)
    first, second = (Life(sandbox, tmp_path, colour) for _ in range(2))
    first.go(ASKED)
    while not sandbox.creates:
        time.sleep(0.01)
    first.process.kill()
    assert first.is_killed()
    second.go()
    content, artifact = second.answer()
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert content["task_id"] == tasks(sandbox)[0]
    assert artifact["reused"] is True


@killed
@pytest.mark.parametrize("colour", COLOURS)
def test_a_process_killed_before_the_request_leaves_what_nobody_dares_to_send(sandbox, tmp_path, colour):
    first, second = (Life(sandbox, tmp_path, colour) for _ in range(2))
    first.go(ASKED, moment="written down")
    assert first.is_killed()
    second.go()
    content, _ = second.answer()
    assert (sandbox.creates, posts(sandbox)) == (0, 0)
    assert (content["error"]["code"], content["error"]["charged"]) == ("submission_unknown", "unknown")


@killed
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("moment", ["answered", "settled"])
def test_a_process_killed_with_its_checkpoints_unsaved_pays_once_while_it_renders(sandbox, tmp_path, moment, colour):
    # Only the conversation and the body tell that it is the same: the model is asked again, and the place is a new one.
    first, second = (Life(sandbox, tmp_path, colour, "reuse") for _ in range(2))
    first.go(ASKED, durability="exit", moment=moment)
    assert first.is_killed()
    second.go(ASKED)
    content, artifact = second.answer()
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert content["task_id"] == tasks(sandbox)[0]
    assert artifact["reused"] is True


# --- interrupts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["node", "subgraph", "called subgraph", "interrupted around a subgraph", "deep"])
def test_a_node_run_again_by_an_interrupt_pays_once(sandbox, tools, run, shape):
    def asks() -> None:
        interrupt("Go on?")

    def build(own: list[BaseTool]) -> Build:
        inner = calling(own[0], asks)
        match shape:
            case "node":
                made = graph("inner", inner)
            case "subgraph":
                made = graph("outer", graph("inner", inner).compile())
            case "deep":
                made = graph("top", graph("outer", graph("inner", inner).compile()).compile())
            case "called subgraph":
                sub = graph("inner", inner).compile()
                made = graph("outer", RunnableLambda(sub.invoke, sub.ainvoke))
            case _:
                sub = graph("inner", calling(own[0])).compile()

                def sync(state: State) -> Any:
                    answer = sub.invoke(state)
                    asks()
                    return answer

                async def later(state: State) -> Any:
                    answer = await sub.ainvoke(state)
                    asks()
                    return answer

                made = graph("outer", RunnableLambda(sync, later))
        return compiled(made)

    assert run(build(tools(repeat="new")), {})["__interrupt__"][0].value == "Go on?"
    end_all(sandbox, tools())
    state = run(build(tools(repeat="new")), Command(resume="yes"))
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert of(answers(state)[0])[0] == tasks(sandbox)[0]


def test_a_tool_that_asks_after_an_agent_of_its_own_has_created_pays_once(sandbox, tools, run):
    def build(own: list[BaseTool]) -> Build:
        @tool
        def studio(wish: str) -> str:
            """Have the studio make a video."""
            state = agent(own, [create()])(None).invoke({"messages": [("user", wish)]})
            interrupt("Go on?")
            return answers(state)[0].content

        asking = {"name": "studio", "args": {"wish": "fly man"}, "id": "call_studio", "type": "tool_call"}
        return agent([studio], [asking])

    assert run(build(tools(repeat="new")), ASKED)["__interrupt__"]
    end_all(sandbox, tools())
    state = run(build(tools(repeat="new")), Command(resume="yes"))
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert told(answers(state)[0])["task_id"] == tasks(sandbox)[0]


def test_the_place_of_a_call_in_a_subgraph_is_the_same_when_it_is_run_again(sandbox, tools, tmp_path):
    from langgraph.config import get_config

    places = []

    def asks() -> None:
        places.append(get_config()["configurable"]["checkpoint_ns"])
        interrupt("Go on?")

    build = compiled(graph("outer", graph("inner", calling(tools()[0], asks)).compile()))
    for given in ({}, Command(resume="yes")):
        run_sync(tmp_path / "checkpoints.sqlite", build, given)
    run_sync(tmp_path / "checkpoints.sqlite", build, {})
    first, again, other = places
    assert first == again != other
    assert [part.partition(":")[0] for part in first.split("|")] == ["outer", "inner"]


def test_a_workflow_that_asks_after_its_create_pays_once(sandbox, tools, run):
    def build(own: list[BaseTool]) -> Build:
        def made(saver: Any) -> Any:
            @task
            async def later() -> Any:
                return await own[0].ainvoke(create())

            @task
            def first() -> Any:
                return own[0].invoke(create())

            if isinstance(saver, SqliteSaver):

                @entrypoint(checkpointer=saver)
                def flow(_: Any) -> Any:
                    here, answer = own[0].invoke(create("call_1", "walk man")), first().result()
                    interrupt("Go on?")
                    return {"answers": [here, answer]}

                return flow

            @entrypoint(checkpointer=saver)
            async def async_flow(_: Any) -> Any:
                here, answer = await own[0].ainvoke(create("call_1", "walk man")), await later()
                interrupt("Go on?")
                return {"answers": [here, answer]}

            return async_flow

        return made

    assert run(build(tools(repeat="new")), {})["__interrupt__"]
    end_all(sandbox, tools())
    state = run(build(tools(repeat="new")), Command(resume="yes"))
    assert (sandbox.creates, posts(sandbox)) == (2, 2)
    assert [of(message)[0] for message in answers(state)] == tasks(sandbox)


# --- a human in the loop -----------------------------------------------------------------------------------------

MODES = ["batched", "per_call"]


def reviewed(own: list[BaseTool], mode: str, *turns: Any) -> Build:
    human = HumanInTheLoopMiddleware(interrupt_on={"create_video": True}, interrupt_mode=mode)
    return agent(own, *turns, middleware=[human, ToolRetryMiddleware()])


def decision(mode: str, kind: str, **fields: Any) -> Command[Any]:
    edited = {"edited_action": {"name": "create_video", "args": {"prompt": "fly man", **fields}}} if fields else {}
    decided = {"type": kind, **edited}
    return Command(resume={"decisions": [decided]} if mode == "batched" else decided)


@pytest.mark.parametrize("mode", MODES)
def test_an_approved_create_pays_once(sandbox, tools, run, mode):
    build = reviewed(tools(), mode, [create()])
    assert run(build, ASKED)["__interrupt__"]
    assert not sandbox.requests
    state = run(build, decision(mode, "approve"))
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert of(answers(state)[0]) == (tasks(sandbox)[0], False)


@pytest.mark.parametrize("mode", MODES)
def test_an_edited_create_sends_what_the_human_wants(sandbox, tools, run, mode):
    build = reviewed(tools(), mode, [create(n_frames=300)])
    run(build, ASKED)
    state = run(build, decision(mode, "edit", n_frames=60))
    (message,) = answers(state)
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert sandbox.requests[-1].body["n_frames"] == 60
    assert message.artifact["task"]["task_id"] == tasks(sandbox)[0]
    assert message.artifact["reused"] is False


@pytest.mark.parametrize("mode", MODES)
def test_a_rejected_create_sends_nothing(sandbox, tools, run, mode):
    build = reviewed(tools(), mode, [create()])
    run(build, ASKED)
    state = run(build, decision(mode, "reject"))
    assert "rejected" in answers(state)[0].content
    assert not sandbox.requests


@pytest.mark.parametrize("mode", MODES)
def test_check_04_one_question_decided_in_several_ways_is_a_create_for_each_way(sandbox, tools, run, tmp_path, mode):
    run(reviewed(tools(), mode, [create()]), ASKED)
    asked, kept = tmp_path / "checkpoints.sqlite", tmp_path / "kept.sqlite"
    shutil.copy(asked, kept)
    made = []
    for decided in (decision(mode, "approve"), decision(mode, "edit", n_frames=60), decision(mode, "approve")):
        shutil.copy(kept, asked)
        made.append(answers(run(reviewed(tools(), mode, [create()]), decided))[0].artifact)
    approved, edited, again = made
    assert (sandbox.creates, posts(sandbox)) == (2, 2)
    assert [request.body["n_frames"] for request in sandbox.requests if request.route == "create"] == [150, 60]
    assert approved["key"] != edited["key"]
    assert again["task"]["task_id"] == approved["task"]["task_id"] != edited["task"]["task_id"]
    assert (approved["reused"], edited["reused"], again["reused"]) == (False, False, True)
    # A batched decision is a step of its own, and the call's node a new one each time: the body tells that it is known.
    assert (again["key"] == approved["key"]) is (mode == "per_call")


@pytest.mark.parametrize("mode", MODES)
def test_a_question_approved_twice_at_once_pays_once(sandbox, tools, run, mode):
    run(reviewed(tools(), mode, [create()]), ASKED)
    sandbox.script("create", "slow", seconds=0.5)  # the second approval comes before the first one's create is answered
    begun = threading.Barrier(2)

    def approve(own: list[BaseTool]) -> Any:
        begun.wait()
        return run(reviewed(own, mode, [create()]), decision(mode, "approve"))

    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(approve, [tools(), tools()]))
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert sorted(of(answers(state)[0]) for state in states) == [(tasks(sandbox)[0], False), (tasks(sandbox)[0], True)]


@pytest.mark.parametrize("mode", MODES)
def test_two_calls_approved_and_edited_in_one_conversation_are_two(sandbox, tools, run, mode):
    build = reviewed(tools(), mode, [create()], [create()])
    run(build, ASKED)
    run(build, decision(mode, "approve"))
    state = run(build, decision(mode, "edit", n_frames=60))
    first, second = answers(state)
    assert (sandbox.creates, posts(sandbox)) == (2, 2)
    assert first.artifact["key"] != second.artifact["key"]


# --- two runs of one checkpoint ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["slow", "reset"])
def test_check_04_two_threads_at_one_checkpoint_pay_once(sandbox, tools, run, fault):
    run(agent(tools(), [create()], interrupt_before=["tools"]), ASKED)
    begun = threading.Barrier(2)

    def resumed(own: list[BaseTool]) -> Any:
        begun.wait()
        return run(agent(own, [create()]), None)

    # The loser begins well before the winner is answered.
    sandbox.script("create", fault, **({"seconds": 0.5} if fault == "slow" else {}))
    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(resumed, [tools(repeat="new"), tools(repeat="new")]))
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    found = [of(answers(state)[0]) for state in states]
    assert {task_id for task_id, _ in found} == set(tasks(sandbox))
    if fault == "slow":
        assert sorted(reused for _, reused in found) == [False, True]


@killed
@pytest.mark.parametrize("colour", COLOURS)
def test_check_04_two_processes_at_one_checkpoint_pay_once(sandbox, tools, tmp_path, colour):
    run_sync(tmp_path / "checkpoints.sqlite", agent(tools(), [create()], interrupt_before=["tools"]), ASKED)
    sandbox.script("create", "slow", seconds=0.5)  # the loser begins well before the winner is answered
    lives = [Life(sandbox, tmp_path, colour) for _ in range(2)]
    for life in lives:
        life.go()
    found = [life.answer() for life in lives]
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert {content["task_id"] for content, _ in found} == set(tasks(sandbox))
    assert sorted(artifact["reused"] for _, artifact in found) == [False, True]


def test_a_checkpoint_run_again_by_its_id_is_a_new_place_and_reuses_what_is_rendering(sandbox, tools, run, tmp_path):
    # LangGraph makes a fork of it, with new names for its nodes: the body alone tells that it is the same.
    build = agent(tools(), [create()])
    run(build, ASKED)
    with SqliteSaver.from_conn_string(str(tmp_path / "checkpoints.sqlite")) as saver:
        history = build(saver).get_state_history(HERE)
        before = next(state.config["configurable"]["checkpoint_id"] for state in history if state.next == ("tools",))
    state = run(build, None, conversation(checkpoint_id=before))
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert of(answers(state)[0]) == (tasks(sandbox)[0], True)
    end_all(sandbox, tools())
    state = run(build, None, conversation(checkpoint_id=before))
    assert sandbox.creates == 2
    assert of(answers(state)[0]) == (tasks(sandbox)[1], False)


# --- calls in parallel -------------------------------------------------------------------------------------------


def test_two_prompts_in_one_message_are_two(sandbox, tools, run):
    state = run(agent(tools(), [create(), create("call_1", "walk man")]), ASKED)
    assert (sandbox.creates, posts(sandbox)) == (2, 2)
    assert {of(message) for message in answers(state)} == {(task_id, False) for task_id in tasks(sandbox)}


def test_one_prompt_twice_in_one_message_is_one(sandbox, tools, run):
    sandbox.script("create", "slow", seconds=0.2)
    state = run(agent(tools(), [create(), create("call_1")]), ASKED)
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    found = [of(message) for message in answers(state)]
    assert sorted(found) == [(tasks(sandbox)[0], False), (tasks(sandbox)[0], True)]
    assert any(told(message).get("reused") for message in answers(state))


@pytest.mark.parametrize("accept", [True, False])
def test_one_prompt_twice_in_one_message_with_a_lost_answer_is_one_at_most(sandbox, tools, run, accept):
    sandbox.script("create", "reset", accept=accept)
    state = run(agent(tools(), [create(), create("call_1")]), ASKED)
    assert (sandbox.creates, posts(sandbox)) == (int(accept), 1)
    codes = {told(message).get("error", {}).get("code") for message in answers(state)}
    assert codes == ({None} if accept else {"submission_unknown"})


def test_check_04_one_prompt_twice_is_two_where_the_operator_says_so(sandbox, tools, run):
    state = run(agent(tools(repeat="new"), [create(), create("call_1")]), ASKED)
    assert (sandbox.creates, posts(sandbox)) == (2, 2)
    assert {of(message) for message in answers(state)} == {(task_id, False) for task_id in tasks(sandbox)}


def test_two_calls_of_one_node_are_two_and_stay_two_when_it_is_run_again(sandbox, tools, run):
    crash = Crash()
    own = tools(repeat="new")

    def sync(_: State) -> Any:
        made = [own[0].invoke(create(name)) for name in ("call_0", "call_1")]
        crash()
        return {"answers": made}

    async def later(_: State) -> Any:
        made = [await own[0].ainvoke(create(name)) for name in ("call_0", "call_1")]
        crash()
        return {"answers": made}

    build = compiled(graph("node", RunnableLambda(sync, later)))
    with pytest.raises(CrashError):
        run(build, {})
    state = run(build, None)
    assert (sandbox.creates, posts(sandbox)) == (2, 2)
    assert [of(message) for message in answers(state)] == [(task_id, True) for task_id in tasks(sandbox)]


# --- a model that asks again -------------------------------------------------------------------------------------


def test_check_04_a_call_under_a_new_id_gets_the_task_that_is_rendering(sandbox, tools, run):
    state = run(agent(tools(), [create()], [create("call_1")], [create("call_2")]), ASKED)
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    (task_id,) = tasks(sandbox)
    assert [of(message) for message in answers(state)] == [(task_id, False), (task_id, True), (task_id, True)]
    assert told(answers(state)[1])["reused"] is True


def test_a_call_under_the_same_id_in_a_later_turn_is_another_call(sandbox, tools, run):
    # Some providers number the calls of each message from 0.
    state = run(agent(tools(repeat="new"), [create()], [create()]), ASKED)
    assert (sandbox.creates, posts(sandbox)) == (2, 2)
    assert [of(message) for message in answers(state)] == [(task_id, False) for task_id in tasks(sandbox)]


def test_a_call_under_a_new_id_finds_what_became_of_the_first(sandbox, tools, run):
    sandbox.script("task", "invisible", seconds=3600)
    sandbox.script("create", "reset")

    def later(_: Any) -> Any:
        sandbox.world.clock = lambda: time.time() + 3600
        return [create("call_1")]

    first, second = answers(run(agent(tools(), [create()], later), ASKED))
    assert told(first)["error"]["code"] == "submission_unknown"
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert of(second) == (tasks(sandbox)[0], True)


def test_a_call_under_a_new_id_sends_nothing_while_the_first_is_unknown(sandbox, tools, run):
    sandbox.script("create", "reset", accept=False)
    state = run(agent(tools(), [create()], [create("call_1")], [create("call_2")]), ASKED)
    assert (sandbox.creates, posts(sandbox)) == (0, 1)
    errors = [told(message)["error"] for message in answers(state)]
    assert {error["code"] for error in errors} == {"submission_unknown"}
    assert len({error["key"] for error in errors}) == 1
    assert all("query_video" in told(message)["next"] for message in answers(state))


def test_without_a_conversation_nothing_tells_that_a_model_asks_again(sandbox, tools):
    # What cannot be promised: LangGraph has no name for a run without a thread_id that its tools could know.
    sandbox.script("create", "reset", accept=False)
    first, second = answers(agent(tools(), [create()], [create("call_1")])(None).invoke(ASKED))
    assert "do not call create_video for it" in told(first)["next"]
    assert of(second) == (tasks(sandbox)[0], False)
    assert (sandbox.creates, posts(sandbox)) == (1, 2)


def test_a_call_in_a_later_turn_of_the_conversation_gets_the_task_that_is_rendering(sandbox, tools, run):
    run(agent(tools(), [create()]), ASKED)
    state = run(agent(tools(), [create()], [], [create("call_1")]), ASKED)
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert of(answers(state)[-1]) == (tasks(sandbox)[0], True)


@pytest.mark.parametrize("ending", ["succeeded", "failed"])
def test_check_04_a_call_after_the_first_task_has_ended_is_a_new_one(sandbox, tools, run, ending):
    if ending == "failed":
        sandbox.script("task", "failed")
    run(agent(tools(), [create()]), ASKED)
    sandbox.world.speed = DONE
    state = run(agent(tools(), [create()], [], [create("call_1")]), ASKED)
    assert (sandbox.creates, posts(sandbox)) == (2, 2)
    assert [of(message) for message in answers(state)] == [(task_id, False) for task_id in tasks(sandbox)]


@pytest.mark.parametrize("found", ["rendering", "lost"])
def test_a_repeated_call_that_is_run_again_keeps_its_task(sandbox, tools, run, found):
    if found == "lost":
        sandbox.script("task", "invisible", seconds=3600)
        sandbox.script("create", "reset")

    def later(_: Any) -> Any:
        sandbox.world.clock = lambda: time.time() + 3600
        return [create("call_1")]

    crash = Crash(at=2)
    with pytest.raises(CrashError):
        run(agent(tools(), [create()], later, middleware=[Then(crash)]), ASKED)
    end_all(sandbox, tools())
    state = run(agent(tools(), [create()], later, middleware=[Then(crash)]), None)
    assert crash.called == 3
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert of(answers(state)[-1]) == (tasks(sandbox)[0], True)


def test_the_key_of_an_unknown_fate_leads_to_the_task(sandbox, tools, run):
    sandbox.script("task", "invisible", seconds=3600)
    sandbox.script("create", "reset")

    def look(messages: list[BaseMessage]) -> Any:
        return [query(told(messages[-1])["error"]["key"])]

    def later(messages: list[BaseMessage]) -> Any:
        key = told(messages[-1])["error"]["key"]
        sandbox.world.clock = lambda: time.time() + 3600
        return [query(key)]

    state = run(agent(tools(), [create()], look, later, [create("call_1")]), ASKED)
    unsure, still, shown, again = answers(state)
    assert "query_video with this key" in told(unsure)["next"]
    assert "query_video with this key" in told(still)["next"]
    assert (told(shown)["task_id"], told(shown)["status"]) == (tasks(sandbox)[0], "running")
    assert of(again) == (tasks(sandbox)[0], True)
    assert (sandbox.creates, posts(sandbox)) == (1, 1)


# --- outside graphs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_outside_graphs_a_call_has_no_key_of_its_own(sandbox, tools, colour):
    create_video = tools()[0]
    invoke = create_video.invoke if colour == "sync" else lambda *given: asyncio.run(create_video.ainvoke(*given))
    found = [of(invoke(create())) for _ in range(2)]
    assert found == [(task_id, False) for task_id in tasks(sandbox)]
    assert (sandbox.creates, posts(sandbox)) == (2, 2)


@pytest.mark.parametrize("colour", COLOURS)
def test_outside_graphs_a_conversation_gets_the_task_that_is_rendering(sandbox, tools, colour):
    create_video = tools()[0]
    invoke = create_video.invoke if colour == "sync" else lambda *given: asyncio.run(create_video.ainvoke(*given))
    found = [of(invoke(create(), HERE)) for _ in range(2)]
    found.append(of(invoke(create("call_1"), HERE)))
    (task_id,) = tasks(sandbox)
    assert found == [(task_id, False), (task_id, True), (task_id, True)]
    sandbox.world.speed = DONE
    assert of(invoke(create(), HERE)) == (tasks(sandbox)[1], False)
    assert (sandbox.creates, posts(sandbox)) == (2, 2)


def test_a_node_that_calls_without_an_id_is_kept_by_its_conversation(sandbox, tools, run):
    crash = Crash()
    own = tools()

    def sync(_: State) -> Any:
        answer = own[0].invoke({"prompt": "fly man"})
        crash()
        return {"answers": [answer]}

    async def later(_: State) -> Any:
        answer = await own[0].ainvoke({"prompt": "fly man"})
        crash()
        return {"answers": [answer]}

    build = compiled(graph("node", RunnableLambda(sync, later)))
    with pytest.raises(CrashError):
        run(build, {})
    state = run(build, None)
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    assert json.loads(answers(state)[0])["reused"] is True


# --- whose a task is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repeat", ["reuse", "new"])
def test_two_accounts_at_one_checkpoint_share_nothing(sandbox, tools, run, tmp_path, repeat):
    run(agent(tools(), [create()], interrupt_before=["tools"]), ASKED)
    asked, kept = tmp_path / "checkpoints.sqlite", tmp_path / "kept.sqlite"
    shutil.copy(asked, kept)
    found = []
    for key in ("sk-one", "sk-two", "sk-one"):
        shutil.copy(kept, asked)
        state = run(agent(tools(api_key=key, repeat=repeat), [create()]), None)
        found.append(of(answers(state)[0]))
    one, two = tasks(sandbox)
    assert found == [(one, False), (two, False), (one, True)]


@pytest.mark.parametrize("repeat", ["reuse", "new"])
def test_two_gateways_at_one_checkpoint_share_nothing(sandbox, tools, run, tmp_path, repeat):
    run(agent(tools(), [create()], interrupt_before=["tools"]), ASKED)
    asked, kept = tmp_path / "checkpoints.sqlite", tmp_path / "kept.sqlite"
    shutil.copy(asked, kept)
    found = []
    with Sandbox(render=False, speed=RENDERING) as other:
        for gateway in (sandbox, other, sandbox):
            shutil.copy(kept, asked)
            state = run(agent(tools(base_url=gateway.base_url, repeat=repeat), [create()]), None)
            found.append(of(answers(state)[0]))
        assert found == [(tasks(sandbox)[0], False), (tasks(other)[0], False), (tasks(sandbox)[0], True)]


def test_two_conversations_with_equal_calls_share_nothing(sandbox, tools, run):
    states = [run(agent(tools(), [create()]), ASKED, conversation(name)) for name in ("thread_1", "thread_2")]
    assert [of(answers(state)[0]) for state in states] == [(task_id, False) for task_id in tasks(sandbox)]
    assert (sandbox.creates, posts(sandbox)) == (2, 2)


def test_a_copied_conversation_shares_nothing_with_its_original(sandbox, tools, run, tmp_path):
    # Copies, as LangGraph's server makes them, keep the names of their checkpoints, and so of their nodes.
    run(agent(tools(), [create()], interrupt_before=["tools"]), ASKED)
    asked, kept = tmp_path / "checkpoints.sqlite", tmp_path / "kept.sqlite"
    shutil.copy(asked, kept)
    found = [of(answers(run(agent(tools(repeat="new"), [create()]), None))[0])]
    shutil.copy(kept, asked)
    with closing(sqlite3.connect(asked)) as db, db:
        for table in ("checkpoints", "writes"):
            db.execute(f"update {table} set thread_id = 'thread_2'")
    found.append(of(answers(run(agent(tools(repeat="new"), [create()]), None, conversation("thread_2")))[0]))
    assert found == [(task_id, False) for task_id in tasks(sandbox)]
    assert (sandbox.creates, posts(sandbox)) == (2, 2)


def test_two_runs_without_a_conversation_share_nothing(sandbox, tools):
    own = tools()
    states = [agent(own, [create()])(None).invoke(ASKED) for _ in range(2)]
    assert [of(answers(state)[0]) for state in states] == [(task_id, False) for task_id in tasks(sandbox)]
    assert (sandbox.creates, posts(sandbox)) == (2, 2)


def test_two_conversations_with_equal_lost_creates_find_one_each(sandbox, tools, run):
    sandbox.script("create", "reset", times=2)
    states = [run(agent(tools(), [create()]), ASKED, conversation(name)) for name in ("thread_1", "thread_2")]
    assert [of(answers(state)[0]) for state in states] == [(task_id, False) for task_id in tasks(sandbox)]
    assert (sandbox.creates, posts(sandbox)) == (2, 2)
