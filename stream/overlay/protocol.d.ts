// Made by `python -m tests.support.schema_types` from the JSON Schema of the wire protocol; do not
// edit. What the server sends has every property, for it writes defaults too; what a client sends
// may lack those that are optional here.

/**
 * A stage began.
 *
 * Attributes:
 *     labels: its prototypes sorted by AU (`["AU01_A", "AU12_B"]`), `["NONE"]` for a face
 *         without an active AU, `["LOST"]` without a usable face.
 *     previous: labels of the stage before; None at first.
 *     start, start_s: its first frame and that frame's time.
 *     reason: `first`, `au_on`, `au_off`, `cluster_change`, `face_lost`,
 *         `face_found`, `other_person` or `gap`.
 *     at: frame at which the change became known.
 *     text: the stage as the paper writes it, `(AU01_A, AU12_B)`.
 *     changes: what changed from the stage before, by AU; empty where the face was lost.
 */
export interface StageEnter {
  labels: string[];
  previous: string[] | null;
  start: number;
  start_s: number;
  reason: string;
  at: number;
  text: string;
  changes: LetterChange[];
}

/**
 * What changed for one AU from a stage to the next.
 *
 * Attributes:
 *     au: its number.
 *     before, after: its label in the two stages (`AU12_A`); None where it is not active.
 *     text: the change in one sentence, with the facial regions concerned.
 */
export interface LetterChange {
  au: number;
  before: string | null;
  after: string | null;
  text: string;
}

/** A stage ended; `end` is its last frame, `end_s` that frame's time. */
export interface StageExit {
  labels: string[];
  start: number;
  end: number;
  start_s: number;
  end_s: number;
  reason: string;
  at: number;
}

/**
 * The current stage's labels were wrong from its very start; `previous` are replaced.
 *
 * `changes`: what changed from the stage before this one, all of it.
 */
export interface StageRevise {
  labels: string[];
  previous: string[] | null;
  start: number;
  start_s: number;
  reason: string;
  at: number;
  text: string;
  changes: LetterChange[];
}

/**
 * A prototype was given its letter.
 *
 * Attributes:
 *     label: `AU12_A`. `au`, `letter`: its two parts.
 *     at: frame at which the letter was given.
 *     size: side of the thumbnails, cells; at most `MAX_THUMBNAIL_SIDE`, 56 is plenty.
 *     data: `size * size` bytes, row by row: positive relevance, its maximum scaled to 255.
 *     top: the cells with `data >= top` are the Top-X relevance projection (1–255).
 *     face: `size * size` bytes: the grey face crop it was found on; empty without video.
 *     regions: (name, share 0–1) of up to three facial regions that carry its relevance, the
 *         largest first; left and right are the person's own.
 */
export interface PrototypeNew {
  label: string;
  au: number;
  letter: string;
  at: number;
  size: number;
  data: string;
  top: number;
  face: string;
  regions: [string, number][];
}

/**
 * A prototype's label is given no more.
 *
 * It turned out to be the older one `into` (a label, too); or, with null, it was unseen for
 * longest when room was needed for a new one.
 */
export interface PrototypeRetire {
  label: string;
  into: string | null;
  at: number;
}

/**
 * A prototype has moved far from what its letter meant when it was young.
 *
 * Attributes:
 *     label: `AU12_A`.
 *     at: frame at which that was noticed.
 *     cosine: of what it is now with what it was, −1 to 1.
 *     size, data, top: its relevance now, as in `prototype.new`.
 */
export interface PrototypeUpdate {
  label: string;
  at: number;
  cosine: number;
  size: number;
  data: string;
  top: number;
}

/**
 * The face state changed, or the face is another person's.
 *
 * Attributes:
 *     state, previous: `tracked`, `multiple`, `low_quality` or `lost`; the same where only
 *         the person is another.
 *     reason: why the state is `low_quality`; `another person` where the face is not that of
 *         the person before: a new stage and a new rest level begin, letters are kept.
 *     at: frame.
 */
export interface FaceChanged {
  state: string;
  previous: string | null;
  reason: string;
  at: number;
}

/**
 * A recording began, went on in another way, or ended; of no stream.
 *
 * Attributes:
 *     state: `recording` or `stopped`.
 *     name: of the session's folder, without the path to it; empty where none was made.
 *     reason: why, one sentence: a full disk, a clock that was set; empty if somebody asked for
 *         it.
 *     bytes: size of the session so far.
 */
export interface RecordState {
  state: "recording" | "stopped";
  name: string;
  reason: string;
  bytes: number;
}

