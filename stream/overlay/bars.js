// One row per Action Unit, in fixed places: presence as a bar with the tick at which it counts as
// present, intensity as the FACS letter A–E.

import { make } from "./dom.js";

const FACS = ["–", "A", "B", "C", "D", "E"];

export class Bars {
  constructor(list) {
    this.list = list;
    this.rows = new Map();
  }

  build(units) {
    this.rows.clear();
    this.list.replaceChildren(
      ...[...units.values()].map((unit) => {
        const fill = make("i", "fill");
        const tick = make("i", "tick");
        const track = make("div", "track", fill, tick);
        const code = make("span", "code", unit.code);
        const intensity = make("span", "intensity", "");
        const row = make("li", "bar", code, track, intensity);
        row.style.setProperty("--au", unit.colour);
        tick.style.setProperty("left", `${unit.on * 100}%`);
        track.setAttribute("role", "meter");
        track.setAttribute("aria-label", `${unit.code} ${unit.name}, presence`);
        track.setAttribute("aria-valuemin", "0");
        track.setAttribute("aria-valuemax", "1");
        row.title = `${unit.code} ${unit.name}; present from ${unit.on} until below ${unit.off}`;
        this.rows.set(unit.au, { row, fill, code, intensity, track, unit });
        return row;
      }),
    );
    this.list.style.setProperty("--rows-of-two", String(Math.ceil(units.size / 2)));
    this.list.style.setProperty("--rows-of-three", String(Math.ceil(units.size / 3)));
  }

  /** Show the values of one frame; without any (no face) the bars are empty, not zero. */
  show(sample) {
    const values = new Map((sample?.aus ?? []).map((value) => [value.au, value]));
    for (const [au, { row, fill, code, intensity, track, unit }] of this.rows) {
      const value = values.get(au);
      row.classList.toggle("active", value?.active ?? false);
      row.classList.toggle("blank", !value);
      fill.style.transform = `scaleX(${value ? value.presence.toFixed(3) : 0})`;
      code.textContent = value?.active && value.letter ? `${unit.code}_${value.letter}` : unit.code;
      const grade = value ? Math.max(0, Math.min(5, Math.round(value.intensity))) : 0;
      intensity.textContent = value?.active ? FACS[grade] : "";
      intensity.title = value ? `intensity ${value.intensity.toFixed(1)} of 5` : "";
      if (value) track.setAttribute("aria-valuenow", value.presence.toFixed(2));
      else track.removeAttribute("aria-valuenow");
    }
  }
}
