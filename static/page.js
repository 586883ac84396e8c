// @ts-check
/** The page: sends a question and streams its answer, one request at a time. */

import { CodePanel } from "./code-panel.js";
import { connectThemeSwitch } from "./dashboard/theme-switch.js";
import { follow } from "./follow.js";
import { History } from "./history.js";
import { connectWithKey, storedKey } from "./key-form.js";
import { MillraceError } from "./millrace.js";
import { ModelNotice } from "./models.js";
import { Reconnector } from "./reconnect.js";
import { SideBySide } from "./side-by-side.js";
import { Thread } from "./thread.js";
import { Today } from "./today.js";
import { element, textElement, View } from "./view.js";

/** @typedef {import("./millrace.js").Answer} Answer */
/** @typedef {import("./millrace.js").Client} Client */
/** @typedef {import("./reconnect.js").ReconnectState} ReconnectState */
/** @typedef {"ask" | "chat" | "race"} Mode One question, a conversation, or two answers side by side. */

const LOOK_EVERY_MS = 10_000; // at how the models fare, and at the day

const question = /** @type {HTMLTextAreaElement} */ (element("question"));
const askButton = /** @type {HTMLButtonElement} */ (element("ask"));
const stopButton = /** @type {HTMLButtonElement} */ (element("stop"));
const cachePicker = /** @type {HTMLSelectElement} */ (element("cache"));
const view = new View();
const sides = new SideBySide();
const thread = new Thread();
const requests = new History(suggest);
const models = new ModelNotice();
const today = new Today();
const reconnector = new Reconnector(open, showConnection);
/** @type {Mode} */
let mode = "ask";
/** @type {Answer[]} */
let running = [];
let cacheOfOne = cachePicker.value; // what is chosen for one answer; side by side begins without the cache
const code = new CodePanel(call);

connectThemeSwitch(/** @type {HTMLSelectElement} */ (element("theme")), () => {});
for (const radio of document.querySelectorAll("[name=mode]")) {
  radio.addEventListener("change", () => choose(/** @type {Mode} */ (/** @type {HTMLInputElement} */ (radio).value)));
}
element("anew").addEventListener("click", () => {
  thread.clear();
  showControls();
  code.show();
  question.focus();
});
element("model").addEventListener("change", () => {
  /** @type {HTMLSelectElement} */ (element("strategy")).disabled = choice("model") !== "auto";
});
for (const type of ["input", "change"]) element("form").addEventListener(type, () => code.show());
element("race").addEventListener("change", () => code.show());
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
addEventListener("pageshow", () => {
  const chosen = /** @type {HTMLInputElement} */ (document.querySelector("[name=mode]:checked"));
  choose(/** @type {Mode} */ (chosen.value)); // who comes back finds what was chosen: the browser has restored it
  code.show();
});
setInterval(() => {
  if (reconnector.client) look();
}, LOOK_EVERY_MS);
void reconnector.run();

/** Connect. `forbidden` is shown as an error; the page keeps trying, as the configuration may change. */
async function open() {
  try {
    const client = await connectWithKey({ tries: Infinity, onState: showState, onKeyNeeded: showKeyNeeded });
    look();
    void listModels();
    return client;
  } catch (error) {
    if (error instanceof MillraceError && error.code === "forbidden") view.showError(error);
    throw error;
  }
}

async function ask() {
  const text = question.value.trim();
  const { client } = reconnector;
  if (!text || running.length || !client) return;
  try {
    await (mode === "race" ? askBoth(client, text) : askOne(client, text));
  } finally {
    running = [];
    showControls();
    code.show();
    look();
  }
}

/**
 * @param {Client} client
 * @param {string} text
 */
async function askOne(client, text) {
  if (mode === "chat") thread.moveUp();
  else thread.clear();
  const { input, model, options } = call();
  view.begin(text, options.cache);
  if (mode === "chat") question.value = "";
  const answer = client.stream(input, { model, millrace: options });
  running = [answer];
  showControls();
  const summary = await follow(answer, text, view);
  requests.add(summary);
  thread.add(summary, answer.text);
}

/**
 * Ask both ways at once.
 * @param {Client} client
 * @param {string} text
 */
async function askBoth(client, text) {
  element("raced").textContent = text;
  sides.begin();
  running = sides.runners.map(({ strategy }) => client.stream(text, { millrace: { ...choices(), strategy } }));
  showControls();
  const follows = running.map(async (answer, index) => requests.add(await follow(answer, text, sides.runners[index])));
  await Promise.all(follows);
}

/**
 * The call that is made next, or was made last.
 * @returns {import("./snippets.js").Call}
 */
function call() {
  const text = question.value.trim() || "What is a millrace?";
  const input = mode === "chat" ? thread.input(text) : text;
  const model = mode === "race" ? "auto" : choice("model");
  const strategy = mode === "race" ? sides.runners[0].strategy : choice("strategy");
  const options = { ...(model === "auto" ? { strategy } : {}), ...choices() }; // a strategy would overrule the model
  const url = new URL(".", location.href).href.replace(/\/$/, "");
  return { url, input, model, options, needsKey: storedKey() !== null };
}

function choices() {
  return { delivery: choice("delivery"), cache: choice("cache") };
}

/** @param {Mode} next */
function choose(next) {
  if (next === "race") {
    cacheOfOne = cachePicker.value;
    cachePicker.value = "off"; // else the second race would show the cache alone
  } else if (mode === "race") {
    cachePicker.value = cacheOfOne;
  }
  mode = next;
  document.body.dataset.mode = mode;
  element("talk").hidden = mode === "race";
  element("race").hidden = mode !== "race";
  element("this-request").parentElement?.toggleAttribute("hidden", mode === "race");
  if (mode === "ask") thread.clear();
  showControls();
}

/** List the names that a request may give as its model. */
async function listModels() {
  const key = storedKey();
  const headers = key ? { Authorization: `Bearer ${key}` } : undefined;
  const response = await fetch("v1/models", { headers }).catch(() => null);
  const { data = [] } = response?.ok ? await response.json().catch(() => ({})) : {};
  const picker = /** @type {HTMLSelectElement} */ (element("model"));
  const chosen = picker.value;
  const names = /** @type {{id: string}[]} */ (data).map(({ id }) => id).filter((id) => id !== "auto" && id !== "*");
  picker.replaceChildren(...["auto", ...names].map((name) => textElement("option", name)));
  picker.value = names.includes(chosen) ? chosen : "auto";
  picker.dispatchEvent(new Event("change", { bubbles: true }));
}

/** Look how the models fare, and at the day. */
function look() {
  void models.look();
  void today.look();
}

function stop() {
  if (!running.length) return;
  for (const answer of running) answer.cancel();
  if (mode !== "race") view.showStopping();
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

/** Enable the buttons. What is disabled loses the focus, so that is moved to what can be used next. */
function showControls() {
  const focused = document.activeElement;
  const isRunning = running.length > 0;
  const next = isRunning ? stopButton : reconnector.client ? askButton : question;
  askButton.disabled = isRunning || !reconnector.client;
  stopButton.disabled = !isRunning;
  element("anew").hidden = mode !== "chat" || thread.isEmpty;
  for (const radio of document.querySelectorAll("[name=mode]")) /** @type {HTMLInputElement} */ (radio).disabled = isRunning;
  if (focused?.matches("form button:disabled, [name=mode]:disabled")) next.focus();
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
