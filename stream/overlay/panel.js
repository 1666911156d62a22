// @ts-check
// The settings as a dialog: theme, language, what is drawn, and whose relevance.

import { byId, make } from "./dom.js";
import { LANGUAGES, say } from "./language.js";
import { keepSettings } from "./settings.js";

/**
 * @typedef {import("./settings.js").Settings} Settings
 * @typedef {"relevance" | "fill" | "labels" | "face" | "curves" | "table" | "keys"} Switch
 */

const THEMES = ["system", "dark", "light", "contrast"];
/** @type {Switch[]} */
const SWITCHES = ["relevance", "fill", "labels", "face", "curves", "table", "keys"];

export class SettingsPanel {
  /**
   * @param {Settings} settings
   * @param {import("./units.js").Units} units
   * @param {import("./focus.js").Focus} focus
   * @param {() => void} changed
   */
  constructor(settings, units, focus, changed) {
    this.settings = settings;
    this.units = units;
    this.focus = focus;
    this.changed = changed;
    this.dialog = byId("settings", HTMLDialogElement);
    this.body = byId("settings-body", HTMLElement);
    byId("open-settings", HTMLElement).addEventListener("click", () => this.open());
  }

  open() {
    const { settings } = this;
    const languages = [["system", say("settings.system")], ...Object.entries(LANGUAGES)];
    const themes = THEMES.map((theme) => [theme, say(`theme.${theme}`)]);
    this.body.replaceChildren(
      this.choice("theme", settings.theme, themes, (value) => {
        settings.theme = /** @type {Settings["theme"]} */ (value);
        this.keep();
      }),
      this.choice("language", settings.language, languages, (value) => {
        settings.language = value;
        this.keep();
        location.reload(); // every word of the page is another
      }),
      ...SWITCHES.map((name) => this.switch(name)),
      this.unitChoices(),
    );
    this.dialog.showModal();
  }

  keep() {
    keepSettings(this.settings);
    this.changed();
  }

  /**
   * @param {Switch} name
   */
  switch(name) {
    const box = make("input", "");
    box.type = "checkbox";
    box.id = `setting-${name}`;
    box.checked = this.settings[name];
    box.addEventListener("change", () => {
      this.settings[name] = box.checked;
      this.keep();
    });
    return make("label", "switch", box, say(`settings.${name}`));
  }

  /**
   * @param {string} name
   * @param {string} value
   * @param {string[][]} choices - values and their words
   * @param {(value: string) => void} chosen
   */
  choice(name, value, choices, chosen) {
    const select = make("select", "");
    select.id = `setting-${name}`;
    for (const [code, words] of choices) {
      const option = make("option", "", words);
      option.value = code;
      option.selected = code === value;
      select.append(option);
    }
    select.addEventListener("change", () => chosen(select.value));
    return make("label", "choice", say(`settings.${name}`), select);
  }

  /** Whose relevance is drawn: in turn, always or never. */
  unitChoices() {
    const states = ["turn", "pinned", "unseen"];
    const rows = this.units.all.filter((unit) => unit.shown ?? true).map((unit) => {
      const select = make("select", "");
      for (const state of states) {
        const option = make("option", "", say(`settings.${state}`));
        option.value = state;
        option.selected = state === this.focus.stateOf(unit.au);
        select.append(option);
      }
      select.addEventListener("change", () => {
        while (this.focus.stateOf(unit.au) !== select.value) this.focus.toggle(unit.au);
        this.keep();
      });
      return make("label", "choice", `${unit.code} ${this.units.name(unit.au)}`, select);
    });
    return make("fieldset", "", make("legend", "", say("settings.units")), ...rows);
  }
}
