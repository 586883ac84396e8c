// @ts-check
/** What the client asks over HTTP before a connection is open: a ticket, and why it was refused. */

import { MillraceError } from "./answer.js";

/**
 * Get a ticket for this page with an API key.
 * @param {string} key
 * @param {string} url
 * @param {typeof globalThis.fetch} fetch
 */
export async function fetchTicket(key, url, fetch) {
  const options = { method: "POST", headers: { Authorization: `Bearer ${key}` } };
  const response = await fetch(endpointUrl(url, "tickets"), options).catch(() => null);
  if (!response) throw connectionFailed(url);
  if (!response.ok) throw await httpError(response);
  const { ticket } = await response.json();
  return /** @type {string} */ (ticket);
}

/**
 * Return why the connection failed. A browser does not say it, so ask over HTTP.
 * @param {string} url
 * @param {typeof globalThis.fetch} fetch
 */
export async function connectError(url, fetch) {
  const response = await fetch(endpointUrl(url, "models")).catch(() => null);
  return response && !response.ok ? httpError(response) : connectionFailed(url);
}

/** @param {globalThis.Response} response */
async function httpError(response) {
  const { error } = await response.json().catch(() => ({}));
  return new MillraceError(error?.code ?? "connection_failed", error?.message ?? `HTTP ${response.status}`);
}

/** @param {string} url */
function connectionFailed(url) {
  return new MillraceError("connection_failed", `no connection to ${url}`);
}

/**
 * Return the HTTP URL of another endpoint of the same server.
 * @param {string} url
 * @param {string} name
 */
function endpointUrl(url, name) {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol === "wss:" ? "https" : "http"}://${host}${pathname.replace(/responses\/?$/, name)}`;
}
