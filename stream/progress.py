"""What a long command shows while it works, and how it is stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .console import err

__all__ = ["interruptible", "progress", "read_progress"]

_LINES = 20
"""Lines for the whole way where there is no terminal."""
_TEXT_EVERY = 10
"""Moves of the bar between two readings of its text."""

Update = Callable[[int, Callable[[], str]], None]
"""Called with what is done so far and how to say more; asked only when it is shown, because reading
a loss makes a GPU wait."""


@contextmanager
def progress(name: str, total: int) -> Iterator[Update]:
    """Show progress on standard error: a bar on a terminal, else a line every twentieth.

    Args:
        name: of the work.
        total: what there is to do.
    """
    if not err.is_terminal:
        shown = 0

        def print_line(done: int, text: Callable[[], str]) -> None:
            nonlocal shown
            if (part := done * _LINES // max(1, total)) > shown:
                shown = part
                err.print(f"{name}: {done} of {total}  {text()}".rstrip(), markup=False)

        yield print_line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(name, total=total, text="")
        moves = 0

        def move_bar(done: int, text: Callable[[], str]) -> None:
            nonlocal moves
            if moves % _TEXT_EVERY == 0:
                bar.update(task, text=text())
            moves += 1
            bar.update(task, completed=done)

        yield move_bar


@contextmanager
def read_progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show on a terminal how far a source was read; its length may be unknown."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Give a question to ask between steps: was Ctrl-C pressed, or SIGTERM sent?

    After that Ctrl-C ends the work at once. SIGTERM does not, however often it comes: whoever
    supervises a process may send it to the group and to the process, and means one request.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # only the main thread may handle signals
        return

    def note(_number: int, _frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
