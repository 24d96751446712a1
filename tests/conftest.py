"""What the tests share: a settled gateway for flows by hand, a clock that only tests move, and a sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pytest_socket import disable_socket, enable_socket

from sora_tools.config import settings
from sora_tools.dialects import dialect
from sora_tools.flow import Gateway
from sora_tools.ledger.sqlite import MemoryLedger
from sora_tools.retry import Retry
from sora_tools.sandbox import Sandbox


@dataclass
class Clock:
    """Seconds that pass only when a test says so."""

    seconds: float = 1_790_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BASE_URL", "API_KEY", "DIALECT", "MODEL"):
        monkeypatch.delenv(f"SORA_{name}", raising=False)
    monkeypatch.setenv("SORA_LEDGER", "memory")
    monkeypatch.delenv("SORA_DEMO_MODEL", raising=False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gateway(clock: Clock) -> Gateway:
    return Gateway(
        settings=settings("https://gateway.test", "sk-secret-key"),
        dialect=dialect("backend"),
        ledger=MemoryLedger(clock),
        retry=Retry(),
        clock=clock,
        now=clock,
        jitter=lambda: 1.0,
    )


@pytest.fixture(scope="session")
def running_sandbox() -> Iterator[Sandbox]:
    with Sandbox(speed=40) as running:
        yield running


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Submissions of unknown fate are looked for as often as ever, and with hardly a pause."""
    monkeypatch.setattr("sora_tools.flow.reconcile.PAUSES", (0.01, 0.02, 0.05))


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits look again after a twentieth of a second, so that a sandbox's quick tasks are not slept through."""
    monkeypatch.setattr("sora_tools.flow.look.SHORTEST", 0.05)


@pytest.fixture
def sandbox(running_sandbox: Sandbox, brisk: None) -> Iterator[Sandbox]:
    """A gateway that remembers nothing of the test before."""
    running_sandbox.world.reset()
    running_sandbox.clear()
    yield running_sandbox
    running_sandbox.clear()


@pytest.fixture
def no_sockets() -> Iterator[None]:
    """Whoever opens a socket fails, an event loop's own pair aside."""
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()


@pytest.fixture
def quick() -> dict[str, Any]:
    """A request that renders in no time."""
    return {"prompt": "fly man", "width": 64, "height": 36, "n_frames": 3}
