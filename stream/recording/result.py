"""What was recorded, as the result of a sequence: rows, stages and prototypes, as they were live.

Nothing is computed anew. Letters are those that the windows gave, stages those that clients were
told; both can differ from what ``analyze`` finds in the same video, which sees all of it at once.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ...core.action_units import parse_label, prototype_label
from ...core.errors import SourceError
from ...core.sequence_store import FrameRows
from ...core.types import (
    BaselineState,
    FaceState,
    FrameRow,
    HeadPose,
    Prototype,
    SequenceResult,
    Stage,
)
from .. import protocol
from .reader import Session

__all__ = ["PRESET", "session_results"]

PRESET = "sliding window, live"
"""In place of the name of a SpRAy preset."""
_SIDE = 48
"""Of the picture of a prototype that has none."""
_GREY = 128


@dataclass(slots=True)
class _Found:
    """What is gathered of one stream."""

    rows: FrameRows = field(default_factory=FrameRows)
    stages: list[Stage] = field(default_factory=list)
    open: protocol.StageEnter | None = None
    left: str = ""
    news: dict[str, protocol.PrototypeNew] = field(default_factory=dict)
    frames: dict[str, list[int]] = field(default_factory=dict)


def session_results(session: Session) -> dict[str, SequenceResult]:
    """Return the result of each source of a session.

    Args:
        session: what was recorded.

    Returns:
        Stream id → its result, with those of the other faces of the source. A source without a
        frame is left out.

    Raises:
        SourceError: there is no frame at all.
    """
    hello = session.head.hello
    found = {stream.id: _Found() for stream in hello.streams}
    _begin(session, found)
    for record in session.records():
        envelope = record.envelope
        if envelope is not None and envelope.stream in found:
            _take(found[envelope.stream], envelope.data, hello)
    results = {
        stream.id: _result(session, stream.name, found[stream.id])
        for stream in hello.streams
        if found[stream.id].rows
    }
    if not results:
        raise SourceError(
            f"{session.folder} holds no frame, so there is nothing to report; was the source ever "
            "live?"
        )
    main = [name for name in results if name.rpartition("/")[0] not in results]
    return {
        name: replace(
            results[name],
            others=tuple(results[other] for other in results if other.rpartition("/")[0] == name),
        )
        for name in main
    }


def _begin(session: Session, found: dict[str, _Found]) -> None:
    """Take in what had happened before the session."""
    before = session.head.before
    for stream, snapshot in before.snapshots.items():
        if stream in found:
            found[stream].open = snapshot.stage
    for message in before.events:
        envelope = protocol.decode(message)
        if envelope.stream in found and isinstance(envelope.data, protocol.PrototypeNew):
            found[envelope.stream].news[envelope.data.label] = envelope.data


def _take(found: _Found, data: protocol.Body, hello: protocol.Hello) -> None:
    match data:
        case protocol.FrameSample():
            row = _row(data, hello)
            found.rows.append(row)
            for au, letter in row.labels.items():
                found.frames.setdefault(prototype_label(au, letter), []).append(row.index)
        case protocol.PrototypeNew():
            found.news[data.label] = data
        case protocol.StageEnter():
            found.open = data
        case protocol.StageExit():
            stage = Stage(data.labels, data.start, data.end, data.start_s, data.end_s)
            _add_stage(found, stage, data.reason)
            found.open = None


def _add_stage(found: _Found, stage: Stage, reason: str) -> None:
    stages = found.stages
    if stages and stages[-1].labels == stage.labels and found.left != "other_person":
        # A revision can turn a stage into what the one before it was.
        stages[-1] = replace(stages[-1], end=stage.end, end_s=stage.end_s)
    else:
        stages.append(stage)
    found.left = reason


def _row(data: protocol.FrameSample, hello: protocol.Hello) -> FrameRow:
    values = {value.au: value for value in data.aus}
    face = data.face

    def vector(name: str) -> NDArray[np.float32] | None:
        each = [getattr(values[unit.au], name) for unit in hello.aus if unit.au in values]
        if len(each) != len(hello.aus) or None in each:
            return None
        return np.array(each, np.float32)

    return FrameRow(
        index=data.frame,
        time_s=data.time_s,
        face=FaceState(face.state),
        presence=vector("presence"),
        intensity=vector("intensity"),
        labels={
            value.au: value.letter
            for value in data.aus
            if value.active and value.letter is not None
        },
        baseline=BaselineState(data.baseline),
        adjusted_presence=vector("adjusted"),
        adjusted_intensity=vector("adjusted_intensity"),
        rest_s=data.rest_s,
        rest_prior=data.rest_prior,
        pose=None if face.pose is None else HeadPose(*face.pose),
        face_id=face.id,
    )


def _result(session: Session, name: str, found: _Found) -> SequenceResult:
    hello = session.head.hello
    stages = _stages(found)
    labels = {label for stage in stages for label in stage.labels if label.startswith("AU")}
    prototypes = {
        label: _prototype(label, found) for label in sorted(labels | set(found.frames), key=_order)
    }
    remark = ""
    if session.end is not None and session.end.dropped:
        remark = f"{session.end.dropped} samples were not recorded, as the disk was too slow"
    return SequenceResult(
        source=name,
        model=hello.model,
        detector=hello.detector,
        device=hello.device,
        lrp_preset=hello.lrp_preset,
        preset=PRESET,
        fps=_fps(found.rows),
        aus=tuple(unit.au for unit in hello.aus),
        rows=found.rows,
        stages=stages,
        prototypes=prototypes,
        stage_crops=tuple(_crop_of(stage, prototypes, found) for stage in stages),
        note="; ".join(session.notes),
        hidden=tuple(unit.au for unit in hello.aus if not unit.shown),
        grades={unit.au: unit.grade for unit in hello.aus if unit.grade is not None},
        baseline=hello.baseline,
        lrp_engine=hello.lrp_engine,
        lrp_engine_reason=hello.lrp_engine_reason,
        lrp_precision=hello.lrp_precision,
        remark=remark,
    )


def _stages(found: _Found) -> tuple[Stage, ...]:
    """Return the stages within the frames that were recorded, that which was cut off included."""
    first, last = found.rows[0], found.rows[-1]
    if found.open is not None and found.open.start <= last.index:
        entered = found.open
        stage = Stage(entered.labels, entered.start, last.index, entered.start_s, last.time_s)
        _add_stage(found, stage, "")
    return tuple(
        replace(stage, start=first.index, start_s=first.time_s)
        if stage.start < first.index
        else stage
        for stage in found.stages
        if stage.end >= first.index
    )


def _prototype(label: str, found: _Found) -> Prototype:
    au, letter = parse_label(label)
    new = found.news.get(label)
    frames = found.frames.get(label) or [found.rows[0].index]
    side = _SIDE if new is None else new.size
    cells = np.zeros((side, side), np.uint8)
    face = np.full((side, side), _GREY, np.uint8)
    exemplar = frames[0]
    if new is not None:
        cells = np.frombuffer(new.data, np.uint8).reshape(side, side)
        if new.face:
            face = np.frombuffer(new.face, np.uint8).reshape(side, side)
        exemplar = min(max(new.at, found.rows[0].index), found.rows[-1].index)
    return Prototype(
        au=au,
        letter=letter or "A",
        map=(cells / np.float32(255)).astype(np.float32, copy=False),
        frames=len(found.frames.get(label, ())),
        first=frames[0],
        exemplar=exemplar,
        crop=face,
    )


def _crop_of(
    stage: Stage, prototypes: dict[str, Prototype], found: _Found
) -> NDArray[np.uint8] | None:
    """Return the face of a stage: the one on which the first of its prototypes was found."""
    shown = [label for label in stage.labels if label in prototypes]
    with_face = [label for label in shown if label in found.news and found.news[label].face]
    return prototypes[(with_face or shown)[0]].crop if shown else None


def _order(label: str) -> tuple[int, str]:
    au, letter = parse_label(label)
    return au, letter or ""


def _fps(rows: FrameRows) -> float:
    """Return the frames per second of the source, those that were dropped included."""
    rates: list[float] = []
    before: FrameRow | None = None
    for row in rows:
        if before is not None and row.time_s > before.time_s and row.index > before.index:
            rates.append((row.index - before.index) / (row.time_s - before.time_s))
        before = row
    return statistics.median(rates) if rates else 0.0
