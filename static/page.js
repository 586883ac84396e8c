// @ts-check
/** The page: sends a question and streams its answer, one request at a time. */

import { History } from "./history.js";
import { connectWithKey } from "./key-form.js";
import { MillraceError } from "./millrace.js";
import { ModelNotice } from "./models.js";
import { Reconnector } from "./reconnect.js";
import { summarize } from "./summary.js";
import { element, View } from "./view.js";

/** @typedef {import("./millrace.js").Answer} Answer */
/** @typedef {import("./reconnect.js").ReconnectState} ReconnectState */
/** @typedef {import("./summary.js").Summary} Summary */

const LOOK_EVERY_MS = 10_000; // at how the models fare
const TEXT_DELTAS = ["response.output_text.delta", "response.refusal.delta"];

const question = /** @type {HTMLTextAreaElement} */ (element("question"));
const askButton = /** @type {HTMLButtonElement} */ (element("ask"));
const stopButton = /** @type {HTMLButtonElement} */ (element("stop"));
const view = new View();
const requests = new History(suggest);
const models = new ModelNotice();
const reconnector = new Reconnector(open, showConnection);
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
setInterval(() => {
  if (reconnector.client) void models.look();
}, LOOK_EVERY_MS);
void reconnector.run();

/** Connect. `forbidden` is shown as an error; the page keeps trying, as the configuration may change. */
async function open() {
  try {
    const client = await connectWithKey({ tries: Infinity, onState: showState, onKeyNeeded: showKeyNeeded });
    void models.look();
    return client;
  } catch (error) {
    if (error instanceof MillraceError && error.code === "forbidden") view.showError(error);
    throw error;
  }
}

async function ask() {
  const text = question.value.trim();
  if (!text || running || !reconnector.client) return;
  const options = { strategy: choice("strategy"), delivery: choice("delivery"), cache: choice("cache") };
  view.begin(text, options.cache);
  running = reconnector.client.stream(text, { millrace: options });
  showControls();
  try {
    requests.add(await follow(running, text));
  } finally {
    running = null;
    showControls();
    void models.look();
  }
}

/**
 * Show an answer until it ends, and return its summary.
 * @param {Answer} answer
 * @param {string} text
 * @returns {Promise<Summary>}
 */
async function follow(answer, text) {
  const started = performance.now();
  /** @type {number | null} */
  let firstMs = null;
  let failure = null;
  try {
    for await (const event of answer) {
      if (TEXT_DELTAS.includes(event.type) && firstMs === null) {
        firstMs = performance.now() - started;
        view.showFirstToken(firstMs);
      }
      view.show(event, answer);
    }
    failure = (await answer.done).error;
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error;
    failure = error;
  }
  const summary = summarize(text, answer, failure, { firstMs, totalMs: performance.now() - started });
  view.end(summary, answer);
  if (failure) view.showError(failure);
  return summary;
}

function stop() {
  if (!running) return;
  running.cancel();
  view.showStopping();
}

/**
 * Put a question into the input and ask it, unless a request is running.
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

/** Enable the buttons. A focused button that is disabled loses the focus, so it is moved to the other one. */
function showControls() {
  const focused = document.activeElement;
  askButton.disabled = running !== null || !reconnector.client;
  stopButton.disabled = running === null;
  if (focused === askButton && running) stopButton.focus();
  if (focused === stopButton && !running) askButton.focus();
}

/** @param {ReconnectState} connection */
function showConnection(connection) {
  const texts = {
    connecting: "Connecting…",
    connected: "Connected",
    waiting: `Connection lost; retrying in ${"ms" in connection ? Math.ceil(connection.ms / 1000) : 0} s`,
  };
  showStatus(connection.state, texts[connection.state]);
}

/** @param {import("./millrace.js").State} state The state of a client that was connected, and connects again by itself. */
function showState(state) {
  if (state === "draining") showStatus(state, "Server restarts, reconnecting…");
  if (state === "broken") showStatus("waiting", "Connection lost; reconnecting…");
  if (state === "connected") showStatus(state, "Connected");
}

function showKeyNeeded() {
  showStatus("locked", "A key is needed");
}

/**
 * @param {string} state
 * @param {string} text
 */
function showStatus(state, text) {
  const status = element("link");
  status.dataset.state = state;
  status.textContent = text;
  showControls();
}
