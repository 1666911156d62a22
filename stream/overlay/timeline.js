// @ts-check
// The ribbon as it runs: its right edge, its pace, and the buttons that choose its span.

import { byId } from "./dom.js";

const PACE_MS = 66;
const CALM_PACE_MS = 1000; // for those who want little motion
const FIRST_SPAN_S = 30;

export class Timeline {
  /**
   * @param {import("./ribbon.js").Ribbon} ribbon
   * @param {import("./model.js").Model} model
   * @param {import("./feed.js").Feed} feed
   * @param {() => import("./stream.js").Stream | null} stream - the one shown
   */
  constructor(ribbon, model, feed, stream) {
    this.ribbon = ribbon;
    this.model = model;
    this.feed = feed;
    this.stream = stream;
    this.latestEdge = 0;
    this.timer = 0;
    this.buttons = [...byId("spans", HTMLElement).querySelectorAll("button")];
    for (const button of this.buttons) {
      button.addEventListener("click", () => this.setSpan(Number(button.dataset.span)));
    }
    const calm = matchMedia("(prefers-reduced-motion: reduce)");
    calm.addEventListener("change", () => this.setPace(calm.matches));
    this.setPace(calm.matches);
    this.setSpan(FIRST_SPAN_S);
  }

  /** Begin anew, for another stream or another run of the server. */
  reset() {
    this.latestEdge = 0;
  }

  /**
   * Right edge of the ribbon: now while frames come, the last of them when they stop.
   * @param {import("./stream.js").Stream} stream
   */
  edge(stream) {
    if (!stream.captured) return this.latestEdge || this.model.now();
    const { captured } = stream;
    const edge = this.feed.live ? Math.min(this.model.now(), captured + 1) : captured;
    this.latestEdge = Math.max(this.latestEdge, edge);
    return this.latestEdge;
  }

  draw() {
    const stream = this.stream();
    if (!stream || document.hidden) return;
    this.ribbon.draw(stream, this.edge(stream));
  }

  /** @param {number} seconds */
  setSpan(seconds) {
    this.ribbon.span = seconds;
    for (const button of this.buttons) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.span) === seconds));
    }
    this.draw();
  }

  /** @param {boolean} calm */
  setPace(calm) {
    clearInterval(this.timer);
    this.timer = setInterval(() => this.draw(), calm ? CALM_PACE_MS : PACE_MS);
  }
}
