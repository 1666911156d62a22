// @ts-check
// The labels beside the face, each with a line to the place that it names.

/**
 * @typedef {import("./protocol").FrameSample} FrameSample
 * @typedef {import("./wire.js").Matrix} Matrix
 * @typedef {import("./masks.js").ReadyMask} ReadyMask
 * @typedef {import("./picture.js").View} View
 *
 * @typedef {object} Callout
 * @property {number} x - what it points at, frame coordinates
 * @property {number} y
 * @property {number} row - height at which it would like to stand, frame coordinates
 * @property {boolean} right - side of the face
 * @property {string} text
 * @property {string} colour
 *
 * @typedef {object} Sheet - what is painted on
 * @property {CanvasRenderingContext2D} context
 * @property {View} view
 * @property {(pixels: number) => number} unit - canvas pixels of so many CSS pixels
 * @property {{top: number, bottom: number}} reserved - heights kept free of labels, CSS pixels
 */

const INERTIA = 0.7; // labels follow their blob slowly enough to be read
const LOYALTY = 2; // a label leaves its part of the mask only for one that weighs twice as much
const SAME_PART = 0.12; // closer than this share of the face's width is the same part

/**
 * @param {FrameSample} sample
 * @returns {[x: number, y: number, width: number, height: number]}
 */
const boxOf = (sample) => sample.face.box ?? [0, 0, sample.width, sample.height];

export class Callouts {
  /** @param {import("./units.js").Units} units */
  constructor(units) {
    this.units = units;
    /** @type {Map<number, Callout>} by AU */
    this.labels = new Map();
    /** @type {Line[]} as they were painted last, canvas pixels */
    this.lines = [];
  }

  clear() {
    this.labels.clear();
  }

  /**
   * Choose what each label points at, and move it a step towards its place beside the face.
   * @param {FrameSample} sample
   * @param {ReadyMask[]} masks
   * @param {Matrix | null} matrix - mask → frame coordinates; null without a face
   */
  follow(sample, masks, matrix) {
    const present = new Set(masks.map((mask) => mask.au));
    for (const au of this.labels.keys()) if (!present.has(au)) this.labels.delete(au);
    if (!matrix) return;
    const [left, , width] = boxOf(sample);
    for (const mask of masks) {
      const known = this.labels.get(mask.au);
      const best = heaviest(mask.parts, matrix, known, SAME_PART * width);
      if (best === null) continue;
      const { x, y } = best;
      const row = known ? INERTIA * known.row + (1 - INERTIA) * y : y;
      const right = known ? known.right : this.emptierSide(x, left + width / 2, width);
      const mark = this.units.markWord(mask.au);
      const text = mark ? `${mask.label} ${mark}` : mask.label;
      this.labels.set(mask.au, { x, y, row, right, text, colour: mask.colour });
    }
    this.takeSides();
  }

  /** No label of the left side names a place to the right of one that the right side names. */
  takeSides() {
    const labels = [...this.labels.values()];
    const wrong = () => {
      const left = labels.filter((label) => !label.right).sort((a, b) => b.x - a.x)[0];
      const right = labels.filter((label) => label.right).sort((a, b) => a.x - b.x)[0];
      return left && right && left.x > right.x ? [left, right] : null;
    };
    for (let pair = wrong(); pair; pair = wrong()) [pair[0].right, pair[1].right] = [true, false];
  }

  /**
   * @param {number} x
   * @param {number} middle - of the face
   * @param {number} width - of the face
   */
  emptierSide(x, middle, width) {
    if (Math.abs(x - middle) > 0.12 * width) return x > middle;
    let right = 0;
    for (const label of this.labels.values()) right += label.right ? 1 : -1;
    return right <= 0;
  }

  /**
   * @param {Sheet} sheet
   * @param {FrameSample} sample
   */
  paint(sheet, sample) {
    const { context, view, unit, reserved } = sheet;
    const { canvas } = context;
    const size = unit(canvas.clientWidth > 700 ? 15 : 12);
    const [pad, height] = [size * 0.5, size * 1.6];
    context.font = `600 ${size}px ${getComputedStyle(canvas).fontFamily}`;
    context.textBaseline = "middle";
    const box = boxOf(sample);
    const first = unit(reserved.top) + height * 0.7;
    const last = canvas.height - unit(reserved.bottom) - height * 0.7;
    /** @type {{label: Callout, line: Line, width: number}[]} */
    const placed = [];
    for (const right of [false, true]) {
      const column = [...this.labels.values()].filter((label) => label.right === right);
      column.sort((upper, lower) => upper.row - lower.row);
      const wishes = column.map((label) => view.top + label.row * view.scale);
      const rows = spread(wishes, first, last, height * 1.2);
      column.forEach((label, i) => {
        const width = context.measureText(label.text).width + 2 * pad + size * 0.35;
        const edge = view.left + (right ? box[0] + box[2] : box[0]) * view.scale;
        const gap = unit(14);
        const wanted = right ? edge + gap : edge - gap - width;
        const left = Math.max(pad, Math.min(canvas.width - width - pad, wanted));
        const [x, y] = [view.left + label.x * view.scale, view.top + label.y * view.scale];
        const line = { x, y, side: right ? left : left + width, row: rows[i] };
        placed.push({ label, line, width });
      });
    }
    uncross(placed.map(({ line }) => line));
    this.lines = placed.map(({ line }) => line);
    for (const { label, line, width } of placed) {
      const left = label.right ? line.side : line.side - width;
      paintCallout(sheet, label, { left, y: line.row, width, height, size, pad });
    }
  }
}

