// @ts-check
// What a screen reader is told: the stage in words, not more often than can be listened to.

import { setText } from "./dom.js";
import { splitLabel } from "./labels.js";
import { say } from "./language.js";

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
    /** Whether what is to be said next is of another person. */
    this.other = false;
    this.spokenAt = 0;
  }

  /**
   * Say a stage, as soon as it is time.
   * @param {string[]} labels
   * @param {boolean} other - whether another person begins with it
   */
  announce(labels, other) {
    const words = labels.map((label) => this.words(label)).join(", ");
    // What was not said yet of the person is said with the next stage.
    this.other ||= other;
    this.waiting = this.other ? `${say("why.other_person")}: ${words}` : words;
  }

  /** Say what waits, if it is time. */
  speak() {
    const now = performance.now();
    if (this.waiting === null || now - this.spokenAt <= PAUSE_MS) return;
    setText(this.element, this.waiting);
    this.waiting = null;
    this.other = false;
    this.spokenAt = now;
  }

  /** @param {string} label */
  words(label) {
    if (label === "NONE") return say("announce.none");
    if (label === "LOST") return say("face.lost");
    const au = splitLabel(label)?.au;
    const words = [label.replace("_", " "), this.units.name(au)];
    const mark = this.units.markWord(au);
    if (mark) words.push(`(${mark})`);
    return words.join(" ");
  }
}
