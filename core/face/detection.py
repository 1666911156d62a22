"""Finding faces: a small convolutional network and what its answers mean.

The network sees a grey picture in four sizes, with cells of 8, 16, 32 and 64 pixels, and says of
each cell whether the middle of a face lies there, and of that face its box, its five points with
their visibility, and its roll, from 0 to 360 degrees. Cells that speak of the same face are merged.

References:
    Tian et al., *FCOS: fully convolutional one-stage object detection*, ICCV 2019 (cells without
    anchors); Zheng et al., *Enhancing geometric factors in model learning and inference for object
    detection and instance segmentation*, IEEE Trans. Cybernetics 2022 (cluster NMS);
    Wu, Peng & Yu, *YuNet*, Machine Intelligence Research 20, 2023 (how small one can be).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from ..errors import ModelError

__all__ = [
    "CHANNELS",
    "FLOOR",
    "INSIDE",
    "STRIDES",
    "FaceFinder",
    "FinderNetwork",
    "FoundFaces",
    "cells",
    "decode",
    "placed",
    "standardise",
]

STRIDES = (8, 16, 32, 64)
"""Pixels between two cells of each level."""
CHANNELS = 22
"""Answers of a cell: centre 1, box 4, points 10, visibilities 5, roll 2."""
POINT_UNIT = 0.25
"""Points are given in this share of the face's size from its middle, along the face's own axes."""
FLOOR = 8.0
"""Added to the deviation of a picture: noise and coding are not made into contrast, grey 0–255."""
INSIDE = 0.65
"""A box of which this share lies in another one's is the same face, or a part of it."""
_CANDIDATES = 256
"""Cells of a picture that are looked at; a face takes two to eight."""
_NOTHING = np.zeros((0, CHANNELS + 1), np.float32)
_LARGEST_LOG = 5.0
"""Log of the largest side of a box in strides: exp must not overflow whatever the network says."""


