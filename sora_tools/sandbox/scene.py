"""The pictures of one video: a sky that drifts, a motif in front of it, and what is written on both.

A picture depends on what was asked for and on its index alone, so the same request always gives the same frames.
Whatever costs time (blurring, lettering, smooth edges) is done once, when the scene is built; a frame is a few resizes
and pastes. Lettering stays inside its safe margins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from .lettering import Lettering, at_cap_height, builtin_font, lay_out
from .motifs import BLACK, WHITE, Colour, Look, Size, Sprite, flat, mix

FPS = 30


class Scene:
    """What a prompt's video shows, each frame made when it is asked for; arguments as for :func:`render_video`.

    The backdrop, the words and the tag are three things, for a video may show others between them.
    """

    def __init__(
        self,
        prompt: str,
        size: Size,
        *,
        variant: int = 0,
        captions: Sequence[tuple[float, str]] = (),
    ) -> None:
        if min(size) < 1:
            raise ValueError(f"the picture is {size[0]}x{size[1]}: both sides are at least 1")
        self._size = size
        look = Look(prompt, variant)
        self._skies = _sky(look, size), _sky(look, size)
        self._tag = _tag(size)
        self._captions = sorted(captions, key=lambda caption: caption[0])
        # One is kept at a time, however many there are.
        self._caption = lru_cache(maxsize=1)(partial(_caption_band, size=size, ink=look.deep))
        self._prompt = _prompt_band(prompt, size, look, below=self._tag if captions else None)
        self._sprites = [*look.motif(look, size), _shade(look, size, at_top=bool(captions))]

    def backdrop(self, index: int) -> Image.Image:
        """Frame number ``index``, counted from 0, without a word on it."""
        seconds = index / FPS
        picture = self._sky_at(seconds)
        for sprite in self._sprites:
            sprite.paste(picture, seconds)
        return picture

    def letter(self, picture: Image.Image, index: int) -> None:
        """Write the prompt on a picture, and the caption of that frame."""
        seconds = index / FPS
        for sprite in (*self._prompt, *self._caption(self._caption_at(seconds))):
            sprite.paste(picture, seconds)

    def mark(self, picture: Image.Image) -> None:
        """Write the tag on a picture."""
        for sprite in self._tag:
            sprite.paste(picture, 0)

    def _sky_at(self, seconds: float) -> Image.Image:
        """Two skies that drift across each other."""
        near, far = self._skies
        share = 0.5 + 0.3 * math.sin(0.9 * seconds)
        return Image.blend(_view(near, self._size, 0.5 * seconds), _view(far, self._size, 2 - 0.4 * seconds), share)

    def _caption_at(self, seconds: float) -> str:
        return next((text for time, text in reversed(self._captions) if time < seconds + 0.5 / FPS), "")


def _sky(look: Look, size: Size) -> Image.Image:
    """Blurred islands of colour, dark above and light below, larger than the picture so that it can be moved."""
    sky = ImageOps.colorize(Image.linear_gradient("L").resize((96, 96)), look.deep, look.glow, look.middle)
    canvas = ImageDraw.Draw(sky)
    for _ in range(14):
        x, y, radius = (look.random.uniform(*span) for span in ((0, 96), (0, 96), (7, 18)))
        colour = look.random.choice((look.deep, look.middle, look.side, look.glow))
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), mix(look.middle, colour, 0.85))
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
    return flat(mix(look.deep, BLACK, 0.5), mask, lambda _: middle)


# ---------------------------------------------------------------- panels: what is written, each one still sprite


def _margin(size: Size) -> int:
    return round(min(size[1] * 0.045, size[0] / 16))


def _tag(size: Size) -> list[Sprite]:
    """The word in the upper right corner by which nobody takes the picture for a model's work."""
    text = Lettering(at_cap_height(builtin_font(), math.ceil(size[1] * 0.026)), ("sandbox",))
    pad = text.cap_height * 2 // 3
    if text.width + 2 * (pad + _margin(size)) > size[0]:
        return []
    image = _lettered(text, ink=WHITE, paper=(*BLACK, 110), pad=pad)
    return [_still(image, size[0] - _margin(size) - image.width, _margin(size))]


def _prompt_band(prompt: str, size: Size, look: Look, *, below: Sequence[Sprite] | None) -> list[Sprite]:
    """The prompt at the foot of the picture, or right below the tag where captions take the foot."""
    margin, height = _margin(size), size[1]
    sprites = []
    for image in _panel(prompt, size, ink=WHITE, paper=(*mix(look.deep, BLACK, 0.5), 175)):
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
    lines = lay_out(text, width=room, height=round(height * share), picture_height=height)
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
