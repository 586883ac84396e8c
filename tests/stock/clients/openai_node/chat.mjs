// Ask one question through the chat completions API.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI();
const completion = await client.chat.completions.create({
  model: "auto",
  messages: [{ role: "user", content: "What is the capital of France?" }],
});

assert.equal(completion.choices[0].finish_reason, "stop");
assert.match(completion.choices[0].message.content, /Paris/);
assert(completion.usage.cost_usd > 0);
