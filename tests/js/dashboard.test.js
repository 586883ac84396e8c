import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import test from "node:test";

import { DEFINITIONS, shownOf, toldBy } from "../../static/dashboard/charts.js";
import { isListed, isSame, parsed, query, watched } from "../../static/dashboard/filters.js";
import { headlineTexts, sparkPath } from "../../static/dashboard/headline.js";
import { answeredBy, escalation } from "../../static/dashboard/names.js";
import * as panels from "../../static/dashboard/panels.js";
import { requestRow, withNew } from "../../static/dashboard/request-rows.js";
import { alone, closer, moved, nearest, stacked } from "../../static/dashboard/series.js";
import { callRows, nearRows, scoreOf, stageRows, storySentence, verdictRows } from "../../static/dashboard/story-rows.js";
import { clock, counted, percentage, period, quantity, rate, shortDuration, shortMoney } from "../../static/dashboard/units.js";
import { waterfallNotes, waterfallRows } from "../../static/dashboard/waterfall.js";
import { bill, figures, line, story } from "./dashboard.js";

/** @typedef {import("../../static/dashboard/table.js").Row} Row */

/** @param {Row} row */
const texts = ({ cells }) => cells.map((cell) => (typeof cell === "string" ? cell : [cell.text, cell.note].filter(Boolean).join(" | ")));

/** @param {Row} row @param {number} index */
function barOf(row, index) {
  const cell = row.cells[index];
  assert.ok(typeof cell !== "string" && cell.bar);
  const { from, to, ...more } = cell.bar;
  return { from: Number(from.toFixed(4)), to: Number(to.toFixed(4)), ...more };
}

test("each bar of the waterfall begins where the last one has ended, and the last one ends at what was paid", () => {
  const rows = waterfallRows(figures().total.waterfall);
  assert.deepEqual(rows.map(({ key }) => key), ["baseline", "exact", "routing", "prefix", "lost", "paid"]);
  assert.deepEqual(texts(rows[1]), ["Exact cache", "", "−$0.0200", "47.3%", "3"]);
  assert.deepEqual(texts(rows[3]), ["Provider's cache", "", "+$0.0010", "2.4%", "3"]);
  assert.deepEqual(texts(rows[5]), ["Paid", "", "$0.0123", "29.1%"]);
  const bars = rows.map((row) => barOf(row, 1));
  assert.deepEqual(bars[0], { from: 0, to: 1, tone: "baseline" });
  for (const [index, { from }] of bars.slice(1, -1).entries()) assert.equal(from, bars[index].to);
  assert.deepEqual([bars[3].tone, bars[4].tone], ["waste", "waste"], "a lever that cost more is no saving");
  assert.deepEqual(bars[5], { from: 0, to: bars[4].to, tone: "cost" });
});

test("a waterfall that falls below nothing, and one of nothing", () => {
  const rows = waterfallRows(bill("0.01", "0.005", { exact: "0.02" }, { lost: "0.015" }));
  const bars = rows.map((row) => barOf(row, 1));
  assert.deepEqual(bars.map(({ from, to }) => [from, to]), [[0.5, 1], [1, 0], [0, 0.75], [0.5, 0.75]]);
  const nothing = waterfallRows(bill("0", "0", {}, {}));
  assert.deepEqual(nothing.map(texts), [["All on the large model", "", "$0", ""], ["Paid", "", "$0", ""]]);
  assert.deepEqual(barOf(nothing[0], 1), { from: 0, to: 0, tone: "baseline" });
});

test("what the waterfall's bars cannot show is said", () => {
  const some = { ...bill("1", "0.5", { exact: "0.5" }, {}), unknown: 2 };
  some.savings[5].requests = 1;
  assert.equal(
    waterfallNotes(some),
    "Stored and shared answers came 271 ms sooner, on average. 1 answer cut by a cap; what the rest would have cost is not known. 2 without a price to compare with; they count " +
      "as what they cost. Nothing from: trimming, semantic cache, shared generations, cheaper model, batch price, service tier, provider's cache.",
  );
  assert.equal(waterfallNotes(bill("0", "0", {}, {})), "");
});

