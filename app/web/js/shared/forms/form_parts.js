// The form's building blocks: native inputs with labels, for keyboards and screen readers.

import {
  chip, errorLine, glossed, h, messageOf, optionsOf, selectOf, setText, showText, uniqueId,
} from "../dom.js";
import { quantity, whenText } from "../format.js";

const CLICK_MS = 300;
const TEXT_FILES = ".txt,.md,.csv,.json,.py,.js,.html,.xml,.tex,.log,text/*";

function hintOf(input, hint) {
  if (!hint) return null;
  const id = uniqueId("hint");
  input.setAttribute("aria-describedby", id);
  return h("p", { class: "sol-hint", id }, glossed(hint));
}

export const elementsOf = (fields) => Object.values(fields).map((field) => field.element);
export const fieldset = (legend, ...parts) =>
  h("fieldset", { class: "sol-fieldset" }, h("legend", {}, legend), parts);
export const folded = (title, ...parts) =>
  h("details", { class: "sol-advanced" }, h("summary", {}, title), parts);

export function labelled(label, hint, input, className = "") {
  input.id = uniqueId("field");
  return h("div", { class: `sol-field ${className}` },
    h("label", { for: input.id }, label), input, hintOf(input, hint));
}

/** @param {FieldWords} words @returns {Field} */
export function toggleField({ label, hint }) {
  const input = h("input", { type: "checkbox", role: "switch", class: "sol-switch", id: uniqueId("field") });
  const element = h("div", { class: "sol-toggle" }, input,
    h("div", {}, h("label", { for: input.id }, label), hintOf(input, hint)));
  return { element, input, get: () => input.checked, set: (value) => { input.checked = value; } };
}

// A number box's limits in words, said under it once a wrong number is entered. problem(): words or null;
// check(isEntered): whether they are said.
function limitsOf(box, { label, unit = "", min, max }) {
  const range = min === undefined ? "a number"
    : max === undefined ? `${min} or more` : `${min} to ${max.toLocaleString("en")}`;
  const words = `${label}: ${range} ${unit}`.trim();
  const line = errorLine();
  const problem = () => {
    const value = box.valueAsNumber;
    return Number.isNaN(value) || value < min || value > max ? words : null;
  };
  const check = (isEntered) => {
    const found = box.value === "" ? null : problem(); // some boxes may be empty: the form knows
    box.setAttribute("aria-invalid", String(Boolean(found)));
    if (isEntered || !found) showText(line, found);
    return Boolean(found);
  };
  box.addEventListener("input", () => check(false));
  // A message moves the parts below it: a button that is being pressed must not move away.
  box.addEventListener("change", () => setTimeout(() => check(true), CLICK_MS));
  return { line, problem, check, box };
}

// A range with its label and what says its value; attributes: of the range. paint(): its track is filled.
export function labelledRange(label, axis, attributes, ...value) {
  const range = h("input", { type: "range", class: "sol-range", id: uniqueId("field"), ...attributes });
  const element = h("div", { class: "sol-slider", "data-axis": axis },
    h("div", { class: "sol-slider-head" }, h("label", { for: range.id }, label), value), range);
  const paint = () => range.style.setProperty("--fill",
    String((range.valueAsNumber - range.min) / (range.max - range.min || 1)));
  return { element, range, paint };
}

/** @param {FieldWords & { min: number, max: number }} words @returns {Field} */
export function sliderField({ label, hint, unit, axis, min, max, step }) {
  const attributes = { min, max, step };
  const number = h("input", { type: "number", ...attributes, class: "sol-number",
    "aria-label": `${label}, value` });
  const { line, ...limits } = limitsOf(number, { label, unit, min, max });
  const { element, range, paint } = labelledRange(label, axis, attributes, number,
    h("span", { class: "sol-unit" }, unit));
  range.addEventListener("input", () => { number.value = range.value; limits.check(true); paint(); });
  number.addEventListener("input", () => { range.value = number.value; paint(); });
  element.append(line, hintOf(range, hint) ?? "");
  return {
    element, input: range, ...limits,
    get: () => number.valueAsNumber,
    set: (value) => { range.value = value; number.value = value; limits.check(true); paint(); },
  };
}

