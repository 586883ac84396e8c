// @ts-check
/** One WebSocket with many lanes. Events reach their answer by lane, errors by the `event_id` of the request. */

import { errorOf, lostError } from "./errors.js";
import { SUBPROTOCOL } from "./handshake.js";

/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {import("./answer.js").AnswerEvent} AnswerEvent */
/** @typedef {import("./answer.js").Draining} Draining */
/** @typedef {import("./answer.js").Hello} Hello */
/** @typedef {import("./errors.js").MillraceError} MillraceError */
/** @typedef {import("./answer.js").Pong} Pong */
/** @typedef {import("./answer.js").Refusal} Refusal */
/** @typedef {import("./answer.js").Resumed} Resumed */

/**
 * @typedef {{code: number, reason: string}} Closed
 *
 * @typedef {object} Listener Receives the events of a connection that concern more than one answer.
 * @property {(connection: Connection) => void} onHello `millrace.hello` has arrived.
 * @property {() => void} onLaneFree One of the client's own lanes is free again.
 * @property {(connection: Connection, ms: number) => void} onDraining The server takes no new requests on this
 *   connection; open another one after `ms` milliseconds.
 * @property {(connection: Connection, answer: Answer, error: MillraceError) => void} onRejected A request was rejected
 *   because the server is draining, or a response cannot be resumed.
 * @property {(connection: Connection, answers: Answer[], closed: Closed) => void} onClose The connection has closed;
 *   `answers` have not ended.
 */

const OPEN = 1; // WebSocket.OPEN; an injected class need not have the constants
const ABNORMAL = 1006; // the close code of a connection that broke (RFC 6455, 7.4.1)

/** Requests that name no lane run side by side in these. More wait in the client, as the server could refuse them. */
const OWN_LANES = new Set(Array.from({ length: 16 }, (_, index) => `js-${index + 1}`));

/** The events of an answer. Others are ignored: a newer server may send them. */
const ANSWER_EVENTS = new Set([
  "response.created",
  "response.in_progress",
  "response.output_item.added",
  "response.content_part.added",
  "response.output_text.delta",
  "response.output_text.done",
  "response.reasoning_text.delta",
  "response.reasoning_text.done",
  "response.reasoning_summary_part.added",
  "response.reasoning_summary_text.delta",
  "response.reasoning_summary_text.done",
  "response.reasoning_summary_part.done",
  "response.refusal.delta",
  "response.refusal.done",
  "response.function_call_arguments.delta",
  "response.function_call_arguments.done",
  "response.custom_tool_call_input.delta",
  "response.custom_tool_call_input.done",
  "response.content_part.done",
  "response.output_item.done",
  "response.completed",
  "response.failed",
  "response.incomplete",
  "millrace.notice",
  "millrace.route",
  "millrace.revise",
  "millrace.usage",
]);

export class Connection {
  /** @type {Hello | null} Null before it has arrived, and on a connection that is not negotiated. */
  hello = null;

  #socket;
  #listener;
  /** @type {Map<string, Answer[]>} The answers of each lane, the running one first; "" is the default lane. */
  #lanes = new Map();
  /** Own lanes without a request. */
  #freeLanes = [...OWN_LANES];
  /** @type {Answer[]} Their lane is not known before `millrace.resumed`. */
  #resuming = [];
  /** @type {Set<Answer>} */
  #cancelAtStart = new Set();
  /** @type {Map<unknown, {resolve: (ms: number) => void, reject: (error: MillraceError) => void, sent: number}>} */
  #pings = new Map();
  #count = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #heartbeat;
  #hasReceived = true; // since the last heartbeat
  #isClosed = false;

  /**
   * @param {WebSocket} socket Not open yet: the server sends the first event.
   * @param {Listener} listener
   */
  constructor(socket, listener) {
    this.#socket = socket;
    this.#listener = listener;
    socket.addEventListener("message", ({ data }) => this.#receive(JSON.parse(data)));
    socket.addEventListener("close", ({ code, reason }) => this.#onClosed({ code, reason }));
  }

  get isFull() {
    return this.#freeLanes.length === 0;
  }

  /** Whether the server has accepted the subprotocol, and sends `millrace.*` events. */
  get isNegotiated() {
    return this.#socket.protocol === SUBPROTOCOL;
  }

  get isOpen() {
    return this.#socket.readyState === OPEN;
  }

  /**
   * Whether an answer was requested on this connection and has not ended.
   * @param {Answer} answer
   */
  carries(answer) {
    return this.#resuming.includes(answer) || this.#inLane(answer.lane).includes(answer);
  }

  close() {
    this.#socket.close(1000);
  }

  /**
   * Send the request of an answer.
   * @param {Answer} answer
   */
  ask(answer) {
    const lane = answer.askedLane ?? this.#freeLanes.splice(0, 1)[0];
    answer.lane = lane;
    this.#lanes.set(lane, [...this.#inLane(lane), answer]);
    this.#send({ type: "response.create", stream_id: lane, ...answer.body });
  }

  /**
   * Request the remaining events of an answer that has an id.
   * @param {Answer} answer
   */
  resume(answer) {
    this.#resuming.push(answer);
    const { id, seen, epoch, eventId } = answer;
    this.#send({ type: "millrace.resume", response_id: id, after: seen, epoch, event_id: eventId });
  }

  /**
   * Cancel an answer. One without an id can be cancelled by lane only, and that cancels every request queued in the
   * lane (PROTOCOL.md, Client to server). If it shares its lane, or may share it with one that is being resumed, it is
   * cancelled once it starts.
   * @param {Answer} answer
   */
  cancel(answer) {
    if (answer.id) this.#send({ type: "response.cancel", response_id: answer.id });
    else if (this.#inLane(answer.lane).length === 1 && !this.#resuming.length) {
      this.#send({ type: "response.cancel", stream_id: answer.lane });
    } else this.#cancelAtStart.add(answer);
  }

  /** @returns {Promise<number>} The round-trip time to the server in milliseconds. */
  ping() {
    const t = ++this.#count;
    return new Promise((resolve, reject) => {
      this.#pings.set(t, { resolve, reject, sent: performance.now() });
      this.#send({ type: "millrace.ping", t });
    });
  }

  /** @param {object} frame */
  #send(frame) {
    if (this.isOpen) this.#socket.send(JSON.stringify(frame));
  }

  /** @param {AnswerEvent | Refusal | Hello | Resumed | Draining | Pong} event */
  #receive(event) {
    this.#hasReceived = true;
    switch (event.type) {
      case "millrace.hello":
        this.hello = event;
        this.#startHeartbeat(event.heartbeat_s * 1000);
        return this.#listener.onHello(this);
      case "millrace.draining":
        return this.#listener.onDraining(this, event.reconnect_after_ms);
      case "millrace.pong":
        return this.#resolvePing(event.t);
      case "millrace.resumed":
        return this.#startResumed(event);
      case "error":
        return this.#reject(event);
      default:
        if (ANSWER_EVENTS.has(event.type)) this.#deliver(event);
    }
  }

