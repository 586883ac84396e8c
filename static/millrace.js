// @ts-check
/**
 * The client of Millrace for browsers and Node: many concurrent requests on one WebSocket, each answer streamed.
 *
 *     import { connect } from "./millrace.js";
 *
 *     const client = await connect(); // in Node: connect({ url, key })
 *     const answer = client.stream("Why is the sky blue?");
 *     for await (const event of answer) show(answer.text); // deltas may be taken back: read the text
 *     const { status, usage } = await answer.done;
 *
 * It has no dependencies and no build step. It opens another connection when one drains or breaks, also when nothing
 * runs: after 0.25 to 0.5 s, then after delays that double up to 8 s, each shortened by up to a half at random. Answers
 * requested with `onDisconnect: "detach"` are resumed. Requests with an `idempotencyKey` are sent again. Any other that
 * was running fails with `ConnectionLostError`. After five failed tries in a row whatever waits fails, and the next
 * request tries again.
 */

import { Answer } from "./answer.js";
import { Connection } from "./connection.js";
import { lostError, MillraceError } from "./errors.js";
import { addressOf, connectError, defaultUrl, openedWith } from "./handshake.js";
import { requestBody } from "./request.js";

export { Answer } from "./answer.js";
export {
  AccessError,
  BudgetError,
  ConnectionFailedError,
  ConnectionLostError,
  InvalidRequestError,
  MillraceError,
  RateLimitError,
  ServerError,
  TimedOutError,
  UpstreamError,
} from "./errors.js";

/** @typedef {import("./answer.js").AnswerEvent} AnswerEvent */
/** @typedef {import("./answer.js").Attempt} Attempt */
/** @typedef {import("./errors.js").Fault} Fault */
/** @typedef {import("./answer.js").Hello} Hello */
/** @typedef {import("./answer.js").Reply} Reply */
/** @typedef {import("./answer.js").Response} Response */
/** @typedef {import("./answer.js").Revise} Revise */
/** @typedef {import("./answer.js").Route} Route */
/** @typedef {import("./answer.js").ToolCall} ToolCall */
/** @typedef {import("./answer.js").Usage} Usage */
/** @typedef {import("./answer.js").UsageSoFar} UsageSoFar */
/** @typedef {import("./connection.js").Closed} Closed */
/** @typedef {import("./request.js").Input} Input */
/** @typedef {import("./request.js").StreamOptions} StreamOptions */

const RECONNECT_CODES = new Set([1001, 1006, 1011, 1012, 1013]); // close codes after which the client connects again
/** Refusals of a connection that waiting may help against. */
const TRANSIENT = new Set([
  "connection_failed",
  "internal_error",
  "overloaded",
  "rate_limit_exceeded",
  "server_draining",
  "too_many_in_flight",
]);
const TRIES = 5;
const FIRST_MS = 500;
const LONGEST_MS = 8000;

const NOT_RESENT = "the connection was lost; without an idempotency key the request is not sent again";
const GONE = "the server process that ran this response is gone; send the request again";

/**
 * @typedef {string | (() => Promise<string>)} Ticket A ticket, or a function that fetches one for each connection.
 * @typedef {"connected" | "draining" | "broken" | "lost"} State
 *
 * @typedef {object} ConnectOptions
 * @property {string} [url] `ws:` or `wss:`; by default the server of this page. Node needs it.
 * @property {Ticket} [ticket] Your backend creates it with its API key.
 * @property {string | null} [key] An API key. In Node it goes with the connection; in a browser the client gets tickets
 *   with it. Never put one into a page.
 * @property {boolean} [negotiate] If false, the client receives standard events only, never text that is later taken
 *   back, and cannot resume.
 * @property {(state: State) => void} [onState] Called when the state of the connection changes. In "lost" nothing is
 *   tried any more until the next request; after `closed` it is for good.
 * @property {number} [tries] How often in a row it tries to connect again; 5 by default.
 * @property {typeof globalThis.WebSocket} [WebSocket] Another class, which is opened as in a browser.
 * @property {typeof globalThis.fetch} [fetch]
 * @property {(ms: number) => Promise<void>} [pause]
 */

