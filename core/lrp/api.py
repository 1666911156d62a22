"""Layer-wise relevance propagation: which pixels speak for an Action Unit (paper §3.2).

:func:`explain` turns presence logits into relevance maps, all (frame, AU) pairs of a batch at
once. It chooses between the two engines, prepares a network for the chosen one and keeps it
prepared while its weights stay the same.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..config import DEFAULT_LRP_PRESET
from ..errors import ConfigError, ModelError, SlowEngineWarning
from ..network.folding import example_input, fold_batchnorm
from .fused.cuda_graphs import BucketEngine
from .fused.engine import CHUNK_BYTES, Counts, FusedEngine, Values, is_shortage, with_less_memory
from .fused.lower import UnsupportedNetworkError
from .presets import ALIASES, LRP_PRESETS, Preset, lrp_preset

if TYPE_CHECKING:
    from .reference.engine import ReferenceEngine

__all__ = [
    "ALIASES",
    "CHUNK_BYTES",
    "ENGINES",
    "LRP_PRESETS",
    "PRECISIONS",
    "Counts",
    "EngineChoice",
    "Forward",
    "Preset",
    "SlowEngineWarning",
    "UnsupportedNetworkError",
    "counts_of",
    "engine_of",
    "explain",
    "forward",
    "lrp_preset",
    "record",
]

PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}
"""Name → what to give as ``dtype`` to :func:`explain` for a network of float32 weights."""
ENGINES = ("auto", "fused", "reference")
"""Names of engines; ``auto`` takes the fused one wherever it can."""

_FUSED = (FusedEngine, BucketEngine)
# Input shapes for which one network stays prepared: a crop size, and some while trying things out.
_MAX_PREPARED = 8


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which engine explains a network.

    Attributes:
        name: ``fused`` or ``reference``.
        reason: why not the fused one; empty if it is, or if the other was asked for.
    """

    name: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Prepared:
    state: object  # fingerprint of the weights it was prepared from
    engine: FusedEngine | BucketEngine | ReferenceEngine
    choice: EngineChoice


_warned: weakref.WeakSet[nn.Module] = weakref.WeakSet()
# Preparing a network takes tens of milliseconds; a live stream explains the same one every frame.
_prepared: weakref.WeakKeyDictionary[nn.Module, dict[Any, _Prepared]] = weakref.WeakKeyDictionary()


def explain(
    model: nn.Module,
    x: torch.Tensor,
    pairs: Sequence[tuple[int, int]],
    preset: str = DEFAULT_LRP_PRESET,
    engine: str = "auto",
    stop: int | None = None,
    *,
    dtype: torch.dtype | None = None,
    check: bool = True,
) -> torch.Tensor:
    """Compute one relevance map per (frame, output) pair.

    The logit itself is the relevance to start from (paper eq. 1: a map decomposes f(x); what
    biases and ε absorb is missing from its sum).
    The model is neither changed nor hooked. It is prepared at its first use with a shape of input
    (copy with shared weights, BatchNorm folded) and again after its weights change. One thread at
    a time may explain the same model; while a model is prepared, no other thread may run any
    torch module (``torch.fx`` replaces ``Module.__call__`` while it traces).

    Args:
        model: ``(B, C, H, W)`` → ``(B, A)`` logits, before any sigmoid. Evaluated in eval mode.
        x: ``(B, C, H, W)`` floating-point network input; taken to the dtype of the weights.
        pairs: P pairs (row of ``x``, number of the output), in any order, repeated or not.
        preset: LRP preset, see :data:`LRP_PRESETS` and :data:`ALIASES`.
        engine: one of :data:`ENGINES`. All give the same maps. Where ``auto`` cannot take the fused
            one, a :class:`SlowEngineWarning` says so once per network.
        stop: end at the first value on the way from the input whose rows and columns are at most
            this many and which all relevance passes, and return the maps there. They show where
            features speak, not pixels: good for descriptors, and cheaper. Summed over channels,
            so no relevance is lost or blurred. Only the fused engine can; the reference engine
            goes on to the pixels.
        dtype: of the inner convolutions on the way back through the fused engine, such as
            ``torch.bfloat16`` where the hardware is fast with it; logits, activations and divisions
            stay in that of the weights, and so do maps. The reference engine has none.
        check: refuse input that is not finite. Looking at it waits for a GPU; a caller who knows
            where the input comes from can do without, and look at the maps.

    Returns:
        ``(P, H, W)`` on the model's device, of the dtype of its weights: relevance in logit
        units, summed over the channels. With ``stop`` the rows and columns of the layer it ends
        at. Memory is bounded by :data:`CHUNK_BYTES`, or by
        :data:`~facestage.core.lrp.reference.engine.MAX_BATCH` frames at a time in the reference
        engine.

    Raises:
        ConfigError: no preset or engine of that name; nothing in the network is as small as
            ``stop``; a dtype is given, but the reference engine runs.
        UnsupportedNetworkError: the fused engine was asked for and has no rule for a part of the
            network.
        ModelError: a pair is out of range, input or weights are not finite, the network does not
            accept the input, or is of a kind LRP has no rule for.

    References:
        Bach et al., PLoS ONE 10(7), 2015; Kohlbrenner et al., IJCNN 2020 (preset A).
    """
    rules = lrp_preset(preset)
    if x.ndim != 4 or not x.is_floating_point():
        raise ModelError(
            f"explain needs float input of shape (B, C, H, W), got {tuple(x.shape)} {x.dtype}; "
            "normalise crops first (AUNetwork.prepare)"
        )
    if stop is not None and stop < 1:
        raise ConfigError(f"relevance cannot stop at {stop} px; use 1 or more, or None for pixels")
    if not len(pairs) and stop is None:
        return x.new_zeros((0, *x.shape[2:]))
    # Tensors made in inference mode cannot be differentiated through; leave it for the call.
    with torch.inference_mode(False), torch.no_grad():
        entry = _prepare(model, tuple(x.shape[1:]), rules, engine, dtype)
        prepared = entry.engine
        if dtype is not None and not isinstance(prepared, _FUSED):
            why = f" ({entry.choice.reason})" if entry.choice.reason else ""
            raise ConfigError(
                f"the reference LRP engine{why} computes in the precision of the weights; leave "
                f"out {str(dtype).removeprefix('torch.')}"
            )
        frames, outputs = _checked(pairs, len(x), prepared.outputs)
        x = x.to(prepared.device)
        # A sum would overflow where no value does; extremes pass NaN on and read the input once.
        if check and x.numel() and not bool(torch.isfinite(torch.stack(torch.aminmax(x))).all()):
            raise ModelError(
                "the input has values that are not finite (NaN or infinite); look at how it was "
                "normalised"
            )
        if isinstance(prepared, _FUSED):
            return prepared.relevance(x, frames, outputs, stop)
        return prepared.relevance(x, frames, outputs) if frames else x.new_zeros((0, *x.shape[2:]))


