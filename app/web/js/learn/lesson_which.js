// Step 6 of the path: as much skipped in two ways; which pages and which side of the MLP, not how many.

import { h, setText } from "../shared/dom.js";
import { mean, nats, percent, quantity } from "../shared/format.js";
import { pillsField } from "../shared/forms/form_parts.js";
import { barRow, learnPart, MlpZoom, PagesZoom, paintScale, PassageView, stepSlider } from "./pictures.js";

const COMPARED = {
  pages: { title: "Which pages", legend: "Attention kept", axis: "attention",
    bytes: "cache_bytes", of: "the cache", paper: "Page bounds", default: "4-bit keys" },
  mlp: { title: "Which side of the MLP", legend: "Weights of the MLP read", axis: "channels",
    bytes: "mlp_bytes", of: "the MLP", paper: "Input only", default: "Both sides" },
};
const WAYS = ["paper", "default"];

// The same tokens twice, coloured by what each step loses, and both ways in numbers.
class WaysPicture {
  constructor(words, result, ways, zooms) {
    const { tokens, first } = result;
    this.words = words;
    this.result = result;
    this.ways = ways;
    this.zooms = zooms;
    const choices = Object.fromEntries(ways.shares.map((share, at) => [at, percent(share)]));
    this.choice = pillsField({ legend: words.legend, choices, value: "0", kind: "sol-learn-texts",
      changed: () => this.show() });
    this.views = WAYS.map((way) => new PassageView(tokens.slice(first), 0,
      `The passage's end, coloured by what each step loses: ${words[way]}`));
    this.top = Math.max(...WAYS.flatMap((way) => ways[way][0].kl)) / 2;
    this.steps = ways.paper[0].reads && this.stepChoice(tokens, first);
    this.bars = h("div", { class: "sol-learn-bars", "data-axis": words.axis });
    this.note = h("p", { role: "status" });
    this.element = learnPart(words.title, this.choice.element, this.steps?.element, WAYS.map((way, at) =>
      h("section", {}, h("h4", {}, words[way]), this.views[at].element, zooms[at].element)),
    h("p", { class: "sol-learn-caption" }, paintScale("no change", `≥ ${nats(this.top)} nats`)),
    this.bars, this.note);
    this.steps?.update();
    this.show();
  }

  // Whose step is drawn: at first the one to which the ways make most difference.
  stepChoice(tokens, first) {
    const [paper, other] = WAYS.map((way) => this.ways[way][0].kl);
    this.zooms.forEach((zoom) => zoom.begin(tokens, this.result.page_size));
    const steps = stepSlider(tokens, first, paper.map((kl, at) => kl - other[at]), () => this.showStep());
    this.views.forEach((view) => view.choosing((place) => steps.set(place)));
    return steps;
  }

  showStep() {
    const place = this.steps.at;
    this.views.forEach((view) => view.mark(place));
    WAYS.forEach((way, at) =>
      this.zooms[at].show(this.ways[way][this.choice.get()].reads[place], this.result.first + place));
  }

  show() {
    const found = WAYS.map((way) => this.ways[way][this.choice.get()]);
    found.forEach(({ kl }, at) =>
      this.views[at].paint(kl, this.top, (place) => `KL ${nats(kl[place])} nats`));
    const most = Math.max(...found.map(({ kl }) => mean(kl)), 1e-6);
    this.bars.replaceChildren(...found.map((one, at) => barRow(this.words[WAYS[at]], mean(one.kl) / most,
      `${nats(mean(one.kl))} nats, ${quantity(one[this.words.bytes], "B")}`)));
    setText(this.note, saidOf(this.words, this.ways, this.choice.get()));
    if (this.steps) this.showStep();
    else found.forEach((one, at) =>
      this.zooms[at].show(this.result.layers, one.mlp_shares, one.mlp_bytes / this.ways.dense_bytes));
  }
}

const leftOf = ({ paper, default: other }, at) => mean(other[at].kl) / mean(paper[at].kl);

function saidOf(words, ways, at) {
  const read = percent(ways.default[at][words.bytes] / ways.paper[at][words.bytes]);
  const bytes = read === "100 %" ? "as many bytes" : `${read} of the bytes`;
  const loss = `${percent(leftOf(ways, at))} of the KL of “${words.paper}”`;
  return `${words.default}: ${loss}, for ${bytes} of ${words.of}.`;
}

const LEFT_BOUNDS = [1 / 3, 2 / 3]; // shares of the loss between the three answers

export const LESSON_WHICH = {
  key: "which",
  picture: () => {
    const zooms = { pages: WAYS.map(() => new PagesZoom()), mlp: WAYS.map(() => new MlpZoom()) };
    return (result) => Object.entries(COMPARED).map(([part, words]) =>
      new WaysPicture(words, result, result[part], zooms[part]).element);
  },
  answer: ({ pages }) => LEFT_BOUNDS.filter((bound) => leftOf(pages, 0) >= bound).length,
  said: ({ pages, mlp }) => {
    const [bounds, keys] = WAYS.map((way) => mean(pages[way][0].kl));
    return `With bounds the steps' [[kl|KL]] to the full model is ${nats(bounds)} nats, with 4-bit keys `
      + `${nats(keys)}: ${percent(leftOf(pages, 0))} of it. At ${percent(mlp.shares[0])} of the MLP's `
      + `weights, ${percent(leftOf(mlp, 0))} of the loss is left when both sides are pruned.`;
  },
};
