"""SpRAy on a folder of faces: for which different visible reasons does the network see one AU?

    python examples/spray_folder.py FOLDER --au 12 --out clusters.png

Each picture is looked at by itself, as if it were the first of a recording. Every face in which the
AU is active is explained, the maps are clustered, and each cluster becomes a row of the sheet.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from facestage.core import AUNetwork, spray
from facestage.core.face import FaceTracker
from facestage.core.lrp import explain
from facestage.core.relevance import describe
from facestage.core.render import au_colour, composite
from facestage.stream.detectors import make_detector
from facestage.stream.sources import open_source


def crops_of(folder: Path, network: AUNetwork) -> np.ndarray:
    """Return ``(N, S, S)`` uint8 aligned grey faces of the pictures that hold one."""
    card, detector = network.card, make_detector("auto")
    tracker = FaceTracker(
        detector,
        network.five_points,
        card.template,
        card.template_weights,
        card.input_size,
        card.box_points.get(detector.name),
    )
    crops = []
    with open_source(str(folder)) as source:
        for grab in iter(source.read, None):
            tracker.reset()  # nothing is carried over from the picture before
            crop = tracker.update(grab.image).crop
            if crop is not None:
                crops.append(crop)
    if not crops:
        raise SystemExit(f"no face could be used in {folder}; are they frontal and 50 px wide?")
    return np.stack(crops)


def main() -> None:
    """Find faces, explain one AU in them, cluster the maps and draw them."""
    parser = argparse.ArgumentParser(description="Cluster the explanations of one AU.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--au", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("clusters.png"))
    options = parser.parse_args()

    network = AUNetwork.load(device="auto")
    if options.au not in network.card.aus:
        raise SystemExit(f"there is no AU{options.au}; choose one of {network.card.aus}")
    column = network.card.aus.index(options.au)
    crops = crops_of(options.folder, network)

    presence = network.predict(crops).presence[:, column]
    shows = presence >= network.card.on[options.au]
    print(f"AU{options.au} is active in {shows.sum()} of {len(crops)} faces")
    if not shows.any():
        raise SystemExit("nothing to cluster; try another --au")

    chosen = crops[shows]
    pairs = [(row, column) for row in range(len(chosen))]
    maps = explain(network.logits_module, network.prepare(chosen), pairs)
    descriptors, valid = describe(maps)  # a map without positive relevance has no direction
    labels = spray(descriptors[valid].numpy()).labels
    rows = []
    for label in range(labels.max() + 1):
        members = np.flatnonzero(valid.numpy())[labels == label]
        print(f"cluster {chr(ord('A') + label)}: {len(members)} faces")
        tiles = [
            composite(chosen[n], maps[n : n + 1], [au_colour(options.au)]) for n in members[:8]
        ]
        rows.append(np.hstack(tiles + [np.zeros_like(tiles[0])] * (8 - len(tiles))))
    if not cv2.imwrite(str(options.out), np.vstack(rows)):
        raise SystemExit(f"{options.out} cannot be written; name a .png in a folder that exists")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
