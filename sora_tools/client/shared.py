"""What both drivers are built from: settings, the messages they send, and the flow they carry out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Self, TypeAlias, TypeVar

from pydantic import SecretStr

from ..config import DEFAULT_TIMEOUT, origin, settings
from ..dialects import dialect as named_dialect
from ..errors import ConfigurationError
from ..events import Event
from ..flow import Gateway, Open, Send
from ..ledger import Ledger
from ..ledger import ledger as named_ledger
from ..retry import Retry
from ..schemas import VideoRequest, VideoTask
from ..wire import Dialect

W = TypeVar("W")
AnyRequest = VideoRequest | Mapping[str, Any] | str
Listener = Callable[[Event], Any]
Files: TypeAlias = list[Path]


class Client:
    """What both drivers are built from."""

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | SecretStr | None = None,
        dialect: str | Dialect | None = None,
        model: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry: Retry | None = None,
        ledger: Ledger | str | None = None,
        headers: Mapping[str, str] | None = None,
        transport: Any = None,
    ) -> None:
        """A client for one gateway. Opens nothing before its first call.

        Args:
            base_url: The gateway's address, with or without ``/sora`` or ``/v1`` (else ``SORA_BASE_URL``).
            api_key: The gateway's key (else ``SORA_API_KEY``).
            dialect: The gateway's format: a name, or an object with the methods of ``Dialect`` (else
                ``SORA_DIALECT``, else ``"backend"``).
            model: Used where a request names none (else ``SORA_MODEL``).
            timeout: Seconds for one request, more than 0.
            retry: How often and how long to try again what was provably not accepted.
            ledger: ``"memory"``, ``"off"``, or an object with the methods of ``Ledger`` (else ``SORA_LEDGER``, else
                ``"memory"``).
            headers: Extra headers for every request to the gateway.
            transport: An httpx transport that takes the place of the network, for tests.

        Raises:
            ConfigurationError: A setting is missing or cannot work.
        """
        gateway = Gateway(
            settings=settings(base_url, api_key, model, timeout, headers),
            dialect=named_dialect(dialect or os.environ.get("SORA_DIALECT") or "backend"),
            ledger=named_ledger(ledger),
            retry=retry or Retry(),
        )
        self._begin(gateway, transport)

    @classmethod
    def sharing(cls, other: Client) -> Self:
        """A client with the settings, ledger and cool-downs of another one, and connections of its own."""
        client = cls.__new__(cls)
        client._begin(other.gateway, other._transport)  # noqa: SLF001  # one class, two colours
        return client

    def _begin(self, gateway: Gateway, transport: Any) -> None:
        self.gateway = gateway
        self._transport = transport
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.gateway.settings.base_url!r}, dialect={self.gateway.dialect.name!r})"

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError("This client has been closed.", hint="Make a new one.")

    def _message(self, send: Send, trace: Callable[..., Any]) -> dict[str, Any]:
        call, url = send.call, self.gateway.settings.url(send.call.path)
        return {
            "method": call.method,
            "url": url,
            "params": {name: value for name, value in call.query.items() if value is not None} or None,
            "json": call.body,
            "headers": {
                "accept": "application/json",
                "accept-encoding": "gzip",
                **self._for_gateway(url),
                **call.headers,
            },
            "timeout": send.patience,
            "extensions": {"trace": trace},
        }

    def _fetching(self, wish: Open, trace: Callable[..., Any]) -> dict[str, Any]:
        headers = {"accept-encoding": "identity", **self._for_gateway(wish.url)}
        return {"headers": headers, "timeout": wish.patience, "extensions": {"trace": trace}}

    def _for_gateway(self, url: str) -> dict[str, str]:
        """What the gateway alone may see: the key goes to its own origin and nowhere else."""
        own = self.gateway.settings
        if origin(url) != own.origin:
            return {}
        return {**own.headers, "authorization": f"Bearer {own.api_key.get_secret_value()}"}


@dataclass(slots=True)
class Run(Generic[W]):
    """One flow being carried out."""

    connections: W
    on_event: Listener | None = None
    unwanted: bool = False
    chunks: Iterator[bytes] = field(default_factory=lambda: iter(()))
    later_chunks: Any = None

    def tell(self, event: Event) -> Any:
        return self.on_event(event) if self.on_event is not None else None


def files(task: VideoTask) -> Files:
    """Where a task's videos were saved."""
    return [generation.file for generation in task.generations if generation.file is not None]
