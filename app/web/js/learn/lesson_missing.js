// Step 4 of the path: a page that attention hardly looks at can carry the answer; taking it away shows it.

import { h, setText } from "../shared/dom.js";
import { count, fixed, nats, percent, probability } from "../shared/format.js";
import { levelSlider } from "../shared/forms/form_parts.js";
import { endsOf } from "../shared/levels.js";
import { dataTable } from "../shared/page_parts.js";
import { Strips } from "../shared/tokens/strips.js";
import { quoted } from "../shared/tokens/token_text.js";
import { learnPart, pickedText } from "./pictures.js";

const SHOWN_PAGES = 5;

function missingNodes({ rows, question, stem, said, correlation, probability: whole }) {
  const order = rows.map((_, page) => page).sort((one, other) => rows[other].kl - rows[one].kl);
  const text = h("p", { class: "sol-learn-passage", dir: "auto" });
  const effect = h("p", { class: "sol-learn-state", role: "status" });
  const strips = new Strips({ point: () => {}, leave: () => {}, canChoose: () => true,
    choose: (page) => slider.set(page) });
  strips.draw(rows.map((row) => row.attention), rows.map((row) => Math.max(1 - row.probability / whole, 0)));
  const slider = levelSlider({ label: "Page taken away", levels: rows.map((_, page) => page), at: order[0],
    text: (page) => `${page + 1} of ${rows.length}`, show: (page) => {
      const { changed, said: other, probability: left, kl } = rows[page];
      strips.mark([page]);
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
const worst = ({ rows }) => rows.reduce((most, row) => (row.kl > most.kl ? row : most));

export const LESSON_MISSING = {
  key: "missing",
  picture: () => missingNodes,
  answer: (result) => Math.min(numChanged(result), 2),
  said: (result) => `Without ${count(numChanged(result), "page")} of ${result.rows.length} the model says `
    + `something else. The page that mattered most, ${quoted(worst(result).text)}, had `
    + `${percent(worst(result).attention, 1)} of the attention; the page that was looked at most had `
    + `${percent(Math.max(...result.rows.map((row) => row.attention)))}.`,
};
