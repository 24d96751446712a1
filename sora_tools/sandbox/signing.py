"""Signed URLs for the sandbox's videos: they need no key, cannot be forged and run out."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import urlencode

from .messages import Answer, Call, storage_error
from .tasks import iso

PATH = "/media/"


class Signer:
    """Hands out the URLs of one gateway's videos and knows them again."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def url(self, origin: str, name: str, expires: float) -> str:
        """Where a file can be had until it expires, Unix time."""
        stamp = iso(expires)
        return f"{origin}{PATH}{name}?{urlencode({'se': stamp, 'sig': self._signature(name, stamp)})}"

    def answer(self, call: Call, now: float) -> Answer:
        """The file a URL leads to, or the storage's refusal."""
        name = call.path.removeprefix(PATH)
        expires = call.query.get("se", "")
        if not hmac.compare_digest(call.query.get("sig", "").encode(), self._signature(name, expires).encode()):
            return storage_error("Signature did not match")
        if expires < iso(now):
            return storage_error(f"Signature not valid in the specified time frame: Expiry [{expires}]")
        return Answer(media=name, media_url=f"{call.origin}{call.path}?{urlencode(call.query)}")

    def _signature(self, name: str, expires: str) -> str:
        digest = hmac.new(self._secret, f"{name}\n{expires}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")
