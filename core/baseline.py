"""The personal baseline: judge an AU by its rise over the rest level of the face it is on.

A network that never saw this person takes traits for expressions: low brows fire AU4, raised lip
corners AU12. And what it calls absent differs as much the other way: on a face whose AU1 rests far
below that of others, a raised brow never reaches the threshold that others need. So presence is
judged on the rise of the logit over the person's own *rest level*, which is learned all the time.

With the logit z of an AU, its rest level m on faces in general and its threshold ``on`` (both of
the model card), the margin d = on − m is the unit of everything here, so that nothing depends on
the scale of a network's logits:

- the rest level starts at m, the first frame has one already. After T seconds of evidence it is
  ``r = m + T / (T + prior_s) · (e − m)``, e a low quantile of the logits of trusted frames;
- a frame is trusted for an AU when the face is good enough, the AU is not active and does not
  change fast, and no AU that can be relied on is active in the same half of the face: closed eyes
  lower AU5, a frown lowers AU2, and neither is rest;
- one threshold for everybody must leave room for how people differ; a face that is known needs
  less. As evidence comes, the rise that is asked for falls from d to the *known rise* k. How far an
  AU wanders on a face that does not show it has little to do with how people differ, so the model
  card may give k for each AU; without, it is ``known_rise · d``;
- both together are one offset, taken off the logit, so that adjusted presence is compared with the
  thresholds of the card.

An expression must not become rest, however long it is held:

- an active AU teaches nothing, so a held expression loses nothing;
- r never lies more than d above m, nor more than ``most_drift · d``, and d − k, above the lowest
  level that was well seen on this face. So whatever rises by d over that shows for ever, even where
  it comes and goes about the threshold;
- an expression from the very first frame on cannot be told from a trait. If it is clear (logit
  above on + k), or moves much of the face, it teaches nothing. If it is weak, alone and still, it
  is taken for a trait, but slowly (``trait_weight``).

References:
    Baltrušaitis, Mahmoud & Robinson, *Cross-dataset learning and person-specific normalisation for
    automatic Action Unit detection*, FERA 2015: subtracting a person's neutral face (they take the
    median of the features; here it is a low quantile of the logits).
    Gelman et al., *Bayesian Data Analysis*, 2013, ch. 2.5: the mean of a normal population and of
    T observations, weighted T : prior.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .action_units import UPPER_FACE
from .config import BaselineConfig
from .errors import ConfigError
from .network.card import ModelCard
from .network.selection import ALL, SHOWN, select_aus
from .stages import PresenceGate
from .types import BaselineState, RestLevels

__all__ = [
    "REST_SCHEMA",
    "PersonalBaseline",
    "adjust_intensity",
    "adjust_presence",
    "presence_for",
    "read_rest",
    "rest_of_span",
    "write_rest",
]

REST_SCHEMA = "facestage.rest/1"
"""The value of ``schema`` in a file of rest levels that this version reads."""

_TINY = 1e-7
_FEWEST_ROWS = 3
"""Frames in the window below which an AU has no level of its own."""
_EPSILON_S = 1e-6
"""Times come from media clocks with rounding of their own; distances are met to within this."""

Logits = NDArray[np.float64]


def adjust_presence(
    presence: NDArray[np.float32], offsets: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Take offsets off presence, in the logit domain.

    Args:
        presence: ``(…, A)`` float32 probability, 0–1.
        offsets: ``(…, A)`` float32 logits of either sign.

    Returns:
        ``(…, A)`` float32, below ``presence`` where the offset is positive, above it where it is
        negative, and exactly ``presence`` where it is 0.
    """
    moved = (1.0 / (1.0 + np.exp(offsets.astype(np.float64) - _logit(presence)))).astype(np.float32)
    moved = np.where(offsets > 0, np.minimum(presence, moved), np.maximum(presence, moved))
    return np.where(offsets != 0, moved, presence).astype(np.float32, copy=False)


