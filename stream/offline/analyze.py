"""Read a source to its end and analyse it as one sequence."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ...core.errors import ConfigError, SourceError
from ...core.observer import Observation
from ...core.sequence import SequenceAnalyzer
from ...core.types import Frame, SequenceResult
from ..sources import Source, open_source

__all__ = ["analyze_source"]

BATCH = 8
"""Frames that go through the network together."""

DEFAULT_FPS = 30.0
"""Frames per second assumed of a source that states none."""


def analyze_source(
    spec: str,
    analyzer: SequenceAnalyzer,
    *,
    max_frames: int | None = None,
    on_progress: Callable[[int, int | None], None] | None = None,
    on_seen: Callable[[list[Observation]], None] | None = None,
    exclude: Sequence[tuple[float, float]] = (),
) -> SequenceResult:
    """Analyse a video file or image folder as a whole (paper §3).

    Args:
        spec: path of the video or folder, or ``demo:``.
        analyzer: a fresh or reset sequence analyzer.
        max_frames: stop after this many frames.
        on_progress: called with (frames done, frames in total or None) after each batch.
        on_seen: called with what frames show as soon as it is decided, in order, before it is
            clustered.
        exclude: spans in which nothing is analysed, seconds, both ends included. Their frames have
            no rows, and a stage LOST stands in their place.

    Raises:
        ConfigError: the source has no end (camera, stream).
        SourceError: the source cannot be read, or gives no frame.
    """
    take = on_seen or (lambda observations: None)
    with open_source(spec, keep_grey=True) as source:
        if source.endless:
            raise _endless(source)
        fps = source.fps or DEFAULT_FPS
        batch: list[Frame] = []
        done = 0
        frames = _frames(source, fps, exclude, analyzer.break_before)
        for frame in itertools.islice(frames, max_frames):
            batch.append(frame)
            if len(batch) == BATCH:
                take(analyzer.update(batch))
                done += len(batch)
                batch = []
                if on_progress is not None:
                    on_progress(done, source.frame_count)
        if batch:
            take(analyzer.update(batch))
            done += len(batch)
        for observations in analyzer.settle():
            take(observations)
        if on_progress is not None:
            on_progress(done, done)
        if not done:
            raise SourceError(
                f"{source.name} holds no frame; check that it plays in a video player"
            )
        note = _what_is_missing(source, done, max_frames, exclude)
        result = analyzer.finish(source=source.name, fps=fps, note=note)
        remarks = filter(None, (source.remark, result.remark))
        others = tuple(replace(other, files=source.files) for other in result.others)
        return replace(result, files=source.files, remark="; ".join(remarks), others=others)


def _endless(source: Source) -> ConfigError:
    return ConfigError(
        f"{source.name} has no end to wait for; record it to a file first, or use 'facestage live'"
    )


def _frames(
    source: Source,
    fps: float,
    exclude: Sequence[tuple[float, float]],
    on_break: Callable[[int], None],
) -> Iterator[Frame]:
    """Read a source to its end; pictures of another size begin an epoch.

    Nothing that was seen before lies at the same place in them. So does a frame before which others
    were left out; ``on_break`` is told its number.
    """
    epoch, size = 0, source.size
    begun = left_out = False
    for grab in iter(source.read, None):
        before, size = size, (grab.image.shape[1], grab.image.shape[0])
        epoch += size != before
        pts = grab.index / fps if grab.pts is None else grab.pts
        if any(first <= pts <= last for first, last in exclude):
            left_out = begun
            continue
        if left_out:
            epoch += 1
            on_break(grab.index)
        begun, left_out = True, False
        now_ns, t_wall = time.monotonic_ns(), time.time()
        yield Frame(source.name, grab.index, grab.image, now_ns, t_wall, pts, epoch=epoch)


def _what_is_missing(
    source: Source, done: int, max_frames: int | None, exclude: Sequence[tuple[float, float]]
) -> str:
    """Say why a result does not cover its whole source; empty where it does."""
    if exclude:
        spans = ", ".join(f"{first:g} to {last:g} s" for first, last in exclude)
        rest = _what_is_missing(source, done, max_frames, ())
        return f"left out as asked: {spans}" + (f"; {rest}" if rest else "")
    if max_frames is not None and done == max_frames:
        return f"only the first {done} frames were asked for"
    if source.broke_off:
        return f"incomplete: of {source.frame_count} frames stated only {done} could be read"
    if source.skipped:
        total = source.skipped + done
        return f"incomplete: {source.skipped} of {total} pictures cannot be decoded"
    return ""
