"""What a gateway says in running text: a task's name, its progress, and in the end where the video is.

Rule: nothing is read before the character that closes it has come, and nothing is read twice. So it makes no
difference where a stream cuts its text into pieces, and a piece of an address is never taken for the address. JSON
objects that begin a line are what the gateway says of the request or the result: they are read as objects and never
as text, for a prompt may say anything. One that never closes hides what follows.

What is kept of a text is bounded: its beginning, its end, and an object of a usual size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from enum import IntEnum
from itertools import chain
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ..schemas import RequestEcho
from .reading import members, objects, status_of, text, usable, whole

_BEGINNING: Final = 2048
_END: Final = 8192
"""Characters kept of a text's end. No thing that is read in it is longer."""

_WIDEST: Final = 600
"""Characters by which what is read may begin before its last line: a video element's may be on several."""

_LONGEST_OBJECT: Final = 2**16
_LONGEST_ADDRESS: Final = 4096

_VIDEO: Final = (".mp4", ".mov", ".webm", ".m4v")
_IMAGE: Final = (".webp", ".png", ".jpg", ".jpeg", ".gif", ".avif", ".svg", ".bmp")
_DECOYS: Final = ("/web/task_", "/source/task_")
"""Pages about a task, which gateways link to while it is made."""

_OPENINGS: Final = r"(?m)^[ \t]*(?:```\w*[ \t]*)?\{"
_NAMES: Final = (
    r"(?<![0-9A-Za-z_])(?:(task_[0-9A-Za-z]{20,64})[^0-9A-Za-z_]"
    r"|ID[:：] ?`((?:[\w.-]{1,64}:)?(?:task|video|gen|job)_[\w:.-]{1,128})`)"
)
_AMOUNTS: Final = (
    r"(?<![0-9A-Za-z_./%=&?+-])([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%"
    r"|进度 ?[:：]? ?([0-9]{1,3}(?:\.[0-9]{1,6})?)(?:\.\.|\.?[^0-9.])"
)
_QUEUED: Final = r"(?i)排队|\b(?:queued|in (?:the )?queue)\W"
_RUNNING: Final = r"(?i)生成中|\b(?:generating|processing|rendering)\W"
_FAILED: Final = r"(?i)❌|失败|\b(?:failed|failure|error)\W"
_TAGS: Final = r"""(?i)<(?:video|source)\b[^<>]{0,500}?\ssrc\s?=\s?(["'])([^"'<>\s]*)\1"""
_LINKS: Final = r"""\]\(<?((?:[^\s()<>]++|\([^\s()<>]*+\))*+)>?(?: "[^"\n]{0,200}")?\)"""
_ADDRESSES: Final = r"(?i)(https?://[^\s<>\"'`|\\^{}\[\]，。；！、（）《》【】]*+)([\s\S]?)"
_TO_THE_VIDEO: Final = r"(?i)播放|下载|play|download|click"
_ABOUT_THE_VIDEO: Final = r"(?i)预览|原始|preview|source|raw"


class Evidence(IntEnum):
    """How a text shows that an address is the finished video's, the weakest first."""

    ALONE = 1
    """The whole text is this address."""
    ENDING = 2
    """The address ends as a video file's does."""
    LABEL = 3
    """A link that says to play it, download it or click on it."""
    LINK = 4
    """A link, closed, to an address that ends as a video file's does."""
    ELEMENT = 5
    """A video element, or the member of an object that is for it."""


FINAL: Final = Evidence.LINK
"""What is believed of a text that broke off: weaker ones may be about something else that was still to be said."""


class Video(NamedTuple):
    """An address, and why it is thought to be the video's."""

    url: str
    evidence: Evidence


