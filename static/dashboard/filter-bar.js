// @ts-check
/** The controls of what is shown. */

import { byId, make, setText } from "./dom.js";
import { RANGES } from "./filters.js";
import { groupName } from "./panels.js";
import { period } from "./units.js";

/** @typedef {import("./contract.js").Figures} Figures */
/** @typedef {import("./filters.js").Shown} Shown */

const GROUPS = /** @type {const} */ (["model", "tag", "tenant"]);

export class FilterBar {
  #ranges = byId("ranges");
  /** @type {Shown} */
  #shown;

  /**
   * @param {Shown} shown
   * @param {(changed: Partial<Shown>) => void} onChange
   */
  constructor(shown, onChange) {
    this.#shown = shown;
    for (const [value, text, name] of RANGES) {
      const input = make("input", { type: "radio", name: "range", value, id: `range-${value}` });
      this.#ranges.append(input, make("label", { for: input.id, title: name }, text));
      input.addEventListener("change", () => onChange({ since: value, until: "" }));
    }
    for (const name of [...GROUPS, /** @type {const} */ ("status"), /** @type {const} */ ("source")]) {
      const select = /** @type {HTMLSelectElement} */ (byId(`filter-${name}`));
      select.addEventListener("change", () => onChange({ [name]: select.value }));
    }
    byId("reset").addEventListener("click", () => onChange({ model: "", tag: "", tenant: "", since: "24h", until: "" }));
    this.show(shown);
  }

  /**
   * Show the filters that hold.
   * @param {Shown} shown
   */
  show(shown) {
    this.#shown = shown;
    const found = shown.until ? null : document.getElementById(`range-${shown.since}`);
    for (const input of this.#ranges.querySelectorAll("input")) input.checked = input === found;
    for (const name of GROUPS) this.#choose(name, shown[name]);
    for (const name of /** @type {const} */ (["status", "source"])) this.#choose(name, shown[name]);
    const isUsual = !shown.model && !shown.tag && !shown.tenant && found?.id === "range-24h";
    byId("reset").hidden = isUsual;
  }

  /**
   * Offer what there is in these figures.
   * @param {Figures} figures
   * @param {boolean} seesAll Whether there are other tenants to be seen.
   */
  offer(figures, seesAll) {
    const { models, tags, tenants, since, until } = figures;
    this.#fill("model", "All models", models);
    this.#fill("tag", "All tags", tags);
    this.#fill("tenant", "Own tenant", [{ name: "*" }, ...tenants]);
    byId("filter-tenant").closest(".filter")?.toggleAttribute("hidden", !seesAll);
    setText(byId("period"), period(since, Math.min(until, Math.max(figures.now, since + 1))));
    this.show(this.#shown);
  }

  /**
   * @param {"model" | "tag" | "tenant"} name
   * @param {string} all
   * @param {{name: string}[]} groups
   */
  #fill(name, all, groups) {
    const select = /** @type {HTMLSelectElement} */ (byId(`filter-${name}`));
    const names = ["", ...groups.map((group) => group.name)];
    if (this.#shown[name] && !names.includes(this.#shown[name])) names.push(this.#shown[name]);
    if ([...select.options].map(({ value }) => value).join("\n") === names.join("\n")) return;
    /** @param {string} value */
    const text = (value) => (value === "" ? all : name === "tenant" && value === "*" ? "All tenants" : groupName(value));
    select.replaceChildren(...names.map((value) => make("option", { value }, text(value))));
  }

  /**
   * @param {string} name
   * @param {string} value
   */
  #choose(name, value) {
    const select = /** @type {HTMLSelectElement} */ (byId(`filter-${name}`));
    if (value && ![...select.options].some((option) => option.value === value)) select.append(make("option", { value }, groupName(value)));
    if (select.value !== value) select.value = value;
  }
}