def presence_for(
    adjusted: NDArray[np.float32], offsets: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return from which presence on :func:`adjust_presence` may give at least so much.

    Args:
        adjusted: ``(…, A)`` float32 probability, 0–1.
        offsets: ``(…, A)`` float32 logits of either sign.

    Returns:
        ``(…, A)`` float32, ``adjusted`` where the offset is 0; elsewhere the inverse, less by what
        rounding can do, so that no presence below it gives ``adjusted``.
    """
    zero = np.float32(0)
    logits = _logit(np.nextafter(adjusted, zero)) + offsets
    # The logit of a presence of 0 is that of the smallest one, see _logit.
    needed = 1.0 / (1.0 + np.exp(-logits))
    needed = np.where((adjusted <= _TINY) | (needed <= 2 * _TINY), 0.0, needed)
    needed = np.nextafter(needed.astype(np.float32), zero)
    return np.where(offsets != 0, needed, adjusted).astype(np.float32, copy=False)


def adjust_intensity(
    intensity: NDArray[np.float32],
    presence: NDArray[np.float32],
    adjusted: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Lower intensity in the proportion in which presence fell; never raise it.

    So an AU that the baseline explains away has next to no intensity. Where presence rose, the
    strength stays what the network gave: a lower threshold shows more, it makes nothing stronger.

    Args:
        intensity: ``(A,)`` float32, FACS 0–5.
        presence, adjusted: ``(A,)`` float32, before and after.

    Returns:
        ``(A,)`` float32, at most ``intensity``.
    """
    share = np.minimum(adjusted / np.maximum(presence, np.float32(_TINY)), np.float32(1))
    return (intensity * share).astype(np.float32, copy=False)


class PersonalBaseline:
    """Learn the rest levels of one person, frame by frame, and judge presence by them.

    It has no clock: the times of the frames decide. The same calls always give the same results.

    Args:
        on, off: ``(A,)`` thresholds of presence, as :class:`~facestage.core.stages.PresenceGate`
            takes them.
        neutral: ``(A,)`` presence logits of neutral faces in general.
        config: constants; ``enabled`` is not looked at.
        reliable: ``(A,)`` bool, the AUs whose activity says that a face does not rest; all when
            not given.
        upper: ``(A,)`` bool, the AUs of the upper half of the face; all are of one part when not
            given.
        rise: ``(A,)`` logits over the rest level of a known face from which an AU is active, kept
            within :attr:`~BaselineConfig.rise_range`; where it is NaN or not given, ``known_rise``
            margins.

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
        upper: ArrayLike | None = None,
        rise: ArrayLike | None = None,
    ) -> None:
        self.config = config or BaselineConfig()
        _check(self.config)
        self._gate = PresenceGate(on, off)
        self.neutral = np.asarray(neutral, np.float64)
        size = self.neutral.size
        if self.neutral.shape != self._gate.on.shape:
            raise ConfigError(
                f"{size} neutral levels do not fit {self._gate.on.size} AUs; give one logit per AU"
            )
        self._on = _logit(self._gate.on)
        self.margin = np.maximum(self._on - self.neutral, self.config.least_margin)
        self.rise = self._known_rise(rise)
        self._drift = np.minimum(self.config.most_drift * self.margin, self.margin - self.rise)
        self._reliable = np.ones(size, bool) if reliable is None else np.array(reliable, bool)
        if self._reliable.shape != self.neutral.shape or not self._reliable.any():
            raise ConfigError(
                f"{self._reliable.size} marks of reliable AUs, {int(self._reliable.sum())} of them "
                f"set, do not fit {size} AUs; mark one at least"
            )
        half = np.zeros(size, bool) if upper is None else np.array(upper, bool)
        if half.shape != self.neutral.shape:
            raise ConfigError(f"{half.size} marks of the upper face do not fit {size} AUs")
        self._halves = (half, ~half)
        self._richest: RestLevels | None = None
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
        upper = [au in UPPER_FACE for au in card.aus]
        neutral, rise = card.neutral_logits(), card.rises()
        return cls(*card.thresholds(), neutral, config, reliable, upper, rise)

    def _known_rise(self, rise: ArrayLike | None) -> Logits:
        usual = self.config.known_rise * self.margin
        if rise is None:
            return usual
        asked = np.asarray(rise, np.float64)
        if asked.shape != self.neutral.shape:
            raise ConfigError(
                f"{asked.size} known rises do not fit {self.neutral.size} AUs; give one per AU"
            )
        low, high = (share * self.margin for share in self.config.rise_range)
        return np.where(np.isfinite(asked), np.clip(asked, low, high), usual)

    def reset(self) -> None:
        """Forget the person: what comes next is learned anew, from faces in general."""
        if hasattr(self, "_seconds"):
            self._keep_richest()
        size = self.neutral.shape
        self._gate.reset()
        slots = math.ceil(self.config.window_s / self.config.sample_s) + 1
        self._rows = np.full((*size, slots), np.inf)  # infinite where a frame is not trusted
        self._row_s = np.full(slots, -np.inf)
        self._next = 0
        self._recent: deque[tuple[float, Logits]] = deque()
        self._seconds = np.zeros(size)
        self._given = np.zeros(size)
        self._base = self.neutral.copy()
        self._level = self.neutral.copy()
        self._lowest = np.full(size, np.inf)
        self._rest_s = 0.0
        self._unbroken = np.ones(size, bool)
        self._still_s = 0.0
        self._last_s: float | None = None
        self._state = BaselineState.LEARNING

    def begin(self, rest: RestLevels) -> None:
        """Start a person with rest levels that are known from before.

        They count like the seconds of evidence they rest on: new evidence outweighs them in time.

        Args:
            rest: of the AUs of this network.

        Raises:
            ConfigError: they are of other AUs, or not finite.
        """
        level, seconds = (np.asarray(x, np.float64) for x in (rest.level, rest.seconds))
        if level.shape != self.neutral.shape or seconds.shape != self.neutral.shape:
            raise ConfigError(
                f"{level.size} rest levels do not fit {self.neutral.size} AUs; give one per AU"
            )
        if not (np.isfinite(level).all() and np.isfinite(seconds).all() and (seconds >= 0).all()):
            raise ConfigError("rest levels and their seconds must be finite; learn them anew")
        self.reset()
        self._given = np.minimum(seconds, self.config.most_s)
        prior = self.config.prior_s
        self._base = (prior * self.neutral + self._given * level) / (prior + self._given)
        self._level = self._base.copy()
        self._rest_s = self._evidence()

    @property
    def state(self) -> BaselineState:
        """State after the last frame: ``LEARNING`` while much of the levels is still prior."""
        return self._state

    @property
    def rest_s(self) -> float:
        """Seconds of this face at rest that the levels rest on, median over reliable AUs."""
        return self._rest_s

    @property
    def prior(self) -> float:
        """How much of the rest levels still is that of faces in general, 0–1."""
        return self.config.prior_s / (self.config.prior_s + self.rest_s)

    @property
    def levels(self) -> RestLevels:
        """Where the evidence alone puts the rest levels now, and the seconds it rests on.

        The weight of faces in general is taken out of them: whoever begins with them adds it again.
        """
        seconds = self._seconds + self._given
        share = seconds / (seconds + self.config.prior_s)
        seen = (self._level - self.neutral) / np.where(share > 0, share, 1.0)
        return RestLevels(self.neutral + seen, seconds)

    @property
    def richest(self) -> RestLevels | None:
        """Levels of the person who was seen at rest for longest, also of one forgotten since.

        None while nobody was seen for :attr:`~BaselineConfig.least_s`.
        """
        self._keep_richest()
        return self._richest

    def stale(self, time_s: float) -> bool:
        """Whether a frame at this time comes too late (or too early) for what was learned."""
        last = self._last_s
        return last is not None and not 0 <= time_s - last <= self.config.max_gap_s

    @property
    def offsets(self) -> NDArray[np.float32]:
        """What is taken off the logits of the next frame, ``(A,)`` float32, of either sign."""
        evidence = self._seconds + self._given
        known = evidence / (evidence + self.config.prior_s)
        # Squared: the level must follow before less is asked of what rises over it.
        eased = known**2 * (self.margin - self.rise)
        return (self._level - self.neutral - eased).astype(np.float32)

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
            ``(A,)`` float32, to be compared with the thresholds.
        """
        if self.stale(time_s):
            self.reset()
        passed = 0.0 if self._last_s is None else min(time_s - self._last_s, self.config.most_step)
        self._last_s = time_s
        adjusted = adjust_presence(presence, self.offsets)
        active = self._gate.update(adjusted)
        self._unbroken &= active
        if quality >= self.config.min_quality:
            self._learn(time_s, _logit(presence), active, passed)
        learnt = self.prior <= self.config.learnt
        self._state = BaselineState.ACTIVE if learnt else BaselineState.LEARNING
        return adjusted

    def skip(self, time_s: float) -> None:
        """Take in a frame without a usable face; after ``max_gap_s`` the person is forgotten.

        Args:
            time_s: time of the frame, seconds.
        """
        if self.stale(time_s):
            self.reset()

    def _learn(
        self, time_s: float, logits: Logits, active: NDArray[np.bool_], passed: float
    ) -> None:
        """Take the trusted AUs of a frame as evidence."""
        config = self.config
        moving = self._moving(time_s, logits)
        loud = active & self._reliable
        self._still_s = 0.0 if (moving & self._reliable).any() else self._still_s + passed
        trait = active & self._unbroken & (logits <= self._on + self.rise)
        if (
            self._still_s < config.trait_still_s
            or loud.sum() > (1 - config.trait_quiet) * self._reliable.sum()
            or (loud & ~trait).any()
        ):
            trait[:] = False
        quiet = np.zeros(loud.shape, bool)
        for half in self._halves:
            quiet[half] = not (loud & ~trait)[half].any()
        trusted = quiet & ~moving & (~active | trait)
        weight = np.where(active, config.trait_weight, 1.0)
        self._seconds = np.minimum(self._seconds + passed * weight * trusted, config.most_s)
        self._rest_s = self._evidence()
        if time_s - self._row_s[self._next - 1] >= config.sample_s - _EPSILON_S:
            self._rows[:, time_s - self._row_s > config.window_s] = np.inf
            self._rows[:, self._next] = np.where(trusted, logits, np.inf)
            self._row_s[self._next] = time_s
            self._next = (self._next + 1) % len(self._row_s)
            self._follow()

    def _evidence(self) -> float:
        return float(np.median((self._seconds + self._given)[self._reliable]))

    def _moving(self, time_s: float, logits: Logits) -> NDArray[np.bool_]:
        """Return ``(A,)`` bool: which AUs changed much within the last moment."""
        recent = self._recent
        recent.append((time_s, logits))
        while len(recent) > 1 and time_s - recent[1][0] >= self.config.moment_s - _EPSILON_S:
            recent.popleft()
        seen = np.array([row for _, row in recent])
        return np.ptp(seen, axis=0) > self.config.steady * self.margin

    def _follow(self) -> None:
        """Move the levels to what the window says; an AU with too few frames keeps its last."""
        config = self.config
        # Frames that are not trusted are infinite, so they come last.
        ordered = np.sort(self._rows, axis=1)
        count = np.isfinite(ordered).sum(axis=1)
        known = count >= _FEWEST_ROWS
        place = np.floor(config.quantile * np.maximum(count - 1, 0)).astype(np.intp)
        low = np.minimum(self.neutral - self.margin, self._base)
        high = np.maximum(self.neutral + self.margin, self._base)
        seen = np.where(known, ordered[np.arange(len(ordered)), place], self._base)
        seen = np.clip(seen, low, high)
        firm = known & (self._seconds >= config.least_s)
        self._lowest = np.where(firm, np.minimum(self._lowest, seen), self._lowest)
        weight = self._seconds / (self._seconds + self._given + config.prior_s)
        level = self._base + weight * (seen - self._base)
        level = np.minimum(level, self._lowest + self._drift)
        self._level = np.where(known, level, self._level)

    def _keep_richest(self) -> None:
        if float(np.median(self._seconds[self._reliable])) < self.config.least_s:
            return
        best = self._richest
        now = self.levels
        if best is None or now.seconds.sum() >= best.seconds.sum():
            self._richest = now


def rest_of_span(
    presence: NDArray[np.float32], quality: ArrayLike, config: BaselineConfig
) -> RestLevels | None:
    """Return the rest levels of frames that are known to be neutral.

    Args:
        presence: ``(N, A)`` float32, 0–1.
        quality: ``(N,)`` of their faces, 0–1.
        config: constants; frames below ``min_quality`` are left out.

    Returns:
        Medians, with the weight of as much evidence as there can be; None of too few frames.
    """
    good = np.asarray(quality, np.float64).reshape(-1) >= config.min_quality
    if good.sum() < _FEWEST_ROWS:
        return None
    level = np.median(_logit(presence[good]), axis=0)
    return RestLevels(level, np.full(level.shape, config.most_s))


def write_rest(rest: RestLevels, card: ModelCard) -> str:
    """Return rest levels as JSON text, with the network they belong to.

    Args:
        rest: of the AUs of the card.
        card: of the network.
    """
    aus = {
        str(au): {"logit": round(float(level), 4), "seconds": round(float(seconds), 2)}
        for au, level, seconds in zip(card.aus, rest.level, rest.seconds, strict=True)
    }
    facts = {
        "schema": REST_SCHEMA,
        "model": card.name,
        "version": card.version,
        "sha256": card.sha256,
        "aus": aus,
    }
    return json.dumps(facts, indent=1) + "\n"


def read_rest(text: str | bytes, card: ModelCard) -> RestLevels:
    """Read rest levels that :func:`write_rest` wrote for the same network.

    Args:
        text: JSON.
        card: of the network that is to be judged by them.

    Raises:
        ConfigError: they cannot be read, belong to another network, or hold an impossible number.
    """
    again = "delete the file and learn them anew"
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"rest levels are not valid JSON ({error}); {again}") from error
    if not isinstance(facts, dict) or facts.get("schema") != REST_SCHEMA:
        raise ConfigError(f"this is not a file of rest levels ({REST_SCHEMA}); name another")
    network = tuple(facts.get(key) for key in ("model", "version", "sha256"))
    if network != (card.name, card.version, card.sha256):
        raise ConfigError(
            f"these rest levels were learned with {network[0]} {network[1]}, the network now is "
            f"{card.name} {card.version} with its own scale; {again}, or use --model"
        )
    entries = facts.get("aus")
    if not isinstance(entries, dict) or set(entries) != {str(au) for au in card.aus}:
        raise ConfigError(f"these rest levels are not of the AUs of {card.name}; {again}")
    level, seconds = (
        np.array([_number(entries[str(au)], key, au) for au in card.aus])
        for key in ("logit", "seconds")
    )
    return RestLevels(level, seconds)


