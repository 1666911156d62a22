"""Turn results into messages: the one place where core values meet the wire."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core import relevance
from ...core.action_units import AU_COLOURS, AU_NAMES, au_code, prototype_label
from ...core.errors import ProtocolError
from ...core.face.alignment import transform
from ...core.face.region_shares import region_parts, shares, strongest
from ...core.network.au_network import AUNetwork
from ...core.scores.values import ScoreValue
from ...core.stages import format_labels
from ...core.types import (
    FaceChange,
    FaceObservation,
    Frame,
    FrameResult,
    HeadPose,
    PrototypeDrifted,
    PrototypeFound,
    PrototypeRetired,
    StageEvent,
)
from .. import protocol
from .scoring import score_message

__all__ = [
    "MASK_SIDE",
    "PICTURE_LONG_SIDE",
    "action_units",
    "encode_picture",
    "event_message",
    "frame_message",
    "heat_messages",
]

MASK_SIDE = 48
"""Side of masks and thumbnails on the wire, cells: a divisor of the network's 96 pixels. With the
embedded network little is lost: its first layer has a stride of 2, so a map says hardly more than a
cell. Over 89 maps the cells' projection covers .985 of the pixels' (intersection over union)."""

PICTURE_LONG_SIDE = 960
"""Longest side of the pictures sent to pages, pixels."""

_JPEG_QUALITY = 80

_UNKNOWN_COLOUR = "#BBBBBB"


def action_units(
    network: AUNetwork, shown: Collection[int], staged: Collection[int] | None = None
) -> tuple[protocol.ActionUnit, ...]:
    """Return the AUs of a network as ``hello`` lists them.

    ``shown``: those that take part; ``staged``: those of them that make stages; None: all.
    """
    on, off = network.card.thresholds()
    return tuple(
        protocol.ActionUnit(
            au=au,
            code=au_code(au),
            name=AU_NAMES.get(au, f"Action Unit {au}"),
            colour=AU_COLOURS.get(au, _UNKNOWN_COLOUR),
            on=round(float(on[i]), 4),
            off=round(float(off[i]), 4),
            grade=network.card.grades.get(au),
            shown=au in shown,
            staged=staged is None or au in staged,
        )
        for i, au in enumerate(network.card.aus)
    )


def event_message(
    event: StageEvent | PrototypeFound | PrototypeDrifted | PrototypeRetired | FaceChange,
    *,
    top_x: float,
    crop: NDArray[np.uint8] | None = None,
) -> protocol.Event:
    """Return the message of an event; ``crop`` is shown behind a new prototype's relevance."""
    match event:
        case StageEvent():
            return _stage_message(event)
        case PrototypeFound():
            return _found_message(event, top_x, crop)
        case PrototypeDrifted():
            cells, top = _cells(event.map, top_x)
            return protocol.PrototypeUpdate(
                label=prototype_label(event.au, event.letter),
                at=event.at,
                cosine=event.cosine,
                size=MASK_SIDE,
                data=cells,
                top=top,
            )
        case PrototypeRetired():
            return protocol.PrototypeRetire(
                label=prototype_label(event.au, event.letter),
                into=None if event.into is None else prototype_label(event.au, event.into),
                at=event.at,
            )
        case FaceChange():
            return protocol.FaceChanged(
                state=event.state.value,
                previous=None if event.previous is None else event.previous.value,
                reason=event.reason,
                at=event.at,
            )


def _stage_message(event: StageEvent) -> protocol.Event:
    if event.kind == "exit":
        if event.end is None or event.end_s is None:
            raise ProtocolError(f"the exit of {format_labels(event.labels)} has no end; set it")
        return protocol.StageExit(
            labels=event.labels,
            start=event.start,
            end=event.end,
            start_s=event.start_s,
            end_s=event.end_s,
            reason=event.reason,
            at=event.at,
        )
    message = protocol.StageEnter if event.kind == "enter" else protocol.StageRevise
    return message(
        labels=event.labels,
        previous=event.previous,
        start=event.start,
        start_s=event.start_s,
        reason=event.reason,
        at=event.at,
        text=format_labels(event.labels),
        changes=tuple(
            protocol.LetterChange(au=c.au, before=c.before, after=c.after, text=c.text)
            for c in event.changes
        ),
    )


def _found_message(
    event: PrototypeFound, top_x: float, crop: NDArray[np.uint8] | None
) -> protocol.PrototypeNew:
    cells, top = _cells(event.map, top_x)
    face = b""
    if crop is not None:
        side = (MASK_SIDE, MASK_SIDE)
        face = cv2.resize(crop, side, interpolation=cv2.INTER_AREA).tobytes()
    return protocol.PrototypeNew(
        label=prototype_label(event.au, event.letter),
        au=event.au,
        letter=event.letter,
        at=event.at,
        size=MASK_SIDE,
        data=cells,
        top=top,
        face=face,
        regions=event.regions,
    )


