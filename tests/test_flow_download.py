"""Downloads by hand: what is fetched, how often and how long, and what stands in the folder afterwards."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
from base64 import urlsafe_b64encode
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from by_hand import FILM, Play, box, film, html, reply
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
from sora_tools.addresses import origin
from sora_tools.events import Downloading, Retrying, Saved
from sora_tools.flow import ALONE, Gateway, Tell, create, download, generate
from sora_tools.flow.download import file_name
from sora_tools.ledger.sqlite import ForgetfulLedger, MemoryLedger
from sora_tools.parts import is_whole_film, validator_of
from sora_tools.wire import Reply

TASK = "task_01jy8k72axednrjcnvmkwpqp11"
ADDRESS = "https://cdn.test/1.mp4"


def task(*generations: dict[str, Any], task_id: str = TASK, status: str = "succeeded", **fields: Any) -> VideoTask:
    made = generations or ({"generation_id": "gen_1", "url": ADDRESS},)
    return VideoTask(task_id=task_id, status=status, generations=made, **fields)


def looked(url: str = ADDRESS, **fields: Any) -> Any:
    """A list with the task in it, as a look finds it."""
    made = [{"id": "gen_1", "url": url}]
    return reply(200, {"task_responses": [{"id": TASK, "status": "succeeded", "generations": made, **fields}]})


def tagged(*chunks: Any, etag: str = '"v1"', **headers: str) -> tuple[Reply, list[Any]]:
    """A film whose server can tell its versions apart, and promises all of it."""
    return film(*chunks, etag=etag, **{"content_length": str(len(FILM)), **headers})


def rest(first: int, *chunks: Any, total: int | str = len(FILM), **headers: str) -> tuple[Reply, list[Any]]:
    """What a server with ranges answers to "from this byte on"."""
    span = f"bytes {first}-{len(FILM) - 1}/{total}"
    return reply(206, "", content_type="video/mp4", content_range=span, **headers), list(chunks or (FILM[first:],))


HERE = origin("https://gateway.test")
NAME = file_name(HERE, task(), 0)
FILE = f"{NAME}.mp4"


def part_of(validator: str | None, name: str = NAME) -> str:
    coded = urlsafe_b64encode((validator or "").encode()).decode().rstrip("=")
    return f"{name}.mp4.{coded}.part" if coded else f"{name}.mp4.part"


def left_behind(folder: Path, content: bytes = FILM[:50], validator: str | None = '"v1"') -> Path:
    """What a process that died leaves."""
    path = folder / part_of(validator)
    path.write_bytes(content)
    return path


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
    assert generation.file == tmp_path / "new" / FILE
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
    assert (tmp_path / FILE).read_bytes() == FILM
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
    def full(file: int, chunk: Any) -> int:
        if len(chunk) < len(FILM):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, chunk[:1])

    write = os.write
    monkeypatch.setattr(os, "write", full)
    play = Play(clock, [], files=[tagged(FILM)])
    with pytest.raises(DownloadError, match="No space left") as caught:
        play.run(download(gateway, task(), tmp_path))
    assert (len(play.opened), names(tmp_path), caught.value.retryable) == (1, [], False)
    assert "do not create it again" in str(caught.value)


@pytest.mark.parametrize("answer", [*PASSING, film(b"no film"), reply(302, "", location="http://cdn.test/1.mp4")])
def test_every_failure_says_that_it_must_not_be_created_again(
    gateway: Gateway, clock: Clock, tmp_path: Path, answer: Any
) -> None:
    with pytest.raises(DownloadError, match=r"[Dd]o not create it again") as caught:
        Play(clock, [], files=[answer]).run(download(gateway, task(), tmp_path))
    assert str(caught.value).lower().count("create") == 1


def test_a_film_already_there_is_not_fetched_again(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    play = Play(clock, [], files=[film()])
    first = play.run(download(gateway, task(), tmp_path))
    assert play.run(download(gateway, task(), tmp_path)) == first
    assert len(play.opened) == 1


def test_a_variant_without_an_address_is_left_out(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    play = Play(clock, [], files=[film()])
    finished = play.run(download(gateway, task({"generation_id": "a"}, {"url": ADDRESS}), tmp_path))
    assert [generation.file for generation in finished.generations] == [
        None,
        tmp_path / f"{file_name(HERE, finished, 1)}.mp4",
    ]


def test_the_length_of_a_coded_answer_is_not_the_files(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    play = Play(clock, [], files=[film(content_length="7", content_encoding="gzip")])
    play.run(download(gateway, task(), tmp_path))
    assert play.events[0].total is None


# --- resuming ---------------------------------------------------------------------------------------------------

RESUMED = {"range": "bytes=50-", "if-range": '"v1"'}
CUTS = [
    tagged(FILM[:50]),
    tagged(FILM[:30], FILM[30:50], LostReplyError("reset")),
    tagged(FILM[:50], LostReplyError("it took too long")),
    film(FILM[:50], etag='"v1"'),
    film(FILM[:24], FILM[24:50], LostReplyError("reset"), etag='"v1"'),
]


@pytest.mark.parametrize("first", CUTS, ids=["cut", "reset", "timeout", "cut, no length", "reset, no length"])
def test_what_was_cut_off_is_continued(gateway: Gateway, clock: Clock, tmp_path: Path, first: Any) -> None:
    play = Play(clock, [], files=[first, rest(50)])
    play.run(download(gateway, task(), tmp_path))
    assert play.asked == [{}, RESUMED]
    assert (tmp_path / FILE).read_bytes() == FILM
    assert names(tmp_path) == [FILE]
    arrived = [(event.received, event.total) for event in play.events if isinstance(event, Downloading)]
    assert arrived[-1] == (len(FILM), len(FILM))


@pytest.mark.parametrize("end", [0, 5, 24, 27, 92, 93, len(FILM) - 1])
def test_a_cut_that_nothing_announces_is_seen_at_any_byte(
    gateway: Gateway, clock: Clock, tmp_path: Path, end: int
) -> None:
    play = Play(clock, [], files=[film(FILM[:end] or b"", etag='"v1"'), rest(end) if end else film()])
    play.run(download(gateway, task(), tmp_path))
    assert (len(play.opened), (tmp_path / FILE).read_bytes()) == (2, FILM)


def test_each_cut_is_continued_from_where_it_came(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    play = Play(clock, [], files=[tagged(FILM[:50]), rest(50, FILM[50:60]), rest(60, FILM[60:61]), rest(61)])
    play.run(download(gateway, task(), tmp_path))
    assert [asked.get("range") for asked in play.asked] == [None, "bytes=50-", "bytes=60-", "bytes=61-"]
    assert (tmp_path / FILE).read_bytes() == FILM


@pytest.mark.parametrize("passing", [reply(503), reply(429), LostReplyError("reset"), reply(404), reply(400)])
def test_trouble_that_says_nothing_of_the_bytes_keeps_them(
    gateway: Gateway, clock: Clock, tmp_path: Path, passing: Any
) -> None:
    part = left_behind(tmp_path)
    gateway.retry = Retry(attempts=1)
    with pytest.raises(DownloadError):
        Play(clock, [], [looked()], files=[passing]).run(download(gateway, task(), tmp_path))
    assert part.read_bytes() == FILM[:50]
    play = Play(clock, [], files=[rest(50)])
    play.run(download(gateway, task(), tmp_path))
    assert (play.asked, (tmp_path / FILE).read_bytes(), names(tmp_path)) == ([RESUMED], FILM, [FILE])


def test_a_download_that_ends_between_two_chunks_is_continued_by_the_next_process(
    gateway: Gateway, clock: Clock, tmp_path: Path
) -> None:
    flow, play = download(gateway, task(), tmp_path), Play(clock, [], files=[tagged(FILM[:30], FILM[30:50])])
    wish: Any = next(flow)
    while not (isinstance(wish, Tell) and getattr(wish.event, "received", 0) == 50):
        wish = flow.send(play.grant(wish))
    before = len(list(Path("/proc/self/fd").iterdir()))
    flow.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1, "nothing stays open"
    assert names(tmp_path) == [part_of('"v1"')]
    play = Play(clock, [], files=[rest(50)])
    play.run(download(gateway, task(), tmp_path))
    assert (play.asked, (tmp_path / FILE).read_bytes()) == ([RESUMED], FILM)


def test_a_fresh_address_continues_what_the_dead_one_began(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    fresh = "https://cdn.test/2.mp4"
    play = Play(clock, [], [looked(fresh)], files=[tagged(FILM[:50]), reply(403), rest(50)])
    play.run(download(gateway, task(), tmp_path))
    assert (play.opened, play.asked) == ([ADDRESS, ADDRESS, fresh], [{}, RESUMED, RESUMED])
    assert (play.sent, (tmp_path / FILE).read_bytes()) == (["GET"], FILM)


def test_a_redirect_is_asked_for_the_rest_too(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    left_behind(tmp_path)
    play = Play(clock, [], files=[reply(302, "", location="https://edge.test/1.mp4"), rest(50)])
    play.run(download(gateway, task(), tmp_path))
    assert (play.asked, (tmp_path / FILE).read_bytes()) == ([RESUMED, RESUMED], FILM)


NEW = box(b"ftyp", b"new!") + box(b"moov", b"") + box(b"mdat", bytes(99))


@pytest.mark.parametrize("etag", ['"v2"', '"v1"', "", 'W/"v1"'])
def test_a_server_that_sends_everything_is_believed(gateway: Gateway, clock: Clock, tmp_path: Path, etag: str) -> None:
    left_behind(tmp_path)
    play = Play(clock, [], files=[film(NEW, etag=etag, content_length=str(len(NEW)))])
    play.run(download(gateway, task(), tmp_path))
    assert (play.asked, (tmp_path / FILE).read_bytes(), names(tmp_path)) == ([RESUMED], NEW, [FILE])


@pytest.mark.parametrize("etag", ['"v2"', ""])
def test_what_was_kept_of_another_version_goes_with_the_first_byte(
    gateway: Gateway, clock: Clock, tmp_path: Path, etag: str
) -> None:
    left_behind(tmp_path)
    left_behind(tmp_path, validator=None)
    (tmp_path / f"{FILE}.deadbeef.part").write_bytes(b"of a process that died")
    seen: list[list[str]] = []
    play = Play(clock, [], files=[film(NEW[:20], lambda: seen.append(names(tmp_path)) or NEW[20:], etag=etag)])
    play.run(download(gateway, task(), tmp_path))
    assert seen == [[part_of(etag or None)]]


def span(value: str, **headers: str) -> tuple[Reply, list[Any]]:
    return reply(206, "", content_range=value, **headers), [b"x" * 99]


ELSEWHERE = [
    span(f"bytes 49-{len(FILM) - 1}/{len(FILM)}"),
    span(f"bytes 0-{len(FILM) - 1}/{len(FILM)}"),
    span(f"bytes 51-{len(FILM) - 1}/{len(FILM)}"),
    span("bytes=50-9/10"),
    span("pages 50-60/99"),
    span("bytes */99"),
    span(f"bytes {'9' * 400}-{'9' * 401}/*"),
    span(""),
    (reply(206, "", content_type="multipart/byteranges; boundary=x"), [b"x"]),
    rest(50, etag='"v2"'),
    rest(50, etag='W/"v1"'),
    rest(50, content_encoding="gzip"),
    reply(416, "", content_range="bytes */51"),
    reply(416, "", content_range="bytes */49"),
    reply(416, "", content_range="bytes */*"),
    reply(416, "", content_range="bytes 50-50/50"),
    reply(416, ""),
]


@pytest.mark.parametrize("answer", ELSEWHERE, ids=[str(number) for number in range(len(ELSEWHERE))])
def test_an_answer_that_does_not_fit_begins_it_anew_at_once(
    gateway: Gateway, clock: Clock, tmp_path: Path, answer: Any
) -> None:
    left_behind(tmp_path)
    play = Play(clock, [], files=[answer, tagged(FILM)])
    play.run(download(gateway, task(), tmp_path))
    assert (play.asked, play.naps) == ([RESUMED, {}], [])
    assert ((tmp_path / FILE).read_bytes(), names(tmp_path)) == (FILM, [FILE])


@pytest.mark.parametrize("answer", ELSEWHERE, ids=[str(number) for number in range(len(ELSEWHERE))])
def test_a_server_that_never_fits_is_given_up(gateway: Gateway, clock: Clock, tmp_path: Path, answer: Any) -> None:
    left_behind(tmp_path)
    play = Play(clock, [], files=[answer])
    with pytest.raises(DownloadError):
        play.run(download(gateway, task(), tmp_path))
    assert len(play.opened) <= 8
    assert FILE not in names(tmp_path)


def test_a_whole_part_only_wants_its_name(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    left_behind(tmp_path, FILM)
    play = Play(clock, [], files=[reply(416, "", content_range=f"bytes */{len(FILM)}")])
    play.run(download(gateway, task(), tmp_path))
    assert ((tmp_path / FILE).read_bytes(), names(tmp_path), len(play.opened)) == (FILM, [FILE], 1)
    assert play.events == [Saved(TASK, tmp_path / FILE, len(FILM))]


@pytest.mark.parametrize("content", [FILM[:-1], b"not a film"])
def test_a_whole_part_that_is_no_whole_film_is_begun_anew(
    gateway: Gateway, clock: Clock, tmp_path: Path, content: bytes
) -> None:
    left_behind(tmp_path, content)
    play = Play(clock, [], files=[reply(416, "", content_range=f"bytes */{len(content)}"), tagged(FILM)])
    try:
        play.run(download(gateway, task(), tmp_path))
    except DownloadError as error:
        assert "not an MP4" in str(error)  # noqa: PT017  # the other is nothing to try again for
        play.run(download(gateway, task(), tmp_path))
    assert ((tmp_path / FILE).read_bytes(), names(tmp_path)) == (FILM, [FILE])


@pytest.mark.parametrize(
    ("total", "chunk"), [(len(FILM), FILM[50:-1]), (len(FILM) + 1, FILM[50:]), ("*", FILM[50:-1])], ids=str
)
def test_a_rest_that_is_not_all_of_it_is_asked_for_again(
    gateway: Gateway, clock: Clock, tmp_path: Path, total: int | str, chunk: bytes
) -> None:
    left_behind(tmp_path)
    play = Play(clock, [], files=[rest(50, chunk, total=total), reply(416), tagged(FILM)])
    play.run(download(gateway, task(), tmp_path))
    assert play.asked[1]["range"] == f"bytes={50 + len(chunk)}-"
    assert (tmp_path / FILE).read_bytes() == FILM


def test_an_unasked_part_of_a_file_is_not_taken_for_all_of_it(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    play = Play(clock, [], files=[rest(50), rest(0, FILM)])
    play.run(download(gateway, task(), tmp_path))
    assert ((tmp_path / FILE).read_bytes(), play.asked) == (FILM, [{}, {}])


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"etag": '"v1"'}, '"v1"'),
        ({"etag": '""'}, '""'),
        ({"etag": '"a/../b"', "last-modified": "Wed, 21 Oct 2026 07:28:00 GMT"}, '"a/../b"'),
        ({"last-modified": "Wed, 21 Oct 2026 07:28:00 GMT"}, "Wed, 21 Oct 2026 07:28:00 GMT"),
        ({"etag": 'W/"v1"', "last-modified": "Wed, 21 Oct 2026 07:28:00 GMT"}, "Wed, 21 Oct 2026 07:28:00 GMT"),
        ({"last-modified": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"etag": 'W/"v1"'}, None),
        ({"etag": "v1"}, None),
        ({"etag": '"v\n1"'}, None),
        ({"etag": '"é"'}, None),
        ({"etag": f'"{"x" * 99}"'}, None),
        ({"etag": f'"{"x" * 98}"'}, f'"{"x" * 98}"'),
        ({"last-modified": "yesterday"}, None),
        ({}, None),
    ],
)
def test_what_tells_versions_apart_is_kept_and_nothing_else(headers: dict[str, str], validator: str | None) -> None:
    assert validator_of(headers) == validator


@pytest.mark.parametrize("validator", ['"v1"', "Wed, 21 Oct 2026 07:28:00 GMT", f'"{"/" * 98}"', '"\'$;&.."'])
@pytest.mark.parametrize("generation_id", ["gen_1", "x" * 300, "../../etc/passwd"])
def test_every_version_fits_into_a_name(
    gateway: Gateway, clock: Clock, tmp_path: Path, validator: str, generation_id: str
) -> None:
    header = "etag" if validator.startswith('"') else "last_modified"
    given = task({"generation_id": generation_id, "url": ADDRESS})
    folder = tmp_path / "folder"
    gateway.retry = Retry(attempts=1)
    with pytest.raises(DownloadError):
        Play(clock, [], files=[film(FILM[:50], **{header: validator})]).run(download(gateway, given, folder))
    assert names(folder) == [part_of(validator, file_name(HERE, given, 0))]
    play = Play(clock, [], files=[rest(50)])
    (generation,) = play.run(download(gateway, given, folder)).generations
    assert play.asked == [{"range": "bytes=50-", "if-range": validator}]
    assert (generation.file.parent, generation.file.read_bytes()) == (folder, FILM)
    assert names(tmp_path) == ["folder"]


def test_what_cannot_be_told_apart_is_begun_anew_and_not_left_behind(
    gateway: Gateway, clock: Clock, tmp_path: Path
) -> None:
    gateway.retry = Retry(attempts=1)
    with pytest.raises(DownloadError):
        Play(clock, [], files=[film(FILM[:50], content_length="160")]).run(download(gateway, task(), tmp_path))
    assert names(tmp_path) == []
    left_behind(tmp_path, validator=None)
    play = Play(clock, [], files=[film()])
    play.run(download(gateway, task(), tmp_path))
    assert (play.asked, names(tmp_path)) == ([{}], [FILE])


@pytest.mark.parametrize("name", ["deadbeef", "v1", "IA", "_w", "A" * 180, "Inh5eiI=", "InYxIgAA"], ids=str)
def test_a_part_named_by_nobody_we_know_is_not_resumed(
    gateway: Gateway, clock: Clock, tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{FILE}.{name}.part").write_bytes(FILM[:50])
    play = Play(clock, [], files=[film()])
    play.run(download(gateway, task(), tmp_path))
    assert (play.asked, (tmp_path / FILE).read_bytes()) == ([{}], FILM)


def test_the_parts_of_other_videos_are_left_alone(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    others = [f"{NAME}2.mp4.part", f"{FILE}.x.y.part", f"x{FILE}.part", f"{FILE}.part2", f"{TASK}.mp4"]
    for name in others:
        (tmp_path / name).write_bytes(b"theirs")
    Play(clock, [], files=[film()]).run(download(gateway, task(), tmp_path))
    assert names(tmp_path) == sorted([*others, FILE])


# --- what is not kept -------------------------------------------------------------------------------------------

LARGE = {"content_length": str(len(FILM) + 1)}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((reply(200, "", content_type="text/html", etag='"v1"'), [FILM]), "web page"),
        ((reply(206, "", content_type="Text/HTML", content_range="bytes 50-59/60"), [FILM]), "web page"),
        (tagged(b"no film at all", content_length="14"), "not an MP4"),
        (film(b"no film at all", etag='"v1"'), "not an MP4"),
        (tagged(FILM + b"x", **LARGE), "larger than 200 bytes"),
        (film(FILM, b"x", etag='"v1"'), "larger than 200 bytes"),
        (rest(50, total=201), "larger than 200 bytes"),
    ],
    ids=["page", "rest of a page", "no film", "no film, no length", "announced", "not announced", "rest"],
)
def test_what_is_wrong_is_not_kept(gateway: Gateway, clock: Clock, tmp_path: Path, answer: Any, words: str) -> None:
    gateway.settings = replace(gateway.settings, largest_video=len(FILM))
    left_behind(tmp_path)
    play = Play(clock, [], files=[answer])
    with pytest.raises(DownloadError, match=words) as caught:
        play.run(download(gateway, task(), tmp_path))
    assert (len(play.opened), names(tmp_path), caught.value.retryable) == (1, [], False)


def test_what_is_announced_too_large_is_not_begun(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    gateway.settings = replace(gateway.settings, largest_video=len(FILM) - 1)
    play = Play(clock, [], files=[tagged(FILM)])
    with pytest.raises(DownloadError, match="largest_video"):
        play.run(download(gateway, task(), tmp_path))
    assert len(play.patience) == 1, "no byte was asked for"


def test_a_video_of_exactly_the_ceiling_is_saved(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    gateway.settings = replace(gateway.settings, largest_video=len(FILM))
    Play(clock, [], files=[tagged(FILM)]).run(download(gateway, task(), tmp_path))
    assert (tmp_path / FILE).read_bytes() == FILM


@pytest.mark.parametrize(
    "answer",
    [tagged(FILM[:150], content_length="150"), tagged(FILM, b"xx", content_length="201"), tagged(FILM, b"x")],
    ids=["short", "longer than it says", "longer"],
)
def test_a_length_that_lies_leaves_nothing(gateway: Gateway, clock: Clock, tmp_path: Path, answer: Any) -> None:
    play = Play(clock, [], files=[answer])
    with pytest.raises(DownloadError) as caught:
        play.run(download(gateway, task(), tmp_path))
    assert (len(play.opened), names(tmp_path), caught.value.retryable) == (4, [], True)
    assert all(asked == {} for asked in play.asked)


MOOV, MDAT = box(b"moov", bytes(9)), box(b"mdat", bytes(99))
FTYP = box(b"ftyp", b"isom")
FILMS = [
    (FILM, True),
    (FTYP, True),
    (FTYP + MOOV, True),
    (FILM[:-1], False),
    (FILM[:30], False),
    (FILM[:7], False),
    (b"", False),
    (b"\0\0\0\x18fty", False),
    (MDAT + FTYP, False),
    (b"<html>" + FILM, False),
    (FILM + b"another", True),
    (FILM + bytes(100), True),
    (FILM + b"\xff" * 100, True),
    (FILM + b"and some words that no player reads", True),
    (FTYP + MOOV + (0).to_bytes(4) + b"mdat" + bytes(5), True),
    (FTYP + MOOV + (1).to_bytes(4) + b"mdat" + (26).to_bytes(8) + bytes(10), True),
    (FTYP + MOOV + (1).to_bytes(4) + b"mdat" + (27).to_bytes(8) + bytes(10), False),
    (FTYP + MOOV + (1).to_bytes(4) + b"mdat" + (2**63).to_bytes(8) + bytes(10), False),
    (FTYP + MOOV + (1).to_bytes(4) + b"mdat" + bytes(7), False),
    (FTYP + MOOV + (1).to_bytes(4) + b"mdat" + (15).to_bytes(8), True),
    (FTYP + (2**32 - 1).to_bytes(4) + b"mdat" + bytes(10), False),
    (FTYP + (99).to_bytes(4) + b"oddb" + bytes(10), False),
    (FTYP + box(b"oddb", b"") * 200_000, True),
]


@pytest.mark.parametrize(("content", "whole"), FILMS, ids=[str(number) for number in range(len(FILMS))])
def test_a_film_is_whole_when_none_of_its_boxes_is_cut_off(
    gateway: Gateway, clock: Clock, tmp_path: Path, content: bytes, whole: bool
) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert is_whole_film(tmp_path / FILE) is whole
    play = Play(clock, [], files=[film(NEW)])
    play.run(download(gateway, task(), tmp_path))
    assert (tmp_path / FILE).read_bytes() == (content if whole else NEW), (
        "what stood there was no film, and is replaced"
    )


@pytest.mark.parametrize("announced", [True, False])
def test_a_film_whose_last_box_has_no_end_is_whole_where_its_length_was_announced(
    gateway: Gateway, clock: Clock, tmp_path: Path, announced: bool
) -> None:
    content = FTYP + MOOV + (0).to_bytes(4) + b"mdat" + bytes(500)
    headers = {"content_length": str(len(content))} if announced else {}
    play = Play(clock, [], files=[film(content, **headers)])
    gateway.retry = Retry(attempts=1)
    if announced:
        play.run(download(gateway, task(), tmp_path))
        assert is_whole_film(tmp_path / FILE)
        return
    with pytest.raises(DownloadError, match="may be cut off"):
        play.run(download(gateway, task(), tmp_path))
    assert FILE not in names(tmp_path)


# --- others in the same folder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("validator", ['"v1"', None])
def test_a_part_that_somebody_is_at_is_left_to_them(
    gateway: Gateway, clock: Clock, tmp_path: Path, validator: str | None
) -> None:
    theirs = left_behind(tmp_path, validator=validator)
    seen: list[list[str]] = []
    play = Play(
        clock, [], files=[film(FILM[:9], lambda: seen.append(names(tmp_path)) or FILM[9:], etag=validator or "")]
    )
    with theirs.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        play.run(download(gateway, task(), tmp_path))
        assert theirs.read_bytes() == FILM[:50]
    assert (play.asked, names(tmp_path)) == ([{}], [FILE, theirs.name])
    (own,) = {*seen[0]} - {theirs.name}
    assert re.fullmatch(rf"{FILE}\.[0-9a-f]{{8}}\.part", own)
    assert (tmp_path / FILE).read_bytes() == FILM


def test_a_private_part_goes_when_it_is_left(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    theirs = left_behind(tmp_path)
    with theirs.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DownloadError):
            Play(clock, [], files=[tagged(FILM[:60])]).run(download(gateway, task(), tmp_path))
    assert names(tmp_path) == [theirs.name]


def test_a_part_that_goes_between_its_opening_and_its_locking_is_not_taken(
    gateway: Gateway, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another download finishes it just then: its file has the final name, and must not be written to."""
    part, lock = left_behind(tmp_path, FILM), fcntl.flock

    def late(*given: Any) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        part.rename(tmp_path / FILE)
        lock(*given)

    play = Play(clock, [], files=[tagged(NEW, content_length=str(len(NEW)))])
    monkeypatch.setattr(fcntl, "flock", late)
    play.run(download(gateway, task(), tmp_path))
    assert (play.asked, (tmp_path / FILE).read_bytes(), names(tmp_path)) == ([{}], NEW, [FILE])


