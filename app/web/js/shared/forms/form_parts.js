// The form's building blocks: native inputs with labels, so that keyboards and screen readers
// work as everywhere. Each returns {element, get, set, input}.

import { h, uniqueId } from "../dom.js";
import { glossed } from "../glossary.js";

export function labelled(label, hint, input, className = "") {
  input.id = uniqueId("field");
  const hintId = hint ? uniqueId("hint") : null;
  if (hintId) input.setAttribute("aria-describedby", hintId);
  return h("div", { class: `sol-field ${className}` },
    h("label", { for: input.id }, label), input,
    hint && h("p", { class: "sol-hint", id: hintId }, glossed(hint)));
}

/** @param {FieldWords} words @returns {Field} */
export function toggleField({ label, hint }) {
  const input = h("input", { type: "checkbox", role: "switch", class: "sol-switch" });
  input.id = uniqueId("field");
  const hintId = uniqueId("hint");
  if (hint) input.setAttribute("aria-describedby", hintId);
  const element = h("div", { class: "sol-toggle" }, input,
    h("div", {}, h("label", { for: input.id }, label),
      hint && h("p", { class: "sol-hint", id: hintId }, glossed(hint))));
  return { element, input, get: () => input.checked, set: (value) => { input.checked = value; } };
}

// A slider and a number box that follow each other.
/** @param {FieldWords} words @returns {Field} */
export function sliderField({ label, hint, unit, axis, min, max, step }) {
  const attributes = { min, max, step };
  const range = h("input", { type: "range", ...attributes, class: "sol-range" });
  const number = h("input", { type: "number", ...attributes, class: "sol-number",
    "aria-label": `${label}, value` });
  range.id = uniqueId("field");
  const hintId = uniqueId("hint");
  range.setAttribute("aria-describedby", hintId);
  const paint = () => range.style.setProperty("--fill", (range.value - min) / (max - min));
  range.addEventListener("input", () => { number.value = range.value; paint(); });
  number.addEventListener("input", () => { range.value = number.value; paint(); });
  const element = h("div", { class: "sol-slider", "data-axis": axis },
    h("div", { class: "sol-slider-head" },
      h("label", { for: range.id }, label), number, h("span", { class: "sol-unit" }, unit)),
    range, h("p", { class: "sol-hint", id: hintId }, glossed(hint)));
  return {
    element, input: range,
    get: () => number.valueAsNumber,
    set: (value) => { range.value = value; number.value = value; paint(); },
  };
}

/** @param {FieldWords} words @returns {Field} */
export function numberField({ label, hint, min, max, step }) {
  const input = h("input", { type: "number", min, max, step: step || 1, class: "sol-input" });
  return {
    element: labelled(label, hint, input), input,
    get: () => input.valueAsNumber, set: (value) => { input.value = value; },
  };
}

/** @param {FieldWords} words @returns {Field} */
export function choiceField({ label, hint, choices }) {
  const input = h("select", { class: "sol-input" },
    Object.entries(choices).map(([value, text]) => h("option", { value }, text)));
  return {
    element: labelled(label, hint, input), input,
    get: () => input.value, set: (value) => { input.value = value; },
  };
}

/** @param {FieldWords} words @returns {Field} */
export function linesField({ label, hint }) {
  const input = h("textarea", { class: "sol-input", rows: 2, spellcheck: "false" });
  return {
    element: labelled(label, hint, input, "is-wide"), input,
    get: () => input.value, set: (value) => { input.value = value; },
  };
}

// Radio buttons drawn as pills; the chosen one's meaning is written below.
/** @param {{legend: string, choices: Record<string, string>, meanings?: Record<string, string>}} words @returns {Field} */
export function pillsField({ legend, choices, meanings }) {
  const name = uniqueId("pills");
  const inputs = {};
  const meaning = h("p", { class: "sol-hint", "aria-live": "polite" });
  const pills = Object.entries(choices).map(([value, text]) => {
    inputs[value] = h("input", { type: "radio", name, value });
    return h("label", { class: "sol-pill" }, inputs[value], h("span", {}, text));
  });
  const element = h("fieldset", { class: "sol-fieldset" }, h("legend", {}, legend),
    h("div", { class: "sol-pills" }, pills), meanings && meaning);
  const get = () => Object.keys(inputs).find((value) => inputs[value].checked);
  let told = null;
  const refresh = () => {
    const text = meanings?.[get()] || "";
    if (text !== told) meaning.replaceChildren(...glossed(told = text));
  };
  element.addEventListener("change", refresh);
  return {
    element, get,
    set: (value) => { if (inputs[value]) inputs[value].checked = true; refresh(); },
  };
}
