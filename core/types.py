"""Values that pass between the steps: frames, faces, and what was found in them.

All are frozen: a step makes a new value, it never edits one it was given. Arrays inside are
treated as read-only by convention.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .action_units import GRADE_MARKS
from .errors import ConfigError

__all__ = [
    "LOST",
    "NONE",
    "OTHER_PERSON",
    "BaselineState",
    "FaceChange",
    "FaceObservation",
    "FaceState",
    "Frame",
    "FrameResult",
    "FrameRow",
    "HeadPose",
    "LetterChange",
    "Prototype",
    "PrototypeDrifted",
    "PrototypeFound",
    "PrototypeRetired",
    "RestLevels",
    "SequenceResult",
    "Stage",
    "StageEvent",
    "StageLabels",
]

StageLabels = tuple[str, ...]
"""Labels of a stage: prototypes sorted by AU (``("AU01_A", "AU12_B")``), ``("NONE",)`` for a face
without an active AU, ``("LOST",)`` without a usable face."""

NONE: StageLabels = ("NONE",)
LOST: StageLabels = ("LOST",)

OTHER_PERSON = "another person"
"""Reason of a :class:`FaceChange`: the face is not that of the person before."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One captured picture.

    Attributes:
        source: name of the source, the same for all its frames.
        index: 0-based number of the frame within the source; never falls, gaps are drops.
        image: ``(H, W, 3)`` uint8, BGR, or ``(H, W)`` grey.
        t_mono_ns: monotonic clock right after the grab, nanoseconds.
        t_wall: wall clock at the same moment, seconds since 1970.
        pts: position in the medium, seconds; None where the source has none.
        dropped_before: frames of this source lost since the previous one handed over.
        epoch: number of the connection (0 first); a reconnect begins the next.
    """

    source: str
    index: int
    image: NDArray[np.uint8]
    t_mono_ns: int = 0
    t_wall: float = 0.0
    pts: float | None = None
    dropped_before: int = 0
    epoch: int = 0

    @property
    def time_s(self) -> float:
        """Seconds on the source's own time line: ``pts`` if known, else the monotonic clock.

        Raises:
            ConfigError: the frame has neither; without time nothing can last.
        """
        if self.pts is None and self.t_mono_ns == 0:
            raise ConfigError(
                f"frame {self.index} of {self.source} has no time; give it pts (seconds) or "
                "t_mono_ns (time.monotonic_ns() at the grab)"
            )
        return self.pts if self.pts is not None else self.t_mono_ns * 1e-9


class FaceState(enum.StrEnum):
    """What the face step can say about a frame."""

    TRACKED = "tracked"
    """One face, good enough to analyse."""
    MULTIPLE = "multiple"
    """More than one face; the one followed so far (else the largest) is analysed."""
    LOW_QUALITY = "low_quality"
    """A face that must not be analysed: too small, too dark, turned away, implausible points."""
    LOST = "lost"
    """No face."""


class BaselineState(enum.StrEnum):
    """Whether presence was judged against the person's own rest level."""

    OFF = "off"
    """It was not: judged as the network gives it."""
    LEARNING = "learning"
    """It was, and more than a tenth of the rest levels still is that of faces in general."""
    ACTIVE = "active"
    """It was, by the person's own rest levels."""