test("the headline says what was spent, saved, and how sure hits are", () => {
  const shown = headlineTexts(figures().total);
  assert.deepEqual([shown.saved, shown["saved-word"], shown["saved-share"]], ["$0.0300", "saved", "70.9%"]);
  assert.deepEqual([shown.spent, shown["would-have"], shown["per-request"]], ["$0.0123", "$0.0423", "$0.000069"]);
  assert.deepEqual([shown.ttft, shown["ttft-more"]], ["210 ms", "p95 500 ms · p99 900 ms"]);
  assert.deepEqual([shown.split, shown["split-more"]], ["77.9%", "22.1% large · 10.5% escalated"]);
  const loss = headlineTexts({ ...figures().total, saved_usd: "-0.01", saved_share: -0.2, cost_per_request_usd: null });
  assert.deepEqual([loss.saved, loss["saved-share"], loss["per-request"]], ["$0.0100", "20%", "–"]);
  assert.ok(loss["saved-word"].startsWith("lost"));
  const rates = { kind: "wrong_hits", name: "semantic cache", promised: 0.02, is_upper: true, estimate: 0.004 };
  const known = { ...rates, upper: 0.015, judged: 410, holds: /** @type {const} */ ("yes"), because: "" };
  assert.equal(panels.wrongHits([known]), "wrong hits ≤ 1.5% (95%); promised ≤ 2%");
  assert.equal(panels.wrongHits([{ ...known, upper: null, judged: 0 }]), "wrong hits not judged yet; promised ≤ 2%");
  assert.equal(panels.wrongHits([]), "");
});

test("the spark line ends at the right, and is flat without traffic", () => {
  assert.equal(sparkPath([0, 2, 1], 3), "M0.0 23.0L50.0 1.0L100.0 12.0");
  assert.equal(sparkPath([0, 0], 3), "M50.0 23.0L100.0 23.0");
  assert.equal(sparkPath([], 3), "");
});

test("who answered: the kinds of hits are told apart, and drawn to scale", () => {
  const rows = panels.sourceRows(figures().total);
  assert.deepEqual(rows.map(({ key }) => key), ["exact", "semantic", "small", "large", "none"]);
  assert.deepEqual([barOf(rows[0], 1), barOf(rows[1], 1).to], [{ from: 0, to: 1, tone: "exact" }, 0.6667], "against the most");
  assert.deepEqual(texts(rows[4]), ["No answer", "", "1.1%", "2", "$0.00030", "210 ms"]);
});

test("escalations and errors have their reasons in words, and their shares", () => {
  const { escalations } = figures().total;
  assert.deepEqual(panels.escalationRows(escalations).map(texts), [
    ["It was unsure", "", "4 | 57.1%"],
    ["upstream timeout", "", "3 | 42.9%"],
  ]);
  assert.deepEqual(panels.errorRows(figures().total).map(texts), [
    ["upstream_error", "", "1 | 25%"],
    ["max_output_tokens | incomplete", "", "2 | 50%"],
    ["cancelled by the client", "", "1 | 25%"],
  ]);
  assert.equal(escalation("loop"), "It went round in circles");
});

test("checks show what they caught with its bounds; one that nobody knows is left out", () => {
  const rate = { judged: 410, effective: 300, estimate: 0.9, lower: 0.85, upper: 0.94, since: 1 };
  const none = { judged: 0, effective: 0, estimate: null, lower: null, upper: null, since: null };
  const few = { ...none, judged: 3 };
  const known = [
    { check: "format", catch: few, false_alarms: none, needless: none, off: ["acme"] },
    { check: "unsure", catch: rate, false_alarms: none, needless: none, off: [] },
    { check: "loop", catch: none, false_alarms: none, needless: none, off: [] },
  ];
  assert.deepEqual(panels.checkRows([{ check: "unsure", failed: 4 }], known).map(texts), [
    ["unsure", "4", "90% | 85% – 94%", "–"],
    ["format | switched off: it does not tell", "0", "– | 3 judged", "–"],
  ]);
});

test("a promise is drawn with its bounds and its limit, whether it is an upper or a lower one", () => {
  const [hits, quality, spend] = panels.promiseRows([
    { kind: "wrong_hits", name: "semantic cache", promised: 0.02, is_upper: true, estimate: 0.004, lower: 0.001, upper: 0.06, holds: "no", because: "b" },
    { kind: "quality", name: "auto", promised: 0.95, is_upper: false, estimate: null, lower: null, upper: null, holds: "unknown", because: "" },
    { kind: "spend", name: "today", promised: "5", is_upper: true, estimate: "1.5", holds: "yes", because: "" },
  ]);
  assert.deepEqual(texts(hits), ["Wrong cache hits: at most 2% | b", "", "broken"]);
  assert.deepEqual(barOf(hits, 1), { from: 0.0167, to: 1, tone: "waste", mark: 0.02 / 0.06 });
  assert.deepEqual(barOf(quality, 1), { from: 0, to: 0, tone: "nothing", mark: 0.95 });
  assert.deepEqual(texts(spend), ["Spent today: at most $5.00", "", "kept"]);
  assert.deepEqual(barOf(spend, 1), { from: 0, to: 0.2, tone: "saving", mark: 5 / 7.5 });
});

