// @ts-check
/** The sentences about a request that the page shows. Pure. */

import { age, count, duration, money, similarity, timeOfDay } from "./format.js";

/** @typedef {import("./models.js").ModelHealth} ModelHealth */
/** @typedef {import("./progress.js").Progress} Progress */
/** @typedef {import("./summary.js").Summary} Summary */

const STAGE_NAMES = /** @type {Record<string, string>} */ ({
  cache: "the cache",
  small: "the small model",
  large: "the large model",
});

const OTHER = /** @type {Record<string, string>} */ ({ small: "large", large: "small" });

/** The results of failed checks, as the end of a sentence about the model. */
const VERDICTS = /** @type {Record<string, string>} */ ({
  empty: "said nothing",
  cut_off: "was cut off",
  refusal: "refused",
  unsure: "was unsure",
  opening: "began as wrong answers do",
  guard: "said what a guard forbids",
  loop: "went round in circles",
  echo: "repeated the question",
  unfinished: "stopped in the middle of a sentence",
  language: "answered in another language",
  final_answer: "left the answer out",
  impossible_number: "came to a number that cannot be",
  arithmetic: "miscalculated",
  code: "wrote code that does not parse",
  citations: "cited no source",
  hedging: "hedged",
  length: "went on too long",
  units: "answered in another unit",
  rounded: "rounded the result",
  unused_numbers: "left out a number of the question",
  unknown_numbers: "made up a number",
  form: "broke the requested format",
  pattern: "broke the requested pattern",
  tool_call: "called a tool in a wrong way",
  learned: "is likely wrong",
});

/**
 * The reason of a revise as the end of a sentence, such as "was unsure".
 * @param {string} reason
 * @param {string} [fallback] For a reason without a text here.
 */
export function verdict(reason, fallback = "failed") {
  return VERDICTS[reason] ?? fallback;
}

/**
 * Which model is answering; empty if a cache has answered.
 * @param {Progress} progress
 */
export function runningSentence({ route, cache, mode, decided }) {
  const model = STAGE_NAMES[route?.tier ?? ""];
  if (!model) return "";
  if (route?.failed) return `${capitalized(STAGE_NAMES[OTHER[route.tier ?? ""]])} failed; ${model} is answering.`;
  if (mode === "race" && !decided) return "Both models race for the first token.";
  if (decided) return `${capitalized(model)} was first and is answering.`;
  if (cache === "joined") return `An identical request is running; ${model} answers both.`;
  return `${capitalized(model)} is answering.`;
}

/**
 * The route of a request: the model, the reason and the numbers behind it; empty before the route is known.
 * @param {Progress} progress
 */
export function routeText({ route, cache, mode, decided, trimmed }) {
  if (!route) return "";
  const { model, reason, score, similarity: cosine, age_s, failed } = route;
  const parts = mode === "race" && !decided ? [reason] : [model, reason];
  if (failed) parts.splice(0, 2, ...failed.map(({ message }) => message), `${model} instead`);
  if (typeof score === "number") parts.push(`score ${score.toFixed(2)}`);
  if (cosine !== undefined) parts.push(`${similarity(cosine)} similar`);
  if (age_s !== undefined) parts.push(`stored ${age(age_s)} ago`);
  if (cache === "joined") parts.push("shared with an identical request");
  if (trimmed) parts.push(`${count(trimmed)} tokens trimmed`);
  return parts.join(" · ");
}

/**
 * What is wrong with a model; empty if nothing is.
 * @param {ModelHealth} health
 */
export function healthSentence({ model, status, failing_since, last_cause, failures_last_minute, ...more }) {
  const lately = more.failures_last_5_minutes;
  const failures = `${count(lately)} ${lately === 1 ? "failure" : "failures"} in the last 5 minutes`;
  if (status === "failing") return `${model} fails since ${timeOfDay(failing_since ?? 0)}: ${last_cause} (${failures}).`;
  const times = failures_last_minute === 1 ? "once" : `${count(failures_last_minute)} times`;
  return status === "degraded" ? `${model} failed ${times} within the last minute: ${last_cause}.` : "";
}

/** @param {Summary} summary */
export function endSentence({ status, code, stage, cache, totalMs, cost }) {
  const time = duration(totalMs);
  const price = cost === null ? "its cost is not known" : cost ? `it cost ${money(cost)}` : "it cost nothing";
  switch (status) {
    case "completed":
      if (cache === "joined") return `Completed in ${time}, joined: ${STAGE_NAMES[stage ?? ""]} answered both.`;
      return `Completed: ${sourceName(stage, cache)} answered in ${time}.`;
    case "cancelled":
      return `Cancelled after ${time}; ${price}.`;
    case "incomplete":
      return `Incomplete (${code}) after ${time}; ${price}.`;
    case "refused":
      return "Refused: no model was called, nothing is billed.";
    case "lost":
      return `The connection was lost after ${time}; ${price}.`;
    default:
      return `Failed after ${time}; ${price}.`;
  }
}

/**
 * @param {string | null} stage
 * @param {string | null} cache
 */
function sourceName(stage, cache) {
  if (stage === "cache" && cache === "semantic") return "the semantic cache";
  return STAGE_NAMES[stage ?? ""] ?? "a model";
}

/** @param {string} text */
function capitalized(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
