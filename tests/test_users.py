"""The three users, each along the whole path: a real gateway's socket, a real checkpoint and ledger, an MP4 on disk.

What each test measures is what its user would: a file that plays, and how many creates the gateway counted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from pydantic import BaseModel

from sora_tools import AsyncSora, Sora, SoraToolkit, VideoRequest, VideoTask
from sora_tools.demo import ScriptedModel
from sora_tools.media import probe
from sora_tools.sandbox import Sandbox

KEY = "sk-test-0123456789"
SIZE = {"width": 128, "height": 72, "n_frames": 15}


def assistant(*, patient: bool) -> ScriptedModel:
    """What a model does that reads its tools' answers: creates on a wish, queries while told to, says what it was told.

    ``patient``: it looks again within one turn until the video has ended. Otherwise it leaves that to the user.
    """

    def answer(messages: list[BaseMessage]) -> AIMessage:
        last = messages[-1]
        known = [json.loads(message.text) for message in messages if isinstance(message, ToolMessage)]
        if isinstance(last, HumanMessage) and "ready" not in last.text:
            return calls("create_video", {"prompt": last.text, **SIZE}, messages)
        if isinstance(last, HumanMessage):
            return calls("query_video", {"task_id": known[-1]["task_id"]}, messages)
        told = known[-1]
        if "videos" in told:
            return AIMessage(f"Here it is: {told['videos'][0]['file']}")
        if patient and told["status"] in ("queued", "running"):
            return calls("query_video", {"task_id": told["task_id"]}, messages)
        return AIMessage(f"It is {told['status']}.")

    return ScriptedModel(answer=answer)


def calls(name: str, arguments: dict[str, Any], messages: list[BaseMessage]) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"call_{len(messages)}"}])


def whole(file: Path) -> bool:
    """Whether a file is the video that was asked for."""
    video = probe(file)
    return (video.width, video.height, video.n_frames) == tuple(SIZE.values())


# --- an agent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_agent_creates_queries_until_it_is_ready_and_has_the_file(
    sandbox: Sandbox, colour: str, tmp_path: Path
) -> None:
    asked = {"messages": [HumanMessage("A paper boat in the rain")]}
    with SoraToolkit(base_url=sandbox.base_url, api_key=KEY, max_wait=0.2, download_dir=tmp_path) as toolkit:
        agent = create_agent(assistant(patient=True), toolkit.get_tools())
        messages = (agent.invoke(asked) if colour == "sync" else asyncio.run(agent.ainvoke(asked)))["messages"]
    answers = [message for message in messages if isinstance(message, ToolMessage)]
    assert {answer.status for answer in answers} == {"success"}
    assert [answer.name for answer in answers] == ["create_video", *["query_video"] * (len(answers) - 1)]
    (file,) = tmp_path.iterdir()
    assert messages[-1].text == f"Here it is: {file}"
    assert whole(file)
    assert sandbox.creates == 1
    (sent,) = [request.body for request in sandbox.requests if request.route == "create"]
    assert sent == VideoRequest(prompt="A paper boat in the rain", **SIZE).body()
    assert answers[-1].artifact["task"]["generations"][0]["file"] == str(file)
    assert KEY not in repr(messages)


# --- a chatbot ---------------------------------------------------------------------------------------------------


class Chatbot:
    """A process of a chat's back end: it knows nothing but two files, the conversation's and the ledger's."""

    def __init__(self, sandbox: Sandbox, folder: Path, colour: str) -> None:
        self.folder, self.colour = folder, colour
        self.settings: Any = {"base_url": sandbox.base_url, "api_key": KEY, "max_wait": 0}

    def says(self, words: str, thread: str = "chat_1") -> str:
        """The bot's answer; the process has begun for it and ends with it."""
        config: Any = {"configurable": {"thread_id": thread}}
        given = {"messages": [HumanMessage(words)]}
        path = str(self.folder / "chats.sqlite")
        with self.toolkit() as toolkit:
            if self.colour == "sync":
                with SqliteSaver.from_conn_string(path) as saver:
                    return self.agent(toolkit, saver).invoke(given, config)["messages"][-1].text

            async def main() -> str:
                async with AsyncSqliteSaver.from_conn_string(path) as saver:
                    state = await self.agent(toolkit, saver).ainvoke(given, config)
                return state["messages"][-1].text

            return asyncio.run(main())

    @contextmanager
    def toolkit(self) -> Iterator[SoraToolkit]:
        ledger = self.folder / "ledger.sqlite"
        with SoraToolkit(**self.settings, ledger=ledger, download_dir=self.folder / "videos") as toolkit:
            yield toolkit
        toolkit.sora.gateway.ledger.close()

    def agent(self, toolkit: SoraToolkit, saver: Any) -> Any:
        return create_agent(assistant(patient=False), toolkit.get_tools(), checkpointer=saver)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_chatbot_is_asked_over_several_turns_and_restarts_in_between(colour: str, tmp_path: Path) -> None:
    with Sandbox(speed=0.001, render=False) as sandbox:  # it renders when the file is fetched, so turns can be counted
        bot = Chatbot(sandbox, tmp_path, colour)
        assert bot.says("A paper boat in the rain") == "It is queued."
        assert bot.says("Is it ready?") == "It is queued."
        assert bot.says("A paper boat in the rain") == "It is queued.", "asked for again while it renders"
        assert sandbox.creates == 1
        sandbox.world.speed = 1e9
        said = bot.says("Is it ready now?")
        (file,) = (tmp_path / "videos").iterdir()
        assert said == f"Here it is: {file}"
        assert whole(file)
        before = len(sandbox.requests)
        assert bot.says("And now, still ready?") == said
        assert sandbox.creates == 1
        assert {request.route for request in sandbox.requests[before:]} == {"list"}, "the file is here already"
        with SqliteSaver.from_conn_string(str(tmp_path / "chats.sqlite")) as saver, bot.toolkit() as toolkit:
            config: Any = {"configurable": {"thread_id": "chat_1"}}
            messages = bot.agent(toolkit, saver).get_state(config).values["messages"]
            (sent,) = [row for row in toolkit.sora.gateway.ledger.submissions() if row.reuses is None]
        answers = [message.artifact for message in messages if isinstance(message, ToolMessage)]
        assert [answer["reused"] for answer in answers] == [False, False, True, False, False]
        assert {answer["task"]["task_id"] for answer in answers} == {sent.task_id}
        assert (sent.thread, sent.finished, sent.files) == ("chat_1", True, (str(file),))
        assert bot.says("A paper boat in the rain", "chat_2").startswith("It is "), "another conversation's is another"
        assert sandbox.creates == 2


