"""A LiteLLM proxy between our client and the sandbox: an unmodified peer, in an environment and a process of its own.

It hands our calls on and wraps the ids it is given. `make long` runs these tests: to install it takes about a minute,
once, into pytest's cache or the folder that SORA_TESTS_LITELLM names; to start it, ten seconds. Where it cannot be
installed or started they are skipped, and say why.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain.agents import create_agent
from PIL import Image
from raw_gateway import RawGateway
from scripted_model import scripted

from sora_tools import (
    AsyncSora,
    EndpointUnavailableError,
    InvalidRequestError,
    Retry,
    Sora,
    SoraToolkit,
    SubmissionUnknownError,
    TaskFailedError,
    TaskNotFoundError,
)
from sora_tools.media import probe
from sora_tools.sandbox import Sandbox, World
from sora_tools.sandbox.faults import FAULTS

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

PEER = "litellm[proxy]>=1.108,<2"
OURS, ITS_OWN = "sk-proxy-0123456789", "sk-upstream-0123456789"
"""The keys of the proxy and of the gateway behind it."""

INSTALL, START = 600, 120
"""Seconds that each may take."""

QUICK = Retry(attempts=3, budget=20.0, first=0.0, longest=0.0)
LOST = [name for name, fault in FAULTS.items() if fault.accepts and name not in ("slow", "text_plain")]
"""What befalls a reply of which the proxy can make nothing, to a create that was accepted."""

ASK = {"prompt": "fly man", "width": 64, "height": 36, "n_frames": 30}

Drive = Callable[..., Any]


# --- the proxy ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def program(request: pytest.FixtureRequest) -> Path:
    """LiteLLM's command, in an environment that is made once."""
    cache = os.environ.get("SORA_TESTS_LITELLM") or request.config.cache.mkdir("litellm")
    folder = Path(cache) / f"python{sys.version_info.major}.{sys.version_info.minor}"
    finished = folder / "finished"
    if not finished.exists() or finished.read_text() != PEER:
        run([sys.executable, "-m", "venv", "--clear", str(folder)])
        run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", PEER])
        finished.write_text(PEER)
    return folder / "bin" / "litellm"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Sandbox]:
    """The gateway behind the proxy, which knows the proxy's key and not ours."""
    with Sandbox(world=World(speed=40, keys=[ITS_OWN])) as running:
        yield running


