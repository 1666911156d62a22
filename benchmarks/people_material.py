"""The real people an AU network is judged by: clips and stills with what is known of them.

Three folders of ../shared: ``clips`` and ``judge`` (clips with events and spans marked by eye, and
Darwin's photographs), ``faces`` (neutral and smiling portraits). ``training.photos.halves`` says
who is trained with, who chooses, and who is reported on.

References:
    Darwin, *The Expression of the Emotions in Man and Animals*, 1872.
    DeBruine & Jones, *Face Research Lab London Set*, 2017, doi 10.6084/m9.figshare.5047666.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from facestage.core.errors import SourceError
from people_halves import CHOOSE, REPORT, digest, half_of, is_trained_with
from real_clips import ALL_AUS, ClipFacts, Event, Span, load_facts

__all__ = [
    "ALL",
    "CHOOSE",
    "REPORT",
    "JudgedClip",
    "Material",
    "Still",
    "fold_of",
    "half_of",
    "lent_to_training",
    "load_material",
    "parse_judge_events",
]

ALL = "all"
"""Both halves."""

NEUTRAL, SMILE, MARKED = "neutral", "smile", "marked"
"""What is known of a still: that nothing is active, that the person smiles, or which AUs are."""

DARWIN = "darwin"
"""Name of the set of Darwin's photographs."""
_SEEN_TWICE = ("young_man", "old_man")
"""Men in several of Darwin's photographs, as the file names call them."""
_PARTED = (25, 26)
"""AUs that a face called neutral may show where its lips are said to be parted."""


@dataclass(frozen=True, slots=True)
class JudgedClip:
    """One clip of one person: what is known of it, and where it lies."""

    path: Path
    person: str
    facts: ClipFacts


@dataclass(frozen=True, slots=True)
class Still:
    """One photograph.

    Attributes:
        path: where it lies.
        person: name of the person, the same for every picture of them.
        source: which set it belongs to.
        kind: ``neutral``, ``smile`` or ``marked``.
        aus: the AUs that were seen by eye, of a marked one.
        sure: whether the mark is; True for portraits.
        unknown: AUs of which nothing is known.
    """

    path: Path
    person: str
    source: str
    kind: str
    aus: tuple[int, ...] = ()
    sure: bool = True
    unknown: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Material:
    """All clips and stills of a set of people."""

    clips: tuple[JudgedClip, ...]
    stills: tuple[Still, ...]

    def people(self) -> set[str]:
        """Return the names of all of them."""
        return {item.person for item in (*self.clips, *self.stills)}

    def of_half(self, half: str) -> Material:
        """Return what belongs to the people of one half, or to all of them."""
        if half == ALL:
            return self
        return Material(
            tuple(clip for clip in self.clips if half_of(clip.person) == half),
            tuple(still for still in self.stills if half_of(still.person) == half),
        )


def lent_to_training(material: Material) -> set[str]:
    """Return the people whose portraits the embedded network was trained with: they choose nothing.

    Clips and Darwin's photographs are never trained with.
    """
    return {
        still.person
        for still in material.stills
        if still.source != DARWIN and is_trained_with(still.person)
    }


def fold_of(people: Iterable[str], count: int) -> dict[str, int]:
    """Deal people to folds of equal size.

    Args:
        people: their names; order does not matter.
        count: number of folds.

    Returns:
        Name → fold, 0 to ``count`` − 1.
    """
    ordered = sorted(set(people), key=lambda name: (digest(name), name))
    return {name: place % count for place, name in enumerate(ordered)}


def load_material(folder: Path) -> Material:
    """Return all people of ../shared.

    Copies of a take are left out: they would only repeat its frames.

    Args:
        folder: ../shared.

    Raises:
        SourceError: a table or a file is missing, or a row cannot be read.
    """
    for table in ("judge/events.csv", "judge/darwin.csv", "faces/faces.csv"):
        if not (folder / table).is_file():
            raise SourceError(
                f"{folder} holds no {table}: the photographs and clips of real people are not "
                "part of the repository; set FACESTAGE_SHARED, or pass --shared, to the folder "
                "that has them"
            )
    clips = [
        JudgedClip(folder / "clips" / facts.name, f"clips:{Path(facts.name).stem}", facts)
        for facts in load_facts(folder)
        if facts.name == facts.person and (facts.events or facts.quiet)
    ]
    for name, facts in parse_judge_events(folder / "judge" / "events.csv").items():
        clips.append(JudgedClip(folder / "judge" / "clips" / name, facts.person, facts))
    stills = (*_portraits(folder / "faces"), *_darwin(folder / "judge"))
    for item in (*clips, *stills):
        if not item.path.is_file():
            raise SourceError(f"{item.path} is named in a table but missing; restore ../shared")
    return Material(tuple(clips), stills)