test("budgets, races, groups, days and deployments", () => {
  const budget = { kind: "tenant", tenant: "acme", name: "acme", period: "day", limit_usd: "5", spent_usd: "4.2", reserved_usd: "0", left_usd: "0.8", share: 0.84, step: "warn" };
  assert.deepEqual(panels.budgetRows([budget]).map(texts), [["tenant acme | $4.20 of $5.00 a day", "", "$0.8000 | warned"]]);
  assert.deepEqual(barOf(panels.budgetRows([budget])[0], 1), { from: 0, to: 0.84, tone: "waste", mark: 0.8 });
  const races = panels.raceRows(figures().total.races, { made: 2, won: 1, refused: 0, off: 0, is_off: true });
  assert.deepEqual(texts(races[1]), ["Hedges | off now: both models are slow", "2"]);
  assert.deepEqual(texts(races[5]), ["Paid for these", "$0.0020"]);
  const group = { name: "(none)", requests: 1200, errors: 2, cost_usd: "1.5", saved_usd: "2", ttft_p50_ms: 1, ttft_p95_ms: 2, total_p50_ms: 900, total_p95_ms: null };
  assert.deepEqual(panels.groupRows([group]).map(texts), [["none", "1,200 | 2 errors", "$1.50", "$2.00", "900 ms | p95 –"]]);
  const days = panels.dayRows(figures().days);
  assert.deepEqual(days.map(({ key }) => key), ["2026-11-29", "2026-11-28"], "the latest first");
  assert.deepEqual(barOf(days[1], 1), { from: 0, to: 0.25, tone: "cost", mark: 1 });
  const fared = { failing_since: null, last_cause: null, failures_last_5_minutes: 0 };
  const place = { label: "one", running: 2, breaker: "closed", why: null, status: "ok", ...fared };
  const model = { tier: "small", name: "small", model: "gpt-small", can_be_asked: true, ttft_p50_ms: 210, ttft_p95_ms: null, status: "degraded", ...fared, last_cause: "timeout", failures_last_5_minutes: 1 };
  const broken = { ...place, label: "two", running: 1, breaker: "open", why: "5 failures", status: "failing", failing_since: 940 };
  assert.deepEqual(panels.deploymentRows([{ ...model, deployments: [place, broken] }], 1000).map(texts), [
    ["gpt-small | small", "degraded | 1 failure in 5 min: timeout", "3", "210 ms"],
    ["one", "ok", "2", ""],
    ["two", "failing | left alone: 5 failures · for 60 s", "1", ""],
  ]);
  assert.equal(panels.deploymentRows([{ ...model, deployments: [place] }], 1000).length, 1);
});

test("filters survive the way through the URL", () => {
  assert.equal(query(parsed("")), "");
  assert.equal(parsed("").since, "24h");
  const shown = parsed("?model=gpt%2Fsmall&since=7d&request=resp_1&status=failed&other=1");
  assert.deepEqual([shown.model, shown.since, shown.request, shown.status, shown.tag], ["gpt/small", "7d", "resp_1", "failed", ""]);
  assert.equal(query(shown), "since=7d&model=gpt%2Fsmall&status=failed&request=resp_1");
  assert.deepEqual(watched(shown), { since: "7d", until: null, model: "gpt/small", tenant: null, tag: null });
  assert.ok(isSame(shown, { ...shown, ...{ request: "", status: "" } }), "the list and the story do not change the figures");
  assert.ok(!isSame(shown, { ...shown, tag: "shop" }));
});

test("the list takes what it shows, once", () => {
  assert.ok(isListed(line(), { status: "", source: "" }));
  assert.ok(!isListed(line(), { status: "failed", source: "" }));
  assert.ok(isListed(line({ source: null }), { status: "", source: "none" }));
  const [one, two, three] = ["1", "2", "3"].map((id) => line({ id }));
  assert.deepEqual(withNew([one], [three, two, one], 9).map(({ id }) => id), ["3", "2", "1"]);
  assert.deepEqual(withNew([two, one], [three], 2).map(({ id }) => id), ["3", "2"]);
  const same = [one];
  assert.equal(withNew(same, [one], 9), same, "nothing new is drawn");
});

