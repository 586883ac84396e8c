// @ts-check
/** Markdown to HTML, block by block. HTML in the text stays text, and there are no images: they would be fetched. */

import MarkdownIt from "./vendor/markdown-it/markdown-it.esm.min.mjs";

/** @typedef {import("./vendor/markdown-it/markdown-it.esm.min.mjs").Token} Token */

const HEADING = /^h([1-6])$/;
const ALIGNED = /^text-align:(left|center|right)$/;
const OF_PAGE = 2; // the levels of headings that the page has itself

const markdown = new MarkdownIt({ html: false, linkify: true, breaks: true }).disable(["image"]);
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });

/**
 * Return the HTML of each block, so that while a text grows only its last ones have to be drawn again. It must be
 * sanitized before it is shown.
 * @param {string} text
 * @returns {string[]}
 */
export function blocks(text) {
  const env = {};
  const tokens = markdown.parse(text, env);
  /** @type {string[]} */
  const found = [];
  let depth = 0;
  let start = 0;
  fit(tokens);
  tokens.forEach((token, index) => {
    depth += token.nesting;
    if (depth > 0) return;
    found.push(markdown.renderer.render(tokens.slice(start, index + 1), markdown.options, env).trim());
    start = index + 1;
  });
  return found;
}

/**
 * Put headings below those of the page, without a gap between two levels, and make alignment an attribute that the
 * page's CSP permits.
 * @param {Token[]} tokens
 */
function fit(tokens) {
  const levels = tokens.map(({ tag }) => Number(HEADING.exec(tag)?.[1] ?? 0));
  const highest = Math.min(...levels.filter(Boolean));
  let last = OF_PAGE;
  tokens.forEach((token, index) => {
    if (levels[index]) {
      if (token.nesting > 0) last = Math.min(levels[index] - highest + OF_PAGE + 1, last + 1, 6);
      token.tag = `h${last}`;
    }
    const aligned = ALIGNED.exec(token.attrGet("style") ?? "");
    if (aligned) token.attrs = [["data-align", aligned[1]]];
  });
}
