// @ts-check
// The page: its parts, and what each is told when a message comes and when time passes.

import { Address } from "./address.js";
import { Age } from "./age.js";
import { Announcer } from "./announcer.js";
import { Bars } from "./bars.js";
import { StreamChoice } from "./choice.js";
import { Controls } from "./controls.js";
import { byId, setText } from "./dom.js";
import { Facts } from "./facts.js";
import { Feed } from "./feed.js";
import { Focus } from "./focus.js";
import { toggleFullscreen } from "./fullscreen.js";
import { Headline } from "./headline.js";
import { Keys } from "./keys.js";
import { stageText } from "./labels.js";
import { loadLanguage, say, translate } from "./language.js";
import { LargePrototype } from "./large.js";
import { Layout } from "./layout.js";
import { MarkerDialog } from "./markers.js";
import { HISTORY_S, Model } from "./model.js";
import { applyLook, readLook } from "./overlay_look.js";
import { SettingsPanel } from "./panel.js";
import { Picture } from "./picture.js";
import { Player } from "./player.js";
import { Prototypes } from "./prototypes.js";
import { Ribbon } from "./ribbon.js";
import { Scores } from "./scores.js";
import { keepSettings, readSettings } from "./settings.js";
import { download, takeSnapshot } from "./snapshot.js";
import { StagePanel } from "./stage.js";
import { States } from "./states.js";
import { StageTable } from "./table.js";
import { ThemeChoice } from "./theme.js";
import { Timeline } from "./timeline.js";
import { TokenDialog } from "./token.js";

const VALUES_MS = 100;

class Page {
  /**
   * @param {boolean} overlay - whether it is laid over another picture, and shows none itself
   * @param {import("./settings.js").Settings} settings
   */
  constructor(overlay, settings) {
    this.settings = settings;
    this.overlay = overlay;
    this.model = new Model();
    this.video = () => !overlay && (this.model.hello?.video ?? true);
    const { units } = this.model;
    this.units = units;
    this.focus = new Focus(settings);
    this.theme = new ThemeChoice(() => this.recolour());
    this.layout = new Layout(overlay);
    this.picture = new Picture(byId("view", HTMLCanvasElement), {
      units,
      video: this.video,
      reserved: () => this.layout.reserved(),
      settings,
      choose: (active, captured) =>
        this.focus.choose(active, this.stream?.changes ?? [], captured),
    });
    this.age = new Age(this.picture, this.video);
    this.states = new States();
    this.announcer = new Announcer(byId("announce", HTMLElement), units);
    this.stage = new StagePanel(units, (labels, other) => this.announcer.announce(labels, other));
    this.headline = new Headline(units, (change) => this.goTo(change.known));
    this.bars = new Bars(byId("bars", HTMLElement), byId("hidden-units", HTMLElement), units,
      this.focus, () => this.refocus());
    this.large = new LargePrototype(units, (time) => this.goTo(time));
    this.prototypes = new Prototypes(byId("thumbs", HTMLElement), byId("found", HTMLElement), units,
      (prototype) => {
        if (this.stream) this.large.open(this.stream, prototype, this.present());
      });
    this.ribbon = new Ribbon(byId("ribbon", HTMLCanvasElement), units, this.theme);
    this.table = new StageTable(byId("table", HTMLElement));
    this.facts = new Facts();
    this.coloured = -1; // version of the palette that is shown
    const address = new Address();
    this.choice = new StreamChoice(address, () => this.changeStream());
    this.feed = this.makeFeed(address);
    this.player = this.makePlayer();
    this.timeline = this.makeTimeline();
    this.controls = new Controls({
      player: this.player,
      present: () => this.present(),
      now: () => this.model.now(),
      history: () => this.model.hello?.history_s ?? 0,
      replay: (command, value) => this.feed.send({ v: 1, type: "replay", data: { command, value } }),
    });
    this.scores = new Scores(units, (id) =>
      this.ask((stream) => ({ v: 1, type: "notice.ack", data: { stream, id } })),
    );
    this.marker = new MarkerDialog(
      () => (this.player.frame?.sample ?? this.stream?.frame)?.time_s ?? null,
      (text, start_s, end_s) =>
        this.ask((stream) => ({ v: 1, type: "marker.add", data: { stream, text, start_s, end_s } })),
    );
    this.panel = new SettingsPanel(settings, units, this.focus, () => this.applySettings());
    this.offerButtons();
    this.offerKeys();
    this.theme.choose(this.wantedTheme);
    this.applySettings();
  }

  /**
   * The reader's choice; over another picture what its address says, and dark where it says nothing.
   * @returns {import("./theme.js").Theme}
   */
  get wantedTheme() {
    if (!this.overlay) return this.settings.theme;
    return /** @type {import("./theme.js").Theme} */ (document.body.dataset.look ?? "dark");
  }