test("the row of a request says who answered, or how it ended", () => {
  const now = 1764418900;
  assert.deepEqual(texts(requestRow(line(), now)).slice(1), ["Small model | gpt-small", "small first | auto", "210 ms", "900 ms", "20 → 40", "$0.000010", "$0.00020"]);
  const failed = requestRow(line({ status: "failed", code: "upstream_error", source: null, ttft_ms: null }), now);
  assert.deepEqual(texts(failed)[1], "failed: upstream_error | gpt-small");
  assert.equal(answeredBy(line({ source: "cache", cache: "semantic" })), "semantic");
  assert.equal(answeredBy(line({ cache: "joined" })), "joined");
  const revised = requestRow(line({ source: "large", escalated: true, failed_check: "unsure" }), now);
  assert.ok(texts(revised)[2].startsWith("It was unsure; small first"));
});

test("a value with none beside it is a dot, since no line would show it", () => {
  assert.deepEqual(alone([null, 3, null, 1, 2, null, 0]), [1, 6]);
  assert.deepEqual(alone([5]), [0]);
  assert.equal(alone([1, 2, null]), null);
});

test("any tag can be read and clicked", () => {
  assert.deepEqual(["(none)", "shop", "constructor", " "].map(panels.groupName), ["none", "shop", "constructor", '" "']);
});

test("charts: stacked lines, shares without a request, and the request that a point tells of", () => {
  assert.deepEqual(stacked([[1, null], [2, 3]]), [[1, null], [3, 3]]);
  const [requests, , , cost, , shares] = DEFINITIONS;
  assert.deepEqual(shownOf(requests, figures()).values.map((values) => Math.round((values[0] ?? 0) * 3600)), [100, 60, 17, 2]);
  const late = { ...figures(), now: 1764417600 + 1800 };
  assert.equal(shownOf(requests, late).values[0][0], 100 / 1800, "a step that is not over");
  assert.deepEqual(shownOf(cost, late).values.map((values) => values[0]), [0.0246, 0.0846]);
  assert.deepEqual(shownOf(cost, { ...late, now: 1764417600 + 100 }).values[0], [null, null], "one that has just begun");
  assert.deepEqual(shownOf(shares, figures()).values.map((values) => values[1]), [null, null, null]);
  assert.equal(toldBy(cost, figures(), 1764417600), "resp_dear");
  assert.equal(toldBy(shares, figures(), 1764417600), "resp_slow", "none failed, so it is the slowest");
  assert.equal(toldBy(cost, figures(), 1764421200), null);
  assert.equal(toldBy(cost, figures(), 5), null);
  for (const { values, lines } of DEFINITIONS) assert.equal(values(figures().series, [3600, 3600]).length, lines.length);
});

test("the cursor of a chart: nearest times, and keys", () => {
  assert.deepEqual([5, 14, 16, 99].map((time) => nearest([10, 20, 30], time)), [0, 0, 1, 2]);
  assert.equal(nearest([], 5), -1);
  assert.deepEqual(["ArrowLeft", "ArrowRight", "Home", "End", "PageUp", "a"].map((key) => moved(key, 5, 20)), [4, 6, 0, 19, 7, null]);
  const day = { from: 0, until: 86_400, step: 60 };
  assert.deepEqual([closer(day, 43_170), closer(day, 0), closer(day, 86_340)], [[32_400, 54_000], [0, 21_600], [64_800, 86_400]]);
  assert.deepEqual(closer({ from: 0, until: 900, step: 60 }, 420), [150, 750], "ten steps at least");
  assert.deepEqual(closer({ from: 0, until: 300, step: 60 }, 120), [0, 300], "never more than there is");
  assert.deepEqual([moved("ArrowRight", 19, 20), moved("ArrowLeft", 0, 20), moved("End", 0, 0)], [19, 0, null]);
});

test("a story in one sentence", () => {
  assert.equal(storySentence(line()), "Small model answered in 900 ms, its first token after 210 ms. It cost $0.000010, $0.00020 less than the large model alone.");
  assert.equal(storySentence(line({ status: "failed", code: "upstream_error", cost_usd: "0", saved_usd: "0" })), "Failed (upstream_error) after 900 ms. It cost nothing.");
  assert.ok(storySentence(line({ cache: "joined" })).startsWith("It shared the answer of an identical request in 900 ms"));
  assert.ok(storySentence(story().line).endsWith("$0.00010 more than the large model alone."));
});

