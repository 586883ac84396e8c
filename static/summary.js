// @ts-check
/** One request that has ended, and what it came to. Pure. */

/** @typedef {import("./millrace.js").Answer} Answer */
/** @typedef {import("./millrace.js").Attempt} Attempt */

/**
 * @typedef {"cache" | "small" | "large"} Stage Who gave the answer.
 * @typedef {"exact" | "semantic" | "joined" | "small" | "large"} Catch What caught the request; one for each answer.
 * @typedef {{firstMs: number | null, totalMs: number}} Times Until the first word was seen, and until the end.
 *
 * @typedef {object} Ending
 * @property {string} question
 * @property {string} status completed, incomplete, cancelled, failed, refused or lost
 * @property {string | null} code Why it did not complete.
 * @property {Stage | null} stage
 * @property {string | null} cache miss, exact, semantic or joined
 * @property {boolean} escalated Whether words were taken back, and the large model asked.
 * @property {string} model
 * @property {number} inputTokens
 * @property {number} outputTokens
 * @property {boolean} estimated Whether the tokens are an estimate.
 * @property {number} cost Dollars.
 * @property {boolean} costEstimated Whether some of the cost is: of a call that was closed before it could report.
 * @property {number} saved Dollars, against the large model alone; negative where the funnel cost more.
 * @property {number} waste Dollars of the cost, for words that nobody has kept.
 *
 * @typedef {Ending & Times} Settled
 */

/** Outcomes of calls that were paid for in vain. */
const IN_VAIN = ["lost", "revised"];

/**
 * @param {string} question
 * @param {Answer} answer
 * @param {{code: string} | null} fault
 * @param {Times} times
 * @returns {Settled}
 */
export function settle(question, answer, fault, times) {
  const { usage, metadata, model, incomplete_details: details, status } = answer.response ?? {};
  const attempts = usage?.attempts ?? [];
  const ended = status && status !== "in_progress";
  const code = fault?.code ?? null;
  return {
    question,
    status: ended ? status : code === "connection_lost" ? "lost" : "refused",
    code: code ?? details?.reason ?? null,
    stage: /** @type {Stage | undefined} */ (metadata?.["millrace.route"]) ?? null,
    cache: metadata?.["millrace.cache"] ?? null,
    escalated: answer.takenBack.length > 0,
    model: ended ? (model ?? "") : "",
    inputTokens: usage?.input_tokens ?? 0,
    outputTokens: usage?.output_tokens ?? 0,
    estimated: usage?.estimated ?? false,
    cost: usage?.cost_usd ?? 0,
    costEstimated: attempts.some(({ estimated }) => estimated),
    saved: usage?.saved_usd ?? 0,
    waste: inVain(attempts),
    ...times,
  };
}

/**
 * What caught it, if something did. One that rode along was caught by that, whoever answered the other.
 * @param {{status: string, stage: Stage | null, cache: string | null}} settled
 * @returns {Catch | null}
 */
export function caughtBy({ status, stage, cache }) {
  if (status !== "completed") return null;
  if (cache === "joined") return "joined";
  if (stage === "cache") return cache === "semantic" ? "semantic" : "exact";
  return stage;
}

/** @param {Attempt[]} attempts */
function inVain(attempts) {
  return attempts.reduce((sum, { outcome, cost_usd }) => sum + (IN_VAIN.includes(outcome) ? cost_usd : 0), 0);
}
