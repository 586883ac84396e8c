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
export function openedWith({ url, key, ticket: option, negotiate, WebSocket, fetch }: Way): Promise<string[]>;
/**
 * Return the address of a server's WebSocket: one without a path is completed, and may be written with http too.
 * @param {string} url
 */
export function addressOf(url: string): string;
/** The address of the server of this page. */
export function defaultUrl(): string;
/**
 * Return why the connection failed. A WebSocket does not say it, so ask over HTTP.
 * @param {Way} way
 */
export function connectError({ url, key, fetch }: Way): Promise<import("./errors.js").MillraceError | ConnectionFailedError>;
/**
 * Get a ticket for this page with an API key.
 * @param {string} key
 * @param {string} url
 * @param {typeof globalThis.fetch} fetch
 */
export function fetchTicket(key: string, url: string, fetch: typeof globalThis.fetch): Promise<string>;
export const SUBPROTOCOL: "millrace.v1";
/**
 * How a connection is opened.
 */
export type Way = {
    url: string;
    key?: string | null | undefined;
    ticket?: string | (() => Promise<string>) | undefined;
    negotiate: boolean;
    WebSocket?: {
        new (url: string | URL, protocols?: string | string[]): WebSocket;
        prototype: WebSocket;
        readonly CONNECTING: 0;
        readonly OPEN: 1;
        readonly CLOSING: 2;
        readonly CLOSED: 3;
    } | undefined;
    fetch: typeof globalThis.fetch;
};
import { ConnectionFailedError } from "./errors.js";
