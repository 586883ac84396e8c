// @ts-check
/** The requests of this page, newest first, and what they come to. */

import { count, duration, money, percent } from "./format.js";
import { caughtBy } from "./summary.js";
import { totals } from "./totals.js";
import { element, piece } from "./view.js";

/** @typedef {import("./summary.js").Settled} Settled */
/** @typedef {import("./totals.js").Spread} Spread */
/** @typedef {import("./totals.js").Totals} Totals */

const SHOWN = 100; // rows; the totals go over all

/** What caught it, where that is not the name of who answered. */
const CAUGHT = /** @type {Record<string, string>} */ ({ exact: "cache", semantic: "cache, similar" });

export class History {
  /** @type {Settled[]} */
  #settled = [];
  #rows = element("history");
  #again;

  /** @param {(question: string) => void} again */
  constructor(again) {
    this.#again = again;
    this.#total();
  }

  /** @param {Settled} settled */
  add(settled) {
    this.#settled.push(settled);
    this.#rows.prepend(this.#row(settled));
    if (this.#rows.childElementCount > SHOWN) this.#rows.lastElementChild?.remove();
    element("past").hidden = false;
    this.#total();
  }

  /** @param {Settled} settled */
  #row(settled) {
    const row = document.createElement("tr");
    const question = piece("button", settled.question, "again");
    question.title = "Ask this again";
    question.addEventListener("click", () => this.#again(settled.question));
    row.append(cell("Question", question), cell("Answered by", badge(settled)));
    /** @param {boolean} estimated */
    const about = (estimated) => (estimated ? "≈ " : "");
    const figures = {
      Tokens: about(settled.estimated) + count(settled.inputTokens + settled.outputTokens),
      "First word": duration(settled.firstMs),
      Total: duration(settled.totalMs),
      Cost: about(settled.costEstimated) + money(settled.cost),
      Saved: money(settled.saved),
    };
    for (const [name, text] of Object.entries(figures)) row.append(cell(name, text, "number"));
    return row;
  }

  #total() {
    const shown = figures(totals(this.#settled));
    for (const [name, text] of Object.entries(shown)) {
      const place = element("totals").querySelector(`[data-total="${name}"]`);
      if (place) place.textContent = text;
    }
  }
}

/**
 * @param {Totals} totals
 * @returns {Record<string, string>}
 */
function figures(totals) {
  const { requests, answered, exact, semantic, joined, small, large, escalated } = totals;
  return {
    requests: count(requests),
    cache: share(exact + semantic + joined, answered),
    exact: share(exact, answered),
    semantic: share(semantic, answered),
    joined: share(joined, answered),
    split: `${count(small)} / ${count(large)}`,
    escalated: share(escalated, small + large),
    times: spread(totals.total),
    first: spread(totals.first),
    cost: money(totals.cost),
    saved: money(totals.saved),
    waste: money(totals.waste),
  };
}

/**
 * @param {number} part
 * @param {number} whole
 */
function share(part, whole) {
  return part ? `${count(part)} (${percent(part, whole)})` : "0";
}

/** @param {Spread} times */
function spread({ p50, p95 }) {
  return `${duration(p50)} / ${duration(p95)}`;
}

/**
 * @param {string} name Shown beside the value where the table is too narrow for a head.
 * @param {string | Node} content
 * @param {string} [className]
 */
function cell(name, content, className = "") {
  const made = piece("td", "", className);
  made.dataset.name = name;
  made.append(content);
  return made;
}

/** @param {Settled} settled */
function badge(settled) {
  const { status, code } = settled;
  const caught = caughtBy(settled);
  const made = piece("span", caught ? (CAUGHT[caught] ?? caught) : status, "badge");
  made.dataset.stage = caught ?? status;
  if (!caught && code) made.title = code;
  return made;
}
