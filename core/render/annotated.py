"""Frames of an annotated video: the picture with relevance over the face, and what it means below.

Below the picture stand the stage, the time and one lane per Action Unit with a cursor, so that any
frame taken out of the video can be read alone. All pictures are ``(H, W, 3)`` uint8, BGR.
"""

from __future__ import annotations

import bisect
import itertools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ..action_units import au_code, parse_label
from ..types import LOST, NONE, FrameRow, SequenceResult, StageLabels
from .layers import lookalikes, write_name
from .lettering import Colour, bgr, draw_text, fit_text, ink_on, text_width
from .mask_track import FaceMasks
from .overlays import blended, overlays
from .pictures import au_colour
from .strips import draw_pill, draw_state, pill_width

__all__ = ["AnnotatedFrames"]

_SMALLEST, _LARGEST = 640, 960
"""Longest side of the picture, pixels: a smaller one has no room for words, and a larger one makes
a large file that shows no more relevance."""
_SCALES = (2, 12)
"""Least and most pixels per cell of an overlay."""

_MARGIN, _BETWEEN, _TYPE, _SMALL, _TINY = 18, 8, 14.0, 10.0, 8.0
_TOP, _LANE, _BAR, _NOTE = 50, 18, 13, 30
_INK: Colour = (36, 30, 26)
_SOFT: Colour = (112, 102, 94)
_GROUND: Colour = (244, 241, 238)
_UNUSABLE: Colour = (214, 208, 203)
_EDGE = 0.72
_NOTICE = "facestage: research software, not a medical device"


