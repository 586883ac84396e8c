// @ts-check
/** A chart of lines over time, with a table of the same numbers. Arrow keys move the cursor, Enter picks a time, + looks closer. */

import { colour } from "./colours.js";
import { make, setAttribute, setText } from "./dom.js";
import { axes, Plot } from "./plot.js";
import { alone, closer, moved, nearest, stacked } from "./series.js";
import { Table } from "./table.js";
import { clock, moment } from "./units.js";

/** @typedef {import("./series.js").Values} Values */
/**
 * @typedef {object} Line
 * @property {string} name
 * @property {string} tone
 * @property {number[]} [dash] Lines differ by more than their colour.
 *
 * @typedef {object} Shown
 * @property {number[]} times Unix seconds, ascending: the beginnings of the steps.
 * @property {number} step Seconds.
 * @property {number} from Unix seconds.
 * @property {number} until Unix seconds.
 * @property {Values[]} values Of each line.
 *
 * @typedef {object} About
 * @property {string} id
 * @property {string} title
 * @property {string} hint What is measured.
 * @property {Line[]} lines
 * @property {boolean} [stacked]
 * @property {string} [between] The colour of what is between the first two lines.
 * @property {(value: number) => string} format
 * @property {(value: number) => string} [axis] A shorter format.
 * @property {number} [width] Of the values' axis, in pixels.
 * @property {(time: number) => void} onPick Called with the beginning of the step that was clicked.
 * @property {(from: number, until: number) => void} onZoom Called with the period that was selected.
 */

const NOTHING = /** @type {Shown} */ ({ times: [], step: 60, from: 0, until: 1, values: [] });

export class TimeChart {
  element;

  #about;
  #shown = NOTHING;
  #plot;
  #root;
  #labels;
  #values;
  #empty;
  /** @type {Table | null} */
  #table = null;
  #tableRoot;
  /** @type {number | null} Where the cursor is; null: nowhere. */
  #cursor = null;

