// @ts-check
// The Action Units of the model that the server runs: names, colours, and how far to trust them.

import { sayOr } from "./language.js";
import { Palette } from "./palette.js";

/** @typedef {import("./protocol").ActionUnit} ActionUnit */

/** @type {Record<string, string>} */
const MARKS = { B: "weak", C: "poor" }; // by the grade of an Action Unit

/**
 * What a word of warning means; "" for none.
 * @param {string} mark
 */
export function meaning(mark) {
  return mark ? sayOr(`mark.${mark}.means`, mark) : "";
}

/**
 * Split "#rrggbb" into red, green and blue, 0–255.
 * @param {string} colour
 * @returns {[number, number, number]}
 */
export function rgb(colour) {
  const value = Number.parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

export class Units {
  constructor() {
    /** @type {Map<number, ActionUnit>} */
    this.byNumber = new Map();
    this.palette = new Palette();
  }

  /** @param {ActionUnit[]} units */
  replace(units) {
    this.byNumber = new Map(units.map((unit) => [unit.au, unit]));
    this.palette.reset();
  }

  /** All of them, in the model's order. */
  get all() {
    return [...this.byNumber.values()];
  }

  /**
   * Name of an Action Unit in the reader's language; "" if it is not known.
   * @param {number | undefined} au
   */
  name(au) {
    const name = this.find(au)?.name ?? "";
    return name && sayOr(`au.${au}`, name);
  }

  /**
   * Colour of an Action Unit now, as "#rrggbb"; see the palette.
   * @param {number | undefined} au
   */
  colour(au) {
    return this.palette.colour(au);
  }

  /**
   * The word of warning that belongs beside an Action Unit; "" for one that needs none.
   * @param {number | undefined} au
   */
  mark(au) {
    return MARKS[this.find(au)?.grade ?? ""] ?? "";
  }

  /**
   * The same in the reader's language.
   * @param {number | undefined} au
   */
  markWord(au) {
    const mark = this.mark(au);
    return mark && sayOr(`mark.${mark}`, mark);
  }

  /** @param {number | undefined} au */
  find(au) {
    return au === undefined ? undefined : this.byNumber.get(au);
  }
}
