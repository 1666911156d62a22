// @ts-check
// Whose relevance is drawn over the face: of three Action Units at most, unless the reader says
// otherwise. Those whose explanation changed last come first; what is pointed at is always drawn.

import { keepSettings } from "./settings.js";

export const MOST_DRAWN = 3;

export class Focus {
  /** @param {import("./settings.js").Settings} settings */
  constructor(settings) {
    this.settings = settings;
    /** @type {number | null} AU that is pointed at */
    this.pointed = null;
  }

  /**
   * Choose among the active Action Units.
   * @param {number[]} active
   * @param {import("./changes.js").Change[]} changes - by time
   * @param {number} now - changes after it have not happened yet, seconds since 1970
   * @returns {number[]} to be drawn, the latest change first
   */
  choose(active, changes, now) {
    const { pinned, unseen } = this.settings;
    const wanted = new Set(active.filter((au) => !unseen.includes(au)));
    const first = active.filter((au) => au === this.pointed || (wanted.has(au) && pinned.includes(au)));
    const rest = new Set([...wanted].filter((au) => !first.includes(au)));
    const chosen = [...first];
    for (let i = changes.length - 1; i >= 0 && rest.size && chosen.length < MOST_DRAWN; i -= 1) {
      if (changes[i].at > now) continue;
      for (const { au, kind } of changes[i].items) {
        if (kind === "off" || chosen.length >= MOST_DRAWN || !rest.delete(au)) continue;
        chosen.push(au);
      }
    }
    for (const au of rest) if (chosen.length < MOST_DRAWN) chosen.push(au);
    return chosen;
  }

  /**
   * Whether an Action Unit is always, never, or in turn drawn.
   * @param {number} au
   * @returns {"pinned" | "unseen" | "turn"}
   */
  stateOf(au) {
    if (this.settings.pinned.includes(au)) return "pinned";
    return this.settings.unseen.includes(au) ? "unseen" : "turn";
  }

  /**
   * In turn → always → never → in turn.
   * @param {number} au
   */
  toggle(au) {
    const { pinned, unseen } = this.settings;
    const without = (/** @type {number[]} */ list) => list.filter((other) => other !== au);
    const state = this.stateOf(au);
    this.settings.pinned = state === "turn" ? [...pinned, au] : without(pinned);
    this.settings.unseen = state === "pinned" ? [...unseen, au] : without(unseen);
    keepSettings(this.settings);
  }
}
