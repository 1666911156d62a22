"""The sliding window: letters that appear, hold, return and never change their meaning."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from facestage.core.config import WindowConfig
from facestage.core.errors import ConfigError
from facestage.core.prototypes import PrototypeMemory
from facestage.core.similarity import DEFAULT_NOISE, NoiseModel
from facestage.core.spectral import spray
from facestage.core.window import PrototypeWindow, WindowUpdate
from sklearn.metrics import adjusted_rand_score

from .streams import Stream, make_stream, unit

CONFIG = WindowConfig()


@pytest.fixture(autouse=True)
def _no_warnings() -> None:
    warnings.simplefilter("error")


def feed(window: PrototypeWindow, descriptors: np.ndarray, start: int = 0) -> list[WindowUpdate]:
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
        window = PrototypeWindow()
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
        window = PrototypeWindow()
        updates = feed(window, stream.descriptors)
        assert "".join(window.letters) == expected
        scores.append(agreement(stream, history(updates)))
    assert np.mean(scores) >= 0.9


def test_an_old_pattern_regains_its_letter_after_leaving_the_window() -> None:
    stream = make_stream(30, [(0, 60), (1, 200), (0, 60)], noise=0.2)
    updates = feed(PrototypeWindow(), stream.descriptors)
    letters = history(updates)
    assert letters[30] == "A"
    assert letters[150] == "B"
    assert letters[-1] == "A"
    assert {x for update in updates for x in update.born} == {"A", "B"}


def test_window_agrees_with_the_whole_sequence() -> None:
    for seed in range(2):
        stream = make_stream(40 + seed, [(0, 70), (1, 40), (0, 40), (2, 40)], noise=0.25)
        letters = history(feed(PrototypeWindow(), stream.descriptors))
        assert adjusted_rand_score(spray(stream.descriptors).labels, letters) >= 0.9


def test_a_change_is_confirmed_late_and_dated_back() -> None:
    stream = make_stream(50, [(0, 80), (1, 40)], noise=0.1)
    updates = feed(PrototypeWindow(), stream.descriptors, start=1000)
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
    updates = feed(PrototypeWindow(), x)
    assert {u.letter for u in updates} == {"A"}
    assert sum(len(u.born) for u in updates) == 1


def test_first_letter_comes_with_the_first_map() -> None:
    update = PrototypeWindow().update(17, make_stream(0, [(0, 1)]).descriptors[0])
    assert update == WindowUpdate("A", 17, ("A",))


def test_first_pattern_is_the_first_real_cluster() -> None:
    # Two maps of something else at the onset do not use up a letter.
    onset = make_stream(53, [(0, 2)], noise=0.1).descriptors
    stream = make_stream(54, [(0, 60), (1, 60)], noise=0.1)
    window = PrototypeWindow()
    updates = feed(window, np.concatenate([onset, stream.descriptors]))
    assert window.letters == ("A", "B")
    assert {u.letter for u in updates[:60]} == {"A"}


# ---- gaps


def test_after_a_gap_a_known_pattern_is_shown_at_once() -> None:
    stream = make_stream(60, [(0, 80), (1, 80), (0, 20)], noise=0.15)
    window = PrototypeWindow()
    before = feed(window, stream.descriptors[:160])
    assert before[-1].letter == "B"
    window.gap()
    after = feed(window, stream.descriptors[160:], start=500)
    assert [u.letter for u in after] == ["A"] * 20
    assert {u.since for u in after} == {500}


def test_a_run_never_reaches_back_over_a_gap() -> None:
    stream = make_stream(61, [(0, 80), (1, 40)], noise=0.15)
    window = PrototypeWindow()
    feed(window, stream.descriptors[:83])
    window.gap()
    after = feed(window, stream.descriptors[83:], start=200)
    assert after[-1].letter == "B"
    assert min(u.since for u in after) >= 200


def test_gaps_do_not_disturb_a_pattern() -> None:
    stream = make_stream(62, [(0, 120)], noise=0.2)
    window = PrototypeWindow()
    for i, x in enumerate(stream.descriptors):
        if i % 9 == 0:
            window.gap()
        update = window.update(2 * i, x)
        assert update.letter == "A"
        assert update.since == 2 * (i - i % 9)


# ---- prototypes


def test_prototype_is_the_mean_of_the_maps_of_its_letter() -> None:
    stream = make_stream(70, [(0, 100), (1, 100)], noise=0.1)
    window = PrototypeWindow()
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
    window = PrototypeWindow(WindowConfig(size=12, recent_maps=16))
    for i, x in enumerate(stream.descriptors):
        window.update(i, x, np.full((2, 2), i, np.float32))
    # All maps are kept in the mean, early ones too: 0 … 59.
    np.testing.assert_allclose(window.prototype("A"), 29.5, atol=1.0)


def test_prototype_exists_at_the_very_first_map() -> None:
    window = PrototypeWindow()
    picture = np.arange(9, dtype=np.float32).reshape(3, 3)
    window.update(0, make_stream(0, [(0, 1)]).descriptors[0], picture)
    np.testing.assert_array_equal(window.prototype("A"), picture)
    picture[:] = 0  # the window keeps its own copy
    assert window.prototype("A").max() == 8


def test_unknown_letters_and_missing_maps_are_named() -> None:
    window = PrototypeWindow()
    with pytest.raises(ConfigError, match=r"no prototype 'A'; known are none"):
        window.prototype("A")
    feed(window, make_stream(71, [(0, 10)]).descriptors)
    with pytest.raises(ConfigError, match=r"no prototype 'Q'; known are A"):
        window.prototype("Q")
    with pytest.raises(ConfigError, match=r"pass the map to update"):
        window.prototype("A")


def test_agreeing_letters_are_joined_and_the_older_stays() -> None:
    config = dataclasses.replace(CONFIG, min_cluster=4)
    memory = PrototypeMemory(config)
    rng = np.random.default_rng(1)
    pattern = unit(rng.standard_normal(50))
    ids = []
    for born in (0, 500):
        identity = memory.create(born)
        memory.give_letter(identity)
        for _ in range(20):
            memory.add(identity, unit(pattern + 0.02 * rng.standard_normal(50)))
        ids.append(identity)
    noise = NoiseModel(0.98, (0.0,))
    assert memory.agreeing(noise, 1000) == (ids[1], ids[0])
    assert memory.absorb(ids[1], ids[0]) == ("B", "A")
    assert list(memory.by_letter()) == ["A"]
    assert memory.count(ids[0]) == 40
    # The letter of a pattern that is gone is not given again.
    assert memory.give_letter(memory.create(1001)) == ("C", True)


def test_retired_letter_shows_the_one_that_stands_for_it() -> None:
    # Two patterns with a cosine of .7 become two letters; a low threshold joins them later.
    stream = make_stream(72, [(0, 50), (1, 100)], noise=0.1, cosine=(0.65, 0.75))
    window = PrototypeWindow(WindowConfig(alias=0.5))
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
    memory = PrototypeMemory(CONFIG)
    a, b, c = np.eye(30)[:3]
    for pattern in (a, b):
        identity = memory.create(0)
        for _ in range(10):
            memory.add(identity, pattern)
    noise = NoiseModel(0.99, (0.0,))
    assert memory.is_mixture(0.6 * a + 0.5 * b, float(np.hypot(0.6, 0.5)), noise)
    assert not memory.is_mixture(c, 1.0, noise)
    assert not memory.is_mixture(a, 1.0, noise)  # one of them alone is not a blend


def test_memory_follows_a_pattern_with_a_bounded_weight() -> None:
    memory = PrototypeMemory(CONFIG)
    a, b = np.eye(4)[:2]
    identity = memory.create(0)
    for pattern, times in ((a, 5000), (b, 400)):
        for _ in range(times):
            memory.add(identity, pattern)
            memory.expel(identity, pattern)
    assert memory.count(identity) <= CONFIG.memory + 1
    ids, cosines = memory.similarity(b, DEFAULT_NOISE)
    assert ids.tolist() == [identity]
    assert cosines[0] > 0.9


# ---- contract


def three_patterns() -> np.ndarray:
    return make_stream(80, [(0, 50), (1, 25), (2, 25), (0, 20)], noise=0.2).descriptors


def test_deterministic() -> None:
    x = three_patterns()
    assert feed(PrototypeWindow(), x) == feed(PrototypeWindow(), x.copy())


def test_reset_is_as_new() -> None:
    x = three_patterns()
    window = PrototypeWindow()
    feed(window, x[::-1])
    window.reset()
    assert window.letters == ()
    assert feed(window, x) == feed(PrototypeWindow(), x)


@pytest.mark.parametrize("at", [0, 1, 5, 55, 100])
def test_pickle_continues_where_it_was(at: int) -> None:
    x = three_patterns()
    window = PrototypeWindow()
    feed(window, x[:at])
    copy = pickle.loads(pickle.dumps(window))
    assert feed(copy, x[at:], start=at) == feed(window, x[at:], start=at)


def test_two_windows_do_not_touch_each_other() -> None:
    # 1×100 equals 100×1 as each map is one update; interleaving sources must not matter either.
    x, y = three_patterns(), make_stream(81, [(0, 60), (1, 60)], noise=0.2).descriptors
    first, second = PrototypeWindow(), PrototypeWindow()
    mixed = [
        (first.update(i, a), second.update(i, b))
        for i, (a, b) in enumerate(zip(x, y, strict=False))
    ]
    assert [a for a, _ in mixed] == feed(PrototypeWindow(), x)
    assert [b for _, b in mixed] == feed(PrototypeWindow(), y)


def test_memory_is_bounded() -> None:
    config = WindowConfig(size=32, recent_maps=8)
    window = PrototypeWindow(config)
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
    assert len(feed_letters(PrototypeWindow(), x)) == 12
    full = PrototypeWindow(WindowConfig(max_letters=5))
    shown = [update.letter for update in feed(full, x)]
    assert len(full.letters) == 5
    # Each pattern still gets a letter of its own: the oldest is forgotten, not the newest misnamed.
    ends = shown[19::20]
    assert ends == list("ABCDEFGHIJKL")


def test_a_young_pair_is_joined_although_an_old_one_is_more_similar() -> None:
    noise = NoiseModel(1.0, (0.0,) * 14)
    config = WindowConfig()
    memory = PrototypeMemory(config)

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
    assert memory.agreeing(noise, 1010) == (young[1], young[0])
    assert old[0] in memory
    memory.give_letter(young[1], np.ones((2, 2), np.float32))
    memory.absorb(young[1], young[0])
    assert memory.letter(young[0]) == "A"
    assert memory.first_map(young[0]) is not None


def feed_letters(window: PrototypeWindow, x: np.ndarray) -> tuple[str, ...]:
    feed(window, x)
    return window.letters


# ---- degenerate input


def test_identical_maps_are_one_letter() -> None:
    x = np.tile(unit(np.arange(1.0, 10.0)), (100, 1))
    updates = feed(PrototypeWindow(), x)
    assert {u.letter for u in updates} == {"A"}


def test_alternating_maps_settle() -> None:
    a, b = unit(np.arange(1.0, 10.0)), np.eye(9)[0]
    updates = feed(PrototypeWindow(), np.stack([(a, b)[i % 2] for i in range(120)]))
    # The debounce holds one letter: neither of them ever fills 3 of 4.
    assert {u.letter for u in updates[20:]} == {"A"}


def test_sign_flips_are_two_patterns() -> None:
    a = unit(np.arange(1.0, 10.0))
    x = np.concatenate([np.tile(a, (50, 1)), np.tile(-a, (50, 1))])
    assert "".join(history(feed(PrototypeWindow(), x))) == "A" * 50 + "B" * 50


def test_map_without_relevance_holds_the_letter() -> None:
    stream = make_stream(90, [(0, 40), (1, 30)], noise=0.1)
    window = PrototypeWindow()
    assert window.update(0, None) == WindowUpdate("A", 0, ("A",))
    feed(window, stream.descriptors, start=1)
    held = [window.update(100 + i, None) for i in range(5)]
    assert {u.letter for u in held} == {"B"}
    assert len(window) == 64


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full(256, np.nan), "NaN"),
        (np.zeros(256), "zero everywhere"),
        (np.ones(255), "does not fit"),
        (np.ones((16, 16)), "does not fit"),
    ],
)
def test_bad_descriptors_are_named_and_leave_no_trace(bad: np.ndarray, message: str) -> None:
    x = three_patterns()
    window = PrototypeWindow()
    feed(window, x[:100])
    with pytest.raises(ValueError, match=message):
        window.update(100, bad)
    assert feed(window, x[100:], start=100) == feed(PrototypeWindow(), x)[100:]


def test_bad_maps_and_indices_are_named() -> None:
    x = three_patterns()
    window = PrototypeWindow()
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
        PrototypeWindow(WindowConfig(size=4))
    with pytest.raises(ConfigError, match="lower debounce_hits"):
        PrototypeWindow(WindowConfig(debounce_hits=5))
