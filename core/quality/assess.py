"""All measures at once, for the maps that a network gives on a sample of frames."""

from __future__ import annotations

from collections.abc import Callable

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
    card = network.card
    pairs = [(row, card.aus.index(au)) for row, on in enumerate(sample.active) for au in on]
    of = np.array([card.aus[output] for _, output in pairs], int)
    counts = {int(au): int((of == au).sum()) for au in np.unique(of)}
    enough = [au for au, number in counts.items() if number >= LEAST_FRAMES]
    if not enough:
        raise ConfigError(
            f"no AU is active in at least {LEAST_FRAMES} of the {len(sample.crops)} frames: too "
            "few to measure; give more frames, or a recording with more expression"
        )
    costly = sorted(
        p for au in enough for p in spread(np.flatnonzero(of == au).tolist(), costly_frames)
    )
    layers = weighted_layers(network.logits_module, network.prepare(sample.crops[:1]))
    steps = _Steps(len(sample.crops) + len(costly) + draws * len(layers), on_progress, stop)

    maps, columns = _measure_all(network, sample, pairs, name, steps)
    _perturb(network, sample, pairs, costly, maps, columns, seed, steps)
    runs = _randomise(network, sample, pairs, costly, maps, columns, name, draws, seed, steps)
    agreement = between_aus(maps, [row for row, _ in pairs], of.tolist())
    size = card.input_size
    return ExplanationQuality(
        preset=name,
        engine=engine_of(network.logits_module, (1, size, size), name).name,
        frames=len(sample.crops),
        aus=tuple(_of_au(au, of, pairs, maps, columns, agreement, sample) for au in enough),
        rare={au: number for au, number in counts.items() if number < LEAST_FRAMES},
        agreement=agreement,
        layers=runs[0].layers if runs else (),
        layer_cosine=_layer_means([run.cosine for run in runs]),
        layer_rank=_layer_means([run.rank for run in runs]),
        with_regions=_has_regions(network),
    )


class _Steps:
    """Counts what is done, and ends the work when it is told to."""

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


def _has_regions(network: AUNetwork) -> bool:
    marks = network.card.landmarks
    return marks is not None and marks.count == LANDMARK_COUNT


def _measure_all(
    network: AUNetwork, sample: MapSample, pairs: Pairs, preset: str, steps: _Steps
) -> tuple[NDArray[np.float32], Columns]:
    """Explain every pair; take the measures that cost little."""
    size = network.card.input_size
    maps = np.empty((len(pairs), size, size), np.float32)
    columns: Columns = {name: np.full(len(pairs), np.nan) for name in FIGURES}
    model = network.logits_module
    for first in range(0, len(sample.crops), _FRAMES_AT_ONCE):
        crops = sample.crops[first : first + _FRAMES_AT_ONCE]
        here = [p for p, (row, _) in enumerate(pairs) if first <= row < first + len(crops)]
        if here:
            x = network.prepare(crops)
            local = [(pairs[p][0] - first, pairs[p][1]) for p in here]
            maps[here] = explain(model, x, local, preset).cpu().numpy()
            balance = conserve(model, x, local, maps[here], preset)
            # A logit of about zero has no shares.
            logit = np.where(np.abs(balance.logit) > 1e-3, balance.logit, np.nan)
            columns["logit"][here] = balance.logit
            columns["conserved"][here] = balance.total / logit
            columns["dense_bias"][here] = balance.dense_bias / logit
            columns["dense_epsilon"][here] = balance.dense_epsilon / logit
            columns["rest"][here] = balance.rest / logit
            columns["positive"][here] = balance.positive
            _locate(network, crops, local, here, maps, columns)
        steps.advance(len(crops))
    return maps, columns


