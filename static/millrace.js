// @ts-check
/**
 * Millrace's client: one WebSocket, many answers at once, each read as it is written.
 *
 *     import { connect } from "./millrace.js";
 *
 *     const client = await connect();
 *     const answer = client.stream("Why is the sky blue?");
 *     for await (const event of answer) show(answer.text); // words may be taken back, so read the text, not the deltas
 *     const { status, usage } = await answer.done;
 *
 * It needs nothing but a WebSocket, and no build step.
 */

const SUBPROTOCOL = "millrace.v1";
const OPEN = 1; // WebSocket.OPEN; an injected class need not have the constants

/** Requests that name no lane run side by side in these; more of them wait here rather than be refused there. */
const OWN_LANES = new Set(Array.from({ length: 16 }, (_, index) => `js-${index + 1}`));

/** Events this version knows. A newer server may send others, which must pass unnoticed. */
const KNOWN = new Set([
  "response.created",
  "response.in_progress",
  "response.output_item.added",
  "response.content_part.added",
  "response.output_text.delta",
  "response.output_text.done",
  "response.content_part.done",
  "response.output_item.done",
  "response.completed",
  "response.failed",
  "response.incomplete",
  "millrace.route",
  "millrace.revise",
  "millrace.usage",
  "error",
]);

/** Options named as JavaScript names things; every other one goes out under its own name. */
const WIRE_NAMES = /** @type {Record<string, string>} */ ({
  maxOutputTokens: "max_output_tokens",
  topP: "top_p",
  previousResponseId: "previous_response_id",
});

/**
 * @typedef {{type: string, code: string, message: string, param: string | null, retry_after_ms?: number}} Fault
 * @typedef {{input_tokens: number, output_tokens: number, total_tokens: number,
 *   cost_usd: number, saved_usd: number, attempts: Attempt[], estimated: boolean}} Usage
 * @typedef {{id: string, status: string, content: {type: string, text: string}[]}} Item
 * @typedef {"in_progress" | "completed" | "incomplete" | "cancelled" | "failed"} Status
 * @typedef {{id: string, status: Status, model: string, metadata: Record<string, string>, output: Item[],
 *   usage: Usage | null, error: Fault | null, incomplete_details: {reason: string} | null}} Response
 * @typedef {{model: string, tokens: number, cost_usd: number, outcome: string, estimated: boolean}} Attempt
 *
 * @typedef {{sequence_number: number, stream_id?: string}} Numbered
 * @typedef {Numbered & {type: "response.created" | "response.in_progress", response: Response}} Began
 * @typedef {Numbered & {type: "response.output_item.added" | "response.output_item.done", item: Item}} ItemEvent
 * @typedef {Numbered & {type: "response.content_part.added" | "response.content_part.done", item_id: string}} PartEvent
 * @typedef {Numbered & {type: "response.output_text.delta", item_id: string, delta: string}} TextDelta
 * @typedef {Numbered & {type: "response.output_text.done", item_id: string, text: string}} TextDone
 * @typedef {Numbered & {type: "response.completed" | "response.failed" | "response.incomplete",
 *   response: Response}} Ended
 * @typedef {Numbered & {type: "millrace.route", response_id: string, strategy: string, model: string,
 *   tier: "small" | "large" | null, reason: string, cache: string, score: number | null,
 *   similarity?: number, entry_id?: string, age_s?: number}} Route
 * @typedef {Numbered & {type: "millrace.revise", response_id: string, item_id: string, keep_through: number,
 *   from_model: string, to_model: string, reason: string}} Revise
 * @typedef {Numbered & {type: "millrace.usage", response_id: string, tokens: number, cost_usd: number,
 *   saved_usd: number, attempts: Attempt[]}} UsageSoFar
 * @typedef {Began | ItemEvent | PartEvent | TextDelta | TextDone | Ended | Route | Revise | UsageSoFar} AnswerEvent
 *
 * @typedef {{type: "error", status: number, error: Fault, stream_id?: string, event_id?: string}} Refusal
 * @typedef {{type: "millrace.hello", connection_id: string, epoch: string, version: string, heartbeat_s: number,
 *   limits: Record<string, number>}} Hello
 *
 * @typedef {object} StreamOptions
 * @property {string} [lane] Requests of one lane run one after the other. Without one they run side by side.
 * @property {string} [model]
 * @property {string} [instructions]
 * @property {Record<string, string>} [metadata]
 * @property {{strategy?: string, delivery?: string, cache?: string}} [millrace]
 * @property {number} [maxOutputTokens]
 * @property {number} [temperature]
 * @property {number} [topP]
 * @property {object} [text]
 *
 * @typedef {{code: number, reason: string}} Closed
 * @typedef {string | object[]} Input A question, or the items of a conversation.
 */

