// @ts-check
// The picture of one source with the relevance of its Action Units; both of the same frame, or none.

import { contextOf, fitCanvas, make } from "./dom.js";
import { bytes } from "./wire.js";

const KEPT = 8; // frames of which a picture or a heat waits for the other
const OPACITY = 0.55;

/**
 * @typedef {{bitmap?: ImageBitmap, heat?: import("./protocol").Heat, size?: [number, number]}} Parts
 */

export class KioskPicture {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(au: number) => string} colour - of an Action Unit
   */
  constructor(canvas, colour) {
    this.canvas = canvas;
    this.colour = colour;
    /** @type {Map<number, Parts>} by frame number */
    this.frames = new Map();
    this.drawn = -1;
  }

  /** Forget what was shown: it belongs to another run or epoch. */
  reset() {
    for (const { bitmap } of this.frames.values()) bitmap?.close();
    this.frames.clear();
    this.drawn = -1;
  }

  /**
   * @param {number} frame
   * @param {ArrayBuffer} jpeg
   */
  async offerPicture(frame, jpeg) {
    try {
      const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
      this.add(frame, { bitmap });
    } catch {
      // A picture that cannot be decoded is not shown; the next one comes.
    }
  }

  /** @param {import("./protocol").Heat} heat */
  offerHeat(heat) {
    this.add(heat.frame, { heat });
  }

  /** @param {import("./protocol").FrameSample} sample - the size of its picture is that of the heat's coordinates */
  offerSample(sample) {
    this.add(sample.frame, { size: [sample.width, sample.height] });
  }

  /**
   * @param {number} frame
   * @param {Parts} parts
   */
  add(frame, parts) {
    const known = { ...this.frames.get(frame), ...parts };
    this.frames.set(frame, known);
    if (known.bitmap && known.heat && known.size) this.draw(frame, known.bitmap, known.heat, known.size);
    for (const old of [...this.frames.keys()].slice(0, -KEPT)) {
      this.frames.get(old)?.bitmap?.close();
      this.frames.delete(old);
    }
  }

  /**
   * @param {number} frame
   * @param {ImageBitmap} bitmap
   * @param {import("./protocol").Heat} heat
   * @param {[number, number]} size - of the source's picture
   */
  draw(frame, bitmap, heat, [width, height]) {
    fitCanvas(this.canvas);
    const context = contextOf(this.canvas);
    const scale = Math.min(this.canvas.width / width, this.canvas.height / height);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.translate((this.canvas.width - width * scale) / 2, (this.canvas.height - height * scale) / 2);
    context.scale(scale, scale);
    context.drawImage(bitmap, 0, 0, width, height);
    if (heat.matrix) {
      const [a, b, c, d, e, f] = heat.matrix;
      context.transform(a, d, b, e, c, f);
      for (const mask of heat.masks) context.drawImage(this.layer(mask, heat.size), 0, 0);
    }
    this.drawn = frame;
    this.canvas.dataset.frame = String(frame);
    bitmap.close();
    this.frames.delete(frame);
  }

  /**
   * The projection of one Action Unit in its colour.
   * @param {import("./protocol").Mask} mask
   * @param {number} side - cells
   */
  layer(mask, side) {
    const layer = make("canvas", "");
    [layer.width, layer.height] = [side, side];
    const context = contextOf(layer);
    const image = context.createImageData(side, side);
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(this.colour(mask.au).slice(at, at + 2), 16));
    bytes(mask.data).forEach((value, cell) => {
      image.data.set([red, green, blue, value ? 255 * OPACITY : 0], 4 * cell);
    });
    context.putImageData(image, 0, 0);
    return layer;
  }
}
