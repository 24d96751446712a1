"""The ledger by itself, in memory and in a file: who may send, what is known, and whose a task is."""

from __future__ import annotations

import gc
import itertools
import json
import multiprocessing
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Clock

from sora_tools import ConfigurationError, MemoryLedger, Sora, SQLiteLedger
from sora_tools.ledger import (
    Accepted,
    Elsewhere,
    New,
    Repeated,
    Submission,
    Taken,
    Unsure,
    default_path,
    digest,
    ledger,
    recorded,
    sqlite,
)
from sora_tools.ledger.sqlite import MIGRATIONS, ForgetfulLedger, network_file_system

GATEWAY = "https://g.test:443"
Book = Callable[..., Any]


def submission(key: str = "k", thread: str | None = None, prompt: str = "x", **fields: Any) -> Submission:
    body = {"prompt": prompt}
    given = {"gateway": GATEWAY, "dialect": "backend", "body": body, "digest": digest(body), "thread": thread}
    return Submission(key=key, **{**given, **fields})


@pytest.fixture(params=["memory", "file"])
def open_book(request: pytest.FixtureRequest, tmp_path: Path) -> Book:
    """Make a ledger with settings of its own."""

    def make(**settings: Any) -> Any:
        if request.param == "memory":
            return MemoryLedger(**settings)
        return SQLiteLedger(tmp_path / "ledger.sqlite", **settings)

    return make


@pytest.fixture
def book(open_book: Book) -> Any:
    return open_book()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


def accepted(book: Any, key: str, task_id: str, **fields: Any) -> None:
    begun = book.begin(submission(key, **fields))
    with begun.claim:
        book.settle(begun.claim, "accepted", task_id)


# --- claims and what was settled --------------------------------------------------------------------------------


def test_a_claim_belongs_to_one_until_it_is_left(book: Any) -> None:
    first = book.begin(submission())
    assert isinstance(first, New)
    assert book.begin(submission()) == Elsewhere()
    assert book.resume("k") == Elsewhere()
    with first.claim:
        assert book.begin(submission()) == Elsewhere()
    again = book.begin(submission())
    assert isinstance(again, Unsure), "intended, and nobody holds the claim"


def test_a_claim_that_its_caller_never_got_is_given_back(book: Any) -> None:
    """A cancelled caller's thread answers to nobody."""
    book.begin(submission())
    again = book.begin(submission())
    assert isinstance(again, Unsure)
    again.claim.__exit__()
    held = book.begin(submission())
    assert isinstance(held, Unsure)
    del again
    assert book.begin(submission()) == Elsewhere(), "a claim gives back its own right, and once"


def test_the_first_send_is_remembered_over_later_attempts(open_book: Book) -> None:
    clock = Clock(100.0)
    book = open_book(clock=clock)
    with book.begin(submission()).claim:
        clock.seconds = 200.0
    with book.begin(submission()).claim:
        pass
    assert book.begin(submission()).submission.intended_at == 100.0


def test_a_refused_submission_begins_anew(open_book: Book) -> None:
    clock = Clock(100.0)
    book = open_book(clock=clock)
    begun = book.begin(submission())
    book.settle(begun.claim, "refused")
    clock.seconds = 200.0
    assert book.begin(submission(prompt="another")).submission.intended_at == 200.0
    assert book.find("k").body == {"prompt": "another"}


@pytest.mark.parametrize(("state", "next_one"), [("refused", New), ("unsure", Unsure), ("intended", Unsure)])
def test_what_was_settled_decides_what_comes_next(book: Any, state: Any, next_one: type) -> None:
    begun = book.begin(submission())
    with begun.claim:
        book.settle(begun.claim, state)
    assert isinstance(book.begin(submission()), next_one)


def test_an_accepted_submission_is_never_begun_again(book: Any) -> None:
    accepted(book, "k", "task_1")
    again = book.begin(submission())
    assert isinstance(again, Accepted)
    assert (again.task_id, again.submission.state) == ("task_1", "accepted")
    assert book.resume("k") == again


