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

const rankTable = (pages) => dataTable("Pages by effect", ["Page left out", "KL, nats", "Attention"],
  pages.slice(0, SHOWN_PAGES).map(({ name, kl, attention }) =>
    [h("bdi", {}, name), nats(kl), percent(attention, 1)]));

class MissingPicture {
  prompt = h("p", { class: "sol-learn-passage" });
  place = h("div", {});
  page = h("p", { class: "sol-learn-passage", dir: "auto" });
  said = h("p", { class: "sol-learn-state", role: "status" });
  strips = new Strips({ point: () => {}, leave: () => {}, canChoose: () => true,
    choose: (page) => this.slider?.set(page) });
  ranks = h("div", { class: "sol-page-ranks" });
  note = h("p", {});
  element = h("div", { class: "sol-learn-parts" }, this.prompt,
    learnPart("Where the step looked, and what it needed: KL without the page", this.strips.element,
      endsOf("the story's beginning", "the question"), this.place, this.page, this.said),
    learnPart("The five pages that mattered most", this.ranks, this.note));

  draw(result) {
    this.result = result;
    const { rows, question, stem, said, correlation } = result;
    this.prompt.replaceChildren(
      h("span", { class: "sol-muted" }, `… ${question} ${stem}`), pickedText(said));
    this.strips.draw(rows.map((row) => row.attention), rows.map((row) => row.kl));
    const order = rows.map((_, page) => page).sort((one, other) => rows[other].kl - rows[one].kl);
    this.slider = levelSlider({ label: "Page taken away", levels: rows.map((_, page) => page), at: order[0],
      text: (page) => `${page + 1} of ${rows.length}`, show: (page) => this.show(page) });
    this.place.replaceChildren(this.slider.element);
    const ranked = order.map((page) => ({ ...rows[page], name: quoted(rows[page].text) }));
    this.ranks.replaceChildren(rankTable(ranked));
    setText(this.note, correlation === null ? ""
      : `Rank correlation of the two over all pages: ${fixed(correlation, 2)}.`);
    this.slider.update();
  }

  show(page) {
    const { rows, said, probability: whole } = this.result;
    const { text, said: other, changed, probability: left, kl } = rows[page];
    this.strips.mark([page]);
    setText(this.page, quoted(text));
    const saysText = changed ? `the model would say ${quoted(other)}` : "the model would still say it";
    setText(this.said, `Without this page ${quoted(said)} goes from ${probability(whole)} to `
      + `${probability(left)}; ${saysText}. KL ${nats(kl)} nats`);
  }
}

const numChanged = ({ rows }) => rows.filter((row) => row.changed).length;
const worst = ({ rows }) => rows.reduce((most, row) => (row.kl > most.kl ? row : most));
const mostLooked = ({ rows }) => Math.max(...rows.map((row) => row.attention));

export const LESSON_MISSING = {
  key: "missing",
  picture: () => new MissingPicture(),
  answer: (result) => Math.min(numChanged(result), 2),
  said: (result) => `Without ${count(numChanged(result), "page")} of ${result.rows.length} the model says `
    + `something else. The page that mattered most, ${quoted(worst(result).text)}, had `
    + `${percent(worst(result).attention, 1)} of the attention; the page that was looked at most had `
    + `${percent(mostLooked(result))}.`,
};
