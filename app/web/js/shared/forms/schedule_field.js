// Fields for a step's compute: schedule, as a kind or "policy:NAME", budget and mechanisms.

import { attempt } from "../api.js";
import { optionsOf, selectOf, show, SITE } from "../dom.js";
import { AXES, MECHANISMS } from "../format.js";
import { choiceField, numberField, pillsField, sliderField } from "./form_parts.js";

export const POLICY_PREFIX = "policy:";
const MEANINGS = {
  policy: "A trained [[policy]] decides, step by step. Where it has no measured advantage, the static "
    + "schedule is used.",
  dense: "[[dense|Every step]] spends everything: the unchanged model.",
  static: "[[static|Every step]] gets the same [[mix]], or two in turn.",
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

export const budgetFields = () =>
  Object.fromEntries(AXES.map(({ short, label, unit, key, min, max, step, hint }) =>
    [short, sliderField({ label, unit, axis: key, min, max, step, hint })]));

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
