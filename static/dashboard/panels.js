// @ts-check
/** The rows of the smaller tables, from the documents of the server. Pure. */

import { age, count, duration, money } from "../format.js";
import { escalation, SOURCES } from "./names.js";
import { counted, percentage } from "./units.js";

/** @typedef {import("./contract.js").Sums} Sums */
/** @typedef {import("./contract.js").Rate} Rate */
/** @typedef {import("./table.js").Row} Row */
/** @typedef {import("./table.js").Column} Column */

const BREAKERS = /** @type {Record<string, string>} */ ({ open: "left alone", half_open: "being probed", probing: "being probed" });
const PERIODS = /** @type {Record<string, string>} */ ({ day: "a day", month: "a month", hour: "an hour", minute: "a minute" });
const STEPS = /** @type {Record<string, string>} */ ({
  warn: "warned",
  small: "small model only",
  cache: "cache only",
});

/** @type {Column[]} */
const GROUP = [{ name: "Name" }, { name: "Requests", number: true }, { name: "Cost", number: true }, { name: "Saved", number: true }];

/** @type {Record<string, Column[]>} */
export const COLUMNS = {
  sources: [{ name: "Answered by" }, { name: "Drawn", hidden: true }, { name: "Share", number: true }, { name: "Requests", number: true }, { name: "Cost", number: true }, { name: "Total p50", number: true }],
  models: [...GROUP, { name: "Total p50", number: true }],
  groups: GROUP,
  days: [{ name: "Day (UTC)" }, { name: "Paid of what it would have cost", hidden: true }, { name: "Requests", number: true }, { name: "Paid", number: true }, { name: "Saved", number: true }],
  counts: [{ name: "Reason" }, { name: "Share", hidden: true }, { name: "Requests", number: true }],
  checks: [{ name: "Check" }, { name: "Failed", number: true }, { name: "Catches", number: true }, { name: "False alarms", number: true }],
  promises: [{ name: "Promise" }, { name: "Drawn", hidden: true }, { name: "Holds" }],
  races: [{ name: "What" }, { name: "Number", number: true }],
  budgets: [{ name: "Budget" }, { name: "Spent", hidden: true }, { name: "Left", number: true }],
  deployments: [{ name: "Model" }, { name: "State" }, { name: "Running", number: true }, { name: "First token p50", number: true }],
};

/**
 * Who answered. Of the caches' hits each kind has its own row, with times of both.
 * @param {Sums} sums
 * @returns {Row[]}
 */
export function sourceRows({ requests, cache, by_source: sources }) {
  const order = Object.keys(SOURCES);
  const ordered = [...sources].sort((one, other) => order.indexOf(one.source) - order.indexOf(other.source));
  const rows = ordered.flatMap((source) => {
    if (source.source !== "cache") return [{ ...source, key: source.source }];
    const exact = Math.min(cache.exact, source.requests);
    const kinds = { exact, semantic: source.requests - exact };
    return Object.entries(kinds).map(([key, number]) => ({ ...source, key, requests: number }));
  });
  const most = Math.max(...rows.map((row) => row.requests), 1);
  return rows
    .filter((row) => row.requests > 0)
    .map(({ key, requests: number, cost_usd, total_ms }) => ({
      key,
      cells: [
        SOURCES[key] ?? key,
        { bar: { from: 0, to: number / most, tone: key } },
        percentage(number / requests),
        count(number),
        money(Number(cost_usd)),
        duration(total_ms.p50),
      ],
    }));
}

/**
 * Requests by model, tag or tenant; each row filters by its name. Times are known of models alone.
 * @param {import("./contract.js").Group[]} groups
 * @returns {Row[]}
 */
export function groupRows(groups) {
  return groups.map(({ name, requests, errors, cost_usd, saved_usd, total_p50_ms, total_p95_ms }) => ({
    key: name,
    cells: [
      { text: groupName(name), opens: true },
      { text: count(requests), note: errors ? counted(errors, "error") : "" },
      money(Number(cost_usd)),
      money(Number(saved_usd)),
      ...(total_p50_ms === null ? [] : [{ text: duration(total_p50_ms), note: `p95 ${duration(total_p95_ms)}` }]),
    ],
  }));
}

/** @param {string} name Of a model, tag or tenant. */
export function groupName(name) {
  const names = /** @type {Record<string, string>} */ ({ "(cache)": "a cache", "(none)": "none", "(others)": "all others" });
  if (!name.trim()) return JSON.stringify(name); // a link has to be seen
  return Object.hasOwn(names, name) ? names[name] : name;
}

/**
 * @param {import("./contract.js").Day[]} days
 * @returns {Row[]} The latest first.
 */
