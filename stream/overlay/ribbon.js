// The scrolling ribbon: time to the right, one lane per Action Unit, the stage as a whole on top. A
// letter is told by its text and its pattern as well as by its AU's colour. Lanes are never too thin
// for their letters: where there is no room for all AUs, those seen last are shown.

import { splitLabel, stageText } from "./model.js";

const GUTTER = 58;
const STAGE_LANE = 25;
const AXIS = 17;
const GAP = 3;
const THIN_LANE = 13; // a letter of 11 px and its margin
const GOOD_LANE = 15;
const WIDE_LANE = 26;

const INK = "#0b0e11";
const TEXT = "#e9edf2";
const QUIET = "#95a1ad";
const LINE = "#262d35";

/** A small tile of lines that is repeated over an area. */
function pattern(context, size, background, strokes) {
  const tile = document.createElement("canvas");
  tile.width = size;
  tile.height = size;
  const pen = tile.getContext("2d");
  if (background) {
    pen.fillStyle = background;
    pen.fillRect(0, 0, size, size);
  }
  strokes(pen);
  return context.createPattern(tile, "repeat");
}

function slashes(pen, size, colour, width, both) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.beginPath();
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift, size);
    pen.lineTo(shift + size, 0);
    if (both) {
      pen.moveTo(shift, 0);
      pen.lineTo(shift + size, size);
    }
  }
  pen.stroke();
}

/** The letter's place in the alphabet, A = 0; AA = 26. */
function rank(letter) {
  let value = 0;
  for (const character of letter) value = value * 26 + character.charCodeAt(0) - 64;
  return value - 1;
}

