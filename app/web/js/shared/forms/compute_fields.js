// Fields for a step's compute: schedule, as a kind or "policy:NAME", mechanisms, budget.

import { attempt, newest } from "../api.js";
import { glossed, h, optionsOf, selectOf, setText, show, SITE } from "../dom.js";
import { AXES, MECHANISMS, percent, spendText, ZONE_TOKENS, ZONES_RIGHT } from "../format.js";
import { keptOpen } from "../memory.js";
import {
  choiceField, elementsOf, labelledRange, numberField, pillsField, sliderField,
} from "./form_parts.js";

export const POLICY_PREFIX = "policy:";
const MEANINGS = {
  policy: "A trained [[policy]]:",
  dense: "[[dense|Every step]] spends everything: the unchanged model.",
  static: "[[static|Every step]] gets the same [[mix]]; where no single mix meets the budget, two alternate.",
  random: "[[random|Steps differ]] at random around the [[budget]]; same seed, same steps.",
  emc: "[[emc|Spends more]] where the previous step was unsure, and still meets the budget.",
  dac: "[[dac|Spends more]] where the hidden state moves fast, and still meets the budget.",
};

export function scheduleField(askNames) {
  const pills = pillsField({ legend: "Schedule", choices: SITE.schedules, meanings: MEANINGS });
  const select = selectOf([], { "aria-label": "Policy" });
  pills.element.append(select);
  let names = [];
  let wanted = "";

  function refresh() {
    const options = !wanted || names.includes(wanted) ? names : [...names, wanted];
    select.replaceChildren(...optionsOf(options.length ? options.map((name) =>
      [name, asked && !names.includes(name) ? `${name} (not stored)` : name])
      : [["", asked ? "No policy is stored yet. Train one in the Lab." : "Loading…"]]));
    select.value = options.includes(wanted) ? wanted : options[0] ?? "";
    show(select, pills.get() === "policy");
    if (pills.get() === "policy" && !asked) update();
  }

  let asked = false;
  // Where that fails, the names stay as they were; starting says what is wrong.
  function update() {
    asked = true;
    return attempt(async () => {
      names = await askNames();
      refresh();
    }, () => { asked = false; });
  }

  pills.element.addEventListener("change", (event) => {
    if (event.target === select) wanted = select.value;
    refresh();
  });
  select.addEventListener("pointerdown", update);
  return {
    element: pills.element, update,
    get: () => (pills.get() === "policy" ? POLICY_PREFIX + select.value : pills.get()),
    set: (chosen) => {
      const value = String(chosen);
      if (value.startsWith(POLICY_PREFIX)) wanted = value.slice(POLICY_PREFIX.length);
      pills.set(value.startsWith(POLICY_PREFIX) ? "policy" : value);
      refresh();
    },
  };
}

export const mechanismsField = () => pillsField({ legend: "Mechanisms", kind: "is-wide",
  choices: { policy: "The policy's own", ...MECHANISMS }, meanings: {
    policy: "As the [[policy]] was trained; without one, the default [[mechanisms]].",
    default: "[[page|Pages]] by [[key copies|4-bit keys]], as each [[kv group|KV group]] needs them; the "
      + "[[mlp|MLP]] skips on both sides. Loses less than the paper's for the same bytes.",
    paper: "As published: [[page|pages]] by [[page bounds|bounds]]; the [[mlp|MLP]] skips at its input.",
  } });

export function stepFields(seedHint) {
  return {
    seed: numberField({ label: "Seed", hint: seedHint }),
    episode_steps: numberField({ label: "Episode length", min: 1,
      hint: "Steps of an [[episode]], after which schedules start again." }),
    quant_site: choiceField({ label: "Quantisation site",
      choices: { mlp_output: "MLP output", mlp_input: "MLP input" },
      hint: "[[quantisation site|Where]] activations are rounded; papers report the output." }),
    grid: mechanismsField(),
  };
}

const ASK_AFTER_MS = 150;
const FORECASTS = { "will break": "broken text, though short answers may hold" };

// The budget of a form: one dial for attention and MLP, or an axis at a time; bits always have their own.
// Python says which mix of attention and MLP meets a share of the bytes after a prompt of this length. Until
// somebody turns the dial, it follows: it stands where the text stays the full model's.
export class BudgetDial {
  /** @type {Estimate | null} */
  estimate = null;
  value = 0; // percent of the bytes; 0: each axis has a budget of its own
  /** It follows the prompt's length; null: where it stands there already. @type {boolean | null} */
  isUsual = false;
  /** The prompt sent with what the dial shows: until it is turned no estimate moves it, and none is said.
   * @type {string | null} */
  sent = null;
  /** Of the axes, by their short names. @type {Record<string, any>} */
  fields = Object.fromEntries(AXES.map((axis) => [axis.short, sliderField({ ...axis, axis: axis.key })]));

