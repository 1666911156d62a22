// @ts-check
// The stage now: a chip per label, and since when and why it is.

import { byId, make, setText } from "./dom.js";
import { splitLabel, stageText } from "./labels.js";
import { MARK_MEANS } from "./units.js";

const CROWDS = ["few", "some", "more", "many", "most"]; // sizes of the chips, large to small

/** @type {Record<string, string>} */
const REASONS = {
  first: "first stage",
  au_on: "Action Unit on",
  au_off: "Action Unit off",
  cluster_change: "pattern changed",
  face_lost: "face lost",
  face_found: "face found",
  other_person: "another person",
  gap: "gap in the source",
};

export class StagePanel {
  /**
   * @param {import("./units.js").Units} units
   * @param {(labels: string[], other: boolean) => void} changed - called when another stage is
   *     shown, or another person begins
   */
  constructor(units, changed) {
    this.units = units;
    this.changed = changed;
    this.chips = byId("chips", HTMLElement);
    this.since = byId("since", HTMLElement);
    /** @type {string | null} */
    this.text = null;
    /** @type {number | null} first frame of the stage shown */
    this.start = null;
    new ResizeObserver(() => this.fit()).observe(byId("stage", HTMLElement));
  }

  /**
   * @param {import("./stream.js").Segment | null} segment
   * @param {number} now - seconds since 1970
   */
  show(segment, now) {
    const labels = segment?.labels ?? [];
    const text = segment ? stageText(labels) : "";
    const other = segment?.reason === "other_person" && segment.start !== this.start;
    this.start = segment?.start ?? null;
    if (text !== this.text || other) {
      this.text = text;
      const chips = labels.map((label) => this.chip(label));
      this.chips.replaceChildren(...(segment ? chips : [make("li", "chip empty", "no stage")]));
      this.fit();
      this.changed(labels, other);
    }
    setText(this.since, segment ? sinceText(segment, now) : "");
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
      return make("li", "chip none", make("b", "", "NONE"), make("span", "", "face, no active AU"));
    }
    if (label === "LOST") {
      return make("li", "chip lost", make("b", "", "LOST"), make("span", "", "no usable face"));
    }
    const au = splitLabel(label)?.au;
    const name = this.units.name(au);
    const mark = this.units.mark(au);
    const tags = mark ? [make("em", "mark", mark)] : [];
    const head = make("b", "", label, ...tags);
    const element = make("li", "chip", head, make("span", "", name));
    element.style.setProperty("--au", this.units.colour(au));
    element.title = [`${label} ${name}`, MARK_MEANS[mark]].filter(Boolean).join("\n");
    return element;
  }
}

/**
 * Since when and why a stage is.
 * @param {import("./stream.js").Segment} segment
 * @param {number} now
 */
function sinceText({ from, reason, previous }, now) {
  const parts = [`for ${Math.max(0, now - from).toFixed(1)} s`, REASONS[reason] ?? reason];
  if (previous) parts.push(`after ${stageText(previous)}`);
  return parts.join(" · ");
}
