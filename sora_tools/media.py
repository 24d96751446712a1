"""Looking at a finished video: its measures, and a sheet of frames from its first to its last.

What is said of a file is counted, not believed: a container's header may promise frames that were never written.
Frames are decoded one after the other and only the small pictures that are wanted are kept, so a long video takes
time but no memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

try:
    import av
    from av.container import InputContainer
    from PIL import Image, ImageDraw, ImageFont
except ImportError as error:
    raise ImportError("sora_tools.media needs PyAV and Pillow: pip install 'sora-tools[media]'") from error

# A downloaded file is not trusted: a playlist in disguise would make the demuxer open other files and addresses.
_ONLY_VIDEOS = {"format_whitelist": "mov,matroska,avi,mpegts,flv,h264,hevc", "protocol_whitelist": "file"}

_GAP = 12
_PAPER, _INK, _FAINT = (17, 18, 22), (236, 236, 240), (150, 152, 160)


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
    with _reading(video) as container:
        return _measured(container)


def contact_sheet(
    video: str | os.PathLike[str],
    image: str | os.PathLike[str],
    *,
    columns: int = 4,
    rows: int = 3,
    width: int = 1280,
) -> Path:
    """Write a PNG of evenly spaced frames, the first and the last among them, each with its time below it.

    Args:
        video: Path of the video.
        image: Where the PNG goes, whatever its suffix; it appears when it is whole.
        columns: Frames side by side, 1 or more. A video with fewer frames fills fewer.
        rows: Rows at most, 1 or more.
        width: Of the sheet in pixels, at least 100 for each column.

    Returns:
        The path of the sheet.

    Raises:
        ValueError: The file is no video, or is broken; or a number is too small.
        OSError: The video cannot be opened or the sheet cannot be written.
    """
    if columns < 1 or rows < 1 or width < columns * 100:
        raise ValueError(f"{columns} columns, {rows} rows, width {width}: at least 1, 1 and 100 pixels a column")
    with _reading(video) as container:
        info = _measured(container)
    count = min(columns * rows, info.n_frames)
    columns = min(columns, count)
    cell = _cell(info, width, columns)
    wanted = {round(place * (info.n_frames - 1) / max(1, count - 1)) for place in range(count)}
    with _reading(video) as container:
        shots = list(_shots(container, wanted, _fitted(info, cell)))
    return _written(_sheet(info, shots, columns, width, cell), Path(image))


@contextmanager
def _reading(video: str | os.PathLike[str]) -> Iterator[InputContainer]:
    path = Path(video)
    path.open("rb").close()  # a missing file is a missing file, with Python's words for it
    try:
        with av.open(f"file:{path}", options=_ONLY_VIDEOS) as container:
            if not container.streams.video:
                raise ValueError(f"{path}: no video in this file")
            yield container
    except av.FFmpegError as error:
        raise ValueError(f"{path}: not a video that can be read ({error.strerror})") from error


def _measured(container: InputContainer) -> VideoInfo:
    stream = container.streams.video[0]
    count, start, end = 0, None, 0
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard:
            count += 1
            if packet.pts is not None:
                start = packet.pts if start is None else min(start, packet.pts)
                end = max(end, packet.pts + (packet.duration or 0))
    if not count:
        raise ValueError(f"{container.name.removeprefix('file:')}: a video without a single frame")
    lasts = float((end - start) * stream.time_base) if start is not None and stream.time_base else 0.0
    fps = float(stream.average_rate or 0) or (count / lasts if lasts else 0.0)
    codec = stream.codec_context
    return VideoInfo(codec.width, codec.height, count, fps, lasts or (count / fps if fps else 0.0), codec.name)


def _shots(container: InputContainer, wanted: set[int], size: tuple[int, int]) -> Iterator[tuple[float, Image.Image]]:
    """The wanted frames, small, with their times; the last one that can be decoded where a damaged file ends early."""
    frame, shown, start = None, None, 0.0
    for index, frame in enumerate(_decoded(container)):
        if index == 0:
            start = frame.time or 0.0
        if index in wanted:
            shown = frame
            yield (frame.time or 0.0) - start, _small(frame, size)
    if frame is None:
        raise ValueError(f"{container.name.removeprefix('file:')}: a video none of whose frames can be decoded")
    if frame is not shown:
        yield (frame.time or 0.0) - start, _small(frame, size)


def _decoded(container: InputContainer) -> Iterator[av.VideoFrame]:
    """The frames up to the first that is damaged."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    with suppress(av.FFmpegError):
        yield from container.decode(stream)


def _small(frame: av.VideoFrame, size: tuple[int, int]) -> Image.Image:
    image: Image.Image = frame.to_image(  # type: ignore[no-untyped-call]  # av's stubs
        width=size[0], height=size[1], interpolation="AREA"
    )
    return image


def _cell(info: VideoInfo, width: int, columns: int) -> tuple[int, int]:
    """Width and height of the place for one frame: as the video's, but never taller than twice its width."""
    across = (width - _GAP * (columns + 1)) // columns
    return across, max(1, min(2 * across, round(across * info.height / info.width)))


def _fitted(info: VideoInfo, cell: tuple[int, int]) -> tuple[int, int]:
    scale = min(cell[0] / info.width, cell[1] / info.height)
    return max(1, round(info.width * scale)), max(1, round(info.height * scale))


def _sheet(
    info: VideoInfo, shots: list[tuple[float, Image.Image]], columns: int, width: int, cell: tuple[int, int]
) -> Image.Image:
    across, down = cell
    small, large = ImageFont.load_default(size=15), ImageFont.load_default(size=17)
    header, label = 34, 26
    height = header + math.ceil(len(shots) / columns) * (down + label) + _GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    canvas = ImageDraw.Draw(sheet)
    canvas.text((_GAP, header / 2 + 2), _summary(info), font=large, fill=_INK, anchor="lm")
    for place, (seconds, shot) in enumerate(shots):
        row, column = divmod(place, columns)
        left, top = _GAP + column * (across + _GAP), header + row * (down + label)
        sheet.paste(shot, (left + (across - shot.width) // 2, top + (down - shot.height) // 2))
        canvas.text(
            (left + across / 2, top + down + label / 2), f"{seconds:.2f} s", font=small, fill=_FAINT, anchor="mm"
        )
    return sheet


def _summary(info: VideoInfo) -> str:
    size = f"{info.width}x{info.height}"
    return "   ".join((size, f"{info.n_frames} frames", f"{info.fps:g} fps", f"{info.duration:.2f} s", info.codec))


def _written(sheet: Image.Image, path: Path) -> Path:
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        sheet.save(part, format="PNG")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
