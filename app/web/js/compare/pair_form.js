// The form of an A/B comparison: one prompt and seed, two schedules; or two runs of History.

import { advancedFields } from "../explore/controls.js";
import { button, h, optionsOf, selectOf, setText, show } from "../shared/dom.js";
import { AXES, formNumbers, MECHANISMS, spendText, whenText } from "../shared/format.js";
import { Fields, firstWrong, RunForm } from "../shared/forms/form.js";
import { exampleChips, labelled, promptField, toggleField } from "../shared/forms/form_parts.js";
import { budgetFields, mechanismsField, POLICY_PREFIX, scheduleField } from "../shared/forms/schedule_field.js";
import { recall, remember } from "../shared/memory.js";
import { SITE } from "../shared/site.js";
import { sideName, SIDES } from "./pair_table.js";

// One side's schedule, budget and mechanisms, folded behind a line that says what they are.
class SideFields extends Fields {
  constructor(side, defaults, askPolicies) {
    super();
    this.defaults = defaults;
    this.fields = { schedule: scheduleField(askPolicies), ...budgetFields(), grid: mechanismsField() };
    const { schedule, grid, ...budget } = this.fields;
    this.budget = h("fieldset", { class: "sol-fieldset" }, h("legend", {}, "Budget, on average"),
      Object.values(budget).map((field) => field.element));
    this.line = h("small", {});
    const changed = () => this.changed();
    this.element = h("details", { class: "sol-side", "data-side": side, open: side === "a",
      oninput: changed, onchange: changed },
    h("summary", {}, h("b", { class: "sol-side-letter" }, sideName(side)), this.line),
    h("div", { class: "sol-side-body" }, schedule.element, this.budget, grid.element));
  }

  set(settings) {
    this.setValues(settings, this.defaults);
    this.changed();
  }

  changed() {
    const { schedule, grid, ...values } = this.values();
    this.budget.disabled = schedule === "dense";
    show(this.fields.grid.element, schedule !== "dense");
    setText(this.line, schedule === "dense" ? "Dense"
      : [settingName(schedule), spendText(values), MECHANISMS[grid]].filter(Boolean).join(" · "));
  }
}

function settingName(schedule) {
  return schedule.startsWith(POLICY_PREFIX) ? `Policy ${schedule.slice(POLICY_PREFIX.length)}`
    : SITE.schedules[schedule] ?? schedule;
}

export class PairForm extends RunForm {
  // on: {generate(prompt, a, b), stop(), saved(a, b), policies() → names, runs() → saved runs}
  constructor(page, on) {
    super();
    this.page = page;
    this.on = on;
    this.sides = Object.fromEntries(SIDES.map((side) => [side, new SideFields(side, page.defaults, on.policies)]));
    const { stop, grid, ...advanced } = advancedFields(page.maxNewTokens);
    this.fields = {
      chat: toggleField({ label: "Chat",
        hint: "Wrap the prompt as a message; off continues the text." }),
      shadow: toggleField({ label: "Measure KL along the way",
        hint: "A dense shadow row rides along with each side and slows it down." }),
      ...advanced,
    };
    this.prompt = promptField(this, "Both sides answer or continue this.", 4);
    this.runs = [];
    this.saved = Object.fromEntries(SIDES.map((side) => [side, selectOf([])]));
    this.element = this.build();
    this.restore();
  }

  build() {
    const { chat, shadow, max_new_tokens: tokens, seed, ...more } = this.fields;
    return this.lay(this.prompt.element,
      exampleChips(this.page.examples, (example) => {
        this.prompt.set(example.prompt);
        chat.set(example.chat);
        this.changed();
      }),
      chat.element,
      this.actions("Generate both", { title: "Ctrl + Enter in the prompt" }),
      SIDES.map((side) => this.sides[side].element),
      h("div", { class: "sol-advanced-grid" }, tokens.element, seed.element),
      shadow.element,
      h("details", { class: "sol-advanced" }, h("summary", {}, "Advanced, for both sides"),
        h("div", { class: "sol-advanced-grid" }, Object.values(more).map((one) => one.element))),
      this.buildSaved());
  }

