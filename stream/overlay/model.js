// @ts-check
// What the page knows: messages in, state out. No drawing here.

import { Stream } from "./stream.js";
import { Units } from "./units.js";

export const HISTORY_S = 600;
const CLOCK_STEP_S = 10; // no message that is still awaited is so late: a clock was set

export class Model {
  constructor() {
    /** @type {import("./protocol").Hello | null} */
    this.hello = null;
    /** @type {import("./protocol").Stats | null} */
    this.stats = null;
    /** @type {Map<string, Stream>} */
    this.streams = new Map();
    this.units = new Units();
    /** @type {import("./protocol").Cursor | null} of the last event taken in */
    this.cursor = null;
    this.complete = false; // whether everything up to the cursor has been taken in
    this.skew = Infinity; // local clock minus the server's, seconds
    this.told = 0; // the server's clock as it was last told, seconds since 1970
  }

  /** Now on the server's clock, seconds since 1970; where a recording is replayed, on its own. */
  now() {
    if (this.hello?.replay) return this.told;
    return Date.now() / 1000 - (Number.isFinite(this.skew) ? this.skew : 0);
  }

  /** Where to go on after a lost connection; null: begin anew. */
  since() {
    return this.complete ? this.cursor : null;
  }

  /**
   * Take one message in; return the stream it is about, if any.
   * @param {import("./wire.js").ServerMessage} message
   * @returns {Stream | null}
   */
  receive(message) {
    this.learnSkew(message);
    if (message.type === "hello") return this.greet(message.data);
    if (message.type === "resync") return this.forget();
    if (message.type === "stats") this.stats = message.data;
    const stream = this.streams.get(message.stream ?? "");
    if (!stream) return null;
    const emitted = message.t_emit ?? this.now();
    const captured = message.t_capture ?? emitted;
    if (message.seq !== null) {
      const seen = this.cursor?.seq ?? -Infinity;
      if (this.complete && message.seq <= seen) return null;
      if (message.seq > seen) this.cursor = { epoch: message.epoch ?? 0, seq: message.seq };
      stream.event(message, captured);
    } else if (message.type === "snapshot") {
      this.cursor = { epoch: message.epoch ?? 0, seq: message.data.seq };
      this.complete = false;
      // When the stage began is told by its event, if that is recent enough to be told again.
      stream.join(message.data, emitted - HISTORY_S);
    } else if (message.type === "frame") {
      this.complete = true; // samples come when all events have
      stream.addFrame(message.data, captured);
    } else if (message.type === "heat") {
      this.complete = true;
      stream.addHeat(message.data);
    }
    return stream;
  }

  /**
   * Compare the clocks. Replayed events are old; everything else was made just now, and the fastest
   * shows the skew, until either clock is set.
   * @param {import("./wire.js").ServerMessage} message
   */
  learnSkew(message) {
    if (message.t_emit !== null) this.told = message.t_emit;
    if (message.t_emit === null || message.seq !== null) return;
    const skew = Date.now() / 1000 - message.t_emit;
    this.skew = skew > this.skew + CLOCK_STEP_S ? skew : Math.min(this.skew, skew);
  }

  /** @param {import("./protocol").Hello} hello */
  greet(hello) {
    this.hello = hello;
    this.units.replace(hello.aus);
    if (this.cursor && this.cursor.epoch !== hello.epoch) this.forget();
    const ids = new Set(hello.streams.map((info) => info.id));
    for (const id of this.streams.keys()) if (!ids.has(id)) this.streams.delete(id);
    for (const info of hello.streams) {
      if (!this.streams.has(info.id)) this.streams.set(info.id, new Stream(info));
    }
    const apart = hello.aus.filter((unit) => !(unit.staged ?? true)).map((unit) => unit.au);
    for (const stream of this.streams.values()) stream.apart.only(apart);
    return null;
  }

  forget() {
    this.cursor = null;
    this.complete = false;
    for (const stream of this.streams.values()) stream.reset();
    return null;
  }
}
