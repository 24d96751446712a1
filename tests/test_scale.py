"""Thousands of creates of which one request in ten goes wrong: nothing is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Clock
from simulation import SETTINGS, Actor, HastyLedger, folder

from sora_tools import AsyncSora, MemoryLedger, Retry, Sora, SoraError, VideoRequest
from sora_tools.dialects import dialect
from sora_tools.flow import Flow, Gateway, create, query
from sora_tools.ledger import Ledger
from sora_tools.sandbox import Sandbox, World
from sora_tools.sandbox.faults import FAULTS

OPEN = [name for name, fault in FAULTS.items() if "create" in fault.routes and fault.accepts and name != "slow"]
"""Faults whose answer is lost or says nothing of a create that was accepted all the same."""

UNCLEAR = ["error_500", "bad_gateway", "unavailable", "gateway_timeout", "request_timeout", "unknown_envelope"]
CLEAR = ["rate_limit", "heavy_load", "too_early", "not_implemented", "bad_request", "quota", "html_200"]


class MoodyWorld(World):
    """A gateway at which one request in ten goes wrong, by chance, of which a seed makes sure."""

    def __init__(self, seed: int, **settings: Any) -> None:
        super().__init__(seed=seed, **settings)
        self.chance = random.Random(seed)
        self.calm = False

    def receive(self, method: str, path: str, **given: Any) -> Any:
        if not self.calm and self.chance.random() < 0.1:
            self._go_wrong("create" if method == "POST" else "list")
        return super().receive(method, path, **given)

    def _go_wrong(self, route: str) -> None:
        if route == "list":
            self.script(route, self.chance.choice(["error_500", "rate_limit", "reset", "empty_200"]))
        elif (kind := self.chance.choice("oouc")) == "o":
            self.script(route, self.chance.choice(OPEN), headers={})
        elif kind == "u":
            self.script(route, self.chance.choice(UNCLEAR), accept=self.chance.random() < 0.5)
        else:
            self.script(route, self.chance.choice(CLEAR))


def find_lost(world: MoodyWorld, ledger: Ledger, keys: Iterable[str], find: Callable[[str], Any]) -> None:
    """Query the keys whose fate is unknown, while nothing goes wrong."""
    world.calm = True
    world.clear()
    for key in keys:
        row = ledger.find(key)
        if row is not None and row.unresolved:
            find(key)
    world.calm = False


def check(world: World, ledger: Ledger, origin: str, told: dict[str, Any]) -> Counter[str]:
    """Hold what callers were told, and what was found since, against what the gateway accepted.

    Args:
        world: The gateway.
        ledger: The ledger of all callers.
        origin: The gateway's.
        told: By key, the task id or the error that its caller was given.
    """
    accepted = {row.task_id: row.headers["idempotency-key"] for row in world.requests if row.task_id}
    assert len(set(accepted.values())) == len(accepted) == world.creates, "one create for a key at most"
    by_key = {key: task_id for task_id, key in accepted.items()}
    outcomes = Counter[str]()
    for key, what in told.items():
        if isinstance(what, str):
            assert by_key.get(key) == what, "everybody was given a task of their own"
            outcomes["task"] += 1
        else:
            assert isinstance(what, SoraError), what
            assert what.charged in ("unknown", "unknown" if key in by_key else "no")
            outcomes[what.code] += 1
    lost = [task_id for task_id in by_key.values() if ledger.of_task(origin, task_id) is None]
    assert not lost, f"{len(lost)} of {len(by_key)} accepted creates are in no ledger"
    owners = Counter(row.task_id for row in ledger.submissions() if row.task_id and not row.reuses)
    assert not owners or max(owners.values()) == 1
    return outcomes


# --- in one process, against the gateway without a socket --------------------------------------------------------


def crowd(flows: Iterable[tuple[str, Flow[Any]]], clock: Clock, world: World, chance: random.Random) -> dict[str, Any]:
    """Carry many conversations out at once, a step of one of them at a time; one begins every second."""
    told: dict[str, Any] = {}
    under_way: list[tuple[str, Actor]] = []
    coming = iter(flows)
    more = True
    while more or under_way:
        if more and len(under_way) < 30:
            begun = next(coming, None)
            more = begun is not None
            if begun is not None:
                clock.seconds += 1.0
                under_way.append((begun[0], Actor(begun[1], clock, world)))
            continue
        ready = [index for index, (_, actor) in enumerate(under_way) if actor.due <= clock.seconds]
        if not ready:  # everybody sleeps or waits: the first who is due makes the time pass
            ready = [min(range(len(under_way)), key=lambda index: under_way[index][1].due)]
        index = chance.choice(ready)
        key, actor = under_way[index]
        actor.grant()
        if actor.ended:
            under_way.pop(index)
            told[key] = actor.error or actor.result.task_id
    return told


def thousands(count: int, ledger: Ledger, clock: Clock) -> Counter[str]:
    world = MoodyWorld(count, clock=clock, duration=1e9)
    gateway = Gateway(SETTINGS, dialect("backend"), ledger, Retry(), clock, clock, jitter=lambda: 0.5)
    gateway.cool_down.check = lambda route: None  # type: ignore[method-assign]  # one in ten is no outage
    chance = random.Random(count)
    told: dict[str, Any] = {}

    def find(key: str) -> None:
        crowd([(key, query(gateway, key))], clock, world, chance)

    for start in range(0, count, 500):  # what is looked for hours later lies behind a hundred pages of newer tasks
        keys = [f"k{number}" for number in range(start, start + 500)]
        flows = ((key, create(gateway, VideoRequest(prompt=f"fly {key}", n_frames=3), key)) for key in keys)
        told |= crowd(flows, clock, world, chance)
        find_lost(world, ledger, keys, find)
    assert len(told) == count
    faults = sum(request.fault is not None for request in world.requests)
    assert faults > count / 20
    return check(world, ledger, SETTINGS.origin, told)


@pytest.mark.timeout(300)
def test_a_thousand_creates_with_a_file_lose_and_double_nothing(clock: Clock) -> None:
    with folder() as place:
        outcomes = thousands(1_000, HastyLedger(Path(place) / "ledger.sqlite", clock=clock), clock)
    assert outcomes["task"] > 900, outcomes


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_thousand_creates_lose_and_double_nothing(clock: Clock) -> None:
    outcomes = thousands(10_000, MemoryLedger(clock), clock)
    assert outcomes["task"] > 9_000, outcomes


# --- over sockets ------------------------------------------------------------------------------------------------

QUICK = Retry(first=0.0, longest=0.01)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_thousand_creates_over_sockets_lose_and_double_nothing(tmp_path: Path) -> None:
    """Eight hundred on one loop, two hundred from threads, one ledger in a file."""
    told: dict[str, Any] = {}
    world = MoodyWorld(1, duration=1e9)
    with Sandbox(world=world, render=False) as box:
        given = {"base_url": box.base_url, "api_key": "sk-test-0123456789", "timeout": 3.0, "retry": QUICK}
        given["ledger"] = tmp_path / "ledger.sqlite"

        def video(number: int) -> dict[str, Any]:
            return {"prompt": f"fly {number}", "width": 64, "height": 36, "n_frames": 3}

        with Sora(**given) as sora, ThreadPoolExecutor(20) as pool:
            sora.gateway.cool_down.check = lambda route: None

            def one(number: int) -> None:
                try:
                    told[f"k{number}"] = sora.create(video(number), key=f"k{number}").task_id
                except SoraError as error:
                    told[f"k{number}"] = error

            list(pool.map(one, range(200)))

            async def main() -> None:
                async with AsyncSora.sharing(sora) as later:

                    async def another(number: int) -> None:
                        try:
                            told[f"k{number}"] = (await later.create(video(number), key=f"k{number}")).task_id
                        except SoraError as error:
                            told[f"k{number}"] = error

                    await asyncio.gather(*map(another, range(200, 1000)))

            asyncio.run(main())

            def find(key: str) -> None:
                with suppress(SoraError):  # what is lost after that is found out below
                    sora.query(key)

            assert len(told) == 1000
            find_lost(world, sora.gateway.ledger, told, find)
            outcomes = check(world, sora.gateway.ledger, sora.gateway.settings.origin, told)
    assert outcomes["task"] > 700, outcomes
