// @ts-check
/** The switch between the colours of the system, light and dark. */

const STORAGE_KEY = "millrace.theme"; // in localStorage; theme.js reads it before the page is drawn
const dark = matchMedia("(prefers-color-scheme: dark)");

/**
 * Make the switch work.
 * @param {HTMLSelectElement} select
 * @param {() => void} onChange Called after each change, also of the system's colours: what is on a canvas must be
 *   drawn again.
 */
export function connectThemeSwitch(select, onChange) {
  const root = document.documentElement;
  select.value = root.dataset.theme ?? "auto";
  select.addEventListener("change", () => {
    root.dataset.theme = select.value;
    try {
      localStorage.setItem(STORAGE_KEY, select.value);
    } catch {
      // storage is blocked: the choice lasts until the page is left
    }
    onChange();
  });
  dark.addEventListener("change", onChange);
}
