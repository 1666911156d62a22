// @ts-check
// What is known of one analysed source: its events and samples in, its state out.

import { Notices } from "./notices.js";
import { bytes } from "./wire.js";

/** Reason of a face state: the face is not that of the person before. */
const OTHER_PERSON = "another person";

/**
 * @typedef {import("./protocol").FrameSample} FrameSample
 *
 * @typedef {object} Segment - a stage in time
 * @property {number} start - its first frame
 * @property {string[]} labels
 * @property {number} from - seconds since 1970
 * @property {number | null} to - seconds since 1970; null: it has not ended
 * @property {string[] | null} previous - labels of the stage before
 * @property {string} reason - why it began
 * @property {boolean} revised - whether its labels are those of a revision
 *
 * @typedef {object} Prototype
 * @property {string} label
 * @property {number} au
 * @property {string} letter
 * @property {number} at - frame at which it was named
 * @property {number} size - side of the thumbnails, cells
 * @property {number} top - cells with so much relevance belong to the projection
 * @property {Uint8Array} relevance
 * @property {Uint8Array | null} ghost - the face it was found on
 * @property {number | null} moved - cosine with what it was when young, once that is small
 * @property {number} count - stages that it is part of
 *
 * @typedef {{data: FrameSample, captured: number}} Frame - captured: seconds since 1970
 */

const KEEP_S = 200; // longer than the widest ribbon
const KEEP_FRAMES = 120; // messages that wait for their picture; 4 s at 30 frames per second
const DEFAULT_PERIOD_S = 1 / 30;

/**
 * Drop the oldest entries of a map that is filled in order.
 * @param {Map<number, unknown>} map
 * @param {number} size
 */
function bound(map, size) {
  for (const key of map.keys()) {
    if (map.size <= size) return;
    map.delete(key);
  }
}

export class Stream {
  /** @param {import("./protocol").StreamInfo} info */
  constructor(info) {
    this.id = info.id;
    this.name = info.name;
    this.number = info.number;
    /** @type {Map<number, Segment>} first frame → stage */
    this.segments = new Map();
    /** @type {{at: number, text: string}[]} gaps in the source, and changes of person */
    this.marks = [];
    /** @type {import("./markers.js").Mark[]} */
    this.markers = [];
    this.notices = new Notices();
    /** @type {Map<string, Prototype>} */
    this.prototypes = new Map();
    /** @type {Map<string, string>} label → the older label that stands for it */
    this.retired = new Map();
    /** @type {Set<string>} labels given up to make room */
    this.forgotten = new Set();
    /** @type {import("./protocol").FaceChanged | null} */
    this.face = null;
    /** @type {import("./protocol").SourceChanged | null} */
    this.source = null;
    /** @type {FrameSample | null} the latest */
    this.frame = null;
    this.captured = 0; // when the latest frame was grabbed
    this.period = DEFAULT_PERIOD_S;
    /** @type {Map<number, Frame>} */
    this.frames = new Map();
    /** @type {Map<number, import("./protocol").Heat>} */
    this.heats = new Map();
  }

  /** Forget everything but which stream this is. */
  reset() {
    Object.assign(this, new Stream(this));
  }

  /** The stage that has not ended, or null. */
  get stage() {
    /** @type {Segment | null} */
    let latest = null;
    for (const segment of this.segments.values()) {
      if (segment.to !== null) continue;
      if (latest === null || segment.start > latest.start) latest = segment;
    }
    return latest;
  }

  /**
   * Begin with the state at one moment.
   * @param {import("./protocol").Snapshot} snapshot
   * @param {number} from - when its stage began, as far as is known
   */
  join(snapshot, from) {
    this.reset();
    this.face = snapshot.face;
    this.source = snapshot.source;
    this.notices.join(snapshot.notices);
    if (snapshot.stage) this.enter(snapshot.stage, from);
    for (const segment of this.segments.values()) segment.revised = true;
  }

  /**
   * Take one event in.
   * @param {import("./wire.js").EventMessage} message
   * @param {number} captured - when the frame behind it was grabbed
   */
  event(message, captured) {
    switch (message.type) {
      case "stage.enter":
        this.enter(message.data, this.timeOf(message.data.start, message.data.at, captured));
        break;
      case "stage.exit":
        this.exit(message.data, this.timeOf(message.data.end + 1, message.data.at, captured));
        break;
      case "stage.revise":
        this.revise(message.data);
        break;
      case "prototype.new":
        this.addPrototype(message.data);
        break;
      case "prototype.retire":
        if (message.data.into === null) this.forgotten.add(message.data.label);
        else this.retired.set(message.data.label, message.data.into);
        break;
      case "prototype.update":
        this.updatePrototype(message.data);
        break;
      case "face.state":
        this.face = message.data;
        if (message.data.reason === OTHER_PERSON) {
          this.marks.push({ at: captured, text: OTHER_PERSON });
        }
        break;
      case "source.state":
        this.source = message.data;
        break;
      case "gap":
        this.marks.push({ at: captured, text: message.data.cause });
        break;
      case "marker": {
        const { text, start_s, end_s } = message.data;
        this.markers.push({ from: captured, to: captured + end_s - start_s, text });
        break;
      }
      default:
        this.notices.event(message);
    }
  }

