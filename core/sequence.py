"""Analyse a whole sequence at once: SpRAy over all its maps, then stages (paper §3.3–3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .action_units import letter, letter_index, parse_label, prototype_label
from .baseline import PersonalBaseline, adjust_intensity, whole_sequence
from .clustering.spectral import spray, spray_preset
from .config import AnalyzerConfig
from .errors import ConfigError, SourceError
from .face.tracker import Detector, align
from .network.au_network import AUNetwork
from .observer import Observation, Observer
from .sequence_store import AUMaps, MemoryShelf, Pictures, Shelf
from .stages import PresenceGate, StageTracker
from .types import (
    LOST,
    BaselineState,
    FaceState,
    Frame,
    FrameRow,
    Prototype,
    SequenceResult,
    Stage,
    StageEvent,
)

__all__ = ["SequenceAnalyzer"]

PICTURE_SCALE = 3
"""Side of the face pictures in reports, as a multiple of the network's crop."""

MAP_BYTES = 1 << 30
"""Bound on the room for full-size relevance maps, bytes. Each time it is exceeded, prototypes
average half as many maps of each AU as before; clustering always sees all maps."""

PICTURE_BYTES = 256 << 20
"""Bound on the room for face pictures (JPEG), bytes. Each time it is exceeded, every second
picture is dropped."""


