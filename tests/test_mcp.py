"""The tools as MCP clients meet them: the SDK's own client, in this process, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from mcp import Client, StdioServerParameters
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp_process import COMMAND, KEY, ROOT, Process, environment
from typer.testing import CliRunner

import sora_tools.mcp
from sora_tools import ConfigurationError, SoraToolkit, SQLiteLedger, cli
from sora_tools.ledger import digest
from sora_tools.mcp import server, tools
from sora_tools.media import probe

ONE_ERA = pytest.mark.parametrize("mode", ["auto", pytest.param("legacy", marks=pytest.mark.long)])
"""For what takes seconds: the protocol before the newest is left to the long tests."""

VIDEO = {"prompt": "fly man", "width": 64, "height": 36, "n_frames": 3}
PAGE = (ROOT / "docs" / "mcp.md").read_text()


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
async def toolkit(sandbox, ledger):
    """Makes toolkits over the sandbox and one ledger."""
    made = []

    def make(**settings: Any) -> SoraToolkit:
        made.append(SoraToolkit(base_url=sandbox.base_url, api_key=KEY, ledger=ledger, **settings))
        return made[-1]

    yield make
    for each in made:
        await each.aclose()


@pytest.fixture(params=["auto", "legacy"])
def mode(request):
    """The protocol of 2026, which knows no sessions, and the one before, which opens with a handshake."""
    return request.param


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, allowing nothing that it does not name."""
    if "properties" in schema:
        members = {name: closed(member) for name, member in schema["properties"].items()}
        return {**schema, "properties": members, "additionalProperties": False}
    return {**schema, "items": closed(schema["items"])} if "items" in schema else schema


async def call(client: Client, tool: str, arguments: dict[str, Any] | None = None, **how: Any) -> tuple[Any, bool]:
    """What a tool answered, held against its schema, and whether it is an error."""
    result = await client.call_tool(tool, arguments or {}, **how)
    (told,) = result.content
    assert json.loads(told.text) == result.structured_content
    assert "\n" not in told.text
    listed = await client.list_tools()
    (schema,) = (closed(each.output_schema) for each in listed.tools if each.name == tool)
    jsonschema.validate(result.structured_content, schema)
    return result.structured_content, result.is_error


async def create(client: Client, **more: Any) -> dict[str, Any]:
    told, is_error = await call(client, "create_video", {**VIDEO, **more})
    assert not is_error, told
    return told


async def until(true: Callable[[], Any]) -> None:
    while not true():  # noqa: ASYNC110  # a gateway in another thread sets no events
        await asyncio.sleep(0.02)


async def ended(sandbox, task_id: str) -> None:
    await until(lambda: sandbox.task(task_id)["status"] not in ("queued", "running"))


def posts(sandbox) -> int:
    return sum(request.method == "POST" for request in sandbox.requests)


async def time_out(client: Client, sandbox, arguments: dict[str, Any]) -> None:
    """A create that left, and whose client did not wait for its answer. One that did not leave in time is none."""
    sandbox.script("create", "slow", seconds=1.0)
    before = posts(sandbox)
    while posts(sandbox) == before:
        with pytest.raises(MCPError, match=r"[Tt]imed out"):
            await client.call_tool("create_video", arguments, read_timeout_seconds=0.2)


async def cancel(client: Client, sandbox, arguments: dict[str, Any]) -> None:
    """A create whose client cancels it when the gateway has been asked."""
    before = posts(sandbox)
    calling = asyncio.ensure_future(client.call_tool("create_video", arguments))
    await until(lambda: posts(sandbox) > before)
    calling.cancel()
    await asyncio.wait([calling])


# --- what is shown ------------------------------------------------------------------------------------------------


async def test_check_13_both_tools_are_listed_with_annotations_and_output_schemas(toolkit, mode):
    async with Client(server(toolkit()), mode=mode) as client:
        creating, querying = (await client.list_tools()).tools
    assert (creating.name, querying.name) == ("create_video", "query_video")
    hints = {tool.name: tool.annotations.model_dump(exclude_none=True, by_alias=True) for tool in (creating, querying)}
    assert hints["create_video"] == {
        "readOnlyHint": False,
        "destructiveHint": False,
        "idempotentHint": False,
        "openWorldHint": True,
    }
    assert hints["query_video"] == {
        "readOnlyHint": True,
        "destructiveHint": False,
        "idempotentHint": True,
        "openWorldHint": True,
    }
    for tool in (creating, querying):
        assert tool.title
        jsonschema.Draft202012Validator.check_schema(tool.output_schema)
        assert tool.output_schema["type"] == "object"


