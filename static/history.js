// @ts-check
/** The requests of this page, newest first, and what they come to. */

import { count, duration, money, percent } from "./figures.js";
import { totals } from "./totals.js";
import { element, piece } from "./view.js";

/** @typedef {import("./totals.js").Settled} Settled */

const SHOWN = 100; // rows; the totals go over all

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
    const about = settled.estimated ? "≈ " : "";
    const figures = {
      Tokens: about + count(settled.inputTokens + settled.outputTokens),
      "First word": duration(settled.firstMs),
      Total: duration(settled.totalMs),
      Cost: about + money(settled.cost),
      Saved: money(settled.saved),
    };
    for (const [name, text] of Object.entries(figures)) row.append(cell(name, text, "number"));
    return row;
  }

  #total() {
    const { requests, cache, small, large, cost, saved, p50, p95 } = totals(this.#settled);
    const answered = cache + small + large;
    const shown = {
      requests: count(requests),
      cache: answered ? `${count(cache)} (${percent(cache, answered)})` : "0",
      split: `${count(small)} / ${count(large)}`,
      cost: money(cost),
      saved: money(saved),
      times: `${duration(p50)} / ${duration(p95)}`,
    };
    for (const [name, text] of Object.entries(shown)) {
      const place = element("totals").querySelector(`[data-total="${name}"]`);
      if (place) place.textContent = text;
    }
  }
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
function badge({ status, stage, code }) {
  const completed = status === "completed";
  const made = piece("span", completed ? (stage ?? "") : status, "badge");
  made.dataset.stage = completed ? (stage ?? "") : status;
  if (!completed && code) made.title = code;
  return made;
}
