"""Real MP4s for the sandbox: an abstract scene that moves, with its prompt written on it.

One frame is in memory at a time, and a file appears under its name when it is whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import av
from PIL import Image

from .montage import Montage, picture_of
from .scene import FPS, Scene
from .studio import Footage

COLUMNS, ROWS, SPRITE = 5, 4, 160
"""Of a spritesheet; the last is a picture's width in pixels."""

_ENCODER = {
    "preset": "ultrafast",  # with these two filters on it looks about like veryfast, in a third of the time
    "x264-params": "deblock=1,0:cabac=1",
    "crf": "18",
    "threads": "1",  # the same bytes on every machine, and a core left for the server
    "colorspace": "smpte170m",  # what the conversion from RGB uses, said so that no player has to guess
    "color_range": "tv",
}


def render_video(
    path: Path,
    *,
    prompt: str,
    width: int,
    height: int,
    n_frames: int,
    variant: int = 0,
    captions: Sequence[tuple[float, str]] = (),
    base: Footage | None = None,
    amount: float = 1,
    blended: Sequence[Footage] = (),
    placed: Sequence[Footage] = (),
) -> None:
    """Render an H.264 MP4 of exactly ``n_frames`` pictures at 30 a second, its index in front so that it streams.

    Args:
        path: Where the video goes; the file appears when it is whole.
        prompt: What the look is drawn from and what is written on the picture, shortened after a few lines.
        width: In pixels, 1 or more; odd sizes are kept exactly (4:4:4 chroma).
        height: In pixels, 1 or more.
        n_frames: 1 or more.
        variant: Each gives the same prompt another palette and motion.
        captions: Of a storyboard, ``(seconds, text)``: each is shown from its time until the next one's.
        base: What the video is a remix of: it shows under the scene all the while.
        amount: How far a remix goes, from 1, where most of ``base`` shows, to 8.
        blended: What the video passes between, from the first at its beginning to the last at its end; one alone
            passes into the scene.
        placed: What shows at its frame, fitted to cover; the scene dissolves into it and out of it, lettering and all.

    Raises:
        ValueError: A size or count below 1, or bytes that are no readable image.
    """
    if n_frames < 1:
        raise ValueError(f"n_frames is {n_frames}: a video has at least 1")
    size = width, height
    scene = Scene(prompt, size, variant=variant, captions=captions)
    with (
        Montage(scene, size, n_frames, base=base, amount=amount, blended=blended, placed=placed) as montage,
        _whole(path) as part,
        av.open(part, "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", FPS, options=_ENCODER)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"
        for index in range(n_frames):
            frame = av.VideoFrame.from_image(montage.picture(index))  # type: ignore[no-untyped-call]  # av's stubs
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def render_thumbnail(path: Path, *, video: Path) -> None:
    """Write the first picture of a video as a PNG."""
    with av.open(video) as container:
        picture = picture_of(next(container.decode(video=0)))
    with _whole(path) as part:
        picture.save(part, format="PNG")


def render_spritesheet(path: Path, *, video: Path) -> None:
    """Write a JPEG of up to 20 pictures of a video, from its first to its last, five in a row from left to right."""
    with av.open(video) as container:
        stream = container.streams.video[0]
        count = min(COLUMNS * ROWS, stream.frames)
        wanted = {(stream.frames - 1) * number // max(1, count - 1): number for number in range(count)}
        width, height = min(SPRITE, stream.width), max(1, round(stream.height * min(1, SPRITE / stream.width)))
        sheet = Image.new("RGB", (width * min(COLUMNS, count), height * math.ceil(count / COLUMNS)))
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                row, column = divmod(wanted[index], COLUMNS)
                sheet.paste(picture_of(frame).resize((width, height)), (column * width, row * height))
    with _whole(path) as part:
        sheet.save(part, format="JPEG", quality=90, subsampling=0)


@contextmanager
def _whole(path: Path) -> Iterator[str]:
    """A name beside ``path`` to write to, renamed to it on success and removed otherwise."""
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        yield str(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
