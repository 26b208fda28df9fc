// Sentences for the user: what was wrong, or what should be known.

import { h, setText, show } from "./dom.js";

/** @param {unknown} error */
export const messageOf = (error) => (error instanceof Error ? error.message : String(error));

// Shows a text in its place; an empty one hides the place.
export function showText(place, text) {
  setText(place, text || "");
  show(place, Boolean(text));
}

// kind: "bad" is read out at once, "warn" is not.
export function say(place, text, kind = "warn") {
  place.className = `sol-message is-${kind}`;
  place.setAttribute("role", kind === "bad" ? "alert" : "status");
  showText(place, text);
}

export const errorLine = () => h("p", { class: "sol-message is-bad", role: "alert", hidden: true });