def test_a_private_part_that_is_swept_away_before_it_is_locked_is_not_used(
    gateway: Gateway, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another download is about to remove what it found unlocked; it has the lock, and the name is still there."""
    theirs, lock, swept = left_behind(tmp_path), fcntl.flock, list[Path]()

    def contended(file: int, how: int) -> None:
        path = Path(f"/proc/self/fd/{file}").readlink()
        if len(swept) < 3 and path != theirs:
            swept.append(path)
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        lock(file, how)

    with theirs.open("r+b") as file:
        lock(file, fcntl.LOCK_EX)
        monkeypatch.setattr(fcntl, "flock", contended)
        Play(clock, [], files=[tagged(FILM[:9], lambda: [path.unlink() for path in swept] and FILM[9:])]).run(
            download(gateway, task(), tmp_path)
        )
    assert len(swept) == 3
    assert (tmp_path / FILE).read_bytes() == FILM


def test_a_part_taken_away_meanwhile_is_not_given_the_name(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    def swapped() -> bytes:
        (part,) = tmp_path.iterdir()
        part.unlink()
        part.write_bytes(b"evil")
        return FILM[9:]

    with pytest.raises(DownloadError, match="could not be written"):
        Play(clock, [], files=[tagged(FILM[:9], swapped)]).run(download(gateway, task(), tmp_path))
    assert FILE not in names(tmp_path)


def planted(kind: str, path: Path, outside: Path) -> None:
    match kind:
        case "link":
            path.symlink_to(outside)
        case "dangling link":
            path.symlink_to(outside.with_name("not there"))
        case "hard link":
            path.hardlink_to(outside)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with chdir(path.parent), socket.socket(socket.AF_UNIX) as listener:  # whose paths are short
                listener.bind(path.name)


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "folder", "pipe", "socket"])
@pytest.mark.parametrize("validator", ['"v1"', None])
def test_nothing_planted_under_a_parts_name_is_written_to(
    gateway: Gateway, clock: Clock, tmp_path: Path, kind: str, validator: str | None
) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.write_bytes(FILM[:50])
    planted(kind, folder / part_of(validator), outside)
    play = Play(clock, [], files=[film(etag=validator or "")])
    play.run(download(gateway, task(), folder))
    assert (play.asked, outside.read_bytes(), (folder / FILE).read_bytes()) == ([{}], FILM[:50], FILM)
    assert not (folder / FILE).is_symlink()
    assert (names(tmp_path), names(folder)) == (["folder", "outside"], [FILE, part_of(validator)])


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "pipe", "socket"])
@pytest.mark.parametrize("content", [FILM, b"no film"])
def test_nothing_planted_under_the_final_name_is_written_to(
    gateway: Gateway, clock: Clock, tmp_path: Path, kind: str, content: bytes
) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.write_bytes(content)
    planted(kind, folder / FILE, outside)
    Play(clock, [], files=[film(NEW)]).run(download(gateway, task(), folder))
    assert (outside.read_bytes(), (folder / FILE).is_symlink()) == (content, False)
    assert names(folder) == [FILE]
    if kind != "hard link" or content != FILM:
        assert (folder / FILE).read_bytes() == NEW


@pytest.mark.parametrize("errno_", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_gets_every_download_a_part_of_its_own(
    gateway: Gateway, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errno_: int
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno_, os.strerror(errno_))

    monkeypatch.setattr(fcntl, "flock", flock)
    gateway.retry = Retry(attempts=2)
    play = Play(clock, [], files=[tagged(FILM[:50]), tagged(FILM)])
    play.run(download(gateway, task(), tmp_path))
    assert (play.asked, names(tmp_path)) == ([{}, {}], [FILE])


def test_a_file_is_synced_before_it_has_its_name_and_the_folder_after(
    gateway: Gateway, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[list[str]] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(names(tmp_path)))
    Play(clock, [], files=[tagged(FILM)]).run(download(gateway, task(), tmp_path))
    assert synced == [[part_of('"v1"')], [FILE]]


@pytest.mark.parametrize("call", ["fsync", "ftruncate"])
def test_what_the_disk_refuses_is_named_and_leaves_nothing(
    gateway: Gateway, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, broken)
    with pytest.raises(DownloadError, match="Input/output error") as caught:
        Play(clock, [], files=[tagged(FILM)]).run(download(gateway, task(), tmp_path))
    assert (names(tmp_path), caught.value.retryable) == ([], False)


# --- tasks that have nothing to save ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["queued", "running", "unknown"])
def test_there_is_nothing_to_save_of_a_task_under_way(
    gateway: Gateway, clock: Clock, tmp_path: Path, status: str
) -> None:
    play = Play(clock, [], [looked(status=status)])
    with pytest.raises(WaitTimeoutError, match="nothing to save yet"):
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


PRIVATE = ["https://10.0.0.1/1.mp4", "https://localhost/1.mp4", "https://nas/1.mp4", "https://169.254.169.254/1.mp4"]


@pytest.mark.parametrize("address", PRIVATE)
@pytest.mark.parametrize("led", [False, True], ids=["given", "redirected"])
def test_a_private_machine_is_asked_only_where_the_operator_allows_it(
    gateway: Gateway, clock: Clock, tmp_path: Path, address: str, led: bool
) -> None:
    given = task({"generation_id": "gen_1", "url": ADDRESS if led else address})
    answers = [reply(302, "", location=address)] if led else []
    play = Play(clock, [], files=[*answers, film()])
    with pytest.raises(DownloadError, match="private_addresses=True") as caught:
        play.run(download(gateway, given, tmp_path))
    assert (caught.value.retryable, play.opened, names(tmp_path)) == (False, [ADDRESS] if led else [], [])
    gateway.settings = replace(gateway.settings, private_addresses=True)
    play = Play(clock, [], files=[*answers, film()])
    play.run(download(gateway, given, tmp_path))
    assert (play.opened[-1], names(tmp_path)) == (address, [FILE])


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


def test_a_task_whose_every_video_there_is_was_saved_is_finished(
    gateway: Gateway, clock: Clock, tmp_path: Path
) -> None:
    play = Play(clock, [reply(200, {"id": TASK})], files=[film()])
    play.run(create(gateway, VideoRequest(prompt="fly man", n_variants=2), "k"))
    play.run(download(gateway, task({"generation_id": "withheld"}, {"url": ADDRESS}), tmp_path))
    row = gateway.ledger.find("k")
    assert (len(row.files), row.finished) == (1, True)


# --- names ------------------------------------------------------------------------------------------------------


def named(where: str, *generation_ids: str | None, task_id: str = TASK) -> list[str]:
    made = task(*({"generation_id": one, "url": ADDRESS} for one in generation_ids), task_id=task_id)
    return [file_name(where, made, index) for index in range(len(generation_ids))]


def test_two_tasks_may_call_their_videos_alike(gateway: Gateway, clock: Clock, tmp_path: Path) -> None:
    play = Play(clock, [], files=[film(), film(FILM + b"another")])
    for task_id in ("task_a", "task_b"):
        play.run(download(gateway, task({"generation_id": "0", "url": ADDRESS}, task_id=task_id), tmp_path))
    assert [name[: -len("-12345678.mp4")] for name in names(tmp_path)] == ["task_a-0", "task_b-0"]
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 2


def test_a_video_that_another_tasks_video_is_called_like_is_saved_beside_it(
    gateway: Gateway, clock: Clock, tmp_path: Path
) -> None:
    alike = "gen_01jy8k72axednrjcnvmkwpqp11"
    play = Play(clock, [], files=[film(), film(FILM + b"another")])
    for task_id in ("task_a", "task_b"):
        play.run(download(gateway, task({"generation_id": alike, "url": ADDRESS}, task_id=task_id), tmp_path))
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (named(HERE, "7"), named("https://other.test", "7")),
        (named(HERE, "7"), named(HERE, "7", task_id="task_other")),
        (named(HERE, "Video"), named(HERE, "video")),
        (named(HERE, "a/b"), named(HERE, "a_b")),
        (named(HERE, "x" * 300), named(HERE, "x" * 301)),
        (named(HERE, "任务"), named(HERE, "")),
    ],
)
def test_two_videos_never_share_a_file(one: list[str], other: list[str]) -> None:
    names = [*one, *other]
    assert len({name.casefold() for name in names}) == 2
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,109}", name) for name in names)


@pytest.mark.parametrize("given", [(None, None), ("7", "7"), ("", "")])
def test_variants_are_told_apart_by_their_place_where_their_ids_do_not(given: tuple[str | None, ...]) -> None:
    first, second = named(HERE, *given)
    assert first.startswith(f"{TASK}-1-")
    assert second.startswith(f"{TASK}-2-")


def test_an_id_that_tells_its_time_is_its_name_by_itself() -> None:
    alone = "gen_01jy8k72axednrjcnvmkwpqp11"
    assert re.fullmatch(f"{alone}-[0-9a-f]{{8}}", named(HERE, alone)[0])
    assert named(HERE, alone) == named(HERE, alone)


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
        play.run(generate(gateway, create(gateway, VideoRequest(prompt="fly man"), "k"), 90.0, tmp_path))
    assert (caught.value.task_id, caught.value.charged, play.posts) == (TASK, "yes", 1)


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), "60", None, -1, -0.001, 10_000_001])
def test_a_timeout_that_cannot_be_waited_for_is_found_before_anything_is_paid(
    gateway: Gateway, clock: Clock, timeout: Any
) -> None:
    play = Play(clock, [ACCEPTED])
    with pytest.raises(InvalidRequestError, match="timeout"):
        play.run(generate(gateway, create(gateway, VideoRequest(prompt="fly man"), "k"), timeout, None))
    assert (play.calls, gateway.ledger.find("k")) == ([], None)


def test_the_time_a_create_takes_is_not_taken_from_the_wait(gateway: Gateway, clock: Clock) -> None:
    gateway.retry = Retry(attempts=2)
    play = Play(clock, [reply(429, "", retry_after="30"), ACCEPTED], news=[ALONE], lists=[looked(status="running")])
    with pytest.raises(WaitTimeoutError):
        play.run(generate(gateway, create(gateway, VideoRequest(prompt="fly man"), "k"), 20.0, None))
    assert play.looks[-1] - play.looks[0] == pytest.approx(20.0)
