"""The pictures a create brings or points to: read from this machine only, and checked to be pictures."""

from __future__ import annotations

import asyncio
import base64
import binascii
import http.client
import ipaddress
import time
from urllib.parse import urlsplit

from .orders import OrderError, Source

PICTURE_SECONDS = 5.0
PICTURE_BYTES = 20 * 1024 * 1024
PICTURE_SIGNS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")


async def read(source: Source) -> bytes | OrderError:
    """A picture that a create names, or why it cannot be had."""
    named = source.picture
    assert named is not None
    if isinstance(named, bytes):
        picture, where = named, "in the form"
    else:
        where = f"at {named[:100]}"
        try:
            picture = await asyncio.to_thread(_fetched, named)
        except (OSError, ValueError, http.client.HTTPException) as exc:
            return OrderError(source.where, f"The image {where} could not be read: {exc}", "invalid_image_url")
    if not picture.startswith(PICTURE_SIGNS):
        return OrderError(source.where, f"There is no image {where}.", "invalid_image")
    return picture


def _fetched(url: str) -> bytes:
    if url.startswith("data:"):
        head, _, data = url.partition(",")
        if not head.endswith(";base64"):
            raise ValueError("only base64 data URLs are read")
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as exc:
            raise ValueError(f"bad base64: {exc}") from None
    parts = urlsplit(url)
    if parts.scheme != "http" or not is_loopback(parts.hostname or ""):
        raise ValueError("the sandbox reads data URLs and http URLs of this machine only")
    deadline = time.monotonic() + PICTURE_SECONDS
    # http.client and not a full client: it follows no redirect off this machine and knows no proxy.
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PICTURE_SECONDS)
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}")
        response = connection.getresponse()
        if response.status != 200:
            raise ValueError(f"HTTP {response.status}")
        picture = bytearray()
        while chunk := response.read1(65536):
            picture += chunk
            if len(picture) > PICTURE_BYTES or time.monotonic() > deadline:
                raise ValueError(f"more than {PICTURE_BYTES} bytes or {PICTURE_SECONDS:g} seconds")
        return bytes(picture)
    finally:
        connection.close()


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by name: `localhost` or a literal loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
