// @ts-check
// Curves over time on a canvas, for the page and for reports. This module needs no other one.
//
//   const curves = new Curves(canvas, { gutter: 58, colours: () => ({ … }), font: "sans-serif" });
//   curves.series = [seriesOfArrays({ name: "AU12", colour: "#22ddff", low: 0, high: 1,
//                                     threshold: 0.5 }, times, values)];
//   const time = new TimeWindow({ from: 0, to: 60, least: 1, first: 0, last: 60 });
//   const draw = () => curves.draw({ from: time.from, to: time.to, marks: [{ at: 9.6, strong: true }] });
//   followGestures(canvas, time, { gutter: 58, changed: draw, hover: (at) => show(curves.read(at)) });
//
// Times are in seconds on any time line, lengths in CSS pixels. Each series has a row of its own, or
// all share one (`rows: false`). However long the time, a pixel shows the least and the greatest value
// of its part, so that nothing short is lost; marks keep their width.

/**
 * @typedef {object} Series
 * @property {string} name - written beside its row
 * @property {string} colour
 * @property {number} low - value at the bottom of its row
 * @property {number} high - value at the top
 * @property {number} [threshold] - drawn as a dashed line
 * @property {(from: number, to: number, count: number) => Columns} columns - least and greatest value
 *   in each of so many equal parts of a time, NaN where there is none
 * @property {(time: number) => number | null} at - value at a time; null: none is known
 *
 * @typedef {{low: Float32Array, high: Float32Array}} Columns
 *
 * @typedef {{name: string, colour: string, low: number, high: number, threshold?: number}} SeriesStyle
 *
 * @typedef {object} Mark - something that happened: a change, a gap
 * @property {number} at
 * @property {boolean} [strong] - drawn over everything
 *
 * @typedef {object} Scene
 * @property {number} from - left edge
 * @property {number} to - right edge
 * @property {Mark[]} [marks]
 * @property {number | null} [cursor] - a line across all rows
 *
 * @typedef {object} Colours
 * @property {string} text
 * @property {string} quiet - of thresholds and names
 * @property {string} line - between rows
 * @property {string} mark
 * @property {string} cursor
 *
 * @typedef {object} Options
 * @property {number} gutter - room for names at the left
 * @property {() => Colours} colours
 * @property {string} font - family
 * @property {boolean} [rows] - whether each series has a row of its own; default true
 */

const LEAST_ROW = 14;
const NAME_SIZE = 11;

/**
 * Make a series of two arrays.
 * @param {SeriesStyle} style
 * @param {ArrayLike<number>} times - ascending
 * @param {ArrayLike<number>} values - NaN where there is none
 * @param {number} [near] - a value is known this far from its time, seconds
 * @returns {Series}
 */
