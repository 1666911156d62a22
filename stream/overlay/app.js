// The page: it connects, keeps the model, and shows it.

import { Bars } from "./bars.js";
import { Connection } from "./connection.js";
import { byId, make, setState, setText } from "./dom.js";
import { bytes, HISTORY_S, MARK_MEANS, Model, splitLabel, stageText } from "./model.js";
import { Picture } from "./picture.js";
import { Prototypes } from "./prototypes.js";
import { Ribbon } from "./ribbon.js";

const OVERLAY = location.pathname === "/overlay";
const STALE_S = 1.5;
const VALUES_MS = 100;
const ANNOUNCE_MS = 1500;
const HEADER_BYTES = 16;
const MAGIC = 0x5346;
const NEUTRAL = "#9aa6b2";
const CROWDS = ["few", "some", "more", "many", "most"]; // sizes of the chips, large to small
const MARGIN = 8; // CSS pixels between labels and what they must not touch
const OVERLAY_RIBBON = 0.32; // most of the overlay's height that the ribbon may take
const HOLD_S = 3; // the ribbon makes way at once, and comes back only after this

const SOURCE_STATES = {
  connecting: ["busy", "dashed", "connecting"],
  live: ["good", "filled", "live"],
  stalled: ["bad", "warn", "stalled"],
  reconnecting: ["busy", "turn", "reconnecting"],
  ended: ["idle", "stop", "ended"],
  failed: ["bad", "cross", "failed"],
};
const FACE_STATES = {
  tracked: ["good", "filled", "face tracked"],
  multiple: ["good", "pair", "several faces"],
  low_quality: ["busy", "half", "face unclear"],
  lost: ["bad", "ring", "face lost"],
};
const BASELINE_STATES = {
  learning: ["busy", "dashed", "baseline learning", "Nothing is subtracted until this face has rested for about a second"],
  active: ["good", "filled", "baseline active", "Presence is judged against this person's own face at rest"],
};
const REASONS = {
  first: "first stage",
  au_on: "Action Unit on",
  au_off: "Action Unit off",
  cluster_change: "pattern changed",
  face_lost: "face lost",
  face_found: "face found",
  gap: "gap in the source",
};

const model = new Model();
const colour = (au) => {
  const known = model.units.get(au)?.colour ?? "";
  return /^#[0-9a-f]{6}$/i.test(known) ? known : NEUTRAL;
};
const mark = (au) => model.mark(au);
const wantsVideo = () => !OVERLAY && (model.hello?.video ?? true);
const picture = new Picture(byId("view"), { video: wantsVideo, decode: bytes, colour, mark, reserved });
const ribbon = new Ribbon(byId("ribbon"), colour, mark);
const bars = new Bars(byId("bars"), byId("hidden-units"), mark);
const prototypes = new Prototypes(byId("thumbs"), byId("found"), colour, mark);

let shownStream = null; // id
let link = "connecting";
const address = new URLSearchParams(location.hash.slice(1));
let token = address.get("token");
let lastEdge = 0;
let announced = { text: "", at: 0 };

const stream = () => model.streams.get(shownStream) ?? null;

// --- Connections ------------------------------------------------------------------------------

const events = new Connection("/ws", {
  token: () => token,
  subscription: () => ({
    since: model.since(),
    history_s: HISTORY_S,
    streams: shownStream === null ? null : [shownStream],
  }),
  state: (name, wait) => {
    link = name;
    showConnection(name, wait);
    if (name === "open") openPictures();
    if (name === "refused") askToken();
  },
  message: (envelope) => {
    const about = model.receive(envelope);
    if (envelope.type === "hello") greet(envelope.data);
    if (envelope.type === "resync" || envelope.type === "snapshot") startAnew();
    if (envelope.type === "bye") link = "left";
    if (about !== null && about === stream()) picture.match(about);
  },
});

const pictures = new Connection("/ws/frames", {
  token: () => token,
  subscription: () => ({ streams: shownStream === null ? null : [shownStream] }),
  binary: (buffer) => {
    const header = new DataView(buffer);
    const current = stream();
    if (buffer.byteLength <= HEADER_BYTES || header.getUint16(0, true) !== MAGIC) return;
    if (!current || header.getUint16(4, true) !== current.number) return;
    picture.offer(header.getUint32(8, true), buffer.slice(HEADER_BYTES));
    picture.match(current);
  },
});

