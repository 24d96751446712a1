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
from PIL import ImageChops, ImageStat

from sora_tools import demo
from sora_tools.ledger.sqlite import SQLiteLedger
from sora_tools.media import probe
from sora_tools.sandbox import Received, Sandbox, World

pytestmark = pytest.mark.timeout(200)

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
KEY = "sk-test-0123456789"
BOUND = 60
"""Seconds after which an example is killed: it hangs."""

REAL = pytest.param("a real client's", marks=pytest.mark.long)
"""Whose model it is, where the scripted one plays the same part in `make test`."""


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


def example(
    name: str, *arguments: str, folder: Path, sandbox: Sandbox | None, answers: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run it to its end. ``answers``: what its user types."""
    return subprocess.run(
        command(name, *arguments),
        cwd=folder,
        env=surroundings(folder, sandbox, **more),
        input=answers,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )


def run(name: str, *arguments: str, **settings: Any) -> str:
    """What it prints."""
    done = example(name, *arguments, **settings)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def measures(folder: Path, videos: str = "videos") -> list[tuple[int, int, int]]:
    """Width, height and frames of each file that was saved."""
    files = sorted((folder / videos).iterdir())
    assert all(file.suffix == ".mp4" for file in files)
    return [(info.width, info.height, info.n_frames) for info in map(probe, files)]


def pictures(video: Path) -> list[Any]:
    with av.open(str(video)) as container:
        return [frame.to_image().resize((48, 27)) for frame in container.decode(video=0)]


def apart(one: Any, other: Any) -> float:
    """How far two pictures are from each other: 0 for the same, 255 for black and white."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


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


def settings(sandbox: Sandbox) -> dict[str, str]:
    """What lets an example use the sandbox's chat model as a model of one's own."""
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


@pytest.mark.parametrize(
    "name", ["one_gateway", *(pytest.param(name, marks=pytest.mark.long) for name in ("quickstart", "storyboard"))]
)
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
    assert said.splitlines()[0] == f"gateway  {gateway.base_url}: this may cost money"
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


def test_batch_goes_on_where_one_of_its_videos_fails(gateway: Sandbox, tmp_path: Path) -> None:
    gateway.script("task", "moderation_output")
    said = run("batch", "a seed", "a tree", folder=tmp_path, sandbox=gateway).splitlines()[-2:]
    assert gateway.creates == 2
    assert len(measures(tmp_path)) == 1
    assert [line.partition(":")[0] for line in said] == ["a seed", "a tree"]
    assert sum("moderation withheld" in line for line in said) == 1


def test_storyboard_makes_one_request_of_the_shots(gateway: Sandbox, tmp_path: Path) -> None:
    run("storyboard", folder=tmp_path, sandbox=gateway)
    assert gateway.creates == 1
    (sent,) = [request.body for request in creates(gateway)]
    assert (sent["operation"], sent["n_frames"]) == ("storyboard", 150)
    assert [action["time"] for action in sent["actions"]] == [0, 1, 3]
    assert measures(tmp_path) == [(854, 480, 150)]


@pytest.mark.long
def test_storyboard_takes_the_shots_of_a_real_client(tmp_path: Path) -> None:
    shots = [{"seconds": 1, "description": "A seed"}, {"seconds": 1, "description": "A tree"}]
    chat_model = ChatModel({"content": json.dumps({"shots": shots})})
    with Sandbox(world=World(speed=10, chat_model=chat_model)) as sandbox:
        run("storyboard", "A tree grows", folder=tmp_path, sandbox=sandbox, **settings(sandbox))
        assert sandbox.creates == 1
        (sent,) = [request.body for request in creates(sandbox)]
    assert sent["actions"] == [{"time": 0, "description": "A seed"}, {"time": 1, "description": "A tree"}]
    (asked,) = chat_model.asked
    assert asked["messages"][-1]["content"] == "A tree grows"
    assert asked["response_format"]["json_schema"]["name"] == "Storyboard"
    assert measures(tmp_path) == [(854, 480, 60)]


@pytest.mark.long
def test_storyboard_says_what_is_allowed_to_a_model_that_writes_more(tmp_path: Path) -> None:
    shots = [{"seconds": seconds, "description": "A tree grows"} for seconds in (4, 4, 8)]
    with Sandbox(world=World(chat_model=ChatModel({"content": json.dumps({"shots": shots})}))) as sandbox:
        done = example("storyboard", folder=tmp_path, sandbox=sandbox, **settings(sandbox))
        assert sandbox.creates == 0
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("no video  ")
    assert "480" in line
    assert "360" in line


@pytest.mark.parametrize("whose", ["scripted", REAL])
def test_image_to_video_opens_on_the_picture(whose: str, tmp_path: Path) -> None:
    chat_model = ChatModel(calls("draw_sun", sky="#204060", sun="#ffcc00"))
    with Sandbox(world=World(speed=10, chat_model=chat_model)) as sandbox:
        model = {} if whose == "scripted" else settings(sandbox)
        run("image_to_video", folder=tmp_path, sandbox=sandbox, **model)
        assert sandbox.creates == 1
        (sent,) = [request.body for request in creates(sandbox)]
    head, _, data = sent["inpaint_items"][0]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
    assert measures(tmp_path) == [(480, 270, 60)]
    sky = (0xF4, 0xA2, 0x61) if whose == "scripted" else (0x20, 0x40, 0x60)
    (video,) = (tmp_path / "videos").iterdir()
    assert pictures(video)[0].getpixel((1, 1)) == pytest.approx(sky, abs=12)
    if model:
        (asked,) = chat_model.asked
        assert asked["tool_choice"]["function"]["name"] == "draw_sun"
        assert "base64" not in json.dumps(asked)


@pytest.mark.parametrize(
    "moment", ["between create and query", pytest.param("before the create is answered", marks=pytest.mark.long)]
)
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
        (sent,) = creates(sandbox)
        assert sent.body["prompt"] == "A kite, filmed from a drone at sunrise"
        assert ("prompt" in said) is False, "that node was done"
        assert measures(tmp_path) == [(480, 270, 60)]
        (video,) = (tmp_path / "videos").iterdir()
        assert said.splitlines()[-1].split() == ["done", f"videos/{video.name}"]
        requests = len(sandbox.requests)
        assert said.splitlines()[-1] == run("workflow", *order, folder=tmp_path, sandbox=sandbox).splitlines()[-1]
        assert len(sandbox.requests) == requests, "a finished order asks for nothing"


@pytest.mark.parametrize(("decision", "creates"), [("y", 1), ("n", 0)])
def test_agent_with_approval_spends_nothing_on_a_no(
    decision: str, creates: int, gateway: Sandbox, tmp_path: Path
) -> None:
    said = run("agent_with_approval", folder=tmp_path, sandbox=gateway, answers=f"{decision}\n")
    assert "1 video of 854x480, 5 s" in said
    assert "0.50 USD" in said
    assert gateway.creates == creates
    if creates:
        assert measures(tmp_path) == [(854, 480, 150)]
        assert said.endswith("Your video is ready.\n")
    else:
        assert not (tmp_path / "videos").exists()
        assert {request.method for request in gateway.requests} <= {"GET"}
        assert "There is no video: " in said


@pytest.mark.parametrize("whose", ["scripted", REAL])
def test_chatbot_streams_progress_until_it_is_left(whose: str, tmp_path: Path) -> None:
    """By an empty line, or by the end of what is typed."""
    with Sandbox(world=World(speed=2, chat_model=demo._completed)) as gateway:
        typed, model = ("A kite\nA boat\n\n", {}) if whose == "scripted" else ("A kite\nA boat\n", settings(gateway))
        said = run("chatbot", folder=tmp_path, sandbox=gateway, answers=typed, **model)
        chats = [request for request in gateway.requests if request.route == "completion"]
        assert len(chats) == (0 if whose == "scripted" else 6)
        assert all(chat.body["stream"] for chat in chats)
        assert gateway.creates == 2
        assert [request.body["prompt"] for request in creates(gateway)] == ["A kite", "A boat"]
    assert measures(tmp_path) == [(854, 480, 150)] * 2
    lines = [line.rstrip() for line in said.replace("\r", "\n").splitlines()]
    assert lines.count("agent  Your video is ready.") == 2
    assert [line for line in lines if line.startswith("video  running, ") and line.endswith("%")]
    told = [word for line in lines if line.startswith("video") for word in [line.split()[1].rstrip(",")]]
    assert [word for word, before in zip(told, [None, *told], strict=False) if word != before] == [
        "The",  # gateway has accepted it
        "queued",
        "running",
        "succeeded",
        "saving",
        "saved",
    ] * 2


def test_watch_and_notify_posts_the_notice_when_the_video_is_ready(gateway: Sandbox, tmp_path: Path) -> None:
    lines = run("watch_and_notify", folder=tmp_path, sandbox=gateway).splitlines()
    assert gateway.creates == 1
    assert measures(tmp_path) == [(854, 480, 150)]
    assert lines[2].startswith("posted   A paper boat")
    assert lines[3] == "agent    It is rendering. I will tell you when it is ready."
    assert "video    succeeded" in lines[4:-2]
    assert lines[-2] == f"posted   News of {gateway.world.tasks[0].task_id}: succeeded"
    assert lines[-1] == "agent    Your video is ready."


@pytest.mark.long
def test_watch_and_notify_posts_that_it_failed_too(gateway: Sandbox, tmp_path: Path) -> None:
    gateway.script("task", "moderation_output")
    lines = run("watch_and_notify", folder=tmp_path, sandbox=gateway).splitlines()
    assert gateway.creates == 1
    assert lines[-2] == f"posted   News of {gateway.world.tasks[0].task_id}: failed"
    assert lines[-1].startswith("agent    There is no video: ")
    assert not (tmp_path / "videos").exists()


@pytest.mark.parametrize("whose", ["scripted", REAL])
def test_continuity_opens_each_shot_on_the_last_frame_of_the_one_before(whose: str, tmp_path: Path) -> None:
    too_many = {"prompts": ["A seed", "A sprout", "A tree", "A forest", "A planet"]}
    with Sandbox(world=World(speed=10, chat_model=ChatModel({"content": json.dumps(too_many)}))) as sandbox:
        model = {} if whose == "scripted" else settings(sandbox)
        said = run("continuity", folder=tmp_path, sandbox=sandbox, **model)
        assert sandbox.creates == 3
        sent = [request.body["inpaint_items"] for request in creates(sandbox)]
    assert [len(items) for items in sent] == [0, 1, 1]
    assert measures(tmp_path) == [(480, 270, 60)] * 3
    film = probe(tmp_path / "film.mp4")
    assert (film.width, film.height, film.n_frames) == (480, 270, 180)
    first, second, third = (pictures(tmp_path / line.rpartition(" ")[2]) for line in said.splitlines()[2:5])
    for before, after in ((first, second), (second, third)):
        assert apart(before[-1], after[0]) < 4
        assert apart(before[0], after[0]) > 8, "each shot has moved on when it ends"


ACCEPTED = {"accepted": True, "reason": "It is stormy", "remix": ""}
REJECTED = {"accepted": False, "reason": "The sea is flat", "remix": "A lighthouse, waves break over it"}


@pytest.mark.parametrize(
    "verdict",
    [ACCEPTED, REJECTED, pytest.param(None, marks=pytest.mark.long)],
    ids=["accepted", "rejected", "scripted"],
)
def test_critique_remixes_once_where_the_verdict_says_so(verdict: dict[str, Any] | None, tmp_path: Path) -> None:
    chat_model = ChatModel({"content": json.dumps(verdict)})
    with Sandbox(world=World(speed=10, chat_model=chat_model)) as sandbox:
        said = run("critique", folder=tmp_path, sandbox=sandbox, **(settings(sandbox) if verdict else {}))
        remixed = verdict != ACCEPTED
        assert sandbox.creates == 1 + remixed
        sent = [request.body for request in creates(sandbox)]
        source = sandbox.world.tasks[0].generation_ids[0]
    assert measures(tmp_path) == [(480, 270, 60)] * (1 + remixed)
    if remixed:
        assert sent[1]["operation"] == "remix"
        assert sent[1]["inpaint_items"] == [{"generation_id": source}]
        assert (
            sent[1]["prompt"]
            == (verdict or {"remix": "A lighthouse in a storm, with higher waves and more spray"})["remix"]
        )
    assert f"verdict  {'rejected' if remixed else 'accepted'}: " in said
    if verdict:
        (asked,) = chat_model.asked
        kinds = [part["type"] for part in asked["messages"][-1]["content"]]
        assert kinds == ["text", "image_url", "image_url", "image_url", "image_url"]