@pytest.fixture(scope="module")
def proxies(program: Path, gateway: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The addresses of two: one that was told never to repeat a request, and one as it comes."""
    folder = tmp_path_factory.mktemp("litellm")
    with ExitStack() as stack:
        started = {
            name: start(stack, program, folder / name, configuration(gateway, retries))
            for name, retries in (("careful", "router_settings: {num_retries: 0}"), ("as it comes", ""))
        }
        yield {name: answering(*proxy) for name, proxy in started.items()}


def configuration(gateway: Sandbox, more: str) -> str:
    behind = {"api_base": f"{gateway.base_url}/v1", "api_key": ITS_OWN}
    models = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", **behind}} for name in ("sora-2", "wan")
    ]
    return f"model_list: {json.dumps(models)}\ngeneral_settings: {{master_key: {OURS}}}\n{more}\n"


def start(stack: ExitStack, program: Path, folder: Path, config: str) -> tuple[subprocess.Popen[bytes], str, Path]:
    """A running proxy, its address and its log; it is ended with the stack."""
    folder.mkdir()
    (folder / "config.yaml").write_text(config)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(program), "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
    stack.callback(end, process)
    return process, f"http://127.0.0.1:{port}", log


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answering(process: subprocess.Popen[bytes], url: str, log: Path) -> str:
    """The address of a proxy, once its health route answers."""
    deadline = time.monotonic() + START
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health/liveliness", timeout=5, trust_env=False).is_success:
                return url
        except httpx.HTTPError:
            time.sleep(0.2)  # nothing tells when it listens
    what = "took too long to start" if process.poll() is None else f"ended with {process.returncode}"
    pytest.skip(f"litellm {what}: {last_lines(log.read_text(errors='replace'))}")


def run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{' '.join(command)}: {error}")
    if done.returncode:
        pytest.skip(f"{' '.join(command)} ended with {done.returncode}: {last_lines(done.stdout + done.stderr)}")


def last_lines(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-5:])


# --- the tests' own ----------------------------------------------------------------------------------------------


@pytest.fixture
def box(gateway: Sandbox, brisk: None) -> Iterator[Sandbox]:
    """The gateway, remembering nothing of the test before."""
    gateway.world.reset()
    gateway.clear()
    yield gateway
    gateway.clear()


@pytest.fixture
def through(proxies: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    """What a client is given to go through the proxy that repeats nothing."""
    return {
        "base_url": proxies["careful"],
        "api_key": OURS,
        "dialect": "videos",
        "model": "wan",
        "ledger": tmp_path / "ledger.sqlite",
        "retry": QUICK,
    }


@pytest.fixture(params=["sync", "async"])
def drive(request: pytest.FixtureRequest, through: dict[str, Any]) -> Drive:
    """Call one method of a client of either colour."""

    def sync(method: str, *arguments: Any, **named: Any) -> Any:
        with Sora(**through) as sora:
            return getattr(sora, method)(*arguments, **named)

    def later(method: str, *arguments: Any, **named: Any) -> Any:
        async def main() -> Any:
            async with AsyncSora(**through) as sora:
                return await getattr(sora, method)(*arguments, **named)

        return asyncio.run(main())

    return sync if request.param == "sync" else later


def inner(task_id: str) -> str:
    """The gateway's own id in one of the proxy's."""
    found = re.search(r";video_id:([^;]+)", b64decode(task_id.removeprefix("video_")).decode())
    assert found is not None, task_id
    return found[1]


def posts(box: Sandbox) -> int:
    return sum(request.route == "create" for request in box.requests)


# --- from a prompt to a file -------------------------------------------------------------------------------------


def test_a_video_is_created_waited_for_and_downloaded(drive: Drive, box: Sandbox, tmp_path: Path) -> None:
    created = drive("create", "fly man", model="sora-2")
    done = drive("wait", created.task_id, timeout=30)
    (film,) = drive("download", done, tmp_path / "films")
    info = probe(film)
    assert (info.width, info.height, info.n_frames) == (1280, 720, 120)
    assert (done.task_id, done.status) == (created.task_id, "succeeded")
    assert (box.creates, posts(box)) == (1, 1)


def test_an_id_that_the_proxy_wraps_goes_round_unharmed(drive: Drive, box: Sandbox, tmp_path: Path) -> None:
    task = drive("generate", ASK, directory=tmp_path)
    (made,) = box.world.tasks
    assert inner(task.task_id) == made.task_id
    assert drive("query", task.task_id).task_id == task.task_id
    remix = drive(
        "create", {**ASK, "prompt": "fly woman"}, operation="remix", inpaint_items=[{"generation_id": task.task_id}]
    )
    assert inner(remix.task_id) == box.world.tasks[1].task_id
    at = f"/v1/videos/{made.task_id}"
    assert {request.path for request in box.requests} == {"/v1/videos", at, f"{at}/content", f"{at}/remix"}


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_agent_makes_a_video(through: dict[str, Any], box: Sandbox, tmp_path: Path, colour: str) -> None:
    def task_id(last: Any) -> dict[str, Any]:
        return {"task_id": json.loads(last.content)["task_id"]}

    calls = [("create_video", ASK), ("query_video", task_id)]
    with SoraToolkit(**through, download_dir=tmp_path / "films", max_wait=20) as toolkit:
        agent = create_agent(scripted(calls), toolkit.get_tools())
        asked = {"messages": [("user", "make it")]}
        config: Any = {"configurable": {"thread_id": "chat"}}
        state = agent.invoke(asked, config) if colour == "sync" else asyncio.run(agent.ainvoke(asked, config))
    told = json.loads(state["messages"][-2].content)
    (film,) = (tmp_path / "films").iterdir()
    assert (told["status"], told["videos"][0]["file"]) == ("succeeded", str(film))
    assert (probe(film).width, box.creates) == (64, 1)


def test_a_picture_arrives(drive: Drive, box: Sandbox) -> None:
    red = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(red, format="PNG")
    drive("create", ASK, inpaint_items=[{"url": f"data:image/png;base64,{b64encode(red.getvalue()).decode()}"}])
    with RawGateway(lambda connection, *_: connection.reply(red.getvalue(), content_type="image/png")) as host:
        drive("create", ASK, inpaint_items=[{"url": f"{host.base_url}/red.png"}])
    assert [task.opening for task in box.world.tasks] == [red.getvalue()] * 2
    assert (box.creates, posts(box)) == (2, 2)


# --- what goes wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", LOST)
def test_a_reply_that_the_proxy_lost_is_one_create(through: dict[str, Any], box: Sandbox, fault: str) -> None:
    box.script("create", fault, **({"seconds": 2.0} if fault == "hang" else {}))
    with Sora(**through) as sora:
        for _ in range(2):
            with pytest.raises(SubmissionUnknownError) as caught:
                sora.create(ASK, key="k")
            assert caught.value.charged == "unknown"
    assert (box.creates, posts(box)) == (1, 1)


@pytest.mark.parametrize("fault", LOST)
def test_a_proxy_that_repeats_requests_pays_again_by_itself(
    through: dict[str, Any], proxies: dict[str, str], box: Sandbox, fault: str
) -> None:
    """It asks up to three times by default. We sent one request, and hear of the last video alone."""
    box.script("create", fault, times=2, **({"seconds": 2.0} if fault == "hang" else {}))
    with Sora(**{**through, "base_url": proxies["as it comes"]}) as sora:
        task = sora.create(ASK, key="k")
    assert (box.creates, posts(box)) == (3, 3)
    assert inner(task.task_id) == box.world.tasks[-1].task_id


def test_a_failure_that_the_proxy_calls_a_rate_limit_is_paid_again(through: dict[str, Any], box: Sandbox) -> None:
    """It goes by the words of a 504, and answers 429 in its place."""
    box.script("create", "status", accept=True, status=504, body="upstream rate limit service timed out")
    with Sora(**through) as sora:
        sora.create(ASK, key="k")
    assert box.creates == 2


@pytest.mark.parametrize("fault", ["rate_limit", "not_found"])
def test_what_was_not_accepted_is_sent_again(drive: Drive, box: Sandbox, fault: str) -> None:
    box.script("create", fault, times=2)
    drive("create", ASK)
    assert (box.creates, posts(box)) == (1, 3)


def test_a_refusal_is_one_here_too(drive: Drive, box: Sandbox) -> None:
    box.script("create", "moderation")
    with pytest.raises(InvalidRequestError, match="moderation") as caught:
        drive("create", ASK)
    assert (caught.value.charged, box.creates, posts(box)) == ("no", 0, 1)


def test_a_failed_job_is_told_as_such(drive: Drive, box: Sandbox) -> None:
    box.script("task", "failed")
    with pytest.raises(TaskFailedError, match="processing_error") as caught:
        drive("generate", ASK)
    assert (caught.value.charged, caught.value.task.failure.code) == ("yes", "processing_error")
    assert box.creates == 1


def test_a_task_that_the_gateway_does_not_know_is_not_found(drive: Drive, box: Sandbox) -> None:
    made = drive("create", ASK).task_id
    packed = b64decode(made.removeprefix("video_")).replace(inner(made).encode(), b"task_00000000000000000000000000")
    with pytest.raises(TaskNotFoundError):
        drive("query", f"video_{b64encode(packed).decode()}")


# --- what the proxy does not serve -------------------------------------------------------------------------------


def test_a_list_has_to_be_asked_for_by_provider(drive: Drive, box: Sandbox) -> None:
    with pytest.raises(InvalidRequestError, match="Provider NOT provided") as caught:
        drive("list", 5)
    assert "custom-llm-provider" in caught.value.hint
    assert not box.requests


def test_nothing_is_deleted_and_what_is_there_goes_on(through: dict[str, Any], box: Sandbox) -> None:
    with Sora(**through) as sora:
        task_id = sora.create(ASK).task_id
        with pytest.raises(EndpointUnavailableError, match="does not serve this route") as caught:
            sora.delete(task_id)
        assert caught.value.http_status == 405
        assert sora.query(task_id).task_id == task_id
        sora.create({**ASK, "prompt": "fly woman"})
    assert box.creates == 2


def test_the_format_is_found_out(through: dict[str, Any], box: Sandbox) -> None:
    with Sora(**{**through, "dialect": "auto"}) as sora:
        found = sora.probe()
        states = {each.dialect: each.state for each in found.formats}
        assert (found.models, box.creates) == (("sora-2", "wan"), 0)
        assert states == {**dict.fromkeys(states, "not served"), "videos": "live", "chat": "live"}
        assert sora.create(ASK).dialect == "videos"
    assert box.creates == 1
