"""Every constant and default of the algorithms, in one place, with its unit and its reason.

Steps take the section they need; :class:`AnalyzerConfig` holds all sections. What belongs to one
network (thresholds per AU, alignment template, input size) is in its model card instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "COSTLY_FRAMES",
    "DEFAULT_LRP_PRESET",
    "LEAST_FRAMES",
    "MIN_SHARE",
    "SAMPLE_FRAMES",
    "AnalyzerConfig",
    "BaselineConfig",
    "ExplainConfig",
    "FaceConfig",
    "StageConfig",
    "WindowConfig",
]

DEFAULT_LRP_PRESET = "innvestigate_a_flat"
"""LRP preset where none is asked for: iNNvestigate's LRPSequentialPresetAFlat (paper §3.2)."""


@dataclass(frozen=True, slots=True)
class FaceConfig:
    """Face detection, tracking and quality.

    Distances between points are in eye distances (inter-ocular), so they hold at any size. Spans of
    time are counts of frames: the step has no clock.
    """

    verify_every: int = 15
    """A box detector looks this often for a face that is followed well, frames."""
    recheck_every: int = 4
    """It looks this often while it misses the face and only the landmarks prove it, frames."""
    misses: int = 2
    """A track survives this many frames in a row without proof, while its texture is continuous."""
    passes: int = 2
    """This many landmark passes lead from a detector's box to points; more change them by under
    0.5 %."""
    evidence: float = 0.28
    """A face needs at least this response of the landmarks to displaced crops. Measured: faces 0.33
    (a hand over the eye and mouth) to 0.73, median 0.66; other picture content below 0.16 in 95 and
    below 0.29 in 99 of 100 places."""
    evidence_alone: float = 0.42
    """A face needs this response once it was not detected for longer than ``max_undetected``."""
    max_undetected: int = 90
    """Ordinary evidence is enough for this many frames without detection."""
    motion_agreement: float = 0.2
    """At least this share of the crop's texture must agree on one motion (faces: ≥ 0.28)."""
    continuity: float = 0.6
    """The crop must correlate at least this much with the moved one before (faces: ≥ 0.9, cuts:
    around 0)."""
    same_face_overlap: float = 0.25
    """A detection is of the followed face from this intersection over union on."""
    other_face_size: float = 0.35
    """Another face counts from this width on, in widths of the followed one."""
    gain: float = 0.2
    """A usual measurement has this share in the points; the rest is the prediction from texture."""
    noise: float = 0.08
    """A difference of measurement and prediction below this is noise, eye distances."""
    outlier: float = 0.3
    """A measurement that differs by more than this is refused, eye distances."""
    max_rejected: int = 4
    """After this many refused measurements in a row the next is believed, if it can be a face at
    all; if not, the face is of low quality."""
    min_eye_distance_px: float = 16.0
    """Smaller faces are not analysed: the crop would show invented detail, frame pixels."""
    good_eye_distance_px: float = 40.0
    """Size costs no quality from this eye distance on, frame pixels."""
    min_mean: float = 12.0
    """The face must have at least this mean grey, 0–255."""
    min_deviation: float = 5.0
    """Grey in the face must deviate by at least this much, 0–255 (noise and coding leave about
    3)."""
    good_deviation: float = 25.0
    """Contrast costs no quality from this deviation on, 0–255."""
    min_inside: float = 0.75
    """At least this share of the crop must lie inside the frame, 0–1."""
    max_roll_deg: float = 50.0
    """The eye line may be tilted by at most this much, degrees."""
    max_stretch: float = 1.8
    """The ratio of eye–mouth to eye–eye distance may differ from the template's by at most this
    factor, either way."""
    max_nose_offset: float = 0.4
    """The nose tip may lie at most this far from the middle line of the face, eye distances."""


