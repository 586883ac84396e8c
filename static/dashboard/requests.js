// @ts-check
/** The requests: the latest ends first, new ones on top while it is live, older ones on demand. */

import { count } from "../format.js";
import { ServerError, get } from "./api.js";
import { byId, setText } from "./dom.js";
import { isListed, isLive, query } from "./filters.js";
import { COLUMNS, requestRow, withNew } from "./request-rows.js";
import { scrolling } from "./scroll.js";
import { Table } from "./table.js";

/** @typedef {import("./contract.js").Line} Line */
/** @typedef {import("./contract.js").Lines} Lines */
/** @typedef {import("./filters.js").Shown} Shown */

const PAGE = 50;
const MOST_LIVE = 100; // lines while it is live; then the oldest go

export class Requests {
  /** @type {Line[]} */
  #lines = [];
  #table;
  /** @type {Shown | null} */
  #shown = null;
  #hasMore = false;
  /** @type {string | null} */
  #last = null;
  #isPaged = false; // older ones are shown, so the list does not move any more
  /** @type {AbortController | null} */
  #reading = null;
  #more = /** @type {HTMLButtonElement} */ (byId("older"));

  /** @param {(id: string) => void} onOpen */
  constructor(onOpen) {
    this.#table = new Table("Requests, the latest first", COLUMNS, onOpen);
    byId("requests-table").append(this.#table.element);
    scrolling(byId("requests-table"), "Requests, the table");
    this.#more.addEventListener("click", () => void this.#read(this.#last));
  }

  /**
   * Read the latest requests that are to be shown.
   * @param {Shown} shown
   */
  async load(shown) {
    this.#shown = shown;
    this.#isPaged = false;
    await this.#read(null);
  }

  /** Read the latest ones again, unless older ones are shown. */
  async refresh() {
    if (!this.#isPaged) await this.#read(null);
  }

  /** @param {import("./contract.js").Tick} tick */
  showTick({ entries, left_out }) {
    const shown = this.#shown;
    if (!shown || this.#isPaged || this.#reading || !isLive(shown)) return;
    const lines = withNew(this.#lines, entries.filter((line) => isListed(line, shown)), MOST_LIVE);
    setText(byId("left-out"), left_out ? `${count(left_out)} more ended in this second.` : "");
    if (lines === this.#lines) return;
    if (lines.length > this.#lines.length) this.#last ??= lines[lines.length - 1].id;
    if (lines.length === MOST_LIVE) [this.#last, this.#hasMore] = [lines[MOST_LIVE - 1].id, true];
    this.#lines = lines;
    this.#show();
  }

  /**
   * Read a page of requests.
   * @param {string | null} after The id of the last one that is shown.
   */
  async #read(after) {
    const shown = this.#shown;
    if (!shown) return;
    this.#reading?.abort();
    const reading = new AbortController();
    this.#reading = reading;
    byId("requests-table").ariaBusy = "true";
    const asked = new URLSearchParams(query({ ...shown, request: "" }));
    asked.set("since", shown.since);
    asked.set("limit", String(PAGE));
    if (after) asked.set("after", after);
    try {
      const { data, has_more, last_id } = /** @type {Lines} */ (await get("requests", asked.toString(), reading.signal));
      this.#lines = after ? [...this.#lines, ...data] : data;
      this.#isPaged = after !== null;
      [this.#hasMore, this.#last] = [has_more, last_id];
      this.#show();
    } catch (error) {
      if (reading.signal.aborted) return;
      if (!(error instanceof ServerError)) throw error;
      setText(byId("requests-note"), `The requests could not be read: ${error.message}`);
      byId("requests-note").hidden = false;
    } finally {
      if (this.#reading === reading) {
        this.#reading = null;
        byId("requests-table").ariaBusy = "false";
      }
    }
  }

  #show() {
    const now = Date.now() / 1000;
    this.#table.show(this.#lines.map((line) => requestRow(line, now)));
    const note = byId("requests-note");
    note.hidden = this.#lines.length > 0;
    setText(note, this.#hasMore ? "None among the latest; there may be older ones." : "No request is like that.");
    this.#table.element.hidden = this.#lines.length === 0;
    this.#more.hidden = !this.#hasMore;
  }
}
