"""How well one person's faces can be told from another's, and the mean description of faces.

``python benchmarks/looks.py PHOTOGRAPHS`` with a folder that holds ``faces.csv`` (columns
``file``, ``person``) prints the likeness of pairs of one person and of two, and the constant of
:mod:`facestage.core.face.looks` made from the same photographs.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import base64
import csv
import textwrap
import zlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from facestage.core.face import looks
from facestage.core.face.tracker import FaceTracker
from facestage.core.network.au_network import AUNetwork
from facestage.stream.detectors import make_detector
from numpy.typing import NDArray

OTHERS = 80
"""People seen once that are taken beside all who were seen more than once."""


def crops_of(folder: Path) -> tuple[list[str], list[NDArray[np.uint8]]]:
    """Return the person and the aligned crop of each photograph in which a face is found."""
    with (folder / "faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    times = Counter(row["person"] for row in rows)
    once = [row for row in rows if times[row["person"]] == 1][:OTHERS]
    network, detector = AUNetwork.load(device="cpu"), make_detector("ours")
    people, crops = [], []
    for row in [row for row in rows if times[row["person"]] > 1] + once:
        image = cv2.imread(str(folder / row["file"]))
        if image is None:
            raise SystemExit(f"{folder / row['file']} is no picture: leave it out of faces.csv")
        tracker = FaceTracker.of_network(detector, network)
        crop = tracker.update(np.asarray(image, np.uint8)).crop
        if crop is not None:
            people.append(row["person"])
            crops.append(crop)
    return people, crops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path)
    people, crops = crops_of(parser.parse_args().photographs)
    mean = np.mean([looks._edges(crop) for crop in crops], axis=0)
    most = float(mean.max())
    packed = zlib.compress(np.rint(mean / most * 255).astype(np.uint8).tobytes(), 9)
    for line in textwrap.wrap(base64.b85encode(packed).decode(), 90):
        print(f'    "{line}"')
    print(f"_USUAL_MOST = {most:.6f}")
    rows = np.stack([looks.describe(crop) for crop in crops])
    alike = rows @ rows.T
    same = np.array(people)[:, None] == np.array(people)
    upper = np.triu(np.ones_like(same), 1)
    one, two = alike[same & upper], alike[~same & upper]
    print(f"{len(crops)} photographs of {len(set(people))} people")
    for name, values in (("one person", one), ("two people", two)):
        low, middle, high, highest = np.percentile(values, [5, 50, 95, 99])
        print(f"{name}: 5 % {low:.2f}, 50 % {middle:.2f}, 95 % {high:.2f}, 99 % {highest:.2f}")
    print(f"one person's more alike than two people's: {(one[:, None] > two).mean():.4f}")


if __name__ == "__main__":
    main()
