/** @typedef {import("./errors.js").Fault} Fault */
/**
 * @typedef {{input_tokens: number, output_tokens: number, total_tokens: number,
 *   cost_usd: number, saved_usd: number, attempts: Attempt[], estimated: boolean}} Usage
 * @typedef {{type: string, id: string, status: string, content?: {type: string, text?: string, refusal?: string}[],
 *   call_id?: string, name?: string, namespace?: string, arguments?: string, input?: string}} Item
 * @typedef {{itemId: string, callId: string, name: string, arguments: string, namespace: string, isCustom: boolean}}
 *   ToolCall `arguments` is the JSON text of the model, of a custom tool any text; reply with a `function_call_output`,
 *   or with a `custom_tool_call_output`.
 * @typedef {"in_progress" | "completed" | "incomplete" | "cancelled" | "failed"} Status
 * @typedef {{id: string, status: Status, model: string, metadata: Record<string, string>, output: Item[],
 *   usage: Usage | null, error: Fault | null, incomplete_details: {reason: string} | null}} Response
 * @typedef {{model: string, tokens: number, cost_usd: number, outcome: string, estimated: boolean,
 *   deployment?: string}} Attempt
 *
 * @typedef {{sequence_number: number, stream_id?: string}} Numbered
 * @typedef {Numbered & {type: "response.created" | "response.in_progress", response: Response}} Began
 * @typedef {Numbered & {type: "response.output_item.added" | "response.output_item.done", item: Item}} ItemEvent
 * @typedef {Numbered & {type: "response.content_part.added" | "response.content_part.done", item_id: string}} PartEvent
 * @typedef {Numbered & {type: "response.reasoning_summary_part.added" | "response.reasoning_summary_part.done",
 *   item_id: string}} SummaryPartEvent
 * @typedef {Numbered & {type: "response.output_text.delta" | "response.refusal.delta" | "response.reasoning_text.delta"
 *   | "response.reasoning_summary_text.delta", item_id: string, delta: string}} Delta
 * @typedef {Numbered & {type: "response.output_text.done" | "response.reasoning_text.done"
 *   | "response.reasoning_summary_text.done", item_id: string, text: string}} TextDone
 * @typedef {Numbered & {type: "response.refusal.done", item_id: string, refusal: string}} RefusalDone
 * @typedef {Numbered & {type: "response.function_call_arguments.delta", item_id: string, delta: string}} ArgumentsDelta
 * @typedef {Numbered & {type: "response.function_call_arguments.done", item_id: string, name: string,
 *   arguments: string}} ArgumentsDone
 * @typedef {Numbered & {type: "response.custom_tool_call_input.delta", item_id: string, delta: string}} InputDelta
 * @typedef {Numbered & {type: "response.custom_tool_call_input.done", item_id: string, input: string}} InputDone
 * @typedef {Numbered & {type: "response.completed" | "response.failed" | "response.incomplete",
 *   response: Response}} Ended
 * @typedef {Numbered & {type: "millrace.route", response_id: string, strategy: string, model: string,
 *   tier: "small" | "large" | null, reason: string, cache: string, score: number | null,
 *   trimmed_tokens?: number, max_output_tokens?: number, similarity?: number, entry_id?: string, age_s?: number,
 *   unchecked?: string[], failed?: {model: string, code: string, message: string}[], session?: string,
 *   budget?: Budget}} Route
 * @typedef {{step: "warn" | "small" | "cache", account: string, period: string, left_usd: number, limit_usd: number,
 *   resets_at: number}} Budget
 * @typedef {Numbered & {type: "millrace.notice", response_id: string, code: string, message: string,
 *   budget: Budget}} Notice
 * @typedef {Numbered & {type: "millrace.revise", response_id: string, item_id: string, keep_through: number,
 *   from_model: string, to_model: string, reason: string}} Revise
 * @typedef {Numbered & {type: "millrace.usage", response_id: string, tokens: number, cost_usd: number,
 *   saved_usd: number, attempts: Attempt[]}} UsageSoFar
 * @typedef {Began | ItemEvent | PartEvent | SummaryPartEvent | Delta | TextDone | RefusalDone | ArgumentsDelta | ArgumentsDone | InputDelta
 *   | InputDone | Ended | Notice | Route | Revise | UsageSoFar} AnswerEvent
 *
 * @typedef {{type: "error", status: number, error: Fault, stream_id?: string, event_id?: string}} Refusal
 * @typedef {{type: "millrace.resumed", response_id: string, from: number, through: number, stream_id?: string}} Resumed
 * @typedef {{type: "millrace.draining", deadline_ms: number, reconnect_after_ms: number}} Draining
 * @typedef {{type: "millrace.pong", t: unknown}} Pong
 * @typedef {{type: "millrace.hello", connection_id: string, epoch: string, version: string, heartbeat_s: number,
 *   limits: Record<string, number>}} Hello
 */
