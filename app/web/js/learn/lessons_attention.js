// Steps 3 and 4 of the path: which steps suffer when attention reads few pages of the cache, and how a page
// that it hardly looks at can carry the answer.

import { h, setText } from "../shared/dom.js";
import { count, fixed, mean, nats, percent, probability, signed } from "../shared/format.js";
import { levelSlider } from "../shared/forms/form_parts.js";
import { dataTable, endsOf } from "../shared/page_parts.js";
import { Strips } from "../shared/tokens/reading_drawings.js";
import { quoted } from "../shared/tokens/token_text.js";
import { barRow, learnPart, PagesZoom, paintScale, PassageView, pickedText, stepSlider } from "./pictures.js";

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
