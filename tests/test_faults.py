"""How often one create is really sent, for each way a gateway can fail it. ``make faults`` prints what is counted here.

The failures are those that the field's SDKs were counted with (``sdk_faults.json``), in the same order; each is met on
a fresh connection, by a client that has made a look and a create before, when half of a large body has been sent, and
after the caller has gone. Where the answer leaves open what became of the create, there are two gateways: one has
accepted it and lists it, the other has not.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fault_server import FAILURES, FaultServer
from raw_gateway import Connection

from sora_tools import AsyncSora, Sora, SoraError, VideoTask
from sora_tools.flow import Sleep

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "faults.md"
SDKS = json.loads((HERE / "sdk_faults.json").read_text())
KEY = "the-callers-key"
VIDEO = {"prompt": "fly man", "width": 640, "height": 360, "n_frames": 60}
PICTURE = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(750_000)).decode()
LARGE = {**VIDEO, "inpaint_items": [{"url": PICTURE}]}
SITUATIONS = {"fresh": "fresh", "reused": "reused", "mid_body": "mid-body", "cancelled": "after cancellation"}
COLOURS = ("sync", "async")


class Row(NamedTuple):
    """What is expected of one failure: creates counted, and what the caller is told.

    ``1/2`` is sync and async where they differ. ``4 (1)`` is a gateway that has not accepted it, and one that has and
    lists it; where it is one number, both are. ``cancelled`` counts the call that was cancelled and the caller's own
    second one together: an answer that was written down as a refusal allows the second to send. A synchronous caller
    who is interrupted takes the reading of the answer along, so nothing is known of its fate and nothing is sent.
    """

    failure: str
    told: str
    """The error's code; a gateway that has accepted a create of unknown fate gives the task instead."""
    fresh: str
    reused: str
    mid_body: str
    cancelled: str
    later: str
    """What the second call after a cancellation is told."""


