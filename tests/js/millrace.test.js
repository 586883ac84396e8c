import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import test from "node:test";

import { connect, MillraceError } from "../../static/millrace.js";
import { fetch, FakeSocket, WebSocket } from "./socket.js";

const WIRE = new URL("../support/captured/", import.meta.url);
const URL_ = "ws://millrace.test/v1/responses";

/** @typedef {{name: string, negotiated: boolean, text: string, status: string, events: any[]}} Golden */

/** @returns {Golden[]} */
function goldens() {
  const names = readdirSync(WIRE).filter((name) => name.endsWith(".json"));
  return names.map((name) => JSON.parse(readFileSync(new URL(name, WIRE), "utf8")));
}

/** @param {import("../../static/millrace.js").ConnectOptions} [options] */
async function connected(options = {}) {
  const client = await connect({ url: URL_, WebSocket, fetch, ...options });
  return { client, socket: FakeSocket.last };
}

/**
 * The events of a response on a lane, numbered as the server numbers them.
 * @param {string} lane
 */
function voice(lane) {
  let number = 0;
  const id = `resp_${lane}`;
  /** @param {string} type @param {object} fields */
  const event = (type, fields) => ({ type, ...fields, sequence_number: number++, stream_id: lane });
  return {
    id,
    created: () => event("response.created", { response: { id, status: "in_progress", metadata: {} } }),
    /** @param {string} delta @param {string} [item] */
    says: (delta, item = "msg") => event("response.output_text.delta", { item_id: item, delta }),
    /** @param {number} keep_through */
    revises: (keep_through) =>
      event("millrace.revise", { item_id: "msg", keep_through, from_model: "s", to_model: "l", reason: "unsure" }),
    ends: (status = "completed") =>
      event(status === "completed" ? "response.completed" : "response.incomplete", { response: { id, status } }),
  };
}

for (const { name, negotiated, text, status, events } of goldens()) {
  test(`golden: ${name}`, async () => {
    const { client, socket } = await connected({ negotiate: negotiated });
    const answer = client.stream("anything", { lane: "golden" });
    socket.receive(...events);

    assert.equal(answer.text, text);
    const ended = await answer.done.then(
      (response) => response.status,
      (error) => `refused: ${error.code}`,
    );
    const refusal = events.find(({ type }) => type === "error");
    assert.equal(ended, refusal ? `${status}: ${refusal.error.code}` : status);
    assert.equal(client.hello?.version, negotiated ? events[0].version : undefined);
  });
}

test("the goldens are all there", () => {
  const names = [
    ...["cached", "called", "cancelled", "completed", "customised", "declined", "drained", "failed", "interrupted", "joined"],
    ...["raced", "reasoned", "refused", "resumed", "revised", "summarised", "warned"],
  ];
  assert.deepEqual(goldens().map(({ name }) => name).sort(), names);
});

test("a reader gets every event in order, and the words that were taken back", async () => {
  const golden = goldens().find(({ name }) => name === "revised");
  assert.ok(golden);
  const { client, socket } = await connected();
  const answer = client.stream("anything", { lane: "golden" });
  const types = [];
  queueMicrotask(() => socket.receive(...golden.events));
  for await (const event of answer) types.push(event.type);
  assert.deepEqual(types, golden.events.slice(1).map(({ type }) => type)); // the first is the connection's hello
  assert.equal(answer.takenBack[0].reason, "unsure");
  assert.ok(answer.takenBack[0].text.startsWith("I don't know"));
});

test("it negotiates unless told not to", async () => {
  assert.deepEqual((await connected()).socket.protocols, ["millrace.v1"]);
  assert.deepEqual((await connected({ negotiate: false })).socket.protocols, []);
});

