"""The long run: train the embedded network on rendered faces, checkpointed and resumable.

Shards may still be appearing while it runs; new ones are taken in at each epoch. Every view is new
(occluders, misalignment, light, camera), validation views are fixed and of identities that are
never trained on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from facestage.core.errors import ConfigError, ModelError
from facestage.core.learning import metrics
from facestage.core.network.architectures import LAYOUTS, AUNet96, au_net
from facestage.core.network.au_network import EMBEDDED
from facestage.core.network.card import ModelCard
from facestage.stream.learning import checkpoints
from facestage.stream.learning.networks import export, start
from facestage.stream.learning.trainer import (
    Replicas,
    TrainConfig,
    Trainer,
    TrainingBatch,
    normalise,
)
from numpy.typing import NDArray
from torch import nn

from ..data.loader import ACTIVE, ViewBatch, ViewLoader, known_weights
from ..face.facs import AUS
from ..photos.portraits import FIRST_IDENTITY as FIRST_PORTRAIT
from .heads import put_in
from .team import Team, gathered
from .widen import widened

__all__ = [
    "Progress",
    "RunConfig",
    "averaged_network",
    "card_of",
    "export_with",
    "new_network",
    "run",
    "score",
    "stored_network",
    "validate",
]

_SMOOTHING = 0.98
_OTHER_SEEDS = 7_919
"""Keeps the seeds of photographs apart from those of the rendered faces, and of one another."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """One training run.

    Attributes:
        shards: folder of rendered shards.
        out: folder of checkpoints and ``log.jsonl``.
        views: crops to train on in all.
        batch: crops per step.
        lr: learning rate after the warm-up.
        hold: share of the run before the rate begins to fall.
        ema: decay of the averaged weights per step.
        seed: of weights, order, views and dropout.
        every: crops between checkpoints.
        validation: fixed held-out views to judge by at each checkpoint.
        workers: threads that make views, in each process.
        processes: that share every batch; on a CPU one per core is fastest.
        threads: of torch in each process.
        begin: weights to begin from: ``scratch``, ``embedded`` or a ``.safetensors`` file.
        beside: further folders of shards (photographs), each with its share of every batch. Their
            labels count; their landmarks, another network's, do not.
        bfloat16: compute in it; twice as fast on a CPU that has instructions for it.
    """

    shards: Path
    out: Path
    views: int
    batch: int = 48
    lr: float = 2e-3
    hold: float = 0.3
    ema: float = 0.998
    seed: int = 1
    every: int = 24_000
    validation: int = 2_000
    workers: int = 1
    processes: int = 1
    threads: int = 1
    begin: str = "scratch"
    beside: tuple[tuple[Path, float], ...] = ()
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if self.processes < 1 or self.batch // self.processes < 2:
            raise ConfigError(
                f"a batch of {self.batch} cannot be shared by {self.processes} processes: each "
                "needs 2 crops at least; give fewer processes or a larger batch"
            )
        shares = [share for _, share in self.beside]
        if any(share <= 0 for share in shares) or sum(shares) >= 1:
            raise ConfigError(
                f"shares {shares} of every batch leave {1 - sum(shares):g} for the rendered faces; "
                "give shares above 0 that make less than 1"
            )

    def parts(self) -> tuple[int, ...]:
        """Return how many crops of a process's batch are rendered, and of each folder beside."""
        whole = self.batch // self.processes
        beside = [max(1, round(whole * share)) for _, share in self.beside]
        return whole - sum(beside), *beside


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is.

    Attributes:
        views, epoch, faces: crops seen, passes over the faces, faces to train on.
        presence, intensity, landmarks: losses, running means.
        seconds: since this process began, views made by it.
        done: views made by this process.
        figures: of the held-out views, only at a checkpoint.
    """

    views: int
    epoch: int
    faces: int
    presence: float
    intensity: float
    landmarks: float
    seconds: float
    done: int
    figures: dict | None = None


def new_network(seed: int) -> AUNet96:
    """Build the embedded architecture with weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return au_net(AUS)


