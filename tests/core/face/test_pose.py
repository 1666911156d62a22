"""Head pose: exact on projections of the generic face, and measured on renders of known pose."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from facestage.core.config import FaceConfig
from facestage.core.face.alignment import compose, invert, similarity, transform, warp
from facestage.core.face.pose import GENERIC_FACE, head_pose
from facestage.core.face.tracker import Detection, FaceTracker
from facestage.core.network.au_network import AUNetwork
from facestage.core.types import FaceState, HeadPose
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

TEMPLATE = np.array([[33, 33], [63, 33], [48, 51], [36, 68], [60, 68]], np.float32)
WEIGHTS = np.array([1, 1, 1, 0.6, 0.6], np.float32)

yaws, pitches, rolls = st.floats(-70, 70), st.floats(-45, 45), st.floats(-179, 179)


def turned(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """The generic face as OpenCV turns it: three rotations about the axes of the picture."""
    to_camera = np.diag([1.0, -1.0, -1.0])  # y up, z towards the viewer
    yaw_matrix = cv2.Rodrigues(np.array([0.0, math.radians(yaw), 0.0]))[0]
    pitch_matrix = cv2.Rodrigues(np.array([math.radians(pitch), 0.0, 0.0]))[0]
    roll_matrix = cv2.Rodrigues(np.array([0.0, 0.0, math.radians(roll)]))[0]
    rotation = roll_matrix @ pitch_matrix @ yaw_matrix
    return GENERIC_FACE @ to_camera @ rotation.T @ to_camera


def angles(points: NDArray[np.floating]) -> NDArray[np.float64]:
    pose = head_pose(points)
    assert pose is not None
    return np.array([pose.yaw, pose.pitch, pose.roll])


@given(yaws, pitches, rolls, st.floats(0.5, 400), st.floats(-5e3, 5e3))
def test_a_turned_generic_face_is_measured_at_any_place_and_size(
    yaw: float, pitch: float, roll: float, scale: float, shift: float
) -> None:
    points = turned(yaw, pitch, roll)[:, :2] * scale + (shift, -shift)
    np.testing.assert_allclose(angles(points), (yaw, pitch, roll), atol=0.01)


def test_signs_are_as_the_viewer_sees_them() -> None:
    front = GENERIC_FACE[:, :2].copy()
    right, down, tilted = front.copy(), front.copy(), front.copy()
    right[2, 0] += 1.0  # the nose points to the viewer's right
    down[2, 1] += 1.0
    tilted[:, 1] -= 0.3 * front[:, 0]  # the eye on the viewer's right is higher
    assert angles(right)[0] > 5
    assert abs(angles(right)[2]) < 5
    assert angles(down)[1] > 5
    assert angles(tilted)[2] > 5
    mirrored = (right * (-1, 1))[[1, 0, 2, 4, 3]]
    np.testing.assert_allclose(angles(mirrored), angles(right) * (-1, 1, -1), atol=1e-6)


@pytest.mark.parametrize(
    "points", [np.full((5, 2), 7.0), np.full((5, 2), np.nan), np.outer(np.arange(5.0), (1.0, 2.0))]
)
def test_points_without_extent_have_no_pose(points: NDArray[np.float64]) -> None:
    assert head_pose(points) is None


class OneFace:
    """A detector that finds these points."""

    name = "one"

    def __init__(self, points: NDArray[np.floating]) -> None:
        self.points = points.astype(np.float32)

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        low, high = self.points.min(0) - 30, self.points.max(0) + 30
        return [Detection((*low.tolist(), *(high - low).tolist()), 1.0, self.points)]


def seen(yaw: float, config: FaceConfig | None = None) -> tuple[FaceState, str, HeadPose | None]:
    points = turned(yaw, 0, 0)[:, :2] * 15 + (320, 240)
    picture = np.random.default_rng(1).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    tracker = FaceTracker(OneFace(points), None, TEMPLATE, WEIGHTS, 96, config=config)
    face = tracker.update(picture)
    return face.state, face.reason, face.pose


def test_a_face_turned_aside_is_of_low_quality_and_says_so() -> None:
    state, reason, pose = seen(33)
    assert (state, reason) == (FaceState.TRACKED, "")
    assert pose is not None
    assert abs(pose.yaw - 33) < 0.1
    state, reason, pose = seen(-36)
    assert state == FaceState.LOW_QUALITY
    assert reason == "head turned aside by more than 35°"
    assert pose is not None
    assert abs(pose.yaw + 36) < 0.1
    assert seen(12, FaceConfig(max_yaw_deg=10))[0] == FaceState.LOW_QUALITY


@pytest.mark.shared
def test_error_on_rendered_faces_of_known_pose(shared: Path) -> None:
    pytest.importorskip("training.data.generator")
    from training.data.generator import Face, Generator
    from training.render.scene import TEMPLATE as UNITS
    from training.render.scene import Pose

    generator, rng = Generator(4242), np.random.default_rng(5)
    network = AUNetwork.load(device="cpu")
    card = network.card
    faces: list[Face] = []
    for person in range(48):
        yaw, pitch = rng.uniform(-35, 35), rng.uniform(-25, 25)
        distance = float(np.exp(rng.uniform(np.log(45), np.log(200))))
        pose = Pose(*np.deg2rad([yaw, pitch, 0.0]).tolist(), distance=distance)
        faces.append(replace(generator.face(4 * person), pose=pose))
    pictures = generator.portraits(faces)
    # What is rendered is cut by exact points, which tilts a turned head a little: it is not roll
    # that is judged here.
    scale = pictures.shape[1] / 136
    to_units = np.array([[1 / scale, 0, 0.5 / scale - 4.5], [0, 1 / scale, 0.5 / scale - 4.5]])
    matrix = compose(similarity(UNITS, card.template, np.ones(5)), to_units.astype(np.float32))
    crops = np.stack([warp(picture, matrix, card.input_size) for picture in pictures])
    points = transform(invert(matrix), network.five_points(crops))
    found = np.array([angles(five) for five in points])
    truth = np.rad2deg([[face.pose.yaw, face.pose.pitch] for face in faces])
    error = np.abs(found[:, :2] - truth).mean(0)
    assert error[0] < 5
    assert error[1] < 5
