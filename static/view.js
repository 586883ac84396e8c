// @ts-check
/** What the page shows of one request: its words as they come, its state, its figures. Text goes in as text only. */

import { Fall } from "./progress.js";
import { count, duration, money } from "./format.js";
import { Funnel } from "./funnel.js";
import { closing, underWay, verdict } from "./sentences.js";

/** @typedef {import("./millrace.js").Answer} Answer */
/** @typedef {import("./millrace.js").AnswerEvent} AnswerEvent */
/** @typedef {import("./millrace.js").Attempt} Attempt */
/** @typedef {import("./summary.js").Settled} Settled */

export class View {
  #asked = element("asked");
  #words = element("answer");
  #revised = element("revised");
  #reasoning = element("reasoning");
  #refusal = element("refusal");
  #tools = element("tools");
  #status = element("status");
  #error = element("error");
  #calls = element("calls");
  #funnel = new Funnel(element("stage"));
  #fall = new Fall();

  /**
   * A request sets out.
   * @param {string} question
   * @param {string} cache
   */
  begin(question, cache) {
    this.#asked.textContent = question;
    this.#words.textContent = "";
    this.#words.ariaBusy = "true";
    this.#revised.hidden = true;
    for (const part of [this.#error, this.#reasoning, this.#refusal, this.#tools]) part.hidden = true;
    this.#fall = new Fall(cache, this.#fall.names);
    this.#funnel.draw(this.#fall);
    for (const id of ["by", "tokens", "first", "total", "cost", "saved"]) put(id, "–");
    this.#showCalls([]);
    this.say("asking", "Asking…");
    this.#status.scrollIntoView({ block: "nearest" }); // on a phone it is below the fold
  }

  /**
   * Show one event of the running request.
   * @param {AnswerEvent} event
   * @param {Answer} answer
   */
  show(event, answer) {
    if (event.type.startsWith("millrace.")) this.#draw(event);
    switch (event.type) {
      case "response.output_text.delta":
        this.#words.textContent = answer.text;
        this.#revised.classList.toggle("settled", true);
        break;
      case "response.reasoning_text.delta":
      case "response.refusal.delta":
      case "response.output_item.done":
        this.#showBeside(answer);
        break;
      case "millrace.revise":
        this.#takeBack(answer);
        break;
      case "millrace.usage":
        put("cost", money(event.cost_usd));
        put("saved", money(event.saved_usd));
        this.#showCalls(event.attempts);
    }
  }

  /** The user wants no more. */
  stopping() {
    this.say("stopping", "Stopping…");
  }

  /** @param {number} ms Until the first word. */
  firstWord(ms) {
    put("first", duration(ms));
  }

  /**
   * A request ended, whichever way.
   * @param {Settled} settled
   * @param {Answer} answer
   */
  end(settled, answer) {
    this.#words.textContent = answer.text;
    this.#words.ariaBusy = "false";
    this.#showBeside(answer);
    this.#fall.end(answer.response);
    this.#funnel.draw(this.#fall);
    /** @param {boolean} estimated */
    const about = (estimated) => (estimated ? "about " : "");
    put("by", settled.model || "–");
    put("tokens", `${about(settled.estimated)}${count(settled.inputTokens)} in, ${count(settled.outputTokens)} out`);
    put("first", duration(settled.firstMs));
    put("total", duration(settled.totalMs));
    put("cost", about(settled.costEstimated) + money(settled.cost));
    put("saved", money(settled.saved));
    this.#showCalls(answer.response?.usage?.attempts ?? []);
    this.say(settled.status, closing(settled));
  }

  /**
   * Show what went wrong.
   * @param {{code: string, message: string, param?: string | null}} fault
   */
  fault({ code, message, param }) {
    this.#error.replaceChildren(piece("strong", code), piece("span", message));
    if (param && !message.includes(param)) this.#error.append(piece("code", param));
    this.#error.hidden = false;
  }

  /**
   * @param {string} state
   * @param {string} words
   */
  say(state, words) {
    this.#status.dataset.status = state;
    this.#status.textContent = words;
  }

  /** @param {AnswerEvent} event */
  #draw(event) {
    const { mode } = this.#fall;
    this.#fall.take(event);
    this.#funnel.draw(this.#fall);
    const turned = event.type === "millrace.route" || this.#fall.mode !== mode; // a hedge starts its race in silence
    const words = underWay(this.#fall);
    if (turned && words) this.say("streaming", words);
  }

  /** @param {Answer} answer Show what it holds beside its words. */
  #showBeside({ reasoning, refusal, toolCalls }) {
    this.#reasoning.hidden = !reasoning;
    put("reasoning", reasoning, "p");
    this.#refusal.hidden = !refusal;
    put("refusal", refusal);
    this.#tools.hidden = !toolCalls.length;
    this.#tools.replaceChildren(...toolCalls.map(tool));
  }

  /** @param {Attempt[]} attempts */
  #showCalls(attempts) {
    this.#calls.replaceChildren(...attempts.map(call));
  }

  /** @param {Answer} answer */
  #takeBack(answer) {
    const [{ text, reason, from, to }] = answer.takenBack.slice(-1);
    const why = piece("p", `Taken back: ${from} ${verdict(reason)}. ${to} answers instead.`, "why");
    why.append(piece("code", reason));
    this.#revised.replaceChildren(...(text ? [piece("del", text)] : []), why);
    this.#revised.classList.remove("settled");
    this.#revised.hidden = false;
    this.#words.textContent = answer.text;
    this.say("streaming", `The words of ${from} are taken back: it ${verdict(reason)}. Asking ${to}.`);
  }
}

/**
 * The element of this id, which the page has.
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
export function piece(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

/**
 * @param {string} id
 * @param {string} text
 * @param {string} [within] A part of it.
 */
function put(id, text, within) {
  const place = within ? element(id).querySelector(within) : element(id);
  if (place) place.textContent = text;
}

/** @param {import("./millrace.js").ToolCall} call */
function tool({ name, arguments: given }) {
  const row = document.createElement("li");
  row.append(piece("strong", name), piece("code", given));
  return row;
}

/** @param {Attempt} attempt */
function call({ model, tokens, cost_usd, outcome, estimated }) {
  const row = document.createElement("li");
  row.dataset.outcome = outcome;
  const about = estimated ? "about " : "";
  row.append(piece("span", model), piece("span", outcome, "outcome"), piece("span", `${count(tokens)} tokens`));
  row.append(piece("span", about + money(cost_usd), "sum"));
  return row;
}
