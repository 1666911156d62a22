"""``python -m facestage`` is the command ``facestage``."""

from facestage.stream.cli import main

main()
