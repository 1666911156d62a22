"""Formulas: the grammar, intervals where an AU is not known, and what is refused."""

from __future__ import annotations

import pytest
from facestage.core.action_units import AU_NAMES
from facestage.core.errors import ConfigError
from facestage.core.scores.formula import EYES_CLOSED, Formula
from hypothesis import given
from hypothesis import strategies as st

AUS = tuple(AU_NAMES)


def evaluated(text: str, values: dict[int, float]) -> float:
    """Return what Python makes of a formula: the yardstick."""
    names = {f"AU{au}": value for au, value in values.items()}
    return eval(text, {"__builtins__": {}, "min": min, "max": max, **names})


@st.composite
def formulas(draw: st.DrawFn, deep: int = 3) -> str:
    kind = draw(st.sampled_from("naa+-*/mp" if deep else "naa"))
    if kind == "n":
        return draw(st.sampled_from(["0", "1", "2.5", ".25", "3."]))
    if kind == "a":
        return f"AU{draw(st.sampled_from(AUS))}"
    inner = formulas(deep=deep - 1)
    if kind == "m":
        pick = draw(st.sampled_from(["min", "max"]))
        return f"{pick}({', '.join(draw(st.lists(inner, min_size=2, max_size=3)))})"
    if kind == "p":
        return f"-({draw(inner)})"
    return f"({draw(inner)}) {kind} {draw(inner)}"


VALUES = st.fixed_dictionaries(
    {au: st.sampled_from([0.0, 1.0]) if au == EYES_CLOSED else st.floats(0, 5) for au in AUS}
)


def accepted(text: str) -> Formula | None:
    try:
        return Formula(text)
    except ConfigError:
        return None


@given(text=formulas(), values=VALUES)
def test_a_formula_is_what_python_makes_of_it(text: str, values: dict[int, float]) -> None:
    formula = accepted(text)
    if formula is None:
        return
    low, high = formula.evaluate(values)
    assert low == high == pytest.approx(evaluated(text, values), abs=1e-9)
    assert formula.low - 1e-9 <= low <= formula.high + 1e-9


@given(text=formulas(), values=VALUES, hidden=st.sets(st.sampled_from(AUS)))
def test_the_value_lies_in_the_interval_whatever_an_unknown_au_is(
    text: str, values: dict[int, float], hidden: set[int]
) -> None:
    formula = accepted(text)
    if formula is None:
        return
    known = {au: value for au, value in values.items() if au not in hidden}
    low, high = formula.evaluate(known)
    assert low - 1e-9 <= evaluated(text, values) <= high + 1e-9


@given(text=formulas())
def test_what_python_divides_by_zero_is_refused(text: str) -> None:
    try:
        evaluated(text, dict.fromkeys(AUS, 0.0))
    except ZeroDivisionError:
        assert accepted(text) is None


@given(text=st.text(alphabet="AU0123456789 +-*/(),.minmax\t", max_size=40))
def test_any_text_is_a_formula_or_one_clear_line(text: str) -> None:
    said, formula = "", None
    try:
        formula = Formula(text)
    except ConfigError as error:
        said = str(error)
    if formula is None:
        assert 10 < len(said) < 450
        assert "\n" not in said
    else:
        assert formula.low < formula.high


def test_the_terms_are_the_summands() -> None:
    formula = Formula("AU4 + max(AU6, AU7)*2 - AU12/(1 + AU5) + 1")
    assert [term.text for term in formula.terms] == [
        "AU4",
        "max(AU6, AU7)*2",
        "-AU12/(1 + AU5)",
        "1",
    ]
    assert [term.aus for term in formula.terms] == [(4,), (6, 7), (5, 12), ()]
    values = {4: 2.0, 6: 1.0, 7: 3.0, 12: 4.0, 5: 1.0}
    assert [term.evaluate(values).low for term in formula.terms] == [2.0, 6.0, -2.0, 1.0]
    assert formula.evaluate(values) == (7.0, 7.0)


def test_values_beyond_the_scale_count_as_its_end() -> None:
    assert Formula("AU4 + AU43").evaluate({4: 9.0, 43: 3.0}) == (6.0, 6.0)
    assert Formula("AU4 + AU43").evaluate({4: -1.0, 43: -1.0}) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("1 + 2", "names no AU"),
        ("AU4 - AU4*1 + 0*AU12 - min(AU4,", "something is missing at the end"),
        ("0 * AU12", "is 0 whatever the face does"),
        ("AU99", "'AU99' is no AU"),
        ("AU12x", "'AU12x' is no AU"),
        ("exec(AU12)", "'exec' is no AU"),
        ("AU12 ** 2", "'*' is not expected there (character 7"),
        ("AU12 AU6", "'AU6' is not expected there (character 6"),
        ("(AU12", "')' is missing"),
        ("max(AU12)", "max needs two values"),
        ("AU12; AU6", "';' in the formula"),
        (
            "AU12 / AU6",
            "can divide by zero: AU6 may be 0; divide by something that cannot, such as",
        ),
        ("AU12 / (AU6 - 1)", "can divide by zero"),
        ("AU12 / 0", "can divide by zero"),
        ("AU12 * 999999 * 999999", "larger than 1e+06"),
        ("AU12" + "*1" * 5000, "has 10004 characters; write one of at most 200"),
        ("(" * 60 + "AU12" + ")" * 60, "nested more than 20 deep"),
        ("-" * 60 + "AU12", "nested more than 20 deep"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Formula(text)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert len(message) < 420
