"""Shared looks by hand: one list request answers everybody who waits, and nobody is left waiting for one that died."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from by_hand import Play, html, reply
from conftest import Clock

from sora_tools import EndpointUnavailableError, LostReplyError, VideoTask
from sora_tools.dialects.backend import Backend
from sora_tools.flow import ALONE, NO_NEWS, Board, Gateway, Look, Sleep, Tell, sweep, wait

TASK = "task_01jy8k72axednrjcnvmkwpqp11"


def page(*ids: str, has_more: bool = False, **fields: Any) -> Any:
    tasks = [{"id": task_id, "status": "running", **fields} for task_id in ids]
    return reply(200, {"task_responses": tasks, "last_id": None, "has_more": has_more})


def swept(gateway: Gateway, board: Board, lists: list[Any], clock: Clock, until: Callable[[], bool]) -> Play:
    """Run a sweep until something holds."""
    play = Play(clock, [], lists)
    flow = sweep(gateway, board)
    step, value = flow.send, None
    while not until():
        try:
            wish = step(value)
        except StopIteration:
            break
        try:
            step, value = flow.send, play.grant(wish)
        except Exception as error:
            step, value = flow.throw, error
    flow.close()
    return play


def test_one_list_answers_everybody(gateway: Gateway, clock: Clock) -> None:
    board = Board(clock)
    asked = {f"task_{n}": board.ask(f"task_{n}", n / 10) for n in range(50)}
    assert [leads for _, leads in asked.values()].count(True) == 1
    play = swept(gateway, board, [page(*asked)], clock, lambda: all(news.done() for news, _ in asked.values()))
    assert len(play.sent) == 1
    assert all(news.result().task_id == task_id for task_id, (news, _) in asked.items())


def test_a_sweep_reads_as_many_pages_as_it_needs(gateway: Gateway, clock: Clock) -> None:
    board = Board(clock)
    first, second = board.ask("task_a", 0)[0], board.ask("task_b", 0)[0]
    play = swept(gateway, board, [page("task_a", has_more=True), page("task_b")], clock, second.done)
    assert len(play.sent) == 2
    assert first.result().task_id == "task_a"


def test_a_sweep_reads_five_pages_and_leaves_the_rest_to_those_who_wait(gateway: Gateway, clock: Clock) -> None:
    board = Board(clock)
    pages = [page(f"task_{n}", has_more=True) for n in range(5)]
    fifth, sixth = board.ask("task_4", 0)[0], board.ask("task_5", 0)[0]
    play = swept(gateway, board, [*pages, page("task_5")], clock, sixth.done)
    assert (fifth.result().task_id, sixth.result(), len(play.sent)) == ("task_4", ALONE, 5)


class ById(Backend):
    """A format with a route for single tasks."""

    looks_by_id = True


@pytest.mark.parametrize(("waiting", "lists"), [(1, 0), (2, 1), (3, 1)])
def test_where_tasks_have_a_route_a_list_is_read_for_two_and_not_for_one(
    gateway: Gateway, clock: Clock, waiting: int, lists: int
) -> None:
    gateway.dialect = ById()
    board = Board(clock)
    news = {f"task_{n}": board.ask(f"task_{n}", 0)[0] for n in range(waiting)}
    play = swept(gateway, board, [page(*news)], clock, lambda: all(future.done() for future in news.values()))
    assert len(play.sent) == lists
    assert [future.result() is ALONE for future in news.values()] == [lists == 0] * waiting


def test_a_sweep_does_not_ask_a_list_that_cools_down(gateway: Gateway, clock: Clock) -> None:
    gateway.cool_down.begin("list", EndpointUnavailableError("paused"))
    board = Board(clock)
    news = board.ask(TASK, 0)[0]
    play = swept(gateway, board, [page(TASK)], clock, news.done)
    assert (play.sent, news.result()) == ([], ALONE)


@pytest.mark.parametrize("answer", [html(), reply(404, ""), reply(401, "")], ids=["html", "404", "401"])
def test_where_the_list_cannot_answer_everybody_looks_alone(gateway: Gateway, clock: Clock, answer: Any) -> None:
    board = Board(clock)
    news = [board.ask(f"task_{n}", 0)[0] for n in range(3)]
    swept(gateway, board, [answer], clock, lambda: all(future.done() for future in news))
    assert [future.result() for future in news] == [ALONE] * 3


def test_a_passing_trouble_of_the_list_is_told_to_everybody(gateway: Gateway, clock: Clock) -> None:
    board = Board(clock)
    news = [board.ask(f"task_{n}", 0)[0] for n in range(3)]
    swept(gateway, board, [reply(502, "")], clock, lambda: all(future.done() for future in news))
    assert [type(future.result()) for future in news] == [LostReplyError] * 3


def test_a_sweep_that_dies_leaves_nobody_waiting(gateway: Gateway, clock: Clock) -> None:
    board = Board(clock)
    news, leads = board.ask(TASK, 0)
    assert leads
    flow = sweep(gateway, board)
    next(flow)
    with pytest.raises(KeyError):
        flow.throw(KeyError("a bug"))
    assert news.result() is NO_NEWS
    assert board.ask(TASK, 0)[1], "the next one leads a new sweep"


def test_a_sweep_ends_when_nobody_waits(gateway: Gateway, clock: Clock) -> None:
    board = Board(clock)
    news, _ = board.ask(TASK, 5)
    flow = sweep(gateway, board)
    assert isinstance(next(flow), Sleep)
    board.forget(TASK, news)
    with pytest.raises(StopIteration):
        next(flow)
    assert board.ask(TASK, 0)[1]


def test_a_cancelled_wait_does_not_hurt_the_answer(clock: Clock) -> None:
    board = Board(clock)
    first, second = board.ask(TASK, 0)[0], board.ask(TASK, 0)[0]
    first.cancel()
    board.answer(TASK, NO_NEWS)
    assert second.result() is NO_NEWS


def test_a_wait_asks_the_board(gateway: Gateway, clock: Clock) -> None:
    flow = wait(gateway, TASK, 60.0)
    wish: Any = next(flow)
    while not isinstance(wish, Look):
        wish = flow.send(wish.work(*wish.arguments))
    assert (wish.task_id, wish.pause) == (TASK, 0.0)
    assert isinstance(flow.send(VideoTask(task_id=TASK, status="running")), Tell)
    flow.close()
