// Terms in texts, which tips.js explains. An exported page has no table of them, and shows plain words.

import { asIs, h, unbroken } from "./dom.js";

/** @type {Record<string, {name: string, text: string}>} */
export const TERMS = JSON.parse(document.getElementById("sol-terms")?.textContent ?? "{}");

export const idOf = (key) => `sol-term-${key.replace(/\s+/g, "-")}`;

// A term's button; `shown` is the word as the text has it. Passive ones are only hovered.
function term(key, shown, isPassive) {
  if (!(key in TERMS)) return asIs(shown);
  if (isPassive) return h("span", { class: "sol-term is-passive", "data-term": key }, shown);
  return h("button", { type: "button", class: "sol-term", "data-term": key, "aria-describedby": idOf(key) },
    shown);
}

// Text with [[TERM]] or [[TERM|as shown]] → nodes. A line never begins with what ends a term's sentence.
export function glossed(text, isPassive = false) {
  return String(text).split(/(\[\[[^\]]+\]\][.,;:!?)]*)/).map((part) => {
    const found = /^\[\[([^\]]+)\]\](.*)$/.exec(part);
    if (!found) return asIs(unbroken(part));
    const [key, shown] = found[1].split("|");
    const word = term(key.toLowerCase(), shown ?? key, isPassive);
    return found[2] ? h("span", { class: "sol-term-end" }, word, found[2]) : word;
  });
}