export function seriesOfArrays(style, times, values, near = 1) {
  const search = (/** @type {number} */ time) => {
    let [low, high] = [0, times.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < time) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return {
    ...style,
    columns: (from, to, count) => {
      const low = new Float32Array(count).fill(NaN);
      const high = new Float32Array(count).fill(NaN);
      for (let i = search(from); i < times.length && times[i] < to; i += 1) {
        const column = Math.min(count - 1, Math.floor(((times[i] - from) / (to - from)) * count));
        if (Number.isNaN(values[i])) continue;
        if (!(low[column] <= values[i])) low[column] = values[i];
        if (!(high[column] >= values[i])) high[column] = values[i];
      }
      return { low, high };
    },
    at: (time) => {
      const after = search(time);
      let [best, nearest] = [/** @type {number | null} */ (null), near];
      for (const i of [after - 1, after]) {
        const away = Math.abs((times[i] ?? Infinity) - time);
        if (away <= nearest && !Number.isNaN(values[i])) [best, nearest] = [values[i], away];
      }
      return best;
    },
  };
}

export class Curves {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Options} options
   */
  constructor(canvas, options) {
    const context = canvas.getContext("2d");
    if (!context) throw new Error("this browser does not draw on a canvas");
    this.canvas = canvas;
    this.context = context;
    this.options = options;
    /** @type {Series[]} */
    this.series = [];
    /** How many of the series had no room when they were drawn last. */
    this.hidden = 0;
  }

  /** Height at which every series has room for its name. */
  get wantedHeight() {
    return LEAST_ROW * ((this.options.rows ?? true) ? this.series.length : 5);
  }

  /** @param {Scene} scene */
  draw(scene) {
    const { canvas, context, options } = this;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const plot = width - options.gutter;
    if (plot < 8 || height < LEAST_ROW || !(scene.to > scene.from)) return;
    const apart = options.rows ?? true;
    const room = apart ? Math.floor(height / LEAST_ROW) : this.series.length;
    const shown = this.series.slice(0, room);
    this.hidden = this.series.length - shown.length;
    const row = apart ? height / Math.max(1, shown.length) : height;
    const x = (/** @type {number} */ time) =>
      options.gutter + ((time - scene.from) / (scene.to - scene.from)) * plot;
    context.save();
    context.beginPath();
    context.rect(options.gutter, 0, plot, height);
    context.clip();
    shown.forEach((one, i) => this.drawRow(one, scene, { top: apart ? i * row : 0, row, plot, ratio }));
    this.drawMarks(scene, x, height);
    context.restore();
    this.drawNames(shown, row, apart);
    canvas.dataset.rows = shown.map((one) => one.name).join(" ");
  }

  /**
   * @param {Series} series
   * @param {Scene} scene
   * @param {{top: number, row: number, plot: number, ratio: number}} place
   */
  drawRow(series, scene, { top, row, plot, ratio }) {
    const { context, options } = this;
    const colours = options.colours();
    const span = series.high - series.low || 1;
    const y = (/** @type {number} */ value) => {
      const share = Math.max(0, Math.min(1, (value - series.low) / span));
      return top + row - 2 - share * (row - 4);
    };
    context.fillStyle = colours.line;
    context.fillRect(options.gutter, top + row - 1, plot, 1);
    if (series.threshold !== undefined) {
      context.strokeStyle = colours.quiet;
      context.lineWidth = 1;
      context.setLineDash([3, 3]);
      context.beginPath();
      context.moveTo(options.gutter, y(series.threshold));
      context.lineTo(options.gutter + plot, y(series.threshold));
      context.stroke();
      context.setLineDash([]);
    }
    const count = Math.max(1, Math.round(plot * ratio));
    const { low, high } = series.columns(scene.from, scene.to, count);
    const bridge = 0.5 / ((scene.to - scene.from) / count); // columns without a value that are bridged
    context.strokeStyle = series.colour;
    context.lineWidth = 1.4;
    context.lineJoin = "round";
    context.beginPath();
    let last = -Infinity;
    for (let i = 0; i < count; i += 1) {
      if (Number.isNaN(low[i])) continue;
      const at = options.gutter + (i + 0.5) / ratio;
      if (i - last > Math.max(2, bridge)) context.moveTo(at, y(low[i]));
      else context.lineTo(at, y(low[i]));
      context.lineTo(at, y(high[i]) - 0.01); // a lone value is a point, not nothing
      last = i;
    }
    context.stroke();
  }

  /**
   * @param {Scene} scene
   * @param {(time: number) => number} x
   * @param {number} height
   */
  drawMarks({ from, to, marks = [], cursor = null }, x, height) {
    const { context } = this;
    const colours = this.options.colours();
    for (const strong of [false, true]) {
      context.fillStyle = strong ? colours.mark : colours.quiet;
      for (const mark of marks) {
        if (mark.at < from || mark.at > to || (mark.strong ?? false) !== strong) continue;
        context.fillRect(x(mark.at) - (strong ? 1 : 0.5), 0, strong ? 2 : 1, height);
      }
    }
    if (cursor === null || cursor < from || cursor > to) return;
    context.fillStyle = colours.cursor;
    context.fillRect(x(cursor) - 0.75, 0, 1.5, height);
  }

  /**
   * @param {Series[]} shown
   * @param {number} row
   * @param {boolean} apart
   */
  drawNames(shown, row, apart) {
    const { context, options } = this;
    const colours = options.colours();
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.font = `500 ${NAME_SIZE}px ${options.font}`;
    const step = apart ? row : LEAST_ROW;
    shown.forEach((series, i) => {
      const y = (i + 0.5) * step;
      context.fillStyle = series.colour;
      context.fillRect(0, y - 5, 3, 10);
      context.fillStyle = colours.text;
      context.fillText(series.name, 8, y + 0.5, options.gutter - 12);
    });
  }

  /**
   * What each series has at a time.
   * @param {number} time
   */
  read(time) {
    return this.series.map((series) => ({ series, value: series.at(time) }));
  }
}

