// @ts-check
/** The summary of a request that has ended. Pure. */

/** @typedef {import("./millrace.js").Answer} Answer */
/** @typedef {import("./millrace.js").Attempt} Attempt */

/**
 * @typedef {"cache" | "small" | "large"} Stage The stage that gave the answer.
 * @typedef {"exact" | "semantic" | "joined" | "small" | "large"} Source How a completed request got its answer.
 * @typedef {{firstMs: number | null, totalMs: number}} Times Until the first token and until the end.
 *
 * @typedef {object} Result
 * @property {string} question
 * @property {string} status completed, incomplete, cancelled, failed, refused or lost
 * @property {string | null} code Why it did not complete.
 * @property {Stage | null} stage
 * @property {string | null} cache miss, exact, semantic or joined
 * @property {boolean} escalated Whether text was taken back, and the large model called.
 * @property {string} model
 * @property {number | null} inputTokens Null if unknown.
 * @property {number | null} outputTokens Null if unknown.
 * @property {boolean} estimated Whether the tokens are an estimate.
 * @property {number | null} cost Dollars; null if unknown, because the connection was lost before the end.
 * @property {boolean} costEstimated Whether part of the cost is: a call that is closed early reports no usage.
 * @property {number | null} saved Dollars, compared with the large model alone; negative if the funnel cost more.
 * @property {number | null} waste Dollars of the cost, for calls whose text was discarded.
 *
 * @typedef {Result & Times} Summary
 */

/** The outcomes of calls whose text was discarded. */
const WASTED = ["lost", "revised"];

/**
 * @param {string} question
 * @param {Answer} answer
 * @param {{code: string} | null} error
 * @param {Times} times
 * @returns {Summary}
 */
export function summarize(question, answer, error, times) {
  const { usage, metadata, model, incomplete_details: details, status } = answer.response ?? {};
  const attempts = usage?.attempts ?? [];
  const ended = status && status !== "in_progress";
  const code = error?.code ?? null;
  const state = ended ? status : code === "connection_lost" ? "lost" : "refused";
  const isUnsent = answer.response?.id === ""; // it was cancelled before
  const unknown = state === "refused" || isUnsent ? 0 : null; // what was refused has cost nothing
  return {
    question,
    status: state,
    code: code ?? details?.reason ?? null,
    stage: /** @type {Stage | undefined} */ (metadata?.["millrace.route"]) ?? null,
    cache: metadata?.["millrace.cache"] ?? null,
    escalated: answer.takenBack.length > 0,
    model: ended ? (model ?? "") : "",
    inputTokens: usage?.input_tokens ?? unknown,
    outputTokens: usage?.output_tokens ?? unknown,
    estimated: usage?.estimated ?? false,
    cost: usage?.cost_usd ?? unknown,
    costEstimated: attempts.some(({ estimated }) => estimated),
    saved: usage?.saved_usd ?? unknown,
    waste: usage ? wastedCost(attempts) : unknown,
    ...times,
  };
}

/**
 * Return how a request got its answer; null if it did not complete. A joined request has the source "joined",
 * whichever model answered.
 * @param {{status: string, stage: Stage | null, cache: string | null}} summary
 * @returns {Source | null}
 */
export function sourceOf({ status, stage, cache }) {
  if (status !== "completed") return null;
  if (cache === "joined") return "joined";
  if (stage === "cache") return cache === "semantic" ? "semantic" : "exact";
  return stage;
}

/** @param {Attempt[]} attempts */
function wastedCost(attempts) {
  return attempts.reduce((sum, { outcome, cost_usd }) => sum + (WASTED.includes(outcome) ? cost_usd : 0), 0);
}
