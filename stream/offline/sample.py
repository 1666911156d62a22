"""Read a source for its explanations: which frames are measured, and what they show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...core.config import SAMPLE_FRAMES, AnalyzerConfig, ExplainConfig
from ...core.errors import SourceError
from ...core.face.tracker import Detector
from ...core.lrp import lrp_preset
from ...core.network.au_network import AUNetwork
from ...core.network.selection import parse_aus
from ...core.observer import Observation
from ...core.quality import MapSample, StoppedError, choose_frames
from ...core.quality.figures import LEAST_FRAMES
from ...core.sequence import SequenceAnalyzer
from ...core.types import SequenceResult
from ..sources import source_name
from .analyze import analyze_source

__all__ = ["KEPT_CROPS", "KeptCrops", "Reading", "read_sample"]

KEPT_CROPS = 4096
"""Crops kept while a source is read (38 MB). Beyond it every second one is kept, then every
fourth, …, so a recording may last as long as it likes."""

Show = Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]
"""Makes a context manager for the name of a source. It yields a function that is called with
(frames done, frames in total or None) as the source is read."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A source that was read for its explanations.

    Attributes:
        result: what ``facestage analyze`` would have found.
        sample: the frames to measure on.
        index: their numbers in the source.
        faces: frames of the source with a usable face.
    """

    result: SequenceResult
    sample: MapSample
    index: tuple[int, ...]
    faces: int


def read_sample(
    source: str,
    network: AUNetwork,
    detector: Detector,
    aus: str = "shown",
    preset: str = ExplainConfig().preset,
    frames: int = SAMPLE_FRAMES,
    *,
    show: Show | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Reading:
    """Read a source to its end and choose the frames to measure on.

    Args:
        source: as ``facestage analyze`` takes it.
        network: the network.
        detector: finds faces.
        aus: AUs that take part.
        preset: LRP preset whose maps are clustered into stages.
        frames: most frames to choose.
        show: called with the name of the source; shows how far it was read.
        stop: asked between batches; true ends the reading.

    Returns:
        What was read.

    Raises:
        SourceError: the source cannot be read, holds too few frames, no usable face, or no AU that
            is active for long enough.
        ConfigError: an option cannot work.
        StoppedError: ``stop`` said so.
    """
    config = AnalyzerConfig()
    config = replace(
        config,
        aus=parse_aus(aus),
        explain=replace(config.explain, preset=lrp_preset(preset).name),
        # What is measured is maps, by the activity that the network gives on its own.
        baseline=replace(config.baseline, enabled=False),
    )
    analyzer = SequenceAnalyzer(detector, network, config)
    crops = KeptCrops()
    with nullcontext() if show is None else show(source_name(source)) as update:

        def on_progress(done: int, total: int | None) -> None:
            if update is not None:
                update(done, total)
            if stop():
                raise StoppedError

        result = analyze_source(source, analyzer, on_progress=on_progress, on_seen=crops.add)
    _check_faces(result, crops)
    chosen = [crops.frames[i] for i in choose_frames([on for _, _, on in crops.frames], frames)]
    active = tuple(on for _, _, on in chosen)
    _check_active(result, crops, active, aus)
    index = [number for number, _, _ in chosen]
    sample = MapSample(
        crops=np.stack([crop for _, crop, _ in chosen]),
        active=active,
        stages=_stages_of(result, index),
    )
    return Reading(result, sample, tuple(index), crops.faces)


class KeptCrops:
    """Crops of the frames in which an AU is active, evenly thinned when they become too many."""

    def __init__(self, limit: int = KEPT_CROPS) -> None:
        self.frames: list[tuple[int, NDArray[np.uint8], tuple[int, ...]]] = []
        self.faces = 0
        self._limit = limit
        self._active = 0
        self._stride = 1

    def add(self, observations: list[Observation]) -> None:
        """Keep the crops of frames with an active AU, thinned evenly once there are too many."""
        for observation in observations:
            crop = observation.face.crop
            if crop is None:
                continue
            self.faces += 1
            if not observation.maps:
                continue
            if self._active % self._stride == 0:
                active = tuple(sorted(observation.maps))
                self.frames.append((observation.frame.index, crop, active))
            self._active += 1
            if len(self.frames) > self._limit:
                self.frames = self.frames[::2]
                self._stride *= 2


def _check_faces(result: SequenceResult, crops: KeptCrops) -> None:
    if len(result.rows) < LEAST_FRAMES:
        raise SourceError(
            f"{result.source} holds {len(result.rows)} frame{'s' if len(result.rows) > 1 else ''}; "
            f"a figure needs an AU active in at least {LEAST_FRAMES}: give a video, or a folder of "
            "images"
        )
    if not crops.faces:
        raise SourceError(
            f"{result.source}: no usable face in {len(result.rows)} frames; give a recording of a "
            "frontal, well-lit face, or another --detector"
        )


def _check_active(
    result: SequenceResult, crops: KeptCrops, active: Iterable[tuple[int, ...]], aus: str
) -> None:
    counts = Counter(au for on in active for au in on)
    if max(counts.values(), default=0) < LEAST_FRAMES:
        raise SourceError(
            f"{result.source}: none of the AUs that take part ({aus}) is active in at least "
            f"{LEAST_FRAMES} of the {crops.faces} frames with a face that could be measured; use "
            "--aus all, more --frames, or a recording with more expression"
        )


def _stages_of(result: SequenceResult, index: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    starts = [stage.start for stage in result.stages]
    at = np.searchsorted(starts, index, side="right") - 1
    return tuple(result.stages[max(0, k)].labels for k in at)
