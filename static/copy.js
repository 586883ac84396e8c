// @ts-check
/** Buttons that copy a text. */

const SHOWN_MS = 1500;

/**
 * Make a button copy what `read` returns, and say so.
 * @param {HTMLButtonElement} button
 * @param {() => string} read
 */
export function copies(button, read) {
  const label = button.textContent ?? "";
  let timer = 0;
  button.addEventListener("click", async () => {
    button.textContent = (await copied(read())) ? "Copied" : "Not copied";
    clearTimeout(timer);
    timer = window.setTimeout(() => (button.textContent = label), SHOWN_MS);
  });
}

/**
 * Copy a text. Where a page is not from a secure origin there is no clipboard; then the older command does it.
 * @param {string} text
 */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedBySelection(text);
  }
}

/** @param {string} text */
function copiedBySelection(text) {
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "unseen";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return done;
}
