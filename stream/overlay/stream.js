// @ts-check
// What is known of one analysed source: its events and samples in, its state out.

import { Apart } from "./apart.js";
import { compareStages, lettersOf } from "./changes.js";
import { Notices } from "./notices.js";
import { Series } from "./series.js";
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
 * @property {[name: string, share: number][]} regions - of the face, the weightiest first
 * @property {number} count - stages that it is part of
 *
 * @typedef {{data: FrameSample, captured: number}} Frame - captured: seconds since 1970
 */

const KEEP_S = 8 * 3600; // the widest ribbon
const KEEP_STAGES = 20_000; // of them at most: a stage for every one and a half seconds of it
const KEEP_CHANGES = 10_000;
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
    /** @type {Segment[] | null} the same by time; null: to be sorted anew */
    this.sorted = null;
    /** @type {import("./changes.js").Change[]} by time */
    this.changes = [];
    this.series = new Series();
    this.apart = new Apart();
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
    const { aus } = this.apart;
    Object.assign(this, new Stream(this));
    this.apart.only([...aus]);
  }

  /** The stage that has not ended, or null. */
  get stage() {
    const last = this.stages.at(-1);
    return last && last.to === null ? last : null;
  }

  /** All stages that are kept, by their first frame. */
  get stages() {
    this.sorted ??= [...this.segments.values()].sort((first, second) => first.start - second.start);
    return this.sorted;
  }

  /**
   * The stages that any part of a time belongs to.
   * @param {number} from - seconds since 1970
   * @param {number} to
   */
  between(from, to) {
    const { stages } = this;
    let first = stages.length;
    while (first > 0 && (stages[first - 1].to ?? Infinity) > from) first -= 1;
    let last = first;
    while (last < stages.length && stages[last].from < to) last += 1;
    return stages.slice(first, last);
  }

  /**
   * The stage at a time; null where none is known.
   * @param {number} time - seconds since 1970
   */
  stageAt(time) {
    return this.between(time, time + 1e-6).at(-1) ?? null;
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
        this.noteChange(message.data, captured);
        break;
      case "stage.exit":
        this.exit(message.data, this.timeOf(message.data.end + 1, message.data.at, captured));
        break;
      case "stage.revise":
        this.revise(message.data);
        this.noteChange(message.data, captured);
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
    const segment = { start, labels, from, to, previous, reason, revised };
    this.segments.set(start, segment);
    const last = this.sorted?.at(-1)?.start ?? Infinity;
    if (start > last) this.sorted?.push(segment); // the usual case, of thousands
    else this.sorted = null;
    if (!known) this.count(labels);
  }

  /**
   * Note what changed with a stage that began, or with what it turned out to be.
   * @param {import("./protocol").StageEnter | import("./protocol").StageRevise} data
   * @param {number} known - when that was
   */
  noteChange(data, known) {
    const segment = this.segments.get(data.start);
    if (!segment) return;
    const { start, from, labels, reason } = segment;
    const before = this.stageBefore(start)?.labels ?? segment.previous ?? [];
    const told = "changes" in data ? data.changes : [];
    const items = compareStages(before, labels, (au) => this.letterBefore(start, au), told);
    const change = { start, at: from, known, why: reason, items };
    const place = this.changes.findIndex((other) => other.start >= start);
    if (place < 0) this.changes.push(change);
    else this.changes.splice(place, this.changes[place].start === start ? 1 : 0, change);
    if (this.changes.length > KEEP_CHANGES) this.changes.shift();
  }

  /**
   * What changed with a stage; null where that is not known.
   * @param {number} start - its first frame
   */
  changeOf(start) {
    for (let i = this.changes.length - 1; i >= 0; i -= 1) {
      if (this.changes[i].start === start) return this.changes[i];
      if (this.changes[i].start < start) return null;
    }
    return null;
  }

  /** @param {number} start - first frame of a stage */
  stageBefore(start) {
    const { stages } = this;
    for (let i = stages.length - 1; i >= 0; i -= 1) if (stages[i].start < start) return stages[i];
    return null;
  }

  /**
   * The letter that an Action Unit had when it was last seen before a stage; "" if there is none.
   * @param {number} start - first frame of the stage
   * @param {number} au
   */
  letterBefore(start, au) {
    const { stages } = this;
    for (let i = stages.length - 1; i >= 0; i -= 1) {
      const letter = stages[i].start < start ? lettersOf(stages[i].labels).get(au) : undefined;
      if (letter) return letter;
    }
    return "";
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
      regions: data.regions ?? [],
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
    this.series.add(captured, seriesOf(data));
    this.apart.take(data, captured);
  }

  /** @param {import("./protocol").Heat} data */
  addHeat(data) {
    this.heats.set(data.frame, data);
    bound(this.heats, KEEP_FRAMES);
  }

  /**
   * Forget what has left the widest ribbon, and the oldest of what is too much.
   * @param {number} now
   */
  trim(now) {
    const surplus = this.segments.size - KEEP_STAGES;
    let seen = 0;
    for (const [start, segment] of this.segments) {
      const old = segment.to !== null && segment.to < now - KEEP_S;
      if (!old && seen >= surplus) break; // they came in the order of time
      this.segments.delete(start);
      this.sorted = null;
      seen += 1;
    }
    const first = now - KEEP_S;
    this.apart.trim(first);
    while (this.changes.length && this.changes[0].at < first) this.changes.shift();
    while (this.marks.length && this.marks[0].at < first) this.marks.shift();
    this.markers = this.markers.filter((mark) => mark.to > first);
  }
}

/**
 * What of a frame is drawn as curves: the presence of each Action Unit that was judged, and scores.
 * @param {FrameSample} sample
 * @returns {Iterable<[name: string, value: number | null]>}
 */
function* seriesOf(sample) {
  for (const value of sample.aus) yield [`AU${value.au}`, value.adjusted ?? value.presence];
  for (const score of sample.scores ?? []) yield [`score ${score.name}`, score.value];
}
