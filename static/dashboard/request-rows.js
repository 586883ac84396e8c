// @ts-check
/** The rows of the list of requests. Pure. */

import { count, duration, money } from "../format.js";
import { answeredBy, escalation, SOURCES } from "./names.js";
import { moment } from "./units.js";

/** @typedef {import("./contract.js").Line} Line */
/** @typedef {import("./table.js").Row} Row */

export const COLUMNS = [
  { name: "Time" },
  { name: "Answered by" },
  { name: "Why" },
  { name: "First token", number: true },
  { name: "Total", number: true },
  { name: "Tokens", number: true },
  { name: "Cost", number: true },
  { name: "Saved", number: true },
];

/**
 * The row of a request.
 * @param {Line} line
 * @param {number} now Unix seconds.
 * @returns {Row}
 */
export function requestRow(line, now) {
  const by = answeredBy(line);
  const isWhole = line.status === "completed";
  const ended = line.code ? `${line.status}: ${line.code}` : line.status;
  const why = line.escalated && line.failed_check ? `${escalation(line.failed_check)}; ${line.reason}` : line.reason;
  return {
    key: line.id,
    cells: [
      { text: moment(line.opened_at, now), opens: true, note: [line.tag, line.user].filter(Boolean).join(" · ") },
      { text: isWhole ? (SOURCES[by] ?? by) : ended, badge: isWhole ? by : line.status, note: line.model.startsWith("(") ? "" : line.model },
      { text: why || "–", note: line.strategy },
      duration(line.ttft_ms),
      duration(line.latency_ms),
      `${count(line.input_tokens)} → ${count(line.output_tokens)}`,
      money(Number(line.cost_usd)),
      { text: money(Number(line.saved_usd)), tone: Number(line.saved_usd) < 0 ? "warn" : undefined },
    ],
  };
}

/**
 * Put new lines above those that are shown; each is there once.
 * @param {Line[]} lines
 * @param {Line[]} added The latest first.
 * @param {number} most
 */
export function withNew(lines, added, most) {
  const known = new Set(lines.map(({ id }) => id));
  const fresh = added.filter(({ id }) => !known.has(id));
  return fresh.length ? [...fresh, ...lines].slice(0, Math.max(most, 0)) : lines;
}