@dataclass(frozen=True, slots=True)
class ExplainConfig:
    """Relevance maps, descriptors and projections."""

    preset: str = DEFAULT_LRP_PRESET
    """The LRP preset is the one of this name in :data:`facestage.core.lrp.LRP_PRESETS`."""
    precision: str = "float32"
    """The fused LRP engine computes the convolutions on the way back in ``float32``, or in
    ``bfloat16`` where the hardware is fast with it. Activations, divisions and maps are float32 in
    any case."""
    descriptor_side: int = 16
    """The area-pooled map that is compared has this side, cells."""
    descriptor_mode: str = "positive"
    """``positive`` compares evidence for the AU only (as the projections show), or ``signed``."""
    top_x: float = 0.25
    """A projection keeps this share of the positive relevance mass (paper §3.5), 0–1."""


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """The sliding window of one AU and its prototypes.

    Cosines are those of clean mean maps (noise-corrected) unless said otherwise.

    ``split``, ``match``, ``fast`` and ``alias`` were settled on the development streams of
    ``benchmarks/streams.py`` and checked on relevance maps of the embedded network over five real
    clips (one of 16 s of one face from crying to laughing) and the demo clip; the real clips barely
    tell .87 from .90. ``benchmarks/calibrate.py`` repeats that for another network. Real maps drift
    smoothly and form a continuum more than islands, so letters of one AU can be cut in several
    places, and live and whole-sequence letters agree less on the long clip than on the others
    (``benchmarks/live_offline.py``).
    """

    device: str = "cpu"
    """Where the arrays of all windows live: ``cpu`` (NumPy) or ``cuda[:N]`` (CuPy)."""
    size: int = 128
    """Maps in the window (about 4 s at 30 per second)."""
    knn: int = 7
    """Neighbours per map in the graph."""
    tau: float = 0.15
    """Eigenvalues of the window's Laplacian below it are counted as clusters."""
    max_clusters: int = 6
    """Most clusters a window is split into before merging."""
    linkage_below: int = 16
    """With fewer maps average linkage replaces the graph."""
    linkage_cosine: float = 0.7
    """… which joins maps while their mean noise-corrected cosine is at least this."""
    block: int = 8
    """Eigenvectors carried along: the most clusters, one to see that there are not more, one to
    spare."""
    degree: int = 4
    """Degree of the polynomial that sharpens them."""
    filter_low: float = -0.5
    """Lower end of the eigenvalues it damps; those of a graph of nearest neighbours rarely lie
    below."""
    residual: float = 0.2
    """The polynomial is applied again while a wanted eigenvector's residual exceeds this."""
    restart_residual: float = 0.5
    """They are computed anew where the residual stays above this …"""
    restart: int = 512
    """… and, in any case, after so many clusterings."""
    every: int = 6
    """While each map clearly shows the known letter, the window is clustered only every so often,
    maps."""
    split: float = 0.90
    """Clusters of the window whose cosine exceeds this are one pattern; the same value as in the
    ``sequence`` preset …"""
    split_clear: float = 0.93
    """The same where the maps of a pattern hardly differ: a smaller difference is one there. On a
    real face it parts the grimace from the laugh; where noise is high it would cut patterns."""
    clear: tuple[float, float] = (0.8, 0.9)
    """Cosines of two maps of a pattern between which ``split`` rises to ``split_clear``."""
    match: float = 0.88
    """A cluster may continue a prototype from this cosine on."""
    keep_overlap: float = 0.5
    """A cluster may also continue a prototype that this share of its maps carry already …"""
    keep_cosine: float = 0.72
    """… from this cosine on (a pattern that drifts)."""
    overlap_bonus: float = 0.2
    """Weight of that share in the score of a match."""
    fast: float = 0.88
    """A single map shows a prototype from this cosine on …"""
    margin: float = 0.06
    """… if it leads that with any other prototype by this much."""
    alias: float = 0.93
    """Two letters whose prototypes agree more than this are one."""
    far_lag: int = 16
    """Maps so far apart count as having independent noise …"""
    longest_lag: int = 28
    """… and up to this distance their cosines are measured, maps (a second at 30 per second)."""
    noise_follow: float = 0.15
    """Weight of a new estimate of the noise, after a plain mean of the first ones."""
    min_cluster: int = 4
    """Smaller clusters stay undecided, maps."""
    min_new: int = 4
    """A new pattern needs at least this many maps in the window; so few must differ clearly."""
    recent: int = 3
    """A new pattern must hold one of this many latest maps: nothing is born in the past."""
    span: float = 1.6
    """They must lie within this many times as many latest maps: a new pattern comes as a segment,
    scattered maps that resemble nothing are noise."""
    live: int = 16
    """A new pattern is judged by at most this many of its latest maps."""
    certainty: float = 1.5
    """What is different must be so by more than this many standard deviations: of the cosine, as
    noise moves it from one map to the next, and of the pattern's own straying over a few maps."""
    birth_mass: float = 0.25
    """A map counts for a birth only if its relevance has at least this share of the usual mass."""
    mixture: float = 0.95
    """No new pattern while it agrees this well with a blend of two known prototypes …"""
    mixture_hold: int = 15
    """… unless it has lasted this many maps."""
    memory: int = 200
    """Maps that have left the window count as at most this many in a prototype."""
    mature: int = 20
    """Maps from which on a prototype is remembered as what its letter meant at first."""
    drifted: float = 0.7
    """A letter whose prototype's cosine with that falls below this is flagged."""
    evidence: float = 1.8
    """Another letter is shown once the latest maps speak for it by this much; a map in the middle
    of its pattern counts 1 for it, one in the middle of the shown pattern 1 against it."""
    head_start: float = 0.9
    """So much of it a new pattern brings along: the maps it was born of have spoken for it."""
    refresh: int = 16
    """Noise model and agreement of prototypes are looked at this often, maps."""
    recent_maps: int = 8
    """Full-size maps kept until their letter has settled."""
    max_letters: int = 26
    """Most patterns alive at a time; for one more, the one unseen for longest is forgotten."""


