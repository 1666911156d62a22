// @ts-check
// What changes with a stage, told per Action Unit: another reason for it, or that it is on or off.

import { splitLabel } from "./labels.js";

/**
 * @typedef {"reason" | "on" | "off" | "named"} Kind
 *
 * @typedef {object} Item - what changed of one Action Unit
 * @property {number} au
 * @property {Kind} kind - reason: it is explained otherwise than the last time it was seen
 * @property {string} before - letter; "" for none
 * @property {string} after - letter; "" for none
 * @property {string} text - the server's own sentence; "" where it has none
 *
 * @typedef {object} Change - all that changed at one time
 * @property {number} start - first frame of the stage that began
 * @property {number} at - when, seconds since 1970
 * @property {number} known - when it was known, which is later: then the picture shows it, too
 * @property {string} why - the server's word for it
 * @property {Item[]} items - the weightiest first; empty where face or source changed
 */

/** @type {Kind[]} */
const WEIGHT = ["reason", "on", "off", "named"];

/** @type {WeakMap<string[], Map<number, string>>} */
const known = new WeakMap(); // of thousands of stages, each asked for with every drawing

/**
 * Letters by Action Unit; "" for one that has none yet.
 * @param {string[]} labels - never changed afterwards
 */
export function lettersOf(labels) {
  const found = known.get(labels);
  if (found) return found;
  /** @type {Map<number, string>} */
  const letters = new Map();
  known.set(labels, letters);
  for (const label of labels) {
    const parts = splitLabel(label);
    if (parts) letters.set(parts.au, parts.letter);
  }
  return letters;
}

/**
 * Tell what is other in a stage than in the one before.
 * @param {string[]} before - labels
 * @param {string[]} after - labels
 * @param {(au: number) => string} last - the letter an AU had when it was last seen before; "" if none
 * @param {{au: number, text: string}[]} told - what the server says of it
 * @returns {Item[]}
 */
export function compareStages(before, after, last, told = []) {
  if (after.includes("LOST")) return []; // nobody knows what the face does
  const [old, fresh] = [lettersOf(before), lettersOf(after)];
  /** @type {Item[]} */
  const items = [];
  const text = (/** @type {number} */ au) => told.find((one) => one.au === au)?.text ?? "";
  for (const [au, letter] of fresh) {
    const known = old.get(au) || last(au);
    const item = { au, before: known, after: letter, text: text(au) };
    if (letter && known && letter !== known) items.push({ ...item, kind: "reason" });
    else if (!old.has(au)) items.push({ ...item, kind: "on" });
    else if (letter && old.get(au) === "") items.push({ ...item, kind: "named" });
  }
  for (const [au, letter] of old) {
    if (fresh.has(au)) continue;
    items.push({ au, kind: "off", before: letter, after: "", text: text(au) });
  }
  const rank = (/** @type {Item} */ item) => WEIGHT.indexOf(item.kind);
  return items.sort((first, second) => rank(first) - rank(second) || first.au - second.au);
}

/**
 * Whether a change is one of an explanation: what the page is there for.
 * @param {Change} change
 */
export function isNewReason(change) {
  return change.items[0]?.kind === "reason";
}