  /**
   * Make what speaks with the server.
   * @param {Address} address
   * @returns {Feed}
   */
  makeFeed(address) {
    const dialog = new TokenDialog((token) => {
      address.token = token;
      this.feed.open();
    });
    return new Feed({
      token: () => address.token,
      stream: () => this.choice.shown,
      history: () => ({ since: this.model.since(), history_s: HISTORY_S }),
      video: this.video,
      message: (message) => this.receive(message),
      picture: (picture) => this.receivePicture(picture),
      state: (state, waitMs) => {
        this.states.showConnection(state, waitMs);
        if (state === "refused") dialog.ask(address.token !== null);
      },
    });
  }

  /**
   * Make what looks back.
   * @returns {Player}
   */
  makePlayer() {
    return new Player({
      ask: (wish) => this.feed.askPast(wish),
      stream: () => this.stream,
      present: () => this.present(),
      picture: this.picture,
      video: this.video,
      changed: () => this.showTime(),
    });
  }

  /**
   * Make what draws ribbon and curves.
   * @returns {Timeline}
   */
  makeTimeline() {
    return new Timeline(this.ribbon, {
      model: this.model,
      feed: this.feed,
      theme: this.theme,
      stream: () => this.stream,
      cursor: () => this.player.time,
      pick: (time) => this.player.lookAt(time),
    });
  }

  offerButtons() {
    byId("fullscreen", HTMLElement).addEventListener("click", toggleFullscreen);
    byId("take", HTMLElement).addEventListener("click", () => this.takePicture());
    byId("toggle-curves", HTMLElement).addEventListener("click", () => this.flip("curves"));
    byId("toggle-table", HTMLElement).addEventListener("click", () => this.flip("table"));
  }

  offerKeys() {
    const { player, controls, settings } = this;
    const keys = new Keys(() => settings.keys);
    const help = byId("help", HTMLDialogElement);
    const open = () => help.showModal();
    byId("open-help", HTMLElement).addEventListener("click", open);
    keys.add("?", "tool.help", open);
    keys.add(" ", "key.pause", () => controls.toggle(), say("key.space"));
    keys.add("ArrowLeft", "control.step-back", () => controls.step(-1), "←");
    keys.add("ArrowRight", "control.step-on", () => controls.step(1), "→");
    keys.add("Shift+ArrowLeft", "change.before", () => player.jump(-1), "⇧ ←");
    keys.add("Shift+ArrowRight", "change.after", () => player.jump(1), "⇧ →");
    keys.add("End", "control.now", () => player.live(), "End");
    keys.add("h", "settings.relevance", () => this.flip("relevance"));
    keys.add("b", "settings.face", () => this.flip("face"));
    keys.add("c", "settings.curves", () => this.flip("curves"));
    keys.add("t", "settings.table", () => this.flip("table"));
    keys.add("s", "tool.picture", () => this.takePicture());
    keys.add("f", "tool.full", toggleFullscreen);
    keys.tell("tool.mark.means", "M");
    byId("keys", HTMLElement).replaceChildren(...keys.rows());
  }

  start() {
    setInterval(() => this.showValues(), VALUES_MS);
    this.feed.open();
  }

  /**
   * The stream shown, or null before there is one.
   * @returns {import("./stream.js").Stream | null}
   */
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

  /**
   * The present of the stream shown, seconds since 1970.
   * @returns {number}
   */
  present() {
    return this.stream ? this.timeline.edge(this.stream) : this.model.now();
  }

  /** @param {import("./wire.js").ServerMessage} message */
  receive(message) {
    const stream = this.model.receive(message);
    if (message.type === "hello") this.greet(message.data);
    if (message.type === "past.frames") this.receivePast(message);
    if (message.type === "replay.state") this.controls.state = message.data;
    if (message.type === "resync" || message.type === "snapshot") this.startAnew();
    const live = this.player.time === null;
    if (live && stream !== null && stream === this.stream) this.picture.match(stream);
  }

  /** @param {{stream: string | null, data: import("./protocol").PastFrames}} message */
  receivePast({ stream, data }) {
    if (stream === this.stream?.id) this.player.cache.take(data);
  }

  /** @param {{stream: number, frame: number, jpeg: ArrayBuffer}} picture */
  receivePicture({ stream, frame, jpeg }) {
    const shown = this.stream;
    if (shown?.number !== stream || this.player.time !== null) return;
    this.picture.offer(frame, jpeg);
    this.picture.match(shown);
  }

  /** @param {import("./protocol").Hello} hello */
  greet(hello) {
    const { units } = this;
    this.choice.offer(hello.streams);
    this.bars.build();
    this.controls.offer(hello.replay);
    this.scores.build(hello.scores);
    const marked = units.all.some((unit) => units.mark(unit.au));
    this.ribbon.canvas.title = marked ? say("ribbon.marked") : "";
    this.prototypes.reset();
    const usual = hello.notice === RESEARCH_NOTICE;
    setText(byId("notice", HTMLElement), usual ? say("notice") : hello.notice);
  }

