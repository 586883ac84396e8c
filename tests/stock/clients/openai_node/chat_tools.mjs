// Let the SDK call a function for the model, send it the result, and go on until there is an answer.
import assert from "node:assert/strict";
import OpenAI from "openai";

let asked = 0;
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Get the current weather of a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    parse: JSON.parse,
    function: ({ city }) => {
      asked += 1;
      return { city, celsius: 21, sky: "clear" };
    },
  },
};

const client = new OpenAI();
const runner = client.chat.completions.runTools({
  model: "auto",
  messages: [{ role: "user", content: "What is the weather in Paris? [tool=get_weather]" }],
  tools: [weather],
});

assert(await runner.finalContent());
assert.equal(asked, 1);
assert.deepEqual(
  runner.messages.map((message) => message.role),
  ["user", "assistant", "tool", "assistant"],
);
const completions = runner.allChatCompletions();
assert.equal(completions.length, 2);
for (const completion of completions) assert(completion.usage.cost_usd > 0);
