"""The training step: one batch in, updated weights out, exactly resumable.

A :class:`Trainer` owns a network, its optimiser and the running average of its weights. It knows
nothing of files or data sets: batches are handed to :meth:`Trainer.step`, the whole state goes out
through :meth:`Trainer.state_dict` as plain named tensors, which safetensors can hold.

The randomness of step n (dropout) depends on (seed, n) only and leaves the caller's random state
alone, so a run that is resumed equals one that was never interrupted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ...core.errors import ConfigError, ModelError
from ...core.learning.losses import (
    intensity_loss,
    landmark_loss,
    presence_loss,
    presence_target,
)
from ...core.network.card import LandmarkDecoding, Normalisation

__all__ = ["Replicas", "StepLosses", "TrainConfig", "Trainer", "TrainingBatch", "normalise"]

_CHECK_EVERY_ON_GPU = 50
"""Steps between looks at the loss on a GPU; each look waits for the queue to empty."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train; the defaults suit training from scratch.

    Attributes:
        total_views: crops seen in the whole run; the learning rate ends at ``final_lr`` there.
        lr: learning rate after the warm-up.
        warmup_views: crops over which the rate rises linearly from zero.
        hold: share of the run after which the cosine begins (0: right after the warm-up).
        final_lr: rate at the end, as a share of ``lr``.
        weight_decay: of AdamW; biases and BatchNorm are exempt.
        clip_norm: largest norm of the whole gradient.
        ema: decay per step of the averaged weights and BatchNorm statistics; lower at first, so
            that the random initial weights are soon forgotten.
        presence_weight, intensity_weight, landmark_weight: factors of the three losses.
        pos_weight: factor on the presence loss of positives; one for all AUs, or one per AU.
        landmarks: what the landmark head's output means; as in the model card.
        normalisation: grey values → network input; as in the model card.
        freeze_batchnorm: keep the BatchNorm statistics as they are, for fine-tuning on little data.
        bfloat16: compute most of the forward pass in it; None: on CUDA, and not on a CPU, of
            which only some have instructions for it. Those that do train 1.9 times as fast.
        seed: of the randomness inside the step.
    """

    total_views: int
    lr: float = 2e-3
    warmup_views: int = 10_000
    hold: float = 0.3
    final_lr: float = 0.01
    weight_decay: float = 0.02
    clip_norm: float = 2.0
    ema: float = 0.998
    presence_weight: float = 2.0
    intensity_weight: float = 4.0
    landmark_weight: float = 2.0
    pos_weight: float | tuple[float, ...] = 2.0
    landmarks: LandmarkDecoding = field(default_factory=lambda: LandmarkDecoding(68, 0.25, 0.5))
    normalisation: Normalisation = field(
        default_factory=lambda: Normalisation((12, 88), (14, 82), 0.02, 3.0)
    )
    freeze_batchnorm: bool = False
    bfloat16: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("total_views", 1, math.inf),
            ("lr", 1e-12, 10.0),
            ("warmup_views", 0, math.inf),
            ("hold", 0.0, 1.0),
            ("final_lr", 0.0, 1.0),
            ("weight_decay", 0.0, 10.0),
            ("clip_norm", 1e-6, math.inf),
            ("ema", 0.0, 0.999999),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"{name} is {value:g}; give a number from {low:g} to {high:g} for the training"
                )

    def lr_at(self, views: int) -> float:
        """Return the learning rate after this many crops."""
        if views < self.warmup_views:
            return self.lr * (views + 1) / self.warmup_views
        begin = max(self.warmup_views, self.hold * self.total_views)
        progress = (views - begin) / max(1.0, self.total_views - begin)
        cosine = (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))) / 2
        return self.lr * (self.final_lr + (1 - self.final_lr) * cosine)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingBatch:
    """What one step learns from.

    Attributes:
        crops: ``(B, S, S)`` uint8 grey aligned crops.
        intensity: ``(B, A)`` float, FACS 0–5; NaN where not labelled.
        landmarks: ``(B, L, 2)`` float, crop pixels; NaN where unknown; None without any.
        landmark_weight: ``(B, L)`` float weight of each landmark (its visibility); None: all 1.
        presence: ``(B, A)`` float 0–1 for labels that only say whether; NaN otherwise. Where it is
            NaN presence follows from the intensity.
    """

    crops: torch.Tensor | NDArray[np.uint8]
    intensity: torch.Tensor | NDArray[np.floating]
    landmarks: torch.Tensor | NDArray[np.floating] | None = None
    landmark_weight: torch.Tensor | NDArray[np.floating] | None = None
    presence: torch.Tensor | NDArray[np.floating] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StepLosses:
    """Losses of one step, scalars on the device (reading one waits for it).

    Attributes:
        total: the weighted sum that was minimised.
        presence, intensity, landmarks: unweighted parts.
        gradient: norm of the gradient before clipping.
        lr: learning rate used.
    """

    total: torch.Tensor
    presence: torch.Tensor
    intensity: torch.Tensor
    landmarks: torch.Tensor
    gradient: torch.Tensor
    lr: float


@dataclass(frozen=True, slots=True)
class Replicas:
    """Several processes that train the same network, each on its part of every batch.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        average: replaces float tensors, in place, by their mean over the processes; called once
            per step, in every process.
    """

    rank: int
    size: int
    average: Callable[[Sequence[torch.Tensor]], None]


def normalise(crops: torch.Tensor, facts: Normalisation) -> torch.Tensor:
    """Turn crops into network input exactly as :meth:`AUNetwork.prepare` does.

    Args:
        crops: ``(B, S, S)`` uint8 grey.
        facts: of the model card.

    Returns:
        ``(B, 1, S, S)`` float32 on the same device.
    """
    x = crops.float().div_(255.0)
    window = x[:, slice(*facts.rows), slice(*facts.cols)]
    std, mean = torch.std_mean(window, dim=(1, 2), keepdim=True)
    x = (x - mean).div_(std + facts.std_offset).clamp_(-facts.clamp, facts.clamp)
    return x.unsqueeze(1)


class Trainer:
    """Train one network, a batch at a time.

    Args:
        net: ``(B, 1, S, S)`` float32 → (presence logits ``(B, A)``, intensity ``(B, A)`` in units
            of intensity / 5, landmarks ``(B, 2·L)``). It is moved to the device and trained in
            place.
        config: how.
        device: where.
        replicas: the processes that train together; None: this one alone.

    Attributes:
        net: the network being trained.
        step_count: steps done.
        views: crops seen, by all processes.
    """

    def __init__(
        self,
        net: nn.Module,
        config: TrainConfig,
        device: torch.device | str,
        replicas: Replicas | None = None,
    ) -> None:
        self.config = config
        self._replicas = replicas
        self.device = torch.device(device)
        self.net = _channels_last(net.to(self.device))
        self.step_count = 0
        self.views = 0
        self._ema = copy.deepcopy(self.net).eval().requires_grad_(False)
        self._optimiser = torch.optim.AdamW(_groups(self.net, config.weight_decay), lr=config.lr)
        self._pos_weight = torch.tensor(config.pos_weight, device=self.device)

    def step(self, batch: TrainingBatch) -> StepLosses:
        """Learn from one batch.

        Args:
            batch: crops and labels.

        Returns:
            The losses before the update.

        Raises:
            ModelError: the loss is not finite; the weights are lost and a checkpoint is needed.
        """
        config = self.config
        crops = self._put(batch.crops)
        intensity = self._put(batch.intensity).float()
        lr = config.lr_at(self.views)
        for group in self._optimiser.param_groups:
            group["lr"] = lr

        self.net.train()
        if config.freeze_batchnorm:
            _freeze_statistics(self.net)
        x = normalise(crops, config.normalisation).contiguous(memory_format=torch.channels_last)
        with self._randomness(), self._autocast():
            logits, strength, raw = self.net(x)
        presence = presence_target(intensity)
        if batch.presence is not None:
            coded = self._put(batch.presence).float()
            presence = coded.where(torch.isfinite(coded), presence)
        of_presence = presence_loss(logits.float(), presence, self._pos_weight)
        of_intensity = intensity_loss(strength.float(), intensity)
        of_landmarks = self._landmark_loss(raw, batch, crops.shape[-1])
        total = (
            config.presence_weight * of_presence
            + config.intensity_weight * of_intensity
            + config.landmark_weight * of_landmarks
        )
        self._optimiser.zero_grad(set_to_none=True)
        total.backward()
        self._share()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), config.clip_norm)
        if self.device.type == "cpu" or self.step_count % _CHECK_EVERY_ON_GPU == 0:
            self._check_finite(float(total.detach()), float(norm.detach()))
        self._optimiser.step()
        self.step_count += 1
        self.views += len(crops) * (self._replicas.size if self._replicas else 1)
        self._average()
        return StepLosses(
            total.detach(),
            of_presence.detach(),
            of_intensity.detach(),
            of_landmarks.detach(),
            norm.detach(),
            lr,
        )

    def averaged(self) -> nn.Module:
        """Return a copy of the network with the averaged weights and statistics, in eval mode."""
        return copy.deepcopy(self._ema)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return everything a resumed run needs, as named contiguous tensors on the CPU.

        Returns:
            ``net.*``, ``ema.*``, ``optimizer.<quantity>.<parameter>``, ``step``, ``views``.

        Raises:
            ModelError: a weight is not finite; such a state is not worth keeping.
        """
        state = {f"net.{key}": value for key, value in self.net.state_dict().items()}
        state |= {f"ema.{key}": value for key, value in self._ema.state_dict().items()}
        for name, parameter in self.net.named_parameters():
            for quantity, value in self._optimiser.state.get(parameter, {}).items():
                state[f"optimizer.{quantity}.{name}"] = value
        broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
        if broken:
            raise self._diverged(f"{broken[0]} holds values that are not finite")
        state["step"] = torch.tensor(self.step_count)
        state["views"] = torch.tensor(self.views)
        # A clone, because safetensors refuses tensors that share memory, and the run goes on.
        return {key: value.detach().cpu().clone().contiguous() for key, value in state.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a state of :meth:`state_dict`; the next step is as if nothing had happened.

        Args:
            state: of a trainer with the same network and configuration.

        Raises:
            ModelError: the state belongs to another network; nothing was changed then.
        """
        slots = {f"net.{key}": value for key, value in self.net.state_dict().items()}
        slots |= {f"ema.{key}": value for key, value in self._ema.state_dict().items()}
        parameters = dict(self.net.named_parameters())
        moments: dict[str, tuple[str, str]] = {}
        for key in state:
            if key.startswith("optimizer."):
                _, quantity, name = key.split(".", 2)
                moments[key] = (quantity, name)
        problems = [f"{key} is missing" for key in (*slots, "step", "views") if key not in state]
        problems += [
            f"{key} is unknown"
            for key in state
            if key not in slots
            and key not in ("step", "views")
            and moments.get(key, ("", ""))[1] not in parameters
        ]
        problems += [
            f"{key} has shape {tuple(state[key].shape)} instead of {tuple(value.shape)}"
            for key, value in slots.items()
            if key in state and state[key].shape != value.shape
        ]
        if problems:
            raise ModelError(
                f"the checkpoint does not fit this network: {', '.join(problems[:3])}"
                f"{f' and {len(problems) - 3} more' if len(problems) > 3 else ''}; resume with the "
                "same network and AUs it was made with"
            )
        with torch.no_grad():
            for key, value in slots.items():
                value.copy_(state[key])
        self._optimiser.state.clear()
        for key, (quantity, name) in moments.items():
            parameter = parameters[name]
            value = state[key]
            if quantity == "step":  # AdamW keeps its counter on the CPU
                value = value.clone()
            else:
                value = torch.empty_like(parameter).copy_(value)
            self._optimiser.state[parameter][quantity] = value
        self.step_count = int(state["step"])
        self.views = int(state["views"])

    def _put(self, values: torch.Tensor | NDArray) -> torch.Tensor:
        tensor = values if isinstance(values, torch.Tensor) else torch.from_numpy(values)
        return tensor.to(self.device, non_blocking=True)

    def _landmark_loss(self, raw: torch.Tensor, batch: TrainingBatch, side: int) -> torch.Tensor:
        if batch.landmarks is None:
            return torch.zeros((), device=self.device)
        facts = self.config.landmarks
        wanted = (self._put(batch.landmarks).float() / side - facts.offset) / facts.scale
        weight = batch.landmark_weight
        return landmark_loss(
            raw.float(), wanted, None if weight is None else self._put(weight).float()
        )

    def _share(self) -> None:
        """Average gradients, and the statistics of BatchNorm, over the processes."""
        if self._replicas is None:
            return
        shared = [p.grad for p in self.net.parameters() if p.grad is not None]
        shared += [buffer for buffer in self.net.buffers() if buffer.is_floating_point()]
        self._replicas.average(shared)

    def _randomness(self) -> _StepSeed:
        rank = self._replicas.rank if self._replicas else 0
        return _StepSeed(self.config.seed, self.step_count, rank, self.device)

    def _autocast(self) -> torch.autocast | nullcontext[None]:
        wanted = self.config.bfloat16
        if self.device.type == "cuda" if wanted is None else wanted:
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged floats towards the current ones; counters are copied."""
        n = self.step_count
        decay = min(self.config.ema, (n + 1) / (n + 10))
        averages, values = [], []
        for old, new in zip(_values(self._ema), _values(self.net), strict=True):
            if old.is_floating_point():
                averages.append(old)
                values.append(new)
            else:
                old.copy_(new)
        get_ema_multi_avg_fn(decay)(averages, values, n)

    def _check_finite(self, total: float, norm: float) -> None:
        if not math.isfinite(total) or not math.isfinite(norm):
            raise self._diverged(f"the loss is {total} and the norm of its gradient {norm}")

    def _diverged(self, what: str) -> ModelError:
        return ModelError(
            f"training diverged at step {self.step_count} ({self.views} crops seen): {what}; "
            "train again with a lower learning rate (--lr)"
        )


class _StepSeed:
    """Seeds torch for one step and gives the caller's random state back after it."""

    def __init__(self, seed: int, step: int, rank: int, device: torch.device) -> None:
        # One 64-bit number per (seed, step, rank), well mixed, from the same place every time.
        words = np.random.SeedSequence([seed, step, rank]).generate_state(2, np.uint32)
        self._seed = int(words[0]) << 32 | int(words[1])
        devices = [device] if device.type == "cuda" else []
        self._fork = torch.random.fork_rng(devices=devices)

    def __enter__(self) -> None:
        self._fork.__enter__()
        torch.manual_seed(self._seed)

    def __exit__(self, *reason: object) -> None:
        self._fork.__exit__(None, None, None)


def _values(net: nn.Module) -> list[torch.Tensor]:
    return [*net.parameters(), *net.buffers()]


def _channels_last(net: nn.Module) -> nn.Module:
    """Lay convolution weights out as channels_last, in place; activations follow the weights."""
    for parameter in net.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return net


def _groups(net: nn.Module, decay: float) -> list[dict]:
    """Split parameters into those that decay and those that do not: biases, BatchNorm."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _freeze_statistics(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
