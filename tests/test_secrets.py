"""The API key appears nowhere: not in a value, an error, a log line, a trace, a ledger row or an address.

One sweep asks everything of a gateway that quotes the key, keeps all that anybody could see, and looks for the key and
for any longer piece of it. A new way of quoting is one line of SURFACES.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import gzip
import html
import json
import logging
import pickle
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumps
from langchain_core.tools import ToolException
from pydantic import BaseModel
from raw_gateway import Connection, RawGateway
from scripted_model import scripted

from sora_tools import (
    AsyncSora,
    CreateVideoTool,
    LostReplyError,
    QueryVideoTool,
    Retry,
    Sora,
    SoraError,
    SoraToolkit,
    VideoRequest,
)
from sora_tools.client import redaction
from sora_tools.client.redaction import _without
from sora_tools.config import settings
from sora_tools.errors import _spellings, masked
from sora_tools.flow import Gateway
from sora_tools.flow.exchange import exchange, unquoted
from sora_tools.wire import Reply

KEY = "sk-Test+0123.Secret~4567xyz"
OPERATORS = "the-operators-own-value"
LONGEST_PIECE = 11
PATH = "/sora/backend/video_gen"
FILM = b"".join(
    (8 + len(content)).to_bytes(4) + kind + content
    for kind, content in ((b"ftyp", b"isom\0\0\2\0"), (b"moov", b"m"), (b"mdat", b"d"))
)


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(character):04x}" for character in text)


def percent(text: str) -> str:
    return "".join(f"%{ord(character):02X}" for character in text)


TORN = "\t".join(KEY[start : start + 9] for start in range(0, len(KEY), 9))  # whoever joins addresses drops tabs


# --- a gateway that quotes the key -------------------------------------------------------------------------------


@dataclass
class Quoting:
    """A gateway that does as it should but for what it is told to say."""

    start: str = "HTTP/1.1 200 OK"
    headers: tuple[str, ...] = ()
    task: dict[str, Any] = field(default_factory=dict)
    page: dict[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    location: str = ""
    film: tuple[str, ...] = ("HTTP/1.1 200 OK",)
    spelling: str = KEY
    wrap: Callable[[bytes], bytes] | None = None

    def __call__(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        if path.startswith("/film"):
            self._send(connection, self.film, FILM)
        elif self.location and "onward" not in path:
            self._send(connection, ("HTTP/1.1 307 X", f"location: {self.location}"), b"")
        else:
            content = self.body if self.body is not None else json.dumps(self._answer(method)).encode()
            content = content.replace(KEY.encode(), self.spelling.encode())
            self._send(connection, (self.start, *self.headers), self.wrap(content) if self.wrap else content)

    def _answer(self, method: str) -> dict[str, Any]:
        made = {"id": "gen_1", "url": "/film/1.mp4", **self.task.get("made", {})}
        task = {"id": "task_1", "status": "succeeded", "generations": [made], "prompt": "a man", **self.task}
        return {**task, "status": "queued"} if method == "POST" else {"task_responses": [task], **self.page}

    def _send(self, connection: Connection, lines: tuple[str, ...], content: bytes) -> None:
        length = () if "chunked" in str(lines) else (f"content-length: {len(content)}",)
        connection.raw.sendall("\r\n".join((*lines, *length, "", "")).encode() + content)


def refusing(status: int, message: str = f"Incorrect API key provided: {KEY}.", **error: Any) -> Quoting:
    body = json.dumps({"error": {"message": message, **error}}).encode()
    return Quoting(start=f"HTTP/1.1 {status} X", body=body)


def chunked(trailer: str) -> Quoting:
    return Quoting(
        headers=("transfer-encoding: chunked",),
        wrap=lambda content: b"%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (len(content), content, trailer.encode()),
    )


def naming(**members: Any) -> Quoting:
    return Quoting(task=members)


PAGE = f"<!doctype html><title>{KEY}</title>{KEY}".encode()
SAID = {"prompt": f"{KEY} flies", "title": KEY, "queue_status_message": KEY}
AT_FILM = "/film/1.mp4?key="

SURFACES: dict[str, Quoting] = {
    "nothing": Quoting(),
    # the head
    "reason phrase": Quoting(start=f"HTTP/1.1 200 {KEY}"),
    "reason phrase of a refusal": Quoting(start=f"HTTP/1.1 401 {KEY}"),
    "status line": Quoting(start=f"HTTP/1.1 {KEY}"),
    "not HTTP": Quoting(start=KEY),
    "header value": Quoting(headers=(f"x-gateway: Bearer {KEY}", f"set-cookie: key={KEY}", f"server: {KEY}")),
    "request id": Quoting(start="HTTP/1.1 400 X", headers=(f"x-request-id: {KEY}",), body=b"{}"),
    "retry-after": Quoting(start="HTTP/1.1 503 X", headers=(f"retry-after: {KEY}",), body=b"{}"),
    "header name": Quoting(headers=(f"{KEY}: 1",)),
    "illegal header line": Quoting(headers=(f"illegal {KEY}",)),
    "illegal header name": Quoting(headers=(f"({KEY}): 1",)),
    "illegal header value": Quoting(headers=(f"x: {KEY}\0",)),
    "content length": Quoting(headers=(f"content-length: {KEY}",)),
    "transfer coding": Quoting(headers=(f"transfer-encoding: {KEY}",)),
    "content coding": Quoting(headers=(f"content-encoding: {KEY}",)),
    "content coding that is cut": Quoting(headers=(f"content-encoding: {'x' * 15}{KEY}",)),
    # the body's frame
    "trailer": chunked(f"{KEY}: {KEY}"),
    "illegal trailer": chunked(f"illegal {KEY}"),
    "illegal chunk": Quoting(headers=("transfer-encoding: chunked",), wrap=lambda content: KEY.encode() + b"\r\n"),
    "compressed": Quoting(task=SAID, headers=("content-encoding: gzip",), wrap=gzip.compress),
    # refusals
    "401": refusing(401),
    "400": refusing(400),
    "402": refusing(402),
    "404": refusing(404),
    "429": refusing(429, code="rate_limit_exceeded"),
    "500": refusing(500),
    "503": refusing(503),
    "refusal on 200": refusing(200),
    "code of a refusal": refusing(400, "no", code=KEY, type=KEY),
    "refusal beyond what is repeated": refusing(400, f"{'word ' * 97}{KEY}"),
    "refusal that names a task": refusing(500, "no", task_id=f"task_{KEY}"),
    "web page": Quoting(body=PAGE, headers=("content-type: text/html",)),
    "web page on 404": Quoting(start="HTTP/1.1 404 X", body=PAGE, headers=("content-type: text/html",)),
    "text": Quoting(body=KEY.encode()),
    "text of a failure": Quoting(start="HTTP/1.1 502 X", body=f"upstream {KEY}".encode()),
    "cut JSON": Quoting(body=f'{{"id": "task_{KEY}'.encode()),
    "text on 200, escaped": Quoting(body=KEY.encode(), spelling=escaped(KEY)),
    # tasks
    "prompt, title and queue": Quoting(task=SAID),
    "status": naming(status=KEY),
    "failure": naming(status="failed", failure_reason=f"key {KEY}", error={"message": KEY, "code": KEY}),
    "task id": naming(id=f"task_{KEY}"),
    "unknown member": naming(**{KEY: {KEY: [KEY]}}),
    "generation": naming(made={"id": KEY, "encodings": {KEY: {"path": f"/film/{KEY}"}}}),
    "address": naming(made={"url": f"{AT_FILM}{KEY}", "thumbnail_url": f"/thumb?key={KEY}"}),
    "path": naming(made={"url": f"/film/{KEY}/1.mp4"}),
    "address, percent-encoded": naming(made={"url": f"{AT_FILM}{percent(KEY)}"}),
    "address, quoted": naming(made={"url": f"{AT_FILM}{quote(KEY, safe='')}"}),
    "address, percent-encoded twice": naming(made={"url": f"{AT_FILM}{quote(percent(KEY))}"}),
    "next page": Quoting(page={"has_more": True, "last_id": f"task_{KEY}"}),
    # spellings
    "escaped": Quoting(task=SAID, spelling=escaped(KEY)),
    "escaped at its start": Quoting(task=SAID, spelling=escaped(KEY[0]) + KEY[1:]),
    "escaped twice": Quoting(task=SAID, spelling=escaped(KEY).replace("\\", "\\\\")),
    "in capitals": Quoting(task=SAID, spelling=KEY.upper()),
    "escaped for a page": Quoting(task=SAID, spelling="".join(f"&#{ord(character)};" for character in KEY)),
    # redirects
    "redirect's query": Quoting(location=f"/onward?key={KEY}"),
    "redirect's path": Quoting(location=f"/onward/{KEY}/x"),
    "redirect, percent-encoded": Quoting(location=f"/onward?key={percent(KEY)}"),
    "redirect with a tab": Quoting(location=f"/onward?key={TORN}"),
    "redirect in circles": Quoting(location=f"/?key={KEY}"),
    "redirect elsewhere": Quoting(location=f"https://elsewhere.test/?key={KEY}"),
    "redirect to nowhere": Quoting(location=f"http://[{KEY}"),
    # downloads
    "film's reason phrase": Quoting(film=(f"HTTP/1.1 403 {KEY}",)),
    "film's header": Quoting(film=("HTTP/1.1 200 OK", f'etag: "{KEY}"', f"x: {KEY}")),
    "film's illegal header": Quoting(film=("HTTP/1.1 200 OK", f"illegal {KEY}")),
    "film's redirect": Quoting(film=("HTTP/1.1 302 X", f"location: /film/2?key={KEY}")),
    "film's redirect with a tab": Quoting(film=("HTTP/1.1 302 X", f"location: /film/2?key={TORN}")),
    "film's redirect elsewhere": Quoting(film=("HTTP/1.1 302 X", f"location: http://localhost:1/?key={KEY}")),
    "film's redirect to a host": Quoting(film=("HTTP/1.1 302 X", f"location: https://{KEY}.invalid/")),
}


# --- what anybody could see --------------------------------------------------------------------------------------


def pieces(text: str) -> set[str]:
    """The pieces of the key in a text, however they are spelt."""
    plain = text.casefold()
    unescaped = re.sub(r"\\+(u00([0-9a-f]{2}))?", lambda found: chr(int(found[2], 16)) if found[2] else "", plain)
    read = "\n".join((plain, unescaped, unquote(unquote(plain))))
    key = KEY.casefold()
    every = (key[start : start + LONGEST_PIECE + 1] for start in range(len(key) - LONGEST_PIECE))
    return {piece for piece in every if piece in read}


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        yield from chain(error.__context__ if error.__context__ is not error.__cause__ else None)
        error = error.__cause__


def views(thing: Any) -> Iterator[str]:
    """Every way a thing is looked at."""
    yield f"{thing!r} {thing}"
    if isinstance(thing, BaseModel):
        yield f"{thing.model_dump_json()} {vars(thing)} {pickle.dumps(thing).decode('latin-1')}"
    if isinstance(thing, BaseException):
        yield "".join(traceback.format_exception(thing))
        for one in chain(thing):
            yield f"{one!r} {one} {one.args} {vars(one)}"
            if isinstance(request := getattr(one, "_request", None), httpx.Request):
                yield f"{request.url} {request.headers.raw}"
    if isinstance(thing, SoraError):
        yield f"{thing.describe()} {pickle.dumps(thing).decode('latin-1')} {vars(copy.copy(thing))}"
    if isinstance(thing, dict | list):
        yield json.dumps(thing, default=repr)


class Recorder(BaseCallbackHandler):
    """A tracer that keeps every payload."""

    def __init__(self, keep: Callable[[str, Any], None]) -> None:
        for name in dir(BaseCallbackHandler):
            if name.startswith("on_"):
                setattr(self, name, lambda *given, _name=name, **named: keep(_name, [*given, named]))


class Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {self.format(record)} {vars(record)}")


@pytest.fixture
def log(brisk: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """All loggers at their loudest, heard at the root and at the source. Waits and searches end at once."""
    monkeypatch.setattr("sora_tools.flow.look.LAST_LOOK", 0.05)
    monkeypatch.setattr("sora_tools.flow.reconcile.PAUSES", ())
    log, loggers = Log(), [logging.getLogger(name) for name in ("", "httpcore", "httpcore.http11", "httpx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(log)
    yield log
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
        logger.removeHandler(log)


class Witness:
    """Keeps all that anybody could see, and says where a piece of the key came to light."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()

    def keep(self, where: str, thing: Any) -> None:
        self.seen |= {(where, view) for view in views(thing)}
        for part in thing if isinstance(thing, list | tuple) else ():
            self.keep(where, part)

    def found(self) -> dict[str, set[str]]:
        if not pieces("\n".join(view for _, view in self.seen)):
            return {}
        return {where: found for where, view in sorted(self.seen) if (found := pieces(view))}


