"""Real MP4s for the sandbox: an abstract scene that moves, with its prompt written on it.

A picture depends on what was asked for and on its index alone, so the same request always gives the same frames.
Whatever costs time (blurring, lettering, smooth edges) is done once, when the scene is built; a frame is a few resizes
and pastes, and one frame is in memory at a time. A file appears under its name when it is whole.

Lettering has capitals of at least 4 % of the picture's height, stays inside its safe margins, and is left out where
the picture is too narrow for a word. Text that no font here can draw is never drawn as
boxes: a notice says what is missing.
"""

from __future__ import annotations

import colorsys
import math
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from random import Random
from uuid import uuid4

import av
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

FPS = 30
CAP_HEIGHT = 0.042  # of the picture's height: 4 % and what rounding takes away
DISSOLVE = 1.5  # seconds from the opening picture to the scene

_ENCODER = {
    "preset": "ultrafast",  # with these two filters on it looks about like veryfast, in a third of the time
    "x264-params": "deblock=1,0:cabac=1",
    "crf": "18",
    "threads": "1",  # the same bytes on every machine, and a core left for the server
    "colorspace": "smpte170m",  # what the conversion from RGB uses, said so that no player has to guess
    "color_range": "tv",
}

Size = tuple[int, int]
Colour = tuple[int, int, int]
Place = Callable[[float], tuple[float, float]]  # seconds to the middle of a sprite, in pixels

_WHITE: Colour = (255, 255, 255)
_BLACK: Colour = (0, 0, 0)


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


# The scene


@dataclass(frozen=True, slots=True)
class Sprite:
    """A picture that every frame shows through a mask, its middle where ``place`` says."""

    fill: Image.Image
    mask: Image.Image
    place: Place

    def paste(self, picture: Image.Image, seconds: float) -> None:
        """Put the sprite where it is at that time; what lies outside of the picture is cut off."""
        x, y = self.place(seconds)
        left, top = round(x - self.mask.width / 2), round(y - self.mask.height / 2)
        picture.paste(self.fill, (left, top, left + self.mask.width, top + self.mask.height), self.mask)


class Look:
    """What a prompt and a variant look like: colours from dark to light, one that stands out, and what moves."""

    def __init__(self, prompt: str, variant: int) -> None:
        digest = sha256(prompt.encode("utf-8", "replace")).digest()
        share = (digest[0] / 256 + variant * 0.381966) % 1  # the golden section keeps any number of variants apart
        hue = 0.5 + 0.55 * share  # from teal through violet to red: skies are rarely green
        self.random = Random(f"{digest.hex()}/{variant}")
        self.motif = _MOTIFS[(digest[1] + variant) % len(_MOTIFS)]
        self.deep = _colour(hue, 0.13, 0.65)
        self.middle = _colour(hue + 0.06, 0.38, 0.70)
        self.side = _colour(hue - 0.11, 0.45, 0.75)
        self.glow = _colour(hue + 0.15, 0.72, 0.90)
        self.accent = _colour(hue + 0.42 + digest[2] / 1600, 0.62, 0.95)


