// @ts-check
// The scrolling ribbon: time to the right, one lane per Action Unit, the stage as a whole on top. A
// letter is told by its text and its pattern as well as by its AU's colour. Lanes are never too thin
// for their letters: where there is no room for all AUs, those seen last are shown. However long the
// time, a stage is at least a pixel wide, and the mark of a new explanation keeps its size.

import { isNewReason } from "./changes.js";
import { contextOf, fitCanvas } from "./dom.js";
import { stageText } from "./labels.js";
import { say } from "./language.js";
import { chooseLanes, runs } from "./lanes.js";
import { drawMarkers } from "./markers.js";
import { Patterns } from "./patterns.js";

export const GUTTER = 58;
const STAGE_LANE = 25;
const AXIS = 17;
const GAP = 3;
const THIN_LANE = 13; // a letter of 11 px and its margin
const GOOD_LANE = 15;
const WIDE_LANE = 26;

const INK = "#0b0e11"; // on the colours of Action Units
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

/**
 * @typedef {import("./stream.js").Stream} Stream
 * @typedef {import("./stream.js").Segment} Segment
 * @typedef {import("./lanes.js").Run} Run
 *
 * @typedef {object} Scale
 * @property {number} now - right edge, seconds since 1970
 * @property {number} present - where stages that have not ended end, seconds since 1970
 * @property {number} width - of the ribbon, CSS pixels
 * @property {(time: number) => number} x - place of a time, CSS pixels
 */

export class Ribbon {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./units.js").Units} units
   * @param {import("./theme.js").ThemeChoice} theme
   */
  constructor(canvas, units, theme) {
    this.canvas = canvas;
    this.context = contextOf(canvas);
    this.units = units;
    this.theme = theme;
    this.patterns = new Patterns(this.context, units, theme);
    this.span = 30; // seconds shown
    /** @type {number[]} AUs */
    this.lanes = [];
    this.hidden = 0; // AUs in the span that have no lane
    this.family = ""; // of letters; known once the page is laid out
  }

  /** Height of the ribbon without any lane, CSS pixels. */
  get leastHeight() {
    return STAGE_LANE + GAP + AXIS;
  }

  /** Height at which every AU of the span has a comfortable lane, CSS pixels. */
  get wantedHeight() {
    return this.leastHeight + GOOD_LANE * (this.lanes.length + this.hidden);
  }

  /**
   * Draw a part of the time.
   * @param {Stream} stream
   * @param {import("./viewport.js").Viewport} view
   * @param {number | null} cursor - time that is looked back at, seconds since 1970; null: none
   */
  draw(stream, view, cursor) {
    const { ratio } = fitCanvas(this.canvas);
    const context = this.context;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    context.clearRect(0, 0, width, height);
    const { to: now, from } = view;
    this.span = view.span;
    const segments = stream.between(from, now);
    const top = STAGE_LANE + GAP;
    const room = Math.max(0, height - top - AXIS);
    const { lanes, hidden } = chooseLanes(stream, segments, Math.floor(room / THIN_LANE));
    this.lanes = lanes;
    this.hidden = hidden;
    const lane = Math.min(WIDE_LANE, Math.floor(room / Math.max(1, lanes.length)));
    const perSecond = (width - GUTTER) / this.span;
    /** @type {Scale} */
    const scale = { now, present: view.present, width, x: (time) => width - (now - time) * perSecond };
    this.axis(scale, height);
    context.save();
    context.beginPath();
    context.rect(GUTTER, 0, width - GUTTER, height);
    context.clip();
    this.stageBlocks(segments, scale, top, room);
    lanes.forEach((au, i) => {
      const joined = runs(stream, segments, au, view.present, 1 / perSecond);
      joined.forEach((run, k) => {
        const before = scale.x(joined[k - 1]?.to ?? -Infinity);
        const after = scale.x(joined[k + 1]?.from ?? Infinity);
        this.letterBlock(au, run, { before, after }, scale, top + i * lane, lane);
      });
    });
    for (const { at } of stream.marks) if (at > from && at < now) this.gap(scale.x(at), height);
    const marked = this.changeMarks(stream.changes, scale, from, height);
    drawMarkers(context, stream.markers, scale, height);
    if (cursor !== null) this.cursor(scale.x(cursor), height);
    context.restore();
    this.laneNames(top, lane, height);
    const { dataset } = this.canvas;
    dataset.segments = String(stream.segments.size);
    dataset.lanes = lanes.join(" ");
    dataset.lane = String(lane);
    dataset.changes = String(marked);
  }

