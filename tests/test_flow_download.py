"""Downloads by hand: what is fetched, how often and how long, and what stands in the folder afterwards."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from by_hand import FILM, Play, film, html, reply
from conftest import Clock

from sora_tools import (
    DownloadError,
    InvalidRequestError,
    LostReplyError,
    Retry,
    SoraError,
    TaskFailedError,
    VideoRequest,
    VideoTask,
    WaitTimeoutError,
)
from sora_tools.events import Downloading, Retrying, Saved
from sora_tools.flow import ALONE, Gateway, download, generate
from sora_tools.flow.download import file_name
from sora_tools.ledger import ForgetfulLedger, MemoryLedger

TASK = "task_01jy8k72axednrjcnvmkwpqp11"
ADDRESS = "https://cdn.test/1.mp4"


def task(*generations: dict[str, Any], task_id: str = TASK, status: str = "succeeded", **fields: Any) -> VideoTask:
    made = generations or ({"generation_id": "gen_1", "url": ADDRESS},)
    return VideoTask(task_id=task_id, status=status, generations=made, **fields)


def looked(url: str = ADDRESS, **fields: Any) -> Any:
    """A list with the task in it, as a look finds it."""
    made = [{"id": "gen_1", "url": url}]
    return reply(200, {"task_responses": [{"id": TASK, "status": "succeeded", "generations": made, **fields}]})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- a file -----------------------------------------------------------------------------------------------------


def test_a_film_has_its_name_only_when_it_is_whole(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def second() -> bytes:
        seen.append(names(tmp_path / "new"))
        return FILM[20:]

    play = Play(clock, [], files=[film(FILM[:20], second, content_length=str(len(FILM)))])
    (generation,) = play.run(download(gateway, task(), tmp_path / "new")).generations
    assert generation.file == tmp_path / "new" / f"{TASK}-gen_1.mp4"
    assert generation.file.read_bytes() == FILM
    assert [name.endswith(".part") for name in seen[0]] == [True]
    assert names(tmp_path / "new") == [generation.file.name]
    path = generation.file
    assert play.events == [
        Downloading(TASK, path, 20, len(FILM)),
        Downloading(TASK, path, len(FILM), len(FILM)),
        Saved(TASK, path, len(FILM)),
    ]


PASSING = [
    film(FILM[:20], content_length=str(len(FILM))),
    film(FILM[:20], LostReplyError("reset")),
    LostReplyError("reset"),
    reply(503),
    reply(429),
]


@pytest.mark.parametrize("first", PASSING, ids=["cut", "reset", "lost", "503", "429"])
def test_what_may_pass_is_fetched_again_from_its_beginning(
    gateway: Gateway, clock: Clock, tmp_path: Path, first: Any
) -> None:
    play = Play(clock, [], files=[first, film()])
    play.run(download(gateway, task(), tmp_path))
    assert (tmp_path / f"{TASK}-gen_1.mp4").read_bytes() == FILM
    assert len(names(tmp_path)) == 1
    assert [type(event) for event in play.events].count(Retrying) == 1


@pytest.mark.parametrize("last", PASSING, ids=["cut", "reset", "lost", "503", "429"])
def test_what_does_not_pass_leaves_nothing_behind(gateway: Gateway, clock: Clock, tmp_path: Path, last: Any) -> None:
    play = Play(clock, [], files=[last])
    with pytest.raises(DownloadError) as caught:
        play.run(download(gateway, task(), tmp_path))
    assert (len(play.opened), names(tmp_path)) == (4, [])
    assert (caught.value.task_id, caught.value.charged, caught.value.retryable) == (TASK, "yes", True)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (film(b"<html>not a film</html>"), "not an MP4"),
        ((reply(200, "", content_type="text/html; charset=utf-8"), [FILM]), "web page"),
        (reply(400), "HTTP 400"),
        (reply(302, "", location="http://cdn.test/1.mp4"), "not https"),
    ],
    ids=["no film", "page", "400", "http"],
)
def test_what_cannot_pass_is_fetched_once(
    gateway: Gateway, clock: Clock, tmp_path: Path, answer: Any, words: str
) -> None:
    play = Play(clock, [], files=[answer])
    with pytest.raises(DownloadError, match=words) as caught:
        play.run(download(gateway, task(), tmp_path))
    assert (len(play.opened), names(tmp_path), caught.value.retryable) == (1, [], False)


def test_a_full_disk_is_named_and_nothing_is_left_on_it(
    gateway: Gateway, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(part: Path, chunk: bytes) -> None:
        part.write_bytes(chunk[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys.modules[download.__module__], "_append", full)  # the package has a function of its name
    play = Play(clock, [], files=[film()])
    with pytest.raises(DownloadError, match="No space left") as caught:
        play.run(download(gateway, task(), tmp_path))
    assert (len(play.opened), names(tmp_path), caught.value.retryable) == (1, [], False)
    assert "do not create it again" in str(caught.value)


def test_a_film_already_there_is_not_fetched_again(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    play = Play(clock, [], files=[film()])
    first = play.run(download(gateway, task(), tmp_path))
    assert play.run(download(gateway, task(), tmp_path)) == first
    assert len(play.opened) == 1


def test_a_variant_without_an_address_is_left_out(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    play = Play(clock, [], files=[film()])
    finished = play.run(download(gateway, task({"generation_id": "a"}, {"url": ADDRESS}), tmp_path))
    assert [generation.file for generation in finished.generations] == [None, tmp_path / f"{TASK}-2.mp4"]


def test_the_length_of_a_coded_answer_is_not_the_files(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    play = Play(clock, [], files=[film(content_length="7", content_encoding="gzip")])
    play.run(download(gateway, task(), tmp_path))
    assert play.events[0].total is None


@pytest.mark.parametrize("status", ["queued", "running", "unknown"])
def test_there_is_nothing_to_save_of_a_task_under_way(
    gateway: Gateway, clock: Clock, tmp_path: Path, status: str
) -> None:
    play = Play(clock, [], [looked(status=status)])
    with pytest.raises(DownloadError, match="nothing to save yet"):
        play.run(download(gateway, task(status=status), tmp_path))
    assert play.sent == ["GET"], "a look may know better"


def test_a_failed_task_says_why_and_fetches_nothing(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    failed = task(status="failed", failure={"kind": "moderation_output", "message": "blocked"})
    with pytest.raises(TaskFailedError, match="blocked"):
        Play(clock, []).run(download(gateway, failed, tmp_path))


# --- addresses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_dead_address_is_renewed_by_one_look(gateway: Gateway, clock: Clock, tmp_path: Path, status: int) -> None:
    play = Play(clock, [], [looked("https://cdn.test/2.mp4")], files=[reply(status), film()])
    play.run(download(gateway, task(), tmp_path))
    assert (play.opened, play.sent) == ([ADDRESS, "https://cdn.test/2.mp4"], ["GET"])
    assert len(names(tmp_path)) == 1


@pytest.mark.parametrize("answer", [looked(), looked(generations=[]), reply(401), html()], ids=repr)
def test_a_dead_address_without_a_fresh_one_is_the_error(
    gateway: Gateway, clock: Clock, tmp_path: Path, answer: Any
) -> None:
    play = Play(clock, [], [answer], files=[reply(403)])
    with pytest.raises(DownloadError, match="HTTP 403") as caught:
        play.run(download(gateway, task(), tmp_path))
    assert (caught.value.http_status, caught.value.task_id, play.opened) == (403, TASK, [ADDRESS])


def test_a_redirect_is_followed_to_where_it_leads(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    play = Play(clock, [], files=[reply(302, "", location="/elsewhere/1.mp4"), film()])
    play.run(download(gateway, task(), tmp_path))
    assert play.opened == [ADDRESS, "https://cdn.test/elsewhere/1.mp4"]


def test_redirects_in_circles_end(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    play = Play(clock, [], files=[reply(308, "", location="/1.mp4")])
    with pytest.raises(DownloadError, match="circles"):
        play.run(download(gateway, task(), tmp_path))
    assert len(play.opened) == 6


# --- patience ---------------------------------------------------------------------------------------------------


def test_bytes_may_take_a_request_timeout_each_for_as_long_as_they_come(
    gateway: Gateway, clock: Clock, tmp_path: Path
) -> None:
    def slowly() -> bytes:
        clock.seconds += 15
        return FILM

    play = Play(clock, [], files=[film(*[slowly] * 100)])
    play.run(download(gateway, task(), tmp_path))
    assert play.patience == [20.0] * 102


def test_near_a_deadline_bytes_may_take_what_is_left(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    def slowly() -> bytes:
        clock.seconds += 15
        return FILM

    play = Play(clock, [], files=[film(*[slowly] * 100)])
    with pytest.raises(DownloadError, match="no time left"):
        play.run(download(gateway, task(), tmp_path, deadline=clock.seconds + 40))
    assert play.patience == [20.0, 20.0, 20.0, 10.0]
    assert names(tmp_path) == []


# --- names ------------------------------------------------------------------------------------------------------


def test_two_tasks_may_call_their_videos_alike(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    play = Play(clock, [], files=[film(), film(FILM + b"another")])
    for task_id in ("task_a", "task_b"):
        play.run(download(gateway, task({"generation_id": "0", "url": ADDRESS}, task_id=task_id), tmp_path))
    assert names(tmp_path) == ["task_a-0.mp4", "task_b-0.mp4"]
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 2


def test_variants_without_ids_are_told_apart_by_their_place() -> None:
    unnamed = task({"url": ADDRESS}, {"url": ADDRESS})
    assert [file_name(unnamed, index) for index in (0, 1)] == [f"{TASK}-1", f"{TASK}-2"]


def test_an_id_that_is_the_videos_alone_is_its_name() -> None:
    alone = "gen_01jy8k72axednrjcnvmkwpqp11"
    assert file_name(task({"generation_id": alone, "url": ADDRESS}), 0) == alone


def test_ids_that_no_file_can_carry_give_names_that_differ() -> None:
    odd = ["a/b", "a_b", "a.b", "任务", "", "x" * 300, "x" * 301]
    given = [file_name(task({"generation_id": generation_id, "url": ADDRESS}), 0) for generation_id in odd]
    assert len(set(given)) == len(odd)
    assert all(name.isascii() and "/" not in name and "." not in name and len(name) < 120 for name in given)


# --- generate ---------------------------------------------------------------------------------------------------

ACCEPTED = reply(200, {"id": TASK})
ENDINGS: list[tuple[str, dict[str, Any]]] = [
    ("not shown", {"lists": [reply(200, {"tasks": []}), html(), reply(200, {"tasks": []})]}),
    ("key refused", {"lists": [reply(401)]}),
    ("no money for looks", {"lists": [reply(402)]}),
    ("not served", {"lists": [html()]}),
    ("never answered", {"lists": [reply(500)]}),
    ("unreadable", {"lists": [reply(200, "{")]}),
    ("still running", {"news": [task(status="running")]}),
    ("failed", {"news": [task(status="failed")]}),
    ("not whole", {"news": [task()], "files": [film(FILM[:20], content_length="99999")]}),
    ("dead", {"news": [task()], "files": [reply(410)], "lists": [reply(500)]}),
]


@pytest.mark.parametrize("given", [given for _, given in ENDINGS], ids=[name for name, _ in ENDINGS])
@pytest.mark.parametrize("kind", [MemoryLedger, ForgetfulLedger])
def test_whatever_happens_after_the_create_names_the_task_and_the_charge(
    gateway: Gateway, clock: Clock, tmp_path: Path, given: dict[str, Any], kind: type[MemoryLedger]
) -> None:
    gateway.ledger = kind(clock)
    play = Play(clock, [ACCEPTED], **given)
    with pytest.raises(SoraError) as caught:
        play.run(generate(gateway, VideoRequest(prompt="fly man"), "k", 90.0, tmp_path))
    assert (caught.value.task_id, caught.value.charged, play.posts) == (TASK, "yes", 1)


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), "60", None, -1, -0.001, 10_000_001])
def test_a_timeout_that_cannot_be_waited_for_is_found_before_anything_is_paid(
    gateway: Gateway, clock: Clock, timeout: Any
) -> None:
    play = Play(clock, [ACCEPTED])
    with pytest.raises(InvalidRequestError, match="timeout"):
        play.run(generate(gateway, VideoRequest(prompt="fly man"), "k", timeout, None))
    assert (play.calls, gateway.ledger.find("k")) == ([], None)


def test_the_time_a_create_takes_is_not_taken_from_the_wait(gateway: Gateway, clock: Clock) -> None:
    gateway.retry = Retry(attempts=2)
    play = Play(clock, [reply(429, "", retry_after="30"), ACCEPTED], news=[ALONE], lists=[looked(status="running")])
    with pytest.raises(WaitTimeoutError):
        play.run(generate(gateway, VideoRequest(prompt="fly man"), "k", 20.0, None))
    assert play.looks[-1] - play.looks[0] == pytest.approx(20.0)
