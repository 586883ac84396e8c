// @ts-check
/** The live feed: one WebSocket that opens again whenever it closes. */

import { fetchTicket } from "../handshake.js";
import { backoff } from "../reconnect.js";
import { watched } from "./filters.js";

/** @typedef {import("./contract.js").Figures} Figures */
/** @typedef {import("./contract.js").Hello} Hello */
/** @typedef {import("./contract.js").Tick} Tick */
/** @typedef {import("./filters.js").Filters} Filters */

/**
 * @typedef {{state: "connecting" | "connected" | "paused"} | {state: "waiting", ms: number}} FeedState
 *
 * @typedef {object} Listener
 * @property {(state: FeedState) => void} onState
 * @property {(hello: Hello) => void} onHello
 * @property {(figures: Figures) => void} onFigures
 * @property {(tick: Tick) => void} onTick
 * @property {(error: {code: string, message: string}) => void} onError The server did not take the filters.
 * @property {(error: {code: string, message: string}) => void} onRefused There is no feed for this key or this page.
 */

const SUBPROTOCOL = "millrace.dashboard.v1";
const SILENT_MS = 15_000; // the server says something each second
const REFUSALS = ["unauthorized", "forbidden"]; // waiting does not help

export class Feed {
  #filters;
  #listener;
  #key;
  /** @type {WebSocket | null} */
  #socket = null;
  #failures = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #isWanted = false;
  #heard = 0; // when the server last said something, in milliseconds of the page

  /**
   * @param {Filters} filters
   * @param {() => string | null} key
   * @param {Listener} listener
   */
  constructor(filters, key, listener) {
    this.#filters = filters;
    this.#key = key;
    this.#listener = listener;
    setInterval(() => this.#leaveSilent(), SILENT_MS / 3);
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Connect, and stay connected. */
  start() {
    if (this.#isWanted) return;
    this.#isWanted = true;
    void this.#connect();
  }

  /** Close, until it is started again. */
  pause() {
    this.#isWanted = false;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
    this.#socket = null;
    this.#listener.onState({ state: "paused" });
  }

  /**
   * Show other requests. The figures of these come as soon as they are read.
   * @param {Filters} filters
   */
  watch(filters) {
    this.#filters = filters;
    if (this.isOpen) this.#socket?.send(JSON.stringify({ type: "dashboard.watch", ...watched(filters) }));
  }

  async #connect() {
    this.#listener.onState({ state: "connecting" });
    const asked = this.#filters;
    const url = new URL("../v1/dashboard/live", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    for (const [name, value] of Object.entries(watched(asked))) if (value) url.searchParams.set(name, value);
    const protocols = [SUBPROTOCOL];
    try {
      const key = this.#key();
      if (key) protocols.push(`millrace.ticket.${await fetchTicket(key, responsesUrl(url), fetch)}`);
    } catch (error) {
      const { code, message } = /** @type {{code: string, message: string}} */ (error);
      if (!REFUSALS.includes(code)) return this.#retry();
      this.#isWanted = false;
      return this.#listener.onRefused({ code, message });
    }
    if (!this.#isWanted || this.#socket) return; // paused meanwhile, or started again after that
    const socket = new WebSocket(url, protocols);
    this.#socket = socket;
    this.#heard = performance.now();
    socket.addEventListener("open", () => {
      if (asked !== this.#filters) this.watch(this.#filters);
    });
    socket.addEventListener("message", ({ data }) => {
      this.#heard = performance.now();
      if (socket === this.#socket) this.#receive(JSON.parse(data));
    });
    socket.addEventListener("close", () => {
      if (socket === this.#socket) this.#retry();
    });
  }

  /** Give up a connection that says nothing: neither a network that is gone nor a computer that slept closes it. */
  #leaveSilent() {
    const socket = this.#socket;
    if (!socket || performance.now() - this.#heard < SILENT_MS) return;
    this.#retry();
    socket.close();
  }

  #retry() {
    this.#socket = null;
    if (!this.#isWanted) return;
    const ms = backoff(this.#failures++);
    this.#listener.onState({ state: "waiting", ms });
    this.#timer = setTimeout(() => void this.#connect(), ms);
  }

  /** @param {{type: string} & Record<string, any>} frame */
  #receive(frame) {
    switch (frame.type) {
      case "dashboard.hello":
        this.#failures = 0;
        this.#listener.onState({ state: "connected" });
        return this.#listener.onHello(/** @type {Hello} */ (/** @type {unknown} */ (frame)));
      case "dashboard.figures":
        return this.#listener.onFigures(frame.figures);
      case "dashboard.tick":
        return this.#listener.onTick(/** @type {Tick} */ (/** @type {unknown} */ (frame)));
      case "error":
        return this.#listener.onError(frame.error);
      default: // a newer server may send others
    }
  }
}

/**
 * Return the URL of the WebSocket of responses, beside which tickets are given.
 * @param {URL} url
 */
function responsesUrl(url) {
  const other = new URL(url);
  other.pathname = other.pathname.replace(/dashboard\/live$/, "responses");
  other.search = "";
  return other.href;
}
