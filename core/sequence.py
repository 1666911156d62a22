"""Analyse a whole sequence at once: SpRAy over all its maps, then stages (paper §3.3–3.5)."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .action_units import letter, letter_index, parse_label, prototype_label
from .baseline import PersonalBaseline, rest_of_span
from .clustering.spectral import spray, spray_preset
from .config import AnalyzerConfig, BaselineConfig
from .errors import ConfigError, SourceError
from .face.reasons import letter_changes
from .face.region_shares import region_parts, shares, strongest
from .face.tracker import Detector, align
from .network.au_network import AUNetwork
from .network.card import ModelCard
from .observer import Draft, Look, Observation, Observer
from .sequence_store import NOWHERE, AUMaps, FrameRows, MemoryShelf, PartOfShelf, Pictures, Shelf
from .stages import StageTracker
from .types import (
    LOST,
    FaceState,
    Frame,
    FrameRow,
    Prototype,
    RestLevels,
    SequenceResult,
    Stage,
    StageEvent,
)

__all__ = ["SequenceAnalyzer"]

_AT_ONCE = 16
"""Frames held back that are explained at once in the end."""

PICTURE_SCALE = 3
"""Side of the face pictures in reports, as a multiple of the network's crop."""

MAP_BYTES = 1 << 30
"""Bound on the room for full-size relevance maps, bytes. Each time it is exceeded, prototypes
average half as many maps of each AU as before; clustering always sees all maps."""

PICTURE_BYTES = 256 << 20
"""Bound on the room for face pictures (JPEG), bytes. Each time it is exceeded, every second
picture is dropped."""


class _HeldFrames:
    """Frames of a recording that wait until the rest levels of their person are known.

    Args:
        card: of the network.
        config: of the baseline; where it is off nothing is held.
        rest: rest levels with which the first person begins.

    Attributes:
        span_rest: rest levels of the span that is known to be neutral, once it was seen.
    """

    def __init__(self, card: ModelCard, config: BaselineConfig, rest: RestLevels | None) -> None:
        self._card, self._config, self._rest = card, config, rest
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self.span_rest: RestLevels | None = None
        self._queue: deque[Draft] = deque()
        self._ready = 0
        self._run: list[Draft] = []
        self._ahead: PersonalBaseline | None = None
        self._begun = False
        self._face_s: float | None = None

    def pass_by(self, drafts: Sequence[Draft]) -> bool:
        """Tell whether frames need not wait: nothing does, and no other person begins in them."""
        if not self._config.enabled:
            return True
        before = self._face_s
        if self._queue or self._ahead is not None or any(map(self._begins, drafts)):
            self._face_s = before
            return False
        return True

    def add(self, draft: Draft) -> None:
        """Hold a frame back."""
        if self._begins(draft):
            self.settle()
            self._ahead = PersonalBaseline.of_network(self._card, self._config)
            if self._rest is not None and not self._begun:
                self._ahead.begin(self._rest)
            self._begun = True
        draft.frame = replace(draft.frame, image=np.zeros((0, 0), np.uint8))
        self._queue.append(draft)
        if self._ahead is None:
            self._ready += 1
            return
        self._run.append(draft)
        time_s = draft.frame.time_s
        if draft.presence is not None:
            self._ahead.update(time_s, draft.presence, draft.face.quality)
        until = self._run[0].frame.time_s + self._config.settle_s
        if self._config.rest_from is not None and self.span_rest is None:
            until = max(until, self._config.rest_from[1])
        if time_s > until:
            self.settle()

    def settle(self) -> None:
        """Let the frames of the person go, with what was learned from them."""
        if self._ahead is not None and self._run:
            self._run[0].rest = self._span() or self._ahead.levels
        self._ahead, self._run = None, []
        self._ready = len(self._queue)

    def take(self, most: int) -> list[Draft]:
        """Return the first frames that need not wait any longer, and hold them no more."""
        count = min(most, self._ready)
        self._ready -= count
        return [self._queue.popleft() for _ in range(count)]

    def remark(self) -> str:
        """Say what was asked for and could not be had; empty if nothing."""
        span = self._config.rest_from
        if span is None or self.span_rest is not None:
            return ""
        return (
            f"the face was said to rest from {span[0]:g} to {span[1]:g} s, but no usable face was "
            "seen there: presence is judged by the rest levels that the whole recording shows"
        )

    def _begins(self, draft: Draft) -> bool:
        """Tell whether a person begins with a frame; frames must come in order."""
        if draft.presence is None:
            return draft.new_face or not self._begun
        time_s, before = draft.frame.time_s, self._face_s
        self._face_s = time_s
        gap = before is not None and not 0 <= time_s - before <= self._config.max_gap_s
        return draft.new_face or not self._begun or gap

    def _span(self) -> RestLevels | None:
        """Return the rest levels of the neutral span if it lies in the run of this person."""
        span = self._config.rest_from
        if span is None or self.span_rest is not None:
            return None
        seen = [d for d in self._run if span[0] <= d.frame.time_s <= span[1]]
        rows = [draft.presence for draft in seen if draft.presence is not None]
        quality = [draft.face.quality for draft in seen if draft.presence is not None]
        if rows:
            self.span_rest = rest_of_span(np.array(rows), quality, self._config)
        return self.span_rest


