"""Seeded streams of synthetic relevance maps of one Action Unit, with the truth behind them.

Six levels of difficulty, from clean to hard. Every level has the troubles of a living face: the
patches of a pattern wander and swell, head and crop are never quite aligned, one pattern turns into
the next over some maps or between two, patterns return after long absence, single maps are garbage
(blink, blur, occlusion), the AU is off for a while, and noise is smooth in space and correlated in
time.

A stream has a permanent name such as ``medium/3/eval-1``: level, scenario, seed. Names of the kind
``dev-N`` are for tuning; ``eval-N`` are drawn from another range of seeds and only for reporting.

    python benchmarks/streams.py        # cosines within and between the patterns of each level
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

__all__ = ["LEVELS", "SCENARIOS", "Level", "Scenario", "Stream", "make_stream", "names"]

FINE = 32
"""Side of the maps as drawn, cells."""
SIDE = 16
"""Side after pooling, cells."""

# Where relevance lies on faces: brows, glabella, eyes, lids, nose, cheeks, mouth, chin.
PLACES = np.array(
    [
        (0.40, 0.30), (0.60, 0.30), (0.25, 0.29), (0.75, 0.29), (0.50, 0.33), (0.50, 0.18),
        (0.32, 0.40), (0.68, 0.40), (0.32, 0.44), (0.68, 0.44), (0.50, 0.55), (0.42, 0.58),
        (0.58, 0.58), (0.28, 0.58), (0.72, 0.58), (0.38, 0.75), (0.62, 0.75), (0.50, 0.71),
        (0.50, 0.79), (0.50, 0.89),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Level:
    """Difficulty of a stream.

    Attributes:
        additive: noise everywhere on the face, relative to the peak of a patch.
        multiplicative: noise in proportion to the map itself.
        drift: wandering of the patches, fractions of the face.
        swell: logarithmic standard deviation of their heights.
        cosine: range of the cosines between the descriptors of clean patterns.
    """

    additive: float
    multiplicative: float
    drift: float
    swell: float
    cosine: tuple[float, float]


LEVELS: dict[str, Level] = {
    "clean": Level(0.03, 0.10, 0.005, 0.06, (0.10, 0.60)),
    "clean-close": Level(0.03, 0.10, 0.005, 0.06, (0.65, 0.85)),
    "easy": Level(0.10, 0.25, 0.008, 0.10, (0.10, 0.60)),
    "close": Level(0.18, 0.40, 0.010, 0.12, (0.60, 0.82)),
    "medium": Level(0.18, 0.40, 0.012, 0.18, (0.20, 0.75)),
    "hard": Level(0.30, 0.55, 0.016, 0.25, (0.45, 0.85)),
}


@dataclass(frozen=True)
class Scenario:
    """What happens in a stream.

    Attributes:
        patterns: how many there are.
        segment: median length of a segment, maps.
        long_absence: the first pattern returns only after several hundred maps of others.
        memory: correlation of the noise from one map to the next.
        outliers: share of maps at which a burst of garbage begins.
        gaps: share of the changes at which the AU is off for a while.
    """

    patterns: int
    segment: float = 75.0
    long_absence: bool = False
    memory: float = 0.5
    outliers: float = 0.01
    gaps: float = 0.25


SCENARIOS: dict[str, Scenario] = {
    "1": Scenario(1),
    "2": Scenario(2),
    "3": Scenario(3),
    "4": Scenario(4),
    "return": Scenario(3, long_absence=True),
    "ar-1": Scenario(1, memory=0.85),
    "ar-2": Scenario(2, memory=0.85),
    "ar-3": Scenario(3, memory=0.85),
}


@dataclass(frozen=True)
class Stream:
    """A stream; only frames at which the AU is active have a map.

    Attributes:
        descriptors: ``(n, 256)`` float32 at unit length.
        masses: ``(n,)`` strength of the AU, known to about a tenth, as the mass of its relevance
            tells it.
        frames: ``(n,)`` frame of each map.
        labels: ``(n,)`` pattern behind each map.
        judged: ``(n,)`` False where the truth is open: transitions and garbage.
    """

    descriptors: NDArray[np.float32]
    masses: NDArray[np.float64]
    frames: NDArray[np.int64]
    labels: NDArray[np.int64]
    judged: NDArray[np.bool_]


def names(kind: str, seeds: int, scenarios: tuple[str, ...] = ("1", "2", "3", "4", "return")):
    """Yield the permanent names of all levels, e.g. ``names("eval", 2)``."""
    for level in LEVELS:
        for scenario in scenarios:
            for seed in range(seeds):
                yield f"{level}/{scenario}/{kind}-{seed}"


def _axes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    axis = (np.arange(FINE) + 0.5) / FINE
    x, y = np.meshgrid(axis, axis)
    return x, y


def _draw(blobs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw ``(m, 6)`` patches: x, y, two widths, angle, height."""
    x, y = _axes()
    image = np.zeros((FINE, FINE))
    for bx, by, wide, tall, angle, height in blobs:
        c, s = np.cos(angle), np.sin(angle)
        u, v = (x - bx) * c + (y - by) * s, (y - by) * c - (x - bx) * s
        image += height * np.exp(-0.5 * ((u / wide) ** 2 + (v / tall) ** 2))
    return image


