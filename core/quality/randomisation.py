"""Does the map depend on what the network learned? Model-parameter randomisation.

Layer by layer from the output down, learned weights are shuffled; a map that stays the same does
not show what those weights know. It is a *necessary* condition only, and one that propagation rules
with positive contributions are known to meet badly for the layers near the output.

References:
    Adebayo et al., *Sanity Checks for Saliency Maps*, NeurIPS 2018 (cascading randomisation).
    Sixt, Granz & Landgraf, *When Explanations Lie: Why Many Modified BP Attributions Fail*, ICML
    2020. Binder et al., *Shortcomings of Top-Down Randomization-Based Sanity Checks*, CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from ..config import DEFAULT_LRP_PRESET
from ..errors import ConfigError, ModelError
from ..lrp import explain
from ..network.folding import frozen_copy
from ..relevance import describe

__all__ = ["Randomisation", "cosines", "randomise", "rank_correlations", "weighted_layers"]


@dataclass(frozen=True, slots=True, eq=False)
class Randomisation:
    """How far maps stay the same while a network forgets, from the output down.

    Attributes:
        layers: names of the S layers in the order they were randomised. Row s of the figures is of
            the network in which ``layers[: s + 1]`` are random, so the last row is of one in which
            all are.
        cosine: ``(S, P)`` float64, cosine between the positive descriptors of the first and the
            randomised network's map, 0–1; NaN where either has no positive relevance.
        rank: ``(S, P)`` float64, Spearman rank correlation of the signed pixels, −1 to 1; NaN for a
            constant map.
    """

    layers: tuple[str, ...]
    cosine: NDArray[np.float64]
    rank: NDArray[np.float64]


def randomise(
    model: nn.Module,
    x: torch.Tensor,
    pairs: Sequence[tuple[int, int]],
    preset: str = DEFAULT_LRP_PRESET,
    *,
    maps: ArrayLike | None = None,
    seed: int = 0,
    on_layer: Callable[[str], None] = lambda name: None,
) -> Randomisation:
    """Randomise layers one after another, from the output to the input, and compare the maps.

    The weights of a layer are shuffled among themselves, and its biases likewise: it keeps their
    distribution and loses what they mean. Weights of exactly zero stay where they are: in a masked
    layer they are its layout (which AU may look where), not something learned, and Adebayo's test
    is about what was learned. ``model`` is not changed.

    Args:
        model: ``(B, C, H, W)`` → ``(B, A)`` logits.
        x: ``(B, C, H, W)`` network input.
        pairs: P pairs (row of ``x``, number of the output).
        preset: LRP preset.
        maps: ``(P, H, W)`` maps of the untouched network; explained when not given.
        seed: of the shuffles.
        on_layer: called with the name of each layer before it is randomised.

    Returns:
        Similarities per layer.

    Raises:
        ModelError: the network has no layer with weights, or cannot be explained.
        ConfigError: no preset of that name.

    References:
        Adebayo et al. 2018, §3.1.
    """
    layers = weighted_layers(model, x[:1])
    if not layers:
        raise ModelError(f"{type(model).__name__} has no layer with weights to randomise")
    before = explain(model, x, pairs, preset).cpu().numpy() if maps is None else np.asarray(maps)
    generator = torch.Generator().manual_seed(seed)
    twin = frozen_copy(model)
    cosine, rank = [], []
    for name in reversed(layers):
        on_layer(name)
        _shuffle(twin.get_submodule(name), generator)
        after = explain(twin, x, pairs, preset).cpu().numpy()
        cosine.append(cosines(before, after))
        rank.append(rank_correlations(before, after))
    return Randomisation(tuple(reversed(layers)), np.stack(cosine), np.stack(rank))


def weighted_layers(model: nn.Module, x: torch.Tensor) -> list[str]:
    """Return the names of the modules with weights of their own, in the order they run.

    Args:
        model: any network.
        x: ``(B, C, H, W)`` an input of it.
    """
    names: list[str] = []
    handles = []
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:

            def note(_module: nn.Module, _args: object, name: str = name) -> None:
                if name not in names:
                    names.append(name)

            handles.append(module.register_forward_pre_hook(note))
    try:
        with torch.no_grad():
            model.eval()(x)
    finally:
        for handle in handles:
            handle.remove()
    return names


def cosines(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    """Return ``(P,)`` cosines between the positive descriptors of two stacks of maps.

    Args:
        before, after: ``(P, H, W)``.

    Returns:
        0–1 each; NaN where either map has no positive relevance.
    """
    first, first_valid = (part.numpy() for part in describe(np.asarray(before)))
    second, second_valid = (part.numpy() for part in describe(np.asarray(after)))
    values = np.einsum("pd,pd->p", first.astype(np.float64), second.astype(np.float64))
    return np.where(first_valid & second_valid, values, np.nan)


def rank_correlations(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    """Return ``(P,)`` Spearman rank correlations of the pixels of two stacks of maps.

    Args:
        before, after: ``(P, H, W)`` signed relevance.

    Returns:
        −1 to 1 each; NaN where either map is constant.

    Raises:
        ConfigError: the shapes differ.
    """
    a, b = np.asarray(before), np.asarray(after)
    if a.ndim != 3 or a.shape != b.shape:
        raise ConfigError(f"two stacks of maps (P, H, W) are compared, got {a.shape} and {b.shape}")
    from scipy.stats import rankdata  # takes .3 s, which every other command would wait for

    ranks = [rankdata(s.reshape(len(s), -1), axis=1) for s in (a, b)]
    centred = [r - r.mean(axis=1, keepdims=True) for r in ranks]
    norms = np.linalg.norm(centred[0], axis=1) * np.linalg.norm(centred[1], axis=1)
    return (centred[0] * centred[1]).sum(axis=1) / np.where(norms > 0, norms, np.nan)


@torch.no_grad()
def _shuffle(layer: nn.Module, generator: torch.Generator) -> None:
    """Shuffle the values of each parameter of a layer that are not zero, into new memory."""
    for name, parameter in list(layer.named_parameters(recurse=False)):
        # The copy shares memory with the original, so nothing is written in place.
        values = parameter.detach().clone().reshape(-1)
        learned = torch.nonzero(values).reshape(-1)
        order = torch.randperm(len(learned), generator=generator).to(values.device)
        values[learned] = values[learned[order]]
        setattr(layer, name, nn.Parameter(values.reshape(parameter.shape), requires_grad=False))
