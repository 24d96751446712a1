"""Real MP4s for the sandbox: an abstract scene that moves, with its prompt written on it.

One frame is in memory at a time, and a file appears under its name when it is whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import av

from .scene import FPS, Scene

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
    opening: bytes | None = None,
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
        opening: An image file's bytes. It is the first picture, fitted to cover, then dissolves into the scene; the
            lettering fades in with the scene.

    Raises:
        ValueError: A size or count below 1, or an ``opening`` that is no readable image.
    """
    if n_frames < 1:
        raise ValueError(f"n_frames is {n_frames}: a video has at least 1")
    scene = Scene(prompt, (width, height), variant=variant, captions=captions, opening=opening)
    with _whole(path) as part, av.open(part, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", FPS, options=_ENCODER)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"
        for index in range(n_frames):
            frame = av.VideoFrame.from_image(scene.picture(index))  # type: ignore[no-untyped-call]  # av's stubs
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def render_thumbnail(path: Path, *, prompt: str, width: int, height: int, variant: int = 0) -> None:
    """Write the first picture of :func:`render_video` as a PNG; same arguments, same errors."""
    picture = Scene(prompt, (width, height), variant=variant).picture(0)
    with _whole(path) as part:
        picture.save(part, format="PNG")


@contextmanager
def _whole(path: Path) -> Iterator[str]:
    """A name beside ``path`` to write to, renamed to it on success and removed otherwise."""
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        yield str(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
