"""`sora-tools ledger`: a file on disk, a sandbox over a real socket, and what people and programs are shown."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sora_tools import InvalidRequestError, Price, Retry, Sora, SQLiteLedger, SubmissionUnknownError, cli
from sora_tools.media import probe

KEY = "sk-do-not-print-me"
SMALL = ("--width", "64", "--height", "36", "--frames", "3")


@pytest.fixture
def run(sandbox, monkeypatch, tmp_path):
    """Run a command as a process of its own would: nothing but the ledger's file goes from one to the next."""
    monkeypatch.setenv("SORA_API_KEY", KEY)
    monkeypatch.setenv("SORA_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("SORA_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        result = CliRunner().invoke(cli.app, list(map(str, arguments)))
        assert KEY not in result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def submissions(run, *arguments):
    return json.loads(run("ledger", *arguments, "--json").stdout)["submissions"]


def test_a_create_is_written_down_for_every_later_command(run, sandbox):
    task_id = run("create", "fly man", *SMALL, "--key", "order-1").stdout.strip()
    again = run("create", "fly man", *SMALL, "--key", "order-1")
    assert (again.exit_code, again.stdout.strip(), sandbox.creates) == (0, task_id, 1)
    assert run("query", "order-1").stdout.startswith(task_id)
    line = run("ledger", "list").stdout
    assert re.fullmatch(rf"{task_id}  (accepted |succeeded)  \d{{4}}-\d\d-\d\d \d\d:\d\d  fly man\n", line)
    shown = run("ledger", "show", "order-1").stdout
    assert f"task_id      {task_id}" in shown
    assert json.loads(run("ledger", "show", task_id, "--json").stdout)["key"] == "order-1"


def test_another_request_under_the_same_key_is_refused(run, sandbox):
    run("create", "fly man", *SMALL, "--key", "order-1")
    refused = run("create", "fly woman", *SMALL, "--key", "order-1")
    assert (refused.exit_code, sandbox.creates) == (2, 1)
    assert "belongs to another request" in refused.stderr


def test_resume_takes_on_whatever_was_left(run, sandbox, tmp_path):
    sandbox.script("create", "cut_reply")
    sandbox.script("task", "invisible", seconds=0.5)
    sandbox.script("task", "failed")
    lost = run("create", "lost", *SMALL, "--key", "lost")
    assert (lost.exit_code, "Query it by its key" in lost.stderr) == (5, True)
    run("create", "doomed", *SMALL, "--key", "doomed")
    run("create", "begun", *SMALL, "--key", "begun")
    sandbox.script("create", "bad_gateway")
    run("create", "never arrived", *SMALL, "--key", "never")
    sandbox.script("create", "bad_request")
    run("create", "refused", *SMALL, "--key", "refused")
    assert {row["key"] for row in submissions(run, "list", "--unfinished")} == {"lost", "doomed", "begun", "never"}

    def states():
        return {row["key"]: (row["state"], row["outcome"]) for row in submissions(run, "list")}

    assert states()["lost"] == ("unsure", None)
    time.sleep(max(0.0, sandbox.world.tasks[0].created_at + 0.5 - sandbox.world.clock()))  # until the lost one shows
    resumed = run("ledger", "resume", "-d", "films", "--json")
    assert resumed.exit_code == 5, "one of them is still unknown"
    errors = {row["key"]: row.get("error", {}).get("code") for row in json.loads(resumed.stdout)["submissions"]}
    assert errors == {"lost": None, "doomed": "task_failed", "begun": None, "never": "submission_unknown"}
    assert states() == {
        "refused": ("refused", None),
        "never": ("unsure", None),
        "begun": ("accepted", "succeeded"),
        "doomed": ("accepted", "failed"),
        "lost": ("accepted", "succeeded"),
    }
    films = sorted(tmp_path.glob("films/*"))
    assert [probe(film).n_frames for film in films] == [3, 3]
    assert sandbox.creates == 3
    assert {row["key"] for row in submissions(run, "list", "--unfinished")} == {"never"}
    again = run("ledger", "resume", "-d", "films")
    assert (again.exit_code, again.stdout.count("submission_unknown")) == (5, 1)


def test_resume_of_one_prints_its_files(run, tmp_path):
    run("create", "fly man", *SMALL, "--key", "a")
    run("create", "fly woman", *SMALL, "--key", "b")
    result = run("ledger", "resume", "a")
    (film,) = tmp_path.glob("videos/*")
    assert (result.exit_code, result.stdout.strip()) == (0, str(film))
    assert [row["key"] for row in submissions(run, "list", "--unfinished")] == ["b"]
    assert run("ledger", "resume").exit_code == 0
    done = run("ledger", "resume")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "Nothing to resume here.\n")


def test_resume_leaves_another_gateways_alone_and_says_so(run, monkeypatch):
    run("create", "fly man", *SMALL, "--key", "a")
    monkeypatch.setenv("SORA_BASE_URL", "http://127.0.0.1:9")
    result = run("ledger", "resume")
    assert result.exit_code == 0
    assert re.search(r"There are more for http://127.0.0.1:\d+", result.stderr)


def test_resume_of_one_that_another_gateway_has_names_it(run, sandbox, monkeypatch):
    run("create", "fly man", *SMALL, "--key", "a")
    monkeypatch.setenv("SORA_BASE_URL", "http://127.0.0.1:9")
    result = run("ledger", "resume", "a")
    assert (result.exit_code, sandbox.base_url in result.stderr, "--base-url" in result.stderr) == (2, True, True)


