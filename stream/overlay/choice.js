// @ts-check
// Which of the server's streams is shown. /overlay has no room for a choice; its address decides.

import { byId, make, setText } from "./dom.js";

export class StreamChoice {
  /**
   * @param {import("./address.js").Address} address - remembers the choice
   * @param {() => void} changed - called when somebody has chosen another
   */
  constructor(address, changed) {
    this.address = address;
    this.select = byId("stream", HTMLSelectElement);
    this.label = byId("source-name", HTMLElement);
    /** @type {Map<string, string>} id → name */
    this.names = new Map();
    /** @type {string | null} id of the stream shown */
    this.shown = null;
    this.select.addEventListener("change", () => {
      this.shown = this.select.value;
      address.stream = this.shown;
      this.showName();
      changed();
    });
  }

  /**
   * Offer the streams of the server; the one shown stays, if it is still one of them.
   * @param {import("./protocol").StreamInfo[]} streams
   */
  offer(streams) {
    this.names = new Map(streams.map((info) => [info.id, info.name]));
    const wished = this.address.stream;
    if (this.shown === null || !this.names.has(this.shown)) {
      const known = wished !== null && this.names.has(wished);
      this.shown = known ? wished : (streams[0]?.id ?? null);
    }
    this.select.replaceChildren(
      ...streams.map((info) => {
        const option = make("option", "", info.name);
        option.value = info.id;
        option.selected = info.id === this.shown;
        return option;
      }),
    );
    this.select.hidden = streams.length < 2;
    this.label.hidden = streams.length >= 2;
    this.showName();
  }

  showName() {
    const name = this.names.get(this.shown ?? "") ?? "";
    setText(this.label, name);
    document.title = `${name} · facestage`;
  }
}