@dataclass(frozen=True, slots=True, eq=False)
class RestLevels:
    """Where the AUs of one person rest, for one network.

    Attributes:
        level: ``(A,)`` float64 presence logits.
        seconds: ``(A,)`` float64 seconds of the face at rest that each rests on.
    """

    level: NDArray[np.float64]
    seconds: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeadPose:
    """How a head is turned before the camera, degrees.

    Attributes:
        yaw: positive turns the face to the viewer's right.
        pitch: positive looks down.
        roll: positive tilts the head counter-clockwise in the picture.
    """

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True, slots=True, eq=False)
class FaceObservation:
    """The face of one frame.

    Attributes:
        state: what is there.
        box: face box ``(x, y, width, height)`` in frame pixels, or None.
        points: ``(5, 2)`` float32 frame pixels: viewer-left eye, viewer-right eye, nose tip,
            viewer-left and viewer-right mouth corner; or None.
        matrix: ``(2, 3)`` float32 similarity, frame pixels → crop pixels; or None.
        crop: ``(S, S)`` uint8 grey, aligned; None exactly where the AUs cannot be analysed.
        quality: 0 (unusable) to 1.
        reason: why the state is ``low_quality``, one short phrase; else empty.
        pose: how the head is turned; None where the points are not those of a face.
        id: number of the person, 1 for the first who was seen in the source; a number is never
            given again. None where nobody is seen, or people are not told apart.
    """

    state: FaceState
    box: tuple[float, float, float, float] | None = None
    points: NDArray[np.float32] | None = None
    matrix: NDArray[np.float32] | None = None
    crop: NDArray[np.uint8] | None = None
    quality: float = 0.0
    reason: str = ""
    pose: HeadPose | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class LetterChange:
    """What changed for one AU from a stage to the next.

    Attributes:
        au: AU number.
        before, after: its label in the two stages (``AU12_A``); None where it is not active.
        text: the change in one sentence, with the facial regions concerned.
    """

    au: int
    before: str | None
    after: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A run of frames with the same prototypes present.

    Attributes:
        labels: the prototypes, ``("NONE",)`` or ``("LOST",)``.
        start: index of the first frame.
        end: index of the last frame (inclusive).
        start_s, end_s: the same on the source's time line, seconds; ``end_s`` is the time of the
            last frame, so a stage of one frame has ``start_s == end_s``.
        changes: what changed from the stage before, where that was worked out. Two stages may be
            equal with other words.
    """

    labels: StageLabels
    start: int
    end: int
    start_s: float
    end_s: float
    changes: tuple[LetterChange, ...] = field(default=(), compare=False)

    @property
    def frames(self) -> int:
        """Length in frames of the source, dropped ones included."""
        return self.end - self.start + 1


@dataclass(frozen=True, slots=True)
class StageEvent:
    """A change of the stage, known now, true from ``stage start`` on.

    Attributes:
        kind: ``"enter"``, ``"exit"`` or ``"revise"`` (the current stage's labels were wrong from
            its very start; nothing that had already ended is ever rewritten).
        labels: the stage entered, left or, for ``revise``, the corrected one.
        previous: the stage before (``enter``), or the labels replaced (``revise``); None at first.
        start, start_s: first frame of the stage and its time.
        end, end_s: last frame, for ``exit`` only.
        reason: ``au_on``, ``au_off``, ``cluster_change``, ``face_lost``, ``face_found``,
            ``other_person``, ``gap``, ``first`` or ``end``.
        at: index of the frame at which the change became known.
        changes: what changed from the stage before, for ``enter`` and ``revise``; told live only.
    """

    kind: str
    labels: StageLabels
    previous: StageLabels | None
    start: int
    start_s: float
    end: int | None
    end_s: float | None
    reason: str
    at: int
    changes: tuple[LetterChange, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class PrototypeFound:
    """A prototype of an AU was given its letter.

    Attributes:
        au, letter: its name.
        map: ``(S, S)`` float32 relevance.
        at: index of the frame at which it got the letter.
        regions: facial regions that carry the most relevance, and their shares 0–1.
    """

    au: int
    letter: str
    map: NDArray[np.float32] = field(repr=False)
    at: int
    regions: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class PrototypeDrifted:
    """A prototype has moved far from what its letter meant when it was young.

    A pattern that turns slowly into another keeps its letter; this says that it happened.
    ``map``: ``(S, S)`` float32 relevance as it is now. ``cosine``: of its descriptor with that of
    its youth, −1 to 1.
    """

    au: int
    letter: str
    map: NDArray[np.float32] = field(repr=False)
    cosine: float
    at: int


@dataclass(frozen=True, slots=True, eq=False)
class PrototypeRetired:
    """A letter of an AU is given no more.

    It turned out to show the pattern of an older one, ``into``, which stands for it now; or, with
    None, it was unseen for longest when room was needed for a new pattern.
    """

    au: int
    letter: str
    into: str | None
    at: int


@dataclass(frozen=True, slots=True)
class FaceChange:
    """The face state changed, or the face is another person's (then both states may be the same).

    ``reason`` says why the state is ``low_quality``, or that it is another person.
    """

    state: FaceState
    previous: FaceState | None
    reason: str
    at: int


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """Everything found in one frame.

    Attributes:
        frame: the frame.
        face: its face.
        presence: ``(A,)`` float32 probability per AU in the model's order, as the network gives
            it; None without a crop.
        intensity: ``(A,)`` float32, 0–5 (FACS A–E are 1–5); None without a crop, or when the
            network estimates none.
        active: numbers of the AUs active after hysteresis, ascending; only AUs that take part.
        maps: AU number → relevance ``(S, S)`` float32, logit units; one for every active AU.
        pictures: AU number → relevance ``(S, S)`` float32 that is drawn and put into words, where
            that is of ``ExplainConfig.picture_preset``: it may be a few frames old. Empty where
            ``maps`` are drawn.
        masks: AU number → Top-X projection ``(M, M)`` uint8 of its map, see
            :func:`~facestage.core.relevance.masks`, where it was made with the map: on a GPU, if
            ``ExplainConfig.mask_side`` asks for it.
        letters: AU number → letter of the prototype the AU shows now, for active AUs.
        stage: labels of the current, confirmed stage; None before the first.
        events: what changed with this frame, in order.
        log: what the steps did for this frame, counter → how much; whoever sums them up need not
            know the names. ``frames_explained`` is 1 if any AU was explained, ``pairs_explained``
            the number of (frame, AU) pairs that were.
        baseline: state of the personal baseline in this frame.
        adjusted_presence, adjusted_intensity: the two after the baseline, which decided ``active``;
            None where ``baseline`` is ``off``.
        rest_s: seconds of this face at rest that its rest levels rest on.
        rest_prior: how much of them still is the level of faces in general, 0–1.
    """

    frame: Frame
    face: FaceObservation
    presence: NDArray[np.float32] | None = None
    intensity: NDArray[np.float32] | None = None
    active: tuple[int, ...] = ()
    maps: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    letters: dict[int, str] = field(default_factory=dict)
    stage: StageLabels | None = None
    events: tuple[
        StageEvent | PrototypeFound | PrototypeDrifted | PrototypeRetired | FaceChange, ...
    ] = ()
    log: dict[str, int] = field(default_factory=dict)
    baseline: BaselineState = BaselineState.OFF
    adjusted_presence: NDArray[np.float32] | None = None
    adjusted_intensity: NDArray[np.float32] | None = None
    rest_s: float = 0.0
    rest_prior: float = 1.0
    masks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    pictures: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def drawn(self) -> dict[int, NDArray[np.float32]]:
        """The maps that are drawn and put into words."""
        return self.pictures or self.maps


@dataclass(frozen=True, slots=True, eq=False)
class Prototype:
    """One cluster of relevance maps of an AU in a whole sequence (paper §3.4).

    Attributes:
        au: AU number.
        letter: letter by first occurrence.
        map: ``(S, S)`` float32 mean relevance of its frames, logit units.
        frames: number of frames that show it.
        first: index of the first of them.
        exemplar: index of the frame whose map is most similar to ``map``.
        crop: face crop of the exemplar, ``(C, C)`` or ``(C, C, 3)`` uint8 (BGR), C a multiple of S.
        regions: facial regions that carry the most relevance, and their shares 0–1.
    """

    au: int
    letter: str
    map: NDArray[np.float32]
    frames: int
    first: int
    exemplar: int
    crop: NDArray[np.uint8]
    regions: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class FrameRow:
    """What is kept of one frame of an analysed sequence.

    ``presence`` and ``intensity`` are ``(A,)`` float32 or None without a usable face; ``labels``
    maps the active AUs to their letters (``{12: "A"}``). ``baseline``, the adjusted values and
    ``rest_s`` and ``rest_prior`` are those of :class:`FrameResult`, ``pose`` and ``face_id`` are
    ``pose`` and ``id`` of :class:`FaceObservation`.
    """

    index: int
    time_s: float
    face: FaceState
    presence: NDArray[np.float32] | None
    intensity: NDArray[np.float32] | None
    labels: dict[int, str]
    baseline: BaselineState = BaselineState.OFF
    adjusted_presence: NDArray[np.float32] | None = None
    adjusted_intensity: NDArray[np.float32] | None = None
    rest_s: float = 0.0
    rest_prior: float = 1.0
    pose: HeadPose | None = None
    face_id: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SequenceResult:
    """A whole sequence, analysed offline.

    Attributes:
        source: name of the source as given by the user (credentials removed).
        model: name of the AU network. ``detector``: name of the face detector.
        device: torch device the network ran on.
        lrp_preset, preset: names of the LRP and of the SpRAy preset that gave letters.
        picture_preset: name of the LRP preset whose maps are drawn and put into words; empty where
            it is ``lrp_preset``.
        lrp_engine: LRP engine that ran, ``fused`` or ``reference``; empty if not known.
        lrp_engine_reason: why it was not the fused one; empty if it was.
        lrp_precision: of its convolutions on the way back.
        fps: frames per second of the source (estimated where it states none).
        aus: AU numbers in the order of ``presence`` and ``intensity``.
        rows: one per frame read, ascending by index.
        stages: the temporal prototype, covering all frames without gap or overlap.
        prototypes: label (``AU12_A``) → prototype.
        note: why the result does not cover the whole source (a recording that breaks off); empty
            when it does.
        stage_crops: one face crop per stage, ``(C, C)`` or ``(C, C, 3)`` uint8; None where the
            stage is LOST. The crop of the frame in the middle of the stage that has a face.
        hidden: AUs that did not take part: predicted, never active.
        grades: AU number → grade by the model card; empty without grades.
        baseline: whether presence was judged against the person's own rest level.
        rest: the rest levels of the person who was seen at rest for longest; None without.
        remark: what a reader should know of how the pictures were read (a range of values that was
            recognised); empty where nothing is unusual.
        files: names of the pictures of an image folder, by frame number; empty for a video.
        others: results of the other faces that were analysed, by their place; their rows begin
            where somebody was first seen there.
    """

    source: str
    model: str
    detector: str
    device: str
    lrp_preset: str
    preset: str
    fps: float
    aus: tuple[int, ...]
    rows: Sequence[FrameRow]
    stages: tuple[Stage, ...]
    prototypes: dict[str, Prototype]
    stage_crops: tuple[NDArray[np.uint8] | None, ...]
    note: str = ""
    hidden: tuple[int, ...] = ()
    grades: Mapping[int, str] = field(default_factory=dict)
    baseline: bool = False
    rest: RestLevels | None = None
    picture_preset: str = ""
    lrp_engine: str = ""
    lrp_engine_reason: str = ""
    lrp_precision: str = "float32"
    files: tuple[str, ...] = ()
    remark: str = ""
    others: tuple[SequenceResult, ...] = ()

    @property
    def marks(self) -> dict[int, str]:
        """AU number → the word of warning that belongs beside it; of those that took part."""
        marks = {au: GRADE_MARKS[grade] for au, grade in sorted(self.grades.items())}
        return {au: mark for au, mark in marks.items() if mark and au not in self.hidden}
