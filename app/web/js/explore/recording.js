// A recording (app/results): questions about one story, answered under smaller and smaller budgets.

import { linkTo } from "../shared/address.js";
import { button, h, isCalm, opensHere, setText, show, uniqueId } from "../shared/dom.js";
import { AXES, count, modelName, percent, percentTight, spendText } from "../shared/format.js";
import { folded } from "../shared/forms/form_parts.js";
import { glossed } from "../shared/glossary.js";
import { pagesText, readsOf, sharesOf } from "../shared/machine/reads.js";
import { WHOLE_STEP } from "../shared/machine/sheet.js";
import { Zoom } from "../shared/machine/field.js";
import { colourScale } from "../shared/tokens/legend.js";
import { Reading } from "../shared/tokens/reading.js";
import { BIN, binOf, LEAST_COST } from "../shared/tokens/tokens.js";
import { quoted, spokenText, tokenNodes } from "../shared/tokens/token_text.js";

const TOKEN_MS = 60; // from one token to the next while it plays

/** Numbers of tests/app/recordings/recorder.py's RecordedStep, in its order. @typedef {any[]} RecordedStep */
/** @typedef {{ same: number, tokens: string[], costs: number[], steps: RecordedStep[] }} RecordedAnswer */
/** @typedef {{ asked: number, spend: number[], share: number, answers: RecordedAnswer[] }} RecordedText */
/** @typedef {{ question: string, stem: string, tokens: number, fact: number }} RecordedQuestion */
/** @typedef {{ model: string, dtype: string, machine: string, max_new_tokens: number, stop_strings: string[],
 *   story: string, page_size: number, pages: string[], questions: RecordedQuestion[],
 *   texts: RecordedText[] }} Recording */

const axesOf = (spend) => spendText(AXES.map(({ scale, dense }, at) => spend[at] ?? scale * dense));

function readsOfStep(step) {
  const [pages, cells, share, levels, byPage] = step.slice(7);
  return { pages, cells, share, levels, by_page: byPage };
}

// The machine, without the policy's part: one recorded step.
class RecordedMachine extends Zoom {
  constructor() {
    super({ ...WHOLE_STEP, isWhole: false, sides: undefined });
  }

  /** @param {RecordedAnswer} answer @param {number} at */
  show({ tokens, steps }, at) {
    const [bits, input, inner, attention, mlp, head, policy] = steps[at];
    const reads = readsOf({ page_reads: readsOfStep(steps[at]) });
    const [place, words] = [`The step to token ${at + 1}`,
      `: ${pagesText(reads)}, ${percent(input)} and ${percent(inner)} of the MLP's channels, ${bits} bits`];
    this.draw({ reads, shares: [input, inner], flow: [attention, mlp, head, policy], bits },
      place, `“${spokenText(tokens[at])}”${words}.`,
      [`${place} “`, h("bdi", {}, tokenNodes(tokens[at])), `”${words}`]);
  }
}

export class RecordingView {
  /** Tokens of all answers, with answer and number. @type {{ row: any, answer: number, at: number }[]} */
  shown = [];

  // on: where there is a live model; own: somebody has a prompt of their own.
  /** @param {Recording} recording
   *  @param {{ run(prompt: string, settings: object): void, own(): void, learn(): void }} [on] */
  constructor(recording, on) {
    this.recording = recording;
    this.on = on;
    this.axis = { of: (cost) => cost, low: LEAST_COST, high: 1, show: percentTight, isOpenBelow: true };
    this.own = button("Try your own prompt", on?.own, { class: "sol-button is-primary", hidden: !on });
    this.answers = recording.questions.map((one) => this.answer(one));
    this.reading = new Reading({ rows: () => this.shown.map(({ row }) => row), elements: () => [],
      mark: () => {}, select: () => {} });
    this.machine = new RecordedMachine();
    this.element = this.build();
    this.open();
  }

  // At the lowest budget that gave all of the full model's answers.
  open() {
    const { texts } = this.recording;
    this.dial.max = String(texts.length - 1);
    this.choose(texts.findLastIndex((text) => !this.samesOf(text).includes(false)));
  }

