// Pages taken away: what the step on show would say without them, the whole answer, and each page in turn.

import { attempt, newest } from "../api.js";
import { chip, h, setText, show } from "../dom.js";
import { RunFollower } from "../follower.js";
import { count, isNumber, nats, probability } from "../format.js";
import { answerText, quoted, quotedStart } from "./token_text.js";

const NOTHING = 0.01; // nats, below which a page did not matter
const LITTLE = 0.8; // of a word's probability: what leaves it more did not matter much
const TIE = 1.1; // of a word's probability: who has less more than it comes first by chance
const MANY = 0.4; // of all pages
const AT_ONCE = 400; // pages that are left out in turn without being asked

/** What was measured last of each run, which may be opened again.
 * @type {Map<string, [number, any, number]>} */
const measured = new Map();

export class PageEffects {
  /** Pages to leave out. @type {Set<number>} */
  chosen = new Set();
  /** Number of the token that the words are about. @type {number | null} */
  index = null;
  /** Effects of all pages on a token; best: the one that matters most.
   * @type {{ index: number, kl: number[], attention: number[], best: number | null } | null} */
  found = null;
  say = (text) => setText(this.said, text);

  // on: {id() → the run's, ask(name, request), at() → number of the token, rows(), textOf(page),
  // isApart(page), changed(), compare(id)?}
  constructor(on) {
    this.on = on;
    this.isOfPrompt = Boolean(on.compare); // of an inspected text any line may be left out
    this.none = chip("Put back", () => this.choose([]));
    this.which = chip("", () => (this.which.ariaBusy ? this.stop() : this.rank()));
    this.compare = chip("Compare", () => this.on.compare(this.other.id), { hidden: true });
    this.said = h("p", { class: "sol-page-said", role: "status" });
    this.answer = h("p", { class: "sol-page-answer", dir: "auto", hidden: true });
    this.element = h("div", { class: "sol-page-effects" }, this.answer,
      h("div", { class: "sol-tools" }, this.compare, this.none));
    this.other = new RunFollower(on.ask, { begin: () => {}, rows: (rows) => this.write(rows),
      view: (view) => this.setLive(view.live || view.more), lost: () => {},
      gone: (error) => this.say(error.message) });
    this.clear();
  }

  clear() {
    this.stop();
    this.found = null;
    this.choose([]);
  }

  toggle(page) {
    const others = [...this.chosen].filter((one) => one !== page);
    this.choose(this.chosen.has(page) ? others : [...others, page]);
  }

  choose(pages) {
    this.chosen = new Set(pages);
    this.other.leave();
    this.say("");
    [this.none, this.compare, this.answer].forEach((one) => show(one, one === this.none && pages.length > 0));
    this.answer.replaceChildren();
    if (pages.length) this.leaveOut([...pages].toSorted((a, b) => a - b));
    this.on.changed();
  }

  stop() {
    this.turn = {};
    this.which.ariaBusy = null;
    setText(this.which, "What did it need?");
  }

  // The step on show at once, then the whole answer, as a run of its own.
  leaveOut(pages) {
    this.stop();
    this.say("Decoding without it…");
    return attempt(async () => {
      const index = this.index = this.on.at();
      const effect = await newest(this, this.on.ask("leave_out_pages", { index, pages }));
      const without = pages.length === 1 ? quotedStart(this.on.textOf(pages[0]))
        : `these ${count(pages.length, "line")}`;
      this.say(`${quoted(this.on.rows()[index].text)} without ${without}: ${this.change(index, effect)}`);
      if (!this.isOfPrompt) return;
      const { run_id: id } = await newest(this, this.on.ask("run_without", { pages }));
      this.answer.replaceChildren(h("b", {}, "Without it the answer is "));
      show(this.answer, true);
      this.other.follow(id);
    }, this.say);
  }

  write(rows) {
    this.answer.append(answerText(rows));
  }

  setLive(isLive) {
    this.answer.classList.toggle("is-live", isLive);
    show(this.compare, !isLive);
  }

  change(index, { choice, nll, nll_change: change }) {
    const own = Math.exp(-nll);
    const other = `${quoted(choice.text)} ${choice.probability < TIE * own ? "ties with it" : "comes first"}`;
    const first = choice.token_id === this.on.rows()[index].token_id ? "it stays first"
      : `${other} (${probability(choice.probability)})`;
    return `${probability(Math.exp(change - nll))} becomes ${probability(own)}, and ${first}.`;
  }

  // isNew: the run has just ended; of others only what was measured before is shown.
  rankSoon(isNew) {
    const was = measured.get(this.on.id());
    if (was && was[0] === this.on.at()) return this.draw(...was);
    if (!isNew) return;
    const { pages = Infinity } = this.on.rows()[this.on.at()]?.page_reads ?? {};
    if (pages <= AT_ONCE) this.rank();
  }

  async rank() {
    const index = this.index = this.on.at();
    const started = performance.now();
    this.which.ariaBusy = "true";
    setText(this.which, "Cancel");
    this.on.changed(); // the words are about this token from now on
    this.say("Reading the run again…");
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
    this.index = index;
    measured.set(this.on.id(), [index, view, seconds]);
    const [best] = effects.filter(({ pages: [page] }) => !this.on.isApart(page))
      .toSorted((a, b) => b.kl - a.kl);
    const matters = best?.kl >= NOTHING;
    this.found = { index, attention, kl: effects.map((effect) => effect.kl),
      best: matters ? best.pages[0] : null };
    const rank = isNumber(correlation) ? ` Rank correlation with attention: ${correlation.toFixed(2)}.` : "";
    this.said.title = `${count(effects.length, "page")} in ${Math.ceil(seconds)} s. `
      + `KL without it: ${nats(best?.kl)} nats.${rank}`;
    this.say(matters ? this.finding(index, best, effects) + this.change(index, best)
      : `No single line mattered to ${quoted(this.on.rows()[index].text)}: without any one, KL stays below `
        + `${NOTHING} nats.`);
    this.on.changed();
  }

  // The beginning of a sentence that ends in what a token's probability becomes without the best page.
  finding(index, best, effects) {
    const { text, token_id: id } = this.on.rows()[index];
    const [word, line] = [quoted(text), quotedStart(this.on.textOf(best.pages[0]))];
    if (best.choice.token_id === id && Math.exp(-best.nll_change) > LITTLE) {
      return `No single line mattered much to ${word}; without ${line} `;
    }
    const alike = effects.filter(({ kl }) => kl > best.kl / 2).length;
    if (alike > Math.max(MANY * effects.length, 3)) return `Almost any line tips ${word}: without ${line} `;
    return best.nll_change < 0 ? `${line} made ${word} less likely: without it `
      : `${word} needed ${line}: without it `;
  }
}
