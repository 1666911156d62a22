"""What the personal baseline gains and costs, on rendered sequences of people with known labels.

    python -m training clip --out CLIPS --count 16 --frames 500 --seed 9000
    python benchmarks/baseline.py --clips CLIPS [--weights FILE] [--out JSON]

Three figures per setting, over the AUs that are shown, each the mean over persons:

- *false*: share of the frames without an AU in which it is active, which the baseline is to lower;
- *found*: share of the frames with an AU at FACS intensity B or more in which it is active, which
  the baseline is to leave as it is;
- *held*: the same where the strongest moment of the sequence is held from the first frame on for
  :data:`HELD_S` seconds, which the baseline cannot tell from a face's traits and must not swallow.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from au_evidence import CLEAR, MARKED, predict_views, rendered_aus
from au_metrics import ClipPrediction, activity
from facestage.core.baseline import PersonalBaseline
from facestage.core.config import BaselineConfig
from facestage.core.errors import FacestageError, SourceError
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.card import ModelCard
from facestage.core.network.selection import SHOWN, select_aus
from numpy.typing import NDArray

__all__ = ["HELD_S", "Sequence", "figures", "load_sequence", "measure"]

HELD_S = 6.0
"""Seconds for which an expression is held from the first frame on."""
HELD_AROUND_S = 0.12
"""Half the time around the strongest moment that is repeated to hold it, seconds."""
GRID = {
    "prior_s": (1.0, 2.0, 4.0),
    "known_rise": (0.5, 0.75),
    "quantile": (0.3, 0.4, 0.5),
}
"""Settings that are compared."""


@dataclass(frozen=True)
class Sequence:
    """A rendered sequence as the network sees it.

    Attributes:
        presence: ``(N, A)`` float32.
        intensity: ``(N, A)`` true FACS 0–5, NaN for AUs that are not rendered.
        rate: frames per second.
    """

    presence: NDArray[np.float32]
    intensity: NDArray[np.float32]
    rate: float

    def held(self) -> Sequence:
        """Return the sequence that begins with its strongest moment and holds it."""
        strength = np.nansum(self.intensity, axis=1)
        peak, around = int(strength.argmax()), max(1, round(HELD_AROUND_S * self.rate))
        first, last = max(0, peak - around), min(len(strength) - 1, peak + around)
        there_and_back = [*range(first, last), *range(last, first, -1)] or [peak]
        frames = list(itertools.islice(itertools.cycle(there_and_back), round(HELD_S * self.rate)))
        return replace(self, presence=self.presence[frames], intensity=self.intensity[frames])


def load_sequence(path: Path, network: AUNetwork) -> Sequence:
    """Read a sequence written by ``python -m training clip`` and let the network look at it.

    Raises:
        SourceError: the file is no such sequence.
    """
    columns = {au: k for k, au in enumerate(rendered_aus())}
    from training.augment.views import clean_view

    try:
        with np.load(path, allow_pickle=False) as file:
            image, intensity, landmarks = (file[k] for k in ("image", "intensity", "landmarks"))
            rate = float(file["rate"])
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(
            f"{path} is no rendered sequence ({error}); write one with `python -m training clip`"
        ) from error
    views = [clean_view(*frame) for frame in zip(image, intensity, landmarks, strict=True)]
    truth = np.full((len(views), len(network.card.aus)), np.nan, np.float32)
    for k, au in enumerate(network.card.aus):
        if au in columns:
            truth[:, k] = intensity[:, columns[au]]
    return Sequence(predict_views(network, np.stack([v.image for v in views])), truth, rate)


def adjusted(sequence: Sequence, card: ModelCard, config: BaselineConfig | None) -> Sequence:
    """Return the sequence as live analysis judges it with a baseline; None leaves it as it is."""
    if config is None:
        return sequence
    baseline = PersonalBaseline.of_network(card, config)
    rows = [baseline.update(n / sequence.rate, row) for n, row in enumerate(sequence.presence)]
    return replace(sequence, presence=np.array(rows))


def shares(sequence: Sequence, card: ModelCard) -> tuple[float, float]:
    """Return (found, false) of one sequence, means over the shown AUs; NaN without such frames."""
    shown = select_aus(card, SHOWN)
    columns = [k for k, au in enumerate(card.aus) if au in shown]
    presence = sequence.presence.astype(np.float64)
    lost = np.zeros(len(presence), bool)
    active = activity(ClipPrediction(presence, sequence.intensity, lost), *card.thresholds())
    found, false = [], []
    for k in columns:
        truth = sequence.intensity[:, k]
        if (truth >= CLEAR).any():
            found.append(active[truth >= CLEAR, k].mean())
        if (truth < MARKED / 2).any():
            false.append(active[truth < MARKED / 2, k].mean())
    return (
        float(np.mean(found)) if found else float("nan"),
        float(np.mean(false)) if false else float("nan"),
    )


def measure(
    sequences: Iterable[Sequence], card: ModelCard, config: BaselineConfig | None
) -> dict[str, float]:
    """Return ``found``, ``false`` and ``held``, means over the sequences."""
    rows = []
    for sequence in sequences:
        found, false = shares(adjusted(sequence, card, config), card)
        held, _ = shares(adjusted(sequence.held(), card, config), card)
        rows.append((found, false, held))
    found, false, held = np.nanmean(np.array(rows), axis=0)
    return {"found": float(found), "false": float(false), "held": float(held)}


def figures(sequences: list[Sequence], card: ModelCard) -> list[dict[str, Any]]:
    """Measure no baseline, the default one, and every setting of :data:`GRID`."""
    rows: list[dict[str, Any]] = [{"setting": "none"} | measure(sequences, card, None)]
    rows.append({"setting": "default"} | measure(sequences, card, BaselineConfig()))
    for values in itertools.product(*GRID.values()):
        setting = dict(zip(GRID, values, strict=True))
        config = replace(BaselineConfig(), **setting)
        rows.append({"setting": setting} | measure(sequences, card, config))
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True, help="folder of rendered sequences")
    parser.add_argument("--weights", type=Path, help="network; the embedded one when not given")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    try:
        network = AUNetwork.load(options.weights, device="cpu")
        paths = sorted(options.clips.glob("clip-*.npz"))
        if not paths:
            raise SourceError(
                f"no sequence in {options.clips}; write some with `python -m training clip`"
            )
        sequences = [load_sequence(path, network) for path in paths]
    except FacestageError as error:
        raise SystemExit(f"error: {error}") from None
    rows = figures(sequences, network.card)
    print(f"{network.card.name}, {len(sequences)} persons")
    print(f"{'found':>6} {'false':>6} {'held':>6}  setting")
    for row in rows:
        print(f"{row['found']:6.3f} {row['false']:6.3f} {row['held']:6.3f}  {row['setting']}")
    if options.out:
        result = {
            "model": network.card.name,
            "sha256": network.card.sha256,
            "persons": len(sequences),
            "frames": sum(len(s.presence) for s in sequences),
            "torch": torch.__version__,
            "rows": rows,
        }
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"written: {options.out}")


if __name__ == "__main__":
    main()
