// @ts-check
/** The call that the page makes, as a program that makes it too. Pure. */

/**
 * @typedef {"python" | "javascript" | "curl"} Language
 * @typedef {{role: string, content: string}} Turn
 *
 * @typedef {object} Call
 * @property {string} url Of the server, such as http://127.0.0.1:8000.
 * @property {string | Turn[]} input A question, or a conversation.
 * @property {string} model
 * @property {Record<string, string>} options Of Millrace.
 * @property {boolean} needsKey
 */

const KEY = "MILLRACE_API_KEY";

/**
 * @param {Language} language
 * @param {Call} call
 */
export function snippet(language, call) {
  return { python, javascript, curl }[language](call);
}

/** @param {Call} call */
function python({ url, input, model, options, needsKey }) {
  const fields = Object.entries({ model, ...options }).map(([name, value]) => `            ${name}=${JSON.stringify(value)},\n`);
  const key = needsKey ? `, api_key=os.environ["${KEY}"]` : "";
  return `import asyncio
${needsKey ? "import os\n" : ""}from millrace_client import Client


async def main():
    async with Client("${socketOf(url)}"${key}) as client:
        stream = client.stream(
            ${literal(input, 12)},
${fields.join("")}        )
        async for _ in stream:
            print("\\r" + stream.text, end="")  # the text so far, without what was taken back
        reply = await stream.reply()
        print(f"\\n{reply.route}: \${reply.cost_usd}")


asyncio.run(main())
`;
}

/** @param {Call} call */
function javascript({ url, input, model, options, needsKey }) {
  const fields = Object.entries({ model, ...options }).map(([name, value]) => `  ${name}: ${JSON.stringify(value)},`);
  const where = `url: "${socketOf(url)}/v1/responses"`;
  return `import { connect } from "${needsKey ? "millrace" : `${url}/millrace.js`}";

const client = await connect({ ${where}${needsKey ? `, key: process.env.${KEY}` : ""} });
const answer = client.stream(${literal(input, 0)}, {
${fields.join("\n")}
});
for await (const _ of answer) console.log(answer.text); // the text so far, without what was taken back
const { metadata, usage } = await answer.done;
console.log(metadata["millrace.route"], usage.cost_usd);
await client.close();
`;
}

/** @param {Call} call */
function curl({ url, input, model, options, needsKey }) {
  const { delivery, ...rest } = options;
  const millrace = delivery === "speculate" ? rest : options; // over HTTP nothing can be taken back
  const body = JSON.stringify({ model, input, stream: true, millrace }, null, 2);
  const key = needsKey ? `  -H "Authorization: Bearer $${KEY}" \\\n` : "";
  return `curl -N ${url}/v1/responses \\
${key}  -H "Content-Type: application/json" \\
  -d '${body.replaceAll("'", "'\\''")}'
`;
}

/**
 * A value as Python and JavaScript both read it: JSON without null, true and false is such a literal.
 * @param {string | Turn[]} input
 * @param {number} indent Spaces before the line it is in.
 */
function literal(input, indent) {
  if (typeof input === "string") return JSON.stringify(input);
  return JSON.stringify(input, null, 4).replaceAll("\n", `\n${" ".repeat(indent)}`);
}

/** @param {string} url */
function socketOf(url) {
  return url.replace(/^http/, "ws");
}
