// @ts-check
// Colours of Action Units, given at run time: no two that are shown share one, and none of them
// merge for people who see no difference of red and green. There are eight such colours; an Action
// Unit keeps its colour until a ninth needs it more, and one without any is grey and told by its name.

/**
 * Found by search: the smallest distance of two (CIE 1976, L*a*b*) is 46 as they are, 28 as a
 * deuteranope and 28 as a protanope sees them (Machado et al. 2009, severity 1). Dark letters on any
 * of them have a contrast of at least 4.5.
 */
export const COLOURS = [
  "#22ddff",
  "#cc6600",
  "#bb33ff",
  "#eecc77",
  "#f2175a",
  "#99ffcc",
  "#9966cc",
  "#11ff00",
];
export const NEUTRAL = "#9aa6b2";

export class Palette {
  constructor() {
    /** @type {(number | null)[]} AU that has the colour of the same place */
    this.holders = COLOURS.map(() => null);
    /** @type {Map<number, number>} AU → turn in which it was shown last */
    this.shown = new Map();
    this.turn = 0;
    /** Grows whenever an Action Unit gets or loses a colour. */
    this.version = 0;
  }

  /**
   * Give colours to those that are on show, the most important first.
   * @param {Iterable<number>} aus
   */
  show(aus) {
    this.turn += 1;
    const wanted = [...new Set(aus)].slice(0, COLOURS.length);
    for (const au of wanted) this.shown.set(au, this.turn);
    for (const au of wanted) if (!this.holders.includes(au)) this.give(au);
  }

  /** @param {number} au */
  give(au) {
    let [place, oldest] = [-1, this.turn];
    this.holders.forEach((holder, i) => {
      const seen = holder === null ? -1 : (this.shown.get(holder) ?? -1);
      if (seen < oldest) [place, oldest] = [i, seen];
    });
    if (place < 0) return;
    this.holders[place] = au;
    this.version += 1;
  }

  /**
   * Colour of an Action Unit as "#rrggbb".
   * @param {number | undefined} au
   */
  colour(au) {
    const place = au === undefined ? -1 : this.holders.indexOf(au);
    return place < 0 ? NEUTRAL : COLOURS[place];
  }

  /** Another model: nobody has a colour. */
  reset() {
    this.holders.fill(null);
    this.shown.clear();
    this.version += 1;
  }
}
