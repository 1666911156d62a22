// @ts-check
// The prototypes found so far: the projection of their mean relevance in the AU's colour over the
// face they were found on, or over a drawn face where no picture may be sent.

import { contextOf, make, setText } from "./dom.js";
import { drawFace } from "./face.js";
import { regionWords, say } from "./language.js";
import { meaning, rgb } from "./units.js";

const MOST = 60;

/**
 * @typedef {import("./stream.js").Prototype} Prototype
 *
 * @typedef {object} Thumbnail
 * @property {HTMLElement} element
 * @property {HTMLCanvasElement} canvas
 * @property {HTMLElement} count
 * @property {Prototype | null} painted - what is on the canvas
 * @property {string} colour - of it
 */

/**
 * Paint where a prototype shows, over the face it was found on.
 * @param {HTMLCanvasElement} canvas
 * @param {Prototype} prototype
 * @param {string} colour
 * @param {number} scale - pixels of a cell; the drawn face needs finer lines than the map has cells
 */
export function paintPrototype(canvas, prototype, colour, scale = 2) {
  const { size, relevance, ghost, top } = prototype;
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
    drawFace(context, canvas.width, "#59636e", (1.6 * canvas.width) / 128);
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
   * @param {(prototype: Prototype) => void} open - called when one is to be seen large
   */
  constructor(list, summary, units, open) {
    this.list = list;
    this.summary = summary;
    this.units = units;
    this.open = open;
    /** @type {Map<string, Thumbnail>} */
    this.thumbnails = new Map();
    /** @type {string | undefined} label scrolled to last */
    this.revealed = undefined;
    this.state = ""; // what the grid shows
  }

  reset() {
    this.state = "";
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
    const state = this.stateOf(stream, shown, present);
    if (state === this.state) return; // ten times a second, and laying out the list is costly
    this.state = state;
    this.removeAllBut(new Set(shown.map((prototype) => prototype.label)));
    shown.forEach((prototype, i) => {
      const { element, count } = this.bring(prototype, i);
      const standing = stream.standing(prototype.label);
      const forgotten = stream.forgotten.has(standing);
      const retired = standing !== prototype.label || forgotten;
      let note = `×${prototype.count}`;
      if (standing !== prototype.label) note = `= ${standing}`;
      else if (forgotten) note = say("prototype.forgotten");
      else if (prototype.moved !== null) note += ` ${say("prototype.moved")}`;
      setText(count, note);
      element.title = this.title(prototype, forgotten);
      element.classList.toggle("retired", retired);
      element.classList.toggle("present", present.includes(prototype.label));
    });
    this.reveal(present.find((label) => this.thumbnails.has(label)));
    const more = this.list.scrollHeight > this.list.clientHeight + 1 ? `, ${say("prototype.more")}` : "";
    const found = say("prototype.found", { count: shown.length });
    setText(this.summary, shown.length ? found + more : "");
  }

  /**
   * Everything that decides what the grid looks like.
   * @param {import("./stream.js").Stream} stream
   * @param {Prototype[]} shown
   * @param {string[]} present
   */
  stateOf(stream, shown, present) {
    const { retired, forgotten } = stream;
    const each = shown.map(({ label, at, moved, count }) => `${label} ${at} ${moved} ${count}`);
    const width = innerWidth;
    return [stream.id, this.units.palette.version, width, retired.size, forgotten.size, present, each]
      .join("|");
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
    const colour = this.units.colour(prototype.au);
    if (thumbnail.painted !== prototype || thumbnail.colour !== colour) {
      thumbnail.painted = prototype;
      thumbnail.colour = colour;
      thumbnail.element.style.setProperty("--au", colour);
      paintPrototype(thumbnail.canvas, prototype, colour);
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
    canvas.setAttribute("aria-label", say("prototype.where", { label: prototype.label }));
    const count = make("span", "count", "");
    const mark = this.units.markWord(prototype.au);
    const tags = mark ? [make("em", "mark", mark)] : [];
    const label = make("span", "label", prototype.label);
    const button = make("button", "", canvas, label, count, ...tags);
    button.type = "button";
    const element = make("li", "prototype", button);
    button.addEventListener("click", () => {
      const shown = this.thumbnails.get(prototype.label)?.painted;
      if (shown) this.open(shown);
    });
    return { element, canvas, count, painted: null, colour: "" };
  }

  /**
   * @param {Prototype} prototype
   * @param {boolean} forgotten
   */
  title(prototype, forgotten) {
    const cosine = prototype.moved?.toFixed(2) ?? "";
    return [
      say("prototype.named", { label: prototype.label, frame: prototype.at }),
      regionWords(prototype.regions),
      forgotten ? say("prototype.forgotten.means") : "",
      cosine && say("prototype.moved.means", { cosine }),
      meaning(this.units.mark(prototype.au)),
    ]
      .filter(Boolean)
      .join("\n");
  }
}
