import assert from "node:assert/strict";
import test from "node:test";

import { found, ranked, words } from "../../static/docs-search.js";

/** @typedef {import("../../static/docs-search.js").Section} Section */

/** @type {Section[]} */
const SECTIONS = [
  ["keys", "Keys", "keys", "Keys", "Without a key, only clients on this machine have access. "],
  ["keys", "Keys", "limits", "Limits", "Limits apply per key. Set them by keys add --in-flight 4."],
  ["configuration", "Configuration", "configuration", "Configuration", "limits.in_flight, models.X.prefix_cache: (a+b)*"],
  ["prices", "Prices", "prefix-caches", "Prefix caches", "What a provider reads from its cache costs less."],
];

/** @param {string} query */
const places = (query) => ranked(SECTIONS, words(query)).map(([page, , anchor]) => `${page}#${anchor}`);

test("a heading counts more than the text below it", () => {
  assert.deepEqual(places("limits"), ["keys#limits", "configuration#configuration"]);
  assert.deepEqual(places("prefix cache"), ["prices#prefix-caches", "configuration#configuration"]);
});

test("every word must be there, in any order and case, and the beginning of a word is enough", () => {
  assert.deepEqual(places("ACCESS mach"), ["keys#keys"]);
  assert.deepEqual(places("access nothing"), []);
  assert.deepEqual(places("achine"), []);
  assert.deepEqual(places("cache"), ["prices#prefix-caches", "configuration#configuration"]);
  assert.deepEqual(places("in_flight"), ["configuration#configuration"]);
});

test("nothing is found for nothing, and signs are no pattern", () => {
  assert.deepEqual(words("  "), []);
  assert.deepEqual(words("(a+b)* --in-flight"), ["a", "b", "--in-flight"]);
  assert.equal(found("a.b axb", ["a.b"]).filter((piece) => piece.isFound).length, 1);
});

test("the text is shown around the first word, which is marked, and cut between words", () => {
  const text = `${"before ".repeat(40)}the Millrace ${"after ".repeat(80)}`;
  const pieces = found(text, ["millrace"]);
  assert.deepEqual(pieces.filter((piece) => piece.isFound), [{ text: "Millrace", isFound: true }]);
  const shown = pieces.map((piece) => piece.text).join("");
  assert.ok(/^… before .* the Millrace after .* after …$/.test(shown));
  assert.ok(shown.length < 240);
  assert.deepEqual(found("short", ["other"]), [{ text: "short", isFound: false }]);
});
