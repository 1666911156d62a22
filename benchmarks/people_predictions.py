"""What a network says of every judged clip and still, by the path of live analysis, and kept.

Two things are kept in the cache folder, both by the content of the file they come from: the aligned
crops (of a detector with points they hold for every network of the same template) and the presence
by the content of the weights. Finding the faces takes minutes, another network seconds, the same
one again no time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from au_metrics import ClipPrediction
from facestage.core.config import FaceConfig
from facestage.core.face.likeness import LastFaces
from facestage.core.face.tracker import Detector
from facestage.core.network.au_network import EMBEDDED, AUNetwork
from facestage.stream.model_store import sha256_of
from facestage.stream.sources.images import load_image
from numpy.typing import NDArray
from people_material import JudgedClip, Material, Still, with_frames
from real_clips import TrackedClip, crop_key, make_tracker, track_clip

__all__ = ["Judged", "PredictedClip", "PredictedStill", "logit", "predict_people", "tracked_people"]

_VERSION = 2
"""Rises when the same input would give other crops."""
_BATCH = 64
_TINY = 1e-7

Arrays = Mapping[str, NDArray]


def logit(presence: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the logit of a probability, finite at 0 and 1; NaN stays NaN."""
    p = np.clip(presence.astype(np.float64), _TINY, 1 - _TINY)
    return np.log(p / (1 - p))


@dataclass(frozen=True, slots=True, eq=False)
class PredictedClip:
    """A clip and the presence of each AU in each of its frames (NaN without a usable face).

    Attributes:
        clip: the clip.
        prediction: what the network said.
        times: ``(N,)`` seconds.
        quality: ``(N,)`` of the face, 0–1; NaN without a usable one.
        other: ``(N,)`` bool, frames whose face cannot be that of the one before.
    """

    clip: JudgedClip
    prediction: ClipPrediction
    times: NDArray[np.float64]
    quality: NDArray[np.float64]
    other: NDArray[np.bool_]

    @property
    def person(self) -> str:
        """Whose clip it is."""
        return self.clip.person

    @property
    def logits(self) -> NDArray[np.float64]:
        """``(N, A)`` presence logits, NaN without a usable face."""
        return logit(self.prediction.presence)


@dataclass(frozen=True, slots=True, eq=False)
class PredictedStill:
    """A still and the presence logit of each AU, ``(A,)``."""

    still: Still
    logits: NDArray[np.float64]

    @property
    def person(self) -> str:
        """Whose picture it is."""
        return self.still.person


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Everything a network said.

    Attributes:
        clips: of the clips.
        stills: of the stills in which a face was found.
        not_found: set → number of stills in which none was.
        unseen: share of all clip frames without a usable face.
    """

    clips: tuple[PredictedClip, ...]
    stills: tuple[PredictedStill, ...]
    not_found: Mapping[str, int]
    unseen: float


class _Cache:
    """Arrays by the content of a file; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, key: str, weights: str) -> None:
        self._folder, self._key, self._weights = folder, key, weights

    def crops(self, path: Path, make: Callable[[], Arrays]) -> Arrays:
        return self._get(path, f"crops-{self._key}", make)

    def presence(self, path: Path, make: Callable[[], Arrays]) -> Arrays:
        return self._get(path, f"presence-{self._key}-{self._weights}", make)

    def _get(self, path: Path, name: str, make: Callable[[], Arrays]) -> Arrays:
        if self._folder is None:
            return make()
        content = hashlib.sha256(path.read_bytes()).hexdigest()[:24]
        stored = self._folder / name / f"{content}.npz"
        if stored.is_file():
            with np.load(stored) as data:
                return dict(data)
        arrays = make()
        stored.parent.mkdir(parents=True, exist_ok=True)
        part = stored.with_suffix(".part.npz")
        np.savez_compressed(part, **arrays)
        part.replace(stored)
        return arrays


