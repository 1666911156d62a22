// @ts-check
// The page that gives the pictures of its own camera: one at a time, and the reason when it stops.

import { Address } from "./address.js";
import { Connection } from "./connection.js";
import { byId, make, setText } from "./dom.js";
import { TokenDialog } from "./token.js";
import { Webcam, advice, cameras, obstacle } from "./webcam.js";

const HEADER_BYTES = 16;
const MAGIC = 0x5346;
const VERSION = 1;
const KIND_JPEG = 1;
/** @type {Record<import("./protocol").CameraPause["reason"], string>} */
const PAUSED = {
  hidden: "Paused: this page was hidden.",
  muted: "The camera gives no pictures: it sleeps, or another program uses it.",
  ended: "The camera was taken away, or the permission for it. Start it again.",
  stopped: "The camera is off.",
};

/** A socket of /ws/camera; it is open when the server has a place for the pictures. */
class CameraLink extends Connection {
  /** @override */
  subscribe() {
    const source = new URLSearchParams(location.search).get("source");
    this.send({ v: 1, type: "camera.open", data: { source } });
  }

  /** @param {ArrayBuffer} picture */
  give(picture) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(picture);
  }
}

class CameraPage {
  constructor() {
    this.address = new Address();
    this.state = byId("state", HTMLElement);
    this.start = byId("start", HTMLButtonElement);
    this.stop = byId("stop", HTMLButtonElement);
    this.device = byId("device", HTMLSelectElement);
    this.webcam = new Webcam(byId("preview", HTMLVideoElement), {
      fresh: () => this.give(),
      lost: (reason) => this.pause(reason),
    });
    this.dialog = new TokenDialog((token) => {
      this.address.token = token;
      this.link.open();
    });
    /** @type {import("./protocol").CameraReady | null} null: the server takes no pictures now */
    this.ready = null;
    this.inFlight = false;
    this.sent = 0;
    this.leftOut = 0;
    this.refusal = "";
    // What is found, in words: browsers stop the camera of a page that lies behind another.
    this.found = new Connection("ws", {
      token: () => this.address.token,
      subscription: () => ({ topics: [], streams: this.ready ? [this.ready.source] : null }),
      message: (message) => this.showStage(message),
    });
    this.link = new CameraLink("ws/camera", {
      token: () => this.address.token,
      subscription: () => ({}),
      message: (message) => this.receive(message),
      state: (state, waitMs) => this.showLink(state, waitMs),
    });
  }

  begin() {
    this.wanted = false; // whether the camera is to be on
    this.start.addEventListener("click", () => this.turnOn());
    this.stop.addEventListener("click", () => {
      this.wanted = false;
      this.webcam.stop();
      this.pause("stopped");
      this.link.close();
      this.found.close();
    });
    byId("watch", HTMLAnchorElement).addEventListener("click", (event) => {
      event.preventDefault();
      window.open(`./${location.hash}`, "facestage", "popup,width=1200,height=800");
    });
    this.device.addEventListener("change", () => this.turnOn());
    document.addEventListener("visibilitychange", () => this.showOrHide());
    const hindrance = obstacle();
    this.start.disabled = hindrance !== null;
    this.advise(hindrance);
    if (hindrance) this.say("bad", "No camera can be used on this page.");
  }

  async turnOn() {
    this.advise(null);
    this.wanted = true;
    this.say("busy", "Starting the camera …");
    try {
      await this.webcam.start(this.device.value);
    } catch (error) {
      if (!this.wanted) return; // it was stopped while it started
      this.showButtons(false);
      this.say("bad", "The camera could not be started.");
      this.advise(advice(error));
      return;
    }
    this.showButtons(true);
    this.link.open();
    this.say("busy", "Waiting for the server …");
    this.offerDevices(await cameras());
    this.give();
  }

