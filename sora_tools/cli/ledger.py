"""`sora-tools ledger`: what was submitted, what became of it, and what is still to be done about it."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from .. import ledger as ledgers
from ..client.sora import Sora
from ..errors import InvalidRequestError, SoraError, TaskNotFoundError
from ..ledger import Submission
from ..ledger.sqlite import MemoryLedger, SQLiteLedger
from ..prices import Price, added
from ..schemas import shortened
from ..screen import err, plain, watching
from .reporting import AsJson, Ledger, Result, command, exit_code, finish, option, reporting

_UNKNOWN: Final = 5

books = typer.Typer(
    help="Every create that was sent from here, and what became of it.", no_args_is_help=True, rich_markup_mode="rich"
)

Name = Annotated[str, typer.Argument(metavar="KEY", help="A key or task id.", show_default=False)]


@books.command(name="list")
def _list(
    ledger: Ledger = None,
    unfinished: Annotated[bool, option("--unfinished", help="Only what `resume` would take on.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the submissions, newest first."""
    with reporting(as_json=as_json):
        rows = _book(ledger).submissions()
        if unfinished:
            rows = [row for row in rows if _is_open(row)]
        if not rows:
            err.print("No submissions.", style="dim")
        finish(Result({"submissions": list(map(_document, rows))}, "\n".join(map(_line, rows))), as_json=as_json)


@books.command()
def show(name: Name, ledger: Ledger = None, as_json: AsJson = False) -> None:
    """Show all that is known of one submission."""
    with reporting(as_json=as_json):
        row = _named(_book(ledger), name)
        told = {name: value for name, value in _document(row).items() if value not in (None, [], "")}
        text = "\n".join(f"{name:<12} {plain(_text(value))}" for name, value in told.items())
        finish(Result(_document(row), text), as_json=as_json)