/** What went wrong: `code` is one of the wire's, or `connection_failed` or `connection_lost`. */
export class MillraceError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {string | null} [param] The path of the fault in the request.
   * @param {number} [retryAfterMs]
   */
  constructor(code, message, param = null, retryAfterMs) {
    super(message);
    this.name = "MillraceError";
    this.code = code;
    this.param = param;
    this.retryAfterMs = retryAfterMs;
  }
}

/** One answer: its events as they come, its text with every revise applied, its end. */
export class Answer {
  /** @type {Response | null} Since it began; whole once it has ended. */
  response = null;
  ended = false;
  /** @type {{text: string, reason: string, from: string, to: string}[]} The words that were taken back, and why. */
  takenBack = [];
  /** @type {Promise<Response>} Rejects where there is no response: refused, or the connection was lost. */
  done;

  #text = "";
  /** @type {TextDelta[]} Those that stand. */
  #deltas = [];
  /** @type {AnswerEvent[]} Those that nobody has read yet. */
  #unread = [];
  /** @type {MillraceError | null} */
  #error = null;
  #wake = () => {};
  #cancel;
  /** @type {(response: Response) => void} */
  #resolve = () => {};
  /** @type {(error: MillraceError) => void} */
  #reject = () => {};

  /** @type {string | null} Once it has been sent. */
  lane = null;

  /**
   * Made by `Client.stream`.
   * @param {string} eventId
   * @param {(answer: Answer) => void} cancel
   */
  constructor(eventId, cancel) {
    this.eventId = eventId;
    this.#cancel = cancel;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.done.catch(() => {}); // one who reads the events only gets the error there
  }

  /** The words that stand now. */
  get text() {
    return this.#text;
  }

  /** The response's id, once it has begun. */
  get id() {
    return this.response?.id ?? null;
  }

  /** Ask the server to stop. The last event, with what it cost, still comes. */
  cancel() {
    if (!this.ended) this.#cancel(this);
  }