test("options go out under the wire's names", async () => {
  const { client, socket } = await connected();
  client.stream("Why?", {
    lane: "a",
    model: "auto",
    instructions: "Be brief.",
    metadata: { from: "test" },
    millrace: { strategy: "small", cache: "off" },
    maxOutputTokens: 9,
  });
  assert.deepEqual(socket.sent[0], {
    type: "response.create",
    stream_id: "a",
    event_id: "ev_1",
    input: "Why?",
    model: "auto",
    instructions: "Be brief.",
    metadata: { from: "test" },
    millrace: { strategy: "small", cache: "off" },
    max_output_tokens: 9,
  });
});

test("lanes interleave, and each answer keeps its own words", async () => {
  const { client, socket } = await connected();
  const [one, two] = [client.stream("one"), client.stream("two")];
  const [a, b] = [voice(one.lane ?? ""), voice(two.lane ?? "")];
  socket.receive(a.created(), b.created(), a.says("left "), b.says("right "), b.says("bank"), a.says("bank"));
  socket.receive(b.ends(), a.ends());
  assert.deepEqual([one.text, two.text], ["left bank", "right bank"]);
  assert.equal((await two.done).id, b.id);
});

test("more requests than there are lanes wait their turn here", async () => {
  const { client, socket } = await connected();
  const answers = Array.from({ length: 18 }, (_, index) => client.stream(`question ${index}`));
  assert.equal(socket.sent.length, 16);
  assert.equal(new Set(socket.sent.map(({ stream_id }) => stream_id)).size, 16);
  answers[16].cancel();
  assert.equal((await answers[16].done).status, "cancelled");

  const v = voice(answers[3].lane ?? "");
  socket.receive(v.created(), v.ends());
  assert.equal(socket.sent.length, 17);
  assert.equal(socket.sent[16].input, "question 17");
  assert.equal(socket.sent[16].stream_id, answers[3].lane);
});

test("one lane is first in, first out", async () => {
  const { client, socket } = await connected();
  const [one, two] = [client.stream("one", { lane: "x" }), client.stream("two", { lane: "x" })];
  const [a, b] = [voice("x"), voice("x")];
  socket.receive(a.created(), a.says("first"), a.ends(), b.created(), b.says("second"), b.ends());
  assert.deepEqual([one.text, two.text], ["first", "second"]);
});

test("a revise drops the later words of its item only", async () => {
  const { client, socket } = await connected();
  const answer = client.stream("?", { lane: "x" });
  const v = voice("x");
  socket.receive(v.created(), v.says("kept "), v.says("other ", "msg_2"), v.says("dropped "));
  socket.receive(v.revises(1), v.says("new"));
  assert.equal(answer.text, "kept other new");
  assert.equal(answer.takenBack[0].text, "dropped ");
});

test("cancel names the response once it has begun", async () => {
  const { client, socket } = await connected();
  const answer = client.stream("?", { lane: "x" });
  const v = voice("x");
  socket.receive(v.created());
  answer.cancel();
  assert.deepEqual(socket.sent[1], { type: "response.cancel", response_id: "resp_x" });
  socket.receive(v.says("half"), v.ends("cancelled"));
  assert.equal((await answer.done).status, "cancelled");
  answer.cancel();
  assert.equal(socket.sent.length, 2, "an ended answer is not cancelled again");
});

test("cancel names the lane before it has begun", async () => {
  const { client, socket } = await connected();
  client.stream("?", { lane: "x" }).cancel();
  assert.deepEqual(socket.sent[1], { type: "response.cancel", stream_id: "x" });
});

test("cancelling one that waits leaves its neighbours in the lane alone", async () => {
  const { client, socket } = await connected();
  client.stream("one", { lane: "x" });
  client.stream("two", { lane: "x" }).cancel();
  const first = voice("x");
  socket.receive(first.created(), first.says("whole"), first.ends());
  assert.equal(socket.sent.length, 2, "nothing is cancelled while the first runs");
  socket.receive(voice("x").created());
  assert.deepEqual(socket.sent[2], { type: "response.cancel", response_id: "resp_x" });
});

