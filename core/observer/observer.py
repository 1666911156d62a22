"""Frames in, explained Action Units out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import lrp, relevance
from ..config import AnalyzerConfig
from ..errors import ConfigError
from ..face.detections import Detector
from ..network.au_network import AUNetwork
from ..network.selection import select_aus, staging_aus
from ..types import FaceState, Frame, RestLevels
from .draft import Draft, Look, Observation, Seen, not_finite, turns
from .faces import Faces
from .on_gpu import OnGpu
from .pictures import PictureMaker

__all__ = ["Observer"]


class Observer:
    """Turn frames into explained Action Units.

    Args:
        detector: finds faces.
        network: the AU network.
        config: all defaults, when not given.
        rest: rest levels with which the first person of every source begins, or source → those of
            its first person.

    Raises:
        ConfigError: the network lacks AUs that were asked for, the baseline cannot work, the rest
            levels do not fit, or there is no such precision.

    Attributes:
        shown: AUs that take part, in the order of the card.
        staged: those of them that make stages.
        faces: whose faces are followed.
    """

    def __init__(
        self,
        detector: Detector,
        network: AUNetwork,
        config: AnalyzerConfig | None = None,
        *,
        rest: RestLevels | Mapping[str, RestLevels] | None = None,
    ) -> None:
        self.config = config or AnalyzerConfig()
        self.network = network
        precision = self.config.explain.precision
        if precision not in lrp.PRECISIONS:
            raise ConfigError(
                f"unknown LRP precision {precision!r}; use one of {', '.join(lrp.PRECISIONS)}"
            )
        if precision == "tf32" and network.device.type == "cpu":
            raise ConfigError(
                "LRP precision 'tf32' is for GPUs, and the network runs on the CPU; use float32, "
                "or --device cuda"
            )
        self._dtype: lrp.Reduced = lrp.PRECISIONS[precision]
        self.shown = select_aus(network.card, self.config.aus)
        self.staged = frozenset(staging_aus(network.card, self.shown, self.config.stage_aus))
        self._takes_part = np.isin(network.card.aus, self.shown)
        self.faces = Faces(detector, network, self.config, rest)
        self._gpu: OnGpu | None = None
        self._pictures = PictureMaker(network, self.config.explain, self._dtype)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the recordings when pickled: they belong to the GPU of this process."""
        return {**self.__dict__, "_gpu": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Give the trackers back what they leave out when they are pickled."""
        self.__dict__.update(state)
        self.faces.attach()

    @property
    def detector(self) -> Detector:
        """What finds faces."""
        return self.faces.detector

    def reset(self, source: str | None = None) -> None:
        """Forget one source (its face and which AUs were active), or all."""
        self.faces.reset(source)

    def streams(self, source: str) -> list[str]:
        """Return the streams of a source: one for each of its faces that may be analysed."""
        return self.faces.streams(source)

    def gap(self, source: str) -> None:
        """Tell that a source paused: its faces and which AUs were active are not known any more.

        ``source`` may also be the stream of another of its faces.
        """
        self.faces.gap(source)

    def rest(self, source: str) -> RestLevels | None:
        """Return the rest levels of the person of a source who was seen at rest for longest.

        None where there is no baseline, or nobody was seen for long enough.
        """
        memory = self.faces.memories.get(source)
        return None if memory is None or memory.baseline is None else memory.baseline.richest

    @property
    def engine(self) -> lrp.EngineChoice:
        """LRP engine that explains the network; the network is prepared on first use."""
        shape = (1, *[self.network.card.input_size] * 2)
        return lrp.engine_of(
            self.network.logits_module, shape, self.config.explain.preset, self._dtype
        )

    @property
    def counts(self) -> lrp.Counts:
        """What the fused LRP engine has done for the network."""
        return lrp.counts_of(self.network.logits_module)

    def warm_up(self) -> None:
        """Run network and LRP once on an empty picture, so that the first face need not wait.

        On a GPU everything that a round of frames can ask of it is recorded, so that no recording
        is made in mid-stream.
        """
        self._pictures.warm_up()
        gpu = self._on_gpu()
        if gpu is not None:
            gpu.record()
            return
        size = self.network.card.input_size
        inputs = self.network.prepare(np.zeros((1, size, size), np.uint8))
        self.network.predict_prepared(inputs)
        lrp.explain(
            self.network.logits_module,
            inputs,
            [(0, 0)],
            preset=self.config.explain.preset,
            dtype=self._dtype,
        )

    def update(self, frames: Sequence[Frame]) -> list[Observation]:
        """Observe frames, in order within each source; sources may be mixed.

        There is one observation a frame, of the face that is followed; where several faces of a
        source are analysed, one more for each other face, under the name of its stream.

        A frame of each source goes through the network at once, and that pass finds the landmarks
        with which the next frame of the source is cut out. On a GPU prediction and explanation are
        one recorded round: what may be active is explained as it is predicted.
        """
        look = self.look(frames)
        return self.show(look.drafts, look)

    def prepare(self, frame: Frame) -> None:
        """Find the faces of the next frame of a source ahead of :meth:`look`.

        It changes no result, but this frame must be the next that comes. Another thread may do so
        from when the frame of that source before it was looked at, one at a time for each source.
        """
        self.faces.prepare(frame)

    def look(self, frames: Sequence[Frame]) -> Look:
        """Find and predict the faces of frames, in order within each source."""
        gpu = self._on_gpu()
        if gpu is not None:
            return gpu.look(frames)
        drafts: dict[int, list[Draft]] = {}
        seen = []
        for turn in turns([frame.source for frame in frames]):
            found = self.faces.find([frames[n] for n in turn])
            drafts.update(zip(turn, found, strict=True))
            seen.append(self._predict([draft for faces in found for draft in faces]))
        return Look([draft for n in range(len(frames)) for draft in drafts[n]], seen)

    def show(self, drafts: Sequence[Draft], look: Look | None = None) -> list[Observation]:
        """Decide what is active in frames that were looked at, and explain it.

        Args:
            drafts: in order within each source, each once.
            look: that all of them came from, where it is still known: it saves a way forward, and
                on a GPU the maps that it found already.
        """
        for draft in drafts:
            self._decide_active(draft)
        gpu = self._on_gpu()
        if gpu is not None:
            gpu.explain(drafts, () if look is None else look.shown)
        elif look is None:
            usable = [draft for draft in drafts if draft.presence is not None]
            self._explain([Seen(usable, self._inputs(usable), None)])
        else:
            self._explain(look.seen)
        self._pictures.draw(drafts)
        return [draft.finish() for draft in drafts]

    def _predict(self, drafts: Sequence[Draft]) -> Seen:
        """Predict the AUs of all usable faces, and learn where their points are.

        The crops are prepared once for prediction and explanation.
        """
        usable = [draft for draft in drafts if draft.face.crop is not None]
        inputs = self._inputs(usable)
        with_points = self.network.has_landmarks and any(map(self.faces.learns, usable))
        forward = self._forward(inputs, drafts)
        if forward is None or forward.hidden is None:
            prediction = self.network.predict_prepared(inputs, with_points=with_points)
        else:
            features = forward.features if with_points else None
            prediction = self.network.predict_from(forward.logits, forward.hidden, features)
        for row, draft in enumerate(usable):
            draft.presence = prediction.presence[row]
            if prediction.intensity is not None:
                draft.intensity = prediction.intensity[row]
        if prediction.points is not None:
            self.faces.learn(usable, prediction.points)
        return Seen(usable, inputs, forward)

    def _inputs(self, drafts: Sequence[Draft]) -> torch.Tensor:
        """Return the crops of usable faces as the network takes them."""
        size = self.network.card.input_size
        crops = [draft.face.crop for draft in drafts]
        return self.network.prepare(np.array(crops, np.uint8).reshape(-1, size, size))

    def _decide_active(self, draft: Draft) -> None:
        """Decide which AUs of a frame are active, by their rise over rest where that is kept.

        Frames of one source must come in order.
        """
        memory, frame, face = draft.memory, draft.frame, draft.face
        baseline = memory.baseline
        if draft.new_face:
            memory.forget()
        if baseline is not None and draft.rest is not None:
            baseline.begin(draft.rest)
        if draft.presence is None:
            if baseline is not None:
                baseline.skip(frame.time_s)
            if face.state == FaceState.LOST:
                memory.gate.reset()
        else:
            presence = draft.presence
            if baseline is not None:
                presence = draft.adjusted = baseline.update(frame.time_s, presence, face.quality)
            draft.active = np.flatnonzero(memory.gate.update(presence) & self._takes_part).tolist()
        if baseline is not None:
            draft.baseline = baseline.state
            draft.rest_s, draft.rest_prior = baseline.rest_s, baseline.prior

    def _forward(self, inputs: torch.Tensor, drafts: Sequence[Draft]) -> lrp.Forward | None:
        """Run the network forward once for prediction and explanation, where that saves time.

        What LRP needs of the way forward costs a quarter of it, so it is kept only where an AU was
        active in the frame before; any AU, so that probabilities do not depend, by their rounding,
        on which AUs take part.
        """
        if not self.network.reads_hidden or not any(
            draft.memory.gate.active.any() for draft in drafts
        ):
            return None
        return lrp.forward(
            self.network.logits_module, inputs, self.config.explain.preset, self._dtype
        )

    def _explain(self, seen: Sequence[Seen]) -> None:
        """Explain what is active in frames that went through the network."""
        places: list[tuple[Draft, int]] = []
        maps: list[torch.Tensor] = []
        inputs: list[torch.Tensor] = []
        again: list[tuple[int, int]] = []
        of_again: list[tuple[Draft, int]] = []
        for one in seen:
            pairs = [(row, n) for row, draft in enumerate(one.drafts) for n in draft.active]
            chosen = [(one.drafts[row], output) for row, output in pairs]
            if one.forward is not None and pairs:
                maps.append(one.forward.explain(pairs))
                places += chosen
            elif pairs:
                first = sum(map(len, inputs))
                again += [(first + row, output) for row, output in pairs]
                inputs.append(one.inputs)
                of_again += chosen
        if again:
            # Crops of bytes are finite; looking at them here would wait for the device.
            maps.append(
                lrp.explain(
                    self.network.logits_module,
                    inputs[0] if len(inputs) == 1 else torch.cat(inputs),
                    again,
                    preset=self.config.explain.preset,
                    dtype=self._dtype,
                    check=False,
                )
            )
        if maps:
            self._keep(places + of_again, maps[0] if len(maps) == 1 else torch.cat(maps))

    def _keep(self, places: Sequence[tuple[Draft, int]], maps: torch.Tensor) -> None:
        """Summarise maps ``(P, S, S)`` and note them where they belong."""
        explain = self.config.explain
        descriptors, valid = relevance.describe(
            maps, side=explain.descriptor_side, mode=explain.descriptor_mode
        )
        # A sum is not finite if any value is not. Everything above was only queued on the
        # device; this waits for it.
        if not math.isfinite(float(maps.sum())):
            raise not_finite(self.network, (output for _, output in places))
        on_gpu = None if descriptors.device.type == "cpu" else descriptors
        every, described = maps.cpu().numpy(), descriptors.cpu().numpy()
        compared: NDArray[np.bool_] = valid.cpu().numpy()
        for n, (draft, output) in enumerate(places):
            au = self.network.card.aus[output]
            draft.maps[au] = every[n]
            draft.descriptors[au] = described[n] if compared[n] else None
            if on_gpu is not None:
                draft.on_gpu[au] = on_gpu[n]

    def _on_gpu(self) -> OnGpu | None:
        """Return what runs whole rounds on a GPU; None where the steps run one by one."""
        if self.network.device.type == "cpu":
            return None
        shape, explain = (1, *[self.network.card.input_size] * 2), self.config.explain
        model = self.network.logits_module
        engine = lrp.recorded_engine(model, shape, explain.preset, self._dtype)
        if engine is None:
            return None
        if self._gpu is None or self._gpu.rounds.engine is not engine:  # its weights changed
            self._gpu = OnGpu(engine, self.faces, self.network, self.config, self._takes_part)
        return self._gpu
