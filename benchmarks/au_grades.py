"""The grade of an AU: what real people say of it, and the rule that turns that into A, B or C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["RULE", "Evidence", "Share", "grade"]

FINDS, FINDS_SOME, MISSES = 0.7, 0.3, 0.5
"""Share of the sure events found: for A, for B, and below which they contradict an A."""
FOLLOWS, FOLLOWS_SOME, STRAYS = 0.65, 0.2, 0.6
"""Correlation with the reference curve within a clip, likewise."""
APART, APART_SOME = 0.9, 0.7
"""Area under the ROC curve, for A and for B."""
CALM_PEOPLE, QUIET_PEOPLE = 0.07, 0.10
"""Share of neutral people in whom it is active, for A and for B."""
CALM_FRAMES, QUIET_FRAMES = 0.07, 0.15
"""Share of absent frames in which it is active (mean over people), for A and for B."""
IN_REGION, IN_REGION_SOME = 2.0, 1.0
"""Relevance in the region of the AU over the region's share of the face, for A and for B: 1 is
what relevance without any preference would have."""
RENDERED, RENDERED_SOME = 0.85, 0.8
"""Area under the ROC curve on rendered faces, for A and for B."""
ENOUGH_PEOPLE = 2
"""People with sure events from whom on people judge alone: what is worse on renders may be better
on them (AU 2 is), so renders must not hide it."""

RULE = (
    "Nobody is judged who was trained with, or by a threshold in which they took part. "
    f"A: finds >= {100 * FINDS:.0f} % of the sure events of two persons or more, or follows the "
    f"reference curve of two or more (r >= {FOLLOWS}), and neither contradicts (found < "
    f"{100 * MISSES:.0f} %, r < {STRAYS}); AUC >= {APART} over the own rest level, where clips "
    f"tell; active in <= {100 * CALM_PEOPLE:.0f} % of neutral people and of absent frames; "
    f"relevance in its region >= {IN_REGION:g}; rendered AUC >= {RENDERED}, unless the sure events "
    f"of {ENOUGH_PEOPLE} persons judge. "
    f"B: something real speaks for it (found >= {100 * FINDS_SOME:.0f} %, r >= {FOLLOWS_SOME}, or "
    f"AUC >= {APART_SOME} on clips, marked photographs or smiles) and no event nor curve against "
    f"it; active in <= {100 * QUIET_PEOPLE:.0f} % of neutral people and <= "
    f"{100 * QUIET_FRAMES:.0f} % of absent frames; relevance >= {IN_REGION_SOME:g}; "
    f"rendered AUC >= {RENDERED_SOME}, likewise. C: all others; an AU of which nobody real tells "
    "stays C."
)


@dataclass(frozen=True, slots=True)
class Share:
    """A figure, what it rests on, and its 95 % interval over people.

    Attributes:
        value: the figure.
        people: how many it rests on.
        interval: None of one person.
    """

    value: float
    people: int
    interval: tuple[float, float] | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any] | None, name: str = "value") -> Share | None:
        """Read a figure of ``people_figures``; None where there is none."""
        if not entry or entry.get(name) is None:
            return None
        interval = entry.get("interval")
        return cls(entry[name], entry["people"], tuple(interval) if interval else None)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a grade rests on; None where nothing could judge.

    Attributes:
        found: share of the sure events of clips, by default settings (over the rest level).
        own: AUC over each person's own rest level, on clips.
        marked: AUC on photographs marked by eye, one scale for everybody.
        smile: AUC of smiles against neutral pictures of the same people; of AU 6 and 12 alone.
        smile_found: share of the smiles in which it is active; likewise.
        neutral: share of neutral people in whom it is active.
        absent: share of absent frames, mean over people.
        r: correlation with the reference curve, median over people; None of AU 1, 2 and 4.
        auc: on rendered views of held-out identities.
        detected: share of rendered views at B or more with presence above ``on``.
        relevance: ratio on real faces where it is active, see :func:`au_evidence.region_ratio`.
        relevance_rendered: the same on rendered ones.
    """

    found: Share | None = None
    own: Share | None = None
    marked: Share | None = None
    smile: Share | None = None
    smile_found: Share | None = None
    neutral: Share | None = None
    absent: Share | None = None
    r: Share | None = None
    auc: float | None = None
    detected: float | None = None
    relevance: float | None = None
    relevance_rendered: float | None = None


def grade(evidence: Evidence) -> str:
    """Return A, B or C by :data:`RULE`; a missing figure fails every test that asks for it."""
    if _is_a(evidence):
        return "A"
    return "B" if _is_b(evidence) else "C"


def _is_a(e: Evidence) -> bool:
    finds = _found(e)
    speaks = _at_least(finds, FINDS, people=2) or _at_least(e.r, FOLLOWS, people=2)
    contradicted = _below(finds, MISSES) or _below(e.r, STRAYS)
    return (
        speaks
        and not contradicted
        and not _below(e.own, APART)
        and _at_most(e.neutral, CALM_PEOPLE)
        and _at_most(e.absent, CALM_FRAMES)
        and (e.relevance or 0) >= IN_REGION
        and _rendered(e, RENDERED)
    )


def _is_b(e: Evidence) -> bool:
    finds = _found(e)
    areas: Sequence[Share | None] = (e.own, e.marked, e.smile)
    speaks = (
        _at_least(finds, FINDS_SOME)
        or _at_least(e.r, FOLLOWS_SOME)
        or any(_at_least(area, APART_SOME) for area in areas)
    )
    contradicted = _below(finds, FINDS_SOME) or _below(e.r, FOLLOWS_SOME)
    return (
        speaks
        and not contradicted
        and _at_most(e.neutral, QUIET_PEOPLE)
        and _at_most(e.absent, QUIET_FRAMES)
        and (e.relevance or 0) >= IN_REGION_SOME
        and _rendered(e, RENDERED_SOME)
    )


def _rendered(e: Evidence, least: float) -> bool:
    """Tell whether renders speak for an AU, or enough people judge it without them."""
    judged = e.found is not None and e.found.people >= ENOUGH_PEOPLE
    return judged or (e.auc or 0) >= least


def _found(e: Evidence) -> Share | None:
    """Return what was found in clips, or in smiles where no clip has a sure event."""
    return e.smile_found if e.found is None else e.found


def _at_least(share: Share | None, least: float, people: int = 1) -> bool:
    return share is not None and share.value >= least and share.people >= people


def _below(share: Share | None, least: float) -> bool:
    return share is not None and share.value < least


def _at_most(share: Share | None, most: float) -> bool:
    return share is not None and share.value <= most
