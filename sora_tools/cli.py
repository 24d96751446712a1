"""The `sora-tools` command (extra `cli`).

Rule: stdout carries the result and nothing else, stderr what is said on the way; the exit code says what to do next.

    0  done
    1  a bug in this program, with a traceback
    2  the request, a setting or the command line is wrong: nothing was sent
    3  the key was refused, or the account has nothing left
    4  the gateway is busy, not serving this, or not heard: try again later
    5  it is unknown whether a create was accepted: do not repeat it, look
    6  the task ended without a video
    7  the task is still rendering
    8  the video exists and could not be saved: download it again
    9  the gateway shows no such task
    130  interrupted

With `--json`, stdout is one JSON document whatever the gateway does; an `error` member in it says what went wrong.
The key comes from `SORA_API_KEY` or a file, never from an argument, which other users of the machine could read.
"""

from __future__ import annotations

import errno
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

try:
    import typer

    from .screen import bill, complain, described, err, plain, retries, row, say, watching
except ModuleNotFoundError as missing:  # the command imports this module first: only here can it still be polite
    if missing.name not in {"rich", "typer"}:
        raise
    print(f"The sora-tools command needs {missing.name}: pip install 'sora-tools[cli]'", file=sys.stderr)
    raise SystemExit(2) from None

from . import __version__
from .client.sora import Sora
from .errors import ConfigurationError, InvalidRequestError, SoraError
from .events import Event, Submitted
from .schemas import VideoRequest, VideoTask

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

EXAMPLE: Final = "A paper boat sails down a rainy street at night, past neon lights"
"""What the demo asks for when nobody says."""

_TABLE: Final = [line.strip() for line in (__doc__ or "").splitlines() if re.match(r"    [0-9]", line)]

app = typer.Typer(
    name="sora-tools",
    help="Create and query videos at any Sora-format gateway. Start with `sora-tools demo`: it needs no key.",
    epilog="\n".join(["Exit codes:\n", *_TABLE]),
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Run the command line."""
    app(prog_name="sora-tools")


_option = partial(typer.Option, show_default=False)  # for those whose default is to leave something out


@app.callback(invoke_without_command=True)
def _alone(version: Annotated[bool, _option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"sora-tools {__version__}")
        raise typer.Exit


# --- what every command has in common ----------------------------------------------------------------------------

_gateway = partial(_option, rich_help_panel="Gateway")


def _shared_options(
    base_url: Annotated[str | None, _gateway(envvar="SORA_BASE_URL", help="The gateway's address.")] = None,
    api_key_file: Annotated[Path | None, _gateway(help="File with the API key, in place of SORA_API_KEY.")] = None,
    dialect: Annotated[str | None, _gateway(envvar="SORA_DIALECT", help="The gateway's format.")] = None,
    as_json: Annotated[bool, _option("--json", help="Print one JSON document, errors included.")] = False,
) -> None:
    """The options of every command that asks a gateway, declared here and nowhere else."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command found out: for programs, for people, and as an exit code."""

    document: Mapping[str, Any]
    text: str
    exit_code: int = 0


def command(work: Callable[..., Result]) -> Callable[..., None]:
    """Register a command that asks a gateway: ``work`` takes a client, then its own options, and gives its result."""

    @wraps(work)
    def run(*, base_url: str | None, api_key_file: Path | None, dialect: str | None, as_json: bool, **own: Any) -> None:
        with reporting(own.get("task_id"), as_json=as_json, paid=work.__name__ == "create"):
            key = None if api_key_file is None else _key(api_key_file)
            with _TellingSora(base_url=base_url, api_key=key, dialect=dialect) as sora:
                result = work(sora, **own)
        if text := json.dumps(result.document) if as_json else result.text:
            print(text)
        raise typer.Exit(result.exit_code)

    _, *own = inspect.signature(work, eval_str=True).parameters.values()
    shared = inspect.signature(_shared_options, eval_str=True).parameters.values()
    parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in (*own, *shared)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command()(run)
    return run


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
        _print_error(error.describe(), error, as_json=as_json)
        raise typer.Exit(exit_code(error)) from None
    except KeyboardInterrupt:
        hint = "A create may have been accepted: look at `sora-tools list` before creating it again." if paid else ""
        hint = f"{known['task_id']} goes on at the gateway: `sora-tools wait` takes it up again." if known else hint
        _print_error({"code": "interrupted", "message": "Stopped here.", "hint": hint, **known}, as_json=as_json)
        raise typer.Exit(130) from None


def exit_code(error: SoraError) -> int:
    """The exit code that says what to do about this error."""
    is_create = error.key is not None
    return 5 if is_create and error.charged == "unknown" else EXIT_CODES[error.code]


def _document(task: VideoTask) -> dict[str, Any]:
    return task.model_dump(mode="json", exclude={"raw"})


def _print_error(facts: Mapping[str, Any], error: SoraError | None = None, *, as_json: bool) -> None:
    if as_json:
        task = getattr(error, "task", None)
        print(json.dumps({"error": facts, **({"task": _document(task)} if task else {})}))
        return
    safe = "Nothing was charged." if facts.get("key") and facts["charged"] == "no" else ""
    complain(facts["code"], facts["message"], safe, facts["hint"])


def _key(file: Path) -> str:
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"--api-key-file: {file} cannot be read.") from None
    if not key:  # else SORA_API_KEY would be used, and that may be another account's
        raise ConfigurationError(f"--api-key-file: {file} is empty.")
    return key


