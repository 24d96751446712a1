"""The wheel as others install it: with the lowest versions it allows, on other Pythons, and under strict type checkers.

Each environment is made once, from the wheel, into pytest's cache or the folder that SORA_TESTS_PINS names. What cannot
be had here is skipped, and the skip says why. `make long` runs these tests: about six minutes the first time.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PATIENCE = 300
"""Seconds that each step may take."""

TESTS = [
    "hypothesis>=6.130",
    "langchain-tests>=1.1,<2",
    "pytest>=9",
    "pytest-asyncio>=1.2",
    "pytest-socket>=0.7",
    "pytest-timeout>=2.3",
]
EXTRAS = ("sandbox", "chat", "media", "cli")
SUBSET = [
    *(f"tests/test_{name}.py" for name in ("schemas", "retry", "flow_submit", "flow_look", "cancellation")),
    "tests/test_ledger.py::test_one_of_many_processes_may_send_on_a_new_file",
    *("tests/test_media.py", "tests/test_film.py::test_colours_stay_when_clips_write_them_down_differently"),
    "tests/test_cli.py::test_each_command_takes_up_what_the_one_before_printed",
    "tests/test_cli.py::test_create_sends_every_documented_field_it_is_given",
    "tests/test_cli.py::test_on_a_terminal_a_wait_is_a_bar",
]
"""Tests that are quick and lean on interpreter and libraries: types, loops, processes, sockets, frames, terminals."""

OTHERS = [
    version
    for version in re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    if version != f"{sys.version_info.major}.{sys.version_info.minor}"
]


def run(*command: object, **settings: object) -> subprocess.CompletedProcess[str]:
    words = list(map(str, command))
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False, **settings)  # type: ignore[call-overload]


def had(*command: object) -> None:
    """Install or build something, or say why it cannot be had."""
    try:
        done = run(*command, cwd=ROOT)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{command}: {error}")
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).strip().splitlines() if not line.startswith("WARNING")]
        pytest.skip(f"{' '.join(map(str, command))}: {' / '.join(lines[-3:])}")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    had(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest, wheel: Path):
    """Makes an environment of this name with these packages, and gives its Python."""
    cache = Path(os.environ.get("SORA_TESTS_PINS") or request.config.cache.mkdir("pins"))

    def make(name: str, python: str, *steps: list[str]) -> Path:
        folder = cache / name
        finished, own = folder / "finished", folder / "bin" / "python"
        if not finished.exists() or finished.read_text() != str(steps):
            had(python, "-m", "venv", "--clear", folder)
            for step in steps:
                had(own, "-m", "pip", "install", "--quiet", *step)
            finished.write_text(str(steps))
        had(own, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel)
        return own

    return make


def required(*extras: str) -> list[str]:
    return [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]


def lowest(requirement: str) -> str:
    name, version = re.match(r"([\w-]+)>=([\d.]+)", requirement).groups()  # type: ignore[union-attr]
    return f"{name}=={version}"


STANDARD = ["tests/test_standard.py", "--disable-socket", "--allow-unix-socket"]
"""LangChain's own tests, with sockets blocked."""


