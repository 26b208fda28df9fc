// The text that a run read, by pages of the KV cache. Lit are pages that a step read more than others did: a
// fact's is then among the first five for 11 of 12 right answers, for 6 by what was read alone.

import {
  announce, asIs, chip, drawInTurn, fill, glossed, h, isTouch, setText, show, uniqueId,
} from "../dom.js";
import { count, percent } from "../format.js";
import { fractionsOf } from "../machine/reads.js";
import { FIRST_PAGE, ReadingMap, Strips } from "./reading_drawings.js";
import { quoted, quotedStart, spokenText } from "./token_text.js";

const STRENGTHS = 4;
const SHORT_PAGES = 12; // of a prompt whose lit pages fill one line
const ALWAYS_LIT = 3; // pages
const NEWEST_PAGES = 2; // pages that hold the last 9 to 16 tokens
const FEWEST_STEPS = 8; // steps, before which there is no telling what is usual
const LEAST_GAP = 0.05; // of the heads, between what a step read and what is usual: less is not worth a word
const LEAST_TOLD = 0.05; // of a word's probability, lost without a page: less is not worth a word
const QUIET_MS = 300;

// Shades of the largest fractions. Others stay unlit, else steps that read nearly all would light it all.
function shadesOf(fractions) {
  const sorted = fractions.toSorted((a, b) => b - a);
  const [most = 0] = sorted;
  const least = Math.min(most / 2, sorted[ALWAYS_LIT - 1] ?? 0);
  return fractions.map((fraction) => (fraction === 0 || fraction < least ? 0
    : Math.max(1, Math.ceil((fraction / most - 0.5) * 2 * STRENGTHS))));
}

// Pages without the words of a chat's template.
function ownTexts(texts, asked) {
  const start = texts.join("").indexOf(asked);
  if (!asked || start < 0) return texts;
  let end = 0;
  return texts.map((text) => {
    end += text.length;
    const first = start - (end - text.length);
    return text.slice(Math.max(first, 0), Math.max(first + asked.length, 0));
  });
}

// A page's words; what a template put before and behind them shows in the whole prompt only.
function partsAround(text, words) {
  const at = text.indexOf(words);
  const ofTemplate = (part) => part && h("span", { class: "sol-template" }, asIs(part));
  return [ofTemplate(text.slice(0, at)), asIs(words), ofTemplate(text.slice(at + words.length))];
}

// Writes an attribute only where it changes: there are hundreds of pages.
function setShade(element, shade) {
  if (element.solShade === shade) return;
  element.solShade = shade;
  if (shade) element.dataset.read = String(shade);
  else delete element.dataset.read;
}

export class Reading {
  /** Of the prompt. @type {HTMLElement[]} */
  pages = [];
  /** @type {string[]} */
  texts = [];
  /** Token on show. @type {number | null} */
  at = null;
  /** Page that is pointed at. @type {number | null} */
  page = null;
  /** Page that the token on show needs most, once that is known. @type {number | null} */
  best = null;
  /** Page of the fact that the answer needs. @type {number | null} */
  fact = null;
  /** Page that the Tab key reaches. @type {number} */
  stop = 0;
  /** Pages that tell nothing: every step's first one, and words of a chat's template. @type {Set<number>} */
  apart = FIRST_PAGE;
  /** In an exported page. @type {Effects | null} */
  found = null;
  numPrompt = 0; // tokens
  size = 8;
  isFolded = false;
  /** @type {number[]} */
  leftOut = [];
  /** Over so many steps, by page: sum of the fractions, and steps that had it.
   * @type {{ steps: number, sums: number[], counts: number[] }} */
  usual = { steps: 0, sums: [], counts: [] };

  // on: {rows(), elements(), mark(index), select(range), effects(on) → PageEffects where there is a model}
  constructor(on) {
    this.on = on;
    /** @type {import("./page_effects.js").PageEffects | undefined} */
    this.effects = on.effects?.({ rows: on.rows, at: () => this.at,
      textOf: (page) => this.textOf(page), isApart: (page) => this.apart.has(page),
      changed: () => this.draw() });
    this.strips = new Strips({ point: (page) => page !== this.page && this.point(page),
      leave: () => this.point(null),
      canChoose: (page) => Boolean(this.effects && (this.pages[page] || !this.effects.isOfPrompt)),
      choose: (page) => this.effects?.toggle(page) });
    this.map = new ReadingMap({ mark: on.mark, select: on.select });
    this.element = this.build();
    this.clear();
  }

