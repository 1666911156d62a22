"""Do letters mean a reason? Rendered faces with known reasons, and nuisances that are none.

    python benchmarks/reasons.py [--people N] [--presets P …] [--clips] [--json FILE]

Every sequence (``reasons_material.py``) is explained under every LRP preset and gets its letters
twice: by the sliding window, as live, and as a whole, as ``analyze``. Printed per preset:

- the adjusted Rand index of letters with reasons, per Action Unit and axis (sides, company,
  covered, strength), over the frames in which the Action Unit is active,
- the changes of letter in each nuisance, until the face is as before,
- with ``--clips`` the same index with the segments of the real clips that were marked by eye
  (``events.csv``), and live against whole sequence.

Rendered material is kept in ``--material``; letters follow from it without chance.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from facestage.core import lrp, relevance
from facestage.core.action_units import letter
from facestage.core.baseline import PersonalBaseline
from facestage.core.clustering.spectral import spray
from facestage.core.config import AnalyzerConfig
from facestage.core.network.au_network import AUNetwork
from facestage.core.stages import PresenceGate
from facestage.core.window import MapInput, WindowBank
from numpy.typing import NDArray
from reasons_material import AXES, GROUPS, NUISANCES, REST, UNMOVED, render_material
from reasons_material import Sequence as Rendered
from stream_quality import agreement

RATE = 30.0
"""Frames per second that the rendered sequences stand for."""
LEAST = 5
"""A reason, or a nuisance, in which an Action Unit is active in fewer frames is not judged."""
BATCH = 32


@dataclass(frozen=True)
class Maps:
    """The maps of one Action Unit in one sequence, in order.

    Attributes:
        frames: ``(n,)`` numbers of the frames in which it is active.
        x: ``(n, D)`` descriptors. ``mass``: ``(n,)`` positive relevance.
        sure: ``(n,)`` bool, clearly active.
        segment: what each frame shows, see :class:`reasons_material.Sequence`.
    """

    frames: NDArray[np.int64]
    x: NDArray[np.float32]
    mass: NDArray[np.float64]
    sure: NDArray[np.bool_]
    segment: tuple[str, ...]


def active_frames(
    network: AUNetwork, crops: NDArray[np.uint8], config: AnalyzerConfig
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell where each AU is active, and where clearly so, ``(n, A)`` each, as live.

    The first frame, which is neutral, is shown for :data:`REST` frames before.
    """
    on, _ = network.card.thresholds()
    gate = PresenceGate(*network.card.thresholds())
    baseline = PersonalBaseline.of_network(network.card, config.baseline)
    parts = [network.predict(crops[at : at + BATCH]).presence for at in range(0, len(crops), BATCH)]
    presence = np.concatenate([np.repeat(parts[0][:1], REST, axis=0), *parts])
    active, sure = [], []
    for n, row in enumerate(presence):
        judged = baseline.update(n / RATE, row, 1.0)
        active.append(gate.update(judged))
        sure.append(judged >= on)
    return np.array(active)[REST:], np.array(sure)[REST:]


def explain_sequence(
    network: AUNetwork,
    rendered: Rendered,
    activity: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    preset: str,
    config: AnalyzerConfig,
) -> dict[int, Maps]:
    """Return the maps of the Action Units of a sequence's group.

    Args:
        network: explains it.
        rendered: the sequence.
        activity: what is active in it, see :func:`active_frames`.
        preset: LRP preset.
        config: constants of the descriptors.
    """
    active, sure = activity
    found: dict[int, Maps] = {}
    unmoved = UNMOVED.get((rendered.group, rendered.axis), ())
    for au in (au for au in GROUPS[rendered.group] if au not in unmoved):
        output = network.card.aus.index(au)
        frames = np.flatnonzero(active[:, output])
        rows, masses, kept = [], [], []
        for at in range(0, len(frames), BATCH):
            part = frames[at : at + BATCH]
            inputs = network.prepare(rendered.crops[part])
            pairs = [(row, output) for row in range(len(part))]
            maps = lrp.explain(network.logits_module, inputs, pairs, preset=preset).cpu()
            x, valid = relevance.describe(maps, side=config.explain.descriptor_side)
            rows.append(x.numpy()[valid.numpy()])
            masses.append(maps.clamp(min=0).sum(dim=(1, 2)).numpy()[valid.numpy()])
            kept.append(part[valid.numpy()])
        if kept:
            where = np.concatenate(kept)
            found[au] = Maps(
                where,
                np.concatenate(rows),
                np.concatenate(masses).astype(np.float64),
                sure[where, output],
                tuple(rendered.segment[n] for n in where),
            )
    return found


def live_letters(maps: Maps, config: AnalyzerConfig) -> list[str]:
    """Return the letter of each map by the sliding window, dated back as stages are."""
    bank = WindowBank(config.window, maps.x.shape[1])
    slot, shown = bank.open(), []
    frames = maps.frames.tolist()
    for n, frame in enumerate(frames):
        if n and frame > frames[n - 1] + 1:
            bank.gap(slot)
        update = bank.update(
            [
                MapInput(
                    slot, frame, maps.x[n], mass=float(maps.mass[n]), confident=bool(maps.sure[n])
                )
            ]
        )[0]
        shown.append(update.letter)
        for earlier in range(n - 1, -1, -1):
            if frames[earlier] < update.since:
                break
            shown[earlier] = update.letter
    return shown


