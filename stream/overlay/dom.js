// @ts-check
// Small helpers for elements. Text is only ever set as text, never as markup.

/**
 * Make an element of a class with children, which are elements or plain text.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} className
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/**
 * Find an element of the page, which must be of this kind.
 * @template {HTMLElement} Kind
 * @param {string} id
 * @param {new () => Kind} kind - its class
 * @returns {Kind}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (element instanceof kind) return element;
  throw new Error(`the page has no ${kind.name} with the id ${id}`);
}

/**
 * Return what draws on a canvas.
 * @param {HTMLCanvasElement} canvas
 * @returns {CanvasRenderingContext2D}
 */
export function contextOf(canvas) {
  const context = canvas.getContext("2d");
  if (context) return context;
  throw new Error("this browser does not draw on a canvas");
}

/**
 * Fit the pixels of a canvas to its place on the page.
 * @param {HTMLCanvasElement} canvas
 * @returns {{ratio: number, changed: boolean}} canvas pixels per CSS pixel, and whether it was
 *   fitted anew, which clears it
 */
export function fitCanvas(canvas) {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  const changed = canvas.width !== width || canvas.height !== height;
  if (changed) {
    canvas.width = width;
    canvas.height = height;
  }
  return { ratio, changed };
}

/**
 * Set the text of an element if it differs, so that nothing is laid out in vain.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * What a state looks like: the kind decides its colour, the icon and the words tell it.
 * @typedef {[kind: "good" | "busy" | "bad" | "idle", icon: string, words: string]} Look
 */

/**
 * Show a state as icon and words.
 * @param {HTMLElement} element - holds an icon and a text
 * @param {Look} look
 */
export function setState(element, [kind, icon, words]) {
  element.dataset.kind = kind;
  element.querySelector("use")?.setAttribute("href", `#icon-${icon}`);
  const text = element.querySelector("span");
  if (text) setText(text, words);
}