test("leaving the loop early cancels", async () => {
  const { client, socket } = await connected();
  const answer = client.stream("?", { lane: "x" });
  const v = voice("x");
  socket.receive(v.created(), v.says("enough"));
  for await (const event of answer) if (event.type === "response.output_text.delta") break;
  assert.equal(socket.sent[1].type, "response.cancel");
});

test("a refusal finds its request by event_id, even behind a running one or without a lane", async () => {
  const { client, socket } = await connected();
  const [one, two] = [client.stream("one", { lane: "x" }), client.stream("two", { lane: "x" })];
  const v = voice("x");
  const error = { code: "queue_full", message: "too many", param: "input", retry_after_ms: 1000 };
  socket.receive(v.created(), { type: "error", status: 429, event_id: two.eventId, error });
  await assert.rejects(two.done, { code: "queue_full", param: "input", retryAfterMs: 1000 });
  socket.receive(v.says("still here"), v.ends());
  assert.equal((await one.done).status, "completed");
  assert.equal(one.text, "still here");
});

test("a reader of the events gets the refusal as an error", async () => {
  const { client, socket } = await connected();
  const answer = client.stream("?");
  const error = { type: "novel_error", code: "odd", message: "no", param: null };
  socket.receive({ type: "error", status: 400, event_id: answer.eventId, error });
  await assert.rejects(answer[Symbol.asyncIterator]().next(), { name: "MillraceError", code: "odd" });
});

for (const [type, name] of [
  ["invalid_request_error", "InvalidRequestError"],
  ["authentication_error", "AccessError"],
  ["permission_error", "AccessError"],
  ["rate_limit_error", "RateLimitError"],
  ["insufficient_quota", "BudgetError"],
  ["timeout_error", "TimedOutError"],
  ["upstream_error", "UpstreamError"],
  ["server_error", "ServerError"],
]) {
  test(`an error has the class of its type: ${type}`, async () => {
    const { client, socket } = await connected();
    const { eventId, done } = client.stream("?");
    const error = { type, code: "c", message: "m", param: null, retry_after_ms: 5 };
    socket.receive({ type: "error", status: 400, event_id: eventId, error });
    const raised = await done.catch((error) => error);
    assert.ok(raised instanceof MillraceError);
    assert.deepEqual([raised.name, raised.code, raised.message, raised.retryAfterMs], [name, "c", "m", 5]);
  });
}

test("ask gives the whole answer and its bill", async () => {
  const golden = goldens().find(({ name }) => name === "revised");
  assert.ok(golden);
  const { client, socket } = await connected();
  const asked = client.ask("anything", { lane: "golden" });
  socket.receive(...golden.events);
  const { response, ...reply } = await asked;
  assert.equal(response.status, "completed");
  assert.deepEqual(
    [reply.text, reply.status, reply.route, reply.check, reply.reason, reply.costUsd],
    [golden.text, "completed", "large", "unsure", null, response.usage?.cost_usd],
  );
});

test("ask raises why a response has failed, and tells the tools that are called", async () => {
  for (const [name, expected] of [["failed", "UpstreamError"], ["called", ""]]) {
    const golden = goldens().find((one) => one.name === name);
    assert.ok(golden);
    const { client, socket } = await connected();
    const asked = client.ask("anything", { lane: "golden" });
    socket.receive(...golden.events);
    if (expected) await assert.rejects(asked, { name: expected, code: "upstream_truncated" });
    else assert.equal((await asked).toolCalls[0].name, "get_weather");
  }
});

