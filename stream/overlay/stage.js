// @ts-check
// The stage now: a chip per label, and since when and why it is.

import { byId, make, setText } from "./dom.js";
import { whyWords } from "./headline.js";
import { splitLabel, stageText } from "./labels.js";
import { say } from "./language.js";
import { meaning } from "./units.js";

const CROWDS = ["few", "some", "more", "many", "most"]; // sizes of the chips, large to small

export class StagePanel {
  /**
   * @param {import("./units.js").Units} units
   * @param {(labels: string[], other: boolean) => void} changed - called when another stage is
   *     shown, or another person begins
   */
  constructor(units, changed) {
    this.units = units;
    this.changed = changed;
    this.title = byId("stage-title", HTMLElement);
    this.chips = byId("chips", HTMLElement);
    this.since = byId("since", HTMLElement);
    /** @type {string | null} */
    this.text = null;
    /** @type {number | null} first frame of the stage shown */
    this.start = null;
    this.coloured = -1; // version of the palette that the chips have
    new ResizeObserver(() => this.fit()).observe(byId("stage", HTMLElement));
  }

  /**
   * @param {import("./stream.js").Stream} stream
   * @param {import("./stream.js").Segment | null} segment
   * @param {number} now - seconds since 1970
   */
  show(stream, segment, now) {
    const labels = segment?.labels ?? [];
    const text = segment ? stageText(labels) : "";
    const other = segment?.reason === "other_person" && segment.start !== this.start;
    this.start = segment?.start ?? null;
    const told = text !== this.text || other;
    const { version } = this.units.palette;
    if (told || version !== this.coloured) {
      this.text = text;
      this.coloured = version;
      const chips = labels.map((label) => this.chip(label));
      const empty = make("li", "chip empty", say("stage.none"));
      this.chips.replaceChildren(...(segment ? chips : [empty]));
      this.fit();
    }
    if (told) this.changed(labels, other);
    const words = segment ? sinceText(segment, whyWords(stream, segment), now) : "";
    setText(this.since, words);
    this.since.title = words;
  }

  /** Make the chips as large as there is room for. */
  fit() {
    for (const crowd of CROWDS.slice(this.chips.children.length > 3 ? 1 : 0)) {
      this.chips.dataset.crowd = crowd;
      if (this.chips.scrollHeight <= this.chips.clientHeight) return;
    }
  }

  /** @param {string} label */
  chip(label) {
    if (label === "NONE") {
      return make("li", "chip none", make("b", "", "NONE"), make("span", "", say("stage.none.means")));
    }
    if (label === "LOST") {
      return make("li", "chip lost", make("b", "", "LOST"), make("span", "", say("stage.lost.means")));
    }
    const au = splitLabel(label)?.au;
    const name = this.units.name(au);
    const mark = this.units.markWord(au);
    const tags = mark ? [make("em", "mark", mark)] : [];
    const head = make("b", "", label, ...tags);
    const element = make("li", "chip", head, make("span", "", name));
    element.style.setProperty("--au", this.units.colour(au));
    element.title = [`${label} ${name}`, meaning(this.units.mark(au))].filter(Boolean).join("\n");
    return element;
  }
}

/**
 * Since when and why a stage is.
 * @param {import("./stream.js").Segment} segment
 * @param {string} why
 * @param {number} now
 */
function sinceText({ from, previous }, why, now) {
  const parts = [say("stage.for", { value: Math.max(0, now - from).toFixed(1) })];
  if (why) parts.push(why);
  if (previous) parts.push(say("stage.after", { stage: stageText(previous) }));
  return parts.join(" · ");
}
