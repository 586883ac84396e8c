// @ts-check
/** Asks the server over HTTP, with the key of this tab if there is one. */

import { storedKey } from "../key-form.js";

/** An error of the server, or of the way to it. */
export class ServerError extends Error {
  /**
   * @param {string} code As in PROTOCOL.md; `connection_failed` if no answer came.
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * Get a document of the dashboard.
 * @template T
 * @param {string} path Below /v1/dashboard/.
 * @param {string} [query]
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
export async function get(path, query = "", signal) {
  const key = storedKey();
  const headers = key ? { Authorization: `Bearer ${key}` } : undefined;
  const url = new URL(`../v1/dashboard/${path}${query ? `?${query}` : ""}`, location.href);
  let response;
  try {
    response = await fetch(url, { headers, signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ServerError("connection_failed", "The server does not answer.");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body) return body;
  throw new ServerError(body?.error?.code ?? "internal_error", body?.error?.message ?? `HTTP ${response.status}`);
}
