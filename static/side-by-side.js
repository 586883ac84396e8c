// @ts-check
/** Two answers to one question, side by side: who says its first word first, who is done first, and what each costs. */

import { count, duration, money } from "./format.js";
import { RichText } from "./rich-text.js";
import { sourceOf } from "./summary.js";
import { element, textElement } from "./view.js";

/** @typedef {import("./follow.js").Watcher} Watcher */
/** @typedef {import("./meter.js").Meter} Meter */
/** @typedef {import("./summary.js").Summary} Summary */

const SHORTEST_MS = 500; // of the scale of both tracks

export class SideBySide {
  /** @type {Runner[]} */
  runners;

  constructor() {
    this.runners = ["left", "right"].map((side) => new Runner(element(side), () => this.#draw()));
  }

  begin() {
    for (const runner of this.runners) runner.begin();
  }

  /** Draw both on one scale, and say who was first in what. */
  #draw() {
    const scale = Math.max(SHORTEST_MS, ...this.runners.map(({ ms }) => ms));
    for (const runner of this.runners) runner.draw(scale);
    const [one, other] = this.runners;
    one.praise(other);
    other.praise(one);
  }
}

/** @implements {Watcher} */
class Runner {
  ms = 0;
  /** @type {number | null} */
  firstMs = null;
  /** @type {Summary | null} Once it has ended. */
  summary = null;
  #root;
  #text;
  #onChange;

  /**
   * @param {HTMLElement} root
   * @param {() => void} onChange
   */
  constructor(root, onChange) {
    this.#root = root;
    this.#text = new RichText(this.#part(".rich"));
    this.#onChange = onChange;
  }

  /** Its strategy, as it is chosen. */
  get strategy() {
    return /** @type {HTMLSelectElement} */ (this.#part("select")).value;
  }

  begin() {
    this.ms = 0;
    this.firstMs = this.summary = null;
    this.#text.showNow("");
    this.#part(".rich").ariaBusy = "true";
    this.#root.dataset.status = "running";
    this.#part(".problem").hidden = this.#part(".taken-back").hidden = true;
    for (const name of ["model", "first", "total", "tokens", "cost"]) this.#put(name, "–");
    this.#onChange();
  }

  /** @type {Watcher["show"]} */
  show(event, answer, meter, ms) {
    if ("delta" in event) this.#text.show(answer.text);
    if (event.type === "millrace.revise") {
      this.#text.showNow(answer.text);
      this.#part(".taken-back").textContent = `${event.from_model}'s words were taken back: ${event.reason}`;
      this.#part(".taken-back").hidden = false;
    }
    this.tick(meter, ms);
  }

  /** @type {Watcher["tick"]} */
  tick(meter, ms) {
    this.ms = ms;
    this.firstMs = meter.firstMs;
    this.#put("model", meter.model || "–");
    this.#put("first", duration(meter.firstMs));
    this.#put("total", duration(ms));
    this.#put("tokens", meter.tokens ? `≈ ${count(meter.tokens)} out` : "–");
    this.#put("cost", meter.cost === null ? "–" : `≈ ${money(meter.cost)}`);
    this.#onChange();
  }

  /** @type {Watcher["end"]} */
  end(summary, answer) {
    this.summary = summary;
    this.ms = summary.totalMs;
    this.firstMs = summary.firstMs;
    this.#text.showNow(answer.text || answer.refusal);
    this.#part(".rich").ariaBusy = "false";
    this.#root.dataset.status = summary.status;
    const source = sourceOf(summary);
    this.#put("model", [summary.model || "–", source && !["small", "large"].includes(source) ? `(${source})` : ""].join(" "));
    this.#put("first", duration(summary.firstMs));
    this.#put("total", duration(summary.totalMs));
    this.#put("tokens", summary.outputTokens === null ? "–" : `${count(summary.outputTokens)} out`);
    this.#put("cost", `${summary.costEstimated ? "about " : ""}${money(summary.cost)}`);
    this.#onChange();
  }

  /** @type {Watcher["showError"]} */
  showError({ code, message }) {
    this.#part(".problem").replaceChildren(textElement("strong", code), ` ${message}`);
    this.#part(".problem").hidden = false;
  }

  /**
   * Draw how far it has come.
   * @param {number} scale Milliseconds of the whole track.
   */
  draw(scale) {
    const { style } = this.#part(".track");
    style.setProperty("--wait", `${((this.firstMs ?? this.ms) / scale) * 100}%`);
    style.setProperty("--run", `${(this.firstMs === null ? 0 : (this.ms - this.firstMs) / scale) * 100}%`);
  }

  /**
   * Say in what it was better.
   * @param {Runner} other
   */
  praise(other) {
    const said = [];
    if (isLess(this.firstMs, other.firstMs)) said.push("first word first");
    if (this.summary?.status === "completed") {
      if (isLess(this.ms, other.ms)) said.push("done first");
      const { cost } = this.summary;
      const dearer = other.summary?.cost ?? null;
      if (cost !== null && dearer !== null && cost < dearer) said.push(cheaper(cost, dearer));
    }
    this.#put("praise", said.join(" · "));
  }

  /**
   * @param {string} name
   * @param {string} text
   */
  #put(name, text) {
    const part = this.#part(`[data-fact="${name}"]`);
    if (part.textContent !== text) part.textContent = text;
  }

  /** @param {string} selector */
  #part(selector) {
    return /** @type {HTMLElement} */ (this.#root.querySelector(selector));
  }
}

/**
 * @param {number | null} one
 * @param {number | null} other Null: not yet, or never.
 */
function isLess(one, other) {
  return one !== null && (other === null || one < other);
}

/**
 * @param {number} cost
 * @param {number} dearer
 */
function cheaper(cost, dearer) {
  if (!cost) return "free";
  return `${(dearer / cost).toFixed(dearer / cost < 10 ? 1 : 0)}× cheaper`;
}
