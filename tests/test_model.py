"""Random histories of many callers, two processes and one gateway, and what must hold in every one of them.

Flows are granted one wish at a time over a real ledger file and the sandbox's world, so that callers meet, networks
fail, processes die and tasks show up late at every point between two wishes. What is promised, and is checked here,
ends where the design says so: a task shows up within the clock skew that reconciling allows for, and a gateway that
answers an accepted create with a web page has a list that shows the task at once.
"""

from __future__ import annotations

import os
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from conftest import Clock
from hypothesis import HealthCheck, Phase
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from simulation import SETTINGS, Actor, HastyLedger, Way, answered, folder

from sora_tools import Price, SoraError, SubmissionUnknownError, VideoLimits, VideoRequest
from sora_tools.dialects import dialect
from sora_tools.events import Submitted
from sora_tools.flow import Do, Finish, Flow, Gateway, Send, create, query, resume
from sora_tools.flow.exchange import persist
from sora_tools.flow.reconcile import noted
from sora_tools.flow.submit import _Attempts
from sora_tools.ledger import Begun, Claim, New, State, Submission, Unsure, digest
from sora_tools.ledger.sqlite import MIGRATIONS, SQLiteLedger
from sora_tools.sandbox.faults import ENDINGS, FAULTS
from sora_tools.sandbox.messages import Answer
from sora_tools.sandbox.world import World
from sora_tools.wire import Call

REQUESTS = (
    VideoRequest(prompt="a fly man", width=64, height=36, n_frames=3),
    VideoRequest(prompt="a fly man", width=36, height=64, n_frames=3),
    VideoRequest(
        operation="storyboard",
        width=64,
        height=36,
        n_frames=60,
        actions=[{"time": 0.5, "description": "a door opens"}, {"time": 1, "description": "a cat comes in"}],
    ),
)
ORDERS = (
    *(("a", 0), ("b", 0), ("c", 0), ("d", 1), ("e", 2), ("f", 2)),
    *((None, 0), (None, 2)),
    ("a", 1),  # a key that belongs to another request
)

REFUSALS = frozenset(
    {
        *("rate_limit", "concurrency", "empty_429", "rate_limit_exhausted", "busy", "heavy_load", "overloaded"),
        *("queue_full", "too_early", "not_found", "method_not_allowed", "not_implemented", "redirect", "redirect_307"),
        *("redirect_308", "redirect_other_origin", "no_channel", "paused", "bad_request", "unauthorized"),
        *("payment_required", "forbidden", "quota", "quota_429", "conflict", "too_large", "unsupported_media_type"),
        *("unprocessable", "teapot", "moderation"),
    }
)
"""What says that nothing was done."""

OPEN = frozenset(
    {
        *("hang", "reset", "close", "garbage", "cut_reply", "empty_200", "empty_object", "cut_json", "no_id"),
        *("error_200", "error_500", "bad_gateway", "unavailable", "gateway_timeout", "request_timeout"),
        *("cloudflare_5xx", "cloudflare_challenge", "unknown_envelope", "status"),
    }
)
"""What leaves open whether something was done."""

ANSWERS = frozenset({"slow", "text_plain"})
"""What is an answer after all."""

UNSERVED = frozenset(
    {"not_found", "method_not_allowed", "not_implemented", "redirect", "redirect_other_origin", "html_200"}
)
OPTIONS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "slow": st.sampled_from([{"seconds": 1.0}, {"seconds": 30.0}]),
    "rate_limit": st.sampled_from([{}, {"retry_after": 1}, {"retry_after": 30}, {"retry_after": 300}]),
    "busy": st.sampled_from([{}, {"retry_after": 0}, {"retry_after": 30}]),
}
LATENESS = 60.0
"""Seconds a request may be on its way after its caller has given up, and a task may be invisible after that."""

MOST_ACTORS = 6
SEED = os.environ.get("SORA_MODEL_SEED")
"""Set to anything, other histories are played each time."""

LONGEST = 3000.0
"""Seconds of one history: later than an hour a task is nobody's any more."""


