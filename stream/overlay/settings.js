// @ts-check
// What the reader chose for this browser: it is kept in the browser, and never sent.

/**
 * @typedef {object} Settings
 * @property {import("./theme.js").Theme} theme
 * @property {string} language - a code, or "system"
 * @property {boolean} relevance - whether relevance is drawn over the face
 * @property {boolean} fill - whether it is filled, not only outlined
 * @property {boolean} labels - whether its labels are written
 * @property {boolean} face - whether the picture is shown under it
 * @property {boolean} curves - whether curves are shown under the ribbon
 * @property {boolean} table - whether the stages are shown as a table instead of the ribbon
 * @property {boolean} keys - whether single keys do anything
 * @property {number[]} pinned - Action Units whose relevance is always drawn
 * @property {number[]} unseen - Action Units whose relevance is never drawn
 */

const KEY = "facestage.settings";
const THEMES = ["system", "dark", "light", "contrast"];

/** @returns {Settings} */
export function defaults() {
  return {
    theme: "system",
    language: "system",
    relevance: true,
    fill: true,
    labels: true,
    face: true,
    curves: innerHeight >= 820 && innerWidth > 900,
    table: false,
    keys: true,
    pinned: [],
    unseen: [],
  };
}

/** What was kept; what cannot be read is as it is for everybody else. */
export function readSettings() {
  const settings = defaults();
  let kept = /** @type {Record<string, unknown>} */ ({});
  try {
    kept = JSON.parse(localStorage.getItem(KEY) ?? "{}") ?? {};
  } catch {
    return settings; // broken, or this browser keeps nothing
  }
  const numbers = (/** @type {unknown} */ value) =>
    Array.isArray(value) && value.every((one) => Number.isInteger(one));
  for (const [name, usual] of Object.entries(settings)) {
    const value = kept[name];
    const fits = Array.isArray(usual) ? numbers(value) : typeof value === typeof usual;
    if (fits && (name !== "theme" || THEMES.includes(String(value)))) {
      Object.assign(settings, { [name]: value });
    }
  }
  return settings;
}

/** @param {Settings} settings */
export function keepSettings(settings) {
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // a browser that keeps nothing: the choice holds until the page is left
  }
}
