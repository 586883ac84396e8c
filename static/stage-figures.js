// @ts-check
/** The time and the money that each stage of the funnel took, as it is seen from here. Pure. */

import { duration, money } from "./format.js";
import { STEPS } from "./progress.js";

/** @typedef {import("./millrace.js").AnswerEvent} AnswerEvent */
/** @typedef {import("./millrace.js").Attempt} Attempt */
/** @typedef {import("./progress.js").Progress} Progress */
/** @typedef {import("./progress.js").State} State */
/** @typedef {import("./progress.js").Step} Step */

const MODELS = ["small", "large"];

/**
 * @typedef {object} Figure
 * @property {State} state
 * @property {number | null} start Milliseconds since the request was sent; null: not reached.
 * @property {number | null} end null: not left.
 * @property {number | null} cost Dollars; null: not known yet.
 * @property {boolean} estimated Whether the cost is.
 */

export class StageFigures {
  /** @type {Record<Step, Figure>} */
  #figures;

  constructor() {
    const entries = STEPS.map((step) => [step, { state: "idle", start: null, end: null, cost: null, estimated: false }]);
    this.#figures = Object.fromEntries(entries);
  }

  /**
   * See which stages were reached, and which were left.
   * @param {Progress} progress
   * @param {number} ms
   * @param {Attempt[]} [attempts] The calls so far, if the event tells them.
   */
  take(progress, ms, attempts) {
    for (const step of STEPS) this.#look(step, progress.steps[step].state, ms);
    if (attempts) this.#book(progress, attempts);
  }

  /**
   * The figures of a stage in words: of a model how long it took; of another stage when the request left it. Empty if
   * the request did not come there.
   * @param {Step} step
   * @param {number} ms Now.
   */
  text(step, ms) {
    const { state, start, end, cost, estimated } = this.#figures[step];
    if (start === null || state === "idle") return "";
    if (!MODELS.includes(step)) return state === "working" ? "" : `${state === "answered" ? "" : "at "}${duration(end ?? ms)} · $0`;
    const dollars = cost === null ? "" : ` · ${estimated ? "≈" : ""}${money(cost)}`;
    return duration((end ?? ms) - start) + dollars;
  }

  /**
   * @param {Step} step
   * @param {State} state
   * @param {number} ms
   */
  #look(step, state, ms) {
    const figure = this.#figures[step];
    const was = figure.state;
    figure.state = state;
    if (state === was) return;
    if (state === "working") {
      figure.start ??= ms;
      figure.end = null;
    } else if (was === "working" || (state !== "past" && state !== "idle")) {
      figure.start ??= ms;
      figure.end ??= ms;
    } else if (!MODELS.includes(step) && ms > 0) {
      figure.start = figure.end = ms; // a cache that had nothing; one that was skipped is so from the beginning
    }
  }

  /**
   * @param {Progress} progress
   * @param {Attempt[]} attempts
   */
  #book(progress, attempts) {
    for (const tier of /** @type {const} */ (["small", "large"])) {
      const own = attempts.filter(({ model }) => progress.tierOf(model) === tier);
      if (!own.length) continue;
      this.#figures[tier].cost = own.reduce((sum, { cost_usd }) => sum + cost_usd, 0);
      this.#figures[tier].estimated = own.some(({ estimated }) => estimated);
    }
  }
}
