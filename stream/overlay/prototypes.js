// @ts-check
// The prototypes found so far: the projection of their mean relevance in the AU's colour over the
// face they were found on, or over a drawn face where no picture may be sent.

import { contextOf, make, setText } from "./dom.js";
import { MARK_MEANS, rgb } from "./units.js";

const MOST = 60;

/**
 * @typedef {import("./stream.js").Prototype} Prototype
 *
 * @typedef {object} Thumbnail
 * @property {HTMLElement} element
 * @property {HTMLCanvasElement} canvas
 * @property {HTMLElement} count
 * @property {Prototype | null} painted - what is on the canvas
 */

/**
 * Draw a plain face where the aligned crop has its eyes, nose and mouth.
 * @param {CanvasRenderingContext2D} context
 * @param {number} size
 */
function drawFace(context, size) {
  const unit = size / 128;
  context.strokeStyle = "#59636e";
  context.lineWidth = 1.6 * unit;
  context.beginPath();
  context.ellipse(64 * unit, 68 * unit, 46 * unit, 58 * unit, 0, 0, 2 * Math.PI);
  for (const x of [45.5, 82.5]) {
    context.moveTo((x + 9) * unit, 49 * unit);
    context.ellipse(x * unit, 49 * unit, 9 * unit, 4.5 * unit, 0, 0, 2 * Math.PI);
    context.moveTo((x - 11) * unit, 38 * unit);
    context.quadraticCurveTo(x * unit, 32 * unit, (x + 11) * unit, 38 * unit);
  }
  context.moveTo(62 * unit, 54 * unit);
  context.lineTo(58 * unit, 72 * unit);
  context.quadraticCurveTo(64 * unit, 77 * unit, 70 * unit, 72 * unit);
  context.moveTo(49 * unit, 92 * unit);
  context.quadraticCurveTo(64 * unit, 99 * unit, 79 * unit, 92 * unit);
  context.stroke();
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Prototype} prototype
 * @param {string} colour
 */
function paint(canvas, prototype, colour) {
  const { size, relevance, ghost, top } = prototype;
  const scale = 2; // the drawn face needs finer lines than the map has cells
  canvas.width = size * scale;
  canvas.height = size * scale;
  const context = contextOf(canvas);
  const tile = document.createElement("canvas");
  tile.width = size;
  tile.height = size;
  const pen = contextOf(tile);
  const image = new ImageData(size, size);
  const [red, green, blue] = rgb(colour);
  if (ghost) {
    for (let i = 0; i < ghost.length; i += 1) {
      const grey = 20 + ghost[i] * 0.5;
      image.data.set([grey, grey, grey, 255], i * 4);
    }
    pen.putImageData(image, 0, 0);
    context.drawImage(tile, 0, 0, canvas.width, canvas.height);
  } else {
    drawFace(context, canvas.width);
  }
  for (let i = 0; i < relevance.length; i += 1) {
    const value = relevance[i];
    const alpha = value >= top ? 150 + (105 * value) / 255 : 0;
    image.data.set([red, green, blue, alpha], i * 4);
  }
  pen.putImageData(image, 0, 0);
  context.drawImage(tile, 0, 0, canvas.width, canvas.height);
}

/**
 * By Action Unit, then in the order in which letters are given: A … Z, AA, …
 * @param {Prototype} first
 * @param {Prototype} second
 */
function compare(first, second) {
  return first.au - second.au || first.letter.length - second.letter.length
    || (first.letter < second.letter ? -1 : 1);
}