# --- the commands ------------------------------------------------------------------------------------------------

_video = partial(_option, rich_help_panel="Video")


def _field(name: str, *names: str, **settings: Any) -> Any:
    """An option for a documented field, described in the schema's own words."""
    return _video(*names, help=VideoRequest.model_fields[name].description, **settings)


TaskId = Annotated[str, typer.Argument(help="The task id that create printed.", show_default=False)]
Directory = Annotated[Path, typer.Option("--directory", "-d", help="Folder to save to; made if missing.")]


@command
def create(
    sora: Sora,
    prompt: Annotated[str | None, typer.Argument(help="Text that describes the video.", show_default=False)] = None,
    width: Annotated[int | None, _field("width")] = None,
    height: Annotated[int | None, _field("height")] = None,
    frames: Annotated[int | None, _field("n_frames", "--frames")] = None,
    variants: Annotated[int | None, _field("n_variants", "--variants")] = None,
    operation: Annotated[str | None, _field("operation", metavar="NAME")] = None,
    image: Annotated[list[str] | None, _video(metavar="URL", help="Image to build on; again for more.")] = None,
    model: Annotated[str | None, _field("model")] = None,
    request: Annotated[Path | None, _video(help="JSON file of documented fields (- is stdin); options win.")] = None,
    key: Annotated[str | None, _option(help="Sent as Idempotency-Key; no command remembers it for another.")] = None,
) -> Result:
    """Start one paid video, and print its task id at once."""
    options: dict[str, Any] = {
        "prompt": prompt,
        "width": width,
        "height": height,
        "n_frames": frames,
        "n_variants": variants,
        "operation": operation,
        "inpaint_items": [{"url": url} for url in image] if image else None,
        "model": model,
    }
    given = {name: value for name, value in options.items() if value is not None}
    task = sora.create(None if request is None else _fields(request), key=key, **given)
    return Result(_document(task), plain(task.task_id))


@command
def query(sora: Sora, task_id: TaskId) -> Result:
    """Look a task up once; the exit code tells its state (0, 6 or 7)."""
    task = sora.query(task_id)
    code = 0 if task.status == "succeeded" else EXIT_CODES["task_failed" if task.ended else "wait_timeout"]
    return Result(_document(task), described(task), code)


@command
def wait(
    sora: Sora,
    task_id: TaskId,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds after which to give up.")] = 600.0,
) -> Result:
    """Look at a task until it has ended."""
    with watching() as listener:
        task = sora.wait(task_id, timeout=timeout, on_event=listener)
    return Result(_document(task), described(task))


