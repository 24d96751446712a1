"""The tools as LangChain runs them: alone, in an agent, under retry layers, in both colours. All offline."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from by_hand import Play, html, reply
from fake_gateway import KEY, MP4, PROMPT, VIDEO, FakeGateway, accepted, call, task
from langchain.agents import create_agent
from langchain.agents.middleware import ToolRetryMiddleware
from langchain_core.load import dumps
from langchain_core.messages import ToolMessage
from langchain_core.tools import ToolException
from langgraph.errors import GraphInterrupt
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy
from scripted_model import scripted

from sora_tools import (
    AsyncSora,
    BusyError,
    ConfigurationError,
    CreateVideoTool,
    Generation,
    NotSentError,
    QueryVideoTool,
    Retry,
    Sora,
    SoraError,
    SoraToolError,
    SoraToolkit,
    SubmissionUnknownError,
    VideoRequest,
    VideoTask,
)
from sora_tools.flow import Gateway
from sora_tools.tools.answers import of_created, of_error, of_looked
from sora_tools.tools.shared import Place

PAGE = "<!doctype html><title>panel</title>"


Invoke = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def invoke(request: pytest.FixtureRequest) -> Invoke:
    """``runnable.invoke``, in both colours."""
    if request.param == "sync":
        return lambda runnable, *given: runnable.invoke(*given)
    return lambda runnable, *given: asyncio.run(runnable.ainvoke(*given))


# --- in an agent -------------------------------------------------------------------------------------------------

REFUSED = {"error": {"message": "Your prompt violates our content policy.", "code": "content_policy_violation"}}
LIMITED = httpx.Response(429, json={"error": {"message": "rate limit", "code": "rate_limit_exceeded"}})
FATES = {
    "success": (accepted(), None, None, 1),
    "401": (httpx.Response(401, json={"error": {"message": "Incorrect API key"}}), "authentication", "no", 1),
    "moderation": (httpx.Response(400, json=REFUSED), "invalid_request", "no", 1),
    "429": (LIMITED, "busy", "no", 3),
    "503": (httpx.Response(503, headers={"retry-after": "0"}, json={"error": {"message": "later"}}), "busy", "no", 3),
    "500": (httpx.Response(500, json={"error": {"message": "boom"}}), "submission_unknown", "unknown", 1),
    "html": (httpx.Response(200, html=PAGE), "submission_unknown", "unknown", 3),
    "404": (httpx.Response(404, html="404 page not found"), "endpoint_unavailable", "no", 3),
    "bad json": (httpx.Response(200, content=b'{"id": "task_'), "submission_unknown", "unknown", 1),
    "wrong shape": (httpx.Response(200, json=["task_1"]), "submission_unknown", "unknown", 1),
    "empty object": (httpx.Response(200, json={}), "submission_unknown", "unknown", 1),
    "connect error": (httpx.ConnectError("refused"), "not_sent", "no", 3),
    "read timeout": (httpx.ReadTimeout("late"), "submission_unknown", "unknown", 1),
}


@pytest.mark.parametrize("fate", FATES)
def test_check_03_whatever_the_gateway_does_the_agent_goes_on(invoke, fate):
    answer, code, charged, sends = FATES[fate]
    gateway = FakeGateway(answer)
    with SoraToolkit(**gateway.settings()) as toolkit:
        agent = create_agent(scripted([("create_video", PROMPT)]), toolkit.get_tools())
        messages = invoke(agent, {"messages": [("user", "make it")]})["messages"]
    (message,) = [message for message in messages if isinstance(message, ToolMessage)]
    assert messages[-1].text == "done"
    assert len(gateway.sent) == sends
    assert len(message.content.splitlines()) == 1
    content = json.loads(message.content)
    assert KEY not in message.content
    if code is None:
        assert message.status == "success"
        assert (content["task_id"], content["status"], content["progress"]) == ("task_1", "queued", 0)
        return
    error = content["error"]
    assert message.status == "error"
    assert (error["code"], error["charged"]) == (code, charged)
    assert error["message"]
    if charged != "no":
        assert error["retryable"] is False
        assert error["key"]
        assert "again" not in message.content.lower().replace("do not create it again", "")


def test_clients_of_two_gateways_are_not_one_pair(tmp_path):
    one, other = FakeGateway().settings(), FakeGateway().settings()
    with pytest.raises(ConfigurationError, match="do not share a gateway"):
        SoraToolkit(sora=Sora(**one), async_sora=AsyncSora(**other))


def test_every_answer_of_unknown_charge_says_to_query_its_key():
    for error in (BusyError("Under way.", charged="unknown", key="k"), SubmissionUnknownError("Lost.", key="k")):
        assert "do not call create_video" in json.loads(of_error(SoraToolError(error)))["next"]


def test_a_wrong_setting_is_for_the_user_to_hear_and_for_no_tool_to_try_again():
    error = ConfigurationError("The ledger cannot be opened.", charged="unknown", key="k")
    told = json.loads(of_error(SoraToolError(error)))["next"]
    assert "Tell the user" in told
    assert "query_video" not in told


def test_a_list_says_what_has_ended_and_where_it_was_saved(invoke, sandbox, tmp_path):
    with SoraToolkit(base_url=sandbox.base_url, api_key="any", download_dir=tmp_path) as toolkit:
        create, query = toolkit.get_tools()
        task_id = invoke(create, call("create_video", prompt="fly man", width=64, height=36, n_frames=3)).artifact[
            "task"
        ]["task_id"]
        while invoke(query, call("query_video", task_id=task_id)).artifact["task"]["status"] != "succeeded":
            pass
        (listed,) = json.loads(invoke(query, {}))["tasks"]
        asyncio.run(toolkit.async_sora.close())
    assert listed["status"] == "succeeded"
    assert [Path(file).parent for file in listed["files"]] == [tmp_path]


def test_broken_arguments_come_back_and_nothing_is_sent(invoke):
    gateway = FakeGateway()
    with SoraToolkit(**gateway.settings()) as toolkit:
        agent = create_agent(scripted([("create_video", {"seconds": 4})]), toolkit.get_tools())
        messages = invoke(agent, {"messages": [("user", "make it")]})["messages"]
    error = json.loads(messages[-2].content)["error"]
    assert messages[-2].status == "error"
    assert (error["code"], error["charged"]) == ("invalid_request", "no")
    assert "prompt: nothing was given" in error["message"]
    assert "seconds: there is no such field" in error["message"]
    assert not gateway.requests


def test_create_then_query_to_a_file(invoke, tmp_path):
    gateway = FakeGateway(tasks=[task()])
    calls = [("create_video", PROMPT), ("query_video", lambda last: {"task_id": json.loads(last.content)["task_id"]})]
    with SoraToolkit(**gateway.settings(), download_dir=tmp_path) as toolkit:
        agent = create_agent(scripted(calls), toolkit.get_tools())
        messages = invoke(agent, {"messages": [("user", "make it")]})["messages"]
    content = json.loads(messages[-2].content)
    (video,) = content["videos"]
    assert video == {
        "url": VIDEO,
        "width": 854,
        "height": 480,
        "duration": 5.0,
        "file": str(*tmp_path.iterdir()),
    }
    assert Path(video["file"]).read_bytes() == MP4
    assert len(gateway.sent) == 1


# --- answers -----------------------------------------------------------------------------------------------------


def looked(invoke: Invoke, gateway: FakeGateway, task_id: str = "task_1", **settings: Any) -> ToolMessage:
    with SoraToolkit(**gateway.settings(), **{"max_wait": 0, **settings}) as toolkit:
        message = invoke(toolkit.get_tools()[1], call("query_video", task_id=task_id))
    assert len(message.content.splitlines()) == 1
    return message


def test_create_answers_what_to_do_next(invoke):
    message = invoke(CreateVideoTool(**FakeGateway().settings()), call("create_video", **PROMPT))
    content = json.loads(message.content)
    assert set(content) == {"task_id", "status", "progress", "next"}
    assert "query_video" in content["next"]
    assert message.artifact["key"]
    assert message.artifact["reused"] is False


def test_hints_say_what_the_page_does_not(invoke):
    arguments = {**PROMPT, "operation": "remix", "actions": [{"time": 1, "description": "he lands"}]}
    message = invoke(CreateVideoTool(**FakeGateway().settings()), call("create_video", **arguments))
    assert len(json.loads(message.content)["hints"]) == 2


def test_a_task_under_way(invoke):
    gateway = FakeGateway(tasks=[task("running", queue_position=None)])
    content = json.loads(looked(invoke, gateway).content)
    assert (content["status"], content["progress"]) == ("running", 0.4)
    assert "do not create it again" in content["next"]
    assert "videos" not in content


def test_a_wait_that_ends_too_early_is_an_answer(invoke):
    # Waits 10 ms for real.
    message = looked(invoke, FakeGateway(tasks=[task("running")]), max_wait=0.01)
    assert message.status == "success"
    assert json.loads(message.content)["status"] == "running"


def test_a_wait_that_ends_before_the_gateway_shows_the_task_is_an_answer(invoke):
    # Waits 10 ms for real.
    create_video, query_video = SoraToolkit(**FakeGateway().settings(), max_wait=0.01).get_tools()
    task_id = invoke(create_video, call("create_video", **PROMPT)).artifact["task"]["task_id"]
    message = invoke(query_video, call("query_video", task_id=task_id))
    assert (message.status, json.loads(message.content)["status"]) == ("success", "queued")


def test_a_task_that_nobody_knows(invoke):
    # Waits 10 ms for real.
    for max_wait in (0, 0.01):
        message = looked(invoke, FakeGateway(), max_wait=max_wait)
        error = json.loads(message.content)["error"]
        assert message.status == "error"
        assert error["code"] == "task_not_found"
        assert error["task_id"] == "task_1"


def test_a_failed_task_is_an_answer(invoke):
    failed = task("failed", failure_reason=f"content policy; {KEY}")
    message = looked(invoke, FakeGateway(tasks=[failed]))
    content = json.loads(message.content)
    assert message.status == "success"
    assert content["status"] == "failed"
    assert content["error"]["code"] == "task_failed"
    assert (content["error"]["charged"], content["error"]["retryable"]) == ("yes", False)
    assert content["error"]["kind"]
    assert "Do not create it again unchanged" in content["next"]
    assert KEY not in message.content + json.dumps(message.artifact)


def test_an_address_at_the_gateway_is_told_whole(invoke):
    generations = [{"id": "gen_1", "url": "/media/gen_1.mp4"}]
    (video,) = json.loads(looked(invoke, FakeGateway(tasks=[task(generations=generations)])).content)["videos"]
    assert video["url"] == "https://gateway.test/media/gen_1.mp4"


def test_only_public_addresses_are_told():
    data = "data:image/png;base64,AAAABBBB"
    public = Generation(url="https://videos.test/b.mp4", thumbnail_url=data)
    inner = Generation(url="/v1/videos/1/content", encodings={"md": data})
    content, artifact = of_looked(finished(inner, public), KEY, None)
    first, second = json.loads(content)["videos"]
    assert (first, second) == ({}, {"url": "https://videos.test/b.mp4"})
    assert "AAAABBBB" not in json.dumps(artifact)
    content, _ = of_looked(finished(inner), KEY, None)
    assert "not public" in json.loads(content)["next"]


def test_a_gateway_that_asks_for_patience_gets_it():
    waiting = VideoTask(task_id="task_1", status="running", poll_after=90.0, queue_position=3)
    content = json.loads(of_looked(waiting, KEY, None)[0])
    assert "about 90 s" in content["next"]
    assert content["queue_position"] == 3


def test_a_create_that_was_accepted_before_says_so():
    content, artifact = of_created(finished(), VideoRequest(prompt="fly man"), "key_1", KEY, reused=True)
    assert json.loads(content)["reused"] is True
    assert (artifact["key"], artifact["reused"]) == ("key_1", True)


def finished(*generations: Generation) -> VideoTask:
    return VideoTask(task_id="task_1", status="succeeded", generations=generations)


def test_a_video_that_cannot_be_saved_is_still_finished(invoke, tmp_path):
    gateway = FakeGateway(tasks=[task()], video=httpx.Response(403))
    message = looked(invoke, gateway, download_dir=tmp_path)
    content = json.loads(message.content)
    assert message.status == "success"
    assert content["status"] == "succeeded"
    assert content["videos"][0]["url"] == VIDEO
    assert (content["error"]["code"], content["error"]["charged"]) == ("download_failed", "yes")
    assert "Do not create it again" in content["next"]
    assert message.artifact["task"]["status"] == "succeeded"


def test_a_folder_that_cannot_be_made_is_still_finished(invoke, tmp_path):
    (tmp_path / "taken").write_text("a file")
    content = json.loads(looked(invoke, FakeGateway(tasks=[task()]), download_dir=tmp_path / "taken").content)
    assert content["status"] == "succeeded"
    assert (content["error"]["code"], content["error"]["charged"]) == ("download_failed", "yes")


@pytest.mark.parametrize("status", ["queued", "running", "succeeded", "failed", "cancelled", "grilling"])
def test_check_08_artifacts_are_plain_json(invoke, status):
    message = looked(invoke, FakeGateway(tasks=[task(status, title="逃跑\u2028\ud800")]))
    assert json.loads(json.dumps(message.artifact)) == message.artifact
    assert (message.artifact["type"], message.artifact["version"]) == ("sora_video", 1)
    assert "raw" not in message.artifact["task"]
    json.dumps(message.artifact, ensure_ascii=False).encode()
    message.content.encode()


def test_words_beyond_ascii_stay_readable(invoke):
    failed = task("failed", failure_reason="提示词违规\u2028")
    assert "提示词违规" in looked(invoke, FakeGateway(tasks=[failed])).content


# --- time --------------------------------------------------------------------------------------------------------


def by_hand(tool: Any, gateway: Gateway) -> Any:
    """The tool over a gateway whose clock only a test moves."""
    tool.sora.gateway.clock = tool.sora.gateway.now = gateway.clock
    return tool


def test_the_longest_wait_leaves_time_for_the_rest(gateway, clock):
    query = by_hand(QueryVideoTool(**FakeGateway().settings(), max_wait=45), gateway)
    start = clock()
    play = Play(clock, posts=[], news=[VideoTask(task_id="task_1", status="running")])
    content, _ = play.run(query._conversation([], Place(None, None, None), "task_1"))
    assert json.loads(content)["status"] == "running"
    assert 35 < clock() - start < 45


@pytest.mark.parametrize("fate", ["404", "429", "html", "connect"])
def test_a_create_spends_45_seconds_at_most(gateway, clock, fate):
    answers = {
        "404": reply(404, "404 page not found", content_type="text/html"),
        "429": reply(429, {"error": {"message": "rate limit"}}, retry_after="9"),
        "html": html(),
        "connect": NotSentError("refused"),
    }
    create = by_hand(CreateVideoTool(**FakeGateway().settings(retry=Retry(attempts=99, budget=600))), gateway)
    start = clock()
    play = Play(clock, posts=[answers[fate]], lists=[reply(200, {"task_responses": []})])
    with pytest.raises(SoraError):
        play.run(create._conversation([], Place(None, None, None), "fly man"))
    assert play.posts > 1
    assert 0 < clock() - start <= 45


# --- lists -------------------------------------------------------------------------------------------------------


def test_without_an_id_it_lists_this_conversation(invoke):
    gateway = FakeGateway(accepted("task_1"), accepted("task_2"), httpx.ReadTimeout("late"))
    here, there = ({"configurable": {"thread_id": thread}} for thread in ("here", "there"))
    with SoraToolkit(**gateway.settings()) as toolkit:
        create, query = toolkit.get_tools()
        assert json.loads(invoke(query, {}, here))["tasks"] == []
        invoke(create, {"prompt": "long " * 40}, here)
        invoke(create, PROMPT, there)
        invoke(create, PROMPT, here)
        message = invoke(query, call(query), here)
        page = json.loads(invoke(query, {"limit": 1}, here))
        rest = json.loads(invoke(query, {"before": page["before"]}, here))
    content = json.loads(message.content)
    unsure, first = content["tasks"]
    assert (unsure["state"], "task_id" in unsure, bool(unsure["key"])) == ("unsure", False, True)
    assert (first["task_id"], first["state"], len(first["prompt"])) == ("task_1", "accepted", 80)
    assert "do not create them again" in content["next"]
    assert message.artifact["type"] == "sora_video_list"
    assert page["tasks"] + rest["tasks"] == content["tasks"]


def test_the_operator_may_show_the_account(invoke):
    gateway = FakeGateway(tasks=[task("running", prompt="other people's " * 20)])
    with SoraToolkit(**gateway.settings(), list_account=True) as toolkit:
        content = json.loads(invoke(toolkit.get_tools()[1], {}))
    (listed,) = content["tasks"]
    assert (listed["task_id"], listed["status"], len(listed["prompt"])) == ("task_1", "running", 80)


# --- what reaches the gateway --------------------------------------------------------------------------------------

ASKED = [
    PROMPT,
    {"prompt": "跑", "width": "1280", "height": 720.0, "n_frames": 300, "n_variants": 2},
    {**PROMPT, "inpaint_items": [{"url": "https://images.test/a.png", "frame_index": 0, "generation_id": ""}]},
    {**PROMPT, "operation": "storyboard", "actions": [{"time": 1, "description": "he lands"}]},
    {**PROMPT, "operation": "remix", "sdedit": [{"amount": 3, "source_generation_id": "gen_0"}]},
]


@pytest.mark.parametrize("arguments", ASKED, ids=["plain", "numbers", "image", "storyboard", "remix"])
def test_check_15_both_colours_send_the_same_bytes(arguments):
    gateway = FakeGateway()
    with SoraToolkit(**gateway.settings()) as toolkit:
        create, _ = toolkit.get_tools()
        create.invoke(arguments)
        asyncio.run(create.ainvoke(arguments))
    first, second = gateway.requests
    assert first.content == second.content
    own = ("idempotency-key",)
    assert [item for item in first.headers.items() if item[0] not in own] == [
        item for item in second.headers.items() if item[0] not in own
    ]
    assert (first.method, first.url) == (second.method, second.url)


def test_a_prompt_alone_is_enough(invoke):
    gateway = FakeGateway()
    invoke(CreateVideoTool(**gateway.settings()), "fly man")
    assert json.loads(gateway.sent[0]) == VideoRequest(prompt="fly man").body()


@pytest.mark.parametrize(
    ("operators", "given", "sent"), [(None, "turbo", "turbo"), ("pro", "pro", "pro"), ("pro", "", "pro")]
)
def test_the_model_is_the_operators(invoke, operators, given, sent):
    gateway = FakeGateway()
    invoke(CreateVideoTool(**gateway.settings(model=operators)), {**PROMPT, "model": given})
    assert json.loads(gateway.sent[0])["model"] == sent


@pytest.mark.parametrize(("operators", "given"), [("pro", "turbo"), (None, "pro"), (None, "sora-16:9-1080p-20s")])
def test_another_model_is_refused(invoke, operators, given):
    """Or a model could buy from the gateway's whole list what the operator never priced."""
    gateway = FakeGateway()
    tool = CreateVideoTool(**gateway.settings(model=operators))
    error = json.loads(invoke(tool, {**PROMPT, "model": given}))["error"]
    assert f"{given!r} was given" in error["message"]
    assert (error["code"], error["charged"]) == ("invalid_request", "no")
    assert not gateway.sent


