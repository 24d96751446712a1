"""Settings, from arguments or the environment. Nothing here opens anything.

Every mistake that can be found without the network is found here, before a request could leave.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from .addresses import near, objection, origin
from .errors import ConfigurationError

T = TypeVar("T")

DEFAULT_TIMEOUT: Final = 20.0
LARGEST_REPLY: Final = 32 * 2**20
LARGEST_VIDEO: Final = 4 * 2**30
_SHORTEST_SECRET: Final = 8
_KNOWN_ENDINGS: Final = r"(/v1|/sora(/backend(/video_gen)?)?)?/*$"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the gateway is and how to speak to it.

    Args:
        base_url: Address of the gateway without its routes; see :func:`settings`.
        api_key: Sent as ``Authorization: Bearer`` to the gateway's own origin, never elsewhere.
        model: Used where a request names none.
        timeout: Seconds for one request, from queueing to the last byte.
        headers: Sent with every request to the gateway.
        private_addresses: Whether videos may come from, and images lie on, private hosts beside the gateway's own.
        largest_reply: Bytes of one decoded answer, downloads aside, that are read at most.
        largest_video: Bytes of one video that are saved at most.
    """

    base_url: str
    api_key: SecretStr
    model: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    private_addresses: bool = False
    largest_reply: int = LARGEST_REPLY
    largest_video: int = LARGEST_VIDEO

    @property
    def origin(self) -> str:
        """Scheme, host and port: the only place the key goes to."""
        return origin(self.base_url)

    @property
    def secret(self) -> str:
        """The key, to be masked wherever a gateway quotes it; "" where it is too short to be told from a word."""
        key = self.api_key.get_secret_value()
        return key if len(key) >= _SHORTEST_SECRET else ""

    @property
    def account(self) -> str:
        """A fingerprint of the key, to tell accounts apart without knowing it."""
        return sha256(f"sora-tools account {self.api_key.get_secret_value()}".encode()).hexdigest()[:16]

    def fetchable(self, url: str) -> bool:
        """Whether this can be a video's address at all: https, or http where the gateway itself is."""
        return objection(url, self.base_url, private_addresses=True) is None

    def objection(self, url: str) -> str | None:
        """Why nothing may be fetched from here, as the rest of a sentence about it; None where it may."""
        return objection(url, self.base_url, private_addresses=self.private_addresses)

    def guarded(self, url: str) -> bool:
        """Whether the machine at the other end must turn out to be a public one."""
        return not self.private_addresses and not near(url, self.base_url)

    def url(self, path: str) -> str:
        """The whole address of a path below the gateway; an address stays as it is."""
        return path if "://" in path else self.base_url + path


def settings(
    base_url: str | None = None,
    api_key: str | SecretStr | None = None,
    model: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    headers: Mapping[str, str] | None = None,
    *,
    private_addresses: bool = False,
    largest_reply: int = LARGEST_REPLY,
    largest_video: int = LARGEST_VIDEO,
) -> Settings:
    """Checked settings; what is not given is read from ``SORA_BASE_URL``, ``SORA_API_KEY`` and ``SORA_MODEL``.

    Args:
        base_url: ``https://gateway.example``, with or without a trailing ``/``, ``/sora`` or ``/v1``; a path before
            these is kept.
        api_key: The gateway's key.
        model: The gateway's model name.
        timeout: Seconds for one request; more than 0.
        headers: Extra headers for every request.
        private_addresses: Whether videos may come from, and images lie on, private hosts beside the gateway's own.
        largest_reply: Bytes of one decoded answer, downloads aside; a whole number, more than 0.
        largest_video: Bytes of one video; a whole number, more than 0.

    Raises:
        ConfigurationError: Something is missing or cannot work; it says which, and what would.
    """
    address = base_url or os.environ.get("SORA_BASE_URL", "")
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    key = (key or os.environ.get("SORA_API_KEY", "")).strip()
    if not address.strip():
        raise ConfigurationError(
            "No gateway address was given.",
            hint="Set SORA_BASE_URL, or pass base_url=; `sora-tools sandbox` starts a gateway on this machine.",
        )
    if not key:
        raise ConfigurationError("No API key was given.", hint="Set SORA_API_KEY, or pass api_key=.")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ConfigurationError(
            "The API key has characters that no HTTP header can carry.", hint="Copy it again, without line breaks."
        )
    if not _is_patience(timeout):
        raise ConfigurationError(f"timeout={timeout!r} was given; it is seconds, more than 0.")
    return Settings(
        base_url=_root(address.strip()),
        api_key=SecretStr(key),
        model=own_model(model),
        timeout=float(timeout),
        headers=_checked(headers or {}),
        private_addresses=_switch("private_addresses", private_addresses),
        largest_reply=_ceiling("largest_reply", largest_reply),
        largest_video=_ceiling("largest_video", largest_video),
    )


def own_model(given: str | None) -> str | None:
    """The gateway's model: the one that was given, else ``SORA_MODEL``."""
    return given or os.environ.get("SORA_MODEL") or None


def own_dialect(given: str | T | None) -> str | T:
    """The gateway's format: the one that was given, else ``SORA_DIALECT``, else ``"backend"``."""
    return given or os.environ.get("SORA_DIALECT") or "backend"


def is_auto(dialect: object) -> bool:
    """Whether the format is still to be found out."""
    return isinstance(dialect, str) and dialect.strip().lower() == "auto"


def _is_patience(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < float("inf")


def _switch(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}={value!r} was given; it is True or False.")
    return value


def _ceiling(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name}={value!r} was given; it is bytes, a whole number, more than 0.")
    return value


def _root(address: str) -> str:
    try:
        parts = urlsplit(address)
        sound = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or re.search(r"[\s\\]", address):
        raise ConfigurationError(
            f"base_url={_quotable(address)} is not an http(s) address.",
            hint="Give one such as https://gateway.example.",
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(
            "base_url must not carry credentials, a query or a fragment.", hint="Pass the key as api_key=."
        )
    return f"{parts.scheme.lower()}://{parts.netloc}{re.sub(_KNOWN_ENDINGS, '', parts.path)}"


def _quotable(address: str) -> str:
    """An address as an error may show it; what is none may be the key, set in the wrong place."""
    return repr(address) if "://" in address else f"(a text of {len(address)} characters)"


def _checked(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not re.fullmatch(r"[\t\x20-\x7e]*", value):
            raise ConfigurationError(f"headers: {name!r} is not a header that HTTP can carry.")
        if name.lower() in ("authorization", "content-length", "host", "transfer-encoding"):
            raise ConfigurationError(f"headers: {name} is set by the client itself.", hint="Pass the key as api_key=.")
    return dict(headers)