def _locate(
    network: AUNetwork,
    crops: NDArray[np.uint8],
    local: Pairs,
    here: list[int],
    maps: NDArray[np.float32],
    columns: Columns,
) -> None:
    """Compare maps with the regions of their AUs, where there are landmarks and a region."""
    aus = network.card.aus
    known = [k for k, (_, output) in enumerate(local) if aus[output] in REGION_AUS]
    if not known or not _has_regions(network):
        return
    size = network.card.input_size
    points = network.landmarks(crops)
    faces = np.stack([face_region(face, size) for face in points])[[local[k][0] for k in known]]
    regions = np.stack(
        [au_regions(points[local[k][0]], [aus[local[k][1]]], size)[0] for k in known]
    )
    at = [here[k] for k in known]
    found = localise(maps[at], regions, faces)
    columns["mass"][at], columns["area"][at] = found.mass, found.area
    columns["enrichment"][at], columns["outside"][at] = found.enrichment, found.outside
    columns["hit"][at] = pointing_game(maps[at], regions, TOLERANCE * size / 96)


def _perturb(
    network: AUNetwork,
    sample: MapSample,
    pairs: Pairs,
    costly: list[int],
    maps: NDArray[np.float32],
    columns: Columns,
    seed: int,
    steps: _Steps,
) -> None:
    for number, p in enumerate(costly):
        row, output = pairs[p]
        curves = perturb(
            network.logits_module,
            network.prepare(sample.crops[row : row + 1]),
            [(0, output)],
            torch.from_numpy(maps[p : p + 1]),
            seed=seed + number,
        )
        columns["morf_lerf"][p] = curves.area[0]
        columns["morf_random"][p] = curves.area_random[0]
        columns["drop"][p] = curves.drop[0]
        steps.advance()


def _randomise(
    network: AUNetwork,
    sample: MapSample,
    pairs: Pairs,
    costly: list[int],
    maps: NDArray[np.float32],
    columns: Columns,
    preset: str,
    draws: int,
    seed: int,
    steps: _Steps,
) -> list[Randomisation]:
    rows = sorted({pairs[p][0] for p in costly})
    place = {row: n for n, row in enumerate(rows)}
    x = network.prepare(sample.crops[rows])
    local = [(place[pairs[p][0]], pairs[p][1]) for p in costly]
    runs = [
        randomise(
            network.logits_module,
            x,
            local,
            preset,
            maps=maps[costly],
            seed=seed + draw,
            on_layer=lambda _name: steps.advance(),
        )
        for draw in range(draws)
    ]
    if runs:
        columns["top_cosine"][costly] = _mean([run.cosine[0] for run in runs])
        columns["full_cosine"][costly] = _mean([run.cosine[-1] for run in runs])
        columns["full_rank"][costly] = _mean([run.rank[-1] for run in runs])
    return runs


def _of_au(
    au: int,
    of: NDArray[np.int_],
    pairs: Pairs,
    maps: NDArray[np.float32],
    columns: Columns,
    agreement: AUAgreement,
    sample: MapSample,
) -> AUQuality:
    mine = np.flatnonzero(of == au)
    figures = {name: _figure(name, columns[name][mine]) for name in FIGURES}
    row = agreement.aus.index(au)
    figures["same_au"] = _known(
        agreement.own[row], int((~np.isnan(agreement.own[row])) * len(mine))
    )
    together = sum(len(sample.active[pairs[p][0]]) > 1 for p in mine)
    figures["other_aus"] = _known(agreement.others(au), together)
    nearest = agreement.nearest(au, LEAST_FRAMES)
    if nearest is not None:
        shared = int(agreement.frames[row, agreement.aus.index(nearest[0])])
        figures["nearest"] = _known(nearest[1], shared)
    if sample.stages:
        stages = between_stages(maps[mine], [sample.stages[pairs[p][0]] for p in mine])
        figures["within_stage"] = _known(stages.within, stages.within_pairs)
        figures["across_stages"] = _known(stages.across, stages.across_pairs)
    return AUQuality(au, len(mine), figures, None if nearest is None else nearest[0])


def _figure(name: str, values: NDArray[np.float64]) -> Figure:
    known = values[~np.isnan(values)]
    if not len(known):
        return Figure(None, 0)
    taken = np.median(known) if FIGURES[name][0] == "median" else known.mean()
    return Figure(float(taken), len(known))


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
