// @ts-check
// The Action Units of the model that the server runs: names, colours, and how far to trust them.

/** @typedef {import("./protocol").ActionUnit} ActionUnit */

const NEUTRAL = "#9aa6b2"; // colour of an Action Unit that is not known

/** @type {Record<string, string>} */
const MARKS = { B: "weak", C: "poor" }; // by the grade of an Action Unit

/**
 * What the word of warning means.
 * @type {Record<string, string>}
 */
export const MARK_MEANS = {
  weak: "weak: the network recognises it less well on real faces (grade B); take it with care",
  poor: "poor: the network fails on it on real faces (grade C); shown because it was asked for",
};

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
  }

  /** @param {ActionUnit[]} units */
  replace(units) {
    this.byNumber = new Map(units.map((unit) => [unit.au, unit]));
  }

  /** All of them, in the model's order. */
  get all() {
    return [...this.byNumber.values()];
  }

  /**
   * Name of an Action Unit; "" if it is not known.
   * @param {number | undefined} au
   */
  name(au) {
    return this.find(au)?.name ?? "";
  }

  /**
   * Colour of an Action Unit as "#rrggbb", whatever the server said.
   * @param {number | undefined} au
   */
  colour(au) {
    const colour = this.find(au)?.colour ?? "";
    return /^#[0-9a-f]{6}$/i.test(colour) ? colour : NEUTRAL;
  }

  /**
   * The word of warning that belongs beside an Action Unit; "" for one that needs none.
   * @param {number | undefined} au
   */
  mark(au) {
    return MARKS[this.find(au)?.grade ?? ""] ?? "";
  }

  /** @param {number | undefined} au */
  find(au) {
    return au === undefined ? undefined : this.byNumber.get(au);
  }
}
