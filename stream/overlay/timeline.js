// @ts-check
// Ribbon and curves as they run, over the same part of the time: its right edge, its pace, its span,
// and what is pointed at.

import { isNewReason } from "./changes.js";
import { Curves, followGestures } from "./curves.js";
import { byId, setText } from "./dom.js";
import { say } from "./language.js";
import { GUTTER } from "./ribbon.js";
import { Viewport } from "./viewport.js";

const PACE_MS = 66;
const CALM_PACE_MS = 1000; // for those who want little motion

/**
 * @typedef {object} TimelineOptions
 * @property {import("./model.js").Model} model
 * @property {import("./feed.js").Feed} feed
 * @property {import("./theme.js").ThemeChoice} theme
 * @property {() => import("./stream.js").Stream | null} stream - the one shown
 * @property {() => number | null} cursor - time that is looked back at; null: none
 * @property {(time: number) => void} pick - called when a time of the past was clicked
 */

export class Timeline {
  /**
   * @param {import("./ribbon.js").Ribbon} ribbon
   * @param {TimelineOptions} options
   */
  constructor(ribbon, options) {
    this.ribbon = ribbon;
    this.options = options;
    this.view = new Viewport();
    this.latestEdge = 0;
    this.timer = 0;
    this.drawnAt = ""; // what was drawn last
    this.readout = byId("readout", HTMLElement);
    this.curves = new Curves(byId("curves", HTMLCanvasElement), {
      gutter: GUTTER,
      colours: () => {
        const { text, quiet, line, mark, past } = options.theme.inks;
        return { text, quiet, line, mark, cursor: past };
      },
      font: getComputedStyle(document.body).fontFamily,
    });
    this.buttons = [...byId("spans", HTMLElement).querySelectorAll("button[data-span]")];
    for (const button of this.buttons) {
      button.addEventListener("click", () => this.setSpan(Number(button.getAttribute("data-span"))));
    }
    for (const canvas of [ribbon.canvas, this.curves.canvas]) {
      followGestures(canvas, this.view, {
        gutter: GUTTER,
        changed: () => this.refresh(),
        hover: (time) => this.hover(time),
        pick: options.pick,
      });
      new ResizeObserver(() => this.refresh()).observe(canvas);
    }
    const calm = matchMedia("(prefers-reduced-motion: reduce)");
    calm.addEventListener("change", () => this.setPace(calm.matches));
    this.setPace(calm.matches);
    this.setSpan(this.view.span);
  }

  /** Begin anew, for another stream or another run of the server. */
  reset() {
    this.latestEdge = 0;
    this.view.follow();
  }

  /**
   * The present: now while frames come, the last of them when they stop.
   * @param {import("./stream.js").Stream} stream
   */
  edge(stream) {
    const { model, feed } = this.options;
    if (!stream.captured) return this.latestEdge || model.now();
    const { captured } = stream;
    // A replay goes back, too.
    if (model.hello?.replay) return (this.latestEdge = captured);
    const edge = feed.live ? Math.min(model.now(), captured + 1) : captured;
    this.latestEdge = Math.max(this.latestEdge, edge);
    return this.latestEdge;
  }

  /** Draw if anything of it would look different. */
  draw() {
    const stream = this.options.stream();
    if (!stream || document.hidden) return;
    const { view } = this;
    view.present = this.edge(stream);
    const cursor = this.options.cursor();
    const pixel = view.span / Math.max(1, this.ribbon.canvas.clientWidth);
    // At eight hours a pixel is half a minute: nothing moves in between, but what is new is seen.
    const place = Math.round(view.to / pixel);
    const known = stream.changes.length + stream.segments.size + stream.marks.length;
    const labels = stream.stage?.labels ?? [];
    const state = [place, view.span, cursor, known, labels, stream.id].join();
    if (state === this.drawnAt) return;
    this.drawnAt = state;
    this.ribbon.draw(stream, view, cursor);
    if (!this.curves.canvas.hidden) this.drawCurves(stream, cursor);
  }

  /** Draw anew at once: colours, sizes or what is looked at have changed. */
  refresh() {
    this.drawnAt = "";
    this.showSpan();
    this.draw();
  }

  /**
   * @param {import("./stream.js").Stream} stream
   * @param {number | null} cursor
   */
  drawCurves(stream, cursor) {
    const { units } = this.ribbon;
    const { series } = stream;
    /** @type {import("./curves.js").Series[]} */
    const rows = [];
    for (const { name, low, high, on } of this.options.model.hello?.scores ?? []) {
      const style = { name, low, high, threshold: on, colour: this.options.theme.inks.text };
      rows.push(this.row(series, `score ${name}`, style));
    }
    for (const au of this.ribbon.lanes) {
      const threshold = units.find(au)?.on;
      const style = { name: `AU${String(au).padStart(2, "0")}`, colour: units.colour(au) };
      rows.push(this.row(series, `AU${au}`, { ...style, low: 0, high: 1, threshold }));
    }
    this.curves.series = rows;
    const { from, to } = this.view;
    const marks = stream.changes
      .filter((change) => change.at >= from && isNewReason(change))
      .map(({ at }) => ({ at, strong: true }));
    this.curves.draw({ from, to, cursor, marks });
  }

  /**
   * @param {import("./series.js").Series} series
   * @param {string} key
   * @param {import("./curves.js").SeriesStyle} style
   * @returns {import("./curves.js").Series}
   */
  row(series, key, { name, colour, low, high, threshold }) {
    return {
      name, colour, low, high, threshold,
      columns: (from, to, count) => series.columns(key, from, to, count),
      at: (time) => series.at(key, time),
    };
  }

  /**
   * Tell the time that is pointed at, and what was found then.
   * @param {number | null} time - seconds since 1970; null: nothing is pointed at
   */
  hover(time) {
    const stream = this.options.stream();
    const shown = time !== null && stream !== null && time >= this.view.from && time <= this.view.to;
    this.readout.hidden = !shown;
    if (!shown) return;
    const clock = new Date(time * 1000).toLocaleTimeString([], { hour12: false });
    const values = this.curves.canvas.hidden ? [] : this.curves.read(time)
      .filter(({ value }) => value !== null)
      .map(({ series, value }) => `${series.name} ${value?.toFixed(2)}`);
    const labels = stream.stageAt(time)?.labels ?? [];
    setText(this.readout, [clock, labels.join(" "), ...values].filter(Boolean).join(" · "));
  }

  /** @param {number} seconds */
  setSpan(seconds) {
    this.view.zoom(seconds / this.view.span, this.options.cursor() ?? this.view.to);
    this.refresh();
  }

  showSpan() {
    for (const button of this.buttons) {
      const pressed = Math.abs(Number(button.getAttribute("data-span")) - this.view.span) < 0.5;
      button.setAttribute("aria-pressed", String(pressed));
    }
    const { view } = this;
    const away = view.follows ? "" : say("ribbon.away");
    this.ribbon.canvas.dataset.span = String(Math.round(view.span));
    this.ribbon.canvas.title = away;
  }

  /** @param {boolean} calm */
  setPace(calm) {
    clearInterval(this.timer);
    this.timer = setInterval(() => this.draw(), calm ? CALM_PACE_MS : PACE_MS);
  }
}
