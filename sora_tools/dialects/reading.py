"""Reading JSON that nobody vouches for.

Rule: every function here takes any JSON value and gives back what was asked for or nothing; none raises. A number is
a JSON number (true is not 1, "3" is not 3), a text has something in it, and what is out of bounds counts as absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from ..schemas import FRAMES_PER_SECOND, EchoedAction, Failure, FailureKind, TaskPage, TaskStatus, VideoTask
from ..wire import worded

_LARGEST: Final = 2**53
"""Beyond it a JSON number is no longer exact, and no documented field comes near."""

_LONGEST_ADDRESS: Final = 2**14
_LONGEST_ID: Final = 512
_MOST_MOMENTS: Final = 1000
_MOST_ENCODINGS: Final = 50
MOST_LISTED: Final = 1000
"""Tasks that are read at most of what an answer lists."""

_MOST_ADDRESSES: Final = 100

_ENVELOPES: Final = ("task", "data", "result", "payload")

_ADDRESSES: Final = ("video_url", "result_url", "downloadable_url", "url", "urls", "unsigned_urls", "output", "outputs")
"""Members that hold a video's address, best first. One may also hold an object with such members, or a list."""

_HOLDERS: Final = ("data", "content", "metadata", "detail", "draft_info")
"""Members whose object may hold the members above."""

RENDITIONS: Final = ("source", "source_wm", "md", "ld")
"""The encodings that stand in for a video without an address of its own, best first."""

_STATUSES: Final[Mapping[TaskStatus, str]] = {
    "queued": "queued preprocessing pending submitted not_start notstarted preparing created starting",
    "running": "running processing in_progress generating",
    "succeeded": "succeeded success completed complete finished",
    "failed": "failed failure fail error expired timeout",
    "cancelled": "cancelled canceled deleted",
}
_STATUS_OF: Final[Mapping[str, TaskStatus]] = {
    word: status for status, words in _STATUSES.items() for word in words.split()
}

_WORDS: Final[Mapping[FailureKind, str]] = {
    "moderation_input": "The gateway's moderation refused the request.",
    "moderation_output": "The gateway's moderation withheld the finished video.",
    "no_output": "The gateway says it succeeded, but gives no video.",
    "cancelled": "The task was cancelled.",
}

_MODERATED: Final = r"(?i)moderat|violat|policy|guardrail|unsafe|safety|违规|敏感"
_LATE: Final = r"(?i)time[d_ -]*out|deadline|expired|超时"
_UPSTREAM: Final = r"(?i)internal|upstream|server|processing|overload|heavy.?load|unavailable"


def text(value: Any) -> str | None:
    """A text that is not blank. Halves of a character that cannot be encoded are replaced."""
    if not isinstance(value, str) or not value.strip():
        return None
    return value.encode("utf-8", "replace").decode()


def number(value: Any, least: float = 0) -> float | None:
    """A finite number, ``least`` or more."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if least <= value <= _LARGEST else None


def whole(value: Any, least: int = 0) -> int | None:
    """A whole number, ``least`` or more; 150.0 is one."""
    found = number(value, least)
    return int(found) if found is not None and found.is_integer() else None


def percent(value: Any) -> float | None:
    """A share of 1 that is told in hundredths: 30, "30" or "30%". What is beyond 100 is all of it."""
    hundredths = seconds(value.rstrip("% ") if isinstance(value, str) else value)
    return None if hundredths is None else min(hundredths / 100, 1.0)


def seconds(value: Any) -> float | None:
    """A length, as a number or as the text of one."""
    if isinstance(value, str):
        return float(value) if re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*", value) else None
    return number(value)


def members(value: Any) -> Mapping[str, Any]:
    """An object, empty where it is none."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The objects of a list; other elements are left out."""
    return tuple(element for element in value if isinstance(element, dict)) if isinstance(value, list) else ()


