// @ts-check
/** The totals of all requests of this page. Pure. */

import { sourceOf } from "./summary.js";

/** @typedef {import("./summary.js").Source} Source */
/** @typedef {import("./summary.js").Summary} Summary */

/**
 * @typedef {{p50: number | null, p95: number | null}} Spread Milliseconds.
 *
 * @typedef {object} Totals
 * @property {number} requests
 * @property {number} answered Completed requests: the sum of the next five.
 * @property {number} exact
 * @property {number} semantic
 * @property {number} joined
 * @property {number} small
 * @property {number} large
 * @property {number} escalated Of `large`, those that called the small model first.
 * @property {boolean} costKnown Whether the cost of each is; else the next three leave some out.
 * @property {number} cost
 * @property {number} saved
 * @property {number} waste
 * @property {Spread} total Of completed requests only.
 * @property {Spread} first Until the first token, of completed requests.
 */

/**
 * @param {Summary[]} summaries
 * @returns {Totals}
 */
export function totals(summaries) {
  const completed = summaries.filter(({ status }) => status === "completed");
  const sources = completed.map(sourceOf);
  /** @param {Source} source */
  const number = (source) => sources.filter((other) => other === source).length;
  return {
    requests: summaries.length,
    answered: completed.length,
    exact: number("exact"),
    semantic: number("semantic"),
    joined: number("joined"),
    small: number("small"),
    large: number("large"),
    escalated: completed.filter((summary) => summary.escalated && sourceOf(summary) === "large").length,
    costKnown: summaries.every(({ cost }) => cost !== null),
    cost: sum(summaries.map(({ cost }) => cost)),
    saved: sum(summaries.map(({ saved }) => saved)),
    waste: sum(summaries.map(({ waste }) => waste)),
    total: spread(completed.map(({ totalMs }) => totalMs)),
    first: spread(completed.flatMap(({ firstMs }) => firstMs ?? [])),
  };
}

/**
 * Return the nearest-rank percentile: the smallest value that at least `share` of all values do not exceed.
 * @param {number[]} values
 * @param {number} share Above 0, up to 1.
 * @returns {number | null} Null without values.
 */
export function percentile(values, share) {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.ceil(share * sorted.length) - 1] ?? null;
}

/**
 * @param {number[]} times
 * @returns {Spread}
 */
function spread(times) {
  return { p50: percentile(times, 0.5), p95: percentile(times, 0.95) };
}

/** @param {(number | null)[]} values Null is unknown. */
function sum(values) {
  return values.reduce((/** @type {number} */ total, value) => total + (value ?? 0), 0);
}