def sweep(quoting: Quoting, colour: str, folder: Path, log: Log) -> dict[str, set[str]]:
    """Ask everything, and say where a piece of the key came to light."""
    witness = Witness()
    keep, config = witness.keep, {"callbacks": [Recorder(witness.keep)]}
    with RawGateway(quoting) as gateway, asyncio.Runner() as runner:
        toolkit = SoraToolkit(
            base_url=gateway.base_url,
            api_key=KEY,
            retry=Retry(attempts=2, first=0, longest=0),
            timeout=5.0,
            ledger=folder / "ledger.sqlite",
            max_wait=0.05,
            download_dir=folder,
        )
        sora = toolkit.sora if colour == "sync" else toolkit.async_sora
        run = "invoke" if colour == "sync" else "ainvoke"
        raw = {"sora": toolkit.sora, "async_sora": toolkit.async_sora, "handle_tool_error": False}
        create, query = CreateVideoTool(**raw), QueryVideoTool(**raw, max_wait=0, list_account=True)
        calls = [("create_video", {"prompt": "a"}), ("query_video", {"task_id": "task_1"}), ("query_video", {})]
        agent = create_agent(scripted(calls), toolkit.get_tools())

        async def stream(given: Any, config: Any) -> list[Any]:
            return [event async for event in agent.astream_events(given, config, version="v2")]

        def told(event: Any) -> None:
            keep(type(event).__name__, event)

        def ask(call: Callable[..., Any], *given: Any, **named: Any) -> None:
            try:
                answer = call(*given, **named)
                answer = runner.run(answer) if asyncio.iscoroutine(answer) else answer
            except (SoraError, ToolException) as error:
                answer = error
            keep(getattr(call, "__qualname__", "call"), answer)

        ask(sora.create, "a man", key="one", on_event=told)
        ask(sora.list)
        ask(sora.query, "task_1")
        ask(sora.wait, "task_1", timeout=0.05, on_event=told)
        ask(sora.download, "task_1", folder, on_event=told)
        ask(getattr(create, run), {"prompt": "a cat"}, config)
        ask(getattr(query, run), {"task_id": "task_1"}, config)
        ask(getattr(query, run), {}, config)
        ask(agent.invoke if colour == "sync" else stream, {"messages": [("user", "make it")]}, config)
        runner.run(toolkit.aclose())
        rows = sora.gateway.ledger.submissions()
        keep("ledger", [sora.gateway.ledger.find("one"), *rows, *(dict(row.body) for row in rows)])
    for path in folder.glob("ledger*"):
        keep("ledger", path.read_bytes().decode("latin-1"))
    assert gateway.requests
    for method, path, headers in gateway.requests:
        own = {name: value for name, value in headers.items() if name != "authorization"}
        keep("request", f"{method} {path} {own}")
    keep("files", [str(path) for path in folder.rglob("*")])
    keep("log", log.lines)
    return witness.found()


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("surface", SURFACES)
def test_check_07_the_key_comes_to_light_nowhere(surface: str, colour: str, tmp_path: Path, log: Log) -> None:
    assert sweep(SURFACES[surface], colour, tmp_path, log) == {}


