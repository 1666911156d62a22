// @ts-check
// Who may lie over the picture where. On /overlay all panels do, and make way for the face.

import { byId } from "./dom.js";

const MARGIN = 8; // CSS pixels between labels and what they must not touch
const OVERLAY_RIBBON = 0.32; // most of the overlay's height that the ribbon may take
const HOLD_S = 3; // the ribbon makes way at once, and comes back only after this

export class Layout {
  /** @param {boolean} overlay - whether the page is laid over another picture */
  constructor(overlay) {
    this.overlay = overlay;
    this.view = byId("view", HTMLElement);
    this.age = byId("age", HTMLElement);
    this.stage = byId("stage", HTMLElement);
    this.history = byId("history", HTMLElement);
    this.lowestMark = { y: 0, at: 0 }; // CSS pixels, seconds
    document.body.classList.toggle("overlay", overlay);
  }

  /** What of the picture's height belongs to something else than labels, CSS pixels. */
  reserved() {
    const view = this.view.getBoundingClientRect();
    if (!this.overlay) {
      const age = this.age.getBoundingClientRect();
      return { top: 0, bottom: age.height ? view.bottom - age.top + MARGIN : 0 };
    }
    const stage = this.stage.getBoundingClientRect();
    const panel = this.history.getBoundingClientRect();
    return { top: stage.bottom - view.top + MARGIN, bottom: view.bottom - panel.top + MARGIN };
  }

  /**
   * On /overlay the marks lie where the face is; the ribbon below takes what height they leave.
   * @param {import("./picture.js").Picture} picture
   * @param {import("./ribbon.js").Ribbon} ribbon
   */
  makeWay(picture, ribbon) {
    if (!this.overlay) return;
    const now = performance.now() / 1000;
    const y = picture.lowest ?? 0;
    if (y >= this.lowestMark.y || now - this.lowestMark.at > HOLD_S) this.lowestMark = { y, at: now };
    const { bottom } = this.history.getBoundingClientRect();
    const frame = this.history.clientHeight - ribbon.canvas.clientHeight;
    const free = Math.min(OVERLAY_RIBBON * innerHeight, bottom - this.lowestMark.y - MARGIN);
    const height = Math.max(ribbon.leastHeight, Math.min(ribbon.wantedHeight, free - frame));
    this.history.style.height = `${Math.round(height + frame)}px`;
  }
}
