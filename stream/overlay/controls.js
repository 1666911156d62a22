// @ts-check
// The controls under the picture of time: play and pause, steps, changes, speed, the bar to scrub, and
// the way back to the present. A recording that the server replays is moved at the server.

import { byId, make } from "./dom.js";
import { agoWords } from "./headline.js";
import { say } from "./language.js";
import { SPEEDS } from "./player.js";

/**
 * @typedef {import("./protocol").Replaying} Replay - a recording that the server plays
 * @typedef {import("./protocol").ReplayState} ReplayState
 *
 * @typedef {"play" | "pause" | "seek" | "step" | "speed"} ReplayCommand
 *
 * @typedef {object} ControlOptions
 * @property {import("./player.js").Player} player
 * @property {() => number} present - seconds since 1970
 * @property {() => number} now - by the clock, seconds since 1970
 * @property {() => number} history - how far one can look back, seconds
 * @property {(command: ReplayCommand, value: number | null) => void} replay - sends it to the server
 */

export class Controls {
  /** @param {ControlOptions} options */
  constructor(options) {
    this.options = options;
    this.panel = byId("controls", HTMLElement);
    this.play = byId("play", HTMLButtonElement);
    this.now = byId("now", HTMLButtonElement);
    this.scrub = byId("scrub", HTMLInputElement);
    this.speed = byId("speed", HTMLSelectElement);
    this.where = byId("where", HTMLElement);
    /** @type {Replay | null} */
    this.recording = null;
    /** @type {ReplayState | null} */
    this.state = null;
    this.dragged = false;
    for (const speed of SPEEDS) {
      const option = make("option", "", `${speed}×`);
      option.value = String(speed);
      option.selected = speed === 1;
      this.speed.append(option);
    }
    this.listen();
  }

  listen() {
    const click = (/** @type {string} */ id, /** @type {() => void} */ action) =>
      byId(id, HTMLElement).addEventListener("click", action);
    click("play", () => this.toggle());
    click("step-back", () => this.step(-1));
    click("step-on", () => this.step(1));
    click("change-before", () => this.options.player.jump(-1));
    click("change-after", () => this.options.player.jump(1));
    click("now", () => this.options.player.live());
    this.speed.addEventListener("change", () => this.setSpeed(Number(this.speed.value)));
    this.scrub.addEventListener("input", () => this.move(Number(this.scrub.value)));
    this.scrub.addEventListener("pointerdown", () => (this.dragged = true));
    this.scrub.addEventListener("pointerup", () => (this.dragged = false));
  }

  /**
   * A recording is replayed, or not.
   * @param {Replay | null} recording
   */
  offer(recording) {
    this.recording = recording;
    this.state = null;
    this.panel.classList.toggle("replay", recording !== null);
  }

  toggle() {
    if (!this.recording) return this.options.player.toggle();
    this.options.replay(this.state?.playing ? "pause" : "play", null);
  }

  /** @param {1 | -1} way */
  step(way) {
    if (this.recording) this.options.replay("step", way);
    else this.options.player.step(way);
  }

  /** @param {number} speed */
  setSpeed(speed) {
    if (this.recording) this.options.replay("speed", speed);
    else this.options.player.setSpeed(speed);
  }

  /** @param {number} place - of the bar, 0 to 1000 */
  move(place) {
    const share = place / 1000;
    if (this.recording) {
      this.options.replay("seek", share * this.recording.duration_s);
      return;
    }
    const { player, present, history } = this.options;
    player.playing = false;
    if (share >= 1) player.live();
    else player.lookAt(present() - (1 - share) * history());
  }

  /** Show what is so now. */
  show() {
    const { player, present, history, now } = this.options;
    if (this.recording) {
      this.panel.hidden = false;
      this.now.hidden = true;
      const { playing = true, position_s = 0 } = this.state ?? {};
      const { duration_s } = this.recording;
      this.look(playing, duration_s ? position_s / duration_s : 0);
      const words = say("replay.at", { at: position_s.toFixed(1), of: duration_s.toFixed(1) });
      this.tell(words);
      return;
    }
    const past = player.time;
    const ago = past === null ? 0 : present() - past;
    this.panel.hidden = history() <= 0 && past === null;
    this.look(past === null || player.playing, 1 - ago / Math.max(1, history()));
    this.now.hidden = past === null;
    this.tell(past === null ? say("mode.live") : agoWords(now() - past));
  }

  /**
   * @param {boolean} playing
   * @param {number} share - of the bar
   */
  look(playing, share) {
    this.play.querySelector("use")?.setAttribute("href", playing ? "#icon-pause" : "#icon-play");
    const name = say(playing ? "control.pause" : "control.play");
    this.play.setAttribute("aria-label", name);
    this.play.title = name;
    if (!this.dragged) this.scrub.value = String(Math.round(Math.max(0, Math.min(1, share)) * 1000));
  }

  /** @param {string} words - where it is */
  tell(words) {
    if (this.where.textContent === words) return;
    this.where.textContent = words;
    this.scrub.setAttribute("aria-valuetext", words);
  }
}
