"""Changes of letters in words."""

from __future__ import annotations

import numpy as np
import pytest
from facestage.core.face.reasons import letter_changes, region_text
from facestage.core.face.region_shares import PARTS, Shares
from facestage.core.types import LOST, NONE, LetterChange


def on(**parts: float) -> Shares:
    found = np.zeros(len(PARTS), np.float32)
    for name, share in parts.items():
        found[PARTS.index(name.replace("_", " "))] = share
    return found


KNOWN = {
    "AU12_A": on(right_nasolabial_fold=0.3, left_nasolabial_fold=0.3, chin=0.4),
    "AU12_B": on(right_mouth_corner=0.3, left_mouth_corner=0.3, chin=0.4),
    "AU12_C": on(right_mouth_corner=0.31, left_mouth_corner=0.29, chin=0.4),
    "AU25_A": on(**{"outside the face": 1.0}),
    "AU25_B": on(chin=1.0),
}


@pytest.mark.parametrize(
    ("before", "after", "texts"),
    [
        (
            ("AU12_A",),
            ("AU12_B",),
            ["AU12: relevance moved from the nasolabial folds to the mouth corners"],
        ),
        (
            ("AU12_B",),
            ("AU12_C",),
            [
                "AU12: relevance has another pattern within the same facial regions "
                "(mouth corners 60 %, chin 40 %)"
            ],
        ),
        (("AU25_A",), ("AU25_B",), ["AU25: relevance moved from outside the face to the chin"]),
        (NONE, ("AU12_B",), ["AU12 began, relevance: mouth corners 60 %, chin 40 %"]),
        (None, ("AU12_Z",), ["AU12 began"]),
        (("AU12_Z",), ("AU12_A",), ["AU12: relevance changed from AU12_Z to AU12_A"]),
        (LOST, NONE, []),
        (("AU12_A",), NONE, ["AU12 ended"]),
        (("AU12_A",), LOST, []),
        (
            ("AU04_A", "AU12_A"),
            ("AU12_A", "AU25_B"),
            ["AU04 ended", "AU25 began, relevance: chin 100 %"],
        ),
    ],
)
def test_a_change_is_one_sentence(
    before: tuple[str, ...] | None, after: tuple[str, ...], texts: list[str]
) -> None:
    assert [change.text for change in letter_changes(before, after, KNOWN.get)] == texts


def test_a_change_names_both_labels() -> None:
    changes = letter_changes(("AU04_A", "AU12_A"), ("AU12_B", "AU25_A"), KNOWN.get)
    assert [(c.au, c.before, c.after) for c in changes] == [
        (4, "AU04_A", None),
        (12, "AU12_A", "AU12_B"),
        (25, None, "AU25_A"),
    ]
    assert all(isinstance(change, LetterChange) for change in changes)


def test_regions_as_a_phrase() -> None:
    assert region_text((("mouth corners", 0.614), ("chin", 0.2))) == "mouth corners 61 %, chin 20 %"
    assert region_text(()) == ""
