// The picture with the relevance over it. It is drawn only when the JPEG, the `frame` and the
// `heat` of the same frame are all here, so that what is marked is what was analysed.

const WAITING = 6; // JPEGs that wait for their messages
const CONTOUR_LEVELS = [0.4, 0.55, 0.28]; // AUs that look at the same place get nested lines
// Dark, light, then the AU's colour (null): it stands out from any skin and any background.
const LINES = [["rgba(0, 0, 0, 0.45)", 3], ["rgba(255, 255, 255, 0.85)", 2], [null, 1.4]];
const LABEL_INERTIA = 0.7; // labels follow their blob slowly enough to be read
const LOYALTY = 2; // a label leaves its part of the mask only for one that weighs twice as much
const SAME_PART = 0.12; // closer than this share of the face's width is the same part

/**
 * Outline a mask by marching squares on its lightly blurred support, which drops single cells.
 * @returns {Float32Array} x0, y0, x1, y1 of each piece, in mask coordinates
 */
export function contour(cells, size, level) {
  const field = new Float32Array((size + 2) * (size + 2)); // one empty cell around closes the line
  const width = size + 2;
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      if (!cells[y * size + x]) continue;
      for (let dy = 0; dy < 3; dy += 1) {
        for (let dx = 0; dx < 3; dx += 1) {
          const weight = (dx === 1 ? 2 : 1) * (dy === 1 ? 2 : 1);
          field[(y + dy) * width + x + dx] += weight / 16;
        }
      }
    }
  }
  const pieces = [];
  const cut = (a, b) => (level - a) / (b - a);
  for (let y = 0; y + 1 < width; y += 1) {
    for (let x = 0; x + 1 < width; x += 1) {
      const i = y * width + x;
      const [a, b, c, d] = [field[i], field[i + 1], field[i + width + 1], field[i + width]];
      const ends = [];
      if (a >= level !== b >= level) ends.push(x + cut(a, b), y);
      if (b >= level !== c >= level) ends.push(x + 1, y + cut(b, c));
      if (c >= level !== d >= level) ends.push(x + cut(d, c), y + 1);
      if (d >= level !== a >= level) ends.push(x, y + cut(a, d));
      for (let k = 0; k + 3 < ends.length; k += 4) pieces.push(...ends.slice(k, k + 4));
    }
  }
  // field[1][1] is the centre of cell (0, 0), at (0.5, 0.5)
  return Float32Array.from(pieces, (value) => value - 0.5);
}

/**
 * Split a mask into its connected parts. A smile marks two corners; the centre of the whole would
 * point at neither.
 * @returns {{mass: number, u: number, v: number}[]} weight and centre of mass of each part
 */
export function parts(cells, size) {
  const seen = new Uint8Array(cells.length);
  const found = [];
  for (let seed = 0; seed < cells.length; seed += 1) {
    if (!cells[seed] || seen[seed]) continue;
    const part = { mass: 0, u: 0, v: 0 };
    const queue = [seed];
    seen[seed] = 1;
    while (queue.length) {
      const i = queue.pop();
      const [x, y] = [i % size, Math.floor(i / size)];
      part.mass += cells[i];
      part.u += cells[i] * (x + 0.5);
      part.v += cells[i] * (y + 0.5);
      for (let near = 0; near < 9; near += 1) {
        const [nx, ny] = [x + (near % 3) - 1, y + Math.floor(near / 3) - 1];
        const j = ny * size + nx;
        if (nx < 0 || ny < 0 || nx >= size || ny >= size || seen[j] || !cells[j]) continue;
        seen[j] = 1;
        queue.push(j);
      }
    }
    found.push({ mass: part.mass, u: part.u / part.mass, v: part.v / part.mass });
  }
  return found;
}

