"""Wire protocol v1: what the server and its clients say to each other.

Every text message is one envelope::

    {"v": 1, "type": "stage.enter", "stream": "cam", "epoch": 1764000000000, "seq": 7,
     "t_capture": 1764000012.31, "t_emit": 1764000012.36, "data": {...}}

Three families of messages share it:

- **Events** (:data:`EVENTS`) are numbered by ``seq``, 1, 2, 3, … over all streams of a server. None
  is ever dropped, and a client that was away asks for those after the last one it saw:
  ``subscribe{since: {epoch, seq}}``. ``epoch`` names the numbering: it grows with every start of
  the server, so a number is never mistaken for one of an earlier run.
- **Samples** (:data:`SAMPLES`) have ``seq: null``. Only the latest of each type and stream is worth
  sending; a slow client skips the others.
- **Control** (:data:`SERVER_CONTROLS`, :data:`CLIENT_MESSAGES`) opens and keeps the conversation::

      client                   server
      auth{token}              ack{to: "auth"}        only where a token is set
                               hello
      subscribe{since, …}      ack{to: "subscribe"}
      past{from_s, to_s, …}    past.frames …          as often as somebody looks back
                               resync                 only if ``since`` cannot be served
                               snapshot …, prototype.new …    unless ``since`` is served
                               events, samples
      marker.add, notice.ack   marker, notice.ack     events for all
      heartbeat                heartbeat              every 2 s; the client answers
                               bye

  There is one ``snapshot`` per stream, the state at one moment. Events that come after it with
  ``seq <= snapshot.seq`` carry their first number again: the prototypes alive, and the past that
  was asked for with ``history_s``.

A page that gives the pictures of its own webcam does so on ``/ws/camera``::

      page                     server
      auth, hello              as above
      camera.open              camera.ready           or error{camera_taken}, and the end
      picture (binary)         camera.ack             one at a time
      camera.pause                                    hidden, muted, ended or stopped

Pictures travel on ``/ws/frames`` as binary messages: a 16-byte header
(:func:`~facestage.stream.protocol.pictures.pack_picture`), then a JPEG. That socket is opened by
the same handshake; it gets no hello, events and samples.

Times are seconds since 1970 on the server's wall clock; ``*_s`` are seconds on the source's own
time line, except in ``past`` and ``past.frames``, which ask for what was grabbed at a time. A
client must ignore types and fields that it does not know; the server refuses them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec

from ...core.errors import ProtocolError
from .bodies import Body, Event, Sample
from .markers import Marker, MarkerAdd
from .scores import (
    NoticeAck,
    NoticeAcknowledged,
    NoticeOff,
    NoticeOn,
    NoticeState,
    ScoreInfo,
    ScoreValue,
)

__all__ = [
    "CLIENT_MESSAGES",
    "EVENTS",
    "MAX_THUMBNAIL_SIDE",
    "MOST_PAST_FRAMES",
    "PROTOCOL_VERSION",
    "RESEARCH_NOTICE",
    "SAMPLES",
    "SERVER_CONTROLS",
    "Ack",
    "ActionUnit",
    "ActionUnitValue",
    "Auth",
    "Body",
    "Bye",
    "CameraAck",
    "CameraOpen",
    "CameraPause",
    "CameraReady",
    "Cursor",
    "Envelope",
    "Error",
    "Event",
    "FaceChanged",
    "FaceValue",
    "FrameSample",
    "Gap",
    "Heartbeat",
    "Heat",
    "Hello",
    "LetterChange",
    "Mask",
    "PastFrame",
    "PastFrames",
    "PastWish",
    "Percentiles",
    "PrototypeNew",
    "PrototypeRetire",
    "PrototypeUpdate",
    "RecordStart",
    "RecordState",
    "RecordStop",
    "Replay",
    "ReplayState",
    "Replaying",
    "Resync",
    "Sample",
    "Snapshot",
    "SourceChanged",
    "StageEnter",
    "StageExit",
    "StageRevise",
    "Stats",
    "StreamInfo",
    "Subscribe",
]

PROTOCOL_VERSION = 1

RESEARCH_NOTICE = "Research software. Not a medical device."

MAX_THUMBNAIL_SIDE = 128
"""Largest side of a mask or a prototype's thumbnail, cells."""

