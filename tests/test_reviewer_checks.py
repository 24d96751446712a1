"""What a reviewer of a LangChain tool package would check, in fifteen points. Tests name theirs: ``test_check_NN_...``.

Most stand with what they are about; ``grep -rn "check_04" tests`` finds those of a point. Here are the ones that had no
place yet.

 1. LangChain's own tests of both tools pass offline, on the lowest and the newest versions, on each Python at hand.
 2. Five providers' converters carry the whole schema and no keyword that one refuses. Numbers, null and nothing are
    taken; a wrong value, an unknown field and a blank prompt are refused with words that say nothing was started.
 3. An agent outlasts whatever the gateway does, in both colours, and sends each create as often as is safe.
 4. One video under retry middleware, node retries, crash and resume, and two runs of one checkpoint. An edited call has
    a new key. The same prompt in a new call gets the video under way, or a second one where the operator says so.
 5. A cheap call runs, a dear one waits for approval with its price; a rejected one sends nothing; in both modes.
 6. Every state of a tool converts for five providers with sockets blocked.
 7. The key is in no repr, dump, log line, error, trace or artifact.
 8. Artifacts are plain JSON, and identical after a checkpoint.
 9. One tool serves loop after loop and fifty calls at once. A cancelled call returns promptly, deletes nothing and
    leaks nothing.
10. A wait looks at once, honours the gateway's hints, reads every status word, ends within a second of its deadline,
    and tells of its progress where somebody listens.
11. An id that could leave its path is refused unsent, and so is an image that is not the public's, or a local file.
12. Importing loads no framework and takes no time; a user's file type-checks strictly; the wheel is marked as typed.
13. An MCP client sees both tools with annotations and schemas, structured content, and errors as errors.
14. The README's programs run; docstrings have the sections of LangChain's template.
15. Both colours send the same bytes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import test_tool_schemas
from fake_gateway import PROMPT, FakeGateway, call, task
from raw_gateway import Connection, RawGateway
from scripted_model import scripted

from sora_tools import CreateVideoTool, QueryVideoTool, Sora, SoraToolkit
from sora_tools.dialects import DIALECTS
from sora_tools.sandbox import Sandbox

TESTS = Path(__file__).parent


def test_every_check_has_tests_that_name_it() -> None:
    named = re.findall(r"(?:def test_check_|class TestCheck)(\d\d)", "\n".join(map(Path.read_text, TESTS.glob("*.py"))))
    assert {int(number) for number in named} == set(range(1, 16))


# --- 2: schemas --------------------------------------------------------------------------------------------------

CONVERTERS = [getattr(test_tool_schemas, name) for name in ("openai", "openai_strict", "anthropic", "gemini", "ollama")]
REFUSED_SOMEWHERE = {
    *("anyOf", "allOf", "oneOf", "$ref", "$defs", "const", "default", "format", "pattern", "examples"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems"),
    *("any_of", "min_length", "max_length", "nullable", "prefixItems"),
}


def keywords(schema: Any) -> set[str]:
    """Every keyword of a schema at every depth; names of properties are none."""
    if isinstance(schema, list):
        return set().union(*map(keywords, schema))
    if not isinstance(schema, dict):
        return set()
    members = schema.get("properties") or {}
    inner = (value for name, value in schema.items() if name != "properties")
    return set(schema).union(*map(keywords, members.values()), *map(keywords, inner))


@pytest.mark.parametrize("convert", CONVERTERS, ids=lambda convert: convert.__name__)
@pytest.mark.parametrize("tool", [test_tool_schemas.CREATE, test_tool_schemas.QUERY], ids=lambda tool: tool.name)
def test_check_02_no_converter_makes_a_keyword_that_a_provider_refuses(tool: Any, convert: Any) -> None:
    assert not keywords(convert(tool)) & REFUSED_SOMEWHERE


@pytest.mark.parametrize("given", [{"n_frames": 60}, {"n_frames": "60"}, {"n_frames": None}, {}], ids=str)
def test_check_02_what_models_send_for_a_number_is_taken(given: dict[str, Any]) -> None:
    gateway = FakeGateway()
    message = CreateVideoTool(**gateway.settings()).invoke(call("create_video", **PROMPT, **given))
    assert message.status == "success"
    assert json.loads(gateway.sent[0])["n_frames"] == (60 if given.get("n_frames") else 150)


@pytest.mark.parametrize(
    "given",
    [{"n_frames": 0}, {"n_frames": 1.5}, {"operation": "mix"}, {"foo": 1}, {"prompt": "  "}, {"prompt": ""}],
    ids=str,
)
def test_check_02_what_breaks_a_rule_is_refused_unsent_and_says_so(given: dict[str, Any]) -> None:
    gateway = FakeGateway()
    message = CreateVideoTool(**gateway.settings()).invoke(call("create_video", **{**PROMPT, **given}))
    error = json.loads(message.content)["error"]
    assert (message.status, error["code"], error["charged"]) == ("error", "invalid_request", "no")
    assert "Nothing was started and nothing was charged" in error["hint"]
    assert next(iter(given)) in error["message"]
    assert not gateway.requests


# --- 9: callers who go -------------------------------------------------------------------------------------------


def sockets() -> int:
    """Sockets that this process has open."""
    links = map(str, Path("/proc/self/fd").iterdir())
    return sum(os.path.realpath(link).rpartition("/")[2].startswith("socket:") for link in links)


async def gives_up(calling: Any, ready: Any) -> float:
    """Seconds that a call takes to end once its caller has gone."""
    working = asyncio.create_task(calling)
    async with asyncio.timeout(5):
        while not ready():  # noqa: ASYNC110  # the gateway is in another thread
            await asyncio.sleep(0.005)
    start = time.monotonic()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    return time.monotonic() - start


@pytest.mark.skipif(sys.platform != "linux", reason="open sockets are counted in /proc")
@pytest.mark.parametrize("moment", ["create", "wait"])
def test_check_09_a_cancelled_call_returns_promptly_deletes_nothing_and_leaks_nothing(moment: str) -> None:
    go = threading.Event()

    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        if method == "POST":
            go.wait(10)
            connection.reply({"id": "task_1"})
        else:
            connection.reply({"task_responses": [{"id": "task_1", "status": "running"}]})

    async def main(gateway: RawGateway) -> tuple[float, Any]:
        async with SoraToolkit(base_url=gateway.base_url, api_key="sk-test", max_wait=20) as toolkit:
            create, query = toolkit.get_tools()
            ledger = toolkit.sora.gateway.ledger
            if moment == "create":
                took = await gives_up(create.ainvoke(call(create, **PROMPT)), lambda: gateway.posts == 1)
            else:
                took = await gives_up(query.ainvoke(call(query, task_id="task_1")), lambda: gateway.gets >= 1)
            go.set()
        return took, ledger.submissions()

    gc.collect()
    before = sockets()
    with RawGateway(answer) as gateway:
        took, rows = asyncio.run(main(gateway))
    gc.collect()  # what was left open would warn here, and warnings are errors
    assert took < 1.0
    assert {method for method, _, _ in gateway.requests} == {"POST" if moment == "create" else "GET"}
    assert [(row.state, row.task_id) for row in rows] == ([("accepted", "task_1")] if moment == "create" else [])
    assert sockets() == before


# --- 11: what a model may not name -------------------------------------------------------------------------------


@pytest.mark.parametrize("task_id", ["../x", "a/b", "a%2e%2e", "x" * 10_000], ids=lambda task_id: task_id[:9])
@pytest.mark.parametrize("dialect", ["backend", "videos", "unified", "generations"])
def test_check_11_an_id_that_could_leave_its_path_is_refused_unsent(task_id: str, dialect: str) -> None:
    gateway = FakeGateway(tasks=[task()])
    for max_wait in (0, 1):
        query = QueryVideoTool(**gateway.settings(dialect=dialect), max_wait=max_wait)
        message = query.invoke(call(query, task_id=task_id))
        error = json.loads(message.content)["error"]
        assert (message.status, error["code"]) == ("error", "invalid_request")
        assert len(message.content) < 2000
    assert not gateway.requests


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "http://169.254.169.254/latest/meta-data", "https://169.254.169.254/latest/meta-data"),
        *("/etc/passwd", "../secret.png", "C:\\secret.png", "~/secret.png", "secret.png", "ftp://images.test/a.png"),
    ],
)
def test_check_11_an_image_that_is_not_the_publics_is_refused_unsent(url: str) -> None:
    gateway = FakeGateway()
    create = CreateVideoTool(**gateway.settings())
    message = create.invoke(call(create, **PROMPT, inpaint_items=[{"url": url}]))
    error = json.loads(message.content)["error"]
    assert (message.status, error["code"], error["charged"]) == ("error", "invalid_request", "no")
    assert "inpaint_items.0.url" in error["message"]
    assert not gateway.requests


# --- 12: what an import costs ------------------------------------------------------------------------------------


def test_check_12_all_public_names_load_no_framework() -> None:
    program = (
        "import sora_tools, sys; [getattr(sora_tools, name) for name in sora_tools.__all__];"
        "sora_tools.video_approval();"
        "print(sorted({'langchain', 'langgraph', 'mcp', 'openai'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout.strip() == b"[]"


def test_check_12_the_tools_take_no_longer_than_langchains_own() -> None:
    """A ratio: seconds would be the machine's. The best of some runs, for the first may have to compile."""
    program = """
from time import process_time
start = process_time()
from langchain_core.tools import BaseTool
between = process_time()
from sora_tools import SoraToolkit
print(between - start, process_time() - between)
"""
    runs = [subprocess.run([sys.executable, "-c", program], check=True, capture_output=True) for _ in range(3)]
    langchains, ours = (min(map(float, took)) for took in zip(*(run.stdout.split() for run in runs), strict=True))
    assert ours < langchains


