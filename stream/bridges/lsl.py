"""A live run on the Lab Streaming Layer: AU values and stages beside other signals; extra ``lsl``.

Two outlets for each stream: ``facestage STREAM`` of the type ``AU`` with a sample per analysed
frame, and ``facestage STREAM stages`` of the type ``Markers``. Their times are those of the grab:
the monotonic clock, moved by its offset to LSL's own clock, which was measured at the start.
Source: https://labstreaminglayer.readthedocs.io, time synchronisation and XDF metadata.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.action_units import au_code
from ...core.errors import ConfigError
from ...core.stages import format_labels
from ...core.types import FrameResult, StageEvent

__all__ = ["LslOutlets", "clock_offset_s"]

_TRIES = 20


def _library() -> Any:
    try:
        import pylsl  # pyright: ignore[reportMissingImports]
    except (ImportError, RuntimeError) as error:  # RuntimeError: no liblsl beside it
        raise ConfigError(
            "--lsl needs the package pylsl with its library liblsl; install it with: "
            f"pip install 'facestage[lsl]' ({str(error).strip().splitlines()[0][:100]})"
        ) from error
    return pylsl


def clock_offset_s() -> float:
    """Return LSL's clock less the monotonic clock, seconds: the best of some measurements.

    Each reads LSL's clock between two readings of ours; the one with the least time between them
    is the surest.

    Raises:
        ConfigError: pylsl is not installed.
    """
    lsl = _library()
    best = (float("inf"), 0.0)
    for _ in range(_TRIES):
        before = time.monotonic()
        theirs = lsl.local_clock()
        after = time.monotonic()
        best = min(best, (after - before, theirs - (before + after) / 2))
    return best[1]


class LslOutlets:
    """Send what is found to whoever records on the network.

    Args:
        streams: ids of the streams.
        aus: numbers of the AUs that take part, in the order of ``all_aus``.
        all_aus: AUs of the network, in the order of a result's values.
        fps: frames per second that are to be expected.

    Raises:
        ConfigError: pylsl is not installed.
    """

    def __init__(
        self, streams: Sequence[str], aus: Sequence[int], all_aus: Sequence[int], *, fps: float
    ) -> None:
        self._lsl = _library()
        self.offset_s = clock_offset_s()
        self._places = [all_aus.index(au) for au in aus]
        self._channels = [
            f"{au_code(au)} {kind}" for kind in ("presence", "intensity") for au in aus
        ]
        self._values = {stream: self._value_outlet(stream, fps) for stream in streams}
        self._stages = {stream: self._stage_outlet(stream) for stream in streams}

    def _value_outlet(self, stream: str, fps: float) -> Any:
        info = self._lsl.StreamInfo(
            f"facestage {stream}",
            "AU",
            len(self._channels),
            fps,
            self._lsl.cf_float32,
            f"facestage-{stream}-au",
        )
        channels = info.desc().append_child("channels")
        for name in self._channels:
            channel = channels.append_child("channel")
            channel.append_child_value("label", name)
            channel.append_child_value("unit", "0-1" if "presence" in name else "FACS 0-5")
        info.desc().append_child_value("clock_offset_s", repr(self.offset_s))
        info.desc().append_child_value("note", "Research software. Not a medical device.")
        return self._lsl.StreamOutlet(info)

    def _stage_outlet(self, stream: str) -> Any:
        info = self._lsl.StreamInfo(
            f"facestage {stream} stages",
            "Markers",
            1,
            self._lsl.IRREGULAR_RATE,
            self._lsl.cf_string,
            f"facestage-{stream}-stages",
        )
        return self._lsl.StreamOutlet(info)

    def push(self, stream: str, result: FrameResult) -> None:
        """Send the values of a frame, and the stages that begin or are corrected with it.

        Without a usable face every value is nan. A stage has the time of its first frame.
        """
        frame = result.frame
        at = frame.t_mono_ns * 1e-9 + self.offset_s
        presence = result.presence if result.adjusted_presence is None else result.adjusted_presence
        strength = (
            result.intensity if result.adjusted_intensity is None else result.adjusted_intensity
        )
        row = np.full(len(self._channels), np.nan, np.float32)
        for start, values in ((0, presence), (len(self._places), strength)):
            if values is not None:
                row[start : start + len(self._places)] = values[self._places]
        self._values[stream].push_sample(row.tolist(), at)
        for event in result.events:
            if isinstance(event, StageEvent) and event.kind != "exit":
                began = at - max(0.0, frame.time_s - event.start_s)
                self._stages[stream].push_sample([format_labels(event.labels)], began)
