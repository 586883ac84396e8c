// @ts-check
/** The card that shows the page's call in code: three tabs, and a button that copies. */

import { copies } from "./copy.js";
import { snippet } from "./snippets.js";
import { element } from "./view.js";

/** @typedef {import("./snippets.js").Call} Call */
/** @typedef {import("./snippets.js").Language} Language */

export class CodePanel {
  #tabs = /** @type {HTMLButtonElement[]} */ ([...element("code-tabs").querySelectorAll("button")]);
  #code = element("code");
  /** @type {Language} */
  #language = "python";
  #read;

  /** @param {() => Call} read The call that the page would make now. */
  constructor(read) {
    this.#read = read;
    copies(/** @type {HTMLButtonElement} */ (element("code-copy")), () => this.#code.textContent ?? "");
    this.#tabs.forEach((tab, index) => {
      tab.addEventListener("click", () => this.#choose(tab));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        this.#choose(this.#tabs[(index + step + this.#tabs.length) % this.#tabs.length]);
      });
    });
    this.show();
  }

  /** Show the call as it is now. */
  show() {
    this.#code.textContent = snippet(this.#language, this.#read());
  }

  /** @param {HTMLButtonElement} chosen */
  #choose(chosen) {
    for (const tab of this.#tabs) {
      tab.ariaSelected = String(tab === chosen);
      tab.tabIndex = tab === chosen ? 0 : -1;
    }
    element("code-panel").setAttribute("aria-labelledby", chosen.id);
    this.#language = /** @type {Language} */ (chosen.dataset.language);
    chosen.focus();
    this.show();
  }
}
