"""What changed in the explanation of a face, in one sentence for each Action Unit.

A change of stage is a list of Action Units that began, ended or got another letter. For each the
sentence says where its relevance lies, or from where to where it moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..action_units import au_code, parse_label
from ..types import LOST, LetterChange, StageLabels
from .region_shares import OUTSIDE, Shares, movement, strongest

__all__ = ["letter_changes", "region_text"]


def region_text(regions: tuple[tuple[str, float], ...]) -> str:
    """Return facial regions and their shares as a phrase; empty for none.

    >>> region_text((("mouth corners", 0.61), ("cheeks", 0.2)))
    'mouth corners 61 %, cheeks 20 %'
    """
    return ", ".join(f"{name} {share:.0%}".replace("%", " %") for name, share in regions)


def letter_changes(
    before: StageLabels | None,
    after: StageLabels,
    shares_of: Callable[[str], Shares | None],
) -> tuple[LetterChange, ...]:
    """Say what changed from one stage to the next.

    Args:
        before: labels of the earlier stage; None at first.
        after: labels of the later one.
        shares_of: gives the shares of the mean map of a prototype by its label; None where it is
            not known any more.

    Returns:
        One change per Action Unit whose letter is another, ascending by its number. Empty where
        the face was lost: that says nothing about Action Units.
    """
    if after == LOST:
        return ()
    old, new = _by_au(before or ()), _by_au(after)
    return tuple(
        LetterChange(
            au, old.get(au), new.get(au), _sentence(au, old.get(au), new.get(au), shares_of)
        )
        for au in sorted(old.keys() | new.keys())
        if old.get(au) != new.get(au)
    )


def _by_au(labels: StageLabels) -> Mapping[int, str]:
    return {parse_label(label)[0]: label for label in labels if label.startswith("AU")}


def _sentence(
    au: int, before: str | None, after: str | None, shares_of: Callable[[str], Shares | None]
) -> str:
    code = au_code(au)
    if after is None:
        return f"{code} ended"
    found = shares_of(after)
    where = "" if found is None else region_text(strongest(found))
    if before is None:
        return f"{code} began, relevance: {where}" if where else f"{code} began"
    known = shares_of(before)
    if found is None or known is None:
        return f"{code}: relevance changed from {before} to {after}"
    moved = movement(known, found)
    if moved is None:
        return f"{code}: relevance has another pattern within the same facial regions ({where})"
    lost, gained = (name if name == OUTSIDE else f"the {name}" for name in moved)
    return f"{code}: relevance moved from {lost} to {gained}"
