// @ts-check
/** What the requests of this page come to. Pure. */

/**
 * @typedef {"cache" | "small" | "large"} Stage Who gave the answer.
 *
 * @typedef {object} Settled One request that has ended, whichever way.
 * @property {string} question
 * @property {string} status completed, incomplete, cancelled, failed, refused or lost
 * @property {string | null} code Why it did not complete.
 * @property {Stage | null} stage
 * @property {string} model
 * @property {number} inputTokens
 * @property {number} outputTokens
 * @property {boolean} estimated Whether the tokens and the money are an estimate.
 * @property {number | null} firstMs Until the first word was seen.
 * @property {number} totalMs
 * @property {number} cost Dollars.
 * @property {number} saved Dollars, against the large model alone; negative where the funnel cost more.
 *
 * @typedef {object} Totals
 * @property {number} requests
 * @property {number} cache
 * @property {number} small
 * @property {number} large
 * @property {number} cost
 * @property {number} saved
 * @property {number | null} p50 Milliseconds, of the requests that completed: a stopped one says nothing about speed.
 * @property {number | null} p95
 */

/**
 * @param {Settled[]} settled
 * @returns {Totals}
 */
export function totals(settled) {
  const completed = settled.filter(({ status }) => status === "completed");
  const times = completed.map(({ totalMs }) => totalMs);
  /** @param {Stage} stage */
  const answeredBy = (stage) => completed.filter((request) => request.stage === stage).length;
  return {
    requests: settled.length,
    cache: answeredBy("cache"),
    small: answeredBy("small"),
    large: answeredBy("large"),
    cost: sum(settled.map(({ cost }) => cost)),
    saved: sum(settled.map(({ saved }) => saved)),
    p50: percentile(times, 0.5),
    p95: percentile(times, 0.95),
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

/** @param {number[]} values */
function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
