"""Labels and colours of Action Units."""

from __future__ import annotations

import doctest
import itertools

import pytest
from facestage.core import action_units
from facestage.core.action_units import (
    AU_COLOURS,
    AU_NAMES,
    letter,
    letter_index,
    parse_label,
    prototype_label,
)
from facestage.core.errors import ConfigError
from facestage.core.network.au_network import AUNetwork
from hypothesis import given
from hypothesis import strategies as st


def test_documented_examples_hold() -> None:
    assert doctest.testmod(action_units).failed == 0


@given(st.integers(0, 20_000))
def test_letters_count_without_holes(index: int) -> None:
    assert letter_index(letter(index)) == index


@given(st.integers(1, 99), st.integers(0, 1000))
def test_labels_can_be_read_back(au: int, index: int) -> None:
    assert parse_label(prototype_label(au, letter(index))) == (au, letter(index))


@pytest.mark.parametrize("text", ["", "NONE", "AU1", "AU123", "AU12_", "AU12_a", "12_A"])
def test_other_texts_are_no_labels(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_label(text)


@pytest.mark.parametrize("text", ["", "a", "A1", "Ä"])
def test_other_texts_are_no_letters(text: str) -> None:
    with pytest.raises(ConfigError):
        letter_index(text)
    with pytest.raises(ConfigError):
        letter(-1)


@pytest.mark.parametrize(
    "together", [(6, 7, 10, 12, 25, 26), (4, 6, 7, 9, 10, 25, 43), (1, 2, 5, 25, 26), (1, 4, 15)]
)
def test_aus_that_occur_together_differ_in_colour(together: tuple[int, ...]) -> None:
    for a, b in itertools.combinations(together, 2):
        assert AU_COLOURS[a] != AU_COLOURS[b], (a, b)


def test_every_au_of_the_embedded_network_has_name_and_colour() -> None:
    aus = set(AUNetwork.load(device="cpu").card.aus)
    assert aus <= AU_NAMES.keys()
    assert aus <= AU_COLOURS.keys()
