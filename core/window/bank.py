"""SpRAy on sliding windows: all Action Units of all sources in one set of arrays.

A new relevance map replaces the oldest of its window. Its cosines with the window are one product;
the graph changes in a few rows; the leading eigenvectors are carried along instead of computed
anew (:mod:`facestage.core.clustering.subspace`); k-means starts from the last labels; clusters
whose clean mean maps agree are merged; and the letters follow
(:mod:`facestage.core.window.letters`). Most maps clearly show the letter already on display; for
them the graph waits and catches up later in one go. The windows that need a step take it together,
on the CPU (NumPy) or a GPU (CuPy).

References:
    Lapuschkin et al., "Unmasking Clever Hans predictors", Nature Communications 10, 2019 (SpRAy).
    Ng, Jordan & Weiss, "On spectral clustering", NeurIPS 2001 (rows of the embedding normalised).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..backend import from_torch, is_numpy, namespace, to_numpy
from ..clustering.graph import NO_MAP, flat_rows
from ..clustering.kmeans import cluster_rows
from ..clustering.similarity import normalise_valid, profile_noise, ring_profile
from ..clustering.spectral import linkage
from ..config import WindowConfig
from ..errors import ConfigError
from .graph_bank import GraphBank, rows_of
from .letters import UNDECIDED, LetterTrack, WindowUpdate

if TYPE_CHECKING:
    import torch

__all__ = ["WindowBank", "WindowUpdate", "check_window"]

IntArray = NDArray[np.int64]

EARLY_REFRESH = (8, 12, 20, 24)
"""Numbers of maps at which the noise model is refreshed besides every ``refresh`` maps."""
START_SLOTS = 4
"""Windows there is room for at first; the arrays double when more are opened."""


def check_window(config: WindowConfig) -> None:
    """Refuse bounds that contradict each other.

    Raises:
        ConfigError: what cannot work, and what to change.
    """
    if not 4 <= config.min_cluster <= config.min_new <= config.size:
        raise ConfigError(
            "a window needs 4 <= min_cluster <= min_new <= size, got "
            f"{config.min_cluster}, {config.min_new}, {config.size}; enlarge the window (128 maps "
            "is the default)"
        )
    if not config.max_clusters < config.block <= config.linkage_below:
        raise ConfigError(
            "a window needs max_clusters < block <= linkage_below, got "
            f"{config.max_clusters}, {config.block}, {config.linkage_below}; choose another block"
        )


class WindowBank:
    """Sliding windows and their letters, for any number of (source, AU) pairs.

    A window is known by its slot. The same maps give the same letters however the windows are
    grouped into calls, and the whole bank can be pickled.

    Args:
        config: thresholds and bounds.
        dimension: length of a descriptor.
        device: ``cpu`` or ``cuda[:N]``, where the arrays live.

    Raises:
        ConfigError: the bounds contradict each other.
        DeviceError: the device cannot be used.
    """

    def __init__(
        self, config: WindowConfig | None = None, dimension: int = 256, device: str = "cpu"
    ) -> None:
        self.config = config = config if config is not None else WindowConfig()
        check_window(config)
        self.dimension = dimension
        self.device = device
        self._xp = namespace(device)
        self.reset()

    def reset(self) -> None:
        """Close all windows and forget everything, as if new."""
        self._tracks: list[LetterTrack | None] = []
        self._allocate(START_SLOTS)

    def _allocate(self, slots: int) -> None:
        xp, size = self._xp, self.config.size
        self._x: NDArray[np.float32] = np.zeros((slots, size, self.dimension), np.float32)
        # On a GPU the descriptors are there, too; letters are decided here, from the same rows.
        self._x_there = self._x if is_numpy(xp) else xp.zeros(self._x.shape, xp.float32)
        self._gram = xp.full((slots, size, size), NO_MAP, xp.float32)
        self._graphs = GraphBank(self.config, slots, xp)
        self._parts: IntArray = np.zeros((slots, size), np.int64)
        self._n_parts = [1] * slots
        # Places whose maps the graph has not seen yet.
        self._pending: list[list[int]] = [[] for _ in range(slots)]

    def __getstate__(self) -> dict[str, Any]:
        state = {key: to_numpy(v) if _is_array(v) else v for key, v in self.__dict__.items()}
        del state["_xp"], state["_x_there"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._xp = xp = namespace(self.device)
        self._gram = xp.asarray(self._gram)
        self._graphs.place(xp)
        self._x_there = self._x if is_numpy(xp) else xp.asarray(self._x)

    @property
    def module(self) -> ModuleType:
        """NumPy or CuPy, which the arrays belong to."""
        return self._xp

    # ---- windows

    def __len__(self) -> int:
        """Number of open windows."""
        return sum(track is not None for track in self._tracks)

    def open(self) -> int:
        """Open a window and return its slot."""
        track = LetterTrack(self.config, self.dimension)
        for slot, held in enumerate(self._tracks):
            if held is None:
                self._tracks[slot] = track
                self._clear(slot)
                return slot
        self._tracks.append(track)
        if len(self._tracks) > len(self._x):
            self._grow(2 * len(self._x))
        return len(self._tracks) - 1

    def close(self, slot: int) -> None:
        """Give a window back.

        Raises:
            ConfigError: there is no such window.
        """
        self.track(slot)
        self._tracks[slot] = None

    def track(self, slot: int) -> LetterTrack:
        """Return letters, prototypes and counters of a window (read, do not update).

        Raises:
            ConfigError: there is no such window.
        """
        track = self._tracks[slot] if 0 <= slot < len(self._tracks) else None
        if track is None:
            raise ConfigError(f"no window has slot {slot}; open() one first")
        return track

    def gap(self, slot: int) -> None:
        """Note that a window's AU was off or its face lost, see :meth:`LetterTrack.gap`."""
        self.track(slot).gap()

    def _clear(self, slot: int) -> None:
        self._x[slot] = 0
        if self._x_there is not self._x:
            self._x_there[slot] = 0
        self._gram[slot] = NO_MAP
        self._graphs.clear(slot)
        self._n_parts[slot], self._parts[slot] = 1, 0
        self._pending[slot] = []

    def _grow(self, slots: int) -> None:
        names = ["_x", "_gram", "_parts", "_n_parts", "_pending"]
        if self._x_there is not self._x:
            names.append("_x_there")
        old, graphs = {name: getattr(self, name) for name in names}, self._graphs
        self._allocate(slots)
        self._graphs.copy(graphs)
        for name in names:
            getattr(self, name)[: len(old[name])] = old[name]

    # ---- update

    def update(
        self,
        slots: Sequence[int],
        indices: Sequence[int],
        descriptors: Sequence[NDArray[np.floating] | None] | NDArray[np.floating],
        maps: Sequence[NDArray[np.floating] | None] | None = None,
        *,
        masses: Sequence[float] | None = None,
        sure: Sequence[bool] | None = None,
        there: torch.Tensor | None = None,
    ) -> list[WindowUpdate]:
        """Take in one map for each of several windows.

        Args:
            slots: windows, each at most once.
            indices: number of the frame of each map; rises from call to call.
            descriptors: ``(D,)`` real each, see :mod:`facestage.core.relevance`. None or zero
                stands for a map without relevance, which holds the letter; a descriptor with NaN
                or infinity is refused, counted (``track(slot).refused``) and holds it, too.
            maps: full-size maps for the pictures of the prototypes, ``(S, S)``, logit units.
            masses: sum of the positive relevance of each map, logit units; maps far weaker than
                usual begin no new pattern, and less likeness is asked of weak ones.
            sure: whether each AU is clearly present rather than just not gone yet; where not, no
                new pattern begins.
            there: the descriptors ``(n, D)`` as they are on the GPU, for windows that are there,
                too: unit length, zeros for a map without one. They are not sent again then.

        Returns:
            One update each, in the same order.

        Raises:
            ConfigError: there is no such window, or it is named twice.
            ValueError: a descriptor has another length, an index does not rise, or a full-size map
                has another shape or is not finite. Nothing has changed then.
        """
        n = len(slots)
        tracks = [self.track(slot) for slot in slots]
        if n > 1 and len(set(slots)) < n:
            raise ConfigError("a window takes one map per call; call update() again for the next")
        rows, given = self._checked(descriptors, n)
        full = [None] * n if maps is None else maps
        for track, index, relevance in zip(tracks, indices, full, strict=True):
            track.check(index, relevance)
        x, finite, valid = normalise_valid(rows)
        at = [i for i in range(n) if given[i] and valid[i]]
        for i in range(n):
            tracks[i].begin(indices[i], full[i])
            if given[i] and valid[i]:
                tracks[i].insert(
                    self._x[slots[i]],
                    indices[i],
                    x[i],
                    full[i],
                    0.0 if masses is None else float(masses[i]),
                    True if sure is None else bool(sure[i]),
                )
            elif given[i] and not finite[i]:
                tracks[i].refused += 1
        if at:
            self._insert(slots, tracks, x, at, there)
            due = [i for i in at if tracks[i].due()]
            if due:
                self._cluster([slots[i] for i in due], [tracks[i] for i in due])
            for i in at:
                self._settle(slots[i], tracks[i])
        return [track.finish(relevance) for track, relevance in zip(tracks, full, strict=True)]

    def _checked(
        self, descriptors: Sequence[NDArray[np.floating] | None] | NDArray[np.floating], n: int
    ) -> tuple[NDArray[np.floating], list[bool]]:
        """Return the descriptors as one array and which of them were given."""
        if len(descriptors) != n:
            raise ValueError(f"{n} windows were named but {len(descriptors)} descriptors handed")
        if isinstance(descriptors, np.ndarray) and descriptors.shape[1:] == (self.dimension,):
            return descriptors, [True] * n
        for row in descriptors:
            if row is not None and np.shape(row) != (self.dimension,):
                raise ValueError(
                    f"a descriptor of shape {np.shape(row)} does not fit windows of "
                    f"({self.dimension},); hand over one flattened map, always pooled to the same "
                    "side"
                )
        given = [row is not None for row in descriptors]
        rows = np.zeros((n, self.dimension))
        for i, row in enumerate(descriptors):
            if row is not None:
                rows[i] = row
        return rows, given

    def _insert(
        self,
        slots: Sequence[int],
        tracks: Sequence[LetterTrack],
        x: NDArray[np.float32],
        at: list[int],
        given: torch.Tensor | None,
    ) -> None:
        """Put the maps into the arrays, with their cosines."""
        places = [tracks[i].ring.place for i in at]
        used = [slots[i] for i in at]
        held = [len(tracks[i]) for i in at]
        there = self._x if self._x_there is self._x else self._x_there
        if given is None or is_numpy(self._xp):
            new = self._xp.asarray(x if len(at) == len(x) else x[at])
        else:
            new = from_torch(given, self._xp)
            new = new if len(at) == len(x) else new[self._xp.asarray(at)]
        for slot, place in zip(used, places, strict=True):
            self._pending[slot].append(place)
        if len(at) == 1:
            self._insert_one(used[0], places[0], held[0], there, new[0])
            return
        there[used, places] = new
        row = (there[rows_of(used)] @ new[:, :, None])[:, :, 0]
        # All rows at once: on a GPU every assignment is a launch.
        if min(held) < self.config.size:
            empty = self._xp.arange(self.config.size) >= self._xp.asarray(held)[:, None]
            row[empty] = NO_MAP
        row[self._xp.arange(len(at)), self._xp.asarray(places)] = NO_MAP
        self._gram[used, places] = row
        self._gram[used, :, places] = row

    def _insert_one(self, slot: int, place: int, held: int, there: Any, new: Any) -> None:
        """Put one map in: the same with slices, which are several times faster than lists."""
        there[slot, place] = new
        row = there[slot] @ new
        row[held:] = NO_MAP
        row[place] = NO_MAP
        self._gram[slot, place] = row
        self._gram[slot, :, place] = row

    def _settle(self, slot: int, track: LetterTrack) -> None:
        """Finish a map: noise model and agreement of patterns when due, then the letter."""
        due = track.ring.seen % self.config.refresh == 0
        if due or track.ring.seen in EARLY_REFRESH:
            order = track.ring.order()
            profile = ring_profile(
                self._gram[slot], order, track.ring.groups(order), self.config.longest_lag
            )
            track.learn_noise(profile_noise(profile, min(self.config.far_lag, len(order) // 3)))
        track.settle(self._x[slot], tidy=due)

    # ---- clustering

    def _cluster(self, slots: list[int], tracks: Sequence[LetterTrack]) -> None:
        """Cluster windows and let their tracks name the clusters."""
        large = [a for a, t in enumerate(tracks) if len(t) >= self.config.linkage_below]
        for a, track in enumerate(tracks):
            if len(track) < self.config.linkage_below:
                m = len(track)
                cosines = to_numpy(self._gram[slots[a], :m, :m]).astype(np.float64)
                np.fill_diagonal(cosines, 1.0)
                found = linkage(cosines, track.noise.model, self.config.linkage_cosine)
                track.name_clusters(found, self._x[slots[a]])
        if large:
            if len(large) < len(slots):
                slots, tracks = [slots[a] for a in large], [tracks[a] for a in large]
            self._cluster_graphs(slots, tracks)

    def _cluster_graphs(self, slots: list[int], tracks: Sequence[LetterTrack]) -> None:
        """Cluster windows that are large enough for a graph."""
        most, level = self.config.max_clusters, 1.0 - self.config.tau
        counts = [len(track) for track in tracks]
        before = [self._n_parts[slot] for slot in slots]
        places = self._take_pending(slots)
        where = self._xp.asarray(places)
        graph, vectors, values = self._graphs.advance(
            slots, self._gram[rows_of(slots)], where, counts, before
        )
        k = [max(sum([v > level for v in line[:most]]), 1) for line in values.tolist()]
        weights, anew = None, []
        for a, track in enumerate(tracks):
            if k[a] != before[a] or not track.may_carry():
                anew.append(a)
                continue
            if weights is None:
                rows = graph.reshape(-1, graph.shape[2])[flat_rows(where, graph.shape[2])]
                weights = to_numpy(rows).reshape(*places.shape, -1)
            self._carry(slots[a], track, places[a], weights[a])
        if anew:
            self._partition(slots, tracks, vectors, k, counts, places, anew)

    def _carry(
        self, slot: int, track: LetterTrack, places: IntArray, weights: NDArray[np.float32]
    ) -> None:
        """Let new maps join the part of most of their neighbours ``(c, W)``.

        That is what k-means in the eigenvectors would say, most of the time, and it is done
        properly every few maps.
        """
        parts, new = self._parts[slot], places.tolist()
        if len(new) > 1:  # no map is its own neighbour
            weights[:, new] = 0.0
        for place, weight in zip(new, weights, strict=True):
            parts[place] = np.bincount(parts, weight).argmax()
        track.carry(parts, new, self._x[slot])

    def _partition(
        self,
        slots: Sequence[int],
        tracks: Sequence[LetterTrack],
        vectors: Any,
        k: list[int],
        counts: list[int],
        places: IntArray,
        anew: list[int],
    ) -> None:
        """Cut the graphs of the windows ``anew`` into parts, and name the clusters."""
        size = self.config.size
        several = [a for a in anew if k[a] > 1]
        if several:
            used = [slots[a] for a in several]
            before, held = self._parts[used], [counts[a] for a in several]
            for i, a in enumerate(several):
                before[i, places[a]] = before[i, held[i] :] = UNDECIDED
            parts = cluster_rows(
                vectors if len(several) == len(vectors) else vectors[several],
                [k[a] for a in several],
                before,
                [k[a] != self._n_parts[slots[a]] for a in several],
                None if min(held) == size else np.array(held),
            )
            self._parts[used] = parts
        for a in anew:
            parts = self._parts[slots[a]]
            if k[a] == 1:
                parts[:] = 0
            self._n_parts[slots[a]] = k[a]
            tracks[a].name_parts(parts[: counts[a]], self._x[slots[a]])

    def _take_pending(self, slots: Sequence[int]) -> IntArray:
        """Return the places whose maps are new to the graph ``(s, c)``, some of them repeated."""
        pending = [self._pending[slot] for slot in slots]
        most = max(map(len, pending))
        places = np.array([p + p[-1:] * (most - len(p)) for p in pending])
        for slot in slots:
            self._pending[slot] = []
        return places


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")