# --- the sweep sees what it looks for ----------------------------------------------------------------------------


def as_it_is(text: Any, *_: Any) -> Any:
    return text


def requests_as_they_are(value: Any) -> Any:
    return value if isinstance(value, httpx.Request) else _without(value)


# what is taken away, what takes its place, and what then comes to light where
MECHANISMS: dict[str, tuple[str, Any, str, str]] = {
    "replies": ("sora_tools.flow.exchange.unquoted", lambda gateway, reply: reply, "prompt, title and queue", "query"),
    "escapes": ("sora_tools.errors._spelt", lambda character, _: re.escape(character), "escaped", "create"),
    "lines": ("logging.Logger.filter", lambda *_: True, "header value", "log"),
    "errors": ("sora_tools.client.transport.unquoting", nullcontext, "illegal header line", "create"),
    "requests": ("sora_tools.client.redaction._without", requests_as_they_are, "illegal header line", "create"),
    "codings": ("sora_tools.client.transport.kept", as_it_is, "content coding that is cut", "create"),
}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_sweep_fails_without_each_of_the_means(
    mechanism: str, tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, instead, surface, where = MECHANISMS[mechanism]
    monkeypatch.setattr(name, instead)
    _spellings.cache_clear()
    found = sweep(SURFACES[surface], "sync", tmp_path, log)
    _spellings.cache_clear()
    assert any(where in place for place in found)


# --- dumps -------------------------------------------------------------------------------------------------------


def made() -> dict[str, Any]:
    own: dict[str, Any] = {"base_url": "https://gateway.test", "api_key": KEY, "headers": {"x-operator": OPERATORS}}
    toolkit = SoraToolkit(**own)
    create, query = toolkit.get_tools()
    gateway = toolkit.sora.gateway
    return {
        "Sora": Sora(**own),
        "AsyncSora": AsyncSora(**own),
        "toolkit": toolkit,
        "create": create,
        "query": query,
        "Gateway": gateway,
        "Settings": gateway.settings,
        "Call": gateway.dialect.create(VideoRequest(prompt="fly man"), "key"),
    }


DUMPS: dict[str, Callable[[Any], Any]] = {
    "repr": repr,
    "str": str,
    "vars": lambda thing: vars(thing) if hasattr(thing, "__dict__") else thing,
    "copy": copy.copy,
    "model_dump": lambda thing: thing.model_dump() if isinstance(thing, BaseModel) else thing,
    "model_dump_json": lambda thing: (
        thing.model_dump_json(exclude={"args_schema"}, fallback=repr) if isinstance(thing, BaseModel) else thing
    ),
    "langchain's": dumps,
    "json": lambda thing: json.dumps(thing, default=repr),
    "rich": lambda thing: list(thing.__rich_repr__()) if hasattr(thing, "__rich_repr__") else thing,
}


@pytest.mark.parametrize("dump", DUMPS)
@pytest.mark.parametrize("kind", made())
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_check_07_no_dump_of_a_public_object_shows_the_key_or_the_operators_headers(kind: str, dump: str) -> None:
    shown = repr(DUMPS[dump](made()[kind]))
    assert not pieces(shown)
    assert OPERATORS not in shown


@pytest.mark.parametrize("kind", ["Sora", "AsyncSora", "toolkit", "create", "query", "Gateway"])
def test_what_holds_the_key_is_not_pickled(kind: str) -> None:
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(made()[kind])


# --- spellings ---------------------------------------------------------------------------------------------------

VISIBLE = st.text("abckns019-_./+=~%:&!$@", min_size=6, max_size=20)
KEYS = st.builds("{0}{1}{2}".format, st.sampled_from("ans/"), VISIBLE, st.sampled_from("bu0=")) | st.just(
    "n\\n-te\\\\st"
)
SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda character: json.dumps(character)[1:-1],
    lambda character: json.dumps(character)[1:-1].replace("/", "\\/"),
    lambda character: f"\\u{ord(character):04x}",
    lambda character: f"\\u{ord(character):04X}",
    lambda character: f"&#{ord(character)};",
    lambda character: f"&#x{ord(character):04X};",
    lambda character: json.dumps(html.escape(character))[1:-1],
)


