"""The ledger in memory, by itself: who may send, what is known, and whose a task is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Clock

from sora_tools import ConfigurationError, MemoryLedger, Sora
from sora_tools.ledger import Accepted, Elsewhere, ForgetfulLedger, New, Submission, Unsure, ledger


def submission(key: str = "k", thread: str | None = None) -> Submission:
    return Submission(key=key, gateway="https://g.test:443", dialect="backend", body={"prompt": "x"}, thread=thread)


def test_a_claim_belongs_to_one_until_it_is_left() -> None:
    book = MemoryLedger()
    first = book.begin(submission())
    assert isinstance(first, New)
    assert book.begin(submission()) == Elsewhere()
    with first.claim:
        assert book.begin(submission()) == Elsewhere()
    again = book.begin(submission())
    assert isinstance(again, Unsure), "intended, and nobody holds the claim"


def test_the_first_send_is_remembered_over_later_attempts() -> None:
    clock = Clock(100.0)
    book = MemoryLedger(clock)
    with book.begin(submission()).claim:
        clock.seconds = 200.0
    with book.begin(submission()).claim:
        pass
    assert book.begin(submission()).since == 100.0


@pytest.mark.parametrize(("state", "next_one"), [("refused", New), ("unsure", Unsure), ("intended", Unsure)])
def test_what_was_settled_decides_what_comes_next(state: str, next_one: type) -> None:
    book = MemoryLedger()
    begun = book.begin(submission())
    with begun.claim:
        book.settle(begun.claim, state)
    assert isinstance(book.begin(submission()), next_one)


def test_an_accepted_submission_is_never_begun_again() -> None:
    book = MemoryLedger()
    begun = book.begin(submission())
    with begun.claim:
        book.settle(begun.claim, "accepted", "task_1")
    again = book.begin(submission())
    assert isinstance(again, Accepted)
    assert (again.task_id, again.submission.state) == ("task_1", "accepted")


def test_a_task_is_adopted_once() -> None:
    book = MemoryLedger()
    first, second = book.begin(submission("a")), book.begin(submission("b"))
    assert book.adopt(first.claim, ["task_1", "task_2"]) == "task_1"
    assert book.adopt(second.claim, ["task_1", "task_2"]) == "task_2"
    third = book.begin(submission("c"))
    assert book.adopt(third.claim, ["task_1", "task_2"]) is None
    assert book.find("c").state == "intended"


def test_a_direct_answer_beats_an_adoption() -> None:
    book = MemoryLedger()
    adopting, answered = book.begin(submission("a")), book.begin(submission("b"))
    book.adopt(adopting.claim, ["task_1"])
    book.settle(answered.claim, "accepted", "task_1")
    assert (book.find("a").state, book.find("a").task_id) == ("unsure", None)
    assert book.of_task("https://g.test:443", "task_1").key == "b"
    assert book.of_task("https://other.test:443", "task_1") is None


def test_a_conversation_sees_its_own_submissions_newest_first() -> None:
    book = MemoryLedger()
    for number in range(5):
        begun = book.begin(submission(f"k{number}", "chat" if number != 2 else None))
        book.settle(begun.claim, "accepted", f"task_{number}")
    assert [row.key for row in book.of_thread("chat", 10)] == ["k4", "k3", "k1", "k0"]
    assert [row.key for row in book.of_thread("chat", 2, "task_3")] == ["k1", "k0"]
    assert [row.key for row in book.of_thread("chat", 2, "k4")] == ["k3", "k1"]
    assert [row.key for row in book.of_thread(None, 10)] == ["k2"]


def test_off_remembers_only_what_is_being_sent() -> None:
    book = ForgetfulLedger()
    begun = book.begin(submission())
    assert book.begin(submission()) == Elsewhere()
    with begun.claim:
        book.settle(begun.claim, "accepted", "task_1")
    assert book.find("k") is None
    assert book.of_task("https://g.test:443", "task_1") is None
    assert isinstance(book.begin(submission()), New)


def test_one_of_many_threads_may_send() -> None:
    book = MemoryLedger()
    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(lambda _: book.begin(submission()), range(64)))
    assert sum(isinstance(each, New) for each in begun) == 1


def test_a_ledger_is_chosen_by_name_or_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given = MemoryLedger()
    assert ledger(given) is given
    assert type(ledger("memory")) is type(ledger()) is MemoryLedger
    monkeypatch.setenv("SORA_LEDGER", "off")
    assert type(Sora(base_url="https://g.test", api_key="x").gateway.ledger) is ForgetfulLedger
    with pytest.raises(ConfigurationError, match="'memory', 'off'"):
        ledger("postgresql://x")
