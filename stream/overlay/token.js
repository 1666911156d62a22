// @ts-check
// The dialog that asks for the token of the server.

import { byId } from "./dom.js";

export class TokenDialog {
  /** @param {(token: string) => void} given - called when somebody has typed one */
  constructor(given) {
    this.dialog = byId("ask", HTMLDialogElement);
    this.input = byId("token", HTMLInputElement);
    this.wrong = byId("ask-wrong", HTMLElement);
    byId("ask-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      const token = this.input.value;
      this.input.value = "";
      this.dialog.close();
      given(token);
    });
  }

  /** @param {boolean} isWrong - whether one was given, and refused */
  ask(isWrong) {
    this.wrong.hidden = !isWrong;
    if (!this.dialog.open) this.dialog.showModal();
    this.input.focus();
  }
}
