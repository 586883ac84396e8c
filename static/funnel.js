// @ts-check
/** The drawing of the funnel: how far a request has come, and which stage answered it. */

import { count } from "./format.js";
import { STEPS } from "./progress.js";
import { routeText } from "./sentences.js";

/** @typedef {import("./progress.js").Progress} Progress */
/** @typedef {import("./progress.js").StepStatus} StepStatus */

export class Funnel {
  #root;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
  }

  /**
   * Show the progress of a request.
   * @param {Progress} progress
   * @param {(step: import("./progress.js").Step) => string} figure The time and the money that a stage took.
   */
  draw(progress, figure) {
    this.#root.dataset.stage = progress.stage;
    this.#root.dataset.cache = progress.cache;
    this.#root.dataset.mode = progress.mode;
    for (const step of STEPS) {
      this.#drawStep(step, progress.steps[step]);
      this.#setText(`li[data-step="${step}"] .figure`, figure(step));
    }
    this.#drawStep("trim", { state: progress.trimmed ? "past" : "idle", note: `−${count(progress.trimmed)} tokens` });
    this.#setText(`[data-step="small"] .model`, progress.names.small);
    this.#setText(`[data-step="large"] .model`, progress.names.large);
    this.#setText("#why", routeText(progress));
  }

  /**
   * @param {string} step
   * @param {StepStatus} status
   */
  #drawStep(step, { state, note }) {
    for (const part of this.#root.querySelectorAll(`[data-step="${step}"]`)) {
      /** @type {HTMLElement | SVGElement} */ (part).dataset.state = state;
    }
    this.#setText(`[data-step="${step}"] .note`, note);
  }

  /**
   * @param {string} selector
   * @param {string} text
   */
  #setText(selector, text) {
    for (const element of this.#root.querySelectorAll(selector)) {
      if (element.textContent !== text) element.textContent = text; // what does not change costs no layout
    }
  }
}
