// Visible forms of what a token's text hides: spaces, line breaks, control and bidi characters.

import { h } from "../dom.js";

const INVISIBLE = new RegExp("[\\u0000-\\u001f\\u007f-\\u00a0\\u00ad\\u061c\\u1680\\u180e\\u2000-\\u200f"
  + "\\u2028-\\u202f\\u205f-\\u2064\\u2066-\\u206f\\u3000\\ufe00-\\ufe0f\\ufeff\\ufff9-\\ufffb]");

// Joiners and variation selectors inside a word or an emoji do their work; elsewhere they show.
const JOINING = /[\u200c\u200d\ufe00-\ufe0f]/;

const SPOKEN = { "\n": " line break ", "\t": " tab " };
const GLYPHS = { "\n": "↵", "\t": "⇥", "\u007f": "␡", "\u00a0": "⍽" };

function glyphOf(character) {
  const code = character.codePointAt(0);
  if (character in GLYPHS) return GLYPHS[character];
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

// Nodes that show `text`; a space is a real no-break space with a dot painted behind it.
export function tokenNodes(text) {
  if (text === "") return [h("span", { class: "sol-part" }, "◌")];
  const nodes = [];
  let plain = "";
  const flush = () => {
    if (plain) nodes.push(document.createTextNode(plain));
    plain = "";
  };
  Array.from(text).forEach((character, at) => {
    if (character !== " " && ((at > 0 && JOINING.test(character)) || !INVISIBLE.test(character))) {
      plain += character;
      return;
    }
    flush();
    if (character === " ") nodes.push(h("span", { class: "sol-space" }, "\u00a0"));
    else nodes.push(h("span", { class: "sol-glyph", dir: "ltr" }, glyphOf(character)));
  });
  flush();
  return nodes;
}

export function spokenText(text) {
  if (text === "" || text.trim() === "\ufffd") return "part of a character";
  const spoken = Array.from(text, (character) => SPOKEN[character]
    ?? (INVISIBLE.test(character) ? ` ${glyphOf(character)} ` : character)).join("");
  return spoken.trim() ? spoken : "space";
}

// The token that a model ends its answer with: no word of it.
export const END = /^(<\|[^<>|]+\|>|<\/s>|<eos>|<end_of_turn>)$/;

/** @template {{ text: string }} Row @param {Row[]} rows @returns {Row[]} */
export const withoutEnd = (rows) => (END.test(rows.at(-1)?.text ?? "") ? rows.slice(0, -1) : rows);
export const answerText = (rows) => withoutEnd(rows).map((row) => row.text).join("");

const QUOTED_CHARACTERS = 60; // of a page

// In a sentence: what is invisible stands in no quotation marks.
export function quoted(text) {
  const words = text.trim().replaceAll(/\s+/g, " ");
  if (/^["“”]$/.test(words)) return "a quotation mark";
  if (words === "\ufffd") return spokenText(words);
  if (words) return `“${spokenText(words)}”`;
  return text && `a ${spokenText(text).trim().split("  ")[0]}` || spokenText(text);
}
export const quotedStart = (text) => quoted(text.slice(0, QUOTED_CHARACTERS));
