"""Layer-wise relevance propagation: which pixels speak for an Action Unit (paper §3.2).

:func:`explain` turns presence logits into relevance maps, all (frame, AU) pairs of a batch at
once. It chooses between the two engines, prepares a network for the chosen one and keeps it
prepared while its weights stay the same.
"""

from __future__ import annotations

import inspect
import warnings
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..backend import arithmetic
from ..config import DEFAULT_LRP_PRESET
from ..errors import ConfigError, ModelError, SlowEngineWarning
from ..network.folding import example_input, fold_batchnorm
from ..network.forks import note_use
from ..network.weight_watch import WeightWatch
from ..steps import timed
from .fused.cuda_graphs import CudaGraphEngine
from .fused.engine import (
    CHUNK_BYTES,
    TF32,
    Counts,
    ForwardPass,
    FusedEngine,
    Reduced,
    is_out_of_memory,
    with_less_memory,
)
from .fused.lower import UnsupportedNetworkError
from .kinds import check_kind, plain, whole
from .presets import Preset, lrp_preset

if TYPE_CHECKING:
    from .reference.engine import ReferenceEngine

__all__ = [
    "CHUNK_BYTES",
    "ENGINES",
    "PRECISIONS",
    "TF32",
    "Counts",
    "EngineChoice",
    "Forward",
    "SlowEngineWarning",
    "UnsupportedNetworkError",
    "counts_of",
    "engine_of",
    "explain",
    "forward",
    "record",
    "recorded_engine",
]

PRECISIONS: dict[str, Reduced] = {"float32": None, "bfloat16": torch.bfloat16, "tf32": TF32}
"""Name of a precision → the ``dtype`` of :func:`explain` for a network of float32 weights. ``tf32``
is for GPUs only."""
ENGINES = ("auto", "fused", "reference")
"""The names of engines; ``auto`` takes the fused one wherever it can."""

