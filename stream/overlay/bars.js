// @ts-check
// One row per Action Unit, in fixed places: presence as a bar with the tick at which it counts as
// present, intensity as the FACS letter A–E. The bar is the presence that was judged, by its rise over
// this person's rest level; a thin line shows how far the network's own reached.

import { make } from "./dom.js";
import { MARK_MEANS } from "./units.js";

const FACS = ["–", "A", "B", "C", "D", "E"];

/**
 * @typedef {import("./protocol").ActionUnit} ActionUnit
 * @typedef {import("./protocol").ActionUnitValue} ActionUnitValue
 *
 * @typedef {object} Row
 * @property {ActionUnit} unit
 * @property {HTMLElement} row
 * @property {HTMLElement} track
 * @property {HTMLElement} raw
 * @property {HTMLElement} fill
 * @property {HTMLElement} code
 * @property {HTMLElement} intensity
 */

export class Bars {
  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} hidden - which Action Units are left out is written here
   * @param {import("./units.js").Units} units
   */
  constructor(list, hidden, units) {
    this.list = list;
    this.hidden = hidden;
    this.units = units;
    /** @type {Row[]} */
    this.rows = [];
  }

  /** Make the rows anew, for the Action Units known now. */
  build() {
    const shown = this.units.all.filter((unit) => unit.shown ?? true);
    const hidden = this.units.all.filter((unit) => !(unit.shown ?? true));
    this.hidden.textContent = hidden.length ? `${hidden.length} not used · ` : "";
    this.hidden.title = hidden.map((unit) => `${unit.code} ${unit.name}`).join(", ");
    this.rows = shown.map((unit) => this.buildRow(unit));
    this.list.replaceChildren(...this.rows.map((row) => row.row));
    this.list.classList.toggle("marked", shown.some((unit) => this.units.mark(unit.au)));
    this.list.style.setProperty("--rows-of-two", String(Math.ceil(shown.length / 2)));
    this.list.style.setProperty("--rows-of-three", String(Math.ceil(shown.length / 3)));
  }

  /**
   * @param {ActionUnit} unit
   * @returns {Row}
   */
  buildRow(unit) {
    const mark = this.units.mark(unit.au);
    const raw = make("i", "raw");
    const fill = make("i", "fill");
    const tick = make("i", "tick");
    const track = make("div", "track", raw, fill, tick);
    const code = make("span", "code", unit.code);
    const intensity = make("span", "intensity", "");
    const name = make("span", "name", code, ...(mark ? [make("em", "mark", mark)] : []));
    const row = make("li", "bar", name, track, intensity);
    row.style.setProperty("--au", unit.colour);
    tick.style.setProperty("left", `${unit.on * 100}%`);
    track.setAttribute("role", "meter");
    const warned = mark ? `, ${mark}` : "";
    track.setAttribute("aria-label", `${unit.code} ${unit.name}${warned}, presence`);
    track.setAttribute("aria-valuemin", "0");
    track.setAttribute("aria-valuemax", "1");
    const limits = `present from ${unit.on} until below ${unit.off}`;
    row.title = [`${unit.code} ${unit.name}; ${limits}`, MARK_MEANS[mark]]
      .filter(Boolean)
      .join("\n");
    return { unit, row, track, raw, fill, code, intensity };
  }

  /**
   * Show the values of one frame; without any (no face) the bars are empty, not zero.
   * @param {import("./protocol").FrameSample | null} sample
   */
  show(sample) {
    const values = new Map((sample?.aus ?? []).map((value) => [value.au, value]));
    for (const row of this.rows) this.showRow(row, values.get(row.unit.au));
  }

  /**
   * @param {Row} row
   * @param {ActionUnitValue | undefined} value
   */
  showRow({ unit, row, track, raw, fill, code, intensity }, value) {
    const presence = value?.adjusted ?? value?.presence ?? 0; // what decided whether it is active
    const strength = value?.adjusted_intensity ?? value?.intensity ?? 0;
    const before = typeof value?.adjusted === "number" ? value.presence : null;
    row.classList.toggle("active", value?.active ?? false);
    row.classList.toggle("blank", !value);
    fill.style.transform = `scaleX(${presence.toFixed(3)})`;
    raw.style.transform = `scaleX(${before?.toFixed(3) ?? 0})`;
    code.textContent = value?.active && value.letter ? `${unit.code}_${value.letter}` : unit.code;
    const grade = Math.max(0, Math.min(5, Math.round(strength)));
    intensity.textContent = value?.active ? FACS[grade] : "";
    intensity.title = value ? `intensity ${strength.toFixed(1)} of 5` : "";
    track.title = before === null
      ? ""
      : `presence ${presence.toFixed(2)} over this person's rest level; as the network gives it: ${before.toFixed(2)}`;
    if (value) track.setAttribute("aria-valuenow", presence.toFixed(2));
    else track.removeAttribute("aria-valuenow");
  }
}
