"""Files as they are opened and as they appear: nothing of a video is trusted, and what is written appears whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import av
from av.container import InputContainer

# A downloaded file is not trusted: a playlist in disguise would make the demuxer open other files and addresses.
_ONLY_VIDEOS = {"format_whitelist": "mov,matroska,avi,mpegts,flv,h264,hevc", "protocol_whitelist": "file"}


def regular(path: str | os.PathLike[str]) -> Path:
    """The path, unless opening it could wait for ever, as with a pipe, or reading it could, as with a device."""
    here = Path(path)
    if here.exists() and not (here.is_file() or here.is_dir()):  # opening a folder fails in Python's own words
        raise ValueError(f"{here}: not a regular file but a pipe, a device or a socket; give the path of a file")
    return here


@contextmanager
def reading(video: str | os.PathLike[str]) -> Iterator[InputContainer]:
    """The file opened, with a picture track in it; whatever goes wrong with it is said with its name."""
    path = regular(video)
    path.open("rb").close()  # a missing file is a missing file, with Python's words for it
    try:
        with av.open(f"file:{path}", options=_ONLY_VIDEOS) as container:
            if not container.streams.video:
                raise ValueError(f"{path}: no video in this file")
            yield container
    except av.FFmpegError as error:
        raise ValueError(f"{path}: not a video that can be read ({error.strerror})") from error


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A name beside ``path`` to write to, renamed to it on success and removed otherwise."""
    part = Path(path).with_name(f".{uuid4().hex}.part")
    try:
        part.open("xb").close()
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
