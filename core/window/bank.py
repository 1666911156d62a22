"""SpRAy on sliding windows: all Action Units of all sources in one set of arrays.

A new relevance map replaces the oldest of its window. Its cosines with the window are one product;
the graph changes in a few rows; the leading eigenvectors are carried along instead of computed
anew (:mod:`facestage.core.clustering.subspace`); k-means starts from the last parts; parts whose
noise-corrected mean maps agree are merged to clusters; and the letters follow
(:mod:`facestage.core.window.letters`). Most maps clearly show the letter already on display; for
them the graph waits and catches up later in one go. The windows that need a step take it together,
on the CPU (NumPy) or a GPU (CuPy).

References:
    Lapuschkin et al., "Unmasking Clever Hans predictors", Nature Communications 10, 2019 (SpRAy).
    Ng, Jordan & Weiss, "On spectral clustering", NeurIPS 2001 (rows of the embedding normalised).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backend import from_torch, is_numpy, namespace, to_numpy
from ..clustering.graph import NO_MAP, flat_rows
from ..clustering.kmeans import cluster_rows
from ..clustering.similarity import normalise_valid, profile_noise, ring_profile
from ..clustering.spectral import linkage
from ..config import WindowConfig
from ..errors import ConfigError
from ..steps import timed
from .graph_bank import GraphBank, slot_index
from .letters import LetterTrack
from .ring import NO_PART
from .updates import MapInput, WindowUpdate

if TYPE_CHECKING:
    import torch

__all__ = ["MapInput", "WindowBank", "WindowUpdate", "check_window"]

IntArray = NDArray[np.int64]
Descriptors = NDArray[np.float32]

WARM_UP_RUN = 8
"""Maps of one pattern in a row, in what warms a GPU up."""
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


class _Windows(NamedTuple):
    """Some windows that take a step together."""

    slots: list[int]
    tracks: list[LetterTrack]

    @property
    def counts(self) -> list[int]:
        """Maps in each."""
        return [len(track) for track in self.tracks]

    def select(self, which: list[int]) -> _Windows:
        """Return some of them."""
        if len(which) == len(self.slots):
            return self
        return _Windows([self.slots[a] for a in which], [self.tracks[a] for a in which])


class _Spectra(NamedTuple):
    """Graphs of some windows, brought up to date.

    Attributes:
        windows: the s windows.
        positions: ``(s, c)`` maps that are new to each graph, some of them repeated.
        graph: ``(s, W, W)`` the graphs.
        vectors: ``(s, b, W)`` leading eigenvectors, in rows.
        n_parts: ``(s,)`` parts of each graph, as its eigenvalues tell.
    """

    windows: _Windows
    positions: IntArray
    graph: Any
    vectors: Any
    n_parts: list[int]


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
        self._descriptors: Descriptors = np.zeros((slots, size, self.dimension), np.float32)
        # On a GPU the descriptors are there, too; letters are decided on the CPU, from these.
        self._device_descriptors = (
            self._descriptors if is_numpy(xp) else xp.zeros(self._descriptors.shape, xp.float32)
        )
        self._gram = xp.full((slots, size, size), NO_MAP, xp.float32)
        self._graphs = GraphBank(self.config, slots, xp)
        self._parts: IntArray = np.zeros((slots, size), np.int64)
        self._n_parts = [1] * slots
        # Positions whose maps the graph has not seen yet.
        self._pending: list[list[int]] = [[] for _ in range(slots)]

    def __getstate__(self) -> dict[str, Any]:
        state = {key: to_numpy(v) if _is_array(v) else v for key, v in self.__dict__.items()}
        del state["_xp"], state["_device_descriptors"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._xp = xp = namespace(self.device)
        self._gram = xp.asarray(self._gram)
        self._graphs.move_to(xp)
        self._device_descriptors = (
            self._descriptors if is_numpy(xp) else xp.asarray(self._descriptors)
        )

    @property
    def module(self) -> ModuleType:
        """NumPy or CuPy, which the arrays belong to."""
        return self._xp

    def warm_up(self) -> None:
        """Run everything that windows do on a GPU once, so that nothing is compiled in mid-stream.

        Windows of a bank of its own take changing patterns, several of them together and one alone,
        until they are full. On a CPU nothing is done, and in no case does this bank change.
        """
        if is_numpy(self._xp):
            return
        config = replace(self.config, every=1)
        scratch = WindowBank(config, self.dimension, self.device)
        slots = [scratch.open() for _ in range(START_SLOTS + 1)]  # which also makes room for more
        random = np.random.default_rng(0)
        patterns = np.abs(random.standard_normal((len(slots), self.dimension)))
        for frame in range(self.config.size + 2 * WARM_UP_RUN):
            noise = 0.2 * random.standard_normal(patterns.shape)
            # The windows show 1, 2, 3, … patterns, so that their graphs differ in their parts.
            turn = [frame // WARM_UP_RUN % (1 + n) for n in range(len(slots))]
            together = len(slots) if frame % 3 else 1 + frame // 3 % len(slots)
            scratch.update(
                [
                    MapInput(
                        slot, frame, np.abs(patterns[turn[n]] + noise[n]).astype(np.float32), None
                    )
                    for n, slot in enumerate(slots[:together])
                ]
            )
        scratch.close(slots[0])
        scratch.open()

    # ---- windows

    def __len__(self) -> int:
        """Number of open windows."""
        return sum(track is not None for track in self._tracks)

    def open(self) -> int:
        """Open a window and return its slot."""
        new = LetterTrack(self.config, self.dimension)
        for slot, track in enumerate(self._tracks):
            if track is None:
                self._tracks[slot] = new
                self._clear(slot)
                return slot
        self._tracks.append(new)
        if len(self._tracks) > len(self._descriptors):
            self._grow(2 * len(self._descriptors))
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
        self._descriptors[slot] = 0
        if self._device_descriptors is not self._descriptors:
            self._device_descriptors[slot] = 0
        self._gram[slot] = NO_MAP
        self._graphs.clear(slot)
        self._n_parts[slot], self._parts[slot] = 1, 0
        self._pending[slot] = []

    def _grow(self, slots: int) -> None:
        names = ["_descriptors", "_gram", "_parts", "_n_parts", "_pending"]
        if self._device_descriptors is not self._descriptors:
            names.append("_device_descriptors")
        old, graphs = {name: getattr(self, name) for name in names}, self._graphs
        self._allocate(slots)
        self._graphs.copy(graphs)
        for name in names:
            getattr(self, name)[: len(old[name])] = old[name]

    # ---- update

    @timed("letters")
    def update(
        self, maps: Sequence[MapInput], device_descriptors: torch.Tensor | None = None
    ) -> list[WindowUpdate]:
        """Take in one map for each of several windows.

        A descriptor that is None or zero holds the letter; one with NaN or infinity is refused,
        counted (``track(slot).refused``) and holds it, too.

        Args:
            maps: at most one for each window.
            device_descriptors: their descriptors ``(n, D)`` as they are on the GPU, for windows
                that are there, too: unit length, zeros for a map without one. They are not sent
                again then.

        Returns:
            One update each, in the same order.

        Raises:
            ConfigError: there is no such window, or it is named twice.
            ValueError: a descriptor has another length, a frame number does not rise, or a
                full-size map has another shape or is not finite. Nothing has changed then.
        """
        tracks = self._checked_tracks(maps)
        x, finite, valid = normalise_valid(self._stacked(maps))
        for i, (track, new) in enumerate(zip(tracks, maps, strict=True)):
            track.begin(new.frame, new.relevance)
            if valid[i]:
                track.insert(self._descriptors[new.slot], x[i], new)
            elif not finite[i]:
                track.refused += 1
        which = [i for i, is_valid in enumerate(valid) if is_valid]
        if which:
            windows = _Windows([new.slot for new in maps], tracks).select(which)
            self._insert_cosines(windows, self._new_descriptors(x, which, device_descriptors))
            self._cluster(windows)
            for slot, track in zip(windows.slots, windows.tracks, strict=True):
                self._settle(slot, track)
        return [track.finish(new.relevance) for track, new in zip(tracks, maps, strict=True)]

    def _checked_tracks(self, maps: Sequence[MapInput]) -> list[LetterTrack]:
        """Return the window of each map; refuse what cannot be, before anything changes."""
        tracks = [self.track(new.slot) for new in maps]
        if len(maps) > 1 and len({new.slot for new in maps}) < len(maps):
            raise ConfigError("a window takes one map per call; call update() again for the next")
        for track, new in zip(tracks, maps, strict=True):
            shape = None if new.descriptor is None else np.shape(new.descriptor)
            if shape is not None and shape != (self.dimension,):
                raise ValueError(
                    f"a descriptor of shape {shape} does not fit windows of ({self.dimension},); "
                    "hand over one flattened map, always pooled to the same side"
                )
            track.check(new.frame, new.relevance)
        return tracks

    def _stacked(self, maps: Sequence[MapInput]) -> NDArray[np.float64]:
        """Return the descriptors as rows ``(n, D)``, zero where a map has none."""
        rows = np.zeros((len(maps), self.dimension))
        for i, new in enumerate(maps):
            if new.descriptor is not None:
                rows[i] = new.descriptor
        return rows

    def _new_descriptors(
        self, x: Descriptors, which: list[int], device_descriptors: torch.Tensor | None
    ) -> Any:
        """Return some of the new descriptors on the device."""
        everything = len(which) == len(x)
        if device_descriptors is None or is_numpy(self._xp):
            return self._xp.asarray(x if everything else x[which])
        rows = from_torch(device_descriptors, self._xp)
        return rows if everything else rows[self._xp.asarray(which)]

    @timed("similarity")
    def _insert_cosines(self, windows: _Windows, new: Any) -> None:
        """Put new descriptors ``(n, D)`` into the arrays, with their cosines."""
        slots, tracks = windows.slots, windows.tracks
        positions = [track.ring.position for track in tracks]
        for slot, position in zip(slots, positions, strict=True):
            self._pending[slot].append(position)
        if len(slots) == 1:
            self._insert_one(slots[0], positions[0], len(tracks[0]), new[0])
            return
        xp, descriptors, counts = self._xp, self._device_descriptors, windows.counts
        descriptors[slots, positions] = new
        cosines = (descriptors[slot_index(slots)] @ new[:, :, None])[:, :, 0]
        # All rows at once: on a GPU every assignment is a launch.
        if min(counts) < self.config.size:
            empty = xp.arange(self.config.size) >= xp.asarray(counts)[:, None]
            cosines[empty] = NO_MAP
        cosines[xp.arange(len(slots)), xp.asarray(positions)] = NO_MAP
        self._gram[slots, positions] = cosines
        self._gram[slots, :, positions] = cosines

    def _insert_one(self, slot: int, position: int, count: int, new: Any) -> None:
        """Put one map in: the same with slices, which are several times faster than lists."""
        self._device_descriptors[slot, position] = new
        cosines = self._device_descriptors[slot] @ new
        cosines[count:] = NO_MAP
        cosines[position] = NO_MAP
        self._gram[slot, position] = cosines
        self._gram[slot, :, position] = cosines

    def _settle(self, slot: int, track: LetterTrack) -> None:
        """Finish a map: noise model and agreement of prototypes when due, then the letter."""
        config, seen = self.config, track.ring.seen
        due = seen % config.refresh == 0
        if due or seen in config.early_refresh:
            order = track.ring.order()
            profile = ring_profile(
                self._gram[slot], order, track.ring.groups(order), config.longest_lag
            )
            track.learn_noise(profile_noise(profile, min(config.far_lag, len(order) // 3)))
        track.settle(self._descriptors[slot], tidy=due)

    # ---- clustering

    def _cluster(self, windows: _Windows) -> None:
        """Cluster the windows that need it, and let their tracks label the maps."""
        due = [a for a, track in enumerate(windows.tracks) if track.due()]
        if not due:
            return
        windows = windows.select(due)
        large = []
        for a, (slot, track) in enumerate(zip(windows.slots, windows.tracks, strict=True)):
            if len(track) >= self.config.linkage_below:
                large.append(a)
            else:
                self._cluster_small(slot, track)
        if large:
            self._cluster_graphs(windows.select(large))

    @timed("spectral")
    def _cluster_small(self, slot: int, track: LetterTrack) -> None:
        """Cluster a window of few maps by average linkage."""
        count = len(track)
        cosines = to_numpy(self._gram[slot, :count, :count]).astype(np.float64)
        np.fill_diagonal(cosines, 1.0)
        clusters = linkage(cosines, track.noise.model, self.config.linkage_cosine)
        track.match_merged(clusters, self._descriptors[slot])

    def _cluster_graphs(self, windows: _Windows) -> None:
        """Cluster windows that are large enough for a graph.

        Where the number of parts stays and the newest map is clear, new maps just inherit; the
        other graphs are partitioned anew.
        """
        spectra = self._advance_graphs(windows)
        inheriting, anew = [], []
        for a, (slot, track) in enumerate(zip(windows.slots, windows.tracks, strict=True)):
            same = spectra.n_parts[a] == self._n_parts[slot]
            (inheriting if same and track.may_inherit() else anew).append(a)
        if inheriting:
            self._inherit(spectra, inheriting)
        if anew:
            self._partition(spectra, anew)
            for a in anew:
                slot, track = windows.slots[a], windows.tracks[a]
                track.match_parts(self._parts[slot, : len(track)], self._descriptors[slot])

    @timed("spectral")
    def _advance_graphs(self, windows: _Windows) -> _Spectra:
        """Bring the graphs up to date with the maps that wait, and count their parts."""
        slots = windows.slots
        before = [self._n_parts[slot] for slot in slots]
        positions = self._take_pending(slots)
        graph, vectors, values = self._graphs.advance(
            slots,
            self._gram[slot_index(slots)],
            self._xp.asarray(positions),
            windows.counts,
            before,
        )
        most, level = self.config.max_clusters, 1.0 - self.config.tau
        large = [sum([value > level for value in line[:most]]) for line in values.tolist()]
        return _Spectra(windows, positions, graph, vectors, [max(count, 1) for count in large])

    def _inherit(self, spectra: _Spectra, which: list[int]) -> None:
        """Let the new maps of some windows join the part of most of their neighbours.

        That is what k-means in the eigenvectors would say, most of the time, and it is done
        properly every few maps.
        """
        positions, size = spectra.positions, self.config.size
        rows = flat_rows(self._xp.asarray(positions), size)
        weights = to_numpy(spectra.graph.reshape(-1, size)[rows]).reshape(*positions.shape, -1)
        for a in which:
            slot, new = spectra.windows.slots[a], positions[a].tolist()
            parts = self._parts[slot]
            if len(new) > 1:  # no map is its own neighbour
                weights[a][:, new] = 0.0
            for position, weight in zip(new, weights[a], strict=True):
                parts[position] = np.bincount(parts, weight).argmax()
            spectra.windows.tracks[a].inherit(parts, new, self._descriptors[slot])

    @timed("spectral")
    def _partition(self, spectra: _Spectra, which: list[int]) -> None:
        """Cut the graphs of some windows into parts."""
        n_parts, slots = spectra.n_parts, spectra.windows.slots
        several = [a for a in which if n_parts[a] > 1]
        if several:
            windows = spectra.windows.select(several)
            counts, before = windows.counts, self._parts[windows.slots]
            for i, a in enumerate(several):
                before[i, spectra.positions[a]] = before[i, counts[i] :] = NO_PART
            vectors = spectra.vectors
            self._parts[windows.slots] = cluster_rows(
                vectors if len(several) == len(vectors) else vectors[several],
                [n_parts[a] for a in several],
                before,
                [n_parts[a] != self._n_parts[slots[a]] for a in several],
                None if min(counts) == self.config.size else np.array(counts),
            )
        for a in which:
            self._n_parts[slots[a]] = n_parts[a]
            if n_parts[a] == 1:
                self._parts[slots[a]] = 0

    def _take_pending(self, slots: Sequence[int]) -> IntArray:
        """Return the positions whose maps are new to the graph ``(s, c)``, some repeated."""
        pending = [self._pending[slot] for slot in slots]
        most = max(map(len, pending))
        positions = [new + new[-1:] * (most - len(new)) for new in pending]
        for slot in slots:
            self._pending[slot] = []
        return np.array(positions)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")
