import assert from "node:assert/strict";
import test from "node:test";

import { blocks } from "../../static/markdown.js";
import { Meter } from "../../static/meter.js";
import { Progress } from "../../static/progress.js";
import { snippet } from "../../static/snippets.js";
import { StageFigures } from "../../static/stage-figures.js";

/** @typedef {import("../../static/millrace.js").AnswerEvent} AnswerEvent */

/**
 * An event of the wire.
 * @param {string} type
 * @param {Record<string, unknown>} fields
 */
function event(type, fields) {
  return /** @type {AnswerEvent} */ (/** @type {unknown} */ ({ type, sequence_number: 0, item_id: "m", ...fields }));
}

/** @param {string} delta @param {number} [number] */
function word(delta, number = 0) {
  return event("response.output_text.delta", { delta, sequence_number: number });
}

/** @param {[string, number, number, string][]} calls Model, tokens, dollars, outcome. */
function usage(...calls) {
  const attempts = calls.map(([model, tokens, cost_usd, outcome]) => ({ model, tokens, cost_usd, outcome, estimated: true }));
  return event("millrace.usage", { attempts, cost_usd: attempts.reduce((sum, { cost_usd }) => sum + cost_usd, 0) });
}

test("markdown becomes blocks, and those before the end stay as they are while it grows", () => {
  const text = "Two **bold** words.\n\n- one\n- two\n\n```js\nlet a = 1 < 2;\n```";
  const whole = blocks(text);
  assert.deepEqual(whole, [
    "<p>Two <strong>bold</strong> words.</p>",
    "<ul>\n<li>one</li>\n<li>two</li>\n</ul>",
    '<pre><code class="language-js">let a = 1 &lt; 2;\n</code></pre>',
  ]);
  for (let end = 1; end < text.length; end++) {
    const part = blocks(text.slice(0, end));
    assert.deepEqual(part.slice(0, -1), whole.slice(0, part.length - 1), `cut after ${end} characters`);
  }
  assert.deepEqual(blocks(""), []);
});

test("HTML stays text, there are no images, and no link runs a script", () => {
  assert.deepEqual(blocks("<b>x</b> <img src=x onerror=alert(1)>"), [
    "<p>&lt;b&gt;x&lt;/b&gt; &lt;img src=x onerror=alert(1)&gt;</p>",
  ]);
  assert.doesNotMatch(blocks("![a](https://tracker.test/x.png)").join(), /<img/);
  assert.doesNotMatch(blocks("[x](javascript:alert(1)) [y](data:text/html,z) [z](vbscript:a)").join(), /<a/);
  assert.match(blocks("see https://example.org/a").join(), /<a href="https:\/\/example.org\/a">/);
  assert.doesNotMatch(blocks("example.org and a@b.test").join(), /<a/, "what only looks like an address is none");
});

test("headings are below those of the page without gaps, and tables have no inline style", () => {
  const found = blocks("# A\n\n### B\n\n# C\n\n| a | b |\n|:-:|--:|\n| 1 | 2 |");
  assert.deepEqual(found.slice(0, 3), ["<h3>A</h3>", "<h4>B</h4>", "<h3>C</h3>"]);
  assert.deepEqual(blocks("## A\n\n#### B"), ["<h3>A</h3>", "<h4>B</h4>"]);
  assert.match(found[3], /<th data-align="center">a<\/th>/);
  assert.doesNotMatch(found[3], /style=/);
});

test("the first word is the first that stands", () => {
  const meter = new Meter();
  meter.take(event("millrace.route", { model: "s" }), 1);
  meter.take(word("I don't", 3), 200);
  meter.take(word(" know", 4), 210);
  assert.equal(meter.firstMs, 200);
  meter.take(event("millrace.revise", { keep_through: 2, from_model: "s", to_model: "l" }), 500);
  assert.deepEqual([meter.firstMs, meter.takenBackMs, meter.model], [null, 200, "l"]);
  meter.take(word("Because", 9), 900);
  assert.equal(meter.firstMs, 900);

  const kept = new Meter();
  kept.take(word("Well,", 3), 200);
  kept.take(event("millrace.revise", { keep_through: 3, from_model: "s", to_model: "l" }), 500);
  assert.equal(kept.firstMs, 200, "it was kept");
});

