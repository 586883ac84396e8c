// @ts-check
/** The way in: where the server wants a key, the user is asked for it; it stays in this tab and goes into no address. */

import { connect, MillraceError } from "./millrace.js";
import { element } from "./view.js";

/** @typedef {import("./millrace.js").Client} Client */

const KEPT = "millrace.key"; // in the session's storage, which ends with the tab

/**
 * Connect; ask for a key until there is one that the server takes.
 * @param {{onState: (state: import("./millrace.js").State) => void, locked: () => void}} hears
 * @returns {Promise<Client>}
 */
export async function openDoor({ onState, locked }) {
  for (;;) {
    const key = sessionStorage.getItem(KEPT);
    try {
      return await connect({ key, onState });
    } catch (error) {
      if (!(error instanceof MillraceError) || error.code !== "unauthorized") throw error;
      sessionStorage.removeItem(KEPT);
      locked();
      sessionStorage.setItem(KEPT, await given(key === null ? "" : "The server does not take this key."));
    }
  }
}

/**
 * Ask for a key.
 * @param {string} why What was wrong with the last one.
 * @returns {Promise<string>}
 */
function given(why) {
  const door = /** @type {HTMLFormElement} */ (element("door"));
  const field = /** @type {HTMLInputElement} */ (element("key"));
  element("why-key").textContent = why;
  door.hidden = false;
  field.focus();
  return new Promise((resolve) => {
    door.addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        door.hidden = true;
        const key = field.value.trim();
        field.value = "";
        element("question").focus();
        resolve(key);
      },
      { once: true },
    );
  });
}
