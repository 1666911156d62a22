// @ts-check
// The lanes of the ribbon: which Action Units have one, and over which times each keeps its letter.

import { lettersOf } from "./changes.js";
import { splitLabel } from "./labels.js";

/**
 * @typedef {import("./stream.js").Stream} Stream
 * @typedef {import("./stream.js").Segment} Segment
 *
 * @typedef {object} Run - a time over which an Action Unit keeps its letter
 * @property {string} letter - "" before it is given
 * @property {string[]} texts - what to write on it, best first
 * @property {number} from - seconds since 1970
 * @property {number} to - seconds since 1970
 */

const SAME_TIME_S = 0.05; // stages so close follow each other

/**
 * Choose whose lanes are drawn: all AUs that have ever appeared, which stay in place; if those do
 * not fit, the AUs of the span shown; if those do not fit, the latest of them.
 * @param {Stream} stream
 * @param {Segment[]} segments - of the span
 * @param {number} most - lanes that fit
 * @returns {{lanes: number[], hidden: number}} AUs in order, and how many of the span are left out
 */
export function chooseLanes(stream, segments, most) {
  /** @type {Map<number, number>} AU → when it was seen last */
  const latest = new Map();
  for (const segment of segments) {
    for (const au of lettersOf(segment.labels).keys()) latest.set(au, segment.to ?? Infinity);
  }
  for (const [au, runs] of stream.apart.runs) {
    const last = runs[runs.length - 1];
    if (last) latest.set(au, last.to);
  }
  const known = new Set(latest.keys());
  for (const prototype of stream.prototypes.values()) known.add(prototype.au);
  const wanted = known.size <= most ? [...known] : [...latest.keys()];
  const hidden = Math.max(0, wanted.length - most);
  if (hidden) {
    const seen = (/** @type {number} */ au) => latest.get(au) ?? -Infinity;
    wanted.sort((first, second) => (seen(first) < seen(second) ? 1 : -1));
  }
  const lanes = wanted.slice(0, most).sort((first, second) => first - second);
  return { lanes, hidden };
}

/**
 * Join the stages over which an AU keeps its letter.
 * @param {Stream} stream
 * @param {Segment[]} segments
 * @param {number} au
 * @param {number} now
 * @param {number} pixel - what is closer or shorter than a pixel is merged, seconds
 */
export function runs(stream, segments, au, now, pixel = 0) {
  /** @type {Run[]} */
  const joined = stream.apart.aus.has(au)
    ? stream.apart.between(au, segments[0]?.from ?? -Infinity, now).map(({ letter, from, to }) =>
      ({ letter, texts: letterTexts(stream, au, letter), from, to: Math.max(to, from + pixel) }))
    : [];
  for (const segment of segments) {
    const letter = lettersOf(segment.labels).get(au);
    if (letter === undefined) continue;
    const { from } = segment;
    const to = segment.to ?? now;
    const last = joined.at(-1);
    const near = last && from - last.to < Math.max(SAME_TIME_S, pixel);
    if (near && (last.letter === letter || to - from < pixel)) last.to = to;
    else joined.push({ letter, texts: letterTexts(stream, au, letter), from, to });
  }
  return joined;
}

/**
 * What to write on a run, best first: a stage that has ended keeps the letter it was given.
 * @param {Stream} stream
 * @param {number} au
 * @param {string} letter
 */
function letterTexts(stream, au, letter) {
  if (!letter) return [];
  const label = `AU${String(au).padStart(2, "0")}_${letter}`;
  const standing = splitLabel(stream.standing(label))?.letter ?? letter;
  return standing === letter ? [letter] : [`${letter}=${standing}`, letter];
}
