"""Face crops of the embedded demo clip: what benchmarks explain where real input matters."""

from __future__ import annotations

import numpy as np
from facestage.core.network.au_network import AUNetwork
from facestage.core.observer import Observer
from facestage.core.types import Frame
from facestage.stream.detectors import OurDetector
from facestage.stream.sources import open_source
from numpy.typing import NDArray

__all__ = ["certainty", "faces"]

_APART = 20


def faces(network: AUNetwork, count: int) -> NDArray[np.uint8]:
    """Return the first ``count`` face crops ``(count, S, S)``, 20 frames apart.

    Raises:
        SystemExit: the clip has fewer.
    """
    observer = Observer(OurDetector(), network)
    crops: list[NDArray[np.uint8]] = []
    with open_source("demo:") as source:
        while len(crops) < count:
            grab = source.read()
            if grab is None:
                raise SystemExit(f"the demo clip has {len(crops)} faces {_APART} frames apart")
            if grab.index % _APART:
                continue
            frame = Frame("demo", grab.index, grab.image, pts=grab.pts)
            crop = observer.update([frame])[0].face.crop
            if crop is not None:
                crops.append(crop)
    return np.stack(crops)


def certainty(network: AUNetwork, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return presence in multiples of the AU's threshold ``(B, A)``: it is active from 1 on."""
    on, _ = network.card.thresholds()
    return network.predict(crops).presence / on
