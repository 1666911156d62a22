// @ts-check
// One websocket that keeps itself alive: it reconnects with back-off, answers heartbeats, and
// treats a silent server as a lost one.

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 8000;
const SILENCE_MS = 6000; // three heartbeats of the server
const UNAUTHORISED = 4401;
const LOST = 1006;

/**
 * @typedef {"connecting" | "open" | "waiting" | "reconnecting" | "refused" | "ended"}
 *   ConnectionState - ended: the server has left because all sources came to their end
 *
 * @typedef {object} Handlers - what a connection asks and tells
 * @property {() => string | null} token - secret of the server; null: none is known
 * @property {() => import("./protocol").Subscribe} subscription
 * @property {(message: import("./wire.js").ServerMessage) => void} [message]
 * @property {(buffer: ArrayBuffer) => void} [binary]
 * @property {(state: ConnectionState, waitMs: number) => void} [state] - waitMs: until it tries
 *   again
 */

/**
 * Where a socket of this page's server is: beside the page, whatever path that was asked for by.
 * @param {string} name
 */
function socketAddress(name) {
  const address = new URL(name, location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  return address.href;
}

export class Connection {
  /**
   * @param {string} name - ws or ws/frames
   * @param {Handlers} handlers
   */
  constructor(name, handlers) {
    this.name = name;
    this.handlers = handlers;
    this.attempt = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.timer = 0;
    this.watchdog = 0;
    this.wanted = false;
  }

  open() {
    if (this.wanted) return;
    this.wanted = true;
    this.attempt = 0;
    this.connect();
  }

  close() {
    this.wanted = false;
    clearTimeout(this.timer);
    clearTimeout(this.watchdog);
    const socket = this.socket;
    this.socket = null;
    if (socket) socket.close();
  }

  /** Ask again, for instance because another stream is to be shown. */
  subscribe() {
    this.send({ v: 1, type: "subscribe", data: this.handlers.subscription() });
  }

  /**
   * @param {import("./wire.js").ClientMessage} message
   * @returns {boolean} whether there was a connection to send it on
   */
  send(message) {
    if (!this.socket || this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  connect() {
    clearTimeout(this.timer);
    this.report(this.attempt ? "reconnecting" : "connecting");
    const socket = new WebSocket(socketAddress(this.name));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.watch();
    socket.onopen = () => {
      if (socket !== this.socket) return;
      const token = this.handlers.token();
      if (token !== null) this.send({ v: 1, type: "auth", data: { token } });
      this.subscribe();
    };
    socket.onmessage = (event) => {
      if (socket === this.socket) this.receive(event.data);
    };
    socket.onclose = (event) => {
      if (socket === this.socket) this.lose(event.code);
    };
  }

  /** @param {string | ArrayBuffer} data */
  receive(data) {
    this.watch();
    if (data instanceof ArrayBuffer) {
      this.handlers.binary?.(data);
      return;
    }
    /** @type {import("./wire.js").ServerMessage} a type that is not known is ignored by all */
    const message = JSON.parse(data);
    if (message.type === "heartbeat") {
      this.send({ v: 1, type: "heartbeat", data: {} });
    } else if (message.type === "ack" && message.data.to === "subscribe") {
      this.attempt = 0;
      this.report("open");
    }
    this.handlers.message?.(message);
  }

  /**
   * The connection is lost: try again later, unless the server refused the token.
   * @param {number} code - why it was closed
   */
  lose(code) {
    clearTimeout(this.watchdog);
    this.socket = null;
    if (!this.wanted) return;
    if (code === UNAUTHORISED) {
      this.wanted = false;
      this.report("refused");
      return;
    }
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.attempt);
    const wait = longest * (0.5 + Math.random() / 2);
    this.attempt += 1;
    this.report("waiting", wait);
    this.timer = setTimeout(() => this.connect(), wait);
  }

  /** @param {ConnectionState} state */
  report(state, waitMs = 0) {
    this.handlers.state?.(state, waitMs);
  }

  /** Begin to wait for the next sign of life. */
  watch() {
    clearTimeout(this.watchdog);
    const socket = this.socket;
    this.watchdog = setTimeout(() => {
      if (socket !== this.socket || !socket) return;
      // close() would wait for the answer of a server that does not answer; do not.
      socket.onclose = null;
      socket.close();
      this.lose(LOST);
    }, SILENCE_MS);
  }
}
