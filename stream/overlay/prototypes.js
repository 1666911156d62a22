// The prototypes found so far: the projection of their mean relevance in the AU's colour over the
// face they were found on, or over a drawn face where no picture may be sent.

import { make, setText } from "./dom.js";
import { MARK_MEANS } from "./model.js";

const MOST = 60;

function rgb(colour) {
  const value = Number.parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/** Draw a plain face where the aligned crop has its eyes, nose and mouth. */
function drawnFace(context, size) {
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

function paint(canvas, prototype, colour) {
  const { size, relevance, ghost, top } = prototype;
  const scale = 2; // the drawn face needs finer lines than the map has cells
  canvas.width = size * scale;
  canvas.height = size * scale;
  const context = canvas.getContext("2d");
  const tile = document.createElement("canvas");
  tile.width = size;
  tile.height = size;
  const pen = tile.getContext("2d");
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
    drawnFace(context, canvas.width);
  }
  for (let i = 0; i < relevance.length; i += 1) {
    const value = relevance[i];
    const alpha = value >= top ? 150 + (105 * value) / 255 : 0;
    image.data.set([red, green, blue, alpha], i * 4);
  }
  pen.putImageData(image, 0, 0);
  context.drawImage(tile, 0, 0, canvas.width, canvas.height);
}

export class Prototypes {
  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} summary - how many there are is written here
   * @param {(au: number) => string} colour
   * @param {(au: number) => string} mark - word of warning of an Action Unit
   */
  constructor(list, summary, colour, mark) {
    this.list = list;
    this.summary = summary;
    this.colour = colour;
    this.mark = mark;
    this.items = new Map();
  }

  reset() {
    this.items.clear();
    this.list.replaceChildren();
  }

  /** Bring the grid up to date; thumbnails are painted once. */
  show(stream, present) {
    const all = [...stream.prototypes.values()].slice(-MOST);
    all.sort((one, other) => one.au - other.au || one.letter.length - other.letter.length
      || (one.letter < other.letter ? -1 : 1));
    const wanted = new Set(all.map((prototype) => prototype.label));
    for (const [label, item] of this.items) {
      if (!wanted.has(label)) {
        item.element.remove();
        this.items.delete(label);
      }
    }
    all.forEach((prototype, i) => {
      let item = this.items.get(prototype.label);
      if (!item) {
        item = this.build(prototype);
        this.items.set(prototype.label, item);
      }
      if (item.prototype !== prototype) {
        item.prototype = prototype;
        paint(item.canvas, prototype, this.colour(prototype.au));
      }
      if (this.list.children[i] !== item.element) {
        this.list.insertBefore(item.element, this.list.children[i] ?? null);
      }
      const standing = stream.standing(prototype.label);
      const forgotten = stream.forgotten.has(standing);
      const retired = standing !== prototype.label || forgotten;
      let note = `×${prototype.count}`;
      if (standing !== prototype.label) note = `= ${standing}`;
      else if (forgotten) note = "given up";
      else if (prototype.moved !== null) note += " moved";
      setText(item.count, note);
      item.element.title = this.title(prototype, forgotten);
      item.element.classList.toggle("retired", retired);
      item.element.classList.toggle("present", present.has(prototype.label));
    });
    this.reveal([...present].find((label) => this.items.has(label)));
    const more = this.list.scrollHeight > this.list.clientHeight + 1 ? ", scroll for all" : "";
    setText(this.summary, all.length ? `${all.length} found${more}` : "");
  }

  /** Scroll the first prototype of a new stage into view, unless somebody is looking around. */
  reveal(label) {
    if (label === this.revealed) return;
    this.revealed = label;
    const element = this.items.get(label)?.element;
    if (!element || this.list.matches(":hover, :focus-within")) return;
    const [top, bottom] = [element.offsetTop, element.offsetTop + element.offsetHeight];
    if (top < this.list.scrollTop || bottom > this.list.scrollTop + this.list.clientHeight) {
      this.list.scrollTop = top;
    }
  }

  build(prototype) {
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Where ${prototype.label} shows`);
    const count = make("span", "count", "");
    const mark = this.mark(prototype.au);
    const tags = mark ? [make("em", "mark", mark)] : [];
    const label = make("span", "label", prototype.label);
    const element = make("li", "prototype", canvas, label, count, ...tags);
    element.style.setProperty("--au", this.colour(prototype.au));
    return { element, canvas, count, prototype: null };
  }

  title(prototype, forgotten) {
    const moved = prototype.moved === null ? "" : `moved: a slow change since it was named (cosine ${
      prototype.moved.toFixed(2)} with then)`;
    return [
      `${prototype.label}: named at frame ${prototype.at}; × stages seen here`,
      forgotten ? "given up: unseen for longest when a new one needed room" : "",
      moved,
      MARK_MEANS[this.mark(prototype.au)],
    ]
      .filter(Boolean)
      .join("\n");
  }
}
