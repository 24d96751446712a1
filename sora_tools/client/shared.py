"""What both drivers are built from: settings, the messages they send, and the flow they carry out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

import httpx
from pydantic import SecretStr

from .. import flow as flows
from ..addresses import origin
from ..config import DEFAULT_TIMEOUT, LARGEST_REPLY, LARGEST_VIDEO, is_auto, own_dialect, settings
from ..dialects import dialect as named_dialect
from ..errors import ConfigurationError
from ..events import Event, NotRecorded
from ..flow import Flow, Gateway, Open, Send, Stream
from ..ledger import Ledger, remembers
from ..ledger import ledger as named_ledger
from ..limits import VideoLimits, check_limits
from ..prices import PriceOf
from ..retry import Retry
from ..schemas import VideoRequest, VideoTask
from ..wire import Dialect, Upload
from .redaction import keep
from .transport import closed

logger = logging.getLogger("sora_tools")

W = TypeVar("W")
AnyRequest = VideoRequest | Mapping[str, Any] | str
Listener = Callable[[Event], Any]
Files: TypeAlias = list[Path]


@runtime_checkable
class Closable(Protocol):
    """A ledger that holds something open between two uses."""

    def close(self) -> None:
        """Let go of it until the next use."""


class Client:
    """What both drivers are built from."""

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | SecretStr | None = None,
        dialect: str | Dialect | None = None,
        fallback: Sequence[str | Dialect] = (),
        model: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry: Retry | None = None,
        ledger: Ledger | str | os.PathLike[str] | None = None,
        idempotency: Literal["sent", "honoured"] = "sent",
        headers: Mapping[str, str] | None = None,
        private_addresses: bool = False,
        largest_reply: int = LARGEST_REPLY,
        largest_video: int = LARGEST_VIDEO,
        limits: VideoLimits | None = None,
        price: PriceOf | None = None,
        transport: Any = None,
    ) -> None:
        """A client for one gateway. Opens nothing before its first call.

        Args:
            base_url: The gateway's address, with or without ``/sora`` or ``/v1`` (else ``SORA_BASE_URL``).
            api_key: The gateway's key (else ``SORA_API_KEY``).
            dialect: The gateway's format: a name, or an object with the methods of ``Dialect`` (else
                ``SORA_DIALECT``, else ``"backend"``). ``"auto"``: the first call finds out, with free requests, which
                format the gateway serves.
            fallback: Formats in which a create is tried next where the one before is not served, and nothing can have
                been accepted.
            model: Used where a request names none (else ``SORA_MODEL``).
            timeout: Seconds for one request, more than 0.
            retry: How often and how long to try again what was provably not accepted.
            ledger: Where submissions are written down: a file's path, ``"memory"``, ``"off"``, or an object with the
                methods of ``Ledger`` (else ``SORA_LEDGER``, else a file in the user's state directory).
            idempotency: ``"honoured"``: your word that the gateway takes two creates with one ``Idempotency-Key`` for
                one, so that a create whose fate is unknown is sent again with the same key and body. ``"sent"``: the
                key goes with each create, and nothing is expected of it.
            headers: Extra headers for every request to the gateway.
            private_addresses: Whether videos may come from, and a model's images lie on, private hosts beside the
                gateway's own.
            largest_reply: Bytes of one answer, downloads aside, that are read at most.
            largest_video: Bytes of one video that are saved at most.
            limits: What a create may be and cost at most. What is more is refused before anything is sent.
            price: What a create costs: a function from what would be made, as a VideoRequest, to a
                :class:`~sora_tools.Price`, written down with each create and held against the limits.
            transport: An httpx transport that takes the place of the network, for tests.

        Raises:
            ConfigurationError: A setting is missing or cannot work.
        """
        chosen = own_dialect(dialect)
        auto = is_auto(chosen)
        gateway = Gateway(
            settings=settings(
                base_url,
                api_key,
                model,
                timeout,
                headers,
                private_addresses=private_addresses,
                largest_reply=largest_reply,
                largest_video=largest_video,
            ),
            dialect=named_dialect("backend" if auto else chosen),
            auto=auto,
            ledger=named_ledger(ledger),
            retry=retry or Retry(),
            honoured=_honoured(idempotency),
            limits=limits,
            price=price,
            fallback=tuple(map(named_dialect, (fallback,) if isinstance(fallback, str) else fallback)),
        )
        check_limits(limits, price, remembers=remembers(gateway.ledger))
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
        keep(gateway.settings.secret, self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.gateway.settings.base_url!r}, dialect={self.gateway.configured!r})"

    def _create(
        self, request: AnyRequest | None, fields: Mapping[str, Any], key: str | None, **how: Any
    ) -> Flow[VideoTask]:
        return flows.create(self.gateway, flows.requested(request, fields), key, **how)

    def _let_go(self) -> None:
        """Close the ledger's file, where it is one; whoever shares it opens it again."""
        if isinstance(self.gateway.ledger, Closable):
            self.gateway.ledger.close()

    def _check_open(self) -> None:
        if self._closed:
            raise closed()

    def _message(self, send: Send, trace: Callable[..., Any]) -> dict[str, Any]:
        call, url = send.call, self.gateway.settings.url(send.call.path)
        return {
            "method": call.method,
            "url": url,
            "params": {name: value for name, value in call.query.items() if value is not None} or None,
            "json": call.body,
            "files": _form(call.form),
            "headers": {
                "accept": "application/json",
                "accept-encoding": "gzip",
                **self._for_gateway(url),
                **call.headers,
            },
            "timeout": send.patience,
            "extensions": {"trace": trace},
        }

    def _listening(self, wish: Stream, trace: Callable[..., Any]) -> dict[str, Any]:
        """The message of a create whose answer streams."""
        message = self._message(Send(wish.call, wish.patience), trace)
        headers = {**message["headers"], "accept": "text/event-stream, application/json", "accept-encoding": "identity"}
        return {**message, "headers": headers, "timeout": httpx.Timeout(wish.patience, read=wish.silence)}

    def _fetching(self, wish: Open, trace: Callable[..., Any]) -> dict[str, Any]:
        headers = {"accept-encoding": "identity", **wish.headers, **self._for_gateway(wish.url)}
        return {"headers": headers, "timeout": wish.patience, "extensions": {"trace": trace}}

    def _guarded(self, url: httpx.URL) -> str:
        """The host, as it is connected to, whose machine must be a public one; "" where any may be."""
        return url.raw_host.decode("ascii") if self.gateway.settings.guarded(str(url)) else ""

    def _for_gateway(self, url: str) -> dict[str, str]:
        """What the gateway alone may see: the key goes to its own origin and nowhere else."""
        own = self.gateway.settings
        if origin(url) != own.origin:
            return {}
        return {**own.headers, "authorization": f"Bearer {own.api_key.get_secret_value()}"}


def _form(form: Mapping[str, str | Upload] | None) -> dict[str, Any] | None:
    """The fields as httpx takes them; one without a file name is text."""
    if form is None:
        return None
    return {
        name: (value.name, value.content, value.media_type) if isinstance(value, Upload) else (None, value)
        for name, value in form.items()
    }


def _honoured(idempotency: str) -> bool:
    if idempotency not in ("sent", "honoured"):
        raise ConfigurationError(f"idempotency={idempotency!r} was given; it is 'sent' or 'honoured'.")
    return idempotency == "honoured"


@dataclass(slots=True)
class Run(Generic[W]):
    """One flow being carried out; ``apart`` from its caller, where that is what a Finish or an Aside asks for."""

    connections: W
    on_event: Listener | None = None
    apart: bool = False
    unwanted: bool = False
    chunks: Iterator[bytes] = field(default_factory=lambda: iter(()))
    later_chunks: Any = None
    said: Any = None
    ready: Any = None

    def tell(self, event: Event) -> Any:
        """What the listener returns, to be awaited where it can be."""
        if isinstance(event, NotRecorded):
            became = f" became {event.task.task_id}" if event.task else ""
            logger.warning("The ledger could not take down that %s%s: %s", event.key, became, event.error)
        return self.on_event(event) if self.on_event is not None else None


@contextmanager
def overheard(is_end: Callable[[], bool]) -> Iterator[None]:
    """Let a listener's own trouble be no more than a line in the log: what is paid for goes on.

    Args:
        is_end: Whether what ends programs and tasks ends this flow. It does not where the flow is carried on apart:
            there it would end nothing but what is paid for.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and is_end():
            raise
        logger.exception("An on_event listener failed")


def files(task: VideoTask) -> Files:
    """Where a task's videos were saved."""
    return [generation.file for generation in task.generations if generation.file is not None]
