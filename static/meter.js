// @ts-check
/**
 * What a request has brought and cost so far. The server tells the bill once a second (`millrace.usage`); between, tokens
 * are counted from the text, and dollars from what the model's last tokens have cost. Pure.
 */

/** @typedef {import("./millrace.js").AnswerEvent} AnswerEvent */

const CHARACTERS = 4; // of a token, about
const WORDS = ["response.output_text.delta", "response.refusal.delta"];
const THOUGHTS = ["response.reasoning_text.delta", "response.reasoning_summary_text.delta"];

export class Meter {
  /** @type {number | null} Milliseconds until the first word that stands. */
  firstMs = null;
  /** @type {number | null} Until the first word that was shown, if it was taken back. */
  takenBackMs = null;
  /** The model that was named last. */
  model = "";
  /** @type {number | null} Dollars; null before the first bill. */
  #cost = null;
  #billed = 0; // tokens
  #characters = 0; // since
  #dollarsPerToken = 0;
  #firstNumber = 0; // `sequence_number` of the first word

  /** About how many tokens have come, also of text that was taken back. */
  get tokens() {
    return this.#billed + Math.round(this.#characters / CHARACTERS);
  }

  /** Dollars so far; null before the first bill. */
  get cost() {
    return this.#cost === null ? null : this.#cost + (this.tokens - this.#billed) * this.#dollarsPerToken;
  }

  /**
   * @param {AnswerEvent} event
   * @param {number} ms Since the request was sent.
   */
  take(event, ms) {
    if ("delta" in event && (WORDS.includes(event.type) || THOUGHTS.includes(event.type))) {
      this.#characters += event.delta.length;
      if (this.firstMs === null && WORDS.includes(event.type)) {
        this.firstMs = ms;
        this.#firstNumber = event.sequence_number;
      }
    } else if (event.type === "millrace.route") {
      this.model = event.model;
    } else if (event.type === "millrace.revise") {
      this.model = event.to_model;
      if (event.keep_through < this.#firstNumber) this.#takeBack();
    } else if (event.type === "millrace.usage") {
      this.#bill(event.attempts.reduce((sum, { tokens }) => sum + tokens, 0), event.cost_usd);
    }
  }

  #takeBack() {
    this.takenBackMs ??= this.firstMs;
    this.firstMs = null;
  }

  /**
   * @param {number} tokens
   * @param {number} dollars
   */
  #bill(tokens, dollars) {
    if (this.#cost !== null && tokens > this.#billed) this.#dollarsPerToken = (dollars - this.#cost) / (tokens - this.#billed);
    this.#cost = dollars;
    this.#billed = tokens;
    this.#characters = 0;
  }
}
