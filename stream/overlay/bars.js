// One row per Action Unit, in fixed places: presence as a bar with the tick at which it counts as
// present, intensity as the FACS letter A–E. With a personal baseline the bar is the presence that was
// judged, and a thin line shows how far the network's own reached.

import { make } from "./dom.js";
import { MARK_MEANS } from "./model.js";

const FACS = ["–", "A", "B", "C", "D", "E"];

export class Bars {
  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} hidden - which Action Units are left out is written here
   * @param {(au: number) => string} mark - word of warning of an Action Unit
   */
  constructor(list, hidden, mark) {
    this.list = list;
    this.hidden = hidden;
    this.mark = mark;
    this.rows = new Map();
  }

  build(all) {
    const units = [...all.values()].filter((unit) => unit.shown ?? true);
    const hidden = [...all.values()].filter((unit) => !(unit.shown ?? true));
    this.hidden.textContent = hidden.length ? `${hidden.length} not used · ` : "";
    this.hidden.title = hidden.map((unit) => `${unit.code} ${unit.name}`).join(", ");
    this.rows.clear();
    this.list.replaceChildren(
      ...units.map((unit) => {
        const mark = this.mark(unit.au);
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
        this.rows.set(unit.au, { row, raw, fill, code, intensity, track, unit });
        return row;
      }),
    );
    this.list.classList.toggle("marked", units.some((unit) => this.mark(unit.au)));
    this.list.style.setProperty("--rows-of-two", String(Math.ceil(units.length / 2)));
    this.list.style.setProperty("--rows-of-three", String(Math.ceil(units.length / 3)));
  }

  /** Show the values of one frame; without any (no face) the bars are empty, not zero. */
  show(sample) {
    const values = new Map((sample?.aus ?? []).map((value) => [value.au, value]));
    for (const [au, { row, raw, fill, code, intensity, track, unit }] of this.rows) {
      const value = values.get(au);
      const presence = value?.adjusted ?? value?.presence ?? 0; // what decided whether it is active
      const strength = value?.adjusted_intensity ?? value?.intensity ?? 0;
      const lowered = typeof value?.adjusted === "number";
      row.classList.toggle("active", value?.active ?? false);
      row.classList.toggle("blank", !value);
      fill.style.transform = `scaleX(${presence.toFixed(3)})`;
      raw.style.transform = `scaleX(${lowered ? value.presence.toFixed(3) : 0})`;
      code.textContent = value?.active && value.letter ? `${unit.code}_${value.letter}` : unit.code;
      const grade = Math.max(0, Math.min(5, Math.round(strength)));
      intensity.textContent = value?.active ? FACS[grade] : "";
      intensity.title = value ? `intensity ${strength.toFixed(1)} of 5` : "";
      track.title = lowered
        ? `presence ${presence.toFixed(2)} against this person's face at rest; without: ${value.presence.toFixed(2)}`
        : "";
      if (value) track.setAttribute("aria-valuenow", presence.toFixed(2));
      else track.removeAttribute("aria-valuenow");
    }
  }
}
