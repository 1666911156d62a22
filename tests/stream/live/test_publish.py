"""From results to messages."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from facestage.core.network.au_network import AUNetwork
from facestage.core.types import (
    BaselineState,
    FaceChange,
    FaceObservation,
    FaceState,
    Frame,
    FrameResult,
    HeadPose,
    LetterChange,
    PrototypeDrifted,
    PrototypeFound,
    PrototypeRetired,
    StageEvent,
)
from facestage.stream import protocol
from facestage.stream.live.publish import (
    MASK_SIDE,
    PICTURE_LONG_SIDE,
    action_units,
    encode_picture,
    event_message,
    frame_message,
    heat_messages,
)

from tests.support.relevance_twins import top_x

AUS = (1, 12, 25)
POINTS = np.array([[105, 86], [167, 86], [136, 122], [111, 157], [161, 157]], np.float32)
"""Where the matrix of the results below finds the five points of an aligned crop."""


def blob(x: float, y: float, size: int = 96) -> np.ndarray:
    yy, xx = np.mgrid[:size, :size]
    return np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 60.0).astype(np.float32) - 0.05


def result(**changes: object) -> FrameResult:
    matrix = np.array([[0.5, 0, -20], [0, 0.5, -10]], np.float32)
    values: dict[str, object] = {
        "frame": Frame("cam", 7, np.zeros((360, 640, 3), np.uint8), pts=0.25),
        "face": FaceObservation(
            FaceState.TRACKED,
            (40.0, 20.0, 192.0, 192.0),
            POINTS,
            matrix,
            np.zeros((96, 96), np.uint8),
            0.9,
        ),
        "presence": np.array([0.1, 0.9, 0.6], np.float32),
        "intensity": np.array([0.0, 3.5, 2.0], np.float32),
        "active": (12, 25),
        "maps": {12: blob(30, 70), 25: blob(48, 80)},
        "letters": {12: "B", 25: "A"},
        "stage": ("AU12_B", "AU25_A"),
    }
    return FrameResult(**{**values, **changes})  # type: ignore[arg-type]


def test_the_pose_of_the_head_is_sent_in_tenths_of_degrees() -> None:
    def sent(face: FaceObservation) -> tuple[float, float, float] | None:
        message = frame_message(
            result(face=face), AUS, latency_ms=1, dropped_total=0, source_state="live"
        )
        return message.face.pose

    seen = FaceObservation(FaceState.TRACKED, pose=HeadPose(-12.345, 6.0, 0.049))
    assert sent(seen) == (-12.3, 6.0, 0.0)
    assert sent(FaceObservation(FaceState.LOST)) is None


def test_heat_keeps_the_top_share_of_the_mass() -> None:
    (heat,) = heat_messages([result()], 0.25)
    assert [mask.label for mask in heat.masks] == ["AU12_B", "AU25_A"]
    for mask, source in zip(heat.masks, (blob(30, 70), blob(48, 80)), strict=True):
        cells = np.frombuffer(mask.data, np.uint8).reshape(MASK_SIDE, MASK_SIDE)
        small = cv2.resize(
            np.maximum(source, 0), (MASK_SIDE, MASK_SIDE), interpolation=cv2.INTER_AREA
        )
        keep = top_x(small, 0.25)
        assert (cells[keep] > 0).all()
        # Rounding to bytes may let in ties at the border, never more than a ring of it.
        assert keep.sum() <= (cells > 0).sum() <= keep.sum() + 16
        assert cells.max() == 255


def test_heat_lands_where_the_crop_was_cut() -> None:
    (heat,) = heat_messages([result()], 0.25)
    assert heat.matrix is not None
    a, b, c, d, e, f = heat.matrix
    cells = np.frombuffer(heat.masks[0].data, np.uint8).reshape(MASK_SIDE, MASK_SIDE)
    v, u = np.unravel_index(int(cells.argmax()), cells.shape)
    x, y = a * (u + 0.5) + b * (v + 0.5) + c, d * (u + 0.5) + e * (v + 0.5) + f
    # crop = 0.5 · frame + shift, so crop (30, 70) came from frame (100, 160); cells are 4 px wide
    assert (x, y) == (pytest.approx(100.5, abs=4), pytest.approx(160.5, abs=4))


def test_a_mask_says_in_words_where_its_relevance_lies() -> None:
    (heat,) = heat_messages([result(maps={12: blob(60, 68), 25: blob(48, 78)})], 0.25)
    smile, lips = (mask.regions for mask in heat.masks)
    # The viewer's right is the person's left.
    assert smile[0][0] == "left mouth corner"
    assert smile[0][1] > 0.5
    assert lips[0][0] in ("lower lip", "chin")
    assert len(lips) <= 3
    shares = [share for _, share in lips]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1.01


def test_without_points_of_a_face_nothing_is_put_into_words() -> None:
    face = replace(result().face, points=None)
    (heat,) = heat_messages([result(face=face)], 0.25)
    assert [mask.regions for mask in heat.masks] == [(), ()]


def test_heat_without_face_or_relevance_is_empty() -> None:
    lost = result(face=FaceObservation(FaceState.LOST), maps={}, letters={}, active=())
    flat = result(maps={12: np.full((96, 96), -1.0, np.float32)})
    none, one = heat_messages([lost, flat], 0.25)
    assert none == protocol.Heat(frame=7, size=MASK_SIDE)
    (mask,) = one.masks
    assert not any(mask.data)
    assert heat_messages([], 0.25) == []
    assert heat_messages([lost], 0.25) == [none]


def test_frames_together_give_the_heat_they_give_alone() -> None:
    frames = [
        result(),
        result(face=FaceObservation(FaceState.LOST), maps={}, letters={}, active=()),
        result(maps={25: blob(10, 60), 4: blob(50, 20), 12: -blob(30, 70)}, letters={4: "C"}),
        result(maps={1: blob(20, 30)}, letters={1: "A"}),
    ]
    together = heat_messages(frames, 0.25)
    assert together == [heat_messages([one], 0.25)[0] for one in frames]
    assert [[m.label for m in heat.masks] for heat in together] == [
        ["AU12_B", "AU25_A"],
        [],
        ["AU04_C", "AU12", "AU25"],
        ["AU01_A"],
    ]


def test_frame_lists_every_au_and_survives_the_wire() -> None:
    message = frame_message(result(), AUS, latency_ms=12.345, dropped_total=3, source_state="live")
    assert [(v.au, v.active, v.letter) for v in message.aus] == [
        (1, False, None),
        (12, True, "B"),
        (25, True, "A"),
    ]
    assert (message.width, message.height, message.time_s) == (640, 360, 0.25)
    assert protocol.decode(protocol.encode(message, stream="cam")).data == message
    lost = result(face=FaceObservation(FaceState.LOST), presence=None, intensity=None)
    assert frame_message(lost, AUS, latency_ms=1, dropped_total=0, source_state="live").aus == ()


def test_a_frame_carries_raw_and_adjusted_values() -> None:
    plain = frame_message(result(), AUS, latency_ms=1, dropped_total=0, source_state="live")
    assert plain.baseline == "off"
    assert {(v.adjusted, v.adjusted_intensity) for v in plain.aus} == {(None, None)}
    lowered = result(
        baseline=BaselineState.ACTIVE,
        adjusted_presence=np.array([0.1, 0.5, 0.6], np.float32),
        adjusted_intensity=np.array([0.0, 1.9, 2.0], np.float32),
    )
    message = frame_message(lowered, AUS, latency_ms=1, dropped_total=0, source_state="live")
    assert message.baseline == "active"
    smile = message.aus[1]
    assert (smile.presence, smile.adjusted) == (0.9, 0.5)
    assert (smile.intensity, smile.adjusted_intensity) == (3.5, 1.9)


def test_hello_tells_grades_and_what_is_shown() -> None:
    network = AUNetwork.load(device="cpu")
    grades = dict.fromkeys(network.card.aus, "A") | {1: "B", 18: "C"}
    network.card = replace(network.card, grades=grades)
    listed = {unit.au: unit for unit in action_units(network, shown={1, 12})}
    assert tuple(listed) == network.card.aus
    assert (listed[1].grade, listed[1].shown) == ("B", True)
    assert (listed[18].grade, listed[18].shown) == ("C", False)
    network.card = replace(network.card, grades={})
    assert {unit.grade for unit in action_units(network, network.card.aus)} == {None}


@pytest.mark.parametrize(
    "event",
    [
        StageEvent("enter", ("AU12_A",), ("NONE",), 3, 0.1, None, None, "au_on", 9),
        StageEvent(
            "enter",
            ("AU12_B",),
            ("AU12_A",),
            3,
            0.1,
            None,
            None,
            "cluster_change",
            9,
            (LetterChange(12, "AU12_A", "AU12_B", "AU12: relevance moved"),),
        ),
        StageEvent("revise", ("AU12_B",), ("AU12_A",), 3, 0.1, None, None, "cluster_change", 9),
        StageEvent("exit", ("NONE",), None, 0, 0.0, 2, 0.07, "au_on", 9),
        PrototypeFound(12, "B", blob(30, 70), 9, (("left mouth corner", 0.6), ("chin", 0.2))),
        PrototypeDrifted(12, "B", blob(40, 60), 0.6, 9),
        PrototypeRetired(12, "C", "A", 9),
        PrototypeRetired(12, "D", None, 9),
        FaceChange(FaceState.LOST, FaceState.TRACKED, "", 9),
    ],
)
def test_every_event_survives_the_wire(event: object) -> None:
    message = event_message(event, top_x=0.25, crop=np.zeros((96, 96), np.uint8))  # type: ignore[arg-type]
    envelope = protocol.decode(protocol.encode(message, stream="cam", epoch=1, seq=1))
    assert envelope.data == message
    assert envelope.type == message.type


def test_pictures_fit_the_wire() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    picture = encode_picture(Frame("cam", 5, noise), 2)
    assert picture is not None
    assert len(picture.jpeg) <= protocol.MAX_PICTURE_BYTES
    shown = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (540, PICTURE_LONG_SIDE, 3)
    small = encode_picture(Frame("cam", 6, noise[:1, :1]), 0)
    assert small is not None
    assert small.frame == 6