test("a story's stages and calls are drawn on the request's own time", () => {
  const stages = stageRows(story());
  assert.deepEqual(stages.map(({ tone }) => tone), ["missed", "revised", "answered"]);
  assert.deepEqual(texts(stages[1]), ["Small model", "taken back | gpt-small: 20 tokens in, 40 out", "", "500 ms | at 0 ms", "$0.000010"]);
  assert.deepEqual(barOf(stages[2], 2), { from: 0.25, to: 1, tone: "good" });
  const calls = callRows(story());
  assert.deepEqual(barOf(calls[0], 2), { from: 0, to: 0.25, tone: "warn", mark: 0.05 });
  assert.deepEqual(texts(calls[1]), ["gpt-large | large", "answered", "", "– | began at 500 ms", "1.5 s", "20 → 40", "$0.0010"]);
  const early = story();
  early.entry.calls[0].started_ms = -500;
  assert.deepEqual(barOf(callRows(early)[0], 2), { from: 0, to: 0.2, tone: "warn", mark: 0.04 }, "begun for another request");
});

test("a story's near hits, verdicts and score", () => {
  assert.deepEqual(nearRows(story()).map(texts), [["e_1", "0.93", "41%", "not served"]]);
  const served = story();
  served.entry.story.hit = "e_1";
  assert.equal(texts(nearRows(served)[0])[3], "served");
  served.entry.story.failed = [{ model: "m", code: "timeout" }];
  assert.deepEqual(verdictRows(served).map(texts), [["Small model", "failed: unsure | It was unsure"], ["m", "timeout"]]);
  assert.deepEqual(scoreOf(story()), {
    text: "Score −0.12; the large model first from +0.30; learned from 812 labels.",
    reason: "small first",
    at: 0.44,
    threshold: 0.65,
  });
  served.entry.story.scores = null;
  assert.equal(scoreOf(served), null);
});

test("numbers, short and with the digits that count", () => {
  assert.deepEqual([0.3821, 0.00123, 1, 0, null].map(percentage), ["38.2%", "0.12%", "100%", "0%", "–"]);
  assert.deepEqual([500, 0.01234, 12_345, null].map(rate), ["500/s", "0.012/s", "12.3K/s", "–"]);
  assert.deepEqual([quantity(4.5678), quantity(1_000_000)], ["4.57", "1M"]);
  assert.deepEqual([shortDuration(250), shortDuration(12_300)], ["250 ms", "12.3 s"]);
  assert.deepEqual([0, 1200, 0.00042].map(shortMoney), ["$0", "$1.2K", "$0.00042"]);
  assert.deepEqual([counted(1, "reply"), counted(2, "reply"), counted(12_000, "answer")], ["1 reply", "2 replies", "12K answers"]);
});

test("moments are as precise as their step", () => {
  const noon = new Date(2026, 10, 29, 12, 5, 7).getTime() / 1000;
  assert.deepEqual([clock(noon, 1), clock(noon, 60), clock(noon, 86_400)], ["12:05:07", "12:05", "Nov 29"]);
  assert.equal(period(noon - 7, noon + 3593), "Nov 29, 12:05 – 13:05");
  const midnight = new Date(2026, 10, 28).getTime() / 1000;
  assert.deepEqual([clock(midnight, 3600), clock(midnight, 60)], ["Nov 28", "00:00"]);
  assert.equal(period(midnight, midnight + 7 * 86_400), "Nov 28 – Dec 4");
});

test("every module is asked for at once, not one after the other as imports are found", () => {
  const folder = new URL("../../static/dashboard/", import.meta.url);
  const page = readFileSync(new URL("index.html", folder), "utf8");
  const preloaded = [...page.matchAll(/rel="modulepreload" href="([^"]+)"/g)].map(([, href]) => href);
  const own = readdirSync(folder).filter((name) => name.endsWith(".js") && !["contract.js", "page.js", "theme.js"].includes(name));
  assert.deepEqual(preloaded.filter((href) => !href.startsWith("..")), own.sort());
  for (const href of preloaded) assert.ok(readFileSync(new URL(href, folder), "utf8").length > 0);
});
