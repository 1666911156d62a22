"""Rendered faces at rest against photographs of neutral people.

What a network calls a raised brow depends on where brows rest. So the distances in a rendered
face that does nothing must have the mean and the spread that they have in people. The same network
finds the landmarks in both; :data:`CAMERA` and the even light are those of a portrait.

References:
    Farkas, *Anthropometry of the Head and Face*, 1994 (distances between landmarks).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from facestage.core.errors import ConfigError
from numpy.typing import NDArray

from ..augment.views import TEMPLATE as CROP_TEMPLATE
from ..data.generator import PER_IDENTITY, Face, Generator
from ..data.sheets import DAYLIGHT
from ..face.expressions import only
from ..face.facekit import shared_folder
from ..render.scene import CANVAS, MARGIN, TEMPLATE, Pose
from .face_mesh import FaceMesh

__all__ = [
    "DISTANCES",
    "Comparison",
    "compare",
    "distances",
    "neutral_faces",
    "read_people",
    "rendered_distances",
    "resting_generator",
]

PEOPLE = Path("faces") / "rest.csv"
"""Mean and spread of the distances in people, inside the folder of shared material."""
CAMERA = Pose(0.0, 0.0, 0.0, 120.0)
"""Straight before the camera, at a portrait's distance."""
RENDERED_SIDE = 2 * CANVAS
"""Side of the pictures that are rendered, pixels."""
MEASURED_SIDE = 3 * CANVAS
"""Side to which they are enlarged for the landmark network, which wants a large face, pixels."""
MEAN_LIMIT = 0.3
"""Greatest difference of a mean, standard deviations between people."""
SPREAD_LIMIT = 0.2
"""Greatest relative difference of a standard deviation."""
CROP_EYES = float(CROP_TEMPLATE[1, 0] - CROP_TEMPLATE[0, 0])
"""Distance between the eyes in the crop that the AU network sees, pixels."""

_LEFT_EYE, _RIGHT_EYE = (33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380)
_HEIGHTS = {
    "brow inner": (107, 55, 336, 285),
    "brow middle": (105, 52, 334, 282),
    "brow outer": (70, 46, 300, 276),
    "upper lids": (159, 386),
    "lower lids": (145, 374),
    "nose base": (2,),
    "upper lip's edge": (0,),
    "upper lip's inside": (13,),
    "lower lip's inside": (14,),
    "lower lip's edge": (17,),
    "lip line": (13, 14),
    "mouth corners": (61, 291),
    "chin": (152,),
}
"""Points of the 478 whose mean height is measured."""
DISTANCES: dict[str, tuple[str, str]] = {
    "brow_inner": ("brow inner", "eyes"),
    "brow_mid": ("brow middle", "eyes"),
    "brow_outer": ("brow outer", "eyes"),
    "brow_gap": ("brow gap", ""),
    "aperture": ("upper lids", "lower lids"),
    "upper_lid": ("upper lids", "eyes"),
    "lower_lid": ("eyes", "lower lids"),
    "mouth_width": ("mouth width", ""),
    "corner_above_lipline": ("mouth corners", "lip line"),
    "lip_upper": ("upper lip's edge", "upper lip's inside"),
    "lip_lower": ("lower lip's inside", "lower lip's edge"),
    "lip_gap": ("upper lip's inside", "lower lip's inside"),
    "nose_to_lip": ("nose base", "upper lip's edge"),
    "lip_to_chin": ("lower lip's edge", "chin"),
    "nose_width": ("nose width", ""),
    "eyes_to_nose": ("eyes", "nose base"),
    "eyes_to_mouth": ("eyes", "lip line"),
    "philtrum": ("nose base", "upper lip's inside"),
}
"""Distances by their name in the file of :func:`read_people`: the height of the first above the
second, or a width."""
_WIDTHS = {
    "brow gap": ((55, 107), (285, 336)),
    "mouth width": ((61,), (291,)),
    "nose width": ((98,), (327,)),
}


@dataclass(frozen=True)
class Comparison:
    """One distance in people and in rendered faces; lengths in distances between the eyes.

    Attributes:
        distance: its name.
        real_mean, real_sd: over people.
        rendered_mean, rendered_sd: over rendered faces.
    """

    distance: str
    real_mean: float
    real_sd: float
    rendered_mean: float
    rendered_sd: float

    @property
    def shift(self) -> float:
        """Difference of the means, standard deviations between people."""
        return (self.rendered_mean - self.real_mean) / self.real_sd

    @property
    def pixels(self) -> float:
        """Difference of the means, pixels of the AU network's crop."""
        return (self.rendered_mean - self.real_mean) * CROP_EYES

    @property
    def spread(self) -> float:
        """Standard deviation of rendered faces over that of people."""
        return self.rendered_sd / self.real_sd

    @property
    def verdict(self) -> str:
        """Say whether mean and spread are within their limits."""
        off = []
        if abs(self.shift) > MEAN_LIMIT:
            off.append("mean")
        if abs(self.spread - 1) > SPREAD_LIMIT:
            off.append("spread")
        return f"{' and '.join(off)} off" if off else "fits"

    def facts(self) -> dict[str, float | str]:
        """Return all of it for JSON."""
        derived = {name: getattr(self, name) for name in ("shift", "pixels", "spread", "verdict")}
        return asdict(self) | derived