class ChatText:
    """One running text, read piece by piece."""

    def __init__(self) -> None:
        self.task_id: str | None = None
        self.progress: float | None = None
        self.is_queued = self.is_running = self.is_failed = False
        self.video: Video | None = None
        self.thumbnail_url: str | None = None
        self.title: str | None = None
        self.request: RequestEcho | None = None
        self._beginning = self._end = self._plain = self._window = self._line = ""
        self._length = 0
        self._object: _JsonObject | None = None

    def add(self, piece: str) -> None:
        """Read the next piece. A long one is read in several, so that its cost grows with its length alone."""
        for start in range(0, len(piece), _END):
            self._add(piece[start : start + _END])

    def _add(self, piece: str) -> None:
        self._beginning += piece[: _BEGINNING - len(self._beginning)]
        self._end = (self._end + piece)[-_END:]
        self._length += len(piece)
        self._read(piece)

    def close(self) -> None:
        """Read what only the end of the text closes."""
        self._scan("\n")
        alone = self._end.strip(" \t\r\n\"'`<>")
        if self._length <= _END and not self.is_failed and re.fullmatch(r"https?://\S+", alone):
            self._offer(alone, Evidence.ALONE)

    @property
    def said(self) -> str:
        """What was said, in so far as it is kept."""
        if self._length <= _END:
            return self._end
        return f"{self._beginning}…{self._end[-(_END - _BEGINNING) :]}"

    @property
    def reason(self) -> str:
        """Why it failed, in the text's own words: from the line on that says so, or all of them."""
        told = re.sub(r"```\w*", "", self._plain).strip() or self._end.strip()
        failed = re.search(_FAILED, f"{told}\n")
        return told if failed is None else told[told.rfind("\n", 0, failed.start()) + 1 :]

    # --- objects -------------------------------------------------------------------------------------------------

    def _read(self, piece: str) -> None:
        """Tell objects and text apart, and read them in the order in which they stand."""
        outside = ""
        while piece:
            if self._object is None:
                before, piece = self._up_to_an_object(piece)
                outside += before
                continue
            piece = piece[self._object.add(piece) :]
            if not self._object.is_over:
                continue
            found, self._object = self._object, None
            value = found.value()
            if value and (name_in(value) or address_in(value)):
                self._scan(outside)
                outside = ""
            outside += found.kept if value is None else "\n"  # what is no object is text after all
            self._read_object(value or {})
        self._scan(outside)

    def _up_to_an_object(self, piece: str) -> tuple[str, str]:
        """The text before the next brace that begins a line, and the rest from there on."""
        known, told = len(self._line), self._line + piece
        brace = next((match.end() - 1 for match in _new(_OPENINGS, told, known)), None)
        if brace is not None:
            self._object, self._line = _JsonObject(), "{"
        else:
            self._line = told[told.rfind("\n") + 1 :][:_END]
        return told[known:brace], "" if brace is None else told[brace:]

    def _read_object(self, value: Mapping[str, Any]) -> None:
        self.title = text(value.get("title")) or self.title
        self.task_id = self.task_id or name_in(value)
        prompt = text(value.get("prompt"))
        if prompt is not None:
            self.request = _echo(prompt, value)
        if (url := address_in(value)) is not None:
            self._offer(url, Evidence.ELEMENT if prompt is None else Evidence.ENDING)

    # --- text ----------------------------------------------------------------------------------------------------

    def _scan(self, piece: str) -> None:
        known, told = len(self._window), self._window + piece
        self._plain = (self._plain + piece)[-_END:]
        line = told.rfind("\n") + 1
        self._window = told[told.rfind("\n", 0, max(0, line - _WIDEST)) + 1 :][-_END:]
        patterns = (
            (_NAMES, self._read_name),
            (_AMOUNTS, self._read_amount),
            (_QUEUED, self._read_queued),
            (_RUNNING, self._read_running),
            (_FAILED, self._read_failed),
            (_ADDRESSES, self._read_address),
            (_LINKS, self._read_link),
            (_TAGS, self._read_tag),
        )
        found = (((match, read) for match in _new(pattern, told, known)) for pattern, read in patterns)
        for match, read in sorted(chain.from_iterable(found), key=lambda each: each[0].end()):
            read(match)

    def _read_name(self, match: re.Match[str]) -> None:
        self.task_id = self.task_id or match[1] or match[2]

    def _read_amount(self, match: re.Match[str]) -> None:
        amount = float(match[1] or match[2])
        if amount <= 100:
            self.progress = amount / 100

    def _read_queued(self, _match: re.Match[str]) -> None:
        self.is_queued = True

    def _read_running(self, _match: re.Match[str]) -> None:
        self.is_running = True

    def _read_failed(self, _match: re.Match[str]) -> None:
        self.is_failed = True
        if self.video is not None and self.video.evidence < FINAL:
            self.video = None

    def _read_address(self, match: re.Match[str]) -> None:
        start = match.string.rfind("\n", 0, match.start()) + 1
        if match[2] and not re.search(_FAILED, match.string[start : match.start()]):
            ascii_only = re.match(r"[!-~]*", match[1])
            for url in (match[1], ascii_only[0] if ascii_only else ""):
                if _ends_as(bare := _without_stops(url), _VIDEO):
                    self._offer(bare, Evidence.ENDING)
                    return

    def _read_link(self, match: re.Match[str]) -> None:
        opened = match.string.rfind("[", max(0, match.start() - 300), match.start())
        label = match.string[opened + 1 : match.start()] if opened >= 0 else ""
        is_image = opened > 0 and match.string[opened - 1] == "!"
        url = match[1]
        if is_image and _ends_as(url, _IMAGE):
            self.thumbnail_url = usable(url) or self.thumbnail_url
        elif _ends_as(url, _VIDEO):
            self._offer(url, Evidence.ENDING if re.search(_ABOUT_THE_VIDEO, _words(label)) else Evidence.LINK)
        elif not is_image and not self.is_failed and re.search(_TO_THE_VIDEO, label):
            self._offer(url, Evidence.LABEL)

    def _read_tag(self, match: re.Match[str]) -> None:
        self._offer(match[2].replace("&amp;", "&"), Evidence.ELEMENT)

    def _offer(self, url: str, evidence: Evidence) -> None:
        if is_a_video(url) and (self.video is None or evidence >= self.video.evidence):
            self.video = Video(url, evidence)


