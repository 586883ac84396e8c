// @ts-check
/** Formats numbers for the page. Pure. */

const MINUS = "\u2212";

const cents = dollars({ minimumFractionDigits: 2, maximumFractionDigits: 2 });
const hundredthsOfCents = dollars({ minimumFractionDigits: 4, maximumFractionDigits: 4 });
const twoDigits = dollars({ minimumSignificantDigits: 2, maximumSignificantDigits: 2 });
const grouped = new Intl.NumberFormat("en-US");

/**
 * Format dollars. An answer costs far less than a cent, so small amounts have two significant digits: $0.000021.
 * @param {number | null} amount Dollars; null is a dash.
 */
export function money(amount) {
  if (amount === null) return "–";
  const exact = Math.round(amount * 1e9) / 1e9; // the precision of the wire; removes floating-point errors of sums
  if (exact === 0) return "$0";
  const size = Math.abs(exact);
  const format = size < 0.01 ? twoDigits : size < 1 ? hundredthsOfCents : cents;
  return (exact < 0 ? MINUS : "") + format.format(size);
}

/** @param {number | null} ms Null is a dash. */
export function duration(ms) {
  if (ms === null) return "–";
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} s`;
}

/**
 * Format a moment of today as hours and minutes.
 * @param {number} seconds Unix seconds.
 */
export function timeOfDay(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

/**
 * Format an age in one unit.
 * @param {number} seconds
 */
export function age(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

/**
 * Format the similarity of two questions. Rounded down, so that only identical ones show 1.00.
 * @param {number} cosine
 */
export function similarity(cosine) {
  return (Math.floor(cosine * 100 + 1e-9) / 100).toFixed(2);
}

/** @param {number | null} number Null is a dash. */
export function count(number) {
  return number === null ? "–" : grouped.format(number);
}

/**
 * @param {number} part
 * @param {number} total
 */
export function percent(part, total) {
  return `${Math.round((part / total) * 100)}%`;
}

/** @param {Intl.NumberFormatOptions} digits */
function dollars(digits) {
  return new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", ...digits });
}
