"""Retrain the read-outs of single Action Units on features that stay as they are.

Each AU is read from hidden units of its zones of the face, and some of these units serve it alone
(AU 6: those of the cheeks). Such units, with the AU's own outputs, can be trained anew without
moving the output of any other AU by a single bit. The convolutions before them need to run once
per view (:mod:`training.fit.features`), so a try costs a minute, not hours.

What the AU read from units that it shares with others is dropped: those were trained for all their
readers together, and no gradient may reach them here. Or, with ``outputs_only``, the outputs alone
are trained, on the units as they are.

Rendered views may be joined by photographs, whose labels are partly known, and an AU may be held to
the features that look at its region of the face (:mod:`training.fit.gates`).

Features of the region alone are too few to learn from renders what holds for people. So a
*teacher*, a read-out that may read more, can say what portraits show that nobody coded: the gated
read-out learns to find the same on real skin, from where it has to be found.

Views that show what is easily taken for the AU, without it, count several times: a smile alone is
no AU 6.

How far a read-out is fitted decides how well it carries over from renders to real faces: fitted to
the last thousandth of AUC it leans on what only renders have. So several are trained, each with
stronger weight decay, and of those whose AUC on held-out views is within one standard error of the
best the most strongly decayed is taken. Real faces take no part in the choice.

References:
    Breiman, Friedman, Olshen & Stone, *Classification and Regression Trees*, 1984, §3.4.3 (the
    one-standard-error rule).
    Hinton, Vinyals & Dean, *Distilling the knowledge in a neural network*, 2015 (the teacher).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facestage.core.errors import ConfigError, ModelError, SourceError
from facestage.core.learning import metrics
from facestage.core.learning.losses import intensity_loss, presence_loss, presence_target
from facestage.core.network.architectures import AUNet96, ZonedLinear
from facestage.stream.learning import checkpoints
from facestage.stream.learning.trainer import TrainConfig
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from ..data.loader import ACTIVE
from ..face.facs import AUS
from .features import Features, digest_of

__all__ = [
    "GIVEN",
    "NEIGHBOURS",
    "PRESENT",
    "TEACHERS",
    "HeadsConfig",
    "Material",
    "fit",
    "load",
    "one_error_rule",
    "own_units",
    "put_in",
    "retrain",
    "save",
]

GIVEN, PRESENT = "given", "present"
TEACHERS = ("", PRESENT, GIVEN)
"""Who says what photographs show where they are not labelled; see :class:`HeadsConfig`."""

_LAYERS = ("hidden.", "presence.", "intensity.")
_WARMUP_STEPS = 100
_FIRST_LOGIT = -2.0
NEIGHBOURS: dict[int, tuple[int, ...]] = {6: (7, 9, 10, 12, 43)}
"""AU → those that move the same skin, and come with it more often than not."""
_PLAIN, _ABSENT = 2.0, 0.5
"""FACS intensities from which an AU is plain to see, and below which it is not there."""
_JUDGED = 512
"""Views that are judged at once."""


@dataclass(frozen=True, slots=True)
class HeadsConfig:
    """How read-outs are trained.

    Attributes:
        aus: the AUs.
        epochs: passes over the views.
        batch: crops per step.
        lr: highest learning rate; it falls to a hundredth by a cosine.
        dropout: share of features and hidden units left out.
        confusing: how often a view counts that shows a neighbour (:data:`NEIGHBOURS`) without the
            AU.
        decays: weight decays that are tried, rising.
        seed: of weights, order and dropout.
        photographs: share of each batch that is photographs, 0–1.
        gate: least enrichment of a feature that may be read, of the first AU's region; 0 for all.
        outputs_only: train the outputs on the hidden units as they are.
        keep: share of the old outputs that stays in the new ones, 0–1; with ``outputs_only``, where
            both are linear in the same units, so their mean is the mean of what they say.
        teacher: who says what photographs show where they are not labelled: ``present``, the
            network as it is; ``given``, :attr:`Material.teacher`; nobody when empty.
    """

    aus: tuple[int, ...]
    epochs: int = 2
    batch: int = 384
    lr: float = 2e-3
    dropout: float = 0.1
    confusing: int = 3
    decays: tuple[float, ...] = (0.02, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
    seed: int = 1
    photographs: float = 0.0
    gate: float = 0.0
    outputs_only: bool = False
    keep: float = 0.0
    teacher: str = ""

    def __post_init__(self) -> None:
        if not self.aus or min(self.epochs, self.batch, self.confusing) < 1:
            raise ConfigError(
                f"AUs {self.aus}, epochs {self.epochs}, batch {self.batch}, confusing "
                f"{self.confusing}: name an AU at least, and give numbers above 0"
            )
        if not 0 <= self.photographs < 1 or self.gate < 0 or (self.gate and self.outputs_only):
            raise ConfigError(
                f"photographs {self.photographs:g}, gate {self.gate:g}: give a share below 1 and a "
                "gate of 0 or more, and no gate where only outputs are trained"
            )
        if not 0 <= self.keep < 1 or (self.keep and not self.outputs_only):
            raise ConfigError(
                f"a share of {self.keep:g} of the old outputs cannot be kept: give 0 to below 1, "
                "and train the outputs only"
            )
        if self.teacher not in TEACHERS or (self.teacher and not self.photographs):
            raise ConfigError(
                f"a teacher {self.teacher!r} for {self.photographs:g} of photographs: it is one of "
                f"{', '.join(filter(None, TEACHERS))}, and needs photographs"
            )
        if not self.decays or min(self.decays) < 0 or sorted(self.decays) != list(self.decays):
            raise ConfigError(f"weight decays {self.decays}: give rising numbers of 0 or more")


def own_units(net: AUNet96, aus: Sequence[int]) -> torch.Tensor:
    """Find the hidden units that serve these AUs and no other.

    Args:
        net: the network.
        aus: AUs of it.

    Returns:
        ``(U,)`` bool.

    Raises:
        ConfigError: the network has no such AU, or one of them has no unit of its own.
    """
    unknown = sorted(set(aus) - set(net.aus))
    if unknown:
        raise ConfigError(f"the network has no AU {unknown[0]}; it has {net.aus}")
    rows = torch.tensor([au in aus for au in net.aus])
    reads = net.presence.reads.bool()
    own = reads[rows].any(0) & ~reads[~rows].any(0)
    for au in aus:
        if not (reads[net.aus.index(au)] & own).any():
            others = sorted(
                {
                    other
                    for other in net.aus
                    if other not in aus
                    and (reads[net.aus.index(other)] & reads[net.aus.index(au)]).any()
                }
            )
            raise ConfigError(
                f"AU {au} has no hidden unit of its own, it shares all with AU "
                f"{', '.join(map(str, others))}; name these too, or train the whole network"
            )
    return own


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What read-outs are trained on.

    Attributes:
        seen: of rendered views.
        photographs: of views of photographs; None for none.
        enriched: ``(F,)``, how much more each feature looks at the region of the AU than at the
            face (:func:`training.fit.gates.enrichment`); needed for a gate.
        teacher: a network with the same trunk; needed where one is asked for.
    """

    seen: Features
    photographs: Features | None = None
    enriched: NDArray[np.float64] | None = None
    teacher: AUNet96 | None = None


