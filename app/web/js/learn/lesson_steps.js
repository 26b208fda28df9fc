// Lesson 1: what a decode step is, and that every one reads as much as the next.

import { chip, h, setText } from "../shared/dom.js";
import { duration, mean, nats, probability, quantity } from "../shared/format.js";
import { spokenText, tokenNodes } from "../shared/tokens/token_text.js";
import { Experiment } from "./experiment.js";
import { barRow, pickedText } from "./pictures.js";

class StepsPicture {
  constructor(api, page) {
    this.rows = h("ol", { class: "sol-learn-steps" });
    this.prompt = h("p", { class: "sol-learn-passage" });
    this.stepper = new Stepper(api, page);
    this.element = h("div", { class: "sol-learn-parts" }, this.prompt, this.rows, this.stepper.element);
  }

  draw(result, text) {
    const hardest = Math.max(...result.rows.map((row) => row.surprisal), 1e-3);
    const most = Math.max(...result.rows.map((row) => row.cost.bytes_read));
    this.prompt.replaceChildren(h("span", { class: "sol-learn-past" }, result.prompt),
      ...result.rows.map((row) => h("span", {}, row.text)));
    this.rows.replaceChildren(
      h("li", { class: "sol-learn-step is-head", "aria-hidden": "true" }, h("span", {}, "Token"),
        h("span", {}, "Surprisal, measured"), h("span", {}, "Read, computed"), h("span", {}, "Time, measured")),
      ...result.rows.map((row) => h("li", { class: "sol-learn-step" }, pickedText(row.text),
        barRow("surprisal", row.surprisal / hardest, `${nats(row.surprisal)} nats`, "is-surprisal"),
        barRow("read", row.cost.bytes_read / most, quantity(row.cost.bytes_read, "B"), "is-read"),
        h("span", { class: "sol-value" }, duration(row.step_ms)))));
    this.stepper.begin(text);
  }
}

// Take steps by hand: the five most probable tokens, one of which is picked.
class Stepper {
  constructor(api, page) {
    this.page = page;
    this.line = h("p", { class: "sol-learn-passage", "aria-live": "polite" });
    this.list = h("div", { class: "sol-learn-choices", role: "group", "aria-label": "Most probable next tokens" });
    this.state = h("p", { class: "sol-learn-state", role: "status" });
    this.back = chip("One step back", () => this.pick(null));
    this.experiment = new Experiment(api, "choices", {
      result: (result) => this.draw(result), waiting: (text) => setText(this.state, text),
      failed: (message) => setText(this.state, message),
    });
    this.element = h("section", { class: "sol-learn-part" }, h("h3", {}, "Take the steps yourself"),
      h("p", { class: "sol-hint" }, "One decode step gives a probability to every token there is. "
        + "Here are the five most probable; pick the one to go on with."),
      this.line, this.list, h("div", { class: "sol-question-foot" }, this.back, this.state));
  }

  begin(text) {
    this.text = text;
    this.picks = [];
    this.ask();
  }

  pick(token) {
    if (token === null) this.picks.pop();
    else this.picks.push(token);
    this.ask();
  }

  ask() {
    this.list.classList.add("is-old");
    this.experiment.follow({ text: this.text, picks: this.picks });
  }

  draw(result) {
    const held = this.list.contains(document.activeElement);
    setText(this.state, `Entropy ${nats(result.entropy)} nats`);
    this.back.disabled = this.picks.length === 0;
    this.line.replaceChildren(h("span", { class: "sol-learn-past" }, this.page.beginnings[this.text]),
      ...result.picked.map((text) => h("span", {}, text)));
    const isFull = this.picks.length >= this.page.mostPicks;
    this.list.classList.remove("is-old");
    this.list.replaceChildren(...result.top.map(({ token_id: id, text, probability: share }) => h("button", {
      type: "button", class: "sol-learn-choice", disabled: isFull, "--v": share, onclick: () => this.pick(id),
      "aria-label": `${spokenText(text)}, ${probability(share)}`,
    }, h("span", { class: "sol-choice-text" }, tokenNodes(text)), h("span", {}, probability(share)))));
    if (held) this.list.firstElementChild?.focus();
  }
}

export const LESSON_STEPS = {
  key: "steps", title: "What is a decode step?", experiment: "steps",
  texts: { keeper: "Lighthouse", capital: "Paris", count: "Counting", door: "A door" },
  intro: [
    "A language model writes one [[token]] at a time. For each it does one [[decode step]]: it takes the "
      + "text so far, runs it through all of its layers, and gives every token it knows a [[probability]]. "
      + "One is taken, and the next step begins.",
    "Some tokens are easy: after “once upon a” there is little doubt. Others could be anything. How unexpected a "
      + "token was is its [[surprisal]]: 0 [[nats]] if the model was certain, more the less it expected it.",
  ],
  question: "The model will write twelve tokens, some easy, some hard. Which steps will read the most data from memory?",
  options: ["The hard ones: they need more thought", "The easy ones", "All the same, to within one per cent"],
  picture: (api, page) => new StepsPicture(api, page),
  answer: ({ rows }) => {
    const read = rows.map((row) => row.cost.bytes_read);
    if (Math.max(...read) / Math.min(...read) < 1.01) return 2;
    const hard = [...rows].sort((one, other) => other.surprisal - one.surprisal);
    const half = Math.floor(rows.length / 2);
    return mean(hard.slice(0, half).map((row) => row.cost.bytes_read)) > mean(hard.slice(half).map((row) => row.cost.bytes_read)) ? 0 : 1;
  },
  said: ({ rows }) => {
    const ranked = [...rows].sort((one, other) => one.surprisal - other.surprisal);
    const [easy, hard] = [ranked[0], ranked.at(-1)];
    return `The easiest token had a [[surprisal]] of ${nats(easy.surprisal)} nats, the hardest ${nats(hard.surprisal)}. Their steps read `
      + `${quantity(easy.cost.bytes_read, "B")} and ${quantity(hard.cost.bytes_read, "B")}.`;
  },
  how: "Bytes are computed from the model's shape; times vary with what else this machine does.",
  remember: [
    "A plain decode step reads every weight once, and the whole [[kv cache|KV cache]], whatever the token. Reading is "
      + "what takes the time. An easy token costs as much as a hard one.",
    "This is the waste that the other lessons are about: can a step that needs little also read little?",
  ],
};
