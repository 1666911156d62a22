"""Every bound on what a client may send, hold and wait for, with its unit and its reason.

``docs/protocol.md`` has the same figures for those who write clients. What the server keeps for
replay is bounded in :mod:`facestage.stream.server.hub`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ACCEPT_BACKLOG",
    "ACCEPT_LOG_S",
    "AUTH_TIMEOUT_S",
    "CAMERA",
    "CLIENT",
    "CLOSE_GRACE_S",
    "GUESS_ADDRESSES",
    "GUESS_DELAY_MAX_S",
    "GUESS_DELAY_S",
    "GUESS_MEMORY_S",
    "HANDSHAKE_TIMEOUT_S",
    "HEARTBEAT_S",
    "HISTORY_BURST_BYTES",
    "HISTORY_BYTES_PER_S",
    "HISTORY_LEAST_BYTES",
    "HISTORY_TURN_BYTES",
    "MARKER_BURST",
    "MARKER_RATE",
    "MAX_CAMERA_BYTES",
    "MAX_CONNECTIONS",
    "MAX_FRAGMENTS",
    "MAX_HALF_OPEN",
    "MAX_HALF_OPEN_PER_ADDRESS",
    "MAX_MESSAGE_BYTES",
    "MAX_QUEUED_FRAMES",
    "MAX_STRANGERS",
    "MESSAGE_BURST",
    "MESSAGE_RATE",
    "MOST_CONNECTIONS",
    "PAST_MESSAGE_BYTES",
    "PING_INTERVAL_S",
    "PING_TIMEOUT_S",
    "REFUSAL_LOG_S",
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
MAX_CAMERA_BYTES = 2 * 1024 * 1024
"""Largest message of a page that gives pictures, bytes. Its JPEG of 1280 × 720 has 200 kB."""
CAMERA = Allowance(
    bytes_per_s=12 * 1024 * 1024, burst_bytes=6 * 1024 * 1024, frames_per_s=400, burst_frames=800
)
"""Allowance of such a page: 30 pictures per second of 400 kB. It waits for the answer to each, so
nothing piles up; what is bounded is the parser's work."""
MAX_FRAGMENTS = 128
"""Frames that one message may come in. Its bytes are bounded by :data:`MAX_MESSAGE_BYTES`, but an
empty fragment has none and costs memory all the same. 512 bytes per fragment is less than any
network's packet."""
MAX_MESSAGE_BYTES = 64 * 1024
"""Largest message a client may send, bytes, inflated. A ``subscribe`` has less than a thousand."""
MAX_QUEUED_FRAMES = 4
"""Frames read ahead of the task that handles them; at more the socket is not read."""
MESSAGE_RATE = 5.0
"""Messages a client may send per second, on average. Each wakes the server, which under load costs
milliseconds whatever it says; the page sends one in two seconds."""
MESSAGE_BURST = 40.0
"""Messages a client may send at once: a page that wakes up sends some heartbeats late."""

MARKER_RATE = 2.0
"""Markers that all clients together may set per second, on average: each is an event and takes the
room of an older one in the ring."""
MARKER_BURST = 60.0
"""Markers that all clients together may set at once."""

HISTORY_BYTES_PER_S = 1024 * 1024.0
"""What all clients together are told of the past per second, bytes before compression: snapshots,
prototypes alive, and events older than the subscription. Telling it takes a twentieth of a core.
What happens after the subscription is not counted and waits for none of it."""
HISTORY_BURST_BYTES = 4 * 1024 * 1024.0
"""What all clients together are told of the past at once, bytes: several pages that open with three
minutes each, or somebody who comes back after an hour."""
HISTORY_LEAST_BYTES = 1024
"""What a message of the past is charged at least, bytes: compressing and sending a small one costs
no less."""
HISTORY_TURN_BYTES = 32 * 1024
"""Portion that a client is told in one turn, bytes: about two milliseconds. Whoever has had least
of the past is next, so a newcomer does not wait for those who ask for all of it again and again."""

PAST_MESSAGE_BYTES = 256 * 1024
"""Pictures and masks in one message of frames of the past, bytes, about: a client waits no longer
for one than for a large picture."""

HANDSHAKE_TIMEOUT_S = 10.0
"""Time from the TCP connection to the end of the HTTP handshake, seconds; with TLS, as long again
for its handshake before."""
AUTH_TIMEOUT_S = 5.0
"""Time from the handshake to the token, seconds. The page sends it at once."""
GUESS_DELAY_S = 0.5
"""Time that passes after the first wrong token of an address before another one is answered,
seconds; each further wrong one doubles it."""
GUESS_DELAY_MAX_S = 4.0
"""Longest such time, seconds. The page takes a server that is silent for 6 s for lost, and the
right token has to wait as well. An address guesses at most :data:`MAX_STRANGERS` times in it."""
GUESS_MEMORY_S = 300.0
"""Time after which the wrong tokens of an address are forgotten, seconds."""
GUESS_ADDRESSES = 1024
"""Addresses whose wrong tokens are remembered, a few hundred bytes each; at more the one that was
refused longest ago is forgotten. Of IPv6 addresses the first 64 bits count."""
REFUSAL_LOG_S = 60.0
"""Refusals for want of the token are logged once in this time and address, with their number,
seconds."""
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
"""Open sockets, those not let in yet left out; a page uses two; ``--max-connections`` sets it."""
MOST_CONNECTIONS = 512
"""Most that it may be set to. Each needs a descriptor, may hold a megabyte that its client does not
take, and wakes the server with every message: beside a busy thread that costs milliseconds."""
MAX_STRANGERS = 16
"""Sockets that have not shown the token yet. One more pushes out the oldest of the address that has
most: those who know the token show it at once, so nobody can lock them out by holding sockets
open."""
MAX_HALF_OPEN = 64
"""Sockets that are not through the HTTP handshake. One more pushes out the oldest of the address
that has most."""
MAX_HALF_OPEN_PER_ADDRESS = 32
"""Those of one address; a browser opens about six at once. One more pushes out the oldest of them,
so an address alone leaves half of :data:`MAX_HALF_OPEN` to others."""
ACCEPT_BACKLOG = 32
"""Connections that wait for the server to take them, and that it takes at once. With the three
bounds above and :data:`MAX_CONNECTIONS` as it is, the server needs fewer than 150 descriptors; with
TLS half-open sockets take two each, so fewer than 220."""
ACCEPT_LOG_S = 10.0
"""Sockets that were pushed out, or could not be taken for want of descriptors, are logged once in
this time, with their number, seconds."""
SEND_BUFFER_BYTES = 128 * 1024
"""Kernel's send buffer of a socket (it doubles the figure), bytes. Without a bound the kernel grows
it to megabytes: memory, and seconds of old pictures on a slow line."""
