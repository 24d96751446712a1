"""The pictures of a video that is made of others: what it lies over, what it passes between, what shows at its frames.

Sources are decoded beside the encoding, one frame of each in memory. They are fitted to cover; where one is over before
the video is, its last frame stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from io import BytesIO
from itertools import islice, pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import av
from PIL import Image, ImageOps

from .motifs import Size
from .scene import FPS, Scene
from .studio import Footage

DISSOLVE = round(1.5 * FPS)
"""Frames from a picture at its place to the scene, and from the scene to a picture."""
CLOSEST, FARTHEST = 0.85, 0.3
"""How much shows, at amount 1 and at amount 8, of what a remix is made of."""
LETTERED = 0.6
"""The part of the height below which a source has its own prompt, and the new video has another."""


class Montage:
    """The pictures of one video, to be asked for in order.

    Args:
        scene: The prompt's own pictures.
        size: Of the video, in pixels.
        n_frames: Of the video.
        base: What it is a remix of; it shows under the scene from the first frame to the last.
        amount: How far the remix goes, 1 to 8.
        blended: What the video passes between, evenly over its length; one alone passes into the scene.
        placed: What shows at its frame, the scene dissolving into it and out of it.
    """

    def __init__(
        self,
        scene: Scene,
        size: Size,
        n_frames: int,
        *,
        base: Footage | None = None,
        amount: float = 1,
        blended: Sequence[Footage] = (),
        placed: Sequence[Footage] = (),
    ) -> None:
        self._scene, self._end = scene, max(1, n_frames - 1)
        self._base = base and Clip(base, size, washed=True)
        self._share = CLOSEST + (FARTHEST - CLOSEST) * (amount - 1) / 7
        self._blended = [Clip(footage, size, washed=True) for footage in blended]
        # Of several at one frame the first is seen.
        by_frame = {footage.frame_index: footage for footage in reversed(placed)}
        self._placed = [Inset(by_frame[frame], size) for frame in sorted(by_frame)]
        for one, other in pairwise(self._placed):
            one.leave = other.come = min(DISSOLVE, max(1, other.first - one.last))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for clip in (*([self._base] if self._base else []), *self._blended, *(inset.clip for inset in self._placed)):
            clip.close()

    def picture(self, index: int) -> Image.Image:
        """Frame number ``index``, counted from 0."""
        shown = [(inset, share) for inset in self._placed if (share := inset.share(index))]
        picture = None if any(share == 1 for _, share in shown) else self._composed(index)
        for inset, share in shown:
            over = inset.picture(index)
            picture = over if picture is None or share == 1 else Image.blend(picture, over, share)
        assert picture is not None
        self._scene.mark(picture)
        return picture

    def _composed(self, index: int) -> Image.Image:
        """The scene with what lies under it, and what is written on both."""
        if self._blended:
            picture = self._passing(index)
        else:
            picture = self._scene.backdrop(index)
            if self._base:
                picture = Image.blend(picture, self._base.picture(index), self._share)
        self._scene.letter(picture, index)
        return picture

    def _passing(self, index: int) -> Image.Image:
        """The picture on the way from one of the blended to the next; each begins to move as it comes into sight."""
        ways = max(1, len(self._blended) - 1)
        way = min(ways * index // self._end, ways - 1)
        pictures = [
            self._blended[number].picture(index - self._end * max(0, number - 1) // ways)
            for number in range(way, min(way + 2, len(self._blended)))
        ]
        one, other = pictures if len(pictures) > 1 else (*pictures, self._scene.backdrop(index))
        return Image.blend(one, other, _smooth(ways * index / self._end - way))


class Clip:
    """What one source shows, fitted to a size; a file is opened when the first of its pictures is asked for.

    They are asked for in order, and some may be passed over. `washed` is for those that will be written on: the foot of
    a video's pictures, which have a prompt already, is blurred.
    """

    def __init__(self, footage: Footage, size: Size, *, washed: bool = False) -> None:
        self._footage, self._size, self._washed = footage, size, washed
        self._file: av.container.InputContainer | None = None
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._picture: Image.Image | None = None
        self._next = 0

    def picture(self, index: int) -> Image.Image:
        """Frame number ``index`` of what is used of the source, counted from 0; past its end the last one.

        Raises:
            ValueError: For bytes that are no readable image.
        """
        if isinstance(self._footage.material, bytes):
            self._picture = self._picture or _read_image(self._footage.material, self._size)
            return self._picture
        if self._file is None:
            self._frames = self._opened(self._footage.material)
        frame = None
        while self._next <= index and (read := next(self._frames, None)):
            frame, self._next = read, self._next + 1
        if frame:
            picture = picture_of(frame)
            fits = picture.size == self._size
            self._picture = picture if fits else ImageOps.fit(picture, self._size, Image.Resampling.BILINEAR)
            if self._washed:
                _wash(self._picture)
        assert self._picture is not None  # whoever names the source saw to it that its stretch is not empty
        return self._picture

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _opened(self, path: Path) -> Iterator[av.VideoFrame]:
        self._file = av.open(path)
        self._file.streams.video[0].codec_context.thread_count = 1  # a core is left for the server
        footage = self._footage
        return islice(self._file.decode(video=0), footage.first, None if footage.last is None else footage.last + 1)


class Inset:
    """What shows at its frame of the video: a picture, or a stretch that is played from there on.

    `come` and `leave` are the frames that the scene takes to dissolve into it and out of it.
    """

    def __init__(self, footage: Footage, size: Size) -> None:
        self.clip = Clip(footage, size)
        self.first = self.last = footage.frame_index
        if footage.last is not None:
            self.last += footage.last - footage.first
        self.come = self.leave = DISSOLVE

    def share(self, index: int) -> float:
        """How much of it shows in a frame: 1 at its place, 0 far from it."""
        if index < self.first:
            return 1 - _smooth((self.first - index) / self.come)
        return 1 - _smooth((index - self.last) / self.leave)

    def picture(self, index: int) -> Image.Image:
        """What it shows in a frame; a still picture drifts, so that a video of it is one."""
        picture = self.clip.picture(min(max(0, index - self.first), self.last - self.first))
        away = abs(index - self.first)
        # A copy in any case: the tag is drawn on what comes back.
        return _zoom(picture, 0.025 * away / FPS) if self.first == self.last and away else picture.copy()


def _smooth(share: float) -> float:
    """A share of a way, with a gentle start and end."""
    share = min(max(0, share), 1)
    return share * share * (3 - 2 * share)


def _read_image(data: bytes, size: Size) -> Image.Image:
    try:
        with Image.open(BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except Exception as error:  # broken bytes make decoders raise anything from OSError to struct.error
        raise ValueError(f"the picture ({len(data)} bytes) is no image that can be read: {error}") from error
    fitted = ImageOps.fit(upright, size, Image.Resampling.LANCZOS)
    flat = Image.new("RGB", size)
    flat.paste(fitted, mask=fitted.getchannel("A"))
    return flat


def picture_of(frame: av.VideoFrame) -> Image.Image:
    """A frame as a picture."""
    picture: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]  # av's stubs
    return picture


def _wash(picture: Image.Image) -> None:
    """Blur the foot of a picture, so that two prompts are not written over each other."""
    foot = (0, int(picture.height * LETTERED), *picture.size)
    size = foot[2], foot[3] - foot[1]
    blurred = picture.reduce(max(1, min(size) // 2), foot).resize(size, Image.Resampling.BILINEAR)
    picture.paste(blurred, foot, _fall(size))


@lru_cache(maxsize=1)
def _fall(size: Size) -> Image.Image:
    """From nothing at the top to everything, a quarter of the way down."""
    return Image.linear_gradient("L").point([min(255, level * 4) for level in range(256)]).resize(size)


def _zoom(image: Image.Image, edge: float) -> Image.Image:
    """The image without ``edge`` of its width and height on each side."""
    x, y = image.width * edge, image.height * edge
    return image.resize(image.size, Image.Resampling.BILINEAR, box=(x, y, image.width - x, image.height - y))
