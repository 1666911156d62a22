"""Fixed batch shapes for the fused engine, so that a GPU can replay what it has recorded.

A pass through a small network is a hundred short kernels: a GPU waits for their launches longer
than it computes. A CUDA graph launches all at once, but knows one shape only. So frames and pairs
are padded to a few sizes (buckets), and a graph is recorded per size:

- frames to the next of :data:`FRAMES`, pairs to the next of :data:`PAIRS`; more than the last are
  run in several rounds. From 8 pairs on at most a third of a batch is padding.
- Padding pairs are copies of pair (0, 0) and their maps are thrown away: pairs do not see each
  other, so nothing else needs a mask.
- The first batch of a size runs eagerly, the second is recorded: a size that comes once, at the end
  of a file, is not worth a recording. At most :data:`MAX_GRAPHS` sizes stay recorded; a new one
  takes the place of the one unused for longest.
- A recording takes three passes and the capture of one. :meth:`BucketEngine.record` makes those of
  one live frame ahead of it, so that no frame waits for them.

Nothing here waits for the GPU: indices go up from pinned memory on a stream of their own, maps stay
where they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import torch

from ...backend import upload
from .engine import Counts, FusedEngine, with_less_memory

__all__ = ["FRAMES", "MAX_GRAPHS", "PAIRS", "BucketEngine", "EagerBatch", "GraphBatch", "bucket"]

FRAMES = (1, 2, 4, 8, 16, 32)
"""Numbers of frames a batch is padded to."""
PAIRS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
"""Numbers of pairs a batch is padded to."""
MAX_GRAPHS = 32
"""Most sizes that stay recorded."""


def bucket(count: int, sizes: Sequence[int]) -> int:
    """Return the smallest size that holds ``count``.

    Args:
        count: at least 1, at most the largest size.
        sizes: rising.

    >>> bucket(9, PAIRS)
    12
    """
    return next(size for size in sizes if size >= count)


class EagerBatch:
    """A batch of fixed shape, run operation by operation; what a recording is made of.

    Args:
        engine: runs it.
        frames: B.
        pairs: P.
        end: number of the value at which relevance ends.

    Attributes:
        x: ``(B, C, H, W)`` its input.
        frames: ``(P,)`` int64 row of each pair.
        outputs: ``(P,)`` int64 output of each pair.
    """

    def __init__(self, engine: FusedEngine, frames: int, pairs: int, end: int) -> None:
        self._engine, self._end = engine, end
        self.x = torch.zeros(
            (frames, *engine.shape), dtype=engine.dtype, device=engine.device
        ).contiguous(memory_format=torch.channels_last)
        self.frames = torch.zeros(pairs, dtype=torch.int64, device=engine.device)
        self.outputs = torch.zeros(pairs, dtype=torch.int64, device=engine.device)

    def run(self) -> torch.Tensor:
        """Return the maps ``(P, h, w)`` of what the inputs hold now; valid until the next run."""
        return self._engine.batch(self.x, self.frames, self.outputs, self._end)


class GraphBatch(EagerBatch):
    """The same, recorded as a CUDA graph when made.

    Args:
        engine: runs it, on a CUDA device.
        frames: B.
        pairs: P.
        end: number of the value at which relevance ends.
        pool: memory shared with other recordings; their results do not outlive each other's runs.
    """

    def __init__(
        self, engine: FusedEngine, frames: int, pairs: int, end: int, pool: object
    ) -> None:
        super().__init__(engine, frames, pairs, end)
        # Libraries choose algorithms and take workspace in their first runs, which must not be
        # recorded; those happen on a stream of their own, as recording demands.
        aside = torch.cuda.Stream(engine.device)
        aside.wait_stream(torch.cuda.current_stream(engine.device))
        with torch.cuda.stream(aside):
            for _ in range(2):
                super().run()
        torch.cuda.current_stream(engine.device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the GPU meanwhile: what they do is not part of it.
        recording = torch.cuda.graph(
            self._graph,
            pool=pool,  # type: ignore[arg-type]
            capture_error_mode="thread_local",
        )
        with recording:
            self._made = super().run()

    def run(self) -> torch.Tensor:
        self._graph.replay()
        return self._made


Record = Callable[[FusedEngine, int, int, int], EagerBatch]


class BucketEngine:
    """Explain any number of pairs in batches of fixed shapes.

    Args:
        engine: the engine for the network.
        record: makes a recorded batch; CUDA graphs when not given. Tests give another, as all but
            the recording itself works without a GPU.

    Attributes:
        device: where it runs.
        outputs: number of logits.
        counts: what it has done.
    """

    def __init__(self, engine: FusedEngine, record: Record | None = None) -> None:
        self._engine = engine
        self._record = record or self._graph
        self._pool: object = None
        self._eager: OrderedDict[tuple[int, int, int], EagerBatch] = OrderedDict()
        self._recorded: OrderedDict[tuple[int, int, int], EagerBatch] = OrderedDict()
        self.device, self.outputs = engine.device, engine.outputs

    @property
    def counts(self) -> Counts:
        """What the engine has done so far."""
        return self._engine.counts

    def relevance(
        self,
        x: torch.Tensor,
        frames: Sequence[int],
        outputs: Sequence[int],
        stop: int | None = None,
    ) -> torch.Tensor:
        """Propagate ``P`` logits back; as :meth:`FusedEngine.relevance`."""
        end = self._engine.end(stop)
        return with_less_memory(self._engine, lambda: self._relevance(x, frames, outputs, end))

    def record(self, most_pairs: int) -> None:
        """Record the batches of one frame with up to that many pairs, unless they are.

        Args:
            most_pairs: at least 1; pairs beyond what fits one batch run in several.
        """
        for pairs in PAIRS:
            key = 1, pairs, self._engine.end(None)
            while key not in self._recorded:
                # Looked at anew each time: where memory is short, less fits one batch.
                fits = min(most_pairs, self._engine.pairs_at_once, PAIRS[-1])
                if pairs > bucket(fits, PAIRS):
                    return
                with_less_memory(self._engine, lambda key=key: self._batch(key).run())

    def _relevance(
        self, x: torch.Tensor, frames: Sequence[int], outputs: Sequence[int], end: int
    ) -> torch.Tensor:
        maps = x.new_empty((len(frames), *self._engine.side(end)), dtype=self._engine.dtype)
        for rows, numbers in self._rounds(frames):
            place = {row: at for at, row in enumerate(rows)}
            key = bucket(len(rows), FRAMES), bucket(len(numbers), PAIRS), end
            batch = self._batch(key)
            batch.x[: len(rows)].copy_(x.index_select(0, self._up(rows)))
            batch.frames[: len(numbers)].copy_(self._up([place[frames[n]] for n in numbers]))
            batch.outputs[: len(numbers)].copy_(self._up([outputs[n] for n in numbers]))
            # Pairs left over from an earlier batch may name frames that are out of date, not
            # frames that are not there; their maps are not read.
            made = batch.run()[: len(numbers)]
            maps.index_copy_(0, self._up(numbers), made)
            self.counts.frames += len(rows)
            self.counts.pairs += len(numbers)
        return maps

    def _up(self, numbers: Sequence[int]) -> torch.Tensor:
        """Bring numbers to the device without waiting for it."""
        return upload(torch.tensor(numbers, dtype=torch.int64), self.device)

    def _rounds(self, frames: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
        """Split the pairs; yield rows of frames and numbers of pairs that fit one batch."""
        most_frames = min(self._engine.frames_at_once, FRAMES[-1])
        most_pairs = min(self._engine.pairs_at_once, PAIRS[-1])
        rows: dict[int, None] = {}
        numbers: list[int] = []
        for number in sorted(range(len(frames)), key=lambda n: frames[n]):
            full = len(numbers) == most_pairs
            if full or (frames[number] not in rows and len(rows) == most_frames):
                yield list(rows), numbers
                rows, numbers = {}, []
            rows[frames[number]] = None
            numbers.append(number)
        if numbers:
            yield list(rows), numbers

    def _batch(self, key: tuple[int, int, int]) -> EagerBatch:
        """Return the batch of a size: recorded from its second use on."""
        if key in self._recorded:
            self._recorded.move_to_end(key)
            return self._recorded[key]
        if key not in self._eager:
            self.counts.eager += 1
            batch = self._eager[key] = EagerBatch(self._engine, *key)
            while len(self._eager) > MAX_GRAPHS:
                self._eager.popitem(last=False)
            return batch
        del self._eager[key]
        while len(self._recorded) >= MAX_GRAPHS:
            self._recorded.popitem(last=False)
        batch = self._recorded[key] = self._record(self._engine, *key)
        self.counts.recorded += 1
        return batch

    def _graph(self, engine: FusedEngine, frames: int, pairs: int, end: int) -> EagerBatch:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        return GraphBatch(engine, frames, pairs, end, self._pool)
