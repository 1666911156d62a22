"""Watch a camera and print each change of stage, without a server.

python examples/live_webcam.py              # the first camera
python examples/live_webcam.py demo:        # the clip of the package, where there is no camera
python examples/live_webcam.py 0 --frames 300
"""

import argparse
import itertools
import time
from collections.abc import Iterator

from facestage.core import Analyzer, AUNetwork, Frame
from facestage.core.action_units import prototype_label
from facestage.core.stages import format_labels
from facestage.core.types import PrototypeFound, StageEvent
from facestage.stream.detectors import make_detector
from facestage.stream.sources import open_source


def lines(spec: str, frames: int | None) -> Iterator[str]:
    """Yield a line of text for each new prototype and each new stage of a source."""
    network = AUNetwork.load(device="auto")
    analyzer = Analyzer(make_detector("auto"), network)
    with open_source(spec) as source:
        for grab in itertools.islice(iter(source.read, None), frames):
            # A frame needs a time. A file knows it (pts, seconds); a camera is asked the clock.
            frame = Frame(source.name, grab.index, grab.image, time.monotonic_ns(), pts=grab.pts)
            for result in analyzer.update([frame]):
                for event in result.events:
                    if isinstance(event, StageEvent) and event.kind == "enter":
                        # A stage is told once it has lasted; it is dated back to where it began.
                        yield f"{event.start_s:8.2f} s  {format_labels(event.labels)}"
                    elif isinstance(event, PrototypeFound):
                        label = prototype_label(event.au, event.letter)
                        yield f"{frame.time_s:8.2f} s  new: {label}"


def main() -> None:
    """Read the command line and print until the source ends, or Ctrl-C."""
    parser = argparse.ArgumentParser(description="Print each change of stage of a camera.")
    parser.add_argument("source", nargs="?", default="0", help="camera number, file or demo:")
    parser.add_argument("--frames", type=int, help="stop after so many frames")
    options = parser.parse_args()
    try:
        for line in lines(options.source, options.frames):
            print(line, flush=True)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
