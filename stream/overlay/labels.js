// @ts-check
// Labels of prototypes and stages, as they are written.

/**
 * Split "AU12_B" into its number and letter; the letter is "" before it is given.
 * @param {string} label
 * @returns {{au: number, letter: string} | null} null: it names no Action Unit
 */
export function splitLabel(label) {
  const match = /^AU(\d+)(?:_([A-Z]+))?$/.exec(label);
  return match ? { au: Number(match[1]), letter: match[2] ?? "" } : null;
}

/**
 * Write a stage as the paper does.
 * @param {string[]} labels
 */
export function stageText(labels) {
  return `(${labels.join(", ")})`;
}