def run(config: RunConfig, report: Callable[[Progress], None], device: str = "cpu") -> nn.Module:
    """Train from the newest checkpoint of the folder, or from scratch.

    Args:
        config: what to do. A resumed run must be given the same.
        report: called about every hundred steps and at every checkpoint.
        device: torch device.

    Returns:
        The network with averaged weights, in eval mode.

    Raises:
        SourceError: there are no shards, or one cannot be read.
        ModelError: the newest checkpoint is damaged or of another network; training diverged; a
            checkpoint cannot be written.
    """
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    try:
        with gathered(config.processes, _assist, config, device) as team:
            return _learn(team, config, report, device)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _assist(team: Team, config: RunConfig, device: str) -> None:
    """Train as one of several processes; rank 0 reports and writes."""
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    _learn(team, config, lambda _: None, device)


def _learn(
    team: Team, config: RunConfig, report: Callable[[Progress], None], device: str
) -> nn.Module:
    trainer = Trainer(
        new_network(config.seed)
        if config.begin == "scratch"
        else stored_network(config.begin, config.seed).train(),
        TrainConfig(
            total_views=config.views,
            lr=config.lr,
            hold=config.hold,
            ema=config.ema,
            seed=config.seed,
            bfloat16=config.bfloat16 or None,
        ),
        device,
        replicas=Replicas(team.rank, team.size, team.average) if team.size > 1 else None,
    )
    epoch, position = 0, 0
    newest = team.agreed(checkpoints.latest(config.out))
    if newest is not None:
        checkpoint = checkpoints.load(newest)
        trainer.load_state_dict(checkpoint.tensors)
        epoch, position = checkpoint.facts["epoch"], checkpoint.facts["position"]
    began, first = time.perf_counter(), trainer.views
    mean = np.zeros(3)
    weight = 0.0
    rendered, *photographed = config.parts()
    # Which shards there are is rank 0's word: they may appear while the processes look.
    files = team.agreed(_files(config.shards))
    with (
        ViewLoader(files, config.seed, batch=rendered, workers=config.workers) as loader,
        ExitStack() as open_loaders,
    ):
        others = [
            open_loaders.enter_context(
                ViewLoader(
                    [folder],
                    # Each process draws its own: a folder may hold less than a batch for all.
                    config.seed + _OTHER_SEEDS * (1 + team.rank),
                    batch=count,
                    workers=1,
                    weigh=known_weights,
                )
            ).endless(trainer.step_count)
            for (folder, _), count in zip(config.beside, photographed, strict=True)
        ]
        held_out = loader.validation_views(config.validation, seed=0) if not team.rank else None

        def now(figures: dict | None = None) -> Progress:
            return Progress(
                trainer.views,
                epoch,
                loader.faces,
                *(float(value) for value in mean / max(weight, 1e-9)),
                seconds=time.perf_counter() - began,
                done=trainer.views - first,
                figures=figures,
            )

        def keep() -> None:
            if held_out is None:
                return
            figures = validate(trainer.averaged(), held_out)
            facts = {"epoch": epoch, "position": position, "figures": figures, **_facts(config)}
            checkpoints.save(config.out, trainer.views, trainer.state_dict(), facts)
            _log(config.out, now(figures))
            report(now(figures))

        while trainer.views < config.views:
            loader.refresh(team.agreed(_files(config.shards)))
            for batch in loader.epoch(epoch, skip=position, share=(team.rank, team.size)):
                losses = trainer.step(_joined(batch, [next(other) for other in others]))
                position += 1
                parts = [float(losses.presence), float(losses.intensity), float(losses.landmarks)]
                mean = _SMOOTHING * mean + (1 - _SMOOTHING) * np.array(parts)
                weight = _SMOOTHING * weight + 1 - _SMOOTHING
                if trainer.step_count % 100 == 0:
                    report(now())
                done = trainer.views >= config.views
                before = trainer.views - sum(config.parts()) * team.size
                if done or trainer.views // config.every > before // config.every:
                    keep()
                if done:
                    break
            else:
                epoch, position = epoch + 1, 0
    return trainer.averaged()


