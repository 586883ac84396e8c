// @ts-check
/** What the page says of a request, in sentences. Pure. */

import { age, count, duration, money, similarity } from "./format.js";

/** @typedef {import("./progress.js").Fall} Fall */
/** @typedef {import("./summary.js").Settled} Settled */

const NAMES = /** @type {Record<string, string>} */ ({
  cache: "the cache",
  small: "the small model",
  large: "the large model",
});

/** What a failed check says of the answer it judged. */
const VERDICTS = /** @type {Record<string, string>} */ ({
  empty: "said nothing",
  cut_off: "was cut off",
  refusal: "refused",
  unsure: "was unsure",
  form: "broke the asked-for form",
});

/**
 * What a revise means, as a sentence's end: "was unsure".
 * @param {string} reason
 * @param {string} [otherwise] For a reason that has no words here.
 */
export function verdict(reason, otherwise = "failed") {
  return VERDICTS[reason] ?? otherwise;
}

/**
 * Who is at it now; nothing where a cache has answered.
 * @param {Fall} fall
 */
export function underWay({ route, cache, mode, decided }) {
  const who = NAMES[route?.tier ?? ""];
  if (!who) return "";
  if (mode === "race" && !decided) return "Both models race for the first word.";
  if (decided) return `${sentence(who)} was first, and answers.`;
  if (cache === "joined") return `An identical request is under way; ${who} answers both.`;
  return `${sentence(who)} is answering.`;
}

/**
 * Why it went the way it did, with the figures that speak for it; nothing before that is known.
 * @param {Fall} fall
 */
export function why({ route, cache, mode, decided, trimmed }) {
  if (!route) return "";
  const { model, reason, score, similarity: alike, age_s } = route;
  const parts = mode === "race" && !decided ? [reason] : [model, reason];
  if (typeof score === "number") parts.push(`score ${score.toFixed(2)}`);
  if (alike !== undefined) parts.push(`${similarity(alike)} similar`);
  if (age_s !== undefined) parts.push(`stored ${age(age_s)} ago`);
  if (cache === "joined") parts.push("shared with an identical request");
  if (trimmed) parts.push(`${count(trimmed)} tokens trimmed`);
  return parts.join(" · ");
}

/** @param {Settled} settled */
export function closing({ status, code, stage, cache, totalMs, cost }) {
  const time = duration(totalMs);
  const paid = cost ? `it cost ${money(cost)}` : "it cost nothing";
  switch (status) {
    case "completed":
      if (cache === "joined") return `Completed in ${time}, riding along: ${NAMES[stage ?? ""]} answered both.`;
      return `Completed: ${answerer(stage, cache)} answered in ${time}.`;
    case "cancelled":
      return `Cancelled after ${time}; ${paid}.`;
    case "incomplete":
      return `Incomplete (${code}) after ${time}; ${paid}.`;
    case "refused":
      return "Refused; nothing was asked, nothing is billed.";
    case "lost":
      return `The connection was lost after ${time}.`;
    default:
      return `Failed after ${time}; ${paid}.`;
  }
}

/**
 * @param {string | null} stage
 * @param {string | null} cache
 */
function answerer(stage, cache) {
  if (stage === "cache" && cache === "semantic") return "the semantic cache";
  return NAMES[stage ?? ""] ?? "a model";
}

/** @param {string} words */
function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}
