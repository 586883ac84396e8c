// @ts-check
/** Keeps the page connected: connects again with exponential backoff. */

/** @typedef {import("./millrace.js").Client} Client */
/** @typedef {{state: "connecting" | "connected"} | {state: "waiting", ms: number}} ReconnectState */

const FIRST_MS = 500;
const LONGEST_MS = 15_000;

export class Reconnector {
  /** @type {Client | null} */
  client = null;

  #open;
  #onState;
  #pause;

  /**
   * @param {() => Promise<Client>} open
   * @param {(state: ReconnectState) => void} onState
   * @param {(ms: number) => Promise<void>} [pause]
   */
  constructor(open, onState, pause = sleep) {
    this.#open = open;
    this.#onState = onState;
    this.#pause = pause;
  }

  /** Connect, and connect again after every close. Never returns. */
  async run() {
    for (let failures = 0; ; failures++) {
      if (await this.#connectOnce()) failures = 0;
      const ms = backoff(failures);
      this.#onState({ state: "waiting", ms });
      await this.#pause(ms);
    }
  }

  /** Connect, and wait until the connection is closed. Return false if connecting failed. */
  async #connectOnce() {
    this.#onState({ state: "connecting" });
    try {
      this.client = await this.#open();
    } catch {
      return false; // a browser does not say why
    }
    this.#onState({ state: "connected" });
    await this.client.closed;
    this.client = null;
    return true;
  }
}

/**
 * Return the delay in milliseconds after some failures in a row; jitter spreads the pages of one lost server.
 * @param {number} failures
 * @param {number} [random] From 0 to 1.
 */
export function backoff(failures, random = Math.random()) {
  const delay = Math.min(LONGEST_MS, FIRST_MS * 2 ** failures);
  return delay * (0.5 + random / 2);
}

/**
 * @param {number} ms
 * @returns {Promise<void>}
 */
function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
