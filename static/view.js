// @ts-check
/** Shows the current request: its text, state and cost. The answer is rendered (rich-text.js); all else is set as text. */

import { count, duration, money } from "./format.js";
import { Funnel } from "./funnel.js";
import { Progress } from "./progress.js";
import { RichText } from "./rich-text.js";
import { endSentence, runningSentence, verdict } from "./sentences.js";
import { StageFigures } from "./stage-figures.js";

/** @typedef {import("./millrace.js").Answer} Answer */
/** @typedef {import("./millrace.js").AnswerEvent} AnswerEvent */
/** @typedef {import("./millrace.js").Attempt} Attempt */
/** @typedef {import("./follow.js").Watcher} Watcher */
/** @typedef {import("./meter.js").Meter} Meter */
/** @typedef {import("./summary.js").Summary} Summary */

const STORY = "dashboard/?request="; // the dashboard shows the story of one request

/** @implements {Watcher} */
export class View {
  #question = element("asked");
  #answer = element("answer");
  #revised = element("revised");
  #reasoning = element("reasoning");
  #refusal = element("refusal");
  #tools = element("tools");
  #status = element("status");
  #error = element("error");
  #calls = element("calls");
  #funnel = new Funnel(element("stage"));
  #text = new RichText(this.#answer);
  #progress = new Progress();
  #figures = new StageFigures();
  #isMetered = false; // a `millrace.usage` has come

  /**
   * Clear the page for a new request.
   * @param {string} question
   * @param {string} cacheMode
   */
  begin(question, cacheMode) {
    this.#question.textContent = question;
    this.#text.showNow("");
    this.#answer.ariaBusy = "true";
    this.#revised.hidden = true;
    for (const part of [this.#error, this.#reasoning, this.#refusal, this.#tools]) part.hidden = true;
    this.#progress = new Progress(cacheMode, this.#progress.names);
    this.#figures = new StageFigures();
    this.#drawFunnel(0);
    for (const id of ["by", "tokens", "first", "total", "cost", "saved"]) put(id, "–");
    element("story").hidden = true;
    this.#isMetered = false;
    this.#showCalls([]);
    this.#setStatus("asking", "Asking…");
    this.#status.scrollIntoView({ block: "nearest" }); // on a phone it may be outside the viewport
  }

  /**
   * Show one event of the running request.
   * @param {AnswerEvent} event
   * @param {Answer} answer
   * @param {Meter} meter
   * @param {number} ms Since it was sent.
   */
  show(event, answer, meter, ms) {
    if (event.type.startsWith("millrace.")) this.#draw(event, ms);
    switch (event.type) {
      case "response.output_text.delta":
        this.#text.show(answer.text);
        this.#revised.classList.toggle("collapsed", true);
        break;
      case "response.reasoning_text.delta":
      case "response.reasoning_summary_text.delta":
      case "response.refusal.delta":
      case "response.output_item.done":
        this.#showExtras(answer);
        break;
      case "millrace.revise":
        this.#showRevise(answer);
        break;
      case "millrace.usage":
        this.#isMetered = true;
        put("saved", money(event.saved_usd));
        this.#showCalls(event.attempts);
    }
    this.#showMeter(meter);
  }

  /**
   * Time has passed.
   * @param {Meter} meter
   * @param {number} ms
   */
  tick(meter, ms) {
    put("total", duration(ms));
    this.#showMeter(meter);
    this.#drawFunnel(ms);
  }

  /** The user has cancelled the request. */
  showStopping() {
    this.#setStatus("stopping", "Stopping…");
  }

  /**
   * Show the end of a request.
   * @param {Summary} summary
   * @param {Answer} answer
   */
  end(summary, answer) {
    this.#text.showNow(answer.text);
    this.#answer.ariaBusy = "false";
    this.#showExtras(answer);
    this.#progress.end(answer.response);
    this.#figures.take(this.#progress, summary.totalMs, answer.response?.usage?.attempts);
    this.#drawFunnel(summary.totalMs);
    /** @param {boolean} estimated */
    const approximate = (estimated) => (estimated ? "about " : "");
    put("by", summary.model || "–");
    const { inputTokens, outputTokens } = summary;
    const tokens = `${approximate(summary.estimated)}${count(inputTokens)} in, ${count(outputTokens)} out`;
    put("tokens", inputTokens === null ? "–" : tokens);
    put("first", duration(summary.firstMs));
    put("total", duration(summary.totalMs));
    if (summary.cost !== null || !this.#isMetered) {
      put("cost", approximate(summary.costEstimated) + money(summary.cost));
      put("saved", money(summary.saved));
      this.#showCalls(answer.response?.usage?.attempts ?? []);
    } // else the last `millrace.usage` is all that is known
    if (answer.id) {
      /** @type {HTMLAnchorElement} */ (element("story")).href = STORY + answer.id;
      element("story").hidden = false;
    }
    this.#setStatus(summary.status, endSentence(summary));
  }

  /**
   * Show an error.
   * @param {{code: string, message: string, param?: string | null}} error
   */
  showError({ code, message, param }) {
    this.#error.replaceChildren(textElement("strong", code), textElement("span", message));
    if (param && !message.includes(param)) this.#error.append(textElement("code", param));
    this.#error.hidden = false;
  }

  /**
   * @param {string} state
   * @param {string} text
   */
  #setStatus(state, text) {
    this.#status.dataset.status = state;
    this.#status.textContent = text;
  }

  /**
   * @param {AnswerEvent} event
   * @param {number} ms
   */
  #draw(event, ms) {
    const { mode } = this.#progress;
    this.#progress.take(event);
    this.#figures.take(this.#progress, ms, event.type === "millrace.usage" ? event.attempts : undefined);
    this.#drawFunnel(ms);
    const changed = event.type === "millrace.route" || this.#progress.mode !== mode; // a hedge starts without an event
    const text = runningSentence(this.#progress);
    if (changed && text) this.#setStatus("streaming", text);
  }

  /** @param {number} ms Since the request was sent. */
  #drawFunnel(ms) {
    this.#funnel.draw(this.#progress, (step) => this.#figures.text(step, ms));
  }

