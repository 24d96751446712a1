"""kill -9: a process that ends at any moment of a create or a download, and the next one, which takes it on.

The moments are found by enumeration: one life of ``killed.py`` ends at its first boundary, the next at its second, and
so on until one comes through unharmed. Those between a request's first byte and its answer's last are the gateway's to
choose: it ends the process that asks, whose id is in a header.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from by_hand import box
from fault_server import FaultServer
from killed import KEY
from raw_gateway import Connection, RawGateway

from sora_tools import SQLiteLedger
from sora_tools.sandbox import Sandbox, World

COLOURS = ("sync", "async")
MOST_BOUNDARIES = 200
KILLED = -signal.SIGKILL


@dataclass
class Story:
    """How a life went.

    Attributes:
        boundaries: Those it came to, in their order; it ended at the last one where it was killed.
        at: When it first came to each.
        outcome: The task's id or the error, where it was not killed.
        ended: Its exit code.
    """

    ended: int
    boundaries: list[str] = field(default_factory=list)
    at: dict[str, float] = field(default_factory=dict)
    outcome: dict[str, Any] | None = None


Live = Callable[..., Story]


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    """The clean process that forks a child for each life."""
    command = [sys.executable, str(Path(__file__).with_name("killed.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


@pytest.fixture
def live(process: subprocess.Popen[str]) -> Live:
    """Live once: ``live(action, base_url, ledger, folder, colour, last=None, **fields)``."""

    def once(
        action: str,
        base_url: str,
        ledger: Path,
        folder: Path | None,
        colour: str,
        last: int | None = None,
        **fields: Any,
    ) -> Story:
        order = {"action": action, "base_url": base_url, "ledger": str(ledger), "colour": colour, "last": last}
        process.stdin.write(json.dumps({**order, "folder": folder and str(folder), "fields": fields}) + "\n")
        process.stdin.flush()
        told = json.loads(process.stdout.readline())
        story = Story(told["ended"])
        for something in told["story"]:
            match something:
                case [boundary, at]:
                    story.boundaries.append(boundary)
                    story.at.setdefault(boundary, at)
                case outcome:
                    story.outcome = outcome
        return story

    return once


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sandbox keeps the files that it renders."""
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="module")
def cinema(films: Path) -> Iterator[Sandbox]:
    """A sandbox whose tasks are done at once, so that every life looks equally often; videos are rendered on demand."""
    with Sandbox(world=World(duration=0), render=False, directory=films) as running:
        yield running


# --- between two wishes -----------------------------------------------------------------------------------------


@pytest.mark.timeout(180)  # fifty lives and more, each with a wait for the disk
@pytest.mark.parametrize("colour", COLOURS)
def test_whichever_boundary_a_process_ends_at_the_next_one_goes_on(
    colour: str, live: Live, cinema: Sandbox, films: Path, tmp_path: Path
) -> None:
    ends: list[str] = []
    for number in range(1, MOST_BOUNDARIES):
        cinema.world.reset()
        where = (cinema.base_url, tmp_path / str(number) / "ledger.sqlite", tmp_path / str(number) / "videos", colour)
        life = live("generate", *where, last=number)
        if life.ended != KILLED:
            break
        ends.append(life.boundaries[-1])
        assert len(ends) == number, "the life before this one was killed too early or too late"
        _goes_on(life, live, where, cinema, films)
    assert life.ended == 0
    assert ends == life.boundaries, "every boundary of a whole life was some life's last"
    assert {"before Send create", "after Send create"} < set(ends)
    assert "before Do Ledger.settle" in ends, "between the answer and the note of it"
    assert ends.count("after Do Part.write") >= 3
    assert {"before Do Part.settle", "after Do Part.settle"} < set(ends)


def _goes_on(killed: Story, live: Live, where: tuple[str, Path, Path, str], cinema: Sandbox, films: Path) -> None:
    """Assert that the next process makes good what a killed one left."""
    _, ledger, folder, _ = where
    end, passed = killed.boundaries[-1], set(killed.boundaries)
    is_written, is_sent = "after Do Ledger.begin" in passed, "after Send create" in passed
    assert cinema.creates == is_sent, end

    life = live("resume", *where)
    assert life.boundaries.count("after Do Ledger.resume") <= 1, f"{end}: the dead one's claim was waited for"
    for claimed in ("after Do Ledger.resume", "after Do Ledger.named"):
        assert life.at.get(claimed, 0.0) - life.at[life.boundaries[0]] < 1, f"{end}: it did not begin at once"
    if not is_sent:
        assert life.outcome["error"] == ("submission_unknown" if is_written else "task_not_found"), end
        assert cinema.creates == 0, end
        life = live("resend", *where)
        assert cinema.creates == 1, end
        life = live("resume", *where)

    (task,) = cinema.world.tasks
    assert life.outcome == {"task_id": task.task_id}, end
    assert [request.route for request in cinema.requests].count("create") == 1, end
    (film,) = folder.iterdir()
    assert film.read_bytes() == (films / f"{task.generation_ids[0]}.mp4").read_bytes(), end
    book = SQLiteLedger(ledger)
    row = book.find(KEY)
    book.close()
    assert (row.state, row.task_id, row.outcome) == ("accepted", task.task_id, "succeeded"), end
    assert row.finished, end
    assert row.files == (str(film),), end
    assert list(ledger.parent.glob("ledger.sqlite*")) == [ledger], f"{end}: no claim and no journal stays behind"
    if "after Do Part.write" in passed and "after Do Part.settle" not in passed:
        downloads = [request.headers for request in cinema.requests if request.route == "download"]
        assert ["range" in headers for headers in downloads] == [False, True], f"{end}: what was there is not fetched"