@given(KEYS, st.text(), st.text(), st.data())
def test_json_that_quotes_the_key_in_any_spelling_stays_json_and_says_the_rest(
    key: str, before: str, after: str, data: st.DataObject
) -> None:
    spelt = "".join(data.draw(st.sampled_from(SPELLINGS))(character) for character in key)
    around = json.dumps(before)[:-1], json.dumps(after)[1:]
    body = f'{{"id": "task_1", "said": {around[0]}{spelt}{around[1]}}}'
    assert html.unescape(json.loads(f'"{spelt}"')) == key
    read = json.loads(masked(body.encode(), key))
    assert read["id"] == "task_1"
    assert key not in read["said"]
    assert "***" in read["said"]


@pytest.mark.parametrize(
    "text",
    [KEY, KEY.upper(), escaped(KEY), percent(KEY), percent(KEY).lower(), quote(percent(KEY)), f"\\\\{escaped(KEY)}"],
)
def test_a_spelling_of_the_key_is_masked_as_text_and_as_bytes(text: str) -> None:
    assert masked(text, KEY) == "***"
    assert masked(text.encode(), KEY) == b"***"


@pytest.mark.parametrize(
    "text", ["", KEY[:-1], KEY[1:], KEY.replace("-", "_"), f"{KEY[:5]} {KEY[5:]}", "\\\\sk-", "%73k"]
)
def test_what_is_not_the_key_is_left_alone(text: str) -> None:
    assert masked(text, KEY) == text
    assert masked(KEY, "") == KEY
    assert masked("\\" * 9, "\\" * 8) == "\\" * 9


