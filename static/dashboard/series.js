// @ts-check
/** The arithmetic of charts: what is drawn from what was measured. Pure. */

/** @typedef {(number | null)[]} Values One for each time; null: nothing was measured. */

/**
 * Return each line on top of those before it, so that areas are stacked.
 * @param {Values[]} lines
 * @returns {Values[]}
 */
export function stacked(lines) {
  /** @type {number[]} */
  const sums = [];
  return lines.map((line) =>
    line.map((value, index) => {
      sums[index] = (sums[index] ?? 0) + (value ?? 0);
      return value === null ? null : sums[index];
    }),
  );
}

/**
 * Return the places of values with none beside them, which no line would show, so that they are drawn as dots; null if
 * there are none. A server that has just begun has one step with values.
 * @param {Values} values
 */
export function alone(values) {
  /** @param {number} place */
  const isNone = (place) => (values[place] ?? null) === null;
  const places = [...values.keys()].filter((place) => !isNone(place) && isNone(place - 1) && isNone(place + 1));
  return places.length ? places : null;
}

/**
 * Return the place of the time that is nearest; -1 without times.
 * @param {number[]} times Ascending.
 * @param {number} time
 */
export function nearest(times, time) {
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < time) low = middle + 1;
    else high = middle;
  }
  return low > 0 && time - times[low - 1] < times[low] - time ? low - 1 : high < 0 ? -1 : low;
}

/**
 * Return where the cursor goes on a key; null if the key moves no cursor.
 * @param {string} key
 * @param {number} place
 * @param {number} length
 */
export function moved(key, place, length) {
  const big = Math.max(1, Math.round(length / 10));
  const steps = /** @type {Record<string, number>} */ ({
    ArrowLeft: place - 1,
    ArrowDown: place - 1,
    ArrowRight: place + 1,
    ArrowUp: place + 1,
    PageDown: place - big,
    PageUp: place + big,
    Home: 0,
    End: length - 1,
  });
  if (!(key in steps) || !length) return null;
  return Math.max(0, Math.min(length - 1, steps[key]));
}

/**
 * Return a quarter of a period, around a time in it, but ten steps at least.
 * @param {{from: number, until: number, step: number}} period
 * @param {number} at
 * @returns {[number, number]}
 */
export function closer({ from, until, step }, at) {
  const half = Math.max((until - from) / 8, step * 5);
  const start = Math.max(from, Math.min(at + step / 2 - half, until - 2 * half));
  return [Math.floor(start), Math.ceil(Math.min(until, start + 2 * half))];
}
