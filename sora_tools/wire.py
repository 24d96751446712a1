"""An exchange with a gateway as a value, and how to read what gateways say when they refuse.

Rule: reading decides what an answer *means* for the money. Only a gateway's own words that nothing was done make a
create ``charged="no"``; every other failure leaves its fate unknown. Nothing here knows an HTTP library, a clock or
a file. Sources: the error bodies of one-api and new-api gateways, the Sora web backend, and RFC 9110.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from math import isfinite
from typing import Any, Final, Generic, Literal, NamedTuple, Protocol, TypeVar

from .errors import (
    AuthenticationError,
    BusyError,
    EndpointUnavailableError,
    InvalidRequestError,
    LostReplyError,
    QuotaError,
    SoraError,
    TaskNotFoundError,
    UnreadableReplyError,
)
from .schemas import TaskPage, VideoRequest, VideoTask, shortened

T = TypeVar("T")
Route = Literal["create", "look", "list", "delete", "account", "download"]

QUOTED: Final = 500
"""Characters of a gateway's own text that an error repeats at most."""

DEEPEST: Final = 100
"""Levels of nesting that are kept of an answer: what prints, copies or pickles it further down may break."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: status, headers with lower-case names, the whole decoded body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def request_id(self) -> str | None:
        """The gateway's name for this exchange."""
        given = next((self.headers[name] for name in _REQUEST_ID_HEADERS if name in self.headers), "")
        return worded(given, 200) or None


def _nothing_else(_reply: Reply) -> None:
    """There is one encoding."""


class Upload(NamedTuple):
    """A file in a form."""

    name: str
    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """What to send, and how to read what comes back.

    Args:
        route: Which of the gateway's routes this is; cool-downs and refusals are told apart by it.
        method: HTTP method.
        path: Path below the gateway's address, percent-encoded, or a whole address on the same origin.
        read: Turns the reply into a model, or raises a SoraError.
        query: Query parameters; None values are left out.
        body: JSON body, or None.
        form: Fields of a multipart/form-data body (RFC 7578) in place of a JSON one.
        otherwise: The same call in another encoding, for a gateway whose reply says that it could not read this one;
            None where the reply says anything else.
        headers: Headers beyond authorization and content type.
        streamed: Whether its answer comes bit by bit, for minutes.
        fresh: Whether it must have a connection of its own, where no earlier answer's leftovers can be taken for its.
    """

    route: Route
    method: Literal["GET", "POST", "DELETE"]
    path: str
    read: Callable[[Reply], T]
    query: Mapping[str, str | int | None] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    form: Mapping[str, str | Upload] | None = None
    otherwise: Callable[[Reply], Call[T] | None] = _nothing_else
    headers: Mapping[str, str] = field(default_factory=dict)
    streamed: bool = False
    fresh: bool = False

    @property
    def paid(self) -> bool:
        """Whether sending it may cost money."""
        return self.route == "create"


class Listener(Protocol):
    """What reads an answer that comes bit by bit."""

    @property
    def named(self) -> bool:
        """Whether the gateway has named the task by now."""

    @property
    def accepted(self) -> bool:
        """Whether what was said shows that the task exists."""

    @property
    def over(self) -> bool:
        """Whether nothing more needs to be read."""

    @property
    def task(self) -> VideoTask:
        """The task as known by now; its id is the ledger key as long as it has no other."""

    def feed(self, data: str) -> VideoTask:
        """Read the data of one server-sent event (WHATWG HTML 9.2), and give the task as known then."""

    def finish(self) -> VideoTask:
        """What became of the task, once the answer has ended in whatever way; a SoraError where it broke off."""


