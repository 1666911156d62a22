// @ts-check
// The notices of one stream: those that go on, and those that nobody has seen yet.

/** @typedef {import("./protocol").NoticeState} NoticeState */

export class Notices {
  constructor() {
    /** @type {Map<number, NoticeState>} by their number */
    this.open = new Map();
  }

  /**
   * Begin with the state at one moment.
   * @param {NoticeState[] | undefined} states - a server without scores sends none
   */
  join(states) {
    this.open = new Map((states ?? []).map((state) => [state.on.id, state]));
  }

  /**
   * Take an event in, if it is about a notice.
   * @param {import("./wire.js").EventMessage} message
   */
  event(message) {
    if (message.type === "notice.on") {
      this.open.set(message.data.id, { on: message.data, off: null, acknowledged: false });
      return;
    }
    if (message.type !== "notice.off" && message.type !== "notice.ack") return;
    const known = this.open.get(message.data.id);
    if (!known) return;
    const off = message.type === "notice.off" ? message.data : known.off;
    const acknowledged = known.acknowledged || message.type === "notice.ack";
    if (off && acknowledged) this.open.delete(known.on.id);
    else this.open.set(known.on.id, { ...known, off, acknowledged });
  }

  /** Those that somebody should look at, the latest first. */
  unseen() {
    return [...this.open.values()].filter((state) => !state.acknowledged).reverse();
  }
}
