// @ts-check
/** How one request falls: from the events of the wire to what each stage of the drawing shows. Pure. */

import { money, similarity } from "./format.js";
import { verdict } from "./sentences.js";

/** @typedef {import("./millrace.js").AnswerEvent} AnswerEvent */
/** @typedef {import("./millrace.js").Attempt} Attempt */
/** @typedef {import("./millrace.js").Response} Response */
/** @typedef {import("./millrace.js").Revise} Revise */
/** @typedef {import("./millrace.js").Route} Route */
/** @typedef {"exact" | "join" | "semantic" | "small" | "check" | "large"} Step */
/** @typedef {"small" | "large"} Tier */

/**
 * idle: the request has not come here; past: it went by; working; caught: here it was answered;
 * weak: what came of it was not good enough; closed: the other model was first; stopped, broken: it ended here
 * without an answer.
 * @typedef {"idle" | "past" | "working" | "caught" | "weak" | "closed" | "stopped" | "broken"} State
 * @typedef {{state: State, note: string}} Mark
 */

export const STEPS = /** @type {const} */ (["exact", "join", "semantic", "small", "check", "large"]);
const CACHES = /** @type {const} */ (["exact", "join", "semantic"]);

/** What a stage says of a request that it has let by. */
const MISSES = { exact: "miss", join: "alone", semantic: "miss" };

export class Fall {
  /** @type {Record<Step, Mark>} */
  marks;
  /** @type {"fall" | "race"} One model after the other, or both side by side. */
  mode = "fall";
  /** @type {Route | null} The last one: in a race the second names the winner. */
  route = null;
  /** Whether a race has been decided. */
  decided = false;
  /** Who gave the answer, once it has ended: small, large or cache. */
  stage = "";
  /** How the caches took part: miss, exact, semantic or joined, once that is known. */
  cache = "";
  /** Tokens cut from the prompt, once it has ended. */
  trimmed = 0;
  /** @type {Record<Tier, string>} What the two models are called, as far as that has been said. */
  names;
  #revised = false;

  /**
   * A request sets out.
   * @param {string} wanted What it wants of the caches: on, off, refresh or only.
   * @param {Record<Tier, string>} [names] What the models were called the last time.
   */
  constructor(wanted = "on", names = { small: "", large: "" }) {
    this.names = { ...names };
    const marks = STEPS.map((step) => [step, { state: "idle", note: "" }]);
    this.marks = Object.fromEntries(marks);
    if (wanted !== "on") this.#mark("join", "past", "left out");
    if (wanted === "on" || wanted === "only") this.#mark("exact", "working", "looking");
    else for (const step of CACHES) this.#mark(step, "past", "left out");
  }

  /** @param {AnswerEvent} event */
  take(event) {
    switch (event.type) {
      case "millrace.route":
        this.#routed(event);
        break;
      case "millrace.revise":
        this.#revise(event);
        break;
      case "millrace.usage":
        this.#billed(event.attempts);
    }
  }

  /**
   * It ended, caught or not; without a response it was refused or lost.
   * @param {Response | null} [response]
   */
  end(response) {
    const metadata = response?.metadata ?? {};
    this.stage = metadata["millrace.route"] ?? "";
    this.cache = this.route?.cache ?? metadata["millrace.cache"] ?? ""; // the route knows it of a cancelled one too
    this.trimmed = Number(metadata["millrace.trimmed_tokens"] ?? 0);
    this.#billed(response?.usage?.attempts ?? []);
    if (response?.status === "completed") this.#caught(metadata["millrace.check"]);
    else if (response?.status === "cancelled") this.#leave("stopped", this.cache === "joined" ? "left" : "stopped");
    else if (response?.status === "incomplete") this.#leave("stopped", "cut off");
    else if (response?.error?.code === "response_not_found") this.#nothingStored();
    else this.#leave("broken", "broke off");
  }

