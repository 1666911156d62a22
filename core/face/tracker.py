"""The face step: find one face, follow its five points, cut it out aligned.

How a face is followed. The motion of the face's own texture between two frames (Lucas–Kanade in the
aligned crop) predicts the points with almost no noise; measured points, of the detector or of a
landmark network, correct that prediction by a small share. So a still face stands still, a moving
one is followed without lag, and a wrong measurement is outvoted.

A network that looks at the crop anyway, for Action Units, finds the landmarks in the same pass.
:meth:`FaceTracker.learn` takes them in: they correct the points of the frame that they were found
in, and the texture's motion carries that correction to the next. Only where a track is new, or its
last measurement contradicts it, are landmarks searched for before the face is cut out.

Texture and landmarks alone would follow a wall as faithfully as a face, so the evidence is renewed:
by the detector every few frames, whose answer is taken in one frame later so that no frame waits
for it; at once when the picture breaks (a cut); and by asking the landmark network whether its
points move with the face when the crop is moved (:mod:`.probe`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ..config import FaceConfig
from ..types import FaceObservation, FaceState
from .alignment import align, invert, similarity, to_grey, transform, warp
from .boxes import Box
from .detections import Choice, Detection, Detector, Known
from .pose import head_pose
from .probe import BOX_WIDTH, Landmarks, Prediction, Probe
from .proof import Proof
from .quality import NOT_A_FACE, implausible, judge
from .search import Search
from .track import FIRST_UPDATES, Track, correct, distance, predict

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


class _Card(Protocol):
    """What a model card says of the crop."""

    @property
    def template(self) -> NDArray[np.float32]: ...
    @property
    def template_weights(self) -> NDArray[np.float32]: ...
    @property
    def input_size(self) -> int: ...
    @property
    def box_points(self) -> Mapping[str, NDArray[np.float32]]: ...


class _Network(Protocol):
    """A network that may find landmarks."""

    @property
    def card(self) -> _Card: ...
    @property
    def has_landmarks(self) -> bool: ...
    def five_points(self, crops: NDArray[np.uint8], /) -> NDArray[np.float32]: ...


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
        self.config = config if config is not None else FaceConfig()
        self.probe = Probe(landmarks, template, template_weights, size, self.config)
        self.size = size
        self._search = Search(detector, self.probe, box_to_points)
        self._proof = Proof(self._search)
        self._track: Track | None = None
        self._foreseen: Prediction | None = None
        self.fresh = False
        """The track began in the last frame, or was found again there."""

    @classmethod
    def of_network(
        cls, detector: Detector, network: _Network, config: FaceConfig | None = None
    ) -> Self:
        """Make the tracker that a network's card describes, with its landmarks if it has any.

        Args:
            detector: finds faces.
            network: such as :class:`~facestage.core.network.au_network.AUNetwork`.
            config: thresholds.
        """
        card = network.card
        return cls(
            detector,
            network.five_points if network.has_landmarks else None,
            card.template,
            card.template_weights,
            card.input_size,
            card.box_points.get(detector.name),
            config,
        )

    def attach(self, detector: Detector, landmarks: Landmarks | None) -> None:
        """Give the tracker its detector and landmark network, first or after unpickling."""
        self._search.detector = detector
        self.probe.landmarks = landmarks

    def __getstate__(self) -> dict[str, Any]:
        track = self._track
        if track is not None and track.check is not None:
            track.check.answer = Known(track.check.answer(wait=True) or [])
        return {**self.__dict__, "_foreseen": None}

    def reset(self) -> None:
        """Forget the face, as after a cut that is known or a new connection."""
        self.drop()
        self._search.detections = 0

    @property
    def detections(self) -> int:
        """Times the detector ran since :meth:`reset`."""
        return self._search.detections

    @property
    def choice(self) -> Choice:
        """Whom it may follow."""
        return self._search.choice

    @choice.setter
    def choice(self, choice: Choice) -> None:
        self._search.choice = choice

    @property
    def looked(self) -> bool:
        """Whether what the detector found was taken in in the last frame."""
        return self._proof.looked

    @property
    def neighbour(self) -> tuple[Detection, NDArray[np.uint8]] | None:
        """The nearest other face that proved to be one when the last frame was checked for others,
        and its aligned crop; None in other frames."""
        return self._proof.neighbour

    @property
    def crop(self) -> NDArray[np.uint8] | None:
        """Aligned crop ``(S, S)`` of the face followed, also where it is of low quality."""
        return None if self._track is None else self._track.crop

    @property
    def box(self) -> Box | None:
        """Box of the face followed, frame pixels."""
        return None if self._track is None else self.probe.box(self._track.points)

    @property
    def due(self) -> bool:
        """Whether the next frame will be searched for faces."""
        track = self._track
        return track is None or track.from_detector or track.until_check <= 1

    @property
    def learns(self) -> bool:
        """Whether :meth:`learn` is of use: a face is followed by its landmarks."""
        return self._track is not None and not self._track.from_detector

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
            ``(S, S)`` uint8; None where none are needed: those of the frame before were learned,
            the frame has to be searched or is too small for a face, or the detector gives points.

        Asked again for the same image, it tells again what it found.

        Raises:
            SourceError: not a picture.
        """
        track, foreseen, self._foreseen = self._track, self._foreseen, None
        if track is None or track.from_detector:
            return None
        if foreseen is None or foreseen.image is not image:
            grey = to_grey(image)
            if self._holds_no_face(grey):
                return None
            foreseen = predict(track, image, grey, self.probe)
        self._foreseen = foreseen
        return None if foreseen.broken or track.learned else foreseen.crop

    @property
    def searches(self) -> bool:
        """Whether the frame that was foreseen has to be searched for the face."""
        return self._foreseen.broken if self._foreseen is not None else self._track is None

    @property
    def checks(self) -> bool:
        """Whether the next frame may have to prove the face."""
        track = self._track
        return track is not None and (track.check is not None or not track.proven)

    def learn(self, landmarks: NDArray[np.float32]) -> None:
        """Take in the landmarks of the crop that the last frame gave: the next needs none then.

        They correct the points from the next frame on. Where they contradict what was predicted,
        the next frame's are searched for all the same. A track whose points come from the
        detector learns nothing.

        Args:
            landmarks: ``(5, 2)`` float32 crop pixels, of the crop of the last observation.
        """
        track, self._foreseen = self._track, None
        if track is None or track.from_detector:
            return
        measured = transform(invert(track.matrix), landmarks)
        if not track.measured:
            track.learned = correct(track, track.points, measured, self.probe, late=True)
            return
        # The frame was measured already: another look at it says only whether all is well.
        settled = track.updates >= FIRST_UPDATES and not track.rejected
        near = distance(measured, track.points) <= self.config.noise
        track.learned = settled and near and self.probe.plausible(measured)

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
                image; searched for when not given and not learned.
            search: look for a face where none is followed.

        Returns:
            The observation; ``crop`` is None unless the state is ``tracked`` or ``multiple``.

        Raises:
            SourceError: not a picture.
            ConfigError: the detector gives boxes only and there is no landmark network, or the
                tracker was unpickled and not attached.
        """
        self._search.attached()  # refused before anything changes
        self.fresh = False
        self._proof.begin()
        foreseen, self._foreseen = self._foreseen, None
        if foreseen is None or foreseen.image is not image:
            foreseen = landmarks = None
        grey = to_grey(image) if foreseen is None else foreseen.grey
        if self._holds_no_face(grey):
            self._track = None
            return FaceObservation(FaceState.LOW_QUALITY, reason="picture too small for a face")
        found: list[Detection] | None = None
        if self._track is not None:
            predicted = foreseen or predict(self._track, image, grey, self.probe)
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
        return min(grey.shape) < BOX_WIDTH * self.config.min_eye_distance_px

    # -- following ---------------------------------------------------------------------------------

    def _follow(
        self, track: Track, prediction: Prediction, landmarks: NDArray[np.float32] | None
    ) -> list[Detection] | None:
        """Advance the track by a frame, replace it or drop it.

        Returns:
            All faces of the frame, where they had to be searched for.
        """
        if prediction.broken:
            return self._recover(track, prediction.image, prediction.grey)
        measured = None
        if not track.from_detector and not track.learned:
            measured = self.probe.measured(prediction, landmarks)
        track.learned = False
        track.until_check -= 1
        track.undetected += 1
        check = self._proof.points_of if track.from_detector else self._proof.check
        measured = check(track, prediction, measured)
        if track.given_up:
            self._track = None
            return None  # a face of any size may be the next
        track.measured = measured is not None
        if measured is None:
            # What the texture says is all there is, and the face is cut out with it already.
            track.points = prediction.points
            track.matrix, track.crop = prediction.matrix, prediction.crop
            return None
        correct(track, prediction.points, measured, self.probe)
        track.matrix = self.probe.fit(track.points)
        track.crop = warp(prediction.grey, track.matrix, self.size)
        return None

    def _recover(
        self, track: Track, image: NDArray[np.uint8], grey: NDArray[np.uint8]
    ) -> list[Detection]:
        """Find the face again after its texture broke: a cut, or a jump of the head.

        The face detected nearest to the old place continues the track with fresh points. Without a
        detection the landmarks alone may, if they prove themselves at the old place.
        """
        found = self._detect(image)
        self._track = self._acquire(found, grey, near=self.probe.box(track.points))
        if self._track is None and not track.from_detector:
            fresh = self._search.settle(track.points, grey)
            if fresh is not None and self._search.admits(fresh, None):
                fresh.until_check, fresh.several = 1, track.several
                self._track, self.fresh = fresh, True
        if self._track is not None:
            self._track.poor = track.poor
        return found

    # -- finding -----------------------------------------------------------------------------------

    def _detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        self._proof.looked = True
        return self._search.detect(image)

    def _acquire(
        self, found: Sequence[Detection], grey: NDArray[np.uint8], near: Box | None = None
    ) -> Track | None:
        """Begin a track on one of the faces that were found."""
        begun = self._search.acquire(found, grey, near)
        if begun is None:
            return None
        track, own = begun
        self.fresh = True
        track.several = self._proof.finds_others(track, found, own, grey)
        return track

    # -- judging -----------------------------------------------------------------------------------

    def _observe(self, track: Track, shape: tuple[int, ...]) -> FaceObservation:
        pose = head_pose(track.points)
        reason, quality = judge(
            track.points,
            track.matrix,
            track.crop,
            shape,
            self.probe.template,
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
            box=self.probe.box(track.points),
            points=track.points,
            matrix=track.matrix,
            crop=None if reason else track.crop,
            quality=quality,
            reason=reason,
            pose=None if reason == NOT_A_FACE else pose,
        )
