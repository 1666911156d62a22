// @ts-check
// The part of the time that ribbon and curves show: it runs with the present, or stands in the past.

export const LEAST_S = 5;
export const MOST_S = 8 * 3600;

export class Viewport {
  constructor() {
    this.span = 30; // seconds shown
    /** @type {number | null} right edge, seconds since 1970; null: the present */
    this.end = null;
    this.present = 0; // seconds since 1970
  }

  get to() {
    return this.end ?? this.present;
  }

  get from() {
    return this.to - this.span;
  }

  /** Whether it runs with the present. */
  get follows() {
    return this.end === null;
  }

  /**
   * Show so many times as much; a time keeps its place, and the present its edge.
   * @param {number} factor
   * @param {number} at - seconds since 1970
   */
  zoom(factor, at) {
    const span = Math.max(LEAST_S, Math.min(MOST_S, this.span * factor));
    if (this.end !== null) this.stand(at + (this.to - at) * (span / this.span));
    this.span = span;
  }

  /** @param {number} seconds - to the right */
  pan(seconds) {
    this.stand(this.to + seconds);
  }

  /**
   * Stand still with this right edge; at the present it runs again.
   * @param {number} end - seconds since 1970
   */
  stand(end) {
    const oldest = this.present - MOST_S + this.span;
    this.end = end >= this.present ? null : Math.max(oldest, end);
  }

  /**
   * Bring a time into what is shown, if it is not in it.
   * @param {number} time - seconds since 1970
   */
  reveal(time) {
    if (time > this.from && time <= this.to) return;
    this.stand(time + this.span * 0.4);
  }

  /** Run with the present again. */
  follow() {
    this.end = null;
  }
}
