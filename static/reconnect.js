// @ts-check
/** A connection that comes back: while it is down it is opened again, ever less eagerly. */

/** @typedef {import("./millrace.js").Client} Client */
/** @typedef {{state: "connecting" | "connected"} | {state: "waiting", ms: number}} LinkState */

const FIRST_MS = 500;
const LONGEST_MS = 15_000;

export class Link {
  /** @type {Client | null} */
  client = null;

  #open;
  #tell;
  #pause;

  /**
   * @param {() => Promise<Client>} open
   * @param {(state: LinkState) => void} tell
   * @param {(ms: number) => Promise<void>} [pause]
   */
  constructor(open, tell, pause = sleep) {
    this.#open = open;
    this.#tell = tell;
    this.#pause = pause;
  }

  /** Keep connected for as long as the page lives. */
  async keep() {
    for (let failures = 0; ; failures++) {
      if (await this.#connection()) failures = 0;
      const ms = backoff(failures);
      this.#tell({ state: "waiting", ms });
      await this.#pause(ms);
    }
  }

  /** Connect, and return once that is over: whether there was a connection. */
  async #connection() {
    this.#tell({ state: "connecting" });
    try {
      this.client = await this.#open();
    } catch {
      return false; // why, a browser does not say
    }
    this.#tell({ state: "connected" });
    await this.client.closed;
    this.client = null;
    return true;
  }
}

/**
 * Return how long to wait after so many failures in a row. Chance spreads the pages that lost one server together.
 * @param {number} failures
 * @param {number} [chance] From 0 to 1.
 */
export function backoff(failures, chance = Math.random()) {
  const full = Math.min(LONGEST_MS, FIRST_MS * 2 ** failures);
  return full * (0.5 + chance / 2);
}

/**
 * @param {number} ms
 * @returns {Promise<void>}
 */
function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
