"""Hundreds of hostile and malformed replies, each to a create, a look and a list: a typed error or a correct task.

Above the wire the replies go to the flows by hand; what only a socket can say goes over one, to both drivers. What is
right to make of each reply stands beside it in ``hostile_replies``. Time is CPU time, and the bounds on it and on
memory are wide: they tell a reply that costs what it weighs from one that makes us pay for it.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest
from by_hand import Play
from by_hand import reply as answer
from conftest import Clock
from hostile_replies import MIB, NOTHING, PAGE, REPLIES, UNKNOWN, WIRED, Hostile, Seen, T, Wired, sized
from raw_gateway import Connection, RawGateway

from sora_tools import AsyncSora, Sora
from sora_tools.errors import SoraError
from sora_tools.flow import Flow, Gateway, create, listed, query
from sora_tools.retry import Retry
from sora_tools.schemas import TaskPage, VideoRequest, VideoTask
from sora_tools.wire import Reply, opened

CODES = {kind.code for kind in SoraError.__subclasses__()}
MOST_SECONDS, SECONDS_PER_MIB = 1.5, 0.4
"""CPU for one conversation: some for it, and some for each MiB of each reply that is read."""

MOST_OF_TEXT, MOST_OF_CONTAINERS = 14, 32
"""Peak of a look, in bodies: one emoji makes a text four times as large, and Python's dict is 24 times its "{}"."""

REQUEST = VideoRequest(prompt="a prompt of nobody else's")
QUICK = Retry(first=0.0, longest=0.0)
ONCE = Retry(attempts=1)
NO_LIST = sized("connection: close", status="HTTP/1.1 404 X", body=b"{}")
UNSERVED = answer(404)
EMPTY = answer(200, {"task_responses": [], "has_more": False})

# --- what holds of every outcome ---------------------------------------------------------------------------------


def outcome(play: Play, flow: Flow[Any], weight: int) -> Any:
    """What a conversation ends in, once it is known to be sound."""
    start = time.process_time()
    try:
        ended = play.run(flow)
    except SoraError as error:
        ended = error
    spent = time.process_time() - start
    sent = max(1, len(play.calls))
    assert spent < MOST_SECONDS + SECONDS_PER_MIB * sent * weight / MIB
    hold(ended)
    return ended


def hold(ended: Any) -> None:
    """A known error that can be shown, or tasks that can be kept and passed on."""
    copied = pickle.loads(pickle.dumps(ended))
    if isinstance(ended, SoraError):
        assert ended.code in CODES
        assert ended.charged in ("no", "unknown", "yes")
        assert 0 < len(str(ended)) < 2000
        assert str(ended).isprintable()
        assert ended.request_id is None or (len(ended.request_id) <= 200 and ended.request_id.isprintable())
        assert ended.task_id is None or len(ended.task_id) <= 512
        assert json.loads(json.dumps(ended.describe(), allow_nan=False)) == ended.describe()
        assert copied.describe() == ended.describe()
        return
    tasks = ended.tasks if isinstance(ended, TaskPage) else [ended]
    for task in tasks[:3]:
        assert isinstance(task, VideoTask)
        assert task.task_id
        assert task.task_id.isprintable()
        plain = task.model_dump(mode="json")
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain
        bare = task.model_copy(update={"raw": {}})
        assert VideoTask.model_validate_json(bare.model_dump_json()) == bare
        assert (task.failure is not None) == (task.status in ("failed", "cancelled"))
        assert task.failure is None or (task.failure.message.isprintable() and len(task.failure.message) <= 500)
    assert copied == ended


def reply(hostile: Hostile) -> Reply:
    return Reply(hostile.status, hostile.headers, hostile.content)


# --- above the wire ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", [pytest.param(row, id=f"{row.family}: {row.name}") for row in REPLIES])
def test_no_reply_breaks_a_create_a_look_or_a_list(gateway: Gateway, clock: Clock, hostile: Hostile) -> None:
    said = reply(hostile)
    weight = len(said.body)
    play = Play(clock, posts=[said], lists=[EMPTY])
    check_create(outcome(play, create(replace(gateway), REQUEST), weight), play, hostile)
    once = replace(gateway, retry=ONCE)
    check_look(outcome(Play(clock, posts=[], lists=[UNSERVED, said]), query(once, T), weight), hostile)
    once = replace(gateway, retry=ONCE)
    check_list(outcome(Play(clock, posts=[], lists=[said]), listed(once), weight), hostile)


