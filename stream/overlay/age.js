// @ts-check
// How old the picture is: an old one never passes for a live one.

import { byId, setText } from "./dom.js";

const STALE_S = 1.5;

/** @param {number} value - seconds */
function duration(value) {
  if (value < 100) return `${value.toFixed(1)} s`;
  return value < 5400 ? `${(value / 60).toFixed(0)} min` : `${(value / 3600).toFixed(0)} h`;
}

/**
 * Why nothing new is to be expected; "" if there is no reason.
 * @param {import("./feed.js").Feed} feed
 * @param {string | undefined} source - its state
 */
function hindrance(feed, source) {
  if (feed.state === "refused") return "Token needed";
  if (feed.ended) return "Recording ended";
  if (!feed.live) return "Reconnecting to the server";
  if (source === "ended" || source === "failed" || source === "stalled") return `Source ${source}`;
  return source === "reconnecting" ? "Source reconnecting" : "";
}

export class Age {
  /**
   * @param {import("./picture.js").Picture} picture
   * @param {() => boolean} video - whether pictures are expected
   */
  constructor(picture, video) {
    this.picture = picture;
    this.video = video;
    this.panel = byId("picture", HTMLElement);
    this.veil = byId("veil", HTMLElement);
    this.line = byId("age", HTMLElement);
  }

  /**
   * @param {import("./stream.js").Stream} stream
   * @param {import("./model.js").Model} model
   * @param {import("./feed.js").Feed} feed
   */
  show(stream, model, feed) {
    const { captured } = this.picture;
    const age = captured === null ? null : model.now() - captured;
    let veil = hindrance(feed, stream.source?.state);
    if (!veil && age === null && this.video()) veil = "Waiting for the first picture";
    const stale = !feed.live || (age !== null && age > STALE_S);
    if (stale && age !== null) veil = `${veil || "Not live"} · picture ${duration(age)} old`;
    this.panel.classList.toggle("stale", stale || veil !== "");
    this.veil.hidden = veil === "";
    setText(this.veil, veil);
    setText(this.line, stale ? "" : this.facts(model).join(" · "));
  }

  /** @param {import("./model.js").Model} model */
  facts(model) {
    const facts = [];
    if (this.picture.drawn) {
      const { frame, latency_ms: latency } = this.picture.drawn.sample;
      facts.push(`frame ${frame}`, `capture to emit ${latency.toFixed(0)} ms`);
    }
    if (model.hello && !model.hello.video) facts.push("pictures are off");
    return facts;
  }
}