  build() {
    const id = uniqueId("reading");
    this.caption = h("p", { class: "sol-reading-caption" });
    this.said = h("p", { class: "sol-offscreen", role: "status" });
    this.text = h("div", { class: "sol-reading-text", id, dir: "auto", role: "listbox",
      "aria-label": "Prompt, by pages of eight tokens", "aria-orientation": "horizontal",
      "aria-multiselectable": Boolean(this.effects) && "true" });
    this.folder = chip("", () => this.fold(!this.isFolded), { "aria-controls": id });
    if (this.effects) this.strips.element.append(this.effects.which);
    this.listen();
    return h("section", { class: "sol-panel sol-reading", "aria-label": "What each step read", hidden: true },
      h("header", {}, h("h2", {}, "What it read"),
        h("div", { class: "sol-reading-words" }, this.caption, this.effects?.said), this.folder),
      this.strips.element, this.effects?.isOfPrompt
        && h("p", { class: "sol-hint" },
          glossed(`${isTouch ? "Tap" : "Click"} a [[page]] to answer without it.`)),
      this.text, this.effects?.element, this.map.element, this.said);
  }

  listen() {
    const pageAt = (event) => event.target.closest?.(".sol-page")?.solIndex ?? null;
    const choose = (page) => page !== null && this.effects?.toggle(page);
    const point = (event) => {
      const page = pageAt(event);
      if (page !== null && page !== this.page) this.point(page);
    };
    const press = (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (this.page === null || !(step || [" ", "Enter"].includes(event.key))) return;
      event.preventDefault();
      if (!step) return choose(this.page);
      let next = this.page + step;
      while (this.pages[next]?.isConnected === false) next += step; // folded away
      this.pages[next]?.focus();
    };
    fill(this.text, { onpointermove: point, onpointerleave: () => this.point(null), onfocusin: point,
      onfocusout: () => this.point(null), onclick: (event) => choose(pageAt(event)), onkeydown: press }, []);
  }

  clear() {
    this.pages = [];
    this.texts = [];
    this.at = this.page = this.fact = this.best = null;
    this.isBegun = this.isHeld = false;
    this.usual = { steps: 0, sums: [], counts: [] };
    clearTimeout(this.settling);
    this.text.replaceChildren();
    this.map.clear();
    this.effects?.clear();
    setText(this.caption, "");
    show(this.element, false);
  }

  /** @param {number} size tokens of a page @param {string[]} texts of the prompt's pages
   * @param {number} numPrompt its tokens @param {number[]} [leftOut] pages taken away
   * @param {string} [asked] the prompt without its template */
  begin(size, texts, numPrompt, leftOut = [], asked = "") {
    const own = ownTexts(texts, asked);
    this.apart = new Set([...FIRST_PAGE, ...texts.flatMap((text, page) =>
      (own[page].length < text.trim().length / 2 ? [page] : []))]); // mostly the template's
    Object.assign(this, { isBegun: true, size, numPrompt, leftOut,
      texts: own.map((text, page) => text || texts[page]) });
    this.text.classList.toggle("is-short", texts.length <= SHORT_PAGES);
    this.pages = texts.map((text, page) => {
      const isOut = leftOut.includes(page);
      const words = this.texts[page];
      const span = h("span", { class: `sol-page${isOut ? " is-left-out" : ""}`, role: "option",
        "aria-selected": "false", tabindex: "-1",
        "aria-label": `Page ${page + 1}${isOut ? ", left out" : ""}: ${spokenText(words)}` },
      partsAround(text, words));
      span.solIndex = page;
      return span;
    });
    this.text.replaceChildren();
    show(this.text, texts.length > 1); // of an inspected text just its beginning
    this.makeStop(0);
    this.fold(true);
  }

  makeStop(page) {
    this.pages[this.stop]?.setAttribute("tabindex", "-1");
    this.stop = page;
    this.pages[page]?.setAttribute("tabindex", "0");
  }

  fold(isFolded) {
    this.isFolded = isFolded;
    this.text.classList.toggle("is-folded", isFolded);
    this.folder.setAttribute("aria-expanded", String(!isFolded));
    setText(this.folder, isFolded ? "Whole prompt" : "Fewer pages");
    show(this.folder, this.pages.length > 1);
    this.place();
    const strongest = this.pages.find((span) => span.solShade === STRENGTHS);
    if (!isFolded) this.reveal(this.pages[this.fact ?? -1] ?? strongest);
  }

