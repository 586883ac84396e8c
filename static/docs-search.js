// What the documentation's search finds, and in which order. No page and no network: tests call it as it is.

/**
 * A section of a page: the page's name and title, and the section's anchor, heading and text.
 * @typedef {[page: string, title: string, anchor: string, heading: string, text: string]} Section
 */

const MOST = 12;
const AROUND = 70; // characters before what is found

/** The words of what somebody looks for, in lower case. @param {string} query */
export function words(query) {
  return query.toLowerCase().split(/[^\p{L}\p{N}_.-]+/u).filter(Boolean);
}

/**
 * The sections that have every word, the best first: a heading counts more than the text below it, the beginning of a
 * word more than its middle.
 * @param {Section[]} sections @param {string[]} sought
 * @returns {Section[]}
 */
export function ranked(sections, sought) {
  return sections
    .map((section) => ({ section, score: score(section, sought) }))
    .filter(({ score }) => score > 0)
    .sort((a, b) => b.score - a.score)
    .slice(0, MOST)
    .map(({ section }) => section);
}

/** @param {Section} section @param {string[]} sought */
function score([, title, , heading, text], sought) {
  let sum = 0;
  for (const word of sought) {
    const best = 20 * fit(heading, word) + 8 * fit(title, word) + fit(text, word) * (1 + Math.min(count(text, word), 5));
    if (best === 0) return 0;
    sum += best;
  }
  return sum / (1 + text.length / 20000); // of two that are alike, the shorter one
}

/** How well a text has a word: as a whole 1, as a beginning 0.7, within one 0.2. @param {string} text @param {string} word */
function fit(text, word) {
  const low = text.toLowerCase();
  let best = 0;
  for (let at = low.indexOf(word); at >= 0 && best < 1; at = low.indexOf(word, at + 1)) {
    const begins = at === 0 || !/[\p{L}\p{N}_]/u.test(low[at - 1]);
    const ends = at + word.length === low.length || !/[\p{L}\p{N}_]/u.test(low[at + word.length]);
    best = Math.max(best, begins ? (ends ? 1 : 0.7) : 0.2);
  }
  return best;
}

/** @param {string} text @param {string} word */
const count = (text, word) => text.toLowerCase().split(word).length - 1;

/**
 * The text around the first word that is found, in pieces.
 * @param {string} text @param {string[]} sought
 * @returns {{ text: string, isFound: boolean }[]}
 */
export function found(text, sought) {
  const low = text.toLowerCase();
  const places = sought.map((word) => low.indexOf(word)).filter((at) => at >= 0);
  let from = Math.max(0, Math.min(...places, text.length) - AROUND);
  if (places.length === 0) from = 0;
  if (from > 0) from = text.indexOf(" ", from) + 1;
  const shown = text.slice(from, from + 3 * AROUND);
  const pattern = new RegExp(`(${sought.map((word) => word.replace(/[.-]/g, "\\$&")).join("|")})`, "giu");
  const pieces = shown.split(pattern).map((piece, index) => ({ text: piece, isFound: index % 2 === 1 }));
  if (from > 0) pieces.unshift({ text: "… ", isFound: false });
  if (from + shown.length < text.length) pieces.push({ text: " …", isFound: false });
  return pieces.filter((piece) => piece.text);
}
