"""LangChain's own middleware over the tools: who is asked, what they read, and what is then paid for.

``test_check_05_...``: cheap calls run, dear ones wait with their price in the text, a rejection sends nothing, an edit
is priced and created once. Everything runs over a real socket, in both interrupt modes and both colours.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, ToolCallLimitMiddleware, ToolRetryMiddleware
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from scripted_model import in_turns
from test_agents import create as call

from sora_tools import (
    ConfigurationError,
    CreateVideoTool,
    Price,
    Retry,
    Sora,
    SoraToolError,
    SoraToolkit,
    VideoLimits,
    VideoRequest,
    is_retryable,
    video_approval,
)
from sora_tools.sandbox import Sandbox

MODES = ("batched", "per_call")
ASKED = {"messages": [("user", "make it")]}
HERE = {"configurable": {"thread_id": "chat"}}
SMALL = {"width": 64, "height": 36}


def by_frame(request: VideoRequest) -> Price:
    return Price(Decimal("0.01") * request.n_frames * request.n_variants, "USD")


CHEAP, DEAR = call("cheap", n_frames=30, **SMALL), call("dear", n_frames=150, **SMALL)


@pytest.fixture
def desk(sandbox: Sandbox, tmp_path: Any) -> dict[str, Any]:
    ledger = str(tmp_path / "ledger.sqlite")
    return {"base_url": sandbox.base_url, "api_key": "sk-test-0123456789", "ledger": ledger, "retry": Retry(attempts=1)}


@pytest.fixture
def toolkit(desk: dict[str, Any]) -> Iterator[SoraToolkit]:
    with SoraToolkit(**desk, price=by_frame, max_wait=0) as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def invoke(request: pytest.FixtureRequest) -> Callable[..., Any]:
    if request.param == "sync":
        return lambda graph, given, config=HERE: graph.invoke(given, config)
    return lambda graph, given, config=HERE: asyncio.run(graph.ainvoke(given, config))


class Desk:
    """An agent whose creates a person decides over, and the person.

    Every turn builds the agent anew, as a process does that resumes a conversation; the checkpoints stay.
    """

    def __init__(self, invoke: Callable[..., Any], mode: str, tools: Any, *turn: Any, **approval: Any) -> None:
        self.invoke, self.mode, self.tools, self.turn = invoke, mode, tools, list(turn)
        self.approval = {"price": by_frame, "ask_above": "0.40", **approval}
        self.saver = InMemorySaver()

    def _said(self, given: Any) -> Any:
        human = HumanInTheLoopMiddleware(interrupt_on=video_approval(**self.approval), interrupt_mode=self.mode)
        retry = ToolRetryMiddleware(tools=["query_video"], retry_on=is_retryable)
        agent = create_agent(in_turns([self.turn]), self.tools, middleware=[human, retry], checkpointer=self.saver)
        self.state = self.invoke(agent, given)
        return self.state

    def ask(self) -> list[str]:
        """What is asked, after the first turn."""
        waiting = self._said(ASKED).get("__interrupt__", ())
        if self.mode == "batched":
            return [action["description"] for pause in waiting for action in pause.value["action_requests"]]
        return [pause.value["description"] for pause in waiting]

    def decide(self, kind: str, args: dict[str, Any] | None = None) -> list[ToolMessage]:
        """What the tools answered, after the decision."""
        edited = {} if args is None else {"edited_action": {"name": "create_video", "args": args}}
        decided = {"type": kind, **edited}
        self._said(Command(resume={"decisions": [decided]} if self.mode == "batched" else decided))
        return self.answers

    @property
    def answers(self) -> list[ToolMessage]:
        return [message for message in self.state["messages"] if isinstance(message, ToolMessage)]


@pytest.fixture(params=MODES)
def desk_of(request: pytest.FixtureRequest, invoke: Callable[..., Any], toolkit: SoraToolkit) -> Callable[..., Desk]:
    def make(*turn: Any, tools: Any = None, **approval: Any) -> Desk:
        return Desk(invoke, request.param, tools or toolkit.get_tools(), *turn, **approval)

    return make


def posts(sandbox: Sandbox) -> int:
    return sum(request.route == "create" for request in sandbox.requests)


# --- check 5 ------------------------------------------------------------------------------------------------------


def test_check_05_a_cheap_call_runs_and_nobody_is_asked(sandbox: Sandbox, desk_of: Callable[..., Desk]) -> None:
    desk = desk_of(CHEAP)
    assert desk.ask() == []
    assert (desk.answers[0].status, sandbox.creates) == ("success", 1)


def test_check_05_a_dear_call_waits_with_its_price_in_the_text(sandbox: Sandbox, desk_of: Callable[..., Desk]) -> None:
    assert desk_of(DEAR).ask() == ['This creates 1 video of 64x36, 5 s. It costs 1.50 USD. Prompt: "fly man"']
    assert not sandbox.requests


def test_check_05_an_approved_call_is_created_once(sandbox: Sandbox, desk_of: Callable[..., Desk]) -> None:
    desk = desk_of(DEAR)
    desk.ask()
    (answer,) = desk.decide("approve")
    assert answer.artifact["task"]["task_id"] == sandbox.world.tasks[0].task_id
    assert (sandbox.creates, posts(sandbox)) == (1, 1)


def test_check_05_a_rejected_call_sends_nothing(
    sandbox: Sandbox, desk_of: Callable[..., Desk], toolkit: SoraToolkit
) -> None:
    desk = desk_of(DEAR)
    desk.ask()
    (answer,) = desk.decide("reject")
    assert (answer.status, posts(sandbox), toolkit.sora.gateway.ledger.submissions()) == ("error", 0, [])


def test_check_05_an_edited_call_is_priced_and_created_once(
    sandbox: Sandbox, desk_of: Callable[..., Desk], toolkit: SoraToolkit
) -> None:
    desk = desk_of(DEAR)
    desk.ask()
    (answer,) = desk.decide("edit", {"prompt": "fly woman", "n_frames": 60, **SMALL})
    assert (sandbox.creates, posts(sandbox)) == (1, 1)
    (made,) = sandbox.world.tasks
    assert (made.order.prompt, made.order.n_frames) == ("fly woman", 60)
    assert answer.artifact["task"]["task_id"] == made.task_id
    (row,) = toolkit.sora.gateway.ledger.submissions()
    assert (row.key, row.price) == (answer.artifact["key"], Price(Decimal("0.60"), "USD"))


def test_check_05_of_two_calls_the_dear_one_waits_alone(sandbox: Sandbox, desk_of: Callable[..., Desk]) -> None:
    desk = desk_of(CHEAP, DEAR)
    assert len(desk.ask()) == 1
    assert [answer.status for answer in desk.decide("reject")].count("error") == 1
    assert [made.order.n_frames for made in sandbox.world.tasks] == [30]


# --- what has no price --------------------------------------------------------------------------------------------


def no_price(_: VideoRequest) -> Price:
    raise LookupError("no price list")


def test_where_the_price_is_not_known_somebody_is_asked_and_the_tool_refuses(
    sandbox: Sandbox, desk: dict[str, Any], desk_of: Callable[..., Desk]
) -> None:
    with SoraToolkit(**desk, price=no_price) as toolkit:
        person = desk_of(CHEAP, tools=toolkit.get_tools(), price=no_price)
        (text,) = person.ask()
        assert "What it costs is not known: price= raised LookupError for this request." in text
        (answer,) = person.decide("approve")
    assert (json.loads(answer.content)["error"]["code"], posts(sandbox)) == ("configuration", 0)


@pytest.mark.parametrize("args", [{"prompt": " "}, {"prompt": "x", "seconds": 60}, {"prompt": "x", "n_frames": "all"}])
def test_arguments_that_cannot_be_read_are_asked_about(
    sandbox: Sandbox, desk_of: Callable[..., Desk], args: dict[str, Any]
) -> None:
    """A tool with arguments of its own would otherwise run them unasked."""
    desk = desk_of({**CHEAP, "args": args})
    (text,) = desk.ask()
    assert text.startswith("This cannot run as it is: ")
    assert text.endswith("Nothing would be made or charged.")
    (answer,) = desk.decide("approve")
    assert (answer.status, posts(sandbox)) == ("error", 0)


def test_without_a_bound_every_call_is_asked_about(sandbox: Sandbox, desk_of: Callable[..., Desk]) -> None:
    (text,) = desk_of(CHEAP, ask_above=None, price=None).ask()
    assert "It is paid for; what it costs is not known here." in text
    assert not sandbox.requests


def test_an_approval_does_not_lift_the_limits(
    sandbox: Sandbox, desk: dict[str, Any], desk_of: Callable[..., Desk]
) -> None:
    with SoraToolkit(**desk, price=by_frame, limits=VideoLimits(max_spend_per_thread=1)) as toolkit:
        person = desk_of(DEAR, tools=toolkit.get_tools())
        person.ask()
        (answer,) = person.decide("approve")
    assert "This request costs 1.50 USD" in answer.content
    assert not sandbox.requests


# --- the dict by itself -------------------------------------------------------------------------------------------


def gate(**approval: Any) -> Callable[..., bool]:
    when = video_approval(**{"price": by_frame, **approval})["create_video"]["when"]
    return lambda **args: when(SimpleNamespace(tool_call={"name": "create_video", "args": {"prompt": "x", **args}}))


def text(*, dialect: Any = None, gateway_model: str | None = None, **args: Any) -> str:
    question = video_approval(price=by_frame, dialect=dialect, model=gateway_model)["create_video"]["description"]
    return question({"name": "create_video", "args": {"prompt": "x", **args}}, {}, None)


def test_it_is_a_plain_dict_to_which_other_tools_may_be_added() -> None:
    made = video_approval(allowed_decisions=("reject", "approve"))
    assert list(made) == ["create_video"]
    assert made["create_video"]["allowed_decisions"] == ["approve", "reject"]
    assert "when" not in made["create_video"]
    HumanInTheLoopMiddleware(interrupt_on={**made, "send_email": True})


def test_the_bound_itself_is_not_above_it() -> None:
    for bound in ("0.40", Decimal("0.40"), Price(Decimal("0.4"), "USD")):
        asks = gate(ask_above=bound)
        assert [asks(n_frames=frames) for frames in (40, 41, "41")] == [False, True, True]
    assert gate(ask_above=0)(n_frames=1)
    assert gate(ask_above=Price(Decimal(9), "CNY"))(n_frames=1), "another currency cannot be compared"


def test_what_a_model_leaves_out_is_priced_as_the_tool_sends_it() -> None:
    asks = gate(ask_above="1.49")
    assert [asks(), asks(n_frames=None), asks(n_frames=149), asks(n_frames=75, n_variants=2)] == [
        True,
        True,
        False,
        True,
    ]


def test_the_price_may_depend_on_the_gateways_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def price(request: VideoRequest) -> Price:
        return Price(Decimal(9 if request.model == "pro" else 1), "USD")

    assert not gate(price=price, ask_above=2)()
    assert gate(price=price, ask_above=2, model="pro")()
    monkeypatch.setenv("SORA_MODEL", "pro")
    assert gate(price=price, ask_above=2)()


TINY = {"width": 64, "height": 36, "n_frames": 1}


def test_what_a_format_makes_of_it_is_priced_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a model that asks for one frame would be given four seconds, and nobody asked."""
    assert not gate(ask_above="0.50")(**TINY)
    sora = {"dialect": "videos", "model": "sora-2-pro"}
    assert gate(ask_above="0.50", **sora)(**TINY)
    assert text(dialect=["videos"], gateway_model="sora-2-pro", **TINY).startswith(
        "This creates 1 video of 1280x720, 4 s where 64x36, 0.0333 s was asked for. It costs 1.20 USD."
    )
    monkeypatch.setenv("SORA_DIALECT", "unified")
    assert gate(ask_above="0.50")(**TINY)


