// @ts-check
// The change as a headline: which Action Unit, what its explanation was and is, and how long ago. It is
// loud for some seconds; then it stays, quietly, and one can step to those before.

import { byId, make, setText } from "./dom.js";
import { regionWords, say, sayOr } from "./language.js";
import { paintPrototype } from "./prototypes.js";

/**
 * @typedef {import("./changes.js").Change} Change
 * @typedef {import("./changes.js").Item} Item
 * @typedef {import("./stream.js").Stream} Stream
 */

const LOUD_S = 6;
const MOST_LISTED = 200;

/** @param {number} au */
const code = (au) => `AU${String(au).padStart(2, "0")}`;

/**
 * Say what changed of one Action Unit.
 * @param {Item} item
 */
export function itemWords({ au, kind, before, after }) {
  const letter = after && ` ${after}`;
  if (kind === "reason") return say("change.reason", { au: code(au), before, after });
  if (kind === "off") return say("change.off", { au: code(au) });
  return kind === "on" ? say("change.on", { au: code(au) }) + letter : `${code(au)} ${after}`;
}

/**
 * Say in a line what changed.
 * @param {Change} change
 */
export function changeWords({ items, why }) {
  const [first] = items;
  if (!first) return sayOr(`why.${why}`, why);
  const rest = items.slice(1).map((item) => itemWords(item));
  const own = first.kind === "reason" ? `${itemWords(first)}: ${say("change.new")}` : itemWords(first);
  return [own, ...rest].join(" · ");
}

/**
 * Why a stage is: which Action Unit changed, and how.
 * @param {import("./stream.js").Stream} stream
 * @param {import("./stream.js").Segment} segment
 */
export function whyWords(stream, { start, reason }) {
  const change = stream.changeOf(start);
  const ofUnits = ["au_on", "au_off", "cluster_change"].includes(reason);
  if (ofUnits && change?.items.length) return changeWords(change);
  return ofUnits ? "" : sayOr(`why.${reason}`, reason);
}

/**
 * How long ago something was, as a reader says it.
 * @param {number} seconds
 */
export function agoWords(seconds) {
  if (seconds < 100) return say("ago.seconds", { value: Math.max(0, seconds).toFixed(1) });
  if (seconds < 5400) return say("ago.minutes", { value: Math.round(seconds / 60) });
  return say("ago.hours", { value: (seconds / 3600).toFixed(1) });
}

export class Headline {
  /**
   * @param {import("./units.js").Units} units
   * @param {(change: Change) => void} go - called when somebody wants to see a change of the past
   */
  constructor(units, go) {
    this.units = units;
    this.go = go;
    this.panel = byId("change", HTMLElement);
    this.words = byId("change-words", HTMLElement);
    this.detail = byId("change-detail", HTMLElement);
    this.pictures = byId("change-pictures", HTMLElement);
    this.list = byId("change-list", HTMLElement);
    this.dialog = byId("changes", HTMLDialogElement);
    /** @type {string} what the pictures show */
    this.painted = "";
    /** @type {Stream | null} */
    this.stream = null;
    byId("change-all", HTMLElement).addEventListener("click", () => this.openList());
  }

  /**
   * Show the last change before a time.
   * @param {Stream} stream
   * @param {number} time - now, or what is looked back at, seconds since 1970
   */
  show(stream, time) {
    this.stream = stream;
    const change = latest(stream.changes, time);
    this.panel.classList.toggle("loud", Boolean(change) && time - (change?.at ?? 0) < LOUD_S);
    this.panel.classList.toggle("new-reason", change?.items[0]?.kind === "reason");
    if (!change) {
      setText(this.words, say("change.none"));
      setText(this.detail, "");
      this.paint([]);
      return;
    }
    setText(this.words, `${changeWords(change)} · ${agoWords(time - change.at)}`);
    setText(this.detail, this.detailWords(change));
    const [item] = change.items;
    this.paint(item ? labelsOf(item) : []);
  }

  /**
   * What the server says of it, else the places that carry the relevance now, else the unit's name.
   * @param {Change} change
   */
  detailWords({ items: [item] }) {
    if (!item) return "";
    const prototype = this.stream?.prototypes.get(`${code(item.au)}_${item.after || item.before}`);
    const mark = this.units.markWord(item.au);
    const name = [this.units.name(item.au), mark && `(${mark})`].filter(Boolean).join(" ");
    return item.text || [name, regionWords(prototype?.regions ?? [])].filter(Boolean).join(": ");
  }

  /** @param {string[]} labels - of one or two prototypes, the older first */
  paint(labels) {
    const known = labels.map((label) => this.stream?.prototypes.get(label));
    const state = known.map((one, i) => `${labels[i]} ${one?.at} ${one?.moved}`).join();
    const key = `${state} ${this.units.palette.version}`;
    if (key === this.painted) return;
    this.painted = key;
    this.pictures.replaceChildren();
    known.forEach((prototype, i) => {
      if (i > 0) this.pictures.append(make("span", "arrow", "→"));
      const tile = make("canvas", "");
      tile.setAttribute("role", "img");
      tile.setAttribute("aria-label", say("prototype.where", { label: labels[i] }));
      if (prototype) paintPrototype(tile, prototype, this.units.colour(prototype.au));
      const figure = make("figure", "", tile, make("figcaption", "", labels[i]));
      figure.style.setProperty("--au", this.units.colour(prototype?.au));
      this.pictures.append(figure);
    });
  }

  openList() {
    const changes = this.stream?.changes ?? [];
    const rows = changes.slice(-MOST_LISTED).reverse().map((change) => {
      const time = new Date(change.at * 1000).toLocaleTimeString([], { hour12: false });
      const button = make("button", "", make("b", "", time), ` ${changeWords(change)}`);
      button.type = "button";
      button.addEventListener("click", () => {
        this.dialog.close();
        this.go(change);
      });
      return make("li", change.items[0]?.kind === "reason" ? "new-reason" : "", button);
    });
    this.list.replaceChildren(...(rows.length ? rows : [make("li", "", say("change.none"))]));
    this.dialog.showModal();
  }
}

/**
 * The last change that has happened by a time; one that only names a letter is none.
 * @param {Change[]} changes - by time
 * @param {number} time - seconds since 1970
 */
export function latest(changes, time) {
  for (let i = changes.length - 1; i >= 0; i -= 1) {
    if (changes[i].at <= time && changes[i].items[0]?.kind !== "named") return changes[i];
  }
  return null;
}

/** @param {Item} item */
function labelsOf({ au, kind, before, after }) {
  const letters = kind === "reason" ? [before, after] : [after || before];
  return letters.filter(Boolean).map((letter) => `${code(au)}_${letter}`);
}
