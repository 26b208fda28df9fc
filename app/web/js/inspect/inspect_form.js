// The form at the side: a text, and schedules at one budget. The browser keeps all of it.

import { attempt } from "../shared/api.js";
import { glossed, h, optionsOf, selectOf, setText, show } from "../shared/dom.js";
import { count } from "../shared/format.js";
import { RunForm } from "../shared/forms/form.js";
import {
  elementsOf, exampleChips, fieldset, folded, labelled, numberField, pillsField, promptField, runOptions,
  textFilePicker,
} from "../shared/forms/form_parts.js";
import { BudgetDial, stepFields } from "../shared/forms/compute_fields.js";
import { recall, remember } from "../shared/memory.js";
import { rowName } from "./inspect_rows.js";

const TEXT_SOURCES = { text: "A text", run: "A saved run" };
const FIXED = ["static", "random", "emc", "dac"];

export class InspectForm extends RunForm {
  constructor(page, on) {
    super();
    this.page = page;
    this.on = on;
    this.dial = new BudgetDial(page.defaults, () => on.estimate(this.values(), this.text.value),
      () => this.changed(), false);
    this.source = pillsField({ legend: "What to inspect", choices: TEXT_SOURCES });
    this.schedules = page.defaults.schedules.map((_, at) =>
      selectOf([], { "aria-label": `Schedule ${at + 1}` }));
    this.advanced = {
      max_tokens: numberField({ label: "Tokens at most", min: 2, max: this.page.maxTokens,
        hint: "What comes later in the text is left out." }),
      ...stepFields("Of the random schedule."),
    };
    this.policies = [];
    this.fields = { share: this.dial.field, ...this.dial.fields, ...this.advanced };
    this.element = this.build();
    this.element.setAttribute("aria-label", "Inspection");
    this.restore();
  }

  build() {
    const field = promptField(this, { label: "Text", rows: 9, spellcheck: "false",
      placeholder: "Paste any text: prose, code, a table. Or drop a file here." });
    this.text = field.input;
    this.counted = h("span", { class: "sol-hint" });
    const picker = textFilePicker(this, this.text, this.page.maxCharacters, (text) => this.useText(text));
    this.textPart = h("div", { class: "sol-inspect-source" }, field.element,
      h("div", { class: "sol-text-file" }, picker, this.counted),
      exampleChips(this.page.examples, ({ prompt }) => this.useText(prompt)));
    this.run = selectOf([]);
    this.runPart = h("div", { class: "sol-inspect-source" },
      labelled("Saved run", "Its generated tokens are scored; its prompt is read in full.", this.run));
    return this.lay(this.source.element, this.textPart, this.runPart, this.actions("Inspect"),
      fieldset("Schedules, side by side", h("p", { class: "sol-hint" },
        glossed("The [[dense|full model]] always runs beside them as the reference.")), this.schedules),
      fieldset("One budget for all, on average", h("p", { class: "sol-hint" },
        "It applies from the first token. Early on there is little attention to skip, so the cuts fall on "
        + "the MLP. In Explore the prompt is read in full first."), this.dial.element),
      folded("Advanced", h("div", { class: "sol-advanced-grid" }, elementsOf(this.advanced))));
  }

  settings() {
    return { schedules: this.schedules.map((select) => select.value), ...this.values() };
  }

  set(settings) {
    this.setValues(settings, this.page.defaults);
    const chosen = Array.isArray(settings.schedules) ? settings.schedules : this.page.defaults.schedules;
    this.schedules.forEach((select, at) => this.offer(select, String(chosen[at] ?? "")));
  }

  reuse(run) {
    if (!run.config.generated.length) {
      this.text.value = run.prompt;
      this.source.set("text");
    }
    this.set(run.settings);
    this.changed();
  }

  // The choices of one schedule, the chosen one kept even if its policy is not stored any more.
  offer(select, chosen) {
    const known = [...FIXED, ...this.policies.map((name) => `policy:${name}`)];
    const names = [...new Set([...known, chosen].filter(Boolean))];
    const isFirst = select === this.schedules[0];
    const options = names.map((name) => [name, rowName(name)]);
    select.replaceChildren(...optionsOf(isFirst ? options : [["", "None"], ...options]));
    select.value = chosen || (isFirst ? FIXED[0] : "");
  }

  changed() {
    const isRun = this.source.get() === "run";
    show(this.textPart, !isRun);
    show(this.runPart, isRun);
    this.dial.follow(this.text.value);
    setText(this.counted, this.text.value ? count(Array.from(this.text.value).length, "character") : "");
    remember("inspect",
      { source: this.source.get(), text: this.text.value, ...this.settings(), ...this.kept() });
  }

  restore() {
    const { source, text, ...settings } = recall("inspect");
    this.source.set(source in TEXT_SOURCES ? source : "text");
    this.text.value = typeof text === "string" ? text : "";
    this.set(settings);
    this.changed();
  }

  // Where that fails, the choices stay as they were; starting says what is wrong.
  update() {
    return attempt(async () => {
      const [policies, runs] = await Promise.all([this.on.policies(), this.on.runs()]);
      this.policies = policies;
      this.schedules.forEach((select) => this.offer(select, select.value));
      const chosen = this.wantedRun ?? this.run.value;
      this.run.replaceChildren(...runOptions(runs));
      if (runs.some((run) => run.id === chosen)) this.run.value = chosen;
      this.wantedRun = null;
    }, () => {});
  }

  useRun(runId) {
    this.wantedRun = runId;
    this.source.set("run");
    this.changed();
    return this.update();
  }

  useText(text) {
    this.text.value = text;
    this.source.set("text");
    this.changed();
  }

  send() {
    const isRun = this.source.get() === "run";
    if (isRun && !this.run.value) return this.fail("Choose a saved run.");
    this.dial.sent = this.text.value;
    this.on.start({ settings: this.settings(),
      ...(isRun ? { run_id: this.run.value } : { text: this.text.value }) });
  }
}
