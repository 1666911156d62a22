"""The allowance of a socket, without a socket: the bucket, the count of frames and the verdict."""

from __future__ import annotations

import random

import pytest
from facestage.stream.server.allowance import FrameCounter, Meter, TokenBucket
from facestage.stream.server.limits import CLIENT, MAX_FRAGMENTS, STRANGER, Allowance
from websockets.frames import Frame, Opcode

REQUEST = b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
PING = Frame(Opcode.PING, b"").serialize(mask=True)
SMALL = Allowance(bytes_per_s=100, burst_bytes=1000, frames_per_s=2, burst_frames=4)


def fragment(opcode: Opcode, *, fin: bool, data: bytes = b"") -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def test_a_bucket_holds_a_burst_and_refills_at_its_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0, now=10.0)
    assert bucket.take(3, 10.0)
    assert not bucket.take(1, 10.0)
    assert not bucket.take(1, 10.4)
    assert bucket.take(1, 10.5)
    assert not bucket.take(1, 10.5)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0, now=0.0)
    assert not bucket.take(3.1, 1000.0)
    assert bucket.take(3, 1000.0)
    assert not bucket.take(0.1, 1000.0)


def test_what_is_refused_costs_nothing() -> None:
    bucket = TokenBucket(rate=1.0, burst=3.0, now=0.0)
    assert not bucket.take(100, 0.0)
    assert bucket.take(3, 0.0)


def test_a_bucket_gives_its_rate_in_the_long_run() -> None:
    bucket = TokenBucket(rate=7.0, burst=5.0, now=0.0)
    given = sum(bucket.take(1, tick / 100) for tick in range(10_001))  # 100 s
    assert given == pytest.approx(7 * 100 + 5, abs=1)


@pytest.mark.parametrize("seed", range(5))
def test_frames_are_counted_however_their_bytes_arrive(seed: int) -> None:
    chance = random.Random(seed)
    frames = [
        Frame(
            chance.choice([Opcode.TEXT, Opcode.PING] if size < 126 else [Opcode.BINARY]),
            chance.randbytes(size),
        ).serialize(mask=chance.random() < 0.9)
        for size in (0, 1, 125, 0, 126, 300, 0, 65535, 65536, 70_000, 2, 0)
    ]
    data = b"".join(frames)
    for largest in (1, 3, 1000, len(data)):
        counter, at, counted = FrameCounter(), 0, 0
        while at < len(data):
            step = chance.randint(1, largest)
            counted += counter.count(data[at : at + step], most=100)
            at += step
        assert counted == len(frames)
        assert counter.fragments == 0


def test_counting_stops_where_it_no_longer_matters() -> None:
    assert FrameCounter().count(PING * 100_000, most=4) == 5


def test_fragments_are_those_of_one_message_and_controls_between_them_do_not_count() -> None:
    counter = FrameCounter()
    counter.count(fragment(Opcode.TEXT, fin=False), most=100)
    counter.count(PING + fragment(Opcode.CONT, fin=False, data=b"abc") + PING, most=100)
    assert counter.fragments == 2
    counter.count(fragment(Opcode.CONT, fin=True), most=100)
    assert counter.fragments == 0


def test_frames_over_the_allowance_are_too_many_and_time_makes_room_again() -> None:
    meter = Meter(SMALL, now=0.0)
    assert meter.excess(REQUEST + PING * 4, 0.0) is None
    assert meter.excess(PING, 0.5) is None
    verdict = meter.excess(PING, 0.5)
    assert verdict is not None
    assert (verdict.code, verdict.close_code) == ("rate_limit", 1008)
    assert "frames" in verdict.message


def test_bytes_over_the_allowance_are_too_many_whatever_they_are() -> None:
    meter = Meter(SMALL, now=0.0)
    assert meter.excess(b"X" * 1000, 0.0) is None  # a request that does not end
    verdict = meter.excess(b"X" * 101, 1.0)
    assert verdict is not None
    assert (verdict.code, verdict.close_code) == ("rate_limit", 1008)
    assert "bytes" in verdict.message


@pytest.mark.parametrize("cut", range(1, len(REQUEST) + 6))
def test_frames_count_from_the_end_of_the_request(cut: int) -> None:
    meter = Meter(SMALL, now=0.0)
    data = REQUEST + PING * 4
    assert meter.excess(data[:cut], 0.0) is None
    assert meter.excess(data[cut:], 0.0) is None
    assert meter.excess(PING, 0.0) is not None


def test_a_message_of_too_many_fragments_is_too_big() -> None:
    meter = Meter(CLIENT, now=0.0)
    assert meter.excess(REQUEST + fragment(Opcode.TEXT, fin=False), 0.0) is None
    empty = fragment(Opcode.CONT, fin=False)
    for number in range(1, MAX_FRAGMENTS):
        assert meter.excess(empty, float(number)) is None
    verdict = meter.excess(empty, float(MAX_FRAGMENTS))
    assert verdict is not None
    assert (verdict.code, verdict.close_code) == ("bad_message", 1009)


def test_a_client_that_was_let_in_has_its_allowance_unused() -> None:
    meter = Meter(STRANGER, now=0.0)
    assert meter.excess(REQUEST + PING * STRANGER.burst_frames, 0.0) is None
    meter.allow(CLIENT, 0.0)
    assert meter.excess(PING * 100, 0.0) is None
    assert meter.excess(PING * 300, 0.0) is None
    assert meter.excess(PING, 0.0) is not None


def test_a_stranger_is_allowed_less_than_a_client() -> None:
    assert STRANGER.bytes_per_s < CLIENT.bytes_per_s
    assert STRANGER.burst_bytes < CLIENT.burst_bytes
    assert STRANGER.frames_per_s < CLIENT.frames_per_s
    assert STRANGER.burst_frames < CLIENT.burst_frames
