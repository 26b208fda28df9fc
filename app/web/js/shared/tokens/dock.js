// The docked side of the tokens: the card of the token looked at, or what if. It has a column of its own beside the
// text, and where that is narrow a sheet at the window's foot, so it never lies over what is read.

import { fill, h, scrollTo } from "../dom.js";
import { TokenCard } from "./card.js";

const DOCKED_FROM = 700; // px of the panel, from which both have room side by side

export class Dock {
  // panel: whose column it is; whatIf: what takes the card's place while it shows.
  /** @param {HTMLElement} panel @param {TokenCard} card @param {{ element: HTMLElement, close(): void }} [whatIf] */
  constructor(panel, card, whatIf) {
    this.panel = panel;
    this.card = card;
    this.whatIf = whatIf;
    this.element = h("div", { class: "sol-dock" }, card.element, whatIf?.element,
      h("p", { class: "sol-dock-empty sol-muted" }, "Point at a token to see its details here."));
    new ResizeObserver(([{ contentRect }]) =>
      panel.classList.toggle("is-docked", contentRect.width >= DOCKED_FROM)).observe(panel);
    panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.isHeld) return;
      event.stopPropagation();
      whatIf?.close();
    });
  }

  // The card waits while a token's What if is open.
  get isHeld() {
    return Boolean(this.whatIf && !this.whatIf.element.hidden);
  }

  // token: what is asked about; both come into view.
  hold(token) {
    this.card.hide();
    if (this.panel.classList.contains("is-docked")) scrollTo(this.element, "nearest");
    else keepAbove(this.element, token);
  }
}

// Of a token whose place a sheet would cover, the page is moved until it stands above.
function keepAbove(sheet, token) {
  const covered = token.getBoundingClientRect().bottom + 8 - sheet.getBoundingClientRect().top;
  if (covered > 0) scrollBy({ top: covered, behavior: "instant" });
}

export class DockedCard extends TokenCard {
  constructor(root, parts) {
    super(root, parts);
    fill(this.element, { role: "group", "aria-label": "The token looked at" }, []); // it has buttons: no tooltip
    this.element.addEventListener("focusout", () => this.hideSoon());
    this.element.tabIndex = 0; // what scrolls can be focused
  }

  // The dock stands where the page stands.
  place() {}

  show(row, token) {
    super.show(row, token);
    const dock = this.element.parentElement;
    if (getComputedStyle(dock).position === "fixed" && token === document.activeElement) keepAbove(dock, token);
  }

  // By Escape or its button: the focus goes back to the token, whose card stays closed.
  hide() {
    if (this.token && this.element.contains(document.activeElement)) this.token.focus({ preventScroll: true });
    super.hide();
  }
}
