// One lesson: a text, a question that is answered first, then the measurement and what to make of it.

import {
  button, errorLine, glossed, h, scrollTo, setChildren, setText, show, showText, smallButton, uniqueId,
} from "../shared/dom.js";
import { Follower } from "../shared/api.js";
import { duration, modelName, percent } from "../shared/format.js";
import { pillsField } from "../shared/forms/form_parts.js";

const LETTERS = "ABC";
const ASK_MS = 250;
const LONGEST_ASK_MS = 1000;

function waitingText(number, { state, before, seconds, model }) {
  if (state === "loading") {
    return `The model is still loading (${percent(model.fraction)}). The measurement starts by itself.`;
  }
  const time = seconds >= 1 ? ` ${Math.round(seconds)} s so far.` : "";
  return before > 0 ? `Waiting: ${before} before you.` : `Measuring lesson ${number}…${time}`;
}

// A page of the path, hidden at first, whose heading can take the focus. texts: the glossary marks terms.
export function pathPage(title, texts, ...rest) {
  const heading = h("h2", { tabindex: "-1" }, title);
  const element = h("article", { class: "sol-panel sol-lesson", hidden: true }, h("header", {}, heading),
    texts.map((text) => h("p", { class: "sol-lesson-text" }, glossed(text))), rest);
  return { heading, element };
}

export class Lesson {
  asked = 0; // times

  // spec: of lesson*.js and app/lessons/lessons.json; its picture() gives what draws a result, as nodes.
  // on: {answered(key, choice), measured(key), next()}
  constructor(spec, number, api, on) {
    this.spec = spec;
    this.number = number;
    this.on = on;
    this.draw = spec.picture();
    this.parts = h("div", { class: "sol-learn-parts" });
    this.follower = new Follower({
      ask: (parameters) => api("ask_experiment", { experiment: spec.experiment, parameters }),
      take: (answer) => this.take(answer), gone: (error) => this.fail(error.message),
      lost: () => setText(this.state, "The server does not answer; trying again."),
    });
    this.first = Object.keys(spec.texts)[0]; // the question is about it
    this.text = pillsField({ legend: "Text", choices: spec.texts, value: this.first, kind: "sol-learn-texts",
      changed: () => this.measure() });
    this.after = this.buildAfter();
    Object.assign(this, pathPage(`${number}. ${spec.title}`, spec.intro, this.buildQuestion(), this.after));
  }

  buildQuestion() {
    const name = uniqueId("answer");
    this.options = this.spec.options.map((text, value) => {
      const onchange = () => { this.commit.disabled = false; };
      const input = h("input", { type: "radio", name, value, onchange });
      const mark = h("small", {});
      return { input, mark, element: h("label", { class: "sol-option" }, input,
        h("span", {}, h("b", { class: "sol-option-letter" }, LETTERS[value]), " ", text), mark) };
    });
    this.commit = h("button", { type: "submit", class: "sol-button is-primary", disabled: true },
      "Commit and measure");
    this.hint = h("span", { class: "sol-hint" }, "A guess is enough; it stays in this browser.");
    return h("form", { class: "sol-question", onsubmit: (event) => {
      event.preventDefault();
      this.answer(this.options.findIndex((one) => one.input.checked));
    } },
    h("fieldset", {}, h("legend", {}, h("span", { class: "sol-question-name" }, "First, your guess"),
      h("span", {}, this.spec.question)),
    this.options.map((one) => one.element)),
    h("div", { class: "sol-question-foot" }, this.commit, this.hint));
  }