def within(value: Any, *names: str) -> Any:
    """What stands at the end of a path of members; None where it breaks off."""
    for name in names:
        value = members(value).get(name)
    return value


def first_text(*values: Any) -> str | None:
    """The first of several values that is a text."""
    return next(filter(None, map(text, values)), None)


def carried(value: Any) -> Iterator[Mapping[str, Any]]:
    """The object that a body is, and those that it carries in an envelope."""
    yield from (found for each in (value, *map(members(value).get, _ENVELOPES)) if (found := members(each)))


def names(raw: Mapping[str, Any], *fields: str) -> tuple[str, ...]:
    """What these members call a task. A number is only believed where there is no text: relays number their rows."""
    given = [raw.get(field) for field in fields]
    named = tuple(filter(None, map(_name, given)))
    return named or tuple(str(row) for each in given if (row := whole(each, 1)) is not None)


def _name(value: Any) -> str | None:
    """A text that may name a task: the gateway could not be asked for one that came damaged."""
    name = (text(value) or "").strip()
    return name if 0 < len(name) <= _LONGEST_ID and name.isprintable() and "\ufffd" not in name else None


def page(
    envelope: Mapping[str, Any], tasks: tuple[VideoTask, ...], limit: int, before: str | None, *, cut: bool
) -> TaskPage:
    """A page of a list, and how to ask for the next one.

    Args:
        envelope: What stands beside the tasks: ``has_more`` and ``last_id`` count.
        tasks: What was read.
        limit: How many were asked for.
        before: After which task they were asked for.
        cut: Whether there were more than are read.
    """
    more, last = envelope.get("has_more"), text(envelope.get("last_id")) or (tasks[-1].task_id if tasks else None)
    if not tasks or more is False:  # without a word of it only an empty page is the end: some cap pages below the limit
        return TaskPage(tasks=tasks)
    if last != before:
        return TaskPage(tasks=tasks, before=last)
    # the same page again: a gateway that pays no heed to `before`, and may have cut its list at `limit`
    return TaskPage(tasks=tasks, whole=more is not True and len(tasks) != limit and not cut)


def moment(value: Any) -> datetime | None:
    """A time as ISO 8601, epoch seconds, or epoch milliseconds (above 1e11), in UTC.

    Years outside 2000 to 2100 count as absent: they are the zero values of the gateways' own languages.
    """
    try:
        if isinstance(value, str):
            when = datetime.fromisoformat(value.strip())
            when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
        elif (seconds := number(value)) is not None:
            when = datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return when if 2000 <= when.year <= 2100 else None


def usable(value: Any) -> str | None:
    """An address a video may be at: http or https, or a path at the gateway.

    Which host the gateway is, nothing here can know: a path (``/media/x.mp4``) and an http address are kept as they
    are, for the flow to resolve and to check. A path without its leading slash is some storage's inner name.
    """
    url = text(value)
    if url is None or len(url := url.strip()) > _LONGEST_ADDRESS:
        return None
    if not url.isprintable() or re.search(r"[\s\\]", url):
        return None
    if url.startswith("/"):
        return None if url.startswith("//") else url
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return url if sound else None


def addresses(value: Any, depth: int = 4) -> tuple[str, ...]:
    """Where a finished task's videos are, in whichever place known gateways put them; only the best place counts.

    Args:
        value: A task, an address, or a list of either.
        depth: Levels of nesting that are looked through.
    """
    if isinstance(value, str):
        url = usable(value)
        return () if url is None else (url,)
    if not depth:
        return ()
    if isinstance(value, list):
        return tuple(dict.fromkeys(url for each in value[:_MOST_ADDRESSES] for url in addresses(each, depth - 1)))
    raw = members(value)
    inner = (*map(raw.get, _ADDRESSES), *(members(raw.get(name)) or [*objects(raw.get(name))] for name in _HOLDERS))
    return next(filter(None, (addresses(each, depth - 1) for each in inner)), ())


