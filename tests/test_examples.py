"""Every example as its reader runs it: a program of its own, against a gateway that counts."""

from __future__ import annotations

import ast
import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from sora_tools.ledger.sqlite import SQLiteLedger
from sora_tools.media import probe
from sora_tools.sandbox import Received, Sandbox, World

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
KEY = "sk-test-0123456789"
BOUND = 45
"""Seconds after which an example is killed: it hangs."""


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments]


def surroundings(folder: Path, sandbox: Sandbox | None, **more: str) -> dict[str, str]:
    """A user's environment: this checkout, a ledger of their own, and nothing set that they did not set."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SORA_", "OPENAI_"))}
    inherited.pop("MODEL", None)
    named = {} if sandbox is None else {"SORA_BASE_URL": sandbox.base_url, "SORA_API_KEY": KEY}
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error::ResourceWarning",
        "SORA_LEDGER": str(folder / "ledger.sqlite"),
        **named,
        **more,
    }


def run(name: str, *arguments: str, folder: Path, sandbox: Sandbox | None, answers: str = "", **more: str) -> str:
    """What it prints. ``answers``: what its user types."""
    done = subprocess.run(
        command(name, *arguments),
        cwd=folder,
        env=surroundings(folder, sandbox, **more),
        input=answers,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def measures(folder: Path, videos: str = "videos") -> list[tuple[int, int, int]]:
    """Width, height and frames of each file that was saved."""
    files = sorted((folder / videos).iterdir())
    assert all(file.suffix == ".mp4" for file in files)
    return [(info.width, info.height, info.n_frames) for info in map(probe, files)]


def creates(sandbox: Sandbox) -> list[Received]:
    return [request for request in sandbox.requests if request.route == "create"]


@pytest.fixture
def gateway() -> Iterator[Sandbox]:
    with Sandbox(speed=10) as running:
        yield running


class ChatModel:
    """What a gateway serves beside its videos: it says what it is told to, and keeps what it was asked."""

    def __init__(self, *says: Any) -> None:
        self._says = iter(says)
        self.asked: list[Any] = []

    def __call__(self, body: Any) -> Any:
        self.asked.append(body)
        message = next(self._says)
        return message(body) if callable(message) else message

    def named(self, sandbox: Sandbox) -> dict[str, str]:
        """The settings that let an example use it as a model of one's own."""
        return {"MODEL": "openai:gpt-5", "OPENAI_BASE_URL": f"{sandbox.base_url}/v1", "OPENAI_API_KEY": KEY}


def calls(tool: str, **arguments: Any) -> dict[str, Any]:
    function = {"name": tool, "arguments": json.dumps(arguments)}
    return {"tool_calls": [{"id": "call_1", "type": "function", "function": function}]}


def test_every_example_is_a_page_that_says_what_makes_it_real() -> None:
    assert EXAMPLES
    tested = Path(__file__).read_text()
    for example in EXAMPLES:
        source = example.read_text()
        assert 20 <= len(source.splitlines()) <= 60, example.name
        said = ast.get_docstring(ast.parse(source)) or ""
        assert all(word in said for word in ("sandbox", "SORA_BASE_URL", "SORA_API_KEY")), example.name
        assert ("MODEL" in said) == ("model" in source.replace(said, "")), example.name
        assert f'"{example.stem}"' in tested, f"{example.name} has no test"


@pytest.mark.parametrize("name", ["quickstart", "storyboard", "one_gateway"])
def test_with_nothing_set_it_runs_on_a_sandbox_and_leaves_the_users_ledger_alone(name: str, tmp_path: Path) -> None:
    said = run(name, folder=tmp_path, sandbox=None)
    assert "a sandbox on this machine, http://127.0.0.1:" in said
    assert ": nothing is paid" in said
    assert "scripted" in said
    assert measures(tmp_path) == [(854, 480, 150)]
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]


def test_quickstart(gateway: Sandbox, tmp_path: Path) -> None:
    said = run("quickstart", "A man who flies", folder=tmp_path, sandbox=gateway)
    assert gateway.creates == 1
    assert creates(gateway)[0].body["prompt"] == "A man who flies"
    assert measures(tmp_path) == [(854, 480, 150)]
    assert said.splitlines()[0] == f"gateway  {gateway.base_url}"
    assert said.splitlines()[-1] == "Your video is ready."
    assert KEY not in said
    (submission,) = SQLiteLedger(tmp_path / "ledger.sqlite").submissions()
    assert submission.state == "accepted"


def test_one_gateway_serves_the_chat_model_and_the_videos(tmp_path: Path) -> None:
    chat_model = ChatModel(
        calls("create_video", prompt="fly man", width=64, height=36, n_frames=3),
        lambda body: calls("query_video", task_id=json.loads(body["messages"][2]["content"])["task_id"]),
        {"content": "Here it is."},
    )
    with Sandbox(world=World(speed=10, keys=[KEY], chat_model=chat_model)) as sandbox:
        said = run("one_gateway", folder=tmp_path, sandbox=sandbox, MODEL="openai:gpt-5")
        assert sandbox.creates == 1
        assert {request.authorized for request in sandbox.requests} == {True}
    assert [tool["function"]["name"] for tool in chat_model.asked[0]["tools"]] == ["create_video", "query_video"]
    assert {body["model"] for body in chat_model.asked} == {"gpt-5"}
    assert measures(tmp_path) == [(64, 36, 3)]
    assert said.splitlines()[-1] == "Here it is."


