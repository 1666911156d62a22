"""The training step: input, schedule, masking, averaging, and exact resume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from facestage.core.errors import ConfigError, ModelError
from facestage.core.network.au_network import AUNetwork
from facestage.stream.learning import checkpoints
from facestage.stream.learning.trainer import (
    Replicas,
    TrainConfig,
    Trainer,
    TrainingBatch,
    normalise,
)
from torch import nn

AUS, SIDE = 3, 96


class SmallNet(nn.Module):
    """Convolution, BatchNorm, dropout and three heads: all that a real one has, in miniature."""

    def __init__(self, aus: int = AUS, landmarks: int = 136) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5, stride=4, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Dropout(0.2),
        )
        self.presence = nn.Linear(96, aus)
        self.intensity = nn.Linear(96, aus)
        self.landmarks = nn.Linear(96, landmarks)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        f = self.features(x)
        return self.presence(f), self.intensity(f), self.landmarks(f)


def small_net(seed: int = 0) -> SmallNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallNet()


def batch(seed: int, n: int = 16, landmarks: bool = True) -> TrainingBatch:
    rng = np.random.default_rng(seed)
    intensity = rng.uniform(0, 5, (n, AUS)).astype(np.float32)
    intensity[rng.random(intensity.shape) < 0.4] = np.nan
    points = rng.uniform(0, SIDE, (n, 68, 2)).astype(np.float32) if landmarks else None
    return TrainingBatch(rng.integers(0, 256, (n, SIDE, SIDE), dtype=np.uint8), intensity, points)


def config(**changes: object) -> TrainConfig:
    return TrainConfig(**{"total_views": 800, "warmup_views": 32, **changes})  # type: ignore[arg-type]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_input_is_bit_for_bit_that_of_the_live_network() -> None:
    network = AUNetwork.load(device="cpu")
    crops = np.random.default_rng(0).integers(0, 256, (5, 96, 96), dtype=np.uint8)
    crops[0] = 128  # no contrast at all
    made = normalise(torch.from_numpy(crops), network.card.normalisation)
    assert torch.equal(made, network.prepare(crops))


def test_learning_rate_warms_up_holds_and_falls() -> None:
    schedule = config(total_views=1000, warmup_views=100, hold=0.5, lr=1.0, final_lr=0.1)
    assert schedule.lr_at(0) == pytest.approx(0.01)
    assert schedule.lr_at(99) == schedule.lr_at(300) == schedule.lr_at(500) == 1.0
    assert schedule.lr_at(750) == pytest.approx(0.55)
    assert schedule.lr_at(1000) == schedule.lr_at(5000) == pytest.approx(0.1)


def test_the_loss_falls_on_a_batch_seen_again_and_again() -> None:
    trainer = Trainer(small_net(), config(), "cpu")
    losses = [float(trainer.step(batch(0)).total) for _ in range(30)]
    assert losses[-1] < 0.6 * losses[0]
    assert trainer.views == 30 * 16


def test_two_runs_are_equal_and_leave_the_random_state_of_others_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    runs = []
    for _ in range(2):
        trainer = Trainer(small_net(), config(), "cpu")
        for n in range(4):
            trainer.step(batch(n))
        runs.append(trainer.state_dict())
    assert same(*runs)
    assert torch.equal(torch.rand(3), expected)
    other = Trainer(small_net(), config(seed=1), "cpu")
    for n in range(4):
        other.step(batch(n))
    assert not same(runs[0], other.state_dict())  # dropout differs


def test_two_processes_together_learn_what_one_learns_from_the_whole_batch() -> None:
    rng = np.random.default_rng(3)
    crops = rng.integers(0, 256, (16, SIDE, SIDE), dtype=np.uint8)
    intensity = rng.uniform(0, 5, (16, AUS)).astype(np.float32)  # all known: means of means agree

    def trainer(replicas: Replicas | None = None) -> Trainer:
        net = small_net()
        net.features[5] = nn.Dropout(0)
        return Trainer(net, config(freeze_batchnorm=True), "cpu", replicas)

    alone = trainer()
    alone.step(TrainingBatch(crops, intensity))
    met: list[list[torch.Tensor]] = []

    def meet(tensors: Sequence[torch.Tensor]) -> None:
        if met:
            for mine, other in zip(tensors, met[0], strict=True):
                mine.copy_((mine + other) / 2)
        met.append([tensor.clone() for tensor in tensors])

    trainer(Replicas(1, 2, meet)).step(TrainingBatch(crops[8:], intensity[8:]))
    first = trainer(Replicas(0, 2, meet))
    first.step(TrainingBatch(crops[:8], intensity[:8]))
    assert len(met) == 2
    assert first.views == alone.views == 16
    one, two = alone.state_dict(), first.state_dict()
    gradients = [key for key in one if key.startswith("optimizer.exp_avg.")]
    assert len(gradients) == 7  # the landmark head saw no landmarks
    for key in gradients:
        assert torch.allclose(one[key], two[key], rtol=1e-4, atol=1e-7), key


def test_processes_together_draw_different_dropout() -> None:
    kept = []
    for rank in (0, 1):
        trainer = Trainer(small_net(), config(), "cpu", Replicas(rank, 2, lambda _: None))
        trainer.step(batch(0))
        kept.append(trainer.state_dict())
    assert not same(*kept)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = Trainer(small_net(), config(), "cpu")
    for n in range(3):
        whole.step(batch(n))
    checkpoints.save(tmp_path, whole.step_count, whole.state_dict(), {})
    for n in range(3, 6):
        whole.step(batch(n))

    resumed = Trainer(small_net(seed=9), config(), "cpu")
    path = checkpoints.latest(tmp_path)
    assert path is not None
    resumed.load_state_dict(checkpoints.load(path).tensors)
    for n in range(3, 6):
        resumed.step(batch(n))
    assert same(whole.state_dict(), resumed.state_dict())


def test_a_state_of_another_network_is_refused_and_changes_nothing() -> None:
    state = Trainer(SmallNet(aus=4), config(), "cpu").state_dict()
    trainer = Trainer(small_net(), config(), "cpu")
    before = trainer.state_dict()
    with pytest.raises(ModelError, match=r"net\.presence\.weight has shape \(4, 96\)"):
        trainer.load_state_dict(state)
    with pytest.raises(ModelError, match="views is missing"):
        trainer.load_state_dict({k: v for k, v in before.items() if k != "views"})
    with pytest.raises(ModelError, match=r"optimizer\.exp_avg\.nothing is unknown"):
        trainer.load_state_dict({**before, "optimizer.exp_avg.nothing": torch.ones(1)})
    assert same(before, trainer.state_dict())


def test_only_weights_decay() -> None:
    """Without a label there is no gradient: AdamW then moves weights by decay, biases not."""
    net = small_net()
    with torch.no_grad():
        net.presence.bias.fill_(1.0)
    trainer = Trainer(net, config(weight_decay=0.5, warmup_views=0, lr=0.1), "cpu")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    given = batch(0)
    given.intensity[:, 1] = np.nan
    trainer.step(given)
    assert torch.equal(net.presence.bias[1], before["presence.bias"][1])
    assert torch.allclose(net.presence.weight[1], before["presence.weight"][1] * (1 - 0.5 * 0.1))
    assert not torch.equal(net.presence.bias[0], before["presence.bias"][0])


def test_presence_only_labels_teach_presence_and_not_intensity() -> None:
    net = small_net()
    trainer = Trainer(net, config(weight_decay=0.0), "cpu")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    given = batch(0, landmarks=False)
    nothing = np.full_like(given.intensity, np.nan)
    presence = nothing.copy()
    presence[:, 0] = 1.0
    losses = trainer.step(TrainingBatch(given.crops, nothing, presence=presence))
    assert torch.equal(net.intensity.weight, before["intensity.weight"])
    assert net.presence.bias[0] > before["presence.bias"][0]
    assert torch.equal(net.presence.bias[1:], before["presence.bias"][1:])
    assert float(losses.intensity) == float(losses.landmarks) == 0


def test_the_average_follows_weights_and_batchnorm_statistics() -> None:
    net = small_net()
    trainer = Trainer(net, config(ema=0.9), "cpu")
    mean = net.features[1].running_mean.clone()
    weight = net.presence.weight.detach().clone()
    for n in range(2):
        trainer.step(batch(n))
        decay = min(0.9, (n + 2) / (n + 11))
        mean = decay * mean + (1 - decay) * net.features[1].running_mean
        weight = decay * weight + (1 - decay) * net.presence.weight.detach()
    averaged = trainer.averaged()
    assert isinstance(averaged, SmallNet)
    assert not averaged.training
    assert torch.allclose(averaged.features[1].running_mean, mean)
    assert torch.allclose(averaged.presence.weight, weight)
    assert averaged.features[1].num_batches_tracked == 2


def test_frozen_batchnorm_keeps_its_statistics() -> None:
    net = small_net()
    trainer = Trainer(net, config(freeze_batchnorm=True), "cpu")
    trainer.step(batch(0))
    assert not net.features[1].running_mean.any()
    assert net.features[1].num_batches_tracked == 0


def test_landmarks_are_learnt_in_the_unit_of_the_card() -> None:
    """A head that answers with the right values has no landmark loss."""
    net = small_net()
    points = np.random.default_rng(3).uniform(0, SIDE, (68, 2)).astype(np.float32)
    with torch.no_grad():
        net.landmarks.weight.zero_()
        net.landmarks.bias.copy_(torch.from_numpy((points / SIDE - 0.5) / 0.25).flatten())
    given = batch(0)
    many = np.broadcast_to(points, (16, 68, 2)).copy()
    trainer = Trainer(net, config(), "cpu")
    assert float(trainer.step(TrainingBatch(given.crops, given.intensity, many)).landmarks) < 1e-9


def test_divergence_is_an_error_that_names_the_step() -> None:
    net = small_net()
    trainer = Trainer(net, config(), "cpu")
    trainer.step(batch(0))
    with torch.no_grad():
        net.presence.bias.fill_(math.inf)
    with pytest.raises(ModelError, match="diverged at step 1"):
        trainer.step(batch(1))
    with pytest.raises(ModelError, match=r"net\.presence\.bias holds values that are not finite"):
        trainer.state_dict()


@pytest.mark.parametrize(
    ("field", "value"), [("lr", 0.0), ("lr", math.nan), ("hold", 1.5), ("total_views", 0)]
)
def test_a_configuration_that_cannot_work_is_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        config(**{field: value})


@pytest.mark.gpu
def test_the_step_runs_on_cuda_and_its_state_moves_to_the_cpu() -> None:
    trainer = Trainer(small_net(), config(), "cuda")
    losses = [float(trainer.step(batch(0)).total) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    state = trainer.state_dict()
    assert {value.device.type for value in state.values()} == {"cpu"}
    resumed = Trainer(small_net(), config(), "cpu")
    resumed.load_state_dict(state)
    assert resumed.views == trainer.views
