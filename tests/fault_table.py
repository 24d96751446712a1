"""What each failure of a create comes to: the figures that are expected, and what the caller is told.

The failures are those that the field's SDKs were counted with (``sdk_faults.json``), in the same order; each is met on
a fresh connection, by a client that has made a look and a create before, when half of a large body has been sent, and
after the caller has gone. Where the answer leaves open what became of the create, there are two gateways: one has
accepted it and lists it, where its format has a list, and the other has not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fault_formats import FORMATS

SITUATIONS = {"fresh": "fresh", "reused": "reused", "mid_body": "mid-body", "cancelled": "after cancellation"}
COLOURS = ("sync", "async")
FORMAT = "backend"
"""The format that is met in every situation whenever the tests run."""


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


class Difference(NamedTuple):
    """Where formats differ from the table, and why."""

    formats: tuple[str, ...]
    failure: str
    figures: Mapping[str, str]
    reason: str


LISTLESS = tuple(name for name, each in FORMATS.items() if each.listed is None)
"""Formats in which an accepted create of unknown fate is told as unknown, too: nothing shows the task."""

DIFFERENCES = (
    Difference(
        LISTLESS,
        "200 HTML",
        {"fresh": "1", "reused": "1", "mid_body": "1"},
        "Only a list could show that the page did not come in place of an accepted create's answer.",
    ),
    Difference(
        ("chat",),
        "307 redirect",
        {"cancelled": "2"},
        "Its answer is read beside the caller from the start, so the redirect is followed for one who has gone, too.",
    ),
)


def row_in(name: str, row: Row) -> Row:
    """A row of the table as it is in a format."""
    for formats, failure, figures, _ in DIFFERENCES:
        if name in formats and failure == row.failure:
            row = row._replace(**figures)
    return row


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
    dialect: str = FORMAT

    @property
    def name(self) -> str:
        world = "accepted" if self.accepts else "not accepted"
        return f"{self.dialect}, {self.row.failure}, {SITUATIONS[self.situation]}, {self.colour}, {world}"

    def expected(self) -> Outcome:
        row = row_in(self.dialect, self.row)
        told = _of(row.later if self.situation == "cancelled" else row.told, self.colour)
        cell = getattr(row, self.situation)
        not_accepted, _, listed = cell.rstrip(")").partition(" (")
        posts = int(_of(listed if self.accepts and listed else not_accepted, self.colour))
        if told == "task" or (self.accepts and self.dialect not in LISTLESS):
            return Outcome(posts, "task", "", "accepted", 1)
        fate = ("unknown", "unsure") if told == LOST else ("no", "refused")
        return Outcome(posts, told, *fate, accepted=int(self.accepts))


def _of(cell: str, colour: str) -> str:
    return cell.split("/")[COLOURS.index(colour)] if "/" in cell else cell


def cases(row: Row, situation: str, colour: str, dialect: str = FORMAT) -> list[Case]:
    """The two gateways of a fate that the answer leaves open; a gateway that refuses has accepted nothing."""
    worlds = (False, True) if row.told == LOST else (False,)
    return [Case(row, situation, colour, accepts, dialect) for accepts in worlds]
