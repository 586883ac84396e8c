// @ts-check
/** The API key form, shown if the server needs a key. The key is stored for this tab only and never put into a URL. */

import { connect, MillraceError } from "./millrace.js";
import { element } from "./view.js";

/** @typedef {import("./millrace.js").Client} Client */

const STORAGE_KEY = "millrace.key"; // in sessionStorage, which ends with the tab

/** The key of this tab, if it has one. */
export function storedKey() {
  return sessionStorage.getItem(STORAGE_KEY);
}

/**
 * Keep a key until the tab is closed.
 * @param {string} key
 */
export function keepKey(key) {
  sessionStorage.setItem(STORAGE_KEY, key);
}

export function forgetKey() {
  sessionStorage.removeItem(STORAGE_KEY);
}

/**
 * Connect; ask for a key until the server accepts one.
 * @param {{tries: number, onState: (state: import("./millrace.js").State) => void, onKeyNeeded: () => void}} options
 * @returns {Promise<Client>}
 */
export async function connectWithKey({ tries, onState, onKeyNeeded }) {
  for (;;) {
    const key = storedKey();
    try {
      return await connect({ key, tries, onState });
    } catch (error) {
      if (!(error instanceof MillraceError) || error.code !== "unauthorized") throw error;
      forgetKey();
      onKeyNeeded();
      keepKey(await askForKey(key === null ? "" : "The server does not take this key.", element("question")));
    }
  }
}

/**
 * Show the form and wait for a key.
 * @param {string} reason Why the last key was rejected.
 * @param {HTMLElement} next What has the focus then.
 * @returns {Promise<string>}
 */
export function askForKey(reason, next) {
  const form = /** @type {HTMLFormElement} */ (element("key-form"));
  const field = /** @type {HTMLInputElement} */ (element("key"));
  element("why-key").textContent = reason;
  form.hidden = false;
  field.focus();
  return new Promise((resolve) => {
    form.addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        form.hidden = true;
        const key = field.value.trim();
        field.value = "";
        next.focus();
        resolve(key);
      },
      { once: true },
    );
  });
}