MOST_PAST_FRAMES = 60
"""Most frames of the past that can be asked for at once."""


def _check_cells(size: int, data: bytes) -> None:
    if not 1 <= size <= MAX_THUMBNAIL_SIDE or len(data) != size * size:
        raise ProtocolError(
            f"a map of side {size} with {len(data)} bytes cannot be sent; "
            f"it needs side * side bytes and a side of 1 to {MAX_THUMBNAIL_SIDE}"
        )


# --- Events -----------------------------------------------------------------------------------


class LetterChange(msgspec.Struct, frozen=True, kw_only=True):
    """What changed for one AU from a stage to the next.

    Attributes:
        au: its number.
        before, after: its label in the two stages (``AU12_A``); None where it is not active.
        text: the change in one sentence, with the facial regions concerned.
    """

    au: int
    before: str | None
    after: str | None
    text: str


class StageEnter(Event, frozen=True, kw_only=True):
    """A stage began.

    Attributes:
        labels: its prototypes sorted by AU (``["AU01_A", "AU12_B"]``), ``["NONE"]`` for a face
            without an active AU, ``["LOST"]`` without a usable face.
        previous: labels of the stage before; None at first.
        start, start_s: its first frame and that frame's time.
        reason: ``first``, ``au_on``, ``au_off``, ``cluster_change``, ``face_lost``,
            ``face_found``, ``other_person`` or ``gap``.
        at: frame at which the change became known.
        text: the stage as the paper writes it, ``(AU01_A, AU12_B)``.
        changes: what changed from the stage before, by AU; empty where the face was lost.
    """

    type: ClassVar[str] = "stage.enter"
    labels: tuple[str, ...]
    previous: tuple[str, ...] | None = None
    start: int
    start_s: float
    reason: str
    at: int
    text: str
    changes: tuple[LetterChange, ...] = ()


class StageExit(Event, frozen=True, kw_only=True):
    """A stage ended; ``end`` is its last frame, ``end_s`` that frame's time."""

    type: ClassVar[str] = "stage.exit"
    labels: tuple[str, ...]
    start: int
    end: int
    start_s: float
    end_s: float
    reason: str
    at: int


class StageRevise(Event, frozen=True, kw_only=True):
    """The current stage's labels were wrong from its very start; ``previous`` are replaced.

    ``changes``: what changed from the stage before this one, all of it.
    """

    type: ClassVar[str] = "stage.revise"
    labels: tuple[str, ...]
    previous: tuple[str, ...] | None = None
    start: int
    start_s: float
    reason: str
    at: int
    text: str
    changes: tuple[LetterChange, ...] = ()


class PrototypeNew(Event, frozen=True, kw_only=True):
    """A prototype was given its letter.

    Attributes:
        label: ``AU12_A``. ``au``, ``letter``: its two parts.
        at: frame at which the letter was given.
        size: side of the thumbnails, cells; at most :data:`MAX_THUMBNAIL_SIDE`, 56 is plenty.
        data: ``size * size`` bytes, row by row: positive relevance, its maximum scaled to 255.
        top: the cells with ``data >= top`` are the Top-X relevance projection (1–255).
        face: ``size * size`` bytes: the grey face crop it was found on; empty without video.
        regions: (name, share 0–1) of up to three facial regions that carry its relevance, the
            largest first; left and right are the person's own.
    """

    type: ClassVar[str] = "prototype.new"
    label: str
    au: int
    letter: str
    at: int
    size: int
    data: bytes
    top: int
    face: bytes = b""
    regions: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        _check_cells(self.size, self.data)
        if self.face:
            _check_cells(self.size, self.face)


class PrototypeUpdate(Event, frozen=True, kw_only=True):
    """A prototype has moved far from what its letter meant when it was young.

    Attributes:
        label: ``AU12_A``.
        at: frame at which that was noticed.
        cosine: of what it is now with what it was, −1 to 1.
        size, data, top: its relevance now, as in ``prototype.new``.
    """

    type: ClassVar[str] = "prototype.update"
    label: str
    at: int
    cosine: float
    size: int
    data: bytes
    top: int

    def __post_init__(self) -> None:
        _check_cells(self.size, self.data)


