"""The README's first command: a whole agent turn over the real tools, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from langchain.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from PIL import Image
from pydantic import BaseModel
from typer.testing import CliRunner

from sora_tools import Sora, cli, demo
from sora_tools.errors import (
    ConfigurationError,
    DownloadError,
    QuotaError,
    SoraError,
    SubmissionUnknownError,
    TaskFailedError,
    WaitTimeoutError,
)
from sora_tools.events import Saved, Seen, Submitted
from sora_tools.media import probe
from sora_tools.sandbox import Sandbox

SMALL = {"width": 64, "height": 36, "n_frames": 3}


@pytest.fixture
def sandboxes(monkeypatch):
    """The sandboxes that demos start, in a hurry; what is scripted for the first stands in ``script``."""
    monkeypatch.delenv("SORA_DEMO_MODEL", raising=False)

    class Quick(Sandbox):
        script_first: tuple = ()

        def start(self):
            started.append(super().start())
            if Quick.script_first:
                self.script(*Quick.script_first)
            return self

    started = []
    monkeypatch.setattr(demo, "Sandbox", partial(Quick, speed=20))
    return started, lambda *fault: setattr(Quick, "script_first", fault)


@pytest.fixture
def small(monkeypatch):
    """The scripted model, asking for a video that renders in no time."""
    called = demo._call
    monkeypatch.setattr(
        demo,
        "_call",
        lambda tool, given, number: called(tool, {**given, **SMALL} if "prompt" in given else given, number),
    )


@pytest.fixture
def perform(sandboxes, tmp_path):
    said, told = [], []

    def run(prompt="fly man", **options):
        outcome = demo.run(
            prompt, tmp_path / "videos", say=lambda *words: said.append(words), on_event=told.append, **options
        )
        return outcome, said, told

    run.said = said
    return run


def raising(error):
    def work(*_, **__):
        raise error

    return work


def test_the_command_leaves_a_whole_video_and_its_sheet_and_prints_where(tmp_path):
    """At full size and its own pace, as somebody without a key would run it, into a pipe of 40 columns."""
    outside = {"SORA_BASE_URL": "http://127.0.0.1:9", "SORA_API_KEY": "sk-never-used", "SORA_LEDGER": "nonsense"}
    done = subprocess.run(
        [sys.executable, "-m", "sora_tools", "demo"],
        cwd=tmp_path,
        env={**os.environ, **outside, "COLUMNS": "40"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    video, sheet = map(Path, done.stdout.splitlines())
    assert (video.parent, sheet.parent) == (tmp_path / "videos",) * 2
    measured = probe(video)
    assert (measured.width, measured.height, measured.n_frames) == (854, 480, 150)
    with Image.open(sheet) as image:
        assert image.format == "PNG"
        assert image.width == 1280
    assert sorted(path.name for path in video.parent.iterdir()) == sorted([video.name, sheet.name])
    said = done.stderr.splitlines()
    assert said[0].startswith("gateway  a sandbox on this machine, http://127.0.0.1:")
    assert said[1].startswith("model    scripted: ")
    assert said[2] == f"user     {cli.EXAMPLE}"
    assert said[3].startswith("agent    create_video(prompt=")
    assert any(line.startswith("agent    query_video(task_id=") for line in said)
    assert any(" running, " in line for line in said)
    assert said[-1] == "The sandbox counted 1 create; a paid gateway would have charged 0.50."
    assert "sk-never-used" not in done.stdout + done.stderr


@pytest.mark.usefixtures("small")
def test_a_turn_creates_once_and_is_told_step_by_step(perform, sandboxes):
    outcome, said, told = perform("fly man")
    [sandbox] = sandboxes[0]
    assert sandbox.creates == outcome.creates == 1
    assert outcome.charged == sandbox.charged == Decimal("0.0001")
    assert [path.suffix for path in outcome.files] == [".mp4", ".png"]
    assert all(path.is_file() for path in outcome.files)
    assert [who for who, _ in said] == ["gateway", "model", "user", "agent", "tool", "agent", "tool", "agent"]
    assert said[-2][1].startswith("succeeded task_")
    assert said[-2][1].endswith(" 64x36, 0.1 s")
    assert [kind for kind in map(type, told) if kind in (Submitted, Saved)] == [Submitted, Saved]
    assert any(isinstance(event, Seen) for event in told)


def test_a_real_model_takes_the_scripted_ones_place(perform, sandboxes, monkeypatch):
    class Talkative(demo.ScriptedModel):
        """Starts two variants and speaks while it works."""

        def _generate(self, messages, *_, **__):
            result = super()._generate(messages)
            if isinstance(messages[-1], HumanMessage):
                message = demo._call("create_video", {"prompt": messages[-1].text, "n_variants": 2, **SMALL}, 1)
                message.content = "Let me see."
                result.generations[0].message = message
            return result

    monkeypatch.setattr(demo, "init_chat_model", lambda name: Talkative())
    outcome, said, _ = perform(model="acme:director-1")
    assert ("model", "acme:director-1") in said
    assert ("agent", "Let me see.") in said
    assert [path.suffix for path in outcome.files] == [".mp4", ".png"] * 2
    assert outcome.creates == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (("task", "moderation_output"), TaskFailedError),
        (("create", "quota"), QuotaError),
        (("create", "bad_gateway"), SubmissionUnknownError),
        (("download", "not_found", None), DownloadError),
    ],
)
@pytest.mark.usefixtures("small")
def test_what_kept_the_agent_from_a_video_is_raised_as_what_it_is(perform, sandboxes, fault, kind):
    sandboxes[1](*fault)
    with pytest.raises(kind) as caught:
        perform()
    assert perform.said[-1][0] == "agent"
    assert perform.said[-1][1].startswith("There is no video: ")
    assert caught.value.charged == kind.charged


@pytest.mark.parametrize(
    ("turns", "kind", "words"),
    [
        ([AIMessage("No.")], SoraError, "without starting a video"),
        (
            [demo._call("create_video", {"prompt": "a", **SMALL}, 1), AIMessage("Later.")],
            WaitTimeoutError,
            "before the",
        ),
        ([demo._call("make_coffee", {}, 1), AIMessage("Oh.")], SoraError, "make_coffee is not a valid tool"),
    ],
)
def test_a_model_that_gives_up_is_not_taken_for_success(perform, sandboxes, monkeypatch, turns, kind, words):
    left = iter(turns)
    monkeypatch.setattr(demo, "_next", lambda messages: next(left))
    with pytest.raises(kind, match=words) as caught:
        perform()
    assert type(caught.value) is kind


def test_a_model_that_cannot_be_had_is_a_setting_that_is_wrong(perform, sandboxes):
    with pytest.raises(ConfigurationError, match="'nobody:nothing' cannot be used"):
        perform(model="nobody:nothing")
    assert sandboxes[0] == []


def test_what_a_provider_says_at_length_is_cut(perform, monkeypatch):
    monkeypatch.setattr(demo, "init_chat_model", raising(ValueError("Supported providers are: " + "acme, " * 100)))
    with pytest.raises(ConfigurationError, match="cannot be used: Supported providers") as caught:
        perform(model="nope:x")
    assert len(caught.value.message) < 250


@pytest.mark.parametrize("paid", [False, True])
def test_a_folder_that_cannot_be_one_is_found_before_anything_is_created(
    sandboxes, sandbox, tmp_path, monkeypatch, paid
):
    monkeypatch.setenv("SORA_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("SORA_API_KEY", "sk-mine")
    file = tmp_path / "afile"
    file.touch()
    result = CliRunner().invoke(cli.app, ["demo", "-d", str(file), *(["--paid"] if paid else [])])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"configuration: {file} ")
    assert (sandboxes[0], sandbox.requests) == ([], ())


@pytest.mark.usefixtures("small")
def test_paid_uses_the_gateway_that_is_set_and_starts_no_sandbox(perform, sandboxes, sandbox, monkeypatch):
    monkeypatch.setenv("SORA_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("SORA_API_KEY", "sk-mine")
    outcome, said, _ = perform(paid=True)
    assert said[0] == ("gateway", f"{sandbox.base_url}: this costs money")
    assert (outcome.creates, outcome.charged) == (1, None)
    assert sandbox.creates == 1
    assert sandboxes[0] == []
    assert "sk-mine" not in str(said)


def test_paid_without_a_gateway_is_refused(perform, sandboxes):
    with pytest.raises(ConfigurationError, match="No gateway address"):
        perform(paid=True)
    assert sandboxes[0] == []


@pytest.mark.usefixtures("sandboxes", "small")
@pytest.mark.parametrize("paid", [False, True])
def test_ctrl_c_names_the_task_that_goes_on_only_where_it_does(sandbox, tmp_path, monkeypatch, paid):
    monkeypatch.setenv("SORA_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("SORA_API_KEY", "sk-mine")

    def interrupt(tool, given, number, call=demo._call):
        if tool == "query_video":
            raise KeyboardInterrupt
        return call(tool, given, number)

    monkeypatch.setattr(demo, "_call", interrupt)
    arguments = ["demo", "fly man", "-d", str(tmp_path), *(["--paid"] if paid else [])]
    result = CliRunner().invoke(cli.app, arguments)
    assert (result.exit_code, result.stdout) == (130, "")
    assert (" goes on at the gateway" in result.stderr.splitlines()[-1]) == paid


# --- what the examples run with


def test_without_settings_the_gateway_is_a_sandbox_while_the_block_lasts(monkeypatch, capsys):
    monkeypatch.setenv("SORA_LEDGER", "/somewhere/ledger.sqlite")
    before = dict(os.environ)
    with demo.gateway(), Sora() as sora:
        assert os.environ["SORA_LEDGER"] == "memory"
        assert sora.probe().formats
        assert (
            capsys.readouterr().out
            == f"gateway  a sandbox on this machine, {os.environ['SORA_BASE_URL']}: nothing is paid\n"
        )
    assert dict(os.environ) == before


def test_the_sandbox_is_gone_after_an_error_too(capsys):
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), demo.gateway():
        raise ZeroDivisionError
    assert dict(os.environ) == before


def test_a_gateway_that_is_set_is_used_as_it_is(sandboxes, monkeypatch, capsys):
    monkeypatch.setenv("SORA_BASE_URL", "https://gateway.example")
    before = dict(os.environ)
    with demo.gateway():
        assert dict(os.environ) == before
    assert sandboxes[0] == []
    assert capsys.readouterr().out == "gateway  https://gateway.example: this may cost money\n"


def test_the_sandbox_serves_the_scripted_model_too():
    with demo.gateway():
        model = ChatOpenAI(model="any", base_url=f"{os.environ['SORA_BASE_URL']}/v1", api_key="any")
        asked = model.invoke("fly man")
        assert [(call["name"], call["args"]) for call in asked.tool_calls] == [("create_video", {"prompt": "fly man"})]
        answered = ToolMessage('{"videos": [{}]}', tool_call_id=asked.tool_calls[0]["id"])
        assert model.invoke([HumanMessage("fly man"), asked, answered]).text == "Your video is ready."


def test_the_model_is_scripted_and_called_so_unless_one_is_named(monkeypatch, capsys):
    monkeypatch.delenv("MODEL", raising=False)
    assert demo.chat_model("yes").invoke("well?").text == "yes"
    assert capsys.readouterr().out == "model    scripted: it plays a model's part without a key\n"
    monkeypatch.setenv("MODEL", "openai:gpt-5")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    assert isinstance(demo.chat_model("yes"), ChatOpenAI)
    assert capsys.readouterr().out == "model    openai:gpt-5\n"
    monkeypatch.setenv("MODEL", "nobody:nothing")
    with pytest.raises(ConfigurationError, match="'nobody:nothing' cannot be used"):
        demo.chat_model()


class Shot(BaseModel):
    """One shot."""

    words: str
    seconds: int = 1


async def test_a_scripted_model_says_texts_objects_and_messages():
    shot = Shot(words="a kite")
    assert demo.ScriptedModel(answer=shot).with_structured_output(Shot).invoke("go") == shot
    assert await demo.ScriptedModel(answer=shot).with_structured_output(Shot).ainvoke("go") == shot
    message = AIMessage("", tool_calls=[{"name": "draw", "args": {}, "id": "c"}])
    model = demo.ScriptedModel(answer=message)
    first, second = model.invoke("go"), model.invoke("go")
    assert first.tool_calls == second.tool_calls == message.tool_calls
    assert len({first.id, second.id, message.id}) == 3
    echo = demo.ScriptedModel(answer=lambda messages: messages[-1].text.upper())
    assert [said.text for said in await echo.abatch(["a", "b"])] == ["A", "B"]
    assert "".join([chunk.text async for chunk in echo.astream("a")]) == "A"
