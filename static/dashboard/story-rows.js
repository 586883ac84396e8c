// @ts-check
/** The rows of one request's story. Pure. */

import { count, duration, money, similarity } from "../format.js";
import { answeredBy, escalation, SOURCES, STAGES, STATES, TONES } from "./names.js";
import { counted, percentage } from "./units.js";

/** @typedef {import("./contract.js").Story} Story */
/** @typedef {import("./contract.js").Line} Line */
/** @typedef {import("./table.js").Row} Row */
/** @typedef {import("./table.js").Column} Column */

/** @type {Record<string, Column[]>} */
export const COLUMNS = {
  stages: [{ name: "Stage" }, { name: "What happened" }, { name: "When", hidden: true }, { name: "Time", number: true }, { name: "Cost", number: true }],
  calls: [{ name: "Call" }, { name: "Outcome" }, { name: "When", hidden: true }, { name: "First token", number: true }, { name: "Lasted", number: true }, { name: "Tokens", number: true }, { name: "Cost", number: true }],
  near: [{ name: "Stored answer" }, { name: "Cosine", number: true }, { name: "Would do", number: true }, { name: "Served" }],
  verdicts: [{ name: "Answer of" }, { name: "Verdict" }],
};

/**
 * What became of a request, in one sentence.
 * @param {Line} line
 */
export function storySentence(line) {
  const by = answeredBy(line);
  const time = duration(line.latency_ms);
  const cost = Number(line.cost_usd);
  const saved = Number(line.saved_usd);
  const price = cost ? `It cost ${money(cost)}` : "It cost nothing";
  const compared = saved > 0 ? `, ${money(saved)} less than the large model alone` : saved < 0 ? `, ${money(-saved)} more than the large model alone` : "";
  if (line.status !== "completed") {
    const why = line.code ? ` (${line.code})` : "";
    return `${capital(line.status)}${why} after ${time}. ${price}${compared}.`;
  }
  const who = by === "joined" ? "It shared the answer of an identical request" : `${SOURCES[by] ?? by} answered`;
  const first = line.ttft_ms === null ? "" : `, its first token after ${duration(line.ttft_ms)}`;
  return `${who} in ${time}${first}. ${price}${compared}.`;
}

/**
 * The stages, each with a bar from when it began to when it ended.
 * @param {Story} story
 * @returns {Row[]}
 */
export function stageRows({ stages, line }) {
  const whole = Math.max(line.latency_ms ?? 0, ...stages.map(({ at_ms, took_ms }) => (at_ms ?? 0) + (took_ms ?? 0)), 1);
  return stages.map(({ stage, state, at_ms, took_ms, cost_usd, says }) => ({
    key: stage,
    tone: state,
    cells: [
      { text: STAGES[stage] ?? stage },
      { text: STATES[state] ?? state, badge: TONES[state] ?? "quiet", note: says },
      at_ms === null ? {} : { bar: { from: at_ms / whole, to: (at_ms + Math.max(took_ms ?? 0, whole / 200)) / whole, tone: TONES[state] ?? "quiet" } },
      { text: took_ms === null ? "" : duration(took_ms), note: at_ms === null ? "" : `at ${duration(at_ms)}` },
      Number(cost_usd ?? 0) ? money(Number(cost_usd)) : "",
    ],
  }));
}

/**
 * The calls, each with a bar: quiet until its first token, then in its colour.
 * @param {Story} story
 * @returns {Row[]}
 */
export function callRows({ entry: { calls }, line }) {
  const start = Math.min(0, ...calls.map(({ started_ms }) => started_ms ?? 0));
  const end = Math.max(line.latency_ms ?? 0, ...calls.map(({ started_ms, lasted_ms }) => (started_ms ?? 0) + (lasted_ms ?? 0)), 1);
  /** @param {number} ms */
  const place = (ms) => (ms - start) / (end - start);
  return calls.map((call, index) => {
    const began = call.started_ms ?? 0;
    const tone = TONES[call.outcome] ?? "quiet";
    const tokens = `${count(call.input_tokens)} → ${count(call.output_tokens)}`;
    const cached = call.cached_input_tokens ? `${count(call.cached_input_tokens)} cached` : "";
    return {
      key: String(index),
      cells: [
        { text: call.model, note: [call.tier, call.deployment].filter(Boolean).join(" · ") },
        { text: STATES[call.outcome] ?? call.outcome, badge: tone },
        call.started_ms === null
          ? {}
          : { bar: { from: place(began), to: place(began + (call.lasted_ms ?? 0)), tone, mark: call.ttft_ms === null ? undefined : place(began + call.ttft_ms) } },
        { text: duration(call.ttft_ms), note: call.started_ms === null ? "" : `began at ${duration(call.started_ms)}` },
        duration(call.lasted_ms),
        { text: `${tokens}${call.estimated ? " (est.)" : ""}`, note: cached },
        money(Number(call.cost_usd)),
      ],
    };
  });
}

/**
 * The stored questions that were near, and which was served.
 * @param {Story} story
 * @returns {Row[]}
 */
export function nearRows({ entry: { story } }) {
  return story.near.map(({ entry_id, cosine, probability, scope_off }) => ({
    key: entry_id,
    cells: [
      entry_id,
      similarity(cosine),
      percentage(probability),
      entry_id === story.hit ? { text: "served", badge: "good" } : { text: scope_off ? "its scope is off" : "not served", badge: "quiet" },
    ],
  }));
}

/**
 * What the checks said, and which models did not answer.
 * @param {Story} story
 * @returns {Row[]}
 */
export function verdictRows({ entry: { story } }) {
  const said = story.verdicts.map(({ tier, check, reason }, index) => ({
    key: `verdict ${index}`,
    cells: [SOURCES[tier] ?? tier, check ? { text: `failed: ${check.replaceAll("_", " ")}`, badge: "warn", note: reason || escalation(check) } : { text: "passed all checks", badge: "good" }],
  }));
  const failed = story.failed.map(({ model, code }, index) => ({ key: `failed ${index}`, cells: [model, { text: code, badge: "bad" }] }));
  return [...said, ...failed];
}

/**
 * The router's score on its scale from -1 (surely the small model) to 1 (surely the large one); null without a score.
 * @param {Story} story
 */
export function scoreOf({ entry: { story } }) {
  const scores = story.scores;
  if (!scores) return null;
  /** @param {number} score */
  const place = (score) => (Math.max(-1, Math.min(1, score)) + 1) / 2;
  const from = scores.threshold === null ? "no score is enough for the large model first" : `the large model first from ${signed(scores.threshold)}`;
  return {
    text: `Score ${signed(scores.score)}; ${from}; learned from ${counted(scores.labels, "label")}.`,
    reason: scores.reason,
    at: place(scores.score),
    threshold: scores.threshold === null ? null : place(scores.threshold),
  };
}

/** @param {number} number */
function signed(number) {
  return (number < 0 ? "\u2212" : "+") + Math.abs(number).toFixed(2);
}

/** @param {string} text */
function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