/**
 * The source's state changed.
 *
 * Attributes:
 *     state: `connecting`, `live`, `stalled`, `reconnecting`, `ended` or `failed`.
 *     reason: one short sentence; never holds credentials.
 *     epoch: number of the source's connection, 0 first; pictures of another size begin the next,
 *         too.
 *     retry_s: seconds from this event to the next attempt to open the source; None where none is
 *         due.
 */
export interface SourceChanged {
  state: string;
  reason: string;
  epoch: number;
  retry_s: number | null;
}

/** The frames `from` … `to` (inclusive) of the source were never seen. */
export interface Gap {
  from: number;
  to: number;
  cause: string;
}

/**
 * Somebody marked a moment or a span.
 *
 * Attributes:
 *     id: number of the marker, 1 first; over all streams.
 *     text: what they wrote.
 *     start_s, end_s: on the source's time line, seconds; the same for a moment.
 */
export interface Marker {
  id: number;
  text: string;
  start_s: number;
  end_s: number;
}

/**
 * A score has been high for long. It is no alarm and no finding.
 *
 * Attributes:
 *     score: its name.
 *     id: number of the notice in its stream.
 *     start, start_s: frame and time at which the score rose.
 *     at: frame at which that counted.
 *     threshold: what the least value of the score (`low`) reached.
 *     value: the score at `at`.
 *     text: the same in a sentence.
 */
export interface NoticeOn {
  score: string;
  id: number;
  start: number;
  start_s: number;
  at: number;
  threshold: number;
  value: ScoreValue;
  text: string;
}

/**
 * A score in one frame.
 *
 * Attributes:
 *     name: of the score, see `ScoreInfo`.
 *     value: null where it is withheld, or where an AU that is not known could change it.
 *     low, high: between them it lies; null where it is withheld.
 *     terms: its summands; empty where it is withheld.
 *     missing: numbers of the AUs that are not known. They are not 0.
 *     withheld: why nothing is said of this frame; empty where something is.
 */
export interface ScoreValue {
  name: string;
  value: number | null;
  low: number | null;
  high: number | null;
  terms: ScoreTerm[];
  missing: number[];
  withheld: string;
}

/**
 * One summand of a score.
 *
 * Attributes:
 *     text: as the formula has it, `max(AU6, AU7)`.
 *     value: null where an AU that is not known could change it.
 *     low, high: between them it lies.
 *     aus: what went in.
 */
export interface ScoreTerm {
  text: string;
  value: number | null;
  low: number;
  high: number;
  aus: ScorePart[];
}

/**
 * An AU in a term of a score.
 *
 * `value`: what went in, 0–5 (AU43: 0 or 1), or null where it is not known. `grade`: of the
 * AU, by the model card.
 */
export interface ScorePart {
  au: number;
  value: number | null;
  grade: string | null;
}

/**
 * A notice ended.
 *
 * Attributes:
 *     score, id, start, start_s: as in its `notice.on`.
 *     end, end_s: frame and time at which the score fell, or was last known.
 *     at: frame at which that counted.
 *     duration_s: from start to end, seconds.
 *     peak, peak_s: the score where its least value was largest, and when.
 *     reason: `below`; why the score was withheld; or what ended the stream.
 *     text: the same in a sentence.
 */
export interface NoticeOff {
  score: string;
  id: number;
  start: number;
  start_s: number;
  end: number;
  end_s: number;
  at: number;
  duration_s: number;
  peak: ScoreValue;
  peak_s: number;
  reason: string;
  text: string;
}

/** Somebody has seen a notice; sent once for each, whoever says so and however often. */
export interface NoticeAcknowledged {
  id: number;
}

/**
 * What was found in one analysed frame.
 *
 * Attributes:
 *     frame: its number in the source; the picture and the heat of the same frame carry it too.
 *     time_s: its time on the source's time line, seconds.
 *     width, height: of the source's picture, pixels: the coordinates of `face` and of
 *         `Heat`. The JPEG may be smaller.
 *     face: the face.
 *     stage: labels of the confirmed stage; None before the first.
 *     aus: one value per AU of the model; empty without a usable face.
 *     latency_ms: from the grab to this message, milliseconds.
 *     dropped_total: frames of this source dropped so far, all causes.
 *     source_state: see `SourceChanged`.
 *     baseline: `off` (presence is judged as the network gives it), `learning` (by its rise
 *         over the person's rest level, more than a tenth of which still is that of faces in
 *         general) or `active` (by the person's own).
 *     rest_s: seconds of this face at rest that its rest level rests on.
 *     rest_prior: how much of it still is that of faces in general, 0 to 1.
 *     scores: one value per score that is followed, see `Hello`.
 */