/** A part of a time line that is looked at. */
export class TimeWindow {
  /**
   * @param {object} bounds
   * @param {number} bounds.from
   * @param {number} bounds.to
   * @param {number} bounds.least - shortest part, seconds
   * @param {number} bounds.first - where the time line begins
   * @param {number} bounds.last - where it ends
   */
  constructor({ from, to, least, first, last }) {
    this.from = from;
    this.to = to;
    this.least = least;
    this.first = first;
    this.last = last;
  }

  /**
   * Show so many times as much, about a time that keeps its place.
   * @param {number} factor
   * @param {number} at
   */
  zoom(factor, at) {
    const span = this.to - this.from;
    const wanted = Math.max(this.least, Math.min(this.last - this.first, span * factor));
    const left = at - (at - this.from) * (wanted / span);
    this.set(left, left + wanted);
  }

  /** @param {number} seconds - to the right */
  pan(seconds) {
    this.set(this.from + seconds, this.to + seconds);
  }

  /**
   * Show a part, moved into the bounds.
   * @param {number} from
   * @param {number} to
   */
  set(from, to) {
    const shift = Math.max(0, this.first - from) - Math.max(0, to - this.last);
    this.from = Math.max(this.first, from + shift);
    this.to = Math.min(this.last, to + shift);
  }
}

/**
 * Zoom by wheel, pinch and + −; pan by dragging and arrows with Shift; tell what is pointed at.
 * @param {HTMLElement} element - has the time line to the right of a gutter
 * @param {{from: number, to: number, zoom: (factor: number, at: number) => void,
 *   pan: (seconds: number) => void}} view
 * @param {object} options
 * @param {number} options.gutter
 * @param {() => void} options.changed - called after each zoom and pan
 * @param {(time: number | null) => void} [options.hover] - null: nothing is pointed at
 * @param {(time: number) => void} [options.pick] - clicked or tapped, without dragging
 */
export function followGestures(element, view, { gutter, changed, hover, pick }) {
  /** @type {Map<number, number>} pointer → x */
  const held = new Map();
  let moved = 0;
  const perPixel = () => (view.to - view.from) / Math.max(1, element.clientWidth - gutter);
  const timeAt = (/** @type {number} */ clientX) =>
    view.from + (clientX - element.getBoundingClientRect().left - gutter) * perPixel();
  const spread = () => {
    const places = [...held.values()];
    return { width: Math.abs(places[1] - places[0]), middle: (places[0] + places[1]) / 2 };
  };
  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    if (sideways) view.pan((event.deltaX || event.deltaY) * perPixel());
    else view.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300))), timeAt(event.clientX));
    changed();
  }, { passive: false });
  element.addEventListener("pointerdown", (event) => {
    held.set(event.pointerId, event.clientX);
    element.setPointerCapture(event.pointerId);
    if (held.size === 1) moved = 0;
  });
  element.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    hover?.(timeAt(event.clientX));
    if (before === undefined) return;
    const old = held.size === 2 ? spread() : null;
    held.set(event.pointerId, event.clientX);
    moved += Math.abs(event.clientX - before);
    if (old) view.zoom(old.width / Math.max(1, spread().width), timeAt(old.middle));
    else if (moved > 4) view.pan((before - event.clientX) * perPixel());
    if (old || moved > 4) changed();
  });
  const release = (/** @type {PointerEvent} */ event) => {
    const wasHeld = held.delete(event.pointerId);
    if (event.type !== "pointerup" || !wasHeld || moved > 4 || held.size) return;
    if (event.clientX - element.getBoundingClientRect().left > gutter) pick?.(timeAt(event.clientX));
  };
  element.addEventListener("pointerup", release);
  element.addEventListener("pointercancel", release);
  element.addEventListener("pointerleave", () => hover?.(null));
  element.addEventListener("keydown", (event) => {
    const middle = (view.from + view.to) / 2;
    if (event.key === "+" || event.key === "=") view.zoom(0.5, middle);
    else if (event.key === "-") view.zoom(2, middle);
    else if (event.shiftKey && event.key === "ArrowLeft") view.pan((view.from - view.to) / 4);
    else if (event.shiftKey && event.key === "ArrowRight") view.pan((view.to - view.from) / 4);
    else return;
    event.preventDefault();
    event.stopPropagation();
    changed();
  });
}
