import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { Progress, STEPS } from "../../static/progress.js";
import { connect } from "../../static/millrace.js";
import { summarize } from "../../static/summary.js";
import { endSentence, healthSentence, routeText, runningSentence } from "../../static/sentences.js";
import { fetch, FakeSocket, WebSocket } from "./socket.js";

/** @typedef {import("../../static/millrace.js").Answer} Answer */
/** @typedef {Record<string, unknown>} Fields */

const SMALL = { model: "s", tier: "small" };
const LARGE = { model: "l", tier: "large" };

/**
 * A request over a wire without a network, and how it is drawn.
 * @param {string} [cache]
 */
async function asked(cache = "on") {
  const client = await connect({ url: "ws://millrace.test/v1/responses", WebSocket, fetch });
  const socket = FakeSocket.last;
  const answer = client.stream("?", { lane: "x" });
  const progress = new Progress(cache);
  const read = follow(answer, progress);
  /** @param {string} type @param {Fields} fields */
  const receive = (type, fields) => socket.receive({ type, stream_id: "x", sequence_number: 0, ...fields });
  receive("response.created", { response: { id: "resp_x", status: "in_progress", metadata: {} } });
  return {
    progress,
    answer,
    /** @param {Fields} fields */
    route: (fields) => {
      receive("millrace.route", { strategy: "auto", reason: "why", cache: "miss", score: null, ...fields });
      return settling();
    },
    /** @param {string} reason */
    revise: (reason) => {
      receive("millrace.revise", { item_id: "m", keep_through: -1, from_model: "s", to_model: "l", reason });
      return settling();
    },
    /** @param {Fields[]} attempts */
    usage: (...attempts) => {
      receive("millrace.usage", { attempts, cost_usd: 0, saved_usd: 0, tokens: 0 });
      return settling();
    },
    /** @param {string} status @param {Fields} marks @param {Fields[]} attempts @param {Fields} [more] */
    end: async (status, marks, attempts = [], more = {}) => {
      const metadata = Object.fromEntries(Object.entries(marks).map(([name, mark]) => [`millrace.${name}`, mark]));
      const type = status === "cancelled" ? "incomplete" : status;
      receive(`response.${type}`, { response: { status, metadata, usage: { attempts }, error: null, ...more } });
      await read;
      progress.end(answer.response);
    },
  };
}

/**
 * @param {Answer} answer
 * @param {Progress} progress
 */
async function follow(answer, progress) {
  for await (const event of answer) progress.take(event);
}

/** Let the reader catch up. */
function settling() {
  return new Promise((resolve) => setTimeout(resolve));
}

/** @param {string} model @param {string} outcome @param {number} [cost_usd] */
function attempt(model, outcome, cost_usd = 0.0002, estimated = false) {
  return { model, outcome, tokens: 1, cost_usd, estimated };
}

/** @param {Progress} progress */
function states({ steps }) {
  return STEPS.map((step) => steps[step].state).join(" ");
}

/** @param {Progress} progress */
function notes({ steps }) {
  return STEPS.map((step) => steps[step].note).join("|");
}

/**
 * A conversation as a server sent it, drawn to its end.
 * @param {string} name
 */
function golden(name) {
  const { events } = JSON.parse(readFileSync(new URL(`../support/captured/${name}.json`, import.meta.url), "utf8"));
  const progress = new Progress();
  for (const event of events) progress.take(event);
  progress.end(events.at(-1).response);
  return progress;
}

test("a request that falls to the small model lights it", async () => {
  const { progress, route, end } = await asked();
  assert.equal(states(progress), "working idle idle idle idle idle");
  await route(SMALL);
  assert.equal(states(progress), "past past past working working idle");
  assert.equal(runningSentence(progress), "The small model is answering.");
  await end("completed", { cache: "miss", route: "small", check: "passed", trimmed_tokens: "1234" });
  assert.equal(states(progress), "past past past answered past idle");
  assert.equal(notes(progress), "miss|no match|miss|answered|passed|not needed");
  assert.deepEqual([progress.stage, progress.cache, progress.mode, progress.trimmed], ["small", "miss", "cascade", 1234]);
  assert.equal(routeText(progress), "s · why · 1,234 tokens trimmed");
});

