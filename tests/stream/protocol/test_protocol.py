"""Wire protocol: what is on the wire, what is refused, and that schema and code agree."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import cv2
import jsonschema
import msgspec
import numpy as np
import pytest
from facestage.core.errors import ProtocolError
from facestage.stream import protocol
from facestage.stream.protocol import (
    ActionUnit,
    ActionUnitValue,
    Cursor,
    FaceValue,
    FrameSample,
    Gap,
    Heat,
    Hello,
    Mask,
    Percentiles,
    Picture,
    PrototypeNew,
    Snapshot,
    StageEnter,
    Stats,
    StreamInfo,
    Subscribe,
    decode,
    decode_client,
    encode,
    json_schema,
    mask_to_frame,
    pack_picture,
    unpack_picture,
)

from tests.support.schema_types import TYPES, declarations

ENTER = StageEnter(
    labels=("AU01_A", "AU12_B"),
    previous=("NONE",),
    start=7,
    start_s=0.25,
    reason="au_on",
    at=9,
    text="(AU01_A, AU12_B)",
)

FRAME = FrameSample(
    frame=6, time_s=0.2, width=640, height=360, face=FaceValue(state="lost"), stage=("LOST",)
)

SCORE = protocol.ScoreValue(
    name="PSPI",
    low=2.5,
    high=12.0,
    terms=(
        protocol.ScoreTerm(
            text="max(AU9, AU10)",
            low=2.5,
            high=5.0,
            aus=(protocol.ScorePart(au=9), protocol.ScorePart(au=10, value=2.5, grade="A")),
        ),
    ),
    missing=(9,),
)
RISE = protocol.NoticeOn(
    score="PSPI", id=1, start=3, start_s=0.1, at=21, threshold=4.8, value=SCORE, text="high"
)
BODIES: list[protocol.Body] = [
    ENTER,
    protocol.Marker(id=1, text="she moved", start_s=0.5, end_s=1.5),
    RISE,
    protocol.NoticeOff(
        score="PSPI",
        id=1,
        start=3,
        start_s=0.1,
        end=63,
        end_s=2.1,
        at=108,
        duration_s=2.0,
        peak=SCORE,
        peak_s=1.0,
        reason="below",
        text="was high",
    ),
    protocol.NoticeAcknowledged(id=1),
    protocol.StageExit(
        labels=("NONE",), start=0, end=6, start_s=0.0, end_s=0.2, reason="au_on", at=9
    ),
    protocol.StageRevise(
        labels=("AU01_A",), previous=("AU01_B",), start=7, start_s=0.25, reason="x", at=30, text="t"
    ),
    PrototypeNew(
        label="AU12_B", au=12, letter="B", at=9, size=2, data=b"\x00\x10\x80\xff", top=128
    ),
    protocol.PrototypeUpdate(
        label="AU12_B", at=30, cosine=0.62, size=2, data=b"\x00\x10\x80\xff", top=128
    ),
    protocol.PrototypeRetire(label="AU12_B", into="AU12_A", at=40),
    protocol.PrototypeRetire(label="AU12_C", into=None, at=41),
    protocol.FaceChanged(state="tracked", previous="lost", at=3),
    protocol.SourceChanged(state="live", epoch=2),
    Gap(from_=4, to=8, cause="reconnect"),
    protocol.RecordState(state="stopped", name="2026-12-01T08-15-02_bed 1", bytes=4711),
    protocol.ReplayState(playing=True, speed=None, position_s=1.5, duration_s=60.0),
    FrameSample(
        frame=7,
        time_s=0.25,
        width=640,
        height=360,
        face=FaceValue(state="tracked", box=(1.0, 2.0, 3.0, 4.0), points=((1.0, 2.0),) * 5),
        stage=("NONE",),
        aus=(
            ActionUnitValue(
                au=12,
                presence=0.75,
                intensity=2.5,
                active=True,
                letter="B",
                adjusted=0.6,
                adjusted_intensity=2.0,
            ),
        ),
        baseline="active",
    ),
    Heat(
        frame=7,
        size=2,
        matrix=(1.0, 0.0, 5.0, 0.0, 1.0, 6.0),
        masks=(Mask(au=12, label="AU12_B", data=b"\x00\x00\xff\x01"),),
    ),
    Stats(
        fps_in=30.0,
        fps_analysed=15.0,
        drops={"latest": 4},
        latency_ms=Percentiles(p50=1.0, p99=2),
        lrp_engine="reference",
        lrp_engine_reason="there is no fused rule for silu",
        counters={"frames_explained": 3, "pairs_explained": 9},
    ),
    Hello(
        server="0.1.0",
        model="m",
        device="cpu",
        detector="haar",
        lrp_preset="innvestigate_a_flat",
        lrp_engine="fused",
        aus=(
            ActionUnit(au=12, code="AU12", name="lip corner puller", colour="#D55E00", grade="B"),
            ActionUnit(au=18, code="AU18", name="lip pucker", colour="#F0E442", shown=False),
        ),
        baseline=True,
        replay=protocol.Replaying(duration_s=60.0, start=1795412345.5),
        streams=(StreamInfo(id="cam", name="Camera"),),
    ),
    protocol.Ack(to="subscribe"),
    protocol.Error(code="bad_message", message="no"),
    protocol.Heartbeat(),
    protocol.Bye(reason="the server stops"),
    protocol.CameraReady(source="browser", max_bytes=2**21, max_side=4096),
    protocol.CameraAck(result="taken"),
    protocol.Resync(reason="too old"),
    Snapshot(seq=9, stage=ENTER, prototypes=("AU12_B",)),
    protocol.PastFrames(
        from_s=1.0,
        to_s=3.0,
        first_s=0.5,
        last_s=2.5,
        frames=(
            protocol.PastFrame(
                t_capture=1.5, frame=FRAME, heat=Heat(frame=6, size=2), picture=b"\xff\xd8"
            ),
        ),
        done=False,
    ),
]

CLIENT_BODIES: list[protocol.Body] = [
    protocol.Auth(token="s3cret"),
    protocol.CameraOpen(source="browser left"),
    protocol.CameraPause(reason="hidden"),
    Subscribe(since=Cursor(epoch=1, seq=4), topics=("frame",), streams=("cam",)),
    Subscribe(),
    protocol.PastWish(stream="cam", from_s=1.0, to_s=3.0, most=60),
    protocol.RecordStart(),
    protocol.RecordStop(),
    protocol.Replay(command="seek", value=80.0),
    protocol.MarkerAdd(stream="cam", text="she moved", start_s=0.5),
    protocol.NoticeAck(stream="cam", id=1),
    protocol.CLIENT_MESSAGES["heartbeat"](),
    protocol.CLIENT_MESSAGES["bye"](),
]


def _numbered(body: protocol.Body) -> int | None:
    return 5 if isinstance(body, protocol.Event) else None


def test_every_type_has_a_sample_here() -> None:
    families = (protocol.EVENTS, protocol.SAMPLES, protocol.SERVER_CONTROLS)
    assert {body.type for body in BODIES} == {name for family in families for name in family}
    assert {body.type for body in CLIENT_BODIES} == set(protocol.CLIENT_MESSAGES)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.type)
def test_server_messages_survive_the_wire(body: protocol.Body) -> None:
    text = encode(body, stream="cam", epoch=9, seq=5, t_capture=1.5, t_emit=2.5)
    envelope = decode(text)
    assert envelope.data == body
    assert (envelope.v, envelope.type, envelope.stream) == (1, body.type, "cam")
    assert (envelope.epoch, envelope.seq, envelope.t_capture, envelope.t_emit) == (9, 5, 1.5, 2.5)


@pytest.mark.parametrize("body", CLIENT_BODIES, ids=lambda body: body.type)
def test_client_messages_survive_the_wire(body: protocol.Body) -> None:
    assert decode_client(encode(body)).data == body


def test_envelope_has_the_fields_of_version_1_in_order() -> None:
    text = encode(Gap(from_=1, to=2, cause="drop"), stream="cam", epoch=9, seq=5, t_emit=2.5)
    assert json.loads(text) == {
        "v": 1,
        "type": "gap",
        "stream": "cam",
        "epoch": 9,
        "seq": 5,
        "t_capture": None,
        "t_emit": 2.5,
        "data": {"from": 1, "to": 2, "cause": "drop"},
    }


def test_masks_travel_as_base64() -> None:
    heat = Heat(frame=1, size=2, masks=(Mask(au=4, label="AU04", data=b"\x00\x01\x02\xff"),))
    data = json.loads(encode(heat))["data"]["masks"][0]["data"]
    assert base64.b64decode(data) == b"\x00\x01\x02\xff"


@pytest.mark.parametrize("body", [*BODIES, *CLIENT_BODIES], ids=lambda body: body.type)
def test_schema_accepts_what_is_sent(body: protocol.Body) -> None:
    message = json.loads(encode(body, seq=_numbered(body)))
    jsonschema.Draft202012Validator(json_schema()).validate(message)


def test_the_page_has_the_types_of_this_protocol() -> None:
    hint = "make them anew: python -m tests.support.schema_types"
    assert TYPES.read_text(encoding="utf-8") == declarations(json_schema()), hint


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.type)
def test_a_server_writes_every_property(body: protocol.Body) -> None:
    # The page's types promise it, whatever the schema requires.
    schema = json_schema()
    for family in ("events", "samples", "server_controls"):
        for member in schema["$defs"][family]["oneOf"]:
            member["required"] = list(member["properties"])
    for definition in schema["$defs"].values():
        if "properties" in definition:
            definition["required"] = list(definition["properties"])
    schema["anyOf"] = schema["anyOf"][:3]
    message = json.loads(encode(body, seq=_numbered(body)))
    jsonschema.Draft202012Validator(schema).validate(message)


def test_no_type_is_guessed() -> None:
    with pytest.raises(ValueError, match="no type is known"):
        declarations({"$defs": {"client_messages": {"oneOf": []}, "Odd": {"not": {}}}})


def test_schema_is_a_schema_and_refuses_a_wrong_field() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    message: dict[str, Any] = json.loads(encode(ENTER, seq=5))
    message["data"]["labels"] = "AU01_A"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(message)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not an envelope"),
        (b"{", "not an envelope"),
        (b"[" * 60_000, "not an envelope"),
        (b"\xff\xfe\x00", "not an envelope"),
        (b"null", "not an envelope"),
        (b'{"type":"heartbeat","data":{}}', "`v`"),
        (b'{"v":2,"type":"heartbeat","data":{}}', "version 2"),
        (b'{"v":1,"type":"auth","data":{"token":7}}', "'auth'"),
        (b'{"v":1,"type":"auth","data":{"token":"a","extra":1}}', "extra"),
        (b'{"v":1,"type":"auth","data":{"token":"a"},"extra":1}', "extra"),
        (b'{"v":1,"type":"subscribe","data":{"topics":["pictures"]}}', "pictures"),
        (b'{"v":1,"type":"subscribe","data":{"since":{"epoch":1}}}', "seq"),
    ],
)
def test_client_garbage_is_refused_with_its_cause(text: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        decode_client(text)


def test_unknown_types_are_told_from_garbage() -> None:
    with pytest.raises(protocol.UnknownTypeError, match="launch"):
        decode_client(b'{"v":1,"type":"launch","data":{}}')
    with pytest.raises(protocol.UnknownTypeError):
        decode_client(encode(ENTER))  # a server's message is none of a client's


def test_a_client_ignores_fields_of_a_newer_server() -> None:
    message = json.loads(encode(Gap(from_=1, to=2, cause="drop"), seq=5))
    message["later"] = message["data"]["later"] = 1
    assert decode(json.dumps(message)).data == Gap(from_=1, to=2, cause="drop")


@pytest.mark.parametrize(("size", "count"), [(2, 3), (0, 0), (129, 129 * 129)])
def test_maps_of_a_wrong_size_cannot_be_made(size: int, count: int) -> None:
    with pytest.raises(ProtocolError, match=f"side {size}"):
        Heat(frame=0, size=size, masks=(Mask(au=1, label="AU01", data=bytes(count)),))
    with pytest.raises(ProtocolError, match=f"side {size}"):
        PrototypeNew(label="AU01_A", au=1, letter="A", at=0, size=size, data=bytes(count), top=1)


def test_bodies_are_frozen() -> None:
    with pytest.raises(AttributeError):
        ENTER.at = 3  # type: ignore[misc]
    assert msgspec.structs.replace(ENTER, at=3).at == 3


def test_picture_header_is_the_one_that_is_written_down() -> None:
    message = pack_picture(Picture(stream=0x0102, frame=0x01020304, jpeg=b"\xff\xd8"))
    assert message == bytes.fromhex("4653 01 01 0201 0000 04030201 00000000") + b"\xff\xd8"
    assert unpack_picture(message) == Picture(stream=0x0102, frame=0x01020304, jpeg=b"\xff\xd8")


def test_picture_numbers_wrap_after_32_bits() -> None:
    message = pack_picture(Picture(stream=0, frame=2**32 + 5, jpeg=b"x"))
    assert unpack_picture(message).frame == 5


@pytest.mark.parametrize("message", [b"", b"\x00" * 16, b"\x00" * 40])
def test_what_is_no_picture_is_refused(message: bytes) -> None:
    with pytest.raises(ProtocolError, match="picture"):
        unpack_picture(message)


def test_mask_lands_where_opencv_puts_the_crop() -> None:
    # Paint one mask cell, enlarge it to the crop, undo the alignment with OpenCV: the centre of
    # what appears in the frame must be where the matrix sends the centre of the cell.
    size, side = 28, 112
    angle, scale = 0.3, 0.8
    matrix = np.array(
        [
            [scale * np.cos(angle), -scale * np.sin(angle), -21.0],
            [scale * np.sin(angle), scale * np.cos(angle), -64.5],
        ]
    )
    row, column = 9, 17
    mask = np.zeros((size, size), np.float32)
    mask[row, column] = 1
    crop = np.kron(mask, np.ones((side // size, side // size), np.float32))
    frame = cv2.warpAffine(crop, cv2.invertAffineTransform(matrix), (320, 240))
    ys, xs = np.mgrid[: frame.shape[0], : frame.shape[1]]
    centre = (
        float((xs * frame).sum() / frame.sum() + 0.5),
        float((ys * frame).sum() / frame.sum() + 0.5),
    )
    a, b, c, d, e, f = mask_to_frame(matrix, side, size)
    u, v = column + 0.5, row + 0.5
    assert (a * u + b * v + c, d * u + e * v + f) == pytest.approx(centre, abs=0.1)


def test_an_alignment_without_inverse_is_refused() -> None:
    with pytest.raises(ProtocolError, match="no inverse"):
        mask_to_frame(np.zeros((2, 3)), 112, 56)


@pytest.mark.parametrize("read", [decode, decode_client])
def test_half_a_character_is_a_wrong_message(read: Callable[[str], object]) -> None:
    for message in (
        '{"v":1,"type":"\ud800","data":{}}',
        '{"v":1,"type":"auth","data":{"token":"\udfff"}}',
        '{"v":1,"type":"auth","data":{"token":"\\ud800"}}',
    ):
        with pytest.raises(ProtocolError):
            read(message)


@pytest.mark.parametrize(
    ("command", "value", "why"),
    [
        ("seek", None, "needs a value"),
        ("speed", 0.0, "above 0"),
        ("speed", -1.0, "above 0"),
        ("step", 0.5, "whole number"),
    ],
)
def test_a_replay_is_not_moved_to_nowhere(command: str, value: float | None, why: str) -> None:
    message = {"v": 1, "type": "replay", "data": {"command": command, "value": value}}
    with pytest.raises(ProtocolError, match=why):
        decode_client(json.dumps(message))
