import assert from "node:assert/strict";
import test from "node:test";

import { connect } from "../../static/millrace.js";
import { fetch, FakeSocket, WebSocket } from "./socket.js";

const URL_ = "wss://millrace.test/v1/responses";

/** @typedef {import("../../static/millrace.js").ConnectOptions} ConnectOptions */
/** @typedef {import("../../static/millrace.js").Client} Client */

/** @param {string} [epoch] */
const hello = (epoch = "one") => ({ type: "millrace.hello", epoch, connection_id: "c", heartbeat_s: 20 });

/** @param {ConnectOptions} [options] */
async function connected(options = {}) {
  const waits = /** @type {number[]} */ ([]);
  const states = /** @type {string[]} */ ([]);
  /** @param {number} ms */
  const pause = async (ms) => void waits.push(ms);
  /** @param {string} state */
  const onState = (state) => void states.push(state);
  const client = await connect({ url: URL_, WebSocket, fetch, pause, onState, ...options });
  FakeSocket.last.receive(hello());
  return { client, socket: FakeSocket.last, waits, states };
}

/** Let what is under way come to rest: a few turns of the loop. */
async function settled() {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setTimeout(resolve));
}

/**
 * @param {string} lane
 * @param {number} number
 * @param {string} type
 * @param {object} fields
 */
const event = (lane, number, type, fields) => ({ type, stream_id: lane, sequence_number: number, ...fields });
/** @param {string} lane @param {string} [id] */
const created = (lane, id = "resp_1") => event(lane, 0, "response.created", { response: { id, status: "in_progress" } });
/** @param {string} lane @param {number} number @param {string} delta */
const says = (lane, number, delta) => event(lane, number, "response.output_text.delta", { item_id: "msg", delta });
/** @param {string} lane @param {number} number @param {string} [status] */
const ends = (lane, number, status = "completed") =>
  event(lane, number, "response.completed", { response: { id: "resp_1", status } });

test("a broken connection is opened again and the answer goes on after the last number seen", async () => {
  const { client, socket, waits, states } = await connected();
  const answer = client.stream("Why?", { onDisconnect: "detach" });
  const lane = answer.lane ?? "";
  socket.receive(created(lane), says(lane, 1, "half "));
  socket.drop(1006);
  await settled();
  const next = FakeSocket.last;
  assert.ok(next !== socket);
  assert.deepEqual(next.sent, [], "first it must be known which process this is");
  next.receive(hello());
  const resume = { type: "millrace.resume", response_id: "resp_1", after: 1, epoch: "one", event_id: answer.eventId };
  assert.deepEqual(next.sent, [resume]);
  next.receive({ type: "millrace.resumed", response_id: "resp_1", from: 2, through: 2, gap: false, stream_id: lane });
  next.receive(says(lane, 2, "whole"), ends(lane, 3));
  assert.equal((await answer.done).status, "completed");
  assert.equal(answer.text, "half whole");
  assert.ok(waits[0] >= 250 && waits[0] <= 500, `${waits}`);
  assert.deepEqual(states, ["connected", "broken", "connected"]);
});

test("what comes back in a lane goes before what was sent to the lane since then", async () => {
  const { client, socket } = await connected();
  const answer = client.resume("resp_1", { after: 4, epoch: "one" });
  const later = client.stream("?", { lane: "a" });
  socket.receive({ type: "millrace.resumed", response_id: "resp_1", from: 5, through: 5, gap: false, stream_id: "a" });
  socket.receive(says("a", 5, "old"), ends("a", 6), created("a", "resp_2"), says("a", 1, "new"));
  assert.deepEqual([answer.text, later.text], ["old", "new"]);
  assert.equal((await answer.done).status, "completed");
});

