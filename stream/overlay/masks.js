// @ts-check
// The masks of one frame, made ready to be painted: filled, outlined, and split into their parts.

import { rgb } from "./units.js";
import { bytes } from "./wire.js";

/**
 * @typedef {{mass: number, u: number, v: number}} Part - weight and centre of mass, in cells
 *
 * @typedef {object} ReadyMask
 * @property {number} au
 * @property {string} label
 * @property {string} colour
 * @property {ImageData} tile
 * @property {number} size - its side, cells
 * @property {Float32Array} outline - see {@link contour}
 * @property {Part[]} parts
 */

const CONTOUR_LEVELS = [0.4, 0.55, 0.28]; // AUs that look at the same place get nested lines

/**
 * Outline a mask by marching squares on its lightly blurred support, which drops single cells.
 * @param {Uint8Array} cells
 * @param {number} size
 * @param {number} level
 * @returns {Float32Array} x0, y0, x1, y1 of each piece, in mask coordinates
 */
function contour(cells, size, level) {
  const field = new Float32Array((size + 2) * (size + 2)); // one empty cell around closes the line
  const width = size + 2;
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      if (!cells[y * size + x]) continue;
      for (let dy = 0; dy < 3; dy += 1) {
        for (let dx = 0; dx < 3; dx += 1) {
          const weight = (dx === 1 ? 2 : 1) * (dy === 1 ? 2 : 1);
          field[(y + dy) * width + x + dx] += weight / 16;
        }
      }
    }
  }
  /** @type {number[]} */
  const pieces = [];
  /** @type {(a: number, b: number) => number} */
  const cut = (a, b) => (level - a) / (b - a);
  for (let y = 0; y + 1 < width; y += 1) {
    for (let x = 0; x + 1 < width; x += 1) {
      const i = y * width + x;
      const [a, b, c, d] = [field[i], field[i + 1], field[i + width + 1], field[i + width]];
      const ends = [];
      if (a >= level !== b >= level) ends.push(x + cut(a, b), y);
      if (b >= level !== c >= level) ends.push(x + 1, y + cut(b, c));
      if (c >= level !== d >= level) ends.push(x + cut(d, c), y + 1);
      if (d >= level !== a >= level) ends.push(x, y + cut(a, d));
      for (let k = 0; k + 3 < ends.length; k += 4) pieces.push(...ends.slice(k, k + 4));
    }
  }
  // field[1][1] is the centre of cell (0, 0), at (0.5, 0.5)
  return Float32Array.from(pieces, (value) => value - 0.5);
}

/**
 * Split a mask into its connected parts. A smile marks two corners; the centre of the whole would
 * point at neither.
 * @param {Uint8Array} cells
 * @param {number} size
 */
function split(cells, size) {
  const seen = new Uint8Array(cells.length);
  /** @type {Part[]} */
  const parts = [];
  for (let seed = 0; seed < cells.length; seed += 1) {
    if (!cells[seed] || seen[seed]) continue;
    const sum = { mass: 0, u: 0, v: 0 };
    const queue = [seed];
    seen[seed] = 1;
    for (let i = queue.pop(); i !== undefined; i = queue.pop()) {
      const [x, y] = [i % size, Math.floor(i / size)];
      sum.mass += cells[i];
      sum.u += cells[i] * (x + 0.5);
      sum.v += cells[i] * (y + 0.5);
      for (let near = 0; near < 9; near += 1) {
        const [nx, ny] = [x + (near % 3) - 1, y + Math.floor(near / 3) - 1];
        const j = ny * size + nx;
        if (nx < 0 || ny < 0 || nx >= size || ny >= size || seen[j] || !cells[j]) continue;
        seen[j] = 1;
        queue.push(j);
      }
    }
    parts.push({ mass: sum.mass, u: sum.u / sum.mass, v: sum.v / sum.mass });
  }
  return parts;
}

/**
 * Decode, fill and outline the masks of one frame that are to be drawn.
 * @param {import("./protocol").Heat} heat
 * @param {import("./units.js").Units} units
 * @param {{chosen: number[], fill: boolean}} wish - AUs; and whether they are filled
 * @returns {ReadyMask[]}
 */
export function readyMasks(heat, units, { chosen, fill }) {
  const masks = chosen.flatMap((au) => heat.masks.filter((mask) => mask.au === au));
  // Many AUs share the face: the more there are, the more the lines must do alone.
  const faint = fill ? (masks.length > 3 ? 32 : 55) : 0;
  return masks.map(({ au, label, data }, i) => {
    const cells = bytes(data);
    const colour = units.colour(au);
    const [red, green, blue] = rgb(colour);
    const tile = new ImageData(heat.size, heat.size);
    for (let k = 0; k < cells.length; k += 1) {
      if (!cells[k] || !faint) continue;
      tile.data.set([red, green, blue, faint + (cells[k] * 2 * faint) / 255], k * 4);
    }
    const level = CONTOUR_LEVELS[i % CONTOUR_LEVELS.length];
    const outline = contour(cells, heat.size, level);
    return { au, label, colour, tile, size: heat.size, outline, parts: split(cells, heat.size) };
  });
}