/** @typedef {{x: number, y: number, side: number, row: number}} Line - from a place to its label */

/**
 * Whether two lines cross.
 * @param {Line} one
 * @param {Line} other
 */
export function cross(one, other) {
  const turn = (/** @type {number[]} */ ...[ax, ay, bx, by, cx, cy]) =>
    Math.sign((bx - ax) * (cy - ay) - (by - ay) * (cx - ax));
  const apart = (/** @type {Line} */ first, /** @type {Line} */ second) =>
    turn(first.x, first.y, first.side, first.row, second.x, second.y)
      * turn(first.x, first.y, first.side, first.row, second.side, second.row) < 0;
  return apart(one, other) && apart(other, one);
}

/**
 * Exchange the rows of labels of one column whose lines cross, until none do: each exchange makes the
 * lines shorter together, so it ends.
 * @param {Line[]} lines
 */
export function uncross(lines) {
  for (let left = lines.length ** 2; left > 0; left -= 1) {
    const pair = lines.flatMap((one, i) => lines.slice(i + 1).map((other) => [one, other]))
      .find(([one, other]) => cross(one, other));
    if (!pair) return;
    const [one, other] = pair;
    [one.row, other.row] = [other.row, one.row];
    if (cross(one, other)) return; // of two columns: their sides, not their rows, are the cause
  }
}

/**
 * Choose the part of a mask that weighs most, with loyalty to the one pointed at so far.
 * @param {import("./masks.js").Part[]} parts
 * @param {Matrix} matrix
 * @param {Callout | undefined} known
 * @param {number} near - so close is the same part, frame coordinates
 */
function heaviest(parts, [a, b, c, d, e, f], known, near) {
  /** @type {{x: number, y: number, weight: number} | null} */
  let best = null;
  for (const { mass, u, v } of parts) {
    const [x, y] = [a * u + b * v + c, d * u + e * v + f];
    const same = known && Math.hypot(x - known.x, y - known.y) < near;
    const weight = mass * (same ? LOYALTY : 1);
    if (best === null || weight > best.weight) best = { x, y, weight };
  }
  return best;
}

/**
 * Spread rows so that none lies over another.
 * @param {number[]} wishes - from the top down
 * @param {number} first - the highest place
 * @param {number} last - the lowest place
 * @param {number} distance - between two rows, if there is room
 */
function spread(wishes, first, last, distance) {
  const step = Math.min(distance, (last - first) / Math.max(1, wishes.length - 1));
  let lowest = first - step;
  const rows = wishes.map((wanted) => {
    lowest = Math.max(wanted, lowest + step);
    return lowest;
  });
  // If the column runs over the bottom, push it up again from below.
  let highest = last;
  for (let i = rows.length - 1; i >= 0; i -= 1) {
    rows[i] = Math.min(rows[i], highest);
    highest = rows[i] - step;
  }
  return rows;
}

/**
 * @param {Sheet} sheet
 * @param {Callout} label
 * @param {{left: number, y: number, width: number, height: number, size: number, pad: number}}
 *   place - y: of its middle; size: of its letters
 */
function paintCallout({ context, view, unit }, label, { left, y, width, height, size, pad }) {
  const [x0, y0] = [view.left + label.x * view.scale, view.top + label.y * view.scale];
  context.strokeStyle = "rgba(255, 255, 255, 0.7)";
  context.lineWidth = unit(1);
  context.beginPath();
  context.moveTo(label.right ? left : left + width, y);
  context.lineTo(x0, y0);
  context.stroke();
  context.fillStyle = "#ffffff";
  context.beginPath();
  context.arc(x0, y0, unit(2.2), 0, 2 * Math.PI);
  context.fill();
  context.fillStyle = "rgba(9, 12, 15, 0.86)";
  context.beginPath();
  context.roundRect(left, y - height / 2, width, height, unit(3));
  context.fill();
  context.fillStyle = label.colour;
  context.fillRect(left, y - height / 2, size * 0.35, height);
  context.fillStyle = "#ffffff";
  context.fillText(label.text, left + size * 0.35 + pad, y + size * 0.05);
}
