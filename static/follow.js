// @ts-check
/** Reads an answer to its end, with the clock beside it. */

import { Meter } from "./meter.js";
import { MillraceError } from "./millrace.js";
import { summarize } from "./summary.js";

/** @typedef {import("./millrace.js").Answer} Answer */
/** @typedef {import("./millrace.js").AnswerEvent} AnswerEvent */
/** @typedef {import("./summary.js").Summary} Summary */

const TICK_MS = 100;

/**
 * @typedef {object} Watcher
 * @property {(event: AnswerEvent, answer: Answer, meter: Meter, ms: number) => void} show
 * @property {(meter: Meter, ms: number) => void} tick Called ten times a second while nothing else may happen.
 * @property {(summary: Summary, answer: Answer) => void} end
 * @property {(error: {code: string, message: string, param?: string | null}) => void} showError
 */

/**
 * Show an answer until it ends, and return its summary.
 * @param {Answer} answer
 * @param {string} question
 * @param {Watcher} watcher
 * @returns {Promise<Summary>}
 */
export async function follow(answer, question, watcher) {
  const started = performance.now();
  const now = () => performance.now() - started;
  const meter = new Meter();
  const ticking = setInterval(() => watcher.tick(meter, now()), TICK_MS);
  let failure = null;
  try {
    for await (const event of answer) {
      const ms = now();
      meter.take(event, ms);
      watcher.show(event, answer, meter, ms);
    }
    failure = (await answer.done).error;
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error;
    failure = error;
  } finally {
    clearInterval(ticking);
  }
  const summary = summarize(question, answer, failure, { firstMs: meter.firstMs, totalMs: now() });
  watcher.end(summary, answer);
  if (failure) watcher.showError(failure);
  return summary;
}
