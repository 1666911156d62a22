"""What is analysed: cameras that play sources over and over, and how many AUs are active."""

from __future__ import annotations

import copy
import dataclasses
import random
import sys
import time
from collections.abc import Callable, Sequence

from ...core.config import AnalyzerConfig
from ...core.errors import ConfigError, SourceError
from ...core.network.au_network import AUNetwork
from ...core.types import Frame
from ..sources import Grab, Source, may_appear

__all__ = [
    "LEAST_FRAMES",
    "MOST_CAMERAS",
    "REAL",
    "Camera",
    "PacedCamera",
    "check_cameras",
    "check_sources",
    "with_active",
]

REAL = "real"
"""In place of a number of active AUs: as many as the faces show."""
LEAST_FRAMES = 10
"""A recording with fewer frames says nothing about a camera."""
MOST_CAMERAS = 256
"""More are not opened, whatever the machine: each has a thread of its own."""
_FILES_PER_CAMERA, _FILES_BESIDE = 2, 64
"""Open files of a camera, and of all else."""

Opener = Callable[[], Source]


def check_cameras(counts: Sequence[int], specs: Sequence[str]) -> None:
    """Refuse numbers of cameras that cannot be opened.

    Args:
        counts: as asked for.
        specs: the sources that they play, in turn.

    Raises:
        ConfigError: none or too many, or a real camera would be opened twice.
    """
    if not counts or min(counts) < 1:
        raise ConfigError(
            f"--cameras {','.join(map(str, counts))} holds no camera; use 1 or more, such as 1,2,4"
        )
    most, limit = max(counts), min(MOST_CAMERAS, _open_files())
    if most > limit:
        raise ConfigError(
            f"--cameras {most} is more than this machine can open ({limit}); use fewer"
            + ("" if limit == MOST_CAMERAS else ", or raise the limit of open files (ulimit -n)")
        )
    single = [spec for spec in specs if may_appear(spec)]
    if single and most > len(specs):
        raise ConfigError(
            f"--cameras {most} would open a camera or stream twice, and only {len(specs)} "
            "sources are given; give one for each, or a video file, which can be played many times"
        )


def _open_files() -> int:
    """Return how many cameras the limit of open files has room for."""
    if sys.platform == "win32":
        return MOST_CAMERAS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CAMERAS
    return max(0, (soft - _FILES_BESIDE) // _FILES_PER_CAMERA)


def check_sources(specs: Sequence[str], open_source: Callable[[str], Source]) -> None:
    """Open each source once and read a little of it.

    Raises:
        ConfigError: a recording ends too early to be played as a camera.
        SourceError: it cannot be opened or read.
    """
    for spec in dict.fromkeys(specs):
        with open_source(spec) as source:
            for n in range(LEAST_FRAMES):
                if source.read() is None:
                    raise ConfigError(
                        f"{source.name} ends after {n} frames; give a source of at least "
                        f"{LEAST_FRAMES}"
                    )


def with_active(
    network: AUNetwork, config: AnalyzerConfig, active: str
) -> tuple[AUNetwork, AnalyzerConfig]:
    """Return a network and a configuration with which so many AUs are active in every frame.

    Args:
        network, config: as they are.
        active: :data:`REAL` for those that the face shows, or a number: the first of the card.

    Raises:
        ConfigError: it is neither, or more than the network has.
    """
    if active == REAL:
        return network, config
    aus = network.card.aus
    if not active.isdecimal() or int(active) > len(aus):
        raise ConfigError(
            f"--active {active} is neither {REAL} nor a number from 0 to {len(aus)}, which is how "
            f"many Action Units {network.card.name} has"
        )
    count = int(active)
    # A presence is never below 0, and of a real face never 1.
    level = dict.fromkeys(aus, 0.0 if count else 1.0)
    changed = copy.copy(network)
    changed.card = dataclasses.replace(network.card, on=level, off=level)
    return changed, dataclasses.replace(config, aus=aus[: max(count, 1)])


class Camera:
    """A source that is read over and over, for the closed loop.

    Args:
        name: of its frames.
        opener: opens the source, again at each end.
        fps: frames per second that its frames claim.
    """

    def __init__(self, name: str, opener: Opener, fps: float) -> None:
        self._name, self._opener, self._fps = name, opener, fps
        self._source: Source | None = None
        self._index = -1

    def read(self) -> Frame:
        """Return the next frame.

        Raises:
            SourceError: the source cannot be read, or one without an end has ended.
        """
        grab = None if self._source is None else self._source.read()
        if grab is None:
            if self._source is not None and self._source.endless:
                raise SourceError(f"{self._name} ended; check it in a player")
            self.close()
            self._source = self._opener()
            grab = self._source.read()
        if grab is None:
            raise SourceError(f"{self._name} gives no picture; check it in a player")
        self._index += 1
        return Frame(
            source=self._name,
            index=self._index,
            image=grab.image,
            t_mono_ns=time.monotonic_ns(),
            t_wall=time.time(),
            pts=self._index / self._fps,
        )

    def close(self) -> None:
        """Close the source."""
        if self._source is not None:
            self._source.close()
            self._source = None


class PacedCamera(Source):
    """A source that is due frame by frame, at a pace with jitter, whoever reads it.

    A frame that is fetched late does not move those after it: their schedule stands from the
    start. Only a camera or stream with a pace of its own is due when it comes.

    Args:
        name: its name.
        opener: opens what it plays, again at each end.
        fps: frames per second.
        jitter: longest shift of a frame, share of the time between two.
        seed: of the shifts, and of when in that time its first frame is due.
        clock, sleep: seconds; waits so many.

    Attributes:
        due: when each frame read so far was scheduled, by the clock.
    """

    kind = "camera"
    live = True
    endless = True
    frame_count = None

    def __init__(
        self,
        name: str,
        opener: Opener,
        *,
        fps: float,
        jitter: float = 0.0,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.name, self.fps = name, fps
        self._opener, self._jitter = opener, jitter
        self._clock, self._sleep = clock, sleep
        self._random = random.Random(seed)
        self._source = opener()
        self.size = self._source.size
        self._played = 0
        self.due: list[float] = []
        self._start: float | None = None

    def read(self) -> Grab:
        """Wait until the next frame is due, then decode it.

        Raises:
            SourceError: the source cannot be read, or one without an end has ended.
        """
        period = 1.0 / (self.fps or 30.0)
        self._source.late = self.late
        if self._source.frame_count is not None and self._played >= self._source.frame_count:
            self._begin_again()  # before the wait: no camera has to be opened for each frame
        if self._start is None:
            self._start = self._clock() + period * self._random.random()
        index = len(self.due)
        shift = self._jitter * (2.0 * self._random.random() - 1.0)
        due = self._start + period * (index + shift)
        if not self._source.endless and (early := due - self._clock()) > 0:
            self._sleep(early)
        grab = self._source.read()
        if grab is None and not self._source.endless:
            self._begin_again()
            self._source.late = self.late
            grab = self._source.read()
        if grab is None:
            raise SourceError(f"{self.name} ended; check it in a player")
        self._played += 1
        self.due.append(self._clock() if self._source.endless else due)
        return grab.at(index, index * period)

    def _begin_again(self) -> None:
        self._source.close()
        self._source = self._opener()
        self._played = 0

    def close(self) -> None:
        """Close the source."""
        self._source.close()