/**
 * @typedef {object} Reply A whole answer and its bill. Money is in dollars.
 * @property {string} id For `previousResponseId`.
 * @property {string} text
 * @property {string} refusal Text that the provider marked as a refusal.
 * @property {string} reasoning
 * @property {ToolCall[]} toolCalls
 * @property {"completed" | "incomplete" | "cancelled"} status
 * @property {string} model
 * @property {string | null} route "small", "large" or "cache".
 * @property {string | null} cache "miss", "exact", "semantic" or "joined".
 * @property {string | null} check "passed", or the check that the small model's answer failed.
 * @property {string | null} reason Why it is incomplete.
 * @property {number} inputTokens
 * @property {number} outputTokens
 * @property {number} costUsd
 * @property {number} savedUsd
 * @property {Response} response As the server sent it.
 */
/** One answer. Iterate over it to read its events. */
export class Answer {
    /**
     * Made by `Client.stream` and `Client.resume`.
     * @param {string} eventId
     * @param {string | null} askedLane
     * @param {Record<string, any> | null} body Of the request; null for a resumed response.
     * @param {(answer: Answer) => void} cancel
     */
    constructor(eventId: string, askedLane: string | null, body: Record<string, any> | null, cancel: (answer: Answer) => void);
    /** @type {Response | null} Set by the first event, complete after the terminal. */
    response: Response | null;
    ended: boolean;
    /** @type {{text: string, reason: string, from: string, to: string}[]} The text that was taken back, and why. */
    takenBack: {
        text: string;
        reason: string;
        from: string;
        to: string;
    }[];
    /** @type {ToolCall[]} The function calls of the model. */
    toolCalls: ToolCall[];
    /** @type {Promise<Response>} Rejects without a response: the request was refused, or the connection was lost. */
    done: Promise<Response>;
    /** @type {string | null} Of the response; set by the first event. */
    id: string | null;
    /** @type {string | null} Set when the request is sent. */
    lane: string | null;
    /** The last `sequence_number` seen. */
    seen: number;
    /** @type {string | null} Of the server process that runs it. */
    epoch: string | null;
    /** `cancel` was called. */
    isCancelled: boolean;
    eventId: string;
    askedLane: string | null;
    body: Record<string, any> | null;
    /** The text so far, without what was taken back. */
    get text(): string;
    /** The model's reasoning so far, if its provider shows it. */
    get reasoning(): string;
    /** The text so far that the provider marked as a refusal. */
    get refusal(): string;
    /** Whether the server keeps running it after a disconnect. */
    get isDetached(): boolean;
    /** Whether sending it again is safe: a repeat with an `idempotencyKey` is billed once. */
    get isRepeatable(): boolean;
    /** Ask the server to stop. The terminal event still arrives, with the cost. */
    cancel(): void;
    /**
     * Wait for the whole answer. Rejects if there is none: it was refused, has failed, or the connection was lost.
     * @returns {Promise<Reply>}
     */
    reply(): Promise<Reply>;
    /**
     * Queue the next event; called by the connection.
     * @param {AnswerEvent} event
     */
    take(event: AnswerEvent): void;
    /**
     * End without a terminal event; called by the client.
     * @param {MillraceError} error
     */
    fail(error: MillraceError): void;
    /** Forget the previous response, before the same request is sent again; called by the client. */
    beginAgain(): void;
    /** Yield the events; they can be read once. Leaving the loop early cancels the request. */
    [Symbol.asyncIterator](): AsyncGenerator<AnswerEvent, void, unknown>;
    #private;
}
export type Fault = import("./errors.js").Fault;
export type Usage = {
    input_tokens: number;
    output_tokens: number;
    total_tokens: number;
    cost_usd: number;
    saved_usd: number;
    attempts: Attempt[];
    estimated: boolean;
};
export type Item = {
    type: string;
    id: string;
    status: string;
    content?: {
        type: string;
        text?: string;
        refusal?: string;
    }[];
    call_id?: string;
    name?: string;
    namespace?: string;
    arguments?: string;
    input?: string;
};
/**
 * `arguments` is the JSON text of the model, of a custom tool any text; reply with a `function_call_output`,
 * or with a `custom_tool_call_output`.
 */