# --- 14: docstrings ----------------------------------------------------------------------------------------------

TEMPLATE = {
    CreateVideoTool: ["Setup", "Key init args", "Instantiation", "Invocation with args", "Invocation with ToolCall"],
    QueryVideoTool: ["Setup", "Key init args", "Instantiation", "Invocation with args", "Invocation with ToolCall"],
    SoraToolkit: ["Setup", "Key init args", "Instantiation", "Tools", "Use within an agent"],
}


@pytest.mark.parametrize("kind", TEMPLATE, ids=lambda kind: kind.__name__)
def test_check_14_docstrings_have_the_sections_of_the_template(kind: type) -> None:
    text = kind.__doc__ or ""
    sections = re.findall(r"(?m)^    (\S.*):$", text)
    assert [section for section in sections if section in TEMPLATE[kind]] == TEMPLATE[kind]
    for name in sections[:-1]:
        body = text.partition(f"    {name}:\n")[2].partition("\n\n    ")[0]
        assert body.strip(), name


@pytest.fixture
def quickly(brisk: None) -> Iterator[Sandbox]:
    """A sandbox that renders nothing until it is downloaded."""
    with Sandbox(render=False, speed=40) as running:
        yield running


@pytest.mark.parametrize("kind", TEMPLATE, ids=lambda kind: kind.__name__)
def test_check_14_every_program_of_a_docstring_runs(kind: type, quickly: Sandbox, monkeypatch: Any) -> None:
    monkeypatch.setenv("SORA_BASE_URL", quickly.base_url)
    monkeypatch.setenv("SORA_API_KEY", "sk-test")
    with Sora() as sora:
        made = sora.create(PROMPT).task_id
    text = (kind.__doc__ or "").replace("https://gateway.example", quickly.base_url).replace('"openai:gpt-5"', "model")
    text = text.replace("task_01...", made)
    blocks = [dedent(block) for block in re.findall(r"code-block:: python\n\n((?: {12}.*\n|\n)+)", text)]
    programs = [block for block in blocks if not block.startswith(("'", "[", "ToolMessage("))]  # those are answers
    names: dict[str, Any] = {"model": scripted([("create_video", PROMPT)])}
    try:
        for program in programs:
            exec(compile(program, kind.__name__, "exec"), names)
    finally:
        for made in (names.get("toolkit"), getattr(names.get("tool"), "sora", None)):
            if made is not None:
                made.close()
    assert len(programs) >= 3
    assert quickly.creates - 1 == {CreateVideoTool: 2, QueryVideoTool: 0, SoraToolkit: 1}[kind]