def _cells(relevance_map: NDArray[np.float32], top_x: float) -> tuple[bytes, int]:
    """Return a map as the wire carries it, and the least value inside its projection."""
    cells, top = relevance.cells(relevance_map[None], MASK_SIDE, top_x)
    return cells.numpy().tobytes(), int(top)


def _face(face: FaceObservation) -> protocol.FaceValue:
    return protocol.FaceValue(
        state=face.state.value,
        box=None if face.box is None else tuple(round(float(v), 1) for v in face.box),  # type: ignore[arg-type]
        points=None
        if face.points is None
        else tuple((round(float(x), 1), round(float(y), 1)) for x, y in face.points),
        quality=round(float(face.quality), 3),
        reason=face.reason,
        pose=None if face.pose is None else _degrees(face.pose),
        id=face.id,
    )


def _degrees(pose: HeadPose) -> tuple[float, float, float]:
    return round(pose.yaw, 1), round(pose.pitch, 1), round(pose.roll, 1)


def frame_message(
    result: FrameResult,
    aus: tuple[int, ...],
    *,
    latency_ms: float,
    dropped_total: int,
    source_state: str,
    scores: Sequence[ScoreValue] = (),
) -> protocol.FrameSample:
    """Return the sample of one analysed frame."""
    values: tuple[protocol.ActionUnitValue, ...] = ()
    if result.presence is not None:
        active = set(result.active)
        intensity = result.presence * 0 if result.intensity is None else result.intensity
        judged, strength = result.adjusted_presence, result.adjusted_intensity
        values = tuple(
            protocol.ActionUnitValue(
                au=au,
                presence=round(float(result.presence[i]), 4),
                intensity=round(float(intensity[i]), 3),
                active=au in active,
                letter=result.letters.get(au),
                adjusted=None if judged is None else round(float(judged[i]), 4),
                adjusted_intensity=None if strength is None else round(float(strength[i]), 3),
            )
            for i, au in enumerate(aus)
        )
    height, width = result.frame.image.shape[:2]
    return protocol.FrameSample(
        frame=result.frame.index,
        time_s=result.frame.time_s,
        width=width,
        height=height,
        face=_face(result.face),
        stage=result.stage,
        aus=values,
        latency_ms=round(latency_ms, 2),
        dropped_total=dropped_total,
        source_state=source_state,
        baseline=result.baseline.value,
        rest_s=round(result.rest_s, 2),
        rest_prior=round(result.rest_prior, 3),
        scores=tuple(score_message(value) for value in scores),
    )


def heat_messages(results: Sequence[FrameResult], top_x: float) -> list[protocol.Heat]:
    """Return the Top-X relevance projections of analysed frames.

    Those that a GPU made with the maps are taken; the others are made here, all at once.
    """
    wanted = [(result, au) for result in results for au in sorted(result.maps)]
    maps = [result.drawn[au] for result, au in wanted if au not in result.masks]
    made = iter(relevance.masks(np.stack(maps), MASK_SIDE, top_x).numpy() if maps else ())
    masks = [result.masks[au] if au in result.masks else next(made) for result, au in wanted]
    left = iter([mask.tobytes() for mask in masks])
    return [_heat(result, left) for result in results]


def _heat(result: FrameResult, masks: Iterator[bytes]) -> protocol.Heat:
    """Return the message of one frame; takes as many of the masks as the frame has AUs."""
    frame_masks: list[protocol.Mask] = []
    face = result.face
    for au, relevance_map in sorted(result.drawn.items()):
        letter = result.letters.get(au)
        label = au_code(au) if letter is None else prototype_label(au, letter)
        regions = _regions(face, relevance_map)
        frame_masks.append(protocol.Mask(au=au, label=label, data=next(masks), regions=regions))
    matrix = None
    if face.matrix is not None and face.crop is not None:
        matrix = protocol.mask_to_frame(face.matrix, face.crop.shape[0], MASK_SIDE)
    return protocol.Heat(
        frame=result.frame.index, size=MASK_SIDE, matrix=matrix, masks=tuple(frame_masks)
    )


def _regions(
    face: FaceObservation, relevance_map: NDArray[np.float32]
) -> tuple[tuple[str, float], ...]:
    """Return the facial regions that carry a map's relevance; none where no face was measured."""
    if face.matrix is None or face.points is None:
        return ()
    points = transform(face.matrix, face.points)
    return strongest(shares(relevance_map, region_parts(points, len(relevance_map))))


def encode_picture(frame: Frame, number: int) -> protocol.Picture | None:
    """Return the frame as a JPEG of bounded size; None when it stays too large for the wire."""
    image = frame.image
    scale = PICTURE_LONG_SIDE / max(image.shape[:2])
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for quality in (_JPEG_QUALITY, 50, 20):
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(jpeg) <= protocol.MAX_PICTURE_BYTES:
            return protocol.Picture(stream=number, frame=frame.index, jpeg=jpeg)
    return None
