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
 * It needs nothing but a WebSocket, and no build step. Where a connection drains it opens another; where one breaks, the
 * answers asked for with `onDisconnect: "detach"` go on where they were.
 */

import { Answer, lost, MillraceError } from "./answer.js";
import { Connection, SUBPROTOCOL } from "./connection.js";

export { Answer, MillraceError } from "./answer.js";

/** @typedef {import("./answer.js").AnswerEvent} AnswerEvent */
/** @typedef {import("./answer.js").Attempt} Attempt */
/** @typedef {import("./answer.js").Fault} Fault */
/** @typedef {import("./answer.js").Hello} Hello */
/** @typedef {import("./answer.js").Response} Response */
/** @typedef {import("./answer.js").Revise} Revise */
/** @typedef {import("./answer.js").Route} Route */
/** @typedef {import("./answer.js").ToolCall} ToolCall */
/** @typedef {import("./answer.js").Usage} Usage */
/** @typedef {import("./answer.js").UsageSoFar} UsageSoFar */
/** @typedef {import("./connection.js").Closed} Closed */

/** Fields of a request named as JavaScript names things; every other one goes out under its own name. */
const WIRE_NAMES = /** @type {Record<string, string>} */ ({
  maxOutputTokens: "max_output_tokens",
  topP: "top_p",
  previousResponseId: "previous_response_id",
  toolChoice: "tool_choice",
});

/** Options of Millrace, which go out in its own object. */
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
  idempotencyKey: "idempotency_key",
  graceMs: "grace_ms",
  hedgeMs: "hedge_ms",
});

const COME_BACK = new Set([1001, 1006, 1011, 1012, 1013]); // close codes after which another connection is worth a try
const PASSING = new Set(["connection_failed", "server_draining", "overloaded", "rate_limit_exceeded"]);
const TRIES = 5;
const FIRST_MS = 500;
const LONGEST_MS = 8000;

/**
 * @typedef {string | object[]} Input A question, or the items of a conversation.
 * @typedef {string | (() => Promise<string>)} Ticket One, or what fetches one for each connection.
 * @typedef {"connected" | "draining" | "broken" | "lost"} State
 *
 * @typedef {object} ConnectOptions
 * @property {string} [url] `ws:` or `wss:`; without it the server this page came from.
 * @property {Ticket} [ticket] From your backend, which has traded a key for it.
 * @property {string | null} [key] A key, to be traded for tickets here. Never write one into a page.
 * @property {boolean} [negotiate] A client that does not gets the standard events only, never a word that is later
 *   taken back, and cannot resume.
 * @property {(state: State) => void} [onState] Hears how the connection is.
 * @property {typeof globalThis.WebSocket} [WebSocket]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {(ms: number) => Promise<void>} [pause]
 *
 * @typedef {object} StreamOptions
 * @property {string} [lane] Requests of one lane run one after the other. Without one they run side by side.
 * @property {string} [model]
 * @property {string} [instructions]
 * @property {Record<string, string>} [metadata]
 * @property {Record<string, unknown>} [millrace] Options under their wire's names.
 * @property {string} [strategy]
 * @property {string} [delivery]
 * @property {string} [cache]
 * @property {string} [cacheScope]
 * @property {(string | {text: string})[]} [context]
 * @property {string} [contextVersion]
 * @property {number} [contextBudget]
 * @property {(string | object)[]} [checks]
 * @property {number | string} [maxCostUsd]
 * @property {number} [deadlineMs]
 * @property {"cancel" | "detach"} [onDisconnect]
 * @property {boolean} [concise]
 * @property {string} [idempotencyKey]
 * @property {number} [graceMs]
 * @property {number} [hedgeMs]
 * @property {number} [maxOutputTokens]
 * @property {number} [temperature]
 * @property {number} [topP]
 * @property {object} [text]
 * @property {object[]} [tools]
 * @property {string | object} [toolChoice]
 * @property {string} [previousResponseId]
 * @property {boolean} [store]
 */

/** A client of a server: one connection at a time, and those that drain. */
export class Client {
  /** @type {Hello | null} What the server said first on the last connection, if negotiated. */
  hello = null;
  /** @type {Promise<Closed>} Once there is no connection, and none is to come. */
  closed;

  #options;
  #count = 0;
  /** @type {Connection | null} Where requests go; none while another is opened. */
  #connection = null;
  /** @type {Set<Connection>} They drain. */
  #retired = new Set();
  /** @type {Answer[]} To be sent. */
  #waiting = [];
  /** @type {Answer[]} To be resumed. */
  #orphans = [];
  /** @type {MillraceError | null} */
  #whyLost = null;
  /** @type {(closed: Closed) => void} */
  #resolveClosed = () => {};

  /**
   * Made by `connect`.
   * @param {ConnectOptions} options
   */
  constructor(options) {
    this.#options = options;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
  }

