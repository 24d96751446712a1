"""How often one create is really sent, for each way a gateway can fail it. ``make faults`` prints what is counted here.

The table is ``fault_table.py``. In the other formats every failure is met on a fresh connection, and the rest of the
situations in ``make long``.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_formats import FORMATS
from fault_scenes import Scene, measured, played
from fault_server import FAILURES
from fault_table import (
    COLOURS,
    DIFFERENCES,
    FORMAT,
    LISTLESS,
    LOST,
    SITUATIONS,
    TABLE,
    Case,
    Outcome,
    Row,
    cases,
)
from raw_gateway import Connection

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "faults.md"
SDKS = json.loads((HERE / "sdk_faults.json").read_text())
OTHERS = [name for name in FORMATS if name != FORMAT]


@pytest.fixture(autouse=True)
def hasty() -> None:
    """Take the place of the fixture that cuts pauses short: they are not slept here, and are to be the real ones."""


# --- the table --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.failure)
def test_a_create_is_sent_as_often_as_the_table_says(row: Row, situation: str, colour: str) -> None:
    for case in cases(row, situation, colour):
        holds(case)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("dialect", OTHERS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.failure)
def test_the_table_holds_in_every_format(row: Row, dialect: str, colour: str) -> None:
    for case in cases(row, "fresh", colour, dialect):
        holds(case)


@pytest.mark.long
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("situation", [name for name in SITUATIONS if name != "fresh"])
@pytest.mark.parametrize("dialect", OTHERS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.failure)
def test_the_table_holds_in_every_format_and_situation(row: Row, dialect: str, situation: str, colour: str) -> None:
    for case in cases(row, situation, colour, dialect):
        holds(case)


def holds(case: Case) -> None:
    """The create is sent as often as expected and told as expected, after as many looks as its fate deserves."""
    outcome = measured(case)
    assert (case.name, outcome) == (case.name, case.expected())
    if case.row.failure == "200 HTML":
        assert "++" not in outcome.trace, f"{case.name}: sent again without a look"
    if case.dialect in LISTLESS:
        assert "." not in outcome.trace, f"{case.name}: looked for where nothing shows it"
    if outcome.told == LOST and case.dialect in LISTLESS:
        assert outcome.napped <= 0.5, f"{case.name}: told late"
    elif outcome.told == LOST:
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
    situations = {row.failure: [getattr(row, name) for name in SITUATIONS] for row in TABLE}
    formats = {row.failure: [_told(row, name, Case.expected) for name in FORMATS] for row in TABLE}
    assert told == [*markdown(beside_the_sdks(situations)), *markdown(together(in_formats(formats)))]


def test_where_formats_differ_they_do_so_for_a_reason_that_the_page_gives() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for formats, failure, figures, reason in DIFFERENCES:
        row = next(row for row in TABLE if row.failure == failure)
        assert all(getattr(row, situation) != figure for situation, figure in figures.items())
        assert set(formats) <= set(OTHERS)
        assert reason in page


# --- make faults ------------------------------------------------------------------------------------------------

Figures = dict[str, list[str]]


class Counting:
    """Every figure as it is counted here and now.

    Attributes:
        surprises: Where it is not the table's.
    """

    def __init__(self) -> None:
        self.surprises: list[str] = []

    def situations(self) -> Figures:
        """Creates in each situation, in the format that is met in all of them."""
        return self._counted(lambda row: [self._cell(row, situation) for situation in SITUATIONS])

    def formats(self) -> Figures:
        """Creates on a fresh connection in each format, and what is told."""
        return self._counted(lambda row: [_told(row, name, self._measured) for name in FORMATS])

    def _counted(self, cells: Callable[[Row], list[str]]) -> Figures:
        figures: Figures = {}
        for row in TABLE:
            figures[row.failure] = cells(row)
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{len(figures)} of {len(TABLE)} failures" + "\n" * (row is TABLE[-1]))
        return figures

    def _cell(self, row: Row, situation: str) -> str:
        def posts(accepts: bool) -> str:
            each = [self._measured(Case(row, situation, colour, accepts)).posts for colour in COLOURS]
            return "/".join(map(str, dict.fromkeys(each)))

        both = list(dict.fromkeys(posts(case.accepts) for case in cases(row, situation, "sync")))
        return both[0] if len(both) == 1 else f"{both[0]} ({both[1]})"

    def _measured(self, case: Case) -> Outcome:
        outcome = measured(case)
        if outcome != case.expected():
            self.surprises.append(f"{case.name}: {outcome}, not {case.expected()}")
        return outcome


def _told(row: Row, dialect: str, outcome: Callable[[Case], Outcome]) -> str:
    """Creates and what is told of them on a fresh connection, and in brackets the same where it was accepted."""
    worlds: dict[str, None] = {}
    for case in cases(row, "fresh", "sync", dialect):
        each = [outcome(case._replace(colour=colour)) for colour in COLOURS]
        worlds["/".join(dict.fromkeys(f"{came.posts} {came.told}" for came in each))] = None
    first, *second = worlds
    return first + "".join(f" ({each})" for each in second)


Table = list[list[str]]


def beside_the_sdks(figures: Figures) -> Table:
    head = ["the create fails with", *SITUATIONS.values(), *SDKS["sdks"]]
    return [head, *([failure, *ours, *map(str, SDKS["creates"][failure])] for failure, ours in figures.items())]


def in_formats(figures: Figures) -> Table:
    return [["the create fails with", *FORMATS], *([failure, *cells] for failure, cells in figures.items())]


def together(table: Table) -> Table:
    """The rows that say the same as one."""
    head, *rows = table
    same: dict[tuple[str, ...], list[str]] = {}
    for name, *cells in rows:
        same.setdefault(tuple(cells), []).append(name)
    return [head, *([", ".join(names), *cells] for cells, names in same.items())]


def markdown(table: Table) -> Iterator[str]:
    head, *rows = table
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def plain(table: Table) -> Iterator[str]:
    """Columns as narrow as their widest word, for a terminal."""
    head, *rows = table
    names = [[title] if number == 0 else re.split("[ -]", title) for number, title in enumerate(head)]
    tall = max(map(len, names))
    heads = [list(words) for words in itertools.zip_longest(*([""] * (tall - len(name)) + name for name in names))]
    widths = [max(map(len, column)) for column in zip(*heads, *rows, strict=True)]
    for name, *cells in (*heads, ["-" * width for width in widths], *rows):
        numbers = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        yield "  ".join([name.ljust(widths[0]), *numbers]).rstrip()


def main() -> None:
    """Count everything and print it."""
    counting = Counting()
    first, second = beside_the_sdks(counting.situations()), in_formats(counting.formats())
    as_on_the_page = "--markdown" in sys.argv[1:]
    shown = (
        [*markdown(first), "", *markdown(together(second))] if as_on_the_page else [*plain(first), "", *plain(second)]
    )
    sys.stdout.write("\n".join([*shown, ""]))
    if counting.surprises:
        sys.exit("\n".join(["", "Not as expected:", *counting.surprises]))


if __name__ == "__main__":
    main()