  pointOut(fact) {
    this.pages.forEach((span, page) => span.classList.toggle("is-fact", page === fact));
    this.fact = fact;
    this.place();
  }

  // Folded, only some pages stand in the text. What stands there already is not moved: it may have the focus.
  place() {
    const named = new Set([...this.effects?.chosen ?? [], ...this.leftOut, this.fact, this.page, this.best]);
    const stands = this.pages.filter((span, page) => !this.isFolded || span.solShade || named.has(page));
    const nodes = stands.flatMap((span, at) => {
      if (span.solIndex === (stands[at - 1]?.solIndex ?? -1) + 1) return [span];
      return [span.solGap ??= h("span", { class: "sol-muted", "aria-hidden": "true" }, " … "), span];
    });
    const isStanding = new Set(nodes);
    for (const node of [...this.text.children]) if (!isStanding.has(node)) node.remove();
    nodes.forEach((node, at) => {
      if (this.text.children[at] !== node) this.text.insertBefore(node, this.text.children[at] ?? null);
    });
  }

  // More tokens are there; one that is looked at stays.
  follow() {
    const rows = this.on.rows();
    const last = rows.at(-1);
    const isKnown = Boolean(last && this.isBegun && fractionsOf(last));
    show(this.element, isKnown);
    if (!isKnown) return;
    this.map.follow(rows);
    this.sum(rows);
    if (!this.isHeld) this.show(rows.length - 1);
  }

  recount() {
    this.usual = { steps: 0, sums: [], counts: [] };
    this.follow();
    if (this.at !== null) this.show(this.at);
  }

  sum(rows) {
    const { usual, usual: { sums, counts } } = this;
    for (; usual.steps < rows.length; usual.steps += 1) {
      const row = rows[usual.steps];
      const fractions = fractionsOf(row);
      for (let page = 0; fractions && page < row.page_reads.pages; page += 1) {
        sums[page] = (sums[page] ?? 0) + fractions(page);
        counts[page] = (counts[page] ?? 0) + 1;
      }
    }
  }

  meanOf(page) {
    const { sums, counts } = this.usual;
    return (sums[page] ?? 0) / (counts[page] ?? 1);
  }

  // How far each page's fraction is above the run's mean; the first one and the newest are left out.
  lights(row) {
    const fractions = fractionsOf(row);
    const { pages } = row.page_reads;
    return Array.from({ length: pages }, (_, page) => {
      if (row.page_reads.share === 1 || this.apart.has(page) || page >= pages - NEWEST_PAGES) return 0;
      const usual = this.usual.steps < FEWEST_STEPS ? 0 : this.meanOf(page);
      return Math.max((fractions?.(page) ?? 0) - usual, 0);
    });
  }

  mark(index) {
    this.isHeld = index !== null;
    if (index !== null) this.show(index);
    else if (this.page === null) this.shadeTokens(null); // else a page is pointed at, which lights tokens up
  }

  show(index) {
    this.at = index;
    if (!this.element.hidden) drawInTurn(this, () => this.draw());
  }