@dataclass(frozen=True, slots=True)
class StageConfig:
    """From AU probabilities and letters to stages."""

    min_stage_s: float = 0.2
    """A label of an AU counts once it has lasted this long (the minimum dwell), seconds."""
    lost_after_s: float = 1.0
    """A face too poor to analyse holds the stage this long before it becomes LOST, seconds."""


@dataclass(frozen=True, slots=True)
class BaselineConfig:
    """The personal baseline: what this face looks like to the network when it does nothing.

    Offsets are in units of the presence logit: 2 turns a presence of .73 into .27.
    """

    enabled: bool = False
    """This says whether presence is judged against the person's own baseline."""
    window_s: float = 10.0
    """An AU's neutral level is taken from the frames of the last so many seconds in which it was
    not active."""
    quantile: float = 0.2
    """The neutral level is this quantile of their logits, 0–1: low, because what an AU adds to a
    face at rest only ever raises it."""
    neutral_s: float = 1.0
    """A face must have been steady and quiet for so long before anything is subtracted, seconds."""
    neutral_frames: int = 5
    """A face must have been steady and quiet for at least this many frames, too."""
    steady: float = 1.2
    """A face is steady when the middle 80 % of each AU's logits span at most this. Measured with
    the first embedded network: .2 to .9 on resting faces, 2 to 4 where something moves."""
    quiet_share: float = 0.75
    """A face is quiet when at least this share of the AUs is below its off threshold, 0–1."""
    max_excess: float = 4.0
    """For a face to be quiet no AU may lie further than this above its level on neutral faces in
    general (presence .1 to .86): what shows so clearly is an expression, not a trait."""
    cap: float = 2.0
    """At most this is subtracted from a logit."""
    rise_per_s: float = 0.1
    """An offset falls at once and rises no faster than this, logits per second: an expression that
    creeps in is not taken for the person's face."""
    min_quality: float = 0.5
    """Nothing is learned from frames whose face quality is below this, 0–1."""
    max_gap_s: float = 2.0
    """The baseline is forgotten when no usable face was seen for longer than this, seconds."""
    same_face: float = 0.6
    """The baseline is forgotten when two crops that follow each other agree less than this (Pearson
    correlation within the face). Measured over six clips: one person within two seconds ≥ .5, in 95
    of 100 pairs ≥ .52 to .84; two persons ≤ .48."""


@dataclass(frozen=True, slots=True)
class AnalyzerConfig:
    """All sections together."""

    aus: str | tuple[int, ...] = "shown"
    """AUs that take part, see :mod:`facestage.core.network.selection`: ``shown``, ``all``, ``A`` or
    their numbers."""

    face: FaceConfig = field(default_factory=FaceConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    stage: StageConfig = field(default_factory=StageConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)


SAMPLE_FRAMES = 60
"""Explanation quality: frames measured on, unless told otherwise."""
LEAST_FRAMES = 5
"""Explanation quality: an AU that is active in fewer frames of the sample gets no figures."""
COSTLY_FRAMES = 4
"""Explanation quality: frames per AU for perturbation and randomisation, evenly spread over its
frames."""
MIN_SHARE = 0.05
"""Corpus: least support of a frequent pattern, as a share of the sequences."""
