// Forms: a busy one is not sent again, and a refusal of Python's is said in it.

import { attempt } from "../api.js";
import { button, errorLine, h, show, showText } from "../dom.js";

export class Fields {
  /** @type {Record<string, Pick<Field, "get" | "set" | "problem" | "box">>} */
  fields;
  /** Last right values of the fields. */
  right = {};

  // Without a number in its box a field's value is null.
  values() {
    return Object.fromEntries(Object.entries(this.fields).map(([name, one]) => {
      const value = one.get();
      return [name, Number.isNaN(value) ? null : value];
    }));
  }

  // Values for the browser to keep: of a field that holds a wrong one its last right one.
  kept() {
    for (const [name, value] of Object.entries(this.values())) {
      if (!this.fields[name].problem?.()) this.right[name] = value;
    }
    return { ...this.right };
  }

  // A field that has neither a value nor a default stays as it is.
  setValues(values, defaults = {}) {
    for (const [name, one] of Object.entries(this.fields)) {
      const value = values[name] ?? defaults[name] ?? values[name];
      if (value !== undefined) one.set(value);
    }
  }
}

export class Form extends Fields {
  /** @type {HTMLElement} */
  element;
  /** The button that sends it. @type {HTMLButtonElement} */
  go;
  error = errorLine();

  send() {}

  changed() {}

  lay(...parts) {
    const changed = (event) => {
      // Said of what was there before; a picker of files says itself what is wrong with one.
      if (event.target.type !== "file") this.fail(null);
      this.changed();
    };
    return h("form", { class: "sol-panel sol-controls", novalidate: true, autocomplete: "off",
      onsubmit: (event) => this.submit(event), oninput: changed, onchange: changed }, parts);
  }

  makeGo(text, attributes = {}) {
    return h("button", { type: "submit", class: "sol-button is-primary", ...attributes }, text);
  }

  submit(event) {
    event.preventDefault();
    if (this.go.disabled) return;
    this.fail(null);
    const wrong = this.wrong();
    if (!wrong) return this.send();
    this.fail(wrong.problem());
    for (let at = wrong.box.closest("details"); at; at = at.parentElement?.closest("details")) at.open = true;
    wrong.box.focus();
  }

  /** What keeps the form from being sent, if anything: the first field that is asked and holds a wrong number.
   * @returns {any} */
  wrong() {
    return Object.values(this.fields).find((field) => field.problem?.() && !field.box?.matches(":disabled"));
  }

  fail(message) {
    showText(this.error, message);
  }
}

export class RunForm extends Form {
  /** @type {{stop(): void}} */
  on;
  stopButton = button("Stop", () => this.on.stop(), { disabled: true });

  actions(text, attributes) {
    this.go = this.makeGo(text, attributes);
    return [h("div", { class: "sol-actions" }, this.go, this.stopButton), this.error];
  }

  setBusy(busy) {
    this.go.disabled = busy;
    this.stopButton.disabled = !busy;
  }
}

// A question with two answers. A refusal of Python's is said inside, and the dialog stays.
class Dialog extends Fields {
  error = errorLine();

  constructor(words, answer) {
    super();
    this.answer = answer;
    this.fields = words.fields ?? {};
    this.yes = h("button", { class: `sol-button ${words.isDanger ? "is-danger" : "is-primary"}` }, words.yes);
    const no = button(words.no ?? "Cancel", () => this.element.close(), { autofocus: words.isDanger });
    this.element = h("dialog", { class: "sol-dialog", "aria-label": words.title, onclose: () => this.element.remove() },
      h("p", {}, h("strong", {}, words.title)), words.text && h("p", {}, words.text),
      h("form", { onsubmit: (event) => this.submit(event) }, Object.values(words.fields ?? {}).map((one) => one.element),
        this.error, h("div", { class: "sol-actions" }, no, this.yes)));
  }

  async submit(event) {
    event.preventDefault();
    this.yes.disabled = true;
    show(this.error, false);
    await attempt(async () => {
      await this.answer(this.values());
      this.element.close();
    }, (words) => showText(this.error, words));
    this.yes.disabled = false;
  }
}

// words: {title, text, yes, no, isDanger, fields: {name: field}}; answer(values) does it.
export function ask(place, words, answer) {
  const dialog = new Dialog(words, answer);
  place.append(dialog.element);
  dialog.element.showModal();
}

export const askToDelete = (place, title, text, remove) =>
  ask(place, { title, text, yes: "Delete", isDanger: true }, remove);
