"""``python -m facestage.stream`` is the command ``facestage``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; Ctrl-C while it is being loaded is no traceback either."""
    try:
        from .cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # as shells say: ended by SIGINT


if __name__ == "__main__":
    main()
