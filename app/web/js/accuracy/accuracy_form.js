// The accuracy form: which policy, which tasks, how many questions, at which budgets.

import { h, optionsOf, selectOf } from "../shared/dom.js";
import { budgetsField } from "../shared/forms/budget_list.js";
import { JobForm } from "../shared/forms/form.js";
import { checksOf, labelled, numberField, toggleField } from "../shared/forms/form_parts.js";
import { glossed } from "../shared/glossary.js";
import { recall, remember } from "../shared/memory.js";

export class AccuracyForm extends JobForm {
  // on: {start(request)}
  constructor(on, page) {
    super();
    this.on = on;
    this.page = page;
    this.tasks = checksOf(page.tasks.map((one) => [one.name, one.label, one.meaning]));
    this.policy = selectOf([]);
    this.fields = {
      tasks: this.tasks,
      limit: numberField({ label: "Questions of each task", min: 2,
        hint: "At most; the seed draws them. With 500 questions an accuracy is known to about 4 points." }),
      budgets: budgetsField({ label: "Budgets",
        hint: "Shares of attention and MLP, and bits; separate budgets with “;”. Click a budget to set it with sliders." }),
      with_paper: toggleField({ label: "Compare the paper's mechanisms",
        hint: "Static with Quest's pages, and pruning at the MLP's input only. It reads as many bytes as static on the policy's grid." }),
      seed: numberField({ label: "Seed", min: 0 }),
    };
    this.element = this.build();
    this.restore();
  }

  build() {
    const { tasks, ...fields } = this.fields;
    return this.lay(
      labelled("Policy", "The full model and static always run beside it, static at the policy's own spend. All use the "
        + "[[mechanisms]] and levels that the policy was trained on.", this.policy),
      h("fieldset", { class: "sol-fieldset" }, h("legend", {}, "Tasks"), h("div", { class: "sol-checks" }, this.tasks.rows)),
      Object.values(fields).map((one) => one.element),
      h("p", { class: "sol-hint" }, glossed("Questions are [[dense|read in full]]; every token of every answer is one "
        + "compressed step. Answers are compared by log-likelihood per byte.")),
      this.actions("Measure accuracy"));
  }

  use({ values, policy }) {
    this.setValues(values);
    if (policy) this.wanted = policy;
    if ([...this.policy.options].some((one) => one.value === policy)) this.policy.value = policy;
    this.changed();
  }

  changed() {
    remember("accuracy", { values: this.values(),
      policy: this.policy.value || this.wanted });
  }

  restore() {
    const saved = { ...recall("benchmark"), ...recall("accuracy") }; // the first: of releases that said so
    this.use({ values: { ...this.page.defaults, ...saved.values }, policy: saved.policy });
  }

  home(home) {
    const chosen = this.policy.value || this.wanted;
    this.policy.replaceChildren(...optionsOf(home.policies.map((one) => one.name)));
    if (home.policies.some((one) => one.name === chosen)) this.policy.value = chosen;
    const isEmpty = home.policies.length === 0;
    this.allow(home.jobs_allowed && !isEmpty,
      home.refusal || (isEmpty && "No policy is stored yet. Train one in the Lab."));
  }

  request() {
    return { values: this.values(), policy: this.policy.value };
  }
}
