"""Single frames: as Pillow images, as a poster, and as the text that opens the next video."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Final

import av
from PIL import Image, ImageCms, ImageOps

from .files import regular, whole
from .video import picked, pictures, spread

_POSTER_CHOICES = 9
_MOST_PIXELS: Final = 8192 * 8192
"""More than cameras of phones give. Zeros compress: 20 kB can hold a picture that takes a gigabyte to open."""

_MOST_SIDE: Final = 65_500
"""Of a JPEG: libjpeg writes no larger one."""

_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "MPO")
"""Among the others are programs that draw, and icons that hold larger pictures than their header says."""


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
    even that is too long, a smaller one. It is the picture alone: upright, in sRGB, without comments, places or
    profiles that the image came with.

    Args:
        image: A Pillow image, as :func:`frame` gives it, an image file's bytes, or its path: PNG, JPEG, WebP, GIF, BMP,
            TIFF or AVIF, and HEIF where Pillow has a plugin for it. At most 67,108,864 pixels (8192 x 8192).
        max_side: Pixels of the longer side at most; a larger image is made smaller. Without it the size is kept.
        max_length: Characters of the text at most, 2,000 or more.

    Returns:
        ``data:image/png;base64,...`` or ``data:image/jpeg;base64,...``.

    Raises:
        ValueError: It is no image that can be read, has too many pixels, or a number is too small.
        OSError: The file cannot be opened.
    """
    if max_length < 2000 or (max_side is not None and max_side < 1):
        raise ValueError(f"max_length {max_length}, max_side {max_side}: at least 2000 characters and 1 pixel")
    picture = _opened(image, max_side)
    if max_side is not None:
        picture.thumbnail((max_side, max_side))
    for url in _urls(picture):
        if len(url) <= max_length:
            return url
    raise ValueError(f"max_length {max_length}: no picture fits so few characters, not even a single pixel of this one")


def _urls(picture: Image.Image) -> Iterator[str]:
    """Ever shorter ways to write one image. The last is a single pixel."""
    yield _url(picture, "png")
    flat = _flat(picture)
    flat.thumbnail((_MOST_SIDE, _MOST_SIDE))
    while True:
        for quality in (95, 85, 70):
            yield _url(flat, "jpeg", quality=quality)
        if flat.size == (1, 1):
            return
        flat = flat.resize((max(1, flat.width * 3 // 4), max(1, flat.height * 3 // 4)), Image.Resampling.LANCZOS)


def _url(picture: Image.Image, kind: str, **options: int) -> str:
    data = BytesIO()
    picture.save(data, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(data.getbuffer()).decode()}"


def _opened(image: Image.Image | bytes | str | os.PathLike[str], max_side: int | None) -> Image.Image:
    """The image, upright, as RGB or RGBA, without anything but its pixels, and nobody else's."""
    if isinstance(image, Image.Image):
        _bounded("the image", image)
        return _plain(image)
    name = "the bytes" if isinstance(image, bytes) else str(image)
    with BytesIO(image) if isinstance(image, bytes) else regular(image).open("rb") as file:
        with _decoding(name):
            picture = Image.open(file)
        if picture.format not in _FORMATS:
            raise ValueError(f"{name}: a picture of the kind {picture.format}; one of {', '.join(_FORMATS)}")
        _bounded(name, picture)
        with _decoding(name):
            if max_side is not None:
                picture.draft(None, (2 * max_side, 2 * max_side))  # a JPEG need not be decoded larger than that
            return _plain(picture)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own bound, or its user's
        raise _too_large(name, str(error)) from error
    except Exception as error:  # broken bytes make decoders raise anything from OSError to struct.error
        raise ValueError(f"{name}: not an image that can be read; frame() takes one out of a video") from error


def _bounded(name: str, picture: Image.Image) -> None:
    if picture.width * picture.height > _MOST_PIXELS:
        raise _too_large(name, f"{picture.width}x{picture.height}")


def _too_large(name: str, given: str) -> ValueError:
    return ValueError(f"{name}: too many pixels ({given}); {_MOST_PIXELS:,} at most, so make it smaller first")


def _plain(picture: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(picture)
    made = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    _to_srgb(made)
    made.info = {}  # which Pillow would write along, however long it is
    return made


def _to_srgb(picture: Image.Image) -> None:
    """Bring colours to the space that is meant where no profile is. One that cannot be read changes nothing."""
    profile = picture.info.get("icc_profile")
    if isinstance(profile, bytes) and profile[16:20] == b"RGB ":
        with suppress(ImageCms.PyCMSError, OSError, ImportError):  # a Pillow may have been built without it
            told = ImageCms.ImageCmsProfile(BytesIO(profile))
            ImageCms.profileToProfile(picture, told, ImageCms.createProfile("sRGB"), inPlace=True)


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