  /**
   * Count while it streams.
   * @param {Meter} meter
   */
  #showMeter({ model, tokens, cost, firstMs, takenBackMs }) {
    if (model) put("by", model);
    if (tokens) put("tokens", `≈ ${count(tokens)} out`);
    if (cost !== null) put("cost", `≈ ${money(cost)} so far`);
    put("first", firstMs === null && takenBackMs !== null ? "taken back" : duration(firstMs));
  }

  /**
   * Show reasoning, refusal and tool calls.
   * @param {Answer} answer
   */
  #showExtras({ reasoning, refusal, toolCalls }) {
    this.#reasoning.hidden = !reasoning;
    put("reasoning", reasoning, "p");
    this.#refusal.hidden = !refusal;
    put("refusal", refusal);
    this.#tools.hidden = !toolCalls.length;
    this.#tools.replaceChildren(...toolCalls.map(toolCallRow));
  }

  /** @param {Attempt[]} attempts */
  #showCalls(attempts) {
    this.#calls.replaceChildren(...attempts.map(attemptRow));
  }

  /** @param {Answer} answer */
  #showRevise(answer) {
    const [{ text, reason, from, to }] = answer.takenBack.slice(-1);
    const fault = `${from} ${verdict(reason)}`;
    const why = textElement("p", `${text ? "Taken back: " : ""}${fault}. ${to} answers instead.`, "why");
    why.append(textElement("code", reason));
    this.#revised.replaceChildren(...(text ? [textElement("del", text)] : []), why);
    this.#revised.classList.remove("collapsed");
    this.#revised.hidden = false;
    this.#text.showNow(answer.text);
    const taken = `The answer of ${from} is taken back: it ${verdict(reason)}`;
    this.#setStatus("streaming", `${text ? taken : fault}. Asking ${to}.`);
  }
}

/**
 * Return the element with this id. Throws if the page has none.
 * @param {string} id
 */
export function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/**
 * @param {string} name
 * @param {string} text
 * @param {string} [className]
 */
export function textElement(name, text, className = "") {
  const node = document.createElement(name);
  node.textContent = text;
  node.className = className;
  return node;
}

/**
 * @param {string} id
 * @param {string} text
 * @param {string} [selector] Of a descendant, to set that one.
 */
function put(id, text, selector) {
  const target = selector ? element(id).querySelector(selector) : element(id);
  if (target) target.textContent = text;
}

/** @param {import("./millrace.js").ToolCall} call */
function toolCallRow({ name, arguments: json }) {
  const row = document.createElement("li");
  row.append(textElement("strong", name), textElement("code", json));
  return row;
}

/** @param {Attempt} attempt */
function attemptRow({ model, tokens, cost_usd, outcome, estimated }) {
  const row = document.createElement("li");
  row.dataset.outcome = outcome;
  const about = estimated ? "about " : "";
  row.append(textElement("span", model), textElement("span", outcome, "outcome"));
  row.append(textElement("span", `${count(tokens)} tokens`));
  row.append(textElement("span", about + money(cost_usd), "sum"));
  return row;
}
