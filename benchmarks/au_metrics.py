"""Figures that say how well a network follows real faces; pure functions on predictions.

Used by ``au_real.py`` and ``calibrate_au.py``. The clips are those of :mod:`real_clips`; clips that
show one take share the weight of one person in every figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from facestage.core.baseline import PersonalBaseline, adjust_intensity
from facestage.core.config import BaselineConfig, FaceConfig
from facestage.core.errors import ConfigError
from facestage.core.face.likeness import LastFaces
from facestage.core.learning.metrics import correlation
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.card import ModelCard
from facestage.core.stages import PresenceGate
from intervals import PairWins
from numpy.typing import NDArray
from real_clips import TOLERANCE, UNRELIABLE_CURVES, ClipFacts, TrackedClip

__all__ = [
    "JAW",
    "ClipPrediction",
    "activity",
    "beside_reference",
    "correlations",
    "evaluate_predictions",
    "event_share",
    "false_activity",
    "found_events",
    "invented_faces",
    "median",
    "predict_clips",
    "quiet_frames",
    "steady_below",
    "with_baseline",
]

STEADY = 0.04
"""A reference curve whose standard deviation over a clip is below this cannot judge."""
STEADY_MOUTH = 0.03
"""The same for AU25 and AU26, whose curves a spoken word moves little. What is below it in the jaw
curve of the clips is the trace of a smile over closed teeth."""
STEADY_SUBTLE = 0.02
"""The same for AUs whose blendshapes stay small even when they are clearly there."""
SUBTLE_AUS = (5, 6, 9, 14, 15, 16, 17, 20, 22, 24, 28)
MIN_FRAMES = 20
"""Frames below which no correlation is computed."""
JAW = "26+27"
"""jawOpen covers AU26 and AU27, which exclude each other: .5 and .6 of their intensities."""


def steady_below(au: int) -> float:
    """Return the standard deviation from which a reference curve of this AU can judge."""
    if au in (25, 26):
        return STEADY_MOUTH
    return STEADY_SUBTLE if au in SUBTLE_AUS else STEADY


@dataclass(frozen=True, slots=True, eq=False)
class ClipPrediction:
    """What a network said about each frame of a clip, NaN without a usable face.

    Attributes:
        presence: ``(N, A)`` probability 0–1.
        intensity: ``(N, A)`` FACS units 0–5.
        lost: ``(N,)`` bool, no face at all.
    """

    presence: NDArray[np.float64]
    intensity: NDArray[np.float64]
    lost: NDArray[np.bool_]


def predict_clips(network: AUNetwork, tracked: Sequence[TrackedClip]) -> list[ClipPrediction]:
    """Run a network over aligned crops.

    Raises:
        ConfigError: it has no intensity outputs.
    """
    made = []
    for clip in tracked:
        shape = (len(clip.lost), len(network.card.aus))
        presence, intensity = np.full(shape, np.nan), np.full(shape, np.nan)
        for start in range(0, len(clip.index), 64):
            part = clip.index[start : start + 64]
            seen = network.predict(clip.crops[start : start + 64])
            if seen.intensity is None:
                raise ConfigError(
                    f"{network.name} gives no intensity, which is what is compared with the "
                    "reference curves; use a network with an intensity output"
                )
            presence[part], intensity[part] = seen.presence, seen.intensity
        made.append(ClipPrediction(presence, intensity, clip.lost))
    return made


def activity(
    clip: ClipPrediction, on: NDArray[np.float32], off: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return ``(N, A)`` bool: which AUs are active, with the hysteresis of live analysis."""
    gate = PresenceGate(on, off)
    active = np.zeros(clip.presence.shape, bool)
    for i, row in enumerate(clip.presence):
        if not np.isnan(row[0]):
            active[i] = gate.update(row.astype(np.float32))
        elif clip.lost[i]:
            gate.reset()
    return active