class PrototypeRetire(Event, frozen=True, kw_only=True):
    """A prototype's label is given no more.

    It turned out to be the older one ``into`` (a label, too); or, with null, it was unseen for
    longest when room was needed for a new one.
    """

    type: ClassVar[str] = "prototype.retire"
    label: str
    into: str | None
    at: int


class FaceChanged(Event, frozen=True, kw_only=True):
    """The face state changed, or the face is another person's.

    Attributes:
        state, previous: ``tracked``, ``multiple``, ``low_quality`` or ``lost``; the same where only
            the person is another.
        reason: why the state is ``low_quality``; ``another person`` where the face is not that of
            the person before: a new stage and a new rest level begin, letters are kept.
        at: frame.
    """

    type: ClassVar[str] = "face.state"
    state: str
    previous: str | None = None
    reason: str = ""
    at: int


class SourceChanged(Event, frozen=True, kw_only=True):
    """The source's state changed.

    Attributes:
        state: ``connecting``, ``live``, ``stalled``, ``reconnecting``, ``ended`` or ``failed``.
        reason: one short sentence; never holds credentials.
        epoch: number of the source's connection, 0 first; pictures of another size begin the next,
            too.
        retry_s: seconds from this event to the next attempt to open the source; None where none is
            due.
    """

    type: ClassVar[str] = "source.state"
    state: str
    reason: str = ""
    epoch: int = 0
    retry_s: float | None = None


class Gap(Event, frozen=True, kw_only=True):
    """The frames ``from`` … ``to`` (inclusive) of the source were never seen."""

    type: ClassVar[str] = "gap"
    from_: int = msgspec.field(name="from")
    to: int
    cause: str


class RecordState(Event, frozen=True, kw_only=True):
    """A recording began, went on in another way, or ended; of no stream.

    Attributes:
        state: ``recording`` or ``stopped``.
        name: of the session's folder, without the path to it; empty where none was made.
        reason: why, one sentence: a full disk, a clock that was set; empty if somebody asked for
            it.
        bytes: size of the session so far.
    """

    type: ClassVar[str] = "record.state"
    state: Literal["recording", "stopped"]
    name: str = ""
    reason: str = ""
    bytes: int = 0


# --- Samples ----------------------------------------------------------------------------------


class FaceValue(msgspec.Struct, frozen=True, kw_only=True):
    """The face in one frame; the fields of :class:`facestage.core.types.FaceObservation`.

    Attributes:
        state: ``tracked``, ``multiple``, ``low_quality`` or ``lost``.
        box: x, y, width, height in frame pixels.
        points: five (x, y) in frame pixels.
        quality: 0 (unusable) to 1.
        reason: why the state is ``low_quality``.
        pose: yaw, pitch and roll of the head, degrees: positive turns the face to the viewer's
            right, looks down, and tilts it counter-clockwise.
        id: number of the person in this source, 1 for the first who was seen; never given again.
            None where nobody is seen.
    """

    state: str
    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float], ...] | None = None
    quality: float = 0.0
    reason: str = ""
    pose: tuple[float, float, float] | None = None
    id: int | None = None


class ActionUnitValue(msgspec.Struct, frozen=True, kw_only=True):
    """One AU in one frame.

    Attributes:
        au: its number.
        presence, intensity: 0–1 and 0–5, as the network gives them.
        active: whether it counts as present; never for an AU that is not shown.
        letter: of its prototype, while it is active.
        adjusted, adjusted_intensity: the two after the personal baseline, which decided ``active``;
            None where the frame's ``baseline`` is ``off``.
    """

    au: int
    presence: float
    intensity: float
    active: bool
    letter: str | None = None
    adjusted: float | None = None
    adjusted_intensity: float | None = None


