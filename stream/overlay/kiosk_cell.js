// @ts-check
// One source of the kiosk: its picture, its stage in large words, and whether that is now.

import { make, setText } from "./dom.js";
import { KioskPicture } from "./kiosk_picture.js";

const STALE_S = 1.5; // older than this is not live; it is looked at five times a second
const MOST_UNITS = 4; // words that can be read from across a room

/** @type {Record<string, string>} */
const SOURCE = {
  connecting: "CONNECTING",
  stalled: "NO PICTURE",
  reconnecting: "RECONNECTING",
  ended: "ENDED",
  failed: "FAILED",
};
/** @type {Record<string, string>} */
const STATES = { NONE: "no Action Unit", LOST: "no face" };

/** @param {number} seconds */
function duration(seconds) {
  if (seconds < 100) return `${seconds.toFixed(0)} s`;
  return seconds < 5400 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(0)} h`;
}

export class Cell {
  /**
   * @param {import("./protocol").StreamInfo} info
   * @param {import("./protocol").Hello} hello
   */
  constructor(info, hello) {
    this.info = info;
    this.units = new Map(hello.aus.map((unit) => [unit.au, unit]));
    this.canvas = make("canvas", "");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `Picture of ${info.name}`);
    this.name = make("h2", "name", info.name);
    this.state = make("p", "state", "CONNECTING");
    this.veil = make("p", "veil");
    this.stage = make("ul", "stage");
    this.element = make("section", "cell", this.canvas, this.stage, this.name, this.state, this.veil);
    this.element.setAttribute("aria-label", info.name);
    this.element.classList.toggle("blind", !hello.video);
    this.picture = new KioskPicture(this.canvas, (au) => this.units.get(au)?.colour ?? "#bbbbbb");
    this.source = "connecting";
    this.reason = "";
    /** @type {number | null} when the last frame was captured, by the server's clock */
    this.captured = null;
    this.shown = "";
  }

  /** @param {import("./wire.js").ServerMessage} message */
  receive(message) {
    if (message.type === "snapshot") {
      const { stage, source } = message.data;
      this.showStage(stage?.labels ?? []);
      if (source) this.noteSource(source);
    } else if (message.type === "stage.enter" || message.type === "stage.revise") {
      this.showStage(message.data.labels);
    } else if (message.type === "source.state") {
      this.noteSource(message.data);
    } else if (message.type === "heat") {
      this.picture.offerHeat(message.data);
    } else if (message.type === "frame") {
      this.captured = message.t_capture;
      this.picture.offerSample(message.data);
    }
  }

  /** @param {import("./protocol").SourceChanged} source */
  noteSource({ state, reason }) {
    this.source = state;
    this.reason = reason;
  }

  /** @param {readonly string[]} labels */
  showStage(labels) {
    const key = labels.join();
    if (key === this.shown) return;
    this.shown = key;
    // Those that the network recognises well come first; words for the others may find no room.
    const weak = (/** @type {string} */ label) => this.units.get(Number(label.slice(2, 4)))?.grade !== "A";
    const sorted = [...labels].sort((a, b) => Number(weak(a)) - Number(weak(b)));
    const items = sorted.slice(0, MOST_UNITS).map((label) => this.unit(label));
    const rest = labels.length - items.length;
    if (rest > 0) items.push(make("li", "unit more", `+${rest}`));
    this.stage.replaceChildren(...items);
  }

  /** @param {string} label */
  unit(label) {
    if (label in STATES) return make("li", "unit", STATES[label]);
    const unit = this.units.get(Number(label.slice(2, 4)));
    const mark = unit?.grade === "B" ? "weak, " : unit?.grade === "C" ? "poor, " : "";
    const colour = make("i", "");
    colour.style.setProperty("--colour", unit?.colour ?? "#bbbbbb");
    return make("li", "unit", colour, make("b", "", label.replace("_", " ")), make("span", "", mark + (unit?.name ?? "")));
  }

  /**
   * Say whether what is shown is now.
   * @param {number} now - by the server's clock, seconds since 1970
   * @param {boolean} connected - to the server
   */
  tick(now, connected) {
    const age = this.captured === null ? null : Math.max(0, now - this.captured);
    const stale = age === null || age > STALE_S;
    const waiting = age === null && this.source === "live";
    const word = connected ? (SOURCE[this.source] ?? "STALE") : "STALE";
    const isOver = this.source === "ended";
    this.element.classList.toggle("stale", stale);
    this.state.dataset.kind = !stale ? "live" : isOver ? "over" : "bad";
    setText(this.state, !stale ? "LIVE" : waiting ? "WAITING" : isOver ? word : "STALE");
    this.veil.hidden = !stale;
    if (!stale) return;
    const old = age === null ? "nothing seen yet" : `${duration(age)} old`;
    const why = !connected ? "no connection to the server" : this.source === "live" ? "" : word.toLowerCase();
    const small = make("small", "", [old, why].filter(Boolean).join(" · "));
    const text = waiting ? "WAITING" : isOver ? "ENDED" : "STALE";
    if (this.veil.textContent !== text + small.textContent) this.veil.replaceChildren(text, small);
    this.veil.title = this.reason;
  }
}
