// @ts-check
// A plain face, drawn where the aligned crop has its eyes, nose and mouth: where there is no picture,
// or none is to be seen.

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} size - of the crop's side, in the context's units
 * @param {string} colour
 * @param {number} width - of its lines, in the context's units
 */
export function drawFace(context, size, colour, width) {
  const unit = size / 128;
  context.strokeStyle = colour;
  context.lineWidth = width;
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
