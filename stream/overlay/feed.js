// @ts-check
// The two connections to the server: messages, and pictures as long as somebody can see them.

import { Connection } from "./connection.js";
import { readPicture } from "./wire.js";

/**
 * @typedef {import("./connection.js").ConnectionState} ConnectionState
 *
 * @typedef {object} FeedHandlers - what the feed asks and tells
 * @property {() => string | null} token
 * @property {() => string | null} stream - id of the stream shown
 * @property {() => import("./protocol").Subscribe} history - what is known, and what is to be told
 * @property {() => boolean} video - whether pictures are wanted at all
 * @property {(message: import("./wire.js").ServerMessage) => void} message
 * @property {(picture: {stream: number, frame: number, jpeg: ArrayBuffer}) => void} picture
 * @property {(state: ConnectionState, waitMs: number) => void} state
 */

export class Feed {
  /** @param {FeedHandlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    /** @type {ConnectionState | "left"} left: the server has said goodbye */
    this.state = "connecting";
    this.ended = false; // whether it left because all sources came to their end
    const { token } = handlers;
    const streams = () => {
      const id = handlers.stream();
      return id === null ? null : [id];
    };
    this.events = new Connection("ws", {
      token,
      subscription: () => ({ ...handlers.history(), streams: streams() }),
      state: (told, waitMs) => {
        if (told === "open" || told === "refused") this.ended = false;
        // It goes on asking, in case the server is started again, but there is nothing to wait for.
        const state = this.ended ? "ended" : told;
        this.state = state;
        handlers.state(state, waitMs);
        if (state === "open") this.choosePictures();
      },
      message: (message) => {
        handlers.message(message);
        if (message.type === "hello") this.choosePictures();
        if (message.type === "bye") {
          this.state = "left";
          this.ended = message.data.ended;
        }
      },
    });
    this.pictures = new Connection("ws/frames", {
      token,
      subscription: () => ({ streams: streams() }),
      message: (message) => {
        if (message.type === "past.frames") handlers.message(message);
      },
      binary: (buffer) => {
        const picture = readPicture(buffer);
        if (picture) handlers.picture(picture);
      },
    });
    document.addEventListener("visibilitychange", () => this.choosePictures());
  }

  /** Whether what is shown comes from the server now. */
  get live() {
    return this.state === "open";
  }

  open() {
    this.events.open();
  }

  /** Ask again, because another stream is to be shown. */
  subscribe() {
    this.events.subscribe();
    this.pictures.subscribe();
  }

  /**
   * Ask for frames of the past: where there are pictures, on their socket, which is not deflated.
   * @param {import("./protocol").PastWish} wish
   * @returns {boolean} whether there is a connection to ask on
   */
  askPast(wish) {
    const connection = this.handlers.video() ? this.pictures : this.events;
    return connection.send({ v: 1, type: "past", data: wish });
  }

  /** @param {import("./wire.js").ClientMessage} message */
  send(message) {
    this.events.send(message);
  }

  /** Pictures cost the server an encoder: ask for them only while somebody can see them. */
  choosePictures() {
    if (this.handlers.video() && this.live && !document.hidden) this.pictures.open();
    else this.pictures.close();
  }
}