  draw() {
    const row = this.at === null ? null : this.on.rows()[this.at];
    const fractions = row && fractionsOf(row);
    if (!fractions) return;
    const lights = this.lights(row);
    const found = this.effects?.known.get(row.index) ?? this.found;
    const measured = found?.index === row.index ? found : null;
    const need = row.needed ? { lost: row.needed, best: this.fact } : measured;
    const isTold = (lost, page) => lost >= LEAST_TOLD && !this.apart.has(page);
    const shades = shadesOf(need?.lost.map((lost, page) => (isTold(lost, page) ? lost : 0)) ?? lights);
    this.best = need?.best ?? null;
    // Where all heads read all pages, what their attention is tells more, once that was measured.
    const isLooked = row.page_reads.share === 1 && measured;
    const looked = isLooked ? measured.attention
      : Array.from({ length: row.page_reads.pages }, (_, page) => fractions(page));
    show(this.strips.element, (this.on.rows().at(-1)?.page_reads.pages ?? 0) > 1);
    this.strips.draw(looked, need ? looked.map((_, page) => need.lost[page] ?? 0) : null, this.apart,
      isLooked ? "Looked at" : "Read");
    this.markStrips();
    this.effects?.which.classList.toggle("is-spare", Boolean(need));
    this.effects?.said.classList.toggle("is-of-another", this.effects.index !== row.index);
    this.pages.forEach((span, page) => {
      setShade(span, shades[page] ?? 0);
      const isChosen = String(this.effects?.chosen.has(page) ?? false);
      if (span.getAttribute("aria-selected") !== isChosen) span.setAttribute("aria-selected", isChosen);
    });
    if (this.isFolded) this.place();
    const pageOf = (token) => Math.floor((this.numPrompt + token) / this.size);
    this.shadeTokens(this.isHeld
      ? (token) => (token < (this.at ?? 0) ? shades[pageOf(token)] ?? 0 : 0) : null);
    if (this.effects?.isOfPrompt === false) {
      const { chosen } = this.effects;
      this.on.elements().forEach((element, token) =>
        element.classList.toggle("is-left-out", chosen.has(pageOf(token))));
    }
    this.map.mark(this.at);
    if (!this.pages[this.stop]?.isConnected) this.makeStop(Math.max(shades.findIndex(Boolean), 0));
    setText(this.caption, measured?.said ?? this.sentence(row, lights));
    if (this.isHeld && !this.isFolded) this.reveal(this.pages[shades.indexOf(STRENGTHS)]);
    clearTimeout(this.settling);
    this.settling = setTimeout(
      () => announce(this.said, this.isHeld ? this.caption.textContent : ""), QUIET_MS);
  }

  markStrips() {
    this.strips.mark(this.page ?? this.best, this.effects?.chosen);
  }

  reveal(page) {
    const { scrollTop, clientHeight } = this.text;
    if (page && (page.offsetTop < scrollTop || page.offsetTop > scrollTop + clientHeight - 30)) {
      this.text.scrollTop = page.offsetTop - clientHeight / 3;
    }
  }

  textOf(page) {
    const first = page * this.size - this.numPrompt;
    return this.texts[page] ?? this.on.elements().slice(Math.max(first, 0), Math.max(first + this.size, 0))
      .map(({ textContent }) => textContent?.replaceAll("\u00a0", " ")).join("");
  }

  shadeTokens(shadeAt) {
    this.on.elements().forEach((element, token) => setShade(element, shadeAt ? shadeAt(token) : 0));
  }

  point(page) {
    if (this.page !== null) this.pages[this.page]?.classList.remove("is-pointed");
    this.page = page;
    if (page === null) return this.draw();
    this.effects?.said.classList.add("is-of-another");
    this.markStrips();
    this.pages[page]?.classList.add("is-pointed");
    if (this.isFolded) this.place();
    const rows = this.on.rows();
    const readers = rows.map((row) => fractionsOf(row)?.(page) ?? 0);
    const most = Math.max(...readers);
    const shades = shadesOf(readers);
    this.shadeTokens((token) => shades[token]);
    const word = quoted(rows[readers.indexOf(most)].text);
    setText(this.caption, most > 0
      ? `${quotedStart(this.textOf(page))} was read most for ${word}, by ${percent(most)} of the heads.`
      : `No step read ${quotedStart(this.textOf(page))}.`);
  }

  sentence(row, lights) {
    if (row.needed && this.fact !== null) {
      const heads = `${percent(fractionsOf(row)?.(this.fact))} of the attention heads`;
      const needs = `${quoted(row.text)} needs ${quotedStart(this.textOf(this.fact))}.`;
      return row.isSame ? `${needs} ${heads} read it.` : `The full model's ${needs} Here ${heads} read it.`;
    }
    const word = quoted(row.text);
    if (row.page_reads.share === 1) return `${word} read everything: ${count(row.page_reads.pages, "page")}.`;
    const best = lights.reduce((most, light, page) =>
      (light > (lights[most] ?? 0) && this.textOf(page) ? page : most), -1);
    const isUsualKnown = this.usual.steps >= FEWEST_STEPS;
    if (best < 0 || (isUsualKnown && lights[best] < LEAST_GAP)) {
      return `${word} had no page of its own: it read much what other tokens read.`;
    }
    const usual = isUsualKnown ? `; by ${percent(this.meanOf(best))} for other tokens` : "";
    return `${word} looked most at ${quotedStart(this.textOf(best))} `
      + `(read by ${percent(fractionsOf(row)?.(best))} of the attention heads${usual}).`;
  }
}
