"""CUDA graphs for the fused engine: batches padded to a few shapes, one graph recorded per shape.

:func:`~facestage.core.lrp.explain` comes here with any number of frames and pairs; live frames are
explained in recordings of their own (:mod:`.rounds`).

- Frames are padded to the next of :data:`PADDED_FRAMES`, pairs to the next of
  :data:`PADDED_PAIRS`. More than the last of these run in several rounds. From 12 pairs on at most
  half of a batch is padding.
- Padding pairs are pair (0, 0), or pairs that an earlier batch left, and their maps are thrown
  away. The map of a pair does not depend on other pairs, so nothing needs a mask.
- The first batch of a shape runs eagerly, the second is recorded: a shape that comes once, at the
  end of a file, is not worth a recording. There are fewer shapes than :data:`MAX_GRAPHS`, unless
  relevance stops at several values; beyond that a new one replaces the least recently used.
- A recording takes a few passes. :meth:`CudaGraphEngine.record` records the shapes of one frame in
  advance.

Nothing here waits for the GPU: indices are uploaded from pinned memory on a stream of their own,
and maps stay on the device.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import torch

from ...backend import upload
from ...network.recording import Recorder, fitting_size, padded_size
from .engine import Counts, FusedEngine, with_less_memory

__all__ = [
    "MAX_GRAPHS",
    "PADDED_FRAMES",
    "PADDED_PAIRS",
    "CudaGraphEngine",
    "EagerBatch",
    "GraphBatch",
]

PADDED_FRAMES = (1, 4, 16, 32)
"""The numbers of frames that a batch is padded to."""
PADDED_PAIRS = (4, 12, 24, 48, 96, 192, 384)
"""The numbers of pairs that a batch is padded to."""
MAX_GRAPHS = 32
"""The most batch shapes that stay recorded."""


class EagerBatch:
    """A batch of fixed shape with input tensors of its own, run operation by operation.

    Args:
        engine: runs it.
        frames: B.
        pairs: P.
        end: number of the value at which relevance ends.

    Attributes:
        x: ``(B, C, H, W)`` input, channels last.
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
        """Return the maps ``(P, h, w)`` of the current inputs; valid until the next run."""
        return self._engine.batch(self.x, self.frames, self.outputs, self._end)


class GraphBatch(EagerBatch):
    """The same, recorded as a CUDA graph by its constructor.

    Args:
        engine: runs it, on a CUDA device.
        frames: B.
        pairs: P.
        end: number of the value at which relevance ends.
        recorder: records it; the maps of one batch are lost when another one runs.
    """

    def __init__(
        self, engine: FusedEngine, frames: int, pairs: int, end: int, recorder: Recorder
    ) -> None:
        super().__init__(engine, frames, pairs, end)
        self._graph, self._maps = recorder.record(super().run)

    def run(self) -> torch.Tensor:
        """Run the recorded pass again, on the memory it was recorded with; return its maps."""
        self._graph.replay()
        return self._maps


RecordBatch = Callable[[FusedEngine, int, int, int], EagerBatch]


class CudaGraphEngine:
    """Explain any number of pairs in padded batches of a few shapes.

    Args:
        engine: the engine for the network.
        record: returns a recorded batch for (engine, B, P, end); a :class:`GraphBatch` when not
            given. Tests pass another, since everything but the capture works without a GPU.

    Attributes:
        device: where it runs.
        outputs: number of logits.
        counts: what it has done.
    """

    def __init__(self, engine: FusedEngine, record: RecordBatch | None = None) -> None:
        self._engine = engine
        self._record = record or self._capture
        self._recorder: Recorder | None = None
        self._eager: OrderedDict[tuple[int, int, int], EagerBatch] = OrderedDict()
        self._recorded: OrderedDict[tuple[int, int, int], EagerBatch] = OrderedDict()
        self.device, self.outputs = engine.device, engine.outputs

    @property
    def engine(self) -> FusedEngine:
        """The engine for the network."""
        return self._engine

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
        """Record the batches of one frame with up to that many pairs, where they are not yet.

        Args:
            most_pairs: at least 1; pairs that do not fit one batch run in several.
        """
        for pairs in PADDED_PAIRS:
            key = 1, pairs, self._engine.end(None)
            while key not in self._recorded:
                # Read again each time: where memory was short, less fits one batch now.
                most = fitting_size(self._engine.pairs_at_once, PADDED_PAIRS)
                if pairs > padded_size(min(most_pairs, most), PADDED_PAIRS):
                    return
                with_less_memory(self._engine, lambda key=key: self._batch(key).run())

    def _relevance(
        self, x: torch.Tensor, frames: Sequence[int], outputs: Sequence[int], end: int
    ) -> torch.Tensor:
        maps = x.new_empty((len(frames), *self._engine.side(end)), dtype=self._engine.dtype)
        for rows, pairs in self._rounds(frames):
            position = {row: i for i, row in enumerate(rows)}
            shape = padded_size(len(rows), PADDED_FRAMES), padded_size(len(pairs), PADDED_PAIRS)
            batch = self._batch((*shape, end))
            batch.x[: len(rows)].copy_(x.index_select(0, self._upload(rows)))
            batch.frames[: len(pairs)].copy_(self._upload([position[frames[n]] for n in pairs]))
            batch.outputs[: len(pairs)].copy_(self._upload([outputs[n] for n in pairs]))
            # Padding pairs are left over from an earlier batch. They may name frames of that batch,
            # but never a frame out of range; their maps are not read.
            batch_maps = batch.run()[: len(pairs)]
            maps.index_copy_(0, self._upload(pairs), batch_maps)
            self.counts.frames += len(rows)
            self.counts.pairs += len(pairs)
        return maps

    def _upload(self, numbers: Sequence[int]) -> torch.Tensor:
        """Bring numbers to the device without waiting for it."""
        return upload(torch.tensor(numbers, dtype=torch.int64), self.device)

    def _rounds(self, frames: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
        """Split the pairs; yield rows of frames and numbers of pairs that fit one batch."""
        # Padding must not go beyond what memory has room for.
        most_frames = fitting_size(self._engine.frames_at_once, PADDED_FRAMES)
        most_pairs = fitting_size(self._engine.pairs_at_once, PADDED_PAIRS)
        rows: dict[int, None] = {}  # as an ordered set
        pairs: list[int] = []
        for pair in sorted(range(len(frames)), key=lambda n: frames[n]):
            full = len(pairs) == most_pairs
            if full or (frames[pair] not in rows and len(rows) == most_frames):
                yield list(rows), pairs
                rows, pairs = {}, []
            rows[frames[pair]] = None
            pairs.append(pair)
        if pairs:
            yield list(rows), pairs

    def _batch(self, key: tuple[int, int, int]) -> EagerBatch:
        """Return the batch of a shape (B, P, end): recorded from its second use on."""
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

    def _capture(self, engine: FusedEngine, frames: int, pairs: int, end: int) -> EagerBatch:
        if self._recorder is None:
            self._recorder = Recorder(self.device)
        return GraphBatch(engine, frames, pairs, end, self._recorder)
