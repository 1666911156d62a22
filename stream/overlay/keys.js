// @ts-check
// The keys of the page, each with what it does in words; the help is made of the same table.

import { make } from "./dom.js";
import { say } from "./language.js";

/**
 * @typedef {object} Key
 * @property {string} key - as KeyboardEvent.key says it, small letters
 * @property {boolean} shift
 * @property {string} shown - how it is written in the help
 * @property {string} words - key of its sentence
 * @property {() => void} action
 */

export class Keys {
  /** @param {() => boolean} wanted - whether single keys do anything */
  constructor(wanted) {
    this.wanted = wanted;
    /** @type {Key[]} */
    this.all = [];
    document.addEventListener("keydown", (event) => this.press(event));
  }

  /**
   * @param {string} key - "f", " ", "ArrowLeft"; with "Shift+" before it
   * @param {string} words - key of its sentence
   * @param {() => void} action
   * @param {string} shown
   */
  add(key, words, action, shown = key.toUpperCase()) {
    const shift = key.startsWith("Shift+");
    this.all.push({ key: key.replace("Shift+", ""), shift, words, action, shown });
  }

  /**
   * Show a key in the help that another part of the page listens to.
   * @param {string} words - key of its sentence
   * @param {string} shown
   */
  tell(words, shown) {
    this.all.push({ key: "", shift: false, words, action: () => {}, shown });
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    if (!this.wanted() || event.ctrlKey || event.metaKey || event.altKey) return;
    const { target } = event;
    const typing = target instanceof HTMLInputElement || target instanceof HTMLSelectElement
      || target instanceof HTMLTextAreaElement;
    if (typing || document.querySelector("dialog[open]")) return;
    const pressing = target instanceof HTMLButtonElement && event.key === " ";
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const key = this.all.find((one) =>
      one.key === name && (one.shift === event.shiftKey || name === "?"));
    if (!key || pressing) return;
    event.preventDefault();
    key.action();
  }

  /** What the help shows: a row per key. */
  rows() {
    return this.all.map(({ shown, words }) =>
      make("div", "", make("dt", "", make("kbd", "", shown)), make("dd", "", say(words))));
  }
}
