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
export function requestBody(fields: Record<string, unknown>): Record<string, unknown>;
/**
 * A question, or the items of a conversation.
 */
export type Input = string | object[];
export type StreamOptions = {
    /**
     * Requests of one lane run one after the other; requests without one run side by side.
     */
    lane?: string | undefined;
    /**
     * Cancels the request. The terminal event still comes, with the cost.
     */
    signal?: AbortSignal | undefined;
    model?: string | undefined;
    instructions?: string | undefined;
    metadata?: Record<string, string> | undefined;
    /**
     * Options under their names on the wire.
     */
    millrace?: Record<string, unknown> | undefined;
    /**
     * Who is asked: "auto", "cascade", "small", "large", "race" or "hedge".
     */
    strategy?: string | undefined;
    /**
     * When text is shown: "speculate", "prefix", "commit" or "final".
     */
    delivery?: string | undefined;
    /**
     * "on", "off", "refresh" or "only".
     */
    cache?: string | undefined;
    cacheScope?: string | undefined;
    /**
     * The most relevant first.
     */
    context?: (string | {
        text: string;
    })[] | undefined;
    contextVersion?: string | undefined;
    /**
     * Tokens of context and history.
     */
    contextBudget?: number | undefined;
    checks?: (string | object)[] | undefined;
    /**
     * Dollars.
     */
    maxCostUsd?: string | number | undefined;
    deadlineMs?: number | undefined;
    /**
     * With "detach" it survives a lost connection, and is resumed.
     */
    onDisconnect?: "cancel" | "detach" | undefined;
    concise?: boolean | undefined;
    /**
     * What its cost is put down to.
     */
    tag?: string | undefined;
    /**
     * false: not sampled and judged
     */
    evidence?: boolean | undefined;
    /**
     * The same request with the same key is answered, and billed, once.
     */
    idempotencyKey?: string | undefined;
    graceMs?: number | undefined;
    hedgeMs?: number | undefined;
    maxOutputTokens?: number | undefined;
    temperature?: number | undefined;
    topP?: number | undefined;
    text?: object | undefined;
    reasoning?: object | undefined;
    include?: string[] | undefined;
    user?: string | undefined;
    prompt_cache_key?: string | undefined;
    service_tier?: string | undefined;
    parallel_tool_calls?: boolean | undefined;
    tools?: object[] | undefined;
    toolChoice?: string | object | undefined;
    previousResponseId?: string | undefined;
    store?: boolean | undefined;
};
