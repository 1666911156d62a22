"""Layer structures that a model card can name, built from plain tensors.

References:
    Pahl, Rieger & Seuss, *Multi-label Learning with Missing Values using Combined Facial Action
    Unit Datasets*, 2020: one network, one logit per AU, any combination of data sets.
    Zhao, Chu & Zhang, *Deep Region and Multi-label Learning for Facial Action Unit Detection*,
    CVPR 2016: AUs are read from the part of the aligned face where they show.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import ModelError
from .card import ModelCard
from .folding import fold_batchnorm

__all__ = [
    "ARCHITECTURES",
    "FIRST_LAYOUT",
    "LAYOUTS",
    "SECOND_LAYOUT",
    "AUNet96",
    "Layout",
    "SplitHeads",
    "Zone",
    "ZonedLinear",
    "au_net",
]

_CELLS = 6
"""The side of the grid of features that the heads read; a cell is 16 px of a 96 px crop."""


@dataclass(frozen=True, slots=True)
class Zone:
    """A part of the aligned face, and how many hidden units read only this part.

    Attributes:
        rows: first row and the row after the last, cells of the 6×6 grid from the top.
        cols: the same for columns.
        units: hidden units that read these cells only.
    """

    rows: tuple[int, int]
    cols: tuple[int, int]
    units: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Which hidden units there are, and which AU reads which of them.

    Attributes:
        zones: name → zone, in the order of the hidden units.
        reads: AU → names of its zones.
        rest: zones of the lower-face AUs that ``reads`` does not name.
    """

    zones: Mapping[str, Zone]
    reads: Mapping[int, tuple[str, ...]]
    rest: tuple[str, ...] = ("mouth",)

    def zones_of(self, au: int) -> tuple[str, ...]:
        """Return the zones an AU is read from; an AU of which nothing is known reads all."""
        return self.reads.get(au, self.rest if au in _LOWER_FACE else tuple(self.zones))

    def units(self) -> dict[str, slice]:
        """Return which hidden units read each zone."""
        ends = list(itertools.accumulate(zone.units for zone in self.zones.values()))
        starts = [0, *ends]
        return {
            name: slice(start, end)
            for name, start, end in zip(self.zones, starts, ends, strict=False)
        }


_WIDE = (0, 6)
# The sides of the grid beside nose and mouth are cheek, ear and background at most head turns.
_CENTRAL = (1, 5)
_LOWER_FACE = range(11, 29)
_EYES = dict.fromkeys((5, 7, 41, 42, 43, 44, 45, 46), ("eyes",))

FIRST_LAYOUT = Layout(
    {
        "brows": Zone((0, 2), _WIDE, 56),
        "eyes": Zone((1, 3), _WIDE, 56),
        "cheeks": Zone((2, 4), _WIDE, 32),
        "nose": Zone((1, 4), _CENTRAL, 24),
        "upper_lip": Zone((2, 5), _CENTRAL, 32),
        "mouth": Zone((3, 6), _CENTRAL, 112),
    },
    {
        1: ("brows",),
        2: ("brows",),
        4: ("brows",),
        6: ("eyes", "cheeks"),
        9: ("nose",),
        10: ("upper_lip",),
        12: ("upper_lip", "mouth"),
    }
    | _EYES,
)
"""Of architecture ``au_net_96_zoned``."""

SECOND_LAYOUT = Layout(
    {
        # Few units: with more, relevance of AU 1 wanders to the eyes.
        "inner_brows": Zone((0, 2), _WIDE, 8),
        "outer_brows": Zone((0, 2), _WIDE, 16),
        "frown": Zone((0, 2), _WIDE, 32),
        "lids": Zone((1, 3), _WIDE, 32),
        "lips": Zone((3, 6), _CENTRAL, 96),
    }
    | {name: zone for name, zone in FIRST_LAYOUT.zones.items() if name != "brows"},
    {
        **FIRST_LAYOUT.reads,
        1: ("inner_brows",),
        2: ("outer_brows",),
        4: ("frown",),
        5: ("lids",),
    }
    | dict.fromkeys((14, 15, 16, 20, 22, 23, 24, 26), ("lips",)),
)
"""Of architecture ``au_net_96_zoned_2``: AUs that move the same skin have units of their own, so
each can be trained anew without the others."""


