"""What is remembered of those without the token, without a server: guesses, sockets, tallies."""

from __future__ import annotations

import pytest
from facestage.stream.server import limits
from facestage.stream.server.limits import (
    GUESS_ADDRESSES,
    GUESS_DELAY_MAX_S,
    GUESS_DELAY_S,
    GUESS_MEMORY_S,
    MAX_HALF_OPEN,
    MAX_HALF_OPEN_PER_ADDRESS,
    REFUSAL_LOG_S,
)
from facestage.stream.server.strangers import Guesses, Lobby, Tally, address_of


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (None, "?"),
        (("192.0.2.7", 4000), "192.0.2.7"),
        (("::ffff:192.0.2.7", 4000, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 4000, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::1", 4000, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 4000, 0, 2), "fe80::/64"),
        (("a pipe", 0), "a pipe"),
    ],
)
def test_an_address_stands_for_all_that_its_owner_has(peer: object, address: str) -> None:
    assert address_of(peer) == address


def test_a_tally_reports_at_once_and_then_once_per_interval() -> None:
    tally = Tally(60.0)
    assert [tally.add(now) for now in (5.0, 6.0, 64.9, 65.0, 66.0)] == [1, 0, 0, 3, 0]
    assert tally.take(124.9) == 0
    assert tally.take(125.0) == 1
    assert tally.take(300.0) == 0


def test_the_wait_doubles_with_each_wrong_token_up_to_its_bound() -> None:
    guesses, now, waits = Guesses(), 100.0, []
    for _ in range(100):
        waits.append(guesses.delay("a", now))
        guesses.wrong("a", now)
        now += guesses.delay("a", now)
        assert guesses.delay("a", now) == 0
    guesses.wrong("a", now)
    assert waits == [0.0] * 100  # who waits in between need not wait again
    assert guesses.delay("a", now) == GUESS_DELAY_MAX_S

    doubling = Guesses()
    for expected in (1, 2, 4, 8, 8):
        doubling.wrong("a", 0.0)
        wait = min(GUESS_DELAY_S * expected, GUESS_DELAY_MAX_S)
        assert doubling.delay("a", 0.0) == pytest.approx(wait)
    assert doubling.delay("b", 0.0) == 0  # it is not the same who pays


def test_wrong_tokens_are_forgotten_after_a_time() -> None:
    guesses = Guesses()
    for _ in range(10):
        guesses.wrong("a", 0.0)
    guesses.wrong("a", GUESS_MEMORY_S + 1)
    assert guesses.delay("a", GUESS_MEMORY_S + 1) == pytest.approx(GUESS_DELAY_S)
    guesses.reports(2 * GUESS_MEMORY_S + 2)
    assert len(guesses) == 0


def test_the_table_of_addresses_is_bounded_and_forgets_the_oldest() -> None:
    guesses = Guesses()
    for number in range(3 * GUESS_ADDRESSES):
        guesses.wrong("steady", float(number) / 1000)
        guesses.wrong(f"address {number}", float(number) / 1000)
    assert len(guesses) == GUESS_ADDRESSES
    assert guesses.delay("steady", 3.0) > 0
    assert guesses.delay("address 0", 0.0) == 0


def test_refusals_are_counted_per_address_and_the_rest_is_reported_later() -> None:
    guesses = Guesses()
    assert [guesses.refused("a", now / 100) for now in range(142)] == [1] + [0] * 141
    assert guesses.refused("b", 1.0) == 1
    assert guesses.reports(REFUSAL_LOG_S - 1) == []
    assert guesses.reports(REFUSAL_LOG_S + 1) == [("a", 141)]
    assert guesses.reports(10 * REFUSAL_LOG_S) == []


def test_an_address_with_too_many_sockets_loses_its_own_oldest() -> None:
    lobby: Lobby[int] = Lobby()
    assert lobby.enter(-1, "good") is None
    gone = [lobby.enter(number, "bad") for number in range(MAX_HALF_OPEN_PER_ADDRESS + 3)]
    assert gone == [None] * MAX_HALF_OPEN_PER_ADDRESS + [0, 1, 2]
    assert len(lobby) == MAX_HALF_OPEN_PER_ADDRESS + 1


def test_too_many_sockets_in_all_cost_the_address_that_has_most() -> None:
    lobby: Lobby[int] = Lobby()
    assert lobby.enter(-1, "good") is None
    for number in range(MAX_HALF_OPEN - 3):
        assert lobby.enter(number, f"bad {number % 4}") is None
    assert lobby.enter(1000, "another") is None
    assert lobby.enter(1001, "another") is None
    assert lobby.enter(1002, "a third") == 0
    assert len(lobby) == MAX_HALF_OPEN
    lobby.leave(-1, "good")
    lobby.leave(-1, "good")
    lobby.leave(0, "bad 0")
    assert len(lobby) == MAX_HALF_OPEN - 1


def test_the_bounds_fit_together() -> None:
    # The page waits 6 s for a sign of life, and the answer has to come within it.
    assert GUESS_DELAY_S < GUESS_DELAY_MAX_S < 6
    assert MAX_HALF_OPEN_PER_ADDRESS <= MAX_HALF_OPEN / 2
    sockets = limits.MAX_HALF_OPEN + limits.MAX_STRANGERS + limits.MAX_CONNECTIONS
    assert sockets + limits.ACCEPT_BACKLOG < 150
