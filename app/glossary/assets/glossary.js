// The glossary, once for all tabs. A term in a text is a button; its explanation shows when it is
// hovered, focused or tapped, stays while the pointer is on it, and goes with Escape.

(() => {
  "use strict";
  const TERMS = JSON.parse(document.getElementById("sol-terms").textContent);
  const SHOW_AFTER_MS = 130;
  const HIDE_AFTER_MS = 160; // time to move the pointer onto the explanation
  const GAP = 7;
  const MARGIN = 8;
  const tips = new Map();
  let opened = null; // {term, tip, byClick}
  let timer = 0;

  const idOf = (key) => `sol-term-${key.replace(/\s+/g, "-")}`;

  function make(tag, attributes, ...children) {
    const node = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
    node.append(...children);
    return node;
  }

  // A term's button; `shown` is the word as the text has it. Passive ones are only hovered.
  function term(key, shown, isPassive) {
    if (!(key in TERMS)) return document.createTextNode(shown);
    if (isPassive) return make("span", { class: "sol-term is-passive", "data-term": key }, shown);
    return make("button", { type: "button", class: "sol-term", "data-term": key,
      "aria-describedby": idOf(key) }, shown);
  }

  // Text with terms as [[TERM]] or [[TERM|as shown]] → nodes.
  function glossed(text, isPassive = false) {
    return String(text).split(/\[\[([^\]]+)\]\]/).map((part, at) => {
      if (at % 2 === 0) return document.createTextNode(part);
      const [key, shown] = part.split("|");
      return term(key.toLowerCase(), shown ?? key, isPassive);
    });
  }

  // Explanations wait in the page, hidden: that is what aria-describedby reads.
  function build() {
    const place = make("div", { class: "sol-tips" });
    for (const [key, { name, text }] of Object.entries(TERMS)) {
      const tip = make("div", { id: idOf(key), role: "tooltip", class: "sol-tip", hidden: "" },
        make("b", {}, name), make("span", {}, `: ${text}`));
      tips.set(key, tip);
      place.append(tip);
    }
    document.body.append(place);
  }

  function open(button, byClick) {
    clearTimeout(timer);
    if (opened?.term === button) return;
    close();
    const tip = tips.get(button.dataset.term);
    if (!tip) return;
    opened = { term: button, tip, byClick };
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

  // Above the word, or below it where there is no room.
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
  const isInside = (event) => Boolean(opened && (termOf(event) === opened.term
    || opened.tip.contains(event.target)));
  const leave = () => { timer = setTimeout(close, HIDE_AFTER_MS); };

  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return;
    const button = termOf(event);
    if (isInside(event)) return clearTimeout(timer);
    if (button) {
      clearTimeout(timer);
      timer = setTimeout(() => open(button, false), SHOW_AFTER_MS);
    } else if (opened && opened.term !== document.activeElement) leave();
    else if (!opened) clearTimeout(timer);
  });
  document.addEventListener("focusin", (event) => {
    const button = termOf(event);
    if (button) open(button, false);
    else if (opened && !opened.tip.contains(event.target)) close();
  });
  document.addEventListener("focusout", (event) => termOf(event) && opened && leave());
  document.addEventListener("click", (event) => {
    const button = termOf(event);
    if (!button) return isInside(event) ? undefined : close();
    event.preventDefault();
    if (opened?.term === button && opened.byClick) return close();
    open(button, true);
    if (opened) opened.byClick = true;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !opened) return;
    event.stopPropagation();
    close();
  }, true);
  addEventListener("scroll", position, { capture: true, passive: true });
  addEventListener("resize", position, { passive: true });

  if (document.body) build();
  else document.addEventListener("DOMContentLoaded", build);
  window.solGlossary = { terms: TERMS, glossed };
})();
