// @ts-check
/** The story of one request, in a dialog beside the page. */

import { get, ServerError } from "./api.js";
import { byId, make, setText } from "./dom.js";
import { callRows, COLUMNS, nearRows, scoreOf, stageRows, storySentence, verdictRows } from "./story-rows.js";
import { scrolling } from "./scroll.js";
import { Table } from "./table.js";
import { moment } from "./units.js";
import { COLUMNS as WATERFALL, waterfallNotes, waterfallRows } from "./waterfall.js";

/** @typedef {import("./contract.js").Story} Story */

const WRITTEN_MS = 400; // a row is written some milliseconds after the end of its request

export class StoryDialog {
  #dialog = /** @type {HTMLDialogElement} */ (byId("story"));
  #body = byId("story-body");
  #onClose;
  /** @type {AbortController | null} */
  #reading = null;

  /** @param {() => void} onClose */
  constructor(onClose) {
    this.#onClose = onClose;
    byId("story-close").addEventListener("click", () => this.close());
    this.#dialog.addEventListener("close", () => {
      this.#reading?.abort();
      this.#onClose();
    });
    this.#dialog.addEventListener("click", (event) => {
      if (event.target === this.#dialog) this.close(); // outside of it
    });
    const copy = byId("story-copy");
    copy.addEventListener("click", () => void copied(copy, `millrace explain ${this.#dialog.dataset.request}`));
  }

  close() {
    this.#dialog.close();
  }

  /**
   * Open the story of a request.
   * @param {string} id
   */
  async open(id) {
    this.#reading?.abort();
    const reading = new AbortController();
    this.#reading = reading;
    this.#dialog.dataset.request = id;
    setText(byId("story-id"), id);
    setText(byId("story-command"), `millrace explain ${id}`);
    setText(byId("story-sentence"), "Reading its story…");
    setText(byId("story-when"), "");
    this.#body.replaceChildren();
    this.#body.ariaBusy = "true";
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#dialog.scrollTop = 0;
    try {
      this.#show(await read(id, reading.signal));
    } catch (error) {
      if (reading.signal.aborted) return;
      if (!(error instanceof ServerError)) throw error;
      const isGone = error.code === "entry_not_found";
      setText(byId("story-sentence"), isGone ? "The ledger has no such request: it is too old, or another tenant's." : error.message);
    } finally {
      if (this.#reading === reading) this.#body.ariaBusy = "false";
    }
  }

  /** @param {Story} story */
  #show(story) {
    const { line, facts, waterfall, entry } = story;
    setText(byId("story-sentence"), storySentence(line));
    setText(byId("story-when"), [moment(line.opened_at), line.strategy, line.tag, line.user].filter(Boolean).join(" · "));
    const parts = [part("Through the funnel", table("Stages", COLUMNS.stages, stageRows(story), "stages"))];
    if (entry.calls.length) parts.push(part("Calls", table("Calls of models", COLUMNS.calls, callRows(story), "calls")));
    if (entry.story.near.length) {
      const why = entry.story.hit ? "" : entry.story.missed;
      parts.push(part("Near questions", why && make("p", { class: "hint" }, `Not served: ${why}.`), table("Near questions", COLUMNS.near, nearRows(story))));
    }
    const score = scoreOf(story);
    if (score) parts.push(part("Router", scale(score), make("p", null, score.text), score.reason && make("p", { class: "hint" }, score.reason)));
    const verdicts = verdictRows(story);
    if (verdicts.length) parts.push(part("Checks", table("Verdicts of checks", COLUMNS.verdicts, verdicts)));
    const notes = waterfallNotes(waterfall);
    if (Number(waterfall.baseline_usd) || Number(waterfall.cost_usd)) {
      parts.push(part("What it cost", table("From the large model's price to what was paid", WATERFALL, waterfallRows(waterfall), "waterfall"), notes && make("p", { class: "hint" }, notes)));
    }
    const list = make("dl", { class: "facts" });
    for (const { name, value } of facts) if (value) list.append(make("div", null, make("dt", null, name), make("dd", null, value)));
    parts.push(part("All that is known", list));
    const raw = make("details", null, make("summary", null, "The ledger's row as JSON"), make("pre", { tabindex: 0 }, JSON.stringify(entry, null, 2)));
    this.#body.replaceChildren(...parts, raw);
  }
}

/**
 * Read a story; one that has just ended may not be written yet.
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {Promise<Story>}
 */
async function read(id, signal) {
  const path = `requests/${encodeURIComponent(id)}`;
  try {
    return await get(path, "", signal);
  } catch (error) {
    if (!(error instanceof ServerError) || error.code !== "entry_not_found") throw error;
    await new Promise((resolve) => setTimeout(resolve, WRITTEN_MS));
    return get(path, "", signal);
  }
}

/**
 * @param {string} title
 * @param {...import("./dom.js").Child} children
 */
function part(title, ...children) {
  return make("section", null, make("h3", null, title), ...children);
}

/**
 * @param {string} caption
 * @param {import("./table.js").Column[]} columns
 * @param {import("./table.js").Row[]} rows
 * @param {string} [kind]
 */
function table(caption, columns, rows, kind) {
  const made = new Table(caption, columns);
  if (kind) made.element.classList.add(kind);
  made.show(rows);
  return scrolling(make("div", { class: "scroll" }, made.element), caption);
}

/** @param {{at: number, threshold: number | null}} score */
function scale({ at, threshold }) {
  const point = make("b");
  const drawn = make("div", { class: "scale", "aria-hidden": "true" }, make("span", null, "small model"), make("i", null, point), make("span", null, "large model"));
  point.style.setProperty("--at", `${(at * 100).toFixed(1)}%`);
  if (threshold !== null) {
    const mark = make("u");
    mark.style.setProperty("--at", `${(threshold * 100).toFixed(1)}%`);
    point.before(mark);
  }
  return drawn;
}

/**
 * Copy a text, and say so on the button for a moment.
 * @param {HTMLElement} button
 * @param {string} text
 */
async function copied(button, text) {
  const name = button.textContent ?? "";
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select it and copy it by hand";
  }
  setTimeout(() => (button.textContent = name), 1500);
}
