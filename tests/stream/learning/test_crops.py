"""Crops: the right frame, aligned as live, kept once, and every failure counted. Views of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from facestage.core.errors import ModelError, SourceError
from facestage.core.face.alignment import align
from facestage.core.face.tracker import Detection
from facestage.core.network.au_network import AUNetwork
from facestage.stream.datasets.faces import Item, LabelledFaces, merge
from facestage.stream.datasets.labelled import read_disfa
from facestage.stream.detectors import OurDetector, YuNetDetector
from facestage.stream.learning.crops import (
    MARGIN,
    CropSet,
    centre,
    collect_crops,
    detector_identity,
    frames_to_search,
)
from facestage.stream.learning.views import Views
from numpy.typing import NDArray

from tests.support.paths import DEMO_CLIP

POINTS = np.array([[60, 60], [100, 60], [80, 84], [64, 106], [96, 106]], np.float32)


class Fixed:
    """A detector that finds a face with five points in every picture that is not black."""

    name = "fixed"

    def __init__(self) -> None:
        self.calls = 0

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        self.calls += 1
        return [] if not image.any() else [Detection((40, 30, 80, 90), 1.0, POINTS)]


class FromFile(Fixed):
    """The same, as if its weights came from a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path


@pytest.fixture(scope="module")
def network() -> AUNetwork:
    return AUNetwork.load(device="cpu")


def picture(seed: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).uniform(40, 220, (10, 10)).astype(np.float32)
    grey = cv2.resize(coarse, (160, 160), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def labelled(*items: tuple[Path, int | None]) -> LabelledFaces:
    values = np.arange(len(items), dtype=np.float32)[:, None] % 6
    return LabelledFaces(
        tuple(Item(path, frame, f"s{n}", f"row {n}") for n, (path, frame) in enumerate(items)),
        (12,),
        values,
        np.full_like(values, np.nan),
    )


def write_video(path: Path, frames: int) -> list[NDArray[np.uint8]]:
    """Write a video whose frames differ in brightness; lossless, so that frames can be told."""
    pictures = [(picture(0) * (0.4 + 0.06 * n)).astype(np.uint8) for n in range(frames)]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 25, (160, 160))
    assert writer.isOpened()
    for image in pictures:
        writer.write(image)
    writer.release()
    return pictures


def test_the_middle_of_a_crop_is_the_crop_of_live(network: AUNetwork, tmp_path: Path) -> None:
    image = picture(1)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    found = collect_crops(labelled((tmp_path / "a.png", None)), network, Fixed(), tmp_path / "c")
    card = network.card
    live = align(image[:, :, 0], POINTS, card.template, card.template_weights, card.input_size)
    assert np.abs(centre(found.crops)[0].astype(int) - live).max() <= 2
    assert found.crops.shape == (1, 96 + 2 * MARGIN, 96 + 2 * MARGIN)


def test_frames_of_a_video_are_the_ones_asked_for(network: AUNetwork, tmp_path: Path) -> None:
    pictures = write_video(tmp_path / "v.avi", 6)
    wanted = [4, 1, 1, 5]
    faces = labelled(*((tmp_path / "v.avi", frame) for frame in wanted))
    found = collect_crops(faces, network, Fixed(), None)
    brightness = centre(found.crops).mean((1, 2))
    expected = [pictures[frame][60:106, 60:100].mean() for frame in wanted]
    assert np.corrcoef(brightness, expected)[0, 1] > 0.999
    assert found.faces.intensity[:, 0].tolist() == [0, 1, 2, 3]


def test_the_cache_is_used_until_the_content_changes(network: AUNetwork, tmp_path: Path) -> None:
    path, cache = tmp_path / "a.png", tmp_path / "cache"
    cv2.imwrite(str(path), picture(1))
    detector = Fixed()
    first = collect_crops(labelled((path, None)), network, detector, cache)
    calls = detector.calls
    again = collect_crops(labelled((path, None)), network, detector, cache)
    assert detector.calls == calls
    assert np.array_equal(first.crops, again.crops)
    cv2.imwrite(str(path), picture(2))
    changed = collect_crops(labelled((path, None)), network, detector, cache)
    assert detector.calls > calls
    assert not np.array_equal(first.crops, changed.crops)


