"""The model card, put together from what was measured, and the page that shows it to people.

No figure is typed: data and recipe come from the shards and the checkpoint, thresholds and grades
from `benchmarks/calibrate_au.py`, the figures on real faces from `benchmarks/au_real.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from facestage.core.action_units import AU_NAMES, au_code
from facestage.core.errors import ModelError
from facestage.core.network.card import ModelCard
from facestage.stream.learning import checkpoints
from numpy.typing import NDArray

from ..data.loader import VALIDATION_SHARE, is_validation
from ..data.shards import read_shard
from ..face.facs import AUS
from ..photos.portraits import FIRST_IDENTITY as FIRST_PORTRAIT

__all__ = [
    "BASE",
    "Judgement",
    "Making",
    "assemble",
    "page",
    "photograph_facts",
    "renewed",
    "shard_facts",
]

BASE = Path(__file__).with_name("card.json")
"""What of the card is decided, not measured."""
PHOTOGRAPHS = (
    "the Face Research Lab London Set and Young Adult White Faces (DeBruine & Jones 2017, CC BY "
    "4.0), portraits of members of the US Congress and of US Presidential Innovation Fellows "
    "(public domain)"
)
"""Where the photographs of :mod:`training.photos` come from; the licences ask that it be said."""

_MEANING = {
    "A": "shown",
    "B": "shown, marked *weak*",
    "C": "hidden unless asked for (`--aus all`)",
}


def shard_facts(folder: Path) -> dict[str, Any]:
    """Count what was rendered.

    Args:
        folder: of shards.

    Returns:
        JSON-ready ``faces``, ``identities``, ``held_out_identities`` (one in
        :data:`~training.data.loader.VALIDATION_SHARE`), ``prevalence`` per AU (share of the faces
        with a label that are at A or more).

    Raises:
        ModelError: the folder holds no shard.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise ModelError(f"no shards in {folder}; render some first (`python -m training render`)")
    shards = [read_shard(path) for path in paths]
    # A number means another person under another seed, which is what names begin with.
    of_seed: dict[str, list[np.ndarray]] = {}
    for path, shard in zip(paths, shards, strict=True):
        of_seed.setdefault(path.stem.rpartition("-")[0], []).append(shard.identity)
    identity = np.concatenate([np.unique(np.concatenate(parts)) for parts in of_seed.values()])
    labels = np.concatenate([shard.intensity for shard in shards])
    return {
        "faces": len(labels),
        "identities": len(identity),
        "held_out_identities": int(is_validation(identity).sum()),
        "held_out_rule": f"identity number divisible by {VALIDATION_SHARE}",
        "prevalence": {str(au): _share_active(labels[:, column]) for column, au in enumerate(AUS)},
    }


def _share_active(intensity: NDArray[np.floating]) -> float:
    """Return the share of labelled faces at A or more, 0 if none is labelled."""
    known = intensity[np.isfinite(intensity)]
    return round(float((known >= 1).mean()), 3) if len(known) else 0.0


