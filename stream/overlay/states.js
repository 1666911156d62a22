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
    look: ["busy", "dashed", "baseline learning"],
    title: "Nothing is subtracted until this face has rested for about a second",
  },
  active: {
    look: ["good", "filled", "baseline active"],
    title: "Presence is judged against this person's own face at rest",
  },
};
/** @type {Record<ConnectionState, Look>} */
const CONNECTION = {
  connecting: ["busy", "dashed", "connecting"],
  open: ["good", "filled", "connected"],
  waiting: ["bad", "turn", "reconnecting"],
  reconnecting: ["bad", "turn", "reconnecting"],
  refused: ["bad", "cross", "token needed"],
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
    if (baseline) {
      setState(this.baseline, baseline.look);
      this.baseline.title = baseline.title;
    }
    const { state, reason } = frame?.face ?? face ?? { state: "no face yet", reason: "" };
    const [kind, icon, words] = FACE[state] ?? ["idle", "dashed", state];
    setState(this.face, [kind, icon, reason ? `${words}: ${reason}` : words]);
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