async def test_a_query_that_saves_files_is_not_called_read_only(toolkit, tmp_path):
    async with Client(server(toolkit(download_dir=tmp_path))) as client:
        assert (await client.list_tools()).tools[1].annotations.read_only_hint is False


async def test_arguments_and_words_are_those_of_the_langchain_tools(toolkit):
    kit = toolkit()
    async with Client(server(kit)) as client:
        shown = (await client.list_tools()).tools
    for tool, its in zip(kit.get_tools(), shown, strict=True):
        theirs = tool.tool_call_schema.model_json_schema()
        assert its.description == tool.description
        assert its.input_schema["properties"] == theirs["properties"]
        assert its.input_schema.get("required") == theirs.get("required")


# --- a video ------------------------------------------------------------------------------------------------------


async def test_check_13_a_video_is_created_queried_and_saved_with_structured_content(toolkit, sandbox, tmp_path, mode):
    async with Client(server(toolkit(download_dir=tmp_path / "videos")), mode=mode) as client:
        created = await create(client)
        assert created["status"] == "queued"
        told, is_error = await call(client, "query_video", {"task_id": created["task_id"]})
    assert (is_error, told["status"], told["task_id"]) == (False, "succeeded", created["task_id"])
    (video,) = told["videos"]
    assert video["url"].startswith(sandbox.base_url)
    info = probe(video["file"])
    assert (info.width, info.height, info.n_frames) == (64, 36, 3)
    assert sandbox.creates == 1


async def test_the_answers_are_those_of_the_langchain_tools(toolkit, sandbox):
    kit = toolkit()
    async with Client(server(kit)) as client:
        created = await create(client)
        await ended(sandbox, created["task_id"])
        told, _ = await call(client, "query_video", {"task_id": created["task_id"]})
    theirs = await kit.get_tools()[1].ainvoke({"task_id": created["task_id"]})
    signed = re.compile(r"\?[^\"]*")  # each look gets addresses of its own
    assert json.loads(signed.sub("", theirs)) == json.loads(signed.sub("", json.dumps(told)))


async def test_arguments_are_read_as_generously(toolkit, sandbox):
    given = {"width": "64", "height": 36.0, "n_frames": 3, "inpaint_items": "[]", "actions": None, "sdedit": ""}
    async with Client(server(toolkit())) as client:
        await create(client, **given)
    body = sandbox.requests[-1].body
    assert (body["width"], body["height"], body["inpaint_items"]) == (64, 36, [])


@pytest.mark.parametrize("ending", ["moderation_output", "no_output", "failed", "cancelled", "moderation_input"])
async def test_a_task_that_ended_without_a_video_is_an_answer_that_says_why(toolkit, sandbox, ending):
    sandbox.script("task", ending)
    async with Client(server(toolkit())) as client:
        created = await create(client)
        await ended(sandbox, created["task_id"])
        told, is_error = await call(client, "query_video", {"task_id": created["task_id"]})
    assert not is_error
    assert told["status"] in ("failed", "cancelled")
    assert told["error"]["charged"] == "yes"
    assert told["next"].startswith("Do not create it again unchanged.")


@pytest.mark.parametrize(
    ("ending", "status"), [("stuck", "running"), ("unknown_status", "unknown"), ("invisible", "queued")]
)
async def test_a_task_that_goes_on_is_an_answer_too(toolkit, sandbox, monkeypatch, ending, status):
    monkeypatch.setattr(sandbox.world, "speed", 6)
    sandbox.script("task", ending)
    async with Client(server(toolkit(max_wait=0))) as client:
        created = await create(client)
        await asyncio.sleep(0.3)
        told, is_error = await call(client, "query_video", {"task_id": created["task_id"]})
    assert (is_error, told["status"]) == (False, status)
    assert told["next"].startswith("Look again")