  /**
   * Draw the stages; of those in the same pixel the first alone.
   * @param {Segment[]} segments
   * @param {Scale} scale
   * @param {number} top
   * @param {number} room
   */
  stageBlocks(segments, scale, top, room) {
    let drawn = -Infinity;
    for (const segment of segments) {
      const right = scale.x(segment.to ?? scale.present);
      if (right < drawn + 1) continue;
      this.stageBlock(segment, scale, top, room);
      drawn = Math.max(scale.x(segment.from), right - 1);
    }
  }

  /**
   * Mark where an Action Unit was given another explanation, always as large.
   * @param {import("./changes.js").Change[]} changes
   * @param {Scale} scale
   * @param {number} from - left edge, seconds since 1970
   * @param {number} height
   * @returns {number} how many there are
   */
  changeMarks(changes, scale, from, height) {
    const context = this.context;
    context.fillStyle = this.theme.inks.mark;
    let [count, last] = [0, -Infinity];
    for (const change of changes) {
      if (change.at < from || change.at > scale.now || !isNewReason(change)) continue;
      count += 1;
      const x = Math.round(scale.x(change.at));
      if (x === last) continue;
      last = x;
      context.fillRect(x - 1, 0, 2, height - AXIS);
      context.beginPath();
      context.moveTo(x - 6, 0);
      context.lineTo(x + 6, 0);
      context.lineTo(x, 8);
      context.fill();
    }
    return count;
  }

  /**
   * @param {number} x
   * @param {number} height
   */
  cursor(x, height) {
    const context = this.context;
    context.fillStyle = this.theme.inks.past;
    context.fillRect(x - 1, 0, 2, height - AXIS);
    context.beginPath();
    context.arc(x, height - AXIS, 5, 0, 2 * Math.PI);
    context.fill();
  }

  /**
   * @param {Segment} segment
   * @param {Scale} scale
   * @param {number} top - of the lanes
   * @param {number} room - height of all lanes
   */
  stageBlock(segment, scale, top, room) {
    const context = this.context;
    const left = Math.max(GUTTER, scale.x(segment.from));
    const right = scale.x(segment.to ?? scale.present);
    const [width, kind] = [Math.max(1, right - left), segment.labels[0]];
    if (kind === "LOST") {
      context.fillStyle = this.patterns.lost;
      context.fillRect(left, 0, width, top + room);
    } else {
      context.fillStyle = kind === "NONE" ? this.patterns.none : this.theme.inks.block;
      context.fillRect(left, 0, width, STAGE_LANE);
    }
    context.fillStyle = this.theme.inks.quiet; // where a stage begins
    context.fillRect(scale.x(segment.from), 0, 1, STAGE_LANE);
    this.stageText(segment.labels, left, width);
  }

  /**
   * Write as much of a stage as there is room for.
   * @param {string[]} labels
   * @param {number} left
   * @param {number} width
   */
  stageText(labels, left, width) {
    const context = this.context;
    const short = labels.map((label) => label.replace(/^AU0?/, "").replace("_", "")).join(" ");
    const many = labels.length > 1 ? `${labels.length} AUs` : short;
    /** @type {[text: string, size: number][]} */
    const choices = [[stageText(labels), 13], [short, 13], [short, 11], [many, 11]];
    for (const [text, size] of choices) {
      context.font = this.font(600, size);
      const needed = context.measureText(text).width;
      if (needed > width - 12) continue;
      if (labels[0] === "NONE" || labels[0] === "LOST") {
        context.fillStyle = kindGround(this.theme.inks, labels[0]); // calm ground for the word
        context.fillRect(left + 3, 5, needed + 6, STAGE_LANE - 10);
      }
      context.fillStyle = this.theme.inks.text;
      context.textBaseline = "middle";
      context.textAlign = "left";
      context.fillText(text, left + 6, STAGE_LANE / 2 + 0.5);
      return;
    }
  }

