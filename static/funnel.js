// @ts-check
/** The drawing of the funnel: how far a request has fallen, and which stage caught it. */

import { age } from "./figures.js";

/** @typedef {import("./millrace.js").Route} Route */
/** @typedef {import("./millrace.js").Revise} Revise */
/** @typedef {import("./millrace.js").Response} Response */
/** @typedef {"cache" | "small" | "check" | "large"} Step */

/**
 * idle: the request has not come here; past: it went by; working; caught: here it was answered;
 * weak: what came of it was not good enough; stopped, broken: it ended here without an answer.
 * @typedef {"idle" | "past" | "working" | "caught" | "weak" | "stopped" | "broken"} State
 */

/** What a failed check says of the answer it judged. */
const VERDICTS = /** @type {Record<string, string>} */ ({
  empty: "said nothing",
  cut_off: "was cut off",
  refusal: "refused",
  unsure: "was unsure",
  form: "broke the asked-for form",
});

const STEPS = /** @type {const} */ (["cache", "small", "check", "large"]);

export class Funnel {
  #root;
  /** @type {Partial<Record<Step, State>>} */
  #states = {};

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
  }

  /**
   * A request sets out.
   * @param {string} cache What it wants of the caches.
   */
  begin(cache) {
    this.#root.dataset.stage = "";
    for (const step of STEPS) this.#mark(step, "idle", "");
    if (reads(cache)) this.#mark("cache", "working", "looking");
    else this.#mark("cache", "past", "left out");
  }

  /** @param {Route} route */
  routed(route) {
    if (route.cache !== "miss") {
      this.#mark("cache", "caught", route.age_s === undefined ? "answered" : `answered ${age(route.age_s)} ago`);
      return;
    }
    if (this.#states.cache === "working") this.#mark("cache", "past", "not seen before");
    const large = route.tier === "large";
    if (large) this.#mark("small", "past", "not asked");
    this.#mark(large ? "large" : "small", "working", "answering");
    // The small model, asked for by name, is taken at its word.
    if (route.strategy !== "small") this.#mark("check", large ? "past" : "working", "reading along");
  }

  /** @param {Revise} revise */
  revised({ reason }) {
    this.#mark("small", "weak", "taken back");
    this.#mark("check", "weak", VERDICTS[reason] ?? reason);
    this.#mark("large", "working", "answering");
  }

  /**
   * A request ended, caught or not; without a response it was refused or lost.
   * @param {Response} [response]
   */
  end(response) {
    const stage = response?.metadata["millrace.route"] ?? "";
    this.#root.dataset.stage = stage;
    if (response?.status === "completed") this.#caught(/** @type {Step} */ (stage), response);
    else if (response?.status === "cancelled") this.#leave("stopped", "stopped");
    else if (response?.status === "incomplete") this.#leave("stopped", "cut off");
    else this.#leave("broken", "broke off");
  }

  /**
   * @param {Step} stage
   * @param {Response} response
   */
  #caught(stage, response) {
    const check = response.metadata["millrace.check"];
    for (const step of STEPS) {
      if (this.#states[step] === "idle") this.#mark(step, "idle", "not needed");
    }
    if (stage === "cache") return;
    this.#mark(stage, "caught", "answered");
    if (check === "passed") this.#mark("check", "past", "passed");
    else if (check && this.#states.check !== "weak") this.#mark("check", "weak", VERDICTS[check] ?? check);
  }

  /**
   * @param {State} state Of the stage that was at work.
   * @param {string} note
   */
  #leave(state, note) {
    for (const step of STEPS) {
      if (this.#states[step] !== "working") continue;
      if (step === "check") this.#mark(step, "idle", "");
      else this.#mark(step, state, note);
    }
  }

  /**
   * @param {Step} step
   * @param {State} state
   * @param {string} note
   */
  #mark(step, state, note) {
    this.#states[step] = state;
    for (const part of this.#root.querySelectorAll(`[data-step="${step}"]`)) {
      /** @type {HTMLElement | SVGElement} */ (part).dataset.state = state;
      const words = part.querySelector(".note");
      if (words) words.textContent = note;
    }
  }
}

/**
 * What a revise means, as a sentence's end: "was unsure".
 * @param {string} reason
 */
export function verdict(reason) {
  return VERDICTS[reason] ?? "failed";
}

/** @param {string} cache */
function reads(cache) {
  return cache === "on" || cache === "only";
}
