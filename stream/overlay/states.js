// @ts-check
// The states in the head of the page, each as an icon and words: source, face, baseline, connection.

import { byId, setState } from "./dom.js";
import { say, sayOr } from "./language.js";

/**
 * @typedef {import("./dom.js").Look} Look
 * @typedef {import("./connection.js").ConnectionState} ConnectionState
 */

/**
 * Kind and icon of each state; its words are those of the language.
 * @typedef {Record<string, [kind: Look[0], icon: string]>} Looks
 */

/** @type {Looks} */
const SOURCE = {
  connecting: ["busy", "dashed"],
  live: ["good", "filled"],
  stalled: ["bad", "warn"],
  reconnecting: ["busy", "turn"],
  ended: ["idle", "stop"],
  failed: ["bad", "cross"],
};
/** @type {Looks} */
const FACE = {
  tracked: ["good", "filled"],
  multiple: ["good", "pair"],
  low_quality: ["busy", "half"],
  lost: ["bad", "ring"],
};
/** @type {Looks} */
const BASELINE = {
  learning: ["busy", "dashed"],
  active: ["good", "filled"],
};
/** @type {Looks} */
const CONNECTION = {
  connecting: ["busy", "dashed"],
  open: ["good", "filled"],
  waiting: ["bad", "turn"],
  reconnecting: ["bad", "turn"],
  refused: ["bad", "cross"],
  ended: ["idle", "stop"],
};

/**
 * @param {Looks} looks
 * @param {string} family - of its words
 * @param {string} state
 * @returns {Look}
 */
function look(looks, family, state) {
  const [kind, icon] = looks[state] ?? ["idle", "dashed"];
  return [kind, icon, sayOr(`${family}.${state}`, state)];
}

export class States {
  constructor() {
    this.source = byId("source-state", HTMLElement);
    this.face = byId("face-state", HTMLElement);
    this.baseline = byId("baseline-state", HTMLElement);
    this.connection = byId("connection", HTMLElement);
  }

  /** @param {import("./stream.js").Stream} stream */
  show({ source, face, frame }) {
    const sourceState = source?.state ?? frame?.source_state ?? "waiting";
    setState(this.source, look(SOURCE, "source", sourceState));
    this.source.title = source?.reason ?? "";
    const baseline = frame?.baseline ?? "";
    this.baseline.hidden = !BASELINE[baseline];
    if (frame && BASELINE[baseline]) {
      const [kind, icon, words] = look(BASELINE, "baseline", baseline);
      // Counted in whole seconds of rest, so that the words do not change with every frame.
      const seconds = baseline === "learning" ? ` ${Math.floor(frame.rest_s)} s` : "";
      setState(this.baseline, [kind, icon, words + seconds]);
      const general = say("baseline.general", { value: Math.round(frame.rest_prior * 100) });
      this.baseline.title = `${say(`baseline.${baseline}.means`)} (${general})`;
    }
    const { state, reason } = frame?.face ?? face ?? { state: "none", reason: "" };
    const [kind, icon, words] = look(FACE, "face", state);
    // Who is followed is said where there is a choice: several faces, or not the first person seen.
    const number = frame?.face.id ?? null;
    const told = number !== null && (state === "multiple" || number > 1);
    const who = told ? `${words}, ${say("face.person", { number: number ?? 0 })}` : words;
    setState(this.face, [kind, icon, reason ? `${who}: ${reason}` : who]);
  }

  /**
   * @param {ConnectionState} state
   * @param {number} waitMs - until it tries again
   */
  showConnection(state, waitMs) {
    const [kind, icon, words] = look(CONNECTION, "connection", state);
    const seconds = (waitMs / 1000).toFixed(0);
    const rest = state === "waiting" ? ` ${say("connection.in", { seconds })}` : "";
    setState(this.connection, [kind, icon, words + rest]);
  }
}
