// Let the model call a function over the WebSocket, and send it the result on the same connection.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { ResponsesWS } from "openai/resources/responses/ws";

const weather = {
  type: "function",
  name: "get_weather",
  description: "Get the current weather of a city.",
  parameters: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  },
  strict: true,
};

const socket = new ResponsesWS(new OpenAI());
const events = socket.stream();

async function ask(body) {
  socket.send({ type: "response.create", model: "auto", tools: [weather], ...body });
  for (;;) {
    const { value: event, done } = await events.next();
    assert(!done, "the connection was closed");
    if (event.type === "error") throw event.error;
    if (event.type !== "message") continue;
    if (event.message.type === "response.completed") return event.message.response;
    assert(!["response.failed", "response.incomplete"].includes(event.message.type), JSON.stringify(event.message));
  }
}

const asked = await ask({ input: "What is the weather in Paris?", tool_choice: "required" });
const call = asked.output.find((item) => item.type === "function_call");
assert.equal(call.name, "get_weather");
assert("city" in JSON.parse(call.arguments));

const answered = await ask({
  input: [{ type: "function_call_output", call_id: call.call_id, output: '{"celsius": 21, "sky": "clear"}' }],
  previous_response_id: asked.id,
});
socket.close();

assert.equal(answered.output.at(-1).type, "message");
assert(answered.output.at(-1).content[0].text);
assert(answered.usage.cost_usd > 0);
