"""A few sentences about a sequence: how long it is, who was active, which explanation changed."""

from __future__ import annotations

import itertools
from collections import Counter

from ...core.action_units import AU_NAMES, au_code, parse_label
from ...core.render import stage_seconds
from ...core.types import LOST, NONE, SequenceResult

__all__ = ["changes", "summary"]


def summary(result: SequenceResult) -> str:
    """Return in a few sentences what a sequence shows: who was active, and what changed when."""
    rows = result.rows
    seconds = sum(stage_seconds(result))
    usable = sum(row.presence is not None for row in rows)
    parts = [f"{seconds:.1f} seconds in {len(rows)} frame{'' if len(rows) == 1 else 's'}"]
    if not usable:
        return f"{parts[0]}, none of them with a face that could be analysed."
    if usable < len(rows):
        parts.append(f"a face could be analysed in {100 * usable / len(rows):.0f} % of them")
    parts = [", ".join(parts) + "."]
    shares = Counter(au for row in rows for au in row.labels)
    if not shares:
        return f"{parts[0]} No Action Unit was active."
    # Those that the network recognises well come first.
    order = sorted(shares, key=lambda au: (au in result.marks, -shares[au], au))
    told = [
        f"{au_code(au)} {AU_NAMES.get(au, '')} ({'weak, ' * (au in result.marks)}"
        f"{100 * shares[au] / usable:.0f} % of the time)"
        for au in order[:3]
    ]
    more = f" and {len(order) - 3} more" if len(order) > 3 else ""
    parts.append(f"Active were {', '.join(told)}{more}.")
    found = changes(result)
    if found:
        first = "; ".join(f"{text} at {time:.1f} s" for text, time in found[:3])
        more = f"; and {len(found) - 3} more times" if len(found) > 3 else ""
        parts.append(f"The explanation of an active Action Unit changed: {first}{more}.")
    else:
        parts.append("No Action Unit changed its explanation while it was active.")
    return " ".join(parts)


def changes(result: SequenceResult) -> list[tuple[str, float]]:
    """Return where an AU stayed active with another letter: ``AU12 A → B``, and when, seconds."""
    found = []
    for before, after in itertools.pairwise(result.stages):
        letters = [
            dict(parse_label(label) for label in stage.labels if stage.labels not in (NONE, LOST))
            for stage in (before, after)
        ]
        for au in sorted(letters[0].keys() & letters[1].keys()):
            if letters[0][au] != letters[1][au]:
                text = f"{au_code(au)} {letters[0][au]} → {letters[1][au]}"
                found.append((au in result.marks, text, after.start_s))
    return [(text, time) for _, text, time in sorted(found, key=lambda item: item[0])]