LOST, GONE = "submission_unknown", "endpoint_unavailable"
NO, WHO = "invalid_request", "authentication"
# fmt: off
TABLE = (
    Row("read timeout",               LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("FIN",                        LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("RST",                        LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("200 + truncated body",       LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("garbage status line",        LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("400",                        NO,      "1",     "1",     "1",     "2",   NO),
    Row("401",                        WHO,     "1",     "1",     "1",     "2",   WHO),
    Row("403",                        WHO,     "1",     "1",     "1",     "2",   WHO),
    Row("408",                        LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("409",                        NO,      "1",     "1",     "1",     "2",   NO),
    Row("422",                        NO,      "1",     "1",     "1",     "2",   NO),
    Row("425",                        "busy",  "2",     "2",     "2",     "3",   "busy"),
    Row("429",                        "busy",  "4",     "4",     "4",     "5",   "busy"),
    Row("429 Retry-After: 1",         "busy",  "4",     "4",     "4",     "5",   "busy"),
    Row("429 Retry-After: 90",        "busy",  "1",     "1",     "1",     "2",   "busy"),
    Row("429 Retry-After: 600",       "busy",  "1",     "1",     "1",     "2",   "busy"),
    Row("429 insufficient_quota",     "quota", "1",     "1",     "1",     "2",   "quota"),
    Row("429 Retry-After: bad date",  "busy",  "4",     "4",     "4",     "5",   "busy"),
    Row("500",                        LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("500 x-should-retry: false",  LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("501",                        GONE,    "4",     "4",     "4",     "5",   GONE),
    Row("502",                        LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("503",                        LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("504",                        LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("524",                        LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("400 x-should-retry: true",   NO,      "1",     "1",     "1",     "2",   NO),
    Row("200 HTML",                   LOST,    "4 (1)", "4 (1)", "4 (1)", "1",   LOST),
    Row("200 empty",                  LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("200 cut JSON",               LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("200 {error:...}",            LOST,    "1",     "1",     "1",     "1",   LOST),
    Row("307 redirect",               "task",  "2",     "2",     "2",     "3",   "task"),
)
# fmt: on


@dataclass
class Outcome:
    """What came of one create: what was counted, said and written down."""

    posts: int
    told: str
    """The error's code, or ``task``."""
    charged: str
    state: str
    """The ledger row's."""
    accepted: int = 0
    """Tasks that the gateway has made of it."""
    is_the_task: bool = True
    """Whether the caller was given, and the ledger knows, the very task that the gateway has made; or both none."""
    on_fresh_lines: bool = True
    """Whether every create came on a connection of its own."""
    trace: str = field(default="", compare=False)
    """The requests in their order: + a create, . a look."""
    napped: float = field(default=0.0, compare=False)
    """Seconds on the conversation's clock."""


class Case(NamedTuple):
    row: Row
    situation: str
    colour: str
    accepts: bool

    @property
    def name(self) -> str:
        world = "accepted" if self.accepts else "not accepted"
        return f"{self.row.failure}, {SITUATIONS[self.situation]}, {self.colour}, {world}"

    def expected(self) -> Outcome:
        row = self.row
        told = _of(row.later if self.situation == "cancelled" else row.told, self.colour)
        cell = getattr(row, self.situation)
        not_accepted, _, listed = cell.rstrip(")").partition(" (")
        posts = int(_of(listed if self.accepts and listed else not_accepted, self.colour))
        if self.accepts or told == "task":
            return Outcome(posts, "task", "", "accepted", 1)
        return Outcome(posts, told, *(("unknown", "unsure") if told == LOST else ("no", "refused")))


def _of(cell: str, colour: str) -> str:
    return cell.split("/")[COLOURS.index(colour)] if "/" in cell else cell


def cases(row: Row, situation: str, colour: str) -> list[Case]:
    """The two gateways of a fate that the answer leaves open; a gateway that refuses has accepted nothing."""
    return [Case(row, situation, colour, accepts) for accepts in ((False, True) if row.told == LOST else (False,))]


# --- clients whose naps are not slept ---------------------------------------------------------------------------


@dataclass
class Skipping:
    """A clock that naps put forward."""

    skipped: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.skipped


def settled(sora: Any) -> None:
    sora.gateway = replace(sora.gateway, clock=Skipping())


class Hasty(Sora):
    def _grant(self, wish: Any, *rest: Any) -> Any:
        if isinstance(wish, Sleep):
            self.gateway.clock.skipped += wish.seconds
            return None
        return super()._grant(wish, *rest)


class AsyncHasty(AsyncSora):
    async def _grant(self, wish: Any, *rest: Any) -> Any:
        if isinstance(wish, Sleep):
            self.gateway.clock.skipped += wish.seconds
            return await asyncio.sleep(0)
        return await super()._grant(wish, *rest)


# --- one create -------------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """One failure in one situation, up to its outcome."""

    case: Case
    arrived: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    requests_before: int = 0
    tasks_before: int = 0

    def __post_init__(self) -> None:
        row, situation, _, accepts = self.case
        self.request = LARGE if situation == "mid_body" else VIDEO
        self.server = FaultServer(row.failure, accepts=accepts, halfway=situation == "mid_body")

    @property
    def settings(self) -> dict[str, Any]:
        patience = 0.4 if self.case.row.failure == "read timeout" else 5.0
        return {"base_url": self.server.base_url, "api_key": "sk-test-0123456789", "timeout": patience}

    def hold(self) -> None:
        """Let creates arrive and wait: the caller goes meanwhile."""

        def held() -> None:
            self.arrived.set()
            self.go.wait(10)

        self.server.on_create = held

    def let_go(self) -> None:
        self.go.set()
        self.server.on_create = lambda: None

    def begin(self) -> None:
        """From here on creates fail and are counted."""
        self.server.failing = True
        self.requests_before = len(self.server.requests)
        self.tasks_before = len(self.server.tasks)

    def outcome(self, sora: Any, result: VideoTask | SoraError) -> Outcome:
        requests = self.server.requests[self.requests_before :]
        made = [task["id"] for task in self.server.tasks[self.tasks_before :]]
        row = sora.gateway.ledger.find(KEY)
        is_task = isinstance(result, VideoTask)
        trace = "".join("+" if method == "POST" else "." for method, _, _ in requests)
        return Outcome(
            posts=trace.count("+"),
            told="task" if is_task else result.code,
            charged="" if is_task else result.charged,
            state=row.state,
            accepted=len(made),
            is_the_task=([result.task_id] == [row.task_id] == made) if is_task else row.task_id is None,
            on_fresh_lines=self.server.reused == 0,
            trace=trace,
            napped=sora.gateway.clock.skipped,
        )


def measured(case: Case) -> Outcome:
    """Make the create, and count."""
    return played(Scene(case))


def played(scene: Scene) -> Outcome:
    with scene.server:
        return synchronous(scene) if scene.case.colour == "sync" else asyncio.run(asynchronous(scene))


def synchronous(scene: Scene) -> Outcome:
    with Hasty(**scene.settings, ledger="memory") as sora:
        settled(sora)
        if scene.case.situation == "reused":
            scene.server.failing = False
            sora.query(sora.create(VIDEO, key="another").task_id)
        scene.begin()
        if scene.case.situation == "cancelled":
            scene.hold()
            interrupted(lambda: sora.create(scene.request, key=KEY), scene)
        try:
            result: Any = sora.create(scene.request, key=KEY)
        except SoraError as error:
            result = error
        return scene.outcome(sora, result)


def interrupted(create: Callable[[], Any], scene: Scene) -> None:
    """Make a create, press Ctrl-C when it has arrived, and wait for what it leaves behind.

    The signal is real; its handler is ours meanwhile, and raises once at most, so that none can stray into pytest.
    """
    others = set(threading.enumerate())
    armed = True

    def handler(*_: Any) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    def press() -> None:
        if scene.arrived.wait(10):
            time.sleep(0.01)  # by now the caller has begun to wait for the answer
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    usual = signal.signal(signal.SIGINT, handler)
    finger = threading.Thread(target=press)
    finger.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            create()
    finally:
        finger.join()
        armed = False
        signal.signal(signal.SIGINT, usual)
        scene.let_go()
    for thread in set(threading.enumerate()) - others:
        if thread.name in ("sora-create", "sora-request"):
            thread.join(10)


async def asynchronous(scene: Scene) -> Outcome:
    async with AsyncHasty(**scene.settings, ledger="memory") as sora:
        settled(sora)
        if scene.case.situation == "reused":
            scene.server.failing = False
            await sora.query((await sora.create(VIDEO, key="another")).task_id)
        scene.begin()
        if scene.case.situation == "cancelled":
            scene.hold()
            await cancelled(asyncio.create_task(sora.create(scene.request, key=KEY)), scene)
            left_behind = sora._connections[asyncio.get_running_loop()].attempts
            while left_behind:
                await asyncio.wait(left_behind)
        try:
            result: Any = await sora.create(scene.request, key=KEY)
        except SoraError as error:
            result = error
        return scene.outcome(sora, result)


async def cancelled(create: asyncio.Task[Any], scene: Scene) -> None:
    """Cancel a create when it has arrived."""
    try:
        assert await asyncio.to_thread(scene.arrived.wait, 10)
        create.cancel()
        with pytest.raises(asyncio.CancelledError):
            await create
    finally:
        scene.let_go()


@pytest.fixture(autouse=True)
def hasty() -> None:
    """Take the place of the fixture that cuts pauses short: they are not slept here, and are to be the real ones."""


# --- the table --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.failure)
def test_a_create_is_sent_as_often_as_the_table_says(row: Row, situation: str, colour: str) -> None:
    for case in cases(row, situation, colour):
        outcome = measured(case)
        assert (case.name, outcome) == (case.name, case.expected())
        if row.failure == "200 HTML":
            assert "++" not in outcome.trace, f"{case.name}: sent again without a look"
        if outcome.told == LOST:
            assert outcome.trace.count(".") >= 4, f"{case.name}: given up after too few looks"
            assert outcome.napped >= 8, f"{case.name}: given up too soon"


def test_every_failure_is_counted_and_stands_beside_the_sdks() -> None:
    assert [row.failure for row in TABLE] == list(FAILURES) == list(SDKS["creates"])
    assert {len(counts) for counts in SDKS["creates"].values()} == {len(SDKS["sdks"])}


@pytest.mark.parametrize("colour", COLOURS)
def test_an_answer_that_a_reset_may_have_eaten_is_believed_only_if_it_was_read(colour: str) -> None:
    row = next(row for row in TABLE if row.failure == "429")
    scene = Scene(Case(row, "mid_body", colour, accepts=False))
    scene.server.hang_up = Connection.close  # over unread bytes: the kernel sends RST
    outcome = played(scene)
    if outcome.told == LOST:  # no answer to the last one came through
        assert (outcome.charged, outcome.state) == ("unknown", "unsure")
        assert 1 <= outcome.posts <= 4
    else:
        assert outcome == scene.case.expected()


def test_the_page_says_what_the_table_says() -> None:
    told = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert told == list(markdown({row.failure: [getattr(row, name) for name in SITUATIONS] for row in TABLE}))


# --- make faults ------------------------------------------------------------------------------------------------

Figures = dict[str, list[str]]


def counted() -> tuple[Figures, list[str]]:
    """Every figure as it is counted here and now, and where it is not the table's."""
    figures: Figures = {}
    surprises: list[str] = []
    for row in TABLE:
        figures[row.failure] = [_cell(row, situation, surprises) for situation in SITUATIONS]
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{len(figures)} of {len(TABLE)} failures" + "\n" * (row is TABLE[-1]))
    return figures, surprises


def _cell(row: Row, situation: str, surprises: list[str]) -> str:
    worlds: list[str] = []
    for accepts in dict.fromkeys(case.accepts for case in cases(row, situation, "sync")):
        posts: list[int] = []
        for colour in COLOURS:
            case = Case(row, situation, colour, accepts)
            outcome = measured(case)
            posts.append(outcome.posts)
            if outcome != case.expected():
                surprises.append(f"{case.name}: {outcome}, not {case.expected()}")
        worlds.append("/".join(map(str, dict.fromkeys(posts))))
    both = list(dict.fromkeys(worlds))
    return both[0] if len(both) == 1 else f"{both[0]} ({both[1]})"


def lines(figures: Figures) -> Iterator[list[str]]:
    yield ["the create fails with", *SITUATIONS.values(), *SDKS["sdks"]]
    for failure, ours in figures.items():
        yield [failure, *ours, *map(str, SDKS["creates"][failure])]


def markdown(figures: Figures) -> Iterator[str]:
    head, *rows = lines(figures)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def plain(figures: Figures) -> Iterator[str]:
    """Columns as narrow as their widest word, for a terminal."""
    head, *rows = lines(figures)
    names = [[title] if number == 0 else re.split("[ -]", title) for number, title in enumerate(head)]
    tall = max(map(len, names))
    heads = [list(words) for words in itertools.zip_longest(*([""] * (tall - len(name)) + name for name in names))]
    widths = [max(map(len, column)) for column in zip(*heads, *rows, strict=True)]
    for name, *cells in (*heads, ["-" * width for width in widths], *rows):
        numbers = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        yield "  ".join([name.ljust(widths[0]), *numbers]).rstrip()


def main() -> None:
    """Count everything and print it."""
    figures, surprises = counted()
    shown = markdown if "--markdown" in sys.argv[1:] else plain
    sys.stdout.write("\n".join([*shown(figures), ""]))
    if surprises:
        sys.exit("\n".join(["", "Not as expected:", *surprises]))


if __name__ == "__main__":
    main()