  /** @param {About} about */
  constructor(about) {
    this.#about = about;
    const { id, title, hint, lines } = about;
    this.#values = lines.map(() => make("b"));
    this.#labels = make("span", { class: "when" });
    const legend = make("ul", { class: "legend" });
    lines.forEach(({ name, tone, dash }, index) => {
      const sign = make("i", { class: about.stacked ? "area" : "line", "data-tone": tone, "data-dash": dash ? dash.join("-") : undefined });
      legend.append(make("li", null, sign, `${name} `, this.#values[index]));
    });
    this.#root = make("div", {
      class: "plot",
      role: "slider",
      tabindex: 0,
      "aria-label": `${title}, over time`,
      "aria-describedby": `${id}-hint`,
      "aria-valuemin": 0,
      "aria-valuemax": 0,
      "aria-valuenow": 0,
    });
    this.#empty = make("p", { class: "empty", hidden: true }, "Nothing was measured in this time.");
    this.#tableRoot = make("div", { class: "data", role: "region", "aria-label": `${title}, as a table`, tabindex: 0, hidden: true });
    const toggle = make("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-label": `Table of ${title}` }, "Table");
    toggle.addEventListener("click", () => this.#toggle(toggle));
    this.element = make(
      "section",
      { class: "card chart", "aria-labelledby": id },
      make("div", { class: "head" }, make("h2", { id }, title), this.#labels, toggle),
      make("p", { class: "hint", id: `${id}-hint` }, hint),
      legend,
      make("div", { class: "frame" }, this.#root, this.#empty),
      this.#tableRoot,
    );
    this.#plot = new Plot(this.#root, this.#options());
    this.#root.addEventListener("keydown", (event) => this.#onKey(event));
    this.#root.addEventListener("blur", () => this.#moveTo(null));
  }

  /** @param {Shown} shown */
  show(shown) {
    this.#shown = shown;
    const isEmpty = !shown.values.some((line) => line.some((value) => value !== null));
    this.#empty.hidden = !isEmpty;
    const lines = this.#about.stacked ? stacked(shown.values).reverse() : shown.values;
    this.#plot.show(/** @type {uPlot.AlignedData} */ ([shown.times, ...lines]));
    setAttribute(this.#root, "aria-valuemax", String(Math.max(0, shown.times.length - 1)));
    this.#showValues();
    if (!this.#tableRoot.hidden) this.#fillTable();
  }

  /** Draw again in other colours. */
  recolour() {
    this.#plot.recolour();
  }

  /** @returns {Omit<uPlot.Options, "width" | "height">} */
  #options() {
    const { lines, format, axis = format, width = 44, stacked: areas, between } = this.#about;
    /** @type {(chart: uPlot, place: number) => number[] | null} */
    const dots = (chart, place) => (areas ? null : alone(/** @type {Values} */ (chart.data[place])));
    const series = lines.map(({ name, tone, dash }) => ({
      label: name,
      stroke: () => colour(tone),
      fill: areas ? () => colour(tone) : undefined,
      width: areas ? 0 : 1.75,
      dash,
      spanGaps: false,
      points: { show: false, size: 5, fill: () => colour(tone), filter: dots },
    }));
    return {
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        sync: { key: "dashboard", scales: ["x", null] },
        points: { show: !areas, size: 6 },
        drag: { x: true, y: false, setScale: false, dist: 6 },
        bind: { dblclick: () => null },
      },
      scales: {
        x: { range: () => [this.#shown.from, this.#shown.until] },
        y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] },
      },
      series: [{}, ...(areas ? series.reverse() : series)],
      bands: between ? [{ series: [2, 1], fill: () => colour(between, 22) }] : [],
      axes: axes(axis, width),
      hooks: {
        setCursor: [(chart) => this.#onCursor(chart)],
        setSelect: [(chart) => this.#onSelect(chart)],
        ready: [(chart) => chart.over.addEventListener("click", () => this.#pick())],
      },
    };
  }

  /** @param {uPlot} chart */
  #onCursor(chart) {
    const place = chart.cursor.idx ?? null;
    this.#cursor = (chart.cursor.left ?? -1) < 0 ? null : place;
    this.#showValues();
  }

  /** @param {uPlot} chart */
  #onSelect(chart) {
    const { left, width } = chart.select;
    if (width < 6) return;
    const [from, until] = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
    chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.#about.onZoom(Math.floor(from), Math.ceil(until));
  }

  /** Pick the step below the cursor. */
  #pick() {
    const time = this.#cursor === null ? undefined : this.#shown.times[this.#cursor];
    if (time !== undefined) this.#about.onPick(time);
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const length = this.#shown.times.length;
    const place = moved(event.key, this.#cursor ?? length, length);
    if (event.key === "Enter" || event.key === " ") this.#pick();
    else if (event.key === "+" && this.#cursor !== null) this.#about.onZoom(...closer(this.#shown, this.#shown.times[this.#cursor]));
    else if (place !== null) this.#moveTo(place);
    else return;
    event.preventDefault();
  }

  /** @param {number | null} place */
  #moveTo(place) {
    const chart = this.#plot.chart;
    if (!chart) return;
    const left = place === null ? -10 : chart.valToPos(this.#shown.times[place], "x");
    chart.setCursor({ left, top: place === null ? -10 : chart.over.clientHeight / 2 });
    this.#cursor = place;
    this.#showValues();
  }

  /** Show the values below the cursor, or else the last ones. */
  #showValues() {
    const { times, values, step, until } = this.#shown;
    const at = this.#cursor ?? lastPlace(times, until, step);
    const texts = values.map((line) => {
      const value = line[at] ?? null;
      return value === null ? "–" : this.#about.format(value);
    });
    texts.forEach((text, index) => setText(this.#values[index], text));
    const time = times[at];
    setText(this.#labels, this.#cursor === null || time === undefined ? "" : moment(time));
    if (time === undefined) return;
    const spoken = this.#about.lines.map(({ name }, index) => `${name} ${texts[index]}`).join(", ");
    setAttribute(this.#root, "aria-valuenow", String(at));
    setAttribute(this.#root, "aria-valuetext", `${moment(time)}: ${spoken}`);
  }

  /** @param {HTMLButtonElement} toggle */
  #toggle(toggle) {
    const isOpen = this.#tableRoot.hidden;
    this.#tableRoot.hidden = !isOpen;
    toggle.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) this.#fillTable();
  }

  #fillTable() {
    const { lines, format, title } = this.#about;
    if (!this.#table) {
      this.#table = new Table(title, [{ name: "From" }, ...lines.map(({ name }) => ({ name, number: true }))]);
      this.#tableRoot.append(this.#table.element);
    }
    const { times, step, values } = this.#shown;
    const rows = times.map((time, index) => ({
      key: String(time),
      cells: [
        step >= 86_400 ? clock(time, step) : moment(time),
        ...values.map((line) => (line[index] === null || line[index] === undefined ? "–" : format(line[index]))),
      ],
    }));
    this.#table.show(rows.reverse());
  }
}

/**
 * Return the place of the last step that is over, so that the values do not begin at nothing with each step.
 * @param {number[]} times
 * @param {number} until
 * @param {number} step
 */
function lastPlace(times, until, step) {
  return nearest(times, until - 2 * step);
}