# --- a chain -----------------------------------------------------------------------------------------------------


class Film(BaseModel):
    """What a chain hands on."""

    prompt: str
    file: Path
    seconds: float


def film(task: VideoTask) -> Film:
    (generation,) = task.generations
    assert generation.file is not None
    assert task.request is not None
    return Film(prompt=task.request.prompt or "", file=generation.file, seconds=probe(generation.file).duration)


SHOTS = ["leaves the kerb", "turns the corner", "meets the sea"]


@contextmanager
def chained(sandbox: Sandbox, folder: Path) -> Iterator[Runnable[Any, Film]]:
    """Prompt template, video, structured result."""
    sora = Sora(base_url=sandbox.base_url, api_key=KEY)
    async_sora = AsyncSora.sharing(sora)

    template = PromptTemplate.from_template("A paper boat {does}, in the style of {style}").partial(style="Hokusai")
    request = RunnableLambda(lambda prompt: {"prompt": prompt.to_string(), **SIZE})
    video = RunnableLambda(sora.generate, afunc=async_sora.generate).bind(directory=folder)
    yield template | request | video | RunnableLambda(film)
    sora.close()


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "batch", "abatch"])
def test_chain_pipes_a_prompt_into_a_video_and_a_structured_result(sandbox: Sandbox, way: str, tmp_path: Path) -> None:
    given = [{"does": shot} for shot in SHOTS]
    with chained(sandbox, tmp_path) as chain:
        match way:
            case "invoke":
                films = [chain.invoke(given[0])]
            case "ainvoke":
                films = [asyncio.run(chain.ainvoke(given[0]))]
            case "batch":
                films = chain.batch(given, {"max_concurrency": 2})
            case _:
                films = asyncio.run(chain.abatch(given, {"max_concurrency": 2}))
    wanted = SHOTS if "batch" in way else SHOTS[:1]
    assert [made.prompt for made in films] == [f"A paper boat {does}, in the style of Hokusai" for does in wanted]
    assert [made.seconds for made in films] == [pytest.approx(SIZE["n_frames"] / 30)] * len(wanted)
    assert all(whole(made.file) for made in films)
    assert sorted(tmp_path.iterdir()) == sorted(made.file for made in films)
    assert sandbox.creates == len(wanted)
