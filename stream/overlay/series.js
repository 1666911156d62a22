// @ts-check
// Values over time, for the curves: every one of the last minutes, and the least and greatest of each
// second for hours. What it takes is bounded by these two lengths, however long the page is open.

const FINE = 18_000; // ten minutes at 30 frames per second
const COARSE = 28_800; // eight hours of seconds
const MOST_NAMES = 64;

/**
 * A ring of moments with a value of each name at each; null values are NaN.
 * @typedef {{times: Float64Array, low: Map<string, Float32Array>, high: Map<string, Float32Array>,
 *   first: number, count: number}} Ring
 */

/**
 * @param {number} size
 * @returns {Ring}
 */
function makeRing(size) {
  return { times: new Float64Array(size), low: new Map(), high: new Map(), first: 0, count: 0 };
}

/**
 * Begin a new moment; the oldest is overwritten where there is no room.
 * @param {Ring} ring
 * @param {number} time
 */
function advance(ring, time) {
  const size = ring.times.length;
  const place = (ring.first + ring.count) % size;
  if (ring.count < size) ring.count += 1;
  else ring.first = (ring.first + 1) % size;
  ring.times[place] = time;
  for (const values of ring.low.values()) values[place] = NaN;
  for (const values of ring.high.values()) values[place] = NaN;
}

/** @param {Ring} ring */
const lastPlace = (ring) => (ring.first + ring.count - 1) % ring.times.length;

/**
 * @param {Map<string, Float32Array>} map
 * @param {string} name
 * @param {number} size
 */
function valuesOf(map, name, size) {
  let values = map.get(name);
  if (!values) {
    values = new Float32Array(size).fill(NaN);
    map.set(name, values);
  }
  return values;
}

/**
 * Place of the first moment that is not before a time, counted from the oldest.
 * @param {Ring} ring
 * @param {number} time
 */
function search(ring, time) {
  let [low, high] = [0, ring.count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ring.times[(ring.first + middle) % ring.times.length] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class Series {
  constructor() {
    this.fine = makeRing(FINE);
    this.coarse = makeRing(COARSE);
    /** @type {Set<string>} */
    this.names = new Set();
  }

  /**
   * Take the values of a moment in; one that is not later than the last is left out.
   * @param {number} time - seconds since 1970
   * @param {Iterable<[name: string, value: number | null]>} values
   */
  add(time, values) {
    const { fine, coarse } = this;
    if (fine.count && time <= fine.times[lastPlace(fine)]) return;
    advance(fine, time);
    const second = Math.floor(time);
    if (!coarse.count || coarse.times[lastPlace(coarse)] !== second) advance(coarse, second);
    const [now, bucket] = [lastPlace(fine), lastPlace(coarse)];
    for (const [name, value] of values) {
      if (value === null || !Number.isFinite(value)) continue;
      if (!this.names.has(name) && this.names.size >= MOST_NAMES) continue;
      this.names.add(name);
      valuesOf(fine.low, name, FINE)[now] = value;
      const low = valuesOf(coarse.low, name, COARSE);
      const high = valuesOf(coarse.high, name, COARSE);
      low[bucket] = Number.isNaN(low[bucket]) ? value : Math.min(low[bucket], value);
      high[bucket] = Number.isNaN(high[bucket]) ? value : Math.max(high[bucket], value);
    }
  }

  /**
   * The least and greatest value in each of so many equal parts of a time; NaN where there is none.
   * @param {string} name
   * @param {number} from - seconds since 1970
   * @param {number} to
   * @param {number} count - of parts
   */
  columns(name, from, to, count) {
    const columns = { low: new Float32Array(count).fill(NaN), high: new Float32Array(count).fill(NaN) };
    const { fine, coarse } = this;
    const oldest = fine.count ? fine.times[fine.first] : Infinity;
    const wide = (to - from) / count >= 1;
    const border = wide ? to : Math.max(from, Math.min(oldest, to));
    fold(coarse, name, { from, to: border, start: from, width: (to - from) / count }, columns);
    if (!wide) fold(fine, name, { from: border, to, start: from, width: (to - from) / count }, columns);
    return columns;
  }

  /**
   * The value nearest to a time, or null where none is within a second.
   * @param {string} name
   * @param {number} time
   */
  at(name, time) {
    for (const ring of [this.fine, this.coarse]) {
      const values = ring.low.get(name);
      if (!values || !ring.count) continue;
      const after = search(ring, time);
      let best = null;
      let nearest = 1;
      for (const i of [after - 1, after]) {
        if (i < 0 || i >= ring.count) continue;
        const place = (ring.first + i) % ring.times.length;
        const away = Math.abs(ring.times[place] - time);
        if (away <= nearest && !Number.isNaN(values[place])) [best, nearest] = [values[place], away];
      }
      if (best !== null) return best;
    }
    return null;
  }
}

/**
 * @param {Ring} ring
 * @param {string} name
 * @param {{from: number, to: number, start: number, width: number}} span - from, to: of the moments;
 *   start: of the first column; width: of each, seconds
 * @param {{low: Float32Array, high: Float32Array}} columns
 */
function fold(ring, name, { from, to, start, width }, columns) {
  const low = ring.low.get(name);
  if (!low || to <= from) return;
  const high = ring.high.get(name) ?? low;
  const end = search(ring, to);
  for (let i = search(ring, from); i < end; i += 1) {
    const place = (ring.first + i) % ring.times.length;
    if (Number.isNaN(low[place])) continue;
    const column = Math.floor((ring.times[place] - start) / width);
    if (column < 0 || column >= columns.low.length) continue;
    if (!(columns.low[column] <= low[place])) columns.low[column] = low[place];
    if (!(columns.high[column] >= high[place])) columns.high[column] = high[place];
  }
}
