"""The `sora-tools` command (extra `cli`).

Rule: stdout carries the result and nothing else, stderr what is said on the way; the exit code says what to do next.

    0  done
    1  a bug in this program, with a traceback
    2  the request, a setting or the command line is wrong: nothing was accepted
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
import json
import re
import sys
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

try:
    import typer

    from ..screen import bill, described, err, plain, probed, retries, row, say, watching
    from .ledger import books
    from .reporting import EXIT_CODES, Result, command, document, option, reporting
except ModuleNotFoundError as missing:  # the command imports this module first: only here can it still be polite
    if missing.name not in {"rich", "typer"}:
        raise
    print(f"The sora-tools command needs {missing.name}: pip install 'sora-tools[cli]'", file=sys.stderr)
    raise SystemExit(2) from None

from .. import __version__
from ..client.sora import Sora
from ..errors import ConfigurationError, InvalidRequestError
from ..events import Event, Submitted
from ..flow import Repeat
from ..ledger.sqlite import SQLiteLedger
from ..limits import VideoLimits
from ..schemas import VideoRequest

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


app.add_typer(books, name="ledger")


def main() -> None:
    """Run the command line."""
    app(prog_name="sora-tools")


@app.callback(invoke_without_command=True)
def _alone(version: Annotated[bool, option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"sora-tools {__version__}")
        raise typer.Exit


# --- the commands ------------------------------------------------------------------------------------------------

_video = partial(option, rich_help_panel="Video")


def _field(name: str, *names: str, **settings: Any) -> Any:
    """An option for a documented field, described in the schema's own words."""
    return _video(*names, help=VideoRequest.model_fields[name].description, **settings)


TaskId = Annotated[str, typer.Argument(help="The task id that create printed, or its key.", show_default=False)]
Directory = Annotated[Path, typer.Option("--directory", "-d", help="Folder to save to; made if missing.")]


@partial(command, app)
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
    key: Annotated[str | None, option(help="Your name for it: the same key again is the same video.")] = None,
    resend: Annotated[bool, option("--resend", help="Send again what may be accepted: may be paid twice.")] = False,
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
    if key is not None and not isinstance(sora.gateway.ledger, SQLiteLedger):
        err.print("The key will be forgotten as soon as this command ends: the ledger is no file.", style="dim")
    told: list[Event] = []

    def listen(event: Event) -> None:
        told.append(event)
        retries(event)

    task = sora.create(None if request is None else _fields(request), key=key, resend=resend, on_event=listen, **given)
    submitted = next(event for event in told if isinstance(event, Submitted))
    if submitted.reused:
        err.print("It had been accepted before: nothing was sent.", style="dim")
    return Result({**document(task), "key": submitted.key, "reused": submitted.reused}, plain(task.task_id))


@partial(command, app)
def doctor(sora: Sora) -> Result:
    """Find out which formats the gateway serves, with requests that cost nothing.

    The exit code is 0 where the format that is set answers, 3 where the key is refused, and 4 else.
    """
    found = sora.probe()
    answers = set(found.live) if sora.gateway.auto else {sora.gateway.dialect.name} & set(found.live)
    refused = any(each.state == "refused" for each in found.formats)
    return Result({**asdict(found), "live": found.live}, probed(found), 0 if answers else 3 if refused else 4)


@partial(command, app)
def query(sora: Sora, task_id: TaskId) -> Result:
    """Look a task up once; the exit code tells its state (0, 6 or 7)."""
    task = sora.query(task_id)
    code = 0 if task.status == "succeeded" else EXIT_CODES["task_failed" if task.ended else "wait_timeout"]
    return Result(document(task), described(task), code)


@partial(command, app)
def wait(
    sora: Sora,
    task_id: TaskId,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds after which to give up.")] = 600.0,
) -> Result:
    """Look at a task until it has ended."""
    with watching() as listener:
        task = sora.wait(task_id, timeout=timeout, on_event=listener)
    return Result(document(task), described(task))


@partial(command, app)
def download(sora: Sora, task_id: TaskId, directory: Directory = Path("videos")) -> Result:
    """Save every video of a finished task, and print where."""
    with watching() as listener:
        files = [str(file.resolve()) for file in sora.download(task_id, directory, on_event=listener)]
    return Result({"task_id": task_id, "files": files}, "\n".join(files))