def check_create(ended: Any, play: Play, hostile: Hostile) -> None:
    """It is the task, a clear refusal, or of unknown fate; what may have been accepted is sent once."""
    expected = hostile.create
    if isinstance(expected, Seen):
        assert isinstance(ended, VideoTask), ended
        assert (ended.task_id, ended.status, play.posts) == (*expected, 1)
        return
    assert isinstance(ended, SoraError), ended
    if expected == UNKNOWN:
        assert (ended.code, ended.charged, play.posts) == ("submission_unknown", "unknown", 1)
    elif expected == PAGE:
        looked = [earlier == "GET" for earlier, sent in pairwise(play.sent) if sent == "POST"]
        assert (ended.charged, play.posts > 1, all(looked)) == ("unknown", True, True)
    else:
        again = ended.retryable and ended.retry_after in (None, 2.0)
        assert (ended.code, ended.charged, play.posts > 1) == (expected, "no", again)
        assert expected in ("busy", "endpoint_unavailable") or play.posts == 1


def check_look(ended: Any, hostile: Hostile) -> None:
    """It is the task that was asked for, or an error that names it."""
    if isinstance(hostile.look, Seen):
        assert isinstance(ended, VideoTask), ended
        assert (ended.task_id, ended.status) == hostile.look
        return
    assert isinstance(ended, SoraError), ended
    assert ended.task_id == T
    assert hostile.look in (None, ended.code)


def check_list(ended: Any, hostile: Hostile) -> None:
    """It is the tasks on the page, or an error that cost nothing."""
    if hostile.listed == NOTHING and isinstance(ended, TaskPage):
        assert ended == TaskPage()
    elif isinstance(hostile.listed, tuple):
        assert isinstance(ended, TaskPage), ended
        assert tuple(task.task_id for task in ended.tasks) == hostile.listed
    else:
        assert isinstance(ended, SoraError), ended
        assert ended.charged == "no" or ended.code == "task_not_found"


HEAVY = [row for row in REPLIES if row.large and len(row.content) <= 8 * MIB]


@pytest.mark.parametrize("hostile", [pytest.param(row, id=row.name) for row in HEAVY])
def test_a_reply_takes_no_more_memory_than_its_size_explains(gateway: Gateway, clock: Clock, hostile: Hostile) -> None:
    said = reply(hostile)
    containers = said.body.count(b"{") + said.body.count(b"[") + said.body.count(b'":')
    play = Play(clock, posts=[], lists=[UNSERVED, said])
    tracemalloc.start()
    try:
        with suppress(SoraError):
            play.run(query(replace(gateway, retry=ONCE), T))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MIB + len(said.body) * (MOST_OF_CONTAINERS if containers > 1000 else MOST_OF_TEXT)


@pytest.mark.parametrize("said", ["." * 500, ". " * 250, "。，" * 250, "(request id: " * 40, "please " * 70])
def test_words_of_politeness_cost_nothing_to_leave_out(said: str) -> None:
    body = json.dumps({"message": f"{said}x"}).encode()
    start = time.process_time()
    for _ in range(10):
        with pytest.raises(SoraError):
            opened(Reply(500, {}, body), "create")
    assert time.process_time() - start < MOST_SECONDS


def test_more_than_two_hundred_replies_are_really_different() -> None:
    sums = Counter((row.status, str(sorted(row.headers.items())), sha256(row.content).digest()) for row in REPLIES)
    assert [each for each, times in sums.items() if times > 1] == []
    wired = Counter(sha256(row.content).digest() for row in WIRED)
    assert [each for each, times in wired.items() if times > 1] == []
    families = Counter(row.family for row in REPLIES)
    assert sum(min(times, 25) for times in families.values()) + len(wired) > 400, (
        "however alike those of one family are"
    )


# --- over sockets ------------------------------------------------------------------------------------------------

Ask = Callable[..., Any]