def test_other_weights_of_the_detector_under_the_same_name_give_other_crops(
    network: AUNetwork, tmp_path: Path
) -> None:
    path, cache, weights = tmp_path / "a.png", tmp_path / "cache", tmp_path / "detector.onnx"
    cv2.imwrite(str(path), picture(1))
    weights.write_bytes(b"one")
    collect_crops(labelled((path, None)), network, FromFile(weights), cache)
    moved = weights.rename(tmp_path / "moved.onnx")
    same = FromFile(moved)
    collect_crops(labelled((path, None)), network, same, cache)
    assert same.calls == 0  # the place of the file does not matter
    moved.write_bytes(b"two")
    other = FromFile(moved)
    collect_crops(labelled((path, None)), network, other, cache)
    assert other.calls > 0
    assert len(list(cache.iterdir())) == 2
    moved.unlink()
    with pytest.raises(ModelError, match=r"cannot read .*moved\.onnx"):
        detector_identity(other)


@pytest.mark.shared
def test_the_identity_of_yunet_is_the_content_of_its_file(shared: Path, tmp_path: Path) -> None:
    file = shared / "models" / "face_detection_yunet_2023mar.onnx"
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(file.read_bytes())
    assert detector_identity(YuNetDetector(copy)) == detector_identity(YuNetDetector(file))
    copy.write_bytes(file.read_bytes() + b"\x32\x01x")  # the ONNX with a doc_string, "x"
    changed = YuNetDetector(copy, check_hash=False)
    assert detector_identity(changed) != detector_identity(YuNetDetector(file))


def test_a_damaged_cache_file_is_made_anew(network: AUNetwork, tmp_path: Path) -> None:
    path, cache = tmp_path / "a.png", tmp_path / "cache"
    cv2.imwrite(str(path), picture(1))
    first = collect_crops(labelled((path, None)), network, Fixed(), cache)
    (file,) = cache.iterdir()
    for damage in (b"", b"PK\x03\x04 broken", file.read_bytes()[:-200]):
        file.write_bytes(damage)
        again = collect_crops(labelled((path, None)), network, Fixed(), cache)
        assert np.array_equal(first.crops, again.crops)


def test_failures_are_counted_by_reason_and_remembered(network: AUNetwork, tmp_path: Path) -> None:
    for name, image in (("good", picture(1)), ("black", picture(1) * 0), ("flat", None)):
        shown = np.full((160, 160, 3), 90, np.uint8) if image is None else image
        cv2.imwrite(str(tmp_path / f"{name}.png"), shown)
    faces = labelled(*((tmp_path / f"{n}.png", None) for n in ("black", "good", "flat", "black")))
    for _ in range(2):  # the second time from the cache
        found = collect_crops(faces, network, Fixed(), tmp_path / "cache")
        assert found.failures == {"no face found": 2, "face without contrast": 1}
        assert [item.path.name for item in found.faces.items] == ["good.png"]
        assert found.faces.intensity.tolist() == [[1.0]]
        assert found.report() == [
            "faces: 1 of 4 pictures",
            f"  left out: 2 × no face found (first: {tmp_path / 'black.png'})",
            f"  left out: 1 × face without contrast (first: {tmp_path / 'flat.png'})",
        ]
    with pytest.raises(SourceError, match=r"none of the 1 pictures.*1 × no face found"):
        collect_crops(faces.take([0]), network, Fixed(), None)