def test_check_09_one_tool_serves_loop_after_loop():
    gateway = FakeGateway(tasks=[task()])
    with SoraToolkit(**gateway.settings(), max_wait=1) as toolkit:
        _, query = toolkit.get_tools()
        for _ in range(2):
            assert json.loads(asyncio.run(query.ainvoke({"task_id": "task_1"})))["status"] == "succeeded"


async def test_check_09_fifty_at_once_share_their_looks():
    gateway = FakeGateway(tasks=[task(task_id=f"task_{number}") for number in range(50)])
    async with SoraToolkit(**gateway.settings(), max_wait=1) as toolkit:
        _, query = toolkit.get_tools()
        answers = await asyncio.gather(*(query.ainvoke({"task_id": f"task_{number}"}) for number in range(50)))
    assert [json.loads(answer)["task_id"] for answer in answers] == [f"task_{number}" for number in range(50)]
    assert len(gateway.requests) < 10


async def test_check_09_fifty_creates_at_once_are_fifty():
    gateway = FakeGateway()
    async with SoraToolkit(**gateway.settings()) as toolkit:
        create, _ = toolkit.get_tools()
        await asyncio.gather(*(create.ainvoke(PROMPT) for _ in range(50)))
    assert len(gateway.sent) == 50


# --- what may not be retried -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "runs"), [(httpx.ReadTimeout("late"), 1), (httpx.ConnectError("refused"), 3)])
def test_retry_middleware_leaves_an_unknown_fate_alone(invoke, answer, runs):
    gateway = FakeGateway(answer)
    create = CreateVideoTool(**gateway.settings(retry=Retry(attempts=1)), handle_tool_error=False)
    retrying = ToolRetryMiddleware(max_retries=2, initial_delay=0, jitter=False, on_failure="error")
    agent = create_agent(scripted([("create_video", PROMPT)]), [create], middleware=[retrying])
    with pytest.raises(SoraToolError):
        invoke(agent, {"messages": [("user", "make it")]})
    assert len(gateway.sent) == runs


