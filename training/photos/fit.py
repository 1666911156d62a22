"""The face model fitted to the landmarks of one photograph.

Pose and shape are found in turns: for a shape, the pose of least squares under scaled orthographic
projection; for a pose, the most probable shape, whose coefficients are linear in the landmarks. A
smooth warp of the picture plane then moves the fitted mesh onto the landmarks, so that lids, lips
and brows lie where the photograph shows them.

References:
    Blanz, Mehl, Vetter & Seidel, "A statistical method for robust 3D surface reconstruction from
    sparse data", 3DPVT 2004 (the most probable shape);
    Bookstein, "Principal warps: thin-plate splines and the decomposition of deformations",
    IEEE TPAMI 11(6), 1989.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from ..face.facekit import FaceKit
from ..face.facs import LIPS

__all__ = ["EYES", "Fit", "eye_distance", "fit_mesh", "irises", "lip_gap", "multi_pie"]

Points = NDArray[np.float64]

_JAW = (127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356)
_BROWS_UPPER = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
_BROWS_LOWER = (46, 53, 52, 65, 55, 285, 295, 282, 283, 276)
_NOSE = (168, 197, 5, 4, 98, 97, 2, 326, 327)
_EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
_LIPS = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 81, 13, 311, 308, 402, 14, 178)
_BROWS = slice(17, 27)
EYES = (slice(36, 42), slice(42, 48))
"""Landmarks of the viewer's left and right eye."""
_EXACT = slice(17, 68)
"""Landmarks the mesh is warped onto. The jaw is none: the points there are on the silhouette."""
_WEIGHT = np.r_[np.full(17, 0.25), np.ones(10), np.full(4, 0.7), np.ones(37)]
"""Trust in each landmark: little in the jaw, which slides along the silhouette."""

AT_REST = (
    "browDown_L", "browDown_R", "browInnerUp_L", "browInnerUp_R", "eyeBlink_L", "eyeBlink_R",
    "eyeWide_L", "eyeWide_R", "mouthFrown_L", "mouthFrown_R", "mouthSmile_L", "mouthSmile_R",
    "mouthShrugUpper", "mouthShrugLower", "mouthPress_L", "mouthPress_R",
)  # fmt: skip
"""Shapes by which neutral faces differ beyond bone: brows, lids, corners and lips at rest."""
REST_SPREAD = 0.25
"""Standard deviation of their weights over neutral people."""
REST_RANGE = (-0.6, 0.8)
"""Bounds of their weights: beyond them a mesh folds."""
BONE_SPREAD = 2.9
"""Standard deviation the identity shapes' weights may have; 1 would hold unusual people back."""
LANDMARK_ERROR = 0.15
"""Standard deviation of a landmark's place, cm."""
ROUNDS = 12
"""Turns of pose and shape; neither changes visibly after eight."""
WARP_SMOOTHING = 2.0
"""How far the warp may miss a landmark for the sake of smoothness."""
WARP_REACH = 2.6
"""Half side of the square that is warped, distances between the eyes around the landmarks."""


@dataclass(frozen=True)
class Fit:
    """A face model over a photograph.

    Attributes:
        screen: ``(N, 2)`` vertices, px of the photograph, y down, warped onto the landmarks.
        depth: ``(N,)`` px, nearer is larger.
        shape: ``(N, 3)`` vertices of the neutral face in model space, cm.
        turn: ``(3, 3)`` rotation from model to camera space (``v @ turn.T``).
        scale: px per cm.
        identity: ``(100,)`` weights of the identity shapes.
        rest: weights of :data:`AT_REST`.
        residual: mean distance of the unwarped mesh from the landmarks without the jaw, in
            distances between the eyes.
    """

    screen: Points
    depth: Points
    shape: Points
    turn: Points
    scale: float
    identity: Points
    rest: dict[str, float]
    residual: float


def multi_pie(points: NDArray[np.floating]) -> Points:
    """Reduce ``(478, 2)`` MediaPipe landmarks to the ``(68, 2)`` of Multi-PIE.

    A brow's landmark lies in its middle: between the two rows that MediaPipe puts at its edges.
    """
    points = np.asarray(points, np.float64)
    found = points[[*_JAW, *_BROWS_UPPER, *_NOSE, *_EYES, *_LIPS]]
    found[_BROWS] = (found[_BROWS] + points[list(_BROWS_LOWER)]) / 2
    return found


def irises(points: NDArray[np.floating]) -> Points:
    """Return centre x, y and radius, ``(2, 3)``, of both irises of ``(478, 2)`` landmarks."""
    centres = np.asarray(points, np.float64)[[468, 473]]
    rims = np.asarray(points, np.float64)[[[469, 470, 471, 472], [474, 475, 476, 477]]]
    radius = np.hypot(*np.moveaxis(rims - centres[:, None], -1, 0)).mean(1)
    return np.column_stack([centres, radius])


