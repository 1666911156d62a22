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
    "MOST_FACES",
    "PICTURE_LRP_PRESET",
    "SAMPLE_FRAMES",
    "AnalyzerConfig",
    "BaselineConfig",
    "ExplainConfig",
    "FaceConfig",
    "FollowConfig",
    "ScoreConfig",
    "StageConfig",
    "WindowConfig",
]

DEFAULT_LRP_PRESET = "innvestigate_a_flat"
"""LRP preset where none is asked for: iNNvestigate's LRPSequentialPresetAFlat (paper §3.2)."""

PICTURE_LRP_PRESET = "au_specific"
"""LRP preset of the maps that commands draw and put into words, unless they follow the paper."""


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
    upright: float = 0.15
    """The landmarks must answer a face by at least this much more than the same place turned upside
    down: a box detector takes parts of upside-down faces for upright ones. This and the two places
    where the search begins were chosen on 291 pictures (150 photographs, the rest from 7 clips):
    of 263 upright faces found all pass (0.17 at least); of the pictures turned by 180° or flipped
    58 of 582 gave a face before, and 6 do. ``benchmarks/upright.py`` chooses on half of the people
    and reports on the other, with Haar: .37 would be chosen by portraits of 168, where .15 leaves
    room for hands and poses; of the 132 others all upright faces pass at both, and 2 upside-down
    pictures (1.5 %) do."""
    doubtful: float = 0.7
    """A face that the detector (one of rough points) is no surer of than this begins to be followed
    with more evidence only. It is less sure of 10 % of faces with 12 px between the eyes, of under
    2 % from 16 px on; of the round letters of a title, turned, it is never surer than 0.66."""
    evidence_doubtful: float = 0.5
    """The response that such a face needs at first: those faces have 0.57 or more in 98 of 100, the
    letters 0.49 at most."""
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
    near: float = 0.02
    """Landmarks that came with the Action Units may differ by so much from what was predicted, eye
    distances; else the next frame has its own searched for. On a clip of a real face four fifths
    are nearer. With .03 and more, weeping and laughing share a letter of AU12 there, which they do
    not where every frame is measured, nor with .011, .015 and this."""
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
    max_roll_deg: float = 180.0
    """The eye line may be tilted by at most this much, degrees. The crop is upright at any roll, so
    that a person who lies is analysed; a lower limit refuses tilted heads."""
    max_yaw_deg: float = 35.0
    """The face may be turned aside by at most this much, degrees: beyond, AUs are not to be
    trusted."""
    max_stretch: float = 1.8
    """The ratio of eye–mouth to eye–eye distance may differ from the template's by at most this
    factor, either way."""
    max_nose_offset: float = 0.4
    """The nose tip may lie at most this far from the middle line of the face, eye distances."""
    same_person: tuple[tuple[float, float], ...] = (
        (0.1, 0.78),
        (0.2, 0.68),
        (0.3, 0.64),
        (0.6, 0.61),
        (1.0, 0.57),
        (4.0, 0.44),
    )
    """When so many seconds have passed since a usable face, one that is less alike
    (:func:`facestage.core.face.likeness.likeness`, −1 to 1) is of another person. Chosen on twelve
    clips of ten people: the least of one person is .84, .79, .68, .65, .61 and .47 at these times.
    A cut to another of them within .1 s is noticed in 95 of 100, after .2 s in 80, after 1 s in
    half; on four other clips no face was taken for another's, at any of these times."""


@dataclass(frozen=True, slots=True)
class FollowConfig:
    """Who is followed where there are several faces. Spans of time are counts of frames.

    A likeness is that of two descriptions of upright crops, see
    :mod:`facestage.core.face.looks`: about 0 between strangers, at most 1.
    """

    faces: int = 1
    """So many faces of a source are analysed at once."""
    follow: str = "largest"
    """Who is followed first, and when whoever was followed has gone: the ``largest`` face, the one
    nearest to the ``centre``, the ``first`` that was seen of those present, or only the person of
    this number (``1`` is the first who was seen)."""
    alike: float = 0.45
    """Two faces are of one person from this likeness on. Measured on photographs: one person's
    neutral and smiling face .51 in 95 of 100, two persons' faces .49 in 1 of 1000."""
    surely: float = 0.75
    """A face that jumped, or became larger or smaller within a moment, is the person's from this
    likeness on."""
    unlike: float = 0.25
    """Two faces are of two persons below this likeness. Measured: the most unlike look of one
    person who cries, laughs and holds a hand before the mouth .29."""
    lead: float = 0.2
    """A face is another person's if it is more like that person's by at least this much."""
    near: float = 1.3
    """Two faces are near each other at this distance of their middles, mean box widths: who is who
    is then checked in every frame."""
    near_check: int = 3
    """The detector looks so often while another face is near, frames."""
    wary: int = 15
    """Who is who is checked for so many frames after another face was near."""
    doubts: int = 3
    """A face that is somebody else in so many frames in a row is given up."""
    stranger_after: int = 60
    """Whoever comes when the person followed was absent for so long is followed instead."""
    companion_after: int = 300
    """Likewise somebody who was there together with the person followed."""
    sure: int = 10
    """Whoever was recognised is taken for the same while they stay in their place for so long,
    frames."""
    search_every: int = 4
    """Places that are free are looked for so often while another face is followed, frames."""
    most_known: int = 32
    """So many persons are remembered; of more, the one not seen for longest is forgotten."""
    cut: float = 0.5
    """Two pictures of the same scene, one after the other, correlate by at least this much."""


