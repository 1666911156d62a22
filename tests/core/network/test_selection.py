"""Which AUs take part: words, numbers, grades, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from facestage.core.errors import ConfigError
from facestage.core.network.au_network import EMBEDDED
from facestage.core.network.card import ModelCard
from facestage.core.network.selection import parse_aus, select_aus, staging_aus

PLAIN = replace(
    ModelCard.from_json(EMBEDDED.with_suffix(".json").read_text()),
    name="net",
    aus=(1, 4, 12, 25),
    grades={},
)
GRADED = replace(PLAIN, grades={1: "B", 4: "C", 12: "A", 25: "A"})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("shown", "shown"),
        (" ALL ", "all"),
        ("a", "A"),
        ("12", (12,)),
        ("au12, AU04,1,12", (1, 4, 12)),
    ],
)
def test_selections_are_read_as_people_write_them(text: str, wanted: object) -> None:
    assert parse_aus(text) == wanted


@pytest.mark.parametrize("text", ["", ",", "1,", "smile", "1;2", "-4", "1.5", "B", "12A", "²"])
def test_what_names_no_aus_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="names no Action Units; use shown, all, A, or numbers"):
        parse_aus(text)


@pytest.mark.parametrize(
    ("wanted", "plain", "graded"),
    [
        ("shown", (1, 4, 12, 25), (1, 12, 25)),
        ("all", (1, 4, 12, 25), (1, 4, 12, 25)),
        ((25, 4), (4, 25), (4, 25)),
    ],
)
def test_grades_decide_what_is_shown(
    wanted: str | tuple[int, ...], plain: tuple[int, ...], graded: tuple[int, ...]
) -> None:
    assert select_aus(PLAIN, wanted) == plain
    assert select_aus(GRADED, wanted) == graded


def test_reliable_aus_need_grades() -> None:
    assert select_aus(GRADED, "A") == (12, 25)
    with pytest.raises(ConfigError, match=r"the card of net gives .* no grades.*use all"):
        select_aus(PLAIN, "A")


def test_an_unknown_au_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="net has no AU02, AU99; it has 1, 4, 12, 25"):
        select_aus(PLAIN, (2, 12, 99))
    with pytest.raises(ConfigError, match="was given no AU"):
        select_aus(PLAIN, ())
    with pytest.raises(ConfigError, match="unknown choice of Action Units 'best'"):
        select_aus(PLAIN, "best")


def test_a_network_without_a_usable_au_says_so() -> None:
    poor = replace(GRADED, grades=dict.fromkeys(GRADED.aus, "C"))
    with pytest.raises(ConfigError, match="no Action Unit of net is graded A or B; use all"):
        select_aus(poor, "shown")
    assert select_aus(poor, "all") == poor.aus


def test_stages_are_made_by_those_who_are_asked_for() -> None:
    part = (1, 12, 25)
    assert staging_aus(GRADED, part, "shown") == staging_aus(GRADED, part, "all") == part
    assert staging_aus(GRADED, part, "A") == (12, 25)
    assert staging_aus(GRADED, (1,), "A") == ()
    assert staging_aus(GRADED, part, (1, 25)) == (1, 25)


def test_who_does_not_take_part_makes_no_stages() -> None:
    with pytest.raises(ConfigError, match=r"AU04 cannot make stages .*--stage-aus"):
        staging_aus(GRADED, (1, 12), (4, 12))
    with pytest.raises(ConfigError, match="gives its Action Units no grades"):
        staging_aus(PLAIN, (1, 12), "A")
