"""Rendered sequences: one person moving, with a label per frame.

They tune what needs time: a person's running baseline, thresholds under a changing light. Head
motion is smooth, expressions come and go with neutral phases between, the light may drift or flash.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from facestage.core.errors import SourceError
from numpy.typing import NDArray

from ..face.expressions import temporal_expressions
from ..face.facs import AUS
from ..render.lighting import Lighting, sample_lighting
from ..render.scene import Pose, sample_pose
from .generator import Face, Generator, RenderedBatch

__all__ = ["Clip", "render_clip", "write_clip"]

LIGHTS = ("steady", "drift", "flash")
"""How the light of a clip changes."""
_CLIP_STREAM = 100
"""Stream of random numbers of clips, apart from those of stills."""


@dataclass(frozen=True)
class Clip:
    """One sequence.

    Attributes:
        frames: pictures and labels; ``index`` is the frame number.
        rate: frames per second.
        light: one of :data:`LIGHTS`.
    """

    frames: RenderedBatch
    rate: float
    light: str


def render_clip(
    generator: Generator, index: int, frames: int, rate: float = 25.0, light: str | None = None
) -> Clip:
    """Render sequence ``index`` of a generator.

    Args:
        generator: renders it; its seed and the index decide everything.
        index: number of the clip, not negative.
        frames: length, frames.
        rate: frames per second.
        light: how the light changes; drawn when not given.

    Returns:
        The sequence; its identity is the index.
    """
    rng = np.random.default_rng([generator.seed, index, _CLIP_STREAM])
    light = light or str(rng.choice(LIGHTS, p=[0.4, 0.3, 0.3]))
    person = generator.face(4 * index)
    expressions = temporal_expressions(rng, frames, rate)
    poses = _motion(rng, frames, rate)
    lamps = _lamps(rng, person.lighting, frames, rate, light)
    faces = [
        Face(person.anatomy, expressions[t], poses[t], person.appearance, lamps[t])
        for t in range(frames)
    ]
    drawn = generator.draw(faces, np.full(frames, index, np.int64), np.arange(frames))
    return Clip(drawn, rate, light)


def write_clip(path: Path, clip: Clip) -> None:
    """Write a sequence as npz, whole or not at all.

    The arrays are those of a shard, and ``aus`` (23,), ``rate`` and ``light``.

    Raises:
        SourceError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.stem}-{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez_compressed(
                file,
                image=clip.frames.image,
                intensity=clip.frames.intensity.astype(np.float16),
                landmarks=clip.frames.landmarks.astype(np.float16),
                identity=clip.frames.identity,
                index=clip.frames.index,
                aus=np.array(AUS),
                rate=np.float64(clip.rate),
                light=np.str_(clip.light),
            )
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SourceError(f"cannot write the clip {path}: {error}; choose another --out") from error


def _wander(
    rng: np.random.Generator, frames: int, rate: float, seconds: float
) -> NDArray[np.float64]:
    """Smooth unit-variance noise that changes over about ``seconds``."""
    t = np.arange(frames) / rate
    periods = seconds * rng.uniform(0.7, 3.0, 4)
    phases = rng.uniform(0, 2 * np.pi, 4)
    return np.sin(2 * np.pi * t[:, None] / periods + phases).sum(1) / np.sqrt(2)


def _motion(rng: np.random.Generator, frames: int, rate: float) -> list[Pose]:
    start = sample_pose(rng)
    yaw = start.yaw * 0.7 + np.deg2rad(6) * _wander(rng, frames, rate, 3)
    pitch = start.pitch * 0.7 + np.deg2rad(4) * _wander(rng, frames, rate, 2.5)
    roll = start.roll + np.deg2rad(2.5) * _wander(rng, frames, rate, 4)
    yaw, pitch = np.clip(yaw, -0.7, 0.7), np.clip(pitch, -0.44, 0.44)
    return [
        Pose(float(yaw[t]), float(pitch[t]), float(roll[t]), start.distance) for t in range(frames)
    ]


def _lamps(
    rng: np.random.Generator, first: Lighting, frames: int, rate: float, light: str
) -> list[Lighting]:
    """Change the light over time: not at all, slowly, or by a lamp that flashes."""
    if light == "steady":
        return [first] * frames
    t = np.arange(frames) / rate
    if light == "drift":
        level = np.exp(0.35 * _wander(rng, frames, rate, 6))
        other = sample_lighting(rng)
        turn = 0.5 + 0.5 * np.sin(2 * np.pi * t / rng.uniform(6, 15))
        ends = np.array(first.key_direction), np.array(other.key_direction)
        lamps = []
        for k in range(frames):
            to = ends[0] * (1 - turn[k]) + ends[1] * turn[k] + np.array([0, 0, 1e-3])
            x, y, z = (to / np.linalg.norm(to)).tolist()
            lamps.append(
                replace(first, key_direction=(x, y, z), exposure=float(first.exposure * level[k]))
            )
        return lamps
    on = np.sin(2 * np.pi * t * rng.uniform(0.3, 6) + rng.uniform(0, 6.3)) > rng.uniform(0, 0.7)
    fill, exposure = rng.uniform(0.5, 1.5), rng.uniform(1.2, 1.9)
    flash = replace(first, fill=first.fill + fill, exposure=first.exposure * exposure)
    return [flash if lit else first for lit in on]