/** Pictures cost the server an encoder: ask for them only while somebody can see them. */
function openPictures() {
  if (wantsVideo() && link === "open" && !document.hidden) pictures.open();
  else pictures.close();
}

function greet(hello) {
  const wished = address.get("stream"); // /overlay has no room for a choice
  const first = model.streams.has(wished) ? wished : (hello.streams[0]?.id ?? null);
  if (!model.streams.has(shownStream)) shownStream = first;
  bars.build(model.units);
  ribbon.forgetColours();
  const marked = [...model.units.keys()].some(mark);
  byId("ribbon").title = marked ? "? after an Action Unit: weak or poor by its grade" : "";
  prototypes.reset();
  setText(byId("notice"), hello.notice);
  const choice = byId("stream");
  choice.replaceChildren(
    ...hello.streams.map((info) => {
      const option = make("option", "", info.name);
      option.value = info.id;
      option.selected = info.id === shownStream;
      return option;
    }),
  );
  choice.hidden = hello.streams.length < 2;
  byId("source-name").hidden = hello.streams.length >= 2;
  showName();
  openPictures();
}

function showName() {
  const name = stream()?.name ?? "";
  setText(byId("source-name"), name);
  document.title = `${name} · facestage`;
}

/** What was known is void (another run of the server, or events were lost). */
function startAnew() {
  picture.reset();
  prototypes.reset();
  lastEdge = 0;
}

function askToken() {
  const dialog = byId("ask");
  if (!dialog.open) dialog.showModal();
  byId("token").focus();
}

byId("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value;
  byId("token").value = "";
  byId("ask").close();
  remember("token", token);
  events.open();
});

/** Keep a choice in the address, so that it outlives a reload. */
function remember(name, value) {
  address.set(name, value);
  history.replaceState(null, "", `#${address}`);
}

byId("stream").addEventListener("change", (event) => {
  shownStream = event.target.value;
  remember("stream", shownStream);
  showName();
  startAnew();
  events.subscribe();
  pictures.subscribe();
});

// --- Showing ----------------------------------------------------------------------------------

function showConnection(name, wait) {
  const element = byId("connection");
  const words = {
    connecting: ["busy", "dashed", "connecting"],
    open: ["good", "filled", "connected"],
    waiting: ["bad", "turn", `reconnecting in ${((wait ?? 0) / 1000).toFixed(0)} s`],
    reconnecting: ["bad", "turn", "reconnecting"],
    refused: ["bad", "cross", "token needed"],
  }[name];
  setState(element, ...words);
}

function showStage(current, edge) {
  const segment = current.stage;
  const labels = segment?.labels ?? [];
  const text = segment ? stageText(labels) : "";
  const list = byId("chips");
  if (list.dataset.text !== text) {
    list.dataset.text = text;
    const chips = segment ? labels.map(chip) : [make("li", "chip empty", "no stage")];
    list.replaceChildren(...chips);
    fitChips();
    announce(labels);
  }
  let since = "";
  if (segment) {
    const parts = [`for ${Math.max(0, edge - segment.from).toFixed(1)} s`];
    parts.push(REASONS[segment.reason] ?? segment.reason);
    if (segment.previous) parts.push(`after ${stageText(segment.previous)}`);
    since = parts.join(" · ");
  }
  setText(byId("since"), since);
}

/** Make the chips as large as there is room for. */
function fitChips() {
  const list = byId("chips");
  for (const crowd of CROWDS.slice(list.children.length > 3 ? 1 : 0)) {
    list.dataset.crowd = crowd;
    if (list.scrollHeight <= list.clientHeight) return;
  }
}

new ResizeObserver(fitChips).observe(byId("stage"));

function chip(label) {
  if (label === "NONE") {
    return make("li", "chip none", make("b", "", "NONE"), make("span", "", "face, no active AU"));
  }
  if (label === "LOST") {
    return make("li", "chip lost", make("b", "", "LOST"), make("span", "", "no usable face"));
  }
  const au = splitLabel(label)?.au;
  const name = model.units.get(au)?.name ?? "";
  const warning = mark(au);
  const tags = warning ? [make("em", "mark", warning)] : [];
  const head = make("b", "", label, ...tags);
  const element = make("li", "chip", head, make("span", "", name));
  element.style.setProperty("--au", colour(au));
  element.title = [`${label} ${name}`, MARK_MEANS[warning]].filter(Boolean).join("\n");
  return element;
}

