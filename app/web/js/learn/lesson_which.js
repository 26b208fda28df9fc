// Step 6 of the path: as much skipped in two ways; which pages and which side of the MLP, not how many.

import { h, setText } from "../shared/dom.js";
import { mean, nats, percent, quantity } from "../shared/format.js";
import { pillsField } from "../shared/forms/form_parts.js";
import { barRow, learnPart, MlpZoom, PagesZoom, paintScale, PassageView, stepSlider } from "./pictures.js";

const COMPARED = {
  pages: { title: "Which pages", legend: "Attention kept", axis: "attention",
    bytes: "cache_bytes", of: "the cache", paper: "Page bounds", default: "4-bit keys" },
  mlp: { title: "Which side of the MLP", legend: "MLP kept", axis: "channels",
    bytes: "mlp_bytes", of: "the MLP", paper: "Input only", default: "Both sides" },
};
const WAYS = ["paper", "default"];

// The same tokens twice, coloured by what each step loses, and both ways in numbers.
function waysPart(words, { tokens, first, layers, page_size: pageSize }, ways, zooms) {
  const top = Math.max(...WAYS.flatMap((way) => ways[way][0].kl)) / 2;
  const views = WAYS.map((way) => new PassageView(tokens.slice(first), 0,
    `The passage's end, coloured by what each step loses: ${words[way]}`));
  const bars = h("div", { class: "sol-learn-bars", "data-axis": words.axis });
  const note = h("p", { role: "status" });
  const chosen = () => WAYS.map((way) => ways[way][choice.get()]);
  const showStep = (place) => {
    views.forEach((view) => view.mark(place));
    chosen().forEach((one, at) => zooms[at].show(one.reads[place], first + place));
  };
  const show = () => {
    const most = Math.max(...chosen().map(({ kl }) => mean(kl)), 1e-6);
    chosen().forEach(({ kl }, at) => views[at].paint(kl, top, (place) => `KL ${nats(kl[place])} nats`));
    bars.replaceChildren(...chosen().map((one, at) => barRow(words[WAYS[at]], mean(one.kl) / most,
      `${nats(mean(one.kl))} nats, ${quantity(one[words.bytes], "B")}`)));
    setText(note, saidOf(words, ways, choice.get()));
    if (steps) steps.update();
    else chosen().forEach((one, at) =>
      zooms[at].show(layers, one.mlp_fractions, one.mlp_bytes / ways.dense_bytes));
  };
  const choice = pillsField({ legend: words.legend, value: "0", kind: "sol-learn-texts", changed: show,
    choices: Object.fromEntries(ways.fractions.map((kept, at) => [at, percent(kept)])) });
  // At first the step to which the ways make most difference.
  const [paper, other] = WAYS.map((way) => ways[way][0].kl);
  const steps = ways.paper[0].reads
    && stepSlider(tokens, first, paper.map((kl, at) => kl - other[at]), showStep);
  if (steps) {
    zooms.forEach((zoom) => zoom.begin(tokens, pageSize));
    views.forEach((view) => view.choosing(steps.set));
  }
  show();
  return learnPart(words.title, choice.element, steps?.element, WAYS.map((way, at) =>
    h("section", {}, h("h4", {}, words[way]), views[at].element, zooms[at].element)),
  h("p", { class: "sol-learn-caption" }, paintScale("no change", `≥ ${nats(top)} nats`)), bars, note);
}

const leftOf = ({ paper, default: other }, at) => mean(other[at].kl) / mean(paper[at].kl);

function saidOf(words, ways, at) {
  const read = percent(ways.default[at][words.bytes] / ways.paper[at][words.bytes]);
  const bytes = read === "100 %" ? "as many bytes" : `${read} of the bytes`;
  const loss = `${percent(leftOf(ways, at))} of the KL of “${words.paper}”`;
  return `${words.default}: ${loss}, for ${bytes} of ${words.of}.`;
}

const LEFT_BOUNDS = [1 / 3, 2 / 3]; // parts of the loss between the three answers

export const LESSON_WHICH = {
  key: "which",
  picture: () => {
    const zooms = { pages: WAYS.map(() => new PagesZoom()), mlp: WAYS.map(() => new MlpZoom()) };
    return (result) => Object.entries(COMPARED).map(([part, words]) =>
      waysPart(words, result, result[part], zooms[part]));
  },
  answer: ({ pages }) => LEFT_BOUNDS.filter((bound) => leftOf(pages, 0) >= bound).length,
  said: ({ pages, mlp }) => {
    const [bounds, keys] = WAYS.map((way) => mean(pages[way][0].kl));
    return `With bounds the steps' [[kl|KL]] to the full model is ${nats(bounds)} nats, with 4-bit keys `
      + `${nats(keys)}: ${percent(leftOf(pages, 0))} of it. With ${percent(mlp.fractions[0])} of the MLP `
      + `kept, ${percent(leftOf(mlp, 0))} of the loss is left when both sides are pruned.`;
  },
};