export class Ribbon {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(au: number) => string} colour
   * @param {(au: number) => string} mark - word of warning of an Action Unit
   */
  constructor(canvas, colour, mark) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.colour = colour;
    this.mark = mark;
    this.span = 30;
    this.patterns = new Map();
    this.lanes = [];
    this.hidden = 0; // AUs in the span that have no lane
  }

  /** Height of the ribbon without any lane, CSS pixels. */
  get leastHeight() {
    return STAGE_LANE + GAP + AXIS;
  }

  /** Height at which every AU of the span has a comfortable lane, CSS pixels. */
  get wantedHeight() {
    return this.leastHeight + GOOD_LANE * (this.lanes.length + this.hidden);
  }

  resize() {
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.round(this.canvas.clientWidth * ratio);
    const height = Math.round(this.canvas.clientHeight * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  /**
   * Draw the last seconds up to `now`.
   * @param {object} stream - see model.js
   * @param {number} now - right edge, seconds since 1970
   */
  draw(stream, now) {
    this.resize();
    const context = this.context;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    context.clearRect(0, 0, width, height);
    const segments = [...stream.segments.values()]
      .filter((segment) => segment.to === null || segment.to > now - this.span)
      .sort((one, other) => one.from - other.from);
    const top = STAGE_LANE + GAP;
    const room = Math.max(0, height - top - AXIS);
    this.chooseLanes(stream, segments, Math.floor(room / THIN_LANE));
    const lane = Math.min(WIDE_LANE, Math.floor(room / Math.max(1, this.lanes.length)));
    const perSecond = (width - GUTTER) / this.span;
    const scale = { now, width, x: (time) => width - (now - time) * perSecond };
    this.axis(scale, height);
    context.save();
    context.beginPath();
    context.rect(GUTTER, 0, width - GUTTER, height);
    context.clip();
    for (const segment of segments) this.stageBlock(segment, scale, top, room);
    this.lanes.forEach((au, i) => {
      const runs = this.runs(stream, segments, au, now);
      runs.forEach((run, k) => {
        const free = [runs[k - 1]?.to ?? -Infinity, runs[k + 1]?.from ?? Infinity].map(scale.x);
        this.letterBlock(au, run, free, scale, top + i * lane, lane);
      });
    });
    for (const mark of stream.marks) this.mark(mark, scale, height);
    context.restore();
    this.laneNames(top, lane, height);
    const { dataset } = this.canvas;
    dataset.segments = String(stream.segments.size);
    dataset.lanes = this.lanes.join(" ");
    dataset.lane = String(lane);
  }

  /**
   * Choose whose lanes are drawn: all AUs that have ever appeared, which stay in place; if those do
   * not fit, the AUs of the span shown; if those do not fit, the latest of them.
   * @param {object} stream
   * @param {object[]} segments - of the span
   * @param {number} most - lanes that fit
   */
  chooseLanes(stream, segments, most) {
    const latest = new Map(); // AU → when it was there last
    for (const segment of segments) {
      for (const label of segment.labels) {
        const parts = splitLabel(label);
        if (parts) latest.set(parts.au, segment.to ?? Infinity);
      }
    }
    const known = new Set(latest.keys());
    for (const prototype of stream.prototypes.values()) known.add(prototype.au);
    const all = known.size <= most ? [...known] : [...latest.keys()];
    const newer = (one, other) => (latest.get(one) < latest.get(other) ? 1 : -1);
    this.hidden = Math.max(0, all.length - most);
    this.lanes = this.hidden ? all.sort(newer).slice(0, most) : all;
    this.lanes.sort((one, other) => one - other);
  }

  /** Join the stages over which an AU keeps its letter. */
  runs(stream, segments, au, now) {
    const runs = [];
    for (const segment of segments) {
      const label = segment.labels.find((name) => splitLabel(name)?.au === au);
      if (!label) continue;
      const { letter } = splitLabel(label);
      const to = segment.to ?? now;
      const last = runs.at(-1);
      if (last && last.letter === letter && segment.from - last.to < 0.05) last.to = to;
      else runs.push({ letter, texts: this.letterTexts(stream, label), from: segment.from, to });
    }
    return runs;
  }

  /** What to write on a run, best first: a stage that has ended keeps the letter it was told with. */
  letterTexts(stream, label) {
    const { letter } = splitLabel(label);
    if (!letter) return [];
    const standing = splitLabel(stream.standing(label))?.letter ?? letter;
    return standing === letter ? [letter] : [`${letter}=${standing}`, letter];
  }

  stageBlock(segment, scale, top, room) {
    const context = this.context;
    const left = Math.max(GUTTER, scale.x(segment.from));
    const right = scale.x(segment.to ?? scale.now);
    const [width, kind] = [Math.max(1, right - left), segment.labels[0]];
    if (kind === "LOST") {
      context.fillStyle = this.pattern("LOST");
      context.fillRect(left, 0, width, top + room);
    } else {
      context.fillStyle = kind === "NONE" ? this.pattern("NONE") : "#222a32";
      context.fillRect(left, 0, width, STAGE_LANE);
    }
    context.fillStyle = "rgba(233, 237, 242, 0.55)"; // where a stage begins
    context.fillRect(scale.x(segment.from), 0, 1, STAGE_LANE);
    this.stageText(segment.labels, left, width);
  }

  stageText(labels, left, width) {
    const context = this.context;
    const short = labels.map((label) => label.replace(/^AU0?/, "").replace("_", "")).join(" ");
    const many = labels.length > 1 ? `${labels.length} AUs` : short;
    for (const [text, size] of [[stageText(labels), 13], [short, 13], [short, 11], [many, 11]]) {
      context.font = this.font(600, size);
      const needed = context.measureText(text).width;
      if (needed > width - 12) continue;
      if (labels[0] === "NONE" || labels[0] === "LOST") {
        context.fillStyle = "rgba(11, 14, 17, 0.9)"; // calm ground for the word
        context.fillRect(left + 3, 5, needed + 6, STAGE_LANE - 10);
      }
      context.fillStyle = TEXT;
      context.textBaseline = "middle";
      context.textAlign = "left";
      context.fillText(text, left + 6, STAGE_LANE / 2 + 0.5);
      return;
    }
  }

  letterBlock(au, run, free, scale, y, lane) {
    const context = this.context;
    const left = Math.max(GUTTER, scale.x(run.from));
    const width = Math.max(1.5, scale.x(run.to) - left - 1);
    if (left + width < GUTTER) return;
    const place = rank(run.letter || "A");
    context.fillStyle = run.letter ? this.pattern(`${au}.${place % 3}`) : this.colour(au);
    context.globalAlpha = run.letter ? 1 : 0.45;
    context.beginPath();
    context.roundRect(left, y + 1, width, lane - 2, Math.min(3, width / 2));
    context.fill();
    context.globalAlpha = 1;
    context.font = this.font(700, Math.min(14, lane - 2));
    context.textBaseline = "middle";
    context.textAlign = "left";
    const middle = y + lane / 2 + 1; // capitals have nothing below their line
    for (const text of run.texts) {
      const needed = context.measureText(text).width;
      if (needed + 6 > width) continue;
      context.fillStyle = this.colour(au);
      context.beginPath();
      context.roundRect(left + 2, y + 1, needed + 6, lane - 2, 2);
      context.fill();
      context.fillStyle = INK;
      context.fillText(text, left + 5, middle);
      return;
    }
    // Too short for its letter, which then stands beside it.
    const [before, after] = [Math.max(GUTTER, free[0]), Math.min(scale.width, free[1])];
    for (const text of run.texts) {
      const needed = context.measureText(text).width + 3;
      const right = left + width + 2;
      context.fillStyle = TEXT;
      if (right + needed < after) context.fillText(text, right, middle);
      else if (left - needed > before) context.fillText(text, left - needed, middle);
      else continue;
      return;
    }
  }

  mark(mark, scale, height) {
    const context = this.context;
    const x = scale.x(mark.at);
    if (x < GUTTER) return;
    context.strokeStyle = QUIET;
    context.setLineDash([2, 3]);
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, height - AXIS);
    context.stroke();
    context.setLineDash([]);
  }

  axis(scale, height) {
    const context = this.context;
    const wide = (scale.width - GUTTER) / this.span;
    const step = [1, 2, 5, 10, 15, 30, 60].find((seconds) => seconds * wide > 84) ?? 60;
    context.font = this.font(400, 11);
    context.textBaseline = "alphabetic";
    context.textAlign = "center";
    const latest = Math.floor(scale.now / step) * step;
    for (let time = latest; time > scale.now - this.span; time -= step) {
      const x = scale.x(time);
      context.fillStyle = LINE;
      context.fillRect(x, STAGE_LANE, 1, height - AXIS - STAGE_LANE);
      context.fillStyle = QUIET;
      const text = new Date(time * 1000).toLocaleTimeString([], { hour12: false });
      if (x > GUTTER + 24 && x < scale.width - 24) context.fillText(text, x, height - 3);
    }
  }

  laneNames(top, lane, height) {
    const context = this.context;
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.font = this.font(600, 12);
    context.fillStyle = QUIET;
    context.fillText("stage", 0, STAGE_LANE / 2 + 0.5);
    if (this.hidden) {
      context.font = this.font(500, 11);
      context.fillText(`+${this.hidden} ${this.hidden > 1 ? "AUs" : "AU"}`, 8, height - 7);
    }
    const size = Math.min(13, lane - 1);
    this.lanes.forEach((au, i) => {
      const y = top + i * lane;
      context.fillStyle = this.colour(au);
      context.fillRect(0, y + 2, 3, lane - 4);
      context.font = this.font(500, size);
      context.fillStyle = TEXT;
      const code = `AU${String(au).padStart(2, "0")}`;
      context.fillText(code, 8, y + lane / 2 + 0.5);
      if (!this.mark(au)) return;
      const right = 8 + context.measureText(code).width;
      context.fillStyle = QUIET;
      context.fillText("?", right + 3, y + lane / 2 + 0.5);
    });
  }

  font(weight, size) {
    this.family ??= getComputedStyle(this.canvas).fontFamily;
    return `${weight} ${size}px ${this.family}`;
  }

  pattern(name) {
    if (!this.patterns.has(name)) this.patterns.set(name, this.makePattern(name));
    return this.patterns.get(name);
  }

  makePattern(name) {
    const context = this.context;
    if (name === "NONE") {
      return pattern(context, 8, "#151a20", (pen) => slashes(pen, 8, "#46515c", 1, false));
    }
    if (name === "LOST") {
      return pattern(context, 8, "#0d1013", (pen) => slashes(pen, 8, "#323a43", 1, true));
    }
    const [au, variant] = name.split(".").map(Number);
    return pattern(context, 6, this.colour(au), (pen) => {
      if (variant === 1) slashes(pen, 6, "rgba(11, 14, 17, 0.45)", 1.6, false);
      if (variant === 2) {
        pen.fillStyle = "rgba(11, 14, 17, 0.55)";
        pen.fillRect(2, 2, 2, 2);
      }
    });
  }

  /** Colours have changed: patterns are made anew. */
  forgetColours() {
    this.patterns.clear();
  }
}