test("an answer from the semantic cache says how alike and how old it is", async () => {
  const { progress, route, end } = await asked();
  const found = { model: "s", tier: null, cache: "semantic", similarity: 0.9712, age_s: 300, entry_id: "sem_1" };
  await route({ ...found, reason: "asked before in other words" });
  assert.equal(runningSentence(progress), "");
  await end("completed", { cache: "semantic", route: "cache", check: "passed" });
  assert.equal(states(progress), "past past answered idle idle idle");
  assert.equal(progress.steps.semantic.note, "0.97 similar");
  assert.deepEqual([progress.stage, progress.cache], ["cache", "semantic"]);
  assert.equal(routeText(progress), "s · asked before in other words · 0.97 similar · stored 5 min ago");
});

test("a near question that falls says why", async () => {
  const { progress, route } = await asked();
  await route({ ...SMALL, reason: "small first; cache: near (0.93), but numbers differ: 5 / 10", score: 0.004 });
  assert.equal(routeText(progress), "s · small first; cache: near (0.93), but numbers differ: 5 / 10 · score 0.00");
  assert.equal(progress.steps.semantic.note, "miss");
  const told = await asked();
  await told.route({ ...SMALL, similarity: 0.934 });
  assert.equal(told.progress.steps.semantic.note, "0.93, too low");
});

test("caches that are left out stay left out", async () => {
  for (const wanted of ["off", "refresh"]) {
    const { progress, route } = await asked(wanted);
    await route(LARGE);
    assert.equal(states(progress), "past past past past past working");
    assert.equal(notes(progress), "skipped|skipped|skipped|not asked|checking|answering");
  }
});

test("nothing but the cache, and nothing in it", async () => {
  const { progress, end } = await asked("only");
  await end("failed", { cache: "miss" }, [], { error: { code: "response_not_found" } });
  assert.equal(notes(progress), "miss|skipped|nothing stored|||");
  assert.equal(progress.steps.semantic.state, "broken");
});

test("one that rides along is caught there, and the model is seen at work", async () => {
  const { progress, route, revise, end } = await asked();
  await route({ ...SMALL, cache: "joined" });
  assert.equal(notes(progress), "miss|joined|miss|answering|checking|");
  assert.equal(runningSentence(progress), "An identical request is running; the small model answers both.");
  await revise("unsure");
  await end("completed", { cache: "joined", route: "large", check: "unsure" });
  assert.equal(states(progress), "past answered past weak weak past");
  assert.equal(progress.steps.large.note, "answered both");
});

test("one that leaves the ride does not stop the model", async () => {
  const { progress, route, end } = await asked();
  await route({ ...SMALL, cache: "joined" });
  await end("cancelled", { cache: "miss" });
  assert.equal(states(progress), "past stopped past past idle idle");
  assert.equal(progress.steps.join.note, "left");
});

test("one that rides along with an answer of the semantic cache", async () => {
  const { progress, route, end } = await asked();
  await route({ model: "s", tier: null, cache: "joined", similarity: 0.97 });
  await end("completed", { cache: "joined", route: "cache" });
  assert.equal(states(progress), "past answered past idle idle idle");
  assert.equal(progress.steps.semantic.note, "answered both");
});

test("a race runs in two lanes, and the loser's is closed with what it cost", async () => {
  const { progress, answer, route, end } = await asked();
  await route({ ...SMALL, strategy: "race", reason: "asked for" });
  assert.deepEqual([progress.mode, progress.decided], ["race", false]);
  assert.equal(states(progress), "past past past working idle working");
  assert.equal(runningSentence(progress), "Both models race for the first token.");
  assert.equal(routeText(progress), "asked for");

  await route({ ...SMALL, strategy: "race", reason: "won the race: the first word; l was closed" });
  assert.equal(states(progress), "past past past working working closed");
  assert.equal(runningSentence(progress), "The small model was first and is answering.");

  const attempts = [attempt("s", "answered", 0.0001), attempt("l", "lost", 0.0003, true)];
  await end("completed", { cache: "miss", route: "small", check: "passed" }, attempts);
  assert.equal(states(progress), "past past past answered past closed");
  assert.equal(progress.steps.large.note, "closed, ≈$0.00030");
  assert.deepEqual(progress.names, { small: "s", large: "l" });

  const summary = summarize("?", answer, null, { firstMs: 1, totalMs: 2 });
  assert.deepEqual([summary.waste, summary.escalated, summary.costEstimated], [0.0003, false, true]);
});

