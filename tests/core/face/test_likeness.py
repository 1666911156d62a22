"""Whether a face is still the same person's: made-up pictures, and cuts between real people."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from facestage.core.config import FaceConfig
from facestage.core.face.likeness import LastFaces, correlation, describe, likeness
from facestage.core.face.tracker import FaceTracker
from facestage.core.network.au_network import AUNetwork
from facestage.stream.detectors import make_detector
from facestage.stream.sources import open_source
from numpy.typing import NDArray

Crop = NDArray[np.uint8]
FPS = 30.0
SAME = FaceConfig().same_person


def crops_of(source: str, network: AUNetwork, most: int = 10_000) -> list[tuple[Crop, float]]:
    """Return the aligned crops of a clip, and their times."""
    detector = make_detector("ours")
    tracker = FaceTracker.of_network(detector, network)
    found: list[tuple[Crop, float]] = []
    with open_source(source) as clip:
        while (grab := clip.read()) is not None and grab.index < most:
            crop = tracker.update(grab.image).crop
            if crop is not None:
                found.append((crop.copy(), grab.index / FPS))
    return found


def others(faces: list[tuple[Crop, float]]) -> list[float]:
    """Return the times at which another person is seen."""
    last = LastFaces(SAME)
    return [time_s for crop, time_s in faces if not last.continues(crop, time_s)]


@pytest.fixture(scope="module")
def network() -> AUNetwork:
    return AUNetwork.load(device="cpu")


@pytest.fixture(scope="module")
def demo(network: AUNetwork) -> list[tuple[Crop, float]]:
    return crops_of("demo:", network, 90)


@pytest.fixture(scope="module")
def people(shared: Path, network: AUNetwork) -> dict[str, list[tuple[Crop, float]]]:
    """Clips of one person each, none of which the thresholds were chosen on."""
    names = ("single_face.mp4", "WolfgangLanger_Pexels.mp4", "intel_asl_sorry.mkv")
    return {name: crops_of(str(shared / "clips" / name), network) for name in names}


def pattern(seed: int) -> Crop:
    coarse = np.random.default_rng(seed).uniform(40, 200, (13, 13)).astype(np.float32)
    return cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def test_a_descriptor_has_unit_length_and_a_flat_crop_has_none() -> None:
    face = describe(pattern(0))
    assert face.shape == (512,)
    assert face.dtype == np.float32
    assert np.linalg.norm(face) == pytest.approx(1, abs=1e-5)
    flat = describe(np.full((96, 96), 90, np.uint8))
    assert not flat.any()
    assert likeness(flat, face) == 0


def test_likeness_is_symmetric_and_one_with_itself() -> None:
    faces = np.stack([describe(pattern(seed)) for seed in range(4)])
    table = likeness(faces[:, None], faces[None])
    np.testing.assert_allclose(np.diag(table), 1, atol=1e-5)
    np.testing.assert_allclose(table, table.T, atol=1e-6)
    assert table[~np.eye(4, dtype=bool)].max() < 0.5


def test_correlation_is_pearsons() -> None:
    one, other = pattern(1), pattern(2)
    expected = np.corrcoef(one.ravel(), other.ravel())[0, 1]
    assert correlation(one, other) == pytest.approx(expected, abs=1e-4)
    assert correlation(one, np.zeros_like(one)) == 0


def lit(factor: float, offset: float) -> Callable[[Crop], NDArray[Any]]:
    return lambda crop: crop * factor + offset


def covered(rows: slice, columns: slice) -> Callable[[Crop], NDArray[Any]]:
    def cover(crop: Crop) -> NDArray[Any]:
        found = crop.astype(np.float32)
        found[rows, columns] = 150 + 10 * np.sin(np.linspace(0, 20, crop.shape[1]))[columns]
        return found

    return cover


CHANGES: dict[str, Callable[[Crop], NDArray[Any]]] = {
    "half as bright": lit(0.5, 0),
    "brighter": lit(1.0, 60),
    "overexposed": lit(1.5, 0),
    "light from the side": lambda crop: crop * np.linspace(0.3, 1.5, crop.shape[1]),
    "gamma": lambda crop: 255 * (crop / 255) ** 2,
    "moved": lambda crop: cv2.blur(crop.astype(np.float32), (9, 1)),
    "grain": lambda crop: crop + np.random.default_rng(0).normal(0, 12, crop.shape),
    "hand over the mouth": covered(slice(53, None), slice(None)),
    "hand over one half": covered(slice(None), slice(48, None)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_light_blur_and_a_hand_are_no_other_person(
    change: str, demo: list[tuple[Crop, float]]
) -> None:
    faces = demo[:10]
    for crop, time_s in demo[10:20]:
        altered = CHANGES[change](crop).clip(0, 255).astype(np.uint8)
        assert correlation(altered, altered) > 0
        faces = [*faces, (altered, time_s)]
    assert others(faces) == []


def test_another_face_is_another_person_once(demo: list[tuple[Crop, float]]) -> None:
    cut = [(pattern(5), 20 / FPS + n / FPS) for n in range(10)]
    assert others([*demo[:20], *cut]) == [20 / FPS]


def test_the_longer_nobody_was_seen_the_less_a_face_must_resemble() -> None:
    base, other = pattern(7).astype(np.float32), pattern(8).astype(np.float32)
    mixed = (0.5 * base + 0.5 * other).astype(np.uint8)
    first = base.astype(np.uint8)
    alike = float(likeness(describe(first), describe(mixed)))
    assert SAME[-1][1] < alike < SAME[0][1]  # else the two lines below say nothing
    assert others([(first, 0.0), (mixed, 0.04)]) == [0.04]
    assert others([(first, 0.0), (mixed, 5.0)]) == []


def test_a_head_that_turns_back_is_known_again(demo: list[tuple[Crop, float]]) -> None:
    last = LastFaces(((0.0, 0.9),))
    last.continues(demo[0][0], 0.0)
    last.continues(demo[0][0], 0.3)
    slowly = demo[0][0].astype(np.float32)
    for n in range(1, 40):  # into another picture, a little at a time, and back at once
        share = np.float32(n / 40)
        now = ((1 - share) * slowly + share * pattern(3)).astype(np.uint8)
        assert last.continues(now, 0.3 + n / FPS)
    assert last.continues(demo[0][0], 0.3 + 40 / FPS)


def test_whoever_was_forgotten_is_compared_with_nobody(demo: list[tuple[Crop, float]]) -> None:
    last = LastFaces(SAME)
    assert last.continues(demo[0][0], 0.0)
    last.forget()
    assert last.continues(pattern(5), 0.04)


@pytest.mark.shared
@pytest.mark.parametrize("stride", [1, 2, 3, 5, 8, 15, 30, 60])
def test_one_person_is_never_taken_for_another(
    stride: int, people: dict[str, list[tuple[Crop, float]]]
) -> None:
    """Blinks, tears, laughter, a hand over the face, blur; however many frames are dropped."""
    for name, faces in people.items():
        assert others(faces[::stride]) == [], name


@pytest.mark.shared
def test_a_cut_to_another_person_is_noticed(people: dict[str, list[tuple[Crop, float]]]) -> None:
    noticed = cuts = 0
    for one, other in itertools.permutations(people.values(), 2):
        for at in np.linspace(30, len(one) - 1, 5).astype(int):
            for start in np.linspace(0, len(other) - 11, 5).astype(int):
                before = [(crop, n / FPS) for n, (crop, _) in enumerate(one[:at])]
                after = [(c, (at + n) / FPS) for n, (c, _) in enumerate(other[start : start + 10])]
                cuts += 1
                noticed += others([*before, *after]) == [at / FPS]
    assert cuts == 150
    assert noticed == cuts
