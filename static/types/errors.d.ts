/** @param {string} [message] */
export function lostError(message?: string): ConnectionLostError;
/** @param {Fault} fault */
export function errorOf({ type, code, message, param, retry_after_ms }: Fault): MillraceError;
/** The errors of the client: one class for each thing that a caller may want to do about one. */
/**
 * @typedef {{type: string, code: string, message: string, param: string | null, retry_after_ms?: number}} Fault
 */
/** An error: `code` is one of PROTOCOL.md, a provider's own, `connection_failed` or `connection_lost`. */
export class MillraceError extends Error {
    /**
     * @param {string} code
     * @param {string} message
     * @param {string | null} [param] The path of the invalid field in the request.
     * @param {number} [retryAfterMs]
     */
    constructor(code: string, message: string, param?: string | null, retryAfterMs?: number);
    code: string;
    param: string | null;
    retryAfterMs: number | undefined;
}
/** The connection was lost before the answer was complete. The request may have run, and may be billed. */
export class ConnectionLostError extends MillraceError {
    /** @param {string} message */
    constructor(message: string);
}
/** No connection could be opened: nothing has run. */
export class ConnectionFailedError extends MillraceError {
    /** @param {string} message */
    constructor(message: string);
}
/** The request is wrong; `param` names the field. The same request fails again. */
export class InvalidRequestError extends MillraceError {
}
/** The key, the ticket or the origin of the page is not accepted. */
export class AccessError extends MillraceError {
}
/** A limit that passes by itself: try again after `retryAfterMs`. */
export class RateLimitError extends MillraceError {
}
/** The budget of the key, the tenant, the user or the tag is spent. */
export class BudgetError extends MillraceError {
}
/** The deadline of the request has passed, or the client was too slow. */
export class TimedOutError extends MillraceError {
}
/** The model's provider has failed. */
export class UpstreamError extends MillraceError {
}
/** Millrace has no room now, is about to stop, or has failed. */
export class ServerError extends MillraceError {
}
export type Fault = {
    type: string;
    code: string;
    message: string;
    param: string | null;
    retry_after_ms?: number;
};
