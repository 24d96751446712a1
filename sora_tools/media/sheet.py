"""A sheet of frames from a video's first to its last, each with its time below it."""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

from .files import whole
from .video import VideoInfo, picked, probe, spread

_GAP = 12
_PAPER, _INK, _FAINT = (17, 18, 22), (236, 236, 240), (150, 152, 160)


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
    info = probe(video)
    columns = min(columns, info.n_frames)
    cell = _cell(info, width, columns)
    shots = picked(video, spread(columns * rows), partial(_small, size=_fitted(info, cell)), damaged=True)
    with whole(image) as part:
        _sheet(info, shots, columns, width, cell).save(part, format="PNG")
    return Path(image)


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