class FrameSample(Sample, frozen=True, kw_only=True):
    """What was found in one analysed frame.

    Attributes:
        frame: its number in the source; the picture and the heat of the same frame carry it too.
        time_s: its time on the source's time line, seconds.
        width, height: of the source's picture, pixels: the coordinates of ``face`` and of
            :class:`Heat`. The JPEG may be smaller.
        face: the face.
        stage: labels of the confirmed stage; None before the first.
        aus: one value per AU of the model; empty without a usable face.
        latency_ms: from the grab to this message, milliseconds.
        dropped_total: frames of this source dropped so far, all causes.
        source_state: see :class:`SourceChanged`.
        baseline: ``off`` (presence is judged as the network gives it), ``learning`` (by its rise
            over the person's rest level, more than a tenth of which still is that of faces in
            general) or ``active`` (by the person's own).
        rest_s: seconds of this face at rest that its rest level rests on.
        rest_prior: how much of it still is that of faces in general, 0 to 1.
        scores: one value per score that is followed, see :class:`Hello`.
    """

    type: ClassVar[str] = "frame"
    frame: int
    time_s: float
    width: int
    height: int
    face: FaceValue
    stage: tuple[str, ...] | None = None
    aus: tuple[ActionUnitValue, ...] = ()
    latency_ms: float = 0.0
    dropped_total: int = 0
    source_state: str = "live"
    baseline: str = "off"
    rest_s: float = 0.0
    rest_prior: float = 1.0
    scores: tuple[ScoreValue, ...] = ()


class Mask(msgspec.Struct, frozen=True, kw_only=True):
    """The Top-X relevance projection of one active AU.

    ``data``: ``size * size`` bytes, row by row; 0 outside the projection, inside it the relevance,
    its maximum scaled to 255, at least 1. ``label``: ``AU12_A``, or ``AU12`` before its letter.
    ``regions``: (name, share 0–1) of up to three facial regions that carry the relevance of the
    whole map, the largest first; left and right are the person's own.
    """

    au: int
    label: str
    data: bytes
    regions: tuple[tuple[str, float], ...] = ()


class Heat(Sample, frozen=True, kw_only=True):
    """Where the network looked in one frame. Sent for every frame, with no masks if none is active.

    Attributes:
        frame: number of the frame.
        size: side of the masks, cells; at most :data:`MAX_THUMBNAIL_SIDE`, 56 is plenty.
        matrix: ``(a, b, c, d, e, f)``, rows of the 2×3 affine map from mask to frame coordinates,
            ``x = a u + b v + c``, ``y = d u + e v + f``; a cell (i, j) covers the unit square with
            the corner (u, v) = (j, i). See :func:`mask_to_frame`. None without a face.
        masks: one per active AU.
    """

    type: ClassVar[str] = "heat"
    frame: int
    size: int
    matrix: tuple[float, float, float, float, float, float] | None = None
    masks: tuple[Mask, ...] = ()

    def __post_init__(self) -> None:
        for mask in self.masks:
            _check_cells(self.size, mask.data)


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Median and 99th percentile."""

    p50: float
    p99: float


class Stats(Sample, frozen=True, kw_only=True):
    """How the pipeline fares, once per second.

    Attributes:
        fps_in, fps_analysed: frames per second grabbed and analysed.
        drops: cause → frames dropped since the start.
        latency_ms: capture → emit over the last seconds; None before the first frame.
        clients: connected now.
        device, model, detector, lrp_engine, lrp_engine_reason: as in :class:`Hello`.
        counters: counter → total since the start: ``frames_explained`` (frames with a relevance
            map), ``pairs_explained`` ((frame, AU) pairs), ``engine_fallbacks`` (times a network was
            given to the reference engine for want of a rule); there may be others.
        uptime_s: since the pipeline started, seconds.
        steps_ms: step → its mean time per analysed frame since the start, milliseconds; the steps
            run in several threads at once. Names: :data:`~facestage.core.steps.STEPS`.
    """

    type: ClassVar[str] = "stats"
    fps_in: float
    fps_analysed: float
    drops: dict[str, int] = msgspec.field(default_factory=dict)
    latency_ms: Percentiles | None = None
    clients: int = 0
    device: str = ""
    model: str = ""
    detector: str = ""
    lrp_engine: str = ""
    lrp_engine_reason: str = ""
    counters: dict[str, int] = msgspec.field(default_factory=dict)
    uptime_s: float = 0.0
    steps_ms: dict[str, float] = msgspec.field(default_factory=dict)


class ReplayState(Sample, frozen=True, kw_only=True):
    """Where a replay is; sent after each change, and four times a second while it plays.

    Attributes:
        playing: whether time goes on; false at the end, too.
        speed: seconds of the recording per second; null: as fast as it can be sent.
        position_s, duration_s: where it is and how long it is, seconds.
    """

    type: ClassVar[str] = "replay.state"
    playing: bool
    speed: float | None
    position_s: float
    duration_s: float


# --- Control, server to client ----------------------------------------------------------------


class ActionUnit(msgspec.Struct, frozen=True, kw_only=True):
    """One AU of the model.

    Attributes:
        au, code, name, colour: number, ``AU12``, name, ``#rrggbb``.
        on, off: presence at which it becomes active, and below which it stops.
        grade: by the model card: ``A`` reliable, ``B`` weak (pages mark it), ``C`` not reliable;
            None where the card gives no grades.
        shown: whether it takes part; if not, it is predicted but never active.
        staged: whether it makes stages; if not, its letters are told by frames alone.
    """

    au: int
    code: str
    name: str
    colour: str
    on: float = 0.5
    off: float = 0.35
    grade: str | None = None
    shown: bool = True
    staged: bool = True


class StreamInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One analysed source, or another of the faces in it.

    ``id`` in envelopes, ``number`` in picture headers, ``name`` to show. A source ``cam`` of which
    several faces are analysed has the streams ``cam`` (whoever is followed), ``cam/2``, ``cam/3``.
    """

    id: str
    name: str
    number: int = 0


