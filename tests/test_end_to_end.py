"""The main job, whole: agent, tools, client, dialect, a real socket, the sandbox, an MP4 on disk."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from documented import EXAMPLE
from langchain.agents import create_agent
from langchain_core.messages import ToolMessage
from scripted_model import scripted

from sora_tools import SoraToolkit
from sora_tools.media import probe
from sora_tools.sandbox import Sandbox

KEY = "sk-test-0123456789"


def ask(last: ToolMessage) -> dict[str, Any]:
    return {"task_id": json.loads(str(last.content))["task_id"]}


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_the_pages_example_goes_from_an_agent_to_a_file(colour: str, tmp_path: Path) -> None:
    model = scripted([("create_video", EXAMPLE), ("query_video", ask), ("query_video", ask)])
    question = {"messages": [("user", "Make a video of a man who flies.")]}
    with Sandbox(speed=4) as sandbox:
        with SoraToolkit(base_url=sandbox.base_url, api_key=KEY, download_dir=tmp_path) as toolkit:
            agent = create_agent(model, toolkit.get_tools())
            invoked = agent.invoke(question) if colour == "sync" else asyncio.run(agent.ainvoke(question))
        answers = [message for message in invoked["messages"] if isinstance(message, ToolMessage)]
        assert [answer.status for answer in answers] == ["success"] * 3
        assert sandbox.creates == 1
        (sent,) = [request.body for request in sandbox.requests if request.method == "POST"]
        assert sent == EXAMPLE
    told = json.loads(str(answers[-1].content))
    assert told["status"] == "succeeded"
    (file,) = tmp_path.iterdir()
    assert told["videos"][0]["file"] == str(file)
    video = probe(file)
    assert (video.width, video.height, video.n_frames, video.fps) == (854, 480, 150, 30)
    assert KEY not in repr(invoked)


async def test_fifty_waits_take_no_longer_than_one() -> None:
    """How long they take is the point, so real seconds pass."""
    arguments = {"width": 64, "height": 36, "n_frames": 3}
    with Sandbox(speed=2, render=False) as sandbox:
        async with SoraToolkit(base_url=sandbox.base_url, api_key=KEY) as toolkit:
            create, query = toolkit.get_tools()
            toolkit.sora.gateway.jitter = lambda: 1.0  # both look at the same moments

            async def seconds(count: int) -> float:
                prompts = [{"prompt": f"{count} {number}", **arguments} for number in range(count)]
                made = await asyncio.gather(*(create.ainvoke(prompt) for prompt in prompts))
                ids = [json.loads(answer)["task_id"] for answer in made]
                start = time.monotonic()
                found = await asyncio.gather(*(query.ainvoke({"task_id": task_id}) for task_id in ids))
                assert {json.loads(answer)["status"] for answer in found} == {"succeeded"}
                return time.monotonic() - start

            alone = await seconds(1)
            together = await seconds(50)
    assert 2.0 < alone < 5.0, "the task needs 3 s"
    assert together < alone + 1.0


def readme_programs() -> list[str]:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    return re.findall(r"```python\n(.*?)```", readme, re.DOTALL)


@pytest.mark.parametrize("program", readme_programs(), ids=lambda program: program.splitlines()[0])
def test_check_14_every_program_of_the_readme_runs(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sora_tools.flow.look.SHORTEST", 0.1)
    model = scripted([("create_video", {"prompt": "fly man", "n_frames": 3}), ("query_video", ask)])
    with Sandbox(speed=20) as sandbox:
        monkeypatch.setenv("SORA_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("SORA_API_KEY", KEY)
        names: dict[str, Any] = {"model": model}
        exec(compile(program, "README.md", "exec"), names)
        assert sandbox.creates == (0 if "sandbox" in names else 1)
    if "print(" in program:
        assert "succeeded" in capsys.readouterr().out
        assert [path.suffix for path in Path("videos").iterdir()] == [".mp4"]


def test_the_readme_stays_short() -> None:
    assert len((Path(__file__).parent.parent / "README.md").read_text().splitlines()) < 250
