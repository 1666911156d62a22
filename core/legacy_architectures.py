"""Layer structures that a model card can name, built from plain tensors.

References:
    Pahl, Rieger & Seuss, *Multi-label Learning with Missing Values using Combined Facial Action
    Unit Datasets*, 2020: one network, one logit per AU, any combination of data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import nn

from .errors import ModelError
from .folding import fold_batchnorm
from .model_card import ModelCard

__all__ = ["ARCHITECTURES", "SplitHeads"]


class _AUNet96(nn.Module):
    """The embedded architecture: nine convolutions, one hidden dense layer, three heads.

    ``96 → 48 (5×5, stride 2) → 24 → 12 → 6``, max-pooled between pairs of 3×3 convolutions.
    """

    file_names: ClassVar[dict[str, str]] = {"features": "f", "head": "h", "landmarks": "lm"}
    widths = (24, 48, 96, 128)
    reduced = 64
    hidden = 160

    def __init__(self, outputs: int, landmarks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []

        def conv(given: int, made: int, kernel: int = 3, stride: int = 1) -> None:
            layers.append(nn.Conv2d(given, made, kernel, stride, kernel // 2, bias=False))
            layers.extend((nn.BatchNorm2d(made), nn.ReLU()))

        conv(1, self.widths[0], kernel=5, stride=2)
        conv(self.widths[0], self.widths[0])
        for given, made in zip(self.widths, self.widths[1:], strict=False):
            layers.append(nn.MaxPool2d(2))
            conv(given, made)
            conv(made, made)
        conv(self.widths[-1], self.reduced, kernel=1)
        self.features = nn.Sequential(*layers)
        flat = self.reduced * 6 * 6
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(flat, self.hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(self.hidden, outputs),
        )
        self.landmarks = nn.Linear(flat, landmarks)

    def file_key(self, key: str) -> str:
        """Return the name under which the weights file holds a parameter."""
        part, _, rest = key.partition(".")
        return f"{self.file_names[part]}.{rest}"

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.features(x)
        return self.head(features), self.landmarks(features.flatten(1))


class SplitHeads(nn.Module):
    """Folded ``_AUNet96`` with presence and intensity as separate dense layers.

    Separate layers let the presence path be explained as a plain sequence of the same modules.
    """

    def __init__(self, net: _AUNet96, aus: int) -> None:
        super().__init__()
        self.features = net.features
        self.hidden = nn.Sequential(net.head[0], net.head[2], net.head[3])
        last = net.head[5]
        assert isinstance(last, nn.Linear)
        self.presence = _rows(last, slice(0, aus))
        self.intensity = _rows(last, slice(aus, 2 * aus))
        self.landmarks = net.landmarks

    def presence_logits(self) -> nn.Sequential:
        """Return the path from crop to presence logits, without the identities folding leaves."""
        path = (*self.features, *self.hidden, self.presence)
        return nn.Sequential(*(layer for layer in path if not isinstance(layer, nn.Identity)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        features = self.features(x)
        hidden = self.hidden(features)
        return self.presence(hidden), self.intensity(hidden), self.landmarks(features.flatten(1))


def _rows(layer: nn.Linear, rows: slice) -> nn.Linear:
    """Return a dense layer of some of the outputs of another."""
    weight = layer.weight[rows].detach().clone()
    part = nn.Linear(weight.shape[1], weight.shape[0])
    part.weight = nn.Parameter(weight, requires_grad=False)
    part.bias = nn.Parameter(layer.bias[rows].detach().clone(), requires_grad=False)
    return part


def _build_au_net_96(card: ModelCard, weights: Mapping[str, torch.Tensor], name: str) -> SplitHeads:
    """Build the embedded architecture from its weights."""
    aus = len(card.aus)
    if card.input_size != 96 or card.landmarks is None:
        raise ModelError(
            f"{name}: architecture 'au_net_96' needs an input size of 96 and a landmark head, its "
            f"card says {card.input_size} and "
            f"{'a' if card.landmarks else 'no'} landmark head; correct the card"
        )
    last = weights.get("h.5.weight")
    if last is not None and last.shape[0] != 2 * aus:
        raise ModelError(
            f"{name}: the weights have {last.shape[0]} outputs, but the card lists {aus} AUs, "
            f"which need {2 * aus} (presence and intensity); use the card made with these weights"
        )
    net = _AUNet96(2 * aus, 2 * card.landmarks.count)
    ours = {key: net.file_key(key) for key in net.state_dict()}
    wanted = {
        ours[key]: value
        for key, value in net.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    problems = [f"{key} is missing" for key in wanted if key not in weights]
    problems += [f"{key} is not part of the architecture" for key in weights if key not in wanted]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(
            f"{name} does not fit architecture {card.architecture!r}: "
            f"{', '.join(problems[:3])}{more}; use weights trained for it"
        )
    net.load_state_dict({k: weights[ours[k]] for k in ours if ours[k] in weights}, strict=False)
    example = torch.randn((2, 1, 96, 96), generator=torch.Generator().manual_seed(0))
    folded = fold_batchnorm(net, example)
    assert isinstance(folded, _AUNet96)
    return SplitHeads(folded, aus)


Builder = Callable[[ModelCard, Mapping[str, torch.Tensor], str], SplitHeads]

ARCHITECTURES: dict[str, Builder] = {
    "au_net_96": _build_au_net_96,
}
"""Architecture id of a card → builder (card, weights, file name) of the network."""
