// Ask one question through the Responses API.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI();
const response = await client.responses.create({ model: "auto", input: "What is the capital of France?" });

assert.equal(response.status, "completed");
assert.match(response.output_text, /Paris/);
assert(response.usage.cost_usd > 0);
