// The form of a challenge: a text, how many of its tokens to paint, the policy, the budget it is
// asked for.

import { h, optionsOf, selectOf, setText } from "../shared/dom.js";
import { AXES, formNumbers } from "../shared/format.js";
import { firstWrong, Form } from "../shared/forms/form.js";
import { labelled, numberField, pillsField } from "../shared/forms/form_parts.js";
import { budgetFields } from "../shared/forms/schedule_field.js";

const OWN_TEXT = "own";
const DAILY = "daily";
const DAY_MS = 86_400_000;

// The text of a day is the same for everybody: days since 1970, of the visitor's calendar, go round the list.
function dailyText(texts, day = new Date()) {
  const number = Date.UTC(day.getFullYear(), day.getMonth(), day.getDate()) / DAY_MS;
  return texts[number % texts.length];
}

const dayText = () => new Date().toLocaleDateString("en", { day: "numeric", month: "long", year: "numeric" });

export class ChallengeForm extends Form {
  // on: {begin(request), policies() → names}
  constructor(page, on) {
    super();
    this.page = page;
    this.on = on;
    const choices = Object.fromEntries(this.page.texts.map((one, at) => [at, one.label]));
    this.choice = pillsField({ legend: "Text", choices: { [DAILY]: "Text of the day", ...choices, [OWN_TEXT]: "Your own" } });
    this.text = h("textarea", { class: "sol-input", rows: 6, placeholder: "Paste a text of a few "
      + "sentences. Its last tokens are painted, the ones before are read densely." });
    this.text.addEventListener("input", () => this.choice.set(OWN_TEXT));
    const [least, most] = this.page.steps;
    this.steps = numberField({ label: "Tokens to paint", min: least, max: most,
      hint: `The last ${least} to ${most} of the text.` });
    this.policy = selectOf([], { onpointerdown: () => this.update() });
    this.budget = budgetFields();
    this.go = this.makeGo("Begin");
    this.element = this.lay(this.choice.element, labelled("Its words", null, this.text), this.steps.element,
      h("div", { class: "sol-actions is-single" }, this.go), this.error,
      labelled("Policy to beat", null, this.policy),
      h("fieldset", { class: "sol-fieldset" }, h("legend", {}, "Budget asked of the policy"),
        h("p", { class: "sol-hint" }, "What it then really spends is your budget, and everybody else's."),
        Object.values(this.budget).map((field) => field.element)));
    this.choice.element.addEventListener("change", () => this.fill());
    this.set({ text: dailyText(this.page.daily), steps: this.page.defaultSteps, budget: this.page.defaultBudget });
    this.update();
  }

  async update() {
    try {
      const { policies } = await this.on.policies();
      const chosen = this.wanted ?? this.policy.value;
      const names = this.wanted && !policies.includes(chosen) ? [...policies, chosen] : policies;
      this.policy.replaceChildren(...optionsOf(names));
      if (names.includes(chosen)) this.policy.value = chosen;
    } catch {
      // The names stay as they were; setting up says what is wrong.
    }
  }

  fill() {
    const chosen = this.choice.get();
    if (chosen === DAILY) this.text.value = dailyText(this.page.daily);
    else if (chosen !== OWN_TEXT) this.text.value = this.page.texts[chosen].text;
    else {
      this.text.focus();
      this.text.select();
    }
  }

  // What a result on this text is called, without saying the text.
  titleOf(text) {
    if (text === dailyText(this.page.daily)) return `Text of the day, ${dayText()}`;
    return this.page.texts.find((one) => one.text === text)?.label ?? "";
  }

  set({ text, steps, budget, policy = "" }) {
    const known = this.page.texts.findIndex((one) => one.text === text);
    this.choice.set(text === dailyText(this.page.daily) ? DAILY : known < 0 ? OWN_TEXT : String(known));
    this.text.value = text;
    this.steps.set(steps);
    for (const [name, value] of Object.entries(formNumbers(budget))) this.budget[name].set(value);
    this.wanted = policy || this.wanted;
    if (policy) this.update();
  }

  wrong() {
    return firstWrong([this.steps, ...Object.values(this.budget)]);
  }

  send() {
    this.on.begin({ text: this.text.value, steps: this.steps.get(), policy: this.policy.value,
      budget: AXES.map(({ short, scale }) => this.budget[short].get() / scale) });
  }

  setBusy(busy) {
    this.go.disabled = busy;
    setText(this.go, busy ? "The policy plays…" : "Begin");
  }
}