@pytest.mark.parametrize("other", [{"prompt": "another"}, {"gateway": "https://other.test:443"}])
@pytest.mark.parametrize("state", ["intended", "unsure", "accepted"])
def test_a_key_belongs_to_one_request_at_one_gateway(book: Any, other: dict[str, Any], state: Any) -> None:
    begun = book.begin(submission())
    with begun.claim:
        book.settle(begun.claim, state, "task_1" if state == "accepted" else None)
    assert isinstance(book.begin(submission(**other)), Taken)


def test_only_what_is_unresolved_can_be_found_out_about(book: Any) -> None:
    assert book.resume("k") is None
    begun = book.begin(submission())
    begun.claim.__exit__()
    with book.resume("k").claim as claim:
        book.settle(claim, "refused")
    assert book.resume("k") is None


def test_everything_that_is_known_is_kept(book: Any) -> None:
    given = submission("k", "chat", account="a1", dialect="videos")
    begun = book.begin(given)
    book.settle(begun.claim, "accepted", "task_1")
    book.end(GATEWAY, "task_1", "succeeded")
    book.end(GATEWAY, "task_1", "succeeded", ["/videos/1.mp4"])
    book.end(GATEWAY, "task_1", "succeeded")
    row = book.find("k")
    assert row == Submission(
        key="k",
        gateway=GATEWAY,
        dialect="videos",
        body={"prompt": "x"},
        digest=given.digest,
        account="a1",
        thread="chat",
        state="accepted",
        task_id="task_1",
        intended_at=row.intended_at,
        sent_at=row.intended_at,
        outcome="succeeded",
        files=("/videos/1.mp4",),
    )
    assert row.finished
    assert book.submissions() == [row]


def test_forgetting_takes_a_row_out_unless_it_is_under_way(book: Any) -> None:
    assert not book.forget("k")
    begun = book.begin(submission())
    assert not book.forget("k")
    begun.claim.__exit__()
    assert book.forget("k")
    assert isinstance(book.begin(submission()), New)


# --- whose a task is --------------------------------------------------------------------------------------------


def test_a_task_is_adopted_once(book: Any) -> None:
    first, second = book.begin(submission("a")), book.begin(submission("b"))
    assert book.adopt(first.claim, ["task_1", "task_2"]) == "task_1"
    assert book.adopt(second.claim, ["task_1", "task_2"]) == "task_2"
    third = book.begin(submission("c"))
    assert book.adopt(third.claim, ["task_1", "task_2"]) is None
    assert book.find("c").state == "intended"
    other = book.begin(submission("d", gateway="https://other.test:443"))
    assert book.adopt(other.claim, ["task_1"]) == "task_1", "another gateway's ids are its own"


def test_a_direct_answer_beats_an_adoption(book: Any) -> None:
    adopting, answered = book.begin(submission("a")), book.begin(submission("b"))
    book.adopt(adopting.claim, ["task_1"])
    book.settle(answered.claim, "accepted", "task_1")
    assert (book.find("a").state, book.find("a").task_id) == ("unsure", None)
    assert book.of_task(GATEWAY, "task_1").key == "b"
    assert book.of_task("https://other.test:443", "task_1") is None


def test_a_name_is_a_tasks_before_it_is_a_keys(book: Any) -> None:
    accepted(book, "task_2", "task_1")
    accepted(book, "b", "task_2")
    assert book.named(GATEWAY, "task_1").key == "task_2"
    assert book.named(GATEWAY, "task_2").key == "b"
    assert book.named("https://other.test:443", "task_2").key == "task_2"
    assert book.named(GATEWAY, "task_3") is None


def test_what_loses_its_adopted_task_loses_how_that_ended(book: Any) -> None:
    adopting, answered = book.begin(submission("a")), book.begin(submission("b"))
    book.adopt(adopting.claim, ["task_1"])
    book.end(GATEWAY, "task_1", "failed", ["/videos/1.mp4"])
    book.settle(answered.claim, "accepted", "task_1")
    row = book.find("a")
    assert (row.state, row.outcome, row.files, row.finished) == ("unsure", None, (), False)


def test_work_that_comes_late_erases_no_task_and_frees_nobody_elses_claim(book: Any) -> None:
    """A caller is cancelled: its claim is free at once, and what a thread still does under it comes later."""
    late = book.begin(submission())
    late.claim.__exit__()
    held = book.resume("k")
    assert book.adopt(late.claim, ["task_1"]) == "task_1"
    assert book.resume("k") != Elsewhere(), "the task is known to everybody"
    assert book.adopt(held.claim, ["task_1"]) == "task_1", "by whoever asks"
    book.settle(held.claim, "unsure")
    assert (book.find("k").state, book.find("k").task_id) == ("accepted", "task_1")