class Dialect(Protocol):
    """One gateway format: pure functions from request to call and from reply to canonical model.

    A format of your own inherits what it has no other answer to.

    Attributes:
        name: What ``dialect=`` calls it.
        looks_by_id: Whether a task is looked up by its id first (True), or in the list first (False).
        tells_once: Whether the create's answer is all that the gateway ever says of a task.
    """

    name: str
    looks_by_id: bool = True
    tells_once: bool = False

    def create(self, request: VideoRequest, key: str) -> Call[VideoTask]:
        """The paid call."""
        ...

    def look(self, task_id: str) -> Call[VideoTask] | None:
        """One task by its id, or None where the format has no such route."""
        return None

    def list(self, limit: int, before: str | None) -> Call[TaskPage] | None:
        """One page of tasks, newest first, or None where the format has no such route."""
        return None

    def listener(self, key: str, reply: Reply) -> Listener | None:
        """What reads the create's answer bit by bit, from its headers on; None where it is there as a whole."""
        return None

    def delete(self, task_id: str) -> Call[None] | None:
        """Delete a task and its videos at the gateway, or None where the format has no such route."""
        return None

    def adjusted(self, request: VideoRequest) -> tuple[str, ...]:
        """What is made other than asked for, because the format has no way to say it: a sentence for each."""
        return ()

    def made(self, request: VideoRequest) -> VideoRequest | None:
        """What is made of a request, as far as is known: with the length and the size that the format has for it.

        Prices and limits are held against this. Members that ``extra`` gives are the caller's own, and change nothing.
        None where nothing tells it before, as of a remix that has the length and the size of its source.
        """
        return request

    def expected(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a list may show of a request's body; members left out are not compared."""
        return body

    def located(self, reply: Reply) -> str | None:
        """Where a video is, if a reply in place of its bytes says so."""
        return None


# --- reading -----------------------------------------------------------------------------------------------------

_REQUEST_ID_HEADERS: Final = ("x-request-id", "x-oneapi-request-id", "request-id", "cf-ray")
_OK_CODES: Final = (None, "", 0, "0", 200, "200", "success", "ok")
_RATE_CODES: Final = frozenset({"rate_limit_exhausted", "rate_limit_exceeded", "rate_limit_error", "rate_limited"})
_CONCURRENCY_CODES: Final = frozenset({"too_many_concurrent_tasks", "token_concurrency_limit_reached"})
_BUSY_CODES: Final = frozenset({"heavy_load", "overloaded", "overloaded_error", "queue_full", "server_busy"})
_QUOTA_CODES: Final = frozenset(
    {
        "insufficient_user_quota",
        "insufficient_quota",
        "quota_not_enough",
        "pre_consume_token_quota_failed",
        "billing_hard_limit_reached",
        "billing_not_active",
    }
)
_AUTH_CODES: Final = frozenset(
    {
        "token_expired",
        "token_invalidated",
        "invalid_jwt",
        "invalid_api_key",
        "access_denied",
        "unsupported_country_code",
    }
)
_ABSENT_CODES: Final = frozenset({"api_not_implemented", "not_implemented", "model_not_found"})
_TASK_ABSENT_CODES: Final = frozenset({"task_not_exist", "task_not_found"})
_REFUSED_CODES: Final = frozenset({"invalid_request", "invalid_json", "missing_model", "invalid_size"})

# Patterns are text: re compiles and remembers them on first use, and an import stays cheap.
# The whole message, so that a prompt which a gateway quotes in its error cannot pass for the gateway's own words.
_ABSENT_WORDS: Final = (
    r"(?i)(((this|the) )?(api|endpoint|feature|interface|model|route|service) (is )?)?((currently|temporarily) )?"
    r"(coming soon|(in|under) development|not (yet )?implemented|paused|suspended)"
    r"|(当前|该|此)?(接口|功能|服务)?(正在)?(即将上线|开发中|尚未开放|暂停使用|暂停服务|暂未开放)"
    r"|(当前)?分组 \S+ 下(对于)?模型 \S+ 无可用渠道(（distributor）)?"
    r"|no available channel( for model \S+ under group \S+)?( \(distributor\))?"
    r"|(the )?model ['\"`]?[\w./:-]+['\"`]? (does not exist|not found)( or you do not have access to it)?"
    r"|invalid url \(\w+ \S+\)"
)
_REQUEST_ID: Final = r"(?i)\(request id: [^()]*\)$"
_COURTESY: Final = r"(?i)((please )?(try again|check back|stay tuned)( later)?|敬请期待|请稍后(再试|重试))$"
_STOPS: Final = " ,.;!，。；！"
_QUOTA_WORDS: Final = (
    r"(?i)(用户|账户|账号)?(额度|余额)(不足|已用尽)|insufficient (user |account )?(quota|balance|credit)"
    r"|(you )?exceeded your current quota"
)
_MODERATION: Final = r"(?i)moderation|violat|content.?policy|policy.?violation|guardrail|safety system|违规|敏感"
_CHALLENGE: Final = (
    rb"(?i)_cf_chl_opt|__cf_chl_|challenge-platform|just a moment|enable javascript and cookies"
    rb"|attention required! \| cloudflare"
)
_MOVED: Final = (301, 302, 307, 308)
"""The redirects that say that nothing was done here. 303 is "done, see there", and one nobody knows is as vague as 300
(RFC 9110 15 and 15.4)."""

_RETIRED: Final = "Name a model this gateway serves. OpenAI switched its Sora models off on 2026-09-24."


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The facts of an answer that is not a result."""

    reply: Reply
    route: Route
    said: str
    code: str
    kind: str

    @property
    def words(self) -> str:
        return f"{self.code} {self.kind} {self.said}"

    def error(self, kind: type[SoraError], what: str, hint: str = "", **facts: Any) -> SoraError:
        quoted = f": {self.said}" if self.said else ""
        facts.setdefault("retry_after", retry_after(self.reply.headers))
        if self.reply.headers.get("x-should-retry", "").strip().lower() == "false":
            facts["retryable"] = False
        return kind(
            f"{what} (HTTP {self.reply.status}){quoted}",
            hint=hint,
            http_status=self.reply.status,
            request_id=self.reply.request_id,
            **facts,
        )

    def unavailable(self, what: str, hint: str = "", **facts: Any) -> SoraError:
        facts.setdefault("charged", "no")
        return self.error(EndpointUnavailableError, what, hint, **facts)

    def unclear(self, what: str, hint: str = "") -> SoraError:
        return self.error(LostReplyError, what, hint, charged="unknown" if self.route == "create" else "no")


def opened(reply: Reply, route: Route, parsed: Any = None) -> Any:
    """The JSON of a reply that is a result.

    Args:
        reply: What came back. Any content type: gateways send JSON as text/plain.
        route: What was asked.
        parsed: What ``any_json`` made of it, where that is known.

    Returns:
        The parsed body, free of error envelopes.

    Raises:
        SoraError: The reply is a refusal, a page meant for people, or nothing readable.
    """
    if 200 <= reply.status < 300:
        value = _parsed(reply, route) if parsed is None else parsed
        if (refusal := _enveloped(reply, route, value)) is not None:
            raise _doubted(_meaning(refusal), route, value)
        return value
    raise refused(reply, route, parsed)


def refused(reply: Reply, route: Route, parsed: Any = None) -> SoraError:
    """The error that a reply with a status other than 2xx means."""
    value = _json(reply.body) if parsed is None else parsed
    return _doubted(_meaning(_facts(reply, route, value if isinstance(value, dict) else {})), route, value)


def _doubted(error: SoraError, route: Route, value: Any) -> SoraError:
    """A refusal of a create that names a task contradicts itself: the task may exist."""
    if route == "create" and (task_id := _task_named(value)) is not None:
        error.about(task_id=worded(task_id, 200), charged="unknown")
    return error


def _task_named(value: Any, depth: int = 3) -> str | None:
    """A task id anywhere near the top of a body; ids of errors and requests are none."""
    if isinstance(value, list) and depth:
        return next((found for each in value[:10] if (found := _task_named(each, depth - 1)) is not None), None)
    if not isinstance(value, dict) or not depth:
        return None
    for name in ("task_id", "taskId", "id", "video_id"):
        if isinstance(value.get(name), str | int) and value[name]:
            return str(value[name])
    inner = (value.get(name) for name in ("data", "task", "result", "payload", "video", "output", "detail"))
    found = next((found for each in inner if (found := _task_named(each, depth - 1)) is not None), None)
    error = value.get("error")
    return found or (_task_named({"task_id": error.get("task_id")}) if isinstance(error, dict) else None)


def unreadable(reply: Reply, route: Route, what: str, **facts: Any) -> SoraError:
    """The error for an answer that should have been a result and cannot be understood."""
    return _Refusal(reply, route, _excerpt(reply.body), "", "").error(
        UnreadableReplyError, what, charged="unknown" if route == "create" else "no", **facts
    )


def not_shown(reply: Reply, task_id: str) -> SoraError:
    """The error for an answer to a look that says, as a result, that there is no such task (yet)."""
    return _no_such_task(_Refusal(reply, "look", "", "", "")).about(task_id=task_id)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds the gateway asks to wait: ``retry-after-ms``, or ``Retry-After`` (RFC 9110 10.2.3, all date forms).

    Only finite, non-negative values in ASCII digits count; anything else is None. No header can make this raise.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", milliseconds):
        return float(milliseconds) / 1000
    given = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", given):
        return float(given)
    when = _moment(given)
    return None if when is None else max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


def dated(headers: Mapping[str, str]) -> datetime | None:
    """When the answer was made, by the clock of whoever made it: ``Date`` (RFC 9110 6.6.1). None for no such time."""
    when = _moment(headers.get("date", "").strip())
    return when if when is not None and 2020 <= when.year <= 2100 else None


def _moment(given: str) -> datetime | None:
    """A date in any of HTTP's forms; None where it is none, or none that can be reckoned with."""
    if not re.match(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)", given):
        return None
    try:
        when = parsedate_to_datetime(given)
        when = when.replace(tzinfo=when.tzinfo or UTC)
        when.timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return when


def poll_after(headers: Mapping[str, str]) -> float | None:
    """Seconds after which the gateway asked to be looked at again, or None."""
    hinted = headers.get("openai-poll-after-ms", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", hinted):
        return int(hinted) / 1000
    return retry_after(headers)


def _parsed(reply: Reply, route: Route) -> Any:
    if not reply.body.strip():
        raise unreadable(reply, route, "The gateway answered with an empty body")
    value = _json(reply.body)
    if value is not _NOT_JSON:
        return value
    if _is_page(reply):
        if _is_challenge(reply):
            raise _meaning(_facts(reply, route, {}))
        raise _Refusal(reply, route, "", "", "").unavailable(
            "The gateway answered with a web page instead of JSON",
            "It does not serve this route (yet); check the address and the dialect.",
            charged="unknown" if route == "create" else "no",
        )
    raise unreadable(reply, route, "The gateway's answer is not JSON")


_NOT_JSON: Final = object()


def _json(body: bytes) -> Any:
    """The parsed body, or _NOT_JSON, forgiving what loses no meaning: a task's id may be in it.

    A byte order mark is skipped, bytes that are no UTF-8 are replaced, control characters may stand in a text, numbers
    that are not finite are null, halves of a character that cannot be encoded are "?", and what is nested deeper than
    anything documented is left out. Of two members with one name the last one counts, as for the parsers that
    gateways' own programs use. UTF-16 is not read: a key that is quoted in it would not be masked.
    """
    text = body.decode("utf-8-sig", "replace")
    try:
        value = json.loads(text, strict=False, parse_float=_finite, parse_constant=_null)
    except (ValueError, RecursionError):
        return _NOT_JSON
    if text.count("[") + text.count("{") > DEEPEST:
        _flatten(value)
    if re.search(r"\\u[dD][89a-fA-F]", text):
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def _flatten(value: Any) -> None:
    """Empty the lists and objects that are nested deeper than is kept."""
    containers = (dict, list)
    level: list[Any] = [[value]]
    for _ in range(DEEPEST + 1):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [found for each in inner for found in each if found and isinstance(found, containers)]
    for each in level:
        each.clear()


def _finite(number: str) -> float | None:
    """A number, or null where it is too large to be one here."""
    value = float(number)
    return value if isfinite(value) else None


def _null(_constant: str) -> None:
    """NaN and Infinity, which Python gateways write where a number is not known."""


def _is_page(reply: Reply) -> bool:
    start = reply.body[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "text/html" in reply.headers.get("content-type", "").lower() or start.startswith(
        (b"<!doctype", b"<html", b"<head")
    )


def _is_challenge(reply: Reply) -> bool:
    """Whether a page asks its reader to prove to be human."""
    return re.search(_CHALLENGE, reply.body[:65536]) is not None


def _excerpt(body: bytes) -> str:
    return worded(body[: 4 * QUOTED].decode("utf-8", "replace"), 200)


def worded(value: Any, length: int = QUOTED) -> str:
    """Whatever a gateway says, as one line of printable text, cut to so many characters.

    Only its beginning is read, so that a gateway that says a lot costs little.
    """
    parts = (
        (value,) if isinstance(value, str) else islice(json.JSONEncoder(ensure_ascii=False).iterencode(value), length)
    )
    begun = "".join(parts)[: 4 * length]
    line = " ".join(begun.split())
    return shortened("".join(filter(str.isprintable, line)).strip(), length)


def _enveloped(reply: Reply, route: Route, value: Any) -> _Refusal | None:
    """The refusal inside a 2xx answer, where it is one."""
    if not isinstance(value, dict):
        return None
    named = bool(value.get("id") or value.get("task_id") or value.get("video_id"))
    failed = (
        value.get("success") is False
        or (_says_something(value.get("error")) and not (named and "status" in value))
        or (value.get("code") not in _OK_CODES and not named and not value.get("data"))
    )
    return _facts(reply, route, value) if failed else None


def _says_something(error: Any) -> bool:
    """Whether an error is one: some gateways send ``{"code": 0, "message": ""}`` along with every result."""
    told = error.values() if isinstance(error, dict) else [error]
    return any(each not in _OK_CODES and bool(each) for each in told)


def _facts(reply: Reply, route: Route, value: Mapping[str, Any]) -> _Refusal:
    """What an error body says, in every envelope gateways are known to use."""
    inner = value.get("error")
    nested = inner if isinstance(inner, dict) else {}
    said = next(
        (
            worded(text)
            for text in (
                nested.get("message"),
                inner if isinstance(inner, str) else None,
                value.get("message"),
                value.get("msg"),
                nested.get("detail"),
                value.get("detail"),
                value.get("description"),
                value.get("err"),
                value.get("error_msg"),
            )
            if text
        ),
        "" if value or _is_page(reply) else _excerpt(reply.body),
    )
    code = next((given for given in (nested.get("code"), value.get("code")) if given not in _OK_CODES), "")
    kind = next((given for given in (nested.get("type"), value.get("type")) if given), "")
    return _Refusal(reply, route, said, worded(code, 100).lower(), worded(kind, 100).lower())


def _meaning(refusal: _Refusal) -> SoraError:
    """Which error a refusal is. The gateway's own code decides first, then its words, then the status."""
    return _by_code(refusal) or _by_status(refusal)


def _by_code(refusal: _Refusal) -> SoraError | None:
    codes = {refusal.code, refusal.kind}
    if codes & _QUOTA_CODES or _says_no_quota(refusal):
        return refusal.error(QuotaError, "The account has no quota left", "Top the account up, or use another key.")
    if codes & _CONCURRENCY_CODES:
        return refusal.error(BusyError, "Too many tasks are in progress", "Wait until one of them has ended.")
    if codes & _RATE_CODES:
        return refusal.error(BusyError, "The gateway limits the rate of requests", "Wait, then ask again.")
    if codes & _BUSY_CODES:
        return refusal.error(BusyError, "The gateway is overloaded", "Wait, then ask again.")
    if codes & _AUTH_CODES:
        return _unauthenticated(refusal)
    if codes & _TASK_ABSENT_CODES and refusal.route != "create":
        return _no_such_task(refusal)
    if codes & _ABSENT_CODES or re.fullmatch(_ABSENT_WORDS, _without_courtesies(refusal.said)):
        return _absent(refusal)
    if codes & _REFUSED_CODES:
        return _invalid(refusal)
    return None


def _without_courtesies(said: str) -> str:
    """The words that tell, without what follows them out of politeness or for a support ticket."""
    told = re.sub(_REQUEST_ID, "", said).rstrip(_STOPS)
    return re.sub(_COURTESY, "", told).rstrip(_STOPS)


def _says_no_quota(refusal: _Refusal) -> bool:
    """Whether its words say so: anywhere in a plain refusal, which did nothing anyway, else only from the start."""
    status = refusal.reply.status
    if 400 <= status < 500 and status not in (408, 499):
        return re.search(_QUOTA_WORDS, refusal.said) is not None
    return status < 300 and re.match(_QUOTA_WORDS, refusal.said) is not None


def _by_status(refusal: _Refusal) -> SoraError:
    status, headers = refusal.reply.status, refusal.reply.headers
    if headers.get("cf-mitigated") == "challenge" or (_is_page(refusal.reply) and _is_challenge(refusal.reply)):
        return refusal.unclear(
            "A bot check stands between this machine and the gateway", "Ask its operator to let you in."
        )
    if 300 <= status < 400:
        return _redirected(refusal)
    match status:
        case 401 | 403:
            return _unauthenticated(refusal)
        case 402:
            return refusal.error(QuotaError, "The gateway asks for payment", "Top the account up.")
        case 404 if refusal.route in ("look", "delete") and not _is_page(refusal.reply):
            return _no_such_task(refusal)
        case 404 | 405 | 501:
            return _absent(refusal)
        case 409 if refusal.route == "delete":
            return refusal.error(BusyError, "The gateway has to end the task first", "Ask again.")
        case 425:
            return refusal.error(BusyError, "The gateway refused an early request", "Ask again.", most_sends=2)
        case 429:
            return refusal.error(BusyError, "The gateway limits the rate of requests", "Wait, then ask again.")
        case 503 if retry_after(headers) is not None:
            return refusal.error(BusyError, "The gateway is busy", "Wait, then ask again.")
    if status < 400:
        return refusal.unclear("The gateway reported an error in a form of its own")
    if status in (408, 499) or status >= 500:  # 499: nginx's client or proxy went away meanwhile
        return refusal.unclear("The gateway failed")
    return _invalid(refusal)


def _redirected(refusal: _Refusal) -> SoraError:
    if refusal.route == "create" and refusal.reply.status not in _MOVED:
        return refusal.unclear("The gateway answered with a redirect that may mean that it has the task")
    where = worded(refusal.reply.headers.get("location", ""), 200) or "nowhere"
    return refusal.unavailable(f"The gateway redirected to {where}", "Use the address it serves the API at.")


def _unauthenticated(refusal: _Refusal) -> SoraError:
    return refusal.error(
        AuthenticationError, "The gateway does not accept the API key", "Check SORA_API_KEY and what the key may do."
    )


def _absent(refusal: _Refusal) -> SoraError:
    if re.search(r"model|渠道|channel", f"{refusal.code} {refusal.said}", re.IGNORECASE):
        return refusal.unavailable("The gateway has no channel for this model", _RETIRED)
    return refusal.unavailable(
        "The gateway does not serve this route",
        "It may be in development, or switched off; try another dialect or gateway.",
    )


def _no_such_task(refusal: _Refusal) -> SoraError:
    return refusal.error(TaskNotFoundError, "The gateway knows no such task", "Check the task id.")


def _invalid(refusal: _Refusal) -> SoraError:
    if re.search(_MODERATION, refusal.words):
        return refusal.error(
            InvalidRequestError, "The gateway's moderation refused the request", "Word the prompt differently."
        )
    hint = "The request or its images are too large." if refusal.reply.status == 413 else "Change the request."
    return refusal.error(InvalidRequestError, "The gateway refused the request", hint)


def typeid_time(task_id: str) -> datetime | None:
    """When a task was made, from an id of the form ``task_01...``: a TypeID holds a UUIDv7 (RFC 9562 5.7).

    None for ids of another form, and where the time would be before 2024 or after 2100.
    """
    suffix = task_id.rpartition("_")[2].lower()
    if not re.fullmatch(r"[0-7][0-9a-hjkmnp-tv-z]{25}", suffix):
        return None
    number = 0
    for character in suffix:
        number = number * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(character)
    seconds = (number >> 80) / 1000
    return datetime.fromtimestamp(seconds, UTC) if 1_704_067_200 <= seconds <= 4_102_444_800 else None


# --- reading, shared by dialects ---------------------------------------------------------------------------------


def any_json(reply: Reply) -> Any:
    """The JSON of a reply whatever its status, or None: some gateways send a failed task as an HTTP error."""
    value = _json(reply.body)
    return None if value is _NOT_JSON else value
