"""A frame while it is observed, and what was observed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from .. import lrp
from ..baseline import PersonalBaseline, adjust_intensity
from ..errors import ModelError
from ..face.likeness import LastFaces
from ..network.au_network import AUNetwork
from ..stages import PresenceGate
from ..types import BaselineState, FaceObservation, Frame, RestLevels
from .face_pictures import FacePictures

__all__ = [
    "Draft",
    "FaceMemory",
    "Look",
    "Observation",
    "Seen",
    "Shown",
    "not_finite",
    "stream_name",
    "turns",
]


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What one frame shows before letters are given.

    Attributes:
        frame, face: the frame and its face.
        presence, intensity: ``(A,)`` float32 as the network gives them, or None without a usable
            face.
        maps: relevance ``(S, S)`` float32 of every active AU.
        pictures: relevance ``(S, S)`` float32 of every active AU as it is drawn and put into words:
            ``maps``, or those of ``ExplainConfig.picture_preset``, which may be a few frames old.
        descriptors: its unit-length summary ``(D,)`` float32, or None where a map holds no positive
            relevance to compare.
        on_gpu: the descriptors once more where network and windows are on a GPU: on it, zeros where
            there is none.
        masks: Top-X projection ``(M, M)`` uint8 of every map, see
            :func:`~facestage.core.relevance.masks`, where they were made with the maps: on a GPU,
            if ``ExplainConfig.mask_side`` asks for it.
        baseline, adjusted_presence, adjusted_intensity, rest_s, rest_prior: as in
            :class:`~facestage.core.types.FrameResult`.
        new_face: the frame does not continue the last one with a usable face: another connection,
            or another person.
        other_person: its face is not that of the last one with a usable face.
    """

    frame: Frame
    face: FaceObservation
    presence: NDArray[np.float32] | None
    intensity: NDArray[np.float32] | None
    maps: dict[int, NDArray[np.float32]]
    descriptors: dict[int, NDArray[np.float32] | None]
    baseline: BaselineState = BaselineState.OFF
    adjusted_presence: NDArray[np.float32] | None = None
    adjusted_intensity: NDArray[np.float32] | None = None
    rest_s: float = 0.0
    rest_prior: float = 1.0
    new_face: bool = False
    other_person: bool = False
    on_gpu: dict[int, torch.Tensor] = field(default_factory=dict)
    masks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    pictures: dict[int, NDArray[np.float32]] = field(default_factory=dict)


class FaceMemory:
    """What the observer remembers of one face of a source."""

    def __init__(
        self, gate: PresenceGate, baseline: PersonalBaseline | None, last: LastFaces
    ) -> None:
        self.gate = gate
        self.baseline = baseline
        self.last = last
        self.pictures = FacePictures()
        self.person: int | None = None

    def forget(self) -> None:
        """Forget who was judged and what was active."""
        self.gate.reset()
        if self.baseline is not None:
            self.baseline.reset()

    def changes(self, person: int | None) -> bool:
        """Note whose usable face is seen now; return whether the last one was another's."""
        before = self.person
        self.person = before if person is None else person
        if before in (None, self.person):
            return False
        self.last.forget()
        return True


@dataclass(slots=True, eq=False)
class Draft:
    """The observation of one frame while it is being made.

    Attributes:
        frame: the frame.
        source: name of its source, which is that of the stream for the first face only.
        place: which of the faces of the source it is, 0 for whoever is followed.
        memory: what is remembered of that face.
        face: its face.
        reconnected: the source's connection is another than that of the frame before.
        other_person, presence, intensity, baseline, rest_s, rest_prior, maps, descriptors, on_gpu,
            masks, pictures: as in :class:`Observation`.
        rest: rest levels with which the person begins in this frame, where they are known.
        adjusted: presence ``(A,)`` float32 after the baseline, or None without one.
        active: outputs of the network whose AUs are active and take part, ascending.
    """

    frame: Frame
    source: str
    place: int
    memory: FaceMemory
    face: FaceObservation
    reconnected: bool
    other_person: bool
    presence: NDArray[np.float32] | None = None
    intensity: NDArray[np.float32] | None = None
    rest: RestLevels | None = None
    baseline: BaselineState = BaselineState.OFF
    rest_s: float = 0.0
    rest_prior: float = 1.0
    adjusted: NDArray[np.float32] | None = None
    active: list[int] = field(default_factory=list)
    maps: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    descriptors: dict[int, NDArray[np.float32] | None] = field(default_factory=dict)
    on_gpu: dict[int, torch.Tensor] = field(default_factory=dict)
    masks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    pictures: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def new_face(self) -> bool:
        """Whether what is remembered of the source's last person does not hold for this one."""
        return self.reconnected or self.other_person

    def finish(self) -> Observation:
        """Return what the frame shows."""
        adjusted_intensity = None
        if self.presence is not None and self.intensity is not None and self.adjusted is not None:
            adjusted_intensity = adjust_intensity(self.intensity, self.presence, self.adjusted)
        return Observation(
            frame=self.frame,
            face=self.face,
            presence=self.presence,
            intensity=self.intensity,
            maps=self.maps,
            descriptors=self.descriptors,
            baseline=self.baseline,
            adjusted_presence=self.adjusted,
            adjusted_intensity=adjusted_intensity,
            rest_s=self.rest_s,
            rest_prior=self.rest_prior,
            new_face=self.new_face,
            other_person=self.other_person,
            on_gpu=self.on_gpu,
            masks=self.masks,
            pictures=self.pictures,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Frames that went through the network together.

    Attributes:
        drafts: those with a usable face, in the order of the rows of ``inputs``.
        inputs: their crops as the network takes them.
        forward: its way forward, where LRP can use it.
    """

    drafts: list[Draft]
    inputs: torch.Tensor
    forward: lrp.Forward | None


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What a round on a GPU shows of frames.

    Attributes:
        drafts: the frames, in the order of the round's rows.
        round: what it shows.
        on_gpu: descriptors ``(P, D)`` of its pairs on the GPU where the windows are there, too.
    """

    drafts: Sequence[Draft]
    round: lrp.Round
    on_gpu: torch.Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Frames of which is known what the network says, not yet what is active.

    Attributes:
        drafts: one per frame and face.
        seen: what went through the network together, in turns.
        shown: on a GPU what recorded rounds showed instead, with the maps of what may be active.
    """

    drafts: list[Draft]
    seen: Sequence[Seen] = ()
    shown: Sequence[Shown] = ()


def stream_name(source: str, place: int) -> str:
    """Return the name of the stream of one face of a source: ``cam``, ``cam/2``, ``cam/3``, …

    Args:
        source: name of the source.
        place: 0 for whoever is followed, then 1, 2, …
    """
    return source if place == 0 else f"{source}/{place + 1}"


def turns(sources: Sequence[str]) -> Iterator[list[int]]:
    """Give the positions of one frame of each source at a time, in order within each source."""
    waiting = list(range(len(sources)))
    while waiting:
        turn: dict[str, int] = {}
        for position in waiting:
            turn.setdefault(sources[position], position)
        yield list(turn.values())
        waiting = [position for position in waiting if position not in turn.values()]


def not_finite(network: AUNetwork, outputs: Iterable[int]) -> ModelError:
    """Make the error of outputs whose relevance is not finite."""
    aus = sorted({network.card.aus[output] for output in outputs})
    return ModelError(
        f"{network.name} gave relevance that is not finite among AUs {aus}; check its weights and "
        "the normalisation in its card"
    )