  /** @param {Route} route */
  #routed(route) {
    const before = this.route?.tier;
    this.route = route;
    this.cache = route.cache;
    if (route.tier) this.names[route.tier] = route.model;
    if (before && route.tier) this.#decide(route.tier);
    else if (route.cache === "exact") this.#mark("exact", "caught", "answered");
    else if (route.cache === "semantic") this.#similar(route);
    else if (route.cache === "joined") this.#join(route);
    else this.#miss(route);
  }

  /** @param {Route} route */
  #similar({ similarity: alike }) {
    this.#letBy("exact", "join");
    this.#mark("semantic", "caught", alike === undefined ? "answered" : `${similarity(alike)} similar`);
  }

  /** @param {Route} route */
  #join(route) {
    this.#letBy("exact", "semantic");
    this.#mark("join", "working", "riding along");
    if (route.tier) this.#models(route);
    else this.#mark("semantic", "past", "answered both");
  }

  /** @param {Route} route */
  #miss(route) {
    this.#letBy(...CACHES);
    const { similarity: alike } = route;
    if (alike !== undefined) this.#mark("semantic", "past", `${similarity(alike)}, not enough`);
    this.#models(route);
  }

  /** @param {Route} route */
  #models({ tier, strategy }) {
    if (tier && strategy === "race") this.#race();
    else if (tier) this.#ask(tier, strategy);
  }

  /**
   * @param {Tier} tier
   * @param {string} strategy
   */
  #ask(tier, strategy) {
    const large = tier === "large";
    if (large) this.#mark("small", "past", "not asked");
    this.#mark(tier, "working", "answering");
    // The small model, asked for by name, is taken at its word.
    if (strategy !== "small") this.#mark("check", large ? "past" : "working", "reading along");
  }

  /** Both are asked; neither has won. */
  #race() {
    this.mode = "race";
    this.#mark("small", "working", "racing");
    this.#mark("large", "working", "racing");
    this.#mark("check", "idle", "waiting");
  }

  /** @param {Tier} winner */
  #decide(winner) {
    this.mode = "race";
    this.decided = true;
    this.#mark(winner, "working", "answering");
    this.#mark(winner === "large" ? "small" : "large", "closed", "closed");
    this.#mark("check", winner === "large" ? "past" : "working", "reading along");
  }

  /** @param {Revise} revise */
  #revise({ reason, to_model }) {
    this.#revised = true;
    this.names.large = to_model;
    this.#mark("small", "weak", "taken back");
    this.#mark("check", "weak", verdict(reason, reason));
    this.#mark("large", "working", this.marks.large.state === "closed" ? "asked again" : "answering");
  }

  /**
   * The bill knows which calls there are: that a hedge has started the large model, and what the loser has cost.
   * @param {Attempt[]} attempts
   */
  #billed(attempts) {
    const tiers = attempts.map(({ model }) => this.#tierOf(model));
    attempts.forEach(({ model }, index) => (this.names[tiers[index]] = model));
    const both = tiers.includes("small") && tiers.includes("large");
    if (both && this.mode === "fall" && !this.#revised) this.#race();
    attempts.forEach((attempt, index) => {
      if (this.marks[tiers[index]].state === "closed") this.#price(tiers[index], attempt);
    });
  }

  /**
   * @param {Tier} loser
   * @param {Attempt} attempt
   */
  #price(loser, { outcome, cost_usd, estimated }) {
    const cost = `${estimated ? "≈" : ""}${money(cost_usd)}`;
    if (outcome === "lost") this.#mark(loser, "closed", `closed, ${cost}`);
    if (outcome === "failed") this.#mark(loser, "broken", `failed, ${cost}`);
  }

  /**
   * Where more than one model is asked, the small one is asked first; a route has said its name.
   * @param {string} model
   * @returns {Tier}
   */
  #tierOf(model) {
    return model === this.names.small ? "small" : "large";
  }

  /** @param {string | undefined} check What the check says of the answer. */
  #caught(check) {
    const joined = this.cache === "joined";
    for (const step of STEPS) {
      if (this.marks[step].state === "idle") this.#mark(step, "idle", "not needed");
    }
    if (joined) this.#mark("join", "caught", "rode along");
    if (this.stage !== "small" && this.stage !== "large") return;
    this.#mark(this.stage, joined ? "past" : "caught", joined ? "answered both" : "answered");
    if (check === "passed") this.#mark("check", "past", "passed");
    else if (check && this.marks.check.state !== "weak") this.#mark("check", "weak", verdict(check, check));
  }

  /**
   * @param {State} state Of the stages that were at work.
   * @param {string} note
   */
  #leave(state, note) {
    const joined = this.marks.join.state === "working";
    for (const step of STEPS) {
      if (this.marks[step].state !== "working") continue;
      if (step === "check") this.#mark(step, "idle", "");
      else if (joined && step !== "join" && state === "stopped") this.#mark(step, "past", ""); // it answers the other
      else this.#mark(step, state, note);
    }
  }

  #nothingStored() {
    this.#letBy("exact");
    this.#mark("semantic", "broken", "nothing stored");
  }

  /**
   * They had nothing for it; one that is left out stays so.
   * @param {(typeof CACHES)[number][]} steps
   */
  #letBy(...steps) {
    for (const step of steps) {
      if (this.marks[step].state !== "past") this.#mark(step, "past", MISSES[step]);
    }
  }

  /**
   * @param {Step} step
   * @param {State} state
   * @param {string} note
   */
  #mark(step, state, note) {
    this.marks[step] = { state, note };
  }
}
