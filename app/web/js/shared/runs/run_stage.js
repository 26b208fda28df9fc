// A generation on show: the question, the answer and what it is worth, what it read, the machine, charts.

import { ChartedStage } from "../charts/charts.js";
import { chip, h, setText, show, showText } from "../dom.js";
import { isNumber, mean } from "../format.js";
import { Machine } from "../machine/machine.js";
import { cardParts } from "../tokens/card.js";
import { leastCertain } from "../tokens/token_stage.js";
import { colourAxes, klAxis, shareOfBytes, stretched } from "../tokens/token_view.js";

const FEWEST_ROWS = 4; // of a run that goes on, before colours stretch over what it read
const LONG = 1.5; // times the room of an answer: less is shown whole

export class RunStage extends ChartedStage {
  // options: as a ChartedStage's, and whatIf: a LensPanel, which opens under the answer.
  /** @param {import("./status.js").Status} status */
  constructor(root, status, on, options) {
    super(root, [...colourAxes(), klAxis("KL")], on, options);
    this.status = status;
    this.card.parts = (row) => cardParts(row, this.view.origin(row, "given", "put in") || "taken");
    this.view = this.addColumn(0, "Generated tokens", { looksFirst: true });
    this.question = h("p", { class: "sol-question-asked sol-muted", dir: "auto" });
    this.more = chip("Show all", () => this.unfold(true), { class: "sol-chip sol-more", hidden: true });
    this.whatIf = options.whatIf;
    this.machine = new Machine({ rows: () => this.view.rows, mark: (index) => this.step(index),
      textOf: (page) => this.reading.textOf(page) });
  }

  mark(index, bringIntoView = false) {
    super.mark(index, bringIntoView);
    this.machine.mark(index);
  }

  step(index) {
    this.card.hide(); // now: a card that closes a moment later would take the mark along
    this.mark(index, true);
    this.view.makeCurrent(index);
  }

  /** @param {{ over?: Element, tools?: Element }} [parts] */
  build({ over, tools } = {}) {
    this.panel = h("section", { class: "sol-panel sol-tokens", "aria-label": "Answer" }, over, this.question,
      h("div", { class: "sol-token-place is-answer" }, this.view.element, this.more),
      this.status.verdict,
      this.whatIf?.element, this.legend.element, this.buildFoot(tools));
    this.status.numbers.append(this.charts.element);
    return h("div", { class: "sol-stage" }, this.status.element, this.panel, this.reading.element,
      this.machine.element, this.status.numbers);
  }

  // A long answer is cut after some lines, until all of it is asked for.
  unfold(isWhole) {
    const { element } = this.view;
    element.classList.remove("is-whole");
    const { scrollHeight: tall, clientHeight: room } = element;
    const isCut = !isWhole && tall > LONG * room;
    element.classList.toggle("is-whole", !isCut && tall > room + 1);
    element.classList.toggle("is-cut", isCut);
    show(this.more, isCut);
  }

  // What was found out after the run: an exported page shows it, too.
  get seen() {
    const { found } = this.reading.effects ?? {};
    const { fullAnswer } = this.status;
    const full = fullAnswer.hidden ? "" : fullAnswer.textContent;
    return { full, ...found };
  }

  set seen({ full, ...found }) {
    showText(this.status.fullAnswer, full);
    if (isNumber(found.index)) Object.assign(this.reading, { found });
    this.reading.draw();
  }

  clear() {
    super.clear();
    this.view.clear();
    this.unfold(false);
    setText(this.question, "");
    this.status.clear();
    this.machine.clear();
  }

  begin(run) {
    this.view.given = run.config.given?.length ?? 0;
    this.machine.begin(run);
    this.charts.clear(run);
    this.question.replaceChildren(run.question);
    this.reading.follow();
    this.colour();
    this.legend.allow("kl", run.config.side_rows?.some((row) => row.name === "dense"),
      "The full model was not measured beside this run");
  }

  append(rows) {
    this.view.append(rows);
    this.colour();
    this.charts.append(rows);
    this.machine.follow();
    this.reading.follow();
  }

  // Takes a poll but for its rows; the prompt's pages come once it was read. model: the loader's state.
  /** @param {View} view @param {Run} run @param {Model | null} model */
  update(view, run, model) {
    const { pages, prefill } = view;
    if (prefill && pages?.length && !this.reading.pages.length) {
      this.reading.begin(run.config.grid?.page_size ?? 8, pages, prefill.prompt_tokens, run.config.left_out,
        run.prompt);
      this.reading.follow();
    }
    this.status.showRun(this.view.rows, view, run, model);
  }

  // Colours stretch over what the steps have read so far; what they read evenly has one colour.
  colour(fewest = FEWEST_ROWS) {
    const [cost] = this.axes;
    const shares = this.view.rows.length < fewest ? [] : this.view.rows.map(shareOfBytes);
    const even = mean(shares);
    const { isEven, ...ends } = stretched(shares);
    Object.assign(cost, { ...ends, of: isEven ? () => even : shareOfBytes });
    this.legend.isEven = isEven;
    this.legend.set(this.legend.axis.key);
    setText(this.legend.note, isEven ? "Every token gets the same." : "");
  }

  finish() {
    this.colour(1);
    this.unfold(false);
    if (!this.view.element.contains(document.activeElement)) this.toTop();
    this.charts.finish();
    this.resting = leastCertain(this.view.rows, this.view.given);
    if (this.card.element.hidden) this.rest();
  }
}
