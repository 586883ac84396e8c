// @ts-check
/** The progress of one request through the funnel: turns events into the status of each stage of the drawing. Pure. */

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
 * The states of a stage. idle: not reached; past: passed without an answer; working; answered: gave the answer; weak:
 * its answer failed the check; closed: lost a race; stopped, broken: the request ended here without an answer.
 * @typedef {"idle" | "past" | "working" | "answered" | "weak" | "closed" | "stopped" | "broken"} State
 * @typedef {{state: State, note: string}} StepStatus
 */

export const STEPS = /** @type {const} */ (["exact", "join", "semantic", "small", "check", "large"]);
const CACHES = /** @type {const} */ (["exact", "join", "semantic"]);

/** The strategies that ask both models. */
const RACES = ["race", "hedge"];

/** The notes of stages that the request has passed. */
const MISS_NOTES = { exact: "miss", join: "no match", semantic: "miss" };

export class Progress {
  /** @type {Record<Step, StepStatus>} */
  steps;
  /** @type {"cascade" | "race"} One model after the other, or both at once. */
  mode = "cascade";
  /** @type {Route | null} The last one. A race has a second one, for the winner, as has a model that failed. */
  route = null;
  /** Whether a race has a winner. */
  decided = false;
  /** The stage that gave the answer: small, large or cache. Set at the end. */
  stage = "";
  /** The result of the caches: miss, exact, semantic or joined. Empty before it is known. */
  cache = "";
  /** Tokens trimmed from the prompt. Set at the end. */
  trimmed = 0;
  /** @type {Record<Tier, string>} The names of the two models; empty before they are known. */
  names;
  #revised = false;
  /** @type {Map<string, Tier>} The tiers of the models that routes have named. */
  #tiers = new Map();

  /**
   * @param {string} cacheMode The option `cache`: on, off, refresh or only.
   * @param {Record<Tier, string>} [names] The names of the models, from the last request.
   */
  constructor(cacheMode = "on", names = { small: "", large: "" }) {
    this.names = { ...names };
    const entries = STEPS.map((step) => [step, { state: "idle", note: "" }]);
    this.steps = Object.fromEntries(entries);
    if (cacheMode !== "on") this.#set("join", "past", "skipped");
    if (cacheMode === "on" || cacheMode === "only") this.#set("exact", "working", "looking up");
    else for (const step of CACHES) this.#set(step, "past", "skipped");
  }

  /** @param {AnswerEvent} event */
  take(event) {
    switch (event.type) {
      case "millrace.route":
        this.#applyRoute(event);
        break;
      case "millrace.revise":
        this.#applyRevise(event);
        break;
      case "millrace.usage":
        this.#applyAttempts(event.attempts);
    }
  }

  /**
   * The request has ended. Without a response it was refused, or the connection was lost.
   * @param {Response | null} [response]
   */
  end(response) {
    const metadata = response?.metadata ?? {};
    this.stage = metadata["millrace.route"] ?? "";
    // The metadata of a cancelled response may say miss; its route is right.
    this.cache = this.route?.cache ?? metadata["millrace.cache"] ?? "";
    this.trimmed = Number(metadata["millrace.trimmed_tokens"] ?? 0);
    this.#applyAttempts(response?.usage?.attempts ?? []);
    if (response?.status === "completed") this.#showAnswered(metadata["millrace.check"]);
    else if (response?.status === "cancelled") this.#endAt("stopped", this.cache === "joined" ? "left" : "stopped");
    else if (response?.status === "incomplete") this.#endAt("stopped", "cut off");
    else if (response?.error?.code === "response_not_found") this.#showNothingStored();
    else this.#endAt("broken", "failed");
  }

  /** @param {Route} route */
  #applyRoute(route) {
    const previous = this.route?.tier;
    this.route = route;
    this.cache = route.cache;
    if (route.tier) this.#tiers.set((this.names[route.tier] = route.model), route.tier);
    if (route.tier && previous === route.tier && !RACES.includes(route.strategy)) this.#showStandIn(route);
    else if (this.#revised && route.tier) this.#showFailedOver(route.tier);
    else if (previous && route.tier) this.#endRace(route.tier, route.failed !== undefined);
    else if (route.cache === "exact") this.#set("exact", "answered", "answered");
    else if (route.cache === "semantic") this.#showSemanticHit(route);
    else if (route.cache === "joined") this.#showJoined(route);
    else this.#showMiss(route);
  }

