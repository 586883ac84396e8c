// @ts-check
/** The dashboard: reads the figures, keeps them up to date over a WebSocket, and shows them. */

import { askForKey, forgetKey, keepKey, storedKey } from "../key-form.js";
import { get, ServerError } from "./api.js";
import { Cards } from "./cards.js";
import { Charts } from "./charts.js";
import { forgetColours } from "./colours.js";
import { byId, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { FilterBar } from "./filter-bar.js";
import { isSame, parsed, query, watched } from "./filters.js";
import { Headline } from "./headline.js";
import { Requests } from "./requests.js";
import { StoryDialog } from "./story.js";
import { Table } from "./table.js";
import { connectThemeSwitch } from "./theme-switch.js";
import { clock, percentage } from "./units.js";
import { COLUMNS, waterfallNotes, waterfallRows } from "./waterfall.js";

/** @typedef {import("./contract.js").Figures} Figures */
/** @typedef {import("./contract.js").Now} Now */
/** @typedef {import("./contract.js").Promises} Promises */
/** @typedef {import("./filters.js").Shown} Shown */

const PROMISES_MS = 60_000; // they change slowly, and take a second to reckon
const POLL_MS = 15_000; // while there is no live feed

const main = byId("main");
const pause = byId("pause");
let shown = parsed(location.search);
let seesAll = false;
/** @type {Figures | null} */
let figures = null;
/** @type {AbortController | null} */
let reading = null;
let isLocked = false; // a key is asked for
let isRefused = false; // the live feed, not the figures

const headline = new Headline();
const charts = new Charts(byId("charts"), openStory, (from, until) => change({ since: String(from), until: String(until) }));
const cards = new Cards(byId("beside"), byId("panels"), change);
const waterfall = new Table("What each lever saved", COLUMNS);
waterfall.element.classList.add("waterfall");
byId("waterfall").append(waterfall.element);
const requests = new Requests(openStory);
const story = new StoryDialog(closeStory);
const bar = new FilterBar(shown, change);
const feed = new Feed(shown, storedKey, {
  onState: showState,
  onHello: (hello) => {
    seesAll = hello.sees_all;
    cards.seeAll(seesAll);
  },
  onFigures: showFigures,
  onTick: (tick) => {
    headline.showTick(tick);
    requests.showTick(tick);
    if (tick.now) showNow(tick.now);
  },
  onError: showProblem,
  onRefused: showRefused,
});

connectThemeSwitch(/** @type {HTMLSelectElement} */ (byId("theme")), () => {
  forgetColours();
  charts.recolour();
});
pause.addEventListener("click", () => {
  const isPaused = pause.getAttribute("aria-pressed") === "true";
  pause.setAttribute("aria-pressed", String(!isPaused));
  setText(pause, isPaused ? "Pause" : "Resume");
  if (isPaused) feed.start();
  else feed.pause();
});
byId("again").addEventListener("click", () => void start());
byId("wider").addEventListener("click", () => change({ since: "30d", until: "", model: "", tag: "" }));
addEventListener("popstate", () => apply(parsed(location.search)));
setInterval(() => void readPromises(), PROMISES_MS);
setInterval(() => {
  if (feed.isOpen || isLocked || document.hidden || pause.getAttribute("aria-pressed") === "true") return;
  if (figures) {
    void readFigures();
    void requests.refresh();
  } else if (main.ariaBusy === "false") void start(); // the first figures did not come
}, POLL_MS);
void start();

/** Read everything; ask for a key until the server takes one. */
async function start() {
  isRefused = false;
  if (!(await readFigures())) return;
  feed.watch(shown);
  feed.start();
  void readPromises();
  void requests.load(shown);
  if (shown.request) void story.open(shown.request);
}

/**
 * Show something else, and put it into the URL.
 * @param {Partial<Shown>} changed
 * @param {{isStory: true} | null} [state] Kept with the URL.
 */
function change(changed, state = null) {
  const next = { ...shown, ...changed };
  if (query(next) === query(shown)) return;
  const written = query(next);
  history.pushState(state, "", written ? `?${written}` : location.pathname);
  apply(next);
}

/** @param {Shown} next */
function apply(next) {
  const before = shown;
  shown = next;
  bar.show(shown);
  const hasMoved = !isSame(before, shown);
  if (hasMoved) {
    feed.watch(shown);
    if (feed.isOpen) main.ariaBusy = "true";
    else void readFigures();
    if (before.tenant !== shown.tenant) void readPromises();
  }
  if (hasMoved || before.status !== shown.status || before.source !== shown.source) void requests.load(shown);
  if (shown.request && shown.request !== before.request) void story.open(shown.request);
  if (!shown.request && before.request) story.close();
}

/** @param {string} id */
function openStory(id) {
  change({ request: id }, { isStory: true });
}

/** The story was closed. One that was opened from this page is left as Back would, so that Back does not open it again. */
function closeStory() {
  if (shown.request && history.state?.isStory) history.back();
  else change({ request: "" });
}

/** Read figures over HTTP. Return whether they came. */
async function readFigures() {
  reading?.abort();
  const { signal } = (reading = new AbortController());
  main.ariaBusy = "true";
  for (;;) {
    try {
      const asked = new URLSearchParams(/** @type {Record<string, string>} */ (defined(watched(shown))));
      const [read, now] = await Promise.all([get("figures", asked.toString(), signal), get("now", "", signal)]);
      showFigures(/** @type {Figures} */ (read));
      showNow(/** @type {Now} */ (now));
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      if (!(error instanceof ServerError)) throw error;
      if (error.code !== "unauthorized" && error.code !== "forbidden") {
        showProblem(error);
        return false;
      }
      await newKey(error);
    }
  }
}

/**
 * Ask for another key, and wait for it.
 * @param {ServerError} error
 */
async function newKey(error) {
  const hadKey = storedKey() !== null;
  forgetKey();
  isLocked = true;
  showStatus("locked", "A key is needed");
  const refused = error.code === "forbidden" ? `This key may not see the dashboard: ${error.message}.` : "The server does not take this key.";
  main.hidden = true;
  byId("problem").hidden = true;
  keepKey(await askForKey(hadKey || error.code === "forbidden" ? refused : "", main));
  isLocked = false;
  main.hidden = false;
  showStatus("connecting", "Connecting…");
}

async function readPromises() {
  if (!figures || document.hidden) return;
  const asked = new URLSearchParams({ since: shown.since === "30d" ? "30d" : "7d" });
  if (shown.tenant) asked.set("tenant", shown.tenant);
  try {
    const promises = /** @type {Promises} */ (await get("promises", asked.toString()));
    headline.showPromises(promises.promises);
    cards.showPromises(promises);
  } catch (error) {
    if (!(error instanceof ServerError)) throw error; // it is tried again; the rest of the page has its own errors
  }
}

/** @param {Figures} read */
function showFigures(read) {
  figures = read;
  if (!isRefused) byId("problem").hidden = true;
  const isEmpty = read.total.requests === 0;
  byId("empty").hidden = !isEmpty || read.rollup.behind > 0;
  main.toggleAttribute("data-empty", isEmpty);
  headline.show(read);
  waterfall.show(waterfallRows(read.total.waterfall));
  setText(byId("waterfall-notes"), waterfallNotes(read.total.waterfall));
  charts.show(read);
  cards.show(read);
  bar.offer(read, seesAll);
  showBehind(read.rollup);
  main.ariaBusy = "false";
}

/** @param {Now} now */
function showNow(now) {
  headline.showNow(now);
  cards.showNow(now);
}

/** @param {Figures["rollup"]} rollup */
function showBehind({ behind, of }) {
  byId("behind").hidden = behind === 0;
  if (!behind) return;
  const share = of ? 1 - behind / of : 0;
  setText(byId("behind-text"), `The ledger is being read: ${percentage(share)} of ${of.toLocaleString("en-US")} requests are in these figures.`);
  /** @type {HTMLProgressElement} */ (byId("behind-progress")).value = share;
}

/** @param {{code: string, message: string}} error */
function showProblem({ code, message }) {
  main.ariaBusy = "false";
  byId("problem").hidden = false;
  setText(byId("problem-text"), message);
  if (!figures) {
    main.toggleAttribute("data-empty", true);
    showStatus("waiting", "No figures");
  }
  if (code === "connection_failed") showStatus("waiting", "Not connected");
}

/** @param {{code: string, message: string}} error */
function showRefused({ code, message }) {
  if (code === "unauthorized") return void start(); // the key was revoked
  isRefused = true;
  showProblem({ code, message: `There is no live feed: ${message}. The figures are read every ${POLL_MS / 1000} s.` });
  showStatus("waiting", "Not live");
  main.removeAttribute("data-stale");
}

/** @param {import("./feed.js").FeedState} feedState */
function showState(feedState) {
  const since = figures ? `; figures of ${clock(figures.now, 1)}` : "";
  const texts = {
    connecting: "Connecting…",
    connected: "Live",
    paused: `Paused${since}`,
    waiting: `Connection lost, retrying in ${"ms" in feedState ? Math.ceil(feedState.ms / 1000) : 0} s${since}`,
  };
  showStatus(feedState.state, texts[feedState.state]);
}

/**
 * @param {string} state
 * @param {string} text
 */
function showStatus(state, text) {
  const link = byId("link");
  link.dataset.state = state;
  setText(link, text);
  main.toggleAttribute("data-stale", state === "waiting");
}

/**
 * Return what is not null.
 * @param {Record<string, string | null>} fields
 */
function defined(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));
}
