"""The evidence that what a tracker follows is still a face, renewed now and then."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..steps import step
from .alignment import transform
from .detections import Detection, best_overlap
from .probe import Prediction
from .search import Search
from .track import Check, Track

__all__ = ["Proof"]


class Proof:
    """Check tracks with the detector, and with the landmarks where it says too little.

    Args:
        search: what asks the detector.

    Attributes:
        looked: what the detector found was taken in in the last frame.
        neighbour: the nearest other face that proved to be one when the last frame was checked for
            others, and its aligned crop; None in other frames.
    """

    def __init__(self, search: Search) -> None:
        self._search, self.probe, self.config = search, search.probe, search.probe.config
        self.begin()

    def begin(self) -> None:
        """Begin the next frame."""
        self.looked = False
        self.neighbour: tuple[Detection, NDArray[np.uint8]] | None = None

    def points_of(
        self, track: Track, prediction: Prediction, measured: NDArray[np.float32] | None
    ) -> NDArray[np.float32] | None:
        """Let a detector that measures the points prove the face.

        Returns:
            The points ``(5, 2)`` that it measured, if it saw the face.
        """
        del measured  # no landmarks are
        place = self.probe.box(prediction.points)
        self.looked = True
        found = self._search.detect(prediction.image, self.config.other_face_size * place[2])
        own = best_overlap(found, place, self.config.same_face_overlap)
        self._note(track, seen=own is not None)
        self._end_check(track, prediction, found, own)
        return None if own is None else own.points

    def check(
        self, track: Track, prediction: Prediction, measured: NDArray[np.float32] | None
    ) -> NDArray[np.float32] | None:
        """Ask the detector when that is due, and take in its answer one frame later.

        Returns:
            The points measured in this frame, now perhaps for the proof.
        """
        check = track.check
        with step("detect"):  # it may be waited for
            found = None if check is None else check.answer()
        if check is not None and found is not None:
            track.check, self.looked = None, True
            own = best_overlap(found, check.place, self.config.same_face_overlap)
            if own is not None and track.proven and _stands_as(own, prediction.matrix):
                self._note(track, seen=True)
            else:
                measured = self._prove(track, prediction, own, measured)
            self._end_check(track, prediction, found, own)
        elif not track.proven:  # at once: whatever it is, it may stand on its head
            measured = self.probe.measured(prediction) if measured is None else measured
            evidence = self.probe.evidence(measured, prediction.grey)
            if self._stands_on_its_head(track, prediction, evidence):
                track.given_up = True
        if not track.given_up and track.check is None and track.until_check <= 0:
            # Others that are much smaller than the face followed are not counted.
            place = self.probe.box(prediction.points)
            smallest = self.config.other_face_size * place[2]
            track.check = Check(place, self._search.ask(prediction.image, smallest))
        return measured

    def _prove(
        self,
        track: Track,
        prediction: Prediction,
        own: Detection | None,
        measured: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        """Let the landmarks prove what the detector did not see, or not which way is up.

        Returns:
            The points measured in this frame.
        """
        config = self.config
        measured = self.probe.measured(prediction) if measured is None else measured
        alone = track.undetected > config.max_undetected
        needed = config.evidence_alone if alone else config.evidence
        evidence = self.probe.evidence(measured, prediction.grey)
        if self._stands_on_its_head(track, prediction, evidence):
            self._note(track, seen=False)
        elif own is not None:
            self._note(track, seen=True)
        elif evidence >= needed:
            track.misses, track.until_check = 0, config.recheck_every - 1
        else:
            self._note(track, seen=False)
        return measured

    def _note(self, track: Track, *, seen: bool) -> None:
        """Note whether the detector saw the face, and when it is asked again."""
        if seen:
            track.misses, track.undetected = 0, 0
            track.until_check = self.config.verify_every - 1
        else:
            track.misses, track.until_check = track.misses + 1, 0

    def _end_check(
        self,
        track: Track,
        prediction: Prediction,
        found: Sequence[Detection],
        own: Detection | None,
    ) -> None:
        """Count the faces of a check; give up a track that has no proof for too long."""
        self._count_faces(track, found, own, prediction.grey)
        if track.misses > (self.config.misses if track.proven else 0):
            track.given_up = True

    def _stands_on_its_head(self, track: Track, prediction: Prediction, evidence: float) -> bool:
        """Tell whether the landmarks answer the face followed better upside down than upright.

        One that was doubtful when it was found must be clearly upright in the next frame.
        """
        lead = evidence - self.probe.evidence_upside_down(prediction.matrix, prediction.grey)
        least = 0.0 if track.proven else self.config.upright
        track.proven = track.proven or lead >= self.config.upright
        return lead < least

    def finds_others(
        self,
        track: Track,
        found: Sequence[Detection],
        own: Detection | None,
        grey: NDArray[np.uint8],
    ) -> bool:
        """Tell whether there is another face in a picture than the one followed, ``own``."""
        box = self.probe.box(track.points)
        there, self.neighbour = self._search.others(found, own, box, grey)
        return there

    def _count_faces(
        self,
        track: Track,
        found: Sequence[Detection],
        own: Detection | None,
        grey: NDArray[np.uint8],
    ) -> None:
        """Decide whether there is more than one face; two checks in a row must agree."""
        if self.finds_others(track, found, own, grey) == track.several:
            track.several_votes = 0
            return
        track.several_votes += 1
        if track.several_votes >= 2:
            track.several, track.several_votes = not track.several, 0
        else:
            track.until_check = 0


def _stands_as(own: Detection, matrix: NDArray[np.float32]) -> bool:
    """Tell whether the detector itself saw which way is up, and as the track has it."""
    if own.points is None:
        return False
    points = transform(matrix, own.points)
    across, down = (points[3:].mean(0) - points[:2].mean(0)).tolist()
    return down > abs(across)