@books.command()
def forget(
    name: Name,
    ledger: Ledger = None,
    yes: Annotated[bool, option("--yes", help="Also one that may be paid for: its video is lost then.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a submission out, so that its key may be used anew."""
    with reporting(as_json=as_json):
        book = _book(ledger)
        row = _named(book, name)
        if not (row.finished or yes):
            raise InvalidRequestError(
                f"{row.key} is {_fate(row)}: a video may be paid for that nobody would look for any more.",
                hint="Resume it first, or say --yes.",
                charged="unknown" if row.task_id is None else "yes",
                key=row.key,
            )
        if not book.forget(row.key):
            raise InvalidRequestError(f"{row.key} is under way right now.", hint="Try again later.", key=row.key)
        finish(Result({"forgotten": row.key}, row.key), as_json=as_json)


@books.command()
def export(ledger: Ledger = None) -> None:
    """Print every submission, oldest first, one JSON object a line."""
    with reporting():
        for row in reversed(_book(ledger).submissions()):
            print(json.dumps(_document(row)))


@books.command()
def total(
    ledger: Ledger = None,
    days: Annotated[float | None, option(min=0, help="Only what was sent in so many days.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add up what the creates cost, by what became of them, as far as their price was known."""
    with reporting(as_json=as_json):
        since = float("-inf") if days is None else time.time() - days * 86_400
        sums = _totals(row for row in _book(ledger).submissions() if row.sent_at > since)
        if not sums:
            err.print("No submissions.", style="dim")
        finish(Result({"total": sums}, "\n".join(map(_sum_line, sums))), as_json=as_json)


@partial(command, books)
def resume(
    sora: Sora,
    names: Annotated[
        list[str] | None, typer.Argument(help="Keys or task ids; all that are unfinished.", show_default=False)
    ] = None,
    directory: Annotated[Path, typer.Option("--directory", "-d", help="Folder to save to; made if missing.")] = Path(
        "videos"
    ),
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for each at most.")] = 600.0,
) -> Result:
    """Take every unfinished submission on: look for it, wait, download. Nothing is ever created."""
    book, here = sora.gateway.ledger, sora.gateway.settings.origin
    if names:
        rows = [_ours(book, name, here) for name in names]
    else:
        open_rows = [row for row in reversed(book.submissions()) if _is_open(row)]
        rows = [row for row in open_rows if row.gateway == here]
        for gateway in sorted({row.gateway for row in open_rows} - {here}):
            err.print(f"There are more for {plain(gateway)}: resume them with its --base-url.", style="dim")
    if not rows:
        err.print("Nothing to resume here.", style="dim")
    told = []
    for row in rows:
        told.append(_taken_on(sora, row, timeout, directory))
        if told[-1][0].get("error", {}).get("code") == "not_sent" and len(told) < len(rows):
            err.print(f"The gateway is not reached: {len(rows) - len(told)} more were not tried.", style="dim")
            break
    codes = {code for _, _, code in told}
    worst = _UNKNOWN if _UNKNOWN in codes else max(codes, default=0)
    return Result({"submissions": [facts for facts, _, _ in told]}, "\n".join(text for _, text, _ in told), worst)


def _taken_on(sora: Sora, row: Submission, timeout: float, directory: Path) -> tuple[Mapping[str, Any], str, int]:
    """What came of one: for programs, for people, and as an exit code."""
    name = row.task_id or row.key
    try:
        with watching() as listener:
            task = sora.resume(name, timeout=timeout, directory=directory, on_event=listener)
    except SoraError as error:
        known = _document(sora.gateway.ledger.find(row.key) or row)
        code = _UNKNOWN if error.code == "submission_unknown" else exit_code(error)
        return {**known, "error": error.describe()}, f"{plain(name)}  {error.code}: {plain(str(error))}", code
    files = [str(generation.file.resolve()) for generation in task.generations if generation.file]
    return _document(sora.gateway.ledger.find(row.key) or row), "\n".join(files), 0


def _is_open(row: Submission) -> bool:
    """Whether there is something left to do, and not another submission's task that this one was given."""
    return not row.finished and row.reuses is None


def _book(given: str | None) -> ledgers.Ledger:
    """The ledger. A file that is not there is not made by looking into it."""
    book = ledgers.ledger(given)
    if isinstance(book, SQLiteLedger) and not book.path.exists():
        err.print(f"There is no ledger at {plain(str(book.path))} yet.", style="dim")
        return MemoryLedger()
    return book


def _ours(book: ledgers.Ledger, name: str, here: str) -> Submission:
    """A submission to this gateway: no other one knows of its task."""
    row = _named(book, name)
    if row.gateway == here:
        return row
    raise InvalidRequestError(
        f"{row.key} was sent to {row.gateway}, and this is {here}.",
        hint="Nothing was asked. Resume it with its --base-url.",
        key=row.key,
    )


def _named(book: ledgers.Ledger, name: str) -> Submission:
    rows = [row for row in book.submissions() if name in (row.key, row.task_id)]
    if not rows:
        hint = "`sora-tools ledger list` shows all."
        raise TaskNotFoundError(f"The ledger has no submission {plain(name)!r}.", hint=hint)
    return next((row for row in rows if not row.reuses), rows[0])


def _document(row: Submission) -> dict[str, Any]:
    amount, currency = (None, None) if row.price is None else (f"{row.price.amount:f}", row.price.currency)
    return {**asdict(row), "files": list(row.files), "price": amount, "currency": currency}


def _totals(rows: Iterable[Submission]) -> list[dict[str, Any]]:
    """What they cost, by state and currency. What was refused costs nothing; what was given another's task is it."""
    amounts = defaultdict(list)
    for row in rows:
        if row.reuses is None:
            state = "unsure" if row.unresolved else row.state
            amounts[state, row.price and row.price.currency].append(row.price)
    return [
        {"state": state, "creates": len(prices), "amount": _sum(state, prices), "currency": currency}
        for (state, currency), prices in sorted(amounts.items(), key=lambda item: (item[0][0], item[0][1] or "~"))
    ]


def _sum(state: str, prices: list[Price | None]) -> str | None:
    known = [] if state == "refused" else [(price.amount, 1) for price in prices if price is not None]
    return f"{added(known):f}" if any(price is not None for price in prices) else None


_MEANS: Final = {"accepted": "paid for", "unsure": "may be paid for", "refused": "not paid for"}


def _sum_line(told: Mapping[str, Any]) -> str:
    amount = "no price known" if told["amount"] is None else f"{told['amount']} {plain(told['currency'])}"
    creates = f"{told['creates']} create{'s' if told['creates'] > 1 else ''}"
    return f"{told['state']:<9}  {creates:>13}  {amount:>20}  {_MEANS[told['state']]}"


def _fate(row: Submission) -> str:
    """What is known of it, in a word."""
    if row.files:
        return "saved"
    return "unsure" if row.unresolved else row.outcome or row.state


def _line(row: Submission) -> str:
    made = datetime.fromtimestamp(row.intended_at).astimezone().strftime("%Y-%m-%d %H:%M")
    prompt = shortened(plain(str(row.body.get("prompt") or "")), 60)
    return f"{plain(row.task_id or row.key):<31}  {_fate(row):<9}  {made}  {prompt}".rstrip()


def _text(value: Any) -> str:
    if isinstance(value, float):
        return datetime.fromtimestamp(value).astimezone().isoformat(timespec="seconds")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
