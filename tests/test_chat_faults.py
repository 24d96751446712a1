"""Chats that go wrong: what is told, and what the ledger knows, where the only answer there is comes to grief."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from fault_formats import STREAM, chunk, streamed
from fault_scenes import KEY, VIDEO, cancelled, interrupted, left_behind
from fault_table import COLOURS, LOST
from raw_gateway import Connection, RawGateway

from sora_tools import AsyncSora, Retry, Sora, SoraError, TaskNotFoundError, WaitTimeoutError
from sora_tools.ledger.sqlite import MemoryLedger

TASK = "task_01jzbwm3t0e8hs9b7rkf3m2q5x"
NAMED = streamed(chunk({"content": f"> ID: `{TASK}`\n"}))
MADE = streamed(chunk({"content": "[在线播放▶️](https://filesystem.site/cdn/made.mp4)\n"}), chunk({}, "stop"), "[DONE]")
NO_MONEY = '{"error": {"message": "no money", "code": "insufficient_quota"}}'
QUICK = Retry(attempts=3, budget=20.0, first=0.0, longest=0.0)

Act = Callable[[Connection], None]


def begin(connection: Connection) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {STREAM}\r\ntransfer-encoding: chunked\r\n\r\n"
    connection.raw.sendall(head.encode())


def say(connection: Connection, said: bytes) -> None:
    connection.raw.sendall(b"%x\r\n%s\r\n" % (len(said), said))


def end(connection: Connection) -> None:
    connection.raw.sendall(b"0\r\n\r\n")


def streams(*said: bytes, cut: bool = False) -> Act:
    """A stream that says this, and ends or is cut."""

    def act(connection: Connection) -> None:
        begin(connection)
        for each in said:
            say(connection, each)
        connection.close() if cut else end(connection)

    return act


def says(status: int, body: Any, **headers: str) -> Act:
    return lambda connection: connection.reply(body, status, **headers)


class Scripted(RawGateway):
    """Answers creates with these acts in their order, and with the last one from then on."""

    def __init__(self, *acts: Act) -> None:
        super().__init__(self._act)
        self.acts = acts

    def _act(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        self.acts[min(self.posts, len(self.acts)) - 1](connection)


class Chats(NamedTuple):
    """A ledger, and creates of one key at a gateway, by clients of one colour."""

    colour: str
    ledger: MemoryLedger

    def settings(self, address: str) -> dict[str, Any]:
        told = {"base_url": address, "api_key": "sk-test-0123456789", "dialect": "chat"}
        return {**told, "retry": QUICK, "ledger": self.ledger, "timeout": 5.0}

    def run(self, address: str, name: str, *given: Any, **how: Any) -> Any:
        """What one method of a client comes to, once the client is closed."""

        async def later() -> Any:
            async with AsyncSora(**self.settings(address)) as sora:
                return await getattr(sora, name)(*given, **how)

        try:
            if self.colour == "async":
                return asyncio.run(later())
            with Sora(**self.settings(address)) as sora:
                return getattr(sora, name)(*given, **how)
        except SoraError as error:
            return error

    def create(self, address: str) -> Any:
        return self.run(address, "create", VIDEO, key=KEY)

    @property
    def state(self) -> str:
        row = self.ledger.find(KEY)
        assert row is not None
        return row.state


@pytest.fixture(params=COLOURS)
def chats(request: pytest.FixtureRequest) -> Chats:
    return Chats(request.param, MemoryLedger())


# --- nobody has said a word ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "turned_away", [says(402, NO_MONEY), says(429, '{"error": {"message": "rate limit"}}')], ids=["402", "429"]
)
def test_a_resend_that_is_turned_away_leaves_the_first_unknown(chats: Chats, turned_away: Act) -> None:
    """Or its key would be free, and the very same call would pay for a second one unasked."""
    with Scripted(lambda connection: connection.close(), turned_away) as gateway:
        assert chats.create(gateway.base_url).code == LOST
        again = chats.run(gateway.base_url, "create", VIDEO, key=KEY, resend=True)
        sent = gateway.posts
        assert (again.charged, chats.state, sent > 1) == ("unknown", "unsure", True)
        assert chats.create(gateway.base_url).code == LOST
        assert gateway.posts == sent


REFUSED = {
    "no money, as an answer": (says(200, NO_MONEY.encode()), "quota"),
    "no money, as an event": (streams(streamed(NO_MONEY)), "quota"),
    "a refusal that calls itself a stream": (
        says(400, streamed("{}"), content_type=STREAM),
        "invalid_request",
    ),
    "a redirect to elsewhere": (says(302, b"", location="https://elsewhere.test/"), "endpoint_unavailable"),
    "a redirect in circles": (says(307, b"", location="/v1/chat/completions"), "endpoint_unavailable"),
}
OPEN = {
    "a redirect home": says(302, b"", location="/v1/chats/1"),
    "a redirect to see another": says(303, b"", location="/v1/chats/1"),
    "a web page": says(200, b"<!doctype html><title>Welcome</title>", content_type="text/html"),
    "a web page that calls itself a stream": says(200, b"<!doctype html><title>x</title>", content_type=STREAM),
    "an error that nobody knows, as an event": streams(streamed('{"error": {"message": "scripted"}}')),
    "no money, after words": streams(streamed(chunk({"content": "Let me see."}), NO_MONEY)),
    "nothing": streams(),
    "an end alone": streams(streamed("[DONE]")),
    "a comment alone": streams(b": PING\n\n"),
    "half an event": streams(NAMED[:40]),
    "half an event, and a cut": streams(NAMED[:40], cut=True),
    "a cut": streams(cut=True),
    "a reset": Connection.reset,
    "a closed connection": Connection.close,
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_costs_nothing_and_the_key_may_be_sent_again(chats: Chats, name: str) -> None:
    act, code = REFUSED[name]
    with Scripted(act) as gateway:
        told = chats.create(gateway.base_url)
        assert (told.code, told.charged, chats.state) == (code, "no", "refused")
        gateway.acts = (streams(NAMED, MADE),)
        assert chats.create(gateway.base_url).task_id == TASK


@pytest.mark.parametrize("name", OPEN)
def test_what_may_have_been_accepted_is_sent_once_and_unknown(chats: Chats, name: str) -> None:
    with Scripted(OPEN[name]) as gateway:
        told = chats.create(gateway.base_url)
        assert (told.code, told.charged, chats.state, gateway.posts) == (LOST, "unknown", "unsure", 1)
        assert chats.create(gateway.base_url).code == LOST
        assert chats.run(gateway.base_url, "query", KEY).code == LOST
    assert gateway.posts == 1


def test_a_busy_gateway_is_asked_again_and_then_streams(chats: Chats) -> None:
    with Scripted(says(429, {}, retry_after="0"), streams(NAMED, MADE)) as gateway:
        assert chats.create(gateway.base_url).task_id == TASK
        assert (gateway.posts, chats.run(gateway.base_url, "query", KEY).status) == (2, "succeeded")


def test_a_redirect_of_the_gateways_own_is_followed(chats: Chats) -> None:
    with Scripted(says(308, b"", location="/v2/chat/completions"), streams(NAMED, MADE)) as gateway:
        assert chats.create(gateway.base_url).task_id == TASK
    assert [path for _, path, _ in gateway.requests] == ["/v1/chat/completions", "/v2/chat/completions"]


def test_what_never_left_cost_nothing(chats: Chats) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    told = chats.create(f"http://127.0.0.1:{port}")
    assert (told.code, told.charged, chats.state) == ("not_sent", "no", "refused")


# --- the stream goes on -------------------------------------------------------------------------------------------


def test_a_stream_cut_after_the_tasks_name_is_a_task_that_nobody_can_look_up(chats: Chats) -> None:
    with Scripted(streams(NAMED, NAMED[:30], cut=True)) as gateway:
        assert chats.create(gateway.base_url).task_id == TASK
        told = chats.run(gateway.base_url, "query", TASK)
        assert (told.code, told.charged, told.task_id, chats.state) == (LOST, "yes", TASK, "accepted")
        assert chats.create(gateway.base_url).task_id == TASK
    assert gateway.posts == 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first word is waited for, and silence borne, for a moment only."""
    monkeypatch.setattr("sora_tools.flow.submit.FIRST_WORD", 0.1)
    monkeypatch.setattr("sora_tools.flow.listen._SILENCE", 0.5)