class Replaying(msgspec.Struct, frozen=True, kw_only=True):
    """The recording that is replayed: its length, seconds, and its begin, seconds since 1970."""

    duration_s: float
    start: float


class Hello(Body, frozen=True, kw_only=True):
    """Who the server is and what it analyses.

    Attributes:
        server: version of facestage. ``protocol``: version of this protocol.
        model, model_card: name of the AU network, and its card in one short sentence.
        device, detector, lrp_preset: what computes, finds faces and explains. ``lrp_preset`` makes
            the maps that give letters, ``picture_preset`` those that are drawn and put into words;
            empty: the same.
        lrp_engine: LRP engine that runs the preset: ``fused``, or ``reference``, which is several
            times slower and gives the same maps. ``lrp_engine_reason``: what in the network kept
            the fused one from it; empty if nothing did. ``lrp_precision``: of its convolutions on
            the way back, ``float32``, ``bfloat16`` or ``tf32``.
        window_device: what clusters the sliding windows: ``cpu`` (NumPy) or ``cuda[:N]`` (CuPy).
        top_x: share of the positive relevance a projection keeps, 0–1.
        aus: in the order of ``FrameSample.aus``. ``streams``: the sources.
        epoch, first, last: numbering and range of the events that can be replayed
            (``last = first - 1`` when there is none); filled in by the server.
        video: whether pictures are sent at all.
        privacy: what pictures show of a person, chosen at the server: ``picture``, ``blur``,
            ``outline`` or ``none``.
        baseline: whether presence is judged by its rise over the person's rest level; each frame
            says how much of that is the person's own.
        history_s: how far ``past`` can look back, seconds; 0: not at all.
        replay: what is replayed; None where it is live. Then all times are those of the recording.
        allow_control: whether clients may send ``record.start`` and ``record.stop``.
        notice: shown on every page.
        scores: those that are followed (``--score``).
    """

    type: ClassVar[str] = "hello"
    server: str
    protocol: int = PROTOCOL_VERSION
    model: str
    model_card: str = ""
    device: str
    detector: str
    lrp_preset: str
    picture_preset: str = ""
    lrp_engine: str = ""
    lrp_engine_reason: str = ""
    lrp_precision: str = "float32"
    window_device: str = "cpu"
    top_x: float = 0.25
    aus: tuple[ActionUnit, ...] = ()
    streams: tuple[StreamInfo, ...] = ()
    epoch: int = 0
    first: int = 1
    last: int = 0
    video: bool = True
    privacy: str = "picture"
    baseline: bool = False
    history_s: float = 0.0
    replay: Replaying | None = None
    allow_control: bool = False
    notice: str = RESEARCH_NOTICE
    scores: tuple[ScoreInfo, ...] = ()


class Ack(Body, frozen=True, kw_only=True):
    """The message of type ``to`` was accepted."""

    type: ClassVar[str] = "ack"
    to: str


