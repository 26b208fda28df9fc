// The form at the side: prompt, schedule, budget, quality, advanced. The browser keeps all of it.

import { newest } from "../shared/api.js";
import { chip, h, setText, show } from "../shared/dom.js";
import { AXES, count, percent, sentence, spendText } from "../shared/format.js";
import { RunForm } from "../shared/forms/form.js";
import {
  elementsOf, exampleChips, fieldset, folded, labelledRange, linesField, numberField, promptField,
  textFilePicker, toggleField,
} from "../shared/forms/form_parts.js";
import { budgetFields, scheduleField, stepFields } from "../shared/forms/schedule_field.js";
import { glossed } from "../shared/glossary.js";
import { keptOpen, recall, remember } from "../shared/memory.js";

const ASK_AFTER_MS = 150;

/** From handlers.estimate_budget; the last three for bytes alone. @typedef {{ context: number, share: number,
 *   mix: Record<string, number>, lowest?: number, usual?: number, measured_on?: string }} Estimate */

// One dial: the share of the full model's bytes. Python says which mix of attention and MLP meets it after a
// prompt of this length, and until somebody turns the dial it stands where the text stays the full model's.
// Under "Set each axis" the two have budgets of their own instead; bits always have one.
class BudgetDial {
  /** @type {Estimate | null} */
  estimate = null;
  value = 0; // percent of the bytes; 0: each axis has a budget of its own
  isUsual = false; // it follows the prompt's length

  // fields: by the axes' short names; usual: the form's default; changed(): the form has other values now
  constructor(fields, usual, ask, changed) {
    this.fields = fields;
    this.ask = ask;
    this.changed = changed;
    const oninput = () => {
      this.take(this.range.valueAsNumber);
      this.say();
    };
    this.output = h("output", { class: "sol-dial-share" });
    this.slider = labelledRange("Compute", null, { min: 1, max: 100, oninput }, this.output);
    this.range = this.slider.range;
    this.note = h("p", { class: "sol-hint" });
    const { bits, ...axes } = fields;
    Object.values(axes).forEach((field) => field.element.addEventListener("input", () => this.take(0)));
    this.axes = h("details", { class: "sol-axes", ...keptOpen("budgetAxes") },
      h("summary", {}, "Set each axis"), elementsOf(axes), bits.element);
    this.slider.element.append(this.note);
    this.element = h("div", { class: "sol-dial" }, this.slider.element, this.axes);
    this.field = { get: () => this.value,
      set: (value) => this.take(Number(value) || 0, Number(value) === usual) };
  }

  take(value, isUsual = false) {
    this.value = value;
    this.isUsual = isUsual;
  }

  // The form has other values: the dial stands where the share is; the axes unfold where they decide.
  follow() {
    if (!this.value || this.fields.bits.problem()) this.axes.open = true;
    this.say();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), ASK_AFTER_MS);
  }

  async refresh() {
    const answer = await newest(this, this.ask().catch(() => null)); // what is wrong is said when it is sent
    this.estimate = answer?.share ? answer : null;
    if (this.estimate && this.value) this.useMix(this.estimate);
    this.say();
  }

  // A share that cannot be reached after so short a prompt rises to the lowest one.
  /** @param {Estimate} estimate */
  useMix({ lowest = 0, usual = 1, mix }) {
    const least = Math.ceil(100 * lowest);
    this.range.min = String(least);
    const value = this.isUsual ? Math.max(least, Math.ceil(100 * usual)) : Math.max(least, this.value);
    if (value !== this.value) {
      this.value = value;
      return this.changed(); // and asks again
    }
    for (const name of ["keep", "channels"]) this.fields[name].set(Math.round(mix[name]));
  }

  say() {
    const { estimate, value } = this;
    const share = value || (estimate ? Math.round(100 * estimate.share) : 0);
    if (share) this.range.value = String(share);
    this.slider.paint();
    setText(this.output, share ? `${share} %` : "");
    const mix = spendText(AXES.map(({ short }) => this.fields[short].get()));
    this.range.setAttribute("aria-valuetext", `${share} %: ${mix}`);
    show(this.note, Boolean(estimate));
    if (!estimate) return;
    const after = `after about ${count(estimate.context, "token")}`;
    const measured = estimate.measured_on
      ? ` The mix was chosen by measurements on ${estimate.measured_on}, not on this model.` : "";
    this.note.replaceChildren(...glossed(value
      ? `Share of the full model’s bytes. ${sentence(after)}: ${mix}. The least possible is `
        + `${percent(estimate.lowest ?? 0)}.${measured}`
      : `Each [[axis]] has its own budget: ${mix}. ${sentence(after)} that is this compute.`));
  }
}

