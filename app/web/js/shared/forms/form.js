// Forms: a busy one is not sent again, and a refusal of Python's is said in it.

import { attempt } from "../api.js";
import { button, errorLine, h, show, showText } from "../dom.js";
import { elementsOf } from "./form_parts.js";

export class Form {
  /** @type {HTMLElement} */
  element;
  /** The button that sends it. @type {HTMLButtonElement} */
  go;
  error = errorLine();
  fail = (words) => showText(this.error, words);
  /** @type {Record<string, Pick<Field, "get" | "set" | "problem" | "box" | "isUsual">>} */
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

  // Values for the browser to keep: of a field with a wrong one its last right one, of a usual one none.
  kept() {
    for (const [name, value] of Object.entries(this.values())) {
      const { problem, isUsual } = this.fields[name];
      if (!problem?.()) this.right[name] = isUsual?.() ? undefined : value;
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
    if (!wrong.check(true)) this.fail(wrong.problem());
    for (let at = wrong.box.closest("details"); at; at = at.parentElement?.closest("details")) at.open = true;
    wrong.box.focus();
  }

  /** What keeps the form from being sent, if anything: the first asked field that holds a wrong number.
   * @returns {any} */
  wrong() {
    return Object.values(this.fields).find((field) => field.problem?.() && !field.box?.matches(":disabled"));
  }
}

export class RunForm extends Form {
  /** @type {{stop(): void}} */
  on;
  goTitle = "";
  stopButton = button("Stop", () => this.on.stop(), { disabled: true });

  actions(text, attributes) {
    this.go = this.makeGo(text, attributes);
    this.goTitle = this.go.title;
    return [h("div", { class: "sol-actions" }, this.go, this.stopButton), this.error];
  }

  // Of both buttons one works, which takes the other's focus.
  setBusy(busy) {
    const [on, off] = busy ? [this.stopButton, this.go] : [this.go, this.stopButton];
    const hadFocus = document.activeElement === off;
    this.go.title = busy ? "One run at a time: stop it, or wait for its end" : this.goTitle;
    on.disabled = false;
    if (hadFocus) on.focus({ preventScroll: true });
    off.disabled = true;
  }
}

// A question with two answers. answer(values) does it; a refusal of Python's is said inside.
export function ask(place, { title, text = "", yes, no = "Cancel", isDanger = false, fields = {} }, answer) {
  const error = errorLine();
  const go = h("button", { class: `sol-button ${isDanger ? "is-danger" : "is-primary"}` }, yes);
  const submit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    show(error, false);
    await attempt(async () => {
      await answer(Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.get()])));
      dialog.close();
    }, (words) => showText(error, words));
    go.disabled = false;
  };
  const dialog = h("dialog", { class: "sol-dialog", "aria-label": title, onclose: () => dialog.remove() },
    h("p", {}, h("strong", {}, title)), text ? h("p", {}, text) : null,
    h("form", { onsubmit: submit }, elementsOf(fields), error,
      h("div", { class: "sol-actions" }, button(no, () => dialog.close(), { autofocus: isDanger }), go)));
  place.append(dialog);
  dialog.showModal();
}

export const askToDelete = (place, title, text, remove) =>
  ask(place, { title, text, yes: "Delete", isDanger: true }, remove);
