"""What every command has in common: a client, a result for programs and for people, errors, and exit codes.

Rule: whatever a gateway does ends in one line or one JSON document, and in the exit code that says what to do next.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from ..client.sora import Sora
from ..errors import ConfigurationError, SoraError
from ..events import Event
from ..schemas import VideoTask
from ..screen import complain, retries

EXIT_CODES: Final = {
    "error": 1,
    "configuration": 2,
    "invalid_request": 2,
    "authentication": 3,
    "quota": 3,
    "endpoint_unavailable": 4,
    "busy": 4,
    "not_sent": 4,
    "lost_reply": 4,
    "unreadable_reply": 4,
    "submission_unknown": 5,
    "task_failed": 6,
    "wait_timeout": 7,
    "download_failed": 8,
    "task_not_found": 9,
}
"""From an error's code to the command's. A create whose fate is unknown is 5 by whatever name."""

_CHARGED: Final = {"no": "Nothing was charged.", "unknown": "It may be charged.", "yes": "It is charged."}

option = partial(typer.Option, show_default=False)
"""For those whose default is to leave something out."""

_gateway = partial(option, rich_help_panel="Gateway")


Ledger = Annotated[
    str | None, _gateway(envvar="SORA_LEDGER", metavar="FILE", help="Where submissions are written down.")
]
AsJson = Annotated[bool, option("--json", help="Print one JSON document, errors included.")]


def _shared_options(
    base_url: Annotated[str | None, _gateway(envvar="SORA_BASE_URL", help="The gateway's address.")] = None,
    api_key_file: Annotated[Path | None, _gateway(help="File with the API key, in place of SORA_API_KEY.")] = None,
    dialect: Annotated[str | None, _gateway(envvar="SORA_DIALECT", help="The gateway's format.")] = None,
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """The options of every command that asks a gateway, declared here and nowhere else."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command found out: for programs, for people, and as an exit code."""

    document: Mapping[str, Any]
    text: str
    exit_code: int = 0


def command(app: typer.Typer, work: Callable[..., Result]) -> Callable[..., Result]:
    """Register a command that asks a gateway: ``work`` takes a client, then its own options, and gives its result."""

    @wraps(work)
    def run(
        *,
        base_url: str | None,
        api_key_file: Path | None,
        dialect: str | None,
        ledger: str | None,
        as_json: bool,
        **own: Any,
    ) -> None:
        with reporting(own.get("task_id"), as_json=as_json, paid=work.__name__ == "create"):
            key = None if api_key_file is None else _key(api_key_file)
            with _TellingSora(base_url=base_url, api_key=key, dialect=dialect, ledger=ledger) as sora:
                result = work(sora, **own)
        finish(result, as_json=as_json)

    _, *own = inspect.signature(work, eval_str=True).parameters.values()
    shared = inspect.signature(_shared_options, eval_str=True).parameters.values()
    parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in (*own, *shared)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command()(run)
    return work


def finish(result: Result, *, as_json: bool) -> NoReturn:
    """Print a result, and end with its exit code."""
    if text := json.dumps(result.document) if as_json else result.text:
        print(text)
    raise typer.Exit(result.exit_code)


class _TellingSora(Sora):
    """A client that says when it tries again, whatever the call."""

    def run(self, flow: Any, on_event: Callable[[Event], Any] | None = None) -> Any:
        return super().run(flow, on_event or retries)


@contextmanager
def reporting(task_id: str | None = None, *, as_json: bool = False, paid: bool = False) -> Iterator[dict[str, Any]]:
    """Turn what goes wrong into one line, or one JSON document, and an exit code.

    Args:
        task_id: The task this is about, where it is known; else it may be put into what is yielded, once it is.
        as_json: Whether to print a document.
        paid: Whether a create may be on its way.
    """
    known = {"task_id": task_id} if task_id else {}
    try:
        yield known
    except SoraError as error:
        print_error(error.describe(), error, as_json=as_json)
        raise typer.Exit(exit_code(error)) from None
    except KeyboardInterrupt:
        hint = "A create may have been accepted: `sora-tools ledger resume` looks for it." if paid else ""
        hint = f"{known['task_id']} goes on at the gateway: `sora-tools wait` takes it up again." if known else hint
        print_error({"code": "interrupted", "message": "Stopped here.", "hint": hint, **known}, as_json=as_json)
        raise typer.Exit(130) from None


def exit_code(error: SoraError) -> int:
    """The exit code that says what to do about this error."""
    is_create = error.key is not None
    return 5 if is_create and error.charged == "unknown" else EXIT_CODES[error.code]


def document(task: VideoTask) -> dict[str, Any]:
    """A task for programs, without the gateway's own object."""
    return task.model_dump(mode="json", exclude={"raw"})


def print_error(facts: Mapping[str, Any], error: SoraError | None = None, *, as_json: bool) -> None:
    """Say what went wrong: in red to people, in a document to programs."""
    if as_json:
        task = error and error.task
        print(json.dumps({"error": facts, **({"task": document(task)} if task else {})}))
        return
    known = _CHARGED[facts["charged"]] if facts.get("key") and "Nothing was sent" not in facts["hint"] else ""
    complain(facts["code"], facts["message"], known, facts["hint"])


def _key(file: Path) -> str:
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"--api-key-file: {file} cannot be read.") from None
    if not key:  # else SORA_API_KEY would be used, and that may be another account's
        raise ConfigurationError(f"--api-key-file: {file} is empty.")
    return key
