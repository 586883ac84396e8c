// @ts-check
/** The page: a question goes out, its answer streams in. One at a time; the wire could do more. */

import { openDoor } from "./key-form.js";
import { History } from "./history.js";
import { Link } from "./reconnect.js";
import { MillraceError } from "./millrace.js";
import { settle } from "./summary.js";
import { element, View } from "./view.js";

/** @typedef {import("./millrace.js").Answer} Answer */
/** @typedef {import("./reconnect.js").LinkState} LinkState */
/** @typedef {import("./summary.js").Settled} Settled */

const FIRST = ["response.output_text.delta", "response.refusal.delta"];

const question = /** @type {HTMLTextAreaElement} */ (element("question"));
const askButton = /** @type {HTMLButtonElement} */ (element("ask"));
const stopButton = /** @type {HTMLButtonElement} */ (element("stop"));
const view = new View();
const past = new History(suggest);
const link = new Link(open, showLink);
/** @type {Answer | null} */
let running = null;

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void ask();
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  void ask();
});
stopButton.addEventListener("click", stop);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});
for (const chip of document.querySelectorAll(".chip")) {
  chip.addEventListener("click", () => suggest(/** @type {HTMLElement} */ (chip).dataset.question ?? ""));
}
void link.keep();

/** Connect; a page that may not is told why, and tries again: someone may be changing the configuration. */
async function open() {
  try {
    return await openDoor({ onState: showState, locked: showLocked });
  } catch (error) {
    if (error instanceof MillraceError && error.code === "forbidden") view.fault(error);
    throw error;
  }
}

async function ask() {
  const text = question.value.trim();
  if (!text || running || !link.client) return;
  const options = { strategy: choice("strategy"), delivery: choice("delivery"), cache: choice("cache") };
  view.begin(text, options.cache);
  running = link.client.stream(text, { millrace: options });
  showControls();
  try {
    past.add(await follow(running, text));
  } finally {
    running = null;
    showControls();
  }
}

/**
 * Show an answer to its end, and return what it came to.
 * @param {Answer} answer
 * @param {string} text
 * @returns {Promise<Settled>}
 */
async function follow(answer, text) {
  const started = performance.now();
  /** @type {number | null} */
  let firstMs = null;
  let fault = null;
  try {
    for await (const event of answer) {
      if (FIRST.includes(event.type) && firstMs === null) {
        firstMs = performance.now() - started;
        view.firstWord(firstMs);
      }
      view.show(event, answer);
    }
    fault = (await answer.done).error;
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error;
    fault = error;
  }
  const settled = settle(text, answer, fault, { firstMs, totalMs: performance.now() - started });
  view.end(settled, answer);
  if (fault) view.fault(fault);
  return settled;
}

function stop() {
  if (!running) return;
  running.cancel();
  view.stopping();
}

/**
 * Put a question into the box, and ask it unless another one runs.
 * @param {string} text
 */
function suggest(text) {
  question.value = text;
  question.focus();
  void ask();
}

/** @param {string} id */
function choice(id) {
  return /** @type {HTMLSelectElement} */ (element(id)).value;
}

/** A button that goes grey would drop the keyboard's focus, so it hands it to the other one. */
function showControls() {
  const focused = document.activeElement;
  askButton.disabled = running !== null || !link.client;
  stopButton.disabled = running === null;
  if (focused === askButton && running) stopButton.focus();
  if (focused === stopButton && !running) askButton.focus();
}

/** @param {LinkState} link */
function showLink(link) {
  const words = {
    connecting: "Connecting…",
    connected: "Connected",
    waiting: `Connection lost; trying again in ${"ms" in link ? Math.ceil(link.ms / 1000) : 0} s`,
  };
  say(link.state, words[link.state]);
}

/** @param {import("./millrace.js").State} state What the client says while the link is up. */
function showState(state) {
  if (state === "draining") say(state, "Server restarts, reconnecting…");
  if (state === "connected") say(state, "Connected");
}

function showLocked() {
  say("locked", "A key is needed");
}

/**
 * @param {string} state
 * @param {string} words
 */
function say(state, words) {
  const place = element("link");
  place.dataset.state = state;
  place.textContent = words;
  showControls();
}