export function dayRows(days) {
  const most = Math.max(...days.map(({ would_have_cost_usd: dollars }) => Number(dollars)), 1e-9);
  return [...days].reverse().map(({ day, requests, cost_usd, would_have_cost_usd, saved_usd }) => ({
    key: day,
    cells: [
      day,
      { bar: { from: 0, to: Number(cost_usd) / most, tone: "cost", mark: Number(would_have_cost_usd) / most } },
      count(requests),
      money(Number(cost_usd)),
      money(Number(saved_usd)),
    ],
  }));
}

/**
 * @param {Sums["escalations"]} escalations
 * @returns {Row[]}
 */
export function escalationRows({ count: all, reasons }) {
  return countRows(reasons.map(({ reason, requests }) => ({ key: reason, name: escalation(reason), requests })), all, "large");
}

/**
 * Errors, and why answers are incomplete.
 * @param {Sums} sums
 * @returns {Row[]}
 */
export function errorRows({ errors, incomplete, status }) {
  const failed = errors.map(({ code, requests }) => ({ key: code, name: code, requests }));
  const cut = incomplete.map(({ code, requests }) => ({ key: `incomplete ${code}`, name: code, note: "incomplete", requests }));
  const others = [
    { key: "cancelled", name: "cancelled by the client", requests: status.cancelled ?? 0 },
    { key: "killed", name: "the server was killed", requests: status.killed ?? 0 },
  ].filter(({ requests }) => requests > 0);
  const rows = [...failed, ...cut, ...others];
  return countRows(rows, rows.reduce((sum, { requests }) => sum + requests, 0), "none");
}

/**
 * @param {{key: string, name: string, note?: string, requests: number}[]} counts
 * @param {number} all
 * @param {string} tone
 * @returns {Row[]}
 */
function countRows(counts, all, tone) {
  return counts.map(({ key, name, note, requests }) => ({
    key,
    cells: [{ text: name, note }, { bar: { from: 0, to: requests / (all || 1), tone } }, { text: count(requests), note: percentage(requests / (all || 1)) }],
  }));
}

/**
 * Checks: how often they fired in this time, and how good they are as far as was judged.
 * @param {Sums["checks"]} failed
 * @param {import("./contract.js").Check[]} known
 * @returns {Row[]}
 */
export function checkRows(failed, known) {
  const fired = new Map(failed.map(({ check, failed: number }) => [check, number]));
  const names = new Set([...fired.keys(), ...known.map(({ check }) => check)]);
  const rows = [...names].map((name) => ({ name, number: fired.get(name) ?? 0, known: known.find(({ check }) => check === name) }));
  rows.sort((one, other) => other.number - one.number || one.name.localeCompare(other.name));
  return rows
    .filter((row) => row.number || row.known?.catch.judged || row.known?.false_alarms.judged)
    .map(({ name, number, known: check }) => ({
      key: name,
      cells: [
        { text: name.replaceAll("_", " "), note: check?.off.length ? "switched off: it does not tell" : "" },
        count(number),
        bounded(check?.catch),
        bounded(check?.false_alarms),
      ],
    }));
}

/**
 * A rate with its bounds of 95 %.
 * @param {Rate | undefined} rate
 */
function bounded(rate) {
  if (!rate || rate.estimate === null) return { text: "–", note: rate?.judged ? `${rate.judged} judged` : "" };
  const bounds = rate.lower === null || rate.upper === null ? "" : `${percentage(rate.lower)} – ${percentage(rate.upper)}`;
  return { text: percentage(rate.estimate), note: bounds };
}

/**
 * Promises: the bar spans the bounds, the line is what is promised.
 * @param {import("./contract.js").Promised[]} promises
 * @returns {Row[]}
 */
export function promiseRows(promises) {
  const titles = /** @type {Record<string, string>} */ ({
    wrong_hits: "Wrong cache hits",
    quality: "Quality kept",
    large_share: "Share of the large model",
    spend: "Spent today",
  });
  const badges = { yes: "kept", no: "broken", unknown: "not known yet" };
  return promises.map(({ kind, name, promised, is_upper, estimate, lower, upper, holds, because }) => {
    const limit = Number(promised);
    const isKnown = estimate !== null || (upper ?? null) !== null;
    const ends = [lower ?? (is_upper ? 0 : estimate), upper ?? estimate].map((end) => (end === null || end === undefined ? null : Number(end)));
    const scale = kind === "quality" ? 1 : Math.max(limit * 1.5, ...ends.map((end) => end ?? 0)) || 1;
    const said = `${is_upper ? "at most" : "at least"} ${kind === "spend" ? money(limit) : percentage(limit)}`;
    return {
      key: `${kind} ${name}`,
      cells: [
        { text: `${titles[kind] ?? kind}: ${said}`, note: because },
        { bar: { from: (ends[0] ?? 0) / scale, to: (ends[1] ?? 0) / scale, tone: !isKnown ? "nothing" : holds === "no" ? "waste" : "saving", mark: limit / scale } },
        { text: badges[holds], badge: { yes: "good", no: "bad", unknown: "quiet" }[holds] },
      ],
    };
  });
}

