/** A WebSocket without a network: the test says what arrives, and reads what was sent. */

export class FakeSocket extends EventTarget {
  /** @type {FakeSocket} The one made last. */
  static last;
  static refusing = false;

  readyState = 0;
  /** @type {Record<string, any>[]} */
  sent = [];

  /**
   * @param {string} url
   * @param {string[]} protocols
   */
  constructor(url, protocols) {
    super();
    this.url = url;
    this.protocols = protocols;
    this.protocol = protocols[0] ?? "";
    FakeSocket.last = this;
    queueMicrotask(() => (FakeSocket.refusing ? this.drop(1006) : this.#open()));
  }

  /** @param {string} frame */
  send(frame) {
    this.sent.push(JSON.parse(frame));
  }

  close(code = 1005) {
    this.drop(code);
  }

  /** @param {object[]} events */
  receive(...events) {
    for (const event of events) this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(event) }));
  }

  /** @param {number} code */
  drop(code) {
    this.readyState = 3;
    this.dispatchEvent(Object.assign(new Event("close"), { code, reason: "" }));
  }

  #open() {
    this.readyState = 1;
    this.dispatchEvent(new Event("open"));
  }
}

/** The class as the client takes it. */
export const WebSocket = /** @type {typeof globalThis.WebSocket} */ (/** @type {unknown} */ (FakeSocket));

/** Nobody is asked over HTTP. */
export const fetch = /** @type {typeof globalThis.fetch} */ (async () => Promise.reject(new TypeError("no network")));
