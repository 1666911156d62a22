"""``facestage replay``: a recorded session through the same hub, page and socket as live."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time

from ...core.errors import ConfigError
from ..console import err, out
from ..recording.player import Player
from ..recording.reader import Session, open_session
from ..server.server import Server
from .credentials import certificate_notes, read_certificate, read_token, visible_secrets
from .serving import ending_signals
from .signatures import ReplayOptions

__all__ = ["clock_text", "run_replay"]

_TIME = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d+)?)")
_MOST_SPEED = 100.0


def run_replay(options: ReplayOptions) -> None:
    """Serve a session until a signal comes, or until its end with ``--once``.

    Raises:
        FacestageError: an option, the session or the port cannot be used.
    """
    speed = _speed(options.speed)
    token = read_token(options.token, options.token_file)
    certificate = read_certificate(options.cert, options.key)
    session = open_session(options.session)
    player = Player(
        session, speed=speed, start_s=_start(options.start, session), playing=not options.paused
    )
    server = Server(
        player.hub,
        hello=player.hello,
        host=options.host,
        port=options.port,
        token=token,
        certificate=certificate,
        max_connections=options.max_connections,
        command=player.command,
    )
    notes = [*session.notes, *visible_secrets(token, ())]
    notes += certificate_notes(certificate, time.time())
    asyncio.run(_serve(session, player, server, notes, options))


async def _serve(
    session: Session, player: Player, server: Server, notes: list[str], options: ReplayOptions
) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ending_signals():
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, done.set)
    async with server:
        thread = threading.Thread(target=player.run, name="player", daemon=True)
        address = server.url if options.print_token else server.address
        _print_head(session, address, notes)
        thread.start()
        try:
            if options.once:
                await _either(done, player)
            else:
                await done.wait()
        finally:
            player.stop()
            await asyncio.to_thread(thread.join)


async def _either(done: asyncio.Event, player: Player) -> None:
    """Wait for a signal, or for the end of the session."""
    while not done.is_set() and not player.ended.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await done.wait()


def _print_head(session: Session, address: str, notes: list[str]) -> None:
    hello = session.head.hello
    out.print(f"facestage {hello.server}: research software, not a medical device")
    out.print(f"page     {address}", markup=False)
    for note in notes:
        err.print(f"note     {note}", markup=False)
    streams = ", ".join(stream.id for stream in hello.streams)
    length = clock_text(session.duration_s)
    out.print(
        f"session  {session.head.name}, {length} from {session.head.began}, {streams}", markup=False
    )
    out.print(
        f"made by  model {hello.model}, detector {hello.detector}, LRP {hello.lrp_preset}",
        markup=False,
    )


def _speed(text: str) -> float | None:
    """Return the speed asked for; None is as fast as can be sent.

    Raises:
        ConfigError: it is none.
    """
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= _MOST_SPEED:
        raise ConfigError(f"--speed {text} is no speed; use a number up to {_MOST_SPEED:g}, or max")
    return speed


def _start(text: str, session: Session) -> float:
    """Return where to begin, seconds.

    Raises:
        ConfigError: it is no time, or lies beyond the end.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"--from {text!r} is no time; write seconds, or as 00:01:20")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    start = 3600 * hours + 60 * minutes + seconds
    if start > session.duration_s:
        raise ConfigError(
            f"--from {text} lies beyond the end of the session; it is "
            f"{clock_text(session.duration_s)} long"
        )
    return start


def clock_text(seconds: float) -> str:
    """Return a time as ``HH:MM:SS``.

    >>> clock_text(3725.9)
    '01:02:05'
    """
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
