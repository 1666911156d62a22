// @ts-check
// The picture with the relevance over it. It is drawn only when the JPEG, the `frame` and the
// `heat` of the same frame are all here, so that what is marked is what was analysed.

import { Callouts } from "./callouts.js";
import { contextOf, fitCanvas } from "./dom.js";
import { drawFace } from "./face.js";
import { readyMasks } from "./masks.js";

const WAITING = 6; // JPEGs that wait for their messages
/**
 * Dark, light, then the AU's colour (null): it stands out from any skin and any background.
 * @type {[style: string | null, width: number][]}
 */
const LINES = [["rgba(0, 0, 0, 0.45)", 3], ["rgba(255, 255, 255, 0.85)", 2], [null, 1.4]];

/**
 * @typedef {import("./wire.js").Matrix} Matrix
 * @typedef {import("./masks.js").ReadyMask} ReadyMask
 *
 * @typedef {{scale: number, left: number, top: number}} View - where the frame lies on the canvas,
 *   canvas pixels
 *
 * @typedef {object} Scene - what is on show
 * @property {import("./protocol").FrameSample} sample
 * @property {number} captured - when it was grabbed, seconds since 1970
 * @property {import("./protocol").Heat} heat
 * @property {ImageBitmap | null} image - null: pictures are not expected
 * @property {ReadyMask[]} masks
 * @property {Matrix | null} matrix - null without a face
 *
 * @typedef {object} PictureOptions
 * @property {import("./units.js").Units} units
 * @property {() => boolean} video - whether pictures are expected
 * @property {() => {top: number, bottom: number}} reserved - heights kept free of labels, CSS pixels
 * @property {import("./settings.js").Settings} settings
 * @property {(active: number[], captured: number) => number[]} choose - whose relevance is drawn
 */

