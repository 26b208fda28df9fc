// Steps 3, 4 and 6 of the path: which steps suffer when attention reads few pages of the cache; how a page
// that it hardly looks at can carry the answer; and which pages and which side of the MLP, not how many.

import { h, setText } from "../shared/dom.js";
import { count, fixed, mean, nats, percent, probability, quantity, signed } from "../shared/format.js";
import { levelSlider, pillsField } from "../shared/forms/form_parts.js";
import { dataTable, endsOf } from "../shared/page_parts.js";
import { Strips } from "../shared/tokens/reading_drawings.js";
import { quoted } from "../shared/tokens/token_text.js";
import {
  barRow, learnPart, MlpZoom, PagesZoom, paintScale, PassageView, pickedText, stepSlider,
} from "./pictures.js";

const LOSS_TOP = 3; // nats; from here on the colour is at its strongest

function pagesPicture() {
  const zoom = new PagesZoom();
  return (result) => {
    const { tokens, first, reads, page_size: pageSize } = result;
    const view = new PassageView(tokens, first, "The passage, coloured by what each step loses", pageSize);
    const note = h("p", { class: "sol-learn-state" });
    const worst = h("div", { class: "sol-learn-bars" });
    const showStep = (level, place) => {
      view.mark(place);
      zoom.show(reads[level][place], first + place);
    };
    const show = (level) => {
      const losses = lossesOf(result, level);
      const loss = (place) => `${signed(losses[place])} nats`;
      view.paint(losses, LOSS_TOP, (place) => `${tokens[first + place].trim()}: ${loss(place)}`);
      const { share, pages } = reads[level].at(-1);
      setText(note, `Thin marks: pages. At the end a KV group reads ${Math.round(share * pages)} of `
        + `${pages}, in the mean over layers; on average ${signed(mean(losses))} nats`);
      const order = losses.map((_, place) => place).sort((one, other) => losses[other] - losses[one]);
      const top = Math.max(losses[order[0]], LOSS_TOP);
      worst.replaceChildren(...order.slice(0, 5).map((place) =>
        barRow(pickedText(tokens[first + place]), losses[place] / top, loss(place))));
      showStep(level, steps.at);
    };
    const slider = levelSlider({ label: "Attention kept", axis: "attention",
      levels: result.levels.slice(0, -1), text: percent, at: 0, show });
    const steps = stepSlider(tokens, first, lossesOf(result, 0), (place) => showStep(slider.at, place));
    view.choosing(steps.set);
    zoom.begin(tokens, pageSize);
    steps.update();
    slider.update();
    return [
      h("div", {}, slider.element, view.element,
        h("p", { class: "sol-learn-caption" }, paintScale("no change", `≥ ${LOSS_TOP} nats`), note)),
      learnPart("The machine: which pages one step read",
        h("p", { class: "sol-hint" }, "Columns are layers, rows are pages; a layer's KV heads choose for "
          + "themselves. Choose a step, or a word above."),
        steps.element, zoom.element),
      learnPart("Who loses most", worst)];
  };
}

// The steps' losses at a level: surprisal there less surprisal when dense.
const lossesOf = ({ nll }, level) => nll[level].map((value, place) => value - nll.at(-1)[place]);

// The loss of a word of several tokens at a level, of its last occurrence; null when it is not there.
function wordLoss(result, word, at) {
  const scored = result.tokens.slice(result.first);
  const starts = [];
  let text = "";
  for (const token of scored) { starts.push(text.length); text += token; }
  const from = text.lastIndexOf(word);
  if (from < 0) return null;
  const losses = lossesOf(result, at);
  const isOf = (start, place) => start + scored[place].length > from && start < from + word.length;
  return starts.reduce((total, start, place) => total + (isOf(start, place) ? losses[place] : 0), 0);
}

const LOST_WORDS = ["Port", "asked", "light"];

export const LESSON_PAGES = {
  key: "pages",
  picture: pagesPicture,
  answer: (result) => {
    const losses = LOST_WORDS.map((word) => wordLoss(result, word, 0) ?? -Infinity);
    return losses.indexOf(Math.max(...losses));
  },
  said: (result) => `At ${percent(result.levels[0])} of the attention, ${LOST_WORDS.map((word) => {
    const loss = wordLoss(result, word, 0) ?? NaN;
    return `“${word}” ${loss < 0 ? "gained" : "lost"} ${nats(Math.abs(loss))} nats`;
  }).join(", ")}.`,
};

const SHOWN_PAGES = 5;

function missingNodes({ rows, question, stem, said, correlation, probability: whole }) {
  const order = rows.map((_, page) => page).sort((one, other) => rows[other].kl - rows[one].kl);
  const text = h("p", { class: "sol-learn-passage", dir: "auto" });
  const effect = h("p", { class: "sol-learn-state", role: "status" });
  const strips = new Strips({ canChoose: () => true, choose: (page) => slider.set(page) });
  strips.draw(rows.map((row) => row.attention), rows.map((row) => Math.max(1 - row.probability / whole, 0)));
  const slider = levelSlider({ label: "Page taken away", levels: rows.map((_, page) => page), at: order[0],
    text: (page) => `${page + 1} of ${rows.length}`, show: (page) => {
      const { changed, said: other, probability: left, kl } = rows[page];
      strips.mark(page);
      setText(text, quoted(rows[page].text));
      const saysText = changed ? `the model would say ${quoted(other)}` : "the model would still say it";
      setText(effect, `Without this page ${quoted(said)} goes from ${probability(whole)} to `
        + `${probability(left)}; ${saysText}. KL ${nats(kl)} nats`);
    } });
  slider.update();
  return [
    h("p", { class: "sol-learn-passage" },
      h("span", { class: "sol-muted" }, `… ${question} ${stem}`), pickedText(said)),
    learnPart("Where the step looked, and what it needed: the probability lost without the page",
      strips.element, endsOf("the story's beginning", "the question"), slider.element, text, effect),
    learnPart("The five pages that mattered most",
      h("div", { class: "sol-page-ranks" },
        dataTable("Pages by effect", ["Page left out", "KL, nats", "Attention"],
          order.slice(0, SHOWN_PAGES).map((page) => [h("bdi", {}, quoted(rows[page].text)),
            nats(rows[page].kl), percent(rows[page].attention, 1)]))),
      h("p", {}, correlation === null ? ""
        : `Rank correlation of the two over all pages: ${fixed(correlation, 2)}.`))];
}

const numChanged = ({ rows }) => rows.filter((row) => row.changed).length;
const mostNeeded = ({ rows }) => rows.reduce((most, row) => (row.kl > most.kl ? row : most));

export const LESSON_MISSING = {
  key: "missing",
  picture: () => missingNodes,
  answer: (result) => Math.min(numChanged(result), 2),
  said: (result) => `Without ${count(numChanged(result), "page")} of ${result.rows.length} the model says `
    + `something else. The page that mattered most, ${quoted(mostNeeded(result).text)}, had `
    + `${percent(mostNeeded(result).attention, 1)} of the attention; the page that was looked at most had `
    + `${percent(Math.max(...result.rows.map((row) => row.attention)))}.`,
};

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
