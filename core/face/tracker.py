"""The face step: find one face, follow its five points, cut it out aligned.

Detectors live in the shell (they read files); here is what is done with what they find. The order
of the five points is everywhere: viewer-left eye, viewer-right eye, nose tip, viewer-left and
viewer-right mouth corner.

How a face is followed. The motion of the face's own texture between two frames (Lucas–Kanade in the
aligned crop) predicts the points with almost no noise; the points measured in the new frame, by the
detector or by a landmark network, correct that prediction by a small share. So a still face stands
still, a moving one is followed without lag, and a wrong measurement is outvoted. Texture and
landmarks alone would follow a wall as faithfully as a face, so the evidence is renewed: by the
detector every few frames and at once when the picture breaks (a cut), and by asking the landmark
network whether its points move with the face when the crop is moved (:meth:`FaceTracker.update`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..config import FaceConfig
from ..errors import ConfigError
from ..steps import timed
from ..types import FaceObservation, FaceState
from .alignment import align, compose, crop_motion, invert, similarity, to_grey, transform, warp
from .boxes import Box, apart, overlap
from .likeness import correlation
from .pose import head_pose
from .quality import NOT_A_FACE, implausible, judge

__all__ = [
    "Choice",
    "Detection",
    "Detector",
    "FaceTracker",
    "Landmarks",
    "align",
    "implausible",
    "invert",
    "similarity",
    "to_grey",
    "warp",
]

_BOX_WIDTH = 2.75
"""Width of a frontal face box (chin to brow, Haar's), eye distances."""
_BOX_DEPTH = 0.6
"""Height of the five points' mean in that box, box widths below its top, of an upright face."""

Landmarks = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""``(B, S, S)`` uint8 aligned crops → ``(B, 5, 2)`` float32 points in crop pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A face that a detector found.

    Attributes:
        box: ``(x, y, width, height)``, frame pixels.
        score: higher is more certain; the scale is the detector's own.
        points: ``(5, 2)`` float32 frame pixels, or None from a detector that gives boxes only.
        rough: the points say where a face begins, at any roll; a landmark network, where there is
            one, measures them from then on.
    """

    box: Box
    score: float
    points: NDArray[np.float32] | None = None
    rough: bool = False


class Detector(Protocol):
    """Finds the faces of one picture; keeps no state between pictures."""

    @property
    def name(self) -> str:
        """Short name shown to the user, such as ``haar``."""
        ...

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        """Return the faces of a picture, in any order.

        Args:
            image: ``(H, W, 3)`` uint8, BGR.
            smallest: width below which faces do not matter, pixels: they may be left out where
                that saves time.
        """
        ...


class Choice:
    """Whom a tracker may follow: whoever it finds, the one over its old place first, then by size.

    One that knows people says more, see :class:`~facestage.core.face.people.People`.
    """

    def order(self, found: Sequence[Detection], own: Detection | None) -> list[Detection]:
        """Return the faces that may be followed, the first choice first.

        Args:
            found: all faces of the picture.
            own: the one over the old place, if there is one.
        """
        return sorted(found, key=lambda d: (d is not own, -d.box[2] * d.box[3]))

    def admits(self, crop: NDArray[np.uint8], box: Box, detection: Detection | None) -> bool:
        """Tell whether a face that proved to be one may be followed.

        Args:
            crop: ``(S, S)`` uint8 grey, aligned.
            box: around its points, as :attr:`FaceTracker.box`.
            detection: where it was found; None where only the landmarks hold on to it.
        """
        return True

    def knows(self, box: Box) -> bool:
        """Tell whether a face in this place is known to be one: another tracker follows it."""
        return False


@dataclass(slots=True)
class _Track:
    """What is remembered of the face that is followed."""

    points: NDArray[np.float32]
    matrix: NDArray[np.float32]
    crop: NDArray[np.uint8]
    from_detector: bool
    """Points come from the detector, which then runs on every frame."""
    updates: int = 1
    """Measurements that went into the points."""
    until_check: int = 0
    """Frames until the detector is asked again."""
    misses: int = 0
    """Checks in a row that found no proof of a face."""
    undetected: int = 0
    """Frames since the detector last saw the face."""
    rejected: int = 0
    """Measurements refused in a row."""
    several: bool = False
    """More than one face, confirmed."""
    several_votes: int = 0
    """Checks in a row that contradict ``several``."""
    poor: bool = False
    """The last observation was of low quality."""
    proven: bool = True
    """It is clear that the face is not upside down; else the next frame must prove it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Prediction:
    """Where the texture of a frame says that the face is.

    Attributes:
        image: the frame.
        grey: the same in grey.
        points: ``(5, 2)`` predicted points.
        matrix, crop: the alignment of these, and the face cut out with it.
        broken: whether the texture does not continue that of the frame before.
    """

    image: NDArray[np.uint8]
    grey: NDArray[np.uint8]
    points: NDArray[np.float32]
    matrix: NDArray[np.float32]
    crop: NDArray[np.uint8]
    broken: bool


class FaceTracker:
    """Follow one face through the frames of one source.

    Picklable at any time: the state is kept, the detector and the landmark callable are not (they
    hold native handles); give them back with :meth:`attach`.

    Args:
        detector: finds faces; with or without points.
        landmarks: landmark network on aligned crops; needed with a detector that gives boxes only.
        template: ``(5, 2)`` where the points belong in the crop, crop pixels (model card).
        template_weights: ``(5,)`` weights of the points in the fit (model card).
        size: side of the crop, pixels.
        box_to_points: ``(5, 2)`` usual place of the points in a detector's box, fractions of the
            box's width from its top left corner (model card); needed with ``landmarks``.
        config: thresholds.

    Raises:
        ConfigError: shapes that do not fit.
    """

    def __init__(
        self,
        detector: Detector,
        landmarks: Landmarks | None,
        template: NDArray[np.float32],
        template_weights: NDArray[np.float32],
        size: int,
        box_to_points: NDArray[np.float32] | None = None,
        config: FaceConfig | None = None,
    ) -> None:
        self.template = np.asarray(template, np.float32)
        self.template_weights = np.asarray(template_weights, np.float32)
        self.size = size
        self.box_to_points = (
            None if box_to_points is None else np.asarray(box_to_points, np.float32)
        )
        self.config = config if config is not None else FaceConfig()
        if self.template.shape != (5, 2) or self.template_weights.shape != (5,):
            raise ConfigError(
                f"the alignment template has shapes {self.template.shape} and "
                f"{self.template_weights.shape}; the model card must give (5, 2) and (5,)"
            )
        self._eyes_in_crop = float(np.linalg.norm(self.template[1] - self.template[0]))
        self._track: _Track | None = None
        self._foreseen: _Prediction | None = None
        self.detections = 0
        """Times the detector ran since :meth:`reset`."""
        self.choice = Choice()
        """Whom it may follow."""
        self.fresh = False
        """The track began in the last frame, or was found again there."""
        self.neighbour: tuple[Detection, NDArray[np.uint8]] | None = None
        """The nearest other face that proved to be one when the last frame was checked for
        others, and its aligned crop; None in other frames."""
        self.attach(detector, landmarks)

    def attach(self, detector: Detector, landmarks: Landmarks | None) -> None:
        """Give the tracker its detector and landmark network, first or after unpickling."""
        self._detector: Detector | None = detector
        self._landmarks: Landmarks | None = landmarks

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_detector": None, "_landmarks": None, "_foreseen": None}

    def reset(self) -> None:
        """Forget the face, as after a cut that is known or a new connection."""
        self._track = self._foreseen = None
        self.detections = 0

    @property
    def crop(self) -> NDArray[np.uint8] | None:
        """Aligned crop ``(S, S)`` of the face followed, also where it is of low quality."""
        return None if self._track is None else self._track.crop

    @property
    def box(self) -> Box | None:
        """Box of the face followed, frame pixels."""
        return None if self._track is None else self._box(self._track.points)

    @property
    def due(self) -> bool:
        """Whether the next frame will be searched for faces."""
        track = self._track
        return track is None or track.from_detector or track.until_check <= 1

    def check_within(self, frames: int) -> None:
        """Ask the detector again after at most so many frames."""
        if self._track is not None:
            self._track.until_check = min(self._track.until_check, frames)

    def drop(self) -> None:
        """Follow the face no more."""
        self._track = self._foreseen = None

    def foresee(self, image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Begin the next frame: return the crop whose landmarks :meth:`update` needs first.

        So whoever has several trackers can search for the landmarks of all in one batch, and hand
        them to :meth:`update` with the same image.

        Args:
            image: as for :meth:`update`.

        Returns:
            ``(S, S)`` uint8; None where the frame has to be searched or is too small for a face, or
            the detector gives points.

        Raises:
            SourceError: not a picture.
        """
        track, self._foreseen = self._track, None
        if track is None or track.from_detector:
            return None
        grey = to_grey(image)
        if self._holds_no_face(grey):
            return None
        self._foreseen = self._predict(track, image, grey)
        return None if self._foreseen.broken else self._foreseen.crop

    def update(
        self,
        image: NDArray[np.uint8],
        landmarks: NDArray[np.float32] | None = None,
        search: bool = True,
    ) -> FaceObservation:
        """Find the face of the next frame.

        Without a track every frame is searched. With one, the points are predicted and corrected
        (see the module's text), then the track must prove itself, every ``verify_every`` frames or
        at once when the texture breaks: a detection over it proves it; failing that, the landmark
        network must find the same points again in displaced crops. A track without proof is given
        up and the frame is searched anew, so that a cut to another face costs no frame.

        Args:
            image: ``(H, W, 3)`` uint8 BGR (or ``(H, W)`` grey).
            landmarks: ``(5, 2)`` float32 points in the crop that :meth:`foresee` gave for this
                image; searched for when not given.
            search: look for a face where none is followed.

        Returns:
            The observation; ``crop`` is None unless the state is ``tracked`` or ``multiple``.

        Raises:
            SourceError: not a picture.
            ConfigError: the detector gives boxes only and there is no landmark network, or the
                tracker was unpickled and not attached.
        """
        self._attached_detector()  # refused before anything changes
        self.fresh, self.neighbour = False, None
        foreseen, self._foreseen = self._foreseen, None
        if foreseen is None or foreseen.image is not image:
            foreseen = landmarks = None
        grey = to_grey(image) if foreseen is None else foreseen.grey
        if self._holds_no_face(grey):
            self._track = None
            return FaceObservation(FaceState.LOW_QUALITY, reason="picture too small for a face")
        found: list[Detection] | None = None
        if self._track is not None:
            predicted = foreseen or self._predict(self._track, image, grey)
            found = self._follow(self._track, predicted, landmarks)
        if self._track is None and search:
            if found is None:
                found = self._detect(image)
            self._track = self._acquire(found, grey)
        if self._track is None:
            return FaceObservation(FaceState.LOST)
        return self._observe(self._track, grey.shape)

    def _holds_no_face(self, grey: NDArray[np.uint8]) -> bool:
        """Tell whether a picture is too small for a face whose eyes are far enough apart."""
        return min(grey.shape) < _BOX_WIDTH * self.config.min_eye_distance_px

    # -- following ---------------------------------------------------------------------------------

    def _predict(
        self, track: _Track, image: NDArray[np.uint8], grey: NDArray[np.uint8]
    ) -> _Prediction:
        """Move the points with the texture of the face."""
        motion, agreement = crop_motion(track.crop, warp(grey, track.matrix, self.size))
        back = invert(track.matrix)
        points = transform(compose(back, compose(motion, track.matrix)), track.points)
        matrix = self._fit(points)
        crop = warp(grey, matrix, self.size)
        broken = agreement < self.config.motion_agreement or (
            correlation(track.crop, crop) < self.config.continuity
        )
        return _Prediction(image, grey, points, matrix, crop, broken)

    def _follow(
        self, track: _Track, prediction: _Prediction, landmarks: NDArray[np.float32] | None
    ) -> list[Detection] | None:
        """Advance the track by a frame, replace it or drop it.

        Returns:
            All faces of the frame, where they had to be searched for.
        """
        config = self.config
        image, grey, predicted = prediction.image, prediction.grey, prediction.points
        if prediction.broken:
            return self._recover(track, image, grey)

        measured = None
        if landmarks is not None:
            measured = transform(invert(prediction.matrix), landmarks)
        elif not track.from_detector:
            measured = self._measure(prediction.crop, prediction.matrix)
        track.until_check -= 1
        track.undetected += 1
        if track.from_detector or track.until_check <= 0:
            place = self._box(predicted)
            # Others that are much smaller than the face followed are not counted.
            found = self._detect(image, config.other_face_size * place[2])
            own = _best_overlap(found, place, config.same_face_overlap)
            if track.from_detector and own is not None:
                measured = own.points
            alone = track.undetected > config.max_undetected
            needed = config.evidence_alone if alone else config.evidence
            evidence = 0.0
            if measured is not None and not track.from_detector:
                evidence = self._evidence(measured, grey)
            if self._stands_on_its_head(track, prediction.matrix, evidence, grey):
                track.misses, track.until_check = track.misses + 1, 1
            elif own is not None:
                track.misses, track.undetected, track.until_check = 0, 0, config.verify_every
            elif evidence >= needed:
                track.misses, track.until_check = 0, config.recheck_every
            else:
                track.misses, track.until_check = track.misses + 1, 1
            self._count_faces(track, found, own, grey)
            if track.misses > (config.misses if track.proven else 0):
                self._track = None
                return None  # a face of any size may be the next

        self._correct(track, predicted, measured)
        track.matrix = self._fit(track.points)
        track.crop = warp(grey, track.matrix, self.size)
        return None

    def _recover(
        self, track: _Track, image: NDArray[np.uint8], grey: NDArray[np.uint8]
    ) -> list[Detection]:
        """Find the face again after its texture broke: a cut, or a jump of the head.

        The face detected nearest to the old place continues the track with fresh points. Without a
        detection the landmarks alone may, if they prove themselves at the old place.
        """
        found = self._detect(image)
        self._track = self._acquire(found, grey, near=self._box(track.points))
        if self._track is None and not track.from_detector:
            fresh = self._settle(track.points, grey)
            if fresh is not None and self._admits(fresh, None):
                fresh.until_check, fresh.several = 1, track.several
                self._track, self.fresh = fresh, True
        if self._track is not None:
            self._track.poor = track.poor
        return found

    def _correct(
        self,
        track: _Track,
        predicted: NDArray[np.float32],
        measured: NDArray[np.float32] | None,
    ) -> None:
        """Blend prediction and measurement: the smaller their difference, the more prediction."""
        config = self.config
        track.points = predicted
        if measured is None:
            return
        eyes = float(np.linalg.norm(predicted[1] - predicted[0]))
        distance = float(np.linalg.norm(measured - predicted, axis=1).mean()) / max(eyes, 1e-6)
        impossible = implausible(measured, self.template, config) == NOT_A_FACE
        if impossible or distance > config.outlier:
            track.rejected += 1
            track.until_check = min(track.until_check, config.recheck_every)
            if impossible or track.rejected <= config.max_rejected:
                return
            track.updates = 0  # the measurements insist: begin the average anew from them
        track.rejected = 0
        track.updates += 1
        rise = (distance - config.noise) / (config.outlier - config.noise)
        gain = config.gain + (1 - config.gain) * float(np.clip(rise, 0, 1))
        gain = max(gain, 1 / track.updates)
        track.points = (predicted + np.float32(gain) * (measured - predicted)).astype(np.float32)

    def _count_faces(
        self,
        track: _Track,
        found: Sequence[Detection],
        own: Detection | None,
        grey: NDArray[np.uint8],
    ) -> None:
        """Decide whether there is more than one face; two checks in a row must agree."""
        if self._others(found, own, self._box(track.points), grey) == track.several:
            track.several_votes = 0
            return
        track.several_votes += 1
        if track.several_votes >= 2:
            track.several, track.several_votes = not track.several, 0
        else:
            track.until_check = 1

    def _others(
        self,
        found: Sequence[Detection],
        own: Detection | None,
        box: Box,
        grey: NDArray[np.uint8],
    ) -> bool:
        for other in sorted(found, key=lambda d: apart(d.box, box)):
            if other is own or overlap(other.box, box) > 0.1:
                continue
            if other.box[2] < self.config.other_face_size * box[2]:
                continue
            if self.choice.knows(other.box):
                return True
            track = self._begin(other, grey)
            if track is not None:
                self.neighbour = other, track.crop
                return True
        return False

    # -- finding -----------------------------------------------------------------------------------

    def _attached_detector(self) -> Detector:
        if self._detector is None:
            raise ConfigError(
                "the face tracker was restored from its state and has no detector: call attach()"
            )
        return self._detector

    def _attached_landmarks(self) -> Landmarks:
        if self._landmarks is None:
            raise ConfigError(
                "the face tracker follows a face by its landmarks and has no landmark network: "
                "call attach() with one"
            )
        return self._landmarks

    @timed("detect")
    def _detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        detector = self._attached_detector()
        self.detections += 1
        if image.ndim == 2 or image.shape[2] == 1:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)
        elif image.shape[2] == 4:
            image = np.ascontiguousarray(image[:, :, :3])
        return detector.detect(image, smallest)

    def _acquire(
        self, found: Sequence[Detection], grey: NDArray[np.uint8], near: Box | None = None
    ) -> _Track | None:
        """Begin a track on the first detection that proves to be a face.

        The one over ``near`` comes first, then the others by size.
        """
        own = None if near is None else _best_overlap(found, near, self.config.same_face_overlap)
        for detection in self.choice.order(found, own):
            track = self._begin(detection, grey)
            if track is not None and self._admits(track, detection):
                self.fresh = True
                track.until_check = self.config.verify_every if track.proven else 1
                track.several = self._others(found, detection, self._box(track.points), grey)
                return track
        return None

    def _admits(self, track: _Track, detection: Detection | None) -> bool:
        return self.choice.admits(track.crop, self._box(track.points), detection)

    def _begin(self, detection: Detection, grey: NDArray[np.uint8]) -> _Track | None:
        """Take a detection as a face if its points, or the landmark network, support it."""
        points = detection.points
        if points is not None:
            if implausible(points, self.template, self.config) == NOT_A_FACE:
                return None
            if detection.rough and self._landmarks is not None:
                return self._settle(points, grey)
            matrix = self._fit(points)
            return _Track(points, matrix, warp(grey, matrix, self.size), from_detector=True)
        if self._landmarks is None or self.box_to_points is None:
            name = self._attached_detector().name
            missing = "landmark head" if self._landmarks is None else f"box points for {name}"
            raise ConfigError(
                f"{name} gives boxes without points, and the AU model has no {missing} to find "
                "them: use a model whose card has it, or a detector with points (`yunet`)"
            )
        x, y, width, _ = detection.box
        if not width > 0:
            return None
        return self._settle((self.box_to_points * width + (x, y)).astype(np.float32), grey)

    def _settle(self, points: NDArray[np.float32], grey: NDArray[np.uint8]) -> _Track | None:
        """Refine first points with the landmark network; None where they do not hold."""
        for _ in range(self.config.passes):
            matrix = self._fit(points)
            points = self._measure(warp(grey, matrix, self.size), matrix)
            if implausible(points, self.template, self.config) == NOT_A_FACE:
                return None
        evidence = self._evidence(points, grey)
        if evidence < self.config.evidence:
            return None
        matrix = self._fit(points)
        lead = evidence - self._evidence_upside_down(matrix, grey)
        if lead < self.config.upright:
            return None
        crop = warp(grey, matrix, self.size)
        proven = lead >= 2 * self.config.upright
        return _Track(points, matrix, crop, from_detector=False, proven=proven)

    def _fit(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        return similarity(points, self.template, self.template_weights)

    def _measure(self, crop: NDArray[np.uint8], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        return transform(invert(matrix), self._attached_landmarks()(crop[None])[0])

    def _evidence(self, points: NDArray[np.float32], grey: NDArray[np.uint8]) -> float:
        """Measure how well the landmarks follow the face when the crop is displaced.

        On a face the points found in a shifted, turned and scaled crop map back to the same place;
        on anything else the network answers with its mean shape wherever the crop is. Returns
        1 − ‖error‖ / ‖error of the mean shape‖, averaged over two opposite displacements:
        near 0 without a face, 0.4–0.7 with one.
        """
        matrix = self._fit(points)
        centre = (self.size - 1) / 2
        crops, moves = [], []
        for sign in (1, -1):
            scale, turn = 1.15**sign, 0.15 * sign
            a, b = scale * np.cos(turn), scale * np.sin(turn)
            shift = np.array([0.073, -0.052]) * sign * self.size
            offset = centre - np.array([[a, -b], [b, a]]) @ (centre, centre) + shift
            moves.append(np.array([[a, -b, offset[0]], [b, a, offset[1]]], np.float32))
            crops.append(warp(grey, compose(moves[-1], matrix), self.size))
        answers = self._attached_landmarks()(np.stack(crops))
        inside = transform(matrix, points)
        error = mean_shape_error = 0.0
        for move, answer in zip(moves, answers, strict=True):
            back = invert(move)
            error += float(np.linalg.norm(transform(back, answer) - inside, axis=1).mean())
            apart = np.linalg.norm(transform(back, inside) - inside, axis=1)
            mean_shape_error += float(apart.mean())
        return 1 - error / mean_shape_error

    def _stands_on_its_head(
        self,
        track: _Track,
        matrix: NDArray[np.float32],
        evidence: float,
        grey: NDArray[np.uint8],
    ) -> bool:
        """Tell whether the landmarks answer the face followed better upside down than upright.

        One that was doubtful when it was found must be clearly upright in the next frame.
        """
        if track.from_detector:
            return False
        lead = evidence - self._evidence_upside_down(matrix, grey)
        least = 0.0 if track.proven else self.config.upright
        track.proven = track.proven or lead >= self.config.upright
        return lead < least

    def _evidence_upside_down(self, matrix: NDArray[np.float32], grey: NDArray[np.uint8]) -> float:
        """Measure the evidence for a face that stands on its head; 0 for no face.

        What a box detector finds of such a face lies over its mouth and chin or over a part of it,
        so the search begins at two places.
        """
        best, centre = 0.0, (self.size - 1) / 2
        for scale, below in ((1.0, 0.3), (0.6, 0.0)):
            offset = centre * (1 + scale)
            half_turn = np.array(
                [[-scale, 0, offset], [0, -scale, offset + below * self.size]], np.float32
            )
            points = transform(invert(compose(half_turn, matrix)), self.template)
            for _ in range(self.config.passes):
                turned = self._fit(points)
                points = self._measure(warp(grey, turned, self.size), turned)
            if implausible(points, self.template, self.config) != NOT_A_FACE:
                best = max(best, self._evidence(points, grey))
        return best

    # -- judging -----------------------------------------------------------------------------------

    def _box(self, points: NDArray[np.float32]) -> Box:
        """Face box that belongs to points: the template's face, a square at any roll."""
        m = invert(self._fit(points))
        in_crop = _BOX_WIDTH * self._eyes_in_crop
        side = in_crop * float(np.hypot(m[0, 0], m[1, 0]))
        middle = self.template.mean(0) - (0, (_BOX_DEPTH - 0.5) * in_crop)
        x, y = transform(m, middle)
        return float(x - side / 2), float(y - side / 2), side, side

    def _observe(self, track: _Track, shape: tuple[int, ...]) -> FaceObservation:
        pose = head_pose(track.points)
        reason, quality = judge(
            track.points,
            track.matrix,
            track.crop,
            shape,
            self.template,
            self.config,
            track.poor,
            pose,
        )
        if track.rejected > self.config.max_rejected:
            reason, quality = NOT_A_FACE, 0.0
        track.poor = bool(reason)
        state = FaceState.MULTIPLE if track.several else FaceState.TRACKED
        return FaceObservation(
            state=FaceState.LOW_QUALITY if reason else state,
            box=self._box(track.points),
            points=track.points,
            matrix=track.matrix,
            crop=None if reason else track.crop,
            quality=quality,
            reason=reason,
            pose=None if reason == NOT_A_FACE else pose,
        )


def _best_overlap(found: Sequence[Detection], box: Box, least: float) -> Detection | None:
    best = max(found, key=lambda d: overlap(d.box, box), default=None)
    return best if best is not None and overlap(best.box, box) >= least else None
