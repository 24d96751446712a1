"""What a task is: its id, its price, and how far it has come as a function of its age."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from .orders import FRAMES_PER_SECOND, Order, Source

PRICE_PER_SECOND = Decimal("0.10")
"""What one second of 854x480 costs; a create costs this by seconds, variants and pixels."""
PRICED_PIXELS = 854 * 480
QUEUED, PREPROCESSING = 1 / 6, 1 / 4
"""The parts of a task's time after which it leaves the queue, and after which rendering begins."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """An accepted create; how far it has come is asked of the world.

    `materials` is what its order's sources led to: an image file's bytes, or a generation that had a video by then.
    """

    task_id: str
    generation_ids: tuple[str, ...]
    order: Order
    created_at: float
    seed: int
    charge: Decimal
    ending: str | None
    ending_options: Mapping[str, Any]
    # As text, a remix of remixes would tell of each as often as there are ways back to it.
    materials: Mapping[Source, bytes | Generation] = field(default_factory=dict, repr=False, compare=False)

    @property
    def opening(self) -> bytes | None:
        """The first picture that the create brought."""
        return next((material for material in self.materials.values() if isinstance(material, bytes)), None)


class Generation(NamedTuple):
    """One of the videos of a task, whether it is made yet or not."""

    task: Task
    variant: int

    @property
    def generation_id(self) -> str:
        """Its id."""
        return self.task.generation_ids[self.variant]

    @property
    def sources(self) -> list[Generation]:
        """The generations that it is made of."""
        return [material for material in self.task.materials.values() if isinstance(material, Generation)]

    @property
    def lineage(self) -> list[Generation]:
        """This one and all that it is made of, sources first."""
        found: dict[str, Generation] = {}
        waiting = [self]
        while waiting:  # a loop and not a recursion: there is no end to remixes of remixes
            made = waiting.pop()
            if made.generation_id not in found:
                found[made.generation_id] = made
                waiting += made.sources
        return sorted(found.values(), key=lambda made: made.task.task_id)  # ids grow with time


@dataclass(frozen=True, kw_only=True)
class Video:
    """One finished video, and where it can be had for a while; `size` is its bytes where known."""

    generation_id: str
    url: str
    thumbnail_url: str
    spritesheet_url: str
    seed: int
    size: int | None


@dataclass(frozen=True, kw_only=True)
class View:
    """A task at one moment: what the bodies of every format are written from. Its words are the web backend's.

    Args:
        task: Which one.
        state: The members of a task object that tell how far it is; see `progress`.
        videos: What it made; none before it succeeded.
        seconds: How long it takes from accepted to succeeded.
        now: The moment, Unix time.
    """

    task: Task
    state: Mapping[str, Any]
    videos: Sequence[Video]
    seconds: float
    now: float

    @property
    def task_id(self) -> str:
        """Its id."""
        return self.task.task_id

    @property
    def order(self) -> Order:
        """What was asked for."""
        return self.task.order

    @property
    def status(self) -> str:
        """`queued`, `preprocessing`, `running` or a scripted word for it, `succeeded`, `failed` or `cancelled`."""
        return str(self.state["status"])

    @property
    def ended(self) -> bool:
        """Whether it stays as it is."""
        return self.status in {"succeeded", "failed", "cancelled"}

    @property
    def percent(self) -> int:
        """How far it is, 0 to 100; 100 only once it succeeded."""
        return int(100 * (self.state.get("progress_pct") or 0))

    @property
    def rejected(self) -> bool:
        """Whether moderation kept what it made."""
        return self.status == "succeeded" and self.task.ending == "moderation_output"

    @property
    def failure(self) -> str | None:
        """Why it came to nothing: a failure reason of the backend's, `output_moderation` or `cancelled`."""
        if self.status == "cancelled":
            return "cancelled"
        return "output_moderation" if self.rejected else self.state.get("failure_reason")

    @property
    def ends_at(self) -> float:
        """When it has succeeded, or will have."""
        return self.task.created_at + self.seconds


class TypeIds:
    """TypeIDs: a prefix and a UUIDv7 in base 32, growing with time and within a millisecond (RFC 9562, 6.2)."""

    def __init__(self, clock: Callable[[], float], chance: random.Random) -> None:
        self._clock, self._chance = clock, chance
        self._last = (0, 0)

    def new(self, prefix: str) -> str:
        """The next id, `prefix_` and 26 characters."""
        last_millisecond, last_count = self._last
        millisecond = max(int(self._clock() * 1000), last_millisecond)
        count = last_count + 1 if millisecond == last_millisecond else 0
        if count >> 12:
            millisecond, count = millisecond + 1, 0
        self._last = (millisecond, count)
        number = (millisecond << 80) | (7 << 76) | (count << 64) | (2 << 62) | self._chance.getrandbits(62)
        alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
        return f"{prefix}_" + "".join(alphabet[(number >> shift) & 31] for shift in range(125, -1, -5))


def price(order: Order) -> Decimal:
    """0.10 per second and variant at 854x480, by pixels, to a hundredth of a cent: the page's example costs 0.50."""
    pixel_frames = Decimal(order.n_frames * order.n_variants * order.width * order.height)
    return (PRICE_PER_SECOND * pixel_frames / FRAMES_PER_SECOND / PRICED_PIXELS).quantize(Decimal("0.0001"))


def progress(task: Task, *, age: float, seconds: float, ahead: int, rendering: bool, spoilt: bool) -> dict[str, Any]:
    """The members of a task object that tell how far it is; those left out are as in a task just accepted.

    Args:
        task: Its ending matters.
        age: Seconds since it was accepted.
        seconds: The age at which it succeeds.
        ahead: Tasks in the queue before it.
        rendering: Whether a video is still being made, which holds it at 0.99.
        spoilt: Whether a video could not be made, which fails it.
    """
    part = age / seconds if seconds else 1.0
    if part < QUEUED:
        wait = math.ceil((QUEUED - part) * seconds)
        return {"status": "queued", "progress_pos_in_queue": ahead, "estimated_queue_wait_time": wait}
    if part < PREPROCESSING:
        return {"status": "preprocessing"}
    match task.ending:
        case "moderation_input":
            return {"status": "failed", "failure_reason": task.ending_options["reason"]}
        case "cancelled" if part >= 0.5:
            return {"status": "cancelled"}
        case "stuck":
            part = min(part, 0.5)
    if part < 1 or rendering:
        status = task.ending_options["status"] if task.ending == "unknown_status" else "running"
        return {"status": status, "progress_pct": min((part - PREPROCESSING) / (1 - PREPROCESSING), 0.99)}
    if task.ending == "failed":
        return {"status": "failed", "failure_reason": task.ending_options["reason"]}
    if spoilt:
        return {"status": "failed", "failure_reason": "processing_error"}
    return {"status": "succeeded", "progress_pct": 1.0}


def iso(seconds: float) -> str:
    """UTC with microseconds and a Z, as the backend writes times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
