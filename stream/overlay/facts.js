// @ts-check
// The foot of the page: what computes, how fast, and what was dropped.

import { byId, make, setText } from "./dom.js";
import { say } from "./language.js";

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
  const rates = stats && {
    analysed: stats.fps_analysed.toFixed(1),
    grabbed: stats.fps_in.toFixed(1),
  };
  const rate = rates ? say("fact.rate", rates) : "–";
  return [
    [say("fact.device"), stats?.device || hello.device],
    [say("fact.model"), stats?.model || hello.model],
    [say("fact.detector"), stats?.detector || hello.detector],
    [say("fact.presets"), presetsOf(hello), say("fact.presets.means")],
    [say("fact.engine"), (reason ? `${engine}: ${reason}` : engine || "–") + rough, reason],
    [say("fact.analysed"), rate],
    [say("fact.latency"), latency ? `${latency.p50.toFixed(0)} / ${latency.p99.toFixed(0)} ms` : "–"],
    [say("fact.dropped"), String(dropped), drops.map(([cause, count]) => `${cause}: ${count}`).join(", ")],
  ];
}

/**
 * @param {import("./protocol").Hello} hello
 * @returns {string} what makes the maps: one preset, or one for letters and one for pictures
 */
function presetsOf({ lrp_preset: letters, picture_preset: pictures }) {
  return pictures && pictures !== letters ? say("fact.presets.two", { letters, pictures }) : letters;
}