class AnnotatedFrames:
    """Draw the frames of a sequence, one after the other.

    Args:
        result: the sequence.
        width, height: size of its pictures, pixels. A frame of another size is fitted in.

    Attributes:
        size: width and height of what is drawn, pixels; both even, as video codecs want them.
    """

    def __init__(self, result: SequenceResult, width: int, height: int) -> None:
        self._result = result
        longest = max(width, height)
        scale = min(max(longest, _SMALLEST), _LARGEST) / longest
        self._picture = (_even(width * scale), _even(height * scale))
        self._rows = {row.index: row for row in result.rows}
        self._starts = [stage.start for stage in result.stages]
        self._aus = tuple(sorted({au for row in result.rows for au in row.labels}))
        gutters = [text_width(self._lane_name(au), _SMALL) for au in self._aus]
        self._left = _MARGIN + max(gutters, default=0) + 10
        self._foot = self._draw_foot()
        self.size = (self._picture[0], self._picture[1] + self._foot.shape[0])

    def draw(
        self, image: NDArray[np.uint8], index: int, face: FaceMasks | None
    ) -> NDArray[np.uint8]:
        """Return an annotated frame.

        Args:
            image: ``(H, W, 3)`` uint8, BGR, or ``(H, W)``, grey.
            index: its number in the sequence.
            face: what lies over its face; only AUs that are active in this frame are painted.

        Returns:
            ``(height, width, 3)`` uint8, BGR, of :attr:`size`.

        Raises:
            KeyError: the sequence has no such frame.
        """
        row = self._rows[index]
        annotated = np.empty((self.size[1], self.size[0], 3), np.uint8)
        height = self._picture[1]
        picture, foot = annotated[:height], annotated[height:]
        to_picture = _fitted(image, picture)
        if face is not None:
            _cover(picture, to_picture, face, row)
        foot[:] = self._foot
        self._draw_moment(foot, row)
        return annotated

    def _lane_name(self, au: int) -> str:
        return " ".join(filter(None, (au_code(au), self._result.marks.get(au, ""))))

    def _draw_foot(self) -> NDArray[np.uint8]:
        """Return what is the same below every picture: the lanes, and who made this."""
        width = self._picture[0]
        lanes = len(self._aus) * _LANE
        foot = np.full((_even(_TOP + lanes + _NOTE), width, 3), 255, np.uint8)
        for number, au in enumerate(self._aus):
            self._draw_lane(foot, au, _TOP + number * _LANE)
        middle = foot.shape[0] - _NOTE / 2 + _SMALL / 2
        notice = fit_text(_NOTICE, _SMALL, width - 2 * _MARGIN)
        used = draw_text(foot, notice, _MARGIN, middle, _SMALL, _SOFT)
        room = width - 2 * _MARGIN - used - 20
        made_by = f"{self._result.model}, LRP {self._result.lrp_preset}"
        if room > 0:
            text = fit_text(made_by, _SMALL, room)
            draw_text(foot, text, width - _MARGIN, middle, _SMALL, _SOFT, anchor="right")
        return foot

    def _draw_lane(self, foot: NDArray[np.uint8], au: int, top: int) -> None:
        """Draw where an AU is active, and under which letters."""
        baseline = top + (_BAR + _SMALL) / 2
        draw_text(foot, self._lane_name(au), _MARGIN, baseline, _SMALL, _INK)
        foot[top : top + _BAR, self._left : self._x(len(self._result.rows))] = _GROUND
        colour = bgr(au_colour(au))
        places = enumerate(self._result.rows)
        for shown, run in itertools.groupby(places, lambda item: _shown(item[1], au)):
            if shown is None:
                continue
            numbers = [number for number, _ in run]
            begin, end = self._x(numbers[0]), self._x(numbers[-1] + 1)
            # A letter's run is told from the next one's by a gap, but never vanishes.
            end = max(end - 1, begin + 1)
            ground = _UNUSABLE if shown == LOST[0] else colour
            # Some colours are nearly that of the lane: a darker edge tells them apart.
            foot[top : top + _BAR, begin:end] = np.multiply(ground, _EDGE)
            foot[top + 1 : top + _BAR - 1, begin + 1 : end - 1] = ground
            if shown != LOST[0] and end - begin >= text_width(shown, _TINY, bold=True) + 6:
                draw_text(
                    foot, shown, (begin + end) / 2, top + (_BAR + _TINY) / 2, _TINY,
                    ink_on(colour), bold=True, anchor="centre",
                )  # fmt: skip

    def _x(self, number: int) -> int:
        """Return where the ``number``-th frame begins in the lanes, pixels."""
        room = self._picture[0] - _MARGIN - self._left
        return self._left + round(room * number / len(self._result.rows))

    def _draw_moment(self, foot: NDArray[np.uint8], row: FrameRow) -> None:
        """Draw what is so at one frame: its stage, its time, and the cursor in the lanes."""
        width = self._picture[0]
        high = round(_TYPE * 1.85)
        top = (_TOP - high) // 2
        baseline = top + (high + _TYPE) / 2
        time = f"{row.time_s:.2f} s"
        right = width - _MARGIN
        right -= draw_text(foot, time, right, baseline, _TYPE, _INK, bold=True, anchor="right")
        number = bisect.bisect_right(self._starts, row.index) - 1
        labels = self._result.stages[number].labels
        count = f"stage {number + 1} of {len(self._starts)}"
        if row.presence is None and labels != LOST:
            count = "face not analysed"  # a stage outlasts a moment that cannot be judged
        right -= 16
        rest = right - text_width(count, _SMALL) - 16
        if _MARGIN + _labels_width(labels) <= rest:
            draw_text(foot, count, right, baseline, _SMALL, _SOFT, anchor="right")
        _draw_labels(foot, labels, top, right)
        if self._aus:
            place = self._rows_before(row.index)
            x = round((self._x(place) + self._x(place + 1)) / 2)
            bottom = _TOP + len(self._aus) * _LANE - (_LANE - _BAR)
            foot[_TOP - 4 : bottom + 4, max(x - 2, 0) : x + 2] = 255
            foot[_TOP - 4 : bottom + 4, max(x - 1, 0) : x + 1] = _INK

    def _rows_before(self, index: int) -> int:
        return bisect.bisect_left(self._result.rows, index, key=lambda row: row.index)


def _shown(row: FrameRow, au: int) -> str | None:
    """Return the letter of an AU in a frame, ``LOST`` without a usable face, or None."""
    if row.presence is None:
        return LOST[0]
    return row.labels.get(au)


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


def _labels_width(labels: StageLabels) -> int:
    return sum(pill_width(label, _TYPE) + _BETWEEN for label in labels) - _BETWEEN


