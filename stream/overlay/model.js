// What the page knows: events in, state out. No drawing here.

const KEEP_S = 200; // longer than the widest ribbon
const KEEP_FRAMES = 120; // messages that wait for their picture; 4 s at 30 frames per second
const DEFAULT_PERIOD_S = 1 / 30;

export const HISTORY_S = 180;

const MARKS = { B: "weak", C: "poor" }; // by the grade of an Action Unit
export const MARK_MEANS = {
  weak: "weak: the network recognises it less well on real faces (grade B); take it with care",
  poor: "poor: the network fails on it on real faces (grade C); shown because it was asked for",
};

/** Decode base64 into bytes. */
export function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Split "AU12_B" into its number and letter; the letter is "" before it is given. */
export function splitLabel(label) {
  const match = /^AU(\d+)(?:_([A-Z]+))?$/.exec(label);
  return match ? { au: Number(match[1]), letter: match[2] ?? "" } : null;
}

/** The stage as the paper writes it. */
export function stageText(labels) {
  return `(${labels.join(", ")})`;
}

export class Stream {
  constructor(info) {
    this.id = info.id;
    this.name = info.name;
    this.number = info.number;
    this.reset();
  }

  reset() {
    // first frame → {start, labels, from, to, previous, reason}; from, to: seconds since 1970
    this.segments = new Map();
    this.marks = []; // {at, text}
    this.prototypes = new Map(); // label → {…, relevance, ghost, count}
    this.retired = new Map(); // label → the older label that stands for it
    this.forgotten = new Set(); // labels given up to make room
    this.face = null;
    this.source = null;
    this.frame = null; // the latest `frame` sample
    this.captured = 0; // when that frame was grabbed
    this.period = DEFAULT_PERIOD_S;
    this.frames = new Map();
    this.heats = new Map();
  }

  /** The stage that has not ended, or null. */
  get stage() {
    let latest = null;
    for (const segment of this.segments.values()) {
      if (segment.to !== null) continue;
      if (latest === null || segment.start > latest.start) latest = segment;
    }
    return latest;
  }

  enter(data, from) {
    for (const other of this.segments.values()) {
      if (other.start < data.start && (other.to === null || other.to > from)) other.to = from;
    }
    const known = this.segments.get(data.start);
    const labels = known?.revised ? known.labels : data.labels;
    const to = known?.to ?? null;
    const { start, previous, reason } = data;
    this.segments.set(start, { ...known, start, labels, from, to, previous, reason });
    if (!known) this.count(labels);
  }

  exit(data, at) {
    const segment = this.segments.get(data.start);
    if (segment) segment.to = at;
  }

  revise(data) {
    const segment = this.segments.get(data.start);
    if (!segment) return;
    this.count(segment.labels, -1);
    this.count(data.labels);
    segment.labels = data.labels;
    segment.revised = true;
  }

  count(labels, by = 1) {
    for (const label of labels) {
      const prototype = this.prototypes.get(label);
      if (prototype) prototype.count += by;
    }
  }

  /** The label that stands for this one today, which may have been retired; often the same. */
  standing(label) {
    const seen = new Set();
    let now = label;
    while (this.retired.has(now) && !seen.has(now)) {
      seen.add(now);
      now = this.retired.get(now);
    }
    return now;
  }

  addPrototype(data) {
    const known = this.prototypes.get(data.label);
    let count = known?.count ?? 0;
    if (!known) {
      for (const segment of this.segments.values()) count += segment.labels.includes(data.label);
    }
    this.prototypes.set(data.label, {
      label: data.label,
      au: data.au,
      letter: data.letter,
      at: data.at,
      size: data.size,
      top: data.top,
      relevance: bytes(data.data),
      ghost: data.face ? bytes(data.face) : null,
      moved: null, // cosine with what it was when young, once that is small
      count,
    });
  }

  /** Show what a prototype is now: it has moved far from what its letter meant. */
  updatePrototype(data) {
    const known = this.prototypes.get(data.label);
    if (!known) return;
    const { size, top, cosine } = data;
    const ghost = size === known.size ? known.ghost : null;
    const relevance = bytes(data.data);
    this.prototypes.set(data.label, { ...known, size, top, relevance, ghost, moved: cosine });
  }

  /** Forget what has left the widest ribbon. */
  trim(now) {
    for (const [start, segment] of this.segments) {
      if (segment.to !== null && segment.to < now - KEEP_S) this.segments.delete(start);
    }
    this.marks = this.marks.filter((mark) => mark.at > now - KEEP_S);
  }
}

/** Drop the oldest entries of a map that is filled in order. */
function bound(map, size) {
  for (const key of map.keys()) {
    if (map.size <= size) return;
    map.delete(key);
  }
}

