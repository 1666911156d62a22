// @ts-check
// The page: its parts, and what each is told when a message comes and when time passes.

import { Address } from "./address.js";
import { Age } from "./age.js";
import { Announcer } from "./announcer.js";
import { Bars } from "./bars.js";
import { StreamChoice } from "./choice.js";
import { byId, setText } from "./dom.js";
import { Facts } from "./facts.js";
import { Feed } from "./feed.js";
import { offerFullscreen } from "./fullscreen.js";
import { Layout } from "./layout.js";
import { MarkerDialog } from "./markers.js";
import { HISTORY_S, Model } from "./model.js";
import { applyLook, readLook } from "./overlay_look.js";
import { Picture } from "./picture.js";
import { Prototypes } from "./prototypes.js";
import { Ribbon } from "./ribbon.js";
import { Scores } from "./scores.js";
import { StagePanel } from "./stage.js";
import { States } from "./states.js";
import { Timeline } from "./timeline.js";
import { TokenDialog } from "./token.js";

const VALUES_MS = 100;

class Page {
  /** @param {boolean} overlay - whether it is laid over another picture, and shows none itself */
  constructor(overlay) {
    this.model = new Model();
    const { units } = this.model;
    const video = () => !overlay && (this.model.hello?.video ?? true);
    const canvas = byId("view", HTMLCanvasElement);
    const address = new Address();
    this.choice = new StreamChoice(address, () => this.changeStream());
    this.layout = new Layout(overlay);
    this.picture = new Picture(canvas, { units, video, reserved: () => this.layout.reserved() });
    this.age = new Age(this.picture, video);
    this.states = new States();
    this.announcer = new Announcer(byId("announce", HTMLElement), units);
    this.stage = new StagePanel(units, (labels, other) =>
      this.announcer.announce(labels, other),
    );
    this.bars = new Bars(byId("bars", HTMLElement), byId("hidden-units", HTMLElement), units);
    this.prototypes = new Prototypes(byId("thumbs", HTMLElement), byId("found", HTMLElement), units);
    this.ribbon = new Ribbon(byId("ribbon", HTMLCanvasElement), units);
    this.facts = new Facts();
    const dialog = new TokenDialog((token) => {
      address.token = token;
      this.feed.open();
    });
    this.feed = new Feed({
      token: () => address.token,
      stream: () => this.choice.shown,
      history: () => ({ since: this.model.since(), history_s: HISTORY_S }),
      video,
      message: (message) => this.receive(message),
      picture: (picture) => this.receivePicture(picture),
      state: (state, waitMs) => {
        this.states.showConnection(state, waitMs);
        if (state === "refused") dialog.ask(address.token !== null);
      },
    });
    this.scores = new Scores(units, (id) =>
      this.ask((stream) => ({ v: 1, type: "notice.ack", data: { stream, id } })),
    );
    this.marker = new MarkerDialog(
      () => this.stream?.frame?.time_s ?? null,
      (text, start_s, end_s) =>
        this.ask((stream) => ({ v: 1, type: "marker.add", data: { stream, text, start_s, end_s } })),
    );
    this.timeline = new Timeline(this.ribbon, this.model, this.feed, () => this.stream);
    offerFullscreen(byId("fullscreen", HTMLElement));
  }

  start() {
    setInterval(() => this.showValues(), VALUES_MS);
    this.feed.open();
  }

  /** The stream shown, or null before there is one. */
  get stream() {
    return this.model.streams.get(this.choice.shown ?? "") ?? null;
  }

  /**
   * Ask the server for something about the stream shown.
   * @param {(stream: string) => import("./wire.js").ClientMessage} message
   */
  ask(message) {
    if (this.stream) this.feed.send(message(this.stream.id));
  }

  /** @param {import("./wire.js").ServerMessage} message */
  receive(message) {
    const stream = this.model.receive(message);
    if (message.type === "hello") this.greet(message.data);
    if (message.type === "resync" || message.type === "snapshot") this.startAnew();
    if (stream !== null && stream === this.stream) this.picture.match(stream);
  }

  /** @param {{stream: number, frame: number, jpeg: ArrayBuffer}} picture */
  receivePicture({ stream, frame, jpeg }) {
    const shown = this.stream;
    if (shown?.number !== stream) return;
    this.picture.offer(frame, jpeg);
    this.picture.match(shown);
  }

  /** @param {import("./protocol").Hello} hello */
  greet(hello) {
    const { units } = this.model;
    this.choice.offer(hello.streams);
    this.bars.build();
    this.scores.build(hello.scores);
    this.ribbon.patterns.forget();
    const marked = units.all.some((unit) => units.mark(unit.au));
    this.ribbon.canvas.title = marked ? "? after an Action Unit: weak or poor by its grade" : "";
    this.prototypes.reset();
    setText(byId("notice", HTMLElement), hello.notice);
  }

  changeStream() {
    this.startAnew();
    this.feed.subscribe();
  }

  /** What was known is void (another stream or run of the server, or events were lost). */
  startAnew() {
    this.picture.reset();
    this.prototypes.reset();
    this.timeline.reset();
  }

  showValues() {
    const { stream } = this;
    if (!stream) return;
    const edge = this.timeline.edge(stream);
    stream.trim(edge);
    this.states.show(stream);
    this.age.show(stream, this.model, this.feed);
    this.stage.show(stream.stage, edge);
    this.facts.show(stream, this.model);
    this.bars.show(this.feed.live ? stream.frame : null);
    this.scores.show(stream, this.feed.live);
    this.prototypes.show(stream, stream.stage?.labels ?? []);
    this.layout.makeWay(this.picture, this.ribbon);
    this.announcer.speak();
  }
}

const isOverlay = location.pathname.endsWith("/overlay");
if (isOverlay) applyLook(readLook(location.search));
new Page(isOverlay).start();