  /**
   * @param {number} au
   * @param {Run} run
   * @param {{before: number, after: number}} free - where its neighbours end and begin
   * @param {Scale} scale
   * @param {number} y - top of the lane
   * @param {number} lane - its height
   */
  letterBlock(au, run, free, scale, y, lane) {
    const context = this.context;
    const left = Math.max(GUTTER, scale.x(run.from));
    const width = Math.max(1.5, scale.x(run.to) - left - 1);
    if (left + width < GUTTER) return;
    context.fillStyle = run.letter ? this.patterns.letter(au, run.letter) : this.units.colour(au);
    context.globalAlpha = run.letter ? 1 : 0.45;
    context.beginPath();
    context.roundRect(left, y + 1, width, lane - 2, Math.min(3, width / 2));
    context.fill();
    context.globalAlpha = 1;
    context.strokeStyle = this.theme.inks.edge;
    context.lineWidth = 1;
    if (width > 3) context.stroke();
    context.font = this.font(700, Math.min(14, lane - 2));
    context.textBaseline = "middle";
    context.textAlign = "left";
    const middle = y + lane / 2 + 1; // capitals have nothing below their line
    for (const text of run.texts) {
      const needed = context.measureText(text).width;
      if (needed + 6 > width) continue;
      context.fillStyle = this.units.colour(au);
      context.beginPath();
      context.roundRect(left + 2, y + 1, needed + 6, lane - 2, 2);
      context.fill();
      context.fillStyle = INK;
      context.fillText(text, left + 5, middle);
      return;
    }
    // Too short for its letter, which then stands beside it.
    const [before, after] = [Math.max(GUTTER, free.before), Math.min(scale.width, free.after)];
    for (const text of run.texts) {
      const needed = context.measureText(text).width + 3;
      const right = left + width + 2;
      context.fillStyle = this.theme.inks.text;
      if (right + needed < after) context.fillText(text, right, middle);
      else if (left - needed > before) context.fillText(text, left - needed, middle);
      else continue;
      return;
    }
  }

  /**
   * Mark a gap in the source, or where another person begins.
   * @param {number} x
   * @param {number} height - of the ribbon
   */
  gap(x, height) {
    const context = this.context;
    if (x < GUTTER) return;
    context.strokeStyle = this.theme.inks.quiet;
    context.setLineDash([2, 3]);
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, height - AXIS);
    context.stroke();
    context.setLineDash([]);
  }

  /**
   * @param {Scale} scale
   * @param {number} height - of the ribbon
   */
  axis(scale, height) {
    const context = this.context;
    const wide = (scale.width - GUTTER) / this.span;
    const step = STEPS_S.find((seconds) => seconds * wide > 84) ?? 7200;
    context.font = this.font(400, 11);
    context.textBaseline = "alphabetic";
    context.textAlign = "center";
    const latest = Math.floor(scale.now / step) * step;
    for (let time = latest; time > scale.now - this.span; time -= step) {
      const x = scale.x(time);
      context.fillStyle = this.theme.inks.line;
      context.fillRect(x, STAGE_LANE, 1, height - AXIS - STAGE_LANE);
      context.fillStyle = this.theme.inks.quiet;
      const text = new Date(time * 1000).toLocaleTimeString([], { hour12: false });
      if (x > GUTTER + 24 && x < scale.width - 24) context.fillText(text, x, height - 3);
    }
  }

  /**
   * @param {number} top - of the lanes
   * @param {number} lane - height of each
   * @param {number} height - of the ribbon
   */
  laneNames(top, lane, height) {
    const context = this.context;
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.font = this.font(600, 12);
    context.fillStyle = this.theme.inks.quiet;
    context.fillText(say("ribbon.stage"), 0, STAGE_LANE / 2 + 0.5);
    if (this.hidden) {
      context.font = this.font(500, 11);
      context.fillText(say("ribbon.hidden", { count: this.hidden }), 8, height - 7);
    }
    const size = Math.min(13, lane - 1);
    this.lanes.forEach((au, i) => {
      const y = top + i * lane;
      context.fillStyle = this.units.colour(au);
      context.fillRect(0, y + 2, 3, lane - 4);
      context.font = this.font(500, size);
      context.fillStyle = this.theme.inks.text;
      const code = `AU${String(au).padStart(2, "0")}`;
      context.fillText(code, 8, y + lane / 2 + 0.5);
      if (!this.units.mark(au)) return;
      const right = 8 + context.measureText(code).width;
      context.fillStyle = this.theme.inks.quiet;
      context.fillText("?", right + 3, y + lane / 2 + 0.5);
    });
  }

  /**
   * @param {number} weight
   * @param {number} size - CSS pixels
   */
  font(weight, size) {
    this.family ||= getComputedStyle(this.canvas).fontFamily;
    return `${weight} ${size}px ${this.family}`;
  }
}

/**
 * Calm ground for a word on a pattern.
 * @param {import("./theme.js").Inks} inks
 * @param {string} kind - NONE or LOST
 */
function kindGround(inks, kind) {
  return kind === "NONE" ? inks.none : inks.lost;
}
