"""A hub that is recorded without a camera or a network: for tests, and as a process to kill.

``python -m tests.support.recording FOLDER STREAMS SEED`` publishes 30 frames a second of each
stream, masks and events, and records them, until it is killed. It says where it records, and then
after each frame: time, number of the frame, number of the last event.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from facestage.stream import protocol
from facestage.stream.protocol import (
    ActionUnitValue,
    FaceValue,
    FrameSample,
    Heat,
    Hello,
    Mask,
    PrototypeNew,
    StageEnter,
    StageExit,
    StreamInfo,
)
from facestage.stream.recording.recorder import Plan, Recorder
from facestage.stream.server.hub import Hub

__all__ = ["AUS", "HELLO", "MODEL", "Published", "make_recorder", "publish"]

AUS = tuple(range(1, 24))
HELLO = Hello(
    server="0",
    model="m",
    device="cpu",
    detector="d",
    lrp_preset="p",
    baseline=True,
    aus=tuple(
        protocol.ActionUnit(au=au, code=f"AU{au:02d}", name="a", colour="#000000", grade="A")
        for au in AUS
    ),
)
MODEL = {"name": "m", "version": "1", "sha256": "0" * 64}
SIDE = 48


class Published:
    """What was published: numbers of frames and events, in order, of a hub.

    Attributes:
        events: their messages.
        frames: (stream, frame) of each.
    """

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.frames: list[tuple[str, int]] = []


def make_recorder(place: Path, streams: int = 1, **options: object) -> tuple[Hub, Recorder]:
    """Return a hub of some streams and its recorder, not started."""
    names = [f"cam {n}" for n in range(streams)]
    hub = Hub([StreamInfo(id=name, name=name, number=n) for n, name in enumerate(names)])
    plan_options = {
        key: options.pop(key)
        for key in ("most_bytes", "least_free_bytes", "video")
        if key in options
    }
    plan = Plan(place, "bed 1", HELLO, MODEL, {"device": "cpu"}, **plan_options)  # type: ignore[arg-type]
    return hub, Recorder(hub, plan, **options)  # type: ignore[arg-type]


def mask(chance: random.Random) -> bytes:
    """Return a mask like those of real maps: a quarter of it, in one patch."""
    cells = bytearray(SIDE * SIDE)
    row, column = chance.randrange(8, 24), chance.randrange(8, 24)
    for y in range(row, row + 16):
        for x in range(column, column + 16):
            cells[y * SIDE + x] = chance.randrange(1, 256)
    return bytes(cells)


def frame(number: int, chance: random.Random) -> FrameSample:
    """Return a frame of a face with values like those of real ones."""
    values = tuple(
        ActionUnitValue(
            au=au,
            presence=round(chance.random(), 4),
            intensity=round(5 * chance.random(), 3),
            active=au == 12,
            letter="A" if au == 12 else None,
            adjusted=round(chance.random(), 4),
            adjusted_intensity=round(5 * chance.random(), 3),
        )
        for au in AUS
    )
    face = FaceValue(
        state="tracked",
        box=(100.0, 80.5, 200.0, 200.0),
        points=((150.1, 120.0),) * 5,
        quality=0.9,
        pose=(1.0, 2.0, 3.0),
        id=1,
    )
    return FrameSample(
        frame=number,
        time_s=number / 30,
        width=640,
        height=360,
        face=face,
        stage=("AU12_A",),
        aus=values,
        baseline="active",
        rest_s=3.0,
        rest_prior=0.1,
    )


def publish(hub: Hub, number: int, chance: random.Random, kept: Published | None = None) -> None:
    """Publish the frame of a number of each stream; every tenth with a change of stage."""
    for info in hub.streams:
        if number % 10 == 0:
            for event in _events(number):
                seq = hub.publish_event(event, stream=info.id, t_capture=number / 30)
                if kept is not None:
                    message = hub.event_after(seq - 1)
                    assert message is not None
                    kept.events.append(message)
        heat = Heat(
            frame=number,
            size=SIDE,
            matrix=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            masks=(Mask(au=12, label="AU12_A", data=mask(chance)),),
        )
        hub.publish_sample(heat, stream=info.id, t_capture=number / 30)
        hub.publish_sample(frame(number, chance), stream=info.id, t_capture=number / 30)
        if kept is not None:
            kept.frames.append((info.id, number))


def _events(number: int) -> list[protocol.Event]:
    if number == 0:
        new = PrototypeNew(
            label="AU12_A", au=12, letter="A", at=0, size=4, data=bytes(range(16)), top=8
        )
        return [new, _enter(("NONE",), 0)]
    labels = (("NONE",), ("AU12_A",))
    before, now = labels[(number // 10 + 1) % 2], labels[(number // 10) % 2]
    left = StageExit(
        labels=before,
        start=number - 10,
        end=number - 1,
        start_s=(number - 10) / 30,
        end_s=(number - 1) / 30,
        reason="au_on",
        at=number,
    )
    return [left, _enter(now, number)]


def _enter(labels: tuple[str, ...], number: int) -> StageEnter:
    return StageEnter(
        labels=labels,
        start=number,
        start_s=number / 30,
        reason="au_on",
        at=number,
        text=f"({', '.join(labels)})",
    )


def _record_until_killed(
    place: Path, streams: int, seed: int, tell: Callable[[str], object]
) -> None:
    hub, recorder = make_recorder(place, streams)
    folder = recorder.start()
    chance = random.Random(seed)
    tell(str(folder))
    began = time.monotonic()
    for number in range(30 * 3600):
        publish(hub, number, chance)
        # Both clocks are the system's: the one who kills compares.
        tell(f"{time.monotonic()} {number} {hub.range[1]}")
        time.sleep(max(0.0, began + (number + 1) / 30 - time.monotonic()))


if __name__ == "__main__":
    _record_until_killed(
        Path(sys.argv[1]),
        int(sys.argv[2]),
        int(sys.argv[3]),
        lambda line: os.write(sys.stdout.fileno(), f"{line}\n".encode()),
    )
