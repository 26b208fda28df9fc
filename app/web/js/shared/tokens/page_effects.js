// Pages taken away from a step, from the whole answer, and each in turn.

import { attempt, newest } from "../api.js";
import { chip, h, setText, show } from "../dom.js";
import { count, isNumber, nats, percent, probability } from "../format.js";
import { dataTable } from "../page_parts.js";
import { quoted, quotedStart } from "./token_text.js";

const SHOWN_PAGES = 5;
const NOTHING = 0.01; // nats, below which a page did not matter

/** @param {{ name: any, kl: number, attention: number }[]} pages */
export const rankTable = (pages) => dataTable("Pages by effect", ["Page left out", "KL, nats", "Attention"],
  pages.slice(0, SHOWN_PAGES).map(({ name, kl, attention }) =>
    [h("bdi", {}, name), nats(kl), percent(attention, 1)]));

export class PageEffects {
  /** Pages to leave out. @type {Set<number>} */
  chosen = new Set();
  /** Effects of all pages on a token. @type {{ index: number, kl: number[] } | null} */
  found = null;
  say = (text) => setText(this.said, text);

  // on: {ask(name, request) → answer of a run's call, again(pages), at() → number of the token on show,
  // rows(), texts() of the prompt's pages, changed()}
  constructor(on) {
    this.on = on;
    this.step = chip("", () => this.leaveOut());
    this.again = chip("", () => this.on.again([...this.chosen]));
    this.none = chip("Clear", () => this.choose([]));
    this.which = chip("", () => (this.which.ariaBusy ? this.stop() : this.rank()));
    this.hint = h("span", { class: "sol-muted" }, "Click a page to take it away.");
    this.said = h("p", { class: "sol-page-said", role: "status" });
    this.table = h("div", { class: "sol-page-ranks", hidden: true });
    this.element = h("div", { class: "sol-page-effects" },
      h("div", { class: "sol-tools" }, this.step, this.again, this.none, this.which, this.hint),
      this.said, this.table);
    this.clear();
  }

  clear() {
    this.stop();
    this.found = null;
    this.say("");
    show(this.table, false);
    this.choose([]);
  }

  toggle(page) {
    const others = [...this.chosen].filter((one) => one !== page);
    this.choose(this.chosen.has(page) ? others : [...others, page]);
  }

  choose(pages) {
    this.chosen = new Set(pages);
    const { size } = this.chosen;
    setText(this.step, `What if ${size === 1 ? "this page" : `these ${count(size, "page")}`} were not read?`);
    setText(this.again, `Answer again without ${size === 1 ? "it" : "them"}`);
    [this.step, this.again, this.none].forEach((one) => show(one, size > 0));
    show(this.hint, size === 0);
    this.on.changed();
  }

  stop() {
    this.turn = {};
    this.which.ariaBusy = null;
    setText(this.which, "Which page mattered?");
  }

  leaveOut() {
    const index = this.on.at();
    const pages = [...this.chosen].toSorted((a, b) => a - b);
    this.say("Decoding without it…");
    return attempt(async () => this.say(this.sentence(index,
      await newest(this, this.on.ask("leave_out_pages", { index, pages })))), this.say);
  }

  sentence(index, effect) {
    const { pages, choice, nll, nll_change: change } = effect;
    const token = this.on.rows()[index];
    const word = quoted(token.text);
    const without = pages.length === 1 ? `page ${pages[0] + 1}` : `these ${count(pages.length, "page")}`;
    const moved = `from ${probability(Math.exp(change - nll))} to ${probability(Math.exp(-nll))}`;
    const first = choice.token_id === token.token_id ? "It stays the most probable token."
      : `The most probable token would be ${quoted(choice.text)} (${probability(choice.probability)}).`;
    return `Without ${without}, ${word} goes ${moved}. ${first} KL ${nats(effect.kl)} nats.`;
  }

  async rank() {
    const index = this.on.at();
    const started = performance.now();
    this.which.ariaBusy = "true";
    setText(this.which, "Cancel");
    this.say("Reading the run again…");
    show(this.table, false);
    await attempt(async () => {
      let view = null;
      let first = null; // pages of the first answer, which had to read the run again
      while (!view || view.effects.length < view.count) {
        view = await newest(this, this.on.ask("rank_pages", { index }));
        first ??= { done: view.effects.length, at: performance.now() };
        const { effects: { length: done }, count: all } = view;
        const left = (performance.now() - first.at) / (done - first.done) * (all - done) / 1000;
        const rest = isNumber(left) ? `, ${Math.ceil(left)} s left` : "";
        this.say(`${done} of ${count(all, "page")} left out in turn${rest}…`);
      }
      this.draw(index, view, (performance.now() - started) / 1000);
    }, this.say);
    this.stop();
  }

  draw(index, view, seconds) {
    const { effects, attention, correlation } = view;
    this.found = { index, kl: effects.map((effect) => effect.kl) };
    const ranked = effects.toSorted((a, b) => b.kl - a.kl);
    const [best] = ranked.filter((effect) => effect.pages[0] > 0);
    const word = quoted(this.on.rows()[index].text);
    const verdict = !best || best.kl < NOTHING
      ? `No single page mattered to ${word}: without any one, KL stays below ${NOTHING} nats.`
      : `${this.textOf(best.pages[0])} mattered most to ${word}. ${this.sentence(index, best)}`;
    const rank = isNumber(correlation) ? ` Rank correlation with attention: ${correlation.toFixed(2)}.` : "";
    this.say(`${verdict}${rank} ${count(effects.length, "page")} in ${Math.ceil(seconds)} s.`);
    this.table.replaceChildren(rankTable(ranked.map(({ kl, pages: [page] }) => ({
      kl, attention: attention[page],
      name: [this.textOf(page), page === 0 && h("small", {}, " first page: most steps need it")] }))));
    show(this.table, ranked.length > 0);
    this.on.changed();
  }

  textOf(page) {
    const text = this.on.texts()[page];
    return text === undefined ? `Page ${page + 1}, of the answer,` : quotedStart(text);
  }
}