# --- 15: both colours --------------------------------------------------------------------------------------------


def asked(gateway: FakeGateway) -> list[Any]:
    """All that was sent, but for the key that is another one each time."""
    named = [
        (request.method, str(request.url), request.headers.multi_items(), request.content)
        for request in gateway.requests
    ]
    return [
        (method, url, [(name, value) for name, value in headers if name != "idempotency-key"], content)
        for method, url, headers, content in named
    ]


def sync_and_async(asking: Any) -> list[Any]:
    """What one question sends, in each colour."""
    one, other = FakeGateway(tasks=[task()]), FakeGateway(tasks=[task()])
    asking(one, lambda tool, *given: tool.invoke(*given))
    asking(other, lambda tool, *given: asyncio.run(tool.ainvoke(*given)))
    assert one.requests
    return [asked(one), asked(other)]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "arguments", [PROMPT, {"prompt": "跑", "width": 1280, "height": 720, "n_frames": 300}], ids=str
)
def test_check_15_both_colours_create_with_the_same_bytes_in_every_format(
    dialect: str, arguments: dict[str, Any]
) -> None:
    def asking(gateway: FakeGateway, invoke: Any) -> None:
        invoke(CreateVideoTool(**gateway.settings(dialect=dialect, model="wan")), arguments)

    one, other = sync_and_async(asking)
    assert one == other
    assert one[0][0] == "POST"


LOOKS = [(dialect, {"task_id": "task_1"}) for dialect in DIALECTS if not DIALECTS[dialect].tells_once]
LISTS = [(dialect, {"limit": 5, "before": "task_0"}) for dialect in DIALECTS if DIALECTS[dialect].list(5, None)]


@pytest.mark.parametrize(("dialect", "arguments"), LOOKS + LISTS, ids=str)
def test_check_15_both_colours_look_with_the_same_bytes_in_every_format(
    dialect: str, arguments: dict[str, Any]
) -> None:
    def asking(gateway: FakeGateway, invoke: Any) -> None:
        query = QueryVideoTool(**gateway.settings(dialect=dialect), max_wait=0, list_account=True)
        invoke(query, arguments)

    one, other = sync_and_async(asking)
    assert one == other
