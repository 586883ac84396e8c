// Let the model call a function through the Responses API, and send it the result.
import assert from "node:assert/strict";
import OpenAI from "openai";

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
const question = { role: "user", content: "What is the weather in Paris?" };

const client = new OpenAI();
const asked = await client.responses.create({
  model: "auto",
  input: [question],
  tools: [weather],
  tool_choice: { type: "function", name: "get_weather" },
});
const call = asked.output.find((item) => item.type === "function_call");
assert.equal(call.name, "get_weather");
assert("city" in JSON.parse(call.arguments));

const result = { type: "function_call_output", call_id: call.call_id, output: '{"celsius": 21, "sky": "clear"}' };
const answered = await client.responses.create({
  model: "auto",
  input: [question, ...asked.output, result],
  tools: [weather],
});
assert(answered.output_text);
assert(answered.usage.cost_usd > 0);
