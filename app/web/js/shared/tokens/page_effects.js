// Pages taken away: what the step on show would say without them, the whole answer, and each page in turn.

import { attempt, newest, paysForGpu, RunFollower } from "../api.js";
import { bringIntoView, chip, h, setText, show } from "../dom.js";
import { count, isNumber, isTie, nats, probability } from "../format.js";
import { recall, remember } from "../memory.js";
import { contentWords } from "./token_stage.js";
import { answerText, quoted, quotedStart } from "./token_text.js";

const LEAST_LOST = 0.2; // of a word's probability: a page whose absence costs less did not matter much
const LEAST_SAID = 0.001; // of the probabilities that are given; below it surprisals are
const MANY = 0.4; // of all pages
const UNCERTAIN = 0.4; // probability of a word
const UNEXPECTED = 0.05;
const AT_ONCE = 400; // pages that are left out in turn without being asked
const MOST_WORDS = 12; // of a run, for which that is done
const MOST_KEPT = 8; // runs, of each of which the last measurement is kept for when it is opened again

export class PageEffects {
  /** Pages to leave out. @type {Set<number>} */
  chosen = new Set();
  /** Number of the token that the words are about. @type {number | null} */
  index = null;
  /** Effects of all pages, by the token that they are on. @type {Map<number, Effects>} */
  known = new Map();
  say = (text) => setText(this.said, text);

  // on: {id() → the run's, ask(name, request), at() → number of the token, rows(), textOf(page),
  // isApart(page), changed(), compare(id)?}
  constructor(on) {
    this.on = on;
    this.isOfPrompt = Boolean(on.compare); // of an inspected text any page may be left out
    this.none = chip("Put back", () => this.choose([]));
    this.which = chip("", () => (this.which.ariaBusy ? this.stop() : this.rank()));
    this.compare = chip("Compare", () => this.on.compare(this.other.id), { hidden: true });
    this.said = h("p", { class: "sol-page-said", role: "status" });
    this.answer = h("p", { class: "sol-page-answer", dir: "auto", hidden: true });
    this.element = h("div", { class: "sol-page-effects" }, this.answer,
      h("div", { class: "sol-tools" }, this.compare, this.none));
    this.other = new RunFollower(on.ask, { rows: (rows) => this.answer.append(answerText(rows)),
      view: ({ live, more, summary }) => {
        this.answer.classList.toggle("is-live", live || more);
        if (summary?.reason === "length" && !more) this.answer.append("…");
        show(this.compare, !(live || more));
      }, gone: (error) => this.say(error.message) });
    this.clear();
  }

  get found() {
    return this.known.get(this.index ?? -1) ?? null;
  }