def test_a_retry_policy_leaves_an_unknown_fate_alone(invoke):
    gateway = FakeGateway(httpx.ReadTimeout("late"))
    create = CreateVideoTool(**gateway.settings(), handle_tool_error=False)
    graph = StateGraph(dict)
    graph.add_node("create", lambda _: {"made": create.invoke(PROMPT)}, retry_policy=RetryPolicy(initial_interval=0))
    graph.add_edge(START, "create")
    graph.add_edge("create", END)
    with pytest.raises(SoraToolError) as caught:
        invoke(graph.compile(), {})
    assert isinstance(caught.value.error, SubmissionUnknownError)
    assert caught.value.is_retryable is False
    assert len(gateway.sent) == 1


def test_an_unhandled_error_carries_ours(invoke):
    create = CreateVideoTool(**FakeGateway(LIMITED).settings(), handle_tool_error=False)
    with pytest.raises(SoraToolError) as caught:
        invoke(create, PROMPT)
    assert isinstance(caught.value.error, BusyError)
    assert caught.value.is_retryable is True
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.error.describe()) == (str(caught.value), caught.value.error.describe())


def test_somebody_elses_tool_exception_is_not_ours_to_word():
    with pytest.raises(ToolException, match="theirs"):
        of_error(ToolException("theirs"))


