// The form of a job: its text and the fields of its configuration. The browser keeps all of it.

import { attempt, NOTHING_LOST, sendFile } from "../shared/api.js";
import { chip, errorLine, h, optionsOf, selectOf, show, showText, SITE } from "../shared/dom.js";
import { modelName, quantity, whenText } from "../shared/format.js";
import { Form } from "../shared/forms/form.js";
import {
  checksField, choiceField, filePicker, folded, linesField, numberField, pillsField, textField, toggleField,
} from "../shared/forms/form_parts.js";
import { recall, remember } from "../shared/memory.js";

const { suffixes = [], maxUploadBytes = 0 } = SITE;
const CORPUS_KINDS = { builtin: "Built-in", upload: "Your file", hub: "Hub",
  ...(!SITE.isShared && { path: "Path" }) };
const CORPUS_MEANINGS = {
  builtin: "English prose from reading-comprehension sets; works without a network.",
  upload: "Plain text, or a table with a text column. One document in ten is held out.",
  hub: "A data set of huggingface.co, streamed while it is read: needs the network.",
  path: "A file or folder on this computer, by its full path; it is read where it lies.",
};

// Built-in text, an uploaded file, a Hub data set, a path on one's own machine.
class CorpusPicker {
  fail = (words) => showText(this.message, words);

  constructor(api) {
    this.api = api;
    this.kind = pillsField({ legend: "Text", choices: CORPUS_KINDS, meanings: CORPUS_MEANINGS });
    this.files = selectOf([], { "aria-label": "Uploaded file" });
    this.add = filePicker("Upload a file", suffixes.join(","), (file) => this.upload(file), "File to upload");
    this.drop = chip("Delete", () => this.remove(), { "aria-label": "Delete this file" });
    this.bar = h("progress", { class: "sol-progress", hidden: true, "aria-label": "Upload" });
    this.message = errorLine();
    const name = (placeholder, spoken) => h("input",
      { type: "text", class: "sol-input", spellcheck: "false", placeholder, "aria-label": spoken });
    this.names = { hub: name("owner/name or owner/name:config", "Hub data set"),
      path: name("/home/you/texts", "Path of the text") };
    this.upRow = h("div", { class: "sol-upload" }, this.files,
      h("div", { class: "sol-upload-tools" }, this.add, this.drop,
        h("span", { class: "sol-hint" }, `${suffixes.join(" ")}, up to ${maxUploadBytes / 1024 ** 2} MB`)),
      this.bar);
    this.element = h("div", { class: "sol-corpus" }, this.kind.element, this.upRow,
      Object.values(this.names), this.message);
    this.element.addEventListener("change", () => this.changed());
  }

  get() {
    const kind = this.kind.get();
    return { kind, name: kind === "upload" ? this.files.value : this.names[kind]?.value ?? "" };
  }

  set({ kind, name }) {
    this.kind.set(kind in CORPUS_KINDS ? kind : "builtin");
    if (kind in this.names) this.names[kind].value = name;
    if (kind === "upload") this.wanted = name;
    this.changed();
    this.refresh();
  }

  changed() {
    const kind = this.kind.get();
    show(this.upRow, kind === "upload");
    Object.entries(this.names).forEach(([name, input]) => show(input, name === kind));
    if (this.files.value) this.wanted = this.files.value;
  }

  // Where that fails, the list stays as it was; starting will say what is wrong.
  refresh() {
    return attempt(async () => this.list((await this.api("list_corpora", {})).files), () => {});
  }

  list(files) {
    const options = files.map((file) => [file.name, `${file.name} (${quantity(file.bytes, "B")})`]);
    this.files.replaceChildren(...optionsOf(options.length ? options : [["", "No file yet"]]));
    if (files.some((file) => file.name === this.wanted)) this.files.value = this.wanted;
    this.drop.disabled = this.files.disabled = files.length === 0;
  }

  async upload(file) {
    this.fail(null);
    show(this.bar, true);
    await attempt(async () => {
      const { name } = await sendFile("corpus", file);
      this.wanted = name;
      await this.refresh();
      this.element.dispatchEvent(new Event("change", { bubbles: true }));
    }, this.fail, "The upload broke off. Try it again.");
    show(this.bar, false);
  }

  async remove() {
    if (!this.files.value) return;
    await attempt(async () => this.list((await this.api("delete_corpus", { name: this.files.value })).files),
      this.fail);
  }
}

const BUDGETS_HINT = "One per line: 50 % attention · 70 % MLP · 8 bits, or 65 % compute";

const FIELDS = { toggle: toggleField, choice: choiceField, checks: checksField, levels: linesField,
  words: linesField, text: linesField };

function anyField({ label, help: hint, kind, choices, min, max }) {
  if (kind === "budgets") return linesField({ label, hint: BUDGETS_HINT, rows: 5 });
  if (kind in FIELDS) return FIELDS[kind]({ label, hint, choices });
  return numberField({ label, hint, min, max, step: kind === "integer" ? 1 : "any" });
}

