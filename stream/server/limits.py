"""Every bound on what a client may send, hold and wait for, with its unit and its reason.

``docs/protocol.md`` has the same figures for those who write clients. What the server keeps for
replay is bounded in :mod:`facestage.stream.server.hub`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "AUTH_TIMEOUT_S",
    "CLIENT",
    "CLOSE_GRACE_S",
    "HANDSHAKE_TIMEOUT_S",
    "HEARTBEAT_S",
    "MAX_CONNECTIONS",
    "MAX_FRAGMENTS",
    "MAX_MESSAGE_BYTES",
    "MAX_QUEUED_FRAMES",
    "MAX_STRANGERS",
    "MESSAGE_BURST",
    "MESSAGE_RATE",
    "PING_INTERVAL_S",
    "PING_TIMEOUT_S",
    "SEND_BUFFER_BYTES",
    "SEND_TIMEOUT_S",
    "SILENCE_S",
    "STRANGER",
    "Allowance",
]


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one socket may send, whatever it contains; see :mod:`.allowance`.

    Attributes:
        bytes_per_s: bytes per second, on average.
        burst_bytes: bytes at once.
        frames_per_s: websocket frames per second, on average. Pings, pongs and fragments count.
        burst_frames: websocket frames at once.
    """

    bytes_per_s: float
    burst_bytes: float
    frames_per_s: float
    burst_frames: int


STRANGER = Allowance(bytes_per_s=4 * 1024, burst_bytes=32 * 1024, frames_per_s=5, burst_frames=20)
"""Allowance of a socket during the HTTP handshake and until it has shown the token. It needs one
request, whose cookies may be long, one ``auth`` and the answer to a ping. Parsing all of it takes
less than a millisecond."""
CLIENT = Allowance(
    bytes_per_s=128 * 1024, burst_bytes=512 * 1024, frames_per_s=100, burst_frames=400
)
"""Allowance of a client that was let in. The page sends one frame in two seconds. The burst holds
several of the largest messages, and what piled up while a line was down. Parsing all of it takes a
few milliseconds."""
MAX_FRAGMENTS = 128
"""Frames that one message may come in. Its bytes are bounded by :data:`MAX_MESSAGE_BYTES`, but an
empty fragment has none and costs memory all the same. 512 bytes per fragment is less than any
network's packet."""
MAX_MESSAGE_BYTES = 64 * 1024
"""Largest message a client may send, bytes, inflated. A ``subscribe`` has less than a thousand."""
MAX_QUEUED_FRAMES = 4
"""Frames read ahead of the task that handles them; at more the socket is not read."""
MESSAGE_RATE = 20.0
"""Messages a client may send per second, on average; each is decoded and may be answered."""
MESSAGE_BURST = 40.0
"""Messages a client may send at once: a page that wakes up sends some heartbeats late."""

HANDSHAKE_TIMEOUT_S = 10.0
"""Time from the TCP connection to the end of the HTTP handshake, seconds; TLS on a bad line is
slow."""
AUTH_TIMEOUT_S = 5.0
"""Time from the handshake to the token, seconds. The page sends it at once."""
CLOSE_GRACE_S = 0.5
"""Time to take the reason of a cut before the socket is dropped, seconds: a few round trips."""
SEND_TIMEOUT_S = 2.0
"""Longest time a client may take for one message before it is cut off, seconds. A message older
than that is no use to anybody."""
SILENCE_S = 10.0
"""Longest silence of a client that has answered heartbeats before it is closed, seconds: five
heartbeats."""
HEARTBEAT_S = 2.0
"""Interval of the server's heartbeat, seconds: how soon a page can tell that the server is gone."""
PING_INTERVAL_S = 10.0
"""Interval of the server's websocket pings, seconds; they find dead lines of clients that send no
heartbeat."""
PING_TIMEOUT_S = 10.0
"""Longest time for the answer to a ping before the connection is closed, seconds."""

MAX_CONNECTIONS = 32
"""Open sockets, those not let in yet left out; a page uses two."""
MAX_STRANGERS = 16
"""Sockets that have not shown the token yet. One more pushes out the oldest: those who know the
token show it at once, so nobody can lock them out by holding sockets open."""
SEND_BUFFER_BYTES = 128 * 1024
"""Kernel's send buffer of a socket (it doubles the figure), bytes. Without a bound the kernel grows
it to megabytes: memory, and seconds of old pictures on a slow line."""