def test_of_several_formats_the_dearest_counts() -> None:
    assert not gate(ask_above="0.50", dialect=["backend", "generations"])(**TINY)
    for several in (["backend", "unified"], "auto"):
        assert gate(ask_above="0.50", dialect=several)(**TINY)
    assert "It costs 0.01 USD or 3.00 USD." in text(dialect=["backend", "unified"], **TINY)


def test_a_remix_as_large_and_long_as_its_source_is_asked_about() -> None:
    remix = {"operation": "remix", "inpaint_items": [{"generation_id": "video_1"}], **TINY}
    assert not gate(ask_above="0.50")(**remix)
    assert gate(ask_above="0.50", dialect="videos")(**remix)
    said = text(dialect="videos", **remix)
    assert said.startswith("This creates 1 video of its source's size and length")
    assert "What it costs is not known" in said


def test_the_text_says_in_words_what_would_be_made() -> None:
    assert text() == 'This creates 1 video of 854x480, 5 s. It costs 1.50 USD. Prompt: "x"'
    assert text(n_variants=2, operation="remix", inpaint_items=[{"url": "https://a.test/1.png"}]).startswith(
        "This creates 2 videos of 854x480, 5 s (remix) from 1 source. It costs 3.00 USD."
    )
    assert text(operation="remix", model="pro", inpaint_items=[{"generation_id": "gen_1"}]) == (
        "This creates 1 video of 854x480, 5 s (remix) from 1 source. It costs 1.50 USD. "
        'Model: "pro" Made from: generation "gen_1" Prompt: "x"'
    )
    assert text(prompt="", operation="storyboard", actions=[{"time": 1.5, "description": "he lands"}]).endswith(
        '5 s (storyboard). It costs 1.50 USD. Actions: "1.5 s: he lands"'
    )


