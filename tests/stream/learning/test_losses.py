"""Losses: the values by hand, and that a missing label never reaches a gradient."""

from __future__ import annotations

import math

import pytest
import torch
from facestage.core.learning.losses import (
    intensity_loss,
    landmark_loss,
    presence_loss,
    presence_target,
)
from torch.nn import functional as F

NAN = math.nan


def test_presence_target_rises_from_0_to_b() -> None:
    target = presence_target(torch.tensor([0.0, 0.5, 1.0, 2.0, 5.0, NAN]))
    assert target[:5].tolist() == [0.0, 0.25, 0.5, 1.0, 1.0]
    assert torch.isnan(target[5])


def test_each_au_averages_over_its_own_labelled_samples() -> None:
    logits = torch.tensor([[0.0, 2.0, 9.0], [1.0, -3.0, -9.0]])
    target = torch.tensor([[1.0, NAN, NAN], [0.0, 1.0, NAN]])
    first = (math.log(2) + math.log(1 + math.e)) / 2
    second = math.log(1 + math.exp(3))
    assert float(presence_loss(logits, target)) == pytest.approx((first + second) / 3)


def test_without_gaps_presence_is_the_ordinary_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn((7, 4), generator=generator)
    target = torch.rand((7, 4), generator=generator)
    weight = torch.tensor([1.0, 2.0, 3.0, 0.5])
    expected = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)
    assert float(presence_loss(logits, target, weight)) == pytest.approx(float(expected))


def test_intensity_by_hand() -> None:
    output = torch.tensor([[0.0], [0.4], [0.5]])
    # Errors 0.4 (linear: 0.4 - 0.05), 0.05 (quadratic: 0.5 · 0.05² / 0.1), and one not labelled.
    intensity = torch.tensor([[2.0], [1.75], [NAN]])
    expected = (0.35 * (1 + 3 * 0.4) + 0.0125 * (1 + 3 * 0.35)) / 2
    assert float(intensity_loss(output, intensity)) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [presence_loss, intensity_loss])
def test_an_au_without_a_label_gets_exactly_no_gradient(loss) -> None:
    output = torch.tensor([[0.3, 5.0], [-1.0, math.inf]], requires_grad=True)
    target = torch.tensor([[1.0, NAN], [NAN, NAN]])
    value = loss(output, target)
    value.backward()
    assert output.grad is not None
    assert math.isfinite(float(value.detach()))
    assert output.grad[0, 0] != 0
    assert output.grad[:, 1].tolist() == [0.0, 0.0]
    assert output.grad[1, 0] == 0


@pytest.mark.parametrize("loss", [presence_loss, intensity_loss])
def test_a_batch_without_any_label_is_a_zero_that_can_be_differentiated(loss) -> None:
    output = torch.ones((3, 2), requires_grad=True)
    value = loss(output, torch.full((3, 2), NAN))
    value.backward()
    assert float(value.detach()) == 0
    assert output.grad is not None
    assert not output.grad.any()


def test_the_weight_of_an_au_does_not_depend_on_the_labels_of_others() -> None:
    def gradient(target: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros((2, 2), requires_grad=True)
        presence_loss(logits, target).backward()
        assert logits.grad is not None
        return logits.grad[:, 0]

    alone = gradient(torch.tensor([[1.0, NAN], [0.0, NAN]]))
    together = gradient(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    assert torch.equal(alone, together)


def test_landmarks_are_weighted_by_point_and_skip_unknown_ones() -> None:
    raw = torch.tensor([[0.3, 0.3, 7.0, 7.0, 1.0, 1.0]], requires_grad=True)
    target = torch.tensor([[[0.0, 0.0], [NAN, 7.5], [0.0, 0.5]]])
    weight = torch.tensor([[1.0, 5.0, 3.0]])
    value = landmark_loss(raw, target, weight)
    value.backward()
    first, third = 0.3 - 0.05, ((1 - 0.05) + (0.5 - 0.05)) / 2
    assert float(value.detach()) == pytest.approx((first + 3 * third) / 4)
    assert raw.grad is not None
    assert raw.grad[0, 2:4].tolist() == [0.0, 0.0]
    assert torch.isfinite(raw.grad).all()


def test_no_known_landmark_gives_zero_and_no_gradient() -> None:
    raw = torch.ones((2, 4), requires_grad=True)
    for target, weight in (
        (torch.full((2, 2, 2), NAN), None),
        (torch.zeros((2, 2, 2)), torch.zeros((2, 2))),
        (torch.zeros((2, 2, 2)), torch.full((2, 2), NAN)),
    ):
        raw.grad = None
        value = landmark_loss(raw, target, weight)
        value.backward()
        assert float(value.detach()) == 0
        assert raw.grad is not None
        assert not raw.grad.any()