def parse_judge_events(path: Path) -> dict[str, ClipFacts]:
    """Read the marks of the judge's clips; one clip is one person.

    ``certainty`` is ``sure`` or ``likely`` for an event, ``absent`` for a span in which these AUs
    (or ``all``) are surely not there. The number of frames is that of the last mark: a clip may be
    longer.

    Args:
        path: ``events.csv``.

    Returns:
        Clip → its facts, without a reference.

    Raises:
        SourceError: a row cannot be read.
    """
    events: dict[str, list[Event]] = {}
    absent: dict[str, list[Span]] = {}
    for number, row in _rows(path):
        try:
            first, last, certainty = int(row["on_frame"]), int(row["off_frame"]), row["certainty"]
            aus = ALL_AUS if row["aus"] == "all" else tuple(map(int, row["aus"].split("+")))
            if not 0 <= first <= last or certainty not in ("sure", "likely", "absent"):
                raise ValueError(f"frames {first} to {last}, certainty {certainty!r}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SourceError(
                f"{path}, line {number}: cannot be read ({error}); expected clip, on_frame, "
                "off_frame, what, aus (such as 6+12, or all), certainty (sure, likely or absent)"
            ) from error
        of_clip, spans = events.setdefault(row["clip"], []), absent.setdefault(row["clip"], [])
        if certainty == "absent":
            spans.append(Span(first, last, aus, row["what"]))
        else:
            of_clip += [Event(au, first, last, certainty == "sure", row["what"]) for au in aus]
    return {
        name: ClipFacts(
            name,
            f"judge:{Path(name).stem}",
            1 + max(mark.last for mark in (*events[name], *absent[name])),
            tuple(events[name]),
            tuple(absent[name]),
            (),
            (),
            {},
        )
        for name in events
    }


def with_frames(clip: JudgedClip, frames: int) -> JudgedClip:
    """Return the clip with its true number of frames.

    Raises:
        SourceError: it is shorter than its marks say.
    """
    if frames < clip.facts.frames:
        raise SourceError(
            f"{clip.path} decodes to {frames} frames but is marked up to frame "
            f"{clip.facts.frames - 1}; restore ../shared"
        )
    return replace(clip, facts=replace(clip.facts, frames=frames))


def _portraits(folder: Path) -> tuple[Still, ...]:
    """Return the neutral portraits, and the smiles of the people who are also seen neutral.

    What is called ``near_neutral`` or ``weak_smile`` is neither, and is left out.
    """
    rows = [row for _, row in _rows(folder / "faces.csv")]
    try:
        known = [
            Still(folder / row["file"], row["person"], row["set"], row["expression"])
            for row in rows
            if row["expression"] in (NEUTRAL, SMILE)
        ]
    except (KeyError, TypeError) as error:
        raise SourceError(
            f"{folder / 'faces.csv'} cannot be read ({error!r}); expected file, set, person, "
            "expression"
        ) from error
    seen_neutral = {still.person for still in known if still.kind == NEUTRAL}
    return tuple(still for still in known if still.person in seen_neutral)


def _darwin(folder: Path) -> tuple[Still, ...]:
    stills = []
    for number, row in _rows(folder / "darwin.csv"):
        try:
            name, what, sure = row["picture"], row["what"], row["certainty"] == "sure"
            aus = tuple(int(au) for au in row["aus"].split("+") if au)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SourceError(
                f"{folder / 'darwin.csv'}, line {number}: cannot be read ({error!r}); expected "
                "picture, what, aus, certainty"
            ) from error
        title = re.sub(r"^p\d+_\d+_", "", Path(name).stem)
        person = next((who for who in _SEEN_TWICE if title.startswith(who)), title)
        unknown = _PARTED if not aus and "parted" in what else ()
        path = folder / "darwin" / name
        stills.append(Still(path, f"darwin:{person}", DARWIN, MARKED, aus, sure, unknown))
    return tuple(stills)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from enumerate(csv.DictReader(file), start=2)