  // defaults: the form's; changed(): the form has other values now
  constructor(defaults, ask, changed, follows = true) {
    this.defaults = defaults;
    this.ask = ask;
    this.changed = changed;
    const oninput = () => {
      this.sent = null;
      this.take(this.range.valueAsNumber);
      this.say();
    };
    this.output = h("output", { class: "sol-dial-share" });
    this.slider = labelledRange(glossed("[[compute|Compute]]", true), null, { min: 1, max: 100, oninput },
      this.output);
    this.range = this.slider.range;
    this.note = h("p", { class: "sol-hint" });
    this.promise = h("p", { class: "sol-promise" });
    this.zones = h("div", { class: "sol-zones", "aria-hidden": "true" },
      ["will break", "small changes", "same text"].map((zone) => h("span", {}, zone)));
    const { bits, ...axes } = this.fields;
    Object.values(axes).forEach((field) => field.element.addEventListener("input", () => this.take(0)));
    this.axes = h("details", { class: "sol-axes", ...keptOpen("budgetAxes") },
      h("summary", {}, "Set each axis"), elementsOf(axes), bits.element);
    this.slider.element.append(this.zones, this.promise, this.note);
    this.element = h("div", { class: "sol-dial" }, this.slider.element, this.axes);
    this.field = { get: () => this.value, isUsual: () => this.isUsual,
      set: (value) => this.take(Number(value) || 0, follows && (Number(value) === defaults.share || null)) };
  }

  /** @param {number} value @param {boolean | null} [isUsual] */
  take(value, isUsual = false) {
    this.value = value;
    this.isUsual = isUsual;
  }

  // The form has other values: the dial stands where the share is; the axes unfold where they decide.
  follow(prompt) {
    if (prompt !== this.sent) this.sent = null;
    const isSet = ([name, field]) => field.get() !== this.defaults[name];
    const isOwn = !this.value && Object.entries(this.fields).some(isSet);
    if (isOwn || this.fields.bits.problem()) this.axes.open = true;
    this.say();
    this.turn = {}; // an answer that is on its way is about other values
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), ASK_AFTER_MS);
  }

  async refresh() {
    const answer = await newest(this, this.ask().catch(() => null)); // what is wrong is said when it is sent
    this.estimate = answer?.share ? answer : null;
    if (this.estimate && this.value) this.useMix(this.estimate);
    this.say();
  }

  // A share that cannot be reached after so short a prompt rises to the lowest one.
  /** @param {Estimate} estimate */
  useMix({ lowest = 0, usual = 1, mix }) {
    const least = Math.ceil(100 * lowest);
    this.range.min = String(least);
    const follows = Math.max(least, Math.ceil(100 * usual));
    this.isUsual ??= this.value === follows;
    const value = this.isUsual ? follows : Math.max(least, this.value);
    if (value !== this.value && this.sent === null) {
      this.value = value;
      return this.changed(); // and asks again
    }
    for (const name of ["keep", "channels"]) this.fields[name].set(Math.round(mix[name]));
  }

  /** What the budget does to the text and to the speed, before anything runs. @param {Estimate} estimate */
  showPromise({ zone = "", zones: [same, small] = [1, 1], speed = "", lowest = 0 }) {
    const width = (from, to) => Math.max(0, Math.min(1, to) - Math.max(lowest, from));
    const widths = [width(lowest, small), width(small, same), width(same, 1)];
    [...this.zones.children].forEach((part, at) => {
      part.style.flexGrow = String(100 * widths[at]);
      show(part, widths[at] > 0);
      part.classList.toggle("is-here", part.textContent === zone);
    });
    const expected = FORECASTS[zone] ?? zone;
    setText(this.promise, `Forecast for the first ${ZONE_TOKENS} tokens: ${expected}; ${speed}. `
      + `Such forecasts are right ${ZONES_RIGHT}.`);
  }

  say() {
    const { estimate, value } = this;
    const share = value || (estimate ? Math.round(100 * estimate.share) : 0);
    if (share) this.range.value = String(share);
    this.slider.paint();
    setText(this.output, share ? `${share} %` : "");
    const mix = spendText(AXES.map(({ short }) => this.fields[short].get()));
    show(this.note, Boolean(estimate));
    const promised = value && estimate?.zones ? estimate : null;
    this.range.setAttribute("aria-valuetext", `${share} %: ${promised ? `${promised.zone}; ` : ""}${mix}`);
    show(this.zones, Boolean(promised));
    show(this.promise, Boolean(promised?.speed) && this.sent === null);
    if (!estimate) return;
    if (promised) this.showPromise(promised);
    const measured = estimate.measured_on
      ? ` The mix was chosen by measurements on ${estimate.measured_on}, not on this model.` : "";
    const lowest = value > 100 * (estimate.lowest ?? 0) + 1 ? "" : "Lowest possible here.";
    const { share: usual } = this.defaults;
    const moved = !this.isUsual || value === usual ? ""
      : value > usual ? `Set for this prompt: ${usual} % might change the answer.`
        : "Set for this prompt: it usually gives the full model's answer.";
    setText(this.note, value ? [lowest || moved, measured].join("")
      : `Compute of these three settings: ${percent(estimate.share)}.`);
  }
}