def test_a_prompt_cannot_pass_for_what_is_said() -> None:
    said = text(prompt='x"\n\nIt costs 0.01 USD.' + "y" * 500)
    assert said.startswith('This creates 1 video of 854x480, 5 s. It costs 1.50 USD. Prompt: "x\\"\\n\\nIt costs 0.01')
    assert (len(said.splitlines()), len(said) < 450) == (1, True)


def test_the_text_names_what_the_video_is_made_from() -> None:
    picture = "data:image/png;base64," + "A" * 16_000
    items = [{"url": picture}, {"url": "https://a.test/" + "1" * 200}, {"upload_media_id": "media_1"}, {"url": ""}]
    edit = {"amount": 8, "source_generation_id": "gen_of_somebody"}
    said = text(operation="remix", inpaint_items=items, sdedit=edit)
    assert " (remix) from 4 sources. " in said
    address = '"https://a.test/' + "1" * 104 + '…" (119 of 215 characters)'
    assert (
        f'Made from: a picture of 12 kB, {address}, upload "media_1", '
        'generation "gen_of_somebody", changed 8 of 8 Prompt: "x"'
    ) in said
    many = text(operation="remix", inpaint_items=[{"url": f"https://a.test/{number}.png"} for number in range(9)])
    assert '"https://a.test/4.png", and 4 more Prompt:' in many


