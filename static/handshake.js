// @ts-check
/** How a connection is opened, and what is asked over HTTP for it: a ticket, and why it was refused. */

import { ConnectionFailedError, errorOf } from "./errors.js";

export const SUBPROTOCOL = "millrace.v1";
const NO_WEBSOCKET = "there is no WebSocket: use Node 22 or later, or pass a class: connect({ WebSocket })";
const WRITE = 'write connect({ url: "wss://millrace.example/v1/responses" })';

/**
 * @typedef {object} Way How a connection is opened.
 * @property {string} url
 * @property {string | null} [key]
 * @property {string | (() => Promise<string>)} [ticket]
 * @property {boolean} negotiate
 * @property {typeof globalThis.WebSocket} [WebSocket]
 * @property {typeof globalThis.fetch} fetch
 */

/**
 * Return what a WebSocket is opened with beside its address: subprotocols, or options with a header. A page cannot send
 * a header with a WebSocket, so its key is traded for a ticket. Node, Bun and Deno can, so there the key goes with it.
 * @param {Way} way
 * @returns {Promise<string[]>}
 */
export async function openedWith({ url, key, ticket: option, negotiate, WebSocket, fetch }) {
  if (!WebSocket && !globalThis.WebSocket) throw new ConnectionFailedError(NO_WEBSOCKET);
  const offered = negotiate ? [SUBPROTOCOL] : [];
  if (key && !WebSocket && sendsHeaders()) {
    const options = { protocols: offered, headers: { Authorization: `Bearer ${key}` } };
    return /** @type {any} */ (options); // the standard has no headers
  }
  const ticket = key ? await fetchTicket(key, url, fetch) : typeof option === "function" ? await option() : option;
  return [...offered, ...(ticket ? [`millrace.ticket.${ticket}`] : [])];
}

/**
 * Return the address of a server's WebSocket: one without a path is completed, and may be written with http too.
 * @param {string} url
 */
export function addressOf(url) {
  if (!URL.canParse(url)) throw new ConnectionFailedError(`url: ${JSON.stringify(url)} is no address; ${WRITE}`);
  const parts = new URL(url);
  const scheme = parts.protocol.replace("http", "ws");
  return `${scheme}//${parts.host}${parts.pathname.replace(/^\/(v1\/?)?$/, "/v1/responses")}${parts.search}`;
}

/** The address of the server of this page. */
export function defaultUrl() {
  if (typeof location === "undefined") {
    throw new ConnectionFailedError(`url: missing; ${WRITE}`);
  }
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/responses`;
}

/**
 * Return why the connection failed. A WebSocket does not say it, so ask over HTTP.
 * @param {Way} way
 */
export async function connectError({ url, key, fetch }) {
  const headers = key ? { Authorization: `Bearer ${key}` } : undefined;
  const response = await fetch(endpointUrl(url, "models"), { headers }).catch(() => null);
  return response && !response.ok ? httpError(response) : connectionFailed(url);
}

/** Whether a WebSocket here takes headers, as browsers' do not. */
function sendsHeaders() {
  return /** @type {any} */ (globalThis).process?.versions?.node !== undefined;
}

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

/** @param {globalThis.Response} response */
async function httpError(response) {
  const { error } = await response.json().catch(() => ({}));
  return error?.code ? errorOf(error) : new ConnectionFailedError(`HTTP ${response.status}`);
}

/** @param {string} url */
function connectionFailed(url) {
  return new ConnectionFailedError(`no connection to ${url}`);
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
