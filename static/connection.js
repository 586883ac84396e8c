// @ts-check
/** One WebSocket, many lanes. Events find their answer by lane, refusals by the `event_id` of what was refused. */

import { errorOf, lost } from "./answer.js";

/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {import("./answer.js").AnswerEvent} AnswerEvent */
/** @typedef {import("./answer.js").Draining} Draining */
/** @typedef {import("./answer.js").Hello} Hello */
/** @typedef {import("./answer.js").MillraceError} MillraceError */
/** @typedef {import("./answer.js").Pong} Pong */
/** @typedef {import("./answer.js").Refusal} Refusal */
/** @typedef {import("./answer.js").Resumed} Resumed */

/**
 * @typedef {{code: number, reason: string}} Closed
 *
 * @typedef {object} Owner Who has the connection, and hears what becomes of it.
 * @property {(connection: Connection) => void} greeted The server has said its hello.
 * @property {() => void} freed A lane has come free.
 * @property {(connection: Connection, ms: number) => void} draining It takes no new requests; another may be opened in
 *   so many milliseconds.
 * @property {(connection: Connection, answer: Answer, error: MillraceError) => void} unheard A request was not taken
 *   because the server drains, or a response cannot be resumed.
 * @property {(connection: Connection, answers: Answer[], closed: Closed) => void} over It has ended, and left these.
 */

export const SUBPROTOCOL = "millrace.v1";
const OPEN = 1; // WebSocket.OPEN; an injected class need not have the constants
const DEAD = 1006; // as a browser says of a connection that broke

/** Requests that name no lane run side by side in these; more of them wait here rather than be refused there. */
const OWN_LANES = new Set(Array.from({ length: 16 }, (_, index) => `js-${index + 1}`));

/** Events of an answer that this version knows. A newer server may send others, which must pass unnoticed. */
const KNOWN = new Set([
  "response.created",
  "response.in_progress",
  "response.output_item.added",
  "response.content_part.added",
  "response.output_text.delta",
  "response.output_text.done",
  "response.reasoning_text.delta",
  "response.reasoning_text.done",
  "response.refusal.delta",
  "response.refusal.done",
  "response.function_call_arguments.delta",
  "response.function_call_arguments.done",
  "response.content_part.done",
  "response.output_item.done",
  "response.completed",
  "response.failed",
  "response.incomplete",
  "millrace.route",
  "millrace.revise",
  "millrace.usage",
]);

export class Connection {
  /** @type {Hello | null} What the server said first, if it was negotiated. */
  hello = null;

  #socket;
  #owner;
  /** @type {Map<string, Answer[]>} The answers of each lane, the running one first; "" is the default lane. */
  #lanes = new Map();
  /** Lanes for requests that named none. */
  #free = [...OWN_LANES];
  /** @type {Answer[]} Until the server says which lane they are in. */
  #resuming = [];
  /** @type {Set<Answer>} To be cancelled as soon as they start. */
  #doomed = new Set();
  /** @type {Map<unknown, {resolve: (ms: number) => void, reject: (error: MillraceError) => void, sent: number}>} */
  #pings = new Map();
  #count = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #heart;
  #heard = true; // since the last beat
  #isOver = false;