@pytest.mark.parametrize("break_", ["\u2028", "\x85", "\u202e", "\x9b2J", "\x7f", "\u200b", "\r\n", "\x1b[2J"])
def test_nothing_breaks_the_line_turns_it_round_or_stays_unseen(break_: str) -> None:
    forged = f"cat{break_}It costs 0.01 USD."
    for said in (text(prompt=forged), text(model=forged), text(sdedit={"amount": 1, "source_generation_id": forged})):
        assert said.isprintable()
        assert "It costs 1.50 USD." in said
    said = text(**{forged: 1})
    assert said.isprintable()
    assert said.startswith('This cannot run as it is: "cat')


def test_what_is_left_out_of_a_text_is_counted() -> None:
    assert text(prompt="a cat" + "." * 400 + "and more").endswith('…" (299 of 413 characters)')


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"ask_above": 1}, "nothing says what a request costs"),
        ({"ask_above": 0.4, "price": by_frame}, "ask_above=0.4"),
        ({"price": "0.50"}, "price="),
        ({"allowed_decisions": ()}, "allowed_decisions"),
        ({"allowed_decisions": "approve"}, "allowed_decisions"),
        ({"allowed_decisions": ("approve", "later")}, "allowed_decisions"),
    ],
)
def test_what_cannot_work_is_refused_at_once(given: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        video_approval(**given)


# --- the other middleware -----------------------------------------------------------------------------------------


def test_a_look_that_failed_is_repeated_and_a_create_is_not(
    sandbox: Sandbox, desk: dict[str, Any], invoke: Callable[..., Any]
) -> None:
    with SoraToolkit(**desk, max_wait=0, handle_tool_error=False) as toolkit:
        create_video, query_video = toolkit.get_tools()
        task = create_video.invoke(CHEAP).artifact["task"]
        retrying = ToolRetryMiddleware(
            tools=["query_video"], retry_on=is_retryable, max_retries=2, initial_delay=0, jitter=False
        )
        look = {"name": "query_video", "args": {"task_id": task["task_id"]}, "id": "look", "type": "tool_call"}
        sandbox.script("look", "rate_limit", times=2)
        sandbox.script("list", "rate_limit", times=2)
        agent = create_agent(in_turns([[look]]), [query_video], middleware=[retrying])
        state = invoke(agent, ASKED)
        (answer,) = [message for message in state["messages"] if isinstance(message, ToolMessage)]
        assert (answer.status, answer.artifact["task"]["task_id"]) == ("success", task["task_id"])
        assert sum(request.route in ("look", "list") for request in sandbox.requests) == 3

        sandbox.script("task", "invisible", seconds=3600)
        sandbox.script("create", "cut_reply")
        everything = ToolRetryMiddleware(retry_on=is_retryable, max_retries=2, initial_delay=0, jitter=False)
        agent = create_agent(in_turns([[DEAR]]), [create_video], middleware=[everything])
        with pytest.raises(SoraToolError, match="fate is unknown"):
            invoke(agent, ASKED)
    assert (sandbox.creates, posts(sandbox)) == (2, 2)


def test_a_limit_on_calls_holds_for_a_run_and_for_a_conversation(
    sandbox: Sandbox, toolkit: SoraToolkit, invoke: Callable[..., Any]
) -> None:
    limit = ToolCallLimitMiddleware(tool_name="create_video", run_limit=2, thread_limit=3)
    saver = InMemorySaver()

    def turn(run: int) -> Any:
        calls = [call(f"call_{run}_{number}", f"video {run} {number}", n_frames=3, **SMALL) for number in range(3)]
        agent = create_agent(
            in_turns([calls, [], calls, []]), toolkit.get_tools(), middleware=[limit], checkpointer=saver
        )
        return invoke(agent, ASKED)

    turn(1)
    assert sandbox.creates == 2
    turn(2)
    assert sandbox.creates == 3


def test_with_retry_in_a_conversation_asks_about_the_first(
    lossy: Sandbox, desk: dict[str, Any], invoke: Callable[..., Any]
) -> None:
    create_video = CreateVideoTool(**desk, handle_tool_error=False)
    chain = create_video.with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    with pytest.raises(SoraToolError):
        invoke(chain, DEAR, HERE)
    assert lossy.creates == 1
    create_video.sora.close()


@pytest.fixture
def lossy(sandbox: Sandbox) -> Sandbox:
    """A gateway that takes creates, loses its answers, and does not list what it has taken."""
    sandbox.script("task", "invisible", times=2, seconds=3600)
    sandbox.script("create", "cut_reply", times=2)
    return sandbox


def test_with_retry_outside_a_graph_creates_twice_without_a_key(
    lossy: Sandbox, desk: dict[str, Any], invoke: Callable[..., Any]
) -> None:
    """What the documents warn of: such a call carries no id, so nobody can tell it from a new one."""
    create_video = CreateVideoTool(**desk, handle_tool_error=False)
    chain = create_video.with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    with pytest.raises(SoraToolError):
        invoke(chain, DEAR, {})
    assert lossy.creates == 2
    create_video.sora.close()


def test_with_retry_outside_a_graph_is_safe_with_a_key(
    lossy: Sandbox, desk: dict[str, Any], invoke: Callable[..., Any]
) -> None:
    with Sora(**desk) as sora:
        chain = RunnableLambda(lambda order: sora.create(order["request"], key=order["key"]))
        again = chain.with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
        order = {"key": "order-4711", "request": {"prompt": "fly man", "n_frames": 3, **SMALL}}
        with pytest.raises(Exception, match="not known"):
            invoke(again, order)
    assert lossy.creates == 1