def eye_distance(landmarks: NDArray[np.floating]) -> float:
    """Return the distance between the centres of the eyes of ``(68, 2)`` landmarks."""
    left, right = (landmarks[eye].mean(0) for eye in EYES)
    return float(np.hypot(*(right - left)))


def lip_gap(landmarks: NDArray[np.floating]) -> float:
    """Return the gap between the lips of ``(68, 2)`` landmarks, in distances between the eyes."""
    upper, lower = np.array(LIPS).T
    apart = landmarks[lower].mean(0) - landmarks[upper].mean(0)
    return float(np.hypot(*apart)) / eye_distance(landmarks)


def fit_mesh(kit: FaceKit, landmarks: Points) -> Fit:
    """Fit the face model.

    Args:
        kit: the face model.
        landmarks: ``(68, 2)`` px, y down, of a neutral face turned by no more than about 30°.

    Returns:
        The mesh over the photograph. Whether it is any good, ``residual`` tells.
    """
    rest_shapes = kit.expressions[[kit.shape(name) for name in AT_REST]]
    at, bones = kit.landmarks, len(kit.identities)
    shapes = np.concatenate([kit.identities[:, at], rest_shapes[:, at]]).astype(np.float64)
    spread = np.r_[np.full(bones, BONE_SPREAD), np.full(len(AT_REST), REST_SPREAD)]
    target, mean = landmarks * (1, -1), kit.generic[at].astype(np.float64)
    weights = np.zeros(len(shapes))
    for _ in range(ROUNDS):
        marked = mean + np.tensordot(weights, shapes, 1)
        scale, turn, shift = _pose(marked, target)
        weights = _shape((target - shift) / scale, turn, mean, shapes, spread)
        weights[bones:] = weights[bones:].clip(*REST_RANGE)
    single = weights.astype(np.float32)
    shape = kit.generic + np.tensordot(single[:bones], kit.identities, 1)
    shape = (shape + np.tensordot(single[bones:], rest_shapes, 1)).astype(np.float64)
    turned = shape @ turn.T * scale
    screen = (turned[:, :2] + shift) * (1, -1)
    missed = np.hypot(*(screen[at] - landmarks)[_EXACT].T).mean()
    return Fit(
        screen=_warped(screen, screen[at], landmarks),
        depth=turned[:, 2],
        shape=shape,
        turn=turn,
        scale=scale,
        identity=weights[:bones],
        rest=dict(zip(AT_REST, weights[bones:].tolist(), strict=True)),
        residual=float(missed) / eye_distance(landmarks),
    )


def _pose(shape: Points, target: Points) -> tuple[float, Points, Points]:
    """Find scale, ``(3, 3)`` rotation and ``(2,)`` shift that bring a shape onto its picture."""
    share = _WEIGHT / _WEIGHT.sum()
    middle, goal = share @ shape, share @ target
    root = np.sqrt(share)[:, None]
    affine = np.linalg.lstsq(root * (shape - middle), root * (target - goal), rcond=None)[0].T
    left, stretch, right = np.linalg.svd(affine, full_matrices=False)
    rows = left @ right
    turn = np.vstack([rows, np.cross(rows[0], rows[1])])
    scale = float(stretch.mean())
    return scale, turn, goal - scale * rows @ middle


def _shape(target: Points, turn: Points, mean: Points, shapes: Points, spread: Points) -> Points:
    """Find the most probable weights for landmarks in cm of the picture plane."""
    confidence = np.repeat(np.sqrt(_WEIGHT), 2) / LANDMARK_ERROR
    flat = np.einsum("ij,knj->nik", turn[:2], shapes).reshape(-1, len(shapes))
    missing = (target - mean @ turn[:2].T).reshape(-1)
    flat, missing = flat * confidence[:, None], missing * confidence
    return np.linalg.solve(flat.T @ flat + np.diag(spread**-2.0), flat.T @ missing)


def _warped(screen: Points, found: Points, wanted: Points) -> Points:
    """Move vertices near the face so that the mesh's landmarks come onto the picture's."""
    warp = RBFInterpolator(
        found[_EXACT],
        (wanted - found)[_EXACT],
        kernel="thin_plate_spline",
        smoothing=WARP_SMOOTHING,
    )
    near = np.abs(screen - wanted.mean(0)).max(1) < WARP_REACH * eye_distance(wanted)
    moved = screen.copy()
    moved[near] += warp(screen[near])
    return moved