class ZonedLinear(nn.Linear):
    """A dense layer in which each output reads only some of the inputs.

    Args:
        reads: ``(out, in)`` bool.
    """

    reads: torch.Tensor

    def __init__(self, reads: torch.Tensor) -> None:
        super().__init__(reads.shape[1], reads.shape[0])
        self.register_buffer("reads", reads.to(self.weight.dtype), persistent=False)
        # The default initialisation counts all inputs; this keeps the variance for those read.
        share = reads.float().mean(dim=1, keepdim=True).clamp(min=1e-6)
        with torch.no_grad():
            self.weight.mul_(reads / share.sqrt())

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return ``(B, out)`` of features ``(B, in)``; weights outside the zones are 0."""
        return F.linear(input, self.weight * self.reads, self.bias)

    def plain(self) -> nn.Linear:
        """Return the same function as an ordinary dense layer; its unread weights are 0."""
        layer = nn.Linear(self.in_features, self.out_features)
        layer.weight = nn.Parameter((self.weight * self.reads).detach(), requires_grad=False)
        layer.bias = nn.Parameter(self.bias.detach().clone(), requires_grad=False)
        return layer


class AUNet96(nn.Module):
    """The embedded architecture, trainable: local features, zones of the face, three heads.

    ``96 → 48 (6×6, stride 2) → 24 → 12 → 6``, 3×3 convolutions with max-pooling between, BatchNorm
    and ReLU after each: only layers that LRP has sound rules for. Three choices serve the
    explanation:

    - the first kernel is a multiple of its stride, so every pixel is read by the same number of
      windows; a 5×5 kernel at stride 2 leaves a lattice of period 2 in every relevance map;
    - no convolution works on the 6×6 grid, so a cell sees at most 72 px of the crop;
    - each AU is read from hidden units of its own zone of the face, so a brow cannot be concluded
      from the mouth, however often both move together in the training data.

    Args:
        aus: AU numbers, in the order of the outputs.
        landmarks: number of landmarks.
        layout: of the hidden units.
        dropout: share of features and hidden units left out in training.
    """

    widths = (24, 48, 96, 128)
    reduced = 96

    def __init__(
        self,
        aus: Sequence[int],
        landmarks: int,
        layout: Layout = SECOND_LAYOUT,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.aus = tuple(aus)
        self.layout = layout
        first, second, third, fourth = self.widths
        self.features = nn.Sequential(
            *_conv(1, first, kernel=6, stride=2, padding=2),
            *_conv(first, first),
            nn.MaxPool2d(2),
            *_conv(first, second),
            *_conv(second, second),
            nn.MaxPool2d(2),
            *_conv(second, third),
            *_conv(third, fourth),
            nn.MaxPool2d(2),
            *_conv(fourth, self.reduced, kernel=1, padding=0),
        )
        hidden, heads = _masks(layout, self.aus, self.reduced)
        self.drop = nn.Dropout(dropout)
        self.hidden = ZonedLinear(hidden)
        self.presence = ZonedLinear(heads)
        self.intensity = ZonedLinear(heads)
        self.landmarks = nn.Linear(hidden.shape[1], 2 * landmarks)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute all outputs.

        Args:
            x: ``(B, 1, 96, 96)`` float32 normalised crops.

        Returns:
            Presence logits ``(B, A)``, intensity / 5 ``(B, A)``, raw landmarks ``(B, 2·L)``.
        """
        features = self.features(x).flatten(1)
        hidden = self.drop(F.relu(self.hidden(self.drop(features))))
        return self.presence(hidden), self.intensity(hidden), self.landmarks(features)


def _conv(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, padding: int = 1
) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
    return convolution, nn.BatchNorm2d(out_channels), nn.ReLU()