@command
def download(sora: Sora, task_id: TaskId, directory: Directory = Path("videos")) -> Result:
    """Save every video of a finished task, and print where."""
    with watching() as listener:
        files = [str(file.resolve()) for file in sora.download(task_id, directory, on_event=listener)]
    return Result({"task_id": task_id, "files": files}, "\n".join(files))


def _list(
    sora: Sora,
    limit: Annotated[int, typer.Option(help="Tasks to show, 1 to 100.")] = 10,
    before: Annotated[str | None, _option(help="Show what is older than this.")] = None,
) -> Result:
    """Show the gateway's tasks, newest first."""
    page = sora.list(limit, before)
    if not page.tasks:
        err.print("No tasks.", style="dim")
    if page.before:
        err.print(f"There are more: sora-tools list --before {plain(page.before)}", style="dim")
    document = {"tasks": [_document(task) for task in page.tasks], "before": page.before}
    return Result(document, "\n".join(map(row, page.tasks)))


_list.__name__ = "list"  # as a global name it would hide the built-in
command(_list)


def _fields(file: Path) -> dict[str, Any]:
    try:
        given = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"--request: {file} cannot be read: {error}.", hint="Nothing was sent.") from None
    if not isinstance(given, dict):
        raise InvalidRequestError(f"--request: {file} is not a JSON object.", hint="Nothing was sent.")
    return given


# --- without a gateway of one's own ------------------------------------------------------------------------------


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    key: Annotated[list[str] | None, _option(help="A key to let in; without any, every key is.")] = None,
    speed: Annotated[float, typer.Option(min=0.01, help="How many times faster than 6 s a video is done.")] = 1.0,
    allow_remote: Annotated[bool, _option("--allow-remote", help="Let other machines reach it.")] = False,
) -> None:
    """Run a gateway on this machine, free and with real MP4s, until Ctrl-C."""
    here: list[Any] = []

    def announce(started: Any) -> None:
        here.append(started)
        print(f"A sandbox gateway is at {started.base_url}. Ctrl-C ends it.")
        print("In another terminal:")
        print(f"export SORA_BASE_URL={started.base_url}")
        print(f"export SORA_API_KEY={'<one of your keys>' if key else 'any'}", flush=True)

    with reporting():
        gateway = _extra("sandbox")
        if not (allow_remote or gateway.is_loopback(host)):
            hint = "Say --allow-remote if other machines are meant to reach it."
            raise ConfigurationError(f"{host} is not a loopback address such as 127.0.0.1.", hint=hint)
        try:
            gateway.serve(host, port, announce=announce, keys=key or None, speed=speed, allow_remote=allow_remote)
        except OSError as error:
            hint = "Give another --port; 0 takes a free one." if error.errno == errno.EADDRINUSE else ""
            message = f"The sandbox cannot listen at {host}:{port}: {error.strerror or error}."
            raise ConfigurationError(message, hint=hint) from None
    print(f"\n{bill(here[0].creates, here[0].charged)}")


@app.command()
def demo(
    prompt: Annotated[str, typer.Argument(help="What the video should show.")] = EXAMPLE,
    directory: Directory = Path("videos"),
    model: Annotated[str | None, _option(envvar="SORA_DEMO_MODEL", help="A real one: openai:gpt-5-mini.")] = None,
    paid: Annotated[bool, _option("--paid", help="Use the gateway of SORA_BASE_URL: costs money.")] = False,
) -> None:
    """Watch an agent make a video.

    The gateway is a sandbox on this machine, and the chat model is scripted: no key, no account, nothing is paid.
    """
    with reporting(paid=paid) as known, watching() as show:

        def listen(event: Event) -> None:
            if isinstance(event, Submitted) and paid:
                known["task_id"] = event.task.task_id
            show(event)

        outcome = _extra("demo").run(prompt, directory, model=model, paid=paid, say=say, on_event=listen)
    err.print(bill(outcome.creates, outcome.charged))
    for path in outcome.files:
        print(path)


def _extra(name: str) -> Any:
    """A module that needs more than this extra."""
    try:
        return import_module(f".{name}", __package__)
    except ImportError as error:
        raise ConfigurationError(f"`sora-tools {name}` cannot start.", hint=str(error)) from error