@dataclass(frozen=True, slots=True)
class ExplainConfig:
    """Relevance maps, descriptors and projections."""

    preset: str = DEFAULT_LRP_PRESET
    """The LRP preset is the one of this name in :data:`facestage.core.lrp.LRP_PRESETS`."""
    picture_preset: str = ""
    """Maps of this LRP preset are drawn and put into words, while those of ``preset`` are compared
    and give letters; empty: the same maps do both. The commands draw ``au_specific``: it points
    better, and the paper's maps make steadier letters (docs/explanations.md)."""
    picture_every: int = 4
    """Where they are maps of their own, they are made anew for every so many frames of a face, and
    kept in the aligned crop for the frames between: at 30 frames per second none is older than
    .1 s. …"""
    picture_cosine: float = 0.95
    """… And at once when the map that gives letters has changed: its descriptor's cosine with that
    of the moment when the picture was made is below this."""
    precision: str = "float32"
    """The fused LRP engine computes the convolutions on the way back in ``float32``, or in
    ``bfloat16`` where the hardware is fast with it; ``tf32`` lets a GPU round what it multiplies
    there. Activations, divisions and maps are float32 in any case."""
    descriptor_side: int = 16
    """The area-pooled map that is compared has this side, cells."""
    descriptor_mode: str = "positive"
    """``positive`` compares evidence for the AU only (as the projections show), or ``signed``."""
    top_x: float = 0.25
    """A projection keeps this share of the positive relevance mass (paper §3.5), 0–1."""
    mask_side: int | None = None
    """On a GPU the Top-X projections are made with the maps, with this side, cells; None makes
    none. On a CPU whoever shows them makes them."""

    @property
    def draws_apart(self) -> bool:
        """Whether other maps are drawn than those that give letters."""
        return self.picture_preset not in ("", self.preset)


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """The sliding window of one AU and its prototypes.

    The words are those of the glossary in :mod:`facestage.core.window`. Cosines are those of
    noise-corrected mean maps unless said otherwise. Numbers that only guard arithmetic (a score
    that no pair can reach, the room for windows at the start) stay in their modules.

    ``split``, ``match``, ``fast`` and ``alias`` were settled on the development streams of
    ``benchmarks/streams.py`` and checked on relevance maps of the embedded network over five real
    clips (one of 16 s of one face from crying to laughing) and the demo clip; the real clips barely
    tell .87 from .90. ``benchmarks/calibrate.py`` repeats that for another network. Real maps drift
    smoothly and form a continuum more than islands, so letters of one AU can be cut in several
    places, and live and whole-sequence letters agree less on the long clip than on the others
    (``benchmarks/live_offline.py``).
    """

    # ---- the window and its graph

    device: str = "cpu"
    """The arrays of all windows live on this device: ``cpu`` (NumPy) or ``cuda[:N]`` (CuPy)."""
    size: int = 128
    """The window holds this many maps (about 4 s at 30 per second)."""
    knn: int = 7
    """Each map has this many neighbours in the graph."""
    tau: float = 0.15
    """Eigenvalues of the window's Laplacian below this are counted as parts of the graph."""
    max_clusters: int = 6
    """The graph is cut into at most this many parts before they are merged."""
    linkage_below: int = 16
    """With fewer maps than this, average linkage replaces the graph."""
    linkage_cosine: float = 0.7
    """Average linkage joins maps while their mean noise-corrected cosine is at least this."""
    block: int = 8
    """This many eigenvectors are carried along: the most parts, one to see that there are not
    more, one to spare."""
    degree: int = 4
    """The polynomial that sharpens the eigenvectors has this degree."""
    filter_low: float = -0.5
    """The polynomial damps eigenvalues from here on; those of a graph of nearest neighbours rarely
    lie below."""
    residual: float = 0.2
    """The polynomial is applied again while a wanted eigenvector's residual exceeds this."""
    restart_residual: float = 0.5
    """The eigenvectors are computed anew where the residual stays above this."""
    restart: int = 512
    """The eigenvectors are computed anew after this many clusterings in any case."""
    every: int = 6
    """While each map clearly shows the letter on display, the window is clustered only once in so
    many maps."""
    inherit_maps: int = 16
    """For so many maps after a full matching, new maps inherit the prototype of their part."""
    inherit_maps_unclear: int = 3
    """For so many maps they do so where a part is mixed or a prototype lies in two clusters."""
    part_purity: float = 0.9
    """A part of the graph is mixed unless this share of its maps carries one prototype, 0–1."""

    # ---- noise

    refresh: int = 16
    """The noise model and the agreement of prototypes are looked at once in so many maps."""
    early_refresh: tuple[int, ...] = (8, 12, 20, 24)
    """The noise model is also refreshed at these numbers of maps."""
    far_lag: int = 16
    """Maps at least so far apart count as having independent noise, maps."""
    longest_lag: int = 28
    """Cosines of maps are measured up to this distance, maps (a second at 30 per second)."""
    noise_follow: float = 0.15
    """A new estimate of the noise has this weight, after a plain mean of the first ones."""
    max_variance: float = 0.04
    """Noise may explain at most this variance of a cosine, so that no noise makes everything one
    cluster."""
    certainty: float = 1.5
    """What is different must be so by more than this many standard deviations: of the cosine, as
    noise moves it from one map to the next, and of the prototype's own dispersion."""

    # ---- merging and matching

    split: float = 0.90
    """Clusters of the window whose cosine exceeds this are one; it is the same value as in the
    ``sequence`` preset."""
    split_clear: float = 0.93
    """This replaces ``split`` where the maps of a cluster hardly differ: a smaller difference is
    one there. On a real face it parts the grimace from the laugh; where noise is high it would cut
    what belongs together."""
    split_levels: tuple[float, float] = (0.8, 0.9)
    """While the cosine of two maps of a cluster (not of means) goes from the first to the second
    value, ``split`` rises to ``split_clear``."""
    match: float = 0.88
    """A cluster may continue a prototype from this cosine on."""
    keep_overlap: float = 0.5
    """A cluster may continue a prototype from ``keep_cosine`` on if this share of its maps carries
    the prototype already, 0–1."""
    keep_cosine: float = 0.72
    """A cluster whose maps carry a prototype already may continue it from this cosine on: it
    drifts. A map less similar to a prototype than this does not speak for it."""
    overlap_bonus: float = 0.2
    """The shares of maps that cluster and prototype have in common count this much in the score of
    a match."""
    fast: float = 0.88
    """A single map shows a prototype from this similarity on, if it leads by ``margin``."""
    margin: float = 0.06
    """A map that shows a prototype must be more similar to it than to any other by this much."""
    outlier: float = 0.4
    """A map is an outlier, like no prototype, if its similarity to the nearest is below this."""
    min_cluster: int = 4
    """Clusters of fewer maps than this stay without a prototype."""

    # ---- novelty: does an unmatched cluster begin a prototype?

    min_new: int = 4
    """A new prototype needs at least this many maps in the window; so few must differ clearly."""
    recent: int = 3
    """A new prototype must hold one of this many latest maps: none begins in the past."""
    span: float = 1.6
    """The latest ``min_new`` maps of a new prototype lie within this many times as many latest
    maps: it comes as a segment; scattered maps that resemble nothing are noise."""
    newest_maps: int = 16
    """A cluster is judged by at most this many of its latest maps."""
    mass_gate: float = 0.25
    """A map counts for a new prototype only if its relevance has at least this share of the usual
    mass."""
    coherence_prior: float = 0.3
    """In the coherence of a cluster, the cosine of two maps that is usual in the window counts as
    this share of a pair of the cluster's own whose noise is independent."""
    least_energy: float = 0.25
    """A mean keeps at least this share of its energy when the noise of a cluster's own maps is
    taken off it, 0–1."""
    noise_slack: float = 0.2
    """Noise left in the mean of a cluster, as a share of its coherence, lowers the cosine from
    which on it may be a known prototype by this factor."""
    slack_maps: int = 7
    """A cluster of fewer maps than this gets slack for each that lacks: more maps show well enough
    how noisy they are."""
    slack_per_map: float = 0.03
    """Each map that lacks lowers that cosine by this much: what is decided early must be clear."""
    slack_known: int = 12
    """A cluster that is a known prototype only by its slack is taken for it if it has this many
    maps; with fewer it waits."""
    continuation: float = 0.28
    """A cluster goes on from the maps before it if the two means are apart (1 − cosine) by at most
    this share of what two single maps are."""
    continuation_maps: int = 12
    """A cluster is compared with at most this many maps before it."""
    onset_span: int = 8
    """A cluster has begun where it holds half of so many consecutive maps."""
    mixture: float = 0.95
    """No prototype begins while it agrees this well with a blend of two known prototypes."""
    mixture_weight: float = 0.1
    """In a blend, each of the two prototypes has more than this weight."""
    mixture_nearest: int = 3
    """Blends of the prototypes that are nearest, so many, are looked at."""
    mixture_hold: int = 15
    """A blend that has lasted this many maps may begin a prototype all the same."""

    # ---- prototypes

    memory: int = 200
    """Maps that have left the window count as at most this many in a prototype."""
    start_fit: float = 0.9
    """This is how similar the maps of a prototype are to it, until that is known."""
    start_dispersion: float = 0.04
    """This is how far the mean similarity of consecutive maps strays from the usual, until that
    is known."""
    start_weight: int = 4
    """The fit that is assumed at first weighs as much as this many maps."""
    fit_memory: int = 60
    """Fit and dispersion are averaged over this many maps."""
    dispersion_maps: int = 8
    """The dispersion is that of the mean similarity of so many consecutive maps."""
    max_dispersion_weight: float = 0.5
    """One mean moves the dispersion by at most this share of the difference."""
    max_deviation: float = 0.2
    """One map or mean counts as deviating by at most this much: what does not belong to the
    prototype must teach little."""
    mature: int = 20
    """From this many maps on, it is remembered what a prototype meant at first."""
    drifted: float = 0.7
    """A letter whose prototype's cosine with that falls below this is flagged."""
    alias: float = 0.93
    """Two letters whose prototypes agree more than this are one."""
    max_letters: int = 26
    """At most this many prototypes are alive; for one more, the one unseen for longest is
    forgotten."""
    recent_maps: int = 8
    """So many of the latest full-size maps are kept apart until their letter has settled."""

    # ---- change detection: which letter is on display?

    change_threshold: float = 1.8
    """Another letter is shown once its cumulative sum reaches this; a map in the middle of its
    prototype adds 1, one in the middle of the shown prototype takes 1 away."""
    head_start: float = 0.9
    """The cumulative sum of a new prototype starts here: the maps that it was found by have spoken
    for it."""
    change_step: float = 1.25
    """One map adds at most this much to a cumulative sum, or takes it away."""
    min_distance: float = 0.05
    """Prototypes count as at least this far apart (1 − cosine) in that step."""
    distance_every: int = 8
    """How far prototypes are apart is looked at again once in so many maps."""
    tolerated_misses: int = 1
    """So many consecutive maps of other prototypes do not break a run that is dated back."""


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    """Scores made of several AUs, and when one that is high is worth a notice."""

    smooth_s: float = 0.5
    """Every AU goes in as its mean over the last so many seconds. So a score lags behind the face
    by half of it. 0: the frame alone counts."""
    closed_s: float = 0.5
    """Closed eyes (AU43) count once they have been closed for so long, seconds; a blink takes .1 to
    .4."""
    on: float = 0.30
    """A notice needs a score of at least this share of its range …"""
    dwell_s: float = 0.6
    """… for so long, seconds."""
    off: float = 0.18
    """It ends once the score was below this share of its range …"""
    release_s: float = 1.5
    """… or could not be given, for so long, seconds."""
    budget_s: float = 1.0
    """The score of a frame that is analysed later than this after its grab is withheld, seconds; of
    live sources only."""


