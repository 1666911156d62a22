"""How much of a logit arrives in its map, and where the rest went.

Relevance is conserved by a rule up to what biases and ε take in: they are not pixels. The presets
here start from the logit and keep the biases in their denominators, so a map sums to less (or more)
than the logit.

References:
    Bach et al., PLoS ONE 10(7), 2015, eq. 2 and 58 (conservation, and ε and bias as its limits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import nn

from ..config import DEFAULT_LRP_PRESET
from ..errors import ConfigError
from ..lrp import lrp_preset

__all__ = ["Conservation", "conserve"]

_TAIL = (nn.Linear, nn.ReLU, nn.Flatten, nn.Dropout, nn.Identity)


@dataclass(frozen=True, slots=True, eq=False)
class Conservation:
    """Where the logits of P maps went; ``(P,)`` float64 each, logit units.

    ``logit = total + dense_bias + dense_epsilon + rest`` holds exactly where the parts are known.

    Attributes:
        logit: what was explained.
        total: sum of the map.
        dense_bias, dense_epsilon: what biases and ε of the dense layers at the end of the network
            took in; NaN for a network that does not end in a plain sequence of them, and for
            presets that start from something else than the logit.
        rest: what is left: biases of convolutions, and their stabiliser, which is tiny. NaN with
            the two above.
        positive: positive relevance ÷ sum of absolute relevance, 0–1; NaN for an empty map. Far
            below 1 the map shows more against the AU than for it, and the positive part, which is
            what clustering sees, is a remainder.
    """

    logit: NDArray[np.float64]
    total: NDArray[np.float64]
    dense_bias: NDArray[np.float64]
    dense_epsilon: NDArray[np.float64]
    rest: NDArray[np.float64]
    positive: NDArray[np.float64]

    @property
    def error(self) -> NDArray[np.float64]:
        """``(P,)`` sum of the map − logit."""
        return self.total - self.logit


@torch.inference_mode()
def conserve(
    model: nn.Module,
    x: torch.Tensor,
    pairs: Sequence[tuple[int, int]],
    maps: ArrayLike,
    preset: str = DEFAULT_LRP_PRESET,
) -> Conservation:
    """Compare the sum of each map with its logit.

    Args:
        model: ``(B, C, H, W)`` → ``(B, A)`` logits.
        x: ``(B, C, H, W)`` network input.
        pairs: P pairs (row of ``x``, number of the output).
        maps: ``(P, H, W)`` their maps under ``preset``.
        preset: LRP preset, for its ε.

    Returns:
        The balance of each map.

    Raises:
        ConfigError: no preset of that name, or not one map per pair.
    """
    rules = lrp_preset(preset)
    stack = np.asarray(maps, np.float64)
    if stack.ndim != 3 or len(stack) != len(pairs):
        raise ConfigError(f"{len(pairs)} pairs need as many maps, got shape {stack.shape}")
    rows = torch.tensor([row for row, _ in pairs], device=x.device, dtype=torch.long)
    outputs = torch.tensor([output for _, output in pairs], device=x.device, dtype=torch.long)
    model.eval()
    body, tail = _split(model)
    features = body(x) if tail else x
    logits = features
    for layer in tail or (model,):
        logits = layer(logits)
    chosen = logits[rows, outputs].double().cpu().numpy()
    bias = eps = np.full(len(pairs), np.nan)
    # Relevance that does not start from the logit alone is not to be found in it again.
    if tail and rules.head == "epsilon" and not rules.contrast:
        bias, eps = _dense_losses(features, tail, rows, outputs, rules.epsilon)
    total = stack.sum(axis=(1, 2))
    absolute = np.abs(stack).sum(axis=(1, 2))
    return Conservation(
        logit=chosen,
        total=total,
        dense_bias=bias,
        dense_epsilon=eps,
        rest=chosen - total - bias - eps,
        positive=np.maximum(stack, 0).sum(axis=(1, 2)) / np.where(absolute > 0, absolute, np.nan),
    )


def _split(model: nn.Module) -> tuple[nn.Module, tuple[nn.Module, ...]]:
    """Split a sequential network before its dense layers; an empty tail where it has none."""
    if not isinstance(model, nn.Sequential):
        return model, ()
    layers = list(model)
    cut = len(layers)
    while cut and isinstance(layers[cut - 1], _TAIL):
        cut -= 1
    # Activations before the flattening belong to the convolutions.
    while cut < len(layers) and isinstance(layers[cut], (nn.ReLU, nn.Dropout, nn.Identity)):
        cut += 1
    tail = tuple(layers[cut:])
    if not any(isinstance(layer, nn.Linear) for layer in tail) or cut == 0:
        return model, ()
    return nn.Sequential(*layers[:cut]), tail


def _dense_losses(
    features: torch.Tensor,
    tail: Sequence[nn.Module],
    rows: torch.Tensor,
    outputs: torch.Tensor,
    epsilon: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Follow the ε-rule through dense layers; return what biases and ε keep, ``(P,)`` each.

    With s_j = R_j / (z_j + ε·s(z_j)) the rule hands Σ_i x_i w_ij s_j = (z_j − b_j) s_j on, so the
    bias keeps b_j s_j and ε keeps ε·s(z_j) s_j.
    """
    value = features.double()
    # Each dense layer with its input and output.
    saved: list[tuple[nn.Linear, torch.Tensor, torch.Tensor]] = []
    for layer in tail:
        if isinstance(layer, nn.Linear):
            bias = None if layer.bias is None else layer.bias.double()
            output = F.linear(value, layer.weight.double(), bias)
            saved.append((layer, value, output))
            value = output
        else:
            value = layer(value)
    relevance = torch.zeros((len(rows), value.shape[1]), dtype=value.dtype, device=value.device)
    at = torch.arange(len(rows), device=value.device)
    relevance[at, outputs] = value[rows, outputs]
    lost_bias = relevance.new_zeros(len(rows))
    lost_epsilon = relevance.new_zeros(len(rows))
    for layer, inputs, output in reversed(saved):
        z = output[rows]
        stabiliser = torch.where(z < 0, -epsilon, epsilon)
        s = relevance / (z + stabiliser)
        if layer.bias is not None:
            lost_bias += s @ layer.bias.double()
        lost_epsilon += (s * stabiliser).sum(dim=1)
        relevance = inputs[rows] * (s @ layer.weight.double())
    return lost_bias.cpu().numpy(), lost_epsilon.cpu().numpy()
