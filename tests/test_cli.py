"""The command line as its users meet it: a sandbox over a real socket, two streams and an exit code."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

import sora_tools
from sora_tools import cli, errors, screen
from sora_tools.client.sora import Sora
from sora_tools.errors import SoraError, TaskFailedError, WaitTimeoutError
from sora_tools.events import Downloading, Retrying, Saved, Seen, in_words
from sora_tools.schemas import VideoRequest, VideoTask

KEY = "sk-do-not-print-me"
SMALL = ("--width", "64", "--height", "36", "--frames", "3")
TASK_ID = re.compile(r"task_[0-7][0-9a-hjkmnp-tv-z]{25}")
ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SoraError)]


@pytest.fixture
def run(monkeypatch):
    """Run a command in this process; no output of any of them may hold the key."""
    monkeypatch.setenv("SORA_API_KEY", KEY)

    def call(*arguments, stdin=None):
        result = CliRunner().invoke(cli.app, list(map(str, arguments)), input=stdin)
        assert KEY not in result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def at_sandbox(run, sandbox, monkeypatch):
    monkeypatch.setenv("SORA_BASE_URL", sandbox.base_url)
    return run


@pytest.fixture
def no_naps(monkeypatch):
    """Retries at once: what is tested here is what is said of them."""
    monkeypatch.setattr("sora_tools.client.sora.time.sleep", lambda seconds: None)


@pytest.fixture
def terminal(monkeypatch):
    """stderr as a terminal 80 columns wide."""
    seen = io.StringIO()
    console = Console(file=seen, force_terminal=True, width=80, highlight=False, markup=False, soft_wrap=True)
    monkeypatch.setattr(screen, "err", console)
    return seen


def raising(error):
    def work(*_, **__):
        raise error

    return work


def task(**facts):
    return VideoTask(**{"task_id": "task_1", "status": "running", **facts})


# --- a video, command by command ----------------------------------------------------------------------------------


def test_each_command_takes_up_what_the_one_before_printed(at_sandbox, sandbox, tmp_path):
    created = at_sandbox("create", "fly man", *SMALL)
    task_id = created.stdout.strip()
    assert TASK_ID.fullmatch(task_id)
    assert (created.exit_code, created.stderr) == (0, "")
    waited = at_sandbox("wait", task_id)
    assert waited.exit_code == 0
    assert waited.stdout.startswith(f"{task_id}  succeeded\n  prompt   fly man\n  video    {sandbox.base_url}/media/")
    assert f"{task_id} succeeded" in waited.stderr.splitlines()
    assert at_sandbox("query", task_id).stdout.splitlines()[0] == waited.stdout.splitlines()[0]
    saved = at_sandbox("download", task_id, "--directory", tmp_path / "new")
    path = Path(saved.stdout.removesuffix("\n"))
    assert path.parent == tmp_path / "new"
    assert path.read_bytes()[4:8] == b"ftyp"
    assert saved.stderr.startswith(f"saved {path.name}, ")
    listed = at_sandbox("list")
    assert re.fullmatch(rf"{task_id}  succeeded +\d{{4}}-\d\d-\d\d \d\d:\d\d  fly man\n", listed.stdout)
    assert sandbox.creates == 1


def test_json_is_one_document_on_stdout_for_every_command(at_sandbox, sandbox, tmp_path):
    created = json.loads(at_sandbox("create", "天空", *SMALL, "--json").stdout)
    task_id = created["task_id"]
    assert created["status"] == "queued"
    assert "raw" not in created
    waited = json.loads(at_sandbox("wait", task_id, "--json").stdout)
    assert waited["request"]["prompt"] == "天空"
    assert json.loads(at_sandbox("query", task_id, "--json").stdout)["status"] == "succeeded"
    saved = json.loads(at_sandbox("download", task_id, "--json", "-d", tmp_path).stdout)
    assert saved["task_id"] == task_id
    assert [Path(file).is_file() for file in saved["files"]] == [True]
    page = json.loads(at_sandbox("list", "--json").stdout)
    assert [entry["task_id"] for entry in page["tasks"]] == [task_id]
    assert page["before"] is None


def test_create_without_options_sends_the_documented_defaults(at_sandbox, sandbox):
    at_sandbox("create", "fly man")
    assert sandbox.requests[-1].body == VideoRequest(prompt="fly man").body()


def test_create_sends_every_documented_field_it_is_given(at_sandbox, sandbox):
    options = ("--variants", "2", "--operation", "remix", "--model", "turbo", "--key", "mine")
    images = ("--image", "data:image/png;base64,", "--image", "")
    at_sandbox("create", "fly man", *SMALL, *options, *images)
    body = sandbox.requests[-1].body
    expected = {"width": 64, "height": 36, "n_frames": 3, "n_variants": 2, "operation": "remix", "model": "turbo"}
    assert {name: body[name] for name in expected} == expected
    assert body["inpaint_items"] == [{"url": "data:image/png;base64,"}, {"url": ""}]
    assert sandbox.requests[-1].headers["idempotency-key"] == "mine"


def test_a_request_file_holds_what_options_do_not_and_options_win(at_sandbox, sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("SORA_MODEL", "from-outside")
    story = {"operation": "storyboard", "actions": [{"time": 0, "description": "a door"}], "n_frames": 60}
    file = tmp_path / "request.json"
    file.write_text(json.dumps({**story, "model": "from-file"}))
    assert at_sandbox("create", "--request", file, "--frames", "30", "--width", "64", "--height", "36").exit_code == 0
    assert sandbox.requests[-1].body["actions"] == [{"time": 0.0, "description": "a door"}]
    assert sandbox.requests[-1].body["n_frames"] == 30
    assert sandbox.requests[-1].body["model"] == "from-file"
    assert at_sandbox("create", "--request", "-", *SMALL, stdin=json.dumps({"prompt": "a"})).exit_code == 0
    assert sandbox.requests[-1].body["prompt"] == "a"
    assert sandbox.requests[-1].body["model"] == "from-outside"


@pytest.mark.parametrize("content", [None, "no json", "[1]", '{"surprise": 1}', '"\\ud800"'])
def test_a_request_file_that_cannot_be_used_sends_nothing(at_sandbox, sandbox, tmp_path, content):
    file = tmp_path / "request.json"
    if content is not None:
        file.write_text(content)
    result = at_sandbox("create", "fly man", "--request", file)
    assert result.exit_code == 2
    assert "Nothing was sent." in result.stderr
    assert sandbox.requests == ()


def test_list_pages_and_says_how_to_go_on(at_sandbox):
    first = at_sandbox("create", "one", *SMALL).stdout.strip()
    second = at_sandbox("create", "two", *SMALL).stdout.strip()
    page = at_sandbox("list", "--limit", "1")
    assert page.stdout.startswith(second)
    assert page.stderr == f"There are more: sora-tools list --before {second}\n"
    assert at_sandbox("list", "--limit", "1", "--before", second).stdout.startswith(first)


def test_an_empty_list_is_nothing_on_stdout(at_sandbox):
    result = at_sandbox("list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No tasks.\n")


# --- exit codes ---------------------------------------------------------------------------------------------------


def test_every_error_has_an_exit_code_and_no_other_has():
    assert {kind.code for kind in ERRORS} == cli.EXIT_CODES.keys()
    assert len(ERRORS) == 15  # fourteen and their base


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("error", 1),
        ("configuration", 2),
        ("invalid_request", 2),
        ("authentication", 3),
        ("quota", 3),
        ("endpoint_unavailable", 4),
        ("busy", 4),
        ("not_sent", 4),
        ("lost_reply", 4),
        ("unreadable_reply", 4),
        ("submission_unknown", 5),
        ("task_failed", 6),
        ("wait_timeout", 7),
        ("download_failed", 8),
        ("task_not_found", 9),
    ],
)
def test_an_error_is_one_line_with_its_hint_or_one_document(at_sandbox, monkeypatch, code, expected):
    kind = next(kind for kind in ERRORS if kind.code == code)
    monkeypatch.setattr(Sora, "query", raising(kind("It went\nwrong.", hint="Do this next.")))
    result = at_sandbox("query", "task_1")
    assert (result.exit_code, result.stdout) == (expected, "")
    assert result.stderr == f"{code}: It went wrong. Do this next.\n"
    result = at_sandbox("query", "task_1", "--json")
    assert (result.exit_code, result.stderr) == (expected, "")
    assert json.loads(result.stdout)["error"] == {
        "code": code,
        "message": "It went\nwrong.",
        "hint": "Do this next.",
        "retryable": kind.retryable,
        "charged": kind.charged,
    }


@pytest.mark.parametrize("kind", [TaskFailedError, WaitTimeoutError])
def test_an_error_document_carries_the_task_as_last_seen(at_sandbox, monkeypatch, kind):
    monkeypatch.setattr(Sora, "wait", raising(kind("Not yet.", task=task(raw={"key": KEY}))))
    document = json.loads(at_sandbox("wait", "task_1", "--json").stdout)
    assert document["task"]["task_id"] == "task_1"
    assert "raw" not in document["task"]


@pytest.mark.parametrize(
    ("fault", "times", "expected", "words"),
    [
        ("unauthorized", 1, 3, "authentication: "),
        ("quota", 1, 3, "quota: "),
        ("unprocessable", 1, 2, "invalid_request: "),
        ("not_found", None, 4, "endpoint_unavailable: "),
        ("rate_limit", None, 4, "busy: "),
        ("bad_gateway", 1, 5, "submission_unknown: "),
        ("unavailable", 1, 5, "submission_unknown: "),
        ("html_200", None, 5, "submission_unknown: "),
    ],
)
@pytest.mark.usefixtures("no_naps")
def test_a_create_that_goes_wrong_says_what_is_known_of_the_money(at_sandbox, sandbox, fault, times, expected, words):
    sandbox.script("create", fault, times=times)
    result = at_sandbox("create", "fly man", *SMALL)
    assert (result.exit_code, result.stdout) == (expected, "")
    *retries, line = result.stderr.splitlines()
    assert line.startswith(words)
    assert ("Nothing was charged." in line, "It may be charged." in line) == (expected != 5, expected == 5)
    assert all(retry.startswith("Trying again ") for retry in retries)
    assert sum(request.route == "create" for request in sandbox.requests) == len(retries) + 1


@pytest.mark.usefixtures("no_naps")
@pytest.mark.parametrize("command", [("create", "fly man"), ("list",), ("query", "task_1")])
def test_a_gateway_that_is_not_there_is_tried_again_and_said_to_be_unreachable(run, command):
    result = run(*command, "--base-url", "http://127.0.0.1:9")
    assert result.exit_code == 4
    *retries, line = result.stderr.splitlines()
    assert retries
    assert all(retry.startswith("Trying again ") for retry in retries)
    assert re.match(r"not_sent: .* could not be reached", line)


def test_a_task_that_ended_without_a_video_is_6_for_query_and_wait(at_sandbox, sandbox):
    sandbox.script("task", "moderation_output")
    task_id = at_sandbox("create", "fly man", *SMALL).stdout.strip()
    waited = at_sandbox("wait", task_id)
    assert (waited.exit_code, waited.stdout) == (6, "")
    assert waited.stderr.splitlines()[-1].startswith("task_failed: The task ended as failed (moderation_output)")
    looked = at_sandbox("query", task_id)
    assert looked.exit_code == 6
    assert "  failure  moderation_output" in looked.stdout
    assert at_sandbox("download", task_id).exit_code == 6


def test_a_task_that_is_still_rendering_is_7_for_query_wait_and_download(at_sandbox, sandbox):
    sandbox.script("task", "stuck")
    task_id = at_sandbox("create", "fly man", *SMALL).stdout.strip()
    waited = at_sandbox("wait", task_id, "--timeout", "0")
    assert (waited.exit_code, waited.stdout) == (7, "")
    assert "do not create it again" in waited.stderr
    looked = at_sandbox("query", task_id)
    assert (looked.exit_code, looked.stderr) == (7, "")
    assert at_sandbox("download", task_id).exit_code == 7


def test_an_unknown_task_is_9(at_sandbox):
    assert at_sandbox("query", "task_nobody_knows").exit_code == 9


def test_help_and_docstring_explain_the_same_exit_codes(run):
    help_text = run("--help").stdout
    for code in (0, *set(cli.EXIT_CODES.values()), 130):
        assert re.search(rf"^ {code}  \w", help_text, re.MULTILINE)
        assert re.search(rf"^    {code}  \w", cli.__doc__, re.MULTILINE)


@pytest.mark.parametrize("arguments", [("create", "fly man", "--width", "wide"), ("query",), ("nonsense",)])
def test_a_command_line_that_makes_no_sense_is_2(at_sandbox, sandbox, arguments):
    result = at_sandbox(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error" in result.stderr
    assert sandbox.requests == ()


# --- the key ------------------------------------------------------------------------------------------------------


def test_the_key_comes_from_a_file_before_the_environment(at_sandbox, sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox.world, "keys", frozenset({"sk-from-file"}))
    assert at_sandbox("list").exit_code == 3
    file = tmp_path / "key"
    file.write_text("sk-from-file\n")
    assert at_sandbox("list", "--api-key-file", file).exit_code == 0


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_key_file_without_a_key_is_never_replaced_by_the_environment(at_sandbox, sandbox, tmp_path, content):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    result = at_sandbox("list", "--api-key-file", file)
    assert result.exit_code == 2
    assert result.stderr.startswith("configuration: --api-key-file: ")
    assert sandbox.requests == ()


def test_without_a_gateway_it_says_how_to_get_one(run):
    result = run("list")
    assert result.exit_code == 2
    assert result.stderr.startswith("configuration: No gateway address was given.")
    assert "sora-tools sandbox" in result.stderr


# --- being interrupted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "method", "words"),
    [
        (("wait", "task_1"), "wait", "task_1 goes on at the gateway"),
        (("create", "fly man"), "create", "may have been accepted: `sora-tools ledger resume` looks for it."),
        (("list",), "list", ""),
    ],
)
def test_ctrl_c_is_130_and_one_line_of_what_is_known(at_sandbox, monkeypatch, command, method, words):
    monkeypatch.setattr(Sora, method, raising(KeyboardInterrupt()))
    result = at_sandbox(*command)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.startswith("interrupted: Stopped here.")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
    document = json.loads(at_sandbox(*command, "--json").stdout)
    assert document["error"]["code"] == "interrupted"
    assert document["error"].get("task_id") == ("task_1" if "task_1" in command else None)


def test_a_real_interrupt_ends_a_real_wait_at_once(at_sandbox, sandbox):
    sandbox.script("task", "stuck")
    task_id = at_sandbox("create", "fly man", *SMALL).stdout.strip()
    with started("wait", task_id) as process:
        assert task_id in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        out, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 3
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == (
        f"interrupted: Stopped here. {task_id} goes on at the gateway: `sora-tools wait` takes it up again."
    )
    assert "Traceback" not in err


# --- what people see ----------------------------------------------------------------------------------------------


def test_on_a_terminal_a_wait_is_a_bar(terminal):
    with screen.watching() as show:
        show(Seen(task(status="queued", queue_position=3)))
        show(Seen(task(progress=0.42)))
        show(Retrying(SoraError("The gateway is\x1b[31m busy."), 2.0))
        show(Downloading("task_1", Path("a.mp4"), 10, None))
        show(Saved("task_1", Path("a.mp4"), 123_456))
    shown = terminal.getvalue()
    assert "━" in shown
    assert "saved, 123 kB" in shown
    assert "\x1b[31m busy" not in shown
    assert max(map(len, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").splitlines())) <= 80


def test_on_a_terminal_a_conversation_breaks_between_words(terminal):
    prompt = "纸船 " + "a paper boat sails down a rainy street at night " * 3
    screen.say("user", prompt)
    screen.say("tool", "succeeded " + "x" * 100)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert max(map(cell_len, shown)) <= 80
    assert (shown[0][:9], shown[1][:9]) == ("user     ", " " * 9)
    assert " ".join(line[9:].strip() for line in shown[:3]) == prompt.strip()
    assert "".join(line[9:] for line in shown[-2:]) == "x" * 100


def test_elsewhere_a_conversation_is_a_line_each(capsys):
    screen.say("user", "a paper\nboat " * 30)
    assert capsys.readouterr().err == f"user     {'a paper boat ' * 30}\n"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0, "at once"), (0.04, "at once"), (0.05, "in 0.1 s"), (2, "in 2.0 s")]
)
def test_a_retry_says_when(seconds, words, capsys):
    screen.retries(Retrying(SoraError("Busy."), seconds))
    assert capsys.readouterr().err == f"Trying again {words}: Busy.\n"


@pytest.mark.parametrize(
    ("sentences", "line"),
    [
        (("It broke (HTTP 501)", "Nothing was charged.", ""), "busy: It broke (HTTP 501). Nothing was charged."),
        (("It broke.", "", "Go on."), "busy: It broke. Go on."),
        (("坏了。 ", "Really?", "pip install x"), "busy: 坏了。 Really? pip install x"),
    ],
)
def test_a_complaint_is_sentences(sentences, line, capsys):
    screen.complain("busy", *sentences)
    assert capsys.readouterr().err == f"{line}\n"


def test_a_terminal_is_left_alone_when_nothing_happened(terminal):
    with screen.watching():
        pass
    assert terminal.getvalue() == ""


def test_elsewhere_a_wait_is_a_line_for_each_change(capsys):
    show = screen.lines()
    for progress in (None, 0.41, 0.42, 0.55):
        show(Seen(task(progress=progress)))
    show(Seen(task(status="unknown", raw_status="post\x07processing")))
    assert capsys.readouterr().err.splitlines() == [
        "task_1 running",
        "task_1 running, 41%",
        "task_1 running, 55%",
        "task_1 post processing",
    ]


def test_a_prompt_cannot_steer_the_terminal(at_sandbox):
    task_id = at_sandbox("create", "\x1b]0;owned\x07 fly\nman [red]x", *SMALL).stdout.strip()
    for command in (("list",), ("query", task_id)):
        text = at_sandbox(*command).stdout
        assert " ]0;owned  fly man [red]x" in text
        assert "\x1b" not in text


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"status": "queued", "queue_position": 2}, "queued, 2 ahead"),
        ({"status": "queued"}, "queued"),
        ({"status": "running", "progress": 0.4}, "running, 40%"),
        ({"status": "running"}, "running"),
        ({"status": "unknown"}, "unknown"),
        ({"status": "succeeded", "progress": 1.0}, "succeeded"),
    ],
)
def test_a_state_is_a_few_words(facts, words):
    assert in_words(task(**facts)) == words


# --- other processes ----------------------------------------------------------------------------------------------


def started(*arguments, blocked=()):
    code = f"""
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name in {blocked!r} else find(name, *rest)
from sora_tools.__main__ import main
main()
"""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "40"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
    )


@pytest.mark.parametrize(
    ("command", "blocked", "extra"),
    [
        ("list", "typer", "cli"),
        ("list", "rich", "cli"),
        ("sandbox", "starlette", "sandbox"),
        ("demo", "langchain", "demo"),
    ],
)
def test_without_an_extra_one_line_says_what_to_install(command, blocked, extra):
    with started(command, blocked=(blocked,)) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert err.endswith(f" needs {blocked}: pip install 'sora-tools[{extra}]'\n")


@pytest.mark.parametrize(
    ("command", "broken"), [("list", "rich.console"), ("sandbox", "uvicorn.config"), ("demo", "langchain.agents")]
)
def test_an_extra_that_is_there_and_broken_is_not_said_to_be_missing(command, broken):
    with started(command, blocked=(broken,)) as process:
        out, err = process.communicate(timeout=30)
    assert out == ""
    assert process.returncode != 0
    assert f"No module named '{broken}'" in err
    assert "pip install" not in err


@pytest.mark.parametrize(
    ("module", "blocked", "extra"),
    [
        ("from sora_tools import Sandbox", "uvicorn", "sandbox"),
        ("import sora_tools.sandbox", "av", "sandbox"),
        ("import sora_tools.demo", "langchain", "demo"),
    ],
)
def test_programs_too_are_told_which_extra_is_missing(module, blocked, extra):
    code = f"import sys; sys.modules[{blocked!r}] = None; {module}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    wanted = f"ImportError: sora_tools.{extra} needs {blocked}: pip install 'sora-tools[{extra}]'"
    assert result.stderr.splitlines()[-1] == wanted


def test_asking_a_gateway_loads_neither_langchain_nor_the_sandbox():
    code = (
        "import sys; from sora_tools.cli import app; from typer.testing import CliRunner; "
        "CliRunner().invoke(app, ['list']); "
        "print(sorted({'langchain', 'langchain_core', 'starlette', 'av', 'PIL'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_python_m_sora_tools_is_the_same_command():
    result = subprocess.run([sys.executable, "-m", "sora_tools", "--help"], capture_output=True, text=True, check=True)
    assert "Usage: sora-tools [OPTIONS] COMMAND" in result.stdout


def test_the_sandbox_says_how_to_use_it_and_ends_with_ctrl_c(run, monkeypatch):
    with started("sandbox", "--port", "0", "--speed", "20") as process:
        assert process.stdout.readline().endswith(". Ctrl-C ends it.\n")
        assert process.stdout.readline() == "In another terminal:\n"
        for _ in range(2):
            name, value = process.stdout.readline().removeprefix("export ").strip().split("=")
            monkeypatch.setenv(name, value)
        task_id = run("create", "fly man", *SMALL).stdout.strip()
        assert run("wait", task_id).exit_code == 0
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert out.strip() == "The sandbox counted 1 create; a paid gateway would have charged 0.00."


def test_the_sandbox_lets_in_the_keys_it_is_given_and_prints_none():
    with started("sandbox", "--port", "0", "--key", KEY) as process:
        lines = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert KEY not in "".join(lines)
    assert lines[-1] == "export SORA_API_KEY=<one of your keys>\n"
    assert max(map(len, lines)) <= 80


def test_a_sandbox_that_cannot_listen_says_so(run, sandbox):
    taken = sandbox.base_url.rpartition(":")[2]
    result = run("sandbox", "--port", taken)
    assert result.exit_code == 2
    assert result.stderr == (
        f"configuration: The sandbox cannot listen at 127.0.0.1:{taken}: {os.strerror(errno.EADDRINUSE)}. "
        "Give another --port; 0 takes a free one.\n"
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "nohost.invalid"])
def test_a_sandbox_for_other_machines_has_to_be_meant(run, host):
    result = run("sandbox", "--host", host)
    assert result.exit_code == 2
    assert result.stderr == (
        f"configuration: {host} is not a loopback address such as 127.0.0.1. "
        "Say --allow-remote if other machines are meant to reach it.\n"
    )


def test_the_version_is_the_packages(run):
    assert run("--version").stdout == f"sora-tools {sora_tools.__version__}\n"


@pytest.mark.parametrize("command", ["create", "query", "wait", "download", "list", "sandbox", "demo"])
def test_no_help_shows_a_default_that_is_none(command):
    for parameter in typer.main.get_command(cli.app).commands[command].params:
        assert not (parameter.show_default and parameter.default in (None, False)), parameter.name


def test_ctrl_c_while_the_command_loads_leaves_no_traceback():
    code = """
import sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
import sora_tools.__main__
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")
