// @ts-check
/** The colours of the style sheet for what is drawn on a canvas, which knows no custom properties. */

/** @type {Map<string, string>} */
const known = new Map();
/** @type {HTMLElement | null} */
let probe = null;

/**
 * Return a colour as it is shown now.
 * @param {string} name Of a custom property, without its dashes.
 * @param {number} [share] How opaque it is, in percent.
 */
export function colour(name, share = 100) {
  const key = `${name} ${share}`;
  let found = known.get(key);
  if (found === undefined) {
    if (!probe) {
      probe = document.createElement("span");
      probe.hidden = true;
      document.body.append(probe);
    }
    probe.style.color = share === 100 ? `var(--${name})` : `color-mix(in srgb, var(--${name}) ${share}%, transparent)`;
    found = getComputedStyle(probe).color;
    known.set(key, found);
  }
  return found;
}

/** Read all colours anew: the theme has changed. */
export function forgetColours() {
  known.clear();
}
