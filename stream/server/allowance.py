"""What a socket may send, measured on the raw bytes before anything parses them.

Parsing is what a flood makes expensive: a ping of 6 bytes costs more than its size, in time for the
parser, and in an answer. So bytes and frames are counted first, by the frames' headers alone, and
parsing begins only if they are within the allowance. Nothing here does input or output.
"""

from __future__ import annotations

from dataclasses import dataclass

from .limits import MAX_FRAGMENTS, Allowance

__all__ = ["Excess", "FrameCounter", "Meter", "TokenBucket"]

_END_OF_REQUEST = b"\r\n\r\n"
# Frame header (RFC 6455 §5.2): FIN and opcode, MASK and length, length of 16 or 64 bits, mask.
_FIN = 0x80
_OPCODE = 0x0F
_MASKED = 0x80
_LENGTH = 0x7F
_LENGTH_16 = 126
_LENGTH_64 = 127
_MASK_BYTES = 4
_FIRST_CONTROL = 0x8

_POLICY = 1008
_TOO_BIG = 1009


@dataclass(frozen=True, slots=True)
class Excess:
    """What went over the allowance.

    Attributes:
        code: of the ``error`` message.
        close_code: of the websocket.
        message: what was too much, and what is allowed.
    """

    code: str
    close_code: int
    message: str


class TokenBucket:
    """A mean rate with room for bursts; it starts full.

    Args:
        rate: tokens that come per second.
        burst: tokens it holds.
        now: time, seconds, of any clock that only goes forward.
    """

    __slots__ = ("_burst", "_rate", "_then", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._then = now

    def take(self, amount: float, now: float) -> bool:
        """Take tokens, or none and return False where there are fewer.

        Args:
            amount: tokens.
            now: time, seconds.
        """
        self._fill(now)
        if amount > self._tokens:
            return False
        self._tokens -= amount
        return True

    def wait(self, amount: float, now: float) -> float:
        """Return how long it takes until there are so many tokens, seconds.

        Args:
            amount: tokens, no more than the burst.
            now: time, seconds.
        """
        self._fill(now)
        return max(0.0, amount - self._tokens) / self._rate

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._then) * self._rate)
        self._then = now


class FrameCounter:
    """Count websocket frames in a stream of bytes, by their headers.

    Attributes:
        fragments: frames so far of the message under way; 0 between messages.
    """

    __slots__ = ("_header", "_payload", "fragments")

    def __init__(self) -> None:
        self.fragments = 0
        self._header = b""  # begun, but not complete
        self._payload = 0  # bytes still to come of the frame under way

    def count(self, data: bytes, most: int) -> int:
        """Return the number of headers that end in ``data``.

        Counting stops, and must not go on, after more than ``most`` frames, or after more than
        :data:`MAX_FRAGMENTS` of one message.

        Args:
            data: what came next.
            most: frames that are of interest.
        """
        if self._header:
            data = self._header + data
            self._header = b""
        at, end, frames = self._payload, len(data), 0
        while at < end:
            size = _header_size(data, at)
            if at + size > end:
                self._header = data[at:]
                self._payload = 0
                return frames
            length = data[at + 1] & _LENGTH
            if length == _LENGTH_16:
                length = int.from_bytes(data[at + 2 : at + 4], "big")
            elif length == _LENGTH_64:
                length = int.from_bytes(data[at + 2 : at + 10], "big")
            frames += 1
            if data[at] & _OPCODE < _FIRST_CONTROL:
                self.fragments = 0 if data[at] & _FIN else self.fragments + 1
            if frames > most or self.fragments > MAX_FRAGMENTS:
                return frames
            at += size + length
        self._payload = at - end
        return frames


def _header_size(data: bytes, at: int) -> int:
    """Return the size of the header that begins at ``at``, bytes, as far as can be told."""
    if at + 1 == len(data):
        return 2
    second = data[at + 1]
    size = 2 + _MASK_BYTES if second & _MASKED else 2
    length = second & _LENGTH
    if length == _LENGTH_16:
        return size + 2
    return size + 8 if length == _LENGTH_64 else size


class Meter:
    """Judge what one socket sends: a request that ends in an empty line, then frames.

    Args:
        allowance: what it may send.
        now: time, seconds.
    """

    __slots__ = ("_allowance", "_bytes", "_counter", "_frames", "_request_end")

    def __init__(self, allowance: Allowance, now: float) -> None:
        self._counter = FrameCounter()
        self._request_end: bytes | None = b""  # what may begin the empty line; None: it has passed
        self.allow(allowance, now)

    def allow(self, allowance: Allowance, now: float) -> None:
        """Replace the allowance by another, of which nothing is used yet."""
        self._allowance = allowance
        self._bytes = TokenBucket(allowance.bytes_per_s, allowance.burst_bytes, now)
        self._frames = TokenBucket(allowance.frames_per_s, allowance.burst_frames, now)

    def excess(self, data: bytes, now: float) -> Excess | None:
        """Return what of ``data`` goes over the allowance; None: nothing, it may be parsed.

        Args:
            data: what came next.
            now: time, seconds.
        """
        allowance = self._allowance
        if not self._bytes.take(len(data), now):
            return Excess(
                "rate_limit",
                _POLICY,
                f"more than {allowance.burst_bytes:g} bytes at once or "
                f"{allowance.bytes_per_s:g} per second; send less",
            )
        if self._request_end is not None:
            data = self._after_request(data, self._request_end)
        frames = self._counter.count(data, allowance.burst_frames)
        if self._counter.fragments > MAX_FRAGMENTS:
            return Excess(
                "bad_message",
                _TOO_BIG,
                f"a message in more than {MAX_FRAGMENTS} fragments; send it in one",
            )
        if not self._frames.take(frames, now):
            return Excess(
                "rate_limit",
                _POLICY,
                f"more than {allowance.burst_frames} frames at once or "
                f"{allowance.frames_per_s:g} per second, pings included; send fewer",
            )
        return None

    def _after_request(self, data: bytes, before: bytes) -> bytes:
        data = before + data
        end = data.find(_END_OF_REQUEST)
        if end < 0:
            self._request_end = data[1 - len(_END_OF_REQUEST) :]
            return b""
        self._request_end = None
        return data[end + len(_END_OF_REQUEST) :]
