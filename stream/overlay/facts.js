// @ts-check
// The foot of the page: what computes, how fast, and what was dropped.

import { byId, make, setText } from "./dom.js";

/** @typedef {[name: string, value: string, hint?: string]} Fact */

export class Facts {
  constructor() {
    this.list = byId("facts", HTMLElement);
    /** @type {{row: HTMLElement, term: HTMLElement, detail: HTMLElement}[]} */
    this.rows = [];
  }

  /**
   * @param {import("./stream.js").Stream} stream
   * @param {import("./model.js").Model} model
   */
  show(stream, { hello, stats }) {
    if (!hello) return;
    factsOf(stream, hello, stats).forEach(([name, value, hint], i) => {
      const { row, term, detail } = (this.rows[i] ??= this.addRow());
      setText(term, name);
      setText(detail, value);
      if (hint !== undefined) row.title = hint;
    });
  }

  addRow() {
    const [term, detail] = [make("dt", ""), make("dd", "")];
    const row = make("div", "", term, detail);
    this.list.append(row);
    return { row, term, detail };
  }
}

/**
 * @param {import("./stream.js").Stream} stream
 * @param {import("./protocol").Hello} hello
 * @param {import("./protocol").Stats | null} stats
 * @returns {Fact[]}
 */
function factsOf(stream, hello, stats) {
  const latency = stats?.latency_ms;
  const drops = Object.entries(stats?.drops ?? {});
  const dropped = stream.frame?.dropped_total ?? drops.reduce((sum, [, count]) => sum + count, 0);
  const { lrp_engine: engine, lrp_engine_reason: reason } = stats?.lrp_engine ? stats : hello;
  const rough = hello.lrp_precision === "bfloat16" ? ", bfloat16" : "";
  return [
    ["device", stats?.device || hello.device],
    ["model", stats?.model || hello.model],
    ["detector", stats?.detector || hello.detector],
    ["relevance", presetsOf(hello), "LRP presets: whose maps give letters, and whose are drawn"],
    ["LRP engine", (reason ? `${engine}: ${reason}` : engine || "–") + rough, reason],
    ["analysed", stats ? `${stats.fps_analysed.toFixed(1)} of ${stats.fps_in.toFixed(1)} fps` : "–"],
    ["latency p50 / p99", latency ? `${latency.p50.toFixed(0)} / ${latency.p99.toFixed(0)} ms` : "–"],
    ["dropped", String(dropped), drops.map(([cause, count]) => `${cause}: ${count}`).join(", ")],
  ];
}

/**
 * @param {import("./protocol").Hello} hello
 * @returns {string} what makes the maps: one preset, or one for letters and one for pictures
 */
function presetsOf({ lrp_preset: letters, picture_preset: pictures }) {
  return pictures && pictures !== letters ? `letters ${letters}, pictures ${pictures}` : letters;
}
