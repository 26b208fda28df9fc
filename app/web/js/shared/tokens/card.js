// The card that explains one token. It never covers its token and never leaves the window.

import { chip, drawInTurn, glossed, h, isTouch, SITE, uniqueId } from "../dom.js";
import { AXES, duration, isNumber, nats, percent, probability, probabilityOf, quantity } from "../format.js";
import { tokenNodes } from "./token_text.js";
import { densesChoice } from "./token_view.js";

const CARD_GAP = 10;
const CARD_MARGIN = 8;
const LEAVE_DELAY_MS = 140; // time to move the pointer from the token onto the card

export class TokenCard {
  /** Of a row. @type {(row: Token) => Node[]} */
  parts = (row) => cardParts(row);
  onHide = () => {};
  onPick = /** @type {((row: Token) => void) | null} */ (null); // asks what if
  dock = /** @type {Element | null} */ (null); // is covered where it stands beside the tokens

  constructor(root) {
    this.id = uniqueId("card");
    // Under a finger it has buttons; a pointer clicks the token, and leaves it.
    this.element = h("div", { class: "sol-card", id: this.id, hidden: true,
      ...isTouch ? { role: "dialog", "aria-label": "Token" } : { role: "tooltip" },
      onpointerenter: () => clearTimeout(this.timer), onpointerleave: () => this.hideSoon() });
    root.append(this.element);
    // Not for the card's own scrolling: placing measures the card unscrolled.
    this.onScroll = (event) => event.target !== this.element && this.place();
    this.onKey = (event) => {
      if (event.key === "Escape") this.hide();
      const step = { PageDown: 1, PageUp: -1 }[event.key];
      if (!step || this.element.scrollHeight <= this.element.clientHeight) return;
      event.preventDefault();
      this.element.scrollBy(0, step * 0.8 * this.element.clientHeight);
    };
  }

  show(row, token) {
    clearTimeout(this.timer);
    this.release();
    this.token = token;
    token.setAttribute("aria-describedby", this.id);
    const { signal } = this.listening = new AbortController();
    addEventListener("scroll", this.onScroll, { capture: true, passive: true, signal });
    addEventListener("resize", this.onScroll, { passive: true, signal });
    document.addEventListener("keydown", this.onKey, { signal });
    if (token === document.activeElement) this.draw(row, token); // at once: it is read out now
    else drawInTurn(this, () => this.draw(row, token));
  }

  draw(row, token) {
    if (token !== this.token) return; // another one since, or none
    const { onPick } = this;
    this.element.replaceChildren(...this.parts(row));
    if (isTouch) {
      this.element.firstChild.append(h("div", { class: "sol-tools" },
        onPick && chip("What if?", () => onPick(row)), chip("Close", () => this.hide())));
    }
    this.element.hidden = false;
    const covered = token.getBoundingClientRect().bottom + CARD_GAP - this.element.offsetTop;
    if (isTouch && covered > 0) scrollBy(0, covered);
    this.place();
  }

  hideSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const focused = document.activeElement;
      if (this.token && (focused === this.token || this.element.contains(focused))) return;
      this.hide();
    }, LEAVE_DELAY_MS);
  }

  hide() {
    clearTimeout(this.timer);
    this.release();
    this.element.hidden = true;
    this.onHide();
  }

  release() {
    this.token?.removeAttribute("aria-describedby");
    this.token = null;
    this.listening?.abort();
  }

  // Above or below, where there is more room; as tall as that room at most.
  place() {
    if (!this.token) return;
    const at = this.token.getBoundingClientRect();
    if (at.bottom < 0 || at.top > innerHeight) return this.hide();
    const card = this.element;
    if (isTouch) return; // a sheet at the bottom
    card.style.maxHeight = "none";
    const dock = this.dock?.getBoundingClientRect();
    const isDocked = dock && dock.width > 0 && dock.right <= at.left;
    card.style.width = isDocked ? `${dock.width}px` : "";
    const wanted = card.scrollHeight + 2;
    if (isDocked) {
      const most = innerHeight - 2 * CARD_MARGIN;
      card.tabIndex = wanted > most ? 0 : -1;
      const top = Math.max(Math.min(at.top - CARD_GAP, CARD_MARGIN + most - wanted), CARD_MARGIN);
      return Object.assign(card.style, { left: `${dock.left}px`, top: `${top}px`, maxHeight: `${most}px` });
    }
    const below = innerHeight - at.bottom - CARD_GAP - CARD_MARGIN;
    const above = at.top - CARD_GAP - CARD_MARGIN;
    const goesBelow = below >= wanted || below >= above;
    const tall = Math.max(Math.min(wanted, goesBelow ? below : above), 60);
    card.style.maxHeight = `${tall}px`;
    card.tabIndex = tall < wanted ? 0 : -1; // what scrolls can be focused
    const right = document.documentElement.clientWidth - card.offsetWidth - CARD_MARGIN;
    card.style.left = `${Math.max(Math.min(at.left - 16, right), CARD_MARGIN)}px`;
    card.style.top = `${goesBelow ? at.bottom + CARD_GAP : at.top - CARD_GAP - tall}px`;
  }
}

