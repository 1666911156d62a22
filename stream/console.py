"""Where the command line writes: results to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from rich.console import Console

__all__ = ["err", "out"]


class _Output(Console):
    """Standard output; a reader that has gone ends the run as :class:`BrokenPipeError`."""

    def on_broken_pipe(self) -> NoReturn:
        # Rich raises SystemExit here, which asyncio lets through before anything is closed.
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise BrokenPipeError


out = _Output(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