class BugError(Exception):
    pass


@pytest.mark.parametrize(
    "bug", [BugError("ours"), GraphInterrupt(()), KeyboardInterrupt()], ids=lambda bug: type(bug).__name__
)
def test_what_is_not_the_gateways_passes_through(bug):
    create = CreateVideoTool(**FakeGateway(bug).settings())
    with pytest.raises(type(bug)):
        create.invoke(PROMPT)


def test_an_interrupt_passes_through_both_colours(invoke):
    query = QueryVideoTool(**FakeGateway().settings(transport=httpx.MockTransport(_interrupting)), max_wait=0)
    with pytest.raises(GraphInterrupt):
        invoke(query, {"task_id": "task_1"})


def _interrupting(_: httpx.Request) -> httpx.Response:
    raise GraphInterrupt(())


async def test_a_cancelled_call_is_cancelled():
    async def hanging(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    settings = FakeGateway().settings(transport=httpx.MockTransport(hanging))  # type: ignore[arg-type]  # async is fine
    query = QueryVideoTool(**settings, max_wait=0)
    looking = asyncio.create_task(query.ainvoke({"task_id": "task_1"}))
    await asyncio.sleep(0.01)  # until it is on the wire
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    await query.async_sora.close()


def test_a_validation_error_inside_is_a_bug_and_not_an_argument(invoke):
    def broken(_: httpx.Request) -> httpx.Response:
        VideoRequest.model_validate({"prompt": 1})
        raise AssertionError("unreachable")

    create = CreateVideoTool(**FakeGateway().settings(transport=httpx.MockTransport(broken)))
    with pytest.raises(RuntimeError, match="bug in sora_tools"):
        invoke(create, PROMPT)


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CreateVideoTool, QueryVideoTool, SoraToolkit])
def test_missing_settings_say_what_to_do(kind):
    with pytest.raises(ConfigurationError, match="SORA_BASE_URL"):
        kind()
    with pytest.raises(ConfigurationError, match="SORA_API_KEY"):
        kind(base_url="https://gateway.test")


