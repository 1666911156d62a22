// @ts-check
// What a screen reader is told: the stage in words, not more often than can be listened to.

import { setText } from "./dom.js";
import { splitLabel } from "./labels.js";

const PAUSE_MS = 1500;

export class Announcer {
  /**
   * @param {HTMLElement} element - read out when its text changes
   * @param {import("./units.js").Units} units
   */
  constructor(element, units) {
    this.element = element;
    this.units = units;
    /** @type {string | null} what is to be said next */
    this.waiting = null;
    this.spokenAt = 0;
  }

  /**
   * Say a stage, as soon as it is time.
   * @param {string[]} labels
   */
  announce(labels) {
    this.waiting = labels.map((label) => this.words(label)).join(", ");
  }

  /** Say what waits, if it is time. */
  speak() {
    const now = performance.now();
    if (this.waiting === null || now - this.spokenAt <= PAUSE_MS) return;
    setText(this.element, this.waiting);
    this.waiting = null;
    this.spokenAt = now;
  }

  /** @param {string} label */
  words(label) {
    if (label === "NONE") return "no active Action Unit";
    if (label === "LOST") return "face lost";
    const au = splitLabel(label)?.au;
    const words = [label.replace("_", " "), this.units.name(au)];
    const mark = this.units.mark(au);
    if (mark) words.push(`(${mark})`);
    return words.join(" ");
  }
}