test("another process is asked again with an idempotency key, and else it is an error", async () => {
  const { client, socket } = await connected();
  const keyed = client.stream("Why?", { lane: "a", onDisconnect: "detach", idempotencyKey: "k" });
  const bare = client.stream("How?", { lane: "b", onDisconnect: "detach" });
  socket.receive(created("a"), says("a", 1, "gone"), created("b", "resp_2"));
  socket.drop(1012);
  await settled();
  FakeSocket.last.receive(hello("two"));
  await assert.rejects(bare.done, { code: "resume_expired" });
  const millrace = { on_disconnect: "detach", idempotency_key: "k" };
  const body = { event_id: keyed.eventId, input: "Why?", millrace };
  assert.deepEqual(FakeSocket.last.sent, [{ type: "response.create", stream_id: "a", ...body }]);
  FakeSocket.last.receive(created("a", "resp_9"), says("a", 1, "anew"), ends("a", 2));
  assert.equal(keyed.text, "anew");
});

test("what was cancelled before it began is not left to run when it is sent again", async () => {
  const { client, socket } = await connected();
  const options = /** @type {const} */ ({ lane: "a", onDisconnect: "detach" });
  const unborn = client.stream("1", { ...options, idempotencyKey: "one" });
  unborn.cancel();
  socket.drop(1006);
  await settled();
  FakeSocket.last.receive(hello());
  const [created_, cancelled] = FakeSocket.last.sent;
  assert.equal(created_.millrace.idempotency_key, "one");
  assert.deepEqual(cancelled, { type: "response.cancel", stream_id: "a" });
  FakeSocket.last.receive(created("a"), ends("a", 1, "cancelled"));
  assert.equal((await unborn.done).status, "cancelled");
});

test("what was cancelled is not asked of another process", async () => {
  const { client, socket } = await connected();
  const answer = client.stream("1", { lane: "a", onDisconnect: "detach", idempotencyKey: "one" });
  socket.receive(created("a"));
  answer.cancel();
  socket.drop(1012);
  await settled();
  FakeSocket.last.receive(hello("two"));
  assert.deepEqual(FakeSocket.last.sent, []);
  await assert.rejects(answer.done, { code: "resume_expired" });
});

test("a server that cannot resume is asked again with a key, and else its refusal is the error", async () => {
  const { client, socket } = await connected();
  const answers = [client.stream("1", { lane: "a", onDisconnect: "detach", idempotencyKey: "k" })];
  answers.push(client.stream("2", { lane: "b", onDisconnect: "detach" }));
  socket.receive(created("a", "resp_1"), created("b", "resp_2"));
  socket.drop(1006);
  await settled();
  FakeSocket.last.receive(hello());
  const error = { code: "resume_gap", message: "no", param: null };
  for (const { eventId } of answers) FakeSocket.last.receive({ type: "error", status: 409, event_id: eventId, error });
  await assert.rejects(answers[1].done, { code: "resume_gap" });
  assert.equal(FakeSocket.last.sent.at(-1)?.input, "1");
});

test("one that had not begun needs a key; one that was not to outlive its connection is lost", async () => {
  const { client, socket } = await connected();
  const first = client.stream("1", { lane: "a", onDisconnect: "detach" });
  const keyed = client.stream("2", { lane: "a", onDisconnect: "detach", idempotencyKey: "k" });
  const bare = client.stream("3", { lane: "a", onDisconnect: "detach" });
  const plain = client.stream("4", { lane: "b" });
  socket.receive(created("a"));
  socket.drop(1006);
  await assert.rejects(plain.done, { code: "connection_lost" });
  const late = client.stream("5", { lane: "c" });
  await settled();
  FakeSocket.last.receive(hello());
  await assert.rejects(bare.done, { code: "connection_lost", message: /idempotency key/ });
  assert.deepEqual(FakeSocket.last.sent.map(({ type, input }) => [type, input]), [
    ["response.create", "5"],
    ["millrace.resume", undefined],
    ["response.create", "2"],
  ]);
  assert.ok(!first.ended && !keyed.ended && !late.ended);
});

