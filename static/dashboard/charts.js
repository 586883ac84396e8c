// @ts-check
/** The charts: what each one draws, and which request a click on it tells of. */

import { duration, money } from "../format.js";
import { TimeChart } from "./time-chart.js";
import { percentage, quantity, rate, shortDuration, shortMoney } from "./units.js";

/** @typedef {import("./contract.js").Figures} Figures */
/** @typedef {import("./contract.js").Series} Series */
/** @typedef {import("./series.js").Values} Values */
/** @typedef {import("./time-chart.js").Line} Line */

/**
 * @typedef {object} Definition
 * @property {string} id
 * @property {string} title
 * @property {string} hint
 * @property {Line[]} lines
 * @property {boolean} [stacked]
 * @property {(value: number) => string} format
 * @property {string} [between] The colour of what is between the first two lines.
 * @property {(value: number) => string} [axis]
 * @property {number} [width]
 * @property {(series: Series, seconds: number[]) => Values[]} values Of each line. `seconds`: of each step that have
 *   passed; 0 of one that has only just begun.
 * @property {"slowest_id" | "dearest_id" | "failed_id"} tells The request of a step that a click opens.
 */

const BEGUN = 0.1; // of a step that has passed, before it has a rate

const PERCENTILES = [
  { name: "p50", tone: "p50" },
  { name: "p95", tone: "p95", dash: [6, 3] },
  { name: "p99", tone: "p99", dash: [2, 2] },
];

/** @type {Definition[]} */
export const DEFINITIONS = [
  {
    id: "chart-requests",
    title: "Requests per second",
    hint: "By who answered",
    stacked: true,
    lines: [
      { name: "cache", tone: "exact" },
      { name: "small", tone: "small" },
      { name: "large", tone: "large" },
      { name: "no answer", tone: "none" },
    ],
    format: rate,
    axis: quantity,
    values: ({ requests, in_cache, by_small, by_large }, seconds) => {
      const none = requests.map((all, index) => Math.max(0, all - in_cache[index] - by_small[index] - by_large[index]));
      return [in_cache, by_small, by_large, none].map((line) => over(line, seconds));
    },
    tells: "slowest_id",
  },
  {
    id: "chart-ttft",
    title: "First token",
    hint: "Time from the request to its first token",
    lines: PERCENTILES,
    format: duration,
    axis: shortDuration,
    values: (series) => [series.ttft_p50_ms, series.ttft_p95_ms, series.ttft_p99_ms],
    tells: "slowest_id",
  },
  {
    id: "chart-total",
    title: "Total time",
    hint: "Time from the request to the end of its answer",
    lines: PERCENTILES,
    format: duration,
    axis: shortDuration,
    values: (series) => [series.total_p50_ms, series.total_p95_ms, series.total_p99_ms],
    tells: "slowest_id",
  },
  {
    id: "chart-cost",
    title: "Cost",
    hint: "Dollars an hour, paid and on the large model alone",
    lines: [
      { name: "paid", tone: "cost" },
      { name: "would have been", tone: "baseline", dash: [6, 3] },
    ],
    between: "saving",
    format: money,
    axis: shortMoney,
    values: ({ cost_usd, would_have_cost_usd }, seconds) => {
      const hours = seconds.map((number) => number / 3600);
      return [over(cost_usd.map(Number), hours), over(would_have_cost_usd.map(Number), hours)];
    },
    tells: "dearest_id",
  },
  {
    id: "chart-per-request",
    title: "Cost per request",
    hint: "Dollars paid for one request, on average",
    lines: [{ name: "mean", tone: "cost" }],
    format: money,
    axis: shortMoney,
    width: 62,
    values: (series) => [series.cost_per_request_usd.map((dollars) => (dollars === null ? null : Number(dollars)))],
    tells: "dearest_id",
  },
  {
    id: "chart-shares",
    title: "Shares",
    hint: "Of all requests: answered by a cache, escalated, failed",
    lines: [
      { name: "cache hits", tone: "exact" },
      { name: "escalated", tone: "large", dash: [6, 3] },
      { name: "errors", tone: "none", dash: [2, 2] },
    ],
    format: percentage,
    values: ({ requests, hit_rate, escalated, errors }) => {
      /** @param {number[]} parts */
      const shares = (parts) => parts.map((part, index) => (requests[index] ? part / requests[index] : null));
      return [hit_rate, shares(escalated), shares(errors)];
    },
    tells: "failed_id",
  },
];

/**
 * What a chart shows of the figures.
 * @param {Definition} definition
 * @param {Figures} figures
 */
export function shownOf({ values }, { series, step_s: step, since, until, now }) {
  const seconds = series.at.map((at) => Math.min(step, now - at)).map((passed) => (passed < step * BEGUN ? 0 : passed));
  return { times: series.at, step, from: since, until, values: values(series, seconds) };
}

/**
 * Return what was counted in each step, for each second or hour of it.
 * @param {number[]} counted
 * @param {number[]} lengths
 * @returns {Values}
 */
function over(counted, lengths) {
  return counted.map((number, index) => (lengths[index] > 0 ? number / lengths[index] : null));
}

/**
 * The request that a step of a chart tells of: its own kind, or else the slowest.
 * @param {Definition} definition
 * @param {Figures} figures
 * @param {number} time The beginning of the step.
 */
export function toldBy({ tells }, { series }, time) {
  const index = series.at.indexOf(time);
  return series[tells][index] ?? series.slowest_id[index] ?? null;
}

export class Charts {
  /** @type {Figures | null} */
  #figures = null;
  #charts;

  /**
   * @param {HTMLElement} root
   * @param {(id: string) => void} onOpen Opens the story of a request.
   * @param {(from: number, until: number) => void} onZoom
   */
  constructor(root, onOpen, onZoom) {
    this.#charts = DEFINITIONS.map((definition) => {
      /** @param {number} time */
      const onPick = (time) => {
        const id = this.#figures && toldBy(definition, this.#figures, time);
        if (id) onOpen(id);
      };
      const chart = new TimeChart({ ...definition, onPick, onZoom });
      root.append(chart.element);
      return { definition, chart };
    });
  }

  /** @param {Figures} figures */
  show(figures) {
    this.#figures = figures;
    for (const { definition, chart } of this.#charts) chart.show(shownOf(definition, figures));
  }

  /** Draw again in other colours. */
  recolour() {
    for (const { chart } of this.#charts) chart.recolour();
  }
}