test("tokens and dollars count on between two bills, at what the last tokens have cost", () => {
  const meter = new Meter();
  meter.take(word("12345678"), 100);
  assert.deepEqual([meter.tokens, meter.cost], [2, null]);
  meter.take(usage(["l", 10, 0.001, "running"]), 1000);
  meter.take(word("1234".repeat(5)), 1100);
  assert.deepEqual([meter.tokens, meter.cost], [15, 0.001], "what a token costs is not known yet");
  meter.take(usage(["l", 20, 0.002, "running"]), 2000);
  meter.take(word("1234".repeat(10)), 2100);
  assert.equal(meter.tokens, 30);
  assert.ok(Math.abs((meter.cost ?? 0) - 0.003) < 1e-12);
  meter.take(usage(["l", 28, 0.0028, "running"], ["s", 4, 0.0001, "revised"]), 3000);
  assert.equal(meter.tokens, 32);
  assert.ok(Math.abs((meter.cost ?? 0) - 0.0029) < 1e-12, "a bill overrules what was counted");
});

test("each stage has its time and its dollars", () => {
  const progress = new Progress();
  const figures = new StageFigures();
  /** @param {AnswerEvent} one @param {number} ms */
  const take = (one, ms) => {
    progress.take(one);
    figures.take(progress, ms, one.type === "millrace.usage" ? one.attempts : undefined);
  };
  figures.take(progress, 0);
  assert.equal(figures.text("exact", 1), "");
  take(event("millrace.route", { model: "s", tier: "small", strategy: "auto", cache: "miss", reason: "r", score: 0 }), 3);
  assert.equal(figures.text("exact", 9), "at 3 ms · $0");
  assert.equal(figures.text("semantic", 9), "at 3 ms · $0");
  assert.equal(figures.text("small", 103), "100 ms");
  assert.equal(figures.text("large", 103), "");
  take(event("millrace.revise", { keep_through: -1, from_model: "s", to_model: "l", reason: "unsure" }), 403);
  assert.equal(figures.text("small", 999), "400 ms");
  assert.equal(figures.text("check", 999), "at 403 ms · $0");
  take(usage(["s", 9, 0.00001, "revised"], ["l", 9, 0.0002, "running"]), 903);
  assert.equal(figures.text("small", 999), "400 ms · ≈$0.000010");
  assert.equal(figures.text("large", 1003), "600 ms · ≈$0.00020");
});

test("the call is written in three languages, whatever the question says", () => {
  const question = `It's "5 < 6" \\ and $HOME\n\`\${x}\``;
  const options = { strategy: "auto", delivery: "speculate", cache: "on" };
  const one = { url: "http://127.0.0.1:8000", input: question, model: "auto", options, needsKey: false };
  const python = snippet("python", one);
  assert.ok(python.includes(`            ${JSON.stringify(question)},\n            model="auto",`));
  assert.ok(python.includes('Client("ws://127.0.0.1:8000")'));
  const javascript = snippet("javascript", one);
  assert.ok(javascript.includes('from "http://127.0.0.1:8000/millrace.js"'));
  assert.ok(javascript.includes('  delivery: "speculate",'));
  const curl = snippet("curl", one);
  const body = JSON.parse(curl.slice(curl.indexOf("-d '") + 4, curl.lastIndexOf("'")).replaceAll("'\\''", "'"));
  assert.deepEqual(body, { model: "auto", input: question, stream: true, millrace: { strategy: "auto", cache: "on" } });

  const keyed = { ...one, url: "https://mill.test", needsKey: true, input: [{ role: "user", content: "Hi" }] };
  assert.ok(snippet("python", keyed).includes('Client("wss://mill.test", api_key=os.environ["MILLRACE_API_KEY"])'));
  assert.ok(snippet("curl", keyed).includes('-H "Authorization: Bearer $MILLRACE_API_KEY"'));
  assert.ok(snippet("javascript", keyed).includes("key: process.env.MILLRACE_API_KEY"));
});
