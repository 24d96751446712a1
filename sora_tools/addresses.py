"""Addresses: which machine one leads to, and who may be led there by somebody else's word.

Rule. The operator chooses the gateway and may put it anywhere. Whoever else names an address (a gateway for its video,
a redirect, a model for its image) may lead a program out to the public, over https, and back to the gateway itself;
never to the machines around the program. What two readers of one address could understand differently counts as no
address.
"""

from __future__ import annotations

import re
import socket
import unicodedata
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple
from urllib.parse import urljoin, urlsplit

_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\x00-\x20\x7f\\@:%\[\]]+)(?::([0-9]{0,5}))?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PRIVATE_NAMES: Final = (".localhost", ".local", ".internal", ".localdomain", ".home.arpa")
_TRANSLATED: Final = ip_network("64:ff9b::/96")  # NAT64: the last 32 bits are the IPv4 address it stands for
_CLOSED: Final = tuple(
    ip_network(block)
    for block in (
        "100.64.0.0/10",  # carrier-grade NAT, and metadata at one provider
        "168.63.129.16/32",  # a provider's metadata at an address that looks public
        "192.0.0.0/24",  # Python before 3.12.4 calls only a part of it private
        "64:ff9b:1::/48",  # NAT64 of a site's own
        "fec0::/10",  # site-local, deprecated and still routed by some
    )
)


class Site(NamedTuple):
    """Where an address leads: a host in one spelling, and a port."""

    scheme: str
    host: str
    port: int


def site(url: str) -> Site | None:
    """Where an http(s) address leads; None where it is none, has credentials, or can be read in two ways."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    authority = _AUTHORITY.fullmatch(parts.netloc)
    if parts.scheme not in ("http", "https") or authority is None or _CONTROL.search(url):
        return None
    host = _spelt(authority[1].strip("[]"))
    port = int(authority[2] or (443 if parts.scheme == "https" else 80))
    return Site(parts.scheme, host, port) if host and 0 < port < 2**16 else None


def origin(url: str) -> str:
    """Scheme, host and port of an address, in one spelling.

    Raises:
        ValueError: It is none.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return f"{scheme}://{(parts.hostname or '').lower()}:{parts.port or (443 if scheme == 'https' else 80)}"


def joined(url: str, location: str) -> str | None:
    """Where a location leads from an address; None where it is none."""
    try:
        address = urljoin(url, location)
        origin(address)
    except ValueError:
        return None
    return address


def near(url: str, gateway: str) -> bool:
    """Whether an address leads to the gateway's own host, or stays on this machine where the gateway is on it too."""
    there, own = site(url), site(gateway)
    if there is None or own is None:
        return False
    return there.host == own.host or (loopback(there.host) and loopback(own.host))


def objection(url: str, gateway: str, *, private_addresses: bool = False) -> str | None:
    """Why nothing may be fetched from an address, as the rest of a sentence about it; None where it may.

    Args:
        url: An address that somebody else named.
        gateway: The operator's, which opens its own host.
        private_addresses: Whether the operator opens the machines around too.
    """
    there = site(url)
    if there is None:
        return "is not https, or is not a plain address"
    if near(url, gateway):
        return None
    if there.scheme != "https":
        return "is not https"
    if not private_addresses and private(there.host):
        return f"leads to {there.host[:80]}, which is a private host"
    return None


def private(host: str) -> bool:
    """Whether a host is not the public's: by its address, however it is spelt, or by its name. "" is private."""
    host = _spelt(host.partition("%")[0])
    address = _literal(host)
    if address is None:
        return "." not in host or host.endswith(_PRIVATE_NAMES)
    address = _meant(address)
    return (
        not address.is_global
        or address.is_multicast
        or address.is_reserved
        or any(address in block for block in _CLOSED if block.version == address.version)
    )


def loopback(host: str) -> bool:
    """Whether a host is this machine by name, or an address that never leaves it."""
    host = _spelt(host)
    address = _literal(host)
    return _meant(address).is_loopback if address else f".{host}".endswith(".localhost")


def _spelt(host: str) -> str:
    """One spelling for all that a resolver, or a browser's reading of a name, takes for the same host."""
    text = unicodedata.normalize("NFKC", host).replace("\u3002", ".").rstrip(".").lower()
    text = "".join(character for character in text if unicodedata.category(character) != "Cf")
    address = _literal(text)
    return text if address is None else str(address)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))  # decimal, hexadecimal, octal, short: what resolvers take
    except (OSError, ValueError):
        return None


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address inside, where that is the machine at the other end."""
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _TRANSLATED:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address