def test_an_adoption_erases_no_direct_answer_that_came_late(book: Any) -> None:
    late = book.begin(submission())
    late.claim.__exit__()
    held = book.resume("k")
    book.settle(late.claim, "accepted", "task_direct")
    assert book.adopt(held.claim, ["task_other"]) == "task_direct"
    assert (book.find("k").task_id, book.of_task(GATEWAY, "task_other")) == ("task_direct", None)


def test_a_submission_sent_again_with_another_key_is_that_accounts(book: Any) -> None:
    book.settle(book.begin(submission()).claim, "unsure")
    again = book.begin(submission())
    book.send_again(again.claim, "another", "videos")
    assert (book.find("k").account, book.find("k").dialect) == ("another", "videos")


def test_a_claim_that_was_given_back_takes_no_other_with_it(book: Any) -> None:
    late = book.begin(submission())
    late.claim.__exit__()
    held = book.resume("k")
    assert isinstance(held, Unsure)
    book.settle(late.claim, "unsure")
    assert book.resume("k") == Elsewhere(), "another one holds it now"


def test_a_copy_of_a_copy_keeps_its_task(book: Any) -> None:
    accepted(book, "root", "task_1")
    accepted(book, "copy", "task_1")
    book.reuse(submission("copy of the copy"), "copy")
    assert book.find("copy of the copy").task_id == "task_1"
    assert isinstance(book.begin(submission("copy of the copy")), Accepted)


def test_what_was_taken_out_in_mid_flight_is_not_written_down_in_silence(book: Any) -> None:
    begun = book.begin(submission())
    with book._turn() as db:
        db.execute("delete from submission")
    with pytest.raises(ConfigurationError, match="lost k"):
        book.settle(begun.claim, "accepted", "task_1")


