// The training form: preset, name, text, an estimate, and every field under Advanced. The browser
// keeps all of it.

import { chip, h, setText, show } from "../shared/dom.js";
import { MISSING } from "../shared/format.js";
import { CorpusPicker } from "../shared/forms/corpus_picker.js";
import { JobForm } from "../shared/forms/form.js";
import { choiceField, linesField, numberField, pillsField, textField, toggleField } from "../shared/forms/form_parts.js";
import { roughly } from "../shared/jobs/job_list.js";
import { recall, remember } from "../shared/memory.js";
import { errorLine, showText } from "../shared/message.js";

function anyField({ label, help: hint, kind, choices }) {
  if (kind === "toggle") return toggleField({ label, hint });
  if (kind === "choice") return choiceField({ label, hint, choices });
  if (kind === "levels" || kind === "text") return linesField({ label, hint });
  return numberField({ label, hint, step: kind === "integer" ? 1 : "any" });
}

// Duration and memory, before anything is started.
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
    const ofPresets = (name) => Object.fromEntries(page.presets.map((one) => [one.key, one[name]]));
    this.preset = pillsField({ legend: "Preset", choices: ofPresets("label"), meanings: ofPresets("meaning") });
    this.name = textField({ label: "Name of the policy", maxLength: page.maxNameLength,
      hint: "It appears in Explore and Evaluate under this name." });
    this.taken = [];
    this.nameProblem = errorLine();
    this.name.element.append(this.nameProblem);
    this.corpus = new CorpusPicker(api);
    this.estimate = new EstimateView();
    this.element = this.build();
    this.restore();
    this.preset.element.addEventListener("change", () => this.usePreset());
    this.askEstimate();
  }

  build() {
    this.changes = h("p", { class: "sol-hint sol-changes", hidden: true });
    this.back = chip("Back to the preset", () => this.usePreset(), { hidden: true });
    return this.lay(this.preset.element,
      h("div", { class: "sol-changes-row" }, this.changes, this.back),
      this.name.element, this.corpus.element, this.estimate.element,
      this.actions("Start training"), this.buildAdvanced());
  }

  buildAdvanced() {
    return h("details", { class: "sol-advanced" }, h("summary", {}, "Advanced"),
      this.page.groups.map((group) => h("fieldset", { class: "sol-group" },
        h("legend", {}, group.title), group.help && h("p", { class: "sol-hint" }, `${group.help}.`),
        h("div", { class: "sol-advanced-grid" },
          group.fields.map((spec) => this.fields[spec.name].element)))));
  }

  // Settings of a job, back in the form.
  use({ values, corpus, name }) {
    this.setValues(values);
    this.corpus.set(corpus);
    this.name.set(this.suggested ?? name);
    this.changed();
  }

  chosen() {
    return this.page.presets.find((one) => one.key === this.preset.get()) ?? this.page.presets[0];
  }

  usePreset() {
    this.setValues(this.chosen().values);
    this.changed();
  }

  // A name that another policy or training has: said as it is typed.
  checkName() {
    const name = this.name.get().trim();
    const isTaken = this.taken.includes(name.toLowerCase());
    this.name.input.setAttribute("aria-invalid", String(isTaken));
    if (!isTaken && !this.nameProblem.hidden) this.fail(null); // what sending it had said
    showText(this.nameProblem, isTaken ? `The name ${name} is in use. ${this.suggested} is free.` : null);
  }

  wrong() {
    return this.nameProblem.hidden ? null : { problem: () => this.nameProblem.textContent, box: this.name.input };
  }

  changed() {
    this.checkName();
    const { label, values } = this.chosen();
    const now = this.values();
    const differ = Object.keys(now).filter((name) => now[name] !== values[name]);
    setText(this.changes, differ.length ? `Changed from ${label}: ${differ.slice(0, 3).join(", ")}`
      + (differ.length > 3 ? ` and ${differ.length - 3} more.` : ".") : "");
    show(this.changes, differ.length > 0);
    show(this.back, differ.length > 0);
    remember("train", { preset: this.preset.get(), name: this.name.get(),
      corpus: this.corpus.get(), values: now });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.askEstimate(), 250);
  }

  restore() {
    const saved = recall("train");
    this.preset.set(this.page.defaultPreset);
    this.preset.set(saved.preset);
    this.setValues({ ...this.chosen().values, ...saved.values });
    if (typeof saved.name === "string") this.name.set(saved.name);
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
    this.taken = home.taken_names;
    if (!this.name.get()) this.name.set(home.suggested_name);
    this.checkName();
    this.allow(home.jobs_allowed, home.jobs_allowed ? "" : home.refusal);
  }

  request() {
    return { values: this.values(), name: this.name.get(), corpus: this.corpus.get() };
  }

  sent() {
    this.name.set("");
  }
}