function announce(labels) {
  const words = labels.map((label) => {
    if (label === "NONE") return "no active Action Unit";
    if (label === "LOST") return "face lost";
    const au = splitLabel(label)?.au;
    const words = [label.replace("_", " "), model.units.get(au)?.name ?? ""];
    if (mark(au)) words.push(`(${mark(au)})`);
    return words.join(" ");
  });
  announced.text = words.join(", ");
  announced.due = true;
}

function speak() {
  if (announced.due && performance.now() - announced.at > ANNOUNCE_MS) {
    setText(byId("announce"), announced.text);
    announced = { text: "", at: performance.now(), due: false };
  }
}

function showStates(current) {
  const source = current.source?.state ?? current.frame?.source_state;
  const shown = SOURCE_STATES[source] ?? ["idle", "dashed", source ?? "waiting"];
  setState(byId("source-state"), ...shown);
  byId("source-state").title = current.source?.reason ?? "";
  const baseline = BASELINE_STATES[current.frame?.baseline];
  byId("baseline-state").hidden = !baseline;
  if (baseline) {
    setState(byId("baseline-state"), ...baseline.slice(0, 3));
    byId("baseline-state").title = baseline[3];
  }
  const face = current.frame?.face.state ?? current.face?.state;
  const reason = current.frame?.face.reason ?? current.face?.reason;
  const [kind, icon, words] = FACE_STATES[face] ?? ["idle", "dashed", face ?? "no face yet"];
  setState(byId("face-state"), kind, icon, reason ? `${words}: ${reason}` : words);
}

/** Never let an old picture pass for a live one. */
function showAge(current) {
  const age = picture.captured === null ? null : model.now() - picture.captured;
  const source = current.source?.state;
  let veil = "";
  if (link !== "open") {
    veil = link === "refused" ? "Token needed" : "Reconnecting to the server";
  } else if (source === "ended" || source === "failed" || source === "stalled") {
    veil = `Source ${source}`;
  } else if (source === "reconnecting") {
    veil = "Source reconnecting";
  } else if (age === null && !OVERLAY) {
    veil = wantsVideo() ? "Waiting for the first picture" : "";
  }
  const stale = link !== "open" || (age !== null && age > STALE_S);
  if (stale && age !== null) veil = `${veil || "Not live"} · picture ${seconds(age)} old`;
  byId("picture").classList.toggle("stale", stale || veil !== "");
  byId("veil").hidden = veil === "";
  setText(byId("veil"), veil);
  const parts = [];
  if (picture.drawn) {
    const { frame, latency_ms: latency } = picture.drawn.sample;
    parts.push(`frame ${frame}`, `capture to emit ${latency.toFixed(0)} ms`);
  }
  if (model.hello && !model.hello.video) parts.push("pictures are off");
  setText(byId("age"), stale ? "" : parts.join(" · "));
}

/** What of the picture's height belongs to something else than labels, CSS pixels. */
function reserved() {
  const view = byId("view").getBoundingClientRect();
  if (!OVERLAY) {
    const age = byId("age").getBoundingClientRect();
    return { top: 0, bottom: age.height ? view.bottom - age.top + MARGIN : 0 };
  }
  const stage = byId("stage").getBoundingClientRect();
  const panel = byId("history").getBoundingClientRect();
  return { top: stage.bottom - view.top + MARGIN, bottom: view.bottom - panel.top + MARGIN };
}

let lowestMark = { y: 0, at: 0 };

/** On /overlay the marks lie where the face is; the ribbon below takes what height they leave. */
function makeWay() {
  const now = performance.now() / 1000;
  const y = picture.lowest ?? 0;
  if (y >= lowestMark.y || now - lowestMark.at > HOLD_S) lowestMark = { y, at: now };
  const panel = byId("history");
  const { bottom } = panel.getBoundingClientRect();
  const frame = panel.clientHeight - byId("ribbon").clientHeight;
  const free = Math.min(OVERLAY_RIBBON * innerHeight, bottom - lowestMark.y - MARGIN);
  const height = Math.max(ribbon.leastHeight, Math.min(ribbon.wantedHeight, free - frame));
  panel.style.height = `${Math.round(height + frame)}px`;
}

