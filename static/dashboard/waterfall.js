// @ts-check
/** From what the same requests would have cost to what was paid, lever by lever. Pure. */

import { count, duration, money } from "../format.js";
import { LEVERS, WASTE } from "./names.js";
import { counted, percentage } from "./units.js";

/** @typedef {import("./contract.js").Bill} Bill */
/** @typedef {import("./table.js").Row} Row */

export const COLUMNS = [{ name: "What" }, { name: "Drawn", hidden: true }, { name: "Dollars", number: true }, { name: "Share", number: true }, { name: "Requests", number: true }];

const PLUS = "+";
const MINUS = "\u2212";

/**
 * The rows of the waterfall. A saving takes off from the left end of what is above it, and waste adds to it, so a bar
 * always begins where the last one has ended.
 * @param {Bill} bill
 * @returns {Row[]}
 */
export function waterfallRows(bill) {
  const baseline = Number(bill.baseline_usd);
  const cost = Number(bill.cost_usd);
  const steps = [
    ...bill.savings
      .filter(({ saved_usd, estimated }) => Number(saved_usd) !== 0 && !estimated)
      .map(({ lever, requests, saved_usd }) => ({ key: lever, name: LEVERS[lever] ?? lever, change: -Number(saved_usd), requests })),
    ...bill.waste
      .filter(({ cost_usd }) => Number(cost_usd) !== 0)
      .map(({ kind, requests, cost_usd }) => ({ key: kind, name: WASTE[kind] ?? kind, change: Number(cost_usd), requests })),
  ];
  const ends = [0, baseline, cost];
  let sum = baseline;
  for (const { change } of steps) ends.push((sum += change));
  const low = Math.min(...ends);
  const size = Math.max(...ends) - low || 1;
  /** @param {number} dollars */
  const place = (dollars) => (dollars - low) / size;

  /** @type {Row[]} */
  const rows = [total("baseline", "All on the large model", baseline, "baseline")];
  sum = baseline;
  for (const { key, name, change, requests } of steps) {
    const bar = { from: place(sum), to: place(sum + change), tone: change < 0 ? "saving" : "waste" };
    sum += change;
    const text = (change < 0 ? MINUS : PLUS) + money(Math.abs(change));
    rows.push({ key, cells: [name, { bar }, { text, tone: change < 0 ? "good" : "warn" }, part(change), count(requests)] });
  }
  return [...rows, total("paid", "Paid", cost, "cost")];

  /**
   * @param {string} key
   * @param {string} name
   * @param {number} dollars
   * @param {string} tone
   * @returns {Row}
   */
  function total(key, name, dollars, tone) {
    const bar = { from: place(0), to: place(dollars), tone };
    return { key, tone: "sum", cells: [name, { bar }, money(dollars), part(dollars)] };
  }

  /** @param {number} dollars */
  function part(dollars) {
    return baseline > 0 ? percentage(Math.abs(dollars) / baseline) : "";
  }
}

/**
 * What the bars cannot show, as sentences.
 * @param {Bill} bill
 */
export function waterfallNotes({ savings, unknown }) {
  const notes = [];
  const timed = savings.filter(({ saved_ms, requests }) => saved_ms !== null && requests > 0);
  const hits = timed.reduce((sum, { requests }) => sum + requests, 0);
  if (hits) notes.push(`Stored and shared answers came ${duration(timed.reduce((sum, { saved_ms }) => sum + (saved_ms ?? 0), 0) / hits)} sooner, on average.`);
  const cap = savings.find(({ lever }) => lever === "cap");
  if (cap?.requests) notes.push(`${counted(cap.requests, "answer")} cut by a cap; what the rest would have cost is not known.`);
  if (unknown) notes.push(`${count(unknown)} without a price to compare with; they count as what they cost.`);
  const idle = savings.filter(({ saved_usd, lever }) => Number(saved_usd) === 0 && lever !== "cap");
  if (idle.length && idle.length < savings.length - 1) {
    notes.push(`Nothing from: ${idle.map(({ lever }) => (LEVERS[lever] ?? lever).toLowerCase()).join(", ")}.`);
  }
  return notes.join(" ");
}
