// The evaluation form: which policies, against what, at which budgets, on which text.

import { chip, h, setText } from "../shared/dom.js";
import { count, modelName, whenText } from "../shared/format.js";
import { budgetsField } from "../shared/forms/budget_list.js";
import { CorpusPicker } from "../shared/forms/corpus_picker.js";
import { JobForm } from "../shared/forms/form.js";
import { checksOf, numberField, toggleField } from "../shared/forms/form_parts.js";
import { glossed } from "../shared/glossary.js";
import { roughly } from "../shared/jobs/job_list.js";
import { recall, remember } from "../shared/memory.js";

class PolicyChoice {
  constructor() {
    this.list = h("div", { class: "sol-checks" });
    this.element = h("fieldset", { class: "sol-fieldset" }, h("legend", {}, "Policies"), this.list,
      h("p", { class: "sol-hint" }, glossed("The figures show the first policy that you choose; the others appear as further lines. A policy "
        + "keeps the [[mechanisms]] and levels of its training, and all schedules use them.")));
    this.wanted = null;
    this.order = [];
    this.checks = checksOf([]);
  }

  show(policies) {
    const chosen = this.wanted ?? this.get();
    this.checks = checksOf(policies.map((one) => [one.name, one.name, policyNote(one)]));
    this.list.replaceChildren(...this.checks.rows);
    if (!policies.length) {
      this.list.append(h("p", { class: "sol-muted" }, "No policy is stored yet. Train one in the Lab."));
    }
    this.set(chosen.length ? chosen : policies.slice(0, 1).map((one) => one.name));
  }

  get() {
    const chosen = this.checks.get();
    // The order of choosing counts: the first is the one that the figures are about.
    return [...this.order.filter((name) => chosen.includes(name)),
      ...chosen.filter((name) => !this.order.includes(name))];
  }

  set(names) {
    this.wanted = this.checks.rows.length ? null : names;
    this.order = names;
    this.checks.set(names);
  }
}

function policyNote(policy) {
  if (policy.shipped) return "shipped";
  return [policy.model && modelName(policy.model), policy.created && whenText(policy.created)]
    .filter(Boolean).join(", ");
}

// Scored tokens, decisions of all methods, and the time they should take. Both passes (policies,
// then baselines) read every text densely once, for all of its windows.
function evaluationSize(values, numPolicies, paces) {
  const { texts, windows, steps, context } = values;
  const tokens = (texts ?? 0) * (windows ?? 0) * (steps ?? 0);
  const budgets = String(values.budgets).split(/[;\n]/).filter((part) => part.trim()).length;
  const methods = numPolicies * (values.sampled ? 2 : 1) + 2 + (values.random ?? 0)
    + Number(values.emc) + Number(values.dac);
  const decisions = tokens * budgets * methods;
  const read = 2 * (texts ?? 0) * ((context ?? 0) + ((windows ?? 1) - 1) * (steps ?? 0));
  const seconds = paces.start + decisions / paces.decisions + read / paces.prefillTokens;
  return { tokens, decisions, seconds };
}

export class EvaluateForm extends JobForm {
  // on: {start(request)}
  constructor(api, on, page) {
    super();
    this.api = api;
    this.on = on;
    this.page = page;
    this.policies = new PolicyChoice();
    this.fields = {
      random: numberField({ label: "Random schedules", min: 0, max: 1000,
        hint: "Per budget. The [[random|best]] one over all texts becomes a [[baseline]]. 0: none." }),
      emc: toggleField({ label: "Uncertainty (EMC)", hint: "[[emc|Spends more]] after unsure steps." }),
      dac: toggleField({ label: "Drift (DAC)", hint: "[[dac|Spends more]] where the hidden state moves." }),
      budgets: budgetsField({ label: "Budgets" }),
      texts: numberField({ label: "Texts", min: 2 }),
      windows: numberField({ label: "Windows per text", min: 1,
        hint: "[[rollout|Rollouts]] one after another; they share one full reading of the text." }),
      steps: numberField({ label: "Steps per window", min: 1 }),
      context: numberField({ label: "Context", min: 1, hint: "Tokens read in full before ([[prefill]])." }),
      seed: numberField({ label: "Seed", min: 0 }),
      sampled: toggleField({ label: "Also with sampled actions", hint: "In addition to the greedy ones." }),
      pollution: toggleField({ label: "KV pollution probe",
        hint: "How long the error of compressed keys and values [[kv pollution|lasts]]." }),
    };
    this.corpus = new CorpusPicker(api);
    this.element = this.build();
    this.restore();
  }

  build() {
    const { fields } = this;
    fields.budgets.input.rows = 3;
    this.size = h("p", { class: "sol-hint" });
    const budgets = h("div", { class: "sol-field" }, fields.budgets.element,
      h("p", { class: "sol-hint" }, "Shares of attention and MLP, and bits; separate budgets with “;”. Click a budget to set it with sliders."),
      chip("Nine across the range", () => {
        fields.budgets.set(this.page.defaults.budgets);
        this.changed();
      }, { class: "sol-chip is-start" }));
    return this.lay(this.policies.element,
      h("fieldset", { class: "sol-fieldset" }, h("legend", {}, "Baselines"),
        h("p", { class: "sol-hint" }, glossed("The [[dense|full model]] and [[static]] always run, static at the policy's own [[spend]].")),
        fields.random.element, fields.emc.element, fields.dac.element),
      budgets, this.corpus.element,
      h("div", { class: "sol-advanced-grid is-flush" }, fields.texts.element, fields.windows.element,
        fields.steps.element, fields.context.element, fields.seed.element),
      this.size, this.actions("Start evaluation"),
      h("details", { class: "sol-advanced" }, h("summary", {}, "More measurements"),
        h("div", { class: "sol-advanced-grid" }, fields.sampled.element, fields.pollution.element)));
  }

  use({ values, corpus, policies }) {
    this.setValues(values);
    this.corpus.set(corpus);
    if (policies) this.policies.set(policies);
    this.changed();
  }

  changed() {
    const now = this.values();
    this.policies.order = this.policies.get();
    const { tokens, decisions, seconds } = evaluationSize(now, this.policies.get().length, this.page.paces);
    setText(this.size, `${count(tokens, "scored token")} for every method and budget, `
      + `${count(decisions, "decision")} in all: about ${roughly(seconds)} `
      + "(estimate for the default model on two CPU cores). Gains of 0.01 nats need about 20,000 tokens.");
    remember("evaluate", { values: now, corpus: this.corpus.get(),
      policies: this.policies.get() });
  }

  restore() {
    const saved = recall("evaluate");
    this.use({ values: { ...this.page.defaults, ...saved.values },
      corpus: saved.corpus ?? { kind: "builtin", name: "" }, policies: saved.policies });
  }

  home(home) {
    this.policies.show(home.policies);
    this.allow(home.jobs_allowed && home.policies.length > 0, home.refusal);
    this.changed();
  }

  request() {
    return { values: this.values(), policies: this.policies.get(), corpus: this.corpus.get() };
  }
}
