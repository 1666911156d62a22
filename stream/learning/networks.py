"""Networks that can be trained: begun from a file or from scratch, ended as weights with a card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from ...core.errors import ModelError
from ...core.network.architectures import LAYOUTS, au_net
from ...core.network.au_network import EMBEDDED, AUNetwork
from ...core.network.card import LandmarkDecoding, ModelCard
from ..files import write_file

__all__ = ["TRAINABLE", "Start", "export", "start"]

_DROPPED = ("grades", "neutral", "rise", "data", "recipe", "evaluation")
"""Fields of a card that say how the weights behave or came to be: not true of other weights."""

TRAINABLE: dict[str, Callable[[Sequence[int], int], nn.Module]] = {
    name: partial(au_net, layout=layout) for name, layout in LAYOUTS.items()
}
"""Architecture id of a card → (AUs, number of landmarks) → network with BatchNorm, whose parameters
have the names of the weights file."""

FROM_SCRATCH = "au_net_96_zoned_2"
"""Architecture of a network begun from scratch."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Where a training run begins.

    Attributes:
        net: the network to train.
        base: the loaded network it begins from (or, from scratch, borrows its alignment from).
        facts: the card it will have, as JSON values; :func:`export` completes it.
        added: AUs that have a new output, not taken from the base.
        landmarks: what the outputs of the landmark head mean.
    """

    net: nn.Module
    base: AUNetwork
    facts: dict[str, Any]
    added: tuple[int, ...]
    landmarks: LandmarkDecoding

    def card(self) -> ModelCard:
        """Return the card as it stands."""
        return ModelCard.from_json({**self.facts, "sha256": "0" * 64})


def start(init: str, coded: Sequence[int], seed: int, device: str = "cpu") -> Start:
    """Make the network that a run begins with.

    A network begun from weights keeps all AUs of these and gets a new output row for every coded
    AU it lacks. From scratch it has the coded AUs only, and the architecture, alignment and
    normalisation of the embedded network.

    Args:
        init: ``embedded``, ``scratch``, or the path of a ``.safetensors`` file with its card.
        coded: AUs that the data labels.
        seed: of the random weights.
        device: of ``base``.

    Raises:
        ModelError: the weights cannot be used, or not be trained.
    """
    scratch = init == "scratch"
    path = EMBEDDED if scratch or init == "embedded" else Path(init).expanduser()
    base = AUNetwork.load(path, device)
    card = base.card
    architecture = FROM_SCRATCH if scratch else card.architecture
    if architecture not in TRAINABLE or card.landmarks is None or card.intensity_scale != 5:
        raise ModelError(
            f"{path} cannot be trained: its architecture is {architecture!r}, with intensity scale "
            f"{card.intensity_scale:g} and {'a' if card.landmarks else 'no'} landmark head; use "
            f"one of {', '.join(sorted(TRAINABLE))} with scale 5 and a landmark head"
        )
    old = () if scratch else card.aus
    aus = tuple(sorted({*old, *coded}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = TRAINABLE[architecture](aus, card.landmarks.count)
    if not scratch:
        _take_over(net, load_safetensors(path.read_bytes()), old, aus)
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    facts = {key: value for key, value in facts.items() if key not in _DROPPED}
    facts |= {"aus": list(aus), "architecture": architecture}
    # Thresholds were found for the old outputs; they hold where nothing is trained.
    untrained = {str(au) for au in old} - {str(au) for au in coded}
    per_au = facts["thresholds"]["per_au"]
    facts["thresholds"]["per_au"] = {au: v for au, v in per_au.items() if au in untrained}
    return Start(net, base, facts, tuple(au for au in aus if au not in old), card.landmarks)


def export(net: nn.Module, facts: Mapping[str, Any], path: Path) -> ModelCard:
    """Write weights and card so that :meth:`AUNetwork.load` reads them.

    Args:
        net: the network, as :func:`start` made it.
        facts: the card but for the sha256, JSON values.
        path: the ``.safetensors`` file; the card goes beside it.

    Returns:
        The card.

    Raises:
        ModelError: a file cannot be written, or the card is not valid.
    """
    state = {
        key: value.detach().float().cpu().contiguous().clone()
        for key, value in net.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    data = save_safetensors(state)
    complete = {**facts, "sha256": hashlib.sha256(data).hexdigest()}
    card = ModelCard.from_json(complete)
    write_file(path, data)
    text = json.dumps(complete, indent=2, ensure_ascii=False, allow_nan=False)
    write_file(path.with_suffix(".json"), f"{text}\n".encode())
    return card


def _take_over(
    net: nn.Module,
    weights: Mapping[str, torch.Tensor],
    old: tuple[int, ...],
    new: tuple[int, ...],
) -> None:
    """Copy weights; output rows go to the place of their AU, rows of added AUs stay random."""
    rows = torch.tensor([new.index(au) for au in old])
    with torch.no_grad():
        for key, target in net.state_dict().items():
            stored = weights.get(key)
            if stored is None:  # num_batches_tracked, which the files leave out
                continue
            if stored.shape == target.shape:
                target.copy_(stored)
                continue
            target[rows] = stored.to(target)
