// @ts-check
/** What the requests of this page come to. Pure. */

import { caughtBy } from "./summary.js";

/** @typedef {import("./summary.js").Catch} Catch */
/** @typedef {import("./summary.js").Settled} Settled */

/**
 * @typedef {{p50: number | null, p95: number | null}} Spread Milliseconds.
 *
 * @typedef {object} Totals
 * @property {number} requests
 * @property {number} answered Those that completed: the sum of the five that follow.
 * @property {number} exact
 * @property {number} semantic
 * @property {number} joined
 * @property {number} small
 * @property {number} large
 * @property {number} escalated Of the large model's, those that the small one was asked first.
 * @property {number} cost
 * @property {number} saved
 * @property {number} waste
 * @property {Spread} total Of the requests that completed: a stopped one says nothing about speed.
 * @property {Spread} first Until their first word.
 */

/**
 * @param {Settled[]} settled
 * @returns {Totals}
 */
export function totals(settled) {
  const completed = settled.filter(({ status }) => status === "completed");
  const caught = completed.map(caughtBy);
  /** @param {Catch} by */
  const number = (by) => caught.filter((one) => one === by).length;
  return {
    requests: settled.length,
    answered: completed.length,
    exact: number("exact"),
    semantic: number("semantic"),
    joined: number("joined"),
    small: number("small"),
    large: number("large"),
    escalated: completed.filter((one) => one.escalated && caughtBy(one) === "large").length,
    cost: sum(settled.map(({ cost }) => cost)),
    saved: sum(settled.map(({ saved }) => saved)),
    waste: sum(settled.map(({ waste }) => waste)),
    total: spread(completed.map(({ totalMs }) => totalMs)),
    first: spread(completed.flatMap(({ firstMs }) => firstMs ?? [])),
  };
}

/**
 * Return the nearest-rank percentile: the smallest value that at least `share` of all values do not exceed.
 * @param {number[]} values
 * @param {number} share Above 0, up to 1.
 * @returns {number | null} None of no values.
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

/** @param {number[]} values */
function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
