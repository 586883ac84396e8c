// @ts-check
/** Formats the numbers of the dashboard, beside those of ../format.js. Pure. */

const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const oneDigit = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });
const twoDigits = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 2 });
const threeDigits = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

const DAY_S = 86_400;

/**
 * Format a share: 0.3821 is 38.2%, 0.00123 is 0.12%.
 * @param {number | null | undefined} share Null is a dash.
 */
export function percentage(share) {
  if (share === null || share === undefined) return "–";
  const percents = share * 100;
  return `${(Math.abs(percents) < 1 ? twoDigits : oneDigit).format(percents)}%`;
}

/** @param {number | null | undefined} perSecond Null is a dash. */
export function rate(perSecond) {
  return perSecond === null || perSecond === undefined ? "–" : `${quantity(perSecond)}/s`;
}

/**
 * Format a number with the digits that count: 0.012, 4.56, 1.2K.
 * @param {number} number
 */
export function quantity(number) {
  const size = Math.abs(number);
  return (size >= 1000 ? compact : size < 1 ? twoDigits : threeDigits).format(number);
}

/**
 * Format milliseconds on an axis or in a tight place.
 * @param {number} ms
 */
export function shortDuration(ms) {
  if (ms === 0) return "0";
  return ms < 1000 ? `${quantity(ms)} ms` : `${quantity(ms / 1000)} s`;
}

/**
 * Format dollars on an axis.
 * @param {number} dollars
 */
export function shortMoney(dollars) {
  return `$${Math.abs(dollars) >= 1 || dollars === 0 ? compact.format(dollars) : twoDigits.format(dollars)}`;
}

/**
 * Format a moment as precisely as steps of that size need.
 * @param {number} time Unix seconds.
 * @param {number} step Seconds.
 */
export function clock(time, step) {
  const moment = new Date(time * 1000);
  const isMidnight = moment.getHours() === 0 && moment.getMinutes() === 0 && moment.getSeconds() === 0;
  if (step >= DAY_S || (isMidnight && step >= 3600)) return moment.toLocaleDateString("en-US", { month: "short", day: "numeric" });
  const minutes = `${two(moment.getHours())}:${two(moment.getMinutes())}`;
  return step >= 60 ? minutes : `${minutes}:${two(moment.getSeconds())}`;
}

/**
 * Format a moment with its day, unless that is today.
 * @param {number} time Unix seconds.
 * @param {number} [now] Unix seconds.
 */
export function moment(time, now = Date.now() / 1000) {
  const day = clock(time, DAY_S);
  const text = clock(time, 1);
  return day === clock(now, DAY_S) ? text : `${day}, ${text}`;
}

/**
 * Format a period.
 * @param {number} from Unix seconds.
 * @param {number} until Unix seconds.
 */
export function period(from, until) {
  const step = until - from < 120 ? 1 : 60;
  const day = clock(from, DAY_S);
  const last = clock(until - 1, DAY_S);
  const end = last === day ? clock(until, step) : `${last}, ${clock(until, step)}`;
  if (until - from >= 2 * DAY_S) return day === last ? day : `${day} – ${last}`;
  return `${day}, ${clock(from, step)} – ${end}`;
}

/**
 * Write a number with its noun.
 * @param {number} number
 * @param {string} noun
 */
export function counted(number, noun) {
  const many = noun.endsWith("y") ? `${noun.slice(0, -1)}ies` : `${noun}s`;
  return `${number < 10_000 ? number.toLocaleString("en-US") : compact.format(number)} ${number === 1 ? noun : many}`;
}

/** @param {number} number */
function two(number) {
  return String(number).padStart(2, "0");
}
