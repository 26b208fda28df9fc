// The Learn page: a path from Explore's dial over lessons to a painted schedule in Inspect, and the glossary.

import { makeApi } from "../shared/api.js";
import { button, h, opensHere, setText, show, TERMS, watchSight } from "../shared/dom.js";
import { memory, recall, remember } from "../shared/memory.js";
import { askedFor, handOverTo, linkTo, nameInFront, setAddress, showTab, takeOver } from "../shared/tabs.js";
import { Lesson, pathPage } from "./lesson.js";
import { LESSON_MISSING, LESSON_PAGES, LESSON_WHICH } from "./lessons_attention.js";
import { LESSON_BITS, LESSON_CHANNELS } from "./lessons_mlp.js";
import { LESSON_SPEND, LESSON_STEPS } from "./lessons_steps.js";

// A step's texts are in app/lessons/lessons.json. done: what the room hands over.
const roomStep = ({ title, text, action, open }, number, page, next) => pathPage(`${number}. ${title}`, text,
  h("div", { class: "sol-tools" }, button(action, () => open(page), { class: "sol-button is-primary" }),
    next && button("Next step", next)));

const DIAL = { key: "dial", done: "dial-turned", open: () => showTab("explore") };
const PAINT = { key: "paint", done: "painted",
  open: ({ painted }) => handOverTo("inspect", "text-to-paint", painted) };

function glossaryList() {
  const entries = Object.values(TERMS).sort((one, other) => one.name.localeCompare(other.name, "en"));
  const intro = "Wherever one of these words is underlined with dots, choose it to see what it means.";
  return pathPage("Glossary", [intro], h("dl", { class: "sol-words" }, entries.map(({ name, text }) =>
    h("div", { class: "sol-word" }, h("dt", {}, name), h("dd", {}, text)))));
}

const STEPS = [DIAL, LESSON_STEPS, LESSON_PAGES, LESSON_MISSING, LESSON_CHANNELS, LESSON_WHICH, LESSON_BITS,
  LESSON_SPEND, PAINT];
const GLOSSARY = "glossary";

class LearnPage {
  constructor(root, api, page) {
    this.steps = STEPS.map((spec) => ({ ...spec, ...page.lessons[spec.key] }));
    this.api = api;
    this.page = page;
    // Answers of other releases may be unreadable.
    const answers = Object.entries(recall("lessons")).filter(([, choice]) => Number.isInteger(choice));
    this.answers = Object.fromEntries(answers);
    this.measured = recall("measured"); // true by lesson
    /** @type {(() => void) | null} names the lesson in the address */
    this.name = null;
    /** @type {Map<string, any>} */
    this.parts = new Map(this.steps.map((spec, at) => [spec.key, this.makeStep(spec, at)]));
    this.parts.set(GLOSSARY, glossaryList());
    this.links = new Map();
    this.stage = h("div", {}, [...this.parts.values()].map((part) => part.element));
    root.append(h("div", { class: "sol-learn-grid" },
      h("div", { class: "sol-learn-side" }, this.buildList()), this.stage));
    for (const [key, choice] of answers) this.parts.get(key)?.restore?.(choice);
    addEventListener("popstate", () => askedFor("lesson") && this.open(askedFor("lesson")));
    // Nothing is measured for a tab that nobody looks at.
    watchSight(root, (isSeen) => (isSeen ? this.seen() : this.parts.get(this.key)?.leave?.()));
    [DIAL, PAINT].forEach(({ key, done }) => takeOver(done, () => this.keepMeasured(key)));
  }

  makeStep(spec, at) {
    const next = STEPS[at + 1] && (() => this.go(STEPS[at + 1].key));
    if (spec.done) return roomStep(spec, at + 1, this.page, next);
    return new Lesson(spec, at + 1, this.api, { next, answered: (key, choice) => this.answered(key, choice),
      measured: (key) => this.keepMeasured(key) });
  }

  buildList() {
    const link = (key, number, title) => {
      const done = h("span", { class: "sol-learn-done" });
      const onclick = opensHere(() => this.go(key));
      const element = h("a", { class: "sol-learn-link", href: linkTo({ lesson: key }), onclick },
        h("span", { class: "sol-learn-number", "aria-hidden": "true" }, number), h("span", {}, title), done);
      this.links.set(key, { element, done });
      return h("li", {}, element);
    };
    return h("nav", { class: "sol-panel sol-learn-list", "aria-label": "Steps" },
      h("h2", {}, "One path, 20 minutes"),
      h("p", { class: "sol-hint" },
        "Guess first, then see it measured on the model loaded here. Your progress is saved."),
      h("ol", {}, this.steps.map(({ key, title }, at) => link(key, at + 1, title)),
        link(GLOSSARY, "A–Z", "Glossary")));
  }

  answered(key, choice) {
    this.answers[key] = choice;
    remember("lessons", this.answers);
  }

  keepMeasured(key) {
    this.measured[key] = true;
    remember("measured", this.measured);
    this.showProgress();
  }

  showProgress() {
    this.links.forEach(({ done }, key) => setText(done, this.measured[key] === true ? "done" : ""));
  }

  seen() {
    const wanted = this.key ?? askedFor("lesson") ?? memory.get("lesson") ?? DIAL.key;
    if (wanted === DIAL.key && this.measured[DIAL.key]) { // who comes from the dial goes on
      setAddress({ lesson: STEPS[1].key });
      this.open(STEPS[1].key);
    } else if (!this.key) this.open(wanted);
    else this.parts.get(this.key).enter?.();
    this.name ??= nameInFront("learn", () => ({ lesson: askedFor("lesson") ?? this.key }));
    this.name();
  }

  go(key) {
    setAddress({ lesson: key, tab: "learn" }, true);
    this.open(key);
    this.parts.get(this.key).heading.focus();
  }

  open(key) {
    const wanted = this.parts.has(key) ? key : STEPS[0].key;
    if (wanted === this.key) return;
    const now = this.parts.get(wanted);
    this.parts.forEach((part) => show(part.element, part === now));
    this.parts.get(this.key)?.leave?.();
    this.key = wanted;
    memory.set("lesson", wanted);
    this.links.forEach(({ element }, name) => { element.ariaCurrent = name === wanted ? "page" : null; });
    now.enter?.();
  }
}

export const mount = (root, server, page) => new LearnPage(root, makeApi(server), page).showProgress();