def test_files_that_cannot_be_read_are_errors_that_name_the_row(
    network: AUNetwork, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"row 0: .*bad\.png is not an image"):
        collect_crops(labelled((tmp_path / "bad.png", None)), network, Fixed(), None)
    holes = np.full((160, 160), 0.5, np.float32)
    holes[3, 4:6] = np.nan, np.inf
    cv2.imwrite(str(tmp_path / "nan.tiff"), holes)
    with pytest.raises(SourceError, match=r"row 0: .*nan\.tiff has 2 values that are NaN"):
        collect_crops(labelled((tmp_path / "nan.tiff", None)), network, Fixed(), None)
    (tmp_path / "bad.avi").write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"row 0: .*bad\.avi is not a video"):
        collect_crops(labelled((tmp_path / "bad.avi", 0)), network, Fixed(), None)
    write_video(tmp_path / "v.avi", 3)
    faces = labelled((tmp_path / "v.avi", 0), (tmp_path / "v.avi", 3))
    with pytest.raises(SourceError, match=r"row 1: frame 3 .* only 3 frames"):
        collect_crops(faces, network, Fixed(), None)


def disfa(folder: Path, rows: dict[str, int], frames: int) -> LabelledFaces:
    """Read a DISFA folder of subjects with so many label rows, and videos of so many frames."""
    for name, count in rows.items():
        labels = folder / "ActionUnit_Labels" / name / f"{name}_au12.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("".join(f"{n + 1},{n % 6}\n" for n in range(count)))
        video = folder / "Videos_LeftCamera" / f"LeftVideo{name}_comp.avi"
        video.parent.mkdir(exist_ok=True)
        write_video(video, frames)
    return read_disfa(folder)


def test_disfa_labels_past_the_end_are_left_out_and_counted_once_per_video(
    network: AUNetwork, tmp_path: Path
) -> None:
    faces = disfa(tmp_path, {"SN001": 6, "SN002": 3, "SN003": 5}, frames=4)
    for _ in range(2):  # the second time from the cache
        found = collect_crops(faces, network, Fixed(), tmp_path / "cache")
        assert found.faces.intensity[:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3]
        assert centre(found.crops).mean((1, 2)).min() > 0
        videos = tmp_path / "Videos_LeftCamera"
        assert found.report() == [
            "faces: 11 of 14 pictures",
            "  left out: 2 × past the end of LeftVideoSN001_comp.avi (4 frames) (first: "
            f"{videos / 'LeftVideoSN001_comp.avi'}, frame 4)",
            "  left out: 1 × past the end of LeftVideoSN003_comp.avi (4 frames) (first: "
            f"{videos / 'LeftVideoSN003_comp.avi'}, frame 4)",
        ]


def test_labels_of_another_video_are_an_error_not_a_gap(network: AUNetwork, tmp_path: Path) -> None:
    faces = disfa(tmp_path / "a", {"SN001": 8, "SN002": 9}, frames=4)
    half, most = faces.take(range(8)), faces.take(range(8, 17))
    assert len(collect_crops(half, network, Fixed(), None).faces) == 4
    for _ in range(2):
        with pytest.raises(SourceError, match=r"SN002, frame 5: 5 of 9 labelled .* only 4 frames"):
            collect_crops(most, network, Fixed(), tmp_path / "cache")


def test_only_data_sets_known_for_it_may_have_labels_past_the_end(
    network: AUNetwork, tmp_path: Path
) -> None:
    faces = disfa(tmp_path, {"SN001": 5}, frames=4)
    found = collect_crops(faces, network, Fixed(), tmp_path / "cache")
    assert sum(found.failures.values()) == 1
    # A manifest that names the same frames of the same video, whose crops the cache has.
    path = faces.items[0].path
    own = labelled(*((path, frame) for frame in range(5)))
    for data in (own, merge([faces, own])):
        with pytest.raises(SourceError, match=r"row 4: frame 4 .* only 4 frames"):
            collect_crops(data, network, Fixed(), tmp_path / "cache")


