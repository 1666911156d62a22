"""All measures at once, for the maps that a network gives on a sample of frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..config import DEFAULT_LRP_PRESET
from ..errors import ConfigError
from ..face.regions import LANDMARK_COUNT, REGION_AUS, au_regions, face_region
from ..lrp import engine_of, explain, lrp_preset
from ..network.au_network import AUNetwork
from .agreement import AUAgreement, between_aus, between_stages
from .conservation import conserve
from .figures import (
    COSTLY_FRAMES,
    DRAWS,
    FIGURES,
    LEAST_FRAMES,
    TOLERANCE,
    AUQuality,
    ExplanationQuality,
    Figure,
    MapSample,
    StoppedError,
    spread,
)
from .location import localise, pointing_game
from .perturbation import perturb
from .randomisation import Randomisation, randomise, weighted_layers

__all__ = ["assess"]

_FRAMES_AT_ONCE = 8

Pairs = list[tuple[int, int]]
Columns = dict[str, NDArray[np.float64]]
"""Figure → ``(P,)`` its value for every pair, NaN where it has none."""


def assess(
    network: AUNetwork,
    sample: MapSample,
    preset: str = DEFAULT_LRP_PRESET,
    *,
    costly_frames: int = COSTLY_FRAMES,
    draws: int = DRAWS,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> ExplanationQuality:
    """Measure the maps of a network on a sample of frames.

    Args:
        network: the network.
        sample: frames with their active AUs.
        preset: LRP preset.
        costly_frames: frames per AU for perturbation and randomisation.
        draws: randomised networks to average; 0 leaves randomisation out.
        seed: of random orders and randomised weights.
        on_progress: called with (steps done, steps in total), of unequal cost.
        stop: asked between steps; true ends the work.

    Returns:
        The figures.

    Raises:
        ConfigError: no preset of that name, or a sample in which no AU is active in at least
            :data:`LEAST_FRAMES` frames.
        ModelError: the network cannot be explained.
        StoppedError: ``stop`` said so.
    """
    name = lrp_preset(preset).name
    model = network.logits_module
    size = network.card.input_size
    pairs = _pairs(network, sample)
    au_of = np.array([network.card.aus[output] for _, output in pairs], int)
    counts = {int(au): int((au_of == au).sum()) for au in np.unique(au_of)}
    enough = [au for au, number in counts.items() if number >= LEAST_FRAMES]
    if not enough:
        raise ConfigError(
            f"no AU is active in at least {LEAST_FRAMES} of the {len(sample.crops)} frames: too "
            "few to measure; give more frames, or a recording with more expression"
        )
    costly = sorted(
        p for au in enough for p in spread(np.flatnonzero(au_of == au).tolist(), costly_frames)
    )
    layers = weighted_layers(model, network.prepare(sample.crops[:1]))
    steps = _Steps(len(sample.crops) + len(costly) + draws * len(layers), on_progress, stop)
    maps = np.empty((len(pairs), size, size), np.float32)
    columns = {figure: np.full(len(pairs), np.nan) for figure in FIGURES}
    work = _Measurement(network, sample, name, pairs, au_of, maps, columns, steps)

    _measure_all(work)
    _perturb(work, costly, seed)
    runs = _randomise(work, costly, draws, seed)
    agreement = between_aus(maps, [row for row, _ in pairs], au_of.tolist())
    return ExplanationQuality(
        preset=name,
        engine=engine_of(model, (1, size, size), name).name,
        frames=len(sample.crops),
        aus=tuple(_au_quality(work, au, agreement) for au in enough),
        rare={au: number for au, number in counts.items() if number < LEAST_FRAMES},
        agreement=agreement,
        layers=runs[0].layers if runs else (),
        layer_cosine=_layer_means([run.cosine for run in runs]),
        layer_rank=_layer_means([run.rank for run in runs]),
        with_regions=_has_regions(network),
    )


def _pairs(network: AUNetwork, sample: MapSample) -> Pairs:
    aus = network.card.aus
    return [(row, aus.index(au)) for row, active in enumerate(sample.active) for au in active]


class _Steps:
    """Counts what is done, and ends the work when asked to."""

    def __init__(
        self, total: int, on_progress: Callable[[int, int], None], stop: Callable[[], bool]
    ) -> None:
        self._done, self._total = 0, total
        self._on_progress, self._stop = on_progress, stop

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        self._on_progress(self._done, self._total)
        if self._stop():
            raise StoppedError


@dataclass(frozen=True, slots=True, eq=False)
class _Measurement:
    """What is measured, and the arrays that results are written to.

    Attributes:
        network: the network.
        sample: frames with their active AUs.
        preset: name of the LRP preset.
        pairs: P pairs (row of the sample, number of the output).
        au_of: ``(P,)`` AU of each pair.
        maps: ``(P, S, S)`` float32 relevance of each pair.
        columns: figure → its value for every pair.
        steps: of the work.
    """

    network: AUNetwork
    sample: MapSample
    preset: str
    pairs: Pairs
    au_of: NDArray[np.int_]
    maps: NDArray[np.float32]
    columns: Columns
    steps: _Steps


def _has_regions(network: AUNetwork) -> bool:
    marks = network.card.landmarks
    return marks is not None and marks.count == LANDMARK_COUNT


def _measure_all(work: _Measurement) -> None:
    """Explain every pair; take the measures that cost little."""
    network, sample, columns = work.network, work.sample, work.columns
    model = network.logits_module
    for first in range(0, len(sample.crops), _FRAMES_AT_ONCE):
        crops = sample.crops[first : first + _FRAMES_AT_ONCE]
        here = [p for p, (row, _) in enumerate(work.pairs) if first <= row < first + len(crops)]
        if here:
            x = network.prepare(crops)
            local = [(work.pairs[p][0] - first, work.pairs[p][1]) for p in here]
            work.maps[here] = explain(model, x, local, work.preset).cpu().numpy()
            balance = conserve(model, x, local, work.maps[here], work.preset)
            # A logit of about zero has no shares.
            logit = np.where(np.abs(balance.logit) > 1e-3, balance.logit, np.nan)
            columns["logit"][here] = balance.logit
            columns["conserved"][here] = balance.total / logit
            columns["dense_bias"][here] = balance.dense_bias / logit
            columns["dense_epsilon"][here] = balance.dense_epsilon / logit
            columns["rest"][here] = balance.rest / logit
            columns["positive"][here] = balance.positive
            _locate(work, crops, local, here)
        work.steps.advance(len(crops))


def _locate(work: _Measurement, crops: NDArray[np.uint8], local: Pairs, here: list[int]) -> None:
    """Compare maps with the regions of their AUs, where there are landmarks and a region.

    Args:
        work: the measurement.
        crops: a batch of the sample's.
        local: pairs (row of ``crops``, number of the output).
        here: numbers of these pairs in the measurement.
    """
    columns, aus = work.columns, work.network.card.aus
    known = [k for k, (_, output) in enumerate(local) if aus[output] in REGION_AUS]
    if not known or not _has_regions(work.network):
        return
    size = work.network.card.input_size
    points = work.network.landmarks(crops)
    faces = np.stack([face_region(face, size) for face in points])[[local[k][0] for k in known]]
    regions = np.stack(
        [au_regions(points[local[k][0]], [aus[local[k][1]]], size)[0] for k in known]
    )
    at = [here[k] for k in known]
    found = localise(work.maps[at], regions, faces)
    columns["mass"][at], columns["area"][at] = found.mass, found.area
    columns["enrichment"][at], columns["outside"][at] = found.enrichment, found.outside
    columns["hit"][at] = pointing_game(work.maps[at], regions, TOLERANCE * size / 96)


def _perturb(work: _Measurement, costly: list[int], seed: int) -> None:
    """Take the figures of perturbation for some of the pairs."""
    for number, p in enumerate(costly):
        row, output = work.pairs[p]
        curves = perturb(
            work.network.logits_module,
            work.network.prepare(work.sample.crops[row : row + 1]),
            [(0, output)],
            torch.from_numpy(work.maps[p : p + 1]),
            seed=seed + number,
        )
        work.columns["morf_lerf"][p] = curves.area[0]
        work.columns["morf_random"][p] = curves.area_random[0]
        work.columns["drop"][p] = curves.drop[0]
        work.steps.advance()


def _randomise(work: _Measurement, costly: list[int], draws: int, seed: int) -> list[Randomisation]:
    """Take the figures of randomisation for some of the pairs; return each draw."""
    rows = sorted({work.pairs[p][0] for p in costly})
    local_row = {row: n for n, row in enumerate(rows)}
    x = work.network.prepare(work.sample.crops[rows])
    local = [(local_row[work.pairs[p][0]], work.pairs[p][1]) for p in costly]
    runs = [
        randomise(
            work.network.logits_module,
            x,
            local,
            work.preset,
            maps=work.maps[costly],
            seed=seed + draw,
            on_layer=lambda _name: work.steps.advance(),
        )
        for draw in range(draws)
    ]
    if runs:
        work.columns["top_cosine"][costly] = _mean([run.cosine[0] for run in runs])
        work.columns["full_cosine"][costly] = _mean([run.cosine[-1] for run in runs])
        work.columns["full_rank"][costly] = _mean([run.rank[-1] for run in runs])
    return runs


def _au_quality(work: _Measurement, au: int, agreement: AUAgreement) -> AUQuality:
    """Sum up the figures of one AU."""
    own = np.flatnonzero(work.au_of == au)
    own_rows = [work.pairs[p][0] for p in own]
    stages = work.sample.stages
    figures = {name: _figure(name, work.columns[name][own]) for name in FIGURES}
    k = agreement.aus.index(au)
    figures["same_au"] = _known(agreement.own[k], int((~np.isnan(agreement.own[k])) * len(own)))
    together = sum(len(work.sample.active[row]) > 1 for row in own_rows)
    figures["other_aus"] = _known(agreement.others(au), together)
    nearest = agreement.nearest(au, LEAST_FRAMES)
    if nearest is not None:
        shared = int(agreement.frames[k, agreement.aus.index(nearest[0])])
        figures["nearest"] = _known(nearest[1], shared)
    if stages:
        compared = between_stages(work.maps[own], [stages[row] for row in own_rows])
        figures["within_stage"] = _known(compared.within, compared.within_pairs)
        figures["across_stages"] = _known(compared.across, compared.across_pairs)
    return AUQuality(au, len(own), figures, None if nearest is None else nearest[0])


def _figure(name: str, values: NDArray[np.float64]) -> Figure:
    known = values[~np.isnan(values)]
    if not len(known):
        return Figure(None, 0)
    value = np.median(known) if FIGURES[name][0] == "median" else known.mean()
    return Figure(float(value), len(known))


def _known(value: float, frames: int) -> Figure:
    return Figure(None, 0) if np.isnan(value) else Figure(float(value), frames)


def _mean(rows: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean over the first axis of what is known; NaN where nothing is."""
    stack = np.stack(rows)
    known = ~np.isnan(stack)
    count = known.sum(axis=0)
    return np.where(known, stack, 0).sum(axis=0) / np.where(count > 0, count, np.nan)


def _layer_means(draws: list[NDArray[np.float64]]) -> tuple[float, ...]:
    """Return the mean per layer over all draws and pairs."""
    if not draws:
        return ()
    stacked = np.concatenate(draws, axis=1)  # (S, draws·P)
    return tuple(float(value) for value in _mean(list(stacked.T)))
