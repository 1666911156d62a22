// @ts-check
// The patterns of the ribbon: of stages without an Action Unit, and of letters.

import { contextOf } from "./dom.js";

const LETTER_PATTERNS = 3; // letters of an AU take turns

/**
 * Make a small tile that is repeated over an area.
 * @param {CanvasRenderingContext2D} context - to be filled with it
 * @param {number} size
 * @param {string} background
 * @param {(pen: CanvasRenderingContext2D) => void} strokes
 */
function pattern(context, size, background, strokes) {
  const tile = document.createElement("canvas");
  tile.width = size;
  tile.height = size;
  const pen = contextOf(tile);
  pen.fillStyle = background;
  pen.fillRect(0, 0, size, size);
  strokes(pen);
  return context.createPattern(tile, "repeat") ?? background;
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {number} size - of the tile
 * @param {string} colour
 * @param {number} width
 * @param {boolean} both - whether lines run both ways
 */
function slashes(pen, size, colour, width, both) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.beginPath();
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift, size);
    pen.lineTo(shift + size, 0);
    if (both) {
      pen.moveTo(shift, 0);
      pen.lineTo(shift + size, size);
    }
  }
  pen.stroke();
}

/**
 * The letter's place in the alphabet, A = 0; AA = 26.
 * @param {string} letter
 */
function rank(letter) {
  let value = 0;
  for (const character of letter) value = value * 26 + character.charCodeAt(0) - 64;
  return value - 1;
}

export class Patterns {
  /**
   * @param {CanvasRenderingContext2D} context - to be filled with them
   * @param {import("./units.js").Units} units
   * @param {import("./theme.js").ThemeChoice} theme
   */
  constructor(context, units, theme) {
    this.context = context;
    this.units = units;
    this.theme = theme;
    /** @type {Map<string, CanvasPattern | string>} */
    this.made = new Map();
  }

  /** Pattern of a stage without an active Action Unit. */
  get none() {
    const { none, noneLine } = this.theme.inks;
    return this.find("NONE", 8, none, (pen) => slashes(pen, 8, noneLine, 1, false));
  }

  /** Pattern of a stage without a usable face. */
  get lost() {
    const { lost, lostLine } = this.theme.inks;
    return this.find("LOST", 8, lost, (pen) => slashes(pen, 8, lostLine, 1, true));
  }

  /**
   * Pattern of a letter, in the colour of its Action Unit.
   * @param {number} au
   * @param {string} letter
   */
  letter(au, letter) {
    const variant = rank(letter) % LETTER_PATTERNS;
    return this.find(`${au}.${variant}`, 6, this.units.colour(au), (pen) => {
      if (variant === 1) slashes(pen, 6, "rgba(11, 14, 17, 0.45)", 1.6, false);
      if (variant === 2) {
        pen.fillStyle = "rgba(11, 14, 17, 0.55)";
        pen.fillRect(2, 2, 2, 2);
      }
    });
  }

  /**
   * @param {string} name
   * @param {number} size
   * @param {string} background
   * @param {(pen: CanvasRenderingContext2D) => void} strokes
   */
  find(name, size, background, strokes) {
    const known = this.made.get(name);
    if (known) return known;
    const made = pattern(this.context, size, background, strokes);
    this.made.set(name, made);
    return made;
  }

  /** Colours have changed: patterns are made anew. */
  forget() {
    this.made.clear();
  }
}
