// A lesson on a projector: large type, one idea a screen, keys to go on.

import { button, h, setText } from "../shared/dom.js";
import { glossed } from "../shared/glossary.js";
import { Experiment } from "./experiment.js";
import { LETTERS } from "./pictures.js";
import { Guesses } from "./room.js";

const STEPS = { ArrowRight: 1, PageDown: 1, " ": 1, Enter: 1, ArrowLeft: -1, PageUp: -1, Backspace: -1 };

const idea = (kicker, text) => ({ element: h("div", { class: "sol-slide" }, kicker && h("p", { class: "sol-slide-kicker" }, kicker),
  h("p", { class: "sol-slide-idea" }, glossed(text, true))) });

class Projector {
  // room: of the class, whose guesses are shown while it is asked this lesson's question
  constructor(spec, number, { api, page, room }) {
    this.spec = spec;
    this.room = room;
    this.picture = spec.picture(api, page);
    this.experiment = new Experiment(api, spec.experiment, {
      result: (result) => this.showResult(result), waiting: (text) => setText(this.state, text),
      failed: (message) => setText(this.state, message),
    });
    this.slides = [
      { element: h("div", { class: "sol-slide" }, h("p", { class: "sol-slide-kicker" }, `Lesson ${number}`), h("h2", {}, spec.title)) },
      ...spec.intro.map((text) => idea("", text)),
      { element: this.buildQuestion() },
      { element: this.buildMeasured(), enter: () => this.measure() },
      ...spec.remember.map((text) => idea("What to keep", text)),
    ];
    this.at = 0;
    this.element = this.build();
  }

  build() {
    this.stage = h("div", { class: "sol-slide-stage", tabindex: "-1", role: "group" });
    this.place = h("span", { class: "sol-muted" });
    this.back = button("Back", () => this.go(-1));
    this.on = button("Next", () => this.go(1), { class: "sol-button is-primary" });
    return h("dialog", { class: "sol-projector", "aria-label": this.spec.title, onkeydown: (event) => this.onKey(event),
      onclose: () => this.close() },
    this.stage,
    h("footer", { class: "sol-slide-foot" }, this.back, this.on, this.place,
      h("span", { class: "sol-muted sol-slide-keys" }, "Arrow keys or space"), button("Leave", () => this.element.close())));
  }

  buildQuestion() {
    const { options, question } = this.spec;
    this.guesses = new Guesses(options);
    this.room.watchers.add(this.guesses);
    const asksThis = this.room.isMine && this.room.now.lesson === this.spec.key;
    if (asksThis) this.guesses.update(this.room.now.counts);
    return h("div", { class: "sol-slide" }, h("p", { class: "sol-slide-kicker" }, asksThis ? `Guess! Room ${this.room.now.code}` : "Guess!"),
      h("p", { class: "sol-slide-idea" }, question),
      asksThis ? this.guesses.element
        : h("ul", { class: "sol-slide-options" }, options.map((text, at) => h("li", {}, h("b", {}, LETTERS[at]), h("span", {}, text)))));
  }

  buildMeasured() {
    this.state = h("p", { class: "sol-slide-idea", role: "status" });
    this.verdict = h("div", {});
    this.figure = h("div", { class: "sol-slide-figure", hidden: true }, this.picture.element);
    return h("div", { class: "sol-slide is-long" }, h("p", { class: "sol-slide-kicker" }, "Measured"), this.state, this.verdict, this.figure);
  }

  open() {
    this.element.showModal();
    this.go(0);
  }

  close() {
    this.experiment.leave();
    this.room.watchers.delete(this.guesses);
    this.element.remove();
  }

  go(step) {
    this.at = Math.min(Math.max(this.at + step, 0), this.slides.length - 1);
    const slide = this.slides[this.at];
    const words = `${this.at + 1} of ${this.slides.length}`;
    this.stage.replaceChildren(slide.element);
    this.stage.setAttribute("aria-label", words);
    this.stage.scrollTop = 0;
    setText(this.place, words);
    this.back.disabled = this.at === 0;
    this.on.disabled = this.at === this.slides.length - 1;
    this.stage.focus({ preventScroll: true });
    slide.enter?.();
  }

  // Fields and buttons keep the keys that they know themselves.
  onKey(event) {
    const { key, target } = event;
    if (!(key in STEPS) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.closest("input, select, textarea") || (key.length < 2 || key === "Enter") && target.closest("button, summary")) return;
    event.preventDefault();
    this.go(STEPS[key]);
  }

  measure() {
    if (this.result) return;
    setText(this.state, "Measuring…");
    this.experiment.follow({ text: Object.keys(this.spec.texts)[0] });
  }

  showResult(result) {
    this.result = result;
    const right = this.spec.answer(result);
    setText(this.state, "");
    this.verdict.replaceChildren(
      h("p", { class: "sol-slide-idea" }, h("b", {}, `${LETTERS[right]}: ${this.spec.options[right]}`)),
      h("p", {}, glossed(this.spec.said(result), true)));
    this.figure.hidden = false;
    this.picture.draw(result, Object.keys(this.spec.texts)[0]);
  }
}

// tools: {api, page, room}
export function project(place, spec, number, tools) {
  const projector = new Projector(spec, number, tools);
  place.append(projector.element);
  projector.open();
}