function rgb(colour) {
  const value = Number.parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

export class Picture {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {object} options - video: whether pictures are expected; decode(text) → bytes;
   *   colour(au) → "#rrggbb"; mark(au) → a word of warning, or ""; reserved() → {top, bottom}, CSS pixels kept free of labels
   */
  constructor(canvas, options) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.options = options;
    this.scratch = document.createElement("canvas");
    this.reset();
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  reset() {
    this.waiting = new Map();
    this.decoding = false;
    this.drawn = null;
    this.labels = new Map();
    this.turn = (this.turn ?? 0) + 1;
    this.schedule();
  }

  /** When the frame on show was grabbed, seconds since 1970; null before the first. */
  get captured() {
    return this.drawn?.captured ?? null;
  }

  /** Lower edge of the lowest mark on the face, CSS pixels from the top; null without any. */
  get lowest() {
    if (!this.drawn?.matrix || !this.canvas.width) return null;
    const [, , , d, e, f] = this.drawn.matrix;
    let lowest = -Infinity;
    for (const { outline } of this.drawn.masks) {
      for (let i = 0; i < outline.length; i += 2) {
        lowest = Math.max(lowest, d * outline[i] + e * outline[i + 1] + f);
      }
    }
    const { scale, top } = this.view();
    return Number.isFinite(lowest) ? (lowest * scale + top) / this.unit(1) : null;
  }

  get shown() {
    return this.drawn?.sample.frame ?? -1;
  }

  offer(frame, jpeg) {
    this.waiting.set(frame, jpeg);
    for (const key of this.waiting.keys()) {
      if (this.waiting.size <= WAITING) break;
      this.waiting.delete(key);
    }
  }

  /** Draw the newest frame of which everything is here. */
  async match(stream) {
    if (this.decoding) return;
    const candidates = this.options.video() ? this.waiting : stream.heats;
    let newest = this.shown;
    for (const frame of candidates.keys()) {
      if (frame > newest && stream.frames.has(frame) && stream.heats.has(frame)) newest = frame;
    }
    if (newest === this.shown) return;
    const { data: sample, captured } = stream.frames.get(newest);
    const heat = stream.heats.get(newest);
    let image = null;
    if (this.options.video()) {
      const turn = this.turn;
      this.decoding = true;
      try {
        const jpeg = new Blob([this.waiting.get(newest)], { type: "image/jpeg" });
        image = await createImageBitmap(jpeg);
      } catch {
        this.waiting.delete(newest); // a broken picture is not drawn; the next one will be
      } finally {
        this.decoding = false;
      }
      if (turn !== this.turn || image === null) {
        image?.close();
        return;
      }
      for (const frame of this.waiting.keys()) if (frame <= newest) this.waiting.delete(frame);
    }
    this.drawn?.image?.close();
    this.drawn = { sample, captured, image, masks: this.prepare(heat), matrix: heat.matrix };
    this.follow();
    this.schedule();
    if (this.waiting.size) this.match(stream);
  }

  /** Decode and outline the masks of one frame. */
  prepare(heat) {
    // Many AUs share the face: the more there are, the more the lines must do alone.
    const faint = heat.masks.length > 3 ? 32 : 55;
    return heat.masks.map((mask, i) => {
      const cells = this.options.decode(mask.data);
      const colour = this.options.colour(mask.au);
      const [red, green, blue] = rgb(colour);
      const tile = new ImageData(heat.size, heat.size);
      for (let k = 0; k < cells.length; k += 1) {
        if (!cells[k]) continue;
        tile.data.set([red, green, blue, faint + (cells[k] * 2 * faint) / 255], k * 4);
      }
      return {
        au: mask.au,
        label: mask.label,
        colour,
        tile,
        size: heat.size,
        outline: contour(cells, heat.size, CONTOUR_LEVELS[i % CONTOUR_LEVELS.length]),
        parts: parts(cells, heat.size),
      };
    });
  }

  resize() {
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.round(this.canvas.clientWidth * ratio);
    const height = Math.round(this.canvas.clientHeight * ratio);
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.schedule();
  }

  /** Where the frame lies on the canvas: scale and offset in canvas pixels. */
  view() {
    const { width, height } = this.drawn.sample;
    const scale = Math.min(this.canvas.width / width, this.canvas.height / height);
    return {
      scale,
      left: (this.canvas.width - width * scale) / 2,
      top: (this.canvas.height - height * scale) / 2,
    };
  }

  /** Paint with the next frame of the screen, once, however much arrives before it. */
  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.paint();
    });
  }

  paint() {
    const context = this.context;
    this.canvas.dataset.frame = String(this.shown);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.drawn || !this.canvas.width) return;
    const view = this.view();
    const { sample, image, masks, matrix } = this.drawn;
    if (image) {
      context.imageSmoothingQuality = "high";
      const [width, height] = [sample.width * view.scale, sample.height * view.scale];
      context.drawImage(image, view.left, view.top, width, height);
    }
    if (sample.face.box) this.paintBox(sample.face.box, view, sample.face.state);
    if (matrix) {
      for (const mask of masks) this.paintFill(mask, matrix, view);
      for (const mask of masks) this.paintOutline(mask, matrix, view);
      this.paintLabels(view);
    }
  }

  paintBox([x, y, width, height], view, state) {
    // Corners only: enough to see what is followed, little enough not to cover the face.
    const context = this.context;
    const [left, top] = [view.left + x * view.scale, view.top + y * view.scale];
    const [right, bottom] = [left + width * view.scale, top + height * view.scale];
    const arm = Math.min(right - left, bottom - top) * 0.12;
    context.beginPath();
    for (const [x0, dx] of [[left, arm], [right, -arm]]) {
      for (const [y0, dy] of [[top, arm], [bottom, -arm]]) {
        context.moveTo(x0 + dx, y0);
        context.lineTo(x0, y0);
        context.lineTo(x0, y0 + dy);
      }
    }
    context.setLineDash(state === "low_quality" ? [4, 4] : []);
    context.lineWidth = this.unit(1.25);
    context.strokeStyle = "rgba(255, 255, 255, 0.55)";
    context.stroke();
    context.setLineDash([]);
  }

  paintFill(mask, matrix, view) {
    const context = this.context;
    this.scratch.width = mask.size;
    this.scratch.height = mask.size;
    this.scratch.getContext("2d").putImageData(mask.tile, 0, 0);
    this.enter(matrix, view);
    context.imageSmoothingEnabled = true;
    context.drawImage(this.scratch, 0, 0);
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  /** Draw in mask coordinates from here on. */
  enter([a, b, c, d, e, f], { scale, left, top }) {
    const [x, y] = [c * scale + left, f * scale + top];
    this.context.setTransform(a * scale, d * scale, b * scale, e * scale, x, y);
  }

  paintOutline(mask, matrix, view) {
    const context = this.context;
    this.enter(matrix, view);
    context.beginPath();
    for (let i = 0; i < mask.outline.length; i += 4) {
      context.moveTo(mask.outline[i], mask.outline[i + 1]);
      context.lineTo(mask.outline[i + 2], mask.outline[i + 3]);
    }
    context.setTransform(1, 0, 0, 1, 0, 0); // the line keeps its width, whatever the face's size
    context.lineCap = "round";
    for (const [style, width] of LINES) {
      context.strokeStyle = style ?? mask.colour;
      context.lineWidth = this.unit(width);
      context.stroke();
    }
  }

  /** Choose what each label points at, and move it a step towards its place beside the face. */
  follow() {
    const { sample, masks, matrix } = this.drawn;
    const present = new Set(masks.map((mask) => mask.au));
    for (const au of this.labels.keys()) if (!present.has(au)) this.labels.delete(au);
    if (!matrix) return;
    const [a, b, c, d, e, f] = matrix;
    const box = sample.face.box ?? [0, 0, sample.width, sample.height];
    const middle = box[0] + box[2] / 2;
    for (const mask of masks) {
      const known = this.labels.get(mask.au);
      let best = null;
      for (const { mass, u, v } of mask.parts) {
        const [x, y] = [a * u + b * v + c, d * u + e * v + f];
        const near = known && Math.hypot(x - known.x, y - known.y) < SAME_PART * box[2];
        const weight = mass * (near ? LOYALTY : 1);
        if (best === null || weight > best.weight) best = { x, y, weight };
      }
      if (best === null) continue;
      const row = known ? LABEL_INERTIA * known.row + (1 - LABEL_INERTIA) * best.y : best.y;
      const right = known ? known.right : this.emptierSide(best.x, middle, box[2]);
      const { x, y } = best;
      const mark = this.options.mark(mask.au);
      const text = mark ? `${mask.label} ${mark}` : mask.label;
      this.labels.set(mask.au, { x, y, row, right, text, colour: mask.colour });
    }
  }

  emptierSide(x, middle, width) {
    if (Math.abs(x - middle) > 0.12 * width) return x > middle;
    let right = 0;
    for (const label of this.labels.values()) right += label.right ? 1 : -1;
    return right <= 0;
  }

  paintLabels(view) {
    const context = this.context;
    const { sample } = this.drawn;
    const size = this.unit(this.canvas.clientWidth > 700 ? 15 : 12);
    const [pad, height] = [size * 0.5, size * 1.6];
    context.font = `600 ${size}px ${getComputedStyle(this.canvas).fontFamily}`;
    context.textBaseline = "middle";
    const box = sample.face.box ?? [0, 0, sample.width, sample.height];
    const reserved = this.options.reserved();
    const first = this.unit(reserved.top) + height * 0.7;
    const last = this.canvas.height - this.unit(reserved.bottom) - height * 0.7;
    for (const right of [false, true]) {
      const column = [...this.labels.values()].filter((label) => label.right === right);
      column.sort((one, other) => one.row - other.row);
      const step = Math.min(height * 1.2, (last - first) / Math.max(1, column.length - 1));
      let lowest = first - step;
      const rows = column.map((label) => {
        const wanted = view.top + label.row * view.scale;
        lowest = Math.max(wanted, lowest + step);
        return lowest;
      });
      // If the column runs over the bottom, push it up again from below.
      let highest = last;
      for (let i = rows.length - 1; i >= 0; i -= 1) {
        rows[i] = Math.min(rows[i], highest);
        highest = rows[i] - step;
      }
      column.forEach((label, i) => {
        const width = context.measureText(label.text).width + 2 * pad + size * 0.35;
        const edge = view.left + (right ? box[0] + box[2] : box[0]) * view.scale;
        const gap = this.unit(14);
        const wanted = right ? edge + gap : edge - gap - width;
        const left = Math.max(pad, Math.min(this.canvas.width - width - pad, wanted));
        this.paintLabel(label, left, rows[i], width, height, size, pad, view);
      });
    }
  }

  paintLabel(label, left, y, width, height, size, pad, view) {
    const context = this.context;
    const [x0, y0] = [view.left + label.x * view.scale, view.top + label.y * view.scale];
    context.strokeStyle = "rgba(255, 255, 255, 0.7)";
    context.lineWidth = this.unit(1);
    context.beginPath();
    context.moveTo(label.right ? left : left + width, y);
    context.lineTo(x0, y0);
    context.stroke();
    context.fillStyle = "#ffffff";
    context.beginPath();
    context.arc(x0, y0, this.unit(2.2), 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = "rgba(9, 12, 15, 0.86)";
    context.beginPath();
    context.roundRect(left, y - height / 2, width, height, this.unit(3));
    context.fill();
    context.fillStyle = label.colour;
    context.fillRect(left, y - height / 2, size * 0.35, height);
    context.fillStyle = "#ffffff";
    context.fillText(label.text, left + size * 0.35 + pad, y + size * 0.05);
  }

  /** Canvas pixels of so many CSS pixels. */
  unit(pixels) {
    return pixels * (this.canvas.width / Math.max(1, this.canvas.clientWidth));
  }
}