async def test_the_list_holds_what_the_conversation_created(toolkit, sandbox):
    sandbox.script("task", "invisible", times=2, seconds=3600)
    async with Client(server(toolkit())) as client:
        created = await create(client)
        sandbox.script("create", "reset", accept=False)
        lost, _ = await call(client, "create_video", {**VIDEO, "prompt": "swim man"})
        told, _ = await call(client, "query_video")
        assert [task.get("task_id") or task["key"] for task in told["tasks"]] == [
            lost["error"]["key"],
            created["task_id"],
        ]
        page, _ = await call(client, "query_video", {"limit": 1})
        older, _ = await call(client, "query_video", {"limit": 1, "before": page["before"]})
    assert [task["task_id"] for task in older["tasks"]] == [created["task_id"]]


async def test_the_accounts_list_too_where_the_operator_says_so(toolkit):
    async with Client(server(toolkit(list_account=True), lists=False)) as client:
        created = await create(client)
        told, _ = await call(client, "query_video")
    assert [task["task_id"] for task in told["tasks"]] == [created["task_id"]]


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("unauthorized", "authentication"),
        ("quota", "quota"),
        ("moderation", "invalid_request"),
        ("not_found", "endpoint_unavailable"),
        ("teapot", "invalid_request"),
    ],
)
@ONE_ERA
async def test_check_13_what_the_gateway_refuses_is_a_tool_error_in_our_words(toolkit, sandbox, mode, fault, code):
    sandbox.script("create", fault, times=None)
    async with Client(server(toolkit()), mode=mode) as client:
        told, is_error = await call(client, "create_video", VIDEO)
    assert is_error
    assert (told["error"]["code"], told["error"]["charged"]) == (code, "no")
    assert told["error"]["message"]
    assert sandbox.creates == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "prompt"),
        ({"prompt": " "}, "prompt: ' ' was given"),
        ({**VIDEO, "n_frames": 0}, "n_frames"),
        ({**VIDEO, "foo": 1}, "foo"),
        ({**VIDEO, "inpaint_items": [{"url": "file:///etc/passwd"}]}, "inpaint_items.0.url"),
    ],
)
async def test_arguments_that_break_a_rule_are_told_what_to_change(toolkit, sandbox, arguments, said):
    async with Client(server(toolkit())) as client:
        told, is_error = await call(client, "create_video", arguments)
    assert is_error
    assert said in told["error"]["message"]
    assert told["error"]["hint"].startswith("Nothing was started and nothing was charged.")
    assert sandbox.requests == ()


async def test_a_lost_reply_is_unknown_and_its_key_finds_the_task_later(toolkit, sandbox, monkeypatch):
    sandbox.script("task", "invisible", seconds=3600)
    sandbox.script("create", "reset")
    async with Client(server(toolkit())) as client:
        lost, is_error = await call(client, "create_video", VIDEO)
        assert (is_error, lost["error"]["code"], lost["error"]["charged"]) == (True, "submission_unknown", "unknown")
        assert "do not call create_video" in lost["next"]
        again, is_error = await call(client, "create_video", VIDEO)
        assert (is_error, again["error"]["key"]) == (True, lost["error"]["key"])
        monkeypatch.setattr(sandbox.world, "clock", lambda: time.time() + 3600)
        found, is_error = await call(client, "query_video", {"task_id": lost["error"]["key"]})
    assert (is_error, found["status"]) == (False, "succeeded")
    assert (sandbox.creates, posts(sandbox)) == (1, 1)


async def test_what_should_not_happen_does_not_invite_another_create(toolkit, monkeypatch, caplog):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    kit = toolkit()
    monkeypatch.setattr(type(kit.get_tools()[0]), "_conversation", broken)
    async with Client(server(kit)) as client:
        with caplog.at_level(logging.ERROR, "sora_tools"):
            told, is_error = await call(client, "create_video", VIDEO)
    assert (is_error, told["error"]["charged"]) == (True, "unknown")
    assert "Do not call create_video again" in told["error"]["hint"]
    assert "ZeroDivisionError" in caplog.text


async def test_the_toolkits_own_handling_of_errors_is_for_langchain(toolkit, sandbox):
    sandbox.script("create", "unauthorized")
    async with Client(server(toolkit(handle_tool_error=False))) as client:
        told, is_error = await call(client, "create_video", VIDEO)
    assert (is_error, told["error"]["code"]) == (True, "authentication")


# --- once -------------------------------------------------------------------------------------------------------