class Error(Body, frozen=True, kw_only=True):
    """What the client did wrong; the connection is closed after it.

    ``code``: ``bad_message``, ``unknown_type``, ``not_allowed``, ``unauthorised``, ``rate_limit``,
    ``silent``, ``too_many_clients`` or ``camera_taken``.
    """

    type: ClassVar[str] = "error"
    code: str
    message: str


class Heartbeat(Body, frozen=True, kw_only=True):
    """I am here. Sent by the server every 2 s; a client answers it."""

    type: ClassVar[str] = "heartbeat"


class Bye(Body, frozen=True, kw_only=True):
    """The server is going away on purpose; ``ended``: because all sources came to their end."""

    type: ClassVar[str] = "bye"
    reason: str
    ended: bool = False


class Resync(Body, frozen=True, kw_only=True):
    """Events were lost to this client: forget what you know, a snapshot follows."""

    type: ClassVar[str] = "resync"
    reason: str


class Snapshot(Body, frozen=True, kw_only=True):
    """State of one stream after event ``seq``.

    Attributes:
        seq: number of the last event that is part of the state.
        stage: the current stage as it was entered (or last revised); None before the first.
        face, source: the last of their events; None before the first.
        prototypes: labels of the prototypes alive; their ``prototype.new`` events follow.
        notices: those that go on, and those that nobody has acknowledged; the last of them.
    """

    type: ClassVar[str] = "snapshot"
    seq: int
    stage: StageEnter | None = None
    face: FaceChanged | None = None
    source: SourceChanged | None = None
    prototypes: tuple[str, ...] = ()
    notices: tuple[NoticeState, ...] = ()


class CameraReady(Body, frozen=True, kw_only=True):
    """On ``/ws/camera``: the page gives the pictures of this source now.

    Attributes:
        source: name of the source.
        max_bytes: largest message, bytes. max_side: longest side of a picture, pixels.
    """

    type: ClassVar[str] = "camera.ready"
    source: str
    max_bytes: int
    max_side: int


class CameraAck(Body, frozen=True, kw_only=True):
    """On ``/ws/camera``: the picture was looked at, and the next may be sent.

    ``result``: ``taken``; ``broken`` (no whole JPEG) and ``too_large`` pictures are left out and
    counted; ``late``: it waited until it was too old to be taken.
    """

    type: ClassVar[str] = "camera.ack"
    result: str


class PastFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A frame of the past: its samples, and its JPEG (empty where pictures are not sent).

    ``t_capture``: when it was grabbed.
    """

    t_capture: float
    frame: FrameSample
    heat: Heat
    picture: bytes = b""


class PastFrames(Body, frozen=True, kw_only=True):
    """Frames of the past that were asked for by :class:`PastWish`, in the order of time.

    An answer may come in several messages; the last is ``done``.

    Attributes:
        from_s, to_s: as asked.
        first_s, last_s: the oldest and the newest frame that are kept of this stream; None where
            there is none. Of what was asked for beyond them nothing comes.
        frames: at most as many as were asked for, spread over the time.
        done: whether nothing more comes of this answer.
    """

    type: ClassVar[str] = "past.frames"
    from_s: float
    to_s: float
    first_s: float | None = None
    last_s: float | None = None
    frames: tuple[PastFrame, ...] = ()
    done: bool = True


# --- Control, client to server ----------------------------------------------------------------


class Auth(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first message where the server has a token."""

    type: ClassVar[str] = "auth"
    token: str


class Cursor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last event seen: numbering and number."""

    epoch: int
    seq: int


class Subscribe(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Begin to receive.

    Attributes:
        since: the last event seen; those after it follow. None: the state now, and the news.
        history_s: the events of so many last seconds are told again after a snapshot, so that a
            page opened late has something to draw.
        topics: samples wanted; None: all.
        streams: ids of the streams whose samples and pictures are wanted; None: all. Events come
            from all streams.
    """

    type: ClassVar[str] = "subscribe"
    since: Cursor | None = None
    history_s: float = 0.0
    topics: tuple[Literal["frame", "heat", "replay.state", "stats"], ...] | None = None
    streams: tuple[str, ...] | None = None


