// All words of the glossary, in order, with a filter.

import { h, show } from "../shared/dom.js";
import { labelled } from "../shared/forms/form_parts.js";
import { TERMS } from "../shared/glossary.js";

export class GlossaryList {
  constructor() {
    const entries = Object.values(TERMS)
      .sort((one, other) => one.name.localeCompare(other.name, "en"));
    this.rows = entries.map(({ name, text }) => ({ words: `${name} ${text}`.toLowerCase(),
      element: h("div", { class: "sol-word" }, h("dt", {}, name), h("dd", {}, text)) }));
    this.search = h("input", { type: "search", class: "sol-input", placeholder: "Part of a word",
      oninput: () => this.filter() });
    this.none = h("p", { class: "sol-muted", hidden: true, role: "status" }, "No entry has this.");
    this.heading = h("h2", { tabindex: "-1" }, "Glossary");
    this.element = h("article", { class: "sol-panel sol-lesson sol-words", hidden: true },
      h("header", {}, this.heading),
      h("p", { class: "sol-lesson-text" }, "Wherever one of these words is underlined with dots, hover or focus it to see what it means."),
      labelled("Find a word", null, this.search), h("dl", {}, this.rows.map((row) => row.element)), this.none);
  }

  filter() {
    const wanted = this.search.value.trim().toLowerCase();
    this.rows.forEach((row) => show(row.element, row.words.includes(wanted)));
    show(this.none, !this.rows.some((row) => !row.element.hidden));
  }

  enter() {
    show(this.element, true);
  }

  leave() {
    show(this.element, false);
  }
}