def passes(python: Path, tests: list[str]) -> None:
    where = run(python, "-P", "-c", "import sora_tools; print(sora_tools.__file__)", cwd=ROOT)
    assert Path(where.stdout.strip()).is_relative_to(python.parent.parent), where.stderr
    done = run(python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def installed(python: Path, pinned: list[str]) -> None:
    frozen = run(python, "-m", "pip", "list", "--format", "freeze").stdout.lower().splitlines()
    assert all(any(re.fullmatch(rf"{re.escape(pin)}(\.0)*", line) for line in frozen) for pin in pinned), frozen


def test_check_01_on_the_lowest_versions_that_are_allowed(environment) -> None:
    pinned = sorted({lowest(line) for line in required(*EXTRAS)})
    # langchain-tests asks for a later httpx than we do, so ours is put in its place afterwards.
    before = [pin for pin in pinned if not pin.startswith("httpx==")]
    after = ["--no-deps", *(pin for pin in pinned if pin.startswith("httpx=="))]
    python = environment("lowest", sys.executable, [*before, *TESTS], after)
    installed(python, pinned)
    passes(python, STANDARD)
    # An old typer beside a new click uses what that one will drop some day.
    passes(python, [*SUBSET, "-W", "ignore:'click:DeprecationWarning"])


def test_check_01_mcp_on_the_lowest_version_that_is_allowed(environment) -> None:
    """By itself: it asks for a later pydantic than we do."""
    pinned = [lowest(line) for line in PROJECT["optional-dependencies"]["mcp"]]
    python = environment("lowest-mcp", sys.executable, [*pinned, *required(*EXTRAS), *TESTS, "jsonschema>=4.20"])
    installed(python, pinned)
    # Its client cannot start a process by itself yet; ours over stdio is one of our own.
    passes(python, ["tests/test_mcp.py", "-k", "check_13 and not over_stdio or killed_between"])


def interpreter(version: str) -> str:
    kept = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for python in (shutil.which(f"python{version}"), *map(str, kept)):
        if python and run(python, "-c", "import venv").returncode == 0:
            return python
    pytest.skip(f"there is no Python {version} on this machine")


@pytest.mark.parametrize("version", OTHERS)
def test_check_01_on_another_python(environment, version: str) -> None:
    python = environment(f"python{version}", interpreter(version), [*required(*EXTRAS), *TESTS])
    passes(python, STANDARD)
    passes(python, SUBSET)


# --- 12: a user's file ------------------------------------------------------------------------------------------

PROGRAM = """
from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool

from sora_tools import (
    AsyncSora,
    CreateVideoTool,
    InpaintItem,
    Price,
    QueryVideoTool,
    Retry,
    Sora,
    SoraError,
    SoraToolkit,
    SQLiteLedger,
    TaskFailedError,
    VideoLimits,
    VideoRequest,
    VideoTask,
    content_blocks,
    is_retryable,
    video_approval,
)
from sora_tools.events import GivenUp, Seen
from sora_tools.mcp import server
from sora_tools.media import VideoInfo, concatenate, data_url, frame, frames, probe


def made(prompt: str, folder: Path) -> Path | None:
    request = VideoRequest(prompt=prompt, n_frames=150, inpaint_items=(InpaintItem(url="https://images.example/a.png"),))
    with Sora(base_url="https://gateway.example", api_key="sk-...", retry=Retry(attempts=2)) as sora:
        try:
            task: VideoTask = sora.generate(request, directory=folder, timeout=600.0)
        except TaskFailedError as error:
            status: str = error.task.status
            print(status, error.charged)
            return None
        except SoraError as error:
            print(error.describe()["code"], is_retryable(error))
            return None
    width: int | None = task.generations[0].width
    print(width, HumanMessage(content=content_blocks(task, ["frame.png"], videos=False)))
    return task.generations[0].file


def film(clips: list[Path]) -> VideoInfo:
    opening = InpaintItem(url=data_url(frame(clips[-1], -1)))
    print(opening, [picture.size for picture in frames(clips[0], 4)])
    return probe(concatenate(clips, "film.mp4"))


async def many(prompts: list[str]) -> list[str]:
    async with AsyncSora(ledger=SQLiteLedger(Path("ledger.sqlite"))) as sora:
        tasks = await asyncio.gather(*(sora.create(prompt) for prompt in prompts))
        page = await sora.list(limit=10)
        return [task.task_id for task in (*tasks, *page.tasks)]


async def follow(task_ids: list[str]) -> dict[str, str]:
    told: dict[str, str] = {}
    async with AsyncSora() as sora:
        async for event in sora.watch(task_ids, timeout=600.0):
            if isinstance(event, Seen) and event.task.ended:
                told[event.task.task_id] = event.task.status
            elif isinstance(event, GivenUp):
                told[event.name] = str(event.error)
    return told


def price(request: VideoRequest) -> Price:
    return Price(Decimal("0.10") * request.n_variants, "USD")


def tools() -> list[BaseTool]:
    limits = VideoLimits(max_frames=300, operations=("storyboard",), max_spend_per_day=Price(Decimal("0.50"), "USD"))
    print(video_approval(price=price, ask_above=Decimal("0.20")))
    with SoraToolkit(max_wait=5.0, download_dir="videos", limits=limits, price=price) as toolkit:
        print(server(toolkit, thread="mcp"))
        return [*toolkit.get_tools(), CreateVideoTool(), QueryVideoTool(max_wait=1.0)]


def chain() -> RunnableLambda[str, VideoTask]:
    sora, async_sora = Sora(), AsyncSora()

    def generate(prompt: str) -> VideoTask:
        return sora.generate(prompt)

    async def agenerate(prompt: str) -> VideoTask:
        return await async_sora.generate(prompt)

    return RunnableLambda(generate, afunc=agenerate)
"""


def test_check_12_the_wheel_is_marked_as_typed_and_has_the_package_alone(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "sora_tools/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"sora_tools"}
    assert {
        f"sora_tools/{path.relative_to(ROOT / 'sora_tools')}" for path in (ROOT / "sora_tools").rglob("*.py")
    } <= set(names)


@pytest.fixture(scope="session")
def typed(environment) -> Path:
    """The Python of an environment with the wheel and both type checkers; pyright brings a node of its own."""
    return environment("typed", sys.executable, [*required("media", "mcp"), "mypy>=1.18", "pyright[nodejs]>=1.1"])


@pytest.mark.parametrize("checker", [["mypy", "--strict"], ["pyright"]], ids=lambda checker: checker[0])
@pytest.mark.parametrize("broken", [False, True], ids=["sound", "broken"])
def test_check_12_a_users_file_is_checked_strictly(
    typed: Path, tmp_path: Path, checker: list[str], broken: bool
) -> None:
    program = tmp_path / "users.py"
    program.write_text(PROGRAM.replace("width: int | None", "width: str") if broken else PROGRAM)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict", "include": ["users.py"]}')
    where = "--python-executable" if checker[0] == "mypy" else "--pythonpath"
    given = [*checker, where, typed, "users.py"]
    done = run(typed.parent / given[0], *given[1:], cwd=tmp_path)
    said = done.stdout + done.stderr
    assert (done.returncode == 0) is not broken, said
    assert ('"str"' in said) is broken, said