@st.composite
def troubles(draw: st.DrawFn) -> tuple[str, str, dict[str, Any]]:
    """A script for the world: (route, fault, options)."""
    route = draw(st.sampled_from(["create", "create", "list", "task", "look"]))
    if route == "create":
        kind = draw(st.sampled_from([OPEN, {"html_200"}, REFUSALS, ANSWERS]))
        fault = draw(st.sampled_from(sorted(kind)))
        accept = {"accept": draw(st.booleans())} if kind is OPEN or fault == "html_200" else {}
        return route, fault, {**draw(OPTIONS.get(fault, st.just({}))), **accept}
    if route == "task":
        ending = draw(st.sampled_from(["invisible", *ENDINGS]))
        late = {"seconds": draw(st.sampled_from([3.0, 12.0, LATENESS]))}
        return route, ending, late if ending == "invisible" else {}
    fault = draw(st.sampled_from(sorted(name for name, fault in FAULTS.items() if route in fault.routes)))
    return route, fault, draw(OPTIONS.get(fault, st.just({})))


@dataclass(frozen=True)
class Charge:
    """A create that the world accepted."""

    key: str
    digest: str
    caller: int
    left: int
    task_id: str


@dataclass(frozen=True)
class Denial:
    """An error that told a caller that nothing was accepted, and when that caller last asked the ledger."""

    key: str
    digest: str | None
    caller: int
    asked: int
    error: SoraError

    def is_false(self, charge: Charge) -> bool:
        same = self.key == charge.key and self.digest in (None, charge.digest)
        return same and (charge.caller == self.caller or charge.left < self.asked)


@dataclass(frozen=True)
class Letter:
    """A create whose caller has given up, and which is still on its way to the world."""

    actor: Actor
    call: Call[Any]
    left: int
    at: float


class Process:
    """What one program has of its own: a ledger on the shared file, and a gateway's cool-downs and clock."""

    def __init__(self, path: str, clock: Clock, *, honoured: bool, terms: Mapping[str, Any]) -> None:
        self.ledger = HastyLedger(path, clock=clock)
        self.gateway = Gateway(
            SETTINGS,
            dialect("backend"),
            self.ledger,
            clock=clock,
            now=clock,
            jitter=lambda: 0.5,
            honoured=honoured,
            **terms,
        )


