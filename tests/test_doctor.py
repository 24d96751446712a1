"""`sora-tools doctor`: a sandbox over a real socket, and what people and programs are told of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from sora_tools import cli
from sora_tools.sandbox import Sandbox, World

KEY = "sk-do-not-print-me"


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SORA_API_KEY", KEY)

    def call(box: Sandbox | str, *arguments: str) -> Any:
        base_url = box if isinstance(box, str) else box.base_url
        result = CliRunner().invoke(cli.app, ["doctor", "--base-url", base_url, *arguments])
        assert KEY not in result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_each_format_is_a_line_and_the_account_another(doctor: Any, sandbox: Sandbox) -> None:
    result = doctor(sandbox)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.split()[:2] for line in result.stdout.splitlines()]
    assert lines[:5] == [[name, "live"] for name in ("backend", "videos", "unified", "generations", "chat")]
    assert "100 to spend" in result.stdout
    assert sandbox.creates == 0


def test_programs_get_a_document(doctor: Any, sandbox: Sandbox) -> None:
    told = json.loads(doctor(sandbox, "--json").stdout)
    assert told["live"] == ["backend", "videos", "unified", "generations", "chat"]
    assert told["formats"][0]["dialect"] == "backend"
    assert told["formats"][0]["seconds"] >= 0


def test_a_format_that_is_not_there_is_4_and_says_which_is(doctor: Any) -> None:
    with Sandbox(world=World(formats=("unified",), models=("sora-2",))) as box:
        result = doctor(box)
        assert result.exit_code == 4
        assert "web page instead of JSON" in result.stdout
        assert "set SORA_DIALECT=unified" in result.stdout
        assert doctor(box, "--dialect", "unified").exit_code == 0
        assert doctor(box, "--dialect", "auto").exit_code == 0


def test_a_refused_key_is_3(doctor: Any) -> None:
    with Sandbox(world=World(keys=["another"])) as box:
        result = doctor(box)
    assert (result.exit_code, "check SORA_API_KEY" in result.stdout) == (3, True)


def test_a_model_that_is_gone_is_named(doctor: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORA_MODEL", "sora-9")
    result = doctor(sandbox)
    assert "The model sora-9 is not in the gateway's list" in result.stdout


def test_a_gateway_that_is_not_there_is_unclear_and_4(doctor: Any) -> None:
    result = doctor("http://127.0.0.1:9")
    assert (result.exit_code, result.stdout.count("unclear")) == (4, 4)