test("the large model wins a race, also against one that failed", async () => {
  for (const [outcome, state, note] of [
    ["lost", "closed", "closed, $0.00020"],
    ["failed", "broken", "failed, $0.00020"],
  ]) {
    const { progress, route, end } = await asked();
    await route({ ...SMALL, strategy: "race" });
    await route({ ...LARGE, strategy: "race" });
    const attempts = [attempt("s", outcome), attempt("l", "answered")];
    await end("completed", { cache: "miss", route: "large", check: "passed" }, attempts);
    assert.deepEqual(progress.steps.small, { state, note });
    assert.equal(progress.steps.large.note, "answered");
  }
});

test("another deployment, and a model that stands in, are shown at the stage whose model failed", async () => {
  const { progress, route, end } = await asked();
  await route({ ...SMALL, strategy: "auto" });
  await route({ ...SMALL, strategy: "auto", reason: "s at 1 failed: answered HTTP 500; asked at 2" });
  await route({ model: "o", tier: "small", strategy: "auto", failed: [{ model: "s", code: "x", message: "m" }] });
  assert.deepEqual([progress.mode, progress.steps.small.note], ["cascade", "asked elsewhere"]);
  const attempts = [attempt("s", "failed"), attempt("s", "failed"), attempt("o", "answered")];
  await end("completed", { cache: "miss", route: "small", check: "passed" }, attempts);
  assert.deepEqual(progress.steps.small, { state: "answered", note: "answered" });
  assert.deepEqual([progress.mode, progress.steps.large.state], ["cascade", "idle"]);
});

test("the winner's weak words are taken back, and the closed model is asked again", async () => {
  const { progress, answer, route, revise, end } = await asked();
  await route({ ...SMALL, strategy: "race" });
  await route({ ...SMALL, strategy: "race" });
  await revise("unsure");
  assert.equal(progress.steps.large.note, "asked again");
  const attempts = [attempt("s", "revised", 0.0001), attempt("l", "lost", 0.0002), attempt("l", "answered")];
  await end("completed", { cache: "miss", route: "large", check: "unsure" }, attempts);
  assert.equal(states(progress), "past past past weak weak answered");
  const { waste, escalated } = summarize("?", answer, null, { firstMs: 1, totalMs: 2 });
  assert.deepEqual([waste?.toFixed(4), escalated], ["0.0003", true]);
});

test("a race that is cancelled stops in both lanes", async () => {
  const { progress, route, end } = await asked();
  await route({ ...SMALL, strategy: "race" });
  await end("cancelled", { cache: "miss", route: "large" }, [attempt("s", "cancelled"), attempt("l", "cancelled")]);
  assert.equal(states(progress), "past past past stopped idle stopped");
});

const FAILED = [{ model: "s", code: "upstream_error", message: "s answered HTTP 503: busy" }];

test("a small model that fails is broken, and the large one answers instead", async () => {
  const { progress, route, revise, end } = await asked();
  await route(SMALL);
  await revise("upstream_error");
  await route({ ...LARGE, reason: "s failed: answered HTTP 503", failed: FAILED });
  assert.equal(progress.mode, "cascade");
  assert.equal(states(progress), "past past past broken past working");
  assert.equal(runningSentence(progress), "The small model failed; the large model is answering.");
  assert.equal(routeText(progress), "s answered HTTP 503: busy · l instead");
  await end("completed", { cache: "miss", route: "large" }, [attempt("s", "failed", 0), attempt("l", "answered")]);
  assert.equal(states(progress), "past past past broken past answered");
  assert.equal(progress.steps.small.note, "failed, $0");
});

test("when the large one fails too, both are broken", async () => {
  const { progress, route, revise, end } = await asked();
  await route(SMALL);
  await revise("upstream_error");
  await route({ ...LARGE, failed: FAILED });
  await end("failed", { cache: "miss", route: "large" }, [attempt("s", "failed", 0), attempt("l", "failed", 0)]);
  assert.equal(states(progress), "past past past broken past broken");
});

test("one that is passed over has failed before", async () => {
  const { progress, route } = await asked();
  await route({ ...LARGE, failed: FAILED });
  assert.deepEqual(progress.steps.small, { state: "broken", note: "failed before" });
  assert.equal(states(progress), "past past past broken past working");
  const raced = await asked();
  await raced.route({ ...LARGE, strategy: "race", failed: FAILED });
  assert.equal(raced.progress.mode, "cascade");
});

