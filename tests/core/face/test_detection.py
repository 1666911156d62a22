"""The face finder: geometry of cells, merging against the plain loop, and how it fails."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from facestage.core.errors import ModelError
from facestage.core.face.detection import (
    CHANNELS,
    INSIDE,
    POINT_UNIT,
    STRIDES,
    FaceFinder,
    FinderNetwork,
    blended,
    cells,
    decode,
    standardise,
    strongest,
)
from numpy.typing import NDArray


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return FinderNetwork().state_dict()


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def test_every_cell_answers_once_and_lies_in_the_middle_of_its_pixels() -> None:
    at = cells(64, 128)
    network = FinderNetwork().eval()
    assert network(torch.zeros(2, 1, 64, 128)).shape == (2, len(at), CHANNELS)
    for stride in STRIDES:
        level = at[at[:, 2] == stride]
        assert len(level) == (64 // stride) * (128 // stride)
        # Pixels 0 to stride - 1 belong to the first cell.
        np.testing.assert_array_equal(level[0, :2], [(stride - 1) / 2] * 2)
        np.testing.assert_array_equal(
            level[-1, :2], [128 - (stride + 1) / 2, 64 - (stride + 1) / 2]
        )


def test_a_cell_sees_what_lies_under_it() -> None:
    """Light far from a cell must not change its answer as light on it does."""
    torch.manual_seed(1)
    network = FinderNetwork().eval()
    at = cells(256, 256)
    plain = network(torch.zeros(1, 1, 256, 256))
    spot = torch.zeros(1, 1, 256, 256)
    spot[..., 200:208, 40:48] = 1.0
    change = (network(spot) - plain).abs().sum(-1)[0].detach().numpy()
    for stride in (8, 16):
        level = at[:, 2] == stride
        # Light falls to the same cells whichever way it reaches them: their middle is the spot.
        middle = (change[level, None] * at[level, :2]).sum(0) / change[level].sum()
        assert np.abs(middle - (43.5, 203.5)).max() <= 1.5 * stride


def test_a_picture_four_times_as_large_is_answered_alike_two_levels_up() -> None:
    """The largest faces are seen with the weights of the second stride."""
    torch.manual_seed(2)
    network = FinderNetwork().eval()
    small = torch.rand(1, 1, 64, 128)
    large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
    fine, coarse = network(small), network(large)
    of_small, of_large = cells(64, 128)[:, 2], cells(256, 512)[:, 2]
    torch.testing.assert_close(
        coarse[:, of_large == 64], fine[:, of_small == 16], atol=1e-4, rtol=1e-4
    )


def test_decoded_faces_are_where_the_answers_say() -> None:
    at = torch.tensor([[11.5, 19.5, 8.0]])
    answer = torch.zeros(1, CHANNELS)
    answer[0, 1:3] = torch.tensor([0.5, -0.25])
    answer[0, 3:5] = torch.log(torch.tensor([3.0, 4.0]))
    offsets = torch.arange(10.0).reshape(5, 2)
    answer[0, 5:15] = offsets.flatten()
    answer[0, 20:22] = torch.tensor([3.0, 0.0])
    face = decode(answer, at)[0]
    assert face[0] == 0.5
    torch.testing.assert_close(face[1:5], torch.tensor([3.5, 1.5, 27.5, 33.5]))
    # Turned clockwise by a quarter: what is right of a face's middle is below it in the picture.
    turned = torch.stack([-offsets[:, 1], offsets[:, 0]], 1)
    size = (24.0 * 32.0) ** 0.5
    wanted = torch.tensor([15.5, 17.5]) + POINT_UNIT * size * turned
    torch.testing.assert_close(face[5:15].reshape(5, 2), wanted)
    torch.testing.assert_close(face[20:], torch.tensor([1.0, 0.0]))


def test_absurd_answers_decode_to_numbers() -> None:
    faces = decode(torch.full((1, CHANNELS), 1e30), torch.tensor([[3.5, 3.5, 32.0]]))
    assert not faces.isnan().any()


def meets(a: list[float], b: list[float]) -> bool:
    """Whether two boxes overlap by .3, or the smaller one lies in the other by more than INSIDE."""
    wide, high = (max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    first, second = ((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    common = wide * high
    return common / (first + second - common) > 0.3 or common / min(first, second) > INSIDE


def test_a_part_of_a_face_is_no_second_face() -> None:
    face, part, beside = [0.0, 0, 40, 40], [10.0, 10, 26, 26], [30.0, 30, 46, 46]
    stays = strongest(torch.tensor([[face, part, beside]]), 0.4)
    assert stays.tolist() == [[True, False, True]]


@pytest.mark.parametrize("seed", range(6))
def test_merging_equals_the_greedy_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 60, (3, 40, 2))
    boxes = torch.from_numpy(np.concatenate([low, low + rng.uniform(5, 40, (3, 40, 2))], -1))
    stays = strongest(boxes, 0.3)
    for b in range(3):
        over = [[meets(p, q) for q in boxes[b].tolist()] for p in boxes[b].tolist()]
        kept: list[int] = []
        for k in range(40):
            if not any(over[j][k] for j in kept):
                kept.append(k)
        assert stays[b].nonzero().flatten().tolist() == kept


def test_cells_that_speak_of_one_face_agree_and_others_keep_their_own() -> None:
    faces = torch.zeros(1, 4, CHANNELS)
    faces[0, :, 0] = torch.tensor([0.8, 0.4, 0.6, 0.9])
    faces[0, 0, 1:5] = torch.tensor([0.0, 0, 40, 40])
    faces[0, 1, 1:5] = torch.tensor([5.0, 0, 45, 40])
    faces[0, 2, 1:5] = torch.tensor([90.0, 0, 130, 40])
    faces[0, 3, 1:5] = torch.tensor([1.0, 0, 41, 40])  # strong, but does not count
    counts = torch.tensor([[True, True, True, False]])
    merged = blended(faces, counts, 0.4)
    torch.testing.assert_close(merged[..., 0], faces[..., 0])
    # Squares of the scores: 0.64 and 0.16.
    torch.testing.assert_close(merged[0, 0, 1], torch.tensor(1.0))
    torch.testing.assert_close(merged[0, 2, 1:5], faces[0, 2, 1:5])


def test_standardised_pictures_have_no_mean_and_noise_stays_small() -> None:
    rng = torch.Generator().manual_seed(0)
    strong = 120 + 50 * torch.randn(2, 1, 64, 64, generator=rng)
    found = standardise(strong)
    assert found.mean((1, 2, 3)).abs().max() < 1e-4
    assert (found.std((1, 2, 3)) - 50 / 58).abs().max() < 0.02
    assert standardise(torch.full((1, 1, 8, 8), 200.0)).abs().max() == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (16, 900), (33, 31), (64, 64), (180, 320)])
def test_pictures_of_any_size_are_looked_at(shape: tuple[int, int]) -> None:
    found = FaceFinder(tensors(), 0.0).find([picture(*shape)])[0]
    assert found.boxes.shape == (len(found), 4)
    assert found.points.shape == (len(found), 5, 2)
    assert np.isfinite(found.points).all()
    middle = found.boxes[:, :2] + found.boxes[:, 2:] / 2
    assert ((middle >= 0) & (middle < shape[::-1])).all()


def test_pictures_in_one_pass_are_judged_as_alone() -> None:
    finder = FaceFinder(tensors(), 0.0)
    pictures = [picture(96, 160, seed) for seed in range(3)]
    together = finder.find(pictures)
    for one, found in zip(pictures, together, strict=True):
        (alone,) = finder.find([one])
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-2)
    assert finder.find([]) == []


def test_the_answer_does_not_depend_on_brightness_and_contrast() -> None:
    finder = FaceFinder(tensors(), 0.0)
    bright = picture(96, 96) // 2 + 100
    (one,), (other,) = finder.find([bright]), finder.find([bright - 60])
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_weights_of_another_kind_are_refused() -> None:
    wrong = tensors()
    del wrong["fine.1.0.bias"]
    with pytest.raises(ModelError, match=r"fine\.1\.0\.bias"):
        FaceFinder(wrong, 0.5)


def test_weights_that_are_no_numbers_are_refused() -> None:
    broken = tensors()
    broken["answer_small.bias"] = torch.full_like(broken["answer_small.bias"], torch.nan)
    with pytest.raises(ModelError, match=r"no numbers, in answer_small\.bias"):
        FaceFinder(broken, 0.5)