def hangs(*said: bytes) -> Act:
    def act(connection: Connection) -> None:
        begin(connection)
        for each in said:
            say(connection, each)
        connection.file.read(1)  # until the other side goes

    return act


@pytest.mark.usefixtures("impatient")
def test_a_stream_that_hangs_before_its_first_event_is_unknown(chats: Chats) -> None:
    with Scripted(hangs()) as gateway:
        task = chats.create(gateway.base_url)
        assert (task.task_id, task.status) == (KEY, "queued")
        told = chats.run(gateway.base_url, "query", KEY)
        assert (told.code, told.charged, chats.state) == (LOST, "unknown", "unsure")
        assert chats.create(gateway.base_url).code == LOST
    assert gateway.posts == 1


@pytest.mark.parametrize(("said", "charged"), [((), "unknown"), ((NAMED,), "yes")])
@pytest.mark.usefixtures("impatient")
def test_who_waits_in_vain_is_told_what_is_known_of_the_money(said: tuple[bytes, ...], charged: str) -> None:
    with Scripted(hangs(*said)) as gateway, Sora(**Chats("sync", MemoryLedger()).settings(gateway.base_url)) as sora:
        sora.create(VIDEO, key=KEY)
        with pytest.raises(WaitTimeoutError) as caught:
            sora.wait(KEY, timeout=0.1)
        assert caught.value.charged == charged


