"""Make a corpus in the true layout of CK+ from the demo clip: cut, re-ordered and re-timed.

Every sequence goes from a neutral face to an expression, as in CK+. Which frames each one holds is
random but fixed; some are exact copies of others under another subject, so that prototypes must
recur whatever the network sees.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from facestage.stream.sources import open_source
from numpy.typing import NDArray

__all__ = ["Made", "make_ckplus", "make_ckplus_sequence"]

# Label → code of CK+, and the frames of the demo clip that show something like it. What they show
# does not matter; that each label has frames of its own does.
_LABELS = {
    "anger": (1, range(204, 250)),
    "contempt": (2, range(250, 306)),
    "disgust": (3, range(225, 290)),
    "fear": (4, range(66, 120)),
    "happy": (5, range(380, 441)),
    "sadness": (6, range(270, 330)),
    "surprise": (7, range(80, 150)),
}
_NEUTRAL = range(10, 60)
BROKEN, FACELESS = ("S900", "001"), ("S901", "001")
COPIES = 6
"""Sequences of ``happy`` with the very same frames."""


@dataclass(frozen=True, slots=True)
class Made:
    """One sequence made: its name in the corpus, its label (empty: none), its frames."""

    name: str
    label: str
    frames: int


def _clip() -> list[NDArray[np.uint8]]:
    with open_source("demo:") as source:
        frames = []
        while (grab := source.read()) is not None:
            # CK+ is 640 × 490; the clip is wider, its face is in the middle.
            large = cv2.resize(grab.image, (872, 490), interpolation=cv2.INTER_AREA)
            frames.append(large[:, 116:756].astype(np.uint8))
    return frames


def make_ckplus_sequence(
    root: Path,
    subject: str,
    sequence: str,
    pictures: Sequence[NDArray[np.uint8]],
    code: int | None,
    aus: Sequence[int] = (),
) -> None:
    """Write one sequence with its label and codes."""
    images = root / "cohn-kanade-images" / subject / sequence
    images.mkdir(parents=True)
    for number, picture in enumerate(pictures, 1):
        path = images / f"{subject}_{sequence}_{number:08d}.png"
        assert cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    last = f"{subject}_{sequence}_{len(pictures):08d}"
    if code is not None:
        folder = root / "Emotion" / subject / sequence
        folder.mkdir(parents=True)
        (folder / f"{last}_emotion.txt").write_text(f"   {code:.7e}\n")
    folder = root / "FACS" / subject / sequence
    folder.mkdir(parents=True)
    lines = (f"   {au:.7e}   {3:.7e}\n" for au in aus)
    (folder / f"{last}_facs.txt").write_text("".join(lines))


def make_ckplus(root: Path, per_label: int = 8, unlabelled: int = 8, seed: int = 4) -> list[Made]:
    """Make the corpus: ``7 × per_label + unlabelled`` sequences, one broken, one without a face.

    Returns:
        What must be analysable, in the order of the names.
    """
    rng = random.Random(seed)
    clip = _clip()
    made: list[Made] = []
    labels = [label for label in _LABELS for _ in range(per_label)] + [""] * unlabelled
    copied: list[int] = []
    for n, label in enumerate(labels):
        subject, sequence = f"S{5 + n // 3:03d}", f"{1 + n % 3:03d}"
        code, peak = _LABELS[label or rng.choice(sorted(_LABELS))]
        count = {0: 40, 1: 24}.get(n, rng.randint(10, 13))
        start = rng.randrange(len(_NEUTRAL) - 4)
        rise = sorted(rng.sample(peak, count - 3))
        if rng.random() < 0.2:
            rise.reverse()  # the clip's way back is another way there
        places = [*_NEUTRAL[start : start + 3], *rise]
        if label == "happy":
            copied = copied or places
            if labels[:n].count("happy") < COPIES:
                places = copied
        grey = rng.random() < 0.75  # CK+ mixes grey and colour, and two heights
        rows = 480 if rng.random() < 0.3 else 490
        if places is copied:
            grey, rows = True, 490
        pictures = [clip[p][490 - rows :] for p in places]
        if grey:
            pictures = [cv2.cvtColor(p, cv2.COLOR_BGR2GRAY).astype(np.uint8) for p in pictures]
        make_ckplus_sequence(
            root, subject, sequence, pictures, code if label else None, (12, 25) if n % 2 else ()
        )
        made.append(Made(f"{subject}_{sequence}", label, len(places)))
    make_ckplus_sequence(root, *BROKEN, clip[:10], 5)
    images = root / "cohn-kanade-images" / Path(*BROKEN)
    path = images / "S900_001_00000004.png"
    path.write_bytes(path.read_bytes()[:4000])
    empty = np.random.default_rng(1).integers(60, 90, (490, 640), np.uint8)
    make_ckplus_sequence(root, *FACELESS, [empty] * 10, None)
    (images.parent.parent / ".DS_Store").write_bytes(b"\0")  # as in many copies
    return made