async def test_the_same_create_twice_at_once_is_one(toolkit, sandbox, mode):
    sandbox.script("create", "slow", seconds=0.3)
    async with Client(server(toolkit()), mode=mode) as client:
        told = await asyncio.gather(create(client), create(client))
    assert sandbox.creates == posts(sandbox) == 1
    assert told[0]["task_id"] == told[1]["task_id"]
    assert sorted(each.get("reused", False) for each in told) == [False, True]


@pytest.mark.parametrize("finished", [False, True], ids=["while it renders", "after it has ended"])
async def test_a_client_that_timed_out_and_calls_again_gets_the_task_it_paid_for(
    toolkit, sandbox, ledger, mode, finished
):
    async with Client(server(toolkit()), mode=mode) as client:
        await time_out(client, sandbox, VIDEO)
        if finished:
            await until(lambda: SQLiteLedger(ledger).submissions()[0].task_id)
            await ended(sandbox, SQLiteLedger(ledger).submissions()[0].task_id)
        told = await create(client)
        await ended(sandbox, told["task_id"])
        assert (told["reused"], sandbox.creates, posts(sandbox)) == (True, 1, 1)
        await create(client)  # it was answered, and has ended: whoever asks now wants another
    assert sandbox.creates == 2


@pytest.mark.parametrize("first", [0, 1], ids=["in order", "the other way round"])
async def test_two_that_gave_up_on_the_same_create_leave_its_task_to_the_next(toolkit, sandbox, ledger, mode, first):
    sandbox.script("create", "slow", seconds=0.5)
    async with Client(server(toolkit()), mode=mode) as client:
        calls = [asyncio.ensure_future(client.call_tool("create_video", VIDEO)) for _ in range(2)]
        await until(lambda: posts(sandbox))
        for calling in (calls[first], calls[1 - first]):
            calling.cancel()
            await asyncio.wait([calling])
        await until(lambda: SQLiteLedger(ledger).submissions()[0].task_id)
        await ended(sandbox, SQLiteLedger(ledger).submissions()[0].task_id)
        assert (await create(client))["reused"] is True
    assert sandbox.creates == posts(sandbox) == 1


async def test_a_client_that_comes_again_after_a_disconnect_is_in_the_same_conversation(toolkit, sandbox, mode):
    sandbox.script("task", "stuck")
    kit = toolkit()
    async with Client(server(kit), mode=mode) as client:
        first = await create(client)
    async with Client(server(kit), mode=mode) as client:
        second = await create(client)
    assert (second["task_id"], second["reused"], sandbox.creates) == (first["task_id"], True, 1)


@ONE_ERA
async def test_a_create_that_was_cancelled_before_it_left_is_not_sent(toolkit, sandbox, mode):
    sandbox.script("create", "rate_limit", headers={"retry-after": "2"})
    async with Client(server(toolkit()), mode=mode) as client:
        await cancel(client, sandbox, VIDEO)
        await asyncio.sleep(2.5)
        assert (sandbox.creates, posts(sandbox)) == (0, 1)
        assert "reused" not in await create(client)
    assert sandbox.creates == 1


async def test_a_create_that_was_cancelled_after_it_left_is_written_down(toolkit, sandbox, ledger, mode):
    sandbox.script("create", "slow", seconds=0.4)
    async with Client(server(toolkit()), mode=mode) as client:
        await cancel(client, sandbox, VIDEO)
        await until(lambda: SQLiteLedger(ledger).submissions()[0].state == "accepted")
    (row,) = SQLiteLedger(ledger).submissions()
    assert (row.state, row.thread, sandbox.creates) == ("accepted", "mcp", 1)


async def test_who_left_and_never_came_back_is_forgotten_in_time(toolkit, sandbox, monkeypatch):
    monkeypatch.setattr("sora_tools.mcp.calls._MOST_UNHEARD", 2)
    creating, _ = tools(toolkit())
    async with Client(MCPServer("mine", tools=[creating])) as client:
        for prompt in "abc":
            await time_out(client, sandbox, {"prompt": prompt})
            asked = digest({"thread": "mcp", "arguments": {"prompt": prompt}})
            await until(lambda: asked in creating._unheard)  # noqa: B023  # it is awaited here
        assert len(creating._unheard) == 2


async def test_the_operator_may_have_every_call_make_a_new_one(toolkit, sandbox):
    sandbox.script("task", "stuck", times=2)
    async with Client(server(toolkit(repeat="new"))) as client:
        first, second = await create(client), await create(client)
    assert first["task_id"] != second["task_id"]
    assert sandbox.creates == 2


