"""The API key kept out of what others write: the HTTP library's log lines, and the errors it raises.

Rule: nothing but the key is changed. Which keys those are is asked of the clients that are alive; each says "" for one
too short to be told from a word.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, AnyStr, Final
from weakref import WeakKeyDictionary

import httpx

from ..errors import masked

_TALKERS: Final = (
    "httpx",
    "httpcore",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
)
"""The loggers of httpx and httpcore. Each takes the filter: none asks that of the logger above it."""

_BUILT_IN: Final = ("filename", "filename2", "object", "reason", "strerror")
"""Members of OSError and UnicodeError that hold words and stand in neither ``args`` nor ``vars``."""

_secrets: Final[WeakKeyDictionary[object, str]] = WeakKeyDictionary()


def keep(secret: str, client: object) -> None:
    """Keep a secret out of logs and errors for as long as its client lives."""
    _secrets[client] = secret
    for name in _TALKERS:
        logging.getLogger(name).addFilter(_unquoted_line)  # once each, logging sees to that


def kept(text: AnyStr) -> AnyStr:
    """A text without the secrets of the clients that are alive."""
    alive = [client for reference in _secrets.keyrefs() if (client := reference()) is not None]
    for secret in {_secrets.get(client, "") for client in alive}:
        text = masked(text, secret)
    return text


@contextmanager
def unquoting() -> Iterator[None]:
    """Let no error pass that quotes a secret, itself or in what it came from."""
    try:
        yield
    except BaseException as error:
        for one in _chain(error):
            _clean(one)
        raise


def _unquoted_line(record: logging.LogRecord) -> bool:
    said = record.getMessage()
    if (told := kept(said)) != said:
        record.msg, record.args = told, None
    return True


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all it came from or holds, once each."""
    ahead, met = [error], set[int]()
    while ahead:
        one = ahead.pop()
        if id(one) in met:
            continue
        met.add(id(one))
        yield one
        held = (*one.args, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ()))
        ahead += [other for other in (one.__cause__, one.__context__, *held) if isinstance(other, BaseException)]


def _clean(error: BaseException) -> None:
    """Take the secrets out of an error's own words, in place, and the headers off the request it holds."""
    error.args = tuple(map(_without, error.args))
    vars(error).update({name: _without(value) for name, value in vars(error).items()})
    for name in _BUILT_IN if isinstance(error, OSError | UnicodeError) else ():
        if (words := getattr(error, name, None)) is not None:
            setattr(error, name, _without(words))


def _without(value: Any) -> Any:
    match value:
        case str():
            return kept(value)
        case bytes():
            return kept(value)
        case tuple() | list() if type(value) in (tuple, list):
            return type(value)(map(_without, value))
        case httpx.Request():
            return httpx.Request(value.method, kept(str(value.url)))
    return value
