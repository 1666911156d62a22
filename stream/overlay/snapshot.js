// @ts-check
// A picture of what the page shows, without the face: relevance over a drawn face, the stage in words,
// the ribbon and the curves. It can be shown to others.

import { contextOf } from "./dom.js";

const MARGIN = 16;

/**
 * @param {import("./picture.js").Picture} picture
 * @param {HTMLCanvasElement[]} below - drawn under it, those that are hidden left out
 * @param {{lines: string[], text: string, ground: string, font: string}} words
 * @returns {HTMLCanvasElement}
 */
export function takeSnapshot(picture, below, { lines, text, ground, font }) {
  const shown = below.filter((canvas) => !canvas.hidden && canvas.width > 0);
  const parts = [picture.withoutFace(), ...shown];
  const size = Math.max(14, Math.round(parts[0].width / 60));
  const width = Math.max(...parts.map((part) => part.width)) + 2 * MARGIN;
  const height = parts.reduce((sum, part) => sum + part.height + MARGIN, MARGIN)
    + lines.length * size * 1.5;
  const sheet = document.createElement("canvas");
  [sheet.width, sheet.height] = [width, Math.round(height)];
  const context = contextOf(sheet);
  context.fillStyle = ground;
  context.fillRect(0, 0, sheet.width, sheet.height);
  let y = MARGIN;
  context.font = `500 ${size}px ${font}`;
  context.fillStyle = text;
  context.textBaseline = "top";
  for (const line of lines) {
    context.fillText(line, MARGIN, y, width - 2 * MARGIN);
    y += size * 1.5;
  }
  for (const part of parts) {
    context.drawImage(part, MARGIN, y);
    y += part.height + MARGIN;
  }
  return sheet;
}

/**
 * Give a picture to the reader as a file.
 * @param {HTMLCanvasElement} sheet
 * @param {string} name - of the file
 */
export function download(sheet, name) {
  sheet.toBlob((blob) => {
    if (!blob) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }, "image/png");
}