class Scene:
    """The pictures of one video, each made when it is asked for; arguments as for :func:`render_video`."""

    def __init__(
        self,
        prompt: str,
        size: Size,
        *,
        variant: int = 0,
        captions: Sequence[tuple[float, str]] = (),
        opening: bytes | None = None,
    ) -> None:
        if min(size) < 1:
            raise ValueError(f"the picture is {size[0]}x{size[1]}: both sides are at least 1")
        self._size = size
        self._opening = None if opening is None else _read_image(opening, size)
        look = Look(prompt, variant)
        self._skies = _sky(look, size), _sky(look, size)
        self._tag = _tag(size)
        self._captions = sorted(captions, key=lambda caption: caption[0])
        # One is kept at a time, however many there are.
        self._caption = lru_cache(maxsize=1)(partial(_caption_band, size=size, ink=look.deep))
        band = _prompt_band(prompt, size, look, below=self._tag if captions else None)
        self._sprites = [*look.motif(look, size), _shade(look, size, at_top=bool(captions)), *band]

    def picture(self, index: int) -> Image.Image:
        """Frame number ``index``, counted from 0."""
        seconds = index / FPS
        if self._opening and seconds < DISSOLVE:
            share = seconds / DISSOLVE
            drifted = _zoom(self._opening, 0.025 * seconds)
            picture = Image.blend(drifted, self._paint(seconds), share * share * (3 - 2 * share)) if index else drifted
        else:
            picture = self._paint(seconds)
        for sprite in self._tag:
            sprite.paste(picture, seconds)
        return picture

    def _paint(self, seconds: float) -> Image.Image:
        picture = self._sky_at(seconds)
        for sprite in (*self._sprites, *self._caption(self._caption_at(seconds))):
            sprite.paste(picture, seconds)
        return picture

    def _sky_at(self, seconds: float) -> Image.Image:
        """Two skies that drift across each other."""
        near, far = self._skies
        share = 0.5 + 0.3 * math.sin(0.9 * seconds)
        return Image.blend(_view(near, self._size, 0.5 * seconds), _view(far, self._size, 2 - 0.4 * seconds), share)

    def _caption_at(self, seconds: float) -> str:
        return next((text for time, text in reversed(self._captions) if time < seconds + 0.5 / FPS), "")