export interface FrameSample {
  frame: number;
  time_s: number;
  width: number;
  height: number;
  face: FaceValue;
  stage: string[] | null;
  aus: ActionUnitValue[];
  latency_ms: number;
  dropped_total: number;
  source_state: string;
  baseline: string;
  rest_s: number;
  rest_prior: number;
  scores: ScoreValue[];
}

/**
 * The face in one frame; the fields of `FaceObservation`.
 *
 * Attributes:
 *     state: `tracked`, `multiple`, `low_quality` or `lost`.
 *     box: x, y, width, height in frame pixels.
 *     points: five (x, y) in frame pixels.
 *     quality: 0 (unusable) to 1.
 *     reason: why the state is `low_quality`.
 *     pose: yaw, pitch and roll of the head, degrees: positive turns the face to the viewer's
 *         right, looks down, and tilts it counter-clockwise.
 *     id: number of the person in this source, 1 for the first who was seen; never given again.
 *         None where nobody is seen.
 */
export interface FaceValue {
  state: string;
  box: [number, number, number, number] | null;
  points: [number, number][] | null;
  quality: number;
  reason: string;
  pose: [number, number, number] | null;
  id: number | null;
}

/**
 * One AU in one frame.
 *
 * Attributes:
 *     au: its number.
 *     presence, intensity: 0–1 and 0–5, as the network gives them.
 *     active: whether it counts as present; never for an AU that is not shown.
 *     letter: of its prototype, while it is active.
 *     adjusted, adjusted_intensity: the two after the personal baseline, which decided `active`;
 *         None where the frame's `baseline` is `off`.
 */
export interface ActionUnitValue {
  au: number;
  presence: number;
  intensity: number;
  active: boolean;
  letter: string | null;
  adjusted: number | null;
  adjusted_intensity: number | null;
}

/**
 * Where the network looked in one frame. Sent for every frame, with no masks if none is active.
 *
 * Attributes:
 *     frame: number of the frame.
 *     size: side of the masks, cells; at most `MAX_THUMBNAIL_SIDE`, 56 is plenty.
 *     matrix: `(a, b, c, d, e, f)`, rows of the 2×3 affine map from mask to frame coordinates,
 *         `x = a u + b v + c`, `y = d u + e v + f`; a cell (i, j) covers the unit square with
 *         the corner (u, v) = (j, i). See `mask_to_frame`. None without a face.
 *     masks: one per active AU.
 */
export interface Heat {
  frame: number;
  size: number;
  matrix: [number, number, number, number, number, number] | null;
  masks: Mask[];
}

/**
 * The Top-X relevance projection of one active AU.
 *
 * `data`: `size * size` bytes, row by row; 0 outside the projection, inside it the relevance,
 * its maximum scaled to 255, at least 1. `label`: `AU12_A`, or `AU12` before its letter.
 * `regions`: (name, share 0–1) of up to three facial regions that carry the relevance of the
 * whole map, the largest first; left and right are the person's own.
 */
export interface Mask {
  au: number;
  label: string;
  data: string;
  regions: [string, number][];
}

/**
 * Where a replay is; sent after each change, and four times a second while it plays.
 *
 * Attributes:
 *     playing: whether time goes on; false at the end, too.
 *     speed: seconds of the recording per second; null: as fast as it can be sent.
 *     position_s, duration_s: where it is and how long it is, seconds.
 */
export interface ReplayState {
  playing: boolean;
  speed: number | null;
  position_s: number;
  duration_s: number;
}

/**
 * How the pipeline fares, once per second.
 *
 * Attributes:
 *     fps_in, fps_analysed: frames per second grabbed and analysed.
 *     drops: cause → frames dropped since the start.
 *     latency_ms: capture → emit over the last seconds; None before the first frame.
 *     clients: connected now.
 *     device, model, detector, lrp_engine, lrp_engine_reason: as in `Hello`.
 *     counters: counter → total since the start: `frames_explained` (frames with a relevance
 *         map), `pairs_explained` ((frame, AU) pairs), `engine_fallbacks` (times a network was
 *         given to the reference engine for want of a rule); there may be others.
 *     uptime_s: since the pipeline started, seconds.
 *     steps_ms: step → its mean time per analysed frame since the start, milliseconds; the steps
 *         run in several threads at once. Names: `STEPS`.
 */