def predict_people(
    material: Material,
    detector: Detector,
    network: AUNetwork,
    weights: Path | None = None,
    cache: Path | None = None,
) -> Judged:
    """Run a network over clips and stills.

    Args:
        material: the people.
        detector: finds their faces.
        network: is judged.
        weights: the file it came from; by default the embedded one.
        cache: folder in which crops and presence are kept.

    Raises:
        SourceError: a file cannot be read, or a clip is shorter than its marks.
        ModelError: the weights file of the network or of the detector is gone.
    """
    store = _store(detector, network, weights, cache)

    def presence(path: Path, cut: Callable[[], Arrays]) -> Arrays:
        return store.presence(path, lambda: _predicted(network, store.crops(path, cut)))

    clips = [
        _predict_clip(
            clip, presence(clip.path, lambda clip=clip: _cut_clip(clip, detector, network))
        )
        for clip in material.clips
    ]
    stills, not_found = [], dict.fromkeys(sorted({s.source for s in material.stills}), 0)
    for still in material.stills:
        seen = presence(still.path, lambda still=still: _cut_still(still, detector, network))
        if len(seen["index"]):
            stills.append(PredictedStill(still, logit(seen["presence"][0])))
        else:
            not_found[still.source] += 1
    frames = np.concatenate([np.isnan(c.prediction.presence[:, 0]) for c in clips] or [np.ones(0)])
    unseen = float(frames.mean()) if len(frames) else 0.0
    return Judged(tuple(clips), tuple(stills), not_found, unseen)


def tracked_people(
    judged: Judged,
    detector: Detector,
    network: AUNetwork,
    weights: Path | None = None,
    cache: Path | None = None,
) -> list[TrackedClip]:
    """Return the aligned crops of the clips of :func:`predict_people`, in their order.

    Args:
        judged: what it returned.
        detector, network, weights, cache: what it was given.
    """
    store = _store(detector, network, weights, cache)
    tracked = []
    for clip in judged.clips:
        path = clip.clip.path
        cut = store.crops(path, lambda clip=clip: _cut_clip(clip.clip, detector, network))
        arrays = {name: cut[name] for name in ("index", "crops", "quality", "lost", "times")}
        tracked.append(TrackedClip(clip.clip.facts.name, **arrays))
    return tracked


def _store(
    detector: Detector, network: AUNetwork, weights: Path | None, cache: Path | None
) -> _Cache:
    # The card says how grey values become the network's input: it may change beside the weights.
    content = sha256_of(weights or EMBEDDED) + repr(network.card.normalisation)
    digest = hashlib.sha256(content.encode()).hexdigest()[:24]
    key = f"{_VERSION}-{crop_key(detector, network)}"
    if detector.name != "yunet":
        key += f"-{digest}"  # the landmarks of the network align the crops
    return _Cache(cache, key, digest)


def _cut_clip(clip: JudgedClip, detector: Detector, network: AUNetwork) -> Arrays:
    tracked = track_clip(clip.path, detector, network)
    return {
        "index": tracked.index,
        "crops": tracked.crops,
        "lost": tracked.lost,
        "times": tracked.times,
        "quality": tracked.quality,
    }


def _cut_still(still: Still, detector: Detector, network: AUNetwork) -> Arrays:
    seen = make_tracker(detector, network).update(load_image(still.path))
    side = network.card.input_size
    crops = np.zeros((0, side, side), np.uint8) if seen.crop is None else seen.crop[None]
    index = np.arange(len(crops), dtype=np.int64)
    return {
        "index": index,
        "crops": crops,
        "lost": np.array([seen.crop is None]),
        "times": np.zeros(1),
        "quality": np.full(len(crops), seen.quality),
    }


def _predicted(network: AUNetwork, cut: Arrays) -> Arrays:
    crops = cut["crops"]
    parts = [
        network.predict(crops[start : start + _BATCH]).presence
        for start in range(0, len(crops), _BATCH)
    ]
    nothing = np.zeros((0, len(network.card.aus)), np.float32)
    presence = np.concatenate([nothing, *parts])
    last = LastFaces(FaceConfig().same_person)
    times = cut["times"][cut["index"]]
    other = [not last.continues(crop, time_s) for crop, time_s in zip(crops, times, strict=True)]
    kept = {key: cut[key] for key in ("index", "lost", "times", "quality")}
    return {**kept, "presence": presence, "other": np.array(other, bool)}


def _predict_clip(clip: JudgedClip, seen: Arrays) -> PredictedClip:
    whole = with_frames(clip, len(seen["lost"]))
    presence = np.full((len(seen["lost"]), seen["presence"].shape[1]), np.nan)
    presence[seen["index"]] = seen["presence"]
    quality = np.full(len(presence), np.nan)
    quality[seen["index"]] = seen["quality"]
    other = np.zeros(len(presence), bool)
    other[seen["index"]] = seen["other"]
    unknown = np.full_like(presence, np.nan)
    said = ClipPrediction(presence, unknown, seen["lost"].astype(bool))
    return PredictedClip(whole, said, seen["times"], quality, other)
