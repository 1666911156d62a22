"""Does the relevance of an AU lie where the AU shows? And what is seen in rendered faces?

Used by ``au_real.py`` and ``calibrate_au.py``. Rendered faces need the generator in ``training/``,
which only a checkout of the repository has.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from au_metrics import ClipPrediction, activity, median, quiet_frames
from facestage.core import lrp
from facestage.core.config import ExplainConfig
from facestage.core.errors import ConfigError
from facestage.core.face.regions import LANDMARK_COUNT, REGION_AUS, au_regions, face_region
from facestage.core.learning.metrics import roc_auc
from facestage.core.network.au_network import AUNetwork
from facestage.core.quality import localise
from numpy.typing import NDArray
from real_clips import ClipFacts, TrackedClip

__all__ = [
    "CLEAR",
    "MARKED",
    "SEED",
    "VIEWS",
    "explain_ratios",
    "held_out_views",
    "predict_views",
    "region_ratio",
    "relevance_figures",
    "rendered_aus",
    "synthetic_figures",
]

ROOT = Path(__file__).resolve().parents[1]
RELEVANCE_FRAMES = 40
"""Frames per clip and AU that are explained, evenly spread over those where it is active."""
VIEWS = 3000
"""Rendered views of held-out identities."""
SEED = 20
"""Of these views: the same ones for every network."""
MARKED = 1.0
"""Rendered intensity from which an AU is present (FACS A)."""
CLEAR = 2.0
"""Rendered intensity from which an AU is plain to see (FACS B)."""


def region_ratio(
    relevance: NDArray[np.float32], region: NDArray[np.bool_], face: NDArray[np.bool_]
) -> tuple[float, float]:
    """Compare the relevance in a region with its share of the face.

    Args:
        relevance: ``(S, S)`` map; only its positive part counts.
        region: ``(S, S)`` bool.
        face: ``(S, S)`` bool, holds the region.

    Returns:
        (share of the face's relevance in the region ÷ the region's share of the face's area,
        share of all positive relevance that lies outside the face); NaN where there is none.
        Relevance without any preference gives 1.
    """
    found = localise(relevance[None], region[None], face[None])
    return float(found.enrichment[0]), float(found.outside[0])


def explain_ratios(
    network: AUNetwork,
    crops: NDArray[np.uint8],
    pairs: Sequence[tuple[int, int]],
    landmarks: NDArray[np.float32] | None = None,
) -> NDArray[np.float64]:
    """Explain (crop, output) pairs and compare each map with the region of its AU.

    Args:
        network: the network.
        crops: ``(B, S, S)`` uint8.
        pairs: P pairs (row of ``crops``, number of the output).
        landmarks: ``(B, 68, 2)`` crop pixels; those of the network when not given.

    Returns:
        ``(P, 2)``: see :func:`region_ratio`.

    Raises:
        ConfigError: there are no 68 landmarks.
    """
    points = network.landmarks(crops) if landmarks is None else landmarks
    if points.shape[1:] != (LANDMARK_COUNT, 2):
        raise ConfigError(
            f"{network.name} gives {points.shape[1]} landmarks; regions need {LANDMARK_COUNT}"
        )
    preset = ExplainConfig().preset
    maps = lrp.explain(network.logits_module, network.prepare(crops), pairs, preset=preset)
    size = network.card.input_size
    ratios = []
    for (row, output), relevance in zip(pairs, maps.cpu().numpy(), strict=True):
        region = au_regions(points[row], [network.card.aus[output]], size)[0]
        ratios.append(region_ratio(relevance, region, face_region(points[row], size)))
    return np.array(ratios, np.float64).reshape(-1, 2)


def relevance_figures(
    network: AUNetwork,
    facts: Sequence[ClipFacts],
    tracked: Sequence[TrackedClip],
    predictions: Sequence[ClipPrediction],
    limit: int = RELEVANCE_FRAMES,
    *,
    on: NDArray[np.float32] | None = None,
    off: NDArray[np.float32] | None = None,
) -> dict[str, dict[str, Any]]:
    """Compare relevance and regions where AUs are rightly active on real faces.

    One clip per person; frames in which the AU surely is absent are left out.

    Args:
        network: the network.
        facts: the clips.
        tracked: their crops.
        predictions: what the network said about them.
        limit: most frames per clip and AU that are explained, evenly spread.
        on, off: ``(A,)`` thresholds; the card's when not given.

    Returns:
        AU → ``ratio`` (median of the persons' medians), ``outside_face`` (likewise), ``frames``,
        ``persons`` (person → median).
    """
    aus = network.card.aus
    own_on, own_off = network.card.thresholds()
    gathered: dict[int, dict[str, NDArray[np.float64]]] = {}
    for fact, clip, prediction in zip(facts, tracked, predictions, strict=True):
        if fact.name != fact.person or not len(clip.index):
            continue
        active = activity(prediction, own_on if on is None else on, own_off if off is None else off)
        pairs: list[tuple[int, int]] = []
        for column, au in enumerate(aus):
            if au not in REGION_AUS:
                continue
            # What is active where it cannot be is a fault of its own, judged elsewhere.
            shown = active[:, column] & ~fact.mask(fact.covered, au) & ~quiet_frames(fact, au)
            seen = shown[clip.index]
            rows = np.flatnonzero(seen)
            if len(rows) > limit:
                rows = rows[np.linspace(0, len(rows) - 1, limit).astype(int)]
            pairs += [(int(row), column) for row in rows]
        pairs.sort()
        used = sorted({row for row, _ in pairs})
        place = {row: i for i, row in enumerate(used)}
        if not pairs:
            continue
        ratios = explain_ratios(
            network, clip.crops[used], [(place[row], column) for row, column in pairs]
        )
        columns = np.array([column for _, column in pairs])
        for column in np.unique(columns):
            gathered.setdefault(aus[column], {})[fact.name] = ratios[columns == column]
    result: dict[str, dict[str, Any]] = {}
    for au, persons in sorted(gathered.items()):
        told = {name: v[np.isfinite(v).any(axis=1)] for name, v in persons.items()}
        medians = {name: np.nanmedian(v, axis=0) for name, v in told.items() if len(v)}
        result[str(au)] = {
            "ratio": median([m[0] for m in medians.values()]),
            "outside_face": median([m[1] for m in medians.values()]),
            "frames": sum(len(values) for values in persons.values()),
            "persons": {name: float(m[0]) for name, m in medians.items()},
        }
    return result


def synthetic_figures(
    network: AUNetwork,
    folder: Path,
    views: int = VIEWS,
    seed: int = SEED,
    *,
    on: NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """Measure AUC, and relevance in the regions, on degraded views of held-out identities.

    Args:
        network: the network.
        folder: shards of rendered faces.
        views: number of views.
        seed: of the views.
        on: ``(A,)`` thresholds; the card's when not given.

    Returns:
        ``auc`` (AU → area under the ROC curve, intensity of FACS A or more being present),
        ``mean_auc``, ``relevance`` (AU → median ratio where it is active and rendered at B or
        more), ``views``, ``seed``.

    Raises:
        ConfigError: the generator is not there.
        SourceError: no shard can be read, or none holds a held-out identity.
    """
    batch = held_out_views(folder, views, seed)
    aus = network.card.aus
    presence = predict_views(network, batch.image)
    columns = {au: k for k, au in enumerate(rendered_aus())}
    auc: dict[str, float | None] = {}
    pairs: list[tuple[int, int]] = []
    above = network.card.thresholds()[0] if on is None else on
    for k, au in enumerate(aus):
        if au not in columns:
            continue
        label = batch.intensity[:, columns[au]]
        present = np.where(np.isnan(label), np.nan, label >= MARKED)
        area = roc_auc(present, presence[:, k])
        auc[str(au)] = None if np.isnan(area) else area
        if au in REGION_AUS:
            rows = np.flatnonzero((np.nan_to_num(label) >= CLEAR) & (presence[:, k] >= above[k]))
            pairs += [(int(row), k) for row in rows[:RELEVANCE_FRAMES]]
    relevance: dict[str, float] = {}
    if pairs:
        used = sorted({row for row, _ in pairs})
        place = {row: i for i, row in enumerate(used)}
        ratios = explain_ratios(
            network,
            batch.image[used],
            [(place[row], k) for row, k in pairs],
            batch.landmarks[used].astype(np.float32),
        )[:, 0]
        of = np.array([k for _, k in pairs])
        relevance = {str(aus[k]): float(np.nanmedian(ratios[of == k])) for k in np.unique(of)}
    known = [value for value in auc.values() if value is not None]
    return {
        "auc": auc,
        "mean_auc": float(np.mean(known)) if known else None,
        "relevance": relevance,
        "views": len(batch.image),
        "seed": seed,
    }


def predict_views(network: AUNetwork, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return ``(B, A)`` presence of ``(B, S, S)`` crops."""
    parts = [network.predict(crops[i : i + 64]).presence for i in range(0, len(crops), 64)]
    return np.concatenate(parts)


def held_out_views(folder: Path, views: int = VIEWS, seed: int = SEED) -> Any:
    """Return a ``training.data.loader.ViewBatch`` of degraded views of held-out identities."""
    _generator()
    from training.data.loader import ViewLoader

    with ViewLoader([folder], seed, workers=0) as loader:
        return loader.validation_views(views, seed)


def rendered_aus() -> tuple[int, ...]:
    """Return the AUs of the columns of rendered labels."""
    _generator()
    from training.augment.views import AUS

    return tuple(AUS)


def _generator() -> None:
    """Make ``training`` importable, which is part of the repository only."""
    if not (ROOT / "training" / "data" / "loader.py").is_file():
        raise ConfigError(
            f"rendered faces need the generator in {ROOT / 'training'}, which only the repository "
            "has; run this file from a checkout, or leave out --synthetic"
        )
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