@pytest.mark.parametrize("thread", ["\ud800", object()], ids=str)
def test_what_no_database_can_hold_is_a_clear_error(book: Any, thread: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        book.begin(submission(thread=thread))
    assert isinstance(book.begin(submission("another")), New), "and no claim is left held"


def test_a_body_of_any_text_is_kept(book: Any) -> None:
    book.begin(submission(body={"prompt": "\ud800"}))
    assert book.find("k").body == {"prompt": "\ud800"}


def test_two_direct_answers_with_one_task_share_it(book: Any) -> None:
    accepted(book, "a", "task_1")
    accepted(book, "b", "task_1")
    assert [book.find(key).task_id for key in "ab"] == ["task_1", "task_1"]
    assert book.of_task(GATEWAY, "task_1").key == "a"
    assert isinstance(book.begin(submission("b")), Accepted)


# --- conversations ----------------------------------------------------------------------------------------------


def test_a_conversation_sees_its_own_submissions_newest_first(book: Any) -> None:
    for number in range(5):
        thread = "chat" if number != 2 else None
        accepted(book, f"k{number}", f"task_{number}", thread=thread, prompt=str(number))
    accepted(book, "foreign", "task_9", thread="chat", account="another")
    accepted(book, "far", "task_9", thread="chat", gateway="https://other.test:443")

    def keys(*page: Any) -> list[str]:
        return [row.key for row in book.of_thread(GATEWAY, "", *page)]

    assert keys("chat", 10) == ["k4", "k3", "k1", "k0"]
    assert keys("chat", 2, "task_3") == ["k1", "k0"]
    assert keys("chat", 2, "k4") == ["k3", "k1"]
    assert keys(None, 10) == ["k2"]
    assert keys("chat", 10, "task_9") == keys("chat", 10, "k2") == []


def earlier(book: Any, state: Any, outcome: Any = None) -> None:
    begun = book.begin(submission("first", "chat"))
    with begun.claim:
        if state != "held":
            book.settle(begun.claim, state, "task_1" if state == "accepted" else None)
        if outcome:
            book.end(GATEWAY, "task_1", outcome)
        if state == "held":
            assert isinstance(book.begin(submission("second", "chat"), False), Repeated)


@pytest.mark.parametrize("state", ["held", "intended", "unsure", "accepted"])
def test_the_same_again_in_one_conversation_is_noticed_while_the_first_may_be_under_way(book: Any, state: Any) -> None:
    earlier(book, state)
    begun = book.begin(submission("second", "chat"), False)
    assert isinstance(begun, Repeated)
    assert begun.earlier.key == "first"
    assert book.find("second") is None


@pytest.mark.parametrize(
    ("state", "outcome"),
    [("refused", None), ("accepted", "succeeded"), ("accepted", "failed"), ("accepted", "cancelled")],
)
def test_the_same_again_may_be_sent_when_the_first_is_over(book: Any, state: Any, outcome: Any) -> None:
    earlier(book, state, outcome)
    assert isinstance(book.begin(submission("second", "chat"), False), New)


@pytest.mark.parametrize(
    "other",
    [{"thread": "another"}, {"thread": None}, {"prompt": "y"}, {"account": "b"}, {"gateway": "https://other.test:443"}],
    ids=str,
)
def test_what_is_not_the_same_is_not_held_back(book: Any, other: dict[str, Any]) -> None:
    earlier(book, "unsure")
    assert isinstance(book.begin(submission("second", **{"thread": "chat", **other}), False), New)


def test_repeating_may_be_allowed(book: Any) -> None:
    earlier(book, "unsure")
    assert isinstance(book.begin(submission("second", "chat"), True), New)


def test_a_reused_task_stays_with_the_key_that_was_given_it(book: Any) -> None:
    earlier(book, "accepted")
    book.reuse(submission("second", "chat"), "first")
    book.end(GATEWAY, "task_1", "succeeded")
    again = book.begin(submission("second", "chat"), False)
    assert isinstance(again, Accepted)
    assert (again.task_id, again.submission.reuses) == ("task_1", "first")
    assert [row.key for row in book.of_thread(GATEWAY, "", "chat", 10)] == ["first"]
    book.forget("first")
    assert isinstance(book.begin(submission("second", "chat"), False), New)


def test_what_reuses_a_task_shares_its_fate(book: Any) -> None:
    first = book.begin(submission("first", "chat"))
    book.adopt(first.claim, ["task_1"])
    book.reuse(submission("second", "chat"), "first")
    direct = book.begin(submission("third"))
    book.settle(direct.claim, "accepted", "task_1")
    begun = book.begin(submission("second", "chat"))
    assert isinstance(begun, Repeated)
    assert (begun.earlier.key, begun.earlier.state) == ("first", "unsure")


# --- off --------------------------------------------------------------------------------------------------------


def test_off_remembers_only_what_is_not_known_yet() -> None:
    book = ForgetfulLedger()
    begun = book.begin(submission())
    assert book.begin(submission()) == Elsewhere()
    with begun.claim:
        book.settle(begun.claim, "accepted", "task_1")
    assert book.find("k") is None
    assert book.of_task(GATEWAY, "task_1") is None
    begun = book.begin(submission())
    assert isinstance(begun, New)
    with begun.claim:
        book.settle(begun.claim, "unsure")
    assert isinstance(book.begin(submission()), Unsure)


# --- many at once -----------------------------------------------------------------------------------------------


def test_one_of_many_threads_may_send(book: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(lambda _: book.begin(submission()), range(64)))
    assert sum(isinstance(each, New) for each in begun) == 1
    assert sum(isinstance(each, Elsewhere) for each in begun) == 63


def test_one_of_many_ledgers_on_one_file_may_send(file: Path) -> None:
    books = [SQLiteLedger(file) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(lambda number: books[number % 8].begin(submission()), range(64)))
    assert sum(isinstance(each, New) for each in begun) == 1


def _send_in_a_process(file: Path, start: Any, told: Any) -> None:
    book = SQLiteLedger(file)
    start.wait()
    begun = book.begin(submission())
    told.put(type(begun).__name__)
    start.wait()
    if isinstance(begun, New):
        book.settle(begun.claim, "accepted", "task_1")


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_one_of_many_processes_may_send_on_a_new_file(file: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    start, told = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_send_in_a_process, args=(file, start, told)) for _ in range(4)]
    for process in processes:
        process.start()
    begun = sorted(told.get(timeout=30) for _ in processes)
    for process in processes:
        process.join(30)
    assert begun == ["Elsewhere", "Elsewhere", "Elsewhere", "New"]
    assert SQLiteLedger(file).find("k").task_id == "task_1"


