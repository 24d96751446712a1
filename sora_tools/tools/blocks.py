"""A task as content blocks, for people who feed a multimodal model on purpose.

Rule: nothing is fetched, and nothing large goes along unasked. Tool answers stay text: most providers refuse a video
in a message, and some download its address while they convert it. A task may come from a checkpoint or another
service, and names files as it likes: what is no MP4 goes nowhere.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from io import BytesIO
from itertools import starmap
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from pydantic import ValidationError

from ..addresses import private, site
from ..errors import InvalidRequestError
from ..schemas import CARRIED, Generation, VideoTask, broken_rules, shortened

Block = dict[str, Any]

_KINDS: Final = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
"""How pictures begin. WebP hides its name behind a length."""


@runtime_checkable
class Picture(Protocol):
    """A picture that can write itself, as Pillow's can."""

    def save(self, fp: Any, /, *, format: str) -> object:  # noqa: A002  # Pillow's name for it
        """Write the picture into a file object."""


def content_blocks(
    task: VideoTask | Mapping[str, Any],
    frames: Iterable[bytes | str | os.PathLike[str] | Picture] = (),
    *,
    inline: bool = False,
    videos: bool = True,
) -> list[str | Block]:
    """A task as the content of a ``HumanMessage``: what it is in words, its videos, and frames of them.

    Words and frames suit every provider that LangChain has for models that see. A video suits Gemini alone, inline;
    where it is named by its address, LangChain's converter fetches it. The others refuse a message with one in it. The
    blocks are LangChain's standard ones (``langchain_core.messages.content``) as plain dicts.

    Args:
        task: A task, the ``artifact`` of a tool's answer, or the ``"task"`` within one.
        frames: Pictures to show after it: PNG, JPEG or WebP as bytes, as the path of a file or as a data URL; pictures
            of Pillow's; https addresses.
        inline: Whether videos that were saved, or that came within the gateway's answer, go along as base64: a third
            more than the file, in memory and in each later request of the conversation. Otherwise, and where there is
            no file, a video is named by its address.
        videos: Whether the videos are among the blocks. False suits every provider: words and frames alone.

    Returns:
        Dicts all, in a list that is typed as the content of a message is: a ``text`` block; a ``video`` block for each
        variant that has a file to go inline or a public https address that opens without the key; an ``image`` block
        for each frame. Of a task without a video the text alone, which says so.

    Raises:
        InvalidRequestError: The task is none, a frame is no picture, or the file of a video is no MP4.
        OSError: A file cannot be read.
    """
    read = _read(task)
    if read.status != "succeeded":
        return [_text(_about(read), _without_video(read))]
    generations = enumerate(read.generations)
    films = [_video(index, each, inline=inline) if videos else None for index, each in generations]
    pictures = [_image(index, frame) for index, frame in enumerate(frames)]
    measured = starmap(_measures, enumerate(read.generations, 1))
    places = [_where(film) if videos else "" for film in films]
    told = [f"{measures}{place}." for measures, place in zip(measured, places, strict=True)]
    follow = [f"Frames that follow: {len(pictures)}."] if pictures else []
    return [_text(_about(read), *told, *follow), *filter(None, films), *pictures]


def _read(task: Any) -> VideoTask:
    given = task.get("task", task) if isinstance(task, Mapping) else task
    try:
        return VideoTask.model_validate(given)
    except ValidationError as error:
        raise InvalidRequestError(
            f"task: {shortened(repr(given), 80)} was given; {'; '.join(broken_rules(error)[:3])}.",
            hint="Give a VideoTask, or the artifact of a tool's answer about one task; lists and errors have none.",
        ) from error


def _text(*sentences: str) -> Block:
    return {"type": "text", "text": " ".join(sentences)}


def _about(task: VideoTask) -> str:
    prompt = task.request.prompt if task.request else None
    return f"Video task {task.task_id}: {task.status}." + (f' Its prompt: "{prompt}".' if prompt else "")


def _without_video(task: VideoTask) -> str:
    if not task.ended:
        progress = "" if task.progress is None else f" It is {task.progress:.0%} done."
        return f"There is no video yet.{progress}"
    failure = task.failure
    return f"There is no video: {failure.message or failure.kind}" if failure else "There is no video."


def _measures(number: int, generation: Generation) -> str:
    size = f"{generation.width}x{generation.height}" if generation.width and generation.height else "size unknown"
    length = "length unknown" if generation.duration is None else f"{generation.duration:g} s"
    return f"Video {number}: {size}, {length}"


def _where(film: Block | None) -> str:
    return "; not shown, for it has no public address" if film is None else "; it follows"


def _video(index: int, generation: Generation, *, inline: bool) -> Block | None:
    url = generation.url or ""
    carried = url.startswith(CARRIED) and not url.endswith("…")  # artifacts are without their bytes
    if inline and generation.file is not None:
        data = b64encode(_film(index, generation.file)).decode()
    elif inline and carried:
        data = url.removeprefix(CARRIED)
    elif _public(url) and not generation.needs_key:
        return {"type": "video", "url": url, "mime_type": "video/mp4"}
    else:
        return None
    return {"type": "video", "base64": data, "mime_type": "video/mp4"}


def _film(index: int, path: Path) -> bytes:
    if _endless(path):
        raise _no_film(index, f"{path}, which is no regular file,")
    with path.open("rb") as file:
        if file.read(8)[4:] != b"ftyp":  # ISO/IEC 14496-12: an MP4 begins with a box of this name
            raise _no_film(index, f"{path}, which does not begin as an MP4,")
        file.seek(0)
        return file.read()


def _no_film(index: int, given: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"generations.{index}.file: {given} was given; it must be an MP4 that was saved on this machine.",
        hint="Save the video again, or leave out inline and look at who wrote this task.",
    )


def _endless(path: Path) -> bool:
    """Whether something other than a file is there: opening a pipe may wait for ever, and reading a device too."""
    return path.exists() and not path.is_file()


def _public(url: str) -> bool:
    where = site(url)
    return where is not None and where.scheme == "https" and not private(where.host)


def _image(index: int, frame: bytes | str | os.PathLike[str] | Picture) -> Block:
    match frame:
        case str() if _public(frame):
            return {"type": "image", "url": frame}
        case bytes():
            data = frame
        case str() if frame[:5].lower() == "data:":
            data = _decoded(index, frame)
        case str() | os.PathLike() if _endless(Path(frame)):
            raise _no_picture(index, f"{frame}, which is no regular file,")
        case str() | os.PathLike():
            data = Path(frame).read_bytes()
        case Picture():
            written = BytesIO()
            frame.save(written, format="PNG")
            data = written.getvalue()
        case _:
            raise _no_picture(index, f"a {type(frame).__name__}")
    return {"type": "image", "base64": b64encode(data).decode(), "mime_type": _kind(index, data)}


def _decoded(index: int, url: str) -> bytes:
    head, _, data = url.partition(",")
    if not head.lower().endswith(";base64"):
        raise _no_picture(index, shortened(head, 80))
    try:
        return b64decode(data, validate=True)
    except ValueError as error:
        raise _no_picture(index, f"{shortened(head, 80)} with data that is not base64") from error


def _kind(index: int, data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    for start, kind in _KINDS.items():
        if data.startswith(start):
            return kind
    raise _no_picture(index, f"{len(data)} bytes beginning {data[:8]!r}")


def _no_picture(index: int, given: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"frames.{index}: {given} was given; it must be a picture: PNG, JPEG or WebP as bytes, path or data URL, a "
        "picture of Pillow's, or an https address.",
        hint="Take frames of a video with sora_tools.media.",
    )
