// @ts-check
// How old the picture is: an old one never passes for a live one.

import { byId, setText } from "./dom.js";
import { agoWords } from "./headline.js";
import { say } from "./language.js";

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
  if (feed.state === "refused") return say("veil.refused");
  if (feed.ended) return say("veil.over");
  if (!feed.live) return say("veil.lost");
  const known = ["ended", "failed", "stalled", "reconnecting"];
  return source && known.includes(source) ? say(`veil.${source}`) : "";
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
    this.mode = byId("mode", HTMLElement);
  }

  /**
   * @param {import("./stream.js").Stream} stream
   * @param {import("./model.js").Model} model
   * @param {import("./feed.js").Feed} feed
   * @param {{time: number | null, missing: boolean}} player - time that is looked back at, null while
   *   what is live is shown; and whether no picture is kept of it
   */
  show(stream, model, feed, { time: past, missing }) {
    this.panel.classList.toggle("past", past !== null);
    if (past !== null) {
      this.showMode("past", agoWords(model.now() - past));
      this.panel.classList.toggle("stale", missing);
      this.veil.hidden = !missing;
      setText(this.veil, missing ? say("veil.missing") : "");
      setText(this.line, this.facts(model).join(" · "));
      return;
    }
    if (model.hello?.replay) {
      this.showReplay(model, feed);
      return;
    }
    const { captured } = this.picture;
    const age = captured === null ? null : model.now() - captured;
    let veil = hindrance(feed, stream.source?.state);
    if (!veil && age === null && this.video()) veil = say("veil.first");
    const stale = !feed.live || (age !== null && age > STALE_S);
    if (stale && age !== null) {
      veil = `${veil || say("veil.stale")} · ${say("veil.old", { age: duration(age) })}`;
    }
    const old = stale || veil !== "";
    this.showMode(old ? "stale" : "live", old ? say("mode.stale") : say("mode.live"));
    this.panel.classList.toggle("stale", old);
    this.veil.hidden = veil === "";
    setText(this.veil, veil);
    setText(this.line, stale ? "" : this.facts(model).join(" · "));
  }

  /**
   * A recording is as old as it is, and may stand still.
   * @param {import("./model.js").Model} model
   * @param {import("./feed.js").Feed} feed
   */
  showReplay(model, feed) {
    const veil = hindrance(feed, undefined);
    this.showMode("past", say("mode.replay"));
    this.panel.classList.toggle("stale", veil !== "");
    this.veil.hidden = veil === "";
    setText(this.veil, veil);
    setText(this.line, this.facts(model).join(" · "));
  }

  /**
   * @param {"live" | "past" | "stale"} mode
   * @param {string} words
   */
  showMode(mode, words) {
    this.mode.dataset.mode = mode;
    setText(this.mode.children[0], words);
  }

  /** @param {import("./model.js").Model} model */
  facts(model) {
    const facts = [];
    if (this.picture.drawn) {
      const { frame, latency_ms: latency } = this.picture.drawn.sample;
      facts.push(say("age.frame", { frame }), say("age.latency", { value: latency.toFixed(0) }));
    }
    if (model.hello && !model.hello.video) facts.push(say("age.blind"));
    return facts;
  }
}
