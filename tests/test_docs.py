"""What the documents say is there: every test that a promise names, every link, every program of a page."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import openai
import pytest
import test_dialects
from fault_server import FaultServer
from scripted_model import scripted
from typer.testing import CliRunner

import sora_tools
from sora_tools import cli
from sora_tools.dialects import DIALECTS
from sora_tools.sandbox import Sandbox, World, faults

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
    every.test_what_it_makes_is_what_it_tells("jobs")
    every.test_reads_any_json_or_says_that_it_cannot("jobs")
    every.test_reads_no_task_out_of_any_bytes("jobs")
    for body in test_dialects.UNCLEAR.values():
        every.test_never_calls_an_unclear_create_uncharged("jobs", body, 200)


# --- pages whose programs run ------------------------------------------------------------------------------------

MAKE = {"prompt": "fly man", "width": 320, "height": 180, "n_frames": 300}
LOOK = ("query_video", lambda last: {"task_id": last.artifact["task"]["task_id"]})
SHORT = ("create_video", {**MAKE, "n_frames": 30})
MODELS: dict[str, list[Any]] = {
    "README.zh-CN.md": [SHORT, LOOK],
    "agents.md": [SHORT, LOOK, LOOK],
    "chains.md": [],
    "langchain.md": [SHORT, LOOK],
    "operating.md": [("create_video", MAKE)],
    "sandbox.md": [],
}
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
        names: dict[str, Any] = {"model": scripted(MODELS[page])}
        for language, block in blocks:
            if language == "python":
                capsys.readouterr()
                exec(compile(block, page, "exec"), names)
            elif language == "text":
                assert capsys.readouterr().out == block
            else:
                command, said = block.split("\n", 1)
                assert CliRunner().invoke(cli.app, command.removeprefix("$ sora-tools ").split()).stdout == said
        if page == "sandbox.md":
            names["test_a_gateway_in_development_costs_nothing"](sandbox)


def test_every_program_is_on_a_page_that_is_run() -> None:
    elsewhere = {"README.md", "faults.md", "formats.md", "mcp.md"}  # test_end_to_end, here and above, test_mcp
    assert {page.name for page in PAGES if "```python" in page.read_text()} == {*MODELS, *elsewhere}


def test_an_sdk_is_counted_as_the_page_of_faults_does(monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = re.findall(r"(?ms)^```python\n(.*?)^```$", (ROOT / "docs" / "faults.md").read_text())
    monkeypatch.setattr("openai._base_client.SyncAPIClient._sleep_for_retry", lambda *_, **__: None)
    with FaultServer("502") as server:
        here = program.replace("http://127.0.0.1:8399", server.base_url)
        assert here != program
        names: dict[str, Any] = {}
        with pytest.warns(DeprecationWarning, match="Sora"), pytest.raises(openai.InternalServerError):
            exec(compile(here, "faults.md", "exec"), names)
        names["client"].close()
        assert server.posts == 3


def test_the_page_of_the_sandbox_has_its_faults_endings_and_manners() -> None:
    page = (ROOT / "docs" / "sandbox.md").read_text()
    table, rest = re.findall(r"(?ms)^\| kind \| faults \|\n(.*?)\n\n(.*?)\n\n", page)[0]
    named = [name for row in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(faults.EVERY)
    assert set(re.findall(r"`(\w+)`", rest)) == set(faults.ENDINGS)
    manners = set(inspect.signature(World).parameters) - {"clock", "seed", "duration", "speed", "keys", "formats"}
    assert manners == set(re.findall(r"`(\w+)`", page.split("the ways gateways differ:")[1].split("## ")[0]))


def test_the_chinese_page_has_every_error_code() -> None:
    page = (ROOT / "docs" / "README.zh-CN.md").read_text()
    kinds = [getattr(sora_tools, name) for name in sora_tools.__all__ if name.endswith("Error")]
    codes = {kind.code for kind in kinds if issubclass(kind, sora_tools.SoraError)} - {sora_tools.SoraError.code}
    assert codes == set(re.findall(r"(?m)^\| `(\w+)` \| .* \| (?:no|unknown|yes|与)", page))
