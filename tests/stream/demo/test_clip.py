"""The embedded demo clip: a sound file, one face in it, and expressions as its time line says."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import facestage.stream.demo
import numpy as np
import pytest
from facestage.core.face.tracker import FaceTracker
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.selection import SHOWN, select_aus
from facestage.core.types import FaceState
from facestage.stream.detectors import HaarDetector, OurDetector
from numpy.typing import NDArray

from tests.support.opencv import needs_opencv_4

FOLDER = Path(facestage.stream.demo.__file__).parent
CLIP, FACTS = FOLDER / "face.mp4", FOLDER / "face.json"
STEP = 5
"""Every fifth frame is enough for faces and AUs, and keeps the tests short."""
KEY_AUS: dict[str, tuple[tuple[int, ...], ...]] = {
    "surprise": ((1,), (2,), (5,), (25, 26)),
    "pain": ((4, 7), (9, 10), (43,)),
    "smile_closed": ((6,), (12,)),
    "smile_open": ((6,), (12,), (25,)),
}
"""Phase → AUs that show at its height; of a group, at least one."""


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return json.loads(FACTS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    """All frames, ``(N, H, W, 3)`` BGR."""
    capture = cv2.VideoCapture(str(CLIP))
    assert capture.isOpened()
    found = []
    while True:
        ok, image = capture.read()
        if not ok:
            break
        found.append(image)
    capture.release()
    return np.stack(found).astype(np.uint8, copy=False)


@pytest.fixture(scope="module")
def network() -> AUNetwork:
    return AUNetwork.load(device="cpu")


@pytest.fixture(scope="module")
def presence(frames: NDArray[np.uint8], network: AUNetwork) -> NDArray[np.float32]:
    """Presence in every ``STEP``-th frame, through the face step a user gets: ``(N/STEP, A)``."""
    tracker = FaceTracker.of_network(OurDetector(), network)
    crops = []
    for index, image in enumerate(frames):
        seen = tracker.update(image)
        assert seen.state is FaceState.TRACKED, f"frame {index}: {seen.state} {seen.reason}"
        assert seen.crop is not None
        if index % STEP == 0:
            crops.append(seen.crop)
    return network.predict(np.stack(crops)).presence


def rendered(facts: dict[str, Any], au: int) -> NDArray[np.float64]:
    """Intensity of one AU in every ``STEP``-th frame, as rendered."""
    return np.array(facts["intensity"], float)[::STEP, facts["aus"].index(au)]


def at_rest(facts: dict[str, Any]) -> NDArray[np.bool_]:
    """Every ``STEP``-th frame: whether nothing was rendered for the last and next 5 frames."""
    busy = np.array(facts["intensity"], float).max(axis=1) > 0.02
    return ~np.convolve(busy, np.ones(11), mode="same").astype(bool)[::STEP]


def test_file_is_the_one_described(facts: dict[str, Any]) -> None:
    data = CLIP.read_bytes()
    assert hashlib.sha256(data).hexdigest() == facts["sha256"]
    assert len(data) < 1_500_000
    assert FACTS.stat().st_size < 150_000


def test_opencv_decodes_every_frame(facts: dict[str, Any], frames: NDArray[np.uint8]) -> None:
    width, height = facts["size"]
    assert frames.shape == (facts["frames"], height, width, 3)
    assert (width, height) == (640, 360)
    capture = cv2.VideoCapture(str(CLIP))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(facts["fps"])
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == facts["frames"]
    capture.release()
    assert frames.std(axis=(1, 2, 3)).min() > 20  # no blank frame


def test_phases_cover_the_clip(facts: dict[str, Any]) -> None:
    phases = facts["phases"]
    assert phases[0]["start"] == 0
    assert phases[-1]["end"] == facts["frames"] - 1
    for before, after in pairwise(phases):
        assert after["start"] == before["end"] + 1
        assert after["name"] != before["name"]
    assert {phase["name"] for phase in phases} == {"neutral", *KEY_AUS}


def test_time_line_is_complete(facts: dict[str, Any]) -> None:
    intensity = np.array(facts["intensity"], float)
    assert intensity.shape == (facts["frames"], len(facts["aus"]))
    assert intensity.min() == 0.0
    assert intensity.max() <= 1.0
    assert (intensity.max(axis=0) >= 0.2).all()  # no AU is listed that never shows
    assert intensity[[0, -1]].max() < 0.05  # the loop begins and ends at rest
    # A loop of the clip and a pose between two frames must both look continuous.
    assert np.abs(np.diff(intensity, axis=0)).max() < 0.6


def test_loop_has_no_visible_seam(frames: NDArray[np.uint8]) -> None:
    grey = frames[..., 1].astype(np.float32)
    steps = np.abs(np.diff(grey, axis=0)).mean(axis=(1, 2))
    seam = float(np.abs(grey[0] - grey[-1]).mean())
    assert seam < steps.max()


@needs_opencv_4
def test_haar_finds_one_face(frames: NDArray[np.uint8]) -> None:
    detector = HaarDetector()
    counts = np.array([len(detector.detect(image)) for image in frames[::STEP]])
    assert (counts == 1).mean() >= 0.98
    assert counts.max() <= 1


def test_picture_changes_between_phases(facts: dict[str, Any], frames: NDArray[np.uint8]) -> None:
    """The mean picture of the middle of a phase differs from its neighbours', in the face."""
    means = []
    for phase in facts["phases"]:
        third = (phase["end"] - phase["start"]) // 3
        part = frames[phase["start"] + third : phase["end"] - third + 1, 60:280, 220:420]
        means.append(part.astype(np.float32).mean(axis=0))
    for before, after in pairwise(means):
        assert np.abs(before - after).mean() > 2.0


