// @ts-check
/** The drawing of the funnel: how far a request has fallen, and which stage caught it. */

import { count } from "./format.js";
import { STEPS } from "./progress.js";
import { why } from "./sentences.js";

/** @typedef {import("./progress.js").Fall} Fall */
/** @typedef {import("./progress.js").Mark} Mark */

export class Funnel {
  #root;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
  }

  /**
   * Show how far it has come.
   * @param {Fall} fall
   */
  draw(fall) {
    this.#root.dataset.stage = fall.stage;
    this.#root.dataset.cache = fall.cache;
    this.#root.dataset.mode = fall.mode;
    for (const step of STEPS) this.#mark(step, fall.marks[step]);
    this.#mark("trim", { state: fall.trimmed ? "past" : "idle", note: `−${count(fall.trimmed)} tokens` });
    this.#write(`[data-step="small"] .model`, fall.names.small);
    this.#write(`[data-step="large"] .model`, fall.names.large);
    this.#write("#why", why(fall));
  }

  /**
   * @param {string} step
   * @param {Mark} mark
   */
  #mark(step, { state, note }) {
    for (const part of this.#root.querySelectorAll(`[data-step="${step}"]`)) {
      /** @type {HTMLElement | SVGElement} */ (part).dataset.state = state;
    }
    this.#write(`[data-step="${step}"] .note`, note);
  }

  /**
   * @param {string} places
   * @param {string} text
   */
  #write(places, text) {
    for (const place of this.#root.querySelectorAll(places)) place.textContent = text;
  }
}
