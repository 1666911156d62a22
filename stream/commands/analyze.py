"""``facestage analyze``: a whole recording to its temporal prototype, pictures and report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ...core.config import FollowConfig
from ...core.face.reasons import region_text
from ...core.network.au_network import AUNetwork
from ...core.network.selection import parse_aus
from ...core.render import stage_seconds
from ...core.render.mask_track import MaskTrack
from ...core.scores.definition import Score, parse_scores
from ...core.scores.tracker import ScoreTracker
from ...core.sequence import SequenceAnalyzer
from ...core.stages import format_labels, reduction
from ...core.types import BaselineState, RestLevels, SequenceResult
from ..compute import choose_precision, use_threads
from ..console import err, out
from ..detectors import make_detector
from ..live.publish import MASK_SIDE
from ..offline.analyze import analyze_source
from ..offline.annotate import write_annotated
from ..offline.exports import ANNOTATED, check_output, write_analysis
from ..offline.shelf import DiskShelf
from ..sources import source_name
from .options import analyzer_config, dwell, pictures_by
from .rest import judges_by_rise, load_rest, parse_span, parse_spans, save_rest
from .signatures import AnalyzeOptions
from .text import device_text, lrp_text, scores_text, selection_text

__all__ = ["run_analyze"]


MOST_CHANGES = 12
"""So many changes of a letter are printed; the report has all."""
FEW_FACES = 0.5
"""A share of frames with a usable face below this is said."""

MOST_LINES = 100
"""Stages that are printed; the others are in the files."""


def run_analyze(options: AnalyzeOptions) -> SequenceResult:
    """Analyse a recording and write everything that is known about it.

    Raises:
        FacestageError: an option, the source, the model or the folder cannot be used.
    """
    source = source_name(options.source)
    check_output(options.out_dir, overwrite=options.overwrite, source=source)
    use_threads(options.threads)
    network = AUNetwork.load(options.model, device=options.device)
    rest = load_rest(options.rest, network.card)
    exclude = parse_spans(options.exclude)
    scores = parse_scores(options.score or ())
    analyzer = _analyzer(options, network, rest)
    # What cannot be followed is refused here, not after an hour of analysis.
    ScoreTracker(scores, network.card.aus, shown=analyzer.shown)
    track = MaskTrack(MASK_SIDE, analyzer.config.explain.top_x) if options.annotate else None
    with _bar(source) as move:
        result = analyze_source(
            options.source,
            analyzer,
            max_frames=options.frames,
            on_progress=move,
            on_seen=None if track is None else track.add,
            exclude=exclude,
        )
    on, off = network.card.thresholds()
    thresholds = {au: (float(on[i]), float(off[i])) for i, au in enumerate(network.card.aus)}
    film = ANNOTATED[options.annotate_format] if options.annotate else ""
    write_analysis(
        result,
        options.out_dir,
        overwrite=options.overwrite,
        thresholds=thresholds,
        scores=scores,
        film=film,
    )
    try:
        saved = save_rest(options.rest, result.rest, network.card)
        if track is not None:
            _annotate(options, result, track, options.out_dir / film)
    finally:
        # What is written already is told whatever becomes of the video, and a reader of this text
        # who leaves early (a pipe into head) does not cost it.
        _print_analysis(result, network, options.out_dir, scores)
    if saved:
        out.print(saved, markup=False)
    if track is not None:
        out.print(f"written: {options.out_dir / film}", markup=False)
    return result


def _analyzer(
    options: AnalyzeOptions, network: AUNetwork, rest: RestLevels | None
) -> SequenceAnalyzer:
    config = analyzer_config(
        dwell(options.min_stage, paper=options.paper),
        options.aus,
        baseline=judges_by_rise(
            options.baseline, paper=options.paper, rest=options.rest, span=options.rest_from
        ),
        rest_from=parse_span(options.rest_from),
        lrp_preset=options.lrp_preset,
        lrp_precision=choose_precision(options.lrp_precision, network, options.lrp_preset),
    )
    pictures = pictures_by(options.picture_preset, options.lrp_preset, paper=options.paper)
    config = replace(
        config,
        stage_aus=parse_aus(options.stage_aus),
        explain=replace(config.explain, picture_preset=pictures),
        follow=FollowConfig(faces=options.faces, follow=options.follow),
    )
    return SequenceAnalyzer(
        make_detector(options.detector),
        network,
        config,
        preset=options.preset or ("paper" if options.paper else "sequence"),
        rest=rest,
        shelf=DiskShelf(),
    )


def _annotate(
    options: AnalyzeOptions, result: SequenceResult, track: MaskTrack, film: Path
) -> None:
    """Read the source a second time and write it with relevance over the face."""
    with _bar(film.name, total=len(result.rows)) as move:
        write_annotated(options.source, result, track, film, on_progress=move)


@contextmanager
def _bar(name: str, total: int | None = None) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar on standard error, on a terminal only; called with (done, total or None)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(name, total=total)
        yield lambda done, known: progress.update(task, completed=done, total=known or total)


def _print_analysis(
    result: SequenceResult, network: AUNetwork, out_dir: Path, scores: Sequence[Score]
) -> None:
    """Say what was found in a sequence, by what, and where it is written."""
    out.print(f"{result.source}: {len(result.rows)} frames, {result.fps:g} fps", markup=False)
    out.print(
        f"device {device_text(result.device)}, model {result.model}, detector {result.detector}, "
        f"LRP {lrp_text(result)}, SpRAy {result.preset}",
        markup=False,
    )
    shown_aus = tuple(au for au in result.aus if au not in result.hidden)
    out.print(f"AUs: {selection_text(network.card, shown_aus)}", markup=False)
    if result.baseline:
        out.print(f"baseline: {_baseline_text(result)}", markup=False)
    for line in _found_text(result):
        out.print(line, markup=False)
    for other in result.others:
        name = other.source.rpartition(", ")[2]
        for line in _found_text(other):
            out.print(f"{name}: {line}", markup=False)
    for line in scores_text(scores, shown_aus):
        out.print(f"score: {line}", markup=False)
    if result.note:
        out.print(f"note: {result.note}", markup=False)
    if result.remark:
        out.print(f"remark: {result.remark}", markup=False)
    out.print(f"written: {out_dir / 'report.html'}", markup=False)


def _found_text(result: SequenceResult) -> list[str]:
    """Return in lines what was found; without a face a sentence, not figures of nothing."""
    frames = len(result.rows)
    usable = sum(row.presence is not None for row in result.rows)
    if not usable:
        states = Counter(row.face.value for row in result.rows)
        seen = ", ".join(f"{n} {state}" for state, n in states.most_common())
        return [
            f"warning: no face could be analysed in any of the {frames} frames ({seen}), so there "
            "are no stages; look at the pictures: is the face upright, lit and wider than 50 "
            "pixels?"
        ]
    share = reduction(len(result.stages), frames)
    shown = len({label for stage in result.stages for label in stage.labels if "_" in label})
    brief = len(result.prototypes) - shown
    also = f" (and {brief} too brief for a stage)" if brief else ""
    lines = [
        *_stage_lines(result),
        f"stages: {len(result.stages)}, prototypes in them: {shown}{also}, reduction in "
        f"description length: {share:.0%}",
    ]
    lines += _reason_lines(result)
    if usable < FEW_FACES * frames:
        lines.append(
            f"note: a face could be analysed in only {usable} of {frames} frames"
            f" ({usable / frames:.0%})"
        )
    return lines


def _stage_lines(result: SequenceResult) -> list[str]:
    """Return the temporal prototype, a stage a line: number, start, duration, labels."""
    stages = result.stages
    lines = ["temporal prototype:"]
    for number, (stage, seconds) in enumerate(
        zip(stages[:MOST_LINES], stage_seconds(result), strict=False), start=1
    ):
        times = f"{stage.start_s:9.2f} s {seconds:8.2f} s"
        lines.append(f"{number:5d} {times}  {format_labels(stage.labels)}")
    if len(stages) > MOST_LINES:
        lines.append(f"      … and {len(stages) - MOST_LINES} more, in stages.csv")
    return lines


def _reason_lines(result: SequenceResult) -> list[str]:
    """Say in words where the prototypes look, and what changed when a letter did."""
    shown = {label for stage in result.stages for label in stage.labels}
    lines = [
        f"{label}: {region_text(item.regions)}"
        for label, item in result.prototypes.items()
        if label in shown and item.regions
    ]
    changes = [
        f"{stage.start_s:.2f} s  {change.text}"
        for stage in result.stages
        for change in stage.changes
        if change.before and change.after
    ]
    lines += changes[:MOST_CHANGES]
    if len(changes) > MOST_CHANGES:
        lines.append(f"… and {len(changes) - MOST_CHANGES} more changes of letter in report.html")
    return lines


def _baseline_text(result: SequenceResult) -> str:
    usable = [(row.baseline, row.rest_s) for row in result.rows if row.presence is not None]
    learnt = sum(state == BaselineState.ACTIVE for state, _ in usable)
    rest_s = max((seconds for _, seconds in usable), default=0.0)
    if not rest_s:
        return "the face was never seen at rest: judged by the level of faces in general"
    return (
        f"{rest_s:.1f} s of rest seen; {learnt} of {len(usable)} frames with a usable face judged "
        "by the person's own level, the others in part by that of faces in general"
    )
