"""The personal baseline: judge an AU against the face it is on, not against faces in general.

A network that never saw this person takes traits for expressions: narrow eyes fire AU43, 6 and 7,
low brows AU4, resting lip corners AU12 or AU15. Such an offset is there in every frame; an
expression comes and goes. :class:`PersonalBaseline` learns the offset of each AU while the face
rests, and takes it off the presence logit.

With the logit z of an AU, its level n on neutral faces in general (model card) and its level q on
this face at rest, the offset is ``b = clip(q − n, 0, cap)`` and the adjusted presence ``σ(z − b)``:

- nothing is subtracted before a *confirmed neutral phase*, a second or more in which no AU that can
  be relied on moved, and most were off;
- q is a low quantile over the last seconds in which the AU was not active, so an expression that is
  held does not become the baseline;
- b falls at once and rises slowly, and never exceeds the cap: what the network is certain of stays;
- presence only ever falls (b ≥ 0): the baseline hides, it never invents.

An expression held from the very first frame cannot be told from a trait; ``max_excess`` and
``quiet_share`` keep the clear ones out of the neutral phase, and the cap bounds the harm of others.

References:
    Baltrušaitis, Mahmoud & Robinson, *Cross-dataset learning and person-specific normalisation for
    automatic Action Unit detection*, FERA 2015: subtracting a person's neutral face (they take the
    median of the features; here it is a low quantile of the logits).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .config import BaselineConfig
from .errors import ConfigError
from .network.card import ModelCard
from .network.selection import ALL, SHOWN, select_aus
from .stages import PresenceGate
from .types import BaselineState

__all__ = ["PersonalBaseline", "adjust_intensity", "adjust_presence", "same_face", "whole_sequence"]

_TINY = 1e-7


def adjust_presence(
    presence: NDArray[np.float32], offsets: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Take offsets off presence, in the logit domain.

    Args:
        presence: ``(…, A)`` float32 probability, 0–1.
        offsets: ``(…, A)`` float32 logits, ≥ 0.

    Returns:
        ``(…, A)`` float32, at most ``presence``; where the offset is 0 exactly ``presence``.
    """
    lowered = 1.0 / (1.0 + np.exp(offsets.astype(np.float64) - _logit(presence)))
    lowered = np.minimum(presence, lowered.astype(np.float32))
    return np.where(offsets > 0, lowered, presence).astype(np.float32, copy=False)