  /**
   * Another deployment of the model is asked, or another model in its place.
   * @param {Route} route
   */
  #showStandIn({ tier }) {
    if (tier) this.#set(tier, "working", "asked elsewhere");
  }

  /** @param {Route} route */
  #showSemanticHit({ similarity: cosine }) {
    this.#passBy("exact", "join");
    this.#set("semantic", "answered", cosine === undefined ? "answered" : `${similarity(cosine)} similar`);
  }

  /** @param {Route} route */
  #showJoined(route) {
    this.#passBy("exact", "semantic");
    this.#set("join", "working", "joined");
    if (route.tier) this.#startModels(route);
    else this.#set("semantic", "past", "answered both");
  }

  /** @param {Route} route */
  #showMiss(route) {
    this.#passBy(...CACHES);
    const { similarity: cosine } = route;
    if (cosine !== undefined) this.#set("semantic", "past", `${similarity(cosine)}, too low`);
    this.#startModels(route);
  }

  /** @param {Route} route */
  #startModels({ tier, strategy, failed }) {
    if (tier && strategy === "race" && !failed) this.#startRace();
    else if (tier) this.#startModel(tier, strategy, failed !== undefined);
  }

  /**
   * @param {Tier} tier
   * @param {string} strategy
   * @param {boolean} hasFailed The other model, so that it is not asked now.
   */
  #startModel(tier, strategy, hasFailed) {
    const isLarge = tier === "large";
    if (isLarge) this.#set("small", hasFailed ? "broken" : "past", hasFailed ? "failed before" : "not asked");
    this.#set(tier, "working", "answering");
    // With the strategy `small` the answer is not checked.
    if (strategy !== "small") this.#set("check", isLarge ? "past" : "working", "checking");
  }

  /** Both models are called; neither has won yet. */
  #startRace() {
    this.mode = "race";
    this.#set("small", "working", "racing");
    this.#set("large", "working", "racing");
    this.#set("check", "idle", "waiting");
  }

  /**
   * @param {Tier} winner
   * @param {boolean} hasFailed The other model; else it was slower.
   */
  #endRace(winner, hasFailed) {
    this.mode = "race";
    this.decided = true;
    this.#set(winner, "working", "answering");
    this.#set(winner === "large" ? "small" : "large", hasFailed ? "broken" : "closed", hasFailed ? "failed" : "closed");
    this.#set("check", winner === "large" ? "past" : "working", "checking");
  }

  /** @param {Revise} revise */
  #applyRevise({ reason, from_model, to_model }) {
    if (from_model === to_model) return; // another deployment of it answers
    this.#revised = true;
    this.names.large = to_model;
    this.#set("small", "weak", "taken back");
    this.#set("check", "weak", verdict(reason, reason));
    this.#set("large", "working", this.steps.large.state === "closed" ? "asked again" : "answering");
  }

  /**
   * The small model has failed, and another one is asked. A revise came before.
   * @param {Tier} tier
   */
  #showFailedOver(tier) {
    this.#set("small", "broken", "failed");
    this.#set("check", "past", "");
    this.#set(tier, "working", "answering");
  }

  /**
   * The attempts show that a hedge has started the large model, and what the loser of a race has cost.
   * @param {Attempt[]} attempts
   */
  #applyAttempts(attempts) {
    const tiers = attempts.map(({ model }) => this.tierOf(model));
    attempts.forEach(({ model }, index) => (this.names[tiers[index]] = model));
    const both = tiers.includes("small") && tiers.includes("large");
    if (both && this.mode === "cascade" && !this.#revised) this.#startRace();
    attempts.forEach((attempt, index) => {
      if (["closed", "broken"].includes(this.steps[tiers[index]].state)) this.#showLoser(tiers[index], attempt);
    });
  }

  /**
   * @param {Tier} loser
   * @param {Attempt} attempt
   */
  #showLoser(loser, { outcome, cost_usd, estimated }) {
    const cost = `${estimated ? "≈" : ""}${money(cost_usd)}`;
    if (outcome === "lost") this.#set(loser, "closed", `closed, ${cost}`);
    if (outcome === "failed") this.#set(loser, "broken", `failed, ${cost}`);
  }

  /**
   * Return the tier of a model. If both are called, the small one is called first, and a route has named it.
   * @param {string} model
   * @returns {Tier}
   */
  tierOf(model) {
    return this.#tiers.get(model) ?? (model === this.names.small ? "small" : "large");
  }

  /** @param {string | undefined} check The result of the check. */
  #showAnswered(check) {
    const joined = this.cache === "joined";
    for (const step of STEPS) {
      if (this.steps[step].state === "idle") this.#set(step, "idle", "not needed");
    }
    if (joined) this.#set("join", "answered", "joined");
    if (this.stage !== "small" && this.stage !== "large") return;
    this.#set(this.stage, joined ? "past" : "answered", joined ? "answered both" : "answered");
    if (check === "passed") this.#set("check", "past", "passed");
    else if (check && this.steps.check.state !== "weak") this.#set("check", "weak", verdict(check, check));
  }

  /**
   * @param {State} state The new state of the stages that were working.
   * @param {string} note
   */
  #endAt(state, note) {
    const joined = this.steps.join.state === "working";
    for (const step of STEPS) {
      if (this.steps[step].state !== "working") continue;
      if (step === "check") this.#set(step, "idle", "");
      else if (joined && step !== "join" && state === "stopped") this.#set(step, "past", ""); // the model still runs
      else this.#set(step, state, note);
    }
  }

  #showNothingStored() {
    this.#passBy("exact");
    this.#set("semantic", "broken", "nothing stored");
  }

  /**
   * The request has passed these stages. A stage that was skipped keeps its note.
   * @param {(typeof CACHES)[number][]} steps
   */
  #passBy(...steps) {
    for (const step of steps) {
      if (this.steps[step].state !== "past") this.#set(step, "past", MISS_NOTES[step]);
    }
  }

  /**
   * @param {Step} step
   * @param {State} state
   * @param {string} note
   */
  #set(step, state, note) {
    this.steps[step] = { state, note };
  }
}
