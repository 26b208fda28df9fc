// The training form: a preset, a name, the text, an estimate, Start; every field under Advanced.
// What is typed is kept in the browser.

import { h, setText, show } from "../shared/dom.js";
import { MISSING } from "../shared/format.js";
import { CorpusPicker } from "../shared/forms/corpus_picker.js";
import { JobForm } from "../shared/forms/form.js";
import { choiceField, labelled, numberField, pillsField } from "../shared/forms/form_parts.js";
import { roughly } from "../shared/jobs/job_list.js";
import { recall, remember } from "../shared/memory.js";
import { errorLine, showText } from "../shared/message.js";

function anyField(spec) {
  const options = { label: spec.label, hint: spec.help };
  if (spec.kind === "choice") return choiceField({ ...options, choices: spec.choices });
  if (["levels", "text"].includes(spec.kind)) return levelsField(options);
  const field = numberField({ ...options, step: spec.kind === "integer" ? 1 : "any" });
  return {
    ...field,
    get: () => (Number.isNaN(field.input.valueAsNumber) ? null : field.input.valueAsNumber),
    set: (value) => { field.input.value = value ?? ""; },
  };
}

function levelsField({ label, hint }) {
  const input = h("textarea", { class: "sol-input", rows: 2, spellcheck: "false" });
  return {
    element: labelled(label, hint, input, "is-wide"), input,
    get: () => input.value, set: (value) => { input.value = value; },
  };
}

// How long and how much memory, before anything is started.
class EstimateView {
  constructor() {
    this.time = h("dd", {}, MISSING);
    this.memory = h("dd", {}, MISSING);
    this.phases = h("div", { class: "sol-phases", "aria-hidden": "true" });
    this.keys = h("p", { class: "sol-phase-keys sol-hint" });
    this.problem = h("p", { class: "sol-message is-bad", role: "status", hidden: true });
    this.body = h("div", { class: "sol-estimate-body" },
      h("dl", {}, h("div", {}, h("dt", {}, "Duration"), this.time),
        h("div", {}, h("dt", {}, "Memory"), this.memory)),
      this.phases, this.keys,
      h("p", { class: "sol-hint" }, "Estimate for the default model on two CPU cores. A running "
        + "job reports its own time left."));
    this.element = h("section", { class: "sol-estimate", "aria-label": "Estimate" },
      h("h2", {}, "Estimate"), this.problem, this.body);
  }

  show(answer) {
    showText(this.problem, answer.problem);
    show(this.body, !answer.problem);
    if (answer.problem) return;
    setText(this.time, `≈ ${roughly(answer.seconds)}`);
    setText(this.memory, `≈ ${(answer.memory_mb / 1000).toFixed(1)} GB`);
    this.phases.replaceChildren(...answer.phases.map(([, seconds], at) =>
      h("i", { "data-at": at, "--v": seconds / answer.seconds })));
    this.keys.replaceChildren(...answer.phases.map(([name, seconds], at) =>
      h("span", {}, h("i", { "data-at": at, "aria-hidden": "true" }), `${name} ${roughly(seconds)}`)),
    ...(answer.limited ? [h("span", {}, "cut by the time limit")] : []));
  }
}

export class TrainForm extends JobForm {
  // on: {start(request)}
  constructor(api, on, page) {
    super();
    this.api = api;
    this.on = on;
    this.page = page;
    this.fields = {};
    for (const group of this.page.groups) {
      for (const spec of group.fields) this.fields[spec.name] = anyField(spec);
    }
    this.preset = pillsField({ legend: "Preset", choices: Object.fromEntries(
      this.page.presets.map((one) => [one.key, one.label])), meanings: Object.fromEntries(
      this.page.presets.map((one) => [one.key, one.meaning])) });
    this.name = h("input", { type: "text", class: "sol-input", spellcheck: "false",
      maxlength: this.page.maxNameLength });
    this.corpus = new CorpusPicker(api);
    this.estimate = new EstimateView();
    this.element = this.build();
    this.restore();
    this.preset.element.addEventListener("change", () => this.usePreset());
    this.element.addEventListener("input", () => this.changed());
    this.element.addEventListener("change", () => this.changed());
    this.askEstimate();
  }