function seconds(value) {
  if (value < 100) return `${value.toFixed(1)} s`;
  return value < 5400 ? `${(value / 60).toFixed(0)} min` : `${(value / 3600).toFixed(0)} h`;
}

function showFacts(current) {
  const { hello, stats } = model;
  if (!hello) return;
  const latency = stats?.latency_ms;
  const drops = Object.entries(stats?.drops ?? {});
  const dropped = current.frame?.dropped_total ?? drops.reduce((sum, [, count]) => sum + count, 0);
  const { lrp_engine: engine, lrp_engine_reason: reason } = stats?.lrp_engine ? stats : hello;
  const rough = hello.lrp_precision === "bfloat16" ? ", bfloat16" : "";
  const facts = [
    ["device", stats?.device || hello.device],
    ["model", stats?.model || hello.model],
    ["detector", stats?.detector || hello.detector],
    ["LRP engine", (reason ? `${engine}: ${reason}` : engine || "–") + rough, reason],
    ["analysed", stats ? `${stats.fps_analysed.toFixed(1)} of ${stats.fps_in.toFixed(1)} fps` : "–"],
    ["latency p50 / p99", latency ? `${latency.p50.toFixed(0)} / ${latency.p99.toFixed(0)} ms` : "–"],
    ["dropped", String(dropped), drops.map(([cause, count]) => `${cause}: ${count}`).join(", ")],
  ];
  const list = byId("facts");
  facts.forEach(([name, value, hint], i) => {
    if (!list.children[i]) list.append(make("div", "", make("dt", "", name), make("dd", "")));
    const [term, detail] = list.children[i].children;
    setText(term, name);
    setText(detail, value);
    if (hint !== undefined) list.children[i].title = hint;
  });
}

/** Right edge of the ribbon: now while frames come, the last of them when they stop. */
function edgeOf(current) {
  if (!current.captured) return lastEdge || model.now();
  const edge = link === "open" ? Math.min(model.now(), current.captured + 1) : current.captured;
  lastEdge = Math.max(lastEdge, edge);
  return lastEdge;
}

function showValues() {
  const current = stream();
  if (!current) return;
  const edge = edgeOf(current);
  current.trim(edge);
  showStates(current);
  showAge(current);
  showStage(current, edge);
  showFacts(current);
  bars.show(link === "open" ? current.frame : null);
  prototypes.show(current, new Set(current.stage?.labels ?? []));
  if (OVERLAY) makeWay();
  speak();
}

const calm = matchMedia("(prefers-reduced-motion: reduce)");

function showRibbon() {
  const current = stream();
  if (!current || document.hidden) return;
  ribbon.draw(current, edgeOf(current));
}

setInterval(showValues, VALUES_MS);
let ribbonTimer = 0;
function paceRibbon() {
  clearInterval(ribbonTimer);
  ribbonTimer = setInterval(showRibbon, calm.matches ? 1000 : 66);
}
calm.addEventListener("change", paceRibbon);
paceRibbon();

// --- Keys and buttons -------------------------------------------------------------------------

function setSpan(span) {
  ribbon.span = span;
  for (const button of document.querySelectorAll("#spans button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.span) === span));
  }
  showRibbon();
}

for (const button of document.querySelectorAll("#spans button")) {
  button.addEventListener("click", () => setSpan(Number(button.dataset.span)));
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen();
}

byId("fullscreen").addEventListener("click", toggleFullScreen);
document.addEventListener("keydown", (event) => {
  const { target } = event;
  const typing = target instanceof HTMLInputElement || target instanceof HTMLSelectElement;
  const command = event.ctrlKey || event.metaKey || event.altKey;
  if (event.key.toLowerCase() === "f" && !typing && !command) toggleFullScreen();
});
document.addEventListener("visibilitychange", openPictures);

document.body.classList.toggle("overlay", OVERLAY);
setSpan(30);
events.open();