/**
 * The bound of wrong hits, in short; empty if nothing is promised or known.
 * @param {import("./contract.js").Promised[]} promises
 */
export function wrongHits(promises) {
  const found = promises.find(({ kind }) => kind === "wrong_hits");
  if (!found) return "";
  const promised = `promised ≤ ${percentage(Number(found.promised))}`;
  if (found.upper === null || found.upper === undefined || !found.judged) return `wrong hits not judged yet; ${promised}`;
  return `wrong hits ≤ ${percentage(Number(found.upper))} (95%); ${promised}`;
}

/**
 * @param {Sums["races"]} sums
 * @param {import("./contract.js").Now["hedges"] | null} hedging
 * @returns {Row[]}
 */
export function raceRows({ races, hedges, won_by_small, won_by_large, lost_calls, waste_usd }, hedging) {
  const rows = [
    ["Races", count(races), ""],
    ["Hedges", count(hedges), hedging?.is_off ? "off now: both models are slow" : ""],
    ["Won by the small model", count(won_by_small), ""],
    ["Won by the large model", count(won_by_large), ""],
    ["Calls that lost", count(lost_calls), ""],
    ["Paid for these", money(Number(waste_usd)), ""],
  ];
  return rows.map(([text, number, note]) => ({ key: text, cells: [{ text, note }, number] }));
}

/**
 * @param {import("./contract.js").Budget[]} budgets
 * @returns {Row[]}
 */
export function budgetRows(budgets) {
  return budgets.map(({ kind, tenant, name, period, limit_usd, spent_usd, left_usd, share, step }) => {
    const tone = share >= 1 ? "bad" : share >= 0.8 ? "warn" : "good";
    return {
      key: `${kind} ${tenant} ${name} ${period}`,
      cells: [
        { text: `${kind} ${name}`, note: `${money(Number(spent_usd))} of ${money(Number(limit_usd))} ${PERIODS[period] ?? period}` },
        { bar: { from: 0, to: share, tone: { bad: "none", warn: "waste", good: "saving" }[tone], mark: 0.8 } },
        { text: money(Number(left_usd)), tone, note: step ? (STEPS[step] ?? step) : "" },
      ],
    };
  });
}

/**
 * Models, each with its deployments if it has several.
 * @param {import("./contract.js").ModelHealth[]} models
 * @param {number} now Unix seconds.
 * @returns {Row[]}
 */
export function deploymentRows(models, now) {
  return models.flatMap((model) => {
    const running = model.deployments.reduce((sum, place) => sum + place.running, 0);
    const times = { text: duration(model.ttft_p50_ms), note: model.ttft_p95_ms === null ? "" : `p95 ${duration(model.ttft_p95_ms)}` };
    const row = {
      key: model.name,
      cells: [{ text: model.model, note: model.tier === model.name ? model.tier : `${model.tier} · ${model.name}` }, state(model, now), count(running), times],
    };
    if (model.deployments.length < 2) return [row];
    const places = model.deployments.map((place) => ({
      key: `${model.name} ${place.label}`,
      tone: "part",
      cells: [place.label, state(place, now), count(place.running), ""],
    }));
    return [row, ...places];
  });
}

/**
 * @param {{status: string, failing_since: number | null, last_cause: string | null, failures_last_5_minutes: number,
 *   breaker?: string, why?: string | null}} health
 * @param {number} now Unix seconds.
 */
function state({ status, failing_since, last_cause, failures_last_5_minutes: failures, breaker = "closed", why }, now) {
  const badges = /** @type {Record<string, [string, string]>} */ ({
    ok: ["ok", "good"],
    degraded: ["degraded", "warn"],
    failing: ["failing", "bad"],
    unknown: ["not asked yet", "quiet"],
  });
  const [text, badge] = badges[status] ?? [status, "quiet"];
  const notes = [];
  if (BREAKERS[breaker]) notes.push(why ? `${BREAKERS[breaker]}: ${why}` : BREAKERS[breaker]);
  if (failing_since) notes.push(`for ${age(now - failing_since)}`);
  if (failures) notes.push(`${counted(failures, "failure")} in 5 min${last_cause ? `: ${last_cause}` : ""}`);
  return { text, badge, note: notes.join(" · ") };
}