export class Model {
  constructor() {
    this.hello = null;
    this.stats = null;
    this.streams = new Map();
    this.units = new Map(); // AU number → {au, code, name, colour, on, off, grade, shown}
    this.cursor = null; // {epoch, seq} of the last event taken in
    this.complete = false; // whether everything up to the cursor has been taken in
    this.skew = Infinity; // local clock minus the server's, seconds
  }

  /** The word of warning that belongs beside an Action Unit; "" for one that needs none. */
  mark(au) {
    return MARKS[this.units.get(au)?.grade] ?? "";
  }

  /** Now on the server's clock, seconds since 1970. */
  now() {
    return Date.now() / 1000 - (Number.isFinite(this.skew) ? this.skew : 0);
  }

  /** Where to go on after a lost connection; null: begin anew. */
  since() {
    return this.complete ? this.cursor : null;
  }

  /** Take one message in; return the stream it is about, if any. */
  receive(envelope) {
    const { type, data, seq, t_capture: captured, t_emit: emitted } = envelope;
    if (emitted !== null && (type === "heartbeat" || type === "hello" || seq === null)) {
      // Replayed events are old; everything else was made just now, and the fastest shows the skew.
      this.skew = Math.min(this.skew, Date.now() / 1000 - emitted);
    }
    if (type === "hello") return this.greet(data);
    if (type === "resync") return this.forget();
    if (type === "stats") this.stats = data;
    const stream = this.streams.get(envelope.stream);
    if (!stream) return null;
    if (seq !== null) {
      if (this.complete && seq <= this.cursor.seq) return null;
      if (this.cursor === null || seq > this.cursor.seq) {
        this.cursor = { epoch: envelope.epoch, seq };
      }
      this.event(stream, type, data, captured ?? emitted);
    } else if (type === "snapshot") {
      this.cursor = { epoch: envelope.epoch, seq: data.seq };
      this.join(stream, data, emitted);
    } else if (type === "frame") {
      this.complete = true; // samples come when all events have
      this.sample(stream, data, captured ?? emitted);
    } else if (type === "heat") {
      this.complete = true;
      stream.heats.set(data.frame, data);
      bound(stream.heats, KEEP_FRAMES);
    }
    return stream;
  }

  greet(hello) {
    this.hello = hello;
    this.units = new Map(hello.aus.map((unit) => [unit.au, unit]));
    if (this.cursor && this.cursor.epoch !== hello.epoch) this.forget();
    const ids = new Set(hello.streams.map((info) => info.id));
    for (const id of this.streams.keys()) if (!ids.has(id)) this.streams.delete(id);
    for (const info of hello.streams) {
      if (!this.streams.has(info.id)) this.streams.set(info.id, new Stream(info));
    }
    return null;
  }

  forget() {
    this.cursor = null;
    this.complete = false;
    for (const stream of this.streams.values()) stream.reset();
    return null;
  }

  join(stream, snapshot, now) {
    stream.reset();
    this.complete = false;
    stream.face = snapshot.face;
    stream.source = snapshot.source;
    // When the stage began is told by its event, if that is recent enough to be told again.
    if (snapshot.stage) stream.enter(snapshot.stage, now - HISTORY_S);
    for (const segment of stream.segments.values()) segment.revised = true;
  }

  event(stream, type, data, captured) {
    // `start` is in the past by the frames it took to be sure.
    const ago = (frame) => captured - Math.max(0, data.at - frame) * stream.period;
    switch (type) {
      case "stage.enter":
        stream.enter(data, ago(data.start));
        break;
      case "stage.exit":
        stream.exit(data, ago(data.end + 1));
        break;
      case "stage.revise":
        stream.revise(data);
        break;
      case "prototype.new":
        stream.addPrototype(data);
        break;
      case "prototype.retire":
        if (data.into === null) stream.forgotten.add(data.label);
        else stream.retired.set(data.label, data.into);
        break;
      case "prototype.update":
        stream.updatePrototype(data);
        break;
      case "face.state":
        stream.face = data;
        break;
      case "source.state":
        stream.source = data;
        break;
      case "gap":
        stream.marks.push({ at: captured, text: data.cause });
        break;
    }
  }

  sample(stream, data, captured) {
    const before = stream.frame;
    if (before && data.frame > before.frame && captured > stream.captured) {
      const period = (captured - stream.captured) / (data.frame - before.frame);
      stream.period += 0.1 * (Math.min(0.2, Math.max(0.005, period)) - stream.period);
    }
    stream.frame = data;
    stream.captured = captured;
    stream.frames.set(data.frame, { data, captured });
    bound(stream.frames, KEEP_FRAMES);
  }
}