_FUSED = (FusedEngine, CudaGraphEngine)
# How often one network stays prepared, per preset, engine, input shape and dtype. A live stream
# needs one; comparing presets or sizes needs a few.
_MAX_PREPARED = 8


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which engine explains a network.

    Attributes:
        name: ``fused`` or ``reference``.
        reason: why it is not the fused one; empty if it is, or if the reference engine was asked
            for.
    """

    name: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Prepared:
    weights: WeightWatch  # as they were when it was prepared
    engine: FusedEngine | CudaGraphEngine | ReferenceEngine
    choice: EngineChoice
    dtype: torch.dtype  # of the weights


_warned: weakref.WeakSet[nn.Module] = weakref.WeakSet()
# Preparing a network takes tens of milliseconds; a live stream explains the same one every frame.
_prepared: weakref.WeakKeyDictionary[nn.Module, dict[Any, _Prepared]] = weakref.WeakKeyDictionary()


@timed("lrp")
def explain(
    model: nn.Module,
    x: torch.Tensor,
    pairs: Sequence[tuple[int, int]],
    preset: str = DEFAULT_LRP_PRESET,
    engine: str = "auto",
    stop: int | None = None,
    *,
    dtype: Reduced = None,
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
        model: ``(B, C, H, W)`` → ``(B, A)`` logits, before any sigmoid. Evaluated in eval mode. Of
            one that ``torch.compile`` made, the network that it was given is explained. Float16
            and bfloat16 weights are taken to float32 for it.
        x: ``(B, C, H, W)`` floating-point network input; taken to the dtype of the weights.
        pairs: P pairs (row of ``x``, number of the output), in any order, repeated or not.
        preset: LRP preset, see :data:`LRP_PRESETS` and :data:`ALIASES`.
        engine: one of :data:`ENGINES`. All give the same maps. Where ``auto`` cannot take the fused
            one, a :class:`SlowEngineWarning` says so once per network.
        stop: end at the first value, from the input up, that has at most this many rows and columns
            and that all relevance passes, and return the maps of that value. They show the
            relevance of features instead of pixels: good for descriptors, and cheaper. They are
            summed over channels, so no relevance is lost or blurred. Only the fused engine can do
            this; the reference engine goes on to the pixels.
        dtype: of the inner convolutions in the fused engine's backward pass, such as
            ``torch.bfloat16`` where the hardware is fast with it; logits, activations, divisions
            and maps stay in the dtype of the weights. :data:`TF32` lets a GPU round what it
            multiplies there to 10 bits; without it none does. The reference engine takes neither.
        check: refuse input that is not finite. The check waits for a GPU; a caller who knows where
            the input comes from can leave it out and look at the maps.

    Returns:
        ``(P, H, W)`` on the model's device, of the dtype of its weights: relevance in logit
        units, summed over the channels. With ``stop``, H and W are those of the value it ends at.
        Memory is bounded by :data:`CHUNK_BYTES`, or by
        :data:`~facestage.core.lrp.reference.engine.MAX_BATCH` frames at a time in the reference
        engine.

    Raises:
        ConfigError: no preset or engine has that name; no value in the network is as small as
            ``stop``; a dtype is given, but the reference engine runs.
        UnsupportedNetworkError: the fused engine was asked for and has no rule for a part of the
            network.
        ModelError: a pair is out of range, input or weights are not finite, the network does not
            accept the input, or is of a kind LRP has no rule for: TorchScript, quantised, or with
            a GroupNorm, LayerNorm or InstanceNorm.

    References:
        Bach et al., PLoS ONE 10(7), 2015; Kohlbrenner et al., IJCNN 2020 (preset A).
    """
    rules = lrp_preset(preset)
    _check_request(x, stop)
    if not len(pairs) and stop is None:
        return x.new_zeros((0, *x.shape[2:]))
    # Tensors made in inference mode cannot be differentiated through; leave it for the call.
    with torch.inference_mode(False), torch.no_grad():
        prepared = _prepare(model, tuple(x.shape[1:]), rules, engine, dtype)
        chosen_engine = prepared.engine
        _check_dtype(prepared, dtype)
        frames, outputs = _split_pairs(pairs, len(x), chosen_engine.outputs)
        x = x.to(chosen_engine.device)
        if check:
            _check_finite(x)
        if isinstance(chosen_engine, _FUSED):
            maps = chosen_engine.relevance(x, frames, outputs, stop)
        elif not frames:
            maps = x.new_zeros((0, *x.shape[2:]))
        else:
            with arithmetic(chosen_engine.device):
                maps = chosen_engine.relevance(x, frames, outputs)
        return maps.to(prepared.dtype)


def _check_request(x: torch.Tensor, stop: int | None) -> None:
    if x.ndim != 4 or not x.is_floating_point():
        raise ModelError(
            f"explain needs float input of shape (B, C, H, W), got {tuple(x.shape)} {x.dtype}; "
            "normalise crops first (AUNetwork.prepare)"
        )
    if stop is not None and stop < 1:
        raise ConfigError(f"relevance cannot stop at {stop} px; use 1 or more, or None for pixels")


def _check_dtype(prepared: _Prepared, dtype: Reduced) -> None:
    if dtype is not None and not isinstance(prepared.engine, _FUSED):
        why = f" ({prepared.choice.reason})" if prepared.choice.reason else ""
        raise ConfigError(
            f"the reference LRP engine{why} computes in the precision of the weights; leave "
            f"out {str(dtype).removeprefix('torch.')}"
        )


def _check_finite(x: torch.Tensor) -> None:
    # A sum would overflow where no value does; extremes pass NaN on and read the input once.
    if x.numel() and not bool(torch.isfinite(torch.stack(torch.aminmax(x))).all()):
        raise ModelError(
            "the input has values that are not finite (NaN or infinite); look at how it was "
            "normalised"
        )


