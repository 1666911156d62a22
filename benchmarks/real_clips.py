"""The real clips of ../shared as material to judge an AU network by.

Three kinds of truth, none of which the network was trained on: events marked by eye
(``clips/events.csv``), spans in which an AU cannot be there (:data:`QUIET`, judged by eye frame by
frame), and the blendshape curves of MediaPipe (``reference/``), but for the brows
(:data:`UNRELIABLE_CURVES`). Clips that show the same take count
as one person, so that no figure rests on a person twice.

References:
    Ekman, Friesen & Hager, *Facial Action Coding System: the manual*, 2002.
    Grishchenko et al., *Blendshapes GHUM*, arXiv:2309.05782, 2023 (MediaPipe's curves).
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from facestage.core.errors import SourceError
from facestage.core.face.tracker import Detector, FaceTracker
from facestage.core.network.au_network import AUNetwork
from facestage.core.types import FaceState
from facestage.stream.detectors import YuNetDetector, make_detector
from facestage.stream.learning.crops import detector_identity
from facestage.stream.offline.analyze import DEFAULT_FPS
from facestage.stream.sources import open_source
from numpy.typing import NDArray

__all__ = [
    "QUIET",
    "TOLERANCE",
    "UNRELIABLE_CURVES",
    "ClipFacts",
    "Event",
    "Span",
    "TrackedClip",
    "crop_key",
    "load_facts",
    "load_real_crops",
    "make_shared_detector",
    "make_tracker",
    "parse_events",
    "read_reference",
    "shared_folder",
    "track_clip",
]

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Where the folder of clips is looked for unless it is named: beside the repository."""
TOLERANCE = 4
"""Frames by which a mark made by eye may be off at either end."""

BLENDSHAPES: dict[int, tuple[str, ...]] = {
    1: ("browInnerUp",),
    2: ("browOuterUpLeft", "browOuterUpRight"),
    4: ("browDownLeft", "browDownRight"),
    5: ("eyeWideLeft", "eyeWideRight"),
    6: ("cheekSquintLeft", "cheekSquintRight"),
    7: ("eyeSquintLeft", "eyeSquintRight"),
    9: ("noseSneerLeft", "noseSneerRight"),
    10: ("mouthUpperUpLeft", "mouthUpperUpRight"),
    12: ("mouthSmileLeft", "mouthSmileRight"),
    14: ("mouthDimpleLeft", "mouthDimpleRight"),
    15: ("mouthFrownLeft", "mouthFrownRight"),
    16: ("mouthLowerDownLeft", "mouthLowerDownRight"),
    17: ("mouthShrugLower",),
    18: ("mouthPucker",),
    20: ("mouthStretchLeft", "mouthStretchRight"),
    22: ("mouthFunnel",),
    24: ("mouthPressLeft", "mouthPressRight"),
    26: ("jawOpen",),
    28: ("mouthRollLower", "mouthRollUpper"),
    43: ("eyeBlinkLeft", "eyeBlinkRight"),
}
"""AU → the blendshapes whose mean is its reference. AU25 has none: see :func:`read_reference`."""
UNRELIABLE_CURVES = frozenset({1, 2, 4})
"""AUs that no MediaPipe curve judges. Those of AU1 and AU2 are little but the reverse of AU4's
(``brows.py``), and on posed sad and fearful faces all three are wrong more often than the embedded
network. These AUs are judged by marked events and spans, and by photographs (``au_people.py``)."""

_EYE_AUS = (5, 6, 7, 43)
_MOUTH_NOSE_AUS = (9, 10, 12, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25, 26, 27, 28)
ALL_AUS = (1, 2, 4, *_EYE_AUS, *_MOUTH_NOSE_AUS)


@dataclass(frozen=True, slots=True)
class Span:
    """Frames ``first`` to ``last`` (inclusive) of a clip in which something holds for some AUs."""

    first: int
    last: int
    aus: tuple[int, ...]
    why: str = ""

    def moved(self, offset: int) -> Span:
        """Return the span ``offset`` frames later."""
        return replace(self, first=self.first + offset, last=self.last + offset)


@dataclass(frozen=True, slots=True)
class Event:
    """One AU that was seen by eye from frame ``first`` to ``last`` (inclusive)."""

    au: int
    first: int
    last: int
    sure: bool
    what: str