  buildAfter() {
    this.state = h("p", { class: "sol-learn-state", role: "status" });
    this.error = errorLine();
    this.again = smallButton("Measure again", () => this.measure(), { hidden: true });
    this.cancel = smallButton("Cancel", () => this.fail("Cancelled. Nothing is measured."), { hidden: true });
    this.verdict = h("p", { class: "sol-verdict", role: "status" });
    this.figure = h("div", { class: "sol-learn-figure", hidden: true }, this.parts);
    this.source = h("p", { class: "sol-hint" });
    this.outcome = h("div", { class: "sol-outcome", hidden: true },
      h("div", { class: "sol-remember" }, h("h3", {}, "Remember"),
        this.spec.remember.map((text) => h("p", {}, glossed(text)))),
      this.on.next && button("Next step", this.on.next));
    return h("section", { class: "sol-after", hidden: true, tabindex: "-1", "aria-label": "Measured" },
      this.verdict, h("div", { class: "sol-learn-ask" }, this.text.element, this.state, this.cancel),
      this.error, this.again, this.figure, this.source, this.outcome);
  }

  restore(choice) {
    if (!(choice in this.options)) return;
    this.options[choice].input.checked = true;
    this.isWanted = true;
    this.reveal(choice);
  }

  answer(choice) {
    this.on.answered(this.spec.key, choice);
    this.reveal(choice);
    this.measure();
    this.after.focus({ preventScroll: true }); // the button is gone
    scrollTo(this.after, "nearest");
  }

  reveal(choice) {
    this.choice = choice;
    this.options.forEach((one) => { one.input.disabled = true; });
    this.options[choice].element.classList.add("is-chosen");
    setText(this.options[choice].mark, "your guess");
    show(this.commit, false);
    setText(this.hint, "");
    show(this.after, true);
  }

  // Python drops a measurement that waits and that no page asks about.
  enter() {
    if (this.isWanted && this.follower.id === null) this.measure();
  }

  leave() {
    this.follower.leave();
  }

  measure() {
    this.isWanted = true;
    [this.error, this.again].forEach((part) => show(part, false));
    show(this.cancel, true);
    setText(this.state, "Measuring…");
    [this.figure, this.verdict].forEach((part) => part.classList.add("is-old"));
    this.asked = 0;
    this.follower.follow({ text: this.text.get() });
  }

  // The answer says how many come first, and asking again keeps the place.
  take(answer) {
    const failed = answer.state === "loading" && answer.model.state === "failed";
    if (answer.state === "done") this.showResult(answer.result);
    else if (failed) this.fail(answer.model.message);
    else setText(this.state, waitingText(this.number, answer));
    if (answer.state === "done" || failed) return null;
    // Less and less often: a class asks from thirty pages at once.
    this.asked += 1;
    return Math.min(ASK_MS * (1 + Math.max(answer.before ?? 1, this.asked / 4)), LONGEST_ASK_MS);
  }

  showResult(result) {
    this.end();
    show(this.figure, true);
    [this.figure, this.verdict].forEach((part) => part.classList.remove("is-old"));
    setChildren(this.parts, this.draw(result));
    const start = this.text.get() === this.first ? this.judge(result)
      : `On “${this.spec.texts[this.text.get()]}”: `;
    this.verdict.replaceChildren(h("b", {}, start), ...glossed(this.spec.said(result)));
    const time = new Date(result.measured_at).toLocaleTimeString([], { timeStyle: "medium" });
    const took = duration(result.took_ms);
    setText(this.source, `Measured on ${modelName(result.model)} at ${time}, in ${took}. ${this.spec.how}`);
  }

  // The guess was about the first text. Returns the beginning of a sentence.
  judge(result) {
    const right = this.spec.answer(result);
    this.options.forEach((one, at) => {
      one.element.classList.toggle("is-right", at === right);
      const marks = [at === this.choice && "your guess", at === right && "correct"];
      setText(one.mark, marks.filter(Boolean).join(", "));
    });
    show(this.outcome, true);
    this.on.measured(this.spec.key);
    return right === this.choice ? "As you guessed. " : "Not as you guessed. ";
  }

  end() {
    this.isWanted = false;
    this.leave();
    setText(this.state, "");
    show(this.cancel, false);
  }

  fail(message) {
    this.end();
    showText(this.error, message);
    show(this.again, true);
  }
}
