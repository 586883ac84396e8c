import assert from "node:assert/strict";
import test from "node:test";

import { age, count, duration, money, percent, similarity } from "../../static/format.js";
import { backoff, Reconnector } from "../../static/reconnect.js";
import { connect } from "../../static/millrace.js";
import { Answer } from "../../static/answer.js";
import { endSentence } from "../../static/sentences.js";
import { sourceOf, summarize } from "../../static/summary.js";
import { percentile, totals } from "../../static/totals.js";
import { fetch, FakeSocket, WebSocket } from "./socket.js";

/** @typedef {import("../../static/summary.js").Summary} Summary */

/**
 * @param {Partial<Summary>} fields
 * @returns {Summary}
 */
function settled(fields) {
  const nothing = { question: "?", status: "completed", code: null, stage: null, cache: "miss", model: "" };
  const facts = { escalated: false, estimated: false, costEstimated: false, firstMs: null, totalMs: 0 };
  return { ...nothing, ...facts, inputTokens: 0, outputTokens: 0, cost: 0, saved: 0, waste: 0, ...fields };
}

test("percentiles are of the nearest rank", () => {
  const values = [15, 50, 20, 40, 35];
  assert.deepEqual([0.05, 0.3, 0.4, 0.5, 0.95, 1].map((share) => percentile(values, share)), [15, 20, 20, 35, 50, 50]);
  assert.deepEqual(values, [15, 50, 20, 40, 35], "the values stay as they are");
  assert.equal(percentile([7], 0.95), 7);
  assert.equal(percentile([], 0.5), null);
  assert.equal(percentile([100, 9], 0.5), 9, "numbers are sorted as numbers");
});

test("totals add up what ended, and time what completed", () => {
  const revised = { escalated: true };
  const past = [
    settled({ stage: "small", firstMs: 100, totalMs: 400, cost: 0.00002, saved: 0.0003, waste: 0.00001 }),
    settled({ stage: "cache", cache: "exact", firstMs: 3, totalMs: 4, saved: 0.0003 }),
    settled({ stage: "cache", cache: "semantic", firstMs: 20, totalMs: 21, saved: 0.0003 }),
    settled({ stage: "small", cache: "joined", firstMs: 100, totalMs: 390, saved: 0.0003 }),
    settled({ stage: "cache", cache: "joined", totalMs: 21, saved: 0.0003 }),
    settled({ stage: "large", firstMs: 90, totalMs: 2000, cost: 0.0007, saved: -0.00001, waste: 0.00001, ...revised }),
    settled({ stage: "small", status: "cancelled", firstMs: 90, totalMs: 90_000, cost: 0.0001 }),
    settled({ status: "refused" }),
    settled({ status: "lost", inputTokens: null, outputTokens: null, cost: null, saved: null, waste: null }),
  ];
  const { cost, saved, waste, ...rest } = totals(past);
  assert.deepEqual(rest, {
    requests: 9,
    answered: 6,
    exact: 1,
    semantic: 1,
    joined: 2,
    small: 1,
    large: 1,
    escalated: 1,
    total: { p50: 21, p95: 2000 },
    first: { p50: 90, p95: 100 },
    costKnown: false,
  });
  assert.deepEqual([cost, saved, waste].map(money), ["$0.00082", "$0.0015", "$0.000020"]);
  assert.deepEqual(totals([]).total, { p50: null, p95: null });
});

test("each answer was caught by one stage, the others by none", () => {
  const caught = [
    settled({ stage: "large" }),
    settled({ stage: "cache", cache: "exact" }),
    settled({ stage: "cache", cache: "semantic" }),
    settled({ stage: "small", cache: "joined" }),
    settled({ stage: "small", status: "cancelled" }),
  ].map(sourceOf);
  assert.deepEqual(caught, ["large", "exact", "semantic", "joined", null]);
});

test("what a lost request has cost is unknown, what a refused one has cost is nothing", () => {
  const asked = new Answer("ev_1", null, { input: "?" }, () => {});
  const times = { firstMs: null, totalMs: 10 };
  const lost = summarize("?", asked, { code: "connection_lost" }, times);
  assert.deepEqual([lost.status, lost.cost, lost.saved, lost.waste, lost.inputTokens], ["lost", null, null, null, null]);
  assert.equal(endSentence(lost), "The connection was lost after 10 ms; its cost is not known.");
  const refused = summarize("?", asked, { code: "overloaded" }, times);
  assert.deepEqual([refused.status, refused.cost, refused.saved, refused.inputTokens], ["refused", 0, 0, 0]);
  assert.ok(totals([refused]).costKnown && !totals([refused, lost]).costKnown);
});

test("money shows the digits that matter", () => {
  assert.deepEqual([money(null), count(null)], ["–", "–"], "what is unknown is not nothing");
  const shown = [0, 0.00002115, -7.8e-6, 7.8e-7, 0.0123456, 0.5, 12.345, 1e-12, 0.1 + 0.2 - 0.3].map(money);
  const wanted = ["$0", "$0.000021", "−$0.0000078", "$0.00000078", "$0.0123", "$0.5000", "$12.35", "$0", "$0"];
  assert.deepEqual(shown, wanted);
});

test("times and numbers read well", () => {
  assert.deepEqual([null, 0.4, 641.7, 999.6, 1940, 9960, 61_000].map(duration), [
    "–", "0 ms", "642 ms", "1.0 s", "1.9 s", "10 s", "61 s",
  ]);
  assert.deepEqual([0.01, 42.4, 600, 7300].map(age), ["1 s", "42 s", "10 min", "2 h"]);
  assert.deepEqual([1, 0.97, 0.9999, 0.9].map(similarity), ["1.00", "0.97", "0.99", "0.90"]);
  assert.equal(count(12345), "12,345");
  assert.equal(percent(1, 3), "33%");
});

test("the pause before another try doubles, has a limit, and is left to chance", () => {
  assert.deepEqual([0, 1, 2, 20].map((failures) => backoff(failures, 1)), [500, 1000, 2000, 15_000]);
  assert.equal(backoff(2, 0), 1000);
});

test("a link connects again when the connection drops", async () => {
  /** @type {string[]} */
  const states = [];
  /** @type {(value?: unknown) => void} */
  let seen = () => {};
  const next = () => new Promise((resolve) => (seen = resolve));
  const over = new Error("the test is over");
  /** @type {number[]} */
  const pauses = [];
  const pause = async (/** @type {number} */ ms) => {
    pauses.push(ms);
    if (states.length > 8) throw over;
  };
  const tell = (/** @type {{state: string}} */ { state }) => {
    states.push(state);
    if (state === "connected") seen();
  };
  const link = new Reconnector(() => connect({ url: "ws://millrace.test/v1/responses", WebSocket, fetch }), tell, pause);

  const first = next();
  const kept = link.run();
  await first;
  const second = next();
  FakeSocket.last.drop(1008); // after any other code the client connects again by itself
  await second;
  assert.deepEqual(states, ["connecting", "connected", "waiting", "connecting", "connected"]);

  FakeSocket.refusing = true;
  FakeSocket.last.drop(1008);
  await assert.rejects(kept, over);
  FakeSocket.refusing = false;
  assert.equal(link.client, null);
  assert.ok(pauses[0] <= 500 && pauses[1] <= 500, "a connection that was there starts the count anew");
  assert.ok(pauses[2] > 500, "one that was not does not");
});