def fit(
    net: AUNet96,
    material: Material,
    config: HeadsConfig,
    decay: float,
    report: Callable[[int, float], None] = lambda *_: None,
) -> dict[str, torch.Tensor]:
    """Train the units and outputs of the AUs, from scratch.

    Args:
        net: the network, which is not changed.
        material: to train on.
        config: how.
        decay: of the weights, see :class:`torch.optim.AdamW`.
        report: called after each epoch with its number and its mean loss.

    Returns:
        For :func:`put_in`: the whole ``hidden``, ``presence`` and ``intensity`` layers, in which
        everything else is as it was.

    Raises:
        ConfigError: photographs, a gate or a teacher are asked for and not given, or no feature
            passes the gate.
        ModelError: training diverged.
    """
    place = _place(net, config, material.enriched)
    inputs, labels, presence = _joined(net, material, config, place)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        head = _ReadOut(place, config.dropout)
        optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in head.parameters() if p.ndim > 1]},
                {"params": [p for p in head.parameters() if p.ndim == 1], "weight_decay": 0.0},
            ],
            lr=config.lr,
            weight_decay=decay,
        )
        rendered = torch.from_numpy(_repeated(material.seen.intensity, config))
        photographs = torch.arange(len(material.seen), len(inputs))
        beside = round(config.batch * config.photographs)
        own = config.batch - beside
        steps = max(1, len(rendered) // own)
        schedule = TrainConfig(
            config.epochs * steps, lr=config.lr, warmup_views=_WARMUP_STEPS, hold=0.0
        )
        for epoch in range(config.epochs):
            order = rendered[torch.randperm(len(rendered))]
            total = 0.0
            for step in range(steps):
                for group in optimiser.param_groups:
                    group["lr"] = schedule.lr_at(epoch * steps + step)
                chosen = order[step * own : (step + 1) * own]
                if beside:
                    drawn = torch.randint(len(photographs), (beside,))
                    chosen = torch.cat([chosen, photographs[drawn]])
                loss = _loss(head(inputs[chosen].float()), presence[chosen], labels[chosen])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += float(loss.detach())
            if not np.isfinite(total):
                raise ModelError(
                    f"the read-outs of AU {', '.join(map(str, config.aus))} diverged in epoch "
                    f"{epoch}; lower the learning rate, {config.lr:g}"
                )
            report(epoch, total / steps)
        _scale(head, inputs, presence, rendered)
    return _laid_out(net, head, place, config.keep)


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where read-outs sit in the network.

    Attributes:
        rows: outputs of the AUs. ``units``: hidden units they read, numbers.
        inputs: ``(I,)`` what is read: features, or hidden units where only outputs are trained.
        hidden: ``(U, I)`` bool, what each unit reads; None where only outputs are trained.
        outputs: ``(A, U)`` bool, the units each output reads.
    """

    rows: torch.Tensor
    units: torch.Tensor
    inputs: torch.Tensor
    hidden: torch.Tensor | None
    outputs: torch.Tensor


def _place(net: AUNet96, config: HeadsConfig, enriched: NDArray[np.float64] | None) -> _Place:
    rows = torch.tensor([net.aus.index(au) for au in config.aus])
    if config.outputs_only:
        units = net.presence.reads[rows].bool().any(0).nonzero()[:, 0]
        return _Place(rows, units, units, None, net.presence.reads[rows][:, units].bool())
    units = own_units(net, config.aus).nonzero()[:, 0]
    reads = net.hidden.reads[units].bool()
    if config.gate:
        if enriched is None:
            raise ConfigError("a gate needs portraits to tell where features look; name them")
        reads = reads & torch.from_numpy(enriched >= config.gate)
    inputs = reads.any(0).nonzero()[:, 0]
    if not len(inputs):
        raise ConfigError(f"no feature passes the gate of {config.gate:g}; lower it")
    outputs = net.presence.reads[rows][:, units].bool()
    return _Place(rows, units, inputs, reads[:, inputs], outputs)


def _joined(
    net: AUNet96, material: Material, config: HeadsConfig, place: _Place
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return inputs ``(N, I)``, intensities and presence ``(N, A)``: renders, then photographs.

    Of what a photograph shows was not coded how much: only that it is there is learned.
    """
    parts = [material.seen]
    if config.photographs:
        if material.photographs is None:
            raise ConfigError("a share of photographs needs photographs; name their folder")
        parts.append(material.photographs)
    columns = [AUS.index(au) for au in config.aus]
    labels = [torch.from_numpy(part.intensity[:, columns]) for part in parts]
    presence = torch.cat([presence_target(part) for part in labels])
    if config.teacher:
        teacher = net if config.teacher == PRESENT else material.teacher
        if teacher is None:
            raise ConfigError("a teacher is asked for and not given; name its folder")
        said = torch.sigmoid(_said(teacher, parts[1], config.aus))
        own = presence[len(material.seen) :]
        presence[len(material.seen) :] = torch.where(own.isnan(), said, own)
    for part in labels[1:]:
        part[part > 0] = torch.nan
    inputs = torch.cat([_inputs(net, part, config, place) for part in parts])
    return inputs, torch.cat(labels), presence


@torch.no_grad()
def _said(net: AUNet96, views: Features, aus: Sequence[int]) -> torch.Tensor:
    """Return ``(N, A)`` float32 presence logits of some AUs."""
    rows = [net.aus.index(au) for au in aus]
    parts = torch.from_numpy(np.asarray(views.features)).split(_JUDGED)
    return torch.cat([net.presence(F.relu(net.hidden(part.float())))[:, rows] for part in parts])


@torch.no_grad()
def _inputs(net: AUNet96, part: Features, config: HeadsConfig, place: _Place) -> torch.Tensor:
    if not config.outputs_only:
        return torch.from_numpy(part.features[:, place.inputs.numpy()])
    weight = (net.hidden.weight * net.hidden.reads)[place.inputs]
    bias = net.hidden.bias[place.inputs]
    made = [
        F.relu(F.linear(torch.from_numpy(part.features[k : k + _JUDGED]).float(), weight, bias))
        for k in range(0, len(part), _JUDGED)
    ]
    return torch.cat(made).half()


def _loss(
    outputs: tuple[torch.Tensor, torch.Tensor], presence: torch.Tensor, intensity: torch.Tensor
) -> torch.Tensor:
    facts = TrainConfig(total_views=1)
    weight = torch.tensor(facts.pos_weight)
    return facts.presence_weight * presence_loss(
        outputs[0], presence, weight
    ) + facts.intensity_weight * intensity_loss(outputs[1], intensity)


def _repeated(intensity: NDArray[np.float32], config: HeadsConfig) -> NDArray[np.int64]:
    """Number the views, the confusing ones several times."""
    confusing = np.zeros(len(intensity), bool)
    for au in config.aus:
        beside = [AUS.index(other) for other in NEIGHBOURS.get(au, ())]
        shown = (intensity[:, beside] >= _PLAIN).any(axis=1)
        confusing |= shown & (intensity[:, AUS.index(au)] < _ABSENT)
    return np.repeat(np.arange(len(intensity)), np.where(confusing, config.confusing, 1))


class _ReadOut(nn.Module):
    """Hidden units and outputs, as :class:`AUNet96` has them, of the inputs that are read."""

    def __init__(self, place: _Place, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.hidden = None if place.hidden is None else ZonedLinear(place.hidden)
        self.presence = ZonedLinear(place.outputs)
        self.intensity = ZonedLinear(place.outputs)
        # Most views do not show an AU: begin near that.
        nn.init.constant_(self.presence.bias, _FIRST_LOGIT)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        active = inputs if self.hidden is None else F.relu(self.hidden(self.drop(inputs)))
        active = self.drop(active)
        return self.presence(active), self.intensity(active)


def _scale(
    head: _ReadOut, inputs: torch.Tensor, presence: torch.Tensor, views: torch.Tensor
) -> None:
    """Stretch and shift the presence logits of each AU so that they are probabilities again.

    Strong decay and dropout pull all logits together, until no hysteresis fits between presence
    and absence. Order, and with it AUC, stays as it is (Platt, *Probabilistic outputs for support
    vector machines*, 1999).
    """
    facts = TrainConfig(total_views=1)
    head.eval()
    with torch.no_grad():
        logits = torch.cat([head(inputs[part].float())[0] for part in views.split(_JUDGED)])
    # Of n views none is surer than 1 in n + 2: where they separate, the scale stays finite.
    least = 1 / (len(views) + 2)
    target = presence[views].clamp(least, 1 - least)
    scale = torch.zeros(logits.shape[1], requires_grad=True)  # its logarithm
    shift = torch.zeros(logits.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([scale, shift], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = presence_loss(logits * scale.exp() + shift, target, torch.tensor(facts.pos_weight))
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        head.presence.weight *= scale.exp()[:, None]
        head.presence.bias *= scale.exp()
        head.presence.bias += shift


@torch.no_grad()
def _laid_out(net: AUNet96, head: _ReadOut, place: _Place, keep: float) -> dict[str, torch.Tensor]:
    """Put trained units and outputs into the layers of the whole network."""
    state = {name: value.clone() for name, value in net.state_dict().items()}
    layers = [("presence", place.rows, place.units), ("intensity", place.rows, place.units)]
    if head.hidden is not None:
        layers.append(("hidden", place.units, place.inputs))
    for name, places, among in layers:
        layer = getattr(head, name)
        wide = torch.zeros_like(state[f"{name}.weight"][places])
        wide[:, among] = layer.weight * layer.reads
        old, mine = getattr(net, name), 1.0 - keep
        if keep:
            wide = mine * wide + keep * (old.weight * old.reads)[places]
        state[f"{name}.weight"][places] = wide
        state[f"{name}.bias"][places] = mine * layer.bias + keep * old.bias[places]
    return {name: value for name, value in state.items() if name.startswith(_LAYERS)}


def put_in(
    net: AUNet96, trained: Sequence[tuple[Mapping[str, torch.Tensor], Mapping[str, object]]]
) -> None:
    """Give a network read-outs that were trained on its features.

    Args:
        net: changed in place.
        trained: tensors and facts of :func:`retrain`, of different AUs.

    Raises:
        ModelError: they were trained for another network, or two for the same AU.
    """
    own = digest_of(net)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    before = {name: value.clone() for name, value in state.items()}
    renewed: list[Any] = []
    for tensors, facts in trained:
        if facts.get("network") != own:
            raise ModelError(
                f"the read-outs were trained for the network {facts.get('network')}, this one is "
                f"{own}; train them for this one (`python -m training heads`), or name the same "
                "run and the same average"
            )
        aus = facts.get("aus", ())
        renewed += aus if isinstance(aus, list | tuple) else ()
        for name, value in tensors.items():
            changed = value != before[name]
            state[name][changed] = value[changed]
    twice = sorted({au for au in renewed if renewed.count(au) > 1})
    if twice:
        raise ModelError(f"two read-outs are for AU {twice[0]}; name one of them")
    net.load_state_dict(state)


def retrain(
    net: AUNet96,
    material: Material,
    held_out: Features,
    config: HeadsConfig,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Train with every weight decay, and choose on held-out views.

    Args:
        net: the network in eval mode; not changed.
        material: what its trunk made of views to train on.
        held_out: of rendered views of other people.
        config: which AUs, and how.
        report: called with lines for people.

    Returns:
        Tensors for :func:`put_in`, and JSON-ready facts to keep with them.

    Raises:
        ConfigError: an AU cannot be trained alone.
        SourceError: the held-out views show an AU always or never.
        ModelError: training diverged.
    """
    digest = digest_of(net)
    before = _areas(net, held_out, config.aus)
    tried: list[tuple[dict[str, torch.Tensor], list[tuple[float, float]]]] = []
    for decay in config.decays:
        tensors = fit(net, material, config, decay)
        renewed = copy.deepcopy(net)
        put_in(renewed, [(tensors, {"network": digest})])
        areas = _areas(renewed, held_out, config.aus)
        tried.append((tensors, areas))
        said = ", ".join(f"AU {au} {a:.4f}" for au, (a, _) in zip(config.aus, areas, strict=True))
        report(f"weight decay {decay:g}: AUC on {len(held_out)} held-out views {said}")
    means = [np.mean(areas, axis=0) for _, areas in tried]
    chosen = one_error_rule([(float(mean[0]), float(mean[1])) for mean in means])
    report(f"taken: weight decay {config.decays[chosen]:g}")
    auc = {
        str(au): {
            "before": before[k][0],
            "now": tried[chosen][1][k][0],
            "error": tried[chosen][1][k][1],
            "tried": [areas[k][0] for _, areas in tried],
        }
        for k, au in enumerate(config.aus)
    }
    return tried[chosen][0], asdict(config) | {
        "network": digest,
        "neighbours": sorted({other for au in config.aus for other in NEIGHBOURS.get(au, ())}),
        "views": len(material.seen),
        "validation": len(held_out),
        "decay": config.decays[chosen],
        "auc": auc,
    }


def one_error_rule(figures: Sequence[tuple[float, float]]) -> int:
    """Choose among ever simpler models.

    Args:
        figures: of each, its figure (more is better) and the standard error of that, the simplest
            model last.

    Returns:
        The last whose figure is within one standard error of the best, the error being the best's.
    """
    best = max(range(len(figures)), key=lambda k: figures[k][0])
    least = figures[best][0] - figures[best][1]
    return max(k for k, (figure, _) in enumerate(figures) if figure >= least)


def _areas(net: AUNet96, views: Features, aus: Sequence[int]) -> list[tuple[float, float]]:
    """Return AUC and its standard error for each AU.

    Raises:
        SourceError: the views show an AU always or never.
    """
    logits = _said(net, views, aus).numpy()
    found = []
    for column, au in enumerate(aus):
        truth = views.intensity[:, AUS.index(au)]
        present = np.where(np.isfinite(truth), truth >= ACTIVE, np.nan)
        score = logits[:, column]
        area = metrics.roc_auc(present, score)
        if np.isnan(area):
            raise SourceError(
                f"AU {au} is in all or in none of {len(truth)} held-out views; render more faces"
            )
        found.append((area, metrics.roc_auc_error(present, score)))
    return found


def save(folder: Path, trained: tuple[dict[str, torch.Tensor], dict[str, Any]]) -> Path:
    """Keep what :func:`retrain` made.

    Raises:
        ModelError: it cannot be written.
    """
    tensors, facts = trained
    return checkpoints.save(folder, facts["views"], tensors, facts)


def load(folder: Path) -> checkpoints.Checkpoint:
    """Read what :func:`save` kept.

    Raises:
        ModelError: there is nothing, or it is damaged.
    """
    newest = checkpoints.latest(folder)
    if newest is None:
        raise ModelError(f"no read-outs in {folder}; train some (`python -m training heads`)")
    return checkpoints.load(newest)
