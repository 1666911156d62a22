// One websocket that keeps itself alive: it reconnects with back-off, answers heartbeats, and
// treats a silent server as a lost one.

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 8000;
const SILENCE_MS = 6000; // three heartbeats of the server
const UNAUTHORISED = 4401;

/** Where the sockets of this page's server are. */
function address(path) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return `${scheme}//${location.host}${path}`;
}

export class Connection {
  /**
   * @param {string} path - /ws or /ws/frames
   * @param {object} on - callbacks: subscription() → data of the subscribe message,
   *   message(envelope), binary(ArrayBuffer), state(name, detail), token() → string or null
   */
  constructor(path, on) {
    this.path = path;
    this.on = on;
    this.attempt = 0;
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
    this.send("subscribe", this.on.subscription());
  }

  send(type, data) {
    if (this.socket && this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ v: 1, type, data }));
    }
  }

  connect() {
    clearTimeout(this.timer);
    this.on.state?.(this.attempt ? "reconnecting" : "connecting");
    const socket = new WebSocket(address(this.path));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.watch();
    socket.onopen = () => {
      if (socket !== this.socket) return;
      const token = this.on.token?.() ?? null;
      if (token !== null) this.send("auth", { token });
      this.subscribe();
    };
    socket.onmessage = (event) => {
      if (socket === this.socket) this.receive(event.data);
    };
    socket.onclose = (event) => {
      if (socket === this.socket) this.lost(event);
    };
  }

  receive(data) {
    this.watch();
    if (data instanceof ArrayBuffer) {
      this.on.binary?.(data);
      return;
    }
    const envelope = JSON.parse(data);
    if (envelope.type === "heartbeat") {
      this.send("heartbeat", {});
    } else if (envelope.type === "ack" && envelope.data.to === "subscribe") {
      this.attempt = 0;
      this.on.state?.("open");
    }
    this.on.message?.(envelope);
  }

  lost(event) {
    clearTimeout(this.watchdog);
    this.socket = null;
    if (!this.wanted) return;
    if (event.code === UNAUTHORISED) {
      this.wanted = false;
      this.on.state?.("refused");
      return;
    }
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.attempt);
    const wait = longest * (0.5 + Math.random() / 2);
    this.attempt += 1;
    this.on.state?.("waiting", wait);
    this.timer = setTimeout(() => this.connect(), wait);
  }

  /** Begin to wait for the next sign of life. */
  watch() {
    clearTimeout(this.watchdog);
    const socket = this.socket;
    this.watchdog = setTimeout(() => {
      if (socket !== this.socket || !socket) return;
      // close() would wait for an answer of a server that is gone; do not.
      socket.onclose = null;
      socket.close();
      this.lost({ code: 1006 });
    }, SILENCE_MS);
  }
}
