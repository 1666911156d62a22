// @ts-check
// The states in the head of the page, each as an icon and words: source, face, baseline, connection.

import { byId, setState } from "./dom.js";

/**
 * @typedef {import("./dom.js").Look} Look
 * @typedef {import("./connection.js").ConnectionState} ConnectionState
 */

/** @type {Record<string, Look>} */
const SOURCE = {
  connecting: ["busy", "dashed", "connecting"],
  live: ["good", "filled", "live"],
  stalled: ["bad", "warn", "stalled"],
  reconnecting: ["busy", "turn", "reconnecting"],
  ended: ["idle", "stop", "ended"],
  failed: ["bad", "cross", "failed"],
};
/** @type {Record<string, Look>} */
const FACE = {
  tracked: ["good", "filled", "face tracked"],
  multiple: ["good", "pair", "several faces"],
  low_quality: ["busy", "half", "face unclear"],
  lost: ["bad", "ring", "face lost"],
};
/** @type {Record<string, {look: Look, title: string}>} */
const BASELINE = {
  learning: {
    look: ["busy", "dashed", "learning"],
    title: "Presence is judged by its rise over rest; the rest level of this face is still learned",
  },
  active: {
    look: ["good", "filled", "own rest level"],
    title: "Presence is judged by its rise over this person's own rest level",
  },
};
/** @type {Record<ConnectionState, Look>} */
const CONNECTION = {
  connecting: ["busy", "dashed", "connecting"],
  open: ["good", "filled", "connected"],
  waiting: ["bad", "turn", "reconnecting"],
  reconnecting: ["bad", "turn", "reconnecting"],
  refused: ["bad", "cross", "token needed"],
  ended: ["idle", "stop", "recording ended"],
};

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
    setState(this.source, SOURCE[sourceState] ?? ["idle", "dashed", sourceState]);
    this.source.title = source?.reason ?? "";
    const baseline = BASELINE[frame?.baseline ?? ""];
    this.baseline.hidden = !baseline;
    if (baseline && frame) {
      const [kind, icon, words] = baseline.look;
      // Counted in whole seconds of rest, so that the words do not change with every frame.
      const learning = frame.baseline === "learning";
      const seconds = learning ? ` ${Math.floor(frame.rest_s)} s` : "";
      setState(this.baseline, [kind, icon, words + seconds]);
      const general = Math.round(frame.rest_prior * 100);
      this.baseline.title = `${baseline.title} (${general} % that of faces in general)`;
    }
    const { state, reason } = frame?.face ?? face ?? { state: "no face yet", reason: "" };
    const [kind, icon, words] = FACE[state] ?? ["idle", "dashed", state];
    // Who is followed is said where there is a choice: several faces, or not the first person seen.
    const number = frame?.face.id ?? null;
    const told = number !== null && (state === "multiple" || number > 1);
    const who = told ? `${words}, person ${number} followed` : words;
    setState(this.face, [kind, icon, reason ? `${who}: ${reason}` : who]);
  }

  /**
   * @param {ConnectionState} state
   * @param {number} waitMs - until it tries again
   */
  showConnection(state, waitMs) {
    const [kind, icon, words] = CONNECTION[state];
    const rest = state === "waiting" ? ` in ${(waitMs / 1000).toFixed(0)} s` : "";
    setState(this.connection, [kind, icon, words + rest]);
  }
}