test("one that failed in a race is broken, one that was slower is closed", async () => {
  const { progress, route } = await asked();
  await route({ ...SMALL, strategy: "race" });
  await route({ ...LARGE, strategy: "race", reason: "won the race: s failed", failed: FAILED });
  assert.equal(states(progress), "past past past broken past working");
  assert.equal(runningSentence(progress), "The small model failed; the large model is answering.");
});

test("how a model fares is told in a sentence", () => {
  const fine = { tier: "small", model: "s", failing_since: null, last_answer_at: 1, last_failure_at: null };
  const counts = { last_cause: null, failures_last_minute: 0, failures_last_5_minutes: 0, causes: {} };
  assert.equal(healthSentence({ ...fine, ...counts, status: "ok" }), "");
  assert.equal(healthSentence({ ...fine, ...counts, status: "unknown" }), "");
  const failed = { ...fine, ...counts, last_cause: "answered HTTP 503", failures_last_minute: 1 };
  const lately = { ...failed, failures_last_5_minutes: 1200 };
  assert.equal(healthSentence({ ...lately, status: "degraded" }), "s failed once within the last minute: answered HTTP 503.");
  const since = new Date(2026, 10, 28, 9, 5).getTime() / 1000;
  const told = healthSentence({ ...lately, status: "failing", failing_since: since });
  const shape = /^s fails since 0?9.05.*: answered HTTP 503 \(1,200 failures in the last 5 minutes\)\.$/;
  assert.ok(shape.test(told), told);
});

test("a hedge has one lane until the large model is started", async () => {
  const { progress, route, usage, end } = await asked();
  await route({ ...SMALL, strategy: "hedge" });
  await usage(attempt("s", "running"));
  assert.equal(progress.mode, "cascade");
  await usage(attempt("s", "running"), attempt("l", "running"));
  assert.equal(progress.mode, "race");
  assert.equal(states(progress), "past past past working idle working");
  assert.equal(runningSentence(progress), "Both models race for the first token.");
  await route({ ...LARGE, strategy: "hedge" });
  await end("completed", { cache: "miss", route: "large" }, [attempt("s", "lost"), attempt("l", "answered")]);
  assert.equal(states(progress), "past past past closed past answered");
});

test("a hedge whose small model is quick stays in one lane, even when it is taken back", async () => {
  const { progress, route, revise, end } = await asked();
  await route({ ...SMALL, strategy: "hedge" });
  await revise("empty");
  await end("completed", { cache: "miss", route: "large" }, [attempt("s", "revised"), attempt("l", "answered")]);
  assert.equal(progress.mode, "cascade");
  assert.equal(progress.steps.check.note, "said nothing");
});

test("the models' names are remembered for the next request", () => {
  assert.deepEqual(new Progress("on", golden("raced").names).names, {
    small: "small-fast-model",
    large: "large-strong-model",
  });
});

test("the goldens are drawn as they went", () => {
  assert.equal(states(golden("cached")), "answered idle idle idle idle idle");
  assert.equal(states(golden("joined")), "past answered past past past idle");
  assert.equal(states(golden("raced")), "past past past answered past closed");
  assert.equal(states(golden("revised")), "past past past weak weak answered");
  assert.equal(states(golden("cancelled")), "past past past stopped idle idle");
  assert.equal(states(golden("failed")), "past past past broken idle idle");
  assert.ok(golden("raced").steps.large.note.startsWith("closed, ≈$"));
});

test("the end is told in a sentence", () => {
  const base = { question: "?", code: null, model: "", escalated: false, estimated: false, costEstimated: false };
  const figures = { inputTokens: 0, outputTokens: 0, cost: 0, saved: 0, waste: 0, firstMs: 1, totalMs: 40 };
  /** @param {string} status @param {"cache" | "small" | "large"} stage @param {string} cache */
  const told = (status, stage, cache) => endSentence({ ...base, ...figures, status, stage, cache });
  assert.equal(told("completed", "cache", "exact"), "Completed: the cache answered in 40 ms.");
  assert.equal(told("completed", "cache", "semantic"), "Completed: the semantic cache answered in 40 ms.");
  const along = "Completed in 40 ms, joined: the small model answered both.";
  assert.equal(told("completed", "small", "joined"), along);
  assert.equal(told("completed", "large", "miss"), "Completed: the large model answered in 40 ms.");
  assert.equal(told("cancelled", "small", "miss"), "Cancelled after 40 ms; it cost nothing.");
});
