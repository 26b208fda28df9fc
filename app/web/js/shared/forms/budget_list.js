// Budgets as people type them, "0.3,0.45,6; 0.5,0.6,8", and as sliders: a chip for each budget, and sliders for
// the one that is chosen. The text is what counts; the sliders write into it.

import { chip, h, show } from "../dom.js";
import { AXES } from "../format.js";
import { linesField, sliderField } from "./form_parts.js";

/** Budgets of a text, in the order of the axes; null where a part is none. @param {string} text @returns {number[][] | null} */
function parseBudgets(text) {
  const parts = text.split(/[;\n]/).map((part) => part.trim()).filter(Boolean);
  const budgets = parts.map((part) => part.split(",").map((one) => (one.trim() ? Number(one) : NaN)));
  const isBudget = (one) => one.length === AXES.length && one.every(Number.isFinite);
  return budgets.every(isBudget) ? budgets : null;
}

const textOf = (budgets) => budgets.map((one) => one.map((value) => +value.toFixed(4)).join(",")).join("; ");

/** @param {FieldWords} words @returns {Field} */
export function budgetsField(words) {
  const field = linesField(words);
  const chips = h("div", { class: "sol-budgets", role: "group", "aria-label": "Set by sliders" });
  const sliders = AXES.map(({ title, unit, key, min, max, step }) =>
    sliderField({ label: `${title}, this budget`, hint: "", unit, axis: key, min, max, step }));
  const panel = h("div", { class: "sol-budget-sliders", hidden: true }, sliders.map((one) => one.element));
  let chosen = null;

  const write = (budgets) => {
    field.set(textOf(budgets));
    // As if it had been typed: the form hears of it, and remembers.
    field.input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const choose = (at) => {
    chosen = at;
    draw();
  };
  const draw = () => {
    const budgets = parseBudgets(field.get());
    if (!budgets || !budgets[chosen]) chosen = null;
    show(chips, budgets !== null);
    show(panel, chosen !== null);
    if (!budgets) return;
    const focused = [...chips.children].indexOf(document.activeElement);
    chips.replaceChildren(
      ...budgets.map((one, at) => chip(AXES.map((axis, place) => `${+(axis.scale * one[place]).toFixed(2)}`).join(" · "),
        () => choose(at === chosen ? null : at), { "aria-pressed": String(at === chosen),
          "aria-label": AXES.map((axis, place) => `${axis.name} ${axis.show(one[place])}`).join(", ") })),
      chip("+", () => { write([...budgets, budgets.at(-1) ?? AXES.map((axis) => axis.usual)]); choose(budgets.length); }, { "aria-label": "Another budget" }),
      ...(chosen === null ? [] : [chip("Remove", () => { write(budgets.filter((_, at) => at !== chosen)); choose(null); })]));
    if (focused >= 0) /** @type {HTMLElement} */ (chips.children[Math.min(focused, chips.children.length - 1)])?.focus();
    if (chosen !== null) sliders.forEach((one, at) => one.set(AXES[at].scale * budgets[chosen][at]));
  };
  panel.addEventListener("input", (event) => {
    event.stopPropagation(); // what counts is the text, which is written next
    const budgets = parseBudgets(field.get());
    const values = sliders.map((one, at) => one.get() / AXES[at].scale);
    if (budgets && values.every(Number.isFinite)) write(budgets.map((one, at) => (at === chosen ? values : one)));
  });
  field.input.addEventListener("input", draw);
  field.element.append(chips, panel);
  return { ...field, set: (value) => { field.set(value); draw(); } };
}