  changeStream() {
    this.startAnew();
    this.feed.subscribe();
  }

  /** What was known is void (another stream or run of the server, or events were lost). */
  startAnew() {
    this.picture.reset();
    this.prototypes.reset();
    this.player.reset();
    this.timeline.reset();
  }

  showValues() {
    const { stream } = this;
    if (!stream) return;
    const edge = this.present();
    const past = this.player.time;
    const time = past ?? edge;
    stream.trim(edge);
    this.giveColours(stream, time);
    this.states.show(stream);
    this.age.show(stream, this.model, this.feed, this.player);
    setText(this.stage.title, say(past === null ? "stage.title" : "stage.then"));
    const segment = past === null ? stream.stage : stream.stageAt(past);
    this.stage.show(stream, segment, time);
    this.headline.show(stream, time);
    this.facts.show(stream, this.model);
    const frame = past === null ? stream.frame : (this.player.frame?.sample ?? null);
    this.bars.show(this.feed.live || past !== null ? frame : null);
    this.scores.show(stream, this.feed.live);
    this.prototypes.show(stream, segment?.labels ?? []);
    this.controls.show();
    if (this.settings.table) this.table.show(stream);
    this.layout.makeWay(this.picture, this.ribbon);
    this.announcer.speak();
  }

  /**
   * Give colours to the Action Units on show: first those of the stage, then those of the lanes.
   * @param {import("./stream.js").Stream} stream
   * @param {number} time - that is shown, seconds since 1970
   */
  giveColours(stream, time) {
    const { palette } = this.units;
    const active = (stream.frame?.aus ?? []).filter((value) => value.active);
    const staged = stream.stageAt(time)?.labels.map((label) => Number(/^AU(\d+)/.exec(label)?.[1])) ?? [];
    palette.show([...staged.filter(Number.isFinite), ...active.map(({ au }) => au), ...this.ribbon.lanes]);
    if (palette.version !== this.coloured) this.recolour();
  }

  /** Colours have changed: of the theme, or of Action Units. */
  recolour() {
    this.coloured = this.units.palette.version;
    this.ribbon.patterns.forget();
    this.timeline.refresh();
    this.refocus();
  }

  /** What is drawn over the face is chosen anew. */
  refocus() {
    this.picture.refresh();
  }

  /** Another time is on show. */
  showTime() {
    const { time } = this.player;
    if (time === null) this.timeline.view.follow();
    else this.timeline.view.reveal(time);
    this.timeline.refresh();
    this.showValues();
  }

  /** @param {number} time - seconds since 1970 */
  goTo(time) {
    this.player.playing = false;
    this.player.lookAt(time);
  }

  /** @param {"relevance" | "face" | "curves" | "table"} name */
  flip(name) {
    this.settings[name] = !this.settings[name];
    keepSettings(this.settings);
    this.applySettings();
  }

  applySettings() {
    const { settings } = this;
    if (this.wantedTheme !== this.theme.wish) this.theme.choose(this.wantedTheme);
    const curves = settings.curves && !this.overlay;
    const table = settings.table && !this.overlay;
    byId("curves", HTMLElement).hidden = !curves || table;
    byId("ribbon", HTMLElement).hidden = table;
    byId("table", HTMLElement).hidden = !table;
    byId("toggle-curves", HTMLElement).setAttribute("aria-pressed", String(curves));
    byId("toggle-table", HTMLElement).setAttribute("aria-pressed", String(table));
    byId("history", HTMLElement).classList.toggle("with-curves", curves && !table);
    this.bars.showFocus();
    this.timeline.refresh();
    this.refocus();
  }

  /** Give the reader a picture of what is shown, without the face. */
  takePicture() {
    const { stream } = this;
    if (!stream) return;
    const time = this.player.time ?? this.present();
    const stage = stream.stageAt(time);
    const { text } = this.theme.inks;
    const { backgroundColor, fontFamily } = getComputedStyle(document.body);
    const clock = new Date(time * 1000).toISOString().replace("T", " ").slice(0, 19);
    const lines = [
      `facestage · ${stream.name} · ${clock} UTC`,
      `${stage ? stageText(stage.labels) : ""} ${this.headline.words.textContent}`,
      byId("notice", HTMLElement).textContent ?? "",
    ];
    const sheet = takeSnapshot(this.picture, [this.ribbon.canvas, this.timeline.curves.canvas], {
      lines, text, ground: backgroundColor, font: fontFamily,
    });
    download(sheet, `facestage ${clock.replaceAll(":", "-")}.png`);
  }
}

const RESEARCH_NOTICE = "Research software. Not a medical device.";

const isOverlay = location.pathname.endsWith("/overlay");
if (isOverlay) applyLook(readLook(location.search));
const settings = readSettings();
if (isOverlay) settings.face = true; // there is none to hide
await loadLanguage(settings.language);
translate(document);
new Page(isOverlay, settings).start();