  /**
   * Ask, and return the answer that is about to come.
   * @param {Input} input
   * @param {StreamOptions} [options]
   * @returns {Answer}
   */
  stream(input, { lane, ...fields } = {}) {
    const body = { event_id: `ev_${++this.#count}`, input, ...onTheWire(fields) };
    const answer = new Answer(body.event_id, lane ?? null, body, (answer) => this.#cancel(answer));
    if (this.#whyLost) answer.fail(this.#whyLost);
    else this.#send(answer);
    return answer;
  }

  /**
   * Return the events of a response after the one numbered `after`; of all of them by default.
   * @param {string} responseId
   * @param {{after?: number, epoch?: string}} [options] `epoch` is that of the hello when it was asked for.
   * @returns {Answer}
   */
  resume(responseId, { after = -1, epoch } = {}) {
    const answer = new Answer(`ev_${++this.#count}`, null, null, (answer) => this.#cancel(answer));
    answer.id = responseId;
    answer.seen = after;
    answer.epoch = epoch ?? this.hello?.epoch ?? null;
    if (this.#whyLost) answer.fail(this.#whyLost);
    else if (answer.epoch === null) answer.fail(expired());
    else if (this.#connection) this.#connection.resume(answer);
    else this.#orphans.push(answer);
    return answer;
  }

  /** @returns {Promise<number>} How long the server takes to answer, in milliseconds. */
  async ping() {
    if (!this.#connection) throw this.#whyLost ?? lost("there is no connection right now");
    return this.#connection.ping();
  }

  /** Close the connection; answers that have not ended are lost. */
  close() {
    this.#lose(lost(), { code: 1000, reason: "" });
    for (const connection of [...this.#retired, this.#connection]) connection?.close();
    return this.closed;
  }

  /** Open a connection; called by `connect`. */
  async open() {
    const { url = ownAddress(), key, negotiate = true } = this.#options;
    const { WebSocket = globalThis.WebSocket, fetch = globalThis.fetch, ticket: given } = this.#options;
    const ticket = key ? await traded(key, url, fetch) : typeof given === "function" ? await given() : given;
    const protocols = [...(negotiate ? [SUBPROTOCOL] : []), ...(ticket ? [`millrace.ticket.${ticket}`] : [])];
    const socket = new WebSocket(url, protocols);
    const connection = new Connection(socket, this.#owner());
    const isOpen = await new Promise((resolve) => {
      socket.addEventListener("open", () => resolve(true));
      socket.addEventListener("close", () => resolve(false));
    });
    if (!isOpen) throw await whyRefused(url, fetch);
    if (this.#whyLost) return connection.close(); // meanwhile it was closed
    this.#takeUp(connection);
  }

  /** @returns {import("./connection.js").Owner} */
  #owner() {
    return {
      greeted: (connection) => {
        if (connection === this.#connection) this.#adoptAll();
      },
      freed: () => this.#sendWaiting(),
      draining: (connection, ms) => {
        if (connection !== this.#connection) return;
        this.#retired.add(connection);
        this.#tell("draining");
        void this.#reopen(ms);
      },
      unheard: (connection, answer, error) => {
        if (this.#whyLost) answer.fail(error);
        else if (error.code !== "server_draining") this.#askAgain(answer, error);
        else if (this.#retired.has(connection)) this.#sendAgain(answer); // it never ran
        else answer.fail(error);
      },
      over: (connection, answers, closed) => this.#over(connection, answers, closed),
    };
  }

  /**
   * Go on elsewhere with what can go on.
   * @param {Connection} connection
   * @param {Answer[]} answers
   * @param {Closed} closed
   */
  #over(connection, answers, closed) {
    this.#retired.delete(connection);
    const worthIt = COME_BACK.has(closed.code) && !this.#whyLost && connection.hello !== null;
    const kept = answers.filter((answer) => worthIt && answer.isDetached);
    for (const answer of answers) if (!kept.includes(answer)) answer.fail(lost());
    if (connection === this.#connection) {
      this.#connection = null;
      if (kept.length) {
        this.#tell("broken");
        void this.#reopen(backoff(0));
      } else this.#lose(lost(), closed);
    }
    for (const answer of kept) this.#adopt(answer);
  }

  /** @param {number} ms */
  async #reopen(ms) {
    const { pause = sleep } = this.#options;
    this.#connection = null;
    for (let failures = 1; !this.#whyLost; failures++) {
      await pause(ms);
      if (this.#whyLost) return;
      try {
        return await this.open();
      } catch (error) {
        const isPassing = error instanceof MillraceError && PASSING.has(error.code);
        const said = error instanceof Error ? error.message : String(error);
        if (failures === TRIES || !isPassing)
          this.#lose(lost(`the connection ended, and no other could be opened: ${said}`), { code: 1006, reason: "" });
        ms = backoff(failures);
      }
    }
  }

  /** @param {Connection} connection Go on with a new one. */
  #takeUp(connection) {
    this.#connection = connection;
    this.#tell("connected");
    if (connection.hello || !connection.isNegotiated) this.#adoptAll(); // else its hello is awaited
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const answer of waiting) this.#send(answer);
  }

  #adoptAll() {
    this.hello = this.#connection?.hello ?? null;
    const orphans = this.#orphans;
    this.#orphans = [];
    for (const answer of orphans) this.#adopt(answer);
  }

  /** @param {Answer} answer Go on with one that a connection has left: now, or when there is one again. */
  #adopt(answer) {
    const connection = this.#connection;
    if (answer.ended) return;
    if (!connection || (connection.isNegotiated && !connection.hello)) this.#orphans.push(answer);
    else if (answer.id === null) this.#askAgain(answer, lost("without an idempotency key it is not asked again"));
    else if (answer.epoch !== connection.hello?.epoch) this.#askAgain(answer, expired());
    else {
      connection.resume(answer);
      if (answer.isCancelled) connection.cancel(answer);
    }
  }

  /**
   * Ask a request again that may have run; without an idempotency key it might be billed twice.
   * @param {Answer} answer
   * @param {MillraceError} error
   */
  #askAgain(answer, error) {
    if (answer.isRepeatable) this.#sendAgain(answer);
    else answer.fail(error);
  }

  /** @param {Answer} answer */
  #sendAgain(answer) {
    answer.beginAgain();
    this.#send(answer);
  }

  /** @param {Answer} answer Send it now, or when there is a connection and a lane for it. */
  #send(answer) {
    if (answer.askedLane !== null && this.#connection) {
      this.#connection.ask(answer);
    } else {
      this.#waiting.push(answer);
      this.#sendWaiting();
    }
  }

  #sendWaiting() {
    while (this.#waiting.length && this.#connection && !this.#connection.isFull) {
      this.#connection.ask(this.#waiting.splice(0, 1)[0]);
    }
  }

  /** @param {Answer} answer */
  #cancel(answer) {
    const carrier = [...this.#retired, this.#connection].find((connection) => connection?.carries(answer));
    if (carrier) carrier.cancel(answer);
    else if (answer.id !== null) answer.isCancelled = true; // to be resumed, so that its end can be told
    else {
      this.#waiting = this.#waiting.filter((waiting) => waiting !== answer);
      answer.take({ type: "response.incomplete", sequence_number: 0, response: withdrawn() });
    }
  }

  /**
   * End all that has not ended.
   * @param {MillraceError} error
   * @param {Closed} closed
   */
  #lose(error, closed) {
    if (this.#whyLost) return;
    this.#whyLost = error;
    for (const answer of [...this.#waiting, ...this.#orphans]) answer.fail(error);
    this.#waiting = [];
    this.#orphans = [];
    this.#tell("lost");
    this.#resolveClosed(closed);
  }

  /** @param {State} state */
  #tell(state) {
    this.#options.onState?.(state);
  }
}

/**
 * Connect to a Millrace server; without an address, to the one this page came from.
 * @param {ConnectOptions} [options]
 * @returns {Promise<Client>}
 */
export async function connect(options = {}) {
  const client = new Client(options);
  await client.open();
  return client;
}

function ownAddress() {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/responses`;
}

/**
 * Trade a key for a ticket for this page.
 * @param {string} key
 * @param {string} url
 * @param {typeof globalThis.fetch} fetch
 */
async function traded(key, url, fetch) {
  const options = { method: "POST", headers: { Authorization: `Bearer ${key}` } };
  const answer = await fetch(beside(url, "tickets"), options).catch(() => null);
  if (!answer) throw failed(url);
  if (!answer.ok) throw await refusal(answer);
  const { ticket } = await answer.json();
  return /** @type {string} */ (ticket);
}

/**
 * Find out what a browser does not say: why there is no connection.
 * @param {string} url
 * @param {typeof globalThis.fetch} fetch
 */
async function whyRefused(url, fetch) {
  const answer = await fetch(beside(url, "models")).catch(() => null);
  return answer && !answer.ok ? refusal(answer) : failed(url);
}

/** @param {globalThis.Response} answer */
async function refusal(answer) {
  const { error } = await answer.json().catch(() => ({}));
  return new MillraceError(error?.code ?? "connection_failed", error?.message ?? `HTTP ${answer.status}`);
}

/** @param {string} url */
function failed(url) {
  return new MillraceError("connection_failed", `no connection to ${url}`);
}

/**
 * The HTTP address of another endpoint of the same server.
 * @param {string} url
 * @param {string} name
 */
function beside(url, name) {
  const found = new URL(url);
  return `${found.protocol === "wss:" ? "https" : "http"}://${found.host}${found.pathname.replace(/responses\/?$/, name)}`;
}

function expired() {
  return new MillraceError("resume_expired", "the server that answered is gone");
}

/** @returns {Response} */
function withdrawn() {
  const nothing = { output: [], usage: null, error: null, metadata: {} };
  return { id: "", status: "cancelled", model: "", ...nothing, incomplete_details: { reason: "cancelled" } };
}

/** @param {Record<string, unknown>} fields */
function onTheWire(fields) {
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

/**
 * How long to wait; chance spreads the pages that lost one server together.
 * @param {number} failures
 */
function backoff(failures) {
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** failures) * (0.5 + Math.random() / 2);
}

/**
 * @param {number} ms
 * @returns {Promise<void>}
 */
function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