def _joined(rendered: ViewBatch, photographs: Sequence[ViewBatch]) -> TrainingBatch:
    """Put batches together.

    The landmarks of photographs get no weight. What a portrait shows was not coded, so that it is
    there is learned, and how much is not; that nothing is there is both.
    """
    parts = (rendered, *photographs)
    weights = [rendered.visibility, *(np.zeros_like(part.visibility) for part in photographs)]
    intensity = np.concatenate([part.intensity for part in parts])
    identity = np.concatenate([part.identity for part in parts])
    presence = np.full_like(intensity, np.nan)
    uncoded = (identity >= FIRST_PORTRAIT)[:, None] & (intensity > 0)
    presence[uncoded], intensity[uncoded] = 1, np.nan
    return TrainingBatch(
        np.concatenate([part.image for part in parts]),
        intensity,
        np.concatenate([part.landmarks for part in parts]),
        np.concatenate(weights),
        presence,
    )


def _files(shards: Path) -> list[Path]:
    """List the finished shards of a folder; a name with a leading dot is not finished."""
    return [path for path in sorted(shards.glob("*.npz")) if not path.name.startswith(".")]


def export_with(
    net: AUNet96,
    facts: Mapping[str, Any],
    out: Path,
    heads: Sequence[checkpoints.Checkpoint] = (),
) -> ModelCard:
    """Write weights with a model card.

    Args:
        net: the network, changed in place.
        facts: JSON-ready fields of the card; the sha256 and the architecture are added.
        out: the ``.safetensors`` file.
        heads: read-outs that were trained anew for just these weights.

    Returns:
        The card.

    Raises:
        ModelError: the read-outs are of another network, or the card is not valid.
    """
    put_in(net, [(head.tensors, head.facts) for head in heads])
    architecture = next(name for name, layout in LAYOUTS.items() if layout == net.layout)
    return export(net, {**facts, "architecture": architecture}, out)


def stored_network(weights: str, seed: int = 0) -> AUNet96:
    """Read weights that can be trained, in the newest layout of hidden units.

    Args:
        weights: ``embedded``, or the path of a ``.safetensors`` file with its card.
        seed: of the units and outputs that the weights do not have.

    Raises:
        ModelError: the weights cannot be used.
    """
    net = start(weights, AUS, seed).net
    if not isinstance(net, AUNet96):
        raise ModelError(f"{weights}: only networks of {', '.join(LAYOUTS)} have such read-outs")
    return widened(net, seed=seed)


def card_of(weights: str) -> dict[str, Any]:
    """Return the fields of the card beside weights (``embedded``, or a file)."""
    path = EMBEDDED if weights == "embedded" else Path(weights)
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def averaged_network(folder: Path, blends: Sequence[tuple[Path, float]] = ()) -> AUNet96:
    """Build the network with the averaged weights of the newest checkpoint.

    Args:
        folder: of checkpoints.
        blends: earlier checkpoints of the same run to average with (Izmailov et al., *Averaging
            Weights Leads to Wider Optima and Better Generalization*, UAI 2018), each with its
            share of all, 0–1; the newest has the rest.

    Returns:
        The network in eval mode.

    Raises:
        ModelError: there is no checkpoint, or it cannot be read.
        ConfigError: the shares are more than all.
    """
    newest = checkpoints.latest(folder)
    if newest is None:
        raise ModelError(f"no checkpoint in {folder}; train into it first")
    rest = 1 - sum(share for _, share in blends)
    if rest < 0 or any(share < 0 for _, share in blends):
        raise ConfigError(
            f"shares {[share for _, share in blends]} leave {rest:g} for the newest checkpoint; "
            "give shares of 0 or more that make 1 at most"
        )
    net = new_network(0)
    averaged = _averaged(newest)
    if blends:
        parts = [(_averaged(path), share) for path, share in blends]
        for name, newest_value in averaged.items():
            if newest_value.is_floating_point():
                mixed = rest * newest_value.double()
                for part, share in parts:
                    mixed += share * part[name].double()
                averaged[name] = mixed.to(newest_value.dtype)
    net.load_state_dict(averaged)
    return net.eval()


