// @ts-check
// The ribbon as a table: for screen readers, and for those who would rather read.

import { make } from "./dom.js";
import { whyWords } from "./headline.js";
import { stageText } from "./labels.js";
import { say } from "./language.js";

const MOST_ROWS = 100;

export class StageTable {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.place = place;
    this.state = "";
  }

  /**
   * Show the last stages, the newest first.
   * @param {import("./stream.js").Stream} stream
   */
  show(stream) {
    const stages = stream.stages.slice(-MOST_ROWS).reverse();
    const state = `${stream.id} ${stages.length} ${stages[0]?.start} ${stages[0]?.labels}`;
    if (state === this.state) return;
    this.state = state;
    const heads = ["table.begin", "table.length", "table.stage", "table.change"];
    const head = make("tr", "", ...heads.map((key) => {
      const cell = make("th", "", say(key));
      cell.scope = "col";
      return cell;
    }));
    const rows = stages.map((stage) => {
      const { from, to, labels } = stage;
      const words = whyWords(stream, stage);
      const length = to === null ? say("table.now") : `${(to - from).toFixed(1)} s`;
      const clock = new Date(from * 1000).toLocaleTimeString([], { hour12: false });
      return make("tr", "", ...[clock, length, stageText(labels), words].map((text) =>
        make("td", "", text)));
    });
    const caption = make("caption", "unseen", say("table.title"));
    this.place.replaceChildren(
      make("table", "", caption, make("thead", "", head), make("tbody", "", ...rows)),
    );
  }
}