export class Prototypes {
  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} summary - how many there are is written here
   * @param {import("./units.js").Units} units
   */
  constructor(list, summary, units) {
    this.list = list;
    this.summary = summary;
    this.units = units;
    /** @type {Map<string, Thumbnail>} */
    this.thumbnails = new Map();
    /** @type {string | undefined} label scrolled to last */
    this.revealed = undefined;
  }

  reset() {
    this.thumbnails.clear();
    this.list.replaceChildren();
  }

  /**
   * Bring the grid up to date; thumbnails are painted once.
   * @param {import("./stream.js").Stream} stream
   * @param {string[]} present - labels of the stage
   */
  show(stream, present) {
    const shown = [...stream.prototypes.values()].slice(-MOST).sort(compare);
    this.removeAllBut(new Set(shown.map((prototype) => prototype.label)));
    shown.forEach((prototype, i) => {
      const { element, count } = this.bring(prototype, i);
      const standing = stream.standing(prototype.label);
      const forgotten = stream.forgotten.has(standing);
      const retired = standing !== prototype.label || forgotten;
      let note = `×${prototype.count}`;
      if (standing !== prototype.label) note = `= ${standing}`;
      else if (forgotten) note = "given up";
      else if (prototype.moved !== null) note += " moved";
      setText(count, note);
      element.title = this.title(prototype, forgotten);
      element.classList.toggle("retired", retired);
      element.classList.toggle("present", present.includes(prototype.label));
    });
    this.reveal(present.find((label) => this.thumbnails.has(label)));
    const more = this.list.scrollHeight > this.list.clientHeight + 1 ? ", scroll for all" : "";
    setText(this.summary, shown.length ? `${shown.length} found${more}` : "");
  }

  /** @param {Set<string>} wanted */
  removeAllBut(wanted) {
    for (const [label, { element }] of this.thumbnails) {
      if (wanted.has(label)) continue;
      element.remove();
      this.thumbnails.delete(label);
    }
  }

  /**
   * Bring the thumbnail of a prototype to its place, painted.
   * @param {Prototype} prototype
   * @param {number} place
   */
  bring(prototype, place) {
    const thumbnail = this.thumbnails.get(prototype.label) ?? this.build(prototype);
    this.thumbnails.set(prototype.label, thumbnail);
    if (thumbnail.painted !== prototype) {
      thumbnail.painted = prototype;
      paint(thumbnail.canvas, prototype, this.units.colour(prototype.au));
    }
    if (this.list.children[place] !== thumbnail.element) {
      this.list.insertBefore(thumbnail.element, this.list.children[place] ?? null);
    }
    return thumbnail;
  }

  /**
   * Scroll the first prototype of a new stage into view, unless somebody is looking around.
   * @param {string | undefined} label
   */
  reveal(label) {
    if (label === this.revealed) return;
    this.revealed = label;
    const element = label === undefined ? undefined : this.thumbnails.get(label)?.element;
    if (!element || this.list.matches(":hover, :focus-within")) return;
    const [top, bottom] = [element.offsetTop, element.offsetTop + element.offsetHeight];
    if (top < this.list.scrollTop || bottom > this.list.scrollTop + this.list.clientHeight) {
      this.list.scrollTop = top;
    }
  }

  /**
   * @param {Prototype} prototype
   * @returns {Thumbnail}
   */
  build(prototype) {
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Where ${prototype.label} shows`);
    const count = make("span", "count", "");
    const mark = this.units.mark(prototype.au);
    const tags = mark ? [make("em", "mark", mark)] : [];
    const label = make("span", "label", prototype.label);
    const element = make("li", "prototype", canvas, label, count, ...tags);
    element.style.setProperty("--au", this.units.colour(prototype.au));
    return { element, canvas, count, painted: null };
  }

  /**
   * @param {Prototype} prototype
   * @param {boolean} forgotten
   */
  title(prototype, forgotten) {
    const moved = prototype.moved === null ? "" : `moved: a slow change since it was named (cosine ${
      prototype.moved.toFixed(2)} with then)`;
    return [
      `${prototype.label}: named at frame ${prototype.at}; × stages seen here`,
      forgotten ? "given up: unseen for longest when a new one needed room" : "",
      moved,
      MARK_MEANS[this.units.mark(prototype.au)],
    ]
      .filter(Boolean)
      .join("\n");
  }
}
