// @ts-check
/** What all charts share: axes, colours, size, and drawing only while they are seen or have the keyboard. Charts are drawn by uPlot. */

import { colour } from "./colours.js";
import { clock } from "./units.js";

/** @typedef {uPlot.Options} Options */
/** @typedef {uPlot.AlignedData} Data */

const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const CLOSE = 74; // pixels between two times on the axis

/**
 * The axes of a chart over time.
 * @param {(value: number) => string} format Of the values.
 * @param {number} width Of the values' axis, in pixels.
 * @returns {NonNullable<Options["axes"]>}
 */
export function axes(format, width) {
  const common = {
    font: FONT,
    stroke: () => colour("quiet"),
    grid: { stroke: () => colour("line"), width: 1 },
    ticks: { show: false },
  };
  return [
    {
      ...common,
      space: CLOSE,
      size: 24,
      grid: { show: false },
      values: (_, times) => {
        const step = times.length > 1 ? times[1] - times[0] : 60;
        return times.map((time) => clock(time, step));
      },
    },
    { ...common, size: width, space: 32, values: (_, values) => values.map((value) => (value === null ? "" : format(value))) },
  ];
}

export class Plot {
  /** @type {uPlot | null} */
  chart = null;

  #root;
  #options;
  /** @type {Data | null} */
  #data = null;
  #isSeen = false;
  #isOld = false; // the data on the canvas are not the last ones

  /**
   * @param {HTMLElement} root
   * @param {Omit<Options, "width" | "height">} options
   */
  constructor(root, options) {
    this.#root = root;
    this.#options = options;
    new IntersectionObserver((entries) => {
      this.#isSeen = entries[entries.length - 1].isIntersecting;
      if (this.#isSeen && this.#isOld) this.#draw();
    }, { rootMargin: "100px" }).observe(root);
    new ResizeObserver(() => this.#resize()).observe(root);
    root.addEventListener("focus", () => this.#isOld && this.#draw()); // keys may come before the observer has seen it
  }

  /** @param {Data} data */
  show(data) {
    this.#data = data;
    this.#isOld = true;
    if ((this.#isSeen || document.activeElement === this.#root) && !document.hidden) this.#draw();
  }

  /** Draw again in other colours. */
  recolour() {
    this.chart?.redraw(false, true);
  }

  #draw() {
    if (!this.#data || !this.#root.clientWidth) return;
    this.#isOld = false;
    if (this.chart) this.chart.setData(this.#data);
    else this.chart = new uPlot({ ...this.#options, ...this.#size() }, this.#data, this.#root);
  }

  #resize() {
    const size = this.#size();
    if (!this.chart) this.#draw();
    else if (size.width && (size.width !== this.chart.width || size.height !== this.chart.height)) this.chart.setSize(size);
  }

  #size() {
    return { width: this.#root.clientWidth, height: this.#root.clientHeight };
  }
}
