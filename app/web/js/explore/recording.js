// A recording (app/results): questions about one story, answered under smaller and smaller budgets.

import {
  button, glossed, h, isCalm, messageOf, opensHere, setChildren, setText, showText, uniqueId,
} from "../shared/dom.js";
import { AXES, count, mean, modelName, percent, percentTight, spendText } from "../shared/format.js";
import { folded } from "../shared/forms/form_parts.js";
import { numbersOf } from "../shared/machine/reads.js";
import { handOver, linkTo } from "../shared/tabs.js";
import { Reading } from "../shared/tokens/reading.js";
import { colourScale } from "../shared/tokens/token_stage.js";
import { tokenNodes } from "../shared/tokens/token_text.js";
import { BIN, binOf, LEAST_COST, shareOfBytes } from "../shared/tokens/token_view.js";

const TICKS = [20, 30, 40, 50, 60, 70, 80, 90, 100]; // %, of the dial, whose stops are marked by lines
const TOKEN_MS = 60; // from one token to the next while it plays

/** What a step read: of PageReads in sol_core/events.py. @param {Token} row @returns {RecordedStep} */
const stepOf = ({ page_reads: reads }) => [reads?.pages ?? 0, reads?.share ?? 1, reads?.by_page ?? ""];

const axesOf = (spend) => spendText(AXES.map(({ scale, dense }, at) => spend[at] ?? scale * dense));

const readsOfStep = ([pages, share, byPage]) => ({ pages, share, by_page: byPage });

export class RecordingView {
  /** Tokens of all answers, with answer and number.
   * @type {{ row: any, answer: number, at: number, element: HTMLElement }[]} */
  shown = [];
  which = 0; // answer that the strips are about

  /** Of each stop of the dial that was run here. @type {Map<number, RecordedText>} */
  live = new Map();
  isLive = false;

  // on: where there is a live model; own: somebody has a prompt of their own.
  /** @param {Recording} recording
   *  @param {{ answer(prompt: string, settings: object): Promise<Token[]>, own(): void,
   *   learn(): void }} [on] */
  constructor(recording, on) {
    this.recording = recording;
    this.on = on;
    this.axis = { of: (cost) => cost, low: LEAST_COST, high: 1, show: percentTight, isOpenBelow: true };
    this.own = button("Try your own prompt", on?.own, { class: "sol-button is-primary", hidden: !on });
    this.answers = recording.questions.map((one, which) => this.answer(one, which));
    this.reading = new Reading({ rows: () => this.shown.map(({ row }) => row), elements: () => [],
      mark: () => {}, select: () => {} });
    this.element = this.build();
    this.open();
  }

  // At the lowest budget that gave all of the full model's answers.
  open() {
    const { texts } = this.recording;
    const low = texts.at(-1)?.asked ?? 0;
    this.dial.min = String(Math.round(100 * low));
    const part = (tag, share, more = "") => h(tag, { "--v": (share - low) / (1 - low) }, more);
    this.stops.replaceChildren(...texts.map(({ asked }) => part("i", asked)),
      ...TICKS.filter((tick) => tick >= 100 * low).map((tick) => part("span", tick / 100, String(tick))));
    this.choose(texts.findLastIndex((text) => !this.samesOf(text).includes(false)));
  }

  /** The same questions, as a model of another format answered them. @param {Recording} recording */
  exchange(recording) {
    this.recording = recording;
    this.live.clear(); // its numbers are of the other recording's stops
    this.open();
    if (this.isLive) this.runHere();
  }

  /** The answers at a stop of the dial: live where it was run here. @returns {RecordedText} */
  textAt(at) {
    return (this.isLive && this.live.get(at)) || this.recording.texts[at];
  }

