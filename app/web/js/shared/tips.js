// The explanations of terms, shown when one is hovered, focused or tapped, until Escape.

import { h, idOf, TERMS } from "./dom.js";

const SHOW_AFTER_MS = 130;
const HIDE_AFTER_MS = 160; // time to move the pointer onto the explanation
const GAP = 7;
const MARGIN = 8;
let opened = null; // {term, tip}, and isClicked
let timer = 0;

function open(button) {
  clearTimeout(timer);
  if (opened?.term === button) return;
  close();
  const tip = document.getElementById(idOf(button.dataset.term));
  if (!tip) return;
  opened = { term: button, tip };
  tip.hidden = false;
  // A passive word's tip lets the pointer through to what the word stands in.
  tip.classList.toggle("is-passive", button.classList.contains("is-passive"));
  position();
}

function close() {
  clearTimeout(timer);
  if (opened) opened.tip.hidden = true;
  opened = null;
}

function position() {
  if (!opened) return;
  const at = opened.term.getClientRects()[0];
  if (!at || at.bottom < 0 || at.top > innerHeight) return close();
  const { tip } = opened;
  const left = Math.min(at.left, document.documentElement.clientWidth - tip.offsetWidth - MARGIN);
  const above = at.top - GAP - tip.offsetHeight;
  tip.style.left = `${Math.max(left, MARGIN)}px`;
  tip.style.top = `${above >= MARGIN ? above : at.bottom + GAP}px`;
}

const termOf = (event) => event.target.closest?.(".sol-term");
const isInside = (event) => opened && (termOf(event) === opened.term || opened.tip.contains(event.target));
const leave = () => { timer = setTimeout(close, HIDE_AFTER_MS); };

export function explainTerms() {
  // They wait in the page, hidden: that is what aria-describedby reads.
  document.body.append(h("div", {}, Object.entries(TERMS).map(([key, { name, text }]) =>
    h("div", { id: idOf(key), role: "tooltip", class: "sol-tip", hidden: true },
      h("b", {}, name), `: ${text}`))));
  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return;
    const button = termOf(event);
    if (isInside(event)) return clearTimeout(timer);
    if (button) {
      clearTimeout(timer);
      timer = setTimeout(() => open(button), SHOW_AFTER_MS);
    } else if (opened && opened.term !== document.activeElement) leave();
    else if (!opened) clearTimeout(timer);
  });
  document.addEventListener("focusin", (event) => {
    const button = termOf(event);
    if (button) open(button);
    else if (opened && !opened.tip.contains(event.target)) close();
  });
  document.addEventListener("focusout", (event) => termOf(event) && opened && leave());
  document.addEventListener("click", (event) => {
    const button = termOf(event);
    if (!button) return isInside(event) ? undefined : close();
    event.preventDefault();
    if (opened?.term === button && opened.isClicked) return close();
    open(button);
    if (opened) opened.isClicked = true;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !opened) return;
    event.stopPropagation();
    close();
  }, true);
  addEventListener("scroll", position, { capture: true, passive: true });
  addEventListener("resize", position, { passive: true });
}
