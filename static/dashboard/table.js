// @ts-check
/**
 * A table whose rows stay the same elements while their numbers change, so that focus, hover and selection survive, and
 * only what has changed is drawn again.
 */

import { make, setAttribute, setText } from "./dom.js";

/**
 * @typedef {{name: string, number?: boolean, hidden?: boolean}} Column `hidden` shows its name to screen readers only.
 *
 * @typedef {object} Bar A bar from one share of the cell's width to another.
 * @property {number} from From 0 to 1.
 * @property {number} to From 0 to 1.
 * @property {string} tone
 * @property {number} [mark] A share of the width that a line marks, such as a promise.
 *
 * @typedef {object} Cell
 * @property {string} [text]
 * @property {string} [note] A second, quieter line.
 * @property {string} [tone] The colour of the text.
 * @property {string} [badge] The text is a badge of this kind.
 * @property {Bar} [bar]
 * @property {boolean} [opens] The text is a button that opens the row.
 *
 * @typedef {{key: string, cells: (Cell | string)[], tone?: string}} Row
 */

export class Table {
  /** The table's element. */
  element;

  #columns;
  #body = make("tbody");
  /** @type {Map<string, HTMLTableRowElement>} */
  #rows = new Map();
  #onOpen;

  /**
   * @param {string} caption For screen readers.
   * @param {Column[]} columns
   * @param {((key: string) => void) | null} [onOpen] Opens a row that is clicked.
   */
  constructor(caption, columns, onOpen = null) {
    this.#columns = columns;
    this.#onOpen = onOpen;
    const heads = columns.map(({ name, number, hidden }) =>
      make("th", { scope: "col", class: number ? "number" : undefined }, hidden ? make("span", { class: "unseen" }, name) : name),
    );
    this.element = make(
      "table",
      { class: onOpen ? "opens" : undefined },
      make("caption", { class: "unseen" }, caption),
      make("thead", null, make("tr", null, ...heads)),
      this.#body,
    );
    if (onOpen) this.#body.addEventListener("click", (event) => this.#open(event));
  }

  /** @param {Row[]} rows Each with a key of its own. */
  show(rows) {
    const before = this.#rows;
    this.#rows = new Map();
    /** @type {ChildNode | null} */
    let place = this.#body.firstChild;
    for (const row of rows) {
      const element = before.get(row.key) ?? this.#make(row);
      before.delete(row.key);
      this.#rows.set(row.key, element);
      this.#fill(element, row);
      if (element === place) place = place.nextSibling;
      else this.#body.insertBefore(element, place);
    }
    for (const gone of before.values()) gone.remove();
  }

  /** @param {Event} event */
  #open(event) {
    const target = /** @type {Element} */ (event.target);
    const key = target.closest("tr")?.dataset.key;
    const isSelecting = !target.closest("button") && getSelection()?.toString(); // a text of the row, by the mouse
    if (key !== undefined && !isSelecting) this.#onOpen?.(key);
  }

  /** @param {Row} row */
  #make({ key }) {
    const element = make("tr", { "data-key": key });
    this.#columns.forEach(({ name, number }, index) => {
      const tag = index === 0 ? "th" : "td";
      const scope = index === 0 ? "row" : undefined;
      element.append(make(tag, { scope, class: number ? "number" : undefined, "data-name": name }));
    });
    return element;
  }

  /**
   * @param {HTMLTableRowElement} element
   * @param {Row} row
   */
  #fill(element, { cells, tone }) {
    setAttribute(element, "data-tone", tone ?? null);
    for (const [index, cell] of [...element.children].entries()) {
      const given = cells[index] ?? ""; // what is not known of a row is left out
      fill(/** @type {HTMLElement} */ (cell), typeof given === "string" ? { text: given } : given);
    }
  }
}

/**
 * @param {HTMLElement} element
 * @param {Cell} cell
 */
function fill(element, { text = "", note = "", tone, badge, bar, opens }) {
  if (bar) {
    const bars = part(element, "bar", () => make("span", { class: "bar", "aria-hidden": "true" }, make("i"), make("b")));
    setAttribute(bars, "data-tone", bar.tone);
    place(bars, bar);
  }
  const shown = part(element, "text", () =>
    opens ? make("button", { type: "button", class: "text open" }) : make("span", { class: "text" }),
  );
  setText(shown, text);
  setAttribute(shown, "data-badge", badge ?? null);
  setAttribute(shown, "data-tone", tone ?? null);
  if (note || element.querySelector(":scope > .note")) {
    setText(part(element, "note", () => make("span", { class: "note" })), note);
  }
}

/**
 * Return the part of a cell with a class; it is made if it is not there yet.
 * @param {HTMLElement} cell
 * @param {string} name
 * @param {() => HTMLElement} made
 */
function part(cell, name, made) {
  for (const child of cell.children) if (child.classList.contains(name)) return /** @type {HTMLElement} */ (child);
  const added = made();
  cell.append(added);
  return added;
}

/**
 * Set where a bar begins and ends. The style is set by script, which a strict CSP allows.
 * @param {HTMLElement} element
 * @param {Bar} bar
 */
function place(element, { from, to, mark }) {
  const low = Math.max(0, Math.min(from, to));
  const high = Math.min(1, Math.max(from, to));
  const style = element.style;
  set(style, "--from", `${(low * 100).toFixed(2)}%`);
  set(style, "--width", `${((high - low) * 100).toFixed(2)}%`);
  set(style, "--mark", mark === undefined ? "" : `${(Math.min(1, mark) * 100).toFixed(2)}%`);
  element.classList.toggle("marked", mark !== undefined);
}

/**
 * @param {CSSStyleDeclaration} style
 * @param {string} name
 * @param {string} value
 */
function set(style, name, value) {
  if (style.getPropertyValue(name) !== value) style.setProperty(name, value);
}
