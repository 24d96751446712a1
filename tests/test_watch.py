"""Many tasks watched at once, as a chat back end does that says when each video is ready."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from sora_tools import (
    AsyncSora,
    ConfigurationError,
    InvalidRequestError,
    SoraError,
    TaskNotFoundError,
    VideoTask,
    WaitTimeoutError,
)
from sora_tools.events import Event, GivenUp, Retrying, Seen
from sora_tools.sandbox import Sandbox


def client(box: Sandbox, **settings: Any) -> AsyncSora:
    return AsyncSora(base_url=box.base_url, api_key="sk-any", **settings)


def ends(events: list[Any]) -> dict[str, str]:
    """The last that was told of each task: its status, or the code of the error it was given up with."""
    return {
        event.task.task_id if isinstance(event, Seen) else event.name: event.task.status
        if isinstance(event, Seen)
        else event.error.code
        for event in events
        if isinstance(event, Seen | GivenUp)
    }


async def others() -> set[asyncio.Task[Any]]:
    """The tasks of this loop that are still there after a moment, this one aside."""
    for _ in range(40):
        left = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
        if not left:
            break
        await asyncio.sleep(0.05)
    return left


async def test_tasks_are_watched_until_each_has_ended(sandbox: Sandbox, quick: Any) -> None:
    async with client(sandbox) as sora:
        tasks = [(await sora.create(quick)).task_id for _ in range(3)]
        events = [event async for event in sora.watch(tasks)]
    assert ends(events) == dict.fromkeys(tasks, "succeeded")
    last = [event.task for event in events if isinstance(event, Seen) and event.task.ended]
    assert sorted(task.task_id for task in last) == sorted(tasks)
    assert all(task.generations[0].url for task in last)
    assert sandbox.creates == 3


async def test_one_look_answers_for_many(sandbox: Sandbox, quick: Any) -> None:
    async with client(sandbox) as sora:
        tasks = [(await sora.create(quick)).task_id for _ in range(20)]
        before = len(sandbox.requests)
        events = [event async for event in sora.watch(tasks)]
    assert ends(events) == dict.fromkeys(tasks, "succeeded")
    assert len(sandbox.requests) - before < len(tasks)


async def test_one_that_fails_is_missing_or_cannot_be_asked_for_does_not_disturb_the_others(
    sandbox: Sandbox, quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sora_tools.flow.look.UNVOUCHED", 0.2)
    async with client(sandbox) as sora:
        sandbox.script("task", "moderation_output")
        failing = (await sora.create(quick)).task_id
        fine = (await sora.create(quick)).task_id
        events = [event async for event in sora.watch([failing, fine, "task_nobody", "../../etc/passwd"])]
    assert ends(events) == {
        failing: "failed",
        fine: "succeeded",
        "task_nobody": "task_not_found",
        "../../etc/passwd": "invalid_request",
    }
    given_up = [event for event in events if isinstance(event, GivenUp)]
    assert [type(event.error) for event in given_up] == [InvalidRequestError, TaskNotFoundError]


async def test_a_bug_of_ours_is_logged_and_ends_the_watch_of_that_task_alone(
    sandbox: Sandbox, quick: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with client(sandbox) as sora:
        broken, fine = [(await sora.create(quick)).task_id for _ in range(2)]
        ask = sora.gateway.ledger.named

        def named(origin: str, name: str) -> Any:
            return ask(origin, name) if name != broken else {}["bug"]

        monkeypatch.setattr(sora.gateway.ledger, "named", named)
        events = [event async for event in sora.watch([broken, fine])]
    assert ends(events) == {broken: SoraError.code, fine: "succeeded"}
    assert "KeyError" in caplog.text


async def test_a_key_stands_for_its_task_and_one_given_twice_is_watched_once(sandbox: Sandbox, quick: Any) -> None:
    async with client(sandbox) as sora:
        task_id = (await sora.create(quick, key="mine")).task_id
        events = [event async for event in sora.watch(["mine", task_id, "mine", task_id])]
    assert ends(events) == {task_id: "succeeded"}
    assert len([event for event in events if isinstance(event, Seen) and event.task.ended]) == 1


async def test_one_id_may_be_given_as_it_is(sandbox: Sandbox, quick: Any) -> None:
    async with client(sandbox) as sora:
        task_id = (await sora.create(quick)).task_id
        assert ends([event async for event in sora.watch(task_id)]) == {task_id: "succeeded"}


async def test_of_no_tasks_nothing_is_told(sandbox: Sandbox) -> None:
    async with client(sandbox) as sora:
        assert [event async for event in sora.watch([])] == []
    assert sandbox.requests == ()


async def test_what_had_not_ended_in_time_is_given_up_as_it_was_seen_last(brisk: None, quick: Any) -> None:
    with Sandbox(speed=0.001) as slow:
        async with client(slow) as sora:
            tasks = [(await sora.create(quick)).task_id for _ in range(2)]
            events = [event async for event in sora.watch(iter(tasks), timeout=0.5)]
    given_up = {event.name: event.error for event in events if isinstance(event, GivenUp)}
    assert set(given_up) == set(tasks)
    for name, error in given_up.items():
        assert isinstance(error, WaitTimeoutError)
        assert error.task.task_id == name


async def test_news_are_told_once_and_trouble_on_the_way_is_told(brisk: None, quick: Any) -> None:
    with Sandbox(speed=2) as box:
        async with client(box) as sora:
            task_id = (await sora.create(quick)).task_id
            box.script("list", "error_500", times=1)
            events = [event async for event in sora.watch([task_id])]
    assert any(isinstance(event, Retrying) and event.error.task_id == task_id for event in events)
    tasks = [event.task for event in events if isinstance(event, Seen)]
    seen = [(task.status, task.progress, task.queue_position) for task in tasks]
    assert len(seen) == len(set(seen)) > 2
    assert events[-1].task.status == "succeeded"


@pytest.mark.parametrize("wrong", [-1, float("nan"), 1e9])
async def test_a_timeout_out_of_bounds_is_refused_once(sandbox: Sandbox, wrong: float) -> None:
    async with client(sandbox) as sora:
        with pytest.raises(InvalidRequestError, match="timeout"):
            await anext(sora.watch(["task_1", "task_2"], timeout=wrong))
    assert sandbox.requests == ()


async def test_a_closed_client_watches_nothing(sandbox: Sandbox) -> None:
    sora = client(sandbox)
    await sora.close()
    with pytest.raises(ConfigurationError, match="closed"):
        await anext(sora.watch(["task_1"]))


# --- who leaves early, and who is slow --------------------------------------------------------------------------


async def closed_behind(events: AsyncGenerator[Event]) -> None:
    async with aclosing(events):
        await anext(events)


async def left(events: AsyncGenerator[Event]) -> None:
    async for _ in events:
        break


@pytest.mark.parametrize("leave", [closed_behind, left])
async def test_who_leaves_the_loop_leaves_nothing_behind(brisk: None, quick: Any, leave: Callable[..., Any]) -> None:
    with Sandbox(speed=0.001) as slow:
        async with client(slow) as sora:
            tasks = [(await sora.create(quick)).task_id for _ in range(5)]
            await leave(sora.watch(tasks))
            gc.collect()
            assert await others() == set()
            before = len(slow.requests)
            await asyncio.sleep(0.5)
            assert len(slow.requests) == before
            assert (await sora.query(tasks[0])).status == "queued"
    assert not any(request.method == "DELETE" for request in slow.requests)


async def test_a_consumer_that_is_cancelled_leaves_nothing_behind(brisk: None, quick: Any) -> None:
    with Sandbox(speed=0.001) as slow:
        async with client(slow) as sora:
            tasks = [(await sora.create(quick)).task_id for _ in range(5)]

            async def consume() -> None:
                async for _ in sora.watch(tasks):
                    begun.set()

            begun = asyncio.Event()
            consumer = asyncio.create_task(consume())
            await begun.wait()
            consumer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await consumer
            del consumer
            assert await others() == set()


def test_a_loop_that_ends_in_the_middle_of_a_watch_leaves_nothing_behind(brisk: None, quick: Any) -> None:
    """Warnings are errors here: a task destroyed while pending, or a socket left open, would be one."""

    async def main(box: Sandbox) -> None:
        sora = client(box)
        tasks = [(await sora.create(quick)).task_id for _ in range(3)]
        watch = sora.watch(tasks)
        await anext(watch)
        await asyncio.sleep(0.1)

    with Sandbox(speed=0.001) as slow:
        asyncio.run(main(slow))
    gc.collect()


async def test_a_slow_consumer_finds_the_newest_and_misses_no_end(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not taken is replaced by what is newer, so that its memory is bounded by the number of tasks."""
    steps = 500

    def told_quickly(gateway: Any, name: str, timeout: float) -> Any:
        from sora_tools.flow import Sleep, Tell

        for step in range(steps):
            yield Tell(Seen(VideoTask(task_id=name, status="running", progress=step / steps)))
            yield Sleep(0.0)
        yield Tell(Seen(VideoTask(task_id=name, status="succeeded")))

    monkeypatch.setattr("sora_tools.flow.wait", told_quickly)
    names = [f"task_{number}" for number in range(10)]
    events: list[Any] = []
    async with client(sandbox) as sora:
        async for event in sora.watch(names):
            if not events:
                await asyncio.sleep(1.0)
            events.append(event)
    assert ends(events) == dict.fromkeys(names, "succeeded")
    assert len(events) <= 3 * len(names)


@pytest.mark.timeout(180)
async def test_a_thousand_are_watched_at_once(brisk: None, quick: Any) -> None:
    with Sandbox(render=False, speed=2) as box:
        async with client(box) as sora:
            known = []
            for _ in range(10):
                known += await asyncio.gather(*(sora.create(quick) for _ in range(20)))
            tasks = [task.task_id for task in known]
            missing = [f"../{number}" for number in range(800)]
            events = [event async for event in sora.watch([*tasks, *missing], timeout=120)]
    assert ends(events) == {**dict.fromkeys(tasks, "succeeded"), **dict.fromkeys(missing, "invalid_request")}
    assert len([event for event in events if isinstance(event, GivenUp)]) == 800
