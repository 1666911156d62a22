"""Crisp text and shapes for pictures, in the typeface that Pillow brings (Aileron).

Every word is drawn four times too large, then reduced by area averaging: no hinting, so words keep
their shape and width at any size. All functions draw into a ``(H, W, 3)`` uint8 BGR picture in
place.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = [
    "Colour",
    "bgr",
    "blend",
    "draw_text",
    "fit_text",
    "ink_on",
    "luminance",
    "rounded_mask",
    "text_width",
]

Colour = tuple[int, int, int]
"""Blue, green, red, each 0–255."""

_OVERSAMPLING = 4
_CAPITAL_EM = 0.7
"""Height of the typeface's capitals, share of its size."""
_SPACE_EM = 0.36
"""Width of a space, share of the height of capitals."""
_BOLD_EM = 0.026
"""Width that a bold stroke gains at each side, share of the size: Pillow has one weight only."""


def bgr(colour: str) -> Colour:
    """Return a ``#rrggbb`` colour as blue, green, red.

    >>> bgr("#E69F00")
    (0, 159, 230)
    """
    value = int(colour.removeprefix("#"), 16)
    return value & 255, (value >> 8) & 255, value >> 16


def luminance(colour: Colour) -> float:
    """Return the relative luminance of a colour, 0 (black) to 1 (white).

    References:
        WCAG 2.2, definition of relative luminance.
    """
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (v / 255 for v in colour)
    ]
    return 0.0722 * linear[0] + 0.7152 * linear[1] + 0.2126 * linear[2]


def ink_on(ground: Colour) -> Colour:
    """Return near-black or white, whichever contrasts more with ``ground``."""
    # Equal contrast to both is at luminance sqrt(1.05 * 0.05) - 0.05 = 0.179.
    return (24, 20, 16) if luminance(ground) > 0.179 else (255, 255, 255)


def text_width(text: str, height: float, *, bold: bool = False) -> int:
    """Return the width in pixels of ``text`` with capitals ``height`` pixels high."""
    words = _plain(text).split(" ")
    space = _SPACE_EM * height
    advance = sum(_word(w, height, bold)[1] if w else 0.0 for w in words)
    return round(advance + space * (len(words) - 1))


def fit_text(text: str, height: float, width: float, *, bold: bool = False) -> str:
    """Return ``text``, cut in the middle with ``...`` where it is wider than ``width`` pixels."""
    text = _plain(text)
    if text_width(text, height, bold=bold) <= width:
        return text
    for length in range(len(text) - 1, 1, -1):
        tail = length // 2
        shorter = text[: length - tail].rstrip() + "..." + (text[-tail:].lstrip() if tail else "")
        if text_width(shorter, height, bold=bold) <= width:
            return shorter
    return ""


def draw_text(
    image: NDArray[np.uint8],
    text: str,
    x: float,
    baseline: float,
    height: float,
    colour: Colour,
    *,
    bold: bool = False,
    anchor: str = "left",
) -> int:
    """Draw one line of text.

    Characters outside ASCII lose their accents or become ``?``: the font has no others.

    Args:
        image: ``(H, W, 3)`` uint8 BGR, drawn into.
        text: one line.
        x: left end, centre or right end of the text, pixels, as ``anchor`` says.
        baseline: where capitals stand, pixels from the top.
        height: height of capitals, pixels.
        colour: ink.
        bold: draw heavier strokes.
        anchor: ``left``, ``centre`` or ``right``.

    Returns:
        Width of the text, pixels.
    """
    width = text_width(text, height, bold=bold)
    shift = {"left": 0.0, "centre": width / 2, "right": float(width)}[anchor]
    pen = x - shift
    ascent = _ascent(height)
    for word in _plain(text).split(" "):
        if word:
            ink, advance = _word(word, height, bold)
            blend(image, ink, round(pen), round(baseline) - ascent, colour)
            pen += advance
        pen += _SPACE_EM * height
    return width


def blend(
    image: NDArray[np.uint8], mask: NDArray[np.float32], x: int, y: int, colour: Colour
) -> None:
    """Paint ``colour`` through a coverage mask (0–1) whose top-left corner is at ``(x, y)``."""
    top, left = max(y, 0), max(x, 0)
    bottom = min(y + mask.shape[0], image.shape[0])
    right = min(x + mask.shape[1], image.shape[1])
    if top >= bottom or left >= right:
        return
    cover = mask[top - y : bottom - y, left - x : right - x, None]
    ground = image[top:bottom, left:right]
    ground[:] = np.rint(ground + cover * (np.asarray(colour, np.float32) - ground)).astype(np.uint8)


@lru_cache(maxsize=256)
def rounded_mask(width: int, height: int, radius: float) -> NDArray[np.float32]:
    """Return the coverage ``(height, width)``, 0–1, of a rectangle with round corners."""
    # Signed distance to the outline; half a pixel either side of it is the soft edge.
    dx = np.abs(np.arange(width) + 0.5 - width / 2) - (width / 2 - radius)
    dy = np.abs(np.arange(height) + 0.5 - height / 2) - (height / 2 - radius)
    outside = np.hypot(np.maximum(dx[None], 0), np.maximum(dy[:, None], 0))
    inside = np.minimum(np.maximum(dx[None], dy[:, None]), 0)
    mask = np.clip(0.5 - (outside + inside - radius), 0, 1).astype(np.float32)
    mask.flags.writeable = False
    return mask


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text)
    folded = "".join(c for c in folded if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in folded)


def _ascent(height: float) -> int:
    return int(np.ceil(height * 1.35))


@lru_cache(maxsize=64)
def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    # Without FreeType it is a bitmap of one size; all wheels of Pillow have FreeType.
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


@lru_cache(maxsize=512)
def _word(word: str, height: float, bold: bool) -> tuple[NDArray[np.float32], float]:
    """Return a word's coverage mask, its baseline ``_ascent(height)`` rows down, and its width."""
    size = height / _CAPITAL_EM * _OVERSAMPLING
    font = _font(size)
    stroke = max(1, round(_BOLD_EM * size)) if bold else 0
    # Bold strokes would touch: each letter gets their width as room.
    places, advance = [], 0.0
    for letter in word:
        places.append(advance)
        advance += font.getlength(letter) + 2 * stroke
    ascent, descent = _ascent(height), int(np.ceil(height * 0.55))
    columns = int(np.ceil((advance + 2 * stroke) / _OVERSAMPLING)) + 1
    shape = (columns * _OVERSAMPLING, (ascent + descent) * _OVERSAMPLING)
    large = Image.new("L", shape)
    pen = ImageDraw.Draw(large)
    for letter, place in zip(word, places, strict=True):
        pen.text(
            (stroke + place, ascent * _OVERSAMPLING), letter, fill=255, font=font, anchor="ls",
            stroke_width=stroke,
        )  # fmt: skip
    small = cv2.resize(np.asarray(large), (columns, ascent + descent), interpolation=cv2.INTER_AREA)
    mask = np.divide(small, 255, dtype=np.float32)
    mask.flags.writeable = False
    return mask, advance / _OVERSAMPLING
