// @ts-check
/** The day in short, from the dashboard's figures. Only an admin may see them; for others the card stays away. */

import { count, duration, money } from "./format.js";
import { storedKey } from "./key-form.js";
import { LEVERS } from "./dashboard/names.js";
import { percentage } from "./dashboard/units.js";
import { element, textElement } from "./view.js";

/** @typedef {import("./dashboard/contract.js").Figures} Figures */

const LEVERS_SHOWN = 4;
const REFUSED = [401, 403, 404];

export class Today {
  /** @type {string | null | undefined} The key with which it was refused. */
  #refusedKey;

  /** Look at the day, and show it. */
  async look() {
    const key = storedKey();
    if (document.hidden || key === this.#refusedKey) return;
    const headers = key ? { Authorization: `Bearer ${key}` } : undefined;
    const response = await fetch("v1/dashboard/figures?since=24h", { headers, cache: "no-store" }).catch(() => null);
    if (response && REFUSED.includes(response.status)) this.#refusedKey = key;
    const figures = response?.ok ? /** @type {Figures} */ (await response.json().catch(() => null)) : null;
    if (figures?.total) this.#show(figures.total);
    element("today").hidden = !figures?.total.requests;
  }

  /** @param {Figures["total"]} total */
  #show({ cost_usd, would_have_cost_usd, saved_usd, saved_share, waterfall, ttft_ms, total_ms, cache, split }) {
    const spent = Number(cost_usd);
    const wouldHave = Number(would_have_cost_usd);
    put("saved", money(Number(saved_usd)));
    put("share", saved_share === null ? "" : `${percentage(saved_share)} of ${money(wouldHave)}`);
    put("spent", money(spent));
    put("first", `${duration(ttft_ms.p50)} / ${duration(ttft_ms.p95)}`);
    put("total", `${duration(total_ms.p50)} / ${duration(total_ms.p95)}`);
    put("hits", percentage(cache.hit_rate));
    put("split", `${count(cache.exact + cache.semantic + cache.joined)} / ${count(split.small)} / ${count(split.large)}`);
    const levers = waterfall.savings
      .map(({ lever, saved_usd: saved, estimated }) => ({ lever, saved: estimated ? 0 : Number(saved) }))
      .filter(({ saved }) => saved > 0)
      .sort((one, other) => other.saved - one.saved)
      .slice(0, LEVERS_SHOWN);
    element("levers").replaceChildren(...levers.map(({ lever, saved }) => leverRow(LEVERS[lever] ?? lever, saved, levers[0].saved)));
  }
}

/**
 * @param {string} name
 * @param {number} saved Dollars.
 * @param {number} most That one lever saved.
 */
function leverRow(name, saved, most) {
  const row = document.createElement("li");
  const bar = textElement("i", "");
  bar.style.setProperty("--width", `${(saved / most) * 100}%`);
  row.append(textElement("span", name), textElement("b", money(saved)), bar);
  return row;
}

/**
 * @param {string} name
 * @param {string} text
 */
function put(name, text) {
  const part = element("today").querySelector(`[data-today="${name}"]`);
  if (part) part.textContent = text;
}
