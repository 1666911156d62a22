// @ts-check
// The page for a screen on a wall or beside a bed: all sources, large, nothing to press.

import { Address } from "./address.js";
import { Connection } from "./connection.js";
import { byId, setText } from "./dom.js";
import { Cell } from "./kiosk_cell.js";
import { TokenDialog } from "./token.js";
import { readPicture } from "./wire.js";

const TICK_MS = 200;
const IDLE_MS = 3000;
const NIGHT = [21, 6]; // hours, local: from, to
const CLOCK_STEP_S = 10; // no message is so late: a clock was set

/**
 * Hours of the night as the address gives them (?night=22-7, on, off).
 * @param {string | null} text
 * @returns {[number, number]}
 */
function nightHours(text) {
  if (text === "on") return [0, 24];
  if (text === "off") return [0, 0];
  const match = /^(\d{1,2})-(\d{1,2})$/.exec(text ?? "");
  const [from, to] = match ? [Number(match[1]), Number(match[2])] : NIGHT;
  return from < 24 && to <= 24 ? [from, to] : [NIGHT[0], NIGHT[1]];
}

/**
 * @param {number} hour
 * @param {[number, number]} night
 */
function isNight(hour, [from, to]) {
  return from <= to ? from <= hour && hour < to : hour >= from || hour < to;
}

class Kiosk {
  constructor() {
    this.grid = byId("grid", HTMLElement);
    this.server = byId("server", HTMLElement);
    this.night = nightHours(new URLSearchParams(location.search).get("night"));
    /** @type {Map<string, Cell>} by id of its stream */
    this.cells = new Map();
    this.epoch = 0;
    this.skew = Infinity; // local clock minus the server's, seconds
    this.connected = false;
    this.video = true;
    const address = new Address();
    const dialog = new TokenDialog((token) => {
      address.token = token;
      this.events.open();
    });
    const token = () => address.token;
    this.events = new Connection("ws", {
      token,
      subscription: () => ({ topics: ["frame", "heat"] }),
      message: (message) => this.receive(message),
      state: (state, waitMs) => {
        this.connected = state === "open";
        const wait = state === "waiting" ? `, trying again in ${(waitMs / 1000).toFixed(0)} s` : "";
        this.server.dataset.kind = this.connected ? "good" : "bad";
        setText(this.server, this.connected ? "connected" : `not connected${wait}`);
        if (state === "refused") dialog.ask(address.token !== null);
        if (this.connected && this.video) this.pictures.open();
        else this.pictures.close();
      },
    });
    this.pictures = new Connection("ws/frames", {
      token,
      subscription: () => ({}),
      binary: (buffer) => {
        const picture = readPicture(buffer);
        const cell = [...this.cells.values()].find((one) => one.info.number === picture?.stream);
        if (picture && cell) cell.picture.offerPicture(picture.frame, picture.jpeg);
      },
    });
  }

  start() {
    this.events.open();
    setInterval(() => this.tick(), TICK_MS);
    let timer = 0;
    const wake = () => {
      document.body.classList.remove("idle");
      clearTimeout(timer);
      timer = setTimeout(() => document.body.classList.add("idle"), IDLE_MS);
    };
    addEventListener("pointermove", wake);
    wake();
    this.stayAwake();
    document.addEventListener("visibilitychange", () => this.stayAwake());
  }

  /** Ask the system not to turn the screen off; where it cannot be asked, its settings decide. */
  async stayAwake() {
    if (document.hidden || !("wakeLock" in navigator)) return;
    await /** @type {any} */ (navigator).wakeLock.request("screen").catch(() => {});
  }

  /** @param {import("./wire.js").ServerMessage} message */
  receive(message) {
    if (message.t_emit !== null && message.seq === null) {
      const skew = Date.now() / 1000 - message.t_emit;
      this.skew = skew > this.skew + CLOCK_STEP_S ? skew : Math.min(this.skew, skew);
    }
    if (message.type === "hello") this.greet(message.data);
    this.cells.get(message.stream ?? "")?.receive(message);
  }

  /** @param {import("./protocol").Hello} hello */
  greet(hello) {
    this.video = hello.video;
    setText(byId("notice", HTMLElement), hello.notice);
    const same = hello.epoch === this.epoch && hello.streams.length === this.cells.size;
    if (same) return;
    this.epoch = hello.epoch;
    this.cells = new Map(hello.streams.map((info) => [info.id, new Cell(info, hello)]));
    this.grid.replaceChildren(...[...this.cells.values()].map((cell) => cell.element));
    this.layOut();
  }

  /** As many columns as make the cells largest for pictures of 4:3. */
  layOut() {
    const count = Math.max(1, this.cells.size);
    const { clientWidth: width, clientHeight: height } = this.grid;
    let [best, columns] = [0, 1];
    for (let n = 1; n <= count; n += 1) {
      const rows = Math.ceil(count / n);
      const size = Math.min(width / n / 4, height / rows / 3);
      if (size > best) [best, columns] = [size, n];
    }
    this.grid.style.setProperty("--columns", String(columns));
  }

  tick() {
    const now = Date.now() / 1000 - (Number.isFinite(this.skew) ? this.skew : 0);
    document.body.classList.toggle("night", isNight(new Date().getHours(), this.night));
    for (const cell of this.cells.values()) cell.tick(now, this.connected);
    this.layOut();
  }
}

new Kiosk().start();