  /**
   * @param {WebSocket} socket Before it opens: the server speaks first.
   * @param {Owner} owner
   */
  constructor(socket, owner) {
    this.#socket = socket;
    this.#owner = owner;
    socket.addEventListener("message", ({ data }) => this.#receive(JSON.parse(data)));
    socket.addEventListener("close", ({ code, reason }) => this.#end({ code, reason }));
  }

  get isFull() {
    return this.#free.length === 0;
  }

  /** Whether the server has agreed to say more than the standard events. */
  get isNegotiated() {
    return this.#socket.protocol === SUBPROTOCOL;
  }

  get isOpen() {
    return this.#socket.readyState === OPEN;
  }

  /** @param {Answer} answer Whether it has been sent here and has not ended. */
  carries(answer) {
    return this.#resuming.includes(answer) || this.#inLane(answer.lane).includes(answer);
  }

  close() {
    this.#socket.close(1000);
  }

  /** @param {Answer} answer Send its request. */
  ask(answer) {
    const lane = answer.askedLane ?? this.#free.splice(0, 1)[0];
    answer.lane = lane;
    this.#lanes.set(lane, [...this.#inLane(lane), answer]);
    this.#send({ type: "response.create", stream_id: lane, ...answer.body });
  }

  /** @param {Answer} answer Ask for its rest; it has an id. */
  resume(answer) {
    this.#resuming.push(answer);
    const { id, seen, epoch, eventId } = answer;
    this.#send({ type: "millrace.resume", response_id: id, after: seen, epoch, event_id: eventId });
  }

  /** @param {Answer} answer Ask the server to stop it. */
  cancel(answer) {
    if (answer.id) this.#send({ type: "response.cancel", response_id: answer.id });
    else if (this.#inLane(answer.lane).length === 1) this.#send({ type: "response.cancel", stream_id: answer.lane });
    else this.#doomed.add(answer); // naming the lane would take its neighbours along
  }

  /** @returns {Promise<number>} How long the server takes to answer, in milliseconds. */
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
    this.#heard = true;
    switch (event.type) {
      case "millrace.hello":
        this.hello = event;
        this.#beat(event.heartbeat_s * 1000);
        return this.#owner.greeted(this);
      case "millrace.draining":
        return this.#owner.draining(this, event.reconnect_after_ms);
      case "millrace.pong":
        return this.#answerPing(event.t);
      case "millrace.resumed":
        return this.#place(event);
      case "error":
        return this.#refuse(event);
      default:
        if (KNOWN.has(event.type)) this.#deliver(event);
    }
  }

  /**
   * Keep the way open and see that the server is still there: a browser's script cannot send WebSocket pings.
   * @param {number} ms
   */
  #beat(ms) {
    clearInterval(this.#heart);
    this.#heart = setInterval(() => {
      if (!this.#heard) return this.#giveUp(); // not even an answer to the last beat
      this.#heard = false;
      this.ping().catch(() => {});
    }, ms);
    /** @type {any} */ (this.#heart).unref?.(); // under Node it is no reason to stay
  }

  /** A close of our own would wait for the peer that is gone. */
  #giveUp() {
    this.#end({ code: DEAD, reason: "" });
    this.#socket.close();
  }

  /** @param {unknown} t */
  #answerPing(t) {
    const ping = this.#pings.get(t);
    this.#pings.delete(t);
    ping?.resolve(performance.now() - ping.sent);
  }

  /** @param {Resumed} event From here on the lane is of what is resumed; what was sent to it since then comes after. */
  #place({ response_id, stream_id = "" }) {
    const answer = this.#resuming.find(({ id }) => id === response_id);
    if (!answer) return;
    this.#resuming = this.#resuming.filter((other) => other !== answer);
    answer.lane = stream_id;
    this.#lanes.set(stream_id, [answer, ...this.#inLane(stream_id)]);
    this.#free = this.#free.filter((lane) => lane !== stream_id);
  }

  /** @param {AnswerEvent} event */
  #deliver(event) {
    const [answer] = this.#inLane(event.stream_id);
    if (!answer) return;
    answer.take(event);
    answer.epoch ??= this.hello?.epoch ?? null;
    if (answer.ended) this.#forget(answer);
    else if (answer.id && this.#doomed.delete(answer)) this.cancel(answer);
  }

  /** @param {Refusal} refusal */
  #refuse({ error, event_id }) {
    const answer = this.#sent().find((answer) => answer.eventId === event_id);
    if (!answer) return;
    const isResumed = this.#resuming.includes(answer);
    this.#forget(answer);
    if (isResumed || error.code === "server_draining") this.#owner.unheard(this, answer, errorOf(error));
    else answer.fail(errorOf(error));
  }

  /** @param {Closed} closed */
  #end(closed) {
    if (this.#isOver) return;
    this.#isOver = true;
    clearInterval(this.#heart);
    for (const { reject } of this.#pings.values()) reject(lost());
    this.#pings.clear();
    const left = this.#sent();
    this.#lanes.clear();
    this.#resuming = [];
    this.#owner.over(this, left, closed);
  }

  /** @param {string | null | undefined} lane */
  #inLane(lane) {
    return this.#lanes.get(lane ?? "") ?? [];
  }

  #sent() {
    return [...[...this.#lanes.values()].flat(), ...this.#resuming];
  }

  /** @param {Answer} answer */
  #forget(answer) {
    this.#doomed.delete(answer);
    if (this.#resuming.includes(answer)) {
      this.#resuming = this.#resuming.filter((other) => other !== answer);
      return;
    }
    const lane = answer.lane ?? "";
    const rest = this.#inLane(lane).filter((other) => other !== answer);
    if (rest.length) this.#lanes.set(lane, rest);
    else this.#lanes.delete(lane);
    if (OWN_LANES.has(lane) && !rest.length) this.#free.push(lane);
    this.#owner.freed();
  }
}