# --- who sees what --------------------------------------------------------------------------------------------------


async def test_callers_who_are_several_people_see_no_list_and_pay_once(toolkit, sandbox):
    sandbox.script("task", "stuck")
    shared = server(toolkit(), lists=False)
    async with Client(shared) as one, Client(shared) as other:
        first = await create(one)
        told, is_error = await call(other, "query_video")
        assert (is_error, told["tasks"]) == (False, [])
        assert (await create(other))["task_id"] == first["task_id"]
    assert sandbox.creates == 1


async def test_callers_who_can_be_told_apart_have_conversations_of_their_own(toolkit, sandbox):
    sandbox.script("task", "stuck", times=2)
    user = iter(["ann", "ben", "ann"])
    async with Client(server(toolkit(), thread=lambda _context: next(user))) as client:
        first, second = await create(client), await create(client)
        told, _ = await call(client, "query_video")
    assert [task["task_id"] for task in told["tasks"]] == [first["task_id"]]
    assert (second["task_id"] != first["task_id"], sandbox.creates) == (True, 2)


def not_told(_context: object) -> str:
    raise RuntimeError("no user; token=secret")


@pytest.mark.parametrize("thread", [None, 5, "", " ", "a\nb", "\ud800", not_told], ids=ascii)
async def test_a_caller_without_a_name_is_refused_and_the_log_says_why(toolkit, sandbox, ledger, caplog, thread):
    asked = thread if callable(thread) else lambda _context: thread
    async with Client(server(toolkit(), thread=asked)) as client:
        for tool, arguments in (("create_video", VIDEO), ("query_video", {})):
            told, is_error = await call(client, tool, arguments)
            assert (is_error, told["error"]["code"], told["error"]["charged"]) == (True, "configuration", "no")
            assert told["error"]["hint"].startswith("Nothing was sent and nothing was charged.")
            assert "secret" not in str(told)
    assert ("token=secret" if callable(thread) else ascii(thread)) in caplog.text.replace("\ud800", "\\ud800")
    assert (sandbox.requests, SQLiteLedger(ledger).submissions()) == ((), [])


def test_a_conversation_without_a_name_is_refused_at_once(toolkit, run):
    with pytest.raises(ConfigurationError, match="thread names the conversation"):
        tools(toolkit(), thread="")
    result = run("--thread", " ")
    assert result.exit_code == 2
    assert "thread names the conversation" in result.stderr


async def test_the_tools_go_into_a_server_of_ones_own(toolkit):
    mine = MCPServer("mine", tools=tools(toolkit()))

    @mine.tool()
    def double(number: int) -> int:
        return 2 * number

    async with Client(mine) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["create_video", "query_video", "double"]
        assert (await client.call_tool("double", {"number": 2})).structured_content == {"result": 4}
        await create(client)
    told = await mine.call_tool("query_video", {})  # without a client
    assert len(told.structured_content["tasks"]) == 1


# --- progress -------------------------------------------------------------------------------------------------------


@ONE_ERA
async def test_check_13_a_wait_reports_progress_that_only_grows(toolkit, sandbox, tmp_path, mode, monkeypatch):
    monkeypatch.setattr(sandbox.world, "speed", 4)
    heard: list[tuple[float, float, str]] = []

    async def hear(*news: Any) -> None:
        heard.append(news)

    async with Client(server(toolkit(download_dir=tmp_path)), mode=mode) as client:
        created = await create(client, n_variants=2)
        told, _ = await call(client, "query_video", {"task_id": created["task_id"]}, progress_callback=hear)
    reached = [each[0] for each in heard]
    assert told["status"] == "succeeded"
    assert reached == sorted(set(reached))
    assert reached[-1] < 100
    assert {each[1] for each in heard} == {100}
    words = [each[2] for each in heard]
    assert any(re.fullmatch(r"running, \d+%", word) for word in words)
    assert sum(word.startswith("saved ") for word in words) == 2
    assert "succeeded" in words


@pytest.mark.parametrize("trouble", ["raises", "hangs"])
async def test_a_client_that_fails_at_progress_gets_its_answer(toolkit, mode, trouble):
    async def hear(*_: Any) -> None:
        if trouble == "raises":
            raise ZeroDivisionError
        await asyncio.sleep(30)

    async with Client(server(toolkit()), mode=mode) as client:
        created = await create(client)
        async with asyncio.timeout(10):
            told, _ = await call(client, "query_video", {"task_id": created["task_id"]}, progress_callback=hear)
    assert told["status"] == "succeeded"


