// @ts-check
/** What scrolls sideways must be reached by keyboard; what does not is no stop on the way. */

import { setAttribute } from "./dom.js";

const watching = new ResizeObserver((entries) => {
  for (const { target } of entries) look(target.closest(".scroll"));
});

/**
 * Make an element a stop of the keyboard for as long as it scrolls.
 * @template {HTMLElement} T
 * @param {T} element With the class `scroll`, and one table.
 * @param {string} name
 * @returns {T}
 */
export function scrolling(element, name) {
  element.dataset.name = name;
  watching.observe(element);
  if (element.firstElementChild) watching.observe(element.firstElementChild);
  return element;
}

/** @param {Element | null} element */
function look(element) {
  if (!element) return;
  const scrolls = element.scrollWidth > element.clientWidth + 1;
  setAttribute(element, "tabindex", scrolls ? "0" : null);
  setAttribute(element, "role", scrolls ? "region" : null);
  setAttribute(element, "aria-label", scrolls ? (/** @type {HTMLElement} */ (element).dataset.name ?? null) : null);
}