def _masks(layout: Layout, aus: Sequence[int], channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which features each hidden unit reads, and which hidden units each AU reads."""
    units = sum(zone.units for zone in layout.zones.values())
    hidden = torch.zeros((units, channels, _CELLS, _CELLS), dtype=torch.bool)
    heads = torch.zeros((len(aus), units), dtype=torch.bool)
    for name, of_zone in layout.units().items():
        zone = layout.zones[name]
        hidden[of_zone, :, slice(*zone.rows), slice(*zone.cols)] = True
        heads[[name in layout.zones_of(au) for au in aus], of_zone] = True
    return hidden.flatten(1), heads


class SplitHeads(nn.Module):
    """:class:`AUNet96` for prediction: BatchNorm folded, zoned layers turned into plain ones.

    The presence path is a plain sequence of the very modules that predict, so it can be explained.
    """

    def __init__(self, net: AUNet96) -> None:
        super().__init__()
        self.features = net.features
        self.hidden = nn.Sequential(nn.Flatten(), net.hidden.plain(), nn.ReLU())
        self.presence = net.presence.plain()
        self.intensity = net.intensity.plain()
        self.landmarks = net.landmarks

    def presence_logits(self) -> nn.Sequential:
        """Return the path from crop to presence logits, without the identities folding leaves."""
        path = (*self.features, *self.hidden, self.presence)
        return nn.Sequential(*(layer for layer in path if not isinstance(layer, nn.Identity)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return presence logits, intensity and landmarks of crops ``(B, 1, S, S)``."""
        features = self.features(x)
        hidden = self.hidden(features)
        return self.presence(hidden), self.intensity(hidden), self.landmarks(features.flatten(1))

    def find_aus(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return presence logits and intensity alone: the landmarks' layer need not be read."""
        hidden = self.hidden(self.features(x))
        return self.presence(hidden), self.intensity(hidden)

    def find_landmarks(self, x: torch.Tensor) -> torch.Tensor:
        """Return the landmarks alone: the hidden layer, the largest one, need not be read."""
        return self.landmarks(self.features(x).flatten(1))


def au_net(aus: Sequence[int], landmarks: int = 68, layout: Layout = SECOND_LAYOUT) -> AUNet96:
    """Build an untrained network of the embedded architecture (card id ``au_net_96_zoned_2``).

    Args:
        aus: AU numbers, in the order of the outputs.
        landmarks: number of landmarks.
        layout: of the hidden units.

    Returns:
        The network in training mode, randomly initialised from torch's generator.
    """
    return AUNet96(aus, landmarks, layout)


def _build_zoned(card: ModelCard, weights: Mapping[str, torch.Tensor], name: str) -> SplitHeads:
    """Build the embedded architecture from its weights."""
    if card.input_size != 96 or card.landmarks is None:
        raise ModelError(
            f"{name}: architecture {card.architecture!r} needs an input size of 96 and a landmark "
            f"head, its card says {card.input_size} and "
            f"{'a' if card.landmarks else 'no'} landmark head; correct the card"
        )
    outputs = weights.get("presence.weight")
    if outputs is not None and len(outputs) != len(card.aus):
        raise ModelError(
            f"{name}: the weights have {len(outputs)} presence outputs, but the card lists "
            f"{len(card.aus)} AUs; use the card made with these weights"
        )
    net = AUNet96(card.aus, card.landmarks.count, LAYOUTS[card.architecture])
    expected = {
        key: value
        for key, value in net.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    problems = [f"{key} is missing" for key in expected if key not in weights]
    problems += [f"{key} is not part of the architecture" for key in weights if key not in expected]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(
            f"{name} does not fit architecture {card.architecture!r}: "
            f"{', '.join(problems[:3])}{more}; use weights trained for it"
        )
    net.load_state_dict({key: weights[key].float() for key in expected}, strict=False)
    example = torch.randn((2, 1, 96, 96), generator=torch.Generator().manual_seed(0))
    return SplitHeads(fold_batchnorm(net.eval(), example))


Builder = Callable[[ModelCard, Mapping[str, torch.Tensor], str], SplitHeads]

LAYOUTS: dict[str, Layout] = {
    "au_net_96_zoned": FIRST_LAYOUT,
    "au_net_96_zoned_2": SECOND_LAYOUT,
}
"""The architecture id of a card → the hidden units of its network."""
ARCHITECTURES: dict[str, Builder] = dict.fromkeys(LAYOUTS, _build_zoned)
"""The architecture id of a card → the builder (card, weights, file name) of its network."""