def _draw_labels(foot: NDArray[np.uint8], labels: StageLabels, top: int, right: float) -> None:
    """Draw the labels of a stage, and how many of them found no room."""
    x = _MARGIN
    if labels in (NONE, LOST):
        draw_state(foot, labels[0], x, top, _TYPE)
        return
    for number, label in enumerate(labels):
        rest = f"+{len(labels) - number}"
        more = _BETWEEN + text_width(rest, _TYPE) if number < len(labels) - 1 else 0
        if x + pill_width(label, _TYPE) + more > right:
            baseline = top + (round(_TYPE * 1.85) + _TYPE) / 2
            draw_text(foot, rest, x, baseline, _TYPE, _SOFT)
            return
        colour = bgr(au_colour(parse_label(label)[0]))
        x += draw_pill(foot, label, x, top, _TYPE, colour) + _BETWEEN


def _fitted(image: NDArray[np.uint8], picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Draw an image into a picture, as large as fits.

    Returns:
        ``(3, 3)``: pixels of the image → pixels of the picture, whole numbers at pixel centres.
    """
    high, wide = picture.shape[:2]
    height, width = image.shape[:2]
    scale = min(wide / width, high / height)
    wanted = width * scale, height * scale
    # Up to two pixels are not worth a bar: the picture's sides were rounded to even numbers.
    size = tuple(
        most if most - side <= 2 else max(1, round(side))
        for side, most in zip(wanted, (wide, high), strict=True)
    )
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    shown = image if size == (width, height) else cv2.resize(image, size, interpolation=kind)
    if shown.ndim == 2:
        shown = cv2.cvtColor(shown, cv2.COLOR_GRAY2BGR)
    left, top = (wide - size[0]) // 2, (high - size[1]) // 2
    if size != (wide, high):
        picture[:] = 0
    picture[top : top + size[1], left : left + size[0]] = shown
    across, down = size[0] / width, size[1] / height
    return np.array(
        [
            (across, 0, left + (across - 1) / 2),
            (0, down, top + (down - 1) / 2),
            (0, 0, 1),
        ]
    )


def _cover(
    picture: NDArray[np.uint8], to_picture: NDArray[np.float64], face: FaceMasks, row: FrameRow
) -> None:
    """Lay the masks of the AUs active in a frame over its face."""
    aus = [au for au in sorted(face.masks) if au in row.labels]
    to_crop = np.vstack([face.matrix, (0, 0, 1)]).astype(np.float64)
    turn = np.linalg.det(to_crop)
    if not aus or not math.isfinite(turn) or abs(turn) < 1e-12:
        return
    masks = np.stack([face.masks[au] for au in aus])
    from_crop = to_picture @ np.linalg.inv(to_crop)
    per_cell = math.sqrt(abs(np.linalg.det(from_crop))) * face.crop_side / masks.shape[1]
    scale = min(max(round(per_cell), _SCALES[0]), _SCALES[1])
    (shown,) = overlays(masks, [au_colour(au) for au in aus], [len(aus)], scale)
    # From pixels of the overlay, whole numbers at their centres, to those of the crop.
    share = face.crop_side / shown.shape[0]
    to_crop_pixels = np.array(
        [(share, 0, (share - 1) / 2), (0, share, (share - 1) / 2), (0, 0, 1)], np.float64
    )
    matrix = from_crop @ to_crop_pixels
    first, last = -0.5, shown.shape[0] - 0.5
    corners = (
        matrix @ np.array([(x, y, 1) for x in (first, last) for y in (first, last)], np.float64).T
    )
    left, top = (max(math.floor(corners[axis].min()), 0) for axis in (0, 1))
    right, bottom = (
        min(math.ceil(corners[axis].max()) + 1, picture.shape[1 - axis]) for axis in (0, 1)
    )
    if left >= right or top >= bottom:
        return
    moved = matrix[:2] - np.array([(0, 0, left), (0, 0, top)])
    warped = cv2.warpAffine(shown, moved, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    part = picture[top:bottom, left:right]
    part[:] = blended(np.ascontiguousarray(part), warped.astype(np.uint8, copy=False))
    colours = [bgr(au_colour(au)) for au in aus]
    for number, x, y in lookalikes(masks > 0, colours):
        place = matrix @ ((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5, 1)
        write_name(picture, str(aus[number]), round(place[0]), round(place[1]), _TINY)