  /**
   * Send `millrace.ping` as a heartbeat, and detect a dead server: scripts in a browser cannot send WebSocket pings.
   * @param {number} ms
   */
  #startHeartbeat(ms) {
    clearInterval(this.#heartbeat);
    this.#heartbeat = setInterval(() => {
      if (!this.#hasReceived) return this.#abort(); // no answer to the last heartbeat
      this.#hasReceived = false;
      this.ping().catch(() => {});
    }, ms);
    /** @type {any} */ (this.#heartbeat).unref?.(); // in Node it must not keep the process alive
  }

  /** Report the close first: the closing handshake would wait for a peer that does not answer. */
  #abort() {
    this.#onClosed({ code: ABNORMAL, reason: "" });
    this.#socket.close();
  }

  /** @param {unknown} t */
  #resolvePing(t) {
    const ping = this.#pings.get(t);
    this.#pings.delete(t);
    ping?.resolve(performance.now() - ping.sent);
  }

  /**
   * Put a resumed answer first in its lane. From `millrace.resumed` on, the events of the lane belong to it
   * (PROTOCOL.md, Resume). Requests sent to the lane in the meantime run after it.
   * @param {Resumed} event
   */
  #startResumed({ response_id, stream_id = "" }) {
    const answer = this.#resuming.find(({ id }) => id === response_id);
    if (!answer) return;
    this.#resuming = this.#resuming.filter((other) => other !== answer);
    answer.lane = stream_id;
    this.#lanes.set(stream_id, [answer, ...this.#inLane(stream_id)]);
    this.#freeLanes = this.#freeLanes.filter((lane) => lane !== stream_id);
  }

  /** @param {AnswerEvent} event */
  #deliver(event) {
    const [answer] = this.#inLane(event.stream_id);
    if (!answer) return;
    answer.take(event);
    answer.epoch ??= this.hello?.epoch ?? null;
    if (answer.ended) this.#forget(answer);
    else if (answer.id && this.#cancelAtStart.delete(answer)) this.cancel(answer);
  }

  /** @param {Refusal} refusal */
  #reject({ error, event_id }) {
    const answer = this.#unfinished().find((answer) => answer.eventId === event_id);
    if (!answer) return;
    const isResuming = this.#resuming.includes(answer);
    this.#forget(answer);
    if (isResuming || error.code === "server_draining") this.#listener.onRejected(this, answer, errorOf(error));
    else answer.fail(errorOf(error));
  }

  /** @param {Closed} closed */
  #onClosed(closed) {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearInterval(this.#heartbeat);
    for (const { reject } of this.#pings.values()) reject(lostError());
    this.#pings.clear();
    const unfinished = this.#unfinished();
    this.#lanes.clear();
    this.#resuming = [];
    this.#listener.onClose(this, unfinished, closed);
  }

  /** @param {string | null | undefined} lane */
  #inLane(lane) {
    return this.#lanes.get(lane ?? "") ?? [];
  }

  #unfinished() {
    return [...[...this.#lanes.values()].flat(), ...this.#resuming];
  }

  /** @param {Answer} answer */
  #forget(answer) {
    this.#cancelAtStart.delete(answer);
    if (this.#resuming.includes(answer)) {
      this.#resuming = this.#resuming.filter((other) => other !== answer);
      return;
    }
    const lane = answer.lane ?? "";
    const rest = this.#inLane(lane).filter((other) => other !== answer);
    if (rest.length) this.#lanes.set(lane, rest);
    else this.#lanes.delete(lane);
    if (OWN_LANES.has(lane) && !rest.length) this.#freeLanes.push(lane);
    this.#listener.onLaneFree();
  }
}