def with_baseline(
    prediction: ClipPrediction,
    clip: TrackedClip,
    card: ModelCard,
    config: BaselineConfig | None = None,
) -> ClipPrediction:
    """Adjust predictions to the person, as live analysis does.

    Args:
        prediction: what the network said.
        clip: its crops, times and qualities.
        card: thresholds and neutral levels.
        config: of the baseline.
    """
    facts = BaselineConfig() if config is None else config
    baseline = PersonalBaseline.of_network(card, facts)
    presence, intensity = prediction.presence.copy(), prediction.intensity.copy()
    row = {int(frame): i for i, frame in enumerate(clip.index)}
    last = LastFaces(FaceConfig().same_person)
    for frame, time_s in enumerate(clip.times):
        i = row.get(frame)
        if i is None:
            baseline.skip(float(time_s))
            continue
        if not last.continues(clip.crops[i], float(time_s)):
            baseline.reset()
        raw = presence[frame].astype(np.float32)
        adjusted = baseline.update(float(time_s), raw, float(clip.quality[i]))
        strength = intensity[frame].astype(np.float32)
        presence[frame] = adjusted
        intensity[frame] = adjust_intensity(strength, raw, adjusted)
    return replace(prediction, presence=presence, intensity=intensity)


def _logit(presence: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.clip(presence, 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def _curves(
    clip: ClipPrediction, aus: Sequence[int]
) -> dict[str, tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Name → (AU of the reference, intensity curve, logit curve)."""
    logits = _logit(clip.presence)
    curves = {str(au): (au, clip.intensity[:, k], logits[:, k]) for k, au in enumerate(aus)}
    if 26 in aus and 27 in aus:
        _, drop, drop_logit = curves["26"]
        _, wide, wide_logit = curves["27"]
        curves[JAW] = (26, 0.5 * drop + 0.6 * wide, np.maximum(drop_logit, wide_logit))
    return curves


def correlations(
    facts: Sequence[ClipFacts], predictions: Sequence[ClipPrediction], aus: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Correlate intensities and presence logits with the reference curves within each clip.

    Frames count where both sides see a face and nothing lies over where the AU shows. A clip can
    judge an AU when its reference varies by more than :func:`steady_below`; those of
    :data:`real_clips.UNRELIABLE_CURVES` judge none.

    Returns:
        AU (or ``26+27``) → ``clips`` (clip → r, r_logit, reference_std, frames), the median over
        clips and over persons of r, the same of the logit, and ``pooled``: r over all persons with
        the median of each clip removed on both sides.
    """
    rows: dict[str, dict[str, dict[str, float]]] = {}
    pools: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
    for fact, prediction in zip(facts, predictions, strict=True):
        for name, (au, curve, logit) in _curves(prediction, aus).items():
            if au not in fact.reference or au in UNRELIABLE_CURVES:
                continue
            reference = fact.reference[au]
            use = ~np.isnan(curve) & ~np.isnan(reference) & ~fact.mask(fact.covered, au)
            if use.sum() < MIN_FRAMES:
                continue
            spread = float(reference[use].std())
            if fact.name == fact.person:
                a, b = curve[use], reference[use]
                pools.setdefault(name, []).append((a - np.median(a), b - np.median(b)))
            if spread > steady_below(au):
                # An output that never moves where the face does follows nothing: r = 0, not NaN.
                r, r_logit = (
                    correlation(curve[use], reference[use]),
                    correlation(logit[use], reference[use]),
                )
                rows.setdefault(name, {})[fact.name] = {
                    "r": float(np.nan_to_num(r)),
                    "r_logit": float(np.nan_to_num(r_logit)),
                    "reference_std": spread,
                    "frames": int(use.sum()),
                }
    person = {fact.name: fact.person for fact in facts}
    result: dict[str, dict[str, Any]] = {}
    for name, pool in pools.items():
        clips = rows.get(name, {})
        entry: dict[str, Any] = {"clips": clips}
        for kind in ("r", "r_logit"):
            values = {clip: row[kind] for clip, row in clips.items()}
            entry[f"{kind}_clips"] = median(list(values.values()))
            entry[f"{kind}_persons"] = median(list(_by_person(values, person).values()))
        entry["persons"] = len({person[clip] for clip in clips})
        a, b = (np.concatenate(side) for side in zip(*pool, strict=True))
        entry["pooled"] = _number(correlation(a, b))
        result[name] = entry
    return result


def beside_reference(
    facts: Sequence[ClipFacts], predictions: Sequence[ClipPrediction], aus: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Compare the network and the reference curves with what was marked by eye, frame by frame.

    Sure events against frames in which the AU surely is absent, visible to both, one clip per
    person; also of AUs whose curves judge nothing here.

    Returns:
        AU → ``ours`` and ``reference``, each ``within`` (AUC within a clip, median over people) and
        ``across`` (one scale for everybody), ``people`` with the AU, ``frames`` with it.
    """
    result = {}
    for column, au in enumerate(aus):
        sides: dict[str, tuple[list[Any], list[Any]]] = {"ours": ([], []), "reference": ([], [])}
        for fact, prediction in zip(facts, predictions, strict=True):
            if fact.name != fact.person or au not in fact.reference:
                continue
            curves = {"ours": prediction.presence[:, column], "reference": fact.reference[au]}
            seen = np.isfinite(curves["ours"]) & np.isfinite(curves["reference"])
            shown = fact.mask([event for event in fact.events if event.au == au and event.sure])
            shown &= seen & ~fact.mask(fact.covered, au)
            absent = quiet_frames(fact, au) & seen
            for name, curve in curves.items():
                sides[name][0].append(curve[shown])
                sides[name][1].append(curve[absent])
        entry = {name: _areas(*side) for name, side in sides.items()}
        present = [part for part in sides["ours"][0] if len(part)]
        if present and entry["ours"]["across"] is not None:
            frames = sum(len(part) for part in present)
            result[str(au)] = entry | {"people": len(present), "frames": frames}
    return result


def _areas(
    present: Sequence[NDArray[np.float64]], absent: Sequence[NDArray[np.float64]]
) -> dict[str, float | None]:
    wins = PairWins.of(present, absent)
    both = (wins.present > 0) & (wins.absent > 0)
    return {"within": median(wins.within()[both].tolist()), "across": _number(wins.auc())}


def _by_person(values: Mapping[str, float], person: Mapping[str, str]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for clip, value in values.items():
        groups.setdefault(person[clip], []).append(value)
    return {name: float(np.mean(group)) for name, group in groups.items()}


def median(values: Sequence[float]) -> float | None:
    """Return the median, None of nothing."""
    return float(np.median(values)) if len(values) else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def event_share(
    active: NDArray[np.bool_], visible: NDArray[np.bool_], first: int, last: int
) -> float | None:
    """Return the share of an event's visible frames in which its AU is active.

    Marks made by eye may be off by :data:`TOLERANCE` frames. A long event loses that many frames
    at each end; one of less than four times the tolerance is moved as a whole by up to it, to
    where it fits best.

    Args:
        active: ``(N,)`` bool.
        visible: ``(N,)`` bool, frames to count.
        first: first frame of the event.
        last: its last frame (inclusive).

    Returns:
        The share 0–1, or None when fewer than three frames are visible.
    """
    length = last - first + 1
    if length >= 4 * TOLERANCE:
        windows = [slice(first + TOLERANCE, last + 1 - TOLERANCE)]
    else:
        shifts = range(max(-TOLERANCE, -first), TOLERANCE + 1)
        windows = [slice(first + s, last + 1 + s) for s in shifts]
    shares = [
        float(active[w][visible[w]].mean()) for w in windows if visible[w].sum() >= min(3, length)
    ]
    return max(shares) if shares else None


def found_events(
    facts: Sequence[ClipFacts], active: Sequence[NDArray[np.bool_]], aus: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Tell which events marked by eye were found: active in at least half of their frames.

    A frame without a usable face counts as not active.

    Returns:
        AU → ``events`` (each with the share of active frames among the visible ones and among
        all), and the share of events found: ``found`` (sure marks, visible frames),
        ``found_likely`` (likely marks too), ``found_covered`` (sure marks, covered frames too);
        ``persons`` with a sure, visible event. Clips of one person share one vote.
    """
    copies = _copies(facts)
    person = {fact.name: fact.person for fact in facts}
    result: dict[str, dict[str, Any]] = {}
    for fact, on in zip(facts, active, strict=True):
        for event in fact.events:
            if event.au not in aus:
                continue
            column = on[:, aus.index(event.au)]
            visible = ~fact.mask(fact.covered, event.au)
            everything = np.ones(fact.frames, bool)
            entry = result.setdefault(str(event.au), {"events": []})
            entry["events"].append(
                {
                    "clip": fact.name,
                    "first": event.first,
                    "last": event.last,
                    "sure": event.sure,
                    "visible": event_share(column, visible, event.first, event.last),
                    "all": event_share(column, everything, event.first, event.last),
                    "weight": 1 / copies[fact.name],
                }
            )
    for entry in result.values():
        events = entry["events"]
        sure = [event for event in events if event["sure"]]
        entry["found"] = _found(sure, "visible")
        entry["found_likely"] = _found(events, "visible")
        entry["found_covered"] = _found(sure, "all")
        judged = [event for event in sure if event["visible"] is not None]
        entry["persons"] = len({person[event["clip"]] for event in judged})
    return result


def _copies(facts: Sequence[ClipFacts]) -> dict[str, int]:
    persons = [fact.person for fact in facts]
    return {fact.name: persons.count(fact.person) for fact in facts}


def _found(events: Sequence[Mapping[str, Any]], key: str) -> float | None:
    judged = [event for event in events if event[key] is not None]
    total = sum(event["weight"] for event in judged)
    found = sum(event["weight"] for event in judged if event[key] >= 0.5)
    return found / total if total else None


def false_activity(
    facts: Sequence[ClipFacts], active: Sequence[NDArray[np.bool_]], aus: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Measure how often an AU is active where it cannot be.

    Frames: the spans of :attr:`ClipFacts.quiet` that name the AU, without those covered for it,
    those within the tolerance of one of its events, and those without a usable face (all outputs
    off there by construction would flatter).

    Args:
        facts: the clips.
        active: ``(N, A)`` bool per clip.
        aus: the AUs of the columns.

    Returns:
        AU → ``rate`` (frames pooled, clips of one person sharing one weight; None without frames),
        ``frames``, ``persons``, and ``clips`` (clip → rate).
    """
    copies = _copies(facts)
    result: dict[str, dict[str, Any]] = {}
    for column, au in enumerate(aus):
        clips: dict[str, float] = {}
        hits = total = 0.0
        frames = 0
        persons: set[str] = set()
        for fact, on in zip(facts, active, strict=True):
            use = quiet_frames(fact, au)
            if not use.any():
                continue
            weight = 1 / copies[fact.name]
            clips[fact.name] = float(on[use, column].mean())
            hits += weight * float(on[use, column].sum())
            total += weight * int(use.sum())
            frames += int(use.sum())
            persons.add(fact.person)
        result[str(au)] = {
            "rate": hits / total if total else None,
            "frames": frames,
            "persons": len(persons),
            "clips": clips,
        }
    return result


def quiet_frames(fact: ClipFacts, au: int) -> NDArray[np.bool_]:
    """Return ``(N,)`` bool: frames in which the AU cannot be active and its place is visible."""
    use = fact.mask(fact.quiet, au) & ~fact.mask(fact.covered, au)
    for event in fact.events:
        if event.au == au:
            use[max(0, event.first - TOLERANCE) : event.last + 1 + TOLERANCE] = False
    return use


def invented_faces(facts: Sequence[ClipFacts], tracked: Sequence[TrackedClip]) -> dict[str, float]:
    """Return clip → share of the frames without any face in which one was analysed."""
    shares = {}
    for fact, clip in zip(facts, tracked, strict=True):
        absent = fact.mask(fact.absent)
        if absent.any():
            shares[fact.name] = float(np.isin(np.flatnonzero(absent), clip.index).mean())
    return shares


def evaluate_predictions(
    facts: Sequence[ClipFacts],
    predictions: Sequence[ClipPrediction],
    aus: Sequence[int],
    on: NDArray[np.float32],
    off: NDArray[np.float32],
) -> dict[str, Any]:
    """Return correlation, events and false activity of one network's predictions.

    Args:
        facts: the clips.
        predictions: one per clip, same order.
        aus: AUs of the columns.
        on: ``(A,)`` thresholds, see :class:`facestage.core.stages.PresenceGate`.
        off: ``(A,)`` likewise.
    """
    active = [activity(clip, on, off) for clip in predictions]
    return {
        "correlation": correlations(facts, predictions, aus),
        "beside_reference": beside_reference(facts, predictions, aus),
        "events": found_events(facts, active, aus),
        "false_active": false_activity(facts, active, aus),
    }
