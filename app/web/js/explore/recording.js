// A recording (app/recordings): one prompt answered densely and under smaller and smaller budgets. A dial
// walks through them; where a text differs from the full model's, both stand side by side, marked where they part.

import { linkTo } from "../shared/address.js";
import { button, h, isCalm, opensHere, setText, show, uniqueId } from "../shared/dom.js";
import { AXES, count, modelName, percent, percentTight, spendText } from "../shared/format.js";
import { glossed } from "../shared/glossary.js";
import { pagesText, readsOf } from "../shared/machine/reads.js";
import { BESIDE, WHOLE_STEP } from "../shared/machine/sheet.js";
import { Zoom } from "../shared/machine/field.js";
import { colourScale } from "../shared/tokens/legend.js";
import { BIN, binOf, LEAST_COST } from "../shared/tokens/tokens.js";
import { spokenText, tokenNodes } from "../shared/tokens/token_text.js";

const TOKEN_MS = 30; // from one token to the next while it plays

/** Numbers of tests/app/recordings/recorder.py's RecordedStep, in its order. @typedef {any[]} RecordedStep */
/** @typedef {{ asked: number, spend: number[], share: number, same: number, tokens: string[], costs: number[],
 *   steps?: RecordedStep[] }} RecordedText */
/** @typedef {{ model: string, prompt: string, texts: RecordedText[] }} Recording */

const axesOf = (spend) => spendText(Object.fromEntries(AXES.map((axis, at) => [axis.short, spend[at] ?? axis.scale * axis.dense])));

// The machine, without the policy's part: one recorded step.
class RecordedMachine extends Zoom {
  constructor() {
    super({ ...WHOLE_STEP, isWhole: false, sides: () => [BESIDE.names, BESIDE.numbers] });
  }

  /** @param {RecordedText} text @param {number} at */
  show({ tokens, steps }, at) {
    const step = steps?.[at];
    show(this.element, Boolean(step));
    if (!step) return;
    const [bits, input, inner, attention, mlp, head, policy, pages, cells, share, levels] = step;
    const reads = readsOf({ page_reads: { pages, cells, share, levels } });
    const [place, words] = [`The step to token ${at + 1}`,
      `: ${pagesText(reads)}, ${percent(input)} and ${percent(inner)} of the MLP's channels, ${bits} bits`];
    this.draw({ reads, shares: [input, inner], flow: [attention, mlp, head, policy], bits },
      place, `“${spokenText(tokens[at])}”${words}.`, [`${place} “`, h("bdi", {}, tokenNodes(tokens[at])), `”${words}`]);
  }
}

export class RecordingView {
  // on: where there is a live model; own: somebody has a prompt of their own.
  /** @param {Recording} recording @param {{ run(prompt: string, settings: object): void, own(): void, learn(): void }} [on] */
  constructor(recording, on) {
    this.recording = recording;
    this.on = on;
    this.axis = { of: (cost) => cost, low: LEAST_COST, high: 1, show: percentTight, isOpenBelow: true };
    this.own = button("Try your own prompt", on?.own, { class: "sol-button is-primary", hidden: !on });
    this.columns = [this.column("Full model"), this.column("")];
    this.machine = new RecordedMachine();
    this.element = this.build();
    const { length } = recording.texts[0].tokens;
    // The text on show; it opens at the lowest share that gave the full model's text.
    this.at = recording.texts.findLastIndex(({ same }) => same === length);
    this.choose(this.at);
  }

  build() {
    const { model, prompt, texts } = this.recording;
    const id = uniqueId("dial");
    this.dial = h("input", { type: "range", id, min: 0, max: texts.length - 1, step: 1,
      oninput: () => this.turn() });
    this.share = h("output", { for: id, class: "sol-recording-share" });
    this.said = h("p", { class: "sol-recording-said", "aria-live": "polite" });
    return h("section", { class: "sol-empty sol-recording", "aria-label": "Recorded example" },
      h("div", { class: "sol-recording-head" },
        h("h2", {}, "How little compute still gives the same answer?"),
        h("p", { class: "sol-muted" }, "Recorded: ", modelName(model), " was asked “", h("span", { dir: "auto" }, prompt), "”")),
      h("div", { class: "sol-recording-dial" },
        h("label", { for: id }, "Compute"), this.dial, this.share),
      this.said,
      h("div", { class: "sol-recording-texts" }, this.columns.map((one) => one.element)),
      h("details", { class: "sol-advanced" }, h("summary", {}, "Show this step in the model"), this.machine.element),
      h("div", { class: "sol-recording-foot" },
        this.own, this.on && [button("Run it here", () => this.runHere()),
          h("a", { class: "sol-quiet-link", href: linkTo({ tab: "learn" }), onclick: opensHere(this.on.learn) }, "Learn why, in 20 minutes")],
        h("span", { class: "sol-muted" }, glossed("Colour: compute of each step, of the [[dense|full model]]'s."),
          colourScale(this.axis))));
  }