export interface Stats {
  fps_in: number;
  fps_analysed: number;
  drops: Record<string, number>;
  latency_ms: Percentiles | null;
  clients: number;
  device: string;
  model: string;
  detector: string;
  lrp_engine: string;
  lrp_engine_reason: string;
  counters: Record<string, number>;
  uptime_s: number;
  steps_ms: Record<string, number>;
}

/** Median and 99th percentile. */
export interface Percentiles {
  p50: number;
  p99: number;
}

/**
 * Who the server is and what it analyses.
 *
 * Attributes:
 *     server: version of facestage. `protocol`: version of this protocol.
 *     model, model_card: name of the AU network, and its card in one short sentence.
 *     device, detector, lrp_preset: what computes, finds faces and explains. `lrp_preset` makes
 *         the maps that give letters, `picture_preset` those that are drawn and put into words;
 *         empty: the same.
 *     lrp_engine: LRP engine that runs the preset: `fused`, or `reference`, which is several
 *         times slower and gives the same maps. `lrp_engine_reason`: what in the network kept
 *         the fused one from it; empty if nothing did. `lrp_precision`: of its convolutions on
 *         the way back, `float32`, `bfloat16` or `tf32`.
 *     window_device: what clusters the sliding windows: `cpu` (NumPy) or `cuda[:N]` (CuPy).
 *     top_x: share of the positive relevance a projection keeps, 0–1.
 *     aus: in the order of `FrameSample.aus`. `streams`: the sources.
 *     epoch, first, last: numbering and range of the events that can be replayed
 *         (`last = first - 1` when there is none); filled in by the server.
 *     video: whether pictures are sent at all.
 *     privacy: what pictures show of a person, chosen at the server: `picture`, `blur`,
 *         `outline` or `none`.
 *     baseline: whether presence is judged by its rise over the person's rest level; each frame
 *         says how much of that is the person's own.
 *     history_s: how far `past` can look back, seconds; 0: not at all.
 *     replay: what is replayed; None where it is live. Then all times are those of the recording.
 *     allow_control: whether clients may send `record.start` and `record.stop`.
 *     notice: shown on every page.
 *     scores: those that are followed (`--score`).
 */
export interface Hello {
  server: string;
  protocol: number;
  model: string;
  model_card: string;
  device: string;
  detector: string;
  lrp_preset: string;
  picture_preset: string;
  lrp_engine: string;
  lrp_engine_reason: string;
  lrp_precision: string;
  window_device: string;
  top_x: number;
  aus: ActionUnit[];
  streams: StreamInfo[];
  epoch: number;
  first: number;
  last: number;
  video: boolean;
  privacy: string;
  baseline: boolean;
  history_s: number;
  replay: Replaying | null;
  allow_control: boolean;
  notice: string;
  scores: ScoreInfo[];
}

/**
 * One AU of the model.
 *
 * Attributes:
 *     au, code, name, colour: number, `AU12`, name, `#rrggbb`.
 *     on, off: presence at which it becomes active, and below which it stops.
 *     grade: by the model card: `A` reliable, `B` weak (pages mark it), `C` not reliable;
 *         None where the card gives no grades.
 *     shown: whether it takes part; if not, it is predicted but never active.
 *     staged: whether it makes stages; if not, its letters are told by frames alone.
 */
export interface ActionUnit {
  au: number;
  code: string;
  name: string;
  colour: string;
  on: number;
  off: number;
  grade: string | null;
  shown: boolean;
  staged: boolean;
}

/**
 * One analysed source, or another of the faces in it.
 *
 * `id` in envelopes, `number` in picture headers, `name` to show. A source `cam` of which
 * several faces are analysed has the streams `cam` (whoever is followed), `cam/2`, `cam/3`.
 */
export interface StreamInfo {
  id: string;
  name: string;
  number: number;
}

/** The recording that is replayed: its length, seconds, and its begin, seconds since 1970. */
export interface Replaying {
  duration_s: number;
  start: number;
}

/**
 * A score that is followed.
 *
 * Attributes:
 *     name: such as `PSPI`. `formula`: how it is made of AU intensities.
 *     source: who defined it; empty for a user's own.
 *     caution: what must be said wherever it is shown; may be empty.
 *     low, high: between them every value lies.
 *     on, off: a notice begins at the first and ends below the second.
 *     delay_s: by how much it lags behind the face, seconds: every AU goes in as its mean over
 *         twice that time.
 *     closed_s: closed eyes count after so long, seconds.
 */