def _averaged(path: Path) -> dict[str, torch.Tensor]:
    """Read the averaged weights of a checkpoint, or those of a weights file with its card."""
    if path.with_suffix(".json").is_file():
        return stored_network(str(path)).state_dict()
    tensors = checkpoints.load(path).tensors
    return {k.removeprefix("ema."): v for k, v in tensors.items() if k.startswith("ema.")}


def validate(net: nn.Module, views: ViewBatch) -> dict:
    """Judge a network on held-out views.

    Args:
        net: in eval mode, on the CPU or a GPU.
        views: of :meth:`ViewLoader.validation_views`.

    Returns:
        JSON-ready figures, see :func:`score`.
    """
    device = next(net.parameters()).device
    facts = TrainConfig(total_views=1)
    logits, strength, points = [], [], []
    with torch.inference_mode():
        for start in range(0, len(views.image), 128):
            crops = torch.from_numpy(views.image[start : start + 128]).to(device)
            outputs = net(normalise(crops, facts.normalisation))
            for collected, values in zip((logits, strength, points), outputs, strict=True):
                collected.append(values.float().cpu().numpy())
    side = views.image.shape[-1]
    raw = np.concatenate(points)
    landmarks = (raw * facts.landmarks.scale + facts.landmarks.offset) * side
    return score(
        np.concatenate(logits), np.concatenate(strength) * 5, landmarks.reshape(-1, 68, 2), views
    )


def score(
    logits: NDArray[np.float32],
    intensity: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    views: ViewBatch,
) -> dict:
    """Compare outputs with the truth of rendered views.

    Args:
        logits: ``(B, A)`` presence logits.
        intensity: ``(B, A)`` FACS 0–5.
        landmarks: ``(B, 68, 2)`` crop pixels.
        views: what is true.

    Returns:
        ``auc`` and ``icc`` (means over the AUs), ``per_au`` → ``auc``, ``auc_clear`` (traces below
        A left out), ``icc``, ``prevalence``; ``landmark_error`` (median over the views of the mean
        visible-point distance, per cent of the distance between the eyes). None where the views do
        not decide: an AU that all of them show, or none.
    """
    per_au = {}
    for column, au in enumerate(AUS):
        truth = views.intensity[:, column]
        known = np.isfinite(truth)
        present = np.where(known, truth >= ACTIVE, np.nan)
        clear = np.where((truth > 0) & (truth < ACTIVE), np.nan, present)
        per_au[str(au)] = {
            "auc": metrics.roc_auc(present, logits[:, column]),
            "auc_clear": metrics.roc_auc(clear, logits[:, column]),
            "icc": metrics.icc_3_1(truth, np.where(known, intensity[:, column].clip(0, 5), np.nan))
            if len(np.unique(truth[known])) > 1
            else np.nan,
            "prevalence": float(np.mean(present[known])),
        }
    eyes = views.landmarks[:, 36:42].mean(1), views.landmarks[:, 42:48].mean(1)
    between = np.linalg.norm(eyes[0] - eyes[1], axis=-1)
    distance = np.linalg.norm(landmarks - views.landmarks, axis=-1)
    visible = views.visibility.sum(1)
    error = (distance * views.visibility).sum(1)[visible > 0] / (visible * between)[visible > 0]

    def mean(name: str) -> float | None:
        values = np.array([figures[name] for figures in per_au.values()])
        return float(np.nanmean(values)) if np.isfinite(values).any() else None

    return {
        "auc": mean("auc"),
        "auc_clear": mean("auc_clear"),
        "icc": mean("icc"),
        "landmark_error": float(np.median(error) * 100) if len(error) else None,
        "views": len(views.image),
        "per_au": {
            au: {
                name: round(float(value), 4) if np.isfinite(value) else None
                for name, value in figures.items()
            }
            for au, figures in per_au.items()
        },
    }


def _facts(config: RunConfig) -> dict:
    facts = {name: value for name, value in asdict(config).items() if name not in ("shards", "out")}
    facts["beside"] = [[folder.name, share] for folder, share in config.beside]
    return facts


def _log(folder: Path, progress: Progress) -> None:
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(progress)) + "\n")
