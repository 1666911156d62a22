"""Where the command line writes: results to standard output, everything else to standard error."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from typing import Any, NoReturn

from rich.console import Console

__all__ = ["err", "is_output_error", "out", "silence", "tell_warnings"]


_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class _Output(Console):
    """Standard output; a reader that has gone ends the run as :class:`BrokenPipeError`."""

    def on_broken_pipe(self) -> NoReturn:
        # Rich raises SystemExit here, which asyncio lets through before anything is closed.
        self.quiet = True
        silence()
        raise BrokenPipeError


def silence() -> None:
    """Send what is still to be written to standard output nowhere: it cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_output_error(error: OSError) -> bool:
    """Return whether an error is that of a full disk, or a broken one, below standard output.

    Errors of files have their name; those of our own files are told as errors of ours.
    """
    return error.filename is None and error.errno in _UNWRITABLE


out = _Output(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def tell_warnings(kind: type[Warning]) -> None:
    """Print warnings of one kind as errors are printed: a line, without the code that gave them."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
        if issubclass(category, kind):
            err.print(f"facestage: {message}", markup=False)
        else:
            shown(message, category, *where, **options)

    warnings.showwarning = show