@dataclass(frozen=True, slots=True)
class StageConfig:
    """From AU probabilities and letters to stages."""

    min_stage_s: float = 0.2
    """A label of an AU counts once it has lasted this long (the minimum dwell), seconds."""
    lost_after_s: float = 1.0
    """A face too poor to analyse holds the stage this long before it becomes LOST, seconds."""


@dataclass(frozen=True, slots=True)
class BaselineConfig:
    """The personal baseline: presence is judged by its rise over the rest level of this face.

    Levels are measured in *margins*: the threshold of an AU less its level on neutral faces in
    general, both of the model card. So the constants hold for any network. Measured, unless they
    say otherwise, on the choosing half of ``benchmarks/au_people.py``, where none of them is sharp.
    """

    enabled: bool = True
    """This says whether presence is judged against the person's own rest level."""
    prior_s: float = 2.0
    """The level of faces in general weighs as much as this much evidence, seconds: after 2 s of
    rest it is half of the level, after 18 s a tenth. Half as long finds one event more in 28 and
    takes more expressions for rest."""
    most_s: float = 30.0
    """Evidence weighs no more than this, seconds: what was loaded can still be outweighed."""
    window_s: float = 30.0
    """A rest level is taken from the trusted frames of the last so many seconds; where there are
    none the level stays."""
    sample_s: float = 0.1
    """Frames in the window are at least this far apart, seconds: levels do not move faster."""
    quantile: float = 0.4
    """The rest level is this quantile of their logits, 0–1: low, because what an AU adds to a face
    at rest only raises it; not lowest, because other AUs lower it (.3 lets half as much again be
    falsely active of AU2)."""
    steady: float = 0.5
    """A frame is trusted for an AU whose logit moved by no more than so many margins …"""
    moment_s: float = 0.2
    """… within this time, seconds."""
    most_step: float = 0.5
    """A frame is evidence for at most this long, seconds, however late the next one comes."""
    known_rise: float = 0.5
    """An AU of a face that is known well is active from this rise over its rest level on, margins;
    one of an unknown face from 1. A threshold for everybody must leave room for how people differ,
    which is more than a face moves at rest."""
    rise_range: tuple[float, float] = (0.25, 0.75)
    """A model card may give the rise of a known face for each AU; it is kept between so many
    margins, for it rests on few people."""
    most_drift: float = 0.5
    """A rest level lies at most so many margins above the lowest that was well seen on this face:
    what is held about the threshold for minutes must not become rest. With ``known_rise`` it makes
    one margin, above which nothing is ever hidden."""
    least_s: float = 1.0
    """Evidence from which a level counts as well seen, seconds."""
    least_margin: float = 0.5
    """A margin is no smaller than this, logits: a guard for a card whose threshold lies at or below
    its neutral level."""
    trait_weight: float = 0.05
    """An AU that is weakly active from the first frame on is taken for a trait with this share of
    the weight of rest: its level is half its own after 40 s. An expression of pain that was there
    from the beginning must be seen before it can be taken for a face."""
    trait_still_s: float = 1.0
    """It is only while no reliable AU has moved for this long, seconds …"""
    trait_quiet: float = 0.75
    """… and this share of the reliable AUs is not active, 0–1."""
    learnt: float = 0.1
    """The state is ``active`` once no more than this share of the levels is that of faces in
    general, 0–1; before, it is ``learning``."""
    settle_s: float = 30.0
    """In a recording, what the first so many seconds of a person teach holds for them, too."""
    rest_from: tuple[float, float] | None = None
    """In a recording, the face is known to be neutral between these times, seconds."""
    min_quality: float = 0.5
    """Nothing is learned from frames whose face quality is below this, 0–1."""
    max_gap_s: float = 2.0
    """The baseline is forgotten when no usable face was seen for longer than this, seconds."""