# --- within a request -------------------------------------------------------------------------------------------


def kill_client(gateway: RawGateway, connection: Connection) -> None:
    """End the process whose request came last, and see it gone: its kernel closes the connection."""
    os.kill(int(gateway.requests[-1][2]["x-pid"]), signal.SIGKILL)
    with suppress(ConnectionError):
        while connection.file.read1(65536):
            pass


def kill_after_a_byte(gateway: RawGateway, connection: Connection) -> None:
    connection.raw.sendall(b"H")
    kill_client(gateway, connection)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("is_accepted", [True, False], ids=["accepted", "not accepted"])
@pytest.mark.parametrize("act", [kill_client, kill_after_a_byte], ids=["no byte answered", "one byte answered"])
def test_a_process_that_ends_before_its_create_is_answered_has_paid_once_at_most(
    act: Callable[[Any, Connection], None], is_accepted: bool, colour: str, live: Live, tmp_path: Path
) -> None:
    with FaultServer("FIN", accepts=is_accepted) as gateway:
        gateway.act = act
        _is_found_or_unknown(gateway, live, (gateway.base_url, tmp_path / "ledger.sqlite", None, colour))
        assert len(gateway.tasks) == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_a_process_that_ends_amid_a_create_has_paid_nothing(colour: str, live: Live, tmp_path: Path) -> None:
    long = {"prompt": "fly man " * 100_000}
    with FaultServer("FIN", halfway=True) as gateway:
        gateway.act = kill_client
        where = (gateway.base_url, tmp_path / "ledger.sqlite", None, colour)
        _is_found_or_unknown(gateway, live, where, **long)
        assert len(gateway.tasks) == 1


def _is_found_or_unknown(gateway: FaultServer, live: Live, where: Any, **fields: Any) -> None:
    killed = live("generate", *where, **fields)
    assert killed.ended == KILLED
    assert killed.boundaries[-1] == "before Send create"
    assert gateway.posts == 1
    gateway.failing = False
    accepted = [task["id"] for task in gateway.tasks]
    _finish_tasks(gateway)
    life = live("resume", *where)
    assert life.at["after Do Ledger.resume"] - life.at[life.boundaries[0]] < 1, "the claim is free"
    assert gateway.posts == 1
    if not accepted:
        assert life.outcome["error"] == "submission_unknown"
        assert life.outcome["charged"] == "unknown"
        life = live("resend", *where, **fields)
        assert gateway.posts == 2
        accepted = [task["id"] for task in gateway.tasks]
    assert [life.outcome] == [{"task_id": task_id} for task_id in accepted]


def _finish_tasks(gateway: FaultServer) -> None:
    made = [{"id": "gen_1", "url": f"{gateway.base_url}/1.mp4"}]
    for task in gateway.tasks:
        task.update(status="succeeded", generations=made)


FILM = box(b"ftyp", b"isom\0\0\2\0isomiso2") + box(b"moov", bytes(60)) + box(b"mdat", os.urandom(50_000))


class Projector(RawGateway):
    """A gateway with one film, that ends the first process which has half of it on its disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(self._answer)
        self.folder = folder

    def _answer(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        if method == "POST":
            connection.reply({"id": "task_1"})
        elif not path.endswith(".mp4"):
            made = [{"id": "gen_1", "url": f"{self.base_url}/1.mp4"}]
            task = {"id": "task_1", "status": "succeeded", "generations": made}
            connection.reply({"task_responses": [task]})
        elif asked := self.requests[-1][2].get("range"):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            part = f"bytes {start}-{len(FILM) - 1}/{len(FILM)}"
            connection.reply(FILM[start:], 206, content_range=part, etag='"v1"')
        else:
            half = len(FILM) // 2
            connection.raw.sendall(b'HTTP/1.1 200 X\r\netag: "v1"\r\ncontent-length: %d\r\n\r\n' % len(FILM))
            connection.raw.sendall(FILM[:half])
            until = time.monotonic() + 10  # another process has a clock of its own
            while sum(path.stat().st_size for path in self.folder.iterdir()) < half and time.monotonic() < until:
                time.sleep(0.005)
            kill_client(self, connection)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_process_that_ends_amid_a_download_has_left_half_of_it_to_the_next(
    colour: str, live: Live, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    with Projector(folder) as gateway:
        where = (gateway.base_url, tmp_path / "ledger.sqlite", folder, colour)
        assert live("generate", *where).ended == KILLED
        assert live("resume", *where).outcome == {"task_id": "task_1"}
        (film,) = folder.iterdir()
        assert film.read_bytes() == FILM
        asked = [headers for _, path, headers in gateway.requests if path.endswith(".mp4")]
        half = {"range": f"bytes={len(FILM) // 2}-", "if-range": '"v1"'}
        assert [{name: headers.get(name) for name in half} for headers in asked] == [dict.fromkeys(half), half]
        assert gateway.posts == 1