class SequenceAnalyzer:
    """Collect the frames of one sequence, then explain it as a whole.

    Presence is judged by its rise over the person's rest level, estimated as live, and then once
    backwards: the frames of a person are held back, as crops, until the levels are known well
    (``settle_s``, or the end of the span that is known to be neutral), and what was learned by then
    holds for them from the first one on. Held frames take about 9 KiB each.

    Where several faces are analysed (``FollowConfig.faces``), each of the others is a sequence of
    its own, which begins when somebody is first seen in its place.

    Args:
        detector: finds faces.
        model: the AU network; the embedded one when not given.
        config: constants of all steps.
        preset: SpRAy preset, see :data:`facestage.core.clustering.spectral.SPRAY_PRESETS`.
        device: torch device for the embedded network.
        map_bytes: room for full-size relevance maps.
        picture_bytes: room for face pictures.
        shelf: where maps, descriptors and pictures lie until the sequence is explained; in memory
            if None. A long recording needs one on a disk.
        rest: rest levels with which the first person begins.

    Raises:
        ConfigError: no preset of that name, the network lacks AUs that were asked for, or the
            baseline cannot work.
        ModelError: the embedded weights are damaged.
        DeviceError: the device does not exist on this machine.
    """

    def __init__(
        self,
        detector: Detector,
        model: AUNetwork | None = None,
        config: AnalyzerConfig | None = None,
        *,
        preset: str = "sequence",
        device: str = "auto",
        map_bytes: int = MAP_BYTES,
        picture_bytes: int = PICTURE_BYTES,
        shelf: Shelf | None = None,
        rest: RestLevels | None = None,
    ) -> None:
        self.config = config or AnalyzerConfig()
        spray_preset(preset)
        self.network = model or AUNetwork.load(device=device)
        self.preset = preset
        self._map_bytes = map_bytes
        self._picture_bytes = picture_bytes
        self._shelf: Shelf = MemoryShelf() if shelf is None else shelf
        self._observer = Observer(detector, self.network, self.config, rest=rest)
        self._held = _HeldFrames(self.network.card, self.config.baseline, rest)
        self._others: dict[str, SequenceAnalyzer] = {}
        self.reset()

    @property
    def shown(self) -> tuple[int, ...]:
        """AUs that take part, in the order of the model's card."""
        return self._observer.shown

    def reset(self) -> None:
        """Forget the sequence."""
        self._observer.reset()
        self._held.reset()
        self._others.clear()
        self._shelf.clear()
        self._begin()

    def _begin(self) -> None:
        """Begin with no frame."""
        self._rows = FrameRows()
        self._last = -1
        self._source = ""
        self._breaks: set[int] = set()
        self._aus: dict[int, AUMaps] = {}
        self._pictures = Pictures(self._picture, self._picture_bytes, shelf=self._shelf)
        self._stride = 1

    def update(self, frames: Sequence[Frame]) -> list[Observation]:
        """Take in the next frames of the sequence.

        Returns:
            What the frames show of which that is decided; of those held back (see above) a later
            call says it, in order, and :meth:`settle` of the last ones. Pictures are not kept with
            them: ``frame.image`` is empty there. It is what the face that is followed shows.

        Raises:
            ConfigError: a frame does not come after the one before it; none is taken in then.
        """
        last = self._last
        for frame in frames:
            if frame.index <= last:
                raise ConfigError(
                    f"frame {frame.index} came after frame {last}; hand frames over in order, or "
                    "reset() for a new sequence"
                )
            last = frame.index
        self._last = last
        look = self._observer.look(frames)
        sources = {frame.source for frame in frames}
        own = [draft for draft in look.drafts if draft.frame.source in sources]
        for stream in dict.fromkeys(draft.frame.source for draft in look.drafts):
            if stream not in sources:
                theirs = [draft for draft in look.drafts if draft.frame.source == stream]
                self._other(stream)._take(theirs, None)
        return self._take(own, look if len(own) == len(look.drafts) else None)

    def _other(self, stream: str) -> SequenceAnalyzer:
        """Return what collects the frames of another face."""
        if stream not in self._others:
            other = copy.copy(self)  # with the same observer
            other._shelf = PartOfShelf(self._shelf)
            # What is known beforehand is known of the one who is followed.
            baseline = replace(self.config.baseline, rest_from=None)
            other._held = _HeldFrames(self.network.card, baseline, None)
            other._others = {}
            other._begin()
            other._breaks = self._breaks
            self._others[stream] = other
        return self._others[stream]

    def _take(self, drafts: Sequence[Draft], look: Look | None) -> list[Observation]:
        """Take in what was looked at; ``look`` where it is of these frames alone."""
        for draft in drafts:
            if draft.face.crop is not None and draft.face.points is not None:
                self._pictures.add(draft.frame.index, draft.frame.image, draft.face.points)
        if self._held.pass_by(drafts):
            return self._show(drafts, look)
        for draft in drafts:
            self._held.add(draft)
        # Twice as many as came in: what is held becomes less, and never all of it is shown at once.
        return self._show(self._held.take(2 * len(drafts)))

    def break_before(self, index: int) -> None:
        """Tell that what lies before a frame was left out: its stage ends, and the hole is LOST.

        Give the frame a new epoch, too: nothing that was seen before lies at the same place in it.
        """
        self._breaks.add(index)

    def settle(self) -> Iterator[list[Observation]]:
        """Decide the frames that are still held back, some at a time; no frame follows."""
        self._held.settle()
        while drafts := self._held.take(_AT_ONCE):
            yield self._show(drafts)

    def _show(self, drafts: Sequence[Draft], look: Look | None = None) -> list[Observation]:
        observations = self._observer.show(drafts, look)
        for observation in observations:
            self._keep(observation)
        return observations

    def finish(self, *, source: str, fps: float, note: str = "") -> SequenceResult:
        """Cluster, name and collapse what was collected (paper §3.3, §3.4).

        Args:
            source: name to write into the result.
            fps: frames per second of the source.
            note: why the frames given are not the whole source; empty if they are.

        Raises:
            SourceError: no frame was given.
        """
        for _ in self.settle():
            pass
        others = tuple(
            self._others[name].finish(source=f"{source}, face {place}", fps=fps, note=note)
            for place, name in sorted((_place(name), name) for name in self._others)
        )
        if not self._rows:
            raise SourceError(f"{source} gave no frame to analyse; check that it plays elsewhere")
        clusters = {au: self._cluster(maps) for au, maps in sorted(self._aus.items())}
        rows = self._labelled(clusters)
        clusters = _by_first_stage(clusters, self._stages(rows))
        rows = self._labelled(clusters)
        stages = self._stages(rows)
        prototypes = {
            prototype_label(p.au, p.letter): p
            for au, labels in clusters.items()
            for p in self._prototypes(au, labels, rows)
        }
        engine = self._observer.engine
        return SequenceResult(
            source=source,
            model=self.network.name,
            detector=self._observer.detector.name,
            device=str(self.network.device),
            lrp_preset=self.config.explain.preset,
            picture_preset=self.config.explain.picture_preset,
            preset=self.preset,
            fps=fps,
            aus=self.network.card.aus,
            rows=rows,
            stages=self._explained(stages, prototypes),
            prototypes=prototypes,
            stage_crops=tuple(self._stage_picture(stage) for stage in stages),
            note=note,
            hidden=tuple(au for au in self.network.card.aus if au not in self._observer.shown),
            grades=self.network.card.grades,
            baseline=self.config.baseline.enabled,
            rest=self._held.span_rest or self._observer.rest(self._source),
            remark=self._held.remark(),
            lrp_engine=engine.name,
            lrp_engine_reason=engine.reason,
            lrp_precision=self.config.explain.precision,
            others=others,
        )

    def _keep(self, seen: Observation) -> None:
        """Keep what an observation shows; thin the full maps where they take too much room."""
        frame = seen.frame
        self._rows.append(
            FrameRow(
                index=frame.index,
                time_s=frame.time_s,
                face=seen.face.state,
                presence=seen.presence,
                intensity=seen.intensity,
                labels=dict.fromkeys(seen.maps, ""),
                baseline=seen.baseline,
                adjusted_presence=seen.adjusted_presence,
                adjusted_intensity=seen.adjusted_intensity,
                rest_s=seen.rest_s,
                rest_prior=seen.rest_prior,
                pose=seen.face.pose,
                face_id=seen.face.id,
            )
        )
        self._source = frame.source
        for au, relevance in seen.maps.items():
            picture = seen.pictures.get(au, relevance)
            self._aus.setdefault(au, AUMaps(self._shelf)).add(
                frame.index, seen.face.id, seen.descriptors[au], picture, self._stride
            )
        full_maps = sum(len(maps.maps) for maps in self._aus.values())
        if full_maps * self.network.card.input_size**2 * 4 > self._map_bytes:
            self._stride *= 2
            for maps in self._aus.values():
                maps.thin(self._stride)

    def _picture(self, image: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Cut the face out of a frame, for people to look at."""
        card = self.network.card
        return align(
            image,
            points,
            card.template,
            card.template_weights,
            card.input_size,
            scale=PICTURE_SCALE,
        )

    def _cluster(self, maps: AUMaps) -> NDArray[np.intp]:
        """Return the cluster of each map; one without positive relevance joins the map before."""
        valid = [n for n, place in enumerate(maps.descriptors) if place != NOWHERE]
        if not valid:
            return np.zeros(len(maps.frames), np.intp)
        rows = maps.rows()
        # Maps on the two sides of a pause, or of two people, are no neighbours in time.
        steps = np.diff([maps.frames[n] for n in valid], prepend=maps.frames[0])
        others = np.diff([maps.face_ids[n] for n in valid], prepend=maps.face_ids[valid[0]])
        runs = np.cumsum((steps > 1) | (others != 0), dtype=np.int64)
        found = spray(rows, preset=self.preset, runs=runs).labels
        nearest = np.clip(np.searchsorted(valid, np.arange(len(maps.frames)), "right") - 1, 0, None)
        return found[nearest].astype(np.intp)

    def _labelled(self, clusters: dict[int, NDArray[np.intp]]) -> FrameRows:
        """Return the rows with the letters of clusters; both are in the order of time."""
        coming = {au: iter(labels.tolist()) for au, labels in clusters.items()}
        return self._rows.labelled(
            # An AU is in a row exactly where it has a map.
            {au: letter(next(coming[au])) for au in sorted(row.labels)}
            for row in self._rows
        )

    def _stages(self, rows: Sequence[FrameRow]) -> tuple[Stage, ...]:
        tracker = StageTracker(self.config.stage)
        events: list[StageEvent] = []
        since: dict[int, tuple[str, int]] = {}
        person: int | None = None
        holes: dict[int, float] = {}
        for row in rows:
            usable = row.presence is not None
            if row.index in self._breaks:
                since = {}
                events += tracker.gap()
                holes[tracker.start] = row.time_s  # frames in it have no times
            if usable and row.face_id != person:
                if person is not None:
                    since = {}
                    events += tracker.other_person(row.index, row.time_s)
                person = row.face_id
            if usable:
                since = {
                    au: since[au] if since.get(au, ("", 0))[0] == x else (x, row.index)
                    for au, x in row.labels.items()
                }
            staged = {au: since[au] for au in since if au in self._observer.staged}
            events += tracker.update(
                row.index,
                row.time_s,
                staged if usable else None,
                lost=row.face == FaceState.LOST,
            )
        events += tracker.finish()
        stages: list[Stage] = []
        left = ""
        for e in events:
            if e.kind != "exit" or e.end is None or e.end_s is None:
                continue
            if stages and stages[-1].labels == e.labels and left != "other_person":
                # A revision can turn a stage into what the one before it was.
                stages[-1] = replace(stages[-1], end=e.end, end_s=e.end_s)
            else:
                end_s = max(e.end_s, holes.get(e.start, e.end_s))
                stages.append(Stage(e.labels, e.start, e.end, e.start_s, end_s))
            left = e.reason
        return tuple(stages)

    def _prototypes(
        self, au: int, labels: NDArray[np.intp], rows: Sequence[FrameRow]
    ) -> list[Prototype]:
        maps = self._aus[au]
        prototypes: list[Prototype] = []
        for label in range(int(labels.max()) + 1):
            members = np.flatnonzero(labels == label)
            full = [int(n) for n in members if int(n) in maps.maps]
            if not full:  # every member fell to the thinning: the nearest full map stands in
                full = [min(maps.maps, key=lambda n: abs(n - int(members[0])))]
            mean = np.zeros(maps.map(full[0]).shape, np.float64)
            for n in full:
                mean += maps.map(n)
            mean /= len(full)
            # The exemplar's picture is shown: a frame whose picture was kept, if there is one.
            shown = [n for n in full if maps.frames[n] in self._pictures] or full
            scores = [
                float((relevance * mean).sum() / (np.linalg.norm(relevance) + 1e-12))
                for relevance in map(maps.map, shown)
            ]
            exemplar = maps.frames[shown[int(np.argmax(scores))]]
            crop = self._pictures.nearest(exemplar, 0, rows[-1].index)
            if crop is None:
                raise RuntimeError(f"AU {au} has relevance maps, but no face picture was kept")
            prototypes.append(
                Prototype(
                    au=au,
                    letter=letter(label),
                    map=mean.astype(np.float32),
                    frames=len(members),
                    first=maps.frames[int(members[0])],
                    exemplar=exemplar,
                    crop=crop,
                    regions=strongest(shares(mean, self._parts)),
                )
            )
        return prototypes

    @property
    def _parts(self) -> NDArray[np.uint8]:
        """Parts of the face in aligned maps, ``(S, S)``."""
        return region_parts(self.network.card.template, self.network.card.input_size)

    def _explained(
        self, stages: Sequence[Stage], prototypes: Mapping[str, Prototype]
    ) -> tuple[Stage, ...]:
        """Say of each stage what changed from the one before."""
        carried = {label: shares(p.map, self._parts) for label, p in prototypes.items()}
        before = [None, *(stage.labels for stage in stages[:-1])]
        return tuple(
            replace(stage, changes=letter_changes(last, stage.labels, carried.get))
            for last, stage in zip(before, stages, strict=True)
        )

    def _stage_picture(self, stage: Stage) -> NDArray[np.uint8] | None:
        if stage.labels == LOST:
            return None
        middle = (stage.start + stage.end) / 2
        found = self._pictures.nearest(middle, stage.start, stage.end)
        # A stage shorter than the stride of the pictures kept borrows its neighbour's.
        return self._pictures.nearest(middle, 0, self._rows[-1].index) if found is None else found


def _place(stream: str) -> int:
    """Return the number at the end of the name of another face's stream."""
    return int(stream.rpartition("/")[2])


def _by_first_stage(
    clusters: dict[int, NDArray[np.intp]], stages: Sequence[Stage]
) -> dict[int, NDArray[np.intp]]:
    """Renumber the clusters of each AU in the order in which stages first show them.

    A cluster of a few flickering frames may come first in time and never last long enough for a
    stage; without this the first letter anybody sees of an AU could be a ``B``.
    """
    order: dict[int, list[int]] = {au: [] for au in clusters}
    for stage in stages:
        for label in stage.labels:
            if label.startswith("AU"):
                au, name = parse_label(label)
                shown = letter_index(name or "A")
                if shown not in order[au]:
                    order[au].append(shown)
    renumbered: dict[int, NDArray[np.intp]] = {}
    for au, labels in clusters.items():
        unseen = [k for k in range(int(labels.max()) + 1) if k not in order[au]]
        rank = np.argsort(np.array(order[au] + unseen, np.intp), kind="stable")
        renumbered[au] = rank[labels].astype(np.intp)
    return renumbered