class SequenceAnalyzer:
    """Collect the frames of one sequence, then explain it as a whole.

    A personal baseline, where asked for, is taken from the whole recording: what the first neutral
    phase of a person teaches holds for the frames before it, too. Presence only falls by it, so
    every AU that stays active was explained already; the others are dropped.

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
    ) -> None:
        self.config = config or AnalyzerConfig()
        spray_preset(preset)
        self.network = model or AUNetwork.load(device=device)
        self.preset = preset
        self._map_bytes = map_bytes
        self._picture_bytes = picture_bytes
        self._shelf: Shelf = MemoryShelf() if shelf is None else shelf
        baseline = self.config.baseline
        self._baseline = (
            PersonalBaseline.of_network(self.network.card, baseline) if baseline.enabled else None
        )
        # The frames are observed without it: what is neutral is known only in the end.
        plain = replace(self.config, baseline=replace(baseline, enabled=False))
        self._observer = Observer(detector, self.network, plain)
        self.reset()

    def reset(self) -> None:
        """Forget the sequence."""
        self._observer.reset()
        self._rows: list[FrameRow] = []
        self._quality: list[float] = []
        self._new_face: list[bool] = []
        self._aus: dict[int, AUMaps] = {}
        self._shelf.clear()
        self._pictures = Pictures(self._picture, self._picture_bytes, shelf=self._shelf)
        self._stride = 1

    def update(self, frames: Sequence[Frame]) -> list[Observation]:
        """Take in the next frames of the sequence and return what each shows.

        Raises:
            ConfigError: a frame does not come after the one before it; none is taken in then.
        """
        last = self._rows[-1].index if self._rows else -1
        for frame in frames:
            if frame.index <= last:
                raise ConfigError(
                    f"frame {frame.index} came after frame {last}; hand frames over in order, or "
                    "reset() for a new sequence"
                )
            last = frame.index
        observations = self._observer.update(frames)
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
        if not self._rows:
            raise SourceError(f"{source} gave no frame to analyse; check that it plays elsewhere")
        if self._baseline is not None:
            self._apply(self._baseline)
        clusters = {au: self._cluster(maps) for au, maps in sorted(self._aus.items())}
        rows = self._labelled(clusters)
        clusters = _by_first_stage(clusters, self._stages(rows))
        rows = self._labelled(clusters)
        stages = self._stages(rows)
        engine = self._observer.engine
        return SequenceResult(
            source=source,
            model=self.network.name,
            detector=self._observer.detector.name,
            device=str(self.network.device),
            lrp_preset=self.config.explain.preset,
            preset=self.preset,
            fps=fps,
            aus=self.network.card.aus,
            rows=tuple(rows),
            stages=stages,
            prototypes={
                prototype_label(p.au, p.letter): p
                for au, labels in clusters.items()
                for p in self._prototypes(au, labels, rows)
            },
            stage_crops=tuple(self._stage_picture(stage) for stage in stages),
            note=note,
            hidden=tuple(au for au in self.network.card.aus if au not in self._observer.shown),
            grades=self.network.card.grades,
            baseline=self._baseline is not None,
            lrp_engine=engine.name,
            lrp_engine_reason=engine.reason,
            lrp_precision=self.config.explain.precision,
        )

    def _apply(self, baseline: PersonalBaseline) -> None:
        """Judge presence against the person's baseline; drop the maps of AUs that it turns off."""
        card = self.network.card
        baseline.reset()
        adjusted, states = whole_sequence(
            baseline,
            [row.time_s for row in self._rows],
            [row.presence for row in self._rows],
            self._quality,
            self._new_face,
        )
        gate = PresenceGate(*card.thresholds())
        rows: list[FrameRow] = []
        for row, values, state, fresh in zip(
            self._rows, adjusted, states, self._new_face, strict=True
        ):
            if fresh or row.face == FaceState.LOST:
                gate.reset()
            if row.presence is None or values is None:
                rows.append(replace(row, baseline=state))
                continue
            on = {card.aus[a] for a in np.flatnonzero(gate.update(values))}
            known = state == BaselineState.ACTIVE
            rows.append(
                replace(
                    row,
                    labels={au: x for au, x in row.labels.items() if au in on},
                    baseline=state,
                    adjusted_presence=values if known else None,
                    adjusted_intensity=adjust_intensity(row.intensity, row.presence, values)
                    if known and row.intensity is not None
                    else None,
                )
            )
        self._rows = rows
        labels = {row.index: row.labels for row in rows}
        for au, maps in list(self._aus.items()):
            maps.keep([au in labels[frame] for frame in maps.frames])
            if not maps.frames:
                del self._aus[au]

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
            )
        )
        self._quality.append(seen.face.quality)
        self._new_face.append(seen.new_face)
        if seen.face.crop is not None and seen.face.points is not None:
            self._pictures.add(frame.index, frame.image, seen.face.points)
        for au, relevance in seen.maps.items():
            self._aus.setdefault(au, AUMaps(self._shelf)).add(
                frame.index, seen.descriptors[au], relevance, self._stride
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
        valid = [n for n, d in enumerate(maps.descriptors) if d is not None]
        if not valid:
            return np.zeros(len(maps.frames), np.intp)
        rows = maps.rows()
        # Maps on the two sides of a pause are no neighbours in time.
        steps = np.diff([maps.frames[n] for n in valid], prepend=maps.frames[0])
        runs = np.cumsum(steps > 1, dtype=np.int64)
        found = spray(rows, preset=self.preset, runs=runs).labels
        nearest = np.clip(np.searchsorted(valid, np.arange(len(maps.frames)), "right") - 1, 0, None)
        return found[nearest].astype(np.intp)

    def _labelled(self, clusters: dict[int, NDArray[np.intp]]) -> list[FrameRow]:
        letters: dict[int, dict[int, str]] = {row.index: {} for row in self._rows}
        for au, labels in clusters.items():
            for frame, label in zip(self._aus[au].frames, labels, strict=True):
                letters[frame][au] = letter(int(label))
        return [replace(row, labels=letters[row.index]) for row in self._rows]

    def _stages(self, rows: Sequence[FrameRow]) -> tuple[Stage, ...]:
        tracker = StageTracker(self.config.stage)
        events: list[StageEvent] = []
        since: dict[int, tuple[str, int]] = {}
        for row in rows:
            usable = row.presence is not None
            if usable:
                since = {
                    au: since[au] if since.get(au, ("", 0))[0] == x else (x, row.index)
                    for au, x in row.labels.items()
                }
            events += tracker.update(
                row.index,
                row.time_s,
                since if usable else None,
                lost=row.face == FaceState.LOST,
            )
        events += tracker.finish()
        stages: list[Stage] = []
        for e in events:
            if e.kind != "exit" or e.end is None or e.end_s is None:
                continue
            if stages and stages[-1].labels == e.labels:
                # A revision can turn a stage into what the one before it was.
                stages[-1] = replace(stages[-1], end=e.end, end_s=e.end_s)
            else:
                stages.append(Stage(e.labels, e.start, e.end, e.start_s, e.end_s))
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
                )
            )
        return prototypes

    def _stage_picture(self, stage: Stage) -> NDArray[np.uint8] | None:
        if stage.labels == LOST:
            return None
        middle = (stage.start + stage.end) / 2
        found = self._pictures.nearest(middle, stage.start, stage.end)
        # A stage shorter than the stride of the pictures kept borrows its neighbour's.
        return self._pictures.nearest(middle, 0, self._rows[-1].index) if found is None else found


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
