"""Pictures of a corpus: typical prototypes side by side, transition graphs, distributions."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from facestage.core.render import PanelEntry, panel
from facestage.core.types import LOST, NONE
from facestage.stream.corpus.graphs import MOST_STAGES, histograms, transition_graph

SVG = "{http://www.w3.org/2000/svg}"


def entry(stages: int, value: int) -> PanelEntry:
    tile = np.full((80, 80, 3), value, np.uint8)
    labels = tuple(("AU12_A", "AU25_A")[: 1 + n % 2] for n in range(stages))
    return PanelEntry("3 of 9 sequences", "S005_001", labels, [tile] * stages)


def tiles(picture: np.ndarray, value: int) -> list[tuple[int, int]]:
    """Return the place of each tile of one grey value."""
    inside = np.all(picture == value, axis=2).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(inside)
    return sorted(
        (int(y), int(x)) for x, y, w, h, _ in stats[1:] if w in range(76, 81) and h in range(76, 81)
    )


def test_prototypes_stand_side_by_side_and_wrap() -> None:
    picture = panel("Typical", [entry(2, 77), entry(1, 99), entry(3, 140)], width=620)
    first, second, third = (tiles(picture, value) for value in (77, 99, 140))
    assert [len(t) for t in (first, second, third)] == [2, 1, 3]
    (row, left), (same, right) = first
    assert row == same
    assert right - left == 80 + round(80 * 0.19)
    assert second[0][0] == row  # beside the first
    assert second[0][1] > right + 80
    assert third[0][0] > row + 80  # no room left: below
    assert third[0][1] == left
    assert np.array_equal(
        picture, panel("Typical", [entry(2, 77), entry(1, 99), entry(3, 140)], 620)
    )


def test_a_prototype_wider_than_the_panel_is_not_cut() -> None:
    picture = panel("Long", [entry(9, 77)], width=300)
    assert len(tiles(picture, 77)) == 9


def test_fewer_tiles_than_stages_and_stages_without_au() -> None:
    tile = np.full((80, 80, 3), 77, np.uint8)
    picture = panel("x", [PanelEntry("a", "b", (NONE, LOST, ("AU01_A",)), [tile, tile])])
    assert len(tiles(picture, 77)) == 2


def test_graph_shows_each_stage_and_transition_once() -> None:
    a, b = ("AU01",), ("AU01", "AU12")
    prototypes = [(NONE, a, b), (NONE, a), (a, NONE), (LOST,)]
    root = ElementTree.fromstring(transition_graph(prototypes))
    nodes = {g.findtext(f"{SVG}title") for g in root.iter(f"{SVG}g")}
    assert nodes == {"NONE: 3 times", "AU01: 3 times", "AU01+AU12: 1 times", "LOST: 1 times"}
    arrows = sorted(p.findtext(f"{SVG}title") or "" for p in root.findall(f"{SVG}path"))
    assert arrows == ["1 times", "1 times", "2 times"]
    assert "4 of 4 different stages; 4 of 4 transitions" in root.attrib["aria-label"]


def test_graph_of_many_stages_says_what_it_leaves_out() -> None:
    prototypes = [(NONE, (f"AU{n:02d}",)) for n in range(1, 30) for _ in range(n)]
    text = transition_graph(prototypes)
    assert f"{MOST_STAGES} of 30 different stages" in text
    drawn = sum(range(30 - (MOST_STAGES - 1), 30))
    assert f"{drawn} of {sum(range(1, 30))} transitions" in text
    ElementTree.fromstring(transition_graph([(NONE,)]))  # nothing follows anything


@pytest.mark.parametrize("log", [False, True])
def test_distributions_are_shares_within_their_row(log: bool) -> None:
    groups = {"happy & <sad>": [1.0, 2.0, 2.0, 7.0], "rest": [3.0]}
    root = ElementTree.fromstring(histograms(groups, "stages", log=log))
    shares = [int((r.findtext(f"{SVG}title") or "0%")[:-1]) for r in root.findall(f"{SVG}rect")]
    assert shares == [25, 50, 25, 100]
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert {"happy & <sad>", "rest", "n = 4", "n = 1", "stages"} <= set(texts)
    medians = [p.findtext(f"{SVG}title") for p in root.findall(f"{SVG}path")]
    assert medians == ["median 2", "median 3"]


def test_a_distribution_of_one_value() -> None:
    for log in (False, True):
        text = histograms({"all": [1.0, 1.0]}, "x", log=log)
        assert "nan" not in text
        assert re.search(r">100%<", text)
        ElementTree.fromstring(text)
