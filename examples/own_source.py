"""A source of your own: pictures from anything that Python can read.

    python examples/own_source.py

Here a film comes backwards. Replace `backwards` by what hands you pictures: the kit of a special
camera, a game, a message queue. Nothing has to be registered: any `Source` can be analysed.
"""

import argparse
import itertools
from collections.abc import Iterable

import numpy as np
from facestage.core import AUNetwork, Frame, SequenceAnalyzer
from facestage.core.stages import format_prototype
from facestage.stream.detectors import make_detector
from facestage.stream.sources import Grab, Source, open_source


class Pictures(Source):
    """Pictures from an iterable, at a steady pace.

    Args:
        name: shown and logged, so without passwords.
        pictures: ``(H, W, 3)`` uint8 each, BGR, all of one size.
        fps: pictures per second.
    """

    kind = "video"
    live = False  # it waits to be read; a camera does not
    endless = False  # it ends, and that is no loss
    frame_count = None

    def __init__(self, name: str, pictures: Iterable[np.ndarray], fps: float) -> None:
        self.name, self.fps = name, fps
        self._pictures = enumerate(pictures)
        # The first picture shows that there is one, and its size.
        self._waiting = next(self._pictures)
        height, width = self._waiting[1].shape[:2]
        self.size = (width, height)

    def read(self) -> Grab | None:
        """Return the next picture with its time, or None at the end."""
        if self._waiting is None:
            return None
        (index, image), self._waiting = self._waiting, next(self._pictures, None)
        return Grab(image, index, pts=index / self.fps)

    def close(self) -> None:
        """Give back what was opened: here nothing."""
        self._waiting = None


def backwards(spec: str, frames: int) -> Iterable[np.ndarray]:
    """Return the first frames of a source, the last of them first."""
    with open_source(spec) as source:
        grabs = itertools.islice(iter(source.read, None), frames)
        return reversed([grab.image for grab in grabs])


def main() -> None:
    """Analyse the film backwards and print its temporal prototype."""
    parser = argparse.ArgumentParser(description="Analyse pictures from Python.")
    parser.add_argument("--frames", type=int, default=120)
    options = parser.parse_args()

    analyzer = SequenceAnalyzer(make_detector("auto"), AUNetwork.load(device="auto"))
    with Pictures("demo, backwards", backwards("demo:", options.frames), fps=30.0) as source:
        for grab in iter(source.read, None):
            analyzer.update([Frame(source.name, grab.index, grab.image, pts=grab.pts)])
    result = analyzer.finish(source=source.name, fps=source.fps)
    print(f"{result.source}: {format_prototype(result.stages)}")


if __name__ == "__main__":
    main()
