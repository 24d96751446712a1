"""What the command line shows: tasks as text, and events as a bar on a terminal or as lines elsewhere.

Rule: what a gateway or a model wrote passes `plain` before it meets a terminal, and nothing but a conversation is ever
wrapped, and that on a terminal alone, so that ids, addresses and paths can be copied and grepped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from .events import Adjusted, Downloading, Event, Retrying, Saved, Seen, in_words
from .flow import GatewayProbe
from .schemas import VideoTask, shortened

err = Console(highlight=False, markup=False, soft_wrap=True, stderr=True)


def plain(text: str) -> str:
    """The text without what could steer a terminal or break a line."""
    return "".join(char if char.isprintable() else " " for char in text)


def described(task: VideoTask) -> str:
    """A task in a few lines."""
    lines = [f"{plain(task.task_id)}  {plain(in_words(task))}"]
    if task.request and task.request.prompt:
        lines.append(f"  prompt   {plain(task.request.prompt)}")
    if task.failure:
        lines.append(f"  failure  {task.failure.kind}: {plain(task.failure.message)}")
    lines += [f"  video    {plain(generation.url)}" for generation in task.generations if generation.url]
    return "\n".join(lines)


def probed(found: GatewayProbe) -> str:
    """What a gateway answered to a probe: a line for each format, and what is known of the account."""
    width = max(len(each.dialect) for each in found.formats)
    lines = [
        f"{each.dialect:<{width}}  {each.state:<14}  {each.seconds:>6.2f} s  {shortened(plain(each.evidence), 160)}"
        for each in found.formats
    ]
    if found.models is not None:
        some = shortened(plain(", ".join(found.models)), 160)
        lines.append(f"{'models':<{width}}  {len(found.models)}: {some}")
    if found.left is not None:
        lines.append(f"{'left':<{width}}  {found.left:g} to spend, in the gateway's own unit")
    return "\n".join([*lines, *map(plain, found.advice)])


def row(task: VideoTask) -> str:
    """A task as a line of a list."""
    made = task.created_at.astimezone().strftime("%Y-%m-%d %H:%M") if task.created_at else "-"
    prompt = task.request.prompt if task.request and task.request.prompt else ""
    return f"{plain(task.task_id)}  {plain(in_words(task)):<15}  {made:<16}  {shortened(plain(prompt), 60)}".rstrip()


def say(who: str, what: str) -> None:
    """One line of a conversation; on a terminal it goes on below itself, broken between words."""
    width = max(err.width - 9, 20) if err.is_terminal else sys.maxsize
    for line in Text(plain(what)).wrap(err, width, overflow="fold"):
        err.print(Text.assemble((f"{who:<8} ", "cyan"), line))
        who = ""


def complain(code: str, *sentences: str) -> None:
    """One line of what went wrong; a sentence that others follow ends like one."""
    *others, last = filter(None, map(str.rstrip, sentences))
    ended = [text if text.endswith((".", "!", "?", "。", "…")) else f"{text}." for text in others]
    err.print(plain(f"{code}: {' '.join([*ended, last])}"), style="red")


def bill(creates: int, charged: Decimal | None) -> str:
    """What a run has come to; ``charged`` is None at a gateway that is paid."""
    counted = f"{creates} create{'s' if creates != 1 else ''}"
    if charged is None:
        return f"The gateway accepted {counted}, at its own price."
    return f"The sandbox counted {counted}; a paid gateway would have charged {charged:.2f}."


@contextmanager
def watching() -> Iterator[Callable[[Event], None]]:
    """A listener that shows events on stderr; the bar appears with the first one."""
    if not err.is_terminal:
        yield lines()
        return
    columns = BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    progress = Progress(*columns, console=err, redirect_stdout=False, redirect_stderr=False)
    bar = progress.add_task("waiting", total=1.0)

    def show(event: Event) -> None:
        progress.start()
        match event:
            case Seen(task):
                done = 1.0 if task.status == "succeeded" else task.progress or 0.0
                progress.update(bar, description=plain(in_words(task)), completed=done, total=1.0)
            case Downloading(_, _, received, total):
                progress.update(bar, description="saving", completed=received, total=total)
            case Saved(_, _, size):
                progress.update(bar, description=f"saved, {_kilobytes(size)}", completed=1.0, total=1.0)
                progress.stop()  # the bar stays where it is, and what is said next stands below it
            case Retrying():
                progress.update(bar, description=_trouble(event))

    try:
        yield show
    finally:
        progress.stop()


def lines() -> Callable[[Event], None]:
    """A listener for logs and pipes: each state once, progress in steps of a tenth."""
    last: Any = None

    def show(event: Event) -> None:
        nonlocal last
        match event:
            case Seen(task):
                step = task.status, task.queue_position or None, int((task.progress or 0.0) * 10)
                if step != last:
                    err.print(f"{plain(task.task_id)} {plain(in_words(task))}")
                last = step
            case Saved(_, path, size):
                err.print(f"saved {path.name}, {_kilobytes(size)}")
            case Retrying() if event.error.message != last:
                err.print(_trouble(event))
                last = event.error.message

    return show


def retries(event: Event) -> None:
    """A listener for calls that are answered at once: tells why one was not, and what is made other than asked for."""
    match event:
        case Retrying():
            err.print(_trouble(event))
        case Adjusted(_, sentence):
            err.print(plain(sentence))


def _kilobytes(size: int) -> str:
    return f"{size / 1000:,.0f} kB"


def _trouble(event: Retrying) -> str:
    when = f"in {event.seconds:.1f} s" if event.seconds >= 0.05 else "at once"
    return plain(f"Trying again {when}: {event.error.message}")