def _read_image(data: bytes, size: Size) -> Image.Image:
    try:
        with Image.open(BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except Exception as error:  # broken bytes make decoders raise anything from OSError to struct.error
        raise ValueError(f"the opening picture ({len(data)} bytes) is no image that can be read: {error}") from error
    fitted = ImageOps.fit(upright, size, Image.Resampling.LANCZOS)
    flat = Image.new("RGB", size)
    flat.paste(fitted, mask=fitted.getchannel("A"))
    return flat


def _zoom(image: Image.Image, edge: float) -> Image.Image:
    """The image without ``edge`` of its width and height on each side."""
    x, y = image.width * edge, image.height * edge
    return image.resize(image.size, Image.Resampling.BILINEAR, box=(x, y, image.width - x, image.height - y))


def _colour(hue: float, lightness: float, saturation: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(hue % 1, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _sky(look: Look, size: Size) -> Image.Image:
    """Blurred islands of colour, dark above and light below, larger than the picture so that it can be moved."""
    sky = ImageOps.colorize(Image.linear_gradient("L").resize((96, 96)), look.deep, look.glow, look.middle)
    canvas = ImageDraw.Draw(sky)
    for _ in range(14):
        x, y, radius = (look.random.uniform(*span) for span in ((0, 96), (0, 96), (7, 18)))
        colour = look.random.choice((look.deep, look.middle, look.side, look.glow))
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), _mix(look.middle, colour, 0.85))
    blurred = sky.filter(ImageFilter.GaussianBlur(8))
    return blurred.resize((size[0] * 4 // 3, size[1] * 4 // 3), Image.Resampling.BICUBIC)


def _view(sky: Image.Image, size: Size, angle: float) -> Image.Image:
    """The part of a sky that is seen: it circles slowly and never leaves the sky."""
    left = round((sky.width - size[0]) * (0.5 + 0.5 * math.cos(angle)))
    top = round((sky.height - size[1]) * (0.5 + 0.5 * math.sin(1.3 * angle)))
    return sky.crop((left, top, left + size[0], top + size[1]))


def _shade(look: Look, size: Size, *, at_top: bool) -> Sprite:
    """Darkens the half that carries the prompt."""
    fall = Image.linear_gradient("L").point([round(level * 0.55) for level in range(256)])
    half = size[0], math.ceil(size[1] / 2)
    mask = (ImageOps.flip(fall) if at_top else fall).resize(half)
    middle = size[0] / 2, half[1] / 2 if at_top else size[1] - half[1] / 2
    return _flat(_mix(look.deep, _BLACK, 0.5), mask, lambda _: middle)


# Motifs: what moves in front of the sky


def _dunes(look: Look, size: Size) -> list[Sprite]:
    """Ridges that pass at different speeds under a sun."""
    width, height = size
    x, y = width * look.random.uniform(0.25, 0.7), height * look.random.uniform(0.24, 0.34)
    sun = look.random.uniform(0.25, 0.36) * min(size)
    light = _mix(look.glow, _WHITE, 0.7)
    sprites = [_orb(sun, light, look.glow, lambda t: (x + 0.012 * width * t, y + 0.02 * height * math.sin(t)))]
    for depth in range(4):
        top, pace = height * (0.42 + 0.13 * depth), width * (0.02 + 0.035 * depth)
        colour = _mix(look.accent, look.deep, 0.4 + depth * 0.18)
        ridge = _ridge(look.random, (width, math.ceil(height * 0.4)))  # the next one covers what lies below
        sprites.append(_flat(colour, ridge, _passing(width, top + ridge.height / 2, pace)))
    return sprites


def _orbs(look: Look, size: Size) -> list[Sprite]:
    """Spheres that cross each other's ways, the far ones small."""
    sprites = []
    for nearness in range(9):
        draw = look.random.uniform
        colour = look.accent if nearness % 3 == 2 else _mix(look.middle, look.glow, draw(0.2, 1))
        middle = size[0] * draw(0.1, 0.9), size[1] * draw(0.1, 0.8)
        reach = size[0] * 0.16, size[1] * 0.14
        diameter = min(size) * (0.08 + 0.035 * nearness) * draw(0.8, 1.2)
        place = _circling(middle, reach, draw(0.5, 0.9), draw(0, math.tau))
        sprites.append(_ball(diameter, colour, look, place))
    return sprites


def _orbits(look: Look, size: Size) -> list[Sprite]:
    """Planets on rings around a sun."""
    middle = size[0] * look.random.uniform(0.35, 0.65), size[1] * 0.42
    radii = [min(size) * (0.12 + 0.12 * ring) for ring in range(1, 6)]
    sprites = [
        _flat(look.glow, _rings(size, middle, radii), lambda _: (size[0] / 2, size[1] / 2)),
        _orb(min(size) * 0.24, _mix(look.glow, _WHITE, 0.6), look.accent, lambda _: middle),
    ]
    for ring, radius in enumerate(radii, 1):
        draw = look.random.uniform
        place = _circling(middle, (radius, radius), draw(1, 1.6) / ring**0.7, draw(0, math.tau))
        colour = look.accent if ring % 2 else look.glow
        sprites.append(_ball(min(size) * draw(0.06, 0.13), colour, look, place))
    return sprites


def _lanterns(look: Look, size: Size) -> list[Sprite]:
    """Soft lights that rise, each at its own pace."""
    sprites = []
    for _ in range(22):
        draw = look.random.uniform
        mask = _disc(min(size) * draw(0.05, 0.26), fill=105, outline=200)
        colour = look.random.choice((look.glow, look.glow, look.accent))
        sprites.append(_flat(colour, mask, _rising(size, draw(0, 1), draw(0, 1.4), draw(0.06, 0.2))))
    return sprites


_MOTIFS = (_dunes, _orbs, _orbits, _lanterns)


def _circling(middle: tuple[float, float], reach: tuple[float, float], turn: float, phase: float) -> Place:
    def place(t: float) -> tuple[float, float]:
        angle = turn * t + phase
        return middle[0] + reach[0] * math.cos(angle), middle[1] + reach[1] * math.sin(angle)

    return place


def _passing(width: int, y: float, pace: float) -> Place:
    return lambda t: (width - pace * t % width, y)


def _rising(size: Size, x: float, start: float, pace: float) -> Place:
    return lambda t: (size[0] * (x + 0.02 * math.sin(t + 9 * x)), size[1] * (1.2 - (start + pace * t) % 1.4))


def _orb(diameter: float, light: Colour, dark: Colour, place: Place) -> Sprite:
    mask = _disc(diameter)
    shine = Image.radial_gradient("L").resize(mask.size, box=(70, 80, 230, 240))
    return Sprite(ImageOps.colorize(shine, light, dark), mask, place)


def _ball(diameter: float, colour: Colour, look: Look, place: Place) -> Sprite:
    return _orb(diameter, _mix(colour, _WHITE, 0.35), _mix(colour, look.deep, 0.4), place)


def _disc(diameter: float, *, fill: int = 255, outline: int = 255) -> Image.Image:
    side = max(1, round(diameter))

    def draw(canvas: ImageDraw.ImageDraw, scale: int) -> None:
        box = (0, 0, side * scale - 1, side * scale - 1)
        canvas.ellipse(box, fill=fill, outline=outline, width=max(2, side * scale // 40))

    return _smooth((side, side), draw)


def _rings(size: Size, middle: tuple[float, float], radii: Sequence[float]) -> Image.Image:
    def draw(canvas: ImageDraw.ImageDraw, scale: int) -> None:
        for radius in radii:
            x, y, reach = middle[0] * scale, middle[1] * scale, radius * scale
            canvas.ellipse((x - reach, y - reach, x + reach, y + reach), outline=120, width=max(2, min(size) // 120))

    return _smooth(size, draw)


def _ridge(random: Random, size: Size) -> Image.Image:
    """The mask of a hilly skyline, two pictures wide with equal halves, so that it can pass for ever."""
    width, height = size
    waves = [(turns, random.uniform(0, math.tau)) for turns in random.sample(range(1, 7), 3)]
    rises = [sum(math.sin(math.tau * turns * x / 128 + phase) / turns for turns, phase in waves) for x in range(129)]
    skyline = [(width * x / 128, height * (0.2 + 0.11 * rise)) for x, rise in enumerate(rises)]

    def draw(canvas: ImageDraw.ImageDraw, scale: int) -> None:
        outline = (*skyline, (width, height), (0, height))
        canvas.polygon([(x * scale, y * scale) for x, y in outline], fill=255)

    half = _smooth(size, draw)
    whole = Image.new("L", (width * 2, height))
    whole.paste(half, (0, 0))
    whole.paste(half, (width, 0))
    return whole


def _smooth(size: Size, draw: Callable[[ImageDraw.ImageDraw, int], None]) -> Image.Image:
    """A mask drawn at twice its size, which is what softens its edges."""
    large = Image.new("L", (size[0] * 2, size[1] * 2))
    draw(ImageDraw.Draw(large), 2)
    return large.resize(size, Image.Resampling.BOX)


def _flat(colour: Colour, mask: Image.Image, place: Place) -> Sprite:
    """One colour all over, as a picture because Pillow pastes those three times as fast."""
    return Sprite(Image.new("RGB", mask.size, colour), mask, place)


# Panels: what is written on the picture, each one still sprite


def _margin(size: Size) -> int:
    return round(min(size[1] * 0.045, size[0] / 16))


def _tag(size: Size) -> list[Sprite]:
    """The word in the upper right corner by which nobody takes the picture for a model's work."""
    font = _at_cap_height(_builtin(), math.ceil(size[1] * 0.026))
    pad = _cap_height(font) * 2 // 3
    text = Lettering(font, ("sandbox",))
    if text.width + 2 * (pad + _margin(size)) > size[0]:
        return []
    image = _lettered(text, ink=_WHITE, paper=(*_BLACK, 110), pad=pad)
    return [_still(image, size[0] - _margin(size) - image.width, _margin(size))]


def _prompt_band(prompt: str, size: Size, look: Look, *, below: Sequence[Sprite] | None) -> list[Sprite]:
    """The prompt at the foot of the picture, or right below the tag where captions take the foot."""
    margin, height = _margin(size), size[1]
    sprites = []
    for image in _panel(prompt, size, ink=_WHITE, paper=(*_mix(look.deep, _BLACK, 0.5), 175)):
        top = height - margin - image.height
        if below is not None:
            top = margin + sum(tag.mask.height + math.ceil(height * 0.012) for tag in below)
        sprites.append(_still(image, margin, top))
    return sprites


def _caption_band(caption: str, *, size: Size, ink: Colour) -> list[Sprite]:
    """A storyboard's caption: below, dark on light to tell it from the prompt."""
    width, height = size
    panel = _panel(caption, size, ink=ink, paper=(250, 250, 250, 235), centred=True)
    return [_still(image, (width - image.width) // 2, height - _margin(size) - image.height) for image in panel]


def _panel(
    text: str, size: Size, *, ink: Colour, paper: tuple[int, int, int, int], centred: bool = False
) -> list[Image.Image]:
    """``text`` on a panel that leaves room for another one and the tag; nothing where there is nothing to write."""
    width, height = size
    pad = math.ceil(height * 0.03)
    share = 0.26 if width >= height else 0.34
    room = width - 2 * (_margin(size) + pad)
    lines = lettering(text, width=room, height=round(height * share), picture_height=height)
    return [_lettered(lines, ink=ink, paper=paper, pad=pad, centred=centred)] if lines else []


def _lettered(
    text: Lettering, *, ink: Colour, paper: tuple[int, int, int, int], pad: int, centred: bool = False
) -> Image.Image:
    image = Image.new("RGBA", (text.width + 2 * pad, text.height + pad), (*ink, 0))
    canvas = ImageDraw.Draw(image)
    canvas.rounded_rectangle((0, 0, image.width - 1, image.height - 1), radius=pad * 0.6, fill=paper)
    for row, line in enumerate(text.lines):
        x = (image.width - text.font.getlength(line)) / 2 if centred else pad
        foot = pad / 2 + row * text.line_height + (text.line_height + text.cap_height) / 2
        canvas.text((x, foot), line, font=text.font, fill=ink, anchor="ls")
    return image


def _still(image: Image.Image, left: int, top: int) -> Sprite:
    middle = left + image.width / 2, top + image.height / 2
    return Sprite(image.convert("RGB"), image.getchannel("A"), lambda _: middle)


# Lettering

_WIDE = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
# What stays together on a line: a word, or one wide character with the brackets and stops that cling to it.
_PIECES = re.compile(f"[（「『【《〈“‘]*[{_WIDE}][，。、！？；：）」』】》〉”’…]*\\s*|[^\\s{_WIDE}]+\\s*|\\s+")
_PLAIN = str.maketrans(
    {"—": "-", "–": "-", "−": "-", "×": "x", "ß": "ss", "æ": "ae", "ø": "o", "ł": "l", "‘": "'", "’": "'"}
)

# Looked for in the system's font folders under any extension; from "NotoSansCJK" on they draw Chinese and its kin.
SYSTEM_FONTS = (
    *("NotoSans-Regular", "DejaVuSans", "Arial", "arial", "segoeui"),
    *("NotoSansCJK-Regular", "NotoSansCJKsc-Regular", "NotoSansSC-Regular", "NotoSansSC-VF", "NotoSansJP-Regular"),
    *("SourceHanSansSC-Regular", "SourceHanSansCN-Regular", "SourceHanSans-Regular", "SourceHanSansSC-VF"),
    *("wqy-microhei", "wqy-zenhei", "DroidSansFallbackFull", "DroidSansFallback", "PingFang", "Hiragino Sans GB"),
    *("STHeiti Medium", "Arial Unicode", "msyh", "simhei", "simsun", "meiryo", "msgothic", "malgun"),
)


@dataclass(frozen=True, slots=True)
class Lettering:
    """Lines of text in the font they were laid out with."""

    font: ImageFont.FreeTypeFont
    lines: tuple[str, ...]

    @property
    def cap_height(self) -> int:
        """Pixels from the foot of an H to its top."""
        return _cap_height(self.font)

    @property
    def line_height(self) -> int:
        """Pixels from one line's foot to the next one's."""
        return math.ceil(self.cap_height * 1.8)

    @property
    def width(self) -> int:
        """Pixels, of the widest line."""
        return math.ceil(max(self.font.getlength(line) for line in self.lines))

    @property
    def height(self) -> int:
        """Pixels, of all lines."""
        return self.line_height * len(self.lines)


def lettering(text: str, *, width: int, height: int, picture_height: int) -> Lettering | None:
    """Lay ``text`` out in ``width`` x ``height`` pixels, its capitals 4 % of ``picture_height`` or more.

    Returns:
        The lines, shortened with an ellipsis where they are too many, then a notice where characters cannot be drawn
        here; ``None`` where there is nothing to write or the room is too narrow for a word.
    """
    text = " ".join(text[:2000].split())
    font = _font_for(text)
    drawn, missing = _drawable(text, font)
    font = _at_cap_height(font, math.ceil(picture_height * CAP_HEIGHT))
    limit = height // Lettering(font, ()).line_height
    if not text or not limit or width < font.getlength("nnnn"):
        return None
    notice = _wrap(_notice(missing), font, width, limit) if missing else []
    lines = *_wrap(drawn, font, width, limit - len(notice)), *notice
    return Lettering(font, lines) if lines else None


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int, limit: int) -> list[str]:
    """At most ``limit`` lines of at most ``width`` pixels; a word wider than that is cut."""
    lines: list[str] = []
    line = ""
    for piece in _PIECES.findall(text):
        if line and font.getlength((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece
        while font.getlength(line.rstrip()) > width:
            cut = _fitting(line, font, width)
            lines.append(line[:cut])
            line = line[cut:]
    if line.rstrip():
        lines.append(line.rstrip())
    if len(lines) > limit > 0:
        last = lines[limit - 1] + " "
        lines[limit - 1] = last[: _fitting(last, font, width - font.getlength("…"))].rstrip(" ,.;:，。、") + "…"
    return lines[: max(0, limit)]


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """How many of the first characters fit, but at least one."""
    return max(1, bisect_right(range(len(text)), width, key=lambda count: font.getlength(text[:count])) - 1)


def _notice(missing: Sequence[str]) -> str:
    if any(unicodedata.east_asian_width(char) in "WF" and char.isalnum() for char in missing):
        return "(no CJK font on this machine: install fonts-noto-cjk)"
    return f"(no font on this machine draws U+{ord(missing[0]):04X})"


def _drawable(text: str, font: ImageFont.FreeTypeFont) -> tuple[str, list[str]]:
    """What ``font`` can draw of ``text``, accents and dashes simplified where need be, and what it cannot."""
    drawn, missing = "", []
    for char in text:
        plain = char if _draws(font, char) else _plain(char)
        if all(_draws(font, letter) for letter in plain):
            drawn += plain
        else:
            missing.append(char)
    if missing:  # punctuation whose words are gone
        drawn = " ".join(word for word in drawn.split() if any(map(str.isalnum, word)))
    return drawn, missing


def _plain(char: str) -> str:
    """Without its accent; nothing, for marks and controls that have no shape of their own."""
    if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Me", "Mn"}:
        return ""
    letters = unicodedata.normalize("NFKD", char.translate(_PLAIN))
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).strip()


def _font_for(text: str) -> ImageFont.FreeTypeFont:
    """Pillow's own font, or the system's that draws more of ``text``."""
    builtin = _builtin()
    if all(_draws(builtin, char) for char in text):
        return builtin
    return max((builtin, *_system_fonts(SYSTEM_FONTS)), key=lambda font: sum(_draws(font, char) for char in text))


@lru_cache(maxsize=4096)
def _draws(font: ImageFont.FreeTypeFont, char: str) -> bool:
    """Whether the font has a glyph of its own: a missing one looks like that of a character nobody may have."""
    if char.isspace():
        return True
    mask, box = font.getmask(char), font.getmask("\uffff")
    return (mask.size, bytes(mask)) != (box.size, bytes(box))


@cache
def _builtin() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=40)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


@cache
def _system_fonts(names: tuple[str, ...]) -> list[ImageFont.FreeTypeFont]:
    fonts = []
    for name in names:
        with suppress(OSError):
            fonts.append(ImageFont.truetype(name, size=40))
    return fonts


@lru_cache(maxsize=64)
def _at_cap_height(font: ImageFont.FreeTypeFont, pixels: int) -> ImageFont.FreeTypeFont:
    size = max(1, pixels)  # no capital is as tall as its font's size
    while _cap_height(font.font_variant(size=size)) < pixels:
        size += 1
    return font.font_variant(size=size)


def _cap_height(font: ImageFont.FreeTypeFont) -> int:
    _, top, _, foot = font.getbbox("H", anchor="ls")
    return round(foot - top)