  clear() {
    this.stop();
    this.known.clear();
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
        : `these ${count(pages.length, "page")}`;
      this.say(`${quoted(this.on.rows()[index].text)} without ${without}: ${this.change(index, effect)}`);
      if (!this.isOfPrompt) return;
      const { run_id: id } = await newest(this, this.on.ask("run_without", { pages }));
      this.answer.replaceChildren(h("b", {}, "Without it the model answers: "));
      show(this.answer, true);
      bringIntoView(this.answer);
      this.other.follow(id);
    }, this.say);
  }

  change(index, effect) {
    const { choice, nll, nll_change: change } = effect;
    const [before, own] = [chanceBefore(effect), Math.exp(-nll)];
    const other = `${quoted(choice.text)} ${isTie(choice.probability, own) ? "ties with it" : "comes first"}`;
    const first = choice.token_id === this.on.rows()[index].token_id ? "it stays first"
      : `${other} (${probability(choice.probability)})`;
    const [name, was, is, unit] = before < LEAST_SAID ? ["surprisal", nats(nll - change), nats(nll), " nats"]
      : ["probability", probability(before), probability(own), ""];
    return `its ${name} ${is === was ? "stays" : `goes from ${was} to`} ${is}${unit}, and ${first}.`;
  }

  // A run has ended, or one that has is opened: the word on show, then others until somebody asks for more.
  async rankSoon() {
    const was = recall("needed")[this.on.id()];
    const { pages = Infinity } = this.on.rows()[this.on.at()]?.page_reads ?? {};
    if (was?.[0] === this.on.at()) this.draw(...was);
    else if (pages <= AT_ONCE) await this.rank();
    const seen = new Set([this.on.rows()[this.on.at()]?.text]); // every word once
    const words = contentWords(this.on.rows()).filter(({ text }) => !seen.has(text) && seen.add(text));
    const more = async () => {
      for (const { index } of words.slice(0, MOST_WORDS)) {
        this.known.set(index, this.foundOf(index, await this.measure(index)));
        this.on.changed();
      }
    };
    if (pages <= AT_ONCE && !paysForGpu()) await attempt(more, () => {}); // nobody asked for these
  }

  // Every page left out in turn, in several answers.
  async measure(index, told = (view) => {}) {
    let view = null;
    while (!view || view.effects.length < view.count) {
      told(view = await newest(this, this.on.ask("rank_pages", { index })));
    }
    return view;
  }

  async rank() {
    const index = this.index = this.on.at();
    this.which.ariaBusy = "true";
    setText(this.which, "Cancel");
    this.on.changed(); // the words are about this token from now on
    this.say("Reading the run again…");
    await attempt(async () => {
      let first = null; // pages of the first answer, which had to read the run again
      this.draw(index, await this.measure(index, ({ effects: { length: done }, count: all }) => {
        first ??= { done, at: performance.now() };
        const left = (performance.now() - first.at) / (done - first.done) * (all - done) / 1000;
        const rest = isNumber(left) ? `, ${Math.ceil(left)} s left` : "";
        this.say(`${done} of ${count(all, "page")} left out in turn${rest}…`);
      }));
    }, this.say);
    this.stop();
  }

  draw(index, view) {
    this.index = index;
    const others = Object.entries(recall("needed")).filter(([id]) => id !== this.on.id());
    remember("needed", Object.fromEntries([...others, [this.on.id(), [index, view]]].slice(-MOST_KEPT)));
    const found = this.foundOf(index, view);
    this.known.set(index, found);
    this.say(found.said);
    this.on.changed();
  }

  foundOf(index, { effects, attention }) {
    const own = effects.filter(({ pages: [page] }) => !this.on.isApart(page))
      .toSorted((a, b) => b.nll_change - a.nll_change);
    const lost = effects.map(lostWithout);
    const [first] = own;
    const chance = first ? chanceBefore(first) : 1;
    const best = first && chance >= UNEXPECTED && lostWithout(first) >= LEAST_LOST ? first : null;
    return { index, attention, lost, best: best && best.pages[0],
      said: this.finding(index, chance, best, lost) };
  }

  // chance: the word's, with all pages; best: effect of the page that it needed most, null without one.
  finding(index, chance, best, lost) {
    const word = quoted(this.on.rows()[index].text);
    if (chance < UNEXPECTED) return `${word} had little probability to begin with: ${probability(chance)}.`;
    if (best) {
      const page = quotedStart(this.on.textOf(best.pages[0]));
      const alike = lost.filter((one) => one > lostWithout(best) / 2).length;
      const lead = alike <= Math.max(MANY * lost.length, 3) ? `${word} needed ${page}. Without it, `
        : chance < UNCERTAIN ? `${word} was uncertain: almost any page sways it. Without ${page}, `
        : `Almost any page could change ${word}. Without ${page}, `;
      return lead + this.change(index, best);
    }
    return `No single page was essential to ${word}: it keeps most of its probability without any of them.`;
  }
}

// Of a word's probability, what goes with a page: 0 to 1.
const lostWithout = ({ nll_change: change }) => Math.max(1 - Math.exp(-change), 0);
// The word's probability with all pages.
const chanceBefore = ({ nll, nll_change: change }) => Math.exp(change - nll);
