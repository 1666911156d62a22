"""Incremental SpRAy: sliding windows of relevance maps, their clusters, and letters that last.

Read :mod:`.bank` first (one update of all windows), then :mod:`.letters` (one update of one
window).

Glossary, in the order in which each comes from the one before:

- *map*: a relevance map of one AU in one frame; its *descriptor* is what is compared. An *outlier*
  is a map that resembles no prototype.
- *window*: the latest maps of one AU of one source, in a ring buffer (:mod:`.ring`). A window is
  known by its *slot* in the bank, a map by its *position* in the window. A *run* is a series of
  maps without a gap in time.
- *part*: maps that the graph of the window holds together (:mod:`.graph_bank`).
- *block*: maps of one part that carry one prototype (:mod:`.contingency`).
- *cluster*: parts, or blocks, merged because their mean maps agree.
- *prototype*: the identity of a cluster over time, and the mean of its maps (:mod:`.prototypes`).
  It is known by its *id*; the *label* of a map is the id of its prototype. :mod:`.matching` assigns
  labels (Kuhn–Munkres), :mod:`.novelty` detects clusters that begin a prototype. *Fit* is how
  similar the maps of a prototype are to it, *dispersion* how far the mean of a few consecutive
  maps strays from that.
- *letter*: the name of a prototype, given when it is first shown.
- *display*: the letter an AU shows now. :mod:`.change` detects when it changes (CUSUM).

*Noise* is how maps of one prototype differ (:mod:`.noise`). Lengths and cosines of means are
corrected for it.
"""

from __future__ import annotations

from .bank import WindowBank, check_window
from .updates import MapInput, WindowUpdate

__all__ = ["MapInput", "WindowBank", "WindowUpdate", "check_window"]