export interface ScoreInfo {
  name: string;
  formula: string;
  source: string;
  caution: string;
  low: number;
  high: number;
  on: number;
  off: number;
  delay_s: number;
  closed_s: number;
}

/** The message of type `to` was accepted. */
export interface Ack {
  to: string;
}

/**
 * What the client did wrong; the connection is closed after it.
 *
 * `code`: `bad_message`, `unknown_type`, `not_allowed`, `unauthorised`, `rate_limit`,
 * `silent`, `too_many_clients` or `camera_taken`.
 */
export interface Error {
  code: string;
  message: string;
}

/** I am here. Sent by the server every 2 s; a client answers it. */
export interface Heartbeat {}

/** The server is going away on purpose; `ended`: because all sources came to their end. */
export interface Bye {
  reason: string;
  ended: boolean;
}

/** Events were lost to this client: forget what you know, a snapshot follows. */
export interface Resync {
  reason: string;
}

/**
 * State of one stream after event `seq`.
 *
 * Attributes:
 *     seq: number of the last event that is part of the state.
 *     stage: the current stage as it was entered (or last revised); None before the first.
 *     face, source: the last of their events; None before the first.
 *     prototypes: labels of the prototypes alive; their `prototype.new` events follow.
 *     notices: those that go on, and those that nobody has acknowledged; the last of them.
 */
export interface Snapshot {
  seq: number;
  stage: StageEnter | null;
  face: FaceChanged | null;
  source: SourceChanged | null;
  prototypes: string[];
  notices: NoticeState[];
}

/** A notice in a snapshot: it goes on (`off` is null), or nobody has acknowledged it yet. */
export interface NoticeState {
  on: NoticeOn;
  off: NoticeOff | null;
  acknowledged: boolean;
}

/**
 * Frames of the past that were asked for by `PastWish`, in the order of time.
 *
 * An answer may come in several messages; the last is `done`.
 *
 * Attributes:
 *     from_s, to_s: as asked.
 *     first_s, last_s: the oldest and the newest frame that are kept of this stream; None where
 *         there is none. Of what was asked for beyond them nothing comes.
 *     frames: at most as many as were asked for, spread over the time.
 *     done: whether nothing more comes of this answer.
 */
export interface PastFrames {
  from_s: number;
  to_s: number;
  first_s: number | null;
  last_s: number | null;
  frames: PastFrame[];
  done: boolean;
}

/**
 * A frame of the past: its samples, and its JPEG (empty where pictures are not sent).
 *
 * `t_capture`: when it was grabbed.
 */
export interface PastFrame {
  t_capture: number;
  frame: FrameSample;
  heat: Heat;
  picture: string;
}

/**
 * On `/ws/camera`: the page gives the pictures of this source now.
 *
 * Attributes:
 *     source: name of the source.
 *     max_bytes: largest message, bytes. max_side: longest side of a picture, pixels.
 */
export interface CameraReady {
  source: string;
  max_bytes: number;
  max_side: number;
}

/**
 * On `/ws/camera`: the picture was looked at, and the next may be sent.
 *
 * `result`: `taken`; `broken` (no whole JPEG) and `too_large` pictures are left out and
 * counted; `late`: it waited until it was too old to be taken.
 */
export interface CameraAck {
  result: string;
}

/** The first message where the server has a token. */
export interface Auth {
  token: string;
}

/**
 * On `/ws/camera`: become the one who gives the pictures of a source.
 *
 * `source`: its name; None: the first that nobody gives yet.
 */
export interface CameraOpen {
  source?: string | null;
}

/** On `/ws/camera`: no picture follows until the next one is sent, and why. */
export interface CameraPause {
  reason: "ended" | "hidden" | "muted" | "stopped";
}

/**
 * From a client: mark a moment or a span of a stream.
 *
 * Attributes:
 *     stream: id of the stream.
 *     text: free text of at most `MAX_MARKER_CHARACTERS`; not empty.
 *     start_s: on the source's time line, seconds; null: the latest frame.
 *     end_s: null: a moment.
 */
export interface MarkerAdd {
  stream: string;
  text: string;
  start_s?: number | null;
  end_s?: number | null;
}

/** From a client: somebody has seen this notice. One that is not open changes nothing. */
export interface NoticeAck {
  stream: string;
  id: number;
}

