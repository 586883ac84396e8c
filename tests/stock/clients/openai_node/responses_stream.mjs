// Ask one question through the Responses API, and read the answer as it comes.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI();
let text = "";
let last;
for await (const event of await client.responses.create({ model: "auto", input: "Why is the sky blue?", stream: true })) {
  if (event.type === "response.output_text.delta") text += event.delta;
  last = event;
}

assert.equal(last.type, "response.completed");
assert.match(text, /blue/);
assert.equal(last.response.output[0].content[0].text, text);
assert(last.response.usage.cost_usd > 0);
