// The form at the side: prompt, schedule, budget, quality, advanced. The browser keeps all of it.

import { chip, h } from "../shared/dom.js";
import { RunForm } from "../shared/forms/form.js";
import {
  elementsOf, exampleChips, fieldset, folded, linesField, numberField, promptField, textFilePicker,
  toggleField,
} from "../shared/forms/form_parts.js";
import { BudgetDial, scheduleField, stepFields } from "../shared/forms/compute_fields.js";
import { keptOpen, recall, remember } from "../shared/memory.js";

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
    stop: linesField({ label: "Stop strings", hint: "One per line; \\n stands for a line break." }),
  };
}

export class Controls extends RunForm {
  constructor(page, on) {
    super();
    this.page = page;
    this.on = on;
    this.advanced = advancedFields(page.maxNewTokens);
    this.dial = new BudgetDial(page.defaults, () => on.estimate(this.values(), this.prompt.get()),
      () => this.changed());
    this.fields = {
      share: this.dial.field,
      chat: toggleField({ label: "Chat" }),
      schedule: scheduleField(on.policies),
      shadow: toggleField({ label: "Check against the full model" }),
      static_row: toggleField({ label: "Compare with static" }),
      ...this.dial.fields, ...this.advanced,
    };
    this.prompt = promptField(this, { label: "Prompt", rows: 5,
      placeholder: "Ask something, or begin a text for the model to continue." });
    this.element = this.build();
    this.restore();
  }

  build() {
    this.budgetSet = fieldset("Budget", this.dial.element);
    const { chat, schedule, shadow, static_row: staticRow } = this.fields;
    const picker = textFilePicker(this, this.prompt.input, this.page.maxCharacters, (text) => {
      this.prompt.set(text);
      this.changed();
    });
    this.examples = h("details", { class: "sol-example-fold", ...keptOpen("examples", true) },
      h("summary", {}, "Examples and files"), exampleChips(this.page.examples, (example) => {
        this.prompt.set(example.prompt);
        chat.set(example.chat);
        this.changed();
      }), picker);
    // Few stops of the Tab key before the button.
    return this.lay(this.prompt.element, this.actions("Generate", { title: "Ctrl + Enter in the prompt" }),
      chip("To the answer", () => this.on.toAnswer(), { class: "sol-chip sol-offscreen" }),
      this.examples, chat.element, this.budgetSet, schedule.element, shadow.element,
      folded("Advanced", h("div", { class: "sol-advanced-grid" }, staticRow.element,
        elementsOf(this.advanced), chip("Back to the defaults",
          () => this.reuse({ prompt: this.prompt.get(), settings: {} }), { class: "sol-chip is-wide" }))));
  }

  reuse({ prompt, settings }) {
    this.prompt.set(prompt);
    this.setValues(settings, this.page.defaults);
    if (settings.share !== undefined) this.dial.isUsual = null; // a run's own share stays, if it is not usual
    this.changed();
  }

  changed() {
    const isDense = this.fields.schedule.get() === "dense";
    this.budgetSet.disabled = isDense;
    this.dial.follow(this.prompt.get());
    this.fields.shadow.input.disabled = isDense;
    this.fields.static_row.input.disabled = isDense || this.fields.schedule.get() === "static";
    remember("settings", { prompt: this.prompt.get(), ...this.kept() });
  }

  restore() {
    const { prompt, ...settings } = recall("settings");
    this.reuse({ prompt: typeof prompt === "string" ? prompt : this.page.examples[0].prompt, settings });
  }

  send() {
    this.dial.sent = this.prompt.get();
    this.dial.say();
    this.examples.open = false; // out of the way of the answer, until they are asked for
    this.on.generate(this.prompt.get(), this.values());
  }
}