QUIET: Mapping[str, tuple[Span, ...]] = {
    "WolfgangLanger_Pexels.mp4": (
        Span(4, 55, (25, 26, 27), "lips closed in the grimace, before the hand comes"),
        Span(24, 140, (2, 5), "outer brows down while knit; lids closed exclude raised lids"),
        Span(147, 228, (6, 43), "eyes wide open: neither closed nor narrowed by the cheeks"),
        Span(233, 243, (43,), "eyes open between two blinks"),
        Span(253, 283, (4, 43), "joy with open eyes, brows smooth"),
        Span(293, 420, (4, 43), "joy with open eyes, brows smooth"),
        Span(256, 465, (15, 17, 18, 22, 23, 24, 28), "open smile with teeth: no lip is depressed "
             "at the corners, pushed up, puckered, funnelled, tightened, pressed or sucked in"),
    ),
    "single_face.mp4": (
        Span(24, 65, (4, 15, 17, 18, 22, 23, 24, 28), "open smile with teeth, brows smooth"),
        Span(24, 65, (26, 27), "teeth stay together"),
        Span(40, 65, (1, 2), "brows at the height they have in the neutral frames"),
        Span(36, 65, (43,), "eyes open after the blink"),
    ),
    "intel_asl_sorry.mkv": (
        Span(14, 20, (12,), "lips rounded for the word, before the smile"),
        Span(36, 55, (1, 2, 4, 5, 25, 26, 27), "smile with closed lips, brows and lids at rest"),
        Span(36, 55, (9, 10, 15, 16, 18, 22), "nose smooth; lips not raised, depressed or round"),
    ),
}  # fmt: skip
"""Where an AU cannot be active although the face is not neutral, judged by eye, frame by frame.

Left out because the eye cannot decide: AU1 and AU2 in the joy of the first clip (the brows move
with the head), AU12 behind the hand (143-228), AU4 in its anxious hope (brows raised and drawn
together), and eyes and brows of the signer while he mouths the word.
"""


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What is known about one clip.

    Attributes:
        name: file name.
        person: name of the clip that the same take was first seen in.
        frames: number of frames.
        events: AUs marked by eye.
        quiet: neutral spans and those of :data:`QUIET`, with the AUs that cannot be active.
        covered: spans in which something lies over the part of the face where these AUs show.
        absent: spans without any face.
        reference: AU → ``(frames,)`` MediaPipe curve 0–1, NaN without a face.
    """

    name: str
    person: str
    frames: int
    events: tuple[Event, ...]
    quiet: tuple[Span, ...]
    covered: tuple[Span, ...]
    absent: tuple[Span, ...]
    reference: Mapping[int, NDArray[np.float64]] = field(repr=False)

    def mask(self, spans: Iterable[Span], au: int | None = None) -> NDArray[np.bool_]:
        """Return ``(frames,)`` bool: inside one of the spans (that names ``au``, if given)."""
        inside = np.zeros(self.frames, bool)
        for span in spans:
            if au is None or au in span.aus:
                inside[span.first : span.last + 1] = True
        return inside


@dataclass(frozen=True, slots=True, eq=False)
class TrackedClip:
    """The aligned crops of one clip, by the detector, tracker and alignment of live analysis.

    Attributes:
        name: file name.
        index: ``(n,)`` frames with a usable face.
        crops: ``(n, S, S)`` uint8 grey.
        quality: ``(n,)`` quality of these faces, 0–1.
        lost: ``(frames,)`` bool, no face at all.
        times: ``(frames,)`` seconds.
    """

    name: str
    index: NDArray[np.int64]
    crops: NDArray[np.uint8]
    quality: NDArray[np.float64]
    lost: NDArray[np.bool_]
    times: NDArray[np.float64]


_ARRAYS = ("index", "crops", "quality", "lost", "times")


@dataclass(slots=True)
class _Marks:
    events: list[Event] = field(default_factory=list)
    quiet: list[Span] = field(default_factory=list)
    covered: list[Span] = field(default_factory=list)
    absent: list[Span] = field(default_factory=list)
    copy: tuple[str, int, int, bool] | None = None
    """The same take as another clip: its name, first and last frame here, sure."""


def shared_folder(given: Path | None = None) -> Path:
    """Return the folder of clips and references.

    Args:
        given: the folder; by default what ``FACESTAGE_SHARED`` names, else :data:`SHARED`.

    Raises:
        SourceError: it is not there.
    """
    folder = given or Path(os.environ.get("FACESTAGE_SHARED", SHARED))
    if not (folder / "clips" / "events.csv").is_file() or not (folder / "reference").is_dir():
        raise SourceError(
            f"{folder} holds no clips/events.csv and reference/: the real clips are not part of "
            "the repository; set FACESTAGE_SHARED, or pass --shared, to the folder that has them"
        )
    return folder


def parse_events(path: Path) -> dict[str, _Marks]:
    """Read the events marked by eye.

    The ``aus`` column gives one event per AU. The text gives more: ``blink 26-31`` and ``eyes
    lowered/closed 426-471`` (taken as likely) are events of AU43; ``OCCLUSION: hand over mouth/nose
    (95-140 also over one eye)`` covers the AUs of the mouth and nose, and in the inner span those
    of the eyes; ``no face`` spans have none; the ``same take`` row of another clip copies the
    events of the clip named first, moved to its first frame.

    Args:
        path: ``events.csv``.

    Returns:
        Clip → its marks, copies not yet filled in.

    Raises:
        SourceError: a row cannot be read.
    """
    marks: dict[str, _Marks] = {}
    original = ""
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                first, last, what = int(row["on_frame"]), int(row["off_frame"]), row["what"]
                aus = tuple(int(au) for au in row["aus"].split("+") if au)
                sure = row["certainty"] == "sure"
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise SourceError(
                    f"{path}, line {number}: cannot be read ({error!r}); expected clip, on_frame, "
                    "off_frame, what, aus (such as 6+12), certainty"
                ) from error
            clip = marks.setdefault(row["clip"], _Marks())
            if "same take" in what:
                if named := re.search(r"same take as (\w+)", what):
                    original = named[1]
                clip.copy = (original, first, last, sure)
            elif what.startswith("OCCLUSION"):
                clip.covered.append(Span(first, last, _MOUTH_NOSE_AUS, what))
                for a, b in re.findall(r"(\d+)-(\d+) also over one eye", what):
                    clip.covered.append(Span(int(a), int(b), _EYE_AUS, what))
            else:
                clip.events += [Event(au, first, last, sure, what) for au in aus]
                for a, b in re.findall(r"blink (\d+)-(\d+)", what):
                    clip.events.append(Event(43, int(a), int(b), sure, "blink"))
                for a, b in re.findall(r"eyes lowered/closed (\d+)-(\d+)", what):
                    clip.events.append(Event(43, int(a), int(b), False, "eyes lowered or closed"))
            if what == "neutral":
                # The next expression may begin up to the tolerance before its mark.
                clip.quiet.append(Span(first, last - TOLERANCE, ALL_AUS, "neutral"))
            if not aus and "no face" in what:
                clip.absent.append(Span(first, last, ()))
            for a, b in re.findall(r"\(no face\) (\d+)-(\d+)", what):
                clip.absent.append(Span(int(a), int(b), ()))
    return marks


def read_reference(path: Path) -> dict[int, NDArray[np.float64]]:
    """Read the MediaPipe curves of a clip as AU curves.

    AU25 is no blendshape. Its reference is a proxy: the opening that the jaw leaves between the
    lips, ``max(jawOpen − mouthClose, 0)``, plus half the mean of ``mouthUpperUp`` and of
    ``mouthLowerDown``, which part the lips over closed teeth.

    Args:
        path: ``mediapipe_<clip>.csv``.

    Returns:
        AU → ``(frames,)`` curve, NaN in frames without a face.

    Raises:
        SourceError: the file is missing or has no such curves.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        names = [n for n in reader.fieldnames or () if n not in ("frame", "time", "face")]
        values = np.array([[float(row[name] or "nan") for name in names] for row in rows])
    except (OSError, TypeError, ValueError) as error:
        raise SourceError(
            f"{path} cannot be read as MediaPipe curves: {error}; restore ../shared"
        ) from error
    curve = dict(zip(names, values.reshape(len(rows), len(names)).T, strict=True))
    nothing = np.full(len(rows), np.nan)

    def mean(*shapes: str) -> NDArray[np.float64]:
        return np.mean([curve.get(shape, nothing) for shape in shapes], axis=0)

    reference = {au: mean(*shapes) for au, shapes in BLENDSHAPES.items()}
    gap = np.maximum(mean("jawOpen") - mean("mouthClose"), 0)
    reference[25] = gap + 0.5 * (reference[10] + reference[16])
    return reference


