// Small helpers for elements. Text is only ever set as text, never as markup.

/** Make an element of a class with children, which are elements or plain text. */
export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Set the text of an element if it differs, so that nothing is laid out in vain. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Show a state as icon and words. */
export function setState(element, kind, icon, words) {
  element.dataset.kind = kind;
  element.querySelector("use").setAttribute("href", `#icon-${icon}`);
  setText(element.querySelector("span"), words);
}