class _JsonObject:
    """An object that is still being written, brace to brace. A longer one than is usual is followed and not kept."""

    def __init__(self) -> None:
        self.kept = ""
        self.is_over = False
        self._is_long = self._is_quoted = self._is_escaped = False
        self._depth = 0

    def add(self, piece: str) -> int:
        """Take what belongs to it, and say how many characters that were."""
        used = self._used(piece)
        self._is_long = self._is_long or len(self.kept) + used > _LONGEST_OBJECT
        self.kept = "" if self._is_long else self.kept + piece[:used]
        return used

    def value(self) -> Mapping[str, Any] | None:
        """The object; empty where it was too long, None where it is none."""
        if self._is_long:
            return {}
        try:
            value = json.loads(self.kept, strict=False)
        except (ValueError, RecursionError):
            return None
        return members(value)

    def _used(self, piece: str) -> int:
        for index, character in enumerate(piece):
            if self._is_quoted:
                self._is_quoted = self._is_escaped or character != '"'
                self._is_escaped = character == "\\" and not self._is_escaped
            elif character == '"':
                self._is_quoted = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
            if self._depth == 0:
                self.is_over = True
                return index + 1
        return len(piece)


def address_in(value: Mapping[str, Any]) -> str | None:
    """The video's address in an object that describes a finished one: ``url`` or ``video_url``, bare or in ``data``."""
    data = value.get("data")
    for holder in (value, members(data), *objects(data)[:1]):
        if status_of(text(holder.get("status"))) not in ("succeeded", "unknown"):
            return None
        for name in ("video_url", "url"):
            given = holder.get(name)
            url = usable(members(given).get("url") if isinstance(given, dict) else given)
            if url is not None and is_a_video(url):
                return url
    return None


def name_in(value: Mapping[str, Any]) -> str | None:
    """The id of the task an object is about: ``task_id``, or an ``id`` of a task's form."""
    own = text(value.get("id")) or ""
    for given in (text(value.get("task_id")), own if own.startswith("task_") else None):
        name = (given or "").strip()
        if 0 < len(name) <= 512 and name.isprintable() and "\ufffd" not in name:
            return name
    return None


def is_a_video(url: str) -> bool:
    """Whether an address may be a video's: a usable one, and neither an image nor a page about the task."""
    if usable(url) is None or len(url) > _LONGEST_ADDRESS:
        return False
    return not _ends_as(url, _IMAGE) and not any(decoy in url for decoy in _DECOYS)


def _echo(prompt: str, value: Mapping[str, Any]) -> RequestEcho:
    return RequestEcho(
        prompt=prompt,
        operation=text(value.get("operation")),
        model=text(value.get("model")),
        width=whole(value.get("width"), 1),
        height=whole(value.get("height"), 1),
        n_frames=whole(value.get("n_frames"), 1),
        n_variants=whole(value.get("n_variants"), 1),
    )


def _new(pattern: str, told: str, known: int) -> Iterator[re.Match[str]]:
    """The places where a pattern ends after the characters that were known before."""
    return (match for match in re.finditer(pattern, told) if match.end() > known)


def _ends_as(url: str, endings: tuple[str, ...]) -> bool:
    try:
        return urlsplit(url).path.lower().endswith(endings)
    except ValueError:
        return False


def _without_stops(url: str) -> str:
    """An address without the punctuation of the sentence around it."""
    bare = url.rstrip(".,;:!?*_'")
    return bare.rstrip(").,;:!?*_'") if bare.count(")") > bare.count("(") else bare


def _words(label: str) -> str:
    """A link's label, empty where it is an address itself."""
    return "" if "://" in label else label