def test_a_claim_outlives_a_forked_child_and_dies_with_its_holder(file: Path) -> None:
    """A child has the parent's open files, and must neither hold nor break its locks."""
    book = SQLiteLedger(file)
    begun = book.begin(submission())
    child = os.fork()
    if child == 0:
        os._exit(0 if book.begin(submission()) == Elsewhere() and book.find("k").state == "intended" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert SQLiteLedger(file).begin(submission()) == Elsewhere(), "the child's end has not freed it"
    book.settle(begun.claim, "accepted", "task_1")

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        held = book.begin(submission("of the child"))
        os.write(writer, b"y" if isinstance(held, New) else b"n")
        while True:
            signal.pause()
    assert os.read(reader, 1) == b"y"
    assert book.begin(submission("of the child")) == Elsewhere()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert isinstance(book.begin(submission("of the child")), Unsure)


def test_a_fork_during_another_threads_turn_does_not_block_the_child(file: Path) -> None:
    book = SQLiteLedger(file)
    book.find("k")
    with book._turn(reading=True):
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if book.find("k") is None else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_write_that_fails_leaves_no_claim_behind(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = SQLiteLedger(file)
    book.find("k")
    real, failures = book._db, iter([True])

    class Failing:
        def execute(self, statement: str, *given: Any) -> Any:
            if statement == "commit" and next(failures, False):
                raise sqlite3.OperationalError("disk I/O error")
            return real.execute(statement, *given)

    book._db = Failing()
    with pytest.raises(ConfigurationError) as kept:  # and with it every frame it went through
        book.begin(submission())
    assert isinstance(book.begin(submission()), New), kept.value
    book._db = real


def test_a_lock_held_by_another_thread_is_waited_for_and_not_for_ever(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sora_tools.ledger.sqlite._PATIENCE", 0.2)
    book = SQLiteLedger(file)
    book.find("k")
    with ThreadPoolExecutor(1) as pool, book._turn(reading=True), pytest.raises(ConfigurationError, match="busy"):
        pool.submit(book.find, "k").result(5)


def test_a_ledger_in_memory_begins_empty_in_a_child() -> None:
    book = MemoryLedger()
    accepted(book, "k", "task_1")
    with book._turn():
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if book.find("k") is None else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert book.find("k").task_id == "task_1"


def test_no_claim_file_stays_behind_what_is_settled(file: Path) -> None:
    book = SQLiteLedger(file)
    for number in range(3):
        accepted(book, f"k{number}", f"task_{number}")
    book.close()
    assert [path.name for path in file.parent.iterdir()] == ["ledger.sqlite"]


# --- the file ---------------------------------------------------------------------------------------------------


def test_the_file_and_its_folder_are_their_owners_alone(file: Path) -> None:
    accepted(SQLiteLedger(file), "k", "task_1")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_relative_path_and_a_link_mean_one_file_wherever_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.sqlite").symlink_to("real.sqlite")
    book, linked = SQLiteLedger("real.sqlite"), SQLiteLedger("link.sqlite")
    held = book.begin(submission())
    assert linked.begin(submission()) == Elsewhere()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    book.settle(held.claim, "accepted", "task_1")
    book.close()
    assert isinstance(book.begin(submission()), Accepted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "link.sqlite", "real.sqlite"]


def test_what_is_written_is_there_for_the_next_process(file: Path) -> None:
    accepted(SQLiteLedger(file), "k", "task_1")
    program = f"from sora_tools import SQLiteLedger; print(SQLiteLedger({str(file)!r}).find('k').task_id)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "task_1"


def test_a_file_is_synced_before_anyone_goes_on(file: Path) -> None:
    book = SQLiteLedger(file)
    with book._turn(reading=True) as db:
        (extra,) = db.execute("pragma synchronous").fetchone()
        (journal,) = db.execute("pragma journal_mode").fetchone()
    assert (extra, journal) == (3, "delete")


def broken(file: Path, kind: str) -> None:
    file.parent.mkdir(parents=True)
    match kind:
        case "no database":
            file.write_bytes(b"these are my notes, not a ledger" * 100)
        case "cut":
            accepted(SQLiteLedger(file), "k", "task_1")
            os.truncate(file, file.stat().st_size // 2)
        case "another program's":
            with sqlite3.connect(file) as db:
                db.execute("create table mine (x)")
            db.close()
        case "newer":
            accepted(SQLiteLedger(file), "k", "task_1")
            with sqlite3.connect(file) as db:
                db.execute(f"pragma user_version = {len(MIGRATIONS) + 1}")
            db.close()
        case "a folder":
            file.mkdir()


@pytest.mark.parametrize("kind", ["no database", "cut", "another program's", "newer", "a folder"])
def test_a_file_that_cannot_be_used_is_named_before_anything_is_sent_and_left_alone(file: Path, kind: str) -> None:
    broken(file, kind)
    before = file.read_bytes() if file.is_file() else None
    sora = Sora(base_url="http://127.0.0.1:1", api_key="k" * 20, ledger=file)
    for key, charged in ((None, "no"), ("mine", "unknown")):  # an earlier call may have sent a key that was given
        with pytest.raises(ConfigurationError) as caught:
            sora.create("fly man", key=key)
        assert str(file) in str(caught.value)
        assert re.match("Nothing was sent now.*(SORA_LEDGER|Update sora-tools)", caught.value.hint)
        assert (caught.value.charged, caught.value.retryable) == (charged, False)
        assert caught.value.key == key or key is None
    assert (file.read_bytes() if file.is_file() else None) == before


def test_a_newer_file_asks_for_a_newer_program(file: Path) -> None:
    broken(file, "newer")
    with pytest.raises(ConfigurationError, match="newer sora-tools"):
        SQLiteLedger(file).find("k")


@pytest.mark.skipif(sys.platform == "win32", reason="rights are other ones there")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_place_that_cannot_be_written_is_named(file: Path, what: str) -> None:
    accepted(SQLiteLedger(file), "k", "task_1")
    for folder in (file.parent, *file.parent.parents):
        if Path(tempfile.gettempdir()) in folder.parents:
            folder.chmod(0o755)
    if what == "file":
        file.chmod(0o444)
    else:
        file.unlink()
    program = textwrap.dedent(f"""
        import os, sys
        from sora_tools import ConfigurationError, SQLiteLedger
        from sora_tools.ledger import sqlite
        if os.geteuid() == 0:  # nothing is closed to root
            os.setgid(65534); os.setuid(65534)
        try:
            SQLiteLedger({str(file)!r}).find("k")
        except ConfigurationError as error:
            print(error)
    """)
    told = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True).stdout
    assert str(file) in told
    assert "SORA_LEDGER" in told


MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /data rw - nfs4 server:/home rw
31 30 0:41 / /data/me/fast\040disk rw - xfs /dev/vdb rw
32 22 0:42 / /mnt/share rw - cifs //server/share rw
33 22 0:43 / /mnt/ssh rw - fuse.sshfs me@host: rw
34 22 0:44 / /mnt/ntfs rw - fuse.ntfs /dev/sdc rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/x", None),
        ("/data/me/x", "nfs4"),
        ("/data/me/fast disk/x", None),
        ("/homes/x", None),
        ("/mnt/share/a/b", "cifs"),
        ("/mnt/ssh/x", "fuse.sshfs"),
        ("/mnt/ntfs/x", None),
    ],
)
def test_a_network_file_system_is_recognised(path: str, kind: str | None) -> None:
    assert network_file_system(Path(path), MOUNTS) == kind


def test_a_ledger_on_a_network_file_system_is_refused_before_it_is_made(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sora_tools.ledger.sqlite.network_file_system", lambda path: "nfs4")
    with pytest.raises(ConfigurationError, match=r"network file system \(nfs4\)"):
        SQLiteLedger(file).begin(submission())
    assert not file.parent.exists()


def test_an_older_file_is_taken_to_the_newest_version(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted(SQLiteLedger(file), "k", "task_1")
    further = "alter table submission add column note text; create index submission_note on submission (note)"
    monkeypatch.setattr("sora_tools.ledger.sqlite.MIGRATIONS", (*MIGRATIONS, further))
    book = SQLiteLedger(file)
    assert book.find("k").task_id == "task_1"
    with book._turn(reading=True) as db:
        assert db.execute("select note from submission").fetchone()["note"] is None
        assert db.execute("pragma user_version").fetchone()[0] == len(MIGRATIONS) + 1


def test_a_step_that_fails_leaves_the_file_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted(SQLiteLedger(file), "k", "task_1")
    monkeypatch.setattr("sora_tools.ledger.sqlite.MIGRATIONS", (*MIGRATIONS, "create table half (x); broken"))
    with pytest.raises(ConfigurationError):
        SQLiteLedger(file).find("k")
    monkeypatch.undo()
    book = SQLiteLedger(file)
    assert book.find("k").task_id == "task_1"
    with book._turn(reading=True) as db:
        assert db.execute("select 1 from sqlite_master where name = 'half'").fetchone() is None


def test_what_is_finished_is_taken_out_after_its_age_and_nothing_else(file: Path) -> None:
    clock = Clock(1_000_000.0)
    book = SQLiteLedger(file, keep_days=10, clock=clock)
    for key, state in [("refused", "refused"), ("unsure", "unsure"), ("intended", "intended")]:
        book.settle(book.begin(submission(key)).claim, state)
    for key, outcome, files in [("failed", "failed", []), ("saved", "succeeded", ["1.mp4"]), ("seen", "succeeded", [])]:
        accepted(book, key, f"task_{key}")
        book.end(GATEWAY, f"task_{key}", outcome, files)
    accepted(book, "running", "task_running")

    def left(days: float) -> set[str]:
        later = SQLiteLedger(file, keep_days=10, clock=Clock(clock.seconds + days * 86_400))
        return {row.key for row in later.submissions()}

    assert len(left(9)) == 7
    assert left(11) == {"unsure", "intended", "running"}


def test_a_full_disk_is_a_clear_error_and_the_next_write_goes_well(file: Path) -> None:
    book = SQLiteLedger(file)
    accepted(book, "k", "task_1")
    with book._turn(reading=True) as db:
        (pages,) = db.execute("pragma page_count").fetchone()
    book._db.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(ConfigurationError, match="full"):
        book.begin(submission("big", prompt="x" * 100_000))
    book._db.execute("pragma max_page_count = 1000000")
    assert isinstance(book.begin(submission("big", prompt="x" * 100_000)), New), "its claim is free again"


# --- what is kept of a body -------------------------------------------------------------------------------------


def test_images_are_kept_as_their_fingerprints_and_the_key_not_at_all() -> None:
    image = "data:image/png;base64,iVBORw0KGgo="
    body = {"prompt": "data: a chart of sk-secret-key", "inpaint_items": [{"url": image}], "n_frames": 3}
    kept = recorded(body, "sk-secret-key")
    assert kept["prompt"] == "data: a chart of ***"
    assert kept["inpaint_items"][0]["url"].startswith("data:image/png;base64,sha256:")
    assert "iVBORw0KGgo" not in json.dumps(kept)
    assert recorded(body) != recorded({**body, "inpaint_items": [{"url": image[:-1]}]})
    assert digest(body) == digest(dict(reversed(body.items())))
    assert digest(body) != digest({**body, "n_frames": 4})


# --- which one --------------------------------------------------------------------------------------------------


def test_a_ledger_is_chosen_by_name_or_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = MemoryLedger()
    assert ledger(given) is given
    assert type(ledger(":memory:")) is type(ledger("Memory")) is MemoryLedger
    assert type(ledger("memory")) is type(ledger()) is MemoryLedger
    assert ledger(tmp_path / "x").path == tmp_path / "x"
    assert ledger("~/x").path == Path.home() / "x"
    monkeypatch.setenv("SORA_LEDGER", "off")
    assert type(Sora(base_url="https://g.test", api_key="x").gateway.ledger) is ForgetfulLedger
    with pytest.raises(ConfigurationError, match="'memory', 'off'"):
        ledger("postgresql://x")


def test_by_default_it_is_a_file_in_the_users_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SORA_LEDGER")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert ledger().path == tmp_path / "sora-tools" / "ledger.sqlite"
    assert not (tmp_path / "sora-tools").exists(), "nothing is opened yet"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".local" / "state" / "sora-tools" / "ledger.sqlite"


# --- what is told of once ---------------------------------------------------------------------------------------


def test_what_is_told_of_a_task_is_kept_while_its_attempt_goes_on(book: Any) -> None:
    begun = book.begin(submission("k"))
    for done in (0.1, 0.5):
        book.follow(begun.claim, "task_1", {"task_id": "task_1", "progress": done})
    row = book.find("k")
    assert (row.state, row.task_id, row.seen) == ("accepted", "task_1", {"task_id": "task_1", "progress": 0.5})
    assert book.under_way("k")
    assert isinstance(book.begin(submission("k")), Accepted)
    assert book.under_way("k"), "asking takes nothing away"
    book.settle(begun.claim, "accepted", "task_1")
    assert not book.under_way("k")
    assert book.find("k").seen == {"task_id": "task_1", "progress": 0.5}


def test_a_ledger_of_the_first_version_is_taken_to_the_newest(file: Path) -> None:
    file.parent.mkdir()
    old = sqlite3.connect(file)
    for statement in filter(str.strip, MIGRATIONS[0].split(";")):
        old.execute(statement)
    old.execute("pragma application_id = 0x536F7261")
    old.execute("pragma user_version = 1")
    old.execute(
        "insert into submission (key, gateway, account, dialect, body, digest, state, task_id, intended_at, sent_at)"
        " values ('k', ?, '', 'backend', '{}', '', 'accepted', 'task_1', 1e9, 1e9)",
        (GATEWAY,),
    )
    old.commit()
    old.close()
    book = SQLiteLedger(file)
    row = book.find("k")
    assert (row.task_id, row.seen) == ("task_1", None)
    begun = book.begin(submission("new"))
    book.follow(begun.claim, "task_2", {"status": "running"})
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("pragma user_version").fetchone() == (len(MIGRATIONS),)


# --- damage and forks -------------------------------------------------------------------------------------------


def test_a_damaged_index_does_not_make_a_known_key_a_new_one(file: Path) -> None:
    book = SQLiteLedger(file)
    for number in range(50):
        accepted(book, f"order-{number:04d}", f"task_{number}")
    book.close()
    content = bytearray(file.read_bytes())
    places = [found.start() for found in re.finditer(b"order-0042", content)]
    assert len(places) == 2, "in the table, and in its index"
    damaged = False
    for place in places:
        content[place] ^= 0x01
        file.write_bytes(content)
        with pytest.raises(ConfigurationError, match="damaged"):
            SQLiteLedger(file).begin(submission("order-0042"))
        content[place] ^= 0x01
        damaged = True
    assert damaged
    file.write_bytes(content)
    assert isinstance(SQLiteLedger(file).begin(submission("order-0042")), Accepted)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forking beside threads is what is tested
def test_a_child_forked_while_threads_write_goes_on_writing(file: Path) -> None:
    book, over = SQLiteLedger(file), threading.Event()

    def write(name: str) -> None:
        for number in itertools.count():
            if over.is_set():
                return
            accepted(book, f"{name}-{number}", f"task_{name}_{number}")
            over.wait(0.05)  # nobody else would find a gap to write in

    threads = [threading.Thread(target=write, args=(f"thread{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    fork = multiprocessing.get_context("fork")
    try:
        for number in range(10):
            child = fork.Process(target=accepted, args=(book, f"child-{number}", f"task_child_{number}"))
            child.start()
            child.join(20)
            assert child.exitcode == 0
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert all(book.find(f"child-{number}").task_id for number in range(10))


def test_no_statement_numbers_its_placeholders() -> None:
    # Python 3.14 takes no sequence for them, and 3.12 warns of it.
    source = Path(sqlite.__file__).read_text()
    assert not re.findall(r"\?\d", source)


def test_a_ledger_that_nobody_holds_any_more_leaves_nothing_open(tmp_path: Path) -> None:
    held = SQLiteLedger(tmp_path / "ledger.sqlite")
    held.submissions()
    db, book = held._db, weakref.ref(held)
    del held
    gc.collect()
    assert book() is None
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        db.execute("select 1")