def _list(
    sora: Sora,
    limit: Annotated[int, typer.Option(help="Tasks to show, 1 to 100.")] = 10,
    before: Annotated[str | None, option(help="Show what is older than this.")] = None,
) -> Result:
    """Show the gateway's tasks, newest first."""
    page = sora.list(limit, before)
    if not page.tasks:
        err.print("No tasks.", style="dim")
    if page.before:
        err.print(f"There are more: sora-tools list --before {plain(page.before)}", style="dim")
    told = {"tasks": [document(task) for task in page.tasks], "before": page.before}
    return Result(told, "\n".join(map(row, page.tasks)))


_list.__name__ = "list"  # as a global name it would hide the built-in
command(app, _list)


def _fields(file: Path) -> dict[str, Any]:
    try:
        given = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"--request: {file} cannot be read: {error}.", hint="Nothing was sent.") from None
    if not isinstance(given, dict):
        raise InvalidRequestError(f"--request: {file} is not a JSON object.", hint="Nothing was sent.")
    return given


# --- without a gateway of one's own ------------------------------------------------------------------------------


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    key: Annotated[list[str] | None, option(help="A key to let in; without any, every key is.")] = None,
    speed: Annotated[float, typer.Option(min=0.01, help="How many times faster than 6 s a video is done.")] = 1.0,
    allow_remote: Annotated[bool, option("--allow-remote", help="Let other machines reach it.")] = False,
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
    model: Annotated[str | None, option(envvar="SORA_DEMO_MODEL", help="A real one: openai:gpt-5-mini.")] = None,
    paid: Annotated[bool, option("--paid", help="Use the gateway of SORA_BASE_URL: costs money.")] = False,
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


# --- for other programs ------------------------------------------------------------------------------------------

_http = partial(typer.Option, rich_help_panel="HTTP")
_limit = partial(typer.Option, min=1, rich_help_panel="Limits: what is more is refused before it is sent")


@app.command()
def mcp(
    download_dir: Annotated[Path | None, option(help="Folder that finished videos are saved to.")] = None,
    max_wait: Annotated[float, typer.Option(help="Seconds a query waits at most, 0 to 45.")] = 20.0,
    repeat: Annotated[Repeat, typer.Option(help="The very same again: reuse its task, or make a new one.")] = "reuse",
    thread: Annotated[str, typer.Option(help="Name of the conversation that callers are in.")] = "mcp",
    max_width: Annotated[int | None, _limit(help="Pixels of a video.")] = None,
    max_height: Annotated[int | None, _limit(help="Pixels of a video.")] = None,
    max_frames: Annotated[int | None, _limit(help="Frames of a video; 30 are a second.")] = None,
    max_variants: Annotated[int | None, _limit(help="Videos of one create.")] = None,
    http: Annotated[bool, option("--http", help="Serve streamable HTTP instead of stdin and stdout.")] = False,
    host: Annotated[str, _http(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, _http(min=0, max=65535, help="0 takes a free one.")] = 8766,
    allow_host: Annotated[list[str] | None, _http(metavar="NAME", help="Host that other machines name it by.")] = None,
    shared_list: Annotated[bool, _http("--shared-list", help="Show every caller what all have created.")] = False,
) -> None:
    """Serve create_video and query_video to an MCP client, until it leaves or Ctrl-C.

    The gateway, its key and its format come from SORA_BASE_URL, SORA_API_KEY, SORA_DIALECT, SORA_MODEL and SORA_LEDGER.
    """
    with reporting():
        serving = _extra("mcp")
        from ..tools import SoraToolkit  # noqa: PLC0415  # loads LangChain, which no other command needs

        limits = VideoLimits(
            max_width=max_width, max_height=max_height, max_frames=max_frames, max_variants=max_variants
        )
        toolkit = SoraToolkit(download_dir=download_dir, max_wait=max_wait, repeat=repeat, limits=limits)
        if http:
            serving.serve_http(
                toolkit,
                host,
                port,
                allowed_hosts=allow_host or (),
                thread=thread,
                lists=shared_list,
                announce=lambda address: err.print(f"MCP over streamable HTTP is at {address}. Ctrl-C ends it."),
            )
        else:
            serving.serve_stdio(toolkit, thread=thread)


def _extra(name: str) -> Any:
    """A module that needs more than this extra."""
    try:
        return import_module(f"..{name}", __package__)
    except ImportError as error:
        raise ConfigurationError(f"`sora-tools {name}` cannot start.", hint=str(error)) from error
