/** What a program in TypeScript sees of the package; it is checked, and never run. */

import { type Answer, connect, type ConnectOptions, type Reply, type Revise, RateLimitError } from "millrace";

const options: ConnectOptions = { url: "wss://millrace.example/v1/responses", key: "mr_x" };
const client = await connect(options);
const answer: Answer = client.stream("Why?", { lane: "a", signal: AbortSignal.timeout(5), deadlineMs: 20_000 });
const revises: Revise[] = [];
for await (const event of answer) {
  if (event.type === "millrace.revise") revises.push(event);
  if (event.type === "response.output_text.delta") event.delta.toUpperCase();
}
const reply: Reply = await client.ask("Why?").catch((error: unknown) => {
  if (error instanceof RateLimitError) console.log(error.retryAfterMs?.toFixed());
  throw error;
});
reply.costUsd.toFixed(9);
// @ts-expect-error: there is no such option
client.stream("Why?", { stategy: "small" });
// @ts-expect-error: milliseconds are a number
client.stream("Why?", { deadlineMs: "soon" });
