// @ts-check
/** The cards with a table each, below the charts. */

import { make, setText } from "./dom.js";
import {
  budgetRows,
  checkRows,
  COLUMNS,
  dayRows,
  deploymentRows,
  errorRows,
  escalationRows,
  groupRows,
  promiseRows,
  raceRows,
  sourceRows,
} from "./panels.js";
import { scrolling } from "./scroll.js";
import { Table } from "./table.js";
import { counted, percentage } from "./units.js";

/** @typedef {import("./contract.js").Figures} Figures */
/** @typedef {import("./contract.js").Now} Now */
/** @typedef {import("./contract.js").Promises} Promises */
/** @typedef {import("./filters.js").Filters} Filters */
/** @typedef {import("./table.js").Row} Row */

/** Title, columns, what is said of it, what is said if it is empty, and whether it is of the past. */
const CARDS = /** @type {Record<string, {title: string, columns: string, hint: string, empty: string, past?: boolean}>} */ ({
  promises: { title: "Promises", columns: "promises", hint: "The bar spans the bounds of 95%, the line is what is promised.", empty: "Nothing is promised: see cache.max_wrong_hit_rate and [router]." },
  deployments: { title: "Models and deployments", columns: "deployments", hint: "How each fares now.", empty: "Not known yet." },
  budgets: { title: "Budgets", columns: "budgets", hint: "The scarcest first; the line is at 80%, where warnings begin.", empty: "No key, tenant, user or tag has a budget." },
  escalations: { title: "Escalations", columns: "counts", hint: "", empty: "The large model did not have to step in.", past: true },
  checks: { title: "Checks", columns: "checks", hint: "", empty: "No answer has failed a check.", past: true },
  races: { title: "Races and hedges", columns: "races", hint: "Two models asked for one answer; the slower call is paid for nothing.", empty: "", past: true },
  errors: { title: "Errors", columns: "counts", hint: "Requests without a whole answer, by code.", empty: "Every request has got its whole answer.", past: true },
  models: { title: "By model", columns: "models", hint: "A name shows its requests only.", empty: "No request in this time.", past: true },
  tags: { title: "By tag", columns: "groups", hint: "metadata[\"millrace.tag\"]; a name shows its requests only.", empty: "No request in this time.", past: true },
  tenants: { title: "By tenant", columns: "groups", hint: "A name shows its requests only.", empty: "No request in this time.", past: true },
  days: { title: "By day", columns: "days", hint: "The bar is what was paid, the line what it would have cost.", empty: "No request in this time.", past: true },
});

class Card {
  #table;
  #hint;
  #empty;
  element;

  /**
   * @param {string} name
   * @param {{title: string, columns: string, hint: string, empty: string, past?: boolean}} about
   * @param {((key: string) => void) | null} [onOpen]
   */
  constructor(name, { title, columns, hint, empty, past }, onOpen = null) {
    this.#table = new Table(title, COLUMNS[columns], onOpen);
    this.#table.element.classList.add(columns);
    this.#hint = make("p", { class: "hint" }, hint);
    this.#empty = make("p", { class: "empty", hidden: true }, empty);
    this.element = make(
      "section",
      { class: past ? "card past" : "card", id: `card-${name}`, "aria-labelledby": `title-${name}` },
      make("h2", { id: `title-${name}` }, title),
      this.#hint,
      scrolling(make("div", { class: "scroll" }, this.#table.element), `${title}, the table`),
      this.#empty,
    );
  }

  /**
   * @param {Row[]} rows
   * @param {string} [hint]
   */
  show(rows, hint) {
    this.#table.show(rows);
    this.#table.element.hidden = rows.length === 0;
    this.#empty.hidden = rows.length > 0;
    if (hint !== undefined) setText(this.#hint, hint);
  }
}

export class Cards {
  /** @type {Record<string, Card>} */
  #cards = {};
  #sources = new Card("sources", { title: "Who answered", columns: "sources", hint: "", empty: "No request in this time.", past: true });
  /** @type {Figures | null} */
  #figures = null;
  /** @type {Promises | null} */
  #promises = null;
  /** @type {Now | null} */
  #now = null;

  /**
   * @param {HTMLElement} beside Where the cards beside the waterfall are.
   * @param {HTMLElement} root
   * @param {(filter: Partial<Filters>) => void} onFilter
   */
  constructor(beside, root, onFilter) {
    beside.append(this.#sources.element);
    const filters = /** @type {Record<string, (name: string) => Partial<Filters>>} */ ({
      models: (model) => ({ model }),
      tags: (tag) => ({ tag }),
      tenants: (tenant) => ({ tenant }),
    });
    for (const [name, about] of Object.entries(CARDS)) {
      const filter = filters[name];
      this.#cards[name] = new Card(name, about, filter ? (key) => onFilter(filter(key)) : null);
      (name === "promises" ? beside : root).append(this.#cards[name].element);
    }
    this.seeAll(false);
  }

  /**
   * Show tenants, if there are others to be seen.
   * @param {boolean} isOperator
   */
  seeAll(isOperator) {
    this.#cards.tenants.element.hidden = !isOperator;
  }

  /** @param {Figures} figures */
  show(figures) {
    this.#figures = figures;
    const { total, models, tags, tenants, days } = figures;
    const { escalations, checked } = total;
    const { joined } = total.cache;
    this.#sources.show(sourceRows(total), joined ? `${counted(joined, "answer")} of a model were shared with an identical request.` : "");
    this.#cards.escalations.show(
      escalationRows(escalations),
      `${counted(escalations.count, "answer")} of the large model because the small one's would not do: ${percentage(escalations.share)} of those that it was asked first.`,
    );
    this.#cards.errors.show(errorRows(total));
    this.#cards.models.show(groupRows(models));
    this.#cards.tags.show(groupRows(tags));
    this.#cards.tenants.show(groupRows(tenants));
    this.#cards.days.show(dayRows(days));
    this.#showChecks(checked);
    this.#showRaces();
  }

  /** @param {Promises} promises */
  showPromises(promises) {
    this.#promises = promises;
    this.#cards.promises.show(promiseRows(promises.promises));
    if (this.#figures) this.#showChecks(this.#figures.total.checked);
  }

  /** @param {Now} now */
  showNow(now) {
    this.#now = now;
    this.#cards.deployments.show(deploymentRows(now.models, now.at));
    if (now.budgets) this.#cards.budgets.show(budgetRows(now.budgets));
    this.#showRaces();
  }

  /** @param {number} checked */
  #showChecks(checked) {
    const rows = checkRows(this.#figures?.total.checks ?? [], this.#promises?.checks ?? []);
    this.#cards.checks.show(rows, `${counted(checked, "answer")} checked. Which share of wrong answers each catches, and of right ones it flags, is known from answers that were judged.`);
  }

  #showRaces() {
    if (this.#figures) this.#cards.races.show(raceRows(this.#figures.total.races, this.#now?.hedges ?? null));
  }
}