// Policies to choose; of several, the first that is ticked is the one that the figures are about.
function policyField(most) {
  const field = checksField({ label: most > 1 ? "Policies" : "Policy", choices: {}, isOne: most === 1,
    isRanked: true, hint: (most > 1 ? "The figures show the first that you choose. " : "")
      + "The [[dense|full model]] and [[static]] always run, static at the policy's own [[spend]]." });
  const offer = (policies) => {
    const names = policies.map((policy) => policy.name);
    const choices = policies.map((policy) => [policy.name, `${policy.name}: ${policyNote(policy)}`]);
    field.offer(Object.fromEntries(choices));
    const known = field.get().filter((name) => names.includes(name));
    field.set(known.length ? known : names.slice(0, 1));
  };
  return { ...field, offer };
}

const policyNote = ({ shipped, model, created }) => (shipped ? "shipped"
  : [model && modelName(model), created && whenText(created)].filter(Boolean).join(", "));

export class LabForm extends Form {
  /** What Python says of this kind of job. @type {any} */
  page;
  refused = h("p", { class: "sol-message is-warn", hidden: true });

  constructor(api, on, page, go) {
    super();
    this.on = on;
    this.page = page;
    this.fields = Object.fromEntries(page.groups.flatMap((group) => group.fields)
      .map((spec) => [spec.name, anyField(spec)]));
    const ofPresets = (name) => Object.fromEntries(page.presets.map((preset) => [preset.key, preset[name]]));
    this.preset = pillsField({ legend: "Preset", choices: ofPresets("label"),
      meanings: ofPresets("meaning") });
    this.policies = page.mostPolicies ? policyField(page.mostPolicies) : null;
    this.name = textField({ label: "Name of the policy", maxLength: page.maxNameLength,
      hint: "It appears in Explore and Evaluate under this name." });
    this.taken = [];
    this.nameProblem = errorLine();
    this.name.element.append(this.nameProblem);
    this.corpus = page.hasCorpus ? new CorpusPicker(api) : null;
    this.element = this.build(go);
    this.restore();
    this.preset.element.addEventListener("change", () => this.usePreset());
  }

  build(words) {
    this.go = this.makeGo(words, { disabled: true });
    this.changes = h("p", { class: "sol-hint sol-changes", hidden: true });
    this.back = chip("Back to the preset", () => this.usePreset(), { hidden: true });
    const groups = this.page.groups.map((group) => h("fieldset", { class: "sol-group" },
      this.page.groups.length > 1 && h("legend", {}, group.title),
      group.help && h("p", { class: "sol-hint" }, `${group.help}.`),
      h("div", { class: "sol-advanced-grid" }, group.fields.map((spec) => this.fields[spec.name].element))));
    const isLong = groups.length > 1;
    const { presets: [only, ...others] } = this.page;
    return this.lay(others.length > 0 && this.preset.element,
      h("div", { class: "sol-changes-row" }, this.changes, this.back),
      this.policies?.element ?? this.name.element, this.corpus?.element, !isLong && groups,
      this.refused, h("div", { class: "sol-actions is-single" }, this.go),
      !others.length && h("p", { class: "sol-hint" }, only.meaning), this.error,
      isLong && folded("Advanced", groups));
  }

  use({ values, corpus, name, policies }) {
    this.setValues(values);
    this.corpus?.set(corpus);
    this.policies?.set(policies.filter(Boolean));
    this.name.set(this.suggested ?? name);
    this.changed();
  }

  chosen() {
    return this.page.presets.find((preset) => preset.key === this.preset.get()) ?? this.page.presets[0];
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
    showText(this.nameProblem, isTaken ? `The name ${name} is in use. ${this.suggested} is free.` : null);
  }

  wrong() {
    if (this.policies || this.nameProblem.hidden) return null;
    return { check: () => true, box: this.name.input }; // said beside it
  }

  changed() {
    this.checkName();
    const { label, values } = this.chosen();
    const now = this.values();
    const differ = Object.keys(now).filter((name) => String(now[name]) !== String(values[name]));
    showText(this.changes, differ.length ? `Changed from ${label}: ${differ.slice(0, 3).join(", ")}`
      + (differ.length > 3 ? ` and ${differ.length - 3} more.` : ".") : "");
    show(this.back, differ.length > 0);
    remember(this.page.kind, { preset: this.preset.get(), name: this.name.get(), corpus: this.corpus?.get(),
      policies: this.policies?.get(), values: now });
  }

  restore() {
    const { preset, values, corpus, name, policies } = recall(this.page.kind);
    this.preset.set(this.page.defaultPreset);
    this.preset.set(preset);
    this.use({ values: { ...this.chosen().values, ...values },
      corpus: corpus ?? { kind: "builtin", name: "" },
      name: typeof name === "string" ? name : "", policies: Array.isArray(policies) ? policies : [] });
  }

  home(home) {
    this.suggested = home.suggested_name;
    this.taken = home.taken_names;
    if (!this.name.get()) this.name.set(home.suggested_name);
    this.policies?.offer(home.policies);
    this.changed();
    const isEmpty = this.policies !== null && home.policies.length === 0;
    this.allowed = home.jobs_allowed && !isEmpty;
    this.go.disabled = !this.allowed;
    showText(this.refused, home.refusal || (isEmpty && "No policy is stored yet. Train one in the Lab."));
  }

  async send() {
    this.go.disabled = true;
    await attempt(async () => {
      await this.on.start({ values: this.values(), name: this.name.get(), corpus: this.corpus?.get(),
        policies: this.policies?.get() });
      this.name.set("");
    }, this.fail, NOTHING_LOST);
    this.go.disabled = !this.allowed;
  }
}
