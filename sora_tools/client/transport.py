"""httpx's side of the drivers: limits, trust, and what its failures mean for the money.

Rule: a request has left unless it is proven that it has not. The proof is httpcore's trace (no request header was
started), or, on transports that tell nothing, an error class that can only come before sending.
"""

from __future__ import annotations

import socket
import ssl
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpx

from ..addresses import private
from ..errors import ConfigurationError, DownloadError, LostReplyError, NotSentError, SoraError
from ..schemas import shortened
from ..wire import Reply
from .redaction import kept, unquoting

IN_FLIGHT: Final = 10
"""Looks on the wire at once, and creates likewise: more only makes httpx slower."""

LONGEST_STREAM: Final = 3600.0
"""Seconds that closing waits for answers that stream, at most."""

FRESH: Final = httpx.Limits(max_connections=None, max_keepalive_connections=0)
REUSED: Final = httpx.Limits(max_connections=None, max_keepalive_connections=IN_FLIGHT)

_SAID: Final = 200
"""Characters that are repeated of what httpx says at most: it may quote a gateway's whole line."""

DIRECT: Final[Mapping[str, None]] = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
"""Where a proxy of the environment is not asked: this machine."""


@cache
def trust() -> ssl.SSLContext:
    """The certificates all clients of this process trust; making this takes 30 ms, so it is made once."""
    return httpx.create_ssl_context()


class Heard:
    """A response as httpx-sse reads it: as text, up to so many characters in all."""

    def __init__(self, response: httpx.Response, most: int) -> None:
        response.encoding = "utf-8"  # as the form has it, whatever a header says
        self.headers, self._response = response.headers, response
        self._most, self._left = most, most

    def iter_text(self) -> Iterator[str]:
        """Its text, as it comes."""
        return map(self._counted, self._response.iter_text())

    async def aiter_text(self) -> AsyncIterator[str]:
        """The same, later."""
        async for text in self._response.aiter_text():
            yield self._counted(text)

    def _counted(self, text: str) -> str:
        self._left -= len(text)
        if self._left < 0:
            raise _too_large(self._most)
        return text


def events(response: httpx.Response, most: int) -> Any:
    """What reads the events of a response.

    Raises:
        ConfigurationError: httpx-sse is not installed.
    """
    return event_source()(Heard(response, most))


def event_source() -> Any:
    """httpx-sse's reader (extra ``chat``), asked for before anything is sent that it would have to read.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        from httpx_sse import EventSource  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "The chat format needs httpx-sse.", hint="Nothing was sent. pip install 'sora-tools[chat]'"
        ) from error
    return EventSource


def is_event_stream(response: httpx.Response) -> bool:
    """Whether it tells of one event after the other."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return response.status_code == 200 and kind == "text/event-stream"


def manners(transport: Any) -> dict[str, Any]:
    """What all clients have in common, whatever their colour and limits."""
    return {"mounts": DIRECT if transport is None else None, "verify": trust(), "cookies": no_cookies()}


def closed() -> ConfigurationError:
    """The error for a client that is used after it was closed."""
    return ConfigurationError("This client has been closed.", hint="Make a new one.")


def gone() -> NotSentError:
    """The error for a create whose caller went before it left."""
    return NotSentError("The caller had gone before the create left.", retryable=False)


def crowded() -> NotSentError:
    """The error for a request that found no place at its gate in time."""
    return NotSentError(
        f"{IN_FLIGHT} requests were under way all the time.", hint="Ask again, or ask for less at once."
    )


def left_until(deadline: float, clock: Callable[[], float]) -> float:
    """Seconds left of a request's time after queueing."""
    left = deadline - clock()
    if left <= 0:
        raise crowded()
    return left


def reply(response: httpx.Response, body: bytes) -> Reply:
    """What flows know of a response."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, body)


def received(response: httpx.Response) -> Iterator[bytes]:
    """The bytes on the wire. A transport that hands over whole answers has decoded them already."""
    return iter((response.content,)) if response.is_stream_consumed else response.iter_raw()


def received_later(response: httpx.Response) -> AsyncIterator[bytes]:
    """The same, of an asynchronous response."""
    return _one(response.content) if response.is_stream_consumed else response.aiter_raw()


async def _one(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


def grow(body: bytearray, chunk: bytes, most: int) -> None:
    """Add to a body, up to so many bytes. What is too much is not kept: an error's frames would hold it."""
    body += chunk
    if len(body) > most:
        body.clear()
        raise _too_large(most)