/**
 * Tell frames of the past again; a newer wish replaces one that is not answered yet.
 *
 * Ask on `/ws/frames` where pictures are wanted: `/ws` would deflate them in vain.
 *
 * Attributes:
 *     stream: id of the stream.
 *     from_s, to_s: frames grabbed from … until before …, seconds since 1970.
 *     most: how many of them, spread over the time; at most `MOST_PAST_FRAMES`.
 */
export interface PastWish {
  stream: string;
  from_s: number;
  to_s: number;
  most?: number;
}

/** Begin a recording; only where `hello.allow_control` is set. */
export interface RecordStart {}

/** End the recording; only where `hello.allow_control` is set. */
export interface RecordStop {}

/**
 * Move in a replay; only where `hello.replay` is set.
 *
 * Attributes:
 *     command: `play`, `pause`, `seek`, `step` or `speed`.
 *     value: of `seek`, seconds from the begin, held within the recording; of `step`, frames,
 *         backwards where it is below 0 (null: one), and the replay pauses there; of `speed`,
 *         seconds of the recording per second, above 0 (null: as fast as it can be sent).
 */
export interface Replay {
  command: "pause" | "play" | "seek" | "speed" | "step";
  value?: number | null;
}

/**
 * Begin to receive.
 *
 * Attributes:
 *     since: the last event seen; those after it follow. None: the state now, and the news.
 *     history_s: the events of so many last seconds are told again after a snapshot, so that a
 *         page opened late has something to draw.
 *     topics: samples wanted; None: all.
 *     streams: ids of the streams whose samples and pictures are wanted; None: all. Events come
 *         from all streams.
 */
export interface Subscribe {
  since?: Cursor | null;
  history_s?: number;
  topics?: ("frame" | "heat" | "replay.state" | "stats")[] | null;
  streams?: string[] | null;
}

/** The last event seen: numbering and number. */
export interface Cursor {
  epoch: number;
  seq: number;
}

export interface ClientHeartbeat {}

export interface ClientBye {
  reason?: string;
}

export type Events =
  | { v: 1; type: "stage.enter"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: StageEnter; }
  | { v: 1; type: "stage.exit"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: StageExit; }
  | { v: 1; type: "stage.revise"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: StageRevise; }
  | { v: 1; type: "prototype.new"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: PrototypeNew; }
  | { v: 1; type: "prototype.retire"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: PrototypeRetire; }
  | { v: 1; type: "prototype.update"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: PrototypeUpdate; }
  | { v: 1; type: "face.state"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: FaceChanged; }
  | { v: 1; type: "record.state"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: RecordState; }
  | { v: 1; type: "source.state"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: SourceChanged; }
  | { v: 1; type: "gap"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: Gap; }
  | { v: 1; type: "marker"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: Marker; }
  | { v: 1; type: "notice.on"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: NoticeOn; }
  | { v: 1; type: "notice.off"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: NoticeOff; }
  | { v: 1; type: "notice.ack"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: NoticeAcknowledged; };

export type Samples =
  | { v: 1; type: "frame"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: FrameSample; }
  | { v: 1; type: "heat"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Heat; }
  | { v: 1; type: "replay.state"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: ReplayState; }
  | { v: 1; type: "stats"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Stats; };

export type ServerControls =
  | { v: 1; type: "hello"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Hello; }
  | { v: 1; type: "ack"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Ack; }
  | { v: 1; type: "error"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Error; }
  | { v: 1; type: "heartbeat"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Heartbeat; }
  | { v: 1; type: "bye"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Bye; }
  | { v: 1; type: "resync"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Resync; }
  | { v: 1; type: "snapshot"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Snapshot; }
  | { v: 1; type: "past.frames"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: PastFrames; }
  | { v: 1; type: "camera.ready"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: CameraReady; }
  | { v: 1; type: "camera.ack"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: CameraAck; };

export type ClientMessages =
  | { v: 1; type: "auth"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: Auth; }
  | { v: 1; type: "camera.open"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: CameraOpen; }
  | { v: 1; type: "camera.pause"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: CameraPause; }
  | { v: 1; type: "marker.add"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: MarkerAdd; }
  | { v: 1; type: "notice.ack"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: NoticeAck; }
  | { v: 1; type: "past"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: PastWish; }
  | { v: 1; type: "record.start"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: RecordStart; }
  | { v: 1; type: "record.stop"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: RecordStop; }
  | { v: 1; type: "replay"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: Replay; }
  | { v: 1; type: "subscribe"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: Subscribe; }
  | { v: 1; type: "heartbeat"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: ClientHeartbeat; }
  | { v: 1; type: "bye"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: ClientBye; };
