// @ts-check
/** One answer as the client sees it: its events, its text with every revise applied, and its terminal. */

import { errorOf, MillraceError } from "./errors.js";

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
  /** @type {Response | null} Set by the first event, complete after the terminal. */
  response = null;
  ended = false;
  /** @type {{text: string, reason: string, from: string, to: string}[]} The text that was taken back, and why. */
  takenBack = [];
  /** @type {ToolCall[]} The function calls of the model. */
  toolCalls = [];
  /** @type {Promise<Response>} Rejects without a response: the request was refused, or the connection was lost. */
  done;
  /** @type {string | null} Of the response; set by the first event. */
  id = null;
  /** @type {string | null} Set when the request is sent. */
  lane = null;
  /** The last `sequence_number` seen. */
  seen = -1;
  /** @type {string | null} Of the server process that runs it. */
  epoch = null;
  /** `cancel` was called. */
  isCancelled = false;

  /** @type {Record<Delta["type"], string>} */
  #texts = emptyTexts();
  /** @type {Delta[]} Those not taken back. */
  #deltas = [];
  /** @type {AnswerEvent[]} Events not read yet. */
  #unread = [];
  /** @type {MillraceError | null} */
  #error = null;
  #wake = () => {};
  #cancel;
  /** @type {(response: Response) => void} */
  #resolve = () => {};
  /** @type {(error: MillraceError) => void} */
  #reject = () => {};

  /**
   * Made by `Client.stream` and `Client.resume`.
   * @param {string} eventId
   * @param {string | null} askedLane
   * @param {Record<string, any> | null} body Of the request; null for a resumed response.
   * @param {(answer: Answer) => void} cancel
   */
  constructor(eventId, askedLane, body, cancel) {
    this.eventId = eventId;
    this.askedLane = askedLane;
    this.body = body;
    this.#cancel = cancel;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.done.catch(() => {}); // a caller that only reads the events gets the error there
  }

  /** The text so far, without what was taken back. */
  get text() {
    return this.#texts["response.output_text.delta"];
  }

  /** The model's reasoning so far, if its provider shows it. */
  get reasoning() {
    return this.#texts["response.reasoning_text.delta"] + this.#texts["response.reasoning_summary_text.delta"];
  }

  /** The text so far that the provider marked as a refusal. */
  get refusal() {
    return this.#texts["response.refusal.delta"];
  }

  /** Whether the server keeps running it after a disconnect. */
  get isDetached() {
    return this.body === null || this.#option("on_disconnect") === "detach";
  }

  /** Whether sending it again is safe: a repeat with an `idempotencyKey` is billed once. */
  get isRepeatable() {
    return this.#option("idempotency_key") !== undefined;
  }

  /** Ask the server to stop. The terminal event still arrives, with the cost. */
  cancel() {
    if (!this.ended) this.#cancel(this);
  }

  /**
   * Wait for the whole answer. Rejects if there is none: it was refused, has failed, or the connection was lost.
   * @returns {Promise<Reply>}
   */
  async reply() {
    const response = await this.done;
    if (response.error) throw errorOf(response.error);
    const { metadata, usage } = response;
    const parts = response.output.flatMap(({ content }) => content ?? []);
    return {
      id: response.id,
      text: parts.map(({ type, text }) => (type === "output_text" ? text : "")).join(""),
      refusal: parts.map(({ refusal }) => refusal ?? "").join(""),
      reasoning: this.reasoning,
      toolCalls: response.output.map(toolCallOf).filter((call) => call !== null),
      status: /** @type {Reply["status"]} */ (response.status),
      model: response.model,
      route: metadata["millrace.route"] ?? null,
      cache: metadata["millrace.cache"] ?? null,
      check: metadata["millrace.check"] ?? null,
      reason: response.incomplete_details?.reason ?? null,
      inputTokens: usage?.input_tokens ?? 0,
      outputTokens: usage?.output_tokens ?? 0,
      costUsd: usage?.cost_usd ?? 0,
      savedUsd: usage?.saved_usd ?? 0,
      response,
    };
  }

  /** Yield the events; they can be read once. Leaving the loop early cancels the request. */
  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        for (let event; (event = this.#unread.shift()); ) yield event;
        if (this.#error) throw this.#error;
        if (this.ended) return;
        await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
      }
    } finally {
      this.cancel();
    }
  }

  /**
   * Queue the next event; called by the connection.
   * @param {AnswerEvent} event
   */
  take(event) {
    this.seen = event.sequence_number;
    switch (event.type) {
      case "response.created":
      case "response.in_progress":
        this.response = event.response;
        this.id = event.response.id;
        break;
      case "response.output_text.delta":
      case "response.refusal.delta":
      case "response.reasoning_text.delta":
      case "response.reasoning_summary_text.delta":
        this.#deltas.push(event);
        this.#texts[event.type] += event.delta;
        break;
      case "response.output_item.done":
        this.toolCalls.push(...[toolCallOf(event.item)].filter((call) => call !== null));
        break;
      case "millrace.revise":
        this.#revise(event);
        break;
      case "response.completed":
      case "response.failed":
      case "response.incomplete":
        this.response = event.response;
        this.ended = true;
        this.#resolve(event.response);
    }
    this.#unread.push(event);
    this.#wake();
  }

  /**
   * End without a terminal event; called by the client.
   * @param {MillraceError} error
   */
  fail(error) {
    if (this.ended) return;
    this.ended = true;
    this.#error = error;
    this.#reject(error);
    this.#wake();
  }

  /** Forget the previous response, before the same request is sent again; called by the client. */
  beginAgain() {
    this.id = this.epoch = null;
    this.seen = -1;
    this.#deltas = [];
    this.#texts = emptyTexts();
    this.toolCalls = [];
    this.takenBack = [];
  }

  /** @param {Revise} event */
  #revise({ item_id, keep_through, reason, from_model, to_model }) {
    /** @param {Delta} delta */
    const isTakenBack = (delta) => delta.item_id === item_id && delta.sequence_number > keep_through;
    const text = this.#deltas.filter(isTakenBack).map(({ delta }) => delta).join("");
    this.takenBack.push({ text, reason, from: from_model, to: to_model });
    this.#deltas = this.#deltas.filter((delta) => !isTakenBack(delta));
    this.#texts = emptyTexts();
    for (const { type, delta } of this.#deltas) this.#texts[type] += delta;
  }

  /** @param {string} name */
  #option(name) {
    return this.body?.millrace?.[name] ?? this.body?.metadata?.[`millrace.${name}`];
  }
}

/**
 * Return the call that an item is, or null.
 * @param {Item} item
 * @returns {ToolCall | null}
 */
function toolCallOf({ type, id, call_id = "", name = "", namespace = "", arguments: json = "", input = "" }) {
  const isCustom = type === "custom_tool_call";
  if (type !== "function_call" && !isCustom) return null;
  return { itemId: id, callId: call_id, name, arguments: isCustom ? input : json, namespace, isCustom };
}

/** @returns {Record<Delta["type"], string>} */
function emptyTexts() {
  return {
    "response.output_text.delta": "",
    "response.refusal.delta": "",
    "response.reasoning_text.delta": "",
    "response.reasoning_summary_text.delta": "",
  };
}
