// The form at the side: prompt, schedule, budget, quality, advanced. What is typed is kept in
// the browser, so that nothing is lost by a reload or an error.

import { h } from "../shared/dom.js";
import { budgetFields } from "../shared/forms/budget_fields.js";
import { RunForm } from "../shared/forms/form.js";
import { choiceField, labelled, linesField, numberField, toggleField } from "../shared/forms/form_parts.js";
import { scheduleField } from "../shared/forms/schedule_field.js";
import { recall, remember } from "../shared/memory.js";
import { errorLine } from "../shared/message.js";

export function advancedFields(mostTokens) {
  return {
    max_new_tokens: numberField({ label: "Max new tokens", min: 1, max: mostTokens }),
    temperature: numberField({ label: "Temperature", min: 0, max: 100, step: "any",
      hint: "Of the [[temperature|draw]]: 0 always takes the most probable token." }),
    top_k: numberField({ label: "Top-k", min: 0, hint: "0 keeps all." }),
    top_p: numberField({ label: "Top-p", min: 0, max: 1, step: "any", hint: "1 keeps all." }),
    repetition_penalty: numberField({ label: "Repetition penalty", min: 0, step: "any",
      hint: "1 is off." }),
    seed: numberField({ label: "Seed", hint: "Of sampling and of the random schedule." }),
    episode_steps: numberField({ label: "Episode length", min: 1,
      hint: "Steps of an [[episode]]; then schedules start again." }),
    grid: choiceField({ label: "Mechanisms",
      choices: { default: "4-bit keys, both sides of the MLP", paper: "The paper's: page bounds, MLP input" },
      hint: "How what is dropped is [[mechanisms|picked]]; the paper's lose more for the same bytes." }),
    quant_site: choiceField({ label: "Quantisation site",
      choices: { mlp_output: "MLP output", mlp_input: "MLP input" },
      hint: "[[quantisation site|Where]] activations are rounded; papers report the output." }),
    refresh: toggleField({ label: "Refresh the cache after each episode",
      hint: "[[refresh|Replays]] it densely; the cost is counted." }),
    ignore_end_of_text: toggleField({ label: "Ignore end of text",
      hint: "Go on to the token limit." }),
    stop: linesField({ label: "Stop strings",
      hint: "One a line; \\n stands for a line break." }),
  };
}

export class Controls extends RunForm {
  // on: {generate(prompt, settings), stop(), policies() → names}
  constructor(page, on) {
    super();
    this.page = page;
    this.on = on;
    this.budget = budgetFields();
    this.advanced = advancedFields(page.maxNewTokens);
    this.fields = {
      chat: toggleField({ label: "Chat",
        hint: "Wrap the prompt as a message; off continues the text." }),
      schedule: scheduleField(on.policies),
      shadow: toggleField({ label: "Measure quality against dense",
        hint: "Adds a [[shadow row]] to every step: [[kl|KL]] to [[dense]], at the price of a wider batch." }),
      static_row: toggleField({ label: "Compare with static",
        hint: "Adds a row that spends the same [[budget]] evenly." }),
      ...this.budget,
      ...this.advanced,
    };
    this.element = this.build();
    this.restore();
    this.element.addEventListener("input", () => this.changed());
    this.element.addEventListener("change", () => this.changed());
  }

  build() {
    this.prompt = h("textarea", { class: "sol-input sol-prompt", rows: 5,
      placeholder: "Ask something, or begin a text for the model to continue." });
    this.prompt.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.submit(event);
    });
    this.go = h("button", { type: "submit", class: "sol-button is-primary",
      title: "Ctrl + Enter in the prompt" }, "Generate");
    this.stopButton = h("button", { type: "button", class: "sol-button", disabled: true,
      onclick: () => this.on.stop() }, "Stop");
    this.error = errorLine();
    this.budgetSet = h("fieldset", { class: "sol-fieldset" }, h("legend", {}, "Budget, on average"),
      Object.values(this.budget).map((field) => field.element));
    return h("form", { class: "sol-panel sol-controls", novalidate: true, autocomplete: "off",
      onsubmit: (event) => this.submit(event) },
    labelled("Prompt", null, this.prompt),
    this.buildExamples(),
    this.fields.chat.element,
    h("div", { class: "sol-actions" }, this.go, this.stopButton),
    this.error,
    this.fields.schedule.element,
    this.budgetSet,
    this.fields.shadow.element,
    this.fields.static_row.element,
    this.buildAdvanced());
  }

  buildExamples() {
    return h("div", { class: "sol-examples", role: "group", "aria-label": "Examples" },
      this.page.examples.map((example) => h("button", {
        type: "button", class: "sol-chip", title: example.prompt,
        onclick: () => {
          this.prompt.value = example.prompt;
          this.fields.chat.set(example.chat);
          this.changed();
        },
      }, example.label)));
  }

  buildAdvanced() {
    return h("details", { class: "sol-advanced" }, h("summary", {}, "Advanced"),
      h("div", { class: "sol-advanced-grid" },
        Object.values(this.advanced).map((field) => field.element),
        h("button", { type: "button", class: "sol-chip is-wide",
          onclick: () => this.set(this.prompt.value, this.page.defaults) }, "Back to the defaults")));
  }

  settings() {
    const values = {};
    for (const [name, field] of Object.entries(this.fields)) values[name] = field.get();
    return values;
  }

  set(prompt, settings) {
    this.prompt.value = prompt;
    for (const [name, field] of Object.entries(this.fields)) {
      field.set(settings[name] ?? this.page.defaults[name]);
    }
    this.changed();
  }

  changed() {
    const isDense = this.fields.schedule.get() === "dense";
    this.budgetSet.disabled = isDense;
    this.fields.shadow.input.disabled = isDense;
    this.fields.static_row.input.disabled = isDense || this.fields.schedule.get() === "static";
    remember("settings", { prompt: this.prompt.value, ...this.settings() });
  }

  restore() {
    const saved = recall("settings");
    const { prompt, ...settings } = saved;
    this.set(typeof prompt === "string" ? prompt : this.page.examples[0].prompt,
      { ...this.page.defaults, ...settings });
  }

  send() {
    this.on.generate(this.prompt.value, this.settings());
  }
}