@dataclass(frozen=True, slots=True)
class Making:
    """How weights were made, beside what shards and checkpoints say.

    Attributes:
        commit: of the generator and the recipe.
        machine: what rendering and training ran on, one phrase.
        beside: folders of photographs that were trained with.
        heads: what is kept beside read-outs that were trained anew.
    """

    commit: str
    machine: str
    beside: tuple[Path, ...] = ()
    heads: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was measured of the weights.

    Attributes:
        calibration: output of ``benchmarks/calibrate_au.py``; None leaves thresholds at their
            defaults, without grades.
        real: output of ``benchmarks/au_real.py``; None leaves it out.
    """

    calibration: Mapping[str, Any] | None = None
    real: Mapping[str, Any] | None = None


def assemble(
    run: Path,
    shards: Path,
    made: Making,
    judged: Judgement,
    earlier: str | None = None,
    blends: Sequence[tuple[Path, float]] = (),
) -> dict[str, Any]:
    """Put the card of a run together, but for the sha256 of the weights.

    Args:
        run: folder of checkpoints; the newest is described.
        shards: folder of the faces it was trained on.
        made: how it was made.
        judged: what was measured.
        earlier: other faces that the run began with, one phrase; None: it saw no others.
        blends: earlier checkpoints whose weights are averaged in, each with its share of all.

    Returns:
        JSON-ready fields.

    Raises:
        ModelError: there is no checkpoint or shard, or they cannot be read.
    """
    newest = checkpoints.latest(run)
    if newest is None:
        raise ModelError(f"no checkpoint in {run}; train into it first")
    checkpoint = checkpoints.load(newest)
    card = json.loads(BASE.read_text(encoding="utf-8"))
    data = shard_facts(shards)
    if made.beside:
        data["photographs"] = photograph_facts(made.beside)
    views = int(checkpoint.tensors["views"])
    card["data"] = {"generator": "training/, ICT-FaceKit", "commit": made.commit} | data
    if earlier is not None:
        card["data"]["earlier"] = earlier
    card["recipe"] = {
        "machine": made.machine,
        "views": views,
        "epochs": checkpoint.facts["epoch"],
        **{key: checkpoint.facts[key] for key in ("batch", "lr", "hold", "ema", "seed")},
        **{key: checkpoint.facts[key] for key in ("begin", "beside") if checkpoint.facts.get(key)},
        "optimizer": "AdamW, cosine to 1 %, averaged weights",
        "loss": "masked presence BCE (soft, 1 from B), intensity smooth L1, landmarks smooth L1",
    }
    if blends:
        parts = (f"{_named(path)}, share {share:g}" for path, share in blends)
        card["recipe"]["averaged_with"] = f"the weights of {'; of '.join(parts)}"
    if made.heads:
        card["recipe"]["read_outs"] = "; ".join(map(_read_outs, made.heads))
    card["trained_on"] = _trained_on(data, views)
    held_out = checkpoint.facts["figures"]
    card["evaluation"] = {"synthetic": {k: v for k, v in held_out.items() if k != "per_au"}}
    return _judged(card, judged)


def renewed(
    old: Mapping[str, Any], version: str, shards: Path, made: Making, judged: Judgement
) -> dict[str, Any]:
    """Put the card of weights together whose read-outs were renewed, but for the sha256.

    Args:
        old: card of the weights that were begun with: what it says of the trunk stays true.
        version: of the renewed weights.
        shards: folder of the faces that the read-outs were trained on.
        made: how they were made.
        judged: what was measured.

    Returns:
        JSON-ready fields.

    Raises:
        ModelError: there is no shard, or it cannot be read.
    """
    card = dict(old) | {"version": version}
    card.pop("grades", None)
    data = shard_facts(shards)
    renewal = {
        "from_version": old["version"],
        "generator_commit": made.commit,
        "machine": made.machine,
        "faces": data["faces"],
        "identities": data["identities"],
        "held_out_identities": data["held_out_identities"],
    }
    if made.beside:
        renewal["photographs"] = photograph_facts(made.beside)
    card["data"] = dict(old["data"]) | {"renewal": renewal}
    if made.beside:
        card["data"]["photographs"] = renewal["photographs"]
    anew = sorted({au for facts in made.heads for au in facts["aus"]})
    kept = _still_true(old["recipe"], set(anew))
    recipe = {key: value for key, value in old["recipe"].items() if not key.startswith("read_outs")}
    card["recipe"] = recipe | kept | {"read_outs": "; ".join(map(_read_outs, made.heads))}
    more = _trained_on(data | {"photographs": renewal.get("photographs")}, None)
    card["trained_on"] = (
        f"{old['trained_on']}. Version {version}: the read-outs of "
        f"{', '.join(au_code(au) for au in anew)} anew, on {more}"
    )
    card["evaluation"] = {}
    return _judged(card, judged)


def _still_true(recipe: Mapping[str, Any], anew: Set[int]) -> dict[str, str]:
    """Return what an old recipe says of read-outs that are not all renewed."""
    told = [recipe[key] for key in ("read_outs_kept", "read_outs") if key in recipe]
    parts = re.split(r"; (?=AU \d+(?:, \d+)*: )", "; ".join(told))
    said = [part for part in parts if not _aus_of(part) <= anew]
    return {"read_outs_kept": "; ".join(said)} if told and said else {}


def _aus_of(read_outs: str) -> set[int]:
    """Return the AUs that a part of a recipe begins with."""
    return set(map(int, re.findall(r"\d+", read_outs.split(":")[0])))


def _judged(card: dict[str, Any], judged: Judgement) -> dict[str, Any]:
    """Add thresholds, grades and figures, and the limits that follow from them."""
    if judged.calibration is not None:
        chosen = ("thresholds", "neutral", "rise", "grades")
        card |= {key: judged.calibration[key] for key in chosen if key in judged.calibration}
        card["evaluation"] |= judged.calibration["evaluation"]
    if judged.real is not None:
        card["evaluation"]["must_show"] = judged.real["must_show"]
    card["limits"] = _limits(card)
    return card


def _read_outs(heads: Mapping[str, Any]) -> str:
    """Say how the read-outs of some AUs were trained."""
    areas = ", ".join(
        f"AU {au} {area['now']:.3f}, standard error {area['error']:.3f}"
        for au, area in heads["auc"].items()
    )
    beside = ""
    if heads["confusing"] > 1 and heads["neighbours"]:
        others = ", ".join(map(str, heads["neighbours"]))
        beside = f", views of AU {others} without it {heads['confusing']} times"
    if heads.get("photographs"):
        beside += f", {100 * heads['photographs']:g} % of every batch portraits"
    if heads.get("gate"):
        beside += (
            f", only features whose relevance is {heads['gate']:g} times as dense in the region of "
            "the AU as in the face"
        )
    beside += _taught(heads)
    faces = f" of faces rendered at commit {heads['commit']}" if "commit" in heads else ""
    if heads.get("keep"):
        beside += f", averaged with the old outputs, share {heads['keep']:g}"
    what = "outputs" if heads.get("outputs_only") else "hidden units of its own and outputs"
    decay = f"weight decay {heads['decay']:g}"
    if len(heads["decays"]) > 1:
        decay += (
            f", the strongest of {len(heads['decays'])} within one standard error of the best on "
            f"{heads['validation']:,} held-out views"
        )
    return (
        f"AU {', '.join(map(str, heads['aus']))}: {what} trained anew on the features of "
        f"{heads['views']:,} views{faces}, {heads['epochs']} epochs, batch {heads['batch']}, lr "
        f"{heads['lr']:g}, seed {heads['seed']}{beside}; {decay} (AUC on rendered views: {areas})"
    )


def _taught(heads: Mapping[str, Any]) -> str:
    """Say who told what portraits show that nobody coded."""
    if not heads.get("teacher"):
        return ""
    by = heads.get("taught_by")
    if by is None:
        return ", where they are not labelled taught by what the old read-outs say"
    return (
        ", where they are not labelled taught by read-outs that may read every feature of their "
        f"zone ({100 * by['photographs']:g} % portraits, weight decay {by['decay']:g})"
    )


def photograph_facts(folders: Sequence[Path]) -> dict[str, Any]:
    """Count the photographs in folders of shards.

    Returns:
        JSON-ready ``portraits`` and ``acted``, each ``{"pictures": …, "people": …}``, and
        ``source``.

    Raises:
        ModelError: a folder holds no shard.
    """
    facts: dict[str, Any] = {"source": PHOTOGRAPHS}
    found: dict[str, list[NDArray[np.int64]]] = {"portraits": [], "acted": []}
    for folder in folders:
        paths = sorted(folder.glob("*.npz"))
        if not paths:
            raise ModelError(f"no shards of photographs in {folder}; make them first")
        for path in paths:
            identity = read_shard(path).identity
            asked = identity >= FIRST_PORTRAIT
            found["portraits"].append(identity[asked])
            found["acted"].append(identity[~asked])
    for kind, parts in found.items():
        identity = np.concatenate(parts)
        if len(identity):
            people = len(np.unique(identity))
            facts[kind] = {"pictures": len(identity), "people": people}
    return facts


def _named(blend: Path) -> str:
    """Say which weights were averaged with."""
    if blend.with_suffix(".json").is_file():
        other = json.loads(blend.with_suffix(".json").read_text(encoding="utf-8"))
        return f"{other['name']} {other['version']}"
    return f"the same run after {int(checkpoints.load(blend).tensors['views']):,} views"


def _trained_on(data: Mapping[str, Any], views: int | None) -> str:
    """Say on what faces, and whose photographs are among them."""
    said = (
        f"{data['faces']:,} renders of {data['identities']:,} synthetic faces made with "
        "ICT-FaceKit (MIT, USC Institute for Creative Technologies)"
    )
    photographs = data.get("photographs")
    counted = "" if views is None else f", {views:,} views"
    if not photographs:
        return f"{said}{counted}; no real image"
    parts = [
        f"{photographs[kind]['pictures']:,} {what} of {photographs[kind]['people']:,} people"
        for kind, what in (
            ("portraits", "portraits"),
            ("acted", "pictures made of neutral portraits that act"),
        )
        if kind in photographs
    ]
    return f"{said}, and {' and '.join(parts)} ({photographs['source']}){counted}"


def _limits(card: Mapping[str, Any]) -> list[str]:
    grades = card.get("grades", {})
    weak = [au_code(int(au)) for au, grade in grades.items() if grade == "B"]
    hidden = [au_code(int(au)) for au, grade in grades.items() if grade == "C"]
    seen = "synthetic faces only"
    if card["data"].get("photographs"):
        seen = "synthetic faces, and portraits that nobody coded,"
    limits = [
        f"Trained on {seen} and judged on few real people: expect less on others.",
        "Made for near-frontal faces; beyond about 35 degrees of yaw it was neither trained nor "
        "judged.",
        "An AU whose region is covered is reported as absent, not as unknown.",
        "Presence probabilities are not calibrated to real prevalence.",
        "No claim about emotions, pain or intentions of a person.",
    ]
    if weak:
        limits.insert(1, f"Weak on real faces: {', '.join(weak)}.")
    if hidden:
        limits.insert(
            2 if weak else 1,
            f"Hidden, for too little on real faces speaks for them: {', '.join(hidden)}.",
        )
    return limits


def page(card: ModelCard, notes: str = "") -> str:
    """Write the card as Markdown, for ``docs/model-card.md``.

    Args:
        card: complete, with grades and evaluation.
        notes: Markdown put under "Known failures", after the limits.

    Returns:
        The page.
    """
    data, recipe = card.data, card.recipe
    synthetic = card.evaluation.get("synthetic", {})
    averaged = "averaged_with" in recipe
    held_out = "held-out views, before averaging" if averaged else "held-out views"
    lines = [
        f"# Model card: {card.name}",
        "",
        "Written by `python -m training card` from the card beside the weights "
        f"(`core/weights/{card.name}.json`); figures are not typed by hand.",
        "",
        "## What it is",
        "",
        f"A multi-label network for facial Action Units, version {card.version}: one grey aligned "
        f"crop of {card.input_size}×{card.input_size} px in; presence and intensity of "
        f"{len(card.aus)} AUs and {card.landmarks.count if card.landmarks else 0} landmarks out. "
        f"Architecture `{card.architecture}` (`core/network/architectures.py`), "
        f"sha256 `{card.sha256}`, licence {card.licence}.",
        "",
        f"**Intended use.** {card.intended_use}",
        "",
        f"**Notice.** {card.notice}",
        "",
        "## Data and recipe",
        "",
        "| fact | value |",
        "|---|---|",
        f"| trained on | {card.trained_on} |",
        f"| held out | {data.get('held_out_identities', 0):,} identities "
        f"({data.get('held_out_rule', '')}), never trained on |",
        f"| generator | `training/` at commit `{data.get('commit', '')}` |",
        *([f"| begun on | {data['earlier']} |"] if "earlier" in data else []),
        *_renewal(data),
        *(f"| {key} | {_plain(value)} |" for key, value in recipe.items()),
        *(f"| {held_out}: {key} | {_plain(value)} |" for key, value in synthetic.items()),
        "",
        "## Grades",
        "",
        *(f"- **{grade}**: {meaning}." for grade, meaning in _MEANING.items()),
        "",
        f"The rule, applied by `benchmarks/calibrate_au.py`: {card.evaluation.get('grade_rule')}",
        "",
        "| AU | name | grade | on / off | events found (people) | AUC over own rest (people) "
        "| AUC, photographs marked (people) | r (people) | neutral people active (people) "
        "| absent frames active (people) | relevance in region, real / rendered | AUC, rendered |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for au in card.aus:
        figures = card.evaluation.get(str(au), {})
        found = figures.get("found") or figures.get("smile_found")
        lines.append(
            f"| {au} | {AU_NAMES[au]} | {card.grades.get(au, '–')} "
            f"| {card.on[au]:.3g} / {card.off[au]:.3g} "
            f"| {_of(found, _share)} | {_of(figures.get('own'))} "
            f"| {_of(figures.get('marked'))} | {_of(figures.get('r'))} "
            f"| {_of(figures.get('neutral'), _share)} | {_of(figures.get('absent'), _share)} "
            f"| {_plain(figures.get('relevance'))} / {_plain(figures.get('relevance_rendered'))} "
            f"| {_plain(figures.get('auc'))} |"
        )
    people = card.evaluation.get("people", {})
    lines += [
        "",
        f"Thresholds were chosen by {people.get('choosing', 0)} people; "
        f"{people.get('judged_only', 0)} others are only judged. In brackets: the people a figure "
        "rests on; [ ]: its 95 % interval, over people. *Events* are sure marks in clips, judged "
        "live by the rise over the rest level (of AU6 and AU12 without one: smiles). *r* is the "
        "median over people of the correlation within a clip with the reference curve. *–* means "
        "that nobody can judge.",
        "",
        "## Figures on real clips",
        "",
        "By `benchmarks/au_real.py`.",
        "",
        "| figure | asked | got | reached |",
        "|---|---|---|---|",
        *(
            f"| {row['figure']} | {row['target']} | {_plain(row['got'])} "
            f"| {'yes' if row['reached'] else 'not judged' if row['got'] is None else 'no'} |"
            for row in card.evaluation.get("must_show", ())
        ),
        "",
        "## Known failures",
        "",
        *(f"- {limit}" for limit in card.limits),
        *([notes.strip()] if notes else []),
        "",
    ]
    return "\n".join(lines)


def _renewal(data: Mapping[str, Any]) -> list[str]:
    """Say what the read-outs of renewed weights were trained on."""
    renewal = data.get("renewal")
    if not renewal:
        return []
    return [
        f"| read-outs renewed | from version {renewal['from_version']} on: {renewal['faces']:,} "
        f"faces of {renewal['identities']:,} identities, generator at commit "
        f"`{renewal['generator_commit']}`, on {renewal['machine']} |"
    ]


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and value >= 1000 else str(value)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _of(share: Mapping[str, Any] | float | None, text: Callable[[float], str] | None = None) -> str:
    """Write a figure with its people and interval, or the bare one of an older card."""
    if share is None:
        return "–"
    if not isinstance(share, Mapping):
        return (text or _plain)(share)
    said = (text or _plain)(share["value"])
    interval = share.get("interval")
    between = ""
    if interval:
        low, high = (float(end) for end in interval)
        scale, unit = (100, ".0f") if text is _share else (1, ".2g")
        between = f" [{scale * low:{unit}}–{scale * high:{unit}}]"
    return f"{said}{between} ({share['people']})"