def adjust_intensity(
    intensity: NDArray[np.float32],
    presence: NDArray[np.float32],
    adjusted: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Lower intensity in the proportion in which presence fell.

    So an AU that the baseline explains away has next to no intensity, and one of which the network
    is certain keeps nearly all of its own; no second baseline has to be learned.

    Args:
        intensity: ``(A,)`` float32, FACS 0–5.
        presence, adjusted: ``(A,)`` float32, before and after (at most ``presence``).

    Returns:
        ``(A,)`` float32, at most ``intensity``.
    """
    share = adjusted / np.maximum(presence, np.float32(_TINY))
    return (intensity * share).astype(np.float32, copy=False)


def same_face(before: NDArray[np.uint8], after: NDArray[np.uint8], least: float) -> bool:
    """Tell whether two aligned crops, shortly after each other, can be of one person.

    Args:
        before, after: ``(S, S)`` uint8 grey.
        least: Pearson correlation of their middle parts from which they can.
    """
    edge = before.shape[0] // 8
    a, b = (x[edge:-edge, edge:-edge].astype(np.float32).ravel() for x in (before, after))
    a -= a.mean()
    b -= b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return norm > 0 and float(a @ b) / norm >= least


class PersonalBaseline:
    """Learn the offsets of one person, frame by frame.

    It has no clock: the times of the frames decide. The same calls always give the same results.

    Args:
        on, off: ``(A,)`` thresholds of presence, as :class:`~facestage.core.stages.PresenceGate`
            takes them: an AU learns only while it is not active.
        neutral: ``(A,)`` presence logits of neutral faces in general.
        config: constants; ``enabled`` is not looked at.
        reliable: ``(A,)`` bool, the AUs by which a neutral phase is recognised; all when not given.

    Raises:
        ConfigError: a constant cannot work, or shapes differ.
    """

    def __init__(
        self,
        on: ArrayLike,
        off: ArrayLike,
        neutral: ArrayLike,
        config: BaselineConfig | None = None,
        reliable: ArrayLike | None = None,
    ) -> None:
        self.config = config or BaselineConfig()
        _check(self.config)
        self._gate = PresenceGate(on, off)
        self.neutral = np.asarray(neutral, np.float32)
        if self.neutral.shape != self._gate.off.shape:
            raise ConfigError(
                f"{self.neutral.size} neutral levels do not fit {self._gate.off.size} AUs; give "
                "one logit per AU"
            )
        self._off_logit = _logit(self._gate.off)
        size = self.neutral.size
        self._reliable = np.ones(size, bool) if reliable is None else np.array(reliable, bool)
        if self._reliable.shape != self.neutral.shape or not self._reliable.any():
            raise ConfigError(
                f"{self._reliable.size} marks of reliable AUs, {int(self._reliable.sum())} of them "
                f"set, do not fit {size} AUs; mark one at least"
            )
        self.reset()

    @classmethod
    def of_network(cls, card: ModelCard, config: BaselineConfig | None = None) -> PersonalBaseline:
        """Make the baseline of a network: its thresholds, its neutral levels, its shown AUs.

        Args:
            card: of the network.
            config: constants.

        Raises:
            ConfigError: a constant cannot work.
        """
        shown = select_aus(card, SHOWN if {"A", "B"} & set(card.grades.values()) else ALL)
        reliable = [au in shown for au in card.aus]
        return cls(*card.thresholds(), card.neutral_logits(), config, reliable)

    def reset(self) -> None:
        """Forget the person: what comes next is learned anew."""
        self._gate.reset()
        self._times: deque[float] = deque()
        self._logits: deque[NDArray[np.float64]] = deque()
        self._offsets = np.zeros(self.neutral.shape, np.float64)
        self._state = BaselineState.LEARNING
        self._ready = False
        self._last_s: float | None = None

    @property
    def state(self) -> BaselineState:
        """``ACTIVE`` if the last frame was adjusted, ``LEARNING`` if not yet."""
        return self._state

    @property
    def ready(self) -> bool:
        """Whether a neutral phase was confirmed: the next frame will be adjusted."""
        return self._ready

    def stale(self, time_s: float) -> bool:
        """Whether a frame at this time comes too late (or too early) for what was learned."""
        last = self._last_s
        return last is not None and not 0 <= time_s - last <= self.config.max_gap_s

    @property
    def offsets(self) -> NDArray[np.float32]:
        """What is subtracted from the logits of the next frame, ``(A,)`` float32, 0 to ``cap``."""
        return self._offsets.astype(np.float32)

    def update(
        self, time_s: float, presence: NDArray[np.float32], quality: float = 1.0
    ) -> NDArray[np.float32]:
        """Adjust the presence of the next frame, then learn from it.

        The offsets are those learned before this frame, so within it more presence never gives
        less adjusted presence.

        Args:
            time_s: time of the frame, seconds; time that runs back, or a gap of more than
                ``max_gap_s``, resets.
            presence: ``(A,)`` float32, 0–1.
            quality: of the face, 0–1.

        Returns:
            ``(A,)`` float32, at most ``presence``, equal to it while learning.
        """
        if self.stale(time_s):
            self.reset()
        passed = 0.0 if self._last_s is None else time_s - self._last_s
        self._last_s = time_s
        adjusted = adjust_presence(presence, self.offsets)
        logits = _logit(presence)
        if not self._ready:
            if quality >= self.config.min_quality:
                self._await_neutral(time_s, logits)
        else:
            self._state = BaselineState.ACTIVE
            active = self._gate.update(adjusted)
            if quality >= self.config.min_quality:
                self._follow(time_s, np.where(active, np.inf, logits), passed)
        return adjusted

    def skip(self, time_s: float) -> None:
        """Take in a frame without a usable face; after ``max_gap_s`` the person is forgotten.

        Args:
            time_s: time of the frame, seconds.
        """
        if self.stale(time_s):
            self.reset()

    def _await_neutral(self, time_s: float, logits: NDArray[np.float64]) -> None:
        """Take in a frame before the neutral phase; confirm the phase once it has lasted."""
        config = self.config
        self._remember(time_s, logits)
        # As short a run as still spans the phase: rounding of the times must not ask for more.
        while len(self._times) > 1 and time_s - self._times[1] >= config.neutral_s - 1e-6:
            self._forget()
        if (
            time_s - self._times[0] < config.neutral_s - 1e-6
            or len(self._times) < config.neutral_frames
        ):
            return
        chosen = self._reliable
        logits = np.array(self._logits)[:, chosen]
        low, middle, high = np.quantile(logits, (0.1, 0.5, 0.9), axis=0)
        if (
            (high - low).max() <= config.steady
            and (middle < self._off_logit[chosen]).mean() >= config.quiet_share
            and (middle - self.neutral[chosen]).max() <= config.max_excess
        ):
            self._ready = True
            self._offsets = self._target(self._offsets)

    def _follow(self, time_s: float, logits: NDArray[np.float64], passed: float) -> None:
        """Take in a frame after the neutral phase (infinite where an AU is active)."""
        self._remember(time_s, logits)
        while time_s - self._times[0] > self.config.window_s:
            self._forget()
        highest = self._offsets + self.config.rise_per_s * passed
        self._offsets = np.minimum(self._target(self._offsets), highest)

    def _target(self, before: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the offsets that the window asks for; an AU with too few frames keeps its last."""
        # Frames in which the AU was active are infinite, so they come last.
        ordered = np.sort(np.array(self._logits), axis=0)
        count = np.isfinite(ordered).sum(axis=0)
        position = self.config.quantile * np.maximum(count - 1, 0)
        below = np.floor(position).astype(np.intp)
        above = np.minimum(below + 1, np.maximum(count - 1, 0))
        columns = np.arange(ordered.shape[1])
        known = count >= self.config.neutral_frames
        low = np.where(known, ordered[below, columns], 0.0)
        high = np.where(known, ordered[above, columns], 0.0)
        level = low + (position - below) * (high - low)
        return np.where(known, np.clip(level - self.neutral, 0.0, self.config.cap), before)

    def _remember(self, time_s: float, logits: NDArray[np.float64]) -> None:
        self._times.append(time_s)
        self._logits.append(logits)

    def _forget(self) -> None:
        self._times.popleft()
        self._logits.popleft()


def whole_sequence(
    baseline: PersonalBaseline,
    times: Sequence[float],
    presence: Sequence[NDArray[np.float32] | None],
    quality: Sequence[float],
    new_face: Sequence[bool],
) -> tuple[list[NDArray[np.float32] | None], list[BaselineState]]:
    """Adjust a recording: as live, and what is learned first also holds for the frames before.

    Live, the frames until the first neutral phase of a person cannot be adjusted. In a recording
    they can: they take the offsets that the phase gives. From there on both are the same.

    Args:
        baseline: a fresh or reset one.
        times: of each frame, seconds.
        presence: of each frame, ``(A,)``; None without a usable face.
        quality: of each face, 0–1.
        new_face: whether a frame shows another person, or another connection, than the last one.

    Returns:
        Adjusted presence (None where there is none), and the state of each frame: ``LEARNING``
        where no neutral phase was ever found for that person.
    """
    adjusted: list[NDArray[np.float32] | None] = []
    states: list[BaselineState] = []
    waiting: list[tuple[int, NDArray[np.float32]]] = []
    for n, (time_s, values, face_quality, other_face) in enumerate(
        zip(times, presence, quality, new_face, strict=True)
    ):
        if other_face:
            baseline.reset()
        if other_face or baseline.stale(time_s):
            waiting = []
        if values is None:
            baseline.skip(time_s)
            adjusted.append(None)
        else:
            adjusted.append(baseline.update(time_s, values, face_quality))
        states.append(baseline.state)
        if values is not None and baseline.state == BaselineState.LEARNING:
            waiting.append((n, values))
        if baseline.ready:
            for m, earlier in waiting:
                adjusted[m] = adjust_presence(earlier, baseline.offsets)
                states[m] = BaselineState.ACTIVE
            waiting = []
    return adjusted, states


def _logit(presence: NDArray[np.float32]) -> NDArray[np.float64]:
    p = np.clip(presence.astype(np.float64), _TINY, 1 - _TINY)
    return np.log(p / (1 - p))


def _check(config: BaselineConfig) -> None:
    for name in ("window_s", "neutral_s", "max_gap_s", "cap", "steady", "max_excess"):
        value = getattr(config, name)
        if not value > 0:
            raise ConfigError(f"baseline: {name} must be above 0, not {value}")
    for name in ("quantile", "quiet_share", "min_quality"):
        value = getattr(config, name)
        if not 0 <= value <= 1:
            raise ConfigError(f"baseline: {name} must lie in 0 to 1, not {value}")
    if config.rise_per_s < 0 or config.neutral_frames < 2:
        raise ConfigError(
            f"baseline: rise_per_s must not be negative ({config.rise_per_s}), and neutral_frames "
            f"at least 2 ({config.neutral_frames})"
        )
    if config.window_s < config.neutral_s:
        raise ConfigError(
            f"baseline: a window of {config.window_s:g} s cannot hold a neutral phase of "
            f"{config.neutral_s:g} s; make window_s longer"
        )