  /** Send the next picture, if there is a new one and the last one was answered. */
  async give() {
    if (!this.ready || this.inFlight || document.hidden || !this.webcam.isOn) return;
    this.inFlight = true;
    const taken = await this.webcam.take(this.ready.max_bytes - HEADER_BYTES);
    if (!taken || !this.ready) {
      this.inFlight = false;
      return;
    }
    const message = new Uint8Array(HEADER_BYTES + taken.jpeg.size);
    const header = new DataView(message.buffer);
    header.setUint16(0, MAGIC, true);
    header.setUint8(2, VERSION);
    header.setUint8(3, KIND_JPEG);
    header.setUint32(8, this.sent, true);
    header.setUint32(12, Math.max(0, Math.round(taken.takenMs)), true);
    message.set(new Uint8Array(await taken.jpeg.arrayBuffer()), HEADER_BYTES);
    if (document.hidden || !this.ready) {
      this.inFlight = false;
      return;
    }
    this.link.give(message.buffer);
    this.sent += 1;
    setText(byId("sent", HTMLElement), String(this.sent));
    setText(byId("size", HTMLElement), `${taken.width} × ${taken.height}`);
    this.say("good", "Live: the pictures of this camera are analysed.");
  }

  /** @param {import("./wire.js").ServerMessage} message */
  receive(message) {
    if (message.type === "camera.ready") {
      this.ready = message.data;
      this.inFlight = false;
      this.refusal = "";
      this.link.attempt = 0;
      setText(byId("source", HTMLElement), message.data.source);
      byId("watch", HTMLAnchorElement).href = `./${location.hash}`; // with the token
      this.found.open();
      this.give();
    } else if (message.type === "camera.ack") {
      this.inFlight = false;
      if (message.data.result !== "taken") this.leftOut += 1;
      setText(byId("left-out", HTMLElement), String(this.leftOut));
      this.give();
    } else if (message.type === "error") {
      this.refusal = message.data.message;
    } else if (message.type === "bye") {
      this.refusal = message.data.reason;
    }
  }

  /** @param {import("./wire.js").ServerMessage} message */
  showStage(message) {
    let stage = null;
    if (message.type === "snapshot") stage = message.data.stage;
    else if (message.type === "stage.enter" || message.type === "stage.revise") stage = message.data;
    if (stage === null || message.stream !== this.ready?.source) return;
    setText(byId("stage", HTMLElement), stage.labels.join(", "));
  }

  /** @param {import("./protocol").CameraPause["reason"]} reason */
  pause(reason) {
    if (this.ready) this.link.send({ v: 1, type: "camera.pause", data: { reason } });
    const ended = reason === "ended" || reason === "stopped";
    this.say(reason === "stopped" ? "idle" : "bad", PAUSED[reason]);
    if (ended) this.showButtons(false);
  }

  showOrHide() {
    if (!this.webcam.track) return;
    if (document.hidden) this.pause("hidden");
    else this.give();
  }

  /**
   * @param {import("./connection.js").ConnectionState} state
   * @param {number} waitMs
   */
  showLink(state, waitMs) {
    this.ready = null;
    this.inFlight = false;
    const why = this.refusal ? `Refused: ${this.refusal}` : "No connection to the server";
    if (state === "refused") this.dialog.ask(this.address.token !== null);
    if (state === "waiting") this.say("bad", `${why}; trying again in ${(waitMs / 1000).toFixed(0)} s.`);
  }

  /** @param {boolean} on */
  showButtons(on) {
    this.start.hidden = on;
    this.stop.hidden = !on;
  }

  /** @param {MediaDeviceInfo[]} devices */
  offerDevices(devices) {
    const used = this.webcam.track?.getSettings().deviceId ?? "";
    const options = devices.map((device, number) => {
      const option = make("option", "", device.label || `camera ${number + 1}`);
      option.value = device.deviceId;
      option.selected = device.deviceId === used;
      return option;
    });
    this.device.replaceChildren(...options);
    byId("choice", HTMLElement).hidden = devices.length < 2;
  }

  /**
   * @param {"idle" | "busy" | "good" | "bad"} kind
   * @param {string} words
   */
  say(kind, words) {
    this.state.dataset.kind = kind;
    setText(this.state, words);
  }

  /** @param {string | null} text */
  advise(text) {
    const place = byId("advice", HTMLElement);
    place.hidden = text === null;
    setText(place, text ?? "");
  }
}

new CameraPage().begin();