  // The same questions, as a model of another format answered them.
  /** @param {Recording} recording */
  exchange(recording) {
    this.stop();
    this.recording = recording;
    this.open();
  }

  /** @param {{ dtype: string, machine: string }} facts of the loaded model */
  compareWith({ dtype, machine }) {
    const made = this.recording;
    const isSame = dtype === made.dtype && machine === made.machine;
    const maker = made.machine.replaceAll(/\((R|TM)\)| Processor| \(.*$/g, "");
    setText(this.origin, isSame ? "" : `Measured on another machine (${maker}, ${made.dtype}).`);
    show(this.origin, !isSame);
  }

  build() {
    const { model, questions } = this.recording;
    const id = uniqueId("dial");
    this.dial = h("input", { type: "range", id, min: 0, step: 1, oninput: () => {
      this.stop();
      this.choose(this.recording.texts.length - 1 - this.dial.valueAsNumber);
    } });
    this.origin = h("small", { class: "sol-hint", hidden: true });
    this.share = h("output", { for: id, class: "sol-recording-share" });
    this.said = h("p", { class: "sol-recording-said", "aria-live": "polite" });
    return h("section", { class: "sol-empty sol-recording", "aria-label": "Recorded example" },
      h("div", { class: "sol-recording-head" },
        h("h2", {}, "How little compute still gives the same answers?"),
        h("p", { class: "sol-muted" }, "Recorded: ", modelName(model),
          ` read a story of ${count(questions[0].tokens, "token")} and answered three questions.`),
        this.origin),
      h("div", { class: "sol-recording-dial" },
        h("label", { for: id }, "Compute"), this.dial, this.share),
      this.said,
      h("ol", { class: "sol-recording-answers" }, this.answers.map((one) => one.element)),
      this.reading.element,
      h("p", { class: "sol-hint" },
        "Underlined: the page that matters most to this answer, found by leaving out each in turn."),
      folded("Show this step in the model", this.machine.element),
      h("div", { class: "sol-recording-foot" },
        this.own, this.on && [button("Run it here", () => this.runHere()),
          h("a", { class: "sol-quiet-link", href: linkTo({ tab: "learn" }),
            onclick: opensHere(this.on.learn) }, "Learn why, in 20 minutes")],
        h("span", { class: "sol-muted" },
          glossed("Colour: compute of each step, of the [[dense|full model]]'s."), colourScale(this.axis))));
  }

  /** @param {RecordedQuestion} one */
  answer({ question, stem }) {
    const tokens = h("span", {});
    const full = h("p", { class: "sol-muted", hidden: true });
    return { tokens, full, element: h("li", {}, h("p", { class: "sol-muted" }, question),
      h("p", { class: "sol-recording-text", dir: "auto" }, stem, tokens), full) };
  }

  /** Of each answer, whether it is the full model's. @param {RecordedText} text */
  samesOf({ answers }) {
    return answers.map(({ same, tokens }, at) =>
      same === tokens.length && same === this.recording.texts[0].answers[at].tokens.length);
  }

  choose(at) {
    const { questions, texts, pages, page_size: size } = this.recording;
    const [dense, text] = [texts[0], texts[at]];
    this.at = at;
    this.dial.value = String(texts.length - 1 - at); // at its right end all is read
    this.dial.setAttribute("aria-valuetext",
      `${percentTight(text.share)} of the full model: ${axesOf(text.spend)}`);
    setText(this.share, `${Math.round(100 * text.share)} %`);
    this.shown = text.answers.flatMap((answer, which) => answer.tokens.map((word, token) =>
      ({ answer: which, at: token, row: { text: word, page_reads: readsOfStep(answer.steps[token]) } })));
    this.shown.forEach(({ row }, index) => { row.index = index; });
    const sames = this.samesOf(text);
    this.answers.forEach(({ tokens, full }, which) => {
      const [other, answer] = [dense.answers[which], text.answers[which]];
      tokens.replaceChildren(...this.tokensOf(which, answer, sames[which] ? Infinity : answer.same));
      setText(full, sames[which] ? "" : `Full model:${other.tokens.join("")}`);
      show(full, !sames[which]);
    });
    this.reading.clear();
    this.reading.begin(size, pages, questions[0].tokens);
    this.reading.follow();
    const broken = sames.indexOf(false);
    this.said.replaceChildren(...this.sentence(text, sames));
    const wrong = text.answers[broken];
    this.point(Math.max(broken, 0), wrong ? Math.min(wrong.same, wrong.tokens.length - 1) : 0);
  }

  point(which, at) {
    this.machine.show(this.recording.texts[this.at].answers[which], at);
    this.reading.pointOut(this.recording.questions[which].fact);
    this.reading.mark(this.shown.findIndex((one) => one.answer === which && one.at === at));
  }

  /** @param {number} which @param {RecordedAnswer} answer @param {number} parting */
  tokensOf(which, answer, parting) {
    return answer.tokens.flatMap((word, at) => {
      const point = () => { if (!this.timer) this.point(which, at); };
      const token = h("span", { class: at === parting ? "sol-token is-parting" : "sol-token",
        // Not pointerenter, which also comes where the dial puts other tokens under a resting pointer.
        onpointermove: point, onclick: point, [BIN]: binOf(this.axis, answer.costs[at]) }, tokenNodes(word));
      return /^\s/.test(word) ? [h("wbr"), token] : [token];
    });
  }

  // Lets the answers come token by token, once; not for who wants no motion.
  play() {
    if (isCalm()) return;
    const all = this.answers.flatMap(({ tokens }) => [...tokens.querySelectorAll(".sol-token")]);
    all.forEach((token) => token.classList.add("is-coming"));
    let next = 0;
    this.timer = setInterval(() => {
      if (next === all.length) return this.stop();
      all[next].classList.remove("is-coming");
      this.point(this.shown[next].answer, this.shown[next].at);
      next += 1;
    }, TOKEN_MS);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = undefined;
    this.element.querySelectorAll(".is-coming").forEach((token) => token.classList.remove("is-coming"));
  }

  // The question whose answer breaks here, or the first one, as it was recorded.
  runHere() {
    this.stop();
    const { story, questions, texts, max_new_tokens, stop_strings: stops } = this.recording;
    const { question, stem } = questions[Math.max(this.samesOf(texts[this.at]).indexOf(false), 0)];
    this.on?.run(`${story}\n\nQuestion: ${question}\nAnswer: ${stem}`,
      { chat: false, schedule: this.at === 0 ? "dense" : "static",
        share: Math.round(100 * texts[this.at].asked), max_new_tokens,
        stop: stops.map((text) => text.replaceAll("\n", "\\n")).join("\n") });
  }

  /** @param {RecordedText} text @param {boolean[]} sames */
  sentence(text, sames) {
    const { pages, questions, texts: [dense] } = this.recording;
    const bold = (words) => h("b", {}, words);
    const named = (word) => bold(word ? `“${word}”` : "an end");
    if (text === dense) return ["This is the full model: every step reads the whole story. Drag left to see "
      + "which answer breaks first."];
    const parts = ["With ", axesOf(text.spend), ": "];
    const { length } = questions;
    const which = sames.indexOf(false);
    if (which < 0) return [...parts, bold(`all ${length} answers are the full model's`), "."];
    const answer = text.answers[which];
    const own = wordOf(answer.tokens[answer.same]);
    const other = wordOf(dense.answers[which].tokens[answer.same]);
    const { fact } = questions[which];
    const step = answer.steps[Math.min(answer.same, answer.steps.length - 1)];
    const read = sharesOf({ page_reads: readsOfStep(step) });
    return [...parts, bold(`${sames.filter(Boolean).length} of ${length} answers are the full model's`), "; ",
      named(own), " instead of ", named(other),
      `. The page that says it, ${quoted(pages[fact])}, was read by `,
      bold(percent(read?.(fact) ?? 1)), " of layers and heads."];
  }
}

const wordOf = (token) => token && (token.trim() || spokenText(token));
