"""Where the face is and how the camera sees it: pose, perspective, alignment to the template.

The crop is cut the way the live path cuts it: five points, a weighted similarity, template units.
Here the points are exact; jitter is added when a training view is made.

References:
    Umeyama, *Least-squares estimation of transformation parameters between two point patterns*,
    IEEE TPAMI 13(4), 1991.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "CANVAS",
    "MARGIN",
    "TEMPLATE",
    "TEMPLATE_WEIGHTS",
    "Pose",
    "View",
    "five_points",
    "sample_pose",
    "view",
]

TEMPLATE = np.array([[45.5, 49], [82.5, 49], [64, 71], [49, 92], [79, 92]], np.float32)
"""Viewer-left eye, viewer-right eye, nose tip, mouth corners in template units (box of 128)."""
TEMPLATE_WEIGHTS = np.array([1, 1, 1, 0.6, 0.6], np.float32)
"""Weights of the fit: the mouth moves, so it counts less."""
MARGIN = 4
"""Template units around the box that a stored render also shows."""
CANVAS = 128 + 2 * MARGIN
"""Side of a stored render, pixels; one per template unit."""
PIVOT = (0.0, 0.0, 3.0)
"""Point the head turns about, cm from the model's origin: between the ears."""


@dataclass(frozen=True)
class Pose:
    """Head pose and camera distance.

    Attributes:
        yaw: radians, positive turns the face to the viewer's right.
        pitch: radians, positive looks down.
        roll: radians, positive tilts counter-clockwise.
        distance: of the camera from the head, cm.
    """

    yaw: float
    pitch: float
    roll: float
    distance: float

    def rotation(self) -> NDArray[np.float64]:
        """Return the ``(3, 3)`` rotation from head to camera space."""
        (cy, sy), (cp, sp), (cr, sr) = (
            (np.cos(a), np.sin(a)) for a in (self.yaw, self.pitch, self.roll)
        )
        turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return tilt @ nod @ turn


@dataclass(frozen=True)
class View:
    """Faces as the camera sees them.

    Attributes:
        vertices: ``(B, N, 3)`` float32, head space, rotated, cm.
        screen: ``(B, N, 3)`` float32, x and y in template units (y down), z nearer is larger.
        head: ``(B, 3, 3)`` float32, rotations.
        landmarks: ``(B, 68, 2)`` float32, template units.
    """

    vertices: torch.Tensor
    screen: torch.Tensor
    head: torch.Tensor
    landmarks: torch.Tensor


def sample_pose(rng: np.random.Generator) -> Pose:
    """Draw a pose as it occurs before a webcam: mostly frontal, from arm's length to a room."""
    yaw = np.clip(rng.normal(0, 13), -40, 40)
    pitch = np.clip(rng.normal(0, 9), -25, 25)
    roll = rng.normal(0, 5)
    distance = np.exp(rng.uniform(np.log(38), np.log(180)))
    return Pose(*np.deg2rad([yaw, pitch, roll]).tolist(), distance=float(distance))


def five_points(landmarks: torch.Tensor) -> torch.Tensor:
    """Reduce ``(..., 68, 2)`` landmarks to eye centres, nose tip and mouth corners."""
    right, left = landmarks[..., 36:42, :].mean(-2), landmarks[..., 42:48, :].mean(-2)
    return torch.stack(
        [right, left, landmarks[..., 30, :], landmarks[..., 48, :], landmarks[..., 54, :]], -2
    )


def _similarities(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit ``(B, 5, 2)`` points to the template: ``(B, 2, 2)`` linear part, ``(B, 2)`` shift."""
    w = torch.from_numpy(TEMPLATE_WEIGHTS).to(points)
    w = (w / w.sum())[:, None]
    target = torch.from_numpy(TEMPLATE).to(points)
    mean, target_mean = (w * points).sum(-2, keepdim=True), (w * target).sum(-2, keepdim=True)
    s, d = points - mean, target - target_mean
    spread = (w * s * s).sum((-1, -2))
    a = (w * s * d).sum((-1, -2)) / spread
    b = (w[:, 0] * (s[..., 0] * d[..., 1] - s[..., 1] * d[..., 0])).sum(-1) / spread
    linear = torch.stack([torch.stack([a, -b], -1), torch.stack([b, a], -1)], -2)
    shift = target_mean[0] - (linear @ mean[:, 0, :, None])[..., 0]
    return linear, shift


def view(vertices: torch.Tensor, poses: list[Pose], landmarks: NDArray[np.int64]) -> View:
    """Turn, project and align faces.

    Args:
        vertices: ``(B, N, 3)`` float32, model space, cm.
        poses: one per face.
        landmarks: ``(68,)`` vertices of the landmarks.

    Returns:
        What the camera sees, in template units.
    """
    rotations = np.stack([pose.rotation() for pose in poses]).astype(np.float32)
    head = torch.from_numpy(rotations).to(vertices.device)
    turned = (vertices - vertices.new_tensor(PIVOT)) @ head.transpose(1, 2)
    distance = vertices.new_tensor([pose.distance for pose in poses])[:, None]
    scale = distance / (distance - turned[..., 2])
    flat = torch.stack([turned[..., 0] * scale, -turned[..., 1] * scale], -1)
    at = torch.from_numpy(landmarks).to(vertices.device)
    linear, shift = _similarities(five_points(flat[:, at]))
    units = flat @ linear.transpose(1, 2) + shift[:, None]
    screen = torch.cat([units, turned[..., 2:]], -1)
    return View(turned, screen.contiguous(), head, units[:, at])