test("cancelled while there is no connection, it is cancelled when it is resumed", async () => {
  const { client, socket } = await connected();
  const answer = client.stream("Why?", { lane: "a", onDisconnect: "detach" });
  socket.receive(created("a"));
  socket.drop(1006);
  answer.cancel();
  await settled();
  FakeSocket.last.receive(hello());
  assert.deepEqual(FakeSocket.last.sent.map(({ type }) => type), ["millrace.resume", "response.cancel"]);
});

test("a connection that was lost while nothing ran is opened again", async () => {
  for (const code of [1001, 1006, 1011, 1012, 1013]) {
    const { client, socket, states } = await connected();
    socket.drop(code);
    await settled();
    const next = FakeSocket.last;
    assert.ok(next !== socket, `${code}`);
    next.receive(hello("two"));
    const answer = client.stream("And now?", { lane: "a" });
    next.receive(created("a"), says("a", 1, "here"), ends("a", 2));
    assert.equal((await answer.done).status, "completed");
    assert.equal(answer.text, "here");
    assert.deepEqual(states, ["connected", "broken", "connected"]);
  }
});

test("asked while there is no connection, a request goes out on the next one", async () => {
  const { client, socket } = await connected();
  socket.drop(1006);
  const [inLane, free] = [client.stream("1", { lane: "a" }), client.stream("2")];
  assert.deepEqual(socket.sent, []);
  await settled();
  const next = FakeSocket.last;
  assert.deepEqual(next.sent.map(({ input }) => input), ["1", "2"]);
  next.receive(created("a"), says("a", 1, "here"), ends("a", 2));
  assert.equal(inLane.text, "here");
  assert.ok(!free.ended);
});

test("what has an idempotency key is repeated, what has none fails and says why, detached or not", async () => {
  const { client, socket } = await connected();
  const keyed = client.stream("1", { lane: "a", idempotencyKey: "k" });
  const keyedInMetadata = client.stream("2", { lane: "b", metadata: { "millrace.idempotency_key": "l" } });
  const bare = client.stream("3", { lane: "c" });
  socket.receive(created("a"), says("a", 1, "half "), created("c", "resp_3"), says("c", 1, "half "));
  socket.drop(1006);
  const lost = { name: "ConnectionLostError", code: "connection_lost", message: /idempotency key/ };
  await assert.rejects(bare.done, lost);
  await settled();
  FakeSocket.last.receive(hello("two"));
  assert.deepEqual(FakeSocket.last.sent.map(({ type, input }) => [type, input]), [
    ["response.create", "1"],
    ["response.create", "2"],
  ]);
  FakeSocket.last.receive(created("a", "resp_9"), says("a", 1, "anew"), ends("a", 2));
  assert.equal((await keyed.done).status, "completed");
  assert.equal(keyed.text, "anew");
  assert.ok(!keyedInMetadata.ended);
});

test("what was cancelled is not repeated", async () => {
  const { client, socket } = await connected();
  const answer = client.stream("1", { lane: "a", idempotencyKey: "k" });
  socket.receive(created("a"));
  answer.cancel();
  socket.drop(1006);
  await assert.rejects(answer.done, { code: "connection_lost" });
  await settled();
  FakeSocket.last.receive(hello());
  assert.deepEqual(FakeSocket.last.sent, []);
});

test("the delays double, with jitter, up to eight seconds, and start anew after a success", async () => {
  const { client, socket, waits } = await connected({ tries: 7 });
  FakeSocket.refusing = true;
  socket.drop(1006);
  while (waits.length < 7) await settled();
  FakeSocket.refusing = false;
  const first = waits.splice(0);
  const most = [500, 1000, 2000, 4000, 8000, 8000, 8000];
  for (const [at, ms] of most.entries()) assert.ok(first[at] >= ms / 2 && first[at] <= ms, `${first}`);
  client.stream("And now?");
  await settled();
  FakeSocket.last.drop(1006);
  await settled();
  assert.equal(waits[0], 0);
  assert.ok(waits[1] <= 500, `${waits}`);
});