  /** Read the events, once. Leaving the loop early cancels. */
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
   * Take the next event; called by the client.
   * @param {AnswerEvent} event
   */
  take(event) {
    switch (event.type) {
      case "response.created":
      case "response.in_progress":
        this.response = event.response;
        break;
      case "response.output_text.delta":
        this.#deltas.push(event);
        this.#text += event.delta;
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
   * End without a response; called by the client.
   * @param {MillraceError} error
   */
  fail(error) {
    this.ended = true;
    this.#error = error;
    this.#reject(error);
    this.#wake();
  }

  /** @param {Revise} event */
  #revise({ item_id, keep_through, reason, from_model, to_model }) {
    /** @param {TextDelta} delta */
    const goes = (delta) => delta.item_id === item_id && delta.sequence_number > keep_through;
    this.takenBack.push({ text: joined(this.#deltas.filter(goes)), reason, from: from_model, to: to_model });
    this.#deltas = this.#deltas.filter((delta) => !goes(delta));
    this.#text = joined(this.#deltas);
  }
}

/** One connection. Events find their answer by lane, refusals by the `event_id` of what was refused. */
export class Client {
  /** @type {Hello | null} What the server said first, if it was negotiated. */
  hello = null;
  /** @type {Promise<Closed>} */
  closed;

  #socket;
  #count = 0;
  /** @type {Map<string, Answer[]>} The answers of each lane, the running one first. */
  #lanes = new Map();
  /** Lanes for requests that named none. */
  #free = [...OWN_LANES];
  /** @type {{answer: Answer, body: object}[]} They wait for one of those. */
  #waiting = [];
  /** @type {Set<Answer>} To be cancelled as soon as they start. */
  #doomed = new Set();

  /**
   * Made by `connect`.
   * @param {WebSocket} socket
   */
  constructor(socket) {
    this.#socket = socket;
    this.closed = new Promise((resolve) => {
      socket.addEventListener("close", ({ code, reason }) => resolve({ code, reason }));
    });
    socket.addEventListener("message", ({ data }) => this.#receive(JSON.parse(data)));
    socket.addEventListener("close", () => this.#loseAll());
  }

  /**
   * Ask, and return the answer that is about to come.
   * @param {Input} input
   * @param {StreamOptions} [options]
   * @returns {Answer}
   */
  stream(input, { lane, ...fields } = {}) {
    const answer = new Answer(`ev_${++this.#count}`, (answer) => this.#cancel(answer));
    const body = { event_id: answer.eventId, input, ...onTheWire(fields) };
    if (this.#socket.readyState !== OPEN) answer.fail(lost());
    else if (lane) this.#create(answer, lane, body);
    else this.#waiting.push({ answer, body });
    this.#sendWaiting();
    return answer;
  }

  /** Close the connection; answers that have not ended are lost. */
  close() {
    this.#socket.close(1000);
    return this.closed;
  }

  /** @param {object} frame */
  #send(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  #sendWaiting() {
    while (this.#waiting.length && this.#free.length) {
      const [{ answer, body }] = this.#waiting.splice(0, 1);
      this.#create(answer, this.#free.splice(0, 1)[0], body);
    }
  }

  /**
   * @param {Answer} answer
   * @param {string} lane
   * @param {object} body
   */
  #create(answer, lane, body) {
    answer.lane = lane;
    this.#lanes.set(lane, [...this.#inLane(lane), answer]);
    this.#send({ type: "response.create", stream_id: lane, ...body });
  }

  /** @param {string | null | undefined} lane */
  #inLane(lane) {
    return this.#lanes.get(lane ?? "") ?? [];
  }

  /** @param {Answer} answer */
  #cancel(answer) {
    if (answer.id) this.#send({ type: "response.cancel", response_id: answer.id });
    else if (!answer.lane) this.#withdraw(answer);
    else if (this.#inLane(answer.lane).length === 1) this.#send({ type: "response.cancel", stream_id: answer.lane });
    else this.#doomed.add(answer); // naming the lane would take its neighbours along
  }

  /**
   * End an answer whose request has not been sent.
   * @param {Answer} answer
   */
  #withdraw(answer) {
    this.#waiting = this.#waiting.filter((waiting) => waiting.answer !== answer);
    answer.take({ type: "response.incomplete", sequence_number: 0, response: withdrawn() });
  }

  /** @param {AnswerEvent | Refusal | Hello} event */
  #receive(event) {
    if (event.type === "millrace.hello") this.hello = event;
    if (!KNOWN.has(event.type)) return;
    if (event.type === "error") this.#refuse(event);
    else this.#deliver(/** @type {AnswerEvent} */ (event));
  }

  /** @param {AnswerEvent} event */
  #deliver(event) {
    const [answer] = this.#inLane(event.stream_id);
    if (!answer) return;
    answer.take(event);
    if (answer.ended) this.#forget(answer);
    else if (answer.id && this.#doomed.delete(answer)) this.#cancel(answer);
  }

  /** @param {Refusal} refusal */
  #refuse({ error, event_id }) {
    const answer = this.#sent().find((answer) => answer.eventId === event_id);
    if (!answer) return;
    answer.fail(new MillraceError(error.code, error.message, error.param, error.retry_after_ms));
    this.#forget(answer);
  }

  #loseAll() {
    for (const answer of [...this.#sent(), ...this.#waiting.map(({ answer }) => answer)]) answer.fail(lost());
    this.#lanes.clear();
    this.#waiting = [];
  }

  #sent() {
    return [...this.#lanes.values()].flat();
  }

  /** @param {Answer} answer */
  #forget(answer) {
    const lane = answer.lane ?? "";
    const rest = this.#inLane(lane).filter((other) => other !== answer);
    if (rest.length) this.#lanes.set(lane, rest);
    else this.#lanes.delete(lane);
    this.#doomed.delete(answer);
    if (OWN_LANES.has(lane) && !rest.length) this.#free.push(lane);
    this.#sendWaiting();
  }
}

/**
 * Connect to a Millrace server; without an address, to the one this page came from.
 * @param {string} [url]
 * @param {{negotiate?: boolean, WebSocket?: typeof globalThis.WebSocket}} [options] A client that does not negotiate
 *   gets the standard events only, and never a word that is later taken back.
 * @returns {Promise<Client>}
 */
export async function connect(url = ownAddress(), { negotiate = true, WebSocket = globalThis.WebSocket } = {}) {
  const socket = new WebSocket(url, negotiate ? [SUBPROTOCOL] : []);
  const client = new Client(socket); // before it opens: the server speaks first
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    const failed = new MillraceError("connection_failed", `no connection to ${url}`);
    client.closed.then(() => reject(failed));
  });
  return client;
}

function ownAddress() {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/responses`;
}

function lost() {
  return new MillraceError("connection_lost", "the connection ended before the answer did");
}

/** @returns {Response} */
function withdrawn() {
  const nothing = { output: [], usage: null, error: null, metadata: {} };
  return { id: "", status: "cancelled", model: "", ...nothing, incomplete_details: { reason: "cancelled" } };
}

/** @param {TextDelta[]} deltas */
function joined(deltas) {
  return deltas.map(({ delta }) => delta).join("");
}

/** @param {object} fields */
function onTheWire(fields) {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [WIRE_NAMES[name] ?? name, value]));
}