// A slider over given levels. Its value is spoken as the level's text, not as a number.
/** @param {{ label: string, axis?: string, levels: any[], text: (level: any) => string, at: number,
 *   show: (at: number) => void }} options */
export function levelSlider({ label, axis, levels, text, at, show }) {
  const value = h("output", { class: "sol-learn-level" });
  const { element, range: input, paint } = labelledRange(label, axis,
    { min: 0, max: levels.length - 1, value: at, oninput: () => update() }, value);
  const update = () => {
    paint();
    const words = text(levels[input.value]);
    setText(value, words);
    input.setAttribute("aria-valuetext", words);
    show(Number(input.value));
  };
  const set = (wanted) => {
    input.value = wanted;
    update();
  };
  return { element, update, set, get at() { return input.valueAsNumber; } };
}

/** @param {FieldWords} words @returns {Field} */
const inputField = ({ label, hint }, input, className = "") =>
  ({ element: labelled(label, hint, input, className), input,
    get: () => input.value, set: (value) => { input.value = value ?? ""; } });

/** @param {FieldWords} words @returns {Field} */
export function numberField({ min, max, step, ...words }) {
  const input = h("input", { type: "number", min, max, step: step || 1, class: "sol-input" });
  const field = inputField(words, input);
  const { line, ...limits } = limitsOf(input, { ...words, min, max });
  input.after(line);
  return { ...field, ...limits, get: () => input.valueAsNumber,
    set: (value) => { field.set(value); limits.check(false); } };
}

/** @param {FieldWords} words @returns {Field} */
export const textField = ({ value, isRequired, maxLength, ...words }) =>
  inputField(words, h("input", { type: "text", class: "sol-input", value, spellcheck: "false",
    required: isRequired, maxlength: maxLength }));

/** @param {FieldWords & { choices: Record<string, string> }} words @returns {Field} */
export const choiceField = ({ choices, ...words }) => inputField(words, selectOf(Object.entries(choices)));

/** @param {FieldWords} words @returns {Field} */
export const linesField = ({ rows = 2, ...words }) =>
  inputField(words, h("textarea", { class: "sol-input", rows, spellcheck: "false" }), "is-wide");

export function promptField(form, { label, ...attributes }) {
  const input = h("textarea", { class: "sol-input sol-prompt", ...attributes, onkeydown: (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.submit(event);
  } });
  return inputField({ label }, input);
}

export const runOptions = (runs) => optionsOf(runs.length
  ? runs.map((run) => [run.id, `${run.title} · ${run.facts} · ${whenText(run.created_at)}`])
  : [["", "No run is saved yet. Generate something in Explore."]]);

export const exampleChips = (examples, use) =>
  h("div", { class: "sol-examples", role: "group", "aria-label": "Examples" },
    examples.map((example) => chip(example.label, () => use(example), { title: example.prompt })));

// Boxes to tick, or one of them, whose values are a list. choices: "name: note" by value; offer(choices):
// others; isRanked: the list is in the order in which they were ticked, and keeps what is not offered yet.
/** @param {FieldWords & { choices: Record<string, string>, isOne?: boolean, isRanked?: boolean }} words
 * @returns {Field & { offer(choices: Record<string, string>): void }} */
