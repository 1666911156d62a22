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
 */
export interface StageEnter {
  labels: string[];
  previous: string[] | null;
  start: number;
  start_s: number;
  reason: string;
  at: number;
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

/** The current stage's labels were wrong from its very start; `previous` are replaced. */
export interface StageRevise {
  labels: string[];
  previous: string[] | null;
  start: number;
  start_s: number;
  reason: string;
  at: number;
  text: string;
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
 */
export interface Mask {
  au: number;
  label: string;
  data: string;
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
 *     device, detector, lrp_preset: what computes, finds faces and explains.
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
 *     baseline: whether presence is judged by its rise over the person's rest level; each frame
 *         says how much of that is the person's own.
 *     history_s: how far `past` can look back, seconds; 0: not at all.
 *     notice: shown on every page.
 */
export interface Hello {
  server: string;
  protocol: number;
  model: string;
  model_card: string;
  device: string;
  detector: string;
  lrp_preset: string;
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
  baseline: boolean;
  history_s: number;
  notice: string;
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

/** The message of type `to` was accepted. */
export interface Ack {
  to: string;
}

/**
 * What the client did wrong; the connection is closed after it.
 *
 * `code`: `bad_message`, `unknown_type`, `unauthorised`, `rate_limit`, `silent` or
 * `too_many_clients`.
 */
export interface Error {
  code: string;
  message: string;
}

/** I am here. Sent by the server every 2 s; a client answers it. */
export interface Heartbeat {}

/** The server is going away on purpose. */
export interface Bye {
  reason: string;
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
 */
export interface Snapshot {
  seq: number;
  stage: StageEnter | null;
  face: FaceChanged | null;
  source: SourceChanged | null;
  prototypes: string[];
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

/** The first message where the server has a token. */
export interface Auth {
  token: string;
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
  topics?: ("frame" | "heat" | "stats")[] | null;
  streams?: string[] | null;
}

/** The last event seen: numbering and number. */
export interface Cursor {
  epoch: number;
  seq: number;
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
  | { v: 1; type: "source.state"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: SourceChanged; }
  | { v: 1; type: "gap"; stream: string | null; epoch: number | null; seq: number; t_capture: number | null; t_emit: number | null; data: Gap; };

export type Samples =
  | { v: 1; type: "frame"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: FrameSample; }
  | { v: 1; type: "heat"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Heat; }
  | { v: 1; type: "stats"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Stats; };

export type ServerControls =
  | { v: 1; type: "hello"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Hello; }
  | { v: 1; type: "ack"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Ack; }
  | { v: 1; type: "error"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Error; }
  | { v: 1; type: "heartbeat"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Heartbeat; }
  | { v: 1; type: "bye"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Bye; }
  | { v: 1; type: "resync"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Resync; }
  | { v: 1; type: "snapshot"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: Snapshot; }
  | { v: 1; type: "past.frames"; stream: string | null; epoch: number | null; seq: null; t_capture: number | null; t_emit: number | null; data: PastFrames; };

export type ClientMessages =
  | { v: 1; type: "auth"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: Auth; }
  | { v: 1; type: "subscribe"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: Subscribe; }
  | { v: 1; type: "past"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: PastWish; }
  | { v: 1; type: "heartbeat"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: ClientHeartbeat; }
  | { v: 1; type: "bye"; stream?: string | null; epoch?: number | null; seq?: null; t_capture?: number | null; t_emit?: number | null; data: ClientBye; };