# --- a process of its own ---------------------------------------------------------------------------------------------


@ONE_ERA
async def test_check_13_the_sdks_client_over_stdio(sandbox, ledger, tmp_path, mode):
    parameters = StdioServerParameters(
        command=COMMAND[0],
        args=[*COMMAND[1:], "--download-dir", str(tmp_path / "videos")],
        env=environment(sandbox.base_url, ledger),
    )
    async with Client(parameters, mode=mode) as client:
        created = await create(client)
        told, is_error = await call(client, "query_video", {"task_id": created["task_id"]})
        refused, is_refused = await call(client, "create_video", {"prompt": ""})
    assert (is_error, told["status"], sandbox.creates) == (False, "succeeded", 1)
    assert probe(told["videos"][0]["file"]).n_frames == 3
    assert (is_refused, refused["error"]["code"]) == (True, "invalid_request")


@pytest.mark.long
def test_a_server_killed_between_create_and_query_is_taken_up_by_the_next(sandbox, ledger):
    env = environment(sandbox.base_url, ledger)
    with Process(env) as first:
        first.call(1, "create_video", **VIDEO)
        created = first.answer(1)["structuredContent"]
        first.process.kill()
    with Process(env) as second:
        second.call(1, "query_video")
        assert [each["task_id"] for each in second.answer(1)["structuredContent"]["tasks"]] == [created["task_id"]]
        second.call(2, "query_video", task_id=created["task_id"])
        assert second.answer(2)["structuredContent"]["status"] == "succeeded"
    assert sandbox.creates == 1


def test_a_server_killed_in_mid_create_does_not_pay_again(sandbox, ledger):
    sandbox.script("create", "slow", seconds=1.5)
    sandbox.script("task", "stuck")
    env = environment(sandbox.base_url, ledger)
    with Process(env) as first:
        first.call(1, "create_video", **VIDEO)
        while not posts(sandbox):
            time.sleep(0.02)
        first.process.kill()
    with Process(env) as second:
        second.call(1, "create_video", **VIDEO)
        told = second.answer(1)
    assert not told["isError"], told
    assert told["structuredContent"]["reused"] is True
    assert sandbox.creates == posts(sandbox) == 1


@pytest.mark.parametrize(
    "how", ["stdin is closed", signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)], ids=str
)
def test_a_server_that_ends_finishes_the_create_under_way(sandbox, ledger, how):
    sandbox.script("create", "slow", seconds=1.0)
    with Process(environment(sandbox.base_url, ledger)) as served:
        served.call(1, "create_video", **VIDEO)
        while not posts(sandbox):
            time.sleep(0.02)
        if isinstance(how, signal.Signals):
            served.process.send_signal(how)
            assert served.process.wait(timeout=20) == 0
            assert "task_id" in served.answer(1)["structuredContent"], "or its client would ask again"
        assert served.end() == 0
    assert served.errors == ""
    (row,) = SQLiteLedger(ledger).submissions()
    assert (row.state, sandbox.creates) == ("accepted", 1)


def test_a_second_signal_ends_it_at_once(sandbox, ledger):
    sandbox.script("create", "hang", seconds=20)
    with Process(environment(sandbox.base_url, ledger)) as served:
        served.call(1, "create_video", **VIDEO)
        while not posts(sandbox):
            time.sleep(0.02)
        served.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(timeout=5) == 128 + signal.SIGINT
    sandbox.clear()


@pytest.mark.long
def test_a_client_that_closes_its_end_first_leaves_no_traceback(sandbox, ledger):
    with Process(environment(sandbox.base_url, ledger)) as served:
        served.process.stdout.close()
        served.send("ping", 1)
        time.sleep(0.3)
        served.process.stdin.close()
        assert served.process.wait(timeout=20) == 0
        assert served.process.stderr.read() == ""
        served.process.stderr.close()


