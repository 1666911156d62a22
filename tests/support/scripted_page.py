"""The page in a real headless Chromium, told by a script instead of a camera."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import cv2
import numpy as np
from facestage.core.action_units import AU_COLOURS, AU_NAMES, au_code
from facestage.stream.protocol import (
    ActionUnit,
    ActionUnitValue,
    FaceChanged,
    FaceValue,
    FrameSample,
    Heat,
    Hello,
    Mask,
    Percentiles,
    PrototypeNew,
    SourceChanged,
    StageEnter,
    StageExit,
    Stats,
    StreamInfo,
)
from facestage.stream.server.hub import Hub

from tests.support.chromium import Page, find_chromium, open_page

__all__ = [
    "AUS",
    "GREY",
    "HEIGHT",
    "HELLO",
    "SEGMENTS",
    "SHOWN",
    "WIDTH",
    "Script",
    "browse",
    "connected",
    "hello",
    "text",
]

AUS = (1, 2, 4, 6, 12, 25)


def hello(aus: Iterable[int]) -> Hello:
    return Hello(
        server="0",
        model="au_net",
        device="cpu",
        detector="haar",
        lrp_preset="innvestigate_a_flat",
        lrp_engine="fused",
        aus=tuple(
            ActionUnit(au=au, code=au_code(au), name=AU_NAMES[au], colour=AU_COLOURS[au])
            for au in aus
        ),
    )


HELLO = hello(AUS)
WIDTH, HEIGHT = 320, 180
SIDE = 28
MASK_FROM, MASK_TO = 8, 20  # the cells of the one square blob, both ways
GREY = 90


class Script:
    """A stream told by hand: 30 frames per second by its own account."""

    def __init__(self, name: str = "Clip", *, hub: Hub | None = None, stream: str = "cam") -> None:
        self.hub = hub or Hub([StreamInfo(id=stream, name=name)])
        self.stream = stream
        self.frame = 0
        self._stage: tuple[str, ...] | None = None
        self._start = 0

    def event(self, event: Any) -> None:
        self.hub.publish_event(event, stream=self.stream, t_capture=time.time())

    def begin(self) -> None:
        self.event(SourceChanged(state="live"))
        self.event(FaceChanged(state="tracked", at=0))

    def stage(self, *labels: str) -> None:
        """End the stage and begin the next, six frames on."""
        self.frame += 6
        if self._stage is not None:
            self.event(
                StageExit(
                    labels=self._stage,
                    start=self._start,
                    end=self.frame - 1,
                    start_s=self._start / 30,
                    end_s=(self.frame - 1) / 30,
                    reason="au_on",
                    at=self.frame,
                )
            )
        self.event(
            StageEnter(
                labels=labels,
                previous=self._stage,
                start=self.frame,
                start_s=self.frame / 30,
                reason="au_on",
                at=self.frame,
                text=f"({', '.join(labels)})",
            )
        )
        self._stage, self._start = labels, self.frame

    def prototype(self, label: str, *, face: bool = True) -> None:
        relevance = np.zeros((SIDE, SIDE), np.uint8)
        relevance[MASK_FROM:MASK_TO, MASK_FROM:MASK_TO] = 255
        ghost = np.full((SIDE, SIDE), 100, np.uint8).tobytes() if face else b""
        self.event(
            PrototypeNew(
                label=label,
                au=int(label[2:4]),
                letter=label[5:],
                at=self.frame,
                size=SIDE,
                data=relevance.tobytes(),
                top=200,
                face=ghost,
            )
        )

    def sample(self, frame: int, *active: str, baseline: str = "off", **rest: float) -> None:
        """Publish a ``frame``; the face box is the middle third.

        An active baseline takes a third of everything.
        """
        letters = {int(label[2:4]): label[5:] for label in active}
        share = 2 / 3 if baseline == "active" else None
        self.hub.publish_sample(
            FrameSample(
                frame=frame,
                time_s=frame / 30,
                width=WIDTH,
                height=HEIGHT,
                face=FaceValue(state="tracked", box=(110.0, 30.0, 100.0, 120.0), quality=0.9),
                stage=self._stage,
                aus=tuple(
                    ActionUnitValue(
                        au=au,
                        presence=0.9 if au in letters else 0.1,
                        intensity=3.2 if au in letters else 0.0,
                        active=au in letters,
                        letter=letters.get(au),
                        adjusted=share * (0.9 if au in letters else 0.1) if share else None,
                        adjusted_intensity=share * (3.2 if au in letters else 0) if share else None,
                    )
                    for au in AUS
                ),
                baseline=baseline,
                **rest,
                latency_ms=42.0,
            ),
            stream=self.stream,
            t_capture=time.time(),
        )

    def heat(self, frame: int, *labels: str, down: float = 0.0) -> None:
        """Publish a ``heat``: one square blob on the frame, x 140 to 164, y 70 to 94 + ``down``."""
        cells = np.zeros((SIDE, SIDE), np.uint8)
        cells[MASK_FROM:MASK_TO, MASK_FROM:MASK_TO] = 255
        masks = tuple(
            Mask(au=int(label[2:4]), label=label, data=cells.tobytes()) for label in labels
        )
        self.hub.publish_sample(
            Heat(
                frame=frame, size=SIDE, matrix=(2.0, 0.0, 124.0, 0.0, 2.0, 54.0 + down), masks=masks
            ),
            stream=self.stream,
            t_capture=time.time(),
        )

    def picture(self, frame: int, grey: int = GREY) -> None:
        image = np.full((HEIGHT, WIDTH, 3), grey, np.uint8)
        self.hub.publish_picture(
            frame, cv2.imencode(".jpg", image)[1].tobytes(), stream=self.stream
        )

    def stats(self, fps: float, **more: Any) -> None:
        latency = Percentiles(p50=40, p99=80)
        self.hub.publish_sample(Stats(fps_in=30, fps_analysed=fps, latency_ms=latency, **more))


def browse(test: Callable[[Page], Coroutine[Any, Any, None]]) -> None:
    async def session() -> None:
        executable = find_chromium()
        assert executable is not None
        async with asyncio.timeout(240), open_page(executable) as page:
            await page.size(1280, 720)
            await page.media(prefers_color_scheme="dark")
            await test(page)

    asyncio.run(session())


def text(element: str) -> str:
    return f"document.getElementById('{element}').textContent"


SEGMENTS = "Number(document.getElementById('ribbon').dataset.segments)"
SHOWN = "document.getElementById('view').dataset.frame"


async def connected(page: Page) -> None:
    await page.until(f"{text('connection')} === 'connected'")
