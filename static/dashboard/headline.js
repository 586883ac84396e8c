// @ts-check
/** The first row: what was saved, and how well it went. */

import { count, duration, money } from "../format.js";
import { byId, setAttribute, setText } from "./dom.js";
import { wrongHits } from "./panels.js";
import { percentage, quantity, rate } from "./units.js";

/** @typedef {import("./contract.js").Figures} Figures */
/** @typedef {import("./contract.js").Promised} Promised */

const SPARK = 60; // seconds

/**
 * The texts of the row. Pure.
 * @param {Figures["total"]} sums
 * @returns {Record<string, string>} By the id of the element.
 */
export function headlineTexts(sums) {
  const { cache, split, escalations, ttft_ms: first, total_ms: total, request_cost_usd: spread } = sums;
  const saved = Number(sums.saved_usd);
  /** @param {string | null} dollars */
  const dollars = (dollars) => money(dollars === null ? null : Number(dollars));
  return {
    saved: money(Math.abs(saved)),
    "saved-word": saved < 0 ? "lost: it cost more than the large model alone" : "saved",
    "saved-share": sums.saved_share === null ? "" : percentage(Math.abs(sums.saved_share)),
    spent: dollars(sums.cost_usd),
    "would-have": dollars(sums.would_have_cost_usd),
    wasted: money(sums.waterfall.waste.reduce((sum, { cost_usd }) => sum + Number(cost_usd), 0)),
    "per-request": dollars(sums.cost_per_request_usd),
    "per-request-more": `p50 ${dollars(spread.p50)} · p95 ${dollars(spread.p95)}`,
    "per-day": `${dollars(sums.cost_per_day_usd)} a day`,
    requests: sums.requests < 1e6 ? count(sums.requests) : quantity(sums.requests),
    "requests-more": `${rate(sums.per_second)} on average`,
    ttft: duration(first.p50),
    "ttft-more": `p95 ${duration(first.p95)} · p99 ${duration(first.p99)}`,
    total: duration(total.p50),
    "total-more": `p95 ${duration(total.p95)} · p99 ${duration(total.p99)}`,
    hits: percentage(cache.hit_rate),
    "hits-more": `exact ${percentage(cache.exact_rate)} · semantic ${percentage(cache.semantic_rate)} · joined ${percentage(cache.joined_rate)}`,
    split: split.large_share === null ? "–" : percentage(1 - split.large_share),
    "split-more": split.large_share === null ? "no model has answered" : `${percentage(split.large_share)} large · ${percentage(escalations.share)} escalated`,
  };
}

export class Headline {
  /** @type {(number | null)[]} Requests per second, the latest last. */
  #rates = [];

  /** @param {Figures} figures */
  show({ total }) {
    for (const [id, text] of Object.entries(headlineTexts(total))) setText(byId(id), text);
    const baseline = Number(total.would_have_cost_usd);
    const paid = baseline > 0 ? Math.min(1, Number(total.cost_usd) / baseline) : 0;
    byId("paid-bar").style.setProperty("--width", `${(paid * 100).toFixed(2)}%`);
    byId("paid-bar").classList.toggle("none", baseline <= 0);
    byId("hero").classList.toggle("loss", Number(total.saved_usd) < 0);
    const large = total.split.large_share;
    byId("split-bar").style.setProperty("--width", `${((large === null ? 0 : 1 - large) * 100).toFixed(2)}%`);
    byId("split-bar").classList.toggle("none", large === null);
  }

  /** @param {Promised[]} promises */
  showPromises(promises) {
    const found = promises.find(({ kind }) => kind === "wrong_hits");
    setText(byId("wrong-hits"), wrongHits(promises) || "no promise is made of hits");
    setAttribute(byId("wrong-hits"), "data-tone", found?.holds === "yes" ? "good" : found?.holds === "no" ? "bad" : null);
  }

  /** @param {import("./contract.js").Tick} tick */
  showTick({ ended, minute }) {
    setText(byId("now-rate"), rate(ended.per_second));
    setText(byId("now-ttft"), `last minute: ${duration(minute.ttft_p50_ms)} · p95 ${duration(minute.ttft_p95_ms)}`);
    setText(byId("now-total"), `last minute: ${duration(minute.total_p50_ms)} · p95 ${duration(minute.total_p95_ms)}`);
    this.#rates = [...this.#rates, ended.per_second ?? 0].slice(-SPARK);
    byId("spark").setAttribute("d", sparkPath(this.#rates, SPARK));
  }

  /** @param {import("./contract.js").Now} now */
  showNow({ in_flight }) {
    setText(byId("in-flight"), count(in_flight));
  }
}

/**
 * The line of the last rates in a box of 100 × 24. Pure.
 * @param {(number | null)[]} rates
 * @param {number} length How many fill the box.
 */
export function sparkPath(rates, length) {
  const most = Math.max(...rates.map((number) => number ?? 0), 1e-9);
  return rates
    .map((number, index) => {
      const x = 100 - ((rates.length - 1 - index) * 100) / (length - 1);
      const y = 23 - ((number ?? 0) / most) * 22;
      return `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    })
    .join("");
}