test("a refusal that waiting does not help against is final", async () => {
  const error = { type: "authentication_error", code: "unauthorized", message: "no such key" };
  const refusing = /** @type {typeof globalThis.fetch} */ (
    async () => new Response(JSON.stringify({ error }), { status: 401 })
  );
  const { client, socket, waits, states } = await connected({ fetch: refusing });
  FakeSocket.refusing = true;
  socket.drop(1006);
  assert.equal((await client.closed).code, 1006);
  FakeSocket.refusing = false;
  assert.equal(waits.length, 1);
  assert.deepEqual(states, ["connected", "broken", "lost"]);
  await assert.rejects(client.stream("And now?").done, { code: "connection_lost", message: /no such key/ });
});

test("a function that fetches tickets may fail while its server restarts", async () => {
  let count = 0;
  const ticket = async () => {
    if (++count === 2) throw new TypeError("Failed to fetch");
    return `t${count}`;
  };
  const { socket } = await connected({ ticket });
  socket.drop(1006);
  await settled();
  assert.deepEqual(FakeSocket.last.protocols, ["millrace.v1", "millrace.ticket.t3"]);
});

test("closed while it connects again, it stays closed", async () => {
  const { client, socket } = await connected();
  socket.drop(1006);
  const answer = client.stream("?");
  void client.close();
  await assert.rejects(answer.done, { code: "connection_lost" });
  await settled();
  assert.equal(FakeSocket.last, socket);
});

test("after five tries what waits fails, and the next request tries again", async () => {
  const { client, socket, waits, states } = await connected();
  const answer = client.stream("Why?", { lane: "a", onDisconnect: "detach" });
  socket.receive(created("a"));
  FakeSocket.refusing = true;
  socket.drop(1006);
  await assert.rejects(answer.done, { code: "connection_lost", message: /no other could be opened/ });
  assert.equal(waits.length, 5);
  assert.ok(waits.every((ms) => ms <= 8000) && waits[4] >= 4000, `${waits}`);
  assert.deepEqual(states, ["connected", "broken", "lost"]);
  await assert.rejects(client.stream("And now?").done, { code: "connection_lost" });
  FakeSocket.refusing = false;
  const later = client.stream("And now?", { lane: "a" });
  await settled();
  FakeSocket.last.receive(hello("two"), created("a"), says("a", 1, "here"), ends("a", 2));
  assert.equal((await later.done).status, "completed");
  assert.equal(states.at(-1), "connected");
});

test("a close that says do not come back is heeded", async () => {
  const { client, socket } = await connected();
  const answer = client.stream("Why?", { lane: "a", onDisconnect: "detach" });
  socket.receive(created("a"));
  socket.drop(1008);
  await assert.rejects(answer.done, { code: "connection_lost" });
  assert.equal((await client.closed).code, 1008);
});

test("a connection that drains is asked no more; what runs there ends there", async () => {
  const { client, socket, waits, states } = await connected();
  const running = client.stream("1", { lane: "a" });
  const refused = client.stream("2", { lane: "b" });
  socket.receive(created("a"));
  socket.receive({ type: "millrace.draining", deadline_ms: 30000, reconnect_after_ms: 70 });
  const error = { code: "server_draining", message: "elsewhere", param: null };
  socket.receive({ type: "error", status: 503, event_id: refused.eventId, stream_id: "b", error });
  const later = client.stream("3");
  await settled();
  const next = FakeSocket.last;
  next.receive(hello("two"));
  assert.deepEqual(next.sent.map(({ input }) => input), ["2", "3"]);
  socket.receive(says("a", 1, "to the end"), ends("a", 2));
  assert.equal((await running.done).status, "completed");
  socket.drop(1012);
  next.receive(created(later.lane ?? ""), says(later.lane ?? "", 1, "here"));
  assert.equal(later.text, "here");
  assert.deepEqual([waits, states], [[70], ["connected", "draining", "connected"]]);
  assert.equal(client.hello?.epoch, "two");
});