@pytest.mark.parametrize(
    "unit",
    [
        "\\",
        "%25",
        KEY[:-1],
        escaped(KEY[:-1]),
        quote(percent(KEY[:-1])),
        f"{KEY[0]}\\\\\\",
        "\\u0073",
        KEY[0],
        "&#0",
        "&#00115;",
    ],
)
def test_a_body_made_to_be_slow_is_read_in_time_that_grows_with_its_length(unit: str) -> None:
    body = unit.encode() * (2**21 // len(unit))
    assert masked(body, KEY) == body  # quadratic would be hours


def test_a_key_too_short_to_be_told_from_a_word_is_not_masked(gateway: Gateway) -> None:
    assert (
        settings("https://gateway.test", "running").secret,
        settings("https://gateway.test", "sk-12345").secret,
    ) == (
        "",
        "sk-12345",
    )
    gateway.settings = settings("https://gateway.test", "running")
    assert unquoted(gateway, Reply(200, {"x": "running"}, b"running")) == Reply(200, {"x": "running"}, b"running")


# --- what other drivers hand to a flow ---------------------------------------------------------------------------


def test_a_flow_masks_the_words_of_errors_itself(gateway: Gateway) -> None:
    gateway.settings = settings("https://gateway.test", KEY)
    asking = exchange(gateway, gateway.dialect.list(10, None), gateway.clock() + 10)
    next(asking)
    with pytest.raises(LostReplyError) as caught:
        asking.throw(LostReplyError(f"said {KEY}", hint=KEY, request_id=KEY, task_id=percent(KEY)))
    assert not pieces(f"{caught.value} {vars(caught.value)}")


def test_a_flow_follows_no_address_that_only_joining_makes_quote_the_key(gateway: Gateway) -> None:
    gateway.settings = settings("https://gateway.test", KEY)
    asking = exchange(gateway, gateway.dialect.list(10, None), gateway.clock() + 10)
    next(asking)
    followed = asking.send(Reply(307, {"location": f"/onward?key={TORN}"}))
    assert followed.call.path == "https://gateway.test/onward?key=***"


# --- errors ------------------------------------------------------------------------------------------------------


def failed() -> Exception:
    """An error that quotes the key wherever an error can."""
    request = httpx.Request("GET", f"https://{KEY}.test/?key={KEY}", headers={"authorization": f"Bearer {KEY}"})
    error: Exception = httpx.ReadError(f"said {KEY}", request=request)
    inner = OSError(2, f"strerror {KEY}", f"/{KEY}", None, f"/other/{KEY}")
    group = ExceptionGroup("two", [ValueError(KEY), ValueError(KEY.encode(), [KEY], (KEY, 1))])
    group.add_note(f"note {KEY}")
    error.__cause__, error.__context__ = OSError(inner), group
    group.__cause__ = UnicodeEncodeError("ascii", f"host {KEY}", 0, 1, KEY)
    inner.__context__ = error
    return error


def test_an_error_is_cleaned_in_place_with_all_it_came_from() -> None:
    client = Sora(base_url="https://gateway.test", api_key=KEY)
    error = failed()
    with pytest.raises(httpx.ReadError) as caught, redaction.unquoting():
        raise error
    assert caught.value is error
    text = "".join(traceback.format_exception(error))
    assert text.count("***") == 4, "what was suppressed is cleaned as well"
    for one in redaction._chain(error):
        assert not pieces(f"{one!r} {one} {one.args} {vars(one)}")
        assert not pieces("".join(str(getattr(one, name, "")) for name in redaction._BUILT_IN))
    assert (error.request.method, str(error.request.url)) == ("GET", "https://***.test/?key=***")
    assert "authorization" not in error.request.headers
    client.close()


def test_an_error_that_quotes_nothing_stays_as_it_is() -> None:
    client = Sora(base_url="https://gateway.test", api_key=KEY)
    error = FileNotFoundError(2, "No such file", "/a")
    with pytest.raises(FileNotFoundError, match=re.escape("[Errno 2] No such file: '/a'")), redaction.unquoting():
        raise error
    with pytest.raises(OSError, match=r"^\[Errno 5\] broken$"), redaction.unquoting():
        raise OSError(5, "broken")
    client.close()


# --- log lines ---------------------------------------------------------------------------------------------------


def test_every_logger_of_the_http_library_is_filtered_once() -> None:
    clients = [Sora(base_url="https://gateway.test", api_key=f"{KEY}{number}") for number in range(3)]
    talkers = {name for name in logging.root.manager.loggerDict if re.match(r"(httpx|httpcore)(\.|$)", name)}
    assert talkers == set(redaction._TALKERS)
    assert {logging.getLogger(name).filters.count(redaction._unquoted_line) for name in talkers} == {1}
    assert all(client.close() is None for client in clients)


def test_a_line_without_the_key_is_passed_on_untouched(log: Log) -> None:
    client = Sora(base_url="https://gateway.test", api_key=KEY)
    plain = logging.LogRecord("httpx", logging.INFO, __file__, 1, "%s is %d", ("it", 7), None)
    before = dict(vars(plain))
    assert redaction._unquoted_line(plain)
    assert vars(plain) == before
    quoting = logging.LogRecord("httpx", logging.INFO, __file__, 1, "%s is %s", ("it", httpx.URL(f"/{KEY}")), None)
    assert redaction._unquoted_line(quoting)
    assert (quoting.getMessage(), quoting.args) == ("it is /***", None)
    client.close()


def test_a_client_that_is_gone_leaves_its_key_to_nobody() -> None:
    client = Sora(base_url="https://gateway.test", api_key="sk-of-one-that-goes")
    assert redaction.kept("sk-of-one-that-goes") == "***"
    client.close()
    del client
    gc.collect()
    assert redaction.kept("sk-of-one-that-goes") == "sk-of-one-that-goes"
