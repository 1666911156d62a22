// @ts-check
// Markers: what somebody wrote beside a moment or a span. Key M asks for it, the ribbon shows it.

import { byId } from "./dom.js";

const HEAD = 5; // half the width of a marker's head, CSS pixels
const AXIS = 17; // height of the times below the lanes, CSS pixels
const MOST_TEXT = 220; // width of a marker's text, CSS pixels
const COLOUR = "#e8c15a";
const GROUND = "rgba(9, 12, 15, 0.85)";

/**
 * @typedef {object} Mark - on the page's time line, seconds since 1970
 * @property {number} from
 * @property {number} to
 * @property {string} text
 */

/**
 * Whether a key is meant for a field of the page.
 * @param {EventTarget | null} target
 */
function isTyping(target) {
  return target instanceof HTMLElement && target.matches("input, select, textarea, [contenteditable]");
}

export class MarkerDialog {
  /**
   * @param {() => number | null} now - seconds on the source's time line; null before a frame
   * @param {(text: string, start_s: number, end_s: number) => void} add
   */
  constructor(now, add) {
    this.now = now;
    this.add = add;
    this.start = 0;
    this.dialog = byId("mark", HTMLDialogElement);
    this.text = byId("mark-text", HTMLInputElement);
    this.when = byId("mark-when", HTMLElement);
    byId("mark-button", HTMLButtonElement).addEventListener("click", () => this.ask());
    byId("mark-cancel", HTMLButtonElement).addEventListener("click", () => this.dialog.close());
    byId("mark-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      const until = event.submitter?.id === "mark-span";
      this.close(until ? this.now() ?? this.start : this.start);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.dialog.open) this.dialog.close();
      if (event.key.toLowerCase() !== "m" || event.ctrlKey || event.metaKey || event.altKey) return;
      if (isTyping(event.target) || this.dialog.open) return;
      event.preventDefault(); // else the letter lands in the field
      this.ask();
    });
  }

  /** Ask what to write; the marker begins now, however long writing takes. */
  ask() {
    const now = this.now();
    if (now === null || this.dialog.open) return;
    this.start = now;
    this.when.textContent = `from ${now.toFixed(1)} s`;
    this.dialog.show(); // the page goes on beside it
    this.text.focus();
  }

  /** @param {number} end */
  close(end) {
    const text = this.text.value.trim();
    if (!text) return;
    this.add(text, this.start, Math.max(end, this.start));
    this.text.value = "";
    this.dialog.close();
  }
}

/**
 * Draw markers over the lanes: a line with its text for a moment, a band for a span.
 * @param {CanvasRenderingContext2D} context
 * @param {Mark[]} marks
 * @param {import("./ribbon.js").Scale} scale
 * @param {number} height - of the ribbon, CSS pixels
 */
export function drawMarkers(context, marks, scale, height) {
  context.save();
  context.fillStyle = context.strokeStyle = COLOUR;
  context.textBaseline = "bottom";
  context.textAlign = "left";
  context.font = `600 11px ${getComputedStyle(document.body).fontFamily}`;
  for (const { from, to, text } of marks) {
    const [left, right] = [scale.x(from), scale.x(to)];
    if (right < 0 || left > scale.width) continue;
    context.globalAlpha = 0.16;
    context.fillRect(left, 0, right - left, height);
    context.globalAlpha = 1;
    context.fillRect(left - 0.5, 0, 1, height);
    context.beginPath();
    context.moveTo(left - HEAD, 0);
    context.lineTo(left + HEAD, 0);
    context.lineTo(left, HEAD * 1.6);
    context.fill();
    const wide = Math.min(MOST_TEXT, context.measureText(text).width);
    context.fillStyle = GROUND;
    context.fillRect(left + HEAD - 2, height - AXIS - 15, wide + 4, 15);
    context.fillStyle = COLOUR;
    context.fillText(text, left + HEAD, height - AXIS - 1, MOST_TEXT);
  }
  context.restore();
}
