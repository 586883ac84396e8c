// @ts-check
/** Numbers as people read them. Pure. */

const MINUS = "\u2212";

const cents = dollars({ minimumFractionDigits: 2, maximumFractionDigits: 2 });
const hundredthsOfCents = dollars({ minimumFractionDigits: 4, maximumFractionDigits: 4 });
const twoDigits = dollars({ minimumSignificantDigits: 2, maximumSignificantDigits: 2 });
const grouped = new Intl.NumberFormat("en-US");

/**
 * A price per answer is far below a cent, so small sums show two digits that matter: $0.000021.
 * @param {number} amount Dollars.
 */
export function money(amount) {
  const exact = Math.round(amount * 1e9) / 1e9; // the wire's own precision; adding up leaves dust below it
  if (exact === 0) return "$0";
  const size = Math.abs(exact);
  const form = size < 0.01 ? twoDigits : size < 1 ? hundredthsOfCents : cents;
  return (exact < 0 ? MINUS : "") + form.format(size);
}

/** @param {number | null} ms */
export function duration(ms) {
  if (ms === null) return "–";
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} s`;
}

/**
 * How long ago, in one unit.
 * @param {number} seconds
 */
export function age(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

/**
 * How alike two questions are. Rounded down: what is not the same never reads as the same.
 * @param {number} cosine
 */
export function similarity(cosine) {
  return (Math.floor(cosine * 100 + 1e-9) / 100).toFixed(2);
}

/** @param {number} number */
export function count(number) {
  return grouped.format(number);
}

/**
 * @param {number} part
 * @param {number} whole
 */
export function percent(part, whole) {
  return `${Math.round((part / whole) * 100)}%`;
}

/** @param {Intl.NumberFormatOptions} digits */
function dollars(digits) {
  return new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", ...digits });
}