class PastWish(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tell frames of the past again; a newer wish replaces one that is not answered yet.

    Ask on ``/ws/frames`` where pictures are wanted: ``/ws`` would deflate them in vain.

    Attributes:
        stream: id of the stream.
        from_s, to_s: frames grabbed from … until before …, seconds since 1970.
        most: how many of them, spread over the time; at most :data:`MOST_PAST_FRAMES`.
    """

    type: ClassVar[str] = "past"
    stream: str
    from_s: float
    to_s: float
    most: Annotated[int, msgspec.Meta(ge=1, le=MOST_PAST_FRAMES)] = 30


class RecordStart(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Begin a recording; only where ``hello.allow_control`` is set."""

    type: ClassVar[str] = "record.start"


class RecordStop(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End the recording; only where ``hello.allow_control`` is set."""

    type: ClassVar[str] = "record.stop"


class Replay(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Move in a replay; only where ``hello.replay`` is set.

    Attributes:
        command: ``play``, ``pause``, ``seek``, ``step`` or ``speed``.
        value: of ``seek``, seconds from the begin, held within the recording; of ``step``, frames,
            backwards where it is below 0 (null: one), and the replay pauses there; of ``speed``,
            seconds of the recording per second, above 0 (null: as fast as it can be sent).
    """

    type: ClassVar[str] = "replay"
    command: Literal["play", "pause", "seek", "step", "speed"]
    value: float | None = None

    def __post_init__(self) -> None:
        value = self.value
        if self.command == "seek" and value is None:
            raise ProtocolError("'seek' needs a value: seconds from the begin of the recording")
        if self.command == "speed" and value is not None and not value > 0:
            raise ProtocolError(f"a speed of {value} is impossible; send one above 0, or null")
        if self.command == "step" and value is not None and value != int(value):
            raise ProtocolError(f"{value} frames cannot be stepped; send a whole number")


class CameraOpen(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """On ``/ws/camera``: become the one who gives the pictures of a source.

    ``source``: its name; None: the first that nobody gives yet.
    """

    type: ClassVar[str] = "camera.open"
    source: str | None = None


class CameraPause(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """On ``/ws/camera``: no picture follows until the next one is sent, and why."""

    type: ClassVar[str] = "camera.pause"
    reason: Literal["hidden", "muted", "ended", "stopped"]


class _ClientHeartbeat(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: ClassVar[str] = "heartbeat"


class _ClientBye(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: ClassVar[str] = "bye"
    reason: str = ""


# --- Envelope ---------------------------------------------------------------------------------

_B = TypeVar("_B", bound=Body)


def _by_type(*classes: type[_B]) -> dict[str, type[_B]]:
    return {cls.type: cls for cls in classes}


EVENTS: dict[str, type[Event]] = _by_type(
    StageEnter,
    StageExit,
    StageRevise,
    PrototypeNew,
    PrototypeRetire,
    PrototypeUpdate,
    FaceChanged,
    RecordState,
    SourceChanged,
    Gap,
    Marker,
    NoticeOn,
    NoticeOff,
    NoticeAcknowledged,
)
SAMPLES: dict[str, type[Sample]] = _by_type(FrameSample, Heat, ReplayState, Stats)
SERVER_CONTROLS: dict[str, type[Body]] = _by_type(
    Hello,
    Ack,
    Error,
    Heartbeat,
    Bye,
    Resync,
    Snapshot,
    PastFrames,
    CameraReady,
    CameraAck,
)
CLIENT_MESSAGES: dict[str, type[Body]] = _by_type(
    Auth,
    CameraOpen,
    CameraPause,
    MarkerAdd,
    NoticeAck,
    PastWish,
    RecordStart,
    RecordStop,
    Replay,
    Subscribe,
    _ClientHeartbeat,
    _ClientBye,
)


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One message.

    Attributes:
        v: protocol version.
        type: type of ``data``.
        stream: id of the stream it is about; None where it is about none.
        epoch: numbering of the events; None from clients.
        seq: number of an event; None otherwise.
        t_capture: when the frame behind it was grabbed; None where there is none.
        t_emit: when it was made; None from clients.
        data: the body.
    """

    v: int = PROTOCOL_VERSION
    type: str
    stream: str | None = None
    epoch: int | None = None
    seq: int | None = None
    t_capture: float | None = None
    t_emit: float | None = None
    data: Any
