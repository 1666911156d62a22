// @ts-check
// What the page's address remembers after its #, so that it outlives a reload: token and stream.

export class Address {
  constructor() {
    this.choices = new URLSearchParams(location.hash.slice(1));
  }

  /** Secret of the server; null: none is known. */
  get token() {
    return this.choices.get("token");
  }

  set token(value) {
    this.remember("token", value);
  }

  /** Id of the stream to be shown; null: no choice was made. */
  get stream() {
    return this.choices.get("stream");
  }

  set stream(value) {
    this.remember("stream", value);
  }

  /**
   * @param {string} name
   * @param {string | null} value
   */
  remember(name, value) {
    if (value === null) this.choices.delete(name);
    else this.choices.set(name, value);
    history.replaceState(null, "", `#${this.choices}`);
  }
}
