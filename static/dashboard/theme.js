// @ts-check
/**
 * Sets the colours that were chosen here before anything is drawn. This is a classic script, as a module runs only after
 * the page was drawn once.
 */

try {
  document.documentElement.dataset.theme = localStorage.getItem("millrace.theme") ?? "auto";
} catch {
  document.documentElement.dataset.theme = "auto"; // storage is blocked
}
