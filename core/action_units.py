"""Action Units of the Facial Action Coding System: numbers, names, labels, colours.

References:
    Ekman, Friesen & Hager, *Facial Action Coding System*, 2002.
"""

from __future__ import annotations

import re
import string

from .errors import ConfigError

__all__ = [
    "AU_COLOURS",
    "AU_NAMES",
    "GRADE_MARKS",
    "au_code",
    "letter",
    "letter_index",
    "parse_label",
    "prototype_label",
]

AU_NAMES: dict[int, str] = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    10: "upper lip raiser",
    11: "nasolabial deepener",
    12: "lip corner puller",
    13: "sharp lip puller",
    14: "dimpler",
    15: "lip corner depressor",
    16: "lower lip depressor",
    17: "chin raiser",
    18: "lip pucker",
    20: "lip stretcher",
    22: "lip funneler",
    23: "lip tightener",
    24: "lip pressor",
    25: "lips part",
    26: "jaw drop",
    27: "mouth stretch",
    28: "lip suck",
    43: "eyes closed",
}
"""AU number → name."""

# Okabe & Ito's palette is the only widely tested one that stays apart under the three common
# colour-vision deficiencies; with white for its black it has eight on a dark ground. AUs that come
# together in a smile, in pain or in surprise have different ones; others must share, and every
# label also carries its number.
_ORANGE, _SKY, _GREEN, _YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
_BLUE, _VERMILION, _PURPLE = "#4C8DFF", "#D55E00", "#CC79A7"
_WHITE = "#E6E6E6"

AU_COLOURS: dict[int, str] = {
    1: _BLUE,
    2: _ORANGE,
    4: _GREEN,
    5: _PURPLE,
    6: _YELLOW,
    7: _BLUE,
    9: _ORANGE,
    10: _PURPLE,
    11: _SKY,
    12: _VERMILION,
    13: _GREEN,
    14: _GREEN,
    15: _VERMILION,
    16: _ORANGE,
    17: _SKY,
    18: _YELLOW,
    20: _PURPLE,
    22: _ORANGE,
    23: _BLUE,
    24: _YELLOW,
    25: _SKY,
    26: _GREEN,
    27: _ORANGE,
    28: _PURPLE,
    43: _WHITE,
}
"""AU number → ``#rrggbb``. Colour never stands alone: the label is always written as well."""

UPPER_FACE = frozenset({1, 2, 4, 5, 6, 7, 9, 43})
"""AUs of the brows, the lids and the bridge of the nose; all others work on the mouth. What is
active in one half of the face says little of the other: a mouth that talks, of the brows."""

GRADE_MARKS = {"A": "", "B": "weak", "C": "poor"}
"""Grade of an AU → the word written beside it wherever it is shown."""

_LABEL = re.compile(r"AU(\d{2})(?:_([A-Z]+))?")


def au_code(au: int) -> str:
    """Return the written form of an AU number.

    >>> au_code(4)
    'AU04'
    """
    return f"AU{au:02d}"


def letter(index: int) -> str:
    """Return the letter of the ``index``-th prototype (0-based): A to Z, then AA, AB and so on.

    >>> [letter(i) for i in (0, 25, 26, 27, 52)]
    ['A', 'Z', 'AA', 'AB', 'BA']
    """
    if index < 0:
        raise ConfigError(f"a prototype index cannot be negative, got {index}")
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("A") + digit) + text
    return text


def letter_index(letter: str) -> int:
    """Return the index of a letter, the inverse of :func:`letter`.

    >>> [letter_index(x) for x in ("A", "Z", "AA", "BA")]
    [0, 25, 26, 52]
    """
    if not letter or not set(letter) <= set(string.ascii_uppercase):
        raise ConfigError(f"{letter!r} is not a prototype's letter (A, B, …, AA, …)")
    index = 0
    for char in letter:
        index = index * 26 + ord(char) - ord("A") + 1
    return index - 1


def prototype_label(au: int, letter: str) -> str:
    """Return the label of a prototype.

    >>> prototype_label(2, "A")
    'AU02_A'
    """
    return f"{au_code(au)}_{letter}"


def parse_label(label: str) -> tuple[int, str | None]:
    """Split ``AU02_A`` into ``(2, "A")``, ``AU02`` into ``(2, None)``.

    Raises:
        ConfigError: the text is neither.
    """
    match = _LABEL.fullmatch(label)
    if match is None:
        raise ConfigError(f"{label!r} is not an Action Unit label such as AU12 or AU12_A")
    return int(match[1]), match[2]
