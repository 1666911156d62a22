// @ts-check
// Looking back: the time on show, and how it goes on. Null is the present. What is shown of the past
// comes from the server's memory of the last minutes.

import { PastCache } from "./past.js";

export const SPEEDS = [0.25, 0.5, 1, 2, 4];
const AHEAD_S = 3;
const STEP_S = 1 / 30; // where no frame is known

/**
 * @typedef {object} PlayerOptions
 * @property {(wish: import("./protocol").PastWish) => boolean} ask
 * @property {() => import("./stream.js").Stream | null} stream - the one shown
 * @property {() => number} present - seconds since 1970
 * @property {import("./picture.js").Picture} picture
 * @property {() => boolean} video - whether pictures are expected
 * @property {() => void} changed - called when another time is on show, or it plays or stands
 */

export class Player {
  /** @param {PlayerOptions} options */
  constructor(options) {
    this.options = options;
    this.cache = new PastCache(options.ask);
    /** @type {number | null} seconds since 1970; null: the present */
    this.time = null;
    this.playing = false;
    this.speed = 1;
    this.ticked = 0;
    /** @type {number | null} when the frame on show was grabbed; null: none is shown */
    this.shown = null;
    this.decoding = false;
    this.running = false;
  }

  /** Another stream or another run of the server: what was known is void. */
  reset() {
    this.cache.reset();
    this.time = null;
    this.shown = null;
    this.playing = false;
  }

  /** @param {number} time - seconds since 1970; the present and later are live */
  lookAt(time) {
    const present = this.options.present();
    if (time >= present) return this.live();
    this.time = time;
    this.run();
    this.options.changed();
  }

  live() {
    if (this.time === null) return;
    this.time = null;
    this.shown = null;
    this.playing = false;
    this.options.picture.reset();
    this.options.changed();
  }

  /** Pause what is live or plays; play what stands. */
  toggle() {
    if (this.time === null) {
      this.playing = false;
      const captured = this.options.picture.captured ?? this.options.present();
      this.lookAt(Math.min(captured, this.options.present() - 0.01));
      return;
    }
    this.playing = !this.playing;
    this.ticked = performance.now();
    this.options.changed();
  }

  /** @param {1 | -1} way - frames */
  step(way) {
    if (this.time === null) return this.toggle();
    this.playing = false;
    const frame = this.cache.beside(this.frame?.captured ?? this.time, way);
    const near = frame && Math.abs(frame.captured - this.time) < 1;
    this.lookAt(near ? frame.captured : this.time + way * STEP_S);
  }

  /**
   * Go to the change before or after, that of an explanation, a face or an Action Unit.
   * @param {1 | -1} way
   */
  jump(way) {
    const stream = this.options.stream();
    if (!stream) return;
    const now = this.time ?? this.options.present();
    this.playing = false;
    const seen = stream.changes.filter(({ items }) => items[0]?.kind !== "named");
    const before = seen.filter(({ known }) => known < now - 1e-3);
    const next = way < 0 ? before[before.length - 1] : seen.find(({ known }) => known > now + 1e-3);
    if (next) this.lookAt(next.known);
    else if (way > 0) this.live();
  }

  /** @param {number} speed */
  setSpeed(speed) {
    this.speed = speed;
    this.options.changed();
  }

  run() {
    if (this.running) return;
    this.running = true;
    this.ticked = performance.now();
    const tick = () => {
      if (this.time === null) {
        this.running = false;
        return;
      }
      this.tick(performance.now());
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  /** @param {number} now - milliseconds */
  tick(now) {
    const passed = Math.min(0.5, (now - this.ticked) / 1000);
    this.ticked = now;
    if (this.time === null) return;
    if (this.playing) {
      this.time += passed * this.speed;
      if (this.time >= this.options.present()) {
        this.live();
        return;
      }
    }
    const stream = this.options.stream();
    if (!stream) return;
    const ahead = this.playing ? AHEAD_S * this.speed : 0;
    this.cache.want(stream.id, this.time, ahead);
    this.show();
  }

  /** Frame of the time on show; null where none is kept, or it has not come yet. */
  get frame() {
    return this.time === null ? null : this.cache.at(this.time);
  }

  /** Whether the server was asked and keeps nothing of the time on show. */
  get missing() {
    const { cache, time } = this;
    if (time === null || this.frame) return false;
    return cache.told && cache.waiting === null;
  }

  async show() {
    const { frame } = this;
    if (!frame || this.decoding || frame.captured === this.shown) return;
    const { picture, video } = this.options;
    let image = null;
    if (video() && frame.jpeg.length) {
      this.decoding = true;
      try {
        image = await createImageBitmap(new Blob([frame.jpeg], { type: "image/jpeg" }));
      } catch {
        image = null; // a broken picture is not drawn; its relevance is
      } finally {
        this.decoding = false;
      }
    }
    if (this.time === null) {
      image?.close();
      return;
    }
    this.shown = frame.captured;
    picture.put(frame.sample, frame.captured, frame.heat, image);
  }
}
