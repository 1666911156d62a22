"""A training run from labelled faces to a model file: resumable, and the same for the same seed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...core.errors import ConfigError
from ...core.network.au_network import AUNetwork
from . import checkpoints
from .crops import CropSet, centre
from .evaluate import AUFigures, as_json, evaluate_crops
from .networks import Start, export
from .trainer import StepLosses, TrainConfig, Trainer
from .views import Views

__all__ = ["Session", "TrainingOutcome", "plan"]

_BATCH = 64


def plan(start: Start, views: int, *, lr: float, seed: int, freeze_batchnorm: bool) -> TrainConfig:
    """Return the configuration of a run.

    Args:
        start: where it begins; alignment, normalisation and landmarks follow its card.
        views: crops to see in all.
        lr: highest learning rate.
        seed: of everything random.
        freeze_batchnorm: see :class:`TrainConfig`.
    """
    card = start.base.card
    return TrainConfig(
        total_views=views,
        lr=lr,
        warmup_views=min(10_000, views // 20),
        landmarks=start.landmarks,
        normalisation=card.normalisation,
        freeze_batchnorm=freeze_batchnorm,
        seed=seed,
    )


@dataclass(frozen=True, slots=True, eq=False)
class TrainingOutcome:
    """What a finished run leaves.

    Attributes:
        path: the weights, their card beside them.
        figures: of the held-out subjects; empty without any.
    """

    path: Path
    figures: list[AUFigures]


class Session:
    """One run in one folder.

    Landmarks are not part of the data sets read here. So that the landmark head, which live
    alignment needs, is not lost while the layers before it change, it is held to what the network
    that the run begins from says of the same crops.

    Args:
        start: where the run begins.
        data: crops to learn from; labels in any AU order.
        config: how.
        folder: for checkpoints and the result.
        batch: crops per step.
        device: where to train.
        on_progress: called with the number of crops whose landmarks are known.

    References:
        Li & Hoiem, *Learning without forgetting*, IEEE TPAMI 40(12), 2018 (the landmark head).
    """

    def __init__(
        self,
        start: Start,
        data: CropSet,
        config: TrainConfig,
        folder: Path,
        *,
        batch: int,
        device: torch.device,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        self.start = start
        self.folder = folder
        self.batch = batch
        self.trainer = Trainer(start.net, config, device)
        ordered = dataclasses.replace(data, faces=data.faces.columns(start.facts["aus"]))
        landmarks = _landmarks(start.base, centre(data.crops), on_progress)
        self._views = Views(ordered, config.seed, landmarks)
        self._facts = {
            "aus": start.facts["aus"],
            "architecture": start.facts["architecture"],
            "base": start.base.card.sha256,
            "added": list(start.added),
            "batch": batch,
            "config": _as_facts(config),
            "data": _fingerprint(ordered),
        }

    @property
    def finished(self) -> bool:
        """Whether the planned number of views was seen."""
        return self.trainer.views >= self.trainer.config.total_views

    def resume(self) -> int:
        """Continue from the newest checkpoint of the folder; return the views it had seen.

        Raises:
            ConfigError: there is none, or it belongs to a run with other data or options.
            ModelError: it cannot be read.
        """
        path = checkpoints.latest(self.folder)
        if path is None:
            raise ConfigError(f"{self.folder} holds no checkpoint to resume; leave out --resume")
        stored = checkpoints.load(path)
        differences = _differences(stored.facts, self._facts)
        if differences:
            raise ConfigError(
                f"{path} belongs to another run: it differs in {', '.join(differences)}; resume "
                "with the options and data it was begun with, or train into another folder"
            )
        self.trainer.load_state_dict(stored.tensors)
        return self.trainer.views

    def save(self) -> Path:
        """Write a checkpoint.

        Raises:
            ModelError: it cannot be written; the last one is as it was.
        """
        trainer = self.trainer
        return checkpoints.save(self.folder, trainer.step_count, trainer.state_dict(), self._facts)

    def run(
        self,
        *,
        save_every: int,
        on_step: Callable[[StepLosses], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train to the end, with a checkpoint every few steps and one at the end.

        Args:
            save_every: steps between checkpoints.
            on_step: called after each step.
            stop: asked before each step; True ends the run early, after a checkpoint.

        Raises:
            ModelError: training diverged, or a checkpoint cannot be written.
        """
        trainer = self.trainer
        while not self.finished and not stop():
            losses = trainer.step(self._views.batch(trainer.views, self.batch))
            if on_step is not None:
                on_step(losses)
            if trainer.step_count % save_every == 0 and not self.finished:
                self.save()
        self.save()

    def finish(self, test: CropSet | None, card: Mapping[str, Any]) -> TrainingOutcome:
        """Measure on held-out crops and write ``model.safetensors`` with its card.

        Args:
            test: crops of subjects that were not trained on; None without.
            card: fields of the card to set, such as ``name`` and ``trained_on``.

        Raises:
            ModelError: a file cannot be written.
        """
        net = self.trainer.averaged()
        facts = {**self.start.facts, **card}
        figures: list[AUFigures] = []
        if test is not None:
            device = str(self.trainer.device)
            figures = evaluate_crops(AUNetwork.from_module(net, self.start.card(), device), test)
            measured = as_json(figures)
            facts["evaluation"] = {
                **measured["aus"],
                "mean": measured["mean"],
                "of": f"{len(test.faces)} pictures of {len(test.faces.subjects)} subjects held out",
            }
        path = self.folder / "model.safetensors"
        export(net, facts, path)
        return TrainingOutcome(path, figures)


def _landmarks(
    network: AUNetwork, crops: NDArray[np.uint8], on_progress: Callable[[int], None] | None
) -> NDArray[np.float32] | None:
    """Return the network's landmarks of every crop; None unless they are the 68 of Multi-PIE."""
    facts = network.card.landmarks
    if facts is None or facts.count != 68:  # mirroring knows no other order
        return None
    parts = []
    for first in range(0, len(crops), _BATCH):
        parts.append(network.landmarks(crops[first : first + _BATCH]))
        if on_progress is not None:
            on_progress(min(first + _BATCH, len(crops)))
    return np.concatenate(parts)


def _as_facts(config: TrainConfig) -> dict[str, Any]:
    facts = dataclasses.asdict(config)
    facts["normalisation"] = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in facts["normalisation"].items()
    }
    return facts


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the facts that differ; of the configuration each value, because options set them."""
    names = []
    for key, value in now.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            names += [
                f"{k} ({old.get(k)} then, {v} now)" for k, v in value.items() if old.get(k) != v
            ]
        elif old != value:
            names.append(key)
    return names


def _fingerprint(data: CropSet) -> str:
    """Identify crops and labels, whatever the paths they came from."""
    digest = hashlib.sha256(np.ascontiguousarray(data.crops).data)
    digest.update(data.faces.intensity.tobytes())
    digest.update(data.faces.presence.tobytes())
    return digest.hexdigest()[:32]