def test_the_key_is_in_no_message_and_no_log_and_stdout_is_protocol(sandbox, ledger):
    quoting = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": f"bad {KEY}"}})
    sandbox.script("create", "status", status=401, body=quoting, content_type="application/json")
    with Process(environment(sandbox.base_url, ledger)) as served:
        served.send("tools/list", 1)
        served.answer(1)
        served.call(2, "create_video", **VIDEO)
        assert served.answer(2)["isError"] is True
        served.call(3, "create_video", **{**VIDEO, "prompt": "another"})
        task_id = served.answer(3)["structuredContent"]["task_id"]
        served.call(4, "query_video", task_id=task_id)
        assert served.answer(4)["structuredContent"]["status"] == "succeeded"
        served.call(5, "no_such_tool")
        served.answer(5)
        served.process.stdin.write("this is no JSON\n")
        assert served.end() == 0
    said = "".join(served.lines)
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in served.lines)
    assert "notifications/progress" in said
    assert "Incorrect API key provided: ***" in said
    assert KEY not in said + served.errors


# --- over HTTP ------------------------------------------------------------------------------------------------------


class Served:
    """Servers over HTTP, each of which ends on SIGTERM without a traceback."""

    def __init__(self, env: dict[str, str], said: Path) -> None:
        self.env, self.said = {**os.environ, **env}, said
        self.running = ExitStack()

    def __call__(self, *options: str) -> str:
        """Start one: its address."""
        command = [*COMMAND, "--http", "--port", "0", *options]
        with self.said.open("w") as said:
            process = subprocess.Popen(command, env=self.env, stderr=said, stdin=subprocess.DEVNULL)
        self.running.callback(self.end, process)
        while not (told := re.search(r"http://\S+/mcp", self.said.read_text())):
            assert process.poll() is None, self.said.read_text()
            time.sleep(0.05)
        return told[0]

    def end(self, process: subprocess.Popen[bytes]) -> None:
        before = self.said.read_text()  # the SDK logs requests that it refuses, and clients that leave early
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        after = self.said.read_text()
        assert "Traceback" not in after.removeprefix(before)
        assert KEY not in after

    def stop(self) -> None:
        self.running.close()


@pytest.fixture
def http(sandbox, ledger, tmp_path) -> Iterator[Served]:
    """Starts a server over HTTP and gives its address."""
    served = Served(environment(sandbox.base_url, ledger), tmp_path / "said")
    with served.running:
        yield served


@pytest.fixture(scope="module")
def address(running_sandbox, tmp_path_factory) -> Iterator[str]:
    """One server for all tests that ask it for different videos: each takes seconds to start."""
    folder = tmp_path_factory.mktemp("http")
    served = Served(environment(running_sandbox.base_url, folder / "ledger.db"), folder / "said")
    with served.running:
        yield served("--allow-host", "videos.example")


PLAIN = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "plain", "version": "0"}}


def post(address: str, method: str, headers: dict[str, str], **params: Any) -> httpx.Response:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    own = {"accept": "application/json, text/event-stream", **headers}
    return httpx.post(address, json=message, headers=own, timeout=30)


async def test_check_13_the_sdks_client_over_http(address, sandbox, mode):
    heard: list[Any] = []

    async def hear(*news: Any) -> None:
        heard.append(news)

    async with Client(address, mode=mode) as one, Client(address, mode=mode) as other:
        created = await create(one, prompt=f"fly man, {mode}")
        told, is_error = await call(one, "query_video", {"task_id": created["task_id"]}, progress_callback=hear)
        assert (is_error, told["status"]) == (False, "succeeded")
        assert (await call(other, "query_video"))[0]["tasks"] == []
        refused, is_error = await call(other, "create_video", {"prompt": ""})
        assert (is_error, refused["error"]["code"]) == (True, "invalid_request")
    assert heard
    assert sandbox.creates == 1


@ONE_ERA
async def test_over_http_a_call_made_again_pays_once(address, sandbox, mode):
    sandbox.script("task", "stuck")
    video = {**VIDEO, "prompt": f"swim man, {mode}"}
    async with Client(address, mode=mode) as client:
        await time_out(client, sandbox, video)
    async with Client(address, mode=mode) as client:
        assert (await create(client, **video))["reused"] is True
    assert sandbox.creates == posts(sandbox) == 1


@pytest.mark.long
async def test_the_operator_may_share_the_list(http, sandbox):
    address = http("--shared-list")
    async with Client(address) as one, Client(address) as other:
        created = await create(one)
        told, _ = await call(other, "query_video")
    assert [task["task_id"] for task in told["tasks"]] == [created["task_id"]]


