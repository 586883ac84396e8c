// Ask about a picture and let the SDK run the tool that the model calls, until there is an answer.
// Arguments: chat or responses of @ai-sdk/openai, or compatible, of @ai-sdk/openai-compatible.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

const [kind] = process.argv.slice(2);
const weather = tool({
  description: "Get the current weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `${city}: 21 degrees, clear`,
});

function modelOf(provider, name) {
  const options = { baseURL: provider.url, apiKey: "x", name: "millrace" };
  if (kind === "compatible") return createOpenAICompatible({ ...options, includeUsage: true }).chatModel(name);
  return createOpenAI(options)[kind](name);
}

async function twoTurns(provider, name, stream) {
  const content = [{ type: "text", text: "What is the weather here?" }];
  if (provider.sees) content.push({ type: "image", image: provider.picture });
  const request = {
    model: modelOf(provider, name),
    instructions: "Be brief.",
    messages: [{ role: "user", content }],
    tools: { get_weather: weather },
    stopWhen: isStepCount(3),
    maxRetries: 0,
    ...(kind === "responses" ? { providerOptions: { openai: { store: false } } } : {}),
  };
  if (!stream) {
    const { text, steps } = await generateText(request);
    assert.equal(text, provider.answer);
    assert.equal(steps.length, 2);
    return;
  }
  let fault;
  const streamed = streamText({ ...request, onError: ({ error }) => (fault = error) });
  await streamed.consumeStream();
  if (fault) throw fault;
  assert.equal(await streamed.text, provider.answer);
}

const failed = {};
for (const [preset, provider] of Object.entries(JSON.parse(process.env.PROVIDERS))) {
  for (const name of ["small", "large"]) {
    for (const stream of [false, true]) {
      try {
        await twoTurns(provider, name, stream);
      } catch (error) {
        failed[`${preset}, ${name}, ${stream ? "streamed" : "whole"}`] = String(error);
      }
    }
  }
}
if (Object.keys(failed).length > 0) throw new Error(JSON.stringify(failed));
