// The documentation's search, and the buttons that copy code. Without it every page reads and links as well.

import { found, ranked, words } from "./docs-search.js";

/** @typedef {import("./docs-search.js").Section} Section */

/**
 * @template {Element} T
 * @param {string} selector
 * @param {new () => T} kind
 * @returns {T}
 */
function part(selector, kind) {
  const element = document.querySelector(selector);
  if (!(element instanceof kind)) throw new TypeError(`the page has no ${selector}`);
  return element;
}

const search = part("search", HTMLElement);
const query = part("#query", HTMLInputElement);
const results = part("#results", HTMLOListElement);
const status = part("#found", HTMLElement);
const pages = part(".pages", HTMLDetailsElement);

/** @type {Promise<Section[]> | undefined} */
let loading;

/** Loads what is searched, once somebody begins to. */
function index() {
  loading ??= fetch("search.json").then((answer) => {
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  });
  loading.catch(() => (loading = undefined)); // the next letter tries again
  return loading;
}

/** @param {Section} section @param {string[]} sought */
function result([page, title, anchor, heading, text], sought) {
  const link = document.createElement("a");
  link.href = `${page || "./"}#${anchor}`;
  const name = document.createElement("strong");
  name.textContent = heading === title ? title : `${title}: ${heading}`;
  const words = document.createElement("span");
  for (const { text: piece, isFound } of found(text, sought)) {
    const shown = isFound ? document.createElement("mark") : document.createTextNode(piece);
    if (isFound) shown.textContent = piece;
    words.append(shown);
  }
  link.append(name, words);
  const item = document.createElement("li");
  item.append(link);
  return item;
}

async function show() {
  const asked = query.value;
  const sought = words(asked);
  if (sought.length === 0) {
    close();
    return;
  }
  try {
    const sections = ranked(await index(), sought);
    if (query.value !== asked) return; // another letter has come
    results.replaceChildren(...sections.map((section) => result(section, sought)));
    status.textContent = sections.length === 1 ? "1 result" : `${sections.length} results`;
    if (sections.length === 0) tell(`Nothing is found for “${asked.trim()}”.`);
  } catch {
    tell("The server does not answer.");
  }
}

/** @param {string} sentence */
function tell(sentence) {
  const item = document.createElement("li");
  const line = document.createElement("p");
  line.textContent = sentence;
  item.append(line);
  results.replaceChildren(item);
  status.textContent = sentence;
}

function close() {
  results.replaceChildren();
  status.textContent = "";
}

/** Moves the focus among the field and the results. @param {KeyboardEvent} event */
function move(event) {
  const stops = [query, ...results.querySelectorAll("a")];
  const at = stops.findIndex((stop) => stop === document.activeElement);
  if (event.key === "ArrowDown") stops[Math.min(at + 1, stops.length - 1)].focus();
  else if (event.key === "ArrowUp") stops[Math.max(at - 1, 0)].focus();
  else if (event.key === "Enter" && document.activeElement === query) results.querySelector("a")?.click();
  else if (event.key === "Escape") {
    query.value = "";
    close();
    query.focus();
  } else return;
  event.preventDefault();
}

/** @param {HTMLElement} frame */
function copyable(frame) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(frame.querySelector("code")?.textContent ?? "");
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  frame.append(button);
}

/** What is wider than the page can be scrolled by keyboard. */
function reach() {
  for (const each of document.querySelectorAll(".table, .code pre")) {
    const isWide = each.scrollWidth > each.clientWidth;
    if (isWide) each.setAttribute("tabindex", "0");
    else each.removeAttribute("tabindex");
  }
}

const isNarrow = matchMedia("(max-width: 55.99rem)");
const fold = () => (pages.open = !isNarrow.matches);
isNarrow.addEventListener("change", fold);
fold();
const current = pages.querySelector("a[aria-current]");
if (current instanceof HTMLElement) pages.scrollTop = current.offsetTop - pages.clientHeight / 2; // the list, not the page

for (const frame of document.querySelectorAll(".code")) copyable(/** @type {HTMLElement} */ (frame));
for (const heading of document.querySelectorAll("article :is(h2, h3, h4)[id]")) {
  const link = document.createElement("a");
  link.className = "anchor";
  link.href = `#${heading.id}`;
  link.textContent = "#";
  link.setAttribute("aria-label", `Link to ${heading.textContent}`);
  heading.append(link);
}
new ResizeObserver(reach).observe(document.body);

search.hidden = false;
if (matchMedia("(hover: hover)").matches) query.placeholder = "Search (press /)";
query.addEventListener("focus", () => void index().catch(() => undefined));
query.addEventListener("input", () => void show());
search.addEventListener("keydown", move);
search.addEventListener("focusout", (event) => {
  if (!(event.relatedTarget instanceof Node && search.contains(event.relatedTarget))) close();
});
query.addEventListener("focus", () => void show());
results.addEventListener("click", close);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || document.activeElement === query) return;
  event.preventDefault();
  query.focus();
});
