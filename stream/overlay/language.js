// @ts-check
// The words of the page in the language of its reader. Each language is a file of the same keys;
// what one of them lacks, or says with other placeholders, is said in English.

/** @type {Record<string, string>} code → how its speakers call it */
export const LANGUAGES = { en: "English", de: "Deutsch", es: "Español", fr: "Français" };

/** @type {Record<string, string>} */
let english = {};
/** @type {Record<string, string>} */
let chosen = {};

/** @param {string} sentence */
const placeholders = (sentence) => (sentence.match(/\{\w+\}/g) ?? []).sort().join();

/**
 * Choose the language of a reader among those there are: "de-AT" is read as "de".
 * @param {string} wish - a code, or "system" for what the browser prefers
 */
export function languageOf(wish) {
  const wishes = wish === "system" ? navigator.languages : [wish];
  const codes = wishes.map((code) => code.toLowerCase().split("-")[0]);
  return codes.find((code) => code in LANGUAGES) ?? "en";
}

/** @param {string} code */
async function read(code) {
  const answer = await fetch(`languages/${code}.json`);
  if (!answer.ok) throw new Error(`the words of ${code} cannot be had (${answer.status})`);
  return answer.json();
}

/**
 * Take in the words of a language, before anything is said.
 * @param {string} wish - a code, or "system"
 */
export async function loadLanguage(wish) {
  const code = languageOf(wish);
  const [first, second] = await Promise.all([read("en"), code === "en" ? {} : read(code)]);
  setWords(first, second);
  document.documentElement.lang = code;
}

/**
 * @param {Record<string, string>} first - English
 * @param {Record<string, string>} second - the language chosen
 */
export function setWords(first, second) {
  english = first;
  chosen = { ...first };
  for (const [key, sentence] of Object.entries(second)) {
    const fits = key in first && placeholders(sentence) === placeholders(first[key]);
    if (fits) chosen[key] = sentence;
    else console.warn(`${key} is said in English: its placeholders are not those of the key`);
  }
}

/**
 * Say something.
 * @param {string} key
 * @param {Record<string, string | number>} values - of its placeholders
 */
export function say(key, values = {}) {
  const sentence = chosen[key] ?? key;
  return sentence.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/**
 * Say something if there are words for it, else what is given.
 * @param {string} key
 * @param {string} otherwise
 */
export function sayOr(key, otherwise) {
  return key in english ? say(key) : otherwise;
}

/**
 * Say where relevance lies: "mouth corners 61 %, cheeks 20 %"; "" where nothing is known.
 * @param {[name: string, share: number][]} regions
 */
export function regionWords(regions) {
  return regions
    .map(([name, share]) => `${sayOr(`region.${name}`, name)} ${Math.round(share * 100)} %`)
    .join(", ");
}

/**
 * Put the words of the language into a part of the page: texts (data-say), titles (data-say-title)
 * and names for screen readers (data-say-label).
 * @param {ParentNode} root
 */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-say]")) {
    element.textContent = say(element.getAttribute("data-say") ?? "");
  }
  for (const element of root.querySelectorAll("[data-say-title]")) {
    element.setAttribute("title", say(element.getAttribute("data-say-title") ?? ""));
  }
  for (const element of root.querySelectorAll("[data-say-label]")) {
    element.setAttribute("aria-label", say(element.getAttribute("data-say-label") ?? ""));
  }
}
