"""Formulas over AU intensities: a small grammar, read once and evaluated with what is known.

::

    sum      = product { ("+" | "-") product }
    product  = factor { ("*" | "/") factor }
    factor   = "-" factor | number | AU | ("min" | "max") "(" sum "," sum { "," sum } ")"
             | "(" sum ")"

An AU that is not known in a frame is not 0: it may be anything from 0 to its largest value. So a
formula is evaluated with intervals, and says between which two numbers its value lies (Moore,
*Interval Analysis*, 1966). Where all AUs are known the two are the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..action_units import AU_NAMES, au_code
from ..errors import ConfigError

__all__ = ["EYES_CLOSED", "LARGEST", "MOST_CHARACTERS", "Formula", "Interval", "Term"]

EYES_CLOSED = 43
"""The AU that is 0 or 1 in every formula: eyes are closed, or they are not."""
LARGEST = 5.0
"""Largest intensity of every other AU (FACS grade E)."""
MOST_CHARACTERS = 200
"""A longer formula is refused."""
MOST_DEEP = 20
"""Parentheses and signs within each other; deeper ones are refused."""
MOST_VALUE = 1e6
"""A formula that could be larger, or smaller than its negative, is refused."""

_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)|([A-Za-z]\w*)|([-+*/(),]))")


class Interval(NamedTuple):
    """A value that lies between two numbers; it is known where they are the same."""

    low: float
    high: float


Values = Mapping[int, Interval]
_Node = Callable[[Values], Interval]


def _full(au: int) -> Interval:
    return Interval(0.0, 1.0 if au == EYES_CLOSED else LARGEST)


@dataclass(frozen=True, slots=True)
class Term:
    """One of the summands of a formula.

    Attributes:
        text: as it was written, with a ``-`` in front where it is taken off.
        aus: numbers of the AUs in it, ascending.
    """

    text: str
    aus: tuple[int, ...]
    node: _Node

    def evaluate(self, values: Mapping[int, float]) -> Interval:
        """Return between which numbers the term lies; see :meth:`Formula.evaluate`."""
        return self.node(_intervals(self.aus, values))


class Formula:
    """A formula over AU intensities.

    Args:
        text: such as ``AU4 + max(AU6, AU7)`` or ``AU12 * AU6``; see the module for the grammar.

    Attributes:
        text: the formula as it was written, without spaces around it.
        terms: its summands, in the order written.
        aus: numbers of the AUs in it, ascending.
        low, high: between them every value lies.

    Raises:
        ConfigError: it is no formula, names an unknown AU or none at all, can divide by zero, can
            be larger than a million, is always the same, or is too long or too deep to read.

    >>> Formula("AU4 + max(AU6, AU7)").evaluate({4: 1.0, 6: 2.0, 7: 3.0})
    Interval(low=4.0, high=4.0)
    >>> Formula("AU4 + max(AU6, AU7)").evaluate({4: 1.0, 6: 2.0})
    Interval(low=3.0, high=6.0)
    """

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self.terms = _Reader(self.text).read()
        self.aus = tuple(sorted({au for term in self.terms for au in term.aus}))
        if not self.aus:
            raise ConfigError(f"the formula {self.text!r} names no AU; write one such as AU12*AU6")
        self.low, self.high = self.evaluate({})
        if self.low == self.high:
            raise ConfigError(
                f"the formula {self.text!r} is {self.low:g} whatever the face does; write one that "
                "changes with an AU"
            )

    def evaluate(self, values: Mapping[int, float]) -> Interval:
        """Return between which two numbers the value lies.

        Args:
            values: AU number → intensity, 0 to 5; of AU43 0 or 1. What lies beyond counts as the
                nearest of them. AUs that are not in it are not known.
        """
        low = high = 0.0
        for term in self.terms:
            part = term.evaluate(values)
            low, high = low + part.low, high + part.high
        return Interval(low, high)


def _intervals(aus: tuple[int, ...], values: Mapping[int, float]) -> Values:
    found: dict[int, Interval] = {}
    for au in aus:
        full = _full(au)
        if au in values:
            value = min(max(float(values[au]), full.low), full.high)
            full = Interval(value, value)
        found[au] = full
    return found


class _Reader:
    """Read one formula; what it holds is checked with the widest intervals as it is built."""

    def __init__(self, text: str) -> None:
        self._text = text
        if len(text) > MOST_CHARACTERS:
            raise ConfigError(
                f"the formula {text[:30]!r}… has {len(text)} characters; write one of at most "
                f"{MOST_CHARACTERS}"
            )
        if not text:
            raise ConfigError("the formula is empty; write one such as AU12*AU6")
        self._tokens = list(self._split())
        self._at = 0
        self._deep = 0
        self._aus: set[int] = set()

    def read(self) -> tuple[Term, ...]:
        terms: list[Term] = []
        sign = "+"
        while True:
            begin, self._aus = self._position(), set()
            node = self._product()
            text = self._text[begin : self._end()]
            if sign == "-":
                node, text = self._negative(node), f"-{text}"
            terms.append(Term(text, tuple(sorted(self._aus)), node))
            if self._peek() not in ("+", "-"):
                break
            sign = self._take()
        if self._peek():
            raise self._error(f"{self._peek()!r} is not expected there")
        return tuple(terms)

    # --- tokens ---------------------------------------------------------------------------

    def _split(self) -> Iterator[tuple[str, int, int]]:
        at = 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None:
                odd = self._text[at:].lstrip()[:1]
                raise ConfigError(f"{odd!r} in the formula {self._text!r} is not known; {_NEXT}")
            at = match.end()
            token = match[1] or match[2] or match[3]
            yield token, at - len(token), at

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _position(self) -> int:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else len(self._text)

    def _end(self) -> int:
        return self._tokens[self._at - 1][2]

    def _error(self, what: str) -> ConfigError:
        return ConfigError(
            f"{what} (character {self._position() + 1} of the formula {self._text!r}); {_NEXT}"
        )

    def _expect(self, token: str) -> None:
        if self._peek() != token:
            raise self._error(f"{token!r} is missing")
        self._take()

    # --- grammar --------------------------------------------------------------------------

    def _sum(self) -> _Node:
        node = self._product()
        while self._peek() in ("+", "-"):
            sign = self._take()
            other = self._product()
            node = self._checked(_sum_of(node, other if sign == "+" else self._negative(other)))
        return node

    def _product(self) -> _Node:
        node = self._factor()
        while self._peek() in ("*", "/"):
            sign = self._take()
            begin = self._position()
            other = self._factor()
            if sign == "/":
                self._check_divisor(other, self._text[begin : self._end()])
            node = self._checked((_product_of if sign == "*" else _quotient_of)(node, other))
        return node

    def _factor(self) -> _Node:
        self._deep += 1
        if self._deep > MOST_DEEP:
            raise self._error(f"it is nested more than {MOST_DEEP} deep")
        try:
            return self._plain_factor()
        finally:
            self._deep -= 1

    def _plain_factor(self) -> _Node:
        token = self._peek()
        if not token:
            raise self._error("something is missing at the end")
        if token == "-":
            self._take()
            return self._negative(self._factor())
        if token == "(":
            self._take()
            node = self._sum()
            self._expect(")")
            return node
        if token[0].isdigit() or token[0] == ".":
            value = float(token)
            self._take()
            return self._checked(lambda values: Interval(value, value))
        if token.lower() in ("min", "max"):
            return self._choice()
        if token[0].isalpha():
            return self._action_unit()
        raise self._error(f"{token!r} is not expected there")

    def _choice(self) -> _Node:
        pick = min if self._take().lower() == "min" else max
        self._expect("(")
        nodes = [self._sum()]
        while self._peek() == ",":
            self._take()
            nodes.append(self._sum())
        if len(nodes) < 2:
            raise self._error(f"{pick.__name__} needs two values or more")
        self._expect(")")

        def node(values: Values) -> Interval:
            lows, highs = zip(*(inner(values) for inner in nodes), strict=True)
            return Interval(pick(lows), pick(highs))

        return node

    def _action_unit(self) -> _Node:
        token = self._peek()
        match = re.fullmatch(r"AU0*(\d{1,2})", token, re.IGNORECASE)
        au = int(match[1]) if match else 0
        if match is None or au not in AU_NAMES:
            known = ", ".join(au_code(known) for known in AU_NAMES)
            raise self._error(f"{token[:20]!r} is no AU known here, they are {known}")
        self._take()
        self._aus.add(au)
        return lambda values: values[au]

    # --- checks ---------------------------------------------------------------------------

    def _widest(self, node: _Node) -> Interval:
        return node({au: _full(au) for au in self._aus})

    def _negative(self, node: _Node) -> _Node:
        def negative(values: Values) -> Interval:
            low, high = node(values)
            return Interval(-high, -low)

        return negative

    def _checked(self, node: _Node) -> _Node:
        low, high = self._widest(node)
        if not (math.isfinite(low) and math.isfinite(high) and max(-low, high) <= MOST_VALUE):
            raise self._error(f"it can be larger than {MOST_VALUE:g}")
        return node

    def _check_divisor(self, node: _Node, text: str) -> None:
        low, high = self._widest(node)
        if low <= 0.0 <= high:
            raise ConfigError(
                f"the formula {self._text!r} can divide by zero: {text} may be 0; divide by "
                f"something that cannot, such as ({text} + 1)"
            )


_NEXT = "use numbers, AUs such as AU12, + - * / min( , ) max( , ) and parentheses"


def _sum_of(one: _Node, two: _Node) -> _Node:
    def node(values: Values) -> Interval:
        a, b = one(values), two(values)
        return Interval(a.low + b.low, a.high + b.high)

    return node


def _product_of(one: _Node, two: _Node) -> _Node:
    def node(values: Values) -> Interval:
        corners = [a * b for a in one(values) for b in two(values)]
        return Interval(min(corners), max(corners))

    return node


def _quotient_of(one: _Node, two: _Node) -> _Node:
    def node(values: Values) -> Interval:
        corners = [a / b for a in one(values) for b in two(values)]
        return Interval(min(corners), max(corners))

    return node