def load_facts(folder: Path) -> list[ClipFacts]:
    """Return what is known about every clip of the folder, in the order of ``events.csv``."""
    marks = parse_events(folder / "clips" / "events.csv")
    for name, spans in QUIET.items():
        if name in marks:
            marks[name].quiet += spans
    facts = []
    for name, own in marks.items():
        person = name
        if own.copy is not None:
            title, start, end, sure = own.copy
            person = next((clip for clip in marks if Path(clip).stem == title), name)
            source = marks[person]
            own.events = [
                replace(
                    event,
                    first=event.first + start,
                    last=event.last + start,
                    sure=event.sure and sure,
                )
                for event in source.events
                if event.last + start <= end
            ]
            own.quiet = [span.moved(start) for span in source.quiet if span.last + start <= end]
        reference = read_reference(folder / "reference" / f"mediapipe_{Path(name).stem}.csv")
        facts.append(
            ClipFacts(
                name,
                person,
                len(reference[12]),
                tuple(own.events),
                tuple(own.quiet),
                tuple(own.covered),
                tuple(own.absent),
                reference,
            )
        )
    return facts


def make_shared_detector(spec: str, folder: Path) -> Detector:
    """Open a detector; ``yunet`` may come from ``../shared/models`` where it was not pulled."""
    own = folder / "models" / "face_detection_yunet_2023mar.onnx"
    if spec == "yunet" and own.is_file():
        return YuNetDetector(own)
    return make_detector(spec)


