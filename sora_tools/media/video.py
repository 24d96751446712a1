"""The measures of a video, and its pictures one after the other.

A file may end early or be damaged in the middle and still open. Which frames there are is known only by decoding
them, so frames are planned by what the file holds and counted as they come.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import av
from av.container import InputContainer
from PIL import Image

from .files import reading


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The measures of a video file.

    Attributes:
        width: In pixels.
        height: In pixels.
        n_frames: Frames really in the file, whatever its header says.
        fps: Frames a second, on average.
        duration: Seconds that these frames last.
        codec: For example ``h264``.
    """

    width: int
    height: int
    n_frames: int
    fps: float
    duration: float
    codec: str


def probe(video: str | os.PathLike[str]) -> VideoInfo:
    """Measure a video. The file is read once from end to end, and nothing of it is decoded.

    Args:
        video: Path of the file.

    Returns:
        Its measures.

    Raises:
        ValueError: The file is no video, or is broken.
        OSError: It cannot be opened.
    """
    with reading(video) as container:
        return _measured(container)


def _measured(container: InputContainer) -> VideoInfo:
    stream = container.streams.video[0]
    count, start, last = 0, None, (0, 0)
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard:
            count += 1
            if packet.pts is not None:
                start = packet.pts if start is None else min(start, packet.pts)
                last = max(last, (packet.pts, packet.duration or 0))
    codec = stream.codec_context
    if not count or not codec.width or not codec.height:
        lacking = "its size cannot be read" if count else "a video without a single frame"
        raise ValueError(f"{container.name.removeprefix('file:')}: {lacking}")
    lasts = float((sum(last) - start) * stream.time_base) if start is not None and stream.time_base else 0.0
    fps = float(stream.average_rate or 0) or (count / lasts if lasts else 0.0)
    return VideoInfo(codec.width, codec.height, count, fps, lasts or (count / fps if fps else 0.0), codec.name)


def pictures(video: str | os.PathLike[str], *, damaged: bool = False) -> Iterator[av.VideoFrame]:
    """The frames of a video as they are shown, one in memory at a time.

    Args:
        video: Path of the file.
        damaged: Whether a damaged file is fine, as far as it can be shown. Else its first damage is an error, and
            some of the frames right before it may go with it.

    Raises:
        ValueError: The file is no video, is damaged, or has no frame that can be shown.
        OSError: It cannot be opened.
    """
    shown, reason = 0, ""
    with reading(video) as container:
        try:
            for picture in _decoded(container, damaged=damaged):
                if picture.is_corrupt:
                    reason = "parts of the picture are missing"
                    break
                yield picture
                shown += 1
            else:
                reason = "" if shown else "nothing in it can be decoded"
        except (av.FFmpegError, EOFError) as error:
            reason = str(getattr(error, "strerror", "") or error)
    if reason and not (damaged and shown):
        raise ValueError(
            f"{video}: damaged after {shown} frame{'' if shown == 1 else 's'} ({reason}); get the file again"
        )


def _decoded(container: InputContainer, *, damaged: bool) -> Iterator[av.VideoFrame]:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    cut, reached, is_short = False, None, _is_short(container)
    for packet in container.demux():  # all tracks: the file may end within another one's packet
        cut = cut or packet.is_corrupt or (is_short and not packet.size)
        if packet.stream is not stream or (cut and packet.size):
            continue
        reached = packet.dts if packet.size else reached
        for picture in stream.codec_context.decode(packet):  # the empty packet at the end empties the decoder
            if cut and not damaged and (picture.pts is None or reached is None or picture.pts > reached):
                break  # a frame that the file has lost belongs before this one
            yield picture
    if cut:
        raise EOFError("the file ends early")


def _is_short(container: InputContainer) -> bool:
    """Whether the file's index goes on beyond its end: cut between two packets, it has none that is damaged."""
    size = os.path.getsize(container.name.removeprefix("file:"))  # noqa: PTH202  # as it was opened
    return any(entry.pos + entry.size > size for stream in container.streams for entry in stream.index_entries)


def picked(
    video: str | os.PathLike[str],
    plan: Callable[[int], Collection[int]],
    shown: Callable[[av.VideoFrame], Image.Image],
    *,
    damaged: bool = False,
) -> list[tuple[float, Image.Image]]:
    """Some frames of a video, each as seconds from the first one and an image.

    Args:
        video: Path of the file.
        plan: From the number of frames to the indexes of those that are wanted.
        shown: From a frame to its image.
        damaged: As for :func:`pictures`.

    Raises:
        ValueError: As for :func:`pictures`.
        OSError: The file cannot be opened.
    """
    found: list[tuple[float, Image.Image]] = []
    planned = probe(video).n_frames
    for _ in range(2):  # once more where some of what is in the file is never shown
        wanted, start, count = frozenset(plan(planned)), 0.0, 0
        found = []
        for index, picture in enumerate(pictures(video, damaged=damaged)):
            count = index + 1
            start = start if index else picture.time or 0.0
            if index in wanted:
                found.append(((picture.time or 0.0) - start, shown(picture)))
        if count == planned:
            break
        planned = count
    return found


def spread(count: int) -> Callable[[int], Collection[int]]:
    """A plan: so many evenly spaced frames, the first and the last among them, or all where there are fewer."""

    def plan(n_frames: int) -> Collection[int]:
        kept = min(count, n_frames)
        return {round(place * (n_frames - 1) / max(1, kept - 1)) for place in range(kept)}

    return plan