def test_a_web_page_cannot_reach_it_through_a_browser(address, sandbox):
    def status(**headers: str) -> int:
        return post(address, "initialize", headers, **PLAIN).status_code

    assert status() == 200
    assert status(host="attacker.example") == 421
    assert status(origin="https://attacker.example") == 403
    assert status(host="videos.example") == 200
    assert status(host="videos.example:8766", origin="https://videos.example") == 200


def test_over_http_it_ends_though_clients_are_connected_and_finishes_the_create_under_way(http, sandbox, ledger):
    sandbox.script("create", "slow", seconds=3.0)
    address = http()
    session = {"mcp-session-id": post(address, "initialize", {}, **PLAIN).headers["mcp-session-id"]}
    with ThreadPoolExecutor() as clients:
        assert httpx.get(address, headers={"accept": "text/event-stream", **session}).status_code == 405
        answer = clients.submit(post, address, "tools/call", session, name="create_video", arguments=VIDEO)
        while not posts(sandbox):
            time.sleep(0.02)
        start = time.monotonic()
        http.stop()
        assert time.monotonic() - start < 20
        assert "task_id" in answer.result().text, "or its client would ask again"
    (row,) = SQLiteLedger(ledger).submissions()
    assert (row.state, sandbox.creates) == ("accepted", 1)


@pytest.fixture
def run(sandbox, ledger, monkeypatch):
    for name, value in environment(sandbox.base_url, ledger).items():
        monkeypatch.setenv(name, value)
    return lambda *options: CliRunner().invoke(cli.app, ["mcp", *options])


def test_limits_of_the_command_hold_before_anything_is_sent(sandbox, ledger):
    with Process(environment(sandbox.base_url, ledger), "--max-frames", "2", "--max-width", "64") as served:
        served.call(1, "create_video", **VIDEO)
        told = served.answer(1)
        assert served.end() == 0
    assert told["isError"]
    assert "at most 2 is allowed" in told["structuredContent"]["error"]["message"]
    assert posts(sandbox) == 0


def test_other_machines_are_let_in_by_name_only(run):
    result = run("--http", "--host", "0.0.0.0")
    assert result.exit_code == 2
    assert "--allow-host" in result.stderr


def test_a_port_that_is_taken_is_said(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("--http", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 2
    assert "cannot listen at 127.0.0.1" in result.stderr


def test_a_wait_that_is_too_long_is_refused(run):
    result = run("--max-wait", "60")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "max_wait=60.0 was given" in result.stderr


@pytest.mark.parametrize("missing", ["mcp.server.mcpserver", "mcp_types"], ids=["version 1", "none"])
def test_without_the_extra_the_message_says_what_to_install(run, monkeypatch, missing):
    for module in [name for name in sys.modules if name.startswith("sora_tools.mcp")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr(sora_tools, "mcp")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"pip install 'sora-tools\[mcp\]'"):
        importlib.import_module("sora_tools.mcp")
    result = run()
    assert result.exit_code == 2
    assert "pip install 'sora-tools[mcp]'" in result.stderr


# --- the page -------------------------------------------------------------------------------------------------------


def test_what_a_desktop_client_is_told_to_start_is_what_is_tested_here():
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    ((_, entry),) = json.loads(block)["mcpServers"].items()
    command = [entry["command"], *entry["args"]]
    assert command[:4] == ["uvx", "--from", "PATH[cli,mcp]", "sora-tools"]
    assert command[4] == COMMAND[-1]
    assert set(entry["env"]) <= set(environment("", Path()))
    assert CliRunner().invoke(cli.app, [*command[4:], "--help"]).exit_code == 0
    shown = " ".join(CliRunner().invoke(cli.app, ["mcp", "--help"], terminal_width=200).stdout.split())
    assert all(option in shown for option in re.findall(r"`(--[\w-]+)", PAGE))


async def test_the_page_s_program_serves_both_ways(run, monkeypatch, tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(program, "mcp.md", "exec"), names)
    async with names["toolkit"], Client(names["mcp"]) as client, Client(MCPServer("mine", tools=names["both"])) as mine:
        created = await create(client)
        told, _ = await call(mine, "query_video", {"task_id": created["task_id"]})
    assert Path(told["videos"][0]["file"]).parent == tmp_path / "videos"
