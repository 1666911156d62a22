"""Contact sheets: the rendered faces, to be looked at by someone who knows FACS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from facestage.core.errors import SourceError
from numpy.typing import NDArray

from ..face.expressions import only
from ..face.facs import AU_INDEX, AUS, Expression
from ..render.lighting import Lighting
from ..render.scene import Pose
from .generator import Face, Generator

__all__ = ["PAIRS", "grid", "ladder_sheets", "pair_sheet", "random_sheet", "write_sheets"]

LEVELS = (0, 1, 2, 3, 4, 5)
"""Neutral and the intensities A to E."""
LADDER_YAWS = (-0.3, 0.0, 0.35)
"""Head turns of the people on a ladder, radians."""
DAYLIGHT = Lighting(
    key_direction=(-0.48, 0.60, 0.64),
    fill_direction=(0.71, 0.14, 0.69),
    key=0.75,
    fill=0.2,
    ambient=0.55,
    gradient=(0.0, 0.15, 0.0),
    wrap=0.2,
    shadow=0.6,
    occlusion=1.0,
    exposure=0.4,
    adaptation=0.9,
    gamma=2.2,
    shoulder=4.0,
    veil=0.0,
)
"""An even light from a window, so that a ladder shows the expression."""
ZOOM = 1.5
"""Enlargement of the pictures on a sheet."""
PAIRS: tuple[dict[int, float], ...] = (
    {1: 4, 2: 4},
    {1: 4, 4: 3.5},
    {1: 4, 2: 4, 5: 4},
    {1: 4, 2: 3.5, 4: 3, 5: 4, 20: 3.5, 25: 3},
    {4: 4, 7: 4},
    {4: 4, 5: 4, 7: 3, 23: 4},
    {6: 4, 12: 4},
    {6: 4, 12: 4.5, 25: 4, 26: 3},
    {6: 4, 7: 3},
    {9: 4, 10: 3, 17: 3},
    {10: 4, 25: 4},
    {12: 3, 14: 4},
    {15: 4, 17: 4},
    {1: 4, 4: 3, 15: 4, 17: 3},
    {17: 4, 24: 4},
    {18: 4, 25: 2},
    {22: 4, 25: 4},
    {20: 4, 25: 4},
    {4: 4, 6: 4, 7: 4, 9: 3, 10: 3, 43: 5},
    {1: 5, 2: 5, 5: 5, 27: 4},
)
"""Combinations on the sheet of pairs."""


def write_sheets(generator: Generator, folder: Path) -> list[Path]:
    """Write all sheets as PNG.

    Args:
        generator: renders the faces; its seed decides which.
        folder: where to; made if needed.

    Returns:
        The files: forty random faces, the ladders of all Action Units, the combinations.

    Raises:
        SourceError: a file cannot be written.
    """
    sheets = {"random.png": random_sheet(generator), "pairs.png": pair_sheet(generator)}
    for number, sheet in enumerate(ladder_sheets(generator), 1):
        sheets[f"ladder-{number}.png"] = sheet
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(
            f"cannot make the folder {folder}: {error}; choose another --out"
        ) from error
    paths = []
    for name, sheet in sheets.items():
        path = folder / name
        if not cv2.imwrite(str(path), sheet):
            raise SourceError(
                f"cannot write {path}: check that there is room, or choose another --out"
            )
        paths.append(path)
    return paths


def random_sheet(generator: Generator, count: int = 40) -> NDArray[np.uint8]:
    """Render ``count`` different people with the Action Units (at least B) written on them."""
    batch = generator.render([4 * i + i % 4 for i in range(count)])
    captions = [
        " ".join(
            f"{au}{'ABCDE'[min(int(v) - 1, 4)]}" for au, v in zip(AUS, row, strict=True) if v >= 2
        )
        for row in batch.intensity
    ]
    return grid(batch.image, captions, columns=8)


def ladder_sheets(generator: Generator) -> list[NDArray[np.uint8]]:
    """Render each Action Unit alone, from neutral to E, on three people; four rows per sheet."""
    people = [replace(generator.face(4 * i), lighting=DAYLIGHT) for i in range(len(LADDER_YAWS))]
    rows = []
    for au in AUS:
        faces, captions = [], []
        for person, yaw in zip(people, LADDER_YAWS, strict=True):
            for level in LEVELS:
                pose = Pose(yaw, 0.0, 0.0, 80)
                faces.append(replace(person, pose=pose, expression=only(au, level)))
                captions.append(f"{au}{' ABCDE'[level]}" if level else "neutral")
        close = _draw(generator, faces)[:, 24:124, 18:118]
        rows.append(grid(close, captions, columns=len(LEVELS) * len(people), zoom=1.3))
    return [np.vstack(rows[s : s + 4]) for s in range(0, len(rows), 4)]


def pair_sheet(generator: Generator) -> NDArray[np.uint8]:
    """Render combinations of Action Units, each on two people beside their neutral face."""
    faces, captions = [], []
    for number, combination in enumerate(PAIRS):
        values = np.zeros(len(AUS))
        for au, intensity in combination.items():
            values[AU_INDEX[au]] = intensity
        for person in (2 * number, 2 * number + 1):
            base = replace(generator.face(4 * person), pose=Pose(0, 0, 0, 80), lighting=DAYLIGHT)
            faces += [
                replace(base, expression=only(1, 0)),
                replace(base, expression=Expression(values, values.copy())),
            ]
            captions += ["", "+".join(str(au) for au in combination)]
    return grid(_draw(generator, faces), captions, columns=8)


def _draw(generator: Generator, faces: Sequence[Face]) -> NDArray[np.uint8]:
    number = np.arange(len(faces))
    return generator.draw(faces, number, number).image


def grid(
    images: NDArray[np.uint8], captions: Sequence[str], columns: int, zoom: float = ZOOM
) -> NDArray[np.uint8]:
    """Tile pictures in rows with a caption in each.

    Args:
        images: ``(n, S, S)`` uint8.
        captions: one per picture; may be empty.
        columns: pictures per row.
        zoom: enlargement of each.

    Returns:
        One uint8 picture.
    """
    tiles = []
    for image, caption in zip(images, captions, strict=True):
        tile = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        for colour, width in ((0, 3), (255, 1)):
            cv2.putText(
                tile, caption, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, colour, width, cv2.LINE_AA
            )
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[s : s + columns]) for s in range(0, len(tiles), columns)]
    return np.vstack(rows).astype(np.uint8)
