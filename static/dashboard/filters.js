// @ts-check
/** What is shown: a time range, a model, a tenant, a tag, and one request. It is kept in the page's URL. Pure. */

/**
 * @typedef {object} Filters What is empty does not filter.
 * @property {string} since How long ago ("24h"), or Unix seconds.
 * @property {string} until Unix seconds; empty: now.
 * @property {string} model
 * @property {string} tenant
 * @property {string} tag
 *
 * @typedef {object} Choice Which requests are listed, among those.
 * @property {string} status
 * @property {string} source
 *
 * @typedef {Filters & Choice & {request: string}} Shown `request`: the one whose story is open.
 */

export const SINCE = "24h";
export const RANGES = /** @type {[string, string, string][]} value, short name, name */ ([
  ["1h", "1 h", "The last hour"],
  ["6h", "6 h", "The last 6 hours"],
  ["24h", "24 h", "The last 24 hours"],
  ["7d", "7 d", "The last 7 days"],
  ["30d", "30 d", "The last 30 days"],
]);

const NAMES = /** @type {const} */ (["since", "until", "model", "tenant", "tag", "status", "source", "request"]);

/**
 * Read a query. What it lacks is as usual.
 * @param {string} query
 * @returns {Shown}
 */
export function parsed(query) {
  const given = new URLSearchParams(query);
  const found = Object.fromEntries(NAMES.map((name) => [name, given.get(name) ?? ""]));
  return /** @type {Shown} */ ({ ...found, since: found.since || SINCE });
}

/**
 * Write a query: only what is not as usual, in an order that does not change.
 * @param {Partial<Shown>} shown
 */
export function query(shown) {
  const written = new URLSearchParams();
  for (const name of NAMES) {
    const value = shown[name];
    if (value && !(name === "since" && value === SINCE)) written.set(name, value);
  }
  return written.toString();
}

/**
 * The fields of `dashboard.watch`: null does not filter.
 * @param {Filters} filters
 */
export function watched({ since, until, model, tenant, tag }) {
  return { since, until: until || null, model: model || null, tenant: tenant || null, tag: tag || null };
}

/**
 * Whether both show the same figures.
 * @param {Filters} one
 * @param {Filters} other
 */
export function isSame(one, other) {
  return JSON.stringify(watched(one)) === JSON.stringify(watched(other));
}

/**
 * Whether the window ends now, and so moves on.
 * @param {Filters} filters
 */
export function isLive({ until }) {
  return until === "";
}

/**
 * Whether a line is among those that are listed. The server has filtered by model, tenant and tag.
 * @param {import("./contract.js").Line} line
 * @param {Choice} choice
 */
export function isListed(line, { status, source }) {
  return (!status || line.status === status) && (!source || (line.source ?? "none") === source);
}