def load_real_crops(
    folder: Path,
    facts: Iterable[ClipFacts],
    detector: Detector,
    network: AUNetwork,
    cache: Path | None = None,
) -> list[TrackedClip]:
    """Cut the faces out of all clips as live analysis does.

    With a detector that gives points (YuNet) the network only vouches for the few frames in which
    the detector misses a face that it had; crops may then be reused for other networks of the same
    template. With Haar the landmarks of the network align the crops, and nothing is cached.

    Args:
        folder: ../shared.
        facts: the clips.
        detector: finds faces.
        network: gives the template and, for Haar, the points.
        cache: folder in which crops are kept, with YuNet; another weights file of the detector has
            crops of its own.

    Returns:
        One entry per clip, in the same order.

    Raises:
        SourceError: a clip cannot be read, or has another number of frames than its reference.
        ModelError: the detector's weights file is gone.
    """
    key = crop_key(detector, network)
    tracked = []
    for clip in facts:
        path = folder / "clips" / clip.name
        stored = None
        if cache is not None and detector.name == "yunet":
            stored = cache / f"{clip.name}.{path.stat().st_size}.{key}.npz"
        if stored is not None and stored.is_file():
            with np.load(stored) as data:
                tracked.append(TrackedClip(clip.name, **{name: data[name] for name in _ARRAYS}))
            continue
        done = track_clip(path, detector, network)
        if len(done.lost) != clip.frames:
            raise SourceError(
                f"{path} decodes to {len(done.lost)} frames, its reference has {clip.frames}; both "
                "must be of the same file, restore ../shared"
            )
        if stored is not None:
            stored.parent.mkdir(parents=True, exist_ok=True)
            part = stored.with_suffix(".part.npz")
            np.savez_compressed(part, **{name: getattr(done, name) for name in _ARRAYS})
            part.replace(stored)
        tracked.append(done)
    return tracked


def crop_key(detector: Detector, network: AUNetwork) -> str:
    """Return what aligned crops depend on, of a detector that gives points: 12 hex digits."""
    card = network.card
    digest = hashlib.sha256(detector_identity(detector).encode())
    digest.update(card.template.tobytes() + card.template_weights.tobytes())
    digest.update(bytes([card.input_size]))
    return digest.hexdigest()[:12]


def make_tracker(detector: Detector, network: AUNetwork) -> FaceTracker:
    """Return the tracker of live analysis for this network."""
    return FaceTracker.of_network(detector, network)


def track_clip(path: Path, detector: Detector, network: AUNetwork) -> TrackedClip:
    """Cut the face out of each frame of a clip, as live analysis does.

    Raises:
        SourceError: the clip cannot be read.
    """
    tracker = make_tracker(detector, network)
    crops: list[NDArray[np.uint8]] = []
    index: list[int] = []
    lost: list[bool] = []
    quality: list[float] = []
    times: list[float] = []
    with open_source(str(path)) as source:
        fps = source.fps or DEFAULT_FPS
        while (grab := source.read()) is not None:
            seen = tracker.update(grab.image)
            if seen.crop is not None:
                index.append(len(lost))
                crops.append(seen.crop)
                quality.append(seen.quality)
            lost.append(seen.state == FaceState.LOST)
            times.append(grab.index / fps if grab.pts is None else grab.pts)
    size = network.card.input_size
    stack = np.array(crops, np.uint8).reshape(-1, size, size)
    return TrackedClip(
        path.name,
        np.array(index, np.int64),
        stack,
        np.array(quality, np.float64),
        np.array(lost, bool),
        np.array(times, np.float64),
    )