export const cardParts = (row, came = "taken") => [cardHead(row),
  h("div", { class: "sol-card-columns" }, cardSpend(row), cardTop(row, came)), cardFoot(row)];

export function cardHead(row, id) {
  const words = id ?? [`token ${row.index + 1}`, row.kind, `id ${row.token_id}`].filter(Boolean).join(" · ");
  return h("div", { class: "sol-card-head" },
    h("span", { class: "sol-card-token" }, tokenNodes(row.text)), h("span", { class: "sol-card-id" }, words));
}

const cardLane = (name, meter, value) => h("div", { class: "sol-card-lane" },
  h("span", { class: "sol-name" }, glossed(name, true)), h("span", { class: "sol-meter", ...meter }),
  h("span", { class: "sol-value" }, value));

export const cardLanes = (row) => AXES.map((axis) => cardLane(`[[${axis.term}|${axis.name}]]`,
  { "data-axis": axis.key, "--v": axis.fraction(axis.of(row)) }, axis.show(axis.of(row))));

// No axis chooses it: what of the head's matrix the step read.
const headLane = ({ cost: { head_bytes: read }, dense_cost: { head_bytes: whole } }) => whole > 0
  && cardLane("[[head|Head]]", { "--axis": "var(--sol-edge)", "--v": read / whole }, percent(read / whole));

/** @param {Token} row */
function cardSpend(row) {
  const { surprisal, entropy, kl_to_dense: kl } = row;
  const facts = [
    ["[[surprisal|Surprisal]]", `${nats(surprisal)} nats`],
    ["[[entropy|Entropy]]", `${nats(entropy)} nats`],
    ["[[kl|KL]] to the [[dense|full model]]", isNumber(kl) ? `${nats(kl)} nats` : "not measured"],
    ...row.side.map(({ name, surprisal: its }) => [["dense", SITE.schedules.dense].includes(name)
      ? "In the full model" : `In the ${name} row`, `${nats(its)} nats`]),
  ];
  return h("div", { class: "sol-card-spend" }, cardLanes(row), headLane(row),
    h("dl", { class: "sol-card-facts" },
    facts.map(([name, value]) => [h("dt", {}, glossed(name, true)), h("dd", {}, value)])));
}

// Of an inspected text the alternatives are the dense row's.
function cardTop(row, came) {
  const isGiven = row.dense_surprisal !== undefined;
  const dense = densesChoice(row);
  const isTaken = (one) => one.token_id === row.token_id;
  const own = { ...row, probability: probabilityOf(row.dense_surprisal ?? row.surprisal) };
  const alternatives = row.top.some(isTaken) ? row.top : [...row.top, own];
  return h("div", { class: "sol-card-top" },
    h("div", { class: "sol-card-caption" }, `Most probable ${isGiven ? "to the full model" : "here"}`),
    alternatives.map((one) => h("div", { class: `sol-choice${isTaken(one) ? " is-chosen" : ""}` },
      h("span", { class: "sol-choice-text" }, tokenNodes(one.text),
        isTaken(one) && h("small", { class: "sol-muted" }, ` ← ${isGiven ? "text" : came}`)),
      h("span", { class: "sol-meter", "--v": one.probability }),
      h("span", { class: "sol-value" }, probability(one.probability)))),
    dense && h("p", { class: "sol-card-dense" }, "The full model would choose ",
      h("b", {}, tokenNodes(dense.text)), ` (${probability(dense.probability)})`));
}

function cardFoot({ cost, dense_cost: dense, step_ms: ms }) {
  const more = cost.bytes_read - dense.bytes_read;
  const [read, whole] = [more > 0 ? more : cost.bytes_read, dense.bytes_read]
    .map((one) => quantity(one, "B"));
  return h("div", { class: "sol-card-foot" },
    more > 0 ? `Read all ${whole}, and ${read} to choose, in ${duration(ms)}.`
      : `Read ${read} of ${whole} in ${duration(ms)}.`);
}
