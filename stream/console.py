"""Where the command line writes: results to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, NoReturn

from rich.console import Console

__all__ = ["err", "out", "tell_warnings"]


class _Output(Console):
    """Standard output; a reader that has gone ends the run as :class:`BrokenPipeError`."""

    def on_broken_pipe(self) -> NoReturn:
        # Rich raises SystemExit here, which asyncio lets through before anything is closed.
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise BrokenPipeError


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
