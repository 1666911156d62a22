"""Training batches: stored faces in memory, a new view of each in every epoch.

View ``c`` of face ``i`` in epoch ``e`` depends on (seed, e, i, c) only: not on the batch, the
number of workers, or which other faces there are.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np
from facestage.core.errors import ConfigError, SourceError
from numpy.typing import NDArray

from ..augment.canvas import SIZE, Array
from ..augment.views import make_view
from ..face.facs import AUS

__all__ = [
    "VALIDATION_SHARE",
    "ViewBatch",
    "ViewLoader",
    "face_weights",
    "is_validation",
    "known_weights",
]

VALIDATION_SHARE = 20
"""One identity in this many is held out: those whose number it divides."""
RARE = 0.12
"""Share of faces below which an active action unit makes its faces be drawn more often."""
NEUTRAL = 0.06
"""The same for faces with nothing active at all."""
MAX_WEIGHT = 4.0
"""A face is drawn at most this many times as often as a common one."""
ACTIVE = 1.0
"""Intensity from which an action unit counts as active (FACS A)."""

_VIEW_STREAM, _ORDER_STREAM, _VALIDATION_STREAM = 71, 72, 73
"""Constants that keep the random numbers of different purposes apart."""
_ONCE_EPOCH, _ONCE_ORDER = 900, 5
"""Epoch and order of :meth:`ViewLoader.once`, apart from those of any run."""
_FIELDS = {
    "image": (SIZE, SIZE),
    "intensity": (len(AUS),),
    "landmarks": (68, 2),
    "identity": (),
    "index": (),
}

Shard = Mapping[str, NDArray]


@dataclass(frozen=True, slots=True)
class ViewBatch:
    """Views and what is known about them.

    Attributes:
        image: ``(B, 96, 96)`` uint8 grey.
        intensity: ``(B, 23)`` float32, 0–5, NaN where not labelled.
        landmarks: ``(B, 68, 2)`` float32, crop pixels.
        visibility: ``(B, 68)`` float32, 0–1, weight of each landmark.
        identity: ``(B,)`` int64.
        index: ``(B,)`` int64, number of the face.
    """

    image: NDArray[np.uint8]
    intensity: Array
    landmarks: Array
    visibility: Array
    identity: NDArray[np.int64]
    index: NDArray[np.int64]


def is_validation(identity: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which identities are held out of training: ``(N,)`` int → ``(N,)`` bool."""
    return np.asarray(identity) % VALIDATION_SHARE == 0


def face_weights(intensity: Array) -> Array:
    """Weigh faces so that rare action units, and neutral faces, are seen often enough.

    The repeat factor of a class with frequency f is √(t/f) where f lies below its target t, and 1
    above; a face takes the largest factor of its classes, up to `MAX_WEIGHT`.

    Args:
        intensity: ``(N, A)`` 0–5, NaN where unknown.

    Returns:
        ``(N,)`` float32, 1 to `MAX_WEIGHT`.

    References:
        Gupta et al., *LVIS: a dataset for large vocabulary instance segmentation*, CVPR 2019, §A.
    """
    labels = np.nan_to_num(np.asarray(intensity, np.float32))
    classes = np.column_stack([labels >= ACTIVE, ~(labels > 0).any(1)])
    target = np.array([RARE] * labels.shape[1] + [NEUTRAL])
    frequency = classes.mean(0) if len(classes) else target
    factor = np.sqrt(target / np.maximum(frequency, 1e-9)).clip(1, MAX_WEIGHT)
    return np.where(classes, factor, 1).max(1).astype(np.float32)


def known_weights(intensity: Array) -> Array:
    """Weigh pictures by how much is known of them, so that few full labels are not drowned.

    Args:
        intensity: ``(N, A)`` 0–5, NaN where unknown.

    Returns:
        ``(N,)`` float32, the share of the action units that is known, 0–1.
    """
    return np.isfinite(intensity).mean(1).astype(np.float32)