@pytest.mark.parametrize("command", [["list"], ["show", "a"], ["forget", "a"], ["export"]], ids=" ".join)
def test_looking_into_a_ledger_that_is_not_there_makes_none(run, tmp_path, command):
    result = run("ledger", *command, "--ledger", "none.sqlite")
    assert "There is no ledger at" in result.stderr
    assert not (tmp_path / "none.sqlite").exists()


def test_what_may_be_paid_for_is_not_forgotten_by_accident(run, sandbox, tmp_path):
    task_id = run("create", "fly man", *SMALL, "--key", "a").stdout.strip()
    refused = run("ledger", "forget", task_id)
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    assert SQLiteLedger(tmp_path / "ledger.sqlite").find("a") is not None
    assert run("ledger", "forget", task_id, "--yes").exit_code == 0
    assert run("ledger", "forget", "a").exit_code == 9
    assert run("ledger", "list").stderr == "No submissions.\n"


def test_what_is_finished_may_be_forgotten(run):
    run("create", "fly man", *SMALL, "--key", "a")
    run("ledger", "resume")
    assert run("ledger", "forget", "a").stdout == "a\n"


def test_export_is_one_object_a_line_oldest_first(run):
    for name in "abc":
        run("create", f"fly {name}", *SMALL, "--key", name)
    lines = run("ledger", "export").stdout.splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["a", "b", "c"]
    assert json.loads(lines[0])["body"]["prompt"] == "fly a"


def test_a_resend_is_the_callers_word(run, sandbox):
    sandbox.script("create", "bad_gateway")
    assert run("create", "fly man", *SMALL, "--key", "a").exit_code == 5
    assert run("create", "fly man", *SMALL, "--key", "a").exit_code == 5
    assert sandbox.creates == 0
    assert run("create", "fly man", *SMALL, "--key", "a", "--resend").exit_code == 0
    assert sandbox.creates == 1


def test_a_ledger_may_be_named_on_the_command_line(run, tmp_path):
    run("create", "fly man", *SMALL, "--key", "a", "--ledger", "other.sqlite")
    assert run("ledger", "list").stdout == ""
    assert "fly man" in run("ledger", "list", "--ledger", "other.sqlite").stdout


def test_a_file_that_is_no_ledger_is_named(run, tmp_path):
    Path("notes.txt").write_text("these are my notes" * 100)
    result = run("ledger", "list", "--ledger", "notes.txt")
    assert result.exit_code == 2
    assert "notes.txt" in result.stderr
    assert run("ledger", "list", "--ledger", "notes.txt", "--json").stdout.startswith('{"error"')


# --- what it cost -------------------------------------------------------------------------------------------------


def priced(amount, currency="USD"):
    return Price(Decimal(amount), currency)


@pytest.fixture
def spent(run, sandbox, tmp_path):
    """Two paid, one of them reused; one unknown; one refused; one in another currency; one without a price."""
    with Sora(ledger=tmp_path / "ledger.sqlite", retry=Retry(attempts=1), price=lambda _: priced("0.50")) as sora:
        request = {"prompt": "fly man", "width": 64, "height": 36, "n_frames": 3}
        for key in ("paid", "copy"):
            sora.create(request, key=key, thread="chat")
        sora.create(request, key="resent")
        sandbox.script("task", "invisible", seconds=3600)
        sandbox.script("create", "cut_reply")
        with pytest.raises(SubmissionUnknownError):
            sora.create(request, key="lost")
        sandbox.script("create", "bad_request")
        with pytest.raises(InvalidRequestError):
            sora.create(request, key="refused")
        sora.gateway.price = lambda _: priced("3", "CNY")
        sora.create(request, key="chinese")
        sora.gateway.price = None
        sora.create(request, key="free")
    return run


def test_the_total_tells_what_is_paid_from_what_may_be(spent):
    told = json.loads(spent("ledger", "total", "--json").stdout)["total"]
    assert [tuple(line.values()) for line in told] == [
        ("accepted", 1, "3", "CNY"),
        ("accepted", 2, "1.00", "USD"),
        ("accepted", 1, None, None),
        ("refused", 1, "0", "USD"),
        ("unsure", 1, "0.50", "USD"),
    ]
    assert list(told[0]) == ["state", "creates", "amount", "currency"]
    assert [line.split() for line in spent("ledger", "total").stdout.splitlines()] == [
        ["accepted", "1", "create", "3", "CNY", "paid", "for"],
        ["accepted", "2", "creates", "1.00", "USD", "paid", "for"],
        ["accepted", "1", "create", "no", "price", "known", "paid", "for"],
        ["refused", "1", "create", "0", "USD", "not", "paid", "for"],
        ["unsure", "1", "create", "0.50", "USD", "may", "be", "paid", "for"],
    ]


def test_the_total_may_be_of_some_days(spent, tmp_path):
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db:
        db.execute("update submission set sent_at = sent_at - 200000 where key <> 'paid'")
        db.commit()
    told = json.loads(spent("ledger", "total", "--days", "2", "--json").stdout)["total"]
    assert [tuple(line.values()) for line in told] == [("accepted", 1, "0.50", "USD")]
    assert spent("ledger", "total", "--days", "-1").exit_code == 2


def test_the_total_of_nothing(run):
    result = run("ledger", "total", "--json")
    assert json.loads(result.stdout) == {"total": []}
    assert "No submissions." in result.stderr


def test_a_submission_shows_its_price(spent):
    assert re.search(r"(?m)^price +0\.50\ncurrency +USD$", spent("ledger", "show", "paid").stdout)
    assert "price" not in spent("ledger", "show", "free").stdout
    exported = [json.loads(line) for line in spent("ledger", "export").stdout.splitlines()]
    assert {row["key"]: (row["price"], row["currency"]) for row in exported}["chinese"] == ("3", "CNY")