test("a server that is silent for two beats is gone", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const { client, socket } = await connected();
  t.mock.timers.tick(20_000);
  assert.equal(socket.sent[0].type, "millrace.ping");
  socket.receive({ type: "millrace.pong", t: socket.sent[0].t });
  t.mock.timers.tick(20_000);
  assert.equal(socket.sent.length, 2);
  t.mock.timers.tick(20_000);
  t.mock.timers.reset();
  await settled();
  assert.ok(FakeSocket.last !== socket);
  client.close();
});

test("ping tells how long the way is", async () => {
  const { client, socket } = await connected();
  const pinged = client.ping();
  await settled();
  socket.receive({ type: "millrace.pong", t: socket.sent[0].t });
  assert.ok((await pinged) >= 0);
  const unanswered = client.ping();
  socket.drop(1006);
  const meanwhile = client.ping();
  await assert.rejects(unanswered, { code: "connection_lost" });
  await assert.rejects(meanwhile, { code: "connection_lost" });
});

test("a ticket rides beside the subprotocol; one that is fetched is fetched for each connection", async () => {
  const { client, socket } = await connected({ ticket: "t0" });
  assert.deepEqual(socket.protocols, ["millrace.v1", "millrace.ticket.t0"]);
  client.close();

  let count = 0;
  const fetching = await connected({ ticket: async () => `t${++count}` });
  fetching.socket.receive({ type: "millrace.draining", deadline_ms: 1, reconnect_after_ms: 1 });
  await settled();
  assert.deepEqual(FakeSocket.last.protocols, ["millrace.v1", "millrace.ticket.t2"]);
});

test("a key is traded for a ticket, and stands in no address and no subprotocol", async () => {
  /** @type {any[]} */
  const asked = [];
  const trading = /** @type {typeof globalThis.fetch} */ (
    async (...given) => {
      asked.push(given);
      return new Response(JSON.stringify({ ticket: "t1", expires_at: 1 }), { status: 201 });
    }
  );
  const { socket } = await connected({ key: "mr_secret", fetch: trading });
  const headers = { Authorization: "Bearer mr_secret" };
  assert.deepEqual(asked, [["https://millrace.test/v1/tickets", { method: "POST", headers }]]);
  assert.deepEqual([socket.url, socket.protocols], [URL_, ["millrace.v1", "millrace.ticket.t1"]]);
});

test("why there is no connection is asked over HTTP", async () => {
  const error = { type: "authentication_error", code: "unauthorized", message: "send a key" };
  const refusing = /** @type {typeof globalThis.fetch} */ (
    async () => new Response(JSON.stringify({ error }), { status: 401 })
  );
  FakeSocket.refusing = true;
  await assert.rejects(connect({ url: URL_, WebSocket, fetch: refusing }), { code: "unauthorized" });
  FakeSocket.refusing = false;
  await assert.rejects(connect({ url: URL_, key: "mr_old", WebSocket, fetch: refusing }), { code: "unauthorized" });
});

test("reasoning, a refusal and tool calls are read beside the text", async () => {
  const { client, socket } = await connected();
  const answer = client.stream("?", { lane: "a" });
  const call = { type: "function_call", id: "fc_1", call_id: "call_1", name: "weather", arguments: '{"city":"Paris"}' };
  socket.receive(
    created("a"),
    event("a", 1, "response.reasoning_text.delta", { item_id: "rs", delta: "Hm. " }),
    event("a", 2, "response.refusal.delta", { item_id: "msg", delta: "No." }),
    event("a", 3, "response.output_item.added", { item: { ...call, arguments: "" } }),
    event("a", 4, "response.function_call_arguments.delta", { item_id: "fc_1", delta: call.arguments }),
    event("a", 5, "response.output_item.done", { item: call }),
  );
  assert.deepEqual([answer.text, answer.reasoning, answer.refusal], ["", "Hm. ", "No."]);
  const { id: itemId, call_id: callId, name } = call;
  assert.deepEqual(answer.toolCalls, [
    { itemId, callId, name, arguments: call.arguments, namespace: "", isCustom: false },
  ]);
});
