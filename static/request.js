// @ts-check
/** What a request may say, and how it is written on the wire. */

/** The names on the wire of fields in camel case; every other field keeps its name. */
const WIRE_NAMES = /** @type {Record<string, string>} */ ({
  maxOutputTokens: "max_output_tokens",
  topP: "top_p",
  previousResponseId: "previous_response_id",
  toolChoice: "tool_choice",
});

/** Options of Millrace, sent in the `millrace` object. */
const OPTIONS = /** @type {Record<string, string>} */ ({
  strategy: "strategy",
  delivery: "delivery",
  cache: "cache",
  cacheScope: "cache_scope",
  context: "context",
  contextVersion: "context_version",
  contextBudget: "context_budget",
  checks: "checks",
  maxCostUsd: "max_cost_usd",
  deadlineMs: "deadline_ms",
  onDisconnect: "on_disconnect",
  concise: "concise",
  tag: "tag",
  evidence: "evidence",
  idempotencyKey: "idempotency_key",
  graceMs: "grace_ms",
  hedgeMs: "hedge_ms",
});

/**
 * @typedef {string | object[]} Input A question, or the items of a conversation.
 *
 * @typedef {object} StreamOptions
 * @property {string} [lane] Requests of one lane run one after the other; requests without one run side by side.
 * @property {AbortSignal} [signal] Cancels the request. The terminal event still comes, with the cost.
 * @property {string} [model]
 * @property {string} [instructions]
 * @property {Record<string, string>} [metadata]
 * @property {Record<string, unknown>} [millrace] Options under their names on the wire.
 * @property {string} [strategy] Who is asked: "auto", "cascade", "small", "large", "race" or "hedge".
 * @property {string} [delivery] When text is shown: "speculate", "prefix", "commit" or "final".
 * @property {string} [cache] "on", "off", "refresh" or "only".
 * @property {string} [cacheScope]
 * @property {(string | {text: string})[]} [context] The most relevant first.
 * @property {string} [contextVersion]
 * @property {number} [contextBudget] Tokens of context and history.
 * @property {(string | object)[]} [checks]
 * @property {number | string} [maxCostUsd] Dollars.
 * @property {number} [deadlineMs]
 * @property {"cancel" | "detach"} [onDisconnect] With "detach" it survives a lost connection, and is resumed.
 * @property {boolean} [concise]
 * @property {string} [tag] What its cost is put down to.
 * @property {boolean} [evidence] false: not sampled and judged
 * @property {string} [idempotencyKey] The same request with the same key is answered, and billed, once.
 * @property {number} [graceMs]
 * @property {number} [hedgeMs]
 * @property {number} [maxOutputTokens]
 * @property {number} [temperature]
 * @property {number} [topP]
 * @property {object} [text]
 * @property {object} [reasoning]
 * @property {string[]} [include]
 * @property {string} [user]
 * @property {string} [prompt_cache_key]
 * @property {string} [service_tier]
 * @property {boolean} [parallel_tool_calls]
 * @property {object[]} [tools]
 * @property {string | object} [toolChoice]
 * @property {string} [previousResponseId]
 * @property {boolean} [store]
 */

/**
 * Return the fields of a `response.create`.
 * @param {Record<string, unknown>} fields
 */
export function requestBody(fields) {
  /** @type {Record<string, unknown>} */
  const body = {};
  /** @type {Record<string, unknown>} */
  const options = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    if (OPTIONS[name]) options[OPTIONS[name]] = value;
    else body[WIRE_NAMES[name] ?? name] = value;
  }
  if (!Object.keys(options).length) return body;
  return { ...body, millrace: { .../** @type {object} */ (body.millrace ?? {}), ...options } };
}
