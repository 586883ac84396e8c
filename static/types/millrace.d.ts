/**
 * Connect to a Millrace server; by default, to the server of this page.
 * @param {ConnectOptions} [options]
 * @returns {Promise<Client>}
 */
export function connect(options?: ConnectOptions): Promise<Client>;
export { Answer } from "./answer.js";
/**
 * @typedef {string | (() => Promise<string>)} Ticket A ticket, or a function that fetches one for each connection.
 * @typedef {"connected" | "draining" | "broken" | "lost"} State
 *
 * @typedef {object} ConnectOptions
 * @property {string} [url] `ws:` or `wss:`; by default the server of this page. Node needs it.
 * @property {Ticket} [ticket] Your backend creates it with its API key.
 * @property {string | null} [key] An API key. In Node it goes with the connection; in a browser the client gets tickets
 *   with it. Never put one into a page.
 * @property {boolean} [negotiate] If false, the client receives standard events only, never text that is later taken
 *   back, and cannot resume.
 * @property {(state: State) => void} [onState] Called when the state of the connection changes. In "lost" nothing is
 *   tried any more until the next request; after `closed` it is for good.
 * @property {number} [tries] How often in a row it tries to connect again; 5 by default.
 * @property {typeof globalThis.WebSocket} [WebSocket] Another class, which is opened as in a browser.
 * @property {typeof globalThis.fetch} [fetch]
 * @property {(ms: number) => Promise<void>} [pause]
 */
/** A client of a Millrace server. It has one connection for new requests, and may have others that drain. */
export class Client {
    /**
     * Made by `connect`.
     * @param {ConnectOptions} options
     */
    constructor(options: ConnectOptions);
    /** @type {Hello | null} The `millrace.hello` of the last connection; null if it was not negotiated. */
    hello: Hello | null;
    /** @type {Promise<Closed>} Resolves when the connection is closed for good. */
    closed: Promise<Closed>;
    /**
     * Send a request and return its answer, which is still empty.
     * @param {Input} input
     * @param {StreamOptions} [options]
     * @returns {Answer}
     */
    stream(input: Input, { lane, signal, ...fields }?: StreamOptions): Answer;
    /**
     * Send a request and wait for its whole answer.
     * @param {Input} input
     * @param {StreamOptions} [options]
     * @returns {Promise<Reply>}
     */
    ask(input: Input, options?: StreamOptions): Promise<Reply>;
    /**
     * Return an answer with the events of a response after number `after`; by default, with all its events.
     * @param {string} responseId
     * @param {{after?: number, epoch?: string, signal?: AbortSignal}} [options] `epoch` is that of the hello when it was
     *   sent.
     * @returns {Answer}
     */
    resume(responseId: string, { after, epoch, signal }?: {
        after?: number;
        epoch?: string;
        signal?: AbortSignal;
    }): Answer;
    /** @returns {Promise<number>} The round-trip time to the server in milliseconds. */
    ping(): Promise<number>;
    /** Close the connection. Answers that have not ended fail with `connection_lost`. */
    close(): Promise<import("./connection.js").Closed>;
    /** Open a connection; called by `connect`. */
    open(): Promise<void>;
    #private;
}
export type AnswerEvent = import("./answer.js").AnswerEvent;
export type Attempt = import("./answer.js").Attempt;
export type Fault = import("./errors.js").Fault;
export type Hello = import("./answer.js").Hello;
export type Reply = import("./answer.js").Reply;
export type Response = import("./answer.js").Response;
export type Revise = import("./answer.js").Revise;
export type Route = import("./answer.js").Route;
export type ToolCall = import("./answer.js").ToolCall;
export type Usage = import("./answer.js").Usage;
export type UsageSoFar = import("./answer.js").UsageSoFar;
export type Closed = import("./connection.js").Closed;
export type Input = import("./request.js").Input;
export type StreamOptions = import("./request.js").StreamOptions;
/**
 * A ticket, or a function that fetches one for each connection.
 */
export type Ticket = string | (() => Promise<string>);
export type State = "connected" | "draining" | "broken" | "lost";
export type ConnectOptions = {
    /**
     * `ws:` or `wss:`; by default the server of this page. Node needs it.
     */
    url?: string | undefined;
    /**
     * Your backend creates it with its API key.
     */
    ticket?: Ticket | undefined;
    /**
     * An API key. In Node it goes with the connection; in a browser the client gets tickets
     * with it. Never put one into a page.
     */
    key?: string | null | undefined;
    /**
     * If false, the client receives standard events only, never text that is later taken
     * back, and cannot resume.
     */
    negotiate?: boolean | undefined;
    /**
     * Called when the state of the connection changes. In "lost" nothing is
     * tried any more until the next request; after `closed` it is for good.
     */
    onState?: ((state: State) => void) | undefined;
    /**
     * How often in a row it tries to connect again; 5 by default.
     */
    tries?: number | undefined;
    /**
     * Another class, which is opened as in a browser.
     */
    WebSocket?: {
        new (url: string | URL, protocols?: string | string[]): WebSocket;
        prototype: WebSocket;
        readonly CONNECTING: 0;
        readonly OPEN: 1;
        readonly CLOSING: 2;
        readonly CLOSED: 3;
    } | undefined;
    fetch?: typeof fetch | undefined;
    pause?: ((ms: number) => Promise<void>) | undefined;
};
import { Answer } from "./answer.js";
export { AccessError, BudgetError, ConnectionFailedError, ConnectionLostError, InvalidRequestError, MillraceError, RateLimitError, ServerError, TimedOutError, UpstreamError } from "./errors.js";
