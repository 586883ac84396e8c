// @ts-check
/** The notice of models that fail, from `/readyz?verbose`. Once there is a key, only admins may ask for it. */

import { storedKey } from "./key-form.js";
import { healthSentence } from "./sentences.js";
import { element, textElement } from "./view.js";

/**
 * @typedef {{tier: string, model: string, status: "unknown" | "ok" | "degraded" | "failing",
 *   failing_since: number | null, last_answer_at: number | null, last_failure_at: number | null,
 *   last_cause: string | null, failures_last_minute: number, failures_last_5_minutes: number,
 *   causes: Record<string, number>}} ModelHealth Times are Unix seconds.
 */

const REFUSED = [401, 403];

export class ModelNotice {
  #list = element("models");
  /** @type {string | null | undefined} The key with which it was refused. */
  #refusedKey;

  /** Look how the models fare, and show those that fail. */
  async look() {
    const key = storedKey();
    if (document.hidden || key === this.#refusedKey) return;
    const headers = key ? { Authorization: `Bearer ${key}` } : undefined;
    const response = await fetch("readyz?verbose", { headers }).catch(() => null);
    if (response && REFUSED.includes(response.status)) this.#refusedKey = key;
    const { models = [] } = response ? await response.json().catch(() => ({})) : {};
    this.#show(models);
  }

  /** @param {ModelHealth[]} models */
  #show(models) {
    const sentences = models.map(healthSentence).filter(Boolean);
    if (sentences.join() !== [...this.#list.children].map(({ textContent }) => textContent).join()) {
      this.#list.replaceChildren(...sentences.map((sentence) => textElement("li", sentence)));
    }
    this.#list.hidden = !sentences.length;
  }
}
