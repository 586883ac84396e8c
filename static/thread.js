// @ts-check
/** The turns of a conversation: those that have ended, as they are shown and as they are sent along. */

import { duration, money } from "./format.js";
import { RichText } from "./rich-text.js";
import { sourceOf } from "./summary.js";
import { element, textElement } from "./view.js";

/** @typedef {import("./snippets.js").Turn} Turn */
/** @typedef {import("./summary.js").Summary} Summary */

export class Thread {
  /** @type {Turn[]} What models are told of it: questions and the answers to them. */
  #turns = [];
  /** @type {{summary: Summary, text: string} | null} The last one, which is still shown below. */
  #last = null;
  #list = element("thread");

  get isEmpty() {
    return !this.#turns.length;
  }

  /**
   * The input of a request that goes on with it.
   * @param {string} question
   * @returns {string | Turn[]}
   */
  input(question) {
    return this.isEmpty ? question : [...this.#turns, { role: "user", content: question }];
  }

  /** The next question is asked: the last turn moves up. */
  moveUp() {
    if (this.#last) this.#list.append(turnRow(this.#last.summary, this.#last.text));
    this.#last = null;
    this.#list.hidden = !this.#list.children.length;
    this.#list.scrollTop = this.#list.scrollHeight; // the last turn stays in sight
  }

  /**
   * A turn has ended. One without a whole answer is shown, but not sent along.
   * @param {Summary} summary
   * @param {string} text
   */
  add(summary, text) {
    this.#last = { summary, text };
    if (summary.status !== "completed" || !text) return;
    this.#turns.push({ role: "user", content: summary.question }, { role: "assistant", content: text });
  }

  /** Begin another one. */
  clear() {
    this.#turns = [];
    this.#last = null;
    this.#list.replaceChildren();
    this.#list.hidden = true;
  }
}

/**
 * @param {Summary} summary
 * @param {string} text
 */
function turnRow(summary, text) {
  const row = document.createElement("li");
  const answer = textElement("div", "", "rich");
  new RichText(answer).showNow(text);
  const facts = [sourceOf(summary) ?? summary.status, duration(summary.totalMs), money(summary.cost)];
  row.append(textElement("p", summary.question, "asked"), answer, textElement("p", facts.join(" · "), "facts"));
  return row;
}
