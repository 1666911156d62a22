"""What happened to the letters of one window."""

from __future__ import annotations

from collections.abc import Iterable

from .updates import WindowUpdate

__all__ = ["LetterBook"]


class LetterBook:
    """How often each letter was shown, which stands for which, and what is to be told next.

    Attributes:
        counts: letter → number of updates that showed it.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._aliases: dict[str, str] = {}
        self._known_drifted: set[str] = set()
        # What the update that is going on will tell.
        self._retired: tuple[tuple[str, str], ...] = ()
        self._forgotten: tuple[str, ...] = ()
        self._newly_drifted: tuple[str, ...] = ()

    def current(self, letter: str) -> str:
        """Return the letter that stands for a letter now."""
        while letter in self._aliases:
            letter = self._aliases[letter]
        return letter

    def retire(self, letter: str, into: str) -> None:
        """Note that an older letter stands for a letter from now on."""
        self._aliases[letter] = into
        self.counts[into] = self.counts.get(into, 0) + self.counts.pop(letter, 0)
        self._retired += ((letter, into),)

    def forget(self, letter: str) -> None:
        """Note that a letter was given up, and with it those that it stands for."""
        self.counts.pop(letter, None)
        self._aliases = {old: into for old, into in self._aliases.items() if into != letter}
        self._forgotten += (letter,)

    def note_drifted(self, letters: Iterable[str]) -> None:
        """Note letters that drifted. It is told once: a prototype may hover about the threshold."""
        new = tuple(letter for letter in letters if letter not in self._known_drifted)
        self._known_drifted.update(new)
        self._newly_drifted += new

    def close_update(self, letter: str, since: int, given_now: bool) -> WindowUpdate:
        """End an update that shows a letter, and tell what happened in it.

        Args:
            letter: shown now.
            since: frame at which its run began.
            given_now: whether it was given for the first time.
        """
        self.counts[letter] = self.counts.get(letter, 0) + 1
        update = WindowUpdate(
            letter,
            since,
            (letter,) if given_now else (),
            self._retired,
            self._forgotten,
            self._newly_drifted,
        )
        self._retired = self._forgotten = self._newly_drifted = ()
        return update
