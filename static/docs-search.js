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
    const best = 20 * fit(heading, word) + 4 * fit(title, word) + fit(text, word);
    if (best === 0) return 0;
    sum += best;
  }
  return sum / (1 + text.length / 20000); // of two that are alike, the shorter one
}

/** How well a text has a word: 0, or 1 and a little more the more often. A beginning counts for half. @param {string} text @param {string} word */
function fit(text, word) {
  const places = [...text.matchAll(beginning([word]))];
  const wholes = places.filter((place) => !/^[\p{L}\p{N}]/u.test(text.slice(place.index + place[0].length)));
  const best = wholes.length > 0 ? 1 : places.length > 0 ? 0.5 : 0;
  return best * (1 + Math.min(places.length, 5) / 5);
}

/** Finds words where a word, or a part of a name such as `in_flight`, begins. @param {string[]} sought */
const beginning = (sought) =>
  new RegExp(`(?<![\\p{L}\\p{N}])(${sought.map((word) => word.replace(/[.-]/g, "\\$&")).join("|")})`, "giu");

/**
 * The text around the first word that is found, in pieces.
 * @param {string} text @param {string[]} sought
 * @returns {{ text: string, isFound: boolean }[]}
 */
export function found(text, sought) {
  const pattern = beginning(sought);
  let from = Math.max(0, text.search(pattern) - AROUND);
  if (from > 0) from = text.indexOf(" ", from) + 1;
  const end = from + 3 * AROUND;
  const shown = text.slice(from, end < text.length ? text.lastIndexOf(" ", end) : end);
  const pieces = shown.split(pattern).map((piece, index) => ({ text: piece, isFound: index % 2 === 1 }));
  if (from > 0) pieces.unshift({ text: "… ", isFound: false });
  if (from + shown.length < text.length) pieces.push({ text: " …", isFound: false });
  return pieces.filter((piece) => piece.text);
}