/** A client of a Millrace server. It has one connection for new requests, and may have others that drain. */
export class Client {
  /** @type {Hello | null} The `millrace.hello` of the last connection; null if it was not negotiated. */
  hello = null;
  /** @type {Promise<Closed>} Resolves when the connection is closed for good. */
  closed;

  #options;
  #count = 0;
  /** @type {Connection | null} Takes new requests; null while reconnecting. */
  #connection = null;
  #isConnecting = false;
  /** @type {Set<Connection>} They take no new requests. */
  #draining = new Set();
  /** @type {Answer[]} */
  #unsent = [];
  /** @type {Answer[]} To be resumed once connected. */
  #unresumed = [];
  /** @type {MillraceError | null} Why every request fails from now on. */
  #fatal = null;
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
   * Send a request and return its answer, which is still empty.
   * @param {Input} input
   * @param {StreamOptions} [options]
   * @returns {Answer}
   */
  stream(input, { lane, signal, ...fields } = {}) {
    const body = { event_id: `ev_${++this.#count}`, input, ...requestBody(fields) };
    const answer = new Answer(body.event_id, lane ?? null, body, (answer) => this.#cancel(answer));
    if (this.#fatal) answer.fail(this.#fatal);
    else if (signal?.aborted) answer.cancel(); // it is never sent
    else this.#send(answer);
    obey(signal, answer);
    return answer;
  }

  /**
   * Send a request and wait for its whole answer.
   * @param {Input} input
   * @param {StreamOptions} [options]
   * @returns {Promise<Reply>}
   */
  ask(input, options) {
    return this.stream(input, options).reply();
  }

  /**
   * Return an answer with the events of a response after number `after`; by default, with all its events.
   * @param {string} responseId
   * @param {{after?: number, epoch?: string, signal?: AbortSignal}} [options] `epoch` is that of the hello when it was
   *   sent.
   * @returns {Answer}
   */
  resume(responseId, { after = -1, epoch, signal } = {}) {
    const answer = new Answer(`ev_${++this.#count}`, null, null, (answer) => this.#cancel(answer));
    answer.id = responseId;
    answer.seen = after;
    answer.epoch = epoch ?? this.hello?.epoch ?? null;
    if (this.#fatal) answer.fail(this.#fatal);
    else if (answer.epoch === null) answer.fail(expiredError());
    else if (this.#connection) this.#connection.resume(answer);
    else {
      this.#unresumed.push(answer);
      this.#connectIfIdle();
    }
    if (signal?.aborted) answer.cancel();
    obey(signal, answer);
    return answer;
  }

  /** @returns {Promise<number>} The round-trip time to the server in milliseconds. */
  async ping() {
    if (!this.#connection) throw this.#fatal ?? lostError("there is no connection right now");
    return this.#connection.ping();
  }

  /** Close the connection. Answers that have not ended fail with `connection_lost`. */
  close() {
    this.#failAll(lostError("the client is closed"), { code: 1000, reason: "" });
    for (const connection of [...this.#draining, this.#connection]) connection?.close();
    return this.closed;
  }

  /** Open a connection; called by `connect`. */
  async open() {
    const { url: given = defaultUrl(), key, ticket, negotiate = true, WebSocket, fetch = globalThis.fetch } = this.#options;
    const url = addressOf(given);
    const way = { url, key, ticket, negotiate, WebSocket, fetch };
    const opened = await openedWith(way);
    const socket = new (WebSocket ?? globalThis.WebSocket)(url, opened);
    const connection = new Connection(socket, this.#listener());
    const isOpen = await new Promise((resolve) => {
      socket.addEventListener("open", () => resolve(true));
      socket.addEventListener("close", () => resolve(false));
      socket.addEventListener("error", () => resolve(false)); // some say no more of one that was refused
    });
    if (!isOpen) throw await connectError(way);
    if (this.#fatal) return connection.close(); // `close` was called in the meantime
    this.#use(connection);
  }

  /** @returns {import("./connection.js").Listener} */
  #listener() {
    return {
      onHello: (connection) => {
        if (connection === this.#connection) this.#resumeAll();
      },
      onLaneFree: () => this.#sendUnsent(),
      onDraining: (connection, ms) => {
        if (connection !== this.#connection) return;
        this.#draining.add(connection);
        this.#notify("draining");
        void this.#reconnect(ms);
      },
      onRejected: (connection, answer, error) => {
        if (this.#fatal) answer.fail(error);
        else if (error.code !== "server_draining") this.#retryIfSafe(answer, error);
        else if (this.#draining.has(connection)) this.#resend(answer); // it has not run
        else answer.fail(error);
      },
      onClose: (connection, answers, closed) => this.#onClose(connection, answers, closed),
    };
  }

  /**
   * Connect again; resume what can be resumed, repeat what is safe to repeat, fail the rest.
   * @param {Connection} connection
   * @param {Answer[]} answers
   * @param {Closed} closed
   */
  #onClose(connection, answers, closed) {
    this.#draining.delete(connection);
    const mayReconnect = RECONNECT_CODES.has(closed.code) && !this.#fatal;
    if (connection === this.#connection && mayReconnect) {
      this.#notify("broken");
      void this.#reconnect(backoff(0));
    } else if (connection === this.#connection) {
      this.#connection = null;
      this.#failAll(lostError(), closed);
    }
    for (const answer of answers) {
      if (!mayReconnect) answer.fail(lostError());
      else if (answer.isDetached && connection.hello) this.#resumeOrRetry(answer);
      else if (answer.isCancelled) answer.fail(lostError());
      else this.#retryIfSafe(answer, lostError(NOT_RESENT));
    }
  }

  /** Connect again for a new request, if an earlier reconnect has given up. */
  #connectIfIdle() {
    if (!this.#connection && !this.#isConnecting) void this.#reconnect(0);
  }

  /** @param {number} ms */
  async #reconnect(ms) {
    const { pause = sleep, tries = TRIES } = this.#options;
    this.#connection = null;
    this.#isConnecting = true;
    for (let failures = 1; ; failures++) {
      await pause(ms);
      if (this.#fatal) return;
      try {
        await this.open();
        this.#isConnecting = false;
        return;
      } catch (error) {
        const cause = error instanceof Error ? error.message : String(error);
        const lost = lostError(`the connection was lost, and no other could be opened: ${cause}`);
        const isFinal = error instanceof MillraceError && !TRANSIENT.has(error.code);
        if (isFinal) return this.#failAll(lost, { code: 1006, reason: "" });
        if (failures >= tries) return this.#giveUp(lost);
        ms = backoff(failures);
      }
    }
  }

  /**
   * Fail what waits; the next request tries again.
   * @param {MillraceError} error
   */
  #giveUp(error) {
    this.#isConnecting = false;
    this.#failWaiting(error);
    this.#notify("lost");
  }

  /**
   * Send and resume on a new connection.
   * @param {Connection} connection
   */
  #use(connection) {
    this.#connection = connection;
    this.#notify("connected");
    if (connection.hello || !connection.isNegotiated) this.#resumeAll(); // else in `onHello`
    const unsent = this.#unsent;
    this.#unsent = [];
    for (const answer of unsent) this.#send(answer);
  }

  #resumeAll() {
    this.hello = this.#connection?.hello ?? null;
    const answers = this.#unresumed;
    this.#unresumed = [];
    for (const answer of answers) this.#resumeOrRetry(answer);
  }

  /**
   * Continue an answer whose connection has closed: now, or once reconnected. A response can be resumed only in the
   * process that runs it (PROTOCOL.md, Resume). With no response id yet, or in another process, the request is sent
   * again, if that cannot bill it twice.
   * @param {Answer} answer
   */
  #resumeOrRetry(answer) {
    const connection = this.#connection;
    if (answer.ended) return;
    if (!connection || (connection.isNegotiated && !connection.hello)) this.#unresumed.push(answer);
    else if (answer.id === null) this.#retryIfSafe(answer, lostError(NOT_RESENT));
    else if (answer.epoch !== connection.hello?.epoch) {
      if (answer.isCancelled) answer.fail(expiredError()); // it ended with its process
      else this.#retryIfSafe(answer, expiredError());
    } else {
      connection.resume(answer);
      if (answer.isCancelled) connection.cancel(answer);
    }
  }

  /**
   * Send a request again that may have run; fail it if it has no idempotency key, as it could be billed twice.
   * @param {Answer} answer
   * @param {MillraceError} error
   */
  #retryIfSafe(answer, error) {
    if (answer.isRepeatable) this.#resend(answer);
    else answer.fail(error);
  }

  /**
   * Send a request again. One that was cancelled is cancelled again, as it may still run under its key.
   * @param {Answer} answer
   */
  #resend(answer) {
    answer.beginAgain();
    this.#send(answer);
    if (answer.isCancelled) this.#cancel(answer);
  }

  /**
   * Send a request now, or when there is a connection and a free lane.
   * @param {Answer} answer
   */
  #send(answer) {
    if (answer.askedLane !== null && this.#connection) {
      this.#connection.ask(answer);
    } else {
      this.#unsent.push(answer);
      this.#sendUnsent();
      this.#connectIfIdle();
    }
  }

  #sendUnsent() {
    while (this.#unsent.length && this.#connection && !this.#connection.isFull) {
      this.#connection.ask(this.#unsent.splice(0, 1)[0]);
    }
  }

  /** @param {Answer} answer */
  #cancel(answer) {
    answer.isCancelled = true; // one that is resumed or sent again is cancelled then, for its terminal
    const carrier = [...this.#draining, this.#connection].find((connection) => connection?.carries(answer));
    if (carrier) carrier.cancel(answer);
    else if (answer.id === null) {
      this.#unsent = this.#unsent.filter((other) => other !== answer);
      answer.take({ type: "response.incomplete", sequence_number: 0, response: cancelledResponse() });
    }
  }

  /**
   * Fail every answer that waits for a connection, and every later request.
   * @param {MillraceError} error
   * @param {Closed} closed
   */
  #failAll(error, closed) {
    if (this.#fatal) return;
    this.#fatal = error;
    this.#failWaiting(error);
    this.#notify("lost");
    this.#resolveClosed(closed);
  }

  /** @param {MillraceError} error */
  #failWaiting(error) {
    const waiting = [...this.#unsent, ...this.#unresumed];
    this.#unsent = [];
    this.#unresumed = [];
    for (const answer of waiting) answer.fail(error);
  }

  /** @param {State} state */
  #notify(state) {
    this.#options.onState?.(state);
  }
}

/**
 * Connect to a Millrace server; by default, to the server of this page.
 * @param {ConnectOptions} [options]
 * @returns {Promise<Client>}
 */
export async function connect(options = {}) {
  const client = new Client(options);
  await client.open();
  return client;
}

/**
 * Cancel an answer when its signal says so; once it has ended, the signal forgets it.
 * @param {AbortSignal | undefined} signal
 * @param {Answer} answer
 */
function obey(signal, answer) {
  const cancel = () => answer.cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  const forget = () => signal?.removeEventListener("abort", cancel);
  answer.done.then(forget, forget);
}

function expiredError() {
  return new MillraceError("resume_expired", GONE);
}

/** @returns {Response} */
function cancelledResponse() {
  const nothing = { output: [], usage: null, error: null, metadata: {} };
  return { id: "", status: "cancelled", model: "", ...nothing, incomplete_details: { reason: "cancelled" } };
}

/**
 * Return the delay in milliseconds; jitter spreads the clients of one lost server.
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