class Callers(RuleBasedStateMachine):
    """Callers in two processes, and what the world charged them."""

    played: ClassVar[Counter[str]] = Counter()
    honoured: ClassVar[bool] = False
    terms: ClassVar[Mapping[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.folder = folder()
        self.path = f"{self.folder.name}/ledger.sqlite"
        self.clock = Clock()
        self.start = self.clock.seconds
        self.processes = [self._process() for _ in range(2)]
        self.actors: list[Actor] = []
        self.letters: list[Letter] = []
        self.charges: list[Charge] = []
        self.denials: list[Denial] = []
        self.got: dict[str, str] = {}
        self.intended: dict[str, int] = {}
        self.claims: dict[str, weakref.ref[Claim]] = {}
        self.displaced: dict[str, int] = {}
        self.tick = self.callers = 0
        self.way: Way = "whole"

    def _process(self) -> Process:
        return Process(self.path, self.clock, honoured=self.honoured, terms=self.terms)

    @initialize(
        skew=st.sampled_from([0.0, 90.0, -90.0]),
        by_id=st.booleans(),
        list_key=st.sampled_from(["task_responses", "data"]),
        shape=st.sampled_from(["map", "list"]),
        pages_lie=st.booleans(),
    )
    def open(self, *, skew: float, by_id: bool, list_key: Any, shape: Any, pages_lie: bool) -> None:
        self.pages_lie = pages_lie
        self.world = World(
            clock=lambda: self.clock.seconds + skew,
            by_id=by_id,
            list_key=list_key,
            actions_shape=shape,
            idempotent=self.honoured,
        )

    # ------------------------------------------------------------ what may happen

    @precondition(lambda self: len(self.actors) < MOST_ACTORS)
    @rule(
        order=st.sampled_from(ORDERS),
        thread=st.sampled_from([None, "chat", "chat", "talk"]),
        repeat=st.sampled_from(["reuse", "reuse", "new"]),
        process=st.integers(0, 1),
        further=st.integers(0, 5),
    )
    def start_a_create(
        self, order: tuple[str | None, int], thread: str | None, repeat: Any, process: int, further: int
    ) -> None:
        key, number = order
        request = REQUESTS[number]
        flow = create(self.processes[process].gateway, request, key, thread=thread, repeat=repeat)
        facts = {"key": key, "digest": digest(request.body()), "thread": thread, "repeat": repeat}
        self._begin(flow, process, facts, further)

    @precondition(lambda self: len(self.actors) < MOST_ACTORS and self.intended)
    @rule(
        number=st.integers(0, 7),
        how=st.sampled_from(["query", "resume"]),
        process=st.integers(0, 1),
        further=st.integers(0, 5),
    )
    def ask_by_key(self, number: int, how: str, process: int, further: int) -> None:
        key = list(self.intended)[number % len(self.intended)]
        gateway = self.processes[process].gateway
        flow = query(gateway, key) if how == "query" else resume(gateway, key, 30.0, None)
        self._begin(flow, process, {"key": key, "digest": None, "thread": None, "repeat": None}, further)

    @precondition(lambda self: len(self.world.pending) < 4)
    @rule(trouble=troubles(), times=st.sampled_from([1, 1, 2, 5]))
    def go_wrong(self, trouble: tuple[str, str, dict[str, Any]], times: int) -> None:
        self._step()
        route, fault, options = trouble
        if self.pages_lie and ((route == "list" and fault in UNSERVED | {"no_id"}) or fault == "invisible"):
            return
        if not self.pages_lie and fault == "html_200":
            options = {**options, "accept": False} if route == "create" else {}
        self.world.script(route, fault, times, **options)

    @precondition(lambda self: self.actors)
    @rule(
        which=st.integers(0, MOST_ACTORS - 1),
        wishes=st.integers(1, 6),
        way=st.sampled_from(["whole", "whole", "whole", "unreachable", "untrusted", "swallowed", "lost", "late"]),
    )
    def go_on(self, which: int, wishes: int, way: Way) -> None:
        self._step()
        self._grant(self._actor(which), wishes, way)

    @precondition(lambda self: self.actors)
    @rule(which=st.integers(0, MOST_ACTORS - 1))
    def go_on_to_the_end(self, which: int) -> None:
        self._step()
        self._grant(self._actor(which), 300)

    @precondition(lambda self: self.actors)
    @rule(
        which=st.integers(0, MOST_ACTORS - 1),
        way=st.sampled_from(["whole", "whole", "whole", "swallowed", "lost", "late"]),
    )
    def go_on_until_it_has_left(self, which: int, way: Way) -> None:
        """The answer, if any, is still to be read."""
        self._step()
        actor = self._actor(which)
        for _ in range(50):
            is_create = isinstance(actor.wish, Send) and actor.wish.call.paid
            self._grant(actor, 1, way if is_create else "whole")
            if actor.ended or (is_create and actor.flight is not None):
                break

    @precondition(lambda self: self.actors)
    @rule(
        which=st.integers(0, MOST_ACTORS - 1),
        how=st.sampled_from(["finds no place", "is cancelled", "dies with its process", "dies sending"]),
    )
    def break_off(self, which: int, how: str) -> None:
        self._step()
        actor = self._actor(which)
        match how:
            case "finds no place" if isinstance(actor.wish, Finish):
                actor.turn_away()
                self._settle(actor)
            case "is cancelled":
                self.played["cancelled"] += 1
                self.actors.remove(actor)
                orphan = actor.cancel()
                if orphan is not None:
                    self.actors.append(orphan)
            case "dies with its process" | "dies sending":
                self._crash(actor.facts["process"], leaving=how == "dies sending")

    def _crash(self, process: int, *, leaving: bool) -> None:
        for actor in [actor for actor in self.actors if actor.facts["process"] == process]:
            if leaving and isinstance(actor.wish, Send) and actor.flight is None and not actor.unwanted:
                self._post(actor, actor.wish.call)
            self.played["crashed"] += 1
            actor.die()
            self.actors.remove(actor)
        self.processes[process].ledger.close()
        self.processes[process] = self._process()

    @precondition(lambda self: self.clock.seconds < self.start + LONGEST)
    @rule(seconds=st.sampled_from([0.2, 1.0, 5.0, 20.0, 70.0, 130.0]))
    def pass_time(self, seconds: float) -> None:
        self._step()
        self.clock.seconds += seconds

    @precondition(lambda self: self.letters)
    @rule(which=st.integers(0, 3))
    def arrive_late(self, which: int) -> None:
        self._step()
        letter = self.letters.pop(which % len(self.letters))
        if self.clock.seconds <= letter.at + LATENESS:
            self._receive(letter.actor, letter.call, letter.left)

    # ------------------------------------------------------------ how it ends

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.wind_up()
        finally:
            self.close()

    def close(self) -> None:
        for process in self.processes:
            process.ledger.close()
        self.folder.cleanup()

    def wind_up(self) -> None:
        """All goes well from now on: nobody waits for ever, and every accepted create turns up."""
        self.world.clear()
        while self.letters:
            self.arrive_late(0)
        self._drain()
        self.clock.seconds += 2 * LATENESS
        for submission in self._submissions():
            self._begin(
                query(self.processes[0].gateway, submission.key),
                0,
                {"key": submission.key, "digest": None, "thread": None, "repeat": None},
            )
            self._drain()
        for charge in self.charges:
            row = self.processes[1].ledger.of_task(SETTINGS.origin, charge.task_id)
            assert row is not None, f"{charge} is forgotten; the ledger has {self._submissions()}"
        for submission in self._submissions():
            request = next(request for request in REQUESTS if digest(request.body()) == submission.digest)
            self._begin(
                create(self.processes[1].gateway, request, submission.key),
                1,
                {"key": submission.key, "digest": submission.digest, "thread": None, "repeat": "reuse"},
            )
            self._drain()

    def _drain(self) -> None:
        until = self.clock.seconds + 200.0
        for _ in range(5000):
            if not self.actors:
                return
            actor = min(self.actors, key=lambda actor: actor.due)
            assert max(actor.due, self.clock.seconds) < until, f"{actor.facts} waits for ever, for {actor.wish}"
            self._grant(actor, 1)
        raise AssertionError(f"{[actor.facts for actor in self.actors]} come to no end")

    # ------------------------------------------------------------ playing

    def _step(self) -> None:
        self.played["steps"] += 1

    def _begin(self, flow: Any, process: int, facts: dict[str, Any], further: int = 0) -> None:
        self.callers += 1
        actor = Actor(
            flow,
            self.clock,
            self.world,
            sends=self._sends,
            receives=self._receives,
            does=self._does,
            facts={
                **facts,
                "process": process,
                "caller": self.callers,
                "asked": self.tick,
                "told": self.tick,
                "new": None,
            },
        )
        self.actors.append(actor)
        self._grant(actor, further)

    def _actor(self, which: int) -> Actor:
        return self.actors[which % len(self.actors)]

    def _grant(self, actor: Actor, wishes: int, way: Way = "whole") -> None:
        for _ in range(wishes):
            if actor.ended:
                break
            self.tick += 1
            self.played["wishes"] += 1
            self.way = way
            actor.grant()
        self._settle(actor)

    def _sends(self, actor: Actor, call: Call[Any]) -> Way:
        if call.paid and self.way not in ("unreachable", "untrusted"):
            self._check_repeat(actor)
        return self.way

    def _receives(self, actor: Actor, call: Call[Any], way: Way) -> Answer | None:
        if way == "late" and call.paid:
            self._post(actor, call)
        if way in ("late", "swallowed"):
            return None
        return self._receive(actor, call, self.tick)

    def _post(self, actor: Actor, call: Call[Any]) -> None:
        if call.paid:
            self.letters.append(Letter(actor, call, self.tick, self.clock.seconds))

    def _receive(self, actor: Actor, call: Call[Any], left: int) -> Answer:
        before = self.world.creates
        answer = answered(self.world, call)
        if self.world.creates > before:
            charge = Charge(
                call.headers["Idempotency-Key"],
                digest(call.body or {}),
                actor.facts["caller"],
                left,
                self.world.tasks[-1].task_id,
            )
            self.charges.append(charge)
            self.played["accepted"] += 1
            self._check_charges(charge)
        return answer

    def _does(self, actor: Actor, do: Do) -> Any:
        name = getattr(do.work, "__name__", "")
        if name == "settle":
            self._note_displacement(*do.arguments)
        done = do.work(*do.arguments)
        if name == "adopt" and done is not None:
            self.played["adopted"] += 1
        if name in ("begin", "resume", "named", "adopt", "reuse", "settle"):
            actor.facts["told"] = self.tick
        if name in ("begin", "resume", "named"):
            actor.facts["asked"] = self.tick
        if isinstance(done, New | Unsure):
            self._check_claim(done.claim)
        if name == "begin" and isinstance(done, New):
            self.intended[done.submission.key] = actor.facts["new"] = self.tick
        self._check_tasks()
        return done

    def _settle(self, actor: Actor) -> None:
        """What a caller was told."""
        if not actor.ended:
            return
        self.actors.remove(actor)
        if actor.unwanted:
            return
        self.played["reused"] += any(isinstance(event, Submitted) and event.reused for event in actor.events)
        key = next((event.key for event in actor.events if isinstance(event, Submitted)), actor.facts["key"])
        if actor.error is None:
            self.played["tasks"] += 1
            self._check_task(key, actor.facts, actor.result.task_id)
            return
        if not isinstance(actor.error, SoraError):
            raise actor.error
        self.played[actor.error.code] += 1
        for named in {key, actor.error.key} - {None}:
            if actor.error.charged == "no":
                self._check_denial(
                    Denial(named, actor.facts["digest"], actor.facts["caller"], actor.facts["asked"], actor.error)
                )

    def _submissions(self) -> list[Submission]:
        return self.processes[0].ledger.submissions()

    # ------------------------------------------------------------ what must hold

    def _check_charges(self, charge: Charge) -> None:
        keys = Counter(each.key for each in self.charges)
        assert keys[charge.key] == 1, f"{charge.key} was paid {keys[charge.key]} times: {self.charges}"
        for denial in self.denials:
            assert not denial.is_false(charge), f"{denial} was false: {charge}"

    def _check_claim(self, claim: Claim) -> None:
        """Nobody else is about to send or to look for this one: who comes meanwhile waits for what they find."""
        other = self.claims.get(claim.key, lambda: None)()
        assert other is None or not other.held, f"{claim.key} is claimed twice"
        self.claims[claim.key] = weakref.ref(claim)

    def _check_denial(self, denial: Denial) -> None:
        self.denials.append(denial)
        for charge in self.charges:
            assert not denial.is_false(charge), f"{denial} was false: {charge}"

    def _check_task(self, key: str, facts: dict[str, Any], task_id: str) -> None:
        """The task that a caller got is there, is what was asked for, and is the one that others got for this key.

        Unless a direct answer beat an adoption: who was told of the adopted task before that may still name it.
        """
        orders = {charge.task_id: charge.digest for charge in self.charges}
        row = self.processes[0].ledger.find(key)
        assert row is not None
        assert orders[task_id] == (facts["digest"] or row.digest), f"{key} was given another request's task"
        if facts["told"] > self.displaced.get(key, -1):
            assert self.got.setdefault(key, task_id) == task_id, f"{key} has two tasks"

    def _check_tasks(self) -> None:
        known = Counter(row.task_id for row in self._submissions() if row.task_id and row.reuses is None)
        assert not known or max(known.values()) == 1, f"one task for two submissions: {known}"

    def _note_displacement(self, claim: Claim, _state: str, task_id: str | None = None, *_: Any) -> None:
        """A direct answer beats an adoption: the key that had adopted the task may get another one from now on."""
        holder = task_id and self.processes[0].ledger.of_task(SETTINGS.origin, task_id)
        if holder and holder.key != claim.key:
            for row in self._submissions():
                if holder.key in (row.key, row.reuses):
                    self.played["displaced"] += 1
                    self.displaced[row.key] = self.tick
                    self.got.pop(row.key, None)

    def _check_repeat(self, actor: Actor) -> None:
        """A conversation that did not ask for another one has no like submission that was open when this one began."""
        thread, new = actor.facts["thread"], actor.facts["new"]
        if thread is None or actor.facts["repeat"] != "reuse" or new is None:
            return
        state = {task.task_id: self.world.task(task.task_id)["status"] for task in self.world.tasks}
        for row in self._submissions():
            like = (row.thread, row.digest) == (thread, actor.facts["digest"]) and row.key not in self.displaced
            if like and row.reuses is None and self.intended[row.key] < new:
                is_open = row.unresolved or state.get(row.task_id or "") in ("queued", "preprocessing", "running")
                assert not is_open, f"{actor.facts} is sent beside {row}"


class ThriftyCallers(Callers):
    """The same under a budget: for three creates a conversation, and for five in all."""

    terms: ClassVar[Mapping[str, Any]] = {
        "price": lambda _: Price(Decimal("0.10"), "USD"),
        "limits": VideoLimits(max_spend_per_thread="0.30", max_spend_per_day="0.50"),
    }

    def _check_charges(self, charge: Charge) -> None:
        super()._check_charges(charge)
        rows = [self.processes[0].ledger.find(paid.key) for paid in self.charges]
        threads = Counter(row.thread for row in rows if row is not None)
        assert max(threads.values()) <= 3, f"a conversation has overspent: {threads}"
        assert len(self.charges) <= 5, "the day has overspent"

    def _settle(self, actor: Actor) -> None:
        super()._settle(actor)
        self.played["over budget"] += actor.ended and "more than is left" in str(actor.error)


class HonouredCallers(Callers):
    """The same where the gateway honours keys, and is known to: then what is lost is sent again."""

    honoured = True


def play(machine: type[Callers], examples: int, steps: int, *, shrinks: bool = True) -> Counter[str]:
    """Play that many histories of that many steps, the same ones each time."""
    played = Counter[str]()
    kind = type(machine.__name__, (machine,), {"played": played})
    try:
        run_state_machine_as_test(
            kind,
            settings=profile(
                max_examples=examples,
                stateful_step_count=steps,
                derandomize=SEED is None,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate, Phase.shrink] if shrinks else [Phase.generate],
                report_multiple_bugs=False,
            ),
        )
    except BaseException as error:
        error.add_note(f"played: {dict(played)}")
        raise
    return played


@pytest.fixture(autouse=True)
def unhurried(hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks pause as long as they really do: here that costs nothing."""
    monkeypatch.setattr("sora_tools.flow.reconcile.PAUSES", (1.0, 2.0, 5.0))


def test_every_fault_of_a_create_is_known_here() -> None:
    known = REFUSALS | OPEN | ANSWERS | {"html_200"}
    assert known == {name for name, fault in FAULTS.items() if "create" in fault.routes}
    assert not any(FAULTS[name].accepts for name in REFUSALS)


def test_no_history_pays_twice_or_forgets() -> None:
    played = play(Callers, 200, 50)
    assert played["steps"] >= 2000, played
    for what in ("accepted", "adopted", "reused", "crashed", "cancelled", "submission_unknown", "not_sent", "busy"):
        assert played[what] > 0, played


def test_no_history_pays_twice_where_keys_are_honoured() -> None:
    played = play(HonouredCallers, 20, 50)
    assert played["accepted"] > 0, played


def test_no_history_spends_more_than_its_budget() -> None:
    played = play(ThriftyCallers, 40, 50)
    for what in ("accepted", "adopted", "reused", "crashed", "submission_unknown", "over budget"):
        assert played[what] > 0, played


@pytest.mark.long
@pytest.mark.timeout(600)
def test_no_long_history_pays_twice_or_forgets() -> None:
    assert play(Callers, 1500, 60)["steps"] >= 40_000
    assert play(HonouredCallers, 150, 60)["steps"] >= 2000
    assert play(ThriftyCallers, 300, 60)["over budget"] > 100


# ---------------------------------------------------------------- histories that once were false


@contextmanager
def opened(*, pages_lie: bool = False) -> Iterator[Callers]:
    history = Callers()
    try:
        history.open(skew=0.0, by_id=False, list_key="task_responses", shape="map", pages_lie=pages_lie)
        yield history
        history.wind_up()
    finally:
        history.close()


def a_caller_finds_no_place_and_another_one_paid_for_its_key() -> None:
    with opened() as history:
        history.start_a_create(order=("a", 0), process=0, repeat="reuse", thread=None, further=5)
        history.start_a_create(order=("a", 0), process=0, repeat="reuse", thread=None, further=0)
        history.pass_time(seconds=70.0)
        history.break_off(which=1, how="finds no place")


def two_have_one_key_and_one_of_them_may_reuse_another_task() -> None:
    with opened() as history:
        history.start_a_create(order=("c", 0), process=0, repeat="reuse", thread="chat", further=0)
        history.start_a_create(order=("c", 0), process=0, repeat="reuse", thread=None, further=0)
        history.start_a_create(order=("a", 0), process=0, repeat="reuse", thread="chat", further=2)


def a_page_hides_a_task_that_a_twin_adopts() -> None:
    with opened(pages_lie=True) as history:
        history.go_wrong(trouble=("create", "html_200", {"accept": True}), times=1)
        history.start_a_create(order=("a", 0), process=0, repeat="new", thread=None, further=6)
        history.start_a_create(order=("b", 0), process=1, repeat="new", thread=None, further=2)
        history.go_on(which=1, wishes=1, way="swallowed")
        history.go_on_to_the_end(which=1)
        assert {row.key: row.adopted for row in history._submissions()} == {"a": False, "b": True}
        history.go_on_to_the_end(which=0)


def test_a_direct_answer_beats_an_adoption_and_both_turn_up() -> None:
    with opened() as history:
        history.start_a_create(order=("a", 0), process=0, repeat="new", thread=None, further=2)
        history.go_on(which=0, wishes=1, way="late")
        history.go_on_to_the_end(which=0)
        history.start_a_create(order=("b", 0), process=1, repeat="new", thread=None, further=3)
        history.ask_by_key(number=0, how="query", process=0, further=0)
        history.go_on_to_the_end(which=1)
        assert {row.key: row.adopted for row in history._submissions()} == {"a": True, "b": False}
        history.go_on_to_the_end(which=0)
        assert list(history.displaced) == ["a"]
        history.arrive_late(which=0)
    assert history.got.keys() == {"a", "b"}


def the_turned_away_are_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Attempts, "clear", property(lambda _self: True, lambda _self, _value: None))


def a_reuse_is_taken_for_written(monkeypatch: pytest.MonkeyPatch) -> None:
    reuse = SQLiteLedger.reuse
    monkeypatch.setattr(SQLiteLedger, "reuse", lambda *given: reuse(*given) or True)


def an_adoption_is_taken_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def sure(*given: Any) -> Submission | None:
        row = of_task(*given)
        return row and replace(row, adopted=False)

    of_task = SQLiteLedger.of_task
    monkeypatch.setattr(SQLiteLedger, "of_task", sure)


@pytest.mark.parametrize(
    ("history", "mutant"),
    [
        (a_caller_finds_no_place_and_another_one_paid_for_its_key, the_turned_away_are_told_nothing),
        (two_have_one_key_and_one_of_them_may_reuse_another_task, a_reuse_is_taken_for_written),
        (a_page_hides_a_task_that_a_twin_adopts, an_adoption_is_taken_for_an_answer),
    ],
    ids=lambda given: given.__name__,
)
def test_a_history_that_chance_finds_rarely(history: Any, mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    history()
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        history()


# ---------------------------------------------------------------- whether all this can fail


def lost_creates_are_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def note_failure(self: _Attempts, claim: Claim, error: SoraError, _before: Any) -> Flow[None]:
        yield from noted(self.gateway, claim, "refused")

    def patient(gateway: Any, attempt: Any, deadline: float, **_: Any) -> Flow[Any]:
        return persist(gateway, attempt, deadline)

    monkeypatch.setattr(_Attempts, "_note_failure", note_failure)
    monkeypatch.setattr("sora_tools.flow.submit.persist", patient)


def nobody_holds_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SQLiteLedger, "_claim", lambda _self, key: Claim(key, lambda: None))


def adoption_minds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def adopt(self: SQLiteLedger, claim: Claim, task_ids: Sequence[str]) -> str | None:
        with self._turn() as db:
            for task_id in task_ids:
                ours = "update submission set state = 'accepted', task_id = ?, adopted = 1 where key = ?"
                db.execute(ours, (task_id, claim.key))
                self._discard(claim)
                return task_id
        return None

    monkeypatch.setattr(SQLiteLedger, "adopt", adopt)
    lax = tuple(step.replace("create unique index", "create index") for step in MIGRATIONS)
    monkeypatch.setattr("sora_tools.ledger.sqlite.MIGRATIONS", lax)


def rows_are_written_when_the_answer_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, settle = SQLiteLedger.begin, SQLiteLedger.settle
    kept: dict[tuple[int, str], Submission] = {}

    def begin_unwritten(self: SQLiteLedger, submission: Submission, *how: Any) -> Begun:
        begun = begin(self, submission, *how)
        if isinstance(begun, New):
            kept[id(self), submission.key] = submission
            with self._turn() as db:
                db.execute("delete from submission where key = ?", (submission.key,))
        return begun

    def settle_and_write(self: SQLiteLedger, claim: Claim, state: State, *what: Any) -> None:
        submission = kept.pop((id(self), claim.key), None)
        if submission is not None:
            with self._turn() as db:
                self._intend(db, submission)
        settle(self, claim, state, *what)

    monkeypatch.setattr(SQLiteLedger, "begin", begin_unwritten)
    monkeypatch.setattr(SQLiteLedger, "settle", settle_and_write)


def what_is_unsure_counts_as_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = SQLiteLedger.settle

    def settle_lightly(self: SQLiteLedger, claim: Claim, state: State, *what: Any) -> None:
        settle(self, claim, "refused" if state == "unsure" else state, *what)

    monkeypatch.setattr(SQLiteLedger, "settle", settle_lightly)


def what_a_crash_left_may_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = SQLiteLedger.begin

    def begin_afresh(self: SQLiteLedger, submission: Submission, *how: Any) -> Begun:
        begun = begin(self, submission, *how)
        return New(*begun) if isinstance(begun, Unsure) and begun.submission.state == "intended" else begun

    monkeypatch.setattr(SQLiteLedger, "begin", begin_afresh)


def pages_are_not_looked_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Attempts, "_search_and_send", lambda self, claim, _submission: self._send(claim))


def the_unknown_is_called_uncharged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SubmissionUnknownError, "charged", "no")


def repeats_are_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SQLiteLedger, "_repeated", lambda *_: None)


MUTANTS = (
    lost_creates_are_sent_again,
    nobody_holds_a_claim,
    adoption_minds_nobody,
    rows_are_written_when_the_answer_is_there,
    what_is_unsure_counts_as_refused,
    what_a_crash_left_may_be_sent,
    pages_are_not_looked_behind,
    the_unknown_is_called_uncharged,
    repeats_are_not_noticed,
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_promise_is_noticed(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        play(Callers, 400, 50, shrinks=False)