export type ToolCall = {
    itemId: string;
    callId: string;
    name: string;
    arguments: string;
    namespace: string;
    isCustom: boolean;
};
export type Status = "in_progress" | "completed" | "incomplete" | "cancelled" | "failed";
export type Response = {
    id: string;
    status: Status;
    model: string;
    metadata: Record<string, string>;
    output: Item[];
    usage: Usage | null;
    error: Fault | null;
    incomplete_details: {
        reason: string;
    } | null;
};
export type Attempt = {
    model: string;
    tokens: number;
    cost_usd: number;
    outcome: string;
    estimated: boolean;
    deployment?: string;
};
export type Numbered = {
    sequence_number: number;
    stream_id?: string;
};
export type Began = Numbered & {
    type: "response.created" | "response.in_progress";
    response: Response;
};
export type ItemEvent = Numbered & {
    type: "response.output_item.added" | "response.output_item.done";
    item: Item;
};
export type PartEvent = Numbered & {
    type: "response.content_part.added" | "response.content_part.done";
    item_id: string;
};
export type SummaryPartEvent = Numbered & {
    type: "response.reasoning_summary_part.added" | "response.reasoning_summary_part.done";
    item_id: string;
};
export type Delta = Numbered & {
    type: "response.output_text.delta" | "response.refusal.delta" | "response.reasoning_text.delta" | "response.reasoning_summary_text.delta";
    item_id: string;
    delta: string;
};
export type TextDone = Numbered & {
    type: "response.output_text.done" | "response.reasoning_text.done" | "response.reasoning_summary_text.done";
    item_id: string;
    text: string;
};
export type RefusalDone = Numbered & {
    type: "response.refusal.done";
    item_id: string;
    refusal: string;
};
export type ArgumentsDelta = Numbered & {
    type: "response.function_call_arguments.delta";
    item_id: string;
    delta: string;
};
export type ArgumentsDone = Numbered & {
    type: "response.function_call_arguments.done";
    item_id: string;
    name: string;
    arguments: string;
};
export type InputDelta = Numbered & {
    type: "response.custom_tool_call_input.delta";
    item_id: string;
    delta: string;
};
export type InputDone = Numbered & {
    type: "response.custom_tool_call_input.done";
    item_id: string;
    input: string;
};
export type Ended = Numbered & {
    type: "response.completed" | "response.failed" | "response.incomplete";
    response: Response;
};
export type Route = Numbered & {
    type: "millrace.route";
    response_id: string;
    strategy: string;
    model: string;
    tier: "small" | "large" | null;
    reason: string;
    cache: string;
    score: number | null;
    trimmed_tokens?: number;
    max_output_tokens?: number;
    similarity?: number;
    entry_id?: string;
    age_s?: number;
    unchecked?: string[];
    failed?: {
        model: string;
        code: string;
        message: string;
    }[];
    session?: string;
    budget?: Budget;
};
export type Budget = {
    step: "warn" | "small" | "cache";
    account: string;
    period: string;
    left_usd: number;
    limit_usd: number;
    resets_at: number;
};
export type Notice = Numbered & {
    type: "millrace.notice";
    response_id: string;
    code: string;
    message: string;
    budget: Budget;
};
export type Revise = Numbered & {
    type: "millrace.revise";
    response_id: string;
    item_id: string;
    keep_through: number;
    from_model: string;
    to_model: string;
    reason: string;
};
export type UsageSoFar = Numbered & {
    type: "millrace.usage";
    response_id: string;
    tokens: number;
    cost_usd: number;
    saved_usd: number;
    attempts: Attempt[];
};
export type AnswerEvent = Began | ItemEvent | PartEvent | SummaryPartEvent | Delta | TextDone | RefusalDone | ArgumentsDelta | ArgumentsDone | InputDelta | InputDone | Ended | Notice | Route | Revise | UsageSoFar;
export type Refusal = {
    type: "error";
    status: number;
    error: Fault;
    stream_id?: string;
    event_id?: string;
};
export type Resumed = {
    type: "millrace.resumed";
    response_id: string;
    from: number;
    through: number;
    stream_id?: string;
};
export type Draining = {
    type: "millrace.draining";
    deadline_ms: number;
    reconnect_after_ms: number;
};
export type Pong = {
    type: "millrace.pong";
    t: unknown;
};
export type Hello = {
    type: "millrace.hello";
    connection_id: string;
    epoch: string;
    version: string;
    heartbeat_s: number;
    limits: Record<string, number>;
};
/**
 * A whole answer and its bill. Money is in dollars.
 */
export type Reply = {
    /**
     * For `previousResponseId`.
     */
    id: string;
    text: string;
    /**
     * Text that the provider marked as a refusal.
     */
    refusal: string;
    reasoning: string;
    toolCalls: ToolCall[];
    status: "completed" | "incomplete" | "cancelled";
    model: string;
    /**
     * "small", "large" or "cache".
     */
    route: string | null;
    /**
     * "miss", "exact", "semantic" or "joined".
     */
    cache: string | null;
    /**
     * "passed", or the check that the small model's answer failed.
     */
    check: string | null;
    /**
     * Why it is incomplete.
     */
    reason: string | null;
    inputTokens: number;
    outputTokens: number;
    costUsd: number;
    savedUsd: number;
    /**
     * As the server sent it.
     */
    response: Response;
};
import { MillraceError } from "./errors.js";