  /** @param {{ dtype: string, machine: string }} facts of the loaded model */
  compareWith({ dtype, machine }) {
    const made = this.recording;
    const isSame = dtype === made.dtype && machine === made.machine;
    const maker = made.machine.replaceAll(/\((R|TM)\)| Processor| \(.*$/g, "");
    showText(this.origin, isSame ? "" : `Measured on another machine (${maker}, ${made.dtype}).`);
  }

  build() {
    const { model, questions } = this.recording;
    const id = uniqueId("dial");
    this.dial = h("input", { type: "range", id, max: 100, step: 1, onkeydown: (event) => {
      const step = { ArrowRight: -1, ArrowUp: -1, PageUp: -1,
        ArrowLeft: 1, ArrowDown: 1, PageDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.turnTo(this.at + step);
    }, oninput: () => {
      const away = this.recording.texts.map(({ asked }) => Math.abs(100 * asked - this.dial.valueAsNumber));
      this.turnTo(away.indexOf(Math.min(...away)));
    } });
    this.stops = h("div", { class: "sol-recording-stops", "aria-hidden": "true" });
    this.mark = h("span", { class: "sol-recording-mark", role: "status" }, "recorded");
    this.runs = button("Run it here", () => (this.isLive ? this.rest() : this.runHere()));
    this.origin = h("small", { class: "sol-hint", hidden: true });
    this.share = h("output", { for: id, class: "sol-recording-share" });
    this.said = h("p", { class: "sol-recording-said", "aria-live": "polite" });
    this.details = h("p", { class: "sol-hint" });
    return h("section", { class: "sol-empty sol-recording", "aria-label": "Recorded example" },
      h("div", { class: "sol-recording-head" },
        h("h2", {}, glossed("How little [[compute]] still gives the same answers?", true)),
        h("p", { class: "sol-muted" }, this.mark, " ", modelName(model),
          `, a small model, read a story of ${count(questions[0].tokens, "token")}, then finished three `
          + "answers. The words it wrote are coloured."),
        this.origin),
      h("div", { class: "sol-recording-dial" },
        this.label = h("label", { for: id }, "Compute"), h("div", {}, this.dial, this.stops), this.share),
      h("div", { class: "sol-recording-result" }, this.said,
        h("span", { class: "sol-muted" }, "Compute: bytes read, not time", colourScale(this.axis))),
      h("ol", { class: "sol-recording-answers" }, this.answers.map((one) => one.element)),
      this.reading.element,
      folded("Details", this.details),
      h("div", { class: "sol-recording-foot" },
        this.own, this.on && [this.runs,
          h("a", { class: "sol-quiet-link", href: linkTo({ tab: "learn" }),
            onclick: opensHere(this.on.learn) }, "Learn why, in 20 minutes")]));
  }

  turnTo(at) {
    handOver("dial-turned", true);
    this.choose(Math.min(Math.max(at, 0), this.recording.texts.length - 1));
    if (this.isLive) this.runHere();
  }

  /** @param {RecordedQuestion} one @param {number} which */
  answer({ question, stem }, which) {
    const asked = h("button", { type: "button", class: "sol-recording-question sol-muted",
      onclick: () => {
        this.stop();
        this.point(which, 0);
      } }, question);
    const tokens = h("span", {});
    const full = h("small", { class: "sol-muted" }); // always there, so that the dial moves nothing
    return { tokens, full, asked, element: h("li", {}, asked,
      h("p", { class: "sol-recording-text", dir: "auto" }, stem, tokens, full)) };
  }

  /** Of each answer, whether it is the full model's. @param {RecordedText} text */
  samesOf({ answers }) {
    return answers.map(({ same, tokens }, at) =>
      same === tokens.length && same === this.textAt(0).answers[at].tokens.length);
  }

  choose(at) {
    this.stop();
    const { questions, pages, page_size: size } = this.recording;
    const [dense, text] = [this.textAt(0), this.textAt(at)];
    const linesOf = ({ answers }) => answers.map(({ tokens }) => tokens.join("")).join("\n");
    const isSame = linesOf(text) === linesOf(this.recording.texts[at]);
    setText(this.mark, this.isLive && this.live.has(at)
      ? `live${isSame ? ": same as the recording" : ", on this machine"}` : "recorded");
    this.at = at;
    this.dial.value = String(Math.round(100 * text.asked));
    this.dial.setAttribute("aria-valuetext",
      `${percent(text.asked)} of the full model: ${axesOf(text.spend)}`);
    setText(this.share, percent(text.asked));
    setText(this.details, `${axesOf(text.spend)}. Asked: ${percent(text.asked)}; spent: `
      + `${percent(text.share, 1)} of the full model's bytes.`);
    const sames = this.samesOf(text);
    this.shown = [];
    this.answers.forEach(({ tokens, full }, which) => {
      const [other, answer] = [dense.answers[which], text.answers[which]];
      tokens.replaceChildren(...this.tokensOf(which, answer, sames[which] ? Infinity : answer.same));
      if (!sames[which] && answer.same === answer.tokens.length) {
        tokens.append(h("span", { class: "is-parting", title: "Words are missing here." }, "\u2003"));
      }
      setText(full, `Full model:${other.tokens.join("")}`);
      full.classList.toggle("is-spare", sames[which]);
    });
    this.reading.clear();
    this.reading.begin(size, pages, questions[0].tokens);
    this.reading.follow();
    setChildren(this.said, this.sentence(text, sames));
    // The strips stay with their answer, unless another one broke.
    const which = sames[this.which] && sames.includes(false) ? sames.indexOf(false) : this.which;
    const { tokens } = text.answers[which];
    const same = sames[which] ? 0 : text.answers[which].same;
    const words = tokens.findIndex((word, token) => token >= same && word.trim()); // no space
    this.point(which, words < 0 ? Math.min(same, tokens.length - 1) : words);
  }

  // What the answer needs is the full model's need, at any stop of the dial.
  rowOf(which, reads, isSame) {
    const needs = numbersOf(this.recording.questions[which].needs);
    const needed = Array.from({ length: reads.pages }, (_, page) => needs[page] ?? 0);
    const text = this.textAt(0).answers[which].tokens.join("");
    return { index: this.shown.length, text, page_reads: reads, needed, isSame };
  }

  point(which, at) {
    this.which = which;
    this.reading.pointOut(this.recording.questions[which].fact);
    const index = this.shown.findIndex((one) => one.answer === which && one.at === at);
    this.shown.forEach(({ element }, one) => element.classList.toggle("is-picked", one === index));
    this.answers.forEach(({ asked }, one) => asked.setAttribute("aria-pressed", String(one === which)));
    this.reading.mark(index);
  }

  /** @param {number} which @param {RecordedAnswer} answer @param {number} parting */
  tokensOf(which, answer, parting) {
    return answer.tokens.flatMap((word, at) => {
      const point = () => { if (!this.timer) this.point(which, at); };
      const token = h("span", { class: at === parting ? "sol-token is-parting" : "sol-token",
        // Not pointerenter, which also comes where the dial puts other tokens under a resting pointer.
        onpointermove: point, onclick: point, [BIN]: binOf(this.axis, answer.costs[at]) }, tokenNodes(word));
      const row = this.rowOf(which, readsOfStep(answer.steps[at]), parting === Infinity);
      this.shown.push({ answer: which, at, row, element: token });
      return /^\s/.test(word) ? [h("wbr"), token] : [token];
    });
  }

  // Lets the answers come token by token, once; not for who wants no motion.
  play() {
    if (isCalm()) return;
    const all = this.shown;
    [...all.map(({ element }) => element), this.said].forEach((part) => part.classList.add("is-coming"));
    let next = 0;
    this.timer = setInterval(() => {
      if (next === all.length) return this.choose(this.at);
      const { element, answer, at } = all[next];
      element.classList.remove("is-coming");
      this.point(answer, at);
      next += 1;
    }, TOKEN_MS);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = undefined;
    this.element.querySelectorAll(".is-coming").forEach((token) => token.classList.remove("is-coming"));
  }

  // The three answers at the dial's stop, by the model that is here; before them the full model's.
  async runHere() {
    this.stop();
    this.isLive = true;
    const turn = this.turn = {};
    const { at } = this;
    setText(this.runs, "Stop");
    try {
      const stops = [...new Set([0, at])].filter((stop) => !this.live.has(stop));
      turn.left = stops.length * this.answers.length;
      for (const stop of stops) this.live.set(stop, await this.answersAt(stop, turn));
      if (turn !== this.turn) return;
      setText(this.runs, "Back to the recording");
      this.choose(at);
    } catch (error) {
      if (turn === this.turn) this.rest(`: ${messageOf(error)}`);
    }
  }

  // Back to the recording.
  rest(why = "") {
    this.turn = null;
    this.isLive = false;
    this.choose(this.at);
    setText(this.mark, `recorded${why}`);
    setText(this.runs, "Run it here");
  }

  /** @param {number} at @returns {Promise<RecordedText>} */
  async answersAt(at, turn) {
    const { story, questions, texts, max_new_tokens, stop_strings: stops } = this.recording;
    const dense = this.live.get(0)?.answers;
    const { answer } = /** @type {NonNullable<typeof this.on>} */ (this.on);
    const stop = stops.map((text) => text.replaceAll("\n", "\\n")).join("\n");
    const shares = [];
    const answers = [];
    for (const [which, { question, stem }] of questions.entries()) {
      if (turn === this.turn) setText(this.mark, `running here: ${count(turn.left, "answer")} to go`);
      const rows = await answer(`${story}\n\nQuestion: ${question}\nAnswer: ${stem}`,
        { chat: false, schedule: at === 0 ? "dense" : "static", share: Math.round(100 * texts[at].asked),
          shadow: false, max_new_tokens, stop });
      if (turn !== this.turn) throw new Error("stopped");
      turn.left -= 1;
      // The token that ends the line is no part of the answer.
      const ends = rows.length > 1 && stops.some((text) => rows.at(-1)?.text.includes(text));
      const kept = ends ? rows.slice(0, -1) : rows;
      const tokens = kept.map((row) => row.text);
      const whole = dense?.[which].tokens ?? tokens;
      const apart = tokens.findIndex((text, token) => text !== whole[token]);
      const costs = kept.map(shareOfBytes);
      shares.push(...costs);
      answers.push({ same: apart < 0 ? tokens.length : apart, tokens, costs, steps: kept.map(stepOf) });
    }
    return { ...texts[at], share: mean(shares), answers };
  }

  /** @param {RecordedText} text @param {boolean[]} sames */
  sentence(text, sames) {
    if (this.at === 0) {
      return ["The full model reads the whole story at every step. Drag left until it breaks."];
    }
    const wrong = sames.filter((isSame) => !isSame).length;
    const all = `all ${NUMBERS[sames.length]} answers`;
    const many = !wrong ? `${all} survive` : wrong === sames.length ? `${all} are wrong`
      : `${NUMBERS[wrong]} of ${NUMBERS[sames.length]} answers ${wrong === 1 ? "is" : "are"} wrong`;
    return [`At ${percent(text.asked)}, `, h("b", {}, many),
      ". Longer answers need more, and so do short prompts."];
  }
}

const NUMBERS = ["no", "one", "two", "three"];
