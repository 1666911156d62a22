// @ts-check
// Frames of the past as the server keeps them: asked for around the time that is looked at, and kept
// here within bounds.

import { bytes } from "./wire.js";

/**
 * @typedef {object} PastFrame
 * @property {number} captured - when it was grabbed, seconds since 1970
 * @property {import("./protocol").FrameSample} sample
 * @property {import("./protocol").Heat} heat
 * @property {Uint8Array} jpeg - empty where pictures are not sent
 */

const PART_S = 2; // asked for at once
const MOST = 60; // frames in a part: all of them, at 30 a second
const KEEP_FRAMES = 600;
const KEEP_BYTES = 48 * 1024 * 1024;
const PAUSE_MS = 250; // the server takes five messages a second
const PATIENCE_MS = 4000; // then it is asked again
const NEAR_S = 0.75; // older frames do not show what was then

export class PastCache {
  /** @param {(wish: import("./protocol").PastWish) => boolean} ask - false: nobody can be asked now */
  constructor(ask) {
    this.ask = ask;
    /** @type {PastFrame[]} by time */
    this.frames = [];
    /** @type {Set<number>} parts that are here, as far as the server has them */
    this.parts = new Set();
    this.size = 0; // bytes
    /** @type {number | null} part that was asked for and has not come yet */
    this.waiting = null;
    this.askedAt = -Infinity;
    this.told = false; // whether the server has said what it keeps
  }

  reset() {
    Object.assign(this, new PastCache(this.ask));
  }

  /**
   * Ask for what is around a time and not here yet.
   * @param {string} stream - its id
   * @param {number} time - seconds since 1970
   * @param {number} ahead - seconds of it that will be wanted next; less than 0: of before it
   */
  want(stream, time, ahead) {
    const now = performance.now();
    if (now - this.askedAt < PAUSE_MS) return;
    const here = Math.floor(time / PART_S);
    const there = Math.floor((time + ahead) / PART_S);
    const step = there < here ? -1 : 1;
    for (let part = here; part !== there + step; part += step) {
      if (this.parts.has(part)) continue;
      const lost = now - this.askedAt > PATIENCE_MS;
      if (this.waiting === part && !lost) return;
      if (this.waiting !== null && part !== here && !lost) return; // first what is looked at now
      const from_s = part * PART_S;
      if (!this.ask({ stream, from_s, to_s: from_s + PART_S, most: MOST })) return;
      this.waiting = part;
      this.askedAt = now;
      return;
    }
  }

  /** @param {import("./protocol").PastFrames} answer */
  take(answer) {
    this.told = true;
    const known = new Set(this.frames.map((frame) => frame.captured));
    for (const one of answer.frames) {
      if (known.has(one.t_capture)) continue;
      const jpeg = bytes(one.picture);
      this.frames.push({ captured: one.t_capture, sample: one.frame, heat: one.heat, jpeg });
      this.size += jpeg.length;
    }
    this.frames.sort((one, other) => one.captured - other.captured);
    if (!answer.done) return;
    const part = Math.round(answer.from_s / PART_S);
    if (part === this.waiting) this.waiting = null;
    // What is not over yet is asked for again.
    if (answer.last_s !== null && answer.last_s >= answer.to_s) this.parts.add(part);
    this.forget(answer.from_s);
  }

  /**
   * Forget the frames farthest from a time, where there are too many.
   * @param {number} time - seconds since 1970
   */
  forget(time) {
    while (this.frames.length > KEEP_FRAMES || this.size > KEEP_BYTES) {
      const [first, last] = [this.frames[0], this.frames[this.frames.length - 1]];
      const early = time - first.captured > last.captured - time;
      const gone = early ? this.frames.shift() : this.frames.pop();
      if (!gone) return;
      this.size -= gone.jpeg.length;
      this.parts.delete(Math.floor(gone.captured / PART_S));
    }
  }

  /**
   * The last frame by a time, if it is near enough to show what was then.
   * @param {number} time - seconds since 1970
   * @returns {PastFrame | null}
   */
  at(time) {
    const place = this.place(time + 1e-6) - 1;
    const frame = this.frames[place];
    return frame && time - frame.captured < NEAR_S ? frame : null;
  }

  /**
   * The frame after or before a time.
   * @param {number} time - seconds since 1970
   * @param {1 | -1} way
   * @returns {PastFrame | null}
   */
  beside(time, way) {
    const place = way > 0 ? this.place(time + 1e-6) : this.place(time - 1e-6) - 1;
    return this.frames[place] ?? null;
  }

  /**
   * Place of the first frame that is not before a time.
   * @param {number} time
   */
  place(time) {
    let [low, high] = [0, this.frames.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.frames[middle].captured < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
