"""Text for a picture: laid out in lines, in a font that draws it.

Capitals are at least 4 % of the picture's height, and where the room is too narrow for a word nothing is written. Text
that no font here can draw is never drawn as boxes: a notice says what is missing.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache

from PIL import ImageFont

CAP_HEIGHT = 0.042  # of the picture's height: 4 % and what rounding takes away

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


def lay_out(text: str, *, width: int, height: int, picture_height: int) -> Lettering | None:
    """Lay ``text`` out in ``width`` x ``height`` pixels, its capitals 4 % of ``picture_height`` or more.

    Returns:
        The lines, shortened with an ellipsis where they are too many, then a notice where characters cannot be drawn
        here; ``None`` where there is nothing to write or the room is too narrow for a word.
    """
    text = " ".join(text[:2000].split())
    font = _font_for(text)
    drawn, missing = _drawable(text, font)
    font = at_cap_height(font, math.ceil(picture_height * CAP_HEIGHT))
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
    builtin = builtin_font()
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
def builtin_font() -> ImageFont.FreeTypeFont:
    """The font that comes with Pillow: Latin letters, and not all of those."""
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
def at_cap_height(font: ImageFont.FreeTypeFont, pixels: int) -> ImageFont.FreeTypeFont:
    """The smallest size of the font whose capitals are ``pixels`` tall or more."""
    size = max(1, pixels)  # no capital is as tall as its font's size
    while _cap_height(font.font_variant(size=size)) < pixels:
        size += 1
    return font.font_variant(size=size)


def _cap_height(font: ImageFont.FreeTypeFont) -> int:
    _, top, _, foot = font.getbbox("H", anchor="ls")
    return round(foot - top)
