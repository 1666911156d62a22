// @ts-check
// One row per Action Unit, in fixed places: presence as a bar with the tick at which it counts as
// present, intensity as a number, 0–5. The bar is the presence that was judged, by its rise over this
// person's rest level; a thin line shows how far the network's own reached. A row is also the switch of
// whether the relevance of its Action Unit is drawn: in its turn, always or never.

import { make, setText } from "./dom.js";
import { say } from "./language.js";
import { meaning } from "./units.js";

const MANY = 14; // more stand in three columns also where there is little room

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
 * @property {HTMLButtonElement} name
 * @property {HTMLElement} intensity
 */

export class Bars {
  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} hidden - which Action Units are left out is written here
   * @param {import("./units.js").Units} units
   * @param {import("./focus.js").Focus} focus
   * @param {() => void} focused - called when it has changed
   */
  constructor(list, hidden, units, focus, focused) {
    this.list = list;
    this.hidden = hidden;
    this.units = units;
    /** @type {Row[]} */
    this.rows = [];
    this.focus = focus;
    this.focused = focused;
  }

  /** Make the rows anew, for the Action Units known now. */
  build() {
    const shown = this.units.all.filter((unit) => unit.shown ?? true);
    const hidden = this.units.all.filter((unit) => !(unit.shown ?? true));
    this.hidden.textContent = hidden.length ? `${say("bars.unused", { count: hidden.length })} · ` : "";
    this.hidden.title = hidden.map((unit) => `${unit.code} ${this.units.name(unit.au)}`).join(", ");
    this.rows = shown.map((unit) => this.buildRow(unit));
    this.list.replaceChildren(...this.rows.map((row) => row.row));
    this.showFocus();
    this.list.classList.toggle("marked", shown.some((unit) => this.units.mark(unit.au)));
    this.list.classList.toggle("many", shown.length > MANY);
    this.list.style.setProperty("--rows-of-two", String(Math.ceil(shown.length / 2)));
    this.list.style.setProperty("--rows-of-three", String(Math.ceil(shown.length / 3)));
  }

  /**
   * @param {ActionUnit} unit
   * @returns {Row}
   */
  buildRow(unit) {
    const mark = this.units.markWord(unit.au);
    const raw = make("i", "raw");
    const fill = make("i", "fill");
    const tick = make("i", "tick");
    const track = make("div", "track", raw, fill, tick);
    const code = make("span", "code", unit.code);
    const intensity = make("span", "intensity", "");
    const name = make("button", "name", code, ...(mark ? [make("em", "mark", mark)] : []));
    name.type = "button";
    const row = make("li", "bar blank", name, track, intensity);
    tick.style.setProperty("left", `${unit.on * 100}%`);
    track.setAttribute("role", "meter");
    const full = `${unit.code} ${this.units.name(unit.au)}`;
    const warned = mark ? `, ${mark}` : "";
    track.setAttribute("aria-label", `${full}${warned}, ${say("bars.presence")}`);
    track.setAttribute("aria-valuemin", "0");
    track.setAttribute("aria-valuemax", "1");
    const limits = say("bars.limits", { on: unit.on, off: unit.off });
    row.title = [`${full}; ${limits}`, meaning(this.units.mark(unit.au))].filter(Boolean).join("\n");
    name.addEventListener("click", () => {
      this.focus.toggle(unit.au);
      this.showFocus();
      this.focused();
    });
    row.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse") this.point(unit.au);
    });
    row.addEventListener("pointerleave", () => this.point(null));
    name.addEventListener("focus", () => this.point(unit.au));
    name.addEventListener("blur", () => this.point(null));
    return { unit, row, track, raw, fill, code, name, intensity };
  }

  /** @param {number | null} au - that is pointed at */
  point(au) {
    this.focus.pointed = au;
    this.focused();
  }

  /** Show which are always and never drawn. */
  showFocus() {
    for (const { unit, row, name } of this.rows) {
      const state = this.focus.stateOf(unit.au);
      row.dataset.focus = state;
      name.setAttribute("aria-description", say(`bars.focus.${state}`));
    }
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
    row.style.setProperty("--au", this.units.colour(unit.au));
    setText(code, value?.active && value.letter ? `${unit.code}_${value.letter}` : unit.code);
    // Of what is not active the network says an intensity as well; it is no finding.
    setText(intensity, value?.active ? strength.toFixed(1) : "");
    intensity.title = value ? say("bars.intensity", { value: strength.toFixed(1) }) : "";
    const shown = { value: presence.toFixed(2), raw: before?.toFixed(2) ?? "" };
    track.title = before === null ? "" : say("bars.risen", shown);
    if (value) track.setAttribute("aria-valuenow", presence.toFixed(2));
    else track.removeAttribute("aria-valuenow");
  }
}
