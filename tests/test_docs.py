"""What the documents say is there: every test that a promise names, every link, every program of a page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import test_dialects
from scripted_model import ScriptedModel
from typer.testing import CliRunner

from sora_tools import cli
from sora_tools.dialects import DIALECTS
from sora_tools.sandbox import Sandbox

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_test_that_a_promise_names_is_there() -> None:
    named = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", (ROOT / "docs" / "promises.md").read_text())
    assert len(named) > 20
    for file, test in named:
        text = (ROOT / file).read_text()
        assert re.search(rf"def {test}\(" if test else r"def test_|TestCase", text), f"{file}::{test}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


FORMATS = (ROOT / "docs" / "formats.md").read_text()


def fenced(language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", FORMATS, re.DOTALL)
    return block


def test_the_page_of_formats_has_their_routes() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \|", FORMATS)
    assert [row[0] for row in rows] == test_dialects.NAMES
    for name, *told in rows:
        calls = [test_dialects.call(name, "create"), DIALECTS[name].look("{id}"), DIALECTS[name].list(10, None)]
        assert told == [route(call) for call in calls]


def route(call: Any) -> str:
    if call is None:
        return "-"
    asked = [f"{name}={{id}}" for name, value in call.query.items() if value == "{id}"]
    return f"`{call.method} {'?'.join([call.path, *asked])}`".replace("%7Bid%7D", "{id}")


def test_the_format_of_the_page_is_one_like_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(FORMATS.splitlines()) < 120
    program, names = fenced("python"), {}
    assert len(program.splitlines()) < 100
    exec(compile(program, "formats.md", "exec"), names)
    monkeypatch.setitem(DIALECTS, "jobs", names["Jobs"]())
    sample = tmp_path / "jobs" / "look_failed.json"
    sample.parent.mkdir()
    sample.write_text(fenced("json"))
    recorded = test_dialects.TestSamples()
    for check in (
        recorded.test_reads_as_it_says,
        recorded.test_keeps_the_gateways_own_object,
        recorded.test_may_lack_any_member_or_have_it_of_another_kind,
        recorded.test_answers_for_no_other_task,
    ):
        check(test_dialects.Sample(sample))
    recorded.test_is_a_failed_task_whatever_the_status_it_comes_with(test_dialects.Sample(sample), 500)
    every = test_dialects.TestEveryFormat()
    every.test_sends_the_prompt_the_model_and_the_key("jobs")
    every.test_sends_the_operators_own_members_over_everything("jobs")
    every.test_without_a_model_it_says_where_to_set_one_or_needs_none("jobs")
    every.test_keeps_an_id_whole_on_its_way("jobs", "sora-2:task_1/..?#")
    every.test_refuses_an_id_that_nothing_has("jobs", "..")
    every.test_a_create_that_names_a_task_and_an_error_keeps_the_id("jobs")
    every.test_says_what_it_makes_other_than_asked("jobs")
    every.test_reads_any_json_or_says_that_it_cannot("jobs")
    every.test_reads_no_task_out_of_any_bytes("jobs")
    for body in test_dialects.UNCLEAR.values():
        every.test_never_calls_an_unclear_create_uncharged("jobs", body, 200)


# --- pages whose programs run ------------------------------------------------------------------------------------

MAKE = {"prompt": "fly man", "width": 320, "height": 180, "n_frames": 300}
MODELS = {"operating.md": [("create_video", MAKE)]}
"""The pages, each with what the ``model`` calls that its programs are given."""


@pytest.mark.parametrize("page", MODELS)
def test_every_program_of_the_page_runs_and_says_what_the_page_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their order and one namespace; ``text`` is what the program before it prints, ``console`` our own command."""
    blocks = re.findall(r"(?ms)^```(python|text|console)\n(.*?)^```$", (ROOT / "docs" / page).read_text())
    monkeypatch.chdir(tmp_path)
    with Sandbox(speed=20) as sandbox:
        monkeypatch.setenv("SORA_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("SORA_API_KEY", "sk-test-0123456789")
        monkeypatch.setenv("SORA_LEDGER", str(tmp_path / "ledger.sqlite"))
        names: dict[str, Any] = {"model": ScriptedModel(calls=MODELS[page])}
        for language, block in blocks:
            if language == "python":
                capsys.readouterr()
                exec(compile(block, page, "exec"), names)
            elif language == "text":
                assert capsys.readouterr().out == block
            else:
                command, said = block.split("\n", 1)
                assert CliRunner().invoke(cli.app, command.removeprefix("$ sora-tools ").split()).stdout == said