export function checksField({ label, hint, choices, isOne, isRanked }) {
  const [name, type] = [uniqueId("checks"), isOne ? "radio" : "checkbox"];
  const list = h("div", { class: "sol-checks" });
  const element = h("fieldset", { class: "sol-fieldset is-wide" }, h("legend", {}, label), list,
    hint && h("p", { class: "sol-hint" }, glossed(hint)));
  let inputs = [];
  let ranked = [];
  const ticked = () => inputs.filter((box) => box.checked).map((box) => box.value);
  list.addEventListener("change", () => {
    const now = ticked();
    ranked = [...new Set([...ranked.filter((value) => now.includes(value)), ...now])];
  });
  const offer = (offered) => {
    inputs = Object.keys(offered).map((value) => h("input", { type, name, value }));
    list.replaceChildren(...Object.values(offered).map((text, at) => {
      const [choice, note] = text.split(": ");
      return h("label", { class: "sol-check" }, inputs[at],
        h("span", {}, choice, h("small", { class: "sol-muted" }, ` ${note}`)));
    }));
  };
  offer(choices);
  return { element, input: list, offer, get: () => (isRanked ? ranked : ticked()),
    set: (values) => {
      ranked = values;
      inputs.forEach((box) => { box.checked = values.includes(box.value); });
    } };
}

// Radio buttons drawn as pills, the chosen one's meaning below; isSmall: in a line with their legend.
/** @param {{legend: string, choices: Record<string, string>, meanings?: Record<string, string>,
 *   value?: string, changed?: (value: any) => void, isSmall?: boolean, kind?: string}} words
 * @returns {Field & { inputs: Record<string, any> }} */
export function pillsField({ legend, choices, meanings, value, changed, isSmall = false, kind = "" }) {
  const name = uniqueId("pills");
  const inputs = Object.fromEntries(Object.keys(choices).map((choice) =>
    [choice, h("input", { type: "radio", name, value: choice })]));
  const get = () => Object.keys(inputs).find((choice) => inputs[choice].checked);
  const meaning = h("p", { class: "sol-hint", "aria-live": "polite" });
  let told = null;
  const refresh = () => {
    const text = meanings?.[get() ?? ""] ?? "";
    if (text !== told) meaning.replaceChildren(...glossed(told = text));
  };
  const className = `${isSmall ? "sol-axis-choice" : "sol-fieldset"} ${kind}`.trim();
  const element = h("fieldset", { class: className, onchange: refresh }, h("legend", {}, legend),
    h("div", { class: `sol-pills${isSmall ? " is-small" : ""}` }, Object.keys(choices).map((choice) =>
      h("label", { class: "sol-pill" }, inputs[choice], h("span", {}, choices[choice])))),
    meanings && meaning);
  if (changed) element.addEventListener("change", () => changed(get()));
  const set = (wanted) => { if (inputs[wanted]) inputs[wanted].checked = true; refresh(); };
  if (value !== undefined) set(value);
  return { element, inputs, get, set };
}

// A button that asks for a file and rests until `take`, which reports its own failures, is done.
export function filePicker(label, accept, take, spoken = label) {
  const input = h("input", { type: "file", hidden: true, accept, "aria-label": spoken, onchange: async () => {
    const [file] = input.files;
    if (!file) return;
    button.disabled = true;
    await take(file);
    button.disabled = false;
    input.value = "";
  } });
  const button = chip(label, () => input.click());
  return h("span", { class: "sol-file-picker" }, button, input);
}

export function takeDrops(box, take) {
  box.addEventListener("dragover", (event) => event.preventDefault());
  box.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer?.files ?? [];
    if (!file) return;
    event.preventDefault();
    take(file);
  });
}

// A picker of a text file for a form; one may also be dropped on `box`. use(text) takes what is in it.
export function textFilePicker(form, box, maxCharacters, use) {
  const take = async (file) => {
    form.fail(null);
    try {
      use(await textOf(file, maxCharacters));
    } catch (error) {
      form.fail(messageOf(error));
    }
  };
  takeDrops(box, take);
  return filePicker("Choose a file…", TEXT_FILES, take);
}

// Throws an error with a message for the form. A character of UTF-8 takes at most 4 bytes.
async function textOf(file, maxCharacters) {
  const most = 4 * maxCharacters;
  if (file.size > most) throw new Error(`${file.name} is larger than ${quantity(most, "B")}.`);
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    if (!text.includes("\0")) return text;
  } catch {
    // The same to the reader as a file with a zero byte.
  }
  throw new Error(`${file.name} is not UTF-8 text.`);
}