def _pool(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average ``(…, FINE, FINE)`` maps down to ``(…, SIDE, SIDE)``."""
    ratio = FINE // SIDE
    return maps.reshape(*maps.shape[:-2], SIDE, ratio, SIDE, ratio).mean((-3, -1))


def _patches(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    place = PLACES[rng.integers(len(PLACES), size=count)] + rng.normal(0, 0.015, (count, 2))
    widths = rng.uniform(0.03, 0.08, (count, 2)) * (1.3, 1.0)
    # One patch in eight speaks against the AU.
    sign = np.where(rng.random(count) < 0.12, -0.4, 1.0)
    return np.column_stack(
        [place, widths, rng.uniform(-0.6, 0.6, count), sign * rng.uniform(0.5, 1.2, count)]
    )


def _patterns(
    rng: np.random.Generator, count: int, cosine: tuple[float, float]
) -> list[NDArray[np.float64]]:
    """Draw patterns that share some patches, with cosines in a range."""
    for _ in range(5000):
        base = _patches(rng, int(rng.integers(1, 3)))
        drawn = []
        for _ in range(count):
            shared = base.copy()
            shared[:, 5] *= rng.uniform(0.35, 1.3, len(base))
            drawn.append(np.concatenate([shared, _patches(rng, int(rng.integers(1, 4)))]))
        images = np.stack([_pool(_draw(p)).ravel() for p in drawn])
        images /= np.linalg.norm(images, axis=1, keepdims=True)
        pairs = (images @ images.T)[np.triu_indices(count, 1)]
        if not pairs.size or (pairs.min() >= cosine[0] and pairs.max() <= cosine[1]):
            return drawn
    raise AssertionError(f"no {count} patterns with cosines in {cosine}")


def _wander(rng: np.random.Generator, shape: tuple[int, ...], memory: float) -> NDArray[np.float64]:
    """Return a first-order autoregressive series of unit variance along the first axis."""
    series = rng.standard_normal(shape)
    fresh = np.sqrt(1 - memory**2)
    for t in range(1, len(series)):
        series[t] = memory * series[t - 1] + fresh * series[t]
    return series


def _plan(
    rng: np.random.Generator, scenario: Scenario, length: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Return shares ``(T, K)`` of the patterns, the label, what is in transition, and strength.

    Frames without a label (−1) have the AU off.
    """
    share = np.zeros((length, scenario.patterns))
    label = np.full(length, -1)
    turning = np.zeros(length, bool)
    strength = np.ones(length)
    order = [0, *(1 + rng.permutation(max(scenario.patterns - 1, 1))), 0]
    t, previous, k = 0, -1, 0
    while t < length:
        if scenario.long_absence:
            now = int(order[k % len(order)])
            lasts = int(rng.integers(150, 300)) if now == 0 else int(rng.integers(350, 500))
        else:
            others = [p for p in range(scenario.patterns) if p != previous]
            now = int(rng.choice(others)) if others else 0
            lasts = int(np.clip(rng.lognormal(np.log(scenario.segment), 0.6), 15, 450))
        k += 1
        pause = previous >= 0 and rng.random() < scenario.gaps
        if pause:
            t += int(rng.integers(10, 60))
        end = min(length, t + lasts)
        share[t:end, now], label[t:end] = 1.0, now
        if pause or previous < 0:
            rise = min(10, max(end - t, 0))
            strength[t : t + rise] = np.linspace(0.35, 1.0, 10)[:rise]
        elif now != previous and rng.random() >= 0.2:
            span = int(rng.integers(5, 11))
            a = max(0, t - span // 2)
            b = min(length, a + span)
            new = (np.arange(a, b) - a + 0.5) / span
            share[a:b] = 0.0
            share[a:b, now], share[a:b, previous] = new, 1 - new
            label[a:b], turning[a:b] = np.where(new > 0.5, now, previous), True
        previous, t = now, end
    return share, label, turning, strength


def make_stream(name: str, length: int = 1800) -> Stream:
    """Make the stream of a permanent name, see the module.

    Args:
        name: ``level/scenario/kind-seed``.
        length: frames, those with the AU off included.
    """
    level_name, scenario_name, kind = name.split("/")
    level, scenario = LEVELS[level_name], SCENARIOS[scenario_name]
    rng = np.random.default_rng([zlib.crc32(kind.encode()), zlib.crc32(name.encode())])
    drawn = _patterns(rng, scenario.patterns, level.cosine)
    share, label, turning, strength = _plan(rng, scenario, length)
    places = [_wander(rng, (length, len(p), 2), np.exp(-1 / 90)) * level.drift for p in drawn]
    heights = [np.exp(_wander(rng, (length, len(p)), np.exp(-1 / 60)) * level.swell) for p in drawn]
    head = _wander(rng, (length, 1, 2), np.exp(-1 / 20)) * 0.004
    strength = strength * np.exp(_wander(rng, (length,), np.exp(-1 / 45)) * 0.25)

    active = np.flatnonzero(label >= 0)
    maps = np.zeros((len(active), FINE, FINE))
    for i, t in enumerate(active):
        for p in np.flatnonzero(share[t]):
            blobs = drawn[p].copy()
            blobs[:, :2] += places[p][t] + head[t]
            blobs[:, 5] *= heights[p][t]
            maps[i] += share[t, p] * _draw(blobs)

    def grain(width: float) -> NDArray[np.float64]:
        noise = gaussian_filter(
            rng.standard_normal(maps.shape), (0, FINE * width, FINE * width), mode="nearest"
        )
        noise /= noise.std()
        for i in range(1, len(noise)):
            noise[i] = scenario.memory * noise[i - 1] + np.sqrt(1 - scenario.memory**2) * noise[i]
        return noise

    x, y = _axes()
    face = np.exp(-0.5 * (((x - 0.5) / 0.33) ** 2 + ((y - 0.55) / 0.38) ** 2))
    maps *= strength[active, None, None] * (1 + level.multiplicative * grain(1 / 40))
    maps += level.additive * face * (0.6 * grain(1 / 50) + 0.4 * grain(1 / 20))
    garbage = np.zeros(len(active), bool)
    for i in np.flatnonzero(rng.random(len(active)) < scenario.outliers):
        garbage[i : i + int(rng.choice([1, 1, 1, 2, 3]))] = True
    for i in np.flatnonzero(garbage):
        maps[i] = 0.15 * maps[i] + _draw(_patches(rng, 3)) * rng.uniform(0.3, 1.0)
        maps[i] += level.additive * face * rng.standard_normal(face.shape)
    rows = _pool(maps).reshape(len(maps), -1)
    masses = strength[active] * np.exp(0.1 * rng.standard_normal(len(active)))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Stream(
        rows.astype(np.float32),
        masses,
        active.astype(np.int64),
        label[active].astype(np.int64),
        ~turning[active] & ~garbage,
    )


def main() -> None:
    """Print what the levels look like."""
    for level in LEVELS:
        within, between = [], []
        for seed in range(2):
            stream = make_stream(f"{level}/3/dev-{seed}", 900)
            x, labels = stream.descriptors[stream.judged], stream.labels[stream.judged]
            cosines = x @ x.T
            upper = np.triu_indices(len(x), 1)
            same = labels[upper[0]] == labels[upper[1]]
            within.append(cosines[upper][same])
            between.append(cosines[upper][~same])
        quantiles = [
            np.quantile(np.concatenate(v), (0.1, 0.5, 0.9)).round(2).tolist()
            for v in (within, between)
        ]
        print(f"{level:12s} within {quantiles[0]}  between {quantiles[1]}")


if __name__ == "__main__":
    main()