def _number(entry: Any, key: str, au: int) -> float:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    low = 0.0 if key == "seconds" else -50.0
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not low <= value <= 1e6
    ):
        raise ConfigError(
            f"rest level of AU{au:02d}: {key} is {value!r}, not a possible number; delete the file "
            "and learn it anew"
        )
    return float(value)


def _logit(presence: NDArray[np.float32]) -> Logits:
    p = np.clip(presence.astype(np.float64), _TINY, 1 - _TINY)
    return np.log(p / (1 - p))


def _check(config: BaselineConfig) -> None:
    positive = ("window_s", "prior_s", "most_s", "least_s", "max_gap_s", "steady", "least_margin")
    for name in (*positive, "settle_s", "sample_s", "moment_s", "most_step", "trait_still_s"):
        value = getattr(config, name)
        if not value > 0:
            raise ConfigError(f"baseline: {name} must be above 0, not {value}")
    shares = ("quantile", "known_rise", "trait_weight", "trait_quiet", "min_quality", "learnt")
    for name in (*shares, "most_drift"):
        value = getattr(config, name)
        if not 0 <= value <= 1:
            raise ConfigError(f"baseline: {name} must lie in 0 to 1, not {value}")
    low, high = config.rise_range
    if not 0 <= low <= high <= 1:
        raise ConfigError(f"baseline: rise_range must be two rising shares, not {low:g}, {high:g}")
    span = config.rest_from
    if span is not None and not 0 <= span[0] < span[1] < math.inf:
        raise ConfigError(
            f"the neutral span {span[0]:g}-{span[1]:g} s must begin at 0 or later and end after "
            "its beginning; write it as 0-2s"
        )