  column(name) {
    const head = h("h3", {}, name);
    const text = h("p", { class: "sol-recording-text", dir: "auto" });
    return { head, text, element: h("div", {}, head, text) };
  }

  turn() {
    this.stop();
    this.choose(this.recording.texts.length - 1 - Number(this.dial.value));
  }

  choose(at) {
    const { texts } = this.recording;
    const [dense, text] = [texts[0], texts[at]];
    this.at = at;
    this.dial.value = String(texts.length - 1 - at); // at its right end all is read
    this.dial.setAttribute("aria-valuetext", `${percentTight(text.share)} of the full model: ${axesOf(text.spend)}`);
    setText(this.share, `${Math.round(100 * text.share)} %`);
    this.said.replaceChildren(...sentenceOf(dense, text));
    setText(this.columns[1].head, at === 0 ? "100 % compute" : `${Math.round(100 * text.share)} % compute`);
    show(this.columns[0].element, !isSameText(dense, text));
    this.columns.forEach(({ text: place }, which) =>
      place.replaceChildren(...this.tokensOf(which ? text : dense, at === 0 ? Infinity : text.same)));
    this.showParting();
  }

  // The step at which the text parts from dense's, or the last one.
  showParting() {
    const text = this.recording.texts[this.at];
    this.machine.show(text, Math.min(text.same, text.tokens.length - 1));
  }

  /** @param {RecordedText} text */
  tokensOf(text, parting) {
    return text.tokens.flatMap((word, at) => {
      const token = h("span", { class: at === parting ? "sol-token is-parting" : "sol-token",
        // Not pointerenter, which also comes where the dial puts other tokens under a resting pointer.
        onpointermove: () => { if (!this.timer) this.machine.show(text, at); },
        [BIN]: binOf(this.axis, text.costs[at]) }, tokenNodes(word));
      return /^\s/.test(word) ? [h("wbr"), token] : [token];
    });
  }

  // Lets both texts come token by token, once; not for who wants no motion.
  play() {
    if (isCalm()) return;
    const all = this.columns.map(({ text }) => [...text.querySelectorAll(".sol-token")]);
    all.flat().forEach((token) => token.classList.add("is-coming"));
    let shown = 0;
    this.timer = setInterval(() => {
      const next = all.map((tokens) => tokens[shown]).filter(Boolean);
      if (!next.length) {
        this.stop();
        return this.showParting();
      }
      next.forEach((token) => token.classList.remove("is-coming"));
      if (all[1][shown]) this.machine.show(this.recording.texts[this.at], shown);
      shown += 1;
    }, TOKEN_MS);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  runHere() {
    this.stop();
    const { prompt, texts } = this.recording;
    this.on?.run(prompt, { chat: true, schedule: this.at === 0 ? "dense" : "static", share: Math.round(100 * texts[this.at].asked) });
  }
}

const wordOf = (token) => token && (token.trim() || spokenText(token));

const isSameText = (dense, text) => dense.tokens.length === text.tokens.length && text.same === text.tokens.length;

function sentenceOf(dense, text) {
  const bold = (words) => h("b", {}, words);
  if (text === dense) return ["This is the full model. Drag left to see which word breaks first."];
  const parts = ["With ", axesOf(text.spend), ": "];
  if (isSameText(dense, text)) return [...parts, bold("the same text as the full model, token for token"), "."];
  const [other, own] = [dense, text].map((one) => wordOf(one.tokens[text.same]));
  if (text.same) parts.push(bold(`the first ${text.same === 1 ? "token matches" : `${count(text.same, "token")} match`} the full model`), ", then ");
  else parts.push("at once ");
  if (own === undefined) return [...parts, bold("the text ends"), "."];
  if (other === undefined) return [...parts, bold(`“${own}”`), " where the full model ends."];
  return [...parts, bold(`“${own}”`), " instead of ", bold(`“${other}”`), "."];
}
