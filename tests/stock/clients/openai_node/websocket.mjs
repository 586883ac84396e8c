// Ask one question over the WebSocket of the Responses API, and read the answer as it comes.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { ResponsesWS } from "openai/resources/responses/ws";

const socket = new ResponsesWS(new OpenAI());
socket.send({ type: "response.create", model: "auto", input: "What is the capital of France?" });

let text = "";
let response;
for await (const event of socket.stream()) {
  if (event.type === "error") throw event.error;
  if (event.type !== "message") continue;
  const message = event.message;
  if (message.type === "response.output_text.delta") text += message.delta;
  if (message.type === "response.completed") {
    response = message.response;
    break;
  }
  assert(!["response.failed", "response.incomplete", "error"].includes(message.type), JSON.stringify(message));
}
socket.close();

assert.match(text, /Paris/);
assert.equal(response.output[0].content[0].text, text);
assert(response.usage.cost_usd > 0);
assert.equal(response.metadata["millrace.route"], "small");
