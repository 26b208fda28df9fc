// The benchmark form: which policy, which tasks, how many questions, at which budgets.

class TaskChoice {
  constructor() {
    this.inputs = PAGE.tasks.map((one) => h("input", { type: "checkbox", value: one.name }));
    this.element = h("fieldset", { class: "sol-fieldset" }, h("legend", {}, "Tasks"),
      h("div", { class: "sol-checks" }, PAGE.tasks.map((one, at) =>
        h("label", { class: "sol-check" }, this.inputs[at],
          h("span", {}, one.label, h("small", { class: "sol-muted" }, ` ${one.meaning}`))))));
  }

  get() {
    return this.inputs.filter((one) => one.checked).map((one) => one.value);
  }

  set(names) {
    this.inputs.forEach((one) => { one.checked = names.includes(one.value); });
  }
}

class BenchmarkForm {
  // on: {start(request)}
  constructor(on) {
    this.on = on;
    this.tasks = new TaskChoice();
    this.policy = h("select", { class: "sol-input" });
    this.fields = {
      tasks: this.tasks,
      limit: numberField({ label: "Questions of each task", min: 2,
        hint: "At most; drawn by the seed. An accuracy of 500 questions is known to about 4 points." }),
      budgets: linesField({ label: "Budgets",
        hint: "keep, channels, bits; one budget after another with “;” between them." }),
      seed: numberField({ label: "Seed", min: 0 }),
    };
    this.element = this.build();
    this.restore();
    this.element.addEventListener("input", () => this.remember());
    this.element.addEventListener("change", () => this.remember());
  }

  build() {
    const { fields } = this;
    this.start = h("button", { type: "submit", class: "sol-button is-primary", disabled: true },
      "Start benchmark");
    this.error = h("p", { class: "sol-message is-bad", role: "alert", hidden: true });
    this.refused = h("p", { class: "sol-message is-warn", hidden: true });
    return h("form", { class: "sol-panel sol-controls", novalidate: true, autocomplete: "off",
      onsubmit: (event) => this.submit(event) },
    labelled("Policy", "Dense and static are always beside it, static at the policy's own spend.",
      this.policy),
    this.tasks.element, fields.limit.element, fields.budgets.element, fields.seed.element,
    h("p", { class: "sol-hint" }, "Questions are read densely; every token of every answer is one "
      + "compressed step. Six tasks of 500 questions at three budgets take about half an hour on "
      + "two CPU cores (estimate for the default model)."),
    this.refused, h("div", { class: "sol-actions is-single" }, this.start), this.error);
  }

  values() {
    return Object.fromEntries(Object.entries(this.fields).map(([name, one]) => {
      const value = one.get();
      return [name, Number.isNaN(value) ? null : value];
    }));
  }

  use({ values, policy }) {
    for (const [name, one] of Object.entries(this.fields)) if (name in values) one.set(values[name]);
    if (policy) this.wanted = policy;
    if ([...this.policy.options].some((one) => one.value === policy)) this.policy.value = policy;
    this.remember();
  }

  remember() {
    memory.set("benchmark", JSON.stringify({ values: this.values(),
      policy: this.policy.value || this.wanted }));
  }

  restore() {
    let saved = {};
    try {
      saved = JSON.parse(memory.get("benchmark")) || {};
    } catch {
      // Unreadable settings of an older release: begin with the defaults.
    }
    this.use({ values: { ...PAGE.defaults, ...saved.values }, policy: saved.policy });
  }

  home(home) {
    const chosen = this.policy.value || this.wanted;
    this.policy.replaceChildren(...home.policies.map((one) =>
      h("option", { value: one.name }, one.name)));
    if (home.policies.some((one) => one.name === chosen)) this.policy.value = chosen;
    this.allowed = home.jobs_allowed && home.policies.length > 0;
    this.start.disabled = !this.allowed;
    const reason = home.refusal
      || (home.policies.length ? "" : "No policy is stored yet. Train one in the Train tab.");
    setText(this.refused, reason);
    show(this.refused, Boolean(reason));
  }

  async submit(event) {
    event.preventDefault();
    if (this.start.disabled) return;
    this.fail(null);
    this.start.disabled = true;
    try {
      await this.on.start({ values: this.values(), policy: this.policy.value });
    } catch (error) {
      this.fail(error.refused ? error.message
        : "The server does not answer. Nothing you typed is lost; try again in a moment.");
    }
    this.start.disabled = !this.allowed;
  }

  fail(message) {
    setText(this.error, message || "");
    show(this.error, Boolean(message));
  }
}
