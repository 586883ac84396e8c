// @ts-check
/** A text of a model as formatted text: Markdown is rendered, sanitized, and drawn at most once a frame. */

import { copies } from "./copy.js";
import { blocks } from "./markdown.js";
import DOMPurify from "./vendor/dompurify/purify.es.mjs";

const TAGS = "p br hr em strong s a code pre blockquote ul ol li h3 h4 h5 h6 table thead tbody tr th td";
/** @type {import("./vendor/dompurify/purify.es.mjs").Config} */
const CONFIG = {
  ALLOWED_TAGS: TAGS.split(" "),
  ALLOWED_ATTR: ["href", "title", "start", "class", "data-align"],
  ADD_URI_SAFE_ATTR: ["start", "data-align"],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const LANGUAGE = /^language-(\S+)$/;

export class RichText {
  /** @type {string[]} The HTML of each block as it is shown, before it was sanitized. */
  #shown = [];
  #text = "";
  #frame = 0;
  #root;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
  }

  /**
   * Show a text in the next frame.
   * @param {string} text
   */
  show(text) {
    this.#text = text;
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /**
   * Show a text now.
   * @param {string} text
   */
  showNow(text) {
    this.#text = text;
    this.#draw();
  }

  /** Draw the blocks that have changed; the others keep what is selected in them. */
  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const next = blocks(this.#text);
    next.forEach((html, index) => {
      if (html === this.#shown[index]) return;
      const block = blockOf(html);
      const old = this.#root.children[index];
      if (old) old.replaceWith(block);
      else this.#root.append(block);
    });
    while (this.#root.children.length > next.length) this.#root.lastElementChild?.remove();
    this.#shown = next;
  }
}

/**
 * Return the element of one block.
 * @param {string} html
 */
function blockOf(html) {
  const fragment = DOMPurify.sanitize(html, CONFIG);
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  for (const code of fragment.querySelectorAll("pre > code")) frame(/** @type {HTMLElement} */ (code));
  for (const table of fragment.querySelectorAll("table")) scrolled(table);
  return fragment.firstElementChild ?? document.createElement("p");
}

/**
 * Put a block of code into a frame with its language and a button that copies it.
 * @param {HTMLElement} code
 */
function frame(code) {
  const block = /** @type {HTMLElement} */ (code.parentElement);
  const framed = document.createElement("div");
  const bar = document.createElement("div");
  const language = document.createElement("span");
  const button = document.createElement("button");
  framed.className = "code";
  bar.className = "bar";
  language.textContent = LANGUAGE.exec(code.className)?.[1] ?? "";
  button.type = "button";
  button.className = "quiet";
  button.textContent = "Copy";
  copies(button, () => code.textContent ?? "");
  block.replaceWith(framed);
  block.tabIndex = 0; // it scrolls
  bar.append(language, button);
  framed.append(bar, block);
}

/** @param {HTMLTableElement} table */
function scrolled(table) {
  const frame = document.createElement("div");
  frame.className = "scroll";
  frame.tabIndex = 0;
  table.replaceWith(frame);
  frame.append(table);
}
