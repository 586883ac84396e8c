// @ts-check
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
  constructor(code, message, param = null, retryAfterMs) {
    super(message);
    this.code = code;
    this.param = param;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The connection was lost before the answer was complete. The request may have run, and may be billed. */
export class ConnectionLostError extends MillraceError {
  /** @param {string} message */
  constructor(message) {
    super("connection_lost", message);
  }
}

/** No connection could be opened: nothing has run. */
export class ConnectionFailedError extends MillraceError {
  /** @param {string} message */
  constructor(message) {
    super("connection_failed", message);
  }
}

/** The request is wrong; `param` names the field. The same request fails again. */
export class InvalidRequestError extends MillraceError {}

/** The key, the ticket or the origin of the page is not accepted. */
export class AccessError extends MillraceError {}

/** A limit that passes by itself: try again after `retryAfterMs`. */
export class RateLimitError extends MillraceError {}

/** The budget of the key, the tenant, the user or the tag is spent. */
export class BudgetError extends MillraceError {}

/** The deadline of the request has passed, or the client was too slow. */
export class TimedOutError extends MillraceError {}

/** The model's provider has failed. */
export class UpstreamError extends MillraceError {}

/** Millrace has no room now, is about to stop, or has failed. */
export class ServerError extends MillraceError {}

const NAMED = {
  ...{ MillraceError, ConnectionLostError, ConnectionFailedError, InvalidRequestError, AccessError },
  ...{ RateLimitError, BudgetError, TimedOutError, UpstreamError, ServerError },
};
for (const [name, { prototype }] of Object.entries(NAMED)) {
  Object.defineProperty(prototype, "name", { value: name, configurable: true, writable: true }); // also once minified
}

/** By the `type` of the error on the wire. */
const CLASSES = /** @type {Record<string, typeof MillraceError>} */ ({
  invalid_request_error: InvalidRequestError,
  authentication_error: AccessError,
  permission_error: AccessError,
  rate_limit_error: RateLimitError,
  insufficient_quota: BudgetError,
  timeout_error: TimedOutError,
  upstream_error: UpstreamError,
  server_error: ServerError,
});

/** @param {string} [message] */
export function lostError(message = "the connection was lost before the answer was complete") {
  return new ConnectionLostError(message);
}

/** @param {Fault} fault */
export function errorOf({ type, code, message, param, retry_after_ms }) {
  return new (CLASSES[type] ?? MillraceError)(code, message, param, retry_after_ms);
}
