// @ts-check
// What /overlay shows and how, as its address says:
//   /overlay?show=stage,marks,curves&layout=strip|corner&scale=1.5&theme=dark|light|contrast
// What is not known is left out and said on the page for a while; the rest holds.

import { make } from "./dom.js";

const PARTS = ["stage", "marks", "curves"];
const LAYOUTS = ["strip", "corner"];
const THEMES = ["dark", "light", "contrast"];
const SCALES = [0.5, 3];
const SAID_MS = 20_000;

/**
 * @typedef {object} Look
 * @property {string[]} show - parts that are shown
 * @property {string} layout - "": the stage above, the curves below
 * @property {number} scale - of type and panels
 * @property {string} theme - "": as the page chooses
 * @property {string[]} problems - what was not understood, a sentence each
 */

/**
 * Read the look that an address asks for.
 * @param {string} search - of the address, from the question mark on
 * @returns {Look}
 */
export function readLook(search) {
  const asked = new URLSearchParams(search);
  /** @type {string[]} */
  const problems = [];
  const known = (/** @type {string} */ name, /** @type {string[]} */ words) => {
    const given = (asked.get(name) ?? "").split(",").map((word) => word.trim()).filter(Boolean);
    for (const word of given.filter((one) => !words.includes(one))) {
      problems.push(`?${name}=${word.slice(0, 40)} is unknown; use ${words.join(", ")}`);
    }
    return words.filter((word) => given.includes(word));
  };
  const show = known("show", PARTS);
  const [layout = ""] = known("layout", LAYOUTS);
  const [theme = ""] = known("theme", THEMES);
  const scale = asked.has("scale") ? Number(asked.get("scale")) : 1;
  const isScale = scale >= SCALES[0] && scale <= SCALES[1];
  if (!isScale) {
    problems.push(`?scale=${asked.get("scale")?.slice(0, 40)} cannot be; use ${SCALES.join(" to ")}`);
  }
  for (const name of asked.keys()) {
    if (!["show", "layout", "scale", "theme"].includes(name)) {
      problems.push(`?${name.slice(0, 40)} is unknown; use show, layout, scale, theme`);
    }
  }
  return { show: show.length ? show : PARTS, layout, theme, scale: isScale ? scale : 1, problems };
}

/**
 * Give the overlay its look.
 * @param {Look} look
 */
export function applyLook(look) {
  const { body } = document;
  for (const part of PARTS) body.classList.toggle(`without-${part}`, !look.show.includes(part));
  if (look.layout) body.dataset.layout = look.layout;
  if (look.theme) {
    body.dataset.look = look.theme;
    document.documentElement.dataset.theme = look.theme;
  }
  body.style.setProperty("--scale", String(look.scale));
  if (!look.problems.length) return;
  for (const problem of look.problems) console.warn(problem);
  const said = make("p", "", look.problems.join(" · "));
  said.id = "look-problems";
  said.setAttribute("role", "status");
  body.append(said);
  setTimeout(() => said.remove(), SAID_MS);
}