def test_batch_makes_two_at_a_time(gateway: Sandbox, tmp_path: Path) -> None:
    said = run("batch", folder=tmp_path, sandbox=gateway)
    assert gateway.creates == 3
    assert measures(tmp_path) == [(480, 270, 60)] * 3
    prompts = {request.body["prompt"] for request in creates(gateway)}
    assert prompts == {
        "A slow pan across a paper boat in the rain, at dusk",
        "A slow pan across a lighthouse in a storm, at dusk",
        "A slow pan across a kite over the dunes, at dusk",
    }
    routes = [request.route for request in gateway.requests if request.route in ("create", "download")]
    assert routes[:3] == ["create", "create", "download"], "the third waits for one of the first to be saved"
    assert [line.partition(":")[0] for line in said.splitlines()[-3:]] == [
        "a paper boat in the rain",
        "a lighthouse in a storm",
        "a kite over the dunes",
    ]


def test_storyboard_makes_one_request_of_the_shots(gateway: Sandbox, tmp_path: Path) -> None:
    run("storyboard", folder=tmp_path, sandbox=gateway)
    assert gateway.creates == 1
    (sent,) = [request.body for request in creates(gateway)]
    assert (sent["operation"], sent["n_frames"]) == ("storyboard", 150)
    assert [action["time"] for action in sent["actions"]] == [0, 1, 3]
    assert measures(tmp_path) == [(854, 480, 150)]


def test_storyboard_takes_the_shots_of_a_real_client(tmp_path: Path) -> None:
    shots = [{"seconds": 1, "description": "A seed"}, {"seconds": 1, "description": "A tree"}]
    chat_model = ChatModel({"content": json.dumps({"shots": shots})})
    with Sandbox(world=World(speed=10, chat_model=chat_model)) as sandbox:
        run("storyboard", "A tree grows", folder=tmp_path, sandbox=sandbox, **chat_model.named(sandbox))
        assert sandbox.creates == 1
        (sent,) = [request.body for request in creates(sandbox)]
    assert sent["actions"] == [{"time": 0, "description": "A seed"}, {"time": 1, "description": "A tree"}]
    (asked,) = chat_model.asked
    assert asked["messages"][-1]["content"] == "A tree grows"
    assert asked["response_format"]["json_schema"]["name"] == "Storyboard"
    assert measures(tmp_path) == [(854, 480, 60)]


def first_pixel(video: Path) -> tuple[int, ...]:
    with av.open(str(video)) as container:
        image = next(container.decode(video=0)).to_image()
    pixel = image.getpixel((10, 10))
    assert isinstance(pixel, tuple)
    return pixel


@pytest.mark.parametrize("whose", ["scripted", "a real client's"])
def test_image_to_video_opens_on_the_picture(whose: str, tmp_path: Path) -> None:
    chat_model = ChatModel(calls("draw_sun", sky="#204060", sun="#ffcc00"))
    with Sandbox(world=World(speed=10, chat_model=chat_model)) as sandbox:
        model = {} if whose == "scripted" else chat_model.named(sandbox)
        run("image_to_video", folder=tmp_path, sandbox=sandbox, **model)
        assert sandbox.creates == 1
        (sent,) = [request.body for request in creates(sandbox)]
    head, _, data = sent["inpaint_items"][0]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
    assert measures(tmp_path) == [(480, 270, 60)]
    sky = (0xF4, 0xA2, 0x61) if whose == "scripted" else (0x20, 0x40, 0x60)
    (video,) = (tmp_path / "videos").iterdir()
    assert first_pixel(video) == pytest.approx(sky, abs=12)
    if model:
        (asked,) = chat_model.asked
        assert asked["tool_choice"]["function"]["name"] == "draw_sun"
        assert "base64" not in json.dumps(asked)


@pytest.mark.parametrize("moment", ["between create and query", "before the create is answered"])
def test_workflow_survives_a_kill_and_pays_once(moment: str, tmp_path: Path) -> None:
    order = ("A kite", "order-1")
    with Sandbox() as sandbox:
        if moment == "before the create is answered":
            sandbox.script("create", "hang", accept=True)
        environment = surroundings(tmp_path, sandbox)
        with subprocess.Popen(
            command("workflow", *order), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        ) as first:
            assert first.stdout
            try:
                if moment == "between create and query":
                    assert next((line for line in first.stdout if line.startswith("task_id")), None)
                else:
                    deadline = time.monotonic() + BOUND
                    while not sandbox.creates and time.monotonic() < deadline:
                        time.sleep(0.005)
            finally:
                first.send_signal(signal.SIGKILL)
        assert first.returncode == -signal.SIGKILL
        assert sandbox.creates == 1
        assert not (tmp_path / "videos").exists()
        said = run("workflow", *order, folder=tmp_path, sandbox=sandbox)
        assert "order    order-1, taken up again" in said
        assert sandbox.creates == 1
        assert len(creates(sandbox)) == 1
        assert ("prompt" in said) is False, "that node was done"
        assert measures(tmp_path) == [(480, 270, 60)]
        requests = len(sandbox.requests)
        assert said.splitlines()[-1] == run("workflow", *order, folder=tmp_path, sandbox=sandbox).splitlines()[-1]
        assert len(sandbox.requests) == requests, "a finished order asks for nothing"


def test_workflow(gateway: Sandbox, tmp_path: Path) -> None:
    said = run("workflow", folder=tmp_path, sandbox=gateway)
    assert gateway.creates == 1
    assert creates(gateway)[0].body["prompt"] == "A kite over the dunes, filmed from a drone at sunrise"
    assert measures(tmp_path) == [(480, 270, 60)]
    (video,) = (tmp_path / "videos").iterdir()
    assert said.splitlines()[-1].split() == ["done", f"videos/{video.name}"]
