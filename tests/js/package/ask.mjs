/** A program of somebody who has installed the package: `node ask.mjs URL KEY`. Prints what it has got as JSON. */

import { AccessError, ConnectionLostError, connect, InvalidRequestError, MillraceError } from "millrace";

const [url, key] = process.argv.slice(2);
const states = [];
const client = await connect({ url, key, onState: (state) => states.push(state) });

const answer = client.stream("What is 2 + 2?");
const types = new Set();
for await (const { type } of answer) types.add(type);

const controller = new AbortController();
const long = client.stream("Tell me a long story. [tokens=400] [rate=50]", { signal: controller.signal });
for await (const { type } of long) if (type === "response.output_text.delta") controller.abort();

const wrong = await client.ask("Why?", { strategy: "fastest" }).catch((error) => error);
const stranger = await connect({ url, key: "mr_stranger" }).catch((error) => error);
const closed = await client.close();

console.log(
  JSON.stringify({
    text: answer.text,
    cost: (await answer.done).usage.cost_usd,
    revisable: types.has("millrace.route"),
    stopped: (await long.done).status,
    wrong: [wrong instanceof InvalidRequestError && wrong instanceof MillraceError, wrong.param],
    stranger: [stranger instanceof AccessError, stranger.code],
    closed: closed.code,
    states,
    lost: new ConnectionLostError("x").name,
  }),
);
