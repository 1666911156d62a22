"""What goes into a window and what comes out: one record for each map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["MapInput", "WindowUpdate"]


class MapInput(NamedTuple):
    """One relevance map on its way into a window.

    Attributes:
        slot: the window.
        frame: its number; rises from map to map of a window.
        descriptor: ``(D,)`` real, see :mod:`facestage.core.relevance`. None or zero stands for a
            map without relevance, which holds the letter.
        relevance: ``(S, S)`` full-size map for the picture of the prototype, logit units.
        mass: sum of the positive relevance, logit units; 0 if unknown. Maps far weaker than usual
            begin no prototype, and less similarity is asked of weak ones.
        confident: whether the AU is clearly present rather than just not gone yet; where not, no
            prototype begins.
    """

    slot: int
    frame: int
    descriptor: NDArray[np.floating] | None
    relevance: NDArray[np.floating] | None = None
    mass: float = 0.0
    confident: bool = True


@dataclass(frozen=True, slots=True)
class WindowUpdate:
    """What one map told.

    Attributes:
        letter: letter the AU shows now; while a new prototype is not confirmed, the previous one.
        since: index of the frame at which the unbroken run of this letter began. It reaches back
            to the first map of a prototype that needed several maps to be confirmed, but never
            before the start of the letter it follows.
        born: letters given for the first time.
        retired: (letter, the older letter that stands for it now).
        forgotten: letters given up to make room, unseen for longest. They are not given again.
        drifted: letters whose prototype was found, for the first time, to have moved far from what
            it was when young, see :attr:`LetterTrack.drifted`.
    """

    letter: str
    since: int
    born: tuple[str, ...] = ()
    retired: tuple[tuple[str, str], ...] = ()
    forgotten: tuple[str, ...] = ()
    drifted: tuple[str, ...] = ()
