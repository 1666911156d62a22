"""``python -m facestage`` is the command ``facestage``."""

from facestage.stream.__main__ import main

main()
