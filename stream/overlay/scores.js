// @ts-check
// The scores that are followed: value or range, terms, what is not known, and notices to be seen.

import { byId, make, setText } from "./dom.js";

const MOST_NOTICES = 3;

/**
 * @typedef {import("./protocol").ScoreInfo} ScoreInfo
 * @typedef {import("./protocol").ScoreValue} ScoreValue
 * @typedef {import("./protocol").ScoreTerm} ScoreTerm
 *
 * @typedef {object} Row
 * @property {ScoreInfo} info
 * @property {HTMLElement} row
 * @property {HTMLElement} track
 * @property {HTMLElement} fill
 * @property {HTMLElement} value
 * @property {HTMLElement} terms
 * @property {HTMLElement} said
 */

export class Scores {
  /**
   * @param {import("./units.js").Units} units
   * @param {(id: number) => void} acknowledge - called with the number of a notice that was seen
   */
  constructor(units, acknowledge) {
    this.units = units;
    this.acknowledge = acknowledge;
    this.section = byId("scores", HTMLElement);
    this.list = byId("score-rows", HTMLElement);
    this.notices = byId("score-notices", HTMLElement);
    this.shown = ""; // notices that are on the page now
    /** @type {Row[]} */
    this.rows = [];
  }

  /**
   * Make the rows anew.
   * @param {ScoreInfo[] | undefined} infos - a server without scores sends none
   */
  build(infos) {
    this.section.hidden = !infos?.length;
    this.rows = (infos ?? []).map((info) => this.buildRow(info));
    this.list.replaceChildren(...this.rows.map(({ row }) => row));
  }

  /**
   * @param {ScoreInfo} info
   * @returns {Row}
   */
  buildRow(info) {
    const fill = make("i", "score-fill");
    const tick = make("i", "tick");
    const track = make("div", "score-track", fill, tick);
    const value = make("output", "score-value");
    const terms = make("p", "score-terms");
    const said = make("p", "score-said");
    const name = make("b", "", info.name);
    const row = make("li", "score", name, track, value, terms, said);
    tick.style.left = `${100 * share(info, info.on)}%`;
    track.setAttribute("role", "meter");
    track.setAttribute("aria-label", `${info.name}, the least that it can be`);
    track.setAttribute("aria-valuemin", String(info.low));
    track.setAttribute("aria-valuemax", String(info.high));
    row.title = [
      `${info.name} = ${info.formula}`,
      info.source,
      `It lags behind the face by ${info.delay_s} s; closed eyes count after ${info.closed_s} s.`,
      `A notice begins at ${info.on} and ends below ${info.off}.`,
    ].filter(Boolean).join("\n");
    return { info, row, track, fill, value, terms, said };
  }

  /**
   * @param {import("./stream.js").Stream} stream
   * @param {boolean} live - whether its latest frame is what the face does now
   */
  show(stream, live) {
    if (this.section.hidden) return;
    const values = new Map((live ? stream.frame?.scores ?? [] : []).map((one) => [one.name, one]));
    for (const row of this.rows) this.showRow(row, values.get(row.info.name));
    this.showNotices(stream.notices);
  }

  /**
   * @param {Row} row
   * @param {ScoreValue | undefined} score
   */
  showRow({ info, row, track, fill, value, terms, said }, score) {
    const [low, high] = [score?.low ?? null, score?.high ?? null];
    const known = low !== null && high !== null;
    row.classList.toggle("blank", !known);
    row.classList.toggle("uncertain", known && score?.value === null);
    fill.style.left = known ? `${100 * share(info, info.low)}%` : "0";
    fill.style.width = known ? `${100 * share(info, low)}%` : "0";
    track.style.setProperty("--low", `${known ? 100 * share(info, low) : 0}%`);
    track.style.setProperty("--high", `${known ? 100 * share(info, high) : 0}%`);
    setText(value, known ? `${rangeText(score?.value ?? null, low, high)} of ${info.high}` : "–");
    if (known) track.setAttribute("aria-valuenow", low.toFixed(1));
    else track.removeAttribute("aria-valuenow");
    const parts = (score?.terms ?? []).map((term) => this.termText(term));
    setText(terms, score?.withheld ? `withheld: ${score.withheld}` : parts.join(" · "));
    setText(said, [this.missingText(score), info.caution].filter(Boolean).join(" "));
  }

  /** @param {ScoreValue | undefined} score */
  missingText(score) {
    if (!score?.missing.length || score.low === null) return "";
    const codes = score.missing.map((au) => `AU${au}`).join(", ");
    return `${codes} not known${score.value === null ? ", and not 0: hence the range." : "."}`;
  }

  /**
   * A term with its value, and a word for the Action Units in it that are not well known.
   * @param {ScoreTerm} term
   */
  termText({ text, value, low, high, aus }) {
    const known = aus.some((part) => part.value !== null) || !aus.length;
    const range = known ? rangeText(value, low, high) : "not known";
    const marks = aus
      .filter((part) => part.value !== null && this.units.mark(part.au))
      .map((part) => (aus.length > 1 ? `AU${part.au} ` : "") + this.units.mark(part.au));
    return `${text} ${range}${marks.length ? ` (${marks.join(", ")})` : ""}`;
  }

  /** @param {import("./notices.js").Notices} notices */
  showNotices(notices) {
    const unseen = notices.unseen();
    const key = unseen.map(({ on, off }) => `${on.id}${off ? "!" : ""}`).join(" ");
    if (key === this.shown) return;
    this.shown = key;
    const rows = unseen.slice(0, MOST_NOTICES).map(({ on, off }) => {
      const button = make("button", "", "Seen");
      button.type = "button";
      button.addEventListener("click", () => this.acknowledge(on.id));
      return make("li", off ? "over" : "", make("span", "", (off ?? on).text), button);
    });
    if (unseen.length > MOST_NOTICES) {
      rows.push(make("li", "over", `and ${unseen.length - MOST_NOTICES} before`));
    }
    this.notices.replaceChildren(...rows);
  }
}

/**
 * How far along its range a score is, 0 to 1.
 * @param {ScoreInfo} info
 * @param {number} value
 */
function share(info, value) {
  return Math.min(1, Math.max(0, (value - info.low) / (info.high - info.low)));
}

/**
 * @param {number | null} value
 * @param {number} low
 * @param {number} high
 */
function rangeText(value, low, high) {
  return value === null ? `${low.toFixed(1)} to ${high.toFixed(1)}` : value.toFixed(1);
}