@dataclass(frozen=True, slots=True)
class AnalyzerConfig:
    """All sections together."""

    aus: str | tuple[int, ...] = "shown"
    """AUs that take part, see :mod:`facestage.core.network.selection`: ``shown``, ``all``, ``A`` or
    their numbers."""
    stage_aus: str | tuple[int, ...] = "shown"
    """Those of them that make stages: ``shown`` or ``all`` (each that takes part), ``A``, or
    numbers. The others are explained and given letters, but no stage begins with them."""

    face: FaceConfig = field(default_factory=FaceConfig)
    follow: FollowConfig = field(default_factory=FollowConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    stage: StageConfig = field(default_factory=StageConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    scores: tuple[str, ...] = ()
    """Scores that are followed: ``PSPI``, or ``NAME=FORMULA``, see :mod:`facestage.core.scores`."""


MOST_FACES = 16
"""More faces of one source are not analysed at once."""
SAMPLE_FRAMES = 60
"""Explanation quality: frames measured on, unless told otherwise."""
LEAST_FRAMES = 5
"""Explanation quality: an AU that is active in fewer frames of the sample gets no figures."""
COSTLY_FRAMES = 4
"""Explanation quality: frames per AU for perturbation and randomisation, evenly spread over its
frames."""
MIN_SHARE = 0.05
"""Corpus: least support of a frequent pattern, as a share of the sequences."""
