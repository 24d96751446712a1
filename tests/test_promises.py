"""Promises that no other quick test holds: without these, a named mutant would survive."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from by_hand import NOTHING, Play, reply
from conftest import Clock
from raw_gateway import Connection, RawGateway

from sora_tools import EndpointUnavailableError, Retry, Sora, SoraError, SQLiteLedger, VideoRequest
from sora_tools.client.transport import IN_FLIGHT
from sora_tools.config import settings
from sora_tools.flow import ALONE, Board, Gateway, create, listed, sweep
from sora_tools.ledger import Submission
from sora_tools.sandbox import Sandbox
from sora_tools.tools.shared import Place

API_KEY = "sk-test-0123456789"


def test_the_file_itself_lets_no_two_submissions_have_one_task(tmp_path: Path) -> None:
    book = SQLiteLedger(tmp_path / "ledger.sqlite")
    for key in "ab":
        begun = book.begin(Submission(key, "https://g.test:443", "backend", {"prompt": "x"}))
        book.settle(begun.claim, "accepted", f"task_{key}")
    book.close()
    db = sqlite3.connect(tmp_path / "ledger.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="task_id"):
        db.execute("update submission set task_id = 'task_a'")
    db.close()


def test_lost_creates_of_many_threads_do_not_block_each_others_looks() -> None:
    """A create that was answered with a page looks at the list while it holds its place among creates."""

    def answer(connection: Connection, method: str, path: str, body: bytes) -> None:
        if method == "POST":
            connection.reply(b"<html>", content_type="text/html")
        else:
            connection.reply({"task_responses": []})

    def told(number: int) -> str:
        with pytest.raises(SoraError) as caught:
            sora.create(f"fly man {number}")
        return caught.value.code

    callers = 2 * IN_FLIGHT
    with (
        RawGateway(answer) as gateway,
        Sora(base_url=gateway.base_url, api_key=API_KEY, timeout=3.0, retry=Retry(first=0.0)) as sora,
        ThreadPoolExecutor(callers) as pool,
    ):
        assert set(pool.map(told, range(callers))) == {"submission_unknown"}
        assert gateway.posts == callers * Retry().attempts


def test_a_create_that_cools_down_leaves_the_list_alone(gateway: Gateway, clock: Clock) -> None:
    play = Play(clock, [reply(405, "")], [NOTHING])
    with pytest.raises(EndpointUnavailableError):
        play.run(create(gateway, VideoRequest(prompt="fly man")))
    assert play.run(listed(gateway)).tasks == ()
    board = Board(clock)
    news, _ = board.ask("task_1", 0.0)
    play.run(sweep(gateway, board))
    assert (news.result(0), play.sent[-2:]) == (ALONE, ["GET", "GET"]), "a sweep reads it too"


HERE = Place("thread", "node", "call")
GATEWAY = {"base_url": "https://g.test", "api_key": API_KEY}


def key(place: Place = HERE, dialect: str = "backend", prompt: str = "fly man", **gateway: str) -> str | None:
    return place.key(settings(**{**GATEWAY, **gateway}), dialect, {"prompt": prompt, "width": 640})


@pytest.mark.parametrize(
    "other",
    [
        {"place": HERE._replace(thread="another")},
        {"place": HERE._replace(thread=None)},
        {"place": HERE._replace(node="another")},
        {"place": HERE._replace(tool_call="another")},
        {"dialect": "another"},
        {"prompt": "fly woman"},
        {"base_url": "https://other.test"},
        {"api_key": "sk-another-0123456789"},
    ],
    ids=str,
)
def test_a_tool_calls_key_is_of_where_whose_and_what(other: dict[str, Any]) -> None:
    assert key() == key() == HERE.key(settings(**GATEWAY), "backend", {"width": 640, "prompt": "fly man"})
    assert key(**other) not in (None, key())


def test_a_download_finishes_its_submission(sandbox: Sandbox, quick: dict[str, Any], tmp_path: Path) -> None:
    with Sora(base_url=sandbox.base_url, api_key=API_KEY) as sora:
        task = sora.generate(quick, key="k")
        assert not sora.gateway.ledger.find("k").finished
        (film,) = sora.download(task.task_id, tmp_path)
        row = sora.gateway.ledger.find("k")
    assert (row.finished, row.files) == (True, (str(film),))