class Forward:
    """Frames that ran forward and can be explained; see :func:`forward`.

    Attributes:
        logits: ``(B, A)``.
        hidden: ``(B, F)`` input of the dense layer whose output is the logits; None without such a
            layer.
        features: ``(B, G)`` input of the dense layer before that one; None without one.
    """

    def __init__(self, engine: FusedEngine, forward_pass: ForwardPass) -> None:
        self._engine, self._forward_pass = engine, forward_pass
        self.logits = forward_pass.values[-1]
        self.hidden = engine.hidden(forward_pass)
        self.features = engine.features(forward_pass)

    @timed("lrp")
    def explain(self, pairs: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Compute one relevance map per (frame, output) pair.

        Args:
            pairs: as for :func:`~facestage.core.lrp.explain`.

        Returns:
            ``(P, H, W)``, as of :func:`~facestage.core.lrp.explain`. Whether the input was finite
            is not checked.

        Raises:
            ModelError: a pair is out of range.
        """
        frames, outputs = _split_pairs(pairs, len(self.logits), self._engine.outputs)
        with torch.inference_mode(False), torch.no_grad():
            self._engine.counts.frames += len(set(frames))
            return with_less_memory(
                self._engine, lambda: self._engine.explain(self._forward_pass, frames, outputs, 0)
            )


@timed("forward")
def forward(
    model: nn.Module,
    x: torch.Tensor,
    preset: str = DEFAULT_LRP_PRESET,
    dtype: Reduced = None,
) -> Forward | None:
    """Run a network forward so that its logits can be explained without a second forward pass.

    Args:
        model, preset, dtype: see :func:`explain`.
        x: ``(B, C, H, W)`` floating-point network input.

    Returns:
        The logits, ready to be explained. None where :func:`explain` has to run the network
        itself: on a GPU, where one graph holds both passes; through the reference engine; without
        frames; and for more frames than fit one round or the memory.

    Raises:
        ConfigError: no preset has that name.
        ModelError: neither engine can explain the network.
    """
    if not len(x) or x.device.type != "cpu":
        return None
    with torch.inference_mode(False), torch.no_grad():
        engine = _prepare(model, tuple(x.shape[1:]), lrp_preset(preset), "auto", dtype).engine
        if not isinstance(engine, FusedEngine) or len(x) > engine.frames_at_once:
            return None
        try:
            return Forward(engine, engine.forward(x))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None


def _split_pairs(
    pairs: Sequence[tuple[int, int]], frames: int, outputs: int
) -> tuple[list[int], list[int]]:
    """Return the frames and the outputs of pairs.

    Raises:
        ModelError: a pair is out of range.
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

    Counts of an engine that has been dropped (new weights, many shapes) are lost.
    """
    total = Counts()
    for prepared in _prepared.get(plain(model), {}).values():
        if isinstance(prepared.engine, _FUSED):
            for name in Counts.__dataclass_fields__:
                count = getattr(prepared.engine.counts, name)
                setattr(total, name, getattr(total, name) + count)
    return total


def engine_of(
    model: nn.Module,
    shape: Sequence[int],
    preset: str = DEFAULT_LRP_PRESET,
    dtype: Reduced = None,
) -> EngineChoice:
    """Tell which engine ``auto`` uses for a network, which prepares the network.

    Args:
        model: see :func:`explain`.
        shape: ``(C, H, W)`` of its input.
        preset: see :func:`explain`.
        dtype: see :func:`explain`.

    Returns:
        The engine, and which part of the network the fused one has no rule for.

    Raises:
        ConfigError: no preset has that name.
        ModelError: neither engine can explain the network.
    """
    with torch.inference_mode(False), torch.no_grad():
        return _prepare(model, tuple(shape), lrp_preset(preset), "auto", dtype).choice


def record(
    model: nn.Module,
    shape: Sequence[int],
    preset: str = DEFAULT_LRP_PRESET,
    dtype: Reduced = None,
    *,
    most_pairs: int,
) -> None:
    """Record the CUDA graphs that explain one frame, so that no frame has to wait for it.

    On a CPU, and where the reference engine runs, nothing is recorded.

    Args:
        model, shape, preset, dtype: see :func:`engine_of`.
        most_pairs: most outputs of one frame that are to be explained, at least 1.

    Raises:
        ConfigError: no preset has that name.
        ModelError: neither engine can explain the network.
    """
    with torch.inference_mode(False), torch.no_grad():
        engine = _prepare(model, tuple(shape), lrp_preset(preset), "auto", dtype).engine
        if isinstance(engine, CudaGraphEngine):
            engine.record(most_pairs)


def recorded_engine(
    model: nn.Module,
    shape: Sequence[int],
    preset: str = DEFAULT_LRP_PRESET,
    dtype: Reduced = None,
) -> FusedEngine | None:
    """Return the fused engine of a network whose work can be recorded as CUDA graphs.

    Another one is returned after the weights have changed.

    Args:
        model, shape, preset, dtype: see :func:`engine_of`.

    Returns:
        The engine; None on a CPU, and where the reference engine runs.

    Raises:
        ConfigError: no preset has that name.
        ModelError: neither engine can explain the network.
    """
    if _device_of(model).type == "cpu":
        return None
    with torch.inference_mode(False), torch.no_grad():
        engine = _prepare(model, tuple(shape), lrp_preset(preset), "auto", dtype).engine
        return engine.engine if isinstance(engine, CudaGraphEngine) else None


def _prepare(
    model: nn.Module,
    shape: tuple[int, ...],
    preset: Preset,
    engine: str,
    dtype: Reduced,
) -> _Prepared:
    """Return the prepared network; it is prepared again when its weights have changed."""
    if engine not in ENGINES:
        raise ConfigError(f"unknown LRP engine {engine!r}; use one of {', '.join(ENGINES)}")
    model = plain(model)
    prepared_of_model = _prepared.setdefault(model, {})
    key = (preset.name, engine, shape, dtype)
    prepared = prepared_of_model.get(key)
    if prepared is None or not prepared.weights.unchanged(model):
        prepared_of_model.pop(key, None)
        while len(prepared_of_model) >= _MAX_PREPARED:
            prepared_of_model.pop(next(iter(prepared_of_model)))
        weights = WeightWatch(model)
        new_engine, choice = _make_engine(model, shape, preset, engine, dtype)
        own = next((w.dtype for w in model.parameters() if w.is_floating_point()), torch.float32)
        prepared = prepared_of_model[key] = _Prepared(weights, new_engine, choice, own)
    return prepared


def _make_engine(
    model: nn.Module,
    shape: tuple[int, ...],
    preset: Preset,
    engine: str,
    dtype: Reduced,
) -> tuple[FusedEngine | CudaGraphEngine | ReferenceEngine, EngineChoice]:
    note_use()
    check_kind(model)
    _check_weights(model)
    exact = whole(model)
    with arithmetic(_device_of(exact)):
        example, folded = _fold(exact, shape)
    reason = ""
    if engine != "reference":
        try:
            fused = FusedEngine(folded, example, preset, dtype)
            on_gpu = fused.device.type == "cuda"
            return (CudaGraphEngine(fused) if on_gpu else fused), EngineChoice("fused")
        except UnsupportedNetworkError as error:
            if engine == "fused":
                raise
            reason = error.reason
            if model not in _warned:
                _warned.add(model)
                message = (
                    f"{type(model).__name__} goes to the reference LRP engine, many times slower: "
                    f"{reason}"
                )
                # Named is the line that called explain, engine_of, forward or record, however many
                # functions of the package lie between.
                warnings.warn(message, SlowEngineWarning, stacklevel=_outside())
    # zennit, and torchvision with it, take a second to import, and few networks need them.
    from .reference.engine import ReferenceEngine

    return ReferenceEngine(exact, shape, preset), EngineChoice("reference", reason)


def _outside() -> int:
    """Return the ``stacklevel`` by which a warning names the first line outside the package."""
    package = f"{__name__.removesuffix('.core.lrp.api')}."
    level, frame = 0, inspect.currentframe()
    while frame is not None and (level == 0 or frame.f_globals["__name__"].startswith(package)):
        level, frame = level + 1, frame.f_back
    return level


def _check_weights(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"{name} of {type(model).__name__} has values that are not finite (NaN or "
                "infinite); load weights that are whole"
            )


def _device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _fold(model: nn.Module, shape: tuple[int, ...]) -> tuple[torch.Tensor, nn.Module]:
    """Return an example input, and the network without BatchNorm."""
    try:
        example = example_input(model, shape)
        return example, fold_batchnorm(model, example)
    except RuntimeError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{type(model).__name__} does not accept input of shape "
            f"(B, {', '.join(map(str, shape))}): {reason}; give it the input it was made for"
        ) from error
