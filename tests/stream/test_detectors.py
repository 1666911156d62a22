"""The real detectors: on pictures of any size, on real clips, and how they fail."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
from facestage.core.errors import ModelError
from facestage.core.face.tracker import Detection, Detector, FaceTracker
from facestage.core.network.au_network import AUNetwork
from facestage.core.types import FaceState
from facestage.stream import detectors
from facestage.stream.detectors import (
    HaarDetector,
    OurDetector,
    YuNetDetector,
    make_detector,
)
from numpy.typing import NDArray

from tests.support.opencv import needs_opencv_4

ONNX = "face_detection_yunet_2023mar.onnx"
SHAPES = [
    (1, 1),
    (1, 5000),
    (5000, 1),
    (16, 9000),
    (23, 23),
    (24, 24),
    (31, 33),
    (270, 480),
    (4320, 7680),
]


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACESTAGE_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(
    params=[
        pytest.param("haar", marks=needs_opencv_4),
        pytest.param("yunet", marks=pytest.mark.shared),
    ]
)
def detector(request: pytest.FixtureRequest) -> Detector:
    if request.param == "haar":
        return HaarDetector()
    return YuNetDetector(request.getfixturevalue("shared") / "models" / ONNX)


def read(path: Path, every: int = 1) -> list[NDArray[np.uint8]]:
    capture, frames, index = cv2.VideoCapture(str(path)), [], 0
    while True:
        ok, image = capture.read()
        if not ok:
            return frames
        if index % every == 0:
            frames.append(image.astype(np.uint8, copy=False))
        index += 1


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_pictures_of_any_size_hold_no_face(
    detector: Detector, shape: tuple[int, int]
) -> None:
    image = np.full((*shape, 3), 120, np.uint8)
    for each in (detector, detector, OurDetector()):
        assert each.detect(image) == []


@pytest.mark.parametrize("tone", [0, 255])
def test_a_covered_and_a_dazzled_camera_show_no_face(tone: int) -> None:
    assert OurDetector().detect(np.full((360, 640, 3), tone, np.uint8)) == []


def tracker() -> FaceTracker:
    return FaceTracker.of_network(OurDetector(), AUNetwork.load(device="cpu"))


def portraits(shared: Path, count: int) -> list[NDArray[np.uint8]]:
    files = sorted((shared / "faces" / "congress").glob("*.jpg"))[:count]
    return [np.asarray(cv2.imread(str(file)), np.uint8) for file in files]


@pytest.mark.shared
def test_thirty_faces_are_all_found(shared: Path) -> None:
    """A picture full of people, each 150 pixels wide with his surroundings: one may be missed, and
    three places between them be taken for faces."""
    tiles = [cv2.resize(image, (150, 180)) for image in portraits(shared, 30)]
    crowd = np.vstack([np.hstack(tiles[row : row + 6]) for row in range(0, 30, 6)])
    found = OurDetector(long_side=640).detect(np.ascontiguousarray(crowd, np.uint8))
    tile_of = [
        (int((y + h / 2) // 180), int((x + w / 2) // 150)) for x, y, w, h in (d.box for d in found)
    ]
    assert len(set(tile_of)) >= 29
    assert len(tile_of) <= 33


@pytest.mark.shared
def test_of_a_printed_face_and_a_person_the_larger_one_is_followed(shared: Path) -> None:
    """A printed face is a face; it is told, and followed only while it is the larger one."""
    frames = read(shared / "clips" / "single_face.mp4")[:6]
    person = only(OurDetector().detect(frames[0])).box
    printed = cv2.resize(portraits(shared, 1)[0], (120, 144))
    for frame in frames:
        frame[10:154, 10:130] = printed
    assert len(OurDetector().detect(frames[0])) == 2
    one = tracker()
    seen = [one.update(frame) for frame in frames]
    for observation in seen:
        assert observation.state == FaceState.MULTIPLE
        assert observation.points is not None
        x, y = observation.points.mean(0)
        assert person[0] < x < person[0] + person[2]
        assert person[1] < y < person[1] + person[3]


@pytest.mark.shared
def test_a_face_larger_than_the_picture_is_not_analysed(shared: Path) -> None:
    """Of a face of which eyes or mouth are outside nothing is said, whatever is found in it."""
    frame = read(shared / "clips" / "single_face.mp4")[0]
    x, y, w, h = only(OurDetector().detect(frame)).box
    left, top = int(x + 0.3 * w), int(y + 0.35 * h)
    part = frame[top : top + int(0.4 * h), left : left + int(0.4 * w)]
    close = np.asarray(cv2.resize(part, (640, 640), interpolation=cv2.INTER_CUBIC), np.uint8)
    for found in OurDetector().detect(close):
        assert np.isfinite([*found.box, found.score]).all()
    one = tracker()
    for _ in range(4):
        assert one.update(close).state in (FaceState.LOST, FaceState.LOW_QUALITY)


def followed(clip: Path, quarters: int) -> list[FaceState]:
    """States of a clip turned by quarters, followed with the embedded face finder."""
    one = tracker()
    frames = [np.ascontiguousarray(np.rot90(frame, quarters)) for frame in read(clip)]
    return [one.update(frame).state for frame in frames]


@pytest.mark.shared
@pytest.mark.parametrize("quarters", range(4))
def test_a_face_is_followed_whichever_way_is_up(shared: Path, quarters: int) -> None:
    states = followed(shared / "clips" / "single_face.mp4", quarters)
    assert np.mean([state == FaceState.TRACKED for state in states]) >= 0.95


@pytest.mark.shared
@pytest.mark.parametrize("quarters", range(4))
def test_nobody_is_analysed_in_a_clip_without_people(shared: Path, quarters: int) -> None:
    """Turned, the round letters of its title look like eyes and a mouth."""
    states = followed(shared / "clips" / "no_face.mp4", quarters)
    assert FaceState.TRACKED not in states
    assert FaceState.MULTIPLE not in states
    assert np.mean([state == FaceState.LOST for state in states]) >= 0.95


def only(found: list[Detection]) -> Detection:
    assert len(found) == 1
    return found[0]


@pytest.mark.shared
def test_boxes_are_in_the_pixels_of_the_picture(detector: Detector, shared: Path) -> None:
    image = read(shared / "clips" / "single_face.mp4")[0]
    reference = only(detector.detect(image))
    for factor in (1.5, 3.0):
        larger = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
        seen = only(detector.detect(larger.astype(np.uint8)))
        width = reference.box[2] * factor
        np.testing.assert_allclose(seen.box, np.array(reference.box) * factor, atol=0.06 * width)
        if reference.points is not None:
            np.testing.assert_allclose(seen.points, reference.points * factor, atol=0.03 * width)


@pytest.mark.shared
def test_points_are_in_the_common_order(shared: Path) -> None:
    image = read(shared / "clips" / "single_face.mp4")[0]
    points = only(YuNetDetector(shared / "models" / ONNX).detect(image)).points
    assert points is not None
    assert points.dtype == np.float32
    left_eye, right_eye, nose, left_mouth, right_mouth = points
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@pytest.mark.shared
def test_a_clip_without_face_has_no_hit(detector: Detector, shared: Path) -> None:
    assert all(detector.detect(f) == [] for f in read(shared / "clips" / "no_face.mp4"))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("clip", "least"),
    [("single_face.mp4", 1.0), ("WolfgangLanger_Pexels.mp4", 0.97), ("intel_asl_sorry.mkv", 0.85)],
)
def test_nearly_every_real_face_is_found_once(
    detector: Detector, shared: Path, clip: str, least: float
) -> None:
    counts = [len(detector.detect(f)) for f in read(shared / "clips" / clip, every=4)]
    assert np.mean([c == 1 for c in counts]) >= least
    assert np.mean([c > 1 for c in counts]) <= 0.1


@needs_opencv_4
def test_haar_is_there_when_it_is_asked_for() -> None:
    assert make_detector("haar").name == "haar"


def test_haar_needs_its_cascade(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(detectors.cv2, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(ModelError, match=r"opencv-python-headless>=4\.10,<5"):
        HaarDetector()


def test_yunet_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="facestage models pull yunet"):
        YuNetDetector(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="facestage models pull yunet"):
        YuNetDetector(tmp_path)  # a folder
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"sha256 .* expected 8f2383e4"):
        YuNetDetector(wrong)
    with pytest.raises(ModelError, match="cannot use"):
        YuNetDetector(wrong, check_hash=False)


def test_face_finder_files_that_cannot_be_used(tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    with pytest.raises(ModelError, match=r"mine\.json"):
        make_detector(weights)
    embedded = resources.files("facestage.core.weights")
    weights.write_bytes((embedded / "face_finder_v1.safetensors").read_bytes())
    (tmp_path / "mine.json").write_text("no card")
    with pytest.raises(ModelError, match="training finder"):
        make_detector(weights)
    (tmp_path / "mine.json").write_text((embedded / "au_net_v1.json").read_text())
    with pytest.raises(ModelError, match="card of another kind"):
        make_detector(weights)
    (tmp_path / "mine.json").write_text((embedded / "face_finder_v1.json").read_text())
    assert make_detector(weights).name == "ours"
    weights.write_bytes((embedded / "au_net_v1.safetensors").read_bytes())
    with pytest.raises(ModelError, match="not those of this face finder"):
        make_detector(weights)
    weights.write_bytes(b"half a file")
    with pytest.raises(ModelError, match="training finder"):
        make_detector(weights)


def test_the_embedded_face_finder_is_small_and_says_what_it_was_made_of() -> None:
    embedded = resources.files("facestage.core.weights")
    assert len((embedded / "face_finder_v1.safetensors").read_bytes()) <= 1_000_000
    card = json.loads((embedded / "face_finder_v1.json").read_text())
    assert "CC BY 4.0" in " ".join(card["training"]["photographed"])
    assert all(card["training"]["without_people"].values())


def test_auto_is_the_embedded_finder_and_others_must_be_asked_for(empty_cache: Path) -> None:
    assert make_detector().name == "ours"
    with pytest.raises(ModelError, match="facestage models pull yunet"):
        make_detector("yunet")
    (empty_cache / ONNX).write_bytes(b"half a file")
    assert make_detector("auto").name == "ours"
    with pytest.raises(ModelError, match="sha256"):  # a damaged file is reported, not passed over
        make_detector("yunet")


@pytest.mark.shared
def test_yunet_is_used_where_it_is_asked_for(empty_cache: Path, shared: Path) -> None:
    model = shared / "models" / ONNX
    (empty_cache / ONNX).write_bytes(model.read_bytes())
    for spec in ("yunet", str(model), model):
        assert make_detector(spec).name == "yunet"
    assert make_detector("auto").name == "ours"


def test_a_path_that_is_not_there_is_reported() -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx"):
        make_detector("nowhere.onnx")


@needs_opencv_4
@pytest.mark.shared
def test_a_face_of_the_wanted_size_is_found_alike_and_smaller_ones_may_be_left_out(
    shared: Path,
) -> None:
    haar = HaarDetector()
    image = read(shared / "clips" / "single_face.mp4")[0]
    face = only(haar.detect(image))
    assert only(haar.detect(image, 0.35 * face.box[2])).box == face.box
    assert haar.detect(image, 2 * face.box[2]) == []