class _Block(nn.Sequential):
    """Convolution of 3 × 3, BatchNorm (folded away in the stored network), ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: bool) -> None:
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=not norm)]
        if norm:
            layers.append(nn.BatchNorm2d(outputs))
        super().__init__(*layers, nn.ReLU())


class FinderNetwork(nn.Module):
    """The network; plain convolutions.

    It answers at three strides of the picture. Coarse cells see much around a face and lend that to
    the fine ones. The largest faces are looked for by the same convolutions in a copy of a quarter
    of the size.

    Args:
        norm: with BatchNorm, to train; the stored network has it folded into the convolutions.
    """

    WIDTHS = (16, 48, 64, 96)
    """Channels at strides 4, 8, 16 and 32."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        fine, small, large, around = self.WIDTHS
        self.fine = nn.Sequential(
            # Four neighbouring pixels become four channels: as much is seen as by a convolution of
            # 6 × 6 at half the cost.
            nn.PixelUnshuffle(2),
            _Block(4, fine, 2, norm),
            _Block(fine, fine, 1, norm),
            _Block(fine, small, 2, norm),
            _Block(small, small, 1, norm),
        )
        self.coarse = nn.Sequential(
            _Block(small, large, 2, norm),
            _Block(large, large, 1, norm),
            _Block(large, large, 1, norm),
        )
        self.around = nn.Sequential(
            _Block(large, around, 2, norm),
            _Block(around, around, 1, norm),
        )
        self.to_coarse = nn.Conv2d(around, large, 1)
        self.large = nn.Sequential(_Block(large, large, 1, norm))
        self.to_fine = nn.Conv2d(large, small, 1)
        self.small = nn.Sequential(_Block(small, small, 1, norm))
        self.huge = nn.Sequential(_Block(around, around, 1, norm))
        self.answer_huge = nn.Conv2d(around, CHANNELS, 1)
        self.answer_large = nn.Conv2d(large, CHANNELS, 1)
        self.answer_small = nn.Conv2d(small, CHANNELS, 1)

    def forward(self, x: torch.Tensor, levels: int = len(STRIDES)) -> torch.Tensor:
        """Answer for all cells.

        Args:
            x: ``(B, 1, H, W)`` float, :func:`standardise`d; H and W multiples of the last stride.
            levels: how many strides are looked at, the finest first; 3 or 4.

        Returns:
            ``(B, N, 22)``, cells in the order of :func:`cells`.
        """
        fine, coarse, around = self._layers(x)
        fine = self.small(_added(fine, self.to_fine(coarse)))
        answers = [
            self.answer_small(fine),
            self.answer_large(coarse),
            self.answer_huge(self.huge(around)),
        ]
        if levels > 3:
            answers.append(self.answer_large(self._layers(F.avg_pool2d(x, 4))[1]))
        return torch.cat([answer.flatten(2) for answer in answers], 2).transpose(1, 2)

    def _layers(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return features of a picture at strides 8, 16 and 32."""
        fine = self.fine(x)
        coarse = self.coarse(fine)
        around = self.around(coarse)
        return fine, self.large(_added(coarse, self.to_coarse(around))), around


def _added(fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """Add features of half the size, of which the last row and column may reach beyond."""
    height, width = fine.shape[2:]
    return F.relu(fine + F.interpolate(coarse, scale_factor=2.0)[:, :, :height, :width])


def cells(height: int, width: int, levels: int = len(STRIDES)) -> NDArray[np.float32]:
    """Return the cells of a picture: ``(N, 3)`` float32 middle x, middle y, stride, pixels."""
    rows = []
    for stride in STRIDES[:levels]:
        y, x = np.mgrid[0 : height // stride, 0 : width // stride]
        # Pixel centres are at whole numbers: the middle of the first cell is at (stride - 1) / 2.
        middle = np.stack([x, y], -1).reshape(-1, 2) * stride + (stride - 1) / 2
        rows.append(np.column_stack([middle, np.full(len(middle), stride)]))
    return np.concatenate(rows).astype(np.float32)


def standardise(picture: torch.Tensor) -> torch.Tensor:
    """Give pictures ``(B, 1, H, W)`` of any grey scale 0–255 zero mean and a deviation near 1."""
    # std_mean would take a tenth of the whole look.
    centred = picture - picture.mean((1, 2, 3), keepdim=True)
    deviation = centred.square().mean((1, 2, 3), keepdim=True).sqrt()
    return centred / (deviation + FLOOR)


def decode(answers: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Turn answers of cells into faces.

    Args:
        answers: ``(..., 22)`` of the network.
        at: ``(..., 3)`` the cells they belong to.

    Returns:
        ``(..., 22)``: score 0–1; left, top, right, bottom; five points x, y; five visibilities
        0–1; sine and cosine of the roll. Pixels of the network's input.
    """
    centre, half, turn, points = placed(answers, at)
    return torch.cat(
        [
            answers[..., :1].sigmoid(),
            centre - half,
            centre + half,
            points,
            answers[..., 15:20].sigmoid(),
            turn,
        ],
        -1,
    )


def placed(
    answers: torch.Tensor, at: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Place faces in the picture.

    The points follow middle, size and roll of the face; only how this face differs from others is
    left to say.

    Args:
        answers: ``(..., 22)`` of the network.
        at: ``(..., 3)`` the cells they belong to.

    Returns:
        ``(..., 2)`` middle; ``(..., 2)`` half of width and height; ``(..., 2)`` sine and cosine of
        the roll; ``(..., 10)`` points x, y. Pixels of the network's input.
    """
    stride = at[..., 2:]
    centre = at[..., :2] + answers[..., 1:3] * stride
    half = answers[..., 3:5].clamp(max=_LARGEST_LOG).exp() * stride / 2
    turn = F.normalize(answers[..., 20:22], dim=-1)
    sine, cosine = turn[..., :1], turn[..., 1:]
    # The mean of the sides hardly changes when a face is turned.
    unit = POINT_UNIT * 2 * half.prod(-1, keepdim=True).sqrt()
    across, down = unit * answers[..., 5:15:2], unit * answers[..., 6:15:2]
    x = centre[..., :1] + cosine * across - sine * down
    y = centre[..., 1:] + sine * across + cosine * down
    return centre, half, turn, torch.stack([x, y], -1).flatten(-2)


def overlaps(boxes: torch.Tensor) -> torch.Tensor:
    """Return ``(..., K, K)`` intersection over union of ``(..., K, 4)`` boxes, edges given."""
    common, area = _common(boxes)
    return common / (area[..., :, None] + area[..., None, :] - common).clamp(min=1e-6)


def _common(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``(..., K, K)`` areas of intersection and ``(..., K)`` areas."""
    low = torch.maximum(boxes[..., :, None, :2], boxes[..., None, :, :2])
    high = torch.minimum(boxes[..., :, None, 2:], boxes[..., None, :, 2:])
    area = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)
    return (high - low).clamp(min=0).prod(-1), area


def strongest(boxes: torch.Tensor, limit: float) -> torch.Tensor:
    """Suppress boxes that overlap a stronger one that stays, or lie in or around it, all at once.

    The result is that of the greedy loop: the matrix is applied until nothing changes, at most as
    often as the longest chain of boxes that suppress each other.

    Args:
        boxes: ``(B, K, 4)``, strongest first.
        limit: overlap from which two boxes are one face, 0–1.

    Returns:
        ``(B, K)`` bool, the boxes that stay.
    """
    common, area = _common(boxes)
    smaller = torch.minimum(area[..., :, None], area[..., None, :]).clamp(min=1e-6)
    over = ((overlaps(boxes) > limit) | (common / smaller > INSIDE)).triu(1)
    stays = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    for _ in range(boxes.shape[1]):
        again = ~(over & stays[..., None]).any(1)
        if torch.equal(again, stays):
            break
        stays = again
    return stays


def blended(faces: torch.Tensor, answering: torch.Tensor, limit: float) -> torch.Tensor:
    """Let the cells that speak of the same face agree on it.

    Each counts by the square of its score. A face is the mean of several answers instead of the
    best one, so that it trembles less.

    Args:
        faces: ``(B, K, 22)``, decoded.
        answering: ``(B, K)`` bool, those that count.
        limit: overlap from which two boxes are one face, 0–1.

    Returns:
        ``(B, K, 22)``; scores stay.

    References:
        Bazarevsky et al., *BlazeFace: sub-millisecond neural face detection on mobile GPUs*, CVPR
        Workshops 2019, §3.4.
    """
    sure = (answering * faces[..., 0]).square()
    together = (overlaps(faces[..., 1:5]) > limit).float() * sure[:, None]
    together = together / together.sum(-1, keepdim=True).clamp(min=1e-6)
    return torch.cat([faces[..., :1], together @ faces[..., 1:]], -1)


@dataclass(frozen=True, slots=True, eq=False)
class FoundFaces:
    """The faces of one picture, the most certain first.

    Attributes:
        boxes: ``(F, 4)`` float32 left, top, width, height, pixels of the picture given.
        scores: ``(F,)`` float32, 0–1.
        points: ``(F, 5, 2)`` float32, pixels; eyes, nose tip, mouth corners, the viewer's left
            first where the face is upright.
        visible: ``(F, 5)`` float32, 0–1, how surely a point is seen and not hidden or outside.
        roll: ``(F,)`` float32, degrees clockwise from upright, −180 to 180.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    points: NDArray[np.float32]
    visible: NDArray[np.float32]
    roll: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.scores)


class FaceFinder:
    """Finds faces in grey pictures.

    Args:
        tensors: weights by name, any float type.
        threshold: least score of a face, 0–1.
        overlap: intersection over union from which two boxes are one face, 0–1.
        device: where it computes.

    Raises:
        ModelError: the tensors are not those of this network, or hold no numbers; the threshold is
            not from 0 to below 1.
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        threshold: float,
        overlap: float = 0.4,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 <= threshold < 1:
            raise ModelError(f"the threshold of the face finder is {threshold}; give 0 to below 1")
        self.threshold, self.overlap = threshold, overlap
        self._least = math.log(threshold / (1 - threshold)) if threshold else -math.inf
        self.device = torch.device(device)
        network = FinderNetwork()
        wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        given = {name: tuple(value.shape) for name, value in tensors.items()}
        if wanted != given:
            odd = sorted(set(wanted.items()) ^ set(given.items()))[0][0]
            raise ModelError(
                f"the weights are not those of this face finder (first difference: {odd}); use the "
                "file that belongs to this version of facestage"
            )
        broken = sorted(name for name, value in tensors.items() if not value.isfinite().all())
        if broken:
            raise ModelError(
                f"the weights of the face finder hold values that are no numbers, in {broken[0]}; "
                "use another file"
            )
        network.load_state_dict({name: value.float() for name, value in tensors.items()})
        network.eval().requires_grad_(False)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._cells: dict[tuple[int, int, int], torch.Tensor] = {}

    @torch.inference_mode()
    def find(
        self, pictures: Sequence[NDArray[np.uint8]], levels: int = len(STRIDES)
    ) -> list[FoundFaces]:
        """Find the faces of pictures, in one pass.

        Args:
            pictures: ``(H, W)`` uint8 grey, all of one size, such as one of each camera. The time
                grows with their area; faces from about 9 pixels on are found.
            levels: 3 where no face is larger than about 64 pixels: a little less to compute.

        Returns:
            What was found in each.
        """
        if not pictures:
            return []
        height, width = pictures[0].shape
        x = torch.from_numpy(np.stack(pictures)[:, None]).to(self.device).float()
        x = standardise(x)
        coarsest = STRIDES[levels - 1]
        bottom, right = -height % coarsest, -width % coarsest
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        at = self._cells_of(height + bottom, width + right, levels)
        answers = self.network(x.contiguous(memory_format=torch.channels_last), levels).float()
        sure = answers[..., 0] >= self._least
        # Few cells speak of faces: only they are decoded and merged.
        count = min(_CANDIDATES, int(sure.sum(1).amax()))
        if count == 0:
            return [_found(_NOTHING, height, width) for _ in pictures]
        order = answers[..., 0].topk(count, 1).indices
        rows = torch.arange(len(answers), device=self.device)[:, None]
        faces = decode(answers[rows, order], at[order])
        answering = sure[rows, order]
        stays = strongest(faces[..., 1:5], self.overlap) & answering
        faces = blended(faces, answering, self.overlap)
        table = torch.cat([faces, stays[..., None].float()], -1).cpu().numpy()
        return [_found(rows[rows[:, -1] > 0], height, width) for rows in table]

    def _cells_of(self, height: int, width: int, levels: int) -> torch.Tensor:
        size = height, width, levels
        if size not in self._cells:
            if len(self._cells) > 16:  # pictures of ever new sizes
                self._cells.clear()
            self._cells[size] = torch.from_numpy(cells(*size)).to(self.device)
        return self._cells[size]


def _found(table: NDArray[np.float32], height: int, width: int) -> FoundFaces:
    """Sort a picture's rows into fields; a face whose middle lies outside is none."""
    middle = (table[:, 1:3] + table[:, 3:5]) / 2
    table = table[((middle >= 0) & (middle < (width, height))).all(1)]
    return FoundFaces(
        np.column_stack([table[:, 1:3], table[:, 3:5] - table[:, 1:3]]),
        table[:, 0],
        table[:, 5:15].reshape(-1, 5, 2),
        table[:, 15:20],
        np.degrees(np.arctan2(table[:, 20], table[:, 21])).astype(np.float32),
    )