  /**
   * When a frame was grabbed: it is in the past by the frames it took to be sure.
   * @param {number} frame
   * @param {number} at - a later frame
   * @param {number} captured - when the later frame was grabbed
   */
  timeOf(frame, at, captured) {
    return captured - Math.max(0, at - frame) * this.period;
  }

  /**
   * @param {import("./protocol").StageEnter} data
   * @param {number} from
   */
  enter(data, from) {
    for (const other of this.segments.values()) {
      if (other.start < data.start && (other.to === null || other.to > from)) other.to = from;
    }
    const known = this.segments.get(data.start);
    const revised = known?.revised ?? false;
    const labels = known && revised ? known.labels : data.labels;
    const to = known?.to ?? null;
    const { start, previous, reason } = data;
    this.segments.set(start, { start, labels, from, to, previous, reason, revised });
    if (!known) this.count(labels);
  }

  /**
   * @param {import("./protocol").StageExit} data
   * @param {number} to
   */
  exit(data, to) {
    const segment = this.segments.get(data.start);
    if (segment) segment.to = to;
  }

  /** @param {import("./protocol").StageRevise} data */
  revise(data) {
    const segment = this.segments.get(data.start);
    if (!segment) return;
    this.count(segment.labels, -1);
    this.count(data.labels);
    segment.labels = data.labels;
    segment.revised = true;
  }

  /**
   * Count a stage for each of its prototypes.
   * @param {string[]} labels
   */
  count(labels, by = 1) {
    for (const label of labels) {
      const prototype = this.prototypes.get(label);
      if (prototype) prototype.count += by;
    }
  }

  /**
   * The label that stands for this one today, which may have been retired; often the same.
   * @param {string} label
   */
  standing(label) {
    const seen = new Set();
    let current = label;
    for (;;) {
      const older = this.retired.get(current);
      if (older === undefined || seen.has(current)) return current;
      seen.add(current);
      current = older;
    }
  }

  /** @param {import("./protocol").PrototypeNew} data */
  addPrototype(data) {
    const { label, au, letter, at, size, top } = data;
    const stages = [...this.segments.values()];
    const seen = () => stages.filter((segment) => segment.labels.includes(label)).length;
    this.prototypes.set(label, {
      label,
      au,
      letter,
      at,
      size,
      top,
      relevance: bytes(data.data),
      ghost: data.face ? bytes(data.face) : null,
      moved: null,
      count: this.prototypes.get(label)?.count ?? seen(),
    });
  }

  /**
   * Show what a prototype is now: it has moved far from what its letter meant.
   * @param {import("./protocol").PrototypeUpdate} data
   */
  updatePrototype(data) {
    const known = this.prototypes.get(data.label);
    if (!known) return;
    const { size, top, cosine } = data;
    const ghost = size === known.size ? known.ghost : null;
    const relevance = bytes(data.data);
    this.prototypes.set(data.label, { ...known, size, top, relevance, ghost, moved: cosine });
  }

  /**
   * Take a frame in, and learn how long one lasts.
   * @param {FrameSample} data
   * @param {number} captured
   */
  addFrame(data, captured) {
    const before = this.frame;
    if (before && data.frame > before.frame && captured > this.captured) {
      const period = (captured - this.captured) / (data.frame - before.frame);
      this.period += 0.1 * (Math.min(0.2, Math.max(0.005, period)) - this.period);
    }
    this.frame = data;
    this.captured = captured;
    this.frames.set(data.frame, { data, captured });
    bound(this.frames, KEEP_FRAMES);
  }

  /** @param {import("./protocol").Heat} data */
  addHeat(data) {
    this.heats.set(data.frame, data);
    bound(this.heats, KEEP_FRAMES);
  }

  /**
   * Forget what has left the widest ribbon.
   * @param {number} now
   */
  trim(now) {
    for (const [start, segment] of this.segments) {
      if (segment.to !== null && segment.to < now - KEEP_S) this.segments.delete(start);
    }
    this.marks = this.marks.filter((mark) => mark.at > now - KEEP_S);
    this.markers = this.markers.filter((mark) => mark.to > now - KEEP_S);
  }
}