class Forward:
    """Frames that ran forward and can be explained; see :func:`forward`.

    Attributes:
        logits: ``(B, A)``.
        hidden: ``(B, F)`` what the dense layer that makes them got; None without such a layer.
    """

    def __init__(self, engine: FusedEngine, values: Values) -> None:
        self._engine, self._values = engine, values
        self.logits = values.values[-1]
        self.hidden = engine.hidden(values)

    def explain(self, pairs: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Compute one relevance map per (frame, output) pair.

        Args:
            pairs: as for :func:`~facestage.core.lrp.explain`.

        Returns:
            ``(P, H, W)``, as of :func:`~facestage.core.lrp.explain`. Nothing looks at whether the
            input was finite.

        Raises:
            ModelError: a pair is out of range.
        """
        frames, outputs = _checked(pairs, len(self.logits), self._engine.outputs)
        with torch.inference_mode(False), torch.no_grad():
            self._engine.counts.frames += len(set(frames))
            return with_less_memory(
                self._engine, lambda: self._engine.explain(self._values, frames, outputs, 0)
            )


def forward(
    model: nn.Module,
    x: torch.Tensor,
    preset: str = DEFAULT_LRP_PRESET,
    dtype: torch.dtype | None = None,
) -> Forward | None:
    """Run a network forward so that what it says can be explained without doing so again.

    Args:
        model, preset, dtype: see :func:`explain`.
        x: ``(B, C, H, W)`` floating-point network input.

    Returns:
        The logits, ready to be explained. None where :func:`explain` has to run the network
        itself: on a GPU, which replays both ways at once, through the reference engine, without
        frames, and for more frames than fit one round or the memory.

    Raises:
        ConfigError: no preset of that name.
        ModelError: neither engine can explain the network.
    """
    if not len(x) or x.device.type != "cpu":
        return None
    with torch.inference_mode(False), torch.no_grad():
        prepared = _prepare(model, tuple(x.shape[1:]), lrp_preset(preset), "auto", dtype).engine
        if not isinstance(prepared, FusedEngine) or len(x) > prepared.frames_at_once:
            return None
        try:
            return Forward(prepared, prepared.forward(x))
        except RuntimeError as error:
            if not is_shortage(error):
                raise
            return None


def _checked(
    pairs: Sequence[tuple[int, int]], frames: int, outputs: int
) -> tuple[list[int], list[int]]:
    """Return frames and outputs of pairs.

    Raises:
        ModelError: one is out of range.
    """
    rows = [int(frame) for frame, _ in pairs]
    numbers = [int(output) for _, output in pairs]
    if rows and (min(rows) < 0 or max(rows) >= frames):
        raise ModelError(
            f"pairs name frames {min(rows)} to {max(rows)}, but the batch has {frames}; number "
            "its rows from 0"
        )
    if numbers and (min(numbers) < 0 or max(numbers) >= outputs):
        raise ModelError(
            f"pairs name outputs {min(numbers)} to {max(numbers)}, but the network has "
            f"{outputs}; number them from 0 (an AU by its place in the card)"
        )
    return rows, numbers


def counts_of(model: nn.Module) -> Counts:
    """Return what the fused engines of a network have done, over all presets and shapes.

    Counts of an engine that is no longer kept (new weights, many shapes) are gone with it.
    """
    total = Counts()
    for entry in _prepared.get(model, {}).values():
        if isinstance(entry.engine, _FUSED):
            for name in Counts.__dataclass_fields__:
                done = getattr(entry.engine.counts, name)
                setattr(total, name, getattr(total, name) + done)
    return total


def engine_of(
    model: nn.Module,
    shape: Sequence[int],
    preset: str = DEFAULT_LRP_PRESET,
    dtype: torch.dtype | None = None,
) -> EngineChoice:
    """Tell which engine ``auto`` uses for a network; the network is prepared on the way.

    Args:
        model: see :func:`explain`.
        shape: ``(C, H, W)`` of its input.
        preset: see :func:`explain`.
        dtype: see :func:`explain`.

    Returns:
        The engine, and what in the network kept the fused one from it.

    Raises:
        ConfigError: no preset of that name.
        ModelError: neither engine can explain it.
    """
    with torch.inference_mode(False), torch.no_grad():
        return _prepare(model, tuple(shape), lrp_preset(preset), "auto", dtype).choice


def record(
    model: nn.Module,
    shape: Sequence[int],
    preset: str = DEFAULT_LRP_PRESET,
    dtype: torch.dtype | None = None,
    *,
    most_pairs: int,
) -> None:
    """Record what explains one frame on a GPU, so that no frame has to wait until that is done.

    On a CPU, and where the reference engine runs, there is nothing to record.

    Args:
        model, shape, preset, dtype: see :func:`engine_of`.
        most_pairs: most outputs of one frame that are to be explained, at least 1.

    Raises:
        ConfigError: no preset of that name.
        ModelError: neither engine can explain it.
    """
    with torch.inference_mode(False), torch.no_grad():
        engine = _prepare(model, tuple(shape), lrp_preset(preset), "auto", dtype).engine
        if isinstance(engine, BucketEngine):
            engine.record(most_pairs)


def _prepare(
    model: nn.Module,
    shape: tuple[int, ...],
    preset: Preset,
    engine: str,
    dtype: torch.dtype | None,
) -> _Prepared:
    """Return the prepared network, made anew when its weights have changed."""
    if engine not in ENGINES:
        raise ConfigError(f"unknown LRP engine {engine!r}; use one of {', '.join(ENGINES)}")
    state = _fingerprint(model)
    known = _prepared.setdefault(model, {})
    key = (preset.name, engine, shape, dtype)
    entry = known.get(key)
    if entry is None or entry.state != state:
        known.pop(key, None)
        while len(known) >= _MAX_PREPARED:
            known.pop(next(iter(known)))
        made, choice = _make(model, shape, preset, engine, dtype)
        entry = known[key] = _Prepared(state, made, choice)
    return entry


def _make(
    model: nn.Module,
    shape: tuple[int, ...],
    preset: Preset,
    engine: str,
    dtype: torch.dtype | None,
) -> tuple[FusedEngine | BucketEngine | ReferenceEngine, EngineChoice]:
    name = type(model).__name__
    for part, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"{part} of {name} has values that are not finite (NaN or infinite); load weights "
                "that are whole"
            )
    try:
        example = example_input(model, shape)
        folded = fold_batchnorm(model, example)
    except RuntimeError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{name} does not accept input of shape (B, {', '.join(map(str, shape))}): {reason}; "
            "give it the input it was made for"
        ) from error
    reason = ""
    if engine != "reference":
        try:
            fused = FusedEngine(folded, example, preset, dtype)
            on_gpu = fused.device.type == "cuda"
            return (BucketEngine(fused) if on_gpu else fused), EngineChoice("fused")
        except UnsupportedNetworkError as error:
            if engine == "fused":
                raise
            reason = error.reason
            if model not in _warned:
                _warned.add(model)
                message = f"{name} goes to the reference LRP engine, many times slower: {reason}"
                warnings.warn(message, SlowEngineWarning, stacklevel=4)  # where we were called from
    # zennit, and torchvision with it, take a second to import, and few networks need them.
    from .reference.engine import ReferenceEngine

    return ReferenceEngine(model, shape, preset), EngineChoice("reference", reason)


def _fingerprint(model: nn.Module) -> tuple[tuple[int, int], ...]:
    """Identify the current values of all weights: where they lie, how often they were written."""
    return tuple(
        (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
        for tensor in (*model.parameters(), *model.buffers())
    )
