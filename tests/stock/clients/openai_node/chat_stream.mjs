// Ask one question through the chat completions API, and read the answer as it comes.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI();
const stream = await client.chat.completions.create({
  model: "auto",
  messages: [{ role: "user", content: "Why is the sky blue?" }],
  stream: true,
  stream_options: { include_usage: true },
});

let text = "";
const reasons = [];
let usage;
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  if (chunk.choices[0]?.finish_reason) reasons.push(chunk.choices[0].finish_reason);
  usage = chunk.usage ?? usage;
}

assert.match(text, /blue/);
assert.deepEqual(reasons, ["stop"]);
assert(usage.cost_usd > 0);
