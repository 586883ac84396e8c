// @ts-check
/** What things are called on the page. Pure. */

import { verdict } from "../sentences.js";

export const LEVERS = /** @type {Record<string, string>} */ ({
  trimming: "Trimming",
  exact: "Exact cache",
  semantic: "Semantic cache",
  join: "Shared generations",
  routing: "Cheaper model",
  cap: "Output caps",
  batch: "Batch price",
  service_tier: "Service tier",
  prefix: "Provider's cache",
});

export const WASTE = /** @type {Record<string, string>} */ ({
  lost: "Lost races and hedges",
  revised: "Drafts taken back",
  repair: "Corrections",
  failed: "Failed calls",
  cancelled: "Cancelled, unanswered",
  evidence: "Shadows and judges",
});

export const SOURCES = /** @type {Record<string, string>} */ ({
  exact: "Exact cache",
  semantic: "Semantic cache",
  joined: "Joined",
  cache: "Cache",
  small: "Small model",
  large: "Large model",
  none: "No answer",
});

export const STAGES = /** @type {Record<string, string>} */ ({
  trim: "Trim",
  exact: "Exact cache",
  join: "Join",
  semantic: "Semantic cache",
  route: "Route",
  small: "Small model",
  check: "Check",
  large: "Large model",
  settle: "Settle",
});

/** What became of a stage or a call. */
export const STATES = /** @type {Record<string, string>} */ ({
  passed: "passed on",
  missed: "no answer here",
  skipped: "not needed",
  answered: "answered",
  revised: "taken back",
  failed: "failed",
  lost: "lost the race",
  cancelled: "cancelled",
});

/** The colour of an outcome. */
export const TONES = /** @type {Record<string, string>} */ ({
  answered: "good",
  completed: "good",
  passed: "quiet",
  missed: "quiet",
  skipped: "faint",
  revised: "warn",
  lost: "warn",
  incomplete: "warn",
  cancelled: "warn",
  failed: "bad",
  killed: "bad",
});

/**
 * Who answered a request, in more detail than its source.
 * @param {{source: string | null, cache: string}} line
 */
export function answeredBy({ source, cache }) {
  if (cache === "joined") return "joined";
  if (source === "cache") return cache === "semantic" ? "semantic" : "exact";
  return source ?? "none";
}

/**
 * Why the large model had to answer: what was wrong with the small one's answer, or its error.
 * @param {string} reason
 */
export function escalation(reason) {
  const said = verdict(reason, "");
  return said ? `It ${said}` : reason.replaceAll("_", " ");
}
