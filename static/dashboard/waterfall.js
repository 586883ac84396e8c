// @ts-check
/** From what the same requests would have cost to what was paid, lever by lever. Pure. */

import { count, duration, money } from "../format.js";
import { LEVERS, WASTE } from "./names.js";
import { counted, percentage } from "./units.js";

/** @typedef {import("./contract.js").Bill} Bill */
/** @typedef {import("./table.js").Row} Row */

export const COLUMNS = [{ name: "What" }, { name: "Drawn", hidden: true }, { name: "Dollars", number: true }];

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
      .map(({ lever, requests, saved_usd, saved_ms }) => ({
        key: lever,
        name: LEVERS[lever] ?? lever,
        change: -Number(saved_usd),
        tone: Number(saved_usd) > 0 ? "saving" : "waste",
        note: counted(requests, "request") + (saved_ms === null || !requests ? "" : `, ${duration(saved_ms / requests)} sooner each`),
      })),
    ...bill.waste
      .filter(({ cost_usd }) => Number(cost_usd) !== 0)
      .map(({ kind, requests, cost_usd }) => ({
        key: kind,
        name: WASTE[kind] ?? kind,
        change: Number(cost_usd),
        tone: "waste",
        note: counted(requests, "request"),
      })),
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
  for (const { key, name, change, tone, note } of steps) {
    const bar = { from: place(sum), to: place(sum + change), tone };
    sum += change;
    const text = (change < 0 ? MINUS : PLUS) + money(Math.abs(change));
    rows.push({ key, cells: [{ text: name, note }, { bar }, { text, tone, note: part(change) }] });
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
    return { key, tone: "sum", cells: [{ text: name }, { bar }, { text: money(dollars), note: key === "paid" ? part(dollars) : "" }] };
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
  const cap = savings.find(({ lever }) => lever === "cap");
  if (cap?.requests) notes.push(`${counted(cap.requests, "answer")} cut by a cap; what the rest would have cost is not known.`);
  if (unknown) notes.push(`${count(unknown)} without a price to compare with; they count as what they cost.`);
  const idle = savings.filter(({ saved_usd, lever }) => Number(saved_usd) === 0 && lever !== "cap");
  if (idle.length && idle.length < savings.length - 1) {
    notes.push(`Nothing from: ${idle.map(({ lever }) => (LEVERS[lever] ?? lever).toLowerCase()).join(", ")}.`);
  }
  return notes.join(" ");
}