  build() {
    this.go = h("button", { type: "submit", class: "sol-button is-primary", disabled: true },
      "Start training");
    this.error = errorLine();
    this.refused = h("p", { class: "sol-message is-warn", hidden: true });
    this.changes = h("p", { class: "sol-hint sol-changes", hidden: true });
    this.back = h("button", { type: "button", class: "sol-chip", hidden: true,
      onclick: () => this.usePreset() }, "Back to the preset");
    return h("form", { class: "sol-panel sol-controls", novalidate: true, autocomplete: "off",
      onsubmit: (event) => this.submit(event) },
    this.preset.element,
    h("div", { class: "sol-changes-row" }, this.changes, this.back),
    labelled("Name of the policy", "It appears in Explore and Evaluate under this name.", this.name),
    this.corpus.element, this.estimate.element, this.refused,
    h("div", { class: "sol-actions is-single" }, this.go), this.error, this.buildAdvanced());
  }

  buildAdvanced() {
    return h("details", { class: "sol-advanced" }, h("summary", {}, "Advanced"),
      this.page.groups.map((group) => h("fieldset", { class: "sol-group" },
        h("legend", {}, group.title), group.help && h("p", { class: "sol-hint" }, `${group.help}.`),
        h("div", { class: "sol-advanced-grid" },
          group.fields.map((spec) => this.fields[spec.name].element)))));
  }

  values() {
    return Object.fromEntries(Object.entries(this.fields).map(([name, one]) => [name, one.get()]));
  }

  // Settings of a job, back in the form.
  use({ values, corpus, name }) {
    this.setValues(values);
    this.corpus.set(corpus);
    this.name.value = this.suggested ?? name;
    this.changed();
  }

  chosen() {
    return this.page.presets.find((one) => one.key === this.preset.get()) ?? this.page.presets[0];
  }

  usePreset() {
    this.setValues(this.chosen().values);
    this.changed();
  }

  changed() {
    const { label, values } = this.chosen();
    const now = this.values();
    const differ = Object.keys(now).filter((name) => now[name] !== values[name]);
    setText(this.changes, differ.length ? `Changed from ${label}: ${differ.slice(0, 3).join(", ")}`
      + (differ.length > 3 ? ` and ${differ.length - 3} more.` : ".") : "");
    show(this.changes, differ.length > 0);
    show(this.back, differ.length > 0);
    remember("train", { preset: this.preset.get(), name: this.name.value,
      corpus: this.corpus.get(), values: now });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.askEstimate(), 250);
  }

  restore() {
    const saved = recall("train");
    this.preset.set(this.page.defaultPreset);
    this.preset.set(saved.preset);
    this.setValues({ ...this.chosen().values, ...saved.values });
    if (typeof saved.name === "string") this.name.value = saved.name;
    if (saved.corpus) this.corpus.set(saved.corpus);
    this.changed();
  }

  async askEstimate() {
    const turn = this.turn = (this.turn ?? 0) + 1;
    try {
      const answer = await this.api("estimate_training", { values: this.values() });
      if (turn === this.turn) this.estimate.show(answer);
    } catch {
      // The estimate stays as it was; starting says what is wrong.
    }
  }

  home(home) {
    this.suggested = home.suggested_name;
    if (!this.name.value) this.name.value = home.suggested_name;
    this.allow(home.jobs_allowed, home.jobs_allowed ? "" : home.refusal);
  }

  request() {
    return { values: this.values(), name: this.name.value, corpus: this.corpus.get() };
  }

  sent() {
    this.name.value = "";
  }
}