@pytest.mark.usefixtures("impatient")
def test_nothing_reads_on_in_a_stream_that_was_given_up() -> None:
    with Scripted(hangs(NAMED)) as gateway:
        assert Chats("sync", MemoryLedger()).create(gateway.base_url).task_id == TASK
        for thread in threading.enumerate():
            if thread.name == "sora-request":
                thread.join(2)
                assert not thread.is_alive()


@pytest.mark.usefixtures("impatient")
def test_comments_show_that_a_stream_is_alive(chats: Chats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sora_tools.flow.submit.FIRST_WORD", 5.0)

    def pings(connection: Connection) -> None:
        begin(connection)
        for _ in range(8):
            time.sleep(0.1)  # in all longer than silence is borne
            say(connection, b": PING\n\n")
        say(connection, NAMED + MADE)
        end(connection)

    with Scripted(pings) as gateway:
        assert chats.create(gateway.base_url).task_id == TASK
        assert chats.run(gateway.base_url, "query", TASK).status == "succeeded"


def late_refusal(connection: Connection) -> None:
    begin(connection)
    time.sleep(0.3)  # by now the caller has stopped waiting for the first word
    say(connection, streamed(NO_MONEY))
    end(connection)


@pytest.mark.usefixtures("impatient")
def test_a_refusal_that_comes_late_is_a_refusal_to_whoever_asks(chats: Chats) -> None:
    with Scripted(late_refusal, streams(NAMED, MADE)) as gateway:
        assert chats.create(gateway.base_url).task_id == KEY
        told = chats.run(gateway.base_url, "query", KEY)
        assert (type(told), told.charged, chats.state) == (TaskNotFoundError, "no", "refused")
        assert chats.create(gateway.base_url).task_id == TASK, "it may be sent again"


# --- the caller goes ----------------------------------------------------------------------------------------------


class Slow:
    """A chat that waits for the test before its first word, and before its end."""

    def __init__(self) -> None:
        self.arrived, self.word, self.named, self.last = (threading.Event() for _ in range(4))

    def __call__(self, connection: Connection) -> None:
        begin(connection)
        self.arrived.set()
        self.word.wait(10)
        say(connection, NAMED)
        self.named.set()
        self.last.wait(10)
        say(connection, MADE)
        end(connection)


def test_a_caller_who_goes_before_the_first_word_leaves_the_answer_to_be_written_down() -> None:
    chat = Slow()
    with Scripted(chat) as gateway, Sora(**Chats("sync", MemoryLedger()).settings(gateway.base_url)) as sora:

        def go_on() -> None:
            chat.word.set()
            chat.last.set()

        interrupted(lambda: sora.create(VIDEO, key=KEY), chat.arrived, go_on)
        assert sora.query(KEY).status == "succeeded"
        assert sora.create(VIDEO, key=KEY).task_id == TASK
        assert gateway.posts == 1


async def test_a_caller_cancelled_before_the_first_word_leaves_the_answer_to_be_written_down() -> None:
    chat = Slow()
    with Scripted(chat) as gateway:
        async with AsyncSora(**Chats("async", MemoryLedger()).settings(gateway.base_url)) as sora:

            def go_on() -> None:
                chat.word.set()
                chat.last.set()

            await cancelled(asyncio.create_task(sora.create(VIDEO, key=KEY)), chat.arrived, go_on)
            await left_behind(sora)
            assert (await sora.query(KEY)).status == "succeeded"
            assert (await sora.create(VIDEO, key=KEY)).task_id == TASK
            assert gateway.posts == 1


def test_a_caller_who_goes_while_it_waits_for_the_end_leaves_it_to_be_written_down() -> None:
    chat = Slow()
    chat.word.set()
    with Scripted(chat) as gateway, Sora(**Chats("sync", MemoryLedger()).settings(gateway.base_url)) as sora:
        interrupted(lambda: sora.generate(VIDEO, key=KEY), chat.named, chat.last.set)
        assert sora.wait(KEY, timeout=10).task_id == TASK
        assert gateway.posts == 1


async def test_a_caller_cancelled_while_it_waits_for_the_end_leaves_it_to_be_written_down() -> None:
    chat = Slow()
    chat.word.set()
    with Scripted(chat) as gateway:
        async with AsyncSora(**Chats("async", MemoryLedger()).settings(gateway.base_url)) as sora:
            await cancelled(asyncio.create_task(sora.generate(VIDEO, key=KEY)), chat.named, chat.last.set)
            await left_behind(sora)
            assert (await sora.query(KEY)).status == "succeeded"
            assert gateway.posts == 1


class Reluctant(MemoryLedger):
    """A ledger that takes its time to write a create down."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Event(), threading.Event()

    def begin(self, *given: Any) -> Any:
        self.asked.set()
        self.go.wait(10)
        return super().begin(*given)


async def test_a_caller_who_goes_before_the_create_leaves_it_unsent_and_free() -> None:
    ledger = Reluctant()
    with Scripted(streams(NAMED, MADE)) as gateway:
        async with AsyncSora(**Chats("async", ledger).settings(gateway.base_url)) as sora:
            await cancelled(asyncio.create_task(sora.create(VIDEO, key=KEY)), ledger.asked, ledger.go.set)
            await left_behind(sora)
            assert (gateway.posts, Chats("async", ledger).state) == (0, "refused")
            assert (await sora.create(VIDEO, key=KEY)).task_id == TASK


def test_an_interrupted_caller_leaves_it_unsent_and_free() -> None:
    ledger = Reluctant()
    with Scripted(streams(NAMED, MADE)) as gateway, Sora(**Chats("sync", ledger).settings(gateway.base_url)) as sora:
        interrupted(lambda: sora.create(VIDEO, key=KEY), ledger.asked, ledger.go.set)
        assert (gateway.posts, Chats("sync", ledger).state) == (0, "refused")
        assert sora.create(VIDEO, key=KEY).task_id == TASK


# --- close() ------------------------------------------------------------------------------------------------------


def test_closing_waits_for_a_stream_to_end_well_or_badly(chats: Chats) -> None:
    def rest(*said: bytes, cut: bool) -> Act:
        def act(connection: Connection) -> None:
            begin(connection)
            say(connection, NAMED)
            time.sleep(0.1)  # by now the caller has its task, and has begun to close
            for each in said:
                say(connection, each)
            connection.close() if cut else end(connection)

        return act

    with Scripted(rest(MADE, cut=False)) as gateway:
        assert chats.create(gateway.base_url).task_id == TASK
        assert chats.run(gateway.base_url, "query", TASK).status == "succeeded"
    chats.ledger.forget(KEY)
    with Scripted(rest(MADE[:40], cut=True)) as gateway:
        assert chats.create(gateway.base_url).task_id == TASK
        told = chats.run(gateway.base_url, "query", TASK)
        assert (told.code, told.charged, told.task_id) == (LOST, "yes", TASK)


@pytest.mark.usefixtures("impatient", "brisk")
def test_a_generation_that_is_never_named_is_not_called_charged(chats: Chats) -> None:
    with Scripted(hangs()) as gateway:
        told = chats.run(gateway.base_url, "generate", VIDEO, key=KEY)
        assert (told.code, told.charged) == (LOST, "unknown")
    chats.ledger.forget(KEY)
    with Scripted(late_refusal) as gateway:
        told = chats.run(gateway.base_url, "generate", VIDEO, key=KEY)
        assert (told.code, told.charged) == ("task_not_found", "no")