class ViewLoader:
    """Make batches of training views from shards of stored faces, in the background."""

    def __init__(
        self,
        shards: Sequence[Path | Shard],
        seed: int,
        *,
        batch: int = 48,
        workers: int = 1,
        processes: bool = False,
        weigh: Callable[[Array], Array] | None = face_weights,
    ) -> None:
        """Read the shards.

        Args:
            shards: files, folders of ``*.npz`` files, or arrays by name, with ``image``
                (n, 136, 136) uint8, ``intensity`` (n, 23) 0–5, ``landmarks`` (n, 68, 2) template
                units, ``identity`` and ``index`` (n,) int.
            seed: of the order and of every view, ≥ 0.
            batch: views per batch.
            workers: threads or processes that make views ahead; 0 makes them when asked.
            processes: use processes. Threads run side by side only inside NumPy and OpenCV;
                processes do throughout, at the price of copying the faces to them.
            weigh: from the labels of all faces, ``(N, A)``, to how often each is drawn, ``(N,)``;
                None draws each once per epoch.

        Raises:
            ConfigError: a number is out of range.
            SourceError: a shard cannot be read, or does not hold what it should.
        """
        if batch < 1 or workers < 0 or seed < 0:
            raise ConfigError(
                f"batch {batch}, workers {workers}, seed {seed}: "
                "batch must be at least 1, workers and seed at least 0"
            )
        self._sources = list(shards)
        self._seed = seed
        self._batch = batch
        self._workers = workers
        self._weigh = weigh
        self._shards: list[Shard] = []
        self._read: set[Path] = set()
        self._place = np.zeros((0, 2), np.int64)
        self._train = np.zeros(0, np.int64)
        self._held_out = np.zeros(0, np.int64)
        self._weight = np.zeros(0, np.float32)
        self.refresh()
        self._executor: Executor | None = None
        if workers and processes:
            # A forked copy of a process with threads (torch, OpenCV) may hang; a fresh one cannot.
            self._executor = ProcessPoolExecutor(
                workers, multiprocessing.get_context("spawn"), cv2.setNumThreads, (1,)
            )
        elif workers:
            self._executor = ThreadPoolExecutor(workers, "views")

    @property
    def faces(self) -> int:
        """Faces to train on."""
        return len(self._train)

    @property
    def seed(self) -> int:
        """Seed of the order and of every view."""
        return self._seed

    @property
    def held_out(self) -> int:
        """Faces of held-out identities."""
        return len(self._held_out)

    def refresh(self, files: Sequence[Path] = ()) -> int:
        """Read what is new: shards that appeared in the given folders since, and given files.

        Args:
            files: further shards; those read already are passed over.

        Returns:
            How many faces came in, held-out ones included. Epochs that run already do not see them.

        Raises:
            SourceError: a shard cannot be read, or does not hold what it should.
        """
        before = len(self._place)
        for source in (*self._sources, *files):
            if isinstance(source, Mapping):
                continue
            folder = source.is_dir()
            for path in sorted(source.glob("*.npz")) if folder else [source]:
                # A name with a leading dot is one that its writer has not finished.
                if path not in self._read and not (folder and path.name.startswith(".")):
                    self._shards.append(_checked(_load(path), str(path)))
                    self._read.add(path)
        if not before:
            for k, source in enumerate(self._sources):
                if isinstance(source, Mapping):
                    self._shards.append(_checked(source, f"number {k}"))
        parts = [
            np.column_stack([np.full(len(s["index"]), k), np.arange(len(s["index"]))])
            for k, s in enumerate(self._shards)
        ]
        if not parts:
            return 0
        self._place = np.concatenate(parts).astype(np.int64)
        held_out = is_validation(np.concatenate([s["identity"] for s in self._shards]))
        self._train, self._held_out = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        labels = np.concatenate([s["intensity"] for s in self._shards])[self._train]
        self._weight = self._weigh(labels) if self._weigh else np.ones(len(labels), np.float32)
        return len(self._place) - before

    def epoch(
        self, number: int, *, skip: int = 0, share: tuple[int, int] = (0, 1)
    ) -> Iterator[ViewBatch]:
        """Make the batches of one epoch, each view new; as many views as faces.

        Args:
            number: of the epoch, ≥ 0; the same number gives the same batches.
            skip: batches not to make, to go on in the middle of an epoch.
            share: this process's rank and the number of processes that share the epoch; they take
                turns, each gets the same number of batches, ``skip`` counts this process's.

        Yields:
            Batches in order; the last, smaller one is left out unless it is the only one.

        Raises:
            SourceError: there is no face to train on.
        """
        if not len(self._train):
            raise SourceError(
                f"no face to train on in {len(self._shards)} shards; render some first "
                "(`python -m training --help`) or give another folder"
            )
        place, copy = self._order(number)
        rank, size = share
        starts = range(0, max(1, len(place) - self._batch + 1), self._batch)
        if size > 1:
            starts = starts[: len(starts) // size * size][rank::size]
        jobs = (
            self._job(place[k : k + self._batch], copy[k : k + self._batch], number, _VIEW_STREAM)
            for k in starts[skip:]
        )
        yield from self._run(jobs)

    def endless(self, skip: int = 0) -> Iterator[ViewBatch]:
        """Make the batches of one epoch after another, without end.

        Args:
            skip: batches not to make, to go on where an earlier call stopped.

        Yields:
            Batches in order.

        Raises:
            SourceError: there is no face to train on.
        """
        number, position = divmod(skip, max(1, len(self._train) // self._batch))
        while True:
            yield from self.epoch(number, skip=position)
            number, position = number + 1, 0

    def once(self, *, held_out: bool = False, skip: int = 0, again: int = 0) -> Iterator[ViewBatch]:
        """Make one view of every face, all faces of a person after another.

        These views are not those of any epoch. People come in an order that depends on nothing but
        their numbers, so a part from the start is a fair sample.

        Args:
            held_out: of the held-out identities instead of those to train on.
            skip: batches not to make, to go on where an earlier call stopped.
            again: number of the round, ≥ 0; each shows every face in another view.

        Yields:
            Batches in order; the last one may be smaller.
        """
        faces = self._held_out if held_out else self._train
        person = np.array([self._shards[s]["identity"][row] for s, row in self._place[faces]])
        people, of = np.unique(person, return_inverse=True)
        turn = np.random.default_rng(_ONCE_ORDER).permutation(len(people))
        faces = faces[np.argsort(turn[of], kind="stable")]
        stream = _VALIDATION_STREAM if held_out else _VIEW_STREAM
        parts = (faces[k : k + self._batch] for k in range(0, len(faces), self._batch))
        jobs = (self._job(part, np.zeros_like(part), _ONCE_EPOCH + again, stream) for part in parts)
        yield from self._run(islice(jobs, skip, None))

    def validation_views(self, n: int, seed: int) -> ViewBatch:
        """Make a fixed, degraded set of views of held-out identities.

        Args:
            n: views at most; the first ones in the order of the shards.
            seed: of the views; the same seed gives the same views in every training run.

        Returns:
            One batch of ``min(n, held_out)`` views.

        Raises:
            ConfigError: ``n`` is below 1.
            SourceError: no identity of the shards is held out.
        """
        if n < 1:
            raise ConfigError(f"cannot make {n} validation views; ask for at least 1")
        if not len(self._held_out):
            raise SourceError(
                f"none of {len(self._place)} faces is held out: no identity is a multiple of "
                f"{VALIDATION_SHARE}; render more identities"
            )
        chosen = self._held_out[:n]
        parts = [chosen[k : k + self._batch] for k in range(0, len(chosen), self._batch)]
        jobs = (self._job(p, np.zeros_like(p), 0, _VALIDATION_STREAM, seed) for p in parts)
        batches = list(self._run(jobs))
        names = ViewBatch.__dataclass_fields__
        return ViewBatch(*(np.concatenate([getattr(b, name) for b in batches]) for name in names))

    def close(self) -> None:
        """Stop the workers; running views are finished first."""
        if self._executor:
            self._executor.shutdown(cancel_futures=True)

    def __enter__(self) -> ViewLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw an epoch's faces (systematic sampling by weight), each with its copy number."""
        rng = np.random.default_rng([self._seed, _ORDER_STREAM, epoch])
        n = len(self._train)
        mixed = rng.permutation(n)
        edges = np.cumsum(self._weight[mixed], dtype=np.float64)
        at = (np.arange(n) + rng.random()) * (edges[-1] / n)
        drawn = np.minimum(np.searchsorted(edges, at, side="right"), n - 1)
        # Equal draws are neighbours: the copy number counts within each run.
        copy = np.arange(n) - np.searchsorted(drawn, drawn, side="left")
        shuffle = rng.permutation(n)
        return self._train[mixed[drawn[shuffle]]], copy[shuffle]

    def _job(
        self,
        faces: NDArray[np.int64],
        copies: NDArray[np.int64],
        epoch: int,
        stream: int,
        seed: int | None = None,
    ) -> _Job:
        """Collect what a worker needs: the stored faces and the key of each view."""
        rows = [(self._shards[s], r) for s, r in self._place[faces]]
        stored = {name: np.stack([shard[name][row] for shard, row in rows]) for name in _FIELDS}
        key = self._seed if seed is None else seed
        return _Job(**stored, copy=copies, epoch=epoch, stream=stream, seed=key)

    def _run(self, jobs: Iterator[_Job]) -> Iterator[ViewBatch]:
        """Work jobs off in order, a few ahead of the caller."""
        if self._executor is None:
            yield from map(_views, jobs)
            return
        ahead: deque[Future[ViewBatch]] = deque()
        try:
            for job in islice(jobs, 2 * self._workers):
                ahead.append(self._executor.submit(_views, job))
            while ahead:
                done = ahead.popleft().result()
                for job in islice(jobs, 1):
                    ahead.append(self._executor.submit(_views, job))
                yield done
        finally:
            for future in ahead:
                future.cancel()


@dataclass(frozen=True, slots=True)
class _Job:
    """The stored faces of one batch, and the key of each of its views."""

    image: NDArray[np.uint8]
    intensity: NDArray[np.floating]
    landmarks: NDArray[np.floating]
    identity: NDArray[np.int64]
    index: NDArray[np.int64]
    copy: NDArray[np.int64]
    epoch: int
    stream: int
    seed: int


def _views(job: _Job) -> ViewBatch:
    """Make one batch; runs in a worker."""
    views = []
    for k, index in enumerate(job.index):
        key = [job.seed, job.stream, job.epoch, int(index), int(job.copy[k])]
        rng = np.random.default_rng(key)
        views.append(make_view(job.image[k], job.intensity[k], job.landmarks[k], rng))
    return ViewBatch(
        np.stack([v.image for v in views]),
        np.stack([v.intensity for v in views]),
        np.stack([v.landmarks for v in views]),
        np.stack([v.visibility for v in views]),
        job.identity.astype(np.int64),
        job.index.astype(np.int64),
    )


def _load(path: Path) -> Shard:
    """Read a shard file whole."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in _FIELDS if name in file}
    except (OSError, ValueError, BadZipFile, EOFError) as error:
        raise SourceError(
            f"cannot read the shard {path}: {error}; delete it and render it again"
        ) from error


def _checked(shard: Shard, name: str) -> Shard:
    """Make sure that a shard holds what the loader needs."""
    missing = sorted(_FIELDS.keys() - shard.keys())
    if missing:
        raise SourceError(
            f"shard {name} has no {', '.join(missing)}; render it again with this version"
        )
    n = len(shard["index"])
    for field, shape in _FIELDS.items():
        if shard[field].shape != (n, *shape):
            raise SourceError(
                f"shard {name} holds {field} of shape {shard[field].shape}, expected "
                f"{(n, *shape)}; render it again with this version"
            )
    if shard["image"].dtype != np.uint8:
        raise SourceError(f"shard {name} holds {shard['image'].dtype} pictures; uint8 is needed")
    return shard
