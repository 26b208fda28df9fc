// A recording (app/recordings): one prompt answered densely and under smaller and smaller budgets. A dial
// walks through them; both texts stand side by side, marked where they part.

import { button, h, isCalm, setText, show, uniqueId } from "./dom.js";
import { AXES, count, modelName, percent, percentTight, spendText } from "./format.js";
import { glossed } from "./glossary.js";
import { pagesText, readsOf } from "./machine/reads.js";
import { BESIDE, WHOLE_STEP } from "./machine/sheet.js";
import { Zoom } from "./machine/field.js";
import { colourScale, costSpan } from "./tokens/legend.js";
import { BIN, binOf } from "./tokens/tokens.js";
import { spokenText, tokenNodes } from "./tokens/token_text.js";

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
  // run: asks the live model, where there is one.
  /** @param {Recording} recording @param {(prompt: string, settings: object) => void} [run] */
  constructor(recording, run) {
    this.recording = recording;
    this.run = run;
    const least = Math.min(...recording.texts.flatMap((text) => text.costs));
    // Of a step's cost; the top of the colours is all.
    this.axis = { of: (cost) => cost, ...costSpan(least), show: percentTight };
    this.columns = [this.column("Dense"), this.column("")];
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
        h("h2", {}, "How little can it read and still say the same?"),
        h("p", { class: "sol-muted" }, "Recorded: ", modelName(model), " was asked “", h("span", { dir: "auto" }, prompt), "”")),
      h("div", { class: "sol-recording-dial" },
        h("label", { for: id }, "Bytes read a token"), this.dial, this.share),
      this.said,
      this.machine.element,
      h("div", { class: "sol-recording-texts" }, this.columns.map((one) => one.element)),
      h("div", { class: "sol-recording-foot" },
        this.run && button("Run it here", () => this.runHere()),
        h("span", { class: "sol-muted" }, glossed("Colour: what a step read, as a share of [[dense]]."),
          colourScale(this.axis, this.axis))));
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
    this.dial.setAttribute("aria-valuetext", `${percentTight(text.share)} of dense: ${axesOf(text.spend)}`);
    setText(this.share, `${Math.round(100 * text.share)} %`);
    this.said.replaceChildren(...sentenceOf(dense, text));
    setText(this.columns[1].head, at === 0 ? "Nothing left out" : `Reading ${Math.round(100 * text.share)} %`);
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
        [BIN]: binOf(this.axis, this.axis, text.costs[at]) }, tokenNodes(word));
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
    this.run?.(prompt, { chat: true, schedule: this.at === 0 ? "dense" : "static", share: Math.round(100 * texts[this.at].asked) });
  }
}

const wordOf = (token) => token && (token.trim() || spokenText(token));

function sentenceOf(dense, text) {
  const bold = (words) => h("b", {}, words);
  if (text === dense) return ["The full model reads all bytes. Drag the dial left to see which word breaks first."];
  const parts = ["With ", axesOf(text.spend), ": "];
  const ends = text.same === Math.min(dense.tokens.length, text.tokens.length);
  if (ends && dense.tokens.length === text.tokens.length) return [...parts, bold("the same text, token for token"), "."];
  const [other, own] = [dense, text].map((one) => wordOf(one.tokens[text.same]));
  if (text.same) parts.push(bold(`the first ${text.same === 1 ? "token matches" : `${count(text.same, "token")} match`} the full model`), ", then ");
  else parts.push("at once ");
  if (own === undefined) return [...parts, bold("the text ends"), "."];
  if (other === undefined) return [...parts, bold(`“${own}”`), " where the full model ends."];
  return [...parts, bold(`“${own}”`), " instead of ", bold(`“${other}”`), "."];
}
