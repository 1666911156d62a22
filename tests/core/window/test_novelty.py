"""Novelty, noise, the ring buffer, and the scale that all prototypes share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from facestage.core.clustering.similarity import NoiseModel
from facestage.core.config import WindowConfig
from facestage.core.window import MapInput, WindowBank
from facestage.core.window.comparison import Overlap, gain_if_noisier
from facestage.core.window.noise import WindowNoise
from facestage.core.window.novelty import (
    NEW,
    UNCLEAR,
    Novelty,
    Verdict,
    _coherence,
    judge_cluster,
)
from facestage.core.window.prototypes import PrototypeMemory
from facestage.core.window.ring import MapRing

from tests.support.streams import unit

D = 200
PRIOR = WindowConfig().coherence_prior
KNOWN = Verdict(Novelty.KNOWN, 0)


class Scene:
    """A window with one known prototype and, at its end, maps that match none.

    Args:
        cosine: of the clean pattern behind the last maps with the known one.
        noise: deviation of their noise; that of the known maps is .3 of a map's length.
        last: how many there are.
        drift: the known maps turn into the last ones step by step over so many maps.
    """

    def __init__(self, cosine: float, noise: float, last: int = 12, drift: int = 0) -> None:
        rng = np.random.default_rng(5)
        config = WindowConfig()
        a, b = unit(rng.standard_normal((2, D)))
        b = unit(b - (b @ a) * a)
        n = 80
        angle = np.zeros(n)
        angle[n - last :] = np.arccos(cosine)
        if drift:
            ramp = np.arccos(cosine) * (np.arange(drift) + 1) / drift
            angle[n - last - drift : n - last] = ramp
        clean = np.cos(angle)[:, None] * a + np.sin(angle)[:, None] * b
        scale = np.where(np.arange(n) < n - last, 0.3, noise) / D**0.5
        x = unit(clean + scale[:, None] * rng.standard_normal((n, D))).astype(np.float32)
        self.ring = MapRing(config.size)
        for frame in range(n):
            self.ring.append(frame, confident=True)
        self.memory = PrototypeMemory(config, D)
        self.memory.create(0)
        self.memory.labels[: n - last] = 0
        self.memory.add(0, x[: n - last - drift].sum(axis=0), n - last - drift)
        self.memory.add(0, x[n - last - drift : n - last].sum(axis=0), drift)
        self.noise = WindowNoise(config)
        self.noise.learn(NoiseModel(1 / 1.09, (0.0,)), np.empty(0), 0)
        self.memory.refresh(self.noise.energies)
        self.rows = np.zeros((config.size, D), np.float32)
        self.rows[:n] = x
        self.positions = np.arange(n - last, n)

    def verdict(self) -> Verdict:
        overlap = Overlap(self.memory.with_maps(), np.zeros((1, D)), np.zeros(1))
        return judge_cluster(self.positions, self.rows, overlap, self.ring, self.noise, self.memory)


def test_what_differs_clearly_is_a_new_prototype() -> None:
    assert Scene(cosine=0.5, noise=0.3).verdict() == NEW


def test_what_hardly_differs_is_the_known_prototype() -> None:
    assert Scene(cosine=0.97, noise=0.3).verdict() == KNOWN


def test_too_few_maps_wait() -> None:
    assert Scene(cosine=0.5, noise=0.3, last=3).verdict() == UNCLEAR


@pytest.mark.parametrize("last", [7, 12])
def test_noise_of_a_cluster_does_not_make_it_new(last: int) -> None:
    # The same pattern with seven times the noise: its plain mean has a cosine far below `match`.
    scene = Scene(cosine=1.0, noise=2.2, last=last)
    maps = scene.rows[scene.positions]
    mean = maps.mean(axis=0)
    prototype = scene.memory.means[0]
    plain = mean @ prototype / np.linalg.norm(mean) / np.linalg.norm(prototype)
    assert plain < WindowConfig().match
    assert scene.verdict() in (UNCLEAR, KNOWN)
    if last == 12:
        assert scene.verdict() == KNOWN


def test_a_noisy_pattern_that_is_another_one_is_new_all_the_same() -> None:
    assert Scene(cosine=0.2, noise=0.8, last=16).verdict() == NEW


def test_where_a_drift_was_cut_nothing_begins() -> None:
    assert Scene(cosine=0.55, noise=0.3, last=14).verdict() == NEW
    assert Scene(cosine=0.55, noise=0.3, last=14, drift=40).verdict() == KNOWN


def test_all_prototypes_share_the_scale_of_the_nearest() -> None:
    rng = np.random.default_rng(3)
    vague, sharp = unit(rng.standard_normal((2, D)))
    memory = PrototypeMemory(WindowConfig(), D)
    for row, pattern in enumerate((vague, sharp)):
        memory.create(0)
        memory.add(row, 40 * pattern, 40)
    for prototype, fit in enumerate((0.5, 0.9)):
        memory._prototypes[prototype].fit = fit
    memory.refresh(np.zeros(129))
    x = unit(0.62 * vague + 0.78 * sharp).astype(np.float32)
    similarity, scale = memory.similarity(x)
    assert scale == 0.9
    # With a scale for each the vague one would win: .62/.5 against .78/.9.
    assert max(similarity) == similarity[1]
    assert similarity[1] == pytest.approx(float(x @ sharp) / 0.9, rel=1e-5)


def test_few_maps_must_differ_more_clearly_than_many() -> None:
    assert Scene(cosine=0.5, noise=0.3, last=4).verdict() == NEW
    verdicts = [Scene(cosine=0.81, noise=0.3, last=last).verdict() for last in (4, 7)]
    assert verdicts == [UNCLEAR, NEW]


def test_few_maps_that_hardly_resemble_each_other_wait() -> None:
    assert Scene(cosine=0.8, noise=0.3, last=5).verdict() == NEW
    assert Scene(cosine=0.8, noise=1.6, last=5).verdict() == UNCLEAR


def test_a_young_prototype_may_be_as_noisy_as_what_continues_it() -> None:
    rng = np.random.default_rng(6)
    memory = PrototypeMemory(WindowConfig(), D)
    for row, count in enumerate((6, 128)):
        memory.create(0)
        noisy = unit(rng.standard_normal(D)) + 0.4 * rng.standard_normal((count, D)) / D**0.5
        memory.add(row, unit(noisy).sum(axis=0), count)
    energies = NoiseModel(0.86, ()).energies(128)
    memory.refresh(energies)
    known = memory.with_maps()
    np.testing.assert_allclose(gain_if_noisier(memory, known, energies, 1.0), 1.0, rtol=1e-6)
    young, old = gain_if_noisier(memory, known, energies, 4.0)
    assert young > 1.03 > 1.005 > old >= 1.0


def test_noise_that_lasts_does_not_pass_for_coherence() -> None:
    rng = np.random.default_rng(7)
    pattern, noise = unit(rng.standard_normal(D)), np.zeros((12, D))
    for i, fresh in enumerate(rng.standard_normal((12, D)) / D**0.5):
        noise[i] = fresh if not i else 0.85 * noise[i - 1] + (1 - 0.85**2) ** 0.5 * fresh
    maps, age = unit(pattern + noise).astype(np.float32), np.arange(12)
    lasting = NoiseModel(0.5, tuple(0.85**lag for lag in range(1, 15)))
    fleeting = NoiseModel(0.5, ())
    # Two maps with independent noise of the pattern's own length have a cosine of a half.
    assert abs(_coherence(maps, age, lasting, PRIOR) - 0.5) < 0.12
    assert _coherence(maps, age, fleeting, PRIOR) > _coherence(maps, age, lasting, PRIOR) + 0.1


def test_a_new_prototype_brings_along_what_its_first_maps_said() -> None:
    rng = np.random.default_rng(8)
    clean = unit(rng.standard_normal((2, D)))
    x = unit(np.repeat(clean, (60, 30), axis=0) + 0.3 * rng.standard_normal((90, D)) / D**0.5)
    shown_at = []
    for head_start in (0.0, WindowConfig().head_start):
        bank = WindowBank(replace(WindowConfig(), head_start=head_start), D)
        slot = bank.open()
        letters = [bank.update([MapInput(slot, i, row)])[0].letter for i, row in enumerate(x)]
        assert set(letters) == {"A", "B"}
        shown_at.append(letters.index("B") - 60)
    assert shown_at[1] < shown_at[0] <= 8


def test_where_maps_hardly_differ_a_smaller_difference_is_one() -> None:
    config, found = WindowConfig(), []
    for level in (0.6, 0.85, 0.97):
        noise = WindowNoise(config)
        noise.learn(NoiseModel(level, ()), np.empty(0), 0)
        found.append(noise.split)
    assert found[0] == config.split < found[1] < found[2] == config.split_clear


def test_positions_of_a_ring_are_reused_and_in_order() -> None:
    ring = MapRing(4)
    for frame in range(6):
        ring.append(frame, confident=frame != 5)
        ring.parts[ring.position] = frame
    assert len(ring) == 4
    assert ring.frames[ring.order()].tolist() == [2, 3, 4, 5]
    assert ring.parts[ring.order()].tolist() == [2, 3, 4, 5]
    assert ring.confident[ring.order()].tolist() == [True, True, True, False]