test("a signal cancels, before and while it runs, and is forgotten at the end", async () => {
  const { client, socket } = await connected();
  const early = client.stream("?", { signal: AbortSignal.abort() });
  assert.equal((await early.done).status, "cancelled");
  assert.equal(socket.sent.length, 0, "it is never sent");

  const controller = new AbortController();
  const answer = client.stream("?", { lane: "x", signal: controller.signal });
  assert.equal(socket.sent[0].signal, undefined);
  const v = voice("x");
  socket.receive(v.created());
  controller.abort();
  assert.deepEqual(socket.sent[1], { type: "response.cancel", response_id: "resp_x" });
  socket.receive(v.ends("cancelled"));
  assert.equal((await answer.done).status, "cancelled");

  const later = new AbortController();
  const other = client.stream("?", { lane: "y", signal: later.signal });
  const w = voice("y");
  socket.receive(w.created(), w.ends());
  await other.done;
  await null;
  later.abort();
  assert.equal(socket.sent.length, 3, "an ended answer is not cancelled");
});

test("a resumed answer obeys a signal too", async () => {
  const { client, socket } = await connected();
  const controller = new AbortController();
  client.resume("resp_1", { epoch: "e", signal: controller.signal });
  controller.abort();
  assert.deepEqual(socket.sent[1], { type: "response.cancel", response_id: "resp_1" });
});

test("outside of a browser the address is needed, and a key goes as a header", async () => {
  await assert.rejects(connect({ WebSocket, fetch }), { name: "ConnectionFailedError", message: /url: missing/ });
  const globals = /** @type {any} */ (globalThis);
  const before = globals.WebSocket;
  globals.WebSocket = FakeSocket;
  await connect({ url: URL_, key: "mr_secret", fetch });
  assert.deepEqual(FakeSocket.last.protocols, {
    protocols: ["millrace.v1"],
    headers: { Authorization: "Bearer mr_secret" },
  });
  globals.WebSocket = undefined;
  await assert.rejects(connect({ url: URL_, fetch }), { code: "connection_failed", message: /Node 22/ });
  globals.WebSocket = before;
});

test("a connection closed for good ends every answer, and refuses new ones", async () => {
  const { client, socket } = await connected();
  const answers = [client.stream("one"), client.stream("two")];
  socket.drop(1008);
  answers.push(client.stream("three"));
  for (const { done } of answers) {
    await assert.rejects(done, { name: "ConnectionLostError", code: "connection_lost" });
  }
  assert.deepEqual(await client.closed, { code: 1008, reason: "" });
});

test("close says goodbye", async () => {
  const { client } = await connected();
  assert.equal((await client.close()).code, 1000);
  await assert.rejects(client.ask("Why?"), { code: "connection_lost", message: "the client is closed" });
});

test("an address without a path is completed, and one that is none is an error that says so", async () => {
  for (const url of ["ws://millrace.test", "http://millrace.test/", "ws://millrace.test/v1", URL_]) {
    await connected({ url });
    assert.equal(FakeSocket.last.url, URL_, url);
  }
  await connected({ url: "wss://millrace.test/proxied/v1/responses?a=1" });
  assert.equal(FakeSocket.last.url, "wss://millrace.test/proxied/v1/responses?a=1");
  await assert.rejects(connected({ url: "nonsense" }), { code: "connection_failed", message: /"nonsense" is no address/ });
});

test("no connection is an error with a code", async () => {
  FakeSocket.refusing = true;
  await assert.rejects(connect({ url: URL_, WebSocket, fetch }), { code: "connection_failed" });
  FakeSocket.refusing = false;
});

test("events of a newer server, of strangers and of the past are let pass", async () => {
  const { client, socket } = await connected();
  const answer = client.stream("?", { lane: "x" });
  const v = voice("x");
  socket.receive(v.created(), v.says("words"), { type: "millrace.novelty", stream_id: "x", sequence_number: 2 });
  socket.receive({ type: "millrace.pong", t: 1 }, voice("other").says("lost"), { type: "error", error: { code: "?" } });
  socket.receive(v.ends(), v.says("late"));
  const types = [];
  for await (const { type } of answer) types.push(type);
  assert.deepEqual(types, ["response.created", "response.output_text.delta", "response.completed"]);
  assert.equal(answer.text, "words");
});
