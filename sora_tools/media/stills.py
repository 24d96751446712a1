"""Single frames: as Pillow images, as a poster, and as the text that opens the next video."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path

import av
from PIL import Image, ImageOps

from .files import whole
from .video import picked, pictures, spread

_POSTER_CHOICES = 9


def frame(video: str | os.PathLike[str], index: int = 0) -> Image.Image:
    """One frame of a video, exactly as it is shown.

    Frames are decoded up to it, so an early one comes sooner than a late one: about a second for 500 frames of 720p.

    Args:
        video: Path of the file.
        index: 0 is the first frame. Negative ones count from the end: -1 is the last.

    Returns:
        The frame in RGB and in the video's size.

    Raises:
        IndexError: There is no such frame; the message says how many there are.
        ValueError: The file is no video, or is damaged before the frame. From the end, any damage counts.
        OSError: It cannot be opened.
    """
    if index < 0:
        found = [image for _, image in picked(video, lambda n_frames: {n_frames + index}, _shown)]
    else:
        found = [_shown(picture) for picture in islice(pictures(video), index, index + 1)]
    if not found:
        count = sum(1 for _ in pictures(video))
        raise IndexError(f"{video}: no frame {index}; it has {count}, 0 to {count - 1} or -{count} to -1")
    return found[0]


def frames(video: str | os.PathLike[str], count: int) -> list[Image.Image]:
    """Evenly spaced frames of a video, the first and the last among them.

    Args:
        video: Path of the file.
        count: How many, 1 or more; 1 is the first frame. A video with fewer gives all it has.

    Returns:
        The frames in RGB and in the video's size, in the order they are shown.

    Raises:
        ValueError: The file is no video, or is damaged; or the count is below 1.
        OSError: It cannot be opened.
    """
    if count < 1:
        raise ValueError(f"count: {count} was given; 1 frame or more")
    return [image for _, image in picked(video, spread(count), _shown)]


def poster(video: str | os.PathLike[str], image: str | os.PathLike[str]) -> Path:
    """Write a PNG of one good frame: of nine evenly spaced ones, the one with the most tones.

    A black frame, a fade or a title on a plain ground has few. The same video always gives the same frame.

    Args:
        video: Path of the video.
        image: Where the PNG goes, whatever its suffix; it appears when it is whole.

    Returns:
        The path of the PNG.

    Raises:
        ValueError: The file is no video, or is damaged.
        OSError: The video cannot be opened or the PNG cannot be written.
    """
    best = max(frames(video, _POSTER_CHOICES), key=Image.Image.entropy)
    with whole(image) as part:
        best.save(part, format="PNG")
    return Path(image)


def data_url(
    image: Image.Image | bytes | str | os.PathLike[str], *, max_side: int | None = None, max_length: int = 4_000_000
) -> str:
    """An image as text, as ``inpaint_items`` takes it, and models that see.

    It is a PNG where that is short enough, which keeps every pixel; else a JPEG of less and less quality; and where
    even that is too long, a smaller one.

    Args:
        image: A Pillow image, as :func:`frame` gives it, an image file's bytes, or its path.
        max_side: Pixels of the longer side at most; a larger image is made smaller. Without it the size is kept.
        max_length: Characters of the text at most, 2,000 or more.

    Returns:
        ``data:image/png;base64,...`` or ``data:image/jpeg;base64,...``.

    Raises:
        ValueError: It is no image that can be read, or a number is too small.
        OSError: The file cannot be opened.
    """
    if max_length < 2000 or (max_side is not None and max_side < 1):
        raise ValueError(f"max_length {max_length}, max_side {max_side}: at least 2000 characters and 1 pixel")
    picture = _opened(image)
    if max_side is not None:
        picture.thumbnail((max_side, max_side))
    return next(url for url in _urls(picture) if len(url) <= max_length)


def _urls(picture: Image.Image) -> Iterator[str]:
    """Ever shorter ways to write one image. The last is a single pixel."""
    yield _url(picture, "png")
    flat = _flat(picture)
    while True:
        for quality in (95, 85, 70):
            yield _url(flat, "jpeg", quality=quality)
        flat = flat.resize((max(1, flat.width * 3 // 4), max(1, flat.height * 3 // 4)), Image.Resampling.LANCZOS)


def _url(picture: Image.Image, kind: str, **options: int) -> str:
    data = BytesIO()
    picture.save(data, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(data.getbuffer()).decode()}"


def _opened(image: Image.Image | bytes | str | os.PathLike[str]) -> Image.Image:
    """The image, upright, as RGB or RGBA, and nobody else's."""
    if isinstance(image, Image.Image):
        return _plain(image)
    data, name = (image, "the bytes") if isinstance(image, bytes) else (Path(image).read_bytes(), str(image))
    try:
        with Image.open(BytesIO(data)) as picture:
            return _plain(picture)
    except Exception as error:  # broken bytes make decoders raise anything from OSError to struct.error
        raise ValueError(f"{name}: not an image that can be read; frame() takes one out of a video") from error


def _plain(picture: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(picture)
    return upright.convert("RGBA" if upright.has_transparency_data else "RGB")


def _flat(picture: Image.Image) -> Image.Image:
    """The image on white where it is transparent: a JPEG has no transparency."""
    if picture.mode == "RGB":
        return picture
    ground = Image.new("RGB", picture.size, "white")
    ground.paste(picture, mask=picture.getchannel("A"))
    return ground


def _shown(picture: av.VideoFrame) -> Image.Image:
    image: Image.Image = picture.to_image()  # type: ignore[no-untyped-call]  # av's stubs
    return image
