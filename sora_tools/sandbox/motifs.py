"""What a prompt looks like: its colours, and the sprites that move in front of its sky."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random

from PIL import Image, ImageDraw, ImageOps

Size = tuple[int, int]
Colour = tuple[int, int, int]
Place = Callable[[float], tuple[float, float]]  # seconds to the middle of a sprite, in pixels

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)


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


def _colour(hue: float, lightness: float, saturation: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(hue % 1, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """The colour that lies at ``share``, from 0 to 1, between one and the other."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def flat(colour: Colour, mask: Image.Image, place: Place) -> Sprite:
    """One colour all over, as a picture because Pillow pastes those three times as fast."""
    return Sprite(Image.new("RGB", mask.size, colour), mask, place)


# ---------------------------------------------------------------- motifs


def _dunes(look: Look, size: Size) -> list[Sprite]:
    """Ridges that pass at different speeds under a sun."""
    width, height = size
    x, y = width * look.random.uniform(0.25, 0.7), height * look.random.uniform(0.24, 0.34)
    sun = look.random.uniform(0.25, 0.36) * min(size)
    light = mix(look.glow, WHITE, 0.7)
    sprites = [_orb(sun, light, look.glow, lambda t: (x + 0.012 * width * t, y + 0.02 * height * math.sin(t)))]
    for depth in range(4):
        top, pace = height * (0.42 + 0.13 * depth), width * (0.02 + 0.035 * depth)
        colour = mix(look.accent, look.deep, 0.4 + depth * 0.18)
        ridge = _ridge(look.random, (width, math.ceil(height * 0.4)))  # the next one covers what lies below
        sprites.append(flat(colour, ridge, _passing(width, top + ridge.height / 2, pace)))
    return sprites


def _orbs(look: Look, size: Size) -> list[Sprite]:
    """Spheres that cross each other's ways, the far ones small."""
    sprites = []
    for nearness in range(9):
        draw = look.random.uniform
        colour = look.accent if nearness % 3 == 2 else mix(look.middle, look.glow, draw(0.2, 1))
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
        flat(look.glow, _rings(size, middle, radii), lambda _: (size[0] / 2, size[1] / 2)),
        _orb(min(size) * 0.24, mix(look.glow, WHITE, 0.6), look.accent, lambda _: middle),
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
        sprites.append(flat(colour, mask, _rising(size, draw(0, 1), draw(0, 1.4), draw(0.06, 0.2))))
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
    return _orb(diameter, mix(colour, WHITE, 0.35), mix(colour, look.deep, 0.4), place)


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
