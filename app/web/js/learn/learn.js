// Puts the Learn page together: the list of lessons, the one on show, and the glossary.

import { askedFor, linkTo, nameInFront, setAddress } from "../shared/address.js";
import { makeApi } from "../shared/api.js";
import { chip, h, opensHere, setText, show, whenSeen } from "../shared/dom.js";
import { memory, recall, remember } from "../shared/memory.js";
import { Lesson } from "./lesson.js";
import { LESSON_BITS } from "./lesson_bits.js";
import { LESSON_CHANNELS } from "./lesson_channels.js";
import { LESSON_PAGES } from "./lesson_pages.js";
import { LESSON_SPEND } from "./lesson_spend.js";
import { LESSON_STEPS } from "./lesson_steps.js";
import { LESSON_WHICH } from "./lesson_which.js";
import { labelled } from "../shared/forms/form_parts.js";
import { TERMS } from "../shared/glossary.js";

// All words of the glossary, in order, with a filter.
class GlossaryList {
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

const LESSONS = [LESSON_STEPS, LESSON_PAGES, LESSON_CHANNELS, LESSON_WHICH, LESSON_BITS, LESSON_SPEND];
const GLOSSARY = "glossary";

class LearnPage {
  constructor(root, api, page) {
    this.api = api;
    this.page = page;
    this.answers = this.restore();
    this.measured = recall("measured"); // true by lesson
    /** @type {(() => void) | null} names the lesson in the address */
    this.name = null;
    /** @type {Map<string, any>} */
    this.parts = new Map(LESSONS.map((spec, at) => [spec.key, this.makeLesson(spec, at)]));
    this.parts.set(GLOSSARY, new GlossaryList());
    this.links = new Map();
    this.stage = h("div", { class: "sol-learn-stage" }, [...this.parts.values()].map((part) => part.element));
    root.append(h("div", { class: "sol-learn-grid" }, h("div", { class: "sol-learn-side" }, this.buildList()), this.stage));
    for (const [key, choice] of Object.entries(this.answers)) this.parts.get(key)?.restore?.(choice);
    addEventListener("popstate", () => askedFor("lesson") && this.open(askedFor("lesson")));
    // Nothing is measured for a tab that nobody looks at.
    whenSeen(root, () => this.seen());
  }

  makeLesson(spec, at) {
    return new Lesson(spec, at + 1, this, {
      answered: (key, choice) => this.answered(key, choice),
      measured: (key) => this.keepMeasured(key),
      next: LESSONS[at + 1] && (() => this.go(LESSONS[at + 1].key)),
    });
  }

  buildList() {
    const link = (key, number, title) => {
      const done = h("span", { class: "sol-learn-done" });
      const element = h("a", { class: "sol-learn-link", href: linkTo({ lesson: key }),
        onclick: opensHere(() => this.go(key)) }, h("span", { class: "sol-learn-number", "aria-hidden": "true" }, number), h("span", {}, title), done);
      this.links.set(key, { element, done });
      return h("li", {}, element);
    };
    this.forget = chip("Forget my answers", () => this.startAgain());
    return h("nav", { class: "sol-panel sol-learn-list", "aria-label": "Lessons" },
      h("h2", {}, "Six short lessons"),
      h("p", { class: "sol-hint" }, "A guess first, then a measurement on the model that is loaded here, now."),
      h("ol", {}, LESSONS.map((spec, at) => link(spec.key, at + 1, spec.title)), link(GLOSSARY, "A–Z", "Glossary")),
      this.forget);
  }

  // Answers of other releases may be unreadable.
  restore() {
    return Object.fromEntries(Object.entries(recall("lessons")).filter(([, choice]) => Number.isInteger(choice)));
  }

  answered(key, choice) {
    this.answers[key] = choice;
    remember("lessons", this.answers);
    this.showProgress();
  }

  keepMeasured(key) {
    this.measured[key] = true;
    remember("measured", this.measured);
    this.showProgress();
  }

  startAgain() {
    [this.answers, this.measured] = [{}, {}];
    remember("lessons", {});
    remember("measured", {});
    LESSONS.forEach((spec, at) => {
      const [old, fresh] = [this.parts.get(spec.key), this.makeLesson(spec, at)];
      old.leave();
      old.element.replaceWith(fresh.element);
      this.parts.set(spec.key, fresh);
    });
    this.showProgress();
    this.parts.get(this.key).enter();
    this.parts.get(this.key).heading.focus();
  }

  showProgress() {
    for (const [key, { done }] of this.links) setText(done, this.measured[key] === true ? "done" : "");
    show(this.forget, Object.keys(this.answers).length > 0);
  }

  seen() {
    if (!this.key) this.open(askedFor("lesson") ?? memory.get("lesson") ?? LESSONS[0].key);
    this.name ??= nameInFront("learn", () => ({ lesson: this.key }));
    this.name();
  }

  go(key) {
    setAddress({ lesson: key, tab: "learn" }, true);
    this.open(key);
    this.parts.get(this.key).heading.focus();
  }

  open(key) {
    const wanted = this.parts.has(key) ? key : LESSONS[0].key;
    if (wanted === this.key) return;
    if (this.key) this.parts.get(this.key).leave();
    this.key = wanted;
    memory.set("lesson", wanted);
    for (const [name, { element }] of this.links) {
      if (name === wanted) element.setAttribute("aria-current", "page");
      else element.removeAttribute("aria-current");
    }
    this.parts.get(wanted).enter();
  }
}

export function mount(root, server, page) {
  new LearnPage(root, makeApi(server), page).showProgress();
}
