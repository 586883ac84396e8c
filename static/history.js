// @ts-check
/** The table of the requests of this page, newest first, and their totals. */

import { count, duration, money, percent } from "./format.js";
import { sourceOf } from "./summary.js";
import { totals } from "./totals.js";
import { element, textElement } from "./view.js";

/** @typedef {import("./summary.js").Summary} Summary */
/** @typedef {import("./totals.js").Spread} Spread */
/** @typedef {import("./totals.js").Totals} Totals */

const MAX_ROWS = 100; // the totals are of all requests

/** The labels of sources that are not shown under their own name. */
const SOURCE_LABELS = /** @type {Record<string, string>} */ ({ exact: "cache", semantic: "cache, similar" });

export class History {
  /** @type {Summary[]} */
  #summaries = [];
  #rows = element("history");
  #askAgain;

  /** @param {(question: string) => void} askAgain */
  constructor(askAgain) {
    this.#askAgain = askAgain;
    this.#showTotals();
  }

  /** @param {Summary} summary */
  add(summary) {
    this.#summaries.push(summary);
    this.#rows.prepend(this.#row(summary));
    if (this.#rows.childElementCount > MAX_ROWS) this.#rows.lastElementChild?.remove();
    element("past-requests").hidden = false;
    this.#showTotals();
  }

  /** @param {Summary} summary */
  #row(summary) {
    const row = document.createElement("tr");
    const question = textElement("button", summary.question, "again");
    question.title = "Ask this again";
    question.addEventListener("click", () => this.#askAgain(summary.question));
    row.append(cell("Question", question), cell("Answered by", badge(summary)));
    /** @param {boolean} estimated */
    const approximate = (estimated) => (estimated ? "≈ " : "");
    const columns = {
      Tokens: approximate(summary.estimated) + count(tokensOf(summary)),
      "First word": duration(summary.firstMs),
      Total: duration(summary.totalMs),
      Cost: approximate(summary.costEstimated) + money(summary.cost),
      Saved: money(summary.saved),
    };
    for (const [name, text] of Object.entries(columns)) row.append(cell(name, text, "number"));
    return row;
  }

  #showTotals() {
    const texts = totalTexts(totals(this.#summaries));
    for (const [name, text] of Object.entries(texts)) {
      const value = element("totals").querySelector(`[data-total="${name}"]`);
      if (value) value.textContent = text;
    }
  }
}

/**
 * @param {Totals} totals
 * @returns {Record<string, string>}
 */
function totalTexts(totals) {
  const { requests, answered, exact, semantic, joined, small, large, escalated } = totals;
  const known = totals.costKnown ? "" : "at least ";
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
    cost: known + money(totals.cost),
    saved: money(totals.saved),
    waste: known + money(totals.waste),
  };
}

/** @param {Summary} summary */
function tokensOf({ inputTokens, outputTokens }) {
  return inputTokens === null || outputTokens === null ? null : inputTokens + outputTokens;
}

/**
 * @param {number} part
 * @param {number} total
 */
function share(part, total) {
  return part ? `${count(part)} (${percent(part, total)})` : "0";
}

/** @param {Spread} times */
function spread({ p50, p95 }) {
  return `${duration(p50)} / ${duration(p95)}`;
}

/**
 * @param {string} name Shown with the value if the table is too narrow for a header.
 * @param {string | Node} content
 * @param {string} [className]
 */
function cell(name, content, className = "") {
  const node = textElement("td", "", className);
  node.dataset.name = name;
  node.append(content);
  return node;
}

/** @param {Summary} summary */
function badge(summary) {
  const { status, code } = summary;
  const source = sourceOf(summary);
  const node = textElement("span", source ? (SOURCE_LABELS[source] ?? source) : status, "badge");
  node.dataset.stage = source ?? status;
  if (!source && code) node.title = code;
  return node;
}