def renditions(encodings: Any) -> dict[str, str]:
    """The encodings of a generation by name: under ``path``, under ``url``, or the address itself."""
    some = islice(members(encodings).items(), _MOST_ENCODINGS)
    places = ((name, (given, members(given).get("path"), members(given).get("url"))) for name, given in some)
    return {name: url for name, place in places if (url := next(filter(None, map(usable, place)), None)) is not None}


def expiry(url: str | None) -> datetime | None:
    """When a signed address stops working: Azure ``se``, ``Expires``, or ``X-Amz-Date`` and ``X-Amz-Expires``."""
    if url is None or "?" not in url:
        return None
    signed = {name.lower(): value for name, value in parse_qsl(url.partition("?")[2].partition("#")[0])}
    if "se" in signed:
        return moment(signed["se"])
    if "expires" in signed:
        return moment(_digits(signed["expires"]))
    start, seconds = moment(signed.get("x-amz-date")), _digits(signed.get("x-amz-expires"))
    return start + timedelta(seconds=seconds) if start is not None and seconds is not None else None


def status_of(word: str | None) -> TaskStatus:
    """What a gateway's status word means; ``unknown``, which is not an end, where nobody knows."""
    return _STATUS_OF.get((word or "").strip().casefold().replace("-", "_").replace(" ", "_"), "unknown")


def failure_kind(words: str, *, refused: bool = False, output: bool = False) -> FailureKind:
    """Why a task failed, from the gateway's words for it.

    Args:
        words: Its reason, codes and all.
        refused: Whether it says elsewhere that its moderation stepped in.
        output: Whether it says elsewhere that it was the finished video that was refused.
    """
    if output or refused or re.search(_MODERATED, words):
        return "moderation_output" if output or "output" in words.lower() else "moderation_input"
    if re.search(_LATE, words):
        return "timeout"
    return "upstream" if re.search(_UPSTREAM, words) else "unknown"


def moderated(raw: Mapping[str, Any]) -> bool:
    """Whether a task of the web backend says that its moderation stepped in."""
    verdict = text(within(raw, "moderation_result", "type"))
    return verdict is not None and verdict.strip().casefold() != "passed"


def withheld(raw: Mapping[str, Any]) -> bool:
    """Whether a task of the web backend says that a finished video was refused."""
    refused = within(raw, "moderation_result", "is_output_rejection") is True
    return refused or whole(raw.get("num_unsafe_generations"), 1) is not None


def failure(kind: FailureKind, said: str | None, code: Any = None) -> Failure:
    """Why there is no video, in the gateway's own words where it has any.

    Args:
        kind: What it comes down to.
        said: The gateway's reason.
        code: Its code, a text or a number; 0 and "" are none.
    """
    message = worded(said or "") or _WORDS.get(kind, "The gateway gave no reason.")
    named = text(code) or str(whole(code, 1) or "")
    return Failure(kind=kind, message=message, code=worded(named, 100) or None)


def echoed_actions(value: Any) -> tuple[EchoedAction, ...]:
    """Storyboard moments as gateways read them back: a list, a map of frame to text, or either as a JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return ()
    if isinstance(value, dict):
        frames = ((_digits(frame), text(said)) for frame, said in islice(value.items(), _MOST_MOMENTS))
        told = sorted((frame, said) for frame, said in frames if frame is not None and said is not None)
        return tuple(
            EchoedAction(description=said, time=frame / FRAMES_PER_SECOND, frame_index=frame) for frame, said in told
        )
    return tuple(
        EchoedAction(description=said, time=number(action.get("time")), frame_index=whole(action.get("frame_index")))
        for action in objects(value)[:_MOST_MOMENTS]
        if (said := text(action.get("description"))) is not None
    )


def _digits(value: str | None) -> int | None:
    return int(value) if value is not None and re.fullmatch(r"[0-9]{1,10}", value) else None
