// Step 3 of the path: attention reads pages of the cache; which steps suffer when it reads few.

import { h, setText } from "../shared/dom.js";
import { mean, percent, signed } from "../shared/format.js";
import { levelSlider } from "../shared/forms/form_parts.js";
import { barRow, learnPart, PagesZoom, paintScale, PassageView, pickedText, stepSlider } from "./pictures.js";

const LOSS_TOP = 3; // nats; from here on the colour is at its strongest

class PagesPicture {
  place = h("div", {});
  step = h("div", {});
  zoom = new PagesZoom();
  worst = h("div", { class: "sol-learn-bars" });
  element = h("div", { class: "sol-learn-parts" }, this.place,
    learnPart("The machine: which pages one step read",
      h("p", { class: "sol-hint" }, "Columns are layers, rows are pages. Choose a step, or a word above."),
      this.step, this.zoom.element),
    learnPart("Who loses most", this.worst));

  draw(result) {
    this.result = result;
    const { tokens, first, page_size: pageSize } = result;
    const levels = result.levels.slice(0, -1);
    const view = new PassageView(tokens, first, "The passage, coloured by what each step loses", pageSize);
    this.note = h("p", { class: "sol-learn-state" });
    const slider = levelSlider({ label: "Attention kept", axis: "attention", levels,
      text: percent, at: 0, show: (at) => { this.show(view, at); this.showStep(view, at, steps.at); } });
    const steps = stepSlider(tokens, first, this.losses(0), (place) => this.showStep(view, slider.at, place));
    view.choosing((place) => steps.set(place));
    this.zoom.begin(tokens, pageSize);
    this.step.replaceChildren(steps.element);
    this.place.replaceChildren(slider.element, view.element,
      h("p", { class: "sol-learn-caption" }, paintScale("no change", `≥ ${LOSS_TOP} nats`), this.note));
    steps.update();
    slider.update();
  }

  showStep(view, at, place) {
    view.mark(place);
    this.zoom.show(this.result.reads[at][place], this.result.first + place);
  }

  // The steps' losses at a level: surprisal there less surprisal when dense.
  losses(at) {
    const dense = this.result.nll.at(-1);
    return this.result.nll[at].map((value, place) => value - dense[place]);
  }

  show(view, at) {
    const { tokens, first, reads } = this.result;
    const losses = this.losses(at);
    const text = (place) => tokens[first + place];
    const loss = (place) => `${signed(losses[place])} nats`;
    view.paint(losses, LOSS_TOP, (place) => `${text(place).trim()}: ${loss(place)}`);
    const { share, pages } = reads[at].at(-1);
    setText(this.note, `Thin marks: pages. At the end a KV group reads ${Math.round(share * pages)} of `
      + `${pages}, in the mean over layers; on average ${signed(mean(losses))} nats`);
    const order = losses.map((_, place) => place).sort((one, other) => losses[other] - losses[one]);
    const top = Math.max(losses[order[0]], LOSS_TOP);
    this.worst.replaceChildren(...order.slice(0, 5).map((place) =>
      barRow(pickedText(text(place)), losses[place] / top, loss(place))));
  }
}

// The loss of a word of several tokens at a level, of its last occurrence; null when it is not there.
function wordLoss(result, word, at) {
  const scored = result.tokens.slice(result.first);
  const starts = [];
  let text = "";
  for (const token of scored) { starts.push(text.length); text += token; }
  const from = text.lastIndexOf(word);
  if (from < 0) return null;
  const dense = result.nll.at(-1);
  const isOf = (start, place) => start + scored[place].length > from && start < from + word.length;
  return starts.reduce((total, start, place) =>
    total + (isOf(start, place) ? result.nll[at][place] - dense[place] : 0), 0);
}

const LOST_WORDS = ["Port", "asked", "light"];

export const LESSON_PAGES = {
  key: "pages",
  picture: () => new PagesPicture(),
  answer: (result) => {
    const losses = LOST_WORDS.map((word) => wordLoss(result, word, 0) ?? -Infinity);
    return losses.indexOf(Math.max(...losses));
  },
  said: (result) => `At ${percent(result.levels[0])} of the attention, ${LOST_WORDS.map((word) =>
    `“${word}” changed by ${signed(wordLoss(result, word, 0))} nats`).join(", ")}.`,
};