def whole_letters(maps: Maps, preset: str = "sequence") -> list[str]:
    """Return the letter of each map by clustering all of them."""
    runs = np.cumsum(np.diff(maps.frames, prepend=maps.frames[0]) > 1)
    labels = spray(maps.x, preset=preset, runs=runs).labels
    return [letter(int(label)) for label in labels]


def judged(segment: Sequence[str]) -> set[str]:
    """Return what is seen in enough frames to be judged; the neutral face is not."""
    names = set(segment) - {""}
    return {name for name in names if list(segment).count(name) >= LEAST}


def reason_index(maps: Maps, letters: Sequence[str]) -> float | None:
    """Return the adjusted Rand index of letters with reasons; None if fewer than two are seen."""
    names = judged(maps.segment)
    if len(names) < 2:
        return None
    pairs = [
        (name, shown) for name, shown in zip(maps.segment, letters, strict=True) if name in names
    ]
    return agreement(*map(list, zip(*pairs, strict=True)))


def nuisance_changes(maps: Maps, letters: Sequence[str]) -> dict[str, int]:
    """Count the changes of letter in each nuisance, and in the return to the base after it."""
    names = judged(maps.segment) - {"base"}
    changes = dict.fromkeys(names, 0)
    current = ""
    for n in range(1, len(letters)):
        if maps.segment[n] in names:
            current = maps.segment[n]
        if current and letters[n] != letters[n - 1]:
            changes[current] += 1
    return changes


def summarise(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return means over people: reasons per axis and Action Unit, changes per nuisance."""
    reasons: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    changes: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        if row["axis"] == "nuisances":
            for name, count in row["changes"].items():
                changes[name].append(count)
        elif row["ari"] is not None:
            reasons[row["axis"]][f"{row['group']}: AU{row['au']:02d}"].append(row["ari"])
    by_axis = {
        axis: {name: round(float(np.mean(values)), 3) for name, values in reasons[axis].items()}
        for axis in AXES
        if axis in reasons
    }
    by_nuisance = {
        name: round(float(np.mean(changes[name])), 2) for name in NUISANCES if name in changes
    }
    by_au: dict[str, list[float]] = defaultdict(list)
    for axis in ("sides", "company", "covered"):
        for name, values in reasons.get(axis, {}).items():
            by_au[name] += values
    all_changes = [count for counts in changes.values() for count in counts]
    return {
        "reasons": by_axis,
        "reasons_by_au": {name: round(float(np.mean(v)), 3) for name, v in by_au.items()},
        "reasons_mean": round(float(np.mean([x for v in by_au.values() for x in v])), 3)
        if by_au
        else None,
        "changes": by_nuisance,
        "changes_mean": round(float(np.mean(all_changes)), 2) if all_changes else None,
    }


def judge_preset(
    network: AUNetwork,
    material: Sequence[Rendered],
    activities: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    preset: str,
    config: AnalyzerConfig,
) -> dict[str, Any]:
    """Return the figures of one preset, live and whole."""
    rows: dict[str, list[dict[str, Any]]] = {"live": [], "whole": []}
    for rendered, activity in zip(material, activities, strict=True):
        seen = explain_sequence(network, rendered, activity, preset, config)
        for au, maps in seen.items():
            for how, letters in (
                ("live", live_letters(maps, config)),
                ("whole", whole_letters(maps)),
            ):
                row: dict[str, Any] = {"group": rendered.group, "axis": rendered.axis, "au": au}
                if rendered.axis == "nuisances":
                    row["changes"] = nuisance_changes(maps, letters)
                else:
                    row["ari"] = reason_index(maps, letters)
                rows[how].append(row)
    return {how: summarise(found) for how, found in rows.items()}


def print_figures(name: str, figures: dict[str, Any]) -> None:
    """Print the figures of a preset."""
    for how in ("live", "whole"):
        found = figures[how]
        print(f"{name}, {how}: reasons {found['reasons_mean']}, changes {found['changes_mean']}")
        for axis, values in found["reasons"].items():
            print(f"  {axis}: " + ", ".join(f"{au} {value}" for au, value in values.items()))
        print("  changes: " + ", ".join(f"{n} {value}" for n, value in found["changes"].items()))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--seed", type=int, default=9700, help="of the rendered people")
    parser.add_argument("--material", type=Path, default=Path("build/reasons"))
    parser.add_argument("--presets", nargs="*", default=list(lrp.LRP_PRESETS))
    parser.add_argument("--clips", action="store_true", help="look at the real clips, too")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    network, config = AUNetwork.load(device="cpu"), AnalyzerConfig()
    material = list(render_material(args.people, args.seed, args.material))
    result: dict[str, Any] = {
        "network": network.name,
        "version": network.card.version,
        "people": args.people,
        "seed": args.seed,
        "frames": sum(len(one.crops) for one in material),
        "presets": {},
    }
    activities = [active_frames(network, one.crops, config) for one in material]
    for preset in args.presets:
        figures = judge_preset(network, material, activities, preset, config)
        print_figures(preset, figures)
        result["presets"][preset] = figures
    if args.clips:
        from reasons_clips import judge_clips

        result["clips"] = judge_clips(network, args.presets)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
