// @ts-check
// Action Units that make no stages, for they are weak: what they show is told by frames alone, and has
// lanes of its own.

const SAME_RUN_S = 0.3; // frames that were skipped do not end a run
const MOST_RUNS = 4000; // of each

/** @typedef {{letter: string, from: number, to: number}} ApartRun - seconds since 1970 */

export class Apart {
  constructor() {
    /** @type {Set<number>} */
    this.aus = new Set();
    /** @type {Map<number, ApartRun[]>} AU → by time */
    this.runs = new Map();
  }

  /** @param {number[]} aus - that make no stages */
  only(aus) {
    this.aus = new Set(aus);
  }

  /**
   * @param {import("./protocol").FrameSample} sample
   * @param {number} captured - seconds since 1970
   */
  take(sample, captured) {
    for (const { au, active, letter } of sample.aus) {
      if (!active || !this.aus.has(au)) continue;
      const runs = this.runs.get(au) ?? [];
      this.runs.set(au, runs);
      const last = runs[runs.length - 1];
      const same = last && captured - last.to < SAME_RUN_S && last.letter === (letter ?? "");
      if (same) last.to = captured;
      else runs.push({ letter: letter ?? "", from: captured, to: captured });
      if (runs.length > MOST_RUNS) runs.shift();
    }
  }

  /**
   * What an Action Unit showed in a time.
   * @param {number} au
   * @param {number} from - seconds since 1970
   * @param {number} to
   */
  between(au, from, to) {
    return (this.runs.get(au) ?? []).filter((run) => run.to >= from && run.from <= to);
  }

  /** @param {number} first - what ended before is forgotten, seconds since 1970 */
  trim(first) {
    for (const runs of this.runs.values()) while (runs.length && runs[0].to < first) runs.shift();
  }
}
