"""The sliding window: letters that appear, hold, return and never change their meaning."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from facestage.core.clustering.graph import ANY_MAP, NO_MAP, degrees, update_graph
from facestage.core.clustering.similarity import NoiseModel
from facestage.core.clustering.spectral import (
    SprayPreset,
    knn_graph,
    laplacian,
    merge_clusters,
    partition,
    spray,
)
from facestage.core.clustering.subspace import Filter, track_subspace
from facestage.core.config import WindowConfig
from facestage.core.errors import ConfigError
from facestage.core.window import MapInput, WindowBank, WindowUpdate
from facestage.core.window.comparison import agreeing_pair, is_mixture
from facestage.core.window.letters import LetterTrack
from facestage.core.window.prototypes import PrototypeMemory
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from tests.support.streams import Stream, make_stream, unit
from tests.support.textbook_window import TextbookWindow

CONFIG = WindowConfig()


class Window:
    """One window of a bank of its own, with the calls of a single window."""

    def __init__(self, config: WindowConfig | None = None, dimension: int = 256) -> None:
        self.bank = WindowBank(config, dimension)
        self.slot = self.bank.open()

    def update(
        self, index: int, descriptor: np.ndarray | None, relevance: np.ndarray | None = None
    ) -> WindowUpdate:
        return self.bank.update([MapInput(self.slot, index, descriptor, relevance)])[0]

    def gap(self) -> None:
        self.bank.gap(self.slot)

    def reset(self) -> None:
        self.bank.reset()
        self.slot = self.bank.open()

    def prototype(self, letter: str) -> np.ndarray:
        return self.bank.track(self.slot).prototype(letter)

    @property
    def letters(self) -> tuple[str, ...]:
        return self.bank.track(self.slot).letters

    @property
    def counts(self) -> dict[str, int]:
        return self.bank.track(self.slot).counts

    def __len__(self) -> int:
        return len(self.bank.track(self.slot))


@pytest.fixture(autouse=True)
def _no_warnings() -> None:
    warnings.simplefilter("error")


def feed(window: Window, descriptors: np.ndarray, start: int = 0) -> list[WindowUpdate]:
    return [window.update(start + i, x) for i, x in enumerate(descriptors)]


def history(updates: Sequence[WindowUpdate], start: int = 0) -> list[str]:
    """Return one letter per map, dated by ``since`` and with retired letters replaced."""
    letters: list[str] = []
    previous = ""
    for i, update in enumerate(updates):
        letters.append(update.letter)
        if update.letter != previous:
            back = max(update.since - start, 0)
            letters[back:i] = [update.letter] * (i - back)
        previous = update.letter
        for gone, into in update.retired:
            letters = [into if x == gone else x for x in letters]
            previous = into if previous == gone else previous
    return letters


def agreement(stream: Stream, letters: Sequence[str]) -> float:
    return float(adjusted_rand_score(stream.labels, letters))


# ---- one, several and returning patterns


def test_one_drifting_pattern_keeps_one_letter() -> None:
    # Rate over seeds: the statement is statistical.
    right = []
    for seed, noise in itertools.product(range(3), (0.05, 0.3)):
        window = Window()
        feed(window, make_stream(seed, [(0, 120)], noise=noise, drift=0.012).descriptors)
        right.append(window.letters == ("A",))
    assert np.mean(right) >= 0.95


@pytest.mark.parametrize("noise", [0.08, 0.3])
@pytest.mark.parametrize(
    "segments",
    [
        [(0, 40), (1, 40)],
        [(0, 60), (1, 50), (2, 60), (0, 50)],
        [(0, 60), (1, 60), (2, 60), (3, 60), (1, 40)],
    ],
)
def test_patterns_get_letters_in_the_order_they_come(
    segments: list[tuple[int, int]], noise: float
) -> None:
    expected = "ABCD"[: len({p for p, _ in segments})]
    scores = []
    for seed in range(2):
        stream = make_stream(20 + seed, segments, noise=noise)
        window = Window()
        updates = feed(window, stream.descriptors)
        assert "".join(window.letters) == expected
        scores.append(agreement(stream, history(updates)))
    assert np.mean(scores) >= 0.9


def test_an_old_pattern_regains_its_letter_after_leaving_the_window() -> None:
    stream = make_stream(30, [(0, 60), (1, 200), (0, 60)], noise=0.2)
    updates = feed(Window(), stream.descriptors)
    letters = history(updates)
    assert letters[30] == "A"
    assert letters[150] == "B"
    assert letters[-1] == "A"
    assert {x for update in updates for x in update.born} == {"A", "B"}


def test_window_agrees_with_the_whole_sequence() -> None:
    for seed in range(2):
        stream = make_stream(40 + seed, [(0, 70), (1, 40), (0, 40), (2, 40)], noise=0.25)
        letters = history(feed(Window(), stream.descriptors))
        assert adjusted_rand_score(spray(stream.descriptors).labels, letters) >= 0.9


def test_a_change_is_confirmed_late_and_dated_back() -> None:
    stream = make_stream(50, [(0, 80), (1, 40)], noise=0.1)
    updates = feed(Window(), stream.descriptors, start=1000)
    first = next(i for i, u in enumerate(updates) if u.letter == "B")
    assert 80 + CONFIG.min_new - 1 <= first <= 80 + 12
    assert updates[first].born == ("B",)
    assert updates[first].since == pytest.approx(1080, abs=1)
    assert all(u.letter == "A" and u.since == 1000 for u in updates[:first])
    assert all(u.since == updates[first].since for u in updates[first:])


def test_short_disturbances_change_nothing() -> None:
    stream = make_stream(51, [(0, 120)], noise=0.1)
    other = make_stream(52, [(0, 3)], noise=0.1).descriptors
    x = stream.descriptors.copy()
    for at in (70, 90, 110):
        x[at : at + 2] = other[:2]
    updates = feed(Window(), x)
    assert {u.letter for u in updates} == {"A"}
    assert sum(len(u.born) for u in updates) == 1


def test_first_letter_comes_with_the_first_map() -> None:
    update = Window().update(17, make_stream(0, [(0, 1)]).descriptors[0])
    assert update == WindowUpdate("A", 17, ("A",))


def test_first_pattern_is_the_first_real_cluster() -> None:
    # Two maps of something else at the onset do not use up a letter.
    onset = make_stream(53, [(0, 2)], noise=0.1).descriptors
    stream = make_stream(54, [(0, 60), (1, 60)], noise=0.1)
    window = Window()
    updates = feed(window, np.concatenate([onset, stream.descriptors]))
    assert window.letters == ("A", "B")
    assert {u.letter for u in updates[:60]} == {"A"}


# ---- gaps


def test_after_a_gap_a_known_pattern_is_shown_at_once() -> None:
    stream = make_stream(60, [(0, 80), (1, 80), (0, 20)], noise=0.15)
    window = Window()
    before = feed(window, stream.descriptors[:160])
    assert before[-1].letter == "B"
    window.gap()
    after = feed(window, stream.descriptors[160:], start=500)
    assert [u.letter for u in after] == ["A"] * 20
    assert {u.since for u in after} == {500}


def test_a_run_never_reaches_back_over_a_gap() -> None:
    stream = make_stream(61, [(0, 80), (1, 40)], noise=0.15)
    window = Window()
    feed(window, stream.descriptors[:83])
    window.gap()
    after = feed(window, stream.descriptors[83:], start=200)
    assert after[-1].letter == "B"
    assert min(u.since for u in after) >= 200


def test_gaps_do_not_disturb_a_pattern() -> None:
    stream = make_stream(62, [(0, 120)], noise=0.2)
    window = Window()
    for i, x in enumerate(stream.descriptors):
        if i % 9 == 0:
            window.gap()
        update = window.update(2 * i, x)
        assert update.letter == "A"
        assert update.since == 2 * (i - i % 9)


# ---- prototypes


def test_prototype_is_the_mean_of_the_maps_of_its_letter() -> None:
    stream = make_stream(70, [(0, 100), (1, 100)], noise=0.1)
    window = Window()
    levels = np.array([3.0, 7.0])
    rng = np.random.default_rng(0)
    for i, (x, label) in enumerate(zip(stream.descriptors, stream.labels, strict=True)):
        window.update(i, x, levels[label] + rng.uniform(-1, 1, (5, 5)).astype(np.float32))
    a, b = window.prototype("A"), window.prototype("B")
    assert a.shape == (5, 5)
    assert a.dtype == np.float32
    # A map or two around the change may be counted for the wrong side.
    assert a.mean() == pytest.approx(3.0, abs=0.15)
    assert b.mean() == pytest.approx(7.0, abs=0.15)
    assert sum(window.counts.values()) == 200


def test_prototype_is_complete_in_a_window_shorter_than_its_buffer_of_maps() -> None:
    stream = make_stream(73, [(0, 60)], noise=0.1)
    window = Window(WindowConfig(size=12, recent_maps=16))
    for i, x in enumerate(stream.descriptors):
        window.update(i, x, np.full((2, 2), i, np.float32))
    # All maps are kept in the mean, early ones too: 0 … 59.
    np.testing.assert_allclose(window.prototype("A"), 29.5, atol=1.0)


def test_prototype_exists_at_the_very_first_map() -> None:
    window = Window()
    picture = np.arange(9, dtype=np.float32).reshape(3, 3)
    window.update(0, make_stream(0, [(0, 1)]).descriptors[0], picture)
    np.testing.assert_array_equal(window.prototype("A"), picture)
    picture[:] = 0  # the window keeps its own copy
    assert window.prototype("A").max() == 8


def test_unknown_letters_and_missing_maps_are_named() -> None:
    window = Window()
    with pytest.raises(ConfigError, match=r"no prototype 'A'; known are none"):
        window.prototype("A")
    feed(window, make_stream(71, [(0, 10)]).descriptors)
    with pytest.raises(ConfigError, match=r"no prototype 'Q'; known are A"):
        window.prototype("Q")
    with pytest.raises(ConfigError, match=r"pass the map to update"):
        window.prototype("A")


def test_agreeing_letters_are_joined_and_the_older_stays() -> None:
    config = dataclasses.replace(CONFIG, min_cluster=4)
    memory = PrototypeMemory(config, 50)
    rng = np.random.default_rng(1)
    pattern = unit(rng.standard_normal(50))
    ids = []
    for born in (0, 500):
        identity = memory.create(born)
        memory.give_letter(identity)
        for _ in range(20):
            memory.add(identity, unit(pattern + 0.02 * rng.standard_normal(50)))
        ids.append(identity)
    memory.refresh(NoiseModel(0.98, (0.0,)).energies(128))
    assert agreeing_pair(memory, 1000, WindowConfig().split) == (ids[1], ids[0])
    assert memory.absorb(ids[1], ids[0]) == ("B", "A")
    assert list(memory.by_letter()) == ["A"]
    assert memory.count(ids[0]) == 40
    # The letter of a pattern that is gone is not given again.
    assert memory.give_letter(memory.create(1001)) == ("C", True)


def test_retired_letter_shows_the_one_that_stands_for_it() -> None:
    # Two patterns with a cosine of .7 become two letters; a low threshold joins them later.
    stream = make_stream(72, [(0, 50), (1, 100)], noise=0.1, cosine=(0.65, 0.75))
    window = Window(WindowConfig(alias=0.5, size=64))
    updates = [
        window.update(i, x, np.ones((2, 2), np.float32)) for i, x in enumerate(stream.descriptors)
    ]
    retired = [pair for update in updates for pair in update.retired]
    assert retired == [("B", "A")]
    assert window.letters == ("A",)
    assert updates[-1].letter == "A"
    assert set(history(updates)) == {"A"}
    np.testing.assert_allclose(window.prototype("B"), window.prototype("A"))
    assert window.counts == {"A": 150}


def test_a_blend_of_two_prototypes_is_recognised() -> None:
    memory = PrototypeMemory(CONFIG, 30)
    a, b, c = np.eye(30)[:3]
    for pattern in (a, b):
        identity = memory.create(0)
        for _ in range(10):
            memory.add(identity, pattern)
    memory.refresh(NoiseModel(0.99, (0.0,)).energies(128))
    assert is_mixture(memory, 0.6 * a + 0.5 * b, float(np.hypot(0.6, 0.5)))
    assert not is_mixture(memory, c, 1.0)
    assert not is_mixture(memory, a, 1.0)  # one of them alone is not a blend


def test_memory_follows_a_pattern_with_a_bounded_weight() -> None:
    memory = PrototypeMemory(CONFIG, 4)
    a, b = np.eye(4)[:2]
    identity = memory.create(0)
    for pattern, times in ((a, 5000), (b, 400)):
        for _ in range(times):
            memory.add(identity, pattern)
            memory.expel(identity, pattern)
    assert memory.count(identity) <= CONFIG.memory + 1
    memory.refresh(NoiseModel(0.99, (0.0,)).energies(128))
    assert memory.with_maps().tolist() == [identity]
    assert memory.means[identity] @ b / memory.lengths[identity] > 0.9


# ---- contract


def three_patterns() -> np.ndarray:
    return make_stream(80, [(0, 50), (1, 25), (2, 25), (0, 20)], noise=0.2).descriptors


def test_deterministic() -> None:
    x = three_patterns()
    assert feed(Window(), x) == feed(Window(), x.copy())


def test_reset_is_as_new() -> None:
    x = three_patterns()
    window = Window()
    feed(window, x[::-1])
    window.reset()
    assert window.letters == ()
    assert feed(window, x) == feed(Window(), x)


@pytest.mark.parametrize("at", [0, 1, 5, 55, 100])
def test_pickle_continues_where_it_was(at: int) -> None:
    x = three_patterns()
    window = Window()
    feed(window, x[:at])
    copy = pickle.loads(pickle.dumps(window))
    assert feed(copy, x[at:], start=at) == feed(window, x[at:], start=at)


def test_two_windows_do_not_touch_each_other() -> None:
    # 1×100 equals 100×1 as each map is one update; interleaving sources must not matter either.
    x, y = three_patterns(), make_stream(81, [(0, 60), (1, 60)], noise=0.2).descriptors
    first, second = Window(), Window()
    mixed = [
        (first.update(i, a), second.update(i, b))
        for i, (a, b) in enumerate(zip(x, y, strict=False))
    ]
    assert [a for a, _ in mixed] == feed(Window(), x)
    assert [b for _, b in mixed] == feed(Window(), y)


def test_memory_is_bounded() -> None:
    config = WindowConfig(size=32, recent_maps=8)
    window = Window(config)
    x = make_stream(82, [(0, 100), (1, 100)] * 2, noise=0.3).descriptors
    picture = np.ones((16, 16), np.float32)
    sizes = []
    for i, row in enumerate(x):
        window.update(i, row, picture)
        assert len(window) == min(i + 1, 32)
        if i % 50 == 49:
            sizes.append(len(pickle.dumps(window)))
    assert max(sizes[4:]) <= 1.2 * sizes[3]


def test_letters_are_bounded() -> None:
    # 12 unrelated patterns, each long enough to be confirmed.
    rng = np.random.default_rng(3)
    centres = unit(rng.standard_normal((12, 200)))
    x = unit(np.repeat(centres, 20, axis=0) + 0.01 * rng.standard_normal((240, 200)))
    assert len(feed_letters(Window(WindowConfig(size=64), dimension=200), x)) == 12
    full = Window(WindowConfig(max_letters=5, size=32), dimension=200)
    updates = feed(full, x)
    shown = [update.letter for update in updates]
    gone = [letter for update in updates for letter in update.forgotten]
    assert gone == list("ABCDEFG")
    assert len(full.letters) == 5
    # Each pattern still gets a letter of its own: the oldest is forgotten, not the newest misnamed.
    ends = shown[19::20]
    assert ends == list("ABCDEFGHIJKL")


@pytest.mark.parametrize("config", [CONFIG, WindowConfig(size=32, max_letters=3, alias=0.6)])
def test_prototypes_are_the_sums_of_the_maps_that_carry_their_label(config: WindowConfig) -> None:
    stream = make_stream(83, [(0, 60), (1, 40), (2, 50), (3, 40), (0, 40)], noise=0.3)
    window = Window(config)
    memory = window.bank.track(window.slot).memory
    for i, x in enumerate(stream.descriptors):
        window.update(i, x)
        rows = window.bank._descriptors[window.slot]
        for prototype in range(memory.used):
            inside = rows[memory.labels == prototype].sum(axis=0, dtype=float)
            total = inside + memory._outside[prototype]
            np.testing.assert_allclose(memory.totals[prototype], total, atol=1e-4)
            assert memory._prototypes[prototype].n_inside == (memory.labels == prototype).sum()
            assert prototype in memory or not total.any()


def test_a_young_pair_is_joined_although_an_old_one_is_more_similar() -> None:
    noise = NoiseModel(1.0, (0.0,) * 14)
    config = WindowConfig()
    memory = PrototypeMemory(config, 8)

    def pair(axis: int, cosine: float, born: int) -> tuple[int, int]:
        first, second = np.zeros(8), np.zeros(8)
        first[axis] = 1.0
        second[axis], second[axis + 1] = cosine, np.sqrt(1 - cosine**2)
        found = []
        for row in (first, second):
            identity = memory.create(born)
            for _ in range(50):
                memory.add(identity, row)
            found.append(identity)
        return found[0], found[1]

    old = pair(0, (config.split + config.alias) / 2 + 0.002, born=0)
    young = pair(4, (config.split + config.alias) / 2, born=1000)
    memory.refresh(noise.energies(128))
    assert agreeing_pair(memory, 1010, config.split) == (young[1], young[0])
    assert old[0] in memory
    memory.give_letter(young[1], np.ones((2, 2), np.float32))
    memory.absorb(young[1], young[0])
    assert memory.letter(young[0]) == "A"
    assert memory.picture(young[0]).first is not None


def feed_letters(window: Window, x: np.ndarray) -> tuple[str, ...]:
    feed(window, x)
    return window.letters


# ---- degenerate input


def test_identical_maps_are_one_letter() -> None:
    x = np.tile(unit(np.arange(1.0, 10.0)), (100, 1))
    updates = feed(Window(dimension=9), x)
    assert {u.letter for u in updates} == {"A"}


def test_alternating_maps_settle() -> None:
    a, b = unit(np.arange(1.0, 10.0)), np.eye(9)[0]
    updates = feed(Window(dimension=9), np.stack([(a, b)[i % 2] for i in range(120)]))
    # The debounce holds one letter: neither of them ever fills 3 of 4.
    assert {u.letter for u in updates[20:]} == {"A"}


def test_sign_flips_are_two_patterns() -> None:
    a = unit(np.arange(1.0, 10.0))
    x = np.concatenate([np.tile(a, (50, 1)), np.tile(-a, (50, 1))])
    assert "".join(history(feed(Window(dimension=9), x))) == "A" * 50 + "B" * 50


def test_map_without_relevance_holds_the_letter() -> None:
    stream = make_stream(90, [(0, 40), (1, 30)], noise=0.1)
    window = Window()
    assert window.update(0, None) == WindowUpdate("A", 0, ("A",))
    feed(window, stream.descriptors, start=1)
    held = [window.update(100 + i, None) for i in range(5)]
    assert {u.letter for u in held} == {"B"}
    assert len(window) == 70


@pytest.mark.parametrize("bad", [np.full(256, np.nan), np.append(np.ones(255), np.inf)])
def test_descriptors_that_are_not_finite_are_refused_counted_and_leave_no_trace(
    bad: np.ndarray,
) -> None:
    x = three_patterns()
    window, other = Window(), Window()
    feed(window, x[:100])
    feed(other, x[:100])
    letter = window.update(100, bad).letter
    assert letter == other.update(100, None).letter
    assert window.bank.track(window.slot).refused == 1
    assert feed(window, x[100:], start=101) == feed(other, x[100:], start=101)


def test_a_zero_descriptor_is_a_map_without_relevance() -> None:
    x = three_patterns()
    window, other = Window(), Window()
    feed(window, x[:60])
    feed(other, x[:60])
    assert window.update(60, np.zeros(256)) == other.update(60, None)
    assert window.bank.track(window.slot).refused == 0
    assert feed(window, x[60:], start=61) == feed(other, x[60:], start=61)


@pytest.mark.parametrize("bad", [np.ones(255), np.ones((16, 16))])
def test_a_descriptor_of_the_wrong_shape_changes_nothing_anywhere(bad: np.ndarray) -> None:
    x = three_patterns()
    bank = WindowBank()
    slots = [bank.open(), bank.open()]
    before = pickle.dumps(bank)
    with pytest.raises(ValueError, match="does not fit windows of"):
        bank.update([MapInput(slots[0], 0, x[0]), MapInput(slots[1], 0, bad)])
    assert pickle.dumps(bank) == before


def test_unknown_and_repeated_slots_are_named() -> None:
    bank = WindowBank()
    slot = bank.open()
    x = three_patterns()
    with pytest.raises(ConfigError, match="no window has slot 7"):
        bank.update([MapInput(7, 0, x[0])])
    with pytest.raises(ConfigError, match="one map per call"):
        bank.update([MapInput(slot, 0, x[0]), MapInput(slot, 1, x[1])])
    bank.close(slot)
    with pytest.raises(ConfigError, match="no window has slot 0"):
        bank.update([MapInput(slot, 0, x[0])])


def test_bad_maps_and_indices_are_named() -> None:
    x = three_patterns()
    window = Window()
    window.update(5, x[0], np.ones((4, 4), np.float32))
    with pytest.raises(ValueError, match=r"frame 5 came after frame 5"):
        window.update(5, x[1])
    with pytest.raises(ValueError, match=r"shape \(3, 3\) came after \(4, 4\)"):
        window.update(6, x[1], np.ones((3, 3), np.float32))
    with pytest.raises(ValueError, match="relevance map holds NaN"):
        window.update(6, x[1], np.full((4, 4), np.nan, np.float32))
    assert window.update(6, x[1]).letter == "A"


def test_impossible_bounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="enlarge the window"):
        Window(WindowConfig(size=3))
    with pytest.raises(ConfigError, match="choose another block"):
        Window(WindowConfig(block=6))


# ---- many windows


def test_windows_together_give_what_each_gives_alone() -> None:
    rows = [
        make_stream(100 + i, [(0, 40), (1, 30), (0, 20)], noise=0.15).descriptors for i in range(5)
    ]
    alone = [feed(Window(), x) for x in rows]
    bank = WindowBank()
    slots = [bank.open() for _ in rows]  # more than there is room for at first
    together: list[list[WindowUpdate]] = [[] for _ in rows]
    for t in range(90):
        # Not all windows have a map each time, and their order changes.
        for i, update in zip(
            order := [i for i in range(5) if (t + i) % 7][:: 1 if t % 2 else -1],
            bank.update([MapInput(slots[i], t, rows[i][t]) for i in order]),
            strict=True,
        ):
            together[i].append(update)
    singly = [feed_at(x, [t for t in range(90) if (t + i) % 7]) for i, x in enumerate(rows)]
    assert together == singly
    assert all(len(a) == 90 for a in alone)


def feed_at(x: np.ndarray, frames: Sequence[int]) -> list[WindowUpdate]:
    window = Window()
    return [window.update(t, x[t]) for t in frames]


def test_a_slot_given_back_is_as_new() -> None:
    x = three_patterns()
    bank = WindowBank()
    other, slot = bank.open(), bank.open()
    for i, row in enumerate(x[::-1]):
        bank.update([MapInput(slot, i, row)])
    bank.close(slot)
    assert len(bank) == 1
    assert bank.open() == slot
    found = [bank.update([MapInput(slot, i, row)])[0] for i, row in enumerate(x)]
    assert found == feed(Window(), x)
    assert len(bank.track(other)) == 0


def test_pure_noise_does_not_fill_the_alphabet() -> None:
    x = unit(np.random.default_rng(5).standard_normal((200, 256)))
    window = Window()
    feed(window, x)
    assert len(window.letters) <= 3


def test_weak_maps_and_doubtful_presence_begin_no_letter() -> None:
    x = make_stream(110, [(0, 60), (1, 30)], noise=0.1).descriptors

    def letters(masses: np.ndarray, confident: np.ndarray) -> int:
        bank = WindowBank()
        slot = bank.open()
        for i, row in enumerate(x):
            bank.update([MapInput(slot, i, row, mass=masses[i], confident=bool(confident[i]))])
        return len(bank.track(slot).letters)

    strong, present = np.full(90, 5.0), np.ones(90, bool)
    second = np.arange(90) >= 60
    assert letters(strong, present) == 2
    assert letters(np.where(second, 0.5, 5.0), present) == 1
    assert letters(strong, ~second) == 1


def test_the_eigenvectors_carried_along_are_those_of_the_graph() -> None:
    stream = make_stream(120, [(0, 80), (1, 60), (2, 60), (0, 40)], noise=0.25)
    bank = WindowBank(WindowConfig(every=1))
    slot = bank.open()
    residuals, same, agree = [], [], []
    for i, row in enumerate(stream.descriptors):
        bank.update([MapInput(slot, i, row)])
        m = min(i + 1, 128)
        if i < 40 or i % 3:
            continue
        cosines = np.clip(
            bank._descriptors[slot, :m] @ bank._descriptors[slot, :m].T, -1, 1
        ).astype(np.float64)
        matrix = np.eye(m) - laplacian(knn_graph(cosines.copy(), 7))
        k = int(bank._n_parts[slot])
        vectors = bank._graphs.vectors[slot, :k, :m].T.astype(np.float64)
        left = matrix @ vectors - vectors * bank._graphs.values[slot, :k]
        residuals.append(np.sqrt((left**2).sum(axis=0)).max())
        noise = bank.track(slot).noise.model
        exact, values = partition(cosines, SprayPreset("w", knn=7, merge_above=0.9), noise)
        same.append(k == min(max(int((values < 0.15).sum()), 1), 6))
        mine = merge_clusters(cosines, bank._parts[slot, :m], noise, 0.9)
        agree.append(
            1.0 if len(set(mine)) == len(set(exact)) == 1 else adjusted_rand_score(exact, mine)
        )
    assert len(residuals) > 50
    assert np.quantile(residuals, 0.95) <= 3e-2
    assert np.mean(same) >= 0.99
    assert np.mean(agree) >= 0.98


@pytest.mark.parametrize("seed", [40, 41, 42, 43])
def test_letters_agree_with_those_of_the_textbook(seed: int) -> None:
    stream = make_stream(seed, [(0, 70), (1, 40), (0, 40), (2, 40)], noise=0.2)
    theirs = textbook(stream)
    # The textbook finds the patterns itself: agreeing with it cannot mean agreeing on nothing.
    assert adjusted_rand_score(stream.labels, theirs) >= 0.98
    mine = history(feed(Window(), stream.descriptors))
    # A window whose k-means is broken still reaches .97.
    assert adjusted_rand_score(theirs, mine) >= 0.98


def textbook(stream: Stream) -> list[int]:
    window = TextbookWindow(
        size=64, neighbours=5, tau=0.15, most=6, merge_above=0.9, match_above=0.88
    )
    return window.feed(stream.descriptors)


@pytest.mark.parametrize(
    "broken",
    [
        WindowConfig(split=0.3, split_clear=0.3, match=0.3, fast=0.3, alias=0.3),
        WindowConfig(change_threshold=30.0),
    ],
    ids=["patterns run into one", "letters come too late"],
)
def test_letters_of_a_broken_window_disagree_with_the_textbook(broken: WindowConfig) -> None:
    stream = make_stream(40, [(0, 70), (1, 40), (0, 40), (2, 40)], noise=0.2)
    mine = history(feed(Window(broken), stream.descriptors))
    assert adjusted_rand_score(textbook(stream), mine) < 0.9


def test_clear_patterns_are_clustered_as_scikit_learn_does() -> None:
    stream = make_stream(121, [(0, 45), (1, 40), (2, 43)], noise=0.15, cosine=(0.1, 0.4))
    bank = WindowBank(WindowConfig(every=1))
    slot = bank.open()
    for i, row in enumerate(stream.descriptors):
        bank.update([MapInput(slot, i, row)])
    graph = knn_graph((stream.descriptors @ stream.descriptors.T).copy(), 7)
    with warnings.catch_warnings():
        # Three patterns are three components; scikit-learn says so and goes on.
        warnings.simplefilter("ignore", UserWarning)
        theirs = SpectralClustering(3, affinity="precomputed", random_state=0).fit_predict(graph)
    labels = bank.track(slot).memory.labels[:128]
    assert adjusted_rand_score(theirs, labels) >= 0.95
    assert adjusted_rand_score(stream.labels, labels) >= 0.95


def test_eigenvectors_that_broke_down_are_computed_anew() -> None:
    stream = make_stream(61, [(0, 80), (1, 80)], noise=0.1)
    sound, broken = Window(), Window()
    feed(sound, stream.descriptors[:140])
    feed(broken, stream.descriptors[:140])
    # Columns that say the same span no space to look for eigenvectors in.
    broken.bank._graphs.vectors[:] = 1.0
    expected = [u.letter for u in feed(sound, stream.descriptors[140:], 140)]
    assert [u.letter for u in feed(broken, stream.descriptors[140:], 140)] == expected
    assert np.isfinite(broken.bank._graphs.vectors).all()


def test_a_dependent_basis_is_reported_not_raised() -> None:
    graph = np.ones((2, 20, 20), np.float32) - np.eye(20, dtype=np.float32)
    vectors = np.ones((2, 3, 20), np.float32)
    vectors[0] = np.linalg.qr(np.random.default_rng(0).standard_normal((20, 3)))[0].T
    values = np.full((2, 3), 0.5, np.float32)
    wanted = [1, 1]
    places = np.zeros((2, 1), int)
    degree = degrees(graph)
    _, found, worst = track_subspace(graph, degree, vectors, values, places, wanted, Filter())
    assert worst[0] < 0.02
    assert found[0, 0] == pytest.approx(1.0, abs=1e-3)
    assert not worst[1] < 0.5


def test_replaced_maps_leave_the_graph_that_building_it_anew_gives() -> None:
    rng = np.random.default_rng(5)
    size, k = 24, 4
    x = unit(rng.standard_normal((2, size, 10)))

    def cosines(rows: np.ndarray) -> np.ndarray:
        found = (rows @ rows.transpose(0, 2, 1)).astype(np.float32)
        found[:, np.arange(size), np.arange(size)] = NO_MAP
        return found

    graph = np.zeros((2, size, size), np.float32)
    weakest = np.full((2, size), ANY_MAP, np.float32)
    update_graph(cosines(x), graph, weakest, np.tile(np.arange(size), (2, 1)), k)
    for _ in range(30):
        # The same place twice in one window, two places in the other.
        places = np.stack([np.repeat(rng.integers(size), 2), rng.choice(size, 2, replace=False)])
        for window, rows in enumerate(places):
            for place in set(rows.tolist()):
                x[window, place] = unit(rng.standard_normal(10))
        update_graph(cosines(x), graph, weakest, places, k)
        for window in range(2):
            expected = knn_graph((x[window] @ x[window].T).astype(np.float64), k)
            np.testing.assert_array_equal(graph[window], expected)


def test_what_is_not_clear_yet_does_not_pull_the_pattern_it_was_taken_for() -> None:
    a, b = unit(np.random.default_rng(8).random((2, 256)) ** 3)
    b = unit(0.35 * a + 0.5 * b)
    assert 0.7 < a @ b < 0.85
    rng = np.random.default_rng(9)
    patterns = np.repeat([a, b], 60, axis=0)
    window = Window()
    feed(window, unit(patterns + 0.03 * rng.standard_normal(patterns.shape)))
    memory = window.bank.track(window.slot).memory
    assert window.letters == ("A", "B")
    assert unit(memory.means[0]) @ a > 0.985
    assert unit(memory.means[1]) @ b > 0.985


def test_parts_that_go_on_need_no_new_names(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = make_stream(70, [(0, 60), (1, 50), (2, 60), (0, 60), (2, 40)], noise=0.3)
    asked: list[int] = []
    name = LetterTrack._label_clusters

    def counting(self: LetterTrack, *args: Any) -> list[int]:
        asked.append(self.ring.seen)
        return name(self, *args)

    monkeypatch.setattr(LetterTrack, "_label_clusters", counting)
    config = WindowConfig(every=1)
    short = history(feed(Window(config), stream.descriptors))
    fewer = len(asked)
    asked.clear()
    always = dataclasses.replace(config, inherit_maps=0, inherit_maps_unclear=0)
    whole = history(feed(Window(always), stream.descriptors))
    assert fewer < 0.5 * len(asked)
    assert adjusted_rand_score(whole, short) >= 0.97


def test_a_slow_morph_is_flagged_and_keeps_its_letter() -> None:
    a, b = unit(np.random.default_rng(6).random((2, 256)) ** 4)
    turn = np.linspace(0, np.pi / 2, 900)
    x = unit(np.cos(turn)[:, None] * a + np.sin(turn)[:, None] * b)
    window = Window()
    updates = feed(window, x)
    track = window.bank.track(window.slot)
    assert window.letters == ("A",)
    assert track.drifted == ("A",)
    assert track.drift("A") < WindowConfig().drifted
    # Told once, when it is noticed: not at every look.
    told = [i for i, update in enumerate(updates) if update.drifted]
    assert [updates[i].drifted for i in told] == [("A",)]
    assert 300 < told[0] < 900