def decoded(body: bytes, response: httpx.Response, most: int, *, whole: bool) -> bytes:
    """A body without its content coding, up to so many bytes.

    One gzip or deflate at most, and never more memory than that: httpx would follow any number of them first.
    """
    encoding = "" if whole else response.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise LostReplyError(f"The gateway's answer is in a coding that was not asked for: {kept(encoding)[:40]!r}.")
    try:
        plain = zlib.decompressobj(wbits=47).decompress(body, most + 1)
    except zlib.error as error:
        raise LostReplyError("The gateway's answer cannot be decompressed.") from error
    if len(plain) > most:
        del plain  # or the error's frames would hold it
        raise _too_large(most)
    return plain


def no_cookies() -> CookieJar:
    """A jar that keeps nothing: cookies know no ports, and could carry what one origin said to another."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


def _too_large(most: int) -> LostReplyError:
    return LostReplyError(f"The gateway's answer is larger than {most} bytes (largest_reply).")


@dataclass(slots=True)
class Left:
    """Whether the request's first byte has left, as httpcore's trace tells. Other transports tell nothing.

    It is also the decision: a request that was given up before it left is stopped at its first byte, so that "never
    left" stays true of one that another thread is still connecting for.

    Args:
        origin: Whom the request is for, to be named in errors.
        guarded: The host whose machine must be a public one; "" where any may be. The peer of the connection itself
            is judged, so no second look at the name can say otherwise. A proxy looks names up for itself: it is not.
    """

    origin: str = "the gateway"
    guarded: str = ""
    watched: bool = False
    started: bool = False
    given_up: bool = False
    _connecting: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, name: str, info: Mapping[str, Any]) -> None:
        self.watched = True
        if name.endswith(".send_request_headers.started") and info["request"].method != b"CONNECT":
            with self._lock:
                self.check_wanted()
                self.started = True
        elif self._astray(name, info):
            info["return_value"].close()
            raise self._led_astray()

    def check_wanted(self) -> None:
        """Raise where nobody waits for the answer any more."""
        if self.given_up:
            raise httpx.WriteTimeout("nobody waits for this any more")

    async def note_later(self, name: str, info: Mapping[str, Any]) -> None:
        if self._astray(name, info):
            await info["return_value"].aclose()
            raise self._led_astray()
        self.note(name, info)

    def _astray(self, name: str, info: Mapping[str, Any]) -> bool:
        """Whether the connection just made leads to a private machine that the address did not name."""
        if name == "connection.connect_tcp.started":
            self._connecting = info.get("host", "")
        if name != "connection.connect_tcp.complete" or not self.guarded or self._connecting != self.guarded:
            return False
        peer = info["return_value"].get_extra_info("server_addr")
        return private(str(peer[0]) if peer else "")

    def _led_astray(self) -> DownloadError:
        return DownloadError(
            f"{self.guarded[:80]} leads to a private machine, so nothing was asked of it.",
            hint="If that machine may be asked, set private_addresses=True.",
            retryable=False,
        )

    def never(self, error: BaseException) -> bool:
        """Whether it is proven that nothing left, and nothing will."""
        with self._lock:
            self.given_up = True
        kinds = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
        return not self.started and (self.watched or isinstance(error, kinds))


@contextmanager
def translated(left: Left) -> Iterator[None]:
    """Our errors for httpx's."""
    try:
        with unquoting():
            yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ConfigurationError(f"This address cannot be asked: {error}") from error
    except (httpx.HTTPError, httpx.StreamError, TimeoutError, UnicodeError) as error:
        # UnicodeError: httpx builds the request that a redirect would lead to, and trips over impossible host names
        raise _failure(error, left) from error
    except RuntimeError as error:
        if "closed" not in str(error):
            raise
        if not left.never(error) and left.watched:
            raise _failure(error, left) from error
        raise closed() from error


def _failure(error: Exception, left: Left) -> SoraError:
    said = shortened(str(error), _SAID) or "it took too long"
    if not left.never(error):
        return LostReplyError(f"The request left, and no whole answer came back ({type(error).__name__}: {said}).")
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NotSentError(
                f"The gateway's certificate cannot be trusted: {cause.verify_message}.",
                hint="Check the address, or set SSL_CERT_FILE to your proxy's certificates.",
                retryable=False,
            )
        if isinstance(cause, socket.gaierror) and cause.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
            return NotSentError(
                "No machine has the name in the gateway's address.", hint="Check base_url.", retryable=False
            )
    return NotSentError(
        f"{left.origin} could not be reached ({type(error).__name__}: {said}).",
        hint="Is a gateway running there, and is it http or https?",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
