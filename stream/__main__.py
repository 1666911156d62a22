"""``python -m facestage.stream`` is the command ``facestage``."""

from .cli import main

main()