function advancedFields(mostTokens) {
  return {
    max_new_tokens: numberField({ label: "Max new tokens", min: 1, max: mostTokens }),
    temperature: numberField({ label: "Temperature", min: 0, max: 100, step: "any",
      hint: "Of the [[temperature|draw]]: 0 always takes the most probable token." }),
    top_k: numberField({ label: "Top-k", min: 0, hint: "0 keeps all." }),
    top_p: numberField({ label: "Top-p", min: 0, max: 1, step: "any", hint: "1 keeps all." }),
    repetition_penalty: numberField({ label: "Repetition penalty", min: 0, step: "any", hint: "1 is off." }),
    ...stepFields("Of sampling and of the random schedule."),
    ignore_end_of_text: toggleField({ label: "Ignore end of text", hint: "Go on to the token limit." }),
    stop: linesField({ label: "Stop strings", hint: "One a line; \\n stands for a line break." }),
  };
}

export class Controls extends RunForm {
  // on: {generate(prompt, settings), stop(), policies() → names,
  // estimate(settings, prompt) → the mix that meets their budget}
  constructor(page, on) {
    super();
    this.page = page;
    this.on = on;
    this.budget = budgetFields();
    this.advanced = advancedFields(page.maxNewTokens);
    this.dial = new BudgetDial(this.budget, page.defaults.share,
      () => on.estimate(this.values(), this.prompt.get()), () => this.changed());
    this.fields = {
      share: this.dial.field,
      chat: toggleField({ label: "Chat", hint: "Wrap the prompt as a message; off continues the text." }),
      schedule: scheduleField(on.policies),
      shadow: toggleField({ label: "Measure quality against the full model",
        hint: "Adds a [[shadow row]] to every step: [[kl|KL]] to the [[dense|full model]], at the price of a "
          + "wider batch." }),
      static_row: toggleField({ label: "Compare with static",
        hint: "Adds a row that spends the same [[budget]] evenly." }),
      ...this.budget, ...this.advanced,
    };
    this.prompt = promptField(this, "Ask something, or begin a text for the model to continue.", 5);
    this.element = this.build();
    this.restore();
  }

  build() {
    this.budgetSet = fieldset("Budget, on average", this.dial.element);
    const { chat, schedule, shadow, static_row: staticRow } = this.fields;
    const picker = textFilePicker(this, this.prompt.input, this.page.maxCharacters, (text) => {
      this.prompt.set(text);
      this.changed();
    });
    // Few stops of the Tab key before the button.
    return this.lay(this.prompt.element, this.actions("Generate", { title: "Ctrl + Enter in the prompt" }),
      h("div", { class: "sol-text-file" }, picker),
      exampleChips(this.page.examples, (example) => {
        this.prompt.set(example.prompt);
        chat.set(example.chat);
        this.changed();
      }), chat.element, schedule.element, this.budgetSet, shadow.element, staticRow.element,
      folded("Advanced", h("div", { class: "sol-advanced-grid" }, elementsOf(this.advanced),
        chip("Back to the defaults", () => this.set(this.prompt.get(), this.page.defaults),
          { class: "sol-chip is-wide" }))));
  }

  set(prompt, settings) {
    this.prompt.set(prompt);
    this.setValues(settings, this.page.defaults);
    this.changed();
  }

  changed() {
    const isDense = this.fields.schedule.get() === "dense";
    this.budgetSet.disabled = isDense;
    this.dial.follow();
    this.fields.shadow.input.disabled = isDense;
    this.fields.static_row.input.disabled = isDense || this.fields.schedule.get() === "static";
    remember("settings", { prompt: this.prompt.get(), ...this.kept() });
  }

  restore() {
    const { prompt, ...settings } = recall("settings");
    this.isFirstVisit = prompt === undefined;
    this.set(typeof prompt === "string" ? prompt : this.page.examples[0].prompt, settings);
  }

  get isUntouched() {
    return this.isFirstVisit && this.prompt.get() === this.page.examples[0].prompt;
  }

  send() {
    this.on.generate(this.prompt.get(), this.values());
  }
}