  buildSaved() {
    this.savedNote = h("p", { class: "sol-hint", role: "status" });
    this.open = button("Compare these runs", () => this.on.saved(this.saved.a.value, this.saved.b.value),
      { disabled: true });
    this.saved.a.addEventListener("change", () => this.offerSaved());
    this.details = h("details", { class: "sol-advanced",
      ontoggle: (event) => event.target.open && this.list() },
      h("summary", {}, "Two runs of History instead"),
      h("div", { class: "sol-side-body" },
        SIDES.map((side) => labelled(`Run ${sideName(side)}`, null, this.saved[side])),
        this.savedNote, this.open));
    return this.details;
  }

  // One run is chosen elsewhere; the other one is chosen here.
  choose(runId) {
    this.wanted = runId;
    if (this.details.open) this.list();
    this.details.open = true;
    this.saved.b.focus();
  }

  async list() {
    try {
      this.runs = (await this.on.runs())
        .filter((run) => run.tokens > 0 && run.status !== "running");
    } catch {
      setText(this.savedNote, "The server does not answer. Close and open this to try again.");
      return;
    }
    this.saved.a.replaceChildren(...runOptions(this.runs));
    if (this.runs.some((run) => run.id === this.wanted)) this.saved.a.value = this.wanted;
    this.open.disabled = this.runs.length < 2;
    this.offerSaved();
    if (this.runs.length < 2) setText(this.savedNote, "Fewer than two runs are saved yet.");
  }

  // Runs that began like A come first: only those can be aligned.
  offerSaved() {
    const chosen = this.runs.find((run) => run.id === this.saved.a.value);
    if (!chosen) return;
    const others = this.runs.filter((run) => run.id !== chosen.id);
    const alike = others.filter((run) => run.title === chosen.title);
    const rest = others.filter((run) => run.title !== chosen.title);
    this.saved.b.replaceChildren(
      ...alike.length ? [h("optgroup", { label: "Begin alike" }, runOptions(alike))] : [],
      ...rest.length ? [h("optgroup", { label: "Other prompts: shown, not aligned" }, runOptions(rest))] : []);
    setText(this.savedNote, "");
  }

  // settings: of both runs; null for one that this release cannot read.
  take(prompt, settings) {
    this.prompt.set(prompt);
    SIDES.forEach((side, at) => settings[at] && this.sides[side].set(settings[at]));
    if (settings[0]) this.setValues(settings[0], this.page.defaults);
    this.changed();
  }

  wrong() {
    return firstWrong([this, ...Object.values(this.sides)].flatMap((part) => Object.values(part.fields)));
  }

  changed() {
    const { a, b } = this.sides;
    remember("pair", { prompt: this.prompt.get(), shared: this.kept(), a: a.kept(), b: b.kept() });
  }

  restore() {
    const saved = recall("pair");
    const example = this.page.examples[1];
    this.prompt.set(typeof saved.prompt === "string" ? saved.prompt : example.prompt);
    this.setValues({ ...this.page.defaults, chat: example.chat, max_new_tokens: 64, ...saved.shared });
    const budget = formNumbers(AXES.map((axis) => axis.usual));
    this.sides.a.set({ schedule: this.page.defaults.schedule, ...budget, ...saved.a });
    this.sides.b.set({ schedule: "static", ...budget, ...saved.b });
  }

  // Each side's settings as Explore's form would have them.
  send() {
    const [a, b] = SIDES.map((side) => ({ ...this.values(), ...this.sides[side].values() }));
    this.on.generate(this.prompt.get(), a, b);
  }
}

const runOptions = (runs) => optionsOf(runs.map((run) =>
  [run.id, `${run.title} · ${run.schedule_label} · ${run.budget} · ${whenText(run.created_at)}`]));