@pytest.mark.parametrize("max_wait", [-1, 45.1, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [QueryVideoTool, SoraToolkit])
def test_a_wait_has_bounds(kind, max_wait):
    with pytest.raises(ConfigurationError, match="0 to 45 seconds"):
        kind(**FakeGateway().settings(), max_wait=max_wait)


def test_settings_beside_a_client_are_refused():
    sora = Sora(**FakeGateway().settings())
    with pytest.raises(ConfigurationError, match="model"):
        CreateVideoTool(sora=sora, model="pro")
    assert CreateVideoTool(sora=sora).async_sora.gateway is sora.gateway


def test_a_misspelt_setting_is_refused():
    with pytest.raises(ValueError, match="max_wiat"):
        QueryVideoTool(**FakeGateway().settings(), max_wiat=3)
    with pytest.raises(TypeError, match="max_wiat"):
        SoraToolkit(**FakeGateway().settings(), max_wiat=3)


def test_tools_of_a_toolkit_share_their_clients():
    toolkit = SoraToolkit(**FakeGateway().settings())
    create, query = toolkit.get_tools()
    assert create.sora is query.sora is toolkit.sora
    assert create.async_sora is query.async_sora is toolkit.async_sora
    assert create.async_sora.gateway is create.sora.gateway


def test_a_closed_toolkit_says_so():
    toolkit = SoraToolkit(**FakeGateway().settings())
    create, _ = toolkit.get_tools()
    toolkit.close()
    toolkit.close()
    assert json.loads(create.invoke(PROMPT))["error"]["code"] == "configuration"


def test_copies_share_the_ledger():
    create = CreateVideoTool(**FakeGateway().settings())
    assert copy.deepcopy(create).sora is create.sora
    assert copy.copy(create).sora is create.sora


@pytest.mark.parametrize("kind", [CreateVideoTool, QueryVideoTool, SoraToolkit])
def test_the_key_stays_secret(kind):
    made = kind(**FakeGateway().settings(headers={"x-extra": KEY}))
    fields = made.model_dump() if kind is SoraToolkit else made.model_dump(exclude={"args_schema"})
    assert KEY not in f"{made!r} {made} {fields} {vars(made)} {dumps(made)}"


def test_a_key_that_the_gateway_quotes_is_masked(invoke):
    quoting = httpx.Response(401, json={"error": {"message": f"Incorrect API key provided: {KEY}"}})
    content = invoke(CreateVideoTool(**FakeGateway(quoting).settings()), PROMPT)
    assert KEY not in content
    assert "***" in content
