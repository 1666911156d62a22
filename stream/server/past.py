"""The last minutes in memory, so that somebody can look back: samples, masks and pictures.

All frames of the last seconds are kept, and of older ones five a second; those with which a stage
begins stay. Both the time and the bytes are bounded. Nothing is written to disk, and a picture is
the one that pages were sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from .. import protocol

__all__ = ["HISTORY_BYTES", "HISTORY_S", "PastRing", "portions"]

HISTORY_S = 600.0
"""How far one can look back unless ``--history`` says otherwise, seconds."""
HISTORY_BYTES = 160 * 1024 * 1024
"""Memory of all streams together, bytes: ten minutes of one camera take about 120 MB."""

_WHOLE_S = 20.0  # so long every frame is kept
_APART_S = 0.2  # after that, frames are so far apart
_UNWATCHED_S = 0.5  # while nobody watches, a picture is made so often for the past alone
_SAMPLE_BYTES = 4096  # about what a frame sample with 17 AUs takes


@dataclass(slots=True)
class _Kept:
    frame: protocol.PastFrame
    cost: int


@dataclass(slots=True)
class _Line:
    """What is kept of one stream: ``old`` is thinned out, ``fresh`` is whole."""

    old: deque[_Kept] = field(default_factory=deque)
    fresh: deque[_Kept] = field(default_factory=deque)
    heat: protocol.Heat | None = None
    picture: tuple[int, bytes] | None = None
    heat_t: float = float("-inf")
    picture_t: float = float("-inf")

    @property
    def first(self) -> _Kept | None:
        queue = self.old or self.fresh
        return queue[0] if queue else None


class PastRing:
    """Keep the last frames of each stream. Its owner sees to it that one thread at a time uses it.

    Args:
        seconds: how far back.
        most_bytes: of all streams together; the oldest frames go first.
    """

    def __init__(self, seconds: float = HISTORY_S, most_bytes: int = HISTORY_BYTES) -> None:
        self.seconds = seconds
        self._most_bytes = most_bytes
        self._lines: dict[str, _Line] = {}
        self.bytes = 0

    def due(self, stream: str, now: float, *, picture: bool) -> bool:
        """Return whether a heat or a picture should be made although nobody watches.

        Args:
            stream: id of the stream.
            now: wall clock, seconds since 1970.
            picture: whether a picture is meant, not a heat.
        """
        line = self._line(stream)
        last = line.picture_t if picture else line.heat_t
        return not 0 <= now - last < _UNWATCHED_S  # a clock that was set back makes it due, too

    def add_heat(self, stream: str, heat: protocol.Heat) -> None:
        """Take the heat of a frame, before its sample."""
        self._line(stream).heat = heat

    def add_picture(self, stream: str, frame: int, jpeg: bytes) -> None:
        """Take the picture of a frame, before its sample."""
        self._line(stream).picture = (frame, jpeg)

    def add_frame(self, stream: str, sample: protocol.FrameSample, t_capture: float) -> None:
        """Keep a frame whose heat is there; one without would show the past without its reasons."""
        line = self._line(stream)
        heat, picture = line.heat, line.picture
        line.heat = line.picture = None
        if heat is None or heat.frame != sample.frame:
            return
        jpeg = picture[1] if picture is not None and picture[0] == sample.frame else b""
        line.heat_t = t_capture
        if jpeg:
            line.picture_t = t_capture
        frame = protocol.PastFrame(t_capture=t_capture, frame=sample, heat=heat, picture=jpeg)
        cost = _SAMPLE_BYTES + len(jpeg) + sum(len(mask.data) for mask in heat.masks)
        line.fresh.append(_Kept(frame, cost))
        self.bytes += cost
        self._thin(line, t_capture)
        self._forget(t_capture)

    def span(self, stream: str) -> tuple[float, float] | None:
        """Return when the oldest and the newest frame of a stream were grabbed; None without."""
        line = self._line(stream)
        first = line.first
        if first is None:
            return None
        return first.frame.t_capture, (line.fresh or line.old)[-1].frame.t_capture

    def between(
        self, stream: str, from_s: float, to_s: float, most: int
    ) -> list[protocol.PastFrame]:
        """Return at most so many frames from … until before …, spread over the time."""
        line = self._line(stream)
        found = [
            kept.frame for kept in (*line.old, *line.fresh) if from_s <= kept.frame.t_capture < to_s
        ]
        if len(found) <= most:
            return found
        if most == 1:
            return found[:1]
        step = (len(found) - 1) / (most - 1)
        return [found[round(i * step)] for i in range(most)]

    def _line(self, stream: str) -> _Line:
        return self._lines.setdefault(stream, _Line())

    def _thin(self, line: _Line, now: float) -> None:
        """Move frames that are no longer fresh to the old ones, if they are far enough apart."""
        while line.fresh and now - line.fresh[0].frame.t_capture > _WHOLE_S:
            kept = line.fresh.popleft()
            before = line.old[-1].frame if line.old else None
            if (
                before is None
                or kept.frame.t_capture - before.t_capture >= _APART_S
                or kept.frame.frame.stage != before.frame.stage
            ):
                line.old.append(kept)
            else:
                self.bytes -= kept.cost

    def _forget(self, now: float) -> None:
        """Forget what is too old, then the oldest of what is too much."""
        for line in self._lines.values():
            while (first := line.first) is not None and (
                now - first.frame.t_capture > self.seconds
            ):
                self._drop(line)
        while self.bytes > self._most_bytes:
            lines = [line for line in self._lines.values() if line.first is not None]
            self._drop(min(lines, key=_oldest))

    def _drop(self, line: _Line) -> None:
        self.bytes -= (line.old or line.fresh).popleft().cost


def _oldest(line: _Line) -> float:
    return float("inf") if line.first is None else line.first.frame.t_capture


def portions(
    frames: Iterable[protocol.PastFrame], most_bytes: int
) -> list[tuple[protocol.PastFrame, ...]]:
    """Return frames in portions of about so many bytes of pictures; without any, an empty one."""
    result: list[tuple[protocol.PastFrame, ...]] = []
    portion: list[protocol.PastFrame] = []
    size = 0
    for frame in frames:
        cost = len(frame.picture) + sum(len(mask.data) for mask in frame.heat.masks)
        if portion and size + cost > most_bytes:
            result.append(tuple(portion))
            portion, size = [], 0
        portion.append(frame)
        size += cost
    result.append(tuple(portion))
    return result