def test_progress_counts_every_frame_that_is_looked_at(network: AUNetwork, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(1))
    write_video(tmp_path / "v.avi", 6)
    faces = labelled((tmp_path / "a.png", None), (tmp_path / "v.avi", 4), (tmp_path / "v.avi", 1))
    assert frames_to_search(faces) == 6
    for calls in ([1, 2, 3, 4, 5, 6], [1, 6]):  # the second time from the cache
        seen: list[tuple[int, str]] = []
        collect_crops(
            faces,
            network,
            Fixed(),
            tmp_path / "cache",
            on_progress=lambda done, path, seen=seen: seen.append((done, path.name)),
        )
        assert sorted({done for done, _ in seen}) == calls
        assert {name for done, name in seen if done == 1} == {"a.png"}
        assert {name for done, name in seen if done > 1} == {"v.avi"}


def test_the_embedded_detector_finds_the_rendered_face(network: AUNetwork, tmp_path: Path) -> None:
    clip = DEMO_CLIP
    found = collect_crops(labelled((clip, 0), (clip, 3)), network, OurDetector(), None)
    points = network.five_points(centre(found.crops))
    assert np.abs(points - network.card.template).max() < 6


def crop_set(n: int) -> CropSet:
    side = 96 + 2 * MARGIN
    crops = np.random.default_rng(0).integers(0, 256, (n, side, side), dtype=np.uint8)
    faces = labelled(*((Path(f"{i}.png"), None) for i in range(n)))
    return CropSet(faces, crops, {}, {})


def test_every_epoch_shows_each_picture_once_in_another_order() -> None:
    data = crop_set(6)
    views = Views(data, seed=1, augment=False)
    epochs = [views.batch(first, 6) for first in (0, 6)]
    orders = [np.asarray(batch.intensity)[:, 0].tolist() for batch in epochs]
    assert [sorted(order) for order in orders] == [[0, 1, 2, 3, 4, 5]] * 2
    assert orders[0] != orders[1]
    for i, row in enumerate(map(int, orders[0])):
        assert np.array_equal(np.asarray(epochs[0].crops)[i], centre(data.crops)[row])


def test_a_view_depends_on_seed_and_number_only() -> None:
    data = crop_set(5)
    points = np.random.default_rng(1).uniform(10, 80, (5, 68, 2)).astype(np.float32)
    whole = Views(data, 3, points).batch(0, 12)
    part = Views(data, 3, points).batch(7, 4)
    other = Views(data, 4, points).batch(7, 4)
    assert np.array_equal(np.asarray(whole.crops)[7:11], part.crops)
    assert np.array_equal(np.asarray(whole.landmarks)[7:11], part.landmarks)
    assert not np.array_equal(part.crops, other.crops)


def test_landmarks_move_with_the_picture_and_mirrored_faces_swap_sides() -> None:
    """A bright dot on the viewer-right eye stays under a landmark of the same side's meaning."""
    side = 96 + 2 * MARGIN
    crops = np.zeros((1, side, side), np.uint8)
    eye = np.array([60, 40])
    cv2.circle(crops[0], (int(eye[0]) + MARGIN, int(eye[1]) + MARGIN), 4, 255, -1)
    points = np.full((1, 68, 2), 48.0, np.float32)
    points[0, 36:48] = (96 - 1 - eye[0], eye[1])
    points[0, 42:48] = eye
    faces = labelled((Path("a.png"), None))
    batch = Views(CropSet(faces, crops, {}, {}), 0, points).batch(0, 40)
    mirrored = 0
    for crop, marks in zip(np.asarray(batch.crops), np.asarray(batch.landmarks), strict=True):
        bright = np.argwhere(crop > 0.8 * crop.max())[:, ::-1].mean(0)
        right, left = marks[42:48].mean(0), marks[36:42].mean(0)
        assert right[0] > left[0]
        on_left = np.abs(left - bright).max() < 1.5
        mirrored += on_left
        assert on_left or np.abs(right - bright).max() < 1.5
    assert 8 < mirrored < 32
