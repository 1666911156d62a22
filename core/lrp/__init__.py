"""Layer-wise relevance propagation: which pixels speak for an Action Unit (paper §3.2).

:func:`explain` turns presence logits into relevance maps, all (frame, AU) pairs of a batch at
once. Presets are data (:mod:`.presets`); :mod:`.reference` runs them through zennit.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import nn

from ..errors import ModelError
from .presets import ALIASES, PRESETS, Preset, preset_by_name
from .reference import MAX_BATCH, ReferenceEngine

__all__ = ["ALIASES", "MAX_BATCH", "PRESETS", "Preset", "explain", "preset_by_name"]

# Preparing a network takes tens of milliseconds; a live stream explains the same one every frame.
_Prepared = dict[str, tuple[object, ReferenceEngine]]
_prepared: weakref.WeakKeyDictionary[nn.Module, _Prepared] = weakref.WeakKeyDictionary()


def explain(
    model: nn.Module,
    x: torch.Tensor,
    pairs: Sequence[tuple[int, int]],
    preset: str = "innvestigate_a_flat",
) -> torch.Tensor:
    """Compute one relevance map per (frame, output) pair.

    The logit itself is the relevance to start from (paper eq. 1: a map decomposes f(x); what
    biases and ε absorb is missing from its sum).
    The model is neither changed nor hooked. It is prepared at its first use (copy with shared
    weights, BatchNorm folded) and again after its weights change. One thread at a time
    may explain the same model.

    Args:
        model: ``(B, C, H, W)`` → ``(B, A)`` logits, before any sigmoid. Evaluated in eval mode.
        x: ``(B, C, H, W)`` float32 network input.
        pairs: P pairs (row of ``x``, number of the output), in any order.
        preset: LRP preset, see :data:`PRESETS` and :data:`ALIASES`.

    Returns:
        ``(P, H, W)`` float32 on the model's device: relevance in logit units, summed over the
        channels. At most :data:`MAX_BATCH` frames are in memory at a time.

    Raises:
        ConfigError: no preset of that name.
        ModelError: a pair is out of range, or the network is of a kind LRP has no rule for.

    References:
        Bach et al., PLoS ONE 10(7), 2015; Kohlbrenner et al., IJCNN 2020 (preset A).
    """
    rules = preset_by_name(preset)
    if x.ndim != 4 or not x.is_floating_point():
        raise ModelError(
            f"explain needs float input of shape (B, C, H, W), got {tuple(x.shape)} {x.dtype}; "
            "normalise crops first (AUNetwork.prepare)"
        )
    if not len(pairs):
        return x.new_zeros((0, *x.shape[2:]))
    frames = [int(frame) for frame, _ in pairs]
    outputs = [int(output) for _, output in pairs]
    if min(frames) < 0 or max(frames) >= len(x):
        raise ModelError(
            f"pairs name frames {min(frames)} to {max(frames)}, but the batch has {len(x)}"
        )
    # Tensors made in inference mode cannot be differentiated through; leave it for the call.
    with torch.inference_mode(False), torch.no_grad():
        engine = _engine(model, x, rules)
        if min(outputs) < 0 or max(outputs) >= engine.outputs:
            raise ModelError(
                f"pairs name outputs {min(outputs)} to {max(outputs)}, but the network has "
                f"{engine.outputs}"
            )
        return engine.relevance(x.to(engine.device), frames, outputs)


def _engine(model: nn.Module, x: torch.Tensor, preset: Preset) -> ReferenceEngine:
    """Return the prepared network, made anew when its weights have changed."""
    state = _fingerprint(model)
    engines = _prepared.setdefault(model, {})
    known, engine = engines.get(preset.name, (None, None))
    if engine is None or known != state:
        engine = ReferenceEngine(model, x.shape[1:], preset)
        engines[preset.name] = (state, engine)
    return engine


def _fingerprint(model: nn.Module) -> tuple[tuple[int, int], ...]:
    """Identify the current values of all weights: where they lie, how often they were written."""
    return tuple(
        (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
        for tensor in (*model.parameters(), *model.buffers())
    )
