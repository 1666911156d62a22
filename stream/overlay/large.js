// @ts-check
// A prototype, large: where it shows, since when, how often, in which parts of the face, and the
// stages that it was part of, each a way back to its time.

import { byId, make } from "./dom.js";
import { agoWords } from "./headline.js";
import { regionWords, say } from "./language.js";
import { paintPrototype } from "./prototypes.js";
import { meaning } from "./units.js";

const MOST_STAGES = 24;

export class LargePrototype {
  /**
   * @param {import("./units.js").Units} units
   * @param {(time: number) => void} go - called when somebody wants to see a time, seconds since 1970
   */
  constructor(units, go) {
    this.units = units;
    this.go = go;
    this.dialog = byId("prototype", HTMLDialogElement);
    this.title = byId("prototype-title", HTMLElement);
    this.body = byId("prototype-body", HTMLElement);
  }

  /**
   * @param {import("./stream.js").Stream} stream
   * @param {import("./stream.js").Prototype} prototype
   * @param {number} now - seconds since 1970
   */
  open(stream, prototype, now) {
    const { au, label } = prototype;
    this.title.textContent = `${label} ${this.units.name(au)}`;
    const canvas = make("canvas", "");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", say("prototype.where", { label }));
    paintPrototype(canvas, prototype, this.units.colour(au), 8);
    const stages = stream.stages.filter((stage) => stage.labels.includes(label));
    const cosine = prototype.moved?.toFixed(2) ?? "";
    const facts = [
      say("prototype.since", { frame: prototype.at }),
      say("prototype.stages", { count: prototype.count }),
      regionWords(prototype.regions),
      cosine && say("prototype.moved.means", { cosine }),
      meaning(this.units.mark(au)),
    ].filter(Boolean).map((fact) => make("p", "", fact));
    const times = stages.slice(-MOST_STAGES).reverse().map(({ from, to }) => {
      const length = to === null ? say("table.now") : `${(to - from).toFixed(1)} s`;
      const button = make("button", "", `${agoWords(now - from)} · ${length}`);
      button.type = "button";
      button.addEventListener("click", () => {
        this.dialog.close();
        this.go(from);
      });
      return make("li", "", button);
    });
    this.body.replaceChildren(canvas, make("div", "", ...facts, make("ol", "", ...times)));
    this.dialog.showModal();
  }
}