def distances(points: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Measure faces; tilt, place and size do not matter.

    Args:
        points: ``(n, 478, 2)`` landmarks, px, y down.

    Returns:
        ``(n,)`` per name of :data:`DISTANCES`, in distances between the eyes' centres.
    """
    points = np.asarray(points, np.float64)
    left, right = points[:, _LEFT_EYE].mean(1), points[:, _RIGHT_EYE].mean(1)
    across = right - left
    between = np.hypot(across[:, 0], across[:, 1])[:, None, None]
    from_middle = (points - (left + right)[:, None] / 2) / between
    unit = across[:, None] / between
    side = (from_middle * unit).sum(-1)
    up = from_middle[..., 0] * unit[..., 1] - from_middle[..., 1] * unit[..., 0]
    heights = {name: up[:, at].mean(1) for name, at in _HEIGHTS.items()}
    heights["eyes"] = np.zeros(len(points))
    widths = {
        name: side[:, right_at].mean(1) - side[:, left_at].mean(1)
        for name, (left_at, right_at) in _WIDTHS.items()
    }
    return {
        name: heights[of] - heights[above] if above else widths[of]
        for name, (of, above) in DISTANCES.items()
    }


def read_people(path: Path | None = None) -> dict[str, tuple[float, float]]:
    """Read mean and standard deviation of the distances in people.

    Args:
        path: CSV with the columns ``feature, real_mean, real_sd``; by default ``faces/rest.csv``
            in the shared folder.

    Returns:
        Mean and standard deviation per name of :data:`DISTANCES`, in distances between the eyes.

    Raises:
        ConfigError: the file is missing, lacks a distance, or holds no usable number.
    """
    path = shared_folder() / PEOPLE if path is None else path
    if not path.is_file():
        raise ConfigError(
            f"no distances of people at {path}: give --real a CSV with the columns feature, "
            f"real_mean and real_sd, or set FACESTAGE_SHARED to the folder that holds "
            f"{PEOPLE.as_posix()}"
        )
    with path.open(encoding="utf-8", newline="") as file:
        rows = {row.get("feature", ""): row for row in csv.DictReader(file)}
    people = {}
    for name in DISTANCES:
        try:
            mean, sd = float(rows[name]["real_mean"]), float(rows[name]["real_sd"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{path} gives no real_mean and real_sd of {name!r}: it needs a row for each of "
                f"{', '.join(DISTANCES)}"
            ) from error
        if not (np.isfinite(mean) and 0 < sd < np.inf):
            raise ConfigError(
                f"{path}: {name} has mean {mean} and standard deviation {sd}; "
                "the mean must be finite and the deviation above 0"
            )
        people[name] = mean, sd
    return people


def resting_generator(seed: int, device: str = "cpu") -> Generator:
    """Make a generator of large pictures.

    Args:
        seed: of all faces.
        device: torch device of the rendering.
    """
    return Generator(seed, device=device, side=RENDERED_SIDE)


def neutral_faces(generator: Generator, count: int, *, own_light: bool = False) -> list[Face]:
    """Draw different people at rest, straight before the camera.

    Args:
        generator: its seed decides who.
        count: of people.
        own_light: the light that is drawn for each, be it dim or from the side, instead of an
            even one.
    """
    people = [
        replace(generator.face(PER_IDENTITY * i), pose=CAMERA, expression=only(1, 0))
        for i in range(count)
    ]
    return people if own_light else [replace(face, lighting=DAYLIGHT) for face in people]


def rendered_distances(
    generator: Generator,
    mesh: FaceMesh,
    faces: Sequence[Face],
    report: Callable[[int], None] = lambda _: None,
) -> dict[str, NDArray[np.float64]]:
    """Render faces and measure them.

    Args:
        generator: of :func:`resting_generator`.
        mesh: finds the landmarks.
        faces: whom to render, before :data:`CAMERA`.
        report: called with the number of faces that are done.

    Returns:
        ``(n,)`` per name of :data:`DISTANCES`, in distances between the eyes.
    """
    start = (TEMPLATE.astype(np.float64) + MARGIN) * MEASURED_SIDE / CANVAS
    size = (MEASURED_SIDE, MEASURED_SIDE)
    points = []
    for begin in range(0, len(faces), 16):
        for image in generator.portraits(faces[begin : begin + 16]):
            large = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
            points.append(mesh.landmarks(np.asarray(large, np.uint8), start))
        report(len(points))
    return distances(np.stack(points))


def compare(
    people: dict[str, tuple[float, float]], rendered: dict[str, NDArray[np.float64]]
) -> list[Comparison]:
    """Compare mean and spread of each distance, in the order of :data:`DISTANCES`."""
    return [
        Comparison(
            name,
            *people[name],
            rendered_mean=float(rendered[name].mean()),
            rendered_sd=float(rendered[name].std(ddof=1)),
        )
        for name in DISTANCES
    ]
