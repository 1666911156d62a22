"""What every command that serves a page does alike."""

from __future__ import annotations

import signal

__all__ = ["ending_signals"]


def ending_signals() -> list[signal.Signals]:
    """Return the signals that end a run in good order.

    A terminal that closes sends SIGHUP, unless ``nohup`` said that it means nothing.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    return numbers
