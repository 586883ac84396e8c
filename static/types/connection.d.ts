export class Connection {
    /**
     * @param {WebSocket} socket Not open yet: the server sends the first event.
     * @param {Listener} listener
     */
    constructor(socket: WebSocket, listener: Listener);
    /** @type {Hello | null} Null before it has arrived, and on a connection that is not negotiated. */
    hello: Hello | null;
    get isFull(): boolean;
    /** Whether the server has accepted the subprotocol, and sends `millrace.*` events. */
    get isNegotiated(): boolean;
    get isOpen(): boolean;
    /**
     * Whether an answer was requested on this connection and has not ended.
     * @param {Answer} answer
     */
    carries(answer: Answer): boolean;
    close(): void;
    /**
     * Send the request of an answer.
     * @param {Answer} answer
     */
    ask(answer: Answer): void;
    /**
     * Request the remaining events of an answer that has an id.
     * @param {Answer} answer
     */
    resume(answer: Answer): void;
    /**
     * Cancel an answer. One without an id can be cancelled by lane only, and that cancels every request queued in the
     * lane (PROTOCOL.md, Client to server). If it shares its lane, or may share it with one that is being resumed, it is
     * cancelled once it starts.
     * @param {Answer} answer
     */
    cancel(answer: Answer): void;
    /** @returns {Promise<number>} The round-trip time to the server in milliseconds. */
    ping(): Promise<number>;
    #private;
}
export type Answer = import("./answer.js").Answer;
export type AnswerEvent = import("./answer.js").AnswerEvent;
export type Draining = import("./answer.js").Draining;
export type Hello = import("./answer.js").Hello;
export type MillraceError = import("./errors.js").MillraceError;
export type Pong = import("./answer.js").Pong;
export type Refusal = import("./answer.js").Refusal;
export type Resumed = import("./answer.js").Resumed;
export type Closed = {
    code: number;
    reason: string;
};
/**
 * Receives the events of a connection that concern more than one answer.
 */
export type Listener = {
    /**
     * `millrace.hello` has arrived.
     */
    onHello: (connection: Connection) => void;
    /**
     * One of the client's own lanes is free again.
     */
    onLaneFree: () => void;
    /**
     * The server takes no new requests on this
     * connection; open another one after `ms` milliseconds.
     */
    onDraining: (connection: Connection, ms: number) => void;
    /**
     * A request was rejected
     * because the server is draining, or a response cannot be resumed.
     */
    onRejected: (connection: Connection, answer: Answer, error: MillraceError) => void;
    /**
     * The connection has closed;
     * `answers` have not ended.
     */
    onClose: (connection: Connection, answers: Answer[], closed: Closed) => void;
};