export class Picture {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {PictureOptions} options
   */
  constructor(canvas, options) {
    this.canvas = canvas;
    this.context = contextOf(canvas);
    this.options = options;
    this.scratch = document.createElement("canvas");
    /** @type {Map<number, ArrayBuffer>} JPEGs by frame */
    this.waiting = new Map();
    /** @type {Scene | null} */
    this.drawn = null;
    this.callouts = new Callouts(options.units);
    this.decoding = false;
    this.scheduled = false;
    this.turn = 0; // a picture that was decoded for an earlier turn is not drawn
    this.schedule();
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  reset() {
    this.waiting.clear();
    this.decoding = false;
    this.drawn = null;
    this.callouts.clear();
    this.turn += 1;
    this.schedule();
  }

  /** When the frame on show was grabbed, seconds since 1970; null before the first. */
  get captured() {
    return this.drawn?.captured ?? null;
  }

  /** Lower edge of the lowest mark on the face, CSS pixels from the top; null without any. */
  get lowest() {
    if (!this.drawn?.matrix || !this.canvas.width) return null;
    const [, , , d, e, f] = this.drawn.matrix;
    let lowest = -Infinity;
    for (const { outline } of this.drawn.masks) {
      for (let i = 0; i < outline.length; i += 2) {
        lowest = Math.max(lowest, d * outline[i] + e * outline[i + 1] + f);
      }
    }
    const { scale, top } = this.view(this.drawn);
    return Number.isFinite(lowest) ? (lowest * scale + top) / this.unit(1) : null;
  }

  /** Number of the frame on show; −1 before the first. */
  get shown() {
    return this.drawn?.sample.frame ?? -1;
  }

  /**
   * @param {number} frame
   * @param {ArrayBuffer} jpeg
   */
  offer(frame, jpeg) {
    this.waiting.set(frame, jpeg);
    for (const key of this.waiting.keys()) {
      if (this.waiting.size <= WAITING) break;
      this.waiting.delete(key);
    }
  }

  /**
   * Draw the newest frame of which everything is here.
   * @param {import("./stream.js").Stream} stream
   */
  async match(stream) {
    if (this.decoding) return;
    const video = this.options.video();
    const newest = this.newest(stream, video ? this.waiting : stream.heats);
    const frame = stream.frames.get(newest);
    const heat = stream.heats.get(newest);
    if (newest === this.shown || !frame || !heat) return;
    const image = video ? await this.decode(newest) : null;
    if (video && !image) return;
    this.put(frame.data, frame.captured, heat, image);
    if (this.waiting.size) this.match(stream);
  }

  /**
   * Show a frame: one that came now, or one of the past.
   * @param {import("./protocol").FrameSample} sample
   * @param {number} captured - when it was grabbed, seconds since 1970
   * @param {import("./protocol").Heat} heat - of the same frame
   * @param {ImageBitmap | null} image - of the same frame; null: there is none
   */
  put(sample, captured, heat, image) {
    if (image !== this.drawn?.image) this.drawn?.image?.close();
    const masks = this.readyMasks(heat, captured);
    this.drawn = { sample, captured, heat, image, masks, matrix: heat.matrix };
    this.callouts.follow(sample, masks, heat.matrix);
    this.schedule();
  }

  /**
   * @param {import("./protocol").Heat} heat
   * @param {number} captured
   */
  readyMasks(heat, captured) {
    const { units, choose, settings } = this.options;
    if (!settings.relevance) return [];
    const chosen = choose(heat.masks.map((mask) => mask.au), captured);
    return readyMasks(heat, units, { chosen, fill: settings.fill });
  }

  /** Draw the frame on show anew: what is chosen, its colours or the settings have changed. */
  refresh() {
    if (!this.drawn) return;
    const { sample, heat, captured } = this.drawn;
    this.drawn.masks = this.readyMasks(heat, captured);
    this.callouts.follow(sample, this.drawn.masks, heat.matrix);
    this.schedule();
  }

  /**
   * @param {import("./stream.js").Stream} stream
   * @param {Map<number, unknown>} candidates - by frame
   */
  newest(stream, candidates) {
    let newest = this.shown;
    for (const frame of candidates.keys()) {
      if (frame > newest && stream.frames.has(frame) && stream.heats.has(frame)) newest = frame;
    }
    return newest;
  }

  /**
   * Decode a JPEG that waits, and drop it with all older ones.
   * @param {number} frame
   * @returns {Promise<ImageBitmap | null>} null: it is not to be drawn
   */
  async decode(frame) {
    const { turn } = this;
    const jpeg = this.waiting.get(frame);
    if (!jpeg) return null;
    this.decoding = true;
    let image = null;
    try {
      image = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    } catch {
      this.waiting.delete(frame); // a broken picture is not drawn; the next one will be
    } finally {
      this.decoding = false;
    }
    if (turn !== this.turn) {
      image?.close();
      return null;
    }
    if (image) for (const key of this.waiting.keys()) if (key <= frame) this.waiting.delete(key);
    return image;
  }

  /** A copy of what is shown, with a drawn face in place of the real one. */
  withoutFace() {
    const { settings } = this.options;
    const { face } = settings;
    settings.face = false;
    this.paint();
    const copy = document.createElement("canvas");
    [copy.width, copy.height] = [this.canvas.width, this.canvas.height];
    contextOf(copy).drawImage(this.canvas, 0, 0);
    settings.face = face;
    this.paint();
    return copy;
  }

  resize() {
    if (fitCanvas(this.canvas).changed) this.schedule();
  }

  /**
   * @param {Scene} scene
   * @returns {View}
   */
  view({ sample: { width, height } }) {
    const scale = Math.min(this.canvas.width / width, this.canvas.height / height);
    return {
      scale,
      left: (this.canvas.width - width * scale) / 2,
      top: (this.canvas.height - height * scale) / 2,
    };
  }

  /** Paint with the next frame of the screen, once, however much arrives before it. */
  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.paint();
    });
  }

  paint() {
    const context = this.context;
    this.canvas.dataset.frame = String(this.shown);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.drawn || !this.canvas.width) return;
    const view = this.view(this.drawn);
    const { sample, image, masks, matrix } = this.drawn;
    this.canvas.dataset.drawn = masks.map((mask) => mask.au).join(" ");
    const { settings } = this.options;
    if (image && settings.face) {
      context.imageSmoothingQuality = "high";
      const [width, height] = [sample.width * view.scale, sample.height * view.scale];
      context.drawImage(image, view.left, view.top, width, height);
    }
    if (sample.face.box) this.paintBox(sample.face.box, view, sample.face.state);
    if (!matrix) return;
    if (!settings.face) this.paintFace(matrix, view, this.drawn.heat.size);
    const upwards = [...masks].reverse(); // the latest change lies on top
    for (const mask of upwards) this.paintFill(mask, matrix, view);
    for (const mask of upwards) this.paintOutline(mask, matrix, view);
    /** @param {number} pixels */
    const unit = (pixels) => this.unit(pixels);
    if (!settings.labels) return;
    this.callouts.paint({ context, view, unit, reserved: this.options.reserved() }, sample);
  }

  /**
   * Draw a plain face where the real one is.
   * @param {Matrix} matrix
   * @param {View} view
   * @param {number} size - of masks
   */
  paintFace(matrix, view, size) {
    this.enter(matrix, view);
    const cell = Math.hypot(matrix[0], matrix[3]) * view.scale; // canvas pixels
    drawFace(this.context, size, "#8b97a3", this.unit(1.5) / Math.max(0.01, cell));
    this.context.setTransform(1, 0, 0, 1, 0, 0);
  }

  /**
   * Paint the corners of the face's box: enough to see what is followed, little enough not to
   * cover the face.
   * @param {[x: number, y: number, width: number, height: number]} box
   * @param {View} view
   * @param {string} state
   */
  paintBox([x, y, width, height], view, state) {
    const context = this.context;
    const [left, top] = [view.left + x * view.scale, view.top + y * view.scale];
    const [right, bottom] = [left + width * view.scale, top + height * view.scale];
    const arm = Math.min(right - left, bottom - top) * 0.12;
    context.beginPath();
    for (const [x0, dx] of [[left, arm], [right, -arm]]) {
      for (const [y0, dy] of [[top, arm], [bottom, -arm]]) {
        context.moveTo(x0 + dx, y0);
        context.lineTo(x0, y0);
        context.lineTo(x0, y0 + dy);
      }
    }
    context.setLineDash(state === "low_quality" ? [4, 4] : []);
    context.lineWidth = this.unit(1.25);
    context.strokeStyle = "rgba(255, 255, 255, 0.55)";
    context.stroke();
    context.setLineDash([]);
  }

  /**
   * @param {ReadyMask} mask
   * @param {Matrix} matrix
   * @param {View} view
   */
  paintFill(mask, matrix, view) {
    const context = this.context;
    this.scratch.width = mask.size;
    this.scratch.height = mask.size;
    contextOf(this.scratch).putImageData(mask.tile, 0, 0);
    this.enter(matrix, view);
    context.imageSmoothingEnabled = true;
    context.drawImage(this.scratch, 0, 0);
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  /**
   * Draw in mask coordinates from here on.
   * @param {Matrix} matrix
   * @param {View} view
   */
  enter([a, b, c, d, e, f], { scale, left, top }) {
    const [x, y] = [c * scale + left, f * scale + top];
    this.context.setTransform(a * scale, d * scale, b * scale, e * scale, x, y);
  }

  /**
   * @param {ReadyMask} mask
   * @param {Matrix} matrix
   * @param {View} view
   */
  paintOutline(mask, matrix, view) {
    const context = this.context;
    this.enter(matrix, view);
    context.beginPath();
    for (let i = 0; i < mask.outline.length; i += 4) {
      context.moveTo(mask.outline[i], mask.outline[i + 1]);
      context.lineTo(mask.outline[i + 2], mask.outline[i + 3]);
    }
    context.setTransform(1, 0, 0, 1, 0, 0); // the line keeps its width, whatever the face's size
    context.lineCap = "round";
    for (const [style, width] of LINES) {
      context.strokeStyle = style ?? mask.colour;
      context.lineWidth = this.unit(width);
      context.stroke();
    }
  }

  /**
   * Canvas pixels of so many CSS pixels.
   * @param {number} pixels
   */
  unit(pixels) {
    return pixels * (this.canvas.width / Math.max(1, this.canvas.clientWidth));
  }
}