@pytest.mark.parametrize(("au", "least"), [(1, 0.8), (2, 0.8), (12, 0.8), (25, 0.8), (43, 0.8)])
def test_network_follows_the_time_line(
    facts: dict[str, Any],
    network: AUNetwork,
    presence: NDArray[np.float32],
    au: int,
    least: float,
) -> None:
    seen = presence[:, network.card.aus.index(au)]
    assert np.corrcoef(rendered(facts, au), seen)[0, 1] >= least


@pytest.mark.parametrize("name", sorted(KEY_AUS))
def test_key_aus_show_at_the_height_of_a_phase(
    facts: dict[str, Any], network: AUNetwork, presence: NDArray[np.float32], name: str
) -> None:
    (phase,) = (phase for phase in facts["phases"] if phase["name"] == name)
    inside = presence[-(-phase["start"] // STEP) : phase["end"] // STEP + 1]
    for group in KEY_AUS[name]:
        above = {
            au: np.sort(inside[:, network.card.aus.index(au)])[-4:].mean() - network.card.on[au]
            for au in group
        }
        assert max(above.values()) >= 0, f"AUs in {name}, height above the threshold: {above}"


def test_face_at_rest_shows_nothing(
    facts: dict[str, Any], network: AUNetwork, presence: NDArray[np.float32]
) -> None:
    quiet = presence[at_rest(facts)]
    on, off = network.card.thresholds()
    shown = [network.card.aus.index(au) for au in select_aus(network.card, SHOWN)]
    assert len(quiet) >= 20
    assert (quiet < on)[:, shown].all(axis=1).mean() >= 0.95
    assert (quiet < off)[:, shown].mean() >= 0.98


def test_smile_has_two_looks(facts: dict[str, Any]) -> None:
    """AU12 once with closed and once with parted lips, so that it can have two prototypes."""
    parted = {}
    for phase in facts["phases"]:
        if not phase["name"].startswith("smile"):
            continue
        rows = np.array(facts["intensity"][phase["start"] : phase["end"] + 1], float)
        full = rows[:, facts["aus"].index(12)] > 0.6
        parted[phase["name"]] = np.median(rows[full, facts["aus"].index(25)])
    assert parted["smile_closed"] < 0.05
    assert parted["smile_open"] > 0.3