class Said:
    """A gateway that answers every request of one method with the same bytes, and knows no other route."""

    def __init__(self) -> None:
        self.method, self.bytes = "", b""

    def __call__(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        connection.raw.sendall(self.bytes if method == self.method else NO_LIST)
        connection.close()


@pytest.fixture(scope="module")
def said_by() -> Iterator[tuple[RawGateway, Said]]:
    said = Said()
    with RawGateway(said) as gateway:
        yield gateway, said


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, said_by: tuple[RawGateway, Said]) -> Ask:
    """Ask a gateway that answers with these bytes: what it ends in, and the requests of that method that came."""
    gateway, said = said_by

    def one(sent: bytes, method: str, *arguments: Any, **settings: Any) -> tuple[Any, int]:
        said.bytes, said.method = sent, "POST" if method == "create" else "GET"
        gateway.requests.clear()
        given = {"base_url": gateway.base_url, "api_key": "sk-test-0123456789", "largest_reply": MIB, **settings}
        start = time.process_time()
        try:
            ended = sync(given, method, *arguments) if request.param == "sync" else later(given, method, *arguments)
        except SoraError as error:
            ended = error
        assert time.process_time() - start < MOST_SECONDS + SECONDS_PER_MIB * len(sent) / MIB
        hold(ended)
        return ended, gateway.posts if method == "create" else gateway.gets

    def sync(settings: dict[str, Any], method: str, *arguments: Any) -> Any:
        with Sora(**settings) as sora:
            return getattr(sora, method)(*arguments)

    def later(settings: dict[str, Any], method: str, *arguments: Any) -> Any:
        async def main() -> Any:
            async with AsyncSora(**settings) as sora:
                return await getattr(sora, method)(*arguments)

        return asyncio.run(main())

    return one


@pytest.mark.parametrize("wired", WIRED, ids=lambda row: row.name)
def test_no_answer_on_a_socket_breaks_a_client(ask: Ask, wired: Wired) -> None:
    sent = wired.content
    made, posts = ask(sent, "create", REQUEST, retry=QUICK)
    if wired.fine:
        assert (made.task_id, made.status, posts) == (T, "running", 1), made
    elif wired.refused:
        assert (made.code, made.charged, posts > 1) == (wired.refused, "no", made.retryable)
    else:
        assert (made.code, made.charged, posts) == ("submission_unknown", "unknown", 1), made
    seen, _ = ask(sent, "query", T, retry=ONCE)
    shown, _ = ask(sent, "list", retry=ONCE)
    if wired.fine:
        assert (seen.task_id, seen.status, [task.task_id for task in shown.tasks]) == (T, "running", [T])
    else:
        assert isinstance(seen, SoraError)
        assert isinstance(shown, SoraError)


def test_no_bomb_is_unpacked_beyond_the_ceiling(ask: Ask) -> None:
    bombs = [(row.name, row.content) for row in WIRED if "bomb" in row.name]
    assert len(bombs) > 7
    for name, sent in bombs:
        tracemalloc.start()
        try:
            shown, _ = ask(sent, "list", retry=ONCE)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert shown.code in ("lost_reply", "unreadable_reply")
        assert peak < 8 * MIB, name


def test_hints_that_never_end_end_with_patience(ask: Ask, said_by: tuple[RawGateway, Said]) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n"
    started = time.monotonic()  # patience is about real seconds
    made, posts = ask(hint * 100_000, "create", REQUEST, retry=QUICK, timeout=0.5)
    assert (made.code, made.charged, posts) == ("submission_unknown", "unknown", 1)
    assert time.monotonic() - started < 10


def test_an_answer_nobody_asked_for_does_not_decide_over_money() -> None:
    """httpcore reads what came after one answer as the next one's: what is looked for has connections of its own."""
    created = datetime.now(UTC).isoformat()
    ours = {"id": T, "status": "queued", "created_at": created, "prompt": REQUEST.prompt}
    shown, planted = (sized(body=json.dumps({"task_responses": tasks}).encode()) for tasks in ([ours], []))

    def say(connection: Connection, method: str, path: str, body: bytes) -> None:
        connection.raw.sendall(shown + planted if method == "GET" else sized(body=b"{}"))

    with (
        RawGateway(say) as gateway,
        Sora(base_url=gateway.base_url, api_key="sk-test-0123456789", retry=ONCE) as sora,
    ):
        assert [len(sora.list().tasks) for _ in range(2)] == [1, 0], "the trap is set"
        sora.list()
        assert sora.create(REQUEST).task_id == T
        assert gateway.posts == 1
