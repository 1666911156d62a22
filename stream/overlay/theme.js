// @ts-check
// Light, dark or high contrast: what the reader chose, else what the system asks for. Canvases are
// painted in the colours of the style sheet, which in forced colours are those of the system.

/**
 * @typedef {"system" | "dark" | "light" | "contrast"} Theme
 *
 * @typedef {object} Inks - what canvases are painted with
 * @property {string} text
 * @property {string} quiet
 * @property {string} line
 * @property {string} block - ground of a stage
 * @property {string} none - ground and lines of a stage without an active Action Unit
 * @property {string} noneLine
 * @property {string} lost - the same without a usable face
 * @property {string} lostLine
 * @property {string} mark - of a new explanation
 * @property {string} past - of what is not live
 * @property {string} edge - around blocks; transparent where none is needed
 */

/** @type {Record<keyof Inks, string>} */
const VARIABLES = {
  text: "--text",
  quiet: "--quiet",
  line: "--line",
  block: "--block",
  none: "--none",
  noneLine: "--none-line",
  lost: "--lost",
  lostLine: "--lost-line",
  mark: "--mark",
  past: "--past",
  edge: "--edge",
};
const ASKED = ["(prefers-color-scheme: light)", "(prefers-contrast: more)", "(forced-colors: active)"];

export class ThemeChoice {
  /** @param {() => void} changed - called when colours have changed */
  constructor(changed) {
    this.changed = changed;
    /** @type {Theme} */
    this.wish = "system";
    /** @type {Inks | null} */
    this.known = null;
    for (const query of ASKED) matchMedia(query).addEventListener("change", () => this.apply());
  }

  /** @param {Theme} wish */
  choose(wish) {
    this.wish = wish;
    this.apply();
  }

  /** The theme that is shown. */
  get shown() {
    if (this.wish !== "system") return this.wish;
    if (matchMedia("(prefers-contrast: more)").matches) return "contrast";
    return matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
  }

  apply() {
    const root = document.documentElement;
    root.dataset.theme = this.shown;
    document.querySelector('meta[name="color-scheme"]')
      ?.setAttribute("content", this.shown === "light" ? "light" : "dark");
    this.known = null;
    this.changed();
  }

  /** What canvases are painted with now. */
  get inks() {
    this.known ??= readInks();
    return this.known;
  }
}

/** @returns {Inks} */
function readInks() {
  const probe = document.createElement("i");
  document.body.append(probe);
  // A colour of the system has a value only once it colours something.
  const value = (/** @type {string} */ name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const inks = Object.fromEntries(
    Object.entries(VARIABLES).map(([ink, name]) => [ink, value(name)]),
  );
  probe.remove();
  return /** @type {Inks} */ (inks);
}
