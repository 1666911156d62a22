"""The recipe of the face finder from end to end: pictures, heads, training, weights and card."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from facestage.core.errors import ConfigError
from facestage.core.face.detection import FinderNetwork
from safetensors.torch import save_file

from ..data.generator import PER_IDENTITY, Generator
from .heads import Stock, photographed_heads, rendered_heads
from .scenes import Backgrounds, Composer
from .train import Settings, finder_tensors

__all__ = [
    "PICTURES",
    "SCHEMA",
    "backgrounds",
    "make_heads",
    "pictures_of",
    "read_composer",
    "write_finder",
]

PICTURES = Path(__file__).with_name("pictures.csv")
"""The pictures without people: kind (picture or thing), use (train, choose or report), package and
file. What is chosen by and reported on is never trained with."""
CARD = Path(__file__).with_name("card.json")
"""What of the card is decided, not measured."""
SCHEMA = "facestage.face-finder-card/1"
# OpenCV reads EXR only where it is asked to.
os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")
_CHUNK = 256
"""Rendered heads per file of the stock (about 45 MB)."""


def backgrounds(folder: Path, use: str = "train") -> Backgrounds:
    """Read the pictures without people; see :func:`pictures_of`."""
    files = pictures_of(folder, use)
    return Backgrounds.read(files["picture"], files["thing"])


def pictures_of(folder: Path, use: str) -> dict[str, list[Path]]:
    """List the files without people by kind, ``picture`` and ``thing``.

    Args:
        folder: holds the unpacked packages, each in a folder of its name.
        use: ``train``, ``choose`` (weights and thresholds) or ``report``.

    Raises:
        ConfigError: a file is missing.
    """
    with PICTURES.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["use"] == use]
    files: dict[str, list[Path]] = {"picture": [], "thing": []}
    for row in rows:
        path = folder / row["file"]
        if not path.is_file():
            package = row["file"].split("/")[0]
            raise ConfigError(f"{path} is missing: {_advice(package, folder / package)}")
        files[row["kind"]].append(path)
    return files


def _advice(package: str, folder: Path) -> str:
    if package == "pmndrs-assets":
        return f"run `npm pack @pmndrs/assets` and unpack its folder `package` as {folder}"
    return f"run `apt-get download {package}` and `dpkg-deb -x {package}_*.deb {folder}`"


def make_heads(out: Path, count: int, seed: int, report: Callable[[str], None]) -> None:
    """Render heads and cut out the portraits of the half to choose by; what is there is kept.

    Args:
        out: folder of the run. ``count``: people rendered. ``seed``: of all of them.
        report: called with one line per file.
    """
    out.mkdir(parents=True, exist_ok=True)
    photographs = out / "photographed.npz"
    if not photographs.is_file():
        Stock(tuple(photographed_heads(seed))).write(photographs)
        report(str(photographs))
    generator = None
    for first in range(0, count, _CHUNK):
        path = out / f"rendered-{seed:05d}-{first:06d}.npz"
        if path.is_file():
            continue
        generator = Generator(seed) if generator is None else generator
        people = range(first, min(first + _CHUNK, count))
        heads = rendered_heads(generator, [person * PER_IDENTITY for person in people])
        Stock(tuple(heads)).write(path)
        report(str(path))


def read_composer(out: Path, pictures: Path, seed: int) -> Composer:
    """Open what scenes are composed of."""
    return Composer(
        Stock.read(sorted(out.glob("rendered-*.npz"))),
        Stock.read(sorted(out.glob("photographed.npz"))),
        backgrounds(pictures),
        seed,
    )


def write_finder(
    network: FinderNetwork, path: Path, settings: Settings, facts: dict[str, Any]
) -> None:
    """Write the weights and their card beside them.

    Args:
        network: trained, with its norms.
        path: the safetensors file.
        settings: of the run.
        facts: more for the card, such as ``threshold`` and figures.

    Raises:
        ConfigError: the weights hold values that are no numbers.
    """
    tensors = finder_tensors(network)
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ConfigError("training ended in weights that are no numbers: lower --lr, train again")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    base: dict[str, Any] = json.loads(CARD.read_text(encoding="utf-8"))
    base["training"] |= {"scenes": settings.scenes, "batch": settings.batch, "rate": settings.rate}
    card = {"schema": SCHEMA, **base, **facts}
    path.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
